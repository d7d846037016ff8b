use super::*;

fn grok_of(ecs: Ecs, patterns: &[&str]) -> Grok {
    Grok::new(&Bank::stock(ecs), patterns).expect("patterns compile")
}

#[track_caller]
fn check(pattern: &str, text: &str, expected: Option<&[(&str, &str)]>) {
    let grok = grok_of(Ecs::V1, &[pattern]);
    let mut found = Vec::new();
    let matched = grok.match_text(text, |capture, part| found.push((capture.field.to_string(), part.to_owned())));
    let found: Vec<_> = found.iter().map(|(field, part)| (field.as_str(), part.as_str())).collect();
    assert_eq!(matched.map(|_| found.as_slice()), expected);
}

#[track_caller]
fn refused(pattern: &str, reason: &str) {
    let error = Grok::new(&Bank::stock(Ecs::Disabled), &[pattern]).expect_err("a refusal");
    assert!(error.contains(reason), "{error}");
}

#[test]
fn every_stock_pattern_compiles_in_both_sets() {
    for ecs in [Ecs::Disabled, Ecs::V1] {
        let bank = Bank::stock(ecs);
        let mut count = 0;
        for name in bank.names() {
            let compiled = Grok::new(&bank, &[format!("%{{{name}}}")]);
            assert!(compiled.is_ok(), "{name}: {compiled:?}");
            count += 1;
        }
        assert!(count > 100, "{count}");
    }
}

#[test]
fn names_become_fields_and_types() {
    check("%{IP:a} %{INT:b.c:int}", "x 10.0.0.1 42", Some(&[("a", "10.0.0.1"), ("b.c", "42")]));
    check("(?<year>[0-9]{4})-(?<m>..)", "on 2024-05", Some(&[("year", "2024"), ("m", "05")]));
    check("%{WORD:[a][b]}", "gros", Some(&[("a.b", "gros")]));
    check("%{WORD:a} %{WORD:b}", "héllo wörld", None); // \w is ASCII, \b is not.
    check(r"^\S+ (?<a>[^\s-]+)\W$", "größe maß-", Some(&[("a", "maß")]));
    check("(a)(?<x>b)", "ab", Some(&[("x", "b")]));
    check("(?:(?<x>a)|(?<x>b))", "b", Some(&[("x", "b")]));
    check("(?<x>c)?d", "d", Some(&[]));
    check("(?<x>c*)d", "d", Some(&[("x", "")]));
    check("%{TWO=[0-9]{2}}x", "12x", Some(&[]));
    check("^%{WORD:a}$", "one two\nthree", Some(&[("a", "three")]));
    check("a.b", "a\nb", None);
    check("%{HTTPDATE:t}", "[07/Dec/2016:11:05:07 +0100]", Some(&[("t", "07/Dec/2016:11:05:07 +0100")]));
    check("^%{IP:a}$", "2001:db8::7334", Some(&[("a", "2001:db8::7334")]));
    check("^%{IP:a}$", "::ffff:10.1.2.3", Some(&[("a", "::ffff:10.1.2.3")]));
}

#[test]
fn of_several_patterns_the_match_that_starts_first_wins_then_the_one_that_stands_first() {
    let first = |patterns: &[&str], text: &str| grok_of(Ecs::Disabled, patterns).match_text(text, |_, _| {});
    assert_eq!(first(&["b", "a"], "ab"), Some(1));
    assert_eq!(first(&["a", "ab"], "ab"), Some(0));
    assert_eq!(first(&["^b", "^a"], "ab"), Some(1));
    assert_eq!(first(&["^b", "^x"], "a\nx\nb"), Some(1));
    assert_eq!(first(&["^b", "^x"], "a x"), None);
}

#[test]
fn onigurumas_syntax_is_read_as_oniguruma_reads_it() {
    for (pattern, text, matches) in [
        (r"^\h+$", "09afAF", true),
        (r"^a{,2}$", "aa", true),
        (r"^a{x}$", "a{x}", true),
        (r"^[[:alpha:]_]+$", "ä_", true),
        (r"^[^[:^digit:]]+$", "12", true),
        (r"^[a-z&&[^aeiou]]+$", "xyz", true),
        (r"^[a-z&&[^aeiou]]+$", "abc", false),
        (r"^[+--]$", ",", true),
        (r"^[a-c-e]+$", "a-e", true),
        (r"^[\w-]+$", "a-b", true),
        (r"^[]a]+$", "]a", true),
        (r"^\<x\>$", "<x>", true),
        (r"^(?i)ab|cd$", "AB", true),
        (r"^(?m:a.b)$", "a\nb", true),
        (r"^a(?#note)b$", "ab", true),
        (r"^\x41\x{42}\u0043$", "ABC", true),
        (r"^.?*$", "abc", true),
        (r"^~~--&$", "~~--&", true),
        (r"^[~~]+$", "~~", true),
        (r"^\p{Alpha}\P{Digit}$", "ab", true),
    ] {
        let grok = grok_of(Ecs::Disabled, &[pattern]);
        assert_eq!(grok.match_text(text, |_, _| {}).is_some(), matches, "{pattern} on {text}");
    }
}

#[test]
fn what_needs_backtracking_is_refused_with_its_reason() {
    refused("(?=a)b", "the look-ahead (?=…) would need a backtracking matcher");
    refused("(?<!a)b", "look-behind");
    refused("(?>a+)b", "atomic group");
    refused("a++b", "possessive repeat");
    refused("(?<x>a)\\k<x>", "reference");
    refused("(a", "closing parenthesis");
    refused("a)", "without its group");
    refused("[a", "closing bracket");
    refused("*a", "nothing to repeat");
    refused("%{NOPE}", "Unable to find pattern [NOPE] in Grok's pattern dictionary");
    refused("%{IPV5}", "did you mean");
    refused("(?:a{1000}){1000}", "matcher of more than");
}

#[test]
fn a_definition_must_not_lead_back_to_itself() {
    let mut bank = Bank::stock(Ecs::Disabled);
    bank.define("A", "%{B}");
    bank.define("B", "%{A}");
    let error = Grok::new(&bank, &["%{A}"]).expect_err("a refusal");
    assert_eq!(error, "circular reference in pattern [A] back to pattern [A=>B=>A]");
}
