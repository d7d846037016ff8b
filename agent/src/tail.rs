//! Files → groups of lines.
//!
//! One task follows all files: it takes listings, notifications and rewinds, and gives each file that has something to
//! read its turn. When the byte budget is used up it waits, and the files are the buffer.

mod adopt;
mod claim;
mod compare;
mod copy;
mod cut;
mod handles;
mod held;
mod ready;
mod reload;
mod risk;
mod search;
mod suspect;

pub use handles::open_files_max;

use crate::board::Board;
use crate::checkpoint::{Key, PackedAt, Saved};
use crate::commit::{Control, Rewind};
use crate::config::{AgentConfig, FileInput};
use crate::deadline::Deadlines;
use crate::discover::{Listing, Touched};
use crate::follow::{Follow, Lines, Look};
use crate::identity::{Edges, Inode};
use crate::metrics::AgentMetrics;
use event::{Ack, Budget, Debt, Entry, Group, Intake, Progress, Source, StreamId};
use service::clock::{monotonic, wall_ms};
use service::stop::Stop;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

/// What a record costs beside its bytes until it is acknowledged: its envelope and the client's bookkeeping.
const RECORD_OVERHEAD_BYTES: usize = 600;
/// Notifications within this time make one look, so that a chatty writer makes groups, not single lines.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// A file that grew lately is looked at this often, notification or not …
const BUSY_LOOK: Duration = Duration::from_millis(100);
/// … but no more than so many files each time …
const BUSY_LOOKS_MAX: usize = 200;
/// … until it has not grown for so long.
const BUSY: Duration = Duration::from_secs(6);
/// While the output takes nothing no listing is taken either: rotated files are looked at this often, to warn in time.
const WAITING_LOOK: Duration = Duration::from_secs(2);
/// Listings after which entries of the checkpoint are still looked for under other names. The last one forgets what is not
/// there: a file that was moved between the first listing and the look for it is in the second.
const CLAIMS: u32 = 2;

/// The channels of the stage.
pub(crate) struct Wires {
    pub(crate) listings: Receiver<Listing>,
    pub(crate) touched: Touched,
    pub(crate) rewinds: UnboundedReceiver<Rewind>,
    pub(crate) control: Sender<Control>,
    pub(crate) ledger: UnboundedSender<Entry>,
    pub(crate) output: Intake,
    pub(crate) budget: Budget,
}

/// What the checkpoint knew at start.
pub(crate) struct Known {
    pub(crate) files: BTreeMap<Key, Saved>,
    pub(crate) first_start: bool,
    /// The output keeps offsets, and what finds a file again.
    pub(crate) is_kept: bool,
}

