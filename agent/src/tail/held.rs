//! The files that a rate plan holds. They are not read, so nothing of them is in memory; each is asked for again when its limit has
//! room, and those that came first come first.

use super::{Tail, enqueue};
use event::StreamId;
use service::clock::monotonic;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Asking for a file takes some microseconds: with many held files each is asked for less often, so that all of them together take
/// no more than some percent of a core.
const ASK_PAUSE: Duration = Duration::from_micros(100);

/// The held files.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By the number that each has since it was read last: a file that is held again keeps its place.
    numbers: HashMap<StreamId, u64>,
    waiting: BTreeMap<(Instant, u64), StreamId>,
    places: HashMap<StreamId, (Instant, u64)>,
    last: u64,
}

impl Held {
    /// Lets a file wait until then, and no shorter than many files may ask.
    pub(super) fn hold(&mut self, stream: StreamId, until: Instant, now: Instant) {
        let others = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let until = until.max(now + ASK_PAUSE.saturating_mul(others));
        self.last += 1;
        let number = *self.numbers.entry(stream).or_insert(self.last);
        if let Some(before) = self.places.insert(stream, (until, number)) {
            self.waiting.remove(&before);
        }
        self.waiting.insert((until, number), stream);
    }

    /// It may be read, or is followed no longer. True if it was held.
    pub(super) fn forget(&mut self, stream: StreamId) -> bool {
        if let Some(place) = self.places.remove(&stream) {
            self.waiting.remove(&place);
        }
        self.numbers.remove(&stream).is_some()
    }

    /// True if it is held, or was until it was asked for last.
    pub(super) fn has(&self, stream: StreamId) -> bool {
        self.numbers.contains_key(&stream)
    }

    /// When the first of them is to be asked for again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((until, _), _)| *until)
    }

    /// Those whose time has come, in the order in which they were held first.
    fn release(&mut self, now: Instant) -> Vec<StreamId> {
        let mut due = Vec::new();
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, number), stream) = first.remove_entry();
            self.places.remove(&stream);
            due.push((number, stream));
        }
        due.sort_unstable();
        due.into_iter().map(|(_, stream)| stream).collect()
    }
}

impl Tail {
    /// True if a rate plan holds the file: it has its next turn when there is room. Asked before it is opened.
    pub(super) fn is_held(&mut self, stream: StreamId) -> bool {
        let Some(file) = self.files.get_mut(&stream) else { return false };
        file.is_queued = false;
        let input = &self.inputs[file.input].shared;
        match self.output.gate.opens(stream, input, &file.shipped_path) {
            Some(until) => {
                self.held.hold(stream, until, monotonic());
                file.card.is_held(true);
                self.ready.is_backlogged(); // It is not read as fast as it could be.
                true
            }
            None => {
                file.read_at_once(self.output.gate.chunk_bytes(input));
                if self.held.forget(stream) {
                    file.card.is_held(false);
                }
                false
            }
        }
    }

    /// Queues the files that may have room by now.
    pub(super) fn release_held(&mut self) {
        for stream in self.held.release(monotonic()) {
            if let Some(file) = self.files.get_mut(&stream) {
                enqueue(file, &mut self.ready);
            }
        }
    }

    /// Who has the next turn; waits for those that are held. `None`: nobody waits.
    pub(super) async fn next_turn(&mut self) -> Option<StreamId> {
        loop {
            if let Some(stream) = self.ready.next() {
                return Some(stream);
            }
            until(Some(self.held.due()?)).await;
            self.release_held();
        }
    }
}

/// Waits for ever if there is no such time.
pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_held_first_come_first_and_keep_their_place() {
        let (mut held, start) = (Held::default(), monotonic());
        let at = |ms| start + Duration::from_millis(ms);
        for (stream, ms) in [(1, 30), (2, 10), (3, 20)] {
            held.hold(StreamId(stream), at(ms), start);
        }
        assert_eq!(held.due(), Some(at(10)));
        assert_eq!(held.release(at(20)), [StreamId(2), StreamId(3)]);
        held.hold(StreamId(3), at(30), start); // No room yet for these two.
        held.hold(StreamId(2), at(30), start);
        assert_eq!(held.release(at(30)), [StreamId(1), StreamId(2), StreamId(3)]);
        assert!(held.forget(StreamId(1)), "it is read");
        held.hold(StreamId(2), at(40), start);
        held.hold(StreamId(1), at(40), start);
        assert_eq!(held.release(at(40)), [StreamId(2), StreamId(1)], "whoever was read is the last again");
        assert_eq!(held.due(), None);
    }

    #[test]
    fn many_files_are_asked_for_less_often() {
        let (mut held, start) = (Held::default(), monotonic());
        (0..10_000).for_each(|stream| held.hold(StreamId(stream), start, start));
        let asked = held.release(start + Duration::from_millis(100)).len();
        assert!((990..=1_010).contains(&asked), "{asked} in a tenth of a second");
    }

    #[test]
    fn who_is_asked_for_in_between_waits_once() {
        let (mut held, start) = (Held::default(), monotonic());
        held.hold(StreamId(1), start, start);
        held.hold(StreamId(1), start + Duration::from_millis(5), start);
        assert_eq!(held.release(start), []);
        assert_eq!(held.release(start + Duration::from_millis(5)), [StreamId(1)]);
        assert!(held.forget(StreamId(1)) && !held.forget(StreamId(1)));
        assert!(held.numbers.is_empty() && held.places.is_empty() && held.waiting.is_empty());
    }
}
