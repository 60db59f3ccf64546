//! How do the states of a text's tokens become its one vector?

use crate::embed::spec::Pooling;

/// Appends the pooled vector of `states`, `[tokens, dims]`, to `out`; zeros where there is no token.
pub(crate) fn pool(states: &[f32], dims: usize, pooling: Pooling, out: &mut Vec<f32>) {
    let tokens = (states.len() / dims) as f32;
    match pooling {
        Pooling::Cls => row(states.chunks_exact(dims).next(), dims, out),
        Pooling::LastToken => row(states.chunks_exact(dims).next_back(), dims, out),
        Pooling::Mean => weighted(states, dims, |_| 1.0, tokens, out),
        Pooling::MeanSqrtLen => weighted(states, dims, |_| 1.0, tokens.sqrt(), out),
        Pooling::WeightedMean => weighted(states, dims, |place| place + 1.0, tokens * (tokens + 1.0) / 2.0, out),
        Pooling::Max => {
            let mut largest = states.get(..dims).map_or(vec![0.0; dims], <[f32]>::to_vec);
            for state in states.chunks_exact(dims) {
                largest.iter_mut().zip(state).for_each(|(largest, &value)| *largest = largest.max(value));
            }
            out.extend(largest);
        }
    }
}

fn row(found: Option<&[f32]>, dims: usize, out: &mut Vec<f32>) {
    match found {
        Some(row) => out.extend_from_slice(row),
        None => out.resize(out.len() + dims, 0.0),
    }
}

fn weighted(states: &[f32], dims: usize, weight: impl Fn(f32) -> f32, divisor: f32, out: &mut Vec<f32>) {
    let mut sums = vec![0.0_f32; dims];
    for (place, state) in states.chunks_exact(dims).enumerate() {
        let weight = weight(place as f32);
        sums.iter_mut().zip(state).for_each(|(sum, &value)| *sum += weight * value);
    }
    out.extend(sums.iter().map(|sum| sum / divisor.max(1e-9)));
}

/// Scales `vector` to unit length; a zero vector stays zero.
pub(crate) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|value| *value /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(pooling: Pooling) -> Vec<f32> {
        let mut out = Vec::new();
        pool(&[1.0, -2.0, 3.0, 0.0, 5.0, 8.0, 7.0, 4.0], 2, pooling, &mut out);
        out
    }

    #[test]
    fn every_pooling_follows_its_definition() {
        assert_eq!(pooled(Pooling::Cls), [1.0, -2.0]);
        assert_eq!(pooled(Pooling::LastToken), [7.0, 4.0]);
        assert_eq!(pooled(Pooling::Mean), [4.0, 2.5]);
        assert_eq!(pooled(Pooling::MeanSqrtLen), [8.0, 5.0]);
        assert_eq!(pooled(Pooling::Max), [7.0, 8.0]);
        assert_eq!(pooled(Pooling::WeightedMean), [5.0, 3.8]);
    }

    #[test]
    fn text_without_tokens_becomes_zeros() {
        let all = [Pooling::Cls, Pooling::LastToken, Pooling::Mean, Pooling::MeanSqrtLen, Pooling::Max];
        for pooling in all.into_iter().chain([Pooling::WeightedMean]) {
            let mut out = Vec::new();
            pool(&[], 2, pooling, &mut out);
            normalise(&mut out);
            assert_eq!(out, [0.0, 0.0], "{pooling:?}");
        }
    }
}
