//! What does the distance of two tokens add to the score between them?
//!
//! Nothing, a slope (ALiBi), a learned number for each bucket of distances (MPNet, T5), or products of what the tokens
//! hold with learned vectors of the distance (DeBERTa). All of it depends on the sequence alone.

use std::ops::Range;

use pulp::Simd;

use super::attention::Heads;
use super::matrix::{Aligned, Columns, Rows, Tiled, multiply, pack_rows, tiled};

/// What is added to scores before softmax.
pub(crate) enum Bias {
    /// Nothing.
    None,
    /// Minus the distance times the head's slope (Press, Smith and Lewis, "ALiBi", 2021), in both directions.
    Alibi(Vec<f32>),
    /// A learned number for each bucket of distances.
    Buckets(Buckets),
    /// Content to position and position to content.
    Disentangled(Disentangled),
}

/// The slopes of ALiBi for `heads` heads: a geometric sequence from `2^(-8/n)` for powers of two; for another number, the
/// sequence of the power below it, then every other slope of the power above.
pub(crate) fn alibi_slopes(heads: usize) -> Vec<f32> {
    let whole = |count: usize| (1..=count).map(move |index| (-8.0 * index as f64 / count as f64).exp2() as f32);
    let below = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    whole(below).chain(whole(2 * below).step_by(2)).take(heads).collect()
}

/// Relative positions of T5 (Raffel et al., 2020) as MPNet has them: 32 buckets, half for each direction; the first 8
/// distances have one each, the others share eight up to distance 128 by their logarithm.
pub(crate) struct Buckets {
    /// `[buckets, heads]`.
    table: Vec<f32>,
    heads: usize,
}

impl Buckets {
    /// Buckets of a table.
    pub(crate) const COUNT: usize = 32;

    /// From `[COUNT, heads]`, as PyTorch keeps an embedding.
    pub(crate) fn new(table: Vec<f32>, heads: usize) -> Self {
        Self { table, heads }
    }

    /// The bucket of a key that stands `offset` tokens after its query.
    pub(crate) fn of(offset: isize) -> usize {
        const SIDE: usize = Buckets::COUNT / 2;
        const EXACT: usize = SIDE / 2;
        const FARTHEST: f32 = 128.0;
        let after = if offset > 0 { SIDE } else { 0 };
        let distance = offset.unsigned_abs();
        if distance < EXACT {
            return after + distance;
        }
        // In f32 and in this order, as PyTorch computes it: distances at the edge of a bucket fall as there.
        let steps = (distance as f32 / EXACT as f32).ln() / (FARTHEST / EXACT as f32).ln() * (SIDE - EXACT) as f32;
        after + (EXACT + steps as usize).min(SIDE - 1)
    }
}

/// Which vector stands for a distance: each its own up to half the span, then by logarithm (He, Gao and Chen,
/// "DeBERTaV3", 2021).
#[derive(Clone, Copy)]
pub(crate) struct Distances {
    /// Half the number of vectors.
    span: usize,
    /// The distance at which buckets end; 0 where every distance has its own.
    farthest: usize,
}

impl Distances {
    /// The row for a query that stands `offset` tokens after its key.
    pub(crate) fn of(self, offset: isize) -> usize {
        let bucket = if self.farthest == 0 { offset } else { self.bucket(offset) };
        (bucket + self.span as isize).clamp(0, 2 * self.span as isize - 1) as usize
    }

    fn bucket(self, offset: isize) -> isize {
        let middle = self.span / 2;
        let distance = offset.unsigned_abs();
        if distance <= middle {
            return offset;
        }
        // In f32 and in this order, as PyTorch computes it.
        let widest = ((self.farthest - 1) as f64 / middle as f64) as f32;
        let steps = (distance as f32 / middle as f32).ln() / widest.ln() * (middle as f32 - 1.0);
        (steps.ceil() as isize + middle as isize) * offset.signum()
    }
}

