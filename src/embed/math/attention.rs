//! Which tokens does a token listen to?
//!
//! Scaled dot-product attention (Vaswani et al., 2017) on packed rows: sequences lie one after the other without padding,
//! so there is no mask, and no score is computed that padding would throw away.

use std::ops::Range;

use pulp::Simd;

use super::matrix::{Aligned, Columns, Rows, Tiled, multiply, pack_rows, tiled};
use super::ops::softmax;

/// Space that is reused from one call to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    queries: Aligned,
    shares: Aligned,
    keys: Columns,
    values: Columns,
    scores: Vec<f32>,
}

/// All heads of all sequences.
pub(crate) struct Attention<'a> {
    /// `[tokens, 3 * hidden]`: queries (already divided by the square root of the head's size), keys, values.
    pub(crate) qkv: &'a [f32],
    /// The rows of each sequence.
    pub(crate) sequences: &'a [Range<usize>],
    /// Numbers in a token's row.
    pub(crate) hidden: usize,
    /// How many heads share a row.
    pub(crate) heads: usize,
    /// `[tokens, hidden]`, overwritten.
    pub(crate) out: &'a mut [f32],
    /// Reused space.
    pub(crate) scratch: &'a mut Scratch,
}

impl Attention<'_> {
    /// Computes it.
    pub(crate) fn run(self) {
        tiled(self);
    }

    #[inline(always)]
    fn head<S: Simd, const HEIGHT: usize>(&mut self, simd: S, rows: Range<usize>, head: usize) {
        let (size, stride, length) = (self.hidden / self.heads, 3 * self.hidden, rows.len());
        let part = |which: usize| Rows {
            values: &self.qkv[rows.start * stride + which * self.hidden + head * size..],
            stride,
        };
        let Scratch { queries, shares, keys, values, scores } = &mut *self.scratch;
        let strips = length.next_multiple_of(HEIGHT);
        let queries = queries.at_least(strips * size);
        pack_rows::<HEIGHT>(part(0), length, size, queries);
        keys.pack_transposed::<S>(part(1), length, size);
        values.pack::<S>(part(2), size, length);

        scores.resize(length * length, 0.0);
        multiply::<S, HEIGHT>(simd, queries, keys, None, length, scores, length);
        for row in scores.chunks_exact_mut(length) {
            softmax(row);
        }

        let shares = shares.at_least(strips * length);
        pack_rows::<HEIGHT>(Rows { values: scores, stride: length }, length, length, shares);
        let out = &mut self.out[rows.start * self.hidden + head * size..];
        multiply::<S, HEIGHT>(simd, shares, values, None, length, out, self.hidden);
    }
}

impl Tiled for Attention<'_> {
    #[inline(always)]
    fn run<S: Simd, const HEIGHT: usize>(mut self, simd: S) {
        for rows in self.sequences.iter().filter(|rows| !rows.is_empty()) {
            for head in 0..self.heads {
                self.head::<S, HEIGHT>(simd, rows.clone(), head);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_that_scores_far_above_all_others_is_copied() {
        // Two sequences of 3 and 1 tokens, 2 heads of 2 numbers. Keys are 100 * unit vectors; every query of the first
        // sequence asks for the second token's key.
        let (hidden, heads) = (4, 2);
        let mut qkv = vec![0.0; 4 * 3 * hidden];
        for token in 0..4 {
            let row = &mut qkv[token * 12..][..12];
            row[..4].copy_from_slice(&[0.0, 1.0, 0.0, 1.0]);
            let key = if token == 1 { [0.0, 100.0, 0.0, 100.0] } else { [100.0, 0.0, 100.0, 0.0] };
            row[4..8].copy_from_slice(&key);
            row[8..].fill(token as f32 + 1.0);
        }
        let mut out = vec![f32::NAN; 4 * hidden];
        let sequences = [0..3, 3..4];
        let scratch = &mut Scratch::default();
        Attention { qkv: &qkv, sequences: &sequences, hidden, heads, out: &mut out, scratch }.run();
        let wanted: Vec<f32> = [2.0, 2.0, 2.0, 4.0].iter().flat_map(|&value| [value; 4]).collect();
        assert_eq!(out, wanted);
    }
}
