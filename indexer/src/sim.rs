//! The whole way of records, from a partition to the commit, against a search node that fails at random: tests only.
//!
//! Everything but Kafka and HTTP is the real code; time is tokio's paused clock. A reference model says for each record how
//! it must end. A seed that fails is run alone with `TAILRACE_SIM_SEED=… cargo test -p indexer sim`.

mod life;
mod node;
mod world;

use life::live;
use node::{Faults, Node};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use world::World;

/// Seeds of an ordinary run, and of a full one.
const SEEDS: (u64, u64) = (2_000, 20_000);
/// Longest life of an indexer, in the clock of the test: to get there means that it goes round in circles.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// When a simulation begins, by the clock on its wall.
const BEGIN_MS: i64 = 1_700_000_000_000;

thread_local! {
    /// When this thread's simulation began.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The clock on the wall of the simulation.
fn wall_ms() -> i64 {
    let began = BEGAN.get().expect("a simulation has begun");
    BEGIN_MS + i64::try_from(began.elapsed().as_millis()).expect("a short time")
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("TAILRACE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None if number("TAILRACE_TEST_FULL") == Some(1) => 0..SEEDS.1,
        None => 0..SEEDS.0,
    }
}

/// What a run leaves behind, to be compared with another of the same seed.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    requests: usize,
    took: Duration,
    letters: usize,
    put_off: usize,
    faults: usize,
    crashes: u32,
}

fn run(seed: u64) -> Trace {
    fastrand::seed(seed); // The waits' jitter comes from this thread's generator.
    let mut random = fastrand::Rng::with_seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be made");
    runtime.block_on(async {
        let began = Instant::now();
        BEGAN.set(Some(began));
        let faults = Faults::random(&mut random);
        let mut world = World::random(&mut random, faults.body_bytes_max);
        let node = Arc::new(Node::new(faults, random.fork()));
        let crashes = if random.bool() { 0 } else { random.u32(1..3) };
        for _ in 0..crashes {
            // Half of them while records wait in retry topics.
            let after =
                Duration::from_millis(if random.bool() { random.u64(1..20_000) } else { random.u64(1..1_500_000) });
            drop(tokio::time::timeout(after, live(&mut world, &node, &mut random)).await);
        }
        let metrics = tokio::time::timeout(LIFE_MAX, live(&mut world, &node, &mut random)).await.unwrap_or_else(|_| {
            panic!("seed {seed}: it does not end; TAILRACE_SIM_SEED={seed} cargo test -p indexer sim")
        });
        let replay = format!("TAILRACE_SIM_SEED={seed} cargo test -p indexer sim");
        world.check(&node, crashes, &replay);
        let (consumed, ends) = metrics.equation();
        assert_eq!((consumed, metrics.in_flight.get()), (ends, 0), "the equation; {replay}");
        Trace {
            requests: node.requests().len(),
            took: began.elapsed(),
            letters: world.letters(),
            put_off: world.put_off(),
            faults: node.faults_shown(),
            crashes,
        }
    })
}

#[test]
fn whatever_the_node_does_each_record_ends_as_one_document_or_one_dead_letter() {
    let traces: Vec<Trace> = seeds().map(run).collect();
    if traces.len() > 1 {
        // Else it would show nothing.
        let count = |what: fn(&Trace) -> usize| traces.iter().map(what).sum::<usize>();
        assert!(count(|trace| trace.faults) > traces.len(), "faults");
        assert!(count(|trace| trace.letters) > traces.len(), "letters");
        assert!(count(|trace| trace.put_off) > traces.len(), "put off");
        assert!(count(|trace| usize::from(trace.crashes > 0)) > traces.len() / 3, "crashes");
    }
}

#[test]
fn a_node_that_is_away_is_not_asked_in_a_hot_loop() {
    let window = Duration::from_secs(10);
    for seed in 0..20 {
        fastrand::seed(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let requests = runtime.expect("a runtime without I/O can be made").block_on(async {
            BEGAN.set(Some(Instant::now()));
            let mut world = World::random(&mut random, 8_000);
            let node = Arc::new(Node::new(Faults::away(Duration::from_secs(300)), random.fork()));
            live(&mut world, &node, &mut random).await;
            node.requests()
        });
        let in_window = |(at, first): (usize, &tokio::time::Instant)| {
            requests.iter().skip(at).take_while(|later| **later - *first < window).count()
        };
        let most = requests.iter().enumerate().map(in_window).max().unwrap_or(0);
        assert!(most <= 100, "seed {seed}: {most} requests in {window:?}"); // I4: ten a second.
    }
}

#[test]
fn a_seed_does_the_same_each_time() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
