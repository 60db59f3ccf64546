//! The kernel of most x86-64 processors since 2013: four sums of eight numbers, fused multiply-add.

use std::arch::x86_64::*;

use super::codes::Code;

const LANES: usize = 8;
const SUMS: usize = 4;
/// Codes that are widened into one register.
const CODES: usize = 16;

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

/// The dot product of a query of codes with a row of codes, exact: a pair of products is at most 2 * 255 * 128 and cannot
/// overflow. The caller proves that the processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) fn dot_codes(query: &[i8], row: &[u8]) -> i32 {
    let (query, query_rest) = query.as_chunks::<CODES>();
    let (row, row_rest) = row.as_chunks::<CODES>();
    let mut sums = [_mm256_setzero_si256(); 2];
    for (index, (a, b)) in query.iter().zip(row).enumerate() {
        let (a, b) = (_mm256_cvtepi8_epi16(load_codes(a)), _mm256_cvtepu8_epi16(load_codes(b)));
        sums[index % 2] = _mm256_add_epi32(sums[index % 2], _mm256_madd_epi16(a, b));
    }
    let sum = _mm256_add_epi32(sums[0], sums[1]);
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
    _mm_cvtsi128_si32(one) + super::scalar::dot_codes(query_rest, row_rest)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_codes<T: Code>(codes: &[T; CODES]) -> __m128i {
    // SAFETY: a code is one byte, so the reference covers the 16 bytes that are read; this load asks for no alignment.
    unsafe { _mm_loadu_si128(codes.as_ptr().cast()) }
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
