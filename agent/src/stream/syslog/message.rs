//! One syslog message → its header's parts and its text. Pure.
//!
//! RFC 5424 as it is written; RFC 3164 as it is used: a year, a fraction or an RFC 3339 time in place of the time, no host
//! name, no tag. What is neither is refused, and the caller ships it as it is. Hostile input costs at most one pass.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::Deserialize;
use std::borrow::Cow;

/// How a message is read. YAML: `format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Each message by itself: RFC 5424 if a version follows the priority, else RFC 3164.
    #[default]
    Auto,
    /// `<34>Oct 11 22:14:15 web-01 su: text`
    Rfc3164,
    /// `<34>1 2003-10-11T22:14:15.003Z web-01 su - ID47 - text`
    Rfc5424,
    /// Not at all: the message is the text.
    Raw,
}

/// Most parameters of structured data: more are an attack on the index's mapping.
const PARAMETERS_MAX: usize = 256;
/// Longest tag of RFC 3164 that is taken for one. The RFC says 32; programs are named longer.
const TAG_BYTES_MAX: usize = 64;

/// What a time without zone and year is read with.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// Where its sender is.
    pub(crate) zone: TimeZone,
    /// Milliseconds since 1970.
    pub(crate) now_ms: i64,
}

/// Name and value of each parameter, in order.
pub(crate) type Parameters<'a> = Vec<(&'a [u8], Cow<'a, [u8]>)>;

/// A message taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) priority: u8,
    /// Of RFC 5424.
    pub(crate) version: Option<u16>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) hostname: Option<&'a [u8]>,
    pub(crate) appname: Option<&'a [u8]>,
    pub(crate) procid: Option<&'a [u8]>,
    pub(crate) msgid: Option<&'a [u8]>,
    /// Id and parameters of each element.
    pub(crate) data: Vec<(&'a [u8], Parameters<'a>)>,
    /// What follows the header.
    pub(crate) text: &'a [u8],
}

/// Takes `message` apart. `is_local`: it came over a socket of this host, where senders leave the host name out.
///
/// Errors: why it is no message of this format. Source: RFC 5424 section 6, RFC 3164 section 4.
pub(crate) fn parse<'a>(
    message: &'a [u8],
    format: Format,
    is_local: bool,
    clock: &Clock,
) -> Result<Message<'a>, &'static str> {
    let (priority, rest) = priority(message)?;
    let is_5424 = version(rest).is_some();
    match format {
        Format::Rfc5424 => rfc5424(priority, rest),
        Format::Auto if is_5424 => rfc5424(priority, rest),
        _ => Ok(rfc3164(priority, rest, is_local, clock)),
    }
}

/// `<34>`: one to three digits, at most 191.
fn priority(message: &[u8]) -> Result<(u8, &[u8]), &'static str> {
    let inner = message.strip_prefix(b"<").ok_or("it does not begin with a priority")?;
    let end = inner.iter().take(4).position(|byte| *byte == b'>').ok_or("its priority has no end")?;
    let priority = number(&inner[..end]).filter(|priority| *priority <= 191).ok_or("its priority is not 0 to 191")?;
    Ok((u8::try_from(priority).expect("at most 191"), &inner[end + 1..]))
}

fn number(digits: &[u8]) -> Option<u16> {
    let is_number = (1..=4).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
}

/// `1 `: the version behind the priority, and what follows it.
fn version(rest: &[u8]) -> Option<(u16, &[u8])> {
    let end = rest.iter().take(4).position(|byte| *byte == b' ')?;
    let version = number(&rest[..end]).filter(|version| (1..=999).contains(version))?;
    Some((version, &rest[end + 1..]))
}

