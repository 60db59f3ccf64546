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
/// `similarities(pick, others)` gives the similarity of a pick to each of the others, on the scale of `relevance`.
/// Costs at most `count * relevance.len()` similarities, and memory for one row of them.
///
/// # Errors
/// The first of `similarities`.
pub fn mmr<E>(
    relevance: &[f32],
    mut similarities: impl FnMut(usize, &[usize]) -> Result<Vec<f32>, E>,
    lambda: f32,
    count: usize,
) -> Result<Vec<usize>, E> {
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
        let first = picks.is_empty();
        picks.push(pick);
        if picks.len() < count && !left.is_empty() {
            for (index, similar) in left.iter().zip(similarities(pick, &left)?) {
                nearest[*index] = if first { similar } else { nearest[*index].max(similar) };
            }
        }
    }
    Ok(picks)
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

    fn picks(relevance: &[f32], similarity: fn(usize, usize) -> f32, lambda: f32, count: usize) -> Vec<usize> {
        let row = |pick, others: &[usize]| Ok(others.iter().map(|other| similarity(pick, *other)).collect());
        mmr(relevance, row, lambda, count).unwrap_or_else(|error: std::convert::Infallible| match error {})
    }

    #[test]
    fn mmr_with_lambda_one_keeps_the_order_of_relevance() {
        assert_eq!(picks(&[0.9, 0.8, 0.7], |_, _| 1.0, 1.0, 3), [0, 1, 2]);
    }

    #[test]
    fn mmr_passes_over_a_near_duplicate() {
        let similarity = |a: usize, b: usize| if a + b == 1 { 0.99 } else { 0.1 };
        assert_eq!(picks(&[0.9, 0.89, 0.5], similarity, 0.5, 2), [0, 2]);
    }

    #[test]
    fn mmr_asks_for_one_row_a_pick_and_for_none_after_the_last() {
        let mut rows = Vec::new();
        let picked = mmr(
            &[0.4, 0.3, 0.2, 0.1],
            |pick, others| {
                rows.push((pick, others.len()));
                Ok::<_, ()>(vec![0.0; others.len()])
            },
            0.5,
            3,
        );
        assert_eq!((picked, rows), (Ok(vec![0, 1, 2]), vec![(0, 3), (1, 2)]));
        assert_eq!(mmr(&[0.4, 0.3], |_, _| Err("damaged"), 0.5, 2), Err("damaged"));
    }

    #[test]
    fn weights_that_cannot_order_are_refused() {
        assert!(Fusion::Score { weight: Some(-1.0) }.validate().is_err());
        assert!(Fusion::ReciprocalRank { k: f32::NAN }.validate().is_err());
        assert!(Fusion::default().validate().is_ok());
    }
}
