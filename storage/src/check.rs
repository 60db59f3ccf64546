//! Is everything as it should be?
//!
//! Reads every record of every table, compares its checksum, and then what the records say of each other: documents with
//! ids, texts, metadata and chunks; chunks with texts, tombstones, vectors and segments; totals with what is there.
//!
//! Invariants: nothing is changed on disk; damage is reported and the check goes on with what is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableHandle};

use crate::codec::{self, CollectionRecord, Identity, Json, NextNumbers, Number, Opaque, Place, Record, Sequence};
use crate::engine::Engine;
use crate::error::engine;
use crate::tables::{
    ALIASES, Bytes, CHUNKS, COLLECTION_NAMES, COLLECTIONS, DOCUMENT_IDS, DOCUMENTS, EXPIRIES, IMPORT_LEDGER, META,
    METADATA, Pair, RETIRED, SEGMENTS, SHADOWS, SPACES, TEXTS, TOMBSTONES, VECTORS,
};
use crate::{CollectionId, Error, Result, rows};

mod cache;
mod chunks;
mod collection;
mod expiry;
mod segments;

/// So many violations are told one by one.
const VIOLATIONS_MAX: usize = 1000;

/// Everything that is wrong, one sentence each; what was found so far where it is told to stop.
///
/// # Errors
/// [`Error::Io`] or [`Error::Engine`] where the database cannot be read at all.
pub(crate) fn check(engine: &Engine, stop: &AtomicBool) -> Result<Vec<String>> {
    let Findings { violations, damaged_segments } = inspect(&*engine.begin_read()?, engine.folder(), stop)?;
    distrust(engine, &damaged_segments)?;
    Ok(violations)
}

/// What a check comes to.
pub(crate) struct Findings {
    pub(crate) violations: Vec<String>,
    /// Collection and number of the segments whose folder is not what was built.
    pub(crate) damaged_segments: Vec<(u32, u32)>,
}

/// Everything that is wrong as of this transaction, in it and in the folder; what was found so far where it is told to stop.
///
/// # Errors
/// As [`check`].
pub(crate) fn inspect(transaction: &ReadTransaction, folder: Option<&Path>, stop: &AtomicBool) -> Result<Findings> {
    let mut check = Check { transaction, stop, found: Vec::new(), more: 0, damaged_segments: Vec::new() };
    check.meta()?;
    let collections = check.collections()?;
    let spaces: BTreeSet<u32> = collections.values().flat_map(|record| record.spaces.iter().copied()).collect();
    check.names(&collections)?;
    check.strays(&collections, &spaces)?;
    check.ledger(&collections)?;
    check.aliases(&collections)?;
    cache::check(&mut check)?;
    for (&number, record) in &collections {
        if check.is_stopped() {
            break;
        }
        collection::check(&mut check, folder, number, record)?;
    }
    let Check { mut found, more, damaged_segments, .. } = check;
    if more > 0 {
        found.push(format!("{more} more violations are not listed"));
    }
    Ok(Findings { violations: found, damaged_segments })
}

/// Tells the collections in memory which of their segments are damaged, so that these are built again also where no
/// search has met the damage.
pub(crate) fn distrust(engine: &Engine, damaged: &[(u32, u32)]) -> Result<()> {
    for &(collection, number) in damaged {
        let view = match engine.pin(CollectionId(collection)) {
            Ok(pinned) => pinned.view,
            Err(Error::UnknownCollection(_)) => continue,
            Err(error) => return Err(error),
        };
        let segments = view.iter().flat_map(|view| &view.segments);
        segments.filter(|segment| segment.number == number).for_each(|segment| segment.distrust());
    }
    Ok(())
}

/// A check under way.
struct Check<'a> {
    transaction: &'a ReadTransaction,
    stop: &'a AtomicBool,
    found: Vec<String>,
    more: u64,
    /// Collection and number of the segments whose folder is not what was built.
    damaged_segments: Vec<(u32, u32)>,
}

