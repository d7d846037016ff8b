//! Bytes of a stream → messages: by line ends, or by octet counts (RFC 6587). Pure.
//!
//! A message longer than the limit is cut there; what is cut off is counted, never kept. Nothing else is left out: a frame
//! that is no frame is a line.

use serde::Deserialize;

/// How messages are told apart on a stream. YAML: `framing`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Each frame by itself: octet counting if it begins with a count and a `<`, else a line.
    #[default]
    Auto,
    /// `83 <34>1 …`: the message's length in bytes, a space, the message.
    OctetCounting,
    /// Each message ends with a newline.
    Newline,
}

/// Most digits of a count: more are no length but text.
const DIGITS_MAX: usize = 9;

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Without count and line end.
    pub(crate) text: &'a [u8],
    /// Bytes of the stream that it took, with count and line end.
    pub(crate) bytes: u64,
    /// Bytes that were cut off its end.
    pub(crate) cut: u64,
    /// A count was expected and there was none.
    pub(crate) is_unframed: bool,
}

/// Cuts one stream.
#[derive(Debug)]
pub(crate) struct Frames {
    framing: Framing,
    bytes_max: usize,
    /// What has come of the next message.
    buffer: Vec<u8>,
    /// So much of it holds no line end.
    scanned: usize,
    long: Option<Long>,
}

/// A message longer than the limit, whose end has not come.
#[derive(Debug)]
struct Long {
    kept: Vec<u8>,
    bytes: u64,
    cut: u64,
    is_unframed: bool,
    /// Bytes until its end, if they are counted.
    left: Option<u64>,
}

/// What stands at the start of a frame.
enum Head {
    /// Too little to tell.
    Short,
    /// A count of `length` that took `bytes`.
    Count {
        bytes: usize,
        length: usize,
    },
    Line {
        is_unframed: bool,
    },
}

impl Frames {
    /// Unit: `bytes_max` of a message.
    pub(crate) fn new(framing: Framing, bytes_max: usize) -> Self {
        Self { framing, bytes_max, buffer: Vec::new(), scanned: 0, long: None }
    }

