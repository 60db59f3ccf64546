//! How is a Qwen3 built from its files (Yang et al., 2025), as Qwen3-Embedding and Qwen3-Reranker are? Causal attention
//! with shared heads of keys, norms of each query and key, rotary positions, SwiGLU.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::config::{self, Refusal};
use super::embeddings::Embeddings;
use super::encoder::{Encoder, FeedForward, Layer, Norms, SelfAttention};
use super::modernbert::is_sliding;
use super::weights::Weights;
use crate::Result;
use crate::embed::math::attention::{Heads, Reach};
use crate::embed::math::bias::Bias;
use crate::embed::math::rotary::Rotary;
use crate::embed::spec::ModelDirectory;

/// What `config.json` says.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    #[serde(default = "head_size")]
    head_dim: usize,
    intermediate_size: usize,
    vocab_size: usize,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default = "epsilon")]
    rms_norm_eps: f32,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    #[serde(default = "windowed_from")]
    max_window_layers: usize,
    layer_types: Option<Vec<String>>,
    rope_theta: Option<f64>,
    #[serde(default)]
    rope_parameters: Value,
    #[serde(default)]
    rope_scaling: Value,
}

fn head_size() -> usize {
    128
}

fn silu() -> String {
    "silu".into()
}

fn epsilon() -> f32 {
    1e-6
}

fn windowed_from() -> usize {
    28
}

/// Which tensor holds the words, after the prefix.
pub(super) const WORDS: &str = "embed_tokens.weight";

impl Config {
    fn check(&self) -> std::result::Result<(), Refusal> {
        config::positive(&[
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
        ])?;
        config::even_size(self.heads()?)?;
        config::activation("hidden_act", &self.hidden_act)?;
        self.theta()?;
        (0..self.num_hidden_layers).try_for_each(|index| self.reach(index).map(|_| ()))
    }

    fn heads(&self) -> std::result::Result<Heads, Refusal> {
        let keys = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        config::grouped_heads(self.num_attention_heads, keys, self.head_dim)
    }

    fn theta(&self) -> std::result::Result<f64, Refusal> {
        config::theta(&self.rope_parameters, &self.rope_scaling, self.rope_theta, 10_000.0)
    }

    fn reach(&self, index: usize) -> std::result::Result<Reach, Refusal> {
        let window = self.sliding_window.filter(|_| self.use_sliding_window);
        let sliding = match &self.layer_types {
            Some(kinds) => is_sliding(kinds, index)?,
            None => window.is_some() && index >= self.max_window_layers,
        };
        match window {
            _ if !sliding => Ok(Reach::CAUSAL),
            // A token counts itself.
            Some(window) if window > 0 => Ok(Reach { before: window - 1, after: 0 }),
            _ => {
                Err(format!("layer {index} has sliding_attention, but use_sliding_window and sliding_window set none"))
            }
        }
    }
}

/// Loads it.
pub(crate) fn load(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    let config: Config = config::read(directory, &[], Config::check)?;
    let weights = Weights::read(directory, WORDS)?;
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let (hidden, heads) = (config.hidden_size, config.heads().map_err(refused)?);
    let embeddings = Embeddings::new(weights.tensor(WORDS, &[config.vocab_size, hidden])?, hidden);
    let rotary = Rotary::new(config.theta().map_err(refused)?, heads.size);
    let layers = (0..config.num_hidden_layers)
        .map(|index| layer(directory, &weights, &config, heads, index))
        .collect::<Result<_>>()?;
    let norm = weights.root_mean_square("norm", hidden, config.rms_norm_eps, 0.0)?;
    Ok((Encoder::new(embeddings, vec![rotary], layers, Some(norm)), weights))
}

fn layer(directory: &ModelDirectory, weights: &Weights, config: &Config, heads: Heads, index: usize) -> Result<Layer> {
    let (hidden, inner, epsilon) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let name = |part: &str| format!("layers.{index}.{part}");
    let norm = |part: &str, width| weights.root_mean_square(&name(part), width, epsilon, 0.0);
    let attend = |part: &str, outputs, inputs| {
        weights.dense(&name(&format!("self_attn.{part}")), outputs, inputs, config.attention_bias)
    };
    let feed = |part: &str, outputs, inputs| weights.dense(&name(&format!("mlp.{part}")), outputs, inputs, false);
    let (asking, answering) = (heads.queries * heads.size, heads.keys * heads.size);
    let mut queries_norm = norm("self_attn.q_norm", heads.size)?;
    // The norm of queries is the last that scales them before the products.
    queries_norm.weight.iter_mut().for_each(|weight| *weight /= (heads.size as f32).sqrt());
    let [keys, values] = ["k_proj", "v_proj"].map(|part| attend(part, answering, hidden));
    Ok(Layer {
        attention: SelfAttention {
            heads,
            project: attend("q_proj", asking, hidden)?.join(keys?).join(values?).pack(),
            head_norms: Some((queries_norm, norm("self_attn.k_norm", heads.size)?)),
            rotary: Some(0),
            reach: config.reach(index).map_err(refused)?,
            bias: Arc::new(Bias::None),
            mix: attend("o_proj", hidden, asking)?.pack(),
        },
        attention_norms: Norms::before(norm("input_layernorm", hidden)?),
        feed_forward: FeedForward {
            up: feed("gate_proj", inner, hidden)?.join(feed("up_proj", inner, hidden)?).pack(),
            activation: config::activation("hidden_act", &config.hidden_act).map_err(refused)?,
            gated: true,
            down: feed("down_proj", hidden, inner)?.pack(),
        },
        feed_forward_norms: Norms::before(norm("post_attention_layernorm", hidden)?),
    })
}
