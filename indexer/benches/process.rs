//! Nanoseconds a record on a worker: decode, the catalog's nginx pipeline, action line and document, on one thread.
//!
//! `cargo bench -p indexer`. With RECORDS set it runs so many once and measures nothing: for counting instructions.

use event::{Ack, Anchor, Debt, Permit, StreamId};
use indexer::batch::{Batch, Filling, body_capacity};
use indexer::config::{BatchConfig, Decode, DocumentId, PipelinesConfig, Route};
use indexer::metrics::Metrics;
use indexer::parcel::{Gathered, Parcel, Taken};
use indexer::pool::Pool;
use indexer::process::{self, Plan, Plans};
use service::metrics::Registry;
use std::io::Write;
use std::path::Path;
use tokio::sync::mpsc;

/// Records of a parcel.
const PARCEL_RECORDS: usize = 1000;
/// Records of a measured round.
const ROUND_RECORDS: usize = 200_000;

const AGENT: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";

/// A line of the combined format; a second has 5000 of them.
fn line(nth: usize) -> String {
    let (second, host) = (nth / 5000 % 60, nth % 199 + 1);
    let referrer = if nth.is_multiple_of(4) { "-" } else { "https://www.example.com/product/12" };
    format!(
        r#"203.0.113.{host} - - [07/Dec/2016:11:05:{second:02} +0100] "GET /api/v1/users/{host}/orders HTTP/1.1" 200 {nth} "{referrer}" "{AGENT}""#
    )
}

#[expect(clippy::disallowed_methods, reason = "settlements of a bench are read at its end")]
fn parcel(first: usize, metrics: &Metrics) -> Parcel {
    let mut gathered = Gathered::default();
    for nth in first..first + PARCEL_RECORDS {
        let start = gathered.buffer.len() as u32;
        gathered.buffer.extend_from_slice(line(nth).as_bytes());
        let value = Some(start..gathered.buffer.len() as u32);
        let timestamp_ms = Some(1_700_000_000_000 + nth as i64 / 100);
        gathered.records.push(Taken { value, key: None, offset: nth as i64, timestamp_ms, sent: None, put_off: None });
    }
    let (start, end) = (first as u64, (first + PARCEL_RECORDS) as u64);
    let (stream, anchor, held) = (StreamId(1), Anchor::default(), Permit::none());
    let events = PARCEL_RECORDS as u32;
    let debt = Debt { stream, epoch: 0, seq: 0, start, end, anchor, events, bytes: 0, held };
    let ack = Ack::new(debt, mpsc::unbounded_channel().0);
    Parcel::new("lines".into(), 0, gathered, ack, metrics.clone(), None)
}

/// Runs `records` records through a worker.
fn round(plans: &Plans, metrics: &Metrics, bodies: &Pool, records: usize) {
    let parcels = records / PARCEL_RECORDS;
    let (sender, input) = std::sync::mpsc::sync_channel(parcels);
    for nth in 0..parcels {
        sender.send(parcel(nth * PARCEL_RECORDS, metrics)).expect("there is room for all");
    }
    drop(sender);
    let (output, mut batches) = mpsc::channel::<Batch>(1);
    let sink = std::thread::spawn(move || {
        while let Some(batch) = batches.blocking_recv() {
            batch.done(batch.items.iter().map(|item| item.origin));
        }
    });
    let begun = service::clock::monotonic();
    process::run(plans, Filling::new(BatchConfig::default(), bodies.clone()), &input, &output, || {});
    let took = begun.elapsed().as_nanos() / records as u128;
    drop(output);
    sink.join().expect("the sink does not panic");
    writeln!(std::io::stdout(), "nginx-access, raw lines: {took} ns a record").ok();
}

fn main() {
    let metrics = Metrics::new(&Registry::default());
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/catalog");
    let routes = vec![Route { topic: Some("lines".to_owned()), condition: None, pipeline: "nginx-access".to_owned() }];
    let pipelines = PipelinesConfig { dir: Some(catalog), default: None, routes };
    let plan = Plan::new(&pipelines, Decode::Auto, "logs-nginx-bench", DocumentId::Event, metrics.clone())
        .expect("a valid plan");
    let plans = Plans::new(plan);
    let bodies = Pool::new(4 * body_capacity(&BatchConfig::default()));
    match std::env::var("RECORDS").ok().and_then(|text| text.parse().ok()) {
        Some(records) => round(&plans, &metrics, &bodies, records),
        None => (0..7).for_each(|_| round(&plans, &metrics, &bodies, ROUND_RECORDS)),
    }
}
