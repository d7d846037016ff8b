//! Wrong configs, each with the message a person gets, and secrets that must not be in any of them.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    name: String,
    memory: ByteSize,
    kafka: Option<Kafka>,
    on: bool,
    any: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kafka {
    topic: String,
    #[serde(default, with = "duration")]
    linger: Duration,
    password: Option<Secret>,
    login: Option<Secret>,
}

fn read(text: &str) -> Result<Config, ConfigError> {
    parse_config(Path::new("agent.yaml"), text)
}

/// The whole error begins with `start`.
#[track_caller]
fn refuses(text: &str, start: &str) {
    let error = read(text).expect_err("refused").to_string();
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn a_config_is_read_with_its_units() {
    let text = "name: web-01\nmemory: 64MiB\nkafka: {topic: logs, linger: 250ms}\non: true\n";
    let kafka = Kafka { topic: "logs".into(), linger: Duration::from_millis(250), password: None, login: None };
    let memory = ByteSize(64 << 20);
    let expected = Config { name: "web-01".into(), memory, kafka: Some(kafka), on: true, any: BTreeMap::new() };
    assert_eq!(read(text).expect("sound"), expected);
}

#[test]
fn an_empty_file_is_all_defaults() {
    for text in ["", "# nothing\n", "{}"] {
        assert_eq!(read(text).map_err(|error| error.to_string()), Ok(Config::default()), "{text:?}");
    }
}

#[test]
fn errors_name_file_line_column_and_what_was_expected() {
    refuses(
        "name: a\nkafka:\n  topic: logs\n  topc: logs\n",
        "agent.yaml:4:3: unknown field `topc`, expected one of topic, linger, password",
    );
    refuses("name: a\nmemory: [1]\n", "agent.yaml:2:1: invalid type: sequence, expected bytes as a whole number");
    refuses("kafka:\n  topic: [a]\n", "agent.yaml:2:10: ");
    refuses("kafka:\n  linger: 1s\n", "agent.yaml:2:3: missing field `topic`");
    refuses("name: a\nmemory: 1MiB\nname: b\n", "agent.yaml:3:1: duplicate mapping key `name`");
    refuses(
        "kafka:\n  topic: logs\n  linger: 30\n",
        "agent.yaml:3:11: `30` is not a duration: expected a whole number with its unit",
    );
    refuses("memory: 64 megs\n", "agent.yaml:1:9: `64 megs` is not a size: expected bytes");
    refuses("memory: -1\n", "agent.yaml:1:9: `-1` is not a size: expected bytes");
    refuses("on: yes\n", "agent.yaml:1:5: invalid boolean");
    refuses("name: a\nkafka: [\n", "agent.yaml:");
    refuses("name: a\n\ton: true\n", "agent.yaml:1:7: while scanning a plain scalar, found a tab");
    refuses("name: \"a\n", "agent.yaml:1:7: unclosed quote");
    refuses("a: 1\n---\nb: 2\n", "agent.yaml:1:1: unknown field `a`");
    refuses("name: a\n---\nname: b\n", "agent.yaml:2:1: more than one YAML document");
    refuses("name: *nobody\n", "agent.yaml:1:7: reference to unknown");
}

#[test]
fn the_line_is_shown_with_a_caret_below_the_column() {
    let error = read("name: a\nkafka:\n  topic: logs\n  topc: logs\n").expect_err("refused").to_string();
    let (_, snippet) = error.split_once('\n').expect("a snippet");
    assert_eq!(snippet, "   4 |   topc: logs\n     |   ^");
}

#[test]
fn hostile_yaml_ends_quickly() {
    let mut laughs = "any:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let again = vec![format!("*a{}", n - 1); 10].join(", ");
        laughs.push_str(&format!("  a{n}: &a{n} [{again}]\n"));
    }
    let start = crate::clock::monotonic();
    refuses(&laughs, "agent.yaml:5:47: YAML document too large or too complex: total_replayed_events=10001");
    refuses(&format!("any: {{a: {}}}\n", "[".repeat(100_000)), "agent.yaml:1:");
    refuses(
        &format!("any:\n{}", (1..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>()),
        "agent.yaml:",
    );
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let nested = |depth: usize| format!("any: {{a: {}{}}}\n", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(60)).is_ok(), "60 lists and two maps are within 64");
    assert!(read(&nested(65)).is_err());
    refuses(&format!("name: {}\n", "x".repeat(1024 * 1024)), "agent.yaml: larger than 1048576 bytes");
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("agent.yaml");
    let told =
        || read_config::<Config>(&path).expect_err("refused").to_string().replace(&path.display().to_string(), "F");
    assert!(told().starts_with("F: cannot be read: No such file"), "{}", told());
    std::fs::write(&path, b"name: a\nkafka: \xff\n").expect("writable");
    assert_eq!(told(), "F:2:8: not UTF-8: save the file as UTF-8");
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).expect("writable");
    assert!(told().starts_with("F: larger than 1048576 bytes"), "{}", told());
    let cut = [vec![b'#'; 1024 * 1024], "é".into()].concat();
    std::fs::write(&path, cut).expect("writable");
    assert!(told().starts_with("F: larger than 1048576 bytes"), "the limit falls within a character: {}", told());
    std::fs::write(&path, "name: b\n").expect("writable");
    assert_eq!(read_config::<Config>(&path).expect("sound").name, "b");
}

