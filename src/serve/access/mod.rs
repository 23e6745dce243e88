//! Authentication and authorisation: bearer keys with scopes, and for each key a rate limit and a
//! concurrency limit. The frame of every request asks here before it reads the body.
//!
//! It knows nothing of routes, which declare their [`Scope`], and nothing of tiles: `admission`
//! limits what the server as a whole takes on.

mod keys;
mod limit;
mod pass;
mod token;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keys::Keys;
pub use keys::{Key, Scope};
pub use limit::Standing;
use limit::Usage;
pub use pass::{Pass, Ticket};
pub use token::token;

use super::error::{Error, ErrorKind};
use super::metrics::Metrics;
use crate::serve::runtime::reload::{Reread, RereadError};

/// When a message of a stream asks again, whose key has as many requests under way as it may have.
const SOON: Duration = Duration::from_millis(50);

pub struct Access {
    /// Without keys everyone may do everything.
    keys: Option<Arc<Reread<Keys>>>,
    /// By name of the key; kept when the file changes.
    usage: Mutex<HashMap<Arc<str>, Arc<Usage>>>,
    metrics: Arc<Metrics>,
}

/// The decision about a request.
pub struct Verdict {
    pub pass: Result<Pass, Error>,
    /// For keys with a rate.
    pub standing: Option<Standing>,
}

impl Access {
    /// # Errors
    /// When the file cannot be read, or holds no usable keys.
    pub fn open(file: Option<&Path>, metrics: Arc<Metrics>) -> Result<Self, RereadError> {
        let open = |file: &Path| {
            Reread::open(vec![file.to_owned()], metrics.rereading("keys"), |files| {
                Keys::parse(&files[0])
            })
        };
        let keys = file.map(open).transpose()?;
        Ok(Self { keys, usage: Mutex::default(), metrics })
    }

    /// Reads the file of keys again when it changes; ends at once where there is none.
    pub fn watch(&self) -> impl Future<Output = ()> + use<> {
        let keys = self.keys.clone();
        async move {
            if let Some(keys) = keys {
                keys.watch().await;
            }
        }
    }

    /// Whether `authorization` holds a known key; true when the server has no keys.
    pub fn knows(&self, authorization: Option<&[u8]>) -> bool {
        let Some(keys) = &self.keys else { return true };
        authorization.and_then(bearer).is_some_and(|token| keys.current().find(token).is_some())
    }

    /// Admits one more message of a stream, by its key as it is now: the key may be gone from the
    /// file, or have no request left, or as many under way as it may have. Returns the message's
    /// place among these; `has_place` says that the call's own is free, which will do.
    ///
    /// # Errors
    /// `unauthenticated`, when the key is gone or lacks the scope; `rate_limited`, with the time
    /// after which to ask again.
    pub fn judge_again(&self, ticket: &Ticket, has_place: bool) -> Result<Option<Pass>, Error> {
        let (Some(keys), Some((digest, scope))) = (&self.keys, ticket.0) else { return Ok(None) };
        let keys = keys.current();
        let key = keys.of(&digest).filter(|key| key.scopes.contains(&scope));
        let key = key.ok_or_else(|| {
            unauthenticated(
                "the key that this stream began with was removed, or no longer has the scope",
            )
        })?;
        let usage = self.usage(&key.name, &keys);
        if !has_place && !usage.enter(key.concurrency) {
            return Err(Error::new(ErrorKind::RateLimited, too_many(key)).retry_after(SOON));
        }
        let pass = (!has_place).then(|| Pass::new(key.caller(), Arc::clone(&usage), *ticket));
        match usage.take(key, Instant::now()) {
            Some((false, standing)) => {
                Err(Error::new(ErrorKind::RateLimited, too_fast(key, standing))
                    .retry_after(standing.next))
            }
            _ => Ok(pass),
        }
    }

    /// Admits a request that carries this `authorization`, or returns why not.
    pub fn judge(&self, authorization: Option<&[u8]>, scope: Scope) -> Verdict {
        let Some(keys) = &self.keys else {
            return Verdict { pass: Ok(Pass::of_nobody()), standing: None };
        };
        let refused = |name: &str, error: Error, standing| {
            self.metrics.key_asked(name, error.kind.row().code);
            Verdict { pass: Err(error), standing }
        };
        let token = match authorization.map(bearer) {
            Some(Some(token)) => token,
            Some(None) => {
                return refused(
                    "",
                    unauthenticated("`authorization` is not of the form `Bearer TOKEN`"),
                    None,
                );
            }
            None => {
                return refused(
                    "",
                    unauthenticated("this server needs a key: send `authorization: Bearer TOKEN`"),
                    None,
                );
            }
        };
        let keys = keys.current();
        let Some(key) = keys.find(token) else {
            return refused(
                "",
                unauthenticated("the token in `authorization` belongs to no key of this server"),
                None,
            );
        };
        let usage = self.usage(&key.name, &keys);
        let taken = usage.take(key, Instant::now());
        let standing = taken.map(|(_, standing)| standing);
        if !key.scopes.contains(&scope) {
            let has: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
            let detail = format!(
                "this needs the scope `{}`, and the key {} has `{}`",
                scope.name(),
                key.name,
                has.join("`, `")
            );
            return refused(&key.name, Error::new(ErrorKind::Forbidden, detail), standing);
        }
        if let Some((false, standing)) = taken {
            return refused(
                &key.name,
                self.limited(too_fast(key, standing), standing.next),
                Some(standing),
            );
        }
        if !usage.enter(key.concurrency) {
            let limited = self.limited(too_many(key), Duration::from_secs(1));
            return refused(&key.name, limited, standing);
        }
        self.metrics.key_asked(&key.name, "let_in");
        Verdict {
            pass: Ok(Pass::new(key.caller(), usage, Ticket(Some((keys::digest(token), scope))))),
            standing,
        }
    }

