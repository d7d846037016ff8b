//! What goes: deleted files give their descriptors back, containers end and begin again, inputs are removed.

mod whole;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use whole::{Running, append, checked, folder, one, remembered, start};

const PLAIN: &str = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms}]";
/// Something to go on with when `a` is removed.
const OTHER: &str = "{id: other, type: file, paths: [DIR/*.other], scan_interval: 20ms}";

/// Descriptors of this process for files below `folder` that `is_counted`.
fn descriptors(folder: &Path, is_counted: impl Fn(&str) -> bool) -> usize {
    let all = fs::read_dir("/proc/self/fd").expect("the descriptors of this process");
    let targets = all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let below = format!("{}/", folder.display());
    let names =
        targets.filter_map(|target| target.to_str().and_then(|text| text.strip_prefix(&below)).map(str::to_owned));
    names.filter(|name| is_counted(name)).count()
}

#[tokio::test]
async fn the_descriptor_of_a_deleted_file_is_given_back_when_all_is_acknowledged() {
    let (folder, log) = folder();
    let is_deleted = |name: &str| name.ends_with(".log (deleted)");
    append(&log, "one\n");
    append(&folder.path().join("b.log"), "stays\n");
    let mut running = start(folder.path(), PLAIN);
    running.lines(2).await;
    append(&log, "two\n");
    let owed = running.group().await;
    fs::remove_file(&log).expect("removed");
    running.until("seen to be gone", |files| files.iter().any(|file| !file.is_listed)).await;
    assert_eq!(descriptors(folder.path(), is_deleted), 1, "it may have to be read again");
    drop(owed);
    assert_eq!(running.lines(1).await, one("a.log", &["two"]), "and is");
    running.until("let go", |files| files.len() == 1).await;
    assert_eq!(descriptors(folder.path(), is_deleted), 0);
    assert_eq!(descriptors(folder.path(), |name| name == "b.log"), 1);
    running.stop().await;
}

/// A folder of container logs as the kubelet makes it.
const PODS: &str =
    "[{id: a, type: file, paths: [DIR/pods/*/*/*.log], scan_interval: 20ms, close_inactive: 50ms, kubernetes: {}}]";

#[tokio::test]
async fn a_container_that_stops_and_starts_again_is_read_to_its_end_and_then_let_go() {
    let (folder, _) = folder();
    let pod = folder.path().join("pods/shop_web_0a1b");
    let log = |n: usize| pod.join(format!("nginx/{n}.log"));
    fs::create_dir_all(pod.join("nginx")).expect("made");
    let mut running = start(folder.path(), PODS);
    append(&log(0), "0 begins\n");
    assert_eq!(running.lines(1).await, one("0.log", &["0 begins"]));
    // It stops, and starts again at once: the last words of the old one and the first of the new one.
    append(&log(0), "0 ends\n");
    append(&log(1), "1 begins\n");
    let both = [one("0.log", &["0 ends"]), one("1.log", &["1 begins"])];
    assert_eq!(running.lines(2).await, both.into_iter().flatten().collect::<BTreeMap<_, _>>());
    running.until("closed", |files| files.iter().all(|file| !file.is_open)).await;
    running.met("nothing is held", || descriptors(folder.path(), |name| name.ends_with(".log")) == 0).await;
    // A stopped one is flushed late; a running one stops.
    append(&log(0), "0 late\n");
    append(&log(1), "1 ends\n");
    let both = [one("0.log", &["0 late"]), one("1.log", &["1 ends"])];
    assert_eq!(running.lines(2).await, both.into_iter().flatten().collect::<BTreeMap<_, _>>());
    // The kubelet keeps one generation; then the pod goes, with lines that are not delivered yet.
    fs::remove_file(log(0)).expect("removed");
    running.until("let go", |files| files.len() == 1).await;
    append(&log(2), "2 begins\n2 ends\n");
    let owed = running.group().await;
    fs::remove_dir_all(&pod).expect("removed");
    running.until("seen to be gone", |files| files.len() == 1 && !files[0].is_listed).await;
    drop(owed);
    assert_eq!(running.lines(2).await, one("2.log", &["2 begins", "2 ends"]));
    running.until("let go", <[_]>::is_empty).await;
    running.met("nothing is held", || descriptors(folder.path(), |name| name.contains(".log")) == 0).await;
    running.stop().await;
    assert!(remembered(folder.path()).is_empty(), "nothing is kept");
}

