//! Filebeat's registry → what it says of files.
//!
//! The format is that of libbeat's `memlog` store, version 1, as Filebeat 7.9 to 9 writes it, and is read as Filebeat reads
//! it: the checkpoint `N.json` with the highest number (an array of entries, each with its `_key`), then the operations of
//! `log.json` that follow it: two lines each, `{"op","id"}` and `{"k","v"}`, whose ids have no gaps. What follows a damaged
//! operation is not used. `active.dat` only repeats the name of the checkpoint, and is not read by Filebeat either.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The store's version that is read.
const VERSION: &str = "1";
/// Keys of the `log` input begin with it.
const LOGS: &str = "filebeat::logs::";
/// Keys of the `filestream` input begin with it.
const FILESTREAM: &str = "filestream::";

/// What is in a registry.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Sorted by path and key.
    pub(crate) entries: Vec<Entry>,
    /// Keys of other inputs than files.
    pub(crate) others: Vec<String>,
    /// What could not be read, with path and byte.
    pub(crate) damage: Vec<String>,
}

/// How far a file was shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the file was last seen.
    pub(crate) source: String,
    /// `None`: nothing of it is acknowledged.
    pub(crate) offset: Option<u64>,
    /// -1: for ever. 0 and -2: let go of.
    pub(crate) ttl: i64,
    /// When the entry was last written, in seconds since 1970.
    pub(crate) updated_s: Option<u64>,
    pub(crate) identity: Identity,
}

/// By what Filebeat knew the file again. YAML there: `file_identity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Inode and device.
    Native {
        inode: u64,
        device: u64,
    },
    InodeMarker {
        inode: u64,
    },
    Path,
    /// SHA-256 of a piece of the file's start, in hexadecimal; of a file too short for it, since 9.5, SHA-256 of the
    /// hexadecimal digits of what there was.
    Fingerprint(String),
    /// Another, or one that could not be read.
    Unknown,
}

#[derive(Deserialize)]
struct Action {
    op: String,
    id: u64,
}

/// The registry in `folder`: either the store itself or the folder above it (`registry/filebeat` or `registry`).
///
/// Errors: no registry there, one of another version, or a damaged checkpoint.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Registry> {
    let folder = store_in(folder)?;
    let (mut values, mut last) = (BTreeMap::new(), 0);
    if let Some((number, path)) = newest_checkpoint(&folder)? {
        last = number;
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let entries: Vec<Map<String, Value>> =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
        for mut entry in entries {
            if let Some(Value::String(key)) = entry.remove("_key") {
                values.insert(key, Value::Object(entry));
            }
        }
    }
    let mut registry = Registry::default();
    let log = folder.join("log.json");
    match fs::read(&log) {
        Ok(bytes) => registry.damage.extend(
            replay(&bytes, last, &mut values)
                .map(|(at, what)| format!("{}: {what} at byte {at}, the rest is not used", log.display())),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", log.display())),
    }
    for (key, value) in values {
        match entry(&key, &value) {
            Some(entry) => registry.entries.push(entry),
            None => registry.others.push(key),
        }
    }
    registry.entries.sort_by(|a, b| (&a.source, &a.key).cmp(&(&b.source, &b.key)));
    Ok(registry)
}

