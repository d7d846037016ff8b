//! A bulk answer → what becomes of each document, and of the request. Pure: the table of outcomes and nothing else.
//!
//! Rule: only an answer that was understood completely and fits the request item by item settles anything; everything
//! else is an unknown outcome, and all is sent again (documents are created by name, so that is harmless).

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::time::Duration;

/// Longest wait that a `Retry-After` header is granted.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Longest text of a cause that is kept, in bytes.
const CAUSE_BYTES_MAX: usize = 2048;

/// What came back for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A whole HTTP answer.
    Http {
        /// The status code.
        status: u16,
        /// The whole body.
        body: bytes::Bytes,
        /// Seconds of a `Retry-After` header.
        retry_after: Option<Duration>,
    },
    /// No answer, or none to its end: refused, reset, timed out. The node may have done the work.
    Nothing(String),
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Understood: one fate for each document, in order.
    Items(Vec<Fate>),
    /// Send all of it again: the node is busy or down, or the outcome is unknown.
    Resend {
        /// For the log.
        cause: String,
        /// For the metric.
        reason: &'static str,
        /// What the node asked for.
        after: Option<Duration>,
    },
    /// Too large: halve it; a single document that is too large is dead.
    Halve(Cause),
    /// Malformed as a whole: bisect until the culprit stands alone.
    Bisect(Cause),
    /// Wrong address, credentials or rights: nothing is dropped, a person is needed, keep trying slowly.
    Alarm(Cause),
}

/// What becomes of one document.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Created; `true` if it went into a failure store.
    Done(bool),
    /// It was there already: 409 on create.
    Duplicate,
    /// Not now; the reason is for the metric.
    Retry(&'static str),
    /// Never.
    Dead(Box<Cause>), // Boxed: rare, and there is a fate for every document of a request.
}

/// Why a document can never be indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The HTTP or item status.
    pub status: u16,
    /// The node's name for it (`mapper_parsing_exception`), for the metric.
    pub kind: String,
    /// The whole chain of reasons.
    pub reason: String,
}

/// Decides about the answer to a request of `sent` documents. `named`: they were created by id.
///
/// Source: outcome table of the indexer reference, column ours; retry policy R9.
pub fn settle(answer: &Answer, sent: usize, named: bool) -> Verdict {
    let (status, body, after) = match answer {
        Answer::Nothing(cause) => return Verdict::Resend { cause: cause.clone(), reason: "no_answer", after: None },
        Answer::Http { status, body, retry_after } => {
            (*status, body, retry_after.map(|wait| wait.min(RETRY_AFTER_MAX)))
        }
    };
    let resend = |reason| Verdict::Resend { cause: request_cause(status, body).reason, reason, after };
    match status {
        200..=299 => settle_items(body, sent, named),
        413 => Verdict::Halve(request_cause(status, body)),
        400 => Verdict::Bisect(request_cause(status, body)),
        429 => resend("busy"),
        _ if is_block(body) => resend("blocked"),
        408 | 500 | 502..=599 => resend("server_error"),
        _ => Verdict::Alarm(request_cause(status, body)),
    }
}

fn settle_items(body: &[u8], sent: usize, named: bool) -> Verdict {
    let unknown = |cause: String| Verdict::Resend { cause, reason: "unknown_outcome", after: None };
    let answer: BulkAnswer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(error) => return unknown(format!("the answer is no bulk answer ({error}): {}", excerpt(body))),
    };
    if answer.items.len() != sent {
        return unknown(format!("{} documents were sent, {} were answered", sent, answer.items.len()));
    }
    Verdict::Items(answer.items.into_iter().map(|item| settle_item(item, named)).collect())
}

fn settle_item(item: Item, named: bool) -> Fate {
    let kind = item.error.as_ref().map_or("", |error| error.kind.as_str());
    match item.status {
        200..=299 => Fate::Done(item.failure_store),
        409 if named && matches!(kind, "" | "version_conflict_engine_exception") => Fate::Duplicate,
        429 if kind == "cluster_block_exception" => Fate::Retry("blocked"),
        429 => Fate::Retry("busy"),
        500..=599 => Fate::Retry("server_error"),
        _ if kind == "cluster_block_exception" => Fate::Retry("blocked"),
        status => {
            let (kind, reason) = (kind_or(kind, status), reason_of(item.error.map(|error| *error), status));
            Fate::Dead(Box::new(Cause { status, kind, reason }))
        }
    }
}

