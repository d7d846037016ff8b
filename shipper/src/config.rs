//! What `agent.yaml` says of Kafka.

use crate::key::Template;
use crate::lanes::HAND_OVER;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use service::load::ByteSize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where and how records are produced. YAML: `kafka`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap servers, `host:port`.
    pub brokers: Vec<String>,
    /// Topic. Default `logs`.
    #[serde(default = "topic")]
    pub topic: String,
    /// How to make the topic if it does not exist. Default `null`: it must exist.
    #[serde(default)]
    pub create_topic: Option<CreateTopic>,
    /// Template of the record key. Default `{host.name}/{log.file.path}`: order per file.
    #[serde(default = "key")]
    pub key: String,
    /// How a record without explicit partition finds its own. Default `key`.
    #[serde(default)]
    pub partitioner: Partitioner,
    /// Promise. Default `at_least_once`.
    #[serde(default)]
    pub delivery: Delivery,
    /// Acknowledgements that the leader waits for. Default `all`.
    #[serde(default)]
    pub acks: Acks,
    /// Form of a record. Default `json`.
    #[serde(default)]
    pub codec: Codec,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`. Default `lz4`.
    #[serde(default)]
    pub compression: Compression,
    /// Longest wait for a batch to fill. Default `5ms`.
    #[serde(default = "linger", with = "service::load::duration")]
    pub linger: Duration,
    /// Largest batch of one partition, before compression. Default 1 MiB, and never more than the topic takes.
    #[serde(default = "batch_bytes")]
    pub batch_bytes: ByteSize,
    /// Options passed through to librdkafka. Those that would weaken the promise are refused.
    #[serde(default)]
    pub librdkafka: BTreeMap<String, String>,
}

/// How to make a missing topic. YAML: `create_topic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTopic {
    /// Partitions.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication_factor: i32,
}

/// YAML: `partitioner`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partitioner {
    /// Hash of the key: murmur2, as the Java client computes it.
    #[default]
    Key,
}

/// YAML: `delivery`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// acks=all and the idempotent producer.
    #[default]
    AtLeastOnce,
}

/// YAML: `acks`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acks {
    /// All in-sync replicas.
    #[default]
    All,
}

/// YAML: `codec`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// One JSON object a line, as Filebeat's Kafka output writes it.
    #[default]
    Json,
    /// The line itself.
    Raw,
}

/// YAML: `compression`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// snappy.
    Snappy,
    /// lz4.
    #[default]
    Lz4,
    /// zstd.
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

fn topic() -> String {
    "logs".into()
}

fn key() -> String {
    "{host.name}/{log.file.path}".into()
}

fn linger() -> Duration {
    Duration::from_millis(5)
}

fn batch_bytes() -> ByteSize {
    ByteSize(1024 * 1024)
}

/// The configuration in the form that is used.
#[derive(Debug, Clone)]
pub struct ShipperConfig {
    /// `host.name` and agent id.
    pub name: String,
    /// As in the file.
    pub kafka: KafkaConfig,
    /// Longest wait for acknowledgements when stopping.
    pub drain_timeout: Duration,
    /// The key, compiled.
    pub(crate) key: Template,
}

impl ShipperConfig {
    /// Checks what can be checked without a broker.
    ///
    /// Errors: no broker, a topic name that Kafka refuses, an unknown placeholder in the key, a refused option.
    pub fn new(name: &str, kafka: KafkaConfig, drain_timeout: Duration) -> anyhow::Result<Self> {
        if kafka.brokers.is_empty() {
            bail!("kafka.brokers: at least one host:port is needed");
        }
        let is_safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_name = !matches!(kafka.topic.as_str(), "" | "." | "..") && kafka.topic.len() <= 249;
        if !is_name || !kafka.topic.chars().all(is_safe) {
            bail!("kafka.topic: {:?} is not a topic name (1 to 249 of a-z A-Z 0-9 . _ -)", kafka.topic);
        }
        let key = Template::new(&kafka.key).context("kafka.key")?;
        let config = Self { name: name.to_owned(), kafka, drain_timeout, key };
        config.client()?;
        Ok(config)
    }

