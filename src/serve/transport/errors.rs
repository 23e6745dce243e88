//! Groups of error kinds, of which the transports' routes declare theirs. The kinds themselves are
//! one table in `serve::error`.

use crate::serve::error::ErrorKind::{self, *};

/// Of everything that needs the models.
pub(crate) const SERVING: &[ErrorKind] = &[NotReady, Draining, Internal];
/// Of a body.
pub(crate) const BODY: &[ErrorKind] = &[MalformedRequest, BodyTooLarge, UnsupportedEncoding];
/// Of a gRPC message, whatever the call: its memory is granted, and it has to come, alone where the
/// call takes one, before the call is made.
pub(crate) const MESSAGE: &[ErrorKind] = &[
    MalformedRequest,
    BodyTooLarge,
    UnsupportedEncoding,
    RequestTooLarge,
    Overloaded,
    DeadlineExceeded,
];
/// Of a path with a name in it: a name that holds a slash, or none at all, makes another path.
pub(crate) const PATH: &[ErrorKind] = &[MalformedRequest, RouteNotFound];
/// Of a list, whose memory is lent.
pub(crate) const LIST: &[ErrorKind] = &[Overloaded];
pub(crate) const FAILURE: &[ErrorKind] = &[Internal];
pub(crate) const DEADLINE: &[ErrorKind] = &[DeadlineExceeded];
pub(crate) const MODEL: &[ErrorKind] = &[ModelNotFound];
pub(crate) const ACCEPT: &[ErrorKind] = &[NotAcceptable];
/// Of tiles that are encoded.
pub(crate) const TILES: &[ErrorKind] = &[
    ImageTooLarge,
    TooManyTiles,
    RequestTooLarge,
    UnsupportedMediaType,
    NoTiles,
    UndecodableImage,
    TileSize,
    Overloaded,
    DeadlineExceeded,
];
/// Of tiles that may be keys, of the size of their pixels, and of the deadline that a request may
/// ask for.
pub(crate) const KEYS: &[ErrorKind] = &[TileNotHeld, MppOutOfRange, TimeoutOutOfRange];
/// Of the fields of an augment request.
pub(crate) const AUGMENT: &[ErrorKind] = &[
    PixelsNeeded,
    VariantsOutOfRange,
    StrengthOutOfRange,
    SpreadOutOfRange,
    SeedOutOfRange,
    QualityOutOfRange,
    UnknownDomain,
    UnknownStyle,
    UnknownSlide,
    SlideCount,
    DomainForbidden,
    BlendOutOfRange,
    NoStyles,
    StyleConflict,
];
/// Of a domain that is added.
pub(crate) const ADD_STYLES: &[ErrorKind] = &[
    DomainExists,
    BankFull,
    DomainForbidden,
    DomainName,
    StylesOutOfRange,
    NoStyles,
    StateNotWritten,
];
/// Of a slide that is added.
pub(crate) const ADD_SLIDE: &[ErrorKind] = &[BankFull, NoStyles, StateNotWritten];
/// Of a slide that is removed.
pub(crate) const REMOVE_SLIDE: &[ErrorKind] = &[SlideNotFound, StateNotWritten];
/// Of a domain that is removed.
pub(crate) const REMOVE_STYLES: &[ErrorKind] = &[DomainNotFound, DomainOfBundle, StateNotWritten];
pub(crate) const LOAD: &[ErrorKind] = &[ModelNotFound, ModelName, BundleRefused, StoreUnavailable];
pub(crate) const UNLOAD: &[ErrorKind] = &[ModelNotFound, ModelName, ModelIsDefault];
