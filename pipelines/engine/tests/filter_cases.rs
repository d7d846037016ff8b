//! The cases of `filter-cases` (options, events and fields taken from Logstash's own tests), where those files are.
//!
//! They are Logstash's. Each is written as the processors of a pipeline that do the same, where there are such; options that
//! no processor has are named in `CANNOT`. Where Elasticsearch's processor differs, it wins: a case that comes out otherwise
//! is set aside if one of the rules in `differs` says why. `docs/pipeline-differences.md` has them in words.

use engine::{Library, Outcome};
use event::{Event, Object, Value};
use std::path::PathBuf;

/// Of a hundred cases that can be written as a pipeline, and do not differ by a rule, so many pass.
const PASSED_PERCENT_MIN: usize = 95;
/// The clock of cases that name none, and its year.
const NOW: &str = "2026-06-15T12:00:00Z";
const YEAR: &str = "2026";
/// Columns that get a name by themselves.
const COLUMNS_MAX: usize = 24;

/// Options of Logstash's that the processor of the same kind has no word for.
const CANNOT: &[(&str, &[&str])] = &[
    (
        "kv",
        &[
            "allow_duplicate_values",
            "allow_empty_values",
            "default_keys",
            "recursive",
            "remove_char_key",
            "remove_char_value",
            "transform_key",
            "transform_value",
        ],
    ),
    ("csv", &["autodetect_column_names", "skip_empty_rows", "skip_header"]),
];

/// Those that say nothing of the result.
const SILENT: &[&str] = &["ecs_compatibility", "id", "lru_cache_size", "periodic_flush", "regexes", "timeout_millis"];

fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/filter-cases");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

fn object(members: &[(&str, Value)]) -> Value {
    Value::Object(members.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
}

fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(values.into_iter().collect())
}

fn text_of<'v>(object: &'v Object, name: &str) -> Option<&'v str> {
    object.get(name).and_then(Value::as_text)
}

/// The texts of a list, or one text.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_text).map(str::to_owned).collect(),
        Some(Value::Text(text)) => vec![text.to_string()],
        _ => Vec::new(),
    }
}

/// Names and values of a hash, which may be written as a flat list.
fn pairs(value: Option<&Value>) -> Vec<(String, Value)> {
    match value {
        Some(Value::Object(object)) => object.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        Some(Value::Array(values)) => {
            let pair = |pair: &[Value]| Some((pair.first()?.as_text()?.to_owned(), pair.get(1)?.clone()));
            values.chunks(2).filter_map(pair).collect()
        }
        _ => Vec::new(),
    }
}

/// `[a][b]` → `a.b`
fn path(reference: &str) -> String {
    let inner = reference.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    inner.map_or_else(|| reference.to_owned(), |inner| inner.replace("][", "."))
}

/// `%{a}` → `{{a}}`
fn template(text: &str) -> String {
    let mut out = text.to_owned();
    while let Some((before, rest)) = out.split_once("%{") {
        let Some((name, after)) = rest.split_once('}') else { break };
        out = format!("{before}{{{{{}}}}}{after}", path(name));
    }
    out
}

/// Any of `chars`, as a regular expression.
fn class(chars: &str) -> String {
    let escaped: String = chars.chars().map(|c| format!("\\{c}")).collect();
    // Letters and digits mean something else behind a backslash.
    let escaped = if chars.chars().any(char::is_alphanumeric) { chars.to_owned() } else { escaped };
    format!("[{escaped}]")
}

/// A case as it is written.
struct Case {
    kind: String,
    config: Object,
    written: Object,
}

impl Case {
    fn option(&self, name: &str) -> Option<&str> {
        text_of(&self.config, name)
    }

    /// The field that the filter reads.
    fn source(&self) -> String {
        path(self.option("source").unwrap_or("message"))
    }

