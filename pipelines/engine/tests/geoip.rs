//! `geoip` with MaxMind's test databases, which stand in `geoip/geoip` under their own licence.

use engine::{Library, Outcome};
use event::{Event, Value};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Each run has a folder of its own.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// What `geoip` with `options` makes of a document whose field `a` is `address`, given as JSON.
fn run(options: &str, address: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/geoip");
    let nth = RUNS.fetch_add(1, Ordering::Relaxed);
    let scratch = std::env::temp_dir().join(format!("tailrace-geoip-{}-{nth}", std::process::id()));
    std::fs::create_dir_all(scratch.join("geoip")).expect("a folder");
    for name in ["GeoLite2-City-Test.mmdb", "GeoLite2-ASN-Test.mmdb", "GeoLite2-Country-Test.mmdb"] {
        std::fs::copy(folder.join("geoip").join(name), scratch.join("geoip").join(name)).expect("a copy");
    }
    std::fs::write(scratch.join("geoip/broken.mmdb"), b"no database").expect("a file");
    let pipeline = scratch.join("p.yml");
    std::fs::write(&pipeline, format!("processors: [{{geoip: {{field: a, target_field: t{options}}}}}]"))
        .expect("a file");
    let mut library = Library::new();
    let loaded = library.load_file(&pipeline);
    std::fs::remove_dir_all(&scratch).expect("it was just made");
    if let Err(error) = loaded {
        return error.to_string().rsplit("geoip: ").next().unwrap_or_default().to_owned();
    }
    let document = format!("{{\"a\":{address}}}");
    let Ok(Value::Object(source)) = Value::from_json(document.as_bytes()) else { panic!("{document}") };
    let mut event = Event::new(source);
    match library.get("p").expect("it was just added").run(&library, &mut event, 0) {
        Ok(Outcome::Document) => {
            event.source.remove("a");
            Value::Object(event.source).to_json()
        }
        Ok(Outcome::Dropped) => "dropped".to_owned(),
        Err(failure) => failure.reason,
    }
}

const CITY: &str = ", database_file: GeoLite2-City-Test.mmdb";

#[test]
fn an_address_has_its_place() {
    let linköping = r#"{"t":{"city_name":"Linköping","continent_name":"Europe","country_iso_code":"SE","country_name":"Sweden","location":{"lat":58.4167,"lon":15.6167},"region_iso_code":"SE-E","region_name":"Östergötland County"}}"#;
    assert_eq!(run(CITY, "\"89.160.20.128\""), linköping);
    let some = format!("{CITY}, properties: [ip, timezone, COUNTRY_NAME]");
    assert_eq!(
        run(&some, "\"67.43.156.9\""),
        r#"{"t":{"ip":"67.43.156.9","timezone":"Asia/Thimphu","country_name":"Bhutan"}}"#
    );
    assert_eq!(run(CITY, "\"10.0.0.1\""), "{}");
    let country = ", database_file: GeoLite2-Country-Test.mmdb";
    assert_eq!(
        run(country, "\"89.160.20.128\""),
        r#"{"t":{"continent_name":"Europe","country_iso_code":"SE","country_name":"Sweden"}}"#
    );
}

#[test]
fn an_address_has_its_network() {
    let asn = ", database_file: GeoLite2-ASN-Test.mmdb";
    assert_eq!(
        run(asn, "\"1.128.0.9\""),
        r#"{"t":{"asn":1221,"ip":"1.128.0.9","network":"1.128.0.0/11","organization_name":"Telstra Pty Ltd"}}"#
    );
    assert_eq!(run(asn, "\"::1\""), "{}");
}

#[test]
fn lists_give_the_first_or_all() {
    let list = r#"["10.0.0.1","67.43.156.9"]"#;
    let only = format!("{CITY}, properties: [country_name]");
    assert_eq!(run(&only, list), r#"{"t":{"country_name":"Bhutan"}}"#);
    let all = format!("{only}, first_only: false");
    assert_eq!(run(&all, list), r#"{"t":[null,{"country_name":"Bhutan"}]}"#);
}

#[test]
fn what_is_wrong_is_said() {
    assert_eq!(run(CITY, "\"nowhere\""), "'nowhere' is not an IP string literal.");
    assert_eq!(run(CITY, "null"), "field [a] is null, cannot extract geoip information.");
    assert_eq!(run(CITY, "5"), "field [a] should contain only string or array of strings");
    assert_eq!(run("", "\"1.2.3.4\""), r#"{"tags":["_geoip_database_unavailable_GeoLite2-City.mmdb"]}"#);
    assert!(run(&format!("{CITY}, properties: [asn]"), "null").contains("illegal property value [asn]"));
    assert!(run(", database_file: broken.mmdb", "null").contains("it is no MaxMind database"));
    assert!(run(", database_file: ../x.mmdb", "null").contains("is no file name"));
}

#[test]
fn a_damaged_database_makes_nothing_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/geoip/geoip");
    let whole = std::fs::read(folder.join("GeoLite2-City-Test.mmdb")).expect("the database");
    let scratch = std::env::temp_dir().join(format!("tailrace-geoip-damaged-{}", std::process::id()));
    std::fs::create_dir_all(scratch.join("geoip")).expect("a folder");
    std::fs::write(scratch.join("p.yml"), "processors: [{geoip: {field: a, database_file: d.mmdb}}]").expect("a file");
    let mut loaded = 0;
    for seed in 0..200_usize {
        let mut bytes = whole.clone();
        for nth in 0..8 {
            let at = (seed * 7_919 + nth * 104_729) % bytes.len();
            bytes[at] = bytes[at].wrapping_add(1 + (seed % 251) as u8);
        }
        std::fs::write(scratch.join("geoip/d.mmdb"), &bytes).expect("a file");
        let mut library = Library::new();
        if library.load_file(&scratch.join("p.yml")).is_err() {
            continue;
        }
        loaded += 1;
        for address in ["89.160.20.128", "67.43.156.9", "2001:218::1", "::", "255.255.255.255"] {
            let mut event = Event::default();
            event.source.insert("a", address);
            library.get("p").expect("it was just added").run(&library, &mut event, 0).ok();
        }
    }
    std::fs::remove_dir_all(&scratch).expect("it was just made");
    assert!(loaded > 20, "only {loaded} of the damaged files could be loaded at all");
}
