//! Records from Kafka → documents in Elasticsearch or OpenSearch. Stages in reading order:
//!
//! ```text
//! consume ─► process [decode, pipeline, index_name → batch] ─► deliver [bulk, settle] ─► Elasticsearch
//!    ▲                                                            │  ├─► dead letters
//!    ├──────────── when their time has come ─ retry topics ◄──────│──┘
//!    └──────────────── acks ─► partitions [ledger] ─► commit ◄────┘
//! ```
//!
//! Each output (the search cluster, or copies to a topic, a file or standard output) has all of this for itself, with a group of its
//! own: one that is away holds up no other.
//!
//! An offset is committed only when every record before it is in the index, in the dead-letter topic, or dropped by a
//! pipeline. Documents are created by the record's own id, so what is read twice is stored once.

pub mod batch;
pub mod breaker;
pub mod bulk;
pub mod ceiling;
pub mod config;
pub mod consume;
pub mod dead_letter;
pub mod decode;
pub mod deliver;
pub mod direct;
pub mod dlq;
mod ffi;
pub mod forecast;
pub mod group;
pub mod headers;
pub mod index_name;
pub mod lag;
pub mod latency;
pub mod member;
pub mod metrics;
pub mod output;
pub mod pace;
pub mod parcel;
pub mod partitions;
pub mod pool;
pub mod process;
pub mod read_back;
pub mod reload;
pub mod retention;
pub mod retry;
mod routing;
pub mod settle;
pub mod topics;
pub mod valley;

#[cfg(test)]
mod sim;

pub use config::IndexerConfig;
pub use consume::Ended;
pub use reload::Reloader;

use anyhow::Context as _;
use batch::{Batch, Filling};
use config::{BatchConfig, DeadLetterTo, OutputTo, OverflowConfig, Part};
use consume::{Consume, Lane, Patience, Watch};
use dead_letter::{DeadLetterFile, DeadLetterIndex, DeadLetterTopic, DeadLetters};
use deliver::Delivery;
use event::Budget;
use lag::Lag;
use metrics::Metrics;
use output::{CopyFile, CopyTopic, Output, Stdout};
use pace::Pace;
use parcel::Parcel;
use partitions::Partitions;
use pool::Pool;
use process::{Plan, Plans};
use reload::Reloaded;
use retry::{Later, RetryTopics};
use service::health::Health;
use service::load::ByteSize;
use service::metrics::Registry;
use service::stop::{Stop, Trigger};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use topics::{Subscription, Topics, Wanted};
use valley::Valley;

/// Longest wait for in-flight records of revoked partitions.
const REVOKE_WAIT_MAX: Duration = Duration::from_secs(5);

/// So many bulk bodies would fill the memory; about a third of them are there at once, the rest is for records.
const BODY_SHARE: u64 = 16;
/// Bodies of so many requests under way are kept for their next use.
const KEPT_WITH_NODE: usize = 2;
/// Smallest limit that follows from the memory.
const BODY_BYTES_MIN: u64 = 256 << 10;

/// What the process around the indexer gives it.
#[derive(Debug, Clone)]
pub struct Shell {
    /// Takes the metrics.
    pub registry: Registry,
    /// Is told how the brokers and the search node are.
    pub health: Health,
    /// Tells when to stop.
    pub stop: Stop,
}

/// Checks `config` as far as that goes without a broker or a search node: keys, pipelines, templates.
pub fn check(config: &IndexerConfig) -> anyhow::Result<()> {
    config.check().map_err(anyhow::Error::msg)?;
    let metrics = Metrics::new(&Registry::default());
    for Part { id, config, to } in config.parts().map_err(anyhow::Error::msg)? {
        let of = || format!("output {id:?}");
        plan(&config, &metrics)?;
        match &to {
            OutputTo::Search => drop(bulk::Cluster::new(config.search(), metrics.clone()).with_context(of)?),
            OutputTo::Topic(topic) => drop(group::of_copies(&config, topic).with_context(of)?),
            OutputTo::File(_) | OutputTo::Stdout => {}
        }
        group::base(&config)?;
    }
    Ok(())
}

/// An indexer whose pipelines are compiled; nothing runs yet, and it takes part in no group.
pub struct Indexer {
    shell: Shell,
    parts: Vec<Serving>,
}