    /// The client's settings: DESIGN.md §3 and the rules R6 of the fault reference.
    pub(crate) fn client(&self) -> anyhow::Result<rdkafka::ClientConfig> {
        let mut client =
            service::kafka::client(&self.kafka.brokers, &self.kafka.librdkafka, REFUSED).context("kafka")?;
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0") // The file is the buffer: nothing expires.
            .set("partitioner", "murmur2_random")
            .set("compression.codec", self.kafka.compression.name())
            .set("linger.ms", self.kafka.linger.min(HAND_OVER).as_millis().to_string())
            .set("batch.size", self.kafka.batch_bytes.0.to_string())
            .set("batch.num.messages", "100000")
            // The byte budget bounds what is in flight; a second bound here could only deadlock with it.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2147483647")
            .set("topic.metadata.refresh.interval.ms", "30000"); // New partitions are used within 60 s.
        Ok(client)
    }
}

/// Options of librdkafka that are ours, and why.
const REFUSED: &[(&str, &str)] = &[
    ("acks", "set kafka.acks"),
    ("request.required.acks", "set kafka.acks"),
    ("enable.idempotence", "at_least_once needs the idempotent producer"),
    ("message.timeout.ms", "a record that expires is lost; the file is the buffer"),
    ("delivery.timeout.ms", "a record that expires is lost; the file is the buffer"),
    ("retries", "a record whose retries are used up is lost"),
    ("message.send.max.retries", "a record whose retries are used up is lost"),
    ("delivery.report.only.error", "only a delivery report moves an offset"),
    ("max.in.flight", "the idempotent producer chooses it"),
    ("max.in.flight.requests.per.connection", "the idempotent producer chooses it"),
    ("enable.gapless.guarantee", "it stops the producer where reading again suffices"),
    ("queue.buffering.max.messages", "set memory"),
    ("queue.buffering.max.kbytes", "set memory"),
    ("message.max.bytes", "it is read from the topic"),
    ("partitioner", "set kafka.partitioner"),
    ("compression.codec", "set kafka.compression"),
    ("compression.type", "set kafka.compression"),
    ("linger.ms", "set kafka.linger"),
    ("queue.buffering.max.ms", "set kafka.linger"),
    ("batch.size", "set kafka.batch_bytes"),
    ("transactional.id", "delivery: exactly_once is not built yet"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn load(yaml: &str) -> anyhow::Result<ShipperConfig> {
        let kafka: KafkaConfig = service::load::parse_config("agent.yaml".as_ref(), yaml)?;
        ShipperConfig::new("web-01", kafka, Duration::from_secs(10))
    }

    #[track_caller]
    fn refuse(yaml: &str, reason: &str) {
        let error = format!("{:#}", load(yaml).expect_err("is refused"));
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let config = load("{brokers: ['127.0.0.1:9092']}").expect("is accepted");
        let client = config.client().expect("is accepted");
        for (key, value) in [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "0"),
            ("compression.codec", "lz4"),
            ("allow.auto.create.topics", "false"),
        ] {
            assert_eq!(client.get(key), Some(value), "{key}");
        }
        assert_eq!(config.kafka.topic, "logs");
    }

    #[test]
    fn what_would_weaken_the_promise_is_refused() {
        for (key, why) in REFUSED {
            refuse(&format!("{{brokers: ['a:9092'], librdkafka: {{{key}: '1'}}}}"), why);
        }
        refuse("{brokers: []}", "at least one host:port");
        refuse("{brokers: ['a:9092'], topic: a/b}", "\"a/b\" is not a topic name");
        refuse("{brokers: ['a:9092'], key: '{message}'}", "message");
        refuse("{brokers: ['a:9092'], acks: 1}", "acks");
        refuse("{brokers: ['a:9092'], topc: x}", "topc");
    }
}
