//! Which documents are gone by now, though their rows are still there?
//!
//! A document that is to expire has two rows: one under its number, which tells when, and one under the moment, so that those
//! which have expired stand first and are found without looking at the others. They are hidden from the moment on, whatever
//! the rows of the document say, and swept by later writes.
//!
//! Invariants: both rows or none; a snapshot has one moment, that of its beginning, so that its answers stay the same.

use redb::{ReadTransaction, ReadableTable, Table, TableHandle, WriteTransaction};
use roaring::RoaringBitmap;

use crate::codec::{self, ChunkRange, Moment, Place};
use crate::error::engine;
use crate::tables::{Bytes, EXPIRIES, EXPIRY_ORDER, Pair};
use crate::{Result, rows};

/// What has expired at a moment.
#[derive(Debug, Default)]
pub(crate) struct Expired {
    from: u64,
    /// When the next document expires; this holds until then.
    next: Option<u64>,
    pub(crate) documents: RoaringBitmap,
    /// Their chunks.
    pub(crate) chunks: RoaringBitmap,
}

impl Expired {
    /// Reads what has expired.
    ///
    /// Cost: the rows of what is not swept yet.
    pub(crate) fn at(transaction: &ReadTransaction, collection: u32, now: u64) -> Result<Self> {
        let mut expired = Self { from: now, ..Self::default() };
        let Some(table) = rows::open_if_made(transaction, EXPIRY_ORDER)? else { return Ok(expired) };
        for row in table.range((collection, [].as_slice())..(collection + 1, [].as_slice())).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let place = Place::new(EXPIRY_ORDER.name(), key.value());
            let (at, document) = read_order(key.value().1).ok_or_else(|| place.corrupt("its key is no moment"))?;
            if at > now {
                expired.next = Some(at);
                break;
            }
            let ChunkRange { first, count } = codec::decode(place, value.value())?;
            expired.documents.insert(document);
            expired.chunks.insert_range(first..first + count);
        }
        Ok(expired)
    }

    /// Whether it is also what has expired at this moment, as long as nothing is written.
    pub(crate) fn holds_at(&self, now: u64) -> bool {
        self.from <= now && self.next.is_none_or(|next| now < next)
    }
}

/// When a document expires.
pub(crate) fn of_document(transaction: &ReadTransaction, key: Pair) -> Result<Option<u64>> {
    let Some(table) = rows::open_if_made(transaction, EXPIRIES)? else { return Ok(None) };
    Ok(rows::get(&table, EXPIRIES, key)?.map(|Moment(at)| at))
}

/// The highest byte first, so that earlier moments stand first.
pub(crate) fn order(at: u64, document: u32) -> [u8; 12] {
    let mut key = [0; 12];
    for (place, byte) in key.iter_mut().enumerate() {
        *byte = if place < 8 { (at >> (56 - 8 * place)) as u8 } else { (document >> (88 - 8 * place)) as u8 };
    }
    key
}

/// Moment and document of a key.
pub(crate) fn read_order(key: &[u8]) -> Option<(u64, u32)> {
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    let (at, document) = key.split_at_checked(8).filter(|(_, document)| document.len() == 4)?;
    Some((number(at), number(document) as u32))
}

/// Both tables, to be written.
pub(crate) struct Expiries<'a> {
    collection: u32,
    moments: Table<'a, Pair, Bytes>,
    order: Table<'a, (u32, &'static [u8]), Bytes>,
}

impl<'a> Expiries<'a> {
    pub(crate) fn open(transaction: &'a WriteTransaction, collection: u32) -> Result<Self> {
        let moments = transaction.open_table(EXPIRIES).map_err(engine)?;
        Ok(Self { collection, moments, order: transaction.open_table(EXPIRY_ORDER).map_err(engine)? })
    }

    /// From now on this document, which has these chunks, expires then.
    pub(crate) fn put(&mut self, document: u32, at: u64, chunks: ChunkRange) -> Result<()> {
        rows::put(&mut self.moments, EXPIRIES, (self.collection, document), &Moment(at))?;
        let order = order(at, document);
        let key = (self.collection, order.as_slice());
        let bytes = codec::encode(Place::new(EXPIRY_ORDER.name(), key), &chunks);
        self.order.insert(key, bytes.as_slice()).map(drop).map_err(engine)
    }

    /// When a document expires.
    pub(crate) fn at(&self, document: u32) -> Result<Option<u64>> {
        Ok(rows::get(&self.moments, EXPIRIES, (self.collection, document))?.map(|Moment(at)| at))
    }

    /// From now on this document does not expire. Returns when it would have.
    pub(crate) fn remove(&mut self, document: u32) -> Result<Option<u64>> {
        let key = (self.collection, document);
        let Some(Moment(at)) = rows::get(&self.moments, EXPIRIES, key)? else { return Ok(None) };
        self.moments.remove(key).map_err(engine)?;
        self.order.remove((self.collection, order(at, document).as_slice())).map_err(engine)?;
        Ok(Some(at))
    }

    /// Up to so many documents that have expired at this moment.
    pub(crate) fn expired(&self, now: u64, documents_max: usize) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        let end = order(now, u32::MAX);
        let range = (self.collection, [].as_slice())..=(self.collection, end.as_slice());
        for row in self.order.range(range).map_err(engine)?.take(documents_max) {
            let key = row.map_err(engine)?.0;
            let place = Place::new(EXPIRY_ORDER.name(), key.value());
            let (_, document) = read_order(key.value().1).ok_or_else(|| place.corrupt("its key is no moment"))?;
            found.push(document);
        }
        Ok(found)
    }
}

/// Removes the rows of a whole collection.
pub(crate) fn drop_collection(transaction: &WriteTransaction, collection: u32) -> Result<()> {
    let mut moments = transaction.open_table(EXPIRIES).map_err(engine)?;
    moments.retain_in(crate::tables::pairs_of(collection), |_, _| false).map_err(engine)?;
    let mut order = transaction.open_table(EXPIRY_ORDER).map_err(engine)?;
    let of_collection = (collection, [].as_slice())..(collection + 1, [].as_slice());
    order.retain_in::<(u32, &[u8]), _>(of_collection, |_, _| false).map_err(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_order_of_the_moment() {
        let keys = [(0, 7), (1, u32::MAX), (255, 0), (256, 0), (256, 1), (u64::MAX, 0)];
        assert!(keys.map(|(at, document)| order(at, document)).is_sorted());
        for (at, document) in keys {
            assert_eq!(read_order(&order(at, document)), Some((at, document)));
        }
        assert_eq!(read_order(&[0; 11]), None);
    }
}
