//! Does what is to expire agree with the documents?

use std::collections::BTreeMap;

use redb::TableHandle;

use super::Check;
use crate::codec::{self, ChunkRange, DocumentRecord, Moment, Place};
use crate::error::engine;
use crate::expiry::{order, read_order};
use crate::tables::{EXPIRIES, EXPIRY_ORDER};
use crate::{Result, rows};

pub(super) fn check(check: &mut Check<'_>, number: u32, documents: &BTreeMap<u32, DocumentRecord>) -> Result<()> {
    let Some(moments) = rows::open_if_made(check.transaction, EXPIRIES)? else { return Ok(()) };
    let Some(ordered) = rows::open_if_made(check.transaction, EXPIRY_ORDER)? else { return Ok(()) };
    for (document, Moment(at)) in check.rows::<Moment>(EXPIRIES, number)? {
        let place = Place::new(EXPIRIES.name(), (number, document));
        let Some(record) = documents.get(&document) else {
            check.say(format!("{place}: there is no such document"));
            continue;
        };
        let key = order(at, document);
        let key = (number, key.as_slice());
        let row = ordered.get(key).map_err(engine)?;
        let found = row.map(|row| codec::decode(Place::new(EXPIRY_ORDER.name(), key), row.value())).transpose();
        let expected = ChunkRange { first: record.first_chunk, count: record.chunk_count };
        let agrees = check.note(found)?.flatten() == Some(expected);
        check.expect(agrees, || format!("{place}: it does not stand in the order of moments with its chunks"));
    }
    for row in ordered.range((number, [].as_slice())..(number + 1, [].as_slice())).map_err(engine)? {
        let Some((key, _)) = check.note(row.map_err(engine))? else { break };
        let place = Place::new(EXPIRY_ORDER.name(), key.value());
        let told = read_order(key.value().1);
        let stored = told.map(|(_, document)| rows::get::<Moment>(&moments, EXPIRIES, (number, document))).transpose();
        let stored = check.note(stored)?.flatten().flatten();
        let agrees = stored.is_some() && stored == told.map(|(at, _)| Moment(at));
        check.expect(agrees, || format!("{place}: no document expires then"));
    }
    Ok(())
}
