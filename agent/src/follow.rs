//! One open file → chunks of lines. Decides what a look at the file means; owns no queue and waits for nothing.

use crate::frame::{content, cut, frame};
use crate::identity::{Edges, Inode, Likeness, TAIL_BYTES_MAX, compare, incarnation, read_span};
use bytes::Bytes;
use event::{Anchor, Incarnation, Progress, Record, Source, StreamId};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Bytes of one read, and so of one turn of a file. A longer line makes the buffer grow up to the line limit.
const CHUNK_BYTES: usize = 128 * 1024;

/// A file that is being followed.
#[derive(Debug)]
pub(crate) struct Follow {
    held: Held,
    /// Index of its input.
    pub(crate) input: usize,
    /// Where it was last seen.
    pub(crate) path: PathBuf,
    /// Where it was first seen, as shipped.
    pub(crate) shipped_path: String,
    pub(crate) inode: Inode,
    pub(crate) generation: u32,
    pub(crate) stream: StreamId,
    /// Known as soon as there is a complete line.
    pub(crate) source: Option<Arc<Source>>,
    /// Everything before it is settled; written by the commit stage.
    pub(crate) committed: Arc<AtomicU64>,
    /// The next byte to read.
    pub(crate) offset: u64,
    pub(crate) epoch: u32,
    pub(crate) seq: u64,
    /// What lies before it may have been shipped by an earlier life of the agent.
    pub(crate) reread_below: u64,
    /// As the last listing showed it, for a file that is closed.
    pub(crate) seen: Sighting,
    long: Option<LongLine>,
    pub(crate) is_queued: bool,
    pub(crate) is_listed: bool,
    pub(crate) changed: Instant,
}

/// Size and time of the last change, as a listing shows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified_ns: i64,
}

impl Sighting {
    pub(crate) fn of(found: &Metadata) -> Self {
        let modified_ns = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
        Self { size: found.len(), modified_ns }
    }
}

/// The file's content: at hand, or closed until it is worth a descriptor again.
#[derive(Debug)]
enum Held {
    Open { file: File, edges: Edges },
    Closed(Anchor),
}

/// What opening a closed file found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is the file, as it was read up to the offset.
    Same,
    /// The same inode, but what was read no longer stands: the next look says so.
    Changed,
    /// Another file, or none, has its name now.
    Elsewhere,
}

/// A line longer than the limit, whose end has not been found.
#[derive(Debug)]
struct LongLine {
    kept: Vec<u8>,
    scanned: u64,
}

/// Complete lines, and the span of the file that they settle.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) buffer: Bytes,
    pub(crate) records: Vec<Record>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) empty: u64,
    /// Bytes of a hole that were passed over.
    pub(crate) zeros: u64,
    pub(crate) truncated: u64,
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
}

impl Follow {
    /// Starts to follow `file` at its start.
    pub(crate) fn new(file: File, input: usize, path: PathBuf, inode: Inode, stream: StreamId, now: Instant) -> Self {
        Self {
            held: Held::Open { file, edges: Edges::default() },
            input,
            shipped_path: path.to_string_lossy().into_owned(),
            path,
            inode,
            generation: 0,
            stream,
            source: None,
            committed: Arc::default(),
            offset: 0,
            epoch: 0,
            seq: 0,
            reread_below: 0,
            seen: Sighting::default(),
            long: None,
            is_queued: false,
            is_listed: true,
            changed: now,
        }
    }

    /// Goes on at `offset`, as settled. False if the file no longer reaches that far.
    pub(crate) fn resume_at(&mut self, offset: u64) -> io::Result<bool> {
        let Held::Open { file, edges } = &mut self.held else { return Err(closed()) };
        let Some(found) = Edges::read(file, offset)? else { return Ok(false) };
        *edges = found;
        (self.offset, self.long) = (offset, None);
        self.committed.store(offset, Ordering::Release);
        Ok(true)
    }

