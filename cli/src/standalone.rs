//! `tailrace standalone`: files and other inputs → pipelines → Elasticsearch or OpenSearch in one process, without Kafka.
//!
//! Agent and indexer are joined by a bounded channel. The files are the buffer, and their checkpoints move when the search node has
//! answered for the documents.

use crate::agent::{self, AgentFile, Compiled, MetricsConfig, Shown};
use crate::check::Unusable;
use crate::indexer::HasPipelines;
use ::agent::{AgentMetrics, Board, Ended, InputConfig};
use anyhow::Context as _;
use indexer::config::{DeadLetterConfig, DeadLetterTo, ElasticsearchConfig, KafkaConfig, PipelinesConfig};
use indexer::direct::{self, Direct};
use indexer::{IndexerConfig, Shell};
use serde::Deserialize;
use service::health::Health;
use service::load::ByteSize;
use service::logs::LogConfig;
use service::metrics::Registry;
use service::stop::Stop;
use shipper::limit::Excess;
use shipper::{Limits, PlanConfig, ShipperMetrics};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Exit code when time ran out before everything in flight was in the index. It is read again after the next start, if it can be.
const UNFINISHED: u8 = 3;
/// Threads for bulk requests and the metrics endpoint; reading and parsing have threads of their own.
const IO_THREADS: usize = 2;
/// The part of `memory` for lines as they were read: as events and in bulk bodies they take more.
const LINES_PART: u64 = 4;
/// Least `memory`.
const MEMORY_MIN: u64 = 16 << 20;
/// Stands where a configuration must name a broker; nobody connects to it.
const NO_BROKER: &str = "no-kafka:9092";
/// Name of the file of dead letters in `state_dir`, if no other place is given.
const LETTERS: &str = "dead-letters.ndjson";

/// Follows log files and other inputs, runs pipelines, writes to Elasticsearch or OpenSearch; no Kafka.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration file (see deploy/standalone.example.yaml).
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// The whole of `standalone.yaml`: keys of `agent.yaml` and of `indexer.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StandaloneFile {
    /// `host.name` and agent id, stable over restarts. Default: the machine's host name.
    #[serde(default)]
    name: Option<String>,
    /// Folder of the checkpoint. Default `/var/lib/tailrace`.
    #[serde(default = "agent::state_dir")]
    state_dir: PathBuf,
    /// Bytes between file and the search node's answer. Default 128 MiB.
    #[serde(default = "memory")]
    memory: ByteSize,
    /// What to follow.
    #[serde(default)]
    inputs: Vec<InputConfig>,
    /// Folder of more inputs. Default: none.
    #[serde(default)]
    inputs_dir: Option<PathBuf>,
    /// Rate plans: `wait` or `drop`. Default: none.
    #[serde(default)]
    limits: Vec<PlanConfig>,
    /// Which pipelines there are and which runs on what asks for none.
    #[serde(default)]
    pipelines: PipelinesConfig,
    /// Where documents go. Required.
    elasticsearch: ElasticsearchConfig,
    /// Where events go that can never be indexed.
    #[serde(default)]
    dead_letter: LettersConfig,
    /// The endpoint for metrics and health.
    #[serde(default)]
    metrics: MetricsConfig,
    /// Format and level of the program's own log.
    #[serde(default)]
    log: LogConfig,
    /// Longest wait for what is in flight when the program is told to stop. Default `10s`.
    #[serde(default = "agent::drain_timeout", with = "service::load::duration")]
    drain_timeout: Duration,
}

/// YAML: `dead_letter`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LettersConfig {
    /// A file of JSON lines. Default: `dead-letters.ndjson` in the state folder.
    file: Option<PathBuf>,
    /// Instead of it an index of the same cluster.
    index: Option<String>,
    /// There is none: refused with a reason.
    topic: Option<String>,
    /// Stop with an alarm when more than half of three batches fail for good. Default `true`.
    breaker: bool,
}

impl Default for LettersConfig {
    fn default() -> Self {
        Self { file: None, index: None, topic: None, breaker: true }
    }
}

fn memory() -> ByteSize {
    ByteSize(128 << 20)
}

impl StandaloneFile {
    /// What of it an agent has. It ships to no Kafka, whatever its `kafka` says.
    pub(crate) fn agent(&self) -> AgentFile {
        let kafka = format!("{{brokers: ['{NO_BROKER}']}}");
        AgentFile {
            name: self.name.clone(),
            state_dir: self.state_dir.clone(),
            memory: ByteSize(self.memory.0 / LINES_PART),
            inputs: self.inputs.clone(),
            inputs_dir: self.inputs_dir.clone(),
            kafka: Some(service::load::parse_config(Path::new("kafka"), &kafka).expect("a constant that is valid")),
            outputs: Vec::new(),
            limits: self.limits.clone(),
            metrics: self.metrics.clone(),
            log: self.log.clone(),
            drain_timeout: self.drain_timeout,
        }
    }

