//! Turns the real program, a real Kafka and a real search node into promises that can be checked.
//!
//! A [`scene::Scene`] is one test's own corner of the shared stack: a folder, a topic, an index, a run name. [`lines`]
//! writes log files in which every line says which file and which place it belongs to; [`daemon`] runs agent and indexer
//! as processes, kills and measures them; [`read_back`] fetches every record and every document; [`audit`] compares, line by
//! line, and lists what is missing, double, out of order or damaged. [`fake`] is a search node that answers by script,
//! [`mock`] a broker that fails on demand. [`history`] plays random histories of files side by side under one agent. Nothing here waits for a fixed time: see [`wait`].

pub mod audit;
pub mod daemon;
pub mod equations;
pub mod fake;
pub mod history;
pub mod http;
pub mod kafka;
pub mod lines;
pub mod mock;
pub mod points;
pub mod read_back;
pub mod scene;
pub mod search;
pub mod stack;
pub mod trio;
pub mod wait;
pub mod writer;
