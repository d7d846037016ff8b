//! YAML: `overflow`: the topics that take what rate plans divert.

use serde::de::Unexpected;
use serde::{Deserialize, Deserializer, de};

/// YAML: `overflow`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OverflowConfig {
    /// The topics; each must exist. Default none.
    pub topics: Vec<String>,
    /// They are read at full speed while the group lags by so few records on the main topics; again once it is half of that. Default
    /// 10000.
    #[serde(deserialize_with = "max_lag")]
    pub max_lag: u64,
    /// So many percent of the records taken are always theirs, as long as they have any. Default 5.
    #[serde(deserialize_with = "min_share")]
    pub min_share: u8,
}

impl Default for OverflowConfig {
    fn default() -> Self {
        Self { topics: Vec::new(), max_lag: 10_000, min_share: 5 }
    }
}

fn max_lag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        0 => Err(de::Error::invalid_value(Unexpected::Unsigned(0), &"overflow.max_lag of at least 1 record")),
        lag => Ok(lag),
    }
}

fn min_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let share = u64::deserialize(deserializer)?;
    let told = || de::Error::invalid_value(Unexpected::Unsigned(share), &"overflow.min_share of 1 to 100 percent");
    u8::try_from(share).ok().filter(|share| (1..=100).contains(share)).ok_or_else(told)
}

#[cfg(test)]
mod tests {
    use crate::config::IndexerConfig;
    use std::path::Path;

    fn config(overflow: &str) -> Result<IndexerConfig, String> {
        let text =
            format!("kafka: {{brokers: [x], topics: [logs]}}\nelasticsearch: {{hosts: [x]}}\noverflow: {overflow}\n");
        let config: IndexerConfig =
            service::load::parse_config(Path::new("indexer.yaml"), &text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn topics_have_a_limit_and_a_share() {
        let overflow = config("{topics: [logs-later]}").expect("it is valid").overflow;
        assert_eq!((overflow.max_lag, overflow.min_share), (10_000, 5));
    }

    #[track_caller]
    fn check(overflow: &str, reason: &str) {
        let told = config(overflow).expect_err("it is wrong");
        assert!(told.contains(reason), "{told}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        check("{min_share: 0}", "indexer.yaml:3:12: ");
        check("{min_share: 0}", "overflow.min_share of 1 to 100 percent");
        check("{min_share: 101}", "overflow.min_share of 1 to 100 percent");
        check("{max_lag: 0}", "overflow.max_lag of at least 1 record");
        check("{share: 5}", "unknown field `share`");
        check("{topics: [logs]}", "overflow.topics: `logs` is also in kafka.topics");
        check("{topics: [logs-dead]}", "is dead_letter.topic");
        check("{topics: [later.30s]}\nretry: {delays: [30s], topic: later}", "retry: `later.30s` is also");
    }
}
