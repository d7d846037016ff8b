//! Settlements → ledger → checkpoint.
//!
//! The ledger says how far each file is safe; at most once a second that is made durable. A failed write changes
//! nothing for the shipping: it is said, counted, and tried again at the next flush.

use crate::board::Card;
use crate::checkpoint::{Key, PackedAt, Saved, Store};
use crate::metrics::AgentMetrics;
use event::{Debt, Entry, Ledger, Progress, Source, StreamId};
use service::health::Health;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

/// Least time between two flushes: what a crash can make to be read again.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// What the tail stage tells before and after the groups of a file.
#[derive(Debug)]
pub(crate) enum Control {
    /// Groups of this file follow, from `saved.progress` on. `written` is told as soon as the entry was written.
    Open { saved: Saved, source: Arc<Source>, epoch: u32, card: Arc<Card>, written: Option<oneshot::Sender<()>> },
    /// The file is gone; its entry goes when everything up to `end` is settled.
    Leave { stream: StreamId, end: u64, reason: &'static str },
    /// What was open of the file is finished by time at this offset: to be made durable before its event is sent.
    Cut { stream: StreamId, at: u64, done: UnboundedSender<StreamId> },
    /// The file is packed: where its content is, and how far it was read.
    Packed { stream: StreamId, packed: PackedAt },
    /// The file is followed no longer, all of it is settled, and its entry stays.
    Rest { stream: StreamId },
    /// An entry of something that is no file, as it is to be written.
    Keep(Saved),
    /// An entry of the checkpoint that belongs to no file any more.
    Forget(Key),
}

/// A span was given back: read on from `progress` in `epoch`.
#[derive(Debug)]
pub(crate) struct Rewind {
    pub(crate) stream: StreamId,
    pub(crate) epoch: u32,
    pub(crate) progress: Progress,
}

struct File {
    saved: Saved,
    source: Arc<Source>,
    epoch: u32,
    card: Arc<Card>,
    /// The end of what was read of a file that is gone, and why it is.
    leaves_at: Option<(u64, &'static str)>,
}

struct Commit {
    store: Store,
    ledger: Ledger,
    files: HashMap<StreamId, File>,
    dirty: HashSet<StreamId>,
    forgets: Vec<Key>,
    /// Cuts that wait to be made durable.
    cuts: Vec<(StreamId, UnboundedSender<StreamId>)>,
    /// Entries of files that are followed no longer and of what is no file, not yet written.
    rested: Vec<Saved>,
    /// Written by a flush that failed: the store keeps them, the next flush must come.
    is_owing: bool,
    rewinds: UnboundedSender<Rewind>,
    metrics: AgentMetrics,
    health: Health,
}

/// Runs until every `Ack` is gone, then flushes a last time.
pub(crate) async fn run(
    store: Store,
    mut control: Receiver<Control>,
    mut entries: UnboundedReceiver<Entry>,
    rewinds: UnboundedSender<Rewind>,
    metrics: AgentMetrics,
    health: Health,
) {
    let (ledger, files) = (Ledger::default(), HashMap::new());
    let (dirty, forgets, cuts, rested, is_owing) = (HashSet::new(), Vec::new(), Vec::new(), Vec::new(), false);
    let mut commit = Commit { store, ledger, files, dirty, forgets, cuts, rested, is_owing, rewinds, metrics, health };
    let mut ticks = tokio::time::interval(FLUSH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(told) = control.recv() => {
                commit.take(told);
                while let Ok(told) = control.try_recv() {
                    commit.take(told);
                }
                commit.flush_cuts();
            }
            entry = entries.recv() => {
                // A file is opened before its first group exists: what is told comes first.
                while let Ok(told) = control.try_recv() {
                    commit.take(told);
                }
                match entry {
                    Some(entry) => commit.settle(entry),
                    None => break,
                }
            }
            _ = ticks.tick() => commit.flush(),
        }
    }
    commit.flush();
}

impl Commit {
    fn take(&mut self, told: Control) {
        match told {
            Control::Open { saved, source, epoch, card, written } => {
                let stream = source.stream;
                self.ledger.open(stream, epoch, saved.progress);
                self.files.insert(stream, File { saved, source, epoch, card, leaves_at: None });
                self.dirty.insert(stream);
                if let Some(written) = written {
                    self.flush(); // If that fails, shipping goes on all the same.
                    written.send(()).ok(); // Tailing has ended.
                }
            }
            Control::Leave { stream, end, reason } => {
                if let Some(file) = self.files.get_mut(&stream) {
                    file.leaves_at = Some((end, reason));
                }
                self.leave(stream);
            }
            Control::Cut { stream, at, done } => {
                if let Some(file) = self.files.get_mut(&stream) {
                    file.saved.cuts.push(at);
                    self.dirty.insert(stream);
                }
                self.cuts.push((stream, done));
            }
            Control::Packed { stream, packed } => {
                if let Some(file) = self.files.get_mut(&stream) {
                    file.saved.packed = Some(packed);
                    self.dirty.insert(stream);
                }
            }
            Control::Rest { stream } => {
                self.ledger.close(stream);
                self.rested.extend(self.files.remove(&stream).map(|file| file.saved));
            }
            Control::Keep(saved) => {
                self.rested.retain(|other| other.key() != saved.key()); // A later one says it all.
                self.rested.push(saved);
            }
            Control::Forget(key) => self.forgets.push(key),
        }
    }

