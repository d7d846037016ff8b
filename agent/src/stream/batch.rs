//! What the readers of a stream hand to its outlet, and how: paid for from the memory budget, and waiting when it is used up.

use super::Wires;
use crate::board::Plate;
use event::{Extra, Permit, Record};
use service::stop::Stop;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// What a record costs beside its bytes until it is acknowledged: its envelope and the client's bookkeeping.
const RECORD_OVERHEAD_BYTES: usize = 600;
/// What was read at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// What the records' ranges refer to.
    pub(super) buffer: Vec<u8>,
    /// Their offsets are counted from the start of the batch, or given, with a cursor.
    pub(super) records: Vec<Record>,
    /// Bytes of the stream, with what makes no record.
    pub(super) bytes: u64,
    /// Messages without content, and their bytes.
    pub(super) empty: u64,
    pub(super) empty_bytes: u64,
    /// Messages that were cut, and the bytes cut off.
    pub(super) truncated: u64,
    pub(super) cut_bytes: u64,
    /// Of the last entry of a journal.
    pub(super) cursor: Option<String>,
    /// It may have been shipped by an earlier life of the agent.
    pub(super) reread: bool,
    extra_bytes: usize,
    pub(super) held: Vec<Permit>,
}

impl Batch {
    /// Adds a record. Unit: `bytes` and `cut` as the stream counts them.
    pub(super) fn push(&mut self, text: &[u8], extra: Option<Box<Extra>>, offset: Option<u64>, bytes: u64, cut: u64) {
        let offset = offset.unwrap_or(self.bytes);
        self.bytes += bytes;
        if text.is_empty() && extra.as_ref().is_none_or(|extra| !extra.without_message) {
            self.empty += 1;
            self.empty_bytes += bytes;
            return;
        }
        let start = to_u32(self.buffer.len());
        self.buffer.extend_from_slice(text);
        self.truncated += u64::from(cut > 0);
        self.cut_bytes += cut;
        self.extra_bytes += extra.as_ref().map_or(0, |extra| extra.fields.len());
        self.records.push(Record { bytes: start..to_u32(self.buffer.len()), offset, truncated: cut > 0, extra });
    }

    /// What it costs in memory. The fields are held twice: here and in the group that is on its way.
    pub(super) fn cost(&self) -> usize {
        self.buffer.len() + 2 * self.extra_bytes + self.records.len() * RECORD_OVERHEAD_BYTES
    }

    /// Adds what was read next.
    pub(super) fn append(&mut self, next: Self) {
        let (start, bytes) = (to_u32(self.buffer.len()), self.bytes);
        self.buffer.extend_from_slice(&next.buffer);
        self.records.extend(next.records.into_iter().map(|record| Record {
            bytes: record.bytes.start + start..record.bytes.end + start,
            offset: record.offset + bytes,
            ..record
        }));
        self.bytes += next.bytes;
        self.empty += next.empty;
        self.empty_bytes += next.empty_bytes;
        self.truncated += next.truncated;
        self.cut_bytes += next.cut_bytes;
        self.extra_bytes += next.extra_bytes;
    }

    /// Pays for a part of it in advance.
    pub(super) fn hold(&mut self, permit: Permit) {
        self.held.push(permit);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

fn to_u32(at: usize) -> u32 {
    u32::try_from(at).expect("a batch is smaller than 4 GiB")
}

/// Where the readers of one input put what they read.
#[derive(Clone)]
pub(super) struct Mouth {
    batches: Sender<Batch>,
    pub(super) wires: Wires,
    pub(super) plate: Arc<Plate>,
    /// Tells the readers to end.
    pub(super) stop: Stop,
}

impl Mouth {
    pub(super) fn new(batches: Sender<Batch>, wires: &Wires, plate: Arc<Plate>, stop: Stop) -> Self {
        Self { batches, wires: wires.clone(), plate, stop }
    }

    /// Waits for memory and hands the batch over. After a stop it waits only some time; what then has no place is lost, and
    /// counted. False if nothing more can be handed over.
    pub(super) async fn ship(&self, mut batch: Batch) -> bool {
        if batch.is_empty() {
            return true;
        }
        let (cost, bytes, events) = (batch.cost(), batch.bytes, batch.records.len());
        let can_be_read_again = batch.cursor.is_some();
        let step = async {
            let held = match self.wires.budget.try_take(cost) {
                Some(held) => held,
                None => {
                    self.plate.waits(true);
                    let held = self.wires.budget.take(cost).await;
                    self.plate.waits(false);
                    held
                }
            };
            batch.hold(held);
            self.batches.send(batch).await.is_ok()
        };
        let is_taken = unless_stopped(&self.stop, self.wires.drain_timeout, step).await.unwrap_or(false);
        if !is_taken && !can_be_read_again {
            self.lose("stopped", events as u64, bytes);
        }
        is_taken
    }

    /// Waits for room and hands over a batch that is paid for, leaving an empty one. Nothing is lost if it is broken off. False
    /// if nothing more can be handed over.
    pub(super) async fn hand_over(&self, batch: &mut Batch) -> bool {
        let Ok(room) = self.batches.reserve().await else { return false };
        room.send(std::mem::take(batch));
        true
    }

    /// As [`Mouth::ship`], for a batch that is paid for.
    pub(super) async fn ship_paid(&self, batch: Batch) -> bool {
        let (bytes, events) = (batch.bytes, batch.records.len() as u64);
        let step = async { batch.is_empty() || self.batches.send(batch).await.is_ok() };
        let is_taken = unless_stopped(&self.stop, self.wires.drain_timeout, step).await.unwrap_or(false);
        if !is_taken {
            self.lose("stopped", events, bytes);
        }
        is_taken
    }

    /// Counts what was taken off the stream and cannot be shipped.
    pub(super) fn lose(&self, reason: &'static str, events: u64, bytes: u64) {
        lose(&self.wires, &self.plate, reason, events, bytes);
    }
}

pub(super) fn lose(wires: &Wires, plate: &Plate, reason: &'static str, events: u64, bytes: u64) {
    wires.metrics.lost_events.with_label_values(&[reason]).inc_by(events);
    wires.metrics.lost_bytes.with_label_values(&[reason]).inc_by(bytes);
    plate.lost(events);
}

/// Waits for `step`; after the stop only `patience` longer.
async fn unless_stopped<T>(stop: &Stop, patience: Duration, step: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(step);
    tokio::select! {
        biased;
        done = &mut step => Some(done),
        () = stop.stopped() => tokio::time::timeout(patience, step).await.ok(),
    }
}
