//! The debt of a group of records: settled once, or given back. It is never forgotten quietly.

use crate::budget::Permit;
use crate::ledger::Progress;
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

/// What a ledger is told, in order.
#[derive(Debug)]
pub enum Entry {
    /// Safe downstream: delivered, dead-lettered, or dropped by a rule.
    Settled(Debt),
    /// Not safe: its `Ack` was dropped. The span has to be read again.
    Returned(Debt),
    /// Counts as settled before it is sent. The sender is told when the settlement is stored durably, and let go if it does
    /// not count: then the span is read again.
    Reserved(Debt, oneshot::Sender<()>),
}

/// The debt of one group. Settle it when the group is safe; dropping it gives the span back to be read again.
#[derive(Debug)]
#[must_use = "a dropped Ack is never committed, and its span is read again"]
pub struct Ack {
    debt: Option<Debt>,
    ledger: UnboundedSender<Entry>,
    /// Share of the byte budget, once the debt itself is reserved.
    held: Option<Permit>,
}

impl Ack {
    /// Opens the debt. `ledger` is unbounded, yet never holds more than the byte budget allows to be in flight.
    pub fn new(debt: Debt, ledger: UnboundedSender<Entry>) -> Self {
        Self { debt: Some(debt), ledger, held: None }
    }

    /// Lets the offset move before anything is sent. When the returned receiver is told that this is durable the group may be
    /// sent, once; if it is let go instead, the group is read again and must not be sent.
    ///
    /// From here on settling or dropping the `Ack` only frees the bytes that it holds.
    pub fn reserve(&mut self) -> oneshot::Receiver<()> {
        let (told, is_durable) = oneshot::channel();
        if let Some(mut debt) = self.debt.take() {
            self.held = Some(std::mem::replace(&mut debt.held, Permit::none()));
            self.ledger.send(Entry::Reserved(debt, told)).ok(); // No ledger left: nobody will be told.
        }
        is_durable
    }

    /// How far its stream is safe once it and everything before it is. `None` if that was reserved.
    pub fn progress(&self) -> Option<Progress> {
        self.debt.as_ref().map(|debt| Progress { offset: debt.end, anchor: debt.anchor })
    }

    /// Safe downstream: delivered, dead-lettered, or dropped by a rule.
    pub fn settle(mut self) {
        if let Some(debt) = self.debt.take() {
            self.ledger.send(Entry::Settled(debt)).ok(); // No ledger left: the process is stopping.
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(debt) = self.debt.take() {
            self.ledger.send(Entry::Returned(debt)).ok(); // No ledger left: the process is stopping.
        }
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
        let mut is_durable = ack.reserve();
        let Ok(Entry::Reserved(debt, told)) = rx.try_recv() else { panic!("it is told first") };
        drop(debt);
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
}
