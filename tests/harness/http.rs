//! One blocking HTTP/1.1 request to 127.0.0.1, for tests and measurements. A connection per request.
//!
//! To nodes with https and logins `curl` goes, as the stack's own scripts do: see [`log_in`].

use anyhow::{Context as _, Result, bail};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// Longest silence of the other side.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How to reach nodes by https: by `HOST:PORT` the CA, and `USER:PASSWORD`.
static LOGINS: LazyLock<Mutex<HashMap<String, (PathBuf, String)>>> = LazyLock::new(Mutex::default);

/// From now on requests to `https://HOST:PORT` trust `ca`, and log in as `login` (`USER:PASSWORD`).
pub fn log_in(authority: &str, ca: &Path, login: &str) {
    let mut logins = LOGINS.lock().unwrap_or_else(PoisonError::into_inner);
    logins.insert(authority.to_owned(), (ca.to_owned(), login.to_owned()));
}

/// Sends one request and returns status and body. `url` is `http://HOST:PORT/PATH`, or https after [`log_in`].
pub fn request(method: &str, url: &str, body: Option<&str>) -> Result<(u16, String)> {
    if let Some(rest) = url.strip_prefix("https://") {
        let authority = rest.split('/').next().unwrap_or_default();
        let login = LOGINS.lock().unwrap_or_else(PoisonError::into_inner).get(authority).cloned();
        let (ca, login) = login.with_context(|| format!("no login is known for {url}"))?;
        return secure(method, url, body.unwrap_or_default(), &ca, &login);
    }
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not an http address"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let body = body.unwrap_or("");
    let kind = if path.contains("_bulk") { "application/x-ndjson" } else { "application/json" };
    write!(
        stream,
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    read_answer(BufReader::new(stream)).with_context(|| format!("{method} {url}"))
}

/// [`request`] for JSON answers; any status but 2xx is an error that quotes the answer.
pub fn json(method: &str, url: &str, body: Option<&serde_json::Value>) -> Result<serde_json::Value> {
    let text = body.map(ToString::to_string);
    let (status, answer) = request(method, url, text.as_deref())?;
    if !(200..300).contains(&status) {
        bail!("{method} {url}: status {status}: {answer}");
    }
    serde_json::from_str(&answer).with_context(|| format!("{method} {url}: not JSON: {answer}"))
}

fn secure(method: &str, url: &str, body: &str, ca: &Path, login: &str) -> Result<(u16, String)> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "-X", method, "-u", login, "-w", "\n%{http_code}", "--cacert"]).arg(ca);
    curl.args(["-H", "Content-Type: application/json", "--data-binary", "@-", url]);
    let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("it has a standard input")?.write_all(body.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{method} {url}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}

fn read_answer(mut stream: BufReader<TcpStream>) -> Result<(u16, String)> {
    let status = line(&mut stream)?.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(&mut stream)?.to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = Some(value.trim().parse()?),
            Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
            Some(_) => (),
        }
    }
    let mut body = Vec::new();
    match (chunked, length) {
        (true, _) => loop {
            let size = u64::from_str_radix(line(&mut stream)?.trim(), 16).context("a chunk's size")?;
            stream.by_ref().take(size).read_to_end(&mut body)?;
            line(&mut stream)?;
            if size == 0 {
                break;
            }
        },
        (false, Some(length)) => {
            body.resize(length, 0);
            stream.read_exact(&mut body)?;
        }
        (false, None) => drop(stream.read_to_end(&mut body)?),
    }
    Ok((status, String::from_utf8(body)?))
}

fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
