//! The catalog beside the documents that Filebeat's filesets (March 2020) make of the same logs, where those are.
//!
//! Compared is every field an expected document has, but for what the test gives the pipeline as the agent would, and for
//! what comes from databases (`*.geo.*`, `*.as.*`, details of `user_agent`). Points in time are compared as such. A field
//! is equal if its value is; it is the same by a rule (`Rule`) where the Elastic Common Schema has moved on since, or where
//! a search node makes no difference. The table has both counts.

use engine::{Library, Outcome};
use event::{Event, FieldPath, Object, Value};
use std::path::{Path, PathBuf};

/// Module and fileset; how the first line of an event starts (`0`: a digit), if lines are joined.
const FILESETS: [(&str, &[&str]); 9] = [
    ("apache-access", &[]),
    ("kafka-log", &["["]),
    ("mysql-error", &["0000-00-00", "000000"]),
    ("nginx-access", &[]),
    ("nginx-error", &["0000/00/00 "]),
    ("postgresql-log", &["0000-00-00 "]),
    ("redis-log", &[]),
    ("system-auth", &["S"]),
    ("system-syslog", &["S"]),
];

/// The catalog's name for a fileset, where it is another one.
fn pipeline(fileset: &str) -> &str {
    match fileset {
        "kafka-log" => "kafka",
        "postgresql-log" => "postgresql",
        "redis-log" => "redis",
        "system-auth" => "auth",
        "system-syslog" => "syslog",
        same => same,
    }
}

/// 2019-12-01T00:00:00Z: years that are missing are those before.
const NOW_MS: i64 = 1_575_158_400_000;

/// The data beside the project, if they are there.
fn cases() -> Option<PathBuf> {
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/module-cases");
    if !shared.is_dir() {
        eprintln!("skipped: {} is not there", shared.display());
        return None;
    }
    Some(shared)
}

/// `0` stands for a digit, `S` for what is no white space.
fn starts_like(line: &str, start: &str) -> bool {
    let fits = |(byte, like): (u8, u8)| match like {
        b'0' => byte.is_ascii_digit(),
        b'S' => !byte.is_ascii_whitespace(),
        like => byte == like,
    };
    line.len() >= start.len() && line.bytes().zip(start.bytes()).all(fits)
}

/// The events of a file with the offsets of their first lines, as the agent joins them. Redis' picture and, where nothing
/// is joined, empty lines are none.
fn events(text: &str, starts: &[&str]) -> Vec<(usize, String)> {
    let (mut events, mut offset) = (Vec::<(usize, String)>::new(), 0);
    for line in text.split_terminator('\n') {
        let is_first = starts.is_empty() || starts.iter().any(|start| starts_like(line, start));
        match events.last_mut() {
            Some((_, event)) if !is_first => {
                event.push('\n');
                event.push_str(line);
            }
            _ if starts.is_empty() && (line.is_empty() || line.starts_with(' ')) => {}
            _ => events.push((offset, line.to_owned())),
        }
        offset += line.len() + 1;
    }
    events
}

/// Fields that the agent gives, and those that depend on databases.
fn is_left_out(name: &str) -> bool {
    let given = ["fileset.name", "input.type", "log.file.path", "log.flags", "log.offset", "service.type"];
    given.contains(&name)
        || name.contains(".geo.")
        || name.contains(".as.")
        || (name.starts_with("user_agent.") && name != "user_agent.original")
}

/// What the pipeline makes of an event; the time zone is that of the expected documents.
fn run(library: &Library, pipeline: &str, message: &str) -> Event {
    let mut source = Object::new();
    source.insert("message", message);
    let mut event = Event::new(source);
    event.set(&FieldPath::new("event.timezone").expect("a path"), "-02:00".into()).expect("a field");
    let pipeline = library.get(pipeline).expect("a pipeline of the catalog");
    assert!(matches!(pipeline.run(library, &mut event, NOW_MS), Ok(Outcome::Document)), "{message}");
    event
}

/// A time in UTC, which compares as a text.
fn instant(time: &Value) -> String {
    let mut library = Library::new();
    let date = "processors: [{date: {field: t, formats: [ISO8601], output_format: \"yyyy-MM-dd'T'HH:mm:ss.SSS'Z'\", target_field: t}}]";
    library.add("instant", "instant.yml", date).expect("a pipeline");
    let mut source = Object::new();
    source.insert("t", time.clone());
    let mut event = Event::new(source);
    let read = library.get("instant").expect("it was just added").run(&library, &mut event, NOW_MS);
    assert!(matches!(read, Ok(Outcome::Document)), "{}", time.to_json());
    event.source.get("t").map(Value::to_json).unwrap_or_default()
}

/// How a value is the same as the expected one.
enum Same {
    Equal,
    Rule(Rule),
    No,
}

