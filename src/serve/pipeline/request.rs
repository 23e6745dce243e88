//! What a caller asks for: the request that `restain-request` reads, with the kinds that its errors
//! have here. Whether it can be done is [`super::plan`]'s question.

use restain_request::Fault;
pub use restain_request::{
    BlendPart, BlendSource, Detail, Method, Placement, Priority, Request, Share, StyleSource,
};

use crate::serve::error::{Error, ErrorKind};

/// How many tiles came with the request.
#[derive(Clone, Copy)]
pub struct Counts {
    pub tiles: usize,
    pub references: usize,
}

/// Gives the error of a field its kind here. No `From`: with one, the type of other errors could no
/// longer be inferred.
pub(crate) fn field_error(error: restain_request::Error) -> Error {
    let kind = match error.fault {
        Fault::Malformed => ErrorKind::MalformedRequest,
        Fault::Variants => ErrorKind::VariantsOutOfRange,
        Fault::Strength => ErrorKind::StrengthOutOfRange,
        Fault::Spread => ErrorKind::SpreadOutOfRange,
        Fault::Mpp => ErrorKind::MppOutOfRange,
        Fault::Seed => ErrorKind::SeedOutOfRange,
        Fault::Quality => ErrorKind::QualityOutOfRange,
        Fault::Timeout => ErrorKind::TimeoutOutOfRange,
        Fault::Styles => ErrorKind::StylesOutOfRange,
        Fault::Blend => ErrorKind::BlendOutOfRange,
        Fault::StyleConflict => ErrorKind::StyleConflict,
    };
    Error::new(kind, error.detail)
}
