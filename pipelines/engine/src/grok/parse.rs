//! A pattern's text in, its [`Tree`] out: Oniguruma's syntax as Elasticsearch's grok uses it (Ruby's, UTF-8), with every
//! `%{NAME}` filled in on the way.
//!
//! In Ruby's syntax \d, \w and \s mean ASCII, while \b, POSIX classes and \p know Unicode (seen on a real node). As in
//! Oniguruma, unnamed groups do not capture beside named ones. What needs backtracking is read here like all else.

mod class;
mod escape;
mod reference;
mod text;

use super::bank::Bank;
use super::tree::{Place, Taste, Tree, one};
pub(super) use class::any;
use reference::Reference;
use regex_syntax::hir::ClassUnicode;
use text::Text;

/// Deepest nesting of groups, classes and names.
const NESTING_MAX: usize = 120;
/// Most parts of a pattern once names are filled in.
const PARTS_MAX: usize = 1 << 18;
/// Most repeats on one another, as in `.?*`.
const REPEATS_MAX: usize = 8;
/// Most times a part may be repeated by an interval, as in Oniguruma.
const TIMES_MAX: u32 = 100_000;

/// A pattern that was read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) tree: Tree,
    /// Names of the groups, in order of their opening; a name may stand more than once. Empty: unnamed.
    pub(super) groups: Vec<String>,
    /// Texts of the `%{NAME}` that were filled in.
    pub(super) labels: Vec<String>,
}

/// Flags of a part.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    ignore_case: bool,
    /// White space and comments in the pattern say nothing.
    extended: bool,
    /// `.` matches a newline, too (Ruby's m).
    any_newline: bool,
}

/// Reads `pattern`. Errors: what is wrong, and at which column of what.
pub(super) fn parse(bank: &Bank, pattern: &str) -> Result<Parsed, String> {
    let mut parser = Parser { bank, groups: Vec::new(), labels: Vec::new(), open: Vec::new(), depth: 0, parts: 0 };
    let mut text = Text::new(pattern);
    let mut tree = parser.ways(&mut text, Flags::default())?;
    if text.peek().is_some() {
        return Err(text.wrong("a closing parenthesis without its group"));
    }
    if parser.groups.iter().any(|name| !name.is_empty()) {
        let mut numbers = Vec::new();
        let mut next = 0;
        for name in &parser.groups {
            numbers.push((!name.is_empty()).then_some(next));
            next += usize::from(!name.is_empty());
        }
        keep_named(&mut tree, &numbers)?;
        parser.groups.retain(|name| !name.is_empty());
    }
    check_references(&tree, parser.groups.len())?;
    Ok(Parsed { tree, groups: parser.groups, labels: parser.labels })
}

struct Parser<'b> {
    bank: &'b Bank,
    groups: Vec<String>,
    labels: Vec<String>,
    /// Names that are being filled in, outermost first.
    open: Vec<String>,
    depth: usize,
    parts: usize,
}

/// What stood next in a sequence.
enum Item {
    Tree(Tree),
    /// A tree that takes no repeat after it, as it reaches to the end of its group.
    Rest(Tree),
    /// A comment.
    Nothing,
}

