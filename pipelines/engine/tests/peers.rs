//! What peers test their filters for, where no case of a real node or of theirs shows it here.

use engine::{Library, Outcome};
use event::{Event, Value};

/// What the processors make of the document: JSON, or the reason why not.
fn run(processors: &str, document: &str) -> String {
    let mut library = Library::new();
    library.add("p", "p.yml", &format!("processors:\n{processors}")).expect("the pipeline loads");
    let Ok(Value::Object(source)) = Value::from_json(document.as_bytes()) else { panic!("{document}") };
    let mut event = Event::new(source);
    match library.get("p").expect("it was just added").run(&library, &mut event, 1_795_381_200_000) {
        Ok(Outcome::Document) => Value::Object(event.source).to_json(),
        Ok(Outcome::Dropped) => "dropped".to_owned(),
        Err(failure) => failure.reason,
    }
}

#[test]
fn dissect_takes_any_delimiter() {
    let dissect = |pattern: &str, text: &str| {
        let pattern = Value::Text(pattern.into()).to_json();
        run(
            &format!("  - dissect: {{field: m, pattern: {pattern}}}\n  - remove: {{field: m}}\n"),
            &format!("{{\"m\":{text}}}"),
        )
    };
    assert_eq!(
        dissect("%{a}\u{fbf}\u{fbf}%{b}", "\"\u{e4}\u{fbf}\u{fbf}\u{20ac}\""),
        "{\"a\":\"\u{e4}\",\"b\":\"\u{20ac}\"}"
    );
    assert_eq!(dissect("%{a}\n%{b}\n", r#""1\n2\n""#), r#"{"a":"1","b":"2"}"#);
    assert_eq!(dissect("{%{a}}{%{b}}%{c}", r#""{1}{2}3""#), r#"{"a":"1","b":"2","c":"3"}"#);
    let error = |text: &str| run("  - dissect: {field: m, pattern: '%{a} %{b}'}\n", text);
    assert!(error(r#"{"m":""}"#).contains("Unable to find match for dissect pattern"), "{}", error(r#"{"m":""}"#));
    assert!(error("{}").contains("field [m] not present"), "{}", error("{}"));
    let missing = run("  - dissect: {field: m, pattern: '%{a} %{b}', ignore_missing: true}\n", "{}");
    assert_eq!(missing, "{}");
    let mut library = Library::new();
    let bad = library.add("p", "p.yml", "processors: [{dissect: {field: m, pattern: 'no key'}}]").expect_err("no key");
    assert!(bad.to_string().contains("no key"), "{bad}");
}

#[test]
fn a_copy_is_its_own() {
    let steps =
        "  - set: {field: b, copy_from: a}\n  - append: {field: a.l, value: 2}\n  - set: {field: b.x.y, value: 3}\n";
    assert_eq!(run(steps, r#"{"a":{"l":[1],"x":{}}}"#), r#"{"a":{"l":[1,2],"x":{}},"b":{"l":[1],"x":{"y":3}}}"#);
}

#[test]
fn equal_agents_are_separate_objects() {
    let steps = "  - user_agent: {field: a, target_field: t}\n  - user_agent: {field: a, target_field: u}\n  - set: {field: t.name, value: other}\n  - script: {source: ctx.same = ctx.u.name}\n  - remove: {field: [t, u]}\n";
    assert_eq!(run(steps, r#"{"a":"curl/7.58.0"}"#), r#"{"a":"curl/7.58.0","same":"curl"}"#);
}

#[test]
fn a_fingerprint_of_all_fields_does_not_depend_on_their_order() {
    let of = |fields: &str, document: &str| {
        run(
            &format!("  - fingerprint: {{fields: {fields}, target_field: f}}\n  - remove: {{field: [a, b]}}\n"),
            document,
        )
    };
    let one = of("[a, b]", r#"{"a":1,"b":{"x":2,"y":[3]}}"#);
    assert_eq!(one, of("[b, a]", r#"{"b":{"y":[3],"x":2},"a":1}"#));
    assert_ne!(one, of("[a, b]", r#"{"a":1,"b":{"x":2,"y":[4]}}"#));
    assert!(one.starts_with(r#"{"f":""#), "{one}");
}