/// What serves one output.
struct Serving {
    part: Part,
    shell: Shell,
    metrics: Metrics,
    plans: Arc<Plans>,
}

impl Indexer {
    /// Compiles the pipelines of `config`.
    ///
    /// Errors: the configuration is wrong, as far as that can be seen without a broker or a search node.
    pub fn new(config: &IndexerConfig, shell: Shell) -> anyhow::Result<Self> {
        config.check().map_err(anyhow::Error::msg)?;
        let parts = config.parts().map_err(anyhow::Error::msg)?;
        let is_one_of_several = parts.len() > 1;
        let serving = |part: Part| {
            let mut shell = shell.clone();
            if is_one_of_several {
                shell.registry = shell.registry.labelled("output", &part.id);
                shell.health = shell.health.of(&part.id);
            }
            let metrics = Metrics::new(&shell.registry);
            let plans = Arc::new(Plans::new(plan(&part.config, &metrics)?));
            anyhow::Ok(Serving { part, shell, metrics, plans })
        };
        let parts = parts.into_iter().map(serving).collect::<anyhow::Result<_>>()?;
        Ok(Self { shell, parts })
    }

    /// What puts other pipelines in the place of these while it runs.
    pub fn reloader(&self) -> Reloader {
        let reloaded =
            |serving: &Serving| Reloaded::new(&serving.part.config, serving.plans.clone(), serving.metrics.clone());
        Reloader::new(self.parts.iter().map(reloaded).collect(), self.shell.health.clone())
    }

    /// Runs until it is told to stop and all outputs have drained. An output that ends with an error ends no other.
    ///
    /// Errors: a topic does not exist, the search node is of an unknown kind, or the group put this member out. What was not
    /// settled is read again after the next start.
    pub async fn run(self) -> anyhow::Result<Ended> {
        let (shell, mut running) = (self.shell, JoinSet::new());
        for serving in self.parts {
            running.spawn(serving.run());
        }
        let (mut unfinished, mut failed) = (0, None);
        while let Some(ended) = running.join_next().await {
            match ended.context("an output")? {
                Ok(Ended::Clean) => {}
                Ok(Ended::Unfinished(records)) => unfinished += records,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        shell.health.ready(false);
        match (failed, unfinished) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(Ended::Clean),
            (None, records) => Ok(Ended::Unfinished(records)),
        }
    }
}

impl Serving {
    async fn run(self) -> anyhow::Result<Ended> {
        let Self { part, shell, metrics, plans } = self;
        let (id, health) = (part.id.clone(), shell.health.clone());
        let ended = run(&part, shell, metrics, &plans).await;
        ended.inspect_err(|error| {
            tracing::error!(output = id, error = format!("{error:#}"), "this output has ended");
            health.set("output", Some(format!("it has ended: {error:#}")));
        })
    }
}

async fn run(part: &Part, shell: Shell, metrics: Metrics, plans: &Arc<Plans>) -> anyhow::Result<Ended> {
    let config = &part.config;
    let pace = config.search().concurrency;
    let delivery = Arc::new(Delivery {
        output: output(part, &metrics)?,
        dead_letters: dead_letters(config, &metrics)?,
        later: later(config)?,
        progress: deliver::Progress::default(),
        wall_ms: service::clock::wall_ms,
        pace: Pace::new(pace.min, pace.max, &metrics),
        ceiling: Mutex::default(),
        breaker: config.dead_letter.breaker.then(Mutex::default),
        metrics: metrics.clone(),
        health: shell.health.clone(),
        waits: deliver::Waits::default(),
    });
    let (acks_tx, acks) = acks();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    // One batch may wait per delivery: more would only be memory.
    let (batches, batches_rx) = mpsc::channel(1);
    let (lanes, threads) = start_workers(workers, plans, config, &batches);
    drop(batches);

    let (trigger, stop) = Stop::new();
    let consume = start_consumer(config, &shell, stop, Partitions::new(acks_tx, metrics.clone()), acks, lanes, metrics);
    let mut delivering = tokio::spawn(deliver::run(delivery, pace.max, batches_rx));
    let ended = supervise(&shell, trigger, consume, &mut delivering).await;
    delivering.abort(); // After a clean end it has ended; else its batches are given up, and read again.
    tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await?;
    ended
}

/// What takes the documents of `part`.
fn output(part: &Part, metrics: &Metrics) -> anyhow::Result<Output> {
    let config = &part.config;
    Ok(match &part.to {
        OutputTo::Search => {
            let named = config.search().document_id != config::DocumentId::None;
            Output::Search { cluster: Arc::new(bulk::Cluster::new(config.search(), metrics.clone())?), named }
        }
        OutputTo::Topic(topic) => Output::Copies(Box::new(CopyTopic::new(group::of_copies(config, topic)?, topic)?)),
        OutputTo::File(file) => Output::Copies(Box::new(CopyFile::new(file)?)),
        OutputTo::Stdout => Output::Copies(Box::new(Stdout)),
    })
}

/// Waits for the end of the consumer, and stops it when asked to or when deliveries end before it.
async fn supervise(
    shell: &Shell,
    trigger: Trigger,
    mut consume: oneshot::Receiver<anyhow::Result<Ended>>,
    delivering: &mut tokio::task::JoinHandle<anyhow::Result<()>>,
) -> anyhow::Result<Ended> {
    let gone = "the consumer thread ended without a result";
    tokio::select! {
        ended = &mut consume => ended.context(gone)?,
        delivered = &mut *delivering => {
            trigger.stop();
            let ended = consume.await.context(gone)?;
            delivered.context("delivering batches")??;
            ended
        }
        () = shell.stop.stopped() => {
            trigger.stop();
            consume.await.context(gone)?
        }
    }
}

/// The place of dead letters that the configuration names.
fn dead_letters(config: &IndexerConfig, metrics: &Metrics) -> anyhow::Result<Box<dyn DeadLetters>> {
    let cluster = || anyhow::Ok(Arc::new(bulk::Cluster::new(config.search(), metrics.clone())?));
    Ok(match &config.dead_letter.to {
        DeadLetterTo::Topic(topic) => Box::new(DeadLetterTopic::new(&group::base(config)?, topic)?),
        DeadLetterTo::Index(index) => Box::new(DeadLetterIndex::new(cluster()?, index)),
        DeadLetterTo::File(path) => Box::new(DeadLetterFile::new(path)?),
    })
}

/// The topics in which records wait, if there are any.
fn later(config: &IndexerConfig) -> anyhow::Result<Option<Box<dyn Later>>> {
    if config.retry.delays.0.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(RetryTopics::new(&group::base(config)?, &config.retry)?)))
}

