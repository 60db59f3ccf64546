//! Which code computes, on this processor?
//!
//! Invariant: a [`Kernel`] exists only for what the processor has, so holding one is the proof that its code may run.

use std::sync::OnceLock;

use super::scalar;
use crate::{Error, Result};

/// The environment variable that forces a kernel.
const VARIABLE: &str = "QUIVERDB_SIMD";

/// All kernels of all processors.
const ALL: [&str; 5] = ["avx512vnni", "avx512", "avx2", "neon", "scalar"];

/// The kernel that the environment asks for by name; the first, which is the best, where it asks for none, or for one that
/// only the other kind of vectors has. What this processor lacks altogether was refused by [`expect_known`].
pub(super) fn preferred<K: Copy>(supported: &[K], name: impl Fn(K) -> &'static str) -> K {
    let wanted = std::env::var(VARIABLE).ok();
    let wanted = wanted.and_then(|wanted| supported.iter().find(|kernel| name(**kernel) == wanted));
    *wanted.unwrap_or(&supported[0])
}

/// The names that the environment may ask for on this processor, the best first.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = super::CodeKernel::supported().into_iter().map(super::CodeKernel::name).collect();
    let others = Kernel::supported().into_iter().map(Kernel::name);
    others.for_each(|name| {
        if !names.contains(&name) {
            names.push(name)
        }
    });
    names
}

/// Sees to it that what the environment asks for is there. Whoever opens a database calls this.
///
/// # Errors
/// [`Error::InvalidInput`] naming the value and what there is.
pub(crate) fn expect_known() -> Result<()> {
    match std::env::var_os(VARIABLE) {
        Some(wanted) => refuse_unknown(&wanted.to_string_lossy()),
        None => Ok(()),
    }
}

fn refuse_unknown(wanted: &str) -> Result<()> {
    let names = names();
    if names.contains(&wanted) {
        return Ok(());
    }
    let why = if ALL.contains(&wanted) { "which this processor or build lacks" } else { "which is the name of none" };
    let there = names.join(", ");
    Err(Error::invalid(format!("{VARIABLE} asks for the kernel `{wanted}`, {why}. Unset it, or take one of: {there}")))
}

/// A way to compute that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel(Path);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
}

impl Kernel {
    /// The best one, or the one that the environment asks for where there is such a one. Looked up once.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| preferred(&Self::supported(), Self::name))
    }

    /// All that this processor has, the best first; never empty.
    pub(crate) fn supported() -> Vec<Self> {
        let mut paths = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                paths.push(Path::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
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
            Path::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Path::Neon => "neon",
            Path::Scalar => "scalar",
        }
    }

    /// The dot products of the query with each row; `rows` holds `out.len()` of them.
    #[allow(unsafe_code)]
    pub(crate) fn dot(self, query: &[f32], rows: &[f32], out: &mut [f32]) {
        match self.0 {
            // SAFETY: `supported` alone makes this path, after it has seen AVX-512F.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => unsafe { super::avx512::dot(query, rows, out) },
            // SAFETY: `supported` alone makes this path, after it has seen AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => unsafe { super::avx2::dot(query, rows, out) },
            // SAFETY: `supported` alone makes this path, after it has seen NEON.
            #[cfg(target_arch = "aarch64")]
            Path::Neon => unsafe { super::neon::dot(query, rows, out) },
            Path::Scalar => scalar::dot(query, rows, out),
        }
    }

    /// The squared Euclidean distances of the query to each row; `rows` holds `out.len()` of them.
    #[allow(unsafe_code)]
    pub(crate) fn squared_l2(self, query: &[f32], rows: &[f32], out: &mut [f32]) {
        match self.0 {
            // SAFETY: `supported` alone makes this path, after it has seen AVX-512F.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => unsafe { super::avx512::squared_l2(query, rows, out) },
            // SAFETY: `supported` alone makes this path, after it has seen AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => unsafe { super::avx2::squared_l2(query, rows, out) },
            // SAFETY: `supported` alone makes this path, after it has seen NEON.
            #[cfg(target_arch = "aarch64")]
            Path::Neon => unsafe { super::neon::squared_l2(query, rows, out) },
            Path::Scalar => scalar::squared_l2(query, rows, out),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Relative to the sum of the absolute parts, which bounds the rounding of any order of addition.
    const TOLERANCE: f64 = 1e-6;

    #[test]
    fn all_kernels_agree_with_double_precision() {
        let mut random = Random::new(7);
        for dims in (1..70).chain([127, 128, 255, 256, 257, 384, 768, 1000, 1024, 4096]) {
            let query: Vec<f32> = (0..dims).map(|_| random.number()).collect();
            let rows: Vec<f32> = (0..dims * 3).map(|_| random.number()).collect();
            for kernel in Kernel::supported() {
                let (mut dots, mut squares) = ([0.0; 3], [0.0; 3]);
                kernel.dot(&query, &rows, &mut dots);
                kernel.squared_l2(&query, &rows, &mut squares);
                for (index, row) in rows.chunks(dims).enumerate() {
                    let pairs = || query.iter().zip(row).map(|(&a, &b)| (f64::from(a), f64::from(b)));
                    let (dot, size) =
                        pairs().fold((0.0, 0.0), |(dot, size), (a, b)| (dot + a * b, size + (a * b).abs()));
                    let square: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
                    let name = kernel.name();
                    assert!((f64::from(dots[index]) - dot).abs() <= TOLERANCE * size, "{name}, {dims} dimensions");
                    assert!(
                        (f64::from(squares[index]) - square).abs() <= TOLERANCE * square,
                        "{name}, {dims} dimensions"
                    );
                }
            }
        }
    }

    #[test]
    fn the_environment_is_heard_and_what_is_not_there_is_refused_by_name() {
        // Continuous integration reads this line, and runs the tests once for each.
        eprintln!("\nkernels: {}", names().join(" "));
        for name in names() {
            assert!(ALL.contains(&name), "{name}");
            refuse_unknown(name).unwrap();
        }
        for wanted in ["", "AVX2", "sse9"] {
            let told = refuse_unknown(wanted).unwrap_err().to_string();
            assert!(told.contains(&format!("`{wanted}`")) && told.contains("scalar"), "{told}");
        }
        for lacking in ALL.iter().filter(|name| !names().contains(name)) {
            let told = refuse_unknown(lacking).unwrap_err().to_string();
            assert!(told.contains("lacks"), "{told}");
        }
        expect_known().unwrap();
        let (rows, codes) = (Kernel::best().name(), super::super::CodeKernel::best().name());
        let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| names()[0].to_owned());
        assert!(codes == wanted || rows == wanted, "asked for {wanted}, got {rows} and {codes}");
    }

    #[test]
    fn a_score_does_not_depend_on_the_row_beside_it() {
        let mut random = Random::new(11);
        let dims = 259;
        let query: Vec<f32> = (0..dims).map(|_| random.number()).collect();
        let rows: Vec<f32> = (0..dims * 9).map(|_| random.number()).collect();
        for kernel in Kernel::supported() {
            let mut all = [0.0; 9];
            kernel.dot(&query, &rows, &mut all);
            for (index, row) in rows.chunks(dims).enumerate() {
                let mut alone = [0.0];
                kernel.dot(&query, row, &mut alone);
                assert_eq!(alone[0].to_bits(), all[index].to_bits(), "{}", kernel.name());
            }
        }
    }
}