    fn input(&self) -> String {
        let Some(Value::Object(event)) = self.written.get("input_event") else { return String::new() };
        let name = match self.kind.as_str() {
            "date" => texts(self.config.get("match")).first().cloned().unwrap_or_default(),
            "dissect" => pairs(self.config.get("mapping")).first().map(|(name, _)| name.clone()).unwrap_or_default(),
            _ => self.source(),
        };
        text_of(event, &name).unwrap_or_default().to_owned()
    }

    /// The processors that do the same. Errors: the option that no processor has.
    fn processors(&self) -> Result<Vec<Value>, String> {
        let cannot = CANNOT.iter().find(|(kind, _)| *kind == self.kind).map_or(&[][..], |(_, options)| options);
        if let Some((name, _)) = self.config.iter().find(|(name, _)| cannot.contains(name)) {
            return Err(name.to_owned());
        }
        let mut known = vec!["add_field", "add_tag", "tag_on_failure", "source", "target"];
        known.extend(SILENT);
        let (mut processors, own): (_, &[&str]) = match self.kind.as_str() {
            "csv" => (
                self.csv()?,
                &["autogenerate_column_names", "columns", "convert", "quote_char", "separator", "skip_empty_columns"],
            ),
            "date" => (self.date(), &["locale", "match", "timezone"]),
            "dissect" => (self.dissect()?, &["convert_datatype", "mapping"]),
            "json" => (self.json(), &["skip_on_invalid_json"]),
            "kv" => (
                self.kv()?,
                &[
                    "exclude_keys",
                    "field_split",
                    "field_split_pattern",
                    "include_brackets",
                    "include_keys",
                    "prefix",
                    "trim_key",
                    "trim_value",
                    "value_split",
                    "value_split_pattern",
                    "whitespace",
                ],
            ),
            "useragent" => (self.user_agent(), &[]),
            other => return Err(format!("no processor for {other}")),
        };
        known.extend(own);
        if let Some((name, _)) = self.config.iter().find(|(name, _)| !known.contains(name)) {
            return Err(name.to_owned());
        }
        for (field, value) in pairs(self.config.get("add_field")) {
            let value = value.as_text().map_or(value.clone(), |text| Value::from(template(text)));
            processors.push(object(&[("set", object(&[("field", Value::from(path(&field))), ("value", value)]))]));
        }
        let tags = texts(self.config.get("add_tag"));
        processors.extend(tags.into_iter().map(|tag| append_tag(&tag)));
        Ok(processors)
    }

    fn tags_on_failure(&self) -> Vec<String> {
        let written = texts(self.config.get("tag_on_failure"));
        let default = match self.kind.as_str() {
            "json" => "_jsonparsefailure",
            "date" => "_dateparsefailure",
            "dissect" => "_dissectfailure",
            "csv" => "_csvparsefailure",
            _ => "_failure",
        };
        if written.is_empty() { vec![default.to_owned()] } else { written }
    }

    fn dissect(&self) -> Result<Vec<Value>, String> {
        let mut processors = Vec::new();
        for (field, pattern) in pairs(self.config.get("mapping")) {
            let mut pattern = pattern.as_text().unwrap_or_default().to_owned();
            // A skipped field whose text is a name has a sign of its own.
            for name in pattern.clone().split("%{&").skip(1).filter_map(|rest| rest.split('}').next()) {
                pattern = pattern.replace(&format!("%{{?{name}}}"), &format!("%{{*{name}}}"));
            }
            let before: Vec<_> = pattern.match_indices("%{+").map(|(at, _)| delimiter_before(&pattern, at)).collect();
            if before.windows(2).any(|two| two[0] != two[1]) {
                return Err("several delimiters in front of what is appended".to_owned());
            }
            let separator = before.first().copied().unwrap_or_default().to_owned();
            processors.push(object(&[(
                "dissect",
                object(&[
                    ("field", Value::from(path(&field))),
                    ("pattern", Value::from(brackets_to_dots(&pattern))),
                    ("append_separator", Value::from(separator)),
                    ("ignore_missing", Value::Bool(true)),
                ]),
            )]));
        }
        for (field, kind) in pairs(self.config.get("convert_datatype")) {
            let kind = if kind.as_text() == Some("float") { "double" } else { "long" };
            processors.push(convert(&field, kind));
        }
        Ok(processors)
    }

