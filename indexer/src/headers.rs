//! Headers of a Kafka record → what our agent tells in them. See [`event::wire`].
//!
//! Asked of librdkafka by name: its Rust wrapper panics at a header whose name is not UTF-8, which anybody can write.

use crate::ffi;
use crate::parcel::{Home, PutOff, SentLine};
use event::{Incarnation, wire};
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::LazyLock;

/// Not to be indexed, or not to be taken from a retry topic, before this time: RFC 3339, or milliseconds since 1970.
pub const NOT_BEFORE: &str = "tailrace-not-before";
/// Retry topics: the time that the writer asked for, if that is later.
pub const DUE: &str = "tailrace-due";
/// Retry topics: how often it was refused for now.
pub const REFUSALS: &str = "tailrace-refusals";
/// Bulk requests that were made with it.
pub const ATTEMPTS: &str = "tailrace-attempts";
/// Where it stood first.
pub const TOPIC: &str = wire::TOPIC;
/// Its partition there.
pub const PARTITION: &str = "tailrace-partition";
/// Its offset there.
pub const OFFSET: &str = "tailrace-offset";
/// Its timestamp there; -1 without one.
pub const TIMESTAMP: &str = "tailrace-timestamp";
/// Retry topics, among [`wire::FLAGS`]: the bytes are a whole event as JSON, out of a packed record.
pub const JSON: &str = "json";

/// What the headers of a record of our agent tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent<'m> {
    /// The JSON object that its events share.
    pub event: &'m [u8],
    /// The life of the file.
    pub incarnation: Incarnation,
    /// What it is.
    pub body: Body<'m>,
}

/// What such a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'m> {
    /// One line.
    Line {
        /// Where it stands in its source.
        offset: u64,
        /// It was cut.
        is_truncated: bool,
        /// It is not the event's message.
        is_without_message: bool,
        /// It is a whole event as JSON, which came out of a packed record.
        is_json: bool,
    },
    /// Many events: the places of [`wire::places`].
    Packed(&'m [u8]),
}

/// The headers of a record of our agent; `None` if it has none, or not ours.
///
/// Errors: what is wrong with them.
pub fn sent<'m>(message: &'m BorrowedMessage<'_>) -> Option<Result<Sent<'m>, String>> {
    let headers = message.headers()?;
    read(|header| ffi::header(headers, &NAMES[header as usize]))
}

/// What headers tell of a record's waits, if they do. Only in a retry topic do they say where it stood before.
///
/// Errors: why the time cannot be read.
pub fn put_off(message: &BorrowedMessage<'_>, is_retry: bool) -> Option<Result<PutOff, String>> {
    let headers = message.headers()?;
    read_put_off(is_retry, |header| ffi::header(headers, &NAMES[header as usize]))
}

fn read_put_off<'m>(is_retry: bool, of: impl Fn(Header) -> Option<&'m [u8]>) -> Option<Result<PutOff, String>> {
    let text = |header| of(header).and_then(|value| simdutf8::basic::from_utf8(value).ok());
    let not_before_ms = match text(Header::NotBefore).map(time_ms) {
        Some(Ok(time_ms)) => Some(time_ms),
        Some(Err(reason)) if !is_retry => return Some(Err(format!("header {NOT_BEFORE}: {reason}"))),
        Some(Err(_)) | None => None,
    };
    if !is_retry {
        return not_before_ms
            .map(|not_before_ms| Ok(PutOff { not_before_ms, due_ms: Some(not_before_ms), ..PutOff::default() }));
    }
    let number = |header| text(header)?.parse::<i64>().ok();
    let count = |header| number(header).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    let home = || {
        Some(Home {
            topic: text(Header::Topic)?.to_owned().into(),
            partition: number(Header::Partition).and_then(|partition| i32::try_from(partition).ok())?,
            offset: number(Header::Offset).filter(|offset| *offset >= 0)?,
            timestamp_ms: number(Header::Timestamp).filter(|ms| *ms >= 0),
        })
    };
    Some(Ok(PutOff {
        not_before_ms: not_before_ms.unwrap_or(i64::MIN),
        due_ms: number(Header::Due),
        refusals: count(Header::Refusals),
        attempts: count(Header::Attempts),
        home: home(),
    }))
}

/// Milliseconds since 1970 of a time that a record brings: RFC 3339, or those milliseconds.
///
/// Errors: what is wrong with the text.
pub(crate) fn time_ms(text: &str) -> Result<i64, String> {
    text.parse().or_else(|_| engine::parse_now(text))
}

