//! A text and the items of a pattern in, a [`Stamp`] out: Java's parser and resolver.

use super::pattern::{Field, Item, MONTHS, Minutes, Name, Offset, SHORT_CHARS, Sign, WEEKDAYS};
use super::zone::{Zone, offset_of};
use super::{Local, Stamp, civil_of, days_in_month, days_of, is_leap, weekday_of};

/// What was read, before it is made sense of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parsed {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    weekday: Option<i64>,
    hour: Option<i64>,
    hour12: Option<i64>,
    afternoon: Option<bool>,
    before_christ: bool,
    proleptic: bool,
    minute: Option<i64>,
    second: Option<i64>,
    nano: Option<i64>,
    milli_of_day: Option<i64>,
    nano_of_day: Option<i64>,
    offset: Option<i32>,
    zone: Option<Zone>,
}

/// What fills in what a text leaves out.
#[derive(Debug)]
pub(crate) struct Defaults<'z> {
    /// The zone of local times, and the zone of the result.
    pub(crate) zone: &'z Zone,
    /// True unless a zone was asked for. Only then an offset in the text counts, and the result is in UTC: so does the
    /// original, which calls the other case a wrong date.
    pub(crate) to_utc: bool,
    /// Year and month of the time of ingestion, for texts without a year.
    pub(crate) now: (i32, u8),
}

impl Defaults<'_> {
    /// The year of a text without one: this one. Around New Year it is the one before for December in January, and the
    /// next one for January in December: lines are late, and clocks differ.
    fn year_of(&self, month: u8) -> i32 {
        match (self.now, month) {
            ((year, 1), 12) => year - 1,
            ((year, 12), 1) => year + 1,
            ((year, _), _) => year,
        }
    }
}

/// Reads all of `text`. Errors are the innermost ones of Java's.
pub(crate) fn read(items: &[Item], text: &str, defaults: &Defaults<'_>) -> Result<Stamp, String> {
    let mut parsed = Parsed::default();
    let end = read_items(items, text.as_bytes(), 0, &mut parsed).map_err(|at| no_fit(text, at))?;
    if end < text.len() {
        return Err(unparsed(text, end));
    }
    resolve(&parsed, defaults)
}

/// Characters of a text that errors show.
const SHOWN_MAX: usize = 64;

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The place of a byte as Java counts.
fn place(text: &str, at: usize) -> usize {
    text.get(..at).map_or(at, |before| before.encode_utf16().count())
}

/// The text does not fit from the byte `at` on.
pub(super) fn no_fit(text: &str, at: usize) -> String {
    format!("Text '{}' could not be parsed at index {}", shown(text), place(text, at))
}

/// The text goes on at the byte `at`, where it should end.
pub(super) fn unparsed(text: &str, at: usize) -> String {
    format!("Text '{}' could not be parsed, unparsed text found at index {}", shown(text), place(text, at))
}

/// Reads `items` from `at` on. Returns where the text goes on, or where it does not fit.
fn read_items(items: &[Item], text: &[u8], mut at: usize, parsed: &mut Parsed) -> Result<usize, usize> {
    for item in items {
        at = match item {
            Item::Literal(literal) if text[at..].starts_with(literal.as_bytes()) => at + literal.len(),
            Item::Literal(_) => return Err(at),
            Item::Number { field, min, max, sign, reserved } => {
                let (value, end) = number(text, at, (*min, *max), *sign, *reserved).ok_or(at)?;
                if !parsed.put(*field, value) {
                    return Err(at);
                }
                end
            }
            Item::Reduced { reserved } => {
                let (value, end) = number(text, at, (2, 2), Sign::Never, *reserved).ok_or(at)?;
                parsed.year = Some(2000 + value);
                end
            }
            Item::Text { name, full } => parsed.name(text, at, *name, *full).ok_or(at)?,
            Item::Fraction { digits } => {
                let (value, end) = number(text, at, (*digits, *digits), Sign::Never, 0).ok_or(at)?;
                parsed.nano = Some(value * 10_i64.pow(9 - *digits as u32));
                end
            }
            Item::Offset(form) => {
                let (offset, end) = offset(text, at, form).ok_or(at)?;
                parsed.offset = Some(offset);
                end
            }
            Item::LocalizedOffset { full } => {
                let (offset, end) = localized_offset(text, at, *full).ok_or(at)?;
                parsed.offset = Some(offset);
                end
            }
            Item::ZoneName | Item::ZoneId => parsed.zone_at(text, at, *item == Item::ZoneName).ok_or(at)?,
            Item::Optional(inner) => {
                let mut tried = parsed.clone();
                match read_items(inner, text, at, &mut tried) {
                    Ok(end) => {
                        *parsed = tried;
                        end
                    }
                    Err(_) => at,
                }
            }
        };
    }
    Ok(at)
}

