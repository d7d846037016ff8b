//! A Java date pattern in (`dd/MMM/yyyy:H:m:s Z`), the items to read and write it by out.
//!
//! Specified by `DateTimeFormatterBuilder.appendPattern`.

/// A numeric field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Year,
    YearOfEra,
    Month,
    Day,
    DayOfYear,
    Hour,
    ClockHour,
    Hour12,
    ClockHour12,
    Minute,
    Second,
    Nano,
    MilliOfDay,
    NanoOfDay,
    Weekday,
}

/// What stands in names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Month,
    Weekday,
    HalfDay,
    Era,
}

/// Which signs a number may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Never,
    Negative,
    /// Negative, or `+` if there are more digits than the least.
    Exceeds,
}

/// How an offset is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offset {
    pub(crate) colon: bool,
    pub(crate) minutes: Minutes,
    pub(crate) seconds: bool,
    /// What stands for no offset: `Z`, `+0000`, `+00:00`, `+00`.
    pub(crate) zero: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Minutes {
    Always,
    IfNotZero,
}

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Literal(String),
    /// `reserved`: digits that the fields right after it need.
    Number {
        field: Field,
        min: usize,
        max: usize,
        sign: Sign,
        reserved: usize,
    },
    /// A year of two digits, from 2000.
    Reduced {
        reserved: usize,
    },
    Text {
        name: Name,
        full: bool,
    },
    Fraction {
        digits: usize,
    },
    Offset(Offset),
    /// `GMT+01:00`.
    LocalizedOffset {
        full: bool,
    },
    ZoneName,
    ZoneId,
    Optional(Vec<Item>),
}

/// Parses `pattern`.
pub(crate) fn parse(pattern: &str) -> Result<Vec<Item>, String> {
    let mut parser = Parser { rest: pattern.chars().collect(), at: 0, depth: 0 };
    let items = parser.items()?;
    if parser.at < parser.rest.len() {
        return Err(format!("Invalid format: [{pattern}]: Pattern invalid as it contains ] without previous ["));
    }
    Ok(items)
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn items(&mut self) -> Result<Vec<Item>, String> {
        let mut items = Vec::new();
        // The number that gives way to the fixed-width ones right after it.
        let mut base: Option<usize> = None;
        while let Some(c) = self.rest.get(self.at).copied() {
            match c {
                'a'..='z' | 'A'..='Z' => {
                    let count = self.rest[self.at..].iter().take_while(|same| **same == c).count();
                    self.at += count;
                    let item = letter(c, count)?;
                    base = match fixed_width(&item) {
                        Some(width) if base.is_some() => {
                            reserve(&mut items, base, width);
                            base
                        }
                        _ if is_number(&item) => Some(items.len()),
                        _ => None,
                    };
                    items.push(item);
                    continue;
                }
                '\'' => items.push(Item::Literal(self.quoted()?)),
                '[' => {
                    self.at += 1;
                    self.depth += 1;
                    if self.depth > 16 {
                        return Err("Invalid format: optional sections nested deeper than 16".to_owned());
                    }
                    let inner = self.items()?;
                    self.depth -= 1;
                    if self.rest.get(self.at) == Some(&']') {
                        self.at += 1;
                    }
                    items.push(Item::Optional(inner));
                }
                ']' => return Ok(items),
                '{' | '}' | '#' => {
                    return Err(format!("Invalid format: Pattern includes reserved character: '{c}'"));
                }
                _ => {
                    self.at += 1;
                    items.push(Item::Literal(c.to_string()));
                }
            }
            base = None;
        }
        Ok(items)
    }

    fn quoted(&mut self) -> Result<String, String> {
        let mut text = String::new();
        self.at += 1;
        if self.rest.get(self.at) == Some(&'\'') {
            self.at += 1;
            return Ok("'".to_owned());
        }
        loop {
            let c = *self.rest.get(self.at).ok_or("Invalid format: Pattern ends with an incomplete string literal")?;
            self.at += 1;
            match c {
                '\'' if self.rest.get(self.at) == Some(&'\'') => {
                    self.at += 1;
                    text.push('\'');
                }
                '\'' => return Ok(text),
                _ => text.push(c),
            }
        }
    }
}

fn is_number(item: &Item) -> bool {
    matches!(item, Item::Number { .. } | Item::Reduced { .. } | Item::Fraction { .. })
}

fn fixed_width(item: &Item) -> Option<usize> {
    match item {
        Item::Number { min, max, sign: Sign::Never, .. } if min == max => Some(*max),
        Item::Reduced { .. } => Some(2),
        Item::Fraction { digits } => Some(*digits),
        _ => None,
    }
}

