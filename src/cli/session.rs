//! Which database is meant, and may it be made?
//!
//! Invariant: a verb that only reads never creates anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use quiverdb::embed::Runtime;
use quiverdb::{Collection, CollectionConfig, Database, Embedder, embed};

use super::output::Output;

/// What every verb works with.
pub(crate) struct Session {
    /// The database's folder, as the user gave it.
    pub(crate) path: PathBuf,
    /// Whether it was given on the command line, and not by the environment or by default.
    pub(crate) path_is_given: bool,
    /// Where and how results are shown.
    pub(crate) output: Output,
    /// How models run.
    pub(crate) runtime: Runtime,
    /// The bytes of vectors that are kept of texts that models read before, where the user said so.
    pub(crate) embedding_cache: Option<u64>,
}

impl Session {
    /// Opens the database, which must exist.
    pub(crate) fn existing(&self) -> Result<Database> {
        if !self.is_there() {
            let message = format!("there is no database at {}", self.path.display());
            return Err(Mistake::new(message)
                .hint("`quiver add PATH` makes one, `--db DIR` or QUIVER_DB names another")
                .into());
        }
        self.open()
    }

    fn open(&self) -> Result<Database> {
        let database = Database::open(&self.path)?.with_runtime(self.runtime.clone());
        self.embedding_cache.into_iter().for_each(|bytes| database.set_embedding_cache(bytes));
        Ok(database)
    }

    /// Opens a model.
    pub(crate) fn model(&self, name: &str) -> Result<Arc<dyn Embedder>> {
        Ok(embed::open_with(name, &self.runtime)?)
    }

    /// Opens the database, or makes an empty one, for a server: it fetches no model.
    #[cfg(any(feature = "mcp", feature = "server"))]
    pub(crate) fn for_server(&self) -> Result<Database> {
        Ok(self.open()?.with_runtime(self.runtime.clone().offline()))
    }

    /// The folder alone says nothing: a database is one that holds the data file.
    /// One that may not be looked into is there as well: opening it says why.
    pub(crate) fn is_there(&self) -> bool {
        match std::fs::metadata(self.path.join("data.redb")) {
            Ok(metadata) => metadata.is_file(),
            Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }

    /// Opens the database, or makes it for such a collection, but not before it is known that there can be one.
    pub(crate) fn existing_or_new(&self, name: &str, config: &CollectionConfig) -> Result<Database> {
        if !self.is_there() {
            Database::in_memory()?.with_runtime(self.runtime.clone()).collection_with(name, config.clone())?;
        }
        self.open()
    }

    /// Opens a collection that must exist, of a database that must exist.
    pub(crate) fn collection(&self, name: &str) -> Result<Collection> {
        self.collection_of(name, None)
    }

    /// [`Session::collection`], whose model must be the one that the user named.
    pub(crate) fn collection_of(&self, name: &str, model: Option<&str>) -> Result<Collection> {
        let database = self.existing()?;
        if database.has_collection(name)? {
            return Ok(database.open_collection_with(name, config(model))?);
        }
        let message = format!("there is no collection `{name}` in {}", self.path.display());
        Err(Mistake::new(message).hint(format!("it has {}", names(&database)?)).into())
    }

    /// Whether there is such a collection; makes nothing.
    pub(crate) fn has_collection(&self, name: &str) -> Result<bool> {
        Ok(self.is_there() && self.existing()?.has_collection(name)?)
    }

    /// Opens a collection, or makes it; the model is given only where the user named one.
    pub(crate) fn collection_or_new(&self, name: &str, model: Option<&str>) -> Result<Collection> {
        let config = config(model);
        Ok(self.existing_or_new(name, &config)?.collection_with(name, config)?)
    }
}

fn config(model: Option<&str>) -> CollectionConfig {
    match model {
        Some(model) => CollectionConfig::new().model(model),
        None => CollectionConfig::new(),
    }
}

fn names(database: &Database) -> Result<String> {
    let names: Vec<String> =
        database.collections()?.into_iter().map(|collection| format!("`{}`", collection.name)).collect();
    Ok(if names.is_empty() { "none yet: `quiver add PATH` makes one".into() } else { names.join(", ") })
}

/// Refuses what would replace a file unasked, with the option that allows it.
pub(crate) fn expect_none(path: &Path) -> Result<(), Mistake> {
    if path.is_file() {
        return Err(Mistake::new(format!("{} is there already", path.display())).hint("--overwrite replaces it"));
    }
    Ok(())
}

/// How a verb that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All done.
    Done,
    /// Stopped by Ctrl-C after the batch at hand; what was committed stays.
    Interrupted,
    /// The database is damaged.
    Damaged,
    /// Some documents were rejected, the rest is in.
    Partly,
}

impl Outcome {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Interrupted => 1,
            Self::Damaged => 3,
            Self::Partly => 4,
        }
    }
}

/// Something that the caller can put right.
#[derive(Debug)]
pub(crate) struct Mistake {
    message: String,
    /// What would help.
    pub(crate) hint: Option<String>,
}

impl Mistake {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}
