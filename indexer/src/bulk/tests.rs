//! The choice of hosts, against hosts that live and die as told.

use super::*;
use service::metrics::Registry;
use std::sync::atomic::AtomicBool;

/// A host that answers while it is up, slowly if asked to.
#[derive(Debug, Clone, Default)]
struct Told {
    down: Arc<AtomicBool>,
    bulks: Arc<AtomicUsize>,
    roots: Arc<AtomicUsize>,
    slow: Arc<AtomicBool>,
    version: &'static str,
    bodies: Arc<Mutex<Vec<(Bytes, bool)>>>,
}

impl Wire for Told {
    fn bulk(&self, body: Bytes, packed: bool) -> Sending<'_> {
        self.bodies.lock().expect("no test panics with it").push((body, packed));
        Box::pin(async {
            self.bulks.fetch_add(1, Ordering::Relaxed);
            if self.slow.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            self.answer("{}")
        })
    }

    fn root(&self) -> Sending<'_> {
        Box::pin(async {
            self.roots.fetch_add(1, Ordering::Relaxed);
            self.answer(&format!(r#"{{"version":{{"number":"{}"}}}}"#, self.version))
        })
    }
}

impl Told {
    fn answer(&self, body: &str) -> Answer {
        match self.down.load(Ordering::Relaxed) {
            true => Answer::Nothing("connection refused".to_owned()),
            false => Answer::Http { status: 200, body: body.to_owned().into(), retry_after: None },
        }
    }

    fn bulks(&self) -> usize {
        self.bulks.swap(0, Ordering::Relaxed)
    }
}

fn cluster(count: usize) -> (Arc<Cluster>, Vec<Told>) {
    let told: Vec<Told> = (0..count).map(|_| Told { version: "8.19.0", ..Told::default() }).collect();
    let host = |(at, told): (usize, &Told)| Host::new(&format!("http://{at}"), Box::new(told.clone()));
    let hosts = told.iter().enumerate().map(host).collect();
    (Arc::new(Cluster::of(hosts, Compression::None, Metrics::new(&Registry::default()))), told)
}

async fn send(cluster: &Cluster, times: usize) {
    for _ in 0..times {
        cluster.bulk(Bytes::from_static(b"{}\n{}\n")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn idle_hosts_take_turns_and_a_busy_one_gets_less() {
    let (cluster, told) = cluster(3);
    send(&cluster, 9).await;
    assert_eq!(told.iter().map(Told::bulks).collect::<Vec<_>>(), [3, 3, 3]);
    told[1].slow.store(true, Ordering::Relaxed);
    let busy: Vec<_> = (0..3)
        .map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move { send(&cluster, 1).await })
        })
        .collect();
    tokio::task::yield_now().await; // One of them is with the slow host.
    send(&cluster, 10).await;
    assert_eq!(told[1].bulks(), 1);
    for task in busy {
        task.await.expect("it does not panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_host_gets_nothing_until_it_says_again_what_it_is() {
    let (cluster, told) = cluster(2);
    told[0].down.store(true, Ordering::Relaxed);
    send(&cluster, 20).await;
    assert_eq!((told[0].bulks(), told[1].bulks()), (1, 19));
    tokio::time::sleep(DEAD_FOR).await;
    send(&cluster, 20).await; // It is asked beside, and the documents go to the other.
    tokio::task::yield_now().await;
    assert_eq!((told[0].bulks(), told[1].bulks(), told[0].roots.load(Ordering::Relaxed)), (0, 20, 1));
    told[0].down.store(false, Ordering::Relaxed);
    tokio::time::sleep(DEAD_FOR).await;
    send(&cluster, 1).await;
    tokio::task::yield_now().await;
    send(&cluster, 20).await;
    assert_eq!(told[0].roots.load(Ordering::Relaxed), 2);
    assert_eq!(told[0].bulks(), 10);
}

#[tokio::test(start_paused = true)]
async fn when_all_are_dead_the_one_left_alone_for_longest_is_tried() {
    let (cluster, told) = cluster(2);
    for host in &told {
        host.down.store(true, Ordering::Relaxed);
    }
    send(&cluster, 10).await;
    assert_eq!((told[0].bulks(), told[1].bulks()), (5, 5));
    told[1].down.store(false, Ordering::Relaxed);
    send(&cluster, 10).await;
    assert_eq!((told[0].bulks(), told[1].bulks()), (1, 9)); // It was the other one's turn first.
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_leaves_its_host_idle() {
    let (cluster, told) = cluster(1);
    told[0].slow.store(true, Ordering::Relaxed);
    let given_up = tokio::time::timeout(Duration::from_millis(1), send(&cluster, 1)).await;
    assert!(given_up.is_err());
    assert_eq!(cluster.hosts[0].busy.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn one_host_that_answers_is_enough_but_none_may_be_of_a_foreign_version() {
    let (all, told) = cluster(2);
    told[0].down.store(true, Ordering::Relaxed);
    assert_eq!(all.greet().await.expect("no foreign version"), Ok(()));
    send(&all, 4).await;
    assert_eq!((told[0].bulks(), told[1].bulks()), (0, 4));
    told[1].down.store(true, Ordering::Relaxed);
    let problem = all.greet().await.expect("no foreign version").expect_err("none answers");
    assert!(problem.contains("http://0: connection refused; http://1"), "{problem}");
    let old = Host::new("http://old", Box::new(Told { version: "6.8.0", ..Told::default() }));
    let old = Cluster::of(vec![old], Compression::None, Metrics::new(&Registry::default()));
    let error = old.greet().await.expect_err("it is too old").to_string();
    assert!(error.starts_with("http://old: elasticsearch 6.8.0 is not supported"), "{error}");
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

#[tokio::test]
async fn a_body_is_compressed_only_if_asked_and_counted_as_it_was_before() {
    let body = Bytes::from(b"{\"create\":{}}\n{\"a\":1}\n".repeat(100));
    for (compression, packed) in [(Compression::None, false), (Compression::Gzip, true)] {
        let (told, metrics) = (Told::default(), Metrics::new(&Registry::default()));
        let cluster = Cluster::of(vec![Host::new("http://0", Box::new(told.clone()))], compression, metrics.clone());
        cluster.bulk(body.clone()).await;
        let sent = told.bodies.lock().expect("no test panics with it").clone();
        assert_eq!(sent.iter().map(|(_, packed)| *packed).collect::<Vec<_>>(), [packed]);
        assert_eq!(sent[0].0 == body, !packed);
        assert_eq!(metrics.bulk_bytes.get(), body.len() as u64);
    }
}
