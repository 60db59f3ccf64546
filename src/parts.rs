//! What is a collection made of? Its place in the store, its configuration, and its model.
//!
//! Invariants: a model is taken only if it makes the vectors that are stored; it is loaded at the first use that needs
//! one, and collections of the same model share it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use quiverdb_storage::{CollectionInfo, SpaceSettings, Store};

use crate::config::{CollectionConfig, StoredConfig};
use crate::embed::{self, Embedder};
use crate::types::CollectionStats;
use crate::{Error, Result};

/// What the recipes of ingest and query work on.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) info: CollectionInfo,
    pub(crate) config: StoredConfig,
    models: Arc<Models>,
    embedder: OnceLock<Arc<dyn Embedder>>,
}

impl Parts {
    /// The parts of a collection; its model is not loaded yet.
    ///
    /// # Errors
    /// [`quiverdb_storage::Error::Corrupt`] where its configuration cannot be read.
    pub(crate) fn new(store: &Store, models: &Arc<Models>, info: CollectionInfo) -> Result<Self> {
        let config = serde_json::from_value(info.settings.application.clone()).map_err(|error| {
            quiverdb_storage::Error::corrupt(
                format!("the configuration of collection `{}`", info.name),
                error.to_string(),
            )
        })?;
        let (store, models) = (store.clone(), Arc::clone(models));
        Ok(Self { store, info, config, models, embedder: OnceLock::new() })
    }

    /// The model, loaded at first use; `None` where vectors are external.
    ///
    /// # Errors
    /// [`Error::ModelRequired`] where it is an application's own and was not given.
    pub(crate) fn embedder(&self) -> Result<Option<&Arc<dyn Embedder>>> {
        if let Some(embedder) = self.embedder.get() {
            return Ok(Some(embedder));
        }
        match (&self.config.model, &self.config.model_source) {
            (Some(_), Some(source)) => self.accept(self.models.open(source)?)?,
            (Some(spec), None) => {
                let (collection, model) = (self.info.name.clone(), spec.id.clone());
                return Err(Error::ModelRequired { collection, model });
            }
            (None, _) => {}
        }
        Ok(self.embedder.get())
    }

    pub(crate) fn has_model(&self) -> bool {
        self.config.model.is_some()
    }

    /// The default space. Every collection has one.
    pub(crate) fn space(&self) -> &SpaceSettings {
        &self.info.settings.spaces[0]
    }

    pub(crate) fn hybrid_weight(&self) -> f32 {
        self.config.model.as_ref().map_or(1.0, |spec| spec.hybrid_weight)
    }

    pub(crate) fn model_name(&self) -> &str {
        self.config.model.as_ref().map_or("external", |spec| spec.id.as_str())
    }

    /// Refuses vectors of other dimensions, and such as no metric can rank.
    pub(crate) fn validate_vector(&self, vector: &[f32], owner: &str) -> Result<()> {
        let expected = self.space().dims;
        if vector.len() != expected {
            return Err(Error::DimensionMismatch {
                collection: self.info.name.clone(),
                model: self.model_name().to_owned(),
                expected,
                got: vector.len(),
            });
        }
        Ok(self
            .space()
            .metric
            .validate(vector)
            .map_err(|reason| quiverdb_storage::Error::invalid(format!("{owner}: the vector {reason}")))?)
    }

    /// Takes a model for this collection if it makes the vectors that are stored.
    pub(crate) fn accept(&self, embedder: Arc<dyn Embedder>) -> Result<()> {
        let given = embedder.spec();
        let stored = self.config.model.as_ref();
        if let Some(difference) = embed::identity_difference(stored, given) {
            return Err(Error::ModelMismatch {
                collection: self.info.name.clone(),
                stored: self.model_name().to_owned(),
                given: given.id.clone(),
                difference,
            });
        }
        self.embedder.get_or_init(|| embedder);
        Ok(())
    }

    pub(crate) fn expect_external(&self, dims: usize) -> Result<()> {
        if let Some(spec) = &self.config.model {
            return Err(Error::ModelMismatch {
                collection: self.info.name.clone(),
                stored: spec.id.clone(),
                given: "external vectors".into(),
                difference: "the collection has a model".into(),
            });
        }
        if dims != self.space().dims {
            return Err(Error::DimensionMismatch {
                collection: self.info.name.clone(),
                model: "external".into(),
                expected: self.space().dims,
                got: dims,
            });
        }
        Ok(())
    }

    /// What is set explicitly must be what is stored.
    pub(crate) fn compare(&self, config: &CollectionConfig) -> Result<()> {
        let stored = &self.config;
        let language = self.info.settings.analyzer.language;
        self.compare_setting("chunk_tokens", config.chunk_tokens, stored.chunk_tokens)?;
        self.compare_setting("chunk_overlap", config.chunk_overlap, stored.chunk_overlap)?;
        self.compare_setting("chunker", config.chunker, stored.chunker)?;
        self.compare_setting("language", config.language, language)?;
        self.compare_setting("metric", config.metric, self.space().metric)
    }

    fn compare_setting<T: PartialEq + std::fmt::Debug>(&self, name: &str, given: Option<T>, stored: T) -> Result<()> {
        match given {
            Some(given) if given != stored => Err(Error::invalid(format!(
                "collection `{}` was made with {name} {stored:?}; got {given:?}. Leave it out, or make another collection",
                self.info.name
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// The collection in numbers. What the whole database takes on disk is counted by the caller, once for all.
    pub(crate) fn stats(&self, bytes_on_disk: u64) -> Result<CollectionStats> {
        let snapshot = self.store.snapshot(self.info.id)?;
        Ok(CollectionStats {
            name: self.info.name.clone(),
            documents: snapshot.documents(),
            chunks: snapshot.chunks(),
            segments: snapshot.segments(),
            bytes_on_disk,
            model: self.model_name().to_owned(),
            dims: self.space().dims,
        })
    }
}

/// The models that are open, by source; collections share one copy of the weights.
#[derive(Default)]
pub(crate) struct Models(Mutex<HashMap<String, Arc<dyn Embedder>>>);

impl Models {
    pub(crate) fn open(&self, source: &str) -> Result<Arc<dyn Embedder>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(embedder) = open.get(source) {
            return Ok(Arc::clone(embedder));
        }
        let embedder = embed::open(source)?;
        open.insert(source.to_owned(), Arc::clone(&embedder));
        Ok(embedder)
    }
}
