//! A packed file (gzip, zstd) → the bytes of the file that was packed. Streaming, in bounded memory.
//!
//! What it is, its first bytes say, not its name. Members of gzip and frames of zstd that follow each other are one file.
//! A file that is still being written is no damaged one: RFC 1952, RFC 8878.

mod window;

pub(crate) use window::{Filled, Window};

use flate2::bufread::GzDecoder;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

/// Packed bytes that are read at once.
const CHUNK_BYTES: usize = 32 * 1024;
/// Unpacked bytes that are made at once. What a damaged place tears is at most about this much.
const STEP_BYTES: usize = 16 * 1024;
/// Largest window of zstd, as a power of two: 8 MiB, what level 19 uses. A larger one would be memory in a stranger's hand.
const WINDOW_LOG_MAX: u32 = 23;
/// Bytes that tell what a file is.
const MAGIC_BYTES: usize = 4;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    Zstd,
}

/// What a file's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Packed(Packing),
    /// Too short to tell: look again when it has grown.
    Open,
}

impl Kind {
    /// Shape: `head` is the file's first four bytes, or all there are.
    pub(crate) fn of(head: &[u8]) -> Self {
        let magics: [(&[u8], _); 2] = [(b"\x1F\x8B\x08", Packing::Gzip), (b"\x28\xB5\x2F\xFD", Packing::Zstd)];
        match magics.iter().find(|(magic, _)| head.starts_with(magic) || magic.starts_with(head)) {
            Some((magic, packing)) if head.len() >= magic.len() => Self::Packed(*packing),
            Some(_) => Self::Open,
            None => Self::Plain,
        }
    }
}

/// Which files are unpacked. YAML: `compression`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None.
    None,
    /// All of them, as gzip.
    Gzip,
    /// All of them, as zstd.
    Zstd,
    /// Those whose first bytes say that they are gzip or zstd.
    #[default]
    Auto,
}

impl Compression {
    /// How a file that starts with `head` is unpacked: its first four bytes, or all there are.
    pub(crate) fn of(self, head: &[u8]) -> Option<Packing> {
        match (self, Kind::of(head)) {
            (Self::Auto, Kind::Packed(packing)) => Some(packing),
            (Self::Gzip, _) if !head.is_empty() => Some(Packing::Gzip),
            (Self::Zstd, _) if !head.is_empty() => Some(Packing::Zstd),
            _ => None,
        }
    }

    /// The same of a file.
    pub(crate) fn of_file(self, file: &File) -> io::Result<Option<Packing>> {
        let mut head = [0; MAGIC_BYTES];
        let read = file.read_at(&mut head, 0)?;
        Ok(self.of(&head[..read]))
    }
}

/// How much a file may unpack to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Unpacked bytes for each packed one.
    pub(crate) ratio_max: u64,
    /// Unpacked bytes up to which the ratio is not looked at.
    pub(crate) ratio_free_bytes: u64,
    /// Unpacked bytes of one file.
    pub(crate) unpacked_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ratio_max: 200, ratio_free_bytes: 16 << 20, unpacked_bytes_max: 64 << 30 }
    }
}

/// Why there is nothing more to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All of it was read, and every checksum is right. There may be another member later.
    Clean,
    /// It stops in the middle: it is still being written. Reading goes on here when it has grown.
    Unfinished,
    /// What follows cannot be unpacked, or what was read has a wrong checksum or length. What was read is kept.
    Damaged(String),
    /// It unpacks to more than the limits allow.
    Refused(String),
}

impl Ending {
    /// Why what follows will never be read.
    pub(crate) fn problem(&self) -> Option<&str> {
        match self {
            Self::Clean | Self::Unfinished => None,
            Self::Damaged(reason) | Self::Refused(reason) => Some(reason),
        }
    }
}

/// The bytes of the file that was packed.
///
/// `Read` gives 0 at every end, and [`Unpacked::ending`] says which one it is. Errors are those of reading the file.
#[derive(Debug)]
pub(crate) struct Unpacked {
    source: Source,
    limits: Limits,
    /// Unpacked bytes given so far.
    offset: u64,
    ending: Option<Ending>,
}