    /// Goes back to `progress` in another epoch: what lay behind it was given back. False if what lies before it is no
    /// longer what was read: the file was truncated since.
    pub(crate) fn rewind(&mut self, progress: &Progress, epoch: u32) -> io::Result<bool> {
        self.reread_below = self.reread_below.max(self.offset);
        (self.epoch, self.seq) = (epoch, 0);
        if let Held::Closed(anchor) = &mut self.held {
            *anchor = progress.anchor;
            (self.offset, self.long) = (progress.offset, None);
            return Ok(true);
        }
        if progress.offset > 0 && compare(self.file()?, progress.offset, &progress.anchor)? == Likeness::Other {
            return Ok(false);
        }
        self.resume_at(progress.offset)
    }

    /// True if it stands at its start again and no longer begins with the line that its incarnation was made of.
    pub(crate) fn begins_anew(&self, agent: &str) -> io::Result<bool> {
        match &self.source {
            Some(source) if self.offset == 0 => Ok(self.incarnation(agent)? != Some(source.incarnation)),
            _ => Ok(false),
        }
    }

    /// A second handle with the same place, for the file's next life.
    pub(crate) fn reopened(&self, stream: StreamId, now: Instant) -> io::Result<Self> {
        let file = self.file()?.try_clone()?;
        let mut next = Self::new(file, self.input, self.path.clone(), self.inode, stream, now);
        next.generation = self.generation + 1;
        next.is_listed = self.is_listed;
        Ok(next)
    }

    /// The open file. An error if it is closed.
    pub(crate) fn file(&self) -> io::Result<&File> {
        match &self.held {
            Held::Open { file, .. } => Ok(file),
            Held::Closed(_) => Err(closed()),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.held, Held::Open { .. })
    }

    /// Gives the descriptor back. False if it has to stay open: the file has no name left by which it could be found again,
    /// and not all of it is settled.
    pub(crate) fn close(&mut self) -> bool {
        let Held::Open { file, edges } = &self.held else { return true };
        let is_read = || self.is_done() && edges.tail_stands(file, self.offset).unwrap_or(false);
        if file.metadata().map_or(true, |found| found.nlink() == 0) && !is_read() {
            return false;
        }
        self.held = Held::Closed(edges.anchor());
        true
    }

    /// Gives back what is kept of a line whose end was not found; it is scanned again when the file grows.
    pub(crate) fn let_go_of_long_line(&mut self) {
        self.long = None;
    }

