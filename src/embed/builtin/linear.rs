//! The little linear algebra that distillation needs: products of matrices and the leading directions of vectors.
//!
//! Matrices are row-major slices of f32. Work is split at fixed places and summed in a fixed order, so that results do
//! not depend on the number of threads.

use rayon::prelude::*;

/// Rows of the result that one task computes.
const ROWS_PER_TASK: usize = 64;
/// Rows of `b` that stay in the first-level cache while a task goes over its rows of `a`.
const ROWS_PER_BLOCK: usize = 32;
/// Vectors whose second moments are summed as one part.
const VECTORS_PER_PART: usize = 4096;
/// Jacobi sweeps at most; about ten bring 384 dimensions to the accuracy of f64.
const SWEEPS_MAX: usize = 30;

/// `a` times `b` transposed: `[rows, inner] x [columns, inner] -> [rows, columns]`.
pub(super) fn multiply_transposed(a: &[f32], b: &[f32], inner: usize) -> Vec<f32> {
    let columns = b.len() / inner;
    let mut product = vec![0.0; a.len() / inner * columns];
    product.par_chunks_mut(ROWS_PER_TASK * columns).zip(a.par_chunks(ROWS_PER_TASK * inner)).for_each(
        |(product, a)| {
            for (block, b) in b.chunks(ROWS_PER_BLOCK * inner).enumerate() {
                for (row, a) in product.chunks_mut(columns).zip(a.chunks_exact(inner)) {
                    for (cell, b) in row[block * ROWS_PER_BLOCK..].iter_mut().zip(b.chunks_exact(inner)) {
                        *cell = dot(a, b);
                    }
                }
            }
        },
    );
    product
}

/// `a` times `b`: `[rows, inner] x [inner, columns] -> [rows, columns]`.
pub(super) fn multiply(a: &[f32], b: &[f32], columns: usize) -> Vec<f32> {
    let inner = b.len() / columns;
    let mut product = vec![0.0; a.len() / inner * columns];
    product.par_chunks_mut(ROWS_PER_TASK * columns).zip(a.par_chunks(ROWS_PER_TASK * inner)).for_each(
        |(product, a)| {
            for (block, b) in b.chunks(ROWS_PER_BLOCK * columns).enumerate() {
                for (row, a) in product.chunks_mut(columns).zip(a.chunks_exact(inner)) {
                    for (&factor, b) in a[block * ROWS_PER_BLOCK..].iter().zip(b.chunks_exact(columns)) {
                        add_scaled(row, b, factor);
                    }
                }
            }
        },
    );
    product
}

/// Adds `factor` times `b` to `a`.
pub(super) fn add_scaled(a: &mut [f32], b: &[f32], factor: f32) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += factor * b;
    }
}

/// The dot product, in sixteen sums that the compiler keeps in registers.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (a_blocks, a_rest) = a.as_chunks::<16>();
    let (b_blocks, b_rest) = b.as_chunks::<16>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Brings every row to unit length; a zero row stays zero.
pub(super) fn normalize_rows(values: &mut [f32], dims: usize) {
    values.par_chunks_mut(dims).with_min_len(64).for_each(|row| {
        let length = dot(row, row).sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|value| *value /= length);
        }
    });
}

/// The `count` directions in which the vectors (row-major `[vectors, dims]`) reach furthest, in descending order:
/// the leading eigenvectors of their second moments, `[count, dims]`. Directions are of unit length, their largest
/// component positive.
pub(super) fn leading_directions(vectors: &[f32], dims: usize, count: usize) -> Vec<f32> {
    let (values, columns) = eigen(second_moments(vectors, dims), dims);
    let mut order: Vec<usize> = (0..dims).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(count);
    order.into_iter().flat_map(|column| oriented(&columns[column * dims..(column + 1) * dims])).collect()
}

/// The sum of the outer products of all vectors.
fn second_moments(vectors: &[f32], dims: usize) -> Vec<f64> {
    let parts: Vec<Vec<f32>> = vectors.par_chunks(VECTORS_PER_PART * dims).map(|part| outer_sum(part, dims)).collect();
    let mut sum = vec![0.0; dims * dims];
    for part in parts {
        for (sum, value) in sum.iter_mut().zip(part) {
            *sum += f64::from(value);
        }
    }
    sum
}

fn outer_sum(vectors: &[f32], dims: usize) -> Vec<f32> {
    let mut sum = vec![0.0; dims * dims];
    for vector in vectors.chunks_exact(dims) {
        for (row, &factor) in sum.chunks_exact_mut(dims).zip(vector) {
            add_scaled(row, vector, factor);
        }
    }
    sum
}

