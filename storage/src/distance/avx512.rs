//! The kernel of server processors: four sums of sixteen numbers; the end of a row is read under a mask.

use std::arch::x86_64::*;

const LANES: usize = 16;
const SUMS: usize = 4;

/// The caller proves that the processor has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) fn dot(query: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let (query, query_rest) = query.as_chunks::<LANES>();
        let (row, row_rest) = row.as_chunks::<LANES>();
        let (query, query_few) = query.as_chunks::<SUMS>();
        let (row, row_few) = row.as_chunks::<SUMS>();
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for (a, b) in query.iter().zip(row) {
            for lane in 0..SUMS {
                sums[lane] = _mm512_fmadd_ps(load(&a[lane]), load(&b[lane]), sums[lane]);
            }
        }
        for (lane, (a, b)) in query_few.iter().zip(row_few).enumerate() {
            sums[lane] = _mm512_fmadd_ps(load(a), load(b), sums[lane]);
        }
        if !query_rest.is_empty() {
            sums[0] = _mm512_fmadd_ps(load_rest(query_rest), load_rest(row_rest), sums[0]);
        }
        *out = total(sums);
    }
}

/// The caller proves that the processor has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) fn squared_l2(query: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let (query, query_rest) = query.as_chunks::<LANES>();
        let (row, row_rest) = row.as_chunks::<LANES>();
        let (query, query_few) = query.as_chunks::<SUMS>();
        let (row, row_few) = row.as_chunks::<SUMS>();
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for (a, b) in query.iter().zip(row) {
            for lane in 0..SUMS {
                let difference = _mm512_sub_ps(load(&a[lane]), load(&b[lane]));
                sums[lane] = _mm512_fmadd_ps(difference, difference, sums[lane]);
            }
        }
        for (lane, (a, b)) in query_few.iter().zip(row_few).enumerate() {
            let difference = _mm512_sub_ps(load(a), load(b));
            sums[lane] = _mm512_fmadd_ps(difference, difference, sums[lane]);
        }
        if !query_rest.is_empty() {
            let difference = _mm512_sub_ps(load_rest(query_rest), load_rest(row_rest));
            sums[0] = _mm512_fmadd_ps(difference, difference, sums[0]);
        }
        *out = total(sums);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(numbers: &[f32; LANES]) -> __m512 {
    // SAFETY: the reference covers the 64 bytes that are read; this load asks for no alignment.
    unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
}

/// Fewer than sixteen numbers, and zeros after them.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_rest(numbers: &[f32]) -> __m512 {
    let mask = ((1_u32 << numbers.len().min(LANES)) - 1) as __mmask16;
    // SAFETY: the mask has one bit for each number of the slice, at most sixteen, and what is masked out is not read.
    unsafe { _mm512_maskz_loadu_ps(mask, numbers.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn total(sums: [__m512; SUMS]) -> f32 {
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
}
