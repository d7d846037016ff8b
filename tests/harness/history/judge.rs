//! What was written against what arrived: every line that stayed readable is there, each copy has its reason. Pure.
//!
//! Stricter than [`audit`](crate::audit), for it knows of each record which life of the agent sent it and under which id.

use crate::lines::{Name, Read};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// Characters of an id that tell the incarnation: 60 of its 64 bits.
const INCARNATION_CHARS: usize = 10;

/// Characters of a line that a finding shows.
const SHOWN_MAX: usize = 200;

/// What one inode held from its creation or a truncation to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Its complete lines.
    pub lines: Vec<Line>,
    /// Inodes in which it stands or stood: its own and those of its copies.
    pub places: usize,
    /// Paths that it had.
    pub paths: BTreeSet<String>,
    /// Lines that were unfinished when nobody could find the file any more: they may come in pieces.
    pub torn: Vec<Torn>,
}

/// A line of a file without a name that was not finished at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Where it starts in its file.
    pub offset: u64,
    /// All of it, as if it were finished.
    pub text: String,
}

impl Torn {
    /// True if `text` is what the line has from `at` on, up to anywhere. Half a character is read as a replacement.
    fn has(&self, at: u64, text: &str) -> bool {
        let from = at.checked_sub(self.offset).and_then(|from| usize::try_from(from).ok());
        let rest = from.and_then(|from| self.text.as_bytes().get(from..)).filter(|rest| !rest.is_empty());
        rest.is_some_and(|rest| String::from_utf8_lossy(rest).starts_with(text.trim_end_matches('\u{fffd}')))
    }
}

/// A complete line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Where it starts in its file.
    pub offset: u64,
    /// It was readable until it arrived, or is so still.
    pub is_owed: bool,
}

/// Contents by the file's name in their lines.
pub type Truth = BTreeMap<String, Content>;

/// One record of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// What its line is.
    pub read: Read,
    /// Its line.
    pub text: String,
    /// The document's id.
    pub id: String,
    /// The path that it names.
    pub path: String,
    /// The offset that it names.
    pub at: u64,
    /// Flagged as read again.
    pub is_reread: bool,
    /// The life of the agent that sent it, counted from 0.
    pub life: usize,
    /// Partition and offset.
    pub place: (i32, i64),
    /// Time of the record, milliseconds since 1970.
    pub sent_ms: i64,
    /// Checksum of the whole record.
    pub sum: u32,
}

impl Arrival {
    fn incarnation(&self) -> &str {
        self.id.get(..INCARNATION_CHARS).unwrap_or(&self.id)
    }
}

/// One life of the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Life {
    /// It was told to stop, and said that all was delivered.
    pub is_orderly: bool,
    /// When the broker came back the last time, milliseconds since 1970: what the client sent before may stand there twice.
    pub outage_until_ms: Option<i64>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file's name in its lines; empty if that cannot be told.
    pub file: String,
    /// What, and where.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// Compares. Shape: `arrivals` in the order of the offsets within each partition. An empty list is good.
pub fn judge(truth: &Truth, arrivals: &[Arrival], lives: &[Life]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut sound, mut pieces) = (Vec::new(), Vec::new());
    for arrival in arrivals {
        match genuine(truth, arrival) {
            Ok(name) => sound.push((name, arrival)),
            Err(finding) => match torn(truth, arrival) {
                Some(file) => pieces.push((file, arrival)),
                None => findings.push(finding),
            },
        }
    }
    check_pieces(&pieces, &mut findings);
    let mut copies: BTreeMap<&Name, Vec<&Arrival>> = BTreeMap::new();
    sound.iter().for_each(|(name, arrival)| copies.entry(name).or_default().push(arrival));
    let mut find = |name: &Name, what: String| {
        findings.push(Finding { file: name.file.clone(), what: format!("{name} {what}") });
    };
    for (file, content) in truth {
        for (seq, _) in (0..).zip(&content.lines).filter(|(_, line)| line.is_owed) {
            let name = Name { file: file.clone(), seq };
            if !copies.contains_key(&name) {
                find(&name, "is missing".to_owned());
            }
        }
    }
    for (name, copies) in copies {
        check_copies(name, truth[&name.file].places, copies, lives, &mut find);
    }
    check_incarnations(truth, &sound, &mut find);
    check_order(&sound, &mut find);
    findings
}

/// The line's name, if it was written where the record says. Else its file and what is wrong.
fn genuine<'a>(truth: &Truth, arrival: &'a Arrival) -> Result<&'a Name, Finding> {
    let (partition, offset) = arrival.place;
    let found = format!("life {}, {partition}:{offset}, {} at {}", arrival.life, arrival.path, arrival.at);
    let shown = || arrival.text.chars().take(SHOWN_MAX).collect::<String>();
    let finding = |file: &str, what: String| Err(Finding { file: file.to_owned(), what });
    let name = match &arrival.read {
        Read::Whole(name) => name,
        Read::Damaged(name) => return finding(&name.file, format!("{name} is damaged ({found}): {:?}", shown())),
        Read::Foreign => return finding("", format!("a foreign line ({found}): {:?}", shown())),
    };
    let wrong = |what: &str| finding(&name.file, format!("{name} {what} ({found})"));
    let content = truth.get(&name.file);
    let seq = usize::try_from(name.seq).ok();
    match content.and_then(|content| Some((content, content.lines.get(seq?)?))) {
        None => wrong("was never written"),
        Some((_, line)) if line.offset != arrival.at => wrong(&format!("stands at {}", line.offset)),
        Some((content, _)) if !content.paths.contains(&arrival.path) => wrong("never had that path"),
        Some(_) => Ok(name),
    }
}

