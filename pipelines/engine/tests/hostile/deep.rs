//! Whatever can stand in itself, as deep as a line or a file may hold it: it is refused, or it runs without the stack
//! running over.

use crate::{STACK_BYTES, corpus};
use event::Event;
use serde_json::{Value, json};

/// How deep. The last one is that of a long line that is nothing but one nesting.
const DEPTHS: &[usize] = &[10, 99, 101, 119, 121, 127, 129, 249, 251, 1_000, 20_000, 100_000];

/// What stands in itself, and how to make a text that is so deep.
type Make = (&'static str, fn(usize) -> String);

/// Runs a processor on `{"a": text}` at each depth.
#[track_caller]
fn check(what: &str, make: &(dyn Fn(usize) -> (Value, String) + Sync)) {
    in_thread(what, &|depth| {
        let (processor, text) = make(depth);
        let mut event = Event::default();
        event.source.insert("a", text);
        corpus::run(&processor, event);
    });
}

/// Runs a processor that has a deep text somewhere.
#[track_caller]
fn check_option(what: &str, make: fn(usize) -> String, processor: fn(String) -> Value) {
    check(what, &|depth| (processor(make(depth)), "a".repeat(depth.min(1_000))));
}

/// Calls `run` with each depth in a thread of its own.
#[track_caller]
fn in_thread(what: &str, run: &(dyn Fn(usize) + Sync)) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).name(what.to_owned());
        let all = || {
            for depth in DEPTHS {
                eprintln!("{what}: {depth}"); // Seen if the stack runs over, which ends the process.
                run(*depth);
            }
        };
        thread.spawn_scoped(scope, all).expect("a thread").join().expect("no panic");
    });
}

fn nested(open: &str, middle: &str, close: &str, depth: usize) -> String {
    // A pipeline file has a megabyte at most.
    let depth = depth.min((1 << 20) / (open.len() + close.len()).max(1));
    [&open.repeat(depth), middle, &close.repeat(depth)].concat()
}

#[test]
fn a_deep_pattern_is_refused_or_matched() {
    const MAKE: &[Make] = &[
        ("groups", |depth| nested("(", "a", ")", depth)),
        ("groups without an end", |depth| nested("(", "a", "", depth)),
        ("repeated groups", |depth| nested("(?:", "a", ")?", depth)),
        ("atomic groups", |depth| nested("(?>", "a", ")", depth)),
        ("look-ahead", |depth| nested("(?=", "a", ")", depth)),
        ("look-behind", |depth| nested("(?<!", "a", ")", depth)),
        ("classes", |depth| nested("[", "a", "]", depth)),
        ("classes in common", |depth| nested("[a&&", "[a]", "]", depth)),
        ("flags", |depth| nested("(?i)", "a", "", depth)),
        ("flags behind a bar", |depth| nested("a|(?i)", "a", "", depth)),
        ("repeats of repeats", |depth| nested("", "a", "*", depth)),
        ("counted repeats of repeats", |depth| nested("", "a", "{2}", depth)),
        ("alternatives", |depth| nested("a|", "b", "", depth)),
        ("names", |depth| nested("%{WORD:a} ", "b", "", depth)),
        ("names in names", |depth| nested("%{", "b", "}", depth)),
        ("brackets of a field", |depth| format!("%{{WORD:{}}}", nested("[a]", "[a]", "", depth))),
        ("a path of a field", |depth| format!("%{{WORD:{}}}", nested("a.", "a", "", depth))),
    ];
    for (what, make) in MAKE {
        check_option(what, *make, |pattern| json!({"grok": {"field": "a", "patterns": [pattern]}}));
        check_option(what, *make, |pattern| json!({"gsub": {"field": "a", "pattern": pattern, "replacement": "b"}}));
    }
}

#[test]
fn definitions_that_lead_to_each_other_are_refused_or_matched() {
    check("a chain of definitions", &|depth| {
        let depth = depth.min(20_000);
        let mut definitions: serde_json::Map<_, _> =
            (0..depth).map(|nth| (format!("N{nth}"), format!("%{{N{}}}", nth + 1).into())).collect();
        definitions.insert(format!("N{depth}"), "a".into());
        (json!({"grok": {"field": "a", "patterns": ["%{N0}"], "pattern_definitions": definitions}}), "a".to_owned())
    });
    check("definitions that double", &|depth| {
        let depth = depth.min(60);
        let mut definitions: serde_json::Map<_, _> =
            (0..depth).map(|nth| (format!("N{nth}"), format!("%{{N{0}}}%{{N{0}}}", nth + 1).into())).collect();
        definitions.insert(format!("N{depth}"), "a".into());
        (json!({"grok": {"field": "a", "patterns": ["%{N0}"], "pattern_definitions": definitions}}), "a".to_owned())
    });
}

