//! How is a DistilBERT built from its files (Sanh et al., 2019)? BERT without token types, under names of its own.

use std::sync::Arc;

use serde::Deserialize;

use super::bert::{WORDS, gelu};
use super::config::{self, Refusal};
use super::embeddings::{Embeddings, Numbering};
use super::encoder::Encoder;
use super::post_norm::{Names, PostNorm};
use super::weights::Weights;
use crate::Result;
use crate::embed::math::bias::Bias;
use crate::embed::spec::ModelDirectory;

/// What `config.json` says.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    #[serde(default = "gelu")]
    activation: String,
    max_position_embeddings: usize,
    vocab_size: usize,
}

/// Some files have the names of BERT.
const ALIASES: [(&str, &str); 3] =
    [("dim", "hidden_size"), ("n_layers", "num_hidden_layers"), ("n_heads", "num_attention_heads")];

/// The model's own code has this number, not its configuration.
const EPSILON: f32 = 1e-12;

const NAMES: Names = Names {
    projections: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    mix: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
};

impl Config {
    fn check(&self) -> std::result::Result<(), Refusal> {
        config::positive(&[("hidden_dim", self.hidden_dim), ("vocab_size", self.vocab_size)])?;
        config::even_heads(self.dim, self.n_heads)?;
        config::activation("activation", &self.activation).map(|_| ())
    }
}

/// Loads it.
pub(crate) fn load(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    let config: Config = config::read(directory, &ALIASES, Config::check)?;
    let weights = Weights::read(directory, WORDS)?;
    let hidden = config.dim;
    let positions =
        weights.tensor("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
    let embeddings = Embeddings::new(weights.tensor(WORDS, &[config.vocab_size, hidden])?, hidden)
        .with_positions(positions, Numbering::Plain)
        .normed(weights.norm("embeddings.LayerNorm", hidden, EPSILON, true)?);
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let heads = config::even_heads(hidden, config.n_heads).map_err(refused)?;
    let layers = PostNorm {
        weights: &weights,
        names: NAMES,
        heads,
        divisor: heads.root(),
        hidden,
        inner: config.hidden_dim,
        epsilon: EPSILON,
        activation: config::activation("activation", &config.activation).map_err(refused)?,
    };
    let bias = Arc::new(Bias::None);
    let layer = |index| layers.layer(&format!("transformer.layer.{index}"), &bias);
    let layers = (0..config.n_layers).map(layer).collect::<Result<_>>()?;
    Ok((Encoder::new(embeddings, Vec::new(), layers, None), weights))
}