fn rfc5424(priority: u8, rest: &[u8]) -> Result<Message<'_>, &'static str> {
    let (version, rest) = version(rest).ok_or("no version follows its priority")?;
    let mut fields = [&[][..]; 5];
    let mut rest = rest;
    for field in &mut fields {
        let end = memchr::memchr(b' ', rest).ok_or("its header is not whole")?;
        (*field, rest) = (&rest[..end], &rest[end + 1..]);
        if field.is_empty() {
            return Err("a field of its header is empty");
        }
    }
    let [timestamp, hostname, appname, procid, msgid] = fields.map(|field| Some(field).filter(|field| *field != b"-"));
    let timestamp_ms = timestamp.map(|text| rfc3339_ms(text).ok_or("its time is not one of RFC 3339")).transpose()?;
    let (data, rest) = structured_data(rest)?;
    let text = match rest {
        [] => rest,
        [b' ', text @ ..] => text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text),
        _ => return Err("its structured data is not followed by a space"),
    };
    let version = Some(version);
    Ok(Message { priority, version, timestamp_ms, hostname, appname, procid, msgid, data, text })
}

/// Elements by id, and what follows the structured data.
type Elements<'a> = (Vec<(&'a [u8], Parameters<'a>)>, &'a [u8]);

/// `-`, or `[id name="value" …][…]`.
fn structured_data(rest: &[u8]) -> Result<Elements<'_>, &'static str> {
    if let Some(rest) = rest.strip_prefix(b"-") {
        return Ok((Vec::new(), rest));
    }
    let (mut elements, mut rest, mut count) = (Vec::new(), rest, 0);
    while let Some(inner) = rest.strip_prefix(b"[") {
        let (id, mut inner) = name(inner)?;
        let mut parameters = Vec::new();
        loop {
            match inner {
                [b']', after @ ..] => {
                    rest = after;
                    break;
                }
                [b' ', parameter @ ..] => {
                    let (name, value) = name(parameter)?;
                    let value = value.strip_prefix(b"=\"").ok_or("a parameter has no value in quotes")?;
                    let (value, after) = quoted(value)?;
                    parameters.push((name, value));
                    inner = after;
                }
                _ => return Err("its structured data has no end"),
            }
            count += 1;
            if count > PARAMETERS_MAX {
                return Err("its structured data has more than 256 parameters");
            }
        }
        elements.push((id, parameters));
        if elements.len() > PARAMETERS_MAX {
            return Err("its structured data has more than 256 elements");
        }
    }
    if elements.is_empty() { Err("it has no structured data, not even `-`") } else { Ok((elements, rest)) }
}

/// An id or a parameter's name.
fn name(rest: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let end = rest.iter().position(|byte| !byte.is_ascii_graphic() || b"=]\"".contains(byte)).unwrap_or(rest.len());
    if end == 0 { Err("a name in its structured data is empty") } else { Ok(rest.split_at(end)) }
}

/// The text up to the closing quote, `\"`, `\\` and `\]` resolved. A backslash before anything else stands for itself.
fn quoted(rest: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), &'static str> {
    let mut value = Cow::Borrowed(&rest[..0]);
    let mut at = 0;
    loop {
        let found = memchr::memchr2(b'"', b'\\', &rest[at..]).ok_or("a value in its structured data has no end")?;
        let (plain, after) = (&rest[at..at + found], at + found + 1);
        match &mut value {
            Cow::Borrowed(_) if at == 0 => value = Cow::Borrowed(plain),
            _ => value.to_mut().extend_from_slice(plain),
        }
        if rest[after - 1] == b'"' {
            return Ok((value, &rest[after..]));
        }
        match rest.get(after) {
            Some(escaped @ (b'"' | b'\\' | b']')) => value.to_mut().push(*escaped),
            Some(other) => value.to_mut().extend_from_slice(&[b'\\', *other]),
            None => return Err("a value in its structured data has no end"),
        }
        at = after + 1;
    }
}

/// Whatever follows the priority is a message of RFC 3164: what is no header is text.
fn rfc3164<'a>(priority: u8, rest: &'a [u8], is_local: bool, clock: &Clock) -> Message<'a> {
    let mut message = Message { priority, text: rest, ..Message::default() };
    let Some((timestamp_ms, mut rest)) = time(rest, clock) else {
        take_tag(rest, &mut message);
        return message;
    };
    message.timestamp_ms = Some(timestamp_ms);
    message.text = rest;
    let first = &rest[..memchr::memchr(b' ', rest).unwrap_or(rest.len())];
    let is_tag = first.ends_with(b":") || first.contains(&b'[') || first.is_empty();
    if !is_local && !is_tag {
        message.hostname = Some(first);
        rest = rest.get(first.len() + 1..).unwrap_or_default();
        message.text = rest;
    }
    take_tag(rest, &mut message);
    message
}

