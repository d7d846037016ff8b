//! Lines of container engines → what the container wrote, with its time and stream.
//!
//! Docker's `json-file` writes `{"log":"text\n","stream":"stdout","time":"…"}`, and a long line in several such records, of
//! which only the last one's text ends with a newline. CRI (containerd, CRI-O) writes `TIME stdout F text`, and `P` in
//! place of `F` for the parts of a long line. Stdout and stderr go through the later parsers apart. A line that is neither
//! is shipped as it is, flagged and counted.

use super::open::{Limits, Open};
use super::time::timestamp_ms;
use super::{Next, Parse, Part};
use crate::frame::content;
use event::{Extra, members};
use serde::Deserialize;
use std::time::Duration;

/// Longest line that is joined from parts; the rest is left out.
const JOINED_BYTES_MAX: usize = 1024 * 1024;
/// Most parts of a line: both engines cut at 8 KiB or more.
const PARTS_MAX: usize = JOINED_BYTES_MAX;
/// A part that is not followed by the next one for so long is shipped alone.
const PART_TIMEOUT: Duration = Duration::from_secs(5);
const LIMITS: Limits =
    Limits { lines_max: PARTS_MAX, bytes_max: JOINED_BYTES_MAX, separator: b"", timeout: Some(PART_TIMEOUT) };
/// Marks a line that is none of a container.
const FOREIGN: &str = r#"{"error":{"message":"not a line of a container engine","type":"container"}}"#;

/// Which engine wrote the lines. YAML: `format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerFormat {
    /// Each line is looked at.
    #[default]
    Auto,
    /// Docker's `json-file`.
    Docker,
    /// containerd and CRI-O.
    Cri,
}

/// Which of a container's streams are shipped. YAML: `stream`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerStream {
    /// Both.
    #[default]
    All,
    /// Only stdout.
    Stdout,
    /// Only stderr.
    Stderr,
}

/// Lines of container engines, unwrapped. YAML: `container`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerConfig {
    /// `auto`, `docker` or `cri`. Default `auto`.
    pub format: ContainerFormat,
    /// `all`, `stdout` or `stderr`. Default `all`.
    pub stream: ContainerStream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Docker's and CRI's parts are not joined with each other, so each engine and stream has a lane, and one is for the rest.
const LANES: usize = 4;
const FOREIGN_LANE: usize = LANES;

/// A line without its wrapping.
struct Unwrapped<'a> {
    text: &'a [u8],
    stream: Stream,
    timestamp_ms: Option<i64>,
    /// The next record of the stream goes on with it.
    is_partial: bool,
    lane: usize,
}

/// The lines of one file whose last part has not come.
#[derive(Debug)]
pub(super) struct Container {
    config: ContainerConfig,
    open: [Open; LANES],
    /// Text of a Docker record, its escapes resolved.
    scratch: Vec<u8>,
}

impl Container {
    pub(super) fn new(config: ContainerConfig) -> Self {
        Self { config, open: Default::default(), scratch: Vec::new() }
    }
}

impl Parse for Container {
    fn take(&mut self, part: Part<'_>, next: &mut Next<'_>) {
        let format = self.config.format;
        let is_docker = format != ContainerFormat::Cri && part.text.first() == Some(&b'{');
        let unwrapped = match is_docker {
            true => docker(part.text, &mut self.scratch),
            false if format != ContainerFormat::Docker => cri(part.text),
            false => None,
        };
        let Some(line) = unwrapped else { return self.foreign(part, next) };
        let is_shipped = match self.config.stream {
            ContainerStream::All => true,
            ContainerStream::Stdout => line.stream == Stream::Stdout,
            ContainerStream::Stderr => line.stream == Stream::Stderr,
        };
        if !is_shipped {
            if !line.is_partial {
                next.out.leave_out("stream");
            }
            return;
        }
        let open = &mut self.open[line.lane];
        let extra = (!open.is_open).then(|| extra(&line));
        let part = Part { text: line.text, lane: line.lane, extra, ..part };
        if !line.is_partial && !open.is_open {
            return next.pass(part);
        }
        open.add(part, &LIMITS, next);
        if !line.is_partial {
            open.close(line.lane, next);
        }
    }