    fn kv(&self) -> Result<Vec<Value>, String> {
        let split = |chars: &str, pattern: &str, default: &str| match self.option(pattern) {
            Some(pattern) => pattern.to_owned(),
            None => class(self.option(chars).unwrap_or(default)),
        };
        let mut options = vec![
            ("field", Value::from(self.source())),
            ("field_split", Value::from(split("field_split", "field_split_pattern", " "))),
            ("value_split", Value::from(split("value_split", "value_split_pattern", "="))),
            ("strip_brackets", Value::Bool(self.option("include_brackets") != Some("false"))),
            ("ignore_missing", Value::Bool(true)),
        ];
        if let Some(target) = self.option("target") {
            options.push(("target_field", Value::from(path(target))));
        }
        if let Some(prefix) = self.option("prefix") {
            if prefix.contains("%{") {
                return Err("a field's value in prefix".to_owned());
            }
            options.push(("prefix", Value::from(prefix)));
        }
        for name in ["include_keys", "exclude_keys"] {
            let keys = texts(self.config.get(name));
            if keys.iter().any(|key| key.contains("%{")) {
                return Err(format!("a field's value in {name}"));
            }
            if !keys.is_empty() {
                options.push((name, list(keys.into_iter().map(Value::from))));
            }
        }
        for name in ["trim_key", "trim_value"] {
            if let Some(chars) = self.option(name) {
                options.push((name, Value::from(chars)));
            }
        }
        Ok(vec![object(&[("kv", object(&options))])])
    }

    fn csv(&self) -> Result<Vec<Value>, String> {
        let prefix = self.option("target").map(|target| format!("{}.", path(target))).unwrap_or_default();
        let mut columns = texts(self.config.get("columns"));
        let generate = !matches!(self.config.get("autogenerate_column_names"), Some(Value::Bool(false)));
        while generate && columns.len() < COLUMNS_MAX {
            columns.push(format!("column{}", columns.len() + 1));
        }
        let name = |column: &String| Value::from(format!("{prefix}{}", path(column)));
        let mut options = vec![
            ("field", Value::from(self.source())),
            ("target_fields", list(columns.iter().map(name))),
            ("ignore_missing", Value::Bool(true)),
        ];
        for (ours, theirs) in [("separator", "separator"), ("quote", "quote_char")] {
            let Some(written) = self.option(theirs) else { continue };
            let text = match written.strip_prefix("\\x").map(|hex| u8::from_str_radix(hex, 16)) {
                Some(Ok(byte)) => char::from(byte).to_string(),
                _ => written.replace("\\t", "\t"),
            };
            if text.chars().count() != 1 {
                return Err(format!("{theirs} of several characters"));
            }
            options.push((ours, Value::from(text)));
        }
        if !matches!(self.config.get("skip_empty_columns"), Some(Value::Bool(true))) {
            options.push(("empty_value", Value::from("")));
        }
        let mut processors = vec![object(&[("csv", object(&options))])];
        for (column, kind) in pairs(self.config.get("convert")) {
            let field = format!("{prefix}{}", path(&column));
            processors.push(match kind.as_text().unwrap_or_default() {
                "integer" => convert(&field, "long"),
                "float" => convert(&field, "double"),
                "boolean" => convert(&field, "boolean"),
                "date" => date(&field, "yyyy-MM-dd"),
                "date_time" => date(&field, "yyyy-MM-dd HH:mm:ss"),
                other => return Err(format!("convert to {other}")),
            });
        }
        Ok(processors)
    }

