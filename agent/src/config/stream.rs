//! Inputs that are no files: their keys, checked and made ready for use.

use super::{InputConfig, InputKind, Start};
use crate::stream::{Format, Framing};
use anyhow::{Context as _, bail};
use event::Input;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Keys that every input has.
const COMMON: &[&str] = &["id", "type", "pipeline", "fields", "tags", "priority", "outputs"];
const STDIN: &[&str] = &["line_bytes_max"];
const SYSLOG: &[&str] = &[
    "protocol",
    "listen",
    "mode",
    "framing",
    "format",
    "timezone",
    "max_message_size",
    "max_connections",
    "idle_timeout",
];
const JOURNALD: &[&str] =
    &["journalctl", "units", "identifiers", "severity", "match", "since", "start", "line_bytes_max"];
/// Keys of files and of another kind.
const ALSO_OF_FILES: &[&str] = &["start", "line_bytes_max"];

/// Bounds of `max_message_size`: what RFC 5424 demands of every receiver, and the largest that memory is kept for.
const MESSAGE_BYTES: std::ops::RangeInclusive<u64> = 480..=16 * 1024 * 1024;
/// Most connections at once: each may hold a message that is not yet whole.
const CONNECTIONS: std::ops::RangeInclusive<usize> = 1..=65_536;

/// How syslog messages come. YAML: `protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Datagrams over the network. Not at-least-once: what is lost on the way or in a full queue is gone.
    Udp,
    /// Connections over the network.
    Tcp,
    /// Datagrams of this host, as to `/dev/log`.
    UnixDgram,
    /// Connections of this host.
    UnixStream,
}

/// An input that is no file, in the form that is used.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInput {
    /// What its records share.
    pub shared: Arc<Input>,
    pub(crate) kind: StreamKind,
}

/// What it reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StreamKind {
    Stdin { line_bytes_max: usize },
    Syslog(SyslogInput),
    Journald(JournaldInput),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SyslogInput {
    pub(crate) listen: Listen,
    pub(crate) framing: Framing,
    pub(crate) format: Format,
    pub(crate) zone: TimeZone,
    pub(crate) message_bytes_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) idle_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Listen {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    UnixDgram { path: PathBuf, mode: u32 },
    UnixStream { path: PathBuf, mode: u32 },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JournaldInput {
    pub(crate) program: PathBuf,
    /// Which entries; handed to the program as they are.
    pub(crate) filters: Vec<String>,
    pub(crate) since: Option<String>,
    pub(crate) start: Start,
    pub(crate) message_bytes_max: usize,
}

impl InputKind {
    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Stdin => "stdin",
            Self::Syslog => "syslog",
            Self::Journald => "journald",
        }
    }

    fn takes(self, key: &str) -> bool {
        let is_of_streams = STDIN.contains(&key) || SYSLOG.contains(&key) || JOURNALD.contains(&key);
        COMMON.contains(&key)
            || match self {
                Self::File => !is_of_streams || ALSO_OF_FILES.contains(&key),
                Self::Stdin => STDIN.contains(&key),
                Self::Syslog => SYSLOG.contains(&key),
                Self::Journald => JOURNALD.contains(&key),
            }
    }
}

/// Errors: a key that was written belongs to another kind of input.
pub(super) fn check_keys(config: &InputConfig) -> anyhow::Result<()> {
    let kinds = [InputKind::File, InputKind::Stdin, InputKind::Syslog, InputKind::Journald];
    for key in &config.written.0 {
        if !config.kind.takes(key) {
            let others: Vec<_> = kinds.iter().filter(|kind| kind.takes(key)).map(|kind| kind.name()).collect();
            let kind = config.kind.name();
            bail!("{key}: an input of type {kind} has no such key; it belongs to type {}", others.join(" and "));
        }
    }
    Ok(())
}

/// Checks an input that is no file.
pub(super) fn compile(config: &InputConfig, shared: Arc<Input>) -> anyhow::Result<StreamInput> {
    let kind = match config.kind {
        InputKind::Syslog => StreamKind::Syslog(syslog(config)?),
        InputKind::Journald => StreamKind::Journald(journald(config)?),
        InputKind::File | InputKind::Stdin => {
            StreamKind::Stdin { line_bytes_max: usize::try_from(config.line_bytes_max.0)? }
        }
    };
    Ok(StreamInput { shared, kind })
}

