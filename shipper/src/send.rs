//! Groups → parcels for partitions, and parcels → the client when their turn has come.
//!
//! A group mostly goes to one partition as it is. If its records choose topic, key or partition by themselves it is sent in
//! parts under one debt; if one of its records was refused, record by record.

mod alone;
mod route;

use alone::Verdict;
use route::{Route, Routes};

use crate::attempt::Attempt;
use crate::config::{Codec, Delivery, Partitioner, ShipperConfig};
use crate::encode::{self, Counts, Headers, Lines, Name, Packed, Packer};
use crate::ffi::{self, Keys, Records, Scratch};
use crate::lanes::Parcel;
use crate::metrics::ShipperMetrics;
use crate::producer::{Alone, Owed, Producer, Told};
use crate::share::{Share, shares, shares_of};
use crate::template::Of;
use crate::topic::Facts;
use bytes::Bytes;
use event::{Group, Input, StreamId};
use prometheus::IntCounter;
use service::clock::monotonic;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a record costs in a request beside key, payload and headers, at most.
const RECORD_BYTES: usize = 36;

/// Added to the time when nothing waits for more: longer than any linger.
const HURRY: Duration = Duration::from_secs(24 * 60 * 60);

/// What waits in a lane.
pub(crate) struct Waiting {
    records: Records,
    payload_bytes: usize,
    share: Share,
    events: u64,
    last_offset: u64,
    alone: Option<Box<Alone>>,
}

/// Records of a group that go to one partition.
struct Part {
    route: usize,
    lane: usize,
    records: Records,
    /// Lines in it: more than records if they are packed.
    events: u64,
    last_offset: u64,
    alone: Option<Box<Alone>>,
}

/// Encodes groups and hands them over.
pub(crate) struct Sender {
    config: ShipperConfig,
    pub(crate) routes: Routes,
    /// Files of which a record was refused: what lies before this offset is sent one by one.
    singly: HashMap<StreamId, u64>,
    /// The topic of dead letters among the routes.
    pub(crate) dead_letters: Option<usize>,
    key: String,
    scratch: Scratch,
    /// Counts what is not read again.
    lost: Option<IntCounter>,
    /// The open transaction.
    pub(crate) attempt: Option<Arc<Attempt>>,
    /// It is to end: nothing waits for more.
    pub(crate) hurries: bool,
    /// In a transaction a record that is refused takes its neighbours with it: what is to become of it when it is read again.
    verdicts: HashMap<(StreamId, u64), Verdict>,
    metrics: ShipperMetrics,
}

impl Sender {
    /// `facts`: of the fixed topic.
    pub(crate) fn new(config: &ShipperConfig, facts: Facts, metrics: ShipperMetrics) -> Self {
        Self {
            config: config.clone(),
            routes: Routes::new(config, facts, metrics.clone()),
            singly: HashMap::new(),
            dead_letters: None,
            key: String::new(),
            scratch: Scratch::default(),
            lost: (config.kafka.delivery == Delivery::AtMostOnce).then(|| metrics.lost.clone()),
            attempt: None,
            hurries: false,
            verdicts: HashMap::new(),
            metrics,
        }
    }

