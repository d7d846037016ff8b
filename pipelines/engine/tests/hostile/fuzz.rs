//! Anything at all as a pattern, a script, options or a line: it is refused or it runs, without a panic, in a thread with
//! half the usual stack and within a bound of memory. What goes in is made from real pipelines and lines (`mutate`).
//!
//! Each target runs some thousand seeds; `TAILRACE_SEEDS=N` sets another number, `TAILRACE_TEST_FULL=1` a million.
//! `TAILRACE_SEED=S` runs one again and shows its input. The seed at work stands in `fuzz-TARGET.seed` in the target
//! folder's `tmp`, for what ends the whole process: an overflow of the stack, or a run that never ends.

use crate::corpus::{self, Corpus};
use crate::{STACK_BYTES, mutate, now};
use event::document::Duplicates;
use event::{Event, FieldPath};
use fastrand::Rng;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

const SEEDS: u64 = 4_000;
const SEEDS_FULL: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// Something to be fuzzed.
struct Target {
    name: &'static str,
    /// Makes an input and says in `told` what it is, then runs it.
    run: fn(&Corpus, &mut Rng, &mut String),
    /// What a run may hold at a time, in bytes.
    bytes_max: u64,
}

#[test]
fn grok() {
    fuzz(Target {
        name: "grok",
        run: |corpus, rng, told| processor("grok", GROK, corpus, rng, told),
        bytes_max: 256 * MIB,
    });
}

#[test]
fn painless() {
    fuzz(Target { name: "script", run: script, bytes_max: 256 * MIB });
}

#[test]
fn dissect() {
    fuzz(Target {
        name: "dissect",
        run: |corpus, rng, told| processor("dissect", DISSECT, corpus, rng, told),
        bytes_max: 16 * MIB,
    });
}

#[test]
fn kv() {
    fuzz(Target { name: "kv", run: |corpus, rng, told| processor("kv", KV, corpus, rng, told), bytes_max: 64 * MIB });
}

#[test]
fn date() {
    fuzz(Target {
        name: "date",
        run: |corpus, rng, told| processor("date", DATE, corpus, rng, told),
        bytes_max: 16 * MIB,
    });
}

#[test]
fn json() {
    fuzz(Target { name: "json", run: json_text, bytes_max: 16 * MIB });
}

fn fuzz(target: Target) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).name(target.name.to_owned());
    let failures = thread.spawn(move || run_all(&target)).expect("a thread").join().expect("panics are caught");
    assert!(failures.is_empty(), "{} failed\n{}", failures.len(), failures.join("\n"));
}

fn run_all(target: &Target) -> Vec<String> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let corpus = Corpus::read(target.name);
    if let Some(seed) = number("TAILRACE_SEED") {
        return run_one(target, &corpus, seed).1.into_iter().collect();
    }
    let is_full = std::env::var_os("TAILRACE_TEST_FULL").is_some();
    let seeds = number("TAILRACE_SEEDS").unwrap_or(if is_full { SEEDS_FULL } else { SEEDS });
    let note = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}.seed", target.name));
    let noted = File::create(&note).expect("a file in the target folder");
    let (mut most, mut slowest, mut failures, started) = ((0, 0), (Duration::ZERO, 0), Vec::new(), now());
    for seed in 0..seeds {
        noted.write_all_at(format!("{seed:20}\n").as_bytes(), 0).expect("the seed is noted");
        let before = now();
        let (bytes, failure) = run_one(target, &corpus, seed);
        slowest = slowest.max((before.elapsed(), seed));
        most = most.max((bytes, seed));
        failures.extend(failure);
    }
    std::fs::remove_file(&note).ok(); // Another run may have taken it away.
    eprintln!(
        "{}: {seeds} runs in {:.1?}, {} failed; at most {} KiB (seed {}) and {:.1?} (seed {})",
        target.name,
        started.elapsed(),
        failures.len(),
        most.0 / 1024,
        most.1,
        slowest.0,
        slowest.1
    );
    failures
}

