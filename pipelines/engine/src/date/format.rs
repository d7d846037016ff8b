//! One entry of `formats`: a name that the ingest node knows, or a Java pattern.

use super::pattern::{self, Item};
use super::read::{self, Defaults};
use super::zone::Zone;
use super::{Stamp, iso};
use crate::processors::convert::{java_double, no_float, no_number};

/// A way to read a date.
#[derive(Debug)]
pub(crate) enum Format {
    Iso8601,
    Unix,
    UnixMs,
    Tai64n,
    /// As written, and the alternatives that stand between `||`.
    Java(String, Vec<Alternative>),
}

#[derive(Debug)]
pub(crate) enum Alternative {
    Iso8601,
    EpochMillis,
    EpochSecond,
    Pattern(Vec<Item>),
}

/// Why a text is no date: the text, and the innermost cause.
pub(crate) type NoDate = (String, Option<String>);

impl Format {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "ISO8601" => Self::Iso8601,
            "UNIX" => Self::Unix,
            "UNIX_MS" => Self::UnixMs,
            "TAI64N" => Self::Tai64n,
            _ => {
                // A leading 8 once told Java's patterns from Joda's.
                let patterns = text.strip_prefix('8').unwrap_or(text);
                let alternatives: Result<_, _> = patterns.split("||").map(Alternative::parse).collect();
                Self::Java(text.to_owned(), alternatives?)
            }
        })
    }

    /// What Java says of a null instead of a text.
    pub(crate) fn of_null(&self) -> &'static str {
        match self {
            Self::Iso8601 | Self::Java(..) => "cannot parse empty date",
            Self::Unix => "Cannot invoke \"String.trim()\" because \"in\" is null",
            Self::UnixMs => "Cannot parse null string",
            Self::Tai64n => "Cannot invoke \"String.startsWith(String)\" because \"date\" is null",
        }
    }

    /// Reads `text`.
    pub(crate) fn read(&self, text: &str, defaults: &Defaults<'_>) -> Result<Stamp, NoDate> {
        event::steps::count(text.len());
        let zone = defaults.zone;
        let beyond = || (format!("[{text}] is beyond the years that are supported"), None);
        match self {
            _ if text.is_empty() && matches!(self, Self::Iso8601 | Self::Java(..)) => {
                Err(("cannot parse empty date".to_owned(), None))
            }
            Self::Iso8601 => iso::read(text, defaults)
                .map_err(|cause| (format!("failed to parse date field [{text}] with format [iso8601]"), Some(cause))),
            Self::Unix => {
                let seconds = java_double(text).ok_or_else(|| (no_float(text), None))?;
                Stamp::of_millis((seconds * 1000.0) as i64, zone).ok_or_else(beyond)
            }
            Self::UnixMs => {
                let millis = text.parse().map_err(|_| (no_number(text), None))?;
                Stamp::of_millis(millis, zone).ok_or_else(beyond)
            }
            Self::Tai64n => {
                let millis = tai64n(text).ok_or_else(|| (no_number(text), None))?;
                Stamp::of_millis(millis, zone).ok_or_else(beyond)
            }
            Self::Java(written, alternatives) => read_java(text, written, alternatives, defaults),
        }
    }
}

fn read_java(
    text: &str,
    written: &str,
    alternatives: &[Alternative],
    defaults: &Defaults<'_>,
) -> Result<Stamp, NoDate> {
    let mut last = String::new();
    for alternative in alternatives {
        match alternative.read(text, defaults) {
            Ok(stamp) => return Ok(stamp),
            Err(problem) => last = problem,
        }
    }
    if alternatives.len() > 1 {
        last = "Failed to parse with all enclosed parsers".to_owned();
    }
    Err((format!("failed to parse date field [{text}] with format [{written}]"), Some(last)))
}

impl Alternative {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "" => return Err("Invalid format: an empty pattern".to_owned()),
            "iso8601" | "strict_date_optional_time" | "date_optional_time" | "strict_date_optional_time_nanos" => {
                Self::Iso8601
            }
            "epoch_millis" => Self::EpochMillis,
            "epoch_second" => Self::EpochSecond,
            _ => Self::Pattern(pattern::parse(text)?),
        })
    }

    pub(super) fn read(&self, text: &str, defaults: &Defaults<'_>) -> Result<Stamp, String> {
        let no_date = || format!("Text '{text}' could not be parsed at index 0");
        let epoch = |scale: f64| {
            let number = java_double(text).filter(|number| number.is_finite())?;
            Stamp::of_millis((number * scale) as i64, &Zone::UTC)?.under(defaults.zone)
        };
        match self {
            Self::Iso8601 => iso::read(text, defaults),
            Self::EpochMillis => epoch(1.0).ok_or_else(no_date),
            Self::EpochSecond => epoch(1000.0).ok_or_else(no_date),
            Self::Pattern(items) => read::read(items, text, defaults),
        }
    }
}

/// `@4000000050d506482dbdf024`: 2^62 and TAI seconds, then nanoseconds, in hex. Ten leap seconds are taken off.
fn tai64n(text: &str) -> Option<i64> {
    let text = text.strip_prefix('@').unwrap_or(text);
    let hex = |range| i64::from_str_radix(text.get(range)?, 16).ok();
    let (seconds, nanos) = (hex(1..16)?, hex(16..24)?);
    seconds.checked_mul(1000)?.checked_add(nanos / 1_000_000 - 10_000)
}
