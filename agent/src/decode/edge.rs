//! Where one character ends and the next begins, in encodings whose later bytes look like characters of their own.
//!
//! By the shape of the bytes only, as the WHATWG decoders read them: <https://encoding.spec.whatwg.org/>.

use encoding_rs as e;

/// Longest character of any encoding, in bytes (GB18030).
pub(super) const UNIT_BYTES_MAX: usize = 4;

/// What the characters of an encoding are made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// One byte each.
    Single,
    Utf8,
    Utf16 {
        is_big: bool,
    },
    /// GBK and GB18030: two bytes, or four.
    Gb,
    /// One byte, or two if the first is `lead`.
    Pairs {
        lead: fn(u8) -> bool,
        trail: fn(u8) -> bool,
    },
    EucJp,
    /// Escapes switch between one byte and two.
    Iso2022Jp,
}

impl Shape {
    pub(super) fn of(encoding: &'static e::Encoding) -> Self {
        let pairs = |lead, trail| Self::Pairs { lead, trail };
        match encoding {
            _ if encoding == e::UTF_8 => Self::Utf8,
            _ if encoding == e::UTF_16LE => Self::Utf16 { is_big: false },
            _ if encoding == e::UTF_16BE => Self::Utf16 { is_big: true },
            _ if encoding == e::GBK || encoding == e::GB18030 => Self::Gb,
            _ if encoding == e::BIG5 => pairs(|b| matches!(b, 0x81..=0xFE), |b| matches!(b, 0x40..=0x7E | 0xA1..=0xFE)),
            _ if encoding == e::EUC_KR => pairs(|b| matches!(b, 0x81..=0xFE), |b| matches!(b, 0x41..=0xFE)),
            _ if encoding == e::SHIFT_JIS => {
                pairs(|b| matches!(b, 0x81..=0x9F | 0xE0..=0xFC), |b| matches!(b, 0x40..=0x7E | 0x80..=0xFC))
            }
            _ if encoding == e::EUC_JP => Self::EucJp,
            _ if encoding == e::ISO_2022_JP => Self::Iso2022Jp,
            _ => Self::Single,
        }
    }

    /// True if a byte of printable ASCII can be a part of another character.
    pub(super) fn hides_ascii(self) -> bool {
        matches!(self, Self::Gb | Self::Pairs { .. } | Self::EucJp | Self::Iso2022Jp)
    }

    /// Length of the character at the start of `bytes`, or `None` if that depends on bytes that are not there.
    ///
    /// `is_wide`: the state that escapes switch; false at a line's start.
    pub(super) fn unit(self, bytes: &[u8], is_wide: &mut bool) -> Option<usize> {
        match (self, bytes) {
            (_, []) => None,
            (Self::Single | Self::Utf8, _) => Some(1),
            (Self::Utf16 { .. }, _) => (bytes.len() >= 2).then_some(2),
            (Self::Gb, [..=0x80 | 0xFF, ..]) => Some(1),
            (Self::Gb, [_, 0x30..=0x39, 0x81..=0xFE, 0x30..=0x39, ..]) => Some(4),
            (Self::Gb, [_] | [_, 0x30..=0x39] | [_, 0x30..=0x39, 0x81..=0xFE]) => None,
            (Self::Gb, [_, 0x40..=0x7E | 0x80..=0xFE, ..]) => Some(2),
            (Self::Pairs { lead, .. }, [first, ..]) if !lead(*first) => Some(1),
            (Self::Pairs { trail, .. }, [_, second, ..]) if trail(*second) => Some(2),
            (Self::EucJp, [0x8F, 0xA1..=0xFE, 0xA1..=0xFE, ..]) => Some(3),
            (Self::EucJp, [0x8F, 0xA1..=0xFE] | [0x8E | 0x8F | 0xA1..=0xFE]) => None,
            (Self::EucJp, [0x8E, 0xA1..=0xDF, ..] | [0xA1..=0xFE, 0xA1..=0xFE, ..]) => Some(2),
            (Self::Pairs { .. }, [_]) => None,
            (Self::Iso2022Jp, [0x1B, b'$' | b'(', set, ..]) => {
                *is_wide = bytes[1] == b'$' && matches!(set, b'@' | b'B');
                Some(3)
            }
            (Self::Iso2022Jp, [0x1B] | [0x1B, b'$' | b'(']) => None,
            (Self::Iso2022Jp, [0x21..=0x7E, 0x21..=0x7E, ..]) if *is_wide => Some(2),
            (Self::Iso2022Jp, [0x21..=0x7E]) if *is_wide => None,
            (Self::Gb | Self::Pairs { .. } | Self::EucJp | Self::Iso2022Jp, _) => Some(1),
        }
    }

