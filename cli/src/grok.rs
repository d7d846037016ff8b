//! `tailrace grok`: lines in, what a grok pattern captures of each out, or how far it came.

use anyhow::Context as _;
use engine::grok::{Bank, Capture, Ecs, Exhausted, Grok};
use event::document::write_text;
use std::io::{BufRead, BufReader, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Longest line that is tried, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Colours of captures in a line, one after the other: green, yellow, blue, magenta, cyan.
const COLOURS: [u8; 5] = [32, 33, 34, 35, 36];

/// Tries a grok pattern on lines: what it captures is marked and listed; where it does not match, it is said how far it
/// came.
///
/// Exit codes: 0 every line matched, 1 one did not, 2 the pattern is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The pattern, such as '%{IP:client} %{WORD:verb}'.
    pattern: String,
    /// The file with the lines. Default: standard input.
    file: Option<PathBuf>,
    /// Which names the stock patterns give to fields: those of the Elastic Common Schema, or the old ones.
    #[arg(long, value_name = "v1|disabled", default_value = "disabled", value_parser = ["v1", "disabled"])]
    ecs: String,
    /// A definition for the pattern. May be given again.
    #[arg(short, long, value_name = "NAME=PATTERN")]
    define: Vec<String>,
    /// A file of definitions. May be given again.
    #[arg(long, value_name = "FILE")]
    patterns: Vec<PathBuf>,
    /// One JSON object for each line.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let grok = compile(options)?;
    let colours = !options.json && std::io::stdout().is_terminal();
    let mut output = std::io::stdout().lock();
    let tried = match &options.file {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
            all(&grok, &mut BufReader::new(file), &mut output, options.json, colours)
        }
        None => all(&grok, &mut std::io::stdin().lock(), &mut output, options.json, colours),
    };
    match tried {
        // Who reads us has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        tried => Ok(if tried.context("trying lines")? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

fn compile(options: &Options) -> anyhow::Result<Grok> {
    let unusable = |wrong: String| crate::check::Unusable::error(&wrong);
    let mut bank = Bank::stock(if options.ecs == "v1" { Ecs::V1 } else { Ecs::Disabled });
    for path in &options.patterns {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        bank.define_all(&path.display().to_string(), &text).map_err(unusable)?;
    }
    for definition in &options.define {
        let named = definition.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, pattern) = named.ok_or_else(|| unusable(format!("--define {definition}: write NAME=PATTERN")))?;
        bank.define(name, pattern);
    }
    let grok = Grok::new(&bank, &[&options.pattern]).map_err(unusable)?;
    for class in grok.classes().iter().filter(|class| matches!(class, engine::grok::Class::Backtracking { .. })) {
        eprintln!("the pattern {class}");
    }
    Ok(grok)
}

/// What a pattern says of a line: each capture with where it stands, or why there is none.
type Found = Result<Vec<(String, std::ops::Range<usize>)>, String>;

