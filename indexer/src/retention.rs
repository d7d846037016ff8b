//! Topics that are read → how long they keep records, and how fast those grow that keep a number of bytes: one thread with a
//! client of its own, which it has only while it asks.

use crate::forecast::{Growth, Keeps};
use crate::topics::Topics;
use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use service::clock::{monotonic, wall_ms};
use service::stop::Stop;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How often the settings of a topic are asked for.
const ASK_EVERY: Duration = Duration::from_secs(300);
/// How often the ends of partitions are looked up, where bytes are limited.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How soon it is asked again after an error.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How often it is looked whether there is something to do.
const IDLE: Duration = Duration::from_millis(500);
/// Longest wait for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Most topics of one question.
const TOPICS_MAX: usize = 200;

/// What was told last; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Retention(Arc<Mutex<BTreeMap<String, Told>>>);

/// What is known of a topic.
#[derive(Debug, Clone, Default)]
struct Told {
    keeps: Keeps,
    /// By partition; only if bytes are limited.
    growth: BTreeMap<i32, Growth>,
}

impl Retention {
    /// How long `topic` keeps records, and where this partition ends and how many records a second it gets; `None` if that was not
    /// told yet.
    pub fn of(&self, topic: &str, partition: i32) -> Option<(Keeps, Option<(i64, f64)>)> {
        let told = self.lock();
        let told = told.get(topic)?;
        Some((told.keeps, told.growth.get(&partition).and_then(Growth::get)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // Whole whatever happened.
    }

    fn set(&self, answers: BTreeMap<String, Keeps>) {
        let mut told = self.lock();
        told.retain(|topic, _| answers.contains_key(topic));
        for (topic, keeps) in answers {
            told.entry(topic).or_default().keeps = keeps;
        }
    }

    fn grown(&self, topic: &str, ends: BTreeMap<i32, i64>, now_ms: i64) {
        let mut told = self.lock();
        let Some(told) = told.get_mut(topic) else { return };
        told.growth.retain(|partition, _| ends.contains_key(partition));
        for (partition, end) in ends {
            told.growth.entry(partition).or_default().note(end, now_ms);
        }
    }

    /// Topics that keep a number of bytes.
    fn bounded(&self) -> Vec<String> {
        self.lock().iter().filter(|(_, told)| told.keeps.bytes.is_some()).map(|(topic, _)| topic.clone()).collect()
    }
}

/// Asks for `topics`, and for `always` beside them, until `stop`.
///
/// Errors: no thread can be started.
pub fn watch(
    client: ClientConfig,
    topics: Topics,
    always: Vec<String>,
    runtime: Handle,
    stop: Stop,
) -> anyhow::Result<Retention> {
    let retention = Retention::default();
    let told = retention.clone();
    let work = move || {
        let mut watcher = Watcher { client, runtime, told, ask_due: monotonic(), look_due: monotonic() };
        let mut asked = BTreeSet::new();
        while !stop.is_stopped() {
            let wanted: BTreeSet<_> = topics.now().iter().chain(&always).cloned().collect();
            watcher.turn(&wanted, &mut asked);
            std::thread::sleep(IDLE);
        }
    };
    std::thread::Builder::new().name("retention".to_owned()).spawn(work).context("starting a thread")?;
    Ok(retention)
}

struct Watcher {
    client: ClientConfig,
    runtime: Handle,
    told: Retention,
    ask_due: Instant,
    look_due: Instant,
}

impl Watcher {
    /// Asks what is due. A topic that was not `asked` for is due at once, unless the last question failed.
    fn turn(&mut self, wanted: &BTreeSet<String>, asked: &mut BTreeSet<String>) {
        let now = monotonic();
        if now >= self.ask_due || wanted != asked {
            if self.ask_due > now && asked.is_empty() {
                return; // It failed a moment ago.
            }
            let answer = self.with_client(|watcher, admin| watcher.ask(admin, wanted));
            match answer {
                Ok(answers) => {
                    self.told.set(answers);
                    asked.clone_from(wanted);
                    self.ask_due = now + ASK_EVERY;
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "asking how long topics keep records, trying on");
                    asked.clear();
                    self.ask_due = now + ASK_AGAIN;
                }
            }
        }
        if now < self.look_due {
            return;
        }
        self.look_due = now + LOOK_EVERY;
        let bounded = self.told.bounded();
        if bounded.is_empty() {
            return;
        }
        let looked = self.with_client(|watcher, admin| bounded.iter().try_for_each(|topic| watcher.look(admin, topic)));
        if let Err(error) = looked {
            tracing::warn!(error = format!("{error:#}"), "asking how fast topics grow, trying on");
        }
    }

    fn with_client<T>(
        &self,
        work: impl FnOnce(&Self, &AdminClient<DefaultClientContext>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let admin: AdminClient<DefaultClientContext> = self.client.create().context("kafka")?;
        work(self, &admin)
    }

    fn ask(
        &self,
        admin: &AdminClient<DefaultClientContext>,
        topics: &BTreeSet<String>,
    ) -> anyhow::Result<BTreeMap<String, Keeps>> {
        let (mut all, options) = (BTreeMap::new(), AdminOptions::new().request_timeout(Some(ANSWER_WAIT)));
        let topics: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        for some in topics.chunks(TOPICS_MAX) {
            for answer in self.runtime.block_on(admin.describe_configs(some, &options))? {
                let config = match answer {
                    Ok(config) => config,
                    Err(error) => {
                        // A right that is missing (DescribeConfigs), or a topic that has just gone.
                        tracing::warn!(%error, "a topic does not tell how long it keeps records; there is no forecast for it");
                        continue;
                    }
                };
                let OwnedResourceSpecifier::Topic(topic) = &config.specifier else { continue };
                let setting = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref());
                all.insert(topic.clone(), Keeps::of(setting));
            }
        }
        Ok(all)
    }

    /// Where the partitions of `topic` end.
    fn look(&self, admin: &AdminClient<DefaultClientContext>, topic: &str) -> anyhow::Result<()> {
        let metadata = admin.inner().fetch_metadata(Some(topic), ANSWER_WAIT).with_context(|| topic.to_owned())?;
        let partitions = metadata.topics().iter().flat_map(|found| found.partitions()).map(|found| found.id());
        let mut ends = BTreeMap::new();
        for partition in partitions {
            let (_, end) = admin
                .inner()
                .fetch_watermarks(topic, partition, ANSWER_WAIT)
                .with_context(|| format!("{topic}/{partition}"))?;
            ends.insert(partition, end);
        }
        self.told.grown(topic, ends, wall_ms());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_counts() {
        let retention = Retention::default();
        assert!(retention.of("logs", 0).is_none());
        let (week, bytes) = (Keeps { ms: Some(604_800_000), bytes: None }, Keeps { ms: None, bytes: Some(1 << 30) });
        retention.set(BTreeMap::from([("logs".to_owned(), week), ("metrics".to_owned(), bytes)]));
        assert_eq!(retention.of("logs", 0), Some((week, None)));
        assert_eq!(retention.bounded(), ["metrics"]);
        retention.grown("metrics", BTreeMap::from([(0, 100), (1, 100)]), 0);
        retention.grown("metrics", BTreeMap::from([(0, 300)]), 10_000);
        retention.grown("another", BTreeMap::from([(0, 300)]), 10_000);
        assert_eq!(retention.of("metrics", 0), Some((bytes, Some((300, 20.0)))));
        assert_eq!(retention.of("metrics", 1), Some((bytes, None)));
        assert!(retention.of("another", 0).is_none());
        // Settings that change keep what is known of the growth; a topic that is gone is forgotten.
        retention.set(BTreeMap::from([("metrics".to_owned(), week)]));
        assert_eq!(retention.of("metrics", 0), Some((week, Some((300, 20.0)))));
        assert!(retention.of("logs", 0).is_none());
    }

    /// The double has no controller, and does not know this question: nothing is told, nothing waits for it, and it is asked again.
    #[test]
    fn brokers_that_do_not_tell_are_asked_again() {
        let mock = rdkafka::mocking::MockCluster::new(1).expect("the mock starts");
        mock.create_topic("logs", 1, 1).expect("a topic");
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", mock.bootstrap_servers());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (runtime, told, ask_due) = (runtime.handle().clone(), Retention::default(), monotonic());
        let mut watcher = Watcher { client, runtime, told, ask_due, look_due: ask_due + LOOK_EVERY };
        let (wanted, mut asked) = (BTreeSet::from(["logs".to_owned()]), BTreeSet::new());
        watcher.turn(&wanted, &mut asked);
        assert!(asked.is_empty() && watcher.ask_due > ask_due && watcher.told.of("logs", 0).is_none());
        let begun = monotonic();
        watcher.turn(&wanted, &mut asked);
        assert!(begun.elapsed() < ANSWER_WAIT / 2, "it asked again at once");
    }
}
