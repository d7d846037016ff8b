//! YAML: `elasticsearch` and `outputs` → the outputs, each with the configuration of an indexer of its own.
//!
//! Each output reads for itself: that of `elasticsearch` with the group that is written, each entry of `outputs` with the group
//! GROUP.ID. So one that is away holds up no other, and Kafka keeps for it what it has not yet got.

use super::{Auth, DeadLetterTo, RetryConfig, TlsConfig};
use super::{BatchConfig, Compression, Concurrency, DocumentId, ElasticsearchConfig, IndexerConfig};
use serde::Deserialize;
use service::load::ByteSize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The id of the output under `elasticsearch`.
pub const MAIN: &str = "elasticsearch";
/// Smallest memory of one output.
const MEMORY_MIN: u64 = 8 << 20;
/// Smallest file: below it, folders fill up.
const FILE_BYTES_MIN: u64 = 64 << 10;

/// One more output. YAML: an entry of `outputs`: an id and one of the others.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputConfig {
    /// Unique name, of letters, digits, `-` and `_`: it ends the name of the group, and labels the metrics.
    pub id: String,
    /// A search cluster.
    #[serde(default)]
    pub elasticsearch: Option<ElasticsearchConfig>,
    /// A topic that gets the documents.
    #[serde(default)]
    pub kafka: Option<CopyTopicConfig>,
    /// A file of JSON lines.
    #[serde(default)]
    pub file: Option<CopyFileConfig>,
    /// JSON lines on standard output. Default `false`.
    #[serde(default)]
    pub stdout: bool,
}

/// YAML: `kafka` of an output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyTopicConfig {
    /// The topic, which must exist.
    pub topic: String,
    /// `host:port` of some brokers. Default: those that are read.
    #[serde(default)]
    pub brokers: Vec<String>,
    /// What a record's key is. Default `document_id`.
    #[serde(default)]
    pub key: CopyKey,
    /// Options of librdkafka; over those of the consumer, if the brokers are the same.
    #[serde(default)]
    pub librdkafka: BTreeMap<String, String>,
}

/// What the key of a copy in a topic is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyKey {
    /// The document's id: copies of the same document stand in the same partition.
    #[default]
    DocumentId,
    /// The key of the record that it was made of: order stays as it was.
    Record,
}

/// YAML: `file` of an output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyFileConfig {
    /// Where it is. Full files get a number behind their name.
    pub path: PathBuf,
    /// It is renamed when it has so many bytes. Default 100 MiB.
    #[serde(default = "file_bytes_max")]
    pub bytes_max: ByteSize,
    /// So many renamed files are kept. Default: all.
    #[serde(default)]
    pub files_max: Option<u32>,
}

fn file_bytes_max() -> ByteSize {
    ByteSize(100 << 20)
}

/// Where the documents of an output go.
#[derive(Debug, Clone)]
pub enum OutputTo {
    /// The search cluster of the part's `elasticsearch`.
    Search,
    /// A topic.
    Topic(CopyTopicConfig),
    /// A file.
    File(CopyFileConfig),
    /// Standard output.
    Stdout,
}

/// One output, and the configuration of the indexer that serves it.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its id.
    pub id: String,
    /// Its group, its share of the memory and its `elasticsearch`, which is that of the first output if it is no cluster itself.
    pub config: IndexerConfig,
    /// Where to.
    pub to: OutputTo,
}

impl IndexerConfig {
    /// The outputs: that of `elasticsearch` first.
    ///
    /// Errors: there is none, or one is wrong: which key, and what would be right.
    pub fn parts(&self) -> Result<Vec<Part>, String> {
        let main = self.elasticsearch.iter().map(|search| {
            let config = IndexerConfig { elasticsearch: Some(search.clone()), outputs: Vec::new(), ..self.clone() };
            Part { id: MAIN.to_owned(), config, to: OutputTo::Search }
        });
        let mut parts: Vec<Part> = main.collect();
        let mut ids: BTreeSet<&str> = parts.iter().map(|_| MAIN).collect();
        for output in &self.outputs {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if output.id.is_empty() || !output.id.bytes().all(is_name) {
                return Err(format!("outputs: id {:?}: it must be of letters, digits, - and _", output.id));
            }
            if !ids.insert(&output.id) {
                let why = if output.id == MAIN { "that of the output under `elasticsearch`" } else { "used before" };
                return Err(format!("outputs: id {:?} is {why}: ids must be unique", output.id));
            }
            let to = self.target(output).map_err(|problem| format!("outputs: id {:?}: {problem}", output.id))?;
            parts.push(self.part(output, to));
        }
        let Some(share) = self.memory.0.checked_div(parts.len() as u64) else {
            return Err("where to? Set elasticsearch, or outputs".to_owned());
        };
        if share < MEMORY_MIN {
            let (bytes, count) = (self.memory.0, parts.len());
            return Err(format!("memory is {bytes} bytes for {count} output(s): it must be at least 8MiB for each"));
        }
        for part in &mut parts {
            part.config.memory = ByteSize(share);
        }
        Ok(parts)
    }

