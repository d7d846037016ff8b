//! Regular expressions in Java's syntax, matched in linear time, and what Java does with them: replace and split.
//!
//! `\d`, `\w`, `\s` and the POSIX classes mean ASCII, as in Java. What needs backtracking (look-around, back-references,
//! atomic groups, possessive repeats) is refused when it is compiled. One difference is left: `$` and `\Z` match at the
//! very end only, not before a newline that ends the text.

mod replace;
mod translate;

pub(crate) use replace::{Replacement, split};

use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_automata::{Input, Span};

/// Largest compiled automaton, in bytes.
const NFA_BYTES_MAX: usize = 8 << 20;
/// Deepest nesting.
const NESTING_MAX: u32 = 250;

/// What `Pattern.compile` may be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) ignore_case: bool,
    pub(crate) multi_line: bool,
    pub(crate) dot_all: bool,
    pub(crate) comments: bool,
    pub(crate) literal: bool,
    pub(crate) unicode_class: bool,
}

/// Flags of a literal in a script: `/x/im`. Letters that are none of them are not there: the lexer reads no others.
pub(crate) fn flags(letters: &str) -> Flags {
    Flags {
        ignore_case: letters.contains('i'),
        multi_line: letters.contains('m'),
        dot_all: letters.contains('s'),
        comments: letters.contains('x'),
        literal: letters.contains('l'),
        unicode_class: letters.contains('U'),
    }
}

/// Compiles `pattern`. Errors: why it can't be, in a few words.
pub(crate) fn compile(pattern: &str, flags: Flags) -> Result<Regex, String> {
    build(&translate::translate(pattern, flags)?, flags)
}

/// `pattern` in the `regex` crates' syntax, to be compiled with others.
pub(crate) fn translated(pattern: &str) -> Result<String, String> {
    translate::translate(pattern, Flags::default())
}

/// Compiles `pattern` so that it matches whole texts only, as `Matcher.matches` does.
pub(crate) fn compile_whole(pattern: &str, flags: Flags) -> Result<Regex, String> {
    let end = if flags.comments { "\n)\\z" } else { ")\\z" }; // A comment ends with its line.
    build(&format!("\\A(?:{}{end}", translate::translate(pattern, flags)?), flags)
}

fn build(translated: &str, flags: Flags) -> Result<Regex, String> {
    let syntax = syntax::Config::new()
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .ignore_whitespace(flags.comments && !flags.literal)
        .crlf(true)
        .nest_limit(NESTING_MAX);
    let config = Regex::config().nfa_size_limit(Some(NFA_BYTES_MAX));
    Regex::builder().syntax(syntax).configure(config).build(translated).map_err(|error| match error.syntax_error() {
        Some(syntax) => syntax.to_string().lines().last().unwrap_or("wrong syntax").to_owned(),
        None => format!("{error}"),
    })
}

/// The matches in `text` one after the other, as `Matcher.find` finds them: an empty match may follow another at once.
pub(crate) struct Finds<'r, 't> {
    regex: &'r Regex,
    text: &'t str,
    /// Where the next search starts; `None` behind the last.
    next: Option<usize>,
}

impl<'r, 't> Finds<'r, 't> {
    pub(crate) fn new(regex: &'r Regex, text: &'t str) -> Self {
        Self { regex, text, next: Some(0) }
    }

    /// Starts the next search at byte `at`.
    pub(crate) fn start_at(&mut self, at: usize) {
        self.next = Some(at);
    }

    /// Where the next search starts; `None` behind the last match.
    pub(crate) fn place(&self) -> Option<usize> {
        self.next
    }

    /// Finds the next match and fills `captures`. Its place, if there is one.
    pub(crate) fn next(&mut self, captures: &mut Captures) -> Option<Span> {
        let from = self.next?;
        self.next = None;
        if from > self.text.len() {
            return None;
        }
        self.regex.search_captures(&Input::new(self.text).range(from..), captures);
        let found = captures.get_match().map(|found| found.span());
        event::steps::count(found.map_or(self.text.len(), |found| found.end) - from + 1);
        let found = found?;
        self.next = Some(match found.is_empty() {
            false => found.end,
            true => found.end + self.text.get(found.end..)?.chars().next().map_or(1, char::len_utf8),
        });
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(pattern: &str, text: &str, expected: &[&str]) {
        let regex = compile(pattern, Flags::default()).expect("a pattern");
        let (mut finds, mut captures) = (Finds::new(&regex, text), regex.create_captures());
        let mut found = Vec::new();
        while let Some(span) = finds.next(&mut captures) {
            found.push(text.get(span.range()).expect("a match"));
        }
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn patterns_match_as_in_java() {
        finds(r"\d+", "1²٣ 4", &["1", "4"]);
        finds(r"\w+", "aä_", &["a", "_"]);
        finds(r"[\w.-]+", "a-b.c ä", &["a-b.c"]);
        finds(r"\Qa.b\E.", "a.bc axb", &["a.bc"]);
        finds(r"\p{Alpha}+", "abä", &["ab"]);
        finds(r"\p{IsAlphabetic}+", "abä", &["abä"]);
        finds(r"[a-z&&[^b]]", "abc", &["a", "c"]);
        finds(r"[^\s\]]+", "a] b", &["a", "b"]);
        finds(".+", "a\rb", &["a", "b"]);
        finds("a*", "baac", &["", "aa", "", ""]);
        finds("(?i)AB", "ab", &["ab"]);
        finds(r"\x41\u0042\t", "AB\t", &["AB\t"]);
        finds("}]", "}]", &["}]"]);
        finds("[-a]+", "-a-", &["-a-"]);
        finds(r"[\[\]{}~&#]+", "[]{}~&#", &["[]{}~&#"]);
    }

    #[test]
    fn what_needs_backtracking_is_refused() {
        for pattern in ["(?=a)", "(?<!a)b", r"(a)\1", "(?>a)", "a++", "a*+", r"\k<n>", r"\G", "(", "[a", r"\p{InGreek}"]
        {
            assert!(compile(pattern, Flags::default()).is_err(), "{pattern}");
        }
    }
}
