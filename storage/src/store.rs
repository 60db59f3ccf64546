//! Here is a folder: give me its collections.
//!
//! [`Store`] is the front door; what it promises is done in `write`, `snapshot`, `seal`, `check` and `dump`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redb::{ReadableTable, TableHandle};

use crate::alias::{self, AliasEdit};
use crate::background::Background;
use crate::codec::{self, CollectionRecord, NextNumbers, Number, Place, SpaceRecord, vectors_per_block};
use crate::distance::expect_known;
use crate::engine::{Engine, Outcome, QUICK_REPAIR_BYTES_MIN, collection_record, next_sequence, unknown};
use crate::error::engine;
use crate::guard::damage_as_error;
use crate::handle::Watch;
use crate::ids::validate_collection_name;
use crate::load::settings_of;
use crate::tables::{
    CHUNKS, COLLECTION_NAMES, COLLECTIONS, DOCUMENT_IDS, DOCUMENTS, META, METADATA, SEGMENTS, SPACES, TEXTS,
    TOMBSTONES, VECTORS, pairs_of,
};
use crate::{
    Alongside, BackedUp, CacheKey, CacheStats, CollectionId, CollectionInfo, CollectionSettings, Compacted, DocumentId,
    Error, Filter, Now, Operation, Result, Scrub, Snapshot, SpaceId, SpaceSettings, Written, backup, cache, check,
    compact, expiry, files, ledger, retired, rows, scrub, seal, write,
};

/// An open database. Cheap to clone; clones share it. It is closed when the last clone and the last snapshot are gone.
#[derive(Clone, Debug)]
pub struct Store(pub(crate) Arc<Engine>, pub(crate) Arc<Background>);

impl Store {
    /// Opens the database in this folder, and makes both where they are not there. One process at a time may have it
    /// open.
    ///
    /// # Errors
    /// [`Error::Locked`] at once where it is open elsewhere, in this process too; [`Error::NewerFormat`]; [`Error::Io`];
    /// [`Error::Corrupt`]; [`Error::InvalidInput`] where `QUIVERDB_SIMD` asks for instructions that are not there.
    pub fn open(path: &Path) -> Result<Self> {
        backup::refuse_to_open(path)?;
        damage_as_error(&path.display().to_string(), || Self::open_tuned(path, QUICK_REPAIR_BYTES_MIN, Arc::default()))
    }

    pub(crate) fn open_tuned(path: &Path, quick_repair_bytes_min: u64, watch: Arc<Watch>) -> Result<Self> {
        expect_known()?;
        // The process may change its working folder, and another database be there.
        let folder = std::path::absolute(path).map_err(|source| files::io_error(path, source))?;
        let (handle, lock) = files::open(&folder, watch)?;
        let unclean = lock.was_left();
        let mut engine = Engine::new(handle, Some(folder), Some(lock), quick_repair_bytes_min);
        engine.settle_in()?;
        let engine = Arc::new(engine);
        engine.space.renew();
        seal::collect_garbage(&engine)?;
        if unclean && engine.commits_for_quick_repair() {
            scrub::start(&engine);
        }
        Ok(Self::of(engine))
    }

    pub(crate) fn of(engine: Arc<Engine>) -> Self {
        let background = Background::new(&engine);
        Self(engine, Arc::new(background))
    }

    /// A database in memory, gone when it is closed. It builds no segments, which are files: every search compares the
    /// query with all vectors, exactly, whatever its effort. That takes time in proportion to them (10,000 of 256 dimensions:
    /// some 0.5 ms on two cores); for hundreds of thousands, open a folder.
    ///
    /// # Errors
    /// [`Error::Engine`] where redb fails; [`Error::InvalidInput`] as [`Store::open`].
    pub fn in_memory() -> Result<Self> {
        expect_known()?;
        Ok(Self::of(Arc::new(Engine::new(files::open_memory()?, None, None, QUICK_REPAIR_BYTES_MIN))))
    }

    /// On a backend that can be opened again, with or without a folder for segments.
    #[cfg(test)]
    pub(crate) fn on_backend(backend: impl redb::StorageBackend + Clone, folder: Option<&Path>) -> Result<Self> {
        Self::on_backend_tuned(backend, folder, QUICK_REPAIR_BYTES_MIN)
    }

