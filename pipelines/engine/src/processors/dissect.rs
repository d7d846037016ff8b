//! `dissect`: fields out of a text by the delimiters between them.

use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use compact_str::CompactString;
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] = &["append_separator", "field", "ignore_missing", "pattern"];

/// Type name of a text that the pattern does not fit.
const FIND_MATCH: &str = "find_match";

#[derive(Debug)]
struct Dissect {
    field: FieldPath,
    pattern: Pattern,
    separator: CompactString,
    ignore_missing: bool,
}

#[derive(Debug)]
struct Pattern {
    text: CompactString,
    leading: CompactString,
    keys: Vec<Key>,
    /// How many fields a match gives.
    results: usize,
}

#[derive(Debug, Clone)]
struct Key {
    name: CompactString,
    kind: Kind,
    /// `->`: the delimiter behind it may stand more than once.
    padded: bool,
    delimiter: CompactString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Skip,
    Append,
    AppendAt(u16),
    /// `*name`: the text is the name of a field.
    FieldName,
    /// `&name`: the text is its value.
    FieldValue,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let pattern = Pattern::parse(&options.text("pattern")?)?;
    let separator = options.text_if_set("append_separator")?.unwrap_or_default();
    Ok(Box::new(Dissect { field, pattern, separator, ignore_missing: options.flag("ignore_missing", false)? }))
}

impl Step for Dissect {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let text = match text_at(event, &self.field, self.ignore_missing) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Flow::Continue),
            Err(_) if event.get(&self.field) == Some(&Value::Null) => {
                return Err(Problem::new(format!("field [{}] is null, cannot process it.", self.field)));
            }
            Err(problem) => return Err(problem),
        };
        let found = self.pattern.find(text).and_then(|texts| self.pattern.fields(&texts, &self.separator));
        let Some(fields) = found else {
            let reason =
                format!("Unable to find match for dissect pattern: {} against source: {text}", self.pattern.text);
            return Err(Box::new(Problem { kind: FIND_MATCH, reason, cause: None }));
        };
        for (name, value) in fields {
            event.set(&FieldPath::new(&name)?, Value::Text(value))?;
        }
        Ok(Flow::Continue)
    }
}

