//! `syslog`: a line of RFC 3164 or RFC 5424 into fields of the Elastic Common Schema. Ours; no search node has it.
//!
//! `<34>Oct 11 22:14:15 host app[17]: text` and `<34>1 2003-10-11T22:14:15Z host app 17 id [a@1 k="v"] text`. A stamp
//! without a year is given the one that makes it lie nearest to the time of ingestion; one without a zone is read in
//! `timezone`.

use crate::date::pattern::MONTHS;
use crate::date::read::Defaults;
use crate::date::{Local, Stamp, Zone, days_in_month, iso, month_at, write};
use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use compact_str::CompactString;
use event::document::KEYS_MAX;
use event::{Event, FieldPath, Object, Value};

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "timezone"];

/// Names of severities, most severe first.
const SEVERITIES: [&str; 8] =
    ["Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug"];
/// Names of facilities by their codes.
const FACILITIES: [&str; 24] = [
    "kernel",
    "user-level",
    "mail",
    "system",
    "security/authorization",
    "syslogd",
    "line printer",
    "network news",
    "UUCP",
    "clock",
    "security/authorization",
    "FTP",
    "NTP",
    "log audit",
    "log alert",
    "clock",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

#[derive(Debug)]
struct Syslog {
    field: FieldPath,
    zone: Zone,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let zone = match options.text_if_set("timezone")? {
        Some(id) => Zone::parse(&id).map_err(|wrong| format!("[timezone] {wrong}"))?,
        None => Zone::UTC,
    };
    Ok(Box::new(Syslog { field, zone, ignore_missing: options.flag("ignore_missing", false)? }))
}

/// What a line says; texts that are missing (`-`) are not there.
#[derive(Debug, Default, PartialEq)]
struct Line<'t> {
    priority: i32,
    version: Option<i32>,
    stamp: Option<Stamp>,
    host: Option<&'t str>,
    app: Option<&'t str>,
    process: Option<&'t str>,
    id: Option<&'t str>,
    data: Object,
    message: &'t str,
}

impl Step for Syslog {
    fn apply(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let Some(text) = text_at(event, &self.field, self.ignore_missing)?.cloned() else { return Ok(Flow::Continue) };
        let line = parse(&text, &self.zone, run.now_ms)
            .map_err(|wrong| Problem::new(format!("[{text}] is no syslog line: {wrong}")))?;
        for (path, value) in fields(line) {
            event.set(&FieldPath::new(path)?, value)?;
        }
        Ok(Flow::Continue)
    }
}

fn fields(line: Line<'_>) -> Vec<(&'static str, Value)> {
    let (facility, severity) = (line.priority / 8, line.priority % 8);
    let mut fields = vec![
        ("log.syslog.priority", Value::Int(line.priority)),
        ("log.syslog.facility.code", Value::Int(facility)),
        ("log.syslog.severity.code", Value::Int(severity)),
    ];
    let mut add = |path: &'static str, value: Option<Value>| fields.extend(value.map(|value| (path, value)));
    let named = |names: &[&str], code: i32| names.get(code as usize).map(|name| Value::from(*name));
    add("log.syslog.facility.name", named(&FACILITIES, facility));
    add("log.syslog.severity.name", named(&SEVERITIES, severity));
    add("log.syslog.version", line.version.map(|version| Value::from(version.to_string())));
    add(
        "@timestamp",
        line.stamp.map(|stamp| {
            let mut out = CompactString::default();
            write::default_format(&stamp.local(), stamp.offset, &mut out);
            Value::Text(out)
        }),
    );
    add("host.hostname", line.host.map(Value::from));
    add("process.name", line.app.map(Value::from));
    // A number where it is one: some put a name there.
    add("process.pid", line.process.map(|pid| pid.parse().map_or_else(|_| Value::from(pid), Value::Long)));
    add("log.syslog.msgid", line.id.map(Value::from));
    add("log.syslog.structured_data", (!line.data.is_empty()).then(|| Value::Object(line.data.clone())));
    add("message", Some(Value::from(line.message)));
    fields
}

/// Reads a line. Errors: what is missing.
fn parse<'t>(text: &'t str, zone: &Zone, now_ms: i64) -> Result<Line<'t>, String> {
    let (priority, rest) = text
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .filter(|(priority, _)| (1..=3).contains(&priority.len()) && priority.bytes().all(|b| b.is_ascii_digit()))
        .ok_or("it does not start with <priority>")?;
    let priority = priority.parse().ok().filter(|priority| *priority < 192).ok_or("its priority is above 191")?;
    let line = Line { priority, ..Line::default() };
    match rest.split_once(' ') {
        Some(("1", rest)) => rfc5424(line, rest, zone),
        _ => Ok(rfc3164(line, rest, zone, now_ms)),
    }
}

