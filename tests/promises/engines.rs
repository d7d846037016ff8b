//! Promise: Elasticsearch 8 and OpenSearch 2 take the same documents, in plain indices and in data streams, also by https with a CA
//! of one's own and a login; and what is wrong with either is told, loses nothing, and is over when it is mended.

use serde_json::{Value, json};
use std::time::Duration;
use tests::daemon::Start;
use tests::scene::Scene;
use tests::search::Node;
use tests::stack::{self, OwnSearch, SEARCH_PASSWORD};
use tests::writer::Writer;
use tests::{http, wait};

const LINES: u64 = 10_000;
const LIMIT: Duration = Duration::from_secs(90);

/// How an indexer is let in: what stands in `elasticsearch.auth` and `elasticsearch.tls`.
struct Access {
    auth: Value,
    ca: std::path::PathBuf,
    /// What `auth` refers to by name.
    secrets: Vec<(String, String)>,
}

impl Access {
    fn password(own: &OwnSearch, user: &str, password: &str) -> Self {
        let auth = json!({"user": user, "password": "${env:SEARCH_PASSWORD}"});
        Self { auth, ca: own.tls("ca.crt"), secrets: vec![("SEARCH_PASSWORD".to_owned(), password.to_owned())] }
    }

    fn key(own: &OwnSearch, key: &str) -> Self {
        let auth = json!({"api_key": "${env:SEARCH_KEY}"});
        Self { auth, ca: own.tls("ca.crt"), secrets: vec![("SEARCH_KEY".to_owned(), key.to_owned())] }
    }

    fn give(&self, indexer: &mut Start) {
        indexer.config["elasticsearch"]["auth"] = self.auth.clone();
        indexer.config["elasticsearch"]["tls"] = json!({"ca": self.ca});
        indexer.env.clone_from(&self.secrets);
    }
}

#[test]
fn opensearch_holds_every_line_once() {
    every_line_once("opensearch", &stack::shared().node);
}

#[test]
fn elasticsearch_holds_every_line_once() {
    let own = stack::home().join(format!("elasticsearch-{:08x}", fastrand::u32(..)));
    let search = OwnSearch::start(&own, "elasticsearch").expect("a node of this test's own starts");
    every_line_once("elasticsearch", &search.node);
}

fn every_line_once(engine: &str, node: &Node) {
    let version = tests::http::json("GET", &node.url, None).expect("the node answers")["version"].clone();
    eprintln!("figures engines: {engine} {}", version["number"]);
    into(&format!("{engine}-index"), node, false, None);
    into(&format!("{engine}-stream"), node, true, None);
}

/// Ships a rotating load, kills both halves once on the way, and accounts for every line.
fn into(name: &str, node: &Node, stream: bool, access: Option<&Access>) {
    let shared = stack::shared();
    let mut scene = Scene::without_node(name, 3, shared.cluster, node.clone());
    if stream {
        scene.index = format!("logs-{}-default", scene.run);
    }
    node.create_template(&scene.run, &format!("{}*", scene.index), stream).expect("the template is taken");
    let writer = Writer::start(scene.load(4, LINES, 2_500, 1));
    let (agent, mut indexer) = (scene.agent(), scene.indexer());
    if let Some(access) = access {
        access.give(&mut indexer);
    }
    let (mut first_agent, mut first_indexer) = (agent.spawn().expect("it starts"), indexer.spawn().expect("it starts"));
    scene.wait_indexed(LINES / 4, Duration::from_secs(60));
    first_agent.kill().expect("it runs");
    first_indexer.kill().expect("it runs");
    let ends = scene.cluster.settled_ends(&scene.topic).expect("the broker answers");
    let (agent, indexer) = (agent.spawn().expect("it starts"), indexer.spawn().expect("it starts"));
    let written = writer.finish().expect("the lines are written");
    scene.wait_indexed(LINES, Duration::from_secs(60));
    scene.wait_committed(Duration::from_secs(30));
    scene.check_equations(Some(&agent), Some(&indexer));
    let topic = scene.audit_topic(&written, &[ends]).expect("the topic reads back");
    let index = scene.audit_index(&written).expect("the index reads back");
    eprintln!("figures {name}: index: {index}");
    assert!(index.is_clean(), "{index}");
    assert!(topic.missing.is_empty() && topic.inverted_in_a_life.is_empty(), "{topic}");
}

/// A password of which no log may hold a part.
const WRONG: &str = "Canary-of-secrets-4711";

