//! How do the states of a text's tokens become its one vector?

use crate::embed::spec::Pooling;

/// Appends the pooled vector of `states`, `[tokens, dims]`, to `out`; the first `skip` tokens keep their places, and do
/// not count. Zeros where no token counts.
pub(crate) fn pool(states: &[f32], dims: usize, skip: usize, pooling: Pooling, out: &mut Vec<f32>) {
    let all = states.len() / dims;
    let skip = skip.min(all);
    let states = &states[skip * dims..];
    let tokens = (all - skip) as f32;
    match pooling {
        Pooling::Cls => row(states.chunks_exact(dims).next(), dims, out),
        // CLIP's engine takes the row itself; of what comes without padding it is the last.
        Pooling::LastToken | Pooling::EndOfText => row(states.chunks_exact(dims).next_back(), dims, out),
        Pooling::Mean => weighted(states, dims, |_| 1.0, tokens, out),
        Pooling::MeanSqrtLen => weighted(states, dims, |_| 1.0, tokens.sqrt(), out),
        Pooling::WeightedMean => {
            let skipped = skip as f32;
            let weights = tokens * (2.0 * skipped + tokens + 1.0) / 2.0;
            weighted(states, dims, |place| skipped + place + 1.0, weights, out);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::dimensions::normalise;

    fn pooled(pooling: Pooling) -> Vec<f32> {
        let mut out = Vec::new();
        pool(&[1.0, -2.0, 3.0, 0.0, 5.0, 8.0, 7.0, 4.0], 2, 0, pooling, &mut out);
        out
    }

    #[test]
    fn skipped_tokens_keep_their_places() {
        let skipping = |pooling| {
            let mut out = Vec::new();
            pool(&[1.0, 2.0, 5.0, 8.0], 1, 2, pooling, &mut out);
            out[0]
        };
        assert_eq!((skipping(Pooling::Cls), skipping(Pooling::Mean)), (5.0, 6.5));
        assert_eq!((skipping(Pooling::Max), skipping(Pooling::LastToken)), (8.0, 8.0));
        assert_eq!(skipping(Pooling::WeightedMean), (3.0 * 5.0 + 4.0 * 8.0) / 7.0);
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
            pool(&[], 2, 0, pooling, &mut out);
            normalise(&mut out);
            assert_eq!(out, [0.0, 0.0], "{pooling:?}");
        }
    }
}