/// Runs a seed. The bytes that it held at most, and what went wrong.
fn run_one(target: &Target, corpus: &Corpus, seed: u64) -> (u64, Option<String>) {
    let (mut told, mut result) = (String::new(), Ok(()));
    let memory = allocation_counter::measure(|| {
        result = catch_unwind(AssertUnwindSafe(|| (target.run)(corpus, &mut Rng::with_seed(seed), &mut told)));
    });
    if std::env::var_os("TAILRACE_SEED").is_some() {
        eprintln!("{told}");
    }
    let wrong = match result {
        Err(_) => Some("panicked".to_owned()),
        Ok(()) if memory.bytes_max > target.bytes_max => Some(format!("held {} bytes", memory.bytes_max)),
        Ok(()) => None,
    };
    (memory.bytes_max, wrong.map(|wrong| format!("{} seed {seed} {wrong}: {told}", target.name)))
}

const GROK: &[&str] = &[
    "%{WORD:a}",
    "%{IP:x}",
    "%{DATA:y}",
    "%{GREEDYDATA:z}",
    "%{NUMBER:n:int}",
    "%{QS}",
    "%{A}",
    "%{B:b.c:float}",
    "%{",
    "}",
    "(?<x>",
    "(?<a.b>",
    "(?:",
    "(?=",
    "(?!",
    "(?<=",
    "(?<!",
    "(?>",
    "(?i)",
    "(?m:",
    "(?x) ",
    "(?-i:",
    "(?#",
    ")",
    "|",
    "[",
    "]",
    "[^",
    "&&[",
    "[[:alpha:]]",
    "[[:^digit:]]",
    "\\p{L}",
    "\\p{^Lu}",
    "\\P{Greek}",
    "\\x41",
    "\\x{10FFFF}",
    "\\u00e9",
    "\\o{17}",
    "\\Q",
    "\\E",
    "\\K",
    "\\G",
    "\\A",
    "\\z",
    "\\Z",
    "\\b",
    "\\B",
    "\\h",
    "\\R",
    "\\X",
    "\\d",
    "\\D",
    "\\w",
    "\\s",
    "\\S",
    "\\1",
    "\\k<x>",
    "\\g<x>",
    ".",
    ".*",
    ".+?",
    "*",
    "+",
    "?",
    "*+",
    "{2}",
    "{,3}",
    "{2,}",
    "{1,1000}",
    "{99999}",
    "^",
    "$",
    " ",
    "-",
    ":",
    "\\",
    "é",
];

const DISSECT: &[&str] = &[
    "%{a}",
    "%{b}",
    "%{+a}",
    "%{+a/2}",
    "%{+a/1}",
    "%{+a/99999}",
    "%{?a}",
    "%{*k}",
    "%{&k}",
    "%{a->}",
    "%{->}",
    "%{}",
    "%{a.b}",
    "%{a.0}",
    "%{_index}",
    "%{_ingest.a}",
    "%{a:int}",
    " ",
    "  ",
    ",",
    "-",
    "%",
    "}",
    "{",
    "%%",
    "[",
    "]",
    ".",
    "\\",
];

const KV: &[&str] = &[
    " ",
    "=",
    "&",
    ":",
    ",",
    "\\s*",
    "(",
    ")",
    "[",
    "]",
    "[^",
    "|",
    "*",
    "+",
    "?",
    "{2}",
    "^",
    "$",
    ".",
    ".*",
    "\\b",
    "\\d",
    "\\Q",
    "\\E",
    "&&",
    "a=1",
    "a.b=2",
    "a.b.c=",
    "=x",
    "a.0=1",
    "_index=x",
    "_ingest.a=1",
    ".=1",
    "\"",
    "'",
    "<",
    ">",
    "<a>",
    "{{a}}",
    "a..b=1",
    "\\p{Alpha}",
    "(?i)",
    "-",
];

const DATE: &[&str] = &[
    "yyyy",
    "yy",
    "uuuu",
    "YYYY",
    "MM",
    "MMM",
    "MMMM",
    "LLL",
    "dd",
    "d",
    "DDD",
    "e",
    "EEE",
    "EEEE",
    "HH",
    "hh",
    "K",
    "k",
    "a",
    "mm",
    "ss",
    "SSS",
    "SSSSSSSSS",
    "A",
    "n",
    "N",
    "VV",
    "z",
    "zzzz",
    "O",
    "X",
    "XXX",
    "x",
    "Z",
    "ZZZZZ",
    "w",
    "W",
    "G",
    "Q",
    "p",
    "''",
    "'",
    "'T'",
    "[",
    "]",
    "[.SSS]",
    "ISO8601",
    "UNIX",
    "UNIX_MS",
    "TAI64N",
    "epoch_millis",
    "strict_date_time",
    "||",
    "-",
    "/",
    ":",
    ".",
    " ",
    "+02:00",
    "-2359",
    "+18:00",
    "Z",
    "UTC",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Mon",
    "Jan",
    "December",
    "PM",
    "24",
    "23:59:60",
    "29 Feb",
    "0000",
    "-0001",
    "+999999999",
    "2024-02-29T23:59:59.999999999Z",
    "@400000005d4b1b2c1234abcd",
    "1555555555.123",
    "{{a}}",
    "en",
    "ENGLISH",
    "en-US",
    "und",
];

