//! Groups → documents for an indexer in the same process: the bytes that codec `json` would produce, and no Kafka between.
//!
//! `limit → documents ─► indexer`. What a rate plan makes wait is not read; what it drops is settled here. Nothing is diverted: there
//! is no topic to divert to, and such a plan is refused when it is compiled.

use crate::GROUPS_CAPACITY;
use crate::encode::{self, Lines};
use crate::judged::{Judged, Way};
use crate::limit::{self, Limits};
use crate::metrics::ShipperMetrics;
use anyhow::Context as _;
use event::{Ack, Group, Intake, Route};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Groups of documents that may wait for the indexer. Few, as with Kafka: the byte budget bounds what is in flight.
const DOCUMENTS_CAPACITY: usize = 8;

/// Records of one source, in its order, with one debt: each as the bytes that it would have in Kafka.
#[derive(Debug)]
pub struct Documents {
    /// The path of the file, or the id of an input that is none, and the incarnation: `/var/log/a.log#00c0ffee00c0ffee`.
    pub place: Arc<str>,
    /// One JSON object a record, as codec `json` writes it.
    pub payloads: Vec<u8>,
    /// Where each record stands in `payloads`.
    pub spans: Vec<Range<u32>>,
    /// Where each record stands in the source.
    pub offsets: Vec<u64>,
    /// Settled when all are safe.
    pub ack: Ack,
}

/// Starts to make documents of what is sent into the returned intake, whose gate holds what a rate plan makes wait. `host`: the
/// agent's name. It ends when the intake or the returned receiver is dropped; what it holds then is given back.
///
/// Errors: the system starts no thread.
pub fn documents(host: &str, limits: Limits, metrics: ShipperMetrics) -> anyhow::Result<(Intake, Receiver<Documents>)> {
    let (groups, input) = channel(GROUPS_CAPACITY);
    let (output, documents) = channel(DOCUMENTS_CAPACITY);
    let (gate, host) = (Arc::new(limits.clone()), host.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let run = move || {
        runtime.block_on(async {
            let (to_encode, judged) = channel(GROUPS_CAPACITY);
            tokio::join!(limit::run(limits, input, to_encode), encode(&host, judged, output, &metrics));
        });
    };
    std::thread::Builder::new().name("documents".into()).spawn(run).context("starting the documents thread")?;
    Ok((Intake { groups, gate }, documents))
}

async fn encode(host: &str, mut input: Receiver<Judged>, output: Sender<Documents>, metrics: &ShipperMetrics) {
    loop {
        let judged = tokio::select! {
            judged = input.recv() => judged,
            () = output.closed() => return, // The indexer has ended: what is on its way is given back.
        };
        let Some(judged) = judged else { return };
        for (group, way) in judged.divided() {
            match way {
                Way::Pass if group.source.is_current(group.epoch) => {
                    if output.send(document(host, group, metrics)).await.is_err() {
                        return;
                    }
                }
                Way::Pass => {} // Given back with its Ack: something before it was, and it must not overtake.
                Way::Drop { plan } => {
                    crate::divide::count(metrics, &plan, "dropped", &group);
                    group.ack.by(Route::Dropped(plan)).settle();
                }
                Way::Divert { plan, topic, .. } => {
                    unreachable!("plan {plan} diverts to {topic}, which is refused at the start")
                }
            }
        }
    }
}

fn document(host: &str, group: Group, metrics: &ShipperMetrics) -> Documents {
    let Group { source, buffer, records, read_at_ms, reread, divert, ack, .. } = group;
    let is_utf8 = simdutf8::basic::from_utf8(&buffer).is_ok();
    let lines = Lines { source, buffer, records, read_at_ms, reread, divert, is_utf8 };
    let mut payloads = Vec::with_capacity(lines.buffer.len() + 512 * lines.records.len());
    let mut spans = Vec::with_capacity(lines.records.len());
    let counts = encode::json(&lines, host, usize::MAX, &mut payloads, &mut spans);
    metrics.invalid_utf8.inc_by(counts.invalid_utf8);
    metrics.produced.inc_by(spans.len() as u64);
    metrics.produced_bytes.inc_by(payloads.len() as u64);
    let path = if lines.source.path.is_empty() { &lines.source.input().id } else { &*lines.source.path };
    let place = format!("{path}#{}", lines.source.incarnation).into();
    let offsets = lines.records.iter().map(|record| record.offset).collect();
    Documents { place, payloads, spans, offsets, ack }
}
