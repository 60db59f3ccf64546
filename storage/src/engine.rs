//! How do many readers and one writer share a database?
//!
//! Writers take turns. A writer makes the next view of its collection *before* it commits, and lays it beside the present
//! one; a reader begins a transaction and takes whichever of the two bears that transaction's commit number. So no reader
//! ever waits for a writer, and none sees vectors and documents of different commits.
//!
//! Invariants: a slot is empty, or its newer view is that of the last commit; it is filled before the first write to its
//! collection; after a failed commit no write begins again on this handle, while reads go on as far as redb allows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{CompactionError, Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::codec::{CollectionRecord, Sequence};
use crate::error::engine;
use crate::load::load;
use crate::lock::Lock;
use crate::tables::{COLLECTIONS, META};
use crate::view::View;
use crate::{CollectionId, Error, Result, rows};

/// How often a reader that a writer overtakes begins again, before it loads a view of its own.
const ATTEMPTS_MAX: usize = 32;

/// An open database.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Locked for writing only while its file is made smaller.
    database: RwLock<Database>,
    folder: Option<PathBuf>,
    slots: Mutex<HashMap<u32, Arc<Slot>>>,
    /// Held by the writer; says why there is none any more.
    poison: Mutex<Option<String>>,
    /// Held while a segment is built.
    pub(crate) sealing: Mutex<()>,
    /// Whether the database is being closed, so that no segment need be finished.
    pub(crate) closing: Arc<AtomicBool>,
    /// Whether a segment could not be built again, so that it is not tried at every read.
    pub(crate) repair_failed: AtomicBool,
    // Last, so that the folder is free only when the file is closed.
    _lock: Option<Lock>,
}

/// The views of one collection.
#[derive(Debug, Default)]
struct Slot {
    loading: Mutex<()>,
    views: RwLock<Views>,
}

#[derive(Debug, Default)]
struct Views {
    published: Option<Arc<View>>,
    /// That of the commit in progress.
    pending: Option<Arc<View>>,
}

enum Found {
    View(Arc<View>),
    /// The transaction is older than the views: a commit went by since it began.
    Overtaken,
    Nothing,
}

impl Slot {
    fn find(&self, sequence: u64) -> Found {
        let views = self.views.read().unwrap_or_else(PoisonError::into_inner);
        let both = [&views.published, &views.pending];
        let matching = both.into_iter().flatten().find(|view| view.sequence == sequence);
        match (matching, &views.published) {
            (Some(view), _) => Found::View(Arc::clone(view)),
            (None, Some(published)) if published.sequence > sequence => Found::Overtaken,
            (None, Some(_) | None) => Found::Nothing,
        }
    }

    fn published(&self) -> Option<Arc<View>> {
        self.views.read().unwrap_or_else(PoisonError::into_inner).published.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Views)) {
        change(&mut self.views.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a reader needs: a transaction, the collection's record in it, and the view of the same commit, or the place and
/// kind of the damage that kept it from being loaded.
pub(crate) struct Pinned {
    pub(crate) transaction: ReadTransaction,
    pub(crate) record: CollectionRecord,
    pub(crate) view: std::result::Result<Arc<View>, Damage>,
}

/// Where something is damaged, and what.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    place: String,
    what: String,
}

impl Damage {
    pub(crate) fn error(&self) -> Error {
        Error::corrupt(self.place.clone(), self.what.clone())
    }
}

/// Keeps damage apart from other errors: it does not keep a reader from what is whole.
fn split_damage<T>(result: Result<T>) -> Result<std::result::Result<T, Damage>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Corrupt { place, what }) => Ok(Err(Damage { place, what })),
        Err(error) => Err(error),
    }
}

impl Engine {
    pub(crate) fn new(database: Database, folder: Option<PathBuf>, lock: Option<Lock>) -> Self {
        Self {
            database: RwLock::new(database),
            folder,
            slots: Mutex::default(),
            poison: Mutex::default(),
            sealing: Mutex::default(),
            closing: Arc::default(),
            repair_failed: AtomicBool::new(false),
            _lock: lock,
        }
    }

