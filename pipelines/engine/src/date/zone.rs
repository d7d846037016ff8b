//! Time zones as Java's `ZoneId.of` names them: `UTC`, `+02:00`, `GMT-3`, `Europe/Berlin`.

use super::{Local, Stamp};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Largest offset that Java knows, in seconds.
const OFFSET_MAX: i32 = 18 * 3600;

/// Seconds of 400 years.
const CYCLE: i64 = 146_097 * 86_400;

/// A rule that gives the offset from UTC.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Zone {
    /// Seconds east of UTC, always.
    Fixed(i32),
    /// A region with its history.
    Region(TimeZone),
}

impl Zone {
    pub(crate) const UTC: Self = Self::Fixed(0);

    /// Parses a zone id.
    pub(crate) fn parse(id: &str) -> Result<Self, String> {
        let unknown = || format!("Unknown time-zone ID: {id}");
        for prefix in ["", "UTC", "GMT", "UT"] {
            match id.strip_prefix(prefix) {
                Some("") if !prefix.is_empty() => return Ok(Self::UTC),
                Some("Z") if prefix.is_empty() => return Ok(Self::UTC),
                Some(rest) if rest.starts_with(['+', '-']) => {
                    return whole_offset(rest).map(Self::Fixed).ok_or_else(unknown);
                }
                _ => {}
            }
        }
        TimeZone::get(id).map(Self::Region).map_err(|_| unknown())
    }

    /// True for the ids that Java takes for UTC's offset itself (`Z`, `+00:00`), not for a region of that name.
    pub(crate) fn is_utc_offset(id: &str) -> bool {
        id == "Z" || id.starts_with(['+', '-']) && whole_offset(id) == Some(0)
    }

    /// A zone's id as Java writes it: an offset has two digits for its hours and for its minutes.
    pub(crate) fn java_id(id: &str) -> String {
        let at = id.find(['+', '-']).unwrap_or(id.len());
        let (name, offset) = id.split_at(at);
        match whole_offset(offset).filter(|_| matches!(name, "" | "UTC" | "GMT" | "UT")) {
            Some(0) => name.to_owned(),
            Some(seconds) => {
                let (sign, all) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
                let text = format!("{name}{sign}{:02}:{:02}", all / 3600, all / 60 % 60);
                if all % 60 == 0 { text } else { format!("{text}:{:02}", all % 60) }
            }
            None => id.to_owned(),
        }
    }

    /// Parses an id, or a short name such as `EST`, for which Java takes a region.
    pub(crate) fn parse_name(name: &str) -> Option<Self> {
        let region = SHORT_NAMES.iter().find(|(short, _)| *short == name).map(|(_, region)| *region);
        Self::parse(region.unwrap_or(name)).ok()
    }

    /// The offset in force at an instant.
    pub(crate) fn offset_at(&self, seconds: i64) -> Option<i32> {
        match self {
            Self::Fixed(offset) => Some(*offset),
            Self::Region(zone) => {
                // Behind the years that jiff knows the last rule goes on, by a calendar that is the same every 400 years.
                let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
                let cycles = (seconds - last).max(0).div_euclid(CYCLE) + i64::from(seconds > last);
                let timestamp = Timestamp::from_second((seconds - cycles * CYCLE).max(first)).ok()?;
                Some(zone.to_offset(timestamp).seconds())
            }
        }
    }

    /// The instant of a local time. In a gap it moves on by the gap's length; of two it is the earlier.
    pub(crate) fn at(&self, local: &Local) -> Option<Stamp> {
        match self {
            Self::Fixed(offset) => {
                Some(Stamp { seconds: local.seconds() - i64::from(*offset), nano: local.nano, offset: *offset })
            }
            Self::Region(_) if !(-9998..=9998).contains(&local.year) => {
                let offset = self.offset_at(local.seconds())?;
                Self::Fixed(offset).at(local)
            }
            Self::Region(zone) => {
                let date = jiff::civil::Date::new(
                    i16::try_from(local.year).ok()?,
                    i8::try_from(local.month).ok()?,
                    i8::try_from(local.day).ok()?,
                );
                let time = date.ok()?.at(local.hour as i8, local.minute as i8, local.second as i8, 0);
                let timestamp = zone.to_ambiguous_timestamp(time).compatible().ok()?;
                let offset = zone.to_offset(timestamp).seconds();
                Some(Stamp { seconds: timestamp.as_second(), nano: local.nano, offset })
            }
        }
    }
}

