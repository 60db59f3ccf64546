//! What is a collection made of? Its place in the store, its configuration, and its spaces.
//!
//! Invariants: there is always a default space; a further one is known by its name and never by its place, so that
//! spaces may come and go. Parts never change: a collection that was made anew has others, to which the old ones lead, so
//! whoever took parts and a snapshot together never sees the vectors of one model with the queries of another.

use std::sync::{Arc, OnceLock};

use quiverdb_storage::{CollectionInfo, Shadow, Snapshot, Store};

use crate::config::{CollectionConfig, DEFAULT_SPACE, StoredConfig};
use crate::spaces::{Models, Space};
use crate::types::{CollectionStats, ReembedStatus, SpaceStats};
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
    /// Those of the collection that took this one's place.
    next: OnceLock<Arc<Self>>,
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
        let next = OnceLock::new();
        Ok(Self { store: store.clone(), info, config, models: Arc::clone(models), spaces, default, next })
    }

    /// The parts of the collection as it is now: these, or those of the one that took its place.
    pub(crate) fn current(self: &Arc<Self>) -> Result<&Arc<Self>> {
        let mut parts = self;
        while let Some(next) = parts.next_of(parts.store.successor(parts.info.id))? {
            parts = next;
        }
        Ok(parts)
    }

    /// The collection as it is now, and what it is made of.
    ///
    /// # Errors
    /// As [`Store::snapshot`].
    pub(crate) fn pinned(self: &Arc<Self>) -> Result<(&Arc<Self>, Snapshot)> {
        let mut parts = self.current()?;
        loop {
            match (parts.store.snapshot(parts.info.id), parts) {
                (Ok(snapshot), parts) => return Ok((parts, snapshot)),
                (Err(error), lost) => parts = lost.after(error)?,
            }
        }
    }

    /// What the ledger of the collection as it is now says under this key.
    ///
    /// # Errors
    /// As [`Store::ledger`].
    #[cfg(feature = "parquet")]
    pub(crate) fn ledger(self: &Arc<Self>, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut parts = self.current()?;
        loop {
            match (parts.store.ledger(parts.info.id, key), parts) {
                (Ok(value), _) => return Ok(value),
                (Err(error), lost) => parts = lost.after(error)?,
            }
        }
    }

    /// The parts of the collection that took this one's place, where this error tells of that; else the error.
    pub(crate) fn after(&self, error: quiverdb_storage::Error) -> Result<&Arc<Self>> {
        if !matches!(error, quiverdb_storage::Error::UnknownCollection(_)) {
            return Err(error.into());
        }
        self.next_of(self.store.successor_of_lost(self.info.id))?.ok_or_else(|| error.into())
    }

    fn next_of(&self, successor: Option<quiverdb_storage::CollectionId>) -> Result<Option<&Arc<Self>>> {
        if let Some(next) = self.next.get() {
            return Ok(Some(next));
        }
        let Some(successor) = successor else { return Ok(None) };
        let info = match self.store.collection_info(successor) {
            // That one was dropped or replaced, too; whoever asks for it learns which.
            Err(quiverdb_storage::Error::UnknownCollection(_)) => return self.next_after(successor),
            info => info?,
        };
        let next = Self::new(&self.store, &self.models, info)?;
        next.inherit(self)?;
        Ok(Some(self.next.get_or_init(|| Arc::new(next))))
    }

    /// Where a collection was made anew twice before somebody looked.
    fn next_after(&self, successor: quiverdb_storage::CollectionId) -> Result<Option<&Arc<Self>>> {
        self.next_of(self.store.successor_of_lost(successor))
    }

    /// Takes over the application's own models: those that the earlier collection was opened with, where the space is
    /// the same, and those that this one was made with.
    pub(crate) fn inherit(&self, earlier: &Self) -> Result<()> {
        self.adopt_own()?;
        for space in &self.spaces {
            earlier.spaces.iter().for_each(|earlier| space.inherit(earlier));
        }
        Ok(())
    }

    /// Takes the application's own models that this collection was made anew with since the database was opened, where it
    /// was not opened with others.
    pub(crate) fn adopt_own(&self) -> Result<()> {
        for space in &self.spaces {
            self.models.own_of(self.info.id, space.name()).map_or(Ok(()), |embedder| space.accept(embedder))?;
        }
        Ok(())
    }

    /// The collection that is being filled to take this one's place.
    pub(crate) fn shadow(&self) -> Result<Option<Shadow>> {
        Ok(self.store.shadow(self.info.id)?)
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
                "collection `{}` was made with {name} {stored:?}; got {given:?}. Leave it out, or {}",
                self.info.name,
                if name == "language" { "make another collection" } else { "change it with `reembed`" }
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// The collection in numbers. What the whole database takes on disk is counted by the caller, once for all.
    pub(crate) fn stats(self: &Arc<Self>, bytes_on_disk: u64) -> Result<CollectionStats> {
        let (parts, snapshot) = self.pinned()?;
        parts.stats_of(&snapshot, bytes_on_disk)
    }

    fn stats_of(&self, snapshot: &Snapshot, bytes_on_disk: u64) -> Result<CollectionStats> {
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
            reembedding: self.reembedding(snapshot.documents())?,
        })
    }

    /// How far the collection is that is being filled to take this one's place.
    pub(crate) fn reembedding(&self, documents_total: u64) -> Result<Option<ReembedStatus>> {
        let Some(Shadow { info, documents, .. }) = self.shadow()? else { return Ok(None) };
        let parts = Self::new(&self.store, &self.models, info)?;
        Ok(Some(ReembedStatus {
            spaces: parts.stats_of_spaces(),
            chunk_tokens: parts.config.chunk_tokens,
            documents,
            documents_total,
        }))
    }

    pub(crate) fn stats_of_spaces(&self) -> Vec<SpaceStats> {
        self.spaces.iter().map(Space::stats).collect()
    }
}
