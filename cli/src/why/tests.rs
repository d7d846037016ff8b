//! Each sentence about the agent, and whole reports: without an agent, with one that is made up, and with a real one.

use super::judge::{Agent, Case, OpenFiles, judge, of_agent};
use super::*;
use crate::agent::{About, Shown as ShownOutput, pages};
use agent::{AgentMetrics, Board};
use serde_json::{Value, json};
use service::health::Health;
use service::http::Pages;
use service::metrics::Registry;
use service::stop::Stop;
use std::fs;

/// A folder with agent.yaml: `inputs`, in which `DIR` is the folder, and where the agent is asked.
fn folder(inputs: &str, listen: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = format!(
        "name: web-01\nstate_dir: DIR/state\nkafka: {{brokers: ['b:1'], topic: t}}\nmetrics: {{listen: '{listen}'}}\ninputs:\n{inputs}"
    );
    let text = text.replace("DIR", &folder.path().display().to_string());
    fs::write(folder.path().join("agent.yaml"), text).expect("written");
    folder
}

/// An address at which nothing answers.
const NOWHERE: &str = "127.0.0.1:1";

fn asked(folder: &Path, name: &str) -> Report {
    let config = folder.join("agent.yaml");
    let file: AgentFile = service::load::read_config(&config).expect("valid");
    let output = outputs(&config, &file).expect("valid").remove(0);
    report(&config, &file, &output, true, &folder.join(name)).expect("can be told")
}

#[track_caller]
fn check(folder: &Path, name: &str, expected: &str) {
    assert_eq!(text(&asked(folder, name)).replace(&folder.display().to_string(), "DIR"), expected);
}

#[test]
fn without_an_agent_it_says_what_one_would_do() {
    let folder = folder("  - {id: a, type: file, paths: [DIR/*.log]}\n", NOWHERE);
    let at = folder.path();
    fs::write(at.join("a.log"), "one\n").expect("written");
    fs::write(at.join("a.txt"), "one\n").expect("written");
    let nobody = "  - the agent does not run: nothing answers at 127.0.0.1:1, and nobody holds DIR/state\n";
    check(
        at,
        "a.log",
        &format!(
            "DIR/a.log: it will be read\n{nobody}\ninput a (DIR/agent.yaml:6:10)\n  \
             matches               paths[0] DIR/*.log\n"
        ),
    );
    check(
        at,
        "a.txt",
        &format!(
            "DIR/a.txt: it is not read\n{nobody}\ninput a (DIR/agent.yaml:6:10)\n  \
             - paths[0] DIR/*.log matches up to DIR; a.txt does not match *.log\n"
        ),
    );
}

#[test]
fn of_several_inputs_those_that_match_are_shown() {
    let inputs = "  - {id: a, type: file, paths: [DIR/*.log]}\n  - {id: b, type: file, paths: [/none/*]}\n  \
        - {id: c, type: file, paths: ['DIR/*']}\n  - {id: d, type: file, paths: ['DIR/*.log'], exclude: [DIR/a.log]}\n";
    let folder = folder(inputs, NOWHERE);
    fs::write(folder.path().join("a.log"), "one\n").expect("written");
    let report = asked(folder.path(), "a.log");
    let told: Vec<_> = report.inputs.iter().map(|input| (input.input.as_str(), input.is_read)).collect();
    assert_eq!(told, [("a", true), ("c", true), ("d", false)]);
    assert_eq!(report.inputs[0].reasons[0].text, "input c reads it too: its lines are shipped once for each");
    assert_eq!(report.inputs[2].reasons[0].rule, "exclude");
    assert_eq!(asked(folder.path(), "/elsewhere").inputs.len(), 4, "none matches: all say why");
}

/// A file as an agent shows it, in input `a`, with these members changed.
fn shown(changed: Value) -> Shown {
    let mut file = json!({"input": "a", "path": "/a.log", "inode": 7, "incarnation": "ab", "generation": 0, "size": 100,
        "offset": 100, "acknowledged": 100, "lag_bytes": 0, "lag_seconds": 0, "read_ms": 1, "acknowledged_ms": 1,
        "is_open": true, "is_listed": true, "waits_for": []});
    file.as_object_mut().expect("an object").extend(changed.as_object().expect("an object").clone());
    serde_json::from_value(file).expect("a file")
}

