//! Promise: whatever happens to files and to the agent, in any order, every complete line that stays readable is shipped; in
//! order, under one id, and twice only where a kill explains it.
//!
//! Rounds of histories side by side, each round with an agent and a broker of its own. `TAILRACE_TEST_SEED=S` repeats a round,
//! `TAILRACE_HISTORY=H` plays only that history of it, and with `TAILRACE_HISTORIES=N` that one N times side by side (or N
//! other ones). What a seed decides is what happens and in which order; when, nobody does.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::daemon::{Daemon, Half, Start};
use tests::history::History;
use tests::history::arrivals::Arrivals;
use tests::history::fate::Fate;
use tests::history::judge::{Finding, Truth, judge};
use tests::lines::Recipe;
use tests::mock::MockBroker;
use tests::{stack, wait};

/// Rounds, and histories of each.
const ROUNDS: u64 = 2;
const ROUNDS_FULL: u64 = 12;
const HISTORIES: u64 = 24;
const TOPIC: &str = "histories";
const PARTITIONS: i32 = 6;
/// When all is written and the agent is left alone, something arrives at least so often until all is there.
const STALL: Duration = Duration::from_secs(30);
/// Findings and histories that a report shows.
const SHOWN_MAX: usize = 20;
const STEPS_SHOWN_MAX: usize = 3;

#[test]
fn any_history_of_real_files_and_processes_delivers_what_can_be_read() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let full = std::env::var_os("TAILRACE_TEST_FULL").is_some();
    let (seed, one) = (number("TAILRACE_TEST_SEED"), number("TAILRACE_HISTORY"));
    let count = number("TAILRACE_HISTORIES").unwrap_or(if one.is_some() { 1 } else { HISTORIES });
    let rounds = number("TAILRACE_ROUNDS").unwrap_or(if full { ROUNDS_FULL } else { ROUNDS });
    let rounds = if seed.is_some() { 1 } else { rounds };
    for _ in 0..rounds {
        // Short seeds, for they are typed.
        let seed = seed.unwrap_or_else(|| fastrand::u64(0..1 << 32));
        let seeds: Vec<_> = (0..count).map(|n| one.unwrap_or(seed.wrapping_mul(1_000) + n)).collect();
        let round = Round::new(seed).expect("the round's folder is made");
        if let Err(failure) = round.play(&seeds) {
            panic!("TAILRACE_TEST_SEED={seed}: {failure:#}\nkept in {}", round.folder.display());
        }
        std::fs::remove_dir_all(&round.folder).expect("removed");
    }
}

/// One agent, one broker.
struct Round {
    seed: u64,
    folder: PathBuf,
    broker: Rc<MockBroker>,
    recipe: Recipe,
}

impl Round {
    fn new(seed: u64) -> Result<Self> {
        let run = format!("histories-{seed}-{:04x}", fastrand::u16(..));
        let folder = stack::home().join(&run);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let recipe = Recipe { giant_every: 200, ..Recipe::new(&run, seed) };
        Ok(Self { seed, folder, broker: Rc::new(MockBroker::start(TOPIC, PARTITIONS)?), recipe })
    }

    fn play(&self, seeds: &[u64]) -> Result<()> {
        let (begun, is_over) = (wait::now(), Arc::new(AtomicBool::new(false)));
        let arrivals = Arc::new(Arrivals::start(&self.broker.cluster, TOPIC, PARTITIONS, self.recipe.clone())?);
        let histories = seeds.iter().enumerate().map(|(n, seed)| {
            let input = INPUTS[usize::try_from(*seed % INPUTS.len() as u64)?];
            let root = self.folder.join(input).join(format!("h{seed}.{n}"));
            History::new(*seed, root, self.recipe.clone(), arrivals.clone(), is_over.clone(), begun)
        });
        let mut histories = histories.collect::<Result<Vec<_>>>()?;
        let mut fate = Fate::new(self.agent(), self.broker.clone(), self.seed, begun)?;
        let outcome = self.live(&mut fate, &mut histories, &arrivals, &is_over, begun);
        let report = match outcome {
            Ok(findings) if findings.is_empty() => return Ok(()),
            Ok(findings) => findings,
            Err(error) => vec![Finding { file: String::new(), what: format!("{error:#}") }],
        };
        anyhow::bail!("{}", told(&report, &histories, &fate, self.seed))
    }

