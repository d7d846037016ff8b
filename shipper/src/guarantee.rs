//! Configuration and topic → the promise that really holds, and what makes it weaker than asked. Pure.

use crate::config::{Acks, Delivery, KafkaConfig};
use crate::topic::Facts;

/// What is promised of every line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guarantee {
    /// Nothing: it may be lost, and it may come twice.
    BestEffort,
    AtMostOnce,
    AtLeastOnce,
    /// Of files, as a consumer of committed records sees them.
    ExactlyOnce,
}

impl Guarantee {
    pub(crate) const ALL: [Self; 4] = [Self::BestEffort, Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce];

    /// As in the configuration, the log and the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BestEffort => "best_effort",
            Self::AtMostOnce => "at_most_once",
            Self::AtLeastOnce => "at_least_once",
            Self::ExactlyOnce => "exactly_once",
        }
    }
}

/// The promise that holds, whatever the topic.
pub(crate) fn guarantee(kafka: &KafkaConfig) -> Guarantee {
    match (kafka.delivery, kafka.acks()) {
        (Delivery::AtMostOnce, _) => Guarantee::AtMostOnce,
        (Delivery::ExactlyOnce, _) => Guarantee::ExactlyOnce,
        (Delivery::AtLeastOnce, Acks::None) => Guarantee::BestEffort,
        (Delivery::AtLeastOnce, Acks::Leader | Acks::All) => Guarantee::AtLeastOnce,
    }
}

/// Why the promise of `kafka` may break on a topic of these `facts`: one sentence each, with what to change.
///
/// At-most-once asks nothing of a topic.
/// Source: Kafka documentation, "Replication"; `min.insync.replicas` and `unclean.leader.election.enable` of a topic.
pub(crate) fn weaknesses(kafka: &KafkaConfig, facts: &Facts) -> Vec<String> {
    if kafka.delivery == Delivery::AtMostOnce {
        return Vec::new();
    }
    let mut weak = Vec::new();
    match kafka.acks() {
        Acks::All => {}
        Acks::Leader => {
            weak.push("acks 1: what only the leader has is lost if it fails; set kafka.acks: all".to_owned())
        }
        Acks::None => {
            weak.push(
                "acks 0: nobody says that a record arrived; set kafka.acks: all, or delivery: at_most_once".to_owned(),
            );
        }
    }
    if facts.replicas == 1 {
        weak.push("replication factor 1: what a broker's disk loses is lost; use 3".to_owned());
    } else if facts.insync_min == Some(1) {
        weak.push("min.insync.replicas 1: a single broker may be all that has a record; use 2".to_owned());
    }
    if facts.unclean_election == Some(true) {
        weak.push(
            "unclean.leader.election.enable true: a broker that lacks records may become the leader; set false"
                .to_owned(),
        );
    }
    if facts.insync_min.is_none() || facts.unclean_election.is_none() {
        weak.push(
            "the broker does not tell the topic's settings (right DescribeConfigs): they are not checked".to_owned(),
        );
    }
    weak
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFE: Facts = Facts {
        message_bytes_max: 1_000,
        partitions: 1,
        replicas: 3,
        insync_min: Some(2),
        unclean_election: Some(false),
    };

    #[track_caller]
    fn check(yaml: &str, facts: Facts, expected: Guarantee, weak: &[&str]) {
        let yaml = format!("{{brokers: ['a:9092'], {yaml}}}");
        let kafka: KafkaConfig = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("is accepted");
        assert_eq!(guarantee(&kafka), expected, "{yaml}");
        let found = weaknesses(&kafka, &facts);
        assert!(
            found.len() == weak.len() && found.iter().zip(weak).all(|(one, start)| one.starts_with(start)),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_weaker_than_asked_is_told() {
        check("", SAFE, Guarantee::AtLeastOnce, &[]);
        check("acks: 1", SAFE, Guarantee::AtLeastOnce, &["acks 1"]);
        check("acks: 0", SAFE, Guarantee::BestEffort, &["acks 0"]);
        check(
            "",
            Facts { replicas: 1, insync_min: Some(1), ..SAFE },
            Guarantee::AtLeastOnce,
            &["replication factor 1"],
        );
        check("", Facts { insync_min: Some(1), ..SAFE }, Guarantee::AtLeastOnce, &["min.insync.replicas 1"]);
        check("", Facts { unclean_election: Some(true), ..SAFE }, Guarantee::AtLeastOnce, &["unclean.leader"]);
        check("", Facts { insync_min: None, ..SAFE }, Guarantee::AtLeastOnce, &["the broker does not tell"]);
        let weak = Facts { replicas: 1, unclean_election: Some(true), ..SAFE };
        check("delivery: exactly_once", SAFE, Guarantee::ExactlyOnce, &[]);
        check("delivery: exactly_once", weak, Guarantee::ExactlyOnce, &["replication factor 1", "unclean.leader"]);
        check("delivery: at_most_once", weak, Guarantee::AtMostOnce, &[]);
        check("delivery: at_most_once, acks: all", weak, Guarantee::AtMostOnce, &[]);
    }
}
