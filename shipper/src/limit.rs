//! Rate plans: between the agent's groups and `produce`.
//!
//! `wait` is asked for before a source is read ([`Gate`]), so that what waits is in its file and not in memory. What was read is
//! judged here, a group at a time: it passes, goes to another topic, or is dropped, and is counted. Rates use the monotonic clock,
//! schedules that of the wall.

mod config;
mod engine;
mod meter;
mod schedule;
mod simulate;
mod status;
mod tally;

pub use config::{Excess, Plan, PlanConfig, PlanError, Scope, compile};
pub use simulate::{Arrival, Minute, Second, Simulated, SimulatedSource, simulate};
pub use status::{ShownLimit, ShownPlan};

use crate::metrics::ShipperMetrics;
use crate::overflow::Overflows;
use engine::{Engine, Now, Origin, Verdict};
use event::{Ack, Divert, Gate, Group, Input, Route, Share, StreamId};
use service::clock::{monotonic, wall_ms};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tally::{Load, Tally, tally};
use tokio::sync::mpsc::{Receiver, Sender};

/// A source that is held is asked for again after so long at the latest: plans may be reloaded, and schedules end.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The plans of a running agent, and how far each is used up. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub struct Limits {
    engine: Arc<Mutex<Engine>>,
    started: Instant,
    /// What may be in flight to one topic that takes what is diverted.
    overflow_bytes: usize,
    metrics: ShipperMetrics,
}

impl Limits {
    /// `overflow_bytes`: what may be in flight, of the agent's memory, to each topic that takes what is diverted.
    pub fn new(plans: Vec<Plan>, overflow_bytes: usize, metrics: ShipperMetrics) -> Self {
        let limits = Self { engine: Arc::default(), started: monotonic(), overflow_bytes, metrics };
        limits.reload(plans);
        limits
    }

    /// Takes other plans, at once. One that did not change goes on with what it has counted; one that did begins anew.
    pub fn reload(&self, plans: Vec<Plan>) {
        self.engine().reload(plans, self.overflow_bytes);
    }

    /// The plans as they are now.
    pub fn shown(&self) -> Vec<ShownPlan> {
        status::shown(&mut self.engine(), self.now())
    }

    fn now(&self) -> Now {
        Now { at: monotonic().saturating_duration_since(self.started), wall_ms: wall_ms() }
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of the parts of `group`, and which record belongs to which.
    fn judge(&self, group: &Group, now: Now) -> (Tally, Vec<Verdict>) {
        let (input, mut engine) = (group.source.input(), self.engine());
        let origin = Origin { stream: group.source.stream, input: &input, path: &group.source.path };
        let tally = tally(group, &engine.fields(origin, now));
        let verdicts = tally.parts.iter().map(|part| engine.judge(origin, part, now)).collect();
        (tally, verdicts)
    }

    fn count(&self, verdict: &Verdict, load: Load) {
        let (plan, outcome) = match verdict {
            Verdict::Pass => return,
            Verdict::Divert(plan, _) => (plan, "diverted"),
            Verdict::Drop(plan) => (plan, "dropped"),
        };
        self.metrics.limited.with_label_values(&[&*plan.name, outcome]).inc_by(load.events);
        self.metrics.limited_bytes.with_label_values(&[&*plan.name, outcome]).inc_by(load.bytes);
    }
}

impl Gate for Limits {
    fn opens(&self, stream: StreamId, input: &Input, path: &str) -> Option<Instant> {
        let now = self.now();
        let opens = self.engine().opens(Origin { stream, input, path }, now)?;
        self.metrics.held.inc();
        Some(self.started + opens.min(now.at + ASK_AGAIN))
    }

    fn chunk_bytes(&self, input: &Input) -> usize {
        self.engine().chunk_bytes(input, self.now())
    }

