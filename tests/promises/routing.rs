//! Promise: topic and fields decide how a record is read, what runs on it, and where its document goes, and nothing else.

use serde_json::{Value, json};
use std::time::Duration;
use tests::scene::Scene;
use tests::wait;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn topic_and_fields_choose_charset_pipeline_and_data_stream() {
    let scene = Scene::shared("routing", 1);
    let legacy = format!("{}-legacy", scene.topic);
    scene.cluster.create_topic(&legacy, 1).expect("the topic is made");
    let pipelines = scene.folder.join("pipelines");
    std::fs::create_dir_all(&pipelines).expect("the folder is made");
    for name in ["audit", "own", "rest", "old"] {
        let text = format!("processors:\n  - set: {{field: made_by, value: {name}}}\n");
        std::fs::write(pipelines.join(format!("{name}.yml")), text).expect("the file is written");
    }
    // "登录失败" in GBK: a line that is no UTF-8.
    scene.cluster.produce(&legacy, 0, &[b"\xb5\xc7\xc2\xbc\xca\xa7\xb0\xdc\r\n"]).expect("written");
    let records = [
        json!({"n": 1, "kind": "audit", "data_stream": {"dataset": "Pay-Roll", "namespace": "eu/west"}}),
        json!({"n": 2, "kind": "audit", "@metadata": {"pipeline": "own"}, "event": {"dataset": "../../x"}}),
        json!({"n": 3, "event": {"dataset": "x".repeat(300)}}),
    ];
    let records: Vec<_> = records.iter().map(|record| record.to_string().into_bytes()).collect();
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    scene.cluster.produce(&scene.topic, 0, &records).expect("written");

    let mut start = scene.indexer();
    start.config["kafka"]["topics"] = json!([scene.topic, legacy]);
    start.config["topics"] = json!([{"topic": "^.*-legacy$", "decode": "text", "charset": "gbk"}]);
    start.config["elasticsearch"]["index"] = json!(format!("{}-{{dataset}}-{{namespace}}", scene.index));
    start.config["pipelines"] = json!({
        "dir": pipelines,
        "default": "rest",
        "routes": [{"topic": legacy, "pipeline": "old"}, {"if": "ctx.kind == 'audit'", "pipeline": "audit"}],
    });
    let indexer = start.spawn().expect("the indexer starts");
    let index = |part: &str| format!("{}-{part}", scene.index);
    let only = |part: &str| -> Value {
        let (documents, _) = wait::wait_for(part, LIMIT, || {
            let documents = scene.node.documents(&index(part)).map_err(|error| error.to_string())?;
            wait::met(documents.len() == 1, || format!("{documents:?}")).map(|()| documents)
        });
        documents[0].source.clone()
    };
    let audit = only("pay_roll-eu_west");
    assert_eq!((&audit["n"], &audit["made_by"]), (&json!(1), &json!("audit")));
    assert_eq!(audit["data_stream"], json!({"dataset": "pay_roll", "namespace": "eu_west"}));
    let own = only(".._.._x-default");
    assert_eq!((&own["n"], &own["made_by"]), (&json!(2), &json!("own")));
    let long = only(&format!("{}-default", "x".repeat(100)));
    assert_eq!((&long["n"], &long["made_by"]), (&json!(3), &json!("rest")));
    let line = only("generic-default");
    assert_eq!((&line["message"], &line["made_by"]), (&json!("登录失败"), &json!("old")));
    scene.wait_committed(LIMIT);
    scene.check_equations(None, Some(&indexer));
}
