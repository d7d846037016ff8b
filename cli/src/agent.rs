//! `tailrace agent`: files and other inputs → Kafka, until it is told to stop or its standard input has ended.

use crate::check::Unusable;
use crate::inputs::Configured;
use crate::outputs::{MAIN, Output, OutputConfig, inputs_of, outputs};
use crate::reload::Reloaded;
use crate::standalone::StandaloneFile;
use agent::{Agent, AgentConfig, AgentMetrics, Board, Ended, InputConfig};
use anyhow::Context as _;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use service::health::Health;
use service::http::Pages;
use service::load::ByteSize;
use service::logs::LogConfig;
use service::metrics::Registry;
use service::stop::Stop;
use shipper::{Drained, KafkaConfig, Limits, Plan, PlanConfig, Shipper, ShipperConfig, ShipperMetrics};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Exit code when time ran out before everything in flight was acknowledged. It is read again after the next start, if it can be.
const UNFINISHED: u8 = 3;

/// What may be in flight to one topic that takes what a rate plan diverts is this part of `memory`: the rest is for the others.
const OVERFLOW_PART: usize = 4;

/// Follows log files and other inputs and produces their lines to Kafka.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration file (see deploy/agent.example.yaml).
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// The whole of `agent.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentFile {
    /// `host.name` and agent id, stable over restarts. Default: the machine's host name.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Folder of the checkpoint; one agent each. Default `/var/lib/tailrace`.
    #[serde(default = "state_dir")]
    pub(crate) state_dir: PathBuf,
    /// Bytes in flight between file and acknowledgement, shared by the outputs. Default 64 MiB.
    #[serde(default = "memory")]
    pub(crate) memory: ByteSize,
    /// What to follow.
    #[serde(default)]
    pub(crate) inputs: Vec<InputConfig>,
    /// Folder of more inputs, each file (`*.yaml`) a list of them; watched while the agent runs. Default: none.
    #[serde(default)]
    pub(crate) inputs_dir: Option<PathBuf>,
    /// Where to. Required without `outputs`; this output's id is `kafka`.
    #[serde(default)]
    pub(crate) kafka: Option<KafkaConfig>,
    /// More clusters, each with an agent and a checkpoint of its own. Default: none.
    #[serde(default)]
    pub(crate) outputs: Vec<OutputConfig>,
    /// Rate plans. Default: none.
    #[serde(default)]
    pub(crate) limits: Vec<PlanConfig>,
    /// The endpoint for metrics and health.
    #[serde(default)]
    pub(crate) metrics: MetricsConfig,
    /// Format and level of the program's own log.
    #[serde(default)]
    pub(crate) log: LogConfig,
    /// Longest wait for acknowledgements when the program is told to stop. Default `10s`.
    #[serde(default = "drain_timeout", with = "service::load::duration")]
    pub(crate) drain_timeout: Duration,
}

/// YAML: `metrics`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsConfig {
    /// A loopback address; port 0: any free one, told in the log. Default `127.0.0.1:9601`.
    #[serde(default = "listen")]
    pub(crate) listen: String,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: listen() }
    }
}

pub(crate) fn state_dir() -> PathBuf {
    "/var/lib/tailrace".into()
}

fn memory() -> ByteSize {
    ByteSize(64 * 1024 * 1024)
}

fn listen() -> String {
    "127.0.0.1:9601".into()
}

pub(crate) fn drain_timeout() -> Duration {
    Duration::from_secs(10)
}

