//! YAML: `pipelines`, `decode`, `charset` and `topics`: how a record is read, and what runs on it.

use encoding_rs::{Encoding, UTF_8};
use serde::Deserialize;
use std::path::PathBuf;
use std::str::FromStr;

/// YAML: `pipelines`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelinesConfig {
    /// Folder of pipeline files; none: records are indexed as they come.
    pub dir: Option<PathBuf>,
    /// Pipeline of records that ask for none and match no route.
    pub default: Option<String>,
    /// Pipelines by topic and fields, for records that ask for none; the first line that matches counts.
    pub routes: Vec<Route>,
}

/// One line of the routing table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The topic's name, or a `^regular expression`; none: any topic.
    #[serde(default)]
    pub topic: Option<String>,
    /// A condition of the pipelines' language; none: any record.
    #[serde(default, rename = "if")]
    pub condition: Option<String>,
    /// The pipeline that runs on its records.
    pub pipeline: String,
}

/// What a payload is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// A JSON object is an event, anything else a line of text.
    #[default]
    Auto,
    /// A JSON object; anything else becomes a dead letter.
    Json,
    /// A line of text, whatever it looks like.
    Text,
}

/// How records of some topics are read, where that differs. YAML: an entry of `topics`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicConfig {
    /// The topic's name, or a `^regular expression`.
    pub topic: String,
    /// Instead of `decode`.
    #[serde(default)]
    pub decode: Option<Decode>,
    /// Instead of `charset`.
    #[serde(default)]
    pub charset: Option<Charset>,
}

/// What text is written in, by any of the names that browsers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset(pub &'static Encoding);

impl Default for Charset {
    fn default() -> Self {
        Self(UTF_8)
    }
}

impl FromStr for Charset {
    type Err = String;

    fn from_str(label: &str) -> Result<Self, String> {
        Encoding::for_label_no_replacement(label.as_bytes()).map(Self).ok_or_else(|| {
            format!("`{label}` is no charset that is known, such as utf-8, windows-1252, gbk, big5, shift_jis, euc-kr, koi8-r, utf-16le")
        })
    }
}

impl<'de> Deserialize<'de> for Charset {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
