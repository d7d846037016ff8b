//! Anything at all as a pattern: it compiles or is refused, and what compiles matches within its bounds. What both the
//! automaton and the backtracking matcher can do, they do alike.

use super::super::*;
use crate::grok::tree::Tree;
use proptest::prelude::*;

/// Pieces that patterns are made of.
const PIECES: &[&str] = &[
    "a",
    "b",
    "ab",
    ".",
    "\\d",
    "\\w",
    "\\s",
    "\\b",
    "\\B",
    "^",
    "$",
    "\\A",
    "\\z",
    "\\Z",
    "|",
    "(",
    ")",
    "(?:",
    "(?<x>",
    "(?<y>",
    "(?=",
    "(?!",
    "(?<=",
    "(?<!",
    "(?>",
    "(?i)",
    "(?m:",
    "(?x) ",
    "*",
    "+",
    "?",
    "*?",
    "+?",
    "??",
    "*+",
    "++",
    "?+",
    "{2}",
    "{1,3}",
    "{,2}",
    "{2,}?",
    "[ab]",
    "[^a]",
    "[a-c&&[^b]]",
    "[[:alpha:]]",
    "[[:^digit:]]",
    "\\p{L}",
    "\\x41",
    "\\n",
    "é",
    "%{WORD}",
    "%{INT:n}",
    "%{IP:x}",
    "%{DATA:y}",
    "%{QS}",
    "%{NUMBER:x:int}",
    "%{GREEDYDATA:z}",
    "\\k<x>",
    "\\1",
    "\\R",
    "\\h",
    "\\",
    "[",
    "]",
    "{",
    "}",
    "%{",
];

/// Pieces that texts are made of.
const TEXTS: &[&str] = &["a", "b", "c", "ab", "1", "-", " ", "é", "\n", "\"", "A", "1.2.3.4", "\\"];

fn pattern() -> impl Strategy<Value = String> {
    let pieces = proptest::collection::vec(proptest::sample::select(PIECES), 0..12).prop_map(|pieces| pieces.concat());
    prop_oneof![4 => pieces, 1 => any::<String>()]
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(TEXTS), 0..12).prop_map(|pieces| pieces.concat())
}

/// Fields that the patterns' own matcher finds.
fn fields(grok: &Grok, text: &str) -> Option<Option<Vec<(String, String)>>> {
    let mut fields = Vec::new();
    let matched =
        grok.match_text(text, |capture, part| fields.push((capture.field.to_string(), part.to_owned()))).ok()?;
    Some(matched.map(|_| fields))
}

/// Fields that backtracking finds.
fn backtracked(pattern: &str, text: &str) -> Option<Option<Vec<(String, String)>>> {
    let parsed = parse::parse(&Bank::stock(Ecs::V1), pattern).ok().filter(|parsed| !repeats_nothing(&parsed.tree))?;
    let program = Program::new(&parsed.tree, parsed.groups.len()).ok()?;
    let mut search = Search::new(&program, text);
    let found = search.find(text.len(), false).ok()?;
    let mut fields = Vec::new();
    for capture in fields_of(&parsed).ok()? {
        let part =
            capture.groups.iter().find_map(|group| search.span(*group)).and_then(|(start, end)| text.get(start..end));
        fields.extend(part.map(|part| (capture.field.to_string(), part.to_owned())));
    }
    Some(found.map(|_| fields))
}

/// True if something that may be empty is repeated: of its last turn, which is empty, the automaton captures nothing.
fn repeats_nothing(tree: &Tree) -> bool {
    match tree {
        Tree::Repeat { max, what, .. } => *max != Some(1) && what.length().0 == 0 || repeats_nothing(what),
        Tree::Concat(trees) | Tree::Either(trees) => trees.iter().any(repeats_nothing),
        Tree::Group(_, tree) | Tree::Named(_, tree) | Tree::Atomic(tree) => repeats_nothing(tree),
        Tree::Around { what, .. } => repeats_nothing(what),
        Tree::Empty | Tree::Char(_) | Tree::Set(_) | Tree::Place(_) | Tree::Back(_) => false,
    }
}

fn try_all(pattern: &str, text: &str) -> Result<(), TestCaseError> {
    let Ok(grok) = Grok::new(&Bank::stock(Ecs::V1), &[pattern]) else { return Ok(()) };
    let found = fields(&grok, text);
    if let (Some(found), Some(expected)) = (&found, backtracked(pattern, text)) {
        prop_assert_eq!(found, &expected, "{} on {:?}", pattern, text);
    }
    if found == Some(None) {
        grok.explain(text);
    }
    Ok(())
}

/// Runs; `TAILRACE_FUZZ_RUNS` in the environment sets another number.
fn runs() -> u32 {
    std::env::var("TAILRACE_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(3000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: runs(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_pattern_panics_and_both_matchers_agree(pattern in pattern(), text in text()) {
        try_all(&pattern, &text)?;
    }
}

#[test]
fn several_patterns_give_what_the_first_leftmost_of_them_gives() {
    let patterns = ["^%{INT:a}$", "%{IP:b}", "(?<c>x+)(?!y)", "(?<d>(.)\\w)z"];
    let grok = Grok::new(&Bank::stock(Ecs::V1), &patterns[..3]).expect("patterns");
    for (text, expected) in [
        ("12", Some(("a", "12"))),
        ("a 1.2.3.4 xx", Some(("b", "1.2.3.4"))),
        ("xx 1.2.3.4", Some(("c", "xx"))),
        ("xxy", Some(("c", "x"))),
        ("q", None),
        ("q\n7", Some(("a", "7"))),
    ] {
        let found = fields(&grok, text).expect("no budget");
        let found =
            found.as_deref().and_then(|fields| fields.first()).map(|(field, part)| (field.as_str(), part.as_str()));
        assert_eq!(found, expected, "{text}");
    }
}
