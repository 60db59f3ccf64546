//! The front door in code: open a database, open a collection, add, search.
//!
//! Invariants: a [`Collection`] knows its model, and a model that would make other vectors is refused by name; every
//! handle is cheap to clone and may be shared between threads; reads run on snapshots and never wait for a write.

mod cited;
mod pages;
#[cfg(feature = "server")]
mod points;
mod versions;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quiverdb_storage::{
    AliasEdit, Alongside, AnalyzerSettings, CollectionInfo, CollectionSettings, Compacted, DocumentId, Filter,
    Language, Operation, Store, StoredDocument, TextQuery, validate_collection_name,
};
use rayon::prelude::*;
use serde_json::Value;

pub use self::versions::Version;
use crate::chunk::{OVERLAP_DEFAULT, TOKENS_MAX_DEFAULT};
use crate::config::{ChunkerKind, CollectionConfig, DEFAULT_SPACE, StoredConfig, validate_chunking};
use crate::context::{Context, ContextOptions};
use crate::embed::{Embedder, Embeddings, ModelSpec, Runtime};
use crate::export::{self, ExportOptions, ExportReport};
use crate::images::Image;
#[cfg(feature = "parquet")]
use crate::import::{self, ImportOptions, ImportReport};
use crate::ingest::{self, AddOptions, OwnVectors};
use crate::models::registry::Purpose;
use crate::models::{LoadHealth, MemoryLimits, ModelOptions};
use crate::moment;
use crate::parts::Parts;
use crate::query;
use crate::reembed::{self, ReembedOptions, ReembedReport};
use crate::rerank::Reranker;
use crate::spaces::{Models, NewSpace};
use crate::types::{AddReport, BackedUp, CacheStats, CollectionStats, Document, Query, Rejected, SearchResults};
use crate::{Error, Result};

/// Documents read at a time by a scan.
const SCAN_PAGE: usize = 256;

/// A database: a folder, or memory. One process writes to a folder at a time; a second gets a clear error.
#[derive(Clone)]
pub struct Database {
    store: Store,
    models: Arc<Models>,
}

