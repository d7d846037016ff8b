//! Promise: bad input is told in words that help, stops nothing else, and loses nothing.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tests::daemon::{Daemon, Half};
use tests::scene::Scene;
use tests::writer::{self, Written};
use tests::{stack, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// 500 lines in two files.
fn some_lines(scene: &Scene) -> Written {
    writer::write_now(&scene.load(2, 500, 0, 0)).expect("the lines are written")
}

#[track_caller]
fn check_topic(scene: &Scene, written: &Written) {
    let lines = written.values().sum();
    scene.wait_shipped(lines, LIMIT);
    let report = scene.audit_topic(written, &[]).expect("the topic reads back");
    assert!(report.missing.is_empty() && report.corrupt.is_empty() && report.duplicated.is_empty(), "{report}");
}

/// Runs `tailrace ARGUMENTS` to its end.
fn run(arguments: &[&str]) -> Output {
    Command::new(stack::program()).args(arguments).output().expect("the program runs")
}

#[track_caller]
fn says(output: &Output, words: &[&str]) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

#[test]
fn a_missing_topic_is_named_and_its_lines_wait() {
    let mut scene = Scene::shared("no-topic", 1);
    scene.topic = format!("{}-missing", scene.topic);
    let written = some_lines(&scene);
    let mut agent = scene.agent().spawn().expect("the agent starts");
    let line = agent.wait_log(&[&scene.topic, "create_topic"], LIMIT);
    eprintln!("figures bad input: missing topic: {line}");
    scene.cluster.create_topic(&scene.topic, 1).expect("the topic is made");
    // Ended with its message, or waiting for the topic: either way the lines are still in their files.
    let again = agent.ended().map(|status| {
        assert!(!status.success(), "an agent that cannot ship does not succeed");
        scene.agent().spawn().expect("the agent starts again")
    });
    check_topic(&scene, &written);
    scene.check_equations(again.as_ref().or(Some(&agent)), None);
}

#[test]
fn a_wrong_broker_is_named_and_its_lines_wait() {
    let scene = Scene::shared("no-broker", 1);
    let written = some_lines(&scene);
    let nobody = format!("127.0.0.1:{}", stack::free_port());
    let mut wrong = scene.agent();
    wrong.config["kafka"]["brokers"] = json!([nobody]);
    let mut agent = wrong.spawn().expect("the agent starts");
    let line = agent.wait_log(&[&nobody], LIMIT);
    eprintln!("figures bad input: wrong broker: {line}");
    if agent.ended().is_none() {
        agent.terminate().expect("it runs");
        agent.wait_end(LIMIT);
    }
    let agent = scene.agent().spawn().expect("the agent starts");
    check_topic(&scene, &written);
    scene.check_equations(Some(&agent), None);
}

#[test]
fn an_unreadable_file_is_named_and_the_others_are_shipped() {
    let scene = Scene::shared("unreadable", 1);
    let written = some_lines(&scene);
    let closed = scene.append("app-closed.log", b"cannot be read\n").expect("the file is written");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("its mode is set");
    let mut start = scene.agent();
    if fs::read(&closed).is_ok() {
        // Root reads everything, so the agent runs as nobody.
        if !as_nobody(&scene, &mut start.through) {
            return;
        }
    }
    let agent = start.spawn().expect("the agent starts");
    let line = agent.wait_log(&["app-closed.log"], LIMIT);
    eprintln!("figures bad input: unreadable file: {line}");
    assert!(line.to_lowercase().contains("denied"), "{line}");
    check_topic(&scene, &written);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o644)).expect("its mode is set");
    scene.wait_shipped(501, LIMIT);
    scene.check_equations(Some(&agent), None);
}

/// Lets the agent run as nobody with its own state folder; says so and returns false where that is not possible.
fn as_nobody(scene: &Scene, through: &mut Vec<String>) -> bool {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
    let program = stack::program().display().to_string();
    let able = Command::new(&nobody[0]).args(&nobody[1..]).args([&program, "--version"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: running as root, and {program} cannot be run as nobody (setpriv)");
        return false;
    }
    let state = scene.folder.join("state");
    fs::create_dir_all(&state).expect("the folder is made");
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).expect("root may change owners");
    // Temporary folders are closed to others; the way down must be open to nobody.
    for folder in scene.folder.ancestors().take_while(|folder| folder.starts_with(stack::home())) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its mode is set");
    }
    *through = nobody.to_vec();
    true
}

