//! How do many readers and one writer share a database?
//!
//! Writers take turns. A writer makes the next view of its collection *before* it commits, and lays it beside the present
//! one; a reader begins a transaction and takes whichever of the two bears that transaction's commit number. So no reader
//! ever waits for a writer, and none sees vectors and documents of different commits.
//!
//! When the disk fails, `handle` opens the file again, at once where a commit failed and else before the next operation;
//! views stay where the file holds the commit that they are of.
//!
//! Invariants: a slot is empty, or its newer view is that of the last commit; it is filled before the first write to its
//! collection; a failed commit is looked for in the file before its outcome is told. Locks are taken in the order sealing,
//! turn, loading; whoever has one of the latter two waits for none before it. Whoever has that of the background thread's
//! handle waits for none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::cache::Cache;
use crate::clock::Clock;
use crate::codec::{CollectionRecord, Sequence};
use crate::error::engine;
use crate::failures::Failures;
use crate::feeds::Feeds;
use crate::handle::{Handle, Reading};
use crate::load::load;
use crate::lock::{self, Lock};
use crate::site::Site;
use crate::space::Space;
use crate::tables::{Bytes, COLLECTIONS, META};
use crate::view::View;
use crate::{CollectionId, Error, Result, Scrub, files, rows};

/// How often a reader that a writer overtakes begins again, before it loads a view of its own.
const ATTEMPTS_MAX: usize = 32;

/// From this length of the file on, commits save what redb needs to open it at once after a crash: verifying the file
/// took some 9 s a gigabyte. Each commit then syncs twice, and the file is verified in the background (`scrub`).
pub(crate) const QUICK_REPAIR_BYTES_MIN: u64 = 1 << 30;

