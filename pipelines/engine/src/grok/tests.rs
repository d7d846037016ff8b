mod fuzz;
mod linear;
mod reference;

use super::*;

fn grok_of(ecs: Ecs, patterns: &[&str]) -> Grok {
    Grok::new(&Bank::stock(ecs), patterns).expect("patterns compile")
}

#[track_caller]
fn check(pattern: &str, text: &str, expected: Option<&[(&str, &str)]>) {
    let grok = grok_of(Ecs::V1, &[pattern]);
    let mut found = Vec::new();
    let matched = grok
        .match_text(text, |capture, part| found.push((capture.field.to_string(), part.to_owned())))
        .expect("within the budget");
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
    let first = |patterns: &[&str], text: &str| {
        grok_of(Ecs::Disabled, patterns).match_text(text, |_, _| {}).expect("within the budget")
    };
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
        let matched = grok.match_text(text, |_, _| {}).expect("within the budget");
        assert_eq!(matched.is_some(), matches, "{pattern} on {text}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_its_reason_and_column() {
    refused("(a", "closing parenthesis, at column 2");
    refused("a)", "without its group");
    refused("[a", "closing bracket");
    refused("ab*a|*a", "* has nothing to repeat, at column 6");
    refused("%{NOPE}", "Unable to find pattern [NOPE] in Grok's pattern dictionary");
    refused("%{IPV5}", "did you mean");
    refused("(?:a{1000}){1000}", "matcher of more than");
    refused("(?=.*x)(?:ab){100000}", "program of more than");
    refused("(?<=a.*)b", "look-behind without a bound");
    refused("(?<x>a)(b)\\2", "by number beside named groups");
    refused("(a)\\2", "a group that there is not");
    refused("[b-a]", "the range [b-a] is empty");
    refused("\\p{Nope}", "there is no property [Nope]");
    refused(&"(".repeat(5000), "nested deeper");
    refused(&"[".repeat(5000), "nested deeper");
}

#[test]
fn a_definition_must_not_lead_back_to_itself() {
    let mut bank = Bank::stock(Ecs::Disabled);
    bank.define("A", "%{B}");
    bank.define("B", "%{A}");
    let error = Grok::new(&bank, &["%{A}"]).expect_err("a refusal");
    assert!(error.ends_with("circular reference in pattern [A] back to pattern [A=>B=>A]"), "{error}");
}

/// The class of a pattern, as it is told.
fn class(pattern: &str) -> String {
    grok_of(Ecs::V1, &[pattern]).classes()[0].to_string()
}

#[test]
fn bounded_look_around_and_what_changes_nothing_need_no_backtracking() {
    for pattern in [
        "(?<![0-9])a",
        "a(?![0-9])",
        "(?<=foo|ba)x",
        "x(?=,|$)",
        "(?!%{INT:x}{2})a".replace("%{INT:x}{2}", "[0-9]{2}").as_str(),
        "(?>ab)c",
        "(?>a|b)c",
        "[a-z]++[0-9]",
        "[a-z]++z",
        "a?+a",
        "x(?>a|ab)",
        "(?>[0-9]+)x",
        "\\Aa\\Z",
    ] {
        assert!(class(pattern).starts_with("linear"), "{pattern}: {}", class(pattern));
    }
    assert_eq!(class("^a"), "linear, in one pass");
}

#[test]
fn what_needs_backtracking_says_why_and_what_is_cheaper() {
    for (pattern, reason) in [
        ("(?=.*x)a", "because of the look-ahead (?=.*x), whose length has no small bound; cheaper: bound its length"),
        ("(?<!(?:a|bc){1,30}e)d", "because of the look-behind (?<!(?:a|bc){1,30}e), whose length"),
        ("(?>a|ab)c", "because of the atomic group (?>a|ab); cheaper: a|ab without (?>…)"),
        ("(?:ab|a)++b", "because of the possessive repeat (?:ab|a)++; cheaper: (?:ab|a)+, if fewer"),
        ("(?<x>a)\\k<x>", "because of the back-reference \\k<x>"),
        ("(a)\\1", "because of the back-reference \\1"),
    ] {
        assert!(class(pattern).contains(reason), "{pattern}: {}", class(pattern));
    }
}

#[test]
fn look_around_atomic_groups_and_references_match_as_in_oniguruma() {
    check("(?<x>[0-9]+)(?![0-9.])", "12.3", Some(&[("x", "3")]));
    check("(?<![0-9.])(?<x>[0-9]+)", "1.2 34", Some(&[("x", "1")]));
    check("(?<=k=)(?<x>\\w+)", "a=1 k=2", Some(&[("x", "2")]));
    check("(?<!\\\\)\"(?<x>.)", "\\\"a\"b", Some(&[("x", "b")]));
    check("(?=.*(?<y>z))(?<x>a)", "a z", Some(&[("y", "z"), ("x", "a")]));
    check("^(?!.*foo)(?<x>.*)$", "a foo", None);
    check("^(?!.*foo)(?<x>.*)$", "a fo", Some(&[("x", "a fo")]));
    check("(?>a|ab)(?<x>c)", "abc ac", Some(&[("x", "c")]));
    check("(?>a|ab)c", "abc", None);
    check("[a-z]++z", "abz", None);
    check("(?<x>a?+)a", "a", None);
    check("(?<q>['\"])(?<x>.*?)\\k<q>", "say \"it's\"", Some(&[("q", "\""), ("x", "it's")]));
    check("(?<x>[0-9]+)\\Z", "12\n", Some(&[("x", "12")]));
    check("(?<=é|ab)(?<x>.)", "éx", Some(&[("x", "x")]));
    check("%{IP:ip}", "300.1.1.1", None);
    check("%{IP:ip}", "x 10.1.1.300 2.2.2.2", Some(&[("ip", "2.2.2.2")]));
    check("%{NUMBER:n}%{GREEDYDATA:r}", "v1.25x", Some(&[("n", "1.25"), ("r", "x")]));
    check("%{MONTHNUM:m}", "12", Some(&[("m", "1")]));
}

#[test]
fn a_pattern_that_backtracks_stops_at_its_budget() {
    let grok = grok_of(Ecs::V1, &["^(?:a|aa)+(?<x>!)\\k<x>", "b"]);
    let text = "a".repeat(200);
    let Err(Exhausted { steps }) = grok.match_text(&text, |_, _| {}) else { panic!("it ends") };
    assert!(steps < 150_000, "{steps}");
    // What stands first is found before any budget is needed.
    assert_eq!(grok.match_text("b!!", |_, _| {}), Ok(Some(1)));
    assert_eq!(grok.match_text("a!!b", |_, _| {}), Ok(Some(0)));
}

#[test]
fn an_explanation_says_which_part_did_not_fit_and_where() {
    let explain = |patterns: &[&str], text: &str| {
        let grok = grok_of(Ecs::Disabled, patterns);
        assert_eq!(grok.match_text(text, |_, _| {}), Ok(None), "{text}");
        grok.explain(text).expect("an explanation").to_string()
    };
    assert_eq!(
        explain(&["^%{COMBINEDAPACHELOG}"], "10.0.0.1 - bob [07/Dez/2016:11:05:07 +0100] \"GET /"),
        "the pattern fits up to [%{HTTPD_REQUEST}]; at column 46 it wants [\" ] in %{HTTPD_COMMONLOG} in \
         %{HTTPD_COMBINEDLOG} in %{COMBINEDAPACHELOG}, and there is [GET /]"
    );
    assert_eq!(
        explain(&["^x", "^%{INT:a} %{INT:b}$"], "12 3z\u{7}"),
        "pattern 2 of 2 came furthest: it fits up to [%{INT:b}]; at column 5 it wants [$], and there is [z\\u{7}]"
    );
    assert_eq!(
        explain(&["^%{INT:a} "], "12"),
        "the pattern fits up to [%{INT:a}]; at column 2 it wants [ ], and there is [2]"
    );
    assert_eq!(explain(&["^q"], "abc"), "the pattern fits up to [^]; at column 1 it wants [q], and there is [abc]");
    let long = explain(&["^q"], &"é".repeat(5000));
    assert!(long.ends_with(&format!("[{}…]", "é".repeat(60))), "{long}");
}

#[test]
fn definitions_of_a_file_are_read_or_told_of_with_their_line() {
    let mut bank = Bank::stock(Ecs::V1);
    bank.define_all("my", "# mine\nAB  a b\n\nWORD x+\n").expect("definitions");
    let grok = Grok::new(&bank, &["%{AB}%{WORD:w}"]).expect("a pattern");
    assert_eq!(grok.match_text("a bxx", |_, part| assert_eq!(part, "xx")), Ok(Some(0)));
    let wrong = bank.define_all("dir/my", "A b\nC\n").expect_err("a refusal");
    assert_eq!(wrong, "dir/my:2: [C] is no definition: write NAME, a space, the pattern");
}
