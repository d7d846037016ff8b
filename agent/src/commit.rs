//! Settlements → ledger → checkpoint.
//!
//! The ledger says how far each file is safe. That is written at once, so that a process that is killed sends again only
//! what was on its way; once a second it is made durable, for a power cut. The disk is waited for beside: what is settled
//! meanwhile is written all the same. A failed write changes nothing for the shipping: it is said, counted, and tried again
//! at the next flush.

use crate::board::Card;
use crate::checkpoint::{Key, PackedAt, Saved, Store, Synced, Unsynced};
use crate::metrics::AgentMetrics;
use event::{Debt, Entry, Incarnation, Ledger, Progress, Source, StreamId};
use service::health::Health;
use std::collections::{HashMap, HashSet};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Least time between two flushes: what a power cut can make to be read again.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// A write of some entries is reckoned at 25 µs (not measured), so these make 0.5 % of a core …
const WRITE_PAUSE: Duration = Duration::from_millis(5);
/// … and an entry at 2 µs: many busy files are written less often, and no more than 2,000 entries a second make the log
/// grow.
const ENTRY_PAUSE: Duration = Duration::from_micros(500);
/// So much of that time may be taken in advance: the reports of one look at many files come in bursts.
const BURST: Duration = Duration::from_millis(100);

/// Reports that are taken before what else is due gets its turn.
const REPORTS_MAX: usize = 1_000;

/// A wait for the disk.
pub(crate) type Syncing = Pin<Box<dyn Future<Output = Synced> + Send>>;

/// How it is waited for: beside the commit stage, or, in a model, at once.
pub(crate) type SyncFn = fn(Unsynced) -> Syncing;

/// In a thread of its own. Panics as the sync does.
pub(crate) fn beside(unsynced: Unsynced) -> Syncing {
    let thread = tokio::task::spawn_blocking(|| unsynced.sync());
    Box::pin(async { thread.await.expect("a sync neither panics nor is cancelled") })
}

