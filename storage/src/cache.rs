//! Which vector did a model make of this text before?
//!
//! Vectors stand in the order in which they came, so that they are appended and the oldest go in one piece; a second table
//! leads from 16 bytes of the key to the place. What is read is believed only where the whole key is the one asked for.
//! What was embedded waits in memory until a commit that writes documents carries it along: there is no commit for the
//! cache alone. A vector that is asked for while it stands in the older half is appended again, so that what is in use
//! stays (CLOCK with a ring, as approximate as it is cheap: no read writes anything).
//!
//! Invariants: the cache never fails a write or a read of documents; what is damaged in it is not there; its bytes stay
//! below the limit after each commit; with a limit of 0 it neither answers nor grows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{ReadTransaction, ReadableTable, Table, TableHandle, WriteTransaction};

use crate::codec::{self, CacheTotals, CachedRecord, Place, Sequence};
use crate::error::engine;
use crate::tables::{Bytes, EMBEDDING_CACHE, EMBEDDING_CACHE_KEYS, META};
use crate::{CacheKey, Result, rows};

/// What the cache may take unless told otherwise: 160,000 vectors of 384 dimensions.
pub const CACHE_BYTES_MAX_DEFAULT: u64 = 256 << 20;
/// What may wait in memory for a commit.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// Under which name its totals stand in `meta`.
pub(crate) const TOTALS: &str = "embedding_cache";

/// The cache of embeddings in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CacheStats {
    /// Vectors in it.
    pub entries: u64,
    /// The bytes of their records. On disk it is a third more for 384 dimensions, and up to twice as much for 1,024.
    pub bytes: u64,
    /// What they may be; 0 is off.
    pub bytes_max: u64,
    /// Texts that were found, since the cache was made or emptied.
    pub hits: u64,
    /// Texts that were not.
    pub misses: u64,
}

/// What is known of the cache beside what is on disk.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: AtomicU64,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    entries: HashMap<[u8; 16], CachedRecord>,
    bytes: usize,
    hits: u64,
    misses: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { bytes_max: AtomicU64::new(CACHE_BYTES_MAX_DEFAULT), pending: Mutex::default() }
    }
}

impl Cache {
    pub(crate) fn set_bytes_max(&self, bytes: u64) {
        self.bytes_max.store(bytes, Ordering::Relaxed);
        if bytes == 0 {
            *self.pending() = Pending::default();
        }
    }

    fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vectors of these keys, where they are known.
    pub(crate) fn look_up(&self, transaction: Option<&ReadTransaction>, keys: &[CacheKey]) -> Vec<Option<Vec<f32>>> {
        if self.bytes_max() == 0 || keys.is_empty() {
            return vec![None; keys.len()];
        }
        let stored = transaction.and_then(|transaction| Stored::open(transaction).ok().flatten());
        let found: Vec<Option<Vec<f32>>> = keys.iter().map(|key| self.find(stored.as_ref(), key)).collect();
        let mut pending = self.pending();
        let hits = found.iter().flatten().count() as u64;
        pending.hits += hits;
        pending.misses += keys.len() as u64 - hits;
        found
    }

    fn find(&self, stored: Option<&Stored>, key: &CacheKey) -> Option<Vec<f32>> {
        if let Some(record) = self.pending().entries.get(&key.short()).filter(|record| record.key == *key) {
            return Some(record.vector.clone());
        }
        let stored = stored?;
        let (place, record) = stored.find(key)?;
        let vector = record.vector.clone();
        if place < stored.totals.next.saturating_sub(stored.totals.entries / 2) {
            self.pending().add(record);
        }
        Some(vector)
    }

    /// Keeps these for the next commit. What finds no room is forgotten.
    pub(crate) fn remember(&self, made: impl IntoIterator<Item = (CacheKey, Vec<f32>)>) {
        if self.bytes_max() == 0 {
            return;
        }
        let mut pending = self.pending();
        made.into_iter().for_each(|(key, vector)| pending.add(CachedRecord { key, vector }));
    }

    /// About what writing it takes on disk.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        2 * self.pending().bytes as u64
    }

    /// Forgets what waits, because there is no room for it.
    pub(crate) fn forget(&self) {
        *self.pending() = Pending::default();
    }

    /// Writes what waits into a transaction that is to be committed for other reasons.
    pub(crate) fn write(&self, transaction: &WriteTransaction) -> Result<()> {
        let Pending { entries, hits, misses, .. } = std::mem::take(&mut *self.pending());
        if entries.is_empty() && hits + misses == 0 {
            return Ok(());
        }
        let mut ring = Ring::open(transaction)?;
        ring.totals.hits += hits;
        ring.totals.misses += misses;
        entries.into_iter().try_for_each(|(short, record)| ring.append(&short, &record))?;
        ring.evict(self.bytes_max())?;
        ring.close(transaction)
    }

    pub(crate) fn stats(&self, transaction: &ReadTransaction) -> Result<CacheStats> {
        let meta = rows::open(transaction, META)?;
        let CacheTotals { entries, bytes, next: _, hits, misses } =
            rows::get_named(&meta, META, TOTALS)?.unwrap_or_default();
        let pending = self.pending();
        let (hits, misses) = (hits + pending.hits, misses + pending.misses);
        Ok(CacheStats { entries, bytes, bytes_max: self.bytes_max(), hits, misses })
    }
}

