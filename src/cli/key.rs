//! `restain key`: makes a bearer key.

use std::process::ExitCode;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use restain::serve::access::{self, Key, Scope};
use restain_options::{above, at_least};
use restain_request::{Choice as _, Priority};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Key")]
pub(crate) struct KeyArgs {
    /// Who the key is for; the name appears in the log and in metrics
    name: String,
    /// Allow this; repeat, or separate by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "augment")]
    scope: Vec<Scope>,
    /// Limit requests a second [default: no limit]
    #[arg(long, value_name = "REQUESTS", value_parser = above(0.0))]
    requests_per_second: Option<f64>,
    /// Allow this many requests at once after a pause, with --requests-per-second [default: those
    /// of one second]
    #[arg(long, value_name = "REQUESTS", value_parser = at_least(1u32))]
    burst: Option<u32>,
    /// Limit requests in flight [default: no limit]
    #[arg(long, value_name = "REQUESTS", value_parser = at_least(1usize))]
    concurrency: Option<usize>,
    /// Limit tiles in flight [default: no limit]
    #[arg(long, value_name = "TILES", value_parser = at_least(1usize))]
    tiles: Option<usize>,
    /// Give the key's tiles this priority at most [default: the one that a request asks for]
    #[arg(long, value_name = "PRIORITY", value_parser = priority())]
    priority: Option<Priority>,
}

fn priority() -> impl TypedValueParser<Value = Priority> {
    let named = |name: String| Priority::named(&name).expect("it is one of the names");
    PossibleValuesParser::new(Priority::NAMES).map(named)
}

/// Prints the token on standard error, and the key's entry for the file of `--keys` on standard
/// output.
///
/// # Errors
/// When the system returns no random bytes.
pub(crate) fn run(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let token = access::token().context("the system returned no random bytes")?;
    match args.key(&token) {
        Ok(key) => {
            eprintln!("token, which is stored nowhere: {token}");
            print!("{}", key.to_toml());
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => Ok(super::wrong_use(why)),
    }
}

impl KeyArgs {
    /// Returns the key of `token`.
    ///
    /// # Errors
    /// In one sentence, why a server would reject the key.
    fn key(&self, token: &str) -> Result<Key, String> {
        let Self { requests_per_second, burst, concurrency, tiles, priority, .. } = *self;
        if burst.is_some() && requests_per_second.is_none() {
            return Err("--burst needs --requests-per-second".to_owned());
        }
        let key = Key {
            requests_per_second,
            burst,
            concurrency,
            tiles,
            priority,
            ..Key::new(&self.name, token, self.scope.iter().copied())
        };
        key.check().map(|()| key)
    }
}
