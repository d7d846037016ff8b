//! Records in, action lines and documents out.

use super::*;
use crate::config::{BatchConfig, Route};
use crate::parcel::PutOff;
use crate::parcel::tests::{parcel, parcel_of};
use crate::pool::Pool;
use event::foreign_id;
use service::metrics::Registry;

const PIPELINES: &[(&str, &str)] = &[
    ("mark", "processors:\n  - set: {field: event.dataset, value: marked}\n"),
    (
        "fails",
        "processors:\n  - set: {field: seen, value: 'yes'}\n  - convert: {field: message, type: integer, tag: num}\n",
    ),
    ("moves", "processors:\n  - set: {field: _index, value: other-index}\n  - set: {field: _id, value: own-id}\n"),
    ("routes", "processors:\n  - set: {field: _routing, value: '{{{user}}}'}\n"),
    ("escapes", "processors:\n  - set: {field: _index, value: '../x'}\n"),
];

pub(crate) fn plan(decode: Decode, document_id: DocumentId, metrics: &Metrics) -> Plan {
    let mut plan =
        Plan::new(&PipelinesConfig::default(), decode, "logs-{event.dataset}-default", document_id, metrics.clone())
            .expect("a valid plan");
    for (name, text) in PIPELINES {
        plan.library.add(name, name, text).expect("a valid pipeline");
    }
    plan
}

fn worker(plan: &Plan) -> Worker<'_> {
    Worker::new(plan, Filling::new(BatchConfig::default(), Pool::new(0)))
}

/// Runs one payload and returns its action line and document.
fn run_one(plan: &Plan, payload: &str) -> (String, serde_json::Value) {
    let (parcel, _rx) = parcel(&[payload.as_bytes()], &plan.metrics);
    let mut worker = worker(plan);
    let route = plan.route(&parcel.topic);
    assert!(worker.record(&parcel, 0, &route, 1_700_000_000_000, monotonic()).is_none());
    let batch = worker.filling.take().expect("a document was written");
    let text = String::from_utf8(batch.body.to_vec()).expect("a body is text");
    let (action, document) = text.split_once('\n').expect("two lines");
    assert_eq!(document.matches('\n').count(), 1, "a document is one line");
    (action.to_owned(), serde_json::from_str(document).expect("a document is JSON"))
}

fn metrics() -> Metrics {
    Metrics::new(&Registry::default())
}

#[track_caller]
fn check_action(payload: &str, document_id: DocumentId, expected: &str) {
    let (action, _) = run_one(&plan(Decode::Auto, document_id, &metrics()), payload);
    assert_eq!(action, expected);
}