fn answers(problems: &[(&str, &str)], is_config_newer: bool) -> Agent {
    let problems = problems.iter().map(|(part, problem)| (part.to_string(), problem.to_string()));
    Agent::Answers { problems: problems.collect(), is_config_newer }
}

/// What is said of `/a.log` with `options` of its input, beside `before`.
#[track_caller]
fn judged(
    options: &str,
    followed: Option<&Shown>,
    open: Option<OpenFiles>,
    agent: &Agent,
    expected: &[(&str, Effect, &str)],
) {
    let yaml = format!("[{{id: a, type: file, paths: [/a.log], {options}}}]");
    let configs: Vec<agent::InputConfig> = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
    let input = agent::inputs(&configs).expect("valid").remove(0).into_files().expect("of files");
    let mut reasons = Vec::new();
    judge(&Case { input: &input, path: Path::new("/a.log"), followed, open_files: open }, agent, &mut reasons);
    let found: Vec<_> = reasons.iter().map(|reason| (reason.rule, reason.effect, reason.text.as_str())).collect();
    assert_eq!(found, expected);
}

use Effect::{Stops, Tells, Waits};

#[test]
fn what_is_not_followed_says_what_it_waits_for() {
    let text = "the agent does not follow it yet; it looks every 1 s, and its log says what it cannot read";
    judged("", None, None, &answers(&[], false), &[("not_followed", Waits, text)]);
    let text =
        "the agent does not follow it: the configuration was changed after it started; SIGHUP makes it read its inputs";
    judged("", None, None, &answers(&[], true), &[("reload", Waits, text)]);
    let text = "the agent does not follow it: its last reload failed, so this configuration does not count yet";
    judged("", None, None, &answers(&[("config", "not reloaded: …")], true), &[("reload", Stops, text)]);
}

#[test]
fn what_is_followed_says_what_it_waits_for() {
    judged("", Some(&shown(json!({}))), None, &answers(&[], false), &[]);
    let memory = shown(json!({"waits_for": ["memory: all of it is in flight to the output, for 7 s"]}));
    let told = "reading waits for memory: all of it is in flight to the output, for 7 s; ";
    let silent = format!("{told}its output does not acknowledge");
    judged("", Some(&memory), None, &answers(&[], false), &[("memory", Waits, &silent)]);
    let down = format!("{told}no broker answers");
    judged("", Some(&memory), None, &answers(&[("kafka", "no broker answers")], false), &[("memory", Waits, &down)]);

    let problem = shown(json!({"waits_for": ["it cannot be opened: Permission denied (os error 13)"]}));
    let text = "it cannot be opened: Permission denied (os error 13)";
    judged("", Some(&problem), None, &answers(&[], false), &[("problem", Stops, text)]);

    let text = "it is deleted: its 9 unread bytes are lost when the agent ends";
    judged("", Some(&shown(json!({"at_risk": text}))), None, &answers(&[], false), &[("at_risk", Tells, text)]);

    let flying = shown(json!({"acknowledged": 60, "acknowledged_ms": null}));
    let text = "40 bytes are read and not acknowledged; nothing of it was acknowledged since the agent started";
    judged("", Some(&flying), None, &answers(&[], false), &[("not_acknowledged", Tells, text)]);
    let flying = shown(json!({"acknowledged": 60, "acknowledged_ms": service::clock::wall_ms() - 65_100}));
    let text = "40 bytes are read and not acknowledged; the last acknowledgement came 1 m 5 s ago (kafka: down)";
    judged("", Some(&flying), None, &answers(&[("kafka", "down")], false), &[("not_acknowledged", Tells, text)]);

    let truncated = shown(json!({"generation": 2}));
    let text = "it was truncated 2 time(s) while it was followed";
    judged("", Some(&truncated), None, &answers(&[], false), &[("truncated", Tells, text)]);
    let other = shown(json!({"path": "/b.log"}));
    let text = "it is followed as /b.log (inode 7): a hard link to it, a link, or its former name";
    judged("", Some(&other), None, &answers(&[], false), &[("followed_elsewhere", Tells, text)]);
}