impl Check<'_> {
    /// Whether nobody waits for what is found any more.
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn say(&mut self, sentence: String) {
        if self.found.len() < VIOLATIONS_MAX {
            self.found.push(sentence);
        } else {
            self.more += 1;
        }
    }

    /// Says it where something is not so.
    fn expect(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.say(sentence());
        }
    }

    /// Takes damage down and goes on; other errors end the check.
    fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Corrupt { place, what }) => {
                self.say(format!("{place}: {what}"));
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// The rows of a range whose records are whole, with their second key.
    fn rows<R: Record>(
        &mut self,
        definition: TableDefinition<'static, Pair, Bytes>,
        owner: u32,
    ) -> Result<Vec<(u32, R)>> {
        let table = rows::open(self.transaction, definition)?;
        let mut found = Vec::new();
        for row in table.range(crate::tables::pairs_of(owner)).map_err(engine)? {
            // After an unreadable page nothing more comes of this range.
            let Some((key, value)) = self.note(row.map_err(engine))? else { break };
            let record = codec::decode(Place::new(definition.name(), key.value()), value.value());
            found.extend(self.note(record)?.map(|record| (key.value().1, record)));
        }
        Ok(found)
    }

    fn meta(&mut self) -> Result<()> {
        let meta = rows::open(self.transaction, META)?;
        let found = [
            rows::get_named::<Number>(&meta, META, "format").map(|found| found.is_some()),
            rows::get_named::<Identity>(&meta, META, "identity").map(|found| found.is_some()),
            rows::get_named::<Sequence>(&meta, META, "sequence").map(|found| found.is_some()),
            rows::get_named::<NextNumbers>(&meta, META, "next").map(|found| found.is_some()),
        ];
        for (name, found) in ["format", "identity", "sequence", "next"].into_iter().zip(found) {
            if self.note(found)? == Some(false) {
                self.say(format!("table meta, key `{name}`: it is missing"));
            }
        }
        Ok(())
    }

    fn collections(&mut self) -> Result<BTreeMap<u32, CollectionRecord>> {
        let table = rows::open(self.transaction, COLLECTIONS)?;
        let meta = rows::open(self.transaction, META)?;
        let next = self.note(rows::get_named::<NextNumbers>(&meta, META, "next"))?.flatten();
        let last = self.note(rows::get_named::<Sequence>(&meta, META, "sequence"))?.flatten();
        let mut found = BTreeMap::new();
        for row in table.iter().map_err(engine)? {
            let Some((key, value)) = self.note(row.map_err(engine))? else { break };
            let place = Place::new(COLLECTIONS.name(), key.value());
            let Some(record) = self.note(codec::decode::<CollectionRecord>(place, value.value()))? else { continue };
            self.expect(next.is_none_or(|next| key.value() < next.collection), || {
                format!("{place}: its number was never given out")
            });
            self.expect(last.is_none_or(|last| record.sequence <= last.0), || {
                format!("{place}: its commit {} is newer than the last one", record.sequence)
            });
            found.insert(key.value(), record);
        }
        Ok(found)
    }

    fn names(&mut self, collections: &BTreeMap<u32, CollectionRecord>) -> Result<()> {
        let table = rows::open(self.transaction, COLLECTION_NAMES)?;
        let mut named = BTreeSet::new();
        for row in table.iter().map_err(engine)? {
            let Some((key, value)) = self.note(row.map_err(engine))? else { break };
            let place = Place::new(COLLECTION_NAMES.name(), key.value());
            let Some(Number(number)) = self.note(codec::decode(place, value.value()))? else { continue };
            named.insert(number);
            let agrees = collections.get(&number).is_some_and(|record| record.name == key.value());
            self.expect(agrees, || format!("{place}: it leads to collection {number}, which has not this name"));
        }
        let shadows = self.shadows(collections)?;
        for number in collections.keys().filter(|number| !named.contains(number) && !shadows.contains(number)) {
            self.say(format!("collection {number}: no name leads to it"));
        }
        Ok(())
    }

    /// The collections that are being filled to take the place of another one, which must be there as well.
    fn shadows(&mut self, collections: &BTreeMap<u32, CollectionRecord>) -> Result<BTreeSet<u32>> {
        let mut shadows = BTreeSet::new();
        let Some(table) = rows::open_if_made(self.transaction, SHADOWS)? else { return Ok(shadows) };
        for row in table.iter().map_err(engine)? {
            let Some((key, value)) = self.note(row.map_err(engine))? else { break };
            let place = Place::new(SHADOWS.name(), key.value());
            let Some(Number(shadow)) = self.note(codec::decode(place, value.value()))? else { continue };
            for number in [key.value(), shadow] {
                self.expect(collections.contains_key(&number), || format!("{place}: there is no collection {number}"));
            }
            shadows.insert(shadow);
        }
        Ok(shadows)
    }

    /// Of the collections that are no more and whose rows are still to go: their numbers, and those of their spaces.
    fn retired(&mut self) -> Result<(BTreeSet<u32>, BTreeSet<u32>)> {
        let (mut numbers, mut spaces) = (BTreeSet::new(), BTreeSet::new());
        let Some(table) = rows::open_if_made(self.transaction, RETIRED)? else { return Ok((numbers, spaces)) };
        for row in table.iter().map_err(engine)? {
            let Some((key, value)) = self.note(row.map_err(engine))? else { break };
            numbers.insert(key.value());
            let record = codec::decode::<CollectionRecord>(Place::new(RETIRED.name(), key.value()), value.value());
            spaces.extend(self.note(record)?.into_iter().flat_map(|record| record.spaces));
        }
        Ok((numbers, spaces))
    }

    /// Rows of collections and spaces that are not.
    fn strays(&mut self, collections: &BTreeMap<u32, CollectionRecord>, spaces: &BTreeSet<u32>) -> Result<()> {
        let (leaving, leaving_spaces) = self.retired()?;
        let is_known = |owner: &u32| collections.contains_key(owner) || leaving.contains(owner);
        for definition in [DOCUMENTS, TEXTS, METADATA, CHUNKS, SEGMENTS, EXPIRIES] {
            let Some(table) = rows::open_if_made(self.transaction, definition)? else { continue };
            let owners = owners(&table)?;
            for owner in owners.into_iter().filter(|owner| !is_known(owner)) {
                self.say(format!("table {}: it has rows of collection {owner}, which is not", definition.name()));
            }
        }
        let owners_of_vectors = owners(&rows::open(self.transaction, VECTORS)?)?;
        let is_known_space = |owner: &u32| spaces.contains(owner) || leaving_spaces.contains(owner);
        for owner in owners_of_vectors.into_iter().filter(|owner| !is_known_space(owner)) {
            self.say(format!("table vectors: it has rows of space {owner}, which is not"));
        }
        for (definition, known) in [(TOMBSTONES, collections.keys().copied().collect()), (SPACES, spaces.clone())] {
            let table = rows::open(self.transaction, definition)?;
            for row in table.iter().map_err(engine)? {
                let Some((key, _)) = self.note(row.map_err(engine))? else { break };
                self.expect(known.contains(&key.value()), || {
                    format!("table {}, key {}: nothing has this number", definition.name(), key.value())
                });
            }
        }
        let ids = rows::open(self.transaction, DOCUMENT_IDS)?;
        let mut next = 0;
        while let Some(row) = ids.range((next, [].as_slice())..).map_err(engine)?.next() {
            let Some((key, _)) = self.note(row.map_err(engine))? else { break };
            let (owner, _) = key.value();
            self.expect(is_known(&owner), || {
                format!("table document_ids: it has rows of collection {owner}, which is not")
            });
            let Some(after) = owner.checked_add(1) else { break };
            next = after;
        }
        Ok(())
    }

    /// Aliases lead to collections, and are not the names of any.
    fn aliases(&mut self, collections: &BTreeMap<u32, CollectionRecord>) -> Result<()> {
        let Some(table) = rows::open_if_made(self.transaction, ALIASES)? else { return Ok(()) };
        for row in table.iter().map_err(engine)? {
            let Some((key, value)) = self.note(row.map_err(engine))? else { break };
            let place = Place::new(ALIASES.name(), key.value());
            let Some(Number(number)) = self.note(codec::decode(place, value.value()))? else { continue };
            self.expect(collections.contains_key(&number), || format!("{place}: there is no collection {number}"));
            let is_taken = collections.values().any(|record| record.name == key.value());
            self.expect(!is_taken, || format!("{place}: a collection has this name"));
        }
        Ok(())
    }

    /// Records of the ledger are whole and those of collections that are.
    fn ledger(&mut self, collections: &BTreeMap<u32, CollectionRecord>) -> Result<()> {
        let Some(table) = rows::open_if_made(self.transaction, IMPORT_LEDGER)? else { return Ok(()) };
        for row in table.iter().map_err(engine)? {
            let Some((key, value)) = self.note(row.map_err(engine))? else { break };
            let place = Place::new(IMPORT_LEDGER.name(), key.value());
            self.note(codec::decode::<Opaque>(place, value.value()))?;
            let (owner, _) = key.value();
            self.expect(collections.contains_key(&owner), || format!("{place}: there is no collection {owner}"));
        }
        Ok(())
    }

    /// Whether each document has a whole row here, and nothing else has.
    fn json_rows(&mut self, number: u32, documents: &BTreeSet<u32>) -> Result<()> {
        let rows = self.rows::<Json>(METADATA, number)?;
        for (document, _) in rows.iter().filter(|(document, _)| !documents.contains(document)) {
            self.say(format!("{}: there is no such document", Place::new(METADATA.name(), (number, *document))));
        }
        Ok(())
    }
}

/// The first keys that occur in a table, found by leaps.
fn owners(table: &impl ReadableTable<Pair, Bytes>) -> Result<Vec<u32>> {
    let mut owners = Vec::new();
    let mut next = 0;
    while let Some(row) = table.range((next, 0)..).map_err(engine)?.next() {
        let owner = row.map_err(engine)?.0.value().0;
        owners.push(owner);
        let Some(after) = owner.checked_add(1) else { break };
        next = after;
    }
    Ok(owners)
}
