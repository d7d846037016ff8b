//! Promise of the harness itself: it reads back every record and every document of a real broker and a real node.

use serde_json::json;
use tests::scene::Scene;
use tests::writer::Written;
use tests::{audit, http, read_back};

/// More than two pages of a scroll, and no multiple of one.
const LINES: u64 = 12_345;

#[test]
fn every_record_and_every_document_is_read_back() {
    let scene = Scene::shared("read-back", 3);
    let recipe = scene.recipe();
    let lines: Vec<_> = (0..LINES).map(|seq| recipe.line("00-0", seq)).collect();
    let written = Written::from([("00-0".to_owned(), LINES)]);

    for (partition, part) in (0..3).zip(lines.chunks(lines.len().div_ceil(3))) {
        let bytes: Vec<_> = part.iter().map(String::as_bytes).collect();
        scene.cluster.produce(&scene.topic, partition, &bytes).expect("the records are produced");
    }
    let records =
        audit::records(&written, &read_back::topic(&scene.cluster, &scene.topic, &recipe).expect("read"), &[]);
    assert!(records.is_clean(), "{records}");

    let url = format!("{}/{}/_bulk", scene.node.url, scene.index);
    let action =
        |(seq, line)| format!("{}\n{}\n", json!({"create": {"_id": format!("id-{seq}")}}), json!({"message": line}));
    for part in lines.iter().enumerate().collect::<Vec<_>>().chunks(5_000) {
        let body: String = part.iter().copied().map(action).collect();
        let (status, answer) = http::request("POST", &url, Some(&body)).expect("the node answers");
        assert!(status == 200 && answer.contains("\"errors\":false"), "{status}: {answer:.300}");
    }
    let documents = scene.audit_index(&written).expect("read");
    assert!(documents.is_clean(), "{documents}");
    assert_eq!(scene.node.count(&scene.index).expect("the node answers"), LINES);
}

#[test]
fn commits_of_a_group_are_seen_per_partition() {
    let scene = Scene::shared("commits", 2);
    assert!(scene.cluster.committed(&scene.group, &scene.topic).expect("the broker answers").is_empty());
    scene.cluster.produce(&scene.topic, 1, &[b"one", b"two"]).expect("the records are produced");
    assert_eq!(scene.cluster.ends(&scene.topic).expect("the broker answers"), [(0, 0), (1, 2)].into());
    scene.cluster.commit(&scene.group, &scene.topic, 1, 2).expect("the broker takes a commit");
    assert_eq!(scene.cluster.committed(&scene.group, &scene.topic).expect("the broker answers"), [(1, 2)].into());
}
