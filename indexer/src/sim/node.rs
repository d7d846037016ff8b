//! The search node of the simulation: stores documents by id, and fails as its seed says.

use super::{BEGIN_MS, wall_ms};
use crate::bulk::{Sending, Wire};
use crate::settle::Answer;
use bytes::Bytes;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longest wait of a client for an answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);
/// Until then some documents are refused.
const STUCK_UNTIL_MS: i64 = BEGIN_MS + 400_000;
/// Refuses every request.
const DOWN: &[u16] = &[408, 429, 500, 502, 503, 504];
/// What only a person can mend.
const REFUSING: &[u16] = &[301, 401, 403, 404, 405, 501];

/// How often and how the node fails.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    /// Of a hundred requests.
    requests: u8,
    /// Of a hundred documents, in requests that fail in part.
    documents: u8,
    /// Requests with more bytes are refused.
    pub(super) body_bytes_max: usize,
    /// Neither host answers at all in this time.
    outage: std::ops::Range<Duration>,
}

impl Faults {
    pub(super) fn random(random: &mut Rng) -> Self {
        let start = Duration::from_millis(random.u64(0..5_000));
        let length = if random.bool() { Duration::ZERO } else { Duration::from_secs(random.u64(1..120)) };
        Self {
            requests: *random.choice(&[0, 10, 30, 70]).expect("a list of some"),
            documents: random.u8(1..60),
            body_bytes_max: random.usize(900..8_000),
            outage: start..start + length,
        }
    }

    /// Away for so long, and then well.
    pub(super) fn away(length: Duration) -> Self {
        Self { requests: 0, documents: 0, body_bytes_max: 8_000, outage: Duration::ZERO..length }
    }
}

/// A document as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its number: what tells records apart.
    pub(super) n: u64,
    pub(super) index: String,
    /// When it came.
    pub(super) time_ms: i64,
}

#[derive(Debug)]
struct State {
    random: Rng,
    stored: BTreeMap<String, Stored>,
    requests: Vec<Instant>,
    faults_shown: usize,
}

#[derive(Debug)]
pub(super) struct Node {
    faults: Faults,
    began: Instant,
    state: Mutex<State>,
}

/// What a request ends as.
enum Way {
    /// As it should.
    Well,
    /// Nothing is done, and nothing is answered.
    Lost,
    /// All is done, and nothing is answered, or not in time.
    Forgotten,
    /// This is answered; and all is done, or nothing.
    Says { status: u16, body: String, done: bool },
    /// Done, but the answer is not what it should be.
    Garbled(fn(String) -> String),
    /// Some documents are refused for now.
    InPart,
}