    fn json(&self) -> Vec<Value> {
        let target = match self.option("target") {
            Some(target) => ("target_field", Value::from(path(target))),
            None => ("add_to_root", Value::Bool(true)),
        };
        let mut options = vec![("field", Value::from(self.source())), target];
        if matches!(self.config.get("skip_on_invalid_json"), Some(Value::Bool(true))) {
            options.push(("ignore_failure", Value::Bool(true)));
        }
        vec![object(&[("json", object(&options))])]
    }

    fn date(&self) -> Vec<Value> {
        let written = texts(self.config.get("match"));
        let (field, formats) = written.split_first().expect("a field and its formats");
        let mut options = vec![
            ("field", Value::from(path(field))),
            ("formats", list(formats.iter().map(|format| Value::from(format.as_str())))),
            // Theirs is the zone of the process, which runs in UTC.
            ("timezone", Value::from(template(self.option("timezone").unwrap_or("UTC")))),
        ];
        for (ours, theirs) in [("target_field", "target"), ("locale", "locale")] {
            if let Some(text) = self.option(theirs) {
                options.push((ours, Value::from(path(text))));
            }
        }
        if self.option("timezone").is_none() {
            options.remove(2);
        }
        vec![object(&[("date", object(&options))])]
    }

    fn user_agent(&self) -> Vec<Value> {
        vec![object(&[(
            "user_agent",
            object(&[
                ("field", Value::from(self.source())),
                ("target_field", Value::from(self.agent_target())),
                ("ignore_missing", Value::Bool(true)),
            ]),
        )])]
    }

    fn agent_target(&self) -> String {
        path(self.option("target").unwrap_or("user_agent"))
    }

    /// The event that comes out, failures told in `tags`.
    fn run(&self, processors: Vec<Value>) -> Object {
        let handlers = self.tags_on_failure().iter().map(|tag| append_tag(tag)).collect::<Vec<_>>();
        let pipeline = object(&[("processors", list(processors)), ("on_failure", list(handlers))]).to_json();
        let mut library = Library::new();
        if let Err(error) = library.add("p", "p.yml", &pipeline) {
            return std::iter::once(("refused".into(), Value::from(format!("{error} {pipeline}")))).collect();
        }
        let Some(Value::Object(source)) = self.written.get("input_event") else { return Object::new() };
        let mut event = Event::new(source.clone());
        let now = engine::parse_now(text_of(&self.written, "now").unwrap_or(NOW)).expect("a time");
        match library.get("p").expect("it was just added").run(&library, &mut event, now) {
            Ok(Outcome::Document) => event.source,
            other => std::iter::once(("failed".into(), Value::from(format!("{other:?}")))).collect(),
        }
    }

    /// The value of one of Logstash's fields in what came out.
    fn at(&self, fields: &Object, reference: &str) -> Option<Value> {
        let whole = path(reference);
        if self.kind != "useragent" {
            return at(fields, &whole).cloned();
        }
        // The older layout, and what is told beside the event, are other words for the same.
        let target = self.agent_target();
        let agent = match at(fields, &target)? {
            Value::Object(agent) => agent,
            _ => return None,
        };
        let beside = whole.strip_prefix("@metadata.filter.user_agent.");
        let name = beside.or_else(|| whole.strip_prefix(&format!("{target}."))).unwrap_or(&whole);
        if whole == target {
            return Some(Value::Object(agent.clone()));
        }
        let nth = |version: &str, nth: usize| {
            let parts: Vec<_> = at(agent, version)?.as_text()?.split('.').map(str::to_owned).collect();
            parts.get(nth).map(|part| Value::from(part.as_str()))
        };
        let is_flat = self.option("ecs_compatibility") == Some("disabled");
        match name {
            "major" | "version.major" => nth("version", 0),
            "minor" | "version.minor" => nth("version", 1),
            "patch" | "version.patch" => nth("version", 2),
            "os_major" | "os.version.major" => nth("os.version", 0),
            "os_minor" | "os.version.minor" => nth("os.version", 1),
            "os_patch" | "os.version.patch" => nth("os.version", 2),
            "os_version" => at(agent, "os.version").cloned(),
            "os_name" => at(agent, "os.name").cloned(),
            "os" | "os_full" if is_flat => at(agent, "os.full").or_else(|| at(agent, "os.name")).cloned(),
            "device" if is_flat => at(agent, "device.name").cloned(),
            other => at(agent, other).or_else(|| at(fields, other)).cloned(),
        }
    }

