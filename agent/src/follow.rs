//! One open file → chunks of lines. Decides what a look at the file means; owns no queue and waits for nothing.

use crate::assemble::{Assembly, Recipe};
use crate::board::Card;
use crate::decode::Cutter;
use crate::frame::{Framed, content, cut, frame, last_line_start};
use crate::identity::{Edges, Inode, Likeness, TAIL_BYTES_MAX, compare, incarnation, read_span};
use crate::line::Events;
use bytes::Bytes;
use event::{Anchor, Incarnation, Progress, Record, Source, StreamId};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Bytes of one read, and so of one turn of a file. A longer line makes the buffer grow up to the line limit.
const CHUNK_BYTES: usize = 128 * 1024;

/// Where a file was found, and what is made of it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) input: usize,
    pub(crate) path: PathBuf,
    pub(crate) recipe: Recipe,
}

/// How far back from the end `start: end` looks for the start of the last line.
const LAST_LINE_BYTES: u64 = 64 * 1024;

/// How much more than the longest line a chunk must have, so that its end is found in it.
const LINE_END_ROOM: usize = 64;

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
    /// Where it is shown, and how far it is settled: that the commit stage writes.
    pub(crate) card: Arc<Card>,
    /// The next byte to read.
    pub(crate) offset: u64,
    pub(crate) epoch: u32,
    pub(crate) seq: u64,
    /// What lies before it may have been shipped by an earlier life of the agent.
    pub(crate) reread_below: u64,
    /// As the last listing showed it, for a file that is closed.
    pub(crate) seen: Sighting,
    long: Option<LongLine>,
    recipe: Recipe,
    /// After a reload: to be used as soon as nothing is open.
    next_recipe: Option<Recipe>,
    way: Way,
    /// Cuts by time of an earlier life, for the first assembly.
    pub(crate) cuts: Vec<u64>,
    /// A cut by time is being made durable: until then nothing is read.
    pub(crate) is_cutting: bool,
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

/// How lines are made of its bytes.
#[derive(Debug)]
enum Way {
    /// Not looked at yet.
    Untold,
    /// Cut at LF, without a copy.
    Plain,
    /// Everything else.
    Assembled(Box<Assembly>),
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
}

impl Follow {
    /// Starts to follow `file` at its start.
    pub(crate) fn new(file: File, place: Place, inode: Inode, stream: StreamId, now: Instant) -> Self {
        let Place { input, path, recipe } = place;
        Self {
            held: Held::Open { file, edges: Edges::default() },
            input,
            shipped_path: path.to_string_lossy().into_owned(),
            card: Arc::new(Card::new(path.clone(), inode)),
            path,
            inode,
            generation: 0,
            stream,
            source: None,
            offset: 0,
            epoch: 0,
            seq: 0,
            reread_below: 0,
            seen: Sighting::default(),
            long: None,
            recipe,
            next_recipe: None,
            way: Way::Untold,
            cuts: Vec::new(),
            is_cutting: false,
            is_queued: false,
            is_listed: true,
            changed: now,
        }
    }

    /// Goes on at `offset`, as settled. False if the file no longer reaches that far.
    pub(crate) fn resume_at(&mut self, offset: u64) -> io::Result<bool> {
        let reaches = self.go_back_to(offset)?;
        if reaches {
            self.card.start_at(offset);
        }
        Ok(reaches)
    }

    fn go_back_to(&mut self, offset: u64) -> io::Result<bool> {
        let Held::Open { file, edges } = &mut self.held else { return Err(closed()) };
        let Some(found) = Edges::read(file, offset)? else { return Ok(false) };
        *edges = found;
        self.begin_at(offset);
        Ok(true)
    }

    /// Goes back to `progress` in another epoch: what lay behind it was given back. False if what lies before it is no
    /// longer what was read: the file was truncated since.
    pub(crate) fn rewind(&mut self, progress: &Progress, epoch: u32) -> io::Result<bool> {
        self.reread_below = self.reread_below.max(self.offset);
        (self.epoch, self.seq) = (epoch, 0);
        if let Held::Closed(anchor) = &mut self.held {
            *anchor = progress.anchor;
            self.begin_at(progress.offset);
            return Ok(true);
        }
        if progress.offset > 0 && compare(self.file()?, progress.offset, &progress.anchor)? == Likeness::Other {
            return Ok(false);
        }
        self.resume_at(progress.offset)
    }

