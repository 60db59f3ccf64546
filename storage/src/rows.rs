//! How is a row read or written, so that its checksum is always compared and its place always named?

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableHandle};

use crate::codec::{self, Place, Record};
use crate::error::engine;
use crate::tables::{Bytes, Pair};
use crate::{Error, Result};

/// The record of a pair; `None` where there is none.
///
/// # Errors
/// [`Error::Corrupt`] where it is damaged.
pub(crate) fn get<R: Record>(
    table: &impl ReadableTable<Pair, Bytes>,
    definition: TableDefinition<'static, Pair, Bytes>,
    key: Pair,
) -> Result<Option<R>> {
    let row = table.get(key).map_err(engine)?;
    row.map(|row| codec::decode(Place::new(definition.name(), key), row.value())).transpose()
}

/// The record of a pair that must be there.
///
/// # Errors
/// [`Error::Corrupt`] where it is missing or damaged.
pub(crate) fn need<R: Record>(
    table: &impl ReadableTable<Pair, Bytes>,
    definition: TableDefinition<'static, Pair, Bytes>,
    key: Pair,
) -> Result<R> {
    get(table, definition, key)?.ok_or_else(|| missing(Place::new(definition.name(), key)))
}

/// The record of a number.
///
/// # Errors
/// [`Error::Corrupt`] where it is damaged.
pub(crate) fn get_numbered<R: Record>(
    table: &impl ReadableTable<u32, Bytes>,
    definition: TableDefinition<'static, u32, Bytes>,
    key: u32,
) -> Result<Option<R>> {
    let row = table.get(key).map_err(engine)?;
    row.map(|row| codec::decode(Place::new(definition.name(), key), row.value())).transpose()
}

/// The record of a name.
///
/// # Errors
/// [`Error::Corrupt`] where it is damaged.
pub(crate) fn get_named<R: Record>(
    table: &impl ReadableTable<&'static str, Bytes>,
    definition: TableDefinition<'static, &'static str, Bytes>,
    key: &str,
) -> Result<Option<R>> {
    let row = table.get(key).map_err(engine)?;
    row.map(|row| codec::decode(Place::new(definition.name(), key), row.value())).transpose()
}

/// The number of the document with this id.
///
/// # Errors
/// [`Error::Corrupt`] where the record is damaged.
pub(crate) fn get_id(
    table: &impl ReadableTable<(u32, &'static [u8]), Bytes>,
    key: (u32, &[u8]),
) -> Result<Option<u32>> {
    let row = table.get(key).map_err(engine)?;
    let place = Place::new(crate::tables::DOCUMENT_IDS.name(), key);
    row.map(|row| codec::decode::<codec::Number>(place, row.value())).transpose().map(|found| found.map(|n| n.0))
}

/// Writes the record of a pair.
pub(crate) fn put<R: Record>(
    table: &mut Table<'_, Pair, Bytes>,
    definition: TableDefinition<'static, Pair, Bytes>,
    key: Pair,
    record: &R,
) -> Result<()> {
    put_bytes(table, key, &codec::encode(Place::new(definition.name(), key), record))
}

/// Writes the bytes of a record.
pub(crate) fn put_bytes(table: &mut Table<'_, Pair, Bytes>, key: Pair, bytes: &[u8]) -> Result<()> {
    table.insert(key, bytes).map(drop).map_err(engine)
}

/// Writes the record of a number.
pub(crate) fn put_numbered<R: Record>(
    table: &mut Table<'_, u32, Bytes>,
    definition: TableDefinition<'static, u32, Bytes>,
    key: u32,
    record: &R,
) -> Result<()> {
    let bytes = codec::encode(Place::new(definition.name(), key), record);
    table.insert(key, bytes.as_slice()).map(drop).map_err(engine)
}

/// Writes the record of a name.
pub(crate) fn put_named<R: Record>(
    table: &mut Table<'_, &'static str, Bytes>,
    definition: TableDefinition<'static, &'static str, Bytes>,
    key: &str,
    record: &R,
) -> Result<()> {
    let bytes = codec::encode(Place::new(definition.name(), key), record);
    table.insert(key, bytes.as_slice()).map(drop).map_err(engine)
}

/// Writes the number of the document with this id.
pub(crate) fn put_id(
    table: &mut Table<'_, (u32, &'static [u8]), Bytes>,
    key: (u32, &[u8]),
    document: u32,
) -> Result<()> {
    let place = Place::new(crate::tables::DOCUMENT_IDS.name(), key);
    let bytes = codec::encode(place, &codec::Number(document));
    table.insert(key, bytes.as_slice()).map(drop).map_err(engine)
}

/// Opens a table that databases made before it was thought of have only from the first row in it on.
pub(crate) fn open_if_made<K: redb::Key + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'static, K, Bytes>,
) -> Result<Option<redb::ReadOnlyTable<K, Bytes>>> {
    match transaction.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(engine(error)),
    }
}

/// Opens a table of a read transaction that is made with the database.
pub(crate) fn open<K: redb::Key + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'static, K, Bytes>,
) -> Result<redb::ReadOnlyTable<K, Bytes>> {
    transaction.open_table(definition).map_err(engine)
}

/// The error for a row that must be there and is not.
pub(crate) fn missing(place: Place<'_>) -> Error {
    place.corrupt("it is missing")
}