/// The headers of a record of our agent with `line` alone: what it is read again by.
pub(crate) fn of_line(line: SentLine<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let SentLine { place, event, incarnation } = line;
    let flags = [
        (place.is_truncated, wire::TRUNCATED),
        (place.is_without_message, wire::WITHOUT_MESSAGE),
        (place.is_json, JSON),
    ];
    let flags: Vec<_> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
    vec![
        (wire::FORMAT, wire::FORMAT_NOW.into()),
        (wire::EVENT, event.to_vec()),
        (wire::INCARNATION, incarnation.to_string().into()),
        (wire::SOURCE_OFFSET, place.offset.to_string().into()),
        (wire::FLAGS, flags.join(",").into()),
    ]
}

/// The same of a dead letter, whose headers hold what the record's did: names without [`wire::PREFIX`].
pub(crate) fn of_letter(headers: &BTreeMap<String, String>) -> Option<Result<Sent<'_>, String>> {
    read(|header| {
        let name = NAMES[header as usize].to_str().ok()?.strip_prefix(wire::PREFIX)?;
        Some(headers.get(name)?.as_bytes())
    })
}

fn read<'m>(of: impl Fn(Header) -> Option<&'m [u8]>) -> Option<Result<Sent<'m>, String>> {
    if let Some(line) = of(Header::Line) {
        return Some(match wire::parse_line(line) {
            Ok((incarnation, offset, event)) => {
                Ok(Sent { event, incarnation, body: line_at(offset, of(Header::Flags)) })
            }
            Err(error) => Err(error.to_string()),
        });
    }
    let format = of(Header::Format)?;
    if format != wire::FORMAT_NOW.as_bytes() {
        let format = String::from_utf8_lossy(format);
        return Some(Err(format!("{} {format:?} is not known to this version: use a newer one", wire::FORMAT)));
    }
    let text = |header| of(header).and_then(|value| simdutf8::basic::from_utf8(value).ok());
    let wrong = |name| Some(Err(format!("header {name} is missing or malformed")));
    let Some(event) = of(Header::Event) else { return wrong(wire::EVENT) };
    let incarnation = text(Header::Incarnation).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let Some(incarnation) = incarnation.map(Incarnation) else { return wrong(wire::INCARNATION) };
    let body = if let Some(spans) = of(Header::Spans) {
        Body::Packed(spans)
    } else {
        let Some(offset) = text(Header::SourceOffset).and_then(|digits| digits.parse().ok()) else {
            return wrong(wire::SOURCE_OFFSET);
        };
        line_at(offset, of(Header::Flags))
    };
    Some(Ok(Sent { event, incarnation, body }))
}

fn line_at(offset: u64, flags: Option<&[u8]>) -> Body<'static> {
    let has =
        |flag: &str| flags.is_some_and(|flags| flags.split(|byte| *byte == b',').any(|one| one == flag.as_bytes()));
    Body::Line {
        offset,
        is_truncated: has(wire::TRUNCATED),
        is_without_message: has(wire::WITHOUT_MESSAGE),
        is_json: has(JSON),
    }
}

/// The headers that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    Line,
    Format,
    Event,
    Incarnation,
    Spans,
    SourceOffset,
    Flags,
    NotBefore,
    Due,
    Refusals,
    Attempts,
    Topic,
    Partition,
    Offset,
    Timestamp,
}

