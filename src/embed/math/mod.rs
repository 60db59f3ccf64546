//! What is computed between token ids and vectors, on a CPU: products, attention, norms.
//!
//! Knows rows of numbers, and nothing of models or files.

#![cfg_attr(not(feature = "candle"), allow(dead_code, reason = "an engine of its own needs only some of it"))]

pub(crate) mod attention;
pub(crate) mod bias;
pub(crate) mod matrix;
pub(crate) mod ops;
pub(crate) mod rotary;
