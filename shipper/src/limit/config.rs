//! What `agent.yaml` says under `limits` → plans. Pure; a value that cannot be read is an error at its line and column.

use super::schedule::Schedule;
use crate::config::{Delivery, KafkaConfig};
use crate::topic::is_name;
use event::Priority;
use serde::{Deserialize, Deserializer, de};
use service::load::{ByteSize, Placed, parse_duration};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Longest window and burst: a limit that looks further back is no rate.
const SPAN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest window: below that a bucket does the same.
const WINDOW_MIN: Duration = Duration::from_secs(1);

/// One rate plan, as it is written. YAML: an entry of `limits`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanConfig {
    /// Unique name, for logs and metrics. Required.
    pub name: Placed<String>,
    /// Which records it is for. Default: all.
    #[serde(default, rename = "match")]
    pub matches: MatchConfig,
    /// `host`, `input`, `file`, `priority` or `field:NAME`: one limit for each value. Default `host`.
    #[serde(default)]
    pub scope: Scope,
    /// How much may pass. Required.
    pub rate: RateConfig,
    /// After a pause so long everything passes. Default `1s`; for a bucket.
    #[serde(default)]
    pub burst: Option<Span>,
    /// `bucket`, `fixed:1m` or `sliding:1m`. Default `bucket`.
    #[serde(default)]
    pub window: Window,
    /// When it is in force. Default: always.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// Percent that is kept free for each priority. What one does not use is lent to the others. Default: none.
    #[serde(default)]
    pub shares: Option<SharesConfig>,
    /// What becomes of what is too much: `wait`, `drop` or `{divert: TOPIC}`. Default `wait`.
    #[serde(default)]
    pub excess: Excess,
}

/// YAML: `match`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchConfig {
    /// Ids of inputs. Default: all.
    #[serde(default)]
    pub input: Vec<String>,
    /// Priorities. Default: all.
    #[serde(default)]
    pub priority: Vec<Priority>,
}

/// YAML: `rate`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// Bytes of lines, such as `20MiB/s`.
    #[serde(default, deserialize_with = "bytes")]
    pub bytes: Option<Rate>,
    /// Events, such as `50000/s`.
    #[serde(default, deserialize_with = "events")]
    pub events: Option<Rate>,
}

/// YAML: `shares`, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharesConfig {
    /// Of inputs with `priority: high`.
    #[serde(default)]
    pub high: u8,
    /// Of inputs with `priority: normal`.
    #[serde(default)]
    pub normal: u8,
    /// Of inputs with `priority: low`.
    #[serde(default)]
    pub low: u8,
}

impl SharesConfig {
    fn of(self) -> [u8; 3] {
        [self.high, self.normal, self.low]
    }
}

/// So much in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes or events.
    pub amount: u64,
    /// The time for them.
    pub period: Duration,
}

impl Rate {
    /// `20MiB/s`, `1GB/h`.
    pub(crate) fn bytes(text: &str) -> Result<Self, String> {
        Self::parse(text, |amount| amount.parse::<ByteSize>().map(|size| size.0).ok())
            .ok_or_else(|| format!("`{text}` is no rate of bytes: expected 20MiB/s, 500kB/m or 1GB/h"))
    }

    /// `50000/s`, `100/m`.
    pub(crate) fn events(text: &str) -> Result<Self, String> {
        Self::parse(text, |amount| amount.parse().ok())
            .ok_or_else(|| format!("`{text}` is no rate of events: expected 50000/s, 100/m or 10/h"))
    }

    fn parse(text: &str, amount: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        let (number, unit) = text.trim().rsplit_once('/')?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return None,
        };
        let amount = amount(number.trim()).filter(|amount| *amount > 0 && *amount <= u64::MAX >> 24)?;
        Some(Self { amount, period: Duration::from_secs(seconds) })
    }

    /// This part of it, in percent.
    pub(crate) fn percent(self, share: u8) -> Self {
        Self { amount: self.amount.saturating_mul(share.into()), period: self.period * 100 }
    }

    /// What it lets pass in `time`, at least 1.
    pub(crate) fn within(self, time: Duration) -> u64 {
        let amount = u128::from(self.amount) * time.as_nanos() / self.period.as_nanos().max(1);
        u64::try_from(amount).unwrap_or(u64::MAX).max(1)
    }

    /// In one second.
    pub(crate) fn per_second(self) -> f64 {
        self.amount as f64 / self.period.as_secs_f64()
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    rate(deserializer, Rate::bytes)
}

