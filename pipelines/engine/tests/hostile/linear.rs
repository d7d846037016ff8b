//! Time in proportion to the line, whatever it is: a line twice as long takes about twice the steps in every pipeline of the
//! catalog, and one of a megabyte takes milliseconds. Steps are what the engine counts (`event::steps`) and the bytes that
//! it allocates.
//!
//! `cargo test --release -p engine --test hostile linear:: -- --nocapture` measures the lines of a megabyte, with
//! `TAILRACE_TEST_FULL=1` all of them.

use crate::corpus::{self, CATALOG};
use crate::now;
use engine::grok::{Bank, Ecs, Grok};
use engine::{Library, Pipeline};
use event::{Event, Value};
use std::path::Path;
use std::time::Duration;

/// Pieces whose repetition is hard for one pattern or processor or another.
const PIECES: &[&str] = &[
    "a",
    "1",
    " ",
    "0.",
    "a.",
    "a-",
    "1:",
    "::1",
    "\\\"",
    "\"",
    "'",
    "é",
    "/a",
    "Jan 1 1:1:",
    "a@",
    "=\t",
    "x;",
    "(:",
    "127.0.0.1 ",
    "\n",
    "12/",
    "%{",
    "[1] ",
    "2024-01-01T",
    "-\t",
    "http://",
    "a=",
    "a=b ",
    "a=\"b\" ",
    "{\"a\":",
    "[",
    "{",
    "}",
    "<",
    "<b ",
    ",",
    "\\",
    "#",
    "%41",
    "a b ",
    "; ",
    "- ",
];

/// A line to be made of any length.
struct Line {
    /// In front of what is repeated.
    head: String,
    piece: String,
    /// Behind each piece stands its number: all are different.
    is_numbered: bool,
    /// Behind the last one.
    tail: String,
}

impl Line {
    fn new(head: &str, piece: &str, tail: &str) -> Self {
        Self { head: head.to_owned(), piece: piece.to_owned(), is_numbered: false, tail: tail.to_owned() }
    }

    fn text(&self, bytes: usize) -> String {
        let mut text = self.head.clone();
        for nth in 0.. {
            text.push_str(&self.piece);
            if self.is_numbered {
                text.push_str(&format!("{nth}=v "));
            }
            if text.len() + self.tail.len() >= bytes {
                break;
            }
        }
        text + &self.tail
    }
}

/// Lines made of a real one: each part of it is repeated where it stands, or where the line is cut off behind it.
fn lines_of(line: &str) -> Vec<Line> {
    let mut lines = vec![Line::new("", line, "")];
    let mut from = 0;
    while let Some(first) = line.get(from..).and_then(|rest| rest.chars().next()) {
        let rest = line.get(from..).unwrap_or_default();
        let same = |c: char| if first.is_alphanumeric() { c.is_alphanumeric() } else { c == first };
        let length = rest.find(|c| !same(c)).unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(length);
        lines.push(Line::new(
            line.get(..from).unwrap_or_default(),
            piece,
            if lines.len() % 3 == 0 { "" } else { tail },
        ));
        from += length;
    }
    lines
}

fn hostile_lines() -> Vec<Line> {
    let mut lines: Vec<_> = PIECES.iter().map(|piece| Line::new("", piece, "")).collect();
    for piece in ["k", "a.k", "\"k"] {
        lines.push(Line { is_numbered: true, ..Line::new("", piece, "") });
    }
    lines
}

/// Documents for a pipeline: its tests' own, with `message` made long, and any other line.
fn documents(pipeline: &str) -> Vec<(serde_json::Value, Line)> {
    let mut documents = Vec::new();
    for document in corpus::inputs(pipeline) {
        let message = document["message"].as_str().unwrap_or_default().to_owned();
        documents.extend(lines_of(&message).into_iter().map(|line| (document.clone(), line)));
    }
    let plain = || serde_json::json!({});
    documents.extend(hostile_lines().into_iter().map(|line| (plain(), line)));
    documents
}

fn event_of(document: &serde_json::Value, line: &str) -> Event {
    let Ok(Value::Object(mut source)) = Value::from_json(document.to_string().as_bytes()) else { panic!("{document}") };
    source.insert("message", line);
    Event::new(source)
}

/// Runs the pipeline and writes the document.
fn run(library: &Library, pipeline: &Pipeline, mut event: Event) {
    if let Err(failure) = pipeline.run(library, &mut event, 1_735_689_600_000) {
        pipeline.explain(&failure, &event);
    }
    let mut out = Vec::new();
    event.write_json(&mut out);
}

/// Of so many documents one is tried, unless all are.
fn one_of(documents: usize) -> usize {
    if std::env::var_os("TAILRACE_TEST_FULL").is_some() { 1 } else { documents }
}

/// Length of the lines whose steps are counted; the longer ones have twice as many bytes.
const BYTES: usize = 16 << 10;

/// Steps for a line of [`BYTES`], and for one twice as long. `None` in a build that does not count.
fn steps(library: &Library, pipeline: &Pipeline, document: &serde_json::Value, line: &Line) -> Option<(u64, u64)> {
    let (short, long) = (line.text(BYTES), line.text(2 * BYTES));
    run(library, pipeline, event_of(document, &long)); // What is made once is made.
    let steps = |line: &str| {
        let (event, before) = (event_of(document, line), event::steps::taken()?);
        let memory = allocation_counter::measure(|| run(library, pipeline, event));
        Some(event::steps::taken()? - before + memory.bytes_total)
    };
    Some((steps(&short)?, steps(&long)?))
}

