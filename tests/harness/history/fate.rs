//! What befalls an agent while it works: killed, frozen, stopped in order, ended at a named point, left without its broker.

use super::judge::Life;
use crate::daemon::{Daemon, Start};
use crate::mock::MockBroker;
use crate::{points, stack, wait};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use service::clock::wall_ms;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often, what it is called, what it does.
type Turn = (u32, &'static str, fn(&mut Fate) -> Result<()>);

/// What may befall it.
const TURNS: &[Turn] = &[
    (6, "kill", Fate::kill_and_start),
    (4, "stop and start", Fate::stop_and_start),
    (4, "freeze", Fate::freeze),
    (2, "freeze and kill", Fate::freeze_and_kill),
    (3, "broker away", Fate::broker_away),
    (2, "killed while the broker is away", Fate::killed_without_broker),
    (5, "armed", Fate::arm),
];

/// Between two turns, milliseconds.
const PACE_MS: std::ops::Range<u64> = 200..1_800;
/// SIGABRT: how a failpoint ends a process.
const ABORTED: i32 = 6;
/// Longest wait for an end; the agent's own `drain_timeout` is shorter.
const END_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a start.
const READY_MAX: Duration = Duration::from_secs(60);
/// Half of the lives are let deliver something before the next turn, if they do it within this time.
const WORK_MAX: Duration = Duration::from_secs(5);
/// Exit code of an agent that could not deliver all in time.
const UNFINISHED: i32 = 3;

/// An agent and its lives. Its inputs' records tell which one sent them, as `fields.life`.
pub struct Fate {
    start: Start,
    broker: Rc<MockBroker>,
    rng: fastrand::Rng,
    points: Vec<String>,
    agent: Daemon,
    /// The point at which this life may end.
    armed: Option<String>,
    lives: Vec<Life>,
    begun: Instant,
    told: Vec<String>,
}

impl Fate {
    /// Starts the first life. `begun`: the turns' times count from there.
    pub fn new(start: Start, broker: Rc<MockBroker>, seed: u64, begun: Instant) -> Result<Self> {
        let named = ["agent", "shipper"].map(|name| points::points_in(&stack::project().join(name).join("src")));
        let points = named.into_iter().flatten().collect();
        let rng = fastrand::Rng::with_seed(seed);
        let agent = spawn(&start, 0, None)?;
        Ok(Self {
            start,
            broker,
            rng,
            points,
            agent,
            armed: None,
            lives: vec![Life::default()],
            begun,
            told: Vec::new(),
        })
    }

    /// One turn after another until `is_over`; then the broker is there, and an agent at which no point is armed.
    ///
    /// Errors: the agent ended by itself, or not when it was told to.
    pub fn play(&mut self, is_over: impl Fn() -> bool) -> Result<()> {
        let weights: u32 = TURNS.iter().map(|turn| turn.0).sum();
        while !is_over() {
            if self.rng.bool() {
                wait::reached(WORK_MAX, || is_over() || self.agent.ended().is_some() || self.has_delivered());
            }
            let pause = Duration::from_millis(self.rng.u64(PACE_MS));
            let ended = wait::reached(pause, || is_over() || self.agent.ended().is_some()); // The pace, not a wait.
            if ended && !is_over() {
                self.look()?;
                continue;
            }
            let mut at = self.rng.u32(0..weights);
            let chosen = TURNS.iter().find(|turn| {
                let is_it = at < turn.0;
                at = at.saturating_sub(turn.0);
                is_it
            });
            let Some((_, name, turn)) = chosen else { continue };
            self.tell(name);
            self.look()?;
            turn(self).with_context(|| format!("{name}; log:\n{}", self.agent.log_tail()))?;
        }
        if self.armed.is_some() {
            self.kill()?;
            self.begin(None)?;
        }
        self.agent.wait_ready(READY_MAX);
        Ok(())
    }

    /// The living agent.
    pub fn agent(&self) -> &Daemon {
        &self.agent
    }

    /// All lives, the present one among them.
    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// What befell it, a line a turn.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Told to stop, it ends; then it is started again. All must be delivered unless a point is armed.
    pub fn restart_in_order(&mut self) -> Result<()> {
        self.tell("stop and start");
        self.stop_and_start()?;
        ensure!(
            self.lives.iter().rev().nth(1).is_some_and(|life| life.is_orderly),
            "not all was delivered at the stop"
        );
        Ok(())
    }

    fn tell(&mut self, what: &str) {
        let (at, life) = (self.begun.elapsed().as_millis(), self.lives.len() - 1);
        self.told.push(format!("{at:>8} ms life {life}: {what}"));
    }

    /// If the agent has ended at its point, the next life begins.
    fn look(&mut self) -> Result<()> {
        if let Some(status) = self.agent.ended() {
            self.expect_abort(status)?;
            self.begin(None)?;
        }
        Ok(())
    }

    fn expect_abort(&mut self, status: ExitStatus) -> Result<()> {
        let Some(point) = self.armed.take().filter(|_| status.signal() == Some(ABORTED)) else {
            bail!("the agent ended with {status}; log:\n{}", self.agent.log_tail());
        };
        ensure!(self.agent.log().contains(&point), "ended not at {point}; log:\n{}", self.agent.log_tail());
        self.tell(&format!("ended at {point}"));
        Ok(())
    }

    /// Another life.
    fn begin(&mut self, armed: Option<String>) -> Result<()> {
        self.agent = spawn(&self.start, self.lives.len(), armed.as_deref())?;
        self.armed = armed.and_then(|armed| Some(armed.split_once('=')?.0.to_owned()));
        self.lives.push(Life::default());
        Ok(())
    }

    fn has_delivered(&self) -> bool {
        self.agent.metrics().is_ok_and(|metrics| metrics.agent("acknowledged") > 0)
    }

    fn pace(&mut self, span: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.rng.u64(span))); // How long it lasts, not a wait.
    }

    fn kill(&mut self) -> Result<()> {
        self.armed = None;
        self.agent.kill()
    }

    fn kill_and_start(&mut self) -> Result<()> {
        self.kill()?;
        self.pace(0..1_500);
        self.begin(None)
    }

    fn stop_and_start(&mut self) -> Result<()> {
        self.agent.terminate()?;
        let mut status = None;
        wait::reached(END_MAX, || {
            status = self.agent.ended();
            status.is_some()
        });
        let Some(status) = status else { bail!("still running {END_MAX:?} after SIGTERM") };
        match status.code() {
            Some(0) => self.lives.iter_mut().rev().take(1).for_each(|life| life.is_orderly = true),
            Some(UNFINISHED) => self.tell("not all was delivered"),
            _ => self.expect_abort(status)?,
        }
        self.pace(0..1_000);
        self.begin(None)
    }

    fn freeze(&mut self) -> Result<()> {
        self.agent.signal("STOP")?;
        self.pace(50..2_000);
        self.agent.signal("CONT")
    }

    fn freeze_and_kill(&mut self) -> Result<()> {
        self.agent.signal("STOP")?;
        self.pace(50..1_000);
        self.kill_and_start()
    }

    /// The broker hangs up and comes back: what was on its way is sent again by the client itself.
    fn broker_away(&mut self) -> Result<()> {
        self.without_broker(|fate| {
            fate.pace(50..1_500);
            Ok(())
        })
    }

    fn killed_without_broker(&mut self) -> Result<()> {
        self.without_broker(|fate| {
            fate.pace(50..700);
            fate.kill_and_start()?;
            fate.pace(50..700);
            Ok(())
        })
    }

    fn without_broker(&mut self, meanwhile: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.broker.down()?;
        self.note_outage(i64::MAX);
        let outcome = meanwhile(self);
        self.broker.up()?;
        self.note_outage(wall_ms());
        outcome
    }

    fn note_outage(&mut self, until_ms: i64) {
        self.lives.iter_mut().rev().take(1).for_each(|life| life.outage_until_ms = Some(until_ms));
    }

    /// Ends at a named point, some time after its start.
    fn arm(&mut self) -> Result<()> {
        let Some(point) = self.rng.choice(self.points.clone()) else { bail!("the named points are gone") };
        let passes = match point.as_str() {
            point if point.contains("rename") => 0, // Once a life or so.
            point if point.contains("fsync") => self.rng.u32(0..3),
            _ => self.rng.u32(0..40),
        };
        self.tell(&format!("{point} after {passes}"));
        self.kill()?;
        self.begin(Some(format!("{point}={passes}*off->1*return")))
    }
}

/// Starts the life of that number.
fn spawn(start: &Start, life: usize, armed: Option<&str>) -> Result<Daemon> {
    let mut start = start.clone();
    for input in start.config["inputs"].as_array_mut().context("inputs are a list")? {
        input["fields"] = json!({"life": life});
    }
    start.env.extend(armed.map(|armed| ("FAILPOINTS".to_owned(), armed.to_owned())));
    start.spawn()
}
