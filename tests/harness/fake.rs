//! A search node that answers by script: faults that a real node shows only on a bad day.
//!
//! Keeps every request and the documents that would stand in the index. It stores, never searches.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Answer to one `_bulk` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// As a healthy node: stores, 409 for what is there, the item rule for the rest.
    Serve,
    /// Stores nothing; this status and body for the whole request.
    Refuse(u16, &'static str),
    /// Stores nothing; a proxy's login page with status 200.
    Html,
    /// Stores nothing and breaks the connection without an answer.
    BreakUnread,
    /// Stores everything, then breaks the connection in the middle of the answer.
    BreakMidAnswer,
    /// Stores everything, then breaks the connection without an answer.
    BreakStored,
    /// Stores everything; the answer lacks its last item.
    ShortItems,
    /// Stores everything; the answer has its last item twice.
    ExtraItems,
    /// Waits, then serves.
    Late(Duration),
}

/// One action of a `_bulk` request.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// `create`, `index` …
    pub action: String,
    /// The index it names, in the action or in the path.
    pub index: String,
    /// The id it names, if any.
    pub id: Option<String>,
    /// The document.
    pub source: Value,
    /// How often this id was sent before.
    pub tries_before: u32,
}

/// One `_bulk` request as it came.
#[derive(Debug, Clone)]
pub struct Bulk {
    /// Its items, in order.
    pub items: Vec<Item>,
    /// What was answered.
    pub answer: Answer,
    /// Bytes of its body.
    pub bytes: usize,
}

/// Decides one item: `None` serves it, a status refuses it with `{"type": …}` of that status.
pub type Rule = Box<dyn FnMut(&Item) -> Option<u16> + Send>;

