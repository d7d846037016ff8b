//! ISO 8601 as Elasticsearch's `iso8601` and `strict_date_optional_time` read it: year, then as much more as there is.

use super::read::Defaults;
use super::zone::{Zone, offset_of};
use super::{Local, Stamp, days_in_month};

/// Reads `2016-12-07T11:05:07.123+01:00`, or any beginning of it that ends at a part's end.
pub(crate) fn read(text: &str, defaults: &Defaults<'_>) -> Option<Stamp> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let mut local = Local::day(i32::try_from(reader.digits(4)?).ok()?, 1, 1);
    let mut zone = None;
    if reader.skip(b'-') {
        local.month = reader.in_range(1, 12)?;
        if reader.skip(b'-') {
            local.day = reader.in_range(1, days_in_month(local.year, local.month))?;
        }
    }
    if reader.skip(b'T') {
        time(&mut reader, &mut local)?;
        if reader.at < reader.text.len() {
            zone = Some(reader.zone()?);
        }
    }
    if reader.at < reader.text.len() {
        return None;
    }
    match zone {
        None => defaults.zone.at(&local),
        Some(zone) => zone.at(&local)?.under(defaults.zone),
    }
}

fn time(reader: &mut Reader<'_>, local: &mut Local) -> Option<()> {
    if reader.at == reader.text.len() {
        return Some(()); // `2016-12-07T` is read.
    }
    local.hour = reader.in_range(0, 23)?;
    if !reader.skip(b':') {
        return Some(());
    }
    local.minute = reader.in_range(0, 59)?;
    if !reader.skip(b':') {
        return Some(());
    }
    local.second = reader.in_range(0, 59)?;
    if reader.skip(b'.') || reader.skip(b',') {
        let digits = reader.text[reader.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > 9 {
            return None;
        }
        local.nano = reader.digits(digits)? * 10_u32.pow(9 - digits as u32);
    }
    Some(())
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
        self.at += count;
        digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    }

    fn in_range(&mut self, low: u8, high: u8) -> Option<u8> {
        let value = u8::try_from(self.digits(2)?).ok()?;
        (low..=high).contains(&value).then_some(value)
    }

    /// `Z`, `+01`, `+0100`, `+01:00`, with seconds if there are.
    fn zone(&mut self) -> Option<Zone> {
        if self.skip(b'Z') {
            return Some(Zone::UTC);
        }
        let negative = match self.text.get(self.at)? {
            b'+' => false,
            b'-' => true,
            _ => return None,
        };
        self.at += 1;
        let mut parts = [0_i32; 3];
        for (nth, part) in parts.iter_mut().enumerate() {
            if nth > 0 && !self.skip(b':') && self.at == self.text.len() {
                break;
            }
            *part = self.digits(2)? as i32;
        }
        offset_of(negative, parts[0], parts[1], parts[2]).map(Zone::Fixed)
    }
}