#[test]
fn a_deep_script_is_refused_or_run() {
    const MAKE: &[Make] = &[
        ("parentheses", |depth| nested("(", "1", ")", depth)),
        ("parentheses without an end", |depth| nested("(", "1", "", depth)),
        ("lists", |depth| format!("ctx.t = {}", nested("[", "1", "]", depth))),
        ("maps", |depth| format!("ctx.t = {}", nested("['a':", "1", "]", depth))),
        ("blocks", |depth| nested("{", "ctx.t = 1;", "}", depth)),
        ("conditions", |depth| nested("if (true) ", "ctx.t = 1", "", depth)),
        ("else if", |depth| nested("if (false) {} else ", "{ctx.t = 1}", "", depth)),
        ("loops", |depth| nested("for (;false;) ", "ctx.t = 1", "", depth)),
        ("attempts", |depth| nested("try {", "ctx.t = 1", "} catch (Exception e) {}", depth)),
        ("signs", |depth| format!("ctx.t = {}", nested("- ", "1", "", depth))),
        ("negations", |depth| format!("ctx.t = {}", nested("!", "true", "", depth))),
        ("casts", |depth| format!("ctx.t = {}", nested("(int)", "1", "", depth))),
        ("sums", |depth| format!("ctx.t = {}", nested("1+", "1", "", depth))),
        ("alternatives", |depth| format!("ctx.t = {}", nested("true ? 1 : ", "1", "", depth))),
        ("alternatives in the middle", |depth| format!("ctx.t = {}", nested("true ? ", "1", " : 2", depth))),
        ("elvis", |depth| format!("ctx.t = {}", nested("null ?: ", "1", "", depth))),
        ("or", |depth| format!("ctx.t = {}", nested("false || ", "true", "", depth))),
        ("assignments", |depth| nested("ctx.t = ", "1", "", depth)),
        ("members", |depth| format!("ctx.t = ctx{}", nested("", "", "?.a", depth))),
        ("indices", |depth| format!("ctx.t = ctx{}", nested("", "", "['a']", depth))),
        ("indices in indices", |depth| format!("ctx.t = {}", nested("ctx[", "'a'", "]", depth))),
        ("calls", |depth| format!("ctx.t = ctx.a{}", nested("", "", ".toString()", depth))),
        ("arguments", |depth| format!("ctx.t = {}", nested("Math.abs(", "1", ")", depth))),
        ("lambdas", |depth| nested("[1].removeIf(x -> ", "true", ")", depth)),
        ("statements", |depth| nested("ctx.t = 1;", "", "", depth)),
        ("functions", |depth| nested("def f() {", "1", "}", depth)),
        ("a regular expression", |depth| format!("ctx.t = ctx.a =~ /{}/", nested("(", "a", ")", depth))),
        ("classes of one", |depth| format!("ctx.t = ctx.a =~ /{}/", nested("[", "a", "]", depth))),
        ("a comment", |depth| nested("/*", "1", "*/", depth)),
    ];
    for (what, make) in MAKE {
        check_option(what, *make, |source| json!({"script": {"source": source}}));
        check_option(what, *make, |source| json!({"set": {"field": "t", "value": 1, "if": source}}));
    }
}

#[test]
fn values_that_a_script_nests_are_refused_or_written() {
    check("lists in lists", &|depth| {
        let source = format!("def l = []; for (int i = 0; i < {depth}; i++) {{ l = [l] }} ctx.t = l");
        (json!({"script": {"source": source}}), String::new())
    });
    check("objects under their own names", &|depth| {
        let source = format!("def m = ctx; for (int i = 0; i < {depth}; i++) {{ m.b = new HashMap(); m = m.b }}");
        (json!({"script": {"source": source}}), String::new())
    });
}

