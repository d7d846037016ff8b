//! How old the first record of each partition is that has not come to its end.

use super::{Partitions, Track};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is known of a partition's time, beside its offsets.
#[derive(Debug, Default)]
pub(super) struct Age {
    /// Parcels that are not settled, or stand behind one that is not: where each starts and ends, and its first record's time.
    parcels: VecDeque<(u64, u64, Option<i64>)>,
    /// Time of the last record that was handed on.
    last_ms: Option<i64>,
    heard: Option<Heard>,
    /// When it was last told that nothing is left to be read.
    caught_up_ms: Option<i64>,
}

/// What librdkafka tells of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Where the records end that a consumer of committed ones sees.
    pub end: i64,
    /// There are records that it has not handed on yet.
    pub has_more: bool,
}

/// How far behind a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: i32,
    /// Of the first record that is not safe.
    pub behind: Behind,
}

/// The first record of a partition that is not safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// There is none.
    Nothing,
    /// It was written at this time, milliseconds since 1970, or later, and stands at this offset.
    Since(i64, u64),
    /// Nothing is known yet, or it has no time.
    Unknown,
}

impl Age {
    pub(super) fn open(&mut self, start: u64, end: u64, first_ms: Option<i64>, last_ms: Option<i64>) {
        self.parcels.push_back((start, end, first_ms));
        self.last_ms = last_ms;
    }

    /// All before `offset` is settled.
    pub(super) fn settled(&mut self, offset: u64) {
        while self.parcels.front().is_some_and(|(_, end, _)| *end <= offset) {
            self.parcels.pop_front();
        }
    }

    /// It is read again, or on from elsewhere.
    pub(super) fn forget(&mut self) {
        self.parcels.clear();
    }
}

impl Track {
    fn behind(&self) -> Behind {
        let gathered = self.gathered.records.first().map(|first| (first.offset as u64, first.timestamp_ms));
        if let Some((offset, first_ms)) = self.age.parcels.front().map(|(start, _, ms)| (*start, *ms)).or(gathered) {
            return first_ms.map_or(Behind::Unknown, |ms| Behind::Since(ms, offset));
        }
        match (self.age.heard, self.position) {
            (Some(Heard { has_more: false, .. }), _) => Behind::Nothing,
            (Some(Heard { end, .. }), Some(position)) if i64::try_from(position).is_ok_and(|at| at >= end) => {
                Behind::Nothing // It was told before that was read.
            }
            // What is there was written after the last that was taken, and after the moment when there was none.
            (Some(_), Some(position)) => match self.age.last_ms.max(self.age.caught_up_ms) {
                Some(ms) => Behind::Since(ms, position),
                None => Behind::Unknown,
            },
            (None, _) | (_, None) => Behind::Unknown,
        }
    }
}

impl Partitions {
    /// Takes what librdkafka tells of a partition at `now_ms`.
    pub fn hear(&mut self, topic: &str, partition: i32, heard: Heard, now_ms: i64) {
        let Some(track) = self.track(topic, partition) else { return };
        track.age.heard = Some(heard);
        if !heard.has_more && track.gathered.records.is_empty() && track.age.parcels.is_empty() {
            track.age.caught_up_ms = Some(now_ms);
        }
    }

