//! Which file is this? Content decides; inode and birth time only suggest.
//!
//! The rules are DESIGN.md §4: an incarnation id is made once and never changes; anchors (a hash of the head, a hash of
//! the bytes before an offset) only match files to what a checkpoint knows of them.

use crate::decode::{Cutter, Decoder};
use crate::line::Line;
use event::{Anchor, Incarnation};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use xxhash_rust::xxh3::xxh3_64;

/// How much of a file's start goes into its head anchor and its incarnation, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 1024;
/// How many bytes before an offset its tail anchor covers.
pub(crate) const TAIL_BYTES_MAX: usize = 256;

/// What the file system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    /// A hint only: it changes over reboots.
    pub(crate) device: u64,
    pub(crate) number: u64,
    /// Nanoseconds since 1970, where the file system has a birth time.
    pub(crate) birth_ns: Option<u64>,
}

impl Inode {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let birth = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let birth_ns = birth.and_then(|since| u64::try_from(since.as_nanos()).ok());
        Self { device: metadata.dev(), number: metadata.ino(), birth_ns }
    }

    /// True if both may be one inode's life. An absent birth time is never compared with a present one.
    pub(crate) fn may_be(&self, other: &Self) -> bool {
        let births_differ = matches!((self.birth_ns, other.birth_ns), (Some(a), Some(b)) if a != b);
        self.number == other.number && !births_differ
    }
}

/// The content of a file around the place up to which it was read, kept while it is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edges {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Edges {
    /// Reads the edges of the first `offset` bytes of `file`. `None` if the file is shorter.
    pub(crate) fn read(file: &File, offset: u64) -> io::Result<Option<Self>> {
        let head = read_span(file, 0, usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD_BYTES_MAX))?;
        let tail_bytes = usize::try_from(offset).unwrap_or(usize::MAX).min(TAIL_BYTES_MAX);
        let tail = read_span(file, offset - tail_bytes as u64, tail_bytes)?;
        Ok(head.zip(tail).map(|(head, tail)| Self { head, tail }))
    }

    /// Of the first bytes and those before a place.
    pub(crate) fn of(head: &[u8], tail: &[u8]) -> Self {
        Self { head: head.to_vec(), tail: tail.to_vec() }
    }

    /// Takes in `bytes`, which follow what was read so far.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let missing = (HEAD_BYTES_MAX - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..missing]);
        if bytes.len() >= TAIL_BYTES_MAX {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - TAIL_BYTES_MAX..]);
        } else {
            let surplus = (self.tail.len() + bytes.len()).saturating_sub(TAIL_BYTES_MAX);
            self.tail.drain(..surplus);
            self.tail.extend_from_slice(bytes);
        }
    }

    /// What may still be told of a file that was read so far, but not what stands right before its end.
    pub(crate) fn of_head(head: Vec<u8>) -> Self {
        Self { head, tail: Vec::new() }
    }

    /// The start of what was read, up to 1024 bytes.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Keeps no more memory than the content takes.
    pub(crate) fn shrink(&mut self) {
        self.head.shrink_to_fit();
        self.tail.shrink_to_fit();
    }

    /// The anchor of everything read so far.
    pub(crate) fn anchor(&self) -> Anchor {
        let head_bytes = u32::try_from(self.head.len()).expect("a head has at most 1024 bytes");
        Anchor { head_bytes, head: xxh3_64(&self.head), tail: xxh3_64(&self.tail) }
    }

    /// Compares the bytes up to here with what a checkpoint knows of them.
    pub(crate) fn likeness(&self, anchor: &Anchor) -> Likeness {
        let now = self.anchor();
        match (now.tail == anchor.tail, now.head == anchor.head && now.head_bytes == anchor.head_bytes) {
            (true, true) => Likeness::Same,
            (true, false) => Likeness::SameTail,
            (false, _) => Likeness::Other,
        }
    }

    /// True if `file` still holds the same bytes right before `offset`.
    pub(crate) fn tail_stands(&self, file: &File, offset: u64) -> io::Result<bool> {
        let start = offset.saturating_sub(self.tail.len() as u64);
        Ok(read_span(file, start, self.tail.len())?.as_ref() == Some(&self.tail))
    }
}

/// How `file` relates to what a checkpoint knows: it was read up to `offset`, where it had `anchor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// Head and tail stand where they stood.
    Same,
    /// The bytes before the offset stand, the head does not: rewritten in place.
    SameTail,
    /// Neither, or the file is shorter than the offset.
    Other,
}

/// Compares `file` with an anchor.
pub(crate) fn compare(file: &File, offset: u64, anchor: &Anchor) -> io::Result<Likeness> {
    Ok(Edges::read(file, offset)?.map_or(Likeness::Other, |edges| edges.likeness(anchor)))
}

/// True if content that starts with `head`, up to 1024 bytes of it, starts as what an anchor tells of.
pub(crate) fn head_stands(head: &[u8], anchor: &Anchor) -> bool {
    let known = usize::try_from(anchor.head_bytes).ok().and_then(|bytes| head.get(..bytes));
    anchor.head_bytes > 0 && known.is_some_and(|known| xxh3_64(known) == anchor.head)
}