/// Tries every line; true if all match.
fn all(
    grok: &Grok,
    input: &mut impl BufRead,
    output: &mut impl Write,
    json: bool,
    colours: bool,
) -> std::io::Result<bool> {
    let (mut line, mut number, mut matched) = (Vec::new(), 0_u64, true);
    loop {
        line.clear();
        if std::io::Read::take(&mut *input, LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(matched);
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LINE_BYTES_MAX {
            input.skip_until(b'\n')?;
        }
        number += 1;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        let found = try_line(grok, text);
        matched &= found.is_ok();
        let told = if json { as_json(number, text, &found) } else { as_text(number, text, &found, colours) };
        output.write_all(&told)?;
    }
}

fn try_line(grok: &Grok, text: &str) -> Found {
    let mut captures = Vec::new();
    let place = |part: &str| {
        let start = part.as_ptr().addr() - text.as_ptr().addr();
        start..start + part.len()
    };
    let matched =
        grok.match_text(text, |capture: &Capture, part| captures.push((capture.field.to_string(), place(part))));
    match matched {
        Ok(Some(_)) => Ok(captures),
        Ok(None) => Err(grok.explain(text).map_or_else(|| "no match".to_owned(), |why| why.to_string())),
        Err(Exhausted { steps }) => Err(format!("given up after {steps} steps: the pattern needs backtracking")),
    }
}

fn as_text(number: u64, text: &str, found: &Found, colours: bool) -> Vec<u8> {
    let mut told = format!("{number}: ");
    match found {
        Ok(captures) => {
            told.push_str(&if colours { marked(text, captures) } else { text.to_owned() });
            told.push('\n');
            for (nth, (field, place)) in captures.iter().enumerate() {
                let part = text.get(place.clone()).unwrap_or("");
                match colours {
                    true => {
                        told.push_str(&format!("    \x1b[{}m{field}\x1b[0m: {part}\n", COLOURS[nth % COLOURS.len()]))
                    }
                    false => told.push_str(&format!("    {field}: {part}\n")),
                }
            }
        }
        Err(why) => told.push_str(&format!("{text}\n    no match: {why}\n")),
    }
    told.into_bytes()
}

/// The line with its captures in colours; of two that overlap the first is marked.
fn marked(text: &str, captures: &[(String, std::ops::Range<usize>)]) -> String {
    let mut places: Vec<_> = captures.iter().enumerate().map(|(nth, (_, place))| (place.clone(), nth)).collect();
    places.sort_by_key(|(place, _)| place.start);
    let (mut line, mut at) = (String::new(), 0);
    for (place, nth) in places.iter().filter(|(place, _)| !place.is_empty()) {
        if place.start < at {
            continue;
        }
        line.push_str(text.get(at..place.start).unwrap_or(""));
        let part = text.get(place.clone()).unwrap_or("");
        line.push_str(&format!("\x1b[{}m{part}\x1b[0m", COLOURS[nth % COLOURS.len()]));
        at = place.end;
    }
    line.push_str(text.get(at..).unwrap_or(""));
    line
}

fn as_json(number: u64, text: &str, found: &Found) -> Vec<u8> {
    let mut told = format!("{{\"line\":{number},\"match\":{}", found.is_ok()).into_bytes();
    match found {
        Ok(captures) => {
            told.extend_from_slice(b",\"fields\":{");
            for (nth, (field, place)) in captures.iter().enumerate() {
                if nth > 0 {
                    told.push(b',');
                }
                write_text(field, &mut told);
                told.push(b':');
                write_text(text.get(place.clone()).unwrap_or(""), &mut told);
            }
            told.push(b'}');
        }
        Err(why) => {
            told.extend_from_slice(b",\"explanation\":");
            write_text(why, &mut told);
        }
    }
    told.extend_from_slice(b"}\n");
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, input: &str, json: bool, colours: bool, matched: bool, expected: &str) {
        let grok = Grok::new(&Bank::stock(Ecs::Disabled), &[pattern]).expect("a pattern");
        let mut told = Vec::new();
        let all = all(&grok, &mut input.as_bytes(), &mut told, json, colours).expect("memory can be read and written");
        assert_eq!((all, String::from_utf8_lossy(&told).as_ref()), (matched, expected));
    }

    #[test]
    fn captures_are_listed_and_marked() {
        let pattern = "%{IP:client} %{WORD:verb}";
        check(
            pattern,
            "10.0.0.1 GET /\r\n",
            false,
            false,
            true,
            "1: 10.0.0.1 GET /\n    client: 10.0.0.1\n    verb: GET\n",
        );
        let coloured = "1: x \x1b[32m10.0.0.1\x1b[0m \x1b[33mGET\x1b[0m\n    \x1b[32mclient\x1b[0m: 10.0.0.1\n    \x1b[33mverb\x1b[0m: GET\n";
        check(pattern, "x 10.0.0.1 GET", false, true, true, coloured);
        check(
            pattern,
            "10.0.0.1 G\n",
            true,
            false,
            true,
            "{\"line\":1,\"match\":true,\"fields\":{\"client\":\"10.0.0.1\",\"verb\":\"G\"}}\n",
        );
    }

    #[test]
    fn a_line_that_does_not_match_is_told_of() {
        let why = "the pattern fits up to [ ]; at column 10 it wants [%{WORD:verb}], and there is [-]";
        check(
            "%{IP:client} %{WORD:verb}",
            "10.0.0.1 -\n",
            false,
            false,
            false,
            &format!("1: 10.0.0.1 -\n    no match: {why}\n"),
        );
        let json = format!("{{\"line\":1,\"match\":false,\"explanation\":\"{why}\"}}\n");
        check("%{IP:client} %{WORD:verb}", "10.0.0.1 -\n", true, false, false, &json);
    }
}