impl AgentFile {
    /// Reads the file at `path`: an agent's, or what an agent has of a `standalone` one.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Sketch {
            elasticsearch: Option<IgnoredAny>,
        }
        let sketch: Sketch = service::load::read_config(path)?;
        match sketch.elasticsearch {
            Some(_) => Ok(service::load::read_config::<StandaloneFile>(path)?.agent()),
            None => Ok(service::load::read_config(path)?),
        }
    }

    /// Folder of the checkpoint of the output under `kafka`; those of the others are below it.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Where a running agent answers.
    pub(crate) fn listen(&self) -> &str {
        &self.metrics.listen
    }

    /// The rate plans of an output; `path` is where the file was read, `inputs` all that it follows. Errors: as [`Unusable`], with
    /// file:line:column.
    pub(crate) fn plans(&self, path: &Path, kafka: &KafkaConfig, inputs: &[Configured]) -> anyhow::Result<Vec<Plan>> {
        let ids: Vec<_> = inputs.iter().map(|input| input.config.id.as_str()).collect();
        // A folder of inputs may bring others while the agent runs.
        let known = self.inputs_dir.is_none().then_some(ids.as_slice());
        let compiled = shipper::limit::compile(&self.limits, kafka, known);
        compiled.map_err(|error| Unusable::error(&format!("{}{error}", path.display())))
    }

    /// Everything compiled, for each output; `path` is where the file was read. Errors: what it asks for cannot be done, as
    /// [`Unusable`].
    pub(crate) fn compile(&self, path: &Path) -> anyhow::Result<Vec<Compiled>> {
        let name = match &self.name {
            Some(name) if name.is_empty() => {
                return Err(Unusable::error(&format!("{}: name: it is empty", path.display())));
            }
            Some(name) => name.clone(),
            None => host_name()?,
        };
        let unusable = |error: anyhow::Error| Unusable::error(&format!("{}: {error:#}", path.display()));
        let (inputs, outputs) = (crate::inputs::configured(path, self)?, outputs(path, self)?);
        let (agents, drain_timeout) = (outputs.len(), self.drain_timeout);
        let memory = usize::try_from(self.memory.0)? / agents;
        let of_output = |output: Output| {
            let of = |error: anyhow::Error| unusable(error.context(format!("output {:?}", output.id)));
            let shipper = ShipperConfig::new(&name, output.kafka.clone(), drain_timeout);
            let shipper = match output.id == MAIN {
                true => shipper.map_err(unusable)?,
                false => shipper.map_err(of)?.of_output(&output.id),
            };
            let plans = self.plans(path, &output.kafka, &inputs)?;
            let inputs = inputs_of(&inputs, &output).into_iter().map(|configured| configured.input).collect();
            let name = name.clone();
            let agent = AgentConfig { name, state_dir: output.state_dir, memory, inputs, drain_timeout, agents };
            Ok(Compiled { output: output.id, agent, shipper, plans })
        };
        outputs.into_iter().map(of_output).collect()
    }
}

/// What ships to one output.
pub(crate) struct Compiled {
    /// Its id.
    pub(crate) output: String,
    pub(crate) agent: AgentConfig,
    pub(crate) shipper: ShipperConfig,
    pub(crate) plans: Vec<Plan>,
}

/// What a running agent says of itself. Page: `/agent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) process: u32,
    pub(crate) state_dir: PathBuf,
    /// Milliseconds since 1970.
    pub(crate) started_ms: i64,
}

impl About {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let (name, state_dir) = (config.name.clone(), config.state_dir.clone());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { name, version, process: std::process::id(), state_dir, started_ms: service::clock::wall_ms() }
    }
}

/// What a running output shows of itself.
pub(crate) struct Shown {
    pub(crate) output: String,
    pub(crate) about: About,
    pub(crate) board: Board,
    pub(crate) limits: Limits,
}

impl Shown {
    pub(crate) fn new(output: String, config: &AgentConfig, board: Board, limits: Limits) -> Self {
        Self { output, about: About::new(config), board, limits }
    }
}