/// The content of which it is a piece of an unfinished line.
fn torn<'a>(truth: &'a Truth, arrival: &Arrival) -> Option<&'a str> {
    let is_of = |content: &Content| {
        content.paths.contains(&arrival.path) && content.torn.iter().any(|torn| torn.has(arrival.at, &arrival.text))
    };
    truth.iter().find(|(_, content)| is_of(content)).map(|(file, _)| file.as_str())
}

/// What an unfinished line was cut to, it is cut to in every life.
fn check_pieces(pieces: &[(&str, &Arrival)], findings: &mut Vec<Finding>) {
    let mut of: BTreeMap<(&str, &str, u64), &str> = BTreeMap::new();
    for (file, arrival) in pieces {
        let before = of.entry((file, arrival.incarnation(), arrival.at)).or_insert(&arrival.text);
        if *before != arrival.text {
            let what = format!("the unfinished line at {} came as {before:?} and as {:?}", arrival.at, arrival.text);
            findings.push(Finding { file: (*file).to_owned(), what });
        }
    }
}

/// Each copy beyond the first has its reason, and under one id.
fn check_copies(
    name: &Name,
    places: usize,
    copies: Vec<&Arrival>,
    lives: &[Life],
    find: &mut impl FnMut(&Name, String),
) {
    let mut by_id: BTreeMap<&str, Vec<&Arrival>> = BTreeMap::new();
    copies.into_iter().for_each(|copy| by_id.entry(&copy.id).or_default().push(copy));
    if by_id.len() > places {
        find(name, format!("has {} ids, {places} allowed: {:?}", by_id.len(), by_id.keys()));
    }
    for copies in by_id.values_mut() {
        copies.sort_by_key(|copy| (copy.life, copy.place));
        for pair in copies.windows(2) {
            if let Err(why) = explained(pair[0], pair[1], lives) {
                let (from, to) = (pair[0].place, pair[1].place);
                find(name, format!("came again: {}:{} and {}:{}, {why}", from.0, from.1, to.0, to.1));
            }
        }
    }
}

/// Why the second may be there beside the first.
fn explained(first: &Arrival, second: &Arrival, lives: &[Life]) -> Result<(), String> {
    let life = first.life;
    let Some(ended) = lives.get(life) else { return Err(format!("life {life} is unknown")) };
    if life == second.life {
        // The client sends the same request again when the broker hung up before it answered, and the mock keeps both.
        let is_same_record = (first.sum, first.sent_ms) == (second.sum, second.sent_ms);
        return match ended.outage_until_ms {
            Some(until) if is_same_record && second.sent_ms <= until => Ok(()),
            _ => Err(format!("both of life {life}: {} and {}", told(first), told(second))),
        };
    }
    if ended.is_orderly {
        return Err(format!("of lives {life} and {}, the first of which ended in order", second.life));
    }
    if second.is_reread { Ok(()) } else { Err(format!("in life {} without the flag of a second reading", second.life)) }
}

/// What two copies may differ in.
fn told(arrival: &Arrival) -> String {
    let reread = if arrival.is_reread { ", read again" } else { "" };
    format!("{} at {} ms{reread}, {:08x}", arrival.path, arrival.sent_ms, arrival.sum)
}

/// One content has one incarnation in each inode, and one incarnation is of one content.
fn check_incarnations(truth: &Truth, sound: &[(&Name, &Arrival)], find: &mut impl FnMut(&Name, String)) {
    let (mut of_content, mut of_incarnation) = (BTreeMap::new(), HashMap::new());
    for (name, arrival) in sound {
        let incarnations: &mut BTreeSet<&str> = of_content.entry(&name.file).or_default();
        if incarnations.insert(arrival.incarnation()) && incarnations.len() > truth[&name.file].places {
            find(name, format!("is of another incarnation than what came before it (life {})", arrival.life));
        }
        let owner = of_incarnation.entry(arrival.incarnation()).or_insert(&name.file);
        if *owner != &name.file {
            find(name, format!("has the incarnation of {owner} (life {})", arrival.life));
            *owner = &name.file;
        }
    }
}

/// Within a life of the agent and over all of them, an incarnation's lines come in order, those that came before left out;
/// within a life they stand in one partition.
fn check_order(sound: &[(&Name, &Arrival)], find: &mut impl FnMut(&Name, String)) {
    let (mut in_life, mut overall) = (HashMap::new(), HashMap::new());
    let mut partitions = HashMap::new();
    for (name, arrival) in sound {
        let ((partition, offset), incarnation) = (arrival.place, arrival.incarnation());
        let home = *partitions.entry((arrival.life, incarnation)).or_insert(partition);
        if home != partition {
            find(name, format!("stands in partition {partition}, others of life {} in {home}", arrival.life));
        }
        let of_life: &mut Seen = in_life.entry((Some(arrival.life), partition, incarnation)).or_default();
        let of_all: &mut Seen = overall.entry((partition, incarnation)).or_default();
        for (seen, span) in [(of_life, format!("life {}", arrival.life)), (of_all, "all lives".to_owned())] {
            if let Some(after) = seen.add(name.seq) {
                find(name, format!("came after #{after}, counted over {span} ({partition}:{offset})"));
            }
        }
    }
}

/// Lines of one incarnation met so far.
#[derive(Debug, Default)]
struct Seen {
    lines: BTreeSet<u64>,
}

impl Seen {
    /// The later line that came before this one, if this one was not there yet.
    fn add(&mut self, seq: u64) -> Option<u64> {
        let last = self.lines.last().copied();
        let is_new = self.lines.insert(seq);
        last.filter(|last| is_new && *last > seq)
    }
}

#[cfg(test)]
mod tests;
