//! A YAML file becomes a config struct, or an error that says file, line, column and what was expected.
//!
//! YAML 1.2 as `serde-saphyr` reads it: one document, at most 1 MiB, nested at most 64 deep, aliases expanded within a
//! bound, a key written twice is an error. Whether unknown keys are errors is for the struct to say: they all carry
//! `#[serde(deny_unknown_fields)]`. Nothing is interpolated; only a `Secret` may refer to the environment or to a file.

mod error;
mod secret;
mod units;

use std::{fs::File, io::Read, path::Path};

use serde::de::DeserializeOwned;

pub use error::ConfigError;
pub use secret::{Secret, SecretError};
/// A value and where it stands: `placed.value`, `placed.referenced.line()`.
pub use serde_saphyr::Spanned as Placed;
pub use units::{ByteSize, duration, optional_duration, parse_duration};

/// Largest config file. A config is written by hand: more than this is the wrong file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Deepest nesting of maps and lists.
const DEPTH_MAX: usize = 64;
/// Most YAML events that aliases may add, each some ten bytes: a "billion laughs" ends here within milliseconds.
const ALIAS_EVENTS_MAX: usize = 10_000;

/// Reads `path` into a `T`.
///
/// Errors: unreadable, too large, or not what `T` asks for, with file, line and column.
pub fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    check_size(path, bytes.len())?;
    let text = String::from_utf8(bytes).map_err(|error| ConfigError::not_utf8(path, &error))?;
    parse_config(path, &text)
}

/// Reads `text` into a `T`; `name` is what errors call it.
///
/// Errors: as `read_config`.
pub fn parse_config<T: DeserializeOwned>(name: &Path, text: &str) -> Result<T, ConfigError> {
    check_size(name, text.len())?;
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| ConfigError::invalid(name, text, &error))
}

fn check_size(path: &Path, bytes: usize) -> Result<(), ConfigError> {
    if bytes as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    Ok(())
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, flow_nesting_limit: DEPTH_MAX, max_documents: 1 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIAS_EVENTS_MAX, max_replay_stack_depth: DEPTH_MAX },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    }
}

#[cfg(test)]
mod tests;
