//! What is open of a file, and its unfinished last line: finished by time, or because the file has ended for good.

use super::{Tail, enqueue};
use crate::commit::Control;
use event::StreamId;
use std::time::Instant;

impl Tail {
    /// At the end of a file, of which an event is open: if its time was up when the look began, asks for the cut to be made
    /// durable. Only then: while reading pauses time goes on, and the event's next lines may have been written already.
    pub(super) async fn ask_for_cut(&mut self, stream: StreamId, looked: Instant) {
        let Some(file) = self.files.get(&stream).filter(|file| file.has_open() && !file.is_cutting) else { return };
        // It must be known to the checkpoint before a cut of it is, and can be told only while the file is open.
        let start = file.handed_to();
        if let Err(error) = self.source_of(stream, start).await {
            tracing::warn!(%error, "first line cannot be read again");
            return;
        }
        let Some(file) = self.files.get_mut(&stream).filter(|file| file.is_due(looked)) else { return };
        file.is_cutting = true;
        let cut = Control::Cut { stream, at: file.cut_offset(), done: self.cuts.clone() };
        self.control.send(cut).await.ok(); // Closed only when the agent ends.
    }

    /// Ships the event that time has finished; that it ends there is durable now. `None` as in [`Tail::turn`].
    pub(super) async fn cut(&mut self, stream: StreamId) -> Option<()> {
        let Some(file) = self.files.get_mut(&stream) else { return Some(()) };
        file.is_cutting = false;
        enqueue(file, &mut self.ready);
        if self.last_lines.remove(&stream) {
            return Some(()); // Its next look reads up to there.
        }
        match file.flush() {
            Some(lines) => self.ship(stream, lines).await,
            None => Some(()),
        }
    }

    /// A file has ended for good, at `end`, inside a line. Asks for a cut there to be made durable: behind it that line is read
    /// as any other, now and by whoever reads a copy of the file. False if there is no line, or none can be read.
    pub(super) async fn ask_for_last_line(&mut self, stream: StreamId, end: u64) -> bool {
        let Some(file) = self.files.get_mut(&stream).filter(|file| !file.has_cut(end)) else { return false };
        file.is_final = true;
        let start = file.handed_to();
        if let Err(error) = self.source_of(stream, start).await {
            tracing::warn!(%error, "first line cannot be read again");
            return false;
        }
        let Some(file) = self.files.get_mut(&stream) else { return false };
        file.add_cut(end);
        file.is_cutting = true;
        self.last_lines.insert(stream);
        let cut = Control::Cut { stream, at: end, done: self.cuts.clone() };
        self.control.send(cut).await.ok(); // Closed only when the agent ends.
        true
    }

    /// Ships what is open of a file that is gone: it cannot be read again, so the cut need not be recorded.
    pub(super) async fn finish_open(&mut self, stream: StreamId) {
        if let Some(lines) = self.files.get_mut(&stream).and_then(|file| file.flush_last()) {
            self.ship(stream, lines).await; // None: the later stages have ended.
        }
    }
}