#[test]
fn a_full_disk_under_the_checkpoint_stops_no_line_and_is_told() {
    let scene = Scene::shared("full-disk", 1);
    let state = scene.folder.join("state");
    fs::create_dir_all(&state).expect("the folder is made");
    let Some(_mounted) = Tmpfs::mount(&state, "256k") else { return };
    let written = some_lines(&scene);
    let start = scene.agent();
    let mut agent = start.spawn().expect("the agent starts");
    check_topic(&scene, &written);
    scene.check_equations(Some(&agent), None);
    // From here on there is no room for a checkpoint.
    let filler = state.join("filler");
    fill(&filler);
    let begun = wait::now();
    // Many files, so that their entries do not fit into the page that the checkpoint's file has already.
    for file in 0..200 {
        scene
            .append(&format!("app-more-{file}.log"), "more of it\n".repeat(10).as_bytes())
            .expect("the file is written");
    }
    scene.wait_shipped(2_500, LIMIT);
    let line = agent.wait_log(&["checkpoint"], LIMIT);
    eprintln!("figures bad input: full disk: told after {:?}: {line}", begun.elapsed());
    let (page, _) = wait::wait_for("a degraded health page", LIMIT, || {
        let (status, page) = agent.get("/healthz").map_err(|error| error.to_string())?;
        wait::met(page.contains("checkpoint"), || format!("{status}: {page}")).map(|()| page)
    });
    eprintln!("figures bad input: full disk: health {page}");
    // Room again: the next flush is durable, so a kill sends nothing twice.
    fs::remove_file(&filler).expect("the filler goes");
    wait::wait_for("a healthy page", LIMIT, || {
        let (status, page) = agent.get("/healthz").map_err(|error| error.to_string())?;
        wait::met(!page.contains("checkpoint"), || format!("{status}: {page}"))
    });
    agent.kill().expect("it runs");
    let agent = start.spawn().expect("the agent starts again");
    scene.append("app-more-0.log", b"the last line\n").expect("the file is written");
    scene.wait_shipped(2_501, LIMIT);
    scene.check_equations(Some(&agent), None);
    assert_eq!(scene.cluster.count(&scene.topic).expect("the broker answers"), 2_501, "something was sent twice");
}