    /// How far behind each partition is; but for those that wait for the time of their next record.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        self.tracks.values().filter(|track| track.wait.is_none()).map(|track| Standing {
            topic: track.topic.clone(),
            partition: track.partition,
            behind: track.behind(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::parcel::Parcel;
    use crate::partitions::Incoming;
    use event::{Entry, Permit};
    use service::metrics::Registry;
    use tokio::sync::mpsc::UnboundedReceiver;

    /// One partition, and what comes of it.
    fn logs() -> (Partitions, UnboundedReceiver<Entry>) {
        let (tx, rx) = crate::acks();
        let mut partitions = Partitions::new(tx, Metrics::new(&Registry::default()));
        partitions.assign("logs", 0);
        (partitions, rx)
    }

    /// Takes records of these offsets, each written at its offset times ten.
    fn take(partitions: &mut Partitions, offsets: &[i64]) {
        for &offset in offsets {
            let timestamp_ms = Some(offset * 10);
            let record = Incoming { key: None, value: Some(b"x"), offset, timestamp_ms, sent: None, put_off: None };
            partitions.take("logs", 0, record);
        }
    }

    fn hand_on(partitions: &mut Partitions) -> Parcel {
        let mut parcels = Vec::new();
        assert!(partitions.hand_on(|_| Some(Permit::none()), || true, |parcel| parcels.push(parcel)));
        parcels.pop().expect("something was gathered")
    }

    fn settle(partitions: &mut Partitions, parcel: Parcel, rx: &mut UnboundedReceiver<Entry>) {
        parcel.done(parcel.records.len() as u32);
        partitions.note(rx.try_recv().expect("it is settled"));
    }

    #[track_caller]
    fn check(partitions: &Partitions, expected: Behind) {
        let found: Vec<_> = partitions.standings().map(|standing| standing.behind).collect();
        assert_eq!(found, [expected]);
    }

    #[test]
    fn the_oldest_record_that_is_not_safe_counts() {
        let (mut partitions, mut rx) = logs();
        check(&partitions, Behind::Unknown);
        take(&mut partitions, &[5, 6]);
        check(&partitions, Behind::Since(50, 5)); // Gathered.
        let first = hand_on(&mut partitions);
        take(&mut partitions, &[7, 8]);
        let second = hand_on(&mut partitions);
        take(&mut partitions, &[9]);
        check(&partitions, Behind::Since(50, 5));
        settle(&mut partitions, second, &mut rx);
        check(&partitions, Behind::Since(50, 5)); // It stands behind one that is not.
        settle(&mut partitions, first, &mut rx);
        check(&partitions, Behind::Since(90, 9));
        let third = hand_on(&mut partitions);
        settle(&mut partitions, third, &mut rx);
        check(&partitions, Behind::Unknown); // Whether there is more was not told yet.
        partitions.hear("logs", 0, Heard { end: 10, has_more: true }, 1_000);
        check(&partitions, Behind::Nothing); // It was told before the last of it was read.
    }

    #[test]
    fn what_is_not_read_yet_is_younger_than_the_last_that_was_and_than_the_last_rest() {
        let (mut partitions, mut rx) = logs();
        take(&mut partitions, &[5]);
        let first = hand_on(&mut partitions);
        settle(&mut partitions, first, &mut rx);
        partitions.hear("logs", 0, Heard { end: 20, has_more: true }, 1_000);
        check(&partitions, Behind::Since(50, 6));
        partitions.hear("logs", 0, Heard { end: 20, has_more: false }, 2_000); // Ends of transactions are no records.
        check(&partitions, Behind::Nothing);
        partitions.hear("logs", 0, Heard { end: 21, has_more: true }, 7_000);
        check(&partitions, Behind::Since(2_000, 6));
    }

    #[test]
    fn what_was_given_back_is_not_counted_from_before() {
        let (mut partitions, mut rx) = logs();
        take(&mut partitions, &[5]);
        drop(hand_on(&mut partitions));
        partitions.note(rx.try_recv().expect("it is given back"));
        assert_eq!(partitions.rewinds().len(), 1);
        partitions.rewound("logs", 0);
        take(&mut partitions, &[5, 6]);
        check(&partitions, Behind::Since(50, 5));
        let again = hand_on(&mut partitions);
        check(&partitions, Behind::Since(50, 5));
        settle(&mut partitions, again, &mut rx);
        partitions.hear("logs", 0, Heard { end: 7, has_more: false }, 1_000);
        check(&partitions, Behind::Nothing);
    }

    #[test]
    fn a_partition_that_waits_for_a_record_s_time_is_not_behind() {
        let (mut partitions, _rx) = logs();
        partitions.wait("logs", 0, 5, 9_000);
        assert_eq!(partitions.standings().count(), 0);
    }
}
