//! How does a BERT run on a graphics card? As tensors of candle, texts padded to the longest.
//!
//! The same code runs on every device that candle has; the tests run it on the CPU, where our own kernels are faster and
//! are what a user gets. On a card sums have another order in packs of other shapes, so that a vector may differ in its last
//! digits with its neighbours; a padded token never counts.

use candle_core::{D, Device, Result as Computed, Tensor};

use super::{Config, WORDS};
use crate::embed::candle::config;
use crate::embed::candle::embeddings::Numbering;
use crate::embed::candle::weights::Weights;
use crate::embed::math::ops::Activation;
use crate::embed::spec::ModelDirectory;
use crate::embed::transformer::engine::{Engine, Output, Sequence};
use crate::{Error, Result};

/// Tokens that go through a card together: enough to keep it busy, few enough for the scores of the longest text.
const PACK_TOKENS_MAX: usize = 8192;
/// Added to the scores of padding; its share is then exactly 0.
const MASKED: f32 = -1e9;

/// A BERT on a device.
pub(crate) struct DeviceBert {
    device: Device,
    /// As the user names it.
    name: String,
    words: Tensor,
    places: Tensor,
    kinds: Tensor,
    numbering: Numbering,
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
    activation: Activation,
}

struct Layer {
    queries: Linear,
    keys: Linear,
    values: Linear,
    mix: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

struct Linear {
    /// `[inputs, outputs]`.
    matrix: Tensor,
    bias: Tensor,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

/// Puts tensors of a file on a device.
struct Place<'a> {
    weights: &'a Weights,
    device: &'a Device,
    epsilon: f64,
}

impl DeviceBert {
    /// Loads a BERT or, with `of_roberta`, one of RoBERTa's family.
    ///
    /// # Errors
    /// As the loader for the CPU; [`Error::Model`] also for JinaBERT.
    pub(crate) fn load(directory: &ModelDirectory, of_roberta: bool, device: Device, name: String) -> Result<Self> {
        let config: Config = config::read(directory, &[], |config: &Config| config.check(of_roberta))?;
        if config.places() == "alibi" || config.network() != "original" {
            let reason = format!("JinaBERT's positions and networks do not run on `{name}` yet; leave out --device");
            return Err(Error::model(directory.name(), reason));
        }
        let weights = Weights::read(directory, WORDS)?;
        let (hidden, epsilon) = (config.hidden_size, f64::from(config.layer_norm_eps));
        let at = Place { weights: &weights, device: &device, epsilon };
        let table = |part: &str, rows| at.tensor(&format!("embeddings.{part}.weight"), &[rows, hidden]);
        let (words, places) = (
            table("word_embeddings", config.vocab_size)?,
            table("position_embeddings", config.max_position_embeddings)?,
        );
        let kinds = table("token_type_embeddings", config.type_vocab_size)?;
        let layers = (0..config.num_hidden_layers).map(|index| at.layer(&config, index)).collect::<Result<_>>()?;
        let refused = |reason: config::Refusal| config::refused(directory, &reason);
        let plain =
            if of_roberta { Numbering::AfterPadding(config.pad_token_id.unwrap_or(1)) } else { Numbering::Plain };
        Ok(Self {
            words,
            places,
            kinds,
            numbering: plain,
            norm: at.norm("embeddings.LayerNorm", hidden)?,
            layers,
            heads: config::even_heads(hidden, config.num_attention_heads).map_err(refused)?.queries,
            activation: config.activation().map_err(refused)?,
            device,
            name,
        })
    }

    fn hidden(&self) -> usize {
        self.words.dims().get(1).copied().unwrap_or(0)
    }

    /// The place and the type of a token, with the bounds looked at: a card does not look.
    fn rows_of(&self, sequence: &Sequence) -> Result<Vec<[u32; 3]>> {
        let beyond = |what: &str, id: u32, table: &Tensor| {
            let rows = table.dims().first().copied().unwrap_or(0);
            let reason = format!("{what} {id} is not among the {rows} that the model has");
            if (id as usize) < rows { Ok(id) } else { Err(Error::Embedding(reason)) }
        };
        let mut counted = 0;
        let mut of_token = |(place, &id): (usize, &u32)| {
            let place = match self.numbering {
                Numbering::Plain => place as u32,
                Numbering::AfterPadding(padding) => {
                    counted += u32::from(id != padding);
                    padding + if id == padding { 0 } else { counted }
                }
            };
            // RoBERTa's family is never given types.
            let kind = match self.numbering {
                Numbering::Plain => sequence.types.get(place as usize).copied().unwrap_or(0),
                Numbering::AfterPadding(_) => 0,
            };
            Ok([
                beyond("token id", id, &self.words)?,
                beyond("position", place, &self.places)?,
                beyond("token type", kind, &self.kinds)?,
            ])
        };
        sequence.ids.iter().enumerate().map(&mut of_token).collect()
    }