#[test]
fn a_closed_file_waits_for_its_turn() {
    let closed = shown(json!({"is_open": false, "size": 200}));
    let open = |of_input, of_all| Some(OpenFiles { of_input, of_all, max: 9 });
    let text = "it is closed: 2 files of this input are open, and harvester_limit is 2; its turn comes";
    judged("harvester_limit: 2", Some(&closed), open(2, 5), &answers(&[], false), &[("harvester_limit", Waits, text)]);
    let text = "it is closed: 9 files are open, as many as the process may have (ulimit -n); its turn comes";
    judged("harvester_limit: 2", Some(&closed), open(1, 9), &answers(&[], false), &[("open_files", Waits, text)]);
    judged("", Some(&closed), open(1, 8), &answers(&[], false), &[]);
}

#[test]
fn what_is_followed_against_the_configuration_is_read_all_the_same() {
    let mut reasons = vec![Reason::stops("paths", "no glob matches".into())];
    let configs: Vec<agent::InputConfig> =
        service::load::parse_config("agent.yaml".as_ref(), "[{id: a, type: file, paths: [/a]}]").expect("valid");
    let input = agent::inputs(&configs).expect("valid").remove(0).into_files().expect("of files");
    let followed = shown(json!({}));
    let case = Case { input: &input, path: Path::new("/a.log"), followed: Some(&followed), open_files: None };
    judge(&case, &answers(&[], false), &mut reasons);
    assert_eq!(reasons, [Reason::tells("paths", "it is followed, though no glob matches".into())]);
}

#[test]
fn the_agent_itself_is_told() {
    let told = |agent: &Agent| of_agent(agent).into_iter().map(|reason| reason.text).collect::<Vec<_>>();
    let (listen, state_dir) = ("l".to_owned(), "/s".to_owned());
    assert_eq!(
        told(&Agent::Held { listen: listen.clone(), state_dir: state_dir.clone(), process: 7 }),
        ["process 7 holds /s, but nothing answers at l: it is another agent, or one whose metrics.listen is another"]
    );
    assert_eq!(
        told(&Agent::Another { listen, state_dir, process: 7 }),
        [
            "what answers at l is another agent: process 7, with state_dir /s; that of this configuration cannot run beside it"
        ]
    );
    assert_eq!(
        told(&answers(&[("checkpoint", "not written: full"), ("config", "not reloaded: agent.yaml:1:1: bad")], false)),
        [
            "the agent says of checkpoint: not written: full",
            "the agent goes on with its former inputs: not reloaded: agent.yaml:1:1: bad"
        ]
    );
}

