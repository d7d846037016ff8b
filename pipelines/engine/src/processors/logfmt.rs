//! `logfmt`: `level=info msg="it works" ok` into fields. Ours; no search node has it.

use super::append::append;
use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use event::document::KEYS_MAX;
use event::{Event, FieldPath, Value};
use std::iter::Peekable;
use std::str::CharIndices;

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "target_field"];

#[derive(Debug)]
struct Logfmt {
    field: FieldPath,
    /// What the names are put under, with its dot; nothing for the root.
    prefix: String,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let prefix = match options.text_if_set("target_field")? {
        Some(text) => format!("{}.", options.parse_path("target_field", &text)?),
        None => String::new(),
    };
    Ok(Box::new(Logfmt { field, prefix, ignore_missing: options.flag("ignore_missing", false)? }))
}

impl Step for Logfmt {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let Some(text) = text_at(event, &self.field, self.ignore_missing)?.cloned() else { return Ok(Flow::Continue) };
        let mut made = 0;
        // All are read before the first is stored: a text that can't be read changes nothing.
        for (key, value) in pairs(&text).map_err(|wrong| Problem::new(format!("{wrong} in [{text}]")))? {
            let path = FieldPath::new(&[self.prefix.as_str(), key].concat())?;
            // The field that is read is replaced by a pair of its name; any other value is joined by it.
            if path != self.field && event.has(&path) {
                append(event, &path, value, true)?;
                continue;
            }
            event.set(&path, value)?;
            made += 1;
            if made > KEYS_MAX {
                return Err(Problem::new(format!("field [{}] has more than {KEYS_MAX} keys", self.field)));
            }
        }
        Ok(Flow::Continue)
    }
}

/// The pairs of `text`. A name without a value is true; texts stay texts, whatever they look like.
fn pairs(text: &str) -> Result<Vec<(&str, Value)>, String> {
    let mut pairs = Vec::new();
    let mut chars = text.char_indices().peekable();
    loop {
        while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        let Some((start, _)) = chars.peek().copied() else { return Ok(pairs) };
        let end = skip(text, &mut chars, |c| c != '=' && !c.is_whitespace());
        let key = text.get(start..end).unwrap_or_default();
        if chars.next_if(|(_, c)| *c == '=').is_none() {
            pairs.push((key, Value::Bool(true)));
            continue;
        }
        if key.is_empty() {
            return Err(format!("a value without a name at byte {start}"));
        }
        let value = match chars.peek().copied() {
            Some((at, '"')) => Value::from(quoted(at, &mut chars)?),
            Some((at, _)) => {
                let end = skip(text, &mut chars, |c| !c.is_whitespace());
                Value::from(text.get(at..end).unwrap_or_default())
            }
            None => Value::from(""),
        };
        pairs.push((key, value));
    }
}

/// Moves on while `fits`. Where that ends.
fn skip(text: &str, chars: &mut Peekable<CharIndices<'_>>, fits: impl Fn(char) -> bool) -> usize {
    while chars.next_if(|(_, c)| fits(*c)).is_some() {}
    chars.peek().map_or(text.len(), |(at, _)| *at)
}

fn quoted(start: usize, chars: &mut Peekable<CharIndices<'_>>) -> Result<String, String> {
    chars.next();
    let mut value = String::new();
    while let Some((_, c)) = chars.next() {
        match c {
            '"' => return Ok(value),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, other)) => value.push(other),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(format!("a quote that is not closed at byte {start}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read() {
        let read = |text: &'static str| {
            pairs(text).map(|pairs| pairs.into_iter().map(|(key, value)| (key, value.to_json())).collect::<Vec<_>>())
        };
        let expected =
            [("level", "\"info\""), ("msg", r#""it \"works\"""#), ("ok", "true"), ("n", "\"1\""), ("e", "\"\"")];
        let expected = expected.map(|(key, value)| (key, value.to_owned())).to_vec();
        assert_eq!(read(r#"level=info  msg="it \"works\"" ok n=1 e="#), Ok(expected));
        assert_eq!(read(r#"a="b"#), Err("a quote that is not closed at byte 2".to_owned()));
        assert_eq!(read("=b"), Err("a value without a name at byte 0".to_owned()));
        assert_eq!(read(" "), Ok(Vec::new()));
    }
}
