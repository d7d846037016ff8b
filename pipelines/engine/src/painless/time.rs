//! `ZonedDateTime`, `Instant`, `Duration` and their like: the basics that pipelines use.

use super::class::Class;
use super::machine::{Eval, Given};
use super::methods::int_of;
use super::thrown::{Thrown, throw};
use super::value::{NamedZone, Obj, Val};
use crate::date::read::{self, Defaults};
use crate::date::{Local, Stamp, Zone, days_in_month, days_of, iso, pattern, write};
use compact_str::{CompactString, format_compact};

pub(super) const METHODS: &[(&str, usize)] = &[
    ("atZone", 1),
    ("between", 2),
    ("compareTo", 1),
    ("format", 1),
    ("getDayOfMonth", 0),
    ("getDayOfYear", 0),
    ("getEpochSecond", 0),
    ("getHour", 0),
    ("getId", 0),
    ("getMinute", 0),
    ("getMonthValue", 0),
    ("getNano", 0),
    ("getSecond", 0),
    ("getSeconds", 0),
    ("getYear", 0),
    ("getZone", 0),
    ("isAfter", 1),
    ("isBefore", 1),
    ("isEqual", 1),
    ("minus", 2),
    ("minusDays", 1),
    ("minusHours", 1),
    ("minusMillis", 1),
    ("minusMinutes", 1),
    ("minusMonths", 1),
    ("minusNanos", 1),
    ("minusSeconds", 1),
    ("minusWeeks", 1),
    ("minusYears", 1),
    ("plus", 2),
    ("plusDays", 1),
    ("plusHours", 1),
    ("plusMillis", 1),
    ("plusMinutes", 1),
    ("plusMonths", 1),
    ("plusNanos", 1),
    ("plusSeconds", 1),
    ("plusWeeks", 1),
    ("plusYears", 1),
    ("toDays", 0),
    ("toEpochMilli", 0),
    ("toEpochSecond", 0),
    ("toHours", 0),
    ("toInstant", 0),
    ("toMillis", 0),
    ("toMinutes", 0),
    ("toNanos", 0),
    ("truncatedTo", 1),
    ("withZoneSameInstant", 1),
    ("withZoneSameLocal", 1),
];

/// Units of time by name, with their length in nanoseconds; months and years have none.
pub(super) const UNITS: &[(&str, &str, i128)] = &[
    ("NANOS", "Nanos", 1),
    ("MICROS", "Micros", 1_000),
    ("MILLIS", "Millis", 1_000_000),
    ("SECONDS", "Seconds", NANOS),
    ("MINUTES", "Minutes", 60 * NANOS),
    ("HOURS", "Hours", 3_600 * NANOS),
    ("DAYS", "Days", 86_400 * NANOS),
    ("WEEKS", "Weeks", 604_800 * NANOS),
    ("MONTHS", "Months", 0),
    ("YEARS", "Years", 0),
];

/// Nanoseconds of a second.
const NANOS: i128 = 1_000_000_000;
/// The years that are followed, on both sides of year 0.
const YEARS_MAX: i64 = 999_999;

type Found<'e> = Result<Option<Val<'e>>, Box<Thrown>>;

fn nanos_of(stamp: &Stamp) -> i128 {
    i128::from(stamp.seconds) * NANOS + i128::from(stamp.nano)
}

fn beyond<T>() -> Result<T, Box<Thrown>> {
    Err(Thrown::named("java.time.DateTimeException", "a time beyond the years that are supported"))
}

fn stamp_of(nanos: i128) -> Result<Stamp, Box<Thrown>> {
    let most = i128::from(YEARS_MAX) * 366 * 86_400 * NANOS;
    if nanos.abs() > most {
        return beyond();
    }
    Ok(Stamp { seconds: nanos.div_euclid(NANOS) as i64, nano: nanos.rem_euclid(NANOS) as u32, offset: 0 })
}

fn zoned<'e>(stamp: Stamp, zone: NamedZone) -> Eval<'e> {
    match stamp.under(&zone.zone) {
        Some(stamp) => Ok(Val::object(Obj::Zoned(stamp, zone))),
        None => beyond(),
    }
}

/// `2020-01-02T03:04:05.678Z`: as many digits of the fraction as there are, in threes.
pub(super) fn instant_text(stamp: &Stamp) -> CompactString {
    let mut out = date_text(&Local::of_seconds(stamp.seconds, stamp.nano), true);
    out.push('Z');
    out
}

