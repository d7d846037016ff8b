//! One open file → chunks of lines. Decides what a look at the file means; owns no queue and waits for nothing.

mod found;
mod look;

pub(crate) use found::{Lines, Look, Passed};

use crate::assemble::{Assembly, Recipe};
use crate::board::Card;
use crate::checkpoint::Saved;
use crate::deadline::{Backlog, SeriesId};
use crate::identity::{Edges, Inode, Likeness, compare, incarnation, incarnation_of};
use event::{Anchor, Incarnation, Progress, Source, StreamId};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Bytes of one read, and so of one turn of a file. A longer line makes the buffer grow up to the line limit.
const CHUNK_BYTES: usize = 128 * 1024;

/// Where a file was found, and what is made of it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) input: usize,
    pub(crate) path: Arc<Path>,
    pub(crate) recipe: Recipe,
}

/// How far back from the end `start: end` looks for the start of the last line.
const LAST_LINE_BYTES: u64 = 64 * 1024;

/// How much more than the longest line a chunk must have, so that its end is found in it.
const LINE_END_ROOM: usize = 64;

/// A file that is being followed. Most of them rest: what only a file that is being read needs stands behind a pointer.
#[derive(Debug)]
pub(crate) struct Follow {
    held: Held,
    /// Index of its input.
    pub(crate) input: usize,
    /// Where it was last seen.
    pub(crate) path: Arc<Path>,
    /// The folder in which it really is, if a link led to it.
    pub(crate) home: Option<Box<Path>>,
    /// Where it was first seen, as shipped.
    pub(crate) shipped_path: Arc<str>,
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
    /// Its size at the last look that found what was read before in its place.
    reached: u64,
    long: Option<Box<LongLine>>,
    recipe: Recipe,
    /// After a reload: to be used as soon as nothing is open.
    next_recipe: Option<Box<Recipe>>,
    way: Way,
    /// What the checkpoint has of the life before, which was truncated: it goes when this life has an entry of its own.
    pub(crate) replaces: Option<Box<Saved>>,
    /// Cuts by time of an earlier life, for the first assembly.
    pub(crate) cuts: Vec<u64>,
    /// A cut by time is being made durable: until then nothing is read.
    pub(crate) is_cutting: bool,
    /// All is known that stands in each of its records.
    pub(crate) is_known: bool,
    pub(crate) is_queued: bool,
    pub(crate) is_listed: bool,
    /// It has no name any more.
    pub(crate) is_deleted: bool,
    /// Its log and the other generations of that.
    pub(crate) series: SeriesId,
    /// While there is something to read that will be deleted some day.
    pub(crate) backlog: Option<Box<Backlog>>,
    /// Size at which every complete line was read.
    read_out_at: u64,
    /// Its input is gone: it is read up to here.
    pub(crate) ends_at: Option<u64>,
    pub(crate) changed: Instant,
    /// Bytes of the next read; a longer line makes it grow.
    chunk_bytes: u32,
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
    Open(Box<OpenFile>),
    /// `head`: how it began, as long as no incarnation was made of it.
    Closed {
        anchor: Anchor,
        head: Box<[u8]>,
    },
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    edges: Edges,
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

impl Held {
    fn open(file: File, edges: Edges) -> Self {
        Self::Open(Box::new(OpenFile { file, edges }))
    }
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

impl Follow {
    /// Starts to follow `file` at its start.
    pub(crate) fn new(file: File, place: Place, inode: Inode, stream: StreamId, now: Instant) -> Self {
        let Place { input, path, recipe } = place;
        Self {
            held: Held::open(file, Edges::default()),
            input,
            shipped_path: path.to_string_lossy().into(),
            card: Arc::new(Card::new(path.clone(), inode)),
            path,
            home: None,
            inode,
            generation: 0,
            stream,
            source: None,
            offset: 0,
            epoch: 0,
            seq: 0,
            reread_below: 0,
            seen: Sighting::default(),
            reached: 0,
            long: None,
            recipe,
            next_recipe: None,
            way: Way::Untold,
            replaces: None,
            cuts: Vec::new(),
            is_cutting: false,
            is_known: false,
            is_queued: false,
            is_listed: true,
            is_deleted: false,
            series: SeriesId::default(),
            backlog: None,
            read_out_at: 0,
            ends_at: None,
            changed: now,
            chunk_bytes: CHUNK_BYTES as u32,
        }
    }

    /// Reads no more than about so many bytes at once from now on, but never more than it would by itself.
    pub(crate) fn read_at_once(&mut self, bytes: usize) {
        self.chunk_bytes = bytes.clamp(1, CHUNK_BYTES) as u32;
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
        let Held::Open(open) = &mut self.held else { return Err(closed()) };
        let Some(found) = Edges::read(&open.file, offset)? else { return Ok(false) };
        open.edges = found;
        self.begin_at(offset);
        Ok(true)
    }

