//! A file that is gone → the packed copy in which it is read on.

use super::{Tail, enqueue};
use crate::checkpoint::PackedAt;
use crate::commit::Control;
use crate::follow::Twin;
use crate::unpack::Compression;
use event::StreamId;
use service::clock::monotonic;
use std::time::Instant;

/// A file that is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    /// When it was found to be, or to have grown since.
    since: Instant,
    size: u64,
}

impl Tail {
    /// True if a deleted file, of this size now, was neither found nor has grown since the last listing was begun.
    pub(super) fn is_gone_for_good(&mut self, stream: StreamId, size: u64) -> bool {
        let now = || Gone { since: monotonic(), size };
        let gone = self.gone.entry(stream).or_insert_with(now);
        if gone.size != size {
            *gone = now(); // Somebody has it open.
        }
        self.listed.is_some_and(|listed| listed > gone.since)
    }

    /// A file is gone that is about to be let go. True if it is kept: a packed copy is read in its place now, or one may turn up.
    pub(super) async fn has_copy(&mut self, stream: StreamId) -> bool {
        let Some(file) = self.files.get(&stream) else { return false };
        let input = file.input;
        if self.inputs[input].recipe.compression == Compression::None || file.suspect().is_some() {
            return false;
        }
        let size = file.stat().map_or(0, |(now, _)| now.size);
        let is_gone_for_good = self.is_gone_for_good(stream, size);
        let (mut copy, mut is_open) = (None, false);
        for (other, suspect) in self.suspects().filter(|(other, _)| other.input == input) {
            is_open |= suspect.proved.is_none() && other.is_queued;
            if suspect.twin == Some(Twin::File(stream)) && suspect.proved.is_some() {
                copy = Some((other.stream, suspect.proved.unwrap_or(u64::MAX)));
            }
        }
        if let Some((copy, end)) = copy {
            self.read_on_in(stream, copy, end).await;
            return true;
        }
        // A packer removes the original last: a listing that was begun after that shows the copy.
        is_open || !is_gone_for_good
    }

    /// The file goes on in its packed copy.
    async fn read_on_in(&mut self, stream: StreamId, copy: StreamId, end: u64) {
        let Some(copied) = self.files.remove(&copy) else { return };
        self.handles.closed(copy);
        self.handles.closed(stream);
        self.board.take_down(copy);
        self.held.forget(copy);
        self.deadlines.gone(copy, copied.series);
        self.gone.remove(&stream);
        let Some(file) = self.files.get_mut(&stream) else { return };
        tracing::info!(path = %file.path.display(), copy = %copied.path.display(), offset = file.offset,
            "it is gone, and read on in its packed copy");
        let place = (file.input, file.inode.device, file.inode.number);
        if self.by_inode.get(&place) == Some(&stream) {
            self.by_inode.remove(&place);
        }
        self.by_inode.insert((file.input, copied.inode.device, copied.inode.number), stream);
        file.take_body(*copied, end);
        if file.is_open() {
            self.handles.used(stream, file.input);
        }
        if file.source.is_some() {
            let packed = PackedAt { inode: file.inode, rest: None };
            self.control.send(Control::Packed { stream, packed }).await.ok(); // Closed only when the agent ends.
        }
        enqueue(file, &mut self.ready);
    }
}
