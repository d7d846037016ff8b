//! Documents of an agent in the same process → the index, without Kafka: `tailrace standalone`.
//!
//! ```text
//! agent ─► direct ─► process [decode, pipeline, index_name → batch] ─► deliver [bulk, settle] ─► Elasticsearch
//!   ▲                                                                    │  └─► dead letters
//!   └───────────────── acks ─► ledger ─► checkpoint ◄────────────────────┘
//! ```
//!
//! The files are the buffer: while the node is away the batches wait here, the agent's byte budget is used up, and it reads no further.

use crate::config::{DeadLetterTo, IndexerConfig};
use crate::consume::Lane;
use crate::deliver::{self, Delivery};
use crate::metrics::Metrics;
use crate::output::Output;
use crate::pace::Pace;
use crate::parcel::{Gathered, Parcel, Taken};
use crate::process::Plans;
use crate::reload::{Reloaded, Reloader};
use crate::{Shell, bulk, config};
use anyhow::Context as _;
use event::Ack;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// Partition of all records: there is none.
const PARTITION: i32 = 0;

/// Records of one source, in its order, with one debt.
#[derive(Debug)]
pub struct Documents {
    /// What names the source: dead letters have it in place of a topic.
    pub place: Arc<str>,
    /// One JSON object a record, as an agent would produce it.
    pub payloads: Vec<u8>,
    /// Where each record stands in `payloads`.
    pub spans: Vec<Range<u32>>,
    /// Where each record stands in the source.
    pub offsets: Vec<u64>,
    /// Settled when all are safe.
    pub ack: Ack,
}

/// Checks the configuration of an indexer that reads no Kafka: what [`IndexerConfig`] has, but for that.
///
/// Errors: what cannot be without Kafka, and what to write instead.
pub fn check(config: &IndexerConfig) -> anyhow::Result<()> {
    let search = config.elasticsearch.as_ref().context("elasticsearch: where to?")?;
    anyhow::ensure!(
        search.document_id != config::DocumentId::Record,
        "elasticsearch.document_id: record names documents by topic, partition and offset, and there is no topic: use event"
    );
    if let Some(topic) = config.pipelines.routes.iter().find_map(|route| route.topic.as_ref()) {
        anyhow::bail!(
            "pipelines.routes: there is no topic `{topic}`, or any: use `if`, `pipeline` of the input, or pipelines.default"
        );
    }
    anyhow::ensure!(config.topics.is_empty(), "topics: there are none here: use `encoding` of the input");
    if let DeadLetterTo::Topic(_) = config.dead_letter.to {
        anyhow::bail!("dead_letter.topic: there is no Kafka here: use dead_letter.file or dead_letter.index");
    }
    config.parts().map_err(anyhow::Error::msg)?;
    search.check().map_err(anyhow::Error::msg)?;
    let metrics = Metrics::new(&service::metrics::Registry::default());
    crate::plan(config, &metrics)?;
    bulk::Cluster::new(search, metrics)?;
    Ok(())
}

/// An indexer of an agent in the same process, whose pipelines are compiled.
pub struct Direct {
    config: IndexerConfig,
    shell: Shell,
    metrics: Metrics,
    plans: Arc<Plans>,
}

impl Direct {
    /// Compiles the pipelines of `config`.
    ///
    /// Errors: as [`check`].
    pub fn new(config: IndexerConfig, shell: Shell) -> anyhow::Result<Self> {
        check(&config)?;
        let metrics = Metrics::new(&shell.registry);
        let plans = Arc::new(Plans::new(crate::plan(&config, &metrics)?));
        Ok(Self { config, shell, metrics, plans })
    }

    /// What puts other pipelines in the place of these while it runs.
    pub fn reloader(&self) -> Reloader {
        let reloaded = Reloaded::new(&self.config, self.plans.clone(), self.metrics.clone());
        Reloader::new(vec![reloaded], self.shell.health.clone())
    }

    /// Runs until `input` closes and all of it, as `documents` reads it, is delivered, or `drain_timeout` after it was told to stop. What was not settled then is
    /// given back. Returns whether all was delivered.
    ///
    /// Errors: the search node is of an unknown kind; the file of dead letters cannot be written.
    pub async fn run<T: Send + 'static>(
        self,
        input: mpsc::Receiver<T>,
        documents: fn(T) -> Documents,
    ) -> anyhow::Result<bool> {
        let Self { config, shell, metrics, plans } = self;
        let pace = config.search().concurrency;
        let named = config.search().document_id != config::DocumentId::None;
        let cluster = Arc::new(bulk::Cluster::new(config.search(), metrics.clone())?);
        let delivery = Arc::new(Delivery {
            output: Output::Search { cluster, named },
            dead_letters: crate::dead_letters(&config, &metrics)?,
            later: None,
            progress: deliver::Progress::default(),
            wall_ms: service::clock::wall_ms,
            pace: Pace::new(pace.min, pace.max, &metrics),
            ceiling: Mutex::default(),
            breaker: config.dead_letter.breaker.then(Mutex::default),
            metrics: metrics.clone(),
            health: shell.health.clone(),
            waits: deliver::Waits::default(),
        });
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let (batches, batches_rx) = mpsc::channel(1);
        let (lanes, mut threads) = crate::start_workers(workers, &plans, &config, &batches);
        drop(batches);
        let deal = std::thread::Builder::new()
            .name("direct".to_owned())
            .spawn(move || deal(input, documents, &lanes, &metrics));
        threads.push(deal.context("starting the direct thread")?);
        let mut delivering = tokio::spawn(deliver::run(delivery, pace.max, batches_rx));
        let is_late = async {
            shell.stop.stopped().await;
            tokio::time::sleep(config.drain_timeout).await;
        };
        let delivered = tokio::select! {
            ended = &mut delivering => ended.context("delivering batches")?.map(|()| true),
            () = is_late => {
                delivering.abort(); // Its batches are given up, and read again.
                Ok(false)
            }
        };
        tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await?;
        delivered
    }
}

/// Deals documents to the workers until `input` closes: those of a file go to the same one, so that their order stays.
fn deal<T>(mut input: mpsc::Receiver<T>, documents: fn(T) -> Documents, lanes: &[Lane], metrics: &Metrics) {
    while let Some(arrived) = input.blocking_recv() {
        let documents = documents(arrived);
        let mut hasher = DefaultHasher::new();
        documents.place.hash(&mut hasher);
        let lane = &lanes[(hasher.finish() % lanes.len() as u64) as usize];
        let Some(parcel) = parcel(documents, metrics) else { continue };
        lane.waiting.fetch_add(1, Ordering::AcqRel);
        if lane.sender.send(parcel).is_err() {
            return; // The worker has ended: the process is stopping, and what is here is read again.
        }
    }
}

/// The same debt for the same records; `None` if there are none, and then it is settled.
fn parcel(documents: Documents, metrics: &Metrics) -> Option<Parcel> {
    let Documents { place, payloads, spans, offsets, ack } = documents;
    if spans.is_empty() {
        ack.settle();
        return None;
    }
    let taken = |(span, offset): (Range<u32>, u64)| Taken {
        value: Some(span),
        key: None,
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
        timestamp_ms: None, // The same at each reading: it is part of what names a dead letter.
        sent: None,
        put_off: None,
    };
    let records = spans.into_iter().zip(offsets).map(taken).collect();
    let gathered = Gathered { buffer: payloads, records, origins: Vec::new() };
    Some(Parcel::new(place, PARTITION, gathered, ack, metrics.clone(), None))
}
