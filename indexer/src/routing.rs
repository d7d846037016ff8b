//! A record's topic and its fields → how its bytes are read, and which pipeline runs. Compiled from the configuration once.
//!
//! A pipeline that the record itself asks for comes first; these are the tables behind it.

use crate::config::{Charset, Decode, PipelinesConfig, Route, TopicConfig};
use crate::topics::Selector;
use engine::Condition;
use event::Event;
use std::panic::{self, AssertUnwindSafe};

/// How bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What a payload is.
    pub decode: Decode,
    /// What text is written in.
    pub charset: Charset,
}

/// All tables.
#[derive(Debug)]
pub(crate) struct Routing {
    topics: Vec<(Selector, Reading)>,
    otherwise: Reading,
    rules: Vec<Rule>,
    default: Option<String>,
}

/// One line of the routing table.
#[derive(Debug)]
struct Rule {
    topic: Option<Selector>,
    condition: Option<Condition>,
    pipeline: String,
}

/// What the tables say of one topic.
#[derive(Debug)]
pub(crate) struct Way<'r> {
    pub(crate) reading: Reading,
    /// Those that may match, in order; behind one without a condition there is none.
    rules: Vec<&'r Rule>,
    default: Option<&'r str>,
}

impl Routing {
    /// Compiles the tables.
    ///
    /// Errors: the key, and what is wrong with it.
    pub(crate) fn new(otherwise: Reading, topics: &[TopicConfig], pipelines: &PipelinesConfig) -> Result<Self, String> {
        let reading = |(number, entry): (usize, &TopicConfig)| {
            let selector = Selector::new(&entry.topic).map_err(|reason| format!("topics[{number}].topic: {reason}"))?;
            let TopicConfig { decode, charset, .. } = entry;
            let reading =
                Reading { decode: decode.unwrap_or(otherwise.decode), charset: charset.unwrap_or(otherwise.charset) };
            Ok::<_, String>((selector, reading))
        };
        let topics = topics.iter().enumerate().map(reading).collect::<Result<_, _>>()?;
        let rules = pipelines.routes.iter().enumerate().map(rule).collect::<Result<_, _>>()?;
        Ok(Self { topics, otherwise, rules, default: pipelines.default.clone() })
    }

    /// What they say of `topic`.
    pub(crate) fn of(&self, topic: &str) -> Way<'_> {
        let reading = self.topics.iter().find(|(selector, _)| selector.takes(topic)).map(|(_, reading)| *reading);
        let mut rules = Vec::new();
        for rule in &self.rules {
            if rule.topic.as_ref().is_none_or(|selector| selector.takes(topic)) {
                rules.push(rule);
                if rule.condition.is_none() {
                    break;
                }
            }
        }
        Way { reading: reading.unwrap_or(self.otherwise), rules, default: self.default.as_deref() }
    }
}

fn rule((number, route): (usize, &Route)) -> Result<Rule, String> {
    let wrong = |key: &str, reason: String| format!("pipelines.routes[{number}].{key}: {reason}");
    let Route { topic, condition, pipeline } = route;
    let topic = topic.as_ref().map(|topic| Selector::new(topic).map_err(|reason| wrong("topic", reason)));
    let condition = condition.as_ref().map(|source| Condition::new(source).map_err(|reason| wrong("if", reason)));
    Ok(Rule { topic: topic.transpose()?, condition: condition.transpose()?, pipeline: pipeline.clone() })
}

impl<'r> Way<'r> {
    /// The pipeline of a record that asks for none. `failed` is called for each condition that could not be told, with the
    /// reason; such a line does not match.
    pub(crate) fn pipeline(&self, event: &Event, mut failed: impl FnMut(&str)) -> Option<&'r str> {
        for rule in &self.rules {
            let Some(condition) = &rule.condition else { return Some(&rule.pipeline) };
            // A condition that panics must not cost more than its line of the table.
            match panic::catch_unwind(AssertUnwindSafe(|| condition.test(event))) {
                Ok(Ok(true)) => return Some(&rule.pipeline),
                Ok(Ok(false)) => {}
                Ok(Err(reason)) => failed(&reason),
                Err(_) => failed("the condition panicked: please report it"),
            }
        }
        self.default
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IndexerConfig;
    use event::Value;
    use std::path::Path;

