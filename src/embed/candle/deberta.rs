//! How is a DeBERTa v2 or v3 built from its files (He et al., 2020 and 2021)? BERT whose scores have two more parts, from
//! content to distance and from distance to content.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::bert::{WORDS, gelu};
use super::config::{self, Refusal};
use super::embeddings::{Embeddings, Numbering};
use super::encoder::Encoder;
use super::post_norm::{Names, PostNorm};
use super::weights::{Dense, Weights};
use crate::Result;
use crate::embed::math::attention::Heads;
use crate::embed::math::bias::{Bias, Disentangled};
use crate::embed::spec::ModelDirectory;

/// What `config.json` says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Config {
    pub(crate) hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    max_position_embeddings: usize,
    #[serde(default)]
    type_vocab_size: usize,
    vocab_size: usize,
    embedding_size: Option<usize>,
    attention_head_size: Option<usize>,
    #[serde(default)]
    relative_attention: bool,
    max_relative_positions: Option<i64>,
    position_buckets: Option<i64>,
    #[serde(default = "yes")]
    position_biased_input: bool,
    /// A list, or names with `|` between.
    #[serde(default)]
    pos_att_type: Value,
    #[serde(default)]
    share_att_key: bool,
    norm_rel_ebd: Option<String>,
    #[serde(default)]
    conv_kernel_size: usize,
    #[serde(default = "gelu")]
    pub(crate) pooler_hidden_act: String,
    pub(crate) pooler_hidden_size: Option<usize>,
}

fn epsilon() -> f32 {
    1e-7
}

fn yes() -> bool {
    true
}

impl Config {
    /// Reads and checks it.
    pub(crate) fn read(directory: &ModelDirectory) -> Result<Self> {
        config::read(directory, &[], Self::check)
    }

    fn check(&self) -> std::result::Result<(), Refusal> {
        if self.conv_kernel_size > 0 {
            let reason = "conv_kernel_size {} (a convolution after the first layer) is not supported yet; only 0 is";
            return Err(reason.replace("{}", &self.conv_kernel_size.to_string()));
        }
        let norm = self.norm_rel_ebd.as_deref().unwrap_or("none");
        config::one_of("norm_rel_ebd", norm, &["none", "layer_norm"])?;
        for kind in self.parts() {
            config::one_of("pos_att_type", &kind, &["c2p", "p2c"])?;
        }
        let heads = config::even_heads(self.hidden_size, self.num_attention_heads)?;
        if let Some(size) = self.attention_head_size.filter(|&size| size != heads.size) {
            return Err(format!("attention_head_size {size} is not supported yet; only {} is here", heads.size));
        }
        config::positive(&[
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("embedding_size", self.width()),
        ])?;
        config::activation("pooler_hidden_act", &self.pooler_hidden_act)?;
        config::activation("hidden_act", &self.hidden_act).map(|_| ())
    }

    fn width(&self) -> usize {
        self.embedding_size.unwrap_or(self.hidden_size)
    }

    fn parts(&self) -> Vec<String> {
        let part = |name: &str| name.trim().to_lowercase();
        match &self.pos_att_type {
            Value::String(names) => names.split('|').map(part).filter(|name| !name.is_empty()).collect(),
            Value::Array(names) => {
                names.iter().map(|name| name.as_str().map_or_else(|| name.to_string(), part)).collect()
            }
            Value::Null => Vec::new(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => vec![other.to_string()],
        }
    }

    fn has(&self, kind: &str) -> bool {
        self.parts().iter().any(|part| part == kind)
    }

    /// The distance at which relative positions end.
    fn farthest(&self) -> usize {
        let stated = self.max_relative_positions.and_then(|stated| usize::try_from(stated).ok());
        stated.filter(|&stated| stated > 0).unwrap_or(self.max_position_embeddings)
    }

    /// Half the number of relative embeddings, and up to where distances share them.
    fn span(&self) -> (usize, usize) {
        match self.position_buckets.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0) {
            Some(buckets) => (buckets, self.farthest()),
            None => (self.farthest(), 0),
        }
    }

