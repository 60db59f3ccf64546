//! What does a cross-encoder say of a pair of texts? An encoder, one row of its states, and one or two linear layers.
//!
//! Gives logits: sigmoid or softmax are the caller's.

use std::sync::Mutex;

use super::encoder::Encoder;
use super::weights::Weights;
use super::{config, deberta, modernbert, qwen3};
use crate::embed::math::matrix::{Aligned, Linear};
use crate::embed::math::ops::{Activation, Norm};
use crate::embed::spec::ModelDirectory;
use crate::embed::transformer::engine::{Engine, Output, Sequence, ranges};
use crate::{Error, Result};

/// Which row of a sequence's states the head sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    First,
    Last,
    Mean,
}

/// An encoder with a head.
pub(crate) struct Classifier {
    encoder: Encoder,
    seen: Seen,
    middle: Option<Middle>,
    out: Linear,
    /// Buffers of earlier runs.
    packed: Mutex<Vec<Aligned>>,
}

/// The layer before the last.
struct Middle {
    dense: Linear,
    activation: Activation,
    norm: Option<Norm>,
}

/// The names of a head's parts.
struct Head<'a> {
    /// Relative to the encoder's prefix or not at all, and its name.
    middle: (&'a Weights, &'a str),
    activation: Activation,
    out: &'a str,
}

impl Classifier {
    /// Puts the head of `architecture` on its encoder.
    pub(super) fn load(
        directory: &ModelDirectory,
        architecture: &str,
        (encoder, weights): (Encoder, Weights),
    ) -> Result<Self> {
        let root = weights.unprefixed();
        let named = |activation, middle, out| Head { middle: (&root, middle), activation, out };
        let head = match architecture {
            "bert" => Head { middle: (&weights, "pooler.dense"), activation: Activation::Tanh, out: "classifier" },
            "roberta" | "xlm-roberta" | "camembert" | "mpnet" => {
                named(Activation::Tanh, "classifier.dense", "classifier.out_proj")
            }
            "distilbert" => named(Activation::Relu, "pre_classifier", "classifier"),
            "deberta-v2" => return Self::deberta(directory, encoder, &root),
            "modernbert" => return Self::modernbert(directory, encoder, &root),
            "qwen3" => {
                let out = out(directory, &root, "score", encoder.hidden(), false)?;
                return Ok(Self::new(encoder, Seen::Last, None, out));
            }
            other => {
                let known = super::CLASSIFIERS.join(", ");
                let reason = format!("a classification head on `{other}` is not supported yet; supported: {known}");
                return Err(Error::model(directory.name(), reason));
            }
        };
        let (hidden, Head { middle: (place, name), activation, out: last }) = (encoder.hidden(), head);
        let last = out(directory, &root, last, hidden, true)?;
        let dense = place.dense(name, hidden, hidden, true)?.pack();
        Ok(Self::new(encoder, Seen::First, Some(Middle { dense, activation, norm: None }), last))
    }

    fn deberta(directory: &ModelDirectory, encoder: Encoder, root: &Weights) -> Result<Self> {
        let config = deberta::Config::read(directory)?;
        let refused = |reason: config::Refusal| config::refused(directory, &reason);
        let hidden = config.hidden_size;
        if let Some(size) = config.pooler_hidden_size.filter(|&size| size != hidden) {
            return Err(refused(format!("pooler_hidden_size {size} is not supported yet; only {hidden} is here")));
        }
        let activation = config::activation("pooler_hidden_act", &config.pooler_hidden_act).map_err(refused)?;
        let out = out(directory, root, "classifier", hidden, true)?;
        let dense = root.dense("pooler.dense", hidden, hidden, true)?.pack();
        Ok(Self::new(encoder, Seen::First, Some(Middle { dense, activation, norm: None }), out))
    }

    fn modernbert(directory: &ModelDirectory, encoder: Encoder, root: &Weights) -> Result<Self> {
        let config = modernbert::Config::read(directory)?;
        let refused = |reason: config::Refusal| config::refused(directory, &reason);
        let hidden = config.hidden_size;
        let activation = config::activation("classifier_activation", &config.classifier_activation).map_err(refused)?;
        let out = out(directory, root, "classifier", hidden, true)?;
        let dense = root.dense("head.dense", hidden, hidden, config.classifier_bias)?.pack();
        let middle = Middle { dense, activation, norm: Some(config.norm(root, "head.norm")?) };
        let seen = if config.classifier_pooling == "mean" { Seen::Mean } else { Seen::First };
        Ok(Self::new(encoder, seen, Some(middle), out))
    }