impl Database {
    /// Opens the database in this folder, and makes one where there is none.
    ///
    /// # Errors
    /// [`Error::Storage`] where another process has it open, the folder cannot be written, or its data is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { store: Store::open(path.as_ref())?, models: Arc::default() })
    }

    /// A database that lives as long as its handles and touches no disk. It has no approximate index, because that lies in
    /// files: each search compares the query with all vectors, exactly, whatever effort it asks for. That takes time in
    /// proportion to them (10,000 of 256 dimensions: some 0.5 ms on two cores); for hundreds of thousands, open a folder.
    ///
    /// # Errors
    /// None in practice; the engine's own, should it fail to start.
    pub fn in_memory() -> Result<Self> {
        Ok(Self { store: Store::in_memory()?, models: Arc::default() })
    }

    /// The same database, whose models run so: on another device, or with the ONNX Runtime at this path. Call it before
    /// a collection is opened; those that are open keep their model as it is.
    #[must_use]
    pub fn with_runtime(self, runtime: Runtime) -> Self {
        Self { models: Arc::new(self.models.with_runtime(runtime)), ..self }
    }

    /// The same database, whose models are put to work so: warmed up when they are loaded, or with other limits for the
    /// texts of several callers. Call it before a collection is opened; those that are open keep their model as it is.
    #[must_use]
    pub fn with_model_options(self, options: ModelOptions) -> Self {
        Self { models: Arc::new(self.models.with_options(options)), ..self }
    }

    /// Loads a model by name, as a collection or [`Query::rerank`] would, and runs one query and one full batch with it, so
    /// that the first caller finds it warm. It stays in memory within [`Database::limit_models`], and counts from now on in
    /// [`Database::models`].
    ///
    /// # Errors
    /// Where it cannot be loaded or run.
    pub fn warm_up(&self, model: &str, purpose: Purpose) -> Result<()> {
        self.models.warm_up(model, purpose)
    }

    /// A model by its name, as a collection would load it: it is shared with those that use it, and counts in
    /// [`Database::models`].
    ///
    /// # Errors
    /// Where it cannot be loaded.
    pub fn embedder(&self, model: &str) -> Result<Arc<dyn Embedder>> {
        self.models.open(model)
    }

    /// A cross-encoder by its name, as [`Query::rerank`] would load it.
    ///
    /// # Errors
    /// Where it cannot be loaded.
    pub fn reranker(&self, model: &str) -> Result<Arc<dyn Reranker>> {
        self.models.reranker_named(model)
    }

    /// Opens a collection as it was built, or makes one with the built-in model. One that was built with an
    /// application's own model can be read, searched by text or by vector, and deleted from; what needs the model is
    /// answered with [`Error::ModelRequired`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a name that cannot be one.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        self.collection_with(name, CollectionConfig::new())
    }

    /// Opens a collection and compares it with this configuration, or makes one so configured.
    ///
    /// # Errors
    /// [`Error::ModelMismatch`] where the model differs from the one that the collection was built with;
    /// [`Error::InvalidInput`] where another setting does.
    pub fn collection_with(&self, name: &str, config: CollectionConfig) -> Result<Collection> {
        validate_collection_name(name)?;
        match self.store.collection(name)? {
            Some(info) => self.open_info(info, &config),
            None => self.create(name, &config),
        }
    }

    /// Opens a collection that must exist.
    ///
    /// # Errors
    /// [`quiverdb_storage::Error::UnknownCollection`] where it does not.
    pub fn open_collection(&self, name: &str) -> Result<Collection> {
        self.open_collection_with(name, CollectionConfig::new())
    }

    /// Opens a collection that must exist, and compares it with this configuration.
    ///
    /// # Errors
    /// As [`Database::open_collection`] and [`Database::collection_with`].
    pub fn open_collection_with(&self, name: &str, config: CollectionConfig) -> Result<Collection> {
        let unknown = || quiverdb_storage::Error::UnknownCollection(name.to_owned());
        let info = self.store.collection(name)?.ok_or_else(unknown)?;
        self.open_info(info, &config)
    }

    /// All collections in numbers, by name.
    ///
    /// # Errors
    /// [`Error::Storage`] where the database cannot be read.
    pub fn collections(&self) -> Result<Vec<CollectionStats>> {
        let bytes_on_disk = self.store.bytes_on_disk()?;
        let stats = |info| Arc::new(Parts::new(&self.store, &self.models, info)?).stats(bytes_on_disk);
        self.store.collections()?.into_iter().map(stats).collect()
    }

    /// Whether there is a collection of this name. Loads none.
    ///
    /// # Errors
    /// [`Error::Storage`] where the database cannot be read.
    pub fn has_collection(&self, name: &str) -> Result<bool> {
        Ok(self.store.collection(name)?.is_some())
    }

    /// Bounds the memory of models: those that nobody uses are dropped, and loaded again at their next use.
    pub fn limit_models(&self, limits: MemoryLimits) {
        self.models.limit(limits);
    }

    /// Every model that this database was asked for: whether it is in memory and where, what it takes, why it failed, how
    /// much it has done and how long its callers waited. An application's own models are not among them.
    pub fn models(&self) -> Vec<LoadHealth> {
        self.models.health()
    }

    /// Drops a collection with all it holds.
    ///
    /// # Errors
    /// [`quiverdb_storage::Error::UnknownCollection`] where there is none of this name;
    /// [`quiverdb_storage::Error::InvalidInput`] where an alias leads to it, or this is one.
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        Ok(self.store.drop_collection(name)?)
    }

    /// Has another name lead to a collection, wherever a collection is opened by name: make the next collection beside the
    /// present one, and switch the alias when it is ready. What was opened by the alias before keeps to the collection that
    /// it meant then.
    ///
    /// ```
    /// # fn main() -> quiverdb::Result<()> {
    /// use quiverdb::{AliasEdit, Database};
    ///
    /// let db = Database::in_memory()?;
    /// db.collection("notes-1")?;
    /// db.collection("notes-2")?;
    /// db.alias("notes", "notes-1")?;
    /// assert_eq!(db.open_collection("notes")?.name(), "notes-1");
    /// db.change_aliases(&[AliasEdit::set("notes", "notes-2"), AliasEdit::set("before", "notes-1")])?; // both, or none
    /// assert_eq!(db.open_collection("notes")?.name(), "notes-2");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Where there is no such collection, the alias is the name of one, or it cannot be a name.
    pub fn alias(&self, alias: &str, target: &str) -> Result<()> {
        self.change_aliases(&[AliasEdit::set(alias, target)])
    }

    /// Removes an alias; its collection stays.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn remove_alias(&self, alias: &str) -> Result<()> {
        self.change_aliases(&[AliasEdit::remove(alias)])
    }

    /// Sets, switches and removes aliases: all of them at once, or none.
    ///
    /// # Errors
    /// As [`Database::alias`] and [`Database::remove_alias`].
    pub fn change_aliases(&self, edits: &[AliasEdit]) -> Result<()> {
        Ok(self.store.change_aliases(edits)?)
    }

    /// All aliases, by name, each with its collection.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn aliases(&self) -> Result<Vec<(String, String)>> {
        Ok(self.store.aliases()?)
    }

    /// Gives a collection another name. Open handles stay valid, and aliases follow.
    ///
    /// # Errors
    /// Where `from` does not exist, `to` does, or `to` cannot be a name.
    pub fn rename_collection(&self, from: &str, to: &str) -> Result<()> {
        Ok(self.store.rename_collection(from, to)?)
    }

    /// Gives back what deleted and replaced documents take on disk: moves what lives together, makes one segment of each
    /// collection, and cuts the file. Embeds nothing. Reads and writes go on, but wait while the file is cut.
    ///
    /// # Errors
    /// Where the disk fails; every document is then as before.
    pub fn compact(&self) -> Result<Compacted> {
        Ok(self.store.compact()?)
    }

    /// How many bytes of vectors this database keeps of texts that its models read before
    /// ([`quiverdb_storage::CACHE_BYTES_MAX_DEFAULT`] unless told), so that the same passage is embedded once, whatever documents
    /// and collections it is in and however often it is imported. 0 turns that off. Vectors of the built-in kind of model,
    /// which computes as fast as this reads, and of models without a digest are not kept. Not stored: say it again after
    /// opening.
    pub fn set_embedding_cache(&self, bytes_max: u64) {
        self.store.set_cache_bytes_max(bytes_max);
    }

    /// What is kept of texts that models read before, in numbers.
    ///
    /// # Errors
    /// [`Error::Storage`] where the database cannot be read.
    pub fn embedding_cache(&self) -> Result<CacheStats> {
        Ok(self.store.cache_stats()?)
    }

    /// Forgets all of that. [`Database::compact`] then gives its room back.
    ///
    /// # Errors
    /// Where the disk fails; it is then as before.
    pub fn drop_embedding_cache(&self) -> Result<()> {
        Ok(self.store.drop_cache()?)
    }

    /// From now on this clock tells which documents have expired, in milliseconds since 1970-01-01 UTC, instead of the
    /// system's. For tests, and for those who have a better one.
    pub fn set_clock(&self, now: impl Fn() -> u64 + Send + Sync + 'static) {
        self.store.set_clock(Arc::new(now));
    }

    /// Copies the database as it is now into a folder that is empty or not there yet, while reads and writes go on. What this
    /// returns for is on disk and was read again. Vectors and segments are part of it, so nothing is embedded or built
    /// when it is restored; the cache of embeddings is not. A database in memory can be kept so, too.
    ///
    /// # Errors
    /// Where something is in the folder, a record is damaged, or a disk fails; nothing is left in the folder then.
    pub fn backup_to(&self, folder: impl AsRef<Path>) -> Result<BackedUp> {
        Ok(self.store.backup(folder.as_ref())?)
    }

    /// Makes a database of a backup, in a folder that has none; [`Database::open`] then opens it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use quiverdb::{Database, Document};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let (backup, restored) = (folder.path().join("backup"), folder.path().join("notes.db"));
    /// let db = Database::in_memory()?;
    /// db.collection("notes")?.add(Document::new(1, "Keep this."))?;
    /// assert_eq!(db.backup_to(&backup)?.documents, 1);
    /// Database::restore(&backup, &restored)?;
    /// assert_eq!(Database::open(&restored)?.open_collection("notes")?.count()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Where there is a database already; where the backup is unfinished, cut off or damaged, which is found before anything
    /// is written; where a disk fails.
    pub fn restore(backup: impl AsRef<Path>, folder: impl AsRef<Path>) -> Result<()> {
        Ok(Store::restore(backup.as_ref(), folder.as_ref())?)
    }

    /// As [`Database::restore`], in place of the database that is there, which must be closed. A crash meanwhile leaves the one
    /// or the other, whole.
    ///
    /// # Errors
    /// As [`Database::restore`]; where the database is open.
    pub fn restore_over(backup: impl AsRef<Path>, folder: impl AsRef<Path>) -> Result<()> {
        Ok(Store::restore_over(backup.as_ref(), folder.as_ref())?)
    }

    /// Checks every record and invariant; returns what is violated, one sentence each. Reads the whole database.
    ///
    /// # Errors
    /// Where the check itself cannot run.
    pub fn check(&self) -> Result<Vec<String>> {
        Ok(self.store.check()?)
    }

    /// [`Database::check`], with what was found so far where it is told to stop.
    #[cfg(feature = "server")]
    pub(crate) fn check_until(&self, stop: &std::sync::atomic::AtomicBool) -> Result<Vec<String>> {
        Ok(self.store.check_until(stop)?)
    }

    /// Builds segments again that are missing or damaged, as far as that is known: an open finds missing ones, a search
    /// what it touches, and [`Database::check`] everything. What they hold is in `data.redb`, so nothing is embedded.
    ///
    /// # Errors
    /// Where the disk fails, or `data.redb` itself is damaged.
    pub fn repair(&self) -> Result<()> {
        for info in self.store.collections()? {
            self.store.seal(info.id)?;
        }
        Ok(())
    }

    /// From now on each write ends the snapshots, scans among them, that are older than this, so that one that was forgotten
    /// does not make the file longer without end: what is read of them then is
    /// [`quiverdb_storage::Error::Expired`]. `None`, as at first, lets them live as long as they are held. Not stored.
    pub fn set_snapshot_age_max(&self, age_max: Option<Duration>) {
        self.store.set_snapshot_age_max(age_max);
    }

    /// The whole database as text, in a stable order.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn dump(&self) -> Result<String> {
        Ok(self.store.dump()?)
    }

    fn create(&self, name: &str, config: &CollectionConfig) -> Result<Collection> {
        let further = config.spaces.iter().map(|(name, space)| (name.as_str(), space));
        let spaces = std::iter::once((DEFAULT_SPACE, &config.default)).chain(further);
        let spaces: Vec<NewSpace> =
            spaces.map(|(name, space)| NewSpace::of(&self.models, name, space)).collect::<Result<_>>()?;
        let settings = settings_of(config, &spaces)?;
        let info = match self.store.create_collection(name, &settings) {
            // Another thread was faster: open what it made.
            Err(quiverdb_storage::Error::CollectionExists(_)) => return self.collection_with(name, config.clone()),
            other => other?,
        };
        let parts = Parts::new(&self.store, &self.models, info)?;
        for (space, new) in parts.spaces().iter().zip(spaces) {
            new.own_embedder().map_or(Ok(()), |embedder| space.accept(embedder))?;
        }
        Ok(Collection { parts: Arc::new(parts) })
    }

    fn open_info(&self, info: CollectionInfo, config: &CollectionConfig) -> Result<Collection> {
        let parts = Parts::new(&self.store, &self.models, info)?;
        parts.compare(config)?;
        parts.adopt_own()?;
        Ok(Collection { parts: Arc::new(parts) })
    }
}

