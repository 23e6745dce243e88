//! An error as a gRPC status. Number and code come from the one table; the rest stands in the
//! standard details of google.rpc, where every client library looks for it.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::serve::error::Error;

/// Whose codes the reasons are.
const DOMAIN: &str = "restain";

/// With an ErrorInfo (reason: the code; metadata: list, index, indices) and, where it helps to come
/// back, a RetryInfo.
pub(crate) fn status(error: Error) -> Status {
    let row = error.kind.row();
    let mut metadata = HashMap::new();
    if let Some(fault) = error.at {
        metadata.insert("list".to_owned(), fault.list.to_owned());
        metadata.insert("index".to_owned(), fault.index.to_string());
    }
    if !error.indices.is_empty() {
        let indices: Vec<String> = error.indices.iter().map(usize::to_string).collect();
        metadata.insert("indices".to_owned(), indices.join(","));
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(row.code, DOMAIN, metadata);
    if let Some(wait) = error.retry_after {
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(Code::from_i32(row.grpc_code), error.detail, details)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::serve::error::ErrorKind;

    #[test]
    fn a_status_says_what_a_problem_says() {
        let error = Error::new(ErrorKind::TileNotHeld, "two keys").at_all("key", vec![1, 3]);
        let answer = status(error);
        assert_eq!((answer.code(), answer.message()), (Code::NotFound, "two keys"));
        let details = answer.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("tile_not_held", "restain"));
        assert_eq!(
            (info.metadata["list"].as_str(), info.metadata["indices"].as_str()),
            ("key", "1,3")
        );

        let answer =
            status(Error::new(ErrorKind::Overloaded, "full").retry_after(Duration::from_secs(3)));
        assert_eq!(answer.code(), Code::ResourceExhausted);
        assert_eq!(
            answer.get_error_details().retry_info().unwrap().retry_delay,
            Some(Duration::from_secs(3))
        );
    }
}
