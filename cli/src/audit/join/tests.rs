//! Files and documents in, findings out.

use super::super::lines::Lines;
use super::*;

const TEXT: &str = "one\ntwo\nthree\nfour\n";

/// Documents of all lines of `text`, in order.
fn documents(path: &str, incarnation: u64, text: &str) -> Vec<Found> {
    let mut offset = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        let id = event::document_id(Incarnation(incarnation), offset, line.trim_end().as_bytes());
        found.push(Found {
            path: path.to_owned(),
            offset,
            id: String::from_utf8_lossy(&id).into_owned(),
            is_no_line: false,
        });
        offset += line.len() as u64;
    }
    found
}

fn audit(files: &[(&str, &str)], mut found: Vec<(Found, bool)>) -> (Vec<Report>, u64) {
    found.sort_by_key(|(found, _)| found.offset);
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), Lines::of(text.as_bytes()))).collect();
    let mut join = Join::new(files).expect("memory reads");
    for (found, is_letter) in &found {
        join.add(found, *is_letter).expect("memory reads");
    }
    join.end().expect("memory reads")
}

fn plain(found: Vec<Found>) -> Vec<(Found, bool)> {
    found.into_iter().map(|found| (found, false)).collect()
}

fn range(from: u64, to: u64, lines: u64) -> Vec<Range> {
    vec![Range { from, to, lines }]
}

#[test]
fn a_file_whose_lines_are_all_there_adds_up() {
    let (reports, others) = audit(&[("/a", TEXT)], plain(documents("/a", 7, TEXT)));
    assert_eq!((reports[0].lines, reports[0].documents, others), (4, 4, 0));
    assert_eq!(reports[0].incarnation.as_deref(), Some("0000000000000007"));
    assert!(reports[0].adds_up(), "{:?}", reports[0]);
}

#[test]
fn a_removed_a_doubled_and_a_range_of_missing_documents_are_found_by_offset() {
    let all = documents("/a", 7, TEXT);
    let (reports, _) = audit(&[("/a", TEXT)], plain(vec![all[0].clone(), all[3].clone(), all[3].clone()]));
    assert_eq!((reports[0].missing.lines, &reports[0].missing.ranges), (2, &range(4, 14, 2)));
    assert_eq!((reports[0].duplicates.lines, &reports[0].duplicates.ranges), (1, &range(14, 19, 1)));
    assert!(!reports[0].adds_up());
    let (reports, _) = audit(&[("/a", TEXT)], plain(all[..3].to_vec()));
    assert_eq!(reports[0].missing.ranges, range(14, 19, 1), "the last one, too");
    let (reports, _) = audit(&[("/a", TEXT)], Vec::new());
    assert_eq!((reports[0].lines, &reports[0].missing.ranges), (4, &range(0, 19, 4)), "and all");
}

#[test]
fn a_missing_and_a_double_document_do_not_cancel_out() {
    let all = documents("/a", 7, TEXT);
    let (reports, _) =
        audit(&[("/a", TEXT)], plain(vec![all[0].clone(), all[1].clone(), all[1].clone(), all[3].clone()]));
    assert_eq!((reports[0].missing.lines, reports[0].duplicates.lines), (1, 1));
}

#[test]
fn a_dead_letter_counts_unless_it_was_replayed() {
    let all = documents("/a", 7, TEXT);
    let mut found = plain(all[..3].to_vec());
    found.extend([(all[3].clone(), true), (all[3].clone(), true), (all[0].clone(), true)]);
    let (reports, _) = audit(&[("/a", TEXT)], found);
    assert_eq!((reports[0].documents, reports[0].dead_letters), (3, 1));
    assert!(reports[0].adds_up(), "{:?}", reports[0]);
}

#[test]
fn files_that_begin_alike_are_told_apart_by_the_rest_whatever_their_paths() {
    let (old, new) = ("head\nx1\nx2\n", "head\ny1\n");
    let mut found = plain(documents("/a.log", 1, old)); // Rotated since: its documents have the path of then.
    found.extend(plain(documents("/a.log", 2, new)));
    found.extend(plain(documents("/a.log", 3, "head\nz1\n"))); // Deleted since.
    let (reports, others) = audit(&[("/a.log", new), ("/a.log.1", old)], found);
    assert!(reports.iter().all(Report::adds_up), "{reports:?}");
    assert_eq!((reports[0].lines, reports[1].lines, others), (2, 3, 1));
}