impl Pattern {
    /// Parses what stands in a pipeline file.
    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |reason: &str| Err(format!("[pattern] Unable to parse pattern: {text} Reason: {reason}"));
        let leading = text.find('%').and_then(|at| text.get(..at)).unwrap_or_default();
        let mut keys = Vec::new();
        let mut rest = text.get(leading.len()..).unwrap_or_default();
        while let Some((_, after)) = rest.split_once("%{") {
            let Some((key, after)) = after.split_once('}') else { break };
            let end = after.find('%').unwrap_or(after.len());
            let (delimiter, next) = after.split_at(end);
            keys.push(Key::parse(key, delimiter).map_err(|reason| format!("[pattern] {reason}"))?);
            rest = next;
        }
        if keys.is_empty() {
            return wrong("Unable to find any keys or delimiters.");
        }
        // A plain key of a name that is appended to elsewhere is the first part.
        let appended: Vec<CompactString> = keys
            .iter()
            .filter(|key| matches!(key.kind, Kind::Append | Kind::AppendAt(_)))
            .map(|key| key.name.clone())
            .collect();
        for key in &mut keys {
            if key.kind == Kind::Plain && appended.contains(&key.name) {
                key.kind = Kind::Append;
            }
        }
        for key in keys.iter().filter(|key| matches!(key.kind, Kind::FieldName | Kind::FieldValue)) {
            let of_name = |key: &&Key, kind: Kind, name: &str| key.kind == kind && key.name == name;
            let count = |kind: Kind| keys.iter().filter(|other| of_name(other, kind, &key.name)).count();
            if count(Kind::FieldName) != 1 || count(Kind::FieldValue) != 1 {
                return wrong(&format!(
                    "Found invalid key/reference associations: '{}' Please ensure each '*<key>' is matched with a matching '&<key>",
                    key.name
                ));
            }
        }
        let mut names: Vec<_> = keys.iter().filter(|key| key.kind != Kind::Skip).map(|key| &key.name).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return wrong("Expected results are zero, can not construct DissectMatch");
        }
        let results = names.len();
        Ok(Self { text: text.into(), leading: leading.into(), keys, results })
    }

    /// The texts of the keys in `text`, one for each. `None` if the pattern does not fit.
    ///
    /// Specified by the original's `DissectParser`: it never goes back, and one delimiter right behind another stands for
    /// empty texts of the keys that follow, whatever their own delimiters are.
    fn find<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        let mut rest = text.strip_prefix(self.leading.as_str()).filter(|rest| !rest.is_empty())?;
        let mut texts = Vec::with_capacity(self.keys.len());
        let mut keys = self.keys.iter();
        let mut key = keys.next()?;
        loop {
            let delimiter = key.delimiter.as_str();
            if delimiter.is_empty() {
                // It takes the rest. If another key follows there is nothing left for that one.
                texts.push(rest);
                return (texts.len() == self.keys.len()).then_some(texts);
            }
            let found = rest.split_once(delimiter);
            event::steps::count(found.map_or(rest.len(), |(value, _)| value.len()) + delimiter.len());
            let (value, mut after) = found?;
            texts.push(value);
            while let Some(behind) = after.strip_prefix(delimiter) {
                after = behind;
                if !key.padded {
                    let Some(next) = keys.next() else { break };
                    key = next;
                    texts.push("");
                }
            }
            rest = after;
            match keys.next() {
                Some(next) => key = next,
                None => return (texts.len() == self.keys.len()).then_some(texts),
            }
        }
    }

    /// Names and values of the fields, or `None` if two have the same name.
    fn fields(&self, texts: &[&str], separator: &str) -> Option<Vec<(CompactString, CompactString)>> {
        let mut fields: Vec<(CompactString, CompactString)> = Vec::with_capacity(self.results);
        let mut put = |name: &str, value: CompactString| match fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => fields.push((name.into(), value)),
        };
        for (nth, (key, text)) in self.keys.iter().zip(texts).enumerate() {
            match key.kind {
                Kind::Skip | Kind::FieldValue => {}
                Kind::Plain => put(&key.name, (*text).into()),
                Kind::FieldName => {
                    let value = |(other, _): &(&Key, &&str)| other.kind == Kind::FieldValue && other.name == key.name;
                    let (_, value) = self.keys.iter().zip(texts).find(value)?;
                    put(text, (*value).into());
                }
                Kind::Append | Kind::AppendAt(_) => {
                    let is_first = self.keys.iter().take(nth).all(|other| other.name != key.name);
                    if is_first {
                        put(&key.name, self.appended(&key.name, texts, separator).into());
                    }
                }
            }
        }
        (fields.len() == self.results).then_some(fields)
    }

    /// The parts of `name` in their order: by the number that is written, else as they come.
    fn appended(&self, name: &str, texts: &[&str], separator: &str) -> String {
        let mut implicit = i32::MIN; // In front of those that are numbered.
        let mut parts = Vec::new();
        for (key, text) in self.keys.iter().zip(texts).filter(|(key, _)| key.name == name) {
            match key.kind {
                Kind::AppendAt(order) => parts.push((i32::from(order), *text)),
                Kind::Append => {
                    parts.push((implicit, *text));
                    implicit += 1;
                }
                _ => {}
            }
        }
        parts.sort_by_key(|(order, _)| *order);
        parts.iter().map(|(_, text)| *text).collect::<Vec<_>>().join(separator)
    }
}

impl Key {
    fn parse(text: &str, delimiter: &str) -> Result<Self, String> {
        let (body, padded) = text.strip_suffix("->").map_or((text, false), |body| (body, true));
        // As in the original the first of these signs counts, wherever it stands.
        let (kind, mut name) = match body.split_once(['+', '*', '&', '?']) {
            None if body.is_empty() => (Kind::Skip, body),
            None => (Kind::Plain, body),
            Some((before, name)) => match body.as_bytes().get(before.len()) {
                Some(b'+') => (Kind::Append, name),
                Some(b'*') => (Kind::FieldName, name),
                Some(b'&') => (Kind::FieldValue, name),
                _ => (Kind::Skip, name),
            },
        };
        let mut kind = kind;
        if kind == Kind::Append
            && let Some((head, order)) = name.rsplit_once('/')
            && let Ok(order) = order.parse()
        {
            (kind, name) = (Kind::AppendAt(order), head);
        }
        if name.is_empty() && kind != Kind::Skip {
            return Err(format!("Unable to parse key: {text} Reason: The key name could be determined"));
        }
        Ok(Self { name: name.into(), kind, padded, delimiter: delimiter.into() })
    }
}