    /// What of it an indexer has. It reads no Kafka, whatever its `kafka` says.
    fn indexer(&self) -> Result<IndexerConfig, String> {
        let LettersConfig { file, index, topic, breaker } = &self.dead_letter;
        let to = match (file, index, topic) {
            (_, _, Some(topic)) => {
                return Err(format!(
                    "dead_letter.topic: there is no Kafka here to take `{topic}`: use dead_letter.file or dead_letter.index"
                ));
            }
            (Some(_), Some(_), None) => return Err("dead_letter takes one of index and file".to_owned()),
            (None, Some(index), None) => DeadLetterTo::index(index)?,
            (Some(file), None, None) => DeadLetterTo::File(file.clone()),
            (None, None, None) => DeadLetterTo::File(self.state_dir.join(LETTERS)),
        };
        let kafka = format!("{{brokers: ['{NO_BROKER}'], topics: [none]}}");
        let kafka: KafkaConfig =
            service::load::parse_config(Path::new("kafka"), &kafka).expect("a constant that is valid");
        Ok(IndexerConfig {
            memory: self.memory,
            pipelines: self.pipelines.clone(),
            elasticsearch: Some(self.elasticsearch.clone()),
            dead_letter: DeadLetterConfig { to, breaker: *breaker },
            drain_timeout: self.drain_timeout,
            ..IndexerConfig::of(kafka)
        })
    }

    /// Everything compiled; `path` is where the file was read. Errors: what it asks for cannot be done, as [`Unusable`].
    pub(crate) fn compile(&self, path: &Path) -> anyhow::Result<(Compiled, IndexerConfig)> {
        let unusable = |what: String| Unusable::error(&format!("{}: {what}", path.display()));
        for plan in &self.limits {
            if let Excess::Divert(topic) = &plan.excess {
                let (name, at) = (&plan.name.value, &plan.name.referenced);
                let (line, column, path) = (at.line(), at.column(), path.display());
                return Err(Unusable::error(&format!(
                    "{path}:{line}:{column}: limit {name:?}: excess.divert: there is no Kafka here to take `{topic}`: use wait or drop"
                )));
            }
        }
        if self.memory.0 < MEMORY_MIN {
            return Err(unusable(format!("memory is {} bytes: it must be at least 16MiB", self.memory.0)));
        }
        let indexer = self.indexer().map_err(unusable)?;
        direct::check(&indexer).map_err(|error| unusable(format!("{error:#}")))?;
        let compiled = self.agent().compile(path)?.pop().expect("there is one output");
        Ok((compiled, indexer))
    }
}

/// What the one half hands over, as the other takes it.
fn taken(documents: shipper::Documents) -> direct::Documents {
    let shipper::Documents { place, payloads, spans, offsets, ack } = documents;
    direct::Documents { place, payloads, spans, offsets, ack }
}

impl HasPipelines for StandaloneFile {
    fn pipelines(self) -> PipelinesConfig {
        self.pipelines
    }
}

/// Runs the daemon. Exit codes: 0 drained, 3 not drained in time; an error otherwise.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    crate::ffi::keep_freed_memory();
    let file: StandaloneFile = service::load::read_config(&options.config)?;
    let (Compiled { output, agent: config, plans, .. }, indexer) = file.compile(&options.config)?;
    service::logs::init(&file.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build()
        .context("starting threads")?;
    let _inside = runtime.enter();
    let (registry, health, stop) = (Registry::default(), Health::new(), Stop::on_signals());
    let (shipped, read, board) = (ShipperMetrics::new(&registry), AgentMetrics::new(&registry), Board::default());
    let limits = Limits::new(plans, 0, shipped.clone());
    let shell = Shell { registry: registry.clone(), health: health.clone(), stop: stop.clone() };
    // The state folder is made and locked before the file of dead letters in it.
    let (intake, documents) = shipper::documents(&config.name, limits.clone(), shipped)?;
    let shown = Shown::new(output, &config, board.clone(), limits.clone());
    let name = config.name.clone();
    let agent = ::agent::start(config, intake, None, read.clone(), board, health.clone(), stop.clone())?;
    let indexing = Direct::new(indexer, shell)?;
    let pages = agent::pages(vec![shown]);
    service::http::serve(&file.metrics.listen, registry, health.clone(), pages, stop.clone())?;
    tracing::info!(version = crate::version(), name, "standalone starts: agent and indexer, without Kafka");

    let kafka = file.agent().kafka.expect("it is set above");
    let reloaded = crate::reload::Reloaded {
        output: crate::outputs::MAIN.to_owned(),
        kafka,
        inputs: agent.reloader(),
        limits,
        metrics: read,
    };
    crate::reload::watch(
        options.config.clone(),
        file.inputs_dir.clone(),
        vec![reloaded],
        health.clone(),
        stop.clone(),
    )?;
    crate::indexer::reload_on_hangup::<StandaloneFile>(options.config.clone(), indexing.reloader(), stop)?;
    health.ready(true);
    let delivering = runtime.spawn(indexing.run(documents, taken));
    // It ends when everything it read is delivered or given back, so it is waited for first.
    let left = agent.join();
    let delivered = runtime.block_on(delivering).context("delivering documents")??;
    health.ready(false);
    Ok(match delivered && left.ended == Ended::Delivered {
        true => {
            tracing::info!("drained");
            ExitCode::SUCCESS
        }
        false => {
            tracing::error!("not drained in time; what can be read again is, after the next start");
            ExitCode::from(UNFINISHED)
        }
    })
}