    fn flush(&mut self, next: &mut Next<'_>) {
        for (lane, open) in self.open.iter_mut().enumerate() {
            open.close(lane, next);
        }
    }
}

impl Container {
    /// Ships a line that no engine wrote. What is open before it will not go on behind it.
    fn foreign(&mut self, part: Part<'_>, next: &mut Next<'_>) {
        self.flush(next);
        if !part.text.is_empty() {
            next.out.unparsed += 1;
        }
        let flag = Extra { fields: FOREIGN.to_owned(), ..Extra::default() };
        next.pass(Part { lane: FOREIGN_LANE, extra: Some(Box::new(flag)), ..part });
    }
}

fn extra(line: &Unwrapped<'_>) -> Box<Extra> {
    let fields = match line.stream {
        Stream::Stdout => r#"{"stream":"stdout"}"#,
        Stream::Stderr => r#"{"stream":"stderr"}"#,
    };
    Box::new(Extra { fields: fields.to_owned(), timestamp_ms: line.timestamp_ms, ..Extra::default() })
}

/// Reads a record of Docker's `json-file`; its text goes to `scratch`.
fn docker<'a>(line: &[u8], scratch: &'a mut Vec<u8>) -> Option<Unwrapped<'a>> {
    let (mut log, mut stream, mut time) = (None, None, None);
    let is_whole = members(line, |name, value| match name {
        b"log" => log = string(value),
        b"stream" => stream = string(value),
        b"time" => time = string(value),
        _ => {} // `attrs`: labels of the container.
    });
    let (log, stream) = if is_whole { (log?, stream_of(stream?)?) } else { return None };
    scratch.clear();
    unescape(log, scratch)?;
    let is_partial = scratch.last() != Some(&b'\n');
    let text = if is_partial { &scratch[..] } else { content(&scratch[..scratch.len() - 1]) };
    let timestamp_ms = time.and_then(timestamp_ms);
    Some(Unwrapped { text, stream, timestamp_ms, is_partial, lane: stream as usize })
}

/// Reads a CRI line: `2026-11-22T08:15:30.123456789Z stdout F text`.
fn cri(line: &[u8]) -> Option<Unwrapped<'_>> {
    let mut words = line.splitn(4, |&byte| byte == b' ');
    let timestamp_ms = Some(timestamp_ms(words.next()?)?);
    let (stream, tags) = (stream_of(words.next()?)?, words.next()?);
    let is_partial = tags.split(|&byte| byte == b':').any(|tag| tag == b"P");
    let text = words.next().unwrap_or_default();
    Some(Unwrapped { text, stream, timestamp_ms, is_partial, lane: 2 + stream as usize })
}

fn stream_of(name: &[u8]) -> Option<Stream> {
    match name {
        b"stdout" => Some(Stream::Stdout),
        b"stderr" => Some(Stream::Stderr),
        _ => None,
    }
}

/// The inside of a JSON string, escapes as written.
fn string(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Appends what the inside of a JSON string means. `None` for an escape that does not exist; half a surrogate pair
/// becomes U+FFFD.
fn unescape(mut rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let escape = *rest.get(at + 1)?;
        rest = &rest[at + 2..];
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'"' | b'\\' | b'/' => out.push(escape),
            b'u' => {
                let mut code = hex(rest)?;
                rest = &rest[4..];
                let low = rest.strip_prefix(b"\\u").and_then(hex).filter(|low| (0xDC00..0xE000).contains(low));
                if let (0xD800..0xDC00, Some(low)) = (code, low) {
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    rest = &rest[6..];
                }
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    out.extend_from_slice(rest);
    Some(())
}

fn hex(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits.get(..4)?).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}
