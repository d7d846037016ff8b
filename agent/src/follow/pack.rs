//! A look at a packed file: it is unpacked once, forward, a piece a turn. Offsets, edges and the incarnation are those of what
//! it unpacks to, so that it may go on where the plain file stopped.

use super::{CHUNK_BYTES, Follow, Held, LINE_END_ROOM, Look, closed};
use crate::checkpoint::Key;
use crate::identity::{Edges, Inode, Likeness};
use crate::unpack::{Ending, Filled, Packing, Window};
use event::{Anchor, StreamId};
use std::io;
use std::time::Instant;

/// How far back what was unpacked is kept for an event whose end has not come. Of a longer one the span is settled later.
const KEPT_BYTES_MAX: u64 = 1024 * 1024;

/// What is known of a packed file.
#[derive(Debug)]
pub(crate) struct Pack {
    packing: Packing,
    /// The inode that the incarnation is made of: that of the original if this is a copy that is read in its place.
    pub(crate) origin: Inode,
    /// Set while it may be the copy of a file that is known: then nothing of it is shipped.
    suspect: Option<Suspect>,
    /// What is unpacked of it; `None` while it is not being read.
    pub(crate) window: Option<Window>,
    /// The first bytes that it unpacks to, up to 1024.
    head: Vec<u8>,
    /// The offset is still to be reached …
    is_reaching: bool,
    /// … and there the content must have this anchor.
    pub(crate) goal: Option<Anchor>,
    /// With this size on disk there is nothing more to read.
    pub(crate) rest_at: Option<u64>,
    /// Where it ended then.
    unpacked: u64,
    /// It is read in place of the plain file that it was made of, of which more may have been read than it holds.
    pub(crate) is_copy: bool,
    /// Somebody is still to be told that it is at rest.
    is_rest_new: bool,
    ending: Option<Ending>,
}

/// A file that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Twin {
    /// It is followed.
    File(StreamId),
    /// Only the checkpoint knows it.
    Entry(Key),
}

/// What is known of a packed file that may be the copy of another.
#[derive(Debug, Default)]
pub(crate) struct Suspect {
    /// What it is compared with.
    pub(crate) twin: Option<Twin>,
    /// It is no copy of these.
    pub(crate) tried: Vec<Twin>,
    /// It was found to be a copy up to here, where what is there of it ends.
    pub(crate) proved: Option<u64>,
    /// If it is no copy, it is old, and nothing of it is to be shipped.
    pub(crate) is_old: bool,
}

impl Pack {
    pub(crate) fn new(packing: Packing, inode: Inode) -> Self {
        Self {
            packing,
            origin: inode,
            suspect: None,
            window: None,
            head: Vec::new(),
            is_reaching: false,
            goal: None,
            rest_at: None,
            unpacked: 0,
            is_copy: false,
            is_rest_new: false,
            ending: None,
        }
    }

    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Reading goes on at `offset`, where the content must have `anchor`.
    pub(crate) fn reach(&mut self, offset: u64, anchor: Option<Anchor>) {
        (self.is_reaching, self.goal) = (offset > 0, anchor.filter(|_| offset > 0));
    }

    /// Nothing more will come while the file has this size on disk.
    pub(crate) fn rest(&mut self, size_on_disk: u64, offset: u64) {
        (self.rest_at, self.unpacked) = (Some(size_on_disk), offset);
    }

    /// What it unpacks to, as far as that is known: of what was not unpacked yet only the packed bytes can be told.
    pub(super) fn size(&self, size_on_disk: u64, offset: u64) -> u64 {
        if self.rest_at == Some(size_on_disk) {
            return self.unpacked.max(offset);
        }
        let window = self.window.as_ref();
        let (end, read) = window.map_or((0, 0), |window| (window.end(), window.packed_bytes()));
        end.max(offset) + size_on_disk.saturating_sub(read)
    }

