//! Letters → documents, once the cause is mended: through the pipelines as they are now, by the same ids as before.

use super::grave::{Grave, Place};
use crate::batch::{Batch, Filling, Origin};
use crate::bulk::Cluster;
use crate::config::{BatchConfig, DocumentId, IndexerConfig};
use crate::dead_letter::{DeadLetters, Letter, Writing};
use crate::deliver::{Delivery, Progress, Waits};
use crate::headers;
use crate::metrics::Metrics;
use crate::output::Output;
use crate::pace::Pace;
use crate::parcel::{Gathered, Parcel};
use crate::partitions::Incoming;
use crate::pool::Pool;
use crate::process::{Plan, Worker};
use anyhow::Context as _;
use event::{Ack, Anchor, Debt, Permit, StreamId};
use serde_json::Value;
use service::clock::{monotonic, wall_ms};
use service::health::Health;
use service::metrics::Registry;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What became of one letter that was sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Where it stands.
    pub place: Place,
    /// Why it failed once more; none: its document is in the index now, or was before, or its pipeline drops it.
    pub cause: Option<String>,
}

/// What would become of one letter.
#[derive(Debug, Clone, PartialEq)]
pub enum Rehearsed {
    /// This action and document would be sent. The processor that failed on it, if one did.
    Document {
        /// `{"create": {"_index": …, "_id": …}}`.
        action: Value,
        /// The document.
        document: Value,
        /// As the letter's header has it.
        failed: Option<String>,
    },
    /// It still cannot become a document.
    Dead(String),
    /// Its pipeline drops it.
    Dropped,
}

/// The means of a replay.
pub struct Replay {
    plan: Plan,
    only: Option<String>,
    config: IndexerConfig,
    metrics: Metrics,
}

