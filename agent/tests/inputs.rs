//! Inputs that are no files, by a whole agent whose output is this test: over loopback sockets on free ports, a journal that
//! a script plays, and this test's own binary with a pipe for its standard input.

use agent::{Agent, AgentConfig, AgentMetrics, Board, CheckedInput, Ended, InputConfig, inputs};
use event::{Group, document_id};
use serde_json::Value;
use service::health::Health;
use service::metrics::Registry;
use service::stop::{Stop, Trigger};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest wait for what should come at once.
const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    agent: Agent,
    groups: mpsc::Receiver<Group>,
    trigger: Trigger,
    board: Board,
    metrics: AgentMetrics,
}

/// A record as it arrived.
#[derive(Debug, Clone, PartialEq)]
struct Got {
    text: String,
    id: String,
    fields: Value,
    timestamp_ms: Option<i64>,
    truncated: bool,
    reread: bool,
}

fn got(group: &Group) -> Vec<Got> {
    let each = group.records.iter().map(|record| {
        let text = group.bytes_of(record);
        let fields = record.extra.as_ref().map(|extra| serde_json::from_str(&extra.fields).expect("is JSON"));
        Got {
            text: String::from_utf8_lossy(text).into_owned(),
            id: String::from_utf8_lossy(&document_id(group.source.incarnation, record.offset, text)).into_owned(),
            fields: fields.unwrap_or_default(),
            timestamp_ms: record.extra.as_ref().and_then(|extra| extra.timestamp_ms),
            truncated: record.truncated,
            reread: group.reread,
        }
    });
    each.collect()
}

fn texts(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.text.as_str()).collect()
}

/// Inputs from YAML, in which `DIR` is `folder`.
fn checked(folder: &Path, yaml: &str) -> Vec<CheckedInput> {
    let yaml = yaml.replace("DIR", &folder.display().to_string());
    let configs: Vec<InputConfig> = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
    inputs(&configs).expect("valid")
}

fn start(folder: &Path, yaml: &str) -> Running {
    start_with(folder, yaml, 1 << 20)
}

fn start_with(folder: &Path, yaml: &str, memory: usize) -> Running {
    let (state_dir, inputs) = (folder.join("state"), checked(folder, yaml));
    let config =
        AgentConfig { name: "web-01".into(), state_dir, memory, inputs, drain_timeout: Duration::from_secs(2) };
    let (output, groups) = mpsc::channel(1);
    let (trigger, stop) = Stop::new();
    let (metrics, board) = (AgentMetrics::new(&Registry::default()), Board::default());
    let agent = agent::start(config, output, metrics.clone(), board.clone(), Health::new(), stop).expect("starts");
    Running { agent, groups, trigger, board, metrics }
}

impl Running {
    /// Where an input listens, once it does.
    async fn listens(&self, input: &str) -> String {
        for _ in 0..1_000 {
            let found =
                self.board.inputs().into_iter().find(|shown| shown.input == input).and_then(|shown| shown.listen);
            if let Some(address) = found {
                return address;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{input} does not listen: {:?}", self.board.inputs());
    }

    async fn group(&mut self) -> Option<Group> {
        tokio::time::timeout(PATIENCE, self.groups.recv()).await.ok().flatten()
    }

    /// The next `count` records, acknowledged as they come; fewer if no more come.
    async fn records(&mut self, count: usize) -> Vec<Got> {
        let mut records = Vec::new();
        while records.len() < count {
            let Some(group) = self.group().await else { break };
            records.extend(got(&group));
            group.ack.settle();
        }
        records
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let looks = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, looks).await.is_ok(), "{what}: {:#?}", self.board.inputs());
    }

    /// Stops it, acknowledging what still comes; returns that, and whether all was delivered. The equations must hold.
    async fn stop(mut self) -> (Vec<Got>, Ended) {
        self.trigger.stop();
        let rest = self.records(usize::MAX).await;
        drop(self.groups);
        let agent = self.agent;
        let left = tokio::task::spawn_blocking(|| agent.join()).await.expect("ends");
        balance(&self.metrics);
        assert!(!left.by_itself);
        (rest, left.ended)
    }
}