    /// What of that lies behind the offset; of a copy it is the original's.
    pub(super) fn unread(&self, size_on_disk: u64, offset: u64) -> u64 {
        let is_copy = self.suspect.as_ref().is_some_and(|suspect| suspect.proved.is_some());
        if is_copy { 0 } else { self.size(size_on_disk, offset) - offset }
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let bytes = self.window.as_ref().map_or(0, |window| window.read_at(buffer, offset));
        if bytes > 0 || offset > 0 {
            return bytes;
        }
        let bytes = self.head.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&self.head[..bytes]);
        bytes
    }

    fn note_head(&mut self) {
        let Some(head) = self.window.as_ref().map(Window::head) else { return };
        let is_same = head.iter().zip(&self.head).all(|(byte, known)| byte == known);
        if !is_same && let Some(suspect) = &mut self.suspect {
            *suspect = Suspect { is_old: suspect.is_old, ..Suspect::default() }; // It was written anew.
        }
        if !is_same || head.len() > self.head.len() {
            self.head = head.to_vec();
        }
    }
}

impl Follow {
    /// What is known of it while it may be a packed copy.
    pub(crate) fn suspect(&self) -> Option<&Suspect> {
        self.pack.as_ref()?.suspect.as_ref()
    }

    pub(crate) fn suspect_mut(&mut self) -> Option<&mut Suspect> {
        self.pack.as_mut()?.suspect.as_mut()
    }

    /// It is no suspect any more.
    pub(crate) fn clear(&mut self) -> Option<Suspect> {
        self.pack.as_mut()?.suspect.take()
    }

    /// Nothing of a packed file is shipped before it is known whether it is a copy. `is_old`: nor if it is none.
    pub(crate) fn make_suspect(&mut self, is_old: bool) {
        if let Some(pack) = &mut self.pack {
            pack.suspect = Some(Suspect { is_old, ..Suspect::default() });
        }
    }

    /// At its start: a file that begins as a packed one does is one. True if so.
    pub(crate) fn look_for_packing(&mut self) -> io::Result<bool> {
        let packing = self.recipe.compression.of_file(self.file()?)?;
        self.pack = packing.map(|packing| Box::new(Pack::new(packing, self.inode)));
        self.make_suspect(false);
        Ok(self.pack.is_some())
    }

    pub(super) fn look_into_pack(&mut self, line_bytes_max: usize, now: Instant) -> io::Result<Look> {
        let size_on_disk = self.stat()?.0.size;
        let (offset, handed_to) = (self.offset, self.handed_to());
        if !self.is_pack_ready(size_on_disk)? {
            return Ok(Look::Truncated);
        }
        let scanned = self.scanned();
        let Held::Open(open) = &mut self.held else { return Err(closed()) };
        let Some(pack) = &mut self.pack else { return Ok(Look::End) };
        let Some(window) = &mut pack.window else { return Ok(Look::End) }; // At rest.
        if pack.is_reaching {
            match window.fill(offset, offset)? {
                Filled::More => return Ok(Look::More),
                Filled::Reached => {
                    let Some(found) = window.edges(offset) else { return Ok(Look::Truncated) };
                    if pack.goal.is_some_and(|goal| found.likeness(&goal) == Likeness::Other) {
                        return Ok(Look::Truncated);
                    }
                    open.edges = found;
                    (pack.is_reaching, pack.goal) = (false, None);
                }
                Filled::Ended if window.ending() == Some(&Ending::Clean) && !pack.is_copy => {
                    return Ok(Look::Truncated);
                }
                Filled::Ended => {
                    self.come_to_rest(size_on_disk);
                    return Ok(Look::End);
                }
            }
        }
        // Of a line that is too long to keep, only its end is looked for.
        let from = if scanned > offset { scanned } else { handed_to.max(offset.saturating_sub(KEPT_BYTES_MAX)) };
        let wanted = CHUNK_BYTES.max(line_bytes_max + LINE_END_ROOM) as u64;
        let filled = window.fill(from.min(scanned), scanned + wanted)?;
        if filled == Filled::More {
            return Ok(Look::More);
        }
        let size = window.end() + u64::from(filled == Filled::Reached); // Then there may be more.
        pack.note_head();
        match self.look_up_to(size, line_bytes_max, now)? {
            Look::Lines(lines) => Ok(Look::Lines(super::Lines { is_full: true, ..lines })),
            Look::End => {
                self.come_to_rest(size_on_disk);
                Ok(Look::End)
            }
            look => Ok(look),
        }
    }