pub(super) fn zoned_text(stamp: &Stamp, zone: &NamedZone) -> CompactString {
    let mut out = date_text(&stamp.local(), false);
    let offset = pattern::parse("XXX").unwrap_or_default();
    write::write(&offset, stamp, &mut out);
    if !zone.id.starts_with(['+', '-', 'Z']) {
        out.push_str(&format_compact!("[{}]", zone.id));
    }
    out
}

fn date_text(local: &Local, seconds: bool) -> CompactString {
    let Local { year, month, day, hour, minute, second, nano } = *local;
    let mut out = format_compact!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}");
    if seconds || second > 0 || nano > 0 {
        out.push_str(&format_compact!(":{second:02}"));
    }
    if nano > 0 {
        out.push_str(&match nano {
            _ if nano % 1_000_000 == 0 => format_compact!(".{:03}", nano / 1_000_000),
            _ if nano % 1_000 == 0 => format_compact!(".{:06}", nano / 1_000),
            _ => format_compact!(".{nano:09}"),
        });
    }
    out
}

pub(super) fn duration_text(nanos: i128) -> CompactString {
    if nanos == 0 {
        return "PT0S".into();
    }
    let (seconds, rest) = (nanos / NANOS, nanos % NANOS);
    let mut out = CompactString::const_new("PT");
    for (value, letter) in [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')] {
        if value != 0 {
            out.push_str(&format_compact!("{value}{letter}"));
        }
    }
    if seconds % 60 != 0 || rest != 0 {
        let sign = if nanos < 0 { "-" } else { "" };
        let fraction = format!("{:09}", rest.abs());
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        out.push_str(&format_compact!("{sign}{}{dot}{fraction}S", (seconds % 60).abs()));
    }
    out
}

/// `ZoneId.of`.
pub(super) fn zone<'e>(id: &str) -> Eval<'e> {
    match Zone::parse(id) {
        Ok(zone) => Ok(Val::object(Obj::Zone(NamedZone { id: id.into(), zone }))),
        Err(wrong) => Err(Thrown::named("java.time.zone.ZoneRulesException", wrong)),
    }
}

/// `Instant.ofEpochMilli`.
pub(super) fn instant_of_millis<'e>(millis: i64) -> Eval<'e> {
    stamp_of(i128::from(millis) * 1_000_000).map(|stamp| Val::object(Obj::Instant(stamp)))
}

/// `ZonedDateTime.ofInstant`.
pub(super) fn zoned_of<'e>(instant: &Val<'e>, zone: &Val<'e>) -> Eval<'e> {
    match (moment(instant), zone_of(zone)) {
        (Some(stamp), Some(zone)) => zoned(stamp, zone),
        _ => throw(Class::ClassCastException, "ofInstant takes an Instant and a ZoneId"),
    }
}

/// `ZonedDateTime.of`: year, month, day, hour, minute, second, nanosecond.
pub(super) fn zoned_from<'e>(parts: &[i32], zone: &Val<'e>) -> Eval<'e> {
    let wrong = |problem: String| Err(Thrown::named("java.time.DateTimeException", problem));
    let ([year, month, day, hour, minute, second, nano], Some(zone)) = (parts, zone_of(zone)) else {
        return throw(Class::ClassCastException, "ZonedDateTime.of takes seven numbers and a ZoneId");
    };
    if i64::from(*year).abs() > YEARS_MAX {
        return beyond();
    }
    let ranges = [(month, 12), (day, 31), (hour, 23), (minute, 59), (second, 59), (nano, 999_999_999)];
    if let Some((value, most)) = ranges.iter().find(|(value, most)| **value < 0 || *value > most) {
        return wrong(format!("Invalid value (valid values 0 - {most}): {value}"));
    }
    let (month, day) = (*month as u8, *day as u8);
    if month == 0 || day == 0 || day > days_in_month(*year, month) {
        return wrong(format!("Invalid date {year}-{month:02}-{day:02}"));
    }
    let (hour, minute, second) = (*hour as u8, *minute as u8, *second as u8);
    match zone.zone.at(&Local { year: *year, month, day, hour, minute, second, nano: *nano as u32 }) {
        Some(stamp) => Ok(Val::object(Obj::Zoned(stamp, zone))),
        None => beyond(),
    }
}

