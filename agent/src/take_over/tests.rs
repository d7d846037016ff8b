//! Registries written for this project, files as Filebeat left them, and what becomes of each.

use super::*;
use crate::AgentMetrics;
use crate::config::{InputConfig, inputs};
use serde_json::{Value, json};
use service::clock::wall_ms;
use service::health::Health;
use service::metrics::Registry;
use service::stop::Stop;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::time::Duration;

const HOW: TakeOver = TakeOver { dry_run: false, merge: false, fingerprint: (0, 1024) };
/// Size of a file of [`Scene::file`]; line 50 starts at 440, line 80 at 710.
const HUNDRED: u64 = 890;

/// Logs, a registry and an agent's configuration in a folder of their own.
struct Scene {
    folder: tempfile::TempDir,
    log: String,
    operations: u64,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["logs", "other", "data/registry/filebeat"] {
            fs::create_dir_all(folder.path().join(name)).expect("made");
        }
        Self { folder, log: String::new(), operations: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    /// A hundred lines, 890 bytes, different for each name.
    fn file(&mut self, name: &str) -> &mut Self {
        let word: String = name.chars().take(5).collect();
        let line = |n| format!("{word} {n}\n");
        fs::write(self.path(name), (0..100).map(line).collect::<String>()).expect("written");
        self
    }

    fn set(&mut self, key: &str, value: &Value) -> &mut Self {
        self.operations += 1;
        let set = json!({"op": "set", "id": self.operations});
        self.log += &format!("{set}\n{}\n", json!({"k": key, "v": value}));
        fs::write(self.registry().join("log.json"), &self.log).expect("written");
        self
    }

    fn filestream(&mut self, name: &str, identity: &str, of: &str, offset: impl Into<Value>) -> &mut Self {
        let meta = json!({"source": self.path(name), "identifier_name": identity});
        let updated = json!([5, wall_ms() / 1_000 + 1]);
        let value = json!({"ttl": -1, "updated": updated, "cursor": {"offset": offset.into()}, "meta": meta});
        self.set(&format!("filestream::my-logs::{identity}::{of}"), &value)
    }

    /// As `filestream`, by the inode and device of `name` as it is now.
    fn native(&mut self, name: &str, offset: u64) -> &mut Self {
        let found = fs::metadata(self.path(name)).expect("there");
        self.filestream(name, "native", &format!("{}-{}", found.ino(), found.dev()), offset)
    }

    fn registry(&self) -> PathBuf {
        self.folder.path().join("data/registry/filebeat")
    }

    fn config(&self) -> AgentConfig {
        self.config_of(&["logs/*.log", "other/*.log"])
    }

    /// One input for each glob: `a`, `b`, and so on.
    fn config_of(&self, globs: &[&str]) -> AgentConfig {
        let input = |(glob, id): (&&str, char)| {
            json!({"id": id, "type": "file", "scan_interval": "20ms", "start": "end",
                "paths": [self.folder.path().join(glob)]})
        };
        let yaml = Value::from_iter(globs.iter().zip('a'..).map(input)).to_string();
        let configs: Vec<InputConfig> = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
        let inputs = inputs(&configs).expect("valid");
        let (state_dir, drain_timeout) = (self.folder.path().join("state"), Duration::from_secs(5));
        AgentConfig { name: "web-01".into(), state_dir, memory: 1 << 20, inputs, drain_timeout, agents: 1 }
    }

    #[track_caller]
    fn run(&self, how: TakeOver) -> Vec<TakeOverRow> {
        let taken = take_over_filebeat(&self.config(), &self.registry(), how).expect("the registry is read");
        assert!(taken.damage.is_empty(), "{:?}", taken.damage);
        taken.rows
    }

    /// What became of each file, by its name, and the words of the reason.
    #[track_caller]
    fn check(&self, expected: &[(Outcome, &str, &str)]) {
        let rows = self.run(HOW);
        let told = |row: &TakeOverRow| (row.outcome, Path::new(&row.path).file_name().unwrap_or_default().to_owned());
        let found: Vec<_> = rows.iter().map(told).collect();
        assert_eq!(found, expected.iter().map(|e| (e.0, e.1.into())).collect::<Vec<_>>(), "{rows:#?}");
        for (row, (_, name, words)) in rows.iter().zip(expected) {
            assert!(row.reason.contains(words), "{name}: {}", row.reason);
        }
    }

    /// Offsets of the checkpoint, by path.
    fn offsets(&self) -> BTreeMap<String, u64> {
        let loaded = load(&self.config().state_dir).expect("readable");
        loaded.files.into_values().map(|saved| (saved.path.to_string(), saved.progress.offset)).collect()
    }

    /// Lines that an agent ships from here on, until `count` are there and it has been quiet.
    fn ship(&self, config: AgentConfig, count: usize) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (output, mut groups) = tokio::sync::mpsc::channel(1);
        let (trigger, stop) = Stop::new();
        let metrics = AgentMetrics::new(&Registry::default());
        let agent =
            crate::start(config, output, None, metrics, crate::Board::default(), Health::new(), stop).expect("starts");
        let mut lines = Vec::new();
        runtime.block_on(async {
            loop {
                let patience = Duration::from_millis(if lines.len() < count { 5_000 } else { 300 });
                let Ok(Some(group)) = tokio::time::timeout(patience, groups.recv()).await else { break };
                let text = |record| String::from_utf8_lossy(group.bytes_of(record)).into_owned();
                lines.extend(group.records.iter().map(text));
                group.ack.settle();
            }
        });
        trigger.stop();
        drop(groups);
        agent.join();
        lines
    }
}

