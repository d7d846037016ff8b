//! What travels through Tailrace and what is owed for it. No I/O.
//!
//! A [`Group`] of records leaves an input, is produced, consumed, parsed and indexed; its [`Ack`] is the debt that is
//! settled when the records are safe downstream. A [`Ledger`] turns settlements, in any order, into the offset up to
//! which everything is safe. An [`Event`] is the document that a pipeline works on.

pub mod ack;
pub mod budget;
pub mod committed;
pub mod document;
pub mod gate;
pub mod id;
pub mod ledger;
pub mod members;
pub mod path;
pub mod record;
pub mod steps;
pub mod wire;

pub use ack::{Ack, Anchor, Debt, Entry, Route, Share, StreamId};
pub use budget::{Budget, Permit};
pub use committed::{Committed, Keeper};
pub use document::{Event, Metadata, Object, Value};
pub use gate::{Gate, Intake, OpenGate};
pub use id::{Incarnation, content_hash, document_id, foreign_id, parse_document_id};
pub use ledger::{Ledger, LedgerError, Progress};
pub use members::members;
pub use path::FieldPath;
pub use record::{Divert, Extra, Group, Input, Priority, Record, Source};
