//! Group → payloads. Pure: what all lines of a group share is written once, and a line costs a copy.
//!
//! JSON is the object that Filebeat's Kafka output writes (DESIGN.md §5), so that either half of Tailrace can be used
//! with the other half of the older pipeline. What the other codecs leave out of the payload travels in [`headers`].

mod headers;
mod packed;

mod merge;

pub(crate) use headers::{Headers, Name, raw_with_headers};
pub(crate) use packed::{Packed, Packer};

use bytes::Bytes;
use event::{Divert, Extra, Record, Source, document_id};
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

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

/// Records of one source that are encoded together: a group without its debt, or a part of one.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    pub(crate) source: Arc<Source>,
    pub(crate) buffer: Bytes,
    pub(crate) records: Vec<Record>,
    pub(crate) read_at_ms: i64,
    pub(crate) reread: bool,
    /// Set if a rate plan diverts them.
    pub(crate) divert: Option<Arc<Divert>>,
    /// All of the buffer is UTF-8.
    pub(crate) is_utf8: bool,
}

impl Lines {
    pub(crate) fn bytes_of(&self, record: &Record) -> &[u8] {
        &self.buffer[record.bytes.start as usize..record.bytes.end as usize]
    }
}

/// Appends one JSON object a record to `out` and its range to `spans`.
///
/// Unit: `record_bytes_max` bounds a payload in bytes; a line whose payload would be larger is cut and flagged.
pub(crate) fn json(
    lines: &Lines,
    host: &str,
    record_bytes_max: usize,
    out: &mut Vec<u8>,
    spans: &mut Vec<Range<u32>>,
) -> Counts {
    let envelope = envelope(lines, host);
    let mut counts = Counts::default();
    for record in &lines.records {
        let start = out.len();
        json_record(record, lines, &envelope, record_bytes_max, out, &mut counts);
        spans.push(to_u32(start)..to_u32(out.len()));
    }
    counts
}

