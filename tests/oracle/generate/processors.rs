//! Random processors, each mostly on a field that holds what it works on.

use super::documents::{Kind, any, any_field, field_of, text};
use super::{condition, handlers, pick, script};
use fastrand::Rng;
use serde_json::{Value, json};

/// What processors of single texts work on.
const TEXTS: &[Kind] = &[Kind::Text, Kind::Words, Kind::Texts, Kind::Csv, Kind::Pairs];
const LISTS: &[Kind] = &[Kind::Numbers, Kind::Texts, Kind::Lists, Kind::Objects];
/// Deepest nesting of `foreach` in `foreach`.
const FOREACH_MAX: u8 = 2;

/// One with its condition, its handlers and its tag, if it has any.
pub(super) fn processor(rng: &mut Rng) -> Value {
    let (name, mut options) = any_processor(rng);
    dress(rng, &mut options, 0);
    json!({ name: options })
}

/// One without handlers of its own, for handlers.
pub(super) fn plain(rng: &mut Rng) -> Value {
    let (name, options) = any_processor(rng);
    json!({ name: options })
}

fn dress(rng: &mut Rng, options: &mut Value, depth: u8) {
    if rng.u8(..) < 80 && options.get("if").is_none() {
        options["if"] = json!(condition(rng));
    }
    if rng.u8(..) < 40 {
        options["ignore_failure"] = json!(true);
    } else if rng.u8(..) < 80 && depth < FOREACH_MAX {
        options["tag"] = json!(pick(rng, &["tag", "other tag"]));
        options["on_failure"] = handlers(rng);
    }
}

/// Sets flags and a target, some of the time.
fn common(mut options: Value, rng: &mut Rng) -> Value {
    if rng.u8(..) < 60 {
        options["ignore_missing"] = json!(rng.bool());
    }
    if rng.u8(..) < 60 {
        options["target_field"] = json!(pick(rng, &["out", "c.new", "made.by.it", "a", "tags", "tags.0"]));
    }
    options
}

fn any_processor(rng: &mut Rng) -> (&'static str, Value) {
    match rng.u8(0..6) {
        0 | 1 => on_texts(rng),
        2 | 3 => on_formats(rng),
        4 => on_values(rng),
        _ => on_documents(rng),
    }
}

/// Those that change single texts or every text of a list.
fn on_texts(rng: &mut Rng) -> (&'static str, Value) {
    let field = field_of(rng, TEXTS);
    match rng.u8(0..10) {
        0 => ("lowercase", common(json!({"field": field}), rng)),
        1 => ("uppercase", common(json!({"field": field}), rng)),
        2 => ("trim", common(json!({"field": field}), rng)),
        3 => {
            let pattern = pick(rng, &["x", "\\d", "[aeiou]", "(\\w)(\\w)", " +", "^.", "(?<n>[a-z])", "\\s*$"]);
            let replacement = pick(rng, &["", "-", "<$0>", "\\$", "$1", "${n}"]);
            ("gsub", common(json!({"field": field, "pattern": pattern, "replacement": replacement}), rng))
        }
        4 => ("html_strip", common(json!({"field": field_of(rng, &[Kind::Html])}), rng)),
        5 => ("urldecode", common(json!({"field": field_of(rng, &[Kind::Url])}), rng)),
        6 => ("bytes", common(json!({"field": field_of(rng, &[Kind::Size])}), rng)),
        7 => {
            let field = field_of(rng, &[Kind::Words, Kind::Csv, Kind::Pairs, Kind::Text]);
            let separator = pick(rng, &[" ", ",", "\\s+", "x", "", "[;&]", "="]);
            ("split", common(json!({"field": field, "separator": separator, "preserve_trailing": rng.bool()}), rng))
        }
        8 => {
            let separator = pick(rng, &["-", "", ", "]);
            let options = json!({"field": field_of(rng, &[Kind::Texts, Kind::Numbers]), "separator": separator});
            ("join", with_target(rng, options))
        }
        _ => {
            let options =
                json!({"field": field_of(rng, &[Kind::Texts, Kind::Numbers]), "order": pick(rng, &["asc", "desc"])});
            ("sort", with_target(rng, options))
        }
    }
}

fn with_target(rng: &mut Rng, mut options: Value) -> Value {
    if rng.u8(..) < 60 {
        options["target_field"] = json!(pick(rng, &["out", "c.new", "tags.0"]));
    }
    options
}

