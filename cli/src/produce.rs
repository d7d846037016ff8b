//! `tailrace produce`: a console producer. Each line of a file or of standard input becomes one record.

use crate::agent::AgentFile;
use crate::check::Unusable;
use crate::outputs::{chosen, outputs};
use anyhow::Context as _;
use shipper::{KafkaConfig, KeyFrom, ShipperConfig};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Produces each line of FILE, or of standard input, as one Kafka record, and waits until all are acknowledged.
///
/// Keys find their partitions as those of the agent and of Java producers do. Exit codes: 0 all are acknowledged; 1 some were
/// refused, or it failed; 2 the command line is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The topic; it must exist
    #[arg(short, long)]
    topic: String,
    /// host:port of some brokers, with commas
    #[arg(short, long, value_delimiter = ',', required_unless_present = "config")]
    brokers: Vec<String>,
    /// An agent's configuration, for its brokers and its login
    #[arg(short, long, value_name = "AGENT.YAML")]
    config: Option<PathBuf>,
    /// Where the key comes from: text:KEY, json:FIELD of the line, or separator:TEXT behind the key. Without it there is none
    #[arg(short, long, value_name = "FROM")]
    key_from: Option<KeyFrom>,
    /// The output of that configuration that is meant, if it has several
    #[arg(long, value_name = "ID", requires = "config")]
    output: Option<String>,
    /// This partition for all records, whatever their key
    #[arg(short, long)]
    partition: Option<u32>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, default_value = "lz4")]
    compression: String,
    /// A setting of librdkafka, such as security.protocol=ssl; secrets only as ${env:NAME} or ${file:PATH}
    #[arg(short = 'X', value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// The lines; `-` or nothing: standard input
    file: Option<PathBuf>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Options {
    /// What of Kafka the command line and the agent's file tell.
    fn kafka(&self) -> anyhow::Result<KafkaConfig> {
        let of_agent = match &self.config {
            Some(path) => {
                let outputs = outputs(path, &service::load::read_config::<AgentFile>(path)?)?;
                Some(chosen(path, outputs, self.output.as_deref())?.kafka)
            }
            None => None,
        };
        let (mut brokers, mut settings) = of_agent.map(|kafka| (kafka.brokers, kafka.librdkafka)).unwrap_or_default();
        if !self.brokers.is_empty() {
            brokers.clone_from(&self.brokers);
        }
        settings.extend(self.settings.iter().cloned());
        let kafka = serde_json::json!({
            "brokers": brokers,
            "topic": self.topic,
            "partition": self.partition,
            "compression": self.compression,
            "librdkafka": settings,
        });
        serde_json::from_value(kafka).map_err(|error| Unusable::error(&format!("the command line: {error}")))
    }
}

/// Exit codes: as the help says.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let unusable = |error: anyhow::Error| Unusable::error(&format!("the command line: {error:#}"));
    let config = ShipperConfig::new("", options.kafka()?, Duration::ZERO).map_err(unusable)?;
    let input: Box<dyn Read> = match options.file.as_deref().filter(|path| path.as_os_str() != "-") {
        Some(path) => Box::new(File::open(path).with_context(|| format!("opening {}", path.display()))?),
        None => Box::new(std::io::stdin()),
    };
    let produced = shipper::produce_lines(&config, options.key_from.as_ref(), BufReader::new(input))?;
    eprintln!("{} record(s) acknowledged", produced.delivered);
    if produced.keyless > 0 {
        eprintln!("{} line(s) had no such key, and their records have none", produced.keyless);
    }
    if produced.refused > 0 {
        let reason = produced.reason.unwrap_or_default();
        eprintln!("{} record(s) refused: {reason}", produced.refused);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
