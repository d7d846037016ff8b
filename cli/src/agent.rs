//! `tailrace agent`: files and other inputs → Kafka, until it is told to stop or its standard input has ended.

use crate::check::Unusable;
use agent::{AgentConfig, AgentMetrics, Board, Ended, InputConfig};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use service::health::Health;
use service::http::Pages;
use service::load::ByteSize;
use service::logs::LogConfig;
use service::metrics::Registry;
use service::stop::Stop;
use shipper::{Drained, KafkaConfig, Limits, Plan, PlanConfig, ShipperConfig, ShipperMetrics};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
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
    name: Option<String>,
    /// Folder of the checkpoint; one agent each. Default `/var/lib/tailrace`.
    #[serde(default = "state_dir")]
    state_dir: PathBuf,
    /// Bytes in flight between file and acknowledgement. Default 64 MiB.
    #[serde(default = "memory")]
    memory: ByteSize,
    /// What to follow.
    #[serde(default)]
    pub(crate) inputs: Vec<InputConfig>,
    /// Folder of more inputs, each file (`*.yaml`) a list of them; watched while the agent runs. Default: none.
    #[serde(default)]
    pub(crate) inputs_dir: Option<PathBuf>,
    /// Where to.
    kafka: KafkaConfig,
    /// Rate plans. Default: none.
    #[serde(default)]
    limits: Vec<PlanConfig>,
    /// The endpoint for metrics and health.
    #[serde(default)]
    metrics: MetricsConfig,
    /// Format and level of the program's own log.
    #[serde(default)]
    log: LogConfig,
    /// Longest wait for acknowledgements when the program is told to stop. Default `10s`.
    #[serde(default = "drain_timeout", with = "service::load::duration")]
    drain_timeout: Duration,
}

/// YAML: `metrics`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricsConfig {
    /// A loopback address; port 0: any free one, told in the log. Default `127.0.0.1:9601`.
    #[serde(default = "listen")]
    listen: String,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: listen() }
    }
}

fn state_dir() -> PathBuf {
    "/var/lib/tailrace".into()
}

fn memory() -> ByteSize {
    ByteSize(64 * 1024 * 1024)
}

fn listen() -> String {
    "127.0.0.1:9601".into()
}

fn drain_timeout() -> Duration {
    Duration::from_secs(10)
}

impl AgentFile {
    /// Folder of the checkpoint.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Where it ships to.
    pub(crate) fn kafka(&self) -> &KafkaConfig {
        &self.kafka
    }

    /// Where a running agent answers.
    pub(crate) fn listen(&self) -> &str {
        &self.metrics.listen
    }

    /// The rate plans; `path` is where the file was read, `inputs` what it follows, `kafka` what it ships with. Errors: as
    /// [`Unusable`], with file:line:column.
    pub(crate) fn plans(
        &self,
        path: &Path,
        inputs: &[agent::CheckedInput],
        kafka: &KafkaConfig,
    ) -> anyhow::Result<Vec<Plan>> {
        let ids: Vec<_> = inputs.iter().map(|input| input.shared().id.as_str()).collect();
        // A folder of inputs may bring others while the agent runs.
        let known = self.inputs_dir.is_none().then_some(ids.as_slice());
        let compiled = shipper::limit::compile(&self.limits, kafka, known);
        compiled.map_err(|error| Unusable::error(&format!("{}{error}", path.display())))
    }

