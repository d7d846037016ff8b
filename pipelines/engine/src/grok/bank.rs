//! Pattern names and their definitions: the stock sets, and what a processor defines on top.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Longest pattern after all names are filled in, in bytes.
const EXPANDED_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of names in definitions.
const NESTING_MAX: usize = 64;

/// Which stock set a processor uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ecs {
    /// The old names: `clientip`, `verb`, …
    Disabled,
    /// Names of the Elastic Common Schema, version 1.
    V1,
}

type Definitions = HashMap<&'static str, &'static str>;

const LEGACY_FILES: &[&str] = &[
    include_str!("patterns/common"),
    include_str!("patterns/legacy/grok-patterns"),
    include_str!("patterns/legacy/httpd"),
    include_str!("patterns/legacy/java"),
    include_str!("patterns/legacy/linux-syslog"),
];

const V1_FILES: &[&str] = &[
    include_str!("patterns/common"),
    include_str!("patterns/ecs-v1/grok-patterns"),
    include_str!("patterns/ecs-v1/httpd"),
    include_str!("patterns/ecs-v1/java"),
    include_str!("patterns/ecs-v1/linux-syslog"),
];

static LEGACY: LazyLock<Definitions> = LazyLock::new(|| parse(LEGACY_FILES));
static V1: LazyLock<Definitions> = LazyLock::new(|| parse(V1_FILES));

fn parse(files: &[&'static str]) -> Definitions {
    let lines = files.iter().flat_map(|file| file.lines());
    let definitions = lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    definitions.filter_map(|line| line.split_once(' ')).map(|(name, text)| (name, text.trim_start())).collect()
}

/// Definitions by name.
#[derive(Debug, Clone)]
pub struct Bank {
    stock: &'static Definitions,
    own: HashMap<String, String>,
}

impl Bank {
    /// The stock set.
    pub fn stock(ecs: Ecs) -> Self {
        let stock = match ecs {
            Ecs::Disabled => &*LEGACY,
            Ecs::V1 => &*V1,
        };
        Self { stock, own: HashMap::new() }
    }

    /// Adds a definition, which hides a stock one of the same name.
    pub fn define(&mut self, name: &str, definition: &str) {
        self.own.insert(name.to_owned(), definition.to_owned());
    }

    /// The names of the stock set.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.stock.keys().copied()
    }

    fn definition(&self, name: &str) -> Option<&str> {
        self.own.get(name).map(String::as_str).or_else(|| self.stock.get(name).copied())
    }

    /// Fills in every `%{NAME}` of `pattern`; `%{NAME:field}` becomes a named group.
    pub(super) fn expand(&self, pattern: &str) -> Result<String, String> {
        let mut expanded = String::new();
        self.expand_into(pattern, &mut Vec::new(), &mut expanded)?;
        Ok(expanded)
    }

    fn expand_into(&self, pattern: &str, open: &mut Vec<String>, out: &mut String) -> Result<(), String> {
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once("%{") {
            out.push_str(before);
            let Some(reference) = Reference::parse(after) else {
                out.push_str("%\\{"); // Not a reference: as the original, it stands for itself.
                rest = after;
                continue;
            };
            rest = reference.rest;
            let name = reference.name;
            if open.iter().any(|open| open == name) {
                let circle = open.join("=>");
                return Err(format!("circular reference in pattern [{name}] back to pattern [{circle}=>{name}]"));
            }
            let definition =
                reference.definition.or_else(|| self.definition(name)).ok_or_else(|| self.unknown(name))?;
            match reference.field {
                Some(field) => {
                    out.push_str("(?<");
                    out.push_str(field);
                    out.push('>');
                }
                None => out.push_str("(?:"),
            }
            if open.len() == NESTING_MAX || out.len() > EXPANDED_BYTES_MAX {
                return Err(format!("pattern [{name}] is nested too deeply or too long once names are filled in"));
            }
            open.push(name.to_owned());
            self.expand_into(definition, open, out)?;
            open.pop();
            out.push(')');
        }
        out.push_str(rest);
        Ok(())
    }

    fn unknown(&self, name: &str) -> String {
        let near: Vec<_> = {
            let mut near: Vec<_> =
                self.stock.keys().filter(|known| known.contains(name) || name.contains(**known)).collect();
            near.sort_by_key(|known| known.len().abs_diff(name.len()));
            near.into_iter().take(3).copied().collect()
        };
        let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
        format!("Unable to find pattern [{name}] in Grok's pattern dictionary{hint}")
    }
}

/// `NAME}`, `NAME:field}`, `NAME:field:type}`, `NAME=definition}` after the opening `%{`.
struct Reference<'p> {
    name: &'p str,
    field: Option<&'p str>,
    definition: Option<&'p str>,
    rest: &'p str,
}

impl<'p> Reference<'p> {
    fn parse(text: &'p str) -> Option<Self> {
        let name_end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))?;
        let (name, mut rest) = text.split_at(name_end);
        if name.is_empty() {
            return None;
        }
        let mut field = None;
        if let Some(after) = rest.strip_prefix(':') {
            let end =
                after.find(|c: char| !(c.is_alphanumeric() || matches!(c, '@' | '[' | ']' | '_' | ':' | '.' | '-')))?;
            let (written, after) = after.split_at(end);
            field = Some(written).filter(|written| !written.is_empty());
            // Logstash's sets write `[a][b]?`; what is left before the brace says nothing.
            rest = after.strip_prefix('?').unwrap_or(after);
        }
        let mut definition = None;
        if let Some(after) = rest.strip_prefix('=') {
            let end = definition_end(after)?;
            let (written, after) = after.split_at(end);
            definition = Some(written);
            rest = after;
        }
        Some(Self { name, field, definition, rest: rest.strip_prefix('}')? })
    }
}

/// Where an inline definition ends: at the brace that closes the reference.
fn definition_end(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}
