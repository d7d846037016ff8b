//! Log files and other inputs → groups of records, each with the debt that moves the file's offset.
//!
//! `discover → tail [frame] ─► output`, and back `settlement ─► commit [ledger] ─► checkpoint`. The agent never moves an
//! offset past what was acknowledged, and writes no queue of its own: the log file is the buffer. Beside it `stream ─► output`:
//! inputs that are no files, each kept in memory until it is acknowledged.

mod board;
mod deadline;
mod discover;
mod tail;

mod stream;

mod assemble;
mod decode;
mod follow;
mod frame;
mod identity;
mod line;
mod parse;
mod unpack;

mod checkpoint;
mod commit;
mod committed;
mod state;
mod why;

mod filebeat;
mod take_over;

mod config;
mod kubernetes;
mod metrics;

#[cfg(test)]
mod model;

pub use board::{Board, Shown, ShownInput};
pub use config::{AgentConfig, CheckedInput, FileInput, InputConfig, InputKind, Protocol, Start, StreamInput, inputs};
pub use decode::{Encoding, InvalidBytes, LineTerminator, OnLongLine};
pub use discover::Glob;
pub use kubernetes::{ApiConfig, KubernetesConfig};
pub use metrics::AgentMetrics;
pub use parse::{
    ContainerConfig, ContainerFormat, ContainerStream, ExceptionsConfig, Language, MultilineConfig, MultilineMatch,
    MultilineType, NdjsonConfig, ParserConfig,
};
pub use state::{OnDisk, State, StateEntry, forget, read_state};
pub use tail::open_files_max;
pub use take_over::{Outcome, TakeOver, TakeOverRow, TakenOver, take_over_filebeat};
pub use unpack::Compression;
pub use why::{Effect, Explained, Known, Reason, User, covers, explain, holder, matching, told};

pub use stream::{Ended, Format, Framing, Left};

use anyhow::{Context as _, bail};
use event::{Budget, Intake, Keeper};
use service::health::Health;
use service::stop::Stop;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};

/// Told-ahead files: one message a file, so a small buffer is enough.
const CONTROL_CAPACITY: usize = 64;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    reloader: Reloader,
    tail: std::thread::JoinHandle<()>,
    stream: std::thread::JoinHandle<Left>,
    commit: std::thread::JoinHandle<()>,
}

/// Opens the checkpoint and starts to follow the inputs; groups go to `output`, each once a life of the agent. What its gate holds
/// is not read.
///
/// With a `keeper` no file is read before it has told what is committed, which counts more than the checkpoint.
/// Reading ends when `stop` says so, when `output` is closed, or when standard input has ended and there is no other input. The
/// checkpoint is flushed a last time when every `Ack` is settled or dropped: see [`Agent::join`]. What is known of each file
/// and of each other input is noted on `board`.
/// Errors: the state folder cannot be made or is another agent's; an address cannot be listened to; several inputs that read
/// standard input. Call it inside a tokio runtime.
pub fn start(
    config: AgentConfig,
    output: impl Into<Intake>,
    keeper: Option<Keeper>,
    metrics: AgentMetrics,
    board: Board,
    health: Health,
    stop: Stop,
) -> anyhow::Result<Agent> {
    if config.inputs.iter().filter(|input| input.is_stdin()).count() > 1 {
        bail!("several inputs of type stdin: there is only one standard input");
    }
    let output = output.into();
    let (store, loaded) = checkpoint::Store::open(&config.state_dir)?;
    for damage in &loaded.damage {
        tracing::error!(%damage, "checkpoint damaged; reading again from the last sound offsets, nothing is skipped");
    }
    let (files, streams) = config::parted(config.inputs.clone());
    let opened = stream::open(&streams)?;
    let first_files = Arc::new(files);
    let (files, reloads) = watch::channel(first_files.clone());
    let (streams, stream_reloads) = watch::channel(Arc::new(streams));
    let (committed, forgotten) = keeper.map(|keeper| (keeper.committed, keeper.forgotten)).unzip();
    let is_kept = committed.is_some();
    let mut known = tail::Known { files: loaded.files, first_start: loaded.first_start, is_kept };
    let cursors = take_cursors(&mut known.files);
    let touched = discover::Touched::default();
    let (listings_tx, listings) = mpsc::channel(1);
    let (control, control_rx) = mpsc::channel(CONTROL_CAPACITY);
    #[expect(clippy::disallowed_methods, reason = "settlements: bounded by the byte budget")]
    let (ledger, entries) = mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "at most one rewind a file and epoch")]
    let (rewinds_tx, rewinds) = mpsc::unbounded_channel();
    let budget = Budget::new(config.memory);
    // The agent may also end by itself: what stops its stages is its own.
    let (trigger, inner_stop) = Stop::new();

    let stream_wires = stream::Wires {
        agent: config.name.clone(),
        budget: budget.clone(),
        control: control.clone(),
        _ledger: ledger.clone(),
        metrics: metrics.clone(),
        board: board.clone(),
        health: health.clone(),
        drain_timeout: config.drain_timeout,
    };
    let wires =
        tail::Wires { listings, touched: touched.clone(), rewinds, control, ledger, output: output.clone(), budget };
    let commit = {
        let metrics = metrics.clone();
        spawn("commit", async move {
            let wires = commit::Wires { control: control_rx, entries, rewinds: rewinds_tx, forgotten };
            commit::run(store, wires, commit::beside, metrics, health).await
        })?
    };
    let stream = {
        let (file_reloads, stops) = (reloads.clone(), inner_stop.clone());
        spawn("stream", async move {
            let trigger = Arc::new(trigger);
            let both = stop_both(stop, trigger.clone());
            let streams =
                stream::run(opened, stream_reloads, file_reloads, cursors, output, stream_wires, (trigger, stops));
            tokio::select! {
                biased;
                () = both => unreachable!("it waits for ever"),
                left = streams => left,
            }
        })?
    };
    let tail = spawn("tail", async move {
        if let Some(committed) = committed {
            let told = tokio::select! {
                () = inner_stop.stopped() => return,
                told = committed => told,
            };
            let Ok(told) = told else { return }; // The output has ended.
            known.first_start &= told.is_empty();
            let corrected = committed::put_right(&mut known.files, told);
            tracing::info!(?corrected, "the checkpoint was put right");
        }
        let discover = tokio::task::spawn(discover::run(reloads, touched, listings_tx, inner_stop.clone()));
        tail::run(config, first_files, known, wires, metrics, board, inner_stop).await;
        discover.abort();
    })?;
    Ok(Agent { reloader: Reloader { files, streams }, tail, stream, commit })
}