#[test]
fn the_id_is_the_records_own_or_its_place() {
    let own = r#"{"@metadata":{"_id":"a\"b"},"event":{"dataset":"x"}}"#;
    let place = std::str::from_utf8(&foreign_id("logs", 3, 0, 1_700_000_000_000)).expect("an id is text").to_owned();
    check_action(own, DocumentId::Event, r#"{"create":{"_index":"logs-x-default","_id":"a\"b"}}"#);
    check_action(own, DocumentId::Record, &format!(r#"{{"create":{{"_index":"logs-x-default","_id":"{place}"}}}}"#));
    check_action(own, DocumentId::None, r#"{"create":{"_index":"logs-x-default"}}"#);
    check_action(
        "text",
        DocumentId::Event,
        &format!(r#"{{"create":{{"_index":"logs-generic-default","_id":"{place}"}}}}"#),
    );
}

#[test]
fn a_pipeline_can_name_index_and_id_but_not_escape() {
    let metrics = metrics();
    let plan = plan(Decode::Auto, DocumentId::Event, &metrics);
    let (action, _) = run_one(&plan, r#"{"@metadata":{"pipeline":"moves","_id":"x"}}"#);
    assert_eq!(action, r#"{"create":{"_index":"other-index","_id":"own-id"}}"#);
    let (action, _) = run_one(&plan, r#"{"@metadata":{"pipeline":"escapes","_id":"x"}}"#);
    assert_eq!(action, r#"{"create":{"_index":"logs-generic-default","_id":"x"}}"#);
    assert_eq!(metrics.index_fallback.get(), 1);
}

#[test]
fn the_records_pipeline_wins_over_routes_and_routes_over_the_default() {
    let mut plan = plan(Decode::Auto, DocumentId::None, &metrics());
    let route = |topic: Option<&str>, condition: Option<&str>| Route {
        topic: topic.map(str::to_owned),
        condition: condition.map(str::to_owned),
        pipeline: "moves".to_owned(),
    };
    let pipelines = |routes| PipelinesConfig { default: Some("mark".to_owned()), routes, ..PipelinesConfig::default() };
    plan.read(Charset::default(), &[], &pipelines(Vec::new())).expect("valid tables");
    assert_eq!(run_one(&plan, r#"{"a":1}"#).1["event"]["dataset"], "marked");
    plan.read(Charset::default(), &[], &pipelines(vec![route(None, Some("ctx.a.b == 2"))])).expect("valid tables");
    assert_eq!(run_one(&plan, r#"{"a":{"b":2}}"#).0, r#"{"create":{"_index":"other-index"}}"#);
    assert_eq!(run_one(&plan, r#"{"a":{"b":1}}"#).1["event"]["dataset"], "marked");
    assert_eq!(plan.metrics.pipeline_failures.with_label_values(&["(route)"]).get(), 0);
    assert_eq!(run_one(&plan, "{}").1["event"]["dataset"], "marked");
    assert_eq!(plan.metrics.pipeline_failures.with_label_values(&["(route)"]).get(), 1);
    plan.read(Charset::default(), &[], &pipelines(vec![route(Some("logs"), None)])).expect("valid tables");
    assert_eq!(run_one(&plan, r#"{"a":1}"#).0, r#"{"create":{"_index":"other-index"}}"#);
    assert_eq!(run_one(&plan, r#"{"@metadata":{"pipeline":"mark"}}"#).1["event"]["dataset"], "marked");
}

#[test]
fn a_record_no_pipeline_can_parse_is_indexed_with_the_reason() {
    let metrics = metrics();
    let plan = plan(Decode::Auto, DocumentId::None, &metrics);
    let (_, document) = run_one(&plan, r#"{"@metadata":{"pipeline":"fails"},"message":"no number","tags":["a"]}"#);
    let message = document["error"]["message"].as_str().expect("a text");
    assert!(message.contains("fails") && message.contains("convert") && message.contains("num"), "{message}");
    assert_eq!(document["tags"], serde_json::json!(["a", "_pipeline_failure"]));
    assert_eq!((&document["seen"], &document["message"]), (&"yes".into(), &"no number".into()));
    assert_eq!(metrics.pipeline_failures.with_label_values(&["fails"]).get(), 1);

    let (_, document) = run_one(&plan, r#"{"@metadata":{"pipeline":"absent"},"error":{"message":"before"}}"#);
    assert_eq!(document["error"]["message"], serde_json::json!(["before", "pipeline with id [absent] does not exist"]));
    assert_eq!(document["tags"], serde_json::json!(["_pipeline_failure"]));
    assert_eq!(metrics.pipeline_unknown.get(), 1);
    assert!(document.get("@metadata").is_none());
}

#[test]
fn the_read_time_is_kept_as_event_created() {
    let plan = plan(Decode::Auto, DocumentId::None, &metrics());
    let created = |payload: &str| run_one(&plan, payload).1["event"]["created"].clone();
    assert_eq!(created(r#"{"@timestamp":"2026-11-22T10:00:00.000Z"}"#), "2026-11-22T10:00:00.000Z");
    assert_eq!(created(r#"{"@timestamp":"2026-11-22T10:00:00.000Z","event":{"created":"earlier"}}"#), "earlier");
    assert_eq!(created(r#"{"a":1}"#), serde_json::Value::Null);
}

#[test]
fn a_payload_that_must_be_json_and_is_not_becomes_a_dead_letter() {
    let metrics = metrics();
    let plan = plan(Decode::Json, DocumentId::Event, &metrics);
    let (parcel, _rx) = parcel(&[b"no json", b"{\"a\":1}"], &metrics);
    let mut worker = worker(&plan);
    for record in 0..2 {
        assert!(worker.record(&parcel, record, &plan.route("logs"), 0, monotonic()).is_none());
    }
    let batch = worker.filling.take().expect("one document, one dead letter");
    assert_eq!((batch.items.len(), batch.dead.len()), (1, 1));
    assert_eq!((batch.dead[0].0.record, batch.dead[0].1.kind.as_str()), (0, "undecodable"));
}

/// What becomes of `payload` at second 100, if there are retry topics or not: the second before which it is not to be indexed; none:
/// a document.
#[track_caller]
fn check_later(payload: &str, put_off: Option<PutOff>, delays: bool, expected: Option<i64>) {
    let mut plan = plan(Decode::Auto, DocumentId::Event, &metrics());
    plan.delays = delays;
    let (parcel, _rx) = parcel_of(&[(payload.as_bytes(), put_off)], &plan.metrics);
    let mut worker = worker(&plan);
    assert!(worker.record(&parcel, 0, &plan.route("logs"), 100_000, monotonic()).is_none());
    let batch = worker.filling.take().expect("a document or a note");
    assert_eq!(batch.later.first().map(|(_, time_ms)| time_ms / 1000), expected);
    assert_eq!(batch.items.len(), usize::from(expected.is_none()));
}

#[test]
fn a_record_that_comes_before_its_time_is_put_off() {
    let asks = |second: i64| format!(r#"{{"@metadata":{{"not_before":{}}}}}"#, second * 1000);
    let header = |second: i64| Some(PutOff { due_ms: Some(second * 1000), ..PutOff::default() });
    check_later(&asks(101), None, true, Some(101));
    check_later(&asks(100), None, true, None);
    check_later("text", header(101), true, Some(101));
    check_later("text", header(100), true, None);
    check_later(&asks(200), header(300), true, Some(300)); // Both: the later one.
    check_later(&asks(400), header(300), true, Some(400));
    check_later(&asks(400), None, false, None); // Nowhere to wait.
}

#[test]
fn a_time_that_cannot_be_read_is_told_in_the_document() {
    let mut plan = plan(Decode::Auto, DocumentId::Event, &metrics());
    plan.delays = true;
    let (_, document) = run_one(&plan, r#"{"@metadata":{"not_before":"soon"}}"#);
    let message = document["error"]["message"].as_str().expect("a text");
    assert!(message.contains("@metadata.not_before: soon is no RFC 3339 time"), "{message}");
}

#[test]
fn after_its_waits_a_record_makes_the_document_of_the_place_where_it_stood_first() {
    let mut plan = plan(Decode::Auto, DocumentId::Event, &metrics());
    plan.delays = true;
    let route = |topic: &str, pipeline: &str| Route {
        topic: Some(topic.to_owned()),
        condition: None,
        pipeline: pipeline.to_owned(),
    };
    let routes = vec![route("first", "mark"), route("logs", "moves")];
    let pipelines = PipelinesConfig { routes, ..PipelinesConfig::default() };
    plan.read(Charset::default(), &[], &pipelines).expect("valid tables");
    let home = crate::parcel::Home { topic: "first".into(), partition: 7, offset: 42, timestamp_ms: Some(1_000) };
    let put_off = PutOff { home: Some(home), refusals: 2, ..PutOff::default() };
    let (parcel, _rx) = parcel_of(&[(b"text", Some(put_off))], &plan.metrics);
    let mut worker = worker(&plan);
    assert!(worker.record(&parcel, 0, &plan.route("logs"), 100_000, monotonic()).is_none());
    let batch = worker.filling.take().expect("a document");
    let text = String::from_utf8(batch.body.to_vec()).expect("a body is text");
    let id = foreign_id("first", 7, 42, 1_000);
    let id = std::str::from_utf8(&id).expect("an id is text");
    assert_eq!(
        text.lines().next(),
        Some(format!(r#"{{"create":{{"_index":"logs-marked-default","_id":"{id}"}}}}"#).as_str())
    );
    assert!(text.contains(r#""@timestamp":"1970-01-01T00:00:01.000Z""#), "{text}");
}

#[test]
fn a_pipeline_the_configuration_names_must_exist() {
    let routes = vec![Route { topic: Some("logs".to_owned()), condition: None, pipeline: "absent".to_owned() }];
    let config = PipelinesConfig { dir: None, default: None, routes };
    let error =
        Plan::new(&config, Decode::Auto, "logs", DocumentId::Event, metrics()).expect_err("there is no pipeline");
    assert!(error.to_string().contains("no pipeline `absent`"), "{error}");
}

#[test]
fn a_pipeline_routes_a_document_and_none_is_named_without_one() {
    let of = |payload| run_one(&plan(Decode::Auto, DocumentId::None, &metrics()), payload).0;
    let routed = of(r#"{"@metadata":{"pipeline":"routes"},"user":"a\"b"}"#);
    assert_eq!(routed, r#"{"create":{"_index":"logs-generic-default","routing":"a\"b"}}"#);
    assert_eq!(of(r#"{"user":"a"}"#), r#"{"create":{"_index":"logs-generic-default"}}"#);
}

#[test]
fn whatever_stands_in_a_value_a_document_is_one_line_and_keeps_it() {
    for text in ["a\nb", "a\r\n{\"index\":{}}\n{}\n", "\u{0}\u{1b}[31m\u{2028}\u{7f}", "\"\\", "\u{1f4a3}"] {
        let (_, document) = run_one(&plan(Decode::Text, DocumentId::None, &metrics()), text);
        let kept = text.strip_suffix('\n').unwrap_or(text);
        assert_eq!(document["message"], kept);
    }
}

#[test]
fn a_null_value_is_dropped_and_counted_and_settles_its_record() {
    let metrics = metrics();
    let plan = plan(Decode::Json, DocumentId::Event, &metrics);
    let (parcel, mut rx) = crate::parcel::tests::nulls(2, &metrics);
    let (mut worker, route) = (worker(&plan), plan.route("t"));
    for record in 0..2 {
        assert!(worker.record(&parcel, record, &route, 1_700_000_000_000, monotonic()).is_none());
    }
    assert!(worker.filling.take().is_none(), "nothing is sent");
    assert_eq!(plan.tombstones.get(), 2);
    assert!(matches!(rx.try_recv(), Ok(event::Entry::Settled(_))));
    let (consumed, ends) = metrics.equation();
    assert_eq!(consumed, ends);
}
