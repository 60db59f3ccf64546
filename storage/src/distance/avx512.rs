//! The kernel of server processors: four sums of sixteen numbers; the end of a row is read under a mask.

use std::arch::x86_64::*;

use super::codes::Code;

const LANES: usize = 16;
const SUMS: usize = 4;
/// Codes that one register holds.
const CODES: usize = 64;

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

/// The dot product of a query of codes with a row of codes, exact. The caller proves that the processor has AVX-512F,
/// AVX-512BW and AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn dot_codes_vnni(query: &[i8], row: &[u8]) -> i32 {
    let (query, query_rest) = query.as_chunks::<CODES>();
    let (row, row_rest) = row.as_chunks::<CODES>();
    let mut sums = [_mm512_setzero_si512(); 2];
    for (index, (a, b)) in query.iter().zip(row).enumerate() {
        let sum = &mut sums[index % 2];
        *sum = _mm512_dpbusd_epi32(*sum, load_codes(b), load_codes(a));
    }
    if !query_rest.is_empty() {
        sums[0] = _mm512_dpbusd_epi32(sums[0], load_codes_rest(row_rest), load_codes_rest(query_rest));
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

/// The same without VNNI: a pair of products is at most 2 * 255 * 128 and cannot overflow. The caller proves that the
/// processor has AVX-512F and AVX-512BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn dot_codes(query: &[i8], row: &[u8]) -> i32 {
    let (query, query_rest) = query.as_chunks::<CODES>();
    let (row, row_rest) = row.as_chunks::<CODES>();
    let mut sum = _mm512_setzero_si512();
    for (a, b) in query.iter().zip(row) {
        sum = _mm512_add_epi32(sum, products(load_codes(a), load_codes(b)));
    }
    if !query_rest.is_empty() {
        sum = _mm512_add_epi32(sum, products(load_codes_rest(query_rest), load_codes_rest(row_rest)));
    }
    _mm512_reduce_add_epi32(sum)
}

/// Sixteen sums of four products each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn products(query: __m512i, row: __m512i) -> __m512i {
    let low = _mm512_madd_epi16(
        _mm512_cvtepi8_epi16(_mm512_castsi512_si256(query)),
        _mm512_cvtepu8_epi16(_mm512_castsi512_si256(row)),
    );
    let high = _mm512_madd_epi16(
        _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64::<1>(query)),
        _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(row)),
    );
    _mm512_add_epi32(low, high)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_codes<T: Code>(codes: &[T; CODES]) -> __m512i {
    // SAFETY: a code is one byte, so the reference covers the 64 bytes that are read; this load asks for no alignment.
    unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
}

/// Fewer than 64 codes, and zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_codes_rest<T: Code>(codes: &[T]) -> __m512i {
    let mask = (1_u64 << codes.len().min(CODES - 1)) - 1;
    // SAFETY: the mask has one bit for each code of the slice, one byte each, and what is masked out is not read.
    unsafe { _mm512_maskz_loadu_epi8(mask, codes.as_ptr().cast()) }
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
