//! Random histories of files, played in real time while an agent follows them and meets its [`fate`].
//!
//! A history is made from a seed: it has a folder of its own, programs that write there, and things that happen to their
//! files. Many run side by side under one agent. What must be delivered is known all the time: a step that destroys what
//! nobody else holds first waits until it has arrived, or gives it up. [`judge`] then compares.

pub mod arrivals;
pub mod fate;
pub mod folder;
pub mod judge;
mod steps;

use crate::lines::Recipe;
use crate::wait;
use anyhow::{Context as _, Result, bail};
use arrivals::Arrivals;
use folder::{Folder, Node};
use judge::Truth;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use steps::{LOGS, STEPS};

/// Steps of a history.
const STEPS_OF_ONE: std::ops::Range<usize> = 40..90;
/// Longest pause after a step, milliseconds: the pace of the load.
const PACE_MS: u64 = 40;
/// Longest wait for lines to arrive, whatever befalls the agent meanwhile.
const SHIPPED_MAX: Duration = Duration::from_secs(90);

/// One history.
#[derive(Debug)]
pub struct History {
    /// The name of its folder, with which its contents' names begin.
    pub name: String,
    /// What it was made of.
    pub seed: u64,
    rng: fastrand::Rng,
    folder: Folder,
    arrivals: Arc<Arrivals>,
    is_over: Arc<AtomicBool>,
    /// What the programs hold open, one a log.
    open: [Option<(File, Node)>; LOGS.len()],
    begun: Instant,
    told: Vec<String>,
    steps: Vec<String>,
}

impl History {
    /// Prepares the history of `seed` in `root`. It ends early when `is_over`. `begun`: its steps' times count from there.
    pub fn new(
        seed: u64,
        root: PathBuf,
        recipe: Recipe,
        arrivals: Arc<Arrivals>,
        is_over: Arc<AtomicBool>,
        begun: Instant,
    ) -> Result<Self> {
        let name = root.file_name().context("a folder of its own")?.to_string_lossy().into_owned();
        let folder = Folder::new(root, name.clone(), recipe)?;
        let (rng, open) = (fastrand::Rng::with_seed(seed), Default::default());
        Ok(Self { name, seed, rng, folder, arrivals, is_over, open, begun, told: Vec::new(), steps: Vec::new() })
    }

    /// Plays all steps. Errors: a file cannot be written, or lines did not arrive; the history says where it was.
    pub fn play(&mut self) -> Result<()> {
        let weights: u32 = STEPS.iter().map(|step| step.0).sum();
        for _ in 0..self.rng.usize(STEPS_OF_ONE) {
            let mut at = self.rng.u32(0..weights);
            let chosen = STEPS.iter().find(|step| {
                let is_it = at < step.0;
                at = at.saturating_sub(step.0);
                is_it
            });
            let Some((_, name, step)) = chosen else { continue };
            self.take(name, *step)?;
            std::thread::sleep(Duration::from_millis(self.rng.u64(0..PACE_MS))); // The pace of the load, not a wait.
        }
        self.take("finish the lines", Self::finish_lines)
    }

    /// After a restart: one more line to each log, so that it can be seen that the agent has come that far.
    pub fn last_words(&mut self) -> Result<()> {
        self.take("last words", |history| (0..LOGS.len()).try_for_each(|log| history.write_to(log, 1, None)))
    }

    fn finish_lines(&mut self) -> Result<()> {
        (0..LOGS.len())
            .filter(|log| self.open[*log].is_some())
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|log| self.write_to(log, 0, None))
    }

    fn take(&mut self, name: &str, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let at = self.begun.elapsed().as_millis();
        let outcome = step(self);
        let told = std::mem::take(&mut self.told).join("; ");
        let waited = self.begun.elapsed().as_millis() - at;
        self.steps.push(format!("{:>8} ms {:+6} {name}: {told}", at, waited));
        outcome.with_context(|| format!("{}, {name}", self.name))
    }

    /// Waits until what the file of that name holds has arrived.
    fn wait_shipped(&mut self, name: &str) -> Result<()> {
        let Some(node) = self.folder.node(name) else { return Ok(()) };
        let (content, lines) = self.folder.content(node);
        let has_all = || self.arrivals.count(content) >= lines || self.is_over.load(Ordering::Acquire);
        if wait::reached(SHIPPED_MAX, has_all) && !self.is_over.load(Ordering::Acquire) {
            return Ok(());
        }
        bail!("{name}: {} of {lines} lines of {content} have come", self.arrivals.count(content))
    }

    /// What must be in the topic.
    pub fn truth(&self) -> &Truth {
        &self.folder.truth
    }

    /// Owed lines that have not come.
    pub fn missing(&self) -> Vec<String> {
        let lines = self.folder.truth.iter().flat_map(|(file, content)| {
            let owed = (0..).zip(&content.lines).filter(|(_, line)| line.is_owed);
            owed.filter(|(seq, _)| !self.arrivals.has(file, *seq)).map(move |(seq, _)| format!("{file}#{seq}"))
        });
        lines.collect()
    }

    /// What it did, a line a step: when, how long the step took, what.
    pub fn steps(&self) -> &[String] {
        &self.steps
    }
}