    /// What is wrong with what came out, if anything is.
    fn wrong(&self, fields: &Object) -> Option<String> {
        for outcome in ["refused", "failed"] {
            if let Some(Value::Text(why)) = fields.get(outcome) {
                return Some(format!("{outcome}: {why}"));
            }
        }
        for (name, wanted) in pairs(self.written.get("expect")) {
            let wanted = match wanted {
                Value::Text(text) => Value::from(text.replace("{{current_year}}", YEAR)),
                other => other,
            };
            let got = self.at(fields, &name);
            if !got.as_ref().is_some_and(|got| is_same(got, &wanted)) {
                return Some(format!("{name}: {:?}, not {}", got.map(|got| got.to_json()), wanted.to_json()));
            }
        }
        for (name, wanted) in pairs(self.written.get("expect_string")) {
            let got = self.at(fields, &name).map(|got| got.to_json());
            if got.as_deref().map(|got| got.trim_matches('"')) != wanted.as_text() {
                return Some(format!("{name}: {got:?}, not {}", wanted.to_json()));
            }
        }
        for (name, wanted) in pairs(self.written.get("expect_year")) {
            let wanted = wanted.to_json().replace("{{current_year}}", YEAR);
            let got = self.at(fields, &name).map(|got| got.to_json()).unwrap_or_default();
            if !got.trim_matches('"').starts_with(wanted.trim_matches('"')) {
                return Some(format!("{name}: {got}, not of {wanted}"));
            }
        }
        for (name, unwanted) in pairs(self.written.get("not_equal")) {
            let got = self.at(fields, &name);
            if let Value::Array(unwanted) = unwanted
                && unwanted.iter().any(|unwanted| got.as_ref() == Some(unwanted))
            {
                return Some(format!("{name} is {:?}", got.map(|got| got.to_json())));
            }
        }
        self.wrong_members(fields)
    }

    fn wrong_members(&self, fields: &Object) -> Option<String> {
        let has = |value: &Value, member: &Value| match value {
            Value::Array(values) => values.contains(member),
            Value::Object(object) => member.as_text().is_some_and(|key| object.contains(key)),
            Value::Text(text) => member.as_text().is_some_and(|part| text.contains(part)),
            _ => false,
        };
        for (key, should) in [("contains", true), ("not_contains", false)] {
            for (name, members) in pairs(self.written.get(key)) {
                let Value::Array(members) = members else { continue };
                let value = at(fields, &path(&name)).cloned().unwrap_or_default();
                if members.iter().any(|member| has(&value, member) != should) {
                    return Some(format!("{name}: {}, {key} {}", value.to_json(), list(members).to_json()));
                }
            }
        }
        for (name, keys) in pairs(self.written.get("exact")).iter().filter(|(name, _)| !name.contains("@metadata")) {
            let wanted = texts(Some(keys));
            let got = match at(fields, &path(name)) {
                Some(Value::Object(object)) => object.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>(),
                _ => Vec::new(),
            };
            if got.len() != wanted.len() || wanted.iter().any(|key| !got.contains(key)) {
                return Some(format!("{name} has {got:?}, not {wanted:?}"));
            }
        }
        let there = texts(self.written.get("absent")).into_iter().find(|name| self.at(fields, name).is_some());
        let missing = texts(self.written.get("present")).into_iter().find(|name| self.at(fields, name).is_none());
        match (there, missing) {
            (Some(name), _) => Some(format!("{name} is there")),
            (None, Some(name)) => Some(format!("{name} is missing")),
            (None, None) => None,
        }
    }