/// The equations, in records and in bytes.
fn balance(metrics: &AgentMetrics) {
    let of = |counters: &prometheus::IntCounterVec, label: &str| counters.with_label_values(&[label]).get();
    assert_eq!(
        metrics.read.get(),
        of(&metrics.acknowledged, "main") + of(&metrics.filtered, "empty") + metrics.returned.get(),
        "records"
    );
    let bytes_left = metrics.bytes_acknowledged.get() + metrics.bytes_returned.get();
    let bytes_passed = of(&metrics.bytes_filtered, "empty") + of(&metrics.bytes_skipped, "truncated");
    assert_eq!(metrics.bytes_read.get(), bytes_left + bytes_passed, "bytes");
    assert_eq!((metrics.in_flight.get(), metrics.bytes_in_flight.get()), (0, 0), "nothing is in flight");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

const UDP: &str = "[{id: net, type: syslog, protocol: udp, listen: '127.0.0.1:0'}]";
const TCP: &str = "[{id: net, type: syslog, protocol: tcp, listen: '127.0.0.1:0'}]";

#[tokio::test]
async fn datagrams_are_messages_with_their_fields() {
    let folder = folder();
    let mut running = start(folder.path(), UDP);
    let address = running.listens("net").await;
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for message in ["<34>1 2026-11-22T10:00:00.5Z web-02 su 77 ID47 - denied\n", "no syslog", "\n"] {
        sender.send_to(message.as_bytes(), &address).expect("sent");
    }
    let records = running.records(2).await;
    assert_eq!(texts(&records), ["denied", "no syslog"]);
    let syslog = &records[0].fields["log"]["syslog"];
    assert_eq!((&syslog["hostname"], &syslog["severity"]["name"]), (&"web-02".into(), &"Critical".into()));
    assert_eq!(records[0].timestamp_ms, Some(1_795_341_600_500));
    let address = sender.local_addr().expect("bound").to_string();
    assert_eq!(records[0].fields["log"]["source"]["address"], address);
    assert_eq!(records[1].fields["error"]["message"], "syslog: it does not begin with a priority");
    let metrics = running.metrics.clone();
    running.until("the empty one is counted", || metrics.filtered.with_label_values(&["empty"]).get() == 1).await;
    assert_eq!(metrics.unparsed_messages.with_label_values(&["syslog"]).get(), 1);
    assert_eq!(running.stop().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn datagrams_that_find_no_memory_are_lost_and_counted() {
    let folder = folder();
    let running = start_with(folder.path(), UDP, 64 * 1024);
    let address = running.listens("net").await;
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let message = format!("<13>{}", "x".repeat(1_000));
    let lost = running.metrics.lost_events.with_label_values(&["udp_no_memory"]);
    for _ in 0..5_000 {
        sender.send_to(message.as_bytes(), &address).expect("sent");
        if lost.get() >= 10 {
            break;
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    assert!(lost.get() >= 10, "memory was not used up: {:?}", running.board.inputs());
    assert!(running.metrics.lost_bytes.with_label_values(&["udp_no_memory"]).get() >= 10 * 1_004);
    let (rest, ended) = running.stop().await;
    assert_eq!((rest.is_empty(), ended), (false, Ended::Delivered), "what was taken is kept");
}

#[tokio::test]
async fn messages_over_a_connection_come_whole_however_they_are_written() {
    let folder = folder();
    let mut running = start(folder.path(), TCP);
    let address = running.listens("net").await;
    let expected = ["first", "sec\nond", "third", "a\0b", "last"];
    let wire = "<13>first\n11 <13>sec\nond<13>third\r\n<13>a\0b\n<13>last"; // The last one ends with the connection.
    for step in [1, 3, 100] {
        let mut sender = TcpStream::connect(&address).expect("connects");
        sender.set_nodelay(true).expect("is set");
        for piece in wire.as_bytes().chunks(step) {
            sender.write_all(piece).expect("written");
        }
        drop(sender);
        assert_eq!(texts(&running.records(expected.len()).await), expected, "in steps of {step}");
    }
    let metrics = running.metrics.clone();
    running.until("closed", || metrics.connections.get() == 0).await;
    assert_eq!(running.stop().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn a_message_that_is_too_long_is_cut_and_counted() {
    let folder = folder();
    let yaml = "[{id: net, type: syslog, protocol: tcp, listen: '127.0.0.1:0', max_message_size: 1KiB, format: raw}]";
    let mut running = start(folder.path(), yaml);
    let address = running.listens("net").await;
    let mut sender = TcpStream::connect(&address).expect("connects");
    sender.write_all(format!("before\n{}\nafter\n", "z".repeat(64 * 1024)).as_bytes()).expect("written");
    let records = running.records(3).await;
    assert_eq!(texts(&records), ["before", &"z".repeat(1024), "after"]);
    assert_eq!(records.iter().map(|got| got.truncated).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(running.metrics.bytes_skipped.with_label_values(&["truncated"]).get(), 63 * 1024);
    running.stop().await;
}

#[tokio::test]
async fn what_is_given_back_is_sent_again_in_order_under_the_same_ids() {
    let folder = folder();
    let mut running = start(folder.path(), TCP);
    let mut sender = TcpStream::connect(running.listens("net").await).expect("connects");
    sender.write_all(b"<13>one\n<13>two\n").expect("written");
    let first = running.group().await.expect("a group");
    sender.write_all(b"<13>three\n").expect("written");
    let second = running.group().await.expect("a group");
    let mut sent = got(&first);
    sent.extend(got(&second));
    assert_eq!(texts(&sent), ["one", "two", "three"]);
    let source = first.source.clone();
    second.ack.settle(); // Behind a gap.
    drop(first.ack);
    let again = running.records(3).await;
    assert!(!source.is_current(0), "what of it is still under way must not overtake");
    assert_eq!(texts(&again), texts(&sent));
    assert_eq!(again.iter().map(|got| &got.id).collect::<Vec<_>>(), sent.iter().map(|got| &got.id).collect::<Vec<_>>());
    assert!(again.iter().all(|got| got.reread) && !sent[0].reread);
    assert_eq!(running.metrics.rewinds.get(), 1);
    assert_eq!(running.stop().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn a_sender_waits_while_memory_is_used_up_and_loses_nothing() {
    let folder = folder();
    let mut running = start_with(folder.path(), TCP, 64 * 1024);
    let address = running.listens("net").await;
    let line = format!("<13>{}\n", "y".repeat(1_000));
    let count = 20_000;
    let sender = tokio::task::spawn_blocking(move || {
        let mut sender = TcpStream::connect(address).expect("connects");
        (0..count).for_each(|_| sender.write_all(line.as_bytes()).expect("written"));
    });
    let first = running.group().await.expect("a group");
    let board = running.board.clone();
    running.until("memory is used up", || !board.inputs()[0].waits_for.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let read = running.board.inputs()[0].read_bytes;
    assert!(read <= 64 * 1024, "{read} bytes in flight");
    assert!(!sender.is_finished(), "the sender waits");
    let rest = count - first.records.len();
    first.ack.settle();
    assert_eq!(running.records(rest).await.len(), rest);
    sender.await.expect("ends");
    assert_eq!(running.stop().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn a_slow_sender_is_waited_for_and_an_idle_one_is_closed() {
    let folder = folder();
    let yaml = "[{id: net, type: syslog, protocol: tcp, listen: '127.0.0.1:0', idle_timeout: 1s, max_connections: 1}]";
    let mut running = start(folder.path(), yaml);
    let address = running.listens("net").await;
    let mut slow = TcpStream::connect(&address).expect("connects");
    let mut next = TcpStream::connect(&address).expect("waits in the backlog");
    next.write_all(b"<13>next\n").expect("written");
    for byte in b"<13>slow" {
        slow.write_all(&[*byte]).expect("written");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(texts(&running.records(2).await), ["slow", "next"], "unfinished when it was closed, then the next one");
    slow.set_read_timeout(Some(PATIENCE)).expect("is set");
    assert_eq!(slow.read(&mut [0]).expect("closed"), 0);
    running.stop().await;
}

#[tokio::test]
async fn sockets_of_this_host_have_their_mode_and_go_with_the_agent() {
    let folder = folder();
    let (dgram, stream) = (folder.path().join("log"), folder.path().join("stream"));
    drop(UnixDatagram::bind(&dgram).expect("left behind by an earlier life"));
    let yaml = "[{id: d, type: syslog, protocol: unix_dgram, listen: DIR/log}, \
        {id: s, type: syslog, protocol: unix_stream, listen: DIR/stream, mode: '0600'}]";
    let mut running = start(folder.path(), yaml);
    let mode = |path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!((mode(&dgram), mode(&stream)), (0o660, 0o600));
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.send_to(b"<30>Nov 22 10:00:00 my.app[7]: up", &dgram).expect("sent");
    let records = running.records(1).await;
    assert_eq!((&*records[0].text, &records[0].fields["process"]["name"]), ("up", &"my.app".into()));
    assert_eq!(records[0].fields.get("host"), None);
    UnixStream::connect(&stream).expect("connects").write_all(b"<30>app: over a stream").expect("written");
    assert_eq!(texts(&running.records(1).await), ["over a stream"]);
    running.stop().await;
    assert!(!dgram.exists() && !stream.exists());
}

#[tokio::test]
async fn a_stop_reads_what_has_arrived_and_says_what_is_lost() {
    let folder = folder();
    let mut running = start(folder.path(), TCP);
    let mut sender = TcpStream::connect(running.listens("net").await).expect("connects");
    sender.write_all(b"<13>one\n").expect("written");
    assert_eq!(texts(&running.records(1).await), ["one"]);
    sender.write_all(b"<13>two\n<13>thr").expect("written");
    running.trigger.stop();
    let mut held = Vec::new();
    while let Some(group) = running.group().await {
        held.push(group);
    }
    let arrived: Vec<_> = held.iter().flat_map(got).collect();
    assert_eq!(texts(&arrived), ["two", "thr"], "the unfinished one too");
    drop(held); // The output could not deliver them, and it is too late to send them again.
    drop(running.groups);
    let agent = running.agent;
    let left = tokio::task::spawn_blocking(|| agent.join()).await.expect("ends");
    assert_eq!(left.ended, Ended::Undelivered);
    assert_eq!(running.metrics.lost_events.with_label_values(&["undelivered"]).get(), 2);
    balance(&running.metrics);
}

#[tokio::test]
async fn inputs_are_added_changed_and_removed_while_others_go_on() {
    let folder = folder();
    let other = "{id: other, type: syslog, protocol: udp, listen: '127.0.0.1:0'}";
    let mut running = start(folder.path(), TCP);
    let address = running.listens("net").await;
    let mut sender = TcpStream::connect(&address).expect("connects");
    sender.write_all(b"<13>one\n").expect("written");
    assert_eq!(texts(&running.records(1).await), ["one"]);

    let both = TCP.replace("id: net,", "id: net, tags: [new],").replacen("}]", &format!("}}, {other}]"), 1);
    running.agent.reloader().reload(checked(folder.path(), &both));
    let other_address = running.listens("other").await;
    assert_eq!(running.listens("net").await, address, "it goes on");
    sender.write_all(b"<13>two\n").expect("written");
    let group = running.group().await.expect("over the same connection");
    assert_eq!((texts(&got(&group)), group.source.input().tags.clone()), (vec!["two"], vec!["new".to_owned()]));
    group.ack.settle();

    let raw = TCP.replace("127.0.0.1:0", &address).replace("id: net,", "id: net, format: raw,");
    running.agent.reloader().reload(checked(folder.path(), &raw.replacen("}]", &format!("}}, {other}]"), 1)));
    assert_eq!(sender.read(&mut [0]).expect("closed"), 0, "begun anew");
    running
        .until("at the same address", || {
            running.board.inputs().iter().any(|shown| shown.listen.as_ref() == Some(&address) && shown.read_events == 0)
        })
        .await;
    TcpStream::connect(&address).expect("connects").write_all(b"<13>as it is\n").expect("written");
    assert_eq!(texts(&running.records(1).await), ["<13>as it is"]);

    running.agent.reloader().reload(checked(folder.path(), &format!("[{other}]")));
    let board = running.board.clone();
    running.until("removed", || board.inputs().iter().all(|shown| shown.input == "other")).await;
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");
    let datagram = UdpSocket::bind("127.0.0.1:0").expect("a port");
    datagram.send_to(b"<13>three", other_address).expect("sent");
    assert_eq!(texts(&running.records(1).await), ["three"]);
    assert_eq!(running.stop().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn an_address_that_is_taken_stops_the_start_and_names_the_input() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let yaml = TCP.replace("127.0.0.1:0", &taken.local_addr().expect("bound").to_string());
    let config = AgentConfig {
        name: "web-01".into(),
        state_dir: folder.path().join("state"),
        memory: 1,
        inputs: checked(folder.path(), &yaml),
        drain_timeout: PATIENCE,
    };
    let (metrics, stop) = (AgentMetrics::new(&Registry::default()), Stop::new().1);
    let error =
        agent::start(config, mpsc::channel(1).0, metrics, Board::default(), Health::new(), stop).expect_err("taken");
    assert!(format!("{error:#}").starts_with("input \"net\": listen: tcp 127.0.0.1:"), "{error:#}");
}

/// A journal in a folder, and a script that plays `journalctl` on it: entry `n` is the file `n`, its cursor `c=n`. It ends
/// without a word behind each entry for which there is a file `dies-n`, once.
struct Journal {
    folder: tempfile::TempDir,
}

const SCRIPT: &str = r#"#!/bin/sh
n=0
echo "$@" >> DIR/calls
for arg in "$@"; do case "$arg" in --after-cursor=c=*) n="${arg#--after-cursor=c=}";; esac; done
while :; do
  n=$((n + 1))
  while [ ! -f DIR/$n ]; do sleep 0.02; done
  if [ -f DIR/dies-$n ]; then rm DIR/dies-$n; head -c 20 DIR/$n; exit 1; fi
  cat DIR/$n
done
"#;

impl Journal {
    fn new() -> Self {
        let folder = folder();
        let script = folder.path().join("journalctl");
        fs::write(&script, SCRIPT.replace("DIR", &folder.path().display().to_string())).expect("written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).expect("is set");
        Self { folder }
    }

    fn add(&self, n: usize, fields: &[u8]) {
        let head = format!("__CURSOR=c={n}\n__REALTIME_TIMESTAMP=17953416000{n:05}\n_SYSTEMD_UNIT=a.service\n");
        let path = self.folder.path().join(n.to_string());
        fs::write(path.with_extension("new"), [head.as_bytes(), fields, b"\n"].concat()).expect("written");
        fs::rename(path.with_extension("new"), path).expect("renamed");
    }

    fn yaml(&self) -> String {
        "[{id: j, type: journald, journalctl: DIR/journalctl, units: [a.service]}]".into()
    }

    fn start(&self) -> Running {
        start(self.folder.path(), &self.yaml())
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn the_journal_is_read_on_behind_the_last_acknowledged_entry() {
    let journal = Journal::new();
    (1..=3).for_each(|n| journal.add(n, format!("MESSAGE=entry {n}\n").as_bytes()));
    let mut running = journal.start();
    let first = running.records(2).await;
    assert_eq!(texts(&first)[..2], ["entry 1", "entry 2"]);
    assert_eq!(first[0].fields["systemd"]["unit"], "a.service");
    assert_eq!(first[0].timestamp_ms, Some(1_795_341_600_000));
    let mut all = first;
    if all.len() < 3 {
        all.extend(running.records(3 - all.len()).await);
    }
    journal.add(4, b"MESSAGE=entry 4\n");
    let fourth = running.group().await.expect("a group");
    let lost = got(&fourth);
    running.trigger.stop();
    assert!(running.group().await.is_none(), "the later stages drain");
    drop(fourth); // Not delivered: it is read again after the next start.
    assert_eq!(running.stop().await, (vec![], Ended::Delivered), "a journal can be read again");

    journal.add(5, b"MESSAGE=entry 5\n");
    let mut running = journal.start();
    let mut again = running.records(2).await;
    assert_eq!(texts(&again), ["entry 4", "entry 5"]);
    assert!(again[0].reread);
    again[0].reread = false;
    assert_eq!(again[0], lost[0], "under the same id");
    running.stop().await;
    let calls = journal.calls();
    assert_eq!(calls[0], "--output=export --follow --no-tail --no-pager --unit=a.service");
    assert_eq!(calls[1], "--output=export --follow --no-tail --no-pager --after-cursor=c=3 --unit=a.service");
    assert_eq!(calls.len(), 2);
}

#[tokio::test]
async fn a_journalctl_that_ends_is_started_again_behind_what_was_read() {
    let journal = Journal::new();
    for n in 1..=40 {
        journal.add(n, format!("MESSAGE=entry {n}\n").as_bytes());
        if n % 10 == 0 {
            fs::write(journal.folder.path().join(format!("dies-{n}")), "").expect("written");
        }
    }
    let mut running = journal.start();
    let records = running.records(40).await;
    assert_eq!(texts(&records), (1..=40).map(|n| format!("entry {n}")).collect::<Vec<_>>());
    assert_eq!(records.iter().map(|got| &got.id).collect::<BTreeSet<_>>().len(), 40);
    assert_eq!(running.metrics.journal_starts.with_label_values(&["ok"]).get(), 5);
    assert_eq!(running.stop().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn entries_with_binary_huge_and_missing_fields_are_shipped() {
    let journal = Journal::new();
    let binary =
        |name: &str, value: &[u8]| [name.as_bytes(), b"\n", &(value.len() as u64).to_le_bytes(), value, b"\n"].concat();
    journal.add(1, &binary("MESSAGE", b"two\nlines \xff"));
    journal.add(2, b"PRIORITY=3\nSHOP_ID=7\n");
    journal.add(3, &[binary("COREDUMP", &vec![0; 2_000_000]), b"MESSAGE=dumped\n".to_vec()].concat());
    journal.add(4, format!("MESSAGE={}\n", "m".repeat(600_000)).as_bytes());
    let mut running = journal.start();
    let records = running.records(4).await;
    assert_eq!(texts(&records)[..3], ["two\nlines \u{fffd}", "", "dumped"]);
    assert_eq!(
        (&records[1].fields["syslog"]["priority"], &records[1].fields["journald"]["custom"]["shop_id"]),
        (&3.into(), &"7".into())
    );
    assert_eq!(records[2].fields["journald"]["custom"]["coredump"].as_str().map(str::len), Some(32 * 1024));
    assert_eq!((records[3].text.len(), records[3].truncated), (512 * 1024, true));
    assert_eq!(running.stop().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn a_journalctl_that_cannot_be_started_is_said_and_tried_again() {
    let folder = folder();
    let yaml = "[{id: j, type: journald, journalctl: DIR/journalctl, start: end}]";
    let running = start(folder.path(), yaml);
    let board = running.board.clone();
    running
        .until("said", || board.inputs().iter().any(|shown| shown.waits_for.concat().contains("cannot be started")))
        .await;
    running.stop().await;
}

/// What the test binary does as a child: an agent on its standard input. It prints what it read, and how it ended.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os("TAILRACE_STDIN_CHILD") else { return };
    let mut running = start(Path::new(&folder), "[{id: in, type: stdin, fields: {a: 1}}]");
    let delivers = std::env::var_os("TAILRACE_STDIN_DELIVERS").is_some();
    let (mut held, mut is_first) = (Vec::new(), true);
    while let Some(group) = running.groups.recv().await {
        got(&group).iter().for_each(|got| println!("\nline: {}", got.text));
        match delivers {
            true if std::mem::take(&mut is_first) => drop(group), // Given back once: it must come again.
            true => group.ack.settle(),
            false => held.push(group),
        }
        if !delivers {
            break;
        }
    }
    let left = tokio::task::spawn_blocking(|| running.agent.join()).await.expect("ends");
    drop((held, running.groups));
    let ended = left.ended;
    assert!(left.by_itself);
    println!("\nended: {ended:?}");
    if ended == Ended::Delivered {
        balance(&running.metrics);
    }
}

/// What the child printed.
fn run_child(delivers: bool, input: &[u8]) -> (Vec<String>, String) {
    let folder = folder();
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    command.args(["--exact", "child", "--nocapture"]).env("TAILRACE_STDIN_CHILD", folder.path());
    if delivers {
        command.env("TAILRACE_STDIN_DELIVERS", "1");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the test binary starts");
    child.stdin.take().expect("piped").write_all(input).expect("written"); // And closed.
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (mut lines, mut ended) = (Vec::new(), String::new());
    for said in output.lines().map_while(Result::ok) {
        lines.extend(said.strip_prefix("line: ").map(str::to_owned));
        ended = said.strip_prefix("ended: ").map_or(ended, str::to_owned);
    }
    assert!(child.wait().expect("a child").success());
    (lines, ended)
}

#[test]
fn standard_input_is_read_to_its_end_and_then_the_agent_ends() {
    let (lines, ended) = run_child(true, b"one\n\ntwo\r\nlast without a newline");
    let whole = ["one", "two", "last without a newline"];
    assert!(lines.ends_with(&whole.map(str::to_owned)), "what was given back comes again: {lines:?}");
    assert_eq!(ended, "Delivered");
    assert_eq!(run_child(true, b""), (vec![], "Delivered".into()), "nothing came");
}

#[test]
fn an_agent_whose_output_takes_nothing_ends_at_the_end_of_standard_input_and_says_so() {
    let (lines, ended) = run_child(false, b"one\n");
    assert_eq!((lines, ended.as_str()), (vec!["one".to_owned()], "Undelivered"));
}