    /// Goes back to `progress` in another epoch: what lay behind it was given back. False if what lies before it is no
    /// longer what was read: the file was truncated since.
    pub(crate) fn rewind(&mut self, progress: &Progress, epoch: u32) -> io::Result<bool> {
        self.reread_below = self.reread_below.max(self.offset);
        (self.epoch, self.seq, self.read_out_at) = (epoch, 0, 0);
        if let Held::Closed { anchor, .. } = &mut self.held {
            *anchor = progress.anchor;
            self.begin_at(progress.offset);
            return Ok(true);
        }
        if progress.offset > 0 && compare(self.file()?, progress.offset, &progress.anchor)? == Likeness::Other {
            self.begin_at(progress.offset); // What was given back is gone with the rest.
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
        next.series = self.series;
        next.generation = self.generation + 1;
        next.is_listed = self.is_listed;
        next.ends_at = self.ends_at.map(|_| u64::MAX); // To its end, wherever that is now.
        next.home.clone_from(&self.home);
        Ok(next)
    }

    /// The open file. An error if it is closed.
    pub(crate) fn file(&self) -> io::Result<&File> {
        match &self.held {
            Held::Open(open) => Ok(&open.file),
            Held::Closed { .. } => Err(closed()),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.held, Held::Open(_))
    }

    /// Gives the descriptor back. False if it has to stay open: the file has no name left by which it could be found again,
    /// and not all of it is settled.
    pub(crate) fn close(&mut self) -> bool {
        let Held::Open(open) = &self.held else { return true };
        let OpenFile { file, edges } = &**open;
        let is_read = || self.is_done() && edges.tail_stands(file, self.offset).unwrap_or(false);
        if file.metadata().map_or(true, |found| found.nlink() == 0) && !is_read() {
            return false;
        }
        let head = if self.source.is_none() { edges.head().into() } else { Box::default() };
        self.held = Held::Closed { anchor: edges.anchor(), head };
        true
    }

    /// Gives back what only reading needs: with nothing open, the next look makes it anew.
    pub(crate) fn rest(&mut self) {
        if let Way::Assembled(assembly) = &self.way
            && assembly.is_idle()
            && assembly.handed_to() == self.offset
        {
            self.begin_at(self.offset);
        }
        if let Held::Open(open) = &mut self.held {
            open.edges.shrink();
        }
    }

    /// Gives back what is kept of a line whose end was not found; it is scanned again when the file grows.
    pub(crate) fn let_go_of_long_line(&mut self) {
        self.long = None;
    }

    /// Opens a closed file again. Errors: it cannot be opened now, which says nothing of whether it is still there.
    pub(crate) fn open(&mut self, links: Links) -> io::Result<Opened> {
        let Held::Closed { anchor, head } = &self.held else { return Ok(Opened::Same) };
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
        let edges = edges.unwrap_or_else(|| Edges::of_head(head.to_vec()));
        self.held = Held::open(file, edges);
        Ok(opened)
    }

    /// All before it was handed on: the start of what is open, or the next byte to read.
    pub(crate) fn handed_to(&self) -> u64 {
        match &self.way {
            Way::Assembled(assembly) => assembly.handed_to(),
            _ => self.offset,
        }
    }

    pub(crate) fn anchor(&self) -> Anchor {
        match &self.held {
            Held::Open(open) => open.edges.anchor(),
            Held::Closed { anchor, .. } => *anchor,
        }
    }

    /// True if every byte read so far is settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.source.is_none() || self.card.committed() == self.handed_to()
    }

    /// True if there is nothing more to read, as far as is known, and all of it is settled.
    pub(crate) fn is_done(&self) -> bool {
        let size = self.file().and_then(File::metadata).map_or(self.seen.size, |found| found.len());
        (size == self.offset || self.is_read_out()) && !self.has_open() && self.is_settled()
    }

    /// True if an event is not finished.
    pub(crate) fn has_open(&self) -> bool {
        matches!(&self.way, Way::Assembled(assembly) if !assembly.is_idle())
    }

    /// True if its input is gone and it is read as far as it then reached.
    pub(crate) fn is_read_out(&self) -> bool {
        self.ends_at.is_some_and(|end| self.offset >= end)
    }

    /// The incarnation that the file's content gives now; `None` before its first complete line.
    pub(crate) fn incarnation(&self, agent: &str) -> io::Result<Option<Incarnation>> {
        incarnation(self.file()?, agent, &self.inode, self.generation, &self.recipe.decoder)
    }

    /// The incarnation that what was read of it gives; `None` before its first complete line. The file itself may have been
    /// truncated since, or be closed.
    pub(crate) fn incarnation_read(&self, agent: &str) -> Option<Incarnation> {
        let head = match &self.held {
            Held::Open(open) => open.edges.head(),
            Held::Closed { head, .. } => head,
        };
        incarnation_of(head, agent, &self.inode, self.generation, &self.recipe.decoder)
    }

    /// Bytes behind the offset that were there and are there no longer, as far as is known.
    pub(crate) fn unread(&self) -> u64 {
        self.reached.max(self.seen.size).saturating_sub(self.offset)
    }

    /// The last look found every complete line.
    pub(crate) fn note_end(&mut self) {
        self.read_out_at = self.reached.max(self.seen.size);
    }

    /// Bytes that wait for a turn, as far as the last listing showed; a last line that has no end yet does not wait for us, nor
    /// does what comes after the end of an input that is gone.
    pub(crate) fn waiting(&self) -> u64 {
        let size =
            if self.is_listed { self.seen.size } else { self.stat().map_or(self.seen.size, |(seen, _)| seen.size) };
        let is_wanted = size > self.read_out_at && !self.is_read_out();
        if is_wanted { size.saturating_sub(self.offset) } else { 0 }
    }

    /// Size and number of names now. `None` if it is closed and not found under its name.
    pub(crate) fn stat_now(&self) -> Option<(u64, u64)> {
        let found = match &self.held {
            Held::Open(open) => open.file.metadata().ok()?,
            Held::Closed { .. } => self.path.symlink_metadata().ok().filter(|found| Inode::of(found) == self.inode)?,
        };
        Some((found.len(), found.nlink()))
    }

    /// How an open file looks, and the number of its names; how a closed one was last seen, and one name.
    pub(crate) fn stat(&self) -> io::Result<(Sighting, u64)> {
        match &self.held {
            Held::Open(open) => open.file.metadata().map(|found| (Sighting::of(&found), found.nlink())),
            Held::Closed { .. } => Ok((self.seen, 1)),
        }
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
mod tests;