    fn limited(&self, detail: String, wait: Duration) -> Error {
        self.metrics.rejected(ErrorKind::RateLimited);
        // The header counts whole seconds, and none would mean at once.
        Error::new(ErrorKind::RateLimited, detail)
            .retry_after(Duration::from_secs(wait.as_secs_f64().ceil().max(1.0) as u64))
    }

    fn usage(&self, name: &Arc<str>, keys: &Keys) -> Arc<Usage> {
        let mut usage = self.usage.lock().expect("no code panics while it holds this lock");
        if usage.len() > 2 * keys::MAX_KEYS {
            usage.retain(|name, _| keys.has(name));
        }
        Arc::clone(usage.entry(Arc::clone(name)).or_default())
    }
}

fn too_many(key: &Key) -> String {
    let most = key.concurrency.unwrap_or_default();
    format!("the key {} has {most} requests in flight, which is its limit", key.name)
}

fn too_fast(key: &Key, standing: Standing) -> String {
    let rate = key.requests_per_second.unwrap_or_default();
    format!(
        "the key {} is limited to {rate} requests a second and {} at once: the next one in {:.3} s",
        key.name,
        standing.burst,
        standing.next.as_secs_f64()
    )
}

fn unauthenticated(detail: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, detail)
}

/// RFC 6750, section 2.1; the name of the scheme is case-insensitive (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(keys: &[Key]) -> (Access, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.toml");
        std::fs::write(&file, keys.iter().map(Key::to_toml).collect::<String>()).unwrap();
        (Access::open(Some(&file), Arc::new(Metrics::new().unwrap())).unwrap(), dir)
    }

    fn kind(verdict: &Verdict) -> Option<ErrorKind> {
        verdict.pass.as_ref().err().map(|error| error.kind)
    }

    #[test]
    fn messages_of_a_stream_count_as_requests_do_and_the_call_is_one_of_them() {
        let key = Key { concurrency: Some(2), ..Key::new("a", "t", [Scope::Augment]) };
        let (access, _dir) = access(&[key]);
        let call = access.judge(Some(b"Bearer t"), Scope::Augment).pass.unwrap();
        let ticket = call.ticket();
        // The first message has the call's place, however often that is free again.
        assert!(access.judge_again(&ticket, true).unwrap().is_none());
        let second = access.judge_again(&ticket, false).unwrap();
        let third = access.judge_again(&ticket, false).err().unwrap();
        assert_eq!((third.kind, third.retry_after.is_some()), (ErrorKind::RateLimited, true));
        let beside = access.judge(Some(b"Bearer t"), Scope::Augment);
        assert_eq!(kind(&beside), Some(ErrorKind::RateLimited));
        drop(second);
        assert!(access.judge_again(&ticket, false).unwrap().is_some());
    }

    #[test]
    fn a_key_opens_what_it_is_for() {
        let (access, _dir) = access(&[Key::new("a", "token", [Scope::Augment])]);
        let ask =
            |header: Option<&str>, scope| kind(&access.judge(header.map(str::as_bytes), scope));
        assert_eq!(ask(Some("Bearer token"), Scope::Augment), None);
        assert_eq!(ask(Some("bearer  token "), Scope::Augment), None);
        assert_eq!(ask(Some("Bearer token"), Scope::Metrics), Some(ErrorKind::Forbidden));
        for header in [
            None,
            Some("Bearer tokem"),
            Some("Bearer "),
            Some("Bearer"),
            Some("Basic token"),
            Some("token"),
            Some(""),
        ] {
            assert_eq!(ask(header, Scope::Augment), Some(ErrorKind::Unauthenticated), "{header:?}");
        }
    }

    #[test]
    fn a_pass_counts_until_it_is_dropped() {
        let (access, _dir) = access(&[
            Key { concurrency: Some(1), ..Key::new("a", "t", [Scope::Augment]) },
            Key::new("b", "u", [Scope::Augment]),
        ]);
        let first = access.judge(Some(b"Bearer t"), Scope::Augment);
        assert_eq!(
            kind(&access.judge(Some(b"Bearer t"), Scope::Augment)),
            Some(ErrorKind::RateLimited)
        );
        assert_eq!(kind(&access.judge(Some(b"Bearer u"), Scope::Augment)), None);
        drop(first);
        assert_eq!(kind(&access.judge(Some(b"Bearer t"), Scope::Augment)), None);
    }

    #[test]
    fn an_error_tells_no_token() {
        let (access, _dir) = access(&[Key::new("a", "token", [Scope::Augment])]);
        for header in ["Bearer rst_secret", "Basic rst_secret", "Bearer token"] {
            let said = access
                .judge(Some(header.as_bytes()), Scope::Models)
                .pass
                .err()
                .unwrap()
                .to_string();
            assert!(!said.contains("secret") && !said.contains("token`"), "{said}");
        }
    }
}
