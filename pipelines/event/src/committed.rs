//! What an output keeps of files, together with the records themselves: then its word counts, not the checkpoint's.

use crate::id::Incarnation;
use crate::ledger::Progress;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// How far one life of a file is delivered, by the output's own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Unique name of the input that followed it.
    pub input: String,
    /// The file's life.
    pub incarnation: Incarnation,
    /// How far.
    pub progress: Progress,
    /// What [`Source::set_entry`](crate::Source::set_entry) was given for it.
    pub entry: String,
}

/// The way to and from an output that keeps offsets.
#[derive(Debug)]
pub struct Keeper {
    /// Everything that it has, told once; nothing is to be read before. Let go if the output has ended.
    pub committed: oneshot::Receiver<Vec<Committed>>,
    /// Takes what is to be forgotten: input and life of files that are gone.
    pub forgotten: UnboundedSender<(String, Incarnation)>,
}
