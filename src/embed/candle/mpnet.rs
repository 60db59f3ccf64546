//! How is an MPNet built from its files (Song et al., 2020)? BERT with RoBERTa's counting of positions, without token
//! types, and with a learned number for each bucket of distances, shared by all layers.

use std::sync::Arc;

use serde::Deserialize;

use super::bert::{WORDS, epsilon, gelu};
use super::config::{self, Refusal};
use super::embeddings::{Embeddings, Numbering};
use super::encoder::Encoder;
use super::post_norm::{Names, PostNorm};
use super::weights::Weights;
use crate::Result;
use crate::embed::math::bias::{Bias, Buckets};
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
    vocab_size: usize,
    #[serde(default = "buckets")]
    relative_attention_num_buckets: usize,
}

fn buckets() -> usize {
    Buckets::COUNT
}

/// The model's own code has this id for padding, whatever its configuration says.
const PADDING: u32 = 1;

const NAMES: Names = Names {
    projections: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    mix: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..Names::BERT
};

impl Config {
    fn check(&self) -> std::result::Result<(), Refusal> {
        let count = self.relative_attention_num_buckets;
        if count != Buckets::COUNT {
            let known = Buckets::COUNT;
            return Err(format!("relative_attention_num_buckets {count} is not supported yet; only {known} is"));
        }
        config::positive(&[("intermediate_size", self.intermediate_size), ("vocab_size", self.vocab_size)])?;
        config::even_heads(self.hidden_size, self.num_attention_heads)?;
        config::activation("hidden_act", &self.hidden_act).map(|_| ())
    }
}

/// Loads it.
pub(crate) fn load(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    let config: Config = config::read(directory, &[], Config::check)?;
    let weights = Weights::read(directory, WORDS)?;
    let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
    let positions =
        weights.tensor("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
    let embeddings = Embeddings::new(weights.tensor(WORDS, &[config.vocab_size, hidden])?, hidden)
        .with_positions(positions, Numbering::AfterPadding(PADDING))
        .normed(weights.norm("embeddings.LayerNorm", hidden, config.layer_norm_eps, true)?);
    let table = weights.tensor("encoder.relative_attention_bias.weight", &[Buckets::COUNT, heads])?;
    let bias = Arc::new(Bias::Buckets(Buckets::new(table, heads)));
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let heads = config::even_heads(hidden, heads).map_err(refused)?;
    let layers = PostNorm {
        weights: &weights,
        names: NAMES,
        heads,
        divisor: heads.root(),
        hidden,
        inner: config.intermediate_size,
        epsilon: config.layer_norm_eps,
        activation: config::activation("hidden_act", &config.hidden_act).map_err(refused)?,
    };
    let layer = |index| layers.layer(&format!("encoder.layer.{index}"), &bias);
    let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?;
    Ok((Encoder::new(embeddings, Vec::new(), layers, None), weights))
}
