//! Inputs that are no files → groups of records.
//!
//! `stdin | syslog | journald [frames, message, export] → outlet ─► output`. One thread for all of them. What they read cannot
//! be read again (the journal can, but not at once), so an outlet keeps every group until it is settled and sends it again
//! from memory. Each byte that is kept is paid for from the agent's memory budget; when that is used up, reading waits.

mod journald;
mod stdin;
mod syslog;

mod frames;

mod batch;
mod outlet;

pub use frames::Framing;
pub use syslog::Format;

use crate::board::{Board, Plate};
use crate::commit::Control;
use crate::config::{FileInput, StreamInput, StreamKind};
use crate::metrics::AgentMetrics;
use batch::Mouth;
use event::{Budget, Entry, Incarnation, Intake, Source, StreamId};
use outlet::Outlet;
use service::clock::{monotonic, wall_ms};
use service::health::Health;
use service::stop::{Stop, Trigger};
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{Sender, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Streams of these inputs are counted from here on; those of files from 1.
const FIRST_STREAM: u64 = 1 << 62;
/// Batches between reading and the outlet. Few: the byte budget bounds what is in flight.
const BATCHES_CAPACITY: usize = 4;
/// Pause before an input that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What all streams share.
#[derive(Clone)]
pub(crate) struct Wires {
    /// Name of the agent, part of every incarnation.
    pub(crate) agent: String,
    pub(crate) budget: Budget,
    pub(crate) control: Sender<Control>,
    /// Held until the last cursor is told, so that the commit stage waits for it.
    pub(crate) _ledger: UnboundedSender<Entry>,
    pub(crate) metrics: AgentMetrics,
    pub(crate) board: Board,
    pub(crate) health: Health,
    pub(crate) drain_timeout: Duration,
}

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Nobody stopped it: standard input has ended, and there was no other input.
    pub by_itself: bool,
    /// What became of what it had read.
    pub ended: Ended,
}

/// What became of what was read of inputs that are no files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All that cannot be read again is acknowledged.
    Delivered,
    /// Some of it is not, and is lost.
    Undelivered,
}

/// An input whose socket, if it has one, is open.
pub(crate) struct Opened {
    input: StreamInput,
    socket: Option<syslog::Socket>,
}

/// The last journal entry that was read of an input, by the input's id.
pub(crate) type Cursors = BTreeMap<String, Arc<Mutex<Option<String>>>>;

/// Opens the sockets. Errors: an address that is taken or may not be used; it names the input.
pub(crate) fn open(inputs: &[StreamInput]) -> anyhow::Result<Vec<Opened>> {
    inputs.iter().map(|input| open_one(input.clone())).collect()
}

fn open_one(input: StreamInput) -> anyhow::Result<Opened> {
    use anyhow::Context as _;
    let socket = match &input.kind {
        StreamKind::Syslog(syslog) => {
            let opened = syslog::Socket::open(&syslog.listen);
            Some(opened.with_context(|| format!("input {:?}: listen: {}", input.shared.id, syslog.listen))?)
        }
        _ => None,
    };
    Ok(Opened { input, socket })
}

/// Runs the inputs until stopped, or until standard input has ended and nothing else is left to read.
pub(crate) async fn run(
    opened: Vec<Opened>,
    mut inputs: watch::Receiver<Arc<Vec<StreamInput>>>,
    files: watch::Receiver<Arc<Vec<FileInput>>>,
    cursors: Cursors,
    output: Intake,
    wires: Wires,
    (trigger, stop): (Arc<Trigger>, Stop),
) -> Left {
    let health = wires.health.clone();
    let drain_timeout = wires.drain_timeout;
    let (running, tasks) = (BTreeMap::new(), JoinSet::new());
    let wanted = inputs.borrow_and_update().clone();
    let mut streams = Streams {
        wires,
        output: Some(output),
        wanted,
        running,
        tasks,
        cursors,
        stop: stop.clone(),
        streams: FIRST_STREAM,
        stdin_ended: false,
        ended: Ended::Delivered,
    };
    opened.into_iter().for_each(|opened| streams.start(opened));
    let (mut problem, mut deadline, mut is_late) = (None, None, false);
    loop {
        if deadline.is_some() && streams.tasks.is_empty() {
            break;
        }
        let has_work = !streams.tasks.is_empty();
        tokio::select! {
            () = stop.stopped() => break,
            () = closed(streams.output.clone()) => break, // A later stage has ended.
            Ok(()) = inputs.changed() => {
                streams.wanted = inputs.borrow_and_update().clone();
                problem = streams.reconcile();
            }
            Some(finished) = streams.tasks.join_next(), if has_work => {
                streams.finish(finished.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())));
                problem = streams.reconcile();
            }
            () = tokio::time::sleep(RETRY), if problem.is_some() => problem = streams.reconcile(),
            () = sleep_until(deadline), if deadline.is_some() => {
                is_late = true;
                break;
            }
        }
        health.set("inputs", problem.clone());
        if deadline.is_none() && streams.is_read_out() && files.borrow().iter().all(|input| input.is_retired) {
            tracing::info!(
                "standard input has ended and there is no other input: the agent ends when all is acknowledged"
            );
            deadline = Some(monotonic() + drain_timeout);
        }
    }
    let was_stopped = stop.is_stopped();
    trigger.stop();
    if is_late {
        tracing::error!(waited = ?drain_timeout, "not all of standard input was acknowledged in time; the rest is lost");
        return Left { by_itself: true, ended: Ended::Undelivered };
    }
    streams.output = None;
    streams.running.values().for_each(|running| running.trigger.stop());
    while let Some(finished) = streams.tasks.join_next().await {
        streams.finish(finished.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())));
    }
    Left { by_itself: deadline.is_some() && !was_stopped, ended: streams.ended }
}