/// Behind the version.
fn rfc5424<'t>(mut line: Line<'t>, text: &'t str, zone: &Zone) -> Result<Line<'t>, String> {
    line.version = Some(1);
    let mut rest = text;
    let mut next = |name: &str| {
        let (part, after) = rest.split_once(' ').ok_or_else(|| format!("it ends behind its {name}"))?;
        rest = after;
        Ok::<_, String>((part != "-").then_some(part))
    };
    if let Some(stamp) = next("timestamp")? {
        let defaults = Defaults { zone, to_utc: true, now: (1970, 1) };
        let read = iso::read(stamp, &defaults).map_err(|_| format!("its timestamp is {stamp}"))?;
        line.stamp = Some(Stamp { offset: 0, ..read });
    }
    line.host = next("host")?;
    line.app = next("application")?;
    line.process = next("process")?;
    line.id = next("message id")?;
    let after = match rest.strip_prefix('-') {
        Some(after) => after,
        None => structured_data(rest, &mut line.data)?,
    };
    let message = after.strip_prefix(' ').unwrap_or(after);
    line.message = message.strip_prefix('\u{feff}').unwrap_or(message);
    Ok(line)
}

/// `[id key="value" …][…]`; what follows it.
fn structured_data<'t>(text: &'t str, data: &mut Object) -> Result<&'t str, String> {
    let mut rest = text;
    while let Some(element) = rest.strip_prefix('[') {
        let end = element.find([' ', ']']).ok_or("its structured data is not closed")?;
        let (id, mut inside) = element.split_at(end);
        let mut members = Object::new();
        while let Some(pair) = inside.strip_prefix(' ') {
            let (key, value) = pair.split_once("=\"").ok_or("its structured data has a name without a value")?;
            let (value, after) = quoted(value).ok_or("its structured data has a quote that is not closed")?;
            members.insert(key, value);
            inside = after;
            if members.len() > KEYS_MAX {
                return Err(format!("an element of its structured data has more than {KEYS_MAX} names"));
            }
        }
        data.insert(id, members);
        if data.len() > KEYS_MAX {
            return Err(format!("its structured data has more than {KEYS_MAX} elements"));
        }
        rest = inside.strip_prefix(']').ok_or("its structured data is not closed")?;
    }
    Ok(rest)
}

/// The text up to the quote that closes it; `\"`, `\\` and `\]` stand for themselves.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                next @ ('"' | '\\' | ']') => value.push(next),
                next => value.extend(['\\', next]),
            },
            c => value.push(c),
        }
    }
    None
}

/// Behind the priority. Nothing of it is certain: what does not look like a part of the header is message.
fn rfc3164<'t>(mut line: Line<'t>, text: &'t str, zone: &Zone, now_ms: i64) -> Line<'t> {
    line.message = text;
    let Some((stamp, rest)) = old_stamp(text, zone, now_ms) else { return line };
    line.stamp = Some(Stamp { offset: 0, ..stamp });
    line.message = rest;
    // A host has no colon and no bracket; without one the tag comes first.
    if let Some((host, rest)) = rest.split_once(' ')
        && !host.is_empty()
        && !host.ends_with(':')
        && !host.contains('[')
    {
        line.host = Some(host);
        line.message = rest;
    }
    let end = line.message.find(|c: char| c == ':' || c == '[' || c.is_whitespace()).unwrap_or(0);
    let (tag, after) = line.message.split_at(end);
    let (process, after) = match after.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((process, after)) => (Some(process), after),
        None => (None, after),
    };
    if let Some(message) = after.strip_prefix(':')
        && !tag.is_empty()
    {
        (line.app, line.process) = (Some(tag), process);
        line.message = message.strip_prefix(' ').unwrap_or(message);
    }
    line
}

