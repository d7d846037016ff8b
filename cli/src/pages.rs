//! The examples in deploy/ and the tables in docs/ → compared with the code they describe. Tests only.
//!
//! What the code takes is asked of the code: a key that no struct knows is put into each part of an example, and the error
//! lists the keys that there are.

use crate::agent::AgentFile;
use crate::standalone::StandaloneFile;
use indexer::IndexerConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;
use service::load::{ConfigError, parse_config};
use service::metrics::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

const AGENT: &str = include_str!("../../deploy/agent.example.yaml");
const INDEXER: &str = include_str!("../../deploy/indexer.example.yaml");
const STANDALONE: &str = include_str!("../../deploy/standalone.example.yaml");
const METRICS: &str = include_str!("../../docs/metrics.md");

/// A key that no configuration has.
const STRANGER: &str = "zz_stranger";
/// Maps whose keys are the user's own, or the names of parsers, whose keys docs/lines.md has, or those of `kafka`.
const AGENT_FREE: &[&str] =
    &["inputs[].fields", "inputs[].parsers[]", "kafka.header_fields", "kafka.librdkafka", "outputs[].kafka"];
/// The same of the indexer's: a search cluster among `outputs` has the keys of `elasticsearch`.
const INDEXER_FREE: &[&str] = &["kafka.librdkafka", "outputs[].elasticsearch", "outputs[].kafka.librdkafka"];
/// The same values without any key that has a default.
const AGENT_REQUIRED: &str = "\
    {inputs: [{id: nginx, type: file, paths: [/var/log/nginx/access.log*]}], kafka: {brokers: ['127.0.0.1:9092']}}";
/// The entries that are offered with `# also:`, in the same way.
const AGENT_ALSO_REQUIRED: [&str; 5] = [
    "{id: pipe, type: stdin}",
    "{id: network, type: syslog, protocol: tcp, listen: '127.0.0.1:5140'}",
    "{id: datagrams, type: syslog, protocol: udp, listen: '127.0.0.1:5140'}",
    "{id: local, type: syslog, protocol: unix_dgram, listen: /run/tailrace/log}",
    "{id: journal, type: journald}",
];
const INDEXER_REQUIRED: &str = "\
    {kafka: {brokers: ['127.0.0.1:9092'], topics: [logs]}, elasticsearch: {hosts: ['http://127.0.0.1:9200']}}";

/// Of standalone's: what the other two have.
const STANDALONE_FREE: &[&str] = &["inputs[]", "limits[]", "pipelines", "elasticsearch"];
const STANDALONE_REQUIRED: &str = "\
    {inputs: [{id: nginx, type: file, paths: ['/var/log/nginx/access.log*']}], elasticsearch: {hosts: ['http://127.0.0.1:9200']}}";

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    parse_config(Path::new("example.yaml"), text)
}

