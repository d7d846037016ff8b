//! Who may be read, and what becomes of what was read. Pure: both clocks are told, nothing waits.
//!
//! All plans that match apply. Plans with `wait` hold a source before it is read, and are paid by all that is read and sent. Of
//! the others the tightest that has no room decides; what it diverts or drops does not count for them.

use super::config::{Excess, Plan, Scope, rank};
use super::meter::Meter;
use super::tally::{Load, Part};
use event::{Budget, Input, Priority, StreamId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Values of a scope that have a limit of their own under one plan. Those that come then share one.
const KEYS_MAX: usize = 10_000;
/// Where they are counted.
const OTHERS: &str = "(others)";
/// Limits that are full again are let go at most this often: it takes a look at each.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// Streams of which is remembered under which values of a field they were read last.
const STREAMS_MAX: usize = 10_000;
/// The burst of a priority's own share: it needs none, its share comes back all the time.
const SHARE_BURST: Duration = Duration::from_millis(100);
const MINUTE_MS: i64 = 60_000;
/// What is read at once is no more than what passes in so long, so that the rate is even within a second …
const PIECE: Duration = Duration::from_millis(50);
/// … for events by lines of this length …
const LINE_BYTES: u64 = 200;
/// … but no less than this: each read costs some system calls.
const CHUNK_BYTES_MIN: u64 = 4 * 1024;

/// Both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Monotonic, since some start: rates.
    pub(crate) at: Duration,
    /// Milliseconds since 1970: schedules.
    pub(crate) wall_ms: i64,
}

/// Whose records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) stream: StreamId,
    pub(crate) input: &'a Input,
    /// As shipped; empty without a file.
    pub(crate) path: &'a str,
}

/// What becomes of a part of a group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Pass,
    /// Under this plan.
    Divert(Arc<Plan>, &'static str),
    Drop(Arc<Plan>),
}

/// What a plan did, in events and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: Load,
    pub(crate) diverted: Load,
    pub(crate) dropped: Load,
    /// Groups after which the source had to wait.
    pub(crate) holds: u64,
}

/// The plans and how far each is used up.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    running: Vec<Running>,
    /// What may be in flight to each topic that takes what is diverted.
    overflows: BTreeMap<String, Budget>,
    /// Values of fields under which a stream was read last, for plans that make it wait.
    streams: HashMap<StreamId, Vec<(usize, String)>>,
}

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) plan: Arc<Plan>,
    pub(crate) limits: HashMap<Box<str>, Limit>,
    pub(crate) counts: Counts,
    /// Its place among the plans whose scope is a field.
    field: usize,
    /// A minute of the wall clock, and whether the plan was in force then.
    minute: Option<(i64, bool)>,
    tidied: Duration,
}

impl Engine {
    /// Takes other plans. One that did not change goes on with what it has counted.
    pub(crate) fn reload(&mut self, plans: Vec<Plan>, overflow_bytes: usize) {
        let mut before: HashMap<_, _> =
            std::mem::take(&mut self.running).into_iter().map(|running| (running.plan.name.clone(), running)).collect();
        let mut field = 0;
        for (index, plan) in plans.into_iter().enumerate() {
            let kept = before.remove(&plan.name).filter(|running| *running.plan == plan);
            let running = kept.unwrap_or_else(|| Running::new(plan));
            self.running.push(Running { field, ..running });
            field += usize::from(matches!(self.running[index].plan.scope, Scope::Field(_)));
        }
        self.streams.clear(); // They name plans by their places; each is noted again when it is read next.
        let topics = self.running.iter().filter_map(|running| match &running.plan.excess {
            Excess::Divert(topic) => Some(topic.clone()),
            _ => None,
        });
        let mut known = std::mem::take(&mut self.overflows);
        self.overflows = topics
            .map(|topic| {
                let budget = known.remove(&topic).unwrap_or_else(|| Budget::new(overflow_bytes));
                (topic, budget)
            })
            .collect();
    }

    pub(crate) fn running(&mut self) -> &mut [Running] {
        &mut self.running
    }

    /// What may be in flight to `topic`; `None`: no plan diverts there any more.
    pub(crate) fn overflow(&self, topic: &str) -> Option<&Budget> {
        self.overflows.get(topic)
    }

