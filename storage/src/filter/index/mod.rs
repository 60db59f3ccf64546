//! Which chunks of a segment belong to documents that satisfy this filter, without reading the documents?
//!
//! A segment's documents are numbered from 0. The keys of their metadata form a tree, in which the objects of an array
//! share their parent's place, as they do for the evaluator; each node has two slots, for the value itself and for the
//! elements where that is an array. Each slot lists its distinct values in order, and for each the documents that hold
//! it. A condition is then a binary search and some lists, a filter the algebra of bits over the documents.
//!
//! Invariants: the answer is that of [`Filter::matches_document`] for each document; the file is at most a small
//! multiple of the JSON (keys and values stand once for each place, never whole paths); nothing that was read is used
//! as a place before it was compared with what is there, so damaged bytes are [`Error::Corrupt`](crate::Error::Corrupt)
//! or a wrong answer, and never a panic, an endless loop or an allocation beyond the file's size. Checksums are the
//! business of whoever hands out the bytes.
//!
//! Measured with 100,000 documents of year, language, two tags, price and author's name, 2 chunks each, on one core of
//! a shared machine, best of 20: built in 0.6 to 0.9 s (two cores); 8.4 MB with ids and titles, against 9.8 MB of JSON.
//! Microseconds for a filter, where reading every row takes 100,000: an id 2; a year (1.8 % of the documents) 120; a
//! language (43 %) 820; two languages 620; four of 20,000 names 11; a price above the median 1035, in the upper 10 %
//! 400, 1 % 76, 0.1 % 17; a price within a window of 1 % 66; a name by prefix (6 %) 260, by part 86; a title by part
//! 1010; a year and a language 380, either 985; not both, and a price 440. A wide answer costs 8 to 20 ns a document,
//! nearly all of it for setting the chunks' bits.

use std::ops::Range;

use roaring::RoaringBitmap;

use crate::Result;
use crate::bytes::Bytes;
use crate::filter::{Filter, Node};

mod answer;
mod bits;
mod build;
mod layout;
mod number;
mod window;

use bits::{Bits, Chunks};
pub(crate) use build::Builder;
use layout::{Array, Layout, Reader};

/// The node of the metadata as a whole.
const ROOT: u32 = 0;
/// The node of the ids.
const ID: u32 = 1;
/// The node of the titles.
const TITLE: u32 = 2;

/// Where the values of a node stand: those that are scalars, and those that are elements of arrays.
fn slot(node: u32, element: bool) -> u32 {
    node * 2 + u32::from(element)
}

/// The bytes of a list of documents as one bit for each. A list of this length is one; shorter ones list numbers.
fn bitmap_bytes(documents: usize) -> usize {
    documents.div_ceil(8)
}

/// The bytes of a document's number in a list.
fn list_width(documents: usize) -> usize {
    layout::width(documents.saturating_sub(1) as u64)
}

/// An index that a [`Builder`] wrote.
pub(crate) struct Index<B> {
    reader: Reader<B>,
    layout: Layout<Array>,
    chunks: Range<u32>,
}

impl<B: Bytes> Index<B> {
    /// Opens an index over documents whose chunks lie in this range; `place` names it in errors. Cost: the header is
    /// read.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) where these are not the bytes of an index.
    pub(crate) fn open(bytes: B, place: impl Into<String>, chunks: Range<u32>) -> Result<Self> {
        let reader = Reader { bytes, place: place.into() };
        let layout = reader.layout()?;
        Ok(Self { reader, layout, chunks })
    }

    /// How many documents the index covers: those that have chunks.
    pub(crate) fn documents(&self) -> usize {
        self.layout.firsts.count
    }

    /// The chunks of the documents that match.
    ///
    /// Cost: some binary searches, then the documents that hold the values asked for, then the chunks found.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) where what is read cannot be right.
    pub(crate) fn evaluate(&self, filter: &Filter) -> Result<RoaringBitmap> {
        self.chunks(&self.node(&filter.node)?)
    }

    fn node(&self, node: &Node) -> Result<Bits> {
        match node {
            Node::And(parts) => self.all_of(parts),
            Node::Or(parts) => {
                let mut found = Bits::none(self.documents());
                for part in parts {
                    found.unite(&self.node(part)?);
                }
                Ok(found)
            }
            Node::Not(part) => {
                let mut found = self.node(part)?;
                found.complement();
                Ok(found)
            }
            Node::Condition(field, test) => self.condition(field, test),
        }
    }

    /// The cheapest first: once nothing is left, the others are not asked.
    fn all_of(&self, parts: &[Node]) -> Result<Bits> {
        let mut found = Bits::all(self.documents());
        for part in window::parts(parts) {
            if found.is_empty() {
                break;
            }
            found.intersect(&self.part(&part)?);
        }
        Ok(found)
    }

    fn chunks(&self, found: &Bits) -> Result<RoaringBitmap> {
        let (firsts, counts) = (self.layout.firsts, self.layout.counts);
        let mut chunks = Chunks::new();
        let mut end = self.chunks.start;
        for (at, word) in found.words().iter().enumerate().filter(|(_, word)| **word != 0) {
            let documents = at * 64..self.documents().min(at * 64 + 64);
            let mut own_firsts = self.reader.ints(firsts, documents.clone())?;
            let mut own_counts = self.reader.ints(counts, documents)?;
            for skipped in gaps(*word) {
                if let (Some(first), Some(count)) = (own_firsts.nth(skipped), own_counts.nth(skipped)) {
                    let own = self.range(first, count, end)?;
                    end = own.end;
                    chunks.insert(own);
                }
            }
        }
        Ok(chunks.finish())
    }

    /// A document's chunks, if they lie behind those of the one before and within the segment.
    fn range(&self, first: usize, count: usize, least: u32) -> Result<Range<u32>> {
        let start = u32::try_from(first).ok().filter(|start| *start >= least && count > 0);
        let end = start.and_then(|start| start.checked_add(u32::try_from(count).ok()?));
        match start.zip(end) {
            Some((start, end)) if end <= self.chunks.end => Ok(start..end),
            Some(_) | None => {
                Err(self.reader.corrupt(format!("a document has {count} chunks from {first} on; {least} is free")))
            }
        }
    }
}

/// How many zeros stand before each one of this word, from the lowest bit on.
fn gaps(mut word: u64) -> impl Iterator<Item = usize> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit - std::mem::replace(&mut next, bit + 1))
    })
}

#[cfg(test)]
mod tests;
