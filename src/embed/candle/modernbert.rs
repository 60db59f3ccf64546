//! How is a ModernBERT built from its files (Warner et al., 2024)? Norms before the blocks, rotary positions, gated
//! networks, and a window in all layers but every third, whose rotation has another base.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::bert::gelu;
use super::config::{self, Refusal};
use super::embeddings::Embeddings;
use super::encoder::{Encoder, FeedForward, Layer, Norms, SelfAttention};
use super::weights::Weights;
use crate::Result;
use crate::embed::math::attention::{Heads, Reach};
use crate::embed::math::bias::Bias;
use crate::embed::math::ops::Norm;
use crate::embed::math::rotary::Rotary;
use crate::embed::spec::ModelDirectory;

/// What `config.json` says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Config {
    pub(crate) hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    #[serde(default = "gelu")]
    hidden_activation: String,
    #[serde(default = "epsilon")]
    norm_eps: f32,
    #[serde(default)]
    norm_bias: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default = "window")]
    local_attention: usize,
    /// transformers 5: `full_attention` or `sliding_attention` for each layer.
    layer_types: Option<Vec<String>>,
    /// Before.
    #[serde(default = "every")]
    global_attn_every_n_layers: usize,
    #[serde(default)]
    rope_parameters: Value,
    #[serde(default)]
    rope_scaling: Value,
    global_rope_theta: Option<f64>,
    local_rope_theta: Option<f64>,
    #[serde(default = "first")]
    pub(crate) classifier_pooling: String,
    #[serde(default = "gelu")]
    pub(crate) classifier_activation: String,
    #[serde(default)]
    pub(crate) classifier_bias: bool,
}

fn epsilon() -> f32 {
    1e-5
}

fn window() -> usize {
    128
}

fn every() -> usize {
    3
}

fn first() -> String {
    "cls".into()
}

impl Config {
    /// Reads and checks it.
    pub(crate) fn read(directory: &ModelDirectory) -> Result<Self> {
        config::read(directory, &[], Self::check)
    }

    fn check(&self) -> std::result::Result<(), Refusal> {
        config::positive(&[
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("global_attn_every_n_layers", self.global_attn_every_n_layers),
        ])?;
        config::even_size(config::even_heads(self.hidden_size, self.num_attention_heads)?)?;
        config::activation("hidden_activation", &self.hidden_activation)?;
        config::activation("classifier_activation", &self.classifier_activation)?;
        config::one_of("classifier_pooling", &self.classifier_pooling, &["cls", "mean"])?;
        self.thetas()?;
        (0..self.num_hidden_layers).try_for_each(|index| self.is_local(index).map(|_| ()))
    }

    /// The bases of the rotations of full and of windowed layers.
    fn thetas(&self) -> std::result::Result<[f64; 2], Refusal> {
        let (rope, scaling) = (&self.rope_parameters, &self.rope_scaling);
        Ok([
            config::theta(&rope["full_attention"], scaling, self.global_rope_theta, 160_000.0)?,
            config::theta(&rope["sliding_attention"], scaling, self.local_rope_theta, 10_000.0)?,
        ])
    }

    fn is_local(&self, index: usize) -> std::result::Result<bool, Refusal> {
        match &self.layer_types {
            None => Ok(!index.is_multiple_of(self.global_attn_every_n_layers)),
            Some(kinds) => is_sliding(kinds, index),
        }
    }

    /// A layer norm of this model.
    pub(crate) fn norm(&self, weights: &Weights, name: &str) -> Result<Norm> {
        weights.norm(name, self.hidden_size, self.norm_eps, self.norm_bias)
    }
}

/// What `layer_types` says of a layer.
pub(super) fn is_sliding(kinds: &[String], index: usize) -> std::result::Result<bool, Refusal> {
    let Some(kind) = kinds.get(index) else {
        return Err(format!("layer_types names {} layers: layer {index} is missing", kinds.len()));
    };
    config::one_of("layer_types", kind, &["full_attention", "sliding_attention"])?;
    Ok(kind == "sliding_attention")
}

/// Loads it.
pub(crate) fn load(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    const WORDS: &str = "embeddings.tok_embeddings.weight";
    let config = Config::read(directory)?;
    let weights = Weights::read(directory, WORDS)?;
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let hidden = config.hidden_size;
    let heads = config::even_heads(hidden, config.num_attention_heads).map_err(refused)?;
    let embeddings = Embeddings::new(weights.tensor(WORDS, &[config.vocab_size, hidden])?, hidden)
        .normed(config.norm(&weights, "embeddings.norm")?);
    let rotaries = config.thetas().map_err(refused)?.map(|theta| Rotary::new(theta, heads.size));
    let layers = (0..config.num_hidden_layers)
        .map(|index| layer(directory, &weights, &config, heads, index))
        .collect::<Result<_>>()?;
    let norm = config.norm(&weights, "final_norm")?;
    Ok((Encoder::new(embeddings, rotaries.into(), layers, Some(norm)), weights))
}

fn layer(directory: &ModelDirectory, weights: &Weights, config: &Config, heads: Heads, index: usize) -> Result<Layer> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let local = config.is_local(index).map_err(refused)?;
    let name = |part: &str| format!("layers.{index}.{part}");
    let dense = |part: &str, outputs, inputs, biased| weights.dense(&name(part), outputs, inputs, biased);
    let project = dense("attn.Wqkv", heads.row(), hidden, config.attention_bias)?;
    // The embeddings' norm serves the first layer.
    let before = (index > 0).then(|| config.norm(weights, &name("attn_norm"))).transpose()?;
    Ok(Layer {
        attention: SelfAttention {
            heads,
            project: project.scale(0..hidden, 1.0 / heads.root()).pack(),
            head_norms: None,
            rotary: Some(usize::from(local)),
            reach: if local { Reach::window(config.local_attention / 2) } else { Reach::ALL },
            bias: Arc::new(Bias::None),
            mix: dense("attn.Wo", hidden, hidden, config.attention_bias)?.pack(),
        },
        attention_norms: Norms { before, ..Norms::default() },
        feed_forward: FeedForward {
            up: dense("mlp.Wi", 2 * inner, hidden, config.mlp_bias)?.pack(),
            activation: config::activation("hidden_activation", &config.hidden_activation).map_err(refused)?,
            gated: true,
            down: dense("mlp.Wo", hidden, inner, config.mlp_bias)?.pack(),
        },
        feed_forward_norms: Norms::before(config.norm(weights, &name("mlp_norm"))?),
    })
}
