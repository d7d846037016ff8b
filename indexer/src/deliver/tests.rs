//! Deliveries against a node that answers by script, byte by byte where it has to be: resets, halves of answers, lies.

use super::*;
use crate::batch::Filling;
use crate::config::{BatchConfig, ElasticsearchConfig};
use crate::dead_letter::Writing;
use crate::parcel::PutOff;
use crate::parcel::tests::{parcel, parcel_of};
use event::Entry;
use service::metrics::Registry;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

/// What the node does with one request.
#[derive(Debug, Clone)]
enum Reply {
    /// Stores what it does not have; 409 for what it has. An item whose id is listed gets this status and error instead.
    Index(Vec<(&'static str, u16, &'static str)>),
    /// Stores all of it, then answers with these bytes and closes.
    StoreThen(&'static str),
    /// Stores nothing and answers with this status and body.
    Plain(u16, &'static str),
    /// Stores all but those listed, then closes without an answer.
    StoreThenUnless(Vec<(&'static str, u16, &'static str)>),
    /// Stores all of it and never answers.
    StoreAndHang,
    /// 413 for more bytes than this, else as `Index`.
    Limit(usize),
    /// 400 for the whole request if this id is in it, else as `Index`.
    Poison(&'static str),
}

#[derive(Debug, Default)]
struct Seen {
    /// Documents by id, with how often each was created: never more than once.
    stored: BTreeMap<String, u32>,
    /// Ids of each bulk request.
    requests: Vec<Vec<String>>,
}

/// The node: each request takes the next reply of the script, after its end all succeed.
struct Node {
    url: String,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    async fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (shared, script) = (seen.clone(), Arc::new(Mutex::new(script.into_iter())));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone(), script.clone()));
            }
        });
        Self { url, seen, task }
    }

    fn stored(&self) -> BTreeMap<String, u32> {
        self.seen.lock().expect("no test panics with it").stored.clone()
    }

    fn requests(&self) -> Vec<Vec<String>> {
        self.seen.lock().expect("no test panics with it").requests.clone()
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>, script: Arc<Mutex<std::vec::IntoIter<Reply>>>) {
    let mut read = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut read).await {
        if !head.starts_with("POST /_bulk") {
            respond(&mut stream, 200, r#"{"version":{"number":"2.19.4","distribution":"opensearch"}}"#).await;
            continue;
        }
        let ids: Vec<String> = body.lines().step_by(2).map(id_of).collect();
        let reply = script.lock().expect("no test panics with it").next().unwrap_or(Reply::Index(vec![]));
        seen.lock().expect("no test panics with it").requests.push(ids.clone());
        let store_all = || ids.iter().fold(0, |_, id| store(&seen, id));
        match reply {
            Reply::Index(special) => respond(&mut stream, 200, &index(&seen, &ids, &special)).await,
            Reply::Limit(bytes) if body.len() > bytes => respond(&mut stream, 413, "").await,
            Reply::Poison(id) if ids.iter().any(|known| known == id) => {
                respond(&mut stream, 400, r#"{"error":{"type":"parse_exception","reason":"malformed"}}"#).await;
            }
            Reply::Limit(_) | Reply::Poison(_) => respond(&mut stream, 200, &index(&seen, &ids, &[])).await,
            Reply::Plain(status, text) => respond(&mut stream, status, text).await,
            Reply::StoreThen(raw) => {
                store_all();
                stream.write_all(raw.as_bytes()).await.ok();
                return;
            }
            Reply::StoreThenUnless(special) => {
                drop(index(&seen, &ids, &special));
                return;
            }
            Reply::StoreAndHang => {
                store_all();
                tokio::time::sleep(Duration::from_secs(60)).await;
                return;
            }
        }
    }
}

fn id_of(action: &str) -> String {
    let action: serde_json::Value = serde_json::from_str(action).expect("an action line is JSON");
    action["create"]["_id"].as_str().expect("it has an id").to_owned()
}

fn store(seen: &Arc<Mutex<Seen>>, id: &str) -> u16 {
    let mut seen = seen.lock().expect("no test panics with it");
    match seen.stored.contains_key(id) {
        true => 409,
        false => {
            seen.stored.insert(id.to_owned(), 1);
            201
        }
    }
}

fn index(seen: &Arc<Mutex<Seen>>, ids: &[String], special: &[(&str, u16, &str)]) -> String {
    let items: Vec<String> = ids
        .iter()
        .map(|id| match special.iter().find(|(listed, ..)| listed == id) {
            Some((_, status, kind)) => {
                format!(r#"{{"create":{{"status":{status},"error":{{"type":"{kind}","reason":"because"}}}}}}"#)
            }
            None => format!(r#"{{"create":{{"status":{}}}}}"#, store(seen, id)),
        })
        .collect();
    format!(r#"{{"errors":{},"items":[{}]}}"#, !special.is_empty(), items.join(","))
}

async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let whole = end + 4 + length.unwrap_or(0_usize);
            if read.len() >= whole {
                let body = String::from_utf8_lossy(&read[end + 4..whole]).into_owned();
                read.drain(..whole);
                return Some((head, body));
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

async fn respond(stream: &mut TcpStream, status: u16, body: &str) {
    let text = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.ok();
}

/// Dead letters kept in memory; the first writes fail as often as `fail` says.
#[derive(Default)]
struct Kept {
    letters: Arc<Mutex<Vec<(i64, String, u16)>>>,
    attempts: Arc<Mutex<Vec<(i64, u32)>>>,
    fail: Mutex<u32>,
}

impl DeadLetters for Kept {
    fn write<'l>(&'l self, letters: &'l [Letter<'l>]) -> Writing<'l> {
        let mut fail = self.fail.lock().expect("no test panics with it");
        let mut kept = self.letters.lock().expect("no test panics with it");
        let mut unwritten = Vec::new();
        for (at, letter) in letters.iter().enumerate() {
            if *fail > 0 {
                *fail -= 1;
                unwritten.push((at, "broker away".to_owned()));
                continue;
            }
            let offset = letter.home().offset;
            kept.push((offset, letter.index.clone(), letter.cause.status));
            self.attempts.lock().expect("no test panics with it").push((offset, letter.attempts));
        }
        Box::pin(std::future::ready(unwritten))
    }
}

struct Setup {
    delivery: Delivery,
    letters: Arc<Mutex<Vec<(i64, String, u16)>>>,
    /// Offset and attempts of each letter.
    attempts: Arc<Mutex<Vec<(i64, u32)>>>,
    metrics: Metrics,
}

fn setup(url: &str, fail_letters: u32) -> Setup {
    let metrics = Metrics::new(&Registry::default());
    let text = format!("hosts: [\"{url}\"]\ntimeout: 300ms\n");
    let config: ElasticsearchConfig =
        service::load::parse_config(std::path::Path::new("test.yaml"), &text).expect("a valid section");
    let kept = Kept { fail: Mutex::new(fail_letters), ..Kept::default() };
    let (letters, attempts) = (kept.letters.clone(), kept.attempts.clone());
    let waits = (Duration::from_millis(1), Duration::from_millis(5));
    let delivery = Delivery {
        output: Output::Search {
            cluster: Arc::new(Cluster::new(&config, metrics.clone()).expect("a valid host")),
            named: true,
        },
        pace: Pace::new(1, 2, &metrics),
        ceiling: Mutex::default(),
        dead_letters: Box::new(kept),
        later: None,
        progress: Progress::default(),
        wall_ms: || 0,
        breaker: Some(Mutex::default()),
        metrics: metrics.clone(),
        health: Health::new(),
        waits: Waits { retry: waits, alarm: waits },
    };
    Setup { delivery, letters, attempts, metrics }
}

/// A batch of `count` documents with ids `d0`, `d1`, ….
fn batch(count: usize, metrics: &Metrics) -> (Batch, UnboundedReceiver<Entry>) {
    let ids: Vec<String> = (0..count).map(|record| format!("d{record}")).collect();
    batch_of(&ids.iter().map(|id| (id.as_str(), None)).collect::<Vec<_>>(), metrics)
}

/// A batch of documents with these ids, some of which come from retry topics.
fn batch_of(ids: &[(&str, Option<PutOff>)], metrics: &Metrics) -> (Batch, UnboundedReceiver<Entry>) {
    let payloads: Vec<_> = ids.iter().map(|(_, put_off)| (b"x".as_slice(), put_off.clone())).collect();
    let (parcel, rx) = parcel_of(&payloads, metrics);
    let (mut filling, now) =
        (Filling::new(BatchConfig::default(), crate::pool::Pool::new(0)), service::clock::monotonic());
    for (record, (id, _)) in ids.iter().enumerate() {
        let line = format!("{{\"create\":{{\"_index\":\"logs\",\"_id\":\"{id}\"}}}}\n{{\"n\":{record}}}\n");
        filling.body().extend_from_slice(line.as_bytes());
        assert!(filling.push(&parcel, record as u32, crate::batch::Made::default(), now).is_none());
    }
    (filling.take().expect("documents were pushed"), rx)
}

/// Delivers `count` documents by `script`: all but `dead` are stored once, and the debt is settled.
#[track_caller]
fn check(count: usize, script: Vec<Reply>, dead: &[i64], requests: usize) -> Vec<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::start(script).await;
        let Setup { delivery, letters, metrics, .. } = setup(&node.url, 1);
        let (batch, mut rx) = batch(count, &metrics);
        tokio::time::timeout(Duration::from_secs(20), delivery.deliver(batch)).await.expect("the delivery ends");
        assert!(matches!(rx.try_recv(), Ok(Entry::Settled(_))), "the debt is settled");
        let letters: Vec<i64> = letters.lock().expect("no test panics").iter().map(|(offset, ..)| *offset).collect();
        assert_eq!(letters, dead, "dead letters");
        let expected: Vec<String> = (0..count as i64).filter(|n| !dead.contains(n)).map(|n| format!("d{n}")).collect();
        let mut stored: Vec<String> = node.stored().into_keys().collect();
        stored.sort_by_key(|id| id.trim_start_matches('d').parse::<u32>().unwrap_or(0));
        assert_eq!(stored, expected, "documents");
        assert_eq!(metrics.indexed.get() + metrics.duplicate.get() + dead.len() as u64, count as u64);
        assert_eq!(metrics.in_flight.get(), 0);
        let (consumed, ends) = metrics.equation();
        assert_eq!(consumed, ends);
        assert_eq!(node.requests().len(), requests, "requests");
        node.requests()
    })
}

