//! One life of the agent, driven by hand: the real stages, polled one step at a time, so that a seed is one history.

use crate::board::Board;
use crate::checkpoint::{Loaded, Store};
use crate::commit::{self, Control};
use crate::config::{AgentConfig, FileInput, parted};
use crate::discover::{Listing, Touched, scan};
use crate::metrics::AgentMetrics;
use crate::tail;
use event::{Budget, Group};
use service::health::Health;
use service::metrics::Registry;
use service::stop::{Stop, Trigger};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::sync::mpsc::{self, Receiver, Sender};

/// As in lib.rs.
const CONTROL_CAPACITY: usize = 64;

pub(super) struct Process {
    commit: Stage,
    tail: Stage,
    inputs: Arc<Vec<FileInput>>,
    listings: Sender<Listing>,
    touched: Touched,
    /// From the tail stage, handed on to the commit stage.
    told: Receiver<Control>,
    control: Option<Sender<Control>>,
    pub(super) groups: Receiver<Group>,
    trigger: Trigger,
    pub(super) metrics: AgentMetrics,
}

/// A stage that is polled only when it was woken.
struct Stage {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Stage {
    fn new(stage: impl Future<Output = ()> + 'static) -> Self {
        Self { future: Some(Box::pin(stage)), woken: Arc::new(Woken(AtomicBool::new(true))) }
    }

    /// False if there was nothing to do.
    fn poll(&mut self) -> bool {
        let Some(future) = &mut self.future else { return false };
        if !self.woken.0.swap(false, Ordering::AcqRel) {
            return false;
        }
        if let Poll::Ready(()) = future.as_mut().poll(&mut Context::from_waker(&Waker::from(self.woken.clone()))) {
            self.future = None;
        }
        true
    }
}

impl Process {
    /// Starts on what the store holds.
    #[expect(clippy::disallowed_methods, reason = "settlements, as in lib.rs")]
    pub(super) fn start(config: AgentConfig, groups_max: usize) -> (Self, Loaded) {
        let (store, loaded) = Store::open(&config.state_dir).expect("opens");
        let known = tail::Known { files: loaded.files.clone(), first_start: loaded.first_start, is_kept: false };
        let (listings, listings_rx) = mpsc::channel(1);
        let (told_tx, told) = mpsc::channel(CONTROL_CAPACITY);
        let (control, control_rx) = mpsc::channel(CONTROL_CAPACITY);
        let (ledger, entries) = mpsc::unbounded_channel();
        let (rewinds_tx, rewinds) = mpsc::unbounded_channel();
        let (output, groups) = mpsc::channel(groups_max);
        let (trigger, stop) = Stop::new();
        let metrics = AgentMetrics::new(&Registry::default());
        let touched = Touched::default();
        let budget = Budget::new(config.memory);
        let wires = tail::Wires {
            listings: listings_rx,
            touched: touched.clone(),
            rewinds,
            control: told_tx,
            ledger,
            output: output.into(),
            budget,
        };
        let inputs = Arc::new(parted(config.inputs.clone()).0);
        let commit = Stage::new(commit::run(
            store,
            commit::Wires { control: control_rx, entries, rewinds: rewinds_tx, forgotten: None },
            commit::at_once,
            metrics.clone(),
            Health::new(),
        ));
        let tail = Stage::new(tail::run(config, inputs.clone(), known, wires, metrics.clone(), Board::default(), stop));
        (
            Self { commit, tail, inputs, listings, touched, told, control: Some(control), groups, trigger, metrics },
            loaded,
        )
    }

    /// Shows the tail stage what is there now. `None` if it has not taken the last listing yet.
    pub(super) fn list(&self) -> Option<Vec<(std::path::PathBuf, u64)>> {
        let place = self.listings.try_reserve().ok()?;
        let listing = scan(&self.inputs);
        let shown = listing.files.iter().map(|seen| (seen.path.clone(), seen.inode.number)).collect();
        place.send(listing);
        Some(shown)
    }

    /// Notifies the tail stage of a write to `path`.
    pub(super) fn notify(&self, path: std::path::PathBuf) {
        assert!(self.touched.add(&[path]), "only so many files");
    }

    /// True if the tail stage has taken the last listing.
    pub(super) fn has_taken_listing(&self) -> bool {
        self.listings.capacity() > 0
    }

    /// One poll of each stage that has something to do; `hear` is told what the tail stage tells the commit stage.
    /// False if there was nothing to do.
    pub(super) fn step(&mut self, mut hear: impl FnMut(&Control)) -> bool {
        let has_read = self.tail.poll();
        while let Some(place) = self.control.as_ref().and_then(|control| control.try_reserve().ok()) {
            let Ok(told) = self.told.try_recv() else { break };
            hear(&told);
            place.send(told);
        }
        self.commit.poll() || has_read
    }

    /// Asks the tail stage to stop.
    pub(super) fn stop(&self) {
        self.trigger.stop();
    }

    /// After a stop, when all groups are settled or given back: the commit stage's last flush.
    pub(super) fn join(mut self) {
        assert!(self.tail.future.is_none(), "reading goes on after a stop");
        self.control = None;
        drop(self.groups);
        while self.commit.poll() {}
        assert!(self.commit.future.is_none(), "the commit stage waits for an ack that nobody holds");
    }

    /// As a SIGKILL: what the commit stage has not written is gone, whatever becomes of the groups.
    pub(super) fn kill(mut self) {
        self.commit.future = None;
        self.tail.future = None;
    }
}
