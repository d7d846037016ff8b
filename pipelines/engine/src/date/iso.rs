//! ISO 8601 as Elasticsearch's `iso8601` and `strict_date_optional_time` read it: year, then as much more as there is.

use super::read::{Defaults, check_day, in_range, no_fit, unparsed};
use super::zone::{Zone, offset_of};
use super::{Local, Stamp};

/// Reads `2016-12-07T11:05:07.123+01:00`, or any beginning of it that ends at a part's end.
///
/// Errors: Java's innermost one. Each part may be left out with those behind it, so that a text is read up to the first
/// part that does not fit; what a part says is looked at afterwards.
pub(crate) fn read(text: &str, defaults: &Defaults<'_>) -> Result<Stamp, String> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let parts = reader.parts().ok_or_else(|| no_fit(text, 0))?;
    if reader.at < text.len() {
        return Err(unparsed(text, reader.at));
    }
    let local = parts.local()?;
    let stamp = match parts.zone {
        None => defaults.zone.at(&local),
        Some(zone) => zone.at(&local).and_then(|stamp| stamp.under(defaults.zone)),
    };
    stamp.ok_or_else(|| "the instant is beyond the years that are supported".to_owned())
}

/// What was read, before it is made sense of.
#[derive(Debug)]
struct Parts {
    year: i32,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    nano: u32,
    zone: Option<Zone>,
}

impl Parts {
    fn local(&self) -> Result<Local, String> {
        in_range(self.month.into(), 1, 12, "MonthOfYear")?;
        check_day(self.year, self.month, self.day)?;
        in_range(self.hour.into(), 0, 23, "HourOfDay")?;
        in_range(self.minute.into(), 0, 59, "MinuteOfHour")?;
        in_range(self.second.into(), 0, 59, "SecondOfMinute")?;
        let day = Local::day(self.year, self.month, self.day);
        Ok(Local { hour: self.hour, minute: self.minute, second: self.second, nano: self.nano, ..day })
    }
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self, byte: u8) -> bool {
        let there = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(there);
        there
    }

    fn digits(&mut self, count: usize) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + count)?;
        let value =
            digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))?;
        self.at += count;
        Some(value)
    }

    /// `behind` and two digits. Where they are not there, nothing is read.
    fn part(&mut self, behind: Option<u8>) -> Option<u8> {
        let before = self.at;
        if behind.is_none_or(|byte| self.skip(byte))
            && let Some(value) = self.digits(2)
        {
            return u8::try_from(value).ok();
        }
        self.at = before;
        None
    }

    /// `None` if there is no year of four digits.
    fn parts(&mut self) -> Option<Parts> {
        let year = i32::try_from(self.digits(4)?).ok()?;
        if self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let mut parts = Parts { year, month: 1, day: 1, hour: 0, minute: 0, second: 0, nano: 0, zone: None };
        if let Some(month) = self.part(Some(b'-')) {
            parts.month = month;
            parts.day = self.part(Some(b'-')).unwrap_or(1);
        }
        if self.skip(b'T') {
            if let Some(hour) = self.part(None) {
                parts.hour = hour;
                self.behind_hour(&mut parts);
            }
            parts.zone = self.zone();
        }
        Some(parts)
    }

    fn behind_hour(&mut self, parts: &mut Parts) {
        let Some(minute) = self.part(Some(b':')) else { return };
        parts.minute = minute;
        let Some(second) = self.part(Some(b':')) else { return };
        parts.second = second;
        let before = self.at;
        if self.skip(b'.') || self.skip(b',') {
            let digits = self.text[self.at..].iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
            match self.digits(digits) {
                Some(fraction) if digits > 0 => parts.nano = fraction * 10_u32.pow(9 - digits as u32),
                _ => self.at = before,
            }
        }
    }

    /// `Z`, `+01`, `+0100`, `+01:00`, with seconds if there are, or a zone's name. Where there is none, nothing is read.
    fn zone(&mut self) -> Option<Zone> {
        let before = self.at;
        let zone = match self.text.get(self.at)? {
            b'Z' => {
                self.at += 1;
                Some(Zone::UTC)
            }
            sign @ (b'+' | b'-') => {
                self.at += 1;
                self.offset(*sign == b'-')
            }
            byte if byte.is_ascii_alphabetic() => {
                let name = std::str::from_utf8(&self.text[self.at..]).ok();
                self.at = self.text.len();
                name.and_then(|name| Zone::parse(name).ok())
            }
            _ => None,
        };
        if zone.is_none() {
            self.at = before;
        }
        zone
    }

    /// Behind the sign. With colons minutes have to follow hours; without them an hour alone is read where they do not fit.
    fn offset(&mut self, negative: bool) -> Option<Zone> {
        let hours = self.part(None)?;
        let behind_hours = self.at;
        let colon = self.text.get(self.at) == Some(&b':');
        let (mut minutes, mut seconds) = (0, 0);
        if let Some(value) = self.part(colon.then_some(b':')) {
            minutes = value;
            seconds = self.part(colon.then_some(b':')).unwrap_or(0);
        }
        let whole = offset_of(negative, hours.into(), minutes.into(), seconds.into());
        if whole.is_none() && self.at > behind_hours {
            self.at = behind_hours; // What follows is then text that is left.
            return Some(Zone::UTC);
        }
        whole.map(Zone::Fixed)
    }
}