#[track_caller]
fn load<T: DeserializeOwned>(text: &str) -> T {
    parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The example without the entries that it offers with `# also:`, and once more with each of them.
fn blocks(example: &str) -> Vec<String> {
    let (mut plain, mut blocks) = (Vec::new(), Vec::<(usize, Vec<String>)>::new());
    let mut inside = None;
    for line in example.lines() {
        let text = inside.and_then(|indent: &str| Some((indent, line.strip_prefix(indent)?.strip_prefix("# ")?)));
        match (line.split_once("# also:"), text) {
            (Some((indent, "")), _) => {
                inside = Some(indent);
                blocks.push((plain.len(), Vec::new()));
            }
            (_, Some((indent, text))) => {
                let block = &mut blocks.last_mut().expect("inside of one").1;
                assert!(!block.is_empty() || text.starts_with("- "), "`{line}` is no entry of a list");
                block.push(format!("{indent}{text}"));
            }
            _ => {
                inside = None;
                plain.push(line.to_owned());
            }
        }
    }
    let with = |(at, block): &(usize, Vec<String>)| [&plain[..*at], block, &plain[*at..]].concat().join("\n");
    std::iter::once(plain.join("\n")).chain(blocks.iter().map(with)).collect()
}

/// The example as it stands and with each entry that it offers; and each of these once more for each `# or:`.
fn variants(example: &str) -> Vec<String> {
    blocks(example).iter().flat_map(|text| with_others(text)).collect()
}

/// `example`, and once more for each `# or:`, with that line in the place of the key above it.
///
/// Secrets refer to a variable that is set wherever tests run.
fn with_others(example: &str) -> Vec<String> {
    let lines: Vec<&str> = example.lines().collect();
    let mut variants = vec![example.to_owned()];
    for (at, line) in lines.iter().enumerate() {
        let Some((indent, other)) = line.split_once("# or: ") else { continue };
        let key = (0..at).rev().find(|&above| !lines[above].contains("# or: ")).expect("a key stands above");
        let name = other.split(':').next().expect("split gives one part");
        assert!(lines[key].starts_with(&format!("{indent}{name}:")), "`{line}` does not follow its key");
        let replaced = format!("{indent}{other}");
        let text: Vec<&str> =
            lines.iter().enumerate().map(|(nth, line)| if nth == key { replaced.as_str() } else { line }).collect();
        variants.push(with_known_secrets(&text.join("\n")));
    }
    variants
}

fn with_known_secrets(text: &str) -> String {
    let mut parts = text.split("${env:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('}').expect("a reference is closed");
        out.push_str("${env:PATH}");
        out.push_str(rest);
    }
    out
}

/// Keys by the path of their map.
type Keys = BTreeMap<String, BTreeSet<String>>;

/// The paths of all maps in `value`, with the keys there; a list counts as its members.
fn keys_written(value: &Value, path: &str, free: &[&str], keys: &mut Keys) {
    match value {
        Value::Object(members) if !free.contains(&path) => {
            keys.entry(path.to_owned()).or_default().extend(members.keys().cloned());
            for (key, value) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                keys_written(value, &path, free, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys_written(item, &format!("{path}[]"), free, keys)),
        _ => {}
    }
}

/// Puts `STRANGER` into the map at `path`.
fn insert(value: &mut Value, path: &str) {
    match (value, path.split_once('.').unwrap_or((path, ""))) {
        (Value::Object(members), ("", _)) => drop(members.insert(STRANGER.to_owned(), Value::Bool(true))),
        (Value::Object(members), (key, rest)) => match key.strip_suffix("[]") {
            Some(list) => insert(&mut members[list][0], rest), // All entries are of one struct.
            None => insert(&mut members[key], rest),
        },
        (other, _) => panic!("{path}: a map is expected in {other}"),
    }
}

/// The keys that `T` takes at `path` of `value`, as the error about a stranger lists them.
fn keys_known<T: DeserializeOwned + Debug>(value: &Value, path: &str) -> BTreeSet<String> {
    let mut value = value.clone();
    insert(&mut value, path);
    let error = parse::<T>(&value.to_string()).expect_err("no struct has such a key").to_string();
    let message = error.lines().next().unwrap_or_default();
    let (_, listed) = message
        .split_once(&format!("unknown field `{STRANGER}`, expected "))
        .unwrap_or_else(|| panic!("at `{path}`: the error is another one: {error}"));
    let words = listed.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.filter(|word| !["one", "of", "or"].contains(word)).map(str::to_owned).collect()
}

/// Every key of `T` stands in the example or in one of its variants, and no other.
fn check_keys<T: DeserializeOwned + Debug>(example: &str, free: &[&str]) {
    let (mut written, mut known) = (Keys::new(), Keys::new());
    for variant in variants(example) {
        let value: Value = load(&variant);
        let mut here = Keys::new();
        keys_written(&value, "", free, &mut here);
        for (path, keys) in here {
            known.entry(path.clone()).or_default().extend(keys_known::<T>(&value, &path));
            written.entry(path).or_default().extend(keys);
        }
    }
    assert!(!known.is_empty() && known.values().all(|keys| !keys.is_empty()), "the errors list no keys: {known:?}");
    assert_eq!(written, known);
}

#[test]
fn every_key_of_the_agent_stands_in_its_example() {
    check_keys::<AgentFile>(AGENT, AGENT_FREE);
}

#[test]
fn every_key_of_the_indexer_stands_in_its_example() {
    check_keys::<IndexerConfig>(INDEXER, INDEXER_FREE);
}

#[test]
fn every_key_of_standalone_stands_in_its_example() {
    check_keys::<StandaloneFile>(STANDALONE, STANDALONE_FREE);
}

#[test]
fn the_defaults_in_the_examples_are_those_of_the_code() {
    let also = AGENT_ALSO_REQUIRED.map(|entry| AGENT_REQUIRED.replacen("}]", &format!("}}, {entry}]"), 1));
    let blocks = blocks(AGENT);
    assert_eq!(blocks.len(), 1 + also.len());
    for (example, required) in blocks.iter().zip([AGENT_REQUIRED.to_owned()].iter().chain(&also)) {
        assert_eq!(format!("{:#?}", load::<AgentFile>(example)), format!("{:#?}", load::<AgentFile>(required)));
    }
    let (example, required) = (load::<StandaloneFile>(STANDALONE), load::<StandaloneFile>(STANDALONE_REQUIRED));
    assert_eq!(format!("{example:#?}"), format!("{required:#?}"));
    let (example, required) = (load::<IndexerConfig>(INDEXER), load::<IndexerConfig>(INDEXER_REQUIRED));
    assert_eq!(format!("{example:#?}"), format!("{required:#?}"));
}

#[test]
fn the_examples_can_be_used_and_so_can_what_they_offer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for variant in variants(AGENT) {
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, &variant).expect("written");
        // Each variant is right by itself, but what is received cannot go to several outputs.
        let has = |text: &str| variant.lines().any(|line| line.trim_start().starts_with(text));
        let is_refused = has("outputs: [{") && (has("type: stdin") || has("type: syslog"));
        match load::<AgentFile>(&variant).compile(&path) {
            Ok(_) => assert!(!is_refused, "{variant}"),
            Err(error) => assert!(is_refused, "{error:#}\n{variant}"),
        }
    }
    for variant in variants(INDEXER) {
        let mut config: IndexerConfig = load(&variant);
        config.pipelines.dir = Some(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/catalog")));
        if let Some(search) = &mut config.elasticsearch {
            search.tls.ca = None; // There is no such file here.
        }
        indexer::check(&config).unwrap_or_else(|error| panic!("{error:#}\n{variant}"));
    }
    indexer::check(&load(INDEXER)).expect("the example itself can be used");
}

/// All metrics of both daemons, each with its labels, as rows of the page: name, kind, labels.
fn metrics_of_the_code() -> BTreeSet<[String; 3]> {
    let registry = Registry::default();
    let agent = agent::AgentMetrics::new(&registry);
    let shipper = shipper::ShipperMetrics::new(&registry);
    let indexer = indexer::metrics::Metrics::new(&registry);
    // A metric with labels is shown only once it has a value. Those of the first two have one label.
    let one_label = [&agent.acknowledged, &agent.filtered, &agent.dropped, &agent.dead_lettered, &agent.lost_bytes];
    let and_more = [&agent.incarnations, &agent.checkpoints, &shipper.failed, &shipper.client_errors];
    let of_streams = [&agent.lost_events, &agent.messages_unparsed, &agent.journal_starts, &agent.unpack_failures];
    let in_bytes = [&agent.bytes_filtered, &agent.bytes_skipped, &agent.bytes_dropped, &agent.reloads];
    let of_indexer = [&indexer.dead_lettered, &indexer.dropped, &indexer.retried, &indexer.bulk_requests];
    let and_others = [&indexer.pipeline_failures, &indexer.commits, &indexer.reloads, &indexer.put_off, &indexer.lost];
    let of_shipper = [&shipper.dead_lettered, &shipper.topic_fallback, &shipper.transactions];
    for counters in one_label
        .iter()
        .chain(&and_more)
        .chain(&in_bytes)
        .chain(&of_streams)
        .chain(&of_indexer)
        .chain(&and_others)
        .chain(&of_shipper)
    {
        counters.with_label_values(&["x"]).inc();
    }
    for counters in [&shipper.limited, &shipper.limited_bytes] {
        counters.with_label_values(&["x", "y"]).inc();
    }
    let statistics = &shipper.statistics;
    statistics.errors.with_label_values(&["x", "y", "z"]).inc();
    statistics.round_trip.with_label_values(&["x", "y", "z"]).set(0);
    statistics.requests_in_flight.with_label_values(&["x", "y"]).set(0);
    for gauges in [&statistics.queue_records, &statistics.queue_bytes] {
        gauges.with_label_values(&["x"]).set(0);
    }
    shipper.overflow_groups_in_flight.with_label_values(&["x"]).set(0);
    for gauges in [&indexer.lag, &indexer.lag_seconds, &indexer.retention_left] {
        gauges.with_label_values(&["x", "0"]).set(0);
    }
    indexer.latency_backward.with_label_values(&["x"]).inc();
    shipper.guarantee.with_label_values(&["x"]).set(0);

    let text = registry.text();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let labels = |name: &str| {
        let labelled = text.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.strip_prefix("_count").unwrap_or(rest).strip_prefix('{')?.split_once('}') // Histograms have none of their bare name.
        });
        let pairs = labelled.map_or("", |(pairs, _)| pairs).split(',');
        pairs.filter_map(|pair| Some(pair.split_once('=')?.0)).collect::<Vec<_>>().join(", ")
    };
    kinds.map(|(name, kind)| [name.to_owned(), kind.to_owned(), labels(name)]).collect()
}

