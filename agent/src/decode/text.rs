//! The bytes of one line → UTF-8.

use super::names::InvalidBytes;
use encoding_rs::{DecoderResult, Encoding, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE};

/// U+FFFD.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
/// By how much the buffer grows should it ever be too small.
const GROWTH_BYTES: usize = 1024;

/// The text of a line, and how many of its bytes are no character. Nothing is copied where the bytes are the text.
pub(super) fn decode<'a>(
    encoding: &'static Encoding,
    invalid_bytes: InvalidBytes,
    content: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> (&'a [u8], u64) {
    if encoding == UTF_8 {
        return decode_utf_8(invalid_bytes, content, scratch);
    }
    let is_utf_16 = encoding == UTF_16LE || encoding == UTF_16BE;
    let ascii_bytes = if encoding == ISO_2022_JP {
        Encoding::iso_2022_jp_ascii_valid_up_to(content)
    } else {
        Encoding::ascii_valid_up_to(content)
    };
    if ascii_bytes == content.len() && !is_utf_16 {
        return (content, 0);
    }
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let bytes_max = decoder.max_utf8_buffer_length(content.len()).unwrap_or(content.len());
    if scratch.len() < bytes_max {
        scratch.resize(bytes_max, 0);
    }
    let (mut read, mut written, mut invalid) = (0, 0, 0);
    loop {
        let (result, used, made) =
            decoder.decode_to_utf8_without_replacement(&content[read..], &mut scratch[written..], true);
        (read, written) = (read + used, written + made);
        match result {
            DecoderResult::InputEmpty => break,
            DecoderResult::Malformed(bytes, _) => {
                invalid += u64::from(bytes);
                grow(scratch, written + REPLACEMENT.len());
                scratch[written..written + REPLACEMENT.len()].copy_from_slice(REPLACEMENT);
                written += REPLACEMENT.len();
            }
            DecoderResult::OutputFull => grow(scratch, written + GROWTH_BYTES),
        }
    }
    (&scratch[..written], invalid)
}

fn decode_utf_8<'a>(invalid_bytes: InvalidBytes, content: &'a [u8], scratch: &'a mut Vec<u8>) -> (&'a [u8], u64) {
    if Encoding::utf8_valid_up_to(content) == content.len() {
        return (content, 0);
    }
    let invalid = content.utf8_chunks().map(|chunk| chunk.invalid().len() as u64).sum();
    if invalid_bytes == InvalidBytes::Keep {
        return (content, invalid);
    }
    scratch.clear();
    for chunk in content.utf8_chunks() {
        scratch.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            scratch.extend_from_slice(REPLACEMENT);
        }
    }
    (scratch, invalid)
}

fn grow(scratch: &mut Vec<u8>, bytes: usize) {
    if scratch.len() < bytes {
        scratch.resize(bytes, 0);
    }
}