/// `/files`: the followed files as JSON; `?path=/var/log/a.log`: that one; `?inode=7`: those with this inode number.
/// `/inputs`: the inputs that are no files; `/limits`: the rate plans; `/agent`: the agent itself. Each is of one output: the first, or
/// that of `?output=ID`, which comes before the rest of the query.
pub(crate) fn pages(outputs: Vec<Shown>) -> Pages {
    let outputs = Arc::new(outputs);
    let page = |of: fn(&Shown, &str) -> String| {
        let outputs = outputs.clone();
        move |query: &str| {
            let named = query.strip_prefix("output=").map(|rest| rest.split_once('&').unwrap_or((rest, "")));
            let (id, rest) = named.map_or((None, query), |(id, rest)| (Some(id), rest));
            let chosen = outputs.iter().find(|shown| id.is_none_or(|id| shown.output == id));
            chosen.map_or_else(|| "null".to_owned(), |shown| of(shown, rest))
        }
    };
    let files = |shown: &Shown, query: &str| {
        let inode = query.strip_prefix("inode=").and_then(|number| number.parse().ok());
        let path = query.strip_prefix("path=").map(PathBuf::from);
        let board = &shown.board;
        let files = inode.map_or_else(|| board.files(path.as_deref()), |number| board.files_of_inode(number));
        serde_json::to_string(&files).expect("files are texts and numbers")
    };
    let inputs = |shown: &Shown, _: &str| serde_json::to_string(&shown.board.inputs()).expect("texts and numbers");
    let limits = |shown: &Shown, _: &str| serde_json::to_string(&shown.limits.shown()).expect("texts and numbers");
    let pages = Pages::default().with("/files", page(files)).with("/inputs", page(inputs));
    pages
        .with("/limits", page(limits))
        .with("/agent", page(|shown, _| serde_json::to_string(&shown.about).expect("texts and numbers")))
}

fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host name; set name")?;
    Ok(name.trim().to_owned())
}

/// Runs the daemon. Exit codes: 0 drained, 3 not drained in time; an error otherwise.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    crate::ffi::keep_freed_memory();
    let file: AgentFile = service::load::read_config(&options.config)?;
    let outputs = file.compile(&options.config)?;
    service::logs::init(&file.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("io").enable_all().build()?;
    let _inside = runtime.enter();
    let (registry, health, stop) = (Registry::default(), Health::new(), Stop::on_signals());
    let is_one_of_several = outputs.len() > 1;
    let parts: Vec<_> = outputs
        .into_iter()
        .map(|compiled| {
            let id = compiled.output.clone();
            let labelled = is_one_of_several.then(|| (registry.labelled("output", &id), health.of(&id)));
            let (registry, health) = labelled.unwrap_or_else(|| (registry.clone(), health.clone()));
            let (metrics, agent_metrics) = (ShipperMetrics::new(&registry), AgentMetrics::new(&registry));
            let limits = Limits::new(compiled.plans.clone(), compiled.agent.memory / OVERFLOW_PART, metrics.clone());
            Part { compiled, metrics, agent_metrics, limits, board: Board::default(), health }
        })
        .collect();
    let pages = pages(parts.iter().map(Part::shown).collect());
    service::http::serve(&file.metrics.listen, registry.clone(), health.clone(), pages, stop.clone())?;
    tracing::info!(version = crate::version(), name = parts[0].compiled.agent.name, "agent starts");

    let running = parts.into_iter().map(|part| part.start(&stop)).collect::<anyhow::Result<Vec<_>>>()?;
    let (path, dir) = (options.config.clone(), file.inputs_dir.clone());
    let reloaded = running.iter().map(Running::reloaded).collect();
    crate::reload::watch(path, dir, reloaded, health.clone(), stop.clone())?;
    health.ready(true);
    let waits = running.into_iter().map(|running| move || running.join()).collect();
    let ended: anyhow::Result<Vec<_>> = all_of(waits).into_iter().collect();
    ended.map(|undone| finish(undone.into_iter().flatten().next()))
}

/// Waits for all, side by side: one that ends early, and be it with an error, ends no other. A panic in one is a panic here, at once.
fn all_of<R: Send + 'static>(waits: Vec<impl FnOnce() -> R + Send + 'static>) -> Vec<R> {
    let (done, ended) = std::sync::mpsc::channel();
    for wait in waits {
        let done = done.clone();
        std::thread::spawn(move || done.send(std::panic::catch_unwind(AssertUnwindSafe(wait))));
    }
    drop(done);
    let unwound = |ended: std::thread::Result<R>| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    ended.into_iter().map(unwound).collect()
}

/// What ships to one output, before it runs.
struct Part {
    compiled: Compiled,
    metrics: ShipperMetrics,
    agent_metrics: AgentMetrics,
    limits: Limits,
    board: Board,
    health: Health,
}

