//! `urldecode`: `%41+b` into `A b`.

use super::strings;
use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::Step;
use event::Value;

pub(crate) const OPTIONS: &[&str] = strings::OPTIONS;

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    strings::build(options, Box::new(|text| decode(text).map(Value::from).map_err(Problem::new)))
}

/// Decodes as Java's `URLDecoder` does; bytes that are no UTF-8 become U+FFFD. Errors are its texts.
pub(crate) fn decode(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['%', '+']) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        if let Some(after) = special.strip_prefix('+') {
            out.push(b' ');
            rest = after;
            continue;
        }
        let Some(hex) = special.as_bytes().get(1..3) else {
            return Err("URLDecoder: Incomplete trailing escape (%) pattern".to_owned());
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(hex[0]), digit(hex[1])) else {
            let shown: String = special.chars().skip(1).take(2).collect();
            let at = usize::from(digit(hex[0]).is_some());
            return Err(format!(
                "URLDecoder: Illegal hex characters in escape (%) pattern - Error at index {at} in: \"{shown}\""
            ));
        };
        out.push((high * 16 + low) as u8);
        rest = special.get(3..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_as_in_java() {
        assert_eq!(decode("a%41+b%C3%A4"), Ok("aA bä".to_owned()));
        assert_eq!(decode("%ff"), Ok("\u{fffd}".to_owned()));
        assert!(decode("a%4").is_err_and(|reason| reason.contains("Incomplete")));
        assert!(decode("%zz").is_err_and(|reason| reason.contains("Illegal hex")));
        assert!(decode("%ä1").is_err());
    }
}
