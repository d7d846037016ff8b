//! Our agent's records for Kafka's own tools and for who expects Filebeat's; Filebeat's records for our indexer; keys for all.

use crate::LIMIT;
use event::foreign_id;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use tests::scene::Scene;
use tests::{stack, wait, writer};

/// What consumers of Filebeat's records rely on: the fields that every log line of it has. Written by hand.
const SCHEMA: &str = include_str!("filebeat-event.schema.json");

/// Records in the form in which Filebeat 7.17 and 8 write them to Kafka, one a line. Written by hand.
const FILEBEAT: &str = include_str!("filebeat.jsonl");

#[test]
fn a_key_goes_where_kafkas_own_console_producer_puts_it() {
    let scene = Scene::shared("console", 7);
    let theirs = format!("{}-theirs", scene.topic);
    scene.cluster.create_topic(&theirs, 7).expect("the topic is made");
    let lines: String = (0..500).map(|number| format!("key-{number}-äö€|value {number}\n")).collect();
    let key = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=|"];
    let to = ["ConsoleProducer", "--bootstrap-server", &scene.cluster.brokers, "--topic", &theirs];
    stack::kafka_tool(&[to.as_slice(), &key].concat(), lines.as_bytes()).expect("the console producer works");
    let file = scene.append("keys.txt", lines.as_bytes()).expect("written");
    let output = Command::new(stack::program())
        .args(["produce", "--brokers", &scene.cluster.brokers, "--topic", &scene.topic, "--key-from", "separator:|"])
        .arg(file)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let of = |topic: &str| -> BTreeMap<_, _> {
        let records = scene.cluster.read_all(topic).expect("the broker answers");
        records.into_iter().map(|record| ((record.key, record.value), record.partition)).collect()
    };
    let (ours, theirs) = (of(&scene.topic), of(&theirs));
    assert_eq!(ours.len(), 500);
    assert_eq!(ours, theirs);
}

/// The agent chooses partitions by itself, not by librdkafka: its keys are asked as well.
#[test]
fn a_files_key_goes_where_kafkas_own_console_producer_puts_it() {
    let scene = Scene::shared("keys", 7);
    let theirs = format!("{}-theirs", scene.topic);
    scene.cluster.create_topic(&theirs, 7).expect("the topic is made");
    let written = writer::write_now(&scene.load(40, 400, 0, 0)).expect("the lines are written");
    let mut agent = scene.agent().spawn().expect("the agent starts");
    scene.wait_shipped(written.values().sum(), LIMIT);
    assert!(agent.stop(LIMIT).success());
    let of = |topic: &str| -> BTreeMap<Vec<u8>, i32> {
        let records = scene.cluster.read_all(topic).expect("the broker answers");
        records.into_iter().map(|record| (record.key.expect("it has a key"), record.partition)).collect()
    };
    let ours = of(&scene.topic);
    assert_eq!(ours.len(), 40, "one key a file");
    let lines: String = ours.keys().map(|key| format!("{}|x\n", String::from_utf8_lossy(key))).collect();
    let key = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=|"];
    let to = ["ConsoleProducer", "--bootstrap-server", &scene.cluster.brokers, "--topic", &theirs];
    stack::kafka_tool(&[to.as_slice(), &key].concat(), lines.as_bytes()).expect("the console producer works");
    assert_eq!(ours, of(&theirs));
}

#[test]
fn kafkas_console_consumer_reads_events_of_filebeats_schema() {
    let scene = Scene::shared("consumer", 3);
    let written = writer::write_now(&scene.load(3, 1_000, 0, 1)).expect("the lines are written");
    let mut start = scene.agent();
    start.config["inputs"][0]["fields"] = json!({"service.name": "shop"});
    start.config["inputs"][0]["tags"] = json!(["web"]);
    start.config["inputs"][0]["pipeline"] = json!("nginx-access");
    let mut agent = start.spawn().expect("the agent starts");
    scene.wait_shipped(1_000, LIMIT);
    assert!(agent.stop(LIMIT).success());
    let from = ["consumer.ConsoleConsumer", "--bootstrap-server", &scene.cluster.brokers, "--topic", &scene.topic];
    let all = ["--from-beginning", "--max-messages", "1000", "--timeout-ms", "60000"];
    let output = stack::kafka_tool(&[from.as_slice(), &all].concat(), b"").expect("the console consumer works");
    let text = String::from_utf8(output.stdout).expect("it prints UTF-8");
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let mut copies = Vec::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let wrong = violations(&schema, &event, "");
        assert!(wrong.is_empty(), "{wrong:?} in {event:#}");
        copies.push(tests::audit::Copy::document(&scene.recipe(), event["message"].as_str().expect("it is a text")));
    }
    let report = tests::audit::documents(&written, &copies);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn the_schema_refuses_what_is_no_event_of_filebeat() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    for line in FILEBEAT.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(violations(&schema, &event, ""), Vec::<String>::new(), "{event:#}");
        for (pointer, wrong) in [
            ("/@timestamp", json!("2026-11-22 10:00:00")),
            ("/@metadata/beat", json!(1)),
            ("/log/offset", json!("1")),
            ("/host", json!("web-01")),
        ] {
            let mut broken = event.clone();
            let Some(place) = broken.pointer_mut(pointer) else { continue };
            *place = wrong;
            assert_eq!(violations(&schema, &broken, "").len(), 1, "{pointer}");
        }
        let mut broken = event.clone();
        broken.as_object_mut().expect("an object").remove("agent");
        assert_eq!(violations(&schema, &broken, "").len(), 1, "without agent");
    }
}

