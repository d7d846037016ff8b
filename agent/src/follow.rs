//! One open file → chunks of lines. Decides what a look at the file means; owns no queue and waits for nothing.

use crate::frame::{content, cut, frame};
use crate::identity::{Edges, Inode, incarnation};
use bytes::Bytes;
use event::{Incarnation, Record, Source, StreamId};
use std::fs::File;
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
    file: File,
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
    edges: Edges,
    /// The last look found its end: before new bytes are believed, the old ones are compared.
    was_at_end: bool,
    long: Option<LongLine>,
    pub(crate) is_queued: bool,
    pub(crate) is_listed: bool,
    pub(crate) changed: Instant,
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
            file,
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
            edges: Edges::default(),
            was_at_end: true,
            long: None,
            is_queued: false,
            is_listed: true,
            changed: now,
        }
    }

    /// Goes on at `offset`, as settled. False if the file no longer reaches that far.
    pub(crate) fn resume_at(&mut self, offset: u64) -> io::Result<bool> {
        let Some(edges) = Edges::read(&self.file, offset)? else { return Ok(false) };
        (self.edges, self.offset, self.long, self.was_at_end) = (edges, offset, None, true);
        self.committed.store(offset, Ordering::Release);
        Ok(true)
    }

    /// Goes back to `offset` in another epoch: what lay behind it was given back.
    pub(crate) fn rewind(&mut self, offset: u64, epoch: u32) -> io::Result<bool> {
        self.reread_below = self.reread_below.max(self.offset);
        (self.epoch, self.seq) = (epoch, 0);
        self.resume_at(offset)
    }

    /// A second handle with the same place, for the file's next life.
    pub(crate) fn reopened(&self, stream: StreamId, now: Instant) -> io::Result<Self> {
        let file = self.file.try_clone()?;
        let mut next = Self::new(file, self.input, self.path.clone(), self.inode, stream, now);
        next.generation = self.generation + 1;
        Ok(next)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn anchor(&self) -> event::Anchor {
        self.edges.anchor()
    }

    /// True if every byte read so far is settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.source.is_none() || self.committed.load(Ordering::Acquire) == self.offset
    }

    /// The incarnation that the file's content gives now; `None` before its first complete line.
    pub(crate) fn incarnation(&self, agent: &str) -> io::Result<Option<Incarnation>> {
        incarnation(&self.file, agent, &self.inode, self.generation)
    }

    /// Size and number of names now.
    pub(crate) fn stat(&self) -> io::Result<(u64, u64)> {
        let found = self.file.metadata()?;
        Ok((found.len(), found.nlink()))
    }

    /// Reads on from the offset: one chunk.
    pub(crate) fn look(&mut self, line_bytes_max: usize, now: Instant) -> io::Result<Look> {
        let size = self.file.metadata()?.len();
        if size < self.offset || (self.was_at_end && !self.edges.tail_stands(&self.file, self.offset)?) {
            return Ok(Look::Truncated);
        }
        if self.long.is_some() {
            return self.look_for_line_end(now);
        }
        let left = usize::try_from(size - self.offset).unwrap_or(usize::MAX);
        let (mut records, mut buffer_bytes) = (Vec::new(), CHUNK_BYTES);
        loop {
            let mut buffer = vec![0; buffer_bytes.min(left)];
            let read = read_at(&self.file, &mut buffer, self.offset)?;
            buffer.truncate(read);
            let framed = frame(&buffer, self.offset, line_bytes_max, &mut records);
            if framed.consumed > 0 {
                let start = self.offset;
                self.pass(&buffer[..framed.consumed], now);
                buffer.truncate(framed.consumed);
                let buffer = Bytes::from(buffer);
                let (empty, truncated, is_full) = (framed.empty, framed.truncated, self.offset < size);
                return Ok(Look::Lines(Lines { buffer, records, start, end: self.offset, empty, truncated, is_full }));
            }
            if read < buffer_bytes {
                self.was_at_end = true;
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

    /// Goes on through a line that is too long to keep, in memory bounded by what is kept of it.
    fn look_for_line_end(&mut self, now: Instant) -> io::Result<Look> {
        let Some(long) = &mut self.long else { return Ok(Look::More) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = read_at(&self.file, &mut chunk, long.scanned)?;
        let Some(end) = memchr::memchr(b'\n', &chunk[..read]) else {
            long.scanned += read as u64;
            self.was_at_end = read == 0;
            return Ok(if read == 0 { Look::End } else { Look::More });
        };
        let (start, end) = (self.offset, long.scanned + end as u64 + 1);
        let kept = std::mem::take(&mut long.kept);
        let kept_bytes = u32::try_from(content(&kept).len()).expect("a line limit is below 4 GiB");
        self.long = None;
        let Some(edges) = Edges::read(&self.file, end)? else { return Ok(Look::Truncated) };
        (self.edges, self.offset, self.was_at_end, self.changed) = (edges, end, false, now);
        let records = vec![Record { bytes: 0..kept_bytes, offset: start, truncated: true, extra: None }];
        Ok(Look::Lines(Lines { buffer: Bytes::from(kept), records, start, end, empty: 0, truncated: 1, is_full: true }))
    }

    fn pass(&mut self, bytes: &[u8], now: Instant) {
        self.edges.extend(bytes);
        self.offset += bytes.len() as u64;
        self.was_at_end = false;
        self.changed = now;
    }
}

/// Opens a regular file for reading: never a symbolic link, and never waiting for a pipe's writer.
pub(crate) fn open(path: &Path) -> io::Result<(File, Inode)> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
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
            let (file, inode) = open(&path).expect("opens");
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
        let again = Edges::read(log.follow.file(), log.follow.offset).expect("readable").expect("long enough");
        assert_eq!(log.follow.anchor(), again.anchor());
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
    fn a_rewind_reads_again_and_flags_it() {
        let mut log = Log::new(b"one\ntwo\n");
        log.lines();
        assert!(log.follow.rewind(4, 1).expect("readable"));
        assert_eq!((log.follow.reread_below, log.follow.epoch), (8, 1));
        assert_eq!(log.lines(), [(4, "two".into())]);
    }

    #[test]
    fn links_and_pipes_are_not_opened() {
        let log = Log::new(b"secret\n");
        let link = log.folder.path().join("link.log");
        std::os::unix::fs::symlink(log.folder.path().join("a.log"), &link).expect("linked");
        assert!(open(&link).is_err());
        assert!(open(log.folder.path()).is_err());
    }
}
