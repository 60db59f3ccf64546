//! The kernel of 64-bit ARM: four sums of four numbers, fused multiply-add.

use std::arch::aarch64::*;

const LANES: usize = 4;
const SUMS: usize = 4;
/// Codes that one register holds.
const CODES: usize = 16;

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

/// The dot product of a query of codes with a row of codes, exact: both are widened to 16 bits, products to 32. The caller
/// proves that the processor has NEON.
#[target_feature(enable = "neon")]
pub(super) fn dot_codes(query: &[i8], row: &[u8]) -> i32 {
    let (query, query_rest) = query.as_chunks::<CODES>();
    let (row, row_rest) = row.as_chunks::<CODES>();
    let mut sums = [vdupq_n_s32(0); 4];
    for (a, b) in query.iter().zip(row) {
        // SAFETY: the references cover the 16 bytes that each load reads; these loads ask for no alignment.
        let (a, b) = unsafe { (vld1q_s8(a.as_ptr()), vld1q_u8(b.as_ptr())) };
        let (a_low, a_high) = (vmovl_s8(vget_low_s8(a)), vmovl_s8(vget_high_s8(a)));
        let b_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(b)));
        let b_high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(b)));
        sums[0] = vmlal_s16(sums[0], vget_low_s16(a_low), vget_low_s16(b_low));
        sums[1] = vmlal_s16(sums[1], vget_high_s16(a_low), vget_high_s16(b_low));
        sums[2] = vmlal_s16(sums[2], vget_low_s16(a_high), vget_low_s16(b_high));
        sums[3] = vmlal_s16(sums[3], vget_high_s16(a_high), vget_high_s16(b_high));
    }
    let sum = vaddq_s32(vaddq_s32(sums[0], sums[1]), vaddq_s32(sums[2], sums[3]));
    vaddvq_s32(sum) + super::scalar::dot_codes(query_rest, row_rest)
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