/// Where `value` is not as `schema` says: `type`, `required`, `properties`, `items` and the format `date-time` of JSON Schema.
fn violations(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let is_of = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("the schema has the type {other:?}"),
    };
    if let Some(name) = schema["type"].as_str().filter(|name| !is_of(name)) {
        return vec![format!("{at} is no {name}: {value}")];
    }
    let mut wrong = Vec::new();
    if schema["format"] == "date-time" && !value.as_str().is_some_and(is_time) {
        wrong.push(format!("{at} is no time: {value}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            wrong.push(format!("{at}/{name} is missing"));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        wrong.extend(value.get(name).into_iter().flat_map(|value| violations(schema, value, &format!("{at}/{name}"))));
    }
    for item in value.as_array().into_iter().flatten().filter(|_| schema.get("items").is_some()) {
        wrong.extend(violations(&schema["items"], item, &format!("{at}/*")));
    }
    wrong
}

/// As every Beat writes it: UTC, with milliseconds.
fn is_time(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:dd.dddZ";
    text.len() == form.len()
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| if form == b'd' { byte.is_ascii_digit() } else { byte == form })
}

#[test]
fn records_of_filebeat_are_documents_with_the_right_ids() {
    let scene = Scene::shared("filebeat", 2);
    let lines: Vec<_> = FILEBEAT.lines().map(str::as_bytes).collect();
    let (even, odd): (Vec<_>, Vec<_>) = lines.iter().enumerate().partition(|(number, _)| number % 2 == 0);
    for (partition, lines) in [(0, even), (1, odd)] {
        let lines: Vec<_> = lines.into_iter().map(|(_, line)| *line).collect();
        scene.cluster.produce(&scene.topic, partition, &lines).expect("produced");
    }
    // Filebeat sends again what was not acknowledged. With an id of its own that is no second document.
    let named: Vec<_> = lines.iter().copied().filter(|line| metadata_id(line).is_some()).collect();
    assert!(!named.is_empty());
    scene.cluster.produce(&scene.topic, 0, &named).expect("produced");
    let mut start = scene.indexer();
    start.config["pipelines"] = json!({"dir": stack::project().join("pipelines/catalog")});
    let indexer = start.spawn().expect("the indexer starts");
    scene.wait_indexed(lines.len() as u64, LIMIT);
    scene.wait_committed(LIMIT);
    scene.check_equations(None, Some(&indexer));
    let metrics = indexer.metrics().expect("it has metrics");
    assert_eq!(metrics.indexer("duplicate"), named.len() as u64);
    let documents = scene.node.documents(&scene.index).expect("the index reads back");
    assert_eq!(documents.len(), lines.len());
    let documents: BTreeMap<_, _> = documents.into_iter().map(|found| (found.id, found.source)).collect();
    let mut parsed = 0;
    for record in scene.cluster.read_all(&scene.topic).expect("the topic reads back") {
        let mut event: Value = serde_json::from_slice(&record.value).expect("JSON");
        let by_place = foreign_id(&scene.topic, record.partition, record.offset, record.timestamp_ms);
        let id = metadata_id(&record.value).unwrap_or_else(|| String::from_utf8_lossy(&by_place).into_owned());
        let document = documents.get(&id).unwrap_or_else(|| panic!("no document {id}: {event:#}"));
        let metadata = event.as_object_mut().and_then(|event| event.remove("@metadata")).expect("every Beat writes it");
        if metadata["pipeline"].is_null() {
            event["event"] = json!({"created": event["@timestamp"]}); // When the line was read.
            assert_eq!(*document, event);
        } else {
            assert_eq!(document["http"]["response"]["status_code"], 200, "{document:#}");
            assert_eq!(document["log"], event["log"]);
            parsed += 1;
        }
    }
    assert_eq!(parsed, 1, "one of them asks for a pipeline");
    wait::met(scene.cluster.count(&scene.dead_topic).expect("the broker answers") == 0, || "dead letters".to_owned())
        .expect("nothing is a dead letter");
}

/// The id that the record itself tells.
fn metadata_id(record: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(record).ok()?;
    Some(event["@metadata"]["_id"].as_str()?.to_owned())
}