/// `ZonedDateTime.parse` and `Instant.parse`, with a formatter if one is given.
pub(super) fn parse<'e>(text: &str, formatter: Option<&Val<'e>>, as_instant: bool) -> Eval<'e> {
    let wrong = |problem: String| Thrown::new(Class::DateTimeParseException, problem);
    let at = || wrong(format!("Text '{text}' could not be parsed at index 0"));
    let (local, region) = match text.split_once('[') {
        Some((local, region)) => (local, region.strip_suffix(']').and_then(named)),
        None => (text, None),
    };
    let defaults = Defaults { zone: &Zone::UTC, to_utc: true, now: (1970, 1) };
    let stamp = match formatter {
        Some(Val::Object(object)) => match &**object {
            Obj::Formatter(items) => read::read(items, text, &defaults).map_err(|problem| match problem {
                problem if problem.starts_with("Text '") => wrong(problem),
                problem => wrong(format!("Text '{text}' could not be parsed: {problem}")),
            })?,
            _ => return throw(Class::ClassCastException, "parse takes a DateTimeFormatter"),
        },
        Some(_) => return throw(Class::ClassCastException, "parse takes a DateTimeFormatter"),
        None if local.len() < "2020-01-02T03:04Z".len() => return Err(at()),
        None => iso::read(local, &defaults).map_err(|_| at())?,
    };
    if as_instant {
        return if text.ends_with('Z') {
            Ok(Val::object(Obj::Instant(Stamp { offset: 0, ..stamp })))
        } else {
            Err(at())
        };
    }
    // The offset that is written is the zone, unless a region is.
    let offset = offset_in(local);
    match (region, offset) {
        (Some(region), _) => zoned(stamp, region),
        (None, Some(offset)) => zoned(stamp, fixed(offset)),
        (None, None) => Err(at()),
    }
}

/// The offset at the end of an ISO time, in seconds.
fn offset_in(text: &str) -> Option<i32> {
    if text.ends_with('Z') {
        return Some(0);
    }
    let sign = text.rfind(['+', '-']).filter(|at| *at > "2020-01-02".len())?;
    match Zone::parse(text.get(sign..)?) {
        Ok(Zone::Fixed(offset)) => Some(offset),
        _ => None,
    }
}

/// `DateTimeFormatter.ofPattern`.
pub(super) fn formatter<'e>(text: &str) -> Eval<'e> {
    match pattern::parse(text) {
        Ok(items) => Ok(Val::object(Obj::Formatter(items))),
        Err(wrong) => throw(Class::IllegalArgumentException, wrong),
    }
}

fn moment(value: &Val<'_>) -> Option<Stamp> {
    let Val::Object(object) = value else { return None };
    match &**object {
        Obj::Instant(stamp) | Obj::Zoned(stamp, _) => Some(*stamp),
        _ => None,
    }
}

fn named(id: &str) -> Option<NamedZone> {
    Zone::parse(id).ok().map(|zone| NamedZone { id: id.into(), zone })
}

/// The zone that is this offset, in seconds, and nothing else.
fn fixed(offset: i32) -> NamedZone {
    let mut id = CompactString::default();
    let items = pattern::parse("XXX").unwrap_or_default();
    write::write(&items, &Stamp { seconds: 0, nano: 0, offset }, &mut id);
    NamedZone { id, zone: Zone::Fixed(offset) }
}

fn zone_of(value: &Val<'_>) -> Option<NamedZone> {
    let Val::Object(object) = value else { return None };
    match &**object {
        Obj::Zone(zone) => Some(zone.clone()),
        _ => None,
    }
}

/// `Duration.between`, in nanoseconds.
pub(super) fn between<'e>(from: &Val<'e>, to: &Val<'e>) -> Eval<'e> {
    match (moment(from), moment(to)) {
        (Some(from), Some(to)) => Ok(Val::object(Obj::Duration(nanos_of(&to) - nanos_of(&from)))),
        _ => throw(Class::ClassCastException, "between takes two moments"),
    }
}

