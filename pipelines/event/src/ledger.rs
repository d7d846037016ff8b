//! Settlements in any order in, the offset that is safe to commit out.
//!
//! The same ledger serves file offsets (the agent's checkpoint) and partition offsets (the indexer's group commit). It
//! counts sequences, not offsets, so gaps in the offsets (compaction, transaction markers, filtered lines) cost nothing.

use crate::ack::{Anchor, Debt, StreamId};
use std::collections::{BTreeMap, HashMap};

/// How far a stream is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The next offset to read: everything before it is settled.
    pub offset: u64,
    /// Content of the file around `offset`.
    pub anchor: Anchor,
}

/// A settlement that does not fit. The first is ordinary after a rewind or a revoke; the second is a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The stream was closed or has begun another epoch since.
    #[error("stream {stream:?} epoch {epoch} is not open")]
    Unknown {
        /// The stream named by the debt.
        stream: StreamId,
        /// The epoch named by the debt.
        epoch: u32,
    },
}

/// The longest settled prefix of each open stream.
#[derive(Debug, Default)]
pub struct Ledger {
    streams: HashMap<StreamId, Track>,
}

#[derive(Debug)]
struct Track {
    epoch: u32,
    /// Sequence that the prefix waits for.
    next: u64,
    /// Settled, but behind a gap.
    ahead: BTreeMap<u64, Progress>,
    progress: Progress,
}

impl Ledger {
    /// Opens `stream` at `from`, with nothing in flight. Opening it again starts another epoch.
    pub fn open(&mut self, stream: StreamId, epoch: u32, from: Progress) {
        self.streams.insert(stream, Track { epoch, next: 0, ahead: BTreeMap::new(), progress: from });
    }

    /// Forgets `stream`; debts still on their way are `Unknown` from here on.
    pub fn close(&mut self, stream: StreamId) -> Option<Progress> {
        self.streams.remove(&stream).map(|track| track.progress)
    }

    /// How far `stream` is safe.
    pub fn progress(&self, stream: StreamId) -> Option<Progress> {
        self.streams.get(&stream).map(|track| track.progress)
    }

    /// Settled spans that wait behind a gap, over all streams.
    pub fn waiting(&self) -> usize {
        self.streams.values().map(|track| track.ahead.len()).sum()
    }

    /// Marks the span of `debt` settled and returns how far it is now safe to commit, if that moved.
    ///
    /// Shape: half-open spans, numbered in order, settled in any order; the result never moves back.
    /// Unit: bytes for files; for partitions the next offset to read, as Kafka counts commits.
    /// Errors: `Unknown` if the stream was never opened, was closed, or has begun another epoch since.
    /// Source: KafkaConsumer, "Offsets and Consumer Position".
    pub fn settle(&mut self, debt: &Debt) -> Result<Option<Progress>, LedgerError> {
        let unknown = LedgerError::Unknown { stream: debt.stream, epoch: debt.epoch };
        let track = self.streams.get_mut(&debt.stream).filter(|track| track.epoch == debt.epoch).ok_or(unknown)?;
        let settled = Progress { offset: debt.end, anchor: debt.anchor };
        assert!(debt.seq >= track.next, "{:?} sequence {} was settled twice", debt.stream, debt.seq);
        if debt.seq > track.next {
            let before = track.ahead.insert(debt.seq, settled);
            assert!(before.is_none(), "{:?} sequence {} was settled twice", debt.stream, debt.seq);
            return Ok(None);
        }
        track.advance(settled);
        while let Some(settled) = track.ahead.remove(&track.next) {
            track.advance(settled);
        }
        Ok(Some(track.progress))
    }
}

impl Track {
    fn advance(&mut self, settled: Progress) {
        assert!(settled.offset >= self.progress.offset, "offset {} is behind {}", settled.offset, self.progress.offset);
        self.progress = settled;
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Permit;

    const FILE: StreamId = StreamId(7);

    fn debt(epoch: u32, seq: u64, end: u64) -> Debt {
        Debt {
            stream: FILE,
            epoch,
            seq,
            start: 0,
            end,
            anchor: Anchor::default(),
            events: 1,
            bytes: 10,
            held: Permit::none(),
        }
    }

    fn at(offset: u64) -> Progress {
        Progress { offset, anchor: Anchor::default() }
    }

    /// Settles spans that end at 10, 20, 30 … in the order of `seqs` and checks what each returns.
    #[track_caller]
    fn check(seqs: &[u64], expected: &[Option<u64>]) {
        let mut ledger = Ledger::default();
        ledger.open(FILE, 0, at(0));
        let got: Vec<_> = seqs
            .iter()
            .map(|&seq| ledger.settle(&debt(0, seq, (seq + 1) * 10)).expect("the stream is open").map(|p| p.offset))
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn the_prefix_moves_in_order() {
        check(&[0, 1, 2], &[Some(10), Some(20), Some(30)]);
    }

    #[test]
    fn nothing_is_committed_over_a_gap() {
        check(&[1, 2], &[None, None]);
        check(&[2, 0, 1], &[None, Some(10), Some(30)]);
        check(&[1, 3, 0, 2], &[None, None, Some(20), Some(40)]);
    }

    #[test]
    fn gaps_in_offsets_do_not_stall() {
        let mut ledger = Ledger::default();
        ledger.open(FILE, 0, at(100));
        assert_eq!(ledger.settle(&debt(0, 0, 107)), Ok(Some(at(107))));
        assert_eq!(ledger.settle(&debt(0, 1, 2_000)), Ok(Some(at(2_000))));
    }

    #[test]
    fn an_older_epoch_no_longer_counts() {
        let mut ledger = Ledger::default();
        ledger.open(FILE, 0, at(0));
        ledger.open(FILE, 1, at(0));
        assert_eq!(ledger.settle(&debt(0, 0, 10)), Err(LedgerError::Unknown { stream: FILE, epoch: 0 }));
        assert_eq!(ledger.progress(FILE), Some(at(0)));
    }

    #[test]
    fn a_closed_stream_takes_no_settlement() {
        let mut ledger = Ledger::default();
        ledger.open(FILE, 0, at(0));
        assert_eq!(ledger.close(FILE), Some(at(0)));
        assert!(ledger.settle(&debt(0, 0, 10)).is_err());
    }

    proptest::proptest! {
        /// Whatever the order, the result is the longest settled prefix, and it never moves back.
        #[test]
        fn any_order_gives_the_longest_settled_prefix(order in proptest::sample::subsequence((0..64_u64).collect::<Vec<_>>(), 0..64)
            .prop_shuffle())
        {
            let mut ledger = Ledger::default();
            ledger.open(FILE, 0, at(0));
            let mut settled = std::collections::BTreeSet::new();
            for seq in order {
                settled.insert(seq);
                ledger.settle(&debt(0, seq, (seq + 1) * 10)).expect("the stream is open");
                let prefix = (0..64).take_while(|seq| settled.contains(seq)).count() as u64;
                proptest::prop_assert_eq!(ledger.progress(FILE), Some(at(prefix * 10)));
            }
        }
    }
    use proptest::strategy::Strategy as _;
}
