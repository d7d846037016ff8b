//! A running agent's pages → what it knows. HTTP on loopback: one request, one answer, both small.

use crate::agent::About;
use agent::Shown;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

/// Longest wait for a connection, and for each part of an answer: it is on this host.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Largest answer that is read: a hundred thousand files.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A running agent, asked for one file.
#[derive(Debug)]
pub(super) struct Running {
    /// Absent: it is older than this page.
    pub(super) about: Option<About>,
    /// The file as it follows it, under each input; also under another path, if the inode is the same.
    pub(super) files: Vec<Shown>,
    /// What it says is wrong with it, by part.
    pub(super) problems: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Healthz {
    problems: BTreeMap<String, String>,
}

/// Asks the agent at `address` for `path` and what else has its `inode`. Errors: none answers there, or something else does.
pub(super) fn ask(address: &str, path: &Path, inode: Option<u64>) -> io::Result<Running> {
    let mut files: Vec<Shown> = json(address, &format!("/files?path={}", escaped(path)))?;
    if let Some(inode) = inode {
        let same: Vec<Shown> = json(address, &format!("/files?inode={inode}"))?;
        files.extend(same.into_iter().filter(|file| file.path != path));
    }
    let problems = json(address, "/healthz").map_or_else(|_| BTreeMap::new(), |health: Healthz| health.problems);
    Ok(Running { about: json(address, "/agent").ok(), files, problems })
}

/// How many files are open, of `input` and in all.
pub(super) fn open_files(address: &str, input: &str) -> io::Result<(usize, usize)> {
    let files: Vec<Shown> = json(address, "/files")?;
    let open = || files.iter().filter(|file| file.is_open);
    Ok((open().filter(|file| file.input == input).count(), open().count()))
}

/// A page of the agent at `address`. Errors: none answers there, or it has no such page.
pub(crate) fn json<T: DeserializeOwned>(address: &str, target: &str) -> io::Result<T> {
    serde_json::from_slice(&get(address, target)?).map_err(io::Error::other)
}

/// The body of the answer to a GET.
fn get(address: &str, target: &str) -> io::Result<Vec<u8>> {
    let address = address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WAIT)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    match head {
        Some(end) if answer.starts_with(b"HTTP/1.1 200 ") => Ok(answer.split_off(end + 4)),
        _ => Err(io::Error::other(format!("{target} is not answered: is it an agent of another version?"))),
    }
}

/// The path with everything that a query may not hold as `%41`.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => text.push(char::from(*byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}
