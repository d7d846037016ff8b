//! Configuration and cluster → what an agent would find there, without sending anything. For `tailrace check`.

use crate::config::ShipperConfig;
use crate::guarantee::{guarantee, weaknesses};
use crate::topic::{self, Found, Use};
use anyhow::bail;

/// What an agent would find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The topic that was looked at: with a template the fallback topic.
    pub topic: String,
    /// `max.message.bytes`: a line that is longer with all that goes beside it is cut, or becomes a dead letter.
    pub message_bytes_max: usize,
    /// The promise that would hold.
    pub guarantee: &'static str,
    /// Why it is weaker than asked.
    pub weaknesses: Vec<String>,
}

/// Asks the cluster about the topic. It makes no topic.
///
/// Errors: no broker answers within seconds, or the topic cannot be used: why, and what to do.
pub fn look(config: &ShipperConfig) -> anyhow::Result<Seen> {
    let mut config = config.clone();
    config.kafka.create_topic = None;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(topic::inspect(&config, &config.fixed_topic, Use::Records))? {
        Found::Unusable(reason) => bail!(reason),
        Found::Topic(facts) => Ok(Seen {
            topic: config.fixed_topic.clone(),
            message_bytes_max: facts.message_bytes_max,
            guarantee: guarantee(&config.kafka).name(),
            weaknesses: weaknesses(&config.kafka, &facts),
        }),
    }
}
