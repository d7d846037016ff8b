//! What is wrong right now, part by part, for `/healthz` and `/readyz`.
//!
//! A daemon with a problem is degraded, not dead: it goes on with what it can do (STYLE, Flow 7). So a problem never turns
//! `/healthz` red, or an orchestrator would kill the agent because Kafka is down.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The health of one daemon; all clones are the same health.
#[derive(Debug, Clone, Default)]
pub struct Health {
    state: Arc<State>,
    /// All it is told is of this part.
    part: Option<&'static str>,
}

#[derive(Debug, Default)]
struct State {
    problems: Mutex<BTreeMap<&'static str, String>>,
    ready: AtomicBool,
}

impl Health {
    /// No problem, and not yet ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same health, for one who knows its parts under another name: all it is told is said of `part`.
    pub fn of_part(&self, part: &'static str) -> Self {
        Self { state: self.state.clone(), part: Some(part) }
    }

    /// Says what is wrong with `part` (`"checkpoint"`, `"kafka"`), or with `None` that it is well again. Cheap enough to repeat.
    ///
    /// Returns true if `part` changed between well and not well: the moment to log.
    pub fn set(&self, part: &'static str, problem: Option<String>) -> bool {
        let (mut problems, part) = (self.lock(), self.part.unwrap_or(part));
        match problem {
            Some(problem) => problems.insert(part, problem).is_none(),
            None => problems.remove(part).is_some(),
        }
    }

    /// Ready means: inputs are open and the peers were reached at least once.
    pub fn ready(&self, ready: bool) {
        self.state.ready.store(ready, Ordering::Release);
    }

    /// What `ready` was last told.
    pub fn is_ready(&self) -> bool {
        self.state.ready.load(Ordering::Acquire)
    }

    /// All problems of now, by part.
    pub fn problems(&self) -> BTreeMap<&'static str, String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A map of strings is whole whatever happened to the thread that held it.
        self.state.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_stands_until_its_part_is_well() {
        let health = Health::new();
        let other = health.clone();
        assert!(health.set("kafka", Some("no broker".into())));
        assert!(!health.set("kafka", Some("no broker for 5s".into())), "it was not well before");
        assert!(health.set("checkpoint", Some("disk full".into())));
        assert_eq!(
            other.problems(),
            BTreeMap::from([("checkpoint", "disk full".into()), ("kafka", "no broker for 5s".into())])
        );
        assert!(health.set("kafka", None));
        assert!(!health.set("kafka", None), "it was well before");
        assert_eq!(other.problems().len(), 1);
    }

    #[test]
    fn ready_is_said_not_assumed() {
        let health = Health::new();
        assert!(!health.is_ready());
        health.clone().ready(true);
        assert!(health.is_ready());
    }
}