/// Serves these pages; the answering agent has the state folder `state_dir` if it is given.
fn serve(pages: Pages, health: &Health) -> String {
    let address = service::http::serve("127.0.0.1:0", Registry::default(), health.clone(), pages, Stop::new().1);
    address.expect("listens").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_agent_is_asked_by_path_and_by_inode() {
    let (queries, health) = (std::sync::Arc::new(std::sync::Mutex::new(Vec::new())), Health::new());
    let seen = queries.clone();
    let files = move |query: &str| {
        seen.lock().expect("whole").push(query.to_owned());
        let open = json!(shown(json!({"path": "/other"})));
        let closed = json!(shown(json!({"is_open": false, "path": "/b.log", "size": 900})));
        match query {
            "" => json!([open, closed]).to_string(),
            query if query.starts_with("path=") => "[]".to_owned(),
            _ => json!([closed]).to_string(),
        }
    };
    health.set("kafka", Some("no broker answers".into()));
    let address = serve(Pages::default().with("/files", files), &health);
    let folder = folder("  - {id: a, type: file, paths: ['DIR/*'], harvester_limit: 1}\n", &address);
    fs::write(folder.path().join("ä b.log"), "x\n".repeat(90)).expect("written");
    let report = asked(folder.path(), "ä b.log");
    let queries = queries.lock().expect("whole").clone();
    assert_eq!(queries[0], format!("path={}/ä b.log", folder.path().display()));
    assert!(queries[1].starts_with("inode=") && queries[2].is_empty(), "{queries:?}");
    assert_eq!((report.verdict, report.reasons[0].rule), ("it is read", "health"));
    let rules: Vec<_> = report.inputs[0].reasons.iter().map(|reason| reason.rule).collect();
    assert_eq!(rules, ["followed_elsewhere", "harvester_limit"]);
    let (open, closed) = (report.inputs[0].followed.clone(), report.inputs[0].offset);
    assert_eq!((open.map(|file| file.path), closed), (Some("/b.log".into()), Some(100)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_agent_with_another_state_folder_is_another() {
    let about =
        About { name: "x".into(), version: String::new(), process: 7, state_dir: "/other".into(), started_ms: 1 };
    let limits = shipper::Limits::new(Vec::new(), 0, shipper::ShipperMetrics::new(&Registry::default()));
    let address = serve(
        pages(vec![ShownOutput { output: "kafka".into(), about, board: Board::default(), limits }]),
        &Health::new(),
    );
    let folder = folder("  - {id: a, type: file, paths: ['DIR/*']}\n", &address);
    fs::write(folder.path().join("a.log"), "x\n").expect("written");
    let report = asked(folder.path(), "a.log");
    assert!(report.reasons[0].text.contains("another agent: process 7, with state_dir /other"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_agent_says_how_far_it_is() {
    let (board, health, registry) = (Board::default(), Health::new(), Registry::default());
    // The address is known before the configuration that names it, so the page of the agent itself comes later.
    let about = std::sync::Arc::new(std::sync::OnceLock::<About>::new());
    let (files, late) = (board.clone(), about.clone());
    let pages = Pages::default()
        .with("/files", move |query| {
            let path = query.strip_prefix("path=").map(PathBuf::from);
            serde_json::to_string(&files.files(path.as_deref())).expect("texts and numbers")
        })
        .with("/agent", move |_| json!(late.get()).to_string());
    let address = serve(pages, &health);
    let folder = folder("  - {id: a, type: file, paths: ['DIR/*.log'], scan_interval: 20ms}\n", &address);
    let (at, log) = (folder.path(), folder.path().join("a.log"));
    fs::write(&log, "one\ntwo\nthr").expect("written");
    let file: AgentFile = service::load::read_config(&at.join("agent.yaml")).expect("valid");
    let config = file.compile(&at.join("agent.yaml")).expect("valid").remove(0).agent;
    about.set(About::new(&config)).expect("is set once");
    let (output, mut groups) = tokio::sync::mpsc::channel(1);
    let (trigger, stop) = Stop::new();
    let running =
        agent::start(config, output, None, AgentMetrics::new(&registry), board.clone(), health, stop).expect("starts");

    let group = groups.recv().await.expect("lines");
    until(|| board.files(None).iter().any(|file| file.size == 11)).await;
    let owed = asked(at, "a.log");
    assert_eq!((owed.verdict, owed.inputs[0].offset, owed.inputs[0].acknowledged), ("it is read", Some(8), Some(0)));
    let rules: Vec<_> = owed.inputs[0].reasons.iter().map(|reason| reason.rule).collect();
    assert_eq!(rules, ["unfinished_line", "not_acknowledged"]);
    group.ack.settle();
    until(|| board.files(None).iter().any(|file| file.acknowledged == 8)).await;
    let settled = asked(at, "a.log");
    assert_eq!((settled.inputs[0].lag_bytes, settled.inputs[0].acknowledged_ms.is_some()), (Some(3), true));
    assert!(settled.inputs[0].incarnation.is_some() && settled.reasons.is_empty(), "{settled:?}");
    fs::rename(&log, at.join("a.log.1")).expect("renamed");
    until(|| board.files(None).iter().any(|file| !file.is_listed)).await;
    let renamed = asked(at, "a.log.1");
    assert_eq!(renamed.verdict, "it is read", "{renamed:?}");
    let gone = asked(at, "a.log");
    let told: Vec<_> = gone.inputs[0].reasons.iter().map(|reason| (reason.rule, reason.text.as_str())).collect();
    let inode = fs::metadata(at.join("a.log.1")).expect("is there").ino();
    let former = format!("the file that had this name before (inode {inode}) is read to its end: 8 of 11 bytes");
    assert!(!gone.is_read && told.contains(&("former", &former)), "{told:?}");

    trigger.stop();
    drop(groups);
    tokio::task::spawn_blocking(|| running.join()).await.expect("ends");
}

async fn until(holds: impl Fn() -> bool) {
    let looks = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), looks).await.expect("comes in time");
}