/// Their names, as the library wants them.
static NAMES: LazyLock<[CString; 15]> = LazyLock::new(|| {
    [
        wire::LINE,
        wire::FORMAT,
        wire::EVENT,
        wire::INCARNATION,
        wire::SPANS,
        wire::SOURCE_OFFSET,
        wire::FLAGS,
        NOT_BEFORE,
        DUE,
        REFUSALS,
        ATTEMPTS,
        TOPIC,
        PARTITION,
        OFFSET,
        TIMESTAMP,
    ]
    .map(|name| CString::new(name).expect("a constant without a zero byte"))
});

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(Header, &'static str)]) -> Option<Result<Sent<'static>, String>> {
        read(|wanted| headers.iter().find(|(header, _)| *header == wanted).map(|(_, value)| value.as_bytes()))
    }

    const OURS: [(Header, &str); 3] =
        [(Header::Format, "1"), (Header::Event, "{}"), (Header::Incarnation, "00000000000000ff")];

    #[test]
    fn a_line_and_a_pack_are_told_apart() {
        let line = of(&[OURS.as_slice(), &[(Header::SourceOffset, "42"), (Header::Flags, "truncated,other")]].concat());
        let body = Body::Line { offset: 42, is_truncated: true, is_without_message: false, is_json: false };
        let (event, incarnation) = (b"{}".as_slice(), Incarnation(255));
        assert_eq!(line, Some(Ok(Sent { event, incarnation, body })));
        let new = of(&[(Header::Line, "2 AAAAAAAAAP8AAAAAACoAAAAAAAA {}"), (Header::Flags, "other,truncated")]);
        assert_eq!(new, line);
        let pack = of(&[OURS.as_slice(), &[(Header::Spans, "x")]].concat());
        assert_eq!(pack, Some(Ok(Sent { event, incarnation, body: Body::Packed(b"x") })));
    }

    #[track_caller]
    fn check_waits(headers: &[(Header, &'static str)], is_retry: bool, expected: Option<Result<PutOff, String>>) {
        let find = |wanted| headers.iter().find(|(header, _)| *header == wanted).map(|(_, value)| value.as_bytes());
        assert_eq!(read_put_off(is_retry, find), expected);
    }

    #[test]
    fn anybody_may_ask_for_a_wait_but_only_a_retry_topic_says_where_a_record_stood() {
        let all = [
            (Header::NotBefore, "2023-11-14T22:13:20Z"),
            (Header::Due, "1700000009000"),
            (Header::Refusals, "2"),
            (Header::Attempts, "7"),
            (Header::Topic, "logs"),
            (Header::Partition, "3"),
            (Header::Offset, "11"),
            (Header::Timestamp, "-1"),
        ];
        let home = Some(Home { topic: "logs".into(), partition: 3, offset: 11, timestamp_ms: None });
        let time = 1_700_000_000_000;
        let whole = PutOff { not_before_ms: time, due_ms: Some(time + 9000), refusals: 2, attempts: 7, home };
        check_waits(&all, true, Some(Ok(whole.clone())));
        let asked = PutOff { not_before_ms: time, due_ms: Some(time), ..PutOff::default() };
        check_waits(&all, false, Some(Ok(asked.clone())));
        check_waits(&[(Header::NotBefore, "1700000000000")], false, Some(Ok(asked)));
        check_waits(&all[1..], false, None);
        // Somebody else's record in a retry topic is one of its own place.
        check_waits(&[], true, Some(Ok(PutOff { not_before_ms: i64::MIN, ..PutOff::default() })));
        check_waits(&all[..7], true, Some(Ok(whole.clone())));
        check_waits(&all[..6], true, Some(Ok(PutOff { home: None, ..whole })));
        let find = |_| Some(b"soon".as_slice());
        let told = read_put_off(false, find).expect("it is there").expect_err("it is no time");
        assert!(told.contains("tailrace-not-before: soon is no RFC 3339 time"), "{told}");
    }

    #[test]
    fn what_is_written_for_a_line_alone_is_read_back() {
        for bits in 0..8 {
            let place = crate::parcel::Place {
                origin: 0,
                offset: 42,
                is_truncated: bits & 1 > 0,
                is_without_message: bits & 2 > 0,
                is_json: bits & 4 > 0,
            };
            let written = of_line(SentLine { place, event: b"{\xff}", incarnation: Incarnation(255) });
            let told = read(|header| {
                let name = NAMES[header as usize].to_str().expect("a constant");
                written.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_slice())
            });
            let crate::parcel::Place { offset, is_truncated, is_without_message, is_json, .. } = place;
            let body = Body::Line { offset, is_truncated, is_without_message, is_json };
            assert_eq!(told, Some(Ok(Sent { event: b"{\xff}", incarnation: Incarnation(255), body })));
        }
    }

    #[test]
    fn headers_of_others_are_none_and_wrong_ones_are_told() {
        assert_eq!(of(&[(Header::Event, "{}")]), None);
        let check = |headers: &[(Header, &'static str)], reason: &str| {
            let told = of(headers).expect("it is ours").expect_err("it is wrong");
            assert!(told.contains(reason), "{told}");
        };
        check(&[(Header::Format, "2")], "tailrace-format \"2\"");
        check(&[(Header::Line, "3")], "use a newer one");
        check(&[(Header::Line, "2 {}")], "tailrace-line has no document id");
        check(&OURS[..1], "tailrace-event");
        check(&OURS[..2], "tailrace-incarnation");
        check(&OURS, "tailrace-source-offset");
        check(&[OURS.as_slice(), &[(Header::SourceOffset, "-1")]].concat(), "tailrace-source-offset");
    }
}
