//! Where do the vectors of a space come from? From a model, loaded at first use, or from whoever adds and asks.
//!
//! Invariants: a model is taken only if it makes the vectors that are stored; collections and spaces of the same model
//! share it, and none holds one that is not at work, so that it can be dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use quiverdb_storage::{CollectionId, Metric, SpaceSettings};

use crate::config::{DEFAULT_SPACE, Model, SpaceConfig, StoredSpace};
use crate::embed::{self, Embedder, ModelSpec};
use crate::error::called;
use crate::models::registry::Purpose;
use crate::models::{Arrival, Budget, Footprint, LoadHealth, Loaded, MemoryLimits, Meter, ModelOptions};
use crate::rerank::{self, Rerank, Reranker};
use crate::types::SpaceStats;
use crate::{Error, Result};

/// The model of collections that name none.
const DEFAULT_MODEL: &str = "builtin";

/// A vector space of a collection.
pub(crate) struct Space {
    /// Its place among the spaces of the collection: storage counts them.
    pub(crate) index: usize,
    pub(crate) settings: SpaceSettings,
    /// The collection's name, for messages.
    collection: String,
    stored: StoredSpace,
    models: Arc<Models>,
    given: OnceLock<Given>,
    /// The model that was compared with the one that is stored.
    compared: Mutex<Option<Weak<dyn Embedder>>>,
}

/// What whoever opened the collection said its model is.
#[derive(Clone)]
enum Given {
    /// The application's own.
    Loaded(Arc<dyn Embedder>),
    /// By name, perhaps another one than is stored: it may have been moved.
    Named(String),
}