    fn passes(&self, group: &Group) {
        let (now, input, mut engine) = (self.now(), group.source.input(), self.engine());
        let origin = Origin { stream: group.source.stream, input: &input, path: &group.source.path };
        let fields = engine.fields(origin, now);
        engine.pay(origin, &tally(group, &fields).parts, now);
    }
}

/// Judges groups and sends them on until the input closes. `topic`: the one that they are meant for.
pub(crate) async fn run(
    limits: Limits,
    topic: String,
    mut input: Receiver<Group>,
    output: Sender<Group>,
    overflows: &mut Overflows,
) {
    while let Some(group) = input.recv().await {
        if !group.source.is_current(group.epoch) {
            continue; // Given back with its Ack: something before it was, and it must not overtake.
        }
        let (tally, verdicts) = limits.judge(&group, limits.now());
        for (group, verdict) in parted(group, &tally, &verdicts) {
            let load = tally_load(&tally, &verdicts, &verdict);
            match &verdict {
                Verdict::Pass => {
                    if output.send(group).await.is_err() {
                        return overflows.close(); // A later stage has ended.
                    }
                }
                Verdict::Drop(plan) => {
                    limits.count(&verdict, load);
                    let route = Route::Dropped(plan.name.clone());
                    group.ack.by(route).settle();
                }
                Verdict::Divert(plan, reason) => {
                    let Excess::Divert(to) = &plan.excess else { unreachable!("only such a plan diverts") };
                    let divert = Divert { from: topic.clone(), plan: plan.name.to_string(), reason };
                    let group = Group { divert: Some(Arc::new(divert)), ..group };
                    let budget = limits.engine().overflow(to).cloned();
                    if overflows.send(to, budget, group) {
                        limits.count(&verdict, load);
                    }
                }
            }
        }
    }
    overflows.close();
}

/// What of the group has this verdict.
fn tally_load(tally: &Tally, verdicts: &[Verdict], verdict: &Verdict) -> Load {
    let mut load = Load::default();
    let parts = tally.parts.iter().zip(verdicts).filter(|(_, of)| *of == verdict);
    parts.for_each(|(part, _)| load += part.load);
    load
}

/// The group as it is if all of it has one verdict; else a group for each verdict, in the order of their first records, whose acks
/// together are its own.
fn parted(group: Group, tally: &Tally, verdicts: &[Verdict]) -> Vec<(Group, Verdict)> {
    let Some(first) = verdicts.first() else { return Vec::new() };
    if verdicts.iter().all(|verdict| verdict == first) {
        return vec![(group, first.clone())];
    }
    let mut kinds: Vec<&Verdict> = Vec::new();
    for verdict in verdicts {
        if !kinds.contains(&verdict) {
            kinds.push(verdict);
        }
    }
    let share = |verdict: &&Verdict| {
        let Load { events, bytes } = tally_load(tally, verdicts, verdict);
        let route = match verdict {
            Verdict::Pass => Route::Main,
            Verdict::Divert(..) => Route::Overflow,
            Verdict::Drop(plan) => Route::Dropped(plan.name.clone()),
        };
        Share { route, events: u32::try_from(events).unwrap_or(u32::MAX), bytes }
    };
    let Group { source, epoch, buffer, records, read_at_ms, reread, divert, ack } = group;
    let acks = ack.divided(kinds.iter().map(share).collect());
    let mut records_of: Vec<Vec<event::Record>> = kinds.iter().map(|_| Vec::new()).collect();
    for (record, part) in records.into_iter().zip(&tally.part_of) {
        if let Some(at) = kinds.iter().position(|kind| **kind == verdicts[*part]) {
            records_of[at].push(record);
        }
    }
    let group = |((records, ack), verdict): ((Vec<event::Record>, Ack), &Verdict)| {
        let (source, buffer, divert) = (source.clone(), buffer.clone(), divert.clone());
        (Group { source, epoch, buffer, records, read_at_ms, reread, divert, ack }, verdict.clone())
    };
    records_of.into_iter().zip(acks).zip(kinds).map(group).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "settlements of a test")]
pub(crate) mod tests;
