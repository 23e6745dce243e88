//! The errors that callers see, and the one table that maps them to HTTP status, gRPC status and
//! code.
//!
//! A layer below keeps its own error type; where one reaches a caller it becomes an [`Error`]: a
//! kind out of the table, a sentence for the person who reads it (which field, which value, what
//! would be right), and the index in a list when one item is at fault. Transports take status,
//! number and `code` from [`ErrorKind::row`] and from nowhere else. A failure of the server is
//! logged where it happens and returned as `internal`, without its details.

use std::time::Duration;

use serde::Serialize;

/// One line of the table.
pub struct Row {
    pub http_status: u16,
    /// The number of the gRPC status, as google.rpc.Code has it.
    pub grpc_code: i32,
    /// What programs compare; it never changes.
    pub code: &'static str,
    /// What the kind means, whatever the request.
    pub title: &'static str,
}

macro_rules! table {
    ($($kind:ident = $http:literal, $grpc:ident, $code:literal, $title:literal;)*) => {
        /// Every kind of error that a caller can see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $(#[doc = $title] $kind,)* }

        impl ErrorKind {
            /// All kinds, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            pub const fn row(self) -> Row {
                match self {
                    $(Self::$kind => Row { http_status: $http, grpc_code: $grpc, code: $code,
                        title: $title },)*
                }
            }
        }
    };
}

const INVALID_ARGUMENT: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

table! {
    MalformedRequest = 400, INVALID_ARGUMENT, "malformed_request", "The request cannot be read";
    Unauthenticated = 401, UNAUTHENTICATED, "unauthenticated", "The request has no valid key";
    Forbidden = 403, PERMISSION_DENIED, "forbidden", "The key lacks the scope";
    OriginForbidden = 403, PERMISSION_DENIED, "origin_forbidden",
        "Pages of this origin may not call this server";
    RouteNotFound = 404, UNIMPLEMENTED, "route_not_found", "Nothing is served under this path";
    ModelNotFound = 404, NOT_FOUND, "model_not_found", "No such model is served";
    TileNotHeld = 404, NOT_FOUND, "tile_not_held",
        "A key names a tile that this server does not hold";
    DomainNotFound = 404, NOT_FOUND, "domain_not_found", "No such domain was added";
    SlideNotFound = 404, NOT_FOUND, "slide_not_found", "No such slide was added";
    MethodNotAllowed = 405, UNIMPLEMENTED, "method_not_allowed",
        "The path exists, but not for this method";
    NotAcceptable = 406, INVALID_ARGUMENT, "not_acceptable",
        "The answer cannot be given in the form asked for";
    ModelIsDefault = 409, FAILED_PRECONDITION, "model_is_default",
        "The model is the default of requests that name none";
    DomainExists = 409, ALREADY_EXISTS, "domain_exists", "There is a domain of this name already";
    DomainOfBundle = 409, FAILED_PRECONDITION, "domain_of_bundle",
        "The domain is the bundle's own, and cannot be removed";
    BankFull = 409, RESOURCE_EXHAUSTED, "bank_full",
        "The model has the largest number of added domains or slides";
    BodyTooLarge = 413, RESOURCE_EXHAUSTED, "body_too_large",
        "The body is larger than the server's limit";
    ImageTooLarge = 413, RESOURCE_EXHAUSTED, "image_too_large",
        "A picture has more pixels than the server's limit";
    TooManyTiles = 413, RESOURCE_EXHAUSTED, "too_many_tiles",
        "A request has more tiles than the server's limit";
    RequestTooLarge = 413, RESOURCE_EXHAUSTED, "request_too_large",
        "The request and its answer need more memory than the server's limit";
    UnsupportedMediaType = 415, INVALID_ARGUMENT, "unsupported_media_type",
        "The media type of the body is not supported";
    UnsupportedEncoding = 415, UNIMPLEMENTED, "unsupported_encoding",
        "The body is compressed in a way that is not read";
    ModelName = 422, INVALID_ARGUMENT, "model_name",
        "The name or version of the model is not valid";
    BundleRefused = 422, FAILED_PRECONDITION, "bundle_refused", "The bundle cannot be served";
    NoTiles = 422, INVALID_ARGUMENT, "no_tiles", "The request holds no tile";
    UndecodableImage = 422, INVALID_ARGUMENT, "undecodable_image", "A picture cannot be decoded";
    TileSize = 422, INVALID_ARGUMENT, "tile_size",
        "A side of a tile is below 16 or above 8,192 pixels";
    PixelsNeeded = 422, INVALID_ARGUMENT, "pixels_needed",
        "The request needs the tile's pixels, and a key has only its encoding";
    VariantsOutOfRange = 422, INVALID_ARGUMENT, "variants_out_of_range",
        "The number of variants is out of range";
    SpreadOutOfRange = 422, INVALID_ARGUMENT, "spread_out_of_range",
        "The spread is not between 0 and 3";
    MppOutOfRange = 422, INVALID_ARGUMENT, "mpp_out_of_range",
        "The size of a pixel is not between 0.01 and 100 µm";
    StrengthOutOfRange = 422, INVALID_ARGUMENT, "strength_out_of_range",
        "The strength is not between 0 and 1";
    SeedOutOfRange = 422, INVALID_ARGUMENT, "seed_out_of_range",
        "The seed is above 2^53 - 1, which JSON cannot carry exactly";
    QualityOutOfRange = 422, INVALID_ARGUMENT, "quality_out_of_range",
        "The quality is not between 1 and 100";
    TimeoutOutOfRange = 422, INVALID_ARGUMENT, "timeout_out_of_range",
        "The timeout is not above zero";
    UnknownDomain = 422, INVALID_ARGUMENT, "unknown_domain", "The style bank has no such domain";
    UnknownStyle = 422, INVALID_ARGUMENT, "unknown_style", "The style bank has no such style";
    UnknownSlide = 422, INVALID_ARGUMENT, "unknown_slide",
        "The server holds no such slide for this model";
    SlideCount = 422, INVALID_ARGUMENT, "slide_count",
        "There are neither one slide for all tiles nor one for each";
    DomainForbidden = 422, FAILED_PRECONDITION, "domain_forbidden",
        "The server never uses the styles of this domain";
    DomainName = 422, INVALID_ARGUMENT, "domain_name", "The name of the domain is not valid";
    StylesOutOfRange = 422, INVALID_ARGUMENT, "styles_out_of_range",
        "The number of styles is out of range";
    BlendOutOfRange = 422, INVALID_ARGUMENT, "blend_out_of_range",
        "A blend has too many parts, or a weight that is not above 0";
    NoStyles = 422, INVALID_ARGUMENT, "no_styles", "No style is left to choose from";
    StyleConflict = 422, INVALID_ARGUMENT, "style_conflict",
        "The fields of the style contradict each other";
    Overloaded = 429, RESOURCE_EXHAUSTED, "overloaded", "The queue is full";
    RateLimited = 429, RESOURCE_EXHAUSTED, "rate_limited",
        "The key is over its rate or concurrency limit";
    Internal = 500, INTERNAL, "internal", "The server failed; its log has the reason";
    StateNotWritten = 500, INTERNAL, "state_not_written",
        "The change could not be written, and was not made";
    NotReady = 503, UNAVAILABLE, "not_ready", "The server is still loading its models";
    Draining = 503, UNAVAILABLE, "draining", "The server is shutting down";
    StoreUnavailable = 503, UNAVAILABLE, "store_unavailable",
        "The store of the models cannot be read";
    DeadlineExceeded = 504, DEADLINE_EXCEEDED, "deadline_exceeded",
        "The answer was not ready in time";
}

