//! Which tokens does a token listen to?
//!
//! Scaled dot-product attention (Vaswani et al., 2017) on packed rows: sequences lie one after the other without padding,
//! so there is no mask, and no score is computed that padding would throw away. How far a token listens ([`Reach`]) and
//! what is added to its scores ([`Bias`]) make the difference between the architectures.
//!
//! A sequence is computed by itself, so its rows have the same bits whatever stands beside it. Scores exist for a block of
//! queries at a time: memory grows with the length, not with its square.

use std::ops::Range;

use pulp::Simd;

use super::bias::{Bias, Positions};
use super::matrix::{Aligned, Columns, Rows, Tiled, multiply, pack_rows, tiled};
use super::ops::softmax;

/// Queries that are scored together: a multiple of both heights of a tile (6 and 12).
const BLOCK: usize = 96;

/// How a token's row is parted: `queries` heads of `size` numbers, then `keys` heads for keys, then as many for values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// How many heads ask.
    pub(crate) queries: usize,
    /// How many heads answer; divides `queries`, and each serves as many in a row (Ainslie et al., "GQA", 2023).
    pub(crate) keys: usize,
    /// Numbers in a head.
    pub(crate) size: usize,
}

impl Heads {
    /// The square root of a head's size, by which most models divide scores.
    pub(crate) fn root(self) -> f32 {
        (self.size as f32).sqrt()
    }

    /// Numbers in a token's row of queries, keys and values.
    pub(crate) fn row(self) -> usize {
        (self.queries + 2 * self.keys) * self.size
    }
}

/// How many tokens before itself and after itself a token listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Tokens before it.
    pub(crate) before: usize,
    /// Tokens after it.
    pub(crate) after: usize,
}

impl Reach {
    /// All tokens.
    pub(crate) const ALL: Self = Self { before: usize::MAX, after: usize::MAX };
    /// Itself and all before it.
    pub(crate) const CAUSAL: Self = Self { before: usize::MAX, after: 0 };

    /// At most `distance` tokens away, on both sides.
    pub(crate) const fn window(distance: usize) -> Self {
        Self { before: distance, after: distance }
    }

    /// The tokens that one of `tokens` listens to.
    #[inline(always)]
    fn of(self, tokens: Range<usize>, length: usize) -> Range<usize> {
        tokens.start.saturating_sub(self.before)..tokens.end.saturating_add(self.after).min(length)
    }
}

/// Space that is reused from one call to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    queries: Aligned,
    shares: Aligned,
    keys: Columns,
    values: Columns,
    scores: Vec<f32>,
    positions: Positions,
}

/// All heads of all sequences.
pub(crate) struct Attention<'a> {
    /// `[tokens, heads.row()]`: queries (already divided by what scores are to be divided by), keys, values.
    pub(crate) qkv: &'a [f32],
    /// The rows of each sequence.
    pub(crate) sequences: &'a [Range<usize>],
    /// How a row is parted.
    pub(crate) heads: Heads,
    /// How far a token listens.
    pub(crate) reach: Reach,
    /// What is added to the scores.
    pub(crate) bias: &'a Bias,
    /// `[tokens, heads.queries * heads.size]`, overwritten.
    pub(crate) out: &'a mut [f32],
    /// Reused space.
    pub(crate) scratch: &'a mut Scratch,
}

