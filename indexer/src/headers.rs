//! Headers of a Kafka record → what our agent tells in them. See [`event::wire`].
//!
//! Asked of librdkafka by name: its Rust wrapper panics at a header whose name is not UTF-8, which anybody can write.
#![allow(unsafe_code)]

use event::{Incarnation, wire};
use rdkafka::Message as _;
use rdkafka::bindings as native;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage};
use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::LazyLock;

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
    },
    /// Many events: the places of [`wire::places`].
    Packed(&'m [u8]),
}

/// The headers of a record of our agent; `None` if it has none, or not ours.
///
/// Errors: what is wrong with them.
pub fn sent<'m>(message: &'m BorrowedMessage<'_>) -> Option<Result<Sent<'m>, String>> {
    let headers = message.headers()?;
    read(|name| value(headers, name))
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
    Body::Line { offset, is_truncated: has(wire::TRUNCATED), is_without_message: has(wire::WITHOUT_MESSAGE) }
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
}

/// Their names, as the library wants them.
static NAMES: LazyLock<[CString; 7]> = LazyLock::new(|| {
    [wire::LINE, wire::FORMAT, wire::EVENT, wire::INCARNATION, wire::SPANS, wire::SOURCE_OFFSET, wire::FLAGS]
        .map(|name| CString::new(name).expect("a constant without a zero byte"))
});

/// The last value of a header. `None` if there is none, or it is null.
fn value(headers: &BorrowedHeaders, header: Header) -> Option<&[u8]> {
    let (mut start, mut bytes) = (ptr::null::<c_void>(), 0);
    // SAFETY: the wrapper's reference is the address of librdkafka's own list, which it lends for as long as the message
    // lives; the name ends with a zero byte.
    let error = unsafe {
        let list = ptr::from_ref(headers).cast::<native::rd_kafka_headers_t>();
        let name = NAMES[header as usize].as_ptr();
        native::rd_kafka_header_get_last(list, name, &raw mut start, &raw mut bytes)
    };
    if error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || start.is_null() {
        return None;
    }
    // SAFETY: librdkafka tells where the value lies and how long it is; it lives as long as the message.
    Some(unsafe { std::slice::from_raw_parts(start.cast(), bytes) })
}

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
        let body = Body::Line { offset: 42, is_truncated: true, is_without_message: false };
        let (event, incarnation) = (b"{}".as_slice(), Incarnation(255));
        assert_eq!(line, Some(Ok(Sent { event, incarnation, body })));
        let new = of(&[(Header::Line, "2 AAAAAAAAAP8AAAAAACoAAAAAAAA {}"), (Header::Flags, "other,truncated")]);
        assert_eq!(new, line);
        let pack = of(&[OURS.as_slice(), &[(Header::Spans, "x")]].concat());
        assert_eq!(pack, Some(Ok(Sent { event, incarnation, body: Body::Packed(b"x") })));
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
