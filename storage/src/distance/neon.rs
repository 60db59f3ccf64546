//! The kernel of 64-bit ARM: four sums of four numbers, fused multiply-add.

use std::arch::aarch64::*;

const LANES: usize = 4;
const SUMS: usize = 4;

/// The caller proves that the processor has NEON.
#[target_feature(enable = "neon")]
pub(super) fn dot(query: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let (query, query_rest) = query.as_chunks::<LANES>();
        let (row, row_rest) = row.as_chunks::<LANES>();
        let (query, query_few) = query.as_chunks::<SUMS>();
        let (row, row_few) = row.as_chunks::<SUMS>();
        let mut sums = [vdupq_n_f32(0.0); SUMS];
        for (a, b) in query.iter().zip(row) {
            for lane in 0..SUMS {
                sums[lane] = vfmaq_f32(sums[lane], load(&a[lane]), load(&b[lane]));
            }
        }
        for (lane, (a, b)) in query_few.iter().zip(row_few).enumerate() {
            sums[lane] = vfmaq_f32(sums[lane], load(a), load(b));
        }
        let rest: f32 = query_rest.iter().zip(row_rest).map(|(a, b)| a * b).sum();
        *out = total(sums) + rest;
    }
}

/// The caller proves that the processor has NEON.
#[target_feature(enable = "neon")]
pub(super) fn squared_l2(query: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let (query, query_rest) = query.as_chunks::<LANES>();
        let (row, row_rest) = row.as_chunks::<LANES>();
        let (query, query_few) = query.as_chunks::<SUMS>();
        let (row, row_few) = row.as_chunks::<SUMS>();
        let mut sums = [vdupq_n_f32(0.0); SUMS];
        for (a, b) in query.iter().zip(row) {
            for lane in 0..SUMS {
                let difference = vsubq_f32(load(&a[lane]), load(&b[lane]));
                sums[lane] = vfmaq_f32(sums[lane], difference, difference);
            }
        }
        for (lane, (a, b)) in query_few.iter().zip(row_few).enumerate() {
            let difference = vsubq_f32(load(a), load(b));
            sums[lane] = vfmaq_f32(sums[lane], difference, difference);
        }
        let rest: f32 = query_rest.iter().zip(row_rest).map(|(a, b)| (a - b) * (a - b)).sum();
        *out = total(sums) + rest;
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(numbers: &[f32; LANES]) -> float32x4_t {
    // SAFETY: the reference covers the 16 bytes that are read; this load asks for no alignment.
    unsafe { vld1q_f32(numbers.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn total(sums: [float32x4_t; SUMS]) -> f32 {
    vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])))
}
