//! Requests on a loopback port become `/metrics`, `/healthz` and `/readyz`.
//!
//! Read-only, for this host: it refuses any other bind (there is no TLS and no login here), any method but GET and HEAD, any body
//! over 64 KiB, more than 64 connections at once, and a peer that takes 5 s over its request head. One request a connection.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Body, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::Semaphore};

use crate::{health::Health, metrics::Registry, stop::Stop};

/// Connections at once; the next ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Longest wait for the head of a request.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest life of a connection: a peer that does not read its answer must not hold a place for ever.
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(15);
/// Largest request body. None is ever read: this only bounds what a wrong client sends in vain.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// Largest request head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Wait after a failed accept: the process is out of file descriptors, and trying at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Starts serving on `listen` (`127.0.0.1:9601`, `[::1]:9601`, `localhost:9601`; port 0: any free one) and returns the address.
///
/// Call it inside a tokio runtime, which it serves until that ends: also while draining after `stop`, when `/readyz` says 503.
///
/// Errors: an address that is not loopback, or one that is taken.
pub fn serve(listen: &str, registry: Registry, health: Health, pages: Pages, stop: Stop) -> anyhow::Result<SocketAddr> {
    let address = loopback(listen)?;
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    };
    let listener = bind().with_context(|| {
        format!(
            "metrics.listen: cannot listen on {address} (does a daemon run here already? Port 0 takes any free one)"
        )
    })?;
    let bound = listener.local_addr().context("metrics.listen: the bound address")?;
    tracing::info!(address = %bound, "listening");
    tokio::spawn(accept(listener, Arc::new(Page { registry, health, pages, stop })));
    Ok(bound)
}

fn loopback(listen: &str) -> anyhow::Result<SocketAddr> {
    let numeric = listen.strip_prefix("localhost:").map_or(listen.to_owned(), |port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = numeric.parse().with_context(|| {
        format!("metrics.listen: `{listen}` is not an address: write an IP address and a port, such as 127.0.0.1:9601")
    })?;
    if !address.ip().is_loopback() {
        bail!(
            "metrics.listen: {address} can be reached from other hosts, without TLS or a login: \
             listen on 127.0.0.1:{} and put a proxy before it",
            address.port()
        );
    }
    Ok(address)
}

/// A daemon's own pages, beside those that all have: path → what makes its JSON from the query.
#[derive(Default)]
pub struct Pages {
    pages: Vec<(&'static str, Box<Make>)>,
}

/// Makes a page from the query.
type Make = dyn Fn(&str) -> String + Send + Sync;

impl Pages {
    /// Adds a page. Unit: the query as it stands behind the `?`, percent-decoded; empty without one.
    pub fn with(mut self, path: &'static str, page: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.pages.push((path, Box::new(page)));
        self
    }

    fn find(&self, path: &str) -> Option<&Make> {
        self.pages.iter().find(|(at, _)| *at == path).map(|(_, page)| &**page)
    }
}

struct Page {
    registry: Registry,
    health: Health,
    pages: Pages,
    stop: Stop,
}

async fn accept(listener: tokio::net::TcpListener, page: Arc<Page>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = page.clone();
                tokio::spawn(async move {
                    // A peer that is too slow or breaks off is its own loss.
                    tokio::time::timeout(CONNECTION_LIFE_MAX, converse(stream, page)).await.ok();
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "metrics: cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, page: Arc<Page>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let body_bytes = request.body().size_hint().lower();
        let answer = answer(request.method(), request.uri(), body_bytes, &page);
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "metrics: a request was not finished");
    }
}

fn answer(method: &Method, uri: &Uri, body_bytes: u64, page: &Page) -> Response<String> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "read-only: use GET\n".into());
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    if body_bytes > BODY_BYTES_MAX {
        return response(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "no body is wanted here\n".into());
    }
    let path = uri.path();
    if let Some(page) = page.pages.find(path) {
        return response(StatusCode::OK, "application/json", page(&decoded(uri.query().unwrap_or_default())));
    }
    match path {
        "/metrics" => response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page.registry.text()),
        "/healthz" => response(StatusCode::OK, "application/json", health_json(&page.health)),
        "/readyz" if page.stop.is_stopped() => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n".into()),
        "/readyz" if page.health.is_ready() => response(StatusCode::OK, TEXT, "ready\n".into()),
        "/readyz" => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n".into()),
        _ => response(StatusCode::NOT_FOUND, TEXT, "here are /metrics, /healthz and /readyz\n".into()),
    }
}

/// `%41` → `A`. What is no escape stays as it is.
fn decoded(query: &str) -> String {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escape = behind.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn health_json(health: &Health) -> String {
    let problems = health.problems();
    let status = if problems.is_empty() { "ok" } else { "degraded" };
    serde_json::json!({"status": status, "problems": problems}).to_string()
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