impl Part {
    fn shown(&self) -> Shown {
        let Compiled { output, agent, .. } = &self.compiled;
        Shown::new(output.clone(), agent, self.board.clone(), self.limits.clone())
    }

    fn start(self, stop: &Stop) -> anyhow::Result<Running> {
        let Self { compiled, metrics, agent_metrics, limits, board, health } = self;
        let Compiled { output: id, agent, shipper, .. } = compiled;
        let kafka = shipper.kafka.clone();
        let (output, mut shipper) = shipper::start(shipper, limits.clone(), metrics, health.clone(), stop.clone())?;
        let keeper = shipper.keeper();
        let agent = agent::start(agent, output, keeper, agent_metrics.clone(), board, health.clone(), stop.clone())?;
        Ok(Running { id, kafka, agent, shipper, limits, metrics: agent_metrics, health })
    }
}

/// What ships to one output.
struct Running {
    id: String,
    kafka: KafkaConfig,
    agent: Agent,
    shipper: Shipper,
    limits: Limits,
    metrics: AgentMetrics,
    health: Health,
}

impl Running {
    fn reloaded(&self) -> Reloaded {
        let (output, kafka) = (self.id.clone(), self.kafka.clone());
        let (limits, metrics) = (self.limits.clone(), self.metrics.clone());
        Reloaded { output, kafka, inputs: self.agent.reloader(), limits, metrics }
    }

    /// Waits for its end; what was not done, if anything. An error is told at once: other outputs may go on for long.
    fn join(self) -> anyhow::Result<Option<&'static str>> {
        let (output, health) = (self.id.clone(), self.health.clone());
        self.end().inspect_err(|error| {
            tracing::error!(output, error = format!("{error:#}"), "this output has ended");
            health.set("kafka", Some(format!("it has ended: {error:#}")));
        })
    }

    fn end(self) -> anyhow::Result<Option<&'static str>> {
        // It ends when the shipper has taken or given back everything, so it is waited for first.
        let left = self.agent.join();
        if left.by_itself {
            // Nothing is left in flight, or it is too late for it: the shipper may wait for Kafka for ever.
            let lost = "standard input was not delivered in time; the rest is lost";
            return Ok((left.ended != Ended::Delivered).then_some(lost));
        }
        let drained = self.shipper.join();
        anyhow::ensure!(
            drained != Drained::Stopped,
            "this cluster never takes what {} asks for; see the log, and the configuration",
            self.id
        );
        anyhow::ensure!(drained != Drained::Replaced, "another agent with this name ships now: names must differ");
        if left.ended == Ended::Undelivered {
            return Ok(Some("not drained in time; what cannot be read again is lost"));
        }
        Ok((drained != Drained::All).then_some("not drained in time; the rest is read again after the next start"))
    }
}

fn finish(undone: Option<&'static str>) -> ExitCode {
    let Some(undone) = undone else {
        tracing::info!("drained");
        return ExitCode::SUCCESS;
    };
    tracing::error!("{undone}");
    ExitCode::from(UNFINISHED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_ends_with_an_error_ends_no_other() {
        let (stop, stopped) = std::sync::mpsc::channel();
        type Wait = Box<dyn FnOnce() -> Result<u8, &'static str> + Send>;
        let failing: Wait = Box::new(move || {
            stop.send(()).expect("the other one waits, though it comes later");
            Err("replaced")
        });
        let going_on: Wait = Box::new(move || stopped.recv().map(|()| 7).map_err(|_| "nobody stopped it"));
        let mut ended = all_of(vec![going_on, failing]);
        ended.sort();
        assert_eq!(ended, [Ok(7), Err("replaced")]);
    }

    #[test]
    #[should_panic(expected = "wrong code")]
    fn a_panic_is_not_waited_out() {
        let (_stop, stopped) = std::sync::mpsc::channel::<()>();
        let waiting: Box<dyn FnOnce() + Send> = Box::new(move || _ = stopped.recv());
        all_of(vec![waiting, Box::new(|| panic!("wrong code"))]);
    }
}