fn syslog(config: &InputConfig) -> anyhow::Result<SyslogInput> {
    let protocol = config.protocol.context("protocol: it must be udp, tcp, unix_dgram or unix_stream")?;
    let written = |key: &str| config.written.0.contains(key);
    let is_stream = matches!(protocol, Protocol::Tcp | Protocol::UnixStream);
    for key in ["framing", "max_connections", "idle_timeout"] {
        if !is_stream && written(key) {
            bail!("{key}: a datagram is a message; only protocol tcp and unix_stream have connections");
        }
    }
    let is_unix = matches!(protocol, Protocol::UnixDgram | Protocol::UnixStream);
    if !is_unix && written("mode") {
        bail!("mode: only a socket of protocol unix_dgram or unix_stream has one");
    }
    if !MESSAGE_BYTES.contains(&config.max_message_size.0) {
        let (size, least, most) = (config.max_message_size.0, MESSAGE_BYTES.start(), MESSAGE_BYTES.end());
        bail!("max_message_size: {size} bytes is not between {least} and {most}");
    }
    if !CONNECTIONS.contains(&config.max_connections) {
        let (count, least, most) = (config.max_connections, CONNECTIONS.start(), CONNECTIONS.end());
        bail!("max_connections: {count} is not between {least} and {most}");
    }
    if config.idle_timeout < Duration::from_millis(10) {
        bail!("idle_timeout: {:?} is below 10 ms", config.idle_timeout);
    }
    let zone = match &config.timezone {
        None => TimeZone::system(),
        Some(name) => TimeZone::get(name).with_context(|| format!("timezone: {name:?} is not known"))?,
    };
    Ok(SyslogInput {
        listen: listen(config, protocol)?,
        framing: config.framing,
        format: config.format,
        zone,
        message_bytes_max: usize::try_from(config.max_message_size.0)?,
        connections_max: config.max_connections,
        idle_timeout: config.idle_timeout,
    })
}

fn listen(config: &InputConfig, protocol: Protocol) -> anyhow::Result<Listen> {
    let text = config.listen.as_deref().context("listen: it must be set")?;
    let address = || -> anyhow::Result<SocketAddr> {
        let numeric = text.strip_prefix("localhost:").map_or(text.to_owned(), |port| format!("127.0.0.1:{port}"));
        numeric.parse().with_context(|| {
            format!("listen: {text:?} is not an IP address and a port, such as 127.0.0.1:514 or 0.0.0.0:514")
        })
    };
    let path = || -> anyhow::Result<(PathBuf, u32)> {
        if !text.starts_with('/') {
            bail!("listen: {text:?} is not an absolute path, which a unix socket needs");
        }
        let mode = u32::from_str_radix(&config.mode, 8).ok().filter(|mode| *mode <= 0o777);
        Ok((text.into(), mode.with_context(|| format!("mode: {:?} is not octal, such as \"0660\"", config.mode))?))
    };
    Ok(match protocol {
        Protocol::Udp => Listen::Udp(address()?),
        Protocol::Tcp => Listen::Tcp(address()?),
        Protocol::UnixDgram => path().map(|(path, mode)| Listen::UnixDgram { path, mode })?,
        Protocol::UnixStream => path().map(|(path, mode)| Listen::UnixStream { path, mode })?,
    })
}

fn journald(config: &InputConfig) -> anyhow::Result<JournaldInput> {
    let mut filters: Vec<_> = config.units.iter().map(|unit| format!("--unit={unit}")).collect();
    filters.extend(config.identifiers.iter().map(|identifier| format!("--identifier={identifier}")));
    filters.extend(config.severity.iter().map(|severity| format!("--priority={severity}")));
    for field in &config.matches {
        // `+` is journalctl's "or"; anything else would be an option of the program, or a file.
        let is_match = field.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        });
        if !is_match && field != "+" {
            bail!("match: {field:?} is not FIELD=value, such as _TRANSPORT=kernel");
        }
        filters.push(field.clone());
    }
    if config.since.is_some() && config.start == Start::End {
        bail!("since: start: end already says where to start; leave one of them out");
    }
    Ok(JournaldInput {
        program: config.journalctl.clone(),
        filters,
        since: config.since.clone(),
        start: config.start,
        message_bytes_max: usize::try_from(config.line_bytes_max.0)?,
    })
}
