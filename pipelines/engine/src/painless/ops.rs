//! Operators by Java's rules: binary promotion, wrapping integers, and what Painless says of types that do not fit.
//!
//! Specified by Painless's `Def` and `DefMath`.

use super::ast::{Op, Type, UnaryOp};
use super::class::Class;
use super::thrown::{Thrown, throw};
use super::value::{Obj, Text, Val};
use compact_str::CompactString;
use event::Value;
use std::cmp::Ordering;

/// Two numbers of the type that both are promoted to.
enum Pair {
    Int(i32, i32),
    Long(i64, i64),
    Float(f32, f32),
    Double(f64, f64),
}

/// A number by its width.
#[derive(Clone, Copy)]
pub(super) enum Num {
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
}

impl Num {
    pub(super) fn of(value: &Val<'_>) -> Option<Self> {
        Some(match value {
            Val::Byte(number) => Self::Int(i32::from(*number)),
            Val::Short(number) => Self::Int(i32::from(*number)),
            Val::Char(unit) => Self::Int(i32::from(*unit)),
            Val::Int(number) => Self::Int(*number),
            Val::Long(number) => Self::Long(*number),
            Val::Float(number) => Self::Float(*number),
            Val::Double(number) => Self::Double(*number),
            _ => return None,
        })
    }

    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Int(number) => f64::from(number),
            Self::Long(number) => number as f64,
            Self::Float(number) => f64::from(number),
            Self::Double(number) => number,
        }
    }

    fn as_f32(self) -> f32 {
        match self {
            Self::Int(number) => number as f32,
            Self::Long(number) => number as f32,
            Self::Float(number) => number,
            Self::Double(number) => number as f32,
        }
    }

    /// As a cast to `long` gives it: fractions cut, too large numbers held at the bounds.
    pub(super) fn as_i64(self) -> i64 {
        match self {
            Self::Int(number) => i64::from(number),
            Self::Long(number) => number,
            Self::Float(number) => number as i64,
            Self::Double(number) => number as i64,
        }
    }

    /// As a cast to `int` gives it.
    pub(super) fn as_i32(self) -> i32 {
        match self {
            Self::Int(number) => number,
            Self::Long(number) => number as i32,
            Self::Float(number) => number as i32,
            Self::Double(number) => number as i32,
        }
    }
}

fn pair(left: &Val<'_>, right: &Val<'_>) -> Option<Pair> {
    let (left, right) = (Num::of(left)?, Num::of(right)?);
    Some(match (left, right) {
        (Num::Double(_), _) | (_, Num::Double(_)) => Pair::Double(left.as_f64(), right.as_f64()),
        (Num::Float(_), _) | (_, Num::Float(_)) => Pair::Float(left.as_f32(), right.as_f32()),
        (Num::Long(_), _) | (_, Num::Long(_)) => Pair::Long(left.as_i64(), right.as_i64()),
        (Num::Int(left), Num::Int(right)) => Pair::Int(left, right),
    })
}

fn cannot<T>(sign: &str, left: &Val<'_>, right: &Val<'_>) -> Result<T, Box<Thrown>> {
    let (left, right) = (left.class_name(), right.class_name());
    throw(Class::ClassCastException, format!("Cannot apply [{sign}] operation to types [{left}] and [{right}]."))
}

/// `left op right`, but for the two of regular expressions.
pub(super) fn binary<'e>(op: Op, left: &Val<'e>, right: &Val<'e>) -> Result<Val<'e>, Box<Thrown>> {
    match op {
        Op::Add => add(left, right),
        Op::Sub => arithmetic("-", left, right, i32::wrapping_sub, i64::wrapping_sub, |a, b| a - b, |a, b| a - b),
        Op::Mul => arithmetic("*", left, right, i32::wrapping_mul, i64::wrapping_mul, |a, b| a * b, |a, b| a * b),
        Op::Div | Op::Rem => divide(op, left, right),
        Op::ShiftLeft | Op::ShiftRight | Op::ShiftRightUnsigned => shift(op, left, right),
        Op::BitAnd | Op::BitOr | Op::BitXor => bits(op, left, right),
        Op::Eq => Ok(Val::Bool(equal(left, right))),
        Op::Ne => Ok(Val::Bool(!equal(left, right))),
        Op::Less | Op::LessEq | Op::More | Op::MoreEq => order(op, left, right),
        Op::Find | Op::Match => cannot("=~", left, right),
    }
}

