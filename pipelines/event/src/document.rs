//! The document a pipeline works on: values as Elasticsearch's ingest node holds them, read from and written as JSON.
//!
//! Integers are kept apart by width, as Java does (`Int`, `Long`, `Big`), because processors and scripts see the
//! difference. Objects keep the order in which their members came.

mod plain;
mod read;
mod write;

pub use read::{Duplicates, JsonError, KEYS_MAX, NESTING_MAX, NUMBER_CHARS_MAX};
pub use write::write_text;

use compact_str::CompactString;

/// One value of a document.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// Java's `Integer`.
    Int(i32),
    /// Java's `Long`.
    Long(i64),
    /// Java's `BigInteger`: the digits of an integer that does not fit 64 bits, with its sign.
    Big(CompactString),
    /// Java's `Float`: only `convert` and scripts make it.
    Float(f32),
    /// Java's `Double`.
    Double(f64),
    /// A string.
    Text(CompactString),
    /// A list.
    Array(Vec<Value>),
    /// A map.
    Object(Object),
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one of at most 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(i64::from(*number)),
            Self::Long(number) => Some(*number),
            _ => None,
        }
    }

    /// The smallest integer value that holds `number`, as a JSON parser would make it.
    pub fn integer(number: i64) -> Self {
        i32::try_from(number).map_or(Self::Long(number), Self::Int)
    }

    /// The name of its Java class, for error texts that are Elasticsearch's own.
    pub fn java_class(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "java.lang.Boolean",
            Self::Int(_) => "java.lang.Integer",
            Self::Long(_) => "java.lang.Long",
            Self::Big(_) => "java.math.BigInteger",
            Self::Float(_) => "java.lang.Float",
            Self::Double(_) => "java.lang.Double",
            Self::Text(_) => "java.lang.String",
            Self::Array(_) => "java.util.ArrayList",
            Self::Object(_) => "java.util.HashMap",
        }
    }

    /// True if both would be the same JSON value: `1`, `1` as a long and `1.0` are.
    pub fn same_json(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Array(a), Self::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_json(b)),
            (Self::Object(a), Self::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| a.same_json(b)))
            }
            (Self::Big(a), Self::Big(b)) => a == b,
            _ => match (self.as_i64(), other.as_i64()) {
                (Some(a), Some(b)) => a == b,
                _ => match (self.as_f64(), other.as_f64()) {
                    (Some(a), Some(b)) => a == b,
                    _ => self == other,
                },
            },
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(f64::from(*number)),
            Self::Long(number) => Some(*number as f64),
            Self::Big(digits) => digits.parse().ok(),
            // By way of its shortest text: that is what is written, so 0.1 as a float equals 0.1 as a double.
            Self::Float(number) => ryu::Buffer::new().format(*number).parse().ok(),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(CompactString::new(text))
    }
}

impl From<CompactString> for Value {
    fn from(text: CompactString) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(CompactString::from(text))
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

/// Room made for the members of an object with its first one: most objects of a log document have no more.
const FIRST_MEMBERS: usize = 6;

/// The members of a JSON object in the order they came. Look-up is linear: log documents are small.
#[derive(Debug, Clone, Default)]
pub struct Object {
    members: Vec<(CompactString, Value)>,
}

impl Object {
    /// An object without members.
    pub const fn new() -> Self {
        Self { members: Vec::new() }
    }

    /// No members yet, and room for `members`.
    pub fn with_capacity(members: usize) -> Self {
        Self { members: Vec::with_capacity(members) }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.place(key).map(|at| &self.members[at].1)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.place(key).map(|at| &mut self.members[at].1)
    }

    fn place(&self, key: &str) -> Option<usize> {
        let at = self.members.iter().position(|(name, _)| name == key);
        crate::steps::count(at.unwrap_or(self.members.len()) + 1);
        at
    }

    /// True if there is a member `key`, be it null.
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets `key`: in place if it is there, else at the end. Returns what stood there.
    pub fn insert(&mut self, key: impl Into<CompactString> + AsRef<str>, value: impl Into<Value>) -> Option<Value> {
        match self.get_mut(key.as_ref()) {
            Some(old) => Some(std::mem::replace(old, value.into())),
            None => {
                self.push_new(key.into(), value.into());
                None
            }
        }
    }

    /// The value of `key`, which becomes an empty object first if it is missing.
    pub fn object_at(&mut self, key: &str) -> &mut Value {
        let at = self.place(key).unwrap_or_else(|| {
            self.push_new(CompactString::new(key), Value::Object(Self::new()));
            self.members.len() - 1
        });
        &mut self.members[at].1
    }

    /// Takes `key` out; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.place(key)?;
        Some(self.members.remove(at).1)
    }

    /// Keeps the members for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.members.retain_mut(|(key, value)| keep(key, value));
    }

    /// The members in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.members.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The members in order, values to be changed.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Value)> {
        self.members.iter_mut().map(|(key, value)| (key.as_str(), value))
    }

    /// Adds a member that is known to be new.
    fn push_new(&mut self, key: CompactString, value: Value) {
        if self.members.capacity() == 0 {
            self.members.reserve_exact(FIRST_MEMBERS);
        }
        self.members.push((key, value));
    }
}

/// Equal if they have the same members in any order.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl IntoIterator for Object {
    type Item = (CompactString, Value);
    type IntoIter = std::vec::IntoIter<(CompactString, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.into_iter()
    }
}

impl FromIterator<(CompactString, Value)> for Object {
    fn from_iter<T: IntoIterator<Item = (CompactString, Value)>>(members: T) -> Self {
        let mut object = Self::new();
        for (key, value) in members {
            object.insert(key, value);
        }
        object
    }
}

/// What a pipeline knows of a document beside its source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// `_index`, `_id`, `_routing`, `_version`, `_version_type`, … as processors see and set them.
    pub fields: Object,
    /// `_ingest.…`: `timestamp`, and while failures are handled `on_failure_message` and its like.
    pub ingest: Object,
    /// Pipeline asked for by the record (`@metadata.pipeline`).
    pub pipeline: Option<CompactString>,
}

impl Metadata {
    /// The index the document goes to, if one is set.
    pub fn index(&self) -> Option<&str> {
        self.fields.get("_index").and_then(Value::as_text)
    }

    /// The document id, if one is set.
    pub fn id(&self) -> Option<&str> {
        self.fields.get("_id").and_then(Value::as_text)
    }

    /// The routing value, if one is set.
    pub fn routing(&self) -> Option<&str> {
        self.fields.get("_routing").and_then(Value::as_text)
    }
}

/// A document on its way through a pipeline. Fields are reached by [`crate::FieldPath`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    /// What becomes `_source`.
    pub source: Object,
    /// What stands beside it.
    pub metadata: Metadata,
}

impl Event {
    /// An event with this source and no metadata.
    pub fn new(source: Object) -> Self {
        Self { source, metadata: Metadata::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_its_order_and_its_places() {
        let mut object = Object::new();
        object.insert("b", "1");
        object.insert("a", "2");
        assert_eq!(object.insert("b", "3"), Some("1".into()));
        assert_eq!(object.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(object.remove("b"), Some("3".into()));
        assert_eq!(object.remove("b"), None);
        assert_eq!(object.len(), 1);
    }

    #[test]
    fn numbers_are_the_same_json_whatever_their_width() {
        assert!(Value::Int(1).same_json(&Value::Double(1.0)));
        assert!(Value::Float(0.1).same_json(&Value::Double(0.1)));
        assert!(!Value::Long(i64::MAX).same_json(&Value::Long(i64::MAX - 1)));
        assert!(!Value::Int(1).same_json(&"1".into()));
    }
}