    /// True if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.iter().all(|route| route.lanes.is_empty())
    }

    /// When to [`release`](Self::release), if no report comes before.
    pub(crate) fn due(&self) -> Option<Instant> {
        let due = |route: &Route| {
            let due = route.lanes.due()?;
            Some(route.held_until.map_or(due, |until| until.max(due)))
        };
        self.routes.iter().filter_map(due).min()
    }

    /// Encodes `group` and hands it over, now or when its turn has come. Its topics are known: see [`Routes::unknown`].
    pub(crate) fn send(&mut self, producer: &mut Producer, group: Group) {
        if !group.source.is_current(group.epoch) {
            return; // Given back with its Ack: something before it was, and it must not overtake.
        }
        let Group { source, epoch, buffer, records, read_at_ms, reread, divert, ack } = group;
        let is_utf8 = self.config.kafka.codec != Codec::Raw && simdutf8::basic::from_utf8(&buffer).is_ok();
        let lines = Lines { source: source.clone(), buffer, records, read_at_ms, reread, divert, is_utf8 };
        let parts = if self.is_singly(&lines) { self.one_by_one(lines) } else { self.parts(lines) };
        let since = monotonic();
        let records: Vec<_> = parts.iter().map(|part| part.events).collect();
        let shares = match &self.attempt {
            Some(attempt) => shares_of(ack, &records, source.clone(), attempt.clone()),
            None => shares(ack, &records, self.lost.clone()),
        };
        for (part, share) in parts.into_iter().zip(shares) {
            let (route, lane) = (part.route, part.lane);
            let parcel = parcel(part, share, since, source.clone(), epoch);
            self.routes[route].lanes.push(lane, parcel);
            self.release_lane(producer, route, lane);
        }
    }

    /// What is sent together of `lines`.
    fn parts(&mut self, lines: Lines) -> Vec<Part> {
        let input = lines.source.input();
        if self.config.kafka.codec == Codec::Packed {
            return self.packed(&lines, &input);
        }
        let kafka = &self.config.kafka;
        let is_dealt =
            kafka.partition.is_none() && matches!(kafka.partitioner, Partitioner::RoundRobin | Partitioner::Random);
        let is_of_lines = self.config.topic.is_of_lines() || self.config.key.is_of_lines();
        if is_dealt || is_of_lines {
            return self.dealt(&lines, &input);
        }
        let bytes = lines.buffer.len();
        let of = Of { host: &self.config.name, source: &lines.source, input: &input, extra: None };
        let route = self.routes.of(&self.config.topic, of, lines.records.len());
        self.config.key.render(of, &mut self.key, |_| true);
        let lane = self.routes[route].choose(self.key.as_bytes(), bytes);
        let keys = Keys::One(self.key.as_bytes().into());
        vec![self.part(route, lane, keys, &lines, &input)]
    }

    /// Each record where it belongs; those of one partition stay together, in order.
    fn dealt(&mut self, lines: &Lines, input: &Input) -> Vec<Part> {
        struct Dealt {
            route: usize,
            lane: usize,
            lines: Lines,
            text: Vec<u8>,
            keys: Vec<std::ops::Range<u32>>,
        }
        let mut dealt: Vec<Dealt> = Vec::new();
        let mut places = HashMap::new();
        for record in &lines.records {
            let of = Of { host: &self.config.name, source: &lines.source, input, extra: record.extra.as_deref() };
            let route = self.routes.of(&self.config.topic, of, 1);
            self.config.key.render(of, &mut self.key, |_| true);
            let lane = self.routes[route].choose(self.key.as_bytes(), record.bytes.len());
            let at = *places.entry((route, lane)).or_insert_with(|| {
                let (source, buffer, divert) = (lines.source.clone(), lines.buffer.clone(), lines.divert.clone());
                let lines = Lines { records: Vec::new(), source, buffer, divert, ..*lines };
                dealt.push(Dealt { route, lane, lines, text: Vec::new(), keys: Vec::new() });
                dealt.len() - 1
            });
            let Dealt { lines, text, keys, .. } = &mut dealt[at];
            lines.records.push(record.clone());
            let start = text.len() as u32;
            text.extend_from_slice(self.key.as_bytes());
            keys.push(start..text.len() as u32);
        }
        let part = |dealt: Dealt| {
            let Dealt { route, lane, lines, text, keys } = dealt;
            self.part(route, lane, Keys::Each(text, keys), &lines, input)
        };
        dealt.into_iter().map(part).collect()
    }

    /// One part a packed record.
    fn packed(&mut self, lines: &Lines, input: &Input) -> Vec<Part> {
        let of = Of { host: &self.config.name, source: &lines.source, input, extra: None };
        let route = self.routes.of(&self.config.topic, of, lines.records.len());
        self.config.key.render(of, &mut self.key, |_| true);
        let mut own = Headers::default();
        self.own_headers(lines, input, 1, &mut own);
        let pack_bytes = usize::try_from(self.config.kafka.pack_bytes.0).unwrap_or(usize::MAX);
        let record_bytes_max = self.routes[route].record_bytes_max;
        let mut packer = Packer::new(lines, &self.config.name, pack_bytes, record_bytes_max, own.bytes(1));
        let (mut parts, mut counts) = (Vec::new(), Counts::default());
        loop {
            let (mut out, mut headers) = (Vec::with_capacity(pack_bytes.min(lines.buffer.len())), Headers::default());
            let Some(packed) = packer.pack(&mut out, &mut headers, &mut counts) else { break };
            self.own_headers(lines, input, 1, &mut headers);
            let lane = self.routes[route].choose(self.key.as_bytes(), out.len());
            let span = 0..u32::try_from(out.len()).expect("a record is smaller than 4 GiB");
            let keys = Keys::One(self.key.as_bytes().into());
            let records = Records { keys, payloads: Bytes::from(out), spans: vec![span], headers };
            let Packed { events, last_offset } = packed;
            parts.push(Part { route, lane, records, events, last_offset, alone: None });
        }
        self.count(&counts);
        parts
    }

    /// Encodes what goes to one partition.
    fn part(&self, route: usize, lane: usize, keys: Keys, lines: &Lines, input: &Input) -> Part {
        let records = self.encoded(keys, lines, input, self.routes[route].record_bytes_max);
        let last_offset = lines.records.last().map_or(0, |record| record.offset);
        Part { route, lane, records, events: lines.records.len() as u64, last_offset, alone: None }
    }

    fn encoded(&self, keys: Keys, lines: &Lines, input: &Input, record_bytes_max: usize) -> Records {
        let (mut spans, mut headers) = (Vec::with_capacity(lines.records.len()), Headers::default());
        let host = &*self.config.name;
        self.own_headers(lines, input, lines.records.len(), &mut headers);
        let own_bytes = headers.bytes(lines.records.len()) / lines.records.len().max(1);
        let record_bytes_max = record_bytes_max.saturating_sub(own_bytes);
        let (payloads, counts) = match self.config.kafka.codec {
            Codec::Json => {
                let mut out = Vec::with_capacity(lines.buffer.len() + 512 * lines.records.len());
                let counts = encode::json(lines, host, record_bytes_max, &mut out, &mut spans);
                (Bytes::from(out), counts)
            }
            Codec::Raw => {
                // Of what is diverted something must tell where it was meant to go.
                let counts = if self.config.kafka.headers || lines.divert.is_some() {
                    encode::raw_with_headers(lines, host, record_bytes_max, &mut spans, &mut headers)
                } else {
                    encode::raw(lines, record_bytes_max, &mut spans)
                };
                (lines.buffer.clone(), counts)
            }
            Codec::Packed => {
                let mut out = Vec::new();
                let mut packer = Packer::new(lines, host, usize::MAX, record_bytes_max, 0);
                let mut counts = Counts::default();
                packer.pack(&mut out, &mut headers, &mut counts);
                spans.push(0..u32::try_from(out.len()).expect("a record is smaller than 4 GiB"));
                (Bytes::from(out), counts)
            }
        };
        self.count(&counts);
        headers.sort();
        Records { keys, payloads, spans, headers }
    }

    /// Headers that the configuration asks for, of `payloads` payloads.
    fn own_headers(&self, lines: &Lines, input: &Input, payloads: usize, headers: &mut Headers) {
        let mut value = String::new();
        let of = |extra| Of { host: &self.config.name, source: &lines.source, input, extra };
        for (name, template) in &self.config.header_fields {
            if !template.is_of_lines() {
                template.render(of(None), &mut value, |_| true);
                headers.share(Name::Own(name.clone()), value.as_bytes());
                continue;
            }
            for (place, record) in lines.records.iter().enumerate().take(payloads) {
                template.render(of(record.extra.as_deref()), &mut value, |_| true);
                headers.add(place, Name::Own(name.clone()), value.as_bytes());
            }
        }
    }

    fn count(&self, counts: &Counts) {
        self.metrics.invalid_utf8.inc_by(counts.invalid_utf8);
        self.metrics.cut.inc_by(counts.cut);
    }

    /// Takes in what the report thread told. Topics to be looked at again are left for the caller.
    pub(crate) fn hear(&mut self, told: &mut Told) {
        for route in std::mem::take(&mut told.failed) {
            self.routes[route].hold();
        }
        for (stream, until) in told.singly.drain(..) {
            let known = self.singly.entry(stream).or_default();
            *known = until.max(*known);
        }
        for finished in told.alone.drain(..) {
            self.one_ended(finished);
        }
    }

    /// The transaction has ended.
    pub(crate) fn end_attempt(&mut self) {
        (self.attempt, self.hurries) = (None, false);
    }

    /// Gives back all that waits.
    pub(crate) fn clear(&mut self) {
        for route in 0..self.routes.len() {
            self.routes[route].lanes.clear();
        }
    }

    /// Hands over all whose turn has come.
    pub(crate) fn release(&mut self, producer: &mut Producer) {
        for route in 0..self.routes.len() {
            for lane in 0..self.routes[route].lanes.len() {
                self.release_lane(producer, route, lane);
            }
        }
    }

    fn release_lane(&mut self, producer: &mut Producer, at: usize, lane: usize) {
        let Self { routes, metrics, scratch, hurries, .. } = self;
        let route = &mut routes[at];
        let now = monotonic();
        if route.is_held(now) {
            return;
        }
        let (reports, name) = (producer.reports.clone(), route.name.clone());
        let Some(handle) = producer.topic(at, &name) else { return };
        let partition = i32::try_from(lane).expect("Kafka counts partitions as i32");
        let now = if *hurries { now + HURRY } else { now };
        route.lanes.release(lane, now, |parcel, gate| {
            let Parcel { source, epoch, bytes, rest, .. } = parcel;
            let Waiting { records, payload_bytes, share, events, last_offset, alone } = rest;
            metrics.produced.inc_by(records.spans.len() as u64);
            metrics.produced_bytes.inc_by(payload_bytes as u64);
            metrics.groups_in_flight.inc();
            let gate = gate.clone();
            let topic = name.clone();
            let owed = Owed { source, epoch, share, gate, bytes, topic, route: at, events, last_offset, alone };
            service::failpoint::hit("shipper-before-produce");
            if let Some(finished) = ffi::produce(handle, partition, records, owed, scratch) {
                reports.finish(finished);
            }
            service::failpoint::hit("shipper-after-produce");
        });
    }
}

fn parcel(part: Part, share: Share, since: Instant, source: Arc<event::Source>, epoch: u32) -> Parcel<Waiting> {
    let Part { records, events, last_offset, alone, .. } = part;
    let count = records.spans.len();
    let payload_bytes: usize = records.spans.iter().map(|span| (span.end - span.start) as usize).sum();
    let bytes = payload_bytes + count * RECORD_BYTES + records.keys.bytes(count) + records.headers.bytes(count);
    let is_alone = alone.is_some();
    Parcel {
        source,
        epoch,
        bytes,
        since,
        is_alone,
        rest: Waiting { records, payload_bytes, share, events, last_offset, alone },
    }
}
