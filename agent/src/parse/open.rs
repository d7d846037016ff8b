//! Events that are not finished: their text, and where a second reading may start because of them.

use super::{Next, Part};
use crate::frame::cut;
use event::Extra;
use std::time::{Duration, Instant};

/// Capacity that is kept from one event to the next; that of a larger one is given back.
const KEPT_BYTES: usize = 16 * 1024;

/// How far lines are joined.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Further lines are left out and the event is flagged.
    pub(super) lines_max: usize,
    /// Further bytes are left out and the event is flagged.
    pub(super) bytes_max: usize,
    /// Between two lines.
    pub(super) separator: &'static [u8],
    /// An event that got no further line for so long is finished. `None`: it waits.
    pub(super) timeout: Option<Duration>,
}

/// The text of an event that is not finished.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) is_open: bool,
    /// Lines in it, without those that were left out.
    pub(super) lines: usize,
    text: Vec<u8>,
    truncated: bool,
    extra: Option<Box<Extra>>,
}

impl Open {
    /// Adds `part` as the first line, or as the next one. What was found beside the text of the first one stands.
    pub(super) fn add(&mut self, part: Part<'_>, limits: &Limits, next: &mut Next<'_>) {
        let key = Key { stage: next.stage, lane: part.lane };
        let due = limits.timeout.and_then(|timeout| next.now.checked_add(timeout));
        if self.is_open {
            next.spans.join(key, due);
        } else {
            next.spans.open(Span { key, start: part.start, back: part.back, due });
            (self.is_open, self.extra) = (true, part.extra);
        }
        self.truncated |= part.truncated;
        let separator = if self.text.is_empty() { &[][..] } else { limits.separator };
        let used = self.text.len() + separator.len();
        let is_full = used > limits.bytes_max || (used == limits.bytes_max && !part.text.is_empty());
        if self.lines >= limits.lines_max || is_full {
            self.truncated |= !part.text.is_empty();
            return;
        }
        let room = limits.bytes_max - used;
        let kept = cut(part.text, room);
        self.text.extend_from_slice(separator);
        self.text.extend_from_slice(&part.text[..kept]);
        self.truncated |= kept < part.text.len();
        self.lines += 1;
    }

    /// Passes the event on, if there is one.
    pub(super) fn close(&mut self, lane: usize, next: &mut Next<'_>) {
        if !self.is_open {
            return;
        }
        let Span { start, back, .. } = next.spans.close(Key { stage: next.stage, lane });
        let extra = self.extra.take();
        next.pass(Part { text: &self.text, start, back, truncated: self.truncated, lane, extra });
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        (self.is_open, self.lines, self.truncated) = (false, 0, false);
    }

    /// Leaves out empty lines at its end.
    pub(super) fn trim_end(&mut self) {
        let kept = self.text.iter().rposition(|&byte| byte != b'\n').map_or(0, |at| at + 1);
        self.text.truncate(kept);
    }
}

/// Names an open event: there is at most one of a parser and lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    stage: usize,
    lane: usize,
}

#[derive(Debug)]
pub(super) struct Span {
    key: Key,
    /// Offset of its first line.
    start: u64,
    /// The last offset at or before `start` that no event lies across.
    back: u64,
    /// When it is to be flushed.
    due: Option<Instant>,
}

/// Where the open events of a file stand.
///
/// A reading may start again at the first line of an event, unless an event of another lane has lines before and behind
/// that place: then both of them must be read again, from the start of the other one, unless that too lies inside an
/// event, and so on. `back` is the outcome of this; it is kept up to date with each line that is joined, so that the
/// past need not be remembered.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// At most one for each parser and lane.
    open: Vec<Span>,
}

impl Spans {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn safe(&self) -> Option<u64> {
        self.open.iter().map(|span| span.back).min()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.iter().filter_map(|span| span.due).min()
    }

    fn open(&mut self, span: Span) {
        self.open.push(span);
    }

    /// A line joins the event: it now lies across every place from its start to here.
    fn join(&mut self, key: Key, due: Option<Instant>) {
        let joined = self.open.iter_mut().find(|span| span.key == key).expect("an event is open until it is closed");
        joined.due = due;
        let (start, back) = (joined.start, joined.back);
        for span in self.open.iter_mut().filter(|span| span.back > start) {
            span.back = back;
        }
    }

    fn close(&mut self, key: Key) -> Span {
        let at = self.open.iter().position(|span| span.key == key).expect("an event is closed once");
        self.open.swap_remove(at)
    }
}
