//! How much does a model do, and how long do its callers wait?
//!
//! Counters of all calls since the database was opened, which outlive the model when it is dropped and loaded again; and
//! the times of the last [`CALLS_KEPT`] calls of each kind in a ring, so that memory is bounded and a percentile tells of
//! now and not of last week. Knows nothing of texts: it is told what a call is.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Result;

/// Calls of each kind whose times are kept; percentiles are over these, by nearest rank.
pub const CALLS_KEPT: usize = 1024;

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Queries to embed, or passages to judge: somebody waits for the answer.
    Queries,
    /// Passages to embed, and pictures of either side.
    Documents,
}

/// What a model has done since the database was opened. Warming up does not count.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Usage {
    /// Calls, those that failed among them.
    pub requests: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Texts and pictures of all calls; of a reranker passages.
    pub texts: u64,
    /// Runs of the model: fewer than calls where texts of several callers were run together, more where a long call was cut
    /// into pieces.
    pub runs: u64,
    /// Tokens that it read, special ones counted, where it counts them: those on servers do not. Databases of one process
    /// share the built-in model and its count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Seconds in which at least one call was under way.
    pub busy_s: f64,
    /// Tokens for each of these seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// How long callers waited who embedded queries or had passages judged.
    pub queries: Latency,
    /// How long callers waited who embedded passages or pictures.
    pub documents: Latency,
}

/// How long calls took, as their callers saw it: over the last [`CALLS_KEPT`] calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Latency {
    /// All calls, also those that are no longer in the ring.
    pub calls: u64,
    /// Milliseconds that half of the calls did not exceed; 0 where there were none.
    pub p50_ms: f64,
    /// Milliseconds that 95 of 100 calls did not exceed; 0 where there were none.
    pub p95_ms: f64,
}

/// The counters of one model.
#[derive(Default)]
pub(crate) struct Meter(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    failures: u64,
    texts: u64,
    runs: u64,
    tokens: Option<u64>,
    /// What to add to the count of the copy in memory: the copies that were dropped, less what does not count of this one.
    tokens_offset: i64,
    under_way: usize,
    since: Option<Instant>,
    busy: Duration,
    queries: Ring,
    documents: Ring,
    last_error: Option<String>,
}

/// The times of the last calls, in microseconds.
#[derive(Default)]
struct Ring {
    calls: u64,
    last: VecDeque<u32>,
}

impl Ring {
    fn add(&mut self, time: Duration) {
        if self.last.len() == CALLS_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        self.calls += 1;
    }

    fn latency(&self) -> Latency {
        let mut sorted: Vec<u32> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            sorted.get(rank).map_or(0.0, |micros| f64::from(*micros) / 1e3)
        };
        Latency { calls: self.calls, p50_ms: percentile(50), p95_ms: percentile(95) }
    }
}

impl Meter {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call of so many texts, and the time that it takes; one that panics as one that failed.
    pub(crate) fn call<T>(&self, kind: Kind, texts: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut under_way = UnderWay::of(self, kind, texts);
        let result = work();
        under_way.error = result.as_ref().err().map(ToString::to_string);
        under_way.ended = true;
        result
    }

    /// The model ran once.
    pub(crate) fn ran(&self) {
        self.counts().runs += 1;
    }

    /// All tokens that the copy in memory has read so far.
    pub(crate) fn read(&self, tokens: Option<u64>) {
        let Some(tokens) = tokens else { return };
        let mut counts = self.counts();
        // Calls end in another order than they began.
        counts.tokens = counts.tokens.max(Some(tokens.saturating_add_signed(counts.tokens_offset)));
    }

    /// From now on tokens are counted by another copy, from `read` on, which do not count.
    pub(crate) fn begin_copy(&self, read: Option<u64>) {
        let mut counts = self.counts();
        counts.tokens_offset = counts.tokens.unwrap_or(0).cast_signed() - read.unwrap_or(0).cast_signed();
    }

    /// Why the last call failed that did.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.counts().last_error.clone()
    }

    /// What was counted.
    pub(crate) fn usage(&self) -> Usage {
        let counts = self.counts();
        let busy = counts.busy + counts.since.map_or(Duration::ZERO, |since| since.elapsed());
        let busy_s = busy.as_secs_f64();
        Usage {
            requests: counts.queries.calls + counts.documents.calls,
            failures: counts.failures,
            texts: counts.texts,
            runs: counts.runs,
            tokens: counts.tokens,
            busy_s,
            tokens_per_s: counts.tokens.filter(|_| busy_s > 0.0).map(|tokens| tokens as f64 / busy_s),
            queries: counts.queries.latency(),
            documents: counts.documents.latency(),
        }
    }
}