#[test]
fn an_agent_reads_on_where_filebeat_ended_and_reads_whole_what_it_did_not_take_over() {
    let mut scene = Scene::new();
    scene.file("app-1.log").file("app-2.log").file("new-1.log").file("new-2.log");
    // Shipped to line 80; to its end, and renamed to where no glob looks; not at all; not known.
    scene.native("app-1.log", 710).native("app-2.log", HUNDRED).native("new-1.log", 0);
    fs::rename(scene.path("app-2.log"), scene.path("app-2.old")).expect("renamed");
    let mut late = File::options().append(true).open(scene.path("app-2.old")).expect("opens");
    late.write_all(b"app-2 late\n").expect("written");
    scene.check(&[
        (Outcome::TakenOver, "app-1.log", "read on from 710"),
        (Outcome::TakenOver, "app-2.old", "read on from 890"),
        (Outcome::FromStart, "new-1.log", "nothing of it was acknowledged"),
        (Outcome::FromStart, "new-2.log", "no usable entry"),
    ]);
    let mut lines = scene.ship(scene.config(), 221);
    lines.sort();
    let whole = |name: &str| (0..100).map(|n| format!("{name} {n}")).collect::<Vec<_>>();
    let mut expected = [whole("new-1"), whole("new-2"), vec!["app-2 late".into()]].concat();
    expected.extend((80..100).map(|n| format!("app-1 {n}")));
    expected.sort();
    assert_eq!(lines, expected, "every line once, `start: end` or not");
    // What the agent wrote is what it would have written without Filebeat.
    assert!(scene.ship(scene.config(), 0).is_empty(), "nothing is sent twice");
}

#[test]
fn the_incarnation_is_the_one_that_the_agent_would_have_made() {
    let mut scene = Scene::new();
    scene.file("app-1.log").native("app-1.log", 710);
    scene.run(HOW);
    let taken: Vec<_> = load(&scene.config().state_dir).expect("readable").files.into_keys().collect();
    let mut fresh = scene.config();
    fresh.state_dir = scene.folder.path().join("fresh");
    if let crate::CheckedInput::File(input) = &mut fresh.inputs[0] {
        input.start = crate::Start::Beginning;
    }
    let state_dir = fresh.state_dir.clone();
    assert_eq!(scene.ship(fresh, 100).len(), 100);
    assert_eq!(load(&state_dir).expect("readable").files.into_keys().collect::<Vec<_>>(), taken);
}

