//! How does a collection come to be made otherwise while it is in use?
//!
//! A *shadow* is a collection to which no name leads, with settings of its own. Its owner fills it from the one that it is
//! to take the place of, document by document, in batches like any other; [`Store::differences`] tells what it lacks, and
//! [`Changes`] what is written to the other one meanwhile. [`Store::promote`] then lets the name lead to it.
//!
//! One mechanism does for other models, other chunks and other spaces, since a collection's number stands for settings that
//! never change: a snapshot pairs a number with a commit, so no search sees vectors of two models, and whoever asks for
//! the old number after the swap learns that there is none, and which took its place ([`Store::successor`]).
//!
//! Invariants: nothing of the shadow is seen under the name before all of it is; in the transaction of the swap it holds
//! whatever the owner made of every document of the other one; afterwards the other one is not found any more; a crash at
//! any moment leaves one of the two under the name, whole.

use std::sync::Arc;

use redb::{ReadOnlyTable, TableHandle, WriteTransaction};

use crate::codec::{self, CollectionRecord, DocumentRecord, Number, Place};
use crate::engine::{Engine, Outcome, collection_record, next_sequence, unknown};
use crate::error::engine;
use crate::guard::damage_as_error;
use crate::keys::{decode_id, encode_id};
use crate::store::{info, insert_collection};
use crate::tables::{Bytes, COLLECTION_NAMES, COLLECTIONS, DOCUMENT_IDS, DOCUMENTS, SHADOWS};
use crate::{
    CollectionId, CollectionInfo, CollectionSettings, DocumentId, Error, Operation, Result, Store, alias, ledger,
    retired, rows, seal, write,
};

/// A collection that is being filled to take the place of another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// What it is. Its name is that of the other one.
    pub info: CollectionInfo,
    /// Documents that it has by now.
    pub documents: u64,
    /// Their chunks.
    pub chunks: u64,
}

/// What is written to a collection from now on, as long as this lives. It lies in memory: ids alone.
#[derive(Debug)]
pub struct Changes {
    engine: Arc<Engine>,
    collection: CollectionId,
}

impl Changes {
    /// Takes up to so many ids of documents out that were added, replaced or deleted. A snapshot that is taken from now on
    /// shows them as they were then, or later.
    pub fn take(&self, limit: usize) -> Vec<DocumentId> {
        ids_of(&self.engine.feeds.take(self.collection.0, limit))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.engine.feeds.len(self.collection.0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.engine.feeds.close(self.collection.0);
    }
}

/// Keys of a feed were made of ids, so all are keys.
fn ids_of(keys: &[Vec<u8>]) -> Vec<DocumentId> {
    keys.iter().filter_map(|key| decode_id(key)).collect()
}

impl Store {
    /// Makes an empty shadow of a collection.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where it has one, or for settings that cannot be; [`Error::UnknownCollection`].
    pub fn create_shadow(&self, of: CollectionId, settings: &CollectionSettings) -> Result<CollectionInfo> {
        damage_as_error("the database", || {
            settings.validate()?;
            retired::purge(&self.0)?;
            self.0.writer()?.transact(|transaction| {
                let name = write_record(transaction, of)?.name;
                let mut shadows = transaction.open_table(SHADOWS).map_err(engine)?;
                if rows::get_numbered::<Number>(&shadows, SHADOWS, of.0)?.is_some() {
                    return Err(Error::invalid(format!("collection `{name}` is being made anew already")));
                }
                let made = insert_collection(transaction, &name, settings)?;
                rows::put_numbered(&mut shadows, SHADOWS, of.0, &Number(made.id.0))?;
                Ok((made, Outcome::Commit))
            })
        })
    }

    /// The shadow of a collection; `None` where it has none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn shadow(&self, of: CollectionId) -> Result<Option<Shadow>> {
        damage_as_error("the database", || {
            let transaction = self.0.begin_read()?;
            let Some(table) = rows::open_if_made(&transaction, SHADOWS)? else { return Ok(None) };
            let Some(Number(number)) = rows::get_numbered(&table, SHADOWS, of.0)? else { return Ok(None) };
            let record = collection_record(&transaction, CollectionId(number))?;
            let (documents, chunks) = (record.documents, record.chunks);
            Ok(Some(Shadow { info: info(number, record)?, documents, chunks }))
        })
    }

    /// Drops the shadow of a collection; returns whether there was one. Whoever is filling it fails.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Poisoned`], as of any write.
    pub fn drop_shadow(&self, of: CollectionId) -> Result<bool> {
        damage_as_error("the database", || {
            self.0.confirm_site()?;
            self.0.space.ask_to_remove();
            let found = self.0.writer()?.transact(|transaction| match retired::retire_shadow(transaction, of.0)? {
                None => Ok((None, Outcome::Nothing)),
                Some(shadow) => {
                    next_sequence(transaction)?;
                    Ok((Some(shadow), Outcome::Commit))
                }
            })?;
            let Some((number, segments)) = &found else { return Ok(false) };
            self.0.forget(*number);
            let turn = self.0.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            seal::remove_folders(&self.0, *number, segments);
            drop(turn);
            retired::purge(&self.0)?;
            Ok(true)
        })
    }