const CANARY: &str = "canary-4711";

/// Refused with `message`, and the canary is nowhere in the error.
#[track_caller]
fn keeps_secret(text: &str, message: &str) {
    let error = read(text).expect_err("refused");
    assert!(error.to_string().contains(message), "{error}");
    assert!(!format!("{error} {error:?} {error:#?}").contains("4711"), "{error:?}");
}

#[test]
fn a_secret_is_a_reference_and_errors_never_show_its_value() {
    let how = "expected a secret written as ${env:NAME} or ${file:PATH}, found a literal";
    keeps_secret(&format!("kafka:\n  topic: a\n  password: {CANARY}\n"), how);
    keeps_secret("kafka:\n  topic: a\n  password: 4711\n", &format!("agent.yaml:3:13: {how}"));
    keeps_secret("kafka:\n  topic: a\n  password: -4711.5\n", how);
    keeps_secret(&format!("kafka:\n  topic: a\n  password: |\n    {CANARY}\n"), how);
    keeps_secret(&format!("kafka: {{topic: a, password: {CANARY}}}\n"), how);
    keeps_secret(&format!("kafka:\n  topic: a\n  password: [{CANARY}]\n"), "expected a secret");
    keeps_secret(&format!("kafka:\n  topic: a\n  password: x${{env:{CANARY}\n"), how);
    keeps_secret("kafka:\n  topic: a\n  password: ${vault:x}\n", "found another reference");
    keeps_secret("kafka:\n  topic: a\n  password: ${env:}\n", "found another reference");
    keeps_secret(
        "kafka:\n  topic: a\n  password: ${env:TAILRACE_NO_SUCH}\n",
        "environment variable TAILRACE_NO_SUCH is not set",
    );
    keeps_secret("kafka:\n  topic: a\n  password: ${file:/no/such}\n", "file /no/such cannot be read: No such file");
}

