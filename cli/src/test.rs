//! `tailrace test`: runs the tests that stand beside pipelines and shows what differs.

mod update;

use anyhow::Context as _;
use engine::cases;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of `tailrace test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Tests files (NAME.tests.yml), pipeline files with tests beside them, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Writes the results to this file as well, as JUnit's XML, which CI systems read.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Writes what came out of the cases that fail into their files: what they expect is replaced, and shown as it was.
    #[arg(long)]
    update: bool,
    /// Names the cases that passed, too.
    #[arg(short, long)]
    verbose: bool,
}

/// Runs the command. Exit code 1 if a case failed or a file could not be loaded.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in &options.paths {
        let found = cases::find(path).with_context(|| format!("looking for tests in {}", path.display()))?;
        anyhow::ensure!(!found.is_empty(), "{}: no tests here; they are files called NAME.tests.yml", path.display());
        files.extend(found);
    }
    let mut suites = String::new();
    if options.update {
        for file in &files {
            update_file(file, &mut std::io::stdout().lock())?;
        }
    }
    let code = run_files(&files, options.verbose, &mut std::io::stdout().lock(), &mut suites)?;
    if let Some(path) = &options.junit {
        let xml = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n{suites}</testsuites>\n");
        std::fs::write(path, xml).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(code)
}

/// Writes what came out of the cases of `file` that fail into it, if they then pass, and tells people what it was.
fn update_file(file: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let Ok(report) = cases::run(file) else { return Ok(()) }; // Why it can't be loaded is told by the run that follows.
    let failed = || report.results.iter().filter(|result| !result.differences.is_empty());
    if failed().next().is_none() {
        return Ok(());
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let Some(updated) = update::updated(&text, &report.results) else {
        let why = "a case that fails cannot be run, or is not written as a block of `- name:` and a line for each key";
        writeln!(out, "not updated  {}: {why}", file.display())?;
        return Ok(());
    };
    let new = file.with_extension("yml.new");
    std::fs::write(&new, updated).with_context(|| format!("writing {}", new.display()))?;
    std::fs::rename(&new, file).with_context(|| format!("replacing {}", file.display()))?;
    for result in failed() {
        writeln!(out, "updated {}:{}  {}", file.display(), result.line, result.name)?;
        for difference in &result.differences {
            writeln!(out, "        {difference}")?;
        }
    }
    Ok(())
}

/// Runs the tests of `files`, tells people on `out`, and writes a suite of JUnit's for each file to `suites`.
fn run_files(files: &[PathBuf], verbose: bool, out: &mut impl Write, suites: &mut String) -> anyhow::Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let report = match cases::run(file) {
            Ok(report) => report,
            Err(error) => {
                failed += 1;
                writeln!(out, "FAILED  {error}")?;
                let told = [("it can be loaded".to_owned(), 1, vec![error.to_string()])];
                suites.push_str(&suite(file, &told));
                continue;
            }
        };
        let told: Vec<_> = report
            .results
            .iter()
            .map(|result| (result.name.clone(), result.line, result.differences.clone()))
            .collect();
        suites.push_str(&suite(file, &told));
        for result in report.results {
            if result.differences.is_empty() {
                passed += 1;
                if verbose {
                    writeln!(out, "passed  {}:{}  {}", file.display(), result.line, result.name)?;
                }
                continue;
            }
            failed += 1;
            writeln!(out, "FAILED  {}:{}  {}", file.display(), result.line, result.name)?;
            for difference in result.differences {
                writeln!(out, "        {difference}")?;
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    out.flush()?;
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One file as a suite. `cases`: name, line and what differs of each.
fn suite<L: std::fmt::Display>(file: &Path, cases: &[(String, L, Vec<String>)]) -> String {
    let (name, failures) =
        (escaped(&file.display().to_string()), cases.iter().filter(|case| !case.2.is_empty()).count());
    let mut text = format!("<testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\">\n", cases.len());
    for (case, line, differences) in cases {
        let head = format!("<testcase classname=\"{name}\" name=\"{}\" file=\"{name}\" line=\"{line}\"", escaped(case));
        match differences.as_slice() {
            [] => text += &format!("{head}/>\n"),
            [first, ..] => {
                let (first, all) = (escaped(first), escaped(&differences.join("\n")));
                text += &format!("{head}><failure message=\"{first}\">{all}</failure></testcase>\n");
            }
        }
    }
    text + "</testsuite>\n"
}

/// `text` as XML takes it, also between quotes. Characters that XML 1.0 has not become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' | '\r' => out.push(' '),
            c if c < ' ' || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shown_with_their_place_and_counted() {
        let dir = std::env::temp_dir().join(format!("tailrace-cases-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary folder");
        std::fs::write(dir.join("low.yml"), "processors: [{lowercase: {field: message}}]").expect("written");
        let tests = "- {name: same, input: A, expect: {message: a}}\n- {name: other, input: A, expect_exact: {x: 1}}\n\
                     - {name: wrong, input: {}, error: 'field [message] not present'}\n";
        std::fs::write(dir.join("low.tests.yml"), tests).expect("written");
        let mut out = Vec::new();
        let files = cases::find(&dir).expect("the folder can be listed");
        let mut suites = String::new();
        run_files(&files, false, &mut out, &mut suites).expect("memory can be written");
        let out = String::from_utf8(out).expect("UTF-8");
        std::fs::remove_dir_all(&dir).expect("the temporary folder goes");
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[0].starts_with("FAILED") && lines[0].ends_with("low.tests.yml:2  other"), "{out}");
        assert_eq!(
            lines[1..],
            [
                "        x: expected 1, but it is missing",
                "        message: not expected, got \"a\"",
                "2 passed, 1 failed"
            ]
        );
        let suites = suites.replace(&dir.display().to_string(), "DIR");
        let lines: Vec<_> = suites.lines().collect();
        assert_eq!(lines[0], "<testsuite name=\"DIR/low.tests.yml\" tests=\"3\" failures=\"1\">", "{suites}");
        assert!(lines[1].ends_with("name=\"same\" file=\"DIR/low.tests.yml\" line=\"1\"/>"), "{suites}");
        let expected = "line=\"2\"><failure message=\"x: expected 1, but it is missing\">x: expected 1, but it is missing&#10;\
                        message: not expected, got &quot;a&quot;</failure></testcase>";
        assert!(lines[2].ends_with(expected), "{suites}");
        assert_eq!((lines.len(), lines[4]), (5, "</testsuite>"));
    }

    #[test]
    fn what_xml_has_not_is_replaced() {
        assert_eq!(escaped("a<b>&\"c\"\u{1b}\n"), "a&lt;b&gt;&amp;&quot;c&quot;\u{FFFD}&#10;");
    }
}
