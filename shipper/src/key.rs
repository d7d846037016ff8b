//! Source → record key. Pure: a template over what all records of a file share, so it is made once a group.

use anyhow::bail;
use event::Source;

/// A compiled key template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    HostName,
    FilePath,
    InputId,
}

/// Field names a key may use.
const FIELDS: &[(&str, Part)] =
    &[("host.name", Part::HostName), ("input.id", Part::InputId), ("log.file.path", Part::FilePath)];

impl Template {
    /// Parses `literal{field}literal…`. Errors name what was wrong and what exists.
    pub(crate) fn new(text: &str) -> anyhow::Result<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((literal, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { bail!("{text:?} has \"{{\" without \"}}\"") };
            let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
                let known: Vec<_> = FIELDS.iter().map(|(known, _)| *known).collect();
                bail!("{text:?} uses {{{name}}}; a key can use {}", known.join(", "));
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(field.clone());
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Writes the key of a source's records into `key`.
    pub(crate) fn render(&self, host: &str, source: &Source, key: &mut String) {
        key.clear();
        let input = source.input();
        for part in &self.0 {
            key.push_str(match part {
                Part::Literal(text) => text,
                Part::HostName => host,
                Part::FilePath if source.path.is_empty() => &input.id, // No file: order is kept per input.
                Part::FilePath => &source.path,
                Part::InputId => &input.id,
            });
        }
    }
}

/// The partition, of `partitions`, that the Java client and librdkafka's `murmur2` choose for `key`.
pub(crate) fn partition(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// Kafka's MurmurHash2: `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const FACTOR: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        word = (word ^ (word >> 24)).wrapping_mul(FACTOR);
        hash = hash.wrapping_mul(FACTOR) ^ word;
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::{Incarnation, Input, StreamId};
    use std::sync::Arc;

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let input = Arc::new(Input { id: "nginx".into(), ..Input::default() });
        let source = Source::new(StreamId(1), input, "/var/log/a.log".into(), Incarnation(1), 0);
        let mut key = "old".to_owned();
        Template::new(template).expect("parses").render("web-01", &source, &mut key);
        assert_eq!(key, expected);
    }

    #[test]
    fn without_a_file_the_inputs_name_stands_in_its_place() {
        let input = Arc::new(Input { id: "net".into(), ..Input::default() });
        let source = Source::new(StreamId(1), input, "".into(), Incarnation(1), 0);
        let mut key = String::new();
        Template::new("{host.name}/{log.file.path}").expect("parses").render("web-01", &source, &mut key);
        assert_eq!(key, "web-01/net");
    }

    #[test]
    fn a_key_is_made_of_fields_and_literals() {
        check("{host.name}/{log.file.path}", "web-01//var/log/a.log");
        check("{host.name}", "web-01");
        check("a-{input.id}-b", "a-nginx-b");
        check("fixed", "fixed");
        check("", "");
    }

    #[test]
    fn the_hash_is_kafkas() {
        // From UtilsTest.java of Kafka.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
            assert!(partition(key.as_bytes(), 7) < 7);
        }
    }

    #[test]
    fn a_template_that_cannot_be_filled_is_refused() {
        assert!(Template::new("{host.name").is_err());
        let error = Template::new("{message}").expect_err("is refused").to_string();
        assert!(error.contains("{message}") && error.contains("log.file.path"), "{error}");
    }
}