    /// Takes the next bytes and gives each message that is complete to `each`.
    pub(crate) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Frame<'_>)) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(taken) = self.next(&buffer[used..], each) {
            used += taken;
        }
        buffer.drain(..used);
        self.buffer = buffer;
    }

    /// The stream has ended: what is left is a message too.
    pub(crate) fn finish(&mut self, each: &mut dyn FnMut(Frame<'_>)) {
        let buffer = std::mem::take(&mut self.buffer);
        self.scanned = 0;
        if let Some(long) = self.long.take() {
            return long.give(each);
        }
        if buffer.is_empty() {
            return;
        }
        let (head, is_unframed) = match self.head(&buffer) {
            Head::Count { bytes, .. } => (bytes, false),
            Head::Line { is_unframed } => (0, is_unframed),
            Head::Short => (0, false),
        };
        let text = &buffer[head..];
        let kept = &text[..text.len().min(self.bytes_max)];
        let (bytes, cut) = (buffer.len() as u64, (text.len() - kept.len()) as u64);
        each(Frame { text: trimmed(kept), bytes, cut, is_unframed });
    }

    /// Handles what `rest` begins with and returns how much of it is done with; `None` if more has to come.
    fn next(&mut self, rest: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Option<usize> {
        if rest.is_empty() {
            return None;
        }
        if self.long.is_some() {
            return self.pass_long(rest, each);
        }
        match self.head(rest) {
            Head::Short => None,
            Head::Count { bytes, length } => self.counted(rest, bytes, length, each),
            Head::Line { is_unframed } => self.line(rest, is_unframed, each),
        }
    }

    fn head(&self, rest: &[u8]) -> Head {
        let line = Head::Line { is_unframed: self.framing == Framing::OctetCounting };
        if self.framing == Framing::Newline {
            return line;
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > DIGITS_MAX || rest[0] == b'0' {
            return line;
        }
        match (rest.get(digits), rest.get(digits + 1)) {
            (None, _) => Head::Short,
            (Some(b' '), None) if self.framing == Framing::Auto => Head::Short,
            (Some(b' '), next) if self.framing != Framing::Auto || next == Some(&b'<') => {
                let length = rest[..digits].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
                Head::Count { bytes: digits + 1, length }
            }
            _ => line,
        }
    }

    fn counted(&mut self, rest: &[u8], head: usize, length: usize, each: &mut dyn FnMut(Frame<'_>)) -> Option<usize> {
        let kept = rest.get(head..head + length.min(self.bytes_max))?;
        let used = head + kept.len();
        if length <= self.bytes_max {
            each(Frame { text: trimmed(kept), bytes: used as u64, cut: 0, is_unframed: false });
        } else {
            let left = Some((length - kept.len()) as u64);
            self.long = Some(Long { kept: kept.to_vec(), bytes: used as u64, cut: 0, is_unframed: false, left });
        }
        Some(used)
    }

    fn line(&mut self, rest: &[u8], is_unframed: bool, each: &mut dyn FnMut(Frame<'_>)) -> Option<usize> {
        let from = std::mem::take(&mut self.scanned).min(rest.len());
        if let Some(end) = memchr::memchr(b'\n', &rest[from..]).map(|end| from + end) {
            let mut text = &rest[..end];
            if end < self.bytes_max + 2 {
                text = text.strip_suffix(b"\r").unwrap_or(text); // Of a longer one nothing is known of its end.
            }
            let kept = &text[..text.len().min(self.bytes_max)];
            each(Frame { text: kept, bytes: end as u64 + 1, cut: (text.len() - kept.len()) as u64, is_unframed });
            return Some(end + 1);
        }
        if rest.len() < self.bytes_max + 2 {
            self.scanned = rest.len(); // Of the next message nothing is scanned: `rest` is it.
            return None;
        }
        let (kept, bytes) = (rest[..self.bytes_max].to_vec(), rest.len() as u64);
        let cut = bytes - kept.len() as u64;
        self.long = Some(Long { kept, bytes, cut, is_unframed, left: None });
        Some(rest.len())
    }

    /// Goes on through a long message, of which no more is kept.
    fn pass_long(&mut self, rest: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Option<usize> {
        let mut long = self.long.take()?;
        let (passed, end) = match long.left {
            Some(left) => {
                let passed = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                long.left = Some(left - passed as u64);
                long.cut += passed as u64;
                (passed, left == passed as u64)
            }
            None => {
                let line_end = memchr::memchr(b'\n', rest);
                long.cut += line_end.unwrap_or(rest.len()) as u64;
                (line_end.map_or(rest.len(), |end| end + 1), line_end.is_some())
            }
        };
        long.bytes += passed as u64;
        if end {
            long.give(each);
        } else {
            self.long = Some(long);
        }
        Some(passed)
    }
}

impl Long {
    fn give(self, each: &mut dyn FnMut(Frame<'_>)) {
        each(Frame { text: &self.kept, bytes: self.bytes, cut: self.cut, is_unframed: self.is_unframed });
    }
}

/// Without a line end inside the count.
fn trimmed(text: &[u8]) -> &[u8] {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text, bytes of the stream, bytes cut off.
    type Got = Vec<(String, u64, u64)>;

    /// Cuts `input`, given in pieces of `step` bytes.
    fn cut(framing: Framing, bytes_max: usize, input: &[u8], step: usize) -> Got {
        let (mut frames, mut got) = (Frames::new(framing, bytes_max), Vec::new());
        let mut each =
            |frame: Frame<'_>| got.push((String::from_utf8_lossy(frame.text).into_owned(), frame.bytes, frame.cut));
        for piece in input.chunks(step) {
            frames.push(piece, &mut each);
            assert!(frames.buffer.len() <= bytes_max + DIGITS_MAX + 2, "memory is bounded");
        }
        frames.finish(&mut each);
        assert!(frames.long.is_none() && frames.buffer.is_empty());
        got
    }

    #[track_caller]
    fn check(framing: Framing, input: &str, expected: &[&str]) {
        for step in [1, 2, 3, 7, 1_000] {
            let got = cut(framing, 20, input.as_bytes(), step);
            assert_eq!(got.iter().map(|(text, ..)| text.as_str()).collect::<Vec<_>>(), expected, "in steps of {step}");
            let bytes: u64 = got.iter().map(|(_, bytes, _)| bytes).sum();
            assert_eq!(bytes, input.len() as u64, "every byte is accounted for");
        }
    }

    #[test]
    fn lines_end_at_their_newline_or_with_the_stream() {
        check(Framing::Newline, "one\ntwo\r\n\nthree", &["one", "two", "", "three"]);
        check(Framing::Newline, "5 <1>x\n", &["5 <1>x"]);
    }

    #[test]
    fn counted_messages_may_hold_line_ends() {
        check(Framing::OctetCounting, "9 <1>a\nb\nc\n4 <1>x", &["<1>a\nb\nc", "<1>x"]);
        check(Framing::Auto, "6 <1>a\nb<2>line\n4 <1>x", &["<1>a\nb", "<2>line", "<1>x"]);
    }

    #[test]
    fn a_line_that_begins_with_a_number_is_no_count() {
        check(Framing::Auto, "2026 is a year\n12\n<1>x\n", &["2026 is a year", "12", "<1>x"]);
        check(Framing::Auto, "0 <1>x\n12345678901 <1>x\n", &["0 <1>x", "12345678901 <1>x"]);
    }

    #[test]
    fn a_wrong_count_costs_no_byte() {
        check(Framing::OctetCounting, "nonsense\n4 <1>x", &["nonsense", "<1>x"]);
        check(Framing::OctetCounting, "3 <1>x\n4 <1>y", &["<1>", "x", "<1>y"]);
        check(Framing::OctetCounting, "15 <1>x", &["<1>x"]);
    }

    #[test]
    fn what_is_too_long_is_cut_and_its_neighbours_are_whole() {
        let long = "z".repeat(50);
        for step in [1, 3, 1_000] {
            let got = cut(Framing::Newline, 20, format!("a\n{long}\nb\n").as_bytes(), step);
            assert_eq!(got, [("a".into(), 2, 0), ("z".repeat(20), 51, 30), ("b".into(), 2, 0)]);
            let got = cut(Framing::OctetCounting, 20, format!("50 {long}1 b").as_bytes(), step);
            assert_eq!(got, [("z".repeat(20), 53, 30), ("b".into(), 3, 0)]);
        }
    }

    proptest! {
        /// Any bytes, in any pieces: no panic, and each byte of the stream belongs to one message.
        #[test]
        fn every_byte_is_accounted_for(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'1'), Just(b' '), Just(b'<'), any::<u8>()], 0..200),
            step in 1_usize..50,
            framing in prop_oneof![Just(Framing::Auto), Just(Framing::OctetCounting), Just(Framing::Newline)],
        ) {
            let got = cut(framing, 20, &input, step);
            prop_assert_eq!(got.iter().map(|(_, bytes, _)| bytes).sum::<u64>(), input.len() as u64);
            prop_assert_eq!(got, cut(framing, 20, &input, 1_000), "pieces do not matter");
        }

        /// Messages come out as they went in, counted or not, whatever the pieces.
        #[test]
        fn messages_come_out_as_they_went_in(
            texts in proptest::collection::vec("<[0-9]{1,3}>[^\\n\\r]{0,40}", 0..20), step in 1_usize..50,
        ) {
            let counted: String = texts.iter().map(|text| format!("{} {text}", text.len())).collect();
            let lines: String = texts.iter().map(|text| format!("{text}\n")).collect();
            for (framing, input) in [(Framing::OctetCounting, &counted), (Framing::Auto, &counted), (Framing::Auto, &lines), (Framing::Newline, &lines)] {
                let got: Vec<_> = cut(framing, 1_000, input.as_bytes(), step).into_iter().map(|(text, ..)| text).collect();
                prop_assert_eq!(&got, &texts);
            }
        }
    }
}
