//! One open file → chunks of lines. Decides what a look at the file means; owns no queue and waits for nothing.

mod found;
mod last;
mod look;
mod pack;
mod sizes;

pub(crate) use pack::{Pack, Suspect, Twin};

pub(crate) use found::{Lines, Look, Passed};

use crate::assemble::{Assembly, Recipe};
use crate::board::Card;
use crate::checkpoint::Saved;
use crate::deadline::{Backlog, SeriesId};
use crate::identity::{Edges, HEAD_BYTES_MAX, Inode, Likeness, compare, incarnation_of};
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
    /// Set if it is packed: then offsets count what it unpacks to.
    pub(crate) pack: Option<Box<Pack>>,
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
    /// It has ended for good: an unfinished first line is its first line.
    pub(crate) is_final: bool,
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
            pack: None,
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
            is_final: false,
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
        if self.pack.is_some() {
            self.go_back_in_pack(offset, None);
            return Ok(true);
        }
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
        if self.pack.is_some() {
            self.go_back_in_pack(progress.offset, Some(progress.anchor));
            self.card.start_at(progress.offset);
            return Ok(true);
        }
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
            if self.is_cutting {
                self.cuts.push(assembly.cut_offset()); // The checkpoint will have it, so it holds for what is read again.
            }
        }
        (self.offset, self.long, self.way) = (offset, None, Way::Untold);
    }

    /// True if it stands at its start again and no longer begins with the line that its incarnation was made of.
    pub(crate) fn begins_anew(&self, agent: &str) -> io::Result<bool> {
        match &self.source {
            Some(source) if self.offset == 0 && self.pack.is_none() => {
                Ok(self.incarnation(agent)? != Some(source.incarnation))
            }
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
        next.look_for_packing()?;
        Ok(next)
    }

    /// The open file. An error if it is closed.
    pub(crate) fn file(&self) -> io::Result<&File> {
        match &self.held {
            Held::Open(open) => Ok(&open.file),
            Held::Closed { .. } => Err(closed()),
        }
    }

    /// The first bytes of its content, up to 1024, if they are at hand.
    pub(crate) fn known_head(&self) -> Option<Vec<u8>> {
        self.start().ok().filter(|head| !head.is_empty())
    }

    fn start(&self) -> io::Result<Vec<u8>> {
        if let Some(pack) = &self.pack {
            return Ok(pack.head().to_vec());
        }
        let mut head = vec![0; HEAD_BYTES_MAX];
        let read = read_at(self.file()?, &mut head, 0)?;
        head.truncate(read);
        Ok(head)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.held, Held::Open(_))
    }

    /// Gives the descriptor back. False if it has to stay open: the file has no name left by which it could be found again,
    /// and not all of it is settled; or it is being unpacked.
    pub(crate) fn close(&mut self) -> bool {
        let Held::Open(open) = &self.held else { return true };
        if self.is_unpacking() && self.is_queued {
            return false; // It would be unpacked from its start again, at each of its turns.
        }
        let OpenFile { file, edges } = &**open;
        let stands = || self.pack.is_some() || edges.tail_stands(file, self.offset).unwrap_or(false);
        if file.metadata().map_or(true, |found| found.nlink() == 0) && !(self.is_done() && stands()) {
            return false;
        }
        let is_head_kept = self.source.is_none() && self.pack.is_none();
        let head = if is_head_kept { edges.head().into() } else { Box::default() };
        let anchor = self.anchor();
        self.stop_unpacking();
        self.held = Held::Closed { anchor, head };
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
        if self.pack.is_some() {
            // What it unpacks to is compared on the way to the offset.
            self.held = Held::open(file, Edges::default());
            return Ok(Opened::Same);
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
        if let Some(anchor) = self.pack.as_ref().and_then(|pack| pack.goal) {
            return anchor;
        }
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
        let size = self.content_size(self.stat().map_or(self.seen.size, |(now, _)| now.size));
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
        Ok(self.incarnation_from(&self.start()?, agent))
    }

    fn incarnation_from(&self, head: &[u8], agent: &str) -> Option<Incarnation> {
        let (origin, generation) = (self.origin(), self.generation);
        let made = incarnation_of(head, agent, origin, generation, &self.recipe.decoder);
        let is_whole = self.is_final && !head.is_empty();
        made.or_else(|| is_whole.then(|| Incarnation::new(agent, origin.number, origin.birth_ns, head, generation)))
    }

    /// The incarnation that what was read of it gives; `None` before its first complete line. The file itself may have been
    /// truncated since, or be closed.
    pub(crate) fn incarnation_read(&self, agent: &str) -> Option<Incarnation> {
        let head = match (&self.pack, &self.held) {
            (Some(pack), _) => pack.head(),
            (None, Held::Open(open)) => open.edges.head(),
            (None, Held::Closed { head, .. }) => head,
        };
        self.incarnation_from(head, agent)
    }

    /// The inode that its incarnation is made of: another one if this is a packed copy that is read in place of the original.
    pub(crate) fn origin(&self) -> &Inode {
        self.pack.as_ref().map_or(&self.inode, |pack| &pack.origin)
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