/// Disentangled attention (He et al., "DeBERTa", 2020).
pub(crate) struct Disentangled {
    distances: Distances,
    size: usize,
    /// For each head, the keys of all distances: what a token asks of a place.
    keys: Vec<Columns>,
    /// For each head, the queries of all distances: what a place asks of a token.
    queries: Vec<Columns>,
}

impl Disentangled {
    /// From the projected vectors of `2 * span` distances, `[2 * span, heads * size]`, of which `queries` are already
    /// divided by what scores are to be divided by. Distances go into buckets up to `farthest`; 0 for none.
    pub(crate) fn new(
        heads: Heads,
        span: usize,
        farthest: usize,
        keys: Option<&[f32]>,
        queries: Option<&[f32]>,
    ) -> Self {
        let pack = |values: Option<&[f32]>| {
            values.map_or_else(Vec::new, |values| (0..heads.queries).map(|head| packed(values, heads, head)).collect())
        };
        let distances = Distances { span, farthest };
        Self { distances, size: heads.size, keys: pack(keys), queries: pack(queries) }
    }

    #[cfg(test)]
    pub(crate) fn clone_distances(&self) -> Distances {
        self.distances
    }
}

fn packed(values: &[f32], heads: Heads, head: usize) -> Columns {
    struct Pack<'a>(Rows<'a>, usize, usize, &'a mut Columns);
    impl Tiled for Pack<'_> {
        #[inline(always)]
        fn run<S: Simd, const HEIGHT: usize>(self, _simd: S) {
            self.3.pack_transposed::<S>(self.0, self.1, self.2);
        }
    }
    let stride = heads.queries * heads.size;
    let mut columns = Columns::default();
    let rows = Rows { values: &values[head * heads.size..], stride };
    tiled(Pack(rows, values.len() / stride, heads.size, &mut columns));
    columns
}

/// What one head adds in one sequence; reused.
#[derive(Default)]
pub(crate) struct Positions {
    length: usize,
    /// What is added for a key that stands `index + 1 - length` after its query.
    added: Vec<f32>,
    /// The row of that distance, less `first`.
    rows: Vec<u32>,
    /// The first row in the two products, which hold those of this length only.
    first: usize,
    stride: usize,
    /// What the queries of a block ask of each distance.
    asked: Vec<f32>,
    /// What each distance asks of the keys.
    asking: Vec<f32>,
    packed: Aligned,
}

impl Positions {
    /// For one head of a sequence with these keys.
    #[inline(always)]
    pub(crate) fn prepare<S: Simd, const HEIGHT: usize>(
        &mut self,
        simd: S,
        bias: &Bias,
        head: usize,
        keys: Rows<'_>,
        length: usize,
    ) {
        self.length = length;
        let offsets = 1 - length as isize..length as isize;
        self.added.clear();
        match bias {
            Bias::None => {}
            Bias::Alibi(slopes) => {
                self.added.extend(offsets.map(|offset| -slopes[head] * offset.unsigned_abs() as f32));
            }
            Bias::Buckets(buckets) => {
                let of = |offset| buckets.table[Buckets::of(offset) * buckets.heads + head];
                self.added.extend(offsets.map(of));
            }
            Bias::Disentangled(how) => {
                let all = how.distances.of(1 - length as isize)..how.distances.of(length as isize - 1) + 1;
                let Some(columns) = how.keys.get(head).or(how.queries.get(head)) else { return };
                let part = columns.part::<S>(all.clone(), 0..how.size);
                (self.first, self.stride) = (part.columns.start, part.columns.len());
                self.rows.clear();
                self.rows.extend(offsets.map(|offset| (how.distances.of(-offset) - self.first) as u32));
                let Some(queries) = how.queries.get(head) else { return };
                let packed = self.packed.at_least(length.next_multiple_of(HEIGHT) * how.size);
                pack_rows::<HEIGHT>(keys, length, how.size, packed);
                self.asking.resize(length * self.stride, 0.0);
                let part = queries.part::<S>(all, 0..how.size);
                multiply::<S, HEIGHT>(simd, packed, part, None, length, &mut self.asking, self.stride);
            }
        }
    }

