//! A message of the dead-letter topic → what it says.

use crate::read_back::{Found, is_no_line};
use event::{Incarnation, document_id};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Where a letter stands: written `2:1007`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Partition of the dead-letter topic.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |text: &str| {
            let (partition, offset) = text.split_once(':')?;
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        };
        parse(text).ok_or_else(|| format!("`{text}` is no place of a letter: write PARTITION:OFFSET, such as 0:17"))
    }
}

/// A dead letter as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grave {
    /// Where it stands.
    pub place: Place,
    /// When it was written, as Kafka has it: milliseconds since 1970.
    pub written_ms: Option<i64>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's bytes.
    pub value: Option<Vec<u8>>,
    /// What its headers say, without `tailrace-` before their names.
    pub headers: BTreeMap<String, String>,
}

impl Grave {
    pub(super) fn new(message: &BorrowedMessage<'_>) -> Self {
        let mut headers = BTreeMap::new();
        for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
            if let Some(name) = header.key.strip_prefix("tailrace-") {
                headers.insert(name.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned());
            }
        }
        Self {
            place: Place { partition: message.partition(), offset: message.offset() },
            written_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    /// A header's text; empty if it has none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The line that it was, if it tells which.
    pub fn found(&self) -> Option<Found> {
        let (value, told) = (self.value.as_deref()?, self.header("event"));
        let event = if told.is_empty() { value } else { told.as_bytes() };
        let event: serde_json::Value = serde_json::from_slice(event).ok()?;
        let path = event["log"]["file"]["path"].as_str()?.to_owned();
        let is_no_line = is_no_line(&event["log"]["flags"]);
        if told.is_empty() {
            let id = event["@metadata"]["_id"].as_str().unwrap_or_default().to_owned();
            return Some(Found { path, offset: event["log"]["offset"].as_u64()?, id, is_no_line });
        }
        let offset = self.number("source-offset")?;
        let incarnation = Incarnation(u64::from_str_radix(self.header("incarnation"), 16).ok()?);
        let id = String::from_utf8_lossy(&document_id(incarnation, offset, value)).into_owned();
        Some(Found { path, offset, id, is_no_line })
    }

    /// A header's number.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.header(name).parse().ok()
    }
}
