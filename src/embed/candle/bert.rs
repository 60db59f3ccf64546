//! From token ids to hidden states: BERT (Devlin et al., 2018), without padding.
//!
//! The tokens of several sequences lie one after the other in `[tokens, hidden]`; only attention knows where one ends.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::weights::Weights;
use crate::embed::math::attention::{self, Attention};
use crate::embed::math::matrix::{Aligned, Linear};
use crate::embed::math::ops::{Activation, Norm};
use crate::embed::spec::ModelDirectory;
use crate::embed::transformer::engine::{Engine, Output, Sequence, ranges};
use crate::{Error, Result};

/// What `config.json` says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_epsilon")]
    layer_norm_eps: f32,
    max_position_embeddings: usize,
    #[serde(default = "default_types")]
    type_vocab_size: usize,
    vocab_size: usize,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

fn default_activation() -> String {
    "gelu".into()
}

fn default_epsilon() -> f32 {
    1e-12
}

fn default_types() -> usize {
    2
}

impl Config {
    fn check(&self) -> std::result::Result<Activation, String> {
        if let Some(kind) = self.position_embedding_type.as_deref().filter(|&kind| kind != "absolute") {
            return Err(format!("position_embedding_type `{kind}` is not supported yet; only `absolute` is"));
        }
        let sizes = [("intermediate_size", self.intermediate_size), ("type_vocab_size", self.type_vocab_size)];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(format!("{name} is 0"));
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if hidden == 0 || heads == 0 || !hidden.is_multiple_of(heads) {
            return Err(format!("hidden_size {hidden} cannot be split into {heads} attention heads"));
        }
        match self.hidden_act.as_str() {
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => Err(format!(
                "hidden_act `{other}` is not supported yet; gelu, gelu_new, gelu_pytorch_tanh and relu are"
            )),
        }
    }
}

/// The encoder's weights.
pub(crate) struct Bert {
    config: Config,
    words: Vec<f32>,
    /// Positions plus the first token type.
    positions: Vec<f32>,
    /// What each token type adds to the first one.
    types: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    activation: Activation,
    /// Buffers of earlier runs, one for each thread that ever ran at the same time.
    scratches: Mutex<Vec<Scratch>>,
}

struct Layer {
    queries_keys_values: Linear,
    mix: Linear,
    mix_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

/// Buffers that are reused from one pack to the next.
#[derive(Default)]
struct Scratch {
    packed: Aligned,
    wide: Vec<f32>,
    mixed: Vec<f32>,
    attended: Vec<f32>,
    attention: attention::Scratch,
}

impl Bert {
    /// Loads it.
    ///
    /// # Errors
    /// [`Error::Model`] for a configuration that is not supported or weights that do not fit it.
    pub(crate) fn load(directory: &ModelDirectory) -> Result<Self> {
        let wrong = |reason: String| Error::model(directory.name(), format!("config.json: {reason}"));
        let config: Config =
            serde_json::from_value(directory.config.clone()).map_err(|error| wrong(error.to_string()))?;
        let activation = config.check().map_err(wrong)?;
        let weights = Weights::read(directory, "embeddings.word_embeddings.weight")?;
        let (hidden, count) = (config.hidden_size, config.max_position_embeddings);
        let words = weights.tensor("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let mut positions = weights.tensor("embeddings.position_embeddings.weight", &[count, hidden])?;
        let mut types = weights.tensor("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
        let first = types[..hidden].to_vec();
        positions.chunks_exact_mut(hidden).for_each(|position| add(position, &first));
        types.iter_mut().zip(first.iter().cycle()).for_each(|(value, first)| *value -= first);
        let norm = norm(&weights, "embeddings.LayerNorm", &config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&weights, &format!("encoder.layer.{index}"), &config))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { words, positions, types, norm, layers, activation, config, scratches: Mutex::default() })
    }

    /// The hidden states of `sequences`, which lie one after the other: `[tokens, hidden]`.
    ///
    /// Ids must lie within the vocabulary and sequences within the positions; the caller checks both.
    fn forward(&self, sequences: &[&Sequence], scratch: &mut Scratch) -> Vec<f32> {
        let mut states = self.embed(sequences);
        let ranges = ranges(sequences);
        for layer in &self.layers {
            layer.forward(&mut states, &ranges, self, scratch);
        }
        states
    }

