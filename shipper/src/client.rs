//! Configuration → the settings of a client, and its login. What would weaken the promise is refused.

use crate::config::{Delivery, ShipperConfig};
use crate::ffi;
use crate::lanes::HAND_OVER;
use crate::token::Refresh;
use anyhow::{Context as _, bail};
use rdkafka::client::{Client, ClientContext};

impl ShipperConfig {
    /// The client's settings: DESIGN.md §3 and the rules R6 of the fault reference.
    pub(crate) fn client(&self) -> anyhow::Result<rdkafka::ClientConfig> {
        let mut client =
            service::kafka::client(&self.kafka.brokers, &self.kafka.librdkafka, REFUSED).context("kafka")?;
        client
            .set("acks", self.kafka.acks().name())
            .set("enable.idempotence", self.kafka.is_idempotent().to_string())
            .set("compression.codec", self.kafka.compression.name())
            .set("linger.ms", self.kafka.linger.min(HAND_OVER).as_millis().to_string())
            .set("batch.size", self.kafka.batch_bytes.0.to_string())
            .set("batch.num.messages", "100000")
            // The byte budget bounds what is in flight; a second bound here could only deadlock with it.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2147483647")
            .set("topic.metadata.refresh.interval.ms", "30000"); // New partitions are used within 60 s.
        if self.kafka.delivery != Delivery::ExactlyOnce {
            client.set("message.timeout.ms", "0"); // The file is the buffer: nothing expires. In a transaction it is the time-out.
        }
        if self.kafka.oauth_token.is_some() {
            client.set("sasl.mechanisms", "OAUTHBEARER");
            if !client.get("security.protocol").is_some_and(|protocol| protocol.starts_with("sasl_")) {
                bail!("kafka.oauth_token: set kafka.librdkafka: {{security.protocol: sasl_ssl}} as well");
            }
        }
        if !self.kafka.is_idempotent() {
            client.set("max.in.flight", "1"); // Without sequences a retry of one request could overtake the next.
        }
        if self.kafka.delivery == Delivery::AtMostOnce {
            client.set("retries", "0");
        }
        if let Some(level) = self.kafka.compression_level {
            client.set("compression.level", level.to_string());
        }
        Ok(client)
    }

    /// The settings of a producer whose transactions fence those of all before it with the same agent's name.
    pub(crate) fn transactional(&self) -> anyhow::Result<rdkafka::ClientConfig> {
        let mut client = self.client()?;
        client.set("transactional.id", format!("tailrace-{}", self.producer));
        Ok(client)
    }

    /// The settings of a consumer of committed records, which commits nothing.
    pub(crate) fn reader(&self) -> anyhow::Result<rdkafka::ClientConfig> {
        let mut client =
            service::kafka::client(&self.kafka.brokers, &self.kafka.librdkafka, REFUSED).context("kafka")?;
        client
            .set("group.id", format!("tailrace-{}", self.producer)) // It joins none, but the client asks for a name.
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Error); // Passed options may be a producer's.
        Ok(client)
    }

    /// Gives a new client its first token, if it logs in with tokens; what keeps it fresh is returned. Blocks: see
    /// [`crate::TokenSource`].
    pub(crate) fn log_in<C: ClientContext>(&self, client: &Client<C>) -> anyhow::Result<Option<Refresh>> {
        let Some(source) = &self.kafka.oauth_token else { return Ok(None) };
        let token = source.fetch()?;
        ffi::set_token(client, &token)?;
        Ok(Some(Refresh::new(source.clone(), &token)))
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
    ("compression.level", "set kafka.compression_level"),
    ("sticky.partitioning.linger.ms", "set kafka.partitioner"),
    ("linger.ms", "set kafka.linger"),
    ("queue.buffering.max.ms", "set kafka.linger"),
    ("batch.size", "set kafka.batch_bytes"),
    ("transactional.id", "it is made of the agent's name, with delivery: exactly_once"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;
    use std::time::Duration;

    fn load(yaml: &str) -> anyhow::Result<ShipperConfig> {
        let kafka: KafkaConfig = service::load::parse_config("agent.yaml".as_ref(), yaml)?;
        ShipperConfig::new("web-01", kafka, Duration::from_secs(10))
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
        assert_eq!(config.fixed_topic, "logs");
    }

    #[test]
    fn what_would_weaken_the_promise_is_refused() {
        for (key, why) in REFUSED {
            let refused =
                load(&format!("{{brokers: ['a:9092'], librdkafka: {{{key}: '1'}}}}")).expect_err("is refused");
            assert!(format!("{refused:#}").contains(why), "{refused:#}");
        }
    }

    #[test]
    fn every_codec_takes_the_levels_it_has() {
        for (name, level) in [("none", 0), ("gzip", 9), ("snappy", 0), ("lz4", 12), ("zstd", 12)] {
            let yaml = format!("{{brokers: ['a:9092'], compression: {name}, compression_level: {level}}}");
            let client = load(&yaml).expect("is accepted").client().expect("is accepted");
            assert_eq!(client.get("compression.level"), Some(level.to_string().as_str()));
            client.create_native_config().expect("librdkafka takes it");
        }
    }

    #[test]
    fn the_promise_decides_how_is_sent() {
        let check = |yaml: &str, expected: [Option<&str>; 4]| {
            let client = load(&format!("{{brokers: ['a:9092'], {yaml}}}")).and_then(|config| config.client());
            let client = client.expect("is accepted");
            let got = ["acks", "enable.idempotence", "max.in.flight", "retries"].map(|key| client.get(key));
            assert_eq!(got, expected, "{yaml}");
            client.create_native_config().expect("librdkafka takes it");
        };
        check("delivery: at_least_once", [Some("all"), Some("true"), None, None]);
        check("delivery: at_least_once, acks: 1", [Some("1"), Some("false"), Some("1"), None]);
        check("delivery: at_least_once, acks: 0", [Some("0"), Some("false"), Some("1"), None]);
        check("delivery: exactly_once", [Some("all"), Some("true"), None, None]);
        check("delivery: at_most_once", [Some("0"), Some("false"), Some("1"), Some("0")]);
        check("delivery: at_most_once, acks: 1", [Some("1"), Some("false"), Some("1"), Some("0")]);
    }
}
