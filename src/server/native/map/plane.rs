//! Along which two directions do these vectors differ most? Their first two principal components.
//!
//! Found by power iteration on the covariance, which is never written down: a round is one pass over the vectors. The second
//! direction is sought at a right angle to the first. Two directions of nearly the same variance come out in a turned
//! position; for a map that is as good.
//!
//! Invariants: the same vectors give the same places, signs included; nothing here depends on chance.

/// Rounds for a direction. The share of the next best direction shrinks with the square of the ratio of both variances in
/// each round, so that what is not told apart after these is as good as equal.
const ROUNDS_MAX: usize = 64;
/// Change of a direction, by the sine of its angle, at which it is taken as found.
const CHANGE_MAX: f64 = 1e-6;

/// Vectors in two dimensions.
pub(super) struct Projected {
    /// In their order.
    pub(super) places: Vec<[f64; 2]>,
    /// The share of the variance that each direction holds, in 0..1; 0 where there is none.
    pub(super) explained: [f64; 2],
}

/// Projects vectors of `dims` dimensions, one after the other, which are centred on the way.
///
/// Cost: up to 2 x 64 passes over the vectors.
pub(super) fn project(vectors: &mut [f32], dims: usize) -> Projected {
    if dims == 0 || vectors.is_empty() {
        return Projected { places: Vec::new(), explained: [0.0; 2] };
    }
    centre(vectors, dims);
    let total = vectors.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    let first = direction(vectors, dims, None);
    let second = direction(vectors, dims, Some(&first));
    let places: Vec<[f64; 2]> = vectors.chunks_exact(dims).map(|row| [dot(row, &first), dot(row, &second)]).collect();
    let share = |axis: usize| {
        let held = places.iter().map(|place| place[axis].powi(2)).sum::<f64>();
        // Rounding may lift it above all there is.
        if total > 0.0 { (held / total).min(1.0) } else { 0.0 }
    };
    let explained = [share(0), share(1)];
    Projected { places, explained }
}

fn centre(vectors: &mut [f32], dims: usize) {
    let rows = (vectors.len() / dims) as f64;
    let mut mean = vec![0.0; dims];
    for row in vectors.chunks_exact(dims) {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / rows);
    }
    for row in vectors.chunks_exact_mut(dims) {
        row.iter_mut().zip(&mean).for_each(|(value, mean)| *value = (f64::from(*value) - mean) as f32);
    }
}

/// The direction of unit length along which the rows differ most, at a right angle to another one; zero where they do not
/// differ.
fn direction(rows: &[f32], dims: usize, other: Option<&[f64]>) -> Vec<f64> {
    let mut found: Vec<f64> = (1..=dims as u64).map(spread).collect();
    normalize(&mut found, other);
    for _ in 0..ROUNDS_MAX {
        let mut next = vec![0.0; dims];
        for row in rows.chunks_exact(dims) {
            let along = dot(row, &found);
            next.iter_mut().zip(row).for_each(|(next, value)| *next += along * f64::from(*value));
        }
        normalize(&mut next, other);
        let cosine: f64 = next.iter().zip(&found).map(|(next, found)| next * found).sum();
        found = next;
        if 1.0 - cosine * cosine < CHANGE_MAX * CHANGE_MAX {
            break;
        }
    }
    // Of the two directions of a line the one whose largest part is positive.
    let largest = found.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default();
    if largest < 0.0 {
        found.iter_mut().for_each(|part| *part = -*part);
    }
    found
}

/// Numbers in -0.5..0.5 without order, to begin with: those of the golden ratio (Weyl's sequence) lie at a right angle to no
/// direction that vectors have.
fn spread(place: u64) -> f64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = place.wrapping_mul(GOLDEN);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(GOLDEN);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
}

/// Takes away what points along `other`, and makes the rest of unit length; zero stays zero.
fn normalize(vector: &mut [f64], other: Option<&[f64]>) {
    if let Some(other) = other {
        let along: f64 = vector.iter().zip(other).map(|(part, other)| part * other).sum();
        vector.iter_mut().zip(other).for_each(|(part, other)| *part -= along * other);
    }
    let length = vector.iter().map(|part| part * part).sum::<f64>().sqrt();
    // What is left of rounding is no direction.
    let scale = if length > f64::MIN_POSITIVE { 1.0 / length } else { 0.0 };
    vector.iter_mut().for_each(|part| *part *= scale);
}

fn dot(row: &[f32], direction: &[f64]) -> f64 {
    row.iter().zip(direction).map(|(value, part)| f64::from(*value) * part).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DIMS: usize = 64;

    /// Two directions at a right angle that no axis has.
    fn axes() -> [Vec<f64>; 2] {
        let mut first: Vec<f64> = (0..DIMS).map(|at| (at as f64 * 0.7).sin()).collect();
        normalize(&mut first, None);
        let mut second: Vec<f64> = (0..DIMS).map(|at| (at as f64 * 1.9 + 1.0).cos()).collect();
        normalize(&mut second, Some(&first));
        [first, second]
    }

    /// Points of a plane that lies somewhere in 64 dimensions, far from the origin.
    fn lifted(points: &[[f64; 2]]) -> Vec<f32> {
        let [first, second] = axes();
        let lift = |[x, y]: &[f64; 2]| -> Vec<f32> {
            (0..DIMS).map(|at| (3.0 + x * first[at] + y * second[at]) as f32).collect()
        };
        points.iter().flat_map(lift).collect()
    }

    fn ring() -> Vec<[f64; 2]> {
        (0..100).map(|at| f64::from(at) * 0.0628).map(|turn| [5.0 * turn.cos(), 2.0 * turn.sin()]).collect()
    }

    #[test]
    fn points_of_a_plane_keep_their_distances() {
        let points = ring();
        let Projected { places, explained } = project(&mut lifted(&points), DIMS);
        let distance = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        for (a, b) in [(0, 50), (3, 17), (25, 75), (99, 42)] {
            let (was, is) = (distance(points[a], points[b]), distance(places[a], places[b]));
            assert!((was - is).abs() < 1e-4, "{a} and {b} were {was} apart, and are {is}");
        }
        // 25 to 4 are the variances along the axes of this ellipse.
        assert!((explained[0] - 25.0 / 29.0).abs() < 1e-3, "{explained:?}");
        assert!((explained[0] + explained[1] - 1.0).abs() < 1e-6, "{explained:?}");
    }

    #[test]
    fn the_first_direction_is_that_of_the_largest_variance() {
        let Projected { places, .. } = project(&mut lifted(&ring()), DIMS);
        let [widest, narrow] = [0, 1].map(|axis| places.iter().map(|place| place[axis].abs()).fold(0.0, f64::max));
        assert!((widest - 5.0).abs() < 0.01 && (narrow - 2.0).abs() < 0.01, "{widest} and {narrow}");
    }

    #[test]
    fn what_does_not_differ_is_one_point() {
        let Projected { places, explained } = project(&mut [0.5; 3 * DIMS], DIMS);
        assert_eq!((places, explained), (vec![[0.0; 2]; 3], [0.0; 2]));
        assert!(project(&mut [], DIMS).places.is_empty());
    }

    #[test]
    fn points_of_a_line_have_no_second_direction() {
        let line: Vec<[f64; 2]> = (0..20).map(|at| [f64::from(at), 0.0]).collect();
        let Projected { places, explained } = project(&mut lifted(&line), DIMS);
        assert!(explained[0] > 0.999_999 && explained[1] < 1e-6, "{explained:?}");
        assert!(places.iter().all(|place| place[1].abs() < 1e-4), "{places:?}");
    }
}