    /// The fields by whose values the records of `origin` have to be told apart; a part's keys are in this order. Empty if no plan
    /// asks for that.
    pub(crate) fn fields(&mut self, origin: Origin<'_>, now: Now) -> Vec<String> {
        let applies = |running: &mut Running| running.is_by_field() && running.applies(origin.input, now);
        if !self.running.iter_mut().any(applies) {
            return Vec::new();
        }
        let name = |running: &Running| match &running.plan.scope {
            Scope::Field(name) => Some(name.clone()),
            _ => None,
        };
        self.running.iter().filter_map(name).collect()
    }

    /// When `origin` may be read on; `None`: now.
    pub(crate) fn opens(&mut self, origin: Origin<'_>, now: Now) -> Option<Duration> {
        let mut opens = now.at;
        for (index, running) in self.running.iter_mut().enumerate() {
            let holds = match &running.plan.excess {
                Excess::Wait => true,
                Excess::Drop => false,
                // Its topic does not take what it gets: until it does, this plan makes wait.
                Excess::Divert(topic) => self.overflows.get(topic).is_some_and(is_stuck),
            };
            if !holds || !running.applies(origin.input, now) {
                continue;
            }
            let priority = origin.input.priority;
            if running.is_by_field() {
                let seen = self.streams.get(&origin.stream).into_iter().flatten().filter(|(plan, _)| *plan == index);
                for (_, key) in seen {
                    opens = opens.max(running.limit(key, now.at).opens(priority, now.at));
                }
            } else {
                let key = running.key(origin, &[]);
                opens = opens.max(running.limit(&key, now.at).opens(priority, now.at));
            }
        }
        (opens > now.at).then_some(opens)
    }

    /// How much of `input` to read at once: what its smallest `wait` plan lets pass in [`PIECE`].
    pub(crate) fn chunk_bytes(&mut self, input: &Input, now: Now) -> usize {
        let mut chunk = u64::MAX;
        for running in &mut self.running {
            if running.plan.excess != Excess::Wait || !running.applies(input, now) {
                continue;
            }
            let bytes = running.plan.bytes.map(|rate| rate.within(PIECE));
            let events = running.plan.events.map(|rate| rate.within(PIECE).saturating_mul(LINE_BYTES));
            chunk = bytes.into_iter().chain(events).fold(chunk, u64::min);
        }
        usize::try_from(chunk.max(CHUNK_BYTES_MIN)).unwrap_or(usize::MAX)
    }

    /// `parts` of `origin` were read and are sent: plans with `wait` are paid.
    pub(crate) fn pay(&mut self, origin: Origin<'_>, parts: &[Part], now: Now) {
        self.streams.remove(&origin.stream);
        let mut seen = Vec::new();
        for (index, running) in self.running.iter_mut().enumerate() {
            if running.plan.excess == Excess::Drop || !running.applies(origin.input, now) {
                continue;
            }
            let mut waits = false;
            for part in parts {
                let key = running.key(origin, &part.keys);
                if running.is_by_field() {
                    seen.push((index, key.to_string()));
                }
                if running.plan.excess == Excess::Wait {
                    let limit = running.limit(&key, now.at);
                    limit.charge(origin.input.priority, part.load, now.at);
                    waits |= limit.opens(origin.input.priority, now.at) > now.at;
                    running.counts.passed += part.load;
                }
            }
            running.counts.holds += u64::from(waits);
        }
        if !seen.is_empty() && self.streams.len() < STREAMS_MAX {
            self.streams.insert(origin.stream, seen);
        } else if self.streams.len() >= STREAMS_MAX {
            self.streams.clear(); // Most of them are gone. Those that are not are read once more before they wait.
        }
    }