impl Node {
    pub(super) fn new(faults: Faults, random: Rng) -> Self {
        let state = State { random, stored: BTreeMap::new(), requests: Vec::new(), faults_shown: 0 };
        Self { faults, began: Instant::now(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    pub(super) fn stored(&self) -> BTreeMap<String, Stored> {
        self.state().stored.clone()
    }

    pub(super) fn requests(&self) -> Vec<Instant> {
        self.state().requests.clone()
    }

    pub(super) fn faults_shown(&self) -> usize {
        self.state().faults_shown
    }

    fn way(&self) -> Way {
        if self.faults.outage.contains(&self.began.elapsed()) {
            return Way::Lost;
        }
        let mut state = self.state();
        if state.random.u8(0..100) >= self.faults.requests {
            return Way::Well;
        }
        state.faults_shown += 1;
        let random = &mut state.random;
        let pick = |random: &mut Rng, list: &[u16]| *random.choice(list).expect("a list of some");
        match random.u8(0..9) {
            0 => Way::Lost,
            1 | 2 => Way::Forgotten,
            3 => Way::Says { status: pick(random, DOWN), body: "<html>".to_owned(), done: random.bool() },
            4 => Way::Says { status: pick(random, REFUSING), body: String::new(), done: false },
            5 => {
                let body = r#"{"error":{"type":"cluster_block_exception","reason":"blocked"},"status":403}"#.to_owned();
                Way::Says { status: *random.choice(&[403, 429]).expect("a list of some"), body, done: false }
            }
            6 => Way::Garbled(*random.choice(GARBLES).expect("a list of some")),
            _ => Way::InPart,
        }
    }

    async fn bulk(self: Arc<Self>, body: Bytes) -> Answer {
        let (way, latency) = (self.way(), self.latency());
        self.state().requests.push(Instant::now());
        match way {
            Way::Lost => {
                sleep(latency).await;
                Answer::Nothing("connection refused".to_owned())
            }
            Way::Forgotten => {
                // Done at some time, perhaps long after the client has gone.
                let (node, late) = (self.clone(), self.latency() * 2000);
                let work = tokio::spawn(async move {
                    sleep(late).await;
                    drop(node.apply(&body, false));
                });
                if tokio::time::timeout(TIMEOUT, work).await.is_err() {
                    return Answer::Nothing("timed out".to_owned());
                }
                Answer::Nothing("connection reset".to_owned())
            }
            Way::Says { status, body: says, done } => {
                sleep(latency).await;
                if done {
                    drop(self.apply(&body, false));
                }
                let retry_after = (latency.as_millis() % 7 == 0).then_some(Duration::from_secs(1));
                Answer::Http { status, body: says.into(), retry_after }
            }
            Way::Garbled(garble) => {
                sleep(latency).await;
                match self.apply(&body, false) {
                    (200, text) => http(200, garble(text)),
                    (status, text) => http(status, text),
                }
            }
            Way::Well | Way::InPart => {
                sleep(latency).await;
                let (status, text) = self.apply(&body, matches!(way, Way::InPart));
                http(status, text)
            }
        }
    }

    fn latency(&self) -> Duration {
        Duration::from_millis(self.state().random.u64(1..50))
    }

    /// Does what the request asks for. `in_part`: some documents are refused for now, some of them after they were stored.
    fn apply(&self, body: &[u8], in_part: bool) -> (u16, String) {
        if body.len() > self.faults.body_bytes_max {
            return (413, String::new());
        }
        let text = std::str::from_utf8(body).expect("a body is text");
        assert!(text.ends_with('\n'), "a body ends with a newline");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        assert!(!lines.is_empty() && lines.len().is_multiple_of(2), "actions and documents");
        if lines.iter().any(|line| line["fate"] == "poison") {
            return (
                400,
                r#"{"error":{"type":"illegal_argument_exception","reason":"malformed"},"status":400}"#.into(),
            );
        }
        let mut state = self.state();
        let items: Vec<String> = lines
            .chunks(2)
            .map(|pair| {
                let hit = in_part && state.random.u8(0..100) < self.faults.documents;
                let way = if hit { state.random.u8(1..6) } else { 0 };
                let refused = |status: u16, kind: &str| {
                    format!(r#"{{"create":{{"status":{status},"error":{{"type":"{kind}","reason":"because"}}}}}}"#)
                };
                match way {
                    1 => return refused(429, "es_rejected_execution_exception"),
                    2 => return refused(403, "cluster_block_exception"),
                    3 => return refused(503, "unavailable_shards_exception"),
                    _ => {}
                }
                let (status, kind) = state.create(&pair[0]["create"], &pair[1]);
                match (way, kind) {
                    (4, _) => refused(500, "node_disconnected_exception"), // Stored, or not: nobody knows.
                    (_, "") => format!(r#"{{"create":{{"status":{status}}}}}"#),
                    (_, kind) => refused(status, kind),
                }
            })
            .collect();
        (200, format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(",")))
    }
}

impl State {
    fn create(&mut self, action: &serde_json::Value, document: &serde_json::Value) -> (u16, &'static str) {
        let text = |key: &str| action[key].as_str().expect("an action names index and id").to_owned();
        match document["fate"].as_str() {
            Some("hopeless") => return (503, "unavailable_shards_exception"),
            Some("stuck") if wall_ms() < STUCK_UNTIL_MS => return (429, "cluster_block_exception"),
            Some("mapping") => return (400, "document_parsing_exception"),
            Some("missing") => return (404, "index_not_found_exception"),
            Some("denied") => return (403, "security_exception"),
            _ => {}
        }
        let n = document["n"].as_u64().expect("a document has its number");
        let stored = Stored { n, index: text("_index"), time_ms: wall_ms() };
        match self.stored.entry(text("_id")) {
            std::collections::btree_map::Entry::Occupied(_) => (409, "version_conflict_engine_exception"),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(stored);
                (201, "")
            }
        }
    }
}

/// Answers that are not what they should be.
const GARBLES: &[fn(String) -> String] = &[
    |_| "<html>welcome</html>".to_owned(),
    |_| String::new(),
    |_| "{}".to_owned(),
    |_| r#"{"errors":false,"items":[]}"#.to_owned(),
    |text| text.chars().take(text.len() / 2).collect(),
    |text| text.replacen(r#""items":[{"#, r#""items":[{"create":{"status":201}},{"#, 1),
    |text| text.replacen(r#""errors":true,"#, "", 1),
    |text| text.replacen(r#""status":"#, r#""state":"#, 1),
    |text| text.replacen(r#"{"create":{"#, r#"{"create":{"status":201},"index":{"#, 1),
    |text| format!("{text}{text}"),
];

fn http(status: u16, body: String) -> Answer {
    Answer::Http { status, body: body.into(), retry_after: None }
}

/// One of the hosts by which the node is reached.
#[derive(Debug)]
pub(super) struct NodeWire(pub(super) Arc<Node>);

impl Wire for NodeWire {
    fn bulk(&self, body: Bytes, packed: bool) -> Sending<'_> {
        let body = if packed {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(body.as_ref()).read_to_end(&mut plain).expect("it is gzip");
            plain.into()
        } else {
            body
        };
        Box::pin(self.0.clone().bulk(body))
    }

    fn root(&self) -> Sending<'_> {
        Box::pin(async {
            match self.0.way() {
                Way::Well => http(200, r#"{"version":{"number":"8.19.0"}}"#.to_owned()),
                _ => Answer::Nothing("connection refused".to_owned()),
            }
        })
    }
}