fn add<'e>(left: &Val<'e>, right: &Val<'e>) -> Result<Val<'e>, Box<Thrown>> {
    if matches!(left, Val::Text(_)) || matches!(right, Val::Text(_)) {
        let mut text = left.to_text();
        match right {
            Val::Text(right) => text.push_str(right.as_str()),
            right => text.push_str(&right.to_text()),
        }
        return Ok(Val::text(text));
    }
    arithmetic("+", left, right, i32::wrapping_add, i64::wrapping_add, |a, b| a + b, |a, b| a + b)
}

fn arithmetic<'e>(
    sign: &str,
    left: &Val<'e>,
    right: &Val<'e>,
    int: fn(i32, i32) -> i32,
    long: fn(i64, i64) -> i64,
    float: fn(f32, f32) -> f32,
    double: fn(f64, f64) -> f64,
) -> Result<Val<'e>, Box<Thrown>> {
    match pair(left, right) {
        Some(Pair::Int(a, b)) => Ok(Val::Int(int(a, b))),
        Some(Pair::Long(a, b)) => Ok(Val::Long(long(a, b))),
        Some(Pair::Float(a, b)) => Ok(Val::Float(float(a, b))),
        Some(Pair::Double(a, b)) => Ok(Val::Double(double(a, b))),
        None => cannot(sign, left, right),
    }
}

fn divide<'e>(op: Op, left: &Val<'e>, right: &Val<'e>) -> Result<Val<'e>, Box<Thrown>> {
    let div = op == Op::Div;
    match pair(left, right) {
        Some(Pair::Int(_, 0) | Pair::Long(_, 0)) => throw(Class::ArithmeticException, "/ by zero"),
        Some(Pair::Int(a, b)) => Ok(Val::Int(if div { a.wrapping_div(b) } else { a.wrapping_rem(b) })),
        Some(Pair::Long(a, b)) => Ok(Val::Long(if div { a.wrapping_div(b) } else { a.wrapping_rem(b) })),
        Some(Pair::Float(a, b)) => Ok(Val::Float(if div { a / b } else { a % b })),
        Some(Pair::Double(a, b)) => Ok(Val::Double(if div { a / b } else { a % b })),
        None => cannot(if div { "/" } else { "%" }, left, right),
    }
}

fn shift<'e>(op: Op, left: &Val<'e>, right: &Val<'e>) -> Result<Val<'e>, Box<Thrown>> {
    let sign = match op {
        Op::ShiftLeft => "<<",
        Op::ShiftRight => ">>",
        _ => ">>>",
    };
    let by = match Num::of(right) {
        Some(Num::Int(by)) => by,
        Some(Num::Long(by)) => by as i32,
        _ => return cannot(sign, left, right),
    };
    Ok(match (Num::of(left), op) {
        (Some(Num::Int(number)), Op::ShiftLeft) => Val::Int(number.wrapping_shl(by as u32)),
        (Some(Num::Int(number)), Op::ShiftRight) => Val::Int(number.wrapping_shr(by as u32)),
        (Some(Num::Int(number)), _) => Val::Int((number as u32).wrapping_shr(by as u32) as i32),
        (Some(Num::Long(number)), Op::ShiftLeft) => Val::Long(number.wrapping_shl(by as u32)),
        (Some(Num::Long(number)), Op::ShiftRight) => Val::Long(number.wrapping_shr(by as u32)),
        (Some(Num::Long(number)), _) => Val::Long((number as u64).wrapping_shr(by as u32) as i64),
        _ => return cannot(sign, left, right),
    })
}