#[test]
fn one_request_is_enough_when_all_goes_well() {
    check(100, vec![], &[], 1);
}

#[test]
fn only_what_failed_for_now_is_sent_again() {
    let busy = ("d1", 429, "es_rejected_execution_exception");
    let down = ("d3", 503, "unavailable_shards_exception");
    let block = ("d4", 403, "cluster_block_exception");
    let requests = check(5, vec![Reply::Index(vec![busy, down, block]), Reply::Index(vec![down])], &[], 3);
    assert_eq!(requests[1], ["d1", "d3", "d4"]);
    assert_eq!(requests[2], ["d3"]);
}

#[test]
fn what_is_refused_for_good_becomes_a_dead_letter() {
    let bad = |id| (id, 400, "mapper_parsing_exception");
    check(4, vec![Reply::Index(vec![bad("d0"), bad("d3")])], &[3, 0], 1); // The broker was away for the first letter.
}

#[test]
fn a_mixed_answer_gives_each_document_its_end() {
    let script = vec![Reply::Index(vec![
        ("d0", 400, "document_parsing_exception"),
        ("d1", 429, "circuit_breaking_exception"),
        ("d2", 403, "security_exception"),
        ("d3", 404, "index_not_found_exception"),
    ])];
    let requests = check(8, script, &[2, 3, 0], 2);
    assert_eq!(requests[1], ["d1"]);
}

