//! How far behind the group is in time, and whether retention will take what it has not read: looked at once a second.

use super::Consume;
use crate::forecast::{Bulk, Left, Sizes, left};
use crate::metrics::Metrics;
use crate::partitions::{Behind, Standing};
use crate::retention::Retention;
use rdkafka::consumer::Consumer as _;
use service::clock::{monotonic, wall_ms};
use service::health::Health;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Name of this in the health report.
const PART: &str = "retention";

/// What is known for the forecast.
#[derive(Debug)]
pub struct Watch {
    retention: Retention,
    /// Less than this is warned of; `None`: never.
    warning: Option<Duration>,
    health: Health,
    sizes: Sizes,
    due: Instant,
    /// Topics that were warned of, and still are to be.
    warned: BTreeSet<Arc<str>>,
}

/// A partition of which records will be lost.
#[derive(Debug)]
struct Short {
    topic: Arc<str>,
    partition: i32,
    left: Left,
}

impl Watch {
    /// Warns, by `health` and in the log, of less than `warning`; of zero: never.
    pub fn new(retention: Retention, warning: Duration, health: Health) -> Self {
        let warning = (!warning.is_zero()).then_some(warning);
        let (sizes, warned) = (Sizes::default(), BTreeSet::new());
        Self { retention, warning, health, sizes, due: monotonic(), warned }
    }

    /// Sets both gauges of a partition; returns how much time is left for what is not safe, if that is known.
    fn tell(&self, standing: &Standing, now_ms: i64, metrics: &Metrics) -> Option<Left> {
        let Standing { topic, partition, behind } = standing;
        let labels = [&**topic, &partition.to_string()];
        let age_ms = match behind {
            Behind::Nothing => Some(0),
            Behind::Since(ms, _) => Some(u64::try_from(now_ms.saturating_sub(*ms)).unwrap_or(0)),
            Behind::Unknown => None,
        };
        match age_ms {
            Some(age_ms) => metrics.lag_seconds.with_label_values(&labels).set((age_ms / 1_000) as i64),
            None => drop(metrics.lag_seconds.remove_label_values(&labels)), // There may be none.
        }
        let left = age_ms.zip(self.retention.of(topic, *partition)).and_then(|(age_ms, (keeps, growth))| {
            let bulk = growth.zip(self.sizes.record_bytes(topic, *partition)).map(|((end, per_s), record_bytes)| {
                let first = if let Behind::Since(_, offset) = behind { *offset } else { u64::MAX };
                let records = u64::try_from(end).unwrap_or(0).saturating_sub(first);
                Bulk { records, record_bytes, per_s }
            });
            left(keeps, age_ms, bulk)
        });
        match left {
            Some(left) => metrics.retention_left.with_label_values(&labels).set(left.s as i64),
            None => drop(metrics.retention_left.remove_label_values(&labels)),
        }
        left.filter(|_| *behind != Behind::Nothing)
    }

    /// Warns of each topic once, until none of its partitions is short of time any more.
    fn warn(&mut self, mut short: Vec<Short>) {
        short.sort_by(|one, other| one.left.s.total_cmp(&other.left.s));
        let worst = |Short { topic, partition, left }: &Short| {
            let Left { s, by, .. } = left;
            format!(
                "{by} of topic {topic} may delete records of partition {partition} in {:?} that are not safe yet: keep them \
                 longer, or make the output faster",
                Duration::from_secs(*s as u64)
            )
        };
        for one in &short {
            if self.warned.insert(one.topic.clone()) {
                let Short { topic, partition, left: Left { s, by, .. } } = one;
                tracing::warn!(%topic, partition, left = ?Duration::from_secs(*s as u64), by, "these records will be deleted before they are read");
            }
        }
        self.warned.retain(|topic| {
            let is_short = short.iter().any(|one| one.topic == *topic);
            if !is_short {
                tracing::info!(%topic, "what is kept of this topic lasts again until it is read");
            }
            is_short
        });
        self.health.set(PART, short.first().map(worst));
    }
}

impl Consume {
    /// Looks, if it is time to.
    pub(super) fn watch(&mut self) {
        if monotonic() < self.watch.due {
            return;
        }
        self.watch.due = monotonic() + LOOK_EVERY;
        let now_ms = wall_ms();
        if let Some((heard, received)) = self.consumer.context().take_heard() {
            for (topic, partition, heard) in heard {
                self.partitions.hear(&topic, partition, heard, now_ms);
            }
            self.watch.sizes.note(received);
        }
        let mut short = Vec::new();
        for standing in self.partitions.standings() {
            if self.retry_topics.contains(&*standing.topic) {
                continue; // They wait on purpose.
            }
            let left = self.watch.tell(&standing, now_ms, &self.metrics);
            let is_short = |left: &Left| self.watch.warning.is_some_and(|warning| left.is_short(warning));
            if let Some(left) = left.filter(is_short) {
                short.push(Short { topic: standing.topic, partition: standing.partition, left });
            }
        }
        self.watch.warn(short);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(topic: &str, partition: i32, s: f64) -> Short {
        Short { topic: topic.into(), partition, left: Left { s, of_s: 1_000.0, by: "retention.ms" } }
    }

    #[test]
    fn the_worst_partition_is_told_and_each_topic_warned_of_once() {
        let health = Health::new();
        let mut watch = Watch::new(Retention::default(), Duration::from_secs(60), health.clone());
        let told = || health.problems().remove(PART).unwrap_or_default();
        let warned = |watch: &Watch| watch.warned.iter().map(ToString::to_string).collect::<Vec<_>>();
        watch.warn(vec![short("a", 0, 50.0), short("a", 1, 40.0), short("b", 7, 45.5)]);
        assert!(told().starts_with("retention.ms of topic a may delete records of partition 1 in 40s"), "{}", told());
        assert_eq!(warned(&watch), ["a", "b"]);
        watch.warn(vec![short("b", 7, 44.0)]);
        assert!(told().contains("topic b") && told().contains("44s"), "{}", told());
        assert_eq!(warned(&watch), ["b"]);
        watch.warn(vec![]);
        assert!(told().is_empty() && watch.warned.is_empty());
    }
}