    /// The database's folder; `None` where it lives in memory.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTransaction> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).begin_read().map_err(engine)
    }

    /// Moves the pages of the file together and cuts it. Whoever begins a transaction meanwhile waits. Returns whether
    /// that was done: not where a snapshot is held.
    ///
    /// # Errors
    /// [`Error::Poisoned`]; whatever the disk says, after which no more writes are taken.
    pub(crate) fn shrink(&self) -> Result<bool> {
        let mut writer = self.writer()?;
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        match database.compact() {
            Ok(_) => Ok(true),
            Err(CompactionError::TransactionInProgress) => Ok(false),
            Err(error) => {
                let error = engine(error);
                *writer.poison = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn slot(&self, collection: u32) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(collection).or_default())
    }

    /// Lets go of a dropped collection's views.
    pub(crate) fn forget(&self, collection: u32) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&collection);
    }

    /// Begins to read a collection as it is now.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`]; whatever redb says. Damage to what the view is made of is part of the answer.
    pub(crate) fn pin(&self, collection: CollectionId) -> Result<Pinned> {
        for _ in 0..ATTEMPTS_MAX {
            let transaction = self.begin_read()?;
            let record = collection_record(&transaction, collection)?;
            let slot = self.slot(collection.0);
            match slot.find(record.sequence) {
                Found::View(view) => return Ok(Pinned { transaction, record, view: Ok(view) }),
                Found::Overtaken => {}
                Found::Nothing => {
                    if let Err(damage) = self.fill(&slot, collection)? {
                        return Ok(Pinned { transaction, record, view: Err(damage) });
                    }
                }
            }
        }
        let transaction = self.begin_read()?;
        let record = collection_record(&transaction, collection)?;
        let view = split_damage(load(&transaction, self.folder(), collection.0, &record))?;
        Ok(Pinned { transaction, record, view: view.map(Arc::new) })
    }

    /// Loads a collection's view, unless another thread has.
    fn fill(&self, slot: &Slot, collection: CollectionId) -> Result<std::result::Result<Arc<View>, Damage>> {
        let _loading = slot.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = slot.published() {
            return Ok(Ok(view));
        }
        let transaction = self.begin_read()?;
        let record = collection_record(&transaction, collection)?;
        let loaded = split_damage(load(&transaction, self.folder(), collection.0, &record))?;
        Ok(loaded.map(|view| {
            let view = Arc::new(view);
            slot.change(|views| views.published = Some(Arc::clone(&view)));
            view
        }))
    }

    /// The view of the last commit. Only the writer may take it for the last one for longer than a moment.
    ///
    /// # Errors
    /// As [`Engine::pin`]; [`Error::Corrupt`] where it cannot be loaded.
    pub(crate) fn current_view(&self, collection: CollectionId) -> Result<Arc<View>> {
        let transaction = self.begin_read()?;
        collection_record(&transaction, collection)?;
        self.fill(&self.slot(collection.0), collection)?.map_err(|damage| damage.error())
    }

    /// Waits for its turn to write.
    ///
    /// # Errors
    /// [`Error::Poisoned`] where an earlier write failed.
    pub(crate) fn writer(&self) -> Result<Writer<'_>> {
        let poison = self.poison.lock().unwrap_or_else(PoisonError::into_inner);
        match poison.as_ref() {
            Some(reason) => Err(Error::Poisoned(reason.clone())),
            None => Ok(Writer { engine: self, poison }),
        }
    }
}

/// The right to write.
pub(crate) struct Writer<'a> {
    engine: &'a Engine,
    poison: MutexGuard<'a, Option<String>>,
}

/// What a transaction comes to.
pub(crate) enum Outcome {
    /// There was nothing to write.
    Nothing,
    /// It is to be committed.
    Commit,
    /// It is to be committed, and this is what the collection then looks like.
    Publish(u32, Arc<View>),
}

impl Writer<'_> {
    /// Runs one write transaction: all of it happens, or nothing.
    ///
    /// # Errors
    /// Those of `work`, after which nothing has changed. Where the disk or redb fails, no more writes are taken.
    pub(crate) fn transact<T>(&mut self, work: impl FnOnce(&WriteTransaction) -> Result<(T, Outcome)>) -> Result<T> {
        let result = self.attempt(work);
        if let Err(error @ (Error::Io { .. } | Error::Engine(_))) = &result {
            *self.poison = Some(error.to_string());
        }
        result
    }

    fn attempt<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<(T, Outcome)>) -> Result<T> {
        let database = self.engine.database.read().unwrap_or_else(PoisonError::into_inner);
        let transaction = database.begin_write().map_err(engine)?;
        let (value, outcome) = work(&transaction)?;
        match outcome {
            Outcome::Nothing => transaction.abort().map_err(engine)?,
            Outcome::Commit => transaction.commit().map_err(commit_error)?,
            Outcome::Publish(collection, view) => {
                let slot = self.engine.slot(collection);
                slot.change(|views| views.pending = Some(Arc::clone(&view)));
                let committed = transaction.commit().map_err(commit_error);
                slot.change(|views| {
                    views.pending = None;
                    if committed.is_ok() {
                        views.published = Some(view);
                    }
                });
                committed?;
            }
        }
        Ok(value)
    }
}

/// Whatever redb calls it, a failed commit ends writing.
fn commit_error(error: redb::CommitError) -> Error {
    let error = engine(error);
    if let Error::Corrupt { place, what } = &error {
        return Error::Engine(format!("damaged data in {place}: {what}"));
    }
    error
}

/// The record of a collection.
///
/// # Errors
/// [`Error::UnknownCollection`] where it was dropped.
pub(crate) fn collection_record(transaction: &ReadTransaction, collection: CollectionId) -> Result<CollectionRecord> {
    let table = rows::open(transaction, COLLECTIONS)?;
    let found = rows::get_numbered(&table, COLLECTIONS, collection.0)?;
    found.ok_or_else(|| unknown(collection))
}

/// The error for a number whose collection was dropped.
pub(crate) fn unknown(collection: CollectionId) -> Error {
    Error::UnknownCollection(format!("number {}", collection.0))
}

/// Counts this commit and returns its number.
pub(crate) fn next_sequence(transaction: &WriteTransaction) -> Result<u64> {
    let mut meta = transaction.open_table(META).map_err(engine)?;
    let Sequence(last) = rows::get_named(&meta, META, "sequence")?
        .ok_or_else(|| Error::corrupt("table meta, key `sequence`", "it is missing"))?;
    rows::put_named(&mut meta, META, "sequence", &Sequence(last + 1))?;
    Ok(last + 1)
}
