//! `2026-11-22T08:15:30.123456789+01:00` → milliseconds since 1970. Pure.

/// Milliseconds since 1970 of an RFC 3339 time; `None` if it is none.
///
/// Shape: a fraction of any length or none; `Z`, `+01:00` or `+0100`; `t` and `z` may be small. A leap second is the
/// second before it.
pub(super) fn timestamp_ms(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(19)?;
    let separators = [date[4], date[7], date[10].to_ascii_uppercase(), date[13], date[16]];
    if separators != *b"--T::" {
        return None;
    }
    let (year, month, day) = (number(&date[..4])?, number(&date[5..7])?, number(&date[8..10])?);
    let (hour, minute, second) = (number(&date[11..13])?, number(&date[14..16])?, number(&date[17..])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (mut ms, mut zone) = (0, rest);
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, rest) = fraction.split_at(digits);
        if fraction.is_empty() {
            return None;
        }
        let digit = |at: usize| fraction.get(at).map_or(0, |byte| i64::from(byte - b'0'));
        (ms, zone) = (digit(0) * 100 + digit(1) * 10 + digit(2), rest);
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second.min(59);
    Some((seconds - zone_seconds(zone)?) * 1_000 + ms)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn zone_seconds(zone: &[u8]) -> Option<i64> {
    if matches!(zone, b"Z" | b"z") {
        return Some(0);
    }
    let (sign, hours, minutes) = match zone {
        [sign, h, i, b':', m, n] | [sign, h, i, m, n] => (sign, number(&[*h, *i])?, number(&[*m, *n])?),
        _ => return None,
    };
    let seconds = (hours < 24 && minutes < 60).then_some(hours * 3_600 + minutes * 60)?;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(timestamp_ms(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn times_with_any_zone_and_fraction() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2023-11-14T22:13:20.123Z", Some(1_700_000_000_123));
        check("2023-11-14t22:13:20.123456789z", Some(1_700_000_000_123));
        check("2023-11-14T23:43:20.1+01:30", Some(1_700_000_000_100));
        check("2023-11-14T14:13:20-0800", Some(1_700_000_000_000));
        check("1969-12-31T23:59:59.999Z", Some(-1));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000));
        check("2016-12-31T23:59:60Z", Some(1_483_228_799_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "2023-11-14", "2023-11-14 22:13:20Z", "2023-02-29T00:00:00Z", "2023-13-01T00:00:00Z"] {
            check(text, None);
        }
        for text in
            ["2023-11-14T22:13:20", "2023-11-14T22:13:20.Z", "2023-11-14T24:00:00Z", "2023-11-14T22:13:20*01:00"]
        {
            check(text, None);
        }
    }
}
