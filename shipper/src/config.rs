//! What `agent.yaml` says of Kafka.

use crate::template::Template;
use crate::token::TokenSource;
use crate::topic::is_name;
use anyhow::{Context as _, bail};
use event::wire;
use serde::Deserialize;
use service::load::ByteSize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where and how records are produced. YAML: `kafka`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap servers, `host:port`.
    pub brokers: Vec<String>,
    /// Topic: a template with a literal prefix. Default `logs`.
    #[serde(default = "topic")]
    pub topic: String,
    /// Topic of records whose own cannot be made of their fields. Default: the literal prefix of `topic`.
    #[serde(default)]
    pub fallback_topic: Option<String>,
    /// How to make the topic if it does not exist. Default `null`: it must exist.
    #[serde(default)]
    pub create_topic: Option<CreateTopic>,
    /// Explicit partition, for all records. Default: `partitioner` chooses.
    #[serde(default)]
    pub partition: Option<u32>,
    /// Template of the record key. Default `{host.name}/{log.file.path}`: order per file. Empty: no key.
    #[serde(default = "key")]
    pub key: String,
    /// How a record without explicit partition finds its own. Default `key`.
    #[serde(default)]
    pub partitioner: Partitioner,
    /// Promise. Default `at_least_once`.
    #[serde(default)]
    pub delivery: Delivery,
    /// Acknowledgements that a record needs. Default `all`; with `delivery: at_most_once` none.
    #[serde(default)]
    pub acks: Option<Acks>,
    /// Send nothing where the promise is weaker than asked. Default: warn and send.
    #[serde(default)]
    pub strict: bool,
    /// What becomes of a record that is too large by itself. Default `truncate`.
    #[serde(default)]
    pub too_large: TooLarge,
    /// Topic of records that the broker refuses. Default: they wait.
    #[serde(default)]
    pub dead_letter_topic: Option<String>,
    /// Form of a record. Default `json`.
    #[serde(default)]
    pub codec: Codec,
    /// With `codec: raw`: what the line does not say travels in headers. Default: no.
    #[serde(default)]
    pub headers: bool,
    /// Headers of one's own: name → template. Default: none.
    #[serde(default)]
    pub header_fields: BTreeMap<String, String>,
    /// Largest record of `codec: packed`, before compression; one larger line is a record of its own. Default 64 KiB.
    #[serde(default = "pack_bytes")]
    pub pack_bytes: ByteSize,
    /// With `delivery: exactly_once`: compacted topic of the offsets. Default `tailrace-offsets`.
    #[serde(default = "offsets_topic")]
    pub offsets_topic: String,
    /// With `delivery: exactly_once`: longest time until a transaction is committed. Default `200ms`.
    #[serde(default = "commit_interval", with = "service::load::duration")]
    pub commit_interval: Duration,
    /// With `delivery: exactly_once`: bytes of lines after which a transaction is committed. Default 16 MiB.
    #[serde(default = "commit_bytes")]
    pub commit_bytes: ByteSize,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`. Default `lz4`.
    #[serde(default)]
    pub compression: Compression,
    /// gzip: 0 to 9, lz4: 0 to 12, zstd: 0 to 12. Default: the codec's own.
    #[serde(default)]
    pub compression_level: Option<i32>,
    /// Longest wait for a batch to fill. Default `5ms`.
    #[serde(default = "linger", with = "service::load::duration")]
    pub linger: Duration,
    /// Largest batch of one partition, before compression. Default 1 MiB, and never more than the topic takes.
    #[serde(default = "batch_bytes")]
    pub batch_bytes: ByteSize,
    /// Where tokens to log in with (OAUTHBEARER) come from: `{file: PATH}` or `{command: [PROGRAM, …]}`. Default: none.
    #[serde(default)]
    pub oauth_token: Option<TokenSource>,
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
    /// Hash of the key: murmur2, as the Java client computes it. Records without a key as `sticky`.
    #[default]
    Key,
    /// Each record to the next partition.
    RoundRobin,
    /// One partition until a request is filled, then another.
    Sticky,
    /// Each record to any partition.
    Random,
}

/// YAML: `delivery`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Read again until acknowledged; with acks=all by the idempotent producer.
    #[default]
    AtLeastOnce,
    /// The offset is stored before the send, and nothing is sent again.
    AtMostOnce,
    /// Records and offsets of files are committed in one Kafka transaction.
    ExactlyOnce,
}

/// YAML: `acks`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acks {
    /// None: the broker does not answer.
    #[serde(rename = "0")]
    None,
    /// The leader's own.
    #[serde(rename = "1")]
    Leader,
    /// All in-sync replicas.
    #[default]
    All,
}

impl Acks {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        }
    }
}

/// YAML: `too_large`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLarge {
    /// Cut and flag it.
    #[default]
    Truncate,
    /// Send it to `dead_letter_topic`, as much of it as fits.
    DeadLetter,
}

/// Shorter ones would be nothing but commits; the longest leaves half of the broker's transaction time-out (60 s) for the rest.
const COMMIT_INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(30);

impl KafkaConfig {
    /// The acknowledgements that count: those written, or the promise's own.
    pub fn acks(&self) -> Acks {
        self.acks.unwrap_or(match self.delivery {
            Delivery::AtLeastOnce | Delivery::ExactlyOnce => Acks::All,
            Delivery::AtMostOnce => Acks::None,
        })
    }

    /// Sequences, so that no retry of the client makes a copy.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.delivery != Delivery::AtMostOnce && self.acks() == Acks::All
    }
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
    /// Many lines of one file in one record.
    Packed,
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
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Levels that it has. Source: librdkafka's CONFIGURATION.md, `compression.level`.
    fn levels(self) -> std::ops::RangeInclusive<i32> {
        match self {
            Self::None | Self::Snappy => 0..=0,
            Self::Gzip => 0..=9,
            Self::Lz4 | Self::Zstd => 0..=12,
        }
    }
}

fn topic() -> String {
    "logs".into()
}

fn key() -> String {
    "{host.name}/{log.file.path}".into()
}

fn offsets_topic() -> String {
    "tailrace-offsets".into()
}

fn commit_interval() -> Duration {
    Duration::from_millis(200)
}

fn commit_bytes() -> ByteSize {
    ByteSize(16 * 1024 * 1024)
}

fn pack_bytes() -> ByteSize {
    ByteSize(64 * 1024)
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
    /// Names the producer with `delivery: exactly_once`, and its offsets: one at a time has it.
    pub(crate) producer: String,
    /// As in the file.
    pub kafka: KafkaConfig,
    /// Longest wait for acknowledgements when stopping.
    pub drain_timeout: Duration,
    /// The topic, compiled.
    pub(crate) topic: Template,
    /// The topic, or the one of records whose own cannot be made.
    pub(crate) fixed_topic: String,
    /// The key, compiled.
    pub(crate) key: Template,
    /// The headers of one's own, compiled.
    pub(crate) header_fields: Vec<(Arc<str>, Template)>,
}

impl ShipperConfig {
    /// Checks what can be checked without a broker.
    ///
    /// Errors: no broker, a topic name that Kafka refuses, an unknown placeholder in the key, a refused option.
    pub fn new(name: &str, kafka: KafkaConfig, drain_timeout: Duration) -> anyhow::Result<Self> {
        if kafka.brokers.is_empty() {
            bail!("kafka.brokers: at least one host:port is needed");
        }
        let topic = Template::new(&kafka.topic).context("kafka.topic")?;
        let fixed_topic = fixed_topic(&kafka, &topic)?;
        let key = Template::new(&kafka.key).context("kafka.key")?;
        let header_fields = header_fields(&kafka)?;
        if topic.is_of_lines() && kafka.create_topic.is_some() {
            bail!(
                "kafka.create_topic: {:?} takes a field of the line, and no line makes a topic: make them yourself",
                kafka.topic
            );
        }
        if kafka.codec == Codec::Packed {
            let of_lines = [("topic", &topic), ("key", &key)]
                .into_iter()
                .chain(header_fields.iter().map(|(_, template)| ("header_fields", template)));
            if let Some((name, _)) = of_lines.into_iter().find(|(_, template)| template.is_of_lines()) {
                bail!(
                    "kafka.{name}: a field of the line cannot be used with codec: packed, whose records hold many lines"
                );
            }
        }
        if kafka.headers && kafka.codec == Codec::Json {
            bail!("kafka.headers: codec: json says everything in the payload; headers are for codec: raw");
        }
        match &kafka.dead_letter_topic {
            Some(name) if !is_name(name) => bail!("kafka.dead_letter_topic: {name:?} is not a topic name"),
            Some(name) if *name == fixed_topic => bail!("kafka.dead_letter_topic: {name:?} is kafka.topic as well"),
            None if kafka.too_large == TooLarge::DeadLetter => {
                bail!("kafka.too_large: dead_letter: set kafka.dead_letter_topic as well");
            }
            _ => {}
        }
        if kafka.delivery == Delivery::ExactlyOnce {
            check_exactly_once(&kafka, &fixed_topic)?;
        }
        let levels = kafka.compression.levels();
        if let Some(level) = kafka.compression_level.filter(|level| !levels.contains(level)) {
            let (name, last) = (kafka.compression.name(), levels.end());
            bail!("kafka.compression_level: {level}: compression: {name} has levels 0 to {last}");
        }
        let name = name.to_owned();
        let config =
            Self { producer: name.clone(), name, kafka, drain_timeout, topic, fixed_topic, key, header_fields };
        config.client()?;
        Ok(config)
    }

    /// The same for one of several outputs of an agent, which may be in one cluster.
    pub fn of_output(self, id: &str) -> Self {
        Self { producer: format!("{}/{id}", self.name), ..self }
    }

    /// The same with another topic, of one name, for what rate plans divert.
    pub(crate) fn with_topic(&self, topic: &str) -> anyhow::Result<Self> {
        let mut config = self.clone();
        topic.clone_into(&mut config.kafka.topic);
        topic.clone_into(&mut config.fixed_topic);
        config.kafka.fallback_topic = None;
        config.topic = Template::new(topic)?;
        Ok(config)
    }
}

fn check_exactly_once(kafka: &KafkaConfig, fixed_topic: &str) -> anyhow::Result<()> {
    if kafka.acks() != Acks::All {
        bail!("kafka.acks: {}: delivery: exactly_once needs all", kafka.acks().name());
    }
    let offsets = &kafka.offsets_topic;
    if !is_name(offsets) {
        bail!("kafka.offsets_topic: {offsets:?} is not a topic name");
    }
    if offsets == fixed_topic || Some(offsets) == kafka.dead_letter_topic.as_ref() {
        bail!("kafka.offsets_topic: {offsets:?} is a topic of records as well");
    }
    if !COMMIT_INTERVALS.contains(&kafka.commit_interval) {
        let (least, most) = (COMMIT_INTERVALS.start(), COMMIT_INTERVALS.end());
        bail!("kafka.commit_interval: {:?}: it is between {least:?} and {most:?}", kafka.commit_interval);
    }
    Ok(())
}

/// The topic if it is one name, else the one for records that no name can be made of.
fn fixed_topic(kafka: &KafkaConfig, topic: &Template) -> anyhow::Result<String> {
    let wrong = "is not a topic name (1 to 249 of a-z A-Z 0-9 . _ -)";
    if topic.is_literal() {
        if kafka.fallback_topic.is_some() {
            bail!("kafka.fallback_topic: topic {:?} is one name, nothing can fall back from it", kafka.topic);
        }
        if !is_name(&kafka.topic) {
            bail!("kafka.topic: {:?} {wrong}", kafka.topic);
        }
        return Ok(kafka.topic.clone());
    }
    let prefix = topic.prefix().trim_end_matches(['.', '_', '-']);
    if prefix.is_empty() {
        bail!(
            "kafka.topic: {:?} must start with literal text (logs-{{fields.service}}), which confines what a record can name",
            kafka.topic
        );
    }
    if let Some(literal) = topic.literals().find(|literal| !is_name(&format!("x{literal}"))) {
        bail!("kafka.topic: {literal:?} in {:?} {wrong}", kafka.topic);
    }
    let fallback = kafka.fallback_topic.as_deref().unwrap_or(prefix);
    if !is_name(fallback) {
        bail!("kafka.fallback_topic: {fallback:?} {wrong}");
    }
    Ok(fallback.to_owned())
}

fn header_fields(kafka: &KafkaConfig) -> anyhow::Result<Vec<(Arc<str>, Template)>> {
    let mut fields = Vec::new();
    for (name, text) in &kafka.header_fields {
        if name.is_empty() || name.contains('\0') || name.starts_with(wire::PREFIX) {
            bail!("kafka.header_fields: {name:?}: a name is not empty and does not start with {}", wire::PREFIX);
        }
        let template = Template::new(text).with_context(|| format!("kafka.header_fields: {name}"))?;
        fields.push((Arc::from(name.as_str()), template));
    }
    Ok(fields)
}

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
    fn a_template_falls_back_to_its_prefix_or_to_what_is_told() {
        let topic = |yaml: &str| load(&format!("{{brokers: ['a:9092'], {yaml}}}")).expect("is accepted").fixed_topic;
        assert_eq!(topic("topic: 'logs-{fields.service}'"), "logs");
        assert_eq!(topic("topic: 'logs-{fields.service}', fallback_topic: rest"), "rest");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        refuse("{brokers: []}", "at least one host:port");
        refuse("{brokers: ['a:9092'], topic: a/b}", "\"a/b\" is not a topic name");
        refuse("{brokers: ['a:9092'], topic: '{fields.a}'}", "must start with literal text");
        refuse("{brokers: ['a:9092'], topic: '-{fields.a}'}", "must start with literal text");
        refuse("{brokers: ['a:9092'], topic: 'logs-{fields.a}/x'}", "\"/x\" in");
        refuse("{brokers: ['a:9092'], topic: 'logs-{message}'}", "kafka.topic");
        refuse("{brokers: ['a:9092'], topic: 'logs-{a}', fallback_topic: 'a b'}", "kafka.fallback_topic: \"a b\"");
        refuse("{brokers: ['a:9092'], fallback_topic: other}", "nothing can fall back");
        let create = "create_topic: {partitions: 1, replication_factor: 1}";
        refuse(&format!("{{brokers: ['a:9092'], topic: 'logs-{{user}}', {create}}}"), "no line makes a topic");
        refuse("{brokers: ['a:9092'], codec: packed, key: '{user}'}", "kafka.key: a field of the line");
        refuse("{brokers: ['a:9092'], codec: packed, topic: 'logs-{user}'}", "kafka.topic: a field of the line");
        refuse("{brokers: ['a:9092'], codec: packed, header_fields: {a: '{user}'}}", "kafka.header_fields: a field");
        refuse("{brokers: ['a:9092'], header_fields: {tailrace-id: x}}", "does not start with tailrace-");
        refuse("{brokers: ['a:9092'], headers: true}", "headers are for codec: raw");
        refuse("{brokers: ['a:9092'], compression_level: 13}", "compression: lz4 has levels 0 to 12");
        refuse("{brokers: ['a:9092'], compression: snappy, compression_level: 1}", "has levels 0 to 0");
        refuse("{brokers: ['a:9092'], key: '{message}'}", "message");
        refuse("{brokers: ['a:9092'], acks: 2}", "acks");
        refuse("{brokers: ['a:9092'], oauth_token: {file: /a}}", "security.protocol: sasl_ssl");
        refuse("{brokers: ['a:9092'], too_large: dead_letter}", "set kafka.dead_letter_topic");
        refuse("{brokers: ['a:9092'], dead_letter_topic: a/b}", "\"a/b\" is not a topic name");
        refuse("{brokers: ['a:9092'], dead_letter_topic: logs}", "is kafka.topic as well");
        refuse("{brokers: ['a:9092'], topc: x}", "topc");
        let refuse = |yaml: &str, reason: &str| {
            refuse(&format!("{{brokers: ['a:9092'], delivery: exactly_once, {yaml}}}"), reason);
        };
        refuse("acks: 1", "kafka.acks: 1: delivery: exactly_once needs all");
        refuse("offsets_topic: a/b", "kafka.offsets_topic: \"a/b\" is not");
        refuse("offsets_topic: logs", "is a topic of records as well");
        refuse("offsets_topic: dead, dead_letter_topic: dead", "is a topic of records as well");
        refuse("commit_interval: 1ms", "between 10ms and 30s");
        refuse("commit_interval: 1m", "between 10ms and 30s");
    }
}
