//! How are matrices multiplied on a CPU, as fast as it can in safe Rust?
//!
//! Both operands are packed into panels first: the right one (weights: once, when the model is loaded) as strips of two
//! vector registers' width, the left one as strips of as many rows as leave the accumulators in registers
//! (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008). The vector width is chosen at run
//! time by `pulp` (AVX-512, AVX2, NEON, plain).
//!
//! Invariant: every element of a product is one chain of fused multiply-adds in the order of the inner dimension, wherever
//! its row lies. So a text's vector has the same bits whatever stands beside it in a batch.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// A matrix in memory: row-major, `stride` numbers from one row to the next.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// From the first number of the first row.
    pub(crate) values: &'a [f32],
    /// Numbers between the starts of two rows.
    pub(crate) stride: usize,
}

/// Numbers that start at a multiple of 64 bytes: a vector load never straddles two cache lines.
#[derive(Default)]
pub(crate) struct Aligned {
    values: Vec<f32>,
    start: usize,
}

impl Aligned {
    const BYTES: usize = 64;

    /// `length` numbers to be overwritten; what they hold is unspecified.
    pub(crate) fn at_least(&mut self, length: usize) -> &mut [f32] {
        let spare = Self::BYTES / size_of::<f32>();
        if self.values.len() < length + spare {
            self.values.resize(length + spare, 0.0);
            self.start = self.values.as_ptr().align_offset(Self::BYTES).min(spare);
        }
        &mut self.values[self.start..self.start + length]
    }

    fn first(&self, length: usize) -> &[f32] {
        &self.values[self.start..self.start + length]
    }
}

/// The right operand: strips of `width` columns, each `[depth][width]`; missing columns are zero.
#[derive(Default)]
pub(crate) struct Columns {
    strips: Aligned,
    depth: usize,
    columns: usize,
}

impl Columns {
    /// Packs a matrix whose rows are the columns wanted (`[columns, depth]`, as PyTorch keeps a linear layer).
    #[inline(always)]
    pub(crate) fn pack_transposed<S: Simd>(&mut self, source: Rows<'_>, columns: usize, depth: usize) {
        let width = 2 * S::F32_LANES;
        let strips = self.reset(columns, depth, width);
        for (strip, first) in strips.chunks_exact_mut(depth * width).zip((0..columns).step_by(width)) {
            let present = width.min(columns - first);
            if present < width {
                strip.fill(0.0);
            }
            for column in 0..present {
                let row = &source.values[(first + column) * source.stride..][..depth];
                for (slot, &value) in strip[column..].iter_mut().step_by(width).zip(row) {
                    *slot = value;
                }
            }
        }
    }

    /// Packs a matrix as it lies (`[depth, columns]`).
    #[inline(always)]
    pub(crate) fn pack<S: Simd>(&mut self, source: Rows<'_>, columns: usize, depth: usize) {
        let width = 2 * S::F32_LANES;
        let strips = self.reset(columns, depth, width);
        for (strip, first) in strips.chunks_exact_mut(depth * width).zip((0..columns).step_by(width)) {
            let present = width.min(columns - first);
            for (line, slots) in strip.chunks_exact_mut(width).enumerate() {
                slots[..present].copy_from_slice(&source.values[line * source.stride + first..][..present]);
                slots[present..].fill(0.0);
            }
        }
    }

    fn reset(&mut self, columns: usize, depth: usize, width: usize) -> &mut [f32] {
        (self.depth, self.columns) = (depth, columns);
        self.strips.at_least(columns.next_multiple_of(width) * depth)
    }

    /// All of it.
    #[inline(always)]
    pub(crate) fn all<S: Simd>(&self) -> Part<'_> {
        self.part::<S>(0..self.columns, 0..self.depth)
    }

    /// The strips that hold the columns `columns`, and of each the lines `depth`.
    #[inline(always)]
    pub(crate) fn part<S: Simd>(&self, columns: Range<usize>, depth: Range<usize>) -> Part<'_> {
        let width = 2 * S::F32_LANES;
        let first = columns.start / width * width;
        Part { whole: self, columns: first..columns.end.next_multiple_of(width).min(self.columns), depth }
    }

    fn strip(&self, first: usize, width: usize) -> &[f32] {
        &self.strips.first(self.columns.next_multiple_of(width) * self.depth)[first * self.depth..]
            [..width * self.depth]
    }
}

/// Some strips of [`Columns`].
pub(crate) struct Part<'a> {
    whole: &'a Columns,
    /// The columns in it: from the start of a strip to the end of one or of the matrix.
    pub(crate) columns: Range<usize>,
    depth: Range<usize>,
}

