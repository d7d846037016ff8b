//! What a search node, or a proxy before it, answers on a bad day.

use crate::{Bench, LIMIT, check_same, total};
use serde_json::json;
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tests::fake::{Answer, Item};
use tests::scene::Scene;
use tests::{http, wait};

/// The place of an item among the records: the second word of its message.
fn number(item: &Item) -> usize {
    let message = item.source["message"].as_str().unwrap_or_default();
    message.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(usize::MAX)
}

#[test]
fn a_mixed_status_batch_gives_each_record_its_end() {
    let bench = Bench::with_lines("mixed", 2, 3_000);
    // Stored, but the answer breaks off: what is created is a conflict at the next try, beside all the others.
    bench.node.script([Answer::BreakMidAnswer]);
    bench.node.rule(|item| match (number(item) % 10, item.tries_before) {
        (0, _) => Some(400),
        (1, _) => Some(404),
        (2, 0..=2) => Some(429),
        (3, 0..=1) => Some(503),
        (4, 0..=1) => Some(403),
        (5, 0..=1) => Some(500),
        _ => None,
    });
    let indexer = bench.scene.indexer().spawn().expect("the indexer starts");
    let dead = bench.settle_up(&indexer);
    check_same(dead, bench.values.iter().enumerate().filter(|(at, _)| at % 10 < 2).map(|(_, v)| v.clone()).collect());
    let metrics = indexer.metrics().expect("the indexer has metrics");
    assert_eq!(metrics.indexer("dead_lettered"), 600);
    assert!(metrics.indexer("duplicate") > 0, "what was stored before the break was a conflict");
    // Only what failed for now was sent again, once more than it failed, and once more if the break took its answer.
    let broken = usize::from(metrics.indexer("duplicate") > 0);
    for bulk in bench.node.bulks() {
        for item in bulk.items {
            let refused = [0, 0, 3, 2, 2, 2, 0, 0, 0, 0][number(&item) % 10];
            assert!(item.tries_before as usize <= refused + broken, "{:?}", (number(&item), item.tries_before));
        }
    }
}

#[test]
fn a_proxy_of_1_mb_gets_smaller_requests_and_only_what_never_fits_is_a_dead_letter() {
    let mut bench = Bench::new("proxy", 1);
    bench.add_lines(1, 2_000, 2_000);
    let quotes = "\"".repeat(600_000); // 600 KB for the broker, more than 1 MB as JSON.
    bench.produce(0, &[quotes.as_str()]);
    bench.values.push(quotes.clone());
    bench.add_lines(1, 2_000, 2_000);
    bench.node.limit_body(1_000_000);
    let indexer = bench.scene.indexer().spawn().expect("the indexer starts");
    let dead = bench.settle_up(&indexer);
    assert!(dead == [quotes], "{} dead letters", dead.len());
    let bulks = bench.node.bulks();
    let (served, refused): (Vec<_>, Vec<_>) = bulks.iter().partition(|bulk| bulk.answer == Answer::Serve);
    assert!(!refused.is_empty(), "nothing was too large");
    assert!(served.len() < 60, "{} requests for 8 MB: halves, not single documents", served.len());
    eprintln!("figures proxy: {} requests taken, {} refused", served.len(), refused.len());
    let log = indexer.log();
    let told = log.lines().find(|line| line.contains("halving")).expect("it is told");
    assert!(told.contains("documents=") && told.contains("bytes=") && told.contains("413"), "{told}");
}

/// Hands connections through to `to`; the first `resets` answers to bulk requests are not handed back: the connection is reset.
fn resetter(to: SocketAddr, resets: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let left = Arc::new(AtomicUsize::new(resets));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (server, left) = (TcpStream::connect(to).expect("the fake is there"), left.clone());
            let (mut from_client, mut to_server) =
                (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
            std::thread::spawn(move || {
                std::io::copy(&mut from_client, &mut to_server).ok(); // Either side may end it.
                to_server.shutdown(Shutdown::Write).ok(); // It may be gone already.
            });
            std::thread::spawn(move || answer(server, client, &left));
        }
    });
    address
}

fn answer(mut server: TcpStream, mut client: TcpStream, left: &AtomicUsize) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        let is_bulk = buffer[..length].windows(8).any(|window| window == b"\"items\":");
        if is_bulk && left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok() {
            // Closed with nothing lingering: a reset, not an orderly end.
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("an open socket");
            server.shutdown(Shutdown::Both).ok(); // The fake has said all.
            client.shutdown(Shutdown::Read).ok(); // Ends the other direction, which holds the socket, too.
            return;
        }
        if client.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    client.shutdown(Shutdown::Write).ok(); // It may be gone already.
}

