//! `indexer.yaml` → the settings of each stage. Every default stands here; unknown keys are errors.

mod kafka;
mod outputs;
mod overflow;
mod routing;
mod waits;

pub use kafka::{Assignor, Commit, GroupProtocol, KafkaConfig};
pub use outputs::{CopyFileConfig, CopyKey, CopyTopicConfig, MAIN, OutputConfig, OutputTo, Part};
pub use overflow::OverflowConfig;
pub use routing::{Charset, Decode, PipelinesConfig, Route, TopicConfig};
pub use waits::{Delay, Delays, RetryConfig};

use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use service::load::{ByteSize, Secret};
use service::logs::LogConfig;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The whole of `indexer.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexerConfig {
    /// Where records come from.
    pub kafka: KafkaConfig,
    /// Bytes between Kafka and the search node's answer: fetched, parsed and in bulk bodies. Default 128 MiB.
    #[serde(default = "memory")]
    pub memory: ByteSize,
    /// Which pipelines there are and which runs on what.
    #[serde(default)]
    pub pipelines: PipelinesConfig,
    /// What a payload is. Default `auto`.
    #[serde(default)]
    pub decode: Decode,
    /// What text is written in that our agent did not send. Default `utf-8`.
    #[serde(default)]
    pub charset: Charset,
    /// How records of some topics are read, where that differs; the first entry that takes a topic counts.
    #[serde(default)]
    pub topics: Vec<TopicConfig>,
    /// Where documents go. Required without `outputs`; this output's id is `elasticsearch`.
    #[serde(default)]
    pub elasticsearch: Option<ElasticsearchConfig>,
    /// More places where documents go, each with a consumer group of its own. Default: none.
    #[serde(default)]
    pub outputs: Vec<OutputConfig>,
    /// Where records go that can never be indexed.
    #[serde(default)]
    pub dead_letter: DeadLetterConfig,
    /// Where records wait that are refused for now, or are not to be indexed yet.
    #[serde(default)]
    pub retry: RetryConfig,
    /// Topics that take what rate plans divert, and how fast they are read.
    #[serde(default)]
    pub overflow: OverflowConfig,
    /// The endpoint for metrics and health.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// Format and level of the program's own log.
    #[serde(default)]
    pub log: LogConfig,
    /// Longest wait for what is in flight when the program is told to stop. Default `10s`.
    #[serde(default = "drain_timeout", with = "service::load::duration")]
    pub drain_timeout: Duration,
}

/// YAML: `elasticsearch`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElasticsearchConfig {
    /// URLs of nodes (Elasticsearch 7.10 to 9, OpenSearch 1 to 3).
    pub hosts: Vec<String>,
    /// Index or data stream, a template over the document's fields with a literal prefix. Default `logs-{event.dataset}-default`.
    #[serde(default = "index")]
    pub index: String,
    /// What names a document. Default `event`.
    #[serde(default)]
    pub document_id: DocumentId,
    /// Compression of request bodies. Default `none`.
    #[serde(default)]
    pub compression: Compression,
    /// How to authenticate. Default `none`.
    #[serde(default)]
    pub auth: Auth,
    /// Whom to trust with https.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Bulk requests in flight at once: a number, or limits between which it adapts. Default 1 to 8.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// Limits of one bulk request.
    #[serde(default)]
    pub batch: BatchConfig,
    /// Longest wait for the answer to one request. Default `60s`.
    #[serde(default = "timeout", with = "service::load::duration")]
    pub timeout: Duration,
}

/// Bulk requests in flight at once. YAML: `concurrency`, a number or `{min, max}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// However slow the cluster is.
    pub min: usize,
    /// However fast it is.
    pub max: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { min: 1, max: 8 }
    }
}

/// What names a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentId {
    /// The record's own id; topic, partition, offset and timestamp if it has none.
    #[default]
    Event,
    /// Always topic, partition, offset and timestamp.
    Record,
    /// The search node makes one: a resent record is stored twice.
    None,
}

/// Compression of request bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As they are: best on a local network.
    #[default]
    None,
    /// gzip, level 1.
    Gzip,
}