    fn settle(&mut self, entry: Entry) {
        match entry {
            Entry::Settled(debt) => self.settled(&debt),
            Entry::Returned(debt) => self.returned(&debt),
        }
    }

    fn settled(&mut self, debt: &Debt) {
        self.metrics.acknowledged.with_label_values(&["main"]).inc_by(debt.events.into());
        self.metrics.bytes_acknowledged.inc_by(debt.bytes);
        self.metrics.left_flight(debt);
        // An older epoch: delivered all the same, and read again since. Its id makes the copy harmless.
        let Ok(Some(progress)) = self.ledger.settle(debt) else { return };
        if let Some(file) = self.files.get_mut(&debt.stream) {
            file.saved.progress = progress;
            file.saved.cuts.retain(|cut| *cut >= progress.offset);
            file.card.acknowledged(progress.offset);
            self.dirty.insert(debt.stream);
        }
        self.leave(debt.stream);
    }

    fn returned(&mut self, debt: &Debt) {
        self.metrics.returned.inc_by(debt.events.into());
        self.metrics.bytes_returned.inc_by(debt.bytes);
        self.metrics.left_flight(debt);
        let Some(file) = self.files.get_mut(&debt.stream).filter(|file| file.epoch == debt.epoch) else { return };
        file.source.break_off(debt.epoch);
        file.epoch += 1;
        let progress = file.saved.progress;
        if let Some((end, reason)) = file.leaves_at {
            // Gone since: there is nothing to read again.
            let (path, lost) = (&file.saved.path, end - progress.offset);
            tracing::error!(
                path,
                offset = progress.offset,
                lost,
                reason,
                "gone before it was delivered; these bytes are lost"
            );
            self.metrics.lost_bytes.with_label_values(&[reason]).inc_by(lost);
            return self.forget(debt.stream);
        }
        self.ledger.open(debt.stream, file.epoch, progress);
        self.metrics.rewinds.inc();
        let rewind = Rewind { stream: debt.stream, epoch: file.epoch, progress };
        self.rewinds.send(rewind).ok(); // Tailing has ended: the next start reads on from the checkpoint.
    }

    /// Forgets a file that is gone as soon as all of it is settled.
    fn leave(&mut self, stream: StreamId) {
        let is_done = |file: &File| file.leaves_at.is_some_and(|(end, _)| file.saved.progress.offset >= end);
        if self.files.get(&stream).is_some_and(is_done) {
            self.forget(stream);
        }
    }

