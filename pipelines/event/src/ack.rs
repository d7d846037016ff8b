//! The debt of a group of records: settled once, or given back. It is never forgotten quietly.

use crate::budget::Permit;
use crate::ledger::Progress;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// Names one stream of offsets inside a process: a followed file, or an assigned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What a checkpoint remembers of a file's content, so that a later look can tell whether it is still the same file.
/// Partitions leave it at its default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Anchor {
    /// How many bytes from the start `head` covers, at most 1024.
    pub head_bytes: u32,
    /// XXH3 of the first `head_bytes` bytes.
    pub head: u64,
    /// XXH3 of the last 256 bytes (or fewer, in a shorter file) before the span's end.
    pub tail: u64,
}

/// One span of a stream that is on its way: `start..end`, the `seq`-th of its `epoch`.
#[derive(Debug)]
pub struct Debt {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// The stream's life: a rewind or a new assignment starts the next one, and debts of older ones no longer count.
    pub epoch: u32,
    /// Position in the epoch, counted from 0 without gaps. Offsets may have gaps, sequences never.
    pub seq: u64,
    /// First offset of the span (bytes of a file; offset of a partition).
    pub start: u64,
    /// The next offset to read when this span and all before it are settled.
    pub end: u64,
    /// Content of the file around `end`.
    pub anchor: Anchor,
    /// How many records it covers, for the count of what is in flight.
    pub events: u32,
    /// Bytes of the source that its records stand for, for the same count; partitions leave it at 0.
    pub bytes: u64,
    /// Its share of the byte budget, held until the ledger has recorded the settlement.
    pub held: Permit,
}

/// The way by which a part of a group ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// The output that it was meant for.
    Main,
    /// The topic that takes what a rate plan diverts.
    Overflow,
    /// None: the rate plan of this name dropped it.
    Dropped(Arc<str>),
}

/// How much of a debt ended by which route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The way.
    pub route: Route,
    /// Of the debt's events.
    pub events: u32,
    /// Of the debt's bytes.
    pub bytes: u64,
}

/// What a ledger is told, in order.
#[derive(Debug)]
pub enum Entry {
    /// Safe downstream: delivered, dead-lettered, or dropped by a rule.
    Settled(Debt),
    /// Safe as well, but not all of it by the main route. The shares add up to the debt.
    Shared(Debt, Vec<Share>),
    /// Not safe: its `Ack` was dropped. The span has to be read again.
    Returned(Debt),
    /// Counts as settled before it is sent, by routes whose shares add up to the debt. The sender is told when the settlement is
    /// stored durably, and let go if it does not count: then the span is read again.
    Reserved(Debt, Vec<Share>, oneshot::Sender<()>),
}

/// The debt of one group. Settle it when the group is safe; dropping it gives the span back to be read again.
#[derive(Debug)]
#[must_use = "a dropped Ack is never committed, and its span is read again"]
pub struct Ack {
    owed: Option<Owed>,
    ledger: UnboundedSender<Entry>,
    /// Of another budget than the debt's, held as long as it is owed.
    _beside: Option<Permit>,
}

#[derive(Debug)]
enum Owed {
    Whole(Debt, Route),
    /// One of several: the last of them settles the debt, or gives it back if any was given back.
    Part(Arc<Parts>),
    /// The offset moves by itself; what is left is the share of the byte budget, held until the last part is let go.
    Reserved(Arc<Permit>),
}

#[derive(Debug)]
struct Parts {
    debt: Debt,
    shares: Vec<Share>,
    is_returned: AtomicBool,
}

impl Parts {
    /// True if no other part is owed any more, and none was given back.
    fn is_last(self: &Arc<Self>) -> bool {
        let is_last = Arc::strong_count(self) == 1;
        fence(Ordering::Acquire); // What the others did before they were let go.
        is_last && !self.is_returned.load(Ordering::Acquire)
    }
}

impl Ack {
    /// Opens the debt. `ledger` is unbounded, yet never holds more than the byte budget allows to be in flight.
    pub fn new(debt: Debt, ledger: UnboundedSender<Entry>) -> Self {
        Self { owed: Some(Owed::Whole(debt, Route::Main)), ledger, _beside: None }
    }

