//! One `_bulk` call: a body → the node's [`Answer`], whatever happens on the way.
//!
//! Goes through the `elasticsearch` crate's transport with a body it does not copy. The crate's pool neither retries nor
//! marks dead nodes, so each host has a transport of its own here, and the choice is ours: the least busy that is alive.

use crate::config::{Auth, Compression, ElasticsearchConfig};
use crate::metrics::Metrics;
use crate::settle::Answer;
use anyhow::Context as _;
use bytes::Bytes;
use elasticsearch::auth::Credentials;
use elasticsearch::http::Method;
use elasticsearch::http::Url;
use elasticsearch::http::headers::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use flate2::write::GzEncoder;
use service::clock::monotonic;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keeps answers small: 30 bytes a document instead of 200.
const BULK_PATH: &str = "_bulk?filter_path=errors,items.*.status,items.*.error,items.*.failure_store,error,status";
/// A host that gave no answer is left alone for so long, if there is another.
const DEAD_FOR: Duration = Duration::from_secs(5);
/// Longest wait for the answer to a version question.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The search cluster: its hosts, and how to talk to them.
#[derive(Debug)]
pub struct Cluster {
    hosts: Vec<Host>,
    compression: Compression,
    timeout: Duration,
    metrics: Metrics,
}

#[derive(Debug)]
struct Host {
    url: String,
    transport: Transport,
    busy: AtomicUsize,
    dead_until: Mutex<Option<Instant>>,
}

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `elasticsearch` or `opensearch`.
    pub distribution: String,
    /// `8.19.21`.
    pub number: String,
}

impl Cluster {
    /// Prepares the connections; nothing is sent yet.
    ///
    /// Errors: a host that is no http(s) URL.
    pub fn new(config: &ElasticsearchConfig, metrics: Metrics) -> anyhow::Result<Self> {
        let hosts = config.hosts.iter().map(|url| Host::new(url, &config.auth)).collect::<anyhow::Result<_>>()?;
        Ok(Self { hosts, compression: config.compression, timeout: config.timeout, metrics })
    }

    /// Sends `body` and waits for the whole answer. Returns the URL that was asked and what came back.
    pub async fn bulk(&self, body: Bytes) -> (&str, Answer) {
        let host = self.choose();
        let mut headers = headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        self.metrics.bulk_bytes.inc_by(body.len() as u64);
        let body = match self.compression {
            Compression::None => body,
            Compression::Gzip => {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                gzip(&body)
            }
        };
        let started = monotonic();
        host.busy.fetch_add(1, Ordering::Relaxed);
        let answer = host.send(Method::Post, BULK_PATH, headers, Some(body), self.timeout).await;
        host.busy.fetch_sub(1, Ordering::Relaxed);
        self.metrics.bulk_seconds.observe(started.elapsed().as_secs_f64());
        let mut status = itoa::Buffer::new();
        let label = match &answer {
            Answer::Http { status: code, .. } => status.format(*code),
            Answer::Nothing(_) => "none",
        };
        self.metrics.bulk_requests.with_label_values(&[label]).inc();
        host.mark(matches!(answer, Answer::Nothing(_)));
        (&host.url, answer)
    }

    /// Asks a node for its version.
    ///
    /// Errors: no answer, or one that is no search node's: worth another try. Returns the URL with it.
    pub async fn version(&self) -> Result<Version, String> {
        let host = self.choose();
        let answer = host.send(Method::Get, "", headers(), None, VERSION_TIMEOUT).await;
        host.mark(matches!(answer, Answer::Nothing(_)));
        match answer {
            Answer::Http { status: 200, body, .. } => {
                parse_version(&body).map_err(|problem| format!("{}: {problem}", host.url))
            }
            Answer::Http { status, .. } => Err(format!("{}: status {status} to GET /", host.url)),
            Answer::Nothing(problem) => Err(format!("{}: {problem}", host.url)),
        }
    }

    /// The least busy host that is alive, or of all if none is.
    fn choose(&self) -> &Host {
        let alive =
            self.hosts.iter().filter(|host| !host.is_dead()).min_by_key(|host| host.busy.load(Ordering::Relaxed));
        alive
            .or_else(|| self.hosts.iter().min_by_key(|host| host.busy.load(Ordering::Relaxed)))
            .expect("the configuration names at least one host")
    }
}

