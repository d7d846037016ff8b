//! A YAML (or JSON) value in, a document value out.

use compact_str::CompactString;
use event::{Object, Value};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Reads a YAML (or JSON) text. Only `true` and `false` are booleans, as in Elasticsearch: `n`, `off` and `no` are texts.
pub(crate) fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
}

/// A value as written in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node(pub(crate) Value);

impl From<Node> for Value {
    fn from(node: Node) -> Self {
        node.0
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Node, E> {
        Ok(Node(Value::Bool(flag)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node(Value::integer(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
        let big = || Value::Big(CompactString::from(number.to_string()));
        Ok(Node(i64::try_from(number).map_or_else(|_| big(), Value::integer)))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Node, E> {
        Ok(Node(Value::Big(CompactString::from(number.to_string()))))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Node, E> {
        Ok(Node(Value::Big(CompactString::from(number.to_string()))))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Node, E> {
        Ok(Node(Value::Double(number)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node(Value::from(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let mut values = Vec::new();
        while let Some(Node(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Node(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut object = Object::new();
        while let Some((key, Node(value))) = map.next_entry::<String, Node>()? {
            if object.insert(key.as_str(), value).is_some() {
                return Err(A::Error::custom(format!("key {key:?} stands twice")));
            }
        }
        Ok(Node(Value::Object(object)))
    }
}