    /// Lets the offset move before anything is sent, by the routes that `shares` say; none: all by the main one. When the
    /// returned receiver is told that this is durable the group may be sent, once; if it is let go instead, the group is read
    /// again and must not be sent.
    ///
    /// From here on settling or dropping the `Ack`, or all its parts if it is divided, only frees the bytes that it holds. Only a
    /// whole debt can be reserved; with any other the receiver is let go.
    pub fn reserve(&mut self, mut shares: Vec<Share>) -> oneshot::Receiver<()> {
        let (told, is_durable) = oneshot::channel();
        match self.owed.take() {
            Some(Owed::Whole(mut debt, route)) => {
                let held = std::mem::replace(&mut debt.held, Permit::none());
                self.owed = Some(Owed::Reserved(held.into()));
                if shares.is_empty() {
                    shares.push(Share { route, events: debt.events, bytes: debt.bytes });
                }
                make_add_up(&mut shares, &debt);
                self.tell(Entry::Reserved(debt, shares, told)); // No ledger left: nobody will be told.
            }
            other => self.owed = other,
        }
        is_durable
    }

    /// How far its stream is safe once it and everything before it is. `None` if that was reserved, and of a part as long as another
    /// part is owed or if one was given back: the last one speaks for all.
    pub fn progress(&self) -> Option<Progress> {
        let debt = match &self.owed {
            Some(Owed::Whole(debt, _)) => debt,
            Some(Owed::Part(parts)) if parts.is_last() => &parts.debt,
            Some(Owed::Part(_) | Owed::Reserved(_)) | None => return None,
        };
        Some(Progress { offset: debt.end, anchor: debt.anchor })
    }

    /// True once it is [reserved](Self::reserve): what is dropped from then on is not read again.
    pub fn is_reserved(&self) -> bool {
        matches!(self.owed, Some(Owed::Reserved(_)))
    }

    /// The same debt, which will end by `route`. A part of a debt has its route already.
    pub fn by(mut self, by: Route) -> Self {
        if let Some(Owed::Whole(_, route)) = &mut self.owed {
            *route = by;
        }
        self
    }

    /// The same debt, which holds `permit` too until it is settled or given back.
    pub fn holding(mut self, permit: Permit) -> Self {
        self._beside = Some(permit);
        self
    }

    /// Divides the debt: an `Ack` for each share, in order. It is settled when all of them are, and given back if any is; one that
    /// is reserved is neither.
    ///
    /// Shape: `shares` are not empty; the last one takes what the others leave of events and bytes, so that all add up.
    pub fn divided(mut self, mut shares: Vec<Share>) -> Vec<Self> {
        let part = |owed| Self { owed: Some(owed), ledger: self.ledger.clone(), _beside: None };
        match self.owed.take() {
            Some(Owed::Whole(debt, _)) => {
                make_add_up(&mut shares, &debt);
                let count = shares.len();
                let parts = Arc::new(Parts { debt, shares, is_returned: AtomicBool::new(false) });
                (0..count).map(|_| part(Owed::Part(parts.clone()))).collect()
            }
            Some(Owed::Reserved(held)) => shares.iter().map(|_| part(Owed::Reserved(held.clone()))).collect(),
            other => {
                self.owed = other;
                vec![self]
            }
        }
    }

    /// Safe downstream: delivered, dead-lettered, or dropped by a rule.
    pub fn settle(mut self) {
        match self.owed.take() {
            Some(Owed::Whole(debt, Route::Main)) => self.tell(Entry::Settled(debt)),
            Some(Owed::Whole(debt, route)) => {
                let share = Share { route, events: debt.events, bytes: debt.bytes };
                self.tell(Entry::Shared(debt, vec![share]));
            }
            Some(Owed::Part(parts)) => self.end_part(parts),
            Some(Owed::Reserved(_)) | None => {}
        }
    }