    /// How much of `bytes`, which are more than `max`, fits in `max` bytes without tearing a character.
    pub(super) fn cut(self, bytes: &[u8], max: usize) -> usize {
        match self {
            Self::Single => max,
            Self::Utf8 => crate::frame::cut(bytes, max),
            Self::Utf16 { is_big } => {
                let end = max & !1;
                let last = if is_big { bytes[end - 2] } else { bytes[end - 1] };
                if matches!(last, 0xD8..=0xDB) { end - 2 } else { end } // The first half of a pair.
            }
            Self::Gb | Self::Pairs { .. } | Self::EucJp | Self::Iso2022Jp => {
                let (mut end, mut is_wide) = (0, false);
                loop {
                    let next = end + self.unit(&bytes[end..], &mut is_wide).unwrap_or(1);
                    if next > max {
                        return end;
                    }
                    end = next;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the characters of `bytes`.
    fn units(encoding: &'static e::Encoding, bytes: &[u8]) -> Vec<usize> {
        let (mut at, mut is_wide, mut units) = (0, false, Vec::new());
        while at < bytes.len() {
            units.push(Shape::of(encoding).unit(&bytes[at..], &mut is_wide).unwrap_or(1));
            at += units.last().expect("was pushed");
        }
        units
    }

    #[test]
    fn characters_are_as_long_as_their_encoding_says() {
        assert_eq!(units(e::GB18030, b"a\xD6\xD0\x81\x30\x81\x30\xB0|b"), [1, 2, 4, 2, 1]);
        assert_eq!(units(e::GB18030, b"\xB0\n\x810\n"), [1, 1, 1, 1, 1], "a broken character never takes a line end");
        assert_eq!(units(e::BIG5, b"\xA5\x5C\x5C\xA5\n"), [2, 1, 1, 1]);
        assert_eq!(units(e::SHIFT_JIS, b"\x83\x5C\xB1\x5C"), [2, 1, 1]);
        assert_eq!(units(e::EUC_JP, b"\x8F\xB0\xA1\x8E\xB1\xA4\xA2a"), [3, 2, 2, 1]);
        assert_eq!(units(e::EUC_KR, b"\xB0\xA1|"), [2, 1]);
        assert_eq!(units(e::ISO_2022_JP, b"a\x1B$B$\"||\x1B(B||"), [1, 3, 2, 2, 3, 1, 1]);
    }

    #[test]
    fn every_character_of_a_legacy_encoding_is_one_unit() {
        for encoding in [e::GBK, e::GB18030, e::BIG5, e::EUC_KR, e::SHIFT_JIS, e::EUC_JP] {
            for character in ('\u{a0}'..'\u{ffff}').step_by(7) {
                let text = character.to_string();
                let (bytes, _, is_unmappable) = encoding.encode(&text);
                if !is_unmappable && !bytes.is_empty() {
                    assert_eq!(units(encoding, &bytes), [bytes.len()], "{character:?} in {}", encoding.name());
                }
            }
        }
    }

    #[test]
    fn a_cut_tears_no_character() {
        let cut = |encoding, bytes: &[u8], max| Shape::of(encoding).cut(bytes, max);
        assert_eq!(cut(e::WINDOWS_1252, b"123456789", 8), 8);
        assert_eq!(cut(e::UTF_8, "1234567é".as_bytes(), 8), 7);
        assert_eq!(cut(e::GBK, b"1234567\xD6\xD0", 8), 7);
        assert_eq!(cut(e::GBK, b"123456\xD6\xD0\xD6\xD0", 8), 8);
        assert_eq!(cut(e::UTF_16LE, b"1\x002\x003\x004\x005\x00", 9), 8);
        assert_eq!(cut(e::UTF_16LE, b"1\x002\x003\x00\x3D\xD8\x00\xDE5\x00", 8), 6);
        assert_eq!(cut(e::UTF_16BE, b"\x001\x002\x003\xD8\x3D\xDE\x00\x005", 8), 6);
    }
}