/// Differences that are meant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    /// `-` in a log means that there is no value.
    Dash,
    /// Fields of categorization are lists; to a search node a list of one value is that value.
    ListOfOne,
    /// The schema's method is as it came, not in small letters.
    Method,
    /// A count or port is a number, not its text; an SQL state is a text, since it may have letters and zeros in front.
    Number,
}

fn compare(name: &str, got: Option<&Value>, wanted: &Value) -> Same {
    let Some(got) = got else { return if wanted.as_text() == Some("-") { Same::Rule(Rule::Dash) } else { Same::No } };
    if got.same_json(wanted) || (name == "@timestamp" && instant(got) == instant(wanted)) {
        return Same::Equal;
    }
    let number = |value: &Value| value.as_i64().or_else(|| value.as_text()?.parse().ok());
    match (got, wanted) {
        (Value::Array(values), _) if values.len() == 1 && values.first().is_some_and(|one| one.same_json(wanted)) => {
            Same::Rule(Rule::ListOfOne)
        }
        (Value::Text(got), Value::Text(wanted))
            if name == "http.request.method" && got.eq_ignore_ascii_case(wanted) =>
        {
            Same::Rule(Rule::Method)
        }
        _ if number(got).is_some() && number(got) == number(wanted) => Same::Rule(Rule::Number),
        _ => Same::No,
    }
}

/// Counts of one fileset.
#[derive(Default)]
struct Row {
    fields: usize,
    equal: usize,
    same: usize,
    rules: Vec<Rule>,
}

impl Row {
    fn add(&mut self, other: &Row) {
        self.fields += other.fields;
        self.equal += other.equal;
        self.same += other.same;
        self.rules.extend(&other.rules);
    }

    fn count(&mut self, same: &Same) {
        self.fields += 1;
        self.equal += usize::from(matches!(same, Same::Equal));
        self.same += usize::from(!matches!(same, Same::No));
        self.rules.extend(match same {
            Same::Rule(rule) => Some(*rule),
            _ => None,
        });
    }

    fn line(&self, name: &str) -> String {
        let percent = |count: usize| count as f64 * 100.0 / self.fields as f64;
        let (equal, same) = (percent(self.equal), percent(self.same));
        format!("{name:16} {:6} {:6} {equal:6.1} {:6} {same:6.1}", self.fields, self.equal, self.same)
    }
}

fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Value::from_json(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares one log with its expected documents; what differs is added to `differences`.
fn compare_file(library: &Library, fileset: &str, starts: &[&str], log: &Path, differences: &mut Vec<String>) -> Row {
    let text = std::fs::read_to_string(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    let events = events(&text, starts);
    let Value::Array(documents) = json(&log.with_extension("log-expected.json")) else { panic!("no list") };
    let mut row = Row::default();
    for document in documents.iter() {
        let Value::Object(document) = document else { panic!("no document") };
        let offset = document.get("log.offset").and_then(Value::as_i64).expect("each has its offset");
        let (_, message) = events.iter().find(|(at, _)| *at as i64 == offset).expect("an event starts there");
        let event = run(library, pipeline(fileset), message);
        for (name, wanted) in document.iter().filter(|(name, _)| !is_left_out(name)) {
            // What the pipeline was given and leaves alone does not count.
            if name == "event.timezone" && wanted.as_text() == Some("-02:00") {
                continue;
            }
            let got = event.get(&FieldPath::new(name).expect("a path"));
            let same = compare(name, got, wanted);
            row.count(&same);
            if matches!(same, Same::No) {
                let got = got.map_or("nothing".to_owned(), Value::to_json);
                differences.push(format!("{fileset} {offset} {name}: {got}, not {}", wanted.to_json()));
            }
        }
    }
    row
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut logs: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    logs.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.sort();
    logs
}

#[test]
fn nearly_all_fields_are_those_of_filebeat() {
    let Some(cases) = cases() else { return };
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("../catalog");
    let library = Library::load(&catalog).unwrap_or_else(|error| panic!("{error}"));
    println!("{:16} {:>6} {:>6} {:>6} {:>6} {:>6}", "fileset", "fields", "equal", "%", "same", "%");
    let (mut all, mut differences, mut low) = (Row::default(), Vec::new(), Vec::new());
    for (fileset, starts) in FILESETS {
        let mut row = Row::default();
        for log in logs(&cases.join(fileset)) {
            row.add(&compare_file(&library, fileset, starts, &log, &mut differences));
        }
        println!("{}", row.line(fileset));
        all.add(&row);
        if row.same * 100 < row.fields * 95 {
            low.push(fileset);
        }
    }
    println!("{}", all.line("all"));
    for rule in [Rule::Dash, Rule::ListOfOne, Rule::Method, Rule::Number] {
        println!("the same by rule {rule:?}: {}", all.rules.iter().filter(|one| **one == rule).count());
    }
    println!("{}", differences.join("\n"));
    assert!(low.is_empty(), "below 95 %: {low:?}");
}
