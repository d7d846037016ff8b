//! `tailrace learn`: lines that no pipeline takes apart in, a pipeline with a pattern for each kind of line out, and tests
//! for it that pass. A pattern is of dissect where that makes the same of every line of the file as grok does, else of grok.

mod dissect;
mod templates;

use crate::written;
use anyhow::Context as _;
use engine::grok::{Bank, Ecs, Grok};
use engine::{Library, cases};
use event::{Event, Object, Value};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use templates::{Template, Templates, Word};

/// Longest line that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 8 << 10;
/// The time that tests have if they name none.
const NOW: &str = "2025-01-01T00:00:00Z";

/// Finds the kinds of lines in a file and proposes a pipeline for them, with tests.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the two files are there and their tests pass; 1 they are not, or do not.")]
pub(crate) struct Options {
    /// Lines that are to be taken apart.
    file: PathBuf,
    /// What the pipeline is called.
    #[arg(long, default_value = "learned")]
    name: String,
    /// Where NAME.yml and NAME.tests.yml go.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Most patterns: those of most lines.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    patterns: usize,
}

/// Exit codes: see [`Options`].
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    anyhow::ensure!(
        !options.name.is_empty() && options.name.bytes().all(is_safe),
        "{:?}: a name is of letters, digits, - and _",
        options.name
    );
    let mut learned = Templates::default();
    let too_long = for_each_line(&options.file, |line| learned.add(line))?;
    let left_out = learned.left_out;
    let mut templates = learned.into_sorted();
    templates.truncate(options.patterns);
    anyhow::ensure!(!templates.is_empty(), "{}: no line that could be looked at", options.file.display());
    let patterns = patterns(&templates)?;
    let proposal = dissect::choose(&patterns, &options.name, |each| for_each_line(&options.file, each).map(drop))?;
    let library = library(&options.name, &proposal)?;
    let tests = tests(&library, &options.name, &templates)?;
    let path = |end: &str| options.dir.join(format!("{}{end}", options.name));
    for (end, text) in [(".yml", &proposal), (".tests.yml", &tests)] {
        let mut file = File::create_new(path(end)).with_context(|| format!("making {}", path(end).display()))?;
        file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path(end).display()))?;
    }
    let (mut all, mut taken) = (0, 0);
    for_each_line(&options.file, |line| {
        all += 1;
        taken += u64::from(is_taken(&library, &options.name, line));
    })?;
    let mut out = std::io::stdout().lock();
    for template in &templates {
        writeln!(out, "{:>9}  {}", template.count, shown(template))?;
    }
    writeln!(out, "{taken} of {all} lines are taken apart by {} patterns", templates.len())?;
    if left_out > 0 || too_long > 0 {
        writeln!(
            out,
            "not looked at: {too_long} lines of more than {LINE_BYTES_MAX} bytes, {left_out} of other kinds"
        )?;
    }
    let report = cases::run(&path(".tests.yml"))?;
    let passes = report.results.iter().all(|result| result.differences.is_empty());
    let told = if passes { "pass" } else { "do not pass" };
    writeln!(out, "{} and {}, whose tests {told}", path(".yml").display(), path(".tests.yml").display())?;
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Hands each line that is not empty on. How many were too long.
fn for_each_line(path: &Path, mut each: impl FnMut(&str)) -> anyhow::Result<u64> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let (mut reader, mut line, mut too_long) = (BufReader::new(file), Vec::new(), 0);
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = std::io::Read::take(&mut reader, limit).read_until(b'\n', &mut line);
        if read.with_context(|| format!("reading {}", path.display()))? == 0 {
            return Ok(too_long);
        }
        if line.len() > LINE_BYTES_MAX && !line.ends_with(b"\n") {
            too_long += 1;
            reader.skip_until(b'\n').with_context(|| format!("reading {}", path.display()))?;
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if !text.is_empty() {
            each(text);
        }
    }
}

/// What grok calls values, from the narrowest to the widest; a field for some.
const KINDS: &[(&str, &str)] = &[
    ("LOGLEVEL", "log.level"),
    ("INT", ""),
    ("NUMBER", ""),
    ("IP", "labels.ip"),
    ("UUID", "labels.uuid"),
    ("TIMESTAMP_ISO8601", "labels.time"),
    ("NOTSPACE", ""),
    ("GREEDYDATA", ""),
];

/// What a template's lines are made of.
struct Pattern {
    parts: Vec<Part>,
    /// How many lines it stands for.
    count: u64,
}