#[test]
fn an_unknown_outcome_is_sent_again_and_stored_once() {
    let cases: Vec<Reply> = vec![
        Reply::StoreThen(""), // Closed without an answer.
        Reply::StoreThen("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"errors\":"), // Reset in mid-body.
        Reply::StoreThen("HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\n<html>hello there</html>\n"),
        Reply::StoreThen("HTTP/1.1 200 OK\r\ncontent-length: 27\r\n\r\n{\"errors\":false,\"items\":[]}"),
        Reply::StoreThen("no HTTP at all"),
        Reply::StoreAndHang,
        Reply::Plain(200, ""),
        Reply::Plain(200, "{\"errors\":false,\"items\":[{\"create\":{\"status\":201}}]}"), // Too few items.
    ];
    for reply in cases {
        check(3, vec![reply.clone(), reply], &[], 3);
    }
}

#[test]
fn a_busy_or_broken_node_is_asked_again() {
    for status in [429, 500, 502, 503, 504] {
        check(3, vec![Reply::Plain(status, "{}"), Reply::Plain(status, "<html>")], &[], 3);
    }
}

#[test]
fn wrong_credentials_or_address_drop_nothing() {
    for status in [301, 401, 403, 404, 405, 501] {
        check(3, vec![Reply::Plain(status, r#"{"error":"no","status":401}"#)], &[], 2);
    }
}

#[test]
fn a_request_that_is_too_large_is_halved() {
    let limit = Reply::Limit(120); // Two documents.
    let requests = check(8, vec![limit; 20], &[], 6); // The second half is not tried whole: the limit is learned.
    assert_eq!(requests.iter().map(Vec::len).collect::<Vec<_>>(), [8, 4, 2, 2, 2, 2]);
    check(1, vec![Reply::Limit(10); 4], &[0], 1); // A single document that is too large is dead.
}

#[test]
fn a_malformed_request_is_bisected_to_the_culprit() {
    let requests = check(8, vec![Reply::Poison("d5"); 20], &[5], 7);
    assert_eq!(requests.last().map(Vec::len), Some(2)); // d6 and d7.
    assert!(requests.contains(&vec!["d5".to_owned()]));
}

#[test]
fn three_batches_that_fail_for_good_are_held_and_not_poured_out() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let all: Vec<(&'static str, u16, &'static str)> =
            (0..100).map(|n| (&*format!("d{n}").leak(), 400, "strict_dynamic_mapping_exception")).collect();
        let node = Node::start(vec![Reply::Index(all); 6]).await;
        let Setup { delivery, letters, metrics, .. } = setup(&node.url, 0);
        let written = || letters.lock().expect("no test panics").len();
        for letters in [100, 200] {
            let (batch, _rx) = batch(100, &metrics);
            delivery.deliver(batch).await;
            assert_eq!(written(), letters);
        }
        let (batch, mut rx) = batch(100, &metrics);
        delivery.deliver(batch).await; // Held for four requests, until the node takes the documents.
        assert_eq!(written(), 200, "nothing more was poured out");
        assert_eq!(node.stored().len(), 100);
        assert!(matches!(rx.try_recv(), Ok(Entry::Settled(_))));
        assert_eq!(metrics.breaker_open.get(), 0);
        let (consumed, ends) = metrics.equation();
        assert_eq!((consumed, ends), (300, 300));
    });
}

