//! docs/behaviours.md and docs/indexer-behaviours.md → every test they name is there, and every id has its row. Tests only.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The pages, each with the marks of its rows.
const PAGES: [(&str, &str, Marks); 2] = [
    ("behaviours", include_str!("../../docs/behaviours.md"), [("T", 116, 3), ("N", 20, 4)]),
    ("indexer-behaviours", include_str!("../../docs/indexer-behaviours.md"), [("I", 84, 3), ("X", 15, 4)]),
];
/// The letter of a row's id, how many rows have it, and their columns.
type Marks = [(&'static str, usize, usize); 2];
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Each crate and where its sources are.
const CRATES: [(&str, &str); 7] = [
    ("agent", "agent/src"),
    ("engine", "pipelines/engine/src"),
    ("event", "pipelines/event/src"),
    ("indexer", "indexer/src"),
    ("service", "deploy/service/src"),
    ("shipper", "shipper/src"),
    ("tailrace", "cli/src"),
];
/// Where tests stand in files of their own.
const FOLDERS: [&str; 6] =
    ["agent/tests", "cli/tests", "pipelines/engine/tests", "tests/harness", "tests/oracle", "tests/promises"];

/// Adds the tests in the files below `folder`, each under the name that the page has for it.
fn add(folder: &Path, name_of: &dyn Fn(&Path, bool) -> String, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            add(&path, name_of, tests);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).expect("readable");
            let has_tests = text.lines().any(|line| line.ends_with("mod tests {") && !line.starts_with(' '));
            let prefix = name_of(&path, has_tests);
            tests.extend(names(&text).map(|name| format!("{prefix}::{name}")));
        }
    }
}

/// The functions behind `#[test]` and `#[tokio::test]`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_mark = |line: &str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        is_test |= is_mark(line.trim());
        let (_, rest) = line.split_once("fn ").filter(|_| is_test)?;
        is_test = false;
        rest.split('(').next()
    })
}

fn tests_of_the_sources() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for (name, folder) in CRATES {
        let folder = Path::new(ROOT).join(folder);
        let of_module = |path: &Path, has_tests: bool| {
            let module = path.strip_prefix(&folder).expect("below").with_extension("");
            let module = module.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("::");
            format!("{name}::{module}{}", if has_tests { "::tests" } else { "" })
        };
        add(&folder, &of_module, &mut tests);
    }
    for folder in FOLDERS {
        let of_file = |path: &Path, _| path.strip_prefix(ROOT).expect("below").display().to_string();
        add(&Path::new(ROOT).join(folder), &of_file, &mut tests);
    }
    tests
}

/// The cells of the rows of `page` whose id begins with `mark`.
fn rows<'p>(page: &'p str, mark: &str) -> Vec<Vec<&'p str>> {
    let rows = page.lines().filter(|line| line.starts_with(&format!("| {mark}-")));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn every_behaviour_has_its_row_and_every_test_it_names_is_there() {
    let tests = tests_of_the_sources();
    for (name, page, marks) in PAGES {
        let mut counts = [0; 3];
        for (mark, last, columns) in marks {
            let rows = rows(page, mark);
            let ids: Vec<_> = rows.iter().map(|cells| cells[0].to_owned()).collect();
            assert_eq!(ids, (1..=last).map(|id| format!("{mark}-{id:02}")).collect::<Vec<_>>());
            for cells in rows {
                assert_eq!(cells.len(), columns, "{cells:?}");
                counts[kind(&cells, &tests)] += 1;
            }
        }
        let [shown, not_applying, not_yet] = counts;
        eprintln!("figures {name}: {shown} shown, {not_applying} do not apply, {not_yet} not yet");
    }
}

/// 0: a test shows it. 1: it does not apply. 2: nothing shows it yet.
fn kind(cells: &[&str], tests: &BTreeSet<String>) -> usize {
    let named: Vec<_> = cells[2].split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
    for name in &named {
        assert!(tests.contains(*name), "{}: there is no test {name}", cells[0]);
    }
    let kind = match cells[2] {
        text if text.starts_with("not yet: ") => 2,
        text if text.starts_with("does not apply: ") => 1,
        _ => 0,
    };
    assert!(kind > 0 || !named.is_empty(), "{}: neither a test nor a reason", cells[0]);
    assert!(kind > 0 || cells.get(3).is_none_or(|guard| !guard.is_empty()), "{}: no guard", cells[0]);
    kind
}

#[test]
fn tests_are_found_by_their_names() {
    let text = "#[test]\nfn one() {}\nfn two() {}\n    #[tokio::test(flavor = \"x\")]\n    async fn three() {}\n#[test]\n#[cfg(x)]\nfn four(";
    assert_eq!(names(text).collect::<Vec<_>>(), ["one", "three", "four"]);
    assert!(tests_of_the_sources().contains("tailrace::behaviours::tests_are_found_by_their_names"));
}
