//! Bytes of a file → lines. Pure: it neither reads nor keeps anything.
//!
//! A line ends at LF; a CR before it belongs to the line end, zeros at its start to a hole before it. Lines are ranges of
//! the chunk, none is copied.

use event::Record;
use memchr::{memchr_iter, memrchr};

/// What one chunk gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Framed {
    /// Bytes of the chunk that are done with: up to and with its last line end.
    pub(crate) consumed: usize,
    /// Lines without content; they make no record.
    pub(crate) empty: u64,
    /// Bytes of those lines, with their line ends.
    pub(crate) empty_bytes: u64,
    /// Bytes of holes before lines; wherever a chunk begins, a line begins at the same offset.
    pub(crate) zeros: u64,
    /// Lines that were longer than the limit and are cut.
    pub(crate) truncated: u64,
    /// Bytes that were cut off.
    pub(crate) cut_bytes: u64,
}

/// Appends the complete lines of `chunk` to `records`.
///
/// Shape: `chunk` starts at the source's byte `offset`, at the start of a line; what stands behind its last LF is left
/// for the next call. Unit: `line_bytes_max` in bytes, without the line end; a longer line is cut at a character's edge.
pub(crate) fn frame(chunk: &[u8], offset: u64, line_bytes_max: usize, records: &mut Vec<Record>) -> Framed {
    let mut framed = Framed::default();
    for end in memchr_iter(b'\n', chunk) {
        let hole = chunk[framed.consumed..end].iter().take_while(|byte| **byte == 0).count();
        let start = framed.consumed + hole;
        framed.consumed = end + 1;
        framed.zeros += hole as u64;
        let line = content(&chunk[start..end]);
        if line.is_empty() {
            framed.empty += 1;
            framed.empty_bytes += (end + 1 - start) as u64;
            continue;
        }
        let kept = cut(line, line_bytes_max);
        let truncated = kept < line.len();
        framed.truncated += u64::from(truncated);
        framed.cut_bytes += (line.len() - kept) as u64;
        let bytes = to_u32(start)..to_u32(start + kept);
        records.push(Record { bytes, offset: offset + start as u64, truncated, extra: None });
    }
    framed
}

/// A line without its CR.
pub(crate) fn content(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How much of `line` fits in `line_bytes_max` without tearing a UTF-8 character.
pub(crate) fn cut(line: &[u8], line_bytes_max: usize) -> usize {
    if line.len() <= line_bytes_max {
        return line.len();
    }
    let is_inside = |at: usize| line[at] & 0b1100_0000 == 0b1000_0000;
    let mut end = line_bytes_max;
    while end > line_bytes_max.saturating_sub(3) && is_inside(end) {
        end -= 1;
    }
    if is_inside(end) { line_bytes_max } else { end }
}

/// Where the line that contains or follows the last byte of `bytes` starts: behind the last LF, or `None` without one.
pub(crate) fn last_line_start(bytes: &[u8]) -> Option<usize> {
    memrchr(b'\n', bytes).map(|at| at + 1)
}

fn to_u32(at: usize) -> u32 {
    u32::try_from(at).expect("a chunk is smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(chunk: &str, lines: &[&str], rest: &str) {
        let mut records = Vec::new();
        let framed = frame(chunk.as_bytes(), 100, 8, &mut records);
        let got: Vec<_> =
            records.iter().map(|r| chunk.get(r.bytes.start as usize..r.bytes.end as usize).expect("UTF-8")).collect();
        assert_eq!(got, lines);
        assert_eq!(&chunk.as_bytes()[framed.consumed..], rest.as_bytes());
        for record in &records {
            assert_eq!(record.offset, 100 + u64::from(record.bytes.start));
        }
    }

    #[test]
    fn a_line_ends_at_its_newline() {
        check("a\nb\n", &["a", "b"], "");
        check("a\nb", &["a"], "b"); // The rest waits for more bytes.
        check("", &[], "");
        check("abc", &[], "abc");
    }

    #[test]
    fn a_carriage_return_before_the_newline_is_part_of_the_line_end() {
        check("a\r\nb\r\n", &["a", "b"], "");
        check("a\rb\n", &["a\rb"], "");
        check("a\r", &[], "a\r"); // Its LF may still come.
    }

    #[test]
    fn empty_lines_make_no_record_but_are_consumed() {
        check("\n\na\n\r\n", &["a"], "");
        let framed = frame(b"\n\na\n\r\n", 0, 8, &mut Vec::new());
        assert_eq!(framed, Framed { consumed: 6, empty: 3, empty_bytes: 4, ..Framed::default() });
    }

    #[test]
    fn zeros_before_a_line_are_a_hole() {
        check("a\n\0\0b\n\0\0\n\0c", &["a", "b"], "\0c");
        let framed = frame(b"\0a\n\0\0\nb\0c\n", 0, 8, &mut Vec::new());
        assert_eq!(framed, Framed { consumed: 10, empty: 1, empty_bytes: 1, zeros: 3, ..Framed::default() });
    }

    #[test]
    fn a_long_line_is_cut_at_a_character_and_its_neighbours_are_whole() {
        check("12345678\n", &["12345678"], "");
        check("a\n123456789\nb\n", &["a", "12345678", "b"], "");
        check("1234567é\nb\n", &["1234567", "b"], ""); // é would end at byte 9.
        check("12345€\nb\n", &["12345€", "b"], "");
        check("123456€\nb\n", &["123456", "b"], "");
        let mut records = Vec::new();
        frame(b"123456789\nb\n", 0, 8, &mut records);
        assert_eq!(records.iter().map(|r| r.truncated).collect::<Vec<_>>(), [true, false]);
    }

    proptest::proptest! {
        /// Wherever the chunks are cut, the lines and their offsets are the same.
        #[test]
        fn lines_do_not_depend_on_the_chunks(text in "[ab\0\r\n]{0,200}", step in 1_usize..40) {
            let whole = lines_of(text.as_bytes(), text.len().max(1));
            proptest::prop_assert_eq!(lines_of(text.as_bytes(), step), whole);
        }
    }

    /// Reads `text` as `tail` does, with a buffer that grows by `step` when it holds no line end.
    fn lines_of(text: &[u8], step: usize) -> Vec<(u64, Vec<u8>)> {
        let (mut at, mut size, mut lines) = (0, step, Vec::new());
        while at < text.len() {
            let chunk = &text[at..text.len().min(at + size)];
            let mut records = Vec::new();
            let framed = frame(chunk, at as u64, 1_000, &mut records);
            let line = |r: &Record| chunk[r.bytes.start as usize..r.bytes.end as usize].to_vec();
            lines.extend(records.iter().map(|r| (r.offset, line(r))));
            if framed.consumed == 0 && chunk.len() < size {
                break; // An unfinished last line.
            }
            size = if framed.consumed == 0 { size + step } else { step };
            at += framed.consumed;
        }
        lines
    }
}