const SCRIPT: &[&str] = &[
    "ctx",
    ".a",
    ".b",
    "?.c",
    "[0]",
    "['k']",
    " = ",
    " == ",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " << ",
    " >>> ",
    " & ",
    " ^ ",
    "~",
    " && ",
    " || ",
    "!",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    ", ",
    ";",
    "1",
    "2L",
    "2.5",
    "1e308",
    "0x7f",
    "'é€x'",
    "\"\\n\"",
    "null",
    "true",
    "def x = ",
    "x",
    "int i = ",
    "i",
    "if (",
    " else ",
    "for (def e : ",
    "for (int i = 0; i < 9; i++) ",
    "while (x < 3) ",
    "do { ",
    "return ",
    "break;",
    "continue;",
    "throw ",
    "try { ",
    "} catch (Exception e) { ",
    " instanceof ",
    "List",
    "Map",
    "String",
    "(int)",
    "(char)",
    "(String)",
    "(byte)",
    ".add(1)",
    ".add(0, x)",
    ".put('k', 1)",
    ".get(0)",
    ".substring(1)",
    ".substring(2, 1)",
    ".length()",
    ".size()",
    ".removeIf(v -> v == null)",
    ".charAt(1)",
    ".replace('é', '')",
    ".splitOnToken(',')",
    ".split(',')",
    ".subList(1, 9)",
    "[1, 2]",
    "['k': 1]",
    "[:]",
    "new HashMap()",
    "new ArrayList()",
    "new StringBuilder()",
    "new int[5]",
    "new byte[-1]",
    "new def[2000000000]",
    "Math.max(1, 2)",
    "Math.floorMod(1, 0)",
    "Integer.parseInt('7')",
    "Integer.MIN_VALUE",
    "Long.MIN_VALUE",
    " / -1",
    " % -1",
    " =~ /x/",
    " ==~ /(a|b)*c/",
    " ?: ",
    " ? ",
    "++",
    "--",
    ".keySet()",
    ".entrySet()",
    ".values()",
    ".stream()",
    ".map(x -> x)",
    ".collect(Collectors.toList())",
    ".toString()",
    ".hashCode()",
    ".indexOf('x')",
    "def f(def x) { ",
    "f(1)",
    ".remove(0)",
    ".sort(null)",
    ".sort((a, b) -> 1)",
    "String.format('%5.2f %s', [1.5, 'a'])",
    "ZonedDateTime.parse('2024-01-01T00:00:00Z')",
    ".plusDays(99999999999L)",
    "Instant.ofEpochMilli(",
    "Duration.ofDays(",
    "ChronoUnit.DAYS.between(",
    "DateTimeFormatter.ofPattern('yyyy')",
    ".toInstant()",
    ".toEpochMilli()",
    "/a+/.matcher('aa')",
    ".find()",
    ".group(1)",
    "params",
    "params.x",
    "emit",
    "Processors.bytes('1kb')",
    "Character.isDigit(",
    "Double.parseDouble(",
    ".repeat(1000)",
    ".toCharArray()",
];

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\\u00zz",
    "\\x",
    "null",
    "true",
    "false",
    "1",
    "-",
    "-0",
    "1e5",
    "1E+400",
    "0.1",
    "01",
    "{\"a\":",
    "[[",
    "\"a\":1",
    "\"\":2",
    "\"a.b\":{}",
    " ",
    "\n",
    "/**/",
    "NaN",
    "Infinity",
    "'a'",
    "\u{0}",
    "\u{1f}",
    "é",
    "😀",
];