/// Java's `NumberPrinterParser.parse`, strict.
fn number(text: &[u8], start: usize, (min, max): (usize, usize), sign: Sign, reserved: usize) -> Option<(i64, usize)> {
    let (negative, positive) = match text.get(start) {
        Some(b'-') if sign != Sign::Never => (true, false),
        Some(b'+') if sign == Sign::Exceeds => (false, true),
        _ => (false, false),
    };
    let first = start + usize::from(negative | positive);
    let digits = |most: usize| text[first..].iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    let mut count = digits(max.saturating_add(reserved));
    if reserved > 0 {
        // The fields right after need theirs.
        count = digits(min.max(count.saturating_sub(reserved)));
    }
    if count < min || (positive && count <= min) || (sign == Sign::Exceeds && !positive && !negative && count > min) {
        return None;
    }
    let mut value = 0_i64;
    for byte in &text[first..first + count] {
        value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
    }
    if negative && value == 0 {
        return None;
    }
    Some((if negative { -value } else { value }, first + count))
}

fn two(text: &[u8], at: usize) -> Option<i32> {
    let digit = |at: usize| text.get(at).filter(|byte| byte.is_ascii_digit()).map(|byte| i32::from(byte - b'0'));
    Some(digit(at)? * 10 + digit(at + 1)?)
}

fn offset(text: &[u8], at: usize, form: &Offset) -> Option<(i32, usize)> {
    let zero = text.get(at..).is_some_and(|rest| rest.starts_with(form.zero.as_bytes()));
    let negative = match text.get(at) {
        Some(b'+') => false,
        Some(b'-') => true,
        _ => return zero.then(|| (0, at + form.zero.len())),
    };
    let hours = two(text, at + 1)?;
    let mut end = at + 3;
    let part = |end: usize| {
        let digits = end + usize::from(form.colon);
        if form.colon && text.get(end) != Some(&b':') {
            return None;
        }
        Some((two(text, digits)?, digits + 2))
    };
    let mut minutes = 0;
    match part(end) {
        Some((value, after)) => (minutes, end) = (value, after),
        None if form.minutes == Minutes::Always => return None,
        None => {}
    }
    let mut seconds = 0;
    if form.seconds
        && let Some((value, after)) = part(end)
    {
        (seconds, end) = (value, after);
    }
    Some((offset_of(negative, hours, minutes, seconds)?, end))
}

fn localized_offset(text: &[u8], at: usize, full: bool) -> Option<(i32, usize)> {
    let after = at + 3;
    if text.get(at..after)? != b"GMT" {
        return None;
    }
    if !matches!(text.get(after), Some(b'+' | b'-')) {
        return Some((0, after));
    }
    if full {
        return offset(text, after, &Offset { colon: true, minutes: Minutes::Always, seconds: true, zero: "" });
    }
    let digits = text[after + 1..].iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
    let hours = text.get(after + 1..after + 1 + digits)?.iter().fold(0, |sum, byte| sum * 10 + i32::from(byte - b'0'));
    let mut end = after + 1 + digits;
    let mut minutes = 0;
    if text.get(end) == Some(&b':') {
        minutes = two(text, end + 1)?;
        end += 3;
    }
    (digits > 0).then_some(())?;
    Some((offset_of(text[after] == b'-', hours, minutes, 0)?, end))
}