#[test]
fn a_connection_reset_after_the_body_makes_no_second_copy() {
    let bench = Bench::with_lines("reset", 2, 3_000);
    let to = bench.node.url.trim_start_matches("http://").parse().expect("an address");
    let mut start = bench.scene.indexer();
    start.config["elasticsearch"]["hosts"] = json!([format!("http://{}", resetter(to, 3))]);
    // Beside the resets: closed in good order, before and after everything was stored.
    bench.node.script([Answer::BreakStored, Answer::BreakUnread]);
    let indexer = start.spawn().expect("the indexer starts");
    let dead = bench.settle_up(&indexer);
    assert!(dead.is_empty(), "{} dead letters", dead.len());
    let duplicates = total(&indexer, "duplicate_total");
    assert!(duplicates > 0, "what was stored before the reset was a conflict");
    let log = indexer.log();
    assert!(log.to_lowercase().contains("reset"), "a reset is told as one: {}", indexer.log_tail());
    eprintln!("figures reset: {duplicates} of 3,000 were there already");
}

#[test]
fn html_with_200_settles_nothing() {
    let bench = Bench::with_lines("html", 2, 2_000);
    bench.node.script(std::iter::repeat_n(Answer::Html, 4));
    let indexer = bench.scene.indexer().spawn().expect("the indexer starts");
    let told = indexer.wait_log(&["unknown_outcome", "please log in"], LIMIT);
    eprintln!("figures html: {told}");
    assert!(bench.settle_up(&indexer).is_empty());
    assert_eq!((bench.node.script_left(), total(&indexer, "duplicate_total")), (0, 0));
}

#[test]
fn a_wrong_item_count_settles_nothing() {
    let bench = Bench::with_lines("count", 2, 2_000);
    bench.node.script([Answer::ShortItems, Answer::ExtraItems]);
    let indexer = bench.scene.indexer().spawn().expect("the indexer starts");
    let told = indexer.wait_log(&["documents were sent", "were answered"], LIMIT);
    eprintln!("figures count: {told}");
    assert!(bench.settle_up(&indexer).is_empty());
    assert_eq!(bench.node.script_left(), 0);
    assert!(total(&indexer, "duplicate_total") > 0, "all of it was stored, and sent again");
}

#[test]
fn a_flood_block_is_waited_out() {
    let scene = Scene::shared("flood", 2);
    let block = |on: bool| {
        let body = json!({"index.blocks.read_only_allow_delete": if on { json!(true) } else { json!(null) }});
        http::json("PUT", &format!("{}/{}/_settings", scene.node.url, scene.index), Some(&body)).expect("it is set");
    };
    block(true);
    let lines: Vec<_> = (0..1_000).map(|number| format!("{} {number}", scene.run)).collect();
    let values: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
    scene.cluster.produce(&scene.topic, 0, &values).expect("the broker takes them");
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    wait::wait_for("a try at the block", LIMIT, || {
        let retried = total(&indexer, "retried_total");
        wait::met(retried >= 2_000, || format!("{retried} retried"))
    });
    let metrics = indexer.metrics().expect("the indexer has metrics");
    let blocked = metrics.sum_where("tailrace_indexer_retried_total", "blocked").unwrap_or(0.0);
    assert_eq!(Some(blocked), metrics.sum("tailrace_indexer_retried_total"), "they are refused for the block");
    assert_eq!((metrics.indexer("indexed"), metrics.indexer("dead_lettered")), (0, 0));
    block(false);
    let (_, resumed) = wait::wait_for("documents after the block", LIMIT, || {
        let count = scene.node.count(&scene.index).map_err(|error| error.to_string())?;
        wait::met(count == 1_000, || format!("{count} of 1000"))
    });
    eprintln!("figures flood: all there {resumed:.1?} after the block was lifted");
    assert!(resumed <= Duration::from_secs(15), "{resumed:?}");
    scene.wait_committed(LIMIT);
    scene.check_equations(None, Some(&indexer));
    let documents = scene.node.documents(&scene.index).expect("the index reads back");
    check_same(documents.iter().map(|document| document.message().to_owned()).collect(), lines);
    assert_eq!(scene.cluster.count(&scene.dead_topic).expect("the broker answers"), 0);
}
