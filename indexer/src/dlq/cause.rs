//! Causes → groups: what differs from letter to letter of one cause is left out. Pure.

use super::grave::{Grave, Place};
use serde::Serialize;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// Most groups that are kept apart; more of them are one.
const GROUPS_MAX: usize = 10_000;
/// Longest pattern, in characters: the fields and types stand at its start.
const PATTERN_CHARS: usize = 400;

/// Letters of one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Names the group: the same in every run.
    pub fingerprint: String,
    /// The search node's name for the cause.
    pub kind: String,
    /// The cause without what differs: values, ids, numbers.
    pub pattern: String,
    /// The pipeline of the first one.
    pub pipeline: String,
    /// The index of the first one.
    pub index: String,
    /// How many there are.
    pub letters: u64,
    /// When the first was written, and the last.
    pub times: (String, String),
    /// Place of the first one, as `show` takes it.
    pub sample: String,
}

/// Groups while letters come in.
#[derive(Debug, Default)]
pub struct Groups {
    groups: BTreeMap<String, Group>,
}

impl Groups {
    /// Takes note of a letter.
    pub fn add(&mut self, grave: &Grave) {
        let (mut pattern, mut kind) = (pattern(grave.header("cause")), grave.header("kind").to_owned());
        let mut fingerprint = hash(&kind, &pattern);
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&fingerprint) {
            (pattern, kind) = ("(more causes than are kept apart)".to_owned(), String::new());
            fingerprint = hash(&kind, &pattern);
        }
        let time = grave.header("time");
        let group = self.groups.entry(fingerprint.clone()).or_insert_with(|| Group {
            fingerprint,
            kind,
            pattern,
            pipeline: grave.header("pipeline").to_owned(),
            index: grave.header("index").to_owned(),
            letters: 0,
            times: (time.to_owned(), time.to_owned()),
            sample: grave.place.to_string(),
        });
        group.letters += 1;
        if time < group.times.0.as_str() {
            group.times.0 = time.to_owned();
        }
        if time > group.times.1.as_str() {
            group.times.1 = time.to_owned();
        }
    }

    /// The groups, the largest first.
    pub fn sorted(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by(|a, b| b.letters.cmp(&a.letters).then_with(|| a.fingerprint.cmp(&b.fingerprint)));
        groups
    }
}

/// The fingerprint of a letter's cause: eight hexadecimal digits.
pub fn fingerprint(grave: &Grave) -> String {
    hash(grave.header("kind"), &pattern(grave.header("cause")))
}

/// Which letters are meant: by fingerprint or by place.
pub fn is_meant(grave: &Grave, fingerprints: &[String], places: &[Place]) -> bool {
    (fingerprints.is_empty() && places.is_empty())
        || places.contains(&grave.place)
        || (!fingerprints.is_empty() && fingerprints.contains(&fingerprint(grave)))
}

fn hash(kind: &str, pattern: &str) -> String {
    let hash = xxh3_64(format!("{kind}\n{pattern}").as_bytes());
    format!("{:08x}", hash >> 32)
}

/// `cause` with `…` for what stands in quotes, and `#` for digits. Names in brackets stay: they are fields and types.
fn pattern(cause: &str) -> String {
    let (mut text, mut chars) = (String::new(), cause.chars().peekable());
    let mut word = false; // Inside a word: an apostrophe there is no quote (`field's`).
    while let Some(c) = chars.next() {
        match c {
            '\'' if word => text.push(c),
            '\'' | '"' | '`' => {
                text.push(c);
                text.push('…');
                let mut closed = false;
                for quoted in chars.by_ref() {
                    closed = quoted == c;
                    if closed {
                        break;
                    }
                }
                if closed {
                    text.push(c);
                }
            }
            '0'..='9' => {
                text.push('#');
                while chars.next_if(char::is_ascii_digit).is_some() {}
            }
            other => text.push(other),
        }
        word = c.is_alphanumeric();
    }
    text.chars().take(PATTERN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cause: &str, expected: &str) {
        assert_eq!(pattern(cause), expected);
    }

    #[test]
    fn values_ids_and_numbers_are_left_out_and_fields_stay() {
        check(
            "mapper_parsing_exception: failed to parse field [n] of type [long] in document with id 'AS-1'. Preview of \
             field's value: 'abc'; caused by illegal_argument_exception: For input string: \"abc\"",
            "mapper_parsing_exception: failed to parse field [n] of type [long] in document with id '…'. Preview of \
             field's value: '…'; caused by illegal_argument_exception: For input string: \"…\"",
        );
        check("Limit of total fields [1000] has been exceeded", "Limit of total fields [#] has been exceeded");
        check("status 413: ", "status #: ");
        check("an open 'quote", "an open '…");
        check("", "");
    }

    fn grave(offset: i64, kind: &str, cause: &str, time: &str) -> Grave {
        let headers = [("kind", kind), ("cause", cause), ("time", time), ("pipeline", "p"), ("index", "i")];
        Grave {
            place: Place { partition: 1, offset },
            written_ms: None,
            key: None,
            value: None,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn letters_of_one_cause_are_one_group_the_largest_first() {
        let mut groups = Groups::default();
        groups.add(&grave(1, "k", "field [a] 'x'", "2026-02-01"));
        groups.add(&grave(2, "k", "field [b] 'x'", "2026-02-02"));
        groups.add(&grave(3, "k", "field [b] 'y'", "2026-02-01"));
        let groups = groups.sorted();
        let short: Vec<_> = groups
            .iter()
            .map(|group| (group.letters, group.pattern.as_str(), group.sample.as_str(), group.times.0.as_str()))
            .collect();
        assert_eq!(short, [(2, "field [b] '…'", "1:2", "2026-02-01"), (1, "field [a] '…'", "1:1", "2026-02-01")]);
        assert_eq!(groups[0].fingerprint, fingerprint(&grave(9, "k", "field [b] 'z'", "")));
        assert_ne!(groups[0].fingerprint, fingerprint(&grave(9, "other", "field [b] 'z'", "")));
    }

    #[test]
    fn letters_are_meant_by_fingerprint_or_place_and_all_of_them_without_either() {
        let letter = grave(7, "k", "c", "");
        let (print, other) = (fingerprint(&letter), "00000000".to_owned());
        let (here, there) = (Place { partition: 1, offset: 7 }, Place { partition: 1, offset: 8 });
        assert!(is_meant(&letter, &[], &[]));
        assert!(is_meant(&letter, std::slice::from_ref(&print), &[]) && is_meant(&letter, &[], &[here]));
        assert!(is_meant(&letter, &[other.clone()], &[here]) && is_meant(&letter, &[print], &[there]));
        assert!(!is_meant(&letter, &[other], &[]) && !is_meant(&letter, &[], &[there]));
        assert_eq!("1:7".parse(), Ok(here));
        assert!("17".parse::<Place>().is_err() && "a:7".parse::<Place>().is_err());
    }
}
