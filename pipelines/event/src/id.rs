//! Names that survive retries and restarts.
//!
//! Layout of a document id, 20 bytes, big endian: incarnation (64 bits), offset (48), hash of the shipped bytes (48);
//! written as base64url without padding, 27 characters. Ids of one file are neighbours in the index.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Length of a document id in characters.
pub const ID_CHARS: usize = 27;

/// Room for what names a record of a foreign topic: Kafka's names have 249 characters at most.
const PLACE_BYTES: usize = 261;

/// One life of a file, between its creation and its truncation or deletion. Made once, at first sight; never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Made of what is known at first sight, so that a lost checkpoint can be made again.
    ///
    /// `birth_ns`: birth time in nanoseconds since 1970, where the file system has one. `first_line`: the first complete
    /// line, at most its first 1024 bytes. `generation`: how often this agent saw the file truncated.
    pub fn new(agent: &str, inode: u64, birth_ns: Option<u64>, first_line: &[u8], generation: u32) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&(agent.len() as u64).to_be_bytes());
        hash.update(agent.as_bytes());
        hash.update(&inode.to_be_bytes());
        hash.update(&birth_ns.unwrap_or(0).to_be_bytes());
        hash.update(&generation.to_be_bytes());
        hash.update(first_line);
        Self(hash.digest())
    }
}

impl std::fmt::Display for Incarnation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The id of the document made from the bytes `shipped`, which start at `offset` of the file's `incarnation`.
pub fn document_id(incarnation: Incarnation, offset: u64, shipped: &[u8]) -> [u8; ID_CHARS] {
    let mut raw = [0; 20];
    raw[..8].copy_from_slice(&incarnation.0.to_be_bytes());
    raw[8..14].copy_from_slice(&offset.to_be_bytes()[2..]);
    raw[14..].copy_from_slice(&xxh3_64(shipped).to_be_bytes()[2..]);
    encode(&raw)
}

/// The part of a document id that tells the bytes: 48 bits.
pub fn content_hash(shipped: &[u8]) -> u64 {
    xxh3_64(shipped) & 0xffff_ffff_ffff
}

/// What [`document_id`] made `id` of: incarnation, offset and [`content_hash`]. `None`: it has not the form of such an id. An id
/// that [`foreign_id`] made has that form, too.
pub fn parse_document_id(id: &str) -> Option<(Incarnation, u64, u64)> {
    if id.len() != ID_CHARS {
        return None;
    }
    let raw: [u8; 20] = URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
    Some((Incarnation(number(&raw[..8])), number(&raw[8..14]), number(&raw[14..])))
}

/// The id of a record that carries none (a topic that others write): its place in the cluster.
///
/// `topic_id`: the topic's UUID if the broker tells it, else its name; a recreated topic starts again at offset 0, so the
/// record's `timestamp_ms` is part of it.
pub fn foreign_id(topic_id: &str, partition: i32, offset: i64, timestamp_ms: i64) -> [u8; ID_CHARS] {
    // In one piece where it fits: a hash by parts prepares half a KiB of state for each record.
    let (mut place, parts) =
        ([0; PLACE_BYTES], [topic_id.as_bytes(), &partition.to_be_bytes(), &timestamp_ms.to_be_bytes()]);
    let mut end = 0;
    for part in parts {
        if let Some(room) = place.get_mut(end..end + part.len()) {
            room.copy_from_slice(part);
        }
        end += part.len();
    }
    let hash = place.get(..end).map_or_else(|| xxh3_64(&parts.concat()), xxh3_64);
    let mut raw = [0; 20];
    raw[..8].copy_from_slice(&hash.to_be_bytes());
    raw[8..14].copy_from_slice(&offset.to_be_bytes()[2..]);
    raw[14..].copy_from_slice(&timestamp_ms.to_be_bytes()[2..]);
    encode(&raw)
}

fn encode(raw: &[u8; 20]) -> [u8; ID_CHARS] {
    let mut text = [0; ID_CHARS];
    URL_SAFE_NO_PAD.encode_slice(raw, &mut text).expect("20 bytes make 27 characters");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_incarnation_offset_and_content() {
        let one = Incarnation::new("web-01", 42, Some(7), b"first\n", 0);
        let id = document_id(one, 1_000, b"line");
        assert_eq!(id, document_id(one, 1_000, b"line"));
        assert_ne!(id, document_id(one, 1_001, b"line"));
        assert_ne!(id, document_id(one, 1_000, b"Line"));
        for other in [
            Incarnation::new("web-02", 42, Some(7), b"first\n", 0),
            Incarnation::new("web-01", 43, Some(7), b"first\n", 0),
            Incarnation::new("web-01", 42, Some(8), b"first\n", 0),
            Incarnation::new("web-01", 42, Some(7), b"other\n", 0),
            Incarnation::new("web-01", 42, Some(7), b"first\n", 1),
        ] {
            assert_ne!(other, one);
        }
    }

    #[test]
    fn the_form_of_an_id_is_a_contract() {
        // XXH3 of "hello" is 9555e8555c62dcfd. Changing this makes every re-read line a second document: never without a new wire version.
        let id = document_id(Incarnation(0x0123_4567_89ab_cdef), 0x0000_0000_1234, b"hello");
        assert_eq!(std::str::from_utf8(&id), Ok("ASNFZ4mrze8AAAAAEjToVVxi3P0"));
        assert_eq!(id.len(), ID_CHARS);
    }

    #[test]
    fn an_id_tells_what_it_was_made_of() {
        let id = document_id(Incarnation(7), 1 << 40, b"hello");
        let id = std::str::from_utf8(&id).expect("ASCII");
        assert_eq!(parse_document_id(id), Some((Incarnation(7), 1 << 40, content_hash(b"hello"))));
        for other in ["", "own-id", "ASNFZ4mrze8AAAAAEjToVVxi3P+"] {
            assert_eq!(parse_document_id(other), None, "{other}");
        }
    }

    #[test]
    fn a_recreated_topic_makes_other_ids() {
        assert_ne!(foreign_id("logs", 0, 5, 1_000), foreign_id("logs", 0, 5, 2_000));
        assert_ne!(foreign_id("logs", 0, 5, 1_000), foreign_id("logs", 1, 5, 1_000));
    }

    #[test]
    fn the_form_of_a_foreign_id_is_a_contract() {
        let id = |topic: &str| String::from_utf8_lossy(&foreign_id(topic, 3, 0x1234, 1_700_000_000_000)).into_owned();
        assert_eq!(id("logs"), "mfiAOYShIQQAAAAAEjQBi8_laAA");
        assert_eq!(id(&"x".repeat(249)), "jH1sgHv_b8EAAAAAEjQBi8_laAA");
        assert_eq!(id(&"x".repeat(250)), "FilDmxsH2iIAAAAAEjQBi8_laAA");
    }
}