/// Ends when stopped, or when a later stage has ended.
pub(crate) async fn run(
    config: AgentConfig,
    inputs: Arc<Vec<FileInput>>,
    known: Known,
    wires: Wires,
    metrics: AgentMetrics,
    board: Board,
    stop: Stop,
) {
    let Wires { mut listings, touched, mut rewinds, control, ledger, output, budget } = wires;
    let drain_timeout = config.drain_timeout;
    #[expect(clippy::disallowed_methods, reason = "at most one cut a file")]
    let (cuts_tx, mut cuts) = tokio::sync::mpsc::unbounded_channel();
    let mut tail = Tail {
        budget,
        agent: config.name,
        handles: handles::Handles::new(inputs.iter().map(|input| input.harvester_limit).collect(), config.agents),
        agents: config.agents,
        inputs,
        first_start: known.first_start,
        is_kept: known.is_kept,
        is_first_listing: true,
        claims_left: CLAIMS,
        missed: Vec::new(),
        started_ms: u64::try_from(wall_ms()).unwrap_or(0),
        unclaimed: known.files,
        files: HashMap::new(),
        by_inode: HashMap::new(),
        suspects: HashSet::new(),
        unpacking: Vec::new(),
        gone: HashMap::new(),
        last_lines: HashSet::new(),
        listed: None,
        claimed: None,
        ready: ready::Ready::default(),
        held: held::Held::default(),
        deadlines: Deadlines::default(),
        busy: HashSet::new(),
        busy_ticks: 0,
        streams: 0,
        control,
        ledger,
        output,
        metrics,
        board,
        cuts: cuts_tx,
        drain_timeout,
        stop: stop.clone(),
    };
    let mut busy_looks = tokio::time::interval(BUSY_LOOK);
    busy_looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let has_ready = !tail.ready.is_empty();
        tokio::select! {
            biased;
            () = stop.stopped() => return tail.read_out().await,
            Some(rewind) = rewinds.recv() => tail.rewind(&rewind).await,
            Some(stream) = cuts.recv() => if tail.cut(stream).await.is_none() {
                return if stop.is_stopped() { tail.read_out().await };
            },
            Some(listing) = listings.recv() => tail.reconcile(listing).await,
            () = look_at(&touched, has_ready) => tail.wake(&touched.take()),
            () = held::until(tail.held.due()), if tail.held.due().is_some() => tail.release_held(),
            _ = busy_looks.tick(), if !tail.busy.is_empty() => tail.look_at_busy(),
            () = std::future::ready(()), if has_ready => {
                if tail.turn().await.is_none() {
                    return if stop.is_stopped() { tail.read_out().await };
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

/// Before the first look: what stands in all its records. False while that is being asked for.
fn get_to_know(file: &mut Follow, input: &FileInput) -> bool {
    file.is_known = input.knows(&file.path);
    if file.is_known
        && let Some(source) = &file.source
    {
        source.set_fields(input.fields_of(&file.path)); // One that the checkpoint knew.
    }
    file.card.problem((!file.is_known).then(|| "the labels of its pod are waited for".to_owned()));
    file.is_known
}

struct Tail {
    agent: String,
    inputs: Arc<Vec<FileInput>>,
    first_start: bool,
    /// See [`AgentConfig::agents`].
    agents: usize,
    is_kept: bool,
    is_first_listing: bool,
    /// Listings after which renamed files are still looked for.
    claims_left: u32,
    /// What the last listing showed and what had lost its name when it was to be opened.
    missed: Vec<Inode>,
    /// Milliseconds since 1970.
    started_ms: u64,
    /// Entries of the checkpoint for which no file was found yet.
    unclaimed: BTreeMap<Key, Saved>,
    /// Boxed: the table has room for about twice as many as it holds.
    files: HashMap<StreamId, Box<Follow>>,
    /// Input, device and inode of a followed file.
    by_inode: HashMap<(usize, u64, u64), StreamId>,
    /// When the last listing was begun.
    listed: Option<Instant>,
    /// When entries of the checkpoint were first looked for under other names.
    claimed: Option<Instant>,
    /// Packed files that may be copies; some of them are none any more.
    suspects: HashSet<StreamId>,
    /// Packed files that are being unpacked.
    unpacking: Vec<StreamId>,
    /// Files that are gone and still followed.
    gone: HashMap<StreamId, copy::Gone>,
    /// Files for whose unfinished last line a cut is being made durable.
    last_lines: HashSet<StreamId>,
    ready: ready::Ready,
    /// Files that a rate plan holds.
    held: held::Held,
    deadlines: Deadlines,
    /// Files that grew lately.
    busy: HashSet<StreamId>,
    /// Since they were looked at.
    busy_ticks: usize,
    handles: handles::Handles,
    streams: u64,
    budget: Budget,
    control: Sender<Control>,
    ledger: UnboundedSender<Entry>,
    output: Intake,
    metrics: AgentMetrics,
    board: Board,
    /// Told when a cut is durable.
    cuts: UnboundedSender<StreamId>,
    drain_timeout: Duration,
    stop: Stop,
}

impl Tail {
    /// Queues the files that a notification names.
    fn wake(&mut self, touched: &HashSet<PathBuf>) {
        for file in self.files.values_mut().filter(|file| touched.contains(&*file.path)) {
            enqueue(file, &mut self.ready);
        }
    }

    fn look_at_busy(&mut self) {
        self.busy_ticks += 1;
        if self.busy_ticks < self.busy.len() / BUSY_LOOKS_MAX {
            return; // So many files are busy that looking costs more than it brings: each has its look less often.
        }
        self.busy_ticks = 0;
        let (now, files, ready) = (monotonic(), &mut self.files, &mut self.ready);
        self.busy.retain(|stream| {
            let Some(file) = files.get_mut(stream) else { return false };
            // A closed one is opened when a scan sees that it has grown, or to see that nothing follows what is open of it.
            if !file.is_cutting && (file.is_open() || file.is_due(now)) {
                enqueue(file, ready);
            }
            file.deadline().is_some() || (file.is_open() && now.duration_since(file.changed) < BUSY)
        });
        if self.busy.is_empty() {
            self.busy = HashSet::new(); // Its memory too.
        }
    }

    async fn rewind(&mut self, rewind: &Rewind) {
        let Some(file) = self.files.get_mut(&rewind.stream) else { return };
        let path = file.path.display().to_string();
        tracing::warn!(path, offset = rewind.progress.offset, from = file.offset, "not delivered, reading again");
        match file.rewind(&rewind.progress, rewind.epoch) {
            Ok(true) => {} // The next listing queues it: a pause before the second try.
            Ok(false) => self.truncated(rewind.stream).await,
            Err(error) => tracing::warn!(path, %error, "cannot read again, tried at the next scan"),
        }
    }

    /// Gives the next file its turn: one chunk. `None` when the later stages have ended, or on stop.
    async fn turn(&mut self) -> Option<()> {
        let Some(stream) = self.ready.next() else { return Some(()) };
        self.turn_of(stream).await
    }

    async fn turn_of(&mut self, stream: StreamId) -> Option<()> {
        // Comparing ships nothing, and the original may be let go while nobody knows that this is its copy.
        let is_suspect = self.files.get(&stream).is_some_and(|file| file.suspect().is_some());
        if (!is_suspect && self.is_held(stream)) || !self.may_unpack(stream) || !self.take_handle(stream).await {
            return Some(());
        }
        if is_suspect {
            self.judge(stream).await;
            tokio::task::yield_now().await;
            return Some(());
        }
        let Some(file) = self.files.get_mut(&stream) else { return Some(()) };
        if !file.is_known && !get_to_know(file, &self.inputs[file.input]) {
            self.busy.insert(stream);
            return Some(());
        }
        let now = monotonic();
        if file.is_read_out() {
            self.ask_for_cut(stream, now).await;
            return Some(());
        }
        let look = match file.begins_anew(&self.agent) {
            Ok(true) => Ok(Look::Truncated),
            Ok(false) => file.look(self.inputs[file.input].line_bytes_max, now),
            Err(error) => Err(error),
        };
        if file.deadline().is_some() || matches!(look, Ok(Look::Lines(_))) {
            self.busy.insert(stream);
        }
        match look {
            Ok(Look::Lines(lines)) => {
                if lines.is_full {
                    enqueue(file, &mut self.ready); // There is more.
                } else {
                    file.note_end();
                }
                self.ship(stream, lines).await?;
            }
            Ok(Look::More) => enqueue(file, &mut self.ready),
            Ok(Look::End) => {
                file.note_end();
                file.ends_at = file.ends_at.map(|_| file.offset); // An unfinished line stays.
                self.note_rest(stream).await;
                self.end_of(stream).await;
                self.ask_for_cut(stream, now).await;
            }
            Ok(Look::Packed) => self.turned_out_packed(stream),
            Ok(Look::Truncated) => self.truncated(stream).await,
            Err(error) => {
                tracing::warn!(path = %file.path.display(), offset = file.offset, %error, "read failed");
                file.card.problem(Some(format!("reading failed: {error}")));
            }
        }
        tokio::task::yield_now().await;
        Some(())
    }

    /// Sends lines on, with their debt.
    async fn ship(&mut self, stream: StreamId, lines: Lines) -> Option<()> {
        let source = match self.source_of(stream, lines.start).await {
            Ok(source) => source?,
            Err(error) => {
                tracing::warn!(%error, "first line cannot be read again");
                let file = self.files.get_mut(&stream)?;
                if !matches!(file.resume_at(lines.start), Ok(true)) {
                    self.metrics.lost_bytes.with_label_values(&["truncated"]).inc_by(lines.end - lines.start);
                }
                return Some(());
            }
        };
        let file = self.files.get_mut(&stream)?;
        let events = u32::try_from(lines.records.len()).unwrap_or(u32::MAX);
        let passed = lines.passed;
        let charge = lines.buffer.len() + lines.records.len() * RECORD_OVERHEAD_BYTES;
        let (epoch, seq, anchor) = (file.epoch, file.seq, lines.anchor);
        let (start, end, reread) = (lines.start, lines.end, lines.start < file.reread_below);
        file.seq += 1;
        file.card.read_to(end);
        let held = match self.budget.try_take(charge) {
            Some(held) => held,
            None => {
                self.board.waits();
                self.ready.is_backlogged();
                let budget = self.budget.clone();
                let held = self.unless_stopped(stream, budget.take(charge)).await?;
                self.board.reads();
                held
            }
        };
        let bytes = end - start - passed.bytes();
        self.metrics.count_read(u64::from(events), end - start, &passed, &lines.filtered);
        let debt = Debt { stream, epoch, seq, start, end, anchor, events, bytes, held };
        let ack = Ack::new(debt, self.ledger.clone());
        if lines.records.is_empty() {
            ack.settle(); // Only empty lines.
            return Some(());
        }
        let (buffer, records, read_at_ms) = (lines.buffer, lines.records, wall_ms());
        let group = Group { source, epoch, buffer, records, read_at_ms, reread, divert: None, ack };
        self.output.gate.passes(&group);
        if self.output.groups.capacity() == 0 {
            self.ready.is_backlogged(); // The output is slower than reading.
        }
        service::failpoint::hit("agent-group-before-send");
        let output = self.output.groups.clone();
        self.unless_stopped(stream, output.send(group)).await?.ok()
    }

    /// Waits for `step`. `None` if the agent is told to stop; for an input with `read_until_eof` only some time after that.
    async fn unless_stopped<T>(&mut self, stream: StreamId, step: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(step);
        loop {
            tokio::select! {
                biased;
                done = &mut step => return Some(done),
                () = self.stop.stopped() => break,
                () = tokio::time::sleep(WAITING_LOOK) => self.look_while_waiting(),
            }
        }
        let reads_out = self.files.get(&stream).is_some_and(|file| self.inputs[file.input].read_until_eof);
        if reads_out { tokio::time::timeout(self.drain_timeout, step).await.ok() } else { None }
    }

    /// The source of a file's records; made when its first complete line is there, which begins at `start`.
    async fn source_of(&mut self, stream: StreamId, start: u64) -> io::Result<Option<Arc<Source>>> {
        let Some(file) = self.files.get(&stream) else { return Ok(None) };
        if let Some(source) = &file.source {
            return Ok(Some(source.clone()));
        }
        let gone = || io::Error::new(io::ErrorKind::UnexpectedEof, "truncated while it was read");
        let incarnation = match file.incarnation_read(&self.agent) {
            Some(incarnation) => incarnation,
            None => file.incarnation(&self.agent)?.ok_or_else(gone)?, // Its first line has not been read yet.
        };
        let anchor = match start {
            0 => event::Anchor::default(),
            _ if file.pack.is_some() => file.unpacked_edges(start).ok_or_else(gone)?.anchor(),
            _ => Edges::read(file.file()?, start)?.ok_or_else(gone)?.anchor(),
        };
        let mut saved = self.saved(file, incarnation);
        saved.progress = Progress { offset: start, anchor };
        let Some(mut file) = self.files.remove(&stream) else { return Ok(None) };
        self.announce(&mut file, saved).await;
        let source = file.source.clone();
        self.files.insert(stream, file);
        Ok(source)
    }

    fn saved(&self, file: &Follow, incarnation: event::Incarnation) -> Saved {
        let (input, path) = (self.inputs[file.input].id.clone(), file.shipped_path.clone());
        let progress = Progress { offset: file.offset, anchor: file.anchor() };
        let (generation, cuts) = (file.generation, file.cuts.clone());
        let packed = file.pack.as_ref().map(|_| Box::new(PackedAt { inode: file.inode, rest: None }));
        Saved { generation, cuts, packed, ..Saved::new(input, incarnation, path, *file.origin(), progress) }
    }

    /// Opens the file's stream in the ledger, before its first group. How often a file was truncated cannot be seen from
    /// the file: before lines are shipped under ids that are made of it, it is written down.
    async fn announce(&self, file: &mut Follow, saved: Saved) {
        let (input, path) = (self.inputs[file.input].shared.clone(), file.shipped_path.clone());
        let source = Arc::new(Source::new(file.stream, input, path, saved.incarnation, file.epoch));
        if file.is_known {
            source.set_fields(self.inputs[file.input].fields_of(&file.path));
        }
        if self.is_kept {
            source.set_entry(crate::committed::entry(&saved));
        }
        file.source = Some(source.clone());
        file.card.has_incarnation(saved.incarnation);
        let (epoch, card) = (file.epoch, file.card.clone());
        let (written, is_written) = (saved.generation > 0).then(oneshot::channel).unzip();
        let replaces = file.replaces.take().map(|before| before.key());
        let open = Control::Open { saved, source, epoch, card, replaces, written };
        self.control.send(open).await.ok(); // Closed only when the agent ends.
        if let Some(is_written) = is_written {
            is_written.await.ok(); // The same.
        }
    }
}

fn enqueue(file: &mut Follow, ready: &mut ready::Ready) {
    if !std::mem::replace(&mut file.is_queued, true) {
        ready.push(file.stream, file.backlog.as_ref().and_then(|backlog| backlog.loses_at_ms));
    }
}

#[cfg(test)]
mod tests;
