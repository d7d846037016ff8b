//! Parcels → batches of documents: decode, choose and run the pipeline, name the document and its index, write it.
//!
//! Runs on worker threads, each with a batch of its own; a record that no pipeline could parse is indexed all the same,
//! with the reason in `error.message` and a tag.

use crate::batch::{Batch, Filling, Made};
use crate::config::{Charset, Decode, DocumentId, PipelinesConfig, TopicConfig};
use crate::decode::{self, Decoded, Times, decode};
use crate::index_name::{Template, named};
use crate::latency::ReadTimes;
use crate::metrics::Metrics;
use crate::parcel::{Home, Parcel, SentLine};
use crate::routing::{Reading, Routing, Way};
use crate::settle::Cause;
use anyhow::Context as _;
use compact_str::CompactString;
use engine::{Library, Outcome, Pipeline};
use event::document::write_text;
use event::{Event, FieldPath, Object, Value};
use prometheus::IntCounter;
use service::clock::{monotonic, wall_ms};
use std::borrow::Cow;
use std::num::NonZeroI64;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::Sender;

/// Tag of a document whose pipeline failed.
const FAILURE_TAG: &str = "_pipeline_failure";
/// Label of conditions of the routing table among the pipelines that failed.
const ROUTE: &str = "(route)";
/// Label of Kafka's null values among the dropped.
const TOMBSTONE: &str = "(null value)";

/// What all workers share: compiled from the configuration once.
#[derive(Debug)]
pub struct Plan {
    library: Library,
    pub(crate) routing: Routing,
    decode: Decode,
    index: Template,
    document_id: DocumentId,
    /// There are topics in which records can wait.
    pub(crate) delays: bool,
    created: FieldPath,
    error_message: FieldPath,
    metrics: Metrics,
    tombstones: IntCounter,
}

impl Plan {
    /// Loads the pipelines and checks that those the configuration names are there.
    pub fn new(
        pipelines: &PipelinesConfig,
        decode: Decode,
        index: &str,
        document_id: DocumentId,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let library = match &pipelines.dir {
            Some(dir) => Library::load(dir).with_context(|| format!("loading pipelines.dir {}", dir.display()))?,
            None => Library::new(),
        };
        let named = pipelines.routes.iter().map(|route| &route.pipeline).chain(&pipelines.default);
        for name in named {
            anyhow::ensure!(
                library.get(name).is_some(),
                "pipelines: there is no pipeline `{name}` in {}; there are: {}",
                pipelines.dir.as_deref().map_or("(no pipelines.dir)".into(), |dir| dir.display().to_string()),
                library.names().collect::<Vec<_>>().join(", ")
            );
        }
        let routing = Routing::new(Reading { decode, charset: Charset::default() }, &[], pipelines);
        let path = |text| FieldPath::new(text).expect("a constant path is well formed");
        Ok(Self {
            library,
            routing: routing.map_err(anyhow::Error::msg)?,
            decode,
            index: Template::new(index).map_err(anyhow::Error::msg)?,
            document_id,
            delays: false,
            created: path("event.created"),
            error_message: path("error.message"),
            tombstones: metrics.dropped.with_label_values(&[TOMBSTONE]),
            metrics,
        })
    }

    /// Reads text as `charset` says, and records of `topics` as they say.
    pub(crate) fn read(
        &mut self,
        charset: Charset,
        topics: &[TopicConfig],
        pipelines: &PipelinesConfig,
    ) -> anyhow::Result<()> {
        let otherwise = Reading { decode: self.decode, charset };
        self.routing = Routing::new(otherwise, topics, pipelines).map_err(anyhow::Error::msg)?;
        Ok(())
    }

    /// Loads `edited` in the place of the pipeline of its name, which is returned, and the others of `dir` anew.
    pub(crate) fn replace(&mut self, dir: Option<&Path>, edited: &Path) -> anyhow::Result<String> {
        let mut library = Library::new();
        let name = library.load_file(edited)?;
        let is_pipeline = |path: &Path| {
            let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
            [".yml", ".yaml", ".json"].iter().any(|ending| file.ends_with(ending)) && !file.contains(".tests.")
        };
        for entry in dir.map(std::fs::read_dir).transpose()?.into_iter().flatten() {
            let path = entry?.path();
            if is_pipeline(&path) && path.file_stem().is_some_and(|stem| stem.to_string_lossy() != name) {
                library.load_file(&path)?;
            }
        }
        self.library = library;
        Ok(name)
    }