    /// What scores are divided by.
    fn divisor(&self, heads: Heads) -> f32 {
        let parts = 1 + usize::from(self.has("c2p")) + usize::from(self.has("p2c"));
        ((heads.size * parts) as f32).sqrt()
    }
}

const NAMES: Names = Names {
    projections: ["attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"],
    ..Names::BERT
};

/// Loads it.
pub(crate) fn load(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    let config = Config::read(directory)?;
    let weights = Weights::read(directory, WORDS)?;
    let refused = |reason: Refusal| config::refused(directory, &reason);
    let heads = config::even_heads(config.hidden_size, config.num_attention_heads).map_err(refused)?;
    let embeddings = embeddings(&weights, &config)?;
    let distances = distances(&weights, &config)?;
    let layers = PostNorm {
        weights: &weights,
        names: NAMES,
        heads,
        divisor: config.divisor(heads),
        hidden: config.hidden_size,
        inner: config.intermediate_size,
        epsilon: config.layer_norm_eps,
        activation: config::activation("hidden_act", &config.hidden_act).map_err(refused)?,
    };
    let plain = Arc::new(Bias::None);
    let layer = |index| {
        let name = format!("encoder.layer.{index}");
        let mut layer = layers.layer(&name, &plain)?;
        if let Some(rows) = &distances {
            layer.attention.bias = Arc::new(bias(&weights, &config, &format!("{name}.attention.self"), heads, rows)?);
        }
        Ok(layer)
    };
    let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?;
    Ok((Encoder::new(embeddings, Vec::new(), layers, None), weights))
}

fn embeddings(weights: &Weights, config: &Config) -> Result<Embeddings> {
    let (width, hidden) = (config.width(), config.hidden_size);
    let mut embeddings = Embeddings::new(weights.tensor(WORDS, &[config.vocab_size, width])?, width);
    if config.position_biased_input {
        let shape = [config.max_position_embeddings, width];
        let positions = weights.tensor("embeddings.position_embeddings.weight", &shape)?;
        embeddings = embeddings.with_positions(positions, Numbering::Plain);
    }
    if config.type_vocab_size > 0 {
        let shape = [config.type_vocab_size, width];
        embeddings = embeddings.with_types(weights.tensor("embeddings.token_type_embeddings.weight", &shape)?);
    }
    if width != hidden {
        embeddings = embeddings.projected(weights.dense("embeddings.embed_proj", hidden, width, false)?.pack());
    }
    Ok(embeddings.normed(weights.norm("embeddings.LayerNorm", hidden, config.layer_norm_eps, true)?))
}

/// The embeddings of distances, `[2 * span, hidden]`, which all layers share.
fn distances(weights: &Weights, config: &Config) -> Result<Option<Vec<f32>>> {
    if !config.relative_attention || config.parts().is_empty() {
        return Ok(None);
    }
    let hidden = config.hidden_size;
    let mut rows = weights.tensor("encoder.rel_embeddings.weight", &[2 * config.span().0, hidden])?;
    if config.norm_rel_ebd.as_deref() == Some("layer_norm") {
        weights.norm("encoder.LayerNorm", hidden, config.layer_norm_eps, true)?.apply(&mut rows);
    }
    Ok(Some(rows))
}

/// What the distances ask and answer in one layer.
fn bias(weights: &Weights, config: &Config, name: &str, heads: Heads, distances: &[f32]) -> Result<Bias> {
    let (hidden, (span, farthest)) = (config.hidden_size, config.span());
    let dense = |part: &str| weights.dense(&format!("{name}.{part}"), hidden, hidden, true);
    let (keys, queries) =
        if config.share_att_key { ("key_proj", "query_proj") } else { ("pos_key_proj", "pos_query_proj") };
    let keys = config.has("c2p").then(|| dense(keys)).transpose()?.map(|keys| keys.project(distances));
    let divided = |queries: Dense| queries.scale(0..hidden, 1.0 / config.divisor(heads)).project(distances);
    let queries = config.has("p2c").then(|| dense(queries)).transpose()?.map(divided);
    Ok(Bias::Disentangled(Disentangled::new(heads, span, farthest, keys.as_deref(), queries.as_deref())))
}