/// Packs the left operand, `[rows, depth]`, into strips `[depth][HEIGHT]`; missing rows are zero.
#[inline(always)]
pub(crate) fn pack_rows<const HEIGHT: usize>(source: Rows<'_>, rows: usize, depth: usize, strips: &mut [f32]) {
    for (strip, first) in strips.chunks_exact_mut(depth * HEIGHT).zip((0..rows).step_by(HEIGHT)) {
        let lines = strip.as_chunks_mut::<HEIGHT>().0;
        let row = |offset: usize| &source.values[(first + offset).min(rows - 1) * source.stride..][..depth];
        let sources: [&[f32]; HEIGHT] = std::array::from_fn(row);
        for (k, line) in lines.iter_mut().enumerate() {
            for (slot, source) in line.iter_mut().zip(&sources) {
                *slot = source[k];
            }
        }
    }
}

/// One product: `[rows, depth]` packed by [`pack_rows`] times a part of [`Columns`], plus `bias` on every row, into `out`,
/// whose rows lie `stride` numbers apart and start with the part's first column.
#[inline(always)]
pub(crate) fn multiply<S: Simd, const HEIGHT: usize>(
    simd: S,
    left: &[f32],
    right: Part<'_>,
    bias: Option<&[f32]>,
    rows: usize,
    out: &mut [f32],
    stride: usize,
) {
    let width = 2 * S::F32_LANES;
    let Part { whole, columns, depth } = right;
    for (at, first) in columns.clone().step_by(width).enumerate() {
        let (at, present) = (at * width, width.min(columns.end - first));
        let strip = &whole.strip(first, width)[depth.start * width..depth.end * width];
        let strip = S::as_simd_f32s(strip).0.as_chunks::<2>().0;
        let start = bias.map_or([simd.splat_f32s(0.0); 2], |bias| load(simd, &bias[first..][..present]));
        let lefts = left.chunks_exact(depth.len() * HEIGHT).zip((0..rows).step_by(HEIGHT));
        for (left, row) in lefts {
            let tile = tile::<S, HEIGHT>(simd, left.as_chunks::<HEIGHT>().0, strip, start);
            for (offset, sums) in tile.iter().take(rows - row).enumerate() {
                store(simd, &mut out[(row + offset) * stride + at..][..present], *sums);
            }
        }
    }
}

/// The innermost loop: a tile of `HEIGHT` rows and two vectors of columns, all in registers.
#[inline(always)]
fn tile<S: Simd, const HEIGHT: usize>(
    simd: S,
    left: &[[f32; HEIGHT]],
    right: &[[S::f32s; 2]],
    start: [S::f32s; 2],
) -> [[S::f32s; 2]; HEIGHT] {
    let mut sums = [start; HEIGHT];
    for (left, right) in left.iter().zip(right) {
        for (sum, &value) in sums.iter_mut().zip(left) {
            let value = simd.splat_f32s(value);
            sum[0] = simd.mul_add_f32s(value, right[0], sum[0]);
            sum[1] = simd.mul_add_f32s(value, right[1], sum[1]);
        }
    }
    sums
}

#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> [S::f32s; 2] {
    let (first, second) = values.split_at(values.len().min(S::F32_LANES));
    [simd.partial_load_f32s(first), simd.partial_load_f32s(second)]
}

#[inline(always)]
fn store<S: Simd>(simd: S, slots: &mut [f32], values: [S::f32s; 2]) {
    if let ([first, second], []) = S::as_mut_simd_f32s(slots) {
        (*first, *second) = (values[0], values[1]);
        return;
    }
    let (first, second) = slots.split_at_mut(slots.len().min(S::F32_LANES));
    simd.partial_store_f32s(first, values[0]);
    simd.partial_store_f32s(second, values[1]);
}

/// Work that wants to know how many rows of a left operand to take at once.
pub(crate) trait Tiled {
    /// The work; `HEIGHT` rows at once leave one register for each of two vectors and a spread number.
    fn run<S: Simd, const HEIGHT: usize>(self, simd: S);
}

struct Dispatched<T>(T);

impl<T: Tiled> WithSimd for Dispatched<T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // AVX2 has 16 registers: 6 x 2 sums. AVX-512 and NEON have 32: 12 x 2.
        if S::F32_LANES == 8 { self.0.run::<S, 6>(simd) } else { self.0.run::<S, 12>(simd) }
    }
}

/// Runs `work` with the widest vectors that this machine has.
pub(crate) fn tiled<T: Tiled>(work: T) {
    Arch::new().dispatch(Dispatched(work));
}

/// A linear layer: `x W^T + b`, its weights packed.
pub(crate) struct Linear {
    weights: Columns,
    bias: Vec<f32>,
}

