//! Which are the best `k`, and in which order?
//!
//! Invariant: the answer depends on the scores and on document ids alone, never on the order in which chunks were found
//! or stored: among those that share the score at the cut, the lowest document ids win, then the lowest ordinals.

use crate::ChunkNumber;

/// Keeps the best of what it is offered, and all that tie with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Best {
    wanted: usize,
    /// What is below this cannot be among the best.
    floor: f32,
    found: Vec<(u32, f32)>,
    prune_at: usize,
}

impl Best {
    pub(crate) fn new(wanted: usize) -> Self {
        let floor = if wanted == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Self { wanted, floor, found: Vec::new(), prune_at: Self::slack(wanted) }
    }

    fn slack(kept: usize) -> usize {
        kept.saturating_mul(2).saturating_add(64)
    }

    /// Scores below this need not be offered. It rises.
    pub(crate) fn floor(&self) -> f32 {
        self.floor
    }

    /// Takes a chunk into account. Scores are finite.
    pub(crate) fn offer(&mut self, chunk: u32, score: f32) {
        if score < self.floor {
            return;
        }
        self.found.push((chunk, score));
        if self.found.len() >= self.prune_at {
            self.prune();
            // After many ties as much as was kept comes on top before the next pruning, so that its cost stays linear.
            self.prune_at = Self::slack(self.found.len());
        }
    }

    /// The best of both.
    pub(crate) fn join(mut self, other: Self) -> Self {
        for (chunk, score) in other.found {
            self.offer(chunk, score);
        }
        self
    }

    fn prune(&mut self) {
        let Some(last) = self.wanted.checked_sub(1) else { return self.found.clear() };
        if self.found.len() > self.wanted {
            let (_, &mut (_, score), _) =
                self.found.select_nth_unstable_by(last, |one, other| other.1.total_cmp(&one.1));
            self.floor = score;
            self.found.retain(|&(_, found)| found >= score);
        }
    }

    /// The best in no order, with all that tie with the last of them.
    pub(crate) fn into_found(mut self) -> Vec<(u32, f32)> {
        self.prune();
        self.found
    }

    /// The best, best first. `id_key` gives the bytes that order documents; chunk numbers order those of one document.
    pub(crate) fn finish(mut self, mut id_key: impl FnMut(u32) -> Vec<u8>) -> Vec<(ChunkNumber, f32)> {
        self.prune();
        let mut found = self.found;
        found.sort_unstable_by(|one, other| other.1.total_cmp(&one.1));
        for equal in found.chunk_by_mut(|one, other| one.1 == other.1) {
            if equal.len() > 1 {
                equal.sort_by_cached_key(|&(chunk, _)| (id_key(chunk), chunk));
            }
        }
        found.truncate(self.wanted);
        found.into_iter().map(|(chunk, score)| (ChunkNumber(chunk), score)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn key(chunk: u32) -> Vec<u8> {
        // Ids run against the chunk numbers.
        vec![9 - (chunk % 10) as u8]
    }

    #[test]
    fn the_best_are_those_of_a_full_sort_whatever_the_order() {
        let mut random = Random::new(3);
        for round in 0..200 {
            let count = random.below(600) as u32;
            let levels = 1 + random.below(40);
            let mut items: Vec<(u32, f32)> = (0..count).map(|chunk| (chunk, random.below(levels) as f32)).collect();
            let wanted = random.below(50) as usize;
            let mut expected = items.clone();
            expected.sort_by(|one, other| {
                other.1.total_cmp(&one.1).then(key(one.0).cmp(&key(other.0))).then(one.0.cmp(&other.0))
            });
            expected.truncate(wanted);
            for _ in 0..2 {
                random.shuffle(&mut items);
                let half = items.len() / 2;
                let mut bests = [Best::new(wanted), Best::new(wanted)];
                for (index, &(chunk, score)) in items.iter().enumerate() {
                    bests[usize::from(index < half)].offer(chunk, score);
                }
                let [one, other] = bests;
                let found: Vec<(u32, f32)> =
                    one.join(other).finish(key).into_iter().map(|(chunk, score)| (chunk.0, score)).collect();
                assert_eq!(found, expected, "round {round}, {wanted} of {count}, {levels} levels");
            }
        }
    }
}
