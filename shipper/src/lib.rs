//! Groups of records → Kafka.
//!
//! `limit → divide → produce [send [template, key, encode, lanes]] ─► Kafka`, and back: delivery reports settle groups. What cannot
//! be delivered is given back, and the agent reads it again from the file. Beside it `divide → overflow [produce] ─► another topic`:
//! what a rate plan diverts. With `delivery: at_most_once` `reserve` stands between `limit` and `divide`: what waits is not yet
//! read, and a group that is divided was reserved as a whole. With `exactly_once` `transact` says where a transaction begins and
//! ends, and nothing is diverted: another client's records would not be in it.

pub mod limit;
mod reserve;

mod divide;
mod documents;
mod overflow;
mod produce;
mod producer;
mod send;
mod topic;
mod transact;

mod attempt;
mod encode;
mod guarantee;
mod key;
mod lanes;
mod offsets;
mod remedy;
mod share;
mod template;
mod token;

mod ffi;

mod console;
mod look;

mod client;
mod config;
mod judged;
mod metrics;
mod statistics;

pub use config::{Acks, Codec, Compression, CreateTopic, Delivery, KafkaConfig, Partitioner, ShipperConfig, TooLarge};
pub use console::{KeyFrom, Produced, produce_lines};
pub use documents::{Documents, documents};
pub use limit::{Limits, Plan, PlanConfig};
pub use look::{Seen, look};
pub use metrics::ShipperMetrics;
pub use produce::Drained;
pub use token::TokenSource;

use anyhow::Context as _;
use event::{Group, Intake, Keeper};
use overflow::Overflows;
use service::health::Health;
use service::stop::Stop;
use std::sync::Arc;
use tokio::sync::mpsc;
use transact::KeeperEnd;

/// Groups between reading and producing. Few: the byte budget bounds what is in flight, this only hides hand-over.
const GROUPS_CAPACITY: usize = 8;

/// A running shipper.
#[derive(Debug)]
pub struct Shipper {
    thread: std::thread::JoinHandle<Drained>,
    keeper: Option<Keeper>,
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
    let gate = Arc::new(limits.clone());
    let (keeper, end) = (config.kafka.delivery == Delivery::ExactlyOnce).then(transact::keeper).unzip();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let run = move || {
        let mut overflows = Overflows::new(config.clone(), metrics.clone(), health.clone(), stop.clone());
        let all = stages(config, limits, (input, end), &mut overflows, metrics, health, stop);
        let drained = runtime.block_on(all);
        drained.max(overflows.join())
    };
    let thread =
        std::thread::Builder::new().name("produce".into()).spawn(run).context("starting the produce thread")?;
    Ok((Intake { groups, gate }, Shipper { thread, keeper }))
}

/// All stages on one thread: only `produce` has something to do.
async fn stages(
    config: ShipperConfig,
    limits: Limits,
    (input, keeper): (mpsc::Receiver<Group>, Option<KeeperEnd>),
    overflows: &mut Overflows,
    metrics: ShipperMetrics,
    health: Health,
    stop: Stop,
) -> Drained {
    let (to_reserve, to_be_reserved) = mpsc::channel(GROUPS_CAPACITY);
    let (to_divide, judged) = mpsc::channel(GROUPS_CAPACITY);
    let (to_produce, groups) = mpsc::channel(GROUPS_CAPACITY);
    let output = match config.kafka.delivery {
        Delivery::AtMostOnce => to_reserve,
        Delivery::AtLeastOnce | Delivery::ExactlyOnce => {
            drop(to_reserve); // Nothing comes there.
            to_divide.clone()
        }
    };
    let (told, of_topics) = (metrics.clone(), config.clone());
    tokio::join!(
        limit::run(limits, input, output),
        reserve::run(to_be_reserved, to_divide, &told),
        divide::run(&of_topics, judged, to_produce, overflows, &told),
        produce::run(config, groups, metrics, health, stop, keeper),
    )
    .3
}

impl Shipper {
    /// What the input asks for offsets and tells of files that are forgotten. With `delivery: exactly_once` only, and once.
    pub fn keeper(&mut self) -> Option<Keeper> {
        self.keeper.take()
    }

    /// Waits until the shipper has ended.
    pub fn join(self) -> Drained {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) // Wrong code must stop.
    }
}
