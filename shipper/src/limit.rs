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

use crate::judged::{Judged, Part, Way};
use crate::metrics::ShipperMetrics;
use crate::overflow::room;
use engine::{Engine, Now, Origin, Verdict};
use event::{Gate, Group, Input, Record, StreamId};
use service::clock::{monotonic, wall_ms};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tally::{Load, tally};
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

    /// What becomes of the parts of `group`. `None` if some of it is to be diverted to where there is no room: it is given back.
    fn judge(&self, mut group: Group, now: Now) -> Option<Judged> {
        let (input, mut engine) = (group.source.input(), self.engine());
        let origin = Origin { stream: group.source.stream, input: &input, path: &group.source.path };
        let tally = tally(&group, &engine.fields(origin, now));
        let verdicts: Vec<_> = tally.parts.iter().map(|part| engine.judge(origin, part, now)).collect();
        let mut kinds: Vec<(&Verdict, Load, Vec<Record>)> = Vec::new();
        let mut kind_of = Vec::new(); // By part.
        for (verdict, part) in verdicts.iter().zip(&tally.parts) {
            let kind = kinds.iter().position(|(kind, ..)| *kind == verdict).unwrap_or_else(|| {
                kinds.push((verdict, Load::default(), Vec::new()));
                kinds.len() - 1
            });
            kinds[kind].1 += part.load;
            kind_of.push(kind);
        }
        let records = std::mem::take(&mut group.records);
        if kinds.len() == 1 {
            kinds[0].2 = records;
        } else {
            records.into_iter().zip(&tally.part_of).for_each(|(record, part)| kinds[kind_of[*part]].2.push(record));
        }
        let part = |(verdict, load, records): (&Verdict, Load, Vec<Record>)| {
            let way = way(verdict, &engine, &records)?;
            Some(Part { way, records, bytes: load.bytes })
        };
        let parts = kinds.into_iter().map(part).collect::<Option<Vec<_>>>();
        if parts.is_none() {
            group.source.break_off(group.epoch); // What follows must not overtake it.
        }
        Some(Judged { parts: parts?, group })
    }
}

/// `None` if it is to be diverted to where there is no room.
fn way(verdict: &Verdict, engine: &Engine, records: &[Record]) -> Option<Way> {
    Some(match verdict {
        Verdict::Pass => Way::Pass,
        Verdict::Drop(plan) => Way::Drop { plan: plan.name.clone() },
        Verdict::Divert(plan, reason) => {
            let Excess::Divert(topic) = &plan.excess else { unreachable!("only such a plan diverts") };
            let room = room(engine.overflow(topic)?, records)?;
            Way::Divert { plan: plan.name.clone(), reason, topic: topic.clone(), room }
        }
    })
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

/// Judges groups and hands them on until the input closes.
pub(crate) async fn run(limits: Limits, mut input: Receiver<Group>, output: Sender<Judged>) {
    loop {
        let group = tokio::select! {
            group = input.recv() => group,
            () = output.closed() => return, // A later stage has ended.
        };
        let Some(group) = group else { return };
        if !group.source.is_current(group.epoch) {
            continue; // Given back with its Ack: something before it was, and it must not overtake.
        }
        if let Some(judged) = limits.judge(group, limits.now())
            && output.send(judged).await.is_err()
        {
            return; // A later stage has ended.
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "settlements of a test")]
pub(crate) mod tests;