/// Removes all that is on disk. Returns whether there was anything.
pub(crate) fn clear(transaction: &WriteTransaction) -> Result<bool> {
    let vectors = transaction.delete_table(EMBEDDING_CACHE).map_err(engine)?;
    let keys = transaction.delete_table(EMBEDDING_CACHE_KEYS).map_err(engine)?;
    let mut meta = transaction.open_table(META).map_err(engine)?;
    let totals = meta.remove(TOTALS).map_err(engine)?.is_some();
    Ok(vectors || keys || totals)
}

impl Pending {
    fn add(&mut self, record: CachedRecord) {
        let bytes = record.bytes();
        if self.bytes + bytes <= PENDING_BYTES_MAX && self.entries.insert(record.key.short(), record).is_none() {
            self.bytes += bytes;
        }
    }
}

/// What is on disk, to be read.
struct Stored {
    totals: CacheTotals,
    vectors: redb::ReadOnlyTable<u64, Bytes>,
    keys: redb::ReadOnlyTable<&'static [u8], Bytes>,
}

impl Stored {
    fn open(transaction: &ReadTransaction) -> Result<Option<Self>> {
        let vectors = rows::open_if_made(transaction, EMBEDDING_CACHE)?;
        let keys = rows::open_if_made(transaction, EMBEDDING_CACHE_KEYS)?;
        let totals = rows::get_named(&rows::open(transaction, META)?, META, TOTALS)?.unwrap_or_default();
        Ok(vectors.zip(keys).map(|(vectors, keys)| Self { totals, vectors, keys }))
    }

    /// Place and record, where they are there, whole, and of this key.
    fn find(&self, key: &CacheKey) -> Option<(u64, CachedRecord)> {
        let short = key.short();
        let row = self.keys.get(short.as_slice()).ok()??;
        let Sequence(place) = codec::decode(key_place(&short), row.value()).ok()?;
        let row = self.vectors.get(place).ok()??;
        let record: CachedRecord = codec::decode(vector_place(place), row.value()).ok()?;
        (record.key == *key).then_some((place, record))
    }
}

pub(crate) fn key_place(short: &[u8]) -> Place<'_> {
    Place::new(EMBEDDING_CACHE_KEYS.name(), (0, short))
}

pub(crate) fn vector_place(place: u64) -> Place<'static> {
    Place::new(EMBEDDING_CACHE.name(), place)
}

/// What the totals must be, where they are damaged.
fn recount(vectors: &impl ReadableTable<u64, Bytes>) -> Result<CacheTotals> {
    let mut totals = CacheTotals::default();
    for row in vectors.iter().map_err(engine)? {
        let (place, value) = row.map_err(engine)?;
        totals.entries += 1;
        totals.bytes += value.value().len() as u64;
        totals.next = place.value() + 1;
    }
    Ok(totals)
}

/// The cache in a write transaction: a ring that is appended to at one end and eaten from the other.
struct Ring<'a> {
    totals: CacheTotals,
    vectors: Table<'a, u64, Bytes>,
    keys: Table<'a, &'static [u8], Bytes>,
}

impl<'a> Ring<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self> {
        let meta = transaction.open_table(META).map_err(engine)?;
        let vectors = transaction.open_table(EMBEDDING_CACHE).map_err(engine)?;
        let keys = transaction.open_table(EMBEDDING_CACHE_KEYS).map_err(engine)?;
        let totals = match rows::get_named(&meta, META, TOTALS) {
            Ok(totals) => totals.unwrap_or_default(),
            Err(_) => recount(&vectors)?,
        };
        Ok(Self { totals, vectors, keys })
    }

    /// Puts a vector at the end, and takes the one away that was there for the same 16 bytes.
    fn append(&mut self, short: &[u8; 16], record: &CachedRecord) -> Result<()> {
        let place = self.totals.next;
        let leads = codec::encode(key_place(short), &Sequence(place));
        let before = self.keys.insert(short.as_slice(), leads.as_slice()).map_err(engine)?;
        let before = before.and_then(|row| codec::decode::<Sequence>(key_place(short), row.value()).ok());
        if let Some(Sequence(before)) = before {
            let bytes = self.vectors.remove(before).map_err(engine)?.map(|row| row.value().len());
            self.count_out(bytes);
        }
        let bytes = codec::encode(vector_place(place), record);
        self.vectors.insert(place, bytes.as_slice()).map_err(engine)?;
        self.totals.next += 1;
        self.totals.entries += 1;
        self.totals.bytes += bytes.len() as u64;
        Ok(())
    }

    fn count_out(&mut self, bytes: Option<usize>) {
        let Some(bytes) = bytes else { return };
        self.totals.entries = self.totals.entries.saturating_sub(1);
        self.totals.bytes = self.totals.bytes.saturating_sub(bytes as u64);
    }

    /// Takes the oldest away until the rest fits.
    fn evict(&mut self, bytes_max: u64) -> Result<()> {
        while self.totals.bytes > bytes_max {
            let Some((first, row)) = self.vectors.pop_first().map_err(engine)? else { break };
            let (place, bytes) = (first.value(), row.value().len());
            // What is damaged does not say what led to it; that row then leads nowhere.
            let record = codec::decode::<CachedRecord>(vector_place(place), row.value()).ok();
            drop((first, row));
            if let Some(record) = record {
                self.keys.remove(record.key.short().as_slice()).map_err(engine)?;
            }
            self.count_out(Some(bytes));
        }
        Ok(())
    }

    fn close(self, transaction: &WriteTransaction) -> Result<()> {
        let mut meta = transaction.open_table(META).map_err(engine)?;
        rows::put_named(&mut meta, META, TOTALS, &self.totals)
    }
}
