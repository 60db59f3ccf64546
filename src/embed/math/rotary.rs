//! How do queries and keys learn where they stand, by rotation?
//!
//! Rotary position embedding (Su et al., "RoFormer", 2021), in the layout of GPT-NeoX: number `i` of a head turns together
//! with number `i + size / 2`.

use std::ops::Range;

use super::attention::Heads;

/// How fast each pair of numbers turns.
pub(crate) struct Rotary {
    frequencies: Vec<f32>,
}

impl Rotary {
    /// For heads of `size` numbers (even): pair `i` turns by `theta^(-2i / size)` a token.
    pub(crate) fn new(theta: f64, size: usize) -> Self {
        let frequency = |pair: usize| (1.0 / theta.powf(2.0 * pair as f64 / size as f64)) as f32;
        Self { frequencies: (0..size / 2).map(frequency).collect() }
    }
}

/// The angles of the first positions, as far as they were needed yet.
#[derive(Default)]
pub(crate) struct Angles {
    /// For each position, `[cosines, sines]`.
    values: Vec<f32>,
}

impl Angles {
    /// Knows at least `positions` positions.
    pub(crate) fn reach(&mut self, rotary: &Rotary, positions: usize) {
        let pairs = rotary.frequencies.len();
        for position in self.values.len() / (2 * pairs)..positions {
            // The product is f32, as in the models' own code; the functions of it are exact.
            let angles = rotary.frequencies.iter().map(|frequency| f64::from(position as f32 * frequency));
            self.values.extend(angles.clone().map(|angle| angle.cos() as f32));
            self.values.extend(angles.map(|angle| angle.sin() as f32));
        }
    }

    /// Turns the queries and keys of rows of queries, keys and values.
    pub(crate) fn turn(&self, qkv: &mut [f32], heads: Heads, sequences: &[Range<usize>]) {
        let (stride, turned) = (heads.row(), (heads.queries + heads.keys) * heads.size);
        for rows in sequences {
            let tokens = qkv[rows.start * stride..rows.end * stride].chunks_exact_mut(stride);
            for (token, angles) in tokens.zip(self.values.chunks_exact(heads.size)) {
                let (cosines, sines) = angles.split_at(heads.size / 2);
                for head in token[..turned].chunks_exact_mut(heads.size) {
                    let (first, second) = head.split_at_mut(heads.size / 2);
                    for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                        (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_keeps_lengths_and_makes_products_depend_on_distance_alone() {
        let heads = Heads { queries: 1, keys: 1, size: 8 };
        let rotary = Rotary::new(100.0, 8);
        let row: Vec<f32> = (0..24).map(|index| (index * 7 % 13) as f32 - 6.0).collect();
        let mut qkv = row.repeat(60);
        let mut angles = Angles::default();
        angles.reach(&rotary, 10);
        angles.reach(&rotary, 40);
        angles.turn(&mut qkv, heads, &[0..20, 20..60]);
        assert_eq!(qkv[..24], row, "the first position does not turn");
        let part = |token: usize, which: usize| &qkv[token * 24 + which * 8..][..8];
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        for token in 0..17 {
            assert!((dot(part(token, 0), part(token + 3, 1)) - dot(part(0, 0), part(3, 1))).abs() < 1e-3);
            assert!((dot(part(token, 0), part(token, 0)) - dot(&row[..8], &row[..8])).abs() < 1e-3);
            assert_eq!(part(token, 0), part(token + 20, 0), "each sequence counts from its own start");
            assert_eq!(part(token, 2), &row[16..], "values stay");
        }
        assert!((dot(part(0, 0), part(1, 1)) - dot(part(0, 0), part(9, 1))).abs() > 1.0);
    }
}