    /// Nothing of what lies behind `offset` has been read.
    fn begin_at(&mut self, offset: u64) {
        if let Way::Assembled(assembly) = &self.way {
            self.cuts = assembly.cuts_from(offset);
        }
        (self.offset, self.long, self.way) = (offset, None, Way::Untold);
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
        let place = Place { input: self.input, path: self.path.clone(), recipe: self.recipe.clone() };
        let mut next = Self::new(file, place, self.inode, stream, now);
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

    /// All before it was handed on: the start of what is open, or the next byte to read.
    pub(crate) fn handed_to(&self) -> u64 {
        match &self.way {
            Way::Assembled(assembly) => assembly.handed_to(),
            _ => self.offset,
        }
    }

    /// When what is open is to be finished, if nothing more comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.way {
            Way::Assembled(assembly) => assembly.deadline(),
            _ => None,
        }
    }

    /// Where a cut by time falls.
    pub(crate) fn cut_offset(&self) -> u64 {
        match &self.way {
            Way::Assembled(assembly) => assembly.cut_offset(),
            _ => self.offset,
        }
    }

    /// Finishes what is open: its time is up, or the file is gone.
    pub(crate) fn flush(&mut self) -> io::Result<Option<Lines>> {
        let Way::Assembled(assembly) = &mut self.way else { return Ok(None) };
        let mut events = Events::default();
        assembly.flush(&mut events);
        let lines = assembly.hand_out(events, self.offset);
        lines.map(|lines| self.anchored(lines)).transpose()
    }

    /// Other rules for lines, from the next event on.
    pub(crate) fn use_recipe(&mut self, recipe: Recipe) {
        self.next_recipe = Some(recipe);
    }

    /// `start: end`: where the unfinished last line of the first `size` bytes starts. `None` if there is no line end.
    pub(crate) fn last_line_start(&self, size: u64) -> io::Result<Option<u64>> {
        let file = self.file()?;
        let head = read_head(file)?;
        let mut cutter = Cutter::new(self.recipe.decoder.clone(), &head);
        if cutter.is_plain() {
            let from = size.saturating_sub(LAST_LINE_BYTES);
            let bytes = usize::try_from(size - from).unwrap_or(usize::MAX);
            let last = read_span(file, from, bytes)?;
            return Ok(last.and_then(|last| last_line_start(&last)).map(|start| from + start as u64));
        }
        // A character's edge is only known from the start on.
        let (mut at, mut wanted, mut end, mut scratch) = (0, CHUNK_BYTES, None, Vec::new());
        while at < size {
            let mut chunk = vec![0; wanted.min(usize::try_from(size - at).unwrap_or(usize::MAX))];
            let read = read_at(file, &mut chunk, at)?;
            let cut = cutter.cut(&chunk[..read], at, &mut scratch, &mut |line| end = Some(line.end));
            if cut.consumed == 0 && read < wanted {
                break;
            }
            wanted = if cut.consumed == 0 { wanted * 2 } else { CHUNK_BYTES };
            at += cut.consumed as u64;
        }
        Ok(end)
    }

    pub(crate) fn anchor(&self) -> Anchor {
        match &self.held {
            Held::Open { edges, .. } => edges.anchor(),
            Held::Closed(anchor) => *anchor,
        }
    }

    /// True if every byte read so far is settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.source.is_none() || self.card.committed() == self.handed_to()
    }

    /// True if there is nothing more to read, as far as is known, and all of it is settled.
    pub(crate) fn is_done(&self) -> bool {
        let size = self.file().and_then(File::metadata).map_or(self.seen.size, |found| found.len());
        let is_open = matches!(&self.way, Way::Assembled(assembly) if !assembly.is_idle());
        size == self.offset && !is_open && self.is_settled()
    }

    /// The incarnation that the file's content gives now; `None` before its first complete line.
    pub(crate) fn incarnation(&self, agent: &str) -> io::Result<Option<Incarnation>> {
        incarnation(self.file()?, agent, &self.inode, self.generation, &self.recipe.decoder)
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
        // A size alone proves nothing: a file may be truncated and grow past the offset between two looks, and over a network
        // file system the size may be an old one. What was read last is compared, once a chunk.
        if !edges.tail_stands(file, self.offset)? {
            return Ok(Look::Truncated);
        }
        if size < self.offset {
            return Ok(Look::End);
        }
        self.tell_way(size)?;
        let file = self.file()?;
        if matches!(self.way, Way::Assembled(_)) {
            return self.look_assembled(size, line_bytes_max, now);
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
                let Framed { empty, empty_bytes, truncated, cut_bytes, zeros, .. } = framed;
                let passed =
                    Passed { empty, empty_bytes, truncated, cut_bytes, zero_bytes: zeros, ..Passed::default() };
                let (end, is_full, anchor) = (self.offset, self.offset < size, self.anchor());
                let filtered = BTreeMap::new();
                return Ok(Look::Lines(Lines { buffer, records, start, end, anchor, passed, filtered, is_full }));
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
        let passed = Passed { zero_bytes: zeros.len() as u64, ..Passed::default() };
        let (buffer, records, end, anchor) = (Bytes::new(), Vec::new(), self.offset, self.anchor());
        Look::Lines(Lines { buffer, records, start, end, anchor, passed, filtered: BTreeMap::new(), is_full: true })
    }

    /// Decides how lines are made, at the first look at some bytes and after a reload.
    fn tell_way(&mut self, size: u64) -> io::Result<()> {
        let is_between = match &self.way {
            Way::Assembled(assembly) => assembly.is_idle() && assembly.handed_to() == self.offset,
            _ => self.long.is_none(),
        };
        if is_between && let Some(recipe) = self.next_recipe.take() {
            self.recipe = recipe;
            self.begin_at(self.offset);
        }
        if matches!(self.way, Way::Untold) && size > self.offset {
            let head = read_head(self.file()?)?;
            let assembly = Assembly::new(&self.recipe, &head, self.offset, std::mem::take(&mut self.cuts));
            let is_plain = assembly.is_plain(&self.recipe);
            self.way = if is_plain { Way::Plain } else { Way::Assembled(Box::new(assembly)) };
        }
        Ok(())
    }

    /// A look at a file whose lines need more than a cut at LF.
    fn look_assembled(&mut self, size: u64, line_bytes_max: usize, now: Instant) -> io::Result<Look> {
        match &self.way {
            Way::Assembled(assembly) if assembly.hole_at() == Some(size) => return Ok(Look::End),
            Way::Assembled(assembly) if assembly.hole_at().is_some() => {
                let from = assembly.handed_to();
                return Ok(if self.go_back_to(from)? { Look::More } else { Look::Truncated });
            }
            _ => {}
        }
        let left = usize::try_from(size - self.offset).unwrap_or(usize::MAX);
        let (mut events, mut wanted) = (Events::default(), CHUNK_BYTES);
        loop {
            let mut chunk = vec![0; wanted.min(left)];
            let read = read_at(self.file()?, &mut chunk, self.offset)?;
            let Way::Assembled(assembly) = &mut self.way else { return Ok(Look::More) };
            let taken = assembly.take(&chunk[..read], self.offset, now, &mut events);
            if taken == 0 && read == wanted && wanted < line_bytes_max + LINE_END_ROOM {
                wanted = (wanted * 4).min(line_bytes_max + LINE_END_ROOM);
                continue;
            }
            self.pass(&chunk[..taken], now);
            let Way::Assembled(assembly) = &mut self.way else { return Ok(Look::More) };
            let is_full = taken > 0 && self.offset < size;
            return match assembly.hand_out(events, self.offset) {
                Some(lines) => Ok(Look::Lines(Lines { is_full, ..self.anchored(lines)? })),
                None if is_full => Ok(Look::More),
                None => {
                    assembly.at_end(size);
                    Ok(Look::End)
                }
            };
        }
    }

    /// Reads the anchor at the end of a span, which may lie before what was read.
    fn anchored(&self, lines: Lines) -> io::Result<Lines> {
        if lines.end == self.offset {
            return Ok(Lines { anchor: self.anchor(), ..lines });
        }
        let gone = || io::Error::new(io::ErrorKind::UnexpectedEof, "truncated while it was read");
        let edges = Edges::read(self.file()?, lines.end)?.ok_or_else(gone)?;
        Ok(Lines { anchor: edges.anchor(), ..lines })
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
        let (buffer, anchor, filtered) = (Bytes::from(kept), self.anchor(), BTreeMap::new());
        let cut_bytes = end - start - u64::from(kept_bytes);
        let passed = Passed { truncated: 1, cut_bytes, ..Passed::default() };
        Ok(Look::Lines(Lines { buffer, records, start, end, anchor, passed, filtered, is_full: true }))
    }

    fn pass(&mut self, bytes: &[u8], now: Instant) {
        if let Held::Open { edges, .. } = &mut self.held {
            edges.extend(bytes);
        }
        self.offset += bytes.len() as u64;
        self.changed = now;
    }
}

/// The first four bytes, or all there are: enough for a BOM.
fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; 4];
    let read = read_at(file, &mut head, 0)?;
    head.truncate(read);
    Ok(head)
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
            let yaml = "[{id: a, type: file, paths: [/a]}]";
            let configs: Vec<crate::InputConfig> = service::load::parse_config(Path::new("a"), yaml).expect("valid");
            let recipe = crate::config::parted(crate::inputs(&configs).expect("valid")).0[0].recipe.clone();
            let place = Place { input: 0, path, recipe };
            let follow = Follow::new(file, place, inode, StreamId(1), service::clock::monotonic());
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
