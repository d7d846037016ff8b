//! Everything that arrived, as copies for the [`audit`](crate::audit).

use crate::audit::Copy;
use crate::kafka::{Cluster, Stored};
use crate::lines::Recipe;
use crate::search::Node;
use anyhow::Result;

/// Every record of `topic`.
pub fn topic(cluster: &Cluster, topic: &str, recipe: &Recipe) -> Result<Vec<Copy>> {
    Ok(copies(&cluster.read_all(topic)?, recipe))
}

/// The same as a consumer with `isolation.level: read_committed` sees it.
pub fn committed(cluster: &Cluster, topic: &str, recipe: &Recipe) -> Result<Vec<Copy>> {
    Ok(copies(&cluster.read_committed(topic)?, recipe))
}

fn copies(records: &[Stored], recipe: &Recipe) -> Vec<Copy> {
    records.iter().map(|record| Copy::record(recipe, &record.line(), record.partition, record.offset)).collect()
}

/// Every document of `index`.
pub fn index(node: &Node, index: &str, recipe: &Recipe) -> Result<Vec<Copy>> {
    let documents = node.documents(index)?;
    Ok(documents.iter().map(|document| Copy::document(recipe, document.message())).collect())
}
