//! Random pipelines and documents: the same seed always makes the same.

use super::Case;
use fastrand::Rng;
use serde_json::{Value, json};

/// Processors that the node does not have: ours, and Elasticsearch's that OpenSearch lacks.
pub(super) const OURS_ALONE: &[&str] = &[
    "cef",
    "geoip",
    "logfmt",
    "mask",
    "network_direction",
    "redact",
    "registered_domain",
    "reroute",
    "sample",
    "syslog",
    "uri_parts",
];

/// Fields that pipelines and documents share, some of which are not there.
const FIELDS: &[&str] = &["a", "b", "c.d", "c.e", "list", "list.0", "n", "t", "none", "x.y"];

/// The case of `seed`.
pub(super) fn case(seed: u64) -> Case {
    let mut rng = Rng::with_seed(seed);
    let processors = (0..rng.usize(1..=4)).map(|_| processor(&mut rng, 0)).collect();
    let on_failure = (rng.u8(..) < 60).then(|| vec![handler(&mut rng)]);
    let docs = (0..3).map(|_| document(&mut rng)).collect();
    Case { processors, on_failure, docs, known: None }
}

fn field(rng: &mut Rng) -> Value {
    json!(FIELDS[rng.usize(..FIELDS.len())])
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

fn handler(rng: &mut Rng) -> Value {
    let message = "{{{_ingest.on_failure_processor_type}}}: {{{_ingest.on_failure_message}}}";
    let tag = "{{{_ingest.on_failure_processor_tag}}}";
    json!({"set": {"field": "error", "value": if rng.bool() { message } else { tag }}})
}

/// A condition that the node would not fail on, mostly.
fn condition(rng: &mut Rng) -> String {
    let of = |rng: &mut Rng| {
        let text = pick(rng, &["ctx.a", "ctx.b", "ctx.c?.d", "ctx.n", "ctx.list", "ctx.t", "ctx.none?.x", "ctx['a']"]);
        text.to_owned()
    };
    let one = |rng: &mut Rng| match rng.u8(0..8) {
        0 => format!("{} == null", of(rng)),
        1 => format!("{} != null", of(rng)),
        2 => format!("{} == 'x y'", of(rng)),
        3 => format!("{} instanceof String", of(rng)),
        4 => format!("ctx.n instanceof Integer && ctx.n {} {}", pick(rng, &["<", ">", "==", ">="]), rng.i32(-3..9)),
        5 => format!("ctx.a instanceof String && ctx.a.{}('x')", pick(rng, &["contains", "startsWith", "endsWith"])),
        6 => format!("ctx.containsKey('{}')", pick(rng, &["a", "none", "c"])),
        _ => "ctx.list instanceof List && ctx.list.size() > 1".to_owned(),
    };
    match rng.u8(0..4) {
        0 => format!("{} && {}", one(rng), one(rng)),
        1 => format!("{} || {}", one(rng), one(rng)),
        2 => format!("!({})", one(rng)),
        _ => one(rng),
    }
}

fn script(rng: &mut Rng) -> String {
    let value = pick(rng, &["ctx.n", "7", "2.5", "3L", "'t'", "[1, 2]", "['k': 1]", "ctx.a", "ctx.c", "-4"]);
    let number = pick(rng, &["7", "-7", "3L", "2.5", "0.5f", "2", "1000000000"]);
    match rng.u8(0..8) {
        0 => format!("ctx.s = {value}"),
        1 => format!("ctx.s = {number} {} {}", pick(rng, &["+", "-", "*"]), pick(rng, &["2", "3L", "1.5", "7"])),
        2 => format!("ctx.s = {number} {} {}", pick(rng, &["/", "%"]), pick(rng, &["2", "3L", "1.5", "-3"])),
        3 => format!("if (ctx.a != null) {{ ctx.s = ctx.a + {value} }} else {{ ctx.remove('b') }}"),
        4 => "int sum = 0; for (int i = 0; i < 5; i++) { sum += i; } ctx.s = sum".to_owned(),
        5 => "if (ctx.list instanceof List) { ctx.s = ctx.list.size(); ctx.list.add('z') }".to_owned(),
        6 => format!("def m = new HashMap(); m.put('v', {value}); ctx.s = m"),
        _ => "ctx.s = ctx.t instanceof String ? ctx.t.toUpperCase().substring(0, 1) : 'no'".to_owned(),
    }
}

fn processor(rng: &mut Rng, depth: u8) -> Value {
    let (name, mut options) = match rng.u8(0..22) {
        0 => (
            "set",
            json!({"field": field(rng), "value": pick(rng, &["v", "{{a}}", "{{{b}}}-{{n}}", "{{c.d}}"]), "override": rng.bool()}),
        ),
        1 => ("set", json!({"field": field(rng), "value": value(rng, 0)})),
        2 => ("rename", json!({"field": field(rng), "target_field": field(rng), "ignore_missing": rng.bool()})),
        3 => ("remove", json!({"field": [field(rng)], "ignore_missing": rng.bool()})),
        4 => (
            "convert",
            json!({"field": field(rng), "type": pick(rng, &["integer", "long", "float", "double", "string", "boolean", "auto", "ip"]), "ignore_missing": rng.bool()}),
        ),
        5 => {
            ("append", json!({"field": field(rng), "value": [value(rng, 1), "{{a}}"], "allow_duplicates": rng.bool()}))
        }
        6 => (
            "split",
            json!({"field": field(rng), "separator": pick(rng, &[" ", ",", "\\s+", "x", ""]), "preserve_trailing": rng.bool(), "ignore_missing": rng.bool()}),
        ),
        7 => ("join", json!({"field": field(rng), "separator": pick(rng, &["-", "", ", "])})),
        8 => ("lowercase", json!({"field": field(rng), "ignore_missing": rng.bool()})),
        9 => ("uppercase", json!({"field": field(rng), "target_field": field(rng)})),
        10 => ("trim", json!({"field": field(rng)})),
        11 => (
            "gsub",
            json!({"field": field(rng), "pattern": pick(rng, &["x", "\\d", "[aeiou]", "(\\w)(\\w)", " +", "^."]), "replacement": pick(rng, &["", "-", "<$0>", "\\$"]), "ignore_missing": rng.bool()}),
        ),
        12 => (
            "kv",
            json!({"field": field(rng), "field_split": pick(rng, &[" ", "&", ","]), "value_split": "=", "target_field": pick(rng, &["kv", "c", "a"]), "ignore_missing": rng.bool()}),
        ),
        13 => (
            "dissect",
            json!({"field": field(rng), "pattern": pick(rng, &["%{p} %{q}", "%{p}=%{q} %{r}", "%{p->} %{q}", "%{+p} %{+p}", "%{?x},%{p}"])}),
        ),
        14 => (
            "csv",
            json!({"field": field(rng), "target_fields": ["p", "q.r", "s"], "trim": rng.bool(), "ignore_missing": rng.bool()}),
        ),
        15 => ("json", json!({"field": field(rng), "target_field": "j"})),
        16 => ("urldecode", json!({"field": field(rng), "ignore_missing": rng.bool()})),
        17 => ("sort", json!({"field": field(rng), "order": pick(rng, &["asc", "desc"])})),
        18 => ("dot_expander", json!({"field": pick(rng, &["x.y", "c.d", "a.z"])})),
        19 => ("script", json!({"source": script(rng)})),
        20 if depth == 0 => {
            ("foreach", json!({"field": field(rng), "processor": inner(rng), "ignore_missing": rng.bool()}))
        }
        _ => ("fail", json!({"message": "stop {{a}}", "if": condition(rng)})),
    };
    if rng.u8(..) < 90 && name != "fail" {
        options["if"] = json!(condition(rng));
    }
    if rng.u8(..) < 60 {
        options["ignore_failure"] = json!(true);
    } else if rng.u8(..) < 60 && depth == 0 {
        options["tag"] = json!("tag");
        options["on_failure"] = json!([handler(rng)]);
    }
    json!({ name: options })
}

/// A processor that works on `_ingest._value`.
fn inner(rng: &mut Rng) -> Value {
    match rng.u8(0..4) {
        0 => json!({"uppercase": {"field": "_ingest._value"}}),
        1 => json!({"set": {"field": "_ingest._value", "value": "<{{_ingest._value}}>"}}),
        2 => json!({"append": {"field": "seen", "value": "{{{_ingest._value}}}"}}),
        _ => json!({"convert": {"field": "_ingest._value", "type": "string", "ignore_failure": true}}),
    }
}

fn text(rng: &mut Rng) -> &'static str {
    pick(
        rng,
        &[
            "x y",
            "1,2,3",
            "k=v x=y",
            " pad ",
            "42",
            "-7",
            "1.5",
            "true",
            "",
            "Größe",
            "a b c d",
            "%41+b",
            "{\"j\":[1]}",
            "10.0.0.1",
            "x",
            "\"q\",r",
        ],
    )
}

fn value(rng: &mut Rng, depth: u8) -> Value {
    match rng.u8(0..9) {
        0..=2 => json!(text(rng)),
        3 => json!(rng.i32(-5..100)),
        4 => json!(f64::from(rng.i32(-50..50)) / 4.0),
        5 => json!(rng.bool()),
        6 => json!(rng.i64(..)),
        7 if depth == 0 => json!([value(rng, 1), value(rng, 1)]),
        7 | 8 if depth == 0 => json!({"d": value(rng, 1), "e": value(rng, 1)}),
        _ => Value::Null,
    }
}

fn document(rng: &mut Rng) -> Value {
    let mut document = json!({});
    for name in ["a", "b", "n", "t", "list", "c", "x.y"] {
        if rng.u8(..) < 170 {
            document[name] = match name {
                "n" => json!(rng.i32(-3..9)),
                "t" => json!(text(rng)),
                "list" => json!((0..rng.usize(..4)).map(|_| value(rng, 1)).collect::<Vec<_>>()),
                "c" => json!({"d": value(rng, 1), "e": value(rng, 1)}),
                _ => value(rng, 0),
            };
        }
    }
    document
}
