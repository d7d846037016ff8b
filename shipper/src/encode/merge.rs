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
    let is_taken = |name: &[u8]| ENVELOPE.contains(&name) && !(name == b"message" && extra.without_message);
    let mut collides = false;
    // A name with an escape may be any name.
    let is_whole = members(extra.fields.as_bytes(), |name, _| collides |= is_taken(name) || name.contains(&b'\\'));
    collides || !is_whole
}

/// Merges the fields into the payload that stands in `out` from `start` on. False if the fields are no JSON.
pub(super) fn merge(extra: &Extra, start: usize, out: &mut Vec<u8>) -> bool {
    let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(&extra.fields) else { return false };
    let Ok(mut payload) = serde_json::from_slice::<Map<String, Value>>(&out[start..]) else { return false };
    fields.remove("@metadata"); // What the agent knows of the record.
    update(&mut payload, fields, extra.overwrite);
    out.truncate(start);
    serde_json::to_writer(out, &payload).expect("writing to memory");
    true
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
