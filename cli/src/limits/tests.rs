//! The commands over a folder of the test's own.

use super::*;
use clap::Parser as _;
use service::load::read_config;
use std::fs;

#[derive(clap::Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

/// `arguments` as they are typed; `DIR` is the folder.
fn simulation(folder: &Path, arguments: &str) -> Simulate {
    let arguments = arguments.replace("DIR", &folder.display().to_string());
    match Cli::try_parse_from(std::iter::once("limits").chain(arguments.split(' '))).expect("parses").what {
        What::Simulate(options) => options,
        What::Status { .. } => panic!("another command"),
    }
}

fn folder(limits: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().display();
    let yaml = format!(
        "inputs: [{{id: a, type: file, paths: ['{dir}/a*.log']}}, {{id: b, type: file, paths: ['{dir}/b.log']}}]\n\
         kafka: {{brokers: [b:1]}}\nlimits: {limits}\n"
    );
    fs::write(folder.path().join("agent.yaml"), yaml).expect("written");
    folder
}

#[test]
fn a_log_is_read_by_the_input_whose_paths_match_or_that_is_named() {
    let folder = folder("[{name: p, rate: {events: 10/s}}]");
    let inputs = |arguments: &str| -> Result<String, String> {
        let options = simulation(folder.path(), arguments);
        let file: AgentFile = read_config(&options.config).expect("valid");
        let inputs = configured(&options.config, &file).expect("valid");
        let found = input_of(&options.logs[0], &options, &inputs);
        found.map(|input| input.id.clone()).map_err(|error| error.to_string())
    };
    assert_eq!(inputs("simulate -c DIR/agent.yaml DIR/a7.log"), Ok("a".into()));
    assert_eq!(inputs("simulate -c DIR/agent.yaml --input b DIR/a7.log"), Ok("b".into()));
    let error = inputs("simulate -c DIR/agent.yaml DIR/c.log").expect_err("is refused");
    assert!(error.contains("no input reads") && error.contains("--input: a, b"), "{error}");
    assert!(inputs("simulate -c DIR/agent.yaml --input c DIR/a.log").is_err());
}

#[test]
fn the_table_says_what_becomes_of_each_minute() {
    let minute = Minute {
        start_ms: 1_795_392_000_000,
        events: 100,
        bytes: 2_000,
        passed_events: 60,
        waited_events: 40,
        wait_ms_max: 61_500,
        ..Minute::default()
    };
    let next = Minute { start_ms: minute.start_ms + 60_000, wait_ms_max: 250, dropped_events: 7, ..minute };
    let text = simulated_text(&Simulated { minutes: vec![minute, next], seconds: Vec::new() });
    let expected = "\
MINUTE             LINES  BYTES  PASS  WAIT  DIVERT  DROP  LONGEST WAIT
2026-11-23T00:00Z    100   2000    60    40       0     0  1 m 1 s
2026-11-23T00:01Z    100   2000    60    40       0     7  250 ms
in all               200   4000   120    80       0     7  1 m 1 s
";
    assert_eq!(text, expected);
}

#[test]
fn without_a_plan_there_is_nothing_to_simulate() {
    let folder = folder("[]");
    fs::write(folder.path().join("a.log"), "2026-11-22T00:00:02Z a\n").expect("written");
    let error =
        run_simulation(&simulation(folder.path(), "simulate -c DIR/agent.yaml DIR/a.log")).expect_err("refused");
    assert!(error.is::<Unusable>() && error.to_string().contains("no plan to simulate"), "{error}");
}

#[test]
fn a_plan_that_cannot_be_used_is_told_with_file_line_and_column() {
    let folder = folder("\n  - name: p\n    match: {input: [c]}\n    rate: {events: 10/s}");
    let config = folder.path().join("agent.yaml");
    let file: AgentFile = read_config(&config).expect("it can be read");
    let error = file.compile(&config).err().expect("is refused").to_string();
    let expected = format!("{}:4:11: limit \"p\": match.input: there is no input \"c\"", config.display());
    assert_eq!(error, expected);
}

#[test]
fn the_status_says_how_far_each_plan_is_used_up() {
    let limits = vec![shipper::limit::ShownLimit {
        key: "nginx".into(),
        bytes_room: Some(-5),
        bytes_room_max: Some(2_097_152),
        events_room: None,
        events_room_max: None,
        opens_in_ms: 40,
    }];
    let plan = ShownPlan {
        plan: "day".into(),
        scope: "input".into(),
        excess: "wait".into(),
        is_active: true,
        bytes_per_second: Some(1_048_576.0),
        events_per_second: Some(10.0),
        passed_events: 7,
        passed_bytes: 70,
        diverted_events: 0,
        diverted_bytes: 0,
        dropped_events: 0,
        dropped_bytes: 0,
        holds: 3,
        limits_count: 1,
        limits,
    };
    let expected = "\
PLAN  SCOPE  EXCESS  IN FORCE  RATE          PASSED  DIVERTED  DROPPED  HOLDS
day   input  wait    yes       1MiB/s, 10/s       7         0        0      3

PLAN  OF     ROOM IN BYTES  ROOM IN EVENTS  OPENS IN
day   nginx  -5 of 2097152               -  40 ms
";
    assert_eq!(status_text(&[plan]), expected);
}