fn settings_of(config: &CollectionConfig, spaces: &[NewSpace]) -> Result<CollectionSettings> {
    if config.spaces.iter().any(|(name, _)| name == DEFAULT_SPACE) {
        return Err(Error::invalid(format!(
            "`{DEFAULT_SPACE}` is the space that `model`, `embedder` and `external` describe; give the further space \
             another name"
        )));
    }
    // A chunk is read by every model.
    let limits = spaces.iter().filter_map(|space| space.stored.model.as_ref()).map(|spec| spec.max_tokens);
    let limit = limits.min().unwrap_or(usize::MAX);
    let chunk_tokens = config.chunk_tokens.unwrap_or(TOKENS_MAX_DEFAULT.min(limit));
    let chunk_overlap = config.chunk_overlap.unwrap_or(OVERLAP_DEFAULT.min(chunk_tokens / 4));
    validate_chunking(chunk_tokens, chunk_overlap, limit)?;
    let (default, further) = spaces.split_first().ok_or_else(|| Error::invalid("a collection needs a vector space"))?;
    let stored = StoredConfig {
        default: default.stored.clone(),
        chunk_tokens,
        chunk_overlap,
        chunker: config.chunker.unwrap_or(ChunkerKind::Auto),
        spaces: further.iter().map(|space| (space.settings.name.clone(), space.stored.clone())).collect(),
    };
    let analyzer = AnalyzerSettings { language: config.language.unwrap_or_default(), ..AnalyzerSettings::default() };
    let application = serde_json::to_value(&stored).map_err(|error| Error::invalid(error.to_string()))?;
    let spaces = spaces.iter().map(|space| space.settings.clone()).collect();
    Ok(CollectionSettings { analyzer, spaces, application })
}

