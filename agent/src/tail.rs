//! Files → groups of lines.
//!
//! One task follows all files: it takes listings, notifications and rewinds, and gives each file that has something to
//! read its turn. When the byte budget is used up it waits, and the files are the buffer.

mod claim;

use crate::checkpoint::{Key, Saved};
use crate::commit::{Control, Rewind};
use crate::config::{AgentConfig, FileInput, Start};
use crate::discover::{Listing, Seen, Touched};
use crate::follow::{Follow, Lines, Look, open};
use crate::metrics::AgentMetrics;
use event::{Ack, Budget, Debt, Entry, Group, Progress, Source, StreamId};
use service::clock::{monotonic, wall_ms};
use service::stop::Stop;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender};

/// What a record costs beside its bytes until it is acknowledged: its envelope and the client's bookkeeping.
const RECORD_OVERHEAD_BYTES: usize = 600;
/// Notifications within this time make one look, so that a chatty writer makes groups, not single lines.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// A file that grew lately is looked at this often, notification or not …
const BUSY_LOOK: Duration = Duration::from_millis(100);
/// … until it has not grown for so long.
const BUSY: Duration = Duration::from_secs(6);
/// The channels of the stage.
pub(crate) struct Wires {
    pub(crate) listings: Receiver<Listing>,
    pub(crate) touched: Touched,
    pub(crate) rewinds: UnboundedReceiver<Rewind>,
    pub(crate) control: Sender<Control>,
    pub(crate) ledger: UnboundedSender<Entry>,
    pub(crate) output: Sender<Group>,
}

/// What the checkpoint knew at start.
pub(crate) struct Known {
    pub(crate) files: BTreeMap<Key, Saved>,
    pub(crate) first_start: bool,
}

/// Ends when stopped, or when a later stage has ended.
pub(crate) async fn run(
    config: AgentConfig,
    inputs: Arc<Vec<FileInput>>,
    known: Known,
    wires: Wires,
    metrics: AgentMetrics,
    stop: Stop,
) {
    let Wires { mut listings, touched, mut rewinds, control, ledger, output } = wires;
    let mut tail = Tail {
        budget: Budget::new(config.memory),
        agent: config.name,
        inputs,
        first_start: known.first_start,
        is_first_listing: true,
        unclaimed: known.files,
        files: HashMap::new(),
        by_inode: HashMap::new(),
        ready: VecDeque::new(),
        busy: HashSet::new(),
        streams: 0,
        control,
        ledger,
        output,
        metrics,
        stop: stop.clone(),
    };
    let mut busy_looks = tokio::time::interval(BUSY_LOOK);
    busy_looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let has_ready = !tail.ready.is_empty();
        tokio::select! {
            biased;
            () = stop.stopped() => return,
            Some(rewind) = rewinds.recv() => tail.rewind(&rewind),
            Some(listing) = listings.recv() => tail.reconcile(listing).await,
            () = look_at(&touched, has_ready) => tail.wake(&touched.take()),
            _ = busy_looks.tick(), if !tail.busy.is_empty() => tail.look_at_busy(),
            () = std::future::ready(()), if has_ready => {
                if tail.turn().await.is_none() {
                    return;
                }
            }
        }
    }
}

