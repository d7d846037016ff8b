//! The plans as they are now, for `/limits` and `tailrace limits status`.

use super::engine::{Engine, Now, Running};
use super::tally::Load;
use serde::{Deserialize, Serialize};

/// Limits of one plan that are shown: those with the least room.
const LIMITS_MAX: usize = 100;

/// A plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownPlan {
    /// Its name.
    pub plan: String,
    /// What has a limit of its own.
    pub scope: String,
    /// `wait`, `drop` or `divert: TOPIC`.
    pub excess: String,
    /// False outside its schedule.
    pub is_active: bool,
    /// In one second, if bytes are limited.
    pub bytes_per_second: Option<f64>,
    /// In one second, if events are limited.
    pub events_per_second: Option<f64>,
    /// Events that passed since the plan began.
    pub passed_events: u64,
    /// Their bytes.
    pub passed_bytes: u64,
    /// Events that went to another topic.
    pub diverted_events: u64,
    /// Their bytes.
    pub diverted_bytes: u64,
    /// Events that were dropped.
    pub dropped_events: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Groups after which their source had to wait.
    pub holds: u64,
    /// Values of the scope that have a limit now.
    pub limits_count: usize,
    /// Those with the least room, at most 100.
    pub limits: Vec<ShownLimit>,
}

/// How far a plan is used up for one value of its scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownLimit {
    /// The value; empty for the whole host.
    pub key: String,
    /// Bytes that may pass at once; negative: owed.
    pub bytes_room: Option<i64>,
    /// The most that this can be.
    pub bytes_room_max: Option<u64>,
    /// Events that may pass at once; negative: owed.
    pub events_room: Option<i64>,
    /// The most that this can be.
    pub events_room_max: Option<u64>,
    /// Time until there is room, in milliseconds; 0: there is.
    pub opens_in_ms: u64,
}

pub(super) fn shown(engine: &mut Engine, now: Now) -> Vec<ShownPlan> {
    engine.running().iter_mut().map(|running| shown_plan(running, now)).collect()
}

fn shown_plan(running: &mut Running, now: Now) -> ShownPlan {
    let is_active = running.is_active(now.wall_ms);
    let mut limits: Vec<_> = running
        .limits
        .iter_mut()
        .map(|(key, limit)| {
            let [bytes, events] = limit.room(now.at);
            let opens_in = limit.whole_opens(now.at).saturating_sub(now.at);
            ShownLimit {
                key: key.to_string(),
                bytes_room: bytes.map(|(room, _)| room),
                bytes_room_max: bytes.map(|(_, most)| most),
                events_room: events.map(|(room, _)| room),
                events_room_max: events.map(|(_, most)| most),
                opens_in_ms: u64::try_from(opens_in.as_millis()).unwrap_or(u64::MAX),
            }
        })
        .collect();
    limits.sort_by(|a, b| b.opens_in_ms.cmp(&a.opens_in_ms).then_with(|| a.key.cmp(&b.key)));
    let limits_count = limits.len();
    limits.truncate(LIMITS_MAX);
    let (plan, counts) = (&running.plan, &running.counts);
    let Load { events: passed_events, bytes: passed_bytes } = counts.passed;
    let Load { events: diverted_events, bytes: diverted_bytes } = counts.diverted;
    let Load { events: dropped_events, bytes: dropped_bytes } = counts.dropped;
    ShownPlan {
        plan: plan.name.to_string(),
        scope: plan.scope.to_string(),
        excess: plan.excess.to_string(),
        is_active,
        bytes_per_second: plan.bytes.map(super::config::Rate::per_second),
        events_per_second: plan.events.map(super::config::Rate::per_second),
        passed_events,
        passed_bytes,
        diverted_events,
        diverted_bytes,
        dropped_events,
        dropped_bytes,
        holds: counts.holds,
        limits_count,
        limits,
    }
}