    #[cfg(test)]
    pub(crate) fn on_backend_tuned(
        backend: impl redb::StorageBackend + Clone,
        folder: Option<&Path>,
        quick_repair_bytes_min: u64,
    ) -> Result<Self> {
        let handle = files::open_backend(move || Ok(backend.clone()), Arc::default())?;
        let mut engine = Engine::new(handle, folder.map(Path::to_owned), None, quick_repair_bytes_min);
        engine.space = crate::space::Space::new(None);
        seal::collect_garbage(&engine)?;
        let engine = Arc::new(engine);
        let mut background = Background::new(&engine);
        background.is_inline = true;
        Ok(Self(engine, Arc::new(background)))
    }

    /// Waits until what is done in the background is done.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        self.1.wait();
    }

    /// As [`Store::seal_soon`], of fewer chunks, too.
    #[cfg(test)]
    pub(crate) fn seal_few_soon(&self, collection: CollectionId, chunks_min: u64) {
        self.1.begin(&self.0, collection, chunks_min);
    }

    /// All collections, by name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn collections(&self) -> Result<Vec<CollectionInfo>> {
        damage_as_error("the database", || {
            let transaction = self.0.begin_read()?;
            let table = rows::open(&transaction, COLLECTION_NAMES)?;
            let mut found = Vec::new();
            for row in table.iter().map_err(engine)? {
                let (name, value) = row.map_err(engine)?;
                let place = Place::new(COLLECTION_NAMES.name(), name.value());
                let Number(number) = codec::decode(place, value.value())?;
                found.push(info(number, collection_record(&transaction, CollectionId(number))?)?);
            }
            Ok(found)
        })
    }

    /// The collection of this name, or the one that it is an alias of.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn collection(&self, name: &str) -> Result<Option<CollectionInfo>> {
        damage_as_error("the database", || {
            let transaction = self.0.begin_read()?;
            let Some(number) = alias::resolve(&transaction, name)? else { return Ok(None) };
            info(number, collection_record(&transaction, CollectionId(number))?).map(Some)
        })
    }

    /// All aliases, by name, each with the name of its collection.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn aliases(&self) -> Result<Vec<(String, String)>> {
        damage_as_error("the database", || {
            let transaction = self.0.begin_read()?;
            let named = |(alias, number)| Ok((alias, collection_record(&transaction, CollectionId(number))?.name));
            alias::list(&transaction)?.into_iter().map(named).collect()
        })
    }

    /// Sets, switches and removes aliases, all of them in one transaction or none. An alias is accepted wherever the name of
    /// a collection is looked up; whatever was opened by it before keeps to the collection that it meant then. It follows
    /// where its collection is renamed.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an alias that cannot be a name, is the name of a collection, or is to be removed and not
    /// there; [`Error::UnknownCollection`] for a target that is not there; [`Error::Poisoned`].
    pub fn change_aliases(&self, edits: &[AliasEdit]) -> Result<()> {
        damage_as_error("the database", || {
            self.0.writer()?.transact(|transaction| {
                if !alias::apply(transaction, edits)? {
                    return Ok(((), Outcome::Nothing));
                }
                next_sequence(transaction)?;
                Ok(((), Outcome::Commit))
            })
        })
    }

    /// Makes an empty collection.
    ///
    /// # Errors
    /// [`Error::CollectionExists`]; [`Error::InvalidInput`] for a name or settings that cannot be; [`Error::Poisoned`].
    pub fn create_collection(&self, name: &str, settings: &CollectionSettings) -> Result<CollectionInfo> {
        damage_as_error("the database", || {
            validate_collection_name(name)?;
            settings.validate()?;
            self.0.writer()?.transact(|transaction| {
                let mut names = transaction.open_table(COLLECTION_NAMES).map_err(engine)?;
                if rows::get_named::<Number>(&names, COLLECTION_NAMES, name)?.is_some() {
                    return Err(Error::CollectionExists(name.to_owned()));
                }
                alias::refuse_taken(transaction, name)?;
                let made = insert_collection(transaction, name, settings)?;
                rows::put_named(&mut names, COLLECTION_NAMES, name, &Number(made.id.0))?;
                Ok((made, Outcome::Commit))
            })
        })
    }

    /// Removes a collection with all that is in it. Snapshots of it stay readable.
    ///
    /// Cost: a walk over its rows. Where a segment is being built, of whichever collection, this waits until it is there.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`]; [`Error::InvalidInput`] for an alias, and for a collection that one leads to;
    /// [`Error::Poisoned`].
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        damage_as_error("the database", || {
            self.0.confirm_site()?;
            self.0.space.ask_to_remove();
            let _turn = self.0.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut writer = self.0.writer()?;
            let dropped = writer.transact(|transaction| {
                let mut names = transaction.open_table(COLLECTION_NAMES).map_err(engine)?;
                let Some(Number(number)) = rows::get_named(&names, COLLECTION_NAMES, name)? else {
                    return Err(alias::not_a_collection(transaction, name)?);
                };
                alias::refuse_used(transaction, name, number)?;
                names.remove(name).map_err(engine)?;
                let mut segments = vec![(number, remove_rows(transaction, number)?)];
                segments.extend(retired::retire_shadow(transaction, number)?);
                next_sequence(transaction)?;
                Ok((segments, Outcome::Commit))
            })?;
            drop(writer);
            for (number, segments) in dropped {
                self.0.forget(number);
                seal::remove_folders(&self.0, number, &segments);
            }
            retired::purge(&self.0)
        })
    }

    /// Gives a collection another name. Its number stays, and with it all that was opened by number; its aliases follow.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`], [`Error::CollectionExists`], [`Error::InvalidInput`]; [`Error::Poisoned`].
    pub fn rename_collection(&self, from: &str, to: &str) -> Result<()> {
        damage_as_error("the database", || {
            validate_collection_name(to)?;
            self.0.writer()?.transact(|transaction| {
                let mut names = transaction.open_table(COLLECTION_NAMES).map_err(engine)?;
                let Some(number) = rows::get_named::<Number>(&names, COLLECTION_NAMES, from)? else {
                    return Err(alias::not_a_collection(transaction, from)?);
                };
                if from == to {
                    return Ok(((), Outcome::Nothing));
                }
                if rows::get_named::<Number>(&names, COLLECTION_NAMES, to)?.is_some() {
                    return Err(Error::CollectionExists(to.to_owned()));
                }
                alias::refuse_taken(transaction, to)?;
                names.remove(from).map_err(engine)?;
                rows::put_named(&mut names, COLLECTION_NAMES, to, &number)?;
                let mut collections = transaction.open_table(COLLECTIONS).map_err(engine)?;
                let mut record: CollectionRecord = rows::get_numbered(&collections, COLLECTIONS, number.0)?
                    .ok_or_else(|| unknown(CollectionId(number.0)))?;
                record.name = to.to_owned();
                // Its content is the same, so its views stay good: the record's own sequence is not changed.
                next_sequence(transaction)?;
                rows::put_numbered(&mut collections, COLLECTIONS, number.0, &record)?;
                Ok(((), Outcome::Commit))
            })
        })
    }

    /// Applies a batch in one transaction: all of it, or nothing. When this returns, it is on disk, and every snapshot
    /// taken from now on sees it. Of several operations on one id the last one counts.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] or [`Error::DimensionMismatch`], naming document and chunk, before anything is written;
    /// [`Error::DiskFull`], which a batch of deletes meets only where the reserve was used up, too; [`Error::Io`]. After
    /// these nothing of it was kept, and the next call opens the file again where that is needed; [`Error::Poisoned`]
    /// where it could not be. After [`Error::Unconfirmed`] all of it is there.
    pub fn write(&self, collection: CollectionId, batch: Vec<Operation>) -> Result<Written> {
        self.write_all(collection, &batch, &Alongside::default())
    }

    /// As [`Store::write`], and writes what comes alongside in the same transaction: all of both, or nothing of either. The
    /// batch may be empty. So an import that keeps its position in the ledger finds there, after any crash, exactly how far
    /// its documents came.
    ///
    /// ```
    /// # fn main() -> quiverdb_storage::Result<()> {
    /// use quiverdb_storage::{Alongside, CollectionSettings, LedgerEdit, Store};
    ///
    /// let store = Store::in_memory()?;
    /// let settings = CollectionSettings { analyzer: Default::default(), spaces: vec![], application: Default::default() };
    /// let notes = store.create_collection("notes", &settings)?.id;
    /// let position = LedgerEdit::put("import/wiki.parquet", 4096_u64.to_le_bytes());
    /// store.write_with(notes, vec![], Alongside::ledger([position]))?;
    /// assert_eq!(store.ledger(notes, b"import/wiki.parquet")?, Some(4096_u64.to_le_bytes().to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Store::write`]; [`Error::InvalidInput`] for a key or value out of bounds; [`Error::UnknownCollection`].
    pub fn write_with(&self, collection: CollectionId, batch: Vec<Operation>, along: Alongside) -> Result<Written> {
        self.write_all(collection, &batch, &along)
    }

    /// [`Store::write_with`] of what the caller keeps, so that he has it still where this fails.
    ///
    /// # Errors
    /// As [`Store::write_with`].
    pub fn write_all(&self, collection: CollectionId, batch: &[Operation], along: &Alongside) -> Result<Written> {
        damage_as_error("the database", || write::write(&self.0, collection, batch, along))
    }

    /// A record of the collection's ledger, as of the last commit; `None` where there is none of this key.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`]; [`Error::Corrupt`] where the record is damaged.
    pub fn ledger(&self, collection: CollectionId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        damage_as_error("the database", || {
            let transaction = self.0.begin_read()?;
            collection_record(&transaction, collection)?;
            ledger::get(&transaction, collection.0, key)
        })
    }

    /// Keys and records of the collection's ledger whose keys begin with `prefix` (empty: all), in order of key.
    ///
    /// # Errors
    /// As [`Store::ledger`].
    pub fn ledger_entries(&self, collection: CollectionId, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        damage_as_error("the database", || {
            let transaction = self.0.begin_read()?;
            collection_record(&transaction, collection)?;
            ledger::list(&transaction, collection.0, prefix)
        })
    }

    /// Removes the documents that have expired; returns how many. They are hidden from the moment on at which they expire, and
    /// each write removes up to 1,024 of them from its collection; so this is for what is no longer written to.
    /// [`Store::compact`] does it, too.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn sweep(&self, collection: CollectionId) -> Result<u64> {
        damage_as_error("the database", || write::sweep(&self.0, collection))
    }

    /// From now on this clock tells which documents have expired, instead of the system's. Snapshots keep the moment at
    /// which they were taken. Where it is set back, documents that are not swept yet are there again. Not stored.
    pub fn set_clock(&self, now: Now) {
        self.0.clock.set(now);
    }

    /// The moment by that clock, in milliseconds since 1970-01-01 UTC.
    pub fn now(&self) -> u64 {
        self.0.clock.now()
    }

    /// The vectors that a model made of these texts before, in the order of the keys; `None` where that is not known, or
    /// what is known of it is damaged. They are the whole database's: of all collections, and of documents that are gone.
    ///
    /// Cost: two look-ups in a tree each, some 50 us for 384 dimensions on two cores that were busy otherwise.
    pub fn cached_vectors(&self, keys: &[CacheKey]) -> Vec<Option<Vec<f32>>> {
        let found = damage_as_error("the cache of embeddings", || {
            // What cannot be read is embedded again.
            let transaction = self.0.begin_read().ok();
            Ok(self.0.cache.look_up(transaction.as_deref(), keys))
        });
        found.unwrap_or_else(|_| vec![None; keys.len()])
    }

    /// Has the next write of documents carry these vectors into the cache of embeddings. Until then they are known from
    /// memory, of which they take 64 MiB at most; where nothing is written, they are forgotten with this handle.
    pub fn cache_vectors(&self, made: impl IntoIterator<Item = (CacheKey, Vec<f32>)>) {
        self.0.cache.remember(made);
    }

    /// How many bytes of vectors the cache of embeddings may hold, [`crate::CACHE_BYTES_MAX_DEFAULT`] as long as nobody
    /// says otherwise; 0 turns it off. The next write lets those go that are too many, the least lately used first, as far
    /// as that is known. Holds for this handle and its clones; it is not stored.
    pub fn set_cache_bytes_max(&self, bytes: u64) {
        self.0.cache.set_bytes_max(bytes);
    }

    /// The cache of embeddings in numbers.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where its totals are damaged.
    pub fn cache_stats(&self) -> Result<CacheStats> {
        damage_as_error("the cache of embeddings", || self.0.cache.stats(&*self.0.begin_read()?))
    }

    /// Empties the cache of embeddings. [`Store::compact`] then gives its room back.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn drop_cache(&self) -> Result<()> {
        damage_as_error("the cache of embeddings", || {
            self.0.cache.forget();
            self.0.space.ask_to_remove();
            self.0.writer()?.transact(|transaction| {
                if !cache::clear(transaction)? {
                    return Ok(((), Outcome::Nothing));
                }
                next_sequence(transaction)?;
                Ok(((), Outcome::Commit))
            })
        })
    }

    /// The collection as it is now. Never waits for a writer. The first one after opening loads the collection.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`]. Where what searches need is damaged, the searches say so; the rest is readable.
    pub fn snapshot(&self, collection: CollectionId) -> Result<Snapshot> {
        damage_as_error("the database", || {
            let pinned = self.0.pin(collection)?;
            if pinned.view.as_deref().is_ok_and(seal::is_broken) {
                // It answers as it is, out of memory where a segment cannot; nobody waits for that to be built again.
                self.1.begin(&self.0, collection, u64::MAX);
            }
            Ok(Snapshot::new(Arc::clone(&self.0), collection, pinned))
        })
    }

    /// The ids of the documents that match now, as [`Snapshot::matching_documents`], but whatever the greatest age of
    /// snapshots is: that a writer is busy does not end this.
    ///
    /// # Errors
    /// As [`Store::snapshot`] and [`Snapshot::matching_documents`].
    pub fn matching_documents(&self, collection: CollectionId, filter: &Filter) -> Result<Vec<DocumentId>> {
        damage_as_error("the database", || Snapshot::kept(&self.0, collection)?.matching_documents(filter))
    }

    /// Moves the newest chunks of a collection into a segment where there are 8,192 or more of them, and builds again what
    /// is missing or damaged. Returns whether it did anything. Reads and writes go on meanwhile. A database in memory has
    /// nothing to do.
    ///
    /// Cost: 100,000 vectors of 384 dimensions take some 20 s on two cores.
    ///
    /// # Errors
    /// [`Error::Io`], after which all is as before; [`Error::Poisoned`].
    pub fn seal(&self, collection: CollectionId) -> Result<bool> {
        damage_as_error("the database", || seal::seal(&self.0, collection, seal::SEAL_CHUNKS_MIN))
    }

    /// As [`Store::seal`], on a thread of its own, where the collection has `chunks_min` or more chunks to seal and no
    /// such thread is at work. A failure costs no answer; [`Store::sealing_error`] tells of it, and later calls try again, at
    /// longer and longer intervals. The thread stops early when the last handle goes.
    pub fn seal_soon(&self, collection: CollectionId, chunks_min: u64) {
        self.1.begin(&self.0, collection, chunks_min.max(seal::SEAL_CHUNKS_MIN));
    }

    /// Why the last segment of a collection could not be built or opened, since the database was opened; `None` once that
    /// was done. Searches are right without it, and slower; snapshots and [`Store::seal_soon`] have it tried again.
    pub fn sealing_error(&self, collection: CollectionId) -> Option<String> {
        self.0.failures.last(collection.0)
    }

    /// How many chunks of a collection are in memory, because no segment holds them yet. Whoever adds faster than a thread
    /// seals lets it catch up while [`Store::is_sealing`], and else calls [`Store::seal`], whose error tells why nobody did;
    /// so memory stays bounded.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`]; [`Error::Corrupt`].
    pub fn sealing_backlog(&self, collection: CollectionId) -> Result<u64> {
        Ok(seal::unsealed(&*self.0.current_view(collection)?))
    }

    /// Whether a thread that [`Store::seal_soon`] began is at work, for whichever collection.
    pub fn is_sealing(&self) -> bool {
        self.1.is_busy()
    }

    /// Gives back what deleted and replaced documents take on disk: vectors are moved together, all segments of a
    /// collection become one (of 384 dimensions, one for each two million chunks), and the file is cut. Reads and writes go
    /// on, but wait while the file is cut.
    ///
    /// Cost: what lives in sparse places is written anew, all that lives is sealed anew, and redb moves pages.
    ///
    /// # Errors
    /// [`Error::Io`], after which every document is as before; [`Error::Poisoned`].
    pub fn compact(&self) -> Result<Compacted> {
        damage_as_error("the database", || {
            let collections: Vec<CollectionId> = self.collections()?.into_iter().map(|info| info.id).collect();
            retired::purge(&self.0)?;
            compact::compact(&self.0, &collections)
        })
    }

    /// Copies the database as it is now into a folder that is empty or not there yet, while reads and writes go on. The copy
    /// is on disk and was read again when this returns. It holds documents, vectors, ledgers, aliases and segments, and not the
    /// cache of embeddings. A database in memory can be copied, too.
    ///
    /// Cost: all rows are read, written in order and read again, and all files once more; segments are not sealed meanwhile,
    /// as long as they are being copied.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where something is in the folder; [`Error::Corrupt`] where a record is damaged;
    /// [`Error::Io`]. Nothing is left in the folder then.
    pub fn backup(&self, folder: &Path) -> Result<BackedUp> {
        damage_as_error("the database", || backup::backup(&self.0, folder))
    }

    /// Makes a database of a backup, in a folder that has none.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where there is a database already, or the backup is no backup, unfinished, cut off or damaged,
    /// all of which is found before anything is written; [`Error::Locked`]; [`Error::Io`].
    pub fn restore(backup: &Path, folder: &Path) -> Result<()> {
        backup::restore(backup, folder, false)
    }

    /// As [`Store::restore`], in place of the database that is there, which must be closed. After a crash meanwhile that one
    /// is there, or the restored one, whole.
    ///
    /// # Errors
    /// As [`Store::restore`].
    pub fn restore_over(backup: &Path, folder: &Path) -> Result<()> {
        backup::restore(backup, folder, true)
    }

    /// Everything that is wrong with the database, one sentence each; empty where all is well. Reads all of it.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Engine`] where it cannot be read at all.
    pub fn check(&self) -> Result<Vec<String>> {
        self.check_until(&AtomicBool::new(false))
    }

    /// As [`Store::check`], with what was found so far where it is told to stop.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub fn check_until(&self, stop: &AtomicBool) -> Result<Vec<String>> {
        damage_as_error("the database", || check::check(&self.0, stop))
    }

    /// What is known of the whole of a database that was not closed as it should be. Where it is large, opening does not
    /// read all of it; a thread in the background then does, once, and this is how far it is.
    pub fn scrub(&self) -> Scrub {
        self.0.scrub.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// How old the oldest snapshot is that is still held, or the oldest read under way; `None` where there is none. While
    /// it lives, the pages that it sees stay, and every write makes the file longer: watch this, and let go of snapshots
    /// within minutes, or use [`Store::set_snapshot_age_max`].
    pub fn oldest_snapshot_age(&self) -> Option<Duration> {
        self.0.oldest_reader_age()
    }

    /// From now on each write ends the snapshots that are older than this, so that one that was forgotten does not make the
    /// file longer without end. Whatever is read of them afterwards is [`Error::Expired`], and a read under way may be.
    /// `None`, as at first, lets them live: long exports need that, or an age beyond their own. Holds for this handle
    /// and its clones; it is not stored.
    pub fn set_snapshot_age_max(&self, age_max: Option<Duration>) {
        *self.0.snapshot_age_max.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = age_max;
    }

    /// The bytes that the database takes on disk, its reserve included; 0 in memory.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be read.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        self.0.folder().map_or(Ok(0), files::bytes_on_disk)
    }
}

