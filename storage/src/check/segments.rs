//! Do the sealed segments of a collection agree with it?

use std::collections::BTreeMap;
use std::path::Path;

use redb::TableHandle;
use roaring::RoaringBitmap;

use super::Check;
use crate::codec::{CollectionRecord, DocumentRecord, Place, SegmentRecord};
use crate::files::segment_folder;
use crate::keys::encode_id;
use crate::sealed::{Folder, SEGMENT_VERSION};
use crate::segment::{SegmentDigest, SegmentFolder};
use crate::tables::SEGMENTS;
use crate::{Error, Result, roster};

/// Segments follow each other, hold what they say, and miss no live chunk of their range.
pub(super) fn check(
    check: &mut Check<'_>,
    folder: Option<&Path>,
    number: u32,
    record: &CollectionRecord,
    documents: &BTreeMap<u32, DocumentRecord>,
    live: &RoaringBitmap,
) -> Result<()> {
    let mut segments: Vec<(u32, SegmentRecord)> = check.rows(SEGMENTS, number)?;
    segments.sort_by_key(|(_, segment)| segment.first);
    let mut end = 0;
    for (segment, found) in segments {
        let place = Place::new(SEGMENTS.name(), (number, segment));
        check.expect(found.first >= end && found.end <= record.next_chunk && segment < record.next_segment, || {
            format!("{place}: chunks {} to before {} do not follow the segment before", found.first, found.end)
        });
        end = found.end;
        // One of another version is made anew when the collection is loaded.
        let Some(folder) = folder.filter(|_| found.version == SEGMENT_VERSION) else { continue };
        let folder = segment_folder(folder, number, segment);
        let contents = contents(&folder, &found, record.spaces.len(), documents, live);
        let is_read = !matches!(contents, Err(Error::Io { .. }));
        let wrong = contents.unwrap_or_else(|error| vec![error.to_string()]);
        // What could not be read may be whole.
        if is_read && !wrong.is_empty() {
            check.damaged_segments.push((number, segment));
        }
        wrong.into_iter().for_each(|sentence| check.say(format!("{place}: {sentence}")));
    }
    Ok(())
}

/// What is wrong with the contents of a segment, whose every block is verified first.
fn contents(
    folder: &Path,
    record: &SegmentRecord,
    spaces: usize,
    documents: &BTreeMap<u32, DocumentRecord>,
    live: &RoaringBitmap,
) -> Result<Vec<String>> {
    SegmentFolder::open(folder, SegmentDigest(record.digest))?.verify()?;
    let Folder { text, roster, metadata, spaces } = Folder::open(folder, record, spaces)?;
    let range = record.first..record.end;
    let mut wrong = Vec::new();
    let held = text.chunks()?;
    if held.len() as u64 != u64::from(record.chunks) {
        wrong.push(format!("it holds {} chunks, not {}", held.len(), record.chunks));
    }
    let held: RoaringBitmap = held.into_iter().collect();
    if let Some(chunk) = live.range(range.clone()).find(|&chunk| !held.contains(chunk)) {
        wrong.push(format!("it lacks chunk {chunk}, which is live"));
    }
    let mut listed = RoaringBitmap::new();
    for entry in roster.entries() {
        let entry = entry?;
        listed.insert_range(entry.first..entry.first + entry.count);
    }
    if listed != held || roster.len() != held.len() {
        wrong.push(format!("its roster has {} chunks, its text {}, or others", listed.len(), held.len()));
    }
    if metadata.documents() != roster.entries_len() {
        wrong.push(format!("its metadata are of {} documents, not {}", metadata.documents(), roster.entries_len()));
    }
    for (index, space) in spaces.iter().enumerate() {
        let mut nodes = (0..space.graph.len() as u32).zip(&held);
        let strange = nodes.find_map(|(node, chunk)| match space.graph.chunk(node) {
            Ok(found) if found == chunk => None,
            found => Some((chunk, found)),
        });
        if space.graph.len() as u64 != held.len() || strange.is_some() {
            wrong.push(format!(
                "space {index} has {} vectors, the text {} chunks, or others",
                space.graph.len(),
                held.len()
            ));
        }
    }
    for (&document, found) in documents.iter().filter(|(_, found)| range.contains(&found.first_chunk)) {
        let DocumentRecord { id, first_chunk: first, chunk_count: count, .. } = found;
        let expected = roster::Entry { first: *first, count: *count, document, id_key: &encode_id(id) };
        if *count > 0 && roster.owner(*first)? != Some(expected) {
            wrong.push(format!("its roster does not lead from chunk {first} to document {document}"));
        }
    }
    Ok(wrong)
}