/// Waits for a notification, and a little longer if there is nothing else to do.
async fn look_at(touched: &Touched, has_ready: bool) {
    touched.wait().await;
    if !has_ready {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

struct Tail {
    agent: String,
    inputs: Arc<Vec<FileInput>>,
    first_start: bool,
    is_first_listing: bool,
    /// Entries of the checkpoint for which no file was found yet.
    unclaimed: BTreeMap<Key, Saved>,
    files: HashMap<StreamId, Follow>,
    /// Input, device and inode of a followed file.
    by_inode: HashMap<(usize, u64, u64), StreamId>,
    ready: VecDeque<StreamId>,
    /// Files that grew lately.
    busy: HashSet<StreamId>,
    streams: u64,
    budget: Budget,
    control: Sender<Control>,
    ledger: UnboundedSender<Entry>,
    output: Sender<Group>,
    metrics: AgentMetrics,
    stop: Stop,
}

impl Tail {
    /// Follows what is new, queues what has grown, lets go of what is gone.
    async fn reconcile(&mut self, listing: Listing) {
        let mut unreadable = 0;
        for file in self.files.values_mut() {
            file.is_listed = false;
        }
        for seen in listing.files {
            let place = (seen.input, seen.inode.device, seen.inode.number);
            match self.by_inode.get(&place).and_then(|stream| self.files.get_mut(stream)) {
                Some(file) => {
                    file.is_listed = true;
                    if file.path != seen.path {
                        file.path = seen.path;
                    }
                    if seen.size != file.offset {
                        enqueue(file, &mut self.ready);
                    }
                }
                None => unreadable += i64::from(!self.adopt(seen).await),
            }
        }
        if std::mem::take(&mut self.is_first_listing) {
            self.claim_renamed().await;
        }
        self.look_after_unlisted().await;
        self.metrics.unreadable.set(unreadable);
        self.metrics.files.set(i64::try_from(self.files.len()).unwrap_or(i64::MAX));
        self.metrics.in_flight_bytes.set(i64::try_from(self.budget.in_use()).unwrap_or(i64::MAX));
    }

    /// Begins to follow a file. False if it cannot be opened now; the next listing tries again.
    async fn adopt(&mut self, seen: Seen) -> bool {
        match self.try_adopt(&seen).await {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true, // Gone or renamed since the scan.
            Err(error) => {
                tracing::warn!(path = %seen.path.display(), input = %self.inputs[seen.input].shared.id, %error,
                    "file cannot be read; it is tried again at every scan");
                false
            }
        }
    }

    async fn try_adopt(&mut self, seen: &Seen) -> io::Result<()> {
        let (file, inode) = open(&seen.path)?;
        let place = (seen.input, inode.device, inode.number);
        if self.by_inode.get(&place).is_some_and(|stream| self.files.contains_key(stream)) {
            return Ok(()); // Renamed between the scan and now: it is followed already.
        }
        self.streams += 1;
        let mut follow = Follow::new(file, seen.input, seen.path.clone(), inode, StreamId(self.streams), monotonic());
        let size = follow.stat()?.0;
        if self.is_first_listing {
            follow.reread_below = size;
        }
        match self.claim(&follow)? {
            Some(claim) => self.resume(&mut follow, claim, size).await?,
            None if self.first_start && self.is_first_listing && self.inputs[seen.input].start == Start::End => {
                self.start_at_end(&mut follow, size).await?;
            }
            None => self.metrics.incarnations.with_label_values(&["new"]).inc(),
        }
        self.by_inode.insert(place, follow.stream);
        enqueue(&mut follow, &mut self.ready);
        self.files.insert(follow.stream, follow);
        Ok(())
    }

    /// Files that no listing shows: rotated away or deleted. They are read to their end, and as long as they have a name
    /// a writer may go on with them; a deleted one is let go when all of it is settled.
    async fn look_after_unlisted(&mut self) {
        let mut deleted = Vec::new();
        for file in self.files.values_mut().filter(|file| !file.is_listed) {
            let Ok((size, names)) = file.stat() else { continue };
            if size != file.offset {
                enqueue(file, &mut self.ready);
            }
            if names == 0 && file.is_settled() && !file.is_queued {
                deleted.push(file.stream);
            }
        }
        for stream in deleted {
            self.let_go(stream).await;
        }
    }

    /// Its content is gone, or all of it is settled: follows the file no longer, and forgets it when it is settled.
    async fn let_go(&mut self, stream: StreamId) {
        let Some(file) = self.files.remove(&stream) else { return };
        self.by_inode.remove(&(file.input, file.inode.device, file.inode.number));
        if file.source.is_some() {
            self.control.send(Control::Leave { stream, end: file.offset }).await.ok(); // Closed only when the agent ends.
        }
    }

    /// Queues the files that a notification names.
    fn wake(&mut self, touched: &HashSet<PathBuf>) {
        for file in self.files.values_mut().filter(|file| touched.contains(&file.path)) {
            enqueue(file, &mut self.ready);
        }
    }

    fn look_at_busy(&mut self) {
        let (now, files, ready) = (monotonic(), &mut self.files, &mut self.ready);
        self.busy.retain(|stream| {
            let Some(file) = files.get_mut(stream).filter(|file| now.duration_since(file.changed) < BUSY) else {
                return false;
            };
            enqueue(file, ready);
            true
        });
    }

    fn rewind(&mut self, rewind: &Rewind) {
        let Some(file) = self.files.get_mut(&rewind.stream) else { return };
        let path = file.path.display().to_string();
        tracing::warn!(path, offset = rewind.progress.offset, from = file.offset, "not delivered, reading again");
        match file.rewind(rewind.progress.offset, rewind.epoch) {
            Ok(true) => {}                               // The next listing queues it: a pause before the second try.
            Ok(false) => enqueue(file, &mut self.ready), // Its look will find it truncated.
            Err(error) => tracing::warn!(path, %error, "cannot read again, tried at the next scan"),
        }
    }

    /// Gives the next file its turn: one chunk. `None` when the later stages have ended, or on stop.
    async fn turn(&mut self) -> Option<()> {
        let Some(stream) = self.ready.pop_front() else { return Some(()) };
        let Some(file) = self.files.get_mut(&stream) else { return Some(()) };
        file.is_queued = false;
        match file.look(self.inputs[file.input].line_bytes_max, monotonic()) {
            Ok(Look::Lines(lines)) => {
                self.busy.insert(stream);
                if lines.is_full {
                    enqueue(file, &mut self.ready); // There is more.
                }
                self.ship(stream, lines).await?;
            }
            Ok(Look::More) => enqueue(file, &mut self.ready),
            Ok(Look::End) => self.end_of(stream).await,
            Ok(Look::Truncated) => self.truncated(stream).await,
            Err(error) => tracing::warn!(path = %file.path.display(), offset = file.offset, %error, "read failed"),
        }
        tokio::task::yield_now().await;
        Some(())
    }

    /// At the end of a deleted file nothing more will come.
    async fn end_of(&mut self, stream: StreamId) {
        let Some(file) = self.files.get(&stream) else { return };
        let Ok((size, 0)) = file.stat() else { return };
        if !file.is_settled() {
            return; // What is in flight may have to be read again; the next listing looks again.
        }
        if size > file.offset {
            let lost = size - file.offset;
            tracing::warn!(path = %file.path.display(), offset = file.offset, lost, "deleted with an unfinished last line");
            self.metrics.lost_bytes.with_label_values(&["unfinished_line"]).inc_by(lost);
        }
        self.let_go(stream).await;
    }

    /// The file begins another life at 0, under the same inode.
    async fn truncated(&mut self, stream: StreamId) {
        let Some(file) = self.files.get(&stream) else { return };
        self.streams += 1;
        let next = match file.reopened(StreamId(self.streams), monotonic()) {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(path = %file.path.display(), %error, "truncated, cannot be read from start yet");
                return;
            }
        };
        tracing::warn!(path = %file.path.display(), offset = file.offset, "file truncated, reading from start");
        self.metrics.incarnations.with_label_values(&["truncated"]).inc();
        self.let_go(stream).await;
        self.by_inode.insert((next.input, next.inode.device, next.inode.number), next.stream);
        enqueue(self.files.entry(next.stream).or_insert(next), &mut self.ready);
    }

    /// Sends lines on, with their debt.
    async fn ship(&mut self, stream: StreamId, lines: Lines) -> Option<()> {
        let source = match self.source_of(stream).await {
            Ok(source) => source?,
            Err(error) => {
                tracing::warn!(%error, "first line cannot be read again");
                let file = self.files.get_mut(&stream)?;
                file.resume_at(lines.start).ok(); // Still unreadable: the next look says so.
                return Some(());
            }
        };
        let file = self.files.get_mut(&stream)?;
        let events = u32::try_from(lines.records.len()).unwrap_or(u32::MAX);
        let charge = lines.buffer.len() + lines.records.len() * RECORD_OVERHEAD_BYTES;
        let (epoch, seq, anchor) = (file.epoch, file.seq, file.anchor());
        let (start, end, reread) = (lines.start, lines.end, lines.start < file.reread_below);
        file.seq += 1;
        let held = tokio::select! {
            held = self.budget.take(charge) => held,
            () = self.stop.stopped() => return None,
        };
        self.metrics.read.inc_by(events.into());
        self.metrics.read_bytes.inc_by(end - start);
        self.metrics.filtered.with_label_values(&["empty"]).inc_by(lines.empty);
        self.metrics.read.inc_by(lines.empty);
        self.metrics.truncated.inc_by(lines.truncated);
        self.metrics.in_flight.add(events.into());
        let debt = Debt { stream, epoch, seq, start, end, anchor, events, held };
        let ack = Ack::new(debt, self.ledger.clone());
        if lines.records.is_empty() {
            ack.settle(); // Only empty lines.
            return Some(());
        }
        let (buffer, records, read_at_ms) = (lines.buffer, lines.records, wall_ms());
        let group = Group { source, epoch, buffer, records, read_at_ms, reread, ack };
        service::failpoint::hit("agent-group-before-send");
        tokio::select! {
            sent = self.output.send(group) => sent.ok(),
            () = self.stop.stopped() => None,
        }
    }

    /// The source of a file's records; made when its first complete line is there.
    async fn source_of(&mut self, stream: StreamId) -> io::Result<Option<Arc<Source>>> {
        let Some(file) = self.files.get(&stream) else { return Ok(None) };
        if let Some(source) = &file.source {
            return Ok(Some(source.clone()));
        }
        let Some(incarnation) = file.incarnation(&self.agent)? else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "truncated while it was read"));
        };
        let mut saved = self.saved(file, incarnation);
        saved.progress = Progress { offset: 0, anchor: event::Anchor::default() };
        let Some(mut file) = self.files.remove(&stream) else { return Ok(None) };
        self.announce(&mut file, saved).await;
        let source = file.source.clone();
        self.files.insert(stream, file);
        Ok(source)
    }

    fn saved(&self, file: &Follow, incarnation: event::Incarnation) -> Saved {
        Saved {
            input: self.inputs[file.input].shared.id.clone(),
            incarnation,
            path: file.shipped_path.clone(),
            inode: file.inode,
            generation: file.generation,
            progress: Progress { offset: file.offset, anchor: file.anchor() },
        }
    }

    /// Opens the file's stream in the ledger, before its first group.
    async fn announce(&self, file: &mut Follow, saved: Saved) {
        let (input, path) = (self.inputs[file.input].shared.clone(), file.shipped_path.clone());
        let source = Arc::new(Source::new(file.stream, input, path, saved.incarnation, file.epoch));
        file.source = Some(source.clone());
        let (epoch, committed) = (file.epoch, file.committed.clone());
        self.control.send(Control::Open { saved, source, epoch, committed }).await.ok(); // Closed only when the agent ends.
    }
}

fn enqueue(file: &mut Follow, ready: &mut VecDeque<StreamId>) {
    if !std::mem::replace(&mut file.is_queued, true) {
        ready.push_back(file.stream);
    }
}

#[cfg(test)]
mod tests;