    /// Plays everything to its end and compares.
    fn live(
        &self,
        fate: &mut Fate,
        histories: &mut [History],
        arrivals: &Arrivals,
        is_over: &AtomicBool,
        begun: Instant,
    ) -> Result<Vec<Finding>> {
        let outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> = histories.iter_mut().map(|history| scope.spawn(|| history.play())).collect();
            let fated = fate.play(|| threads.iter().all(|thread| thread.is_finished()));
            is_over.store(fated.is_err(), Ordering::Release); // Then nothing is worth waiting for.
            let played = threads.into_iter().map(|thread| thread.join().expect("a history does not panic"));
            std::iter::once(fated).chain(played).collect::<Vec<_>>()
        });
        outcomes.into_iter().collect::<Result<()>>()?;
        let played = begun.elapsed();
        await_all(histories, arrivals)?;
        let arrived_at = begun.elapsed();
        check_at_rest(fate.agent())?;
        fate.restart_in_order()?;
        let restarted = begun.elapsed();
        histories.iter_mut().try_for_each(History::last_words)?;
        await_all(histories, arrivals)?;
        check_at_rest(fate.agent())?;
        let log = std::fs::read_to_string(self.folder.join("agent.log"))?;
        ensure!(!log.contains("panicked at"), "the agent panicked, see its log");
        let truth: Truth = histories.iter().flat_map(|history| history.truth().clone()).collect();
        let arrived = arrivals.all()?;
        let findings = judge(&truth, &arrived, fate.lives());
        let lines: usize = truth.values().map(|content| content.lines.len()).sum();
        let owed: usize = truth.values().map(|content| content.lines.iter().filter(|line| line.is_owed).count()).sum();
        let orderly = fate.lives().iter().filter(|life| life.is_orderly).count();
        let outages = fate.lives().iter().filter(|life| life.outage_until_ms.is_some()).count();
        eprintln!(
            "figures histories: seed {}: {} histories, {} contents, {lines} lines, {owed} owed, {} records, {} lives ({orderly} \
             orderly, {outages} with an outage), {} findings; played after {played:.1?}, all there after {arrived_at:.1?}, restarted {restarted:.1?}, \
             the end {:.1?}",
            self.seed,
            histories.len(),
            truth.len(),
            arrived.len(),
            fate.lives().len(),
            findings.len(),
            begun.elapsed()
        );
        Ok(findings)
    }

    /// An agent with three inputs, whose options the seed chooses.
    fn agent(&self) -> Start {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let input = |id: &str, more: Value| {
            let globs = [self.folder.join(id).join("*/logs/*.log*"), self.folder.join(id).join("*/logs/sub/*.log*")];
            let mut input = json!({"id": id, "type": "file", "paths": globs});
            for (key, value) in more.as_object().into_iter().flatten() {
                input[key] = value.clone();
            }
            input
        };
        let memory = [64 << 10, 1 << 20, 16 << 20][rng.usize(0..3)];
        let config = json!({
            "name": "host-of-histories",
            "state_dir": self.folder.join("state"),
            "memory": memory,
            "inputs": [
                input(INPUTS[0], json!({"read_until_eof": rng.bool()})),
                input(INPUTS[1], json!({"scan_interval": "200ms", "close_inactive": "400ms", "harvester_limit": rng.u32(1..5)})),
                input(INPUTS[2], json!({"scan_interval": "50ms", "close_inactive": "100ms"})),
            ],
            "kafka": {"brokers": [self.broker.cluster.brokers], "topic": TOPIC},
            "metrics": {"listen": format!("127.0.0.1:{}", stack::free_port())},
            "drain_timeout": "30s",
        });
        Start { half: Half::Agent, config, folder: self.folder.clone(), env: Vec::new(), through: Vec::new() }
    }
}

/// Defaults; few files open; closed at once.
const INPUTS: [&str; 3] = ["plain", "few-open", "closing"];

/// Waits until every owed line has come, as long as some come.
fn await_all(histories: &[History], arrivals: &Arrivals) -> Result<()> {
    let (mut records, mut since) = (arrivals.records(), wait::now());
    let missing = || histories.iter().flat_map(History::missing).collect::<Vec<_>>();
    while !missing().is_empty() {
        if arrivals.records() > records {
            (records, since) = (arrivals.records(), wait::now());
        }
        if since.elapsed() >= STALL {
            let missing = missing();
            eprintln!("{} lines have not come, and no more for {STALL:?}: {missing:.10?}", missing.len());
            return Ok(()); // The judge names them.
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The equation, with nothing in flight.
fn check_at_rest(agent: &Daemon) -> Result<()> {
    let mut last = Ok(());
    wait::reached(Duration::from_secs(20), || {
        last = agent.metrics().map_err(|error| error.to_string()).and_then(|metrics| {
            metrics.agent_balances()?;
            wait::met(metrics.in_flight() == Some(0.0), || format!("{:?} in flight", metrics.in_flight()))
        });
        last.is_ok()
    });
    last.map_err(anyhow::Error::msg).context("the agent's equation")
}

/// The findings, and the steps of the histories that they are about.
fn told(findings: &[Finding], histories: &[History], fate: &Fate, seed: u64) -> String {
    let mut text = format!("{} findings\n", findings.len());
    let mut line = |what: &str| writeln!(text, "{what}").expect("a string takes all");
    findings.iter().take(SHOWN_MAX).for_each(|finding| line(&finding.to_string()));
    line("what befell the agent:");
    fate.told().iter().for_each(|told| line(told));
    let is_meant = |history: &&History| {
        findings.iter().any(|finding| finding.file.starts_with(&history.name) || finding.what.contains(&*history.name))
    };
    for history in histories.iter().filter(is_meant).take(STEPS_SHOWN_MAX) {
        line(&format!("{}: (alone: TAILRACE_TEST_SEED={seed} TAILRACE_HISTORY={})", history.name, history.seed));
        history.steps().iter().for_each(|step| line(step));
    }
    text
}