pub(super) fn call<'e>(of: &Val<'e>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    let Val::Object(object) = of else { return Ok(None) };
    match &**object {
        Obj::Instant(stamp) => of_moment(stamp, None, name, args),
        Obj::Zoned(stamp, zone) => of_moment(stamp, Some(zone), name, args),
        Obj::Zone(zone) => Ok((name == "getId").then(|| Val::text(zone.id.clone()))),
        Obj::Duration(nanos) => Ok(of_duration(*nanos, name)),
        Obj::Formatter(items) => match (name, args) {
            ("format", [Given::Value(value)]) => format_moment(value, items).map(Some),
            _ => Ok(None),
        },
        Obj::Unit(_, length) => match (name, args) {
            ("between", [Given::Value(from), Given::Value(to)]) if *length > 0 => {
                let (Some(from), Some(to)) = (moment(from), moment(to)) else {
                    return throw(Class::ClassCastException, "between takes two moments");
                };
                Ok(Some(Val::Long(((nanos_of(&to) - nanos_of(&from)) / length) as i64)))
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn of_duration<'e>(nanos: i128, name: &str) -> Option<Val<'e>> {
    let whole = |unit: i128| Some(Val::Long(nanos.div_euclid(unit) as i64));
    match name {
        "toNanos" => whole(1),
        "toMillis" => whole(1_000_000),
        "getSeconds" => whole(NANOS),
        "toMinutes" => whole(60 * NANOS),
        "toHours" => whole(3_600 * NANOS),
        "toDays" => whole(86_400 * NANOS),
        "getNano" => Some(Val::Int(nanos.rem_euclid(NANOS) as i32)),
        _ => None,
    }
}

fn format_moment<'e>(value: &Val<'e>, items: &[pattern::Item]) -> Eval<'e> {
    let Some(stamp) = moment(value) else {
        return throw(Class::ClassCastException, "format takes a ZonedDateTime");
    };
    let mut out = CompactString::default();
    write::write(items, &stamp, &mut out);
    Ok(Val::text(out))
}

/// Methods of an `Instant`, and of a `ZonedDateTime`, which has a zone.
fn of_moment<'e>(stamp: &Stamp, zone: Option<&NamedZone>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    let local = stamp.local();
    let same_kind = |stamp: Stamp| match zone {
        Some(zone) => zoned(stamp, zone.clone()),
        None => Ok(Val::object(Obj::Instant(stamp))),
    };
    let days = || days_of(local.year, local.month, local.day);
    let parts = zone.is_some();
    Ok(Some(match (name, args) {
        ("toEpochMilli", []) if !parts => Val::Long(nanos_of(stamp).div_euclid(1_000_000) as i64),
        ("getEpochSecond", []) if !parts => Val::Long(stamp.seconds),
        ("toEpochSecond", []) if parts => Val::Long(stamp.seconds),
        ("getNano", []) => Val::Int(stamp.nano as i32),
        ("toInstant", []) if parts => Val::object(Obj::Instant(Stamp { offset: 0, ..*stamp })),
        ("getYear", []) if parts => Val::Int(local.year),
        ("getMonthValue", []) if parts => Val::Int(i32::from(local.month)),
        ("getDayOfMonth", []) if parts => Val::Int(i32::from(local.day)),
        ("getDayOfYear", []) if parts => Val::Int((days() - days_of(local.year, 1, 1) + 1) as i32),
        ("getHour", []) if parts => Val::Int(i32::from(local.hour)),
        ("getMinute", []) if parts => Val::Int(i32::from(local.minute)),
        ("getSecond", []) if parts => Val::Int(i32::from(local.second)),
        ("getZone", []) => match zone {
            Some(zone) => Val::object(Obj::Zone(zone.clone())),
            None => return Ok(None),
        },
        ("format", [Given::Value(Val::Object(object))]) if parts => match &**object {
            Obj::Formatter(items) => {
                let mut out = CompactString::default();
                write::write(items, stamp, &mut out);
                Val::text(out)
            }
            _ => return throw(Class::ClassCastException, "format takes a DateTimeFormatter"),
        },
        ("atZone", [Given::Value(to)]) if !parts => match zone_of(to) {
            Some(zone) => zoned(*stamp, zone)?,
            None => return throw(Class::ClassCastException, "atZone takes a ZoneId"),
        },
        ("withZoneSameInstant", [Given::Value(to)]) if parts => match zone_of(to) {
            Some(zone) => zoned(*stamp, zone)?,
            None => return throw(Class::ClassCastException, "withZoneSameInstant takes a ZoneId"),
        },
        ("withZoneSameLocal", [Given::Value(to)]) if parts => match zone_of(to) {
            Some(zone) => match zone.zone.at(&local) {
                Some(stamp) => Val::object(Obj::Zoned(stamp, zone)),
                None => return beyond(),
            },
            None => return throw(Class::ClassCastException, "withZoneSameLocal takes a ZoneId"),
        },
        ("isBefore" | "isAfter" | "isEqual", [Given::Value(other)]) => {
            let Some(other) = moment(other) else {
                return throw(Class::ClassCastException, format!("{name} takes a moment of the same kind"));
            };
            let (this, other) = (nanos_of(stamp), nanos_of(&other));
            Val::Bool(match name {
                "isBefore" => this < other,
                "isAfter" => this > other,
                _ => this == other,
            })
        }
        ("truncatedTo", [Given::Value(Val::Object(object))]) => match &**object {
            Obj::Unit(_, length) if (1..=86_400 * NANOS).contains(length) => {
                let offset = i128::from(stamp.offset) * NANOS;
                let here = nanos_of(stamp) + offset;
                same_kind(stamp_of(here.div_euclid(*length) * length - offset)?)?
            }
            _ => return throw(Class::UnsupportedOperationException, "Unit is too large to be used for truncation"),
        },
        ("plus" | "minus", [Given::Value(amount), Given::Value(Val::Object(object))]) => match &**object {
            Obj::Unit(unit, _) => shifted(stamp, zone, unit, amount, name == "minus")?,
            _ => return throw(Class::ClassCastException, format!("{name} takes a number and a ChronoUnit")),
        },
        (_, [Given::Value(amount)]) if name.starts_with("plus") || name.starts_with("minus") => {
            let unit = name.trim_start_matches("plus").trim_start_matches("minus");
            shifted(stamp, zone, unit, amount, name.starts_with("minus"))?
        }
        _ => return Ok(None),
    }))
}

