//! Promise: what rate plans divert is indexed at full speed in the valleys of the main topics, and never stands still in their peaks.

use serde_json::json;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::scene::Scene;
use tests::{http, wait};

const LIMIT: Duration = Duration::from_secs(120);
/// Records of the main topic, and of the overflow topic.
const MAIN: u64 = 4_000;
const OVERFLOW: u64 = 60_000;
/// The main topic may lag by so many.
const MAX_LAG: u64 = 1_000;
/// In a peak this passes at once besides the share: what one round of the consumer takes before it looks.
const ROUND_MAX: u64 = 8_000;
/// What passes in a peak in any case, a second.
const FLOOR_PER_S: u64 = 100;
/// How long the peak is looked at.
const PEAK: Duration = Duration::from_secs(10);

fn record(dataset: &str, n: u64) -> Vec<u8> {
    json!({"event": {"dataset": dataset}, "n": n}).to_string().into_bytes()
}

fn produce(scene: &Scene, topic: &str, records: &[Vec<u8>]) {
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    scene.cluster.produce(topic, 0, &records).expect("the records are written");
}

fn gauge(indexer: &Daemon, name: &str) -> Option<f64> {
    indexer.metrics().ok()?.sum(&format!("tailrace_indexer_{name}"))
}

#[test]
fn overflow_drains_only_while_the_main_topic_lags_little_and_goes_on_in_its_peaks() {
    let scene = Scene::shared("overflow", 1);
    let later = format!("{}-later", scene.topic);
    scene.cluster.create_topic(&later, 1).expect("the topic is made");
    let index = |dataset: &str| format!("{}-{dataset}", scene.index);
    for dataset in ["shut", "main", "later"] {
        scene.node.create_index(&index(dataset), &json!({})).expect("the index is made");
    }
    let set_shut = |shut: bool| {
        let url = format!("{}/{}/_settings", scene.node.url, index("shut"));
        http::json("PUT", &url, Some(&json!({"index.blocks.write": shut}))).expect("the index is set");
    };
    // The first record is refused for now: until it is taken nothing behind it is committed, which is a lag.
    set_shut(true);
    let main: Vec<Vec<u8>> = (0..MAIN).map(|n| record(if n == 0 { "shut" } else { "main" }, n)).collect();
    produce(&scene, &scene.topic, &main);
    produce(&scene, &later, &(0..OVERFLOW).map(|n| record("later", n)).collect::<Vec<_>>());
    let mut start = scene.indexer();
    start.config["elasticsearch"]["index"] = json!(format!("{}-{{event.dataset}}", scene.index));
    start.config["overflow"] = json!({"topics": [later], "max_lag": MAX_LAG, "min_share": 5});
    let indexer = start.spawn().expect("the indexer starts");

    wait::wait_for("a lag that is known", LIMIT, || {
        let lag = gauge(&indexer, "main_lag");
        wait::met(lag == Some(MAIN as f64), || format!("{lag:?}"))
    });
    let taken = || scene.node.count(&index("later")).map_err(|error| error.to_string());
    let begun = wait::now();
    let first = taken().expect("the index is there");
    wait::stays("overflow in a peak", PEAK, || {
        let (taken, open) = (taken()?, gauge(&indexer, "overflow_open"));
        // Whatever was taken before the peak was looked at is bounded as well: it was never open.
        let max = ROUND_MAX + MAIN * 5 / 95 + FLOOR_PER_S * (begun.elapsed().as_secs() + 60);
        wait::met(taken <= max && open == Some(0.0), || format!("{taken} of at most {max}, open: {open:?}"))
    });
    let (taken_in_peak, _) = wait::wait_for("progress in the peak", LIMIT, || {
        let taken = taken()?;
        wait::met(taken > first + FLOOR_PER_S, || format!("{first}, then {taken}")).map(|()| taken)
    });
    eprintln!(
        "figures overflow: {} documents in the first {:?} of a peak that was looked at",
        taken_in_peak - first,
        begun.elapsed()
    );

    set_shut(false);
    let begun = wait::now();
    let (all, _) = wait::grows_to(OVERFLOW, LIMIT, || scene.node.count(&index("later")).ok());
    assert_eq!(all, OVERFLOW);
    let (rest, took) = (OVERFLOW - taken_in_peak, begun.elapsed());
    eprintln!("figures overflow: the other {rest} in {took:?} after it");
    assert_eq!(gauge(&indexer, "overflow_open"), Some(1.0));
    let in_a_peak = Duration::from_secs(rest / FLOOR_PER_S);
    assert!(took < in_a_peak / 4, "{took:?}: at the pace of a peak it would be {in_a_peak:?}");
    let count = |dataset| scene.node.count(&index(dataset)).expect("the index is there");
    wait::wait_for("the main documents", LIMIT, || {
        let counts = (count("main"), count("shut"));
        wait::met(counts == (MAIN - 1, 1), || format!("{counts:?}"))
    });
    scene.wait_committed(LIMIT);
    scene.check_equations(None, Some(&indexer));
}