/// A named set of documents with one model. Cheap to clone; shared between threads.
#[derive(Clone)]
pub struct Collection {
    parts: Arc<Parts>,
}

impl Collection {
    #[cfg(test)]
    pub(crate) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// What it is made of now. Where that cannot be read, what it was made of: whatever is asked of that tells why.
    fn current(&self) -> &Arc<Parts> {
        self.parts.current().unwrap_or(&self.parts)
    }

    /// What no other collection of this database is or will be called, whatever the names.
    #[cfg(feature = "server")]
    pub(crate) fn number(&self) -> u32 {
        self.current().info.id.0
    }

    /// Its name when it was opened; that of the collection itself, where it was opened by an alias.
    pub fn name(&self) -> &str {
        &self.parts.info.name
    }

    /// The model that it was built with, or last made anew with ([`Collection::reembed`]); `None` where vectors are
    /// external.
    pub fn model(&self) -> Option<&ModelSpec> {
        self.current().space().spec()
    }

    /// The model of one of its spaces; `None` where vectors are external.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where there is no such space, naming those there are.
    pub fn model_of(&self, space: &str) -> Result<Option<&ModelSpec>> {
        Ok(self.current().space_named(space)?.spec())
    }

    /// The vectors that its model makes of pictures, in their order: for [`Document::vector`]. A query with a picture needs
    /// none of this ([`Query::image`]).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the model reads no images, or vectors are external; [`Error::Embedding`] where it fails.
    pub fn embed_images(&self, images: &[Image]) -> Result<Embeddings> {
        let space = self.parts.space();
        let none = || Error::invalid(format!("{} has no model that could read images", space.called()));
        space.embedder()?.ok_or_else(none)?.embed_images(images)
    }

