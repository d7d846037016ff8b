//! A [`Stamp`] and the items of a pattern in, text out.

use super::pattern::{Field, Item, MONTHS, Minutes, Name, Offset, SHORT_CHARS, WEEKDAYS};
use super::{Local, Stamp, days_of, weekday_of};
use compact_str::CompactString;
use std::fmt::Write;

/// Appends `stamp` as `items` say.
pub(crate) fn write(items: &[Item], stamp: &Stamp, out: &mut CompactString) {
    write_items(items, &stamp.local(), stamp.offset, out);
}

fn write_items(items: &[Item], local: &Local, offset: i32, out: &mut CompactString) {
    for item in items {
        match item {
            Item::Literal(text) => out.push_str(text),
            Item::Number { field, min, .. } => padded(field_of(*field, local), *min, out),
            Item::Reduced { .. } => padded(i64::from(local.year.rem_euclid(100)), 2, out),
            Item::Text { name, full } => {
                let name = name_of(*name, *full, local);
                out.push_str(if *full { name } else { name.get(..SHORT_CHARS).unwrap_or(name) });
            }
            Item::Fraction { digits } => padded(i64::from(local.nano) / 10_i64.pow(9 - *digits as u32), *digits, out),
            Item::Offset(form) => write_offset(offset, form, out),
            Item::LocalizedOffset { full } => {
                out.push_str("GMT");
                if offset != 0 {
                    let form = Offset { colon: true, minutes: Minutes::Always, seconds: false, zero: "" };
                    let form = if *full { form } else { Offset { minutes: Minutes::IfNotZero, ..form } };
                    write_offset(offset, &form, out);
                }
            }
            // The zone's name is not kept: an instant has an offset.
            Item::ZoneName | Item::ZoneId if offset == 0 => out.push_str("UTC"),
            Item::ZoneName | Item::ZoneId => {
                write_offset(offset, &Offset { colon: true, minutes: Minutes::Always, seconds: false, zero: "Z" }, out);
            }
            Item::Optional(inner) => write_items(inner, local, offset, out),
        }
    }
}

/// `yyyy-MM-dd'T'HH:mm:ss.SSSXXX`, which nearly all dates are written as.
pub(crate) fn default_format(local: &Local, offset: i32, out: &mut CompactString) {
    let mut text = *b"0000-00-00T00:00:00.000";
    put(&mut text[0..4], local.year.unsigned_abs());
    let parts = [local.month, local.day, local.hour, local.minute, local.second];
    for (place, value) in text[5..].chunks_mut(3).zip(parts) {
        put(&mut place[..2], u32::from(value));
    }
    put(&mut text[20..], local.nano / 1_000_000);
    let text = std::str::from_utf8(&text).unwrap_or_default();
    if (1..=9999).contains(&local.year) {
        out.push_str(text);
    } else {
        padded(field_of(Field::YearOfEra, local), 4, out);
        out.push_str(text.get(4..).unwrap_or_default());
    }
    write_offset(offset, &Offset { colon: true, minutes: Minutes::Always, seconds: false, zero: "Z" }, out);
}

/// Fills `place` with the last digits of `value`.
fn put(place: &mut [u8], mut value: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn two_digits(value: u32, out: &mut CompactString) {
    out.push(char::from(b'0' + (value / 10 % 10) as u8));
    out.push(char::from(b'0' + (value % 10) as u8));
}

fn padded(value: i64, width: usize, out: &mut CompactString) {
    if value > 9999 && width == 4 {
        out.push('+'); // A year with more digits than its pattern.
    }
    let sign = if value < 0 { "-" } else { "" };
    write!(out, "{sign}{:0width$}", value.unsigned_abs()).ok();
}

fn field_of(field: Field, local: &Local) -> i64 {
    let seconds = i64::from(local.hour) * 3600 + i64::from(local.minute) * 60 + i64::from(local.second);
    let days = || days_of(local.year, local.month, local.day);
    match field {
        Field::Year => i64::from(local.year),
        Field::YearOfEra if local.year < 1 => 1 - i64::from(local.year),
        Field::YearOfEra => i64::from(local.year),
        Field::Month => i64::from(local.month),
        Field::Day => i64::from(local.day),
        Field::DayOfYear => days() - days_of(local.year, 1, 1) + 1,
        Field::Hour => i64::from(local.hour),
        Field::ClockHour => i64::from(if local.hour == 0 { 24 } else { local.hour }),
        Field::Hour12 => i64::from(local.hour % 12),
        Field::ClockHour12 => i64::from((local.hour + 11) % 12 + 1),
        Field::Minute => i64::from(local.minute),
        Field::Second => i64::from(local.second),
        Field::Nano => i64::from(local.nano),
        Field::MilliOfDay => seconds * 1_000 + i64::from(local.nano) / 1_000_000,
        Field::NanoOfDay => seconds * 1_000_000_000 + i64::from(local.nano),
        Field::Weekday => i64::from(weekday_of(days()) % 7 + 1), // Sunday first, as in the USA.
    }
}

fn name_of(name: Name, full: bool, local: &Local) -> &'static str {
    match name {
        Name::Month => MONTHS[usize::from(local.month.clamp(1, 12) - 1)],
        Name::Weekday => WEEKDAYS[usize::from(weekday_of(days_of(local.year, local.month, local.day)) - 1)],
        Name::HalfDay if local.hour < 12 => "AM",
        Name::HalfDay => "PM",
        Name::Era if full && local.year < 1 => "Before Christ",
        Name::Era if full => "Anno Domini",
        Name::Era if local.year < 1 => "BC",
        Name::Era => "AD",
    }
}

fn write_offset(offset: i32, form: &Offset, out: &mut CompactString) {
    if offset == 0 {
        out.push_str(form.zero);
        return;
    }
    out.push(if offset < 0 { '-' } else { '+' });
    let offset = offset.unsigned_abs();
    let (hours, minutes, seconds) = (offset / 3600, offset / 60 % 60, offset % 60);
    two_digits(hours, out);
    let colon = if form.colon { ":" } else { "" };
    if form.minutes == Minutes::Always || minutes > 0 {
        out.push_str(colon);
        two_digits(minutes, out);
    }
    if form.seconds && seconds > 0 {
        out.push_str(colon);
        two_digits(seconds, out);
    }
}