/// A processor's options and a document, each like one of those that there are.
fn processor(kind: &'static str, words: &[&str], corpus: &Corpus, rng: &mut Rng, told: &mut String) {
    let case = &corpus.cases[rng.usize(0..corpus.cases.len())];
    let kept = ["field", "target_field", "ignore_missing", "if", "ignore_failure", "on_failure", "description", "tag"];
    let mut options = mutate::options(rng, &case.options, &kept, words, &corpus.texts);
    leave_out(&mut options);
    let field = options.get("field").and_then(Value::as_str).unwrap_or_default().to_owned();
    let event = document(case.docs.as_slice(), &field, words, corpus, rng);
    tell_and_run(&json!({ kind: options }), event, told);
}

/// Takes out what every processor may have, and what would keep this one from running.
fn leave_out(options: &mut Map<String, Value>) {
    for key in ["if", "ignore_failure", "on_failure"] {
        options.remove(key);
    }
}

/// A document: one of `docs` or none, with a text in `field`.
fn document(docs: &[Value], field: &str, words: &[&str], corpus: &Corpus, rng: &mut Rng) -> Event {
    let doc = rng.choice(docs).cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let doc = mutate::value(rng, &doc, words, &corpus.texts).to_string();
    let mut event = match event::Value::from_json(doc.as_bytes()) {
        Ok(event::Value::Object(source)) => Event::new(source),
        _ => Event::default(),
    };
    if let Ok(path) = FieldPath::new(field)
        && (docs.is_empty() || rng.bool())
    {
        let base = &corpus.texts[rng.usize(0..corpus.texts.len())];
        let text = mutate::text(rng, base, words, &corpus.texts);
        event.set(&path, text.into()).ok(); // Where it can't stand it is left out.
    }
    event
}

fn tell_and_run(processor: &Value, event: Event, told: &mut String) {
    *told = format!("{processor}\n{}", event::Value::Object(event.source.clone()).to_json());
    corpus::run(processor, event);
}

/// A script, and the same text as a condition.
fn script(corpus: &Corpus, rng: &mut Rng, told: &mut String) {
    let case = &corpus.cases[rng.usize(0..corpus.cases.len())];
    let base = match case.options.get("source") {
        Some(Value::String(source)) if rng.bool() && !source.contains("while (true)") => source,
        _ => &corpus.conditions[rng.usize(0..corpus.conditions.len())],
    };
    let source = mutate::text(rng, base, SCRIPT, &corpus.conditions);
    let params = case.options.get("params").cloned().unwrap_or_else(|| json!({}));
    let event = document(&case.docs, "a", SCRIPT, corpus, rng);
    let condition = json!({"set": {"field": "z", "value": 1, "if": {"source": source, "params": params}}});
    tell_and_run(&condition, event.clone(), told);
    tell_and_run(&json!({"script": {"source": source, "params": params}}), event, told);
}

/// A text that is nearly JSON: read alone, and by the processor. What can be read can be written and read again.
fn json_text(corpus: &Corpus, rng: &mut Rng, told: &mut String) {
    let case = &corpus.cases[rng.usize(0..corpus.cases.len())];
    let doc = rng.choice(&case.docs).cloned().unwrap_or_default();
    let base = match rng.choice(&corpus.texts) {
        Some(text) if rng.bool() => text.clone(),
        _ => mutate::value(rng, &doc, JSON, &corpus.texts).to_string(),
    };
    let mut bytes = mutate::text(rng, &base, JSON, &corpus.texts).into_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if rng.u8(0..4) == 0 && !bytes.is_empty() {
        let at = rng.usize(0..bytes.len());
        bytes[at] = rng.u8(..);
    }
    *told = format!("{:?}", String::from_utf8_lossy(&bytes));
    event::Value::from_json_with(&bytes, Duplicates::Refuse).ok();
    event::Value::first_json(&bytes, Duplicates::LastWins).ok();
    if let Ok(value) = event::Value::from_json(&bytes) {
        let again = event::Value::from_json(value.to_json().as_bytes()).expect("what was written can be read");
        assert_eq!(again.to_json(), value.to_json());
    }
    let mut options = mutate::options(rng, &case.options, &["field", "target_field"], JSON, &corpus.texts);
    leave_out(&mut options);
    let mut event = Event::default();
    let field = options.get("field").and_then(Value::as_str).unwrap_or_default();
    if let Ok(path) = FieldPath::new(field) {
        event.set(&path, text.into()).expect("it is empty");
    }
    tell_and_run(&json!({"json": options}), event, told);
}
