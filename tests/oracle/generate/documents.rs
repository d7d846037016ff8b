//! Random documents: each field mostly holds what the processors that name it work on.

use super::pick;
use fastrand::Rng;
use serde_json::{Value, json};

/// What a field mostly holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Agent,
    Csv,
    Date,
    Dotted,
    Html,
    Ip,
    Json,
    Lists,
    Number,
    Numbers,
    Object,
    Objects,
    Pairs,
    Size,
    Stamp,
    Text,
    Texts,
    Url,
    Words,
}

/// The fields that pipelines and documents share.
const FIELDS: &[(&str, Kind)] = &[
    ("a", Kind::Text),
    ("agent", Kind::Agent),
    ("b", Kind::Words),
    ("c", Kind::Object),
    ("csv", Kind::Csv),
    ("date", Kind::Date),
    ("html", Kind::Html),
    ("ip", Kind::Ip),
    ("json", Kind::Json),
    ("kv", Kind::Pairs),
    ("lists", Kind::Lists),
    ("n", Kind::Number),
    ("nums", Kind::Numbers),
    ("objs", Kind::Objects),
    ("size", Kind::Size),
    ("t", Kind::Text),
    ("tags", Kind::Texts),
    ("url", Kind::Url),
    ("when", Kind::Stamp),
    ("x.y", Kind::Dotted),
];

/// Paths that lead somewhere in some documents, and nowhere in others.
const ANYWHERE: &[&str] = &[
    "c.d",
    "c.e",
    "c.d.f",
    "tags.0",
    "tags.1",
    "nums.7",
    "objs.0.k",
    "objs.1.v.w",
    "x.y",
    "none",
    "new.er",
    "lists.0",
];

/// A field that mostly holds one of `kinds`.
pub(super) fn field_of(rng: &mut Rng, kinds: &[Kind]) -> &'static str {
    match rng.u8(0..40) {
        0 => FIELDS[rng.usize(..FIELDS.len())].0,
        1 => pick(rng, ANYWHERE),
        _ => {
            let fitting: Vec<_> = FIELDS.iter().filter(|(_, kind)| kinds.contains(kind)).collect();
            fitting[rng.usize(..fitting.len())].0
        }
    }
}

/// Any field, mostly one that is there.
pub(super) fn any_field(rng: &mut Rng) -> &'static str {
    match rng.u8(0..4) {
        0 => pick(rng, ANYWHERE),
        _ => FIELDS[rng.usize(..FIELDS.len())].0,
    }
}

/// A document with most of the fields; a few hold anything.
pub(super) fn document(rng: &mut Rng) -> Value {
    let mut document = json!({});
    for (name, kind) in FIELDS {
        match rng.u8(0..50) {
            0 => {}
            1 => document[*name] = any(rng, 0),
            _ => document[*name] = of_kind(rng, *kind),
        }
    }
    document
}

/// A short text of any kind.
pub(super) fn text(rng: &mut Rng) -> &'static str {
    let texts = [
        "x y",
        " pad ",
        "Größe",
        "",
        "x",
        "Hello World",
        "a.b.c",
        "null",
        "\"quoted\"",
        "tab\there",
        "$1 \\ {{x}}",
        "true",
        "42",
        "1,2",
        "ÀÉ ß",
    ];
    pick(rng, &texts)
}

/// Anything that JSON can say.
pub(super) fn any(rng: &mut Rng, depth: u8) -> Value {
    match rng.u8(0..9) {
        0..=2 => json!(text(rng)),
        3 => json!(rng.i32(-5..100)),
        4 => json!(f64::from(rng.i32(-50..50)) / 4.0),
        5 => json!(rng.bool()),
        6 => json!(rng.i64(..)),
        7 if depth == 0 => json!([any(rng, 1), any(rng, 1)]),
        7 | 8 if depth == 0 => json!({"d": any(rng, 1), "e": any(rng, 1)}),
        _ => Value::Null,
    }
}