/// Delivers three batches of 100 documents that all fail for good: two of them may be poured out, the third is held.
#[track_caller]
fn check_held(script: Vec<Reply>, make: impl Fn(&Metrics) -> (Batch, UnboundedReceiver<Entry>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::start(script).await;
        let Setup { delivery, letters, metrics, .. } = setup(&node.url, 0);
        for _ in 0..2 {
            let (batch, _rx) = make(&metrics);
            delivery.deliver(batch).await;
        }
        let (batch, mut rx) = make(&metrics);
        let opened = async {
            while metrics.breaker_open.get() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = delivery.deliver(batch) => panic!("it is not held"),
            opened = tokio::time::timeout(Duration::from_secs(60), opened) => opened.expect("the breaker opens"),
        }
        assert!(matches!(rx.try_recv(), Ok(Entry::Returned(_))));
        assert_eq!(letters.lock().expect("no test panics").len(), 200);
        assert_eq!((metrics.breaker_open.get(), metrics.in_flight.get()), (1, 0));
        assert!(delivery.health.problems()["elasticsearch"].contains("dead_letter.breaker"));
    });
}

#[test]
fn what_cannot_be_decoded_is_held_like_what_the_index_refuses() {
    check_held(vec![], |metrics| {
        let payloads: Vec<&[u8]> = vec![b"x"; 100];
        let (parcel, rx) = parcel(&payloads, metrics);
        let limits = BatchConfig::default();
        let mut filling = Filling::new(limits, crate::pool::Pool::new(0));
        for record in 0..100 {
            let cause = Cause { status: 0, kind: "undecodable".to_owned(), reason: "no JSON".to_owned() };
            assert!(filling.push_dead(&parcel, record, cause, service::clock::monotonic()).is_none());
        }
        (filling.take().expect("they were pushed"), rx)
    });
}

