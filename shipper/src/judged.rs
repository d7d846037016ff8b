//! A group and what becomes of its parts: what the stages between `limit` and `produce` hand on. It is still one debt.

use event::{Ack, Group, Permit, Record, Route, Share};
use std::sync::Arc;

/// A group whose parts go different ways.
#[derive(Debug)]
pub(crate) struct Judged {
    /// Its records stand in `parts`.
    pub(crate) group: Group,
    /// Never empty; mostly one.
    pub(crate) parts: Vec<Part>,
}

/// Records of a group that go the same way, in order.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) way: Way,
    pub(crate) records: Vec<Record>,
    /// Bytes of their lines with an end each.
    pub(crate) bytes: u64,
}

/// Where a part goes.
#[derive(Debug)]
pub(crate) enum Way {
    /// On.
    Pass,
    Drop {
        plan: Arc<str>,
    },
    /// To another topic, which has room for it.
    Divert {
        plan: Arc<str>,
        reason: &'static str,
        topic: String,
        room: Permit,
    },
}

impl Judged {
    /// How much of the debt goes which way.
    pub(crate) fn shares(&self) -> Vec<Share> {
        let share = |Part { way, records, bytes }: &Part| {
            let route = match way {
                Way::Pass => Route::Main,
                Way::Drop { plan } => Route::Dropped(plan.clone()),
                Way::Divert { .. } => Route::Overflow,
            };
            Share { route, events: u32::try_from(records.len()).unwrap_or(u32::MAX), bytes: *bytes }
        };
        self.parts.iter().map(share).collect()
    }

    /// A group for each part, whose debts together are the group's own.
    pub(crate) fn divided(self) -> impl Iterator<Item = (Group, Way)> {
        let shares = self.shares();
        let Self { group, parts } = self;
        let Group { source, epoch, buffer, read_at_ms, reread, divert, ack, .. } = group;
        let acks: Vec<Ack> = if parts.len() == 1 { vec![ack] } else { ack.divided(shares) };
        parts.into_iter().zip(acks).map(move |(Part { way, records, .. }, ack)| {
            let (source, buffer, divert) = (source.clone(), buffer.clone(), divert.clone());
            (Group { source, epoch, buffer, records, read_at_ms, reread, divert, ack }, way)
        })
    }
}