/// A call between its beginning and its end.
struct UnderWay<'a> {
    meter: &'a Meter,
    kind: Kind,
    texts: usize,
    begun: Instant,
    ended: bool,
    error: Option<String>,
}

impl<'a> UnderWay<'a> {
    fn of(meter: &'a Meter, kind: Kind, texts: usize) -> Self {
        let begun = Instant::now();
        let mut counts = meter.counts();
        counts.under_way += 1;
        counts.since.get_or_insert(begun);
        drop(counts);
        Self { meter, kind, texts, begun, ended: false, error: None }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut counts = self.meter.counts();
        let ring = match self.kind {
            Kind::Queries => &mut counts.queries,
            Kind::Documents => &mut counts.documents,
        };
        ring.add(self.begun.elapsed());
        counts.texts += self.texts as u64;
        let error = if self.ended { self.error.take() } else { Some("it panicked".to_owned()) };
        if error.is_some() {
            counts.failures += 1;
            counts.last_error = error;
        }
        counts.under_way -= 1;
        if counts.under_way == 0
            && let Some(since) = counts.since.take()
        {
            counts.busy += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Error;

    #[test]
    fn calls_texts_failures_and_tokens_are_counted() {
        let meter = Meter::default();
        meter.call(Kind::Queries, 2, || Ok(())).unwrap();
        meter.call(Kind::Documents, 30, || Ok(())).unwrap();
        meter.call(Kind::Queries, 1, || Err::<(), _>(Error::invalid("no such thing"))).unwrap_err();
        meter.read(Some(70));
        meter.read(Some(50));
        let usage = meter.usage();
        assert_eq!((usage.requests, usage.texts, usage.failures, usage.tokens), (3, 33, 1, Some(70)));
        assert_eq!((usage.queries.calls, usage.documents.calls), (2, 1));
        assert_eq!(meter.last_error().as_deref(), Some("no such thing"));
        assert!(usage.busy_s > 0.0 && usage.tokens_per_s.unwrap() * usage.busy_s > 69.0, "{usage:?}");
    }

    #[test]
    fn tokens_go_on_where_the_model_is_loaded_again_and_a_warm_up_counts_for_none() {
        let meter = Meter::default();
        meter.begin_copy(None);
        meter.read(Some(10));
        meter.begin_copy(Some(1000));
        meter.read(Some(1004));
        assert_eq!(meter.usage().tokens, Some(14));
    }

    #[test]
    fn time_is_counted_once_however_many_call_at_once() {
        let meter = Meter::default();
        let begun = Instant::now();
        let outer = meter.call(Kind::Queries, 1, || {
            meter.call(Kind::Queries, 1, || {
                while begun.elapsed() < Duration::from_millis(2) {
                    std::hint::spin_loop();
                }
                Ok(())
            })
        });
        outer.unwrap();
        let (busy, passed) = (meter.usage().busy_s, begun.elapsed().as_secs_f64());
        assert!((0.002..=passed).contains(&busy), "{busy} of {passed}");
    }

    #[test]
    fn percentiles_are_of_the_last_calls_by_nearest_rank() {
        let mut ring = Ring::default();
        assert_eq!(ring.latency(), Latency::default());
        for _ in 0..5000 {
            ring.add(Duration::from_secs(9));
        }
        for ms in 1..=CALLS_KEPT {
            ring.add(Duration::from_millis(ms as u64));
        }
        let Latency { calls, p50_ms, p95_ms } = ring.latency();
        assert_eq!((calls, ring.last.len()), (5000 + CALLS_KEPT as u64, CALLS_KEPT));
        assert_eq!((p50_ms, p95_ms), (512.0, 973.0));
    }

    #[test]
    fn panic_in_a_call_leaves_the_counters_right() {
        let meter = Meter::default();
        let call = || meter.call(Kind::Documents, 1, || -> Result<()> { panic!("no") });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
        assert_eq!((meter.usage().failures, meter.counts().under_way), (1, 0));
        assert_eq!(meter.last_error().as_deref(), Some("it panicked"));
    }
}
