//! Group → how much it is, and its parts by the values of fields. Pure; without a plan by field nothing of the records is looked at.

use event::{Group, Record, members};
use std::collections::HashMap;
use std::ops::{AddAssign, SubAssign};

/// A value of a field is told apart by so many bytes.
const KEY_BYTES_MAX: usize = 256;

/// Events, and the bytes of their lines with an end each, before they are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Load {
    fn of(record: &Record) -> Self {
        Self { events: 1, bytes: u64::from(record.bytes.end - record.bytes.start) + 1 }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.events = self.events.saturating_sub(other.events);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// Records of a group that have the same values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Of each field; empty where a record has none.
    pub(crate) keys: Vec<String>,
    pub(crate) load: Load,
}

/// A group's parts, and to which each record belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) parts: Vec<Part>,
    /// Empty if there is only one.
    pub(crate) part_of: Vec<usize>,
}

/// Counts the records of `group`, told apart by the values of `fields` (dotted names).
///
/// A value is looked for in what a parser found in the record, then in the input's own fields, there also below `fields`.
pub(crate) fn tally(group: &Group, fields: &[String]) -> Tally {
    if fields.is_empty() {
        return Tally { parts: vec![Part { keys: Vec::new(), load: load(&group.records) }], part_of: Vec::new() };
    }
    let input = group.source.input();
    let of_input: Vec<String> = fields.iter().map(|field| of_input(&input.fields, field)).collect();
    let (mut tally, mut known) = (Tally::default(), HashMap::<Vec<String>, usize>::new());
    for record in &group.records {
        let own = record.extra.as_ref().map_or("", |extra| &*extra.fields);
        let of_record = |(field, of_input): (&String, &String)| {
            value(own.as_bytes(), field).map(text).unwrap_or_else(|| of_input.clone())
        };
        let keys: Vec<String> = fields.iter().zip(&of_input).map(of_record).collect();
        let index = match known.get(&keys) {
            Some(index) => *index,
            None => {
                tally.parts.push(Part { keys: keys.clone(), load: Load::default() });
                known.insert(keys, tally.parts.len() - 1);
                tally.parts.len() - 1
            }
        };
        tally.parts[index].load += Load::of(record);
        tally.part_of.push(index);
    }
    tally
}

fn load(records: &[Record]) -> Load {
    let mut load = Load::default();
    records.iter().for_each(|record| load += Load::of(record));
    load
}

/// The value in what an input adds to each of its records: members without braces.
pub(crate) fn of_input(fields: &str, field: &str) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let object = format!("{{{fields}}}");
    let found = value(object.as_bytes(), field).or_else(|| value(object.as_bytes(), &format!("fields.{field}")));
    found.map(text).unwrap_or_default()
}

/// The value of `field` in the text of an object: a member of that name, or below objects whose names are its parts.
fn value<'a>(object: &'a [u8], field: &str) -> Option<&'a [u8]> {
    if object.is_empty() {
        return None;
    }
    let mut found = None;
    members(object, |name, value_here| {
        let rest = field.as_bytes().strip_prefix(name);
        match rest {
            Some([]) => found = Some(value_here),
            Some([b'.', ..]) if found.is_none() => {
                let below = field.get(name.len() + 1..).unwrap_or_default();
                found = value(value_here, below);
            }
            _ => {}
        }
    });
    found.filter(|value| *value != b"null")
}

/// A string without its quotes; anything else as it is written.
fn text(value: &[u8]) -> String {
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    String::from_utf8_lossy(&inner[..inner.len().min(KEY_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::tests::{group, group_of};
    use event::{Extra, Input};

    #[track_caller]
    fn check(object: &str, field: &str, expected: &str) {
        assert_eq!(value(object.as_bytes(), field).map(text).unwrap_or_default(), expected, "{object} {field}");
    }

    #[test]
    fn a_field_is_found_under_its_whole_name_or_below_others() {
        check(r#"{"service":{"name":"shop"}}"#, "service.name", "shop");
        check(r#"{"service.name":"shop"}"#, "service.name", "shop");
        check(r#"{"a":{"b.c":{"d":7}}}"#, "a.b.c.d", "7");
        check(r#"{"service":"shop"}"#, "service.name", "");
        check(r#"{"services":{"name":"x"}}"#, "service.name", "");
        check(r#"{"service":{"name":null}}"#, "service.name", "");
        check(r#"{"service":{"name":{"a":1}}}"#, "service.name", r#"{"a":1}"#);
        check("no object", "a", "");
    }

    #[test]
    fn without_fields_a_group_is_one_part() {
        let group = group("a", &["one", "three"]);
        let tally = tally(&group, &[]);
        assert_eq!(tally.parts, [Part { keys: vec![], load: Load { events: 2, bytes: 10 } }]);
        assert!(tally.part_of.is_empty());
    }

    #[test]
    fn a_value_of_the_record_stands_before_that_of_its_input() {
        let input = Input { fields: r#""fields":{"service":{"name":"web"}}"#.into(), ..Input::default() };
        let mut group = group_of(input, "/a.log", &["x", "y", "zz", "w"]);
        for (at, fields) in
            [(1, r#"{"service":{"name":"shop"}}"#), (2, r#"{"other":1}"#), (3, r#"{"service":{"name":"shop"}}"#)]
        {
            group.records[at].extra = Some(Box::new(Extra { fields: fields.into(), ..Extra::default() }));
        }
        let tally = tally(&group, &["service.name".to_owned(), "none".to_owned()]);
        let part =
            |name: &str, events, bytes| Part { keys: vec![name.into(), "".into()], load: Load { events, bytes } };
        assert_eq!(tally.parts, [part("web", 2, 5), part("shop", 2, 4)]);
        assert_eq!(tally.part_of, [0, 1, 0, 1]);
    }
}
