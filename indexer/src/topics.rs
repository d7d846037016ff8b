//! `kafka.topics` and the topics that there are → the topics to read. Patterns are looked up again and again, by one thread
//! with a client of its own, so that a topic made later is read as well.
//!
//! A pattern never takes what has another part in this configuration: dead letters, retry and overflow topics, also
//! retry topics of delays that were taken out, nor what Kafka and the agents keep for themselves. What is named is read.

use crate::config::IndexerConfig;
use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use regex::Regex;
use service::stop::Stop;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the topics are looked up.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often they are asked for while the brokers do not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for the first answer, without which reading what is named begins.
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// Longest wait for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked whether to stop.
const STOP_LOOK: Duration = Duration::from_millis(200);
/// Looks in a row that a topic must be missing from: a broker that has just started does not know all.
const MISSED_MAX: u8 = 2;
/// Longest name of a topic. Source: Kafka, `Topic.MAX_NAME_LENGTH`.
const NAME_BYTES_MAX: usize = 249;
/// What begins the names of Kafka's own topics.
const INTERNAL: &str = "__";
/// Where agents keep offsets with `delivery: exactly_once`, unless told otherwise.
const AGENT_OFFSETS: &str = "tailrace-offsets";

/// Which topics are to be read. Pure.
#[derive(Debug, Clone)]
pub struct Wanted {
    named: BTreeSet<String>,
    patterns: Vec<Regex>,
    /// Topics with another part.
    others: BTreeSet<String>,
    /// What begins the names of retry topics.
    retry: String,
}

impl Wanted {
    /// Of a configuration.
    ///
    /// Errors: an entry that is neither a name nor a regular expression.
    pub fn new(config: &IndexerConfig) -> Result<Self, String> {
        let (patterns, named): (Vec<_>, Vec<_>) = config.kafka.topics.iter().partition(|topic| is_pattern(topic));
        let others = config.overflow.topics.iter().cloned().chain(config.retry.topics());
        Ok(Self {
            named: named.into_iter().cloned().collect(),
            patterns: patterns.into_iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
            others: others.chain(config.dead_letter.topic().map(str::to_owned)).collect(),
            retry: format!("{}.", config.retry.topic),
        })
    }

    /// Checks entries of `kafka.topics`.
    ///
    /// Errors: the one that is wrong.
    pub(crate) fn check(topics: &[String]) -> Result<(), String> {
        for topic in topics {
            let checked = if is_pattern(topic) { pattern(topic).map(drop) } else { check_name(topic) };
            checked.map_err(|reason| format!("kafka.topics: {reason}"))?;
        }
        Ok(())
    }

    /// Those that are named.
    pub fn named(&self) -> &BTreeSet<String> {
        &self.named
    }

    /// True if there are patterns, so that the topics to read depend on those that there are.
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Those of `known` that a pattern takes.
    pub fn matching<'k>(&self, known: impl IntoIterator<Item = &'k str>) -> BTreeSet<String> {
        known.into_iter().filter(|topic| self.takes(topic)).map(str::to_owned).collect()
    }

    fn takes(&self, topic: &str) -> bool {
        let is_another = self.others.contains(topic)
            || topic.starts_with(&self.retry)
            || topic.starts_with(INTERNAL)
            || topic == AGENT_OFFSETS;
        !is_another && self.patterns.iter().any(|pattern| pattern.is_match(topic))
    }
}

/// A topic's name or a pattern, in the tables of the configuration.
#[derive(Debug, Clone)]
pub(crate) enum Selector {
    Name(String),
    Pattern(Regex),
}

impl Selector {
    /// Of what is written.
    ///
    /// Errors: it is neither.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        if is_pattern(text) {
            return pattern(text).map(Self::Pattern);
        }
        check_name(text)?;
        Ok(Self::Name(text.to_owned()))
    }

    /// True if it means `topic`.
    pub(crate) fn takes(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => name == topic,
            Self::Pattern(pattern) => pattern.is_match(topic),
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_fit) {
        true => Ok(()),
        false => Err(format!(
            "`{name}` is no topic's name: use a-z, A-Z, 0-9, `.`, `_` and `-`; a regular expression starts with `^`"
        )),
    }
}

fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

fn pattern(text: &str) -> Result<Regex, String> {
    // The whole reason is several lines with a drawing.
    let reason = |error: regex::Error| error.to_string().lines().last().unwrap_or_default().trim().to_owned();
    Regex::new(text).map_err(|error| format!("`{text}` is no regular expression: {}", reason(error)))
}

/// The main topics that are read now; clones share them.
#[derive(Debug, Clone)]
pub struct Topics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    now: Mutex<Arc<BTreeSet<String>>>,
    /// Counts changes, so that nobody who looks in vain takes the lock.
    changes: AtomicU64,
}

impl Topics {
    /// `topics`, until others are [`Topics::set`].
    pub fn new(topics: BTreeSet<String>) -> Self {
        Self(Arc::new(Shared { now: Mutex::new(Arc::new(topics)), changes: AtomicU64::new(1) }))
    }

    /// The topics.
    pub fn now(&self) -> Arc<BTreeSet<String>> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The topics, if they changed after the change that `seen` stands for, which becomes the last one. Starts at 0.
    pub fn changed(&self, seen: &mut u64) -> Option<Arc<BTreeSet<String>>> {
        let changes = self.0.changes.load(Ordering::Acquire);
        if std::mem::replace(seen, changes) == changes {
            return None;
        }
        Some(self.now())
    }

    /// Puts `topics` in their place.
    pub fn set(&self, topics: BTreeSet<String>) {
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        if **now != topics {
            *now = Arc::new(topics);
            self.0.changes.fetch_add(1, Ordering::Release);
        }
    }
}

/// What the consumer is to be subscribed to: the main topics, and those that are always read beside them.
#[derive(Debug)]
pub struct Subscription {
    topics: Topics,
    always: Vec<String>,
    seen: u64,
}

impl Subscription {
    /// Of `topics`, and overflow and retry topics.
    pub fn new(topics: Topics, config: &IndexerConfig) -> Self {
        let always = config.overflow.topics.iter().cloned().chain(config.retry.topics()).collect();
        Self { topics, always, seen: 0 }
    }

    /// All of them, if that changed since the last call.
    pub fn changed(&mut self) -> Option<BTreeSet<String>> {
        let main = self.topics.changed(&mut self.seen)?;
        Some(main.iter().chain(&self.always).cloned().collect())
    }

    /// All of them.
    pub fn now(&mut self) -> BTreeSet<String> {
        self.seen = 0;
        self.changed().expect("a change is always seen after none")
    }
}

/// What a pattern took is let go only when it is missing for some looks in a row.
#[derive(Debug, Default)]
struct Found(BTreeMap<String, u8>);

impl Found {
    /// Takes what a look has found; returns what counts as there.
    fn note(&mut self, seen: BTreeSet<String>) -> BTreeSet<String> {
        for missed in self.0.values_mut() {
            *missed += 1;
        }
        self.0.extend(seen.into_iter().map(|topic| (topic, 0)));
        self.0.retain(|_, missed| *missed < MISSED_MAX);
        self.0.keys().cloned().collect()
    }
}

