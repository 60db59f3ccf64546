//! Which nodes were visited, or may answer? A set that is emptied in the time it took to fill.
//!
//! Invariant: it grows to the number of nodes once, so a warm search allocates nothing.

/// A set of node numbers below a limit.
#[derive(Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    /// Words that are not zero, and perhaps some that are again.
    used: Vec<u32>,
}

impl Bits {
    /// Forgets all; from now on it holds numbers below `limit`.
    pub(super) fn reset(&mut self, limit: usize) {
        for word in self.used.drain(..) {
            self.words[word as usize] = 0;
        }
        let words = limit.div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// Adds a number; true where it was absent.
    #[inline]
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let place = number / 64;
        let word = &mut self.words[place as usize];
        let bit = 1 << (number % 64);
        if *word == 0 {
            self.used.push(place);
        }
        let absent = *word & bit == 0;
        *word |= bit;
        absent
    }

    /// Takes a number out; true where it was there.
    #[inline]
    pub(super) fn remove(&mut self, number: u32) -> bool {
        let word = &mut self.words[number as usize / 64];
        let bit = 1 << (number % 64);
        let there = *word & bit != 0;
        *word &= !bit;
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_since_it_was_emptied() {
        let mut bits = Bits::default();
        for limit in [1, 65, 300] {
            bits.reset(limit);
            assert!((0..limit as u32).all(|number| bits.insert(number)));
            assert!((0..limit as u32).all(|number| !bits.insert(number)));
            assert!(bits.remove(0) && !bits.remove(0) && bits.insert(0));
        }
        bits.reset(300);
        assert!((0..300).all(|number| !bits.remove(number)));
    }
}
