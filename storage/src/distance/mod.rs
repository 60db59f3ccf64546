//! How alike are two vectors?
//!
//! [`Metric`] says what alike means, `Kernel` computes it with what the processor has (AVX-512F, AVX2 with FMA, NEON, or
//! plain code). The environment variable `QUIVERDB_SIMD` (`scalar`, `avx2`, `avx512`, `neon`) forces a kernel; what this
//! processor lacks is refused when a database is opened. `CodeKernel` does the same for vectors of one byte a number, which
//! graphs are walked on; it knows `avx512vnni` besides.
//!
//! Invariants: a score depends on the two vectors and the kernel alone, not on where a row stands or which call computes
//! it; scores are finite, because longer vectors are refused where they enter; larger is better. The only `unsafe` of this
//! crate is in this folder.

use serde::{Deserialize, Serialize};

mod codes;
mod kernel;
#[allow(unsafe_code)]
mod prefetch;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
mod neon;
mod scalar;

pub(crate) use codes::CodeKernel;
pub(crate) use kernel::{Kernel, expect_known};
pub(crate) use prefetch::prefetch;

/// How vectors are compared. Scores are larger where vectors are more alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The cosine of the angle between them, -1 to 1. The zero vector has none and is refused.
    #[default]
    Cosine,
    /// The dot product.
    Dot,
    /// The Euclidean distance, negated.
    L2,
}

impl Metric {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::L2 => "l2",
        }
    }

    /// Maps a score to 0..=1, keeping the order, for fusion with other scores. A cosine keeps its value and negative ones
    /// become 0; a dot product `x` becomes `(1 + x / (1 + |x|)) / 2` and a distance `d` becomes `1 / (1 + d)`, because
    /// these have no bound.
    pub fn unit_similarity(self, score: f32) -> f32 {
        match self {
            Self::Cosine => score.clamp(0.0, 1.0),
            Self::Dot => f32::midpoint(1.0, score / (1.0 + score.abs())),
            Self::L2 => 1.0 / (1.0 - score.min(0.0)),
        }
    }

    /// Says whether a vector can be ranked under this metric.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with "the vector".
    pub fn validate(self, vector: &[f32]) -> std::result::Result<(), String> {
        if let Some(index) = vector.iter().position(|value| !value.is_finite()) {
            return Err(format!("has {} at place {index}; every number must be finite", vector[index]));
        }
        let squared = squared_length(vector);
        // |a - b|^2 <= (|a| + |b|)^2 <= 4 max(|a|, |b|)^2 must be finite in f32, and so must |a . b|.
        if squared > f64::from(f32::MAX) / 4.0 {
            return Err(format!("has length {:.3e}; scores would overflow, the limit is 9.2e18", squared.sqrt()));
        }
        if self == Self::Cosine && squared == 0.0 {
            return Err("is all zeros, which has no direction; give another one, or use the metric dot or l2, which is chosen when a collection is made".into());
        }
        Ok(())
    }

    /// Appends to `out` what the scan compares: the vector itself, or, for the cosine, its direction of length 1.
    pub(crate) fn prepare(self, vector: impl Iterator<Item = f32>, out: &mut Vec<f32>) {
        let start = out.len();
        out.extend(vector);
        if self == Self::Cosine {
            let row = &mut out[start..];
            let scale = squared_length(row).sqrt().recip();
            for value in row {
                *value = (f64::from(*value) * scale) as f32;
            }
        }
    }

    /// The scores of prepared rows for a prepared query, one a row.
    ///
    /// Cost: one pass over the rows, at the speed of memory.
    pub(crate) fn scores(self, kernel: Kernel, query: &[f32], rows: &[f32], out: &mut [f32]) {
        debug_assert_eq!(query.len() * out.len(), rows.len());
        match self {
            Self::Cosine => {
                kernel.dot(query, rows, out);
                out.iter_mut().for_each(|score| *score = score.clamp(-1.0, 1.0) + 0.0);
            }
            // Adding 0 makes -0 into 0, so that equal scores have equal bits.
            Self::Dot => {
                kernel.dot(query, rows, out);
                out.iter_mut().for_each(|score| *score += 0.0);
            }
            Self::L2 => {
                kernel.squared_l2(query, rows, out);
                out.iter_mut().for_each(|score| *score = -score.sqrt() + 0.0);
            }
        }
    }
}

fn squared_length(vector: &[f32]) -> f64 {
    vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

    fn score(metric: Metric, one: &[f32], other: &[f32]) -> f32 {
        let (mut query, mut row, mut out) = (Vec::new(), Vec::new(), [0.0]);
        metric.prepare(one.iter().copied(), &mut query);
        metric.prepare(other.iter().copied(), &mut row);
        metric.scores(Kernel::best(), &query, &row, &mut out);
        out[0]
    }

    #[test]
    fn scores_are_those_of_the_textbook() {
        assert!((score(Metric::Cosine, &[3.0, 4.0], &[30.0, 40.0]) - 1.0).abs() < 1e-6);
        assert!((score(Metric::Cosine, &[1.0, 0.0], &[0.0, 9.0])).abs() < 1e-6);
        assert_eq!(score(Metric::Dot, &[3.0, 4.0], &[2.0, 1.0]), 10.0);
        assert_eq!(score(Metric::L2, &[3.0, 4.0], &[0.0, 0.0]), -5.0);
        assert_eq!(score(Metric::L2, &[3.0, 4.0], &[3.0, 4.0]).to_bits(), 0.0_f32.to_bits());
    }

    #[test]
    fn vectors_that_cannot_be_ranked_are_refused() {
        for metric in METRICS {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e19] {
                assert!(metric.validate(&[0.5, bad]).is_err(), "{metric:?} took {bad}");
            }
            assert_eq!(metric.validate(&[f32::MIN_POSITIVE / 4.0, 0.0]), Ok(()));
        }
        assert!(Metric::Cosine.validate(&[0.0, -0.0]).is_err());
        assert_eq!(Metric::Dot.validate(&[0.0, 0.0]), Ok(()));
    }

    #[test]
    fn extreme_vectors_have_finite_scores() {
        let extremes: [&[f32]; 4] = [&[9e18, 0.0], &[-9e18, 1e-45], &[1e-45, 0.0], &[1e-30, -1e18]];
        for metric in METRICS {
            for one in extremes {
                for other in extremes {
                    let score = score(metric, one, other);
                    assert!(score.is_finite(), "{metric:?} of {one:?} and {other:?} is {score}");
                    assert!((0.0..=1.0).contains(&metric.unit_similarity(score)));
                }
            }
        }
    }

    #[test]
    fn unit_similarity_keeps_the_order() {
        for (metric, scores) in
            [(Metric::Cosine, [0.0, 0.5, 1.0]), (Metric::Dot, [-3.0, 0.0, 70.0]), (Metric::L2, [-9.0, -0.5, 0.0])]
        {
            let mapped = scores.map(|score| metric.unit_similarity(score));
            assert!(mapped.is_sorted_by(|one, other| one < other), "{metric:?}: {mapped:?}");
        }
    }
}
