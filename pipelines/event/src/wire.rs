//! How a Kafka record that is not JSON tells what it carries: the names of its headers, and the places of packed events.
//!
//! A record of codec `packed` is many lines of one file, joined by newlines, in format 1. `tailrace-event` is the JSON of what its
//! events share: codec `json`'s, without `message`, id and offset. `tailrace-spans` tells of each event, as LEB128 varints: its
//! length in bytes times 4 plus its [`Form`], then the distance of its source offset from the event's before (the first one's:
//! from 0), zigzag. Events may hold newlines.
//!
//! A record of codec `raw` with headers is one line. In format 2 it has **one** header, [`LINE`]: each costs the client as much as a
//! quarter of the record. In format 1, which is still read, and in which dead letters are written, the same stands in several.

use crate::Incarnation;
use crate::id::{ID_CHARS, parse_document_id};
use std::ops::Range;

/// Version of this format; without this header or [`LINE`] a record is somebody else's, or JSON.
pub const FORMAT: &str = "tailrace-format";
/// Value of [`FORMAT`].
pub const FORMAT_NOW: &str = "1";
/// raw: `2`, the document's id, and the JSON of the event without its line, with a space between each two. See [`line`].
pub const LINE: &str = "tailrace-line";
/// What [`LINE`] begins with.
const LINE_FORMAT: &[u8] = b"2 ";
/// How much longer [`LINE`] is than its event.
pub const LINE_BYTES_MORE: usize = LINE_FORMAT.len() + ID_CHARS + 1;
/// JSON object: what the record's events share.
pub const EVENT: &str = "tailrace-event";
/// The file's incarnation, 16 hexadecimal digits.
pub const INCARNATION: &str = "tailrace-incarnation";
/// Host that shipped it.
pub const HOST: &str = "tailrace-host";
/// Path of the file; absent without one.
pub const PATH: &str = "tailrace-path";
/// Dead letter: offset of the line's first byte in its source.
pub const SOURCE_OFFSET: &str = "tailrace-source-offset";
/// What is special about the line: `truncated`, `without_message`, or both with a comma; absent or empty if nothing is.
pub const FLAGS: &str = "tailrace-flags";
/// The line was cut.
pub const TRUNCATED: &str = "truncated";
/// The event says it all: the line is not its `message`.
pub const WITHOUT_MESSAGE: &str = "without_message";
/// packed: the places of its events.
pub const SPANS: &str = "tailrace-spans";
/// Dead letter: why, in words.
pub const CAUSE: &str = "tailrace-cause";
/// Dead letter: why, in one word.
pub const KIND: &str = "tailrace-kind";
/// Dead letter: the topic it was meant for.
pub const TOPIC: &str = "tailrace-topic";
/// What headers of users must not start with.
pub const PREFIX: &str = "tailrace-";

/// What a packed event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line.
    Line,
    /// A line that was cut.
    Truncated,
    /// Not a line but the whole event, as codec `json` writes it: a parser of the agent found more than text.
    Json,
}

/// One event of a packed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it stands in the payload.
    pub bytes: Range<usize>,
    /// Offset of its first byte in its source.
    pub offset: u64,
    /// What it is.
    pub form: Form,
}

/// Why a header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends inside a number, or a number has more than 64 bits.
    #[error("{SPANS} ends inside a number or holds one of more than 64 bits, at byte {at}")]
    Number {
        /// Where in the header.
        at: usize,
    },
    /// A form of a later version.
    #[error("{SPANS} has an event of unknown form {form}")]
    Form {
        /// Its number.
        form: u64,
    },
    /// The events are not as long as the payload.
    #[error("{SPANS} tells of {told} bytes and the payload has {payload}")]
    Length {
        /// Of events and the newlines between them.
        told: u64,
        /// Of the payload.
        payload: usize,
    },
    /// [`LINE`] of a later version.
    #[error("{LINE} is not of a format that this version knows: use a newer one")]
    LineFormat,
    /// [`LINE`] has no id of ours.
    #[error("{LINE} has no document id")]
    LineId,
}

/// Value of [`LINE`] for the line whose document has `id`; `event`: JSON of what is known beside its bytes.
pub fn line(id: &[u8; ID_CHARS], event: &[u8], out: &mut Vec<u8>) {
    for part in [LINE_FORMAT, id, b" ", event] {
        out.extend_from_slice(part);
    }
}

/// What [`line`] wrote: the life of the file, the line's offset in it, and the event.
///
/// Errors: a later version wrote it, or something else did.
pub fn parse_line(value: &[u8]) -> Result<(Incarnation, u64, &[u8]), WireError> {
    let rest = value.strip_prefix(LINE_FORMAT).ok_or(WireError::LineFormat)?;
    let (id, rest) = rest.split_at_checked(ID_CHARS).ok_or(WireError::LineId)?;
    let id = std::str::from_utf8(id).ok().and_then(parse_document_id);
    let (id, event) = id.zip(rest.strip_prefix(b" ")).ok_or(WireError::LineId)?;
    Ok((id.0, id.1, event))
}

/// Writes [`SPANS`], event by event, in the order of the payload.
#[derive(Debug, Default)]
pub struct Spans {
    text: Vec<u8>,
    before: u64,
}

impl Spans {
    /// Most bytes that one event takes here.
    pub const EVENT_BYTES_MAX: usize = 20;