fn of_kind(rng: &mut Rng, kind: Kind) -> Value {
    let texts: &[&str] = match kind {
        Kind::Text => return json!(text(rng)),
        Kind::Number => return number(rng),
        Kind::Numbers => {
            let whole = rng.bool();
            let one =
                |rng: &mut Rng| if whole { json!(rng.i32(-9..99)) } else { json!(f64::from(rng.i32(-9..99)) / 8.0) };
            return (0..rng.usize(..5)).map(|_| one(rng)).collect();
        }
        Kind::Texts => return (0..rng.usize(..4)).map(|_| json!(text(rng))).collect(),
        Kind::Lists => return (0..rng.usize(..3)).map(|_| of_kind(rng, Kind::Texts)).collect(),
        Kind::Object => return json!({"d": any(rng, 0), "e": text(rng)}),
        Kind::Objects => {
            let one = |rng: &mut Rng| json!({"k": text(rng), "n": number(rng), "l": of_kind(rng, Kind::Texts), "v": {"w": any(rng, 1)}});
            return (0..rng.usize(..4)).map(|_| one(rng)).collect();
        }
        Kind::Dotted => return any(rng, 0),
        Kind::Stamp => return json!([rng.i64(0..4_000_000_000_000), rng.i64(0..4_000_000_000)][rng.usize(..2)]),
        Kind::Words => {
            &["GET /a/b 200", "a b c d", "k: v; w", "one two", "a  b", "[x] y", "10.0.0.1 - 5", "a-b-c", "x=1 y=2"]
        }
        Kind::Csv => &["1,2,3", "\"q\",r", "a, b ,c", "1,,3", "\"a \"\"b\"\"\",c", "x", "ä,€,\"z\"", "1;2;3", ",,"],
        Kind::Pairs => {
            &["k=v x=y", "a=1&b=2", "k=v k=w", "k=(v) x=[y]", "k= x=y", "k=v=w", "a.b=1 a.c=2", " k=v", "k='v' x=\"y\""]
        }
        Kind::Json => &[
            "{\"j\":[1]}",
            "{\"j\": {\"k\": null, \"l\": 1.5}}",
            "[1, \"x\", true]",
            "\"t\"",
            "12",
            "1e3",
            "null",
            " {\"j\":\"\\u00e4\"} ",
            "{\"j\":1",
            "{\"j\":1,}",
            "[1 2]",
            "tru",
            "{'j':1}",
            "{\"j\":\n x}",
            "\"a\nb\"",
            "10.0.0.1",
        ],
        Kind::Html => &["<b>a</b> c", "a &lt; b", "x<br/>y", "<p class=\"a>b\">z</p>", "1 < 2", "<!-- c -->d", "plain"],
        Kind::Url => &["%41+b", "a%20b", "x%C3%A4", "plain", "%", "%zz", "a+b%2B", ""],
        Kind::Size => {
            &["1kb", "15mb", "0", "-1", "2tb", "1.5gb", "12", "7b", "1.5b", " 3 KB ", "x", "0.5kb", "1e3mb", "-2kb"]
        }
        Kind::Ip => &["10.0.0.1", "::1", "fe80::1%eth0", "256.1.1.1", "1.2.3", "::ffff:1.2.3.4", "192.168.1.1"],
        Kind::Date => &[
            "2016-12-07T11:05:07.123Z",
            "2016-12-07T11:05:07+01:00",
            "2016-12-07 11:05:07",
            "07/Dec/2016:11:05:07 +0100",
            "2016-02-30T11:05:07Z",
            "30/Feb/2016:11:05:07 +0000",
            "2015-02-29 11:05:07",
            "2016-12-07",
            "1481108707",
            "1481108707123",
            "1481108707.5",
            "2016-13-07T11:05:07Z",
            "2016-12-07T25:05:07Z",
            "Wed, 07 Dec 2016 11:05:07 GMT",
            "x",
        ],
        Kind::Agent => &[
            "curl/7.58.0",
            "Mozilla/5.0 (X11; Ubuntu; Linux i686; rv:15.0) Gecko/20100101 Firefox/15.0.1",
            "Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1; Trident/5.0)",
            "something unknown",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_2) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/33.0.1750.149 Safari/537.36",
        ],
    };
    json!(pick(rng, texts))
}

/// A number, or a text that says one, mostly.
fn number(rng: &mut Rng) -> Value {
    let texts = ["12", "-7", "1.5", "0x1F", "true", "FALSE", "9999999999", "1e3", " 5", "+5", "1.", "NaN", "5d", "x"];
    match rng.u8(0..6) {
        0 | 1 => json!(rng.i32(-3..9)),
        2 => json!(f64::from(rng.i32(-50..50)) / 4.0),
        3 => json!(rng.i64(..)),
        4 => json!(rng.bool()),
        _ => json!(pick(rng, &texts)),
    }
}