    /// The rule by which Elasticsearch's processor comes to another result, if there is one.
    fn differs(&self) -> Option<&'static str> {
        let input = self.input();
        match self.kind.as_str() {
            "kv" if self.option("target").map(path) == Some(self.source()) => Some("a text holds no fields"),
            "kv" => self.kv_differs(&input),
            "dissect" => pairs(self.config.get("mapping")).iter().find_map(|(_, pattern)| {
                let delimiters = pattern.as_text()?.split("%{").map(|part| part.rsplit('}').next().unwrap_or(part));
                delimiters.into_iter().any(|text| text.contains('%')).then_some("no delimiter holds a percent sign")
            }),
            "date" => {
                let written = texts(self.config.get("match"));
                let formats = written.get(1..).unwrap_or_default();
                let named = ["ISO8601", "UNIX", "UNIX_MS", "TAI64N"];
                let java = formats.iter().filter(|format| !named.contains(&format.as_str()));
                let yearless: Vec<_> = java.filter(|format| !format.contains(['y', 'Y', 'u'])).collect();
                let is_blank = input.chars().nth("2001-11-06".len()) == Some(' ');
                if formats.iter().any(|format| format == "ISO8601") && is_blank {
                    Some("ISO8601 has a T between date and time")
                } else if formats.len() > 1 {
                    Some("of several formats that fit, the last wins")
                } else if yearless.iter().any(|format| format.contains(['Z', 'z', 'X', 'x'])) {
                    Some("a zone in a date without a year is passed over")
                } else if yearless.iter().any(|format| format.contains("EEE")) {
                    Some("a day of the week has to fit the date")
                } else {
                    None
                }
            }
            "useragent" if input.trim().is_empty() => Some("an empty text is an agent, too"),
            "useragent" => Some("os.full is there with a version only").filter(|_| {
                let pairs = pairs(self.written.get("expect"));
                let full = |name: &str| pairs.iter().find(|(key, _)| key.ends_with(name)).map(|(_, value)| value);
                full("[os][full]").is_some() && full("[os][full]") == full("[os][name]")
            }),
            "csv" if input.trim().is_empty() => Some("an empty text has no values"),
            "json" if input.trim().is_empty() => Some("an empty text is null"),
            _ => None,
        }
    }

    fn kv_differs(&self, input: &str) -> Option<&'static str> {
        let is_of = |chars: &str, pattern: &str, default: &str, c: char| match self.option(pattern) {
            Some(pattern) => pattern.contains(c),
            None => self.option(chars).unwrap_or(default).contains(c),
        };
        let is_field_split = |c: char| is_of("field_split", "field_split_pattern", " ", c);
        let is_value_split = |c: char| is_of("value_split", "value_split_pattern", "=", c);
        // Inside of quotes and brackets.
        let mut closing = None;
        for c in input.chars() {
            match closing {
                Some(end) if c == end => closing = None,
                Some(_) if is_field_split(c) => return Some("what is quoted is split like the rest"),
                Some(_) => {}
                None => {
                    let pairs = [('"', '"'), ('\'', '\''), ('(', ')'), ('[', ']'), ('<', '>')];
                    closing = pairs.iter().find(|(open, _)| *open == c).map(|(_, close)| *close);
                }
            }
        }
        if input.split(is_field_split).any(|part| !part.contains(is_value_split)) {
            return Some("a part without a value fails");
        }
        let is_empty = |part: &str| {
            part.split_once(is_value_split).is_some_and(|(key, value)| {
                key.is_empty() || value.trim_matches(['"', '\'', '[', ']', '(', ')', '<', '>']).is_empty()
            })
        };
        input.split(is_field_split).any(is_empty).then_some("an empty value is a value")
    }
}