    /// The whole stored configuration.
    pub fn describe(&self) -> Value {
        let parts = self.current();
        let mut described = serde_json::json!({
            "name": self.parts.info.name,
            "analyzer": parts.info.settings.analyzer,
            "spaces": parts.stats_of_spaces(),
            "configuration": parts.info.settings.application,
        });
        // A database that cannot be read says so to whoever asks it for more than this.
        if let Ok(Some(_)) = parts.shadow()
            && let Ok(Some(status)) = self.count().and_then(|documents| parts.reembedding(documents))
        {
            described["reembedding"] = serde_json::json!(status);
        }
        described
    }

    /// Makes the collection anew with another model, other dimensions or other chunks, while it is in use. Searches are
    /// answered as before until the moment of the swap, and by the new model from then on, in all handles; documents that
    /// are added, replaced or deleted meanwhile are so in both. Where this is stopped, or the process dies, nothing is
    /// lost: called again with the same options, or with none, it goes on. Where the collection is as asked for, nothing
    /// happens.
    ///
    /// What comes out is what adding all documents to a fresh collection of that configuration would give. Vectors that
    /// documents brought for a space that is made anew give way to the model's.
    ///
    /// Cost: all chunks are embedded but those that the same model has read as they are, and all is indexed again; until
    /// the old vectors are gone, both take their room on disk. Whoever writes waits for the swap: some ten documents'
    /// embedding.
    ///
    /// ```
    /// # fn main() -> quiverdb::Result<()> {
    /// # let db = quiverdb::Database::in_memory()?;
    /// # let notes = db.collection("notes")?;
    /// # notes.add(quiverdb::Document::new(1, "A value can be borrowed."))?;
    /// use quiverdb::ReembedOptions;
    ///
    /// let report = notes.reembed(&ReembedOptions::new().model("builtin").dimensions(64))?;
    /// assert_eq!((report.dims, report.chunks_embedded), (64, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where nothing is asked for, an unfinished one asks for something else, or another thread is
    /// at it; [`Error::Model`] and [`Error::Embedding`], where a document cannot be embedded with its id;
    /// [`Error::Storage`]. What was done stays done.
    pub fn reembed(&self, options: &ReembedOptions<'_>) -> Result<ReembedReport> {
        reembed::run(&self.parts, options)
    }

