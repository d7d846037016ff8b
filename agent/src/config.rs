//! What `agent.yaml` says of inputs, and what is used of it: globs compiled, fields rendered, once, at start.

mod file;
mod stream;
mod written;

pub use file::FileInput;
pub(crate) use stream::{JournaldInput, Listen, StreamKind, SyslogInput};
pub use stream::{Protocol, StreamInput};

use crate::decode::{Encoding, InvalidBytes, LineTerminator, OnLongLine};
use crate::kubernetes::KubernetesConfig;
use crate::parse::ParserConfig;
use crate::stream::{Format, Framing};
use crate::unpack::Compression;
use anyhow::{Context as _, bail};
use event::{Input, Priority};
use serde::{Deserialize, Deserializer};
use service::load::ByteSize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use written::{Recorder, Written};

/// Smallest useful `line_bytes_max`, and the largest that a read buffer is made for.
const LINE_BYTES: std::ops::RangeInclusive<u64> = 64..=64 * 1024 * 1024;

/// Where a file that was there at the very first start is read from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// All of it.
    #[default]
    Beginning,
    /// Only what is written from now on. Files that appear later, or after a lost checkpoint, are read whole.
    End,
}

/// Kind of an input. YAML: `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// Log files found by globs.
    File,
    /// The program's own standard input.
    Stdin,
    /// Messages that other programs and hosts send.
    Syslog,
    /// Entries of systemd's journal.
    Journald,
}

