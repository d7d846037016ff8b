//! The way of a file whose lines need more than a cut at LF: another encoding or line end, parsers, filters. It is slower,
//! for its text is copied once; files without such options never come here.

use crate::decode::{Cut, Cutter, Decoder};
use crate::follow::{Lines, Passed};
use crate::line::Events;
use crate::parse::{Assembler, Plan};
use crate::unpack::Compression;
use bytes::Bytes;
use event::Anchor;
use std::sync::Arc;
use std::time::Instant;

/// What an input makes of the bytes of its files.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) compression: Compression,
}

/// What is open of one file.
#[derive(Debug)]
pub(crate) struct Assembly {
    cutter: Cutter,
    assembler: Assembler,
    scratch: Vec<u8>,
    /// All before it is in spans that were handed out.
    handed_to: u64,
    /// Content of the file around that offset.
    anchor: Anchor,
    /// The file ended inside a hole when it had this size.
    hole_at: Option<u64>,
    /// Bytes that make no record and lie in no span yet.
    owed: Passed,
    /// Offsets at which what was open was finished by time, in this life or an earlier one, sorted.
    cuts: Vec<u64>,
}

impl Assembly {
    /// Begins at `offset`, where the file has `anchor`, with nothing open. `head`: the file's first four bytes, or all there are.
    pub(crate) fn new(recipe: &Recipe, head: &[u8], offset: u64, anchor: Anchor, mut cuts: Vec<u64>) -> Self {
        cuts.sort_unstable(); // One that was made while reading again may lie before one of an earlier life.
        let cutter = Cutter::new(recipe.decoder.clone(), head);
        let assembler = Assembler::new(recipe.plan.clone(), offset, cuts.clone());
        Self {
            cutter,
            assembler,
            scratch: Vec::new(),
            handed_to: offset,
            anchor,
            hole_at: None,
            owed: Passed::default(),
            cuts,
        }
    }

    /// True if a cut at LF gives the same lines.
    pub(crate) fn is_plain(&self, recipe: &Recipe) -> bool {
        recipe.plan.is_empty() && self.cutter.is_plain()
    }

    /// Takes a chunk that starts at the file's byte `offset`. Returns how much of it is done with.
    pub(crate) fn take(&mut self, chunk: &[u8], offset: u64, now: Instant, events: &mut Events) -> usize {
        let Self { cutter, assembler, scratch, .. } = self;
        let cut = cutter.cut(chunk, offset, scratch, &mut |line| assembler.push(line, now, events));
        self.count(&cut, events);
        cut.consumed
    }

    /// The same up to a cut: the rest is a line too.
    pub(crate) fn take_last(&mut self, chunk: &[u8], offset: u64, now: Instant, events: &mut Events) -> usize {
        let Self { cutter, assembler, scratch, .. } = self;
        let cut = cutter.finish(chunk, offset, scratch, &mut |line| assembler.push(line, now, events));
        self.count(&cut, events);
        cut.consumed
    }

    /// What is open will be finished at this offset, behind all that was taken.
    pub(crate) fn add_cut(&mut self, at: u64) {
        self.cuts.push(at);
        self.assembler.add_cut(at);
    }

    pub(crate) fn cuts(&self) -> &[u64] {
        &self.cuts
    }

    fn count(&mut self, cut: &Cut, events: &mut Events) {
        self.owed.truncated += cut.truncated;
        self.owed.zero_bytes += cut.nul_bytes;
        self.owed.invalid_bytes += cut.invalid_bytes;
        self.owed.pieces += cut.pieces;
        if cut.skipped > 0 {
            *events.filtered.entry("long_line").or_default() += cut.skipped;
        }
    }

    /// Where a later reader must go on, if the next byte to take is `next`: no event lies on both sides.
    pub(crate) fn safe(&self, next: u64) -> u64 {
        if self.assembler.is_idle() { self.cutter.resume_at(next) } else { self.assembler.safe() }
    }

    pub(crate) fn handed_to(&self) -> u64 {
        self.handed_to
    }

