//! What an admitted request carries until the last byte of its answer is written.

use std::sync::Arc;

use super::keys::Scope;
use super::limit::Usage;
use crate::serve::caller::Caller;

/// A place among the requests that a key may have at once, until dropped.
pub struct Pass {
    key: Option<(Caller, Arc<Usage>)>,
    ticket: Ticket,
}

/// What a stream is judged by again, message by message: the digest of its token, and what it is
/// for.
#[derive(Clone, Copy, Default)]
pub struct Ticket(pub(super) Option<([u8; 32], Scope)>);

impl Pass {
    /// Where no keys are asked for.
    pub(super) fn of_nobody() -> Self {
        Self { key: None, ticket: Ticket(None) }
    }

    pub(super) fn new(caller: Caller, usage: Arc<Usage>, ticket: Ticket) -> Self {
        Self { key: Some((caller, usage)), ticket }
    }

    /// Whose it is, where keys are asked for.
    pub fn caller(&self) -> Option<&Caller> {
        self.key.as_ref().map(|(caller, _)| caller)
    }

    pub fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((_, usage)) = &self.key {
            usage.leave();
        }
    }
}
