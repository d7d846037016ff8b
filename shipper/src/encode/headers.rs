//! What a payload does not say → headers. Names and meanings: [`event::wire`].

use super::{Counts, Envelope, Lines, envelope, merge};
use event::{Extra, Record, document_id, wire};
use std::ops::Range;
use std::sync::Arc;

/// Room for the names and lengths of our headers, beside their values.
pub(super) const HEADERS_FRAME_BYTES: usize = 384;

/// Name of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// One of [`wire`].
    Ours(&'static str),
    /// One of the configuration.
    Own(Arc<str>),
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Ours(name) => name,
            Self::Own(name) => name,
        }
    }
}

/// Headers of payloads that are handed over together.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    /// What the ranges refer to.
    text: Vec<u8>,
    /// Of all payloads.
    shared: Vec<(Name, Range<usize>)>,
    /// Of one payload each, by its place.
    each: Vec<(usize, Name, Range<usize>)>,
}

impl Headers {
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.each.is_empty()
    }

    /// What they take of a request, at most, with `payloads` payloads.
    pub(crate) fn bytes(&self, payloads: usize) -> usize {
        const FRAME_BYTES: usize = 6; // Two lengths.
        let one = |name: &Name, value: &Range<usize>| name.as_str().len() + value.len() + FRAME_BYTES;
        let shared: usize = self.shared.iter().map(|(name, value)| one(name, value)).sum();
        shared * payloads + self.each.iter().map(|(_, name, value)| one(name, value)).sum::<usize>()
    }

    /// A header of all payloads.
    pub(crate) fn share(&mut self, name: Name, value: &[u8]) {
        let value = self.put(value);
        self.shared.push((name, value));
    }

    /// A header of the payload at `place`.
    pub(crate) fn add(&mut self, place: usize, name: Name, value: &[u8]) {
        let value = self.put(value);
        self.each.push((place, name, value));
    }

    /// The same, written by `write`.
    fn write(&mut self, place: usize, name: Name, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        self.each.push((place, name, start..self.text.len()));
    }

    fn put(&mut self, value: &[u8]) -> Range<usize> {
        let start = self.text.len();
        self.text.extend_from_slice(value);
        start..self.text.len()
    }

    /// Brings those of each payload together. To be called before [`of_each`](Self::of_each).
    pub(crate) fn sort(&mut self) {
        self.each.sort_by_key(|(place, ..)| *place); // Stable, and mostly in order.
    }

    /// The headers of each of `payloads` payloads, in order: name and value.
    pub(crate) fn of_each(&self, payloads: usize) -> impl Iterator<Item = impl Iterator<Item = (&str, &[u8])> + Clone> {
        let mut next = 0;
        (0..payloads).map(move |place| {
            let start = next;
            while self.each.get(next).is_some_and(|(of, ..)| *of <= place) {
                next += 1;
            }
            let own = self.each[start..next].iter().map(|(_, name, value)| (name, value));
            let shared = self.shared.iter().map(|(name, value)| (name, value));
            shared.chain(own).map(|(name, value)| (name.as_str(), &self.text[value.clone()]))
        })
    }
}

/// As [`super::raw`], with headers: one payload a record, and none with its headers larger than `record_bytes_max`.
pub(crate) fn raw_with_headers(
    lines: &Lines,
    host: &str,
    record_bytes_max: usize,
    spans: &mut Vec<Range<u32>>,
    headers: &mut Headers,
) -> Counts {
    let envelope = envelope(lines, host);
    // What a parser found is left out if it leaves too little room: the text says what it says.
    let extra_of = |record: &'_ Record| {
        let fits = |extra: &Extra| extra.fields.len() <= record_bytes_max / 2;
        record.extra.as_deref().filter(|extra| fits(extra)).map(|extra| extra.fields.len())
    };
    let taken = envelope.bytes() + host.len() + lines.source.path.len() + HEADERS_FRAME_BYTES;
    let room = |record: &Record| record_bytes_max.saturating_sub(taken + extra_of(record).unwrap_or(0));
    let counts = super::raw_within(lines, room, spans);
    let (mut shared, mut own) = (Vec::new(), Vec::new());
    shared_event(&envelope, &mut shared);
    headers.text.reserve(lines.records.len() * (wire::LINE_BYTES_MORE + shared.len()));
    headers.each.reserve(lines.records.len());
    for (place, (record, span)) in lines.records.iter().zip(&*spans).enumerate() {
        let line = &lines.buffer[span.start as usize..span.end as usize];
        let (mut event, mut is_without_message) = (&shared, false);
        if let Some(extra) = record.extra.as_deref().filter(|_| extra_of(record).is_some()) {
            own.clear();
            is_without_message = event_with(extra, &envelope, &mut own);
            event = &own;
        }
        let id = document_id(lines.source.incarnation, record.offset, line);
        headers.write(place, Name::Ours(wire::LINE), |value| wire::line(&id, event, value));
        let is_cut = record.truncated || *span != record.bytes;
        let flags: &[&str] = match (is_cut, is_without_message) {
            (false, false) => continue,
            (true, false) => &[wire::TRUNCATED],
            (false, true) => &[wire::WITHOUT_MESSAGE],
            (true, true) => &[wire::TRUNCATED, wire::WITHOUT_MESSAGE],
        };
        headers.add(place, Name::Ours(wire::FLAGS), flags.join(",").as_bytes());
    }
    counts
}

/// The headers that say whose the lines are.
pub(super) fn of_source(lines: &Lines, host: &str, headers: &mut Headers) {
    headers.share(Name::Ours(wire::FORMAT), wire::FORMAT_NOW.as_bytes());
    headers.share(Name::Ours(wire::HOST), host.as_bytes());
    if !lines.source.path.is_empty() {
        headers.share(Name::Ours(wire::PATH), lines.source.path.as_bytes());
    }
    headers.share(Name::Ours(wire::INCARNATION), lines.source.incarnation.to_string().as_bytes());
}

/// Appends the JSON of what all events share.
pub(super) fn shared_event(envelope: &Envelope, out: &mut Vec<u8>) {
    envelope.open_object(None, out);
    out.push(b'}');
}

/// Appends the same with what a parser found. True if the line is not its message: it has its own, or is to have none.
fn event_with(extra: &Extra, envelope: &Envelope, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    envelope.open_object(extra.timestamp_ms, out);
    if !merge::collides(extra) {
        let inner = merge::inner(extra);
        if !inner.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(inner.as_bytes());
        out.push(b'}');
        return extra.without_message;
    }
    out.push(b'}');
    match merge::merge(extra, start, out) {
        // Of two messages the line's stands, unless the parser's is to overwrite it.
        Some(merged) => extra.without_message || (extra.overwrite && merged.has_message),
        None => {
            out.truncate(start); // No JSON: the text says what they say.
            envelope.open_object(None, out);
            out.push(b'}');
            false
        }
    }
}
