//! What scripts do, and what is said of those that can't run.

use super::*;
use proptest::prelude::*;

fn event(json: &str) -> Event {
    let Ok(Value::Object(source)) = Value::from_json(json.as_bytes()) else { panic!("{json}") };
    Event::new(source)
}

/// What the script makes of the document, or `CAUSE` of its failure.
fn run(source: &str, document: &str) -> String {
    let mut event = event(document);
    let script = Script::parse(source, Object::new()).unwrap_or_else(|wrong| panic!("{source}: {wrong}"));
    match script.run(&mut event) {
        Ok(()) => Value::Object(event.source).to_json(),
        Err(problem) => format!("{}: {}", problem.reason, problem.cause.unwrap_or_default()),
    }
}

#[track_caller]
fn value(expression: &str, expected: &str) {
    assert_eq!(run(&format!("ctx.t = {expression}"), "{}"), format!("{{\"t\":{expected}}}"), "{expression}");
}

fn holds(source: &str, document: &str) -> Result<bool, String> {
    let condition = Condition::parse(source, Object::new()).expect("a condition");
    condition.holds(&event(document)).map_err(|problem| problem.cause.unwrap_or_default().into())
}

#[track_caller]
fn refused(source: &str, expected: &str) {
    let wrong = Script::parse(source, Object::new()).expect_err(source);
    assert!(wrong.contains(expected), "{source}: {wrong}");
}

