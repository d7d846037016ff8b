//! `<logs-{2016-04-25||/M{yyyy-MM-dd|UTC}}>`, as `date_index_name` writes it, → `logs-2016-04-01`: what the search node makes
//! of it when it indexes the document. Never from the clock: an expression without a date of its own names nothing.
//!
//! Specified by Elasticsearch's reference, "Date math support in index and index alias names".

use super::format::{Alternative, Format};
use super::read::Defaults;
use super::{Local, Stamp, Zone, days_of, weekday_of, write};
use compact_str::{CompactString, ToCompactString};

/// The name that `expression` stands for. `None` if it is no expression of this form.
pub fn resolve_index_name(expression: &str) -> Option<CompactString> {
    let (prefix, math) = expression.strip_prefix('<')?.strip_suffix("}}>")?.split_once('{')?;
    let (date, rest) = math.split_once("||/")?;
    let (unit, rest) = rest.split_once('{')?;
    let (format, zone) = rest.rsplit_once('|')?;
    let zone = Zone::parse(zone).ok()?;
    let Ok(Format::Java(_, alternatives)) = Format::parse(format) else { return None };
    // What the format leaves out is the first there is.
    let defaults = Defaults { zone: &zone, to_utc: false, now: (1970, 6) };
    let stamp = alternatives.iter().find_map(|alternative| alternative.read(date, &defaults).ok())?;
    let rounded = zone.at(&rounded(&stamp.local(), unit)?)?;
    let mut name = CompactString::from(prefix);
    alternatives.first()?.write(&rounded, &mut name);
    Some(name)
}

/// What is wrong with a format that is to name an index.
pub(crate) fn check(format: &str) -> Result<(), String> {
    match format {
        "" => Err("No date pattern provided".to_owned()),
        _ => Alternative::parse(format.split("||").next().unwrap_or(format)).map(|_| ()),
    }
}

/// `stamp` as the first of the alternatives in `format` writes it.
pub(crate) fn date_text(format: &str, stamp: &Stamp) -> Result<CompactString, String> {
    check(format)?;
    let mut out = CompactString::default();
    let pattern = format.strip_prefix('8').unwrap_or(format);
    Alternative::parse(pattern.split("||").next().unwrap_or(pattern))?.write(stamp, &mut out);
    Ok(out)
}

impl Alternative {
    fn write(&self, stamp: &Stamp, out: &mut CompactString) {
        match self {
            Self::Iso8601 => write::default_format(&stamp.local(), stamp.offset, out),
            Self::EpochMillis => {
                let millis = stamp.seconds * 1000 + i64::from(stamp.nano) / 1_000_000;
                out.push_str(&millis.to_compact_string());
            }
            Self::EpochSecond => out.push_str(&stamp.seconds.to_compact_string()),
            Self::Pattern(items) => write::write(items, stamp, out),
        }
    }
}

/// The start of the `unit` of time that `local` is in.
fn rounded(local: &Local, unit: &str) -> Option<Local> {
    let day = Local::day(local.year, local.month, local.day);
    Some(match unit {
        "y" => Local::day(local.year, 1, 1),
        "M" => Local::day(local.year, local.month, 1),
        "w" => {
            let days = days_of(local.year, local.month, local.day);
            Local::of_seconds((days - i64::from(weekday_of(days)) + 1) * 86_400, 0)
        }
        "d" => day,
        "h" | "H" => Local { hour: local.hour, ..day },
        "m" => Local { hour: local.hour, minute: local.minute, ..day },
        "s" => Local { nano: 0, ..*local },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, name: Option<&str>) {
        assert_eq!(resolve_index_name(expression).as_deref(), name, "{expression}");
    }

    #[test]
    fn an_expression_names_the_start_of_its_unit() {
        check("<logs-{2016-04-25||/M{yyyy-MM-dd|UTC}}>", Some("logs-2016-04-01"));
        check("<logs-{2016-04-25||/y{yyyy-MM-dd|UTC}}>", Some("logs-2016-01-01"));
        check("<logs-{2016-04-24||/w{yyyy-MM-dd|UTC}}>", Some("logs-2016-04-18"));
        check("<logs-{2016-04-25||/w{yyyy-MM-dd|UTC}}>", Some("logs-2016-04-25"));
        check("<logs-{2016.04||/d{yyyy.MM|Europe/Berlin}}>", Some("logs-2016.04"));
        check("<l-{2016-04-25-13-14-15||/h{yyyy-MM-dd-HH-mm-ss|+02:00}}>", Some("l-2016-04-25-13-00-00"));
        check("<l-{2016-04-25-13-14-15||/m{yyyy-MM-dd-HH-mm-ss|UTC}}>", Some("l-2016-04-25-13-14-00"));
        check("<l-{2016-04-25-13-14-15||/s{yyyy-MM-dd-HH-mm-ss|UTC}}>", Some("l-2016-04-25-13-14-15"));
        check("<{2016-11-03||/d{yyyy-MM-dd|UTC}}>", Some("2016-11-03"));
    }

    #[test]
    fn what_is_no_such_expression_names_nothing() {
        for text in [
            "logs-2016",
            "<logs-{now/d}>",
            "<logs-{now||/d{yyyy|UTC}}>",
            "<logs-{2016-04-25||/q{yyyy-MM-dd|UTC}}>",
            "<logs-{2016-04-25||/{yyyy-MM-dd|UTC}}>",
            "<logs-{2016-04-25||/d{yyyy-MM-dd|Mars/Base}}>",
            "<logs-{2016-04-25||/d{yyyy-MM-dd}}>",
            "<logs-{x||/d{yyyy-MM-dd|UTC}}>",
            "<logs-{2016-04-25||/d{|UTC}}>",
        ] {
            check(text, None);
        }
    }
}