    /// Drops what an unfinished [`Collection::reembed`] made; says whether there was one. The collection stays as it is.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn abort_reembed(&self) -> Result<bool> {
        reembed::abort(&self.parts)
    }

    /// Adds a document, or replaces the one of the same id. When this returns, the document is chunked, embedded,
    /// durable and searchable; where it fails, nothing happened. Costs one transaction: for many documents use
    /// [`Collection::add_many`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] and [`Error::DimensionMismatch`] for a document that cannot be taken,
    /// [`Error::Embedding`] where the model fails, [`Error::Storage`] where the disk does.
    pub fn add(&self, document: Document) -> Result<AddReport> {
        ingest::add_one(&self.parts, document)
    }

    /// Adds many documents in batches, each one transaction. Documents that cannot be taken are listed in the report
    /// and the rest goes on.
    ///
    /// # Errors
    /// Where the disk fails; what was committed before stays. That a segment cannot be built is an error only once 384 MiB
    /// of vectors are in memory for want of it.
    pub fn add_many(&self, documents: impl IntoIterator<Item = Document>) -> Result<AddReport> {
        self.add_with(documents.into_iter().map(Ok), &AddOptions::default())
    }

    /// Imports a file of rows: Parquet, Arrow IPC (file or stream), CSV, or JSON Lines, the last two also compressed with gzip
    /// or Zstandard. Each row is a document; [`ImportOptions::map`] says which column is its id, its text, its vector, and
    /// every other column is metadata with its type. A row without an id is called after its file and number: `rows.csv#7`;
    /// such rows of another file of that name are refused while the first one is there.
    ///
    /// With each batch the position is committed, so that each row gets in exactly once: an import that was killed goes on
    /// behind the last row that is in, a finished one does nothing, and a file that has changed (another size, time of
    /// change, first or last 64 KiB, or another map) is read again, of which only what differs is embedded. Rows that it
    /// no longer has stay. The report counts all runs of a file together.
    ///
    /// Memory does not grow with the file: batches of a few mebibytes are decoded at a time. Refused are pages and record
    /// batches of more than 256 and 384 MiB, and lines of more than 32 MiB.
    ///
    /// ```
    /// # fn main() -> quiverdb::Result<()> {
    /// use quiverdb::formats::columns::ColumnMap;
    /// use quiverdb::{Database, ImportOptions};
    ///
    /// let file = std::env::temp_dir().join(format!("quiverdb-import-{}.csv", std::process::id()));
    /// std::fs::write(&file, "doc_id;body;year\nferris;A crab that likes memory safety.;2015\n").unwrap();
    /// let notes = Database::in_memory()?.collection("notes")?;
    /// let options = ImportOptions { map: ColumnMap::parse("id=doc_id,text=body")?, ..ImportOptions::default() };
    /// let imported = notes.import(&file, &options)?;
    /// assert_eq!((imported.rows, imported.report.added), (1, 1));
    /// assert_eq!(notes.get("ferris")?.unwrap().metadata["year"], 2015);
    /// assert!(notes.import(&file, &options)?.already_imported);
    /// # std::fs::remove_file(&file).unwrap();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a file that is damaged or of another kind (the rows before the damage are in), for a mapped
    /// column that is missing, and where more rows are rejected than allowed; else as [`Collection::add_many`].
    #[cfg(feature = "parquet")]
    pub fn import(&self, path: impl AsRef<Path>, options: &ImportOptions<'_>) -> Result<ImportReport> {
        crate::import::import(&self.parts, path.as_ref(), options)
    }

    /// [`Collection::import`] of a file whose columns have their usual names: `id`, `text`, `title`, `vector`.
    ///
    /// # Errors
    /// As [`Collection::import`].
    #[cfg(feature = "parquet")]
    pub fn import_parquet(&self, path: impl AsRef<Path>) -> Result<ImportReport> {
        self.import(path, &ImportOptions::default())
    }

    /// [`Collection::add_many`] with progress, cancellation or as a dry run, for sources that may reject rows
    /// themselves.
    ///
    /// # Errors
    /// As [`Collection::add_many`].
    pub fn add_with(
        &self,
        documents: impl IntoIterator<Item = std::result::Result<Document, Rejected>>,
        options: &AddOptions<'_>,
    ) -> Result<AddReport> {
        ingest::add(&self.parts, documents, options)
    }

    /// Deletes a document; says whether it was there.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn delete(&self, id: impl Into<DocumentId>) -> Result<bool> {
        Ok(self.delete_many(&[id.into()])? == 1)
    }

    /// Deletes documents in one transaction; returns how many there were.
    ///
    /// # Errors
    /// Where the disk fails; then none is deleted.
    pub fn delete_many(&self, ids: &[DocumentId]) -> Result<u64> {
        let operations: Vec<Operation> = ids.iter().cloned().map(Operation::Delete).collect();
        Ok(ingest::write(self.parts.current()?, &operations, &Alongside::default())?.removed)
    }

    /// Deletes every document that matches; returns how many.
    ///
    /// # Errors
    /// Where the disk fails; then none is deleted.
    pub fn delete_matching(&self, filter: &Filter) -> Result<u64> {
        let mut parts = self.parts.current()?;
        loop {
            match (parts.store.matching_documents(parts.info.id, filter), parts) {
                (Ok(ids), _) => return self.delete_many(&ids),
                (Err(error), lost) => parts = lost.after(error)?,
            }
        }
    }

    /// Removes what has expired from the disk; returns how many documents. Nothing finds them anyhow, and each add removes up
    /// to 1,024; so this is for collections that are no longer added to.
    ///
    /// # Errors
    /// Where the disk fails; what is not removed stays hidden.
    pub fn sweep(&self) -> Result<u64> {
        let mut parts = self.parts.current()?;
        loop {
            match (parts.store.sweep(parts.info.id), parts) {
                (Ok(removed), _) => return Ok(removed),
                (Err(error), lost) => parts = lost.after(error)?,
            }
        }
    }

    /// A document as it was given, or `None`.
    ///
    /// # Errors
    /// [`Error::Storage`] where its bytes are damaged.
    pub fn get(&self, id: impl Into<DocumentId>) -> Result<Option<Document>> {
        self.snapshot()?.get(id)
    }

    /// All ids, in order.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn ids(&self) -> Result<Vec<DocumentId>> {
        self.snapshot()?.ids()
    }

    /// All documents in order of id, read page by page from one snapshot.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn scan(&self) -> Result<impl Iterator<Item = Result<Document>>> {
        Ok(Scan { snapshot: self.snapshot()?, page: Vec::new().into_iter(), last: None, done: false })
    }

    /// Writes the documents or their chunks into a file, as they are now: Parquet, Arrow, CSV or JSON Lines by its name. What
    /// is written comes back equal by an import, and with [`ExportOptions::vectors`] nothing has to be embedded for it; of CSV
    /// a document with neither text nor vector does not come back, nor does a blank title. The file is there as a whole or not
    /// at all.
    ///
    /// Cost: tables read every document twice; memory is bounded by a row group of 64 MiB and the largest document.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the file is there already, its folder is not, or its name says no format;
    /// [`Error::FeatureMissing`] for tables without the feature `parquet`; [`Error::Io`] where the disk fails.
    pub fn export(&self, path: impl AsRef<Path>, options: &ExportOptions<'_>) -> Result<ExportReport> {
        self.snapshot()?.export(path, options)
    }

    /// The number of documents.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn count(&self) -> Result<u64> {
        Ok(self.snapshot()?.count())
    }

    /// The collection in numbers.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn stats(&self) -> Result<CollectionStats> {
        self.parts.stats(self.parts.store.bytes_on_disk()?)
    }

    /// Answers a query.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a query that cannot be answered, [`Error::Embedding`] where the model fails.
    pub fn search(&self, query: Query) -> Result<SearchResults> {
        self.snapshot()?.search(query)
    }

    /// Answers many queries in parallel, all on the same snapshot, in their order.
    ///
    /// # Errors
    /// The first error of any of them.
    pub fn search_many(&self, queries: Vec<Query>) -> Result<Vec<SearchResults>> {
        let snapshot = self.snapshot()?;
        queries.into_par_iter().map(|query| snapshot.search(query)).collect()
    }

    /// A consistent, repeatable view of the collection as it is now.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let (parts, inner) = self.parts.pinned()?;
        Ok(Snapshot { parts: Arc::clone(parts), inner })
    }

    /// The byte ranges of `text` whose words the text leg matches with `query`.
    pub fn highlights(&self, query: &str, text: &str) -> Vec<Range<usize>> {
        quiverdb_storage::highlights(&self.parts.info.settings.analyzer, query, text)
    }

    /// Searches, and puts the best passages into a context for a language model: best first, none twice, those that
    /// overlap or touch joined, each cited by its document and bytes, within a budget of tokens.
    ///
    /// ```
    /// use quiverdb::context::{ContextFormat, ContextOptions};
    /// use quiverdb::{Database, Document, Query};
    ///
    /// let notes = Database::in_memory()?.collection("notes")?;
    /// notes.add(Document::new("rust-book", "A value can be borrowed many times for reading."))?;
    /// let options = ContextOptions::new(500).format(ContextFormat::Xml).neighbours(1);
    /// let context = notes.context(Query::text("how does borrowing work?").limit(8), &options)?;
    /// assert_eq!(context.citations[0].document, "rust-book");
    /// assert!(context.tokens <= 500);
    /// # Ok::<(), quiverdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Collection::search`].
    pub fn context(&self, query: Query, options: &ContextOptions) -> Result<Context> {
        self.snapshot()?.context(query, options)
    }

    /// The byte ranges of `text` whose words answer `query`, which is read in the query syntax; see [`Query::syntax`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the query is not of the syntax.
    pub fn syntax_highlights(&self, query: &str, text: &str) -> Result<Vec<Range<usize>>> {
        let query = TextQuery::parse(query)?;
        Ok(quiverdb_storage::syntax_highlights(&self.parts.info.settings.analyzer, &query, text))
    }

    /// The language of the text analyser.
    pub fn language(&self) -> Language {
        self.parts.info.settings.analyzer.language
    }
}

