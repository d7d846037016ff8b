//! Steps, not seconds: a text twice as long takes about twice as many, whatever it is and whatever pattern is tried.

use super::super::*;

/// Pieces whose repetition is hard for a backtracking matcher, for one pattern or another.
const PIECES: &[&str] = &[
    "a",
    "1",
    "0.",
    "a.",
    "a-",
    "1:",
    "::1",
    "\\\"",
    "\"",
    "é",
    "/a",
    "Jan 1 1:1:",
    "a@",
    "=\t",
    "x;",
    "(:",
    "127.0.0.1 ",
    "\n",
    "12/",
    "%{",
    "[1] ",
    "2024-01-01T",
    "-\t",
    "http://",
];

/// Steps that one search takes on a text, states being made as it goes.
fn steps(grok: &Grok, text: &str) -> u64 {
    let linear = grok.linear.as_ref().expect("no backtracking");
    let before = linear.steps();
    linear.search(text, |_, _, _| ());
    linear.steps() - before
}

#[track_caller]
fn check_doubling(name: &str, grok: &Grok, piece: &str, bytes: usize) {
    let text = |bytes: usize| piece.repeat(bytes / piece.len());
    steps(grok, &text(bytes)); // States are made.
    let (once, twice) = (steps(grok, &text(bytes)), steps(grok, &text(2 * bytes)));
    assert!(
        twice <= 2 * once + bytes as u64,
        "{name} on {piece:?}: {once} steps for {bytes} bytes, {twice} for twice as many"
    );
    assert!(once <= 8 * bytes as u64 + 4096, "{name} on {piece:?}: {once} steps for {bytes} bytes");
}

#[test]
fn every_stock_pattern_takes_steps_in_proportion_to_the_text() {
    for ecs in [Ecs::Disabled, Ecs::V1] {
        let bank = Bank::stock(ecs);
        let mut names: Vec<_> = bank.names().collect();
        names.sort_unstable();
        for name in names {
            let grok = Grok::new(&bank, &[format!("%{{{name}}}")]).expect("a stock pattern");
            for piece in PIECES {
                check_doubling(name, &grok, piece, 2048);
            }
        }
    }
}

#[test]
fn patterns_that_make_backtracking_explode_do_not_here() {
    let bank = Bank::stock(Ecs::V1);
    for (pattern, piece) in [
        ("^(?:a+)+$", "a"),
        ("(?:a|a)*b", "a"),
        ("(?:a*)*c", "a"),
        ("%{GREEDYDATA}%{GREEDYDATA}%{GREEDYDATA}x", "y"),
        ("(?<a>.*)(?<b>.*)(?<c>.*)=", "a"),
        ("%{DATA:a} %{DATA:b} %{DATA:c}!", "a b "),
        ("(?:[a-z]+ ?)+%{IP:x}", "ab "),
        ("x*y", "x"),
        ("%{IPORHOST:a}:%{POSINT:b} z", "a.b"),
    ] {
        let grok = Grok::new(&bank, &[pattern]).expect("a pattern");
        check_doubling(pattern, &grok, piece, 16384);
    }
}

#[test]
fn a_full_cache_is_emptied_and_the_match_goes_on() {
    // About 2^n states are needed to know which of the last n bytes was an a.
    let grok = Grok::new(&Bank::stock(Ecs::V1), &["^(?<x>[ab]*a[ab]{14})(?<y>c+)d$"]).expect("a pattern");
    let mut random = 7_u32;
    let mut text: String = (0..120_000)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 0 { 'a' } else { 'b' }
        })
        .collect();
    text.push_str("abbbbbbbbbbbbbbccd");
    let mut fields = Vec::new();
    grok.match_text(&text, |_, part| fields.push(part.len())).expect("no budget");
    assert_eq!(fields, [text.len() - 3, 2]);
    let linear = grok.linear.as_ref().expect("no backtracking");
    assert!(linear.emptied() > 0, "the test has its case");
}

#[test]
fn thirty_thousand_syslog_lines_take_less_than_a_second() {
    let grok = Grok::new(&Bank::stock(Ecs::V1), &["%{SYSLOGLINE}".to_owned()]).expect("a stock pattern");
    let line = "Mar 16 00:01:25 evita postfix/smtpd[1713]: connect from camomile.cloud9.net[168.100.1.3]";
    // On a busy machine the best of some rounds counts; each is a tenth of it.
    #[expect(clippy::disallowed_methods, reason = "this crate has no clock of its own")]
    let now = std::time::Instant::now;
    let round = |_| {
        let begun = now();
        let matched = (0..3_000).filter(|_| grok.match_text(line, |_, _| {}).is_ok_and(|by| by.is_some())).count();
        assert_eq!(matched, 3_000);
        begun.elapsed()
    };
    let best = (0..20).map(round).min().expect("there were rounds");
    assert!(best < std::time::Duration::from_millis(100), "{best:?} for 3,000 lines");
}