impl Space {
    /// A space as it is stored; its model is not loaded yet.
    pub(crate) fn new(
        collection: &str,
        index: usize,
        settings: SpaceSettings,
        stored: StoredSpace,
        models: &Arc<Models>,
    ) -> Self {
        let (collection, models) = (collection.to_owned(), Arc::clone(models));
        Self { index, settings, collection, stored, models, given: OnceLock::new(), compared: Mutex::default() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(crate) fn is_default(&self) -> bool {
        self.settings.name == DEFAULT_SPACE
    }

    /// The model; `None` where vectors are external.
    pub(crate) fn spec(&self) -> Option<&ModelSpec> {
        self.stored.model.as_ref()
    }

    pub(crate) fn has_model(&self) -> bool {
        self.stored.model.is_some()
    }

    /// The model, loaded at first use; `None` where vectors are external.
    ///
    /// # Errors
    /// [`Error::ModelRequired`] where it is an application's own and was not given.
    pub(crate) fn embedder(&self) -> Result<Option<Arc<dyn Embedder>>> {
        let Some(spec) = &self.stored.model else { return Ok(None) };
        match (self.given.get(), &self.stored.model_source) {
            (Some(Given::Loaded(embedder)), _) => Ok(Some(Arc::clone(embedder))),
            (Some(Given::Named(source)), _) | (None, Some(source)) => {
                self.fitting(self.models.reopen(source)?).map(Some)
            }
            (None, None) => {
                let (collection, model) = (self.collection.clone(), spec.id.clone());
                Err(Error::ModelRequired { collection, space: self.further_name(), model })
            }
        }
    }

    pub(crate) fn hybrid_weight(&self) -> f32 {
        self.stored.model.as_ref().map_or(1.0, |spec| spec.hybrid_weight)
    }

    pub(crate) fn model_name(&self) -> &str {
        self.stored.model.as_ref().map_or("external", |spec| spec.id.as_str())
    }

    fn further_name(&self) -> Option<String> {
        (!self.is_default()).then(|| self.settings.name.clone())
    }

    /// How messages call it.
    pub(crate) fn called(&self) -> String {
        called(&self.collection, self.further_name().as_deref())
    }

    /// Refuses vectors of other dimensions, and such as no metric can rank.
    pub(crate) fn validate_vector(&self, vector: &[f32], owner: &str) -> Result<()> {
        self.expect_dims(vector.len())?;
        let place = if self.is_default() { String::new() } else { format!(" in space `{}`", self.settings.name) };
        let refused = |reason| Error::invalid(format!("{owner}: the vector{place} {reason}"));
        self.settings.metric.validate(vector).map_err(refused)
    }

    fn expect_dims(&self, got: usize) -> Result<()> {
        let expected = self.settings.dims;
        if got == expected {
            return Ok(());
        }
        Err(Error::DimensionMismatch {
            collection: self.collection.clone(),
            space: self.further_name(),
            model: self.model_name().to_owned(),
            expected,
            got,
        })
    }

    /// What is set explicitly must be what is stored. A model that is named is loaded and taken.
    pub(crate) fn compare(&self, given: &SpaceConfig) -> Result<()> {
        let SpaceConfig { model, dimensions, metric } = given;
        if let Some(dims) = dimensions.filter(|dims| *dims != self.settings.dims) {
            return Err(Error::invalid(format!(
                "{} was made with {} dimensions; got {dims}. Leave them out, or change them with `reembed`",
                self.called(),
                self.settings.dims
            )));
        }
        let stored = self.settings.metric;
        if let Some(metric) = metric.filter(|metric| *metric != stored) {
            return Err(Error::invalid(format!(
                "{} was made with the metric `{}`; got `{}`. Leave it out, or make another collection",
                self.called(),
                stored.name(),
                metric.name()
            )));
        }
        match model {
            // Loaded by what needs it, so that all else works without.
            Model::Unset => Ok(()),
            Model::Named(source) => self.accept_named(source),
            Model::Given(embedder) => self.accept(Arc::clone(embedder)),
            Model::External(dims) => self.expect_external(*dims),
        }
    }

    /// Takes an application's own model for this space if it makes the vectors that are stored.
    pub(crate) fn accept(&self, embedder: Arc<dyn Embedder>) -> Result<()> {
        let embedder = self.fitting(embedder)?;
        self.given.get_or_init(|| Given::Loaded(embedder));
        Ok(())
    }

    /// Takes over the model that another space was opened with, where the vectors are the same.
    pub(crate) fn inherit(&self, other: &Self) {
        if self.makes_those_of(other)
            && let Some(given) = other.given.get()
        {
            self.given.get_or_init(|| given.clone());
        }
    }

    /// Whether the vectors that its model makes are those that the other one's makes.
    pub(crate) fn makes_those_of(&self, other: &Self) -> bool {
        match (&self.stored.model, &other.stored.model) {
            (Some(one), Some(other)) => embed::identity_difference(Some(one), other).is_none(),
            (Some(_) | None, _) => false,
        }
    }

    /// What is stored of it besides its settings.
    pub(crate) fn stored(&self) -> &StoredSpace {
        &self.stored
    }

    fn accept_named(&self, source: &str) -> Result<()> {
        self.fitting(self.models.open(source)?)?;
        let source = embed::durable_source(source)?;
        self.given.get_or_init(|| Given::Named(source));
        Ok(())
    }

    /// The model with the dimensions that are stored, if it makes the vectors that are. The same one is compared once.
    fn fitting(&self, embedder: Arc<dyn Embedder>) -> Result<Arc<dyn Embedder>> {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = compared.as_ref().is_some_and(|known| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(&embedder)));
        let this = Arc::downgrade(&embedder);
        let embedder = embed::as_stored(self.stored.model.as_ref(), embedder)?;
        let given = embedder.spec();
        if !is_known && let Some(difference) = embed::identity_difference(self.stored.model.as_ref(), given) {
            return Err(self.mismatch(given.id.clone(), difference));
        }
        *compared = Some(this);
        Ok(embedder)
    }

    fn expect_external(&self, dims: usize) -> Result<()> {
        if self.has_model() {
            let whose = if self.is_default() { "the collection has a model" } else { "the space has a model" };
            return Err(self.mismatch("external vectors".into(), whose.into()));
        }
        self.expect_dims(dims)
    }

    fn mismatch(&self, given: String, difference: String) -> Error {
        Error::ModelMismatch {
            collection: self.collection.clone(),
            space: self.further_name(),
            stored: self.model_name().to_owned(),
            given,
            difference,
        }
    }

    pub(crate) fn stats(&self) -> SpaceStats {
        let SpaceSettings { name, dims, metric } = self.settings.clone();
        SpaceStats { name, model: self.model_name().to_owned(), dims, metric }
    }
}

/// A space that is to be made, its model loaded.
pub(crate) struct NewSpace {
    pub(crate) settings: SpaceSettings,
    pub(crate) stored: StoredSpace,
    /// `None` where vectors are external.
    pub(crate) embedder: Option<Arc<dyn Embedder>>,
}

impl NewSpace {
    /// The application's own model: it has no name by which it could be loaded again.
    pub(crate) fn own_embedder(self) -> Option<Arc<dyn Embedder>> {
        self.embedder.filter(|_| self.stored.model_source.is_none())
    }