    fn end_part(&self, parts: Arc<Parts>) {
        let Some(Parts { debt, shares, is_returned }) = Arc::into_inner(parts) else { return }; // Others are still owed.
        if is_returned.into_inner() {
            self.tell(Entry::Returned(debt));
        } else {
            self.tell(Entry::Shared(debt, shares));
        }
    }

    fn tell(&self, entry: Entry) {
        self.ledger.send(entry).ok(); // No ledger left: the process is stopping.
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        match self.owed.take() {
            Some(Owed::Whole(debt, _)) => self.tell(Entry::Returned(debt)),
            Some(Owed::Part(parts)) => {
                parts.is_returned.store(true, Ordering::Release);
                self.end_part(parts);
            }
            Some(Owed::Reserved(_)) | None => {}
        }
    }
}

/// The last share takes what the others leave.
fn make_add_up(shares: &mut [Share], debt: &Debt) {
    let (mut events, mut bytes) = (debt.events, debt.bytes);
    let last = shares.len().saturating_sub(1);
    for (at, share) in shares.iter_mut().enumerate() {
        share.events = if at == last { events } else { share.events.min(events) };
        share.bytes = if at == last { bytes } else { share.bytes.min(bytes) };
        (events, bytes) = (events - share.events, bytes - share.bytes);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "settlements of a test")]
mod tests {
    use super::*;
    use crate::Budget;
    use tokio::sync::mpsc;

    fn debt(budget: &Budget) -> Debt {
        let held = budget.try_take(10).expect("budget is empty");
        Debt {
            stream: StreamId(1),
            epoch: 0,
            seq: 0,
            start: 0,
            end: 10,
            anchor: Anchor::default(),
            events: 1,
            bytes: 10,
            held,
        }
    }

    #[test]
    fn settling_reports_once() {
        let (tx, mut rx) = mpsc::unbounded_channel();
        Ack::new(debt(&Budget::new(100)), tx).settle();
        assert!(matches!(rx.try_recv(), Ok(Entry::Settled(_))));
        assert!(rx.try_recv().is_err());
    }

    #[test]
    fn a_dropped_ack_gives_its_span_back() {
        let (tx, mut rx) = mpsc::unbounded_channel();
        drop(Ack::new(debt(&Budget::new(100)), tx));
        assert!(matches!(rx.try_recv(), Ok(Entry::Returned(_))));
    }

    #[test]
    fn what_is_reserved_holds_its_bytes_and_reports_no_more() {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let budget = Budget::new(15);
        let mut ack = Ack::new(debt(&budget), tx);
        let mut is_durable = ack.reserve(Vec::new());
        let Ok(Entry::Reserved(debt, shares, told)) = rx.try_recv() else { panic!("it is told first") };
        drop(debt);
        assert_eq!(shares, [share(Route::Main, 1, 10)]);
        assert!(budget.try_take(10).is_none(), "its bytes are still in memory");
        assert!(is_durable.try_recv().is_err());
        told.send(()).expect("somebody waits");
        assert!(is_durable.try_recv().is_ok());
        drop(ack);
        assert!(rx.try_recv().is_err() && budget.try_take(10).is_some());
    }

    #[test]
    fn the_budget_is_held_until_the_ledger_lets_go() {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let budget = Budget::new(15);
        Ack::new(debt(&budget), tx).settle();
        assert!(budget.try_take(10).is_none());
        drop(rx.try_recv());
        assert!(budget.try_take(10).is_some());
    }

    fn share(route: Route, events: u32, bytes: u64) -> Share {
        Share { route, events, bytes }
    }