fn bits<'e>(op: Op, left: &Val<'e>, right: &Val<'e>) -> Result<Val<'e>, Box<Thrown>> {
    let sign = match op {
        Op::BitAnd => "&",
        Op::BitOr => "|",
        _ => "^",
    };
    Ok(match (left, right, pair(left, right)) {
        (Val::Bool(a), Val::Bool(b), _) => Val::Bool(match op {
            Op::BitAnd => a & b,
            Op::BitOr => a | b,
            _ => a ^ b,
        }),
        (_, _, Some(Pair::Int(a, b))) => Val::Int(match op {
            Op::BitAnd => a & b,
            Op::BitOr => a | b,
            _ => a ^ b,
        }),
        (_, _, Some(Pair::Long(a, b))) => Val::Long(match op {
            Op::BitAnd => a & b,
            Op::BitOr => a | b,
            _ => a ^ b,
        }),
        _ => return cannot(sign, left, right),
    })
}

/// `==`: numbers by their value, everything else as `equals` says.
pub(super) fn equal<'e>(left: &Val<'e>, right: &Val<'e>) -> bool {
    match pair(left, right) {
        Some(Pair::Int(a, b)) => a == b,
        Some(Pair::Long(a, b)) => a == b,
        Some(Pair::Float(a, b)) => a == b,
        Some(Pair::Double(a, b)) => a == b,
        None => left.equals(right),
    }
}

fn order<'e>(op: Op, left: &Val<'e>, right: &Val<'e>) -> Result<Val<'e>, Box<Thrown>> {
    let found = match pair(left, right) {
        Some(Pair::Int(a, b)) => Some(a.cmp(&b)),
        Some(Pair::Long(a, b)) => Some(a.cmp(&b)),
        Some(Pair::Float(a, b)) => a.partial_cmp(&b),
        Some(Pair::Double(a, b)) => a.partial_cmp(&b),
        None => {
            let sign = match op {
                Op::Less => "<",
                Op::LessEq => "<=",
                Op::More => ">",
                _ => ">=",
            };
            return cannot(sign, left, right);
        }
    };
    // A comparison with NaN is false, whichever way.
    let Some(found) = found else { return Ok(Val::Bool(false)) };
    Ok(Val::Bool(match op {
        Op::Less => found == Ordering::Less,
        Op::LessEq => found != Ordering::Greater,
        Op::More => found == Ordering::Greater,
        _ => found != Ordering::Less,
    }))
}

pub(super) fn unary<'e>(op: UnaryOp, value: &Val<'e>) -> Result<Val<'e>, Box<Thrown>> {
    let sign = match op {
        UnaryOp::Not => "!",
        UnaryOp::Negate => "-",
        UnaryOp::Plus => "+",
        UnaryOp::BitNot => "~",
    };
    let wrong = || {
        throw(Class::ClassCastException, format!("Cannot apply [{sign}] operation to type [{}].", value.class_name()))
    };
    if op == UnaryOp::Not {
        return truth(value).map(|flag| Val::Bool(!flag));
    }
    Ok(match (Num::of(value), op) {
        (Some(Num::Int(number)), UnaryOp::Negate) => Val::Int(number.wrapping_neg()),
        (Some(Num::Long(number)), UnaryOp::Negate) => Val::Long(number.wrapping_neg()),
        (Some(Num::Float(number)), UnaryOp::Negate) => Val::Float(-number),
        (Some(Num::Double(number)), UnaryOp::Negate) => Val::Double(-number),
        (Some(Num::Int(number)), UnaryOp::BitNot) => Val::Int(!number),
        (Some(Num::Long(number)), UnaryOp::BitNot) => Val::Long(!number),
        (Some(Num::Int(number)), UnaryOp::Plus) => Val::Int(number),
        (Some(_), UnaryOp::Plus) => value.clone(),
        _ => return wrong(),
    })
}