/// The same value, or the same time under another offset.
fn is_same(got: &Value, wanted: &Value) -> bool {
    let time = |value: &Value| engine::parse_now(value.as_text()?).ok();
    got.same_json(wanted) || time(got).is_some_and(|got| time(wanted) == Some(got))
}

fn append_tag(tag: &str) -> Value {
    object(&[("append", object(&[("field", Value::from("tags")), ("value", Value::from(template(tag)))]))])
}

fn convert(field: &str, kind: &str) -> Value {
    let options =
        [("field", Value::from(path(field))), ("type", Value::from(kind)), ("ignore_missing", Value::Bool(true))];
    object(&[("convert", object(&options))])
}

fn date(field: &str, format: &str) -> Value {
    let field = Value::from(field);
    let options = [
        ("field", field.clone()),
        ("formats", list([Value::from(format), Value::from("ISO8601")])),
        ("target_field", field),
        ("ignore_failure", Value::Bool(true)),
    ];
    object(&[("date", object(&options))])
}

/// What stands between the field at `at` and the one before it.
fn delimiter_before(pattern: &str, at: usize) -> &str {
    let before = pattern.get(..at).unwrap_or_default();
    before.rsplit('}').next().unwrap_or_default()
}

/// `%{[a][b]}` → `%{a.b}`
fn brackets_to_dots(pattern: &str) -> String {
    let mut out = String::new();
    for (nth, part) in pattern.split("%{").enumerate() {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        match nth {
            0 => out.push_str(part),
            _ if name.contains('[') => {
                out.push_str(&format!("%{{{}}}{rest}", name.replace("][", ".").replace(['[', ']'], "")))
            }
            _ => out.push_str(&format!("%{{{part}")),
        }
    }
    out
}

fn at<'v>(fields: &'v Object, path: &str) -> Option<&'v Value> {
    let mut parts = path.split('.');
    let mut value = fields.get(parts.next()?)?;
    for part in parts {
        value = match value {
            Value::Object(object) => object.get(part)?,
            Value::Array(values) => values.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

#[test]
fn nearly_all_cases_of_the_original_that_can_be_written_as_a_pipeline_come_out_the_same() {
    let Some(folder) = folder() else { return };
    let mut failures = Vec::new();
    for kind in ["dissect", "kv", "date", "json", "csv", "useragent"] {
        let text = std::fs::read_to_string(folder.join(format!("{kind}.jsonl"))).expect("the cases can be read");
        let (mut of, mut passed, mut cannot, mut differ, mut failed) = (0, 0, Vec::new(), Vec::new(), Vec::new());
        for line in text.lines() {
            let Ok(Value::Object(written)) = Value::from_json(line.as_bytes()) else { panic!("{line}") };
            let config = match written.get("config") {
                Some(Value::Object(config)) => config.clone(),
                _ => Object::new(),
            };
            let case = Case { kind: kind.to_owned(), config, written };
            of += 1;
            let wrong = case.processors().map(|processors| case.wrong(&case.run(processors)));
            match (wrong, case.differs()) {
                (Err(option), _) => cannot.push(option),
                (Ok(None), _) => passed += 1,
                (Ok(Some(_)), Some(rule)) => differ.push(rule),
                (Ok(Some(wrong)), None) => {
                    failed.push(format!("{} {wrong}", text_of(&case.written, "id").unwrap_or_default()));
                }
            }
        }
        println!(
            "{kind}: {passed} of {of} passed, {} failed, {} differ {differ:?}, {} cannot be written as a pipeline {cannot:?}",
            failed.len(),
            differ.len(),
            cannot.len()
        );
        if passed * 100 < (passed + failed.len()) * PASSED_PERCENT_MIN || passed * 3 < of {
            failures.extend(failed);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
