//! The shell around a daemon: a config file becomes a struct, events become logs, counts become metrics, signals become a stop.
//!
//! It knows nothing of lines, records or documents, and nothing here is on the path a line travels.

pub mod backoff;
pub mod clock;
pub mod failpoint;
pub mod health;
pub mod http;
pub mod kafka;
pub mod load;
pub mod logs;
pub mod metrics;
pub mod stop;
pub mod tally;
