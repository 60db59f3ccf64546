//! How is a Gemma 3 text model built from its files (Gemma Team, 2025), as EmbeddingGemma is? Norms before and after each
//! block whose weights count from one, words times the root of the width, a window in most layers, two rotations, GeGLU.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::config::{self, Refusal};
use super::embeddings::Embeddings;
use super::encoder::{Encoder, FeedForward, Layer, Norms, SelfAttention};
use super::modernbert::is_sliding;
use super::qwen3::WORDS;
use super::weights::Weights;
use crate::Result;
use crate::embed::math::attention::{Heads, Reach};
use crate::embed::math::bias::Bias;
use crate::embed::math::rotary::Rotary;
use crate::embed::spec::ModelDirectory;

/// What `config.json` says; the defaults are those of transformers.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    intermediate_size: usize,
    vocab_size: usize,
    #[serde(default = "gelu_tanh")]
    hidden_activation: String,
    #[serde(default = "epsilon")]
    rms_norm_eps: f32,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default = "scalar")]
    query_pre_attn_scalar: f32,
    use_bidirectional_attention: Option<bool>,
    #[serde(default = "window")]
    sliding_window: usize,
    layer_types: Option<Vec<String>>,
    #[serde(default = "pattern")]
    sliding_window_pattern: usize,
    attn_logit_softcapping: Option<f64>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    #[serde(default)]
    rope_parameters: Value,
    #[serde(default)]
    rope_scaling: Value,
}

fn gelu_tanh() -> String {
    "gelu_pytorch_tanh".into()
}

fn epsilon() -> f32 {
    1e-6
}

fn scalar() -> f32 {
    256.0
}

fn window() -> usize {
    4096
}

fn pattern() -> usize {
    6
}

impl Config {
    fn check(&self) -> std::result::Result<(), Refusal> {
        if let Some(cap) = self.attn_logit_softcapping {
            return Err(format!("attn_logit_softcapping {cap} is not supported yet; only null is"));
        }
        config::positive(&[
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("sliding_window", self.sliding_window),
            ("sliding_window_pattern", self.sliding_window_pattern),
        ])?;
        config::even_size(self.heads()?)?;
        config::activation("hidden_activation", &self.hidden_activation)?;
        self.thetas()?;
        (0..self.num_hidden_layers).try_for_each(|index| self.is_local(index).map(|_| ()))
    }

    fn heads(&self) -> std::result::Result<Heads, Refusal> {
        config::grouped_heads(self.num_attention_heads, self.num_key_value_heads, self.head_dim)
    }

    /// The bases of the rotations of full and of windowed layers.
    fn thetas(&self) -> std::result::Result<[f64; 2], Refusal> {
        let (rope, scaling) = (&self.rope_parameters, &self.rope_scaling);
        Ok([
            config::theta(&rope["full_attention"], scaling, self.rope_theta, 1_000_000.0)?,
            config::theta(&rope["sliding_attention"], &Value::Null, self.rope_local_base_freq, 10_000.0)?,
        ])
    }

    fn is_local(&self, index: usize) -> std::result::Result<bool, Refusal> {
        match &self.layer_types {
            None => Ok(!(index + 1).is_multiple_of(self.sliding_window_pattern)),
            Some(kinds) => is_sliding(kinds, index),
        }
    }

    fn reach(&self, local: bool) -> Reach {
        match (self.use_bidirectional_attention.unwrap_or(false), local) {
            (true, false) => Reach::ALL,
            // The window holds both sides.
            (true, true) => Reach::window(self.sliding_window / 2),
            (false, false) => Reach::CAUSAL,
            // A token counts itself.
            (false, true) => Reach { before: self.sliding_window - 1, after: 0 },
        }
    }
}

/// Loads it.
pub(crate) fn load(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    let config: Config =
        config::read(directory, &[("sliding_window_pattern", "_sliding_window_pattern")], Config::check)?;
    let weights = Weights::read(directory, WORDS)?;
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let (hidden, heads) = (config.hidden_size, config.heads().map_err(refused)?);
    let words = weights.tensor(WORDS, &[config.vocab_size, hidden])?;
    let embeddings = Embeddings::new(words, hidden).scaled((hidden as f32).sqrt());
    let rotaries = config.thetas().map_err(refused)?.map(|theta| Rotary::new(theta, heads.size));
    let layers = (0..config.num_hidden_layers)
        .map(|index| layer(directory, &weights, &config, heads, index))
        .collect::<Result<_>>()?;
    let norm = weights.root_mean_square("norm", hidden, config.rms_norm_eps, 1.0)?;
    Ok((Encoder::new(embeddings, rotaries.into(), layers, Some(norm)), weights))
}

fn layer(directory: &ModelDirectory, weights: &Weights, config: &Config, heads: Heads, index: usize) -> Result<Layer> {
    let (hidden, inner, epsilon) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let local = config.is_local(index).map_err(refused)?;
    let name = |part: &str| format!("layers.{index}.{part}");
    let norm = |part: &str, width| weights.root_mean_square(&name(part), width, epsilon, 1.0);
    let around = |before: &str, inside: &str| -> Result<Norms> {
        Ok(Norms { before: Some(norm(before, hidden)?), inside: Some(norm(inside, hidden)?), after: None })
    };
    let attend = |part: &str, outputs, inputs| {
        weights.dense(&name(&format!("self_attn.{part}")), outputs, inputs, config.attention_bias)
    };
    let feed = |part: &str, outputs, inputs| weights.dense(&name(&format!("mlp.{part}")), outputs, inputs, false);
    let (asking, answering) = (heads.queries * heads.size, heads.keys * heads.size);
    let mut queries_norm = norm("self_attn.q_norm", heads.size)?;
    // The norm of queries is the last that scales them before the products.
    queries_norm.weight.iter_mut().for_each(|weight| *weight /= config.query_pre_attn_scalar.sqrt());
    let [keys, values] = ["k_proj", "v_proj"].map(|part| attend(part, answering, hidden));
    Ok(Layer {
        attention: SelfAttention {
            heads,
            project: attend("q_proj", asking, hidden)?.join(keys?).join(values?).pack(),
            head_norms: Some((queries_norm, norm("self_attn.k_norm", heads.size)?)),
            rotary: Some(usize::from(local)),
            reach: config.reach(local),
            bias: Arc::new(Bias::None),
            mix: attend("o_proj", hidden, asking)?.pack(),
        },
        attention_norms: around("input_layernorm", "post_attention_layernorm")?,
        feed_forward: FeedForward {
            up: feed("gate_proj", inner, hidden)?.join(feed("up_proj", inner, hidden)?).pack(),
            activation: config::activation("hidden_activation", &config.hidden_activation).map_err(refused)?,
            gated: true,
            down: feed("down_proj", hidden, inner)?.pack(),
        },
        feed_forward_norms: around("pre_feedforward_layernorm", "post_feedforward_layernorm")?,
    })
}
