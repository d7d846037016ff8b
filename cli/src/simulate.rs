//! `tailrace simulate`: documents or lines on standard input, what a pipeline makes of them on standard output.
//!
//! One JSON line out for each line in, in order: `{"doc": {…}}`, `{"dropped": true}` or
//! `{"error": {"type", "reason", "processor", "tag"}}`, with `explanation` where there is one. Other programs call this:
//! the form is a contract.

use anyhow::Context as _;
use engine::{Failure, Library, Outcome, Pipeline, Single};
use event::document::write_text;
use event::{Event, Object, Value};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Output is written when there is this much of it, in bytes.
const BUFFER_BYTES: usize = 256 << 10;
/// Metadata that a document shows when a processor has set it.
const METADATA: [&str; 3] = ["_index", "_id", "_routing"];

/// Options of `tailrace simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The pipeline file: an Elasticsearch ingest pipeline in YAML or JSON.
    #[arg(long, value_name = "FILE")]
    pipeline: PathBuf,
    /// A folder with the pipelines that it may call.
    #[arg(long, value_name = "DIR")]
    pipelines_dir: Option<PathBuf>,
    /// The time of ingestion, such as 2024-01-02T03:04:05Z. Default: now.
    #[arg(long, value_name = "RFC3339")]
    now: Option<String>,
    /// Lines are plain text: each becomes the document {"message": line}.
    #[arg(long)]
    text: bool,
    /// Before each answer a line for each processor: the document after it, and the microseconds it took.
    #[arg(long)]
    trace: bool,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let now_ms = match &options.now {
        Some(now) => engine::parse_now(now).map_err(|wrong| anyhow::anyhow!("--now: {wrong}"))?,
        None => service::clock::wall_ms(),
    };
    let (library, name) = load(options)?;
    let pipeline = library.get(&name).context("the pipeline that was loaded is gone")?;
    let singles = match options.trace {
        true => {
            Library::take(&mut load(options)?.0, &name).context("the pipeline that was loaded is gone")?.into_singles()
        }
        false => Vec::new(),
    };
    let simulation = Simulation { library: &library, pipeline, singles, now_ms, text: options.text };
    let mut input = BufReader::with_capacity(BUFFER_BYTES, std::io::stdin().lock());
    let result = simulation.pump(&mut input, &mut std::io::stdout().lock());
    match result {
        // Who reads us has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS).context("copying standard input to standard output"),
    }
}

/// The library of `--pipelines-dir` with the pipeline of `--pipeline`, and the latter's name.
fn load(options: &Options) -> anyhow::Result<(Library, String)> {
    let mut library = match &options.pipelines_dir {
        Some(dir) => Library::load(dir)?,
        None => Library::new(),
    };
    let inside = |dir: &PathBuf| {
        options.pipeline.parent().and_then(|parent| parent.canonicalize().ok()) == dir.canonicalize().ok()
    };
    let stem = options.pipeline.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if options.pipelines_dir.as_ref().is_some_and(inside) && library.get(&stem).is_some() {
        return Ok((library, stem));
    }
    let name = library.load_file(&options.pipeline)?;
    Ok((library, name))
}

struct Simulation<'l> {
    library: &'l Library,
    pipeline: &'l Pipeline,
    /// For a trace: the pipeline's processors one by one.
    singles: Vec<Single>,
    now_ms: i64,
    text: bool,
}

