//! Logs of pods, with a double of the API server.

mod whole;

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use whole::{Running, append, folder, start};

/// Requests that were asked: path and token.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// Answers each request with the next of `answers` (status, body); the last one stays. Ends with the test's process.
fn api_server(answers: Vec<(u16, String)>) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let asked = Asked::default();
    let log = asked.clone();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter().peekable();
        while let Ok((mut client, _)) = listener.accept() {
            let mut lines = BufReader::new(&client).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let path = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)).unwrap_or_default();
            let token = lines.filter_map(|line| line.strip_prefix("authorization: ").map(str::to_owned)).last();
            log.lock().unwrap_or_else(PoisonError::into_inner).push((path, token.unwrap_or_default()));
            let Some((status, body)) = answers.next() else { return };
            if answers.peek().is_none() {
                answers = vec![(status, body.clone())].into_iter().peekable();
            }
            let size = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n");
            client.write_all((head + &body).as_bytes()).ok();
        }
    });
    (url, asked)
}

fn pod(uid: &str) -> String {
    json!({
        "metadata": {"name": "web", "uid": uid, "labels": {"app.kubernetes.io/name": "shop", "tier": "front"}},
        "spec": {"nodeName": "node-7"},
    })
    .to_string()
}

/// An agent over the logs of the pods in `folder`.
fn agent(folder: &Path, url: &str) -> Running {
    std::fs::write(folder.join("token"), " secret\n").expect("written");
    let api = format!("{{url: '{url}', token_file: DIR/token}}");
    let yaml = format!(
        "[{{id: a, type: file, paths: [DIR/pods/*/*/*.log], scan_interval: 20ms, kubernetes: {{api: {api}}}}}]"
    );
    start(folder, &yaml)
}

fn write(folder: &Path, pod: &str, container: &str, text: &str) {
    let folder = folder.join("pods").join(pod).join(container);
    std::fs::create_dir_all(&folder).expect("made");
    append(&folder.join("0.log"), text);
}

/// `kubernetes` of the next group, which is acknowledged.
async fn next(running: &mut Running) -> Value {
    let group = running.group().await;
    let fields: Value = serde_json::from_str(&format!("{{{}}}", group.source.fields())).expect("is JSON");
    group.ack.settle();
    fields["kubernetes"].clone()
}

#[tokio::test]
async fn the_labels_of_a_pod_stand_in_its_first_line_and_are_asked_once() {
    let (folder, _) = folder();
    let (url, asked) = api_server(vec![(503, String::new()), (200, pod("0a1b"))]);
    write(folder.path(), "shop_web_0a1b", "nginx", "one\n");
    let mut running = agent(folder.path(), &url);
    let first = next(&mut running).await;
    assert_eq!(first["labels"], json!({"app_kubernetes_io/name": "shop", "tier": "front"}));
    assert_eq!((&first["node"]["name"], &first["container"]["name"]), (&json!("node-7"), &json!("nginx")));
    write(folder.path(), "shop_web_0a1b", "side-car", "two\n");
    assert_eq!(next(&mut running).await["labels"], first["labels"]);
    let path = "/api/v1/namespaces/shop/pods/web".to_owned();
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(asked, vec![(path, "Bearer secret".to_owned()); 2], "again after 503, and no third time");
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_the_checkpoint_knows_has_labels_too() {
    let (folder, _) = folder();
    let (url, _) = api_server(vec![(200, pod("0a1b"))]);
    write(folder.path(), "shop_web_0a1b", "nginx", "one\n");
    let mut running = agent(folder.path(), &url);
    next(&mut running).await;
    running.stop().await;
    write(folder.path(), "shop_web_0a1b", "nginx", "two\n");
    let mut running = agent(folder.path(), &url);
    assert_eq!(next(&mut running).await["labels"]["tier"], json!("front"));
    running.stop().await;
}

#[tokio::test]
async fn labels_of_another_pod_of_that_name_are_not_taken() {
    let (folder, _) = folder();
    let (url, _) = api_server(vec![(200, pod("another"))]);
    write(folder.path(), "shop_web_0a1b", "nginx", "one\n");
    let mut running = agent(folder.path(), &url);
    assert_eq!(next(&mut running).await["labels"], Value::Null);
    running.stop().await;
}

#[tokio::test]
async fn without_an_answer_a_log_is_shipped_without_labels() {
    for answers in [vec![(403, String::new())], vec![(404, String::new())], vec![]] {
        let (folder, _) = folder();
        let what = format!("{answers:?}");
        let (url, _) = api_server(answers); // Without answers it goes away after the first request.
        write(folder.path(), "shop_web_0a1b", "nginx", "one\n");
        let mut running = agent(folder.path(), &url);
        let fields = next(&mut running).await;
        assert_eq!((&fields["labels"], &fields["pod"]["name"]), (&Value::Null, &json!("web")), "{what}");
        running.stop().await;
    }
}

#[tokio::test]
async fn an_api_server_that_would_see_the_token_in_the_clear_is_refused() {
    let yaml = "[{id: a, type: file, paths: [/x/*.log], kubernetes: {api: {url: 'http://10.0.0.1:8080'}}}]";
    let configs: Vec<agent::InputConfig> = service::load::parse_config("agent.yaml".as_ref(), yaml).expect("parses");
    let error = format!("{:#}", agent::inputs(&configs).expect_err("is refused"));
    assert!(error.contains("kubernetes.api.url") && error.contains("https:// is needed"), "{error}");
}
