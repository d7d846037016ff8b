//! Lines → Kafka records, once and to the end: what `tailrace produce` does.

use crate::config::ShipperConfig;
use crate::ffi;
use crate::template::scalar;
use crate::token::Refresh;
use crate::topic::{self, Found, Use};
use anyhow::{Context as _, bail};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use std::io::BufRead;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest line, in bytes: larger than any record that a broker takes.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Bytes that may wait for their reports.
const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;
/// Longest wait for the last reports; nothing expires before.
const FLUSH_WAIT: Duration = Duration::from_secs(60);

/// Where the key of a line comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFrom {
    /// The same for all: `text:KEY`.
    Text(String),
    /// A field of the line, which is JSON; dots go into objects: `json:user.id`.
    Json(String),
    /// What stands before the first one of this; the rest is the record: `separator::`.
    Separator(String),
}

impl FromStr for KeyFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("text", key)) => Ok(Self::Text(key.to_owned())),
            Some(("json", path)) if !path.is_empty() => Ok(Self::Json(path.to_owned())),
            Some(("separator", separator)) if !separator.is_empty() => Ok(Self::Separator(separator.to_owned())),
            _ => Err("write text:KEY, json:FIELD (such as json:user.id) or separator:TEXT".to_owned()),
        }
    }
}

impl KeyFrom {
    /// Key and record of a line. `None`: it has no such key.
    fn split<'l>(&self, line: &'l [u8]) -> Option<(Vec<u8>, &'l [u8])> {
        match self {
            Self::Text(key) => Some((key.as_bytes().to_vec(), line)),
            Self::Json(path) => Some((scalar(line, path)?.as_bytes().to_vec(), line)),
            Self::Separator(separator) => {
                let at = line.windows(separator.len()).position(|window| window == separator.as_bytes())?;
                Some((line[..at].to_vec(), &line[at + separator.len()..]))
            }
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Produced {
    /// Records that the brokers acknowledged.
    pub delivered: u64,
    /// Records that they refused.
    pub refused: u64,
    /// Lines without the key that was asked for; their records have none.
    pub keyless: u64,
    /// Why the first one was refused.
    pub reason: Option<String>,
}

/// Counts reports.
#[derive(Default)]
struct Count {
    delivered: AtomicU64,
    refused: AtomicU64,
    reason: Mutex<Option<String>>,
}

impl ClientContext for Count {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka");
    }
}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
                reason.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Produces each line of `input` as one record and waits for all reports. The topic is that of `config`; keys find their
/// partitions as those of the agent and of Java producers do.
///
/// Errors: no broker, no such topic, a line that is too long, no reports within a minute.
pub fn produce_lines(
    config: &ShipperConfig,
    key_from: Option<&KeyFrom>,
    mut input: impl BufRead,
) -> anyhow::Result<Produced> {
    if !config.topic.is_literal() {
        bail!("topic {:?}: a template cannot be used here", config.kafka.topic);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let facts = match runtime.block_on(topic::inspect(config, &config.fixed_topic, Use::Lines))? {
        Found::Topic(facts) => facts,
        Found::Unusable(reason) => bail!(reason),
    };
    let mut settings = config.client()?;
    settings
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", facts.message_bytes_max.to_string())
        .set("queue.buffering.max.kbytes", (IN_FLIGHT_BYTES_MAX >> 10).to_string());
    let producer: BaseProducer<Count> = settings.create_with_context(Count::default())?;
    let mut refresh = config.log_in(producer.client())?;
    let (mut line, mut number, mut keyless) = (Vec::new(), 0_u64, 0);
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut input, LINE_BYTES_MAX as u64 + 1);
        if limited.read_until(b'\n', &mut line).context("reading the lines")? == 0 {
            break;
        }
        number += 1;
        let text = line.strip_suffix(b"\n").map_or(&*line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        if text.len() > LINE_BYTES_MAX {
            bail!("line {number} has more than {LINE_BYTES_MAX} bytes: is this a text file?");
        }
        let (key, value) = match key_from.map(|from| from.split(text)) {
            None => (None, text),
            Some(Some((key, value))) => (Some(key), value),
            Some(None) => {
                keyless += 1;
                (None, text)
            }
        };
        send(&producer, config, key.as_deref(), value).with_context(|| format!("line {number}"))?;
        producer.poll(Duration::ZERO);
        if let Some(fetched) = refresh.as_mut().and_then(Refresh::fetch_if_due) {
            ffi::set_token(producer.client(), &fetched?)?;
        }
    }
    producer.flush(FLUSH_WAIT).context("not all records were acknowledged within a minute")?;
    let count = producer.context();
    let reason = count.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Ok(Produced { delivered: of(&count.delivered), refused: of(&count.refused), keyless, reason })
}

/// Waits while the client's queue is full. A record that is too large for the topic is an error here.
fn send(
    producer: &BaseProducer<Count>,
    config: &ShipperConfig,
    key: Option<&[u8]>,
    value: &[u8],
) -> Result<(), KafkaError> {
    let mut record = BaseRecord::<[u8], [u8]>::to(&config.fixed_topic).payload(value);
    record.key = key;
    record.partition = config.kafka.partition.and_then(|partition| i32::try_from(partition).ok());
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                record = same;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::RDKafkaRespErr;

    #[track_caller]
    fn check(from: &str, line: &str, expected: Option<(&str, &str)>) {
        let from: KeyFrom = from.parse().expect("it is understood");
        let got = from.split(line.as_bytes());
        assert_eq!(got, expected.map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes())), "{line}");
    }

    #[test]
    fn a_key_comes_from_the_line() {
        check("text:a:b", "line", Some(("a:b", "line")));
        check("json:user.id", r#"{"user":{"id":7}}"#, Some(("7", r#"{"user":{"id":7}}"#)));
        check("json:user.id", "no json", None);
        check("separator::", "k:v:w", Some(("k", "v:w")));
        check("separator:||", "k||v", Some(("k", "v")));
        check("separator:||", "k|v", None);
        for wrong in ["", "json:", "separator:", "field:x", "user.id"] {
            assert!(wrong.parse::<KeyFrom>().is_err(), "{wrong}");
        }
    }

    fn config(brokers: &str) -> ShipperConfig {
        let yaml = format!("{{brokers: ['{brokers}'], topic: logs}}");
        let kafka: KafkaConfig = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
        ShipperConfig::new("host", kafka, FLUSH_WAIT).expect("valid")
    }

    #[test]
    fn a_missing_topic_is_told_without_a_setting_that_is_not_read_here() {
        let mock = MockCluster::new(1).expect("the mock starts");
        mock.topic_error("logs", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).expect("it is not there");
        let told = produce_lines(&config(&mock.bootstrap_servers()), None, b"a\n".as_slice()).expect_err("no topic");
        let told = format!("{told:#}");
        assert!(told.contains("topic \"logs\" does not exist: create it"), "{told}");
        assert!(!told.contains("create_topic"), "{told}");
    }

    #[test]
    fn every_line_is_a_record() {
        let mock = MockCluster::new(1).expect("the mock starts");
        mock.create_topic("logs", 1, 1).expect("a topic");
        let config = config(&mock.bootstrap_servers());
        let from = "separator:=".parse().expect("it is understood");
        let produced = produce_lines(&config, Some(&from), b"a=1\r\nb=2\nnone\nlast=".as_slice()).expect("it works");
        assert_eq!(produced, Produced { delivered: 4, refused: 0, keyless: 1, reason: None });
    }
}
