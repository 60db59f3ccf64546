//! The kernel without special instructions; sixteen sums let the compiler use what every processor of the target has.

const LANES: usize = 16;

pub(super) fn dot(query: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = fold(query, row, |sum, a, b| sum + a * b);
    }
}

pub(super) fn squared_l2(query: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = fold(query, row, |sum, a, b| sum + (a - b) * (a - b));
    }
}

/// The dot product of a query of codes with a row of codes, exact.
pub(super) fn dot_codes(query: &[i8], row: &[u8]) -> i32 {
    query.iter().zip(row).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[inline(always)]
fn fold(one: &[f32], other: &[f32], step: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (ones, one_rest) = one.as_chunks::<LANES>();
    let (others, other_rest) = other.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in ones.iter().zip(others) {
        for lane in 0..LANES {
            sums[lane] = step(sums[lane], a[lane], b[lane]);
        }
    }
    for (lane, (&a, &b)) in one_rest.iter().zip(other_rest).enumerate() {
        sums[lane] = step(sums[lane], a, b);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}