    /// A language model that is asked how likely two tokens are to come next.
    pub(super) fn of_tokens(directory: &ModelDirectory, yes: u32, no: u32) -> Result<Self> {
        let (encoder, weights) = qwen3::load(directory)?;
        let (hidden, root) = (encoder.hidden(), weights.unprefixed());
        // A head of its own unless it is tied to the words.
        let tied = directory.config["tie_word_embeddings"].as_bool().unwrap_or(false);
        let head = (!tied && root.holds("lm_head.weight"))
            .then(|| root.tensor("lm_head.weight", &[encoder.vocabulary(), hidden]))
            .transpose()?;
        let mut rows = Vec::with_capacity(2 * hidden);
        for id in [yes, no] {
            let beyond = |error: Error| Error::model(directory.name(), error.to_string());
            let word = encoder.embeddings.word(id).map_err(beyond)?;
            rows.extend_from_slice(head.as_ref().map_or(word, |head| &head[id as usize * hidden..][..hidden]));
        }
        Ok(Self::new(encoder, Seen::Last, None, Linear::new(&rows, vec![0.0; 2], hidden)))
    }

    fn new(encoder: Encoder, seen: Seen, middle: Option<Middle>, out: Linear) -> Self {
        Self { encoder, seen, middle, out, packed: Mutex::default() }
    }

    /// The row that the head sees of each sequence.
    fn rows(&self, pack: &[&Sequence], states: &[f32]) -> Vec<f32> {
        let hidden = self.encoder.hidden();
        let mut rows = Vec::with_capacity(pack.len() * hidden);
        for range in ranges(pack).into_iter().filter(|range| !range.is_empty()) {
            let tokens = range.len() as f32;
            let own = &states[range.start * hidden..range.end * hidden];
            match self.seen {
                Seen::First => rows.extend_from_slice(&own[..hidden]),
                Seen::Last => rows.extend_from_slice(&own[own.len() - hidden..]),
                Seen::Mean => {
                    let sum = |place: usize| own[place..].iter().step_by(hidden).sum::<f32>();
                    rows.extend((0..hidden).map(|place| sum(place) / tokens));
                }
            }
        }
        rows
    }
}

/// The last layer, whose tensor tells how many labels there are.
fn out(directory: &ModelDirectory, root: &Weights, name: &str, hidden: usize, biased: bool) -> Result<Linear> {
    let Some(labels) = root.rows(&format!("{name}.weight")).filter(|&labels| labels > 0) else {
        let reason = format!("its weights hold no classification head (`{name}.weight`): it is not a cross-encoder");
        return Err(Error::model(directory.name(), reason));
    };
    let stated = directory.config["id2label"].as_object().map(serde_json::Map::len);
    let stated = stated.or(directory.config["num_labels"].as_u64().and_then(|count| usize::try_from(count).ok()));
    if let Some(stated) = stated.filter(|&stated| stated != labels) {
        let reason = format!("{stated} labels, but the tensor `{name}.weight` has {labels} rows");
        return Err(config::refused(directory, &reason));
    }
    Ok(root.dense(name, labels, hidden, biased)?.pack())
}

impl Engine for Classifier {
    fn name(&self) -> &'static str {
        self.encoder.name()
    }

    fn vocabulary(&self) -> usize {
        self.encoder.vocabulary()
    }

    fn output(&self) -> Output {
        Output::Sequences
    }

    fn width(&self) -> usize {
        self.out.outputs()
    }

    fn run(&self, pack: &[&Sequence]) -> Result<Vec<f32>> {
        let states = self.encoder.forward(pack)?;
        let mut rows = self.rows(pack, &states);
        let count = rows.len() / self.encoder.hidden();
        let buffers = || self.packed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut packed = buffers().pop().unwrap_or_default();
        if let Some(Middle { dense, activation, norm }) = &self.middle {
            let mut inner = vec![0.0; count * dense.outputs()];
            dense.apply(&rows, count, &mut inner, &mut packed);
            activation.apply(&mut inner);
            if let Some(norm) = norm {
                norm.apply(&mut inner);
            }
            rows = inner;
        }
        let mut logits = vec![0.0; count * self.out.outputs()];
        self.out.apply(&rows, count, &mut logits, &mut packed);
        buffers().push(packed);
        Ok(logits)
    }
}
