//! Promise: the indexer tells how long records take on each part of their way, how old what waits is, and when retention will take it.

use rdkafka::admin::ResourceSpecifier;
use serde_json::{Value, json};
use service::clock::wall_ms;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::scene::Scene;
use tests::{http, wait, writer};

const LIMIT: Duration = Duration::from_secs(60);
/// How long the topic keeps records.
const KEPT: Duration = Duration::from_secs(3_600);
/// How long ago its first records were written: more than half of that.
const AGE: Duration = Duration::from_secs(2_400);
/// How much longer they wait while that is looked at.
const BLOCKED: f64 = 8.0;
/// Between a look at the metrics and the moment that they are of, in seconds: they are set once a second, in whole seconds.
const SLACK: f64 = 3.0;
/// Lines that the agent reads.
const LINES: u64 = 500;
/// Records of somebody else.
const FOREIGN: u64 = 20;

fn gauge(indexer: &Daemon, name: &str, partition: i32) -> Option<f64> {
    indexer.metrics().ok()?.sum_where(&format!("tailrace_indexer_{name}"), &format!("partition=\"{partition}\""))
}

/// Count and sum of a stage, and records of which it was negative.
fn stage(indexer: &Daemon, stage: &str) -> (f64, f64, f64) {
    let (metrics, label) = (indexer.metrics().expect("metrics"), format!("stage=\"{stage}\""));
    let of = |name: &str| metrics.sum_where(&format!("tailrace_indexer_latency_{name}"), &label).unwrap_or(0.0);
    (of("seconds_count"), of("seconds_sum"), of("backward_total"))
}

#[test]
fn lag_in_seconds_the_forecast_of_retention_and_the_latency_of_each_stage_are_told() {
    let scene = Scene::shared("latency", 2);
    let kept = KEPT.as_millis().to_string();
    scene.cluster.set(ResourceSpecifier::Topic(&scene.topic), &[("retention.ms", &kept)]).expect("the topic is set");
    let set_shut = |shut: bool| {
        let url = format!("{}/{}/_settings", scene.node.url, scene.index);
        http::json("PUT", &url, Some(&json!({"index.blocks.write": shut}))).expect("the index is set");
    };
    set_shut(true);
    // As if nothing had been indexed for 40 minutes of the hour.
    let written_ms = wall_ms() - AGE.as_millis() as i64;
    let record = |n: u64| json!({"n": n}).to_string().into_bytes();
    let records: Vec<_> = (0..FOREIGN).map(record).collect();
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    scene.cluster.produce_at(&scene.topic, 0, &records, written_ms).expect("the records are written");
    let mut indexer = scene.indexer().spawn().expect("the indexer starts");
    indexer.wait_ready(LIMIT);

    let age_s = || (wall_ms() - written_ms) as f64 / 1_000.0;
    let is_near = |found: Option<f64>, expected: f64| found.is_some_and(|found| (found - expected).abs() <= SLACK);
    let both = |indexer: &Daemon| (gauge(indexer, "lag_seconds", 0), gauge(indexer, "retention_left_seconds", 0));
    let waits = || {
        let (before, (lag, left), after) = (age_s(), both(&indexer), age_s());
        let is_told = is_near(lag, after) && is_near(left, KEPT.as_secs_f64() - after);
        wait::met(is_told, || format!("{before:.1} s old: lag {lag:?} s, left {left:?} s; {}", indexer.log_tail()))
    };
    wait::wait_for("an age and a forecast", LIMIT, waits);
    let first = both(&indexer);
    wait::stays("age and forecast", Duration::from_secs_f64(BLOCKED), waits);
    let second = both(&indexer);
    let grown = (second.0.unwrap_or(0.0) - first.0.unwrap_or(0.0), second.1.unwrap_or(0.0) - first.1.unwrap_or(0.0));
    assert!(grown.0 >= BLOCKED - 2.0 && grown.1 <= 2.0 - BLOCKED, "{first:?}, then {second:?}");
    // Less than half of the hour is left: that is said, and said once.
    let line = indexer.wait_log(&["these records will be deleted before they are read", &scene.topic], LIMIT);
    let problems = || -> anyhow::Result<Value> {
        let (_, body) = indexer.get("/healthz")?;
        Ok(serde_json::from_str::<Value>(&body)?["problems"].take())
    };
    let problem = problems().expect("an answer")["retention"].to_string();
    assert!(problem.contains("retention.ms") && problem.contains("partition 0"), "{problem}");
    assert_eq!(indexer.log().matches("these records will be deleted").count(), 1, "{line}");

    set_shut(false);
    let (_, waited) = wait::wait_for("nothing that waits", LIMIT, || {
        let (lag, left) = both(&indexer);
        let is_told = lag == Some(0.0) && left == Some(KEPT.as_secs_f64());
        wait::met(is_told, || format!("lag {lag:?} s, left {left:?} s"))
    });
    wait::wait_for("an end of the warning", LIMIT, || {
        let problems = problems().map_err(|error| error.to_string())?;
        wait::met(problems.get("retention").is_none(), || problems.to_string())
    });
    let (count, sum, _) = stage(&indexer, "broker");
    assert!(count == FOREIGN as f64 && (sum / count - age_s()).abs() < 60.0, "{count} records, {sum} s");
    let (count, sum, backward) = stage(&indexer, "parse");
    assert!(count == FOREIGN as f64 && sum >= BLOCKED * count && backward == 0.0, "{count} records, {sum} s");
    assert_eq!((stage(&indexer, "file").0, stage(&indexer, "total").0), (0.0, 0.0)); // Nobody said when they were read.
    eprintln!("figures latency: {first:?} to {second:?} s while nothing was indexed, 0 s {waited:?} after it");

    let seconds = || ["file", "broker", "parse", "total"].map(|name| stage(&indexer, name).1);
    let before = seconds();
    writer::write_now(&scene.load(1, LINES, 0, 0)).expect("the lines are written");
    let _agent = scene.agent().spawn().expect("the agent starts");
    scene.wait_indexed(LINES + FOREIGN, LIMIT);
    wait::wait_for("the latency of all lines", LIMIT, || {
        let counts = ["file", "broker", "parse", "total"].map(|name| stage(&indexer, name).0);
        let all = (LINES + FOREIGN) as f64;
        wait::met(counts == [LINES as f64, all, all, LINES as f64], || format!("{counts:?}"))
    });
    let after = seconds();
    let [file, broker, parse, total] = [0, 1, 2, 3].map(|at| after[at] - before[at]);
    assert!((file + broker + parse - total).abs() < 0.001, "{file} + {broker} + {parse} is not {total}");
    assert!(total > 0.0 && total / (LINES as f64) < LIMIT.as_secs_f64(), "{total} s for {LINES} lines");
    let each = |seconds: f64| (seconds * 1_000.0 / LINES as f64).round();
    let (file, broker, parse, total) = (each(file), each(broker), each(parse), each(total));
    eprintln!("figures latency: {LINES} lines, ms each: file {file}, broker {broker}, parse {parse}, total {total}");
    scene.wait_committed(LIMIT);
    wait::wait_for("nothing that waits in either partition", LIMIT, || {
        let ages = [0, 1].map(|partition| gauge(&indexer, "lag_seconds", partition));
        wait::met(ages == [Some(0.0); 2], || format!("{ages:?}"))
    });
    scene.check_equations(None, Some(&indexer));
}

