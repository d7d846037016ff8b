//! Lines written against lines found: what is missing, double, out of order or damaged, each by name.
//!
//! Pure. Nothing is counted that is not listed, so one fault cannot hide another: two missing lines and two double ones
//! are four findings, though the sums agree.

use crate::lines::{Name, Read, Recipe};
use crate::writer::Written;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Findings of each kind that a report prints.
const SHOWN_MAX: usize = 20;

/// One copy of a line, found in a topic or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// What it is.
    pub read: Read,
    /// Where it stands: partition and offset; `None` for a document.
    pub place: Option<(i32, i64)>,
    /// The text, kept only if it is not a whole line.
    pub text: String,
}

impl Copy {
    /// A copy found in an index.
    pub fn document(recipe: &Recipe, text: &str) -> Self {
        Self::new(recipe, text, None)
    }

    /// A copy found in a topic.
    pub fn record(recipe: &Recipe, text: &str, partition: i32, offset: i64) -> Self {
        Self::new(recipe, text, Some((partition, offset)))
    }

    fn new(recipe: &Recipe, text: &str, place: Option<(i32, i64)>) -> Self {
        let read = recipe.read(text);
        let text = if matches!(read, Read::Whole(_)) { String::new() } else { text.chars().take(200).collect() };
        Self { read, place, text }
    }
}

/// Where each partition stood when the agent had been killed: records below belong to lives up to then.
pub type LifeEnd = BTreeMap<i32, i64>;

/// A line that came after a later one of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inversion {
    /// The late line.
    pub line: Name,
    /// The place in the file that had already been seen.
    pub after: u64,
    /// Where it stands.
    pub place: (i32, i64),
    /// The agent's life, counted from 0; `None` where lives are not told apart.
    pub life: Option<usize>,
}

/// What was found. Empty lists are good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines written.
    pub written: u64,
    /// Copies found.
    pub found: u64,
    /// Written, found nowhere.
    pub missing: Vec<Name>,
    /// Found more than once, and how often.
    pub duplicated: Vec<(Name, u64)>,
    /// Out of order over the whole run, per file and partition, after repeats have been removed.
    pub inverted: Vec<Inversion>,
    /// Out of order within one life of the agent, per file and partition, after repeats within that life.
    pub inverted_in_a_life: Vec<Inversion>,
    /// Found more than once within one life of the agent.
    pub repeated_in_a_life: Vec<Name>,
    /// How many lines each life of the agent sent that one before it had sent; the first is always 0.
    pub resent: Vec<u64>,
    /// Named like a line of the run, with another content.
    pub corrupt: Vec<(Name, String)>,
    /// Never written by this run, or beyond what was written.
    pub foreign: Vec<String>,
}

impl Report {
    /// Copies beyond the first of each line.
    pub fn surplus(&self) -> u64 {
        self.duplicated.iter().map(|(_, copies)| copies - 1).sum()
    }

    /// True if every line is there once, unchanged, and nothing else is.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.duplicated.is_empty() && self.is_sound() && self.inverted.is_empty()
    }

    /// True if what is there is genuine.
    pub fn is_sound(&self) -> bool {
        self.corrupt.is_empty() && self.foreign.is_empty()
    }
}

/// Compares documents with what was written. Documents have no order.
pub fn documents(written: &Written, copies: &[Copy]) -> Report {
    let mut report = Report { written: written.values().sum(), found: copies.len() as u64, ..Report::default() };
    count(written, copies, &mut report);
    report
}

/// Compares records with what was written. `lives`: where each killed life of the agent ended, in order.
///
/// Shape: `copies` in the order of their offsets within each partition, partitions in any order.
pub fn records(written: &Written, copies: &[Copy], lives: &[LifeEnd]) -> Report {
    let mut report = documents(written, copies);
    let (mut overall, mut in_life) = (HashMap::new(), HashMap::new());
    report.resent = vec![0; lives.len() + 1];
    for copy in copies {
        let (Read::Whole(name), Some((partition, offset))) = (&copy.read, copy.place) else { continue };
        let life = lives.iter().take_while(|end| end.get(&partition).is_none_or(|&end| offset >= end)).count();
        let late = |after, life| Inversion { line: name.clone(), after, place: (partition, offset), life };
        let track: &mut Track = overall.entry((partition, &name.file)).or_default();
        let step = track.step(name.seq);
        if let Step::Late(after) = step {
            report.inverted.push(late(after, None));
        }
        let is_known = matches!(step, Step::Repeat);
        let track: &mut Track = in_life.entry((life, partition, &name.file)).or_default();
        match track.step(name.seq) {
            Step::Late(after) => report.inverted_in_a_life.push(late(after, Some(life))),
            Step::Repeat => {
                report.repeated_in_a_life.push(name.clone());
                continue;
            }
            Step::Forward => (),
        }
        report.resent[life] += u64::from(is_known);
    }
    report
}