    /// How many pipelines there are.
    pub fn pipelines(&self) -> usize {
        self.library.names().count()
    }

    /// How records of `topic` are read, and what runs on those that ask for nothing.
    pub(crate) fn route(&self, topic: &str) -> Way<'_> {
        self.routing.of(topic)
    }
}

/// The plan of now. A parcel is worked off by the plan that stood when it was begun; what became a document stays as it is,
/// however often it is sent.
#[derive(Debug)]
pub struct Plans(Mutex<Arc<Plan>>);

impl Plans {
    /// Starts with `plan`.
    pub fn new(plan: Plan) -> Self {
        Self(Mutex::new(Arc::new(plan)))
    }

    /// From here on, parcels are begun with `plan`.
    pub fn swap(&self, plan: Plan) {
        let old = std::mem::replace(&mut *self.lock(), Arc::new(plan));
        drop(old); // Not under the lock: it may be large, and workers wait for that.
    }

    fn now(&self) -> Arc<Plan> {
        self.lock().clone()
    }

    fn is_now(&self, plan: &Arc<Plan>) -> bool {
        Arc::ptr_eq(&self.lock(), plan)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Plan>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // A pointer is whole whatever happened.
    }
}

/// A worker thread: runs until `input` closes and what it holds is handed on, or the next stage has ended.
/// `taken` is called for each parcel that left `input`.
pub fn run(plans: &Plans, mut filling: Filling, input: &Receiver<Parcel>, output: &Sender<Batch>, taken: impl Fn()) {
    let mut first = None;
    loop {
        let plan = plans.now();
        let mut worker = Worker::new(&plan, filling);
        let is_now = || plans.is_now(&plan);
        first = worker.work(first, is_now, input, output, &taken);
        if first.is_none() {
            return;
        }
        filling = worker.filling; // Documents of the plan before go out with those of the next.
    }
}

/// One worker's state.
pub(crate) struct Worker<'p> {
    plan: &'p Plan,
    pub(crate) filling: Filling,
    index: CompactString,
    times: Times,
    read_times: ReadTimes,
    /// The pipeline of the record before, which is mostly this one's too.
    last: Option<&'p Pipeline>,
    /// What the events of a packed record share, and which one of the parcel's origins that is.
    shared: Option<(u32, Decoded)>,
}

impl<'p> Worker<'p> {
    pub(crate) fn new(plan: &'p Plan, filling: Filling) -> Self {
        let (index, times, read_times) = (CompactString::default(), Times::default(), ReadTimes::default());
        Self { plan, filling, index, times, read_times, last: None, shared: None }
    }

