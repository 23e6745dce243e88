//! The options of a model in this process, by the names of their Python arguments.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use pyo3::FromPyObject;
use restain::serve::Config;

/// What a model is opened with; what is left out is as the server's default.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options {
    threads: Option<usize>,
    precision: Option<String>,
    devices: Option<String>,
    cache_memory: Option<String>,
    cache_dir: Option<PathBuf>,
    forbid_domains: Vec<String>,
}

impl Options {
    /// Returns the configuration of a server with these options, which serves `model` of `models`.
    ///
    /// # Errors
    /// The first argument that cannot be used, with its value and what is allowed.
    pub(crate) fn config(self, models: PathBuf, model: String) -> Result<Config, String> {
        let mut config =
            Config { models: models.into(), default_model: Some(model), ..Config::default() };
        if let Some(threads) = self.threads {
            config.threads = NonZeroUsize::new(threads)
                .ok_or_else(|| "threads is 0, and must be at least 1".to_owned())?;
        }
        set(&mut config.precision, "precision", self.precision)?;
        set(&mut config.devices, "devices", self.devices)?;
        set(&mut config.cache_memory, "cache_memory", self.cache_memory)?;
        config.cache_dir = self.cache_dir;
        config.forbid_domain = self.forbid_domains;
        config.checked().map_err(|error| error.to_string())
    }
}

fn set<T: FromStr<Err: Display>>(
    option: &mut T,
    name: &str,
    text: Option<String>,
) -> Result<(), String> {
    if let Some(text) = text {
        *option = text.parse().map_err(|error| format!("{name} is {text:?}: {error}"))?;
    }
    Ok(())
}