/// The value as a condition.
pub(super) fn truth(value: &Val<'_>) -> Result<bool, Box<Thrown>> {
    match value {
        Val::Bool(flag) => Ok(*flag),
        Val::Null => throw(Class::NullPointerException, "a condition is null, where true or false is needed"),
        other => throw(Class::ClassCastException, format!("cannot cast def [{}] to boolean", other.type_name())),
    }
}

/// `value` as it is stored in something declared as `kind`: implicit casts only, unless `explicit`.
pub(super) fn cast<'e>(value: Val<'e>, kind: Type, explicit: bool) -> Result<Val<'e>, Box<Thrown>> {
    let how = if explicit { "explicitly" } else { "implicitly" };
    let wrong = |value: &Val<'e>, name: &str| match value {
        Val::Null => throw(Class::NullPointerException, format!("cannot {how} cast null to {name}")),
        other => throw(Class::ClassCastException, format!("cannot {how} cast def [{}] to {name}", other.type_name())),
    };
    let width = |value: &Val<'e>| match value {
        Val::Byte(_) => 1,
        Val::Short(_) | Val::Char(_) => 2,
        Val::Int(_) => 3,
        Val::Long(_) => 4,
        Val::Float(_) => 5,
        Val::Double(_) => 6,
        _ => 9,
    };
    let fits = |value: &Val<'e>, most: i32| explicit || width(value) <= most;
    match kind {
        Type::Def | Type::Void => Ok(value),
        Type::Boolean => match value {
            Val::Bool(_) => Ok(value),
            other => wrong(&other, "boolean"),
        },
        Type::Char => match (&value, Num::of(&value)) {
            (Val::Char(_), _) => Ok(value),
            (Val::Text(text), _) if explicit || text.as_str().chars().count() == 1 => one_char(text.as_str()),
            (_, Some(number)) if explicit => Ok(Val::Char(number.as_i32() as u16)),
            _ => wrong(&value, "char"),
        },
        Type::Array => match &value {
            Val::Null => Ok(value),
            Val::Object(object) if matches!(**object, Obj::Array(_)) => Ok(value),
            other => wrong(other, "an array"),
        },
        Type::Class(class) => class_cast(value, class),
        numeric => {
            let (name, most) = match numeric {
                Type::Byte => ("byte", 1),
                Type::Short => ("short", 2),
                Type::Int => ("int", 3),
                Type::Long => ("long", 4),
                Type::Float => ("float", 5),
                _ => ("double", 6),
            };
            let Some(number) = Num::of(&value).filter(|_| fits(&value, most)) else { return wrong(&value, name) };
            Ok(match numeric {
                Type::Byte => Val::Byte(number.as_i32() as i8),
                Type::Short => Val::Short(number.as_i32() as i16),
                Type::Int => Val::Int(number.as_i32()),
                Type::Long => Val::Long(number.as_i64()),
                Type::Float => Val::Float(number.as_f32()),
                _ => Val::Double(number.as_f64()),
            })
        }
    }
}

fn one_char<'e>(text: &str) -> Result<Val<'e>, Box<Thrown>> {
    let mut units = text.encode_utf16();
    match (units.next(), units.next()) {
        (Some(unit), None) => Ok(Val::Char(unit)),
        _ => {
            throw(Class::ClassCastException, format!("cannot cast String with length not equal to one to char: {text}"))
        }
    }
}