#[test]
fn every_file_identity_is_taken_over() {
    let mut scene = Scene::new();
    let large = |name: &str| (0..200).map(|n| format!("{name} {n:02}\n")).collect::<String>();
    for name in ["native.log", "marker.log", "path.log", "print.log", "moved.log", "small.log", "logs.log"] {
        fs::write(scene.path(name), large(name)).expect("written");
    }
    fs::write(scene.path("small.log"), "one\ntwo\n").expect("written");
    let at = |name: &str, lines: usize| {
        u64::try_from(large(name).split_inclusive('\n').take(lines).map(str::len).sum::<usize>()).expect("small")
    };
    let inode = |scene: &Scene, name: &str| fs::metadata(scene.path(name)).expect("there").ino();
    let print = |name: &str| sha256(&large(name).as_bytes()[..1024]);
    scene.native("native.log", at("native.log", 3));
    let marker = format!("{}-this-disk", inode(&scene, "marker.log"));
    scene.filestream("marker.log", "inode_marker", &marker, at("marker.log", 4));
    let path = scene.path("path.log").display().to_string();
    scene.filestream("path.log", "path", &path, at("path.log", 5));
    scene.filestream("print.log", "fingerprint", &print("print.log"), at("print.log", 6));
    // Renamed and copied: the content alone tells.
    scene.filestream("was.log", "fingerprint", &print("moved.log"), at("moved.log", 7));
    // It had one line when Filebeat took its fingerprint.
    let digits = hexadecimal(b"one\n");
    scene.filestream("small.log", "fingerprint", &sha256(digits.as_bytes()), 4);
    let os = json!({"inode": inode(&scene, "logs.log"), "device": fs::metadata(scene.path("logs.log")).expect("there").dev()});
    let log = json!({"source": scene.path("logs.log"), "offset": at("logs.log", 8), "ttl": -1, "type": "log",
        "timestamp": [1, wall_ms() / 1_000 + 1], "FileStateOS": os, "identifier_name": "native"});
    scene.set("filebeat::logs::native::1-2", &log);
    let rows = scene.run(HOW);
    assert!(rows.iter().all(|row| row.outcome == Outcome::TakenOver) && rows.len() == 7, "{rows:#?}");
    let offsets = scene.offsets();
    let names = ["native.log", "marker.log", "path.log", "print.log", "logs.log"];
    for (name, lines) in names.into_iter().zip([3, 4, 5, 6, 8]) {
        assert_eq!(offsets[&scene.path(name).display().to_string()], at(name, lines), "{name}");
    }
    assert_eq!(offsets[&scene.path("was.log").display().to_string()], at("moved.log", 7), "as it was shipped so far");
    assert_eq!(offsets[&scene.path("small.log").display().to_string()], 4);
}