/// Appends the JSON object of one record.
fn json_record(
    record: &Record,
    lines: &Lines,
    envelope: &Envelope,
    record_bytes_max: usize,
    out: &mut Vec<u8>,
    counts: &mut Counts,
) {
    let start = out.len();
    let mut line = lines.bytes_of(record);
    let mut flagged = record.truncated;
    let mut extra = record.extra.as_deref();
    loop {
        let is_clean = match extra {
            None => object(record, line, lines, envelope, flagged, out),
            Some(extra) => object_with(extra, record, line, lines, envelope, flagged, out),
        };
        let payload = out.len() - start;
        if payload <= record_bytes_max || (line.is_empty() && extra.is_none()) {
            counts.invalid_utf8 += u64::from(!is_clean);
            return;
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
}

/// True if a shorter text makes the payload small enough.
fn can_shrink(extra: &Extra, line: &[u8], record_bytes_max: usize) -> bool {
    !extra.without_message && !line.is_empty() && extra.fields.len() <= record_bytes_max / 2
}

/// Appends the range of each line in the group's own buffer to `spans`: the payload is the line, nothing is copied.
pub(crate) fn raw(lines: &Lines, record_bytes_max: usize, spans: &mut Vec<Range<u32>>) -> Counts {
    raw_within(lines, |_| record_bytes_max, spans)
}

fn raw_within(lines: &Lines, room: impl Fn(&Record) -> usize, spans: &mut Vec<Range<u32>>) -> Counts {
    let mut counts = Counts::default();
    for record in &lines.records {
        let kept = prefix(lines.bytes_of(record), room(record)).len();
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
    /// What of `middle` there is without id and offset.
    shared: Range<usize>,
    has_file: bool,
}

/// Stands between what is shared and the id.
const ID_MEMBER: &[u8] = b",\"_id\":\"";

impl Envelope {
    fn bytes(&self) -> usize {
        self.head.len() + self.middle.len()
    }

    /// Appends the shared object without id and offset, not closed. With another time, if the record has its own.
    fn open_object(&self, timestamp_ms: Option<i64>, out: &mut Vec<u8>) {
        let head = &self.head[..self.head.len() - ID_MEMBER.len()];
        match timestamp_ms {
            None => out.extend_from_slice(head),
            Some(ms) => {
                out.extend_from_slice(&head[..self.time.start]);
                timestamp(ms, out);
                out.extend_from_slice(&head[self.time.end..]);
            }
        }
        out.extend_from_slice(&self.middle[self.shared.clone()]);
        if self.has_file {
            out.push(b'}');
        }
    }
}

fn envelope(lines: &Lines, host: &str) -> Envelope {
    let (source, input) = (&*lines.source, &*lines.source.input());
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"{\"@timestamp\":\"");
    let time_start = head.len();
    timestamp(lines.read_at_ms, &mut head);
    let time = time_start..head.len();
    head.extend_from_slice(b"\",\"@metadata\":{\"beat\":\"tailrace\",\"type\":\"_doc\",\"version\":\"");
    head.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    head.push(b'"');
    if let Some(pipeline) = &input.pipeline {
        member(b",\"pipeline\":", pipeline, &mut head);
    }
    if lines.reread {
        head.extend_from_slice(b",\"reread\":true");
    }
    if let Some(divert) = &lines.divert {
        member(b",\"diverted\":{\"plan\":", &divert.plan, &mut head);
        member(b",\"reason\":", divert.reason, &mut head);
        member(b",\"topic\":", &divert.from, &mut head);
        head.push(b'}');
    }
    head.extend_from_slice(ID_MEMBER);

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
    for fields in [input.fields.as_str(), source.fields()].into_iter().filter(|fields| !fields.is_empty()) {
        middle.push(b',');
        middle.extend_from_slice(fields.as_bytes());
    }
    for (index, tag) in input.tags.iter().enumerate() {
        member(if index == 0 { b",\"tags\":[" } else { b"," }, tag, &mut middle);
    }
    if !input.tags.is_empty() {
        middle.push(b']');
    }
    let mut log = middle.len();
    if source.path.is_empty() {
        middle.extend_from_slice(b",\"log\":{\"offset\":"); // No file.
    } else {
        member(b",\"log\":{\"file\":{\"path\":", &source.path, &mut middle);
        middle.push(b'}');
        log = middle.len();
        middle.extend_from_slice(b",\"offset\":");
    }
    let shared = 1..log; // Without the quote that ends the id.
    Envelope { head, time, middle, shared, has_file: !source.path.is_empty() }
}

/// Writes one payload. False if the line is not UTF-8.
fn object(record: &Record, line: &[u8], lines: &Lines, envelope: &Envelope, flagged: bool, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&envelope.head);
    before_message(record, line, lines, envelope, flagged, out);
    let is_clean = message(line, lines.is_utf8, out);
    out.push(b'}');
    is_clean
}

/// As [`object`], with what a parser of the agent found.
fn object_with(
    extra: &Extra,
    record: &Record,
    line: &[u8],
    lines: &Lines,
    envelope: &Envelope,
    flagged: bool,
    out: &mut Vec<u8>,
) -> bool {
    let (start, mut is_clean) = (out.len(), true);
    out.extend_from_slice(&envelope.head[..envelope.time.start]);
    timestamp(extra.timestamp_ms.unwrap_or(lines.read_at_ms), out);
    out.extend_from_slice(&envelope.head[envelope.time.end..]);
    before_message(record, line, lines, envelope, flagged, out);
    if !extra.without_message {
        is_clean = message(line, lines.is_utf8, out);
    }
    if !merge::collides(extra) {
        let inner = merge::inner(extra);
        if !inner.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(inner.as_bytes());
        out.push(b'}');
    } else {
        out.push(b'}');
        if merge::merge(extra, start, out).is_none() {
            out.truncate(start); // The text says what they say.
            return object(record, line, lines, envelope, flagged, out);
        }
    }
    is_clean
}

/// Writes what stands between the shared head and the message.
fn before_message(record: &Record, line: &[u8], lines: &Lines, envelope: &Envelope, flagged: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(&document_id(lines.source.incarnation, record.offset, line));
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

/// Appends UTF-8 `text` as the inside of a JSON string.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    // Asked of the whole text without an early exit, so that the compiler makes vector instructions of it.
    if text.iter().fold(false, |any, byte| any | (*byte < 0x20)) {
        escape_at((0..text.len()).filter(|&at| text[at] < 0x20 || matches!(text[at], b'"' | b'\\')), text, out);
    } else {
        escape_at(memchr::memchr2_iter(b'"', b'\\', text), text, out);
    }
}

/// Appends `text`, its bytes at `special` as escapes.
fn escape_at(special: impl Iterator<Item = usize>, text: &[u8], out: &mut Vec<u8>) {
    let mut clean = 0;
    for at in special {
        out.extend_from_slice(&text[clean..at]);
        clean = at + 1;
        match text[at] {
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
    out.extend_from_slice(&text[clean..]);
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
mod tests;