impl Parser<'_> {
    /// Alternatives up to the end of the group around them.
    fn ways(&mut self, text: &mut Text<'_>, flags: Flags) -> Result<Tree, String> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(text.wrong(&format!("groups and names nested deeper than {NESTING_MAX}")));
        }
        let mut ways = vec![self.sequence(text, flags)?];
        while text.next_is('|') {
            ways.push(self.sequence(text, flags)?);
        }
        self.depth -= 1;
        Ok(if ways.len() == 1 { ways.swap_remove(0) } else { Tree::Either(ways) })
    }

    fn sequence(&mut self, text: &mut Text<'_>, flags: Flags) -> Result<Tree, String> {
        let mut trees = Vec::new();
        while text.peek().is_some_and(|c| !matches!(c, '|' | ')')) {
            self.parts += 1;
            if self.parts > PARTS_MAX {
                return Err(text.wrong(&format!("more than {PARTS_MAX} parts once names are filled in")));
            }
            match self.item(text, flags)? {
                Item::Tree(tree) => trees.push(repeats(text, tree, flags)?),
                Item::Rest(tree) => trees.push(tree),
                Item::Nothing => {}
            }
        }
        Ok(Tree::concat(trees))
    }

    fn item(&mut self, text: &mut Text<'_>, flags: Flags) -> Result<Item, String> {
        if let Some(reference) = text.rest().strip_prefix("%{").and_then(Reference::parse) {
            let end = text.rest().len() - reference.rest.len();
            let label = text.take(end);
            return self.fill_in(&reference, label, text, flags).map(Item::Tree);
        }
        let Some(c) = text.next() else { return Ok(Item::Nothing) };
        Ok(Item::Tree(match c {
            '\\' => return self.escape(text, flags).map(Item::Tree),
            '[' => self.class(text, flags)?,
            '(' => return self.group(text, flags),
            '^' => Tree::Place(Place::LineStart),
            '$' => Tree::Place(Place::LineEnd),
            '.' => Tree::Set(any(flags.any_newline)),
            '*' | '+' | '?' => return Err(text.wrong(&format!("{c} has nothing to repeat"))),
            '#' if flags.extended => {
                while text.next().is_some_and(|c| c != '\n') {}
                return Ok(Item::Nothing);
            }
            _ if flags.extended && c.is_ascii_whitespace() => return Ok(Item::Nothing),
            _ => literal(c, flags),
        }))
    }

    /// The tree of a definition.
    fn fill_in(
        &mut self,
        reference: &Reference<'_>,
        label: &str,
        text: &Text<'_>,
        flags: Flags,
    ) -> Result<Tree, String> {
        let name = reference.name;
        if self.open.iter().any(|open| open == name) {
            let circle = self.open.join("=>");
            return Err(format!("circular reference in pattern [{name}] back to pattern [{circle}=>{name}]"));
        }
        let bank = self.bank;
        let Some(definition) = reference.definition.or_else(|| bank.definition(name)) else {
            return Err(text.wrong(&bank.unknown(name)));
        };
        self.labels.push(label.to_owned());
        let nth = self.labels.len() - 1;
        let group = reference.field.map(|field| self.open_group(field.to_owned()));
        self.open.push(name.to_owned());
        let mut inner = Text::new(definition);
        let tree = self.ways(&mut inner, flags);
        let tree = tree.and_then(|tree| match inner.peek() {
            None => Ok(tree),
            Some(_) => Err(inner.wrong("a closing parenthesis without its group")),
        });
        let tree =
            tree.map_err(|wrong| match wrong.contains("in the definition of") || wrong.starts_with("circular") {
                true => wrong,
                false => format!("{wrong} in the definition of {name}"),
            })?;
        self.open.pop();
        let tree = match group {
            Some(group) => Tree::Group(group, Box::new(tree)),
            None => tree,
        };
        Ok(Tree::Named(nth, Box::new(tree)))
    }

    fn open_group(&mut self, name: String) -> usize {
        self.groups.push(name);
        self.groups.len() - 1
    }

    /// A group whose parenthesis has been read.
    fn group(&mut self, text: &mut Text<'_>, flags: Flags) -> Result<Item, String> {
        if !text.next_is('?') {
            let group = self.open_group(String::new());
            let tree = self.inside(text, flags)?;
            return Ok(Item::Tree(Tree::Group(group, Box::new(tree))));
        }
        let around = |ahead, negated, what| Tree::Around { ahead, negated, what: Box::new(what) };
        let tree = match text.next() {
            Some(':') => self.inside(text, flags)?,
            Some('#') => loop {
                match text.next() {
                    Some(')') => return Ok(Item::Nothing),
                    Some(_) => {}
                    None => return Err(text.wrong("a comment without its end")),
                }
            },
            Some('>') => Tree::Atomic(Box::new(self.inside(text, flags)?)),
            Some('=') => around(true, false, self.inside(text, flags)?),
            Some('!') => around(true, true, self.inside(text, flags)?),
            Some('<') if text.next_is('=') => around(false, false, self.inside(text, flags)?),
            Some('<') if text.next_is('!') => around(false, true, self.inside(text, flags)?),
            Some('<') => self.named('>', text, flags)?,
            Some('\'') => self.named('\'', text, flags)?,
            Some(c @ ('~' | '(')) => {
                return Err(text.wrong(&format!("(?{c} is not supported: rewrite it with alternatives")));
            }
            Some(flag) => return self.flags(flag, text, flags),
            None => return Err(text.wrong("a group without its closing parenthesis")),
        };
        Ok(Item::Tree(tree))
    }

    /// Up to the closing parenthesis.
    fn inside(&mut self, text: &mut Text<'_>, flags: Flags) -> Result<Tree, String> {
        let tree = self.ways(text, flags)?;
        if text.next_is(')') { Ok(tree) } else { Err(text.wrong("a group without its closing parenthesis")) }
    }

    fn named(&mut self, end: char, text: &mut Text<'_>, flags: Flags) -> Result<Tree, String> {
        let name = text.until(end).ok_or_else(|| text.wrong("a group's name without its end"))?;
        if name.is_empty() {
            return Err(text.wrong("a group with an empty name"));
        }
        let group = self.open_group(name.to_owned());
        Ok(Tree::Group(group, Box::new(self.inside(text, flags)?)))
    }

    /// `(?im-x:…)` or `(?i)`, which holds up to the end of the group around it, its alternatives included.
    fn flags(&mut self, first: char, text: &mut Text<'_>, around: Flags) -> Result<Item, String> {
        let (mut flags, mut set, mut next) = (around, true, Some(first));
        loop {
            match next {
                Some('-') => set = false,
                Some('i') => flags.ignore_case = set,
                Some('m') => flags.any_newline = set,
                Some('x') => flags.extended = set,
                Some(':') => return self.inside(text, flags).map(Item::Tree),
                Some(')') => return self.ways(text, flags).map(Item::Rest),
                Some(c) => return Err(text.wrong(&format!("unknown group (?{c}"))),
                None => return Err(text.wrong("a group without its closing parenthesis")),
            }
            next = text.next();
        }
    }
}

