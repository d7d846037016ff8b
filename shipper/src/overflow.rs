//! Diverted groups → the topics that take them: each its own client, so that one that is away holds up nothing else.

use crate::config::ShipperConfig;
use crate::metrics::ShipperMetrics;
use crate::produce::{self, Drained};
use event::{Budget, Group, Permit, Record};
use prometheus::IntGauge;
use service::health::Health;
use service::stop::Stop;
use std::collections::BTreeMap;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Sender};

/// Groups between here and a client. Far more than its budget lets through, so that there is always room for one that has paid.
const GROUPS_CAPACITY: usize = 4_096;
/// What a record costs beside its bytes until it is acknowledged: its envelope and the client's bookkeeping.
const RECORD_OVERHEAD_BYTES: usize = 600;

/// Room for `records` among what may be in flight to a topic. `None` if there is none.
pub(crate) fn room(budget: &Budget, records: &[Record]) -> Option<Permit> {
    let bytes: u64 = records.iter().map(|record| u64::from(record.bytes.end - record.bytes.start)).sum();
    let cost = usize::try_from(bytes).unwrap_or(usize::MAX) + records.len() * RECORD_OVERHEAD_BYTES;
    budget.try_take(cost.max(budget.total() / GROUPS_CAPACITY))
}

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

    /// Sends `group`, which holds its [`room`], to `topic`, never waiting. If its client has ended the group is given back, or is
    /// lost if it was reserved.
    pub(crate) fn send(&mut self, topic: &str, group: Group) {
        let unsent = match self.groups(topic) {
            Ok(groups) => groups.try_send(group).err().map(TrySendError::into_inner),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(topic, error, "nothing can be diverted; it waits in the files");
                self.health.set("overflow", Some(error));
                Some(group)
            }
        };
        if let Some(group) = unsent {
            self.metrics.count_lost(&group);
            group.source.break_off(group.epoch); // What follows must not overtake it.
        }
    }

    fn groups(&mut self, topic: &str) -> anyhow::Result<&Sender<Group>> {
        if !self.topics.contains_key(topic) {
            let groups = self.start(topic)?;
            self.topics.insert(topic.to_owned(), groups);
        }
        Ok(self.topics.get(topic).expect("it was just put there"))
    }

    fn start(&mut self, topic: &str) -> anyhow::Result<Sender<Group>> {
        let config = self.config.with_topic(topic)?;
        let groups_in_flight = self.metrics.overflow_groups_in_flight.with_label_values(&[topic]);
        let weaknesses = IntGauge::new("weaknesses", "Not exported: those of the main topic are.")?;
        let metrics = ShipperMetrics {
            groups_in_flight,
            weaknesses,
            statistics: self.metrics.statistics.of_client(topic),
            ..self.metrics.clone()
        };
        let (groups, input) = mpsc::channel(GROUPS_CAPACITY);
        let (health, stop) = (self.health.clone(), self.stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stage = move || runtime.block_on(produce::run(config, input, metrics, health, stop, None));
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
            drained = drained.max(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        drained
    }
}
