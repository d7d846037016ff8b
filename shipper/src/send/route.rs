//! Topics by name: which there are, how a template chooses one, and what is known of each.

use super::Waiting;
use crate::config::{Partitioner, ShipperConfig};
use crate::key::Chooser;
use crate::lanes::Lanes;
use crate::metrics::ShipperMetrics;
use crate::template::{Of, Template};
use crate::topic::{Facts, Found, is_confined, is_name};
use event::{Group, Input};
use service::backoff::Backoff;
use service::clock::monotonic;
use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most topics that one agent sends to; what would go to more goes to the fallback topic.
const TOPICS_MAX: usize = 1_000;
/// A topic that is not there is asked for again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// So many names that are no topics are asked for in that time: a log line may make up any number of them.
const ASKS_MAX: usize = 20;
/// Room in a record for what the broker counts beside the payload: key, headers, framing.
const RECORD_FRAME_BYTES: usize = 1_024;
/// What a request costs beside its records, at most.
const REQUEST_FRAME_BYTES: usize = 1_024;
/// A batch that was refused as too large though the topic tells no other limit halves the batches, down to this.
const BATCH_BYTES_MIN: usize = 16 * 1_024;
/// Holds of a topic whose records failed: the first, and the longest.
const HOLD: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Without a failure for so long the next hold is short again.
const HOLD_FORGOTTEN: Duration = Duration::from_secs(30);

/// A topic that is sent to.
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    pub(crate) facts: Facts,
    pub(crate) lanes: Lanes<Waiting>,
    /// Largest payload with its key and headers.
    pub(crate) record_bytes_max: usize,
    /// Nothing is handed over before.
    pub(crate) held_until: Option<Instant>,
    chooser: Chooser,
    backoff: Backoff,
    failed_at: Option<Instant>,
}

impl Route {
    /// The partition of `bytes` bytes of records with `key`.
    pub(crate) fn choose(&mut self, key: &[u8], bytes: usize) -> usize {
        let Self { chooser, lanes, .. } = self;
        let chosen = chooser.choose(key, bytes, lanes.len(), |at| lanes.is_open(at));
        chosen.min(lanes.len() - 1) // An explicit one is there, or the topic is looked at again.
    }

    /// Its records failed: a pause before the next ones.
    pub(crate) fn hold(&mut self) {
        let now = monotonic();
        if self.failed_at.is_none_or(|before| now.duration_since(before) > HOLD_FORGOTTEN) {
            self.backoff.reset();
        }
        self.failed_at = Some(now);
        self.held_until = Some(now + self.backoff.next());
    }

    pub(crate) fn is_held(&mut self, now: Instant) -> bool {
        self.held_until = self.held_until.filter(|until| *until > now);
        self.held_until.is_some()
    }
}

/// All topics; the first one is the fixed topic or the fallback.
pub(crate) struct Routes {
    routes: Vec<Route>,
    names: HashMap<String, Known>,
    asked: Vec<Instant>,
    name: String,
    make: Make,
    metrics: ShipperMetrics,
}

enum Known {
    Route(usize),
    Unusable(Instant),
}

/// What all routes are made with.
struct Make {
    partition: Option<u32>,
    partitioner: Partitioner,
    batch_bytes: usize,
    linger: Duration,
    /// What the client takes.
    message_bytes_max: usize,
}

impl Make {
    fn batch_bytes(&self, facts: Facts) -> usize {
        self.batch_bytes.min(facts.message_bytes_max).saturating_sub(REQUEST_FRAME_BYTES)
    }

    fn record_bytes_max(&self, facts: Facts) -> usize {
        facts.message_bytes_max.min(self.message_bytes_max).saturating_sub(RECORD_FRAME_BYTES)
    }

    fn route(&self, name: &str, facts: Facts) -> Route {
        let batch_bytes = self.batch_bytes(facts);
        Route {
            name: name.into(),
            facts,
            lanes: Lanes::new(facts.partitions, batch_bytes, self.linger),
            record_bytes_max: self.record_bytes_max(facts),
            held_until: None,
            chooser: Chooser::new(self.partition, self.partitioner, batch_bytes),
            backoff: Backoff::new(HOLD.0, HOLD.1),
            failed_at: None,
        }
    }
}