fn reserve(items: &mut [Item], base: Option<usize>, width: usize) {
    if let Some(Item::Number { reserved, .. } | Item::Reduced { reserved }) = base.and_then(|at| items.get_mut(at)) {
        *reserved += width;
    }
}

fn letter(c: char, count: usize) -> Result<Item, String> {
    let too_many = || Err(format!("Invalid format: Too many pattern letters: {c}"));
    let number = |field, most: usize| match count {
        1 => Ok(Item::Number { field, min: 1, max: 19, sign: Sign::Negative, reserved: 0 }),
        _ if count <= most => Ok(Item::Number { field, min: count, max: count, sign: Sign::Never, reserved: 0 }),
        _ => too_many(),
    };
    let text = |name| match count {
        ..=3 => Ok(Item::Text { name, full: false }),
        4 => Ok(Item::Text { name, full: true }),
        _ => {
            Err(format!("Invalid format: [{}] is not supported, only up to four letters", c.to_string().repeat(count)))
        }
    };
    match c {
        'y' | 'u' => {
            let field = if c == 'y' { Field::YearOfEra } else { Field::Year };
            match count {
                2 => Ok(Item::Reduced { reserved: 0 }),
                1 | 3 => Ok(Item::Number { field, min: count, max: 19, sign: Sign::Negative, reserved: 0 }),
                4..=18 => Ok(Item::Number { field, min: count, max: 19, sign: Sign::Exceeds, reserved: 0 }),
                _ => too_many(),
            }
        }
        'M' | 'L' if count <= 2 => number(Field::Month, 2),
        'M' | 'L' => text(Name::Month),
        'd' => number(Field::Day, 2),
        'D' => number(Field::DayOfYear, 3),
        'H' => number(Field::Hour, 2),
        'k' => number(Field::ClockHour, 2),
        'K' => number(Field::Hour12, 2),
        'h' => number(Field::ClockHour12, 2),
        'm' => number(Field::Minute, 2),
        's' => number(Field::Second, 2),
        'S' if count <= 9 => Ok(Item::Fraction { digits: count }),
        'n' => number(Field::Nano, 19),
        'A' => number(Field::MilliOfDay, 19),
        'N' => number(Field::NanoOfDay, 19),
        'E' => text(Name::Weekday),
        'e' | 'c' if count >= 3 => text(Name::Weekday),
        'e' if count <= 2 => number(Field::Weekday, 2),
        'a' if count == 1 => Ok(Item::Text { name: Name::HalfDay, full: false }),
        'G' => text(Name::Era),
        'X' | 'x' | 'Z' => offset(c, count).map_or_else(too_many, Ok),
        'O' if matches!(count, 1 | 4) => Ok(Item::LocalizedOffset { full: count == 4 }),
        'z' if count <= 4 => Ok(Item::ZoneName),
        'V' if count == 2 => Ok(Item::ZoneId),
        'a' | 'S' | 'z' | 'V' | 'O' => too_many(),
        _ => Err(format!("Invalid format: the pattern letter {c} is not supported")),
    }
}

fn offset(c: char, count: usize) -> Option<Item> {
    let offset = |colon, minutes, seconds, zero| Some(Item::Offset(Offset { colon, minutes, seconds, zero }));
    match (c, count) {
        ('Z', 1..=3) => offset(false, Minutes::Always, false, "+0000"),
        ('Z', 4) => Some(Item::LocalizedOffset { full: true }),
        ('X', 1) => offset(false, Minutes::IfNotZero, false, "Z"),
        ('X', 2) => offset(false, Minutes::Always, false, "Z"),
        ('X', 3) => offset(true, Minutes::Always, false, "Z"),
        ('X', 4) => offset(false, Minutes::Always, true, "Z"),
        ('X' | 'Z', 5) => offset(true, Minutes::Always, true, "Z"),
        ('x', 1) => offset(false, Minutes::IfNotZero, false, "+00"),
        ('x', 2) => offset(false, Minutes::Always, false, "+0000"),
        ('x', 3) => offset(true, Minutes::Always, false, "+00:00"),
        ('x', 4) => offset(false, Minutes::Always, true, "+0000"),
        ('x', 5) => offset(true, Minutes::Always, true, "+00:00"),
        _ => None,
    }
}

/// English names of months, January first.
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// English names of weekdays, Monday first.
pub(crate) const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// Characters of a short name.
pub(crate) const SHORT_CHARS: usize = 3;
