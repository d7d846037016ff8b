//! Groups of records → Kafka.
//!
//! `limit → produce [encode, key, lanes] ─► Kafka`, and back: delivery reports settle groups. What cannot be delivered is given
//! back, and the agent reads it again from the file. Beside it `limit → overflow [produce] ─► another topic`: what a plan diverts.

pub mod limit;
mod overflow;
mod produce;
mod topic;

mod encode;
mod key;
mod lanes;

mod ffi;

mod config;
mod metrics;

pub use config::{Acks, Codec, Compression, CreateTopic, Delivery, KafkaConfig, Partitioner, ShipperConfig};
pub use limit::{Limits, Plan, PlanConfig};
pub use metrics::ShipperMetrics;
pub use produce::Drained;

use anyhow::Context as _;
use event::Intake;
use overflow::Overflows;
use service::health::Health;
use service::stop::Stop;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Groups between reading and producing. Few: the byte budget bounds what is in flight, this only hides hand-over.
const GROUPS_CAPACITY: usize = 8;

/// A running shipper.
#[derive(Debug)]
pub struct Shipper {
    thread: std::thread::JoinHandle<Drained>,
}

/// Starts to produce what is sent into the returned intake, whose gate holds what a rate plan makes wait.
///
/// It ends when the intake is dropped and every delivery report has come, or `drain_timeout` after that.
/// Errors: options that librdkafka refuses. A broker that is down or a topic that is missing is waited for.
pub fn start(
    config: ShipperConfig,
    limits: Limits,
    metrics: ShipperMetrics,
    health: Health,
    stop: Stop,
) -> anyhow::Result<(Intake, Shipper)> {
    let (groups, input) = mpsc::channel(GROUPS_CAPACITY);
    let (output, judged) = mpsc::channel(GROUPS_CAPACITY);
    let gate = Arc::new(limits.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let mut overflows = Overflows::new(config.clone(), metrics.clone(), health.clone(), stop.clone());
    let stages = move || {
        let topic = config.kafka.topic.clone();
        // One thread for both: judging a group costs next to nothing.
        let drained = runtime.block_on(async {
            let limit = limit::run(limits, topic, input, output, &mut overflows);
            tokio::join!(limit, produce::run(config, judged, metrics, health, stop)).1
        });
        match overflows.join() {
            Drained::All => drained,
            Drained::Some => Drained::Some,
        }
    };
    let thread =
        std::thread::Builder::new().name("produce".into()).spawn(stages).context("starting the produce thread")?;
    Ok((Intake { groups, gate }, Shipper { thread }))
}

impl Shipper {
    /// Waits until the shipper has ended.
    pub fn join(self) -> Drained {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) // Wrong code must stop.
    }
}