impl Host {
    fn new(text: &str, auth: &Auth) -> anyhow::Result<Self> {
        let url =
            Url::parse(text).with_context(|| format!("elasticsearch.hosts: `{text}` is no URL (http://host:9200)"))?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "elasticsearch.hosts: `{text}` is neither http nor https"
        );
        anyhow::ensure!(
            url.username().is_empty() && url.password().is_none(),
            "elasticsearch.hosts: `{}` holds credentials: use elasticsearch.auth",
            url.host_str().unwrap_or_default()
        );
        // A system-wide proxy is for the web, not for a cluster: it would see every log line.
        let builder =
            TransportBuilder::new(SingleNodeConnectionPool::new(url.clone())).disable_proxy().enable_meta_header(false);
        let builder = match auth {
            Auth::None => builder,
            Auth::Basic { user, password } => {
                builder.auth(Credentials::Basic(user.clone(), password.expose().to_owned()))
            }
            Auth::ApiKey(key) => builder.auth(Credentials::EncodedApiKey(key.expose().to_owned())),
        };
        let transport = builder.build().with_context(|| format!("preparing connections to {url}"))?;
        Ok(Self { url: url.to_string(), transport, busy: AtomicUsize::new(0), dead_until: Mutex::new(None) })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
        limit: Duration,
    ) -> Answer {
        match self.transport.send(method, path, headers, None::<&()>, body, Some(limit)).await {
            Err(error) => Answer::Nothing(chain(&error)),
            Ok(response) => {
                let status = response.status_code().as_u16();
                let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
                match response.bytes().await {
                    Ok(body) => Answer::Http { status, body, retry_after },
                    Err(error) => Answer::Nothing(format!("status {status}, then {}", chain(&error))),
                }
            }
        }
    }

    fn mark(&self, dead: bool) {
        *self.dead_until.lock().unwrap_or_else(PoisonError::into_inner) = dead.then(|| monotonic() + DEAD_FOR);
    }

    fn is_dead(&self) -> bool {
        self.dead_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| monotonic() < until)
    }
}

/// Plain JSON in and out: the crate's own media types name Elasticsearch 9, and others refuse them.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tailrace/", env!("CARGO_PKG_VERSION"))));
    headers
}

/// The crate's own compression is level 6, three times as slow for a tenth fewer bytes.
fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory does not fail").into()
}

/// An error with its causes: the outermost alone says only "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn parse_version(body: &[u8]) -> Result<Version, String> {
    #[derive(serde::Deserialize)]
    struct Root {
        version: Number,
    }
    #[derive(serde::Deserialize)]
    struct Number {
        number: String,
        #[serde(default)]
        distribution: Option<String>,
    }
    let root: Root =
        serde_json::from_slice(body).map_err(|error| format!("GET / is not answered by a search node: {error}"))?;
    let distribution = root.version.distribution.unwrap_or_else(|| "elasticsearch".to_owned());
    Ok(Version { distribution, number: root.version.number })
}

impl Version {
    /// True for what we are tested with: Elasticsearch 7.10 to 9, OpenSearch 1 to 3 (which may call itself 7.10.2).
    pub fn is_supported(&self) -> bool {
        let mut parts = self.number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        match self.distribution.as_str() {
            "opensearch" => (1..=3).contains(&major) || (major, minor) == (7, 10),
            _ => (7, 10) <= (major, minor) && major <= 9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(distribution: &str, number: &str, supported: bool) {
        let body = match distribution {
            "" => format!(r#"{{"version":{{"number":"{number}"}},"tagline":"You Know, for Search"}}"#),
            name => format!(r#"{{"version":{{"distribution":"{name}","number":"{number}"}}}}"#),
        };
        let version = parse_version(body.as_bytes()).expect("it is a version");
        assert_eq!(version.is_supported(), supported, "{version:?}");
    }

    #[test]
    fn versions_are_checked_by_distribution() {
        for number in ["7.10.2", "7.17.29", "8.19.21", "9.1.0"] {
            check("", number, true);
        }
        for number in ["6.8.23", "7.9.3", "10.0.0", "x"] {
            check("", number, false);
        }
        for (number, supported) in
            [("1.3.20", true), ("2.19.4", true), ("3.1.0", true), ("7.10.2", true), ("4.0.0", false)]
        {
            check("opensearch", number, supported);
        }
        assert!(parse_version(b"<html>").is_err());
        assert!(parse_version(b"{}").is_err());
    }

    #[test]
    fn a_host_must_be_a_plain_url() {
        for url in ["127.0.0.1:9200", "ftp://127.0.0.1", "http://user:secret@127.0.0.1:9200", ""] {
            let error = Host::new(url, &Auth::None).expect_err("not a plain URL");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(Host::new("https://127.0.0.1:9200/prefix", &Auth::None).is_ok());
    }

    #[test]
    fn gzip_can_be_read_back() {
        let text = b"{\"create\":{}}\n{\"a\":1}\n".repeat(100);
        let mut back = Vec::new();
        let packed = gzip(&text);
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed.as_ref()), &mut back).expect("it is gzip");
        assert_eq!(back, text);
        assert!(packed.len() < text.len() / 10);
    }
}
