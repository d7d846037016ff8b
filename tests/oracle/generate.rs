//! Random pipelines and documents: the same seed always makes the same.
//!
//! Pipelines have up to nine processors with conditions, handlers and `foreach` in `foreach`. Most fields hold what the
//! processors on them work on, so that results are compared, not only errors.

mod documents;
mod processors;

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

/// The case of `seed`.
pub(super) fn case(seed: u64) -> Case {
    let mut rng = Rng::with_seed(seed);
    let processors = (0..rng.usize(1..=9)).map(|_| processors::processor(&mut rng)).collect();
    let on_failure = (rng.u8(..) < 100).then(|| handlers(&mut rng).as_array().cloned().unwrap_or_default());
    let docs = (0..3).map(|_| documents::document(&mut rng)).collect();
    Case { processors, on_failure, docs, known: None }
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

/// Handlers of a failure: the first notes what they are told, another may do anything.
fn handlers(rng: &mut Rng) -> Value {
    let message = "{{{_ingest.on_failure_processor_type}}}: {{{_ingest.on_failure_message}}}";
    let tag = "{{{_ingest.on_failure_processor_tag}}}";
    let noted = if rng.u8(..) < 200 { message } else { tag };
    let mut handlers = vec![json!({"set": {"field": "error", "value": noted}})];
    if rng.u8(..) < 40 {
        handlers.push(processors::plain(rng));
    }
    json!(handlers)
}

/// A condition that the node would not fail on, mostly.
fn condition(rng: &mut Rng) -> String {
    let of = |rng: &mut Rng| {
        let names = [
            "ctx.a",
            "ctx.b",
            "ctx.c?.d",
            "ctx.n",
            "ctx.tags",
            "ctx.t",
            "ctx.none?.x",
            "ctx['a']",
            "ctx['x.y']",
            "ctx.error",
        ];
        pick(rng, &names).to_owned()
    };
    let one = |rng: &mut Rng| match rng.u8(0..9) {
        0 => format!("{} == null", of(rng)),
        1 | 2 => format!("{} != null", of(rng)),
        3 => format!("{} == 'x y'", of(rng)),
        4 => format!("{} instanceof String", of(rng)),
        5 => format!("ctx.n instanceof Integer && ctx.n {} {}", pick(rng, &["<", ">", "==", ">="]), rng.i32(-3..9)),
        6 => format!("ctx.a instanceof String && ctx.a.{}('x')", pick(rng, &["contains", "startsWith", "endsWith"])),
        7 => format!("ctx.containsKey('{}')", pick(rng, &["a", "none", "c"])),
        _ => "ctx.tags instanceof List && ctx.tags.size() > 1".to_owned(),
    };
    match rng.u8(0..5) {
        0 => format!("{} && {}", one(rng), one(rng)),
        1 => format!("{} || {}", one(rng), one(rng)),
        2 => format!("!({})", one(rng)),
        _ => one(rng),
    }
}

fn script(rng: &mut Rng) -> String {
    let value = pick(rng, &["ctx.n", "7", "2.5", "3L", "'t'", "[1, 2]", "['k': 1]", "ctx.a", "ctx.c", "-4"]);
    let number = pick(rng, &["7", "-7", "3L", "2.5", "0.5f", "2", "1000000000"]);
    match rng.u8(0..11) {
        0 => format!("ctx.s = {value}"),
        1 => format!("ctx.s = {number} {} {}", pick(rng, &["+", "-", "*"]), pick(rng, &["2", "3L", "1.5", "7"])),
        2 => format!("ctx.s = {number} {} {}", pick(rng, &["/", "%"]), pick(rng, &["2", "3L", "1.5", "-3"])),
        3 => format!("if (ctx.a != null) {{ ctx.s = ctx.a + {value} }} else {{ ctx.remove('b') }}"),
        4 => "int sum = 0; for (int i = 0; i < 5; i++) { sum += i; } ctx.s = sum".to_owned(),
        5 => "if (ctx.tags instanceof List) { ctx.s = ctx.tags.size(); ctx.tags.add('z') }".to_owned(),
        6 => format!("def m = new HashMap(); m.put('v', {value}); ctx.s = m"),
        7 => "ctx.s = ctx.t instanceof String && ctx.t.length() > 0 ? ctx.t.toUpperCase().substring(0, 1) : 'no'"
            .to_owned(),
        8 => "if (ctx.objs instanceof List) { for (def o : ctx.objs) { if (o instanceof Map) { o.seen = true } } }"
            .to_owned(),
        9 => "def l = []; if (ctx.tags instanceof List) { for (def x : ctx.tags) { l.add(x + '!') } } ctx.s = l"
            .to_owned(),
        _ => "ctx.s = ctx.b instanceof String ? ctx.b.replace(' ', '_').indexOf('_') : -1".to_owned(),
    }
}