/// `su:`, `su[230]:`: the program, its process, and the text behind them.
fn take_tag<'a>(rest: &'a [u8], message: &mut Message<'a>) {
    let is_end = |byte: &u8| b"[]: \t".contains(byte) || byte.is_ascii_control();
    let Some(end) = rest.iter().take(TAG_BYTES_MAX + 1).position(is_end).filter(|end| *end > 0) else { return };
    let (name, mut after) = rest.split_at(end);
    let mut procid = None;
    if let Some(inner) = after.strip_prefix(b"[") {
        let Some(end) = inner.iter().take(TAG_BYTES_MAX + 1).position(|byte| *byte == b']') else { return };
        procid = Some(&inner[..end]).filter(|procid| !procid.is_empty());
        after = &inner[end + 1..];
    }
    let Some(text) = after.strip_prefix(b":") else { return };
    message.text = text.strip_prefix(b" ").unwrap_or(text);
    (message.appname, message.procid) = (Some(name), procid);
}

/// The time that `rest` begins with, and what follows it and its space.
fn time<'a>(rest: &'a [u8], clock: &Clock) -> Option<(i64, &'a [u8])> {
    let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    if let Some(ms) = rfc3339_ms(&rest[..end]) {
        return Some((ms, rest.get(end + 1..).unwrap_or_default()));
    }
    let months = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let month = months.iter().position(|month| rest.starts_with(*month))? + 1;
    let mut words = Words { rest: rest[3..].strip_prefix(b" ")? };
    let day = number(words.next()?)?;
    let mut word = words.next()?;
    let mut year = None;
    if word.len() == 4 && number(word).is_some() {
        year = number(word); // As Cisco's devices write it.
        word = words.next()?;
    }
    let word = word.strip_suffix(b":").unwrap_or(word);
    let date = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    let at = |year: i16| date_time(year, date, word).and_then(|at| at.to_zoned(clock.zone.clone()).ok());
    let ms = match year {
        Some(year) => at(i16::try_from(year).ok()?)?.timestamp().as_millisecond(),
        None => {
            let this_year = Timestamp::from_millisecond(clock.now_ms).ok()?.to_zoned(clock.zone.clone()).year();
            let years = [this_year.checked_sub(1)?, this_year, this_year.checked_add(1)?];
            let times = years.into_iter().filter_map(|year| Some(at(year)?.timestamp().as_millisecond()));
            times.min_by_key(|ms| ms.abs_diff(clock.now_ms))?
        }
    };
    Some((ms, words.rest))
}

/// Words between spaces; several spaces count as one.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().take(3).position(|byte| *byte != b' ')?;
        let rest = &self.rest[start..];
        let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
        self.rest = rest.get(end + 1..).unwrap_or_default();
        Some(&rest[..end])
    }
}

/// `22:14:15` or `22:14:15.003` on that day. A leap second is the second before it.
fn date_time(year: i16, (month, day): (i8, i8), clock_time: &[u8]) -> Option<DateTime> {
    let (whole, fraction) = clock_time.split_at_checked(8)?;
    if whole[2] != b':' || whole[5] != b':' {
        return None;
    }
    let part = |at: usize| i8::try_from(number(&whole[at..at + 2])?).ok();
    let date = jiff::civil::Date::new(year, month, day).ok()?;
    let time = jiff::civil::Time::new(part(0)?, part(3)?, part(6)?.min(59), 0).ok()?;
    let ms = match fraction {
        [] => 0,
        [b'.', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let digit = |at: usize| digits.get(at).map_or(0, |digit| i64::from(digit - b'0'));
            digit(0) * 100 + digit(1) * 10 + digit(2)
        }
        _ => return None,
    };
    date.to_datetime(time).checked_add(ms.milliseconds()).ok()
}

/// Milliseconds since 1970 of `2003-10-11T22:14:15.003Z`.
fn rfc3339_ms(text: &[u8]) -> Option<i64> {
    let looks_so = text.len() >= 20 && text[4] == b'-' && text[10] == b'T';
    let text = std::str::from_utf8(text).ok().filter(|_| looks_so && !text.contains(&b'['))?;
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests;