/// Starts looking, by `consumer`, which takes no part in the group, until `stop`. Without patterns nothing is looked up.
///
/// Errors: no thread can be started.
pub fn watch(consumer: BaseConsumer, wanted: Wanted, stop: Stop) -> anyhow::Result<Topics> {
    let topics = Topics::new(wanted.named.clone());
    if !wanted.has_patterns() {
        return Ok(topics);
    }
    let told = topics.clone();
    let mut found = Found::default();
    let mut step = move |wait: Duration| match look(&consumer, &wanted, wait) {
        Ok(seen) => {
            if seen.is_empty() && found.0.is_empty() {
                let patterns: Vec<_> = wanted.patterns.iter().map(Regex::as_str).collect();
                tracing::warn!(?patterns, "no topic matches yet, looking on");
            }
            told.set(wanted.named.iter().cloned().chain(found.note(seen)).collect());
            LOOK_EVERY
        }
        Err(error) => {
            tracing::warn!(%error, "asking for the topics that match, trying on");
            ASK_AGAIN
        }
    };
    let mut wait = step(FIRST_WAIT); // Here, so that the group is joined once, with what there is.
    let work = move || {
        while !stop.is_stopped() {
            let until = service::clock::monotonic() + wait;
            while !stop.is_stopped() && service::clock::monotonic() < until {
                std::thread::sleep(STOP_LOOK);
            }
            wait = step(ANSWER_WAIT);
        }
    };
    std::thread::Builder::new().name("topics".to_owned()).spawn(work).context("starting a thread")?;
    Ok(topics)
}

fn look(consumer: &BaseConsumer, wanted: &Wanted, wait: Duration) -> rdkafka::error::KafkaResult<BTreeSet<String>> {
    let metadata = consumer.fetch_metadata(None, wait)?;
    Ok(wanted.matching(metadata.topics().iter().map(|topic| topic.name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn wanted(topics: &str, more: &str) -> Wanted {
        let text = format!("kafka: {{brokers: [x], topics: {topics}}}\nelasticsearch: {{hosts: [x]}}\n{more}");
        let config = service::load::parse_config(Path::new("indexer.yaml"), &text).expect("a valid configuration");
        Wanted::new(&config).expect("valid topics")
    }

    fn set(topics: &[&str]) -> BTreeSet<String> {
        topics.iter().map(|topic| (*topic).to_owned()).collect()
    }

    #[test]
    fn a_pattern_takes_what_matches_from_the_start_of_the_name() {
        let wanted = wanted("['^logs-(nginx|app)$', '^audit', plain]", "");
        let known = ["logs-nginx", "logs-app2", "xlogs-app", "logs-app", "audit", "audit-2", "plain", "plain-2"];
        assert_eq!(wanted.matching(known), set(&["logs-nginx", "logs-app", "audit", "audit-2"]));
        assert_eq!(*wanted.named(), set(&["plain"]));
        assert!(!self::wanted("[plain]", "").has_patterns());
    }

    #[test]
    fn a_pattern_never_takes_a_topic_of_another_part() {
        let more = "overflow: {topics: [logs-later]}\nretry: {delays: [30s]}\ndead_letter: {topic: logs-dead}";
        let known = [
            "logs",
            "logs-later",
            "logs-retry.30s",
            "logs-retry.1h", // Of a delay that was taken out.
            "logs-retry",
            "logs-dead",
            "__consumer_offsets",
            "tailrace-offsets",
        ];
        assert_eq!(wanted("['^.*']", more).matching(known), set(&["logs", "logs-retry"]));
        // In a file: then the topic of that name is one like others.
        assert_eq!(wanted("['^logs-d']", "dead_letter: {file: /tmp/x}").matching(known), set(&["logs-dead"]));
    }

    #[test]
    fn what_is_missing_once_is_still_there() {
        let mut found = Found::default();
        assert_eq!(found.note(set(&["a", "b"])), set(&["a", "b"]));
        assert_eq!(found.note(set(&["b"])), set(&["a", "b"]));
        assert_eq!(found.note(set(&["b", "c"])), set(&["b", "c"]));
        assert_eq!(found.note(set(&[])), set(&["b", "c"]));
        assert_eq!(found.note(set(&["c"])), set(&["c"]));
    }

    #[test]
    fn a_change_is_told_once() {
        let (topics, mut seen) = (Topics::new(set(&["a"])), 0);
        assert_eq!(topics.changed(&mut seen).as_deref(), Some(&set(&["a"])));
        topics.set(set(&["a"]));
        assert_eq!(topics.changed(&mut seen), None);
        topics.set(set(&["a", "b"]));
        assert_eq!(topics.changed(&mut seen).as_deref(), Some(&set(&["a", "b"])));
        assert_eq!(topics.changed(&mut seen), None);
    }
}