    /// How far it was looked at: the offset, or the place up to which a long line's end was looked for.
    fn scanned(&self) -> u64 {
        self.long.as_ref().map_or(self.offset, |long| long.scanned)
    }

    /// Makes the window, if there may be something to read. False if the file was written anew.
    fn is_pack_ready(&mut self, size_on_disk: u64) -> io::Result<bool> {
        let scanned = self.scanned();
        let Held::Open(open) = &self.held else { return Err(closed()) };
        let Some(pack) = &mut self.pack else { return Ok(true) };
        if pack.rest_at == Some(size_on_disk) {
            return Ok(true);
        }
        pack.rest_at = None;
        if let Some(window) = &pack.window {
            // Its size alone proves nothing: over a network file system it may be an old one.
            if !window.stands()? {
                return Ok(false);
            }
            let is_passed = window.end() > scanned && window.edges(scanned).is_none();
            if is_passed || window.ending().is_some_and(|ending| ending.problem().is_some()) {
                pack.window = None; // From its start again.
            }
        }
        if pack.window.is_none() {
            pack.window = Some(Window::new(open.file.try_clone()?, pack.packing)?);
            pack.is_reaching = self.offset > 0;
            self.long = None; // Its end is looked for anew.
        }
        Ok(true)
    }

    /// Nothing more is there for now: what it takes to unpack it is given back, unless it is still being written.
    fn come_to_rest(&mut self, size_on_disk: u64) {
        let Some(pack) = &mut self.pack else { return };
        pack.note_head();
        let window = pack.window.as_ref();
        let (ending, end) = (window.and_then(|window| window.ending().cloned()), window.map_or(0, Window::end));
        pack.is_rest_new |= (pack.rest_at, pack.unpacked) != (Some(size_on_disk), end);
        pack.rest(size_on_disk, end);
        let is_growing = ending == Some(Ending::Unfinished);
        pack.ending = ending;
        if !is_growing {
            self.stop_unpacking();
        }
    }

    /// Gives back what it takes to unpack the file. It is unpacked again up to its offset when there is more.
    pub(crate) fn stop_unpacking(&mut self) {
        let Held::Open(open) = &self.held else { return };
        let Some(pack) = &mut self.pack else { return };
        if pack.window.take().is_some() && !pack.is_reaching {
            pack.reach(self.offset, Some(open.edges.anchor()));
        }
    }

    /// True if it has what it takes to unpack it.
    pub(crate) fn is_unpacking(&self) -> bool {
        self.pack.as_ref().is_some_and(|pack| pack.window.is_some())
    }

    /// Where the unfinished last line of a file ends that was packed to its end.
    pub(crate) fn unfinished_end(&self) -> Option<u64> {
        let pack = self.pack.as_ref().filter(|pack| pack.suspect.is_none() && pack.ending == Some(Ending::Clean))?;
        let end = pack.rest_at.map(|_| pack.unpacked)?;
        (end > self.offset && !self.is_cutting && !self.has_cut(end)).then_some(end)
    }

    /// Why it came to rest since this was asked last: the size on disk, and the problem if there is one.
    pub(crate) fn take_rest(&mut self) -> Option<(u64, Option<Ending>)> {
        let is_open = self.handed_to() != self.offset;
        let pack = self.pack.as_mut()?;
        // What is open of it has still to be handed on: until then there is something left to read after a restart.
        let size = pack.rest_at.filter(|_| !is_open && std::mem::take(&mut pack.is_rest_new))?;
        Some((size, pack.ending.clone()))
    }