/// Passes a stop of the program on to the agent's own, then waits for ever.
async fn stop_both(stop: Stop, trigger: Arc<service::stop::Trigger>) {
    stop.stopped().await;
    trigger.stop();
    std::future::pending().await
}

/// Takes the entries of journals out of what the checkpoint knows.
fn take_cursors(known: &mut std::collections::BTreeMap<checkpoint::Key, checkpoint::Saved>) -> stream::Cursors {
    let mut cursors = stream::Cursors::new();
    known.retain(|(input, _), saved| {
        if let Some(cursor) = saved.cursor.take() {
            cursors.insert(input.to_string(), Arc::new(Mutex::new(Some(cursor).filter(|cursor| !cursor.is_empty()))));
            return false;
        }
        true
    });
    cursors
}

impl Agent {
    /// What gives the agent other inputs while it runs.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Waits until reading has ended and the checkpoint is written.
    pub fn join(self) -> Left {
        join(self.tail);
        let left = join(self.stream);
        join(self.commit);
        left
    }
}

/// Gives a running agent other inputs.
#[derive(Debug, Clone)]
pub struct Reloader {
    files: watch::Sender<Arc<Vec<FileInput>>>,
    streams: watch::Sender<Arc<Vec<StreamInput>>>,
}

impl Reloader {
    /// Takes other inputs, from the next scan on. An input is known by its id: one that stays goes on with its files where it
    /// is, those of one that is gone are read to their end, and then rest in the checkpoint. Of the others one that is gone
    /// ends when what it has read is acknowledged, and one whose keys changed is ended and begun anew.
    pub fn reload(&self, inputs: Vec<CheckedInput>) {
        let (files, streams) = config::parted(inputs);
        self.streams.send_if_modified(|current| {
            let is_new = **current != streams;
            if is_new {
                *current = Arc::new(streams);
            }
            is_new
        });
        self.files.send_modify(|current| *current = Arc::new(config::replaced(current, files)));
    }
}

fn join<T>(thread: std::thread::JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) // Wrong code must stop.
}

/// One stage, one thread: reading and fsync block, and must not hold up anything else.
fn spawn<T: Send + 'static>(
    name: &str,
    stage: impl Future<Output = T> + Send + 'static,
) -> anyhow::Result<std::thread::JoinHandle<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(stage));
    thread.with_context(|| format!("starting the {name} thread"))
}
