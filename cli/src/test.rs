//! `tailrace test`: runs the tests that stand beside pipelines and shows what differs.

use anyhow::Context as _;
use engine::cases;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `tailrace test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Tests files (NAME.tests.yml), pipeline files with tests beside them, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
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
    run_files(&files, options.verbose, &mut std::io::stdout().lock())
}

fn run_files(files: &[PathBuf], verbose: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let report = match cases::run(file) {
            Ok(report) => report,
            Err(error) => {
                failed += 1;
                writeln!(out, "FAILED  {error}")?;
                continue;
            }
        };
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
        run_files(&files, false, &mut out).expect("memory can be written");
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
    }
}