/// What a partition keeps, and the length of a record in it.
const KEPT_BYTES: u64 = 1 << 30;
const RECORD_BYTES: usize = 200;
/// Records that are written at once.
const AT_ONCE: u64 = 500;

#[test]
fn where_bytes_are_limited_the_forecast_follows_the_growth() {
    let scene = Scene::shared("latency-bytes", 1);
    let kept = KEPT_BYTES.to_string();
    scene.cluster.set(ResourceSpecifier::Topic(&scene.topic), &[("retention.bytes", &kept)]).expect("the topic is set");
    let mut indexer = scene.indexer().spawn().expect("the indexer starts");
    indexer.wait_ready(LIMIT);
    let line = vec![b'x'; RECORD_BYTES];
    let records = vec![line.as_slice(); AT_ONCE as usize];
    let (begun, mut written) = (wait::now(), 0);
    let (left, _) = wait::wait_for("a forecast by bytes", LIMIT, || {
        scene.cluster.produce(&scene.topic, 0, &records).map_err(|error| error.to_string())?;
        written += AT_ONCE;
        let left = gauge(&indexer, "retention_left_seconds", 0);
        // By time it is a week.
        left.filter(|left| *left < 86_400.0).ok_or_else(|| format!("{left:?}; {}", indexer.log_tail()))
    });
    let bytes_per_s = (written * RECORD_BYTES as u64) as f64 / begun.elapsed().as_secs_f64();
    let expected = KEPT_BYTES as f64 / bytes_per_s;
    eprintln!(
        "figures latency: {left} s left at {bytes_per_s:.0} bytes a second, {expected:.0} s by the bytes of values"
    );
    assert!((expected / 4.0..expected * 4.0).contains(&left), "{left} s, {expected:.0} s expected");
    assert!(indexer.stop(LIMIT).success(), "{}", indexer.log_tail());
}
