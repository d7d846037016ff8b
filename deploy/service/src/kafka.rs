//! Broker addresses and pass-through options become the client settings every Kafka client of Tailrace starts from.
//!
//! Never weakens a promise: an option that would is refused with the reason, under each of its names. The settings are
//! those of librdkafka's CONFIGURATION.md.

use std::collections::BTreeMap;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError};

use crate::load::{Secret, SecretError};

/// Why the Kafka section of a config cannot be used. Never holds the value of a secret.
#[derive(Debug, thiserror::Error)]
pub enum KafkaConfigError {
    /// No broker to start from.
    #[error("kafka.brokers: empty: name at least one broker, such as 127.0.0.1:9092")]
    NoBrokers,
    /// Not a `host:port`.
    #[error("kafka.brokers: `{broker}` is not an address: write host:port, such as 127.0.0.1:9092")]
    Broker {
        /// As written.
        broker: String,
    },
    /// The option would weaken a promise, or has a key of its own.
    #[error("kafka.librdkafka: {key} is refused: {why}")]
    Refused {
        /// The option as written.
        key: String,
        /// Why, and what to do instead.
        why: String,
    },
    /// The value of a secret option is not a usable reference.
    #[error("kafka.librdkafka: {key}: {source}")]
    Secret {
        /// The option.
        key: String,
        /// What is wrong with the reference.
        source: SecretError,
    },
    /// librdkafka does not know the option or not this value of it.
    #[error("kafka.librdkafka: {key}: {reason}; see CONFIGURATION.md of librdkafka {}", version())]
    Option {
        /// The option.
        key: String,
        /// What librdkafka said.
        reason: String,
    },
}

/// What every client has, unless the config passes another value.
const COMMON: [(&str, &str); 5] = [
    // Notice a dead peer before a request's retry does.
    ("socket.timeout.ms", "15000"),
    ("socket.keepalive.enable", "true"),
    // The default, 10 s, is a long time to sit beside a broker that is back.
    ("reconnect.backoff.max.ms", "2000"),
    ("client.id", "tailrace"),
    // A missing topic is somebody's mistake: it is told, not made. (Producers would make it by default.)
    ("allow.auto.create.topics", "false"),
];

/// Refused whoever asks.
const REFUSED: [(&str, &str); 3] = [
    ("metadata.broker.list", "write it as kafka.brokers"),
    (
        "allow.auto.create.topics",
        "a misspelt topic would come into being and swallow the lines; write kafka.create_topic",
    ),
    ("plugin.library.paths", "it loads foreign code into a process that reads logs"),
];

/// Options whose values may only be references, `${env:NAME}` or `${file:PATH}`.
const SECRETS: [&str; 7] = [
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.secret",
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "ssl.truststore.password",
];

/// Other names of the same option, as librdkafka 2.12 has them: alias, then option.
const ALIASES: [(&str, &str); 12] = [
    ("acks", "request.required.acks"),
    ("bootstrap.servers", "metadata.broker.list"),
    ("compression.type", "compression.codec"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    // Of a topic once, now an alias in effect: both switch the consumer's commits behind our back.
    ("auto.commit.enable", "enable.auto.commit"),
];

/// The common settings, with `passed` over them; what goes on top is the caller's.
///
/// `refused` are the options that would weaken the caller's promise, each with the reason; all names of an option count.
/// Secret options must be references; other values may be.
///
/// Errors: no broker, a refused or unknown option, a value librdkafka does not take, a secret written out.
pub fn client(
    brokers: &[String],
    passed: &BTreeMap<String, String>,
    refused: &[(&str, &str)],
) -> Result<ClientConfig, KafkaConfigError> {
    check_brokers(brokers)?;
    let mut config = ClientConfig::new();
    // Warnings come as log events; notices and below only on debugging. The connection's ups and downs are told by the daemons.
    config.set_log_level(RDKafkaLogLevel::Warning);
    config.set("bootstrap.servers", brokers.join(","));
    for (key, value) in COMMON {
        config.set(key, value);
    }
    for (key, written) in passed {
        let is_same = |(other, _): &&(&str, &str)| canonical(other) == canonical(key);
        if let Some((_, why)) = refused.iter().chain(&REFUSED).find(is_same) {
            return Err(KafkaConfigError::Refused { key: key.clone(), why: (*why).to_owned() });
        }
        let value = value(key, written)?;
        check(key, value.expose())?;
        config.set(key, value.expose());
    }
    Ok(config)
}

/// librdkafka's version, such as `2.12.1`.
pub fn version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

fn canonical(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, option)| option)
}

