//! Where a file was cut, or ended for good, inside a line: there that line ends, at every reading.

use super::{Follow, Lines, Passed, Way};
use crate::frame::{content, cut};
use bytes::Bytes;
use event::Record;
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

impl Follow {
    /// The next cut behind the offset, in a file of which `size` bytes are there.
    pub(super) fn next_cut(&self, size: u64) -> Option<u64> {
        self.cuts().iter().copied().filter(|cut| (self.offset + 1..=size).contains(cut)).min()
    }

    /// True if there is a cut at this offset already.
    pub(crate) fn has_cut(&self, at: u64) -> bool {
        self.cuts().contains(&at)
    }

    fn cuts(&self) -> &[u64] {
        match &self.way {
            Way::Assembled(assembly) => assembly.cuts(),
            _ => &self.cuts,
        }
    }

    /// The line that is unfinished at `at`, where the content ends for good, ends there.
    pub(crate) fn add_cut(&mut self, at: u64) {
        match &mut self.way {
            Way::Assembled(assembly) => assembly.add_cut(at),
            _ => self.cuts.push(at),
        }
        if let Some(pack) = &mut self.pack {
            pack.rest_at = None; // There is something to read.
        }
    }

    /// The line from the offset to a cut, of which `line` is the start: all of it, unless it is longer than the limit.
    pub(super) fn line_up_to(
        &mut self,
        mut line: Vec<u8>,
        end: u64,
        line_bytes_max: usize,
        now: Instant,
    ) -> io::Result<Option<Lines>> {
        let Some(found) = self.edges_at(end)? else { return Ok(None) }; // Shorter again.
        let start = self.offset;
        let is_whole = line.len() as u64 == end - start;
        let text_bytes = if is_whole { content(&line).len() } else { line.len() };
        line.truncate(text_bytes);
        let kept = cut(&line, line_bytes_max);
        let truncated = kept < text_bytes || !is_whole;
        line.truncate(kept);
        self.set_edges(found);
        (self.offset, self.changed, self.long) = (end, now, None);
        let mut passed = Passed::default();
        let mut records = Vec::new();
        if line.is_empty() {
            (passed.empty, passed.empty_bytes) = (1, end - start);
        } else {
            let bytes = 0..u32::try_from(kept).expect("a line limit is below 4 GiB");
            records.push(Record { bytes, offset: start, truncated, extra: None });
            if truncated {
                (passed.truncated, passed.cut_bytes) = (1, end - start - kept as u64);
            }
        }
        let (buffer, anchor, filtered) = (Bytes::from(line), self.anchor(), BTreeMap::new());
        Ok(Some(Lines { buffer, records, start, end, anchor, passed, filtered, is_full: true }))
    }
}
