//! Batches of one stream → groups, each kept until it is settled.
//!
//! The outlet has a ledger of its own: what is given back is sent again from memory, in order, and what the ledger has passed
//! is let go. Of a journal it tells the checkpoint the cursor of the last entry that is safe, at most once a second.

use super::batch::{Batch, lose};
use super::{Ended, Wires, sleep_until};
use crate::board::Plate;
use crate::checkpoint::Saved;
use crate::commit::Control;
use crate::identity::Inode;
use bytes::Bytes;
use event::{Ack, Anchor, Debt, Entry, Group, Intake, Ledger, Permit, Progress, Record, Source};
use service::backoff::Backoff;
use service::clock::{monotonic, wall_ms};
use service::stop::Stop;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver, UnboundedSender};

/// Batches that are kept before the first of them is sent.
const UNSENT_MAX: usize = 4;
/// Least time between two cursors told to the checkpoint.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// A group that is not settled.
struct Kept {
    buffer: Bytes,
    records: Vec<Record>,
    start: u64,
    end: u64,
    /// Bytes of the stream that its records stand for.
    bytes: u64,
    read_at_ms: i64,
    reread: bool,
    cursor: Option<String>,
    was_sent: bool,
    /// Its share of the budget; free when it is let go.
    _held: Vec<Permit>,
}

impl Kept {
    fn events(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }
}

/// The stage of one stream.
pub(super) struct Outlet {
    source: Arc<Source>,
    batches: Receiver<Batch>,
    is_open: bool,
    output: Intake,
    acks: UnboundedSender<Entry>,
    entries: UnboundedReceiver<Entry>,
    ledger: Ledger,
    epoch: u32,
    seq: u64,
    kept: VecDeque<Kept>,
    /// So many of `kept` are on their way.
    sent: usize,
    end: u64,
    /// Nothing is sent before: a pause after something was given back, or as long as a rate plan holds it.
    resumes: Option<Instant>,
    backoff: Backoff,
    /// Cursor that is safe and not yet told.
    safe: Option<String>,
    wires: Wires,
    plate: Arc<Plate>,
    /// The agent's.
    stop: Stop,
}

impl Outlet {
    #[expect(clippy::disallowed_methods, reason = "settlements: bounded by the byte budget")]
    pub(super) fn new(
        source: Arc<Source>,
        batches: Receiver<Batch>,
        output: Intake,
        wires: Wires,
        plate: Arc<Plate>,
        stop: Stop,
    ) -> Self {
        let (acks, entries) = mpsc::unbounded_channel();
        let mut ledger = Ledger::default();
        ledger.open(source.stream, 0, Progress { offset: 0, anchor: Anchor::default() });
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        Self {
            source,
            batches,
            is_open: true,
            output,
            acks,
            entries,
            ledger,
            epoch: 0,
            seq: 0,
            kept: VecDeque::new(),
            sent: 0,
            end: 0,
            resumes: None,
            backoff,
            safe: None,
            wires,
            plate,
            stop,
        }
    }

    /// Ends when the readers have ended and everything is settled; after a stop of the agent also with less, and says so.
    pub(super) async fn run(mut self) -> Ended {
        let mut tells = tokio::time::interval(TELL_INTERVAL);
        tells.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (stop, mut deadline) = (self.stop.clone(), None);
        while self.is_open || !self.kept.is_empty() {
            let unsent = self.kept.len() - self.sent;
            if stop.is_stopped() {
                let deadline = *deadline.get_or_insert_with(|| monotonic() + self.wires.drain_timeout);
                self.resumes = None;
                if (!self.is_open && unsent == 0) || monotonic() >= deadline {
                    break;
                }
            }
            let (resumes, output) = (self.resumes, self.output.groups.clone());
            tokio::select! {
                biased;
                Some(entry) = self.entries.recv() => self.take(entry),
                () = sleep_until(resumes), if resumes.is_some() => self.resumes = None,
                room = output.reserve(), if unsent > 0 && resumes.is_none() => match room {
                    Ok(room) => self.send(room),
                    Err(_) => break, // A later stage has ended.
                },
                batch = self.batches.recv(), if self.is_open && unsent < UNSENT_MAX => match batch {
                    Some(batch) => self.push(batch),
                    None => self.is_open = false,
                },
                _ = tells.tick(), if self.safe.is_some() => self.tell().await,
                () = stop.stopped(), if deadline.is_none() => {}
                () = sleep_until(deadline), if deadline.is_some() => {}
            }
        }
        self.leave().await
    }