fn events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    rate(deserializer, Rate::events)
}

fn rate<'de, D: Deserializer<'de>>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<Rate, String>,
) -> Result<Option<Rate>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse(&text)).transpose().map_err(de::Error::custom)
}

/// A time of at most a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let span = parse_duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)?;
        if span.is_zero() || span > SPAN_MAX {
            return Err(de::Error::custom(format!("{span:?} is not between 1ms and 24h")));
        }
        Ok(Self(span))
    }
}

/// How a rate is measured. YAML: `window`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Window {
    /// A bucket that fills at the rate: GCRA.
    #[default]
    Bucket,
    /// So much in each window, one behind the other, since the plan began.
    Fixed(Duration),
    /// So much in any window.
    Sliding(Duration),
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let unknown = || de::Error::custom(format!("`{text}` is no window: expected bucket, fixed:1m or sliding:1m"));
        let (kind, length) = match text.split_once(':') {
            None if text == "bucket" => return Ok(Self::Bucket),
            None => return Err(unknown()),
            Some((kind, length)) => (kind, parse_duration(length).map_err(|_| unknown())?),
        };
        if !(WINDOW_MIN..=SPAN_MAX).contains(&length) {
            return Err(de::Error::custom(format!("`{text}`: a window is 1s to 24h long")));
        }
        match kind {
            "fixed" => Ok(Self::Fixed(length)),
            "sliding" => Ok(Self::Sliding(length)),
            _ => Err(unknown()),
        }
    }
}

/// What has a limit of its own. YAML: `scope`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of this host together.
    #[default]
    Host,
    /// Each input.
    Input,
    /// Each file; of other inputs the input.
    File,
    /// Each priority.
    Priority,
    /// Each value of a field, named with dots.
    Field(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Input => f.write_str("input"),
            Self::File => f.write_str("file"),
            Self::Priority => f.write_str("priority"),
            Self::Field(name) => write!(f, "field:{name}"),
        }
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.as_str() {
            "host" => Self::Host,
            "input" => Self::Input,
            "file" => Self::File,
            "priority" => Self::Priority,
            _ => match text.strip_prefix("field:").map(str::trim) {
                Some(name) if name.split('.').all(|part| !part.is_empty()) => Self::Field(name.to_owned()),
                _ => {
                    return Err(de::Error::custom(format!(
                        "`{text}` is no scope: expected host, input, file, priority or field:service.name"
                    )));
                }
            },
        })
    }
}

/// What becomes of what is too much. YAML: `excess`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Excess {
    /// It stays in its file.
    #[default]
    Wait,
    /// It is dropped, and counted.
    Drop,
    /// It goes to this topic.
    Divert(String),
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait => f.write_str("wait"),
            Self::Drop => f.write_str("drop"),
            Self::Divert(topic) => write!(f, "divert: {topic}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DivertConfig {
    divert: String,
}

impl<'de> Deserialize<'de> for Excess {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kinds;
        impl<'de> de::Visitor<'de> for Kinds {
            type Value = Excess;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("wait, drop or {divert: TOPIC}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Excess, E> {
                match text {
                    "wait" => Ok(Excess::Wait),
                    "drop" => Ok(Excess::Drop),
                    _ => Err(E::custom(format!("`{text}` is no excess: expected wait, drop or {{divert: TOPIC}}"))),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Excess, A::Error> {
                let written = DivertConfig::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Excess::Divert(written.divert))
            }
        }
        deserializer.deserialize_any(Kinds)
    }
}

/// A rate plan in the form that is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Unique name.
    pub name: Arc<str>,
    pub(crate) inputs: BTreeSet<String>,
    pub(crate) priorities: Vec<Priority>,
    pub(crate) scope: Scope,
    pub(crate) bytes: Option<Rate>,
    pub(crate) events: Option<Rate>,
    pub(crate) burst: Duration,
    pub(crate) window: Window,
    pub(crate) schedule: Option<Schedule>,
    /// By [`rank`]; percent.
    pub(crate) shares: Option<[u8; 3]>,
    pub(crate) excess: Excess,
}

