//! Dates as Java's `DateTimeFormatter` reads and writes them, English names only.
//!
//! Arithmetic on civil dates is ours and allocates nothing; `jiff` knows the rules of time zones.

pub(crate) mod format;
pub(crate) mod index_name;
pub(crate) mod iso;
pub(crate) mod pattern;
pub(crate) mod read;
pub(crate) mod write;
pub(crate) mod zone;

pub(crate) use zone::Zone;

/// A day and a time of day, anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) year: i32,
    pub(crate) month: u8,
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
    pub(crate) nano: u32,
}

/// An instant with the offset from UTC under which it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Seconds since 1970 in UTC.
    pub(crate) seconds: i64,
    pub(crate) nano: u32,
    /// Seconds east of UTC.
    pub(crate) offset: i32,
}

impl Local {
    /// Midnight of a day.
    pub(crate) fn day(year: i32, month: u8, day: u8) -> Self {
        Self { year, month, day, hour: 0, minute: 0, second: 0, nano: 0 }
    }

    /// Seconds since 1970, as if it were UTC.
    pub(crate) fn seconds(&self) -> i64 {
        let time = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        days_of(self.year, self.month, self.day) * 86_400 + time
    }

    /// The inverse of [`Local::seconds`].
    pub(crate) fn of_seconds(seconds: i64, nano: u32) -> Self {
        let (year, month, day) = civil_of(seconds.div_euclid(86_400));
        let time = seconds.rem_euclid(86_400);
        let (hour, minute, second) = ((time / 3600) as u8, (time / 60 % 60) as u8, (time % 60) as u8);
        Self { year, month, day, hour, minute, second, nano }
    }
}

impl Stamp {
    /// `millis` since 1970, under `zone`. `None` beyond the years that a zone knows.
    pub(crate) fn of_millis(millis: i64, zone: &Zone) -> Option<Self> {
        let seconds = millis.div_euclid(1000);
        let nano = millis.rem_euclid(1000) as u32 * 1_000_000;
        Some(Self { seconds, nano, offset: zone.offset_at(seconds)? })
    }

    /// The same instant under `zone`.
    pub(crate) fn under(self, zone: &Zone) -> Option<Self> {
        Some(Self { offset: zone.offset_at(self.seconds)?, ..self })
    }

    /// Day and time of day at its offset.
    pub(crate) fn local(&self) -> Local {
        Local::of_seconds(self.seconds + i64::from(self.offset), self.nano)
    }
}

/// Days since 1970-01-01. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub(crate) fn days_of(year: i32, month: u8, day: u8) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let shifted = (i64::from(month) + 9) % 12;
    let of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_of`]: year, month, day.
pub(crate) fn civil_of(days: i64) -> (i32, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * shifted + 2) / 5 + 1) as u8;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u8;
    ((year + era * 400) as i32 + i32::from(month <= 2), month, day)
}

pub(crate) fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Weekday of a day since 1970-01-01: Monday is 1, Sunday 7.
pub(crate) fn weekday_of(days: i64) -> u8 {
    ((days + 3).rem_euclid(7) + 1) as u8
}

/// `_ingest.timestamp`: always with milliseconds, where Java leaves out what is zero.
pub(crate) fn java_timestamp(now_ms: i64) -> compact_str::CompactString {
    let local = Local::of_seconds(now_ms.div_euclid(1000), now_ms.rem_euclid(1000) as u32 * 1_000_000);
    let mut out = compact_str::CompactString::default();
    write::default_format(&local, 0, &mut out);
    out
}

/// Year and month at `now_ms` in UTC.
pub(crate) fn month_at(now_ms: i64) -> (i32, u8) {
    let (year, month, _) = civil_of(now_ms.div_euclid(86_400_000));
    (year, month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_civil_dates_are_inverse_and_agree_with_jiff() {
        let epoch = jiff::civil::date(1970, 1, 1);
        for days in (-700_000..2_900_000_i64).step_by(97) {
            let (year, month, day) = civil_of(days);
            assert_eq!(days_of(year, month, day), days);
            if let Ok(date) = epoch.checked_add(jiff::Span::new().days(days)) {
                assert_eq!((i32::from(date.year()), date.month() as u8, date.day() as u8), (year, month, day));
                assert_eq!(date.weekday().to_monday_one_offset() as u8, weekday_of(days));
            }
        }
    }
}
