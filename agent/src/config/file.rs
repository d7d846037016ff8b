//! A file input: what `agent.yaml` says of it → globs compiled, options checked.

use super::{InputConfig, Start};
use crate::assemble::Recipe;
use crate::decode::{DecodeConfig, Decoder};
use crate::follow::Links;
use crate::kubernetes::Kubernetes;
use crate::parse::Plan;
use anyhow::{Context as _, bail};
use event::Input;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A file input in the form that is used.
#[derive(Debug, Clone)]
pub struct FileInput {
    /// What its records share.
    pub shared: Arc<Input>,
    /// The same id, for what is kept of each file.
    pub(crate) id: Arc<str>,
    /// Paths and folders to look into.
    pub globs: Vec<crate::discover::Glob>,
    /// Files to leave out.
    pub exclude: globset::GlobSet,
    /// See [`InputConfig::start`].
    pub start: Start,
    /// See [`InputConfig::scan_interval`].
    pub scan_interval: Duration,
    /// See [`InputConfig::line_bytes_max`].
    pub line_bytes_max: usize,
    /// See [`InputConfig::symlinks`].
    pub(crate) links: Links,
    /// See [`InputConfig::ignore_older`].
    pub ignore_older: Option<Duration>,
    /// See [`InputConfig::close_inactive`].
    pub close_inactive: Duration,
    /// See [`InputConfig::clean_inactive`].
    pub clean_inactive: Option<Duration>,
    /// See [`InputConfig::clean_removed`].
    pub clean_removed: bool,
    /// See [`InputConfig::harvester_limit`].
    pub harvester_limit: Option<usize>,
    /// See [`InputConfig::delete_after`].
    pub delete_after: Option<Duration>,
    /// See [`InputConfig::read_until_eof`].
    pub read_until_eof: bool,
    /// See [`InputConfig::kubernetes`].
    pub(crate) kubernetes: Option<Kubernetes>,
    /// It was removed by a reload: what is open of it is read to its end, and nothing new is looked for.
    pub(crate) is_retired: bool,
    /// What it makes of the bytes of its files.
    pub(crate) recipe: Recipe,
}

impl FileInput {
    /// The same input, removed from the configuration.
    pub(crate) fn retired(&self) -> Self {
        Self { globs: Vec::new(), is_retired: true, ..self.clone() }
    }

    /// What all records of the file at `path` share beside the input's own fields: see [`Source::set_fields`](event::Source::set_fields).
    pub(crate) fn fields_of(&self, path: &Path) -> String {
        self.kubernetes.as_ref().map(|kubernetes| kubernetes.fields_of(path)).unwrap_or_default()
    }

    /// False if [`fields_of`](Self::fields_of) will soon tell more.
    pub(crate) fn knows(&self, path: &Path) -> bool {
        self.kubernetes.as_ref().is_none_or(|kubernetes| kubernetes.knows(path))
    }

    /// True if the input follows a file with this path, should there be one.
    pub(crate) fn is_match(&self, path: &Path) -> bool {
        self.globs.iter().any(|glob| glob.is_match(path)) && !self.exclude.is_match(path)
    }
}

/// Errors name the key.
pub(super) fn compile(config: &InputConfig, shared: Arc<Input>) -> anyhow::Result<FileInput> {
    if config.paths.is_empty() {
        bail!("paths: at least one glob is needed");
    }
    if config.scan_interval < Duration::from_millis(10) {
        bail!("scan_interval: {:?} is below 10 ms", config.scan_interval);
    }
    if let Some(clean) = config.clean_inactive {
        let least = config.ignore_older.map(|older| older + config.scan_interval);
        if least.is_none_or(|least| clean <= least) {
            bail!(
                "clean_inactive: {clean:?} is not longer than ignore_older and scan_interval together ({}): a file that is \
                 forgotten while it may still be read would be read again from its start",
                least.map_or("ignore_older is not set".to_owned(), |least| format!("{least:?}"))
            );
        }
    }
    let globs =
        config.paths.iter().map(|path| crate::discover::Glob::new(path).context("paths")).collect::<Result<_, _>>()?;
    let mut exclude = globset::GlobSetBuilder::new();
    for path in &config.exclude {
        exclude.add(crate::discover::compile(path).context("exclude")?);
    }
    let plan = Plan::new(&config.parsers, &config.include_lines, &config.exclude_lines)?;
    let decode = DecodeConfig {
        encoding: config.encoding,
        line_terminator: config.line_terminator.clone(),
        on_long_line: config.on_long_line,
        invalid_bytes: config.invalid_bytes,
        line_bytes_max: usize::try_from(config.line_bytes_max.0)?,
    };
    Ok(FileInput {
        id: shared.id.as_str().into(),
        shared,
        globs,
        exclude: exclude.build()?,
        start: config.start,
        scan_interval: config.scan_interval,
        line_bytes_max: usize::try_from(config.line_bytes_max.0)?,
        links: if config.symlinks { Links::Followed } else { Links::Refused },
        ignore_older: config.ignore_older,
        close_inactive: config.close_inactive,
        clean_inactive: config.clean_inactive,
        clean_removed: config.clean_removed,
        harvester_limit: Some(config.harvester_limit).filter(|limit| *limit > 0),
        delete_after: config.delete_after,
        read_until_eof: config.read_until_eof,
        kubernetes: config.kubernetes.as_ref().map(Kubernetes::new).transpose()?,
        is_retired: false,
        recipe: Recipe {
            decoder: Arc::new(Decoder::new(&decode)?),
            plan: Arc::new(plan),
            compression: config.compression,
        },
    })
}
