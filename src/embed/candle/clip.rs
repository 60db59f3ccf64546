//! How is a CLIP built from its files (Radford et al., "Learning Transferable Visual Models From Natural Language
//! Supervision", 2021)? Two transformers, one that reads texts and one that reads patches of pictures, each projected into
//! one space.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::config::{self, Refusal};
use super::embeddings::{Embeddings, Numbering};
use super::encoder::{Encoder, FeedForward, Layer, Norms, SelfAttention, Stack};
use super::post_norm::together;
use super::weights::Weights;
use crate::embed::files::Files;
use crate::embed::math::attention::{Heads, Reach};
use crate::embed::math::bias::Bias;
use crate::embed::math::matrix::{Aligned, Linear};
use crate::embed::math::ops::{Activation, Norm, add};
use crate::embed::pixels::Preparation;
use crate::embed::spec::{ModelDirectory, tower};
use crate::embed::transformer::engine::{Engine, Output, Sequence, ranges};
use crate::images::Image;
use crate::{Error, Result};

/// What `config.json` says of the whole.
#[derive(Debug, Deserialize)]
struct Whole {
    #[serde(default = "projection")]
    projection_dim: usize,
}

fn projection() -> usize {
    512
}

/// What it says of either tower.
#[derive(Debug, Deserialize)]
struct Tower {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_act: String,
    layer_norm_eps: f32,
}

/// What it says of texts alone.
#[derive(Debug, Deserialize)]
struct TextConfig {
    vocab_size: usize,
    max_position_embeddings: usize,
    eos_token_id: u32,
}

/// What it says of pictures alone.
#[derive(Debug, Deserialize)]
struct VisionConfig {
    image_size: usize,
    patch_size: usize,
    num_channels: usize,
}

/// The defaults of transformers.
fn text_defaults() -> Value {
    json!({"vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
           "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
           "eos_token_id": 49407})
}

fn vision_defaults() -> Value {
    json!({"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
           "num_channels": 3, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5})
}

/// Which tensor holds the words, after the prefix.
const WORDS: &str = "text_model.embeddings.token_embedding.weight";

/// The id that old files give for the end of texts, and that no vocabulary has: then the highest id of a text ends it.
const LEGACY_END: u32 = 2;

/// Both towers.
pub(super) struct Clip {
    text: Text,
    /// None where no file says how pictures are prepared.
    vision: Option<Vision>,
    width: usize,
}

struct Text {
    encoder: Encoder,
    end: u32,
    projection: Linear,
}

struct Vision {
    preparation: Preparation,
    /// Pixels of a patch's side.
    patch: usize,
    patches: Linear,
    /// What stands for the whole picture, before the patches; its place included.
    class: Vec<f32>,
    /// The places of the patches: `[patches, hidden]`.
    places: Vec<f32>,
    before: Norm,
    stack: Stack,
    after: Norm,
    projection: Linear,
}

impl Clip {
    /// Loads it.
    pub(super) fn load(directory: &ModelDirectory) -> Result<Self> {
        let whole: Whole = config::read(directory, &[], |whole: &Whole| {
            config::positive(&[("projection_dim", whole.projection_dim)])
        })?;
        let weights = Weights::read(directory, WORDS)?;
        let width = whole.projection_dim;
        let text = Text::load(directory, &weights, width)?;
        let vision = directory.preprocessor.is_some().then(|| Vision::load(directory, &weights, width)).transpose()?;
        Ok(Self { text, vision, width })
    }
}

impl Engine for Clip {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn vocabulary(&self) -> usize {
        self.text.encoder.vocabulary()
    }

    fn output(&self) -> Output {
        Output::Pooled
    }

    fn width(&self) -> usize {
        self.width
    }

    fn run(&self, pack: &[&Sequence]) -> Result<Vec<f32>> {
        self.text.run(pack)
    }

    fn image_tokens(&self) -> Option<usize> {
        self.vision.as_ref().map(Vision::tokens)
    }

    fn run_images(&self, images: &[Image]) -> Result<Vec<f32>> {
        match &self.vision {
            Some(vision) => Ok(vision.run(images)),
            None => Err(Error::invalid("the model reads no images")),
        }
    }
}

