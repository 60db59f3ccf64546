//! Does a collection agree with itself?

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use redb::TableHandle;

use super::{Check, chunks, expiry, segments};
use crate::codec::{self, CollectionRecord, DocumentRecord, Number, Place, SpaceRecord, decode_text};
use crate::error::engine;
use crate::keys::{decode_id, encode_id};
use crate::load::{settings_of, tombstones};
use crate::tables::{COLLECTIONS, DOCUMENT_IDS, DOCUMENTS, METADATA, SPACES, TEXTS};
use crate::text::Analyzer;
use crate::{Result, rows};

pub(super) fn check(
    check: &mut Check<'_>,
    folder: Option<&Path>,
    number: u32,
    record: &CollectionRecord,
) -> Result<()> {
    let place = Place::new(COLLECTIONS.name(), number);
    let Some(settings) = check.note(settings_of(number, record))? else { return Ok(()) };
    let Some(dead) = check.note(tombstones(check.transaction, number))? else { return Ok(()) };
    let documents: BTreeMap<u32, DocumentRecord> = check.rows(DOCUMENTS, number)?.into_iter().collect();
    check.expect(documents.len() as u64 == record.documents, || {
        format!("{place}: it has {} documents and counts {}", documents.len(), record.documents)
    });
    ids(check, number, &documents)?;
    let analyzer = Analyzer::new(&settings.analyzer);
    let mut totals = chunks::Totals::default();
    for (&document, found) in &documents {
        // What follows would take for missing what was not read.
        if check.is_stopped() {
            return Ok(());
        }
        let key = (number, document);
        check.expect(document < record.next_document, || {
            format!("{}: its number was never given out", Place::new(DOCUMENTS.name(), key))
        });
        let Some(text) = text(check, key, found)? else { continue };
        chunks::of_document(check, &analyzer, record, key, found, &text, &dead, &mut totals)?;
    }
    let known: BTreeSet<u32> = documents.keys().copied().collect();
    check.json_rows(number, &known)?;
    expiry::check(check, number, &documents)?;
    for document in documents.keys() {
        let table = rows::open(check.transaction, METADATA)?;
        let there = table.get((number, *document)).map_err(engine)?.is_some();
        check.expect(there, || format!("{}: it is missing", Place::new(METADATA.name(), (number, *document))));
    }
    chunks::totals(check, number, record, &dead, &totals)?;
    check.expect(record.spaces.len() == settings.spaces.len(), || {
        format!("{place}: it has {} spaces; its settings name {}", record.spaces.len(), settings.spaces.len())
    });
    for (&space, settings) in record.spaces.iter().zip(&settings.spaces) {
        let found = crate::load::space_record(check.transaction, space);
        let Some(found) = check.note(found)? else { continue };
        let SpaceRecord { collection, name, dims, metric, .. } = &found;
        let agrees = *collection == number
            && *name == settings.name
            && *dims as usize == settings.dims
            && *metric == settings.metric;
        check.expect(agrees, || {
            format!("{}: it is not as collection {number} has it", Place::new(SPACES.name(), space))
        });
        chunks::vectors(check, space, &found, record, &totals.live)?;
    }
    segments::check(check, folder, number, record, &documents, &totals.live)
}

/// Ids lead to documents, and documents are led to.
fn ids(check: &mut Check<'_>, number: u32, documents: &BTreeMap<u32, DocumentRecord>) -> Result<()> {
    let table = rows::open(check.transaction, DOCUMENT_IDS)?;
    for (&document, found) in documents {
        let key = encode_id(&found.id);
        let leads = check.note(rows::get_id(&table, (number, &key)))?.flatten();
        check.expect(leads == Some(document), || {
            format!("{}: its id `{}` does not lead to it", Place::new(DOCUMENTS.name(), (number, document)), found.id)
        });
    }
    for row in table.range((number, [].as_slice())..(number + 1, [].as_slice())).map_err(engine)? {
        let Some((key, value)) = check.note(row.map_err(engine))? else { break };
        let place = Place::new(DOCUMENT_IDS.name(), key.value());
        let Some(Number(document)) = check.note(codec::decode(place, value.value()))? else { continue };
        let id = decode_id(key.value().1);
        let agrees = documents.get(&document).is_some_and(|found| Some(&found.id) == id.as_ref());
        check.expect(agrees, || format!("{place}: it leads to document {document}, which has not this id"));
    }
    Ok(())
}

fn text(check: &mut Check<'_>, key: (u32, u32), document: &DocumentRecord) -> Result<Option<String>> {
    let place = Place::new(TEXTS.name(), key);
    let table = rows::open(check.transaction, TEXTS)?;
    let Some(row) = table.get(key).map_err(engine)? else {
        check.say(format!("{place}: it is missing"));
        return Ok(None);
    };
    let text = check.note(decode_text(place, row.value()))?;
    if let Some(text) = &text {
        check.expect(text.len() == document.text_bytes as usize, || {
            format!("{place}: it has {} bytes, not {} as its document says", text.len(), document.text_bytes)
        });
    }
    Ok(text)
}
