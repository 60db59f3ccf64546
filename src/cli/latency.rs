//! How long do calls take, one at a time?

use std::time::Instant;

/// Milliseconds of single calls.
#[derive(Default)]
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    /// Makes a call and notes how long it took, whatever came of it.
    pub(crate) fn measure<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = call();
        self.0.push(start.elapsed().as_secs_f64() * 1e3);
        result
    }

    /// Takes in those of another caller.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn total_ms(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The milliseconds that this share of the calls did not exceed, by nearest rank; 0 where there were none.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        quiverdb::eval::percentile(&self.0, percent as f64).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let latencies = Latencies((1..=100).rev().map(f64::from).collect());
        assert_eq!([50, 95, 100].map(|percent| latencies.percentile(percent)), [50.0, 95.0, 100.0]);
        assert_eq!(Latencies(vec![3.0]).percentile(95), 3.0);
        assert_eq!(Latencies::default().percentile(50), 0.0);
    }

    #[test]
    fn every_call_is_measured() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.measure(|| 7), 7);
        assert_eq!(latencies.count(), 1);
    }
}