    pub(super) fn go_back_in_pack(&mut self, offset: u64, goal: Option<Anchor>) {
        let Some(pack) = &mut self.pack else { return };
        pack.rest_at = None;
        let near = pack.window.as_ref().and_then(|window| window.edges(offset));
        match near.filter(|edges| goal.is_none_or(|goal| edges.likeness(&goal) != Likeness::Other)) {
            Some(found) => {
                pack.reach(0, None);
                if let Held::Open(open) = &mut self.held {
                    open.edges = found;
                }
            }
            None => {
                pack.reach(offset, goal);
                if offset == 0 {
                    pack.window = None;
                }
                match &mut self.held {
                    Held::Open(open) if offset == 0 => open.edges = Edges::default(),
                    Held::Open(_) => {}
                    Held::Closed { anchor, .. } => *anchor = goal.unwrap_or_default(),
                }
            }
        }
        self.begin_at(offset);
    }

    /// Unpacks up to `until`, for a comparison. `None`: it takes another turn; else whether it ends before.
    pub(crate) fn unpack_to(&mut self, until: u64) -> io::Result<Option<bool>> {
        let Held::Open(open) = &self.held else { return Err(closed()) };
        let Some(pack) = &mut self.pack else { return Ok(Some(true)) };
        if pack.window.as_ref().is_some_and(|window| window.end() > until && window.edges(until).is_none()) {
            pack.window = None;
        }
        let window = match &mut pack.window {
            Some(window) => window,
            none => none.insert(Window::new(open.file.try_clone()?, pack.packing)?),
        };
        let filled = window.fill(until.min(window.end()), until)?;
        pack.note_head();
        Ok(match filled {
            Filled::More => None,
            Filled::Reached => Some(false),
            Filled::Ended => Some(true),
        })
    }

    /// Begins anew with unpacking if the file was written anew.
    pub(crate) fn check_window(&mut self) -> io::Result<()> {
        let Some(pack) = &mut self.pack else { return Ok(()) };
        let Some(window) = &pack.window else { return Ok(()) };
        let is_dead = window.ending().is_some_and(|ending| ending.problem().is_some());
        if is_dead || !window.stands()? {
            (pack.window, pack.head) = (None, Vec::new());
        }
        Ok(())
    }

    /// The edges of what is unpacked, if they are kept.
    pub(crate) fn unpacked_edges(&self, offset: u64) -> Option<Edges> {
        self.pack.as_ref()?.window.as_ref()?.edges(offset)
    }

    /// Where what is unpacked now ends, and why.
    pub(crate) fn unpacked_end(&self) -> (u64, Option<Ending>) {
        let window = self.pack.as_ref().and_then(|pack| pack.window.as_ref());
        window.map_or((0, None), |window| (window.end(), window.ending().cloned()))
    }

    /// Goes on with the packed copy of the file, whose own content is gone. All that it holds was read if it ends at `end`.
    pub(crate) fn take_body(&mut self, copy: Self, end: u64) {
        let (anchor, origin, offset) = (self.anchor(), *self.origin(), self.offset);
        let Self { held, pack, path, home, inode, seen, is_listed, .. } = copy;
        (self.held, self.path, self.home, self.inode) = (held, path, home, inode);
        (self.seen, self.is_listed, self.is_deleted) = (seen, is_listed, false);
        self.let_go_of_long_line(); // Its end is looked for anew.
        self.pack = pack;
        let Some(pack) = &mut self.pack else { return };
        (pack.origin, pack.is_copy, pack.suspect) = (origin, true, None);
        pack.reach(offset, Some(anchor));
        let size_on_disk = pack.rest_at.take();
        if let Some(size) = size_on_disk.filter(|_| end <= offset) {
            pack.window = None;
            pack.rest(size, end);
            pack.is_rest_new = true;
        }
    }
}

#[cfg(test)]
mod tests;
