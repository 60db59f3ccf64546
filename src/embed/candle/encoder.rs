//! From token ids to hidden states, without padding: what all architectures share.
//!
//! The tokens of several sequences lie one after the other in `[tokens, hidden]`; only attention and positions know where
//! one ends. An architecture is a way to fill these structs from `config.json` and tensors; it has no forward of its own.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::embeddings::Embeddings;
use crate::Result;
use crate::embed::math::attention::{self, Attention, Heads, Reach};
use crate::embed::math::bias::Bias;
use crate::embed::math::matrix::{Aligned, Linear};
use crate::embed::math::ops::{Activation, Norm, add};
use crate::embed::math::rotary::{Angles, Rotary};
use crate::embed::transformer::engine::{Engine, Output, Sequence, ranges};

/// A transformer that reads tokens.
pub(crate) struct Encoder {
    pub(crate) embeddings: Embeddings,
    stack: Stack,
}

/// Layers, whatever their states stand for.
pub(crate) struct Stack {
    /// Numbers in a state.
    hidden: usize,
    /// The rotations that layers choose from.
    rotaries: Vec<Rotary>,
    layers: Vec<Layer>,
    /// After the last layer.
    norm: Option<Norm>,
    /// Buffers of earlier runs, one for each thread that ever ran at the same time.
    scratches: Mutex<Vec<Scratch>>,
}

/// Attention, then a feed-forward network, each around a residual.
pub(crate) struct Layer {
    pub(crate) attention: SelfAttention,
    pub(crate) attention_norms: Norms,
    pub(crate) feed_forward: FeedForward,
    pub(crate) feed_forward_norms: Norms,
}

/// Where a block is normalised: `after(x + inside(block(before(x))))`.
#[derive(Default)]
pub(crate) struct Norms {
    pub(crate) before: Option<Norm>,
    pub(crate) inside: Option<Norm>,
    pub(crate) after: Option<Norm>,
}

impl Norms {
    /// As in BERT.
    pub(crate) fn after(norm: Norm) -> Self {
        Self { after: Some(norm), ..Self::default() }
    }

    /// As in most models since.
    pub(crate) fn before(norm: Norm) -> Self {
        Self { before: Some(norm), ..Self::default() }
    }
}

/// Attention with its projections.
pub(crate) struct SelfAttention {
    pub(crate) heads: Heads,
    /// Queries (scores' divisor included), keys, values.
    pub(crate) project: Linear,
    /// Norms of each query and each key.
    pub(crate) head_norms: Option<(Norm, Norm)>,
    /// Which of the encoder's rotations.
    pub(crate) rotary: Option<usize>,
    pub(crate) reach: Reach,
    pub(crate) bias: Arc<Bias>,
    pub(crate) mix: Linear,
}

/// Two linear layers and what is between them.
pub(crate) struct FeedForward {
    /// Twice as wide where gated: what is activated comes first.
    pub(crate) up: Linear,
    pub(crate) activation: Activation,
    pub(crate) gated: bool,
    pub(crate) down: Linear,
}

/// Buffers that are reused from one pack to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    packed: Aligned,
    input: Vec<f32>,
    wide: Vec<f32>,
    narrow: Vec<f32>,
    result: Vec<f32>,
    attention: attention::Scratch,
    angles: Vec<Angles>,
}

impl Encoder {
    /// Puts the parts together.
    pub(crate) fn new(embeddings: Embeddings, rotaries: Vec<Rotary>, layers: Vec<Layer>, norm: Option<Norm>) -> Self {
        let stack = Stack::new(embeddings.hidden(), rotaries, layers, norm);
        Self { embeddings, stack }
    }

    /// Numbers in a token's row.
    pub(crate) fn hidden(&self) -> usize {
        self.embeddings.hidden()
    }

    /// The hidden states of `pack`: `[tokens, hidden]`.
    ///
    /// # Errors
    /// [`crate::Error::Embedding`] for an id, a token type or a length that the model has no row for.
    pub(crate) fn forward(&self, pack: &[&Sequence]) -> Result<Vec<f32>> {
        let mut states = self.embeddings.apply(pack)?;
        self.stack.apply(&mut states, &ranges(pack));
        Ok(states)
    }
}

impl Stack {
    /// Puts the parts together.
    pub(crate) fn new(hidden: usize, rotaries: Vec<Rotary>, layers: Vec<Layer>, norm: Option<Norm>) -> Self {
        Self { hidden, rotaries, layers, norm, scratches: Mutex::default() }
    }

