//! Regular expressions in scripts: `=~`, `==~`, `Pattern` and `Matcher`.

use super::ast::{Lambda, Op, Pattern};
use super::class::Class;
use super::machine::{Eval, Given, Machine, matcher};
use super::methods::{int_of, text_of};
use super::thrown::{Thrown, throw};
use super::value::{Matcher, Obj, Text, Val};
use crate::java_regex::{Finds, Replacement, split};
use regex_automata::util::captures::Captures;
use regex_automata::{Anchored, Input};
use std::cell::RefCell;

pub(super) const METHODS: &[(&str, usize)] = &[
    ("end", 0),
    ("end", 1),
    ("find", 0),
    ("find", 1),
    ("group", 0),
    ("group", 1),
    ("groupCount", 0),
    ("lookingAt", 0),
    ("matcher", 1),
    ("matches", 0),
    ("namedGroup", 1),
    ("pattern", 0),
    ("replaceAll", 1),
    ("replaceFirst", 1),
    ("reset", 0),
    ("split", 1),
    ("split", 2),
    ("splitAsStream", 1),
    ("start", 0),
    ("start", 1),
];

type Found<'e> = Result<Option<Val<'e>>, Box<Thrown>>;

/// `text =~ pattern` and `text ==~ pattern`.
pub(super) fn operator<'e>(op: Op, text: &Val<'e>, pattern: &Val<'e>) -> Eval<'e> {
    let pattern = pattern_of(pattern)?;
    let owned;
    let text = match text {
        Val::Object(object) if matches!(**object, Obj::Builder(_)) => {
            owned = text.to_text();
            owned.as_str()
        }
        text => text_of(text)?,
    };
    Ok(Val::Bool(match op {
        Op::Find => {
            event::steps::count(text.len());
            pattern.regex.is_match(text)
        }
        _ => whole(&pattern, text, &mut pattern.regex.create_captures()),
    }))
}

fn pattern_of(value: &Val<'_>) -> Result<std::sync::Arc<Pattern>, Box<Thrown>> {
    if let Val::Object(object) = value
        && let Obj::Pattern(pattern) = &**object
    {
        return Ok(pattern.clone());
    }
    throw(Class::ClassCastException, format!("Cannot cast {} to java.util.regex.Pattern", value.class_name()))
}

/// True if the pattern matches all of `text`; the groups are then in `captures`.
///
/// Java tries alternatives until one reaches the end. The first of the leftmost need not; so the pattern is asked again
/// between anchors, which is compiled with it.
fn whole(pattern: &Pattern, text: &str, captures: &mut Captures) -> bool {
    event::steps::count(text.len());
    pattern.whole.search_captures(&Input::new(text).anchored(Anchored::Yes), captures);
    captures.get_match().is_some_and(|found| found.range() == (0..text.len()))
}

fn groups_of(captures: &Captures) -> Vec<Option<(usize, usize)>> {
    (0..captures.group_len()).map(|group| captures.get_group(group).map(|span| (span.start, span.end))).collect()
}

pub(super) fn call<'e>(machine: &mut Machine<'e>, of: &Val<'e>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    let Val::Object(object) = of else { return Ok(None) };
    match &**object {
        Obj::Pattern(pattern) => of_pattern(machine, pattern, name, args),
        Obj::Matcher(cell) => {
            let mut matcher = cell.try_borrow_mut().map_err(|_| Thrown::concurrent())?;
            machine.step(matcher.text.as_str().len() / 64)?;
            of_matcher(machine, of, &mut matcher, name, args)
        }
        _ => Ok(None),
    }
}

fn of_pattern<'e>(
    machine: &mut Machine<'e>,
    pattern: &std::sync::Arc<Pattern>,
    name: &str,
    args: &[Given<'e>],
) -> Found<'e> {
    let parts = |machine: &mut Machine<'e>, text: &Val<'e>, limit: i32| -> Result<Vec<Val<'e>>, Box<Thrown>> {
        let text = text_of(text)?;
        let parts: Vec<_> = split(&pattern.regex, text, limit).into_iter().map(Val::text).collect();
        machine.charge_elements(parts.len())?;
        machine.charge(text.len())?;
        Ok(parts)
    };
    Ok(Some(match (name, args) {
        ("pattern", []) => Val::text(pattern.text.as_str()),
        ("matcher", [Given::Value(Val::Text(text))]) => matcher(pattern.clone(), text.clone()),
        ("matcher", [Given::Value(other)]) if matches!(other, Val::Object(_)) => {
            matcher(pattern.clone(), Text::Own(other.to_text()))
        }
        ("matcher", [Given::Value(other)]) => {
            text_of(other)?;
            return Ok(None);
        }
        ("split", [Given::Value(text)]) => Val::object(Obj::Array(RefCell::new(parts(machine, text, 0)?))),
        ("split", [Given::Value(text), Given::Value(limit)]) => {
            let limit = int_of(limit)?;
            Val::object(Obj::Array(RefCell::new(parts(machine, text, limit)?)))
        }
        ("splitAsStream", [Given::Value(text)]) => Val::object(Obj::Stream(RefCell::new(parts(machine, text, 0)?))),
        _ => return Ok(None),
    }))
}

/// Units before byte `at`.
fn units_before(text: &str, at: usize) -> i32 {
    let head = text.get(..at).unwrap_or_default();
    if head.is_ascii() { at as i32 } else { head.encode_utf16().count() as i32 }
}