/// Those that read a format.
fn on_formats(rng: &mut Rng) -> (&'static str, Value) {
    match rng.u8(0..9) {
        0 => {
            let (field, split) = (field_of(rng, &[Kind::Pairs]), pick(rng, &[" ", "&", " +"]));
            let mut options = json!({"field": field, "field_split": split, "value_split": "="});
            for (name, values) in [
                ("prefix", json!("p_")),
                ("strip_brackets", json!(true)),
                ("trim_key", json!(" ")),
                ("trim_value", json!("()'")),
                ("include_keys", json!(["k", "a"])),
                ("exclude_keys", json!(["x"])),
            ] {
                if rng.u8(..) < 40 {
                    options[name] = values;
                }
            }
            ("kv", common(options, rng))
        }
        1 => {
            let patterns = [
                "%{p} %{q}",
                "%{p}=%{q} %{r}",
                "%{p->} %{q}",
                "%{+p} %{+p}",
                "%{?x} %{p}",
                "[%{p}] %{c.q}",
                "%{*p}=%{&p}",
                "%{p}",
            ];
            let mut options =
                json!({"field": field_of(rng, &[Kind::Words, Kind::Pairs]), "pattern": pick(rng, &patterns)});
            if rng.bool() {
                options["append_separator"] = json!("+");
            }
            ("dissect", options)
        }
        2 => {
            let mut options =
                json!({"field": field_of(rng, &[Kind::Csv]), "target_fields": ["p", "q.r", "s"], "trim": rng.bool()});
            if rng.u8(..) < 40 {
                options["empty_value"] = json!(text(rng));
            }
            if rng.u8(..) < 40 {
                options["separator"] = json!(";");
            }
            ("csv", options)
        }
        3 | 4 => {
            let mut options = json!({"field": field_of(rng, &[Kind::Json])});
            match rng.u8(0..4) {
                0 => options["add_to_root"] = json!(true),
                1 => options["target_field"] = json!(pick(rng, &["j", "c.j", "tags.0"])),
                _ => {}
            }
            ("json", options)
        }
        5 | 6 => {
            let formats = [
                "ISO8601",
                "UNIX",
                "UNIX_MS",
                "yyyy-MM-dd HH:mm:ss",
                "dd/MMM/yyyy:HH:mm:ss Z",
                "EEE, dd MMM yyyy HH:mm:ss zzz",
            ];
            let formats: Vec<_> = (0..rng.usize(1..4)).map(|_| pick(rng, &formats)).collect();
            let mut options =
                json!({"field": field_of(rng, &[Kind::Date, Kind::Date, Kind::Stamp]), "formats": formats});
            if rng.u8(..) < 80 {
                options["timezone"] = json!(pick(rng, &["Europe/Berlin", "+02:00", "UTC", "America/New_York"]));
            }
            if rng.u8(..) < 60 {
                options["target_field"] = json!(pick(rng, &["date", "c.when", "tags"]));
            }
            ("date", options)
        }
        7 => {
            let patterns = [
                "%{WORD:w} %{NOTSPACE:p} %{INT:s:int}",
                "%{IP:addr}",
                "^%{WORD:w}(?: %{WORD:v})?$",
                "%{NUMBER:num:float}",
                "(?<first>[a-z])%{GREEDYDATA:rest}",
                "%{WORD:a}",
            ];
            let patterns: Vec<_> = (0..rng.usize(1..3)).map(|_| pick(rng, &patterns)).collect();
            ("grok", json!({"field": field_of(rng, &[Kind::Words, Kind::Ip, Kind::Text]), "patterns": patterns}))
        }
        _ => ("user_agent", common(json!({"field": field_of(rng, &[Kind::Agent])}), rng)),
    }
}