/// The incarnation that a file's content gives; `None` before its first complete line.
pub(crate) fn incarnation(
    file: &File,
    agent: &str,
    inode: &Inode,
    generation: u32,
    decoder: &Arc<Decoder>,
) -> io::Result<Option<Incarnation>> {
    Ok(incarnation_of(&head_of(file)?, agent, inode, generation, decoder))
}

/// A file's first 1024 bytes, or all there are.
pub(crate) fn head_of(file: &File) -> io::Result<Vec<u8>> {
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    Ok(read_span(file, 0, size.min(HEAD_BYTES_MAX))?.unwrap_or_default())
}

/// The incarnation of a file that starts with `head`: its first 1024 bytes, unpacked if it is packed, or all there are.
pub(crate) fn incarnation_of(
    head: &[u8],
    agent: &str,
    inode: &Inode,
    generation: u32,
    decoder: &Arc<Decoder>,
) -> Option<Incarnation> {
    let line = first_line(head).or_else(|| first_line_by(decoder, head))?;
    Some(Incarnation::new(agent, inode.number, inode.birth_ns, line, generation))
}

/// The first line of a short file whose lines do not end at LF.
fn first_line_by<'h>(decoder: &Arc<Decoder>, head: &'h [u8]) -> Option<&'h [u8]> {
    let mut end = None;
    let mut each = |line: Line<'_>| end = end.or(Some(line.end));
    Cutter::new(decoder.clone(), &head[..head.len().min(4)]).cut(head, 0, &mut Vec::new(), &mut each);
    head.get(..usize::try_from(end?).ok()?)
}

/// The start of a file up to its first LF, or its first 1024 bytes. `None` while there is neither.
fn first_line(start: &[u8]) -> Option<&[u8]> {
    let head = &start[..start.len().min(HEAD_BYTES_MAX)];
    match memchr::memchr(b'\n', head) {
        Some(end) => Some(&head[..=end]),
        None if head.len() == HEAD_BYTES_MAX => Some(head),
        None => None,
    }
}

/// `bytes` bytes of `file` from `start`, or `None` if it ends before.
pub(crate) fn read_span(file: &File, start: u64, bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let mut span = vec![0; bytes];
    match file.read_exact_at(&mut span, start) {
        Ok(()) => Ok(Some(span)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(content).expect("written");
        file
    }

    fn numbered(lines: std::ops::Range<u32>) -> Vec<u8> {
        lines.flat_map(|n| format!("line {n}\n").into_bytes()).collect()
    }

    #[test]
    fn edges_do_not_depend_on_how_the_file_was_read() {
        let content = numbered(0..500);
        for step in [1, 7, 255, 256, 257, 1023, 1025, content.len()] {
            let mut edges = Edges::default();
            content.chunks(step).for_each(|chunk| edges.extend(chunk));
            let read = Edges::read(&file(&content), content.len() as u64).expect("readable").expect("long enough");
            assert_eq!(edges.anchor(), read.anchor(), "in steps of {step}");
        }
    }

    #[test]
    fn growth_is_the_same_file() {
        let offset = numbered(0..200).len() as u64;
        let anchor = Edges::read(&file(&numbered(0..200)), offset).expect("readable").expect("long enough").anchor();
        let grown = file(&numbered(0..900));
        assert_eq!(compare(&grown, offset, &anchor).expect("readable"), Likeness::Same);
    }

    #[test]
    fn truncated_and_regrown_past_the_offset_is_another_file() {
        let offset = numbered(0..200).len() as u64;
        let anchor = Edges::read(&file(&numbered(0..200)), offset).expect("readable").expect("long enough").anchor();
        let regrown = file(&numbered(5_000..9_000));
        assert_eq!(compare(&regrown, offset, &anchor).expect("readable"), Likeness::Other);
        let shorter = file(&numbered(0..100));
        assert_eq!(compare(&shorter, offset, &anchor).expect("readable"), Likeness::Other);
    }

    #[test]
    fn a_rewritten_first_line_keeps_the_file() {
        let mut content = numbered(0..400);
        let offset = content.len() as u64;
        let anchor = Edges::read(&file(&content), offset).expect("readable").expect("long enough").anchor();
        content[..4].copy_from_slice(b"LINE");
        assert_eq!(compare(&file(&content), offset, &anchor).expect("readable"), Likeness::SameTail);
    }

    #[test]
    fn the_first_line_needs_its_end_or_a_kilobyte() {
        assert_eq!(first_line(b"abc"), None);
        assert_eq!(first_line(b"abc\ndef"), Some(&b"abc\n"[..]));
        assert_eq!(first_line(&[b'x'; 2_000]), Some(&[b'x'; 1_024][..]));
    }

    #[test]
    fn an_absent_birth_time_is_not_compared() {
        let with = |birth_ns| Inode { device: 1, number: 2, birth_ns };
        assert!(with(None).may_be(&with(Some(5))));
        assert!(!with(Some(4)).may_be(&with(Some(5))));
        assert!(with(Some(5)).may_be(&Inode { device: 9, ..with(Some(5)) }), "the device is a hint only");
    }
}
