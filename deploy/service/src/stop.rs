//! Signals become one flag that the first stage of a daemon watches.
//!
//! Only the first stage looks at it; the others end when their input closes, having sent what they hold (STYLE, Flow 5).

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Exit code after a second signal: the daemon did not drain.
pub const EXIT_UNDRAINED: i32 = 130;

/// Asks for the stop. Dropping it asks for nothing: a stop is always somebody's explicit wish.
#[derive(Debug)]
pub struct Trigger {
    sender: watch::Sender<bool>,
}

impl Trigger {
    /// Asks all clones of the `Stop` to stop. For good: there is no way back.
    pub fn stop(&self) {
        self.sender.send_replace(true);
    }
}

/// Tells whether the daemon has been asked to stop.
#[derive(Debug, Clone)]
pub struct Stop {
    receiver: watch::Receiver<bool>,
}

impl Stop {
    /// A stop and what triggers it.
    pub fn new() -> (Trigger, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Trigger { sender }, Stop { receiver })
    }

    /// Stops at the first SIGTERM or SIGINT; a second one ends the process at once with code 130.
    ///
    /// Call it once, inside a tokio runtime. From then on these signals no longer end the process by themselves.
    pub fn on_signals() -> Stop {
        let (trigger, stop) = Self::new();
        let listen = |kind| signal(kind).expect("the kernel lets every process handle SIGTERM and SIGINT");
        let (mut term, mut int) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
        tokio::spawn(async move {
            let name = either(&mut term, &mut int).await;
            tracing::info!(signal = name, "stopping: handing over what was read; a second signal ends at once");
            trigger.stop();
            let name = either(&mut term, &mut int).await;
            tracing::error!(signal = name, "second signal: ending without handing over what was read");
            std::process::exit(EXIT_UNDRAINED);
        });
        stop
    }

    /// True once the stop has been asked for.
    pub fn is_stopped(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Waits until the stop is asked for; returns at once if it has been. Safe to use in `select!`.
    pub async fn stopped(&self) {
        if self.receiver.clone().wait_for(|stopped| *stopped).await.is_err() {
            // The trigger is gone and never fired: nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }
}

async fn either(term: &mut Signal, int: &mut Signal) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Child, Command, Stdio},
        time::Duration,
    };

    use super::*;

    /// The test binary runs itself, as signals must go to a process of their own. It says how far it got.
    #[tokio::test]
    async fn child() {
        if std::env::var_os("TAILRACE_STOP_CHILD").is_some() {
            let stop = Stop::on_signals();
            println!("stopped: {}", stop.is_stopped());
            stop.stopped().await;
            println!("stopped: {}", stop.is_stopped());
            // Draining, for longer than the test lasts.
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }

    fn kill(child: &Child, signal: &str) {
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill starts");
        assert!(sent.success(), "{signal}");
    }

    #[test]
    fn the_first_signal_drains_and_the_second_ends_the_process() {
        for (first, second) in [("-TERM", "-TERM"), ("-INT", "-TERM"), ("-TERM", "-INT")] {
            let mut child = Command::new(std::env::current_exe().expect("the test binary has a path"))
                .args(["--exact", "stop::tests::child", "--nocapture"])
                .env("TAILRACE_STOP_CHILD", "1")
                .stdout(Stdio::piped())
                .spawn()
                .expect("the test binary starts");
            let output = BufReader::new(child.stdout.take().expect("piped"));
            let mut said = output.lines().map_while(Result::ok).filter(|line| line.contains("stopped: "));
            let mut ends_with = |end: &str| said.next().is_some_and(|line| line.ends_with(end));
            assert!(ends_with("stopped: false"));
            kill(&child, first);
            assert!(ends_with("stopped: true"), "{first} did not stop it");
            assert_eq!(child.try_wait().expect("a child"), None, "it drains after {first}");
            kill(&child, second);
            assert_eq!(child.wait().expect("a child").code(), Some(EXIT_UNDRAINED), "{first} {second}");
        }
    }

    #[tokio::test]
    async fn every_clone_sees_the_stop_and_it_stays() {
        let (trigger, stop) = Stop::new();
        let other = stop.clone();
        assert!(!stop.is_stopped());
        let waiting = tokio::spawn(async move { other.stopped().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        trigger.stop();
        waiting.await.expect("the waiting task ends");
        drop(trigger);
        stop.stopped().await;
        assert!(stop.is_stopped());
    }

    #[tokio::test]
    async fn a_dropped_trigger_stops_nothing() {
        let (trigger, stop) = Stop::new();
        drop(trigger);
        tokio::select! {
            biased;
            () = stop.stopped() => panic!("stopped without being asked"),
            () = tokio::time::sleep(Duration::from_millis(20)) => assert!(!stop.is_stopped()),
        }
    }
}
