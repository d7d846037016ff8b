//! `tailrace catalog`: the pipelines that come with the program, and a beginning for one of your own.

use crate::check::Unusable;
use crate::table::{print, table};
use anyhow::Context as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Name, pipeline and tests of each.
const CATALOG: &[(&str, &str, &str)] = &include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

/// Lists and shows the pipelines that come with the program, and begins new ones.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 a file cannot be written; 2 the command line is wrong: there is no such pipeline."
)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Name and purpose of each pipeline, and how many tests it has
    List,
    /// A pipeline as it is, to be used or changed: `tailrace catalog show nginx-access >my-nginx.yml`
    Show {
        name: String,
        /// Its tests instead.
        #[arg(long)]
        tests: bool,
    },
    /// Writes NAME.yml and NAME.tests.yml, which pass, for you to change
    New {
        name: String,
        /// Where to.
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
        /// Begin with a copy of this one of the catalog.
        #[arg(long, value_name = "PIPELINE")]
        from: Option<String>,
    },
}

/// What of a pipeline's file is listed.
#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    description: String,
}

/// Exit codes: see [`Options`].
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.what {
        What::List => print(&list()?)?,
        What::Show { name, tests } => {
            let (pipeline, of_it) = found(name)?;
            print(if *tests { of_it } else { pipeline })?;
        }
        What::New { name, dir, from } => print(&begin(name, dir, from.as_deref())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn found(name: &str) -> anyhow::Result<(&'static str, &'static str)> {
    let entry = CATALOG.iter().find(|(known, ..)| *known == name);
    let (_, pipeline, tests) = entry.ok_or_else(|| {
        Unusable::error(&format!(
            "there is no pipeline {name:?} in the catalog; `tailrace catalog list` has those there are"
        ))
    })?;
    Ok((pipeline, tests))
}

fn list() -> anyhow::Result<String> {
    let row = |(name, pipeline, tests): &(&str, &str, &str)| {
        let described: Described = service::load::parse_config(Path::new(name), pipeline)?;
        let cases: Vec<IgnoredAny> = service::load::parse_config(Path::new(name), tests)?;
        let purpose = described.description.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok([(*name).to_owned(), cases.len().to_string(), purpose])
    };
    let rows = CATALOG.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(table(["NAME", "TESTS", "PURPOSE"], &rows))
}

/// A pipeline of a few processors, as one begins.
const PIPELINE: &str = "\
description: What these lines are, and which fields this makes of them.
processors:
  - grok:
      field: message
      patterns: ['^%{TIMESTAMP_ISO8601:_tmp.time} %{LOGLEVEL:log.level} %{GREEDYDATA:_tmp.message}$']
  - date: {field: _tmp.time, formats: [ISO8601]}
  - rename: {field: _tmp.message, target_field: message, override: true}
  - remove: {field: _tmp}
on_failure:
  # A line that does not fit is kept as it is, with the reason.
  - remove: {field: _tmp, ignore_missing: true}
  - set: {field: event.kind, value: pipeline_error}
  - append: {field: error.message, value: '{{{_ingest.on_failure_message}}}'}
";

const TESTS: &str = "\
- name: a line gives every field
  input: '2024-03-05T08:09:10Z WARN disk nearly full'
  expect_exact:
    '@timestamp': '2024-03-05T08:09:10.000Z'
    message: disk nearly full
    log: {level: WARN}

- name: a line of another form is kept with the reason
  input: something else
  expect: {message: something else, event.kind: pipeline_error}
";

fn begin(name: &str, dir: &Path, from: Option<&str>) -> anyhow::Result<String> {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || !name.bytes().all(is_safe) {
        return Err(Unusable::error(&format!("{name:?}: a name is of letters, digits, - and _")));
    }
    let (pipeline, tests) = from.map_or(Ok((PIPELINE, TESTS)), found)?;
    for (end, text) in [(".yml", pipeline), (".tests.yml", tests)] {
        let path = dir.join(format!("{name}{end}"));
        let mut file = fs::File::create_new(&path).with_context(|| format!("making {}", path.display()))?;
        file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    }
    let path = dir.join(name);
    Ok(format!("{0}.yml and {0}.tests.yml are there; run `tailrace test {0}.yml` after each change\n", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_each_pipeline_with_its_purpose_and_its_tests() {
        let list = list().expect("the catalog is sound");
        let lines: Vec<_> = list.lines().collect();
        assert_eq!(lines.len(), 1 + CATALOG.len());
        let nginx = lines.iter().find(|line| line.starts_with("nginx-error ")).expect("it is there");
        let cells: Vec<_> = nginx.split_whitespace().collect();
        assert!(cells[1].parse::<u32>().is_ok_and(|tests| tests >= 3) && cells.len() > 4, "{nginx}");
    }

    #[test]
    fn what_is_begun_passes_its_tests_and_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, from) in [("own", None), ("own-nginx", Some("nginx-error"))] {
            begin(name, folder.path(), from).expect("written");
            let report = engine::cases::run(&folder.path().join(format!("{name}.tests.yml"))).expect("it can be run");
            let failed: Vec<_> = report.results.iter().filter(|result| !result.differences.is_empty()).collect();
            assert!(report.results.len() > 1 && failed.is_empty(), "{failed:?}");
            let again = begin(name, folder.path(), None).expect_err("is refused");
            assert!(format!("{again:#}").contains(&format!("{name}.yml: File exists")), "{again:#}");
        }
        assert!(begin("../x", folder.path(), None).is_err());
        assert!(begin("x", folder.path(), Some("no-such")).is_err());
    }

    #[test]
    fn a_pipeline_is_shown_as_it_stands_in_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/catalog");
        let (pipeline, tests) = found("nginx-access").expect("it is there");
        assert_eq!(fs::read_to_string(folder.join("nginx-access.yml")).expect("readable"), pipeline);
        assert_eq!(fs::read_to_string(folder.join("nginx-access.tests.yml")).expect("readable"), tests);
    }
}