#[test]
fn what_the_file_does_not_bear_out_is_read_from_its_start() {
    let mut scene = Scene::new();
    for name in ["beyond.log", "broken.log", "letgo.log", "moved.log", "older.log", "reused.log", "zipped.log"] {
        scene.file(name);
    }
    fs::write(scene.path("zipped.log"), [&GZIP[..], &[b'\n'; 99]].concat()).expect("written");
    scene.native("beyond.log", HUNDRED + 1).native("broken.log", 15).native("zipped.log", 50);
    let key = |scene: &Scene, name: &str, device: u64| {
        let found = fs::metadata(scene.path(name)).expect("there");
        format!("filestream::x::native::{}-{}", found.ino(), found.dev() + device)
    };
    let of = |source: PathBuf, ttl: i64, updated: u64| {
        json!({"ttl": ttl, "updated": [1, updated], "cursor": {"offset": HUNDRED},
            "meta": {"source": source, "identifier_name": "native"}})
    };
    let soon = u64::try_from(wall_ms()).expect("after 1970") / 1_000 + 1;
    scene.set(&key(&scene, "letgo.log", 0), &of(scene.path("letgo.log"), -2, soon));
    scene.set(&key(&scene, "older.log", 0), &of(scene.path("older.log"), 0, soon));
    let has_births = fs::metadata(scene.path("reused.log")).is_ok_and(|found| found.created().is_ok());
    if has_births {
        scene.set(&key(&scene, "reused.log", 0), &of(scene.path("reused.log"), -1, 1_700_000_000));
    }
    // Written anew, and renamed to where no glob looks.
    scene.file("rotated.log").native("rotated.log", 15);
    fs::rename(scene.path("rotated.log"), scene.path("rotated.old")).expect("renamed");
    // The same inode number on another device, under another name.
    scene.set(&key(&scene, "moved.log", 1), &of(scene.path("gone.log"), -1, soon));
    let reused = if has_births { "it is another file" } else { "no usable entry" };
    scene.check(&[
        (Outcome::FromStart, "beyond.log", "offset 891 is beyond its end"),
        (Outcome::FromStart, "broken.log", "no line ends at offset 15"),
        (Outcome::FromStart, "letgo.log", "ttl -2"),
        (Outcome::FromStart, "moved.log", "no usable entry"),
        (Outcome::FromStart, "older.log", "ttl 0"),
        (Outcome::FromStart, "reused.log", reused),
        (Outcome::FromStart, "zipped.log", "compressed"),
        (Outcome::Skipped, "gone.log", "another device"),
        (Outcome::Skipped, "rotated.old", "no line ends at offset 15: it was written anew, or is another file; and no"),
    ]);
    let loaded = load(&scene.config().state_dir).expect("readable");
    assert!(loaded.files.is_empty() && !loaded.first_start, "`start: end` must not skip what was told to be read");
}

