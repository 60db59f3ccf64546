//! Whose chunk is this?
//!
//! For each document as it was written in one commit: its number, its chunk range and the key of its id, packed so that a
//! million documents cost some 40 MB. Comparing keys compares ids, which is what ties are broken by.
//!
//! Invariants: entries ascend by chunk; documents without chunks have no entry; the chunks of an entry die together.

use roaring::RoaringBitmap;

use crate::runs::Run;

/// Some documents, in ascending order of their chunks.
#[derive(Debug, Default)]
pub(crate) struct RosterRun {
    firsts: Vec<u32>,
    counts: Vec<u32>,
    documents: Vec<u32>,
    /// Where each id key ends in `keys`.
    ends: Vec<usize>,
    keys: Vec<u8>,
    chunks: usize,
}

/// One document as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) document: u32,
    pub(crate) id_key: &'a [u8],
}

impl RosterRun {
    /// Adds a document whose chunks come after all others.
    pub(crate) fn push(&mut self, entry: Entry<'_>) {
        let Entry { first, count, document, id_key } = entry;
        if count == 0 {
            return;
        }
        debug_assert!(self.range().is_none_or(|(_, last)| last < first), "entries ascend");
        self.firsts.push(first);
        self.counts.push(count);
        self.documents.push(document);
        self.keys.extend_from_slice(id_key);
        self.ends.push(self.keys.len());
        self.chunks += count as usize;
    }

    /// All entries, in ascending order of chunk.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.firsts.len()).map(|place| self.entry(place))
    }

    fn entry(&self, place: usize) -> Entry<'_> {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        Entry {
            first: self.firsts[place],
            count: self.counts[place],
            document: self.documents[place],
            id_key: &self.keys[start..self.ends[place]],
        }
    }

    /// The document that has (or had) this chunk.
    pub(crate) fn owner(&self, chunk: u32) -> Option<Entry<'_>> {
        let place = self.firsts.partition_point(|&first| first <= chunk).checked_sub(1)?;
        Some(self.entry(place)).filter(|entry| chunk - entry.first < entry.count)
    }
}

impl RosterRun {
    /// The documents whose first chunk is to be kept.
    pub(crate) fn retain(&self, keep: impl Fn(u32) -> bool) -> Self {
        let mut kept = Self::default();
        self.entries().filter(|entry| keep(entry.first)).for_each(|entry| kept.push(entry));
        kept
    }
}

impl Run for RosterRun {
    fn len(&self) -> usize {
        self.chunks
    }

    fn range(&self) -> Option<(u32, u32)> {
        Some((*self.firsts.first()?, self.firsts.last()? + self.counts.last()? - 1))
    }

    fn merge(runs: &[&Self], dead: &RoaringBitmap) -> Self {
        let mut merged = Self::default();
        for run in runs {
            run.entries().filter(|entry| !dead.contains(entry.first)).for_each(|entry| merged.push(entry));
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_found_also_after_a_merge() {
        let entries = |from: u32| (0..5).map(move |n| (from + n * 3, 2, n + from));
        let mut runs = [RosterRun::default(), RosterRun::default()];
        for (run, from) in runs.iter_mut().zip([0, 100]) {
            for (first, count, document) in entries(from) {
                run.push(Entry { first, count, document, id_key: &document.to_le_bytes() });
            }
            run.push(Entry { first: from + 50, count: 0, document: 9, id_key: b"nothing" });
        }
        let dead = RoaringBitmap::from([3, 4]);
        let merged = RosterRun::merge(&[&runs[0], &runs[1]], &dead);
        assert_eq!(merged.len(), 18);
        assert_eq!(merged.range(), Some((0, 113)));
        for (first, _, document) in entries(0).chain(entries(100)).filter(|entry| entry.0 != 3) {
            for chunk in [first, first + 1] {
                let owner = merged.owner(chunk).map(|entry| (entry.document, entry.id_key.to_vec()));
                assert_eq!(owner, Some((document, document.to_le_bytes().to_vec())));
            }
            assert_eq!(merged.owner(first + 2), None);
        }
        assert_eq!(merged.owner(3), None);
    }
}
