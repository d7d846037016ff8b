//! Lines of one file → records that hold many: the lines joined by newlines, their places in a header. See [`event::wire`].

use super::headers::{HEADERS_FRAME_BYTES, of_source, shared_event};
use super::{Counts, Envelope, Headers, Lines, Name, envelope, json_record, prefix};
use event::wire::{self, Form, Spans};

/// Packs the records of a group, in order.
pub(crate) struct Packer<'a> {
    lines: &'a Lines,
    host: &'a str,
    envelope: Envelope,
    /// The JSON of what all events share.
    event: Vec<u8>,
    /// A record is closed at this size; one event may be larger.
    pack_bytes: usize,
    /// No record is larger than this, headers included.
    record_bytes_max: usize,
    next: usize,
}

/// What a packed record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) events: u64,
    /// Source offset of the last one.
    pub(crate) last_offset: u64,
}

impl<'a> Packer<'a> {
    /// `headers_bytes`: what headers of one's own take of each record.
    pub(crate) fn new(
        lines: &'a Lines,
        host: &'a str,
        pack_bytes: usize,
        record_bytes_max: usize,
        headers_bytes: usize,
    ) -> Self {
        let envelope = envelope(lines, host);
        let mut event = Vec::new();
        shared_event(&envelope, &mut event);
        let taken = event.len() + lines.source.path.len() + host.len() + HEADERS_FRAME_BYTES + headers_bytes;
        let record_bytes_max = record_bytes_max.saturating_sub(taken);
        let pack_bytes = pack_bytes.min(record_bytes_max);
        Self { lines, host, envelope, event, pack_bytes, record_bytes_max, next: 0 }
    }

    /// Appends the payload of the next record to `out`, which is empty, and its headers. `None` if there is no more.
    pub(crate) fn pack(&mut self, out: &mut Vec<u8>, headers: &mut Headers, counts: &mut Counts) -> Option<Packed> {
        if self.next == self.lines.records.len() {
            return None;
        }
        let (first, mut spans) = (self.next, Spans::default());
        for record in &self.lines.records[first..] {
            let (mut start, is_first) = (out.len(), self.next == first);
            let room = self.record_bytes_max.saturating_sub(2 * Spans::EVENT_BYTES_MAX);
            let mut counted = Counts::default();
            if !is_first {
                out.push(b'\n');
                start += 1;
            }
            let form = if record.extra.is_some() {
                json_record(record, self.lines, &self.envelope, room, out, &mut counted);
                Form::Json
            } else {
                let line = self.lines.bytes_of(record);
                let kept = prefix(line, room);
                counted.cut += u64::from(kept.len() < line.len());
                out.extend_from_slice(kept);
                if record.truncated || kept.len() < line.len() { Form::Truncated } else { Form::Line }
            };
            if !is_first && out.len() + spans.bytes() + Spans::EVENT_BYTES_MAX > self.pack_bytes {
                out.truncate(start - 1);
                break;
            }
            spans.push(out.len() - start, record.offset, form);
            counts.invalid_utf8 += counted.invalid_utf8;
            counts.cut += counted.cut;
            self.next += 1;
        }
        of_source(self.lines, self.host, headers);
        headers.share(Name::Ours(wire::EVENT), &self.event);
        headers.share(Name::Ours(wire::SPANS), &spans.take());
        let (events, last) = ((self.next - first) as u64, &self.lines.records[self.next - 1]);
        Some(Packed { events, last_offset: last.offset })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::group;
    use super::*;
    use event::wire::places;
    use event::{Extra, Input};
    use proptest::prelude::*;

    /// Text, source offset and form.
    type Found = (Vec<u8>, u64, Form);

    /// What the indexer finds in the packed records of `lines`: text, source offset and form of each event; and the size of
    /// each record with its headers.
    fn packed(lines: &Lines, pack_bytes: usize, record_bytes_max: usize) -> (Vec<Found>, Vec<usize>, Counts) {
        let mut packer = Packer::new(lines, "web-01", pack_bytes, record_bytes_max, 0);
        let (mut found, mut sizes, mut counts) = (Vec::new(), Vec::new(), Counts::default());
        loop {
            let (mut out, mut headers) = (Vec::new(), Headers::default());
            let Some(Packed { events, last_offset }) = packer.pack(&mut out, &mut headers, &mut counts) else { break };
            let spans =
                headers.of_each(1).flatten().find(|(name, _)| *name == wire::SPANS).map(|(_, value)| value.to_vec());
            let places = places(&spans.expect("it has spans"), out.len()).expect("they fit");
            assert_eq!((places.len() as u64, places.last().map(|last| last.offset)), (events, Some(last_offset)));
            assert!(places.windows(2).all(|pair| out[pair[0].bytes.end] == b'\n'), "events are lines");
            found.extend(places.into_iter().map(|place| (out[place.bytes].to_vec(), place.offset, place.form)));
            sizes.push(out.len() + headers.bytes(1));
        }
        (found, sizes, counts)
    }

    proptest! {
        /// Every line comes out as it was, in order, and no record is larger than the topic takes.
        #[test]
        fn lines_are_packed_and_found_again(
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..60),
            pack_bytes in 1..3_000_usize,
        ) {
            let slices: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            let lines = group(&slices, Input::default());
            let (found, sizes, counts) = packed(&lines, pack_bytes, 4_000);
            let expected: Vec<_> = lines.records.iter()
                .map(|record| (lines.bytes_of(record).to_vec(), record.offset, Form::Line)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(counts, Counts::default());
            prop_assert!(sizes.iter().all(|size| *size <= 4_000), "{:?}", sizes);
        }
    }

    #[test]
    fn a_line_larger_than_a_pack_goes_alone_and_one_larger_than_the_topic_takes_is_cut() {
        let (large, huge) = (vec![b'l'; 1_000], vec![b'h'; 10_000]);
        let (found, sizes, counts) = packed(&group(&[b"a", b"b", &large, &huge, b"c"], Input::default()), 100, 4_000);
        let forms: Vec<_> = found.iter().map(|(text, _, form)| (text.len(), *form)).collect();
        assert_eq!(sizes.len(), 4, "a and b, large, huge, c");
        assert_eq!(
            (&forms[..3], &forms[4]),
            (&[(1, Form::Line), (1, Form::Line), (1_000, Form::Line)][..], &(1, Form::Line))
        );
        assert!(forms[3].0 > 2_000 && forms[3].1 == Form::Truncated && counts.cut == 1, "{forms:?}");
        assert!(sizes.iter().all(|size| *size <= 4_000), "{sizes:?}");
    }

    #[test]
    fn an_event_with_fields_is_whole_json_and_counted_once_however_often_it_was_tried() {
        let mut lines = group(&[b"a\xff", b"b\xff", b"c\xff"], Input::default());
        for record in &mut lines.records {
            record.extra = Some(Box::new(Extra { fields: r#"{"n":1}"#.into(), ..Extra::default() }));
        }
        let (found, sizes, counts) = packed(&lines, 700, 10_000);
        assert_eq!((found.len(), sizes.len(), counts.invalid_utf8), (3, 3, 3));
        for (text, _, form) in found {
            let event: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
            assert_eq!((form, &event["n"]), (Form::Json, &1.into()));
            assert!(event["@metadata"]["_id"].is_string());
        }
    }
}