    /// Runs the states of sequences, `[tokens, hidden]`, through all layers, in place.
    pub(crate) fn apply(&self, states: &mut [f32], sequences: &[Range<usize>]) {
        let scratches = || self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = scratches().pop().unwrap_or_default();
        let longest = sequences.iter().map(Range::len).max().unwrap_or(0);
        scratch.angles.resize_with(self.rotaries.len(), Angles::default);
        for (angles, rotary) in scratch.angles.iter_mut().zip(&self.rotaries) {
            angles.reach(rotary, longest);
        }
        for layer in &self.layers {
            layer.apply(states, self.hidden, sequences, &mut scratch);
        }
        if let Some(norm) = &self.norm {
            norm.apply(states);
        }
        scratches().push(scratch);
    }
}

impl Engine for Encoder {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn vocabulary(&self) -> usize {
        self.embeddings.vocabulary()
    }

    fn output(&self) -> Output {
        Output::Tokens
    }

    fn width(&self) -> usize {
        self.hidden()
    }

    fn run(&self, pack: &[&Sequence]) -> Result<Vec<f32>> {
        self.forward(pack)
    }
}

impl Layer {
    fn apply(&self, states: &mut [f32], hidden: usize, sequences: &[Range<usize>], scratch: &mut Scratch) {
        let tokens = states.len() / hidden;
        self.attention_norms.around(states, scratch, |input, scratch| {
            self.attention.apply(input, tokens, sequences, scratch);
        });
        self.feed_forward_norms.around(states, scratch, |input, scratch| {
            self.feed_forward.apply(input, tokens, scratch);
        });
    }
}

impl Norms {
    /// Runs `block`, which leaves what it makes of its input in `scratch.result`, around a residual.
    fn around(&self, states: &mut [f32], scratch: &mut Scratch, block: impl FnOnce(&[f32], &mut Scratch)) {
        match &self.before {
            None => block(states, scratch),
            Some(norm) => {
                let mut input = std::mem::take(&mut scratch.input);
                input.clear();
                input.extend_from_slice(states);
                norm.apply(&mut input);
                block(&input, scratch);
                scratch.input = input;
            }
        }
        let result = &mut scratch.result[..states.len()];
        if let Some(norm) = &self.inside {
            norm.apply(result);
        }
        match &self.after {
            None => add(states, result),
            Some(norm) => norm.add_and_apply(states, result),
        }
    }
}

/// The first `length` numbers of a buffer, grown where it is too small; what they hold is unspecified.
fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

impl SelfAttention {
    fn apply(&self, input: &[f32], tokens: usize, sequences: &[Range<usize>], scratch: &mut Scratch) {
        let Scratch { packed, wide, narrow, result, attention, angles, .. } = scratch;
        let Heads { queries, keys, size } = self.heads;
        let (heads, stride) = (self.heads, self.heads.row());
        let qkv = room(wide, tokens * stride);
        self.project.apply(input, tokens, qkv, packed);
        if let Some((of_queries, of_keys)) = &self.head_norms {
            of_queries.apply_to_heads(qkv, stride, 0..queries * size);
            of_keys.apply_to_heads(qkv, stride, queries * size..(queries + keys) * size);
        }
        if let Some(rotary) = self.rotary {
            angles[rotary].turn(qkv, heads, sequences);
        }
        let out = room(narrow, tokens * queries * size);
        let (reach, bias) = (self.reach, &*self.bias);
        Attention { qkv, sequences, heads, reach, bias, out, scratch: attention }.run();
        self.mix.apply(out, tokens, room(result, tokens * self.mix.outputs()), packed);
    }
}

impl FeedForward {
    fn apply(&self, input: &[f32], tokens: usize, scratch: &mut Scratch) {
        let Scratch { packed, wide, narrow, result, .. } = scratch;
        let inner = room(wide, tokens * self.up.outputs());
        self.up.apply(input, tokens, inner, packed);
        let result = room(result, tokens * self.down.outputs());
        if self.gated {
            let width = self.up.outputs() / 2;
            let gated = room(narrow, tokens * width);
            self.activation.gate(inner, width, gated);
            self.down.apply(gated, tokens, result, packed);
        } else {
            self.activation.apply(inner);
            self.down.apply(inner, tokens, result, packed);
        }
    }
}
