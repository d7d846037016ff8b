//! A log file → its lines as the agent ships them: offset and hash of each. Streamed; only the line at hand is kept.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Bytes read ahead of each file.
const BUFFER_BYTES: usize = 16 << 10;
/// Bytes of a line that are looked at; more than an agent ships of one.
const LINE_BYTES_MAX: usize = 64 << 20;

/// A line with content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it starts.
    pub(super) offset: u64,
    /// Behind its line end.
    pub(super) end: u64,
    /// As the document id has it.
    pub(super) hash: u64,
    /// False for what stands behind the last line end: the agent may or may not have shipped it.
    pub(super) is_complete: bool,
}

/// The lines of one file, or of anything else that reads.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    at: u64,
    line: Vec<u8>,
}

impl Lines<BufReader<File>> {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(BufReader::with_capacity(BUFFER_BYTES, File::open(path)?)))
    }
}

impl<R: BufRead> Lines<R> {
    pub(super) fn of(input: R) -> Self {
        Self { input, at: 0, line: Vec::new() }
    }

    /// Reads to the next line end. Returns the bytes that this took.
    fn read(&mut self) -> io::Result<u64> {
        self.line.clear();
        let mut taken = self.input.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut self.line)? as u64;
        if self.line.len() == LINE_BYTES_MAX && !self.line.ends_with(b"\n") {
            let mut rest = Vec::new();
            loop {
                rest.clear();
                taken += self.input.by_ref().take(BUFFER_BYTES as u64).read_until(b'\n', &mut rest)? as u64;
                if rest.is_empty() {
                    break;
                }
                if rest.ends_with(b"\n") {
                    self.line.push(b'\n');
                    break;
                }
            }
        }
        Ok(taken)
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<io::Result<Line>> {
        loop {
            let taken = match self.read() {
                Ok(0) => return None,
                Ok(taken) => taken,
                Err(error) => return Some(Err(error)),
            };
            let start = self.at;
            self.at += taken;
            let (text, is_complete) = match self.line.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (self.line.as_slice(), false),
            };
            // As the agent frames them: zeros are a hole before the line, a CR belongs to its end, empty lines are no records.
            let hole = text.iter().take_while(|byte| **byte == 0).count();
            let text = &text[hole..];
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.is_empty() {
                continue;
            }
            let hash = event::content_hash(text);
            return Some(Ok(Line { offset: start + hole as u64, end: self.at, hash, is_complete }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], expected: &[(u64, u64, &[u8], bool)]) {
        let lines: Vec<Line> = Lines::of(text).map(|line| line.expect("memory reads")).collect();
        let expected: Vec<Line> = expected
            .iter()
            .map(|&(offset, end, text, is_complete)| Line { offset, end, hash: event::content_hash(text), is_complete })
            .collect();
        assert_eq!(lines, expected, "{text:?}");
    }

    #[test]
    fn lines_are_cut_as_the_agent_cuts_them() {
        check(b"", &[]);
        check(b"a\nbc\n", &[(0, 2, b"a", true), (2, 5, b"bc", true)]);
        check(b"a\r\n\n\r\nb", &[(0, 3, b"a", true), (6, 7, b"b", false)]);
        check(b"\0\0a\n", &[(2, 4, b"a", true)]);
    }
}
