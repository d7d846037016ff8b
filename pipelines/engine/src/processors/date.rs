//! `date`: a text into the time it says, written as `@timestamp`.

use crate::date::format::Format;
use crate::date::pattern::{self, Item};
use crate::date::read::Defaults;
use crate::date::{Stamp, Zone, month_at, write};
use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use crate::template::Template;
use crate::text::java_text;
use compact_str::{CompactString, ToCompactString};
use event::{Event, FieldPath, Value};
use std::borrow::Cow;

pub(crate) const OPTIONS: &[&str] = &["field", "formats", "locale", "output_format", "target_field", "timezone"];

/// What nearly every pipeline leaves as it is.
const DEFAULT_OUTPUT: &str = "yyyy-MM-dd'T'HH:mm:ss.SSSXXX";

#[derive(Debug)]
struct Date {
    field: FieldPath,
    formats: Vec<Format>,
    zone: WhichZone,
    target: FieldPath,
    output: Output,
}

#[derive(Debug)]
enum Output {
    /// `yyyy-MM-dd'T'HH:mm:ss.SSSXXX`, which has a writer of its own.
    Default,
    EpochMillis,
    EpochSecond,
    Pattern(Vec<Item>),
}

#[derive(Debug)]
enum WhichZone {
    Fixed { zone: Zone, to_utc: bool },
    Rendered(Template),
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let formats = options.texts("formats")?;
    if formats.is_empty() {
        return Err("[formats] required property is missing".to_owned());
    }
    let formats: Result<Vec<_>, _> = formats.iter().map(|format| Format::parse(format)).collect();
    let formats = formats.map_err(|wrong| format!("[formats] {wrong}"))?;
    check_locale(options.text_if_set("locale")?.as_deref())?;
    let zone = match options.text_if_set("timezone")? {
        None => WhichZone::Fixed { zone: Zone::UTC, to_utc: true },
        Some(text) => match options.template("timezone", &text)?.into_constant() {
            Ok(id) => WhichZone::Fixed {
                zone: Zone::parse(&id).map_err(|wrong| format!("[timezone] {wrong}"))?,
                to_utc: Zone::is_utc_offset(&id),
            },
            Err(template) => WhichZone::Rendered(template),
        },
    };
    let target = match options.text_if_set("target_field")? {
        Some(text) => options.parse_path("target_field", &text)?,
        None => options.parse_path("target_field", "@timestamp")?,
    };
    let output = match options.text_if_set("output_format")?.as_deref() {
        None | Some(DEFAULT_OUTPUT | "iso8601" | "strict_date_optional_time" | "date_optional_time") => Output::Default,
        Some("epoch_millis") => Output::EpochMillis,
        Some("epoch_second") => Output::EpochSecond,
        Some(text) => Output::Pattern(pattern::parse(text).map_err(|wrong| format!("[output_format] {wrong}"))?),
    };
    Ok(Box::new(Date { field, formats, zone, target, output }))
}

pub(super) fn check_locale(locale: Option<&str>) -> Result<(), Wrong> {
    let Some(locale) = locale else { return Ok(()) };
    let language = locale.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    match language.as_str() {
        "en" | "english" | "root" | "" => Ok(()),
        _ => Err(format!("[locale] {locale} is not supported: month and day names are read in English only")),
    }
}

/// The date that `text` says: all formats are tried, and the last that fits wins, as in the original.
pub(super) fn read_any(formats: &[Format], text: &str, defaults: &Defaults<'_>) -> Result<Stamp, Box<Problem>> {
    let (mut stamp, mut first_problem) = (None, None);
    for format in formats {
        match format.read(text, defaults) {
            Ok(read) => stamp = Some(read),
            Err(problem) => {
                first_problem.get_or_insert(problem);
            }
        }
    }
    stamp.ok_or_else(|| match first_problem {
        Some((problem, cause)) => Problem::caused(format!("unable to parse date [{text}]"), cause.unwrap_or(problem)),
        None => Problem::new(format!("unable to parse date [{text}]")),
    })
}

impl Step for Date {
    fn apply(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let text: Cow<'_, str> = match event.resolve(&self.field)? {
            Value::Text(text) => Cow::Borrowed(text.as_str()),
            Value::Null => {
                let cause = self.formats.first().map_or("", Format::of_null);
                return Err(Problem::caused("unable to parse date [null]", cause));
            }
            other => Cow::Owned(String::from(java_text(other))),
        };
        let rendered;
        let (zone, to_utc) = match &self.zone {
            WhichZone::Fixed { zone, to_utc } => (zone, *to_utc),
            WhichZone::Rendered(template) => {
                let id = template.render(event)?;
                rendered = Zone::parse(&id)
                    .map_err(|unknown| Problem::caused(format!("unable to parse date [{text}]"), unknown))?;
                (&rendered, Zone::is_utc_offset(&id))
            }
        };
        let defaults = Defaults { zone, to_utc, now: month_at(run.now_ms) };
        let stamp = read_any(&self.formats, &text, &defaults)?;
        let mut out = CompactString::default();
        match &self.output {
            Output::Default => write::default_format(&stamp.local(), stamp.offset, &mut out),
            Output::EpochMillis => out = (stamp.seconds * 1000 + i64::from(stamp.nano) / 1_000_000).to_compact_string(),
            Output::EpochSecond => out = stamp.seconds.to_compact_string(),
            Output::Pattern(items) => write::write(items, &stamp, &mut out),
        }
        event.set(&self.target, Value::Text(out))?;
        Ok(Flow::Continue)
    }
}
