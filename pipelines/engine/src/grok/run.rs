//! Bytes that lead back to the state they come from and do nothing, such as all but the last of `[^"]*`.

use std::array;

/// So many bytes are looked at one by one first: most runs of a line are shorter.
const SHORT: usize = 16;
/// Then so many at once; a run that ends early makes no more than that in vain.
const WINDOW: usize = 128;

/// The bytes of a run.
#[derive(Debug)]
pub(super) struct Run {
    bytes: Box<[bool; 256]>,
    stops: Stops,
}

/// What ends a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stops {
    /// These of the ASCII bytes, the same one perhaps more than once, and every other byte.
    Few([u8; 3]),
    /// More, or some bytes beyond ASCII and others not.
    Many,
}

impl Run {
    /// Of the bytes for which `is_in`; `None` if there are none.
    pub(super) fn new(is_in: impl Fn(u8) -> bool) -> Option<Self> {
        let bytes = Box::new(array::from_fn(|byte| is_in(byte as u8)));
        let stops: Vec<u8> = (0..0x80_u8).filter(|byte| !bytes[usize::from(*byte)]).collect();
        let is_ascii_only = bytes[0x80..].iter().all(|is_in| !is_in);
        let stops = match *stops.as_slice() {
            [one] if is_ascii_only => Stops::Few([one; 3]),
            [one, other] if is_ascii_only => Stops::Few([one, other, other]),
            [one, other, third] if is_ascii_only => Stops::Few([one, other, third]),
            _ => Stops::Many,
        };
        bytes.contains(&true).then_some(Self { bytes, stops })
    }

    /// How many bytes at the start of `text` belong to it.
    pub(super) fn len(&self, text: &[u8]) -> usize {
        let is_stop = |byte: &u8| !self.bytes[usize::from(*byte)];
        let Stops::Few([one, other, third]) = self.stops else {
            return text.iter().position(is_stop).unwrap_or(text.len());
        };
        let (head, mut rest) = text.split_at(text.len().min(SHORT));
        if let Some(stop) = head.iter().position(is_stop) {
            return stop;
        }
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(WINDOW)];
            let stop = memchr::memchr3(one, other, third, window);
            let run = &window[..stop.unwrap_or(window.len())];
            if !run.is_ascii() {
                return text.len() - rest.len() + run.iter().position(is_stop).unwrap_or(run.len());
            }
            rest = &rest[run.len()..];
            if stop.is_some() {
                break;
            }
        }
        text.len() - rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn its_length_is_that_of_a_look_at_each_byte(
            pieces in proptest::collection::vec((0..5_usize, 0..200_usize), 0..6),
            nth in 0..6_usize,
        ) {
            let text: String = pieces.iter().map(|(piece, count)| ["a", "\"", "\\", "é", "\n"][*piece].repeat(1 + count)).collect();
            let stops: &[u8] = [b"\"".as_slice(), b"\"\\", b"\"\\\n", b"\"\\\na", b"", b"z"][nth];
            for with_others in [false, true] {
                let is_in = |byte: u8| if byte < 0x80 { !stops.contains(&byte) } else { with_others };
                let run = Run::new(is_in).expect("some bytes are in it");
                let expected = text.bytes().position(|byte| !is_in(byte)).unwrap_or(text.len());
                prop_assert_eq!(run.len(text.as_bytes()), expected);
            }
        }
    }

    #[test]
    fn a_few_stops_are_searched_for_and_more_are_not() {
        let stops = |is_in: fn(u8) -> bool| Run::new(is_in).map(|run| run.stops);
        assert_eq!(stops(|byte| byte != b'"' && byte < 0x80), Some(Stops::Few([b'"'; 3])));
        assert_eq!(stops(|byte| !b"\"\\".contains(&byte) && byte < 0x80), Some(Stops::Few([b'"', b'\\', b'\\'])));
        assert_eq!(stops(|byte| byte.is_ascii_digit()), Some(Stops::Many));
        assert_eq!(stops(|byte| byte != b'"'), Some(Stops::Many));
        assert_eq!(stops(|_| false), None);
    }
}
