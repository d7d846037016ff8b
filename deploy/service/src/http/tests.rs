//! Requests over a real socket, as a scraper, an orchestrator and a nuisance send them.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::*;
use crate::stop::Trigger;

struct Served {
    address: SocketAddr,
    registry: Registry,
    health: Health,
    trigger: Trigger,
}

fn served() -> Served {
    let (registry, health, (trigger, stop)) = (Registry::default(), Health::new(), Stop::new());
    let pages = Pages::default().with("/files", |query| format!("{query:?}"));
    let address = serve("127.0.0.1:0", registry.clone(), health.clone(), pages, stop).expect("a free port");
    Served { address, registry, health, trigger }
}

/// Sends `request` and reads to the end of the connection.
async fn send(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        // A server that refuses a body may reset the connection after its answer.
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8(answer).expect("text")
    };
    timeout(Duration::from_secs(10), exchange).await.expect("an answer in time")
}

/// Status and body of `GET path`.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = send(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let served = served();
    served.registry.counter("t_lines_total", "Lines read.").inc_by(3);
    let answer = send(served.address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.ends_with("# TYPE t_lines_total counter\nt_lines_total 3\n"), "{answer}");
}

#[tokio::test]
async fn health_is_200_and_says_what_is_wrong() {
    let served = served();
    assert_eq!(get(served.address, "/healthz").await, (200, r#"{"problems":{},"status":"ok"}"#.into()));
    served.health.set("checkpoint", Some("disk \"full\"".into()));
    let degraded = r#"{"problems":{"checkpoint":"disk \"full\""},"status":"degraded"}"#;
    assert_eq!(get(served.address, "/healthz").await, (200, degraded.into()));
    served.health.set("checkpoint", None);
    assert!(get(served.address, "/healthz").await.1.contains("\"ok\""));
}

#[tokio::test]
async fn a_daemons_own_page_gets_the_decoded_query() {
    let served = served();
    assert_eq!(get(served.address, "/files").await, (200, "\"\"".into()));
    assert_eq!(get(served.address, "/files?path=/a%20b%C3%A9%zz").await, (200, "\"path=/a bé%zz\"".into()));
}

#[tokio::test]
async fn ready_follows_the_daemon_and_ends_with_the_stop() {
    let served = served();
    assert_eq!(get(served.address, "/readyz").await, (503, "starting\n".into()));
    served.health.ready(true);
    assert_eq!(get(served.address, "/readyz").await, (200, "ready\n".into()));
    served.trigger.stop();
    assert_eq!(get(served.address, "/readyz").await, (503, "stopping\n".into()));
    assert_eq!(get(served.address, "/healthz").await.0, 200, "a draining daemon is alive");
}

#[tokio::test]
async fn other_paths_methods_and_bodies_are_refused() {
    let address = served().address;
    assert_eq!(get(address, "/").await.0, 404);
    let start =
        |request: &'static str| async move { send(address, request).await.chars().take(12).collect::<String>() };
    assert_eq!(start("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").await, "HTTP/1.1 405");
    assert_eq!(start("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await, "HTTP/1.1 200");
    assert_eq!(start("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n").await, "HTTP/1.1 413");
    assert_eq!(start("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n").await, "HTTP/1.1 200");
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    assert!(send(address, &long).await.starts_with("HTTP/1.1 4"), "a head over the limit");
}

#[tokio::test]
async fn a_peer_that_dawdles_is_cut_off_and_more_than_64_wait() {
    let address = served().address;
    let start = crate::clock::monotonic();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"GET /healthz HT").await.expect("it reads");
        idle.push(stream);
    }
    let answer = get(address, "/healthz").await;
    let waited = start.elapsed();
    assert_eq!(answer.0, 200);
    assert!(waited >= HEAD_WAIT_MAX - Duration::from_millis(200), "served beside 64 others, after {waited:?}");
    assert!(waited < HEAD_WAIT_MAX + Duration::from_secs(4), "{waited:?}");
}

#[tokio::test]
async fn only_loopback_is_served() {
    let told = |listen: &str| {
        let answer = serve(listen, Registry::default(), Health::new(), Pages::default(), Stop::new().1);
        format!("{:#}", answer.expect_err("refused"))
    };
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9601"] {
        assert!(told(listen).contains("can be reached from other hosts"), "{}", told(listen));
    }
    for listen in ["", "9601", "127.0.0.1", "example.org:80", "localhost:port"] {
        assert!(told(listen).contains(&format!("`{listen}` is not an address")), "{}", told(listen));
    }
    assert_eq!(served().address.ip().to_string(), "127.0.0.1");
    let local =
        serve("localhost:0", Registry::default(), Health::new(), Pages::default(), Stop::new().1).expect("a free port");
    assert!(local.ip().is_loopback() && local.port() > 0);
    assert!(told(&local.to_string()).contains(&format!("cannot listen on {local} (")));
    assert!(told(&local.to_string()).contains("Port 0 takes any free one): Address already in use"));
}