/// Half a time more than in proportion is too much: what takes the square takes four times as many.
fn is_linear((once, twice): (u64, u64)) -> bool {
    twice <= once * 5 / 2 + 4 * BYTES as u64
}

#[test]
fn every_catalog_pipeline_takes_steps_in_proportion_to_the_line() {
    let library = Library::load(Path::new(CATALOG)).expect("the catalog");
    let (mut wrong, mut count, mut most) = (Vec::new(), 0, (0, String::new()));
    for name in library.names() {
        let pipeline = library.get(name).expect("one of its names");
        let documents = documents(name);
        assert!(documents.len() > PIECES.len(), "{name} has no tests");
        for (document, line) in documents.iter().step_by(one_of(5)) {
            let Some((once, twice)) = steps(&library, pipeline, document, line) else { return };
            let what = || format!("{name}: {:?} {:?} {:?}", line.head, line.piece, line.tail);
            if !is_linear((once, twice)) {
                wrong.push(format!("{once} steps, and {twice} for twice as many bytes: {}", what()));
            }
            if most.0 < twice {
                most = (twice, what());
            }
            count += 1;
        }
    }
    eprintln!("{count} lines; at most {} steps a byte, in {}", most.0 / (2 * BYTES as u64), most.1);
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn steps_by_the_square_of_the_line_are_noticed() {
    for processor in [
        r#"{"script":{"source":"int n = 0; for (x in ctx.message.splitOnToken('a')) { n += ctx.message.indexOf(x) } def l = []; for (int i = 0; i < ctx.message.length() / 8; i++) { for (int k = 0; k < i; k++) { n++ } }"}}"#,
        r#"{"foreach":{"field":"list","processor":{"set":{"field":"copy","copy_from":"message"}}}}"#,
    ] {
        let pipeline = format!(
            r#"{{"processors":[{{"split":{{"field":"message","target_field":"list","separator":"a"}}}},{processor}]}}"#
        );
        let library = corpus::load(&pipeline).expect("a pipeline");
        let line = Line::new("", "bcdefgha", "");
        let taken = steps(&library, library.get("p").expect("it is there"), &serde_json::json!({}), &line);
        assert!(taken.is_none_or(|taken| !is_linear(taken)), "{processor}: {taken:?}");
    }
}

/// What runs of a megabyte each took.
#[derive(Default)]
struct Times(Vec<(Duration, String)>);

impl Times {
    fn measure(&mut self, what: &dyn Fn() -> String, run: impl FnOnce()) {
        let before = now();
        run();
        self.0.push((before.elapsed(), what()));
    }

    /// The clock of a debug build on a busy machine says little: only what is not linear takes as long as that.
    fn check(mut self, of: &str) {
        self.0.sort();
        let at = |percent: usize| &self.0[(self.0.len() - 1) * percent / 100];
        let (most, what) = at(100);
        eprintln!("{of}: {} lines, p50 {:?}, p99 {:?}, most {most:?}: {what}", self.0.len(), at(50).0, at(99).0);
        for (time, what) in self.0.iter().rev().take(8) {
            eprintln!("  {time:?}: {what}");
        }
        let (p99, bound) = match cfg!(debug_assertions) {
            true => (at(99).0, Duration::from_secs(5)),
            false => (at(99).0, Duration::from_millis(50)),
        };
        assert!(p99 <= bound, "{of}: p99 {p99:?}");
        assert!(*most <= Duration::from_secs(20), "{of}: {most:?}: {what}");
    }
}

const MEGABYTE: usize = 1 << 20;

#[test]
fn a_line_of_a_megabyte_takes_a_catalog_pipeline_milliseconds() {
    let library = Library::load(Path::new(CATALOG)).expect("the catalog");
    let mut times = Times::default();
    for name in library.names() {
        let pipeline = library.get(name).expect("one of its names");
        run(&library, pipeline, event_of(&serde_json::json!({}), &"a=1 ".repeat(1_000))); // What is made once is made.
        for (document, line) in documents(name).iter().step_by(one_of(60)) {
            let event = event_of(document, &line.text(MEGABYTE));
            times.measure(&|| format!("{name}: {:?} {:?} {:?}", line.head, line.piece, line.tail), || {
                run(&library, pipeline, event);
            });
        }
    }
    times.check("catalog");
}

#[test]
fn a_line_of_a_megabyte_takes_a_stock_pattern_milliseconds() {
    let lines: Vec<_> = hostile_lines().iter().map(|line| line.text(MEGABYTE)).collect();
    let mut times = Times::default();
    for (shift, ecs) in [Ecs::Disabled, Ecs::V1].into_iter().enumerate() {
        let bank = Bank::stock(ecs);
        let mut names: Vec<_> = bank.names().collect();
        names.sort_unstable();
        for (nth, name) in names.iter().enumerate() {
            let grok = Grok::new(&bank, &[format!("%{{{name}:x}}")]).expect("a stock pattern");
            for line in lines.iter().skip((nth + shift) % one_of(lines.len())).step_by(one_of(lines.len())) {
                let start: String = line.chars().take(8).collect();
                times.measure(&|| format!("{name} {ecs:?}: {start:?}"), || {
                    grok.match_text(line, |_, _| ()).expect("no backtracking");
                });
            }
        }
    }
    times.check("stock patterns");
}