fn class_cast<'e>(value: Val<'e>, class: Class) -> Result<Val<'e>, Box<Thrown>> {
    // A boxed type is declared as what it boxes, or null.
    let boxed = match class {
        Class::Integer => Some(Type::Int),
        Class::Long => Some(Type::Long),
        Class::Double => Some(Type::Double),
        Class::Float => Some(Type::Float),
        Class::Short => Some(Type::Short),
        Class::Byte => Some(Type::Byte),
        Class::Boolean => Some(Type::Boolean),
        Class::Character => Some(Type::Char),
        _ => None,
    };
    match (&value, boxed) {
        (Val::Null, _) => Ok(value),
        (_, Some(kind)) => cast(value, kind, false),
        (Val::Char(_), None) if class == Class::String => Ok(Val::text(value.to_text())),
        _ if is_instance(&value, class) => Ok(value),
        _ => {
            if class == Class::String {
                return throw(
                    Class::ClassCastException,
                    format!("cannot implicitly cast def [{}] to java.lang.String", value.type_name()),
                );
            }
            let (from, to) = (value.class_name(), class.full_name());
            let module = format!("{from} and {to} are in module java.base of loader 'bootstrap'");
            throw(Class::ClassCastException, format!("class {from} cannot be cast to class {to} ({module})"))
        }
    }
}

/// `value instanceof class`.
pub(super) fn is_instance(value: &Val<'_>, class: Class) -> bool {
    let list = || match value {
        Val::Doc(Value::Array(_)) => true,
        Val::Object(object) => matches!(**object, Obj::List(_)),
        _ => false,
    };
    let set = || matches!(value, Val::Object(object) if matches!(**object, Obj::Set(_)));
    let map = || match value {
        Val::Doc(Value::Object(_)) | Val::Event(_) => true,
        Val::Object(object) => matches!(**object, Obj::Map(_)),
        _ => false,
    };
    match class {
        Class::Object => !matches!(value, Val::Null),
        Class::String => matches!(value, Val::Text(_)),
        Class::CharSequence => {
            matches!(value, Val::Text(_)) || matches!(value, Val::Object(object) if matches!(**object, Obj::Builder(_)))
        }
        Class::Number => matches!(value, Val::Big(_)) || (Num::of(value).is_some() && !matches!(value, Val::Char(_))),
        Class::Iterable | Class::Collection => {
            list() || set() || matches!(value, Val::Object(object) if matches!(**object, Obj::View(..)))
        }
        Class::List | Class::ArrayList => list(),
        Class::Set | Class::HashSet => set(),
        Class::Map | Class::HashMap => map(),
        Class::Iterator => value.class_name() == Class::Iterator.full_name(),
        Class::Entry => matches!(value, Val::Object(object) if matches!(**object, Obj::Entry(..))),
        Class::ZoneId | Class::ZoneOffset => matches!(value, Val::Object(object) if matches!(**object, Obj::Zone(_))),
        class if class.is_exception() => match value {
            Val::Object(object) => match &**object {
                Obj::Exception(thrown, _) => class.catches(thrown.full_name()),
                _ => false,
            },
            _ => false,
        },
        class => value.class_name() == class.full_name(),
    }
}

/// `compareTo`: numbers, texts, booleans, moments. `None` if they can't be compared.
pub(super) fn compare(left: &Val<'_>, right: &Val<'_>) -> Option<Ordering> {
    match (left, right) {
        (Val::Text(a), Val::Text(b)) => Some(compare_texts(a.as_str(), b.as_str())),
        (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
        (Val::Object(a), Val::Object(b)) => match (&**a, &**b) {
            (Obj::Instant(a), Obj::Instant(b)) | (Obj::Zoned(a, _), Obj::Zoned(b, _)) => {
                Some((a.seconds, a.nano).cmp(&(b.seconds, b.nano)))
            }
            (Obj::Duration(a), Obj::Duration(b)) => Some(a.cmp(b)),
            _ => None,
        },
        _ => match pair(left, right)? {
            Pair::Int(a, b) => Some(a.cmp(&b)),
            Pair::Long(a, b) => Some(a.cmp(&b)),
            Pair::Float(a, b) => Some(a.total_cmp(&b)),
            Pair::Double(a, b) => Some(a.total_cmp(&b)),
        },
    }
}

/// Texts by their UTF-16 units, as Java compares them.
pub(super) fn compare_texts(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// A text of a constant, held by the script.
pub(super) fn text_ref(text: &CompactString) -> Val<'_> {
    Val::Text(Text::Ref(text))
}
