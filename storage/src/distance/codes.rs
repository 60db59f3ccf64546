//! What is the dot product of two vectors of one byte a number?
//!
//! A query holds signed numbers, a row unsigned ones, because the instruction made for this (`vpdpbusd` of AVX-512 VNNI)
//! wants them so. Who needs signed rows stores them with 128 added and takes 128 times the sum of the query off.
//!
//! Invariants: every kernel gives the same integer for vectors of up to 65,000 numbers; a [`CodeKernel`] exists only for
//! what the processor has, so holding one is the proof that its code may run.

use std::sync::OnceLock;

use super::kernel::preferred;
use super::scalar;

/// A number of one byte.
pub(super) trait Code {}
impl Code for i8 {}
impl Code for u8 {}

/// A way to compute that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeKernel(Path);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
}

impl CodeKernel {
    /// The best one, or the one that the environment asks for where there is such a one. Looked up once.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<CodeKernel> = OnceLock::new();
        *BEST.get_or_init(|| preferred(&Self::supported(), Self::name))
    }

    /// All that this processor has, the best first; never empty.
    pub(crate) fn supported() -> Vec<Self> {
        let mut paths = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if avx512 && is_x86_feature_detected!("avx512vnni") {
                paths.push(Path::Avx512Vnni);
            }
            if avx512 {
                paths.push(Path::Avx512);
            }
            if is_x86_feature_detected!("avx2") {
                paths.push(Path::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            paths.push(Path::Neon);
        }
        paths.push(Path::Scalar);
        paths.into_iter().map(Self).collect()
    }

    /// Its name in the environment variable.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Path::Neon => "neon",
            Path::Scalar => "scalar",
        }
    }

    /// The dot product of a query with a row of the same length.
    #[inline]
    #[allow(unsafe_code)]
    pub(crate) fn dot(self, query: &[i8], row: &[u8]) -> i32 {
        debug_assert_eq!(query.len(), row.len());
        match self.0 {
            // SAFETY: `supported` alone makes this path, after it has seen AVX-512F, AVX-512BW and AVX-512 VNNI.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => unsafe { super::avx512::dot_codes_vnni(query, row) },
            // SAFETY: `supported` alone makes this path, after it has seen AVX-512F and AVX-512BW.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => unsafe { super::avx512::dot_codes(query, row) },
            // SAFETY: `supported` alone makes this path, after it has seen AVX2.
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => unsafe { super::avx2::dot_codes(query, row) },
            // SAFETY: `supported` alone makes this path, after it has seen NEON.
            #[cfg(target_arch = "aarch64")]
            Path::Neon => unsafe { super::neon::dot_codes(query, row) },
            Path::Scalar => scalar::dot_codes(query, row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn all_kernels_give_the_same_integer() {
        let mut random = Random::new(5);
        for dims in (1..70).chain([127, 128, 255, 256, 257, 384, 768, 1000, 1024, 4095, 4096]) {
            let query: Vec<i8> = (0..dims).map(|_| random.next() as i8).collect();
            let row: Vec<u8> = (0..dims).map(|_| random.next() as u8).collect();
            let extremes = [(vec![-128; dims], vec![255; dims]), (vec![127; dims], vec![255; dims]), (query, row)];
            for (query, row) in extremes {
                let expected: i64 = query.iter().zip(&row).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
                for kernel in CodeKernel::supported() {
                    let found = kernel.dot(&query, &row);
                    assert_eq!(i64::from(found), expected, "{}, {dims} dimensions", kernel.name());
                }
            }
        }
    }
}