fn plan(config: &IndexerConfig, metrics: &Metrics) -> anyhow::Result<Plan> {
    let output = config.search();
    let mut plan = Plan::new(&config.pipelines, config.decode, &output.index, output.document_id, metrics.clone())?;
    plan.read(config.charset, &config.topics, &config.pipelines)?;
    plan.delays = !config.retry.delays.0.is_empty();
    Ok(plan)
}

/// Settlements on their way to the ledger. Unbounded, yet never more than the byte budget lets be in flight.
#[expect(clippy::disallowed_methods, reason = "settlements are bounded by the byte budget")]
fn acks() -> (mpsc::UnboundedSender<event::Entry>, mpsc::UnboundedReceiver<event::Entry>) {
    mpsc::unbounded_channel()
}

/// What decides how fast overflow topics are read, if there are any.
fn overflow(config: &IndexerConfig, main: &Topics, stop: &Stop) -> anyhow::Result<Option<(Valley, Lag)>> {
    let OverflowConfig { topics, max_lag, min_share } = &config.overflow;
    if topics.is_empty() {
        return Ok(None);
    }
    let lag = lag::watch(group::observer(config)?, main.clone(), stop.clone())?;
    Ok(Some((Valley::new(*max_lag, *min_share, service::clock::monotonic()), lag)))
}

/// The configured limits of a batch, but no body larger than a small share of the memory: else the budget would be used up
/// before a batch is full, and every batch would wait for its age.
fn batch_limits(config: &IndexerConfig) -> BatchConfig {
    let share = (group::budget_bytes(config) / BODY_SHARE).max(BODY_BYTES_MIN);
    let batch = config.search().batch;
    BatchConfig { bytes_max: ByteSize(batch.bytes_max.0.min(share)), ..batch }
}