    /// What becomes of a part of what `origin` was read of: plans that divert or drop.
    pub(crate) fn judge(&mut self, origin: Origin<'_>, part: &Part, now: Now) -> Verdict {
        let (priority, mut tightest) = (origin.input.priority, None::<(Duration, usize)>);
        for (index, running) in self.running.iter_mut().enumerate() {
            if running.plan.excess == Excess::Wait || !running.applies(origin.input, now) {
                continue;
            }
            let key = running.key(origin, &part.keys);
            let opens = running.limit(&key, now.at).opens(priority, now.at);
            if opens > now.at && tightest.is_none_or(|(latest, _)| opens > latest) {
                tightest = Some((opens, index));
            }
        }
        let drops = tightest.is_some_and(|(_, index)| self.running[index].plan.excess == Excess::Drop);
        for (index, running) in self.running.iter_mut().enumerate() {
            let is_wait = running.plan.excess == Excess::Wait;
            let is_paid = !is_wait && tightest.is_none();
            let is_refunded = is_wait && drops; // What is diverted is sent all the same.
            if !(is_paid || is_refunded) || !running.applies(origin.input, now) {
                if tightest.is_some_and(|(_, tightest)| tightest == index) {
                    let excess = if drops { &mut running.counts.dropped } else { &mut running.counts.diverted };
                    *excess += part.load;
                }
                continue;
            }
            let key = running.key(origin, &part.keys);
            let limit = running.limit(&key, now.at);
            if is_paid {
                limit.charge(priority, part.load, now.at);
                running.counts.passed += part.load;
            } else {
                limit.refund(part.load, now.at);
                running.counts.passed -= part.load;
            }
        }
        let Some((_, index)) = tightest else { return Verdict::Pass };
        let running = &mut self.running[index];
        if drops {
            return Verdict::Drop(running.plan.clone());
        }
        let key = running.key(origin, &part.keys);
        let reason = running.limit(&key, now.at).used_up(now.at);
        Verdict::Divert(running.plan.clone(), reason)
    }
}

/// Half of what may be in flight is: what is still on its way to this stage has room in the other half.
fn is_stuck(overflow: &Budget) -> bool {
    overflow.in_use() * 2 > overflow.total()
}

impl Running {
    fn new(plan: Plan) -> Self {
        let (plan, limits, counts) = (Arc::new(plan), HashMap::new(), Counts::default());
        Self { plan, limits, counts, field: 0, minute: None, tidied: Duration::ZERO }
    }

    fn is_by_field(&self) -> bool {
        matches!(self.plan.scope, Scope::Field(_))
    }

    /// True if the plan is in force and for records of `input`.
    fn applies(&mut self, input: &Input, now: Now) -> bool {
        let Plan { inputs, priorities, .. } = &*self.plan;
        (inputs.is_empty() || inputs.contains(&input.id))
            && (priorities.is_empty() || priorities.contains(&input.priority))
            && self.is_active(now.wall_ms)
    }

    /// True if the schedule says so. The clock may jump: each minute is looked at for itself.
    pub(crate) fn is_active(&mut self, wall_ms: i64) -> bool {
        let Some(schedule) = &self.plan.schedule else { return true };
        let minute = wall_ms.div_euclid(MINUTE_MS);
        match self.minute {
            Some((known, is_active)) if known == minute => is_active,
            _ => {
                let is_active = schedule.is_active(wall_ms);
                self.minute = Some((minute, is_active));
                is_active
            }
        }
    }

    /// What of the scope the records belong to.
    fn key(&self, origin: Origin<'_>, keys: &[String]) -> Box<str> {
        match &self.plan.scope {
            Scope::Host => "".into(),
            Scope::Input => origin.input.id.as_str().into(),
            Scope::File if origin.path.is_empty() => origin.input.id.as_str().into(),
            Scope::File => origin.path.into(),
            Scope::Priority => name_of(origin.input.priority).into(),
            Scope::Field(_) => keys.get(self.field).map_or("", String::as_str).into(),
        }
    }

    /// The limit of `key`; made when it is used first.
    fn limit(&mut self, key: &str, now: Duration) -> &mut Limit {
        let mut key = key;
        if !self.limits.contains_key(key) {
            if self.limits.len() >= KEYS_MAX && now >= self.tidied + TIDY_INTERVAL {
                self.tidied = now;
                self.limits.retain(|_, limit| !limit.is_full(now));
            }
            if self.limits.len() >= KEYS_MAX {
                key = OTHERS;
            }
        }
        let plan = &self.plan;
        // Two look-ups, and no copy of the key for the one that is there.
        if !self.limits.contains_key(key) {
            self.limits.insert(key.into(), Limit::new(plan, now));
        }
        self.limits.get_mut(key).expect("it was just put there")
    }
}

