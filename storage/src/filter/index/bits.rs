//! Which documents of a segment, and which chunks are theirs?
//!
//! Invariants: a set holds only documents that there are; the chunks made from it lie within the segment's range, in
//! ascending order, so damaged bytes cannot make more of them than there are numbers in that range.

use std::ops::Range;

use roaring::RoaringBitmap;

/// A set of documents, one bit for each of the segment: 12.5 KB for 100,000.
#[derive(Clone, Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
    documents: usize,
}

impl Bits {
    pub(super) fn none(documents: usize) -> Self {
        Self { words: vec![0; documents.div_ceil(64)], documents }
    }

    pub(super) fn all(documents: usize) -> Self {
        let mut bits = Self::none(documents);
        bits.complement();
        bits
    }

    /// False where there is no such document.
    #[inline]
    pub(super) fn insert(&mut self, document: usize) -> bool {
        let there = document < self.documents;
        if there {
            self.words[document / 64] |= 1 << (document % 64);
        }
        there
    }

    /// Adds a set that is written as one bit for each document, the first in the lowest bit.
    pub(super) fn insert_bitmap(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for (word, bytes) in self.words.iter_mut().zip(words) {
            *word |= u64::from_le_bytes(*bytes);
        }
        if let Some(word) = self.words.get_mut(words.len()) {
            *word |= rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        self.clear_beyond();
    }

    pub(super) fn complement(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.clear_beyond();
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(one, two)| *one &= two);
    }

    pub(super) fn unite(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(one, two)| *one |= two);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    fn clear_beyond(&mut self) {
        if let Some(last) = self.words.last_mut().filter(|_| !self.documents.is_multiple_of(64)) {
            *last &= (1 << (self.documents % 64)) - 1;
        }
    }
}

/// Bytes that hold one bit for each number that shares the upper 16 bits.
const BLOCK_BYTES: usize = 1 << 13;

/// Makes a bitmap from ranges of chunks that ascend: a block of 65,536 at a time, as it is stored. Adding the chunks
/// one by one takes ten times as long.
pub(super) struct Chunks {
    block: u32,
    bits: Box<[u8; BLOCK_BYTES]>,
    /// The bytes of `bits` that hold any.
    touched: Range<usize>,
    found: RoaringBitmap,
}

impl Chunks {
    pub(super) fn new() -> Self {
        let bits = Box::new([0; BLOCK_BYTES]);
        Self { block: 0, bits, touched: 0..0, found: RoaringBitmap::new() }
    }

    /// Adds a range that is not empty and begins at the last one's end or behind it.
    #[inline]
    pub(super) fn insert(&mut self, chunks: Range<u32>) {
        for block in chunks.start >> 16..=(chunks.end - 1) >> 16 {
            if block != self.block {
                self.flush();
                self.block = block;
            }
            let first = chunks.start.max(block << 16) & 0xffff;
            let last = (chunks.end - 1).min(block << 16 | 0xffff) & 0xffff;
            self.fill(first as usize, last as usize);
        }
    }

    /// Sets these bits of the block, both included.
    #[inline]
    fn fill(&mut self, first: usize, last: usize) {
        let (low, high) = (first / 8, last / 8);
        let start = if self.touched.is_empty() { low } else { self.touched.start };
        self.touched = start..high + 1;
        let (from, to) = (0xff_u8 << (first % 8), 0xff_u8 >> (7 - last % 8));
        if low == high {
            self.bits[low] |= from & to;
        } else {
            self.bits[low] |= from;
            self.bits[low + 1..high].fill(0xff);
            self.bits[high] |= to;
        }
    }

    fn flush(&mut self) {
        if !self.touched.is_empty() {
            let bytes = &mut self.bits[self.touched.clone()];
            self.found |= RoaringBitmap::from_lsb0_bytes((self.block << 16) + self.touched.start as u32 * 8, bytes);
            bytes.fill(0);
            self.touched = 0..0;
        }
    }

    pub(super) fn finish(mut self) -> RoaringBitmap {
        self.flush();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_those_of_the_ranges() {
        let ends = [0_u32, 1, 7, 8, 9, 16, 100, 65_535, 65_536, 65_537, 200_000, 400_000, u32::MAX - 9, u32::MAX];
        for skip in 0..2 {
            let (mut chunks, mut expected) = (Chunks::new(), RoaringBitmap::new());
            for pair in ends.windows(2).skip(skip).step_by(2) {
                // The last pair but one spans nearly all blocks; a few of them say as much.
                let range = pair[0].max(pair[1].saturating_sub(300_000))..pair[1];
                chunks.insert(range.clone());
                expected.insert_range(range);
            }
            assert_eq!(chunks.finish(), expected);
        }
    }

    #[test]
    fn complements_hold_only_documents_that_there_are() {
        for documents in [0, 1, 63, 64, 65, 130] {
            let mut bits = Bits::all(documents);
            assert_eq!(bits.words.iter().map(|word| word.count_ones() as usize).sum::<usize>(), documents);
            bits.insert_bitmap(&vec![0xff; documents.div_ceil(8)]);
            bits.complement();
            assert!(bits.is_empty());
            assert!(!bits.insert(documents));
        }
    }
}
