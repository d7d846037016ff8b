//! Dead letters → documents in an index of the same cluster, named by the place of their records.

use super::{DeadLetters, Letter, Unwritten, Writing};
use crate::bulk::Cluster;
use crate::settle::{Fate, Verdict, settle};
use std::sync::Arc;

/// Most bytes of one request, unless a letter alone has more.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// What is kept of the bytes of a letter that the cluster refuses as too large.
const CUT_CHARS: usize = 16 << 10;

/// An index of dead letters.
#[derive(Debug)]
pub struct DeadLetterIndex {
    cluster: Arc<Cluster>,
    index: String,
}

impl DeadLetterIndex {
    /// Writes to `index`, which the cluster makes if it does not exist.
    pub fn new(cluster: Arc<Cluster>, index: &str) -> Self {
        Self { cluster, index: index.to_owned() }
    }

    /// The action line and the document. `cut`: without most of the bytes.
    fn lines(&self, letter: &Letter<'_>, time_ms: i64, cut: bool) -> String {
        let id = letter.home().id();
        let action = serde_json::json!({"create": {"_index": self.index, "_id": String::from_utf8_lossy(id.as_ref())}});
        let mut document = letter.document(time_ms);
        if cut {
            let original: String =
                String::from_utf8_lossy(letter.value().unwrap_or_default()).chars().take(CUT_CHARS).collect();
            document["event"]["original"] = original.into();
            document["tailrace"]["cut"] = true.into();
            if let Some(members) = document["tailrace"].as_object_mut() {
                members.remove("value_base64");
            }
        }
        format!("{action}\n{document}\n")
    }

    /// Sends the letters at `chosen`, whose lines are `body`. Returns the positions that were not taken, with the reason and
    /// whether it was their size.
    async fn send(&self, chosen: &[usize], body: String) -> Vec<(usize, String, bool)> {
        let (url, answer) = self.cluster.bulk(body.into()).await;
        let refused =
            |at: usize, reason: String, large: bool| (at, format!("{url}, index {}: {reason}", self.index), large);
        match settle(&answer, chosen.len(), true) {
            Verdict::Items(fates) => {
                let failed = |(&at, fate)| match fate {
                    Fate::Done(_) | Fate::Duplicate => None,
                    Fate::Retry(reason) => Some(refused(at, reason.to_owned(), false)),
                    Fate::Dead(cause) => Some(refused(at, cause.reason, false)),
                };
                chosen.iter().zip(fates).filter_map(failed).collect()
            }
            Verdict::Resend { cause, .. } => chosen.iter().map(|&at| refused(at, cause.clone(), false)).collect(),
            Verdict::Halve(cause) => chosen.iter().map(|&at| refused(at, cause.reason.clone(), true)).collect(),
            Verdict::Bisect(cause) | Verdict::Alarm(cause) => {
                chosen.iter().map(|&at| refused(at, cause.reason.clone(), false)).collect()
            }
        }
    }
}

impl DeadLetters for DeadLetterIndex {
    fn write<'l>(&'l self, letters: &'l [Letter<'l>]) -> Writing<'l> {
        Box::pin(async move {
            let time_ms = service::clock::wall_ms();
            let mut unwritten: Vec<Unwritten> = Vec::new();
            let mut large: Vec<usize> = Vec::new();
            let (mut chosen, mut body) = (Vec::new(), String::new());
            for (at, letter) in letters.iter().enumerate() {
                chosen.push(at);
                body.push_str(&self.lines(letter, time_ms, false));
                if body.len() < REQUEST_BYTES_MAX && at + 1 < letters.len() {
                    continue;
                }
                for (at, reason, too_large) in self.send(&chosen, std::mem::take(&mut body)).await {
                    if too_large { large.push(at) } else { unwritten.push((at, reason)) }
                }
                chosen.clear();
            }
            // One by one; what is too large alone is kept in part: an index cannot hold more than the cluster takes.
            for at in large {
                let mut failed = self.send(&[at], self.lines(&letters[at], time_ms, false)).await;
                if failed.iter().any(|(.., too_large)| *too_large) {
                    failed = self.send(&[at], self.lines(&letters[at], time_ms, true)).await;
                }
                unwritten.extend(failed.into_iter().map(|(at, reason, _)| (at, reason)));
            }
            unwritten.sort_unstable();
            unwritten
        })
    }
}