/// One input. YAML: an entry of `inputs`. Which keys it may have depends on its `type`: `inputs` checks it.
#[derive(Debug, Clone, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct InputConfig {
    /// Unique name. Required: the checkpoint knows a file by input and incarnation.
    pub id: String,
    /// `file`, `stdin`, `syslog` or `journald`.
    #[serde(rename = "type")]
    pub kind: InputKind,
    /// Globs with `*`, `?`, `[a-z]`, `{a,b}` and `**`; absolute. Required for files.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Globs of files to leave out, applied after `paths`. Default: none.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// `beginning` or `end`. Default `beginning`.
    #[serde(default)]
    pub start: Start,
    /// Pipeline that the indexer runs; travels as `@metadata.pipeline`. Default: none.
    #[serde(default)]
    pub pipeline: Option<String>,
    /// Custom fields, under `fields`; a dotted name makes nested objects. Default: none.
    #[serde(default)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Tags of every record. Default: none.
    #[serde(default)]
    pub tags: Vec<String>,
    /// `high`, `normal` or `low`, for rate plans. Default `normal`.
    #[serde(default)]
    pub priority: Priority,
    /// Ids of the outputs that it goes to. Default: all.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// Longest time until a new file or new data is seen without a change notification. Default `1s`.
    #[serde(default = "scan_interval", with = "service::load::duration")]
    pub scan_interval: Duration,
    /// Follow symbolic links, to files and to folders, through any number of links. Default: no.
    #[serde(default)]
    pub symlinks: bool,
    /// Files unchanged for longer are not read; one that grows is read from there on. Default: all are read.
    #[serde(default, with = "service::load::optional_duration")]
    pub ignore_older: Option<Duration>,
    /// A file that has not grown for so long is closed; it is opened again when it grows. Default `5m`.
    #[serde(default = "close_inactive", with = "service::load::duration")]
    pub close_inactive: Duration,
    /// A file that has not grown for so long is forgotten, once all of it is acknowledged. Longer than `ignore_older` by more
    /// than `scan_interval`, or it would be read again. Default: never.
    #[serde(default, with = "service::load::optional_duration")]
    pub clean_inactive: Option<Duration>,
    /// A file that was removed is forgotten, once all of it is acknowledged. Default: yes.
    #[serde(default = "yes")]
    pub clean_removed: bool,
    /// Files of this input that are open at once; the others wait for their turn. 0: only the process's own limit counts.
    #[serde(default)]
    pub harvester_limit: usize,
    /// A file that is acknowledged to its end and has not changed for so long is removed. Default: never.
    #[serde(default, with = "service::load::optional_duration")]
    pub delete_after: Option<Duration>,
    /// On SIGTERM, read on to the present end of each file, within `drain_timeout`. Default: no, stop reading at once.
    #[serde(default)]
    pub read_until_eof: bool,
    /// Which files are unpacked: `none`, `gzip` or `zstd` (all of them), `auto` (by their first bytes). Default `auto`.
    #[serde(default)]
    pub compression: Compression,
    /// A name of the WHATWG encoding standard or of Filebeat. Default `auto`: a BOM decides, without one UTF-8.
    #[serde(default)]
    pub encoding: Encoding,
    /// What ends a line: `auto` (LF or CRLF), one of Filebeat's names, or `{custom: "…"}`. Default `auto`.
    #[serde(default)]
    pub line_terminator: LineTerminator,
    /// Bytes that are no character of the encoding: `keep` or `replace` them by U+FFFD. Default `keep`.
    #[serde(default)]
    pub invalid_bytes: InvalidBytes,
    /// What becomes of a line longer than `line_bytes_max`: `truncate`, `split` or `skip`. Default `truncate`.
    #[serde(default)]
    pub on_long_line: OnLongLine,
    /// What makes events of lines, in order: `multiline`, `exceptions`, `container`, `ndjson`. Default: each line is one.
    #[serde(default)]
    pub parsers: Vec<ParserConfig>,
    /// Only events that match one of these regular expressions are shipped. Default: all.
    #[serde(default)]
    pub include_lines: Vec<String>,
    /// Events that match one of these are not shipped. Default: none.
    #[serde(default)]
    pub exclude_lines: Vec<String>,
    /// Take pod, namespace and container from the paths of container logs. Default: no.
    #[serde(default)]
    pub kubernetes: Option<KubernetesConfig>,
    /// Longest line that is shipped whole; a longer one is cut, flagged and counted. Default 512 KiB.
    #[serde(default = "line_bytes_max")]
    pub line_bytes_max: ByteSize,

    /// syslog: `udp`, `tcp`, `unix_dgram` or `unix_stream`. Required.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// syslog: address and port, or the path of a unix socket. Required.
    #[serde(default)]
    pub listen: Option<String>,
    /// syslog: mode of a unix socket, octal. Default `0660`.
    #[serde(default = "mode")]
    pub mode: String,
    /// syslog over connections: `auto`, `octet_counting` or `newline`. Default `auto`.
    #[serde(default)]
    pub framing: Framing,
    /// syslog: `auto`, `rfc3164`, `rfc5424` or `raw`. Default `auto`.
    #[serde(default)]
    pub format: Format,
    /// syslog: zone of times that name none (RFC 3164). Default: the host's.
    #[serde(default)]
    pub timezone: Option<String>,
    /// syslog: longest message that is shipped whole; a longer one is cut, flagged and counted. Default 64 KiB.
    #[serde(default = "max_message_size")]
    pub max_message_size: ByteSize,
    /// syslog: connections at once; the next ones wait. Default 1024.
    #[serde(default = "max_connections")]
    pub max_connections: usize,
    /// syslog: a connection over which nothing came for so long is closed. Default `5m`.
    #[serde(default = "idle_timeout", with = "service::load::duration")]
    pub idle_timeout: Duration,

    /// journald: the program that reads the journal. Default `journalctl`, looked for in `PATH`.
    #[serde(default = "journalctl")]
    pub journalctl: PathBuf,
    /// journald: only entries of these units. Default: all.
    #[serde(default)]
    pub units: Vec<String>,
    /// journald: only entries of these programs (`SYSLOG_IDENTIFIER`). Default: all.
    #[serde(default)]
    pub identifiers: Vec<String>,
    /// journald: only entries as severe as this, or a range (`warning`, `0..4`). Default: all.
    #[serde(default)]
    pub severity: Option<String>,
    /// journald: only entries with these fields, as `journalctl` takes them (`_TRANSPORT=kernel`). Default: all.
    #[serde(default, rename = "match")]
    pub matches: Vec<String>,
    /// journald: the first start reads from here on, as `journalctl --since` takes it. Default: see `start`.
    #[serde(default)]
    pub since: Option<String>,

    /// The keys that were written.
    #[serde(skip)]
    pub(crate) written: Written,
}

impl<'de> Deserialize<'de> for InputConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut written = Written::default();
        let config = Self::deserialize(Recorder { inner: deserializer, written: &mut written })?; // The derived one.
        Ok(Self { written, ..config })
    }
}

fn mode() -> String {
    "0660".into()
}

fn max_message_size() -> ByteSize {
    ByteSize(64 * 1024)
}

fn max_connections() -> usize {
    1024
}

fn idle_timeout() -> Duration {
    Duration::from_secs(5 * 60)
}

fn journalctl() -> PathBuf {
    "journalctl".into()
}

fn scan_interval() -> Duration {
    Duration::from_secs(1)
}

fn close_inactive() -> Duration {
    Duration::from_secs(5 * 60)
}

fn yes() -> bool {
    true
}

fn line_bytes_max() -> ByteSize {
    ByteSize(512 * 1024)
}

/// All that the agent's stages need.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Stable name of this agent; part of every incarnation id.
    pub name: String,
    /// Folder of the checkpoint.
    pub state_dir: PathBuf,
    /// Bytes in flight between file and acknowledgement.
    pub memory: usize,
    /// The inputs, checked.
    pub inputs: Vec<CheckedInput>,
    /// Longest time for what inputs with `read_until_eof` still read after a stop.
    pub drain_timeout: Duration,
    /// Agents in this process: each has its part of the descriptors.
    pub agents: usize,
}