/// Makes the rows of an empty collection, to which no name leads yet.
///
/// # Errors
/// Whatever redb says; [`Error::InvalidInput`] where its settings are not JSON.
pub(crate) fn insert_collection(
    transaction: &redb::WriteTransaction,
    name: &str,
    settings: &CollectionSettings,
) -> Result<CollectionInfo> {
    let json = serde_json::to_string(settings).map_err(|error| Error::invalid(error.to_string()))?;
    let mut meta = transaction.open_table(META).map_err(engine)?;
    let mut next: NextNumbers =
        rows::get_named(&meta, META, "next")?.ok_or_else(|| rows::missing(Place::new(META.name(), "next")))?;
    let number = next.collection;
    next.collection += 1;
    let mut spaces = Vec::new();
    let mut table = transaction.open_table(SPACES).map_err(engine)?;
    for space in &settings.spaces {
        rows::put_numbered(&mut table, SPACES, next.space, &space_record(number, space))?;
        spaces.push(next.space);
        next.space += 1;
    }
    rows::put_named(&mut meta, META, "next", &next)?;
    drop(meta);
    let record = empty_record(name, json, spaces, next_sequence(transaction)?);
    let mut collections = transaction.open_table(COLLECTIONS).map_err(engine)?;
    rows::put_numbered(&mut collections, COLLECTIONS, number, &record)?;
    info(number, record)
}

