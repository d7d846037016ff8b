//! Group → payloads. Pure: what all lines of a group share is written once, and a line costs a copy.
//!
//! JSON is the object that Filebeat's Kafka output writes (DESIGN.md §5), so that either half of Tailrace can be used
//! with the other half of the older pipeline.

mod merge;

use event::{Extra, Group, Record, document_id};
use std::io::Write as _;
use std::ops::Range;

/// The ECS version that the envelope follows.
const ECS_VERSION: &str = "8.11.0";

/// What the encoder counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Lines that are not UTF-8; each bad sequence becomes U+FFFD.
    pub(crate) invalid_utf8: u64,
    /// Lines cut because their record would be larger than the topic takes.
    pub(crate) cut: u64,
}

/// Appends one JSON object a record to `out` and its range to `spans`.
///
/// Unit: `record_bytes_max` bounds a payload in bytes; a line whose payload would be larger is cut and flagged.
pub(crate) fn json(
    group: &Group,
    host: &str,
    record_bytes_max: usize,
    out: &mut Vec<u8>,
    spans: &mut Vec<Range<u32>>,
) -> Counts {
    let envelope = envelope(group, host);
    let mut counts = Counts::default();
    let is_utf8 = simdutf8::basic::from_utf8(&group.buffer).is_ok();
    for record in &group.records {
        let start = out.len();
        let mut line = group.bytes_of(record);
        let mut flagged = record.truncated;
        let mut extra = record.extra.as_deref();
        loop {
            let is_clean = match extra {
                None => object(record, line, group, &envelope, (is_utf8, flagged), out),
                Some(extra) => object_with(extra, record, line, group, &envelope, (is_utf8, flagged), out),
            };
            let payload = out.len() - start;
            if payload <= record_bytes_max || (line.is_empty() && extra.is_none()) {
                counts.invalid_utf8 += u64::from(!is_clean);
                break;
            }
            counts.cut += u64::from(flagged == record.truncated && line.len() == record.bytes.len());
            flagged = true;
            out.truncate(start);
            if extra.is_some_and(|extra| !can_shrink(extra, line, record_bytes_max)) {
                extra = None; // Its fields do not fit: the text says what they say, as far as it fits.
                continue;
            }
            // The message shrinks in proportion, and a little more, so that it fits after one or two rounds.
            let envelope_bytes = envelope.bytes() + extra.map_or(0, |extra| extra.fields.len()) + 128;
            let room = record_bytes_max.saturating_sub(envelope_bytes) as f64 * 0.98;
            let share = (room / payload.saturating_sub(envelope_bytes).max(1) as f64).min(0.9);
            line = prefix(line, (line.len() as f64 * share) as usize);
        }
        spans.push(to_u32(start)..to_u32(out.len()));
    }
    counts
}

/// True if a shorter text makes the payload small enough.
fn can_shrink(extra: &Extra, line: &[u8], record_bytes_max: usize) -> bool {
    !extra.without_message && !line.is_empty() && extra.fields.len() <= record_bytes_max / 2
}

/// Appends the range of each line in the group's own buffer to `spans`: the payload is the line, nothing is copied.
pub(crate) fn raw(group: &Group, record_bytes_max: usize, spans: &mut Vec<Range<u32>>) -> Counts {
    let mut counts = Counts::default();
    for record in &group.records {
        let kept = prefix(group.bytes_of(record), record_bytes_max).len();
        let span = record.bytes.start..record.bytes.start + to_u32(kept);
        counts.cut += u64::from(span != record.bytes);
        spans.push(span);
    }
    counts
}

/// What the payloads of all records of a group share.
struct Envelope {
    /// Before the id.
    head: Vec<u8>,
    /// Where in `head` the read time stands.
    time: Range<usize>,
    /// Between id and offset.
    middle: Vec<u8>,
}

impl Envelope {
    fn bytes(&self) -> usize {
        self.head.len() + self.middle.len()
    }
}

