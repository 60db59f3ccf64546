//! The kernel of most x86-64 processors since 2013: four sums of eight numbers, fused multiply-add.

use std::arch::x86_64::*;

const LANES: usize = 8;
const SUMS: usize = 4;

/// The caller proves that the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) fn dot(query: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let (query, query_rest) = query.as_chunks::<LANES>();
        let (row, row_rest) = row.as_chunks::<LANES>();
        let (query, query_few) = query.as_chunks::<SUMS>();
        let (row, row_few) = row.as_chunks::<SUMS>();
        let mut sums = [_mm256_setzero_ps(); SUMS];
        for (a, b) in query.iter().zip(row) {
            for lane in 0..SUMS {
                sums[lane] = _mm256_fmadd_ps(load(&a[lane]), load(&b[lane]), sums[lane]);
            }
        }
        for (lane, (a, b)) in query_few.iter().zip(row_few).enumerate() {
            sums[lane] = _mm256_fmadd_ps(load(a), load(b), sums[lane]);
        }
        let rest: f32 = query_rest.iter().zip(row_rest).map(|(a, b)| a * b).sum();
        *out = total(sums) + rest;
    }
}

/// The caller proves that the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) fn squared_l2(query: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let (query, query_rest) = query.as_chunks::<LANES>();
        let (row, row_rest) = row.as_chunks::<LANES>();
        let (query, query_few) = query.as_chunks::<SUMS>();
        let (row, row_few) = row.as_chunks::<SUMS>();
        let mut sums = [_mm256_setzero_ps(); SUMS];
        for (a, b) in query.iter().zip(row) {
            for lane in 0..SUMS {
                let difference = _mm256_sub_ps(load(&a[lane]), load(&b[lane]));
                sums[lane] = _mm256_fmadd_ps(difference, difference, sums[lane]);
            }
        }
        for (lane, (a, b)) in query_few.iter().zip(row_few).enumerate() {
            let difference = _mm256_sub_ps(load(a), load(b));
            sums[lane] = _mm256_fmadd_ps(difference, difference, sums[lane]);
        }
        let rest: f32 = query_rest.iter().zip(row_rest).map(|(a, b)| (a - b) * (a - b)).sum();
        *out = total(sums) + rest;
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(numbers: &[f32; LANES]) -> __m256 {
    // SAFETY: the reference covers the 32 bytes that are read; this load asks for no alignment.
    unsafe { _mm256_loadu_ps(numbers.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn total(sums: [__m256; SUMS]) -> f32 {
    let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}