impl Unpacked {
    /// Starts at the file's beginning. The handle's own position is neither used nor moved.
    pub(crate) fn new(file: File, packing: Packing, limits: Limits) -> io::Result<Self> {
        let reader = BufReader::with_capacity(CHUNK_BYTES, Packed { file, offset: 0, tail: Vec::new() });
        let source = match packing {
            Packing::Gzip => Source::Gzip(Some(Box::new(GzDecoder::new(reader)))),
            Packing::Zstd => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
                Source::Zstd { decoder: Box::new(decoder), reader, is_within: true }
            }
        };
        Ok(Self { source, limits, offset: 0, ending: None })
    }

    /// Why reading ended; `None` while there may be more.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Offset of the next byte, in unpacked bytes.
    #[cfg(test)]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Packed bytes read so far.
    pub(crate) fn packed_bytes(&self) -> u64 {
        self.source.packed().map_or(0, |packed| packed.offset)
    }

    /// True if the packed bytes that were read last still stand where they stood.
    pub(crate) fn stands(&self) -> io::Result<bool> {
        self.source.packed().map_or(Ok(true), Packed::stands)
    }

    /// The limit that is passed, if one is.
    fn excess(&self) -> Option<String> {
        let Limits { ratio_max, ratio_free_bytes, unpacked_bytes_max } = self.limits;
        let (packed, unpacked) = (self.packed_bytes(), self.offset);
        if unpacked > unpacked_bytes_max {
            return Some(format!("unpacks to more than {unpacked_bytes_max} bytes"));
        }
        let is_bomb = unpacked > ratio_free_bytes && unpacked / ratio_max > packed;
        is_bomb.then(|| format!("{packed} bytes unpack to {unpacked}, more than {ratio_max} for each"))
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.ending.as_ref().is_some_and(|ending| ending.problem().is_some()) {
            return Ok(0);
        }
        let step = buffer.len().min(STEP_BYTES);
        let ending = match self.source.read(&mut buffer[..step]) {
            Ok(0) => Ending::Clean,
            Ok(bytes) => {
                self.offset += bytes as u64;
                match self.excess() {
                    None => {
                        self.ending = None;
                        return Ok(bytes);
                    }
                    Some(reason) => {
                        self.offset -= bytes as u64;
                        Ending::Refused(reason)
                    }
                }
            }
            Err(error) if is_end(&error) => Ending::Unfinished,
            Err(error) if error.raw_os_error().is_some() => return Err(error), // The file's, not its content's.
            Err(error) => Ending::Damaged(error.to_string()),
        };
        self.ending = Some(ending);
        Ok(0)
    }
}

/// True at the end of what is there of a packed file. To a decoder it must not look like the end of its input, for then it
/// could not go on.
fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

type PackedReader = BufReader<Packed>;

enum Source {
    /// `None` between two members only.
    Gzip(Option<Box<GzDecoder<PackedReader>>>),
    /// `is_within`: a frame has begun and has not ended.
    Zstd { decoder: Box<Decoder<'static>>, reader: PackedReader, is_within: bool },
}

impl Source {
    fn packed(&self) -> Option<&Packed> {
        match self {
            Self::Gzip(decoder) => decoder.as_ref().map(|decoder| decoder.get_ref().get_ref()),
            Self::Zstd { reader, .. } => Some(reader.get_ref()),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let member = match self {
            Self::Gzip(member) => member,
            Self::Zstd { decoder, reader, is_within } => return read_zstd(decoder, reader, is_within, buffer),
        };
        while let Some(decoder) = member {
            let bytes = decoder.read(buffer)?;
            if bytes > 0 {
                return Ok(bytes);
            }
            if is_padding(decoder.get_mut())? {
                return Ok(0);
            }
            let reader = member.take().map(|decoder| decoder.into_inner());
            *member = reader.map(|reader| Box::new(GzDecoder::new(reader))); // The next member.
        }
        Ok(0)
    }
}

/// One step of zstd. 0 at the end of a frame behind which nothing follows.
fn read_zstd(
    decoder: &mut Decoder<'static>,
    reader: &mut PackedReader,
    is_within: &mut bool,
    buffer: &mut [u8],
) -> io::Result<usize> {
    loop {
        let (input, end) = match reader.fill_buf() {
            Ok(input) => (input, None),
            Err(error) if is_end(&error) => (&[][..], Some(error)), // What the decoder holds back is still given.
            Err(error) => return Err(error),
        };
        let (mut taken, mut given) = (InBuffer::around(input), OutBuffer::around(&mut *buffer));
        if end.is_none() || *is_within {
            *is_within = decoder.run(&mut taken, &mut given)? > 0;
        }
        let (taken, given) = (taken.pos(), given.pos());
        reader.consume(taken);
        match end {
            _ if given > 0 => return Ok(given),
            Some(error) if *is_within => return Err(error),
            Some(_) => return Ok(0),
            None => {}
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Gzip(_)) { "Gzip" } else { "Zstd" })
    }
}

/// True if a member of gzip is the last: nothing follows it, or zeros only, as tapes and block devices leave them.
fn is_padding(reader: &mut PackedReader) -> io::Result<bool> {
    loop {
        let next = match reader.fill_buf() {
            Err(error) if is_end(&error) => return Ok(true),
            next => next?,
        };
        let zeros = next.iter().position(|&byte| byte != 0).unwrap_or(next.len());
        if zeros == 0 {
            return Ok(false);
        }
        reader.consume(zeros);
    }
}

/// How many of the bytes read last are compared with the file before more are read.
const TAIL_BYTES: usize = 64;

/// Reads a file by offsets of its own. At its end it says `WouldBlock`: see [`is_end`].
#[derive(Debug)]
struct Packed {
    file: File,
    offset: u64,
    /// The bytes before `offset`.
    tail: Vec<u8>,
}

impl Packed {
    fn stands(&self) -> io::Result<bool> {
        let start = self.offset - self.tail.len() as u64;
        Ok(crate::identity::read_span(&self.file, start, self.tail.len())?.as_ref() == Some(&self.tail))
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read_at(buffer, self.offset)?;
        if bytes == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.offset += bytes as u64;
        let last = &buffer[bytes.saturating_sub(TAIL_BYTES)..bytes];
        let surplus = (self.tail.len() + last.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus.min(self.tail.len()));
        self.tail.extend_from_slice(last);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
