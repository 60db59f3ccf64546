//! How does a collection change its model or its chunks while it is in use?
//!
//! Beside it a *shadow* is filled, a collection of the new configuration to which no name leads, through the recipe of
//! `ingest`. Meanwhile the old one answers and takes writes; what is written to it is noted, and follows. When nothing is
//! left to follow, one transaction lets the name lead to the shadow, whose segments are built by then.
//!
//! We weighed filling a further space of the same collection. It would need vectors that are missing while a search runs,
//! segments that lack a graph, and another way for chunks, whose bounds no two spaces can have for themselves. A collection
//! that is whole needs none of that, and is checked, sealed, and recovered by what is there already. It costs the text's
//! room on disk once more, until the swap.
//!
//! Invariants: a document is in the shadow as it is in the collection, or is yet to follow: it differs by its digest, or it
//! was noted; so a crash costs a comparison of digests. A collection's number stands for one configuration for ever, so no
//! search mixes two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quiverdb_storage::{Changes, CollectionInfo, CollectionSettings, DocumentId, Operation, Shadow};
use serde::Serialize;

use crate::config::{ChunkerKind, DEFAULT_SPACE, Model, SpaceConfig, StoredConfig, validate_chunking};
use crate::embed::{self, Embedder};
use crate::ingest::{Renewal, next_batch_size, wait_for_sealing};
use crate::parts::Parts;
use crate::spaces::{NewSpace, Space};
use crate::types::AddReport;
use crate::{Error, Result};

/// Bytes of text after which a batch is full.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// So many documents may follow while writers wait for the swap.
const LATE_MAX: usize = 16;
/// How often those that were written meanwhile are gone through, before the swap comes with as many as there are.
const ROUNDS_MAX: usize = 64;
/// Documents that an estimate looks at.
const SAMPLE: usize = 256;

/// What a collection is to be made anew with ([`crate::Collection::reembed`]). Everything unset stays as it is.
#[derive(Clone, Default)]
pub struct ReembedOptions<'a> {
    model: Model,
    dimensions: Option<usize>,
    space: Option<String>,
    keep_old: Option<String>,
    rechunk: bool,
    chunk_tokens: Option<usize>,
    chunk_overlap: Option<usize>,
    chunker: Option<ChunkerKind>,
    dry_run: bool,
    force: bool,
    progress: Option<&'a (dyn Fn(&ReembedReport) + Sync)>,
    cancel: Option<&'a AtomicBool>,
}

impl<'a> ReembedOptions<'a> {
    /// Nothing is to change: goes on with what is unfinished.
    pub fn new() -> Self {
        Self::default()
    }