/// Other inputs instead of those that run.
fn reload(running: &Running, folder: &Path, yaml: &str) {
    running.agent.reloader().reload(checked(folder, yaml));
}

#[tokio::test]
async fn nasty_17_what_was_written_before_its_input_is_removed_is_shipped() {
    let (folder, log) = folder();
    let lines = 20_000;
    append(&log, &"a line of some length, so that it takes more than one turn\n".repeat(lines));
    let mut running = start(folder.path(), PLAIN);
    let first = running.group().await;
    assert!(first.records.len() < lines, "it is not read yet");
    let unread = lines - first.records.len();
    first.ack.settle();
    append(&folder.path().join("new.log"), "no scan has seen it\n");
    append(&log, "unfinished");
    reload(&running, folder.path(), &format!("[{OTHER}]"));
    let rest = running.lines(unread + 1).await;
    assert_eq!((rest["a.log"].len(), &*rest["new.log"]), (unread, &["no scan has seen it".to_owned()][..]));
    running.until("followed no longer", <[_]>::is_empty).await;
    append(&log, " line\nand more\n");
    append(&folder.path().join("b.other"), "of the other\n");
    assert_eq!(running.lines(1).await, one("b.other", &["of the other"]), "its files are followed no longer");
    reload(&running, folder.path(), &PLAIN.replacen("}]", &format!("}}, {OTHER}]"), 1));
    assert_eq!(running.lines(2).await, one("a.log", &["unfinished line", "and more"]), "it is back, and reads on");
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_goes_on_growing_does_not_keep_a_removed_input() {
    let (folder, log) = folder();
    let parsers = "parsers: [{multiline: {pattern: '^ ', match: after, timeout: 1h}}]";
    for options in ["", parsers] {
        append(&log, "one\n");
        let yaml = PLAIN
            .replace("scan_interval", &format!("{options}{}scan_interval", if options.is_empty() { "" } else { ", " }));
        let mut running = start(folder.path(), &yaml);
        running.until("read", |files| files.iter().any(|file| file.size >= 4 && (file.acknowledged == 0))).await;
        let ends = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (ends, log) = (ends.clone(), log.clone());
            move || {
                while !ends.load(Ordering::Relaxed) {
                    append(&log, "more\n");
                    std::thread::yield_now();
                }
            }
        });
        running.lines(50).await;
        reload(&running, folder.path(), &format!("[{OTHER}]"));
        let board = running.board.clone();
        let rests = async {
            while !board.files(None).is_empty() {
                tokio::select! {
                    lines = running.lines(1) => assert!(!lines.is_empty(), "no line, and it does not rest"),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        };
        let is_resting = tokio::time::timeout(whole::PATIENCE, rests).await;
        ends.store(true, Ordering::Relaxed);
        writer.join().expect("ends");
        assert!(is_resting.is_ok(), "still followed: {:#?}", running.board.files(None));
        running.stop().await;
        fs::remove_file(&log).expect("removed");
        fs::remove_dir_all(folder.path().join("state")).expect("removed");
    }
}

#[tokio::test]
async fn gauges_do_not_drop_on_a_reload() {
    let (folder, _) = folder();
    for n in 0..20 {
        append(&folder.path().join(format!("{n}.log")), "line\n");
    }
    let mut running = start(folder.path(), PLAIN);
    running.lines(20).await;
    running.met("counted", || running.metrics.files.get() == 20 && running.metrics.open_files.get() == 20).await;
    let (least, ends) = (Arc::new(AtomicI64::new(i64::MAX)), Arc::new(AtomicBool::new(false)));
    let sampler = std::thread::spawn({
        let (metrics, least, ends) = (running.metrics.clone(), least.clone(), ends.clone());
        move || {
            while !ends.load(Ordering::Relaxed) {
                least.fetch_min(metrics.files.get().min(metrics.open_files.get()), Ordering::Relaxed);
            }
        }
    });
    for n in 0..20 {
        reload(&running, folder.path(), &PLAIN.replace("id: a,", &format!("id: a, tags: ['{n}'],")));
        append(&folder.path().join("0.log"), "more\n");
        loop {
            let group = running.group().await;
            let is_new = group.source.input().tags == [n.to_string()];
            group.ack.settle();
            if is_new {
                break;
            }
            append(&folder.path().join("0.log"), "more\n");
        }
    }
    ends.store(true, Ordering::Relaxed);
    sampler.join().expect("ends");
    assert_eq!(least.load(Ordering::Relaxed), 20, "the least that was seen");
    running.stop().await;
}
