//! The bytes of a generation ⇄ entries. See [`super`] for their form.

use super::{PackedAt, Saved};
use crate::identity::Inode;
use event::{Anchor, Incarnation, Progress};
use serde::{Deserialize, Serialize};

pub(super) const MAGIC: &[u8; 8] = b"TAILRACE";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 12;
const ENTRY_HEAD_BYTES: usize = 16;
/// An entry is a path and some numbers, and cuts: one for each event that time finished during an outage. Anything longer is
/// damage.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;

/// The payload of an entry.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Put(Put),
    Forget {
        input: String,
        incarnation: String,
    },
    /// The snapshot at the start of a generation is complete.
    Snapshot {
        files: u64,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Put {
    input: String,
    incarnation: String,
    path: String,
    device: u64,
    inode: u64,
    birth_ns: Option<u64>,
    generation: u32,
    offset: u64,
    head_bytes: u32,
    head: u64,
    tail: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cuts: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packed: Option<PutPacked>,
}

#[derive(Serialize, Deserialize)]
struct PutPacked {
    device: u64,
    inode: u64,
    birth_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rest: Option<(u64, u64)>,
}

pub(super) fn encode(line: &Line, sequence: u64, bytes: &mut Vec<u8>) {
    let payload = serde_json::to_vec(line).expect("a checkpoint entry has only strings and numbers");
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&checksum(sequence, &payload).to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&payload);
}

fn checksum(sequence: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), payload)
}

/// The sound entries from the start, and what ended them if it was not the end of the file.
pub(super) fn decode(bytes: &[u8]) -> (Vec<Line>, Option<String>) {
    let mut lines = Vec::new();
    if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
        return (
            lines,
            Some(format!("not a checkpoint: damaged header at byte 0, {} bytes are not used", bytes.len())),
        );
    }
    let version = u32::from_le_bytes(bytes[8..HEADER_BYTES].try_into().expect("four bytes"));
    if version != VERSION {
        return (lines, Some(format!("version {version} at byte 8, this program reads version {VERSION}")));
    }
    let (mut at, mut before) = (HEADER_BYTES, 0);
    while at < bytes.len() {
        let damaged = |what: &str| Some(format!("{what} at byte {at}, {} bytes are not used", bytes.len() - at));
        let Some(head) = bytes.get(at..at + ENTRY_HEAD_BYTES) else { return (lines, damaged("torn entry")) };
        let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        let sum = u32::from_le_bytes(head[4..8].try_into().expect("four bytes"));
        let sequence = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
        let start = at + ENTRY_HEAD_BYTES;
        if length > ENTRY_BYTES_MAX {
            return (lines, damaged("impossible length"));
        }
        let Some(payload) = bytes.get(start..start + length) else { return (lines, damaged("torn entry")) };
        if checksum(sequence, payload) != sum || sequence <= before {
            return (lines, damaged("wrong checksum"));
        }
        match serde_json::from_slice(payload) {
            Ok(line) => lines.push(line),
            Err(error) => return (lines, damaged(&format!("unknown entry ({error})"))),
        }
        (at, before) = (start + length, sequence);
    }
    (lines, None)
}

pub(super) fn parse_incarnation(text: &str) -> Result<Incarnation, String> {
    u64::from_str_radix(text, 16).map(Incarnation).map_err(|_| format!("incarnation {text:?} is not hexadecimal"))
}

impl From<&Saved> for Put {
    fn from(saved: &Saved) -> Self {
        Self {
            input: saved.input.to_string(),
            incarnation: saved.incarnation.to_string(),
            path: saved.path.to_string(),
            device: saved.inode.device,
            inode: saved.inode.number,
            birth_ns: saved.inode.birth_ns,
            generation: saved.generation,
            offset: saved.progress.offset,
            head_bytes: saved.progress.anchor.head_bytes,
            head: saved.progress.anchor.head,
            tail: saved.progress.anchor.tail,
            cuts: saved.cuts.clone(),
            cursor: saved.cursor.clone(),
            truncated: saved.is_truncated,
            packed: saved.packed.as_deref().map(|PackedAt { inode, rest }| PutPacked {
                device: inode.device,
                inode: inode.number,
                birth_ns: inode.birth_ns,
                rest: *rest,
            }),
        }
    }
}

impl TryFrom<Put> for Saved {
    type Error = String;

    fn try_from(put: Put) -> Result<Self, String> {
        let anchor = Anchor { head_bytes: put.head_bytes, head: put.head, tail: put.tail };
        Ok(Self {
            incarnation: parse_incarnation(&put.incarnation)?,
            input: put.input.into(),
            path: put.path.into(),
            inode: Inode { device: put.device, number: put.inode, birth_ns: put.birth_ns },
            generation: put.generation,
            progress: Progress { offset: put.offset, anchor },
            cuts: put.cuts,
            cursor: put.cursor,
            is_truncated: put.truncated,
            packed: put.packed.map(|PutPacked { device, inode, birth_ns, rest }| {
                Box::new(PackedAt { inode: Inode { device, number: inode, birth_ns }, rest })
            }),
        })
    }
}
