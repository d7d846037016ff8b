//! The journal's export format → entries. Pure.
//!
//! Lines `NAME=value`; a field with bytes that are no text as `NAME`, a newline, its length in eight bytes (little endian),
//! the bytes, a newline; an empty line ends an entry. A field is kept up to a limit, the rest of it is counted and passed.
//! Source: systemd.io/JOURNAL_EXPORT_FORMATS.

/// Longest name of a field. Source: `VALID_FIELD` of systemd, 64 characters.
const NAME_BYTES_MAX: usize = 64;
/// Most fields of an entry that are kept. Source: systemd's `ENTRY_FIELD_COUNT_MAX`, 1024.
const FIELDS_MAX: usize = 1024;
/// Longest value that is kept of any field but `MESSAGE`: an index takes no longer keyword.
const FIELD_BYTES_MAX: usize = 32 * 1024;
/// Most that is kept of all fields but `MESSAGE`: an entry may hold hundreds of megabytes, of a core dump for one.
const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// Longest cursor and the like.
const ADDRESS_BYTES_MAX: usize = 1024;

/// One entry of the journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Names and values, in order.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    /// Bytes of the export that it took.
    pub(super) bytes: u64,
    /// Bytes cut off its `MESSAGE`.
    pub(super) cut: u64,
}

impl Entry {
    /// The first value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// Reads one export.
#[derive(Debug)]
pub(super) struct Export {
    message_bytes_max: usize,
    entry: Entry,
    /// Bytes kept of the entry's fields but `MESSAGE`.
    kept: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// In the name of a field, or at the empty line that ends an entry.
    Name(Vec<u8>),
    /// In a value that ends with its line.
    Text { name: Vec<u8>, value: Vec<u8>, cut: u64 },
    /// In the length of a value.
    Length { name: Vec<u8>, length: Vec<u8> },
    /// In a value of which `left` bytes and a newline are to come.
    Binary { name: Vec<u8>, value: Vec<u8>, left: u64, cut: u64 },
}

impl Export {
    /// Unit: `message_bytes_max` of a `MESSAGE`.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, entry: Entry::default(), kept: 0, state: State::Name(Vec::new()) }
    }

    /// Takes the next bytes and gives each entry that is complete to `each`. What is left of an entry when the export ends is
    /// dropped with `self`: it is read again at the cursor.
    pub(super) fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Entry)) {
        while !bytes.is_empty() {
            let (used, is_end) = self.step(bytes);
            self.entry.bytes += used as u64;
            bytes = &bytes[used..];
            if is_end && !self.entry.fields.is_empty() {
                self.kept = 0;
                each(std::mem::take(&mut self.entry));
            }
        }
    }

    /// Goes on in the state; returns how much of `bytes` is done with, and whether the entry ends there.
    fn step(&mut self, bytes: &[u8]) -> (usize, bool) {
        match std::mem::replace(&mut self.state, State::Name(Vec::new())) {
            State::Name(mut name) => {
                let end = memchr::memchr2(b'=', b'\n', bytes);
                let part = &bytes[..end.unwrap_or(bytes.len())];
                name.extend_from_slice(&part[..part.len().min((NAME_BYTES_MAX + 1).saturating_sub(name.len()))]);
                let is_end = end == Some(0) && bytes[0] == b'\n' && name.is_empty();
                match end.map(|end| bytes[end]) {
                    None => self.state = State::Name(name),
                    Some(b'=') => self.state = State::Text { name, value: Vec::new(), cut: 0 },
                    Some(_) if is_end => {}
                    Some(_) => self.state = State::Length { name, length: Vec::new() },
                }
                (end.map_or(bytes.len(), |end| end + 1), is_end)
            }
            State::Text { name, mut value, mut cut } => {
                let end = memchr::memchr(b'\n', bytes);
                cut += keep(&mut value, &bytes[..end.unwrap_or(bytes.len())], self.limit(&name));
                match end {
                    None => self.state = State::Text { name, value, cut },
                    Some(_) => self.add(&name, value, cut),
                }
                (end.map_or(bytes.len(), |end| end + 1), false)
            }
            State::Length { name, mut length } => {
                let used = (8 - length.len()).min(bytes.len());
                length.extend_from_slice(&bytes[..used]);
                self.state = match <[u8; 8]>::try_from(&*length) {
                    Ok(length) => State::Binary { name, value: Vec::new(), left: u64::from_le_bytes(length), cut: 0 },
                    Err(_) => State::Length { name, length },
                };
                (used, false)
            }
            State::Binary { name, value, left: 0, cut } => {
                self.add(&name, value, cut);
                (usize::from(bytes[0] == b'\n'), false)
            }
            State::Binary { name, mut value, left, mut cut } => {
                let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                cut += keep(&mut value, &bytes[..used], self.limit(&name));
                self.state = State::Binary { name, value, left: left - used as u64, cut };
                (used, false)
            }
        }
    }

    /// How much of a value is kept.
    fn limit(&self, name: &[u8]) -> usize {
        match name {
            b"MESSAGE" => self.message_bytes_max,
            [b'_', b'_', ..] => ADDRESS_BYTES_MAX,
            _ => FIELD_BYTES_MAX.min(ENTRY_BYTES_MAX - self.kept.min(ENTRY_BYTES_MAX)),
        }
    }

    fn add(&mut self, name: &[u8], value: Vec<u8>, cut: u64) {
        if name == b"MESSAGE" {
            self.entry.cut += cut;
        } else {
            self.kept += value.len();
        }
        if self.entry.fields.len() < FIELDS_MAX && name.len() <= NAME_BYTES_MAX && !name.is_empty() {
            self.entry.fields.push((String::from_utf8_lossy(name).into_owned(), value));
        }
    }
}

