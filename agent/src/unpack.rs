//! A packed file (gzip, zstd) → the bytes of the file that was packed. Streaming, in bounded memory.
//!
//! What it is, its first bytes say, not its name. Members of gzip and frames of zstd that follow each other are one file.
//! A file that is still being written is no damaged one: RFC 1952, RFC 8878.

use crate::identity::Edges;
use flate2::bufread::GzDecoder;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::FileExt as _;

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

    /// The same of a file.
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        let mut head = Vec::new();
        Packed { file: file.try_clone()?, offset: 0 }.take(MAGIC_BYTES as u64).read_to_end(&mut head)?;
        Ok(Self::of(&head))
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
    /// All of it was read, and every checksum is right.
    Clean,
    /// It stops in the middle: it is still being written. Open it again later and skip to where this ended.
    Unfinished,
    /// What follows cannot be unpacked, or what was read has a wrong checksum or length. What was read is kept.
    Damaged(String),
    /// It unpacks to more than the limits allow.
    Refused(String),
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
        let reader = BufReader::with_capacity(CHUNK_BYTES, Packed { file, offset: 0 });
        let source = match packing {
            Packing::Gzip => Source::Gzip(Some(Box::new(GzDecoder::new(reader)))),
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Source::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { source, limits, offset: 0, ending: None })
    }

    /// Why reading ended; `None` while there may be more.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Offset of the next byte, in unpacked bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads up to `offset`, in unpacked bytes. False if it ends before: see [`Unpacked::ending`].
    pub(crate) fn skip_to(&mut self, offset: u64) -> io::Result<bool> {
        let missing = offset.saturating_sub(self.offset);
        io::copy(&mut self.take(missing), &mut io::sink())?;
        Ok(self.offset >= offset)
    }

    /// Up to `bytes_max` bytes from here on, fewer at the end.
    pub(crate) fn head(&mut self, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.take(bytes_max as u64).read_to_end(&mut head)?;
        Ok(head)
    }

    /// The edges of the first `offset` unpacked bytes, to be compared with what a checkpoint knows of the plain file; the
    /// next byte read is that at `offset`. `None` if it ends before.
    ///
    /// Shape: nothing has been read yet.
    pub(crate) fn edges(&mut self, offset: u64) -> io::Result<Option<Edges>> {
        Edges::of(self, offset)
    }

    /// The limit that is passed, if one is.
    fn excess(&self) -> Option<String> {
        let Limits { ratio_max, ratio_free_bytes, unpacked_bytes_max } = self.limits;
        let (packed, unpacked) = (self.source.packed_bytes(), self.offset);
        if unpacked > unpacked_bytes_max {
            return Some(format!("unpacks to more than {unpacked_bytes_max} bytes"));
        }
        let is_bomb = unpacked > ratio_free_bytes && unpacked / ratio_max > packed;
        is_bomb.then(|| format!("{packed} bytes unpack to {unpacked}, more than {ratio_max} for each"))
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ending.is_some() || buffer.is_empty() {
            return Ok(0);
        }
        let step = buffer.len().min(STEP_BYTES);
        let ending = match self.source.read(&mut buffer[..step]) {
            Ok(0) => Ending::Clean,
            Ok(bytes) => {
                self.offset += bytes as u64;
                match self.excess() {
                    None => return Ok(bytes),
                    Some(reason) => {
                        self.offset -= bytes as u64;
                        Ending::Refused(reason)
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ending::Unfinished,
            Err(error) if error.raw_os_error().is_some() => return Err(error), // The file's, not its content's.
            Err(error) => Ending::Damaged(error.to_string()),
        };
        self.ending = Some(ending);
        Ok(0)
    }
}

type PackedReader = BufReader<Packed>;

/// The decoder. `None` between two members only.
enum Source {
    Gzip(Option<Box<GzDecoder<PackedReader>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, PackedReader>>),
}

impl Source {
    /// Packed bytes read so far.
    fn packed_bytes(&self) -> u64 {
        match self {
            Self::Gzip(decoder) => decoder.as_ref().map_or(0, |decoder| decoder.get_ref().get_ref().offset),
            Self::Zstd(decoder) => decoder.get_ref().get_ref().offset,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let member = match self {
            Self::Gzip(member) => member,
            Self::Zstd(decoder) => return decoder.read(buffer),
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

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Gzip(_)) { "Gzip" } else { "Zstd" })
    }
}

/// True if a member of gzip is the last: nothing follows it, or zeros only, as tapes and block devices leave them.
fn is_padding(reader: &mut PackedReader) -> io::Result<bool> {
    loop {
        let next = reader.fill_buf()?;
        if next.is_empty() {
            return Ok(true);
        }
        let zeros = next.iter().position(|&byte| byte != 0).unwrap_or(next.len());
        if zeros == 0 {
            return Ok(false);
        }
        reader.consume(zeros);
    }
}

/// Reads a file by offsets of its own.
#[derive(Debug)]
struct Packed {
    file: File,
    offset: u64,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read_at(buffer, self.offset)?;
        self.offset += bytes as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