    /// The states of texts padded to `longest`, `[texts, longest, hidden]`, and of padding whatever comes out.
    fn states(&self, rows: &[Vec<[u32; 3]>], longest: usize) -> Computed<Tensor> {
        let (count, hidden) = (rows.len(), self.hidden());
        let padded = |which: usize| {
            let of_text = |text: &Vec<[u32; 3]>| -> Vec<u32> {
                let ids = text.iter().map(|row| row[which]);
                ids.chain(std::iter::repeat_n(0, longest - text.len())).collect()
            };
            Tensor::from_vec(rows.iter().flat_map(of_text).collect::<Vec<u32>>(), count * longest, &self.device)
        };
        let shares =
            |text: &Vec<[u32; 3]>| (0..longest).map(|place| if place < text.len() { 0.0 } else { MASKED }).collect();
        let mask = rows.iter().flat_map(|text| -> Vec<f32> { shares(text) }).collect::<Vec<f32>>();
        let mask = Tensor::from_vec(mask, (count, 1, 1, longest), &self.device)?;
        let states = self.words.index_select(&padded(0)?, 0)?;
        let states = states.add(&self.places.index_select(&padded(1)?, 0)?)?;
        let mut states = self.norm.apply(&states.add(&self.kinds.index_select(&padded(2)?, 0)?)?)?;
        for layer in &self.layers {
            let attended = layer.attend(&states, &mask, self.heads)?;
            states = layer.attention_norm.apply(&states.add(&attended)?)?;
            let inner = activated(self.activation, &layer.up.apply(&states)?)?;
            states = layer.norm.apply(&states.add(&layer.down.apply(&inner)?)?)?;
        }
        states.reshape((count, longest, hidden))
    }
}

impl Engine for DeviceBert {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn device(&self) -> &str {
        &self.name
    }

    fn vocabulary(&self) -> usize {
        self.words.dims().first().copied().unwrap_or(0)
    }

    fn output(&self) -> Output {
        Output::Tokens
    }

    fn width(&self) -> usize {
        self.hidden()
    }

    fn pack_tokens(&self) -> usize {
        PACK_TOKENS_MAX
    }

    fn run(&self, pack: &[&Sequence]) -> Result<Vec<f32>> {
        let rows = pack.iter().map(|sequence| self.rows_of(sequence)).collect::<Result<Vec<_>>>()?;
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let failed = |error| Error::Embedding(format!("candle failed on {}: {error}", self.name));
        let states = self.states(&rows, longest).and_then(|states| states.flatten_all()?.to_vec1::<f32>());
        let (states, hidden) = (states.map_err(failed)?, self.hidden());
        let texts = states.chunks_exact(longest * hidden).zip(&rows);
        Ok(texts.flat_map(|(states, text)| &states[..text.len() * hidden]).copied().collect())
    }
}

impl Layer {
    fn attend(&self, states: &Tensor, mask: &Tensor, heads: usize) -> Computed<Tensor> {
        let (count, longest, hidden) = (mask.dim(0)?, mask.dim(3)?, states.dim(1)?);
        let size = hidden / heads;
        let split = |linear: &Linear| {
            linear.apply(states)?.reshape((count, longest, heads, size))?.transpose(1, 2)?.contiguous()
        };
        let (queries, keys, values) = (split(&self.queries)?, split(&self.keys)?, split(&self.values)?);
        let scores = (queries.matmul(&keys.t()?.contiguous()?)? / (size as f64).sqrt())?.broadcast_add(mask)?;
        let shares = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let shares = shares.broadcast_div(&shares.sum_keepdim(D::Minus1)?)?;
        let mixed = shares.matmul(&values)?.transpose(1, 2)?.contiguous()?;
        self.mix.apply(&mixed.reshape((count * longest, hidden))?)
    }
}

impl Linear {
    fn apply(&self, rows: &Tensor) -> Computed<Tensor> {
        rows.matmul(&self.matrix)?.broadcast_add(&self.bias)
    }
}

impl Norm {
    fn apply(&self, rows: &Tensor) -> Computed<Tensor> {
        let centred = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

fn activated(function: Activation, rows: &Tensor) -> Computed<Tensor> {
    match function {
        Activation::Gelu => rows.gelu_erf(),
        Activation::GeluTanh => rows.gelu(),
        Activation::QuickGelu => rows.mul(&((rows * -1.702)?.exp()? + 1.0)?.recip()?),
        Activation::Relu => rows.relu(),
        Activation::Silu => rows.silu(),
        Activation::Tanh => rows.tanh(),
    }
}

impl Place<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.put(name, self.weights.tensor(name, shape)?, shape)
    }

    fn put(&self, name: &str, values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        let failed = |error| Error::Embedding(format!("the tensor {name} cannot be put on the device: {error}"));
        Tensor::from_vec(values, shape, self.device).map_err(failed)
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm> {
        let norm = self.weights.norm(name, width, self.epsilon as f32, true)?;
        let put = |values| self.put(name, values, &[width]);
        Ok(Norm { weight: put(norm.weight)?, bias: put(norm.bias)?, epsilon: self.epsilon })
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let failed = |error| Error::Embedding(format!("the tensor {name} cannot be put on the device: {error}"));
        let turned = |matrix: Tensor| matrix.t()?.contiguous();
        let matrix = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = self.tensor(&format!("{name}.bias"), &[outputs])?;
        Ok(Linear { matrix: turned(matrix).map_err(failed)?, bias })
    }

    fn layer(&self, config: &Config, index: usize) -> Result<Layer> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let attend = |part: &str| self.linear(&name(&format!("attention.{part}")), hidden, hidden);
        Ok(Layer {
            queries: attend("self.query")?,
            keys: attend("self.key")?,
            values: attend("self.value")?,
            mix: attend("output.dense")?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), hidden)?,
            up: self.linear(&name("intermediate.dense"), inner, hidden)?,
            down: self.linear(&name("output.dense"), hidden, inner)?,
            norm: self.norm(&name("output.LayerNorm"), hidden)?,
        })
    }
}
