//! One life of an indexer: what `Consume` and the workers do, in one task.

use super::node::{Node, NodeWire};
use super::world::World;
use crate::batch::{Batch, Filling};
use crate::breaker::Breaker;
use crate::bulk::{Cluster, Host};
use crate::config::{BatchConfig, Compression, Decode, DocumentId};
use crate::deliver::{self, Delivery, Waits};
use crate::metrics::Metrics;
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

/// Reads `world` from where it is committed until all of it is. Given up: what a crash leaves.
pub(super) async fn live(world: &mut World, node: &Arc<Node>, random: &mut Rng) -> Metrics {
    let metrics = Metrics::new(&Registry::default());
    let batches_max = random.usize(1..4);
    let delivery = Arc::new(delivery(world, node, batches_max, random, &metrics));
    let (batches, batches_rx) = mpsc::channel(1);
    let delivering = Aborting(tokio::spawn(deliver::run(delivery, batches_max, batches_rx)));
    let (acks_tx, mut acks) = crate::acks();
    let mut partitions = Partitions::new(acks_tx, metrics.clone());
    let mut next: Vec<usize> = Vec::new();
    for (number, records) in world.partitions.iter().enumerate() {
        partitions.assign(TOPIC, number as i32);
        next.push(records.partition_point(|record| record.offset < world.committed[number]));
    }
    let plan = crate::process::tests::plan(Decode::Json, DocumentId::Event, &metrics);
    let mut worker = worker(&plan, random);
    let budget = Budget::new(random.usize(20_000..1_000_000));
    while !world.is_done() {
        assert!(!delivering.0.is_finished(), "deliveries ended");
        while let Ok(entry) = acks.try_recv() {
            partitions.note(entry);
        }
        assert!(partitions.rewinds().is_empty(), "nothing is given back in a life without an end");
        let places = partitions.to_commit();
        for (_, partition, offset) in &places {
            world.commit(*partition, *offset);
        }
        partitions.committed(&places);
        poll(world, &mut next, &mut partitions, random);
        let mut parcels = Vec::new();
        partitions.hand_on(|bytes| budget.try_take(bytes), || true, |parcel| parcels.push(Arc::new(parcel)));
        for parcel in parcels {
            for record in 0..parcel.records.len() as u32 {
                let full = worker.record(&parcel, record, None, 0, service::clock::monotonic());
                hand_on(full, &batches).await;
            }
        }
        if random.u8(0..4) == 0 {
            hand_on(worker.filling.take(), &batches).await; // Of age.
        }
        tokio::time::sleep(Duration::from_millis(random.u64(1..50))).await;
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
            };
            partitions.take(TOPIC, number as i32, incoming);
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
        cluster: Arc::new(Cluster::of(hosts, Compression::None, metrics.clone())),
        pace: Pace::new(1, batches_max, metrics),
        ceiling: Mutex::default(),
        dead_letters: world.dead_letters(random.fork()),
        breaker: Some(Mutex::new(Breaker::default())),
        named: true,
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