/// True if a Filebeat runs on the registry in `folder`: it holds `filebeat.lock` in its data folder.
pub(crate) fn is_running(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let locks = folder.ancestors().skip(1).take(2).filter_map(|data| File::open(data.join("filebeat.lock")).ok());
    locks.into_iter().any(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn store_in(folder: &Path) -> anyhow::Result<PathBuf> {
    for at in [folder.to_owned(), folder.join("filebeat")] {
        if at.join("log.json").exists() || newest_checkpoint(&at).is_ok_and(|found| found.is_some()) {
            let meta = at.join("meta.json");
            let version = fs::read(&meta).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            let version = version.as_ref().and_then(|meta| meta["version"].as_str());
            if version.is_some_and(|version| version != VERSION) {
                bail!(
                    "{}: version {}, this program reads version {VERSION} (Filebeat 7.9 to 9)",
                    meta.display(),
                    version.unwrap_or_default()
                );
            }
            return Ok(at);
        }
    }
    bail!(
        "there is no Filebeat registry in {} (no log.json and no N.json); give its `path.data` with /registry/filebeat. \
         Filebeat before 7.9 wrote another form: start a newer one once, it converts it",
        folder.display()
    );
}

fn newest_checkpoint(folder: &Path) -> anyhow::Result<Option<(u64, PathBuf)>> {
    let mut newest = None;
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
        newest = newest.max(number.map(|number: u64| (number, path)));
    }
    Ok(newest)
}

/// Applies the operations after `last`; the byte and the kind of the damage that ended it, if any.
fn replay(bytes: &[u8], mut last: u64, values: &mut BTreeMap<String, Value>) -> Option<(usize, String)> {
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    loop {
        let at = stream.byte_offset();
        let action = match stream.next()? {
            Ok(value) => Action::deserialize(value),
            Err(error) => Err(error),
        };
        let action = match action {
            Ok(action) => action,
            Err(error) => return Some((at, format!("not an operation ({error})"))),
        };
        let Some(Ok(Value::Object(mut change))) = stream.next() else {
            return Some((at, format!("operation {} is not complete", action.id)));
        };
        if action.id <= last {
            continue; // Older than the checkpoint: the log was not emptied after it.
        }
        if action.id != last + 1 {
            return Some((at, format!("operation {} where {} should be", action.id, last + 1)));
        }
        last = action.id;
        let Some(Value::String(key)) = change.remove("k").or_else(|| change.remove("K")) else {
            return Some((at, format!("operation {last} has no key")));
        };
        match action.op.as_str() {
            "set" => {
                let value = change.remove("v").or_else(|| change.remove("V"));
                values.insert(key, value.unwrap_or_default());
            }
            "remove" => drop(values.remove(&key)),
            other => return Some((at, format!("operation {last} is {other:?}"))),
        }
    }
}

/// `None` if it does not speak of a file.
fn entry(key: &str, value: &Value) -> Option<Entry> {
    let (meta, offset, updated) = if key.starts_with(FILESTREAM) {
        (&value["meta"], &value["cursor"]["offset"], &value["updated"])
    } else if key.starts_with(LOGS) {
        (value, &value["offset"], &value["timestamp"])
    } else {
        return None;
    };
    let source = meta["source"].as_str()?.to_owned();
    // A time is two numbers, the second in seconds since 1970; the year 1 stands for "never".
    let updated_s = updated[1].as_u64().filter(|seconds| i64::try_from(*seconds).is_ok());
    let identity = identity(key, meta).unwrap_or(Identity::Unknown);
    Some(Entry {
        key: key.to_owned(),
        source,
        offset: offset.as_u64(),
        ttl: value["ttl"].as_i64().unwrap_or(-1),
        updated_s,
        identity,
    })
}

/// What stands behind the identity's name in the key: `filestream::ID::native::INODE-DEVICE`, with `-stdout` and the like.
fn identity(key: &str, meta: &Value) -> Option<Identity> {
    // Filebeat before 7.10 has no name, and knows files by inode and device.
    let name = meta["identifier_name"].as_str().unwrap_or("native");
    let (_, of) = key.rsplit_once(&format!("{name}::")).unwrap_or_default();
    let numbers: Vec<u64> = of.split('-').map_while(|number| number.parse().ok()).collect();
    match name {
        "native" => match (numbers[..].first_chunk(), &meta["FileStateOS"]) {
            (_, Value::Object(os)) => {
                Some(Identity::Native { inode: os.get("inode")?.as_u64()?, device: os.get("device")?.as_u64()? })
            }
            (Some(&[inode, device]), _) => Some(Identity::Native { inode, device }),
            (None, _) => None,
        },
        "inode_marker" => numbers.first().map(|&inode| Identity::InodeMarker { inode }),
        "path" => Some(Identity::Path),
        "fingerprint" => Some(Identity::Fingerprint(of.get(..64)?.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "filestream::my::app::native::11-22";

    fn set(id: u64, key: &str, offset: u64) -> String {
        format!(
            "{{\"op\":\"set\",\"id\":{id}}}\n{{\"k\":{key:?},\"v\":{{\"ttl\":-1,\"updated\":[5,1700000000],\"cursor\":\
             {{\"offset\":{offset}}},\"meta\":{{\"source\":\"/a.log\",\"identifier_name\":\"native\"}}}}}}\n"
        )
    }

    /// Keys and offsets of a registry of these files, and its damage.
    #[track_caller]
    fn check(files: &[(&str, &str)], entries: &[(&str, u64)], damage: &str) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, content) in files {
            fs::write(folder.path().join(name), content).expect("written");
        }
        let registry = read(folder.path()).expect("readable");
        let found: Vec<_> = registry.entries.iter().map(|e| (e.key.as_str(), e.offset.unwrap_or(u64::MAX))).collect();
        assert_eq!(found, entries);
        assert_eq!(registry.damage.is_empty(), damage.is_empty(), "{:?}", registry.damage);
        assert!(registry.damage.concat().contains(damage), "{:?}", registry.damage);
    }

    fn stored(key: &str, offset: u64) -> String {
        let operation = set(1, key, offset);
        let value = operation.lines().nth(1).and_then(|line| line.split_once("\"v\":{")).expect("a set").1;
        format!("{{\"_key\":{key:?},{}", value.strip_suffix('}').expect("two braces"))
    }

    #[test]
    fn operations_follow_the_newest_checkpoint() {
        let b = A.replace("11-22", "33-22");
        let remove = format!("{{\"op\":\"remove\",\"id\":3}}\n{{\"k\":{b:?}}}\n");
        check(&[("log.json", &(set(1, A, 5) + &set(2, &b, 6)))], &[(A, 5), (&b, 6)], "");
        check(&[("log.json", &(set(1, A, 5) + &set(2, &b, 6) + &remove))], &[(A, 5)], "");
        let (old, new) = (format!("[{}]", stored(A, 1)), format!("[\n{},\n{}\n]", stored(A, 7), stored(&b, 8)));
        check(&[("9.json", &old), ("10.json", &new), ("meta.json", "{\"version\":\"1\"}")], &[(A, 7), (&b, 8)], "");
        // Operations older than the checkpoint are in it.
        let log = set(9, A, 3) + &set(10, A, 4) + &set(11, A, 9);
        check(&[("10.json", &new), ("log.json", &log)], &[(A, 9), (&b, 8)], "");
    }

    #[test]
    fn what_follows_damage_is_not_used() {
        let (first, second) = (set(1, A, 5), set(2, A, 6));
        let log = format!("{first}{second}");
        for length in first.len() + 1..log.len() - 2 {
            check(&[("log.json", &log.chars().take(length).collect::<String>())], &[(A, 5)], "log.json: ");
        }
        check(&[("log.json", &format!("{first}{second}"))], &[(A, 6)], "");
        check(&[("log.json", &(first.clone() + &set(3, A, 6)))], &[(A, 5)], "operation 3 where 2 should be");
        check(&[("log.json", &format!("{first}\0\0\0\0"))], &[(A, 5)], "not an operation");
        check(&[("log.json", &second)], &[], "operation 2 where 1 should be at byte 0");
    }

    #[test]
    fn what_is_no_registry_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let refused = || format!("{:#}", read(folder.path()).expect_err("is none"));
        assert!(refused().contains("no Filebeat registry in"), "{}", refused());
        fs::create_dir(folder.path().join("filebeat")).expect("made");
        fs::write(folder.path().join("filebeat/1.json"), "[{\"_key\":").expect("written");
        assert!(refused().contains("1.json is damaged"), "{}", refused());
        fs::write(folder.path().join("filebeat/meta.json"), "{\"version\":\"0\"}").expect("written");
        assert!(refused().contains("version 0"), "{}", refused());
    }

    #[test]
    fn every_identity_is_understood() {
        let check = |key: &str, value: &str, identity: Option<Identity>| {
            let value = serde_json::from_str(value).expect("JSON");
            assert_eq!(entry(key, &value).map(|entry| entry.identity), identity, "{key}");
        };
        let meta = |name: &str| format!("{{\"meta\":{{\"source\":\"/a\",\"identifier_name\":{name:?}}}}}");
        let native = Some(Identity::Native { inode: 11, device: 22 });
        check(A, &meta("native"), native.clone());
        check("filestream::x::native::11-22-stdout", &meta("native"), native.clone());
        check(
            "filestream::x::inode_marker::11-of-this-disk",
            &meta("inode_marker"),
            Some(Identity::InodeMarker { inode: 11 }),
        );
        check("filestream::x::path::/a", &meta("path"), Some(Identity::Path));
        let hash = "0f".repeat(32);
        let fingerprint = format!("filestream::x::fingerprint::{hash}-stderr");
        check(&fingerprint, &meta("fingerprint"), Some(Identity::Fingerprint(hash)));
        check("filestream::x::fingerprint::short", &meta("fingerprint"), Some(Identity::Unknown));
        let log = r#"{"source":"/a","offset":3,"FileStateOS":{"inode":11,"device":22},"identifier_name":"native"}"#;
        check("filebeat::logs::native::11-22", log, native.clone());
        check("filebeat::logs::1b59052b95e61943-native::11-22", log, native.clone());
        check("filebeat::logs::native::11-22", &log.replace(",\"identifier_name\":\"native\"", ""), native);
        check("journald::x", "{}", None);
        check("filestream::x::native::1-2", "{\"meta\":null}", None);
    }
}