    fn routing(more: &str) -> Result<Routing, String> {
        let text = format!("kafka: {{brokers: [x], topics: [t]}}\nelasticsearch: {{hosts: [x]}}\n{more}");
        let config: IndexerConfig =
            service::load::parse_config(Path::new("indexer.yaml"), &text).map_err(|error| error.to_string())?;
        let otherwise = Reading { decode: config.decode, charset: config.charset };
        Routing::new(otherwise, &config.topics, &config.pipelines)
    }

    #[track_caller]
    fn check(routing: &Routing, topic: &str, event: &str, expected: Option<&str>, failures: usize) {
        let Ok(Value::Object(source)) = Value::from_json(event.as_bytes()) else { panic!("{event} is no object") };
        let (event, mut failed) = (Event::new(source), 0);
        let name = routing.of(topic).pipeline(&event, |_| failed += 1).map(str::to_owned);
        assert_eq!((name.as_deref(), failed), (expected, failures), "{topic}");
    }

    #[test]
    fn the_first_line_that_matches_counts_then_the_default() {
        let routing = routing(
            "pipelines:\n  default: rest\n  routes:\n    - {topic: web, if: \"ctx.event?.dataset == 'nginx.error'\", pipeline: errors}\n    \
             - {topic: web, pipeline: access}\n    - {if: \"ctx.kind == 'audit'\", pipeline: audit}\n    \
             - {topic: '^app-', if: 'ctx.level.length() > 3', pipeline: long}\n    - {topic: web, pipeline: never}",
        )
        .expect("valid tables");
        check(&routing, "web", r#"{"event":{"dataset":"nginx.error"}}"#, Some("errors"), 0);
        check(&routing, "web", r#"{"kind":"audit"}"#, Some("access"), 0);
        check(&routing, "app-1", r#"{"kind":"audit"}"#, Some("audit"), 0);
        check(&routing, "app-1", r#"{"level":"warn"}"#, Some("long"), 0);
        check(&routing, "app-1", r#"{"level":"bad"}"#, Some("rest"), 0);
        check(&routing, "app-1", r#"{}"#, Some("rest"), 1); // A field that is not there throws.
        check(&routing, "other", r#"{"level":"warn"}"#, Some("rest"), 0);
        let none = self::routing("").expect("valid tables");
        check(&none, "web", "{}", None, 0);
    }

    #[test]
    fn a_topic_is_read_as_the_first_entry_that_takes_it_says() {
        let more = "decode: json\ntopics:\n  - {topic: legacy, decode: text, charset: windows-1252}\n  - {topic: '^cn-', charset: gbk}\n  \
                    - {topic: '^.*-raw$', decode: text}";
        let routing = routing(more).expect("valid tables");
        let check = |topic: &str, decode, charset: &str| {
            let charset: Charset = charset.parse().expect("a charset");
            assert_eq!(routing.of(topic).reading, Reading { decode, charset }, "{topic}");
        };
        check("legacy", Decode::Text, "windows-1252");
        check("cn-raw", Decode::Json, "gbk");
        check("us-raw", Decode::Text, "utf-8");
        check("logs", Decode::Json, "utf-8");
    }

    #[track_caller]
    fn wrong(more: &str, reason: &str) {
        let told = routing(more).expect_err("it is wrong");
        assert!(told.contains(reason), "{told}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        wrong(
            "pipelines: {routes: [{topic: '^(', pipeline: p}]}",
            "pipelines.routes[0].topic: `^(` is no regular expression",
        );
        wrong("pipelines: {routes: [{if: 'ctx.a ==', pipeline: p}]}", "pipelines.routes[0].if: script, line 1");
        wrong("pipelines: {routes: [{topic: t}]}", "indexer.yaml:3:");
        wrong("topics: [{topic: 'a b', decode: text}]", "topics[0].topic: `a b` is no topic's name");
        wrong("topics: [{topic: t, charset: klingon}]", "`klingon` is no charset that is known");
    }
}
