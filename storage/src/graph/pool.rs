//! Which of the nodes seen so far are nearest, and which of them is to be expanded next?
//!
//! One sorted list is both heaps of the HNSW paper: what falls out of it would never have been expanded.
//!
//! Invariants: it never holds more than it was made for; equal scores keep the order of their numbers, so that a walk has
//! one outcome; a score that is not a number is not taken.

/// A node that was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) score: f32,
    pub(super) node: u32,
    open: bool,
}

/// The best of the nodes seen.
#[derive(Debug, Default)]
pub(super) struct Pool {
    seen: Vec<Seen>,
    wanted: usize,
    /// All before this place are expanded.
    next: usize,
    /// The best score of all that it did not keep.
    lost: f32,
}

impl Pool {
    /// Forgets all; from now on the best `wanted` are kept.
    pub(super) fn reset(&mut self, wanted: usize) {
        self.seen.clear();
        self.seen.reserve(wanted);
        self.wanted = wanted;
        self.next = 0;
        self.lost = f32::NEG_INFINITY;
    }

    /// Takes a node into account that was not offered before.
    #[inline]
    pub(super) fn offer(&mut self, score: f32, node: u32) {
        let after = |other: &Seen| other.score > score || (other.score == score && other.node < node);
        if self.seen.len() >= self.wanted {
            match self.seen.last() {
                Some(last) if !after(last) && !score.is_nan() => {
                    self.lost = self.lost.max(last.score);
                    self.seen.pop();
                }
                Some(_) | None => {
                    self.lost = self.lost.max(score);
                    return;
                }
            }
        } else if score.is_nan() {
            return;
        }
        let place = self.seen.partition_point(after);
        self.seen.insert(place, Seen { score, node, open: true });
        self.next = self.next.min(place);
    }

    /// The best node that was not expanded yet; from now on it is.
    #[inline]
    pub(super) fn expand(&mut self) -> Option<u32> {
        let ahead = self.seen[self.next..].iter().position(|seen| seen.open);
        self.next = ahead.map_or(self.seen.len(), |ahead| self.next + ahead);
        let seen = self.seen.get_mut(self.next)?;
        seen.open = false;
        self.next += 1;
        Some(seen.node)
    }

    /// The node that [`Pool::expand`] would give now.
    #[inline]
    pub(super) fn upcoming(&self) -> Option<u32> {
        self.seen[self.next..].iter().find(|seen| seen.open).map(|seen| seen.node)
    }

    /// Whether most of what it keeps has the score of another: copies of one vector leave no room for a way out.
    pub(super) fn is_saturated(&self) -> bool {
        let copies = self.seen.windows(2).filter(|pair| pair[0].score == pair[1].score).count();
        copies * 2 > self.seen.len()
    }

    /// The score of the last that it keeps, where something that it does not keep has the same.
    pub(super) fn tie_at_end(&self) -> Option<f32> {
        self.seen.last().map(|last| last.score).filter(|&score| score == self.lost)
    }

    /// The best, best first.
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn a_pool_keeps_the_best_and_expands_each_once() {
        let mut random = Random::new(9);
        let mut pool = Pool::default();
        for wanted in [0, 1, 2, 7, 40] {
            pool.reset(wanted);
            let mut all: Vec<(u32, u32)> = (0..100).map(|node| (random.below(20) as u32, node)).collect();
            for &(score, node) in &all {
                pool.offer(score as f32, node);
                pool.offer(f32::NAN, node);
            }
            all.sort_by_key(|&(score, node)| (std::cmp::Reverse(score), node));
            let cut = all.get(wanted.wrapping_sub(1)).filter(|last| all[wanted].0 == last.0);
            assert_eq!(pool.tie_at_end(), cut.map(|&(score, _)| score as f32), "of {wanted}");
            all.truncate(wanted);
            let nodes: Vec<u32> = all.iter().map(|&(_, node)| node).collect();
            assert_eq!(pool.seen().iter().map(|seen| seen.node).collect::<Vec<_>>(), nodes);
            assert_eq!(std::iter::from_fn(|| pool.expand()).collect::<Vec<_>>(), nodes);
        }
    }
}
