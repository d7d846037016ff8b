//! The windows as a table; the lines themselves from a process of their own, as `init` can be called once in a process.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use tracing::{Metadata, callsite::Callsite};

use super::{
    repeats::{EVENTS_MAX, Held, Verdict, WINDOW, Windows},
    *,
};

/// A place in the code, as the windows know it.
fn place(name: &str) -> (tracing::callsite::Identifier, Option<String>) {
    (metadata().callsite(), Some(name.to_owned()))
}

fn metadata() -> &'static Metadata<'static> {
    static PLACE: std::sync::LazyLock<&'static Metadata<'static>> = std::sync::LazyLock::new(|| {
        let callsite = tracing::callsite! { name: "here", kind: tracing::metadata::Kind::EVENT, fields: message };
        callsite.metadata()
    });
    *PLACE
}

/// Ten events a second at each of `seconds`; returns how many passed.
fn passed(windows: &mut Windows, name: &str, start: Instant, seconds: std::ops::Range<u64>) -> usize {
    let times = seconds.flat_map(|s| (0..10).map(move |tenth| Duration::from_millis(s * 1000 + tenth * 100)));
    times.filter(|time| windows.admit(place(name), metadata(), start + *time) == Verdict::Pass).count()
}

fn counts(held: &[Held]) -> Vec<u64> {
    held.iter().map(|held| held.suppressed).collect()
}

#[test]
fn five_pass_in_a_window_and_the_rest_is_counted_once() {
    let (mut windows, start) = (Windows::new(WINDOW), crate::clock::monotonic());
    assert_eq!(passed(&mut windows, "a", start, 0..10), 5);
    assert_eq!(windows.due(start), Some(start + WINDOW));
    assert_eq!(counts(&windows.close(start + WINDOW - Duration::from_millis(1))), [0_u64; 0]);
    assert_eq!(counts(&windows.close(start + WINDOW)), [95]);
    assert_eq!(counts(&windows.close(start + 2 * WINDOW)), [0_u64; 0], "told once");
    assert_eq!(windows.due(start), None);
}

#[test]
fn a_next_window_lets_five_pass_again_and_the_count_of_the_last_is_kept() {
    let (mut windows, start) = (Windows::new(WINDOW), crate::clock::monotonic());
    assert_eq!(passed(&mut windows, "a", start, 0..25), 15);
    assert_eq!(windows.due(start), Some(start), "two windows are over");
    assert_eq!(counts(&windows.close(start + Duration::from_secs(25))), [95, 95]);
    assert_eq!(counts(&windows.close(start + Duration::from_secs(30))), [45]);
}

#[test]
fn places_do_not_silence_each_other() {
    let (mut windows, start) = (Windows::new(WINDOW), crate::clock::monotonic());
    assert_eq!(passed(&mut windows, "a", start, 0..1), 5);
    assert_eq!(passed(&mut windows, "b", start, 0..1), 5);
}

#[test]
fn what_stays_below_the_limit_is_never_told() {
    let (mut windows, start) = (Windows::new(WINDOW), crate::clock::monotonic());
    for _ in 0..EVENTS_MAX {
        assert_eq!(windows.admit(place("a"), metadata(), start), Verdict::Pass);
    }
    assert_eq!(windows.due(start), None);
    assert_eq!(windows.admit(place("a"), metadata(), start), Verdict::FirstHeld);
    assert_eq!(windows.admit(place("a"), metadata(), start), Verdict::Held);
}

/// What a process logs that says the same 9 times, waits for the window to end, and says something else at each level.
fn lines_of_a_process(format: &str, level: &str) -> Vec<String> {
    let myself = std::env::current_exe().expect("the test binary has a path");
    let output = Command::new(myself)
        .args(["--exact", "logs::tests::child", "--nocapture"])
        .env("TAILRACE_LOGS_CHILD", format!("{format} {level}"))
        .output()
        .expect("the test binary starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn child() {
    let Ok(wish) = std::env::var("TAILRACE_LOGS_CHILD") else { return };
    let (format, level) = wish.split_once(' ').expect("two words");
    let yaml = format!("format: {format}\nlevel: {level}\n");
    let config = crate::load::parse_config(std::path::Path::new("logs.yaml"), &yaml).expect("a sound config");
    init_with(&config, Duration::from_millis(200)).expect("the first call");
    assert!(init(&config).is_err(), "a second call is refused");
    for turn in 0..9 {
        tracing::warn!(turn, "disk full");
    }
    for target in ["librdkafka", "other", "librdkafka", "other"].repeat(3) {
        // As tracing-log hands over what crates say through `log`: all from one place, with the target in a field.
        tracing::warn!(target: "log", { log.target = target }, "by {target}");
    }
    tracing::info!(answer = 42, "told");
    tracing::debug!("whispered");
    std::thread::sleep(Duration::from_millis(600));
}

#[test]
fn a_repeated_warning_becomes_a_count_in_text() {
    let lines = lines_of_a_process("text", "info");
    let with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!((with("disk full turn="), with("told answer=42"), with("whispered")), (5, 1, 0), "{lines:#?}");
    assert_eq!((with("by librdkafka"), with("by other"), with("suppressed=1")), (5, 5, 2), "{lines:#?}");
    assert_eq!((with("suppressed=4"), with("logs/tests.rs:")), (1, 3), "{lines:#?}");
    assert!(!lines.concat().contains('\u{1b}'), "no terminal codes: {lines:#?}");
}

#[test]
fn json_has_one_object_a_line_and_the_count_as_a_field() {
    let lines = lines_of_a_process("json", "service=debug");
    let events: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let with = |key: &str, value: serde_json::Value| events.iter().filter(|event| event[key] == value).count();
    assert_eq!((with("message", "disk full".into()), with("message", "whispered".into())), (5, 1), "{events:#?}");
    assert_eq!((with("suppressed", 4.into()), with("answer", 42.into())), (1, 1), "{events:#?}");
    assert!(events.iter().all(|event| event["timestamp"].is_string() && event["level"].is_string()), "{events:#?}");
}

#[test]
fn the_count_is_told_even_if_the_level_hides_this_crate() {
    let lines = lines_of_a_process("text", "error,service::logs::tests=warn");
    assert!(lines.iter().any(|line| line.contains("suppressed=4")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("told")), "{lines:#?}");
}

#[test]
fn a_level_is_checked_where_it_is_written() {
    let read = |yaml: &str| crate::load::parse_config::<LogConfig>(std::path::Path::new("a.yaml"), yaml);
    assert_eq!(read("{}").expect("all defaults"), LogConfig::default());
    assert_eq!(read("level: info,indexer=debug").expect("by crate").level, "info,indexer=debug");
    let error = read("format: json\nlevel: loud\n").expect_err("no such level").to_string();
    assert!(error.starts_with("a.yaml:2:8: `loud` is not a log level: expected error, warn, info"), "{error}");
    let error = read("format: xml\n").expect_err("no such format").to_string();
    assert!(error.starts_with("a.yaml:1:9: unknown variant `xml`"), "{error}");
}
