//! Diverted groups → the topics that take them: each its own client, so that one that is away holds up nothing else.

use crate::config::ShipperConfig;
use crate::metrics::ShipperMetrics;
use crate::produce::{self, Drained};
use event::{Budget, Group, Route};
use service::health::Health;
use service::stop::Stop;
use std::collections::BTreeMap;
use tokio::sync::mpsc::{self, Sender};

/// Groups between here and a client. Far more than its budget lets through, so that there is always room for one that has paid.
const GROUPS_CAPACITY: usize = 4_096;
/// What a record costs beside its bytes until it is acknowledged: its envelope and the client's bookkeeping.
const RECORD_OVERHEAD_BYTES: usize = 600;

/// The topics that take what is diverted; a client is started when the first group comes for it.
#[derive(Debug)]
pub(crate) struct Overflows {
    config: ShipperConfig,
    metrics: ShipperMetrics,
    health: Health,
    stop: Stop,
    topics: BTreeMap<String, Sender<Group>>,
    threads: Vec<std::thread::JoinHandle<Drained>>,
}

impl Overflows {
    pub(crate) fn new(config: ShipperConfig, metrics: ShipperMetrics, health: Health, stop: Stop) -> Self {
        Self { config, metrics, health: health.of_part("overflow"), stop, topics: BTreeMap::new(), threads: Vec::new() }
    }

    /// Sends `group` to `topic`, never waiting. False if it was given back: too much is in flight there.
    pub(crate) fn send(&mut self, topic: &str, budget: Option<Budget>, group: Group) -> bool {
        let Some(budget) = budget else { return false }; // The plan is gone: what is read again is judged by the others.
        let cost = group.buffer.len() + group.records.len() * RECORD_OVERHEAD_BYTES;
        let Some(permit) = budget.try_take(cost.max(budget.total() / GROUPS_CAPACITY)) else { return false };
        let groups = match self.groups(topic) {
            Ok(groups) => groups,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(topic, error, "nothing can be diverted; it waits in the files");
                self.health.set("overflow", Some(error));
                return false;
            }
        };
        let ack = group.ack.by(Route::Overflow).holding(permit);
        groups.try_send(Group { ack, ..group }).is_ok()
    }

    fn groups(&mut self, topic: &str) -> anyhow::Result<&Sender<Group>> {
        if !self.topics.contains_key(topic) {
            let groups = self.start(topic)?;
            self.topics.insert(topic.to_owned(), groups);
        }
        Ok(self.topics.get(topic).expect("it was just put there"))
    }

    fn start(&mut self, topic: &str) -> anyhow::Result<Sender<Group>> {
        let mut config = self.config.clone();
        topic.clone_into(&mut config.kafka.topic);
        let groups_in_flight = self.metrics.overflow_groups_in_flight.with_label_values(&[topic]);
        let metrics = ShipperMetrics { groups_in_flight, ..self.metrics.clone() };
        let (groups, input) = mpsc::channel(GROUPS_CAPACITY);
        let (health, stop) = (self.health.clone(), self.stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stage = move || runtime.block_on(produce::run(config, input, metrics, health, stop));
        self.threads.push(std::thread::Builder::new().name("overflow".into()).spawn(stage)?);
        tracing::info!(topic, "what rate plans divert goes there");
        Ok(groups)
    }

    /// No more groups come: lets the clients end.
    pub(crate) fn close(&mut self) {
        self.topics.clear();
    }

    /// Waits for what the clients have in flight.
    pub(crate) fn join(mut self) -> Drained {
        self.close();
        let mut drained = Drained::All;
        for thread in self.threads {
            // Wrong code must stop.
            if thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) == Drained::Some {
                drained = Drained::Some;
            }
        }
        drained
    }
}
