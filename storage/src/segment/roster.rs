//! Whose sealed chunk is this, without loading who has all the others?
//!
//! The same answers as [`crate::roster::RosterRun`] gives, from a file that is searched where it lies: columns in ascending
//! order of chunk, each number in its place. A lookup touches one page for each of some twenty steps at worst, and the
//! upper steps stay in memory by themselves.
//!
//! Invariants: entries ascend by chunk; documents without chunks have no entry; the entries are those that were live when
//! the segment was built, so whoever asks knows the tombstones.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::file::{CheckedFile, write_file};
use crate::Result;
use crate::roster::Entry;

/// `version: u32, entries: u32, chunks: u64`.
const HEADER_BYTES: usize = 16;
const VERSION: u32 = 1;
/// The bytes of an entry before those of its key: three `u32` and a `u64`, each in its own column.
const ENTRY_BYTES: usize = 20;

/// The documents of a segment, on disk.
#[derive(Debug)]
pub(crate) struct RosterFile {
    file: Arc<CheckedFile>,
    entries: usize,
    chunks: u64,
}

/// Writes the roster of a segment. Entries ascend by chunk; those without chunks are left out.
///
/// Cost: some 30 bytes of memory an entry, while it is written.
///
/// # Errors
/// [`crate::Error::Io`] where the file is there already or the disk refuses.
pub(crate) fn write_roster<'a>(path: &Path, entries: impl IntoIterator<Item = Entry<'a>>) -> Result<()> {
    let (mut firsts, mut counts, mut documents) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ends, mut keys, mut chunks) = (Vec::new(), Vec::new(), 0);
    for Entry { first, count, document, id_key } in entries.into_iter().filter(|entry| entry.count > 0) {
        firsts.push(first);
        counts.push(count);
        documents.push(document);
        keys.extend_from_slice(id_key);
        ends.push(keys.len() as u64);
        chunks += u64::from(count);
    }
    debug_assert!(firsts.is_sorted(), "entries ascend");
    write_file(path, |out| {
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&(firsts.len() as u32).to_le_bytes())?;
        out.write_all(&chunks.to_le_bytes())?;
        for number in [&firsts, &counts, &documents].into_iter().flatten() {
            out.write_all(&number.to_le_bytes())?;
        }
        for end in &ends {
            out.write_all(&end.to_le_bytes())?;
        }
        out.write_all(&keys)
    })
}

#[cfg_attr(not(test), allow(dead_code, reason = "the view asks it once segments hold vectors, too"))]
impl RosterFile {
    /// Reads the head of a roster.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where its first block is damaged, or it is too short for what it says.
    pub(crate) fn open(file: Arc<CheckedFile>) -> Result<Self> {
        let (version, entries) = (number(&file, 0)?, number(&file, 4)?);
        if version != VERSION {
            return Err(file.corrupt(format!("it has version {version}; this build reads {VERSION}")));
        }
        let chunks = long_number(&file, 8)?;
        let roster = Self { file, entries: entries as usize, chunks };
        if roster.keys_start() > roster.file.len() {
            return Err(roster.file.corrupt(format!("it is too short for {entries} entries")));
        }
        Ok(roster)
    }

    /// How many documents it has.
    pub(crate) fn entries_len(&self) -> usize {
        self.entries
    }

    /// How many documents have a first chunk that passes.
    ///
    /// # Errors
    /// As [`RosterFile::owner`].
    pub(crate) fn count(&self, passes: impl Fn(u32) -> bool) -> Result<u64> {
        let mut count = 0;
        for place in 0..self.entries {
            count += u64::from(passes(self.first(place)?));
        }
        Ok(count)
    }

    /// How many chunks they have together.
    pub(crate) fn len(&self) -> u64 {
        self.chunks
    }

    /// The first and the last chunk; `None` where there is none.
    ///
    /// # Errors
    /// As [`RosterFile::owner`].
    pub(crate) fn range(&self) -> Result<Option<(u32, u32)>> {
        let Some(last) = self.entries.checked_sub(1) else { return Ok(None) };
        let last = self.entry(last)?;
        Ok(Some((self.first(0)?, last.first + (last.count - 1))))
    }

    /// The document that has (or had) this chunk.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a block that is touched is damaged.
    pub(crate) fn owner(&self, chunk: u32) -> Result<Option<Entry<'_>>> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first(middle)? <= chunk {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(place) = low.checked_sub(1) else { return Ok(None) };
        Ok(Some(self.entry(place)?).filter(|entry| chunk - entry.first < entry.count))
    }

    /// All entries, in ascending order of chunk.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<Entry<'_>>> {
        (0..self.entries).map(|place| self.entry(place))
    }

    /// The entry at a place below [`RosterFile::entries_len`].
    fn entry(&self, place: usize) -> Result<Entry<'_>> {
        let (first, count) = (self.first(place)?, self.column(1, place)?);
        if count == 0 || first.checked_add(count).is_none() {
            return Err(self.file.corrupt(format!("entry {place} has {count} chunks from {first} on")));
        }
        let id_key = self.file.get(self.key(place)?)?;
        Ok(Entry { first, count, document: self.column(2, place)?, id_key })
    }

    fn first(&self, place: usize) -> Result<u32> {
        self.column(0, place)
    }

    fn column(&self, column: usize, place: usize) -> Result<u32> {
        number(&self.file, HEADER_BYTES + 4 * (column * self.entries + place))
    }

    /// Where the id key of an entry stands in the file.
    fn key(&self, place: usize) -> Result<Range<usize>> {
        let end = |place: usize| long_number(&self.file, HEADER_BYTES + 12 * self.entries + 8 * place);
        let start = place.checked_sub(1).map_or(Ok(0), end)?;
        let keys = self.keys_start();
        let at = |offset: u64| usize::try_from(offset).ok().and_then(|offset| keys.checked_add(offset));
        let range = at(start).zip(at(end(place)?)).map(|(start, end)| start..end);
        range.ok_or_else(|| self.file.corrupt(format!("the id key of entry {place} lies nowhere")))
    }

    fn keys_start(&self) -> usize {
        HEADER_BYTES + ENTRY_BYTES * self.entries
    }
}

fn number(file: &CheckedFile, at: usize) -> Result<u32> {
    let bytes = file.get(at..at + 4)?;
    Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were asked for")))
}

fn long_number(file: &CheckedFile, at: usize) -> Result<u64> {
    let bytes = file.get(at..at + 8)?;
    Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were asked for")))
}