    /// The new model, by name as in [`crate::CollectionConfig::model`].
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Model::Named(model.into());
        self
    }

    /// The new model, the application's own. All handles of this [`crate::Database`] have it from the swap on.
    #[must_use]
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.model = Model::Given(embedder);
        self
    }

    /// Keeps only the first `dims` numbers of the model's vectors; of the model that the space has, where no other is
    /// named.
    #[must_use]
    pub fn dimensions(mut self, dims: usize) -> Self {
        self.dimensions = Some(dims);
        self
    }

    /// The space whose model changes; the default one where unset.
    #[must_use]
    pub fn space(mut self, name: impl Into<String>) -> Self {
        self.space = Some(name.into());
        self
    }

    /// Keeps the vectors of the old model in a further space of this name, so that both can be compared. From then on
    /// each chunk is embedded by both.
    #[must_use]
    pub fn keep_old(mut self, name: impl Into<String>) -> Self {
        self.keep_old = Some(name.into());
        self
    }

    /// Splits all text again. Where no setting changes, the same chunks would come of it, and nothing is done;
    /// [`ReembedOptions::force`] does it all the same.
    #[must_use]
    pub fn rechunk(mut self) -> Self {
        self.rechunk = true;
        self
    }

    /// As [`crate::CollectionConfig::chunk_tokens`]. Where unset and above the new model's limit, that limit.
    #[must_use]
    pub fn chunk_tokens(mut self, tokens: usize) -> Self {
        self.chunk_tokens = Some(tokens);
        self
    }

    /// As [`crate::CollectionConfig::chunk_overlap`]. Where unset and the size of chunks changes, at most a quarter of that.
    #[must_use]
    pub fn chunk_overlap(mut self, tokens: usize) -> Self {
        self.chunk_overlap = Some(tokens);
        self
    }

    /// As [`crate::CollectionConfig::chunker`].
    #[must_use]
    pub fn chunker(mut self, chunker: ChunkerKind) -> Self {
        self.chunker = Some(chunker);
        self
    }

    /// Makes the collection anew even where nothing changes, which another version of this library may split otherwise.
    /// Vectors of chunks that come out the same are kept.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }

    /// Only says what would happen. Nothing is embedded or written; some documents are split, to say how many chunks there
    /// will be.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Called after each batch with the report so far.
    #[must_use]
    pub fn progress(mut self, progress: &'a (dyn Fn(&ReembedReport) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Set it to stop after the batch at hand; what was done stays, and the next call goes on.
    #[must_use]
    pub fn cancel(mut self, cancel: &'a AtomicBool) -> Self {
        self.cancel = Some(cancel);
        self
    }

    fn asks_for_something(&self) -> bool {
        let Self { model, dimensions, keep_old, rechunk, force, chunk_tokens, chunk_overlap, chunker, .. } = self;
        !matches!(model, Model::Unset)
            || dimensions.is_some()
            || keep_old.is_some()
            || *rechunk
            || *force
            || chunk_tokens.is_some()
            || chunk_overlap.is_some()
            || chunker.is_some()
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }
}

/// How a call of [`crate::Collection::reembed`] ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReembedOutcome {
    /// The collection is as asked for already: nothing was done.
    Unchanged,
    /// A dry run: nothing was done.
    Planned,
    /// It was stopped, or is not at its end yet. The old model answers; the next call goes on.
    #[default]
    Stopped,
    /// The new one answers.
    Done,
}

/// What [`crate::Collection::reembed`] did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReembedReport {
    /// How it ended.
    pub outcome: ReembedOutcome,
    /// The collection.
    pub collection: String,
    /// The space whose model was to change.
    pub space: String,
    /// The id of the model before, or `external`.
    pub model_before: String,
    /// That of the new one.
    pub model: String,
    /// The dimensions of its vectors.
    pub dims: usize,
    /// The space that has the old model's vectors; `None` where they go.
    pub kept_as: Option<String>,
    /// The size of a chunk in tokens.
    pub chunk_tokens: usize,
    /// Documents of the collection.
    pub documents_total: u64,
    /// Those that are done, those of earlier calls among them.
    pub documents: u64,
    /// Those that an earlier call had done.
    pub documents_before: u64,
    /// Chunks after it; in a dry run an estimate, and so far while it is at work.
    pub chunks: u64,
    /// Chunks that some model read; in a dry run an estimate of those it would.
    pub chunks_embedded: u64,
    /// Chunks that were there just so, with all their vectors.
    pub chunks_reused: u64,
    /// Chunks whose vectors the database's cache had.
    pub chunks_cached: u64,
    /// Texts that were longer than the model's limit.
    pub texts_truncated: u64,
    /// Documents that had brought vectors which gave way to the model's.
    pub vectors_replaced: u64,
    /// Documents that were written while it was at work, and followed.
    pub documents_followed: u64,
    /// Wall-clock seconds of this call.
    pub seconds: f64,
}

/// Drops what an unfinished run made; says whether there was one.
pub(crate) fn abort(parts: &Arc<Parts>) -> Result<bool> {
    let parts = parts.current()?;
    Ok(parts.store.drop_shadow(parts.info.id)?)
}