enum Part {
    Fixed(String),
    Value { head: String, kind: &'static str, field: String, tail: String },
}

/// A pattern for each template.
fn patterns(templates: &[Template]) -> anyhow::Result<Vec<Pattern>> {
    let bank = Bank::stock(Ecs::V1);
    let kinds = KINDS.iter().map(|(kind, field)| match Grok::new(&bank, &[format!("\\A%{{{kind}}}\\z")]) {
        Ok(grok) => Ok((*kind, *field, grok)),
        Err(wrong) => Err(anyhow::Error::msg(wrong)),
    });
    let kinds = kinds.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(templates.iter().map(|template| pattern(template, &kinds)).collect())
}

fn pattern(template: &Template, kinds: &[(&'static str, &str, Grok)]) -> Pattern {
    let mut used = BTreeSet::new();
    let parts = template.words.iter().map(|word| match word {
        Word::Fixed(fixed) => Part::Fixed(fixed.clone()),
        Word::Varies(values) => {
            let (head, tail) = ends(values);
            let cores: Vec<&str> = values
                .iter()
                .map(|value| value.get(head.len()..value.len() - tail.len()).unwrap_or_default())
                .collect();
            let is_one = |grok: &Grok| cores.iter().all(|core| matches!(grok.match_text(core, |_, _| ()), Ok(Some(_))));
            let (kind, field) =
                kinds.iter().find(|(.., grok)| is_one(grok)).map_or(("DATA", ""), |(kind, field, _)| (*kind, *field));
            let field = name(field, head, &mut used);
            Part::Value { head: head.to_owned(), kind, field, tail: tail.to_owned() }
        }
    });
    Pattern { parts: parts.collect(), count: template.count }
}

impl Pattern {
    fn grok(&self) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Fixed(fixed) => escaped(fixed),
            Part::Value { head, kind, field, tail } => format!("{}%{{{kind}:{field}}}{}", escaped(head), escaped(tail)),
        });
        format!("^{}$", parts.collect::<Vec<_>>().join(" "))
    }
}

/// A library with the one pipeline.
fn library(name: &str, pipeline: &str) -> anyhow::Result<Library> {
    let mut library = Library::new();
    library.add(name, name, pipeline)?;
    Ok(library)
}

/// What all values start and end with, up to a sign and without digits: of `id=17,` and `id=18,` `id=` and `,`.
fn ends(values: &[String]) -> (&str, &str) {
    let Some(first) = values.first() else { return ("", "") };
    let same = values
        .iter()
        .map(|value| value.bytes().zip(first.bytes()).take_while(|(a, b)| a == b).count())
        .min()
        .unwrap_or(0);
    let head = first.get(..same).unwrap_or_default().split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
    let head = head
        .rfind(|c: char| c.is_ascii_punctuation() && !matches!(c, '.' | '-'))
        .map_or("", |at| head.get(..=at).unwrap_or_default());
    let same = values.iter().map(|value| {
        let room = value.len().min(first.len()) - head.len();
        value
            .bytes()
            .rev()
            .zip(first.bytes().rev())
            .take(room)
            .take_while(|(a, b)| a == b && a.is_ascii_punctuation())
            .count()
    });
    (head, first.get(first.len() - same.min().unwrap_or(0)..).unwrap_or_default())
}

/// A field that no other value of the pattern has: what stands in front of `=` or `:`, or a number.
fn name(field: &str, head: &str, used: &mut BTreeSet<String>) -> String {
    let key =
        head.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').find(|part| !part.is_empty()).unwrap_or("value");
    let wanted = if field.is_empty() { format!("labels.{}", key.to_ascii_lowercase()) } else { field.to_owned() };
    let mut name = wanted.clone();
    for nth in 2.. {
        if used.insert(name.clone()) {
            break;
        }
        name = format!("{wanted}_{nth}");
    }
    name
}

/// `text` as a pattern that matches itself.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => out.push_str("\\x25"), // Not the start of a name.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\x{{{:x}}}", u32::from(c)))
            }
            c if c.is_ascii_punctuation()
                && !matches!(
                    c,
                    '_' | '-' | ':' | ',' | ';' | '=' | '/' | '\'' | '"' | '<' | '>' | '@' | '!' | '~' | '`'
                ) =>
            {
                out.extend(['\\', c]);
            }
            c => out.push(c),
        }
    }
    out
}

fn event(line: &str) -> Event {
    Event::new(std::iter::once(("message".into(), Value::from(line))).collect::<Object>())
}

/// What the pipeline makes of a line.
fn document(library: &Library, name: &str, line: &str) -> anyhow::Result<Object> {
    let pipeline = library.get(name).context("the pipeline was just added")?;
    let mut event = event(line);
    let now = engine::parse_now(NOW).map_err(anyhow::Error::msg)?;
    pipeline.run(library, &mut event, now)?;
    Ok(event.source)
}

fn is_taken(library: &Library, name: &str, line: &str) -> bool {
    document(library, name, line).is_ok_and(|document| !document.contains("error"))
}

/// A case for each template: its first line, and what comes out.
fn tests(library: &Library, name: &str, templates: &[Template]) -> anyhow::Result<String> {
    let mut cases = Vec::new();
    for (nth, template) in templates.iter().enumerate() {
        let document = document(library, name, &template.sample)?;
        let input = written::text(&template.sample);
        let expected = written::block(&document, 4);
        cases.push(format!(
            "- name: pattern {}, the first line\n  input: {input}\n  expect_exact:\n{expected}",
            nth + 1
        ));
    }
    Ok(cases.join("\n"))
}