#[test]
fn a_proxy_that_takes_nothing_does_not_pour_a_topic_into_dead_letters() {
    check_held(vec![Reply::Limit(10); 5000], |metrics| batch(100, metrics));
}

#[test]
fn a_batch_given_up_settles_nothing_that_is_not_safe() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::start(vec![Reply::Plain(503, ""); 1000]).await;
        let Setup { delivery, metrics, .. } = setup(&node.url, 0);
        let (batch, mut rx) = batch(3, &metrics);
        let given_up = tokio::time::timeout(Duration::from_millis(50), delivery.deliver(batch)).await;
        assert!(given_up.is_err());
        assert!(matches!(rx.try_recv(), Ok(Entry::Returned(_))));
        let (consumed, ends) = metrics.equation();
        assert_eq!((consumed, ends, metrics.returned.get()), (3, 3, 3));
    });
}

#[test]
fn the_stage_ends_when_its_input_closes_and_all_is_delivered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::start(vec![Reply::Plain(503, ""); 3]).await;
        let Setup { delivery, metrics, .. } = setup(&node.url, 0);
        let (tx, rx) = mpsc::channel(8);
        let mut settled = Vec::new();
        for _ in 0..5 {
            let (batch, acks) = batch(2, &metrics);
            tx.send(batch).await.expect("the channel has room");
            settled.push(acks);
        }
        drop(tx);
        run(Arc::new(delivery), 2, rx).await.expect("the version is known");
        assert!(settled.iter_mut().all(|acks| matches!(acks.try_recv(), Ok(Entry::Settled(_)))));
        assert_eq!((metrics.indexed.get(), metrics.duplicate.get()), (2, 8));
    });
}

/// Random statuses, resets and short answers: whatever the order, each record ends as one document or one dead letter.
#[test]
fn whatever_the_node_does_each_record_has_one_end() {
    for seed in 0..300_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(1..20);
        let dead: Vec<usize> = (0..count).filter(|_| random.u8(..) < 40).collect();
        let fates: Vec<(&'static str, u16, &'static str)> =
            dead.iter().map(|n| (&*format!("d{n}").leak(), 400, "mapper_parsing_exception")).collect();
        let script: Vec<Reply> = (0..random.usize(0..6))
            .map(|_| match random.u8(0..7) {
                0 => Reply::Plain(503, "x"),
                1 => Reply::Plain(429, ""),
                2 => Reply::Plain(200, "<html>"),
                3 => Reply::StoreThenUnless(fates.clone()),
                4 => Reply::Plain(401, ""),
                _ => Reply::Index([fates.clone(), vec![("d0", 429, "busy")]].concat()),
            })
            .chain(std::iter::repeat_n(Reply::Index(fates.clone()), 40))
            .collect();
        check_ends(seed, count, script, &dead);
    }
}

#[track_caller]
fn check_ends(seed: u64, count: usize, script: Vec<Reply>, dead: &[usize]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::start(script).await;
        let Setup { delivery, letters, metrics, .. } = setup(&node.url, 0);
        let (batch, mut rx) = batch(count, &metrics);
        tokio::time::timeout(Duration::from_secs(20), delivery.deliver(batch)).await.expect("the delivery ends");
        assert!(matches!(rx.try_recv(), Ok(Entry::Settled(_))), "seed {seed}");
        let mut buried: Vec<usize> =
            letters.lock().expect("no test panics").iter().map(|(offset, ..)| *offset as usize).collect();
        buried.sort_unstable();
        assert_eq!(buried, dead, "seed {seed}");
        assert_eq!(node.stored().len(), count - dead.len(), "seed {seed}");
        let (consumed, ends) = metrics.equation();
        assert_eq!((consumed, ends), (count as u64, count as u64), "seed {seed}");
    });
}

mod waits;