    /// The next event: `bytes` long, at `offset` of its source.
    pub fn push(&mut self, bytes: usize, offset: u64, form: Form) {
        let form = match form {
            Form::Line => 0,
            Form::Truncated => 1,
            Form::Json => 2,
        };
        varint(((bytes as u64) << 2) | form, &mut self.text);
        let distance = offset.wrapping_sub(self.before).cast_signed();
        varint(((distance << 1) ^ (distance >> 63)).cast_unsigned(), &mut self.text);
        self.before = offset;
    }

    /// How long it is by now.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// What was written, and an empty one from here on.
    pub fn take(&mut self) -> Vec<u8> {
        self.before = 0;
        std::mem::take(&mut self.text)
    }
}

/// The events of a payload of `payload` bytes, whose header [`SPANS`] is `spans`.
///
/// Shape: in order, without gaps but one byte (the newline) between two. There are never more than `payload + 1`.
/// Errors: `spans` was not written for this payload, or by a later version.
pub fn places(spans: &[u8], payload: usize) -> Result<Vec<Place>, WireError> {
    let (mut places, mut at, mut start, mut offset) = (Vec::new(), 0, 0_u64, 0_u64);
    let told_of = |told| WireError::Length { told, payload };
    while at < spans.len() {
        let length = number(spans, &mut at)?;
        let distance = number(spans, &mut at)?;
        let form = match length & 3 {
            0 => Form::Line,
            1 => Form::Truncated,
            2 => Form::Json,
            form => return Err(WireError::Form { form }),
        };
        let end = start + (length >> 2); // At most 2^62 more than the payload's bytes.
        if end > payload as u64 {
            return Err(told_of(end));
        }
        offset = offset.wrapping_add((distance >> 1) ^ (distance & 1).wrapping_neg());
        places.push(Place { bytes: start as usize..end as usize, offset, form });
        start = end + 1;
    }
    if start != payload as u64 + 1 {
        return Err(told_of(start.saturating_sub(1)));
    }
    Ok(places)
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(from: &[u8], at: &mut usize) -> Result<u64, WireError> {
    let (mut number, start) = (0, *at);
    for shift in (0..64).step_by(7) {
        let byte = *from.get(*at).ok_or(WireError::Number { at: start })?;
        *at += 1;
        if shift == 63 && byte > 1 {
            break;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(WireError::Number { at: start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form() -> impl Strategy<Value = Form> {
        prop_oneof![Just(Form::Line), Just(Form::Truncated), Just(Form::Json)]
    }

    proptest! {
        /// Whatever is packed is found again.
        #[test]
        fn places_are_read_back(events in prop::collection::vec((0..5_000_usize, any::<u64>(), form()), 1..50)) {
            let (mut spans, mut expected, mut start) = (Spans::default(), Vec::new(), 0);
            for &(bytes, offset, form) in &events {
                spans.push(bytes, offset, form);
                expected.push(Place { bytes: start..start + bytes, offset, form });
                start += bytes + 1;
            }
            let text = spans.take();
            prop_assert_eq!(places(&text, start - 1), Ok(expected));
            prop_assert!(places(&text, start).is_err() && places(&text, start.saturating_sub(2)).is_err());
            prop_assert!(places(&text[..text.len() - 1], start - 1).is_err());
        }

        /// Whatever a stranger writes there, no place lies outside of the payload.
        #[test]
        fn what_a_stranger_wrote_never_leaves_the_payload(spans in prop::collection::vec(any::<u8>(), 0..40), payload in 0..200_usize) {
            for place in places(&spans, payload).unwrap_or_default() {
                prop_assert!(place.bytes.start <= place.bytes.end && place.bytes.end <= payload);
            }
        }
    }

    #[test]
    fn the_form_of_spans_is_a_contract() {
        let mut spans = Spans::default();
        spans.push(3, 100, Form::Line);
        spans.push(40, 104, Form::Truncated);
        spans.push(0, 90, Form::Json);
        assert_eq!(spans.bytes(), 8);
        assert_eq!(spans.take(), [12, 200, 1, 161, 1, 8, 2, 27]);
    }

    #[test]
    fn a_line_s_header_is_a_contract() {
        let (incarnation, mut value) = (Incarnation(0xfeed), Vec::new());
        line(&crate::document_id(incarnation, 42, b"a line"), br#"{"a":1}"#, &mut value);
        let text = String::from_utf8(value).expect("it is text");
        assert!(text.starts_with("2 AAAAAAAA_u0AAAAAAC") && text.ends_with(r#" {"a":1}"#), "{text}");
        assert_eq!(parse_line(text.as_bytes()), Ok((incarnation, 42, br#"{"a":1}"#.as_slice())));
        assert_eq!(parse_line(b"3 whatever"), Err(WireError::LineFormat));
        let without_event = &text.as_bytes()[..LINE_BYTES_MORE - 1];
        for wrong in [b"2 short", b"2 AAAAAAAA_u0AAAAAACo*******AB {}".as_slice(), without_event] {
            assert_eq!(parse_line(wrong), Err(WireError::LineId), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let check = |spans: &[u8], payload, expected| assert_eq!(places(spans, payload), Err(expected));
        check(&[0x80], 0, WireError::Number { at: 0 });
        check(&[0xff; 11], 0, WireError::Number { at: 0 });
        check(&[3, 0], 0, WireError::Form { form: 3 });
        check(&[12, 0], 2, WireError::Length { told: 3, payload: 2 });
        check(&[], 2, WireError::Length { told: 0, payload: 2 });
    }
}