/// The name of a priority, as it is written.
pub(crate) fn name_of(priority: Priority) -> &'static str {
    ["high", "normal", "low"][rank(priority)]
}

/// How far a plan is used up for one value of its scope.
///
/// A priority with a share passes as long as its own share has room, whatever the others do, and that counts for the whole too.
/// When its share is used up it passes as long as the whole has room: that is what the others leave.
#[derive(Debug)]
pub(crate) struct Limit {
    whole: Pair,
    /// By [`rank`]; `None` for one without a share.
    shares: [Option<Pair>; 3],
}

#[derive(Debug)]
struct Pair {
    bytes: Option<Meter>,
    events: Option<Meter>,
}

impl Limit {
    fn new(plan: &Plan, now: Duration) -> Self {
        let share = |rank: usize| {
            let percent = plan.shares.map_or(0, |shares| shares[rank]);
            (percent > 0).then(|| Pair::new(plan, percent, plan.burst.min(SHARE_BURST), now))
        };
        Self { whole: Pair::new(plan, 100, plan.burst, now), shares: std::array::from_fn(share) }
    }

    /// When there is room for a priority.
    fn opens(&mut self, priority: Priority, now: Duration) -> Duration {
        let whole = self.whole.opens(now);
        let share = self.shares[rank(priority)].as_mut().map(|share| share.opens(now));
        share.map_or(whole, |share| share.min(whole))
    }

    fn charge(&mut self, priority: Priority, load: Load, now: Duration) {
        if let Some(share) = &mut self.shares[rank(priority)] {
            let is_lent = share.opens(now) > now && self.whole.opens(now) <= now;
            if !is_lent {
                share.charge(load, now);
            }
        }
        self.whole.charge(load, now);
    }

    /// Of the whole only: whether a share was used is not remembered.
    fn refund(&mut self, load: Load, now: Duration) {
        self.whole.refund(load, now);
    }

    fn is_full(&mut self, now: Duration) -> bool {
        let meters = [&mut self.whole.bytes, &mut self.whole.events];
        meters.into_iter().flatten().all(|meter| {
            let (room, most) = meter.room(now);
            u64::try_from(room).is_ok_and(|room| room >= most)
        })
    }

    /// Which measure keeps it closed longest.
    fn used_up(&mut self, now: Duration) -> &'static str {
        let opens = |meter: &mut Option<Meter>| meter.as_mut().map_or(now, |meter| meter.opens(now));
        if opens(&mut self.whole.bytes) >= opens(&mut self.whole.events) { "bytes" } else { "events" }
    }

    /// What may pass at once and what it is at most, in bytes and in events.
    pub(crate) fn room(&mut self, now: Duration) -> [Option<(i64, u64)>; 2] {
        [&mut self.whole.bytes, &mut self.whole.events].map(|meter| meter.as_mut().map(|meter| meter.room(now)))
    }

    /// When the whole has room.
    pub(crate) fn whole_opens(&mut self, now: Duration) -> Duration {
        self.whole.opens(now)
    }
}

impl Pair {
    fn new(plan: &Plan, percent: u8, burst: Duration, now: Duration) -> Self {
        let meter = |rate: super::config::Rate| Meter::new(rate.percent(percent), plan.window, burst, now);
        Self { bytes: plan.bytes.map(meter), events: plan.events.map(meter) }
    }

    fn opens(&mut self, now: Duration) -> Duration {
        let meters = [&mut self.bytes, &mut self.events];
        meters.into_iter().flatten().map(|meter| meter.opens(now)).max().unwrap_or(now)
    }

    fn charge(&mut self, Load { events, bytes }: Load, now: Duration) {
        for (meter, amount) in [(&mut self.bytes, bytes), (&mut self.events, events)] {
            if let Some(meter) = meter {
                meter.charge(amount, now);
            }
        }
    }

    fn refund(&mut self, Load { events, bytes }: Load, now: Duration) {
        for (meter, amount) in [(&mut self.bytes, bytes), (&mut self.events, events)] {
            if let Some(meter) = meter {
                meter.refund(amount, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
