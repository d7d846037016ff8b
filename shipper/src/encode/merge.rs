//! Fields of a parser + the envelope, where both have a member of the same name. The slow way: rare, and right.

use event::{Extra, members};
use serde_json::{Map, Value};

/// The envelope's members, with those that a file itself may have.
const ENVELOPE: &[&[u8]] = &[
    b"@metadata",
    b"@timestamp",
    b"agent",
    b"container",
    b"ecs",
    b"fields",
    b"host",
    b"input",
    b"kubernetes",
    b"log",
    b"message",
    b"orchestrator",
    b"tags",
];

/// True if the fields cannot simply be written behind the envelope: a name may stand in both.
pub(super) fn collides(extra: &Extra) -> bool {
    if extra.fields.trim_ascii().is_empty() {
        return false;
    }
    let is_taken = |name: &[u8]| ENVELOPE.contains(&name) && !(name == b"message" && extra.without_message);
    let mut collides = false;
    // A name with an escape may be any name.
    let is_whole = members(extra.fields.as_bytes(), |name, _| collides |= is_taken(name) || name.contains(&b'\\'));
    collides || !is_whole
}

/// The fields as they stand between the braces of their object.
pub(super) fn inner(extra: &Extra) -> &str {
    let fields = extra.fields.trim_ascii();
    fields.strip_prefix('{').and_then(|fields| fields.strip_suffix('}')).unwrap_or_default().trim_ascii()
}

/// What came of a merge.
pub(super) struct Merged {
    /// The fields have a `message` of their own.
    pub(super) has_message: bool,
}

/// Merges the fields into the payload that stands in `out` from `start` on. `None` if the fields are no JSON.
pub(super) fn merge(extra: &Extra, start: usize, out: &mut Vec<u8>) -> Option<Merged> {
    let mut fields = serde_json::from_str::<Map<String, Value>>(&extra.fields).ok()?;
    let mut payload = serde_json::from_slice::<Map<String, Value>>(&out[start..]).ok()?;
    fields.remove("@metadata"); // What the agent knows of the record.
    let has_message = fields.contains_key("message");
    update(&mut payload, fields, extra.overwrite);
    out.truncate(start);
    serde_json::to_writer(out, &payload).expect("writing to memory");
    Some(Merged { has_message })
}

/// Objects are merged at every depth; of two other values `overwrite` says which one stands.
fn update(at: &mut Map<String, Value>, fields: Map<String, Value>, overwrite: bool) {
    for (name, value) in fields {
        match (at.get_mut(&name), value) {
            (None, value) => {
                at.insert(name, value);
            }
            (Some(Value::Object(inner)), Value::Object(fields)) => update(inner, fields, overwrite),
            (Some(slot), value) if overwrite => *slot = value,
            (Some(_), _) => {}
        }
    }
}