/// `Oct  1 22:14:15 ` and what follows it, or an ISO stamp, which many send here.
fn old_stamp<'t>(text: &'t str, zone: &Zone, now_ms: i64) -> Option<(Stamp, &'t str)> {
    let short = |name: &&str| text.get(..3).is_some_and(|start| name.get(..3) == Some(start));
    let Some(month) = MONTHS.iter().position(short) else {
        let (stamp, rest) = text.split_once(' ')?;
        let defaults = Defaults { zone, to_utc: true, now: (1970, 1) };
        return Some((iso::read(stamp, &defaults).ok().filter(|_| stamp.contains('T'))?, rest));
    };
    let stamp = text.get(3.."Oct 11 22:14:15".len())?.as_bytes();
    let rest = text.get("Oct 11 22:14:15".len()..)?.strip_prefix(' ')?;
    let &[b' ', d1, d2, b' ', h1, h2, b':', m1, m2, b':', s1, s2] = stamp else { return None };
    let two = |tens: u8, ones: u8| {
        let tens = if tens == b' ' { b'0' } else { tens };
        (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
    };
    let (month, day) = (month as u8 + 1, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    if hour > 23 || minute > 59 || second > 59 || day == 0 {
        return None;
    }
    let (year, _) = month_at(now_ms);
    let candidates = [year - 1, year, year + 1].into_iter().filter(|year| day <= days_in_month(*year, month));
    let stamps = candidates.filter_map(|year| zone.at(&Local { hour, minute, second, ..Local::day(year, month, day) }));
    let nearest = stamps.min_by_key(|stamp| (stamp.seconds - now_ms.div_euclid(1000)).abs())?;
    Some((nearest, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-01-01T00:30:00Z.
    const NOW_MS: i64 = 1_735_691_400_000;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let line = parse(text, &Zone::UTC, NOW_MS).expect("a syslog line");
        let fields: Vec<_> = fields(line).into_iter().map(|(path, value)| (path, value.to_json())).collect();
        for (path, value) in expected {
            let found = fields.iter().find(|(known, _)| known == path).map(|(_, value)| value.as_str());
            assert_eq!(found, Some(*value), "{text}: {path}");
        }
        assert_eq!(fields.len(), expected.len(), "{text}: {fields:?}");
    }

    #[test]
    fn rfc_5424_is_read() {
        check(
            r#"<165>1 2003-10-11T22:14:15.003+02:00 mymachine.example.com evntslog 17 ID47 [ex@32473 iut="3" s="a\"b\]"] An event"#,
            &[
                ("log.syslog.priority", "165"),
                ("log.syslog.facility.code", "20"),
                ("log.syslog.severity.code", "5"),
                ("log.syslog.facility.name", "\"local4\""),
                ("log.syslog.severity.name", "\"Notice\""),
                ("log.syslog.version", "\"1\""),
                ("@timestamp", "\"2003-10-11T20:14:15.003Z\""),
                ("host.hostname", "\"mymachine.example.com\""),
                ("process.name", "\"evntslog\""),
                ("process.pid", "17"),
                ("log.syslog.msgid", "\"ID47\""),
                ("log.syslog.structured_data", r#"{"ex@32473":{"iut":"3","s":"a\"b]"}}"#),
                ("message", "\"An event\""),
            ],
        );
    }

    const HEAD: [(&str, &str); 5] = [
        ("log.syslog.priority", "34"),
        ("log.syslog.facility.code", "4"),
        ("log.syslog.severity.code", "2"),
        ("log.syslog.facility.name", "\"security/authorization\""),
        ("log.syslog.severity.name", "\"Critical\""),
    ];

    #[test]
    fn rfc_3164_is_read_and_its_year_is_the_nearest() {
        let mut expected = HEAD.to_vec();
        expected.extend([
            ("@timestamp", "\"2024-12-31T23:59:58.000Z\""),
            ("host.hostname", "\"mymachine\""),
            ("process.name", "\"su\""),
            ("process.pid", "231"),
            ("message", "\"'su root' failed\""),
        ]);
        check("<34>Dec 31 23:59:58 mymachine su[231]: 'su root' failed", &expected);
        let mut expected = HEAD.to_vec();
        expected.extend([
            ("@timestamp", "\"2025-01-01T00:00:01.000Z\""),
            ("host.hostname", "\"h\""),
            ("message", "\"free text\""),
        ]);
        check("<34>Jan  1 00:00:01 h free text", &expected);
        let mut expected = HEAD.to_vec();
        expected.push(("message", "\"no stamp at all\""));
        check("<34>no stamp at all", &expected);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in
            ["", "plain", "<>x", "<999>x", "<1234>x", "<34>1 x", "<34>1 nodate h a p i - m", "<34>1 - - - - - [a"]
        {
            assert!(parse(text, &Zone::UTC, NOW_MS).is_err(), "{text}");
        }
    }
}
