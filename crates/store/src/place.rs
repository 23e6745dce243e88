//! Where something lies, as an option says it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use object_store::ObjectStoreScheme;
use sha2::{Digest, Sha256};
use url::Url;

/// A path of this machine, or a location elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file or a directory of this machine.
    Here(PathBuf),
    /// What a URL names.
    Remote(Location),
}

/// An object, or everything below a prefix, of a store that this crate can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    url: Url,
}

/// A URL that names no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is no URL.
    #[error("{0:?} is not a URL: {1}")]
    Malformed(String, url::ParseError),
    /// Its scheme is none of those that are read.
    #[error(
        "{0:?} begins with none of s3://, gs://, az://, abfss://, https:// and http://; a path of \
        this machine is given without a scheme"
    )]
    Scheme(String),
    /// It holds a password, a token or a fragment.
    #[error(
        "the URL of {0} holds {1}: give the place alone, and credentials by the cloud's own \
        variables"
    )]
    Secret(String, &'static str),
}

impl Place {
    /// The path, if it is one of this machine.
    pub fn here(&self) -> Option<&Path> {
        match self {
            Self::Here(path) => Some(path),
            Self::Remote(_) => None,
        }
    }

    /// The location, if it is elsewhere.
    pub fn remote(&self) -> Option<&Location> {
        match self {
            Self::Here(_) => None,
            Self::Remote(location) => Some(location),
        }
    }

    fn parse(text: OsString) -> Result<Self, PlaceError> {
        match text.to_str() {
            Some(url) if url.contains("://") => match url.strip_prefix("file://") {
                Some(path) => Ok(Self::Here(path.into())),
                None => url.parse().map(Self::Remote),
            },
            _ => Ok(Self::Here(text.into())),
        }
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::Here(path)
    }
}

impl From<Place> for OsString {
    fn from(place: Place) -> Self {
        match place {
            Place::Here(path) => path.into(),
            Place::Remote(location) => location.to_string().into(),
        }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        Self::parse(text.into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(path) => path.display().fmt(f),
            Self::Remote(location) => location.fmt(f),
        }
    }
}

impl ValueParserFactory for Place {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::parse).into()
    }
}

impl Location {
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn scheme(&self) -> ObjectStoreScheme {
        self.parts().0
    }

    /// Where in its store it lies.
    pub(crate) fn path(&self) -> object_store::path::Path {
        self.parts().1
    }

    fn parts(&self) -> (ObjectStoreScheme, object_store::path::Path) {
        ObjectStoreScheme::parse(&self.url).expect("it was checked when it was made")
    }

    /// The location `name` below this one.
    pub fn join(&self, name: &str) -> Self {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(name.split('/').filter(|part| !part.is_empty()));
        }
        Self { url }
    }

    /// The name of a folder for a copy of it, another for every location.
    pub fn folder_name(&self) -> String {
        let digest = Sha256::digest(self.to_string().as_bytes());
        let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let name = self.name().unwrap_or_default();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let name: String = name.chars().filter(|letter| plain(*letter)).collect();
        format!("{}-{hash}", name.trim_start_matches('.'))
    }

    /// The last name of its path; nothing for the whole of a bucket.
    pub fn name(&self) -> Option<String> {
        self.path().filename().map(str::to_owned)
    }
}

impl FromStr for Location {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let url =
            Url::parse(text).map_err(|error| PlaceError::Malformed(text.to_owned(), error))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        // Azure writes abfss://container@account.host.
        let is_azure = matches!(url.scheme(), "az" | "abfs" | "abfss");
        let secret = if url.password().is_some() || (!url.username().is_empty() && !is_azure) {
            Some("a user's name or password")
        } else if url.query().is_some() {
            Some("a query")
        } else if url.fragment().is_some() {
            Some("a fragment")
        } else {
            None
        };
        if let Some(secret) = secret {
            return Err(PlaceError::Secret(host, secret));
        }
        match ObjectStoreScheme::parse(&url) {
            Ok((ObjectStoreScheme::Local | ObjectStoreScheme::Memory, _)) | Err(_) => {
                Err(PlaceError::Scheme(text.to_owned()))
            }
            Ok(_) => Ok(Self { url }),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

/// The folder in which this user's programs keep copies of `what`; nothing for a user without a
/// home.
pub fn user_cache(what: &str) -> Option<PathBuf> {
    let home = std::env::home_dir().filter(|home| home.is_absolute())?;
    Some(home.join(".cache/restain").join(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_unless_it_has_a_scheme() {
        for path in ["models", "/a/b", "./s3:/x", "C:/models", ""] {
            assert_eq!(path.parse::<Place>().unwrap(), Place::Here(path.into()), "{path}");
        }
        assert_eq!("file:///a/b".parse::<Place>().unwrap(), Place::Here("/a/b".into()));
        for (url, path) in [
            ("s3://bucket/a/b", "a/b"),
            ("s3://bucket", ""),
            ("gs://bucket/a/", "a"),
            ("az://container/a", "a"),
            ("abfss://container@account.dfs.core.windows.net/a", "a"),
            ("https://host:8443/a/b", "a/b"),
        ] {
            let Place::Remote(location) = url.parse().unwrap() else { panic!("{url} is a path") };
            assert_eq!(location.path().as_ref(), path, "{url}");
            assert_eq!(location.to_string(), url.trim_end_matches('/'));
        }
    }

    #[test]
    fn what_names_no_place_is_refused_and_secrets_are_not_repeated() {
        for (url, said) in [
            ("ftp://host/a", "begins with none of s3://"),
            ("s3:///a", "begins with none of s3://"),
            ("https://user:hunter2@host/a", "a user's name or password"),
            ("https://host/a?sig=hunter2", "a query"),
        ] {
            let error = url.parse::<Place>().unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn names_are_joined_with_one_slash() {
        for url in ["s3://bucket/a", "s3://bucket/a/"] {
            let location: Location = url.parse().unwrap();
            let below = location.join("b c/d.tar");
            assert_eq!(below.path().as_ref(), "a/b c/d.tar");
            assert_eq!(below.name().unwrap(), "d.tar");
        }
        assert_eq!("s3://bucket".parse::<Location>().unwrap().name(), None);
    }

    #[test]
    fn every_location_has_a_folder_of_its_own() {
        let folder = |url: &str| url.parse::<Location>().unwrap().folder_name();
        assert!(folder("s3://bucket/a/.train set").starts_with("trainset-"));
        assert_eq!(folder("s3://bucket/a"), folder("s3://bucket/a/"));
        assert_ne!(folder("s3://bucket/a"), folder("s3://other/a"));
    }
}