/// A running fake. Ends when dropped.
pub struct FakeNode {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    shared: Arc<Mutex<Inside>>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Inside {
    script: VecDeque<Answer>,
    rule: Option<Rule>,
    bytes_max: Option<usize>,
    bulks: Vec<Bulk>,
    documents: BTreeMap<(String, String), Value>,
    tries: HashMap<String, u32>,
    made_ids: u64,
}

impl FakeNode {
    /// Starts a healthy node.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)))?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Mutex::new(Inside::default()));
        let router = Router::new().fallback(handle).layer(DefaultBodyLimit::disable()).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, shared, runtime: Some(runtime) })
    }

    /// The next `_bulk` requests get these answers, one each; after them the node is healthy again.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lock().script.extend(answers);
    }

    /// Forgets what is left of the script.
    pub fn heal(&self) {
        let mut inside = self.lock();
        inside.script.clear();
        inside.rule = None;
    }

    /// Decides each item from here on.
    pub fn rule(&self, rule: impl FnMut(&Item) -> Option<u16> + Send + 'static) {
        self.lock().rule = Some(Box::new(rule));
    }

    /// Bodies over `bytes` get 413, with a page as proxies send it.
    pub fn limit_body(&self, bytes: usize) {
        self.lock().bytes_max = Some(bytes);
    }

    /// All `_bulk` requests up to now.
    pub fn bulks(&self) -> Vec<Bulk> {
        self.lock().bulks.clone()
    }

    /// The documents that stand in the node, by index and id.
    pub fn documents(&self) -> BTreeMap<(String, String), Value> {
        self.lock().documents.clone()
    }

    /// How many documents stand in the node.
    pub fn count(&self) -> usize {
        self.lock().documents.len()
    }

    /// The `message` of every document.
    pub fn messages(&self) -> Vec<String> {
        self.lock().documents.values().filter_map(|source| Some(source["message"].as_str()?.to_owned())).collect()
    }

    /// Answers of the script that have not been given yet.
    pub fn script_left(&self) -> usize {
        self.lock().script.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        lock(&self.shared)
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(shared: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn handle(State(shared): State<Arc<Mutex<Inside>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path();
    if path.ends_with("/_bulk") {
        return bulk(&shared, path, &body).await;
    }
    if path.ends_with("/_mget") || path == "/_mget" {
        return mget(&lock(&shared), path, &body);
    }
    match (method, path) {
        (_, "/") => ok(&json!({"name": "fake", "cluster_name": "fake", "cluster_uuid": "fake",
            "version": {"number": "8.19.0", "build_flavor": "default"}, "tagline": "You Know, for Search"})),
        (_, "/_cluster/health") => ok(&json!({"cluster_name": "fake", "status": "green", "timed_out": false})),
        (_, "/_license") => ok(&json!({"license": {"status": "active", "type": "basic"}})),
        (Method::HEAD, _) => reply(StatusCode::OK, "application/json", Body::empty()),
        (Method::GET, _) => reply(
            StatusCode::NOT_FOUND,
            "application/json",
            Body::from(r#"{"error":{"type":"index_not_found_exception"},"status":404}"#),
        ),
        _ => ok(&json!({"acknowledged": true})),
    }
}

async fn bulk(shared: &Mutex<Inside>, path: &str, body: &Bytes) -> Response {
    let answer = {
        let mut inside = lock(shared);
        if inside.bytes_max.is_some_and(|max| body.len() > max) {
            Answer::Refuse(413, "<html><head><title>413 Request Entity Too Large</title></head></html>")
        } else {
            inside.script.pop_front().unwrap_or(Answer::Serve)
        }
    };
    if let Answer::Late(delay) = answer {
        tokio::time::sleep(delay).await;
    }
    let mut inside = lock(shared);
    let items = match items(path, body, &mut inside.tries) {
        Ok(items) => items,
        Err(reason) => {
            let text = json!({"error": {"type": "illegal_argument_exception", "reason": reason}, "status": 400});
            return reply(StatusCode::BAD_REQUEST, "application/json", Body::from(text.to_string()));
        }
    };
    inside.bulks.push(Bulk { items: items.clone(), answer: answer.clone(), bytes: body.len() });
    match answer {
        Answer::Serve | Answer::Late(_) => ok(&inside.store(&items)),
        Answer::Refuse(status, text) => {
            reply(StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT), "application/json", Body::from(text))
        }
        Answer::Html => reply(StatusCode::OK, "text/html", Body::from("<html><body>please log in</body></html>")),
        // Unwinding without a message ends the connection's task: the peer sees it closed without an answer.
        Answer::BreakUnread => std::panic::resume_unwind(Box::new(())),
        Answer::BreakMidAnswer => {
            let text = inside.store(&items).to_string();
            let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
            let parts = [Ok(half), Err(std::io::Error::other("broken by script"))];
            reply(StatusCode::OK, "application/json", Body::from_stream(futures_util::stream::iter(parts)))
        }
        Answer::BreakStored => {
            inside.store(&items);
            drop(inside);
            std::panic::resume_unwind(Box::new(()))
        }
        Answer::ShortItems | Answer::ExtraItems => {
            let mut whole = inside.store(&items);
            if let Some(items) = whole["items"].as_array_mut() {
                let last = items.pop().into_iter();
                items.extend(
                    last.flat_map(|last| std::iter::repeat_n(last, 2)).filter(|_| answer == Answer::ExtraItems),
                );
            }
            ok(&whole)
        }
    }
}

/// Reads the lines of a bulk body.
fn items(path: &str, body: &[u8], tries: &mut HashMap<String, u32>) -> Result<Vec<Item>, String> {
    let of_path = path.strip_suffix("/_bulk").unwrap_or_default().trim_start_matches('/');
    if !body.ends_with(b"\n") {
        return Err("the bulk request must be terminated by a newline".to_owned());
    }
    let mut lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let mut items = Vec::new();
    while let Some(action) = lines.next() {
        let action: Value = serde_json::from_slice(action).map_err(|error| format!("action line: {error}"))?;
        let (verb, meta) =
            action.as_object().and_then(|o| o.iter().next()).ok_or("an action line without an action")?;
        let source = lines.next().ok_or("an action without its document")?;
        let source = serde_json::from_slice(source).map_err(|error| format!("document line: {error}"))?;
        let id = meta["_id"].as_str().map(str::to_owned);
        let tried = id.as_ref().map(|id| tries.entry(id.clone()).or_default());
        let tries_before = tried.map_or(0, |tries| std::mem::replace(tries, *tries + 1));
        let index = meta["_index"].as_str().unwrap_or(of_path).to_owned();
        items.push(Item { action: verb.clone(), index, id, source, tries_before });
    }
    Ok(items)
}

impl Inside {
    /// Stores what a healthy node would and answers as it does.
    fn store(&mut self, items: &[Item]) -> Value {
        let mut errors = false;
        let answers = items.iter().map(|item| {
            let (status, id) = self.store_one(item);
            errors |= status >= 300;
            let mut answer = json!({"_index": item.index, "_id": id, "status": status});
            if status >= 300 {
                answer["error"] = json!({"type": error_type(status), "reason": format!("scripted status {status}")});
            } else {
                answer["result"] = json!("created");
            }
            json!({item.action.as_str(): answer})
        });
        let answers: Vec<_> = answers.collect();
        json!({"took": 1, "errors": errors, "items": answers})
    }

    fn store_one(&mut self, item: &Item) -> (u16, String) {
        let id = item.id.clone().unwrap_or_else(|| {
            self.made_ids += 1;
            format!("made-{}", self.made_ids)
        });
        if let Some(status) = self.rule.as_mut().and_then(|rule| rule(item)) {
            return (status, id);
        }
        let key = (item.index.clone(), id.clone());
        if item.action == "create" && self.documents.contains_key(&key) {
            return (409, id);
        }
        self.documents.insert(key, item.source.clone());
        (201, id)
    }
}

fn error_type(status: u16) -> &'static str {
    match status {
        400 => "document_parsing_exception",
        409 => "version_conflict_engine_exception",
        403 => "cluster_block_exception",
        404 => "index_not_found_exception",
        429 => "es_rejected_execution_exception",
        503 => "unavailable_shards_exception",
        _ => "scripted_exception",
    }
}

fn mget(inside: &Inside, path: &str, body: &[u8]) -> Response {
    let of_path = path.strip_suffix("/_mget").unwrap_or_default().trim_start_matches('/');
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let whole = asked["docs"].as_array().cloned().unwrap_or_default();
    let short = asked["ids"].as_array().cloned().unwrap_or_default().into_iter().map(|id| json!({"_id": id}));
    let found = |doc: Value| {
        let index = doc["_index"].as_str().unwrap_or(of_path).to_owned();
        let id = doc["_id"].as_str().unwrap_or_default().to_owned();
        let found = inside.documents.contains_key(&(index.clone(), id.clone()));
        json!({"_index": index, "_id": id, "found": found})
    };
    ok(&json!({"docs": whole.into_iter().chain(short).map(found).collect::<Vec<_>>()}))
}

fn ok(answer: &Value) -> Response {
    reply(StatusCode::OK, "application/json", Body::from(answer.to_string()))
}

fn reply(status: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    response.headers_mut().insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    fn send(node: &FakeNode, ids: &[&str]) -> anyhow::Result<(u16, Value)> {
        let lines = ids.iter().map(|id| format!("{{\"create\":{{\"_id\":\"{id}\"}}}}\n{{\"message\":\"m-{id}\"}}\n"));
        let (status, text) = http::request("POST", &format!("{}/i/_bulk", node.url), Some(&lines.collect::<String>()))?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    fn statuses(answer: &Value) -> Vec<u64> {
        let items = answer["items"].as_array().expect("items");
        items.iter().map(|item| item["create"]["status"].as_u64().expect("a status")).collect()
    }

    #[test]
    fn a_second_create_is_a_conflict() {
        let node = FakeNode::start().expect("the fake starts");
        assert_eq!(statuses(&send(&node, &["a", "b"]).expect("an answer").1), [201, 201]);
        assert_eq!(statuses(&send(&node, &["b", "c"]).expect("an answer").1), [409, 201]);
        assert_eq!(node.messages(), ["m-a", "m-b", "m-c"]);
        assert_eq!(node.bulks()[1].items[0].tries_before, 1);
    }

    #[test]
    fn the_script_is_followed_then_the_node_is_healthy() {
        let node = FakeNode::start().expect("the fake starts");
        node.script([
            Answer::Refuse(503, "busy"),
            Answer::Html,
            Answer::ShortItems,
            Answer::BreakUnread,
            Answer::BreakMidAnswer,
            Answer::BreakStored,
            Answer::ExtraItems,
        ]);
        assert_eq!(send(&node, &["a"]).expect("an answer").0, 503);
        assert_eq!(send(&node, &["a"]).expect("an answer").0, 200);
        assert!(node.documents().is_empty(), "refusals store nothing");
        assert_eq!(statuses(&send(&node, &["a", "b"]).expect("an answer").1), [201]);
        assert_eq!(node.documents().len(), 2, "short answers store everything");
        assert!(send(&node, &["c"]).is_err());
        assert_eq!(node.documents().len(), 2, "broken before anything was stored");
        assert!(send(&node, &["c"]).is_err());
        assert_eq!(node.documents().len(), 3, "stored, then broken");
        assert!(send(&node, &["d"]).is_err());
        assert_eq!(node.documents().len(), 4, "stored, and not answered");
        assert_eq!(statuses(&send(&node, &["c", "e"]).expect("an answer").1), [409, 201, 201]);
        assert_eq!(node.documents().len(), 5, "one more answered than sent");
        assert_eq!(statuses(&send(&node, &["c"]).expect("an answer").1), [409]);
        assert_eq!(node.script_left(), 0);
    }

    #[test]
    fn a_rule_decides_single_items() {
        let node = FakeNode::start().expect("the fake starts");
        node.rule(|item| (item.id.as_deref() == Some("b") && item.tries_before == 0).then_some(429));
        assert_eq!(statuses(&send(&node, &["a", "b", "c"]).expect("an answer").1), [201, 429, 201]);
        assert_eq!(statuses(&send(&node, &["b"]).expect("an answer").1), [201]);
    }

    #[test]
    fn a_body_over_the_limit_is_refused() {
        let node = FakeNode::start().expect("the fake starts");
        node.limit_body(60);
        assert_eq!(send(&node, &["a", "b"]).expect("an answer").0, 413);
        assert_eq!(send(&node, &["a"]).expect("an answer").0, 200);
    }
}