/// Makes a collection anew.
pub(crate) fn run(parts: &Arc<Parts>, options: &ReembedOptions<'_>) -> Result<ReembedReport> {
    let start = Instant::now();
    let (parts, changes) = watched(parts)?;
    let shadow = parts.shadow()?;
    let target = Target::of(parts, shadow.as_ref(), options)?;
    let mut report = target.report(parts);
    report.documents_total = parts.store.snapshot(parts.info.id)?.documents();
    if target.is_what_there_is(parts) && !options.force && shadow.is_none() {
        report.outcome = ReembedOutcome::Unchanged;
        report.documents = report.documents_total;
    } else if options.dry_run {
        target.forecast(parts, shadow.as_ref(), &mut report)?;
    } else {
        report.documents_before = shadow.as_ref().map_or(0, |shadow| shadow.documents);
        let to = target.open(parts, shadow)?;
        let renewal = Renewal::new(parts, &to);
        let mut run = Run { from: parts, to: &to, changes: &changes, renewal, options, report, start, batch: 64 };
        run.go().map_err(|error| explained(parts, &to, error))?;
        report = run.report;
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// The collection as it is now, and what is written to it from now on.
fn watched(parts: &Arc<Parts>) -> Result<(&Arc<Parts>, Changes)> {
    let mut parts = parts.current()?;
    loop {
        match (parts.store.watch(parts.info.id), parts) {
            (Ok(changes), parts) => return Ok((parts, changes)),
            (Err(error), lost) => parts = lost.after(error)?,
        }
    }
}

/// Where one of the two collections is gone, somebody dropped it.
fn explained(from: &Parts, to: &Parts, error: Error) -> Error {
    let Error::Storage(quiverdb_storage::Error::UnknownCollection(_)) = &error else { return error };
    let name = &from.info.name;
    match from.store.collection_info(from.info.id) {
        Ok(_) if from.store.collection_info(to.info.id).is_err() => {
            Error::invalid(format!("making collection `{name}` anew was aborted meanwhile; it is as it was"))
        }
        Ok(_) | Err(_) => error,
    }
}

/// What a collection is to become.
struct Target {
    settings: CollectionSettings,
    config: StoredConfig,
    /// The space whose model is to change.
    space: String,
    kept_as: Option<String>,
    /// The application's own model for it.
    own: Option<Arc<dyn Embedder>>,
}

impl Target {
    /// # Errors
    /// [`Error::InvalidInput`] for what cannot be, and where an unfinished run is on its way to something else.
    fn of(parts: &Parts, shadow: Option<&Shadow>, options: &ReembedOptions<'_>) -> Result<Self> {
        let space = parts.space_named(options.space.as_deref().unwrap_or(DEFAULT_SPACE))?;
        if !options.asks_for_something() {
            return match shadow {
                Some(shadow) => Self::unfinished(parts, shadow, options),
                None => Err(Error::invalid(format!(
                    "collection `{}` has nothing unfinished to go on with: say what it should change to, a model, its \
                     dimensions or its chunks",
                    parts.info.name
                ))),
            };
        }
        let made = new_space(parts, space, options)?;
        let mut target = Self::changed(parts, space, made, options)?;
        let Some(shadow) = shadow else { return Ok(target) };
        let unfinished = Self::unfinished(parts, shadow, options)?;
        if !target.is_alike(&unfinished.settings, &unfinished.config) {
            return Err(Error::invalid(format!(
                "collection `{}` is on its way to {} already, with {} documents done: go on without options, or with the \
                 same ones; or abort it first (`quiver reembed --abort`, `Collection::abort_reembed`)",
                parts.info.name,
                unfinished.outline(),
                shadow.documents
            )));
        }
        (target.settings, target.config) = (unfinished.settings, unfinished.config);
        Ok(target)
    }

    /// What the shadow is.
    fn unfinished(parts: &Parts, shadow: &Shadow, options: &ReembedOptions<'_>) -> Result<Self> {
        let to = Parts::new(&parts.store, &parts.models, shadow.info.clone())?;
        let differs = |space: &&Space| match parts.space_named(space.name()) {
            Ok(other) => !space.makes_those_of(other) && (space.has_model() || other.has_model()),
            Err(_) => false,
        };
        let changed = to.spaces().iter().find(differs).map(|space| space.name().to_owned());
        let kept_as = to.spaces().iter().map(Space::name).find(|name| parts.space_named(name).is_err());
        let own = match &options.model {
            Model::Given(embedder) => Some(Arc::clone(embedder)),
            Model::Unset | Model::Named(_) | Model::External(_) => None,
        };
        Ok(Self {
            settings: to.info.settings.clone(),
            config: to.config.clone(),
            space: changed.unwrap_or_else(|| DEFAULT_SPACE.into()),
            kept_as: kept_as.map(str::to_owned),
            own,
        })
    }

    fn changed(parts: &Parts, space: &Space, made: NewSpace, options: &ReembedOptions<'_>) -> Result<Self> {
        let mut settings = parts.info.settings.clone();
        let mut config = parts.config.clone();
        let is_same = match (&made.stored.model, space.spec()) {
            (Some(made), stored) => embed::identity_difference(stored, made).is_none(),
            (None, stored) => stored.is_none(),
        };
        let mut kept_as = None;
        let own = made.embedder.clone().filter(|_| made.stored.model_source.is_none() && made.stored.model.is_some());
        if !is_same {
            settings.spaces[space.index] = made.settings.clone();
            if let Some(name) = &options.keep_old {
                keep(parts, space, name, &mut settings, &mut config)?;
                kept_as = Some(name.clone());
            }
            config.set_space(space.name(), made.stored);
        }
        set_chunks(parts, &mut config, options)?;
        settings.application = serde_json::to_value(&config).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Self { settings, config, space: space.name().to_owned(), kept_as, own })
    }

    fn is_what_there_is(&self, parts: &Parts) -> bool {
        self.is_alike(&parts.info.settings, &parts.config)
    }

    /// Whether the same would come of both, wherever their models lie.
    fn is_alike(&self, settings: &CollectionSettings, config: &StoredConfig) -> bool {
        let model = |config: &StoredConfig, name: &str| config.space(name).and_then(|space| space.model.clone());
        let makes_alike = |name: &str| match (model(&self.config, name), model(config, name)) {
            (Some(one), Some(other)) => embed::identity_difference(Some(&one), &other).is_none(),
            (one, other) => one.is_none() && other.is_none(),
        };
        let chunks = |config: &StoredConfig| (config.chunk_tokens, config.chunk_overlap, config.chunker);
        self.settings.spaces == settings.spaces
            && self.settings.analyzer == settings.analyzer
            && chunks(&self.config) == chunks(config)
            && settings.spaces.iter().all(|space| makes_alike(&space.name))
    }

    /// In a few words, for messages.
    fn outline(&self) -> String {
        let (model, dims) = self.model_and_dims();
        format!("model {model} of {dims} dimensions and chunks of {} tokens", self.config.chunk_tokens)
    }

    fn model_and_dims(&self) -> (String, usize) {
        let model = self.config.space(&self.space).and_then(|space| space.model.as_ref());
        let dims = self.settings.spaces.iter().find(|space| space.name == self.space).map_or(0, |space| space.dims);
        (model.map_or_else(|| "external".to_owned(), |spec| spec.id.clone()), dims)
    }

    fn report(&self, parts: &Parts) -> ReembedReport {
        let (model, dims) = self.model_and_dims();
        let before = parts.space_named(&self.space).map_or("external", Space::model_name);
        ReembedReport {
            collection: parts.info.name.clone(),
            space: self.space.clone(),
            model_before: before.to_owned(),
            model,
            dims,
            kept_as: self.kept_as.clone(),
            chunk_tokens: self.config.chunk_tokens,
            ..ReembedReport::default()
        }
    }

    /// The shadow, made where there is none, its models at hand.
    fn open(&self, parts: &Parts, shadow: Option<Shadow>) -> Result<Parts> {
        let info = match shadow {
            Some(shadow) => shadow.info,
            None => parts.store.create_shadow(parts.info.id, &self.settings)?,
        };
        if let Some(own) = &self.own {
            parts.models.keep_own(info.id, &self.space, Arc::clone(own));
        }
        self.parts(parts, info)
    }

    fn parts(&self, parts: &Parts, info: CollectionInfo) -> Result<Parts> {
        let to = Parts::new(&parts.store, &parts.models, info)?;
        to.inherit(parts)?;
        if let Some(own) = &self.own {
            to.space_named(&self.space)?.accept(Arc::clone(own))?;
        }
        // What cannot be loaded is better known before anything is done.
        to.spaces().iter().try_for_each(|space| space.embedder().map(drop))?;
        Ok(to)
    }

    /// Splits some documents, to say how many chunks there will be.
    fn forecast(&self, parts: &Parts, shadow: Option<&Shadow>, report: &mut ReembedReport) -> Result<()> {
        let info = CollectionInfo { settings: self.settings.clone(), ..parts.info.clone() };
        let to = self.parts(parts, info)?;
        let renewal = Renewal::new(parts, &to);
        let snapshot = parts.store.snapshot(parts.info.id)?;
        let ids = snapshot.ids()?;
        let step = ids.len().div_ceil(SAMPLE).max(1);
        let (mut seen, mut chunks, mut embedded) = (0_u64, 0, 0);
        for id in ids.iter().step_by(step) {
            let Some(draft) = renewal.read(&snapshot, id)? else { continue };
            report.vectors_replaced += u64::from(draft.is_replaced);
            let (of_document, to_embed) = renewal.forecast(draft)?;
            (seen, chunks, embedded) = (seen + 1, chunks + of_document, embedded + to_embed);
        }
        let scaled = |count: u64| (count * ids.len() as u64).checked_div(seen).unwrap_or(0);
        report.outcome = ReembedOutcome::Planned;
        report.documents_before = shadow.map_or(0, |shadow| shadow.documents);
        report.documents = report.documents_before;
        (report.chunks, report.chunks_embedded) = (scaled(chunks), scaled(embedded));
        report.chunks_reused = report.chunks - report.chunks_embedded.min(report.chunks);
        report.vectors_replaced = scaled(report.vectors_replaced);
        Ok(())
    }
}

/// The space with the model that is asked for; as it is where none is.
fn new_space(parts: &Parts, space: &Space, options: &ReembedOptions<'_>) -> Result<NewSpace> {
    let as_it_is = NewSpace { settings: space.settings.clone(), stored: space.stored().clone(), embedder: None };
    let model = match (&options.model, options.dimensions) {
        (Model::Unset, None) if options.keep_old.is_some() => {
            return Err(Error::invalid("the old vectors are kept beside those of a new model: name one"));
        }
        (Model::Unset, None) => return Ok(as_it_is),
        (Model::Unset, Some(_)) => match (&space.stored().model, &space.stored().model_source) {
            (None, _) => return Err(no_model(space)),
            (Some(_), Some(source)) => Model::Named(source.clone()),
            (Some(spec), None) => {
                return Err(Error::invalid(format!(
                    "{} was built with {}, which only the application has: give it, whole, with `embedder`",
                    space.called(),
                    spec.id
                )));
            }
        },
        (Model::External(_), _) => return Err(no_model(space)),
        (Model::Named(name), _) if name == "external" => return Err(no_model(space)),
        (model @ (Model::Named(_) | Model::Given(_)), _) => model.clone(),
    };
    let config = SpaceConfig { model, dimensions: options.dimensions, metric: None };
    NewSpace::of(&parts.models, space.name(), &config)
}

fn no_model(space: &Space) -> Error {
    Error::invalid(format!(
        "the vectors of {} come from a model or from its documents: name the model that is to make them; vectors of \
         your own are changed by adding the documents again",
        space.called()
    ))
}

/// Adds a space that has what the old one had.
fn keep(
    parts: &Parts,
    space: &Space,
    name: &str,
    settings: &mut CollectionSettings,
    config: &mut StoredConfig,
) -> Result<()> {
    if !space.has_model() {
        return Err(Error::invalid(format!(
            "the vectors of {} were given, and those of documents to come would have to be, too: they cannot be kept. \
             Keep a copy of the database, or leave out `keep_old`",
            space.called()
        )));
    }
    if let Ok(other) = parts.space_named(name) {
        return Err(Error::invalid(format!(
            "{} is there already: keep the old vectors under another name",
            other.called()
        )));
    }
    let mut old = space.settings.clone();
    old.name = name.to_owned();
    settings.spaces.push(old);
    config.spaces.insert(name.to_owned(), space.stored().clone());
    Ok(())
}

/// The chunks as asked for, and otherwise as they are, as far as the models read them.
fn set_chunks(parts: &Parts, config: &mut StoredConfig, options: &ReembedOptions<'_>) -> Result<()> {
    let asks = options.rechunk
        || options.chunk_tokens.is_some()
        || options.chunk_overlap.is_some()
        || options.chunker.is_some();
    if asks && config.default.model.is_none() {
        return Err(Error::invalid(format!(
            "documents of collection `{}` bring their vectors, so each is one chunk: name a model to have them split",
            parts.info.name
        )));
    }
    let models =
        std::iter::once(&config.default).chain(config.spaces.values()).filter_map(|space| space.model.as_ref());
    let limit = models.map(|spec| spec.max_tokens).min().unwrap_or(usize::MAX);
    let tokens = options.chunk_tokens.unwrap_or(config.chunk_tokens.min(limit));
    // Where chunks become smaller, what they share does, too, as in a collection that says nothing of it.
    let usual = if tokens == config.chunk_tokens { usize::MAX } else { tokens / 4 };
    config.chunk_overlap = options.chunk_overlap.unwrap_or(config.chunk_overlap.min(usual));
    config.chunk_tokens = tokens;
    config.chunker = options.chunker.unwrap_or(config.chunker);
    validate_chunking(config.chunk_tokens, config.chunk_overlap, limit)
}

/// Works on threads of its own. Those that all share may each be writing, and so be waiting for us; and one of them that
/// waits for work elsewhere takes up other work meanwhile, which may be to write, too.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let on_own_pool = || match rayon::ThreadPoolBuilder::new().thread_name(|_| "quiverdb-reembed".into()).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    };
    let done = std::thread::scope(|scope| scope.spawn(on_own_pool).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A collection that is being filled.
struct Run<'a> {
    from: &'a Parts,
    to: &'a Parts,
    changes: &'a Changes,
    renewal: Renewal<'a>,
    options: &'a ReembedOptions<'a>,
    report: ReembedReport,
    start: Instant,
    /// Documents of the next batch.
    batch: usize,
}

impl Run<'_> {
    fn go(&mut self) -> Result<()> {
        self.report.documents = self.report.documents_before;
        if !self.fill()? || !self.follow(LATE_MAX)? {
            return Ok(());
        }
        // Segments are derived: what could not be built is searched in memory, and tried again by the next add.
        let _ = self.from.store.seal(self.to.info.id);
        if !self.follow(LATE_MAX)? || self.options.is_cancelled() {
            return Ok(());
        }
        let mut late = 0;
        let (from, to, changes) = (self.from, self.to, self.changes);
        from.store.promote(changes, |ids| {
            late = ids.len() as u64;
            apart(|| self.operations(ids))
        })?;
        self.report.documents_followed += late;
        self.report.outcome = ReembedOutcome::Done;
        let there = from.store.snapshot(to.info.id)?;
        (self.report.documents, self.report.chunks) = (there.documents(), there.chunks());
        self.report.documents_total = self.report.documents;
        drop(there);
        // What it leaves behind takes room alone, and goes with the next purge otherwise.
        let _ = from.store.purge();
        Ok(())
    }

    /// Takes over what differs, in order of id; `false` where it was cancelled.
    fn fill(&mut self) -> Result<bool> {
        let mut after: Option<DocumentId> = None;
        loop {
            if self.options.is_cancelled() {
                return Ok(false);
            }
            let store = &self.from.store;
            let ids = store.differences(self.from.info.id, self.to.info.id, after.as_ref(), self.batch)?;
            if ids.is_empty() {
                return Ok(true);
            }
            let done = self.take_over(&ids)?;
            after = Some(ids[done - 1].clone());
            self.tell()?;
        }
    }

    /// Takes over what was written meanwhile, until so few are left that writers may wait for them; `false` where it was
    /// cancelled.
    fn follow(&mut self, left_max: usize) -> Result<bool> {
        for _ in 0..ROUNDS_MAX {
            if self.changes.len() <= left_max {
                break;
            }
            let ids = self.changes.take(usize::MAX);
            self.report.documents_followed += ids.len() as u64;
            let mut left = ids.as_slice();
            while !left.is_empty() {
                if self.options.is_cancelled() {
                    return Ok(false);
                }
                let done = self.take_over(&left[..left.len().min(self.batch)])?;
                left = &left[done..];
                self.tell()?;
            }
        }
        Ok(true)
    }

    /// Writes the first of these documents to the shadow as they are now, as many as make a batch; returns how many.
    fn take_over(&mut self, ids: &[DocumentId]) -> Result<usize> {
        let start = Instant::now();
        let (done, operations) = self.batch_of(ids)?;
        if !operations.is_empty() {
            self.from.store.write(self.to.info.id, operations)?;
        }
        wait_for_sealing(self.to, self.options.cancel)?;
        self.batch = next_batch_size(self.batch, start.elapsed().max(Duration::from_millis(1)));
        Ok(done)
    }

    /// What makes all of these documents in the shadow as they are now.
    fn operations(&mut self, ids: &[DocumentId]) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        let mut left = ids;
        while !left.is_empty() {
            let (done, more) = self.batch_of(left)?;
            operations.extend(more);
            left = &left[done..];
        }
        Ok(operations)
    }

    fn batch_of(&mut self, ids: &[DocumentId]) -> Result<(usize, Vec<Operation>)> {
        let snapshot = self.from.store.snapshot(self.from.info.id)?;
        let there = self.from.store.snapshot(self.to.info.id)?;
        let (mut drafts, mut operations, mut bytes, mut done) = (Vec::new(), Vec::new(), 0, 0);
        for id in ids {
            if bytes >= BATCH_BYTES_MAX {
                break;
            }
            done += 1;
            let found = there.digest(id)?;
            match self.renewal.read(&snapshot, id)? {
                Some(draft) if found == Some(draft.digest()) => {}
                Some(draft) => {
                    bytes += draft.bytes();
                    self.report.vectors_replaced += u64::from(draft.is_replaced);
                    drafts.push(draft);
                }
                None if found.is_some() => operations.push(Operation::Delete(id.clone())),
                None => {}
            }
        }
        self.report.documents_total = snapshot.documents();
        // The pages that they keep are not needed while the models work.
        drop((snapshot, there));
        let mut added = AddReport::default();
        operations.extend(self.renewal.renew(drafts, &mut added)?);
        self.report.chunks_embedded += added.chunks_embedded;
        self.report.chunks_reused += added.chunks_reused;
        self.report.chunks_cached += added.chunks_cached;
        self.report.texts_truncated += added.texts_truncated;
        Ok((done, operations))
    }

    fn tell(&mut self) -> Result<()> {
        if let Some(Shadow { documents, chunks, .. }) = self.from.shadow()? {
            (self.report.documents, self.report.chunks) = (documents, chunks);
        }
        self.report.seconds = self.start.elapsed().as_secs_f64();
        if let Some(progress) = self.options.progress {
            progress(&self.report);
        }
        Ok(())
    }
}