#[test]
fn numbers_follow_javas_rules() {
    value("7 / 2", "3");
    value("-7 % 3", "-1");
    value("7 / 2.0", "3.5");
    value("2147483647 + 1", "-2147483648");
    value("2147483647L + 1", "2147483648");
    value("-2147483648", "-2147483648");
    value("1 << 33", "2");
    value("-8 >>> 28", "15");
    value("(byte)300", "44");
    value("(int)3.99", "3");
    value("(char)65 + 'x'", "\"Ax\"");
    value("'a' + 1 + 2.5 + null", "\"a12.5null\"");
    value("1 + 2 + 'a'", "\"3a\"");
    value("1 == 1.0", "true");
    value("[1].contains(1L)", "false");
    assert_eq!(run("def n = 1; n += 1.5; ctx.t = n", "{}"), r#"{"t":2}"#);
    value("5 > 3 ? 'y' : 'n'", "\"y\"");
    assert_eq!(run("int i = 5; i += 1.9; ctx.t = i++ + ++i", "{}"), r#"{"t":14}"#);
    assert_eq!(run("ctx.t = 1 / 0", "{}"), "runtime error: / by zero");
}

#[test]
fn a_condition_reads_and_never_writes() {
    assert_eq!(holds("ctx.a?.b == 'x' && ctx.n > 1", r#"{"a":{"b":"x"},"n":2}"#), Ok(true));
    assert_eq!(holds("ctx.a?.b == 'x'", "{}"), Ok(false));
    assert_eq!(holds("ctx.tags.contains('p')", r#"{"tags":["p"]}"#), Ok(true));
    assert_eq!(holds("ctx.a.b == 1", "{}"), Err("cannot access method/field [b] from a null def reference".to_owned()));
    assert_eq!(holds("ctx.a = 1; true", "{}"), Err("unsupported_operation_exception".to_owned()));
    assert_eq!(holds("ctx.l.add(1); true", r#"{"l":[]}"#), Err("unsupported_operation_exception".to_owned()));
    assert_eq!(holds("ctx.m.clear(); true", r#"{"m":{}}"#), Err("unsupported_operation_exception".to_owned()));
    assert_eq!(holds("ctx.a", r#"{"a":"x"}"#), Err("cannot cast def [java.lang.String] to boolean".to_owned()));
}

#[test]
fn maps_and_lists_are_shared_as_in_java() {
    assert_eq!(run("def m = ctx.a; m.x = 1; ctx.b = m", r#"{"a":{}}"#), r#"{"a":{"x":1},"b":{"x":1}}"#);
    assert_eq!(run("ctx.values().removeIf(v -> v == null)", r#"{"a":null,"b":1}"#), r#"{"b":1}"#);
    assert_eq!(run("ctx.entrySet().removeIf(e -> e.getKey() == 'a')", r#"{"a":2,"b":1}"#), r#"{"b":1}"#);
    assert_eq!(run("ctx.l.sort((x, y) -> y - x)", r#"{"l":[1,3,2]}"#), r#"{"l":[3,2,1]}"#);
    assert_eq!(run("for (e in ctx.m.entrySet()) { e.setValue(e.value + 1) }", r#"{"m":{"x":1}}"#), r#"{"m":{"x":2}}"#);
}

#[test]
fn a_script_that_fails_keeps_what_it_did() {
    let mut event = event(r#"{"a":1}"#);
    let script = Script::parse("ctx.b = 2; ctx.a.x()", Object::new());
    assert!(script.is_err(), "x/0 is a method of nothing");
    let script = Script::parse("ctx.b = 2; ctx.c = ctx.a.size()", Object::new()).expect("a script");
    let problem = script.run(&mut event).expect_err("an int has no size");
    assert_eq!(problem.cause.as_deref(), Some("dynamic method [java.lang.Integer, size/0] not found"));
    assert_eq!(Value::Object(event.source).to_json(), r#"{"a":1,"b":2}"#);
}

#[test]
fn functions_loops_and_exceptions() {
    assert_eq!(run("int f(int n) { return n < 2 ? 1 : n * f(n - 1) } ctx.t = f(5)", "{}"), r#"{"t":120}"#);
    let caught = "try { ctx.t = Integer.parseInt('x') } catch (NumberFormatException e) { ctx.t = e.getMessage() }";
    assert_eq!(run(caught, "{}"), r#"{"t":"For input string: \"x\""}"#);
    assert_eq!(
        run("def s = 0; for (int i = 0; i < 5; i++) { if (i == 3) { break } s += i } ctx.t = s", "{}"),
        r#"{"t":3}"#
    );
    assert_eq!(run("throw new IllegalArgumentException('no')", "{}"), "runtime error: no");
}

#[test]
fn what_is_not_supported_is_said_with_its_place() {
    refused("ctx.t =\n  new Foo()", "line 2, column 7: unexpected [Foo], a class that is known expected");
    refused("ctx.t = x", "line 1, column 9: cannot resolve symbol [x]");
    refused("ctx.a.frobnicate()", "method [frobnicate/0] is not supported");
    refused("Math.frob(1)", "static method [java.lang.Math, frob/1] is not supported");
    refused("def f = x -> 1", "cannot resolve symbol [x]");
    refused("ctx.t = 1 === 1", "=== and !== compare references");
    refused("int a; int a", "variable [a] is already defined");
    refused("def s = 0; ctx.l.each(x -> s += x)", "cannot assign to [s] in a lambda");
    refused("ctx.a == 1; ctx.b = 2", "not a statement");
    refused("int f(int n) { n + 1 } f(1)", "not a statement");
    refused("break", "break and continue can stand in a loop only");
    refused("int f(int n) { return n } f(1, 2)", "function [f] takes 1 arguments, not 2");
    refused("ctx.a =~ /(?=x)/", "backtracking");
    refused(&format!("ctx.t = {}1{}", "(".repeat(500), ")".repeat(500)), "nested deeper");
    refused("if (", "end of script");
}

#[test]
fn a_run_is_bounded() {
    assert!(run("while (true) { ctx.a = 1 }", "{}").contains("maximum number of statements"));
    assert!(run("int f(int n) { return f(n + 1) } f(0)", "{}").contains("functions call each other deeper"));
    assert!(run("def s = 'x'; while (true) { s += s }", "{}").contains("which is the most it may make"));
    assert!(run("def l = []; while (true) { l.add(1); l.add(2) }", "{}").contains("which is the most it may make"));
    assert!(run("ctx.a.b = ctx.a", r#"{"a":{}}"#).contains("self-referencing"));
    assert!(run("def l = []; l.add([l])", "{}").contains("self-referencing"));
    assert!(run("try { while (true) { ctx.a = 1 } } catch (Exception e) { ctx.t = 1 }", "{}").contains("maximum"));
    assert!(
        run("def a = [1]; for (int i = 0; i < 300000; i++) { a = [a] } ctx.t = a", "{}").contains("self-referencing")
    );
    let long = format!("ctx.t = 1{}", " + 1".repeat(1_000));
    assert!(run(&long, "{}").contains("deeper than 200"), "a row of operators");
    assert!(Script::parse(&format!("ctx.t = 1{}", " + 1".repeat(9_000)), Object::new()).is_err());
    let row = format!("ctx.t = false{}", " || ctx.a == 7".repeat(600));
    assert_eq!(run(&row, "{}"), r#"{"t":false}"#);
    // Shared parts are written out each time: thirty doublings would be a billion values.
    let doubling = "def a = [1]; for (int i = 0; i < 30; i++) { a = [a, a] } ctx.t = a";
    assert!(run(doubling, "{}").contains("which is the most it may take"));
}

#[test]
fn metadata_is_seen_and_set() {
    let mut event = event("{}");
    event.metadata.fields.insert("_index", "old");
    let script =
        Script::parse("ctx._index = ctx['_index'] + '-x'; ctx.remove('_id')", Object::new()).expect("a script");
    script.run(&mut event).expect("it runs");
    assert_eq!(event.metadata.index(), Some("old-x"));
    assert!(event.source.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in r"[a-c0-9.?:=<>!&|+*/%~^(){}\[\];,'\x22\\ -]{0,40}|\PC{0,24}") {
        Script::parse(&text, Object::new()).ok();
    }

    #[test]
    fn no_sequence_of_words_makes_a_script_panic(words in prop::collection::vec(prop::sample::select(vec![
        "ctx", ".a", ".b", "?.c", "[0]", "['k']", "= ", "== ", "+ ", "- ", "* ", "/ ", "% ", "&& ", "|| ", "! ", "(", ")", "[", "]",
        "{", "}", ":", ", ", "; ", "1", "2L", "2.5", "'é€x'", "null ", "true ", "def x ", "x ", "int i ", "i ", "if ", "else ", "for ",
        "while ", "return ", "instanceof ", "List ", "String ", "(int)", "(String)", ".add(1)", ".put('k', 1)", ".get(0)",
        ".substring(1)", ".length()", ".size()", ".removeIf(v -> v == null)", ".charAt(1)", ".replace('é', '')", ".splitOnToken(',')",
        "[1, 2]", "['k': 1]", "new HashMap()", "Math.max(1, 2)", "Integer.parseInt('7')", "=~ /x/", "?: ", "++", "-- ", ".keySet()",
        ".entrySet()", ".values()", ".stream()", ".toString()", ".indexOf('x')", "function(", "return x", ".remove(0)", ".sort(null)",
    ]), 0..14)) {
        let source = words.concat();
        if let Ok(script) = Script::parse(&source, Object::new()) {
            let mut event = event(r#"{"a":{"b":[1,"é",null],"c":{"k":2}},"b":"x,y","c":-3}"#);
            script.run(&mut event).ok();
        }
        if let Ok(condition) = Condition::parse(&source, Object::new()) {
            condition.holds(&event(r#"{"a":{"b":[1,"é",null],"c":{"k":2}},"b":"x,y","c":-3}"#)).ok();
        }
    }
}
