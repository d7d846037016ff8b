//! A gate that holds some: they stay in their files, and nobody else waits for them.

mod whole;

use event::{Gate, Group, Input, Intake, StreamId};
use service::clock::monotonic;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use whole::packing::gzip;
use whole::{Running, append, config, folder, one};

/// Inputs that are held, and what went through.
#[derive(Debug, Default)]
struct Held {
    inputs: Mutex<BTreeSet<String>>,
    events: AtomicU64,
    groups: AtomicU64,
}

impl Held {
    fn hold(&self, input: &str, is_held: bool) {
        let mut inputs = self.inputs.lock().expect("whole");
        if is_held {
            inputs.insert(input.to_owned());
        } else {
            inputs.remove(input);
        }
    }
}

impl Gate for Held {
    fn opens(&self, _: StreamId, input: &Input, _: &str) -> Option<Instant> {
        let is_held = self.inputs.lock().expect("whole").contains(&input.id);
        is_held.then(|| monotonic() + Duration::from_millis(20))
    }

    fn chunk_bytes(&self, _: &Input) -> usize {
        10_000
    }

    fn passes(&self, group: &Group) {
        self.groups.fetch_add(1, Ordering::SeqCst);
        self.events.fetch_add(group.records.len() as u64, Ordering::SeqCst);
    }
}

fn start(folder: &std::path::Path, yaml: &str, gate: &Arc<Held>) -> Running {
    let (groups, output) = mpsc::channel(1);
    let (trigger, stop) = service::stop::Stop::new();
    let metrics = agent::AgentMetrics::new(&service::metrics::Registry::default());
    let (board, health) = (agent::Board::default(), service::health::Health::new());
    let intake = Intake { groups, gate: gate.clone() };
    let agent =
        agent::start(config(folder, yaml), intake, None, metrics.clone(), board.clone(), health, stop).expect("starts");
    Running { agent, groups: output, trigger, board, metrics }
}

const TWO: &str = "[{id: slow, type: file, paths: [DIR/slow*.log], scan_interval: 20ms},
    {id: a, type: file, paths: [DIR/a.log], scan_interval: 20ms}]";

/// More than the agent's whole memory.
const LINES: usize = 20_000;

#[tokio::test]
async fn what_is_held_stays_in_its_files_and_takes_no_memory_from_others() {
    let (folder, log) = folder();
    let gate = Arc::new(Held::default());
    gate.hold("slow", true);
    let text: String = (0..LINES).map(|line| format!("a line of some length, number {line:06}\n")).collect();
    for name in ["slow1.log", "slow2.log", "a.log"] {
        append(&folder.path().join(name), &text);
    }
    let mut running = start(folder.path(), TWO, &gate);
    let lines = running.lines(LINES).await;
    assert_eq!(lines.keys().collect::<Vec<_>>(), ["a.log"], "the others are held");
    assert_eq!(lines["a.log"].len(), LINES);
    let is_held = |file: &agent::Shown| file.waits_for.iter().any(|what| what.starts_with("rate plan: "));
    running
        .until("what is held says so", |files| {
            let slow = files.iter().filter(|file| file.input == "slow").collect::<Vec<_>>();
            slow.len() == 2 && slow.iter().all(|file| is_held(file) && file.offset == 0)
        })
        .await;
    assert_eq!(running.metrics.bytes_read.get(), text.len() as u64, "nothing of it was read");
    append(&log, "and more\n");
    assert_eq!(running.lines(1).await, one("a.log", &["and more"]));

    gate.hold("slow", false);
    let lines = running.lines(2 * LINES).await;
    assert_eq!(lines.values().map(Vec::len).collect::<Vec<_>>(), [LINES, LINES], "all of it, as soon as there is room");
    running.until("nothing is held", |files| !files.iter().any(is_held)).await;
    assert_eq!(gate.events.load(Ordering::SeqCst), 3 * LINES as u64 + 1, "all that was sent is paid for, once");
    let (groups, all) = (gate.groups.load(Ordering::SeqCst), 3 * text.len() as u64);
    assert!(
        (all / 10_000..=all / 9_000).contains(&groups),
        "no more is read at once than the gate says: {groups} groups"
    );
    running.stop().await;
}