    fn forget(&mut self, stream: StreamId) {
        self.ledger.close(stream);
        self.dirty.remove(&stream);
        self.forgets.extend(self.files.remove(&stream).map(|file| file.saved.key()));
    }

    /// Makes cuts durable at once, many in one flush. If that fails the event is sent all the same: shipping goes on, and what
    /// a crash could then cut in another place is said with the failure.
    fn flush_cuts(&mut self) {
        if self.cuts.is_empty() {
            return;
        }
        self.flush();
        for (stream, done) in self.cuts.drain(..) {
            done.send(stream).ok(); // Tailing has ended.
        }
    }

    fn flush(&mut self) {
        if self.dirty.is_empty() && self.forgets.is_empty() && self.rested.is_empty() && !self.is_owing {
            return;
        }
        let (rested, forgets) = (std::mem::take(&mut self.rested), std::mem::take(&mut self.forgets));
        let moved = self.dirty.iter().filter_map(|stream| self.files.get(stream)).map(|file| &file.saved);
        let result = self.store.flush(rested.iter().chain(moved), &forgets);
        self.dirty.clear();
        self.is_owing = result.is_err();
        self.metrics.checkpoints.with_label_values(&[if result.is_ok() { "ok" } else { "failed" }]).inc();
        if let Err(error) = &result {
            tracing::error!(%error, "checkpoint not written; shipping goes on, a restart would read again from the last one");
        }
        self.health.set("checkpoint", result.err().map(|error| format!("not written: {error}")));
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "settlements, as in lib.rs")]
mod tests {
    use super::*;
    use crate::identity::Inode;
    use event::{Ack, Anchor, Incarnation, Input, Permit};
    use std::path::Path;
    use tokio::sync::mpsc;

    const STREAM: StreamId = StreamId(3);

    struct Bench {
        control: mpsc::Sender<Control>,
        ledger: UnboundedSender<Entry>,
        rewinds: UnboundedReceiver<Rewind>,
        source: Arc<Source>,
        metrics: AgentMetrics,
        task: tokio::task::JoinHandle<()>,
    }

    async fn bench(folder: &Path) -> Bench {
        let (store, _) = Store::open(folder).expect("opens");
        let (control, control_rx) = mpsc::channel(8);
        let (ledger, entries) = mpsc::unbounded_channel();
        let (rewinds_tx, rewinds) = mpsc::unbounded_channel();
        let metrics = AgentMetrics::new(&Default::default());
        let task = tokio::spawn(run(store, control_rx, entries, rewinds_tx, metrics.clone(), Health::new()));
        let (input, path) = (Arc::new(Input { id: "i".into(), ..Input::default() }), "/a".to_owned());
        let source = Arc::new(Source::new(STREAM, input, path, Incarnation(1), 0));
        let progress = Progress { offset: 0, anchor: Anchor::default() };
        let inode = Inode { device: 1, number: 2, birth_ns: None };
        let saved = Saved {
            input: "i".into(),
            incarnation: Incarnation(1),
            path: "/a".into(),
            inode,
            generation: 0,
            progress,
            cuts: vec![],
            cursor: None,
            packed: None,
        };
        let card = Arc::new(Card::new("/a".into(), inode));
        let open = Control::Open { saved, source: source.clone(), epoch: 0, card, written: None };
        control.send(open).await.expect("is open");
        Bench { control, ledger, rewinds, source, metrics, task }
    }

    impl Bench {
        fn ack(&self, epoch: u32, seq: u64) -> Ack {
            self.metrics.in_flight.inc();
            let (start, end, anchor) = (seq * 10, seq * 10 + 10, Anchor::default());
            let debt =
                Debt { stream: STREAM, epoch, seq, start, end, anchor, events: 1, bytes: 10, held: Permit::none() };
            Ack::new(debt, self.ledger.clone())
        }