/// How to authenticate: `none`, `{user, password}` or `{api_key}`.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// HTTP basic authentication.
    Basic {
        /// The user's name.
        user: String,
        /// The password, by reference only.
        password: Secret,
    },
    /// An Elasticsearch API key, in its encoded form or as `id:key`.
    ApiKey(Secret),
}

/// YAML: `tls`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// A PEM file of certificates that are trusted beside the public ones: of the CA that signed the nodes' own.
    pub ca: Option<PathBuf>,
}

/// Limits of one bulk request. YAML: `batch`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Largest request body, in bytes before compression; never more than a sixteenth of the memory. Default 8 MiB.
    pub bytes_max: ByteSize,
    /// Most documents in a request. Default 10000.
    pub events_max: usize,
    /// Longest wait of the first event in a batch. Default `1s`.
    #[serde(with = "service::load::duration")]
    pub age_max: Duration,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { bytes_max: ByteSize(8 << 20), events_max: 10_000, age_max: Duration::from_secs(1) }
    }
}

/// YAML: `dead_letter`: `topic`, or instead of it `index` or `file`; and `breaker`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "DeadLetterFields")]
pub struct DeadLetterConfig {
    /// Where they go. Default: the topic `logs-dead`.
    pub to: DeadLetterTo,
    /// Stop with an alarm instead of emptying a topic into dead letters when more than half of three batches fail for good.
    /// Default `true`.
    pub breaker: bool,
}

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterTo {
    /// A Kafka topic, which must exist: the original bytes, with the cause in headers.
    Topic(String),
    /// An index of the same cluster.
    Index(String),
    /// A file of JSON lines.
    File(PathBuf),
}

impl DeadLetterTo {
    /// The index of this name.
    ///
    /// Errors: no index can have it.
    pub fn index(name: &str) -> Result<Self, String> {
        match crate::index_name::is_index_name(name) {
            true => Ok(Self::Index(name.to_owned())),
            false => Err(format!("index: `{name}` can be no index's name")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadLetterFields {
    topic: Option<String>,
    index: Option<String>,
    file: Option<PathBuf>,
    breaker: Option<bool>,
}

impl TryFrom<DeadLetterFields> for DeadLetterConfig {
    type Error = String;

    fn try_from(fields: DeadLetterFields) -> Result<Self, String> {
        let DeadLetterFields { topic, index, file, breaker } = fields;
        let to = match (topic, index, file) {
            (None, None, None) => Self::default().to,
            (Some(topic), None, None) => DeadLetterTo::Topic(topic),
            (_, Some(index), None) => DeadLetterTo::index(&index)?,
            (_, None, Some(file)) => DeadLetterTo::File(file),
            (_, Some(_), Some(_)) => return Err("dead_letter takes one of index and file".to_owned()),
        };
        Ok(Self { to, breaker: breaker.unwrap_or(true) })
    }
}

impl Default for DeadLetterConfig {
    fn default() -> Self {
        Self { to: DeadLetterTo::Topic("logs-dead".to_owned()), breaker: true }
    }
}

impl DeadLetterConfig {
    /// The topic, if that is where they go.
    pub fn topic(&self) -> Option<&str> {
        match &self.to {
            DeadLetterTo::Topic(topic) => Some(topic),
            DeadLetterTo::Index(_) | DeadLetterTo::File(_) => None,
        }
    }
}

/// YAML: `metrics`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Loopback address of `/metrics`, `/healthz`, `/readyz`; port 0 takes any free one, told in the log. Default `127.0.0.1:9602`.
    pub listen: String,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9602".to_owned() }
    }
}

fn memory() -> ByteSize {
    ByteSize(128 << 20)
}
fn drain_timeout() -> Duration {
    Duration::from_secs(10)
}
fn index() -> String {
    "logs-{event.dataset}-default".to_owned()
}
fn timeout() -> Duration {
    Duration::from_secs(60)
}

impl IndexerConfig {
    /// All but `kafka` as it is when nothing is written; it has no output yet.
    pub fn of(kafka: KafkaConfig) -> Self {
        Self {
            kafka,
            memory: memory(),
            pipelines: PipelinesConfig::default(),
            decode: Decode::default(),
            charset: Charset::default(),
            topics: Vec::new(),
            elasticsearch: None,
            outputs: Vec::new(),
            dead_letter: DeadLetterConfig::default(),
            retry: RetryConfig::default(),
            overflow: OverflowConfig::default(),
            metrics: MetricsConfig::default(),
            log: LogConfig::default(),
            drain_timeout: drain_timeout(),
        }
    }

    /// Checks what one key alone cannot show.
    ///
    /// Errors: the key, the value that is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let empty = |key: &str, list: &[String]| match list.iter().all(|item| item.trim().is_empty()) {
            true => Err(format!("{key} is empty: name at least one")),
            false => Ok(()),
        };
        empty("kafka.brokers", &self.kafka.brokers)?;
        empty("kafka.topics", &self.kafka.topics)?;
        self.kafka.check()?;
        if let Some(topic) = self.kafka.topics.iter().find(|topic| Some(topic.as_str()) == self.dead_letter.topic()) {
            return Err(format!(
                "dead_letter.topic `{topic}` is also in kafka.topics: dead letters would be read again"
            ));
        }
        let is_taken = |topic: &String| self.kafka.topics.contains(topic) || self.dead_letter.topic() == Some(topic);
        if let Some(topic) = self.overflow.topics.iter().find(|topic| is_taken(topic)) {
            return Err(format!(
                "overflow.topics: `{topic}` is also in kafka.topics, or is dead_letter.topic: it must be a topic of its own"
            ));
        }
        let is_taken = |topic: &String| is_taken(topic) || self.overflow.topics.contains(topic);
        if let Some(topic) = self.retry.topics().iter().find(|topic| is_taken(topic)) {
            return Err(format!(
                "retry: `{topic}` is also in kafka.topics or overflow.topics, or is dead_letter.topic: it must be a topic of its own"
            ));
        }
        for part in self.parts()? {
            let of = |problem: String| match part.id == MAIN {
                true => problem,
                false => format!("outputs: id {:?}: {problem}", part.id),
            };
            if matches!(part.to, OutputTo::Search) {
                part.config.search().check().map_err(of)?;
            }
        }
        Ok(())
    }
}