/// Writes until the disk takes no more.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).expect("an empty file still fits");
    for size in [4_096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// A small file system. Unmounted when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output().ok()?;
        if !output.status.success() {
            eprintln!("SKIPPED: no tmpfs may be mounted here: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Some(Self(at))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        // Lazy: the agent's own handle may still be closing.
        let status = Command::new("umount").arg("-l").arg(self.0).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

#[test]
fn invalid_yaml_is_told_with_file_line_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |text: &str, words: &[&str]| {
        let path = folder.path().join("agent.yaml");
        fs::write(&path, text).expect("the file is written");
        let path = path.to_str().expect("a plain path");
        for command in ["check", "agent"] {
            let output = run(&[command, "-c", path]);
            assert_eq!(output.status.code(), Some(2), "{command}: {output:?}");
            says(&output, words);
        }
    };
    let good = "state_dir: /tmp/none\ninputs: [{id: a, type: file, paths: [/tmp/none/*.log]}]\n";
    check("inputs: [\n", &["agent.yaml:"]);
    check(&format!("{good}kafka:\n  brokers: [127.0.0.1:1]\n  topc: logs\n"), &["agent.yaml:5:3", "topc", "topic"]);
    check(&format!("{good}kafka: {{brokers: 7}}\n"), &["agent.yaml:3:18", "7"]);
    check(good, &["agent.yaml", "kafka"]);
    let missing = folder.path().join("none.yaml");
    let output = run(&["check", "-c", missing.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    says(&output, &["none.yaml"]);
}

#[test]
fn an_unknown_pipeline_is_told_and_its_lines_are_indexed_all_the_same() {
    let scene = Scene::shared("no-pipeline", 1);
    let written = some_lines(&scene);
    let mut start = scene.agent();
    start.config["inputs"][0]["pipeline"] = json!("no-such-pipeline");
    let agent = start.spawn().expect("the agent starts");
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    scene.wait_indexed(500, LIMIT);
    let line = indexer.wait_log(&["no-such-pipeline"], LIMIT);
    eprintln!("figures bad input: unknown pipeline: {line}");
    let report = scene.audit_index(&written).expect("the index reads back");
    assert!(report.is_clean(), "{report}");
    let documents = scene.node.documents(&scene.index).expect("the index reads back");
    let told = |document: &Value| {
        document["error"]["message"].as_str().is_some_and(|text| text.contains("no-such-pipeline"))
            && document["tags"].is_array()
    };
    assert!(documents.iter().all(|document| told(&document.source)), "{:?}", documents.first());
    scene.check_equations(Some(&agent), Some(&indexer));
}

#[test]
fn a_route_to_an_unknown_pipeline_is_refused_at_start() {
    let scene = Scene::shared("no-route", 1);
    let mut start = scene.indexer();
    let pipelines = stack::project().join("pipelines/catalog");
    start.config["pipelines"] =
        json!({"dir": pipelines, "routes": [{"topic": scene.topic, "pipeline": "no-such-pipeline"}]});
    let mut indexer = start.spawn().expect("the indexer starts");
    let status = indexer.wait_end(LIMIT);
    assert_eq!(status.code(), Some(2), "{}", indexer.log_tail());
    assert!(indexer.log().contains("no-such-pipeline"), "{}", indexer.log_tail());
}

#[test]
fn invalid_utf8_becomes_a_document_and_its_neighbours_stay_whole() {
    let scene = Scene::shared("utf8", 1);
    scene.append("app-0.log", b"before\nbad \xff\xfe byte\n\xc3\nnul \0 inside\nafter\n").expect("the file is written");
    let agent = scene.agent().spawn().expect("the agent starts");
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    scene.wait_indexed(5, LIMIT);
    assert_eq!(messages(&scene), ["before", "bad \u{fffd}\u{fffd} byte", "\u{fffd}", "nul \0 inside", "after"]);
    scene.check_equations(Some(&agent), Some(&indexer));
}

/// The messages in the order of their offsets.
fn messages(scene: &Scene) -> Vec<String> {
    let mut documents = scene.node.documents(&scene.index).expect("the index reads back");
    documents.sort_by_key(|document| document.source["log"]["offset"].as_u64());
    documents.iter().map(|document| document.message().to_owned()).collect()
}

#[test]
fn a_line_of_20_megabytes_is_cut_and_counted_and_its_neighbours_stay_whole() {
    let scene = Scene::shared("huge", 1);
    let mut bytes = b"before\n".to_vec();
    bytes.extend(std::iter::repeat_n(b'x', 20_000_000));
    bytes.extend(b"\nafter\n");
    scene.append("app-0.log", &bytes).expect("the file is written");
    let agent = scene.agent().spawn().expect("the agent starts");
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    scene.wait_indexed(3, LIMIT);
    let messages = messages(&scene);
    assert_eq!(messages.len(), 3);
    assert_eq!((messages[0].as_str(), messages[2].as_str()), ("before", "after"));
    let cut = &messages[1];
    assert!(
        cut.len() >= 1_000 && cut.len() < 20_000_000 && cut.bytes().all(|byte| byte == b'x'),
        "{} bytes",
        cut.len()
    );
    let metrics = agent.metrics().expect("the agent has metrics");
    assert_eq!(metrics.total("tailrace_agent_lines_truncated_total"), 1);
    let used = agent.usage().expect("the agent runs");
    eprintln!("figures bad input: 20 MB line: cut to {} bytes, agent RSS at most {} bytes", cut.len(), used.rss_max);
    assert!(used.rss_max < 100_000_000, "a line is never held whole: {} bytes", used.rss_max);
    scene.check_equations(Some(&agent), Some(&indexer));
}

/// Bytes of the line without end.
const GIGABYTE: u64 = 1_000_000_000;

/// What a line without end may cost: four times the longest line, and the readers' own buffers.
const LINE_BYTES_MAX: u64 = 1 << 20;
const ROOM_BYTES: u64 = 16_000_000;

#[test]
fn a_line_of_1_gigabyte_costs_no_more_memory_than_the_longest_line_that_is_kept() {
    let huge = tempfile::NamedTempFile::new_in(stack::home()).expect("a file");
    write_x(huge.as_file(), GIGABYTE);
    for (policy, kept) in [("truncate", 3), ("skip", 2)] {
        let scene = Scene::shared("gigabyte", 1);
        let mut start = scene.agent();
        start.config["inputs"][0]["on_long_line"] = json!(policy);
        start.config["inputs"][0]["line_bytes_max"] = json!(LINE_BYTES_MAX);
        let agent = start.spawn().expect("the agent starts");
        scene.append("app-1.log", b"before\n").expect("the file is written");
        scene.wait_shipped(1, LIMIT);
        let before = agent.usage().expect("the agent runs").rss_max;
        // The same bytes under a name of this scene: nothing is written twice.
        fs::hard_link(huge.path(), scene.folder.join("logs/app-0.log")).expect("linked");
        let (_, waited) = wait::wait_for("the whole line read", LIMIT * 2, || {
            let read = agent.read_bytes().map_err(|error| error.to_string())?;
            wait::met(read >= GIGABYTE, || format!("{read} bytes read"))
        });
        let without_end = agent.usage().expect("the agent runs").rss_max;
        scene.append("app-0.log", b"\nafter\n").expect("the line ends");
        scene.wait_shipped(kept, LIMIT * 2);
        let used = agent.usage().expect("the agent runs");
        eprintln!(
            "figures bad input: 1 GB line, {policy}: read in {waited:?}, RSS {before} bytes before, at most \
             {without_end} without its end, {} with it",
            used.rss_max
        );
        let allowed = before + 4 * LINE_BYTES_MAX + ROOM_BYTES;
        assert!(used.rss_max <= allowed, "{policy}: {} bytes, {allowed} allowed", used.rss_max);
        scene.check_equations(Some(&agent), None);
        drop(agent);
        huge.as_file().set_len(GIGABYTE).expect("its end is cut off again");
    }
}

/// Writes `bytes` bytes of one kind.
fn write_x(mut file: &fs::File, bytes: u64) {
    use std::io::Write as _;
    let chunk = vec![b'x'; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        file.write_all(&chunk[..now]).expect("there is room");
        left -= now as u64;
    }
}

#[test]
fn a_conflicting_field_is_a_dead_letter_with_its_cause_and_its_neighbours_are_indexed() {
    let shared = stack::shared();
    let scene = Scene::without_node("conflict", 1, shared.cluster, shared.node);
    scene.node.create_index(&scene.index, &json!({"size": {"type": "long"}})).expect("the index is made");
    // Every tenth record has a text where the index holds a number.
    let value = |n: u32| {
        json!({"@timestamp": "2026-01-02T03:04:05Z", "message": format!("m{n}"),
        "size": if n.is_multiple_of(10) { json!("not a number") } else { json!(n) }})
    };
    let values: Vec<_> = (0..300).map(|n| value(n).to_string()).collect();
    let bytes: Vec<_> = values.iter().map(String::as_bytes).collect();
    scene.cluster.produce(&scene.topic, 0, &bytes).expect("the records are produced");
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    scene.wait_indexed(270, LIMIT);
    scene.wait_committed(LIMIT);
    assert_eq!(scene.node.documents(&scene.index).expect("the index reads back").len(), 270);
    let dead = scene.cluster.read_all(&scene.dead_topic).expect("the topic reads back");
    // Bulk requests run side by side: each dead letter once, in any order.
    let mut lines: Vec<_> = dead.iter().map(tests::kafka::Stored::line).collect();
    let mut expected: Vec<_> = (0..30).map(|n| format!("m{}", n * 10)).collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
    for record in &dead {
        let headers: String =
            record.headers.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect();
        let text = format!("{headers}{}", String::from_utf8_lossy(&record.value));
        assert!(text.contains("size") && text.contains("pars"), "no cause in {text}");
    }
    scene.check_equations(None, Some(&indexer));
}

#[test]
fn an_indexer_without_its_topic_names_it() {
    let mut scene = Scene::shared("no-consume", 1);
    scene.topic = format!("{}-missing", scene.topic);
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    let line = indexer.wait_log(&[&scene.topic], LIMIT);
    eprintln!("figures bad input: indexer's missing topic: {line}");
}

#[test]
fn a_wrong_search_node_is_named_and_nothing_is_lost() {
    let scene = Scene::shared("no-node", 1);
    let written = some_lines(&scene);
    let agent = scene.agent().spawn().expect("the agent starts");
    check_topic(&scene, &written);
    let nobody = format!("http://127.0.0.1:{}", stack::free_port());
    let mut wrong = scene.indexer();
    wrong.config["elasticsearch"]["hosts"] = json!([nobody]);
    let mut lost: Daemon = wrong.spawn().expect("the indexer starts");
    let line = lost.wait_log(&[nobody.trim_start_matches("http://")], LIMIT);
    eprintln!("figures bad input: wrong search node: {line}");
    assert!(lost.ended().is_none(), "it keeps trying");
    lost.terminate().expect("it runs");
    lost.wait_end(LIMIT);
    let start = scene.indexer();
    assert_eq!(start.half, Half::Indexer);
    let indexer = start.spawn().expect("the indexer starts");
    scene.wait_indexed(500, LIMIT);
    let report = scene.audit_index(&written).expect("the index reads back");
    assert!(report.is_clean(), "{report}");
    scene.check_equations(Some(&agent), Some(&indexer));
}

#[test]
fn a_metrics_address_that_others_can_reach_is_refused() {
    let scene = Scene::shared("open", 1);
    let mut start = scene.agent();
    start.config["metrics"]["listen"] = json!("0.0.0.0:0");
    let mut agent = start.spawn().expect("the agent starts");
    assert!(!agent.wait_end(LIMIT).success());
    assert!(agent.log().contains("0.0.0.0"), "{}", agent.log_tail());
}
