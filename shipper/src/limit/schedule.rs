//! `Mon-Fri 08:00-20:00 Asia/Shanghai` → is a plan in force now? Pure: what the clock on the wall of the zone shows decides.
//!
//! Rules are joined by `;` or `,`. A rule has days (`Mon-Fri`, `Sat`; none: every day), hours (`08:00-20:00`, over midnight
//! `22:00-06:00`; none: all day) and a zone. After a `,` days that are left out are those before it, and days without hours have
//! those behind it: `Mon,Wed 08:00-12:00,13:00-17:00`. A rule without a zone has the next one that is written, and without any the
//! host's. On a day on which clocks are changed an hour that is skipped is not in force, and one that comes twice is twice.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, de};
use std::str::FromStr;

/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
const GRAMMAR: &str =
    "expected days, hours and a zone, such as `Mon-Fri 08:00-20:00 Asia/Shanghai`, several joined by `;`";

/// When a plan is in force. YAML: `schedule`.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    text: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    /// Monday first.
    days: [bool; 7],
    /// Minutes of the day; the end is not part of it.
    start: u16,
    end: u16,
    zone: TimeZone,
}

impl Schedule {
    /// True if the plan is in force. Unit: milliseconds since 1970. The answer changes at whole minutes only.
    pub fn is_active(&self, wall_ms: i64) -> bool {
        let Ok(now) = jiff::Timestamp::from_millisecond(wall_ms) else { return false };
        self.rules.iter().any(|rule| rule.is_active(now))
    }
}

impl Rule {
    fn is_active(&self, now: jiff::Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let has = |day: Weekday| self.days[usize::from(day.to_monday_zero_offset().unsigned_abs())];
        let today = local.weekday();
        if self.start < self.end {
            return has(today) && (self.start..self.end).contains(&minute);
        }
        // Over midnight: it belongs to the day on which it begins.
        (has(today) && minute >= self.start) || (has(today.previous()) && minute < self.end)
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A rule as far as it is written.
#[derive(Default)]
struct Sketch {
    days: Option<[bool; 7]>,
    hours: Option<(u16, u16)>,
    zone: Option<TimeZone>,
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut sketches = Vec::new();
        for rule in text.split(';') {
            sketches.extend(sketched(rule)?);
        }
        let (mut zone, mut rules) = (None, Vec::new());
        for Sketch { days, hours, zone: written } in sketches.into_iter().rev() {
            zone = written.or(zone);
            let (start, end) = hours.unwrap_or((0, DAY_MINUTES));
            let zone = zone.clone().unwrap_or_else(TimeZone::system);
            rules.push(Rule { days: days.unwrap_or([true; 7]), start, end, zone });
        }
        rules.reverse();
        Ok(Self { text: text.to_owned(), rules })
    }
}

/// The parts of one rule that commas separate, with what they take from each other.
fn sketched(rule: &str) -> Result<Vec<Sketch>, String> {
    let mut sketches: Vec<Sketch> = Vec::new();
    for part in rule.split(',') {
        let sketch = part_sketch(part)?;
        let is_same_days = sketch.days.is_none() && sketch.hours.is_some();
        let days = if is_same_days { sketches.last().and_then(|last| last.days) } else { sketch.days };
        sketches.push(Sketch { days, ..sketch });
    }
    let mut hours = None;
    for sketch in sketches.iter_mut().rev() {
        hours = sketch.hours.or(hours);
        sketch.hours = hours;
    }
    Ok(sketches)
}

fn part_sketch(part: &str) -> Result<Sketch, String> {
    let mut sketch = Sketch::default();
    for word in part.split_whitespace() {
        if let Some(days) = days(word)? {
            if sketch.days.replace(days).is_some() || sketch.hours.is_some() {
                return Err(format!("`{}`: days stand once, and before the hours: {GRAMMAR}", part.trim()));
            }
        } else if word.starts_with(|c: char| c.is_ascii_digit()) {
            if sketch.hours.replace(hours(word)?).is_some() {
                return Err(format!("`{}`: two hours: join them by `,`: {GRAMMAR}", part.trim()));
            }
        } else if sketch.zone.replace(zone(word)?).is_some() {
            return Err(format!("`{}`: two zones: {GRAMMAR}", part.trim()));
        }
    }
    if sketch.days.is_none() && sketch.hours.is_none() {
        return Err(format!("`{}` names neither days nor hours: {GRAMMAR}", part.trim()));
    }
    Ok(sketch)
}

/// `Mon` or `Mon-Fri`; `None`: the word is something else.
fn days(word: &str) -> Result<Option<[bool; 7]>, String> {
    let number = |name: &str| DAYS.iter().position(|(day, _)| day.eq_ignore_ascii_case(name));
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) => (first, last),
        (Some(_), None) => return Err(format!("`{last}` is no day: Mon, Tue, Wed, Thu, Fri, Sat or Sun")),
        _ => return Ok(None),
    };
    let mut days = [false; 7];
    for step in 0..7 {
        let day = (first + step) % 7;
        days[day] = true;
        if day == last {
            break;
        }
    }
    Ok(Some(days))
}