/// `stamp` moved by `amount` units: by the calendar for days and longer ones where there is a zone, else by its length.
fn shifted<'e>(stamp: &Stamp, zone: Option<&NamedZone>, unit: &str, amount: &Val<'e>, back: bool) -> Eval<'e> {
    let amount = match super::ops::cast(amount.clone(), super::ast::Type::Long, false)? {
        Val::Long(amount) => amount,
        _ => i64::from(int_of(amount)?),
    };
    let amount = i128::from(if back { amount.wrapping_neg() } else { amount });
    let Some((_, name, length)) = UNITS.iter().find(|(_, name, _)| *name == unit) else {
        return throw(Class::UnsupportedOperationException, format!("Unsupported unit: {unit}"));
    };
    let Some(zone) = zone else {
        if *length == 0 || *length > 86_400 * NANOS {
            return throw(Class::UnsupportedOperationException, format!("Unsupported unit: {name}"));
        }
        return stamp_of(nanos_of(stamp).saturating_add(amount.saturating_mul(*length)))
            .map(|stamp| Val::object(Obj::Instant(stamp)));
    };
    if (1..86_400 * NANOS).contains(length) {
        return zoned(stamp_of(nanos_of(stamp).saturating_add(amount.saturating_mul(*length)))?, zone.clone());
    }
    let most = i128::from(YEARS_MAX) * 366;
    if amount.abs() > most {
        return beyond();
    }
    let (local, amount) = (stamp.local(), amount as i64);
    let moved = match *name {
        "Days" => days_later(&local, amount),
        "Weeks" => days_later(&local, amount * 7),
        "Months" => months_later(&local, amount),
        _ => months_later(&local, amount * 12),
    };
    if i64::from(moved.year).abs() > YEARS_MAX {
        return beyond();
    }
    match zone.zone.at(&moved) {
        Some(stamp) => Ok(Val::object(Obj::Zoned(stamp, zone.clone()))),
        None => beyond(),
    }
}

fn days_later(local: &Local, days: i64) -> Local {
    Local::of_seconds(local.seconds() + days * 86_400, local.nano)
}

fn months_later(local: &Local, months: i64) -> Local {
    let all = i64::from(local.year) * 12 + i64::from(local.month) - 1 + months;
    let (year, month) = (all.div_euclid(12) as i32, (all.rem_euclid(12) + 1) as u8);
    Local { year, month, day: local.day.min(days_in_month(year, month)), ..*local }
}
