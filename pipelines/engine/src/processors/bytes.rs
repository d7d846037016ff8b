//! `bytes`: a size for people (`15kb`) into its number of bytes.

use super::strings;
use crate::failure::{NUMBER_FORMAT, Problem};
use crate::options::{Options, Wrong};
use crate::pipeline::Step;
use crate::processors::convert::{java_double, no_number};
use event::Value;

pub(crate) const OPTIONS: &[&str] = strings::OPTIONS;

/// Type name of a size that can't be read.
const PARSE: &str = "parse_exception";

/// Endings and their factors, longest first.
const UNITS: &[(&str, i64)] = &[
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("tb", 1 << 40),
    ("pb", 1 << 50),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("p", 1 << 50),
    ("b", 1),
];

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    strings::build(options, Box::new(|text| parse(text, "Ingest Field").map(Value::Long)))
}

/// Parses `text` as Elasticsearch's `ByteSizeValue` does. `name` is what errors call it.
pub(crate) fn parse(text: &str, name: &str) -> Result<i64, Box<Problem>> {
    let wrong =
        |reason: String, cause: Option<String>| Box::new(Problem { kind: PARSE, reason, cause: cause.map(Into::into) });
    let lower = text.trim_matches(|c: char| c <= ' ').to_lowercase();
    if let Some((unit, factor)) = UNITS.iter().find(|(unit, _)| lower.ends_with(unit)) {
        let number = lower.get(..lower.len() - unit.len()).unwrap_or_default().trim_matches(|c: char| c <= ' ');
        let no_number = no_number(number);
        let suffix = if unit.ends_with('b') { unit.to_string() } else { format!("{unit}b") };
        let setting = |cause: String| {
            wrong(format!("failed to parse setting [{name}] with value [{text}] as a size in bytes"), Some(cause))
        };
        return match (number.parse::<i64>(), *unit) {
            (Ok(whole), "b") if whole < -1 => {
                Err(Problem::new(format!("Values less than -1 bytes are not supported: {whole}b")))
            }
            (Ok(whole), "b") => Ok(whole),
            (Ok(whole), _) if whole < 0 => {
                Err(setting(format!("Values less than -1 bytes are not supported: {whole}{suffix}")))
            }
            (Ok(whole), _) => whole.checked_mul(*factor).ok_or_else(|| {
                setting(format!("Values greater than {} bytes are not supported: {whole}{suffix}", i64::MAX))
            }),
            (Err(_), "b") => Err(Box::new(Problem { kind: NUMBER_FORMAT, reason: no_number, cause: None })),
            (Err(_), _) if java_double(number).is_some() => Err(wrong(
                format!(
                    "Failed to parse bytes value [{text}]. Fractional bytes values have been deprecated since Legacy 6.2. \
                     Use non-fractional bytes values instead: found for setting [{name}]"
                ),
                Some(no_number),
            )),
            (Err(_), _) => Err(wrong(format!("failed to parse [{text}]"), Some(no_number))),
        };
    }
    match lower.as_str() {
        "-1" => Ok(-1),
        "0" => Ok(0),
        _ => Err(wrong(
            format!(
                "failed to parse setting [{name}] with value [{text}] as a size in bytes: unit is missing or unrecognized"
            ),
            None,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        let read = |text: &str| parse(text, "f").map_err(|problem| problem.reason);
        assert_eq!(read("1kb"), Ok(1024));
        assert_eq!(read(" 10 MB "), Ok(10 << 20));
        assert!(read("1.5k").is_err_and(|reason| reason.contains("Fractional bytes values")));
        assert_eq!(read("5b"), Ok(5));
        assert_eq!(read("-1"), Ok(-1));
        assert!(read("12").is_err_and(|reason| reason.ends_with("unit is missing or unrecognized")));
        assert_eq!(read("xkb"), Err("failed to parse [xkb]".to_owned()));
    }
}
