//! What pipelines do to documents. The expected results of processors were seen on a real OpenSearch 2.19 node.

use engine::{Library, Outcome};
use event::{Event, Value};
use proptest::prelude::*;

/// 2026-11-22T21:00:00Z.
const NOW_MS: i64 = 1_795_381_200_000;

fn load(pipeline: &str) -> Result<Library, String> {
    let mut library = Library::new();
    library.add("p", "p.yml", pipeline).map_err(|error| error.to_string())?;
    Ok(library)
}

/// What the pipeline makes of the document: JSON, or `TYPE: REASON`.
fn run(pipeline: &str, document: &str) -> String {
    let library = load(pipeline).expect("the pipeline loads");
    let Ok(Value::Object(source)) = Value::from_json(document.as_bytes()) else { panic!("{document}") };
    let mut event = Event::new(source);
    match library.get("p").expect("it was just added").run(&library, &mut event, NOW_MS) {
        Ok(Outcome::Document) => Value::Object(event.source).to_json(),
        Ok(Outcome::Dropped) => "dropped".to_owned(),
        Err(failure) => format!("{}: {}", failure.kind, failure.reason),
    }
}

#[track_caller]
fn check(processor: &str, document: &str, expected: &str) {
    assert_eq!(run(&format!("processors: [{{{processor}}}]"), document), expected);
}

#[track_caller]
fn refused(pipeline: &str, expected: &str) {
    let error = load(pipeline).expect_err("a refusal");
    assert!(error.contains(expected), "{error}");
}

const BAD: &str = "illegal_argument_exception: ";

