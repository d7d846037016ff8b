//! Field paths: `a.b.0.c` parsed once, then followed through a document.
//!
//! Rules and error texts are those of Elasticsearch's `IngestDocument`: a list element is named by its index, `_ingest.`
//! leads to the ingest metadata, a leading `_source.` is dropped, and `_index`, `_id`, `_routing`, `_version`,
//! `_version_type` are the document's metadata. Setting makes the objects that are missing on the way.

use crate::document::{Event, KEYS_MAX, NESTING_MAX, Object, Value};
use compact_str::CompactString;

/// Most members that an object gets by [`Event::set`]: those it may have come with, and as many again. Look-up is linear,
/// so this bounds the time; no search node takes a document with so many fields.
pub const MEMBERS_MAX: usize = 2 * KEYS_MAX;

/// First elements that name metadata instead of a field of the source.
const METADATA: &[&str] =
    &["_index", "_id", "_routing", "_version", "_version_type", "_if_seq_no", "_if_primary_term", "_type", "_parent"];

/// True if `name` at the start of a path names metadata of the document, such as `_index`.
pub fn is_metadata(name: &str) -> bool {
    METADATA.contains(&name)
}

/// Where a field stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldPath {
    text: CompactString,
    root: Root,
    elements: Vec<Element>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Root {
    Source,
    Metadata,
    Ingest,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Element {
    key: CompactString,
    /// The key as Java's `Integer.parseInt` reads it.
    index: Option<i32>,
}

/// Why a path does not lead where it should. The texts are Elasticsearch's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No path at all.
    #[error("path cannot be null nor empty")]
    Empty,
    /// Nothing but dots, or only a prefix.
    #[error("path [{0}] is not valid")]
    Invalid(String),
    /// More names than objects may be nested; of what has that many the number is told. There is no such error in
    /// Elasticsearch, whose mapping ends sooner.
    #[error("a path of {0} names is longer than the {NESTING_MAX} that objects may be nested")]
    TooDeep(usize),
    /// An object has so many members that it gets no other one.
    #[error("an object has {MEMBERS_MAX} fields and gets no more, as part of path [{0}]")]
    Full(String),
    /// An object on the way has no such member.
    #[error("field [{key}] not present as part of path [{path}]")]
    Missing {
        /// The member that is missing.
        key: String,
        /// The whole path.
        path: String,
    },
    /// A list was met and the element is no number.
    #[error("[{key}] is not an integer, cannot be used as an index as part of path [{path}]")]
    NoIndex {
        /// The element that should be an index.
        key: String,
        /// The whole path.
        path: String,
    },
    /// A list was met that is too short.
    #[error("[{index}] is out of bounds for array with length [{length}] as part of path [{path}]")]
    OutOfBounds {
        /// The index asked for.
        index: i32,
        /// The list's length.
        length: usize,
        /// The whole path.
        path: String,
    },
    /// Something was met that has no members. `action` is `cannot resolve [x] from …` and its like.
    #[error("cannot {action} as part of path [{path}]")]
    NoMembers {
        /// What could not be done, with the type that was met.
        action: String,
        /// The whole path.
        path: String,
    },
}

