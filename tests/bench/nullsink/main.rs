//! A sink for measuring indexers without measuring a store: answers `_bulk` at once like Elasticsearch, keeps nothing.
//!
//! `nullsink [ADDRESS]` (default 127.0.0.1:19201). Counts documents at `/stats`, starts over at `/reset`. No gzip: asked
//! for, it answers 415. One thread per connection, nothing but newlines are looked for in a body.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const ITEM: &str = r#"{"create":{"_index":"x","_id":"1","_version":1,"result":"created","status":201}}"#;

const ROOT: &str = r#"{"name":"null","cluster_name":"null","cluster_uuid":"null","version":{"number":"8.19.0",
"build_flavor":"default","build_type":"tar","lucene_version":"9.12.0","minimum_wire_compatibility_version":"7.17.0",
"minimum_index_compatibility_version":"7.0.0"},"tagline":"You Know, for Search"}"#;

/// What has come since the last reset.
#[derive(Default)]
struct Stats {
    documents: AtomicU64,
    bytes: AtomicU64,
    requests: AtomicU64,
    first_ms: AtomicU64,
    last_ms: AtomicU64,
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:19201".to_owned());
    let listener = TcpListener::bind(&address)?;
    eprintln!("nullsink on {}", listener.local_addr()?);
    let stats = Arc::new(Stats::default());
    for stream in listener.incoming() {
        let (stream, stats) = (stream?, stats.clone());
        std::thread::spawn(move || {
            if let Err(error) = serve(stream, &stats)
                && error.kind() != std::io::ErrorKind::UnexpectedEof
            {
                eprintln!("connection: {error}");
            }
        });
    }
    Ok(())
}

fn serve(stream: TcpStream, stats: &Stats) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::with_capacity(1 << 18, stream);
    loop {
        let request = line(&mut input)?;
        let (mut length, mut chunked, mut gzip) = (0, false, false);
        loop {
            let header = line(&mut input)?.to_ascii_lowercase();
            match header.split_once(':') {
                None => break,
                Some(("content-length", value)) => length = value.trim().parse().map_err(std::io::Error::other)?,
                Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
                Some(("content-encoding", value)) => gzip = value.trim() == "gzip",
                Some(("expect", _)) => output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
                Some(_) => (),
            }
        }
        let mut newlines = 0;
        let bytes =
            if chunked { chunks(&mut input, &mut newlines)? } else { count(&mut input, length, &mut newlines)? };
        let path = request.split(' ').nth(1).unwrap_or("/");
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let (status, body) = match path {
            _ if gzip => ("415 Unsupported Media Type", "{}".to_owned()),
            _ if path.ends_with("/_bulk") => ("200 OK", bulk(stats, newlines / 2, bytes)),
            "/stats" => ("200 OK", stats.show()),
            "/reset" => ("200 OK", stats.reset()),
            "/" => ("200 OK", ROOT.to_owned()),
            "/_cluster/health" => ("200 OK", r#"{"status":"green","timed_out":false}"#.to_owned()),
            "/_license" => ("200 OK", r#"{"license":{"status":"active","type":"basic"}}"#.to_owned()),
            _ => ("200 OK", r#"{"acknowledged":true}"#.to_owned()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nX-Elastic-Product: Elasticsearch\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let body = if request.starts_with("HEAD ") { "" } else { body.as_str() };
        output.write_all([head.as_str(), body].concat().as_bytes())?;
    }
}

/// Counts a body's newlines and lets it go.
fn count(input: &mut impl std::io::BufRead, mut left: u64, newlines: &mut u64) -> std::io::Result<u64> {
    let all = left;
    while left > 0 {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        *newlines += memchr::memchr_iter(b'\n', &bytes[..taken]).count() as u64;
        input.consume(taken);
        left -= taken as u64;
    }
    Ok(all)
}

fn chunks(input: &mut BufReader<TcpStream>, newlines: &mut u64) -> std::io::Result<u64> {
    let mut all = 0;
    loop {
        let size = u64::from_str_radix(line(input)?.trim(), 16).map_err(std::io::Error::other)?;
        all += count(input, size, newlines)?;
        line(input)?;
        if size == 0 {
            return Ok(all);
        }
    }
}

fn line(input: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    if input.by_ref().take(64 << 10).read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn bulk(stats: &Stats, documents: u64, bytes: u64) -> String {
    let now = service::clock::wall_ms().unsigned_abs();
    stats.first_ms.compare_exchange(0, now, Relaxed, Relaxed).ok(); // Only the first counts.
    stats.last_ms.store(now, Relaxed);
    stats.documents.fetch_add(documents, Relaxed);
    stats.bytes.fetch_add(bytes, Relaxed);
    stats.requests.fetch_add(1, Relaxed);
    let items = vec![ITEM; usize::try_from(documents).unwrap_or(0)].join(",");
    format!(r#"{{"took":1,"errors":false,"items":[{items}]}}"#)
}

impl Stats {
    fn show(&self) -> String {
        let [documents, bytes, requests, first, last] = self.all().map(|number| number.load(Relaxed));
        format!(r#"{{"docs":{documents},"bytes":{bytes},"requests":{requests},"first_ms":{first},"last_ms":{last}}}"#)
    }

    fn reset(&self) -> String {
        for number in self.all() {
            number.store(0, Relaxed);
        }
        "{}".to_owned()
    }

    fn all(&self) -> [&AtomicU64; 5] {
        [&self.documents, &self.bytes, &self.requests, &self.first_ms, &self.last_ms]
    }
}