fn check_brokers(brokers: &[String]) -> Result<(), KafkaConfigError> {
    if brokers.is_empty() {
        return Err(KafkaConfigError::NoBrokers);
    }
    let is_address = |broker: &str| {
        let (host, port) = broker.rsplit_once(':').unwrap_or_default();
        !host.is_empty() && !host.contains([',', ' ', '\t']) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    match brokers.iter().find(|broker| !is_address(broker)) {
        Some(broker) => Err(KafkaConfigError::Broker { broker: broker.clone() }),
        None => Ok(()),
    }
}

fn value(key: &str, written: &str) -> Result<Secret, KafkaConfigError> {
    if !SECRETS.contains(&key) && !Secret::is_reference(written) {
        return Ok(Secret::from_plain(written));
    }
    Secret::resolve(written).map_err(|source| KafkaConfigError::Secret { key: key.to_owned(), source })
}

const NO_KERBEROS: &str = "this program is built without Kerberos: build it with `--features kerberos`";

/// librdkafka takes the option in any case, and fails when it connects.
fn has_kerberos() -> bool {
    let features = ClientConfig::new().create_native_config().and_then(|config| config.get("builtin.features"));
    features.is_ok_and(|features| features.split(',').any(|feature| feature == "sasl_gssapi"))
}

/// Asks librdkafka about one option by itself, so that the error can name it.
fn check(key: &str, value: &str) -> Result<(), KafkaConfigError> {
    let mut one = ClientConfig::new();
    one.set(key, value);
    let reason = match one.create_native_config() {
        Ok(_) if canonical(key) != "sasl.mechanisms" || value != "GSSAPI" || has_kerberos() => return Ok(()),
        Ok(_) => NO_KERBEROS.to_owned(),
        // librdkafka quotes the value.
        Err(_) if SECRETS.contains(&key) => "librdkafka does not take the value".to_owned(),
        Err(KafkaError::ClientConfig(_, reason, ..)) => reason,
        // A zero byte in key or value.
        Err(_) => "not text that librdkafka can take".to_owned(),
    };
    Err(KafkaConfigError::Option { key: key.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: (&str, &str) = ("request.required.acks", "set kafka.acks");

    fn of(passed: &[(&str, &str)]) -> Result<ClientConfig, KafkaConfigError> {
        let passed = passed.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        client(&["127.0.0.1:9092".into(), "[::1]:9093".into()], &passed, &[REASON])
    }

    #[track_caller]
    fn refuses(passed: &[(&str, &str)], message: &str) {
        let error = of(passed).expect_err("refused").to_string();
        assert!(error.contains(message), "{error}");
    }

    #[test]
    fn common_settings_stand_and_passed_ones_win() {
        let config = of(&[("socket.timeout.ms", "7000"), ("linger.ms", "50")]).expect("sound");
        let expected = [
            ("allow.auto.create.topics", "false"),
            ("bootstrap.servers", "127.0.0.1:9092,[::1]:9093"),
            ("client.id", "tailrace"),
            ("linger.ms", "50"),
            ("reconnect.backoff.max.ms", "2000"),
            ("socket.keepalive.enable", "true"),
            ("socket.timeout.ms", "7000"),
        ];
        assert_eq!(config.config_map(), BTreeMap::from(expected));
        config.create_native_config().expect("librdkafka takes all of it");
    }

    #[test]
    fn an_option_that_weakens_the_promise_is_refused_under_each_of_its_names() {
        refuses(&[("request.required.acks", "0")], "request.required.acks is refused: set kafka.acks");
        refuses(&[("acks", "0")], "acks is refused: set kafka.acks");
        refuses(&[("bootstrap.servers", "127.0.0.1:1")], "bootstrap.servers is refused: write it as kafka.brokers");
        refuses(&[("metadata.broker.list", "127.0.0.1:1")], "write it as kafka.brokers");
        refuses(&[("allow.auto.create.topics", "true")], "write kafka.create_topic");
        refuses(&[("plugin.library.paths", "evil.so")], "plugin.library.paths is refused");
    }

    #[test]
    fn every_alias_is_one_that_librdkafka_has() {
        for (alias, option) in ALIASES {
            let default = |key: &str| {
                let native = ClientConfig::new().create_native_config().expect("the defaults are sound");
                native.get(key).map_err(|error| error.to_string())
            };
            // An option without a default, or of a topic, is unknown to `get`: then it must at least be one to set.
            let (one, other) = (default(alias), default(option));
            if let (Ok(one), Ok(other)) = (&one, &other) {
                assert_eq!(one, other, "{alias} and {option} differ");
            }
        }
    }

    #[test]
    fn what_librdkafka_does_not_know_is_told_with_the_option() {
        refuses(&[("soket.timeout.ms", "1")], "kafka.librdkafka: soket.timeout.ms: ");
        refuses(&[("socket.timeout.ms", "soon")], "socket.timeout.ms: ");
        refuses(&[("client.id", "a\0b")], "client.id: not text");
    }

    #[test]
    fn kerberos_is_refused_where_it_is_not_built_in() {
        let passed = [("security.protocol", "sasl_ssl"), ("sasl.mechanism", "GSSAPI")];
        match has_kerberos() {
            true => _ = of(&passed).expect("it is built in"),
            false => refuses(&passed, "sasl.mechanism: this program is built without Kerberos"),
        }
        of(&[("sasl.mechanisms", "PLAIN")]).expect("no Kerberos");
    }

    #[test]
    fn a_secret_is_a_reference_and_is_never_told() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "canary-4711\n").expect("writable");
        let reference = format!("${{file:{}}}", path.display());
        let config = of(&[("sasl.password", &reference), ("sasl.username", &reference)]).expect("sound");
        assert_eq!(config.get("sasl.password"), Some("canary-4711"));
        assert_eq!(config.get("sasl.username"), Some("canary-4711"), "any option may refer");
        for key in SECRETS {
            let error = of(&[(key, "canary-4711")]).expect_err("a literal");
            assert!(error.to_string().contains("${env:NAME}"), "{error}");
            assert!(!format!("{error} {error:?}").contains("4711"), "{error:?}");
        }
        std::fs::write(&path, "canary\0-4711").expect("writable");
        let error = of(&[("sasl.password", &reference)]).expect_err("no C string");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        let with = |brokers: &[&str]| {
            let brokers: Vec<String> = brokers.iter().map(|&broker| broker.to_owned()).collect();
            client(&brokers, &BTreeMap::new(), &[]).expect_err("refused").to_string()
        };
        assert!(with(&[]).contains("kafka.brokers: empty"));
        for broker in ["", "kafka", "kafka:", ":9092", "kafka:0", "kafka:port", "a:1,b:2"] {
            assert!(with(&["ok:1", broker]).contains(&format!("`{broker}` is not an address")), "{broker}");
        }
    }

    #[test]
    fn the_version_is_librdkafkas() {
        let version = version();
        assert!(version.split('.').count() >= 3 && version.starts_with('2'), "{version}");
    }
}
