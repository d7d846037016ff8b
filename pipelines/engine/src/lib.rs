//! Elasticsearch ingest pipelines, outside Elasticsearch: a [`Library`] of pipeline files, whose [`Pipeline`]s change
//! one [`event::Event`] at a time. No I/O but the reading of pipeline files, no clock, no lock.
//!
//! A real node's `_ingest/pipeline/_simulate` is the judge of what a processor does.

pub mod cases;
mod date;
mod digest;
pub mod failure;
pub mod grok;
mod inspect;
mod jackson;
mod java_regex;
mod library;
mod mmdb;
mod options;
mod painless;
mod pipeline;
mod processors;
mod registry;
mod template;
mod text;
mod yaml;

pub use date::index_name::resolve_index_name;
pub use failure::{Failure, Problem};
pub use inspect::{Note, Single};
pub use library::{Library, LoadError};
pub use painless::Condition;
pub use pipeline::{Flow, Outcome, Pipeline, Run, Step, Trouble};
pub use registry::names as processor_names;

/// The first millisecond whose year has five digits.
const YEAR_10000_MS: i64 = 253_402_300_800_000;

/// `2024-01-02T03:04:05.678Z`: the time `ms` milliseconds after 1970, for the years that are written with four digits.
pub fn time_text(ms: i64) -> Option<compact_str::CompactString> {
    (0..YEAR_10000_MS).contains(&ms).then(|| date::java_timestamp(ms))
}

/// Milliseconds since 1970 of an RFC 3339 time such as `2024-01-02T03:04:05Z`.
///
/// Errors: what is wrong with the text.
pub fn parse_now(text: &str) -> Result<i64, String> {
    let timestamp: jiff::Timestamp = text.parse().map_err(|error| format!("{text} is no RFC 3339 time: {error}"))?;
    Ok(timestamp.as_millisecond())
}