#[test]
fn a_deep_format_is_refused_or_read() {
    const MAKE: &[Make] = &[
        ("optional sections", |depth| nested("[", "yyyy", "]", depth)),
        ("optional sections without an end", |depth| nested("yyyy[", "", "", depth)),
        ("alternatives of formats", |depth| nested("yyyy||", "yyyy", "", depth)),
        ("one letter", |depth| nested("y", "", "", depth)),
        ("quotes", |depth| nested("'", "", "", depth)),
    ];
    for (what, make) in MAKE {
        check_option(
            what,
            *make,
            |format| json!({"date": {"field": "a", "formats": [format], "output_format": format, "ignore_failure": true}}),
        );
    }
    const DISSECT: &[Make] = &[
        ("keys", |depth| nested("%{a} ", "%{b}", "", depth)),
        ("keys in keys", |depth| nested("%{", "a", "}", depth)),
        ("paths of keys", |depth| format!("%{{{}}}", nested("a.", "a", "", depth))),
        ("appended keys", |depth| nested("%{+a}a", "%{+a}", "", depth.min(20_000))),
    ];
    for (what, make) in DISSECT {
        check_option(what, *make, |pattern| json!({"dissect": {"field": "a", "pattern": pattern}}));
    }
    const TEMPLATES: &[Make] = &[
        ("templates", |depth| nested("{{", "a", "}}", depth)),
        ("a path", |depth| nested("a.", "a", "", depth)),
        ("a path in a template", |depth| format!("{{{{{}}}}}", nested("a.", "a", "", depth))),
    ];
    for (what, make) in TEMPLATES {
        check_option(what, *make, |text| json!({"set": {"field": text, "value": text}}));
        check_option(what, *make, |text| json!({"rename": {"field": "a", "target_field": text}}));
        check_option(what, *make, |text| json!({"append": {"field": text, "value": [text]}}));
    }
}

#[test]
fn deep_lines_are_refused_or_taken_apart() {
    check("JSON of lists", &|depth| (json!({"json": {"field": "a"}}), nested("[", "1", "]", depth)));
    check("JSON of objects", &|depth| (json!({"json": {"field": "a"}}), nested("{\"a\":", "1", "}", depth)));
    check("JSON without an end", &|depth| (json!({"json": {"field": "a"}}), nested("[", "1", "", depth)));
    check("a long path in kv", &|depth| {
        (json!({"kv": {"field": "a", "field_split": " ", "value_split": "="}}), nested("b.", "b=1", "", depth))
    });
    check("a long path in logfmt", &|depth| (json!({"logfmt": {"field": "a"}}), nested("b.", "b=1", "", depth)));
    check("a long path in dissect", &|depth| {
        (json!({"dissect": {"field": "a", "pattern": "%{*k}=%{&k}"}}), nested("b.", "b=1", "", depth))
    });
    check("a long path in a template", &|depth| {
        (json!({"set": {"field": "{{a}}", "value": 1}}), nested("b.", "b", "", depth))
    });
    check("a long path in a name", &|depth| {
        let processor = json!({"foreach": {"field": "t", "processor": {"dot_expander": {"field": "*"}}}});
        (processor, nested("b.", "b", "", depth))
    });
    check("a long path in CEF", &|depth| {
        (json!({"cef": {"field": "a"}}), format!("CEF:0|a|b|c|d|e|1|{}", nested("b.", "b=1", "", depth)))
    });
    check("structured data", &|depth| {
        let text = format!("<34>1 2003-10-11T22:14:15.003Z a b c d {} e", nested("[", "a=\"b\"", "]", depth));
        (json!({"syslog": {"field": "a"}}), text)
    });
    check("HTML", &|depth| (json!({"html_strip": {"field": "a"}}), nested("<b>", "b", "</b>", depth)));
    check("CSV", &|depth| (json!({"csv": {"field": "a", "target_fields": ["b"]}}), nested("\"", "b", "\"", depth)));
    check("an address", &|depth| {
        (json!({"uri_parts": {"field": "a"}}), format!("http://{}", nested("[", "b", "]", depth)))
    });
    check("codes in codes", &|depth| (json!({"urldecode": {"field": "a"}}), nested("%25", "20", "", depth)));
}

#[test]
fn a_deep_pipeline_is_refused() {
    let pipeline = |processor: &str| format!("{{\"processors\":[{processor}]}}");
    in_thread("a deep file", &|depth| {
        let handlers = nested("{\"fail\":{\"message\":\"x\",\"on_failure\":[", "{\"drop\":{}}", "]}}", depth);
        let is_loaded = corpus::load(&pipeline(&handlers)).is_some();
        assert_eq!(is_loaded, depth <= 10, "{depth} handlers in handlers");
        let loops = nested("{\"foreach\":{\"field\":\"a\",\"processor\":", "{\"drop\":{}}", "}}", depth);
        let is_loaded = corpus::load(&pipeline(&loops)).is_some();
        assert_eq!(is_loaded, depth <= 10, "{depth} foreach in foreach");
        let lists = nested("[", "1", "]", depth);
        let objects = nested("{\"a\":", "1", "}", depth);
        for value in [lists, objects] {
            let set = format!("{{\"set\":{{\"field\":\"a\",\"value\":{value}}}}}");
            assert_eq!(corpus::load(&pipeline(&set)).is_some(), depth <= 10, "{depth} values in values");
        }
        assert!(corpus::load(&nested("- ", "1", "", depth)).is_none());
    });
}
