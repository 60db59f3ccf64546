//! How do the rows of a collection leave that is no more?
//!
//! In one transaction a collection is taken from everybody's sight: its record goes from `collections` to `retired`. Its
//! rows then go piece by piece, so that no writer waits for long, however large it was.
//!
//! Invariants: what is retired is never found again; its record stays until its last row is gone, so a crash leaves
//! nothing behind that the next purge would not find.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::codec::{CollectionRecord, Number};
use crate::engine::{Engine, Outcome, next_sequence, unknown};
use crate::error::engine;
use crate::tables::{
    Bytes, CHUNKS, COLLECTIONS, DOCUMENT_IDS, DOCUMENTS, EXPIRIES, EXPIRY_ORDER, METADATA, Pair, RETIRED, SEGMENTS,
    SHADOWS, SPACES, TEXTS, TOMBSTONES, VECTORS, pairs_of,
};
use crate::{CollectionId, Result, ledger, rows};

/// Rows of a table that one transaction removes, and blocks of vectors.
const ROWS_MAX: usize = 8_192;
const BLOCKS_MAX: usize = 512;

/// Takes a collection from sight; returns the numbers of its segments, whose folders nobody needs after the commit.
///
/// # Errors
/// [`crate::Error::UnknownCollection`] where it is not there.
pub(crate) fn retire(transaction: &WriteTransaction, number: u32) -> Result<Vec<u32>> {
    let mut collections = transaction.open_table(COLLECTIONS).map_err(engine)?;
    let record: CollectionRecord =
        rows::get_numbered(&collections, COLLECTIONS, number)?.ok_or_else(|| unknown(CollectionId(number)))?;
    collections.remove(number).map_err(engine)?;
    transaction.open_table(TOMBSTONES).map_err(engine)?.remove(number).map_err(engine)?;
    let mut spaces = transaction.open_table(SPACES).map_err(engine)?;
    for space in &record.spaces {
        spaces.remove(space).map_err(engine)?;
    }
    let mut table = transaction.open_table(SEGMENTS).map_err(engine)?;
    let mut segments = Vec::new();
    for row in table.range(pairs_of(number)).map_err(engine)? {
        segments.push(row.map_err(engine)?.0.value().1);
    }
    table.retain_in(pairs_of(number), |_, _| false).map_err(engine)?;
    ledger::drop_collection(transaction, number)?;
    let mut retired = transaction.open_table(RETIRED).map_err(engine)?;
    rows::put_numbered(&mut retired, RETIRED, number, &record)?;
    Ok(segments)
}

/// Takes the collection from sight that is being filled to take this one's place; returns it and its segments.
///
/// # Errors
/// Whatever redb says.
pub(crate) fn retire_shadow(transaction: &WriteTransaction, of: u32) -> Result<Option<(u32, Vec<u32>)>> {
    let mut shadows = transaction.open_table(SHADOWS).map_err(engine)?;
    let Some(Number(shadow)) = rows::get_numbered(&shadows, SHADOWS, of)? else { return Ok(None) };
    shadows.remove(of).map_err(engine)?;
    Ok(Some((shadow, retire(transaction, shadow)?)))
}

/// Removes all rows of retired collections, in transactions of bounded size.
///
/// # Errors
/// Whatever redb says; what is left goes with the next call.
pub(crate) fn purge(engine: &Engine) -> Result<()> {
    while has_retired(engine)? {
        engine.space.ask_to_remove();
        engine.writer()?.transact(|transaction| {
            remove_piece(transaction)?;
            next_sequence(transaction)?;
            Ok(((), Outcome::Commit))
        })?;
    }
    Ok(())
}

fn has_retired(engine: &Engine) -> Result<bool> {
    let transaction = engine.begin_read()?;
    let table = rows::open_if_made(&transaction, RETIRED)?;
    table.map_or(Ok(false), |table| Ok(table.first().map_err(crate::error::engine)?.is_some()))
}

fn remove_piece(transaction: &WriteTransaction) -> Result<()> {
    let mut retired = transaction.open_table(RETIRED).map_err(engine)?;
    let first = retired.first().map_err(engine)?.map(|(number, _)| number.value());
    let Some(number) = first else { return Ok(()) };
    let record: CollectionRecord =
        rows::get_numbered(&retired, RETIRED, number)?.ok_or_else(|| unknown(CollectionId(number)))?;
    let mut is_empty = true;
    for table in [DOCUMENTS, TEXTS, METADATA, CHUNKS, EXPIRIES] {
        is_empty &= remove_pairs(transaction, table, number, ROWS_MAX)?;
    }
    for space in record.spaces {
        is_empty &= remove_pairs(transaction, VECTORS, space, BLOCKS_MAX)?;
    }
    for table in [DOCUMENT_IDS, EXPIRY_ORDER] {
        is_empty &= remove_keyed(transaction, table, number)?;
    }
    if is_empty {
        retired.remove(number).map_err(engine)?;
    }
    Ok(())
}

/// Removes the first rows of an owner; returns whether none is left.
fn remove_pairs(
    transaction: &WriteTransaction,
    definition: TableDefinition<'static, Pair, Bytes>,
    owner: u32,
    rows_max: usize,
) -> Result<bool> {
    let mut table = transaction.open_table(definition).map_err(engine)?;
    let nth = table.range(pairs_of(owner)).map_err(engine)?.nth(rows_max);
    let end = nth.transpose().map_err(engine)?.map(|(key, _)| key.value());
    match end {
        Some(end) => table.retain_in((owner, 0)..end, |_, _| false).map_err(engine)?,
        None => table.retain_in(pairs_of(owner), |_, _| false).map_err(engine)?,
    }
    Ok(end.is_none())
}

/// As [`remove_pairs`], where the second part of a key is bytes.
fn remove_keyed(
    transaction: &WriteTransaction,
    definition: TableDefinition<'static, (u32, &'static [u8]), Bytes>,
    owner: u32,
) -> Result<bool> {
    let mut table = transaction.open_table(definition).map_err(engine)?;
    let all = || (owner, [].as_slice())..(owner + 1, [].as_slice());
    let nth = table.range::<(u32, &[u8])>(all()).map_err(engine)?.nth(ROWS_MAX);
    let end = nth.transpose().map_err(engine)?.map(|(key, _)| key.value().1.to_vec());
    match &end {
        Some(end) => {
            let first = (owner, [].as_slice())..(owner, end.as_slice());
            table.retain_in::<(u32, &[u8]), _>(first, |_, _| false).map_err(engine)?;
        }
        None => table.retain_in::<(u32, &[u8]), _>(all(), |_, _| false).map_err(engine)?,
    }
    Ok(end.is_none())
}
