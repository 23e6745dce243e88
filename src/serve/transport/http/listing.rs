//! Lists that are answered from memory of their own: it is lent until the reader has taken it, as
//! that of variants is, so that readers who do not read cost no more than what may be lent.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::accept::JSON;
use crate::serve::app::App;
use crate::serve::error::Error;
use crate::serve::middleware::permit_body::PermitBody;

/// Responds with a list as JSON.
///
/// # Errors
/// As [`lend`].
pub(super) fn json(app: &App, list: &impl Serialize) -> Result<Response, Error> {
    let body = serde_json::to_vec(list).map_err(|error| Error::internal(&error))?;
    lend(app, JSON, body)
}

/// Responds with a body of this media type.
///
/// # Errors
/// `overloaded` when there is no memory to lend.
pub(super) fn lend(app: &App, media_type: &'static str, body: Vec<u8>) -> Result<Response, Error> {
    let permit = app.admission.admit_list(body.len() as u64)?;
    let body = Body::new(PermitBody::new([Bytes::from(body)], vec![permit]));
    let kind = HeaderValue::from_static(media_type);
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}