    /// For a block of queries, packed.
    #[inline(always)]
    pub(crate) fn ask<S: Simd, const HEIGHT: usize>(
        &mut self,
        simd: S,
        bias: &Bias,
        head: usize,
        queries: &[f32],
        block: Range<usize>,
    ) {
        let Bias::Disentangled(how) = bias else { return };
        let Some(keys) = how.keys.get(head) else { return };
        self.asked.resize(block.len() * self.stride, 0.0);
        let part = keys.part::<S>(self.first..self.first + self.stride, 0..how.size);
        multiply::<S, HEIGHT>(simd, queries, part, None, block.len(), &mut self.asked, self.stride);
    }

    /// Adds to the scores of `query`, the `row`th of its block, with the keys `heard`.
    #[inline(always)]
    pub(crate) fn add(&self, bias: &Bias, query: usize, row: usize, heard: Range<usize>, scores: &mut [f32]) {
        let first = self.length - 1 - query + heard.start;
        if let Some(added) = self.added.get(first..first + heard.len()) {
            for (score, added) in scores.iter_mut().zip(added) {
                *score += added;
            }
        }
        let Bias::Disentangled(how) = bias else { return };
        let rows = &self.rows[first..first + heard.len()];
        if !how.keys.is_empty() {
            let asked = &self.asked[row * self.stride..][..self.stride];
            for (score, &row) in scores.iter_mut().zip(rows) {
                *score += asked[row as usize];
            }
        }
        if !how.queries.is_empty() {
            let asking = self.asking[heard.start * self.stride..].chunks_exact(self.stride);
            for ((score, &row), asking) in scores.iter_mut().zip(rows).zip(asking) {
                *score += asking[row as usize];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first distance of each bucket beyond `exact`, up to `last`.
    fn edges(exact: isize, last: isize, of: impl Fn(isize) -> usize) -> Vec<isize> {
        (exact + 1..=last).filter(|&distance| of(distance) != of(distance - 1)).collect()
    }

    #[test]
    fn buckets_of_mpnet_begin_where_those_of_transformers_do() {
        let all = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        assert_eq!(edges(0, 300, Buckets::of), all);
        assert_eq!(edges(0, 300, |distance| Buckets::of(-distance)), all);
        assert_eq!([0, 1, 7, 8, 91, 4000].map(Buckets::of), [0, 17, 23, 24, 31, 31]);
        assert_eq!([-1, -7, -8, -4000].map(Buckets::of), [1, 7, 8, 15]);
    }

    #[test]
    fn buckets_of_deberta_begin_where_those_of_transformers_do() {
        let distances = Distances { span: 8, farthest: 64 };
        assert_eq!(edges(4, 63, |distance| distances.of(distance)), [5, 11, 26]);
        assert_eq!(
            [-300, -64, -26, -5, -4, 0, 4, 5, 26, 63, 64].map(|o| distances.of(o)),
            [0, 0, 1, 3, 4, 8, 12, 13, 15, 15, 15]
        );
        let distances = Distances { span: 16, farthest: 48 };
        assert_eq!(edges(8, 47, |distance| distances.of(distance)), [9, 11, 14, 18, 23, 29, 37]);
        let large = Distances { span: 256, farthest: 512 };
        let edges = edges(128, 511, |distance| large.of(distance));
        assert_eq!((edges.len(), &edges[..6], edges.last()), (127, &[129, 130, 131, 133, 134, 136][..], Some(&506)));
        let each = Distances { span: 20, farthest: 0 };
        assert_eq!([-30, -20, -3, 0, 7, 19, 20].map(|offset| each.of(offset)), [0, 0, 17, 20, 27, 39, 39]);
    }

    #[test]
    fn slopes_of_alibi_follow_the_paper() {
        let exactly = |wanted: &[f64]| wanted.iter().map(|power| power.exp2() as f32).collect::<Vec<f32>>();
        assert_eq!(alibi_slopes(8), exactly(&[-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0]));
        assert_eq!(alibi_slopes(12)[8..], exactly(&[-0.5, -1.5, -2.5, -3.5]));
        assert_eq!(alibi_slopes(1), exactly(&[-8.0]));
    }
}
