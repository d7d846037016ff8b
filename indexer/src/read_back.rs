//! Documents of the search cluster → what names them, in the order of their places in the source. Reads, never writes.
//!
//! A scroll: a frozen view, read a page at a time, which Elasticsearch and OpenSearch of every version have.

use crate::bulk::Http;
use crate::config::ElasticsearchConfig;
use anyhow::Context as _;
use elasticsearch::http::Method;
use serde_json::{Value, json};

/// Documents a page: the most that a node gives without a setting of its own (`index.max_result_window`). Each page costs it a look at
/// all documents that are left.
const PAGE: usize = 10_000;
/// How long the node keeps the view between two pages.
const KEPT: &str = "5m";

/// A document, or a dead letter, of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `log.file.path`.
    pub path: String,
    /// `log.offset`.
    pub offset: u64,
    /// `_id`, or what it would be.
    pub id: String,
    /// Its `log.flags` say that it is not one whole line, but several or a part.
    pub is_no_line: bool,
}

/// Documents on their way.
#[derive(Debug)]
pub struct ReadBack {
    http: Http,
    scroll: String,
    first: Option<Vec<Found>>,
}

impl ReadBack {
    /// Asks for the documents of the indices `pattern` whose `log.file.path` starts with `folder` and that have a `log.offset`.
    ///
    /// Errors: no host answers, or it refuses.
    pub async fn open(config: &ElasticsearchConfig, pattern: &str, folder: &str) -> anyhow::Result<Self> {
        let prefix = |field: &str| json!({"prefix": {field: folder}});
        let body = json!({
            "size": PAGE,
            "_source": false,
            "fields": ["log.file.path", "log.flags"],
            "sort": [{"log.offset": {"order": "asc", "unmapped_type": "long"}}],
            "query": {"bool": {
                "filter": [{"exists": {"field": "log.offset"}}],
                // A keyword by the cluster's templates, a text with a keyword beside it by its own guess.
                "should": [prefix("log.file.path"), prefix("log.file.path.keyword")],
                "minimum_should_match": 1,
            }},
        });
        let mut problem = anyhow::anyhow!("elasticsearch.hosts is empty");
        for host in &config.hosts {
            let http = Http::new(host, &config.auth, &config.tls, config.timeout)?;
            // What a user may not do is done by the node itself within a second.
            http.ask(Method::Post, &format!("{pattern}/_refresh"), None).await.ok();
            match http.ask(Method::Post, &format!("{pattern}/_search?scroll={KEPT}"), Some(&body)).await {
                Ok(answer) => {
                    let (scroll, first) = page(&answer).with_context(|| format!("{host}: reading {pattern}"))?;
                    return Ok(Self { http, scroll, first: Some(first) });
                }
                Err(error) => problem = error.context(format!("{host}: reading {pattern}")),
            }
        }
        Err(problem)
    }

    /// The next documents, by ascending offset; none: that was all.
    ///
    /// Errors: the node does not answer, or not for all shards.
    pub async fn page(&mut self) -> anyhow::Result<Vec<Found>> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let body = json!({"scroll": KEPT, "scroll_id": self.scroll});
        let answer = self.http.ask(Method::Post, "_search/scroll", Some(&body)).await.context("reading documents")?;
        let (scroll, found) = page(&answer)?;
        self.scroll = scroll;
        if found.is_empty() {
            let body = json!({"scroll_id": self.scroll});
            self.http.ask(Method::Delete, "_search/scroll", Some(&body)).await.ok(); // It ends by itself, later.
        }
        Ok(found)
    }
}

fn page(answer: &Value) -> anyhow::Result<(String, Vec<Found>)> {
    let shards = &answer["_shards"];
    anyhow::ensure!(shards["failed"] == 0 && answer["timed_out"] != true, "some shards did not answer: {shards}");
    let scroll = answer["_scroll_id"].as_str().context("an answer without _scroll_id")?;
    let hits = answer["hits"]["hits"].as_array().context("an answer without hits")?;
    Ok((scroll.to_owned(), hits.iter().map(found).collect::<anyhow::Result<_>>()?))
}

fn found(hit: &Value) -> anyhow::Result<Found> {
    let id = hit["_id"].as_str().context("a document without _id")?.to_owned();
    let path = hit["fields"]["log.file.path"][0].as_str().unwrap_or_default().to_owned();
    let offset = hit["sort"][0].as_u64().with_context(|| format!("document {id}: log.offset is no number of bytes"))?;
    Ok(Found { path, offset, id, is_no_line: is_no_line(&hit["fields"]["log.flags"]) })
}

/// True if `flags`, the value of `log.flags`, say that the event is not one whole line. Filebeat's have `multiline`, too.
pub(crate) fn is_no_line(flags: &Value) -> bool {
    flags.as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "multiline" || flag == "truncated"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_only_if_all_shards_answered() {
        let hits = json!([
            {"_id": "a", "fields": {"log.file.path": ["/x"]}, "sort": [7]},
            {"_id": "b", "fields": {"log.file.path": ["/x"], "log.flags": ["x", "multiline"]}, "sort": [9]},
        ]);
        let mut answer = json!({"_scroll_id": "s", "_shards": {"failed": 0}, "hits": {"hits": hits}});
        let found =
            |offset, id: &str, is_no_line| Found { path: "/x".to_owned(), offset, id: id.to_owned(), is_no_line };
        let expected = vec![found(7, "a", false), found(9, "b", true)];
        assert_eq!(page(&answer).expect("whole"), ("s".to_owned(), expected));
        answer["_shards"]["failed"] = 1.into();
        assert!(page(&answer).is_err());
    }
}
