//! A line → when it was written, from the time that stands in it. Pure.

use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};

/// The usual forms. Those that name their zone come before those that are the beginning of one.
const FORMS: [&str; 8] = [
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%d/%b/%Y:%H:%M:%S %z",
    "%Y/%m/%d %H:%M:%S",
    "%b %e %H:%M:%S",
];
/// A time is looked for at the start of a line and behind these.
const BEFORE: &[u8] = b" \t[(\"'=|";
/// So many bytes of a line are looked at …
const LOOK_BYTES: usize = 256;
/// … at so many places.
const PLACES_MAX: usize = 16;

/// Finds times in lines; the form and the place of the last one are tried first.
#[derive(Debug, Clone)]
pub(super) struct Stamps {
    forms: Vec<String>,
    zone: TimeZone,
    /// Of times without a year, as syslog's.
    year: i16,
    last: Option<(usize, usize)>,
}

impl Stamps {
    /// `form`: as strptime takes it; `None`: the usual ones. `zone`: of times that name none; `None`: the host's.
    /// Errors: a form without date and time, a zone that is not known.
    pub(super) fn new(form: Option<&str>, zone: Option<&str>) -> Result<Self, String> {
        let zone = match zone {
            Some(name) => TimeZone::get(name)
                .map_err(|_| format!("--timezone: `{name}` is not a time zone that this host knows"))?,
            None => TimeZone::system(),
        };
        let now = jiff::Timestamp::from_millisecond(service::clock::wall_ms()).unwrap_or_default();
        let year = zone.to_datetime(now).year();
        if let Some(form) = form {
            // What it writes it must be able to read.
            let written = jiff::fmt::strtime::format(form, &now.to_zoned(zone.clone()))
                .map_err(|error| format!("--time-format: `{form}`: {error}"))?;
            let stamps = Self { forms: vec![form.to_owned()], zone, year, last: None };
            return match stamps.read(0, written.as_bytes()) {
                Some(_) => Ok(stamps),
                None => {
                    Err(format!("--time-format: `{form}` has no whole date and time, such as %d/%b/%Y:%H:%M:%S %z"))
                }
            };
        }
        Ok(Self { forms: FORMS.map(str::to_owned).to_vec(), zone, year, last: None })
    }

    /// Milliseconds since 1970; `None`: the line has no time.
    pub(super) fn find(&mut self, line: &[u8]) -> Option<i64> {
        let line = &line[..line.len().min(LOOK_BYTES)];
        if let Some((form, place)) = self.last
            && let Some(at) = places(line).nth(place)
            && let Some(ms) = self.read(form, &line[at..])
        {
            return Some(ms);
        }
        for (place, at) in places(line).enumerate() {
            for form in 0..self.forms.len() {
                if let Some(ms) = self.read(form, &line[at..]) {
                    self.last = Some((form, place));
                    return Some(ms);
                }
            }
        }
        None
    }

    fn read(&self, form: usize, text: &[u8]) -> Option<i64> {
        let form = &self.forms[form];
        let (mut time, _) = BrokenDownTime::parse_prefix(form, text).ok()?;
        if time.year().is_none() {
            time.set_year(Some(self.year)).ok()?;
        }
        if form.ends_with('Z') {
            time.set_offset(Some(Offset::UTC));
        }
        if time.hour().is_none() && !form.contains("%s") {
            return None; // Only a date.
        }
        if let Ok(time) = time.to_timestamp() {
            return Some(time.as_millisecond());
        }
        let zoned = self.zone.to_zoned(time.to_datetime().ok()?).ok()?;
        Some(zoned.timestamp().as_millisecond())
    }
}

/// Where a time may begin.
fn places(line: &[u8]) -> impl Iterator<Item = usize> {
    let behind = line.iter().enumerate().filter(|(_, byte)| BEFORE.contains(byte)).map(|(at, _)| at + 1);
    std::iter::once(0).chain(behind).take(PLACES_MAX)
}

/// `2026-11-23T08:15Z`
pub(super) fn minute_text(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%MZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        let mut stamps = Stamps::new(None, Some("Asia/Shanghai")).expect("a zone");
        let found = stamps.find(line.as_bytes());
        assert_eq!(found, expected.map(ms), "{line}");
        assert_eq!(stamps.find(line.as_bytes()), found, "a second time");
    }

    fn ms(time: &str) -> i64 {
        time.parse::<jiff::Timestamp>().expect("a time").as_millisecond()
    }

    #[test]
    fn the_usual_times_are_found_where_they_stand() {
        check("2026-11-22T08:15:30.123Z INFO a", Some("2026-11-22T08:15:30.123Z"));
        check("2026-11-22T08:15:30+08:00 a", Some("2026-11-22T00:15:30Z"));
        check("2026-11-22T08:15:30.5+0800 a", Some("2026-11-22T00:15:30.5Z"));
        check("INFO 2026-11-22 08:15:30,123 a", Some("2026-11-22T00:15:30Z"));
        check("2026/11/22 08:15:30 [error] 7#7: a", Some("2026-11-22T00:15:30Z"));
        check(r#"1.2.3.4 - bob [22/Nov/2026:08:15:30 +0100] "GET / HTTP/1.1" 200 5"#, Some("2026-11-22T07:15:30Z"));
        check(r#"{"time":"2026-11-22T08:15:30Z","msg":"a"}"#, Some("2026-11-22T08:15:30Z"));
        check("\tat com.example.Main(Main.java:7)", None);
        check("", None);
    }

    #[test]
    fn a_time_without_a_year_is_of_this_year() {
        let mut stamps = Stamps::new(None, Some("UTC")).expect("a zone");
        let expected = ms(&format!("{:04}-02-03T08:15:30Z", stamps.year));
        assert_eq!(stamps.find(b"Feb  3 08:15:30 web-01 sshd[7]: a"), Some(expected));
    }

    #[test]
    fn a_form_of_ones_own_must_be_whole() {
        let mut stamps = Stamps::new(Some("%d.%m.%Y %H:%M:%S"), Some("UTC")).expect("a form");
        assert_eq!(stamps.find(b"<22.11.2026 08:15:30>"), None, "not behind that");
        assert_eq!(stamps.find(b"at 22.11.2026 08:15:30"), Some(ms("2026-11-22T08:15:30Z")));
        let mut stamps = Stamps::new(Some("%s"), None).expect("a form");
        assert_eq!(stamps.find(b"1795392000 a"), Some(1_795_392_000_000));
        for form in ["%d.%m.%Y", "%H:%M", "x"] {
            let error = Stamps::new(Some(form), None).expect_err("is refused");
            assert!(error.contains("no whole date and time"), "{error}");
        }
        assert!(Stamps::new(None, Some("Mars/Base")).expect_err("is refused").contains("`Mars/Base`"));
    }
}