/// A template for people.
fn shown(template: &Template) -> String {
    let word = |word: &Word| match word {
        Word::Fixed(fixed) => fixed.clone(),
        Word::Varies(values) => {
            let (head, tail) = ends(values);
            format!("{head}<*>{tail}")
        }
    };
    let words: Vec<_> = template.words.iter().map(word).collect();
    words.join(" ").chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn learn(lines: &str) -> (tempfile::TempDir, Options) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("app.log"), lines).expect("written");
        let options = Options {
            file: folder.path().join("app.log"),
            name: "app".to_owned(),
            dir: folder.path().to_owned(),
            patterns: 50,
        };
        (folder, options)
    }

    #[test]
    fn what_is_proposed_takes_all_lines_apart_and_passes_its_tests() {
        let mut lines = String::new();
        for nth in 0..200 {
            let level = ["INFO", "WARN"][nth % 2];
            lines += &format!(
                "2024-03-05T08:09:{:02}Z {level} [pool-{nth}] user=u{nth} took {nth}ms (100%) it's {{ok}}\n",
                nth % 60
            );
            lines += &format!("connection from 10.0.0.{nth}:{nth} closed \\ \"x\"\n");
        }
        lines += "only once\n\n\tat tab\u{1b}[0m é\n";
        let (folder, options) = learn(&lines);
        assert_eq!(run(&options).expect("it runs"), ExitCode::SUCCESS);
        let mut library = Library::new();
        let name = library.load_file(&folder.path().join("app.yml")).expect("a pipeline");
        for line in lines.lines().filter(|line| !line.is_empty()) {
            assert!(is_taken(&library, &name, line), "{line}");
        }
        let line = "2024-03-05T08:09:07Z WARN [pool-7] user=u7 took 7ms (100%) it's {ok}";
        let document = Value::Object(document(&library, &name, line).expect("it is taken apart"));
        let expected = format!(
            r#"{{"message":{},"labels":{{"time":"2024-03-05T08:09:07Z","value":"pool-7","user":"u7","value_2":"7ms","value_3":"100"}},"log":{{"level":"WARN"}}}}"#,
            Value::from(line).to_json()
        );
        assert_eq!(document, Value::from_json(expected.as_bytes()).expect("JSON"));
        let written = fs::read_to_string(folder.path().join("app.yml")).expect("the pipeline");
        let dissect = r#"pattern: 'connection from %{labels.value} closed \ "x"'"#;
        assert!(written.contains(dissect) && written.contains("- grok"), "{written}");
        let again = run(&options).expect_err("is refused");
        assert!(format!("{again:#}").contains("app.yml: File exists"), "{again:#}");
    }

    #[test]
    fn lines_whose_delimiters_are_constant_need_no_grok() {
        let lines: String = (0..40).map(|nth| format!("10.0.0.{nth} [w{nth}] id={nth}; done in {nth}ms\n")).collect();
        let (folder, options) = learn(&lines);
        assert_eq!(run(&options).expect("it runs"), ExitCode::SUCCESS);
        let written = fs::read_to_string(folder.path().join("app.yml")).expect("the pipeline");
        let pattern = "pattern: '%{labels.ip} [%{labels.value}] id=%{labels.id}; done in %{labels.value_2}'";
        assert!(written.contains(pattern) && !written.contains("- grok"), "{written}");
    }

    #[test]
    fn a_dissect_that_takes_lines_of_another_kind_is_not_proposed() {
        // `a %{x} b %{y}` would take the lines with more words behind the last value as well.
        let lines: String = (0..40).map(|nth| format!("a {nth} b {nth}\na {nth} b {nth} c {nth}\n")).collect();
        let (folder, options) = learn(&lines);
        assert_eq!(run(&options).expect("it runs"), ExitCode::SUCCESS);
        let written = fs::read_to_string(folder.path().join("app.yml")).expect("the pipeline");
        assert!(written.contains("^a %{INT:labels.value} b %{INT:labels.value_2}$"), "{written}");
        assert!(written.contains("'a %{labels.value} b %{labels.value_2} c %{labels.value_3}'"), "{written}");
    }

    #[test]
    fn lines_that_are_too_long_are_counted_only() {
        let (_folder, options) = learn(&format!("{}\nshort one\n", "x".repeat(3 * LINE_BYTES_MAX)));
        let mut seen = Vec::new();
        let too_long = for_each_line(&options.file, |line| seen.push(line.to_owned())).expect("readable");
        assert_eq!((too_long, seen), (1, vec!["short one".to_owned()]));
    }

    #[test]
    fn what_values_have_in_common_is_no_part_of_them() {
        let ends_of = |values: &[&str]| {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            let (head, tail) = ends(&values);
            (head.to_owned(), tail.to_owned())
        };
        let pair = |head: &str, tail: &str| (head.to_owned(), tail.to_owned());
        assert_eq!(ends_of(&["id=17,", "id=18,"]), pair("id=", ","));
        assert_eq!(ends_of(&["2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z"]), pair("", ""));
        assert_eq!(ends_of(&["[a]", "[bc]"]), pair("[", "]"));
        assert_eq!(ends_of(&["10.0.0.1", "10.0.0.2"]), pair("", ""));
        assert_eq!(ends_of(&["=", "=="]), pair("=", ""));
        assert_eq!(ends_of(&["é1", "é2"]), pair("", ""));
    }
}