    /// # Errors
    /// [`Error::Model`] where there is no such model; [`Error::InvalidInput`] for a metric that is not the model's.
    pub(crate) fn of(models: &Models, name: &str, config: &SpaceConfig) -> Result<Self> {
        let SpaceConfig { model, dimensions, metric } = config;
        let (embedder, model_source) = match model {
            Model::Unset => (models.open(DEFAULT_MODEL)?, Some(DEFAULT_MODEL.to_owned())),
            Model::Named(source) => (models.open(source)?, Some(embed::durable_source(source)?)),
            Model::Given(embedder) => (Arc::clone(embedder), None),
            Model::External(dims) => {
                if let Some(other) = dimensions.filter(|other| other != dims) {
                    let reason = format!("external vectors of {dims} dimensions cannot be cut to {other}");
                    return Err(Error::invalid(reason + ": leave `dimensions` out"));
                }
                let settings = SpaceSettings { name: name.into(), dims: *dims, metric: metric.unwrap_or_default() };
                let stored = StoredSpace { model: None, model_source: None };
                return Ok(Self { settings, stored, embedder: None });
            }
        };
        let embedder = match dimensions {
            Some(dims) => embed::truncate(embedder, *dims)?,
            None => embedder,
        };
        let spec = embedder.spec().clone();
        validate_metric(&spec, *metric)?;
        let settings = SpaceSettings { name: name.into(), dims: spec.dims, metric: spec.metric };
        Ok(Self { settings, stored: StoredSpace { model: Some(spec), model_source }, embedder: Some(embedder) })
    }
}

fn validate_metric(spec: &ModelSpec, given: Option<Metric>) -> Result<()> {
    match given {
        Some(metric) if metric != spec.metric => Err(Error::invalid(format!(
            "model {} is made for the metric `{}`; got `{}`. Leave the metric out, or use external vectors",
            spec.id,
            spec.metric.name(),
            metric.name()
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What runs models that are not in this process.
const REMOTE: &str = "remote";

/// What a model weighs, as it says itself.
fn weight(bytes: u64, backend: &str) -> Footprint {
    Footprint { bytes, estimated: backend == embed::Backend::Onnx.name() }
}

/// Where a model runs; those that say nothing run on the processor, or elsewhere.
fn device(device: &str, backend: &str) -> String {
    match (device, backend) {
        ("", REMOTE) => REMOTE.to_owned(),
        ("", _) => embed::Device::Cpu.to_string(),
        (device, _) => device.to_owned(),
    }
}

/// The models of a database, by source: collections, spaces and searches share one copy of the weights.
pub(crate) struct Models {
    runtime: embed::Runtime,
    options: ModelOptions,
    budget: Arc<Budget>,
    embedders: Loaded<dyn Embedder>,
    rerankers: Loaded<dyn Reranker>,
    /// The application's own models that collections were made anew with, by space: other handles find them here.
    own: Mutex<HashMap<(CollectionId, String), Arc<dyn Embedder>>>,
}

impl Default for Models {
    fn default() -> Self {
        Self::new(embed::Runtime::default(), ModelOptions::default())
    }
}

impl Models {
    /// No models yet; those to come run so.
    pub(crate) fn new(runtime: embed::Runtime, options: ModelOptions) -> Self {
        let budget = Arc::default();
        let embedders = Loaded::within(&budget, |model: &(dyn Embedder + 'static)| {
            weight(model.memory_bytes(), &model.spec().backend)
        });
        let rerankers = Loaded::within(&budget, |model: &(dyn Reranker + 'static)| {
            weight(model.memory_bytes(), &model.spec().backend)
        });
        let own = Mutex::default();
        Self { runtime, options, embedders, rerankers, budget, own }
    }

    /// The same settings with another runtime, and no models yet.
    pub(crate) fn with_runtime(&self, runtime: embed::Runtime) -> Self {
        Self::new(runtime, self.options.clone())
    }

    /// The same runtime with other settings, and no models yet.
    pub(crate) fn with_options(&self, options: ModelOptions) -> Self {
        Self::new(self.runtime.clone(), options)
    }

    /// Keeps an application's own model for the other handles of a collection.
    pub(crate) fn keep_own(&self, collection: CollectionId, space: &str, embedder: Arc<dyn Embedder>) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.insert((collection, space.to_owned()), embedder);
    }

    /// The application's own model that a collection was made anew with.
    pub(crate) fn own_of(&self, collection: CollectionId, space: &str) -> Option<Arc<dyn Embedder>> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.get(&(collection, space.to_owned())).cloned()
    }

    /// A model that the user named. It is known by the name that collections remember, so that they find it.
    pub(crate) fn open(&self, source: &str) -> Result<Arc<dyn Embedder>> {
        let durable = || embed::durable_source(source).unwrap_or_else(|_| source.to_owned());
        let name = durable();
        let embedder = self.embedder_by(&name, |_| embed::open_with(source, &self.runtime))?;
        // One that was fetched just now has that name only from now on.
        if name == source {
            self.embedders.rename(&name, &durable());
        }
        Ok(embedder)
    }

    /// The model that a collection remembers; nothing is fetched for it.
    pub(crate) fn reopen(&self, source: &str) -> Result<Arc<dyn Embedder>> {
        self.embedder_by(source, |source| embed::reopen(source, &self.runtime))
    }

    fn embedder_by(&self, source: &str, load: impl Fn(&str) -> Result<Arc<dyn Embedder>>) -> Result<Arc<dyn Embedder>> {
        self.embedders.get(source, |meter| self.embedder_at_work(load(source)?, meter))
    }

    /// An embedder that was loaded, warm where that is asked for.
    fn embedder_at_work(&self, embedder: Arc<dyn Embedder>, meter: &Arc<Meter>) -> Result<Arrival<dyn Embedder>> {
        let spec = embedder.spec();
        let device = device(&spec.device, &spec.backend);
        let warm_up_s = self.warmed(&spec.backend, || embed::warm_up(embedder.as_ref()).map(drop))?;
        Ok(Arrival { value: embed::at_work(embedder, &self.options, meter), device, warm_up_s })
    }

    fn reranker_at_work(&self, reranker: Arc<dyn Reranker>, meter: &Arc<Meter>) -> Result<Arrival<dyn Reranker>> {
        let spec = reranker.spec();
        let device = device(&spec.device, &spec.backend);
        let warm_up_s = self.warmed(&spec.backend, || rerank::warm_up(reranker.as_ref()))?;
        Ok(Arrival { value: rerank::counted(reranker, meter), device, warm_up_s })
    }

    /// The seconds of a warm-up, where there is one.
    fn warmed(&self, backend: &str, warm_up: impl FnOnce() -> Result<()>) -> Result<Option<f64>> {
        if !self.options.warm_up || backend == REMOTE {
            return Ok(None);
        }
        let begun = Instant::now();
        warm_up()?;
        Ok(Some(begun.elapsed().as_secs_f64()))
    }

    /// The model that a search reranks with.
    pub(crate) fn reranker(&self, rerank: &Rerank) -> Result<Arc<dyn Reranker>> {
        match &rerank.model {
            rerank::Model::Given(model) => Ok(Arc::clone(model)),
            rerank::Model::Named(source) => self.reranker_named(source),
        }
    }

    /// It is known by its durable name, too: the same directory by two paths is loaded once.
    pub(crate) fn reranker_named(&self, source: &str) -> Result<Arc<dyn Reranker>> {
        let durable = || embed::durable_source(source).unwrap_or_else(|_| source.to_owned());
        let name = durable();
        let load = |meter: &Arc<Meter>| self.reranker_at_work(rerank::open_with(source, &self.runtime)?, meter);
        let reranker = self.rerankers.get(&name, load)?;
        // One that was fetched just now has that name only from now on.
        if name == source {
            self.rerankers.rename(&name, &durable());
        }
        Ok(reranker)
    }

    /// Loads a model and runs it once in each shape.
    pub(crate) fn warm_up(&self, model: &str, purpose: Purpose) -> Result<()> {
        match purpose {
            Purpose::Embed | Purpose::Image => embed::warm_up(self.open(model)?.as_ref()).map(drop),
            Purpose::Rerank => rerank::warm_up(self.reranker_named(model)?.as_ref()),
        }
    }

    pub(crate) fn limit(&self, limits: MemoryLimits) {
        self.budget.limit(limits);
    }

    pub(crate) fn health(&self) -> Vec<LoadHealth> {
        let mut health = self.embedders.health();
        health.extend(self.rerankers.health());
        health
    }
}