    /// Opens a closed file again. Errors: it cannot be opened now, which says nothing of whether it is still there.
    pub(crate) fn open(&mut self, links: Links) -> io::Result<Opened> {
        let Held::Closed(anchor) = &self.held else { return Ok(Opened::Same) };
        let (file, inode) = match open(&self.path, links) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Elsewhere),
            Err(error) => return Err(error),
        };
        if (inode.device, inode.number) != (self.inode.device, self.inode.number) || !inode.may_be(&self.inode) {
            return Ok(Opened::Elsewhere);
        }
        let is_same = self.offset == 0 || compare(&file, self.offset, anchor)? != Likeness::Other;
        let edges = if is_same { Edges::read(&file, self.offset)? } else { None };
        let opened = if edges.is_some() { Opened::Same } else { Opened::Changed };
        self.held = Held::Open { file, edges: edges.unwrap_or_default() };
        Ok(opened)
    }

    pub(crate) fn anchor(&self) -> Anchor {
        match &self.held {
            Held::Open { edges, .. } => edges.anchor(),
            Held::Closed(anchor) => *anchor,
        }
    }

    /// True if every byte read so far is settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.source.is_none() || self.committed.load(Ordering::Acquire) == self.offset
    }

    /// True if there is nothing more to read, as far as is known, and all of it is settled.
    pub(crate) fn is_done(&self) -> bool {
        let size = self.file().and_then(File::metadata).map_or(self.seen.size, |found| found.len());
        size == self.offset && self.is_settled()
    }

    /// The incarnation that the file's content gives now; `None` before its first complete line.
    pub(crate) fn incarnation(&self, agent: &str) -> io::Result<Option<Incarnation>> {
        incarnation(self.file()?, agent, &self.inode, self.generation)
    }

    /// Size and number of names of an open file; of a closed one the size that was last seen, and one name.
    pub(crate) fn stat(&self) -> io::Result<(u64, u64)> {
        match &self.held {
            Held::Open { file, .. } => file.metadata().map(|found| (found.len(), found.nlink())),
            Held::Closed(_) => Ok((self.seen.size, 1)),
        }
    }

    /// Reads on from the offset: one chunk.
    pub(crate) fn look(&mut self, line_bytes_max: usize, now: Instant) -> io::Result<Look> {
        let Held::Open { file, edges } = &self.held else { return Err(closed()) };
        let size = file.metadata()?.len();
        // Before new bytes are believed, the old ones are compared. A size alone proves nothing: the file may have been cut
        // and have grown again, and over a network file system it may be an old size.
        if !edges.tail_stands(file, self.offset)? {
            return Ok(Look::Truncated);
        }
        if size < self.offset {
            return Ok(Look::End);
        }
        if let Some(long) = &self.long {
            let kept = &long.kept[..long.kept.len().min(TAIL_BYTES_MAX)];
            if read_span(file, self.offset, kept.len())?.as_deref() == Some(kept) {
                return self.look_for_line_end(now);
            }
            self.long = None; // Another line stands there now.
        }
        let left = usize::try_from(size - self.offset).unwrap_or(usize::MAX);
        let (mut records, mut buffer_bytes) = (Vec::new(), CHUNK_BYTES);
        loop {
            let mut buffer = vec![0; buffer_bytes.min(left)];
            let read = read_at(self.file()?, &mut buffer, self.offset)?;
            buffer.truncate(read);
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            if zeros > 0 {
                return Ok(self.pass_zeros(&buffer[..zeros], read, size, now));
            }
            let framed = frame(&buffer, self.offset, line_bytes_max, &mut records);
            if framed.consumed > 0 {
                let start = self.offset;
                self.pass(&buffer[..framed.consumed], now);
                buffer.truncate(framed.consumed);
                let buffer = Bytes::from(buffer);
                let (empty, truncated, is_full) = (framed.empty, framed.truncated, self.offset < size);
                let (end, zeros) = (self.offset, framed.zeros);
                return Ok(Look::Lines(Lines { buffer, records, start, end, empty, zeros, truncated, is_full }));
            }
            if read < buffer_bytes {
                return Ok(Look::End);
            }
            if buffer.len() >= line_bytes_max + 2 {
                buffer.truncate(cut(&buffer, line_bytes_max));
                self.long = Some(LongLine { kept: buffer, scanned: self.offset + read as u64 });
                return Ok(Look::More);
            }
            buffer_bytes = (buffer_bytes * 4).min(line_bytes_max + 2);
        }
    }

    /// Zeros at the start of a line: a hole that a writer left who went on at an old offset, or blocks whose content has not
    /// arrived yet. They are passed over as soon as something follows them.
    fn pass_zeros(&mut self, zeros: &[u8], read: usize, size: u64, now: Instant) -> Look {
        if zeros.len() == read && self.offset + read as u64 >= size {
            return Look::End;
        }
        let start = self.offset;
        self.pass(zeros, now);
        let (end, zeros) = (self.offset, zeros.len() as u64);
        let (buffer, records) = (Bytes::new(), Vec::new());
        Look::Lines(Lines { buffer, records, start, end, empty: 0, zeros, truncated: 0, is_full: true })
    }

    /// Goes on through a line that is too long to keep, in memory bounded by what is kept of it.
    fn look_for_line_end(&mut self, now: Instant) -> io::Result<Look> {
        let Held::Open { file, edges } = &mut self.held else { return Err(closed()) };
        let Some(long) = &mut self.long else { return Ok(Look::More) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = read_at(file, &mut chunk, long.scanned)?;
        let Some(end) = memchr::memchr(b'\n', &chunk[..read]) else {
            long.scanned += read as u64;
            return Ok(if read == 0 { Look::End } else { Look::More });
        };
        let (start, end) = (self.offset, long.scanned + end as u64 + 1);
        let kept = std::mem::take(&mut long.kept);
        let kept_bytes = u32::try_from(content(&kept).len()).expect("a line limit is below 4 GiB");
        self.long = None;
        let Some(found) = Edges::read(file, end)? else { return Ok(Look::Truncated) };
        *edges = found;
        (self.offset, self.changed) = (end, now);
        let records = vec![Record { bytes: 0..kept_bytes, offset: start, truncated: true, extra: None }];
        let buffer = Bytes::from(kept);
        Ok(Look::Lines(Lines { buffer, records, start, end, empty: 0, zeros: 0, truncated: 1, is_full: true }))
    }

    fn pass(&mut self, bytes: &[u8], now: Instant) {
        if let Held::Open { edges, .. } = &mut self.held {
            edges.extend(bytes);
        }
        self.offset += bytes.len() as u64;
        self.changed = now;
    }
}

