//! `csv`: one line of separated values into fields.

use crate::failure::Problem;
use crate::options::{Options, Wrong, missing, text_at};
use crate::pipeline::{Flow, Run, Step};
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] =
    &["empty_value", "field", "ignore_missing", "quote", "separator", "target_fields", "trim"];

#[derive(Debug)]
struct Csv {
    field: FieldPath,
    targets: Vec<FieldPath>,
    separator: char,
    quote: char,
    trim: bool,
    empty_value: Option<Value>,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let names = options.one_or_more("target_fields")?;
    if names.is_empty() {
        return Err(missing("target_fields"));
    }
    let targets: Result<_, _> = names.iter().map(|name| options.parse_path("target_fields", name)).collect();
    Ok(Box::new(Csv {
        field,
        targets: targets?,
        separator: options.character(
            "separator",
            ',',
            "[separator] separator has to be single character like , or ;",
        )?,
        quote: options.character("quote", '"', "[quote] quote has to be single character like \" or '")?,
        trim: options.flag("trim", false)?,
        empty_value: options.take("empty_value"),
        ignore_missing: options.flag("ignore_missing", false)?,
    }))
}

impl Step for Csv {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let Some(text) = text_at(event, &self.field, self.ignore_missing)?.cloned() else { return Ok(Flow::Continue) };
        let mut targets = self.targets.iter();
        self.read(&text, &mut |part| {
            if let Some(target) = targets.next() {
                match (&self.empty_value, part.is_empty()) {
                    (_, false) => event.set(target, Value::from(part))?,
                    (Some(empty), true) => event.set(target, empty.clone())?,
                    (None, true) => {}
                }
            }
            Ok(targets.len() > 0)
        })?;
        Ok(Flow::Continue)
    }
}

type Each<'e> = dyn FnMut(&str) -> Result<bool, Box<Problem>> + 'e;

/// White space between values, as the original knows it.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

impl Csv {
    /// Calls `each` with every value until it wants no more. What comes then is not looked at.
    ///
    /// Specified by the original's `CsvParser`: places in errors are counted in characters, a separator at the very end
    /// opens no further value, and spaces in front of a quote are let through.
    fn read(&self, line: &str, each: &mut Each<'_>) -> Result<(), Box<Problem>> {
        let mut chars = line.char_indices().peekable();
        let mut place = 0;
        loop {
            // At the start of a value.
            let mut start = chars.peek().map_or(line.len(), |(at, _)| *at);
            let first = loop {
                let Some((at, c)) = chars.next() else { return Ok(()) };
                place += 1;
                if c == self.quote || c == self.separator || !is_blank(c) {
                    break (at, c);
                }
                if self.trim {
                    start = at + c.len_utf8();
                }
            };
            if first.1 == self.separator {
                if !each("")? {
                    return Ok(());
                }
                continue;
            }
            let more = if first.1 == self.quote {
                self.quoted(line, &mut chars, &mut place, each)?
            } else {
                self.unquoted(line, start, &mut chars, &mut place, each)?
            };
            if !more {
                return Ok(());
            }
        }
    }

    /// Behind the first character of a value without quotes. True if the line goes on.
    fn unquoted(
        &self,
        line: &str,
        start: usize,
        chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>,
        place: &mut usize,
        each: &mut Each<'_>,
    ) -> Result<bool, Box<Problem>> {
        let value = |end: usize| line.get(start..end).unwrap_or_default();
        for (at, c) in chars.by_ref() {
            if c == self.quote || matches!(c, '\n' | '\r') {
                return Err(Problem::new(format!("Illegal character inside unquoted field at {place}")));
            }
            *place += 1;
            if c == self.separator {
                let value = value(at);
                return each(if self.trim { value.trim_end_matches(is_blank) } else { value });
            }
        }
        each(value(line.len()))?; // The original does not trim the end of the line.
        Ok(false)
    }

    /// Behind the opening quote. True if the line goes on.
    fn quoted(
        &self,
        line: &str,
        chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>,
        place: &mut usize,
        each: &mut Each<'_>,
    ) -> Result<bool, Box<Problem>> {
        let mut start = chars.peek().map_or(line.len(), |(at, _)| *at);
        let mut value = String::new();
        loop {
            let Some((end, c)) = chars.next() else { return Err(Problem::new("Unmatched quote")) };
            *place += 1;
            if c != self.quote {
                continue;
            }
            value.push_str(line.get(start..end).unwrap_or_default());
            match chars.peek() {
                // Two quotes are one.
                Some((at, next)) if *next == self.quote => {
                    value.push(self.quote);
                    start = at + next.len_utf8();
                    chars.next();
                    *place += 1;
                }
                _ => break,
            }
        }
        let mut more = true;
        let mut told = false;
        for (_, c) in chars.by_ref() {
            if c == self.separator {
                return if told { Ok(more) } else { each(&value) };
            }
            if !is_blank(c) {
                return Err(Problem::new(format!("character '{c}' after quoted field at {place}")));
            }
            *place += 1;
            if !told {
                (more, told) = (each(&value)?, true);
                if !more {
                    return Ok(false);
                }
            }
        }
        if !told {
            each(&value)?;
        }
        Ok(false)
    }
}
