//! The debt of a group that is sent in parts: settled when all of them are delivered, else given back with the last one. In
//! a transaction the [`Attempt`] keeps it until that has ended.

use crate::attempt::Attempt;
use event::{Ack, Source};
use prometheus::IntCounter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One part's share of its group's debt. Dropped without [`Share::settle`], the whole group is given back; if its offset was
/// reserved before, the part is lost, and counted.
#[derive(Debug)]
#[must_use = "a dropped share gives the group back"]
pub(crate) struct Share {
    whole: Arc<Whole>,
    /// Records of the part that are not delivered.
    left: u64,
}

#[derive(Debug)]
struct Whole {
    ack: Option<Ack>,
    /// Parts that are not delivered.
    open: AtomicUsize,
    lost: Option<IntCounter>,
    attempt: Option<(Arc<Source>, Arc<Attempt>)>,
}

/// The shares of a group whose parts have so many records each. `lost` counts what is dropped and not read again.
pub(crate) fn shares(ack: Ack, records: &[u64], lost: Option<IntCounter>) -> Vec<Share> {
    of(Whole { ack: Some(ack), open: AtomicUsize::new(records.len()), lost, attempt: None }, records)
}

/// The same in a transaction.
pub(crate) fn shares_of(ack: Ack, records: &[u64], source: Arc<Source>, attempt: Arc<Attempt>) -> Vec<Share> {
    attempt.begins();
    let (open, attempt) = (AtomicUsize::new(records.len()), Some((source, attempt)));
    of(Whole { ack: Some(ack), open, lost: None, attempt }, records)
}

fn of(whole: Whole, records: &[u64]) -> Vec<Share> {
    let whole = Arc::new(whole);
    records.iter().map(|left| Share { whole: whole.clone(), left: *left }).collect()
}

impl Share {
    /// This part is safe.
    pub(crate) fn settle(mut self) {
        self.left = 0;
        self.whole.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(lost) = &self.whole.lost {
            lost.inc_by(self.left);
        }
        if let Some((_, attempt)) = self.whole.attempt.as_ref().filter(|_| self.left > 0) {
            attempt.fail();
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        let Some(ack) = self.ack.take() else { return };
        if let Some((source, attempt)) = self.attempt.take() {
            attempt.ends(source, ack);
        } else if *self.open.get_mut() == 0 {
            ack.settle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::{Anchor, Debt, Entry, Permit, StreamId};
    use tokio::sync::mpsc::UnboundedReceiver;

    #[expect(clippy::disallowed_methods, reason = "settlements of a test")]
    fn of(parts: usize, lost: Option<IntCounter>) -> (Vec<Share>, UnboundedReceiver<Entry>) {
        let (ledger, entries) = tokio::sync::mpsc::unbounded_channel();
        let (anchor, held) = (Anchor::default(), Permit::none());
        let debt = Debt { stream: StreamId(1), epoch: 0, seq: 0, start: 0, end: 9, anchor, events: 3, bytes: 9, held };
        (shares(Ack::new(debt, ledger), &vec![7; parts], lost), entries)
    }

    #[test]
    fn the_last_part_settles_the_group() {
        let (mut shares, mut entries) = of(3, None);
        shares.remove(1).settle();
        shares.remove(0).settle();
        assert!(entries.try_recv().is_err(), "one part is still on its way");
        shares.remove(0).settle();
        assert!(matches!(entries.try_recv(), Ok(Entry::Settled(_))));
        assert!(entries.try_recv().is_err());
    }

    #[test]
    fn one_part_that_is_lost_gives_the_whole_group_back_when_all_have_ended() {
        let (mut shares, mut entries) = of(3, None);
        drop(shares.remove(0));
        shares.remove(0).settle();
        assert!(entries.try_recv().is_err(), "a part is still on its way and holds its bytes");
        shares.remove(0).settle();
        assert!(matches!(entries.try_recv(), Ok(Entry::Returned(_))));
        assert!(entries.try_recv().is_err());
    }

    #[test]
    fn what_is_lost_is_counted_by_the_record() {
        let lost = IntCounter::new("lost", "lost").expect("a counter");
        let (mut shares, _entries) = of(3, Some(lost.clone()));
        shares.remove(0).settle();
        assert_eq!(lost.get(), 0);
        drop(shares);
        assert_eq!(lost.get(), 14);
    }

    #[expect(clippy::disallowed_methods, reason = "settlements of a test")]
    fn in_a_transaction(parts: usize) -> (Vec<Share>, Arc<Attempt>, UnboundedReceiver<Entry>) {
        let (ledger, entries) = tokio::sync::mpsc::unbounded_channel();
        let (anchor, held) = (Anchor::default(), Permit::none());
        let debt = Debt { stream: StreamId(1), epoch: 0, seq: 0, start: 0, end: 9, anchor, events: 3, bytes: 9, held };
        let source = Source::new(StreamId(1), Arc::default(), "/a".into(), event::Incarnation(1), 0);
        let attempt = Arc::new(Attempt::new(Arc::default()));
        let shares = shares_of(Ack::new(debt, ledger), &vec![7; parts], source.into(), attempt.clone());
        (shares, attempt, entries)
    }

    #[test]
    fn in_a_transaction_a_group_waits_for_the_others() {
        let (mut shares, attempt, mut entries) = in_a_transaction(2);
        shares.remove(0).settle();
        assert!(!attempt.is_idle() && attempt.take().is_empty(), "a part is still on its way");
        shares.remove(0).settle();
        assert!(attempt.is_idle() && !attempt.is_failed() && entries.try_recv().is_err());
        let kept = attempt.take();
        assert_eq!(kept[0].1.progress().map(|progress| progress.offset), Some(9));
        kept.into_iter().for_each(|(_, ack)| ack.settle());
        assert!(matches!(entries.try_recv(), Ok(Entry::Settled(_))));
    }

    #[test]
    fn in_a_transaction_one_part_that_is_lost_fails_it_at_once_and_is_given_back_at_its_end() {
        let (mut shares, attempt, mut entries) = in_a_transaction(2);
        drop(shares.remove(0));
        assert!(attempt.is_failed() && !attempt.is_idle(), "a part is still on its way");
        shares.remove(0).settle();
        assert!(attempt.is_idle() && entries.try_recv().is_err());
        drop(attempt);
        assert!(matches!(entries.try_recv(), Ok(Entry::Returned(_))));
    }
}