/// An input in the form that is used.
#[derive(Debug, Clone)]
pub enum CheckedInput {
    /// Log files.
    File(Box<FileInput>),
    /// Anything else.
    Stream(StreamInput),
}

impl CheckedInput {
    /// What its records share.
    pub fn shared(&self) -> &Arc<Input> {
        match self {
            Self::File(input) => &input.shared,
            Self::Stream(input) => &input.shared,
        }
    }

    /// The input, if it is one of files.
    pub fn into_files(self) -> Option<FileInput> {
        match self {
            Self::File(input) => Some(*input),
            Self::Stream(_) => None,
        }
    }

    /// True if it reads the program's standard input, which only one can.
    pub fn is_stdin(&self) -> bool {
        matches!(self, Self::Stream(StreamInput { kind: StreamKind::Stdin { .. }, .. }))
    }
}

/// Those that are files, and the others.
pub(crate) fn parted(inputs: Vec<CheckedInput>) -> (Vec<FileInput>, Vec<StreamInput>) {
    let (mut files, mut streams) = (Vec::new(), Vec::new());
    for input in inputs {
        match input {
            CheckedInput::File(input) => files.push(*input),
            CheckedInput::Stream(input) => streams.push(input),
        }
    }
    (files, streams)
}

/// Checks the inputs and compiles them.
///
/// Errors: an id that is empty or used twice, a path that is not absolute, a glob that does not compile, a
/// line limit out of bounds; each names the input.
pub fn inputs(configs: &[InputConfig]) -> anyhow::Result<Vec<CheckedInput>> {
    let mut ids = BTreeSet::new();
    for (index, input) in configs.iter().enumerate() {
        if input.id.is_empty() {
            bail!("inputs[{index}]: id is empty; give each input a name of its own, it is part of the checkpoint");
        }
        if !ids.insert(&input.id) {
            bail!("inputs[{index}]: id {:?} is used by an earlier input; ids must be unique", input.id);
        }
    }
    configs.iter().map(|config| compile(config).with_context(|| format!("input {:?}", config.id))).collect()
}

fn compile(config: &InputConfig) -> anyhow::Result<CheckedInput> {
    stream::check_keys(config)?;
    if !LINE_BYTES.contains(&config.line_bytes_max.0) {
        bail!(
            "line_bytes_max: {} bytes is not between {} and {}",
            config.line_bytes_max.0,
            LINE_BYTES.start(),
            LINE_BYTES.end()
        );
    }
    let shared = Arc::new(Input {
        id: config.id.clone(),
        kind: match config.kind {
            InputKind::File => "filestream",
            InputKind::Stdin => "stdin",
            InputKind::Syslog => "syslog",
            InputKind::Journald => "journald",
        },
        pipeline: config.pipeline.clone(),
        fields: render_fields(&config.fields)?,
        tags: config.tags.clone(),
        priority: config.priority,
    });
    Ok(match config.kind {
        InputKind::File => CheckedInput::File(Box::new(file::compile(config, shared)?)),
        _ => CheckedInput::Stream(stream::compile(config, shared)?),
    })
}

/// The inputs after a reload: the new ones, and behind them those that are gone.
pub(crate) fn replaced(current: &[FileInput], mut inputs: Vec<FileInput>) -> Vec<FileInput> {
    let ids: BTreeSet<_> = inputs.iter().map(|input| input.shared.id.clone()).collect();
    let gone = current.iter().filter(|input| !ids.contains(&input.shared.id));
    inputs.extend(gone.map(FileInput::retired));
    inputs
}

/// `"fields":{…}` with dotted names made nested, or nothing.
fn render_fields(fields: &BTreeMap<String, serde_json::Value>) -> anyhow::Result<String> {
    if fields.is_empty() {
        return Ok(String::new());
    }
    let mut root = serde_json::Map::new();
    for (name, value) in fields {
        let (folders, last) =
            name.rsplit_once('.').map_or((None, name.as_str()), |(folders, last)| (Some(folders), last));
        let mut at = &mut root;
        for folder in folders.into_iter().flat_map(|folders| folders.split('.')) {
            let next = at.entry(folder).or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
            at = next
                .as_object_mut()
                .with_context(|| format!("fields: {name:?} lies below a field that has a value"))?;
        }
        if last.is_empty() || at.insert(last.to_owned(), value.clone()).is_some() {
            bail!("fields: {name:?} is empty or given twice");
        }
    }
    Ok(format!("\"fields\":{}", serde_json::Value::Object(root)))
}

/// The file inputs of a test's YAML.
#[cfg(test)]
pub(crate) fn files_of(yaml: &str) -> Vec<FileInput> {
    let configs: Vec<InputConfig> = service::load::parse_config("agent.yaml".as_ref(), yaml).expect("valid");
    parted(inputs(&configs).expect("valid")).0
}

#[cfg(test)]
mod tests;