fn kind_or(kind: &str, status: u16) -> String {
    if kind.is_empty() { format!("status_{status}") } else { kind.to_owned() }
}

fn reason_of(error: Option<ItemError>, status: u16) -> String {
    let mut text = error
        .map(|error| error.chain())
        .filter(|chain| !chain.is_empty())
        .unwrap_or_else(|| format!("status {status}"));
    cut(&mut text);
    text
}

/// A read-only block of the whole request comes as 403 or 429, by version.
fn is_block(body: &[u8]) -> bool {
    request_error(body).is_some_and(|error| error.kind == "cluster_block_exception")
}

fn request_error(body: &[u8]) -> Option<ItemError> {
    #[derive(Deserialize)]
    struct Failed {
        error: ItemError,
    }
    serde_json::from_slice::<Failed>(body).ok().map(|failed| failed.error)
}

fn request_cause(status: u16, body: &[u8]) -> Cause {
    match request_error(body) {
        Some(error) => Cause { status, kind: kind_or(&error.kind, status), reason: reason_of(Some(error), status) },
        None => Cause { status, kind: kind_or("", status), reason: format!("status {status}: {}", excerpt(body)) },
    }
}

fn excerpt(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    text.retain(|c| !c.is_control());
    text
}

fn cut(text: &mut String) {
    if text.len() > CAUSE_BYTES_MAX {
        let end = (0..=CAUSE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}

#[derive(Deserialize)]
struct BulkAnswer {
    #[serde(rename = "errors")]
    _errors: bool, // Required: an answer without it is not a bulk answer.
    items: Vec<Item>,
}

struct Item {
    status: u16,
    error: Option<Box<ItemError>>,
    failure_store: bool,
}

/// `{"create": {"status": …}}`: one member whose name is the action.
impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item of a bulk answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        #[derive(Deserialize)]
        struct Inner {
            status: u16,
            error: Option<Box<ItemError>>,
            #[serde(default)]
            failure_store: Option<String>,
        }
        let Some((_, inner)) = map.next_entry::<IgnoredAny, Inner>()? else {
            return Err(serde::de::Error::custom("an item without an action"));
        };
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(serde::de::Error::custom("an item with two actions"));
        }
        let failure_store = inner.failure_store.as_deref() == Some("used");
        Ok(Item { status: inner.status, error: inner.error, failure_store })
    }
}

/// An error object, or (old versions, proxies) its text.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorForm {
    Object { r#type: Option<String>, reason: Option<String>, caused_by: Option<Box<ItemError>> },
    Text(String),
}

#[derive(Deserialize)]
#[serde(from = "ErrorForm")]
struct ItemError {
    kind: String,
    reason: String,
    caused_by: Option<Box<ItemError>>,
}

impl From<ErrorForm> for ItemError {
    fn from(form: ErrorForm) -> Self {
        match form {
            ErrorForm::Text(reason) => Self { kind: String::new(), reason, caused_by: None },
            ErrorForm::Object { r#type, reason, caused_by } => {
                Self { kind: r#type.unwrap_or_default(), reason: reason.unwrap_or_default(), caused_by }
            }
        }
    }
}

impl ItemError {
    fn chain(&self) -> String {
        let own = match (self.kind.is_empty(), self.reason.is_empty()) {
            (false, false) => format!("{}: {}", self.kind, self.reason),
            _ => format!("{}{}", self.kind, self.reason),
        };
        match self.caused_by.as_ref().map(|cause| cause.chain()).filter(|cause| !cause.is_empty()) {
            Some(cause) => format!("{own}; caused by {cause}"),
            None => own,
        }
    }
}

#[cfg(test)]
mod tests;
