//! An encoding together with its line end, ready to be searched for.

use super::edge::Shape;
use super::names::{Encoding, LineTerminator};
use anyhow::bail;
use encoding_rs::{GB18030, GBK, UTF_8, UTF_16BE, UTF_16LE};
use memchr::memmem::Finder;

/// Longest line end, in encoded bytes.
const TERMINATOR_BYTES_MAX: usize = 32;

/// One encoding with one line end.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) encoding: &'static encoding_rs::Encoding,
    pub(super) bom: &'static [u8],
    shape: Shape,
    /// Encoded.
    pub(super) terminator: Vec<u8>,
    finder: Finder<'static>,
    /// Encoded; belongs to the line end where it stands before it. Empty if it does not.
    carriage_return: Vec<u8>,
    trims_nuls: bool,
    /// A match counts only where a character starts, and that is known only from the line's start.
    walks: bool,
}

/// The forms that an input's files can have; the first is that of a file without BOM.
pub(super) fn forms(encoding: Encoding, terminator: &LineTerminator) -> anyhow::Result<Vec<Form>> {
    let encodings = match encoding {
        Encoding::Auto => vec![UTF_8, UTF_16LE, UTF_16BE],
        Encoding::Is(encoding) if encoding == UTF_16LE => vec![UTF_16LE, UTF_16BE],
        Encoding::Is(encoding) if encoding == UTF_16BE => vec![UTF_16BE, UTF_16LE],
        Encoding::Is(encoding) => vec![encoding],
    };
    encodings.into_iter().map(|encoding| Form::new(encoding, terminator)).collect()
}

impl Form {
    fn new(encoding: &'static encoding_rs::Encoding, terminator: &LineTerminator) -> anyhow::Result<Self> {
        let (text, carriage_return) = match terminator {
            LineTerminator::Auto => ("\n", "\r"),
            LineTerminator::Text(text) => (text.as_str(), ""),
        };
        let encoded = encode(encoding, text)?;
        if encoded.is_empty() || encoded.len() > TERMINATOR_BYTES_MAX {
            bail!("line_terminator: {text:?} has {} bytes, not 1 to {TERMINATOR_BYTES_MAX}", encoded.len());
        }
        let shape = Shape::of(encoding);
        Ok(Self {
            encoding,
            bom: bom(encoding),
            shape,
            finder: Finder::new(&encoded).into_owned(),
            carriage_return: encode(encoding, carriage_return)?,
            trims_nuls: !text.contains('\0'),
            walks: shape.hides_ascii() && encoded.iter().any(|&byte| byte > b' '),
            terminator: encoded,
        })
    }

    /// UTF-8 that ends at LF with or without CR.
    pub(super) fn is_plain(&self) -> bool {
        self.encoding == UTF_8 && self.terminator == b"\n" && !self.carriage_return.is_empty()
    }

    pub(super) fn unit_bytes(&self) -> usize {
        if matches!(self.shape, Shape::Utf16 { .. }) { 2 } else { 1 }
    }

    /// Longest line end, in bytes.
    pub(super) fn line_end_bytes(&self) -> usize {
        self.carriage_return.len() + self.terminator.len()
    }

    /// Where the first line end in `bytes` starts; else how far it is known that none starts: a character's edge.
    ///
    /// Shape: `bytes` start at a character's edge.
    pub(super) fn find(&self, bytes: &[u8], is_wide: &mut bool) -> Result<usize, usize> {
        if self.walks {
            return self.walk(bytes, is_wide);
        }
        let unit = self.unit_bytes();
        if let ([byte], 1) = (&self.terminator[..], unit) {
            return memchr::memchr(*byte, bytes).ok_or(bytes.len());
        }
        let mut from = 0;
        while let Some(found) = self.finder.find(&bytes[from..]) {
            if (from + found).is_multiple_of(unit) {
                return Ok(from + found);
            }
            from += found + 1;
        }
        let searched = (bytes.len() + 1).saturating_sub(self.terminator.len());
        Err(searched - searched % unit)
    }

    fn walk(&self, bytes: &[u8], is_wide: &mut bool) -> Result<usize, usize> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.starts_with(&self.terminator) && !*is_wide {
                return Ok(at);
            }
            if rest.len() < self.terminator.len() {
                return Err(at);
            }
            match self.shape.unit(rest, is_wide) {
                Some(unit) => at += unit,
                None => return Err(at),
            }
        }
    }

    /// How much of `bytes`, which are more than `max`, is kept.
    pub(super) fn cut(&self, bytes: &[u8], max: usize) -> usize {
        self.shape.cut(bytes, max)
    }

    /// A line without the CR of its line end.
    pub(super) fn content<'a>(&self, line: &'a [u8]) -> &'a [u8] {
        line.strip_suffix(&self.carriage_return[..]).unwrap_or(line)
    }

    /// How many bytes of zero characters `bytes` start with.
    pub(super) fn leading_nuls(&self, bytes: &[u8]) -> usize {
        if !self.trims_nuls {
            return 0;
        }
        let zeros = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
        zeros - zeros % self.unit_bytes()
    }

    /// How much is left of `bytes` without zero characters at their end.
    pub(super) fn without_trailing_nuls(&self, bytes: &[u8]) -> usize {
        if !self.trims_nuls {
            return bytes.len();
        }
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        bytes.len().min(end.next_multiple_of(self.unit_bytes()))
    }
}

/// U+FEFF as it stands at the start of a file.
fn bom(encoding: &'static encoding_rs::Encoding) -> &'static [u8] {
    match encoding {
        _ if encoding == UTF_8 => b"\xEF\xBB\xBF",
        _ if encoding == UTF_16LE => b"\xFF\xFE",
        _ if encoding == UTF_16BE => b"\xFE\xFF",
        _ if encoding == GBK || encoding == GB18030 => b"\x84\x31\x95\x33",
        _ => b"",
    }
}

fn encode(encoding: &'static encoding_rs::Encoding, text: &str) -> anyhow::Result<Vec<u8>> {
    if encoding == UTF_16LE {
        return Ok(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    }
    if encoding == UTF_16BE {
        return Ok(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
    }
    let (encoded, _, is_unmappable) = encoding.encode(text);
    let is_switched = encoding == encoding_rs::ISO_2022_JP && !text.is_ascii();
    if is_unmappable || is_switched {
        bail!("line_terminator: {text:?} cannot be written in {}", encoding.name());
    }
    Ok(encoded.into_owned())
}