fn closed() -> io::Error {
    io::Error::other("the file is closed")
}

/// Whether a path may be a symbolic link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Links {
    #[default]
    Refused,
    Followed,
}

/// Opens a regular file for reading: a symbolic link only if asked for, and never waiting for a pipe's writer.
pub(crate) fn open(path: &Path, links: Links) -> io::Result<(File, Inode)> {
    let mut flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    if links == Links::Refused {
        flags |= libc::O_NOFOLLOW;
    }
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, Inode::of(&found)))
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;

    struct Log {
        folder: tempfile::TempDir,
        follow: Follow,
    }

    impl Log {
        fn new(content: &[u8]) -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("a.log");
            fs::write(&path, content).expect("written");
            let (file, inode) = open(&path, Links::Refused).expect("opens");
            let follow = Follow::new(file, 0, path, inode, StreamId(1), service::clock::monotonic());
            Self { folder, follow }
        }

        fn append(&self, content: &[u8]) {
            let path = self.folder.path().join("a.log");
            File::options().append(true).open(path).expect("opens").write_all(content).expect("written");
        }

        /// Everything up to the end, as (offset, text), with a line limit of 200,000 bytes.
        fn lines(&mut self) -> Vec<(u64, String)> {
            let mut lines = Vec::new();
            loop {
                match self.follow.look(200_000, service::clock::monotonic()).expect("readable") {
                    Look::Lines(found) => lines.extend(found.records.iter().map(|r| {
                        let bytes = &found.buffer[r.bytes.start as usize..r.bytes.end as usize];
                        (r.offset, String::from_utf8_lossy(bytes).into_owned())
                    })),
                    Look::More => {}
                    Look::End => return lines,
                    Look::Truncated => panic!("taken for truncated"),
                }
            }
        }
    }

    #[test]
    fn an_unfinished_line_waits_for_its_end() {
        let mut log = Log::new(b"one\ntw");
        assert_eq!(log.lines(), [(0, "one".into())]);
        assert_eq!(log.lines(), []);
        log.append(b"o\nthree\n");
        assert_eq!(log.lines(), [(4, "two".into()), (8, "three".into())]);
    }

    #[test]
    fn lines_over_the_buffer_edge_are_whole() {
        let line = "x".repeat(CHUNK_BYTES - 10);
        let content = format!("{line}\n0123456789abcdef\n{line}\n");
        let mut log = Log::new(content.as_bytes());
        let lines = log.lines();
        assert_eq!(lines[1], (line.len() as u64 + 1, "0123456789abcdef".into()));
        assert_eq!(lines[2].1, line);
        for length in CHUNK_BYTES - 3..CHUNK_BYTES + 3 {
            let content = format!("{}\nnext\n", "y".repeat(length));
            assert_eq!(Log::new(content.as_bytes()).lines()[1].1, "next", "a line of {length} bytes before it");
        }
    }

    #[test]
    fn a_line_without_end_is_cut_and_its_neighbours_are_whole() {
        let long = "z".repeat(3_000_000);
        let mut log = Log::new(format!("a\n{long}").as_bytes());
        assert_eq!(log.lines(), [(0, "a".into())]);
        assert!(log.follow.long.as_ref().is_some_and(|long| long.kept.len() == 200_000), "memory is bounded");
        log.append(b"zz\nb\n");
        let lines = log.lines();
        assert_eq!(lines[0], (2, "z".repeat(200_000)));
        assert_eq!(lines[1], (3_000_005, "b".into()));
        let again =
            Edges::read(log.follow.file().expect("open"), log.follow.offset).expect("readable").expect("long enough");
        assert_eq!(log.follow.anchor(), again.anchor());
    }

    #[test]
    fn a_long_line_that_is_replaced_before_its_end_is_not_mixed_with_the_other() {
        let mut log = Log::new("z".repeat(300_000).as_bytes());
        assert_eq!(log.lines(), []);
        fs::write(log.folder.path().join("a.log"), "y".repeat(300_000) + "\nb\n").expect("written");
        assert_eq!(log.lines(), [(0, "y".repeat(200_000)), (300_001, "b".into())]);
    }

    #[test]
    fn a_long_line_goes_on_after_its_file_was_closed() {
        let mut log = Log::new(("z".repeat(3_000_000) + "\nb\n").as_bytes());
        for _ in 0..100 {
            match log.follow.look(200_000, service::clock::monotonic()).expect("readable") {
                Look::Lines(lines) => return assert_eq!(lines.end, 3_000_001),
                look => assert!(matches!(look, Look::More), "{look:?}"),
            }
            assert!(log.follow.close(), "another file needs the descriptor");
            assert_eq!(log.follow.open(Links::Refused).expect("opens"), Opened::Same);
        }
        panic!("the end of the line is never found");
    }

    #[test]
    fn a_shorter_file_is_truncated() {
        let mut log = Log::new(b"one\ntwo\n");
        log.lines();
        fs::write(log.folder.path().join("a.log"), b"1\n").expect("written");
        assert!(matches!(log.follow.look(99, service::clock::monotonic()), Ok(Look::Truncated)));
    }

    #[test]
    fn truncated_and_regrown_past_the_offset_between_two_looks_is_truncated() {
        let mut log = Log::new(b"one\ntwo\n");
        log.lines();
        fs::write(log.folder.path().join("a.log"), b"three\nfour\nfive\n").expect("written");
        assert!(matches!(log.follow.look(99, service::clock::monotonic()), Ok(Look::Truncated)));
    }

    #[test]
    fn regrown_between_one_chunk_and_the_next_is_truncated() {
        let mut log = Log::new(b"one\ntwo\n");
        let first = log.follow.look(99, service::clock::monotonic());
        assert!(matches!(first, Ok(Look::Lines(lines)) if !lines.is_full), "its end was not looked at again");
        fs::write(log.folder.path().join("a.log"), b"three\nfour\nfive\n").expect("written");
        assert!(matches!(log.follow.look(99, service::clock::monotonic()), Ok(Look::Truncated)));
    }

    #[test]
    fn a_rewind_reads_again_and_flags_it() {
        let mut log = Log::new(b"one\n");
        log.lines();
        let first = Progress { offset: 4, anchor: log.follow.anchor() };
        log.append(b"two\n");
        log.lines();
        assert!(log.follow.rewind(&first, 1).expect("readable"));
        assert_eq!((log.follow.reread_below, log.follow.epoch), (8, 1));
        assert_eq!(log.lines(), [(4, "two".into())]);
        fs::write(log.folder.path().join("a.log"), b"three\nfour\n").expect("written");
        assert!(!log.follow.rewind(&first, 2).expect("readable"), "it would be read on in the middle of a line");
    }

    #[test]
    fn links_and_pipes_are_not_opened() {
        let log = Log::new(b"secret\n");
        let link = log.folder.path().join("link.log");
        std::os::unix::fs::symlink(log.folder.path().join("a.log"), &link).expect("linked");
        assert!(open(&link, Links::Refused).is_err());
        assert!(open(log.folder.path(), Links::Refused).is_err());
    }
}
