//! The examples of the RFCs, what is in use beside them, and hostile input.

use super::*;
use proptest::prelude::*;

/// 2026-11-22T12:00:00Z.
const NOW_MS: i64 = 1_795_348_800_000;

fn clock(zone: &str) -> Clock {
    Clock { zone: TimeZone::get(zone).expect("a zone"), now_ms: NOW_MS }
}

fn read(message: &[u8]) -> Result<Message<'_>, &'static str> {
    parse(message, Format::Auto, false, &clock("UTC"))
}

/// Host, program, process, message id and text of a message that parses; the time as RFC 3339.
#[track_caller]
fn check(message: &str, time: Option<&str>, expected: [&str; 5]) {
    let parsed = read(message.as_bytes()).unwrap_or_else(|error| panic!("{message}: {error}"));
    let told = |part: Option<&[u8]>| String::from_utf8_lossy(part.unwrap_or(b"-")).into_owned();
    let got = [told(parsed.hostname), told(parsed.appname), told(parsed.procid), told(parsed.msgid)];
    assert_eq!((&got[..], &*String::from_utf8_lossy(parsed.text)), (&expected.map(str::to_owned)[..4], expected[4]));
    let time = time.map(|time| time.parse::<Timestamp>().expect("a time").as_millisecond());
    assert_eq!(parsed.timestamp_ms, time, "{message}");
}

#[test]
fn the_examples_of_rfc_5424() {
    check(
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8",
        Some("2003-10-11T22:14:15.003Z"),
        ["mymachine.example.com", "su", "-", "ID47", "'su root' failed for lonvick on /dev/pts/8"],
    );
    check(
        "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
        Some("2003-08-24T05:14:15-07:00"),
        ["192.0.2.1", "myproc", "8710", "-", "%% It's time to make the do-nuts."],
    );
    let only_data = "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" \
        eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 class=\"high\"]";
    check(only_data, Some("2003-10-11T22:14:15.003Z"), ["mymachine.example.com", "evntslog", "-", "ID47", ""]);
    let data = read(only_data.as_bytes()).expect("parses").data;
    assert_eq!(data[0].0, b"exampleSDID@32473");
    assert_eq!(data[0].1[2], (&b"eventID"[..], Cow::Borrowed(&b"1011"[..])));
    assert_eq!(data[1], (&b"examplePriority@32473"[..], vec![(&b"class"[..], Cow::Borrowed(&b"high"[..]))]));
    check("<0>1 - - - - - -", None, ["-", "-", "-", "-", ""]);
}

