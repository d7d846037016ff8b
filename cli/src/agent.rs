//! `tailrace agent`: files and other inputs → Kafka, until it is told to stop or its standard input has ended.

use crate::check::Unusable;
use agent::{AgentConfig, AgentMetrics, Board, Ended, InputConfig};
use anyhow::Context as _;
use serde::Deserialize;
use service::health::Health;
use service::http::Pages;
use service::load::ByteSize;
use service::logs::LogConfig;
use service::metrics::Registry;
use service::stop::Stop;
use shipper::{Drained, KafkaConfig, ShipperConfig, ShipperMetrics};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Exit code when time ran out before everything in flight was acknowledged. It is read again after the next start, if it can be.
const UNFINISHED: u8 = 3;

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

    /// Everything compiled; `path` is where the file was read. Errors: what it asks for cannot be done, as [`Unusable`].
    pub(crate) fn compile(&self, path: &Path) -> anyhow::Result<(AgentConfig, ShipperConfig)> {
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
        let memory = usize::try_from(self.memory.0)?;
        let (state_dir, drain_timeout) = (self.state_dir.clone(), self.drain_timeout);
        Ok((AgentConfig { name, state_dir, memory, inputs, drain_timeout }, shipper))
    }
}

/// `/files?path=/var/log/a.log`: the followed files, or that one, as JSON.
fn files_page(board: Board) -> impl Fn(&str) -> String + Send + Sync + 'static {
    move |query| {
        let path = query.strip_prefix("path=").map(PathBuf::from);
        serde_json::to_string(&board.files(path.as_deref())).expect("files are texts and numbers")
    }
}

/// `/inputs`: the inputs that are no files, as JSON.
fn inputs_page(board: Board) -> impl Fn(&str) -> String + Send + Sync + 'static {
    move |_| serde_json::to_string(&board.inputs()).expect("inputs are texts and numbers")
}

fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host name; set name")?;
    Ok(name.trim().to_owned())
}

/// Runs the daemon. Exit codes: 0 drained, 3 not drained in time; an error otherwise.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let file: AgentFile = service::load::read_config(&options.config)?;
    let (agent_config, shipper_config) = file.compile(&options.config)?;
    service::logs::init(&file.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("io").enable_all().build()?;
    let _inside = runtime.enter();
    let (registry, health, stop) = (Registry::default(), Health::new(), Stop::on_signals());
    let board = Board::default();
    let pages = Pages::default().with("/files", files_page(board.clone())).with("/inputs", inputs_page(board.clone()));
    service::http::serve(&file.metrics.listen, registry.clone(), health.clone(), pages, stop.clone())?;
    tracing::info!(version = crate::version(), name = agent_config.name, "agent starts");

    let (metrics, agent_metrics) = (ShipperMetrics::new(&registry), AgentMetrics::new(&registry));
    let (output, shipper) = shipper::start(shipper_config, metrics, health.clone(), stop.clone())?;
    let agent = agent::start(agent_config, output, agent_metrics.clone(), board, health.clone(), stop.clone())?;
    let (path, dir) = (options.config.clone(), file.inputs_dir.clone());
    crate::reload::watch(path, dir, agent.reloader(), agent_metrics, health.clone(), stop.clone())?;
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
    let is_drained = shipper.join() == Drained::All;
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
