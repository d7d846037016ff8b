//! Methods of numbers and characters.

use crate::painless::ops::Num;
use crate::painless::thrown::Thrown;
use crate::painless::value::Val;

pub(super) const METHODS: &[(&str, usize)] = &[
    ("byteValue", 0),
    ("charValue", 0),
    ("doubleValue", 0),
    ("floatValue", 0),
    ("intValue", 0),
    ("isInfinite", 0),
    ("isNaN", 0),
    ("longValue", 0),
    ("shortValue", 0),
];

pub(super) fn call<'e>(of: &Val<'e>, name: &str) -> Result<Option<Val<'e>>, Box<Thrown>> {
    let Some(number) = Num::of(of) else { return Ok(None) };
    if matches!(of, Val::Char(_)) {
        return Ok((name == "charValue").then(|| of.clone()));
    }
    Ok(Some(match name {
        "byteValue" => Val::Byte(number.as_i32() as i8),
        "shortValue" => Val::Short(number.as_i32() as i16),
        "intValue" => Val::Int(number.as_i32()),
        "longValue" => Val::Long(number.as_i64()),
        "floatValue" => Val::Float(number.as_f64() as f32),
        "doubleValue" => Val::Double(number.as_f64()),
        "isNaN" if matches!(of, Val::Float(_) | Val::Double(_)) => Val::Bool(number.as_f64().is_nan()),
        "isInfinite" if matches!(of, Val::Float(_) | Val::Double(_)) => Val::Bool(number.as_f64().is_infinite()),
        _ => return Ok(None),
    }))
}
