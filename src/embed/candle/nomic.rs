//! How is a NomicBERT built from its files (Nussbaum et al., "Nomic Embed", 2024)? BERT with rotary positions, SwiGLU and
//! no biases but in norms.
//!
//! Two kinds of files: those of nomic-embed v1 and v1.5, with GPT-2's names and one tensor for queries, keys and values,
//! and those that transformers 5 writes.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::bert::{WORDS, epsilon};
use super::config::{self, Refusal};
use super::embeddings::Embeddings;
use super::encoder::{Encoder, FeedForward, Layer, Norms, SelfAttention};
use super::post_norm::together;
use super::weights::{Dense, Weights};
use crate::Result;
use crate::embed::math::attention::{Heads, Reach};
use crate::embed::math::bias::Bias;
use crate::embed::math::ops::Activation;
use crate::embed::math::rotary::Rotary;
use crate::embed::spec::ModelDirectory;

/// What `config.json` says.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    #[serde(default = "two")]
    type_vocab_size: usize,
    vocab_size: usize,
    #[serde(default = "swiglu")]
    activation_function: String,
    rotary_emb_base: Option<f64>,
    rotary_emb_fraction: Option<f64>,
    #[serde(default)]
    rotary_emb_interleaved: bool,
    rotary_scaling_factor: Option<f64>,
    #[serde(default)]
    rope_parameters: Value,
    #[serde(default)]
    qkv_proj_bias: bool,
    #[serde(default)]
    mlp_fc1_bias: bool,
    #[serde(default)]
    mlp_fc2_bias: bool,
    #[serde(default)]
    prenorm: bool,
    #[serde(default)]
    parallel_block: bool,
    #[serde(default)]
    use_rms_norm: bool,
    #[serde(default)]
    causal: bool,
    num_experts: Option<usize>,
}

/// nomic-embed v1 and v1.5 have the names of GPT-2.
const ALIASES: [(&str, &str); 6] = [
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("intermediate_size", "n_inner"),
    ("layer_norm_eps", "layer_norm_epsilon"),
    ("activation_function", "hidden_act"),
];

fn two() -> usize {
    2
}

fn swiglu() -> String {
    "swiglu".into()
}

impl Config {
    fn check(&self) -> std::result::Result<(), Refusal> {
        for (name, value) in [
            ("rotary_emb_interleaved", self.rotary_emb_interleaved),
            ("qkv_proj_bias", self.qkv_proj_bias),
            ("mlp_fc1_bias", self.mlp_fc1_bias),
            ("mlp_fc2_bias", self.mlp_fc2_bias),
            ("prenorm", self.prenorm),
            ("parallel_block", self.parallel_block),
            ("use_rms_norm", self.use_rms_norm),
            ("causal", self.causal),
        ] {
            config::only(name, value, false)?;
        }
        if let Some(count) = self.num_experts.filter(|&count| count > 0) {
            return Err(format!("num_experts {count} (nomic-embed v2) is not supported yet; v1 and v1.5 are"));
        }
        if let Some(fraction) = self.rotary_emb_fraction.filter(|&fraction| fraction != 1.0) {
            return Err(format!("rotary_emb_fraction {fraction} is not supported yet; only 1 is"));
        }
        if let Some(factor) = self.rotary_scaling_factor.filter(|&factor| factor != 1.0) {
            return Err(format!("rotary_scaling_factor {factor} is not supported yet; only null is"));
        }
        config::one_of("activation_function", &self.activation_function, &["swiglu", "silu"])?;
        config::positive(&[
            ("intermediate_size", self.intermediate_size),
            ("type_vocab_size", self.type_vocab_size),
            ("vocab_size", self.vocab_size),
        ])?;
        config::even_size(config::even_heads(self.hidden_size, self.num_attention_heads)?)?;
        self.theta().map(|_| ())
    }

    fn theta(&self) -> std::result::Result<f64, Refusal> {
        config::theta(&self.rope_parameters, &Value::Null, self.rotary_emb_base, 1000.0)
    }
}

/// Loads it.
pub(crate) fn load(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    let config: Config = config::read(directory, &ALIASES, Config::check)?;
    let weights = Weights::read(directory, WORDS)?;
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let (hidden, epsilon) = (config.hidden_size, config.layer_norm_eps);
    let heads = config::even_heads(hidden, config.num_attention_heads).map_err(refused)?;
    let norm = if weights.holds("emb_ln.weight") { "emb_ln" } else { "embeddings.LayerNorm" };
    let types = weights.tensor("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
    let embeddings = Embeddings::new(weights.tensor(WORDS, &[config.vocab_size, hidden])?, hidden)
        .with_types(types)
        .normed(weights.norm(norm, hidden, epsilon, true)?);
    let rotary = Rotary::new(config.theta().map_err(refused)?, heads.size);
    let layers =
        (0..config.num_hidden_layers).map(|index| layer(&weights, &config, heads, index)).collect::<Result<_>>()?;
    Ok((Encoder::new(embeddings, vec![rotary], layers, None), weights))
}

/// What a layer's parts are called.
struct Names {
    attention: Dense,
    mix: &'static str,
    gate: &'static str,
    up: &'static str,
    down: &'static str,
    norms: [&'static str; 2],
}

fn names(weights: &Weights, name: &str, hidden: usize, heads: Heads) -> Result<Names> {
    let dense = |part: &str, outputs| weights.dense(&format!("{name}.{part}"), outputs, hidden, false);
    if weights.holds(&format!("{name}.attn.Wqkv.weight")) {
        let attention = dense("attn.Wqkv", heads.row())?;
        return Ok(Names {
            attention: attention.scale(0..hidden, 1.0 / heads.root()),
            mix: "attn.out_proj",
            gate: "mlp.fc12",
            up: "mlp.fc11",
            down: "mlp.fc2",
            norms: ["norm1", "norm2"],
        });
    }
    let [queries, keys, values] =
        ["q_proj", "k_proj", "v_proj"].map(|part| dense(&format!("self_attn.{part}"), hidden));
    Ok(Names {
        attention: together(queries?, keys?, values?, heads, heads.root()),
        mix: "self_attn.o_proj",
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        norms: ["post_attention_layernorm", "post_mlp_layernorm"],
    })
}

fn layer(weights: &Weights, config: &Config, heads: Heads, index: usize) -> Result<Layer> {
    let (hidden, inner, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
    let old = format!("encoder.layers.{index}");
    let layer = if weights.holds(&format!("{old}.norm1.weight")) { old } else { format!("layers.{index}") };
    let names = names(weights, &layer, hidden, heads)?;
    let dense = |part: &str, outputs, inputs| weights.dense(&format!("{layer}.{part}"), outputs, inputs, false);
    let norm = |part: &str| weights.norm(&format!("{layer}.{part}"), hidden, epsilon, true).map(Norms::after);
    Ok(Layer {
        attention: SelfAttention {
            heads,
            project: names.attention.pack(),
            head_norms: None,
            rotary: Some(0),
            reach: Reach::ALL,
            bias: Arc::new(Bias::None),
            mix: dense(names.mix, hidden, hidden)?.pack(),
        },
        attention_norms: norm(names.norms[0])?,
        feed_forward: FeedForward {
            up: dense(names.gate, inner, hidden)?.join(dense(names.up, inner, hidden)?).pack(),
            activation: Activation::Silu,
            gated: true,
            down: dense(names.down, hidden, inner)?.pack(),
        },
        feed_forward_norms: norm(names.norms[1])?,
    })
}
