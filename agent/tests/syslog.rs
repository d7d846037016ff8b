//! Messages over sockets, by a whole agent whose output is this test: on loopback, on free ports.

mod whole;

use agent::{AgentConfig, AgentMetrics, Board, Ended};
use service::health::Health;
use service::metrics::Registry;
use service::stop::Stop;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use whole::streams::{balance, got, start, start_with, texts};
use whole::{PATIENCE, checked, folder};

const UDP: &str = "[{id: net, type: syslog, protocol: udp, listen: '127.0.0.1:0'}]";
const TCP: &str = "[{id: net, type: syslog, protocol: tcp, listen: '127.0.0.1:0'}]";

#[tokio::test]
async fn datagrams_are_messages_with_their_fields() {
    let (folder, _) = folder();
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
    running.met("the empty one is counted", || metrics.filtered.with_label_values(&["empty"]).get() == 1).await;
    assert_eq!(metrics.messages_unparsed.with_label_values(&["syslog"]).get(), 1);
    assert_eq!(running.end().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn datagrams_that_find_no_memory_are_lost_and_counted() {
    let (folder, _) = folder();
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
    let (rest, ended) = running.end().await;
    assert_eq!((rest.is_empty(), ended), (false, Ended::Delivered), "what was taken is kept");
}

#[tokio::test]
async fn messages_over_a_connection_come_whole_however_they_are_written() {
    let (folder, _) = folder();
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
    running.met("closed", || metrics.connections.get() == 0).await;
    assert_eq!(running.end().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn a_message_that_is_too_long_is_cut_and_counted() {
    let (folder, _) = folder();
    let yaml = "[{id: net, type: syslog, protocol: tcp, listen: '127.0.0.1:0', max_message_size: 1KiB, format: raw}]";
    let mut running = start(folder.path(), yaml);
    let address = running.listens("net").await;
    let mut sender = TcpStream::connect(&address).expect("connects");
    sender.write_all(format!("before\n{}\nafter\n", "z".repeat(64 * 1024)).as_bytes()).expect("written");
    let records = running.records(3).await;
    assert_eq!(texts(&records), ["before", &"z".repeat(1024), "after"]);
    assert_eq!(records.iter().map(|got| got.truncated).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(running.metrics.bytes_skipped.with_label_values(&["truncated"]).get(), 63 * 1024);
    running.end().await;
}

#[tokio::test]
async fn what_is_given_back_is_sent_again_in_order_under_the_same_ids() {
    let (folder, _) = folder();
    let mut running = start(folder.path(), TCP);
    let mut sender = TcpStream::connect(running.listens("net").await).expect("connects");
    sender.write_all(b"<13>one\n<13>two\n").expect("written");
    let first = running.group().await;
    sender.write_all(b"<13>three\n").expect("written");
    let second = running.group().await;
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
    assert_eq!(running.end().await, (vec![], Ended::Delivered));
}

/// Writes all of it, and notes when nothing of it was taken for a while.
fn send_slowly(mut sender: TcpStream, mut left: &[u8], is_held_up: &AtomicBool) {
    sender.set_write_timeout(Some(Duration::from_millis(100))).expect("is set");
    while !left.is_empty() {
        match sender.write(left) {
            Ok(written) => left = &left[written..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                is_held_up.store(true, Ordering::Relaxed);
            }
            Err(error) => panic!("the connection is gone: {error}"),
        }
    }
}

#[tokio::test]
async fn a_sender_waits_while_memory_is_used_up_and_loses_nothing() {
    let (folder, _) = folder();
    let mut running = start_with(folder.path(), TCP, 64 * 1024);
    let address = running.listens("net").await;
    let line = format!("<13>{}\n", "y".repeat(1_000));
    let count = 20_000;
    let (all, is_held_up) = (line.repeat(count).into_bytes(), Arc::new(AtomicBool::new(false)));
    let sender = {
        let (sender, is_held_up) = (TcpStream::connect(address).expect("connects"), is_held_up.clone());
        tokio::task::spawn_blocking(move || send_slowly(sender, &all, &is_held_up))
    };
    let first = running.group().await;
    let board = running.board.clone();
    running.met("memory is used up", || !board.inputs()[0].waits_for.is_empty()).await;
    running.met("the sender waits", || is_held_up.load(Ordering::Relaxed)).await;
    let read = running.board.inputs()[0].read_bytes;
    assert!(read <= 64 * 1024, "{read} bytes in flight");
    let rest = count - first.records.len();
    first.ack.settle();
    assert_eq!(running.records(rest).await.len(), rest);
    sender.await.expect("ends");
    assert_eq!(running.end().await, (vec![], Ended::Delivered));
}

/// True if the other end of a connection, which is in this process, has read all that was sent.
fn is_taken(sender: &TcpStream) -> bool {
    let port = |address: std::io::Result<std::net::SocketAddr>| format!(":{:04X}", address.expect("connected").port());
    let ends = (port(sender.peer_addr()), port(sender.local_addr()));
    let table = fs::read_to_string("/proc/self/net/tcp").expect("the kernel's table of connections");
    // Number, this end, the other end, state, bytes to send : bytes to read.
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let mut queues = rows.filter(|row| row[1].ends_with(&ends.0) && row[2].ends_with(&ends.1)).map(|row| row[4]);
    queues.next().expect("the other end").ends_with(":00000000")
}

#[tokio::test]
async fn a_slow_sender_is_waited_for_and_an_idle_one_is_closed() {
    let (folder, _) = folder();
    let yaml = "[{id: net, type: syslog, protocol: tcp, listen: '127.0.0.1:0', idle_timeout: 1s, max_connections: 1}]";
    let mut running = start(folder.path(), yaml);
    let address = running.listens("net").await;
    let mut slow = TcpStream::connect(&address).expect("connects");
    let mut next = TcpStream::connect(&address).expect("waits in the backlog");
    next.write_all(b"<13>next\n").expect("written");
    for byte in b"<13>slow" {
        slow.write_all(&[*byte]).expect("written");
        running.met("it is read alone", || is_taken(&slow)).await;
    }
    assert_eq!(texts(&running.records(2).await), ["slow", "next"], "unfinished when it was closed, then the next one");
    slow.set_read_timeout(Some(PATIENCE)).expect("is set");
    assert_eq!(slow.read(&mut [0]).expect("closed"), 0);
    running.end().await;
}

#[tokio::test]
async fn sockets_of_this_host_have_their_mode_and_go_with_the_agent() {
    let (folder, _) = folder();
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
    running.end().await;
    assert!(!dgram.exists() && !stream.exists());
}

#[tokio::test]
async fn a_stop_reads_what_has_arrived_and_says_what_is_lost() {
    let (folder, _) = folder();
    let mut running = start(folder.path(), TCP);
    let mut sender = TcpStream::connect(running.listens("net").await).expect("connects");
    sender.write_all(b"<13>one\n").expect("written");
    assert_eq!(texts(&running.records(1).await), ["one"]);
    sender.write_all(b"<13>two\n<13>thr").expect("written");
    running.trigger.stop();
    let mut held = Vec::new();
    while let Some(group) = running.groups.recv().await {
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
    let (folder, _) = folder();
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
    let group = running.group().await;
    assert_eq!((texts(&got(&group)), group.source.input().tags.clone()), (vec!["two"], vec!["new".to_owned()]));
    group.ack.settle();

    let raw = TCP.replace("127.0.0.1:0", &address).replace("id: net,", "id: net, format: raw,");
    running.agent.reloader().reload(checked(folder.path(), &raw.replacen("}]", &format!("}}, {other}]"), 1)));
    assert_eq!(sender.read(&mut [0]).expect("closed"), 0, "begun anew");
    running
        .met("at the same address", || {
            running.board.inputs().iter().any(|shown| shown.listen.as_ref() == Some(&address) && shown.read_events == 0)
        })
        .await;
    TcpStream::connect(&address).expect("connects").write_all(b"<13>as it is\n").expect("written");
    assert_eq!(texts(&running.records(1).await), ["<13>as it is"]);

    running.agent.reloader().reload(checked(folder.path(), &format!("[{other}]")));
    let board = running.board.clone();
    running.met("removed", || board.inputs().iter().all(|shown| shown.input == "other")).await;
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");
    let datagram = UdpSocket::bind("127.0.0.1:0").expect("a port");
    datagram.send_to(b"<13>three", other_address).expect("sent");
    assert_eq!(texts(&running.records(1).await), ["three"]);
    assert_eq!(running.end().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn an_address_that_is_taken_stops_the_start_and_names_the_input() {
    let (folder, _) = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let yaml = TCP.replace("127.0.0.1:0", &taken.local_addr().expect("bound").to_string());
    let config = AgentConfig {
        name: "web-01".into(),
        state_dir: folder.path().join("state"),
        memory: 1,
        inputs: checked(folder.path(), &yaml),
        drain_timeout: PATIENCE,
        agents: 1,
    };
    let (metrics, stop) = (AgentMetrics::new(&Registry::default()), Stop::new().1);
    let error = agent::start(config, mpsc::channel(1).0, None, metrics, Board::default(), Health::new(), stop)
        .expect_err("taken");
    assert!(format!("{error:#}").starts_with("input \"net\": listen: tcp 127.0.0.1:"), "{error:#}");
}
