//! A packed file → a window on what it unpacks to, which only ever moves forward.

use super::{Ending, Limits, Packing, Unpacked};
use crate::identity::{Edges, HEAD_BYTES_MAX, TAIL_BYTES_MAX};
use std::fs::File;
use std::io::{self, Read as _};

/// Unpacked bytes that one turn of a file may pass over on its way to a place: some milliseconds.
const STEP_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How a step of [`Window::fill`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// All that was asked for is there.
    Reached,
    /// The file ends before: see [`Window::ending`].
    Ended,
    /// It takes another turn.
    More,
}

/// The unpacked bytes around the place up to which a packed file was read.
#[derive(Debug)]
pub(crate) struct Window {
    unpacked: Unpacked,
    /// The first bytes, whatever else is kept.
    head: Vec<u8>,
    /// Offset of the first byte that is kept.
    start: u64,
    kept: Vec<u8>,
}

impl Window {
    /// At the start of `file`, with nothing unpacked.
    pub(crate) fn new(file: File, packing: Packing) -> io::Result<Self> {
        let unpacked = Unpacked::new(file, packing, Limits::default())?;
        Ok(Self { unpacked, head: Vec::new(), start: 0, kept: Vec::new() })
    }

    /// Unpacks up to `until`; of what lies before `from` only so much is kept that its edges can be told.
    pub(crate) fn fill(&mut self, from: u64, until: u64) -> io::Result<Filled> {
        let mut budget = STEP_BYTES_MAX;
        let mut buffer = [0; 16 * 1024];
        self.let_go(from);
        while self.end() < until {
            if budget == 0 {
                return Ok(Filled::More);
            }
            let wanted = usize::try_from(until - self.end()).unwrap_or(usize::MAX).min(buffer.len()).min(budget);
            let bytes = match self.unpacked.read(&mut buffer[..wanted]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            if bytes == 0 {
                return Ok(Filled::Ended);
            }
            budget -= bytes;
            let missing = (HEAD_BYTES_MAX - self.head.len()).min(bytes);
            self.head.extend_from_slice(&buffer[..missing]);
            self.kept.extend_from_slice(&buffer[..bytes]);
            if self.end() <= from {
                self.let_go(from);
            }
        }
        Ok(Filled::Reached)
    }

    fn let_go(&mut self, from: u64) {
        let keep = from.min(self.end()).saturating_sub(TAIL_BYTES_MAX as u64);
        let gone = usize::try_from(keep.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.kept.len());
        self.kept.drain(..gone);
        self.start += gone as u64;
    }

    /// Memory that what is kept takes.
    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// Where what is unpacked ends.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.kept.len() as u64
    }

    /// The first bytes, up to 1024.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Why there is nothing behind the end; `None` while there may be more.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.unpacked.ending()
    }

    /// Packed bytes read so far.
    pub(crate) fn packed_bytes(&self) -> u64 {
        self.unpacked.packed_bytes()
    }

    /// True if the packed bytes that were read last still stand where they stood.
    pub(crate) fn stands(&self) -> io::Result<bool> {
        self.unpacked.stands()
    }

    /// Bytes from `offset` on, as many as are there; none if they are kept no longer.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let kept = offset.checked_sub(self.start).and_then(|skip| self.kept.get(usize::try_from(skip).ok()?..));
        let kept = kept.unwrap_or_default();
        let bytes = kept.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&kept[..bytes]);
        bytes
    }

    /// The edges of the first `offset` bytes. `None` if they are not unpacked yet, or kept no longer.
    pub(crate) fn edges(&self, offset: u64) -> Option<Edges> {
        let tail_start = offset.saturating_sub(TAIL_BYTES_MAX as u64);
        let from = usize::try_from(tail_start.checked_sub(self.start)?).ok()?;
        let to = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let head_bytes = usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD_BYTES_MAX);
        Some(Edges::of(self.head.get(..head_bytes)?, self.kept.get(from..to)?))
    }
}
