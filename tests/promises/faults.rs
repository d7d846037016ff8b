//! Promise: whatever a search node or a broker answers, every line ends as one document or one counted dead letter.

use rdkafka::types::RDKafkaRespErr as Code;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tests::audit::{self, Copy};
use tests::daemon::Half;
use tests::fake::{Answer, FakeNode};
use tests::mock::MockBroker;
use tests::scene::Scene;
use tests::search::Node;
use tests::writer::{self, Written};
use tests::{read_back, stack, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// A fake node behind the shared broker, with `lines` lines already in the topic.
fn behind_kafka(name: &str, lines: u64) -> (Scene, FakeNode, Written) {
    let node = FakeNode::start().expect("the fake starts");
    let scene = Scene::without_node(name, 2, stack::shared().cluster, Node { url: node.url.clone() });
    let written = writer::write_now(&scene.load(2, lines, 0, 0)).expect("the lines are written");
    let mut agent = scene.agent().spawn().expect("the agent starts");
    scene.wait_shipped(lines, LIMIT);
    assert!(agent.stop(LIMIT).success());
    (scene, node, written)
}

#[track_caller]
fn wait_documents(node: &FakeNode, count: u64) {
    wait::wait_for("all documents in the fake node", LIMIT, || {
        let stored = node.documents().len() as u64;
        wait::met(stored >= count, || format!("{stored} of {count}; {} requests", node.bulks().len()))
    });
}

#[track_caller]
fn check_documents(scene: &Scene, node: &FakeNode, written: &Written) {
    let copies: Vec<_> = node.messages().iter().map(|line| Copy::document(&scene.recipe(), line)).collect();
    let report = audit::documents(written, &copies);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn every_kind_of_bad_answer_ends_in_one_copy_of_each_document() {
    let (scene, node, written) = behind_kafka("answers", 5_000);
    let script = [
        Answer::Refuse(503, r#"{"error":{"type":"unavailable"},"status":503}"#),
        Answer::Refuse(429, r#"{"error":{"type":"es_rejected_execution_exception"},"status":429}"#),
        Answer::Html,
        Answer::BreakUnread,
        Answer::BreakMidAnswer,
        Answer::ShortItems,
        Answer::Late(Duration::from_millis(300)),
    ];
    node.script(script.clone());
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    wait_documents(&node, 5_000);
    scene.wait_committed(LIMIT);
    assert_eq!(node.script_left(), 0, "every bad answer was given");
    check_documents(&scene, &node, &written);
    scene.check_equations(None, Some(&indexer));
    // Stored before the connection broke, then sent again: the second copy was a conflict, and a success.
    let metrics = indexer.metrics().expect("the indexer has metrics");
    assert!(metrics.indexer("duplicate") > 0, "no conflict was counted");
    assert_eq!(scene.cluster.count(&scene.dead_topic).expect("the broker answers"), 0, "nothing is a dead letter");
}

#[test]
fn only_the_failed_items_are_sent_again() {
    let (scene, node, written) = behind_kafka("items", 2_000);
    // Three items of seven are refused at their first try, for a reason that passes.
    node.rule(|item| {
        let number = item.source["log"]["offset"].as_u64().unwrap_or(0) % 7;
        (item.tries_before == 0 && number < 3).then_some(if number == 0 { 503 } else { 429 })
    });
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    wait_documents(&node, 2_000);
    scene.wait_committed(LIMIT);
    check_documents(&scene, &node, &written);
    scene.check_equations(None, Some(&indexer));
    let mut tries: BTreeMap<String, (u32, bool)> = BTreeMap::new();
    for item in node.bulks().iter().flat_map(|bulk| &bulk.items) {
        let refused = item.source["log"]["offset"].as_u64().unwrap_or(0) % 7 < 3;
        tries.entry(item.id.clone().expect("every item names its id")).or_insert((0, refused)).0 += 1;
    }
    let refused = tries.values().filter(|(_, refused)| *refused).count();
    assert!(refused > 500, "the rule refused {refused} items");
    for (id, (tries, refused)) in tries {
        assert_eq!(tries, if refused { 2 } else { 1 }, "{id} was sent {tries} times");
    }
}

#[test]
fn a_request_that_is_too_large_is_halved() {
    let (scene, node, written) = behind_kafka("large", 3_000);
    node.limit_body(100_000);
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    wait_documents(&node, 3_000);
    scene.wait_committed(LIMIT);
    check_documents(&scene, &node, &written);
    scene.check_equations(None, Some(&indexer));
    let bulks = node.bulks();
    let (served, refused): (Vec<_>, Vec<_>) = bulks.iter().partition(|bulk| bulk.answer == Answer::Serve);
    assert!(!refused.is_empty() && refused.iter().all(|bulk| bulk.bytes > 100_000), "nothing was too large");
    // Halves, not single documents: the node is not flooded with small requests.
    assert!(served.len() < 100, "{} requests for 3,000 documents", served.len());
}

#[test]
fn a_refused_document_is_a_dead_letter_with_its_cause_and_stops_nothing() {
    let (scene, node, written) = behind_kafka("refused", 2_000);
    node.rule(|item| (item.source["log"]["offset"].as_u64().unwrap_or(0) == 0).then_some(400));
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    wait_documents(&node, 1_998);
    scene.wait_committed(LIMIT);
    scene.check_equations(None, Some(&indexer));
    let dead = scene.cluster.read_all(&scene.dead_topic).expect("the topic reads back");
    assert_eq!(dead.len(), 2, "the first line of each file");
    let known: Vec<_> = dead.iter().map(|record| scene.recipe().read(&record.line())).collect();
    for file in written.keys() {
        let name = tests::lines::Name { file: file.clone(), seq: 0 };
        assert!(known.contains(&tests::lines::Read::Whole(name)), "{file}#0 is not among {dead:?}");
    }
    let cause = dead.iter().all(|record| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: String = record.headers.iter().map(|(_, value)| text(value)).collect();
        headers.contains("document_parsing_exception") || text(&record.value).contains("document_parsing_exception")
    });
    assert!(cause, "a dead letter says why: {dead:?}");
    let metrics = indexer.metrics().expect("the indexer has metrics");
    assert_eq!(metrics.indexer("dead_lettered"), 2);
}

#[test]
fn produce_errors_neither_lose_nor_reorder_a_line() {
    let lines = 4_000;
    let mock = MockBroker::start("mocked", 2).expect("the mock starts");
    let shared = stack::shared();
    let scene = Scene::shared("produce", 1);
    let mut start = scene.agent();
    assert_eq!(start.half, Half::Agent);
    start.config["kafka"]["brokers"] = serde_json::json!([mock.cluster.brokers]);
    start.config["kafka"]["topic"] = serde_json::json!("mocked");
    let load = scene.load(4, lines, 2_000, 1);
    mock.fail_produce(&[Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3]);
    let agent = start.spawn().expect("the agent starts");
    let writer = writer::Writer::start(load);
    for code in [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ] {
        let reached = writer.lines() + 500;
        wait::wait_for("the next error's moment", LIMIT, || {
            wait::met(writer.lines() >= reached, || "written".to_owned())
        });
        mock.fail_produce(&[code; 2]);
    }
    mock.down().expect("the mock hangs up");
    let written = writer.finish().expect("the lines are written");
    mock.up().expect("the mock is back");
    wait::wait_for("all lines in the mock", LIMIT, || {
        let count = mock.cluster.count("mocked").map_err(|error| error.to_string())?;
        wait::met(count >= lines, || format!("{count} of {lines}"))
    });
    scene.check_equations(Some(&agent), None);
    let copies = read_back::topic(&mock.cluster, "mocked", &scene.recipe()).expect("the mock answers");
    let report = audit::records(&written, &copies, &[]);
    eprintln!("figures produce errors: {report}");
    // The mock does not remove repeats as a broker's idempotence does, so only loss and order are judged.
    assert!(report.missing.is_empty() && report.is_sound() && report.inverted.is_empty(), "{report}");
    drop(shared);
}

/// An address at which nobody answers: connections to it are neither made nor refused, as behind a firewall that drops SYN.
struct Hole {
    address: SocketAddr,
    _held: (Socket, Vec<TcpStream>),
}

impl Hole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
        listener.listen(0).expect("listens");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
        let mut held = Vec::new();
        // Its queue is soon full; then the kernel drops what comes.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            held.push(stream);
        }
        Self { address, _held: (listener, held) }
    }
}

#[test]
fn nasty_13_a_broker_that_drops_every_connection_stops_nothing() {
    let scene = Scene::shared("hole", 1);
    let hole = Hole::new();
    let written = writer::write_now(&scene.load(2, 500, 0, 0)).expect("the lines are written");
    let mut start = scene.agent();
    start.config["kafka"]["brokers"] = serde_json::json!([hole.address.to_string()]);
    let mut alone = start.spawn().expect("the agent starts");
    let told = alone.wait_log(&["no broker answers", &hole.address.to_string()], LIMIT);
    eprintln!("figures hole: {told}");
    alone.kill().expect("it runs, and waits");
    start.config["kafka"]["brokers"] = serde_json::json!([hole.address.to_string(), scene.cluster.brokers]);
    let agent = start.spawn().expect("the agent starts");
    scene.wait_shipped(500, LIMIT);
    let report = scene.audit_topic(&written, &[]).expect("the topic reads back");
    assert!(report.is_clean(), "{report}");
    scene.check_equations(Some(&agent), None);
}
