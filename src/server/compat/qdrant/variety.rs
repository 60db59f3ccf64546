//! Which of these points are near and yet not all alike? Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), as
//! Qdrant computes it: similarities are the metric's own, of Euclidean spaces the negated square of the distance.

use quiverdb_storage::Metric;

/// A candidate: how similar it is to the query, and its vector as it is compared.
pub(super) struct Candidate {
    pub(super) relevance: f64,
    pub(super) vector: Vec<f32>,
}

/// The places of the chosen ones, in order of their choice: so many at most. `diversity` is 0 for relevance alone and 1 for
/// variety alone.
pub(super) fn chosen(metric: Metric, candidates: &[Candidate], diversity: f64, limit: usize) -> Vec<usize> {
    let mut pending: Vec<usize> = (0..candidates.len()).collect();
    let mut nearest = vec![f64::NEG_INFINITY; candidates.len()];
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < limit && !pending.is_empty() {
        let worth = |place: usize| match chosen.is_empty() {
            true => candidates[place].relevance,
            false => (1.0 - diversity) * candidates[place].relevance - diversity * nearest[place],
        };
        let best = (0..pending.len()).max_by(|a, b| worth(pending[*a]).total_cmp(&worth(pending[*b])));
        let Some(best) = best else { break };
        let place = pending.swap_remove(best);
        for other in &pending {
            let similar = similarity(metric, &candidates[*other].vector, &candidates[place].vector);
            nearest[*other] = nearest[*other].max(similar);
        }
        chosen.push(place);
    }
    chosen
}

fn similarity(metric: Metric, one: &[f32], other: &[f32]) -> f64 {
    let pairs = one.iter().zip(other).map(|(one, other)| (f64::from(*one), f64::from(*other)));
    match metric {
        // Vectors of a cosine space have length 1 here.
        Metric::Cosine | Metric::Dot => pairs.map(|(one, other)| one * other).sum(),
        Metric::L2 => -pairs.map(|(one, other)| (one - other).powi(2)).sum::<f64>(),
    }
}
