//! Is the cache of embeddings what its totals say?

use redb::{ReadableTable, TableHandle};

use super::Check;
use crate::cache::{TOTALS, key_place, vector_place};
use crate::codec::{self, CacheTotals, CachedRecord, Sequence};
use crate::error::engine;
use crate::tables::{EMBEDDING_CACHE, EMBEDDING_CACHE_KEYS, META};
use crate::{Result, rows};

pub(super) fn check(check: &mut Check<'_>) -> Result<()> {
    let Some(vectors) = rows::open_if_made(check.transaction, EMBEDDING_CACHE)? else { return Ok(()) };
    let Some(keys) = rows::open_if_made(check.transaction, EMBEDDING_CACHE_KEYS)? else {
        check.say(format!("table {}: it is missing", EMBEDDING_CACHE_KEYS.name()));
        return Ok(());
    };
    let meta = rows::open(check.transaction, META)?;
    let totals = check.note(rows::get_named::<CacheTotals>(&meta, META, TOTALS))?.map(Option::unwrap_or_default);
    let (mut entries, mut bytes, mut first) = (0, 0, None);
    for row in vectors.iter().map_err(engine)? {
        let Some((key, value)) = check.note(row.map_err(engine))? else { return Ok(()) };
        let place = key.value();
        first = first.or(Some(place));
        entries += 1;
        bytes += value.value().len() as u64;
        let Some(record) = check.note(codec::decode::<CachedRecord>(vector_place(place), value.value()))? else {
            continue;
        };
        let short = record.key.short();
        let leads = keys.get(short.as_slice()).map_err(engine)?;
        let leads = leads.map(|row| codec::decode::<Sequence>(key_place(&short), row.value())).transpose();
        let leads = check.note(leads)?.flatten();
        check.expect(leads == Some(Sequence(place)) && totals.is_none_or(|totals| place < totals.next), || {
            format!("{}: nothing leads to it, or its number was never given out", vector_place(place))
        });
    }
    let CacheTotals { entries: told, bytes: told_bytes, .. } =
        totals.unwrap_or(CacheTotals { entries, bytes, ..CacheTotals::default() });
    check.expect((entries, bytes) == (told, told_bytes), || {
        format!(
            "table {}: it has {entries} vectors of {bytes} bytes and counts {told} of {told_bytes}",
            EMBEDDING_CACHE.name()
        )
    });
    for row in keys.iter().map_err(engine)? {
        let Some((key, value)) = check.note(row.map_err(engine))? else { break };
        let place = key_place(key.value());
        let Some(Sequence(leads)) = check.note(codec::decode(place, value.value()))? else { continue };
        // One that leads before the first vector is what a damaged one left when it went.
        let is_left = first.is_none_or(|first| leads < first);
        let is_there = is_left || vectors.get(leads).map_err(engine)?.is_some();
        check.expect(is_there, || format!("{place}: it leads to place {leads}, where nothing is"));
    }
    Ok(())
}
