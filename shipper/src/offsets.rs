//! Offsets of files ⇄ records of the compacted topic that `delivery: exactly_once` keeps them in.
//!
//! Key: `{"agent":…,"input":…,"incarnation":…}`, the same bytes for the same file. Value: `{"format":1,"offset":…,
//! "head_bytes":…,"head":…,"tail":…,"entry":…}`, with the content around the offset as in the checkpoint, and what finds the file
//! again; none: forgotten. Key `{"agent":…}`: the session that writes now, `{"format":1,"session":…}`. All of an agent stand in
//! one partition.

use anyhow::{Context as _, bail};
use event::{Anchor, Committed, Incarnation, Progress};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The form of the values.
const FORMAT: u32 = 1;

/// Input and life of a file.
pub(crate) type File = (String, Incarnation);

#[derive(Serialize, Deserialize)]
struct Key {
    agent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incarnation: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Session {
    format: u32,
    session: String,
}

#[derive(Deserialize)]
struct Value {
    format: u32,
    offset: u64,
    head_bytes: u32,
    head: String,
    tail: String,
    entry: serde_json::Value,
}

/// Key of a file's offset.
pub(crate) fn file_key(agent: &str, input: &str, incarnation: Incarnation) -> Vec<u8> {
    let (input, incarnation) = (Some(input.to_owned()), Some(incarnation.to_string()));
    json(&Key { agent: agent.to_owned(), input, incarnation })
}

/// Value of a file's offset. `entry`: one JSON object.
pub(crate) fn file_value(progress: &Progress, entry: &str) -> Vec<u8> {
    let Progress { offset, anchor: Anchor { head_bytes, head, tail } } = progress;
    format!(
        r#"{{"format":{FORMAT},"offset":{offset},"head_bytes":{head_bytes},"head":"{head:016x}","tail":"{tail:016x}","entry":{entry}}}"#
    )
    .into_bytes()
}

/// Key of the agent's session.
pub(crate) fn session_key(agent: &str) -> Vec<u8> {
    json(&Key { agent: agent.to_owned(), input: None, incarnation: None })
}

/// Value of the agent's session.
pub(crate) fn session_value(session: &str) -> Vec<u8> {
    json(&Session { format: FORMAT, session: session.to_owned() })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers")
}

/// What the topic has of one agent, as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) files: HashMap<File, (Progress, String)>,
    /// The last two sessions.
    pub(crate) session: Option<String>,
    pub(crate) session_before: Option<String>,
}

impl Found {
    /// Takes in the next record. Those of other agents are none of ours.
    ///
    /// Errors: a form that this version does not know.
    pub(crate) fn take(&mut self, agent: &str, key: &[u8], value: Option<&[u8]>) -> anyhow::Result<()> {
        let Ok(found) = serde_json::from_slice::<Key>(key) else { return Ok(()) };
        if found.agent != agent {
            return Ok(());
        }
        let (Some(input), Some(incarnation)) = (found.input, found.incarnation) else {
            let Some(value) = value else { return Ok(()) };
            let Session { format, session } =
                serde_json::from_slice(value).context("a session in the offsets topic")?;
            known(format)?;
            self.session_before = self.session.replace(session);
            return Ok(());
        };
        let file = (input, Incarnation(number(&incarnation)?));
        match value {
            None => drop(self.files.remove(&file)),
            Some(value) => {
                let value: Value =
                    serde_json::from_slice(value).with_context(|| format!("the offset of {file:?} in its topic"))?;
                known(value.format)?;
                let (head, tail) = (number(&value.head)?, number(&value.tail)?);
                let anchor = Anchor { head_bytes: value.head_bytes, head, tail };
                let progress = Progress { offset: value.offset, anchor };
                self.files.insert(file, (progress, value.entry.to_string()));
            }
        }
        Ok(())
    }

    /// In the form that inputs take.
    pub(crate) fn committed(self) -> Vec<Committed> {
        let committed = |((input, incarnation), (progress, entry))| Committed { input, incarnation, progress, entry };
        self.files.into_iter().map(committed).collect()
    }
}

fn known(format: u32) -> anyhow::Result<()> {
    if format != FORMAT {
        bail!("the offsets topic has format {format}, this program reads format {FORMAT}: use a newer one");
    }
    Ok(())
}

fn number(hexadecimal: &str) -> anyhow::Result<u64> {
    u64::from_str_radix(hexadecimal, 16).with_context(|| format!("{hexadecimal:?} in the offsets topic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Incarnation = Incarnation(0xfeed);

    fn at(offset: u64) -> Progress {
        Progress { offset, anchor: Anchor { head_bytes: 7, head: u64::MAX, tail: 1 } }
    }

    fn file() -> File {
        ("nginx".to_owned(), LIFE)
    }

    #[test]
    fn what_is_written_is_read_back_and_the_last_one_counts() {
        let (mut found, key) = (Found::default(), file_key("web/01", "nginx", LIFE));
        for offset in [10, 20] {
            found.take("web/01", &key, Some(&file_value(&at(offset), r#"{"path":"/a \"b"}"#))).expect("sound");
        }
        found.take("web", &key, Some(b"of another agent")).expect("is left alone");
        found.take("web/01", b"not ours", None).expect("is left alone");
        assert_eq!(found.files.get(&file()), Some(&(at(20), r#"{"path":"/a \"b"}"#.to_owned())));
        found.take("web/01", &key, None).expect("sound");
        assert!(found.files.is_empty(), "it is forgotten");
    }

    #[test]
    fn the_session_before_the_last_is_known() {
        let (mut found, key) = (Found::default(), session_key("web-01"));
        for session in ["a", "b"] {
            found.take("web-01", &key, Some(&session_value(session))).expect("sound");
        }
        assert_eq!((found.session_before.as_deref(), found.session.as_deref()), (Some("a"), Some("b")));
        assert!(found.files.is_empty());
    }

    #[test]
    fn what_a_later_version_wrote_is_not_guessed_at() {
        let (mut found, key) = (Found::default(), file_key("web-01", "nginx", LIFE));
        let later = String::from_utf8(file_value(&at(1), "{}")).expect("text").replace("\"format\":1", "\"format\":2");
        let error = found.take("web-01", &key, Some(later.as_bytes())).expect_err("is refused");
        assert!(error.to_string().contains("use a newer one"), "{error}");
        assert!(found.take("web-01", &key, Some(b"{}")).is_err());
    }
}