    /// Everything compiled; `path` is where the file was read. Errors: what it asks for cannot be done, as [`Unusable`].
    pub(crate) fn compile(&self, path: &Path) -> anyhow::Result<(AgentConfig, ShipperConfig, Vec<Plan>)> {
        let name = match &self.name {
            Some(name) if name.is_empty() => {
                return Err(Unusable::error(&format!("{}: name: it is empty", path.display())));
            }
            Some(name) => name.clone(),
            None => host_name()?,
        };
        let unusable = |error: anyhow::Error| Unusable::error(&format!("{}: {error:#}", path.display()));
        let inputs = crate::inputs::load(path, self)?;
        let shipper = ShipperConfig::new(&name, self.kafka.clone(), self.drain_timeout).map_err(unusable)?;
        let plans = self.plans(path, &inputs, &self.kafka)?;
        let memory = usize::try_from(self.memory.0)?;
        let (state_dir, drain_timeout) = (self.state_dir.clone(), self.drain_timeout);
        Ok((AgentConfig { name, state_dir, memory, inputs, drain_timeout }, shipper, plans))
    }
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

/// `/files`: the followed files as JSON; `?path=/var/log/a.log`: that one; `?inode=7`: those with this inode number.
/// `/inputs`: the inputs that are no files; `/limits`: the rate plans; `/agent`: the agent itself.
pub(crate) fn pages(board: Board, limits: Limits, about: &About) -> Pages {
    let about = serde_json::to_string(about).expect("texts and numbers");
    let inputs = board.clone();
    let files = move |query: &str| {
        let inode = query.strip_prefix("inode=").and_then(|number| number.parse().ok());
        let path = query.strip_prefix("path=").map(PathBuf::from);
        let files = inode.map_or_else(|| board.files(path.as_deref()), |number| board.files_of_inode(number));
        serde_json::to_string(&files).expect("files are texts and numbers")
    };
    let inputs = move |_: &str| serde_json::to_string(&inputs.inputs()).expect("inputs are texts and numbers");
    let limits = move |_: &str| serde_json::to_string(&limits.shown()).expect("limits are texts and numbers");
    let pages = Pages::default().with("/files", files).with("/inputs", inputs).with("/limits", limits);
    pages.with("/agent", move |_| about.clone())
}

fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host name; set name")?;
    Ok(name.trim().to_owned())
}

/// Runs the daemon. Exit codes: 0 drained, 3 not drained in time; an error otherwise.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let file: AgentFile = service::load::read_config(&options.config)?;
    let (agent_config, shipper_config, plans) = file.compile(&options.config)?;
    service::logs::init(&file.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("io").enable_all().build()?;
    let _inside = runtime.enter();
    let (registry, health, stop) = (Registry::default(), Health::new(), Stop::on_signals());
    let board = Board::default();
    let (metrics, agent_metrics) = (ShipperMetrics::new(&registry), AgentMetrics::new(&registry));
    let limits = Limits::new(plans, agent_config.memory / OVERFLOW_PART, metrics.clone());
    let pages = pages(board.clone(), limits.clone(), &About::new(&agent_config));
    service::http::serve(&file.metrics.listen, registry.clone(), health.clone(), pages, stop.clone())?;
    tracing::info!(version = crate::version(), name = agent_config.name, "agent starts");

    let (output, mut shipper) = shipper::start(shipper_config, limits.clone(), metrics, health.clone(), stop.clone())?;
    let keeper = shipper.keeper();
    let agent = agent::start(agent_config, output, keeper, agent_metrics.clone(), board, health.clone(), stop.clone())?;
    let (path, to) = (options.config.clone(), (agent.reloader(), limits));
    crate::reload::watch(path, file, to, agent_metrics, health.clone(), stop.clone())?;
    health.ready(true);
    // It ends when the shipper has taken or given back everything, so it is waited for first.
    let left = agent.join();
    if left.by_itself {
        // Nothing is left in flight, or it is too late for it: the shipper may wait for Kafka for ever.
        return Ok(finish(
            left.ended == Ended::Delivered,
            "standard input was not delivered in time; the rest is lost",
        ));
    }
    let drained = shipper.join();
    anyhow::ensure!(
        drained != Drained::Stopped,
        "this cluster never takes what kafka asks for; see the log, and the configuration"
    );
    anyhow::ensure!(drained != Drained::Replaced, "another agent with this name ships now: names must differ");
    let is_drained = drained == Drained::All;
    if left.ended == Ended::Undelivered {
        return Ok(finish(false, "not drained in time; what cannot be read again is lost"));
    }
    Ok(finish(is_drained, "not drained in time; the rest is read again after the next start"))
}

fn finish(is_drained: bool, otherwise: &str) -> ExitCode {
    if is_drained {
        tracing::info!("drained");
        return ExitCode::SUCCESS;
    }
    tracing::error!("{otherwise}");
    ExitCode::from(UNFINISHED)
}