fn start_workers(
    count: usize,
    plans: &Arc<Plans>,
    config: &IndexerConfig,
    batches: &mpsc::Sender<Batch>,
) -> (Vec<Lane>, Vec<JoinHandle<()>>) {
    let limits = batch_limits(config);
    // Each worker fills one, or waits with one; one waits between; the others are with the search node. What is there beyond
    // that, while many requests are under way, is bounded by the budget, and freed when it comes back.
    let with_node = config.search().concurrency.max.min(KEPT_WITH_NODE);
    let bodies = Pool::new((count + 1 + with_node) * batch::body_capacity(&limits));
    let start = |number: usize| {
        let (sender, input) = std::sync::mpsc::sync_channel::<Parcel>(consume::LANE_PARCELS_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let (plans, batches, taken) = (plans.clone(), batches.clone(), waiting.clone());
        let filling = Filling::new(limits, bodies.clone());
        let work = move || {
            process::run(&plans, filling, &input, &batches, || {
                taken.fetch_sub(1, Ordering::AcqRel);
            });
        };
        let thread = std::thread::Builder::new().name(format!("process-{number}")).spawn(work);
        (Lane { sender, waiting }, thread.expect("the system can start a thread"))
    };
    (0..count).map(start).unzip()
}

/// Starts the consumer's thread. What it returns comes through the channel.
fn start_consumer(
    config: &IndexerConfig,
    shell: &Shell,
    stop: Stop,
    partitions: Partitions,
    acks: mpsc::UnboundedReceiver<event::Entry>,
    lanes: Vec<Lane>,
    metrics: Metrics,
) -> oneshot::Receiver<anyhow::Result<Ended>> {
    let (result, receiver) = oneshot::channel();
    let (config, health, runtime) = (config.clone(), shell.health.clone(), tokio::runtime::Handle::current());
    let work = move || -> anyhow::Result<Ended> {
        let consumer = group::consumer(&config, member::Member::new(metrics.clone(), health.clone()))?;
        let wanted = Wanted::new(&config).map_err(anyhow::Error::msg)?;
        let topics = topics::watch(group::observer(&config)?, wanted, stop.clone())?;
        let mut subscription = Subscription::new(topics.clone(), &config);
        group::join(&consumer, &config, &mut subscription, &health, &stop)?;
        health.ready(true);
        let budget = Budget::new(usize::try_from(group::budget_bytes(&config))?);
        let revoke = REVOKE_WAIT_MAX.min(config.kafka.session_timeout / 2);
        let patience = Patience { revoke, drain: config.drain_timeout };
        let retry_topics = config.retry.topics().into_iter().collect();
        let partitions = partitions.with_overflow(&config.overflow.topics);
        let overflow = overflow(&config, &topics, &stop)?;
        let always = config.overflow.topics.clone();
        let retention = retention::watch(group::base(&config)?, topics, always, runtime, stop.clone())?;
        let watch = Watch::new(retention, config.kafka.retention_warning, health);
        let config::KafkaConfig { strict, commit, .. } = config.kafka;
        let consume = Consume {
            consumer,
            partitions,
            acks,
            lanes,
            budget,
            patience,
            retry_topics,
            subscription,
            strict,
            commit,
            overflow,
            watch,
            metrics,
        };
        consume.run(&stop)
    };
    let thread = std::thread::Builder::new().name("consume".to_owned()).spawn(move || {
        result.send(work()).ok(); // Nobody waits any more: the process is ending.
    });
    drop(thread.expect("the system can start a thread"));
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(memory: &str, budget: u64, body: u64) {
        let text = format!(
            "kafka: {{brokers: [x], topics: [t]}}\nelasticsearch: {{hosts: [x], batch: {{bytes_max: 4MiB}}}}\nmemory: {memory}"
        );
        let config: IndexerConfig =
            service::load::parse_config(std::path::Path::new("indexer.yaml"), &text).expect("a valid configuration");
        assert_eq!((group::budget_bytes(&config), batch_limits(&config).bytes_max.0), (budget, body), "{memory}");
    }

    #[test]
    fn the_memory_covers_what_is_fetched_ahead_and_many_bodies() {
        check("128MiB", 104 << 20, 4 << 20);
        check("32MiB", 26 << 20, (26 << 20) / 16);
        check("8MiB", 5 << 20, (5 << 20) / 16);
        check("1GiB", 1000 << 20, 4 << 20);
    }
}