impl Routes {
    /// `facts`: of the fixed topic.
    pub(crate) fn new(config: &ShipperConfig, facts: Facts, metrics: ShipperMetrics) -> Self {
        let kafka = &config.kafka;
        let make = Make {
            partition: kafka.partition,
            partitioner: kafka.partitioner,
            batch_bytes: usize::try_from(kafka.batch_bytes.0).unwrap_or(usize::MAX),
            linger: kafka.linger,
            message_bytes_max: facts.message_bytes_max,
        };
        let first = make.route(&config.fixed_topic, facts);
        let names = HashMap::from([(first.name.to_string(), Known::Route(0))]);
        Self { routes: vec![first], names, asked: Vec::new(), name: String::new(), make, metrics }
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// The topic of so many `records`: that of the template, if there is such a one.
    pub(crate) fn of(&mut self, template: &Template, of: Of<'_>, records: usize) -> usize {
        if template.is_literal() {
            return 0;
        }
        let is_fit = template.render(of, &mut self.name, is_confined) && is_name(&self.name);
        let reason = match self.names.get(&self.name) {
            _ if !is_fit => "unfit_value",
            Some(Known::Route(route)) => return *route,
            _ => "no_topic",
        };
        self.metrics.topic_fallback.with_label_values(&[reason]).inc_by(records as u64);
        0
    }

    /// Names of topics that records of `group` ask for and that nobody has looked at, or not lately.
    pub(crate) fn unknown(&mut self, template: &Template, host: &str, group: &Group, input: &Input) -> Vec<String> {
        let mut unknown = Vec::new();
        if template.is_literal() {
            return unknown;
        }
        let now = monotonic();
        self.asked.retain(|at| now.duration_since(*at) < ASK_AGAIN);
        let records = if template.is_of_lines() { group.records.len() } else { 1 };
        for record in group.records.iter().take(records) {
            if self.routes.len() + unknown.len() >= TOPICS_MAX || self.asked.len() + unknown.len() >= ASKS_MAX {
                break;
            }
            let of = Of { host, source: &group.source, input, extra: record.extra.as_deref() };
            let is_fit = template.render(of, &mut self.name, is_confined) && is_name(&self.name);
            let is_known = match self.names.get(&self.name) {
                Some(Known::Route(_)) => true,
                Some(Known::Unusable(asked)) => now.duration_since(*asked) < ASK_AGAIN,
                None => unknown.contains(&self.name),
            };
            if is_fit && !is_known {
                unknown.push(self.name.clone());
            }
        }
        unknown
    }

    /// What the cluster said of the topic `name`. Returns its number, if it can be used.
    pub(crate) fn add(&mut self, name: &str, found: Found) -> Option<usize> {
        let at = self.routes.iter().position(|route| &*route.name == name);
        match found {
            Found::Topic(facts) => {
                let at = at.unwrap_or_else(|| {
                    self.routes.push(self.make.route(name, facts));
                    self.routes.len() - 1
                });
                self.adjust(at, facts, false);
                self.names.insert(name.to_owned(), Known::Route(at));
                Some(at)
            }
            Found::Unusable(reason) => {
                tracing::warn!(
                    topic = name,
                    reason,
                    fallback = &*self.routes[0].name,
                    "its records go to the fallback topic"
                );
                if let Some(route) = at.and_then(|at| self.routes.get_mut(at)) {
                    route.lanes.set_partitions(0); // What waits is given back, and takes another way.
                }
                let now = monotonic();
                self.asked.push(now);
                self.names
                    .retain(|_, known| !matches!(known, Known::Unusable(at) if now.duration_since(*at) >= ASK_AGAIN));
                self.names.insert(name.to_owned(), Known::Unusable(now));
                None
            }
        }
    }

    /// Its partitions were counted again. That there are none is not believed: a look at the topic decides.
    pub(crate) fn set_partitions(&mut self, at: usize, partitions: usize) {
        let route = &mut self.routes[at];
        if partitions > route.facts.partitions {
            tracing::info!(
                topic = &*route.name,
                partitions,
                "the topic has more partitions, which are used from now on"
            );
            route.facts.partitions = partitions;
            route.lanes.set_partitions(partitions);
        }
    }

    /// What a second look found. A limit that did not change though a batch was refused was too high all the same.
    pub(crate) fn adjust(&mut self, at: usize, facts: Facts, was_too_large: bool) {
        let route = &mut self.routes[at];
        let batch_bytes = if was_too_large && facts.message_bytes_max == route.facts.message_bytes_max {
            (route.lanes.batch_bytes() / 2).max(BATCH_BYTES_MIN)
        } else {
            self.make.batch_bytes(facts)
        };
        route.lanes.set_batch_bytes(batch_bytes);
        route.lanes.set_partitions(facts.partitions);
        route.record_bytes_max = self.make.record_bytes_max(facts);
        route.facts = facts;
    }
}

impl Index<usize> for Routes {
    type Output = Route;