    /// Begins to note what is written to a collection. One at a time may.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where somebody does already; as [`Store::snapshot`].
    pub fn watch(&self, collection: CollectionId) -> Result<Changes> {
        damage_as_error("the database", || {
            // Its turn comes between two commits: one that was not noted is seen by every snapshot from now on.
            let _turn = self.0.writer()?;
            let name = collection_record(&*self.0.begin_read()?, collection)?.name;
            if !self.0.feeds.open(collection.0) {
                return Err(Error::invalid(format!(
                    "collection `{name}` is being made anew by another thread; wait for it, or have it cancelled"
                )));
            }
            Ok(Changes { engine: Arc::clone(&self.0), collection })
        })
    }

    /// The next documents, in order of id and after this one, that two collections do not have alike, by their digests.
    /// Fewer than `limit` come only where there are no more.
    ///
    /// Cost: two look-ups a document that is in both.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`]; [`Error::Corrupt`] where a record is damaged.
    pub fn differences(
        &self,
        wanted: CollectionId,
        found: CollectionId,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<DocumentId>> {
        damage_as_error("data.redb", || {
            let transaction = self.0.begin_read()?;
            let ids = rows::open(&transaction, DOCUMENT_IDS)?;
            let documents = rows::open(&transaction, DOCUMENTS)?;
            let mut sides = Vec::with_capacity(2);
            for collection in [wanted, found] {
                collection_record(&transaction, collection)?;
                sides.push(Side::new(&ids, &documents, collection.0, after)?);
            }
            let (mut differences, mut found) = (Vec::new(), sides.pop().into_iter());
            let (Some(mut wanted), Some(mut found)) = (sides.pop(), found.next()) else { return Ok(differences) };
            while differences.len() < limit {
                let key = match (wanted.key(), found.key()) {
                    (None, None) => break,
                    (Some(key), None) | (None, Some(key)) => key.to_vec(),
                    (Some(one), Some(other)) => one.min(other).to_vec(),
                };
                if wanted.digest_of(&key)? != found.digest_of(&key)? {
                    let place = Place::new(DOCUMENT_IDS.name(), (0, key.as_slice()));
                    differences.push(decode_id(&key).ok_or_else(|| place.corrupt("its key is no id"))?);
                }
            }
            Ok(differences)
        })
    }

    /// Lets the name of a collection lead to its shadow, which nobody can tell from it afterwards but by what it holds. The
    /// documents that were written since the last look at `changes` are given to `late`, and what it makes of them is
    /// written to the shadow before; no other write comes in between. From then on the collection itself is not found any
    /// more, while snapshots of it stay readable; its rows go with [`Store::purge`].
    ///
    /// Whoever writes waits for `late`, whoever reads does not.
    ///
    /// # Errors
    /// Those of `late`; [`Error::InvalidInput`] where there is no shadow; [`Error::Io`] and [`Error::Poisoned`] as of any
    /// write. After each of them but [`Error::Unconfirmed`] the name leads where it did.
    pub fn promote<E: From<Error>>(
        &self,
        changes: &Changes,
        late: impl FnOnce(&[DocumentId]) -> std::result::Result<Vec<Operation>, E>,
    ) -> std::result::Result<(), E> {
        let of = changes.collection;
        let Some(Shadow { info: shadow, .. }) = self.shadow(of)? else {
            return Err(Error::invalid("the shadow of this collection was dropped").into());
        };
        let mut writer = self.0.writer()?;
        let keys = self.0.feeds.take(of.0, usize::MAX);
        let written = late(&ids_of(&keys)).and_then(|batch| {
            if batch.is_empty() {
                return Ok(());
            }
            let write = || write::write_in_turn(&self.0, &mut writer, shadow.id, &batch).map(drop);
            damage_as_error("the database", write).map_err(E::from)
        });
        if let Err(error) = written {
            self.0.feeds.put_back(of.0, keys);
            return Err(error);
        }
        let swapped =
            damage_as_error("the database", || writer.transact(|transaction| swap(transaction, of, shadow.id)));
        let is_there = matches!(swapped, Ok(_) | Err(Error::Unconfirmed(_)));
        if is_there {
            self.0.succeed(of.0, shadow.id.0);
        }
        drop(writer);
        // A backup copies segments in its turn. Where it is not known which these were, the next open removes them.
        let _turn = self.0.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seal::remove_folders(&self.0, of.0, swapped.as_deref().unwrap_or_default());
        swapped.map(drop).map_err(E::from)
    }

    /// Removes what collections left behind whose place others took. Reads and writes go on.
    ///
    /// # Errors
    /// As of any write; what is left goes with the next call, the next shadow, or [`Store::compact`].
    pub fn purge(&self) -> Result<()> {
        damage_as_error("the database", || retired::purge(&self.0))
    }

    /// The number of the collection that took this one's place since the database was opened; `None` where none did. Costs
    /// a look into memory.
    pub fn successor(&self, collection: CollectionId) -> Option<CollectionId> {
        self.0.successor(collection.0).map(CollectionId)
    }

    /// As [`Store::successor`], asked by whoever did not find a collection any more: waits for the swap in progress.
    pub fn successor_of_lost(&self, collection: CollectionId) -> Option<CollectionId> {
        self.successor(collection).or_else(|| {
            self.0.settle_turn();
            self.successor(collection)
        })
    }

    /// The collection of this number.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`]; [`Error::Corrupt`] where its record is damaged.
    pub fn collection_info(&self, collection: CollectionId) -> Result<CollectionInfo> {
        damage_as_error("the database", || info(collection.0, collection_record(&*self.0.begin_read()?, collection)?))
    }
}

/// Returns the segments of the collection that goes.
fn swap(transaction: &WriteTransaction, of: CollectionId, shadow: CollectionId) -> Result<(Vec<u32>, Outcome)> {
    let mut shadows = transaction.open_table(SHADOWS).map_err(engine)?;
    if rows::get_numbered::<Number>(&shadows, SHADOWS, of.0)? != Some(Number(shadow.0)) {
        return Err(Error::invalid("the shadow of this collection was dropped"));
    }
    shadows.remove(of.0).map_err(engine)?;
    let name = write_record(transaction, of)?.name;
    ledger::move_to(transaction, of.0, shadow.0)?;
    alias::move_to(transaction, of.0, shadow.0)?;
    let segments = retired::retire(transaction, of.0)?;
    let mut names = transaction.open_table(COLLECTION_NAMES).map_err(engine)?;
    rows::put_named(&mut names, COLLECTION_NAMES, &name, &Number(shadow.0))?;
    let mut record = write_record(transaction, shadow)?;
    record.name = name;
    // Its content is the same, so its views stay good: the record's own sequence is not changed.
    next_sequence(transaction)?;
    let mut collections = transaction.open_table(COLLECTIONS).map_err(engine)?;
    rows::put_numbered(&mut collections, COLLECTIONS, shadow.0, &record)?;
    Ok((segments, Outcome::Commit))
}

fn write_record(transaction: &WriteTransaction, collection: CollectionId) -> Result<CollectionRecord> {
    let table = transaction.open_table(COLLECTIONS).map_err(engine)?;
    rows::get_numbered(&table, COLLECTIONS, collection.0)?.ok_or_else(|| unknown(collection))
}

/// The documents of a collection, in order of id.
struct Side<'a> {
    collection: u32,
    rest: redb::Range<'a, (u32, &'static [u8]), Bytes>,
    documents: &'a ReadOnlyTable<(u32, u32), Bytes>,
    /// The id key and the number of the one at hand.
    next: Option<(Vec<u8>, u32)>,
}