fn literal(c: char, flags: Flags) -> Tree {
    if !flags.ignore_case || !c.is_alphabetic() {
        return Tree::Char(c);
    }
    Tree::Set(folded(one(c), flags))
}

/// With the other case of its letters, if case is ignored.
fn folded(mut set: ClassUnicode, flags: Flags) -> ClassUnicode {
    if flags.ignore_case {
        set.case_fold_simple();
    }
    set
}

/// The repeats after a part: `*`, `+?`, `{2,}`, …, one on another as Oniguruma allows.
fn repeats(text: &mut Text<'_>, mut tree: Tree, flags: Flags) -> Result<Tree, String> {
    for _ in 0..=REPEATS_MAX {
        while flags.extended && text.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            text.next();
        }
        let (min, max, counted) = match text.peek() {
            Some('*') => (0, None, false),
            Some('+') => (1, None, false),
            Some('?') => (0, Some(1), false),
            Some('{') => match interval(text)? {
                Some((min, max)) => (min, max, true),
                None => return Ok(tree), // A brace for itself.
            },
            _ => return Ok(tree),
        };
        if !counted {
            text.next();
        }
        // After an interval a plus is a repeat of its own, and `{n}?` is one that may be missing.
        let taste = match text.peek() {
            Some('+') if !counted => Taste::Possessive,
            Some('?') if !counted || max != Some(min) => Taste::Lazy,
            _ => Taste::Greedy,
        };
        if taste != Taste::Greedy {
            text.next();
        }
        tree = Tree::Repeat { min, max, taste, what: Box::new(tree) };
    }
    Err(text.wrong("too many repeats on one another"))
}

/// `{n}`, `{n,}`, `{,m}` or `{n,m}`, if the braces hold one; it is then read.
fn interval(text: &mut Text<'_>) -> Result<Option<(u32, Option<u32>)>, String> {
    let Some((inside, _)) = text.rest().strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return Ok(None);
    };
    let (low, high) = inside.split_once(',').unwrap_or((inside, inside));
    let is_number = |text: &str| text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(low) || !is_number(high) || (low.is_empty() && high.is_empty()) {
        return Ok(None);
    }
    let min = low.parse().unwrap_or(0);
    let max = high.parse().ok();
    if min > TIMES_MAX || max.is_some_and(|max| max > TIMES_MAX) {
        return Err(text.wrong(&format!("a repeat of more than {TIMES_MAX} times")));
    }
    if max.is_some_and(|max| max < min) {
        return Err(text.wrong(&format!("{{{inside}}} ends before it starts")));
    }
    text.take(inside.len() + 2);
    Ok(Some((min, max)))
}

/// Leaves out unnamed groups, and numbers the others anew.
fn keep_named(tree: &mut Tree, numbers: &[Option<usize>]) -> Result<(), String> {
    match tree {
        Tree::Group(nth, inner) => {
            keep_named(inner, numbers)?;
            match numbers.get(*nth).copied().flatten() {
                Some(number) => *nth = number,
                None => *tree = std::mem::replace(&mut **inner, Tree::Empty),
            }
            Ok(())
        }
        Tree::Concat(trees) | Tree::Either(trees) => trees.iter_mut().try_for_each(|tree| keep_named(tree, numbers)),
        Tree::Repeat { what, .. } | Tree::Around { what, .. } => keep_named(what, numbers),
        Tree::Named(_, inner) | Tree::Atomic(inner) => keep_named(inner, numbers),
        Tree::Back(groups) => {
            let renumbered = groups.iter().map(|group| numbers.get(*group).copied().flatten());
            *groups = renumbered.collect::<Option<_>>().ok_or("a back-reference by number beside named groups")?;
            Ok(())
        }
        Tree::Empty | Tree::Char(_) | Tree::Set(_) | Tree::Place(_) => Ok(()),
    }
}

fn check_references(tree: &Tree, groups: usize) -> Result<(), String> {
    match tree {
        Tree::Back(named) => match named.iter().all(|group| *group < groups) {
            true => Ok(()),
            false => Err("a back-reference to a group that there is not".to_owned()),
        },
        Tree::Concat(trees) | Tree::Either(trees) => trees.iter().try_for_each(|tree| check_references(tree, groups)),
        Tree::Repeat { what, .. } | Tree::Around { what, .. } => check_references(what, groups),
        Tree::Group(_, inner) | Tree::Named(_, inner) | Tree::Atomic(inner) => check_references(inner, groups),
        Tree::Empty | Tree::Char(_) | Tree::Set(_) | Tree::Place(_) => Ok(()),
    }
}
