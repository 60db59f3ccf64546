//! What do jobs do? What the library does, with progress and a way to stop it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::board::{JobKind, Outcome, Prepared, Progress, Unit};
use crate::config::ChunkerKind;
use crate::reembed::{ReembedOptions, ReembedOutcome, ReembedReport};
use crate::server::app::{Answer, App};
use crate::server::failure::Failure;

/// The smallest chunks that a collection takes.
const CHUNK_TOKENS_MIN: usize = 8;

/// A file to import
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "a build without readers only refuses it"))]
pub(super) struct Import {
    /// Below the server's import root; relative to it, or in full.
    #[schema(example = "tables/notes.parquet")]
    path: String,
    /// The column of each role: `id`, `text`, `title`, `vector`, `vectors.NAME`, `metadata`, `expires_at`. Every other column
    /// is metadata.
    #[schema(example = json!({"id": "doc_id", "text": "body"}))]
    map: Option<BTreeMap<String, String>>,
    /// The first line of a CSV file is a row like the others.
    no_header: Option<bool>,
    /// Reads the file from its beginning even where it is imported already.
    again: Option<bool>,
    /// Stops with a failure once more rows than this are rejected.
    rejects_max: Option<u64>,
}

/// What a collection is to become; what is absent stays as it is
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"chunk_tokens": 128, "chunk_overlap": 16}))]
pub(super) struct Reembed {
    /// The new model: `builtin`, or one that the server's operator configured.
    model: Option<String>,
    /// Keeps only the first so many numbers of the model's vectors.
    #[schema(minimum = 1)]
    dims: Option<usize>,
    /// The space whose model changes; the default one where absent.
    space: Option<String>,
    /// Keeps the old vectors in a further space of this name.
    keep_old: Option<String>,
    /// Splits all text again.
    rechunk: Option<bool>,
    /// Makes it anew even where nothing changes.
    force: Option<bool>,
    /// The size of a chunk in tokens.
    #[schema(minimum = 8)]
    chunk_tokens: Option<usize>,
    /// How many tokens neighbouring chunks share.
    chunk_overlap: Option<usize>,
    /// How text is split: `auto`, `plain`, `markdown`, or `code:` and a language.
    chunker: Option<String>,
    /// Only says what would happen.
    dry_run: Option<bool>,
}

/// Checks what can be checked before a job begins.
#[cfg(feature = "parquet")]
pub(super) fn prepare_import(app: &App, name: &str, body: Import) -> Answer<Prepared> {
    use std::sync::atomic::Ordering;

    use crate::formats::columns::ColumnMap;
    use crate::{ImportOptions, ImportProgress};

    let Import { path, map, no_header, again, rejects_max } = body;
    let collection = app.collection(name)?;
    let root = app.settings.import_root.clone();
    super::files::below(root.as_deref(), &path)?;
    let mut columns = map.into_iter().flatten();
    let map = columns.try_fold(ColumnMap::default(), |map, (role, column)| map.with(&role, &column));
    let map = map.map_err(|error| Failure::invalid(format!("map: {error}")))?;
    let (no_header, again) = (no_header == Some(true), again == Some(true));
    let named = collection.name().to_owned();
    let work = Box::new(move |job: &super::board::Job| {
        // Once more: it may have waited for long.
        let file = super::files::below(root.as_deref(), &path)?;
        let show = |progress: &ImportProgress| {
            let ImportProgress { rows, rows_total, rejected, .. } = *progress;
            job.show(Progress { done: rows, total: rows_total, unit: Unit::Rows, rejected });
        };
        let (progress, cancel) = (Some(&show as &(dyn Fn(&ImportProgress) + Sync)), Some(job.cancel()));
        let options =
            ImportOptions { map, no_header, again, rejects_max, progress, cancel, ..ImportOptions::default() };
        let report = collection.import(&file, &options)?;
        let (done, rejected) = (report.rows, report.rejected_rows);
        let whole = !job.cancel().load(Ordering::Relaxed);
        job.show(Progress { done, total: whole.then_some(done), unit: Unit::Rows, rejected });
        Ok(Outcome { report: in_json(&report)?, whole })
    });
    Ok(Prepared { kind: JobKind::Import, collection: named, work })
}

/// Without the readers there is only to say what would bring them.
#[cfg(not(feature = "parquet"))]
pub(super) fn prepare_import(app: &App, name: &str, body: Import) -> Answer<Prepared> {
    app.collection(name)?;
    super::files::below(app.settings.import_root.as_deref(), &body.path)?;
    let what = "reading Parquet, Arrow and CSV".to_owned();
    Err(crate::Error::FeatureMissing { what, feature: "parquet" }.into())
}

/// Checks what can be checked before a job begins.
pub(super) fn prepare_reembed(app: &App, name: &str, body: Reembed) -> Answer<Prepared> {
    let collection = app.collection(name)?;
    for (what, given, least) in [("dims", body.dims, 1), ("chunk_tokens", body.chunk_tokens, CHUNK_TOKENS_MIN)] {
        if let Some(given) = given.filter(|given| *given < least) {
            return Err(Failure::invalid(format!("{what}: {given}, and it must be {least} or more")));
        }
    }
    if let Some(model) = &body.model {
        // Loads it, so that one that cannot be had is refused at once.
        app.embedder(model)?;
    }
    let chunker = body.chunker.clone().map(ChunkerKind::try_from).transpose();
    let chunker = chunker.map_err(|error| Failure::invalid(format!("chunker: {error}")))?;
    let named = collection.name().to_owned();
    let work = Box::new(move |job: &super::board::Job| {
        let show = |report: &ReembedReport| {
            let (done, total) = (report.documents, Some(report.documents_total));
            job.show(Progress { done, total, unit: Unit::Documents, rejected: 0 });
        };
        let options = body.options(chunker).progress(&show).cancel(job.cancel());
        let report = collection.reembed(&options)?;
        show(&report);
        Ok(Outcome { report: in_json(&report)?, whole: report.outcome != ReembedOutcome::Stopped })
    });
    Ok(Prepared { kind: JobKind::Reembed, collection: named, work })
}

impl Reembed {
    fn options(self, chunker: Option<ChunkerKind>) -> ReembedOptions<'static> {
        let Self { model, dims, space, keep_old, rechunk, force, .. } = self;
        let Self { chunk_tokens, chunk_overlap, dry_run, .. } = self;
        let mut options = ReembedOptions::new().dry_run(dry_run == Some(true));
        options = set(options, model, ReembedOptions::model);
        options = set(options, dims, ReembedOptions::dimensions);
        options = set(options, space, ReembedOptions::space);
        options = set(options, keep_old, ReembedOptions::keep_old);
        options = set(options, chunk_tokens, ReembedOptions::chunk_tokens);
        options = set(options, chunk_overlap, ReembedOptions::chunk_overlap);
        options = set(options, chunker, ReembedOptions::chunker);
        options = if rechunk == Some(true) { options.rechunk() } else { options };
        if force == Some(true) { options.force() } else { options }
    }
}

fn set<'a, T>(
    options: ReembedOptions<'a>,
    value: Option<T>,
    with: impl FnOnce(ReembedOptions<'a>, T) -> ReembedOptions<'a>,
) -> ReembedOptions<'a> {
    match value {
        Some(value) => with(options, value),
        None => options,
    }
}

fn in_json(report: &impl Serialize) -> Answer<Value> {
    serde_json::to_value(report).map_err(|error| Failure::internal(format!("the report cannot be written: {error}")))
}
