//! Where the documents of a batch go: a search cluster, or as copies to a topic, a file or standard output.
//!
//! A copy is the document as one line of JSON, with `@metadata`: its id and the index it is meant for. So what reads it later can
//! store it under the same id. It counts as written when it is safe there: the broker's report, the disk, the pipe.

mod file;
mod stdout;
mod topic;

pub use file::CopyFile;
pub use stdout::Stdout;
pub use topic::CopyTopic;
pub(crate) use topic::REFUSED;

use crate::batch::Batch;
use crate::bulk::Cluster;
use crate::settle::Fate;
use bytes::Bytes;
use serde::Deserialize;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What takes documents.
pub enum Output {
    /// A search cluster, by bulk requests.
    Search {
        /// Its nodes.
        cluster: Arc<Cluster>,
        /// Documents are created by id, so that a conflict is a success.
        named: bool,
    },
    /// Something that takes copies.
    Copies(Box<dyn Copies>),
}

impl Output {
    /// Its name in the health report.
    pub fn part(&self) -> &'static str {
        match self {
            Self::Search { .. } => "elasticsearch",
            Self::Copies(copies) => copies.part(),
        }
    }
}

/// Copies on their way, and what became of each.
pub type Writing<'c> = Pin<Box<dyn Future<Output = Written> + Send + 'c>>;

/// What became of copies.
#[derive(Debug)]
pub struct Written {
    /// One fate for each, in order.
    pub fates: Vec<Fate>,
    /// Why some were not taken now, and what to do about it.
    pub problem: Option<String>,
}

/// Where copies of documents go.
pub trait Copies: Send + Sync {
    /// Its name in the health report.
    fn part(&self) -> &'static str;
    /// Writes `copies` durably.
    fn write<'c>(&'c self, copies: &'c [Copy<'c>]) -> Writing<'c>;
}

/// A document for an output that is no search cluster.
#[derive(Debug)]
pub struct Copy<'b> {
    /// What names it.
    pub id: String,
    /// Where it would go in a search cluster.
    pub index: String,
    /// The key of the record that it was made of.
    pub key: Option<&'b [u8]>,
    document: Bytes,
}

/// Our own action line of a bulk body.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Action {
    create: Create,
}

#[derive(Debug, Default, Deserialize)]
struct Create {
    #[serde(rename = "_index")]
    index: String,
    #[serde(rename = "_id", default)]
    id: String,
}

impl Action {
    /// The action of the lines of a document, and where the document starts.
    pub(crate) fn read(lines: &[u8]) -> (Self, usize) {
        let end = lines.iter().position(|byte| *byte == b'\n').unwrap_or(lines.len());
        let action = serde_json::from_slice(&lines[..end]).unwrap_or_default();
        (action, (end + 1).min(lines.len()))
    }

    pub(crate) fn index(self) -> String {
        self.create.index
    }
}

impl<'b> Copy<'b> {
    /// The copies of the documents `chosen`.
    pub fn of(batch: &'b Batch, chosen: &[u32]) -> Vec<Self> {
        let copy = |&at: &u32| {
            let (origin, lines) = (batch.items[at as usize].origin, batch.document(at));
            let (Action { create: Create { index, id } }, start) = Action::read(&lines);
            Self { id, index, key: batch.parcel(origin).key(origin.record), document: lines.slice(start..) }
        };
        chosen.iter().map(copy).collect()
    }

    /// Bytes of the line, nearly.
    pub fn bytes(&self) -> usize {
        self.document.len() + self.id.len() + self.index.len() + 40
    }

    /// Appends the document as one line, with its newline.
    pub fn line(&self, out: &mut Vec<u8>) {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let metadata = format!("{{\"@metadata\":{{\"_id\":{},\"index\":{}}}", text(&self.id), text(&self.index));
        out.extend_from_slice(metadata.as_bytes());
        let members = self.document.trim_ascii().strip_prefix(b"{").unwrap_or(b"}");
        if members.trim_ascii_start().first().is_some_and(|byte| *byte != b'}') {
            out.push(b',');
        }
        out.extend_from_slice(members);
        out.push(b'\n');
    }
}

/// All of `copies` as lines.
fn lines(copies: &[Copy<'_>]) -> Vec<u8> {
    let mut text = Vec::with_capacity(copies.iter().map(Copy::bytes).sum());
    copies.iter().for_each(|copy| copy.line(&mut text));
    text
}

/// All were written, or none: then why.
fn all_or_none(count: usize, result: std::io::Result<()>, what: impl FnOnce() -> String) -> Written {
    match result {
        Ok(()) => Written { fates: vec![Fate::Done(false); count], problem: None },
        Err(error) => {
            Written { fates: vec![Fate::Retry("not_written"); count], problem: Some(format!("{}: {error}", what())) }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A copy of this document.
    pub(crate) fn copy(id: &str, document: &'static str) -> Copy<'static> {
        Copy { id: id.to_owned(), index: "logs".to_owned(), key: None, document: document.into() }
    }

    #[track_caller]
    fn check(id: &str, document: &'static str, line: &str) {
        let mut out = Vec::new();
        copy(id, document).line(&mut out);
        assert_eq!(String::from_utf8(out).expect("a text"), format!("{line}\n"));
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }

    #[test]
    fn a_copy_is_the_document_with_its_id() {
        check("a", "{\"n\":1}\n", "{\"@metadata\":{\"_id\":\"a\",\"index\":\"logs\"},\"n\":1}");
        check("a", "{}\n", "{\"@metadata\":{\"_id\":\"a\",\"index\":\"logs\"}}");
        check("a\"", "{\"n\":1}", "{\"@metadata\":{\"_id\":\"a\\\"\",\"index\":\"logs\"},\"n\":1}");
    }

    #[test]
    fn the_action_line_says_what_names_it() {
        let (action, start) = Action::read(b"{\"create\":{\"_index\":\"logs\",\"_id\":\"a\"}}\n{}\n");
        assert_eq!((action.create.id.as_str(), start), ("a", 39));
        assert_eq!(Action::read(b"").0.index(), "");
    }
}
