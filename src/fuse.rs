//! How do two ranked lists become one? Pure arithmetic over scores and ranks.
//!
//! Invariants: a fused score lies in 0..1, is never NaN, and never falls when a leg's score rises.

pub use crate::types::{Fusion, RECIPROCAL_RANK_K};

/// Weighted relative scores. `similarity` is the dense leg's in -1..1 (negative counts as 0), `text` the BM25 score,
/// `text_maximum` what BM25 could at most give to this query (0 where no term counts), `weight` the dense leg's weight.
pub fn relative_score(similarity: f32, text: f32, text_maximum: f32, weight: f32) -> f32 {
    let unit = |value: f32| if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
    let dense = unit(similarity);
    let text = if text_maximum > 0.0 { unit(text / text_maximum) } else { 0.0 };
    (weight * dense + text) / (weight + 1.0)
}

/// Reciprocal rank fusion of two ranks counted from 1, absent where a leg did not bring the chunk.
pub fn reciprocal_rank(dense: Option<usize>, text: Option<usize>, k: f32) -> f32 {
    let part = |rank: Option<usize>| rank.map_or(0.0, |rank| 1.0 / (k + rank as f32));
    (part(dense) + part(text)) * (k + 1.0) / 2.0
}

/// Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): picks up to `count` indices, each time the one
/// with the highest `lambda * relevance - (1 - lambda) * similarity to the nearest pick`. Earlier indices win ties.
/// Costs `count * relevance.len()` similarities.
pub fn mmr(relevance: &[f32], similarity: &dyn Fn(usize, usize) -> f32, lambda: f32, count: usize) -> Vec<usize> {
    let mut nearest = vec![0.0_f32; relevance.len()];
    let mut left: Vec<usize> = (0..relevance.len()).collect();
    let mut picks = Vec::new();
    while picks.len() < count && !left.is_empty() {
        let value = |index: usize| lambda * relevance[index] - (1.0 - lambda) * nearest[index];
        let mut best = 0;
        for place in 1..left.len() {
            if value(left[place]) > value(left[best]) {
                best = place;
            }
        }
        let pick = left.remove(best);
        for index in &left {
            let similar = similarity(pick, *index);
            nearest[*index] = if picks.is_empty() { similar } else { nearest[*index].max(similar) };
        }
        picks.push(pick);
    }
    picks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_score_is_the_weighted_mean_of_both_legs() {
        assert!((relative_score(0.6, 5.0, 10.0, 1.0) - 0.55).abs() < 1e-6);
        assert!((relative_score(0.6, 5.0, 10.0, 0.3) - (0.18 + 0.5) / 1.3).abs() < 1e-6);
    }

    #[test]
    fn perfect_legs_fuse_to_one_and_nothing_exceeds_it() {
        assert!((relative_score(1.0, 10.0, 10.0, 0.3) - 1.0).abs() < 1e-6);
        assert!(relative_score(1.5, 11.0, 10.0, 0.3) <= 1.0);
        assert!((reciprocal_rank(Some(1), Some(1), 60.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_query_without_terms_is_not_a_number_by_accident() {
        assert!((relative_score(0.5, 0.0, 0.0, 1.0) - 0.25).abs() < 1e-6);
        assert!((relative_score(f32::NAN, 5.0, 10.0, 1.0) - 0.25).abs() < 1e-6);
    }

    #[test]
    fn reciprocal_rank_counts_both_legs() {
        let both = reciprocal_rank(Some(2), Some(3), 60.0);
        assert!((both - (1.0 / 62.0 + 1.0 / 63.0) * 61.0 / 2.0).abs() < 1e-6);
        assert!(both > reciprocal_rank(Some(1), None, 60.0));
    }

    #[test]
    fn mmr_with_lambda_one_keeps_the_order_of_relevance() {
        assert_eq!(mmr(&[0.9, 0.8, 0.7], &|_, _| 1.0, 1.0, 3), [0, 1, 2]);
    }

    #[test]
    fn mmr_passes_over_a_near_duplicate() {
        let similarity = |a: usize, b: usize| if a + b == 1 { 0.99 } else { 0.1 };
        assert_eq!(mmr(&[0.9, 0.89, 0.5], &similarity, 0.5, 2), [0, 2]);
    }

    #[test]
    fn weights_that_cannot_order_are_refused() {
        assert!(Fusion::Score { weight: Some(-1.0) }.validate().is_err());
        assert!(Fusion::ReciprocalRank { k: f32::NAN }.validate().is_err());
        assert!(Fusion::default().validate().is_ok());
    }
}
