//! A batch was refused because of one of its records → that record alone goes its own way, its neighbours are delivered.

use super::{Part, Sender, parcel};
use crate::config::TooLarge;
use crate::encode::{self, Headers, Lines, Name};
use crate::ffi::{Finished, Keys, Records};
use crate::producer::{Alone, Owed};
use crate::remedy::{Remedy, remedy};
use crate::template::Of;
use event::{Group, StreamId, wire};
use rdkafka::error::RDKafkaErrorCode;
use service::clock::monotonic;

/// A record that was refused as too large is cut to this part of its size.
const SHRINK: f64 = 0.8;

/// Most records whose way is remembered over a transaction that one of them broke; with more each is found out again.
const VERDICTS_MAX: usize = 10_000;

/// What is to become of a record that was refused in a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// It is cut to so many bytes.
    Room(usize),
    /// It becomes a dead letter of so many bytes at most.
    Letter(RDKafkaErrorCode, usize),
}

impl Sender {
    /// True if the records of `lines` are to be sent one by one.
    pub(super) fn is_singly(&mut self, lines: &Lines) -> bool {
        let first = lines.records.first().map_or(0, |record| record.offset);
        self.is_one_by_one(lines.source.stream, first)
    }

    /// True if a record of `group` may be refused.
    pub(crate) fn is_suspect(&mut self, group: &Group) -> bool {
        self.is_one_by_one(group.source.stream, group.records.first().map_or(0, |record| record.offset))
    }

    fn is_one_by_one(&mut self, stream: StreamId, first: u64) -> bool {
        if self.singly.is_empty() {
            return false;
        }
        let is_singly = self.singly.get(&stream).is_some_and(|until| first < *until);
        if !is_singly {
            self.singly.remove(&stream);
        }
        is_singly
    }

    /// One part a record.
    pub(super) fn one_by_one(&mut self, lines: Lines) -> Vec<Part> {
        let input = lines.source.input();
        let mut parts = Vec::with_capacity(lines.records.len());
        for record in &lines.records {
            let of =
                Of { host: &self.config.name, source: &lines.source, input: &input, extra: record.extra.as_deref() };
            let route = self.routes.of(&self.config.topic, of, 1);
            self.config.key.render(of, &mut self.key, |_| true);
            let key: Box<[u8]> = self.key.as_bytes().into();
            let lane = self.routes[route].choose(&key, record.bytes.len());
            let place = (lines.source.stream, record.offset);
            let lines = Lines { records: vec![record.clone()], ..lines.clone() };
            let verdict = if self.verdicts.is_empty() { None } else { self.verdicts.get(&place).copied() };
            parts.push(match (verdict, self.dead_letters) {
                (Some(Verdict::Letter(code, room)), Some(letters)) => {
                    let lane = self.routes[letters].choose(&key, room);
                    self.letter(lane, key, lines, room, code)
                }
                (Some(Verdict::Room(room)), _) => self.one(route, lane, key, lines, room),
                _ => self.one(route, lane, key, lines, self.routes[route].record_bytes_max),
            });
        }
        parts
    }

    fn one(&self, route: usize, lane: usize, key: Box<[u8]>, lines: Lines, record_bytes_max: usize) -> Part {
        let records = self.encoded(Keys::One(key.clone()), &lines, &lines.source.input(), record_bytes_max);
        of_one(route, lane, key, lines, records, None)
    }

    /// A record that was sent by itself has its report. Its lane waits until here, so that nothing overtakes it.
    pub(super) fn one_ended(&mut self, finished: Finished<Owed>) {
        let Finished { owed, failure } = finished;
        let (gate, bytes) = (owed.gate.clone(), owed.bytes);
        match failure.map(|code| (code, remedy(code))) {
            Some((code, remedy)) if self.attempt.is_some() => self.judge(owed, code, remedy),
            None => {
                self.verdicts.remove(&(owed.source.stream, owed.last_offset));
                if let Some(code) = owed.alone.as_ref().and_then(|alone| alone.refused) {
                    self.metrics.dead_lettered.with_label_values(&[&format!("{code:?}")]).inc();
                }
                owed.share.settle();
            }
            Some((code, Remedy::TooLarge)) => self.too_large(owed, code),
            Some((code, Remedy::Refused)) => self.dead_letter(owed, code),
            Some((_, Remedy::Retry | Remedy::LookAgain | Remedy::Rebuild | Remedy::Stop)) => {
                owed.source.break_off(owed.epoch); // It is read again, and sent by itself again.
            }
        }
        gate.reported(bytes);
    }

