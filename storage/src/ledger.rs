//! How far has an import come, so that it goes on exactly there after a crash?
//!
//! Whoever imports keeps his position in the ledger: a record of his own bytes, under a key of his own, with a collection.
//! It is written in the transaction that brings the documents, so that neither is ever there without the other.
//!
//! Invariants: storage does not read what is in a record; the records of a collection go with it; a change of the ledger
//! alone leaves every view of the collection good.

use redb::{ReadTransaction, ReadableTable, Table, TableHandle, WriteTransaction};

use crate::codec::{self, Opaque, Place};
use crate::error::engine;
use crate::tables::{Bytes, IMPORT_LEDGER};
use crate::{DocumentId, Error, Result, rows};

/// The longest key of a ledger record, in bytes.
pub const LEDGER_KEY_BYTES_MAX: usize = 1024;
/// The largest ledger record, in bytes.
pub const LEDGER_VALUE_BYTES_MAX: usize = 16 << 20;

/// What is written with a batch of operations, in its transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alongside {
    /// Changes of the collection's ledger, in their order.
    pub ledger: Vec<LedgerEdit>,
    /// What must be so when the transaction begins, or nothing is written. Asked of batches that have operations.
    pub expected: Vec<Expected>,
}

/// Which version of a document must be there, so that nobody's write goes unseen. A version is the document's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The document.
    pub id: DocumentId,
    /// What is expected of it.
    pub version: ExpectedVersion,
}

/// What is expected of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Nothing.
    Any,
    /// It is not there.
    Absent,
    /// It is there, whatever it holds.
    Present,
    /// It is there in one of these versions.
    OneOf(Vec<[u8; 16]>),
}

impl Expected {
    /// Compares it with what is there: the document's digest, `None` where it is not there.
    ///
    /// # Errors
    /// [`Error::Changed`] where it differs.
    pub fn compare(&self, found: Option<[u8; 16]>) -> Result<()> {
        let Self { id, version } = self;
        let what = match (version, found) {
            (ExpectedVersion::Any, _) | (ExpectedVersion::Absent, None) | (ExpectedVersion::Present, Some(_)) => {
                return Ok(());
            }
            (ExpectedVersion::OneOf(versions), Some(found)) if versions.contains(&found) => return Ok(()),
            (ExpectedVersion::Absent, Some(_)) => "is there already",
            (ExpectedVersion::Present | ExpectedVersion::OneOf(_), None) => "is not there",
            (ExpectedVersion::OneOf(_), Some(_)) => "has another version",
        };
        Err(Error::Changed { id: id.to_string(), what })
    }
}

/// A change of a collection's ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerEdit {
    /// Stores a record, in place of an earlier one of the same key.
    Put {
        /// 1 to [`LEDGER_KEY_BYTES_MAX`] bytes.
        key: Vec<u8>,
        /// Up to [`LEDGER_VALUE_BYTES_MAX`] bytes.
        value: Vec<u8>,
    },
    /// Removes a record; nothing happens where there is none.
    Remove {
        /// Its key.
        key: Vec<u8>,
    },
}

impl LedgerEdit {
    /// Stores a record.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { key: key.into(), value: value.into() }
    }

    /// Removes a record.
    pub fn remove(key: impl Into<Vec<u8>>) -> Self {
        Self::Remove { key: key.into() }
    }

    fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Remove { key } => key,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Put { value, .. } => value.len(),
            Self::Remove { .. } => 0,
        }
    }
}

impl Alongside {
    /// With changes of the ledger alone.
    pub fn ledger(edits: impl IntoIterator<Item = LedgerEdit>) -> Self {
        Self { ledger: edits.into_iter().collect(), expected: Vec::new() }
    }

    /// With what must be so.
    pub fn expected(expected: impl IntoIterator<Item = Expected>) -> Self {
        Self { ledger: Vec::new(), expected: expected.into_iter().collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { ledger, expected: _ } = self;
        ledger.is_empty()
    }

    /// Whether it makes the database no larger, so that it is allowed on a full disk.
    pub(crate) fn only_removes(&self) -> bool {
        let Self { ledger, expected: _ } = self;
        ledger.iter().all(|edit| matches!(edit, LedgerEdit::Remove { .. }))
    }

    /// About what it takes on disk, with what is written again.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        let Self { ledger, expected: _ } = self;
        let ledger: usize = ledger.iter().map(LedgerEdit::value_bytes).sum();
        2 * ledger as u64
    }

