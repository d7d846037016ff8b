//! How large a followed file is, and how much of it is left to read.

use super::{Follow, Held, Sighting};
use crate::identity::Inode;
use std::io;
use std::os::unix::fs::MetadataExt as _;

impl Follow {
    /// Bytes behind the offset that were there and are there no longer, as far as is known.
    pub(crate) fn unread(&self) -> u64 {
        match &self.pack {
            Some(pack) => pack.unread(self.seen.size, self.offset),
            None => self.reached.max(self.seen.size).saturating_sub(self.offset),
        }
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
        let has_more = if self.pack.is_some() { self.has_more(size) } else { size > self.read_out_at };
        let is_wanted = has_more && !self.is_read_out();
        if is_wanted { self.content_size(size).saturating_sub(self.offset) } else { 0 }
    }

    /// Size of its content if it has this size on disk: of a packed file what it unpacks to, as far as that is known.
    pub(crate) fn content_size(&self, size_on_disk: u64) -> u64 {
        self.pack.as_ref().map_or(size_on_disk, |pack| pack.size(size_on_disk, self.offset))
    }

    /// True if a file of this size on disk may have something that was not read.
    pub(crate) fn has_more(&self, size_on_disk: u64) -> bool {
        match &self.pack {
            Some(pack) => pack.rest_at != Some(size_on_disk),
            None => size_on_disk != self.offset,
        }
    }

    /// Size and number of names now. `None` if it is closed and not found under its name.
    pub(crate) fn stat_now(&self) -> Option<(u64, u64)> {
        let found = match &self.held {
            Held::Open(open) => open.file.metadata().ok()?,
            Held::Closed { .. } => self.path.symlink_metadata().ok().filter(|found| Inode::of(found) == self.inode)?,
        };
        Some((found.len(), found.nlink()))
    }

    /// How an open file looks on the disk, and the number of its names; how a closed one was last seen, and one name.
    pub(crate) fn stat(&self) -> io::Result<(Sighting, u64)> {
        match &self.held {
            Held::Open(open) => open.file.metadata().map(|found| (Sighting::of(&found), found.nlink())),
            Held::Closed { .. } => Ok((self.seen, 1)),
        }
    }
}