    /// Sends nothing more, so that the later stages drain, and waits for what is on its way.
    async fn leave(self) -> Ended {
        let Self {
            source, mut batches, output, acks, mut entries, mut ledger, mut kept, mut safe, wires, plate, ..
        } = self;
        drop((output, acks));
        batches.close();
        while let Some(entry) = entries.recv().await {
            if let Some(progress) = count(entry, &wires, &plate, &mut ledger).ok().flatten() {
                let_go(&mut kept, &progress, &mut safe);
            }
        }
        let mut ended = Ended::Delivered;
        for kept in kept {
            if !kept.was_sent {
                wires.metrics.returned.inc_by(kept.events().into());
                wires.metrics.bytes_returned.inc_by(kept.bytes);
                wires.metrics.in_flight.sub(kept.events().into());
                wires.metrics.bytes_in_flight.sub(signed(kept.bytes));
            }
            if kept.cursor.is_none() {
                lose(&wires, &plate, "undelivered", kept.events().into(), kept.bytes);
                ended = Ended::Undelivered;
            }
        }
        while let Some(batch) = batches.recv().await {
            // Never counted as read. A journal reads it again.
            if batch.cursor.is_none() {
                lose(&wires, &plate, "undelivered", batch.records.len() as u64, batch.bytes);
                ended = Ended::Undelivered;
            }
        }
        if ended == Ended::Undelivered {
            tracing::error!(input = source.input().id, "ended before all of it was acknowledged; the rest is lost");
        }
        tell(&source, safe, &wires).await;
        ended
    }

    fn push(&mut self, batch: Batch) {
        let events = batch.records.len() as u64;
        let bytes = batch.bytes - batch.empty_bytes - batch.cut_bytes;
        let metrics = &self.wires.metrics;
        metrics.read.inc_by(events + batch.empty);
        metrics.bytes_read.inc_by(batch.bytes);
        metrics.in_flight.add(signed(events));
        metrics.bytes_in_flight.add(signed(bytes));
        metrics.filtered.with_label_values(&["empty"]).inc_by(batch.empty);
        metrics.bytes_filtered.with_label_values(&["empty"]).inc_by(batch.empty_bytes);
        metrics.truncated.inc_by(batch.truncated);
        metrics.bytes_skipped.with_label_values(&["truncated"]).inc_by(batch.cut_bytes);
        self.plate.read(events, batch.bytes);
        let start = self.end;
        self.end += batch.bytes;
        if batch.records.is_empty() {
            return;
        }
        let mut records = batch.records;
        if batch.cursor.is_none() {
            records.iter_mut().for_each(|record| record.offset += start);
        }
        self.kept.push_back(Kept {
            buffer: Bytes::from(batch.buffer),
            records,
            start,
            end: self.end,
            bytes,
            read_at_ms: wall_ms(),
            reread: batch.reread,
            cursor: batch.cursor,
            was_sent: false,
            _held: batch.held,
        });
    }

    fn send(&mut self, room: mpsc::Permit<'_, Group>) {
        // After a stop nothing is held: what was taken from a sender cannot be read again.
        if !self.stop.is_stopped()
            && let Some(until) = self.output.gate.opens(self.source.stream, &self.source.input(), &self.source.path)
        {
            self.plate.is_held(true);
            self.resumes = Some(until);
            return;
        }
        self.plate.is_held(false);
        let kept = &mut self.kept[self.sent];
        let (events, bytes) = (kept.events(), kept.bytes);
        if kept.was_sent {
            self.wires.metrics.read.inc_by(events.into());
            self.wires.metrics.bytes_read.inc_by(bytes);
            self.wires.metrics.in_flight.add(events.into());
            self.wires.metrics.bytes_in_flight.add(signed(bytes));
        }
        let (stream, epoch, seq, anchor) = (self.source.stream, self.epoch, self.seq, Anchor::default());
        let (start, end, held) = (kept.start, kept.end, Permit::none());
        let debt = Debt { stream, epoch, seq, start, end, anchor, events, bytes, held };
        let ack = Ack::new(debt, self.acks.clone());
        let (source, buffer, records) = (self.source.clone(), kept.buffer.clone(), kept.records.clone());
        let reread = kept.reread || kept.was_sent;
        kept.was_sent = true;
        self.sent += 1;
        self.seq += 1;
        let group = Group { source, epoch, buffer, records, read_at_ms: kept.read_at_ms, reread, divert: None, ack };
        self.output.gate.passes(&group);
        room.send(group);
    }