fn envelope(group: &Group, host: &str) -> Envelope {
    let (source, input) = (&*group.source, &*group.source.input());
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"{\"@timestamp\":\"");
    let time_start = head.len();
    timestamp(group.read_at_ms, &mut head);
    let time = time_start..head.len();
    head.extend_from_slice(b"\",\"@metadata\":{\"beat\":\"tailrace\",\"type\":\"_doc\",\"version\":\"");
    head.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    head.push(b'"');
    if let Some(pipeline) = &input.pipeline {
        member(b",\"pipeline\":", pipeline, &mut head);
    }
    if group.reread {
        head.extend_from_slice(b",\"reread\":true");
    }
    head.extend_from_slice(b",\"_id\":\"");

    let mut middle = Vec::with_capacity(512);
    middle.extend_from_slice(b"\"}");
    member(b",\"agent\":{\"name\":", host, &mut middle);
    member(b",\"id\":", host, &mut middle);
    member(b",\"type\":", "tailrace", &mut middle);
    member(b",\"version\":", env!("CARGO_PKG_VERSION"), &mut middle);
    member(b"},\"ecs\":{\"version\":", ECS_VERSION, &mut middle);
    member(b"},\"host\":{\"name\":", host, &mut middle);
    member(b"},\"input\":{\"type\":", input.kind, &mut middle);
    middle.push(b'}');
    if !input.fields.is_empty() {
        middle.push(b',');
        middle.extend_from_slice(input.fields.as_bytes());
    }
    for (index, tag) in input.tags.iter().enumerate() {
        member(if index == 0 { b",\"tags\":[" } else { b"," }, tag, &mut middle);
    }
    if !input.tags.is_empty() {
        middle.push(b']');
    }
    member(b",\"log\":{\"file\":{\"path\":", &source.path, &mut middle);
    middle.extend_from_slice(b"},\"offset\":");
    Envelope { head, time, middle }
}

/// Writes one payload. False if the line is not UTF-8.
fn object(
    record: &Record,
    line: &[u8],
    group: &Group,
    envelope: &Envelope,
    (is_utf8, flagged): (bool, bool),
    out: &mut Vec<u8>,
) -> bool {
    out.extend_from_slice(&envelope.head);
    before_message(record, line, group, envelope, flagged, out);
    let is_clean = message(line, is_utf8, out);
    out.push(b'}');
    is_clean
}

/// As [`object`], with what a parser of the agent found.
fn object_with(
    extra: &Extra,
    record: &Record,
    line: &[u8],
    group: &Group,
    envelope: &Envelope,
    (is_utf8, flagged): (bool, bool),
    out: &mut Vec<u8>,
) -> bool {
    let (start, mut is_clean) = (out.len(), true);
    out.extend_from_slice(&envelope.head[..envelope.time.start]);
    timestamp(extra.timestamp_ms.unwrap_or(group.read_at_ms), out);
    out.extend_from_slice(&envelope.head[envelope.time.end..]);
    before_message(record, line, group, envelope, flagged, out);
    if !extra.without_message {
        is_clean = message(line, is_utf8, out);
    }
    let fields = extra.fields.trim_ascii();
    if fields.is_empty() {
        out.push(b'}');
    } else if !merge::collides(extra) {
        let inner =
            fields.strip_prefix('{').and_then(|fields| fields.strip_suffix('}')).unwrap_or_default().trim_ascii();
        out.extend_from_slice(if inner.is_empty() { "" } else { "," }.as_bytes());
        out.extend_from_slice(inner.as_bytes());
        out.push(b'}');
    } else {
        out.push(b'}');
        if !merge::merge(extra, start, out) {
            out.truncate(start); // The text says what they say.
            return object(record, line, group, envelope, (is_utf8, flagged), out);
        }
    }
    is_clean
}

/// Writes what stands between the shared head and the message.
fn before_message(record: &Record, line: &[u8], group: &Group, envelope: &Envelope, flagged: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(&document_id(group.source.incarnation, record.offset, line));
    out.extend_from_slice(&envelope.middle);
    out.extend_from_slice(itoa::Buffer::new().format(record.offset).as_bytes());
    if flagged {
        out.extend_from_slice(b",\"flags\":[\"truncated\"]");
    }
    out.push(b'}');
}