async fn closed(output: Option<Intake>) {
    if let Some(output) = output {
        output.groups.closed().await;
    }
}

/// Waits for a time, if there is one.
async fn sleep_until(deadline: Option<std::time::Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline.into()).await;
    }
}

/// A task that has ended.
enum Finished {
    /// Nothing more is read of this input.
    Read(String),
    /// All of it is settled, or given up.
    Settled(String, Ended),
}

struct Running {
    input: StreamInput,
    source: Arc<Source>,
    trigger: Trigger,
    /// Nothing more is read of it.
    is_read: bool,
}

struct Streams {
    wires: Wires,
    /// Gone after a stop: the later stages end when the last outlet lets go of its own.
    output: Option<Intake>,
    wanted: Arc<Vec<StreamInput>>,
    running: BTreeMap<String, Running>,
    tasks: JoinSet<Finished>,
    cursors: Cursors,
    stop: Stop,
    streams: u64,
    stdin_ended: bool,
    ended: Ended,
}

impl Streams {
    /// Starts what is wanted and does not run, ends what runs and is not wanted. Returns what could not be started.
    fn reconcile(&mut self) -> Option<String> {
        let mut problem = None;
        for (id, running) in &self.running {
            match self.wanted.iter().find(|wanted| wanted.shared.id == *id) {
                Some(wanted) if wanted.kind == running.input.kind => running.source.set_input(wanted.shared.clone()),
                Some(wanted) if is_stdin(wanted) && is_stdin(&running.input) => {
                    tracing::warn!(input = id, "standard input is read as before; a change of it needs a restart");
                }
                _ => running.trigger.stop(),
            }
        }
        for wanted in self.wanted.clone().iter() {
            if self.running.contains_key(&wanted.shared.id) || (is_stdin(wanted) && self.stdin_ended) {
                continue;
            }
            match open_one(wanted.clone()) {
                Ok(opened) => self.start(opened),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "input cannot be opened, it is tried again");
                    problem = Some(error);
                }
            }
        }
        problem
    }

    fn start(&mut self, Opened { input, socket }: Opened) {
        let Some(output) = self.output.clone() else { return };
        self.streams += 1;
        let (id, wires) = (input.shared.id.clone(), self.wires.clone());
        let is_journal = matches!(input.kind, StreamKind::Journald(_));
        let incarnation =
            if is_journal { journald::incarnation(&wires.agent, &id) } else { fresh_incarnation(&wires.agent, &id) };
        let source = Arc::new(Source::new(StreamId(self.streams), input.shared.clone(), "".into(), incarnation, 0));
        let listen = socket.as_ref().map(syslog::Socket::address);
        let plate = Arc::new(Plate::new(&id, input.shared.kind, listen));
        wires.board.put_up(plate.clone());
        let (batches_tx, batches) = tokio::sync::mpsc::channel(BATCHES_CAPACITY);
        let (trigger, stop) = Stop::new();
        let mouth = Mouth::new(batches_tx, &wires, plate.clone(), stop.clone());
        let outlet = Outlet::new(source.clone(), batches, output, wires.clone(), plate.clone(), self.stop.clone());
        let (name, kind) = (id.clone(), input.kind.clone());
        let cursor = self.cursors.entry(id.clone()).or_default().clone();
        self.tasks.spawn(async move {
            match (kind, socket) {
                (StreamKind::Syslog(syslog), Some(socket)) => syslog::run(socket, syslog, mouth).await,
                (StreamKind::Syslog(_), None) => unreachable!("a syslog input is opened with its socket"),
                (StreamKind::Journald(journald), _) => journald::run(journald, cursor, mouth, wires.health).await,
                (StreamKind::Stdin { line_bytes_max }, _) => stdin::run(line_bytes_max, mouth).await,
            }
            Finished::Read(name)
        });
        let (name, board) = (id.clone(), self.wires.board.clone());
        self.tasks.spawn(async move {
            let ended = outlet.run().await;
            board.take_off(&plate);
            Finished::Settled(name, ended)
        });
        self.running.insert(id, Running { input, source, trigger, is_read: false });
    }

    fn finish(&mut self, finished: Finished) {
        match finished {
            Finished::Read(id) => {
                let Some(running) = self.running.get_mut(&id) else { return };
                self.stdin_ended |= is_stdin(&running.input);
                running.is_read = true;
                // A journal's successor begins where it ended: when all of it is settled. The others' can begin at once.
                if !matches!(running.input.kind, StreamKind::Journald(_)) {
                    self.running.remove(&id);
                }
            }
            Finished::Settled(id, ended) => {
                if ended == Ended::Undelivered {
                    self.ended = ended;
                }
                if self.running.get(&id).is_some_and(|running| running.is_read) {
                    self.running.remove(&id);
                }
            }
        }
    }

    /// True if standard input has ended and no other input is there.
    fn is_read_out(&self) -> bool {
        self.stdin_ended && self.running.is_empty() && self.wanted.iter().all(is_stdin)
    }
}

fn is_stdin(input: &StreamInput) -> bool {
    matches!(input.kind, StreamKind::Stdin { .. })
}

/// Of what cannot be read again each life is another.
fn fresh_incarnation(agent: &str, input: &str) -> Incarnation {
    let random = RandomState::new().build_hasher().finish();
    Incarnation::new(agent, random, u64::try_from(wall_ms()).ok(), input.as_bytes(), 0)
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
