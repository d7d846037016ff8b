//! Syslog senders → messages.
//!
//! Connections and sockets of this host are read only as fast as memory allows: the senders wait. UDP senders cannot wait, so
//! what memory has no room for is dropped and counted. No syslog protocol has acknowledgements: what a sender wrote and this
//! process did not yet take is lost with the process, whatever the protocol.

mod fields;
mod message;
mod socket;

pub use message::Format;
pub(crate) use socket::Socket;

use super::batch::{Batch, Mouth};
use super::frames::{Frame, Frames};
use crate::config::SyslogInput;
use fields::Reading;
use message::Clock;
use service::clock::{monotonic, wall_ms};
use socket::{Datagrams, Listener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bytes of one read of a connection.
const CHUNK_BYTES: usize = 16 * 1024;
/// Largest datagram that the network carries; sockets of this host may carry larger ones.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// Datagrams of this host that are taken at once.
const BATCH_BYTES: usize = 128 * 1024;
/// Pause after a failed accept: the process is out of descriptors, and trying at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After a stop, what has arrived is still read: as long as something comes within the first time, for at most the second.
const LAST_READ_WAIT: Duration = Duration::from_millis(10);
const LAST_READS_MAX: Duration = Duration::from_secs(1);
/// Least time between two warnings of lost datagrams.
const LOSS_WARNING: Duration = Duration::from_secs(10);

/// How messages are read, and where to.
struct Receive {
    config: SyslogInput,
    mouth: Mouth,
    is_local: bool,
}

/// Receives until stopped.
pub(super) async fn run(socket: Socket, config: SyslogInput, mouth: Mouth) {
    let (input, is_local) = (mouth.plate.input().to_owned(), socket.is_local());
    let listen = socket.address();
    if socket.is_open_to_others() {
        tracing::warn!(input, listen, "other hosts can send here: plain text, without a login");
    }
    let opened = socket.listen();
    let receive = Receive { config, mouth, is_local };
    match opened {
        Ok(Listener::Datagrams(socket, _file)) if is_local => receive.patiently(&socket).await,
        Ok(Listener::Datagrams(socket, _file)) => {
            tracing::warn!(
                input,
                listen,
                "UDP is not at-least-once: what is lost on the way, and what comes while memory is used up, is gone"
            );
            receive.in_haste(&socket).await;
        }
        Ok(Listener::Connections(socket, _file)) => Arc::new(receive).connections(socket).await,
        Err(error) => {
            tracing::error!(input, listen, %error, "cannot listen");
            receive.mouth.plate.problem(Some(format!("cannot listen: {error}")));
        }
    }
}

impl Receive {
    fn clock(&self) -> Clock {
        Clock { zone: self.config.zone.clone(), now_ms: wall_ms() }
    }

    /// Adds a message. Unit: `bytes` and `cut` of what came.
    fn add(&self, text: &[u8], (bytes, cut): (u64, u64), address: Option<&str>, clock: &Clock, batch: &mut Batch) {
        let reading = Reading { format: self.config.format, is_local: self.is_local, clock, address };
        let (text, extra, is_read) = if text.is_empty() { (text, None, true) } else { fields::read(text, &reading) };
        if !is_read {
            self.mouth.wires.metrics.unparsed_messages.with_label_values(&["syslog"]).inc();
        }
        batch.push(text, extra, None, bytes, cut);
    }

    /// Adds a datagram, which is a message; a line end after it is no part of it.
    fn add_datagram(&self, datagram: &[u8], address: Option<&str>, is_whole: bool, batch: &mut Batch) {
        let line = datagram.strip_suffix(b"\n").unwrap_or(datagram);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = &line[..line.len().min(self.config.message_bytes_max)];
        let cut = (line.len() - text.len()) as u64 + u64::from(!is_whole);
        self.add(text, (datagram.len() as u64 + u64::from(!is_whole), cut), address, &self.clock(), batch);
    }

    fn datagram_buffer(&self) -> Vec<u8> {
        vec![0; self.config.message_bytes_max.max(DATAGRAM_BYTES_MAX) + 1]
    }

    /// Datagrams whose senders wait: read as memory allows.
    async fn patiently(&self, socket: &Datagrams) {
        let (stop, mut buffer) = (&self.mouth.stop, self.datagram_buffer());
        let mut is_stopped = false;
        while !is_stopped {
            let mut batch = Batch::default();
            tokio::select! {
                received = socket.receive(&mut buffer) => match received {
                    Ok((bytes, _)) => self.add_datagram(&buffer[..bytes], None, bytes < buffer.len(), &mut batch),
                    Err(error) => self.failed(&error).await,
                },
                () = stop.stopped() => is_stopped = true,
            }
            // After a stop too: what the kernel has taken is read.
            while batch.cost() < BATCH_BYTES || is_stopped {
                let Ok((bytes, _)) = socket.try_receive(&mut buffer) else { break };
                self.add_datagram(&buffer[..bytes], None, bytes < buffer.len(), &mut batch);
                if batch.cost() >= BATCH_BYTES && !self.mouth.ship(std::mem::take(&mut batch)).await {
                    return;
                }
            }
            if !self.mouth.ship(batch).await {
                return;
            }
        }
    }

    /// Datagrams whose senders do not wait: what memory has no room for is lost.
    async fn in_haste(&self, socket: &Datagrams) {
        let (stop, mut buffer, mut batch) = (&self.mouth.stop, self.datagram_buffer(), Batch::default());
        let mut losses = Losses::default();
        loop {
            tokio::select! {
                received = socket.receive(&mut buffer) => match received {
                    Ok((bytes, address)) => self.take(&buffer[..bytes], address, &mut batch, &mut losses),
                    Err(error) => self.failed(&error).await,
                },
                is_open = self.mouth.hand_over(&mut batch), if !batch.is_empty() => if !is_open { return },
                () = stop.stopped() => break,
            }
        }
        let deadline = monotonic() + LAST_READS_MAX;
        while let Ok((bytes, address)) = socket.try_receive(&mut buffer)
            && monotonic() < deadline
        {
            self.take(&buffer[..bytes], address, &mut batch, &mut losses);
        }
        self.mouth.ship_paid(batch).await;
    }

    /// Adds a datagram if there is memory for it.
    fn take(&self, datagram: &[u8], address: Option<String>, batch: &mut Batch, losses: &mut Losses) {
        let mut one = Batch::default();
        self.add_datagram(datagram, address.as_deref(), true, &mut one);
        match self.mouth.wires.budget.try_take(one.cost()) {
            Some(held) => {
                batch.append(one);
                batch.hold(held);
            }
            None => {
                self.mouth.lose("udp_no_memory", 1, datagram.len() as u64);
                losses.add(self.mouth.plate.input());
            }
        }
    }

    async fn failed(&self, error: &std::io::Error) {
        tracing::warn!(input = self.mouth.plate.input(), %error, "receiving failed");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// Accepts connections, at most so many at once; after a stop waits for those that are open.
    async fn connections(self: Arc<Self>, listener: socket::Connections) {
        let (places, mut open) = (Arc::new(Semaphore::new(self.config.connections_max)), JoinSet::new());
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
                listener.accept().await.map(|(stream, address)| (stream, address, place))
            };
            tokio::select! {
                accepted = accepted => match accepted {
                    Ok((stream, address, place)) => {
                        let receive = self.clone();
                        open.spawn(async move {
                            receive.mouth.wires.metrics.connections.inc();
                            receive.converse(stream, address).await;
                            receive.mouth.wires.metrics.connections.dec();
                            drop(place);
                        });
                    }
                    Err(error) => self.failed(&error).await,
                },
                Some(ended) = open.join_next(), if !open.is_empty() => {
                    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())); // Wrong code must stop.
                }
                () = self.mouth.stop.stopped() => break,
            }
        }
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    /// Reads one connection to its end; a last message without its end is a message.
    async fn converse(&self, mut stream: Box<dyn AsyncRead + Send + Unpin>, address: Option<String>) {
        let stop = &self.mouth.stop;
        let mut frames = Frames::new(self.config.framing, self.config.message_bytes_max);
        let (mut buffer, mut last_reads) = (vec![0; CHUNK_BYTES], None);
        loop {
            let wait = if last_reads.is_some() { LAST_READ_WAIT } else { self.config.idle_timeout };
            let read = tokio::select! {
                biased;
                read = tokio::time::timeout(wait, stream.read(&mut buffer)) => read,
                () = stop.stopped(), if last_reads.is_none() => {
                    last_reads = Some(monotonic() + LAST_READS_MAX);
                    continue;
                }
            };
            let bytes = match read {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(error)) => {
                    tracing::debug!(input = self.mouth.plate.input(), address, %error, "connection broke off");
                    0
                }
                Err(_) => 0, // Idle.
            };
            let (clock, mut batch) = (self.clock(), Batch::default());
            let mut add = |frame: Frame<'_>| {
                if frame.is_unframed && !frame.text.is_empty() {
                    self.mouth.wires.metrics.unparsed_messages.with_label_values(&["framing"]).inc();
                }
                self.add(frame.text, (frame.bytes, frame.cut), address.as_deref(), &clock, &mut batch);
            };
            match bytes {
                0 => frames.finish(&mut add),
                _ => frames.push(&buffer[..bytes], &mut add),
            }
            let is_late = last_reads.is_some_and(|deadline| monotonic() >= deadline);
            if is_late && bytes > 0 {
                frames.finish(&mut add);
            }
            if !self.mouth.ship(batch).await || bytes == 0 || is_late {
                return;
            }
        }
    }
}

/// Lost datagrams that no warning has told yet.
#[derive(Default)]
struct Losses {
    untold: u64,
    told: Option<Instant>,
}

impl Losses {
    fn add(&mut self, input: &str) {
        self.untold += 1;
        let now = monotonic();
        if self.told.is_none_or(|told| now.duration_since(told) >= LOSS_WARNING) {
            tracing::warn!(input, datagrams = self.untold, "no memory for UDP datagrams, they are lost");
            (self.told, self.untold) = (Some(now), 0);
        }
    }
}