impl Attention<'_> {
    /// Computes it.
    pub(crate) fn run(self) {
        tiled(self);
    }

    /// A head's rows: heads are counted through queries, keys and values.
    #[inline(always)]
    fn rows(&self, first: usize, head: usize) -> Rows<'_> {
        let stride = self.heads.row();
        Rows { values: &self.qkv[first * stride + head * self.heads.size..], stride }
    }

    /// Packs the keys and values of a sequence that several heads share.
    #[inline(always)]
    fn pack<S: Simd>(&mut self, rows: &Range<usize>, group: usize) {
        let Heads { queries, keys, size } = self.heads;
        let (mut packed_keys, mut packed_values) =
            (std::mem::take(&mut self.scratch.keys), std::mem::take(&mut self.scratch.values));
        packed_keys.pack_transposed::<S>(self.rows(rows.start, queries + group), rows.len(), size);
        packed_values.pack::<S>(self.rows(rows.start, queries + keys + group), size, rows.len());
        (self.scratch.keys, self.scratch.values) = (packed_keys, packed_values);
    }

    #[inline(always)]
    fn head<S: Simd, const HEIGHT: usize>(&mut self, simd: S, rows: &Range<usize>, head: usize) {
        let Heads { queries, keys, .. } = self.heads;
        let group = head / (queries / keys);
        let mut positions = std::mem::take(&mut self.scratch.positions);
        let keys = self.rows(rows.start, queries + group);
        positions.prepare::<S, HEIGHT>(simd, self.bias, head, keys, rows.len());
        for first in (0..rows.len()).step_by(BLOCK) {
            let block = first..rows.len().min(first + BLOCK);
            self.block::<S, HEIGHT>(simd, rows, head, block, &mut positions);
        }
        self.scratch.positions = positions;
    }

    /// The queries `block` of a sequence.
    #[inline(always)]
    fn block<S: Simd, const HEIGHT: usize>(
        &mut self,
        simd: S,
        rows: &Range<usize>,
        head: usize,
        block: Range<usize>,
        positions: &mut Positions,
    ) {
        let (size, length, count) = (self.heads.size, rows.len(), block.len());
        let (stride, width) = (self.heads.row(), self.heads.queries * size);
        let strips = count.next_multiple_of(HEIGHT);
        let source = Rows { values: &self.qkv[(rows.start + block.start) * stride + head * size..], stride };
        let Scratch { queries, shares, keys, values, scores, .. } = &mut *self.scratch;
        let queries = queries.at_least(strips * size);
        pack_rows::<HEIGHT>(source, count, size, queries);

        let part = keys.part::<S>(self.reach.of(block.clone(), length), 0..size);
        let heard = part.columns.clone();
        scores.resize(count * heard.len(), 0.0);
        multiply::<S, HEIGHT>(simd, queries, part, None, count, scores, heard.len());
        positions.ask::<S, HEIGHT>(simd, self.bias, head, queries, block.clone());
        for (query, line) in block.clone().zip(scores.chunks_exact_mut(heard.len())) {
            let own = self.reach.of(query..query + 1, length);
            let inside = own.start - heard.start..own.end - heard.start;
            line[..inside.start].fill(0.0);
            line[inside.end..].fill(0.0);
            let line = &mut line[inside];
            positions.add(self.bias, query, query - block.start, own, line);
            softmax(line);
        }

        let shares = shares.at_least(strips * heard.len());
        let source = Rows { values: scores, stride: heard.len() };
        pack_rows::<HEIGHT>(source, count, heard.len(), shares);
        let out = &mut self.out[(rows.start + block.start) * width + head * size..];
        multiply::<S, HEIGHT>(simd, shares, values.part::<S>(0..size, heard), None, count, out, width);
    }
}

