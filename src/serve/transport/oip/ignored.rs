//! Fields and parameters of a request that this server does not know: they are ignored, and one
//! line of the log, at level debug, lists them. What the protocol's extensions would have them
//! change in the answer is rejected instead.

use serde::de::DeserializeOwned;

use crate::serve::error::Error;
use crate::serve::transport::json;
use crate::serve::transport::read_body::{malformed, object};

/// Most names that are kept, and most bytes of one: callers make them up.
const MOST_NAMES: usize = 16;
const MOST_BYTES: usize = 80;

/// Parameters of tensors that would change what is read or answered, by how they begin.
const OF_EXTENSIONS: [&str; 2] = ["shared_memory_", "classification"];

/// What was ignored of a request, by path.
#[derive(Debug, Default)]
pub(crate) struct Ignored {
    names: Vec<String>,
    more: usize,
}

impl Ignored {
    /// Reads an object of JSON; `what` it is stands in the error.
    ///
    /// # Errors
    /// `malformed_request`, with the field at fault.
    pub(super) fn read_object<T: DeserializeOwned>(
        &mut self,
        what: &str,
        json: &[u8],
    ) -> Result<T, Error> {
        object(json)
            .map_err(|found| malformed(format!("{what} is {found}, and must be an object")))?;
        let wrong = |error: serde_json::Error| json::wrong::<T>(what, json, &error);
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let ignored = |path: serde_ignored::Path<'_>| self.add(&path);
        let read = serde_ignored::deserialize(&mut deserializer, ignored).map_err(wrong)?;
        deserializer.end().map_err(wrong)?;
        Ok(read)
    }

    /// Ignores a parameter of a tensor, `what` being its kind.
    ///
    /// # Errors
    /// `malformed_request`, where ignoring it would change the answer.
    pub(super) fn parameter(
        &mut self,
        what: &str,
        tensor: &str,
        parameter: &str,
    ) -> Result<(), Error> {
        if OF_EXTENSIONS.iter().any(|start| parameter.starts_with(start)) {
            return Err(malformed(format!(
                "the {what} {tensor} has a parameter `{parameter}`, which is not served here"
            )));
        }
        self.add(&format_args!("{tensor}.parameters.{parameter}"));
        Ok(())
    }

    pub(super) fn add(&mut self, path: &dyn std::fmt::Display) {
        if self.names.len() == MOST_NAMES {
            self.more += 1;
            return;
        }
        let mut path = path.to_string();
        path.truncate(path.floor_char_boundary(MOST_BYTES));
        self.names.push(path);
    }

    /// Writes the line of the log, where anything was ignored.
    pub(super) fn log(&self) {
        if !self.names.is_empty() {
            let (names, more) = (self.names.join(", "), self.more);
            tracing::debug!(names, more, "fields and parameters that are not known are ignored");
        }
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_does_not_grow_with_what_was_ignored() {
        let mut ignored = Ignored::default();
        (0..1000).for_each(|_| ignored.add(&"ä".repeat(1000)));
        assert_eq!((ignored.names.len(), ignored.more), (MOST_NAMES, 1000 - MOST_NAMES));
        assert!(ignored.names.iter().all(|name| name.len() <= MOST_BYTES));
    }

    #[test]
    fn what_would_change_the_answer_is_rejected() {
        for name in ["shared_memory_region", "shared_memory_byte_size", "classification"] {
            let error = Ignored::default().parameter("input", "TILES", name).unwrap_err();
            assert!(error.detail.contains(&format!("`{name}`")), "{error}");
        }
        assert!(Ignored::default().parameter("input", "TILES", "content_type").is_ok());
    }
}