impl Parsed {
    /// Keeps a field's value; false if another value stands there.
    fn put(&mut self, field: Field, value: i64) -> bool {
        self.proleptic |= field == Field::Year;
        let (place, value) = match field {
            Field::Year | Field::YearOfEra => (&mut self.year, value),
            Field::Month => (&mut self.month, value),
            Field::Day => (&mut self.day, value),
            Field::DayOfYear => (&mut self.day_of_year, value),
            Field::Hour => (&mut self.hour, value),
            Field::ClockHour => (&mut self.hour, if value == 24 { 0 } else { value }),
            Field::Hour12 => (&mut self.hour12, value),
            Field::ClockHour12 => (&mut self.hour12, if value == 12 { 0 } else { value }),
            Field::Minute => (&mut self.minute, value),
            Field::Second => (&mut self.second, value),
            Field::Nano => (&mut self.nano, value),
            Field::MilliOfDay => (&mut self.milli_of_day, value),
            Field::NanoOfDay => (&mut self.nano_of_day, value),
            Field::Weekday => (&mut self.weekday, (value + 5).rem_euclid(7) + 1), // Sunday first, as in the USA.
        };
        *place.get_or_insert(value) == value
    }

    fn name(&mut self, text: &[u8], at: usize, name: Name, full: bool) -> Option<usize> {
        let rest = text.get(at..)?;
        let find = |names: &[&str]| {
            let shown = |name: &&str| if full { name.len() } else { name.len().min(SHORT_CHARS) };
            let found = names.iter().position(|name| rest.starts_with(&name.as_bytes()[..shown(name)]))?;
            Some((found as i64 + 1, at + shown(&names[found])))
        };
        let (found, end) = match name {
            Name::Month => find(&MONTHS)?,
            Name::Weekday => find(&WEEKDAYS)?,
            Name::HalfDay => find(&["AM", "PM"])?,
            Name::Era if full => find(&["Before Christ", "Anno Domini"])?,
            Name::Era => find(&["BC", "AD"])?,
        };
        match name {
            Name::Month => self.month = Some(found),
            Name::Weekday => self.weekday = Some(found),
            Name::HalfDay => self.afternoon = Some(found == 2),
            Name::Era => self.before_christ = found == 1,
        }
        Some(end)
    }

    fn zone_at(&mut self, text: &[u8], at: usize, names: bool) -> Option<usize> {
        let rest = text.get(at..)?;
        let belongs = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'+' | b'-' | b':');
        let length = rest.iter().take_while(belongs).count();
        let id = std::str::from_utf8(rest.get(..length)?).ok()?;
        self.zone = Some(if names { Zone::parse_name(id)? } else { Zone::parse(id).ok()? });
        Some(at + length)
    }
}

pub(super) fn in_range(value: i64, low: i64, high: i64, name: &str) -> Result<i64, String> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(format!("Invalid value for {name} (valid values {low} - {high}): {value}"))
}

/// Errors: there is no such day in the month.
pub(super) fn check_day(year: i32, month: u8, day: u8) -> Result<(), String> {
    if !(1..=31).contains(&day) {
        return Err(no_day(day.into()));
    }
    match day > days_in_month(year, month) {
        true if day == 29 => Err(format!("Invalid date 'February 29' as '{year}' is not a leap year")),
        true => Err(format!("Invalid date '{} {day}'", MONTHS[usize::from(month) - 1].to_uppercase())),
        false => Ok(()),
    }
}

fn no_day(day: i64) -> String {
    format!("Invalid value for DayOfMonth (valid values 1 - 28/31): {day}")
}

/// The time of day. `None` if the text holds none.
fn time_of(parsed: &Parsed) -> Result<Option<Local>, String> {
    let nanos = match (parsed.nano_of_day, parsed.milli_of_day) {
        (Some(nanos), _) => Some(in_range(nanos, 0, 86_399_999_999_999, "NanoOfDay")?),
        (None, Some(millis)) => Some(in_range(millis, 0, 86_399_999, "MilliOfDay")? * 1_000_000),
        (None, None) => None,
    };
    if let Some(nanos) = nanos {
        return Ok(Some(Local::of_seconds(nanos / 1_000_000_000, (nanos % 1_000_000_000) as u32)));
    }
    if let Some(hour12) = parsed.hour12 {
        in_range(hour12, 0, 11, "HourOfAmPm")?;
    }
    let from_half = || Some(parsed.hour12? + if parsed.afternoon? { 12 } else { 0 });
    let Some(hour) = parsed.hour.or_else(from_half) else { return Ok(None) };
    let (minute, second, nano) = (parsed.minute.unwrap_or(0), parsed.second.unwrap_or(0), parsed.nano.unwrap_or(0));
    if parsed.minute.is_none() && (parsed.second.is_some() || parsed.nano.is_some()) {
        return Ok(None);
    }
    let local = Local {
        hour: in_range(hour, 0, 23, "HourOfDay")? as u8,
        minute: in_range(minute, 0, 59, "MinuteOfHour")? as u8,
        second: in_range(second, 0, 59, "SecondOfMinute")? as u8,
        nano: in_range(nano, 0, 999_999_999, "NanoOfSecond")? as u32,
        ..Local::day(1970, 1, 1)
    };
    Ok(Some(local))
}

