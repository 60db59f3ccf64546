//! How does what is in memory grow with every commit, without being copied at every commit?
//!
//! Each commit adds a run, which never changes. A run that is not twice as large as what comes after it is merged with
//! it, so there are at most some log2(n) runs and each item is copied some log2(n) times in its life. Views of different
//! commits share the runs they have in common.
//!
//! Invariants: the chunks of a run ascend, and each live chunk stands in one run; a run that is more than half dead is
//! made anew without its dead, so memory stays in proportion to what lives.

use std::sync::Arc;

use roaring::RoaringBitmap;

/// Something that covers chunks and can be merged.
pub(crate) trait Run: Sized {
    /// How many chunks it covers.
    fn len(&self) -> usize;
    /// The first and the last of them.
    fn range(&self) -> Option<(u32, u32)>;
    /// One run over the chunks of all, in their order, those left out that are dead.
    fn merge(runs: &[&Self], dead: &RoaringBitmap) -> Self;
}

/// The runs of one kind, in ascending order of chunk.
#[derive(Debug)]
pub(crate) struct Runs<R>(Vec<Held<R>>);

#[derive(Debug)]
struct Held<R> {
    run: Arc<R>,
    /// How many of its chunks died since it was made.
    dead: u64,
}

impl<R> Clone for Runs<R> {
    fn clone(&self) -> Self {
        Self(self.0.iter().map(|held| Held { run: Arc::clone(&held.run), dead: held.dead }).collect())
    }
}

impl<R> Default for Runs<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R: Run> Runs<R> {
    /// The runs, in ascending order of chunk.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &R> + Clone {
        self.0.iter().map(|held| held.run.as_ref())
    }

    /// The run whose range holds this chunk.
    pub(crate) fn covering(&self, chunk: u32) -> Option<&R> {
        self.iter().find(|run| run.range().is_some_and(|(first, last)| (first..=last).contains(&chunk)))
    }

    /// Notes which chunks have just died, and drops or remakes the runs that are mostly dead.
    pub(crate) fn bury(&mut self, removed: &RoaringBitmap, dead: &RoaringBitmap) {
        for held in &mut self.0 {
            let Some((first, last)) = held.run.range() else { continue };
            held.dead += removed.range_cardinality(first..=last);
            if held.dead * 2 > held.run.len() as u64 {
                *held = Held { run: Arc::new(R::merge(&[held.run.as_ref()], dead)), dead: 0 };
            }
        }
        self.0.retain(|held| held.run.len() > 0);
    }

    /// Adds a run whose chunks come after all others.
    pub(crate) fn push(&mut self, run: R, dead: &RoaringBitmap) {
        if run.len() == 0 {
            return;
        }
        let mut size = run.len();
        let mut start = self.0.len();
        while let Some(before) = start.checked_sub(1).filter(|&before| self.0[before].run.len() < 2 * size) {
            size += self.0[before].run.len();
            start = before;
        }
        if start == self.0.len() {
            self.0.push(Held { run: Arc::new(run), dead: 0 });
            return;
        }
        let merged: Vec<&R> = self.0[start..].iter().map(|held| held.run.as_ref()).chain([&run]).collect();
        let merged = R::merge(&merged, dead);
        self.0.truncate(start);
        if merged.len() > 0 {
            self.0.push(Held { run: Arc::new(merged), dead: 0 });
        }
    }

    /// Replaces each run that overlaps `first..end` by what `without` leaves of it.
    pub(crate) fn cut(&mut self, first: u32, end: u32, without: impl Fn(&R) -> R) {
        for held in &mut self.0 {
            if held.run.range().is_some_and(|(low, high)| low < end && high >= first) {
                *held = Held { run: Arc::new(without(&held.run)), dead: 0 };
            }
        }
        self.0.retain(|held| held.run.len() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain(Vec<u32>);

    impl Run for Plain {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn range(&self) -> Option<(u32, u32)> {
            Some((*self.0.first()?, *self.0.last()?))
        }

        fn merge(runs: &[&Self], dead: &RoaringBitmap) -> Self {
            let all = runs.iter().flat_map(|run| run.0.iter().copied());
            Self(all.filter(|&chunk| !dead.contains(chunk)).collect())
        }
    }

    #[test]
    fn runs_stay_few_ordered_and_complete() {
        let mut runs = Runs::default();
        for chunk in 0..10_000 {
            runs.push(Plain(vec![chunk]), &RoaringBitmap::new());
            assert!(runs.0.len() <= 15, "{} runs after {chunk}", runs.0.len());
        }
        let all: Vec<u32> = runs.iter().flat_map(|run| run.0.clone()).collect();
        assert!(all.into_iter().eq(0..10_000));
        assert!(runs.covering(9_999).is_some() && runs.covering(10_000).is_none());
    }

    #[test]
    fn the_dead_do_not_stay_in_memory() {
        let mut runs = Runs::default();
        let mut dead = RoaringBitmap::new();
        for chunk in 0..5_000 {
            runs.push(Plain(vec![chunk]), &dead);
            if let Some(old) = chunk.checked_sub(10) {
                dead.insert(old);
                runs.bury(&RoaringBitmap::from([old]), &dead);
            }
            let held: usize = runs.iter().map(Plain::len).sum();
            assert!(held <= 40, "{held} in memory for 10 alive");
        }
        let live: Vec<u32> = runs.iter().flat_map(|run| run.0.clone()).filter(|&chunk| !dead.contains(chunk)).collect();
        assert!(live.into_iter().eq(4_990..5_000));
    }

    #[test]
    fn cutting_leaves_the_rest() {
        let mut runs = Runs::default();
        runs.push(Plain((0..100).collect()), &RoaringBitmap::new());
        runs.push(Plain((100..120).collect()), &RoaringBitmap::new());
        runs.cut(0, 105, |run| Plain(run.0.iter().copied().filter(|&chunk| chunk >= 105).collect()));
        let left: Vec<u32> = runs.iter().flat_map(|run| run.0.clone()).collect();
        assert!(left.into_iter().eq(105..120));
    }
}