#[test]
fn values_of_structured_data_are_resolved() {
    let data = read(br#"<1>1 - - - - - [a x="q\"q" y="b\\b" z="c\]c" v="d\n" w=""] t"#).expect("parses").data;
    let values: Vec<_> = data[0].1.iter().map(|(_, value)| String::from_utf8_lossy(value)).collect();
    assert_eq!(values, ["q\"q", "b\\b", "c]c", "d\\n", ""]);
}

#[test]
fn the_examples_of_rfc_3164() {
    check(
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        Some("2026-10-11T22:14:15Z"),
        ["mymachine", "su", "-", "-", "'su root' failed for lonvick on /dev/pts/8"],
    );
    check(
        "<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!",
        Some("2027-02-05T17:32:18Z"),
        ["10.0.0.99", "-", "-", "-", "Use the BFG!"],
    );
    check("<13>Use the BFG!", None, ["-", "-", "-", "-", "Use the BFG!"]);
}

#[test]
fn what_is_in_use_beside_rfc_3164() {
    let at = Some("2026-11-22T10:00:00Z");
    check("<30>Nov 22 10:00:00 web-01 nginx[77]: up", at, ["web-01", "nginx", "77", "-", "up"]);
    check("<30>Nov 22 10:00:00 nginx[77]: up", at, ["-", "nginx", "77", "-", "up"]);
    check("<30>nginx[77]: up", None, ["-", "nginx", "77", "-", "up"]);
    check("<30>2026-11-22T11:00:00+01:00 web-01 app: up", at, ["web-01", "app", "-", "-", "up"]);
    check("<30>Nov 22 2026 10:00:00: %ASA-6: up", at, ["-", "%ASA-6", "-", "-", "up"]);
    check("<30>Nov 22 10:00:00.250 web-01 up", Some("2026-11-22T10:00:00.250Z"), ["web-01", "-", "-", "-", "up"]);
    let local = parse(b"<30>Nov 22 10:00:00 my.app: up", Format::Auto, true, &clock("UTC")).expect("parses");
    assert_eq!((local.hostname, local.appname, local.text), (None, Some(&b"my.app"[..]), &b"up"[..]));
}

#[test]
fn a_time_without_year_and_zone_is_the_nearest_in_the_zone() {
    let ms = |text: &str, zone| parse(text.as_bytes(), Format::Auto, false, &clock(zone)).expect("parses").timestamp_ms;
    let of = |time: &str| Some(time.parse::<Timestamp>().expect("a time").as_millisecond());
    assert_eq!(ms("<1>Nov 22 20:00:00 h x", "Asia/Shanghai"), of("2026-11-22T12:00:00Z"));
    assert_eq!(ms("<1>Jan  1 00:00:01 h x", "UTC"), of("2027-01-01T00:00:01Z"));
    assert_eq!(ms("<1>May 24 00:00:00 h x", "UTC"), of("2026-05-24T00:00:00Z"));
    assert_eq!(ms("<1>May 20 00:00:00 h x", "UTC"), of("2027-05-20T00:00:00Z"));
    assert_eq!(ms("<1>Feb 29 00:00:00 h x", "UTC"), None, "no such day in 2025, 2026 and 2027");
    assert_eq!(ms("<1>Jun 30 23:59:60 h x", "UTC"), of("2026-06-30T23:59:59Z"), "a leap second");
}

#[track_caller]
fn refuse(message: &[u8], reason: &str) {
    let error = read(message).expect_err("is refused");
    assert!(error.contains(reason), "{error}");
}

#[test]
fn what_is_no_message_is_refused_with_the_reason() {
    refuse(b"", "priority");
    refuse(b"plain text", "does not begin with a priority");
    refuse(b"<>1", "0 to 191");
    refuse(b"<192>1 - - - - - -", "0 to 191");
    refuse(b"<1234>x", "no end");
    refuse(b"<34>1 2003-10-11T22:14:15.003Z host", "not whole");
    refuse(b"<34>1 yesterday h a p m - x", "RFC 3339");
    refuse(b"<34>1 - h a p m x", "no structured data");
    refuse(b"<34>1 - h a p m [a b=\"", "no end");
    refuse(b"<34>1 - h a p m [a b=\"\\", "no end");
    refuse(b"<34>1 - h a p m [a b]", "in quotes");
    refuse(b"<34>1 - h a p m [a]x", "followed by a space");
    refuse(format!("<34>1 - h a p m [a{}]", " b=\"c\"".repeat(300)).as_bytes(), "256 parameters");
}

#[test]
fn nul_and_very_long_parts_are_text_like_any_other() {
    check("<13>Nov 22 10:00:00 h app: a\0b", Some("2026-11-22T10:00:00Z"), ["h", "app", "-", "-", "a\0b"]);
    let long = "x".repeat(64 * 1024);
    check(&format!("<13>{long}: y"), None, ["-", "-", "-", "-", &format!("{long}: y")]);
    check(&format!("<13>1 - {long} - - - - y"), None, [&long, "-", "-", "-", "y"]);
}

proptest! {
    /// Whatever comes: no panic, and the text is what stands behind the header.
    #[test]
    fn any_bytes_parse_or_are_refused(
        head in prop_oneof![Just("<13>"), Just("<13>1 "), Just("<13>Nov 22 10:00:00 "), Just("<1>1 - - - - - ["), Just("")],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        is_local in any::<bool>(),
    ) {
        let message = [head.as_bytes(), &bytes].concat();
        for format in [Format::Auto, Format::Rfc3164, Format::Rfc5424] {
            if let Ok(parsed) = parse(&message, format, is_local, &clock("Europe/Berlin")) {
                prop_assert!(message.ends_with(parsed.text));
            }
        }
    }

    /// A message that is written as RFC 5424 says is read as it was meant: no byte of it is lost.
    #[test]
    fn a_written_message_is_read_back(
        priority in 0_u8..192, words in proptest::collection::vec("[!-~&&[^\\-]][!-~]{0,20}", 4),
        values in proptest::collection::vec("[ -~é]{0,20}", 0..4), text in "[ -~é\\x00]{0,80}",
    ) {
        let escaped = |value: &String| value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
        let parameters: String = values.iter().map(|value| format!(" p=\"{}\"", escaped(value))).collect();
        let message = format!("<{priority}>1 - {} [id{parameters}] {text}", words.join(" "));
        let parsed = read(message.as_bytes()).expect("parses");
        let got = [parsed.hostname, parsed.appname, parsed.procid, parsed.msgid].map(Option::unwrap_or_default);
        prop_assert_eq!(got.to_vec(), words.iter().map(String::as_bytes).collect::<Vec<_>>());
        prop_assert_eq!((parsed.priority, parsed.text), (priority, text.as_bytes()));
        let read_values: Vec<_> = parsed.data[0].1.iter().map(|(_, value)| value.to_vec()).collect();
        prop_assert_eq!(read_values, values.iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>());
    }

    /// A message as RFC 3164 has it is put together again from its parts.
    #[test]
    fn an_older_message_is_put_together_again(host in "[a-z][a-z0-9.]{0,20}", tag in "[a-z/_.]{1,30}", pid in 1_u32..99_999, text in "[ -~é\\x00]{0,80}") {
        let message = format!("<30>Nov 22 10:00:00 {host} {tag}[{pid}]: {text}");
        let parsed = read(message.as_bytes()).expect("parses");
        let parts = [parsed.hostname, parsed.appname, parsed.procid].map(|part| String::from_utf8_lossy(part.unwrap_or_default()));
        let text = String::from_utf8_lossy(parsed.text);
        prop_assert_eq!(format!("<30>Nov 22 10:00:00 {} {}[{}]: {text}", parts[0], parts[1], parts[2]), message);
    }
}
