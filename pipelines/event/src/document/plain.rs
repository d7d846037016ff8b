//! What of a text can stand in a JSON string as it is: everything but quotes, backslashes and control characters.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
/// Eight spaces, which need no escape.
const SPACES: u64 = 0x2020_2020_2020_2020;

/// How many bytes come before the next quote, backslash or control character.
pub(super) fn plain_bytes(bytes: &[u8]) -> usize {
    let mut plain = 0;
    // Whole chunks first, without an early exit inside, so that the compiler makes vector instructions of it.
    for chunk in bytes.chunks_exact(16) {
        if chunk.iter().fold(false, |any, byte| any | (*byte < 0x20 || *byte == b'"' || *byte == b'\\')) {
            break;
        }
        plain += 16;
    }
    while let Some(word) = bytes[plain..].first_chunk::<8>() {
        match special(u64::from_le_bytes(*word)) {
            0 => plain += 8,
            found => return plain + first(found),
        }
    }
    if plain == bytes.len() {
        return plain;
    }
    // The last word of a text overlaps with what was looked at, where there is nothing to be found again.
    if let Some(word) = bytes.last_chunk::<8>() {
        match special(u64::from_le_bytes(*word)) {
            0 => bytes.len(),
            found => bytes.len() - 8 + first(found),
        }
    } else {
        first(special(short(bytes))).min(bytes.len())
    }
}

/// A text of one to seven bytes, filled up with spaces.
fn short(bytes: &[u8]) -> u64 {
    let bits = 8 * bytes.len() as u32;
    let text = match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(low), Some(high)) => {
            u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << (bits - 32)
        }
        _ => bytes.iter().rev().fold(0, |text, byte| text << 8 | u64::from(*byte)),
    };
    text | SPACES << bits
}

/// Marks the bytes that need an escape by their highest bit. Only the lowest mark counts: a borrow can set one above it.
fn special(word: u64) -> u64 {
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(SPACES) & !word;
    let quote = zeros(word ^ (ONES * b'"' as u64));
    let backslash = zeros(word ^ (ONES * b'\\' as u64));
    (control | quote | backslash) & HIGHS
}

/// Place of the first marked byte; 8 if none is.
fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_looking_at_each_byte(bytes in prop::collection::vec(prop_oneof![
            8 => 0x20_u8..=0xff, 1 => Just(b'"'), 1 => Just(b'\\'), 1 => 0_u8..0x20,
        ], 0..60)) {
            let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
            prop_assert_eq!(plain_bytes(&bytes), bytes.iter().position(special).unwrap_or(bytes.len()));
        }

        #[test]
        fn finds_what_stands_alone(length in 1_usize..50, at in 0_usize..50, byte in prop_oneof![Just(b'"'), Just(b'\\'), 0_u8..0x20]) {
            let mut bytes = vec![b'x'; length];
            prop_assert_eq!(plain_bytes(&bytes), length);
            bytes[at % length] = byte;
            prop_assert_eq!(plain_bytes(&bytes), at % length);
        }
    }
}
