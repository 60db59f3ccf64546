//! Which rows are truly the nearest?
//!
//! A plain scan in f32 that shares no code with the index, so that it can judge it. Of equal scores the smaller row number
//! comes first.

use quiverdb::Metric;
use rayon::prelude::*;

use super::arrays::Rows;

/// The nearest that recall counts.
pub(super) const K: usize = 10;

/// Queries that go through the rows together, because one row in the cache serves them all.
const GROUP: usize = 16;
const LANES: usize = 16;

/// The [`K`] nearest rows of each query, best first, of those that are `allowed`; fewer where there are fewer.
///
/// Cost: 100,000 rows of 384 numbers and 1,000 queries take some 5 s on two cores.
pub(super) fn nearest(
    metric: Metric,
    base: &Rows<f32>,
    queries: &Rows<f32>,
    allowed: impl Fn(usize) -> bool + Sync,
) -> Vec<Vec<u32>> {
    let scales: Vec<f32> = base.iter().map(|row| scale(metric, row)).collect();
    let numbers: Vec<usize> = (0..queries.count()).collect();
    let of_group = |group: &[usize]| {
        let mut best: Vec<Best> = group.iter().map(|_| Best::default()).collect();
        for (number, row) in base.iter().enumerate().filter(|(number, _)| allowed(*number)) {
            for (query, best) in group.iter().zip(&mut best) {
                best.offer(number as u32, score(metric, queries.row(*query), row) * scales[number]);
            }
        }
        best.into_iter().map(|best| best.0.into_iter().map(|(number, _)| number).collect()).collect::<Vec<_>>()
    };
    numbers.par_chunks(GROUP).flat_map_iter(of_group).collect()
}

/// The share of the true nearest that were found, over all queries; 1 where there are none to find.
pub(super) fn recall(truth: &[Vec<u32>], found: &[Vec<u32>]) -> f64 {
    let wanted: usize = truth.iter().map(Vec::len).sum();
    let hit = |(truth, found): (&Vec<u32>, &Vec<u32>)| found.iter().filter(|row| truth.contains(row)).count();
    let hits: usize = truth.iter().zip(found).map(hit).sum();
    if wanted == 0 { 1.0 } else { hits as f64 / wanted as f64 }
}

/// The best rows so far and their scores, best first.
#[derive(Default)]
struct Best(Vec<(u32, f32)>);

impl Best {
    fn offer(&mut self, row: u32, score: f32) {
        if self.0.len() < K || self.0.last().is_some_and(|(_, worst)| score > *worst) {
            self.0.truncate(K - 1);
            let place = self.0.partition_point(|(_, other)| *other >= score);
            self.0.insert(place, (row, score));
        }
    }
}

/// What a row's score is multiplied with: the cosine does not count its length. That of the query changes no order.
fn scale(metric: Metric, row: &[f32]) -> f32 {
    match metric {
        Metric::Cosine => dot(row, row).sqrt().recip(),
        Metric::Dot | Metric::L2 => 1.0,
    }
}

fn score(metric: Metric, query: &[f32], row: &[f32]) -> f32 {
    match metric {
        Metric::Cosine | Metric::Dot => dot(query, row),
        Metric::L2 => -sum(query, row, |a, b| (a - b) * (a - b)),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| a * b)
}

/// In lanes, which the compiler turns into wide instructions.
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(dims: usize, values: &[f32]) -> Rows<f32> {
        Rows::new(dims, values.to_vec())
    }

    #[test]
    fn each_metric_has_its_nearest() {
        let base = rows(2, &[1.0, 0.1, 9.0, 9.0, 0.0, 1.0]);
        let query = rows(2, &[1.0, 0.0]);
        for (metric, order) in [(Metric::Cosine, [0, 1, 2]), (Metric::Dot, [1, 0, 2]), (Metric::L2, [0, 2, 1])] {
            assert_eq!(nearest(metric, &base, &query, |_| true), [order.to_vec()], "{metric:?}");
        }
        assert_eq!(nearest(Metric::Dot, &base, &query, |row| row != 1), [[0, 2]]);
    }

    #[test]
    fn the_scan_agrees_with_sorting_all() {
        let mut sampler = crate::cli::sample::Sampler::new(7);
        let mut drawn =
            |count: usize| -> Vec<f32> { (0..count).map(|_| sampler.below(1_000) as f32 - 500.0).collect() };
        let (base, queries) = (rows(37, &drawn(37 * 300)), rows(37, &drawn(37 * 40)));
        let truth = nearest(Metric::Dot, &base, &queries, |_| true);
        for (query, found) in queries.iter().zip(&truth) {
            let score = |row: &u32| -> f32 { base.row(*row as usize).iter().zip(query).map(|(a, b)| a * b).sum() };
            let mut all: Vec<u32> = (0..300).collect();
            all.sort_by(|a, b| score(b).total_cmp(&score(a)));
            assert_eq!(found[..], all[..K]);
        }
    }

    #[test]
    fn equal_scores_stand_in_order_of_rows() {
        let base = rows(1, &[2.0; 30]);
        assert_eq!(nearest(Metric::Dot, &base, &rows(1, &[1.0]), |_| true), [(0..10).collect::<Vec<u32>>()]);
    }

    #[test]
    fn recall_counts_what_was_found() {
        assert_eq!(recall(&[vec![1, 2], vec![3, 4]], &[vec![2, 9], vec![4, 3]]), 0.75);
        assert_eq!(recall(&[Vec::new()], &[Vec::new()]), 1.0);
    }
}
