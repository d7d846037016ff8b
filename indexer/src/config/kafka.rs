//! YAML: `kafka`: the brokers, the group, and what it reads.

use crate::topics::Wanted;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The consumer group. YAML: `kafka`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// Name of the consumer group. Default `tailrace-indexer`.
    #[serde(default = "group")]
    pub group: String,
    /// Topics to read: names, each of which must exist, and `^regular expressions`, whose topics may come later.
    pub topics: Vec<String>,
    /// Static membership: unique per running indexer, so that a restart within the session time-out moves no partition.
    #[serde(default)]
    pub static_id: Option<String>,
    /// Which protocol of groups. Default `classic`.
    #[serde(default)]
    pub group_protocol: GroupProtocol,
    /// How partitions are spread, the one liked best first. Default `[cooperative-sticky]`.
    #[serde(default = "assignors")]
    pub assignors: Vec<Assignor>,
    /// After this long without a heartbeat the group takes this member's partitions away. Default `10s`.
    #[serde(default = "session_timeout", with = "service::load::duration")]
    pub session_timeout: Duration,
    /// After this long without a poll librdkafka leaves the group. Polling goes on while the search node is down. Default `5m`.
    #[serde(default = "max_poll_interval", with = "service::load::duration")]
    pub max_poll_interval: Duration,
    /// Stop, instead of counting what is lost and going on, when records are gone before they were read. Default `false`.
    #[serde(default)]
    pub strict: bool,
    /// Which offsets are committed. Default `settled`.
    #[serde(default)]
    pub commit: Commit,
    /// Warn when retention may delete in less than this what is not safe; `0s`: never. Default `6h`.
    #[serde(default = "retention_warning", with = "service::load::duration")]
    pub retention_warning: Duration,
    /// Options of librdkafka, passed through; what would weaken the promise is refused.
    #[serde(default)]
    pub librdkafka: BTreeMap<String, String>,
}

/// Which protocol members and brokers speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// A member spreads the partitions; all brokers have it.
    #[default]
    Classic,
    /// The brokers spread them (KIP-848); brokers from 4.0 on have it.
    Consumer,
}

/// How the classic protocol spreads partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assignor {
    /// Neighbours together, topic by topic.
    Range,
    /// In turns over all topics.
    #[serde(rename = "roundrobin")]
    RoundRobin,
    /// As before, as far as that is even; what does not move is read on during a rebalance.
    CooperativeSticky,
}

impl Assignor {
    /// Its name, as librdkafka and the group have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }
}

/// Which offsets are committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Commit {
    /// Of what is in the index, among the dead letters, or dropped.
    #[default]
    Settled,
    /// None, so that each start reads the same again: for tests.
    Never,
}

fn group() -> String {
    "tailrace-indexer".to_owned()
}
fn assignors() -> Vec<Assignor> {
    vec![Assignor::CooperativeSticky]
}
fn session_timeout() -> Duration {
    Duration::from_secs(10)
}
fn retention_warning() -> Duration {
    Duration::from_secs(6 * 3600)
}
fn max_poll_interval() -> Duration {
    Duration::from_secs(300)
}

impl KafkaConfig {
    /// Checks what one key alone cannot show.
    ///
    /// Errors: the key, the value that is wrong and what would be right.
    pub(super) fn check(&self) -> Result<(), String> {
        Wanted::check(&self.topics)?;
        if self.group_protocol == GroupProtocol::Consumer {
            // Told, because it would change nothing.
            if self.assignors != assignors() {
                return Err(
                    "kafka.assignors: with group_protocol: consumer the brokers spread the partitions: leave it out, \
                            or set group.remote.assignor in kafka.librdkafka"
                        .to_owned(),
                );
            }
            if self.session_timeout != session_timeout() {
                return Err("kafka.session_timeout: with group_protocol: consumer the brokers' \
                            group.consumer.session.timeout.ms decides: leave it out"
                    .to_owned());
            }
        }
        let is_cooperative = |assignor: &&Assignor| **assignor == Assignor::CooperativeSticky;
        match (self.assignors.len(), self.assignors.iter().filter(is_cooperative).count()) {
            (0, _) => return Err("kafka.assignors is empty: name at least one".to_owned()),
            (all, cooperative) if cooperative > 0 && cooperative < all => {
                return Err(
                    "kafka.assignors: cooperative-sticky cannot stand beside others: to change between them stop \
                            all members of the group"
                        .to_owned(),
                );
            }
            _ => {}
        }
        if self.session_timeout < Duration::from_secs(6) {
            return Err(format!("kafka.session_timeout is {:?}: brokers take 6s at least", self.session_timeout));
        }
        if self.max_poll_interval < self.session_timeout {
            return Err("kafka.max_poll_interval is below kafka.session_timeout: librdkafka refuses that".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IndexerConfig;
    use std::path::Path;

    fn config(kafka: &str) -> Result<IndexerConfig, String> {
        let text = format!("elasticsearch: {{hosts: [x]}}\nkafka: {{brokers: [x], {kafka}}}\n");
        let config: IndexerConfig =
            service::load::parse_config(Path::new("indexer.yaml"), &text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn assignors_and_protocols_have_the_names_that_kafka_has() {
        let kafka =
            config("topics: [a], assignors: [range, roundrobin], commit: never, strict: true").expect("valid").kafka;
        assert_eq!(kafka.assignors.iter().map(|one| one.name()).collect::<Vec<_>>(), ["range", "roundrobin"]);
        assert_eq!((kafka.commit, kafka.strict), (Commit::Never, true));
        let kafka =
            config("topics: [a], assignors: [cooperative-sticky], group_protocol: consumer").expect("valid").kafka;
        assert_eq!((kafka.assignors, kafka.group_protocol), (assignors(), GroupProtocol::Consumer));
    }

    #[track_caller]
    fn check(kafka: &str, reason: &str) {
        let told = config(kafka).expect_err("it is wrong");
        assert!(told.contains(reason), "{told}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        check("topics: []", "kafka.topics is empty");
        check("topics: ['^(']", "kafka.topics: `^(` is no regular expression");
        check("topics: ['logs[']", "kafka.topics: `logs[` is no topic's name");
        check("topics: [a], assignors: []", "kafka.assignors is empty");
        check("topics: [a], assignors: [range, cooperative-sticky]", "cannot stand beside others");
        check("topics: [a], assignors: [sticky]", "indexer.yaml:2:");
        check("topics: [a], group_protocol: consumer, assignors: [range]", "group.remote.assignor");
        check("topics: [a], group_protocol: consumer, session_timeout: 20s", "group.consumer.session.timeout.ms");
        check("topics: [a], session_timeout: 5s", "brokers take 6s at least");
        check("topics: [a], max_poll_interval: 9s", "is below kafka.session_timeout");
    }
}