impl FieldPath {
    /// Parses `path`.
    ///
    /// Errors: empty, nothing but dots, or more than [`NESTING_MAX`] names: a path may come out of a line, and what it
    /// makes is written and let go of by functions that call themselves.
    pub fn new(path: &str) -> Result<Self, PathError> {
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        let (mut root, rest) = match path.strip_prefix("_ingest.") {
            Some(rest) => (Root::Ingest, rest),
            None => (Root::Source, path.strip_prefix("_source.").unwrap_or(path)),
        };
        if rest.trim_matches('.').is_empty() {
            return Err(PathError::Invalid(path.to_owned()));
        }
        let names = rest.trim_end_matches('.').split('.'); // As Java's split does.
        let count = names.clone().count();
        if count > NESTING_MAX {
            return Err(PathError::TooDeep(count));
        }
        let elements: Vec<_> = names.map(Element::new).collect();
        if root == Root::Source && is_metadata(&elements[0].key) {
            root = Root::Metadata;
        }
        Ok(Self { text: CompactString::new(path), root, elements })
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if it leads into `_ingest`.
    pub fn is_ingest(&self) -> bool {
        self.root == Root::Ingest
    }

    /// True if it names metadata: `_index` and its like.
    pub fn is_metadata(&self) -> bool {
        self.root == Root::Metadata
    }

    fn start<'e>(&self, event: &'e Event) -> &'e Object {
        match self.root {
            Root::Source => &event.source,
            Root::Metadata => &event.metadata.fields,
            Root::Ingest => &event.metadata.ingest,
        }
    }

    fn start_mut<'e>(&self, event: &'e mut Event) -> &'e mut Object {
        match self.root {
            Root::Source => &mut event.source,
            Root::Metadata => &mut event.metadata.fields,
            Root::Ingest => &mut event.metadata.ingest,
        }
    }

    /// The elements: the first, those between, the last. With one element the first is the last.
    fn first_rest(&self) -> (&Element, &[Element]) {
        self.elements.split_first().expect("a parsed path has an element")
    }

    /// Errors: `element` would be one more than `object` may have.
    fn has_room(&self, object: &Object, element: &Element) -> Result<(), PathError> {
        match object.len() >= MEMBERS_MAX && !object.contains(&element.key) {
            true => Err(PathError::Full(self.text.to_string())),
            false => Ok(()),
        }
    }

    fn missing(&self, element: &Element) -> PathError {
        PathError::Missing { key: element.key.to_string(), path: self.text.to_string() }
    }

    fn no_members(&self, action: String) -> PathError {
        PathError::NoMembers { action, path: self.text.to_string() }
    }

    fn index(&self, element: &Element, length: usize) -> Result<usize, PathError> {
        let path = || self.text.to_string();
        let index = element.index.ok_or_else(|| PathError::NoIndex { key: element.key.to_string(), path: path() })?;
        match usize::try_from(index) {
            Ok(at) if at < length => Ok(at),
            _ => Err(PathError::OutOfBounds { index, length, path: path() }),
        }
    }

    fn cannot_resolve(&self, element: &Element, value: &Value) -> PathError {
        self.no_members(match value {
            Value::Null => format!("resolve [{}] from null", element.key),
            other => format!("resolve [{}] from object of type [{}]", element.key, other.java_class()),
        })
    }

    fn cannot_set(&self, element: &Element, parent: &Value) -> PathError {
        self.no_members(match parent {
            Value::Null => format!("set [{}] with null parent", element.key),
            other => format!("set [{}] with parent object of type [{}]", element.key, other.java_class()),
        })
    }

    fn step<'v>(&self, value: &'v Value, element: &Element) -> Result<&'v Value, PathError> {
        match value {
            Value::Object(object) => object.get(&element.key).ok_or_else(|| self.missing(element)),
            Value::Array(array) => self.index(element, array.len()).map(|at| &array[at]),
            other => Err(self.cannot_resolve(element, other)),
        }
    }

    /// Like [`FieldPath::step`], to change what is found; `make` fills in objects that are missing.
    fn step_mut<'v>(&self, value: &'v mut Value, element: &Element, make: bool) -> Result<&'v mut Value, PathError> {
        match value {
            Value::Object(object) => match make {
                true => {
                    self.has_room(object, element)?;
                    Ok(object.object_at(&element.key))
                }
                false => object.get_mut(&element.key).ok_or_else(|| self.missing(element)),
            },
            Value::Array(array) => self.index(element, array.len()).map(|at| &mut array[at]),
            other => Err(self.cannot_resolve(element, other)),
        }
    }
}

impl Element {
    fn new(key: &str) -> Self {
        Self { key: CompactString::new(key), index: key.parse().ok() }
    }
}

impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Event {
    /// The value at `path`, be it null.
    pub fn get(&self, path: &FieldPath) -> Option<&Value> {
        let (first, rest) = path.first_rest();
        let mut value = path.start(self).get(&first.key)?;
        for element in rest {
            value = match value {
                Value::Object(object) => object.get(&element.key)?,
                Value::Array(array) => array.get(usize::try_from(element.index?).ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// The value at `path`, to be changed.
    pub fn get_mut(&mut self, path: &FieldPath) -> Option<&mut Value> {
        let (first, rest) = path.first_rest();
        let mut value = path.start_mut(self).get_mut(&first.key)?;
        for element in rest {
            value = match value {
                Value::Object(object) => object.get_mut(&element.key)?,
                Value::Array(array) => array.get_mut(usize::try_from(element.index?).ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// True if there is a value at `path`, be it null.
    pub fn has(&self, path: &FieldPath) -> bool {
        self.get(path).is_some()
    }

    /// Like [`Event::get`], but says what is missing.
    pub fn resolve(&self, path: &FieldPath) -> Result<&Value, PathError> {
        let (first, rest) = path.first_rest();
        let found = path.start(self).get(&first.key).ok_or_else(|| path.missing(first))?;
        rest.iter().try_fold(found, |value, element| path.step(value, element))
    }

    /// Sets `path` to `value`; objects that are missing on the way are made.
    ///
    /// Errors: a list is met without a fitting index, something that has no members, or an object that is full.
    pub fn set(&mut self, path: &FieldPath, value: Value) -> Result<(), PathError> {
        let (first, rest) = path.first_rest();
        let start = path.start_mut(self);
        path.has_room(start, first)?;
        let Some((last, between)) = rest.split_last() else {
            start.insert(first.key.clone(), value);
            return Ok(());
        };
        let first = start.object_at(&first.key);
        let parent = between.iter().try_fold(first, |value, element| path.step_mut(value, element, true))?;
        match parent {
            Value::Object(object) => {
                path.has_room(object, last)?;
                object.insert(last.key.clone(), value);
            }
            Value::Array(array) => {
                let at = path.index(last, array.len())?;
                array[at] = value;
            }
            other => return Err(path.cannot_set(last, other)),
        }
        Ok(())
    }

    /// Whether [`Event::set`] would succeed. Makes nothing.
    pub fn can_set(&self, path: &FieldPath) -> Result<(), PathError> {
        let (first, rest) = path.first_rest();
        let start = path.start(self);
        path.has_room(start, first)?;
        let Some((last, between)) = rest.split_last() else { return Ok(()) };
        let Some(mut parent) = start.get(&first.key) else { return Ok(()) };
        for element in between {
            parent = match parent {
                Value::Object(object) => match object.get(&element.key) {
                    Some(value) => value,
                    None => return path.has_room(object, element), // From here on everything is made.
                },
                other => path.step(other, element)?,
            };
        }
        match parent {
            Value::Object(object) => path.has_room(object, last),
            Value::Array(array) => path.index(last, array.len()).map(|_| ()),
            other => Err(path.cannot_set(last, other)),
        }
    }

    /// Takes the value at `path` out.
    pub fn remove(&mut self, path: &FieldPath) -> Result<Value, PathError> {
        let (first, rest) = path.first_rest();
        let start = path.start_mut(self);
        let Some((last, between)) = rest.split_last() else {
            return start.remove(&first.key).ok_or_else(|| path.missing(first));
        };
        let first = start.get_mut(&first.key).ok_or_else(|| path.missing(first))?;
        let parent = between.iter().try_fold(first, |value, element| path.step_mut(value, element, false))?;
        match parent {
            Value::Object(object) => object.remove(&last.key).ok_or_else(|| path.missing(last)),
            Value::Array(array) => path.index(last, array.len()).map(|at| array.remove(at)),
            Value::Null => Err(path.no_members(format!("remove [{}] from null", last.key))),
            other => {
                let class = other.java_class();
                Err(path.no_members(format!("remove [{}] from object of type [{class}]", last.key)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let source = r#"{"a":{"b":[{"c":1},2],"n":null},"t":"x","":{"e":1}}"#;
        let Ok(Value::Object(source)) = Value::from_json(source.as_bytes()) else { return Event::default() };
        Event::new(source)
    }

    fn path(text: &str) -> FieldPath {
        FieldPath::new(text).expect("a path")
    }

    fn text_of<T>(result: Result<T, PathError>) -> String {
        result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
    }

    #[test]
    fn a_path_leads_through_objects_and_lists() {
        assert_eq!(event().get(&path("a.b.0.c")), Some(&Value::Int(1)));
        assert_eq!(event().get(&path("_source.a.b.1")), Some(&Value::Int(2)));
        assert_eq!(event().get(&path(".e")), Some(&Value::Int(1)));
        assert_eq!(event().get(&path("t.")), Some(&"x".into()));
        assert!(event().has(&path("a.n")));
        assert!(!event().has(&path("a.b.2")));
    }

    #[test]
    fn what_is_wrong_is_said_as_elasticsearch_says_it() {
        let get = |text: &str| text_of(event().resolve(&path(text)).cloned());
        assert_eq!(get("a.x.y"), "field [x] not present as part of path [a.x.y]");
        assert_eq!(get("a.b.x"), "[x] is not an integer, cannot be used as an index as part of path [a.b.x]");
        assert_eq!(get("a.b.2"), "[2] is out of bounds for array with length [2] as part of path [a.b.2]");
        assert_eq!(get("a.n.x"), "cannot resolve [x] from null as part of path [a.n.x]");
        assert_eq!(get("t.x"), "cannot resolve [x] from object of type [java.lang.String] as part of path [t.x]");
        let set = |text: &str| text_of(event().set(&path(text), Value::Null));
        assert_eq!(set("a.n.x"), "cannot set [x] with null parent as part of path [a.n.x]");
        assert_eq!(set("a.n.x.y"), "cannot resolve [x] from null as part of path [a.n.x.y]");
        assert_eq!(set("t.x"), "cannot set [x] with parent object of type [java.lang.String] as part of path [t.x]");
        let remove = |text: &str| text_of(event().remove(&path(text)));
        assert_eq!(remove("z"), "field [z] not present as part of path [z]");
        assert_eq!(remove("a.n.x"), "cannot remove [x] from null as part of path [a.n.x]");
        assert_eq!(remove("a.b.7"), "[7] is out of bounds for array with length [2] as part of path [a.b.7]");
        assert_eq!(text_of(FieldPath::new("")), "path cannot be null nor empty");
        assert_eq!(text_of(FieldPath::new("..")), "path [..] is not valid");
    }

    #[test]
    fn setting_makes_what_is_missing_and_removing_takes_it_out() {
        let mut event = event();
        assert_eq!(event.set(&path("x.y.z"), Value::Int(5)), Ok(()));
        assert_eq!(event.get(&path("x.y.z")), Some(&Value::Int(5)));
        assert_eq!(event.set(&path("a.b.0"), Value::Int(6)), Ok(()));
        assert_eq!(event.remove(&path("a.b.1")), Ok(Value::Int(2)));
        assert_eq!(event.get(&path("a.b")), Some(&Value::Array(vec![Value::Int(6)])));
    }

    #[test]
    fn can_set_says_what_set_would_say() {
        for text in
            ["x", "x.y", "a.b.0", "a.b.7", "a.b.x", "a.n.x", "a.n.x.y", "t.x", "a.b.0.c", "a.b.1.c", "a.b.0.z.y"]
        {
            let mut changed = event();
            assert_eq!(changed.can_set(&path(text)), changed.set(&path(text), Value::Null), "{text}");
        }
    }

    #[test]
    fn a_path_is_as_long_as_objects_may_be_nested() {
        let long = |names: usize| vec!["a"; names].join(".");
        let mut event = Event::default();
        assert_eq!(event.set(&path(&long(NESTING_MAX)), Value::Null), Ok(()));
        assert_eq!(FieldPath::new(&long(500_000)), Err(PathError::TooDeep(500_000)));
        assert_eq!(
            text_of(FieldPath::new(&long(NESTING_MAX + 1))),
            "a path of 129 names is longer than the 128 that objects may be nested"
        );
    }

    #[test]
    fn an_object_that_is_full_gets_no_other_member() {
        let full: Object = (0..MEMBERS_MAX).map(|nth| (nth.to_string().into(), Value::Null)).collect();
        let mut event = Event::new(full.clone());
        event.set(&path("7"), Value::Object(full)).expect("it is there");
        for text in ["x", "x.y", "7.x", "7.x.y", "7.8", "9"] {
            let can = event.can_set(&path(text));
            assert_eq!(can.is_ok(), !text.contains('x'), "{text}");
            assert_eq!(can, event.set(&path(text), Value::Null), "{text}");
        }
    }

    #[test]
    fn metadata_and_ingest_stand_beside_the_source() {
        let mut event = event();
        for name in ["_index", "_ingest.timestamp"] {
            assert_eq!(event.set(&path(name), name.into()), Ok(()));
            assert_eq!(event.get(&path(name)), Some(&name.into()));
        }
        assert_eq!(event.metadata.index(), Some("_index"));
        assert!(!event.source.contains("_index") && !event.source.contains("_ingest"));
    }
}