    fn take(&mut self, entry: Entry) {
        match count(entry, &self.wires, &self.plate, &mut self.ledger) {
            Ok(Some(progress)) => {
                self.sent -= let_go(&mut self.kept, &progress, &mut self.safe);
                self.backoff.reset();
            }
            Ok(None) => {}
            Err(epoch) if epoch == self.epoch => self.send_again(),
            Err(_) => {} // Of an epoch that is broken off: it is sent again already.
        }
    }

    /// Something was given back: it and all behind it is sent again, in order.
    fn send_again(&mut self) {
        let stream = self.source.stream;
        let Some(progress) = self.ledger.progress(stream) else { return };
        self.source.break_off(self.epoch);
        self.epoch += 1;
        (self.seq, self.sent) = (0, 0);
        self.ledger.open(stream, self.epoch, progress);
        self.resumes = Some(monotonic() + self.backoff.next());
        self.wires.metrics.rewinds.inc();
        tracing::warn!(
            input = self.source.input().id,
            groups = self.kept.len(),
            "not delivered, sent again from memory"
        );
    }

    async fn tell(&mut self) {
        tell(&self.source, self.safe.take(), &self.wires).await;
    }
}

/// Counts a settlement. Returns how far the stream is safe if that moved. Errors: the epoch of what was given back.
fn count(entry: Entry, wires: &Wires, plate: &Plate, ledger: &mut Ledger) -> Result<Option<Progress>, u32> {
    let metrics = &wires.metrics;
    let (debt, told) = match entry {
        Entry::Settled(debt) => {
            metrics.count_settled(&debt, &[]);
            (debt, None)
        }
        Entry::Shared(debt, shares) => {
            metrics.count_settled(&debt, &shares);
            (debt, None)
        }
        Entry::Reserved(debt, shares, told) => {
            metrics.count_reserved(&debt, &shares);
            (debt, Some(told))
        }
        Entry::Returned(debt) => {
            metrics.left_flight(&debt);
            metrics.returned.inc_by(debt.events.into());
            metrics.bytes_returned.inc_by(debt.bytes);
            return Err(debt.epoch);
        }
    };
    plate.acknowledged(debt.events.into());
    let Ok(progress) = ledger.settle(&debt) else { return Ok(None) }; // Of an older epoch: it was sent again since.
    if let Some(told) = told {
        told.send(()).ok(); // It is let go of now, and so never sent again by this process.
    }
    Ok(progress)
}

/// Lets go of what is safe and returns how many groups that were.
fn let_go(kept: &mut VecDeque<Kept>, progress: &Progress, safe: &mut Option<String>) -> usize {
    let count = kept.iter().take_while(|kept| kept.end <= progress.offset).count();
    for kept in kept.drain(..count) {
        if kept.cursor.is_some() {
            *safe = kept.cursor;
        }
    }
    count
}

/// Tells the checkpoint the cursor up to which a journal is safe.
async fn tell(source: &Source, cursor: Option<String>, wires: &Wires) {
    if cursor.is_none() {
        return;
    }
    let (input, inode) = (source.input().id.as_str().into(), Inode { device: 0, number: 0, birth_ns: None });
    let progress = Progress { offset: 0, anchor: Anchor::default() };
    let saved = Saved { cursor, ..Saved::new(input, source.incarnation, "".into(), inode, progress) };
    wires.control.send(Control::Keep(saved)).await.ok(); // Closed only when the agent ends.
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
