//! URLs that are refused, and a node with a certificate of its own CA (tls/: made for these tests, good for 100 years).

use super::*;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const TIMEOUT: Duration = Duration::from_secs(5);

fn tls(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bulk/wire/tls").join(file)
}

fn ca(file: &str) -> TlsConfig {
    TlsConfig { ca: Some(tls(file)) }
}

fn new(url: &str, auth: &Auth) -> anyhow::Result<Http> {
    Http::new(url, auth, &TlsConfig::default(), TIMEOUT)
}

#[test]
fn a_host_must_be_a_plain_url() {
    for url in ["127.0.0.1:9200", "ftp://127.0.0.1", "http://user:secret@127.0.0.1:9200", ""] {
        let error = new(url, &Auth::None).expect_err("not a plain URL");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(new("https://127.0.0.1:9200/prefix", &Auth::None).is_ok());
}

#[test]
fn an_api_key_stays_on_this_machine_or_goes_by_https() {
    let file = tls("ca.pem");
    let text = format!("hosts: [x]\nauth: {{api_key: \"${{file:{}}}\"}}\n", file.display());
    let config: crate::config::ElasticsearchConfig =
        service::load::parse_config(Path::new("test.yaml"), &text).expect("a valid section");
    for url in ["http://127.0.0.1:9200", "http://localhost:9200", "http://[::1]:9200", "https://search:9200"] {
        assert!(new(url, &config.auth).is_ok(), "{url}");
    }
    let error = new("http://search:9200", &config.auth).expect_err("in clear text");
    assert!(error.to_string().contains("use https"), "{error}");
    assert!(new("http://search:9200", &Auth::None).is_ok());
}

#[test]
fn a_ca_that_is_none_is_told_with_its_path() {
    for file in ["absent.pem", "node.key"] {
        let error = Http::new("https://localhost", &Auth::None, &ca(file), TIMEOUT).expect_err("no certificate");
        let error = format!("{error:#}");
        assert!(error.starts_with("elasticsearch.tls.ca: ") && error.contains(file), "{error}");
    }
}

/// A node that answers one request by TLS; its certificate is of our CA. Returns its URL, without the scheme's host.
async fn node() -> u16 {
    let certificate = CertificateDer::from_pem_file(tls("node.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(tls("node.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they fit");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
        let mut read = [0; 4096];
        let length = stream.read(&mut read).await.unwrap_or(0);
        assert!(read[..length].starts_with(b"GET / HTTP/1.1"), "{}", String::from_utf8_lossy(&read[..length]));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.expect("the client reads");
        stream.shutdown().await.ok(); // The client may have gone.
    });
    port
}

#[tokio::test]
async fn a_node_is_trusted_by_its_ca_and_by_its_name() {
    let ask = async |host: &str, tls: &TlsConfig| {
        let url = format!("https://{host}:{}", node().await);
        Http::new(&url, &Auth::None, tls, TIMEOUT).expect("a valid host").root().await
    };
    let (ours, public) = (ca("ca.pem"), TlsConfig::default());
    assert!(matches!(ask("127.0.0.1", &ours).await, Answer::Http { status: 200, .. }));
    let Answer::Nothing(problem) = ask("127.0.0.1", &public).await else { panic!("nobody trusts this CA") };
    assert!(problem.contains("certificate"), "{problem}");
    let Answer::Nothing(problem) = ask("127.0.0.2", &ours).await else { panic!("this is not its name") };
    assert!(!problem.is_empty());
}

/// A section with this `auth`, whose secret stands in a file.
fn auth(form: &str, secret: &str) -> (Auth, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), secret).expect("written");
    let form = form.replace("SECRET", &format!("\"${{file:{}}}\"", file.path().display()));
    let config: crate::config::ElasticsearchConfig =
        service::load::parse_config(Path::new("test.yaml"), &format!("hosts: [x]\nauth: {form}\n"))
            .expect("a valid section");
    (config.auth, file)
}

/// The head of one bulk request, as a node gets it, in lower case but for the values.
async fn head_of(auth: &Auth, packed: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let node = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut read = vec![0; 4096];
        let length = stream.read(&mut read).await.unwrap_or(0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.expect("the client reads");
        String::from_utf8_lossy(&read[..length]).into_owned()
    });
    let http = new(&format!("http://127.0.0.1:{port}"), auth).expect("a valid host");
    assert!(matches!(http.bulk(Bytes::from_static(b"{}\n"), packed).await, Answer::Http { status: 200, .. }));
    node.await.expect("no panic")
}

#[tokio::test]
async fn a_login_is_sent_whatever_stands_in_it_and_the_encoding_is_named_only_if_there_is_one() {
    for (form, secret, expected) in [
        ("{user: tail, password: SECRET}", "p:\u{e4}/@% \"x", "authorization: Basic dGFpbDpwOsOkL0AlICJ4\r\n"),
        ("{api_key: SECRET}", "aWQ6a2V5", "authorization: ApiKey aWQ6a2V5\r\n"),
        ("{api_key: SECRET}", "id:key", "authorization: ApiKey aWQ6a2V5\r\n"),
    ] {
        let (auth, _file) = auth(form, secret);
        let head = head_of(&auth, false).await;
        assert!(head.contains(expected), "{head}");
        assert!(!head.contains("content-encoding"), "{head}");
    }
    let head = head_of(&Auth::None, true).await;
    assert!(head.contains("content-encoding: gzip\r\n") && !head.contains("authorization"), "{head}");
}

#[test]
fn a_login_is_a_password_or_a_key_and_never_both() {
    for wrong in [
        "{user: a}",
        "{password: \"${file:/dev/null}\"}",
        "{user: a, password: \"${file:/dev/null}\", api_key: \"${file:/dev/null}\"}",
        "basic",
    ] {
        let text = format!("hosts: [x]\nauth: {wrong}\n");
        let parsed = service::load::parse_config::<crate::config::ElasticsearchConfig>(Path::new("test.yaml"), &text);
        let error = parsed.expect_err("neither the one nor the other").to_string();
        assert!(error.contains("test.yaml:2:"), "{error}");
    }
}
