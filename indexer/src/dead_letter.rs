//! Records that can never be indexed → letters: the original bytes, with the cause, in a Kafka topic, an index or a file.
//!
//! A letter counts as written when it is safe there (all in-sync replicas, the node's answer, the disk), and only then is
//! its record settled.

mod file;
mod index;
mod topic;

pub use file::DeadLetterFile;
pub use index::DeadLetterIndex;
pub use topic::DeadLetterTopic;

use crate::batch::Origin;
use crate::parcel::{Home, Parcel};
use crate::settle::Cause;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;

/// A record that can never be indexed, and why.
#[derive(Debug)]
pub struct Letter<'b> {
    /// Where the record is.
    pub parcel: &'b Parcel,
    /// Which of the parcel's records, in the words of its batch.
    pub origin: Origin,
    /// Why.
    pub cause: Cause,
    /// The pipeline that made the document; empty if none.
    pub pipeline: &'b str,
    /// The processor that failed on the way, which the index may have taken offence at; mostly empty.
    pub processor: &'b str,
    /// The index it was meant for; empty if it became no document.
    pub index: String,
    /// Requests made for its batch, and for those before it was put off.
    pub attempts: u32,
}

impl Letter<'_> {
    /// Where the record stood first.
    pub fn home(&self) -> Home<'_> {
        self.parcel.home(self.origin.record)
    }

    /// The record's bytes.
    pub fn value(&self) -> Option<&[u8]> {
        self.parcel.value(self.origin.record)
    }

    /// As a document, for an index or a file. Bytes that are no text stand in `tailrace.value_base64`, whole.
    fn document(&self, time_ms: i64) -> Value {
        let (home, key) = (self.home(), self.parcel.key(self.origin.record));
        let value = self.value().unwrap_or_default();
        let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or_default();
        let mut document = json!({
            "@timestamp": format!("{time:.3}"),
            "message": self.cause.reason,
            "error": {"message": self.cause.reason, "type": self.cause.kind, "code": self.cause.status.to_string()},
            "event": {"original": String::from_utf8_lossy(value)},
            "tailrace": {
                "pipeline": self.pipeline,
                "processor": self.processor,
                "index": self.index,
                "topic": home.topic,
                "partition": home.partition,
                "offset": home.offset,
                "timestamp": home.timestamp_ms,
                "attempts": self.attempts,
                "key": key.map(String::from_utf8_lossy),
            },
        });
        if std::str::from_utf8(value).is_err() {
            document["tailrace"]["value_base64"] = STANDARD.encode(value).into();
        }
        document
    }
}

/// Position of a letter that was not written, and the reason.
pub type Unwritten = (usize, String);

/// Letters on their way; those that could not be written, in order.
pub type Writing<'l> = Pin<Box<dyn Future<Output = Vec<Unwritten>> + Send + 'l>>;

/// Where dead letters go.
pub trait DeadLetters: Send + Sync {
    /// Writes `letters` durably. Returns those that could not be written, in order.
    fn write<'l>(&'l self, letters: &'l [Letter<'l>]) -> Writing<'l>;
}

#[cfg(test)]
mod tests;