/// The lines of one file met so far in one partition.
#[derive(Debug, Default)]
struct Track {
    seen: std::collections::HashSet<u64>,
    highest: Option<u64>,
}

enum Step {
    Forward,
    Repeat,
    Late(u64),
}

impl Track {
    fn step(&mut self, seq: u64) -> Step {
        if !self.seen.insert(seq) {
            return Step::Repeat;
        }
        match self.highest {
            Some(highest) if seq < highest => Step::Late(highest),
            _ => {
                self.highest = Some(seq);
                Step::Forward
            }
        }
    }
}

fn count(written: &Written, copies: &[Copy], report: &mut Report) {
    let mut found: BTreeMap<&str, Vec<u64>> =
        written.iter().map(|(file, &lines)| (file.as_str(), vec![0; usize::try_from(lines).unwrap_or(0)])).collect();
    for copy in copies {
        match &copy.read {
            Read::Foreign => report.foreign.push(copy.text.clone()),
            Read::Damaged(name) => report.corrupt.push((name.clone(), copy.text.clone())),
            Read::Whole(name) => {
                let place = usize::try_from(name.seq).ok();
                match found.get_mut(name.file.as_str()).and_then(|copies| copies.get_mut(place?)) {
                    Some(copies) => *copies += 1,
                    None => report.foreign.push(format!("{name} was never written")),
                }
            }
        }
    }
    for (file, copies) in found {
        for (seq, copies) in (0..).zip(copies) {
            let name = || Name { file: file.to_owned(), seq };
            match copies {
                0 => report.missing.push(name()),
                1 => (),
                more => report.duplicated.push((name(), more)),
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "written {}, found {}, surplus {}", self.written, self.found, self.surplus())?;
        list(f, "missing", &self.missing, Name::to_string)?;
        list(f, "duplicated", &self.duplicated, |(name, copies)| format!("{name} x{copies}"))?;
        list(f, "out of order", &self.inverted, inversion)?;
        list(f, "out of order within a life", &self.inverted_in_a_life, inversion)?;
        list(f, "repeated within a life", &self.repeated_in_a_life, Name::to_string)?;
        list(f, "corrupt", &self.corrupt, |(name, text)| format!("{name}: {text:?}"))?;
        list(f, "foreign", &self.foreign, |text| format!("{text:?}"))
    }
}

fn inversion(late: &Inversion) -> String {
    let (partition, offset) = late.place;
    format!("{} after #{} at {partition}:{offset}", late.line, late.after)
}

fn list<T>(f: &mut fmt::Formatter<'_>, what: &str, items: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    write!(f, "; {what} {}", items.len())?;
    if items.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = items.iter().take(SHOWN_MAX).map(show).collect();
    let more = if items.len() > SHOWN_MAX { ", …" } else { "" };
    write!(f, " [{}{more}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe::new("run", 1)
    }

    fn name(file: &str, seq: u64) -> Name {
        Name { file: file.to_owned(), seq }
    }

    fn written() -> Written {
        Written::from([("a-0".to_owned(), 4), ("b-0".to_owned(), 2)])
    }

    /// Records of one partition, in the given order, from offset 0.
    fn topic(lines: &[(&str, u64)]) -> Vec<Copy> {
        let record =
            |(offset, (file, seq)): (i64, &(&str, u64))| Copy::record(&recipe(), &recipe().line(file, *seq), 0, offset);
        (0..).zip(lines).map(record).collect()
    }

    const ALL: [(&str, u64); 6] = [("a-0", 0), ("a-0", 1), ("b-0", 0), ("a-0", 2), ("b-0", 1), ("a-0", 3)];

    #[test]
    fn a_faultless_run_is_clean() {
        let report = records(&written(), &topic(&ALL), &[]);
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.written, report.found, report.surplus()), (6, 6, 0));
    }

    #[test]
    fn a_missing_line_is_named() {
        let report = records(&written(), &topic(&ALL[..5]), &[]);
        assert_eq!(report.missing, [name("a-0", 3)]);
        assert!(report.duplicated.is_empty() && !report.is_clean());
    }

    #[test]
    fn a_file_never_found_misses_all_its_lines() {
        let only_a: Vec<_> = ALL.into_iter().filter(|(file, _)| *file == "a-0").collect();
        assert_eq!(documents(&written(), &topic(&only_a)).missing, [name("b-0", 0), name("b-0", 1)]);
    }

    #[test]
    fn a_double_line_cannot_cancel_a_missing_one() {
        let lines = [ALL[0], ALL[0], ALL[1], ALL[2], ALL[3], ALL[4]];
        let report = records(&written(), &topic(&lines), &[]);
        assert_eq!(report.found, report.written);
        assert_eq!(report.missing, [name("a-0", 3)]);
        assert_eq!(report.duplicated, [(name("a-0", 0), 2)]);
        assert_eq!(report.surplus(), 1);
    }

    #[test]
    fn lines_out_of_order_are_found_per_file() {
        let lines = [("a-0", 1), ("b-0", 0), ("a-0", 0), ("a-0", 2), ("a-0", 3), ("b-0", 1)];
        let report = records(&written(), &topic(&lines), &[]);
        let late = |life| Inversion { line: name("a-0", 0), after: 1, place: (0, 2), life };
        assert_eq!(report.inverted, [late(None)]);
        assert_eq!(report.inverted_in_a_life, [late(Some(0))]);
        assert!(report.missing.is_empty() && report.duplicated.is_empty());
    }

    #[test]
    fn other_partitions_and_files_have_their_own_order() {
        let mut copies = topic(&[("a-0", 2), ("a-0", 3), ("b-0", 0)]);
        let elsewhere =
            |(file, seq): (&str, u64), offset| Copy::record(&recipe(), &recipe().line(file, seq), 1, offset);
        copies.extend([elsewhere(("a-0", 0), 0), elsewhere(("b-0", 1), 1), elsewhere(("a-0", 1), 2)]);
        let report = records(&written(), &copies, &[]);
        assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn a_resend_after_a_kill_repeats_but_inverts_nothing() {
        let lines = [ALL[0], ALL[1], ALL[2], ALL[3], ALL[0], ALL[1], ALL[2], ALL[3], ALL[4], ALL[5]];
        let killed = LifeEnd::from([(0, 4)]);
        let report = records(&written(), &topic(&lines), &[killed]);
        assert_eq!((report.duplicated.len(), &*report.resent), (4, &[0, 4][..]));
        assert!(report.inverted.is_empty() && report.inverted_in_a_life.is_empty(), "{report}");
        assert!(report.repeated_in_a_life.is_empty());
        // The same records from one life: the resend itself is the fault.
        assert_eq!(records(&written(), &topic(&lines), &[]).repeated_in_a_life.len(), 4);
    }

    #[test]
    fn a_life_is_judged_by_its_own_records() {
        // The second life sends 1 after 2. Over the run 1 was seen before, so only the life's own order tells.
        let lines = [("a-0", 0), ("a-0", 1), ("a-0", 2), ("a-0", 2), ("a-0", 1), ("a-0", 3)];
        let report = records(&Written::from([("a-0".to_owned(), 4)]), &topic(&lines), &[LifeEnd::from([(0, 3)])]);
        assert!(report.inverted.is_empty());
        assert_eq!(report.inverted_in_a_life.len(), 1);
        assert_eq!(report.inverted_in_a_life[0].life, Some(1));
    }

    #[test]
    fn a_changed_line_is_corrupt_and_its_own_is_missing() {
        let mut copies = topic(&ALL);
        copies[1] = Copy::record(&recipe(), &format!("{} ", recipe().line("a-0", 1)), 0, 1);
        let report = records(&written(), &copies, &[]);
        assert_eq!(report.corrupt.len(), 1);
        assert_eq!(report.corrupt[0].0, name("a-0", 1));
        assert_eq!(report.missing, [name("a-0", 1)]);
    }

    #[test]
    fn what_was_never_written_is_foreign() {
        let mut copies = topic(&ALL);
        copies.push(Copy::document(&recipe(), &recipe().line("a-0", 4)));
        copies.push(Copy::document(&recipe(), &recipe().line("c-0", 0)));
        copies.push(Copy::document(&Recipe::new("other", 1), &recipe().line("a-0", 0)));
        let report = documents(&written(), &copies);
        assert_eq!(report.foreign.len(), 3);
        assert!(report.missing.is_empty() && report.duplicated.is_empty());
    }

    #[test]
    fn a_report_names_what_it_found() {
        let text = records(&written(), &topic(&[ALL[0], ALL[0]]), &[]).to_string();
        assert!(text.contains("missing 5 [a-0#1") && text.contains("duplicated 1 [a-0#0 x2]"), "{text}");
    }
}