impl Tiled for Attention<'_> {
    #[inline(always)]
    fn run<S: Simd, const HEIGHT: usize>(mut self, simd: S) {
        let sequences = self.sequences;
        let shared = self.heads.queries / self.heads.keys;
        for rows in sequences.iter().filter(|rows| !rows.is_empty()) {
            for group in 0..self.heads.keys {
                self.pack::<S>(rows, group);
                for head in group * shared..(group + 1) * shared {
                    self.head::<S, HEIGHT>(simd, rows, head);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::math::bias::{Buckets, Disentangled};
    use crate::embed::math::testing;

    /// Numbers of -1 to 1.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        testing::numbers(count, seed).into_iter().map(|number| 2.0 * number).collect()
    }

    struct Case {
        heads: Heads,
        reach: Reach,
        bias: Bias,
        /// What the bias adds: head, query, key, and the rows of both.
        #[allow(clippy::type_complexity)]
        added: Box<dyn Fn(usize, usize, usize, &[f32], &[f32]) -> f64>,
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    impl Case {
        fn run(&self, qkv: &[f32], sequences: &[Range<usize>]) -> Vec<f32> {
            let tokens = sequences.iter().map(|rows| rows.end).max().unwrap_or(0);
            let mut out = vec![f32::NAN; tokens * self.heads.queries * self.heads.size];
            let (heads, reach, bias) = (self.heads, self.reach, &self.bias);
            let scratch = &mut Scratch::default();
            Attention { qkv, sequences, heads, reach, bias, out: &mut out, scratch }.run();
            out
        }

        /// The definition, in f64, one number at a time.
        fn plainly(&self, qkv: &[f32], rows: &Range<usize>) -> Vec<f64> {
            let Heads { queries, keys, size } = self.heads;
            let part =
                |token: usize, head: usize| &qkv[(rows.start + token) * self.heads.row() + head * size..][..size];
            let mut out = Vec::new();
            for query in 0..rows.len() {
                for head in 0..queries {
                    let group = head / (queries / keys);
                    let heard = self.reach.of(query..query + 1, rows.len());
                    let scores: Vec<f64> = heard
                        .clone()
                        .map(|key| {
                            let (q, k) = (part(query, head), part(key, queries + group));
                            (dot(q, k) + (self.added)(head, query, key, q, k)).exp()
                        })
                        .collect();
                    let total: f64 = scores.iter().sum();
                    for place in 0..size {
                        let value = |key: usize| f64::from(part(key, queries + keys + group)[place]);
                        out.push(heard.clone().zip(&scores).map(|(key, score)| score / total * value(key)).sum());
                    }
                }
            }
            out
        }
    }

    fn plain(heads: Heads, reach: Reach) -> Case {
        Case { heads, reach, bias: Bias::None, added: Box::new(|_, _, _, _, _| 0.0) }
    }

    fn cases() -> Vec<Case> {
        let heads = Heads { queries: 4, keys: 4, size: 5 };
        let slopes = vec![0.25, 0.0625, 0.015, 0.004];
        let alibi = Case {
            heads,
            reach: Reach::ALL,
            bias: Bias::Alibi(slopes.clone()),
            added: Box::new(move |head, query, key, _, _| f64::from(-slopes[head]) * query.abs_diff(key) as f64),
        };
        let table = numbers(4 * 32, 5);
        let buckets = Case {
            heads,
            reach: Reach::ALL,
            bias: Bias::Buckets(Buckets::new(table.clone(), 4)),
            added: Box::new(move |head, query, key, _, _| {
                f64::from(table[Buckets::of(key as isize - query as isize) * 4 + head])
            }),
        };
        let (keys, queries) = (numbers(16 * 20, 6), numbers(16 * 20, 7));
        let disentangled = Disentangled::new(heads, 8, 64, Some(&keys), Some(&queries));
        let disentangled = Case {
            heads,
            reach: Reach::ALL,
            added: Box::new({
                let index = disentangled.clone_distances();
                move |head, query, key, q, k| {
                    let row = index.of(query as isize - key as isize) * 20 + head * 5;
                    dot(q, &keys[row..row + 5]) + dot(k, &queries[row..row + 5])
                }
            }),
            bias: Bias::Disentangled(disentangled),
        };
        let grouped = Heads { queries: 6, keys: 2, size: 8 };
        vec![
            plain(heads, Reach::ALL),
            plain(heads, Reach::CAUSAL),
            plain(heads, Reach::window(3)),
            plain(grouped, Reach { before: 7, after: 0 }),
            plain(grouped, Reach::window(100)),
            alibi,
            buckets,
            disentangled,
        ]
    }

    #[test]
    fn every_kind_agrees_with_its_definition_alone_and_beside_others() {
        for (number, case) in cases().into_iter().enumerate() {
            let sequences = [0..1, 1..38, 38..38, 38..251];
            let qkv = numbers(251 * case.heads.row(), 3);
            let width = case.heads.queries * case.heads.size;
            let together = case.run(&qkv, &sequences);
            for rows in sequences.iter().filter(|rows| !rows.is_empty()) {
                let found = &together[rows.start * width..rows.end * width];
                for (got, wanted) in found.iter().zip(case.plainly(&qkv, rows)) {
                    assert!((f64::from(*got) - wanted).abs() < 2e-6, "case {number}, {rows:?}: {got}, not {wanted}");
                }
                let own = &qkv[rows.start * case.heads.row()..rows.end * case.heads.row()];
                assert_eq!(case.run(own, std::slice::from_ref(&(0..rows.len()))), found, "case {number}, {rows:?}");
            }
        }
    }

    #[test]
    fn token_that_scores_far_above_all_others_is_copied() {
        // Two sequences of 3 and 1 tokens, 2 heads of 2 numbers. Keys are 100 * unit vectors; every query of the first
        // sequence asks for the second token's key.
        let case = plain(Heads { queries: 2, keys: 2, size: 2 }, Reach::ALL);
        let mut qkv = vec![0.0; 4 * 12];
        for token in 0..4 {
            let row = &mut qkv[token * 12..][..12];
            row[..4].copy_from_slice(&[0.0, 1.0, 0.0, 1.0]);
            let key = if token == 1 { [0.0, 100.0, 0.0, 100.0] } else { [100.0, 0.0, 100.0, 0.0] };
            row[4..8].copy_from_slice(&key);
            row[8..].fill(token as f32 + 1.0);
        }
        let wanted: Vec<f32> = [2.0, 2.0, 2.0, 4.0].iter().flat_map(|&value| [value; 4]).collect();
        assert_eq!(case.run(&qkv, &[0..3, 3..4]), wanted);
    }
}