/// Short names that logs carry, with the region Java resolves them to.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("AKDT", "America/Anchorage"),
    ("AKST", "America/Anchorage"),
    ("BST", "Europe/London"),
    ("CDT", "America/Chicago"),
    ("CEST", "Europe/Paris"),
    ("CET", "Europe/Paris"),
    ("CST", "America/Chicago"),
    ("EDT", "America/New_York"),
    ("EEST", "Europe/Bucharest"),
    ("EET", "Europe/Bucharest"),
    ("EST", "America/New_York"),
    ("HST", "Pacific/Honolulu"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("KST", "Asia/Seoul"),
    ("MDT", "America/Denver"),
    ("MSK", "Europe/Moscow"),
    ("MST", "America/Denver"),
    ("PDT", "America/Los_Angeles"),
    ("PST", "America/Los_Angeles"),
    ("SGT", "Asia/Singapore"),
    ("WEST", "Europe/Lisbon"),
    ("WET", "Europe/Lisbon"),
];

/// `+h`, `+hh`, `+hhmm`, `+hh:mm`, `+hhmmss`, `+hh:mm:ss`, and nothing after it.
fn whole_offset(text: &str) -> Option<i32> {
    let (negative, digits) = match text.as_bytes().split_first()? {
        (b'+', digits) => (false, digits),
        (b'-', digits) => (true, digits),
        _ => return None,
    };
    let digit = |at: usize| digits.get(at).filter(|byte| byte.is_ascii_digit()).map(|byte| i32::from(byte - b'0'));
    let two = |at: usize| Some(digit(at)? * 10 + digit(at + 1)?);
    let colon = |at: usize| digits.get(at) == Some(&b':');
    let (hours, minutes, seconds) = match digits.len() {
        1 => (digit(0)?, 0, 0),
        2 => (two(0)?, 0, 0),
        4 => (two(0)?, two(2)?, 0),
        5 if colon(2) => (two(0)?, two(3)?, 0),
        6 => (two(0)?, two(2)?, two(4)?),
        8 if colon(2) && colon(5) => (two(0)?, two(3)?, two(6)?),
        _ => return None,
    };
    offset_of(negative, hours, minutes, seconds)
}

/// Seconds east of UTC, within Java's bounds.
pub(crate) fn offset_of(negative: bool, hours: i32, minutes: i32, seconds: i32) -> Option<i32> {
    let offset = hours * 3600 + minutes * 60 + seconds;
    let fits = hours <= 18 && minutes < 60 && seconds < 60 && offset <= OFFSET_MAX;
    fits.then_some(if negative { -offset } else { offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_java() {
        for (id, offset) in
            [("UTC", 0), ("Z", 0), ("+2", 7200), ("-03:30", -12_600), ("GMT+0100", 3600), ("UTC-05:00", -18_000)]
        {
            assert_eq!(Zone::parse(id), Ok(Zone::Fixed(offset)), "{id}");
        }
        for id in ["", "+19", "Mars/Olympus", "+1:00", "UTC+"] {
            assert_eq!(Zone::parse(id), Err(format!("Unknown time-zone ID: {id}")));
        }
    }

    #[test]
    fn gaps_and_overlaps_are_resolved_as_java_does() {
        let berlin = Zone::parse("Europe/Berlin").expect("the time zone database");
        let at = |month, day, hour, minute| {
            let stamp = berlin.at(&Local { hour, minute, ..Local::day(2024, month, day) }).expect("in range");
            (stamp.local().hour, stamp.offset)
        };
        assert_eq!(at(3, 31, 2, 30), (3, 7200));
        assert_eq!(at(10, 27, 2, 30), (2, 7200));
        assert_eq!(at(1, 1, 12, 0), (12, 3600));
    }
}