    /// The search cluster of this part.
    pub(crate) fn search(&self) -> &ElasticsearchConfig {
        self.elasticsearch.as_ref().expect("every part has one")
    }

    fn part(&self, output: &OutputConfig, to: OutputTo) -> Part {
        let mut config = self.clone();
        config.kafka.group = format!("{}.{}", self.kafka.group, output.id);
        // What waits in a retry topic waits for the output that put it there, and each of the groups would read it.
        config.retry = RetryConfig::default();
        let main = self.elasticsearch.clone().unwrap_or_else(ElasticsearchConfig::nowhere);
        config.elasticsearch = Some(match &output.elasticsearch {
            Some(search) => search.clone(),
            // One batch at a time: so the order of a partition stays.
            None => ElasticsearchConfig {
                concurrency: Concurrency { min: 1, max: 1 },
                batch: BatchConfig::default(),
                document_id: DocumentId::Event,
                ..main
            },
        });
        config.outputs = Vec::new();
        Part { id: output.id.clone(), config, to }
    }

    fn target(&self, output: &OutputConfig) -> Result<OutputTo, String> {
        let OutputConfig { elasticsearch, kafka, file, stdout, .. } = output;
        let kinds =
            [elasticsearch.is_some(), kafka.is_some(), file.is_some(), *stdout].iter().filter(|set| **set).count();
        if kinds != 1 {
            return Err("it takes one of elasticsearch, kafka, file and stdout: true".to_owned());
        }
        let has_index = elasticsearch.is_some() || self.elasticsearch.is_some();
        if matches!(self.dead_letter.to, DeadLetterTo::Index(_)) && !has_index {
            return Err(
                "dead_letter.index needs a search cluster, and there is none: set dead_letter.topic or file".to_owned()
            );
        }
        let others = self.outputs.iter().take_while(|other| other.id != output.id);
        match (kafka, file) {
            (Some(kafka), _) => {
                let topic = &kafka.topic;
                let is_read = self.kafka.topics.contains(topic)
                    || self.overflow.topics.contains(topic)
                    || self.retry.topics().contains(topic)
                    || self.dead_letter.topic() == Some(topic);
                if topic.is_empty() {
                    return Err("kafka.topic is empty".to_owned());
                }
                if is_read && kafka.is_beside(&self.kafka.brokers) {
                    return Err(format!(
                        "kafka.topic `{topic}` is one that is read, or takes dead letters: it must be a topic of its own"
                    ));
                }
                Ok(OutputTo::Topic(kafka.clone()))
            }
            (None, Some(file)) => {
                let mut taken = others.filter_map(|other| Some(&other.file.as_ref()?.path));
                let letters = match &self.dead_letter.to {
                    DeadLetterTo::File(path) => Some(path),
                    DeadLetterTo::Topic(_) | DeadLetterTo::Index(_) => None,
                };
                if letters == Some(&file.path) || taken.any(|path| *path == file.path) {
                    return Err(format!("file.path {} is used twice", file.path.display()));
                }
                if file.path.file_name().is_none() {
                    return Err(format!("file.path {:?} names no file", file.path));
                }
                if file.bytes_max.0 < FILE_BYTES_MIN || file.files_max == Some(0) {
                    return Err("file: bytes_max must be at least 64KiB, files_max at least 1".to_owned());
                }
                Ok(OutputTo::File(file.clone()))
            }
            (None, None) if *stdout => match others.into_iter().any(|other| other.stdout) {
                true => Err("stdout is used twice".to_owned()),
                false => Ok(OutputTo::Stdout),
            },
            (None, None) => Ok(OutputTo::Search),
        }
    }
}

impl CopyTopicConfig {
    /// True if it is on the brokers that are read.
    pub(crate) fn is_beside(&self, brokers: &[String]) -> bool {
        self.brokers.is_empty() || self.brokers.iter().any(|broker| brokers.contains(broker))
    }
}

