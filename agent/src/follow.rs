//! One open file → chunks of lines. Decides what a look at the file means; owns no queue and waits for nothing.

mod look;
mod pack;

pub(crate) use pack::{Pack, Suspect, Twin};

use crate::assemble::{Assembly, Recipe};
use crate::board::Card;
use crate::identity::{Edges, HEAD_BYTES_MAX, Inode, Likeness, compare, incarnation, incarnation_of};
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
    /// The inode that its incarnation is made of: another one if this is a packed copy that is read in place of the original.
    pub(crate) origin: Inode,
    /// Set if it is packed: then offsets count what it unpacks to.
    pub(crate) pack: Option<Box<Pack>>,
    /// Set while it may be the packed copy of a file that is known: then nothing of it is shipped.
    pub(crate) suspect: Option<Box<Suspect>>,
    /// When it was found to be gone.
    pub(crate) gone_since: Option<Instant>,
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
    /// It begins as a packed file does, and nothing of it was read.
    Packed,
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
            origin: inode,
            pack: None,
            suspect: None,
            gone_since: None,
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
        if self.pack.is_some() {
            self.go_back_in_pack(offset, None);
            return Ok(true);
        }
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
        if self.pack.is_some() {
            self.go_back_in_pack(progress.offset, Some(progress.anchor));
            self.card.start_at(progress.offset);
            return Ok(true);
        }
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
        next.generation = self.generation + 1;
        next.is_listed = self.is_listed;
        next.pack = next.recipe.compression.of_file(next.file()?)?.map(|packing| Box::new(Pack::new(packing)));
        Ok(next)
    }

    /// The open file. An error if it is closed.
    pub(crate) fn file(&self) -> io::Result<&File> {
        match &self.held {
            Held::Open { file, .. } => Ok(file),
            Held::Closed(_) => Err(closed()),
        }
    }

    /// The first bytes of its content, up to 1024, if they are at hand.
    pub(crate) fn known_head(&self) -> Option<Vec<u8>> {
        if let Some(pack) = &self.pack {
            return Some(pack.head().to_vec()).filter(|head| !head.is_empty());
        }
        let mut head = vec![0; HEAD_BYTES_MAX];
        let read = read_at(self.file().ok()?, &mut head, 0).ok()?;
        head.truncate(read);
        Some(head)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.held, Held::Open { .. })
    }

    /// Gives the descriptor back. False if it has to stay open: the file has no name left by which it could be found again,
    /// and not all of it is settled.
    pub(crate) fn close(&mut self) -> bool {
        let Held::Open { file, edges } = &self.held else { return true };
        let stands = || self.pack.is_some() || edges.tail_stands(file, self.offset).unwrap_or(false);
        if file.metadata().map_or(true, |found| found.nlink() == 0) && !(self.is_done() && stands()) {
            return false;
        }
        let anchor = self.anchor();
        self.stop_unpacking();
        self.held = Held::Closed(anchor);
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
        if self.pack.is_some() {
            // What it unpacks to is compared on the way to the offset.
            self.held = Held::Open { file, edges: Edges::default() };
            return Ok(Opened::Same);
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

    pub(crate) fn anchor(&self) -> Anchor {
        if let Some(anchor) = self.pack.as_ref().and_then(|pack| pack.goal) {
            return anchor;
        }
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
        let size = self.stat().map_or(self.seen.size, |(size, _)| size);
        let is_open = matches!(&self.way, Way::Assembled(assembly) if !assembly.is_idle());
        size == self.offset && !is_open && self.is_settled()
    }

    /// The incarnation that the file's content gives now; `None` before its first complete line.
    pub(crate) fn incarnation(&self, agent: &str) -> io::Result<Option<Incarnation>> {
        if let Some(pack) = &self.pack {
            return Ok(incarnation_of(pack.head(), agent, &self.origin, self.generation, &self.recipe.decoder));
        }
        incarnation(self.file()?, agent, &self.origin, self.generation, &self.recipe.decoder)
    }

    /// Size and number of names of an open file; of a closed one the size that was last seen, and one name. The size of a
    /// packed file is what it unpacks to, as far as that is known.
    pub(crate) fn stat(&self) -> io::Result<(u64, u64)> {
        let (size, names) = self.stat_on_disk()?;
        Ok((self.pack.as_ref().map_or(size, |pack| pack.size(size, self.offset)), names))
    }

    /// The same as the file system says it.
    pub(crate) fn stat_on_disk(&self) -> io::Result<(u64, u64)> {
        match &self.held {
            Held::Open { file, .. } => file.metadata().map(|found| (found.len(), found.nlink())),
            Held::Closed(_) => Ok((self.seen.size, 1)),
        }
    }

    /// True if a file of this size on disk may have something that was not read.
    pub(crate) fn has_more(&self, size_on_disk: u64) -> bool {
        match &self.pack {
            Some(pack) => pack.rest_at != Some(size_on_disk),
            None => size_on_disk != self.offset,
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