/// An open database.
#[derive(Debug)]
pub(crate) struct Engine {
    handle: Handle,
    folder: Option<PathBuf>,
    pub(crate) space: Space,
    pub(crate) cache: Cache,
    pub(crate) clock: Clock,
    pub(crate) scrub: Mutex<Scrub>,
    quick_repair_bytes_min: u64,
    slots: Mutex<HashMap<u32, Arc<Slot>>>,
    /// Held by the writer, and by whoever opens the file again.
    turn: Mutex<()>,
    /// Held while a segment is built.
    pub(crate) sealing: Mutex<()>,
    /// Whether the database is being closed, so that no segment need be finished.
    pub(crate) closing: Arc<AtomicBool>,
    /// The segments that could not be built or opened.
    pub(crate) failures: Failures,
    /// How old snapshots may become.
    pub(crate) snapshot_age_max: Mutex<Option<Duration>>,
    /// What is written to collections that somebody watches.
    pub(crate) feeds: Feeds,
    /// The collections whose place another one took, and which.
    moved: Mutex<HashMap<u32, u32>>,
    /// Where its files are; `None` where there are none, or only a test's.
    site: Option<Site>,
    // Last, so that the folder is free only when the file is closed.
    lock: Option<Lock>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let whole = self.handle.close();
        if let Some(lock) = self.lock.as_ref().filter(|_| whole) {
            lock.clear();
        }
    }
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
    pub(crate) transaction: Reading,
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
    pub(crate) fn new(
        handle: Handle,
        folder: Option<PathBuf>,
        lock: Option<Lock>,
        quick_repair_bytes_min: u64,
    ) -> Self {
        Self {
            handle,
            space: Space::new(folder.as_deref()),
            cache: Cache::default(),
            clock: Clock::default(),
            folder,
            scrub: Mutex::new(Scrub::NotDue),
            quick_repair_bytes_min,
            slots: Mutex::default(),
            turn: Mutex::default(),
            sealing: Mutex::default(),
            closing: Arc::default(),
            failures: Failures::default(),
            snapshot_age_max: Mutex::default(),
            feeds: Feeds::default(),
            moved: Mutex::default(),
            site: None,
            lock,
        }
    }

    /// From now on it writes only where these files still are.
    ///
    /// # Errors
    /// [`Error::Io`] where one is not there.
    pub(crate) fn settle_in(&mut self) -> Result<()> {
        let site = |folder: &PathBuf| Site::new(folder, &[files::DATA, lock::NAME]);
        self.site = self.folder.as_ref().map(site).transpose()?;
        Ok(())
    }

    /// Whether the files are still where they were opened.
    ///
    /// # Errors
    /// [`Error::Gone`] where they are not.
    pub(crate) fn confirm_site(&self) -> Result<()> {
        self.site.as_ref().map_or(Ok(()), Site::confirm)
    }

    /// The database's folder; `None` where it lives in memory.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Moves the pages of the file together and cuts it. Whoever begins a transaction meanwhile waits. Returns whether
    /// that was done: not where a snapshot is held.
    ///
    /// # Errors
    /// Whatever the disk says, after which the file is opened again.
    pub(crate) fn shrink(&self) -> Result<bool> {
        let _writer = self.writer()?;
        self.space.ask_to_remove();
        self.handle.compact()
    }

    /// Whether the file is so long that it must open at once after a crash.
    pub(crate) fn commits_for_quick_repair(&self) -> bool {
        self.handle.bytes() >= self.quick_repair_bytes_min
    }

    pub(crate) fn oldest_reader_age(&self) -> Option<Duration> {
        self.handle.oldest_reader_age()
    }

    #[cfg(test)]
    pub(crate) fn faults(&self) -> Arc<crate::testing::Faults> {
        self.handle.faults()
    }

    /// Begins to read, after opening the file again where the disk failed. Where a writer is at work it does that itself,
    /// and this does not wait for it.
    ///
    /// # Errors
    /// [`Error::Poisoned`] where that failed and nothing is in memory; whatever redb says.
    pub(crate) fn begin_read(&self) -> Result<Reading> {
        if self.handle.has_failed() {
            let turn = match self.turn.try_lock() {
                Ok(turn) => Some(turn),
                Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if turn.is_some() && self.handle.has_failed() {
                // Where that fails, memory answers as far as it goes.
                let _ = self.reopen();
            }
        }
        self.handle.read()
    }

    /// Opens the file again. The caller has the turn.
    fn reopen(&self) -> Result<()> {
        self.confirm_site()?;
        self.handle.reopen()?;
        let transaction = self.handle.read()?;
        for (&number, slot) in self.slots.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let stored = match collection_record(&transaction, CollectionId(number)) {
                Ok(record) => Some(record.sequence),
                Err(Error::UnknownCollection(_)) => None,
                // Readers compare, too.
                Err(_) => continue,
            };
            slot.change(|views| views.published.take_if(|view| Some(view.sequence) != stored).map_or((), drop));
        }
        Ok(())
    }

    fn slot(&self, collection: u32) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(collection).or_default())
    }

    /// Lets go of a dropped collection's views.
    pub(crate) fn forget(&self, collection: u32) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&collection);
    }

    /// From now on another collection answers for this one. The caller has the turn.
    pub(crate) fn succeed(&self, collection: u32, successor: u32) {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).insert(collection, successor);
        self.forget(collection);
    }

    /// The collection that took this one's place while the database was open; `None` where none did.
    pub(crate) fn successor(&self, collection: u32) -> Option<u32> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).get(&collection).copied()
    }

    /// Waits until the commit in progress, where there is one, is done with all that belongs to it.
    pub(crate) fn settle_turn(&self) {
        drop(self.turn.lock().unwrap_or_else(PoisonError::into_inner));
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
        let transaction = self.handle.read()?;
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

    /// Changes how the view of the last commit answers, not what.
    ///
    /// # Errors
    /// As [`Engine::writer`], whose turn this takes, so that no commit comes in between.
    pub(crate) fn refine(&self, collection: CollectionId, change: impl FnOnce(&View) -> View) -> Result<()> {
        let _writer = self.writer()?;
        let slot = self.slot(collection.0);
        if let Some(view) = slot.published() {
            let next = Arc::new(change(&view));
            slot.change(|views| views.published = Some(next));
        }
        Ok(())
    }

    /// Waits for its turn to write, and opens the file again where the disk failed.
    ///
    /// # Errors
    /// [`Error::Poisoned`] where that is not possible; [`Error::Gone`] where the files are not where they were.
    pub(crate) fn writer(&self) -> Result<Writer<'_>> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.confirm_site()?;
        if let Some(age_max) = *self.snapshot_age_max.lock().unwrap_or_else(PoisonError::into_inner) {
            self.handle.expire(age_max);
        }
        if self.handle.has_failed() {
            self.reopen()?;
        }
        Ok(Writer { engine: self, _turn: turn })
    }
}

