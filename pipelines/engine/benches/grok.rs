//! CPU nanoseconds an event, one thread: ours, PCRE2 with its JIT, and Oniguruma, on the same lines in one run.
//!
//! `cargo bench -p engine --bench grok`. Every matcher hands out its captures. With a number of rounds as argument
//! it runs just so often and measures nothing: for `valgrind --tool=callgrind`. With a name such as `%{COMBINEDAPACHELOG} legacy`
//! it runs that case only. With `long` it tries every stock pattern on
//! texts of 1 MB that are hard for one pattern or another, and shows the slowest.

use engine::grok::{Bank, Ecs, Grok};
use std::hint::black_box;
use std::io::Write;

const ACCESS: &str = r#"203.0.113.7 - - [07/Dec/2016:11:05:07 +0100] "GET /api/v1/users/17/orders HTTP/1.1" 200 5713 "https://www.example.com/product/12" "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36""#;
const SYSLOG: &str =
    "Dec  7 11:05:07 web-01 sshd[4721]: Accepted publickey for deploy from 203.0.113.7 port 51522 ssh2";
const APP: &str = r#"2016-12-07T11:05:07.123Z INFO  [worker-7] com.example.shop.OrderService - order 4711 of customer 42 stored in 17 ms"#;

/// Name, set, pattern, line, and whether it matches.
const CASES: &[(&str, Ecs, &str, &str, bool)] = &[
    ("%{COMBINEDAPACHELOG} legacy", Ecs::Disabled, "%{COMBINEDAPACHELOG}", ACCESS, true),
    ("%{COMBINEDAPACHELOG} ecs v1", Ecs::V1, "%{COMBINEDAPACHELOG}", ACCESS, true),
    ("%{SYSLOGLINE} legacy", Ecs::Disabled, "%{SYSLOGLINE}", SYSLOG, true),
    ("%{SYSLOGLINE} ecs, not matching", Ecs::V1, "%{SYSLOGLINE}", ACCESS, false),
    ("%{SYSLOGLINE} legacy, not matching", Ecs::Disabled, "%{SYSLOGLINE}", ACCESS, false),
    (
        "an application's line",
        Ecs::V1,
        r"^%{TIMESTAMP_ISO8601:time} +%{LOGLEVEL:level} +\[%{DATA:thread}\] %{JAVACLASS:class} - %{GREEDYDATA:message}$",
        APP,
        true,
    ),
];

/// Nanoseconds of CPU that this process has used.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// The least of several measurements: others use the machine, too. The system counts in steps of milliseconds, so each lasts long.
fn measure(mut work: impl FnMut()) -> f64 {
    const LEAST_NS: u64 = 200_000_000;
    const ROUNDS: u32 = 10_000;
    let mut once = || {
        let (start, mut rounds, mut spent) = (cpu_ns(), 0, 0);
        while spent < LEAST_NS {
            (0..ROUNDS).for_each(|_| work());
            rounds += ROUNDS;
            spent = cpu_ns() - start;
        }
        spent as f64 / f64::from(rounds)
    };
    std::iter::repeat_with(&mut once).take(7).fold(f64::INFINITY, f64::min)
}

/// Pieces of which the texts of 1 MB are made.
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
    "12/",
    "-\t",
    "2024-01-01T",
    "http://",
    "\n",
    "Job ",
    "[1] ",
];

/// Milliseconds of CPU that each stock pattern takes for each hard text of 1 MB.
fn long(out: &mut impl Write) {
    let texts: Vec<_> = PIECES.iter().map(|piece| piece.repeat((1 << 20) / piece.len())).collect();
    let mut all = Vec::new();
    for (set, ecs) in [("legacy", Ecs::Disabled), ("ecs-v1", Ecs::V1)] {
        let bank = Bank::stock(ecs);
        for name in bank.names() {
            let grok = Grok::new(&bank, &[format!("%{{{name}}}")]).expect("a stock pattern");
            for (piece, text) in PIECES.iter().zip(&texts) {
                let start = cpu_ns();
                black_box(grok.match_text(text, |_, _| {}).is_ok());
                all.push(((cpu_ns() - start) as f64 / 1e6, format!("{set} {name} on {piece:?}")));
            }
        }
    }
    all.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize].0;
    writeln!(out, "1 MB, {} runs: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms", all.len(), at(0.5), at(0.99), at(1.0))
        .ok();
    for (ms, what) in all.iter().rev().take(12) {
        writeln!(out, "{ms:>9.1} ms {what}").ok();
    }
}

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse::<u32>().ok()).next();
    let mut out = std::io::stdout().lock();
    if std::env::args().any(|argument| argument == "long") {
        return long(&mut out);
    }
    writeln!(out, "{:<38} {:>9} {:>9} {:>9}", "ns of CPU an event", "ours", "pcre2", "onig").ok();
    let filter = std::env::args().skip(1).find(|argument| argument.starts_with('%')).unwrap_or_default();
    for (name, ecs, pattern, line, matches) in CASES.iter().filter(|(name, ..)| name.starts_with(&filter)) {
        let bank = Bank::stock(*ecs);
        let grok = Grok::new(&bank, &[pattern]).expect("a pattern");
        let ours = || {
            let matched = grok.match_text(black_box(line), |_, part| {
                black_box(part);
            });
            assert_eq!(matched, Ok(matches.then_some(0)));
        };
        if let Some(rounds) = rounds {
            (0..rounds).for_each(|_| ours());
            continue;
        }
        let ours = measure(ours);
        let expanded = bank.expand(pattern).expect("a pattern");
        let pcre2 = pcre2::bytes::RegexBuilder::new().jit(true).utf(true).multi_line(true).build(&expanded);
        let pcre2 = pcre2.expect("PCRE2 takes it");
        let mut places = pcre2.capture_locations();
        let pcre2 = measure(|| {
            let matched = pcre2.captures_read(&mut places, black_box(line.as_bytes())).expect("no limit is reached");
            assert_eq!(matched.is_some(), *matches);
            (0..places.len()).for_each(|group| {
                black_box(places.get(group));
            });
        });
        let onig = onig::Regex::new(&expanded).expect("Oniguruma takes it");
        let mut region = onig::Region::new();
        let onig = measure(|| {
            let matched = onig.search_with_options(
                black_box(line),
                0,
                line.len(),
                onig::SearchOptions::SEARCH_OPTION_NONE,
                Some(&mut region),
            );
            assert_eq!(matched.is_some(), *matches);
            region.iter().for_each(|place| {
                black_box(place);
            });
            region.clear();
        });
        writeln!(out, "{name:<38} {ours:>9.0} {pcre2:>9.0} {onig:>9.0}").ok();
    }
}
