//! The pipelines that are written now → those that workers use from their next parcel on. The group is not left.
//!
//! What is wrong changes nothing but the log, the health and a metric.

use crate::config::{IndexerConfig, PipelinesConfig};
use crate::metrics::Metrics;
use crate::process::{Plan, Plans};
use service::health::Health;
use std::sync::Arc;

/// Puts other pipelines in the place of those that run.
#[derive(Debug, Clone)]
pub struct Reloader {
    parts: Arc<Vec<Reloaded>>,
    health: Health,
}

/// What serves one output.
#[derive(Debug)]
pub(crate) struct Reloaded {
    config: IndexerConfig,
    plans: Arc<Plans>,
    metrics: Metrics,
}

impl Reloaded {
    pub(crate) fn new(config: &IndexerConfig, plans: Arc<Plans>, metrics: Metrics) -> Self {
        Self { config: config.clone(), plans, metrics }
    }

    fn plan(&self, pipelines: &PipelinesConfig) -> anyhow::Result<Plan> {
        let config = IndexerConfig { pipelines: pipelines.clone(), ..self.config.clone() };
        crate::plan(&config, &self.metrics)
    }
}

impl Reloader {
    pub(crate) fn new(parts: Vec<Reloaded>, health: Health) -> Self {
        Self { parts: Arc::new(parts), health }
    }

    /// Compiles the pipelines of `written` and swaps them for those that run; of the other keys, those of the start stay.
    ///
    /// Takes as long as compiling does: not for a thread that serves others. Errors: why nothing was swapped, with file, line
    /// and column where a pipeline is wrong. It stands in the health and in the metric.
    pub fn reload(&self, written: anyhow::Result<PipelinesConfig>) -> anyhow::Result<usize> {
        // All are compiled before the first is swapped.
        let loaded = written.and_then(|pipelines| {
            self.parts.iter().map(|part| part.plan(&pipelines)).collect::<anyhow::Result<Vec<_>>>()
        });
        let result = if loaded.is_ok() { "ok" } else { "failed" };
        self.parts.iter().for_each(|part| part.metrics.reloads.with_label_values(&[result]).inc());
        match loaded {
            Ok(plans) => {
                let count = plans.first().map_or(0, Plan::pipelines);
                self.parts.iter().zip(plans).for_each(|(part, plan)| part.plans.swap(plan));
                self.health.set("config", None);
                Ok(count)
            }
            Err(error) => {
                self.health.set("config", Some(format!("not reloaded: {error:#}")));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batch, Filling};
    use crate::config::BatchConfig;
    use crate::parcel::Parcel;
    use crate::pool::Pool;
    use crate::process;
    use service::metrics::Registry;
    use std::path::Path;
    use std::sync::mpsc::SyncSender;

    fn config(dir: &Path) -> IndexerConfig {
        let text = format!(
            "kafka: {{brokers: [x], topics: [t]}}\nelasticsearch: {{hosts: [x], document_id: none}}\npipelines: {{dir: {}, default: p}}",
            dir.display()
        );
        service::load::parse_config(Path::new("indexer.yaml"), &text).expect("a valid configuration")
    }

    fn write(dir: &Path, value: &str) {
        let text = format!("processors:\n  - set: {{field: made_by, value: {value}}}\n");
        std::fs::write(dir.join("p.yml"), text).expect("the file is written");
    }

    struct Bench {
        dir: tempfile::TempDir,
        config: IndexerConfig,
        metrics: Metrics,
        health: Health,
        reloader: Reloader,
        plans: Arc<Plans>,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path(), "first");
        let (config, metrics, health) = (config(dir.path()), Metrics::new(&Registry::default()), Health::new());
        let plans = Arc::new(Plans::new(crate::plan(&config, &metrics).expect("a valid plan")));
        let reloaded = Reloaded::new(&config, plans.clone(), metrics.clone());
        let reloader = Reloader::new(vec![reloaded], health.clone());
        Bench { dir, config, metrics, health, reloader, plans }
    }

    fn send(input: &SyncSender<Parcel>, metrics: &Metrics) {
        let (parcel, _) = crate::parcel::tests::parcel(&[b"line"], metrics);
        input.send(Arc::into_inner(parcel).expect("nobody else has it")).expect("the worker runs");
    }

    fn text(batch: &Batch) -> String {
        String::from_utf8(batch.body.to_vec()).expect("a body is text")
    }

    #[test]
    fn the_next_parcel_is_made_by_the_pipelines_of_now_and_earlier_documents_stay() {
        let bench = bench();
        let (input, parcels) = std::sync::mpsc::sync_channel(4);
        let (output, mut batches) = tokio::sync::mpsc::channel(4);
        let (taken_tx, taken) = std::sync::mpsc::channel();
        let plans = bench.plans.clone();
        let limits = BatchConfig { age_max: std::time::Duration::from_secs(3_600), ..BatchConfig::default() };
        let worker = std::thread::spawn(move || {
            let filling = Filling::new(limits, Pool::new(0));
            process::run(&plans, filling, &parcels, &output, || taken_tx.send(()).expect("the test waits"));
        });
        send(&input, &bench.metrics);
        taken.recv().expect("the first parcel is taken");
        write(bench.dir.path(), "second");
        assert_eq!(bench.reloader.reload(Ok(bench.config.pipelines.clone())).expect("a valid pipeline"), 1);
        send(&input, &bench.metrics);
        taken.recv().expect("the second parcel is taken");
        drop(input);
        worker.join().expect("the worker ends");
        let mut body = String::new();
        while let Some(batch) = batches.blocking_recv() {
            body.push_str(&text(&batch));
        }
        let made: Vec<_> = body.lines().filter(|line| line.contains("made_by")).collect();
        assert_eq!(made.len(), 2, "{body}");
        assert!(made[0].contains("first") && made[1].contains("second"), "{body}");
        assert_eq!(bench.metrics.reloads.with_label_values(&["ok"]).get(), 1);
    }

    #[test]
    fn a_broken_pipeline_keeps_the_old_and_says_where_it_is_broken() {
        let bench = bench();
        let file = bench.dir.path().join("p.yml");
        std::fs::write(&file, "processors:\n  - set: {field: a, value: b}\n  - sett: {field: a}\n").expect("written");
        let error = bench.reloader.reload(Ok(bench.config.pipelines.clone())).expect_err("there is no processor sett");
        let place = format!("{}:3:", file.display());
        assert!(format!("{error:#}").contains(&place), "{error:#}");
        assert!(bench.health.problems()["config"].contains(&place), "{:?}", bench.health.problems());
        assert_eq!(bench.metrics.reloads.with_label_values(&["failed"]).get(), 1);
        write(bench.dir.path(), "mended");
        bench.reloader.reload(Ok(bench.config.pipelines.clone())).expect("a valid pipeline");
        assert!(bench.health.problems().is_empty());
    }

    #[test]
    fn a_configuration_that_cannot_be_read_or_names_no_pipeline_keeps_the_old() {
        let bench = bench();
        bench.reloader.reload(Err(anyhow::anyhow!("indexer.yaml:3:1: unknown field"))).expect_err("as it was told");
        assert!(bench.health.problems()["config"].contains("indexer.yaml:3:1"));
        let absent = PipelinesConfig { default: Some("absent".to_owned()), ..bench.config.pipelines.clone() };
        let error = bench.reloader.reload(Ok(absent)).expect_err("there is no such pipeline");
        assert!(error.to_string().contains("no pipeline `absent`"), "{error}");
        assert_eq!(bench.metrics.reloads.with_label_values(&["failed"]).get(), 2);
    }
}