/// Longest detail, in bytes.
const MAX_DETAIL: usize = 4000;

/// An error as a caller sees it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", .kind.row().code)]
pub struct Error {
    pub kind: ErrorKind,
    pub detail: String,
    pub at: Option<Fault>,
    /// All items at fault, where it helps to know them all.
    pub indices: Vec<usize>,
    pub retry_after: Option<Duration>,
}

/// The item of a list that is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which list: `tile`, `key` or `reference`.
    pub list: &'static str,
    pub index: usize,
}

impl Error {
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: clipped(detail.into()),
            at: None,
            indices: Vec::new(),
            retry_after: None,
        }
    }

    /// Logs what happened; the caller sees only that it did.
    pub fn internal(what: &(dyn std::fmt::Display + Sync)) -> Self {
        tracing::error!(error = %what, "a request failed inside the server");
        Self::panicked()
    }

    /// The error of a panic, whose message the panic hook has logged.
    pub fn panicked() -> Self {
        Self::new(ErrorKind::Internal, "the server failed on this request; its log has the reason")
    }

    #[must_use]
    pub fn at(mut self, list: &'static str, index: usize) -> Self {
        self.at = Some(Fault { list, index });
        self
    }

    /// Several items of one list, the first of which `at` names.
    #[must_use]
    pub fn at_all(mut self, list: &'static str, indices: Vec<usize>) -> Self {
        self.at = indices.first().map(|&index| Fault { list, index });
        self.indices = indices;
        self
    }

    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// Details quote what the caller sent: a name of a megabyte need not travel back, and would fit
/// into no gRPC head.
fn clipped(mut detail: String) -> String {
    if detail.len() > MAX_DETAIL {
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL));
        detail.push('…');
    }
    detail
}

/// Joins an error and its causes into one sentence; a cause that the text already contains is left
/// out.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    causes.fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        _ if text.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let codes: std::collections::BTreeSet<_> =
            ErrorKind::ALL.iter().map(|kind| kind.row().code).collect();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
        assert!(ErrorKind::ALL.iter().all(|kind| (400..600).contains(&kind.row().http_status)));
        assert!(ErrorKind::ALL.iter().all(|kind| (1..=16).contains(&kind.row().grpc_code)));
    }

    #[test]
    fn a_detail_does_not_grow_with_what_it_quotes() {
        let detail = Error::new(ErrorKind::MalformedRequest, "ä".repeat(1 << 20)).detail;
        assert!(detail.len() <= MAX_DETAIL + "…".len() && detail.ends_with("ä…"));
        assert_eq!(
            Error::new(ErrorKind::MalformedRequest, "ä".repeat(2000)).detail,
            "ä".repeat(2000)
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("it is refused: {source}")]
    struct Refused {
        source: Opened,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the file does not open")]
    struct Opened {
        source: std::fmt::Error,
    }

    #[test]
    fn every_cause_is_told_once() {
        let text = with_causes(&Refused { source: Opened { source: std::fmt::Error } });
        assert_eq!(text, format!("it is refused: the file does not open: {}", std::fmt::Error));
    }
}