/// Those that set, move or convert values.
fn on_values(rng: &mut Rng) -> (&'static str, Value) {
    let any_text = |rng: &mut Rng| {
        pick(rng, &["v", "{{a}}", "{{{b}}}-{{n}}", "{{c.d}}", "{{tags}}", "{{tags.0}}", "{{{c}}}", "{{x.y}}"])
    };
    match rng.u8(0..8) {
        0 => (
            "set",
            json!({"field": any_field(rng), "value": any_text(rng), "override": rng.bool(), "ignore_empty_value": rng.bool()}),
        ),
        1 => ("set", json!({"field": any_field(rng), "value": any(rng, 0)})),
        2 => (
            "rename",
            json!({"field": any_field(rng), "target_field": pick(rng, &["moved", "c.moved", "a", "tags.0"]), "ignore_missing": rng.bool()}),
        ),
        3 | 4 => {
            let of = |rng: &mut Rng, (name, kind): (&'static str, Kind)| json!({"field": field_of(rng, &[kind]), "type": name});
            let fitting = [
                ("integer", Kind::Number),
                ("long", Kind::Number),
                ("float", Kind::Number),
                ("double", Kind::Numbers),
                ("string", Kind::Numbers),
                ("string", Kind::Object),
                ("boolean", Kind::Number),
                ("auto", Kind::Text),
                ("auto", Kind::Number),
                ("ip", Kind::Ip),
            ];
            let which = rng.usize(..fitting.len());
            let options = of(rng, fitting[which]);
            ("convert", common(options, rng))
        }
        5 | 6 => {
            let field = if rng.bool() { field_of(rng, &[Kind::Texts]) } else { any_field(rng) };
            let value = if rng.bool() { json!(any_text(rng)) } else { json!([any(rng, 1), text(rng)]) };
            ("append", json!({"field": field, "value": value, "allow_duplicates": rng.bool()}))
        }
        _ => {
            let target = pick(rng, &["copied", "c.copied", "a", "tags.1", "none"]);
            let mut options = json!({"source_field": any_field(rng), "target_field": target});
            for name in ["override_target", "remove_source", "ignore_missing"] {
                if rng.bool() {
                    options[name] = json!(rng.bool());
                }
            }
            ("copy", options)
        }
    }
}

/// Those that look at the document as a whole, or run others.
fn on_documents(rng: &mut Rng) -> (&'static str, Value) {
    match rng.u8(0..13) {
        0 => ("dot_expander", json!({"field": pick(rng, &["x.y", "x.y", "c.d", "a.z"])})),
        1 => {
            let fields: Vec<_> = (0..rng.usize(1..3)).map(|_| any_field(rng)).collect();
            ("remove", json!({"field": fields, "ignore_missing": rng.bool()}))
        }
        2 => ("remove", json!({"exclude_field": ["a", "b", "tags", "c", "x.y", "n"]})),
        3 => {
            let name = pick(rng, &["field_pattern", "exclude_field_pattern"]);
            ("remove_by_pattern", json!({ name: pick(rng, &["a*", "*s", "c", "x*", "none*", "*a*t*"]) }))
        }
        4 => {
            let mut options = json!({"ignore_missing": rng.bool()});
            match rng.u8(0..4) {
                0 => options["exclude_fields"] = json!(["c"]),
                1 => {}
                _ => options["fields"] = json!([any_field(rng), any_field(rng)]),
            }
            if rng.bool() {
                let methods = ["MD5@2.16.0", "SHA-1@2.16.0", "SHA-256@2.16.0", "SHA3-256@2.16.0"];
                options["hash_method"] = json!(pick(rng, &methods));
            }
            ("fingerprint", options)
        }
        5 | 6 => ("script", json!({"source": script(rng)})),
        7 => ("fail", json!({"message": pick(rng, &["stop {{a}}", "stop"]), "if": condition(rng)})),
        8 => ("drop", json!({"if": format!("({}) && ({})", condition(rng), condition(rng))})),
        _ => {
            let field = field_of(rng, LISTS);
            let mut options = foreach(rng, field, 0);
            if rng.bool() {
                options["if"] = json!(format!("ctx.{field} instanceof List"));
            }
            ("foreach", options)
        }
    }
}

fn foreach(rng: &mut Rng, field: &str, depth: u8) -> Value {
    let mut options = json!({"field": field, "processor": each(rng, field, depth)});
    if rng.u8(..) < 250 {
        options["ignore_missing"] = json!(true);
    }
    options
}

/// A processor that works on what `_ingest._value` holds in the list `field`.
fn each(rng: &mut Rng, field: &str, depth: u8) -> Value {
    let value = "_ingest._value";
    let (name, mut options) = match field {
        "lists" if depth + 1 < FOREACH_MAX && rng.u8(..) < 200 => ("foreach", foreach(rng, value, depth + 1)),
        "objs" if rng.u8(..) < 230 => match rng.u8(0..6) {
            0 => ("uppercase", json!({"field": "_ingest._value.k"})),
            1 => ("convert", json!({"field": "_ingest._value.n", "type": pick(rng, &["string", "integer", "auto"])})),
            2 => (
                "rename",
                json!({"field": "_ingest._value.k", "target_field": pick(rng, &["_ingest._value.m", "_ingest._value.v.m"])}),
            ),
            3 => (
                "remove",
                json!({"field": pick(rng, &["_ingest._value.n", "_ingest._value.v.w", "_ingest._value.none"])}),
            ),
            4 if depth + 1 < FOREACH_MAX => ("foreach", foreach(rng, "_ingest._value.l", depth + 1)),
            _ => ("set", json!({"field": "_ingest._value.new", "value": "<{{_ingest._value.k}}>"})),
        },
        _ => match rng.u8(0..7) {
            0 => ("uppercase", json!({"field": value})),
            1 => ("set", json!({"field": value, "value": "<{{_ingest._value}}>"})),
            2 => ("append", json!({"field": pick(rng, &["seen", "c.seen"]), "value": "{{{_ingest._value}}}"})),
            3 => ("convert", json!({"field": value, "type": pick(rng, &["string", "integer", "auto", "boolean"])})),
            4 => ("gsub", json!({"field": value, "pattern": "[a-z]", "replacement": "$0$0"})),
            5 => ("split", json!({"field": value, "separator": " "})),
            _ => ("script", json!({"source": "ctx.count = ctx.count == null ? 1 : ctx.count + 1"})),
        },
    };
    dress(rng, &mut options, depth + 1);
    json!({ name: options })
}
