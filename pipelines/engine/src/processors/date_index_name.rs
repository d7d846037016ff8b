//! `date_index_name`: an index named after a date, as an expression that is worked out when the document is indexed.

use super::date::{check_locale, read_any};
use crate::date::format::Format;
use crate::date::read::Defaults;
use crate::date::{Zone, index_name, month_at};
use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use crate::template::Template;
use crate::text::java_text;
use event::{Event, FieldPath, Value};
use std::borrow::Cow;

pub(crate) const OPTIONS: &[&str] =
    &["date_formats", "date_rounding", "field", "index_name_format", "index_name_prefix", "locale", "timezone"];

#[derive(Debug)]
struct DateIndexName {
    field: FieldPath,
    index: FieldPath,
    formats: Vec<Format>,
    zone: Zone,
    /// The zone as the expression names it.
    zone_id: String,
    is_zone_default: bool,
    prefix: Template,
    rounding: Template,
    name_format: Template,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let locale = options.text_if_set("locale")?;
    check_locale(locale.as_deref())?;
    let id = options.text_if_set("timezone")?;
    let zone = id.as_deref().map_or(Ok(Zone::UTC), Zone::parse).map_err(|wrong| format!("[timezone] {wrong}"))?;
    let is_zone_default = id.as_deref().is_none_or(Zone::is_utc_offset);
    let zone_id = if is_zone_default { "UTC".to_owned() } else { Zone::java_id(id.as_deref().unwrap_or("UTC")) };
    let formats = match options.has("date_formats") {
        true => options.texts("date_formats")?,
        false => vec!["yyyy-MM-dd'T'HH:mm:ss.SSSXX".into()],
    };
    let formats: Result<Vec<_>, _> = formats.iter().map(|format| Format::parse(format)).collect();
    let field = options.path("field")?;
    let index = options.parse_path("field", "_index")?;
    let mut template = |name: &str, default: Option<&str>| {
        let text = match (options.text_if_set(name)?, default) {
            (Some(text), _) => text,
            (None, Some(default)) => default.into(),
            (None, None) => return Err(crate::options::missing(name)),
        };
        options.template(name, &text)
    };
    let prefix = template("index_name_prefix", Some(""))?;
    let rounding = template("date_rounding", None)?;
    let name_format = template("index_name_format", Some("yyyy-MM-dd"))?;
    if let Ok(format) = name_format.clone().into_constant()
        && !format.is_empty()
    {
        index_name::check(&format).map_err(|wrong| format!("[index_name_format] {wrong}"))?;
    }
    let formats = formats.map_err(|wrong| format!("[date_formats] {wrong}"))?;
    Ok(Box::new(DateIndexName { field, index, formats, zone, zone_id, is_zone_default, prefix, rounding, name_format }))
}

impl Step for DateIndexName {
    fn apply(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let text: Cow<'_, str> = match event.resolve(&self.field)? {
            Value::Text(text) => Cow::Borrowed(text.as_str()),
            Value::Null => {
                return Err(Problem::caused("unable to parse date [null]", "cannot parse empty date"));
            }
            other => Cow::Owned(String::from(java_text(other))),
        };
        let defaults = Defaults { zone: &self.zone, to_utc: self.is_zone_default, now: month_at(run.now_ms) };
        let stamp = read_any(&self.formats, &text, &defaults)?;
        let (prefix, format) = (self.prefix.render(event)?, self.name_format.render(event)?);
        let rounding = self.rounding.render(event)?;
        let date = index_name::date_text(&format, &stamp).map_err(Problem::new)?;
        let name = format!("<{prefix}{{{date}||/{rounding}{{{format}|{}}}}}>", self.zone_id);
        event.set(&self.index, Value::from(name))?;
        Ok(Flow::Continue)
    }
}