/// A collection as its record tells of it.
pub(crate) fn info(number: u32, record: CollectionRecord) -> Result<CollectionInfo> {
    let settings = settings_of(number, &record)?;
    let CollectionRecord { name, spaces, .. } = record;
    Ok(CollectionInfo { id: CollectionId(number), name, settings, spaces: spaces.into_iter().map(SpaceId).collect() })
}

fn empty_record(name: &str, settings: String, spaces: Vec<u32>, sequence: u64) -> CollectionRecord {
    CollectionRecord {
        name: name.to_owned(),
        settings,
        spaces,
        sequence,
        documents: 0,
        chunks: 0,
        terms: 0,
        next_document: 0,
        next_chunk: 0,
        next_segment: 0,
    }
}

fn space_record(collection: u32, space: &SpaceSettings) -> SpaceRecord {
    let SpaceSettings { name, dims, metric } = space;
    SpaceRecord {
        collection,
        name: name.clone(),
        dims: *dims as u32,
        metric: *metric,
        per_block: vectors_per_block(*dims),
    }
}

/// Removes all rows of a collection; returns the numbers of its segments.
fn remove_rows(transaction: &redb::WriteTransaction, number: u32) -> Result<Vec<u32>> {
    let mut collections = transaction.open_table(COLLECTIONS).map_err(engine)?;
    let record: CollectionRecord =
        rows::get_numbered(&collections, COLLECTIONS, number)?.ok_or_else(|| unknown(CollectionId(number)))?;
    collections.remove(number).map_err(engine)?;
    transaction.open_table(TOMBSTONES).map_err(engine)?.remove(number).map_err(engine)?;
    let mut spaces = transaction.open_table(SPACES).map_err(engine)?;
    let mut vectors = transaction.open_table(VECTORS).map_err(engine)?;
    for space in record.spaces {
        spaces.remove(space).map_err(engine)?;
        vectors.retain_in(pairs_of(space), |_, _| false).map_err(engine)?;
    }
    let mut segments = transaction.open_table(SEGMENTS).map_err(engine)?;
    let mut numbers = Vec::new();
    for row in segments.range(pairs_of(number)).map_err(engine)? {
        numbers.push(row.map_err(engine)?.0.value().1);
    }
    segments.retain_in(pairs_of(number), |_, _| false).map_err(engine)?;
    for table in [DOCUMENTS, TEXTS, METADATA, CHUNKS] {
        let mut table = transaction.open_table(table).map_err(engine)?;
        table.retain_in(pairs_of(number), |_, _| false).map_err(engine)?;
    }
    ledger::drop_collection(transaction, number)?;
    expiry::drop_collection(transaction, number)?;
    let mut ids = transaction.open_table(DOCUMENT_IDS).map_err(engine)?;
    let of_collection = (number, [].as_slice())..(number + 1, [].as_slice());
    ids.retain_in::<(u32, &[u8]), _>(of_collection, |_, _| false).map_err(engine)?;
    Ok(numbers)
}