impl Text {
    fn load(directory: &ModelDirectory, weights: &Weights, width: usize) -> Result<Self> {
        let (tower, config): (Tower, TextConfig) = tower_config(directory, "text", text_defaults())?;
        let hidden = tower.hidden_size;
        let place = |name: &str| format!("text_model.{name}");
        let positions = [config.max_position_embeddings, hidden];
        let positions = weights.tensor(&place("embeddings.position_embedding.weight"), &positions)?;
        let embeddings = Embeddings::new(weights.tensor(WORDS, &[config.vocab_size, hidden])?, hidden)
            .with_positions(positions, Numbering::Plain);
        let layers = tower.layers(directory, weights, "text_model", Reach::CAUSAL)?;
        let norm = weights.norm(&place("final_layer_norm"), hidden, tower.layer_norm_eps, true)?;
        let encoder = Encoder::new(embeddings, Vec::new(), layers, Some(norm));
        let projection = weights.dense("text_projection", width, hidden, false)?.pack();
        Ok(Self { encoder, end: config.eos_token_id, projection })
    }

    fn run(&self, pack: &[&Sequence]) -> Result<Vec<f32>> {
        let (states, hidden) = (self.encoder.forward(pack)?, self.encoder.hidden());
        let mut rows = Vec::with_capacity(pack.len() * hidden);
        for (sequence, range) in pack.iter().zip(ranges(pack)) {
            let row = range.start + self.end_of(&sequence.ids);
            rows.extend_from_slice(&states[row * hidden..(row + 1) * hidden]);
        }
        Ok(projected(&self.projection, &rows, pack.len()))
    }

    /// The place of the token that ends a text: the first of its id, or, as in transformers, the first token where there is
    /// none; in old files, the first of those with the highest id.
    fn end_of(&self, ids: &[u32]) -> usize {
        let end = if self.end == LEGACY_END { ids.iter().copied().max() } else { Some(self.end) };
        ids.iter().position(|&id| Some(id) == end).unwrap_or(0)
    }
}

impl Vision {
    fn load(directory: &ModelDirectory, weights: &Weights, width: usize) -> Result<Self> {
        let (tower, config): (Tower, VisionConfig) = tower_config(directory, "vision", vision_defaults())?;
        let refused = |reason: Refusal| config::refused(directory, &format!("vision_config: {reason}"));
        let VisionConfig { image_size, patch_size, num_channels } = config;
        config::positive(&[("patch_size", patch_size)]).map_err(refused)?;
        if num_channels != 3 || patch_size > image_size {
            let reason = format!(
                "pictures of {image_size}x{image_size} with {num_channels} channels in patches of {patch_size}x{patch_size} \
                 are not supported; 3 channels, and patches no larger than the picture, are"
            );
            return Err(refused(reason));
        }
        let files = Files::of(&directory.path)?;
        let settings = directory.preprocessor.as_deref().unwrap_or(&directory.path);
        let preparation = Preparation::read(&files, settings, image_size)?;
        let (hidden, epsilon) = (tower.hidden_size, tower.layer_norm_eps);
        let count = (image_size / patch_size) * (image_size / patch_size);
        let place = |name: &str| format!("vision_model.{name}");
        let shape = [hidden, 3, patch_size, patch_size];
        let kernel = weights.tensor(&place("embeddings.patch_embedding.weight"), &shape)?;
        let mut class = weights.tensor(&place("embeddings.class_embedding"), &[hidden])?;
        let mut places = weights.tensor(&place("embeddings.position_embedding.weight"), &[count + 1, hidden])?;
        add(&mut class, &places[..hidden]);
        places.drain(..hidden);
        // As its authors spelled it.
        let before = weights.norm(&place("pre_layrnorm"), hidden, epsilon, true)?;
        let layers = tower.layers(directory, weights, "vision_model", Reach::ALL)?;
        Ok(Self {
            preparation,
            patch: patch_size,
            patches: Linear::new(&kernel, vec![0.0; hidden], 3 * patch_size * patch_size),
            class,
            places,
            before,
            stack: Stack::new(hidden, Vec::new(), layers, None),
            after: weights.norm(&place("post_layernorm"), hidden, epsilon, true)?,
            projection: weights.dense("visual_projection", width, hidden, false)?.pack(),
        })
    }

    /// A row for each patch, and the one that stands for all.
    fn tokens(&self) -> usize {
        self.places.len() / self.class.len() + 1
    }

