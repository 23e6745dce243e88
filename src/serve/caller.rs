//! Who a request is from, for those who share something out: a key's holder, or where no keys are
//! asked for, an address.
//!
//! The middleware runs a request, and the writing of its answer, under its caller, as a log line
//! stands under its span; code that lends memory, or gives turns, asks [`Caller::current`].

use std::net::IpAddr;
use std::sync::Arc;

use restain_request::Priority;

tokio::task_local! {
    static CALLER: Caller;
}

/// Who a request is from, and what its key allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub name: CallerName,
    /// Tiles in flight at once, for all requests of this caller together.
    pub most_tiles: Option<usize>,
    /// The highest priority that its tiles are given.
    pub highest: Priority,
}

/// What distinguishes callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallerName {
    /// The server itself, and work that belongs to no request.
    #[default]
    Server,
    /// The holder of a key.
    Key(Arc<str>),
    /// An address; of IPv6 the first 64 bits, of which one host has as many addresses as it likes.
    Address(IpAddr),
}

impl Caller {
    /// Of an address, where no keys are asked for.
    pub(crate) fn at(address: IpAddr) -> Self {
        let name = match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                CallerName::Address(IpAddr::V6(network.into()))
            }
            address => CallerName::Address(address),
        };
        Self { name, ..Self::default() }
    }

    /// The caller that this code runs for.
    pub fn current() -> Self {
        CALLER.try_with(Self::clone).unwrap_or_default()
    }

    /// Runs a future for this caller.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CALLER.scope(self, work)
    }

    /// Runs code for this caller.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        CALLER.sync_scope(self.clone(), work)
    }

    /// The priority that is given to this caller's tiles when it asks for `asked`.
    pub(crate) fn allowed(&self, asked: Priority) -> Priority {
        if self.highest == Priority::Bulk { Priority::Bulk } else { asked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_caller_however_it_is_written() {
        let at = |address: &str| Caller::at(address.parse().unwrap());
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::2:3:4:5"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
    }

    #[test]
    fn code_runs_for_the_caller_of_its_scope_and_for_nobody_outside() {
        let caller = Caller::at([10, 0, 0, 1].into());
        assert_eq!(caller.run(Caller::current), caller);
        assert_eq!(Caller::current(), Caller::default());
    }

    #[test]
    fn a_key_for_bulk_has_no_other_priority() {
        let bulk = Caller { highest: Priority::Bulk, ..Caller::default() };
        assert_eq!(bulk.allowed(Priority::Interactive), Priority::Bulk);
        assert_eq!(Caller::default().allowed(Priority::Bulk), Priority::Bulk);
        assert_eq!(Caller::default().allowed(Priority::Interactive), Priority::Interactive);
    }
}
