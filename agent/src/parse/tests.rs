use super::*;
use std::time::Duration;

mod cases;
mod container;
mod exceptions;
mod flush;
mod multiline;
mod ndjson;
mod restart;

/// The plan of `parsers:` as they stand in the YAML.
fn plan(parsers: &str) -> Arc<Plan> {
    Arc::new(compile(parsers).expect("compiles"))
}

fn compile(parsers: &str) -> anyhow::Result<Plan> {
    let parsers: Vec<ParserConfig> = service::load::parse_config("agent.yaml".as_ref(), parsers)?;
    Plan::new(&parsers, &[], &[])
}

#[track_caller]
fn refuse(parsers: &str, reason: &str) {
    let error = format!("{:#}", compile(parsers).expect_err("is refused"));
    assert!(error.contains(reason), "{error}");
}

/// Lines one behind the other from offset 0, each with its newline.
struct Reader {
    assembler: Assembler,
    offset: u64,
    now: Instant,
    events: Events,
}

impl Reader {
    fn new(plan: Arc<Plan>) -> Self {
        let (now, events) = (service::clock::monotonic(), Events::default());
        Self { assembler: Assembler::new(plan, 0, Vec::new()), offset: 0, now, events }
    }

    fn push(&mut self, text: &str) {
        let (start, end) = (self.offset, self.offset + text.len() as u64 + 1);
        self.offset = end;
        let line = Line { text: text.as_bytes(), start, end, truncated: false };
        self.assembler.push(line, self.now, &mut self.events);
    }

    fn flush(&mut self) {
        self.assembler.flush(&mut self.events);
    }

    fn texts(&self) -> Vec<String> {
        let bytes = |range: &std::ops::Range<u32>| &self.events.buffer[range.start as usize..range.end as usize];
        self.events.records.iter().map(|r| String::from_utf8_lossy(bytes(&r.bytes)).into_owned()).collect()
    }
}

/// Reads `lines` to their end.
fn read<S: AsRef<str>>(parsers: &str, lines: &[S]) -> Reader {
    let mut reader = Reader::new(plan(parsers));
    lines.iter().for_each(|line| reader.push(line.as_ref()));
    reader.flush();
    reader
}

#[track_caller]
fn check(parsers: &str, lines: &[&str], events: &[&str]) {
    assert_eq!(read(parsers, lines).texts(), events, "{parsers}");
}

#[test]
fn without_parsers_each_line_is_an_event() {
    let reader = read("[]", &["a", "", "b"]);
    assert_eq!(reader.texts(), ["a", "b"]);
    assert_eq!(reader.events.records.iter().map(|r| r.offset).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(reader.events.filtered, [("empty", 1)].into());
    assert_eq!(reader.assembler.safe(), 5);
    assert_eq!(reader.assembler.deadline(), None);
}

#[test]
fn a_line_that_was_cut_is_flagged() {
    let mut reader = Reader::new(plan("[]"));
    let line = Line { text: b"ab", start: 0, end: 100, truncated: true };
    reader.assembler.push(line, reader.now, &mut reader.events);
    assert!(reader.events.records[0].truncated);
    assert_eq!((reader.events.truncated, reader.assembler.safe()), (1, 100));
}

#[test]
fn include_and_exclude_look_at_whole_events_and_are_counted() {
    let parsers = vec![ParserConfig::Multiline(MultilineConfig { pattern: Some("^ ".into()), ..Default::default() })];
    let plan = Plan::new(&parsers, &["ERROR".into(), "^WARN".into()], &["quiet$".into()]).expect("compiles");
    let mut reader = Reader::new(Arc::new(plan));
    for line in ["INFO a", "WARN b", "INFO WARN", "first", " ERROR", "ERROR", " quiet", "ERROR quiet!"] {
        reader.push(line);
    }
    reader.flush();
    assert_eq!(reader.texts(), ["WARN b", "first\n ERROR", "ERROR quiet!"]);
    assert_eq!(reader.events.filtered, [("include_lines", 2), ("exclude_lines", 1)].into());
}

#[test]
fn a_pattern_that_does_not_compile_is_named() {
    refuse("[{multiline: {pattern: 'a('}}]", "parsers[0]: multiline: pattern \"a(\"");
    refuse("[{container: {}}, {multiline: {pattern: a, flush_pattern: '[b'}}]", "parsers[1]: multiline: flush_pattern");
    let error = Plan::new(&[], &["ok".into(), "x{".into()], &[]);
    assert!(format!("{:#}", error.expect_err("is refused")).starts_with("include_lines: pattern \"x{\""));
    refuse("[{multilines: {}}]", "multilines");
    refuse("[{ndjson: {document_id: a}}]", "document_id");
}

#[test]
fn a_deadline_moves_with_each_line_of_an_event() {
    let mut reader = Reader::new(plan("[{multiline: {pattern: '^ ', timeout: 3s}}]"));
    let start = reader.now;
    reader.push("a");
    assert_eq!(reader.assembler.deadline(), Some(start + Duration::from_secs(3)));
    reader.now += Duration::from_secs(2);
    reader.push(" b");
    assert_eq!(reader.assembler.deadline(), Some(start + Duration::from_secs(5)));
    assert_eq!((reader.texts().len(), reader.assembler.safe()), (0, 0));
    reader.flush();
    assert_eq!((reader.texts(), reader.assembler.safe()), (vec!["a\n b".to_owned()], 5));
    assert_eq!(reader.assembler.deadline(), None);
    reader.push(" c"); // Nothing is open that it could belong to.
    reader.push("d");
    assert_eq!(reader.texts(), ["a\n b", " c"]);
}