    /// # Errors
    /// [`Error::InvalidInput`] for a key or value that is too long or empty.
    pub(crate) fn validate(&self) -> Result<()> {
        for edit in &self.ledger {
            validate_key(edit.key())?;
            let bytes = edit.value_bytes();
            if bytes > LEDGER_VALUE_BYTES_MAX {
                return Err(Error::invalid(format!(
                    "a ledger record has {bytes} bytes; the limit is {LEDGER_VALUE_BYTES_MAX}. Split it over several keys"
                )));
            }
        }
        Ok(())
    }

    /// Writes it. Returns whether anything changed.
    pub(crate) fn write(&self, transaction: &WriteTransaction, collection: u32) -> Result<bool> {
        let Self { ledger, expected: _ } = self;
        let mut changed = false;
        if !ledger.is_empty() {
            let mut table = transaction.open_table(IMPORT_LEDGER).map_err(engine)?;
            for edit in ledger {
                changed |= apply(&mut table, collection, edit)?;
            }
        }
        Ok(changed)
    }
}

fn validate_key(key: &[u8]) -> Result<()> {
    if (1..=LEDGER_KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    let bytes = key.len();
    Err(Error::invalid(format!(
        "a ledger key has {bytes} bytes; use 1 to {LEDGER_KEY_BYTES_MAX}, a digest for instance"
    )))
}

fn apply(table: &mut Table<'_, (u32, &'static [u8]), Bytes>, collection: u32, edit: &LedgerEdit) -> Result<bool> {
    let key = (collection, edit.key());
    match edit {
        LedgerEdit::Put { value, .. } => {
            let bytes = codec::encode(Place::new(IMPORT_LEDGER.name(), key), &Opaque(value.clone()));
            table.insert(key, bytes.as_slice()).map_err(engine)?;
            Ok(true)
        }
        LedgerEdit::Remove { .. } => Ok(table.remove(key).map_err(engine)?.is_some()),
    }
}

/// The record of a key.
///
/// # Errors
/// [`Error::Corrupt`] where it is damaged.
pub(crate) fn get(transaction: &ReadTransaction, collection: u32, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(table) = rows::open_if_made(transaction, IMPORT_LEDGER)? else { return Ok(None) };
    let row = table.get((collection, key)).map_err(engine)?;
    let place = Place::new(IMPORT_LEDGER.name(), (collection, key));
    row.map(|row| codec::decode::<Opaque>(place, row.value())).transpose().map(|found| found.map(|record| record.0))
}

/// The records whose keys begin so, in order of key.
///
/// # Errors
/// [`Error::Corrupt`] where one is damaged.
pub(crate) fn list(transaction: &ReadTransaction, collection: u32, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    let Some(table) = rows::open_if_made(transaction, IMPORT_LEDGER)? else { return Ok(found) };
    for row in table.range((collection, prefix)..(collection + 1, [].as_slice())).map_err(engine)? {
        let (key, value) = row.map_err(engine)?;
        let (_, name) = key.value();
        if !name.starts_with(prefix) {
            break;
        }
        let Opaque(record) = codec::decode(Place::new(IMPORT_LEDGER.name(), key.value()), value.value())?;
        found.push((name.to_vec(), record));
    }
    Ok(found)
}

/// Removes all records of a collection, where the table was ever made.
pub(crate) fn drop_collection(transaction: &WriteTransaction, collection: u32) -> Result<()> {
    let mut table = transaction.open_table(IMPORT_LEDGER).map_err(engine)?;
    let of_collection = (collection, [].as_slice())..(collection + 1, [].as_slice());
    table.retain_in::<(u32, &[u8]), _>(of_collection, |_, _| false).map_err(engine)
}

/// Gives all records of a collection to another one, which takes its place.
pub(crate) fn move_to(transaction: &WriteTransaction, from: u32, to: u32) -> Result<()> {
    let mut table = transaction.open_table(IMPORT_LEDGER).map_err(engine)?;
    let mut records = Vec::new();
    for row in table.range((from, [].as_slice())..(from + 1, [].as_slice())).map_err(engine)? {
        let (key, value) = row.map_err(engine)?;
        let record: Opaque = codec::decode(Place::new(IMPORT_LEDGER.name(), key.value()), value.value())?;
        records.push((key.value().1.to_vec(), record));
    }
    for (name, record) in records {
        table.remove((from, name.as_slice())).map_err(engine)?;
        let key = (to, name.as_slice());
        table.insert(key, codec::encode(Place::new(IMPORT_LEDGER.name(), key), &record).as_slice()).map_err(engine)?;
    }
    Ok(())
}
