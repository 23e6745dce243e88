//! What went wrong with a store, in one line.

use std::error::Error as _;

use object_store::{Error, ObjectStoreScheme};

use crate::Location;

/// Most letters of a store's own words.
const MOST: usize = 300;

/// Codes of answers to credentials that are wrong or have expired.
const REFUSALS: [&str; 7] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "AccessDenied",
];

/// Words of a client that got no answer.
const UNREACHED: [&str; 4] = ["error sending request", "error decoding", "timed out", "dns error"];

/// Something that a store could not do, after it was tried again.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {said}")]
pub struct StoreError {
    place: String,
    said: String,
}

impl StoreError {
    pub(crate) fn new(location: &Location, error: Error) -> Self {
        // All of its words, for those who look for the cause of the cause.
        tracing::debug!(%location, %error, "a store failed");
        Self::own(location, said(location, &error))
    }

    pub(crate) fn own(location: &Location, said: impl Into<String>) -> Self {
        Self { place: location.to_string(), said: said.into() }
    }
}

impl From<StoreError> for std::io::Error {
    fn from(error: StoreError) -> Self {
        Self::other(error)
    }
}

fn said(location: &Location, error: &Error) -> String {
    let chain = chain(error);
    let answer = answer(error);
    let code = answer.as_deref().and_then(code);
    if code.is_some_and(|code| ["NoSuchBucket", "ContainerNotFound"].contains(&code)) {
        return "there is no such bucket".to_owned();
    }
    let status = answer.as_deref().and_then(status);
    let denied = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
        || status.is_some_and(|status| ["401", "403"].contains(&status));
    let refused = code.filter(|code| REFUSALS.contains(code));
    if denied || refused.is_some() {
        let code = refused.or(status).unwrap_or("denied");
        return format!("the credentials are refused ({code}): {}", credentials(location));
    }
    if ["169.254.169.254", "metadata.google.internal", "InstanceCredentialProvider"]
        .iter()
        .any(|word| chain.contains(word))
    {
        return format!("no credentials are found: {}", credentials(location));
    }
    match error {
        Error::NotFound { .. } => "there is no such object".to_owned(),
        Error::Precondition { .. } => "it was replaced by someone else meanwhile".to_owned(),
        Error::NotImplemented { .. } | Error::NotSupported { .. } => {
            format!("the store cannot do this: {}", short(&chain))
        }
        _ => match UNREACHED.iter().any(|words| chain.contains(words)) {
            true => format!("the store cannot be reached: {}", short(&last(error))),
            false => short(&chain),
        },
    }
}

/// What a store answered, or who gives its tokens, with the status and the body, if there was an
/// answer. Only this is searched for codes: the other causes name addresses, times and keys, which
/// have any digits and words in them.
fn answer(error: &Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if text.starts_with("Server returned ") {
            return Some(text);
        }
        cause = error.source();
    }
    None
}

/// The status of an answer, such as "403".
fn status(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once("status code: ")?;
    rest.split([' ', ':']).next()
}

/// The store's own code in the XML of an answer, such as "AccessDenied".
fn code(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0)
}

/// How credentials are given.
fn credentials(location: &Location) -> &'static str {
    match location.scheme() {
        ObjectStoreScheme::AmazonS3 => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL for a store \
            other than Amazon's"
        }
        ObjectStoreScheme::GoogleCloudStorage => "set GOOGLE_APPLICATION_CREDENTIALS",
        ObjectStoreScheme::MicrosoftAzure => {
            "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
        }
        _ => "this server asks for some, and none can be given",
    }
}

/// An error and its causes, in one text.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn last(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