/// A collection as it was at one moment: later writes do not show. It pins the old data, so do not keep it for long.
#[derive(Clone)]
pub struct Snapshot {
    parts: Arc<Parts>,
    inner: quiverdb_storage::Snapshot,
}

impl Snapshot {
    /// As [`Collection::search`].
    ///
    /// # Errors
    /// As [`Collection::search`].
    pub fn search(&self, query: Query) -> Result<SearchResults> {
        query::search(&self.parts, &self.inner, &query)
    }

    /// As [`Collection::context`].
    ///
    /// # Errors
    /// As [`Collection::search`].
    pub fn context(&self, query: Query, options: &ContextOptions) -> Result<Context> {
        Ok(cited::context_of(&self.parts, &self.inner, &query, options, &|| false)?.0)
    }

    /// [`Snapshot::context`], which is cut short where it is told to stop, and how long its search took.
    #[cfg(feature = "server")]
    pub(crate) fn context_until(
        &self,
        query: &Query,
        options: &ContextOptions,
        stop: &std::sync::atomic::AtomicBool,
    ) -> Result<(Context, crate::types::Timings)> {
        let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
        cited::context_of(&self.parts, &self.inner, query, options, &stopped)
    }

    /// As [`Collection::get`].
    ///
    /// # Errors
    /// As [`Collection::get`].
    pub fn get(&self, id: impl Into<DocumentId>) -> Result<Option<Document>> {
        self.inner.document(&id.into())?.map(|stored| self.restored(stored)).transpose()
    }