    /// When what is open is to be finished, if nothing more comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.assembler.deadline()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.assembler.is_idle()
    }

    /// At the file's end. A hole there may be filled: what lies in it is read again when the file has another size.
    pub(crate) fn at_end(&mut self, size: u64) {
        self.hole_at = self.cutter.is_in_hole().then_some(size);
    }

    pub(crate) fn hole_at(&self) -> Option<u64> {
        self.hole_at
    }

    /// Where a cut by time falls: behind the last line.
    pub(crate) fn cut_offset(&self) -> u64 {
        self.assembler.end()
    }

    /// Finishes what is open. A cut by time has been made durable before.
    pub(crate) fn flush(&mut self, events: &mut Events) {
        self.cuts.push(self.assembler.end());
        self.assembler.flush(events);
    }

    /// Gives `lines` their anchor. Without one (the file cannot be read now) they are handed on all the same, and the span
    /// that they settle comes with the next.
    pub(crate) fn anchored(&mut self, lines: Lines, anchor: Option<Anchor>) -> Lines {
        if let Some(anchor) = anchor {
            self.anchor = anchor;
            return Lines { anchor, ..lines };
        }
        self.handed_to = lines.start;
        self.owed.zero_bytes += lines.passed.zero_bytes;
        let passed = Passed { zero_bytes: 0, ..lines.passed };
        Lines { end: lines.start, anchor: self.anchor, passed, ..lines }
    }

    /// The cuts at or behind `offset`.
    pub(crate) fn cuts_from(&self, offset: u64) -> Vec<u64> {
        self.cuts.iter().copied().filter(|cut| *cut >= offset).collect()
    }

    /// The events as a span of the file, if there is anything to hand on; its anchor is for the caller to read. `next`: the
    /// next byte to take.
    pub(crate) fn hand_out(&mut self, events: Events, next: u64) -> Option<Lines> {
        let (start, end) = (self.handed_to, self.safe(next).max(self.handed_to));
        if events.records.is_empty() && events.filtered.is_empty() && start == end {
            return None;
        }
        self.handed_to = end;
        let mut passed = std::mem::take(&mut self.owed);
        // Zeros before an open event lie behind this span: they are told with the next.
        let zero_bytes = passed.zero_bytes.min(end - start);
        self.owed.zero_bytes = passed.zero_bytes - zero_bytes;
        passed.zero_bytes = zero_bytes;
        passed.truncated += events.truncated;
        passed.unparsed = events.unparsed;
        let Events { buffer, records, filtered, .. } = events;
        let (buffer, anchor) = (Bytes::from(buffer), Anchor::default());
        Some(Lines { buffer, records, start, end, anchor, passed, filtered, is_full: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Events;

    /// An assembly of lines that begin with a blank and the line before them, from the file's start.
    fn joined(cuts: Vec<u64>) -> Assembly {
        let parsers = "parsers: [{multiline: {pattern: '^ ', match: after}}]";
        let recipe = &crate::config::files_of(&format!("[{{id: a, type: file, paths: [/a], {parsers}}}]"))[0].recipe;
        Assembly::new(recipe, b"one\n", 0, Anchor::default(), cuts)
    }

    fn texts(assembly: &mut Assembly, chunk: &[u8]) -> (Vec<String>, Option<Lines>) {
        let mut events = Events::default();
        assembly.take(chunk, 0, service::clock::monotonic(), &mut events);
        let text = |record: &event::Record| {
            let range = record.bytes.start as usize..record.bytes.end as usize;
            String::from_utf8_lossy(&events.buffer[range]).into_owned()
        };
        let texts = events.records.iter().map(text).collect();
        (texts, assembly.hand_out(events, chunk.len() as u64))
    }

    #[test]
    fn cuts_count_in_whatever_order_they_were_made() {
        let (events, _) = texts(&mut joined(vec![11, 4]), b"one\n two\n\n three\nlast\n");
        assert_eq!(events[0], "one", "cut at 4");
    }

    #[test]
    fn without_an_anchor_the_events_are_handed_on_and_the_span_waits() {
        let mut assembly = joined(Vec::new());
        let (events, lines) = texts(&mut assembly, b"one\n two\nnext\n");
        let lines = lines.expect("a finished event");
        assert_eq!((events, lines.start, lines.end), (vec!["one\n two".to_owned()], 0, 9));
        let lines = assembly.anchored(lines, None);
        assert_eq!((lines.records.len(), lines.start, lines.end), (1, 0, 0));
        assert_eq!(assembly.handed_to(), 0);
        let mut events = Events::default();
        assembly.flush(&mut events);
        let lines = assembly.hand_out(events, 14).expect("the rest");
        assert_eq!((lines.start, lines.end), (0, 14), "with what waited");
    }
}