impl<'a> Side<'a> {
    fn new(
        ids: &'a ReadOnlyTable<(u32, &'static [u8]), Bytes>,
        documents: &'a ReadOnlyTable<(u32, u32), Bytes>,
        collection: u32,
        after: Option<&DocumentId>,
    ) -> Result<Self> {
        use std::ops::Bound::{Excluded, Included};
        let start = after.map(encode_id);
        let start = start.as_deref().map_or(Included((collection, [].as_slice())), |key| Excluded((collection, key)));
        let end = Excluded((collection + 1, [].as_slice()));
        let rest = ids.range::<(u32, &[u8])>((start, end)).map_err(engine)?;
        let mut side = Self { collection, rest, documents, next: None };
        side.advance()?;
        Ok(side)
    }

    fn advance(&mut self) -> Result<()> {
        self.next = match self.rest.next().transpose().map_err(engine)? {
            None => None,
            Some((key, value)) => {
                let Number(number) = codec::decode(Place::new(DOCUMENT_IDS.name(), key.value()), value.value())?;
                Some((key.value().1.to_vec(), number))
            }
        };
        Ok(())
    }

    fn key(&self) -> Option<&[u8]> {
        self.next.as_ref().map(|(key, _)| key.as_slice())
    }

    /// The digest of the document at hand where it has this key, after which the next one is.
    fn digest_of(&mut self, key: &[u8]) -> Result<Option<[u8; 16]>> {
        let Some((_, number)) = self.next.as_ref().filter(|(own, _)| own == key) else { return Ok(None) };
        let record: DocumentRecord = rows::need(self.documents, DOCUMENTS, (self.collection, *number))?;
        self.advance()?;
        Ok(Some(record.digest))
    }
}