        async fn end(self, folder: &Path) -> Vec<u64> {
            drop((self.ledger, self.control));
            self.task.await.expect("ends");
            let (_, loaded) = Store::open(folder).expect("opens");
            loaded.files.values().map(|saved| saved.progress.offset).collect()
        }
    }

    #[tokio::test]
    async fn only_the_settled_prefix_is_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bench = bench(folder.path()).await;
        let (first, second, third) = (bench.ack(0, 0), bench.ack(0, 1), bench.ack(0, 2));
        third.settle();
        first.settle();
        drop(second); // Still on its way when the process ends.
        assert_eq!(bench.end(folder.path()).await, [10]);
    }

    #[tokio::test]
    async fn an_entry_that_is_waited_for_is_written_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bench = bench(folder.path()).await;
        let (written, is_written) = oneshot::channel();
        let inode = Inode { device: 1, number: 3, birth_ns: None };
        let progress = Progress { offset: 7, anchor: Anchor::default() };
        let (input, path, incarnation) = ("i".to_owned(), "/b".to_owned(), Incarnation(2));
        let saved = Saved {
            input,
            incarnation,
            path,
            inode,
            generation: 1,
            progress,
            cuts: vec![],
            cursor: None,
            packed: None,
        };
        let (source, card) = (bench.source.clone(), Arc::new(Card::new("/b".into(), inode)));
        let open = Control::Open { saved, source, epoch: 0, card, written: Some(written) };
        bench.control.send(open).await.expect("is open");
        is_written.await.expect("is told");
        bench.task.abort(); // A kill: nothing is flushed any more.
        assert!(bench.task.await.is_err(), "aborted");
        let (_, loaded) = Store::open(folder.path()).expect("opens");
        assert!(loaded.files.values().any(|saved| saved.path == "/b" && saved.progress.offset == 7));
    }

    #[tokio::test]
    async fn a_span_given_back_rewinds_once_and_ends_its_epoch() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bench = bench(folder.path()).await;
        let acks = [bench.ack(0, 0), bench.ack(0, 1), bench.ack(0, 2)];
        let [first, second, third] = acks;
        first.settle();
        drop(second);
        drop(third);
        let rewind = bench.rewinds.recv().await.expect("a rewind");
        assert_eq!((rewind.epoch, rewind.progress.offset), (1, 10));
        assert!(!bench.source.is_current(0) && bench.source.is_current(1));
        bench.ack(1, 0).settle(); // 10..20 again; sequences begin anew, offsets do not matter to the ledger here.
        let metrics = bench.metrics.clone();
        assert!(bench.rewinds.try_recv().is_err(), "one rewind for all that was given back");
        bench.end(folder.path()).await;
        assert_eq!((metrics.in_flight.get(), metrics.returned.get()), (0, 2));
        assert_eq!(metrics.acknowledged.with_label_values(&["main"]).get(), 2);
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_forgotten_when_it_is_settled() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bench = bench(folder.path()).await;
        let last = bench.ack(0, 0);
        bench.control.send(Control::Leave { stream: STREAM, end: 10, reason: "deleted" }).await.expect("is open");
        last.settle();
        assert_eq!(bench.end(folder.path()).await, [0_u64; 0]);
    }

    #[tokio::test]
    async fn what_was_truncated_before_it_was_delivered_is_counted_and_forgotten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bench = bench(folder.path()).await;
        let (first, second) = (bench.ack(0, 0), bench.ack(0, 1));
        first.settle();
        bench.control.send(Control::Leave { stream: STREAM, end: 20, reason: "truncated" }).await.expect("is open");
        drop(second);
        let metrics = bench.metrics.clone();
        let rewinds = bench.rewinds.try_recv();
        assert_eq!(bench.end(folder.path()).await, [0_u64; 0]);
        assert!(rewinds.is_err(), "there is nothing to read again");
        assert_eq!(metrics.lost_bytes.with_label_values(&["truncated"]).get(), 10);
    }
}