fn own(kind: &'static str) -> OwnSearch {
    let home = stack::home().join(format!("secure-{kind}-{:08x}", fastrand::u32(..)));
    OwnSearch::start_secure(&home, kind).expect("a node of this test's own starts")
}

/// Gives the user `tailrace` this password, and all rights.
fn set_password(own: &OwnSearch, kind: &str, password: &str) {
    let (path, body) = match kind {
        "opensearch" => {
            ("_plugins/_security/api/internalusers/tailrace", json!({"password": password, "backend_roles": ["admin"]}))
        }
        _ => ("_security/user/tailrace", json!({"password": password, "roles": ["superuser"]})),
    };
    http::json("PUT", &format!("{}/{path}", own.node.url), Some(&body)).expect("the node takes the user");
}

#[test]
fn a_secured_elasticsearch_holds_every_line_once_by_password_and_by_key() {
    let own = own("elasticsearch");
    into("es-password", &own.node, false, Some(&Access::password(&own, own.user(), SEARCH_PASSWORD)));
    // A key that may make documents in data streams of logs, and no more: not even ask for the version.
    let role = json!({"index": [{"names": ["logs-*"], "privileges": ["create_doc", "auto_configure"]}]});
    let body = json!({"name": "tailrace", "role_descriptors": {"tailrace": role}});
    let made = http::json("POST", &format!("{}/_security/api_key", own.node.url), Some(&body)).expect("a key");
    let key = made["encoded"].as_str().expect("it is told once");
    into("es-key", &own.node, true, Some(&Access::key(&own, key)));
    what_is_wrong_is_told_and_can_be_mended(&own, "elasticsearch");
}

#[test]
fn a_secured_opensearch_holds_every_line_once_by_password() {
    let own = own("opensearch");
    into("os-password", &own.node, false, Some(&Access::password(&own, own.user(), SEARCH_PASSWORD)));
    what_is_wrong_is_told_and_can_be_mended(&own, "opensearch");
}

fn what_is_wrong_is_told_and_can_be_mended(own: &OwnSearch, kind: &str) {
    let scene = Scene::on(&format!("{kind}-login"), 1, stack::shared().cluster, own.node.clone());
    let lines: Vec<_> = (0..300).map(|number| format!("{} {number}", scene.run)).collect();
    let add = |some: &[String]| {
        let values: Vec<_> = some.iter().map(|line| line.as_bytes()).collect();
        scene.cluster.produce(&scene.topic, 0, &values).expect("the broker takes them");
    };
    add(&lines[..100]);
    set_password(own, kind, SEARCH_PASSWORD);

    let mut foreign = Access::password(own, "tailrace", SEARCH_PASSWORD);
    foreign.ca = own.tls("other-ca.crt");
    let mut start = scene.indexer();
    foreign.give(&mut start);
    let mut indexer = start.spawn().expect("the indexer starts");
    let told = indexer.wait_log(&["certificate"], LIMIT);
    eprintln!("figures {kind}: foreign CA: {told}");
    assert!(indexer.ended().is_none(), "it keeps trying");
    indexer.kill().expect("it runs");

    Access::password(own, "tailrace", WRONG).give(&mut start);
    let mut indexer = start.spawn().expect("the indexer starts");
    let told = indexer.wait_log(&["401", "elasticsearch.auth"], LIMIT);
    eprintln!("figures {kind}: wrong password: {told}");
    assert!(indexer.ended().is_none(), "it keeps trying");
    assert!(!indexer.log().contains("4711"), "a secret is never told");
    assert_eq!(scene.node.count(&scene.index).expect("the node answers"), 0);
    // The other side is mended: no restart.
    set_password(own, kind, WRONG);
    scene.wait_indexed(100, LIMIT);

    set_password(own, kind, SEARCH_PASSWORD);
    add(&lines[100..200]);
    let told = indexer.wait_log(&["401", "refuses us"], LIMIT);
    eprintln!("figures {kind}: password changed under way: {told}");
    add(&lines[200..]);
    set_password(own, kind, WRONG);
    let repaired = wait::now();
    scene.wait_indexed(300, LIMIT);
    eprintln!("figures {kind}: all there {:.1?} after the repair", repaired.elapsed());
    scene.wait_committed(LIMIT);
    scene.check_equations(None, Some(&indexer));
    let documents = scene.node.documents(&scene.index).expect("the index reads back");
    let mut found: Vec<_> = documents.iter().map(|document| document.message().to_owned()).collect();
    let mut expected = lines;
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(scene.cluster.count(&scene.dead_topic).expect("the broker answers"), 0);
    assert!(!indexer.log().contains("4711"), "a secret is never told");
}