#[test]
fn a_file_that_was_shipped_under_two_names_is_double() {
    let mut found = plain(documents("/a", 1, TEXT));
    found.extend(plain(documents("/a", 2, TEXT)));
    let (reports, _) = audit(&[("/a", TEXT)], found);
    assert_eq!((reports[0].documents, reports[0].duplicates.lines), (4, 4));
}

#[test]
fn a_document_of_another_id_is_found_by_its_path() {
    let unnamed = |mut found: Found| {
        found.id = "made-by-the-node".to_owned();
        found
    };
    let all = documents("/a", 7, TEXT);
    let mut found = plain(all.clone());
    found.push((unnamed(all[1].clone()), false));
    let (reports, _) = audit(&[("/a", TEXT)], found);
    assert_eq!(reports[0].duplicates.ranges, range(4, 8, 1));
    let (reports, _) = audit(&[("/a", TEXT)], plain(all.into_iter().map(unnamed).collect()));
    assert!(reports[0].adds_up(), "{:?}", reports[0]);
}

#[test]
fn a_document_of_no_line_is_a_stray_and_an_unfinished_end_is_a_line_if_it_was_shipped() {
    let (reports, _) = audit(&[("/a", "one\ntwo\nxxxxx\nfour\n")], plain(documents("/a", 7, TEXT)));
    assert_eq!((reports[0].missing.lines, reports[0].strays.documents, reports[0].strays.offset), (1, 1, Some(8)));
    assert_eq!(reports[0].verdict, Verdict::CannotTell, "an edited line, or an event of several");
    let (reports, _) = audit(&[("/a", "one\ntwo\n")], plain(documents("/a", 7, TEXT)));
    assert_eq!((reports[0].strays.documents, reports[0].verdict), (2, Verdict::DoesNotAddUp), "the file was cut");
    let (reports, _) = audit(&[("/a", "one\ntwo")], plain(documents("/a", 7, "one\n")));
    assert!(reports[0].adds_up() && reports[0].lines == 1, "{:?}", reports[0]);
    let (reports, _) = audit(&[("/a", "one\ntwo")], plain(documents("/a", 7, "one\ntwo")));
    assert!(reports[0].adds_up() && reports[0].lines == 2, "{:?}", reports[0]);
}

#[test]
fn lists_are_bounded_and_counts_are_whole() {
    let text: String = (0..10_000).map(|number| format!("{number}\n")).collect();
    let found = documents("/a", 7, &text).into_iter().step_by(2).collect();
    let (reports, _) = audit(&[("/a", &text)], plain(found));
    let missing = &reports[0].missing;
    assert_eq!((missing.lines, missing.ranges.len(), missing.unlisted), (5_000, RANGES_MAX, 4_000));
}

/// A document of the bytes `from..to` of `text`, as multiline makes one of several lines.
fn event(path: &str, incarnation: u64, text: &str, from: usize, to: usize) -> Found {
    let id = event::document_id(Incarnation(incarnation), from as u64, text.as_bytes()[from..to].trim_ascii_end());
    let id = String::from_utf8_lossy(&id).into_owned();
    Found { path: path.to_owned(), offset: from as u64, id, is_no_line: false }
}

#[test]
fn of_a_file_with_events_of_several_lines_nothing_is_claimed() {
    let mixed = vec![event("/a", 7, TEXT, 0, 4), event("/a", 7, TEXT, 4, 19)];
    for (found, offset, of_others) in [(mixed, 4, 0), (vec![event("/a", 7, TEXT, 0, 19)], 0, 1)] {
        let (reports, others) = audit(&[("/a", TEXT)], plain(found));
        assert_eq!((reports[0].verdict, others), (Verdict::CannotTell, of_others), "{:?}", reports[0]);
        assert_eq!((reports[0].unlike.documents, reports[0].unlike.offset), (1, Some(offset)));
    }
    // Filebeat's: the id tells nothing, the flag does.
    let flagged = Found { id: "of-filebeat".to_owned(), is_no_line: true, ..documents("/a", 7, TEXT).swap_remove(0) };
    let (reports, _) = audit(&[("/a", TEXT)], plain(vec![flagged]));
    assert_eq!((reports[0].verdict, reports[0].unlike.documents), (Verdict::CannotTell, 1));
}

#[test]
fn what_was_at_the_path_before_leaves_no_doubt_of_a_file_that_is_known() {
    let mut found = plain(documents("/a", 1, "old\nold\nthird\n"));
    found.extend(plain(documents("/a", 2, TEXT)[..3].to_vec()));
    let (reports, others) = audit(&[("/a", TEXT)], found);
    assert_eq!((reports[0].verdict, reports[0].missing.lines, others), (Verdict::DoesNotAddUp, 1, 3));
}
