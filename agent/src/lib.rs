//! Log files → groups of records, each with the debt that moves the file's offset.
//!
//! `discover → tail [frame] ─► output`, and back `settlement ─► commit [ledger] ─► checkpoint`. The agent never moves an
//! offset past what was acknowledged, and writes no queue of its own: the log file is the buffer.

mod board;
mod discover;
mod tail;

mod decode;
mod follow;
mod frame;
mod identity;
mod line;
mod parse;
mod unpack;

mod checkpoint;
mod commit;
mod state;
mod why;

mod filebeat;
mod take_over;

mod config;
mod kubernetes;
mod metrics;

pub use board::{Board, Shown};
pub use config::{AgentConfig, FileInput, InputConfig, InputKind, Start, inputs};
pub use decode::{Encoding, InvalidBytes, LineTerminator, OnLongLine};
pub use discover::Glob;
pub use kubernetes::KubernetesConfig;
pub use metrics::AgentMetrics;
pub use parse::{
    ContainerConfig, ContainerFormat, ContainerStream, ExceptionsConfig, Language, MultilineConfig, MultilineMatch,
    MultilineType, NdjsonConfig, ParserConfig,
};
pub use state::{OnDisk, State, StateEntry, forget, read_state};
pub use tail::open_files_max;
pub use take_over::{Outcome, TakeOver, TakeOverRow, TakenOver, take_over_filebeat};
pub use why::{Effect, Explained, Known, Reason, User, covers, explain, holder, matching, told};

use anyhow::Context as _;
use event::Group;
use service::health::Health;
use service::stop::Stop;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Told-ahead files: one message a file, so a small buffer is enough.
const CONTROL_CAPACITY: usize = 64;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    inputs: watch::Sender<Arc<Vec<FileInput>>>,
    tail: std::thread::JoinHandle<()>,
    commit: std::thread::JoinHandle<()>,
}

/// Opens the checkpoint and starts to follow the inputs' files; groups go to `output`, each once a life of the agent.
///
/// Reading ends when `stop` says so or when `output` is closed. The checkpoint is flushed a last time when every `Ack`
/// is settled or dropped: see [`Agent::join`]. What is known of each file is noted on `board`.
/// Errors: the state folder cannot be made or is another agent's.
pub fn start(
    config: AgentConfig,
    output: mpsc::Sender<Group>,
    metrics: AgentMetrics,
    board: Board,
    health: Health,
    stop: Stop,
) -> anyhow::Result<Agent> {
    let (store, loaded) = checkpoint::Store::open(&config.state_dir)?;
    for damage in &loaded.damage {
        tracing::error!(%damage, "checkpoint damaged; reading again from the last sound offsets, nothing is skipped");
    }
    let first_inputs = Arc::new(config.inputs.clone());
    let (inputs, reloads) = watch::channel(first_inputs.clone());
    let known = tail::Known { files: loaded.files, first_start: loaded.first_start };
    let touched = discover::Touched::default();
    let (listings_tx, listings) = mpsc::channel(1);
    let (control, control_rx) = mpsc::channel(CONTROL_CAPACITY);
    #[expect(clippy::disallowed_methods, reason = "settlements: bounded by the byte budget")]
    let (ledger, entries) = mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "at most one rewind a file and epoch")]
    let (rewinds_tx, rewinds) = mpsc::unbounded_channel();

    let wires = tail::Wires { listings, touched: touched.clone(), rewinds, control, ledger, output };
    let commit = {
        let metrics = metrics.clone();
        spawn("commit", async move { commit::run(store, control_rx, entries, rewinds_tx, metrics, health).await })?
    };
    let tail = spawn("tail", async move {
        let discover = tokio::task::spawn(discover::run(reloads, touched, listings_tx, stop.clone()));
        tail::run(config, first_inputs, known, wires, metrics, board, stop).await;
        discover.abort();
    })?;
    Ok(Agent { inputs, tail, commit })
}

impl Agent {
    /// What gives the agent other inputs while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader(self.inputs.clone())
    }

    /// Waits until reading has ended and the checkpoint is written.
    pub fn join(self) {
        for thread in [self.tail, self.commit] {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic); // Wrong code must stop.
            }
        }
    }
}

/// Gives a running agent other inputs.
#[derive(Debug, Clone)]
pub struct Reloader(watch::Sender<Arc<Vec<FileInput>>>);

impl Reloader {
    /// Takes other inputs, from the next scan on. An input is known by its id: one that stays goes on with its files where it
    /// is, those of one that is gone are read to their end, and then rest in the checkpoint.
    pub fn reload(&self, inputs: Vec<FileInput>) {
        self.0.send_modify(|current| *current = Arc::new(config::replaced(current, inputs)));
    }
}

/// One stage, one thread: reading and fsync block, and must not hold up anything else.
fn spawn(name: &str, stage: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(stage));
    thread.with_context(|| format!("starting the {name} thread"))
}
