//! How far each partition is read.

use super::Partitions;
use event::{Anchor, Progress};

impl Partitions {
    /// The next offset to be taken of a partition; `None` if it is not ours, `Some(None)` if nothing was taken yet.
    pub fn position(&self, topic: &str, partition: i32) -> Option<Option<u64>> {
        let stream = self.by_name.get(topic)?.get(&partition)?;
        let track = self.tracks.get(stream)?;
        Some(track.gathered.records.last().map(|last| last.offset as u64 + 1).or(track.position))
    }

    /// There is nothing to be read of an idle partition before `offset`: that counts as settled.
    pub fn skip(&mut self, topic: &str, partition: i32, offset: i64) {
        let Some(stream) = self.stream(topic, partition) else { return };
        let Some(track) = self.tracks.get_mut(&stream).filter(|track| track.gathered.records.is_empty()) else {
            return;
        };
        let offset = u64::try_from(offset).expect("Kafka's offsets are not negative");
        track.epoch += 1;
        track.age.forget();
        (track.next_seq, track.in_flight, track.position, track.committed) = (0, 0, Some(offset), None);
        self.ledger.open(stream, track.epoch, Progress { offset, anchor: Anchor::default() });
    }
}