fn of_matcher<'e>(
    machine: &mut Machine<'e>,
    of: &Val<'e>,
    matcher: &mut Matcher<'e>,
    name: &str,
    args: &[Given<'e>],
) -> Found<'e> {
    let pattern = matcher.pattern.clone();
    Ok(Some(match (name, args) {
        ("find", []) => Val::Bool(find(matcher, matcher.next)),
        ("find", [Given::Value(from)]) => {
            let from = int_of(from)?;
            let text = matcher.text.as_str();
            let head = super::methods::part_of(text, 0, from)
                .map_err(|_| Thrown::named("java.lang.IndexOutOfBoundsException", "Illegal start index"))?;
            Val::Bool(find(matcher, head.len()))
        }
        ("matches" | "lookingAt", []) => {
            let mut captures = pattern.regex.create_captures();
            let text = matcher.text.as_str();
            let found = if name == "matches" {
                whole(&pattern, text, &mut captures)
            } else {
                event::steps::count(text.len());
                pattern.regex.search_captures(&Input::new(text).anchored(Anchored::Yes), &mut captures);
                captures.is_match()
            };
            matcher.next = captures.get_match().filter(|_| found).map_or(0, |found| found.end());
            matcher.groups = found.then(|| groups_of(&captures));
            Val::Bool(found)
        }
        ("group", []) => group(matcher, 0)?,
        ("group", [Given::Value(nth)]) => group(matcher, int_of(nth)?)?,
        ("namedGroup", [Given::Value(group_name)]) => {
            let group_name = text_of(group_name)?;
            match pattern.regex.group_info().to_index(regex_automata::PatternID::ZERO, group_name) {
                Some(nth) => group(matcher, nth as i32)?,
                None => {
                    return throw(Class::IllegalArgumentException, format!("No group with name <{group_name}>"));
                }
            }
        }
        ("start" | "end", args) => {
            let nth = match args {
                [Given::Value(nth)] => int_of(nth)?,
                _ => 0,
            };
            let range = range(matcher, nth)?;
            let at = range.map(|(start, end)| if name == "start" { start } else { end });
            Val::Int(at.map_or(-1, |at| units_before(matcher.text.as_str(), at)))
        }
        ("groupCount", []) => {
            Val::Int(pattern.regex.group_info().group_len(regex_automata::PatternID::ZERO) as i32 - 1)
        }
        ("pattern", []) => Val::object(Obj::Pattern(pattern)),
        ("reset", []) => {
            (matcher.next, matcher.groups) = (0, None);
            of.clone()
        }
        ("replaceAll" | "replaceFirst", [Given::Value(with)]) => {
            let text = matcher.text.as_str();
            let most = if name == "replaceAll" { usize::MAX } else { 1 };
            event::steps::count(text.len());
            if !pattern.regex.is_match(text) {
                return Ok(Some(Val::Text(matcher.text.clone())));
            }
            let with = Replacement::parse(text_of(with)?, &pattern.regex).map_err(|wrong| {
                let class = match wrong.starts_with("No group ") && !wrong.contains('{') {
                    true => "java.lang.IndexOutOfBoundsException",
                    false => "java.lang.IllegalArgumentException",
                };
                Thrown::named(class, wrong)
            })?;
            let made = with.apply(&pattern.regex, text, most).unwrap_or_default();
            machine.charge(made.len())?;
            Val::text(made)
        }
        _ => return Ok(None),
    }))
}

/// Finds the next match from byte `from` on.
fn find(matcher: &mut Matcher<'_>, from: usize) -> bool {
    let pattern = matcher.pattern.clone();
    let text = matcher.text.as_str();
    let mut finds = Finds::new(&pattern.regex, text);
    finds.start_at(from);
    let mut captures = pattern.regex.create_captures();
    let found = finds.next(&mut captures).is_some();
    let next = finds.place().unwrap_or(text.len() + 1);
    matcher.groups = found.then(|| groups_of(&captures));
    matcher.next = next;
    found
}

fn range(matcher: &Matcher<'_>, nth: i32) -> Result<Option<(usize, usize)>, Box<Thrown>> {
    let Some(groups) = &matcher.groups else { return throw(Class::IllegalStateException, "No match found") };
    match usize::try_from(nth).ok().and_then(|nth| groups.get(nth)) {
        Some(range) => Ok(*range),
        None => throw(Class::IndexOutOfBoundsException, format!("No group {nth}")),
    }
}

fn group<'e>(matcher: &Matcher<'e>, nth: i32) -> Eval<'e> {
    let Some((start, end)) = range(matcher, nth)? else { return Ok(Val::Null) };
    Ok(match &matcher.text {
        Text::Ref(text) => Val::Text(Text::Ref(text.get(start..end).unwrap_or_default())),
        Text::Own(text) => Val::text(text.get(start..end).unwrap_or_default()),
    })
}

/// `text.replaceAll(pattern, m -> …)`: every match, or the first `most`, replaced by what the lambda makes of it.
pub(super) fn replace_with<'e>(
    machine: &mut Machine<'e>,
    text: &Text<'e>,
    pattern: &Val<'e>,
    lambda: &'e Lambda,
    most: usize,
) -> Eval<'e> {
    let pattern = pattern_of(pattern)?;
    let (this, mut out, mut done) = (text.as_str(), String::new(), 0);
    let mut finds = Finds::new(&pattern.regex, this);
    let mut captures = pattern.regex.create_captures();
    for _ in 0..most {
        let Some(span) = finds.next(&mut captures) else { break };
        let found = Matcher {
            pattern: pattern.clone(),
            text: text.clone(),
            groups: Some(groups_of(&captures)),
            next: span.end,
        };
        let made = machine.lambda(lambda, &[Val::object(Obj::Matcher(RefCell::new(found)))])?;
        out.push_str(this.get(done..span.start).unwrap_or_default());
        out.push_str(text_of(&made)?);
        machine.charge(out.len().saturating_sub(done))?;
        done = span.end;
    }
    out.push_str(this.get(done..).unwrap_or_default());
    Ok(Val::text(out))
}