impl Replay {
    /// Loads the pipelines of `config`. `edited` stands in for the pipeline of its name, and then only letters of that
    /// pipeline are meant.
    ///
    /// Errors: a pipeline does not compile, with file, line and column.
    pub fn new(config: &IndexerConfig, edited: Option<&Path>) -> anyhow::Result<Self> {
        config.check().map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            config.elasticsearch.is_some(),
            "elasticsearch is not set: letters are replayed to a search cluster, from an indexer.yaml that has one"
        );
        let metrics = Metrics::new(&Registry::default());
        let mut plan = crate::plan(config, &metrics)?;
        plan.delays = false; // Whoever replays a letter wants it now.
        let dir = config.pipelines.dir.as_deref();
        let only = edited.map(|file| plan.replace(dir, file)).transpose()?;
        Ok(Self { plan, only, config: config.clone(), metrics })
    }

    /// True if `grave` is of the edited pipeline, or there is none.
    pub fn concerns(&self, grave: &Grave) -> bool {
        self.only.as_ref().is_none_or(|name| grave.header("pipeline") == name)
    }

    /// What would become of `grave`. Nothing is sent.
    pub fn rehearse(&self, grave: &Grave) -> Rehearsed {
        let Some(batch) = self.batches(std::slice::from_ref(grave)).0.pop() else { return Rehearsed::Dropped };
        if let Some((_, cause)) = batch.dead.first() {
            return Rehearsed::Dead(cause.reason.clone());
        }
        let bytes = batch.document(0);
        let mut lines =
            bytes.split(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap_or(Value::Null));
        let (action, document) = (lines.next().unwrap_or(Value::Null), lines.next().unwrap_or(Value::Null));
        let failed = Some(batch.processor(0)).filter(|name| !name.is_empty()).map(str::to_owned);
        Rehearsed::Document { action, document, failed }
    }

    /// A connection to the search cluster, for [`Replay::send`].
    ///
    /// Errors: a host is no URL; it is of a version that we do not speak; none answers.
    pub async fn connect(&self) -> anyhow::Result<Arc<Cluster>> {
        let cluster = Arc::new(Cluster::new(self.config.search(), self.metrics.clone())?);
        cluster.greet().await?.map_err(anyhow::Error::msg).context("elasticsearch.hosts")?;
        Ok(cluster)
    }

    /// Sends `graves` to `cluster` until each has its end.
    pub async fn send(&self, cluster: &Arc<Cluster>, graves: &[Grave]) -> Vec<Replayed> {
        let failed: Arc<Mutex<Vec<(Origin, String)>>> = Arc::default();
        let delivery = Delivery {
            output: Output::Search {
                cluster: cluster.clone(),
                named: self.config.search().document_id != DocumentId::None,
            },
            pace: Pace::new(1, 1, &self.metrics),
            ceiling: Mutex::default(),
            dead_letters: Box::new(Noted(failed.clone())),
            later: None,
            progress: Progress::default(),
            wall_ms,
            breaker: None,
            metrics: self.metrics.clone(),
            health: Health::new(),
            waits: Waits::default(),
        };
        let mut replayed: Vec<Replayed> =
            graves.iter().map(|grave| Replayed { place: grave.place, cause: None }).collect();
        let (batches, parcels) = self.batches(graves);
        for batch in batches {
            let of = |parcel: &Arc<Parcel>| parcels.iter().position(|known| Arc::ptr_eq(known, parcel));
            let numbers: Vec<Option<usize>> = batch.parcels.iter().map(of).collect();
            delivery.deliver(batch).await;
            for (origin, cause) in failed.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                let number = numbers[origin.parcel as usize].expect("a batch has only parcels that were made here");
                replayed[number].cause = Some(cause);
            }
        }
        replayed
    }

    /// The documents of `graves`, and the parcel of each: one letter in it.
    fn batches(&self, graves: &[Grave]) -> (Vec<Batch>, Vec<Arc<Parcel>>) {
        let parcels: Vec<Arc<Parcel>> = graves.iter().map(|grave| Arc::new(parcel(grave, &self.metrics))).collect();
        let mut worker = Worker::new(&self.plan, Filling::new(BatchConfig::default(), Pool::new(0)));
        let (now_ms, now) = (wall_ms(), monotonic());
        let mut batches: Vec<Batch> = parcels
            .iter()
            .filter_map(|parcel| worker.record(parcel, 0, &self.plan.route(&parcel.topic), now_ms, now))
            .collect();
        batches.extend(worker.filling.take());
        (batches, parcels)
    }
}

/// The record of `grave` as the consumer took it: its place and time name its document.
fn parcel(grave: &Grave, metrics: &Metrics) -> Parcel {
    let (key, value) = (grave.key.as_deref(), grave.value.as_deref());
    let offset = grave.number("offset").unwrap_or(grave.place.offset);
    let timestamp_ms = grave.number("timestamp").filter(|ms| *ms >= 0);
    let mut gathered = Gathered::default();
    let sent = headers::of_letter(&grave.headers);
    gathered.put(Incoming { key, value, offset, timestamp_ms, sent, put_off: None });
    let (acks, _) = crate::acks(); // Nobody commits anything: the group that read it has.
    let debt = Debt {
        stream: StreamId(0),
        epoch: 0,
        seq: 0,
        start: 0,
        end: 1,
        anchor: Anchor::default(),
        events: 1,
        bytes: 0,
        held: Permit::none(),
    };
    let partition = grave.number("partition").unwrap_or(grave.place.partition);
    Parcel::new(grave.header("topic").into(), partition, gathered, Ack::new(debt, acks), metrics.clone(), None)
}

/// Letters that fail once more: they stand in the topic already.
struct Noted(Arc<Mutex<Vec<(Origin, String)>>>);

impl DeadLetters for Noted {
    fn write<'l>(&'l self, letters: &'l [Letter<'l>]) -> Writing<'l> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extend(letters.iter().map(|letter| (letter.origin, letter.cause.reason.clone())));
        Box::pin(std::future::ready(Vec::new()))
    }
}
