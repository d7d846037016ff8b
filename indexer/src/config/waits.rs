//! YAML: `retry`: the topics in which records wait.

use serde::{Deserialize, de};
use std::time::Duration;

/// Most lengths of waits.
const DELAYS_MAX: usize = 10;
/// The shortest: below it a record would be back before the next poll.
const DELAY_MIN: Duration = Duration::from_secs(1);

/// Longest start of a topic's name: Kafka takes 249 bytes, and the delay follows.
const TOPIC_BYTES_MAX: usize = 200;

/// YAML: `retry`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Lengths of the waits, the shortest first; each has a topic of its own. Default none: what is refused for now waits where
    /// it is.
    pub delays: Delays,
    /// Refused for so long while others are taken, a document is put off. Default `30s`.
    #[serde(with = "service::load::duration")]
    pub after: Duration,
    /// What the topics' names start with. Default `logs-retry`, which makes `logs-retry.30s`.
    #[serde(deserialize_with = "topic")]
    pub topic: String,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { delays: Delays::default(), after: Duration::from_secs(30), topic: "logs-retry".to_owned() }
    }
}

impl RetryConfig {
    /// The topics, in the order of the delays.
    pub fn topics(&self) -> Vec<String> {
        self.delays.0.iter().map(|delay| format!("{}.{}", self.topic, delay.text)).collect()
    }
}

fn topic<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match (1..=TOPIC_BYTES_MAX).contains(&text.len()) && is_name(&text) {
        true => Ok(text),
        false => Err(de::Error::custom(format!(
            "retry.topic: `{text}` can start no topic's name: 1 to {TOPIC_BYTES_MAX} of a-z, A-Z, 0-9, `.`, `_` and `-`"
        ))),
    }
}

/// Lengths of waits, each longer than the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<Delay>")]
pub struct Delays(pub Vec<Delay>);

impl TryFrom<Vec<Delay>> for Delays {
    type Error = String;

    fn try_from(delays: Vec<Delay>) -> Result<Self, String> {
        if delays.len() > DELAYS_MAX {
            return Err(format!("{} delays, {DELAYS_MAX} are allowed: each is a topic", delays.len()));
        }
        let falls = delays.windows(2).find(|pair| pair[0].wait >= pair[1].wait);
        match falls {
            Some(pair) => Err(format!("{} comes after {}: each delay must be longer", pair[1].text, pair[0].text)),
            None => Ok(Self(delays)),
        }
    }
}

/// A wait as it is written: its text ends the name of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delay {
    /// `30s`.
    pub text: String,
    /// The same.
    pub wait: Duration,
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?.replace(' ', "");
        let wait = service::load::parse_duration(&text).map_err(de::Error::custom)?;
        if wait < DELAY_MIN {
            return Err(de::Error::custom(format!("{text} is too short a delay: at least {DELAY_MIN:?}")));
        }
        Ok(Self { text, wait })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::IndexerConfig;
    use std::path::Path;

    fn config(retry: &str) -> Result<IndexerConfig, String> {
        let text = format!("kafka: {{brokers: [x], topics: [logs]}}\nelasticsearch: {{hosts: [x]}}\nretry: {retry}\n");
        let config: IndexerConfig =
            service::load::parse_config(Path::new("indexer.yaml"), &text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn each_delay_has_a_topic_of_its_name() {
        let retry = config("{delays: [30s, 5 m, 1h], after: 10s}").expect("it is valid").retry;
        assert_eq!(retry.topics(), ["logs-retry.30s", "logs-retry.5m", "logs-retry.1h"]);
        assert!(config("{}").expect("it is valid").retry.topics().is_empty());
    }

    #[track_caller]
    fn check(retry: &str, reason: &str) {
        let told = config(retry).expect_err("it is wrong");
        assert!(told.contains(reason), "{told}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        check("{delays: [5m, 30s]}", "indexer.yaml:3:");
        check("{delays: [5m, 30s]}", "30s comes after 5m: each delay must be longer");
        check("{delays: [1m, 60s]}", "60s comes after 1m");
        check("{delays: [10ms]}", "indexer.yaml:3:18: ");
        check("{delays: [10ms]}", "10ms is too short a delay: at least 1s");
        check("{delays: [soon]}", "`soon` is not a duration");
        check("{delays: [30]}", "indexer.yaml:3:");
        check("{delay: [30s]}", "unknown field `delay`");
        check("{delays: [1s,2s,3s,4s,5s,6s,7s,8s,9s,10s,11s]}", "11 delays, 10 are allowed");
        check("{delays: [30s], topic: ''}", "retry.topic");
        check("{delays: [30s], topic: 'a/b'}", "retry.topic");
        check("{delays: [30s], topic: logs-dead}\ndead_letter: {topic: logs-dead.30s}", "`logs-dead.30s` is also");
    }
}