    #[test]
    fn another_route_is_told_with_the_settlement() {
        let (tx, mut rx) = mpsc::unbounded_channel();
        Ack::new(debt(&Budget::new(100)), tx).by(Route::Overflow).settle();
        match rx.try_recv() {
            Ok(Entry::Shared(_, shares)) => assert_eq!(shares, [share(Route::Overflow, 1, 10)]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_divided_debt_is_settled_by_its_last_part_and_the_shares_add_up() {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let wanted = vec![share(Route::Main, 0, 7), share(Route::Dropped("a".into()), 9, 90)];
        let mut parts = Ack::new(debt(&Budget::new(100)), tx).divided(wanted);
        parts.remove(1).settle();
        assert!(rx.try_recv().is_err(), "a part is still owed");
        parts.remove(0).settle();
        match rx.try_recv() {
            Ok(Entry::Shared(_, shares)) => {
                assert_eq!(shares, [share(Route::Main, 0, 7), share(Route::Dropped("a".into()), 1, 3)]);
            }
            other => panic!("{other:?}"),
        }
        assert!(rx.try_recv().is_err());
    }

    #[test]
    fn one_part_that_is_given_back_gives_back_all() {
        for first in [0, 1] {
            let (tx, mut rx) = mpsc::unbounded_channel();
            let wanted = vec![share(Route::Main, 1, 5), share(Route::Overflow, 0, 5)];
            let mut parts = Ack::new(debt(&Budget::new(100)), tx).divided(wanted);
            drop(parts.remove(first));
            assert!(rx.try_recv().is_err(), "a part is still owed");
            parts.remove(0).settle();
            assert!(matches!(rx.try_recv(), Ok(Entry::Returned(_))), "{first}");
            assert!(rx.try_recv().is_err());
        }
    }

    #[test]
    fn only_the_last_part_says_how_far_its_stream_is_and_none_if_one_was_given_back() {
        let offset = |ack: &Ack| ack.progress().map(|progress| progress.offset);
        for (is_settled, last) in [(true, Some(10)), (false, None)] {
            let (tx, _rx) = mpsc::unbounded_channel();
            let whole = Ack::new(debt(&Budget::new(100)), tx);
            assert_eq!(offset(&whole), Some(10));
            let wanted = vec![share(Route::Main, 1, 5), share(Route::Dropped("a".into()), 0, 5)];
            let mut parts = whole.divided(wanted);
            assert_eq!(parts.iter().map(offset).collect::<Vec<_>>(), [None, None], "the other one is owed");
            let other = parts.remove(1);
            if is_settled {
                other.settle()
            } else {
                drop(other)
            }
            assert_eq!(offset(&parts[0]), last);
        }
    }

    #[test]
    fn parts_of_what_is_reserved_hold_its_bytes_and_none_is_ever_given_back() {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let budget = Budget::new(15);
        let mut ack = Ack::new(debt(&budget), tx);
        let wanted = vec![share(Route::Overflow, 1, 4), share(Route::Dropped("a".into()), 9, 90)];
        let _is_durable = ack.reserve(wanted.clone());
        match rx.try_recv() {
            Ok(Entry::Reserved(_, shares, _)) => {
                assert_eq!(shares, [share(Route::Overflow, 1, 4), share(Route::Dropped("a".into()), 0, 6)]);
            }
            other => panic!("{other:?}"),
        }
        let mut parts = ack.divided(wanted);
        assert_eq!(parts.len(), 2);
        drop(parts.remove(0));
        assert!(budget.try_take(10).is_none(), "a part of it is still in memory");
        parts.remove(0).settle();
        assert!(rx.try_recv().is_err() && budget.try_take(10).is_some());
    }

    #[test]
    fn a_part_cannot_be_reserved() {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let wanted = vec![share(Route::Main, 1, 5), share(Route::Overflow, 0, 5)];
        let mut parts = Ack::new(debt(&Budget::new(100)), tx).divided(wanted);
        let mut is_durable = parts[0].reserve(Vec::new());
        assert!(matches!(is_durable.try_recv(), Err(oneshot::error::TryRecvError::Closed)), "it must not be sent");
        drop(parts);
        assert!(matches!(rx.try_recv(), Ok(Entry::Returned(_))));
    }

    #[test]
    fn what_is_held_beside_the_debt_goes_with_it() {
        let (tx, _rx) = mpsc::unbounded_channel();
        let beside = Budget::new(5);
        let ack = Ack::new(debt(&Budget::new(100)), tx).holding(beside.try_take(5).expect("it is free"));
        assert_eq!(beside.in_use(), 5);
        ack.settle();
        assert_eq!(beside.in_use(), 0);
    }
}
