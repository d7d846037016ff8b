//! One life of an indexer: what `Consume` and the workers do, in one task.

use super::node::{Node, NodeWire};
use super::wall_ms;
use super::world::World;
use crate::batch::{Batch, Filling};
use crate::breaker::Breaker;
use crate::bulk::{Cluster, Host};
use crate::config::{BatchConfig, Compression, Decode, DocumentId};
use crate::deliver::{self, Delivery, Progress, Waits};
use crate::metrics::Metrics;
use crate::output::Output;
use crate::pace::Pace;
use crate::partitions::{Incoming, Partitions};
use crate::pool::Pool;
use crate::process::{Plan, Worker};
use event::Budget;
use fastrand::Rng;
use service::health::Health;
use service::load::ByteSize;
use service::metrics::Registry;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

const TOPIC: &str = "logs";
/// What the names of retry topics start with.
const RETRY: &str = "logs-retry.";

/// Reads `world` from where it is committed until all of it is. Given up: what a crash leaves.
pub(super) async fn live(world: &mut World, node: &Arc<Node>, random: &mut Rng) -> Metrics {
    let metrics = Metrics::new(&Registry::default());
    let batches_max = random.usize(1..4);
    let delivery = Arc::new(delivery(world, node, batches_max, random, &metrics));
    let (batches, batches_rx) = mpsc::channel(1);
    let delivering = Aborting(tokio::spawn(deliver::run(delivery.clone(), batches_max, batches_rx)));
    let (acks_tx, mut acks) = crate::acks();
    let mut partitions = Partitions::new(acks_tx, metrics.clone());
    let mut next: Vec<usize> = Vec::new();
    for (number, records) in world.partitions.iter().enumerate() {
        partitions.assign(TOPIC, number as i32);
        next.push(records.partition_point(|record| record.offset < world.committed[number]));
    }
    let mut next_retry: Vec<usize> = world.retry_committed.iter().map(|offset| *offset as usize).collect();
    for step in 0..next_retry.len() {
        partitions.assign(&retry_topic(step), 0);
    }
    let mut plan = crate::process::tests::plan(Decode::Json, DocumentId::Event, &metrics);
    plan.delays = true;
    let mut worker = worker(&plan, random);
    let budget = Budget::new(random.usize(20_000..1_000_000));
    while !world.is_done() {
        assert!(!delivering.0.is_finished(), "deliveries ended");
        while let Ok(entry) = acks.try_recv() {
            partitions.note(entry);
        }
        assert!(partitions.rewinds().is_empty(), "nothing is given back in a life without an end");
        let places = partitions.to_commit();
        for (topic, partition, offset) in &places {
            match topic.strip_prefix(RETRY) {
                None => world.commit(*partition, *offset),
                Some(step) => world.commit_retry(step.parse().expect("a number"), *offset),
            }
        }
        partitions.committed(&places);
        // Others are taken all the time.
        delivery.progress.taken(tokio::time::Instant::now(), Duration::MAX);
        poll(world, &mut next, &mut partitions, random);
        poll_retry(world, &mut next_retry, &mut partitions);
        let mut parcels = Vec::new();
        partitions.hand_on(|bytes| budget.try_take(bytes), || true, |parcel| parcels.push(Arc::new(parcel)));
        for parcel in parcels {
            for record in 0..parcel.records.len() as u32 {
                let full = worker.record(&parcel, record, &plan.route("logs"), wall_ms(), service::clock::monotonic());
                hand_on(full, &batches).await;
            }
        }
        if random.u8(0..4) == 0 {
            hand_on(worker.filling.take(), &batches).await; // Of age.
        }
        let is_idle = next.iter().zip(&world.partitions).all(|(next, records)| *next == records.len());
        tokio::time::sleep(Duration::from_millis(random.u64(1..if is_idle { 5_000 } else { 50 }))).await;
    }
    metrics
}

async fn hand_on(batch: Option<Batch>, batches: &mpsc::Sender<Batch>) {
    if let Some(batch) = batch {
        batches.send(batch).await.expect("deliveries go on");
    }
}

/// Some records of each partition come in.
fn poll(world: &World, next: &mut [usize], partitions: &mut Partitions, random: &mut Rng) {
    for (number, records) in world.partitions.iter().enumerate() {
        for _ in 0..random.usize(0..12) {
            let Some(record) = records.get(next[number]) else { break };
            next[number] += 1;
            let incoming = Incoming {
                key: None,
                value: record.value.as_deref(),
                offset: record.offset,
                timestamp_ms: Some(1_700_000_000_000),
                sent: None,
                put_off: None,
            };
            partitions.take(TOPIC, number as i32, incoming);
        }
    }
}

fn retry_topic(step: usize) -> String {
    format!("{RETRY}{step}")
}

/// What the consumer does with retry topics: a record that is not due holds its partition.
fn poll_retry(world: &World, next: &mut [usize], partitions: &mut Partitions) {
    for (topic, _, offset) in partitions.due(wall_ms()) {
        let step: usize = topic.strip_prefix(RETRY).and_then(|step| step.parse().ok()).expect("a retry topic");
        next[step] = offset as usize;
        partitions.awake(&topic, 0);
    }
    for (step, next) in next.iter_mut().enumerate() {
        for _ in 0..5 {
            let Some(record) = world.waiting(step, *next) else { break };
            let (topic, offset) = (retry_topic(step), *next as i64);
            *next += 1; // Fetched, whether it is taken or not.
            if record.put_off.not_before_ms > wall_ms() {
                partitions.wait(&topic, 0, offset, record.put_off.not_before_ms);
                continue;
            }
            let incoming = Incoming {
                key: None,
                value: record.value.as_deref(),
                offset,
                timestamp_ms: Some(wall_ms()),
                sent: None,
                put_off: Some(Box::new(record.put_off.clone())),
            };
            partitions.take(&topic, 0, incoming);
        }
    }
}

fn worker<'p>(plan: &'p Plan, random: &mut Rng) -> Worker<'p> {
    let limits = BatchConfig {
        bytes_max: ByteSize(random.u64(1_000..20_000)),
        events_max: random.usize(1..60), // Too few for the breaker: most of a batch may well be meant to fail.
        age_max: Duration::from_secs(1),
    };
    Worker::new(plan, Filling::new(limits, Pool::new(1 << 20)))
}

fn delivery(world: &World, node: &Arc<Node>, batches_max: usize, random: &mut Rng, metrics: &Metrics) -> Delivery {
    let host = |number| Host::new(&format!("http://node-{number}"), Box::new(NodeWire(node.clone())));
    let hosts = (0..random.usize(1..4)).map(host).collect();
    Delivery {
        output: Output::Search {
            cluster: Arc::new(Cluster::of(hosts, Compression::None, metrics.clone())),
            named: true,
        },
        pace: Pace::new(1, batches_max, metrics),
        ceiling: Mutex::default(),
        dead_letters: world.dead_letters(random.fork()),
        later: Some(world.later()),
        progress: Progress::default(),
        wall_ms,
        breaker: Some(Mutex::new(Breaker::default())),
        metrics: metrics.clone(),
        health: Health::new(),
        waits: Waits::default(),
    }
}

/// A task that ends with its owner.
struct Aborting(tokio::task::JoinHandle<anyhow::Result<()>>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