impl Simulation<'_> {
    /// Answers every line of `input`. What is ready is written before more input is waited for.
    fn pump(&self, input: &mut BufReader<impl Read>, output: &mut impl Write) -> std::io::Result<()> {
        let mut line = Vec::new();
        let mut out = Vec::with_capacity(BUFFER_BYTES);
        loop {
            if out.len() >= BUFFER_BYTES || !input.buffer().contains(&b'\n') {
                output.write_all(&out)?;
                output.flush()?;
                out.clear();
            }
            line.clear();
            if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                output.write_all(&out)?;
                return output.flush();
            }
            if line.last() != Some(&b'\n') && line.len() as u64 == LINE_BYTES_MAX {
                input.skip_until(b'\n')?;
                parse_error(&format!("a line of more than {LINE_BYTES_MAX} bytes"), &mut out);
                continue;
            }
            let end = line.len() - usize::from(line.last() == Some(&b'\n'));
            let end = end - usize::from(line.get(..end).is_some_and(|line| line.last() == Some(&b'\r')));
            self.answer(&line[..end], &mut out);
        }
    }

    fn answer(&self, line: &[u8], out: &mut Vec<u8>) {
        let mut event = match self.event(line) {
            Ok(event) => event,
            Err(problem) => return parse_error(&problem, out),
        };
        if !self.singles.is_empty() {
            self.trace(&mut event.clone(), out);
        }
        match self.pipeline.run(self.library, &mut event, self.now_ms) {
            Ok(Outcome::Document) => document(&event, out),
            Ok(Outcome::Dropped) => out.extend_from_slice(b"{\"dropped\":true}\n"),
            Err(failure) => error(&failure, self.pipeline.explain(&failure, &event).as_deref(), out),
        }
    }

    /// Runs the processors one by one, up to the first that fails or drops the document.
    fn trace(&self, event: &mut Event, out: &mut Vec<u8>) {
        for (nth, single) in self.singles.iter().enumerate() {
            let start = service::clock::monotonic();
            let outcome = single.pipeline.run(self.library, event, self.now_ms);
            let us = start.elapsed().as_nanos() as f64 / 1000.0;
            out.extend_from_slice(format!("{{\"step\":{nth},\"processor\":").as_bytes());
            write_text(single.kind, out);
            if let Some(tag) = &single.tag {
                out.extend_from_slice(b",\"tag\":");
                write_text(tag, out);
            }
            out.extend_from_slice(format!(",\"us\":{us:.1},").as_bytes());
            let mut told = Vec::new();
            let goes_on = matches!(outcome, Ok(Outcome::Document));
            match outcome {
                Ok(Outcome::Document) => document(event, &mut told),
                Ok(Outcome::Dropped) => told.extend_from_slice(b"{\"dropped\":true}\n"),
                Err(failure) => error(&failure, single.pipeline.explain(&failure, event).as_deref(), &mut told),
            }
            out.extend_from_slice(told.get(1..).unwrap_or(b"}\n")); // Its members go on in the line's object.
            if !goes_on {
                return;
            }
        }
    }

    fn event(&self, line: &[u8]) -> Result<Event, String> {
        if self.text {
            let mut source = Object::new();
            source.insert("message", String::from_utf8_lossy(line).as_ref());
            return Ok(Event::new(source));
        }
        match Value::from_json(line) {
            Ok(Value::Object(mut source)) => {
                let mut event = Event::default();
                for name in METADATA {
                    if let Some(value) = source.remove(name) {
                        event.metadata.fields.insert(name, value);
                    }
                }
                event.source = source;
                Ok(event)
            }
            Ok(other) => Err(format!("a JSON object is expected, not [{}]", other.java_class())),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn document(event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"doc\":{");
    event.source.write_members(out);
    let mut first = event.source.is_empty();
    for (name, value) in event.metadata.fields.iter().filter(|(name, _)| METADATA.contains(name)) {
        if !first {
            out.push(b',');
        }
        first = false;
        write_text(name, out);
        out.push(b':');
        value.write_json(out);
    }
    out.extend_from_slice(b"}}\n");
}

fn error(failure: &Failure, explanation: Option<&str>, out: &mut Vec<u8>) {
    answer_error(failure.kind, &failure.reason, Some(failure.processor), failure.tag.as_deref(), explanation, out);
}

fn parse_error(reason: &str, out: &mut Vec<u8>) {
    answer_error("parse_exception", reason, None, None, None, out);
}

fn answer_error(
    kind: &str,
    reason: &str,
    processor: Option<&str>,
    tag: Option<&str>,
    explanation: Option<&str>,
    out: &mut Vec<u8>,
) {
    let or_null = |text: Option<&str>, out: &mut Vec<u8>| match text {
        Some(text) => write_text(text, out),
        None => out.extend_from_slice(b"null"),
    };
    out.extend_from_slice(b"{\"error\":{\"type\":");
    write_text(kind, out);
    out.extend_from_slice(b",\"reason\":");
    write_text(reason, out);
    out.extend_from_slice(b",\"processor\":");
    or_null(processor, out);
    out.extend_from_slice(b",\"tag\":");
    or_null(tag, out);
    if let Some(explanation) = explanation {
        out.extend_from_slice(b",\"explanation\":");
        write_text(explanation, out);
    }
    out.extend_from_slice(b"}}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulate(pipeline: &str, text: bool, input: &str) -> String {
        answers(pipeline, text, Vec::new(), input)
    }

    fn answers(pipeline: &str, text: bool, singles: Vec<Single>, input: &str) -> String {
        let mut library = Library::new();
        library.add("p", "p.yml", pipeline).expect("the pipeline loads");
        let pipeline = library.get("p").expect("it was just added");
        let simulation = Simulation { library: &library, pipeline, singles, now_ms: 0, text };
        let mut out = Vec::new();
        simulation.pump(&mut BufReader::new(input.as_bytes()), &mut out).expect("memory can be read and written");
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn every_line_has_its_answer_in_order() {
        let pipeline = "processors: [{convert: {field: n, type: integer, tag: t1}}]";
        let out = simulate(pipeline, false, "{\"n\":\"1\"}\n\n[1]\r\n{\"n\":\"x\"}\n{\"n\":2,\"a\":\"\\n\"}");
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[0], r#"{"doc":{"n":1}}"#);
        assert!(lines[1].starts_with(r#"{"error":{"type":"parse_exception","reason":"invalid JSON at byte 0"#));
        assert!(lines[1].ends_with(r#""processor":null,"tag":null}}"#));
        assert!(lines[2].contains("a JSON object is expected, not [java.util.ArrayList]"));
        let refused = r#"{"error":{"type":"illegal_argument_exception","reason":"unable to convert [x] to integer","processor":"convert","tag":"t1"}}"#;
        assert_eq!(lines[3], refused);
        assert_eq!(lines[4], r#"{"doc":{"n":2,"a":"\n"}}"#);
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn text_becomes_message_and_metadata_shows_only_if_set() {
        let pipeline = "processors: [{set: {field: _index, value: 'logs-{{message}}'}}]";
        assert_eq!(simulate(pipeline, true, "a\n"), "{\"doc\":{\"message\":\"a\",\"_index\":\"logs-a\"}}\n");
    }

    #[test]
    fn a_trace_shows_the_document_after_each_processor_and_why_one_failed() {
        let pipeline = "{processors: [{set: {field: a, value: 1, tag: t}}, {grok: {field: message, patterns: ['^%{INT:n} x']}}], \
                        on_failure: [{remove: {field: message}}]}";
        let mut library = Library::new();
        library.add("p", "p.yml", pipeline).expect("the pipeline loads");
        let singles = library.take("p").expect("it was just added").into_singles();
        let out = answers(pipeline, true, singles, "12 y\n");
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[0].starts_with(r#"{"step":0,"processor":"set","tag":"t","us":"#), "{}", lines[0]);
        assert!(lines[0].ends_with(r#","doc":{"message":"12 y","a":1}}"#), "{}", lines[0]);
        assert!(lines[1].starts_with(r#"{"step":1,"processor":"grok","us":"#), "{}", lines[1]);
        let why = r#""explanation":"the pattern fits up to [%{INT:n}]; at column 4 it wants [ x], and there is [y]"}}"#;
        assert!(lines[1].ends_with(why), "{}", lines[1]);
        assert_eq!(lines[2], r#"{"doc":{"a":1}}"#);
        assert_eq!(lines.len(), 3);
    }
}