#[test]
fn set_writes_values_templates_and_copies() {
    check("set: {field: a.b, value: 5}", "{}", r#"{"a":{"b":5}}"#);
    check("set: {field: a, value: x, override: false}", r#"{"a":null}"#, r#"{"a":"x"}"#);
    check("set: {field: a, value: x, override: false}", r#"{"a":1}"#, r#"{"a":1}"#);
    check("set: {field: '{{f}}', value: ['{{x}}']}", r#"{"f":"t","x":1.5}"#, r#"{"f":"t","x":1.5,"t":["1.5"]}"#);
    check("set: {field: t, copy_from: a}", r#"{"a":[1]}"#, r#"{"a":[1],"t":[1]}"#);
    check("set: {field: t, value: '{{x}}', ignore_empty_value: true}", "{}", "{}");
    check(
        "set: {field: a.0, value: 1}",
        r#"{"a":[]}"#,
        &format!("{BAD}[0] is out of bounds for array with length [0] as part of path [a.0]"),
    );
}

#[test]
fn rename_and_remove_say_what_is_missing() {
    check("rename: {field: a, target_field: b.c}", r#"{"a":1}"#, r#"{"b":{"c":1}}"#);
    check("rename: {field: a, target_field: b}", "{}", &format!("{BAD}field [a] doesn't exist"));
    check("rename: {field: a, target_field: b}", r#"{"a":1,"b":2}"#, &format!("{BAD}field [b] already exists"));
    check("rename: {field: a, target_field: b, override: true}", r#"{"a":1,"b":2}"#, r#"{"b":1}"#);
    check("rename: {field: '{{x}}', target_field: b}", "{}", &format!("{BAD}field path cannot be null nor empty"));
    check("remove: {field: [a, c.d]}", r#"{"a":1,"b":2,"c":{"d":1}}"#, r#"{"b":2,"c":{}}"#);
    check("remove: {field: z}", "{}", &format!("{BAD}field [z] doesn't exist"));
    check("remove: {field: z, ignore_missing: true}", "{}", "{}");
    check("remove: {keep: [a, b.c]}", r#"{"a":1,"b":{"c":1,"d":2},"e":3}"#, r#"{"a":1,"b":{"c":1}}"#);
}

#[test]
fn a_rename_that_cannot_be_finished_leaves_the_field_where_it_was() {
    let pipeline = "processors: [{rename: {field: a, target_field: b.c, ignore_failure: true}}]";
    assert_eq!(run(pipeline, r#"{"a":1,"b":"s"}"#), r#"{"b":"s","a":1}"#);
}

#[test]
fn lowercase_convert_and_json() {
    check("lowercase: {field: a}", r#"{"a":["ÄB","C"]}"#, r#"{"a":["äb","c"]}"#);
    check("lowercase: {field: a}", r#"{"a":null}"#, &format!("{BAD}field [a] is null, cannot process it."));
    let wrong = "field [a] of type [java.lang.Integer] cannot be cast to [java.lang.String]";
    check("lowercase: {field: a}", r#"{"a":1}"#, &format!("{BAD}{wrong}"));
    check("convert: {field: a, type: integer}", r#"{"a":["1","0x1F"]}"#, r#"{"a":[1,31]}"#);
    check(
        "convert: {field: a, type: long}",
        r#"{"a":null}"#,
        &format!("{BAD}Field [a] is null, cannot be converted to type [long]"),
    );
    check(
        "json: {field: s, target_field: t}",
        r#"{"s":"{\"b\":[1,2.5]}"}"#,
        r#"{"s":"{\"b\":[1,2.5]}","t":{"b":[1,2.5]}}"#,
    );
    check("json: {field: s, add_to_root: true}", r#"{"s":"{\"b\":1}","b":0}"#, r#"{"s":"{\"b\":1}","b":1}"#);
    check(
        "json: {field: s, add_to_root: true}",
        r#"{"s":"1"}"#,
        &format!("{BAD}cannot add non-map fields to root of document"),
    );
}

#[test]
fn date_reads_as_the_node_reads() {
    let date = |formats: &str, more: &str, text: &str| {
        let pipeline = format!(
            "processors: [{{date: {{field: a, formats: [{formats}], target_field: t{more}}}}}, {{remove: {{field: a}}}}]"
        );
        run(&pipeline, &format!("{{\"a\":\"{text}\"}}"))
    };
    let nginx = "'dd/MMM/yyyy:H:m:s Z'";
    assert_eq!(date(nginx, "", "07/Dec/2016:11:05:07 +0100"), r#"{"t":"2016-12-07T10:05:07.000Z"}"#);
    // With a zone the original does not look at the text's own.
    assert_eq!(
        date(nginx, ", timezone: '+05:00'", "07/Dec/2016:11:05:07 +0100"),
        r#"{"t":"2016-12-07T11:05:07.000+05:00"}"#
    );
    assert_eq!(
        date(nginx, "", "31/Feb/2016:11:05:07 +0000"),
        format!("{BAD}unable to parse date [31/Feb/2016:11:05:07 +0000]")
    );
    assert_eq!(date("'MMM d HH:mm:ss'", "", "Dec 7 11:05:07"), r#"{"t":"2026-12-07T11:05:07.000Z"}"#);
    // In November December is to come, and January is long past.
    assert_eq!(date("'MMM d HH:mm:ss'", "", "Jan 1 00:00:01"), r#"{"t":"2026-01-01T00:00:01.000Z"}"#);
    assert_eq!(
        date("ISO8601", ", timezone: Europe/Berlin", "2016-12-07T11:05:07,5Z"),
        r#"{"t":"2016-12-07T12:05:07.500+01:00"}"#
    );
    assert_eq!(date("UNIX", "", "1481108707.5"), r#"{"t":"2016-12-07T11:05:07.500Z"}"#);
    assert_eq!(date("UNIX_MS", "", "1481108707123"), r#"{"t":"2016-12-07T11:05:07.123Z"}"#);
    assert_eq!(date("TAI64N", "", "@4000000050d506482dbdf024"), r#"{"t":"2012-12-22T01:00:46.767Z"}"#);
    assert_eq!(date("yyyyMMddHHmmssSSS", "", "20161207110507123"), r#"{"t":"2016-12-07T11:05:07.123Z"}"#);
    assert_eq!(date("'yyyy-MM-dd HH:mm[:ss]'", "", "2016-12-07 11:05"), r#"{"t":"2016-12-07T11:05:00.000Z"}"#);
    assert_eq!(date("'yyyy-MM-dd h:mm a'", "", "2016-12-07 3:05 PM"), r#"{"t":"2016-12-07T15:05:00.000Z"}"#);
    // All formats are tried and the last that fits wins.
    assert_eq!(date("MM/dd/yy, dd/MM/yy", "", "12/07/16"), r#"{"t":"2016-07-12T00:00:00.000Z"}"#);
}

#[test]
fn grok_sets_fields_with_their_types() {
    check("grok: {field: m, patterns: ['%{INT:a.b:int} %{WORD:m}']}", r#"{"m":"5 x"}"#, r#"{"m":"x","a":{"b":5}}"#);
    check(
        "grok: {field: m, patterns: ['%{INT:n:int}']}",
        r#"{"m":"99999999999"}"#,
        "number_format_exception: For input string: \"99999999999\"",
    );
    let none = "Provided Grok expressions do not match field value: [x]";
    check("grok: {field: m, patterns: ['%{INT:n}']}", r#"{"m":"x"}"#, &format!("{BAD}{none}"));
    let trace = "processors: [{grok: {field: m, patterns: [b, a], trace_match: true}}, {set: {field: n, value: '{{_ingest._grok_match_index}}'}}]";
    assert_eq!(run(trace, r#"{"m":"ab"}"#), r#"{"m":"ab","n":"1"}"#);
}

/// What a stamp without a year becomes at the time `now`.
fn dated_at(now: &str, text: &str) -> String {
    let library =
        load("processors: [{date: {field: a, formats: ['MMM d HH:mm:ss'], target_field: t}}]").expect("it loads");
    let mut event = Event::default();
    event.source.insert("a", text);
    let now = engine::parse_now(now).expect("a time");
    library.get("p").expect("it was just added").run(&library, &mut event, now).expect("a date");
    event.source.get("t").and_then(Value::as_text).unwrap_or_default().to_owned()
}

#[test]
fn a_stamp_without_a_year_belongs_to_the_nearer_new_year() {
    assert_eq!(dated_at("2014-01-01T00:30:50Z", "Dec 31 23:59:00"), "2013-12-31T23:59:00.000Z");
    assert_eq!(dated_at("2013-12-31T23:59:50Z", "Jan 1 01:00:00"), "2014-01-01T01:00:00.000Z");
    assert_eq!(dated_at("2014-01-31T00:00:00Z", "Feb 1 00:00:00"), "2014-02-01T00:00:00.000Z");
    assert_eq!(dated_at("2014-06-30T00:00:00Z", "Dec 31 23:59:00"), "2014-12-31T23:59:00.000Z");
}

#[test]
fn a_condition_decides_and_its_failure_is_the_pipelines() {
    check("set: {field: t, value: 1, if: 'ctx.a == 1'}", r#"{"a":1}"#, r#"{"a":1,"t":1}"#);
    check("set: {field: t, value: 1, if: 'ctx.a == 1'}", r#"{"a":2}"#, r#"{"a":2}"#);
    check(
        "set: {field: t, value: 1, if: 'ctx.a.b == 1', ignore_failure: true}",
        "{}",
        "script_exception: runtime error",
    );
    let pipeline =
        format!("processors: [{{set: {{field: t, value: 1, if: 'ctx.a.b == 1', tag: T}}}}]\non_failure: [{{{TELL}}}]");
    let library = load("processors: [{set: {field: t, value: 1, if: 'ctx.a.b == 1'}}]").expect("it loads");
    let failure = library.get("p").expect("it was just added").run(&library, &mut Event::default(), NOW_MS);
    let text = failure.expect_err("there is no a").to_string();
    assert!(text.ends_with("runtime error (cannot access method/field [b] from a null def reference)"), "{text}");
    let told = r#"{"e":"cannot access method/field [b] from a null def reference|conditional|T|p"}"#;
    assert_eq!(run(&pipeline, "{}"), told);
    refused(
        "processors: [{set: {field: a, value: 1, if: 'ctx.a ='}}]",
        "processors[0].set: [if] script, line 1, column 8: ",
    );
}

#[test]
fn a_pipeline_calls_another_and_never_itself() {
    let mut library = Library::new();
    let calls = |name: &str| {
        format!(
            "processors: [{{pipeline: {{name: {name}, tag: call}}}}, {{set: {{field: by, value: '{{{{_ingest.pipeline}}}}'}}}}]"
        )
    };
    library.add("p", "p.yml", &calls("q")).expect("p loads");
    library.add("q", "q.yml", "processors: [{uppercase: {field: a, tag: up}}]").expect("q loads");
    library.add("r", "r.yml", &calls("s")).expect("r loads");
    library.add("s", "s.yml", &calls("r")).expect("s loads");
    let run = |name: &str, a: Value| {
        let mut event = Event::default();
        event.source.insert("a", a);
        let result = library.get(name).expect("it was added").run(&library, &mut event, NOW_MS);
        result.map(|_| Value::Object(event.source).to_json())
    };
    assert_eq!(run("p", "x".into()), Ok(r#"{"a":"X","by":"p"}"#.to_owned()));
    let failure = run("p", Value::Int(1)).expect_err("an int has no upper case");
    assert_eq!((failure.processor, failure.tag.as_deref(), failure.pipeline.as_str()), ("uppercase", Some("up"), "q"));
    let failure = run("r", "x".into()).expect_err("a cycle");
    assert_eq!((failure.kind, failure.reason.as_str()), ("illegal_state_exception", "Cycle detected for pipeline: r"));
}

#[test]
fn fields_that_a_line_makes_up_are_bounded_in_number_and_depth() {
    let failure = |processor: &str, text: &str| {
        let document = format!(r#"{{"a":{}}}"#, Value::from(text).to_json());
        run(&format!("processors: [{{{processor}, on_failure: [{{{TELL}}}, {{remove: {{keep: [e]}}}}]}}}}]"), &document)
    };
    let repeated = |piece: fn(usize) -> String| (0..1_001).map(piece).collect::<String>();
    let kv = "kv: {field: a, field_split: ' ', value_split: '='";
    let (pairs, long) = (repeated(|nth| format!("k{nth}=v ")), "a.".repeat(200_000) + "a=1");
    let data = |data: &str| format!("<34>1 2003-10-11T22:14:15Z h a - - {data} m");
    for (processor, text, expected) in [
        (kv, pairs.clone(), "has more than 1000 keys"),
        ("logfmt: {field: a", pairs.clone(), "has more than 1000 keys"),
        ("cef: {field: a", format!("CEF:0|a|b|c|d|e|1|{pairs}"), "has 1001 extensions, at most 1000 are read"),
        ("syslog: {field: a", data(&repeated(|nth| format!("[{nth}]"))), "more than 1000 elements"),
        (
            "syslog: {field: a",
            data(&format!("[x{}]", repeated(|nth| format!(" k{nth}=\"v\"")))),
            "more than 1000 names",
        ),
        (kv, long.clone(), "a path of 200001 names is longer than the 128"),
        ("logfmt: {field: a", long.clone(), "a path of 200001 names is longer than the 128"),
        ("dissect: {field: a, pattern: '%{*k}=%{&k}'", long, "a path of 200001 names is longer than the 128"),
    ] {
        let told = failure(processor, &text);
        assert!(told.contains(expected), "{processor}: {}", told.chars().rev().take(300).collect::<String>());
    }
}

#[test]
fn what_random_pipelines_found() {
    check(
        "join: {field: a, separator: '-'}",
        r#"{"a":[1,null]}"#,
        "null_pointer_exception: ", // Java's has no text.
    );
    check(
        "sort: {field: a, order: desc}",
        r#"{"a":[1,"x"]}"#,
        "class_cast_exception: class java.lang.String cannot be cast to class java.lang.Integer (java.lang.String and \
         java.lang.Integer are in module java.base of loader 'bootstrap')",
    );
    check(
        "remove_by_pattern: {field_pattern: 'x*'}",
        r#"{"x.y":1,"a":2}"#,
        &format!("{BAD}field [x] not present as part of path [x.y]"),
    );
    check("set: {field: t, value: '{{x.y}}'}", r#"{"x.y":1}"#, r#"{"x.y":1,"t":"1"}"#);
    check(
        "kv: {field: l.0, field_split: ' ', value_split: '='}",
        r#"{"l":[]}"#,
        &format!("{BAD}[0] is out of bounds for array with length [0] as part of path [l.0]"),
    );
    let pipeline = format!(
        "processors: [{{foreach: {{field: a, tag: T, processor: {{uppercase: {{field: _ingest._value}}}}}}}}]\n\
         on_failure: [{{{TELL}}}]"
    );
    let told = "field [_ingest._value] of type [java.lang.Integer] cannot be cast to [java.lang.String]|foreach|T|p";
    assert_eq!(run(&pipeline, r#"{"a":[1]}"#), format!(r#"{{"a":[1],"e":"{told}"}}"#));
    let pipeline = format!("processors: [{{convert: {{field: a, type: double}}}}]\non_failure: [{{{TELL}}}]");
    assert_eq!(run(&pipeline, r#"{"a":"10.0.0.1"}"#), r#"{"a":"10.0.0.1","e":"multiple points|convert||p"}"#);
}

#[test]
fn foreach_works_on_lists_and_maps() {
    check(
        "foreach: {field: l, processor: {uppercase: {field: _ingest._value}}}",
        r#"{"l":["a","b"]}"#,
        r#"{"l":["A","B"]}"#,
    );
    check(
        "foreach: {field: m, processor: {set: {field: _ingest._key, value: 'k{{_ingest._key}}'}}}",
        r#"{"m":{"a":1}}"#,
        r#"{"m":{"ka":1}}"#,
    );
    refused(
        "processors: [{foreach: {field: l, processor: {nope: {}}}}]",
        "foreach: [processor.nope] there is no such processor",
    );
    check("foreach: {field: l, processor: {drop: {}}}", r#"{"l":[1]}"#, "dropped");
}

const TELL: &str = "set: {field: e, value: '{{{_ingest.on_failure_message}}}|{{{_ingest.on_failure_processor_type}}}|{{{_ingest.on_failure_processor_tag}}}|{{{_ingest.on_failure_pipeline}}}'}";

#[test]
fn a_processors_own_handler_runs_and_the_pipeline_goes_on() {
    let pipeline = format!(
        "processors: [{{convert: {{field: a, type: integer, tag: T, on_failure: [{{{TELL}}}]}}}}, {{set: {{field: after, value: 1}}}}]"
    );
    assert_eq!(run(&pipeline, r#"{"a":"x"}"#), r#"{"a":"x","e":"For input string: \"x\"|convert|T|p","after":1}"#);
}

#[test]
fn the_pipelines_handler_ends_it() {
    let pipeline = format!(
        "processors: [{{rename: {{field: a, target_field: b}}}}, {{set: {{field: after, value: 1}}}}]\non_failure: [{{{TELL}}}, {{set: {{field: left, value: '{{{{_ingest.timestamp}}}}'}}}}]"
    );
    assert_eq!(run(&pipeline, "{}"), r#"{"e":"field [a] doesn't exist|rename||p","left":"2026-11-22T21:00:00.000Z"}"#);
}

#[test]
fn a_failure_is_ignored_if_asked_and_its_handlers_with_it() {
    let pipeline = format!(
        "processors: [{{rename: {{field: a, target_field: b, ignore_failure: true, on_failure: [{{{TELL}}}]}}}}, {{set: {{field: after, value: 1}}}}]"
    );
    assert_eq!(run(&pipeline, "{}"), r#"{"after":1}"#);
}

#[test]
fn a_handler_that_fails_hands_its_own_failure_on() {
    let pipeline = format!(
        "processors: [{{convert: {{field: a, type: long, on_failure: [{{rename: {{field: nope, target_field: b, tag: in}}}}]}}}}]\non_failure: [{{{TELL}}}]"
    );
    assert_eq!(run(&pipeline, r#"{"a":"x"}"#), r#"{"a":"x","e":"field [nope] doesn't exist|rename|in|p"}"#);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    refused(
        "processors:\n  - lowercase: {field: a}\n  - grokk: {field: a}\n",
        "p.yml:3:5: processors[1].grokk: there is no such processor, there are: append, bytes",
    );
    refused(
        "processors: [{set: {field: a, value: 1, valu: 2}}]",
        "processors[0].set: unknown option [valu], there are: copy_from, field",
    );
    refused("processors: [{set: {field: a}}]", "[value] required property is missing");
    refused("processors: [{set: {field: a, value: 1, if: [1]}}]", "[if] a script is a text or a map");
    refused(
        "processors: [{lowercase: {field: 1}}]",
        "[field] property isn't a string, but of type [java.lang.Integer]",
    );
    refused(
        "processors: [{set: {field: a, value: 1, on_failure: []}}]",
        "[on_failure] processors list cannot be empty",
    );
    refused(
        "processors: [{set: {field: a, value: 1, on_failure: [{x: {}}]}}]",
        "processors[0].set.on_failure[0].x: there is no such processor",
    );
    refused(
        "processors: [{grok: {field: a, patterns: ['a(?(x)b)']}}]",
        "(?( is not supported: rewrite it with alternatives, at column 4",
    );
    refused(
        "processors: [{grok: {field: a, patterns: [a], patterns_dir: [x]}}]",
        "x is not an absolute path: start it with /",
    );
    refused("processors: [{grok: {field: a, patterns: [a], patterns_dir: [/nowhere]}}]", "[patterns_dir] /nowhere: ");
    refused("processors: [{date: {field: a, formats: ['yyyy-bb']}}]", "the pattern letter b is not supported");
    refused(
        "processors: [{date: {field: a, formats: [ISO8601], timezone: Mars/Base}}]",
        "Unknown time-zone ID: Mars/Base",
    );
    refused("processors: [{date: {field: a, formats: [ISO8601], locale: fr}}]", "English only");
    refused("processor: []", "p.yml:1:1: ");
    refused("processors: [{set: {field: a, value: '{{#x}}'}}]", "only variables");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_pattern_and_no_text_makes_grok_panic(pattern in r"[a-c\[\](){}?*+|^$.\\:<>&=!%dwsbhpx1,0-9-]{0,24}|\PC{0,16}", text in r"[a-c0-9\n -]{0,20}|\PC{0,20}") {
        let bank = engine::grok::Bank::stock(engine::grok::Ecs::Disabled);
        if let Ok(grok) = engine::grok::Grok::new(&bank, &[pattern]) {
            grok.match_text(&text, |_, _| {}).ok();
        }
    }

    #[test]
    fn no_format_and_no_text_makes_date_panic(format in r"[yMdHhmsSaEZXxzVnA'\[\]/:. -]{1,16}", text in r"[0-9/:.+ADJPMTZacenop -]{0,24}|\PC{0,16}", zone in "UTC|Europe/Berlin|[+-]0[0-9]:30") {
        let quoted = format.replace('\'', "''");
        let pipeline = format!("processors: [{{date: {{field: a, formats: ['{quoted}', ISO8601, UNIX, UNIX_MS, TAI64N], timezone: '{zone}', output_format: '{quoted}'}}}}]");
        if let Ok(library) = load(&pipeline) {
            let mut event = Event::default();
            event.source.insert("a", text.as_str());
            library.get("p").expect("it was just added").run(&library, &mut event, NOW_MS).ok();
        }
    }

    #[test]
    fn no_template_and_no_value_makes_set_panic(template in r"[{}a-c.&_# -]{0,16}", text in r"\PC{0,12}") {
        let quoted = template.replace('\'', "''");
        if let Ok(library) = load(&format!("processors: [{{set: {{field: '{quoted}', value: '{quoted}'}}}}]")) {
            let mut event = Event::default();
            event.source.insert("a", text.as_str());
            library.get("p").expect("it was just added").run(&library, &mut event, NOW_MS).ok();
        }
    }
}
