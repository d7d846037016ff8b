//! A search node as tests see it: make an index, read every document of it back.

use crate::http;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Documents a page when an index is read back.
const PAGE: usize = 5_000;

/// One OpenSearch or Elasticsearch node.
#[derive(Debug, Clone)]
pub struct Node {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Where it stands: the backing index of a data stream.
    pub index: String,
    /// Its `_id`.
    pub id: String,
    /// Its `_source`.
    pub source: Value,
}

impl Document {
    /// The `message`, or nothing if there is none.
    pub fn message(&self) -> &str {
        self.source["message"].as_str().unwrap_or_default()
    }
}

impl Node {
    /// Makes an index of one shard, with `properties` mapped and the rest mapped as it comes.
    pub fn create_index(&self, index: &str, properties: &Value) -> Result<()> {
        let body = json!({
            "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "1s"},
            "mappings": {"properties": properties},
        });
        http::json("PUT", &format!("{}/{index}", self.url), Some(&body)).map(drop)
    }

    /// Makes every index or data stream whose name matches `pattern` small, and a data stream if `stream` says so.
    pub fn create_template(&self, name: &str, pattern: &str, stream: bool) -> Result<()> {
        let mut body = json!({
            "index_patterns": [pattern], "priority": 900,
            "template": {
                "settings": {"number_of_shards": 1, "number_of_replicas": 0},
                "mappings": {"properties": {"@timestamp": {"type": "date"}, "message": {"type": "text", "index": false}}},
            },
        });
        if stream {
            body["data_stream"] = json!({});
        }
        http::json("PUT", &format!("{}/_index_template/{name}", self.url), Some(&body)).map(drop)
    }

    /// Documents of `index` that a search can see; 0 if there is no such index.
    pub fn count(&self, index: &str) -> Result<u64> {
        let (status, body) = http::request("GET", &format!("{}/{index}/_count", self.url), None)?;
        if status == 404 {
            return Ok(0);
        }
        let answer: Value = serde_json::from_str(&body).with_context(|| format!("status {status}: {body}"))?;
        answer["count"].as_u64().with_context(|| format!("no count in {body}"))
    }

    /// Every document of `index`, by scroll: a frozen view, read to its end, never an aggregation.
    pub fn documents(&self, index: &str) -> Result<Vec<Document>> {
        http::json("POST", &format!("{}/{index}/_refresh", self.url), None)?;
        let body = json!({"size": PAGE, "sort": ["_doc"]});
        let mut answer = http::json("POST", &format!("{}/{index}/_search?scroll=2m", self.url), Some(&body))?;
        let mut documents = Vec::new();
        loop {
            let page = answer["hits"]["hits"].as_array().context("an answer without hits")?;
            if page.is_empty() {
                break;
            }
            documents.extend(page.iter().map(document));
            let next = json!({"scroll": "2m", "scroll_id": answer["_scroll_id"]});
            answer = http::json("POST", &format!("{}/_search/scroll", self.url), Some(&next))?;
        }
        let shards = &answer["_shards"];
        anyhow::ensure!(shards["failed"] == 0, "some shards did not answer: {shards}");
        http::json(
            "DELETE",
            &format!("{}/_search/scroll", self.url),
            Some(&json!({"scroll_id": answer["_scroll_id"]})),
        )?;
        Ok(documents)
    }
}

fn document(hit: &Value) -> Document {
    let text = |key: &str| hit[key].as_str().unwrap_or_default().to_owned();
    Document { index: text("_index"), id: text("_id"), source: hit["_source"].clone() }
}
