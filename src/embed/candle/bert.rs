//! How is a BERT built from its files (Devlin et al., 2018), and what descends from it with the same tensor names?
//!
//! RoBERTa, XLM-RoBERTa and CamemBERT count positions from behind the padding's id and are never given token types.
//! JinaBERT v2 (Günther et al., "Jina Embeddings 2", 2023) calls itself `bert`, too: ALiBi for positions, gated networks.

pub(super) mod device;

use std::sync::Arc;

use serde::Deserialize;

use super::config::{self, Refusal};
use super::embeddings::{Embeddings, Numbering};
use super::encoder::{Encoder, FeedForward, Layer};
use super::post_norm::{Names, PostNorm};
use super::weights::Weights;
use crate::Result;
use crate::embed::math::bias::{Bias, alibi_slopes};
use crate::embed::math::ops::Activation;
use crate::embed::spec::ModelDirectory;

/// What `config.json` says.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    vocab_size: usize,
    position_embedding_type: Option<String>,
    feed_forward_type: Option<String>,
    pad_token_id: Option<u32>,
}

pub(super) fn gelu() -> String {
    "gelu".into()
}

pub(super) fn epsilon() -> f32 {
    1e-12
}

fn two() -> usize {
    2
}

/// Which tensor holds the words, after the prefix.
pub(crate) const WORDS: &str = "embeddings.word_embeddings.weight";

impl Config {
    fn check(&self, of_roberta: bool) -> std::result::Result<(), Refusal> {
        let places: &[&str] = if of_roberta { &["absolute"] } else { &["absolute", "alibi"] };
        config::one_of("position_embedding_type", self.places(), places)?;
        config::one_of("feed_forward_type", self.network(), &["original", "geglu", "reglu"])?;
        config::positive(&[
            ("intermediate_size", self.intermediate_size),
            ("type_vocab_size", self.type_vocab_size),
            ("vocab_size", self.vocab_size),
        ])?;
        config::even_heads(self.hidden_size, self.num_attention_heads)?;
        self.activation().map(|_| ())
    }

    fn places(&self) -> &str {
        self.position_embedding_type.as_deref().unwrap_or("absolute")
    }

    fn network(&self) -> &str {
        self.feed_forward_type.as_deref().unwrap_or("original")
    }

    fn activation(&self) -> std::result::Result<Activation, Refusal> {
        match self.network() {
            "reglu" => Ok(Activation::Relu),
            "geglu" => Ok(Activation::Gelu),
            _ => config::activation("hidden_act", &self.hidden_act),
        }
    }
}

/// Loads a BERT or a JinaBERT.
pub(crate) fn load(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    let config: Config = config::read(directory, &[], |config: &Config| config.check(false))?;
    let weights = Weights::read(directory, WORDS)?;
    let (hidden, kinds) = (config.hidden_size, config.type_vocab_size);
    let types = weights.tensor("embeddings.token_type_embeddings.weight", &[kinds, hidden])?;
    let embeddings = words(&weights, &config, Numbering::Plain)?.with_types(types);
    build(directory, embeddings, weights, &config)
}

/// Loads one of RoBERTa's family.
pub(crate) fn load_roberta(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    let config: Config = config::read(directory, &[], |config: &Config| config.check(true))?;
    let weights = Weights::read(directory, WORDS)?;
    let (hidden, kinds) = (config.hidden_size, config.type_vocab_size);
    let types = weights.tensor("embeddings.token_type_embeddings.weight", &[kinds, hidden])?;
    let numbering = Numbering::AfterPadding(config.pad_token_id.unwrap_or(1));
    let embeddings = words(&weights, &config, numbering)?.with_first_type(&types);
    build(directory, embeddings, weights, &config)
}

/// Words and, where the model has them, positions.
fn words(weights: &Weights, config: &Config, numbering: Numbering) -> Result<Embeddings> {
    let hidden = config.hidden_size;
    let embeddings = Embeddings::new(weights.tensor(WORDS, &[config.vocab_size, hidden])?, hidden);
    if config.places() == "alibi" {
        return Ok(embeddings);
    }
    let shape = [config.max_position_embeddings, hidden];
    Ok(embeddings.with_positions(weights.tensor("embeddings.position_embeddings.weight", &shape)?, numbering))
}

fn build(
    directory: &ModelDirectory,
    embeddings: Embeddings,
    weights: Weights,
    config: &Config,
) -> Result<(Encoder, Weights)> {
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let heads = config::even_heads(config.hidden_size, config.num_attention_heads).map_err(refused)?;
    let norm = weights.norm("embeddings.LayerNorm", config.hidden_size, config.layer_norm_eps, true)?;
    let bias = if config.places() == "alibi" { Bias::Alibi(alibi_slopes(heads.queries)) } else { Bias::None };
    let bias = Arc::new(bias);
    let layers = PostNorm {
        weights: &weights,
        names: Names::BERT,
        heads,
        divisor: heads.root(),
        hidden: config.hidden_size,
        inner: config.intermediate_size,
        epsilon: config.layer_norm_eps,
        activation: config.activation().map_err(refused)?,
    };
    let gated = config.network() != "original";
    let layer = |index| {
        let name = format!("encoder.layer.{index}");
        if gated { gated_layer(&layers, &name, &bias) } else { layers.layer(&name, &bias) }
    };
    let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?;
    Ok((Encoder::new(embeddings.normed(norm), Vec::new(), layers, None), weights))
}

/// A layer of JinaBERT: the first linear layer is twice as wide, and one half gates the other.
fn gated_layer(layers: &PostNorm<'_>, name: &str, bias: &Arc<Bias>) -> Result<Layer> {
    let PostNorm { weights, hidden, inner, activation, .. } = *layers;
    let (attention, attention_norms) = layers.attention(name, bias)?;
    let up = weights.dense(&format!("{name}.mlp.gated_layers"), 2 * inner, hidden, false)?;
    let down = weights.dense(&format!("{name}.mlp.wo"), hidden, inner, true)?;
    let feed_forward_norms = layers.norm(name, "mlp.layernorm")?;
    let feed_forward = FeedForward { up: up.pack(), activation, gated: true, down: down.pack() };
    Ok(Layer { attention, attention_norms, feed_forward, feed_forward_norms })
}
