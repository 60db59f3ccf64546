//! How is a layer of BERT's shape built: plain attention, then two linear layers, all with biases, and a norm after each
//! residual?
//!
//! What descends from BERT differs in the names of its tensors, and in what is added to scores.

use std::sync::Arc;

use super::encoder::{FeedForward, Layer, Norms, SelfAttention};
use super::weights::{Dense, Weights};
use crate::Result;
use crate::embed::math::attention::{Heads, Reach};
use crate::embed::math::bias::Bias;
use crate::embed::math::ops::Activation;

/// What a layer's tensors are called, after the layer's own name.
pub(super) struct Names {
    /// Queries, keys and values.
    pub(super) projections: [&'static str; 3],
    pub(super) mix: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) norm: &'static str,
}

impl Names {
    /// BERT's.
    pub(super) const BERT: Self = Self {
        projections: ["attention.self.query", "attention.self.key", "attention.self.value"],
        mix: "attention.output.dense",
        attention_norm: "attention.output.LayerNorm",
        up: "intermediate.dense",
        down: "output.dense",
        norm: "output.LayerNorm",
    };
}

/// What the layers of a model have in common.
pub(super) struct PostNorm<'a> {
    pub(super) weights: &'a Weights,
    pub(super) names: Names,
    pub(super) heads: Heads,
    /// What scores are divided by; the square root of a head's size in most.
    pub(super) divisor: f32,
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) epsilon: f32,
    pub(super) activation: Activation,
}

impl PostNorm<'_> {
    /// The layer called `name`.
    pub(super) fn layer(&self, name: &str, bias: &Arc<Bias>) -> Result<Layer> {
        let (attention, attention_norms) = self.attention(name, bias)?;
        let (hidden, inner, names) = (self.hidden, self.inner, &self.names);
        let feed_forward = FeedForward {
            up: self.dense(name, names.up, inner, hidden)?.pack(),
            activation: self.activation,
            gated: false,
            down: self.dense(name, names.down, hidden, inner)?.pack(),
        };
        let feed_forward_norms = self.norm(name, names.norm)?;
        Ok(Layer { attention, attention_norms, feed_forward, feed_forward_norms })
    }

    /// Its first half.
    pub(super) fn attention(&self, name: &str, bias: &Arc<Bias>) -> Result<(SelfAttention, Norms)> {
        let (hidden, names) = (self.hidden, &self.names);
        let [queries, keys, values] = names.projections.map(|part| self.dense(name, part, hidden, hidden));
        let attention = SelfAttention {
            heads: self.heads,
            project: together(queries?, keys?, values?, self.heads, self.divisor).pack(),
            head_norms: None,
            rotary: None,
            reach: Reach::ALL,
            bias: Arc::clone(bias),
            mix: self.dense(name, names.mix, hidden, hidden)?.pack(),
        };
        Ok((attention, self.norm(name, names.attention_norm)?))
    }

    fn dense(&self, name: &str, part: &str, outputs: usize, inputs: usize) -> Result<Dense> {
        self.weights.dense(&format!("{name}.{part}"), outputs, inputs, true)
    }

    /// The norm after a residual.
    pub(super) fn norm(&self, name: &str, part: &str) -> Result<Norms> {
        self.weights.norm(&format!("{name}.{part}"), self.hidden, self.epsilon, true).map(Norms::after)
    }
}

/// Queries, keys and values as one layer. Dividing the queries once, here, spares dividing every score.
pub(super) fn together(queries: Dense, keys: Dense, values: Dense, heads: Heads, divisor: f32) -> Dense {
    queries.scale(0..heads.queries * heads.size, 1.0 / divisor).join(keys).join(values)
}
