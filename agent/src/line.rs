//! What passes between cutting, decoding and putting together: lines in, events out. No I/O, and no time but what is told.

use event::{Extra, Record};
use std::collections::BTreeMap;

/// One line of a source, decoded to the text that is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Without its line end.
    pub(crate) text: &'a [u8],
    /// Offset of its first byte, in bytes of the source (before decoding).
    pub(crate) start: u64,
    /// Offset behind its line end, in bytes of the source.
    pub(crate) end: u64,
    /// It was longer than the limit and is cut.
    pub(crate) truncated: bool,
}

/// Events that are ready to be shipped, and what was left out on the way.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// What the records' ranges refer to.
    pub(crate) buffer: Vec<u8>,
    /// In the order in which they were finished.
    pub(crate) records: Vec<Record>,
    /// Events that were left out, by reason: `empty`, `include_lines`, `exclude_lines`, `long_line` …
    pub(crate) filtered: BTreeMap<&'static str, u64>,
    /// Events that were cut.
    pub(crate) truncated: u64,
    /// Lines that a parser could not read; they are shipped as they are.
    pub(crate) unparsed: u64,
}

impl Events {
    /// Adds one event. Unit: `offset` is that of its first byte, in bytes of the source.
    pub(crate) fn push(&mut self, text: &[u8], offset: u64, truncated: bool, extra: Option<Box<Extra>>) {
        let start = to_u32(self.buffer.len());
        self.buffer.extend_from_slice(text);
        self.truncated += u64::from(truncated);
        self.records.push(Record { bytes: start..to_u32(self.buffer.len()), offset, truncated, extra });
    }

    /// Counts an event that is left out.
    pub(crate) fn leave_out(&mut self, reason: &'static str) {
        *self.filtered.entry(reason).or_default() += 1;
    }
}

fn to_u32(at: usize) -> u32 {
    u32::try_from(at).expect("a group is smaller than 4 GiB")
}
