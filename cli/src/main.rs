//! The program `tailrace`: one command a file; daemons are wired here from the libraries.

mod agent;
mod ffi;
mod indexer;
mod standalone;

mod inputs;
mod reload;

mod audit;
mod catalog;
mod check;
mod dlq;
mod grok;
mod learn;
mod limits;
mod outputs;
mod overlap;
mod produce;
mod simulate;
mod state;
mod take_over;
mod test;
mod why;

mod table;
mod written;

#[cfg(test)]
mod behaviours;
#[cfg(test)]
mod pages;

use clap::Parser;
use std::process::ExitCode;
use std::sync::LazyLock;

/// Exit code of a configuration that cannot be used.
const BAD_CONFIG: u8 = 2;

/// Ships logs: files → Kafka → Elasticsearch or OpenSearch. Nothing is lost, nothing is stored twice.
///
/// The agent runs on every host that writes logs and produces each line to Kafka; the indexer reads Kafka, parses with
/// ingest pipelines and writes documents. Start with `tailrace check -c FILE` and the examples in deploy/.
///
/// Exit codes: 0 done; 1 it failed; 2 the command line or the configuration is wrong; 3 stopped before everything in
/// flight was acknowledged (it is read again after the next start, if it can be); 130 a second signal ended it at once.
#[derive(Debug, Parser)]
#[command(name = "tailrace", version = version(), propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Follows log files and produces their lines to Kafka
    Agent(agent::Options),
    /// Reads Kafka, runs pipelines and writes documents to Elasticsearch or OpenSearch
    Indexer(indexer::Options),
    /// Follows log files, runs pipelines and writes documents; both in one process, without Kafka
    Standalone(standalone::Options),
    /// Compares log files with the index, line by line
    Audit(audit::Options),
    /// Shows what rate plans do now, or would do with a log
    Limits(limits::Options),
    /// Says what is wrong with a configuration, as file:line:column
    Check(check::Options),
    /// Lists and shows the pipelines that come with the program, and begins new ones
    Catalog(catalog::Options),
    /// Lists, shows, replays and removes dead letters
    Dlq(dlq::Options),
    /// Tries a grok pattern on lines, and says why one does not match
    Grok(grok::Options),
    /// Finds the kinds of lines in a file and proposes a pipeline for them, with tests
    Learn(learn::Options),
    /// Produces lines of a file or of standard input to Kafka
    Produce(produce::Options),
    /// Runs a pipeline on documents or lines from standard input
    Simulate(simulate::Options),
    /// Shows what an agent remembers of its files, or makes it forget some
    State(state::Options),
    /// Takes over another agent's offsets, such as Filebeat's
    TakeOver(take_over::Options),
    /// Runs the tests that stand beside pipelines
    Test(test::Options),
    /// Says why a file is or is not read
    Why(why::Options),
}

fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} (librdkafka {})", env!("CARGO_PKG_VERSION"), service::kafka::version()));
    &VERSION
}

fn main() -> ExitCode {
    let ended = service::failpoint::setup().and_then(|()| match Cli::parse().command {
        Command::Agent(options) => agent::run(&options),
        Command::Indexer(options) => indexer::run(&options),
        Command::Standalone(options) => standalone::run(&options),
        Command::Audit(options) => audit::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Dlq(options) => dlq::run(&options),
        Command::Catalog(options) => catalog::run(&options),
        Command::Grok(options) => grok::run(&options),
        Command::Learn(options) => learn::run(&options),
        Command::Produce(options) => produce::run(&options),
        Command::Limits(options) => limits::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::State(options) => state::run(&options),
        Command::TakeOver(options) => take_over::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Why(options) => why::run(&options),
    });
    ended.unwrap_or_else(|error| {
        eprintln!("tailrace: {}", told(&error));
        let is_config = error.is::<service::load::ConfigError>() || error.is::<check::Unusable>();
        ExitCode::from(if is_config { BAD_CONFIG } else { 1 })
    })
}

/// The error and its causes; one that repeats what was said before it is left out.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}