    fn pipeline(&mut self, name: &str) -> Option<&'p Pipeline> {
        if self.last.is_none_or(|last| last.name() != name) {
            self.last = self.plan.library.get(name);
        }
        self.last
    }

    fn hand_on(&mut self, output: &Sender<Batch>) -> bool {
        self.filling.take().is_none_or(|batch| output.blocking_send(batch).is_ok())
    }

    /// Works off `first` and what `input` brings, while `is_now`. Returns the parcel that another plan is to begin with; none:
    /// it is the end.
    fn work(
        &mut self,
        mut first: Option<Parcel>,
        is_now: impl Fn() -> bool,
        input: &Receiver<Parcel>,
        output: &Sender<Batch>,
        taken: &impl Fn(),
    ) -> Option<Parcel> {
        loop {
            let next = match (first.take(), self.filling.due_in(monotonic())) {
                (Some(parcel), _) => Ok(parcel),
                (None, None) => input.recv().map_err(|_| RecvTimeoutError::Disconnected),
                (None, Some(wait)) => input.recv_timeout(wait),
            };
            let open = match next {
                Ok(parcel) if !is_now() => return Some(parcel),
                Ok(parcel) => {
                    taken();
                    self.parcel(parcel, output)
                }
                Err(RecvTimeoutError::Timeout) => self.hand_on(output),
                Err(RecvTimeoutError::Disconnected) => {
                    self.hand_on(output);
                    return None;
                }
            };
            if !open {
                return None; // The next stage ended first: the process is stopping, and what is here is read again.
            }
        }
    }

    fn parcel(&mut self, mut parcel: Parcel, output: &Sender<Batch>) -> bool {
        let (now_ms, now) = (wall_ms(), monotonic());
        parcel.parsed_ms = Some(now_ms);
        let parcel = Arc::new(parcel);
        let route = self.plan.route(&parcel.topic);
        self.shared = None;
        for record in 0..parcel.records.len() as u32 {
            if let Some(batch) = self.record(&parcel, record, &route, now_ms, now)
                && output.blocking_send(batch).is_err()
            {
                return false;
            }
        }
        // A batch that came of age during a long parcel goes now.
        if self.filling.due_in(monotonic()).is_some_and(|wait| wait.is_zero()) { self.hand_on(output) } else { true }
    }

    /// Makes a document of one record, or its other end. Returns a batch when one is full.
    pub(crate) fn record(
        &mut self,
        parcel: &Arc<Parcel>,
        record: u32,
        route: &Way<'p>,
        now_ms: i64,
        now: Instant,
    ) -> Option<Batch> {
        let plan = self.plan;
        let Some(payload) = parcel.value(record) else {
            plan.tombstones.inc();
            parcel.done(1);
            return None;
        };
        let put_off = parcel.put_off(record);
        // The route is that of the topic in which it stood first.
        let home = put_off.and_then(|put_off| put_off.home.as_ref()).map(|home| plan.route(&home.topic));
        let route = home.as_ref().unwrap_or(route);
        let mut decoded = match self.decode(parcel, record, payload, route.reading) {
            Ok(decoded) => decoded,
            Err(reason) => {
                let cause = Cause { status: 0, kind: "undecodable".to_owned(), reason };
                return self.filling.push_dead(parcel, record, cause, now);
            }
        };
        if decoded.lossy {
            plan.metrics.undecodable.inc();
        }
        if plan.delays {
            let due_ms = match decoded.not_before.take() {
                Some(Ok(time_ms)) => Some(time_ms),
                Some(Err(reason)) => {
                    plan.mark(&mut decoded.event, &reason);
                    None
                }
                None => None,
            };
            let due_ms = due_ms.max(put_off.and_then(|put_off| put_off.due_ms));
            if let Some(due_ms) = due_ms.filter(|due_ms| *due_ms > now_ms) {
                return self.filling.push_later(parcel, record, due_ms, now);
            }
        }
        let asked = decoded.event.metadata.pipeline.take();
        let name = asked.as_deref().or_else(|| {
            route.pipeline(&decoded.event, |reason| {
                plan.metrics.pipeline_failures.with_label_values(&[ROUTE]).inc();
                let Home { topic, partition, offset, .. } = parcel.home(record);
                tracing::warn!(reason, %topic, partition, offset, "a condition of pipelines.routes cannot be told, its line does not match");
            })
        });
        let mut failed = None;
        if let Some(name) = name {
            match self.pipeline(name) {
                Some(pipeline) => {
                    if plan.transform(pipeline, &mut decoded.event, now_ms, &mut failed) == Outcome::Dropped {
                        plan.metrics.dropped.with_label_values(&[name]).inc();
                        parcel.done(1);
                        return None;
                    }
                }
                None => {
                    plan.metrics.pipeline_unknown.inc();
                    // Repeats are held back by the log itself.
                    let Home { topic, partition, offset, .. } = parcel.home(record);
                    tracing::warn!(pipeline = name, %topic, partition, offset,
                        "there is no such pipeline; the record is indexed as it came, with error.message");
                    plan.mark(&mut decoded.event, &format!("pipeline with id [{name}] does not exist"));
                }
            }
        }
        let read_ms = self.write(decoded, parcel, record);
        self.filling.push(parcel, record, Made { pipeline: name, failed, read_ms }, now)
    }

    fn decode(&mut self, parcel: &Parcel, record: u32, payload: &[u8], reading: Reading) -> Result<Decoded, String> {
        let time = self.times.text(parcel.home(record).timestamp_ms);
        let Some(told) = parcel.sent(record) else { return decode::foreign(payload, reading, time) };
        let SentLine { place, event, incarnation } = told?;
        if place.is_json {
            return decode(payload, Decode::Json, time);
        }
        let shared = match self.shared.take() {
            Some((origin, shared)) if origin == place.origin => shared,
            _ => decode::shared(event, time)?,
        };
        let (_, shared) = self.shared.insert((place.origin, shared));
        Ok(decode::sent(shared, payload, incarnation, place))
    }

    /// Writes the action line and the document. Returns when its line was read, if that is known.
    fn write(&mut self, mut decoded: Decoded, parcel: &Parcel, record: u32) -> Option<NonZeroI64> {
        let (plan, event) = (self.plan, &mut decoded.event);
        let read_ms = decoded.read_at.as_ref().and_then(|read_at| self.read_times.ms(read_at));
        if let Some(read_at) = decoded.read_at.take()
            && !event.has(&plan.created)
        {
            event.set(&plan.created, Value::Text(read_at)).ok(); // `event` may be no object; then there is no place for it.
        }
        let fits = match event.metadata.index().map(|name| named(name).map(Cow::into_owned)) {
            Some(Some(name)) => {
                self.index.clear();
                self.index.push_str(&name);
                true
            }
            Some(None) => {
                plan.index.write(event, &mut self.index);
                false
            }
            None => plan.index.write(event, &mut self.index),
        };
        if !fits {
            plan.metrics.index_fallback.inc();
        }
        let body = self.filling.body();
        body.extend_from_slice(b"{\"create\":{\"_index\":\"");
        body.extend_from_slice(self.index.as_bytes()); // Of letters that need no escape.
        body.push(b'"');
        match (plan.document_id, event.metadata.id().or(decoded.id.as_deref())) {
            (DocumentId::None, _) => {}
            (DocumentId::Event, Some(id)) => {
                body.extend_from_slice(b",\"_id\":");
                write_text(id, body);
            }
            (DocumentId::Event | DocumentId::Record, _) => {
                body.extend_from_slice(b",\"_id\":\"");
                body.extend_from_slice(parcel.home(record).id().as_ref());
                if let Some(place) = parcel.records[record as usize].sent {
                    // Many events may stand in one record: each is named by its place in the source as well.
                    body.push(b'-');
                    body.extend_from_slice(itoa::Buffer::new().format(place.offset).as_bytes());
                }
                body.push(b'"');
            }
        }
        if let Some(routing) = event.metadata.routing() {
            body.extend_from_slice(b",\"routing\":");
            write_text(routing, body);
        }
        body.extend_from_slice(b"}}\n");
        event.source.write_json(body);
        body.push(b'\n');
        read_ms
    }
}

