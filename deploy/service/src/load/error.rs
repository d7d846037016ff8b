//! A parser's complaint becomes `agent.yaml:12:3: unknown field …` with the line it is about.
//!
//! A config holds secrets that are not meant to be there (a literal where a reference belongs), so only the one line is shown, cut
//! at anything that looks like a secret's key.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    string::FromUtf8Error,
};

use serde_saphyr::{MessageFormatter, UserMessageFormatter, budget::BudgetBreach};

use super::{CONFIG_BYTES_MAX, DEPTH_MAX};

/// Why a config file cannot be used. Its `Display` names file, line and column and shows the line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing or may not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a config by its size.
    #[error("{}: larger than {CONFIG_BYTES_MAX} bytes: is this the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The text is not YAML, or not what the struct asks for.
    #[error("{}{at}: {message}{snippet}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: At,
        /// What was wrong and what was expected.
        message: String,
        /// The line with a caret below the column; empty if there is none to show.
        snippet: String,
    },
}

/// Line and column, counted from 1 (columns in characters); zero where not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { Ok(()) } else { write!(f, ":{}:{}", self.line, self.column) }
    }
}

impl ConfigError {
    pub(super) fn not_utf8(path: &Path, error: &FromUtf8Error) -> Self {
        let sound = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = sound.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = String::from_utf8_lossy(sound).chars().rev().take_while(|&c| c != '\n').count() + 1;
        let message = "not UTF-8: save the file as UTF-8".to_owned();
        Self::Invalid { path: path.to_owned(), at: At { line, column }, message, snippet: String::new() }
    }

    pub(super) fn invalid(path: &Path, text: &str, error: &serde_saphyr::Error) -> Self {
        let number = |n: u64| usize::try_from(n).unwrap_or(0);
        let at = error
            .location()
            .map_or(At { line: 0, column: 0 }, |at| At { line: number(at.line()), column: number(at.column()) });
        let message = one_line(&message(error.without_snippet()));
        // An error about a secret shows nothing of the text: its value may stand on any line near.
        let snippet = if message.contains(super::secret::WHAT) { String::new() } else { snippet(text, at) };
        Self::Invalid { path: path.to_owned(), at, message, snippet }
    }
}

fn message(error: &serde_saphyr::Error) -> Cow<'_, str> {
    match error {
        // The parser names its internal limit.
        serde_saphyr::Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            "more than one YAML document: a config is one document, without `---` in between".into()
        }
        serde_saphyr::Error::Budget { breach: BudgetBreach::Depth { depth }, .. } => {
            format!("nested {depth} deep: at most {DEPTH_MAX} maps and lists within each other").into()
        }
        other => UserMessageFormatter.format_message(other),
    }
}

/// Log files and terminals get one line, free of control characters.
fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Widest part of a line that is shown, in characters.
const SNIPPET_WIDTH_MAX: usize = 160;

fn snippet(text: &str, at: At) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(line) = at.line.checked_sub(1).and_then(|above| lines.get(above)) else { return String::new() };
    if line.trim().is_empty() || within_secret(&lines, at.line - 1) {
        return String::new();
    }
    let line = mask(line);
    let shown: String = one_line(&line).chars().take(SNIPPET_WIDTH_MAX).collect();
    let caret = match at.column {
        column if (1..=shown.chars().count()).contains(&column) => format!("\n     | {}^", " ".repeat(column - 1)),
        _ => String::new(),
    };
    format!("\n{:4} | {shown}{caret}", at.line)
}

/// Words in keys whose values are nobody's business.
const SECRET_WORDS: [&str; 8] = ["password", "passwd", "secret", "token", "api_key", "apikey", "credential", "key.pem"];

fn is_secret_key(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| text.contains(word))
}

/// True if the line continues the value of a secret's key above it (a block or a folded scalar).
fn within_secret(lines: &[&str], index: usize) -> bool {
    let indent = |line: &str| line.chars().take_while(|&c| c == ' ').count();
    let mut depth = lines.get(index).map_or(0, |line| indent(line));
    for line in lines.iter().take(index).rev().filter(|line| !line.trim().is_empty()) {
        if indent(line) < depth {
            depth = indent(line);
            if is_secret_key(line) {
                return true;
            }
        }
    }
    false
}

/// Cuts the line after the first `key:` that looks like a secret's.
fn mask(line: &str) -> String {
    let mut kept = String::new();
    for part in line.split_inclusive(':') {
        kept.push_str(part);
        if is_secret_key(part) && part.ends_with(':') {
            return kept + " ***";
        }
    }
    kept
}
