//! Records on their way from an input to an output: many lines over one buffer, with one debt.

use crate::ack::{Ack, StreamId};
use crate::id::Incarnation;
use bytes::Bytes;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// How urgent an input's records are under a rate plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Shipped first.
    High,
    /// The default.
    #[default]
    Normal,
    /// Shipped last.
    Low,
}

/// What all records of one input share, from its configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    /// Unique name of the input.
    pub id: String,
    /// Filebeat's name of the kind of input: `filestream`, `stdin`, …
    pub kind: &'static str,
    /// Pipeline that the indexer runs on its records.
    pub pipeline: Option<String>,
    /// Custom fields, as JSON members without braces (`"fields":{"a":1}`), empty if there are none.
    pub fields: String,
    /// Tags, in order.
    pub tags: Vec<String>,
    /// Priority under a rate plan.
    pub priority: Priority,
}

/// What all records of one life of a file share.
#[derive(Debug)]
pub struct Source {
    /// The stream in the agent's ledger.
    pub stream: StreamId,
    /// The input that found the file; another one after a reload.
    input: RwLock<Arc<Input>>,
    /// Path under which the file was found, as shipped in `log.file.path`.
    pub path: Arc<str>,
    fields: OnceLock<Box<str>>,
    entry: OnceLock<Box<str>>,
    /// The file's life.
    pub incarnation: Incarnation,
    /// Epochs below this one are broken off: a span was given back, and what followed it must not overtake it.
    epoch: AtomicU32,
}

impl Source {
    /// A source whose current epoch is `epoch`.
    pub fn new(stream: StreamId, input: Arc<Input>, path: Arc<str>, incarnation: Incarnation, epoch: u32) -> Self {
        let (fields, entry, input, epoch) =
            (OnceLock::new(), OnceLock::new(), RwLock::new(input), AtomicU32::new(epoch));
        Self { stream, input, path, fields, entry, incarnation, epoch }
    }

    /// What is known of the file itself, as JSON members without braces, empty if there is nothing.
    pub fn fields(&self) -> &str {
        self.fields.get().map_or("", |fields| &**fields)
    }

    /// Sets [`fields`](Self::fields), of the names `container`, `kubernetes` and `orchestrator`, which no input has. Once,
    /// before the first group.
    pub fn set_fields(&self, fields: String) {
        self.fields.set(fields.into()).ok();
    }

    /// What finds the file again, in the input's own form: for an output that keeps offsets. `None` if this is no file, or no
    /// output asks for it.
    pub fn entry(&self) -> Option<&str> {
        self.entry.get().map(|entry| &**entry)
    }

    /// Sets [`entry`](Self::entry). Once, before the first group.
    pub fn set_entry(&self, entry: String) {
        self.entry.set(entry.into()).ok();
    }

    /// What its records share now. Asked once a group.
    pub fn input(&self) -> Arc<Input> {
        self.input.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The input's configuration was changed: from the next group on this counts.
    pub fn set_input(&self, input: Arc<Input>) {
        *self.input.write().unwrap_or_else(PoisonError::into_inner) = input;
    }

    /// The epoch of groups that are never read again: always current, and nothing breaks it off.
    pub const FOR_GOOD: u32 = u32::MAX;

    /// Ends `epoch`: groups of it that are not yet sent are to be given back, so that a resend keeps the file's order.
    pub fn break_off(&self, epoch: u32) {
        if epoch != Self::FOR_GOOD {
            self.epoch.fetch_max(epoch + 1, Ordering::AcqRel);
        }
    }

    /// True unless `epoch` has been broken off.
    pub fn is_current(&self, epoch: u32) -> bool {
        epoch >= self.epoch.load(Ordering::Acquire)
    }
}

/// One record: a range of its group's buffer and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The shipped bytes, in the group's buffer, without the line end.
    pub bytes: Range<u32>,
    /// Offset of its first byte in the source, in source bytes.
    pub offset: u64,
    /// True if it is longer than the configured limit and was cut.
    pub truncated: bool,
    /// What a parser of the agent found beside the text; most records have none.
    pub extra: Option<Box<Extra>>,
}

/// What a parser of the agent found in a record beside its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// Members for the root of the document: one JSON object, as text.
    pub fields: String,
    /// Event time in place of the read time, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Under the same name `fields` wins over the envelope; else the envelope wins.
    pub overwrite: bool,
    /// `fields` says it all: the text is not shipped as `message`.
    pub without_message: bool,
}

/// Why a group goes to another topic than its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divert {
    /// Where it would have gone.
    pub from: String,
    /// The rate plan that says so.
    pub plan: String,
    /// What of the plan was used up: `bytes`, `events`.
    pub reason: &'static str,
}

/// What travels between stages: many records of one source, one debt.
#[derive(Debug)]
pub struct Group {
    /// Where the records come from.
    pub source: Arc<Source>,
    /// The epoch of the source in which they were read.
    pub epoch: u32,
    /// What the records' ranges refer to.
    pub buffer: Bytes,
    /// In the order of the source.
    pub records: Vec<Record>,
    /// When they were read, milliseconds since 1970.
    pub read_at_ms: i64,
    /// True if they may have been shipped before: read again after a start or a rewind.
    pub reread: bool,
    /// Set if a rate plan diverts it.
    pub divert: Option<Arc<Divert>>,
    /// Settled when all records are safe.
    pub ack: Ack,
}

impl Group {
    /// The shipped bytes of `record`.
    pub fn bytes_of(&self, record: &Record) -> &[u8] {
        &self.buffer[record.bytes.start as usize..record.bytes.end as usize]
    }
}
