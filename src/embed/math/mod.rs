//! What is computed between token ids and vectors, on a CPU: products, attention, norms.
//!
//! Knows rows of numbers, and nothing of models or files.

#![cfg_attr(not(feature = "candle"), allow(dead_code, reason = "an engine of its own needs only some of it"))]

pub(crate) mod attention;
pub(crate) mod bias;
pub(crate) mod matrix;
pub(crate) mod ops;
pub(crate) mod rotary;

#[cfg(test)]
mod testing {
    /// Numbers of -0.5 to 0.5 that look random and are the same everywhere.
    pub(super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count).map(|_| next()).collect()
    }
}