/// Writes `line` as the member `message`. False if it is not UTF-8.
fn message(line: &[u8], is_utf8: bool, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(b",\"message\":\"");
    let is_clean = is_utf8 || simdutf8::basic::from_utf8(line).is_ok();
    if is_clean {
        escape(line, out);
    } else {
        escape(String::from_utf8_lossy(line).as_bytes(), out);
    }
    out.push(b'"');
    is_clean
}

fn member(name: &[u8], value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.push(b'"');
    escape(value.as_bytes(), out);
    out.push(b'"');
}

/// `2026-11-22T08:15:30.123Z`
fn timestamp(ms: i64, out: &mut Vec<u8>) {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    write!(out, "{time:.3}").expect("writing to memory");
}

/// Blocks of this size are tested as a whole; the compiler makes vector instructions of the test.
const BLOCK_BYTES: usize = 32;

/// Appends UTF-8 `text` as the inside of a JSON string.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    let (blocks, rest) = text.as_chunks::<BLOCK_BYTES>();
    for block in blocks {
        escape_at(special_bytes(block), block, out);
    }
    let mut last = [b' '; BLOCK_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    escape_at(special_bytes(&last), rest, out);
}

/// A bit for each byte that may not stand as it is in a JSON string.
fn special_bytes(block: &[u8; BLOCK_BYTES]) -> u32 {
    let mut special = 0;
    for (at, &byte) in block.iter().enumerate() {
        special |= u32::from((byte < 0x20) | (byte == b'"') | (byte == b'\\')) << at;
    }
    special
}

