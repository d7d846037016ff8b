//! What a look at a file finds.

use bytes::Bytes;
use event::{Anchor, Record};
use std::collections::BTreeMap;

/// What of a span makes no record, in lines and in bytes of the file.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Passed {
    /// Lines without content.
    pub(crate) empty: u64,
    pub(crate) empty_bytes: u64,
    /// Lines longer than the limit, and the bytes that were cut off.
    pub(crate) truncated: u64,
    pub(crate) cut_bytes: u64,
    /// A hole that was passed over.
    pub(crate) zero_bytes: u64,
    /// Bytes that are no character of the encoding; they are shipped, as they are or replaced.
    pub(crate) invalid_bytes: u64,
    /// Pieces of lines that were split.
    pub(crate) pieces: u64,
    /// Events that a parser could not read and that are shipped as they are.
    pub(crate) unparsed: u64,
}

impl Passed {
    pub(crate) fn bytes(&self) -> u64 {
        self.empty_bytes + self.cut_bytes + self.zero_bytes
    }
}

/// Complete lines, and the span of the file that they settle.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) buffer: Bytes,
    pub(crate) records: Vec<Record>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Content of the file around `end`.
    pub(crate) anchor: Anchor,
    pub(crate) passed: Passed,
    /// Events that were left out, by reason.
    pub(crate) filtered: BTreeMap<&'static str, u64>,
    /// The file did not end with them.
    pub(crate) is_full: bool,
}

/// What one look at a file found.
#[derive(Debug)]
pub(crate) enum Look {
    Lines(Lines),
    /// A long line goes on; look again.
    More,
    /// Nothing more for now.
    End,
    /// The bytes before the offset are no longer what was read: truncated, perhaps written anew.
    Truncated,
    /// It begins as a packed file does, and nothing of it was read.
    Packed,
}
