//! A MaxMind database in memory: an address in, its network and record out. The bytes come from whoever reads files.
//!
//! Specified by the MaxMind DB File Format Specification, version 2.0. Damaged files give errors, never panics.

use event::{Object, Value};
use std::net::IpAddr;

/// What stands in front of the metadata, within the last 128 KiB.
const MARK: &[u8] = b"\xab\xcd\xefMaxMind.com";
const MARK_WITHIN: usize = 128 << 10;
/// Zero bytes between tree and data.
const SEPARATOR: usize = 16;
/// Deepest nesting of a record.
const NESTING_MAX: u32 = 32;
/// Most values of a record: pointers could make it endless.
const VALUES_MAX: u32 = 10_000;

/// A database.
#[derive(Debug)]
pub(crate) struct Database {
    bytes: Vec<u8>,
    nodes: usize,
    record_bits: usize,
    is_v6: bool,
    /// `GeoLite2-City` and its like.
    pub(crate) kind: String,
    /// Node at which the addresses of IPv4 start.
    v4_start: usize,
}

impl Database {
    /// Reads the metadata of `bytes`. Errors: what is wrong with the file.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self, String> {
        let from = bytes.len().saturating_sub(MARK_WITHIN);
        let tail = bytes.get(from..).unwrap_or_default();
        let mark = tail.windows(MARK.len()).rposition(|window| window == MARK).ok_or("it is no MaxMind database")?;
        let start = from + mark + MARK.len();
        let mut left = VALUES_MAX;
        let (metadata, _) =
            Data { bytes: &bytes, base: start }.value(start, 0, &mut left).ok_or("its metadata is damaged")?;
        let Value::Object(metadata) = metadata else { return Err("its metadata is no map".to_owned()) };
        let number = |name: &str| {
            let number = metadata.get(name).and_then(Value::as_i64).and_then(|number| usize::try_from(number).ok());
            number.ok_or_else(|| format!("its metadata has no {name}"))
        };
        let kind = metadata.get("database_type").and_then(Value::as_text).unwrap_or_default().to_owned();
        let (nodes, record_bits) = (number("node_count")?, number("record_size")?);
        if !matches!(record_bits, 24 | 28 | 32) {
            return Err(format!("its record size is {record_bits}, there are 24, 28 and 32"));
        }
        let is_v6 = number("ip_version")? == 6;
        let mut database = Self { bytes, nodes, record_bits, is_v6, kind, v4_start: 0 };
        if database.tree_bytes().is_none_or(|tree| tree + SEPARATOR > start) {
            return Err("it is cut off".to_owned());
        }
        if is_v6 {
            // Addresses of IPv4 stand below 96 zeros.
            for _ in 0..96 {
                if database.v4_start >= database.nodes {
                    break;
                }
                database.v4_start = database.record(database.v4_start, false).ok_or("its tree is damaged")?;
            }
        }
        Ok(database)
    }

    fn tree_bytes(&self) -> Option<usize> {
        self.nodes.checked_mul(self.record_bits / 4)
    }

    /// One side of a node.
    fn record(&self, node: usize, right: bool) -> Option<usize> {
        let size = self.record_bits / 4;
        let bytes = self.bytes.get(node.checked_mul(size)?..)?.get(..size)?;
        let big = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        Some(match (self.record_bits, right) {
            (28, false) => usize::from(bytes[3] >> 4) << 24 | big(&bytes[..3]),
            (28, true) => usize::from(bytes[3] & 15) << 24 | big(&bytes[4..]),
            (_, false) => big(&bytes[..size / 2]),
            (_, true) => big(&bytes[size / 2..]),
        })
    }

    /// The record of `address` and the length of its network's prefix. `Ok(None)` if it has none.
    pub(crate) fn find(&self, address: IpAddr) -> Result<Option<(Object, u8)>, String> {
        let damaged = || format!("the database {} is damaged", self.kind);
        let (bits, width, mut node) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32, self.v4_start),
            IpAddr::V6(_) if !self.is_v6 => return Ok(None),
            IpAddr::V6(address) => (u128::from(address), 128, 0),
        };
        let mut depth = 0_u8;
        while node < self.nodes && depth < width {
            node = self.record(node, bits << depth >> 127 == 1).ok_or_else(damaged)?;
            depth += 1;
        }
        if node <= self.nodes {
            return Ok(None); // The tree says so, or it ends nowhere.
        }
        let base = self.tree_bytes().ok_or_else(damaged)? + SEPARATOR;
        let at = (node - self.nodes).checked_sub(SEPARATOR).ok_or_else(damaged)?;
        let mut left = VALUES_MAX;
        match (Data { bytes: &self.bytes, base }).value(base + at, 0, &mut left) {
            Some((Value::Object(record), _)) => Ok(Some((record, depth))),
            _ => Err(damaged()),
        }
    }
}

