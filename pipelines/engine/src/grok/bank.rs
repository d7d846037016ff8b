//! Pattern names and their definitions: the stock sets, and what a processor defines on top.

use super::parse::parse;
use super::tree::Written;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Which stock set a processor uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ecs {
    /// The old names: `clientip`, `verb`, …
    Disabled,
    /// Names of the Elastic Common Schema, version 1.
    V1,
}

type Definitions = HashMap<&'static str, Cow<'static, str>>;

/// What both sets have, except for the names of fields.
const COMMON_FILES: &[&str] = &[
    include_str!("patterns/bacula"),
    include_str!("patterns/common"),
    include_str!("patterns/firewalls"),
    include_str!("patterns/nagios"),
    include_str!("patterns/others"),
];

const LEGACY_FILES: &[&str] = &[
    include_str!("patterns/legacy/aws"),
    include_str!("patterns/legacy/bacula"),
    include_str!("patterns/legacy/bro"),
    include_str!("patterns/legacy/firewalls"),
    include_str!("patterns/legacy/grok-patterns"),
    include_str!("patterns/legacy/httpd"),
    include_str!("patterns/legacy/java"),
    include_str!("patterns/legacy/linux-syslog"),
    include_str!("patterns/legacy/nagios"),
    include_str!("patterns/legacy/others"),
];

const V1_FILES: &[&str] = &[
    include_str!("patterns/ecs-v1/aws"),
    include_str!("patterns/ecs-v1/bacula"),
    include_str!("patterns/ecs-v1/firewalls"),
    include_str!("patterns/ecs-v1/grok-patterns"),
    include_str!("patterns/ecs-v1/httpd"),
    include_str!("patterns/ecs-v1/java"),
    include_str!("patterns/ecs-v1/linux-syslog"),
    include_str!("patterns/ecs-v1/nagios"),
    include_str!("patterns/ecs-v1/others"),
    include_str!("patterns/ecs-v1/zeek"),
];

static LEGACY: LazyLock<Definitions> = LazyLock::new(|| read(LEGACY_FILES, Ecs::Disabled));
static V1: LazyLock<Definitions> = LazyLock::new(|| read(V1_FILES, Ecs::V1));

fn read(files: &[&'static str], ecs: Ecs) -> Definitions {
    let lines = COMMON_FILES.iter().chain(files).flat_map(|file| file.lines());
    let definitions = lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    definitions.filter_map(|line| line.split_once(' ')).map(|(name, text)| (name, of_set(text, ecs))).collect()
}

/// The set's part of each ⟨legacy|ecs-v1⟩.
fn of_set(text: &'static str, ecs: Ecs) -> Cow<'static, str> {
    if !text.contains('⟨') {
        return Cow::Borrowed(text);
    }
    let mut written = String::new();
    for part in text.split('⟨') {
        match part.split_once('⟩') {
            Some((choice, rest)) => {
                let (legacy, v1) = choice.split_once('|').unwrap_or((choice, choice));
                written.push_str(if ecs == Ecs::V1 { v1 } else { legacy });
                written.push_str(rest);
            }
            None => written.push_str(part),
        }
    }
    Cow::Owned(written)
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

    /// Adds the definitions of a patterns file: `NAME pattern` on each line, `#` before a comment.
    ///
    /// Errors: `file:line` of a line that is neither.
    pub fn define_all(&mut self, file: &str, text: &str) -> Result<(), String> {
        for (nth, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, definition) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let definition = definition.trim_start();
            let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
            if definition.is_empty() || !is_name {
                return Err(format!("{file}:{}: [{line}] is no definition: write NAME, a space, the pattern", nth + 1));
            }
            self.define(name, definition);
        }
        Ok(())
    }

    /// The names of the stock set.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.stock.keys().copied()
    }

    pub(super) fn definition(&self, name: &str) -> Option<&str> {
        self.own.get(name).map(String::as_str).or_else(|| self.stock.get(name).map(AsRef::as_ref))
    }

    /// `pattern` as a regular expression, names filled in, and each field an unnamed group.
    ///
    /// Errors: it is no pattern.
    pub fn expand(&self, pattern: &str) -> Result<String, String> {
        let parsed = parse(self, pattern)?;
        Ok(Written { tree: &parsed.tree, labels: &[], groups: &[] }.to_string())
    }

    /// What to say of a name that is not there.
    pub(super) fn unknown(&self, name: &str) -> String {
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