/// Appends `bytes`, those whose bit is set as escapes.
fn escape_at(mut special: u32, bytes: &[u8], out: &mut Vec<u8>) {
    let mut clean = 0;
    while special != 0 {
        let at = special.trailing_zeros() as usize;
        special &= special - 1;
        out.extend_from_slice(&bytes[clean..at]);
        clean = at + 1;
        match bytes[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            byte => {
                let hex = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[clean..]);
}

/// At most `bytes` of `line`, not ending inside a UTF-8 character.
fn prefix(line: &[u8], bytes: usize) -> &[u8] {
    let mut end = bytes.min(line.len());
    while end > 0 && end < line.len() && line[end] & 0b1100_0000 == 0b1000_0000 && bytes - end < 3 {
        end -= 1;
    }
    &line[..end]
}

fn to_u32(at: usize) -> u32 {
    u32::try_from(at).expect("a group is smaller than 4 GiB")
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "settlements of a test")]
<<<<<<< HEAD
mod tests {
    use super::*;
    use bytes::Bytes;
    use event::{Ack, Anchor, Debt, Incarnation, Input, Permit, Source, StreamId};
    use std::sync::Arc;

    fn group(lines: &[&[u8]], input: Input) -> Group {
        let (mut buffer, mut records) = (Vec::new(), Vec::new());
        for line in lines {
            let start = buffer.len() as u32;
            buffer.extend_from_slice(line);
            records.push(Record {
                bytes: start..buffer.len() as u32,
                offset: u64::from(start),
                truncated: false,
                extra: None,
            });
            buffer.push(b'\n');
        }
        let source = Source::new(StreamId(1), Arc::new(input), "/var/log/a\"b.log".into(), Incarnation(7), 0);
        let (stream, held, anchor) = (StreamId(1), Permit::none(), Anchor::default());
        let debt = Debt { stream, epoch: 0, seq: 0, start: 0, end: 0, anchor, events: 1, held };
        let ack = Ack::new(debt, tokio::sync::mpsc::unbounded_channel().0);
        let (source, buffer, read_at_ms) = (Arc::new(source), Bytes::from(buffer), 1_700_000_000_123);
        Group { source, epoch: 0, buffer, records, read_at_ms, reread: false, ack }
    }

    fn encode(group: &Group, max: usize) -> (Vec<serde_json::Value>, Counts) {
        let (mut out, mut spans) = (Vec::new(), Vec::new());
        let counts = json(group, "web-01", max, &mut out, &mut spans);
        let parse = |s: &Range<u32>| serde_json::from_slice(&out[s.start as usize..s.end as usize]).expect("is JSON");
        (spans.iter().map(parse).collect(), counts)
    }

    #[test]
    fn a_record_is_filebeats_event() {
        let input = Input {
            kind: "filestream",
            pipeline: Some("nginx-access".into()),
            fields: r#""fields":{"service":{"name":"shop"}}"#.into(),
            tags: vec!["a".into(), "b".into()],
            ..Input::default()
        };
        let (got, counts) = encode(&group(&[b"one", b"two"], input), 1_000_000);
        let expected = serde_json::json!({
            "@timestamp": "2023-11-14T22:13:20.123Z",
            "@metadata": {"beat": "tailrace", "type": "_doc", "version": env!("CARGO_PKG_VERSION"), "pipeline": "nginx-access",
                "_id": std::str::from_utf8(&document_id(Incarnation(7), 4, b"two")).expect("ASCII")},
            "agent": {"name": "web-01", "id": "web-01", "type": "tailrace", "version": env!("CARGO_PKG_VERSION")},
            "ecs": {"version": ECS_VERSION}, "host": {"name": "web-01"}, "input": {"type": "filestream"},
            "fields": {"service": {"name": "shop"}}, "tags": ["a", "b"],
            "log": {"file": {"path": "/var/log/a\"b.log"}, "offset": 4}, "message": "two",
        });
        assert_eq!(got[1], expected);
        assert_eq!((got.len(), counts), (2, Counts::default()));
    }

    #[test]
    fn lines_read_again_are_flagged() {
        let mut group = group(&[b"x"], Input::default());
        group.reread = true;
        assert_eq!(encode(&group, 10_000).0[0]["@metadata"]["reread"], true);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced_and_counted_and_spare_their_neighbours() {
        let (got, counts) = encode(&group(&[b"a\xff\xfeb", "é".as_bytes()], Input::default()), 10_000);
        assert_eq!((&got[0]["message"], &got[1]["message"]), (&"a\u{fffd}\u{fffd}b".into(), &"é".into()));
        assert_eq!(counts.invalid_utf8, 1);
    }

    #[test]
    fn a_record_larger_than_the_topic_takes_is_cut_and_flagged() {
        let long = "\u{1}é".repeat(50_000); // Each pair is 8 bytes in JSON.
        let (got, counts) = encode(&group(&[b"a", long.as_bytes(), b"b"], Input::default()), 100_000);
        let message = got[1]["message"].as_str().expect("text");
        assert!(long.starts_with(message) && message.len() > 30_000, "{} bytes are left", message.len());
        assert!(got[1].to_string().len() <= 100_000);
        assert_eq!(got[1]["log"]["flags"], serde_json::json!(["truncated"]));
        assert_eq!((&got[0]["message"], &got[2]["message"]), (&"a".into(), &"b".into()));
        assert_eq!(counts.cut, 1);
    }

    #[test]
    fn raw_payloads_are_the_lines_where_they_lie() {
        let group = group(&[b"one", b"three"], Input::default());
        let mut spans = Vec::new();
        assert_eq!(raw(&group, 4, &mut spans), Counts { invalid_utf8: 0, cut: 1 });
        assert_eq!(spans, [0..3, 4..8]);
    }

    proptest::proptest! {
        /// Whatever the text, JSON reads it back.
        #[test]
        fn escaped_text_is_read_back(text in "[\\x00-\\x7fé€😀]{0,120}") {
            let mut out = b"\"".to_vec();
            escape(text.as_bytes(), &mut out);
            out.push(b'"');
            proptest::prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("is JSON"), text);
        }
    }
}
=======
mod tests;
>>>>>>> parse