    fn run(&self, images: &[Image]) -> Vec<f32> {
        let (hidden, tokens) = (self.class.len(), self.tokens());
        let mut patches = Vec::new();
        images.iter().for_each(|image| self.preparation.patches(image, self.patch, &mut patches));
        let mut rows = vec![0.0; images.len() * (tokens - 1) * hidden];
        self.patches.apply(&patches, images.len() * (tokens - 1), &mut rows, &mut Aligned::default());
        let mut states = Vec::with_capacity(images.len() * tokens * hidden);
        for rows in rows.chunks_exact_mut(self.places.len()) {
            add(rows, &self.places);
            states.extend_from_slice(&self.class);
            states.extend_from_slice(rows);
        }
        self.before.apply(&mut states);
        let sequences: Vec<_> = (0..images.len()).map(|image| image * tokens..(image + 1) * tokens).collect();
        self.stack.apply(&mut states, &sequences);
        let mut rows: Vec<f32> =
            states.chunks_exact(tokens * hidden).flat_map(|states| &states[..hidden]).copied().collect();
        self.after.apply(&mut rows);
        projected(&self.projection, &rows, images.len())
    }
}

fn projected(projection: &Linear, rows: &[f32], count: usize) -> Vec<f32> {
    let mut out = vec![0.0; count * projection.outputs()];
    projection.apply(rows, count, &mut out, &mut Aligned::default());
    out
}

/// What `config.json` says of a tower, over transformers' defaults: what both have, and what only this one has.
fn tower_config<T: DeserializeOwned>(
    directory: &ModelDirectory,
    name: &str,
    mut settings: Value,
) -> Result<(Tower, T)> {
    let refused = |reason: Refusal| config::refused(directory, &format!("{name}_config: {reason}"));
    let given = directory.config.as_object().and_then(|config| tower(config, name));
    for (key, value) in given.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        settings[key] = value.clone();
    }
    let wrong = |error: serde_json::Error| refused(error.to_string());
    let tower: Tower = Deserialize::deserialize(&settings).map_err(wrong)?;
    tower.check().map_err(refused)?;
    Ok((tower, serde_json::from_value(settings).map_err(wrong)?))
}

impl Tower {
    fn check(&self) -> std::result::Result<(), Refusal> {
        config::positive(&[("intermediate_size", self.intermediate_size)])?;
        self.heads()?;
        self.activation().map(|_| ())
    }

    fn heads(&self) -> std::result::Result<Heads, Refusal> {
        config::even_heads(self.hidden_size, self.num_attention_heads)
    }

    fn activation(&self) -> std::result::Result<Activation, Refusal> {
        config::activation("hidden_act", &self.hidden_act)
    }

    fn layers(&self, directory: &ModelDirectory, weights: &Weights, tower: &str, reach: Reach) -> Result<Vec<Layer>> {
        let refused = |reason: Refusal| config::refused(directory, &reason);
        let heads = self.heads().map_err(refused)?;
        let activation = self.activation().map_err(refused)?;
        let named = |index| format!("{tower}.encoder.layers.{index}");
        (0..self.num_hidden_layers).map(|index| self.layer(weights, &named(index), heads, activation, reach)).collect()
    }

    fn layer(
        &self,
        weights: &Weights,
        name: &str,
        heads: Heads,
        activation: Activation,
        reach: Reach,
    ) -> Result<Layer> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let norm = |part: &str| weights.norm(&format!("{name}.{part}"), hidden, self.layer_norm_eps, true);
        let dense = |part: &str, outputs, inputs| weights.dense(&format!("{name}.{part}"), outputs, inputs, true);
        let attend = |part: &str| dense(&format!("self_attn.{part}"), hidden, hidden);
        let [queries, keys, values] = ["q_proj", "k_proj", "v_proj"].map(attend);
        Ok(Layer {
            attention: SelfAttention {
                heads,
                project: together(queries?, keys?, values?, heads, heads.root()).pack(),
                head_norms: None,
                rotary: None,
                reach,
                bias: Arc::new(Bias::None),
                mix: attend("out_proj")?.pack(),
            },
            attention_norms: Norms::before(norm("layer_norm1")?),
            feed_forward: FeedForward {
                up: dense("mlp.fc1", inner, hidden)?.pack(),
                activation,
                gated: false,
                down: dense("mlp.fc2", hidden, inner)?.pack(),
            },
            feed_forward_norms: Norms::before(norm("layer_norm2")?),
        })
    }
}
