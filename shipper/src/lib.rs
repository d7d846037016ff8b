//! Groups of records → Kafka.
//!
//! `produce [send [template, key, encode, lanes]] ─► Kafka`, and back: delivery reports settle groups. What cannot be delivered is given back, and
//! the agent reads it again from the file. With `delivery: at_most_once` `reserve` stands before it; with `exactly_once`
//! `transact` says where a transaction begins and ends.

mod reserve;

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
mod metrics;

pub use config::{Acks, Codec, Compression, CreateTopic, Delivery, KafkaConfig, Partitioner, ShipperConfig, TooLarge};
pub use console::{KeyFrom, Produced, produce_lines};
pub use look::{Seen, look};
pub use metrics::ShipperMetrics;
pub use produce::Drained;
pub use token::TokenSource;

use anyhow::Context as _;
use event::{Group, Keeper};
use service::health::Health;
use service::stop::Stop;
use tokio::sync::mpsc;

/// Groups between reading and producing. Few: the byte budget bounds what is in flight, this only hides hand-over.
const GROUPS_CAPACITY: usize = 8;

/// A running shipper.
#[derive(Debug)]
pub struct Shipper {
    thread: std::thread::JoinHandle<Drained>,
    keeper: Option<Keeper>,
}

/// Starts to produce what is sent into the returned channel.
///
/// It ends when the channel is closed and every delivery report has come, or `drain_timeout` after the close.
/// Errors: options that librdkafka refuses. A broker that is down or a topic that is missing is waited for.
pub fn start(
    config: ShipperConfig,
    metrics: ShipperMetrics,
    health: Health,
    stop: Stop,
) -> anyhow::Result<(mpsc::Sender<Group>, Shipper)> {
    let (output, input) = mpsc::channel(GROUPS_CAPACITY);
    let (keeper, end) = (config.kafka.delivery == Delivery::ExactlyOnce).then(transact::keeper).unzip();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let stage = move || {
        if config.kafka.delivery != Delivery::AtMostOnce {
            return runtime.block_on(produce::run(config, input, metrics, health, stop, end));
        }
        let (reserved, groups) = mpsc::channel(GROUPS_CAPACITY);
        let both = async {
            tokio::join!(reserve::run(input, reserved), produce::run(config, groups, metrics, health, stop, None)).1
        };
        runtime.block_on(both)
    };
    let thread =
        std::thread::Builder::new().name("produce".into()).spawn(stage).context("starting the produce thread")?;
    Ok((output, Shipper { thread, keeper }))
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