    /// As [`Collection::ids`].
    ///
    /// # Errors
    /// As [`Collection::ids`].
    pub fn ids(&self) -> Result<Vec<DocumentId>> {
        Ok(self.inner.ids()?)
    }

    /// As [`Collection::export`].
    ///
    /// # Errors
    /// As [`Collection::export`].
    pub fn export(&self, path: impl AsRef<Path>, options: &ExportOptions<'_>) -> Result<ExportReport> {
        export::to_file(&self.parts, &self.inner, path.as_ref(), &self.recorded_types()?, options)
    }

    /// As [`Collection::export`], into a stream: JSON Lines unless the options name another format.
    ///
    /// # Errors
    /// As [`Collection::export`].
    pub fn export_to(&self, out: impl Write + Send, options: &ExportOptions<'_>) -> Result<ExportReport> {
        export::to_writer(&self.parts, &self.inner, out, &self.recorded_types()?, options)
    }

    /// The types that columns of metadata had when they were imported.
    fn recorded_types(&self) -> Result<BTreeMap<String, String>> {
        #[cfg(feature = "parquet")]
        return import::recorded_types(&self.parts);
        #[cfg(not(feature = "parquet"))]
        Ok(BTreeMap::new())
    }

    /// Up to `chunks_max` passages, each as `keep` makes it, with their vectors in a space; see [`query::sample::take`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where there is no such space; [`Error::Storage`] where a record is damaged.
    #[cfg(feature = "server")]
    pub(crate) fn sample<T>(
        &self,
        space: Option<&str>,
        chunks_max: usize,
        stop: &std::sync::atomic::AtomicBool,
        keep: impl Fn(quiverdb_storage::HydratedChunk) -> T,
    ) -> Result<query::sample::Sample<T>> {
        query::sample::take(&self.parts, &self.inner, space, chunks_max, stop, keep)
    }

    /// What so many documents behind this one are called, in order of their ids. Reads no text.
    #[cfg(feature = "mcp")]
    pub(crate) fn heads_after(
        &self,
        last: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<quiverdb_storage::DocumentHead>> {
        Ok(self.inner.scan_heads(last, limit)?)
    }

    /// As [`Collection::count`].
    pub fn count(&self) -> u64 {
        self.inner.documents()
    }

    /// The document as it was given: the models' vectors are no part of it, its own are.
    fn restored(&self, stored: StoredDocument) -> Result<Document> {
        let OwnVectors { vector, vectors } = ingest::own_vectors(&self.parts, &self.inner, &stored)?;
        let StoredDocument { id, title, text, metadata, expires_at, .. } = stored;
        let expires_at = expires_at.and_then(moment::of_millis);
        Ok(Document { id, text, title, metadata: Value::Object(metadata), vector, vectors, expires_at, embedded: None })
    }
}

struct Scan {
    snapshot: Snapshot,
    page: std::vec::IntoIter<StoredDocument>,
    last: Option<DocumentId>,
    done: bool,
}

impl Iterator for Scan {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.as_slice().is_empty() && !self.done {
            match self.snapshot.inner.scan(self.last.as_ref(), SCAN_PAGE) {
                Ok(page) => {
                    self.done = page.len() < SCAN_PAGE;
                    self.page = page.into_iter();
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error.into()));
                }
            }
        }
        let document = self.page.next()?;
        self.last = Some(document.id.clone());
        Some(self.snapshot.restored(document))
    }
}