fn hours(word: &str) -> Result<(u16, u16), String> {
    let minutes = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let (hour, minute) = (
            hour.parse::<u16>().ok().filter(|_| is_number(hour))?,
            minute.parse::<u16>().ok().filter(|_| is_number(minute))?,
        );
        (minute < 60 && hour * 60 + minute <= DAY_MINUTES).then_some(hour * 60 + minute)
    };
    let parsed = word.split_once('-').and_then(|(start, end)| Some((minutes(start)?, minutes(end)?)));
    let Some((start, end)) = parsed.filter(|(start, _)| *start < DAY_MINUTES) else {
        return Err(format!("`{word}` are no hours: 08:00-20:00, 22:00-06:00 over midnight, 00:00-24:00"));
    };
    if start == end {
        return Err(format!("`{word}` is no time at all: for the whole day write 00:00-24:00"));
    }
    Ok((start, end))
}

fn zone(name: &str) -> Result<TimeZone, String> {
    if name.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC); // Also where the host has no table of zones.
    }
    TimeZone::get(name).map_err(|_| {
        format!("`{name}` is neither a day nor a time zone that this host knows (Asia/Shanghai, Europe/Berlin, UTC; package tzdata)")
    })
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `at`: an instant, as RFC 3339.
    #[track_caller]
    fn check(schedule: &str, cases: &[(&str, bool)]) {
        let parsed: Schedule = schedule.parse().unwrap_or_else(|error| panic!("{schedule}: {error}"));
        for (at, is_active) in cases {
            let time: jiff::Timestamp = at.parse().expect("a time");
            assert_eq!(parsed.is_active(time.as_millisecond()), *is_active, "{schedule} at {at}");
        }
    }

    #[track_caller]
    fn refuse(schedule: &str, reason: &str) {
        let error = schedule.parse::<Schedule>().expect_err("is refused");
        assert!(error.contains(reason), "{schedule}: {error}");
    }

    #[test]
    fn days_and_hours_are_those_of_the_zone() {
        check(
            "Mon-Fri 08:00-20:00 Asia/Shanghai",
            &[
                ("2026-11-23T07:59:59+08:00", false), // A Monday.
                ("2026-11-23T08:00:00+08:00", true),
                ("2026-11-27T19:59:59+08:00", true),
                ("2026-11-27T20:00:00+08:00", false),
                ("2026-11-28T12:00:00+08:00", false),
                ("2026-11-22T23:59:59Z", false),
                ("2026-11-23T00:00:00Z", true),
            ],
        );
        check(
            "Sat-Mon UTC",
            &[
                ("2026-11-27T23:59:59Z", false),
                ("2026-11-28T00:00:00Z", true),
                ("2026-11-30T23:59:59Z", true),
                ("2026-12-01T00:00:00Z", false),
            ],
        );
        check("00:00-24:00 UTC", &[("2026-11-28T23:59:59Z", true), ("2026-11-29T00:00:00Z", true)]);
    }

    #[test]
    fn over_midnight_it_belongs_to_the_day_on_which_it_begins() {
        check(
            "Fri 22:00-06:00 UTC",
            &[
                ("2026-11-27T03:00:00Z", false), // Friday morning: Thursday's night.
                ("2026-11-27T22:00:00Z", true),
                ("2026-11-28T05:59:59Z", true),
                ("2026-11-28T06:00:00Z", false),
                ("2026-11-28T22:00:00Z", false),
            ],
        );
        check("Sun 22:00-06:00 UTC", &[("2026-11-30T01:00:00Z", true), ("2026-11-29T01:00:00Z", false)]);
    }

    #[test]
    fn several_are_joined_and_take_from_each_other_what_is_left_out() {
        let cases = [
            ("2026-11-23T09:00:00Z", true),
            ("2026-11-23T12:30:00Z", false),
            ("2026-11-25T14:00:00Z", true),
            ("2026-11-24T14:00:00Z", false),
        ];
        check("Mon,Wed 08:00-12:00,13:00-17:00 UTC", &cases);
        check(
            "Mon 08:00-12:00; Wed 13:00-17:00 UTC",
            &[("2026-11-23T09:00:00Z", true), ("2026-11-25T09:00:00Z", false), ("2026-11-25T14:00:00Z", true)],
        );
        check(
            "Mon 08:00-09:00 Asia/Shanghai; Mon 08:00-09:00 UTC",
            &[("2026-11-23T00:30:00Z", true), ("2026-11-23T08:30:00Z", true), ("2026-11-23T04:30:00Z", false)],
        );
    }

    #[test]
    fn on_a_day_on_which_clocks_are_changed_the_clock_on_the_wall_decides() {
        // Berlin, 2026-03-29: 02:00 is followed by 03:00 at 01:00 UTC.
        check(
            "02:30-05:00 Europe/Berlin",
            &[
                ("2026-03-29T00:59:59Z", false), // 01:59:59
                ("2026-03-29T01:00:00Z", true),  // 03:00:00
                ("2026-03-29T02:59:59Z", true),  // 04:59:59
                ("2026-03-29T03:00:00Z", false), // 05:00:00
            ],
        );
        check(
            "01:00-02:30 Europe/Berlin",
            &[
                ("2026-03-29T00:59:59Z", true), // 01:59:59
                ("2026-03-29T01:00:00Z", false),
            ],
        );
        check("02:15-02:45 Europe/Berlin", &[("2026-03-29T00:59:59Z", false), ("2026-03-29T01:00:00Z", false)]);
        // 2026-10-25: 03:00 is followed by 02:00 at 01:00 UTC.
        check(
            "02:00-02:30 Europe/Berlin",
            &[
                ("2026-10-25T00:00:00Z", true),  // 02:00, summer time
                ("2026-10-25T00:30:00Z", false), // 02:30
                ("2026-10-25T01:00:00Z", true),  // 02:00 again
                ("2026-10-25T01:30:00Z", false),
            ],
        );
        check(
            "Sun 22:00-06:00 Europe/Berlin",
            &[
                ("2026-03-29T20:00:00Z", true), // 22:00, summer time since the morning
                ("2026-03-29T19:59:59Z", false),
                ("2026-10-25T20:59:59Z", false), // 21:59:59, winter time
                ("2026-10-25T21:00:00Z", true),
            ],
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_with_what_can() {
        refuse("", "neither days nor hours");
        refuse("Asia/Shanghai", "neither days nor hours");
        refuse("Mon-Fry 08:00-20:00", "`Fry` is no day");
        refuse("Mon 8:00-20:00", "`8:00-20:00` are no hours");
        refuse("Mon 08:00-25:00", "are no hours");
        refuse("Mon 24:00-06:00", "are no hours");
        refuse("Mon 08:00", "`08:00` are no hours");
        refuse("Mon 08:00-08:00", "is no time at all");
        refuse("Mon 08:00-20:00 Asia/Shanghia", "`Asia/Shanghia` is neither a day nor a time zone");
        refuse("Mon 08:00-10:00 12:00-14:00", "join them by `,`");
        refuse("Mon 08:00-10:00 UTC Asia/Shanghai", "two zones");
        refuse("08:00-10:00 Mon", "before the hours");
    }
}
