//! Holds back what one place in the code says over and over, and tells how often it did.
//!
//! A full disk or a dead broker makes the same warning thousands of times a second: it must neither fill the journal nor
//! slow the daemon down. `Windows` decides, without clock or lock; `Repeats` is the layer around it, and one thread tells the
//! counts. That thread sleeps for good while nothing is held back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::Thread,
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, callsite, field::Field, field::Visit};
use tracing_subscriber::{Layer, layer::Context};

use crate::clock;

/// Events of one place that are let through in a window.
pub(super) const EVENTS_MAX: u64 = 5;
/// From the first event of one place until its count starts anew.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// The target of the events that tell the counts; they are never held back themselves.
pub(super) const TARGET: &str = "service::logs::repeats";

/// A place in the code, and for events of the `log` crate (which all come from one place) their target.
type Place = (callsite::Identifier, Option<String>);

/// What was held back at one place in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) metadata: &'static Metadata<'static>,
    pub(super) suppressed: u64,
}

struct Window {
    start: Instant,
    seen: u64,
    metadata: &'static Metadata<'static>,
}

impl Window {
    fn held(&self) -> Option<Held> {
        let suppressed = self.seen.checked_sub(EVENTS_MAX).filter(|&n| n > 0)?;
        Some(Held { metadata: self.metadata, suppressed })
    }
}

/// The open window of each place. Bounded by the number of places in the code.
pub(super) struct Windows {
    length: Duration,
    open: HashMap<Place, Window>,
    owed: Vec<Held>,
}

/// What to do with one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// The first that is held back in its window: somebody must tell the count at the end.
    FirstHeld,
    Held,
}

impl Windows {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, open: HashMap::new(), owed: Vec::new() }
    }

    /// Counts an event at `place` and says whether it is let through.
    pub(super) fn admit(&mut self, place: Place, metadata: &'static Metadata<'static>, now: Instant) -> Verdict {
        let window = self.open.entry(place).or_insert(Window { start: now, seen: 0, metadata });
        if now.saturating_duration_since(window.start) >= self.length {
            self.owed.extend(window.held());
            *window = Window { start: now, seen: 0, metadata };
        }
        window.seen += 1;
        match window.seen {
            ..=EVENTS_MAX => Verdict::Pass,
            n if n == EVENTS_MAX + 1 => Verdict::FirstHeld,
            _ => Verdict::Held,
        }
    }

    /// Closes the windows that are over: what they held back, each told once.
    pub(super) fn close(&mut self, now: Instant) -> Vec<Held> {
        let (owed, length) = (&mut self.owed, self.length);
        self.open.retain(|_, window| {
            let is_open = now.saturating_duration_since(window.start) < length;
            if !is_open {
                owed.extend(window.held());
            }
            is_open
        });
        std::mem::take(owed)
    }

    /// When the next count is due; `None` while nothing is held back.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.owed.is_empty() {
            return Some(now);
        }
        self.open.values().filter(|window| window.held().is_some()).map(|window| window.start + self.length).min()
    }
}

/// The layer that asks `Windows` about each WARN and ERROR.
pub(super) struct Repeats {
    windows: Arc<Mutex<Windows>>,
    teller: Thread,
}

impl Repeats {
    /// Starts the thread that tells the counts.
    ///
    /// Errors: the system gives no thread.
    pub(super) fn start(window: Duration) -> std::io::Result<Self> {
        let windows = Arc::new(Mutex::new(Windows::new(window)));
        let watched = windows.clone();
        let teller = std::thread::Builder::new().name("log-repeats".into()).spawn(move || tell_for_ever(&watched))?;
        Ok(Self { windows, teller: teller.thread().clone() })
    }
}

impl<S: tracing::Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == TARGET {
            return true;
        }
        let place = (metadata.callsite(), log_target(event));
        let verdict = lock(&self.windows).admit(place, metadata, clock::monotonic());
        if verdict == Verdict::FirstHeld {
            self.teller.unpark();
        }
        verdict == Verdict::Pass
    }
}

fn tell_for_ever(windows: &Mutex<Windows>) {
    loop {
        let now = clock::monotonic();
        let held = lock(windows).close(now);
        held.into_iter().for_each(tell);
        let due = lock(windows).due(now);
        match due {
            Some(due) => std::thread::park_timeout(due.saturating_duration_since(now)),
            None => std::thread::park(),
        }
    }
}

fn tell(held: Held) {
    let Held { metadata, suppressed } = held;
    let place = format!("{}:{}", metadata.file().unwrap_or(metadata.target()), metadata.line().unwrap_or_default());
    if *metadata.level() == Level::ERROR {
        tracing::error!(target: TARGET, suppressed, place, "the same was said again and again");
    } else {
        tracing::warn!(target: TARGET, suppressed, place, "the same was said again and again");
    }
}

/// The target an event of the `log` crate carries in a field.
fn log_target(event: &Event<'_>) -> Option<String> {
    struct Find(Option<String>);
    impl Visit for Find {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "log.target" {
                self.0 = Some(value.to_owned());
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
    }
    if event.metadata().target() != "log" {
        return None;
    }
    let mut find = Find(None);
    event.record(&mut find);
    find.0
}

fn lock(windows: &Mutex<Windows>) -> MutexGuard<'_, Windows> {
    // Counts stay whole whatever happened to the thread that held them.
    windows.lock().unwrap_or_else(PoisonError::into_inner)
}