#[test]
fn what_is_gone_or_unclear_is_told() {
    let mut scene = Scene::new();
    scene.file("gone-1.log").file("twins.log").file("links.log").file("nobody.txt");
    fs::copy(scene.path("twins.log"), scene.path("twins-2.log")).expect("copied");
    symlink(scene.path("links.log"), scene.path("link.log")).expect("linked");
    scene.native("gone-1.log", HUNDRED).native("nobody.txt", HUNDRED);
    scene.filestream("gone-2.log", "path", "/gone-2.log", HUNDRED);
    let twins = fs::read(scene.path("twins.log")).expect("readable");
    scene.filestream("was.log", "fingerprint", &sha256(&twins[..100]), HUNDRED);
    scene.filestream("lost.log", "fingerprint", &"0".repeat(64), HUNDRED);
    scene.filestream("odd.log", "by_name", "x", HUNDRED);
    scene.set("journald::x", &json!({"cursor": {}}));
    fs::remove_file(scene.path("gone-1.log")).expect("removed");
    let how = TakeOver { fingerprint: (0, 100), ..HOW };
    let rows = scene.run(how);
    let reason = |name: &str| &rows.iter().find(|row| row.path.ends_with(name)).expect("told").reason;
    for (name, words) in [
        ("gone-1.log", "it is gone: there is no inode"),
        ("gone-2.log", "it is gone"),
        ("/was.log", "2 files could be it"),
        ("lost.log", "no file of the inputs has this fingerprint of 100 bytes"),
        ("odd.log", "not understood"),
        ("nobody.txt", "no input matches it"),
        ("journald::x", "not an entry of a file input"),
    ] {
        assert!(reason(name).contains(words), "{name}: {}", reason(name));
    }
    let from_start: Vec<_> = rows.iter().filter(|row| row.outcome == Outcome::FromStart).map(|row| &row.path).collect();
    assert_eq!(
        from_start,
        ["links.log", "twins-2.log", "twins.log"]
            .map(|name| scene.path(name).display().to_string())
            .iter()
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_file_under_two_inputs_belongs_to_neither() {
    let mut scene = Scene::new();
    scene.file("app-1.log").native("app-1.log", 710);
    let config = scene.config_of(&["logs/*.log", "*/app*"]);
    let rows = take_over_filebeat(&config, &scene.registry(), HOW).expect("the registry is read").rows;
    let told: Vec<_> = rows.iter().map(|row| (row.outcome, row.input.as_deref())).collect();
    assert_eq!(told, [(Outcome::FromStart, Some("a")), (Outcome::FromStart, Some("b")), (Outcome::Skipped, None)]);
    assert!(rows[2].reason.contains("several inputs match it (a, b)"), "{}", rows[2].reason);
}

#[test]
fn of_two_entries_the_lower_offset_counts() {
    for offsets in [[710, 440], [440, 710]] {
        let mut scene = Scene::new();
        scene.file("app-1.log");
        let found = fs::metadata(scene.path("app-1.log")).expect("there");
        for (stream, offset) in ["stdout", "stderr"].into_iter().zip(offsets) {
            let of = format!("{}-{}-{stream}", found.ino(), found.dev());
            scene.filestream("app-1.log", "native", &of, offset);
        }
        let rows = scene.run(HOW);
        assert_eq!(rows.iter().map(|row| row.outcome).collect::<Vec<_>>(), [Outcome::TakenOver, Outcome::Skipped]);
        assert!(rows[1].reason.contains("lower offset, 440, which counts"), "{rows:#?}");
        assert_eq!(scene.offsets().into_values().collect::<Vec<_>>(), [440]);
    }
}

#[test]
fn a_checkpoint_with_entries_is_not_overwritten_and_a_merge_believes_it() {
    let mut scene = Scene::new();
    scene.file("app-1.log").native("app-1.log", 440);
    scene.run(HOW);
    scene.file("app-2.log").native("app-1.log", 710).native("app-2.log", 710);
    for dry_run in [true, false] {
        let refused = take_over_filebeat(&scene.config(), &scene.registry(), TakeOver { dry_run, ..HOW });
        let error = refused.expect_err("has entries").to_string();
        assert!(error.contains("knows 1 file(s) already") && error.contains("--merge"), "{error}");
    }
    let rows = scene.run(TakeOver { merge: true, ..HOW });
    let told: Vec<_> = rows.iter().map(|row| (row.outcome, row.offset)).collect();
    assert_eq!(told, [(Outcome::TakenOver, Some(710)), (Outcome::Kept, Some(710))]);
    assert_eq!(scene.offsets().into_values().collect::<Vec<_>>(), [440, 710]);
}

#[test]
fn a_dry_run_writes_nothing_and_a_running_filebeat_or_agent_is_told() {
    let mut scene = Scene::new();
    scene.file("app-1.log").native("app-1.log", 440);
    let lock = File::create(scene.folder.path().join("data/filebeat.lock")).expect("made");
    lock.lock().expect("locked");
    let dry = TakeOver { dry_run: true, ..HOW };
    let taken = take_over_filebeat(&scene.config(), &scene.registry(), dry).expect("only says what it would do");
    assert!(taken.filebeat_runs && taken.rows[0].outcome == Outcome::TakenOver);
    assert!(!scene.config().state_dir.exists());
    let refused = || take_over_filebeat(&scene.config(), &scene.registry(), HOW).expect_err("is refused").to_string();
    assert!(refused().contains("Filebeat is running"), "{}", refused());
    drop(lock);
    let _agent = Store::open(&scene.config().state_dir).expect("opens");
    assert!(refused().contains("in use by process"), "{}", refused());
}

#[test]
fn a_damaged_registry_gives_what_is_before_the_damage() {
    let mut scene = Scene::new();
    scene.file("app-1.log").native("app-1.log", 440).native("app-1.log", 710);
    let log = scene.log.trim_end().strip_suffix('}').expect("an object").to_owned();
    fs::write(scene.registry().join("log.json"), log).expect("written");
    let taken = take_over_filebeat(&scene.config(), &scene.registry(), HOW).expect("the registry is read");
    assert!(taken.damage[0].contains("log.json: operation 2 is not complete at byte"), "{:?}", taken.damage);
    assert_eq!(scene.offsets().into_values().collect::<Vec<_>>(), [440]);
}