    /// In a transaction nothing can be sent in the place of a record that was refused: its file is read again, and then the
    /// record goes the way that is found here.
    fn judge(&mut self, owed: Owed, code: RDKafkaErrorCode, remedy: Remedy) {
        owed.source.break_off(owed.epoch);
        let Some(alone) = &owed.alone else { return };
        let is_letter = Some(owed.route) == self.dead_letters;
        let letters = self.dead_letters.filter(|_| !is_letter).map(|letters| self.routes[letters].record_bytes_max);
        let smaller = (alone.payload_bytes as f64 * SHRINK) as usize;
        let verdict = match (remedy, letters) {
            (Remedy::TooLarge, _) if is_letter => Some(Verdict::Letter(alone.refused.unwrap_or(code), smaller)),
            (Remedy::TooLarge, Some(room)) if self.config.kafka.too_large == TooLarge::DeadLetter => {
                Some(Verdict::Letter(code, room))
            }
            (Remedy::TooLarge, _) => Some(Verdict::Room(smaller)),
            (Remedy::Refused, Some(room)) => Some(Verdict::Letter(code, room)),
            (Remedy::Refused, None) => {
                tracing::error!(path = &*owed.source.path, offset = owed.last_offset, error = %code,
                    "the broker refuses this record, and the file waits for it; set kafka.dead_letter_topic");
                None
            }
            (Remedy::Retry | Remedy::LookAgain | Remedy::Rebuild | Remedy::Stop, _) => None,
        };
        let Some(verdict) = verdict else { return };
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts.clear();
        }
        self.verdicts.insert((owed.source.stream, owed.last_offset), verdict);
    }

    fn too_large(&mut self, owed: Owed, code: RDKafkaErrorCode) {
        let is_letter = Some(owed.route) == self.dead_letters;
        if self.config.kafka.too_large == TooLarge::DeadLetter && !is_letter {
            return self.dead_letter(owed, code);
        }
        let Owed { source, epoch, share, route, alone, .. } = owed;
        let Some(Alone { lines, key, lane, payload_bytes, refused }) = alone.map(|alone| *alone) else { return };
        let room = (payload_bytes as f64 * SHRINK) as usize;
        let part = if is_letter {
            self.letter(lane, key, lines, room, refused.unwrap_or(code))
        } else {
            self.one(route, lane, key, lines, room)
        };
        let is_smaller = part.alone.as_ref().is_some_and(|alone| alone.payload_bytes < payload_bytes);
        if !is_smaller {
            let topic = &*self.routes[route].name;
            tracing::error!(
                topic,
                payload_bytes,
                "the topic takes no record of this agent, be it ever so small: raise its max.message.bytes"
            );
            self.routes[route].hold();
            return source.break_off(epoch);
        }
        let parcel = parcel(part, share, monotonic(), source, epoch);
        self.routes[route].lanes.push_front(lane, parcel);
    }

    /// Sends it to the topic of dead letters. Without one it waits: nothing is dropped.
    fn dead_letter(&mut self, owed: Owed, code: RDKafkaErrorCode) {
        let Owed { source, epoch, share, route, alone, last_offset, .. } = owed;
        let path = &*source.path;
        let letters = self.dead_letters.filter(|letters| *letters != route);
        let (Some(letters), Some(alone)) = (letters, alone) else {
            tracing::error!(path, offset = last_offset, error = %code,
                "the broker refuses this record, and the file waits for it; set kafka.dead_letter_topic");
            self.routes[route].hold();
            return source.break_off(epoch);
        };
        tracing::warn!(path, offset = last_offset, error = %code, "the broker refuses this record; it becomes a dead letter");
        let Alone { lines, key, payload_bytes, .. } = *alone;
        let lane = self.routes[letters].choose(&key, payload_bytes);
        let part = self.letter(lane, key, lines, self.routes[letters].record_bytes_max, code);
        let parcel = parcel(part, share, monotonic(), source, epoch);
        self.routes[letters].lanes.push(lane, parcel);
    }

    /// The line itself, as much as fits, with the reason and all that is known of it in headers.
    fn letter(&self, lane: usize, key: Box<[u8]>, lines: Lines, room: usize, code: RDKafkaErrorCode) -> Part {
        let letters = self.dead_letters.expect("only with a topic of dead letters");
        let (mut spans, mut headers) = (Vec::new(), Headers::default());
        headers.share(Name::Ours(wire::CAUSE), code.to_string().as_bytes());
        headers.share(Name::Ours(wire::KIND), format!("{code:?}").as_bytes());
        headers.share(Name::Ours(wire::TOPIC), self.config.kafka.topic.as_bytes());
        headers.share(Name::Ours(wire::HOST), self.config.name.as_bytes());
        if !lines.source.path.is_empty() {
            headers.share(Name::Ours(wire::PATH), lines.source.path.as_bytes());
        }
        let counts = encode::raw_with_headers(&lines, &self.config.name, room, &mut spans, &mut headers);
        self.count(&counts);
        headers.sort();
        let records = Records { keys: Keys::One(key.clone()), payloads: lines.buffer.clone(), spans, headers };
        of_one(letters, lane, key, lines, records, Some(code))
    }
}

fn of_one(
    route: usize,
    lane: usize,
    key: Box<[u8]>,
    lines: Lines,
    records: Records,
    refused: Option<RDKafkaErrorCode>,
) -> Part {
    let last_offset = lines.records.first().map_or(0, |record| record.offset);
    let payload_bytes = records.spans.first().map_or(0, |span| (span.end - span.start) as usize);
    let alone = Some(Box::new(Alone { lines, key, lane, payload_bytes, refused }));
    Part { route, lane, records, events: 1, last_offset, alone }
}