/// The day, first of the year or month if the text says no more. `None` without a year.
fn day_of(parsed: &Parsed) -> Result<Option<(i32, u8, u8)>, String> {
    let month = parsed.month.map(|month| in_range(month, 1, 12, "MonthOfYear")).transpose()?;
    if let Some(day) = parsed.day.filter(|day| !(1..=31).contains(day)) {
        return Err(no_day(day));
    }
    let day = parsed.day;
    let Some(year) = parsed.year else { return Ok(None) };
    let year = in_range(year, -999_999_999, 999_999_999, "Year")? as i32;
    let year = if parsed.before_christ { 1 - year } else { year };
    let found = match (month, day, parsed.day_of_year) {
        (None, None, Some(nth)) => {
            let nth = in_range(nth, 1, 366, "DayOfYear")?;
            if nth == 366 && !is_leap(year) {
                return Err(format!("Invalid date 'DayOfYear 366' as '{year}' is not a leap year"));
            }
            civil_of(days_of(year, 1, 1) + nth - 1)
        }
        (month, day, _) => {
            let month = month.unwrap_or(1) as u8;
            let day = if parsed.month.is_some() { day.unwrap_or(1) as u8 } else { 1 };
            check_day(year, month, day)?;
            (year, month, day)
        }
    };
    // The original resolves a date, and so looks at its weekday, only if the year is a proleptic one (`uuuu`).
    if let (Some(weekday), true) = (parsed.weekday, parsed.proleptic) {
        let derived = weekday_of(days_of(found.0, found.1, found.2));
        if i64::from(derived) != weekday && parsed.day.is_some() {
            let name = |day: usize| WEEKDAYS[(day - 1) % 7].to_uppercase();
            return Err(format!(
                "Conflict found: Field DayOfWeek {} differs from DayOfWeek {} derived from {:04}-{:02}-{:02}",
                name(weekday as usize),
                name(usize::from(derived)),
                found.0,
                found.1,
                found.2
            ));
        }
    }
    Ok(Some(found))
}

fn resolve(parsed: &Parsed, defaults: &Defaults<'_>) -> Result<Stamp, String> {
    // The original resolves a date at once only if the year is a proleptic one (`uuuu`), else after the time of day.
    let (time, day) = match parsed.proleptic {
        true => {
            let day = day_of(parsed)?;
            (time_of(parsed)?, day)
        }
        false => (time_of(parsed)?, day_of(parsed)?),
    };
    let beyond = || "the instant is beyond the years that are supported".to_owned();
    let Some((year, month, day)) = day else {
        // Without a year the text's own zone is not looked at, as in the original.
        let month = parsed.month.unwrap_or(1) as u8;
        let year = defaults.year_of(month);
        let day = (parsed.day.unwrap_or(1) as u8).min(days_in_month(year, month));
        let time = time.unwrap_or(Local::day(1970, 1, 1));
        let local = Local { year, month, day, ..time };
        return defaults.zone.at(&local).ok_or_else(beyond);
    };
    let time = time.unwrap_or(Local::day(1970, 1, 1));
    let local = Local { year, month, day, ..time };
    let stamp = match (&parsed.zone, parsed.offset) {
        (Some(zone), _) => zone.at(&local),
        (None, Some(offset)) if defaults.to_utc => Zone::Fixed(offset).at(&local),
        (None, _) => defaults.zone.at(&local),
    };
    let stamp = stamp.ok_or_else(beyond)?;
    Ok(if defaults.to_utc { Stamp { offset: 0, ..stamp } } else { stamp })
}