impl ElasticsearchConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.hosts.iter().all(|host| host.trim().is_empty()) {
            return Err("elasticsearch.hosts is empty: name at least one".to_owned());
        }
        let Concurrency { min, max } = self.concurrency;
        if min == 0 || max > 64 || min > max {
            return Err(format!("elasticsearch.concurrency is {min} to {max}: both must be 1 to 64, min at most max"));
        }
        let batch = &self.batch;
        if batch.events_max == 0 || batch.bytes_max.0 < 1024 || batch.bytes_max.0 > 100 << 20 {
            return Err("elasticsearch.batch: events_max must be at least 1, bytes_max 1KiB to 100MiB".to_owned());
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Concurrency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ConcurrencyVisitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConcurrencyFields {
    min: Option<usize>,
    max: Option<usize>,
}

struct ConcurrencyVisitor;

impl<'de> Visitor<'de> for ConcurrencyVisitor {
    type Value = Concurrency;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or {min, max}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Concurrency, E> {
        let number = usize::try_from(number).map_err(E::custom)?;
        Ok(Concurrency { min: number, max: number })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Concurrency, A::Error> {
        let fields = ConcurrencyFields::deserialize(de::value::MapAccessDeserializer::new(map))?;
        let Concurrency { min, max } = Concurrency::default();
        Ok(Concurrency { min: fields.min.unwrap_or(min), max: fields.max.unwrap_or(max) })
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AuthVisitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthFields {
    user: Option<String>,
    password: Option<Secret>,
    api_key: Option<Secret>,
}

struct AuthVisitor;

impl<'de> Visitor<'de> for AuthVisitor {
    type Value = Auth;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("none, {user, password} or {api_key}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Auth, E> {
        match text {
            "none" => Ok(Auth::None),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<Auth, E> {
        Ok(Auth::None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Auth, A::Error> {
        let fields = AuthFields::deserialize(de::value::MapAccessDeserializer::new(map))?;
        match (fields.user, fields.password, fields.api_key) {
            (Some(user), Some(password), None) => Ok(Auth::Basic { user, password }),
            (None, None, Some(key)) => Ok(Auth::ApiKey(key)),
            _ => Err(de::Error::custom("auth takes either user and password, or api_key")),
        }
    }
}
