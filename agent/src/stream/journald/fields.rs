//! Fields of a journal entry → fields of the document, named as Filebeat's `journald` input names them. Pure.

use super::export::Entry;
use event::Extra;
use serde_json::{Map, Value};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// A whole number; text if it is none.
    Number,
}
use Kind::{Number, Text};

/// Name in the journal, name in the document. Source: Filebeat, `libbeat/reader/.../journaldfield`; systemd.journal-fields(7).
const FIELDS: &[(&str, &str, Kind)] = &[
    ("CODE_FILE", "journald.code.file", Text),
    ("CODE_FUNC", "journald.code.func", Text),
    ("CODE_LINE", "journald.code.line", Number),
    ("CONTAINER_ID", "container.id_truncated", Text),
    ("CONTAINER_ID_FULL", "container.id", Text),
    ("CONTAINER_NAME", "container.name", Text),
    ("CONTAINER_PARTIAL_MESSAGE", "container.partial", Text),
    ("CONTAINER_TAG", "container.log.tag", Text),
    ("COREDUMP_UNIT", "journald.coredump.unit", Text),
    ("COREDUMP_USER_UNIT", "journald.coredump.user_unit", Text),
    ("MESSAGE_ID", "message_id", Text),
    ("OBJECT_PID", "journald.object.pid", Number),
    ("OBJECT_SYSTEMD_UNIT", "journald.object.systemd.unit", Text),
    ("PRIORITY", "syslog.priority", Number),
    ("SYSLOG_FACILITY", "syslog.facility", Number),
    ("SYSLOG_IDENTIFIER", "syslog.identifier", Text),
    ("SYSLOG_PID", "syslog.pid", Number),
    ("_AUDIT_LOGINUID", "journald.audit.login_uid", Number),
    ("_AUDIT_SESSION", "journald.audit.session", Text),
    ("_BOOT_ID", "journald.host.boot_id", Text),
    ("_CAP_EFFECTIVE", "journald.process.capabilities", Text),
    ("_CMDLINE", "process.command_line", Text),
    ("_COMM", "process.name", Text),
    ("_EXE", "process.executable", Text),
    ("_GID", "journald.gid", Number),
    ("_HOSTNAME", "host.hostname", Text),
    ("_KERNEL_DEVICE", "journald.kernel.device", Text),
    ("_KERNEL_SUBSYSTEM", "journald.kernel.subsystem", Text),
    ("_MACHINE_ID", "host.id", Text),
    ("_PID", "process.pid", Number),
    ("_SELINUX_CONTEXT", "journald.process.selinux_context", Text),
    ("_SYSTEMD_CGROUP", "systemd.cgroup", Text),
    ("_SYSTEMD_INVOCATION_ID", "systemd.invocation_id", Text),
    ("_SYSTEMD_OWNER_UID", "systemd.owner_uid", Number),
    ("_SYSTEMD_SESSION", "systemd.session", Text),
    ("_SYSTEMD_SLICE", "systemd.slice", Text),
    ("_SYSTEMD_UNIT", "systemd.unit", Text),
    ("_SYSTEMD_USER_SLICE", "systemd.user_slice", Text),
    ("_SYSTEMD_USER_UNIT", "systemd.user_unit", Text),
    ("_TRANSPORT", "systemd.transport", Text),
    ("_UDEV_DEVLINK", "journald.kernel.device_symlinks", Text),
    ("_UDEV_DEVNODE", "journald.kernel.device_node_path", Text),
    ("_UDEV_SYSNAME", "journald.kernel.device_name", Text),
    ("_UID", "user.id", Text),
];

/// Said elsewhere, or of no use outside the host.
const LEFT_OUT: [&str; 3] = ["MESSAGE", "_SOURCE_REALTIME_TIMESTAMP", "_SOURCE_MONOTONIC_TIMESTAMP"];

/// What stands beside the text of an entry. A field of no known name goes under `journald.custom`; one given several times
/// becomes a list.
pub(super) fn extra(entry: &Entry) -> Box<Extra> {
    let mut root = Map::new();
    for (name, value) in entry.fields.iter().filter(|(name, _)| !name.starts_with("__")) {
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        match FIELDS.binary_search_by_key(&name.as_str(), |(known, ..)| known) {
            Ok(found) => insert(&mut root, FIELDS[found].1, rendered(value, FIELDS[found].2)),
            Err(_) => {
                insert(&mut root, &format!("journald.custom.{}", name.to_ascii_lowercase()), rendered(value, Text))
            }
        }
    }
    let timestamp_ms = entry.get("__REALTIME_TIMESTAMP").and_then(microseconds).map(|us| us / 1_000);
    let without_message = entry.get("MESSAGE").is_none_or(<[u8]>::is_empty);
    Box::new(Extra { fields: Value::Object(root).to_string(), timestamp_ms, overwrite: false, without_message })
}

fn microseconds(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn rendered(value: &[u8], kind: Kind) -> Value {
    let text = String::from_utf8_lossy(value);
    match text.trim().parse::<i64>() {
        Ok(number) if kind == Number => number.into(),
        _ => text.into(),
    }
}

/// Puts `value` under a dotted name. None of the known names lies below another.
fn insert(root: &mut Map<String, Value>, path: &str, value: Value) {
    let (folders, last) = path.rsplit_once('.').map_or(("", path), |(folders, last)| (folders, last));
    let mut at = root;
    for folder in folders.split('.').filter(|folder| !folder.is_empty()) {
        let next = at.entry(folder).or_insert_with(|| Value::Object(Map::new()));
        let Some(next) = next.as_object_mut() else { return };
        at = next;
    }
    match at.get_mut(last) {
        None => drop(at.insert(last.to_owned(), value)),
        Some(Value::Array(values)) => values.push(value),
        Some(slot) => *slot = Value::Array(vec![slot.take(), value]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        Entry { fields, ..Entry::default() }
    }

    #[test]
    fn the_table_is_sorted_and_no_name_lies_below_another() {
        assert!(FIELDS.is_sorted_by_key(|(name, ..)| name));
        for (_, name, _) in FIELDS {
            let below = format!("{name}.");
            assert!(FIELDS.iter().all(|(_, other, _)| !other.starts_with(&below)), "{name}");
        }
    }

    #[test]
    fn an_entry_has_the_names_of_filebeat() {
        let entry = entry(&[
            ("__CURSOR", "s=1"),
            ("__REALTIME_TIMESTAMP", "1795348800123456"),
            ("MESSAGE", "up"),
            ("PRIORITY", "6"),
            ("_PID", "77"),
            ("_SYSTEMD_UNIT", "nginx.service"),
            ("SYSLOG_IDENTIFIER", "nginx"),
            ("_HOSTNAME", "web-01"),
            ("SHOP_ORDER", "1"),
            ("SHOP_ORDER", "2"),
            ("CODE_LINE", "many"),
        ]);
        let extra = extra(&entry);
        let expected = json!({
            "host": {"hostname": "web-01"}, "process": {"pid": 77}, "syslog": {"identifier": "nginx", "priority": 6},
            "systemd": {"unit": "nginx.service"},
            "journald": {"code": {"line": "many"}, "custom": {"shop_order": ["1", "2"]}},
        });
        assert_eq!(serde_json::from_str::<Value>(&extra.fields).expect("is JSON"), expected);
        assert_eq!((extra.timestamp_ms, extra.without_message), (Some(1_795_348_800_123), false));
    }

    #[test]
    fn an_entry_without_a_message_ships_its_fields() {
        assert!(extra(&entry(&[("_PID", "1")])).without_message);
    }
}
