//! Where groups go, and when their sources may be read: what a rate plan makes wait stays in its file.

use crate::ack::StreamId;
use crate::record::{Group, Input};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::Sender;

/// Says when a source may be read. Asked by those who read, so that nothing that has to wait is held in memory.
pub trait Gate: std::fmt::Debug + Send + Sync {
    /// When `stream`, of `input`, may be read on; `None`: now. Never far ahead: it is asked again then, as a plan may have been
    /// changed since. `path`: as shipped, empty without a file.
    fn opens(&self, stream: StreamId, input: &Input, path: &str) -> Option<Instant>;

    /// About how many bytes to read at once at most, so that what passes under a small rate is even.
    fn chunk_bytes(&self, _input: &Input) -> usize {
        usize::MAX
    }

    /// `group` was read and is now sent: it is paid for.
    fn passes(&self, group: &Group);
}

/// A gate without a plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenGate;

impl Gate for OpenGate {
    fn opens(&self, _: StreamId, _: &Input, _: &str) -> Option<Instant> {
        None
    }

    fn passes(&self, _: &Group) {}
}

/// Where groups are sent, with the gate before it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Takes groups.
    pub groups: Sender<Group>,
    /// Says when to read them.
    pub gate: Arc<dyn Gate>,
}

impl From<Sender<Group>> for Intake {
    /// Always open.
    fn from(groups: Sender<Group>) -> Self {
        Self { groups, gate: Arc::new(OpenGate) }
    }
}