/// Names that stand in the source of the crates' tables: so that a metric with labels cannot be forgotten above.
fn names_in_the_sources() -> BTreeSet<String> {
    let agent = include_str!("../../agent/src/metrics.rs");
    let shipper =
        concat!(include_str!("../../shipper/src/metrics.rs"), include_str!("../../shipper/src/statistics.rs"));
    let indexer = include_str!("../../indexer/src/metrics.rs");
    let mut names = BTreeSet::new();
    for (prefix, source) in [("agent", agent), ("shipper", shipper), ("indexer", indexer)] {
        for call in
            ["counter(\"", "counters(\"", "gauge(\"", "gauge(&name(\"", "gauges(\"", "histogram(\"", "tallies(\""]
        {
            for (_, rest) in source.match_indices(call).map(|(at, _)| source.split_at(at + call.len())) {
                let name = rest.split('"').next().unwrap_or_default();
                let whole = format!("tailrace_{prefix}_{name}");
                names.insert(if name.starts_with("tailrace_") { name.to_owned() } else { whole });
            }
        }
    }
    names
}

#[test]
fn the_page_of_metrics_has_every_metric_and_no_other() {
    let cells = |row: &'static str| row.split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
    let rows = METRICS.lines().filter(|line| line.starts_with("| `tailrace_")).map(cells);
    let page: BTreeSet<_> = rows.map(|cells| [cells[1].clone(), cells[2].clone(), cells[3].clone()]).collect();
    let code = metrics_of_the_code();
    assert_eq!(code.iter().map(|[name, ..]| name.clone()).collect::<BTreeSet<_>>(), names_in_the_sources());
    assert_eq!(page, code);
}
