//! Processors that the stack's search node lacks, or has under other options: examples of Elasticsearch's reference, and what
//! its texts say of the rest.

use engine::{Library, Outcome};
use event::{Event, Value};

/// What the processor makes of the document: JSON, or the reason why it failed. `_index` is shown if there is one.
fn run(processors: &str, index: Option<&str>, document: &str) -> String {
    let mut library = Library::new();
    library.add("p", "p.yml", &format!("processors: [{processors}]")).expect("the pipeline loads");
    let Ok(Value::Object(source)) = Value::from_json(document.as_bytes()) else { panic!("{document}") };
    let mut event = Event::new(source);
    if let Some(index) = index {
        event.metadata.fields.insert("_index", index);
    }
    match library.get("p").expect("it was just added").run(&library, &mut event, 0) {
        Ok(Outcome::Document) => {
            let index = event.metadata.index().map(|index| format!("{index} ")).unwrap_or_default();
            format!("{index}{}", Value::Object(event.source).to_json())
        }
        Ok(Outcome::Dropped) => "dropped".to_owned(),
        Err(failure) => failure.reason,
    }
}

#[track_caller]
fn check(processor: &str, document: &str, expected: &str) {
    assert_eq!(run(&format!("{{{processor}}}"), None, document), expected);
}

#[track_caller]
fn refused(processor: &str, expected: &str) {
    let error = Library::new().add("p", "p.yml", &format!("processors: [{{{processor}}}]")).expect_err("a refusal");
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn redact_shows_the_pattern_in_place_of_what_it_matches() {
    let redact = "redact: {field: m, patterns: ['%{IP:REDACTED}', '%{EMAILADDRESS:EMAIL}']}";
    check(redact, r#"{"m":"55.3.244.1 GET /x test@elastic.co"}"#, r#"{"m":"<REDACTED> GET /x <EMAIL>"}"#);
    check(redact, r#"{"m":"from ::1 to 10.0.0.1, 10.0.0.2"}"#, r#"{"m":"from <REDACTED> to <REDACTED>, <REDACTED>"}"#);
    check(redact, r#"{"m":"nothing"}"#, r#"{"m":"nothing"}"#);
    check(redact, r#"{"m":null}"#, r#"{"m":null}"#);
    check(redact, "{}", "{}");
    check(redact, r#"{"m":1}"#, "field [m] of type [java.lang.Integer] cannot be cast to [java.lang.String]");
    check("redact: {field: m, patterns: ['%{IP:X}'], ignore_missing: false}", "{}", "field [m] is null or missing");
    check(
        "redact: {field: m, patterns: ['%{IP:CLIENT}'], prefix: '*', suffix: '!'}",
        r#"{"m":"ü 1.2.3.4 ü"}"#,
        r#"{"m":"ü *CLIENT! ü"}"#,
    );
    check(
        r"redact: {field: m, patterns: ['%{GITHUB_NAME:GITHUB_NAME}'], pattern_definitions: {GITHUB_NAME: '@%{USERNAME}'}}",
        r#"{"m":"hello @x-1 and @y"}"#,
        r#"{"m":"hello <GITHUB_NAME> and <GITHUB_NAME>"}"#,
    );
    // What touches or overlaps becomes one, under the name of the longest.
    check(
        r"redact: {field: m, patterns: ['(?<A>[0-9]+)', '(?<B>[0-9]-[a-z]+)']}",
        r#"{"m":"12-abc 7"}"#,
        r#"{"m":"<B> <A>"}"#,
    );
    check(r"redact: {field: m, patterns: ['\b(?<A>a)']}", r#"{"m":"a aa ba"}"#, r#"{"m":"<A> <A>a ba"}"#);
    check(r"redact: {field: m, patterns: ['(?<A>x*)']}", r#"{"m":"ab"}"#, r#"{"m":"<A>a<A>b"}"#);
    // Of those that need backtracking, too.
    check(r"redact: {field: m, patterns: ['(?<A>(?<B>.)\k<B>)']}", r#"{"m":"äab bb cc"}"#, r#"{"m":"äab <A> <A>"}"#);
    let trace = "redact: {field: m, patterns: ['%{IP:X}'], trace_redact: true, skip_if_unlicensed: true}";
    let told = format!("{{{trace}}}, {{set: {{field: t, value: '{{{{_ingest._redact._is_redacted}}}}'}}}}");
    assert_eq!(run(&told, None, r#"{"m":"1.2.3.4"}"#), r#"{"m":"<X>","t":"true"}"#);
    assert_eq!(run(&told, None, r#"{"m":"none"}"#), r#"{"m":"none","t":""}"#);
    refused("redact: {field: m, patterns: []}", "[patterns] List of patterns must not be empty");
    refused(
        "redact: {field: m, patterns: ['%{IP}']}",
        "names no field: what is shown in place of a match, as in %{IP:CLIENT}",
    );
}

#[test]
fn redact_gives_up_on_a_text_that_would_take_too_long() {
    let document = format!(r#"{{"m":"{}"}}"#, "c ".repeat(20_000));
    let reason = run(r"{redact: {field: m, patterns: ['(?<A>c(.*b)?)']}}", None, &document);
    let told = reason.get(..64).unwrap_or(&reason);
    assert!(told.starts_with("Grok pattern matching timed out: redact gave up after ["), "{told}");
    let document = format!(r#"{{"m":"{}"}}"#, "10.0.0.1 ".repeat(20_000));
    let redacted = run(r"{redact: {field: m, patterns: ['%{IP:A}', '%{EMAILADDRESS:B}']}}", None, &document);
    assert_eq!(redacted.matches("<A> ").count(), 20_000);
}

#[test]
fn registered_domain_is_set_beside_its_parts() {
    let domain = "registered_domain: {field: fqdn, target_field: url}";
    check(
        domain,
        r#"{"fqdn":"www.example.ac.uk"}"#,
        r#"{"fqdn":"www.example.ac.uk","url":{"domain":"www.example.ac.uk","registered_domain":"example.ac.uk","top_level_domain":"ac.uk","subdomain":"www"}}"#,
    );
    check(
        "registered_domain: {field: d.n}",
        r#"{"d":{"n":"elastic.co"}}"#,
        r#"{"d":{"n":"elastic.co"},"domain":"elastic.co","registered_domain":"elastic.co","top_level_domain":"co"}"#,
    );
    check(domain, r#"{"fqdn":"co.uk"}"#, r#"{"fqdn":"co.uk","url":{"domain":"co.uk","top_level_domain":"co.uk"}}"#);
    check(domain, r#"{"fqdn":"10.0.0.1"}"#, r#"{"fqdn":"10.0.0.1"}"#);
    check(domain, "{}", "{}");
    check(domain, r#"{"fqdn":1}"#, "field [fqdn] of type [java.lang.Integer] cannot be cast to [java.lang.String]");
    let strict = "registered_domain: {field: fqdn, ignore_missing: false}";
    check(strict, r#"{"fqdn":"foo.bar.baz"}"#, "unable to set domain information for document");
    check(strict, "{}", "field [fqdn] not present as part of path [fqdn]");
}

#[track_caller]
fn rerouted(reroute: &str, index: Option<&str>, document: &str, expected: &str) {
    let pipeline = format!("{{reroute: {{{reroute}}}}}, {{set: {{field: after, value: 1}}}}");
    assert_eq!(run(&pipeline, index, document), expected);
}

#[test]
fn reroute_names_another_index_and_ends_the_pipeline() {
    let logs = Some("logs-generic-default");
    rerouted("destination: other", logs, "{}", "other {}");
    rerouted(
        "dataset: nginx",
        logs,
        "{}",
        r#"logs-nginx-default {"data_stream":{"type":"logs","dataset":"nginx","namespace":"default"}}"#,
    );
    rerouted(
        "",
        logs,
        r#"{"data_stream":{"dataset":"Foo Bar-baz","namespace":"a-b/c"},"event":{"dataset":"x"}}"#,
        r#"logs-foo_bar_baz-a-b_c {"data_stream":{"dataset":"foo_bar_baz","namespace":"a-b_c","type":"logs"},"event":{"dataset":"foo_bar_baz"}}"#,
    );
    rerouted(
        "dataset: ['{{service.name}}', '{{{other}}}', generic], namespace: '{{ns}}', type: metrics",
        logs,
        r#"{"service":{"name":5},"other":"o"}"#,
        r#"metrics-o-default {"service":{"name":5},"other":"o","data_stream":{"type":"metrics","dataset":"o","namespace":"default"}}"#,
    );
    // Without an index there is one all the same; what follows the second dash is the namespace.
    rerouted(
        "namespace: [n]",
        None,
        "{}",
        r#"logs-generic-n {"data_stream":{"type":"logs","dataset":"generic","namespace":"n"}}"#,
    );
    rerouted(
        "dataset: d",
        Some("logs-a-b-c"),
        "{}",
        r#"logs-d-b-c {"data_stream":{"type":"logs","dataset":"d","namespace":"b-c"}}"#,
    );
    let long = "x".repeat(101);
    let cut = "x".repeat(100);
    rerouted(
        "dataset: '{{l}}'",
        logs,
        &format!(r#"{{"l":"{long}"}}"#),
        &format!(
            r#"logs-{cut}-default {{"l":"{long}","data_stream":{{"type":"logs","dataset":"{cut}","namespace":"default"}}}}"#
        ),
    );
    rerouted(
        "dataset: d",
        Some("plain"),
        "{}",
        "invalid data stream name: [plain]; must follow naming scheme <type>-<dataset>-<namespace>",
    );
    refused(
        "reroute: {destination: a, dataset: b}",
        "[destination] can only be set if type, dataset and namespace are not set",
    );
    refused("reroute: {dataset: a-b}", "[dataset] 'a-b' contains disallowed characters");
    refused("reroute: {namespace: 'A'}", "[namespace] 'A' contains disallowed characters");
    refused("reroute: {dataset: 'a{{b}}'}", "[dataset] 'a{{b}}' is not a valid field reference");
    refused("reroute: {dataset: '{{a}}-{{b}}'}", "[dataset] '{{a}}-{{b}}' is not a valid field reference");
}

#[test]
fn reroute_ends_the_pipelines_that_called_its_own() {
    let mut library = Library::new();
    let add = |library: &mut Library, name: &str, text: &str| library.add(name, name, text).expect("it loads");
    add(&mut library, "p", "processors: [{pipeline: {name: q}}, {set: {field: p, value: 1}}]");
    add(&mut library, "q", "processors: [{fail: {message: x}}]\non_failure: [{reroute: {destination: d}}, {drop: {}}]");
    add(
        &mut library,
        "each",
        "processors: [{foreach: {field: l, processor: {reroute: {destination: '{{_ingest._value}}'}}}}, {drop: {}}]"
            .replace("'{{_ingest._value}}'", "e")
            .as_str(),
    );
    for (name, expected) in [("p", "d"), ("each", "e")] {
        let mut event = Event::default();
        event.source.insert("l", Value::Array(vec!["a".into(), "b".into()]));
        let outcome = library.get(name).expect("it was added").run(&library, &mut event, 0);
        assert_eq!((outcome, event.metadata.index()), (Ok(Outcome::Document), Some(expected)), "{name}");
        assert!(!event.source.contains("p"), "{name}");
    }
}

#[track_caller]
fn community_id(options: &str, document: &str, expected: &str) {
    let ran = run(
        &format!("{{community_id: {{{options}}}}}, {{set: {{field: id, copy_from: network.community_id}}}}"),
        None,
        document,
    );
    let id = ran.rsplit_once(r#""id":""#).map_or(ran.as_str(), |(_, id)| id.trim_end_matches(['"', '}']));
    assert_eq!(id, expected, "{ran}");
}

/// The reference's example, and Elasticsearch's own options.
#[test]
fn community_id_reads_the_fields_of_ecs() {
    let flow = |rest: &str| {
        format!(
            r#"{{"source":{{"ip":"123.124.125.126","port":12345}},"destination":{{"ip":"55.56.57.58","port":80}}{rest}}}"#
        )
    };
    let tcp = "1:9qr9Z1LViXcNwtLVOHZ3CL8MlyM=";
    community_id("", &flow(r#","network":{"transport":"TCP"}"#), tcp);
    community_id("", &flow(r#","network":{"transport":"6"}"#), tcp);
    community_id("", &flow(r#","network":{"iana_number":6}"#), tcp);
    community_id("", &flow(r#","network":{"iana_number":"tcp"}"#), tcp);
    community_id("target_field: network.community_id", &flow(r#","network":{"iana_number":6.7}"#), tcp);
    community_id("", &flow(""), "field [network] not present as part of path [network.community_id]");
    community_id("ignore_missing: false", &flow(""), "field [network] not present as part of path [network.transport]");
    community_id("ignore_missing: false", "{}", "field [source] not present as part of path [source.ip]");
    community_id(
        "ignore_missing: false",
        &flow(r#","network":{"transport":null}"#),
        "unable to construct flow from document",
    );
    community_id("", &flow(r#","network":{"transport":"x"}"#), "could not convert string [x] to transport protocol");
    community_id(
        "",
        &flow(r#","network":{"transport":true}"#),
        "could not convert value of type [java.lang.Boolean] to transport protocol",
    );
    community_id("", &flow(r#","network":{"transport":255}"#), "invalid transport protocol number [255]");
    let tcp = r#","network":{"transport":"tcp"},"p":"x","q":70000,"r":"nowhere""#;
    community_id("source_port: p", &flow(tcp), "unable to parse source port [x]");
    community_id("destination_port: q", &flow(tcp), "invalid destination port [70000]");
    community_id("source_ip: r", &flow(tcp), "'nowhere' is not an IP string literal.");
    community_id(
        "source_ip: q",
        &flow(tcp),
        "field [q] of type [java.lang.Integer] cannot be cast to [java.lang.String]",
    );
    refused("community_id: {seed: 65536}", "[seed] must be a value between 0 and 65535");
    refused("community_id: {seed: x}", "[seed] property cannot be converted to an int [x]");
}

/// Of the specification's baseline: `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, and with seed 1.
#[test]
fn community_ids_are_those_of_the_specification() {
    let id = |options: &str, source: &str, destination: &str, rest: &str, expected: &str| {
        let both =
            format!(r#"{{"source":{{"ip":"{source}","port":P1}},"destination":{{"ip":"{destination}","port":P2}}"#);
        let ports: Vec<_> = rest.split_whitespace().collect();
        let document = match ports[0] {
            "icmp" | "ipv6-icmp" => format!(
                r#"{},"network":{{"transport":"{}"}},"icmp":{{"type":{},"code":{}}}}}"#,
                both.replace("P1", "1").replace("P2", "2"),
                ports[0],
                ports[1],
                ports[2]
            ),
            name => format!(
                r#"{},"network":{{"transport":"{name}"}}}}"#,
                both.replace("P1", ports[1]).replace("P2", ports[2])
            ),
        };
        community_id(options, &document, expected);
    };
    let (a, b) = ("128.232.110.120", "66.35.250.204");
    id("", a, b, "tcp 34855 80", "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
    id("", b, a, "tcp 80 34855", "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
    id("seed: 1", a, b, "tcp 34855 80", "1:3V71V58M3Ksw/yuFALMcW0LAHvc=");
    id("", "192.168.1.52", "8.8.8.8", "udp 54585 53", "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
    id("", "192.168.170.8", "192.168.170.56", "sctp 7 80", "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ=");
    id("", "192.168.0.89", "192.168.0.1", "icmp 8 0", "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
    id("", "192.168.0.1", "192.168.0.89", "icmp 0 0", "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
    id("", "192.168.0.89", "192.168.0.1", "icmp 20 0", "1:3o2RFccXzUgjl7zDpqmY7yJi8rI=");
    id("", "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", "ipv6-icmp 135 0", "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=");
    id("", "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", "ipv6-icmp 136 0", "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=");
}