/// What the tail stage tells before and after the groups of a file.
#[derive(Debug)]
pub(crate) enum Control {
    /// Groups of this file follow, from `saved.progress` on. Its entry goes in the place of `replaces`. `written` is told as
    /// soon as it is durable.
    Open {
        saved: Saved,
        source: Arc<Source>,
        epoch: u32,
        card: Arc<Card>,
        replaces: Option<Key>,
        written: Option<oneshot::Sender<()>>,
    },
    /// The file is gone; its entry goes when everything up to `end` is settled. If it was truncated, that is made durable at
    /// once, and the entry goes when the next life's comes.
    Leave { stream: StreamId, epoch: u32, end: u64, reason: &'static str },
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

/// The channels of the stage.
pub(crate) struct Wires {
    pub(crate) control: Receiver<Control>,
    pub(crate) entries: UnboundedReceiver<Entry>,
    pub(crate) rewinds: UnboundedSender<Rewind>,
    /// Told of entries that are forgotten, if the output keeps some, too.
    pub(crate) forgotten: Option<UnboundedSender<(String, Incarnation)>>,
}

/// A span was given back: read on from `progress` in `epoch`.
#[derive(Debug)]
pub(crate) struct Rewind {
    pub(crate) stream: StreamId,
    pub(crate) epoch: u32,
    pub(crate) progress: Progress,
}

struct File {
    /// Shared with the store while it does not move.
    saved: Arc<Saved>,
    source: Arc<Source>,
    epoch: u32,
    card: Arc<Card>,
    /// The end of what was read of a file that is gone, and why it is.
    leaves_at: Option<(u64, &'static str)>,
}

/// Is told when what it waits for is durable; mostly also if it cannot be made so: shipping goes on all the same.
enum Waiter {
    Opened(oneshot::Sender<()>),
    Cut(StreamId, UnboundedSender<StreamId>),
    /// This one only when it is durable: what is not must not be sent.
    Reserved(oneshot::Sender<()>),
}

impl Waiter {
    fn tell(self) {
        match self {
            Self::Opened(written) => written.send(()).ok(), // Or tailing has ended.
            Self::Cut(stream, done) => done.send(stream).ok(),
            Self::Reserved(durable) => durable.send(()).ok(),
        };
    }
}

struct Commit {
    store: Store,
    ledger: Ledger,
    files: HashMap<StreamId, File>,
    dirty: HashSet<StreamId>,
    forgets: Vec<Key>,
    /// Truncated lives that are not settled yet. Their entries stay when they are, unless a next life has replaced them.
    truncated: HashSet<Key>,
    /// Something waits to be made durable, and is not yet written.
    is_urgent: bool,
    /// Who waits for what is written to be durable, and who for what is being synced.
    waiting: Vec<Waiter>,
    syncing: Option<(Syncing, Vec<Waiter>)>,
    /// Another sync is to follow.
    syncs_again: bool,
    sync: SyncFn,
    /// Entries of files that are followed no longer and of what is no file, not yet written.
    rested: Vec<Arc<Saved>>,
    /// The time of all writes is used up until then.
    used_until: Instant,
    rewinds: UnboundedSender<Rewind>,
    forgotten: Option<UnboundedSender<(String, Incarnation)>>,
    metrics: AgentMetrics,
    health: Health,
}

/// Runs until every `Ack` is gone, then flushes a last time.
pub(crate) async fn run(store: Store, wires: Wires, sync: SyncFn, metrics: AgentMetrics, health: Health) {
    let Wires { mut control, mut entries, rewinds, forgotten } = wires;
    let (ledger, files, dirty, truncated) = (Ledger::default(), HashMap::new(), HashSet::new(), HashSet::new());
    let (forgets, rested, waiting) = (Vec::new(), Vec::new(), Vec::new());
    let (is_urgent, syncs_again, syncing, used_until) = (false, false, None, Instant::now());
    let mut commit = Commit {
        store,
        ledger,
        files,
        dirty,
        forgets,
        truncated,
        is_urgent,
        waiting,
        syncing,
        syncs_again,
        sync,
        rested,
        used_until,
        rewinds,
        forgotten,
        metrics,
        health,
    };
    let mut ticks = tokio::time::interval(FLUSH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let writes = tokio::time::sleep_until(commit.used_until);
    tokio::pin!(writes);
    loop {
        commit.write();
        let write_at = commit.next_write();
        if let Some(at) = write_at.filter(|at| *at != writes.deadline()) {
            writes.as_mut().reset(at);
        }
        tokio::select! {
            biased;
            Some(told) = control.recv() => {
                commit.take(told);
                commit.take_all(&mut control);
            }
            synced = commit.synced() => commit.end_sync(synced),
            _ = ticks.tick(), if commit.needs_flush() => commit.flush(),
            () = &mut writes, if write_at.is_some() => {}
            entry = entries.recv() => {
                if entry.is_none() {
                    break;
                }
                // Reports come in bursts: one write for those that are here.
                let (mut next, mut left) = (entry, REPORTS_MAX);
                while let Some(entry) = next {
                    // A file is opened before its first group exists: what is told comes before each report.
                    commit.take_all(&mut control);
                    commit.settle(entry);
                    left -= 1;
                    next = if left > 0 { entries.try_recv().ok() } else { None };
                }
            }
        }
        commit.flush_urgent();
    }
    commit.end().await;
}

impl Commit {
    fn take_all(&mut self, control: &mut Receiver<Control>) {
        while let Ok(told) = control.try_recv() {
            self.take(told);
        }
    }

    fn take(&mut self, told: Control) {
        match told {
            Control::Open { saved, source, epoch, card, replaces, written } => {
                let stream = source.stream;
                self.ledger.open(stream, epoch, saved.progress);
                self.files.insert(stream, File { saved: saved.into(), source, epoch, card, leaves_at: None });
                self.dirty.insert(stream);
                replaces.into_iter().for_each(|before| self.forget_entry(before));
                if let Some(written) = written {
                    self.waiting.push(Waiter::Opened(written));
                    self.is_urgent = true;
                }
            }
            Control::Leave { stream, epoch, end, reason } => {
                let mut is_given_back = false;
                if let Some(file) = self.files.get_mut(&stream) {
                    // Told before the tail stage knew of the rewind: nothing of the new epoch will ever come.
                    is_given_back = epoch < file.epoch && file.saved.progress.offset < end;
                    file.leaves_at = Some((end, reason));
                    if reason == "truncated" {
                        Arc::make_mut(&mut file.saved).is_truncated = true;
                        self.truncated.insert(file.saved.key());
                        self.dirty.insert(stream);
                        self.is_urgent = true;
                    }
                }
                if is_given_back {
                    self.lose(stream);
                } else {
                    self.leave(stream);
                }
            }
            Control::Cut { stream, at, done } => {
                if let Some(file) = self.files.get_mut(&stream).filter(|file| !file.saved.cuts.contains(&at)) {
                    Arc::make_mut(&mut file.saved).cuts.push(at);
                    self.dirty.insert(stream);
                }
                self.waiting.push(Waiter::Cut(stream, done));
                self.is_urgent = true;
            }
            Control::Packed { stream, packed } => {
                if let Some(file) = self.files.get_mut(&stream) {
                    Arc::make_mut(&mut file.saved).packed = Some(Box::new(packed));
                    self.dirty.insert(stream);
                }
            }
            Control::Rest { stream } => {
                self.ledger.close(stream);
                self.rested.extend(self.files.remove(&stream).map(|file| file.saved));
            }
            Control::Keep(saved) => {
                self.rested.retain(|other| other.key() != saved.key()); // A later one says it all.
                self.rested.push(saved.into());
            }
            Control::Forget(key) => self.forget_entry(key),
        }
    }

    fn settle(&mut self, entry: Entry) {
        match entry {
            Entry::Settled(debt) => {
                self.metrics.count_settled(&debt, &[]);
                self.settled(&debt);
            }
            Entry::Shared(debt, shares) => {
                self.metrics.count_settled(&debt, &shares);
                self.settled(&debt);
            }
            Entry::Returned(debt) => self.returned(&debt),
            Entry::Reserved(debt, shares, durable) => {
                self.metrics.count_reserved(&debt, &shares);
                if self.settled(&debt) {
                    self.waiting.push(Waiter::Reserved(durable));
                    self.is_urgent = true;
                }
            }
        }
    }

    /// True if the offset moved.
    fn settled(&mut self, debt: &Debt) -> bool {
        // An older epoch: delivered all the same, and read again since. Its id makes the copy harmless.
        let Ok(Some(progress)) = self.ledger.settle(debt) else { return false };
        if let Some(file) = self.files.get_mut(&debt.stream) {
            let saved = Arc::make_mut(&mut file.saved);
            saved.progress = progress;
            saved.cuts.retain(|cut| *cut >= progress.offset);
            file.card.acknowledged(progress.offset);
            self.dirty.insert(debt.stream);
        }
        self.leave(debt.stream);
        true
    }

    fn returned(&mut self, debt: &Debt) {
        self.metrics.returned.inc_by(debt.events.into());
        self.metrics.bytes_returned.inc_by(debt.bytes);
        self.metrics.left_flight(debt);
        let Some(file) = self.files.get_mut(&debt.stream).filter(|file| file.epoch == debt.epoch) else { return };
        file.source.break_off(debt.epoch);
        file.epoch += 1;
        let progress = file.saved.progress;
        if file.leaves_at.is_some() {
            return self.lose(debt.stream); // Gone since: there is nothing to read again.
        }
        self.ledger.open(debt.stream, file.epoch, progress);
        self.metrics.rewinds.inc();
        let rewind = Rewind { stream: debt.stream, epoch: file.epoch, progress };
        self.rewinds.send(rewind).ok(); // Tailing has ended: the next start reads on from the checkpoint.
    }

    /// Counts and forgets what was given back of a file that is gone.
    fn lose(&mut self, stream: StreamId) {
        let Some(file) = self.files.get(&stream) else { return };
        let (offset, Some((end, reason))) = (file.saved.progress.offset, file.leaves_at) else { return };
        let (path, lost) = (&*file.saved.path, end - offset);
        tracing::error!(path, offset, lost, reason, "gone before it was delivered; these bytes are lost");
        self.metrics.lost_bytes.with_label_values(&[reason]).inc_by(lost);
        self.forget(stream);
    }

    /// An entry that is of no use any more: now, or when its file is settled.
    fn forget_entry(&mut self, key: Key) {
        if !self.truncated.remove(&key) {
            self.forgets_key(key);
        }
    }

    fn forgets_key(&mut self, key: Key) {
        if let Some(forgotten) = &self.forgotten {
            forgotten.send((key.0.to_string(), key.1)).ok(); // Or the output has ended.
        }
        self.forgets.push(key);
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
        let Some(File { saved, .. }) = self.files.remove(&stream) else { return };
        if self.truncated.remove(&saved.key()) {
            self.rested.push(saved);
        } else {
            self.forgets_key(saved.key());
        }
    }

    /// Makes cuts, truncations and what follows them durable at once, many in one flush. If that fails the event is sent
    /// all the same: shipping goes on, and what a crash could then cut in another place is said with the failure.
    fn flush_urgent(&mut self) {
        if std::mem::take(&mut self.is_urgent) {
            self.flush();
        }
    }

    /// When to write; `None` if there is nothing, or a failed write waits for the next flush.
    fn next_write(&self) -> Option<Instant> {
        (self.has_news() && !self.store.is_torn())
            .then(|| self.used_until.checked_sub(BURST).unwrap_or(self.used_until))
    }

    fn has_news(&self) -> bool {
        !(self.dirty.is_empty() && self.forgets.is_empty() && self.rested.is_empty())
    }

    fn needs_flush(&self) -> bool {
        self.has_news() || !self.waiting.is_empty() || (!self.store.is_durable() && self.syncing.is_none())
    }

    /// For the next life of this process: a write, no wait for the disk.
    fn write(&mut self) {
        if self.next_write().is_none_or(|at| at > Instant::now()) {
            return;
        }
        if let Err(error) = self.store(Store::write_shared) {
            self.tell(Err(error));
        }
    }

    /// For the next life of this machine: a write, and a sync beside it. A sync that is under way does not count: what was
    /// just written may not be in it.
    fn flush(&mut self) {
        if self.store.wants_generation() {
            let result = self.store(Store::flush_shared);
            return self.end_flush(result);
        }
        match self.store(Store::write_shared) {
            Ok(()) if self.syncing.is_some() => self.syncs_again = true,
            Ok(()) => self.begin_sync(),
            Err(error) => self.end_flush(Err(error)),
        }
    }

    fn begin_sync(&mut self) {
        match self.store.unsynced() {
            Some(unsynced) => self.syncing = Some(((self.sync)(unsynced), std::mem::take(&mut self.waiting))),
            None => self.end_flush(Ok(())),
        }
    }

    /// What the sync under way comes to; never, if there is none.
    async fn synced(&mut self) -> Synced {
        match &mut self.syncing {
            Some((sync, _)) => sync.await,
            None => std::future::pending().await,
        }
    }

    fn end_sync(&mut self, synced: Synced) {
        let told = self.syncing.take().map(|(_, waiters)| waiters);
        let result = self.store.synced(synced);
        let is_durable = result.is_ok();
        self.tell(result);
        self.tell_waiters(told.into_iter().flatten().collect(), is_durable);
        if std::mem::take(&mut self.syncs_again) {
            self.flush();
        }
    }

    /// No sync is needed, or none is possible.
    fn end_flush(&mut self, result: io::Result<()>) {
        let is_durable = result.is_ok();
        self.tell(result);
        let waiting = std::mem::take(&mut self.waiting);
        self.tell_waiters(waiting, is_durable);
    }

    /// Tells those that wait, but for what must be durable and is not: it waits for the next flush.
    fn tell_waiters(&mut self, waiters: Vec<Waiter>, is_durable: bool) {
        for waiter in waiters {
            match waiter {
                Waiter::Reserved(_) if !is_durable => self.waiting.push(waiter),
                _ => waiter.tell(),
            }
        }
    }

    /// The last flush.
    async fn end(mut self) {
        self.syncs_again = false;
        if self.syncing.is_some() {
            let synced = self.synced().await;
            self.end_sync(synced);
        }
        let result = self.store(Store::flush_shared);
        self.end_flush(result);
    }

    fn store(
        &mut self,
        how: impl FnOnce(&mut Store, &mut dyn Iterator<Item = Arc<Saved>>, &[Key]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (rested, forgets) = (std::mem::take(&mut self.rested), std::mem::take(&mut self.forgets));
        let entries = u32::try_from(rested.len() + forgets.len() + self.dirty.len()).unwrap_or(u32::MAX);
        let moved = self.dirty.iter().filter_map(|stream| self.files.get(stream)).map(|file| file.saved.clone());
        let result = how(&mut self.store, &mut rested.into_iter().chain(moved), &forgets);
        self.dirty = HashSet::new(); // Its memory too: most files rest, and the next write has few.
        let used = (WRITE_PAUSE + ENTRY_PAUSE.saturating_mul(entries)).min(FLUSH_INTERVAL);
        self.used_until = self.used_until.max(Instant::now()) + used;
        result
    }

    fn tell(&self, result: io::Result<()>) {
        self.metrics.checkpoints.with_label_values(&[if result.is_ok() { "ok" } else { "failed" }]).inc();
        if let Err(error) = &result {
            tracing::error!(%error, "checkpoint not written; shipping goes on, a restart would read again from the last one");
        }
        self.health.set("checkpoint", result.err().map(|error| format!("not written: {error}")));
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::at_once;