impl Plan {
    /// What becomes of what is too much.
    pub fn excess(&self) -> &Excess {
        &self.excess
    }
}

/// Where a priority stands in `shares`.
pub(crate) fn rank(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

/// What is wrong with a plan, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(":{line}:{column}: limit {name:?}: {what}")]
pub struct PlanError {
    /// Line of its name, from 1.
    pub line: u64,
    /// Column of its name, from 1.
    pub column: u64,
    /// Its name.
    pub name: String,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Checks the plans. `inputs`: the ids that there are; `None` if more may come.
///
/// Errors: the first plan that cannot be used.
pub fn compile(configs: &[PlanConfig], kafka: &KafkaConfig, inputs: Option<&[&str]>) -> Result<Vec<Plan>, PlanError> {
    let mut names = BTreeSet::new();
    let check = |config: &PlanConfig| {
        let at = &config.name.referenced;
        let is_new = names.insert(config.name.value.clone());
        let plan = if is_new { plan(config, kafka, inputs) } else { Err("the name is used by an earlier plan".into()) };
        plan.map_err(|what| PlanError { line: at.line(), column: at.column(), name: config.name.value.clone(), what })
    };
    configs.iter().map(check).collect()
}

fn plan(config: &PlanConfig, kafka: &KafkaConfig, inputs: Option<&[&str]>) -> Result<Plan, String> {
    let PlanConfig { name, matches, scope, rate, burst, window, schedule, shares, excess } = config;
    if name.value.is_empty() {
        return Err("name is empty".into());
    }
    if rate.bytes.is_none() && rate.events.is_none() {
        return Err("rate: give bytes, events or both, such as {bytes: 20MiB/s, events: 50000/s}".into());
    }
    if burst.is_some() && *window != Window::Bucket {
        return Err("burst is for window: bucket; a fixed or sliding window lets its whole amount pass at once".into());
    }
    if let Some(unknown) = matches.input.iter().find(|id| inputs.is_some_and(|known| !known.contains(&id.as_str()))) {
        return Err(format!("match.input: there is no input {unknown:?}"));
    }
    if let Some(shares) = shares {
        let sum: u32 = shares.of().into_iter().map(u32::from).sum();
        if sum == 0 || sum > 100 {
            return Err(format!("shares: high, normal and low are percent and add up to {sum}: 1 to 100 is possible"));
        }
        if *scope == Scope::Priority {
            return Err("shares: with scope: priority each priority has a limit of its own already".into());
        }
    }
    if let Excess::Divert(to) = excess {
        if kafka.delivery == Delivery::ExactlyOnce {
            return Err("excess.divert: not with kafka.delivery: exactly_once, for what is diverted has a client of its own and \
                        would not be in the transaction: use wait or drop"
                .into());
        }
        if !is_name(to) {
            return Err(format!("excess.divert: {to:?} is not a topic name (1 to 249 of a-z A-Z 0-9 . _ -)"));
        }
        let topics = [
            ("kafka.topic", Some(kafka.topic.as_str())),
            ("kafka.fallback_topic", kafka.fallback_topic.as_deref()),
            ("kafka.dead_letter_topic", kafka.dead_letter_topic.as_deref()),
        ];
        if let Some((key, _)) = topics.iter().find(|(_, topic)| *topic == Some(to)) {
            return Err(format!("excess.divert: {to:?} is {key} itself: what is diverted needs a topic of its own"));
        }
    }
    Ok(Plan {
        name: name.value.as_str().into(),
        inputs: matches.input.iter().cloned().collect(),
        priorities: matches.priority.clone(),
        scope: scope.clone(),
        bytes: rate.bytes,
        events: rate.events,
        burst: burst.map_or(Duration::from_secs(1), |burst| burst.0),
        window: *window,
        schedule: schedule.clone(),
        shares: shares.map(SharesConfig::of),
        excess: excess.clone(),
    })
}

#[cfg(test)]
mod tests;