    fn embed(&self, sequences: &[&Sequence]) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        let tokens: usize = sequences.iter().map(|sequence| sequence.len()).sum();
        let mut states = Vec::with_capacity(tokens * hidden);
        for sequence in sequences {
            let mut types = sequence.types.iter();
            for (&id, position) in sequence.ids.iter().zip(self.positions.chunks_exact(hidden)) {
                let start = states.len();
                states.extend_from_slice(&self.words[id as usize * hidden..][..hidden]);
                add(&mut states[start..], position);
                if let Some(&kind) = types.next().filter(|&&kind| kind > 0) {
                    add(&mut states[start..], &self.types[kind as usize * hidden..][..hidden]);
                }
            }
        }
        self.norm.apply(&mut states);
        states
    }
}

impl Engine for Bert {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    fn output(&self) -> Output {
        Output::Tokens
    }

    fn width(&self) -> usize {
        self.config.hidden_size
    }

    fn run(&self, pack: &[&Sequence]) -> Result<Vec<f32>> {
        let scratches = || self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = scratches().pop().unwrap_or_default();
        let states = self.forward(pack, &mut scratch);
        scratches().push(scratch);
        Ok(states)
    }
}

impl Layer {
    fn load(weights: &Weights, name: &str, config: &Config) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |part: &str, outputs: usize, inputs: usize| -> Result<(Vec<f32>, Vec<f32>)> {
            let matrix = weights.tensor(&format!("{name}.{part}.weight"), &[outputs, inputs])?;
            let bias = weights.tensor(&format!("{name}.{part}.bias"), &[outputs])?;
            Ok((matrix, bias))
        };
        let packed = |part: &str, outputs: usize, inputs: usize| {
            linear(part, outputs, inputs).map(|(matrix, bias)| Linear::new(&matrix, bias, inputs))
        };
        let (mut matrix, mut bias) = linear("attention.self.query", hidden, hidden)?;
        // Dividing the queries once, here, spares dividing every score.
        let scale = 1.0 / ((hidden / config.num_attention_heads) as f32).sqrt();
        matrix.iter_mut().chain(&mut bias).for_each(|value| *value *= scale);
        for part in ["attention.self.key", "attention.self.value"] {
            let (more, more_bias) = linear(part, hidden, hidden)?;
            matrix.extend(more);
            bias.extend(more_bias);
        }
        Ok(Self {
            queries_keys_values: Linear::new(&matrix, bias, hidden),
            mix: packed("attention.output.dense", hidden, hidden)?,
            mix_norm: norm(weights, &format!("{name}.attention.output.LayerNorm"), config)?,
            up: packed("intermediate.dense", inner, hidden)?,
            down: packed("output.dense", hidden, inner)?,
            down_norm: norm(weights, &format!("{name}.output.LayerNorm"), config)?,
        })
    }

    fn forward(&self, states: &mut [f32], sequences: &[Range<usize>], bert: &Bert, scratch: &mut Scratch) {
        let Config { hidden_size: hidden, num_attention_heads: heads, intermediate_size: inner, .. } = bert.config;
        let tokens = states.len() / hidden;
        let Scratch { packed, wide, mixed, attended, attention } = scratch;
        wide.resize(tokens * (3 * hidden).max(inner), 0.0);
        mixed.resize(tokens * hidden, 0.0);
        attended.resize(tokens * hidden, 0.0);

        let qkv = &mut wide[..tokens * 3 * hidden];
        self.queries_keys_values.apply(states, tokens, qkv, packed);
        Attention { qkv, sequences, hidden, heads, out: attended, scratch: attention }.run();
        self.mix.apply(attended, tokens, mixed, packed);
        self.mix_norm.add_and_apply(mixed, states);

        let inside = &mut wide[..tokens * inner];
        self.up.apply(mixed, tokens, inside, packed);
        bert.activation.apply(inside);
        self.down.apply(inside, tokens, states, packed);
        self.down_norm.add_and_apply(states, mixed);
    }
}

fn norm(weights: &Weights, name: &str, config: &Config) -> Result<Norm> {
    let (weight, bias) = weights.norm(name, config.hidden_size)?;
    Ok(Norm { weight, bias, epsilon: config.layer_norm_eps })
}

fn add(row: &mut [f32], other: &[f32]) {
    row.iter_mut().zip(other).for_each(|(value, added)| *value += added);
}
