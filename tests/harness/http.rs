//! One blocking HTTP/1.1 request to 127.0.0.1, for tests and measurements. A connection per request; no TLS.

use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Longest silence of the other side.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Sends one request and returns status and body. `url` is `http://HOST:PORT/PATH`.
pub fn request(method: &str, url: &str, body: Option<&str>) -> Result<(u16, String)> {
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