/// The data section: where pointers count from.
struct Data<'b> {
    bytes: &'b [u8],
    base: usize,
}

impl Data<'_> {
    fn take(&self, at: usize, count: usize) -> Option<&[u8]> {
        self.bytes.get(at..at.checked_add(count)?)
    }

    fn number(&self, at: usize, count: usize) -> Option<u64> {
        Some(self.take(at, count.min(8))?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// The value at `at` and where the next one starts.
    fn value(&self, at: usize, depth: u32, left: &mut u32) -> Option<(Value, usize)> {
        *left = left.checked_sub(1)?;
        if depth > NESTING_MAX {
            return None;
        }
        let control = *self.bytes.get(at)?;
        let mut at = at + 1;
        let mut kind = control >> 5;
        if kind == 1 {
            return self.pointer(control, at, depth, left);
        }
        if kind == 0 {
            kind = self.bytes.get(at)?.checked_add(7)?;
            at += 1;
        }
        let mut size = usize::from(control & 31);
        if size >= 29 {
            let count = size - 28;
            let base = [29, 285, 65_821][count - 1];
            size = base + self.number(at, count)? as usize;
            at += count;
        }
        let end = at.checked_add(size)?;
        Some(match kind {
            2 => (Value::from(std::str::from_utf8(self.take(at, size)?).ok()?), end),
            3 if size == 8 => (Value::Double(f64::from_bits(self.number(at, 8)?)), end),
            15 if size == 4 => (Value::Float(f32::from_bits(self.number(at, 4)? as u32)), end),
            5 | 6 | 9 => (Value::integer(i64::try_from(self.number(at, size)?).ok()?), end),
            8 => (Value::Int(self.number(at, size)? as u32 as i32), end),
            14 => (Value::Bool(size != 0), at),
            7 => {
                let mut object = Object::new();
                for _ in 0..size {
                    let (Value::Text(key), next) = self.value(at, depth + 1, left)? else { return None };
                    let (value, next) = self.value(next, depth + 1, left)?;
                    object.insert(key, value);
                    at = next;
                }
                (Value::Object(object), at)
            }
            11 => {
                let mut values = Vec::new();
                for _ in 0..size {
                    let (value, next) = self.value(at, depth + 1, left)?;
                    values.push(value);
                    at = next;
                }
                (Value::Array(values), at)
            }
            // Bytes and numbers of 128 bits are in no database that is read here.
            4 | 10 => (Value::Null, end),
            _ => return None,
        })
    }

    fn pointer(&self, control: u8, at: usize, depth: u32, left: &mut u32) -> Option<(Value, usize)> {
        let size = usize::from(control >> 3 & 3) + 1;
        let high = u64::from(control & 7);
        let low = self.number(at, size)?;
        let target = match size {
            1 => high << 8 | low,
            2 => (high << 16 | low) + 2048,
            3 => (high << 24 | low) + 526_336,
            _ => low,
        };
        let (value, _) = self.value(self.base.checked_add(target as usize)?, depth + 1, left)?;
        Some((value, at + size))
    }
}