/// The right to write.
pub(crate) struct Writer<'a> {
    engine: &'a Engine,
    _turn: MutexGuard<'a, ()>,
}

/// A commit that was begun: its number, and what its collection then looks like.
struct Promise {
    sequence: u64,
    view: Option<(u32, Arc<View>)>,
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
    /// What is written to collections that somebody watches.
    pub(crate) fn feeds(&self) -> &Feeds {
        &self.engine.feeds
    }

    /// Runs one write transaction: all of it happens, or nothing.
    ///
    /// # Errors
    /// Those of `work`, [`Error::DiskFull`] and [`Error::Io`], after which nothing has changed; [`Error::Unconfirmed`],
    /// after which all has. Where the file cannot be opened again to tell, the error is that of the disk, too.
    pub(crate) fn transact<T>(&mut self, work: impl FnOnce(&WriteTransaction) -> Result<(T, Outcome)>) -> Result<T> {
        let mut promise = None;
        let result = self.attempt(work, &mut promise);
        match result {
            Err(error) if promise.is_some() || self.engine.handle.has_failed() => Err(self.settle(error, promise)),
            Err(error) => Err(self.engine.space.name(error)),
            Ok(value) => Ok(value),
        }
    }

    fn attempt<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(T, Outcome)>,
        promise: &mut Option<Promise>,
    ) -> Result<T> {
        let mut transaction = self.engine.handle.write()?;
        transaction.set_quick_repair(self.engine.commits_for_quick_repair());
        let (value, outcome) = work(&transaction)?;
        let view = match outcome {
            Outcome::Nothing => return transaction.abort().map_err(engine).map(|()| value),
            Outcome::Commit => None,
            Outcome::Publish(collection, view) => Some((collection, view)),
        };
        let sequence = last_sequence(&transaction.open_table(META).map_err(engine)?)?;
        *promise = Some(Promise { sequence, view: view.clone() });
        match view {
            None => transaction.commit().map_err(commit_error)?,
            Some((collection, view)) => {
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

    /// After the disk failed: opens the file again, and finds out whether the commit is in it.
    fn settle(&self, error: Error, promise: Option<Promise>) -> Error {
        let error = self.engine.space.name(error);
        let stored = || {
            self.engine.reopen()?;
            last_sequence(&rows::open(&*self.engine.handle.read()?, META)?)
        };
        match (promise, stored()) {
            (Some(Promise { sequence, view }), Ok(stored)) if sequence <= stored => {
                if let Some((collection, view)) = view {
                    self.engine.slot(collection).change(|views| views.published = Some(view));
                }
                Error::Unconfirmed(error.to_string())
            }
            (Some(_) | None, Ok(_) | Err(_)) => error,
        }
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
    let last = last_sequence(&meta)?;
    rows::put_named(&mut meta, META, "sequence", &Sequence(last + 1))?;
    Ok(last + 1)
}

/// The number of the last commit.
fn last_sequence(meta: &impl ReadableTable<&'static str, Bytes>) -> Result<u64> {
    let found = rows::get_named(meta, META, "sequence")?;
    let Sequence(last) = found.ok_or_else(|| Error::corrupt("table meta, key `sequence`", "it is missing"))?;
    Ok(last)
}
