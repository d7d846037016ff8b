//! `tailrace audit`: log files against the index and the dead letters, line by line.

mod join;
mod lines;

use crate::check::Unusable;
use crate::table::print;
use agent::Glob;
use anyhow::Context as _;
use indexer::IndexerConfig;
use indexer::config::DeadLetterTo;
use indexer::dlq;
use indexer::read_back::{Found, ReadBack};
use join::{Join, Ranges, Report, Verdict};
use lines::Lines;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

/// Files of one audit: each is open, with a buffer.
const FILES_MAX: usize = 800;
/// Dead letters of one audit: they are sorted in memory, some 200 bytes each.
const LETTERS_MAX: usize = 1_000_000;
/// What may be behind documents that are unlike their lines.
const UNLIKE: &str = "events of several lines (multiline), of a parser or of a cut line, or a file that was edited; the audit knows only plain lines";
/// What documents are that match nothing.
const OTHERS: &str = "are of no line of these files as they are now: they may be of other files, of what these were before, of parts of \
                      lines or of several";
/// Ranges of one kind that are shown of one file; `--json` has more.
const SHOWN_MAX: usize = 20;

/// Compares log files with the index: each line must have one document, or else a dead letter.
///
/// Reads the files as they are now, so a line that is still on its way counts as missing: run it when nothing is in flight.
/// It knows only plain lines, as an agent ships them without multiline, parsers, filters, another encoding or compression. Where
/// documents show that a file's events are something else than its lines, it says that it cannot tell. Which document is of which
/// file is told by the document ids, so files may have been renamed. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 it adds up; 1 it does not, it cannot tell, or it failed; 2 the command line or the configuration is wrong."
)]
pub(crate) struct Options {
    /// The files, such as '/var/log/nginx/access.log*'.
    #[arg(long, value_name = "GLOB")]
    files: String,
    /// The indices or data streams, such as 'logs-nginx*'.
    #[arg(long, value_name = "PATTERN")]
    index: String,
    /// The topic of dead letters. Default: the configuration's, if its dead letters go to a topic.
    #[arg(long, value_name = "TOPIC")]
    dead_letters: Option<String>,
    /// The indexer's configuration: where the brokers and the search nodes are.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Exit codes: see [`Options`].
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut config: IndexerConfig = service::load::read_config(&options.config)?;
    if let Some(topic) = &options.dead_letters {
        config.dead_letter.to = DeadLetterTo::Topic(topic.clone());
    }
    let (folder, paths) = matching(&options.files)?;
    let letters = match config.dead_letter.topic() {
        Some(_) => letters(&config, &folder)?,
        None => {
            eprintln!("tailrace: dead letters go to no topic here, so they are not counted: such lines are missing");
            Vec::new()
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting threads")?;
    let search = config.elasticsearch.as_ref().context("elasticsearch is not set: it says where the index is")?;
    let mut documents = runtime.block_on(ReadBack::open(search, &options.index, &folder))?;
    let (reports, others) = compare(paths, letters, || runtime.block_on(documents.page()))?;
    let adds_up = reports.iter().all(Report::adds_up);
    match options.json {
        true => {
            let told = serde_json::json!({"files": reports, "documents_of_others": others, "adds_up": adds_up});
            print(&format!("{told:#}\n"))?;
        }
        false => print(&text(&reports, others))?,
    }
    Ok(if adds_up { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Joins the lines of `paths` with `letters` and the pages of documents.
fn compare(
    paths: Vec<PathBuf>,
    letters: Vec<Found>,
    mut page: impl FnMut() -> anyhow::Result<Vec<Found>>,
) -> anyhow::Result<(Vec<Report>, u64)> {
    let open = |path: PathBuf| {
        let lines = Lines::open(&path).with_context(|| path.display().to_string())?;
        Ok((path.display().to_string(), lines))
    };
    let mut join = Join::new(paths.into_iter().map(open).collect::<anyhow::Result<_>>()?)?;
    let mut letters = letters.into_iter().peekable();
    loop {
        let found = page()?;
        if found.is_empty() {
            break;
        }
        for document in found {
            while let Some(letter) = letters.next_if(|letter| letter.offset <= document.offset) {
                join.add(&letter, true)?;
            }
            join.add(&document, false)?;
        }
    }
    for letter in letters {
        join.add(&letter, true)?;
    }
    Ok(join.end()?)
}

/// The folder that all matching files are in or below, with a slash at its end, and the files.
///
/// Errors: it is no glob, nothing matches, or too much.
fn matching(glob: &str) -> anyhow::Result<(String, Vec<PathBuf>)> {
    let unusable = |problem: String| Unusable::error(&format!("--files: {problem}"));
    let glob = std::path::absolute(glob).with_context(|| format!("--files: {glob}"))?;
    let text = glob.to_str().ok_or_else(|| unusable(format!("{} is no UTF-8", glob.display())))?;
    let matcher = Glob::new(text).map_err(|error| unusable(format!("{error:#}")))?;
    let is_literal = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{', '\\']);
    let mut parts: Vec<_> = glob.components().collect();
    parts.pop();
    let folder: PathBuf = parts.iter().take_while(|part| is_literal(part)).collect();
    let depth = if text.contains("**") { usize::MAX } else { glob.components().count() };
    let mut paths = Vec::new();
    walk(&folder, depth, &mut |path| {
        if matcher.is_match(path) {
            paths.push(path.to_owned());
        }
    });
    paths.sort();
    match paths.len() {
        0 => Err(unusable(format!("no file matches {text}"))),
        count if count > FILES_MAX => Err(unusable(format!("{count} files match {text}; at most {FILES_MAX} at once"))),
        _ => Ok((format!("{}/", folder.display()).replace("//", "/"), paths)),
    }
}

fn walk(folder: &Path, depth: usize, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && path.components().count() < depth => walk(&path, depth, visit),
            Ok(kind) if kind.is_file() => visit(&path),
            _ => {} // Links are other names of what is there.
        }
    }
}

/// The dead letters of lines of files in `folder`, by ascending offset.
fn letters(config: &IndexerConfig, folder: &str) -> anyhow::Result<Vec<Found>> {
    let mut letters = Vec::new();
    dlq::read(config, |grave| {
        letters.extend(grave.found().filter(|found| found.path.starts_with(folder)));
        if letters.len() > LETTERS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    anyhow::ensure!(letters.len() <= LETTERS_MAX, "there are more than {LETTERS_MAX} dead letters of these files");
    letters.sort_by_key(|found| found.offset);
    Ok(letters)
}

fn text(reports: &[Report], others: u64) -> String {
    let mut text = String::new();
    for report in reports {
        let Report { path, lines, documents, dead_letters, missing, duplicates, strays, unlike, .. } = report;
        let (verdict, without) = match report.verdict {
            Verdict::AddsUp => ("ok", "missing"),
            Verdict::DoesNotAddUp => ("DOES NOT ADD UP", "missing"),
            Verdict::CannotTell => ("CANNOT TELL", "without a document of their own"),
        };
        // Writing to a string does not fail.
        writeln!(text, "{path}: {lines} lines, {documents} documents, {dead_letters} dead letters: {verdict}").ok();
        if let Some(offset) = unlike.offset {
            let count = unlike.documents;
            writeln!(
                text,
                "  {count} documents begin where a line begins, but are something else, the first at log.offset {offset}: {UNLIKE}"
            )
            .ok();
        }
        list(&mut text, without, missing);
        list(&mut text, "duplicate", duplicates);
        if let Some(offset) = strays.offset {
            let count = strays.documents;
            writeln!(text, "  of no line: {count}; the first has log.offset {offset}").ok();
        }
        if report.incarnation.is_none() && *documents > 0 {
            writeln!(text, "  compared by path and offset only: the ids of its documents do not tell their lines").ok();
        }
    }
    if others > 0 {
        writeln!(text, "{others} documents {OTHERS}").ok();
    }
    text
}

fn list(text: &mut String, what: &str, ranges: &Ranges) {
    if ranges.lines == 0 {
        return;
    }
    writeln!(text, "  {what}: {}", ranges.lines).ok();
    let mut untold = ranges.lines;
    for range in ranges.ranges.iter().take(SHOWN_MAX) {
        writeln!(text, "    bytes {} to {}: {}", range.from, range.to, range.lines).ok();
        untold -= range.lines;
    }
    if untold > 0 {
        writeln!(text, "    and {untold} more").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_glob_and_their_folder_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path();
        std::fs::create_dir_all(root.join("b/c")).expect("made");
        for name in ["a.log", "a.log.1", "other", "b/c/a.log"] {
            std::fs::write(root.join(name), "x\n").expect("written");
        }
        let find = |glob: &str| matching(&root.join(glob).display().to_string());
        let (folder, paths) = find("a.log*").expect("two files");
        assert_eq!((folder, paths), (format!("{}/", root.display()), vec![root.join("a.log"), root.join("a.log.1")]));
        assert_eq!(find("**/a.log").expect("two files").1.len(), 2);
        assert!(find("absent*").is_err());
    }

    #[test]
    fn what_does_not_add_up_is_told_by_offset() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.log");
        std::fs::write(&path, "one\ntwo\nthree\n").expect("written");
        let name = path.display().to_string();
        let found = |offset: u64, line: &str| {
            let id = event::document_id(event::Incarnation(7), offset, line.as_bytes());
            Found { path: name.clone(), offset, id: String::from_utf8_lossy(&id).into_owned(), is_no_line: false }
        };
        let mut pages = vec![vec![], vec![found(8, "three"), found(8, "three")]];
        let (reports, others) =
            compare(vec![path], vec![found(0, "one")], || Ok(pages.pop().unwrap_or_default())).expect("the file reads");
        let expected = format!(
            "{name}: 3 lines, 1 documents, 1 dead letters: DOES NOT ADD UP\n  missing: 1\n    bytes 4 to 8: 1\n  \
             duplicate: 1\n    bytes 8 to 14: 1\n"
        );
        assert_eq!(text(&reports, others), expected);
    }

    #[test]
    fn a_file_with_events_of_several_lines_is_not_said_to_miss_lines() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.log");
        std::fs::write(&path, "error\n  at x\n").expect("written");
        let name = path.display().to_string();
        let id = event::document_id(event::Incarnation(7), 0, b"error\n  at x");
        let id = String::from_utf8_lossy(&id).into_owned();
        let mut pages = vec![vec![], vec![Found { path: name.clone(), offset: 0, id, is_no_line: false }]];
        let (reports, others) =
            compare(vec![path], Vec::new(), || Ok(pages.pop().unwrap_or_default())).expect("the file reads");
        let told = text(&reports, others);
        assert!(told.starts_with(&format!("{name}: 2 lines, 0 documents, 0 dead letters: CANNOT TELL\n")), "{told}");
        assert!(told.contains("several lines (multiline)") && !told.contains("missing"), "{told}");
    }
}