#[test]
fn errors_beside_a_literal_secret_do_not_show_it_either() {
    keeps_secret(&format!("kafka: {{password: {CANARY}, topc: a}}\n"), "agent.yaml:1:");
    keeps_secret(&format!("kafka: {{topc: a, password: {CANARY}}}\n"), "agent.yaml:1:9: unknown field `topc`");
    keeps_secret(&format!("kafka:\n  pasword: 1\n  api_key: {CANARY}\n"), "agent.yaml:2:3: unknown field `pasword`");
    keeps_secret(&format!("kafka:\n  Client_Secret: {CANARY}\n"), "agent.yaml:2:3: unknown field `Client_Secret`");
    keeps_secret(&format!("kafka:\n  password: >\n    a\n    {CANARY}: [\n  topic: [\n"), "agent.yaml:");
    keeps_secret(&format!("kafka:\n  topic: a\n  login: {CANARY}\n"), "agent.yaml:3:10: expected a secret");
    keeps_secret(&format!("any:\n  password:\n    \"{CANARY}\n"), "agent.yaml:3:5: unclosed quote");
    keeps_secret(&format!("kafka:\n  password: \"{CANARY}\n  topic: a\n"), "agent.yaml:");
    keeps_secret(&format!("kafka:\n  password: &{CANARY}\n    - b\n   c: d\n"), "agent.yaml:");
}

#[test]
fn a_secret_is_resolved_and_shows_as_stars() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("password");
    let text = format!("kafka:\n  topic: a\n  password: ${{file:{}}}\n", path.display());
    let exposed = |content: &[u8]| {
        std::fs::write(&path, content).expect("writable");
        let config = read(&text).map_err(|error| error.to_string())?;
        assert!(format!("{config:?}").contains("***") && !format!("{config:?}").contains("4711"), "{config:?}");
        let secret = config.kafka.and_then(|kafka| kafka.password).expect("it is set");
        assert_eq!(secret.to_string(), "***");
        Ok::<_, String>(secret.expose().to_owned())
    };
    assert_eq!(exposed(b"canary-4711\n").as_deref(), Ok(CANARY));
    assert_eq!(exposed(b"canary-4711\r\n").as_deref(), Ok(CANARY));
    assert_eq!(
        exposed(b" canary-4711\n\n").as_deref(),
        Ok(" canary-4711\n"),
        "one newline is the file's, not the secret's"
    );
    assert!(exposed(b"\n").is_err_and(|error| error.contains("is empty")));
    assert!(exposed(b"\xff4711").is_err_and(|error| error.contains("is not UTF-8") && !error.contains("4711")));
    assert!(exposed(&[b'x'; 70_000]).is_err_and(|error| error.contains("is larger than 65536 bytes")));
    // Cargo sets it for every test.
    let env = read("kafka:\n  topic: a\n  password: ${env:CARGO_PKG_NAME}\n").expect("sound");
    assert_eq!(env.kafka.and_then(|kafka| kafka.password).expect("it is set").expose(), "service");
}

#[test]
fn references_are_only_for_secrets() {
    let config = read("name: ${env:HOME}\nkafka: {topic: \"${file:/etc/passwd}\"}\n").expect("sound");
    assert_eq!(
        (config.name.as_str(), config.kafka.expect("set").topic.as_str()),
        ("${env:HOME}", "${file:/etc/passwd}")
    );
}

#[test]
fn units() {
    let duration = |text: &str| parse_duration(text).map(|d| d.as_millis()).map_err(drop);
    for (text, ms) in
        [("100ms", 100), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000), ("0s", 0)]
    {
        assert_eq!(duration(text), Ok(ms), "{text}");
    }
    for text in
        ["", "30", "s", "-1s", "1.5s", "1 fortnight", "1S", "1e3s", "99999999999999999999s", "18446744073709551615d"]
    {
        assert_eq!(duration(text), Err(()), "{text}");
    }
    let size = |text: &str| text.parse::<ByteSize>().map(|size| size.0).map_err(drop);
    for (text, bytes) in
        [("0", 0), ("512B", 512), ("20MB", 20_000_000), ("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("2kB", 2000)]
    {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in ["", "MiB", "1.5MiB", "-1", "64mib", "64M", "20000000TiB", "0x10"] {
        assert_eq!(size(text), Err(()), "{text}");
    }
    for (bytes, text) in [(0, "0B"), (1000, "1000B"), (65_536, "64KiB"), (64 << 20, "64MiB"), (3 << 30, "3GiB")] {
        assert_eq!(ByteSize(bytes).to_string(), text);
        assert_eq!(size(text), Ok(bytes));
    }
}