/// The direction with its largest component positive, so that the sign does not hang on rounding.
fn oriented(direction: &[f64]) -> Vec<f32> {
    let largest = direction.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
    direction.iter().map(|value| (value * largest.signum()) as f32).collect()
}

/// Eigenvalues, and eigenvectors as rows, of a symmetric matrix: cyclic Jacobi rotations (Golub and Van Loan 2013,
/// section 8.5).
fn eigen(mut matrix: Vec<f64>, dims: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; dims * dims];
    (0..dims).for_each(|at| vectors[at * dims + at] = 1.0);
    let size: f64 = matrix.iter().map(|value| value * value).sum();
    for _ in 0..SWEEPS_MAX {
        let off: f64 = (0..dims)
            .flat_map(|row| (0..row).map(move |column| row * dims + column))
            .map(|at| matrix[at].powi(2))
            .sum();
        if off <= size * 1e-24 {
            break;
        }
        for p in 0..dims {
            for q in p + 1..dims {
                if let Some((cosine, sine)) = rotation(&matrix, dims, p, q) {
                    rotate_rows(&mut matrix, dims, (p, q), (cosine, sine));
                    rotate_columns(&mut matrix, dims, (p, q), (cosine, sine));
                    rotate_rows(&mut vectors, dims, (p, q), (cosine, sine));
                }
            }
        }
    }
    ((0..dims).map(|at| matrix[at * dims + at]).collect(), vectors)
}

/// Cosine and sine of the rotation that zeroes element (p, q); none where it is zero already.
fn rotation(matrix: &[f64], dims: usize, p: usize, q: usize) -> Option<(f64, f64)> {
    let off = matrix[p * dims + q];
    let (at_p, at_q) = (matrix[p * dims + p], matrix[q * dims + q]);
    if off == 0.0 || off.abs() < 1e-18 * (at_p.abs() + at_q.abs()) {
        return None;
    }
    let tau = (at_q - at_p) / (2.0 * off);
    let tangent = tau.signum() / (tau.abs() + tau.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    Some((cosine, tangent * cosine))
}

fn rotate_rows(matrix: &mut [f64], dims: usize, (p, q): (usize, usize), (cosine, sine): (f64, f64)) {
    let (before, from_q) = matrix.split_at_mut(q * dims);
    for (a, b) in before[p * dims..(p + 1) * dims].iter_mut().zip(&mut from_q[..dims]) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
}

fn rotate_columns(matrix: &mut [f64], dims: usize, (p, q): (usize, usize), (cosine, sine): (f64, f64)) {
    for row in matrix.chunks_exact_mut(dims) {
        (row[p], row[q]) = (cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition() {
        let (rows, inner, columns) = (70, 37, 41);
        let a: Vec<f32> = (0..rows * inner).map(|n| (n % 7) as f32 - 3.0).collect();
        let b: Vec<f32> = (0..columns * inner).map(|n| (n % 5) as f32 - 2.0).collect();
        let b_transposed: Vec<f32> = (0..inner * columns).map(|at| b[at % columns * inner + at / columns]).collect();
        let wanted: Vec<f32> = (0..rows * columns)
            .map(|at| (0..inner).map(|k| a[at / columns * inner + k] * b[at % columns * inner + k]).sum())
            .collect();
        assert_eq!(multiply_transposed(&a, &b, inner), wanted);
        assert_eq!(multiply(&a, &b_transposed, columns), wanted);
    }

    #[test]
    fn leading_directions_are_those_the_vectors_were_stretched_along() {
        // Points on an ellipse: the long axis along (3, 4) / 5.
        let points: Vec<f32> = (0..100)
            .map(|n| n as f32 / 100.0 * std::f32::consts::TAU)
            .flat_map(|angle| {
                let (long, short) = (5.0 * angle.cos(), angle.sin());
                [0.6 * long - 0.8 * short, 0.8 * long + 0.6 * short]
            })
            .collect();
        let directions = leading_directions(&points, 2, 2);
        for (got, wanted) in directions.iter().zip([0.6, 0.8, 0.8, -0.6]) {
            assert!((got - wanted).abs() < 1e-5, "{directions:?}");
        }
    }

    #[test]
    fn directions_of_many_dimensions_are_orthonormal() {
        let dims = 24;
        let vectors: Vec<f32> =
            (0..200 * dims as u64).map(|n| (super::super::sentences::mix(n) >> 40) as f32 / 1e7 - 0.8).collect();
        let directions = leading_directions(&vectors, dims, 10);
        for (n, a) in directions.chunks(dims).enumerate() {
            for (m, b) in directions.chunks(dims).enumerate() {
                let wanted = f32::from(u8::from(n == m));
                assert!((dot(a, b) - wanted).abs() < 1e-5, "directions {n} and {m}: {}", dot(a, b));
            }
        }
    }
}