    fn index(&self, route: usize) -> &Route {
        &self.routes[route]
    }
}

impl IndexMut<usize> for Routes {
    fn index_mut(&mut self, route: usize) -> &mut Route {
        &mut self.routes[route]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;
    use event::{Extra, Incarnation, Source, StreamId};
    use service::metrics::Registry;

    const FACTS: Facts =
        Facts { message_bytes_max: 100_000, partitions: 3, replicas: 1, insync_min: None, unclean_election: None };

    fn routes(kafka: &str) -> (Routes, Template) {
        let kafka: KafkaConfig =
            service::load::parse_config("agent.yaml".as_ref(), &format!("{{brokers: ['a:1'], {kafka}}}"))
                .expect("valid");
        let config = ShipperConfig::new("web-01", kafka, Duration::from_secs(1)).expect("valid");
        (Routes::new(&config, FACTS, ShipperMetrics::new(&Registry::default())), config.topic)
    }

    /// The topic of a line in which a parser found `user`.
    fn of(routes: &mut Routes, template: &Template, user: &str) -> String {
        let input = Arc::new(Input::default());
        let source = Source::new(StreamId(1), input.clone(), "/a".into(), Incarnation(1), 0);
        let fields = serde_json::json!({ "user": user }).to_string();
        let extra = Extra { fields, ..Extra::default() };
        let at = routes.of(template, Of { host: "web-01", source: &source, input: &input, extra: Some(&extra) }, 1);
        routes[at].name.to_string()
    }

    #[test]
    fn no_value_of_a_line_leaves_the_template() {
        let (mut routes, template) = routes("topic: 'logs-{user}', fallback_topic: rest");
        assert_eq!(routes.add("logs-shop", Found::Topic(FACTS)), Some(1));
        assert_eq!(routes.add("other", Found::Topic(FACTS)), Some(2));
        assert_eq!(of(&mut routes, &template, "shop"), "logs-shop");
        for hostile in
            ["", "../other", "/other", "..", "Shop", "shop\0", "shop other", "\u{1b}[2Jx", "é", "${env:HOME}", "-x"]
        {
            assert_eq!(of(&mut routes, &template, hostile), "rest", "{hostile:?}");
        }
        assert_eq!(of(&mut routes, &template, &"x".repeat(250)), "rest");
        let fallbacks = |reason: &str| routes.metrics.topic_fallback.with_label_values(&[reason]).get();
        assert_eq!((fallbacks("unfit_value"), fallbacks("no_topic")), (12, 0));
    }

    #[test]
    fn a_topic_that_is_not_there_is_replaced_and_counted() {
        let (mut routes, template) = routes("topic: 'logs-{user}'");
        assert_eq!(routes.add("logs-gone", Found::Unusable("it does not exist".into())), None);
        assert_eq!(of(&mut routes, &template, "gone"), "logs");
        assert_eq!(of(&mut routes, &template, "never-asked"), "logs");
        assert_eq!(routes.metrics.topic_fallback.with_label_values(&["no_topic"]).get(), 2);
        assert_eq!(routes.add("logs-gone", Found::Topic(FACTS)), Some(1));
        assert_eq!(of(&mut routes, &template, "gone"), "logs-gone");
        assert_eq!(routes.add("logs-gone", Found::Unusable("it was deleted".into())), None);
        assert_eq!(of(&mut routes, &template, "gone"), "logs");
        assert_eq!(routes.add("logs-gone", Found::Topic(FACTS)), Some(1), "it keeps its number");
    }

    #[test]
    fn a_refused_batch_makes_smaller_ones() {
        let (mut routes, _) = routes("topic: logs");
        let batch = |routes: &Routes| routes[0].lanes.batch_bytes();
        assert_eq!(batch(&routes), 100_000 - REQUEST_FRAME_BYTES);
        routes.adjust(0, Facts { message_bytes_max: 50_000, ..FACTS }, true);
        assert_eq!((batch(&routes), routes[0].record_bytes_max), (50_000 - 1_024, 50_000 - 1_024));
        routes.adjust(0, Facts { message_bytes_max: 50_000, ..FACTS }, true);
        assert_eq!((batch(&routes), routes[0].record_bytes_max), ((50_000 - 1_024) / 2, 50_000 - 1_024));
        (0..9).for_each(|_| routes.adjust(0, Facts { message_bytes_max: 50_000, ..FACTS }, true));
        assert_eq!(batch(&routes), BATCH_BYTES_MIN);
    }

    #[test]
    fn a_topic_that_fails_is_held_for_a_moment() {
        let (mut routes, _) = routes("topic: logs");
        assert!(!routes[0].is_held(monotonic()));
        (0..9).for_each(|_| routes[0].hold());
        let until = routes[0].held_until.expect("it is held");
        assert!(until <= monotonic() + HOLD.1 && !routes[0].is_held(until) && routes[0].held_until.is_none());
    }
}