/// Appends `part` to `value` up to `max` bytes and returns how many are left out.
fn keep(value: &mut Vec<u8>, part: &[u8], max: usize) -> u64 {
    let kept = part.len().min(max.saturating_sub(value.len()));
    value.extend_from_slice(&part[..kept]);
    (part.len() - kept) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(max: usize, input: &[u8], step: usize) -> Vec<Entry> {
        let (mut export, mut entries) = (Export::new(max), Vec::new());
        input.chunks(step).for_each(|piece| export.push(piece, &mut |entry| entries.push(entry)));
        entries
    }

    fn binary(name: &str, value: &[u8]) -> Vec<u8> {
        [name.as_bytes(), b"\n", &(value.len() as u64).to_le_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn text_and_binary_fields_are_read_in_any_pieces() {
        let mut input = b"__CURSOR=s=1;i=2\nMESSAGE=a=b\n".to_vec();
        input.extend(binary("DATA", b"x\n\ny\0"));
        input.extend(binary("EMPTY", b""));
        input.extend(b"\n\nMESSAGE=second\nLAST=\n\nMESSAGE=cut off");
        for step in [1, 2, 5, 1_000] {
            let got = entries(100, &input, step);
            assert_eq!(got.len(), 2, "in steps of {step}");
            assert_eq!(got[0].get("MESSAGE"), Some(&b"a=b"[..]));
            assert_eq!(got[0].get("DATA"), Some(&b"x\n\ny\0"[..]));
            assert_eq!(got[0].get("EMPTY"), Some(&b""[..]));
            assert_eq!(got[0].get("__CURSOR"), Some(&b"s=1;i=2"[..]));
            assert_eq!(got[1].fields, [("MESSAGE".into(), b"second".to_vec()), ("LAST".into(), Vec::new())]);
            let bytes = got.iter().map(|entry| entry.bytes).sum::<u64>();
            assert_eq!(bytes, (input.len() - "MESSAGE=cut off".len()) as u64, "every byte is accounted for");
        }
    }

    #[test]
    fn a_huge_field_is_kept_up_to_the_limit() {
        let mut input = binary("COREDUMP", &[b'x'; 100_000]);
        input.extend(format!("MESSAGE={}\n__CURSOR=c\n\n", "m".repeat(1_000)).as_bytes());
        let got = entries(100, &input, 4_096);
        assert_eq!(
            (got[0].get("COREDUMP").map(<[u8]>::len), got[0].get("MESSAGE").map(<[u8]>::len)),
            (Some(FIELD_BYTES_MAX), Some(100))
        );
        assert_eq!((got[0].cut, got[0].get("__CURSOR")), (900, Some(&b"c"[..])));
    }

    #[test]
    fn a_length_beyond_all_bounds_takes_no_memory() {
        let mut export = Export::new(10);
        export.push(b"A\n\xff\xff\xff\xff\xff\xff\xff\xff", &mut |_| panic!("no entry has ended"));
        export.push(&[b'x'; 100_000], &mut |_| panic!("no entry has ended"));
        assert!(matches!(&export.state, State::Binary { value, .. } if value.len() == FIELD_BYTES_MAX));
    }

    proptest! {
        /// Any bytes, in any pieces: no panic, and the same entries.
        #[test]
        fn any_bytes_are_read(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'='), Just(0), any::<u8>()], 0..300), step in 1_usize..40,
        ) {
            let got = entries(20, &input, step);
            prop_assert_eq!(got, entries(20, &input, 1_000));
        }
    }
}