impl Linear {
    /// Packs weights `[outputs, inputs]`, as PyTorch keeps them. `bias` has one number for each output.
    pub(crate) fn new(weights: &[f32], bias: Vec<f32>, inputs: usize) -> Self {
        let mut packed = Columns::default();
        tiled(PackWeights {
            source: Rows { values: weights, stride: inputs },
            outputs: bias.len(),
            packed: &mut packed,
        });
        Self { weights: packed, bias }
    }

    /// Numbers in a row that comes out.
    pub(crate) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Writes `[rows, outputs]` into `out`; `packed` is scratch space.
    pub(crate) fn apply(&self, input: &[f32], rows: usize, out: &mut [f32], packed: &mut Aligned) {
        tiled(Product { layer: self, input, rows, out, packed });
    }
}

struct PackWeights<'a> {
    source: Rows<'a>,
    outputs: usize,
    packed: &'a mut Columns,
}

impl Tiled for PackWeights<'_> {
    #[inline(always)]
    fn run<S: Simd, const HEIGHT: usize>(self, _simd: S) {
        self.packed.pack_transposed::<S>(self.source, self.outputs, self.source.stride);
    }
}

struct Product<'a> {
    layer: &'a Linear,
    input: &'a [f32],
    rows: usize,
    out: &'a mut [f32],
    packed: &'a mut Aligned,
}

impl Tiled for Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const HEIGHT: usize>(self, simd: S) {
        let Columns { depth, columns, .. } = self.layer.weights;
        let packed = self.packed.at_least(self.rows.next_multiple_of(HEIGHT) * depth);
        pack_rows::<HEIGHT>(Rows { values: self.input, stride: depth }, self.rows, depth, packed);
        let right = self.layer.weights.all::<S>();
        multiply::<S, HEIGHT>(simd, packed, right, Some(&self.layer.bias), self.rows, self.out, columns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::math::testing::numbers;

    fn expected(input: &[f32], weights: &[f32], bias: &[f32], inputs: usize) -> Vec<f32> {
        let dot = |row: &[f32], weights: &[f32]| row.iter().zip(weights).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let mut out = Vec::new();
        for row in input.chunks_exact(inputs) {
            for (weights, bias) in weights.chunks_exact(inputs).zip(bias) {
                out.push((dot(row, weights) + f64::from(*bias)) as f32);
            }
        }
        out
    }

    #[test]
    fn linear_layer_agrees_with_the_plain_sum_at_every_shape() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 3, 7), (6, 16, 16), (13, 33, 31), (25, 40, 65), (12, 7, 32)] {
            let (weights, bias) = (numbers(outputs * inputs, 1), numbers(outputs, 2));
            let input = numbers(rows * inputs, 3);
            let mut out = vec![f32::NAN; rows * outputs];
            Linear::new(&weights, bias.clone(), inputs).apply(&input, rows, &mut out, &mut Aligned::default());
            for (got, wanted) in out.iter().zip(expected(&input, &weights, &bias, inputs)) {
                assert!((got - wanted).abs() < 1e-5, "{rows} x {inputs} x {outputs}: {got} instead of {wanted}");
            }
        }
    }

    #[test]
    fn row_has_the_same_bits_wherever_it_lies() {
        let (inputs, outputs) = (40, 48);
        let layer = Linear::new(&numbers(outputs * inputs, 1), numbers(outputs, 2), inputs);
        let input = numbers(29 * inputs, 3);
        let mut together = vec![0.0; 29 * outputs];
        layer.apply(&input, 29, &mut together, &mut Aligned::default());
        for (row, wanted) in input.chunks_exact(inputs).zip(together.chunks_exact(outputs)) {
            let mut alone = vec![0.0; outputs];
            layer.apply(row, 1, &mut alone, &mut Aligned::default());
            assert_eq!(alone, wanted);
        }
    }

    #[test]
    fn columns_packed_as_they_lie_equal_their_transpose_packed() {
        struct Both<'a>(&'a [f32], &'a [f32], &'a mut Vec<(Vec<f32>, Vec<f32>)>);
        impl Tiled for Both<'_> {
            fn run<S: Simd, const HEIGHT: usize>(self, _simd: S) {
                let (mut plain, mut transposed) = (Columns::default(), Columns::default());
                plain.pack::<S>(Rows { values: self.0, stride: 5 }, 5, 3);
                transposed.pack_transposed::<S>(Rows { values: self.1, stride: 3 }, 5, 3);
                let all =
                    |columns: &Columns| columns.strips.first(5_usize.next_multiple_of(2 * S::F32_LANES) * 3).to_vec();
                self.2.push((all(&plain), all(&transposed)));
            }
        }
        let matrix = numbers(15, 7);
        let turned: Vec<f32> = (0..15).map(|index| matrix[index % 3 * 5 + index / 3]).collect();
        let mut found = Vec::new();
        tiled(Both(&matrix, &turned, &mut found));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, found[0].1);
    }
}
