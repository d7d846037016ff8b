//! Promise: while Kafka or the search node is away, nothing is lost, memory stays flat, and the way back is short.

use std::time::{Duration, Instant};
use tests::daemon::Daemon;
use tests::scene::{AGENT_MEMORY, Scene};
use tests::stack::{self, OwnKafka, OwnSearch};
use tests::wait;
use tests::writer::Writer;

/// Lines a second, over all files.
const RATE: u64 = 3_000;

/// How long each is away.
const AWAY: Duration = Duration::from_secs(20);

/// Resident memory that the agent may gain while Kafka is away.
const RSS_GROWTH_MAX: u64 = 2 * AGENT_MEMORY + 5_000_000;

/// Resident memory that the indexer may reach while the search node is away: the bar of its benchmark.
const INDEXER_RSS_MAX: u64 = 150_000_000;

/// Processor time while Kafka is away, in parts of one core.
const CPU_MAX: f64 = 0.02;

/// From the broker's return until everything written is in Kafka again.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

#[test]
fn twenty_seconds_without_kafka_and_without_the_search_node_lose_nothing() {
    let home = stack::home();
    let own = home.join(format!("outage-{:08x}", fastrand::u32(..)));
    let kafka = OwnKafka::start(&own).expect("a broker of this test's own starts");
    let search = OwnSearch::start(&own, "opensearch").expect("a node of this test's own starts");
    let scene = Scene::on("outage", 6, kafka.cluster.clone(), search.node.clone());
    let mut agent = scene.agent().spawn().expect("the agent starts");
    let mut start = scene.indexer();
    // Half of the outage: one that did not poll would be thrown out of the group.
    start.config["kafka"]["max_poll_interval"] = serde_json::json!("10s");
    let mut indexer = start.spawn().expect("the indexer starts");
    // More than is needed; ended after the second outage.
    let writer = Writer::start(scene.load(20, 10_000_000, RATE, 2));
    agent.wait_ready(Duration::from_secs(20));
    indexer.wait_ready(Duration::from_secs(20));
    scene.wait_indexed(3 * RATE, Duration::from_secs(60));

    // A missed bar is told at the end, so that one does not hide the others.
    let mut missed = without_kafka(&scene, &kafka, &writer, &mut agent);
    scene.wait_indexed(writer.lines(), Duration::from_secs(60));
    missed.extend(without_search(&scene, &search, &writer, &mut indexer));

    let written = writer.end().expect("the lines are written");
    let lines = written.values().sum();
    scene.wait_indexed(lines, Duration::from_secs(120));
    scene.wait_committed(Duration::from_secs(60));
    scene.check_equations(Some(&agent), Some(&indexer));
    let topic = scene.audit_topic(&written, &[]).expect("the topic reads back");
    let index = scene.audit_index(&written).expect("the index reads back");
    eprintln!("figures outage: topic: {topic}");
    eprintln!("figures outage: index: {index}");
    assert!(index.is_clean(), "{index}");
    assert!(topic.missing.is_empty() && topic.is_sound() && topic.inverted_in_a_life.is_empty(), "{topic}");
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The message if a bar is missed.
fn bar(holds: bool, message: String) -> Option<String> {
    if holds { None } else { Some(message) }
}

fn without_kafka(scene: &Scene, kafka: &OwnKafka, writer: &Writer, agent: &mut Daemon) -> Vec<String> {
    let before = agent.usage().expect("the agent runs");
    kafka.stop().expect("the broker stops");
    let written_before = writer.lines();
    let begun = wait::now();
    let at_stop = agent.usage().expect("the agent runs");
    let mut rss_max = at_stop.rss;
    wait::stays("the agent while Kafka is away", AWAY, || {
        let used = agent.usage().map_err(|error| error.to_string())?;
        rss_max = rss_max.max(used.rss);
        wait::met(agent.ended().is_none(), || "it ended".to_owned())
    });
    let at_end = agent.usage().expect("the agent runs");
    let cpu = (at_end.cpu - at_stop.cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let growth = rss_max.saturating_sub(before.rss);
    eprintln!(
        "figures outage: Kafka away: agent RSS {} -> {rss_max} bytes, CPU {:.2} % of a core",
        before.rss,
        cpu * 100.0
    );
    let (returned, caught_up) = std::thread::scope(|threads| {
        let starting = threads.spawn(|| kafka.start_again());
        let returned = until_broker_answers(scene);
        let (_, caught_up) = wait::wait_for("everything written in Kafka again", Duration::from_secs(60), || {
            // What was written a moment ago may be on its way: a tenth of a second of the load.
            let (written, shipped) = (writer.lines(), scene.cluster.count(&scene.topic).map_err(|e| e.to_string())?);
            wait::met(shipped + RATE / 10 >= written, || format!("{shipped} of {written} lines"))
        });
        starting.join().expect("no panic").expect("the broker starts again");
        (returned, caught_up)
    });
    let backlog = writer.lines() - written_before;
    eprintln!(
        "figures outage: broker back {returned:?} after its start, caught up {caught_up:?} later ({backlog} lines)"
    );
    let bars = [
        bar(growth <= RSS_GROWTH_MAX, format!("RSS grew by {growth} bytes, {RSS_GROWTH_MAX} allowed")),
        bar(cpu < CPU_MAX, format!("{:.2} % of a core while Kafka was away", cpu * 100.0)),
        bar(caught_up <= CATCH_UP_MAX, format!("caught up only {caught_up:?} after the broker's return")),
    ];
    bars.into_iter().flatten().collect()
}

/// Waits until a client finds a leader for every partition.
fn until_broker_answers(scene: &Scene) -> Duration {
    let begun = wait::now();
    wait::wait_for("the broker's return", Duration::from_secs(90), || {
        if std::net::TcpStream::connect(&scene.cluster.brokers).is_err() {
            return Err("no port".to_owned());
        }
        scene.cluster.ends(&scene.topic).map(drop).map_err(|error| error.to_string())
    });
    begun.elapsed()
}

fn without_search(scene: &Scene, search: &OwnSearch, writer: &Writer, indexer: &mut Daemon) -> Vec<String> {
    let rebalances = |indexer: &Daemon| indexer.metrics().map(|m| m.total("tailrace_indexer_rebalances_total"));
    let assigned = |indexer: &Daemon| indexer.metrics().map(|m| m.total("tailrace_indexer_assigned_partitions"));
    let before = rebalances(indexer).expect("the indexer has metrics");
    assert_eq!(assigned(indexer).expect("the indexer has metrics"), 6);
    search.stop().expect("the node stops");
    let mut rss_max = 0;
    let begun: Instant = wait::now();
    let cpu_before = indexer.usage().expect("the indexer runs").cpu;
    wait::stays("the indexer while the search node is away", AWAY, || {
        rss_max = rss_max.max(indexer.usage().map_err(|error| error.to_string())?.rss);
        wait::met(indexer.ended().is_none(), || "it ended".to_owned())
    });
    let cpu =
        (indexer.usage().expect("the indexer runs").cpu - cpu_before).as_secs_f64() / begun.elapsed().as_secs_f64();
    search.start_again().expect("the node starts again");
    let back = wait::now();
    // How fast is the node's business: what counts is that all of it comes.
    let written = writer.lines();
    let (indexed, _) = wait::grows_to(written, Duration::from_secs(60), || scene.node.count(&scene.index).ok());
    assert!(indexed >= written, "after the node's return only {indexed} of {written} lines came into the index");
    eprintln!(
        "figures outage: search node away: indexer RSS at most {rss_max} bytes, CPU {:.2} % of a core; caught up {:?} after it was healthy",
        cpu * 100.0,
        back.elapsed()
    );
    let (moved, left) =
        (rebalances(indexer).expect("the indexer has metrics"), assigned(indexer).expect("the indexer has metrics"));
    let bars = [
        bar(
            moved == before && left == 6,
            format!("the assignment moved: {before} -> {moved} rebalances, {left} of 6 partitions"),
        ),
        bar(rss_max <= INDEXER_RSS_MAX, format!("indexer RSS {rss_max} bytes, {INDEXER_RSS_MAX} allowed")),
    ];
    bars.into_iter().flatten().collect()
}