#[tokio::test]
async fn what_is_held_when_the_agent_stops_is_read_by_the_next() {
    let (folder, log) = folder();
    let gate = Arc::new(Held::default());
    gate.hold("a", true);
    append(&log, "one\n");
    let running = start(folder.path(), TWO, &gate);
    running.until("it is held", |files| files.iter().any(|file| !file.waits_for.is_empty())).await;
    assert!(running.stop().await.is_empty());
    gate.hold("a", false);
    let mut running = start(folder.path(), TWO, &gate);
    assert_eq!(running.lines(1).await, one("a.log", &["one"]));
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_read_out_at_the_stop_is_still_held_by_its_plan() {
    let (folder, log) = folder();
    let gate = Arc::new(Held::default());
    gate.hold("a", true);
    append(&log, "one\ntwo\n");
    let yaml = "[{id: a, type: file, paths: [DIR/a.log], scan_interval: 20ms, read_until_eof: true}]";
    let running = start(folder.path(), yaml, &gate);
    running.until("it is held", |files| files.iter().any(|file| !file.waits_for.is_empty())).await;
    let opens = {
        let gate = gate.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await; // The plan has room again.
            gate.hold("a", false);
        })
    };
    assert_eq!(running.stop().await, one("a.log", &["one", "two"]));
    opens.await.expect("ends");
}

#[tokio::test]
async fn messages_of_a_sender_wait_in_memory_while_they_are_held_and_go_at_the_stop() {
    let (folder, _) = folder();
    let gate = Arc::new(Held::default());
    gate.hold("net", true);
    let socket = folder.path().join("log.sock");
    let yaml = "[{id: net, type: syslog, protocol: unix_dgram, listen: DIR/log.sock, format: raw}]";
    let mut running = start(folder.path(), yaml, &gate);
    let sender = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    sender.send_to(b"one", &socket).expect("sent");
    running
        .met("it is held", || {
            running
                .board
                .inputs()
                .iter()
                .any(|input| input.waits_for.iter().any(|what| what.starts_with("rate plan: ")))
        })
        .await;
    gate.hold("net", false);
    let group = running.group().await;
    assert_eq!(group.bytes_of(&group.records[0]), b"one");
    group.ack.settle();

    gate.hold("net", true);
    sender.send_to(b"two", &socket).expect("sent");
    running.met("it is held", || running.board.inputs().iter().any(|input| !input.waits_for.is_empty())).await;
    running.trigger.stop();
    let group = running.group().await;
    assert_eq!(group.bytes_of(&group.records[0]), b"two", "what was taken from a sender is not left behind");
    group.ack.settle();
    drop(running.groups);
    tokio::task::spawn_blocking(|| running.agent.join()).await.expect("ends");
}

/// The original is gone while its plan holds: its copy is known for one all the same, and nothing of it is shipped again.
#[tokio::test]
async fn a_packed_copy_is_compared_though_its_plan_holds() {
    let (folder, log) = folder();
    let gate = Arc::new(Held::default());
    let text = "one\ntwo\nthree\n";
    append(&log, text);
    let yaml = "[{id: a, type: file, paths: ['DIR/a*'], scan_interval: 20ms}]";
    let mut running = start(folder.path(), yaml, &gate);
    assert_eq!(running.lines(3).await, one("a.log", &["one", "two", "three"]));
    gate.hold("a", true);
    std::fs::write(folder.path().join("a.log.1.gz"), gzip(text.as_bytes())).expect("written");
    running.until("it waits", |files| files.len() == 2 && format!("{files:?}").contains("still there")).await;
    std::fs::remove_file(&log).expect("removed");
    append(&folder.path().join("a.log.next"), "the next\n");
    let next = |file: &agent::Shown| file.path.ends_with("a.log.next") && !file.waits_for.is_empty();
    running.until("that is held", |files| files.iter().any(next)).await;
    gate.hold("a", false);
    assert_eq!(running.lines(1).await, one("a.log.next", &["the next"]));
    running.until("it is read on in its copy", |files| files.len() == 2).await;
    let read = running.metrics.read.clone();
    assert!(running.stop().await.is_empty() && read.get() == 4, "nothing came twice");
}