impl ElasticsearchConfig {
    /// For outputs that are no search cluster, where there is none at all.
    fn nowhere() -> Self {
        Self {
            hosts: Vec::new(),
            index: super::index(),
            document_id: DocumentId::Event,
            compression: Compression::None,
            auth: Auth::None,
            tls: TlsConfig::default(),
            concurrency: Concurrency::default(),
            batch: BatchConfig::default(),
            timeout: super::timeout(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(text: &str) -> Result<IndexerConfig, String> {
        let text = format!("kafka: {{brokers: ['x:1'], topics: [logs], group: g}}\n{text}\n");
        let config: IndexerConfig =
            service::load::parse_config(Path::new("indexer.yaml"), &text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn each_output_has_a_group_and_a_share_of_the_memory_of_its_own() {
        let text = "elasticsearch: {hosts: [a], index: there, document_id: none}\nretry: {delays: [30s]}\noutputs: \
                    [{id: far, elasticsearch: {hosts: [b]}}, {id: topic, kafka: {topic: parsed}}, {id: out, stdout: true}]";
        let parts = config(text).expect("it is valid").parts().expect("they are valid");
        let told = |part: &Part| {
            let search = part.config.search();
            let retries = part.config.retry.delays.0.len();
            (
                part.id.clone(),
                part.config.kafka.group.clone(),
                search.hosts[0].clone(),
                part.config.memory.0 >> 20,
                retries,
            )
        };
        let row = |id: &str, group: &str, host: &str, retries| {
            (id.to_owned(), group.to_owned(), host.to_owned(), 32, retries)
        };
        assert_eq!(
            parts.iter().map(told).collect::<Vec<_>>(),
            [
                row("elasticsearch", "g", "a", 1),
                row("far", "g.far", "b", 0),
                row("topic", "g.topic", "a", 0),
                row("out", "g.out", "a", 0)
            ]
        );
        let copies = parts[2].config.search();
        assert_eq!((copies.index.as_str(), copies.document_id), ("there", DocumentId::Event), "ids are kept in copies");
        assert!(config("outputs: [{id: out, stdout: true}]").expect("no cluster is needed").parts().is_ok());
    }

    #[track_caller]
    fn check(text: &str, reason: &str) {
        let told = config(text).expect_err("it is wrong");
        assert!(told.contains(reason), "{told}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let with = |outputs: &str| format!("elasticsearch: {{hosts: [x]}}\noutputs: {outputs}");
        check("memory: 64MiB", "where to? Set elasticsearch, or outputs");
        check("outputs: []", "where to? Set elasticsearch, or outputs");
        check(&with("[{id: 'a b', stdout: true}]"), "it must be of letters, digits, - and _");
        check(&with("[{id: elasticsearch, stdout: true}]"), "that of the output under `elasticsearch`");
        check(&with("[{id: a, stdout: true}, {id: a, file: {path: /f}}]"), "\"a\" is used before");
        check(&with("[{id: a}]"), "outputs: id \"a\": it takes one of elasticsearch, kafka, file and stdout: true");
        check(&with("[{id: a, stdout: true, file: {path: /f}}]"), "it takes one of");
        check(&with("[{id: a, kafka: {topic: logs}}]"), "kafka.topic `logs` is one that is read");
        check(&with("[{id: a, kafka: {topic: logs-dead, brokers: ['x:1', 'y:1']}}]"), "or takes dead letters");
        check(&with("[{id: a, elasticsearch: {hosts: []}}]"), "outputs: id \"a\": elasticsearch.hosts is empty");
        check(&with("[{id: a, file: {path: /f}}, {id: b, file: {path: /f}}]"), "file.path /f is used twice");
        check(&with("[{id: a, file: {path: /f}}]\ndead_letter: {file: /f}"), "file.path /f is used twice");
        check(&with("[{id: a, file: {path: /f, bytes_max: 1KiB}}]"), "bytes_max must be at least 64KiB");
        check(&with("[{id: a, file: {path: /f, files_max: 0}}]"), "files_max at least 1");
        check(&with("[{id: a, stdout: true}, {id: b, stdout: true}]"), "stdout is used twice");
        check(&with("[{id: a, stdout: true}]\nmemory: 15MiB"), "for 2 output(s): it must be at least 8MiB for each");
        check(
            "outputs: [{id: a, stdout: true}]\ndead_letter: {index: dead}",
            "dead_letter.index needs a search cluster",
        );
        assert!(config(&with("[{id: a, kafka: {topic: logs, brokers: ['y:1']}}]")).is_ok(), "it is another cluster");
    }
}
