//! One host over HTTP: a request → its [`Answer`], whatever happens on the way.
//!
//! Goes through the `elasticsearch` crate's transport with a body it does not copy.

use crate::config::{Auth, TlsConfig};
use crate::settle::Answer;
use anyhow::Context as _;
use bytes::Bytes;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Method;
use elasticsearch::http::Url;
use elasticsearch::http::headers::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use serde_json::Value;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

/// Keeps answers small: 30 bytes a document instead of 200.
const BULK_PATH: &str = "_bulk?filter_path=errors,items.*.status,items.*.error,items.*.failure_store,error,status";
/// What a certificate in a PEM file starts with.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
/// Longest answer that is told, in characters.
const TOLD_CHARS: usize = 500;
/// Longest wait for the answer to a version question.
const ROOT_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer on its way.
pub type Sending<'w> = Pin<Box<dyn Future<Output = Answer> + Send + 'w>>;

/// The way to one host. Tests put a node of their own behind it.
pub trait Wire: fmt::Debug + Send + Sync {
    /// Posts a bulk body, which is gzip if `packed`, and waits for the whole answer, within the configured time.
    fn bulk(&self, body: Bytes, packed: bool) -> Sending<'_>;
    /// Asks `GET /`.
    fn root(&self) -> Sending<'_>;
}

/// A host that is reached over HTTP.
#[derive(Debug)]
pub struct Http {
    transport: Transport,
    timeout: Duration,
}

impl Http {
    /// Prepares connections to `url`; nothing is sent yet.
    ///
    /// Errors: it is no http(s) URL, or holds credentials; an API key would go in clear text; the CA cannot be read.
    pub fn new(text: &str, auth: &Auth, tls: &TlsConfig, timeout: Duration) -> anyhow::Result<Self> {
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
        anyhow::ensure!(
            url.scheme() == "https" || !matches!(auth, Auth::ApiKey(_)) || is_local(&url),
            "elasticsearch.hosts: `{text}`: an API key is not sent to another machine in clear text: use https"
        );
        // A system-wide proxy is for the web, not for a cluster: it would see every log line.
        let builder =
            TransportBuilder::new(SingleNodeConnectionPool::new(url.clone())).disable_proxy().enable_meta_header(false);
        let builder = match auth {
            Auth::None => builder,
            Auth::Basic { user, password } => {
                builder.auth(Credentials::Basic(user.clone(), password.expose().to_owned()))
            }
            // The encoded form is base64, which has no colon: with one it is `id:key`, as Logstash's configurations have it.
            Auth::ApiKey(key) => builder.auth(match key.expose().split_once(':') {
                Some((id, key)) => Credentials::ApiKey(id.to_owned(), key.to_owned()),
                None => Credentials::EncodedApiKey(key.expose().to_owned()),
            }),
        };
        let builder = match &tls.ca {
            None => builder,
            Some(path) => builder.cert_validation(CertificateValidation::Full(certificate(path)?)),
        };
        let transport = builder.build().with_context(|| format!("preparing connections to {url}"))?;
        Ok(Self { transport, timeout })
    }

    /// Sends a JSON `body`, if there is one, to `path` and returns the answer's.
    ///
    /// Errors: no answer, a status that is no success, an answer that is no JSON.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        match self.send(method, path, headers("application/json"), body, self.timeout).await {
            Answer::Nothing(problem) => anyhow::bail!("{problem}"),
            Answer::Http { status, body, .. } if !(200..300).contains(&status) => {
                let told: String = String::from_utf8_lossy(&body).chars().take(TOLD_CHARS).collect();
                anyhow::bail!("status {status}: {told}")
            }
            Answer::Http { body, .. } => serde_json::from_slice(&body).context("the answer is no JSON"),
        }
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
}

impl Wire for Http {
    fn bulk(&self, body: Bytes, packed: bool) -> Sending<'_> {
        let mut headers = headers("application/x-ndjson");
        if packed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Box::pin(self.send(Method::Post, BULK_PATH, headers, Some(body), self.timeout))
    }

    fn root(&self) -> Sending<'_> {
        Box::pin(self.send(Method::Get, "", headers("application/json"), None, ROOT_TIMEOUT))
    }
}

/// The certificates of `path`, which are trusted beside those that everybody trusts.
fn certificate(path: &Path) -> anyhow::Result<Certificate> {
    let place = || format!("elasticsearch.tls.ca: {}", path.display());
    let pem = std::fs::read(path).with_context(place)?;
    let begins = pem.windows(BEGIN.len()).any(|window| window == BEGIN);
    anyhow::ensure!(begins, "{}: there is no certificate in it (-----BEGIN CERTIFICATE-----)", place());
    Certificate::from_pem(&pem).with_context(place)
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Plain JSON in and out: the crate's own media types name Elasticsearch 9, and others refuse them.
fn headers(content: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tailrace/", env!("CARGO_PKG_VERSION"))));
    headers
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

#[cfg(test)]
mod tests;