impl Plan {
    /// Runs `pipeline`; a failure that nothing handled is noted in the document, which goes on. `failed` then gets the name
    /// of the processor.
    fn transform(&self, pipeline: &Pipeline, event: &mut Event, now_ms: i64, failed: &mut Option<String>) -> Outcome {
        // A processor that panics must cost its record's parsing, not the partition: it would stop at that record for ever.
        let run = std::panic::AssertUnwindSafe(|| pipeline.run(&self.library, event, now_ms));
        match std::panic::catch_unwind(run) {
            Ok(Ok(outcome)) => outcome,
            Err(_) => {
                self.metrics.pipeline_failures.with_label_values(&[pipeline.name()]).inc();
                self.mark(event, &format!("pipeline {} panicked: please report it", pipeline.name()));
                Outcome::Document
            }
            Ok(Err(failure)) => {
                self.metrics.pipeline_failures.with_label_values(&[pipeline.name()]).inc();
                let at = failure.tag.as_ref().map(|tag| format!(" (tag {tag})")).unwrap_or_default();
                let processor = format!("{}{at}", failure.processor);
                let mut reason = format!("pipeline {}, processor {processor}: {}", failure.pipeline, failure.message());
                if let Some(explanation) = pipeline.explain(&failure, event) {
                    reason.push_str("; ");
                    reason.push_str(&explanation);
                }
                self.mark(event, &reason);
                *failed = Some(processor);
                Outcome::Document
            }
        }
    }

    /// Appends to `error.message` and `tags`.
    fn mark(&self, event: &mut Event, reason: &str) {
        match event.get_mut(&self.error_message) {
            Some(Value::Array(messages)) => messages.push(reason.into()),
            Some(Value::Null) | None => {
                if event.set(&self.error_message, reason.into()).is_err() {
                    // `error` is no object: it keeps its value, and the reason stands beside it under the dotted name.
                    event.source.insert("error.message", reason);
                }
            }
            Some(earlier) => *earlier = Value::Array(vec![std::mem::take(earlier), reason.into()]),
        }
        add_tag(&mut event.source, FAILURE_TAG);
    }
}

fn add_tag(source: &mut Object, tag: &str) {
    match source.get_mut("tags") {
        Some(Value::Array(tags)) => {
            if !tags.iter().any(|known| known.as_text() == Some(tag)) {
                tags.push(tag.into());
            }
        }
        Some(Value::Null) | None => {
            source.insert("tags", Value::Array(vec![tag.into()]));
        }
        Some(single) => *single = Value::Array(vec![std::mem::take(single), tag.into()]),
    }
}

#[cfg(test)]
pub(crate) mod tests;
