//! Do chunks agree with their documents, texts, tombstones and vectors?

use redb::TableHandle;
use roaring::RoaringBitmap;

use super::Check;
use crate::codec::{
    ChunkRecord, CollectionRecord, DocumentRecord, Place, SpaceRecord, VectorBlock, decode_rows, open_block,
};
use crate::error::engine;
use crate::tables::{CHUNKS, COLLECTIONS, TOMBSTONES, VECTORS, pairs_of};
use crate::text::{Analyzer, index_text};
use crate::{Result, rows};

/// What the chunks of a collection sum up to.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) live: RoaringBitmap,
    terms: u64,
}

/// Each chunk of a document lies in its text, is not dead, and has as many terms as it says.
#[allow(clippy::too_many_arguments, reason = "what is compared comes from many tables")]
pub(super) fn of_document(
    check: &mut Check<'_>,
    analyzer: &Analyzer,
    collection: &CollectionRecord,
    (number, document): (u32, u32),
    record: &DocumentRecord,
    text: &str,
    dead: &RoaringBitmap,
    totals: &mut Totals,
) -> Result<()> {
    let table = rows::open(check.transaction, CHUNKS)?;
    for (ordinal, chunk) in (0..).zip(record.chunks()) {
        let place = Place::new(CHUNKS.name(), (number, chunk));
        let found = rows::need::<ChunkRecord>(&table, CHUNKS, (number, chunk));
        let Some(found) = check.note(found)? else { continue };
        check.expect(found.document == document && found.ordinal == ordinal, || {
            format!(
                "{place}: it says it is chunk {} of document {}, not {ordinal} of {document}",
                found.ordinal, found.document
            )
        });
        check.expect(chunk < collection.next_chunk && !dead.contains(chunk), || {
            format!("{place}: it is alive, and its number is dead or was never given out")
        });
        totals.live.insert(chunk);
        totals.terms += u64::from(found.terms);
        let Some(passage) = text.get(found.start as usize..found.end as usize) else {
            check.say(format!("{place}: bytes {} to {} are no part of its document's text", found.start, found.end));
            continue;
        };
        let mut terms = 0;
        let seen = index_text(record.title.as_deref(), &found.heading, passage);
        analyzer.for_each_term(&seen, &mut |_| terms += 1);
        check.expect(terms == found.terms, || format!("{place}: it has {terms} terms and counts {}", found.terms));
    }
    Ok(())
}

/// The record counts what is there; every number given out is alive or dead; nothing else has a row.
pub(super) fn totals(
    check: &mut Check<'_>,
    number: u32,
    record: &CollectionRecord,
    dead: &RoaringBitmap,
    totals: &Totals,
) -> Result<()> {
    let place = Place::new(COLLECTIONS.name(), number);
    let Totals { live, terms } = totals;
    check.expect((live.len(), *terms) == (record.chunks, record.terms), || {
        format!(
            "{place}: its chunks are {} with {terms} terms, and it counts {} with {}",
            live.len(),
            record.chunks,
            record.terms
        )
    });
    let tombstones = Place::new(TOMBSTONES.name(), number);
    check.expect(dead.max().is_none_or(|last| last < record.next_chunk), || {
        format!("{tombstones}: it has numbers that were never given out")
    });
    check.expect(live.len() + dead.len() == u64::from(record.next_chunk), || {
        let given = record.next_chunk;
        format!("{tombstones}: {} chunks live and {} are dead, of {given} numbers given out", live.len(), dead.len())
    });
    for (chunk, _) in check.rows::<ChunkRecord>(CHUNKS, number)?.into_iter().filter(|(chunk, _)| !live.contains(*chunk))
    {
        check.say(format!("{}: no document has it", Place::new(CHUNKS.name(), (number, chunk))));
    }
    Ok(())
}

/// Blocks are as full as they should be, their vectors can be ranked, and every live chunk has one.
pub(super) fn vectors(
    check: &mut Check<'_>,
    space: u32,
    record: &SpaceRecord,
    collection: &CollectionRecord,
    live: &RoaringBitmap,
) -> Result<()> {
    let table = rows::open(check.transaction, VECTORS)?;
    let dims = record.dims as usize;
    let mut without = live.clone();
    for row in table.range(pairs_of(space)).map_err(engine)? {
        let Some((key, value)) = check.note(row.map_err(engine))? else { break };
        let place = Place::new(VECTORS.name(), key.value());
        let first = u64::from(key.value().1) * u64::from(record.per_block);
        let end = (first + u64::from(record.per_block)).min(u64::from(collection.next_chunk));
        // Damaged or not, the block is there: its chunks are not reported one by one.
        without.remove_range(first.min(u64::from(u32::MAX)) as u32..end as u32);
        let Some(block) = check.note(open_block(place, dims, value.value()))? else { continue };
        let VectorBlock { slots, .. } = block;
        check.expect(first + slots as u64 == end, || {
            format!("{place}: it holds {slots} vectors; chunks {first} to before {end} should be there")
        });
        for (chunk, row) in (first..).zip(block.rows().chunks_exact(dims * size_of::<f32>())) {
            let vector: Vec<f32> = decode_rows(row).collect();
            if let Err(reason) = record.metric.validate(&vector) {
                check.say(format!("{place}: the vector of chunk {chunk} {reason}"));
            }
        }
    }
    for chunk in &without {
        check.say(format!("space {space}: chunk {chunk} has no vector"));
    }
    Ok(())
}
