//! What is a collection made of? Its place in the store, its configuration, and its spaces.
//!
//! Invariants: there is always a default space; a further one is known by its name and never by its place, so that
//! spaces may come and go.

use std::sync::Arc;

use quiverdb_storage::{CollectionInfo, Store};

use crate::config::{CollectionConfig, DEFAULT_SPACE, StoredConfig};
use crate::spaces::{Models, Space};
use crate::types::{CollectionStats, SpaceStats};
use crate::{Error, Result};

/// What the recipes of ingest and query work on.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) info: CollectionInfo,
    pub(crate) config: StoredConfig,
    pub(crate) models: Arc<Models>,
    spaces: Vec<Space>,
    /// The place of the default space among them.
    default: usize,
}

impl Parts {
    /// The parts of a collection; no model is loaded yet.
    ///
    /// # Errors
    /// [`quiverdb_storage::Error::Corrupt`] where its configuration cannot be read.
    pub(crate) fn new(store: &Store, models: &Arc<Models>, info: CollectionInfo) -> Result<Self> {
        let corrupt = |what: String| {
            quiverdb_storage::Error::corrupt(format!("the configuration of collection `{}`", info.name), what)
        };
        let config: StoredConfig =
            serde_json::from_value(info.settings.application.clone()).map_err(|error| corrupt(error.to_string()))?;
        let mut spaces = Vec::with_capacity(info.settings.spaces.len());
        for (index, settings) in info.settings.spaces.iter().enumerate() {
            let stored = config.space(&settings.name);
            let stored = stored.ok_or_else(|| corrupt(format!("it says nothing of space `{}`", settings.name)))?;
            spaces.push(Space::new(&info.name, index, settings.clone(), stored.clone(), models));
        }
        let default = spaces.iter().position(Space::is_default);
        let default = default.ok_or_else(|| corrupt(format!("there is no space `{DEFAULT_SPACE}`")))?;
        Ok(Self { store: store.clone(), info, config, models: Arc::clone(models), spaces, default })
    }

    /// The default space.
    pub(crate) fn space(&self) -> &Space {
        &self.spaces[self.default]
    }

    /// All spaces, each at its index.
    pub(crate) fn spaces(&self) -> &[Space] {
        &self.spaces
    }

    /// All spaces but the default one.
    pub(crate) fn further_spaces(&self) -> impl Iterator<Item = &Space> {
        self.spaces.iter().filter(|space| !space.is_default())
    }

    /// The space of this name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], naming those there are.
    pub(crate) fn space_named(&self, name: &str) -> Result<&Space> {
        let found = self.spaces.iter().find(|space| space.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.spaces.iter().map(Space::name).collect();
            Error::invalid(format!(
                "collection `{}` has no space `{}`; it has `{}`. Spaces are chosen when a collection is made",
                self.info.name,
                name.escape_debug(),
                names.join("`, `")
            ))
        })
    }

    /// What is set explicitly must be what is stored. Models that are named are loaded.
    pub(crate) fn compare(&self, config: &CollectionConfig) -> Result<()> {
        let stored = &self.config;
        let language = self.info.settings.analyzer.language;
        self.compare_setting("chunk_tokens", config.chunk_tokens, stored.chunk_tokens)?;
        self.compare_setting("chunk_overlap", config.chunk_overlap, stored.chunk_overlap)?;
        self.compare_setting("chunker", config.chunker, stored.chunker)?;
        self.compare_setting("language", config.language, language)?;
        self.space().compare(&config.default)?;
        config.spaces.iter().try_for_each(|(name, space)| self.space_named(name)?.compare(space))
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
        let aliases = self.store.aliases()?.into_iter().filter(|(_, name)| *name == self.info.name);
        let aliases = aliases.map(|(alias, _)| alias).collect();
        Ok(CollectionStats {
            name: self.info.name.clone(),
            documents: snapshot.documents(),
            chunks: snapshot.chunks(),
            segments: snapshot.segments(),
            bytes_on_disk,
            model: self.space().model_name().to_owned(),
            dims: self.space().settings.dims,
            spaces: self.stats_of_spaces(),
            aliases,
            sealing_error: self.store.sealing_error(self.info.id),
        })
    }

    pub(crate) fn stats_of_spaces(&self) -> Vec<SpaceStats> {
        self.spaces.iter().map(Space::stats).collect()
    }
}
