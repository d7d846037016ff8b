//! Nanoseconds an event: the catalog's nginx pipeline and single patterns, on one thread.
//!
//! `cargo bench -p engine`. The whole line is: make the event, run the pipeline, write the document.

use engine::grok::{Bank, Ecs, Grok};
use engine::{Library, Outcome};
use event::{Event, Object};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;

const LINE: &str = r#"203.0.113.7 - - [07/Dec/2016:11:05:07 +0100] "GET /api/v1/users/17/orders HTTP/1.1" 200 5713 "https://www.example.com/product/12" "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36""#;
const ROUNDS: u32 = 200_000;
const NOW_MS: i64 = 1_735_689_600_000;

#[allow(clippy::disallowed_methods)] // A bench measures time; the engine never reads a clock.
fn measure(name: &str, mut work: impl FnMut()) {
    for _ in 0..ROUNDS / 10 {
        work();
    }
    let best = (0..5)
        .map(|_| {
            let start = std::time::Instant::now();
            for _ in 0..ROUNDS {
                work();
            }
            start.elapsed().as_nanos() / u128::from(ROUNDS)
        })
        .min();
    writeln!(std::io::stdout(), "{name:<44} {:>7} ns", best.unwrap_or(0)).ok();
}

fn event() -> Event {
    let mut source = Object::new();
    source.insert("message", LINE);
    Event::new(source)
}

fn main() {
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("../catalog");
    let library = Library::load(&catalog).expect("the catalog loads");
    let pipeline = library.get("nginx-access").expect("nginx-access is in the catalog");
    let mut out = Vec::new();
    measure("nginx-access: event, pipeline, document", || {
        let mut event = event();
        assert_eq!(pipeline.run(&library, &mut event, NOW_MS), Ok(Outcome::Document));
        out.clear();
        event.write_json(&mut out);
        black_box(&out);
    });
    measure("nginx-access: event and pipeline", || {
        let mut event = event();
        black_box(pipeline.run(&library, &mut event, NOW_MS).is_ok());
        black_box(&event);
    });
    measure("event only", || {
        black_box(event());
    });
    for (name, ecs, pattern) in [
        ("%{COMBINEDAPACHELOG} legacy", Ecs::Disabled, "%{COMBINEDAPACHELOG}"),
        ("^%{COMBINEDAPACHELOG} ecs v1", Ecs::V1, "^%{COMBINEDAPACHELOG}"),
        ("%{SYSLOGLINE} that does not match", Ecs::V1, "%{SYSLOGLINE}"),
    ] {
        let grok = Grok::new(&Bank::stock(ecs), &[pattern]).expect("a stock pattern");
        measure(name, || {
            let matched = grok.match_text(LINE, |_, part| {
                black_box(part);
            });
            black_box(matched.is_ok());
        });
    }
}
