//! How are safetensors run, in f32, on this CPU, and BERT and its kin on graphics cards?
//!
//! candle reads the weights; the products are in `math`. The tokens of a pack lie one after the other without padding, and a
//! text's states have the same bits whatever stands beside it. `encoder` holds what the architectures share; each has a
//! file that fills it from its configuration and tensors.

use self::classifier::Classifier;
pub(crate) use self::device::load as load_on;
use self::encoder::Encoder;
use self::weights::Weights;
use super::spec::{CLIP, ModelDirectory};
use super::transformer::engine::Engine;
use crate::{Error, Result};

mod bert;
mod classifier;
mod clip;
mod config;
mod deberta;
mod device;
mod distilbert;
mod embeddings;
mod encoder;
mod gemma3;
mod modernbert;
mod mpnet;
mod nomic;
mod post_norm;
mod qwen3;
mod weights;

/// Builds an encoder; the weights are given back for those who want a head from them.
type Loader = fn(&ModelDirectory) -> Result<(Encoder, Weights)>;

/// The architectures that run here, as `config.json` calls them. JinaBERT v2 calls itself `bert`.
const ARCHITECTURES: [(&str, Loader); 11] = [
    ("bert", bert::load),
    ("roberta", bert::load_roberta),
    ("xlm-roberta", bert::load_roberta),
    ("camembert", bert::load_roberta),
    ("distilbert", distilbert::load),
    ("mpnet", mpnet::load),
    ("modernbert", modernbert::load),
    ("nomic_bert", nomic::load),
    ("deberta-v2", deberta::load),
    ("qwen3", qwen3::load),
    ("gemma3_text", gemma3::load),
];

/// Whether an architecture runs here, as its files call it or, JinaBERT v2, as people do.
pub(crate) fn runs(architecture: &str) -> bool {
    architecture == "jina_bert" || architecture == CLIP || ARCHITECTURES.iter().any(|(name, _)| *name == architecture)
}

/// Those that have classification heads here.
const CLASSIFIERS: [&str; 9] =
    ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "modernbert", "deberta-v2", "qwen3"];

/// Whether a cross-encoder of this architecture runs here.
pub(crate) fn judges(architecture: &str) -> bool {
    CLASSIFIERS.contains(&architecture)
}

/// Loads the encoder of a directory.
///
/// # Errors
/// [`Error::Model`] for an architecture or a setting that is not supported, or weights that do not fit.
pub(crate) fn load(directory: &ModelDirectory) -> Result<Box<dyn Engine>> {
    if directory.architecture.value == CLIP {
        return Ok(Box::new(clip::Clip::load(directory)?));
    }
    let (encoder, _) = encoder(directory)?;
    Ok(Box::new(encoder))
}

/// Loads a cross-encoder, an encoder with a classification head: a row of logits for each sequence, which is a pair of
/// texts with their special tokens and types. Its width is the number of labels, 1 for most rerankers.
///
/// # Errors
/// As [`load`], and where the weights hold no head or the architecture has none here.
pub(crate) fn load_classifier(directory: &ModelDirectory) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Classifier::load(directory, &directory.architecture.value, encoder(directory)?)?))
}

/// Loads a Qwen3 language model as a reranker: for each sequence, the logits of the tokens `yes` and `no`, in this order,
/// for the place after its last token. The probability of `yes` is the softmax of the two.
///
/// # Errors
/// As [`load`], and where the model is no Qwen3 or has no such tokens.
#[allow(dead_code, reason = "Qwen3-Reranker, which needs it, comes with its prompt")]
pub(crate) fn load_yes_no(directory: &ModelDirectory, yes: u32, no: u32) -> Result<Box<dyn Engine>> {
    let architecture = directory.architecture.value.as_str();
    if architecture != "qwen3" {
        let reason = format!("scores by two tokens are not supported for `{architecture}` yet; supported: qwen3");
        return Err(Error::model(directory.name(), reason));
    }
    Ok(Box::new(Classifier::of_tokens(directory, yes, no)?))
}

fn encoder(directory: &ModelDirectory) -> Result<(Encoder, Weights)> {
    let architecture = &directory.architecture;
    let known = ARCHITECTURES.iter().find(|(name, _)| *name == architecture.value);
    let Some((_, load)) = known else {
        let names: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).chain([CLIP]).collect();
        let (found, source, names) = (&architecture.value, &architecture.source, names.join(", "));
        let reason = format!("architecture `{found}` ({source}) is not supported yet; supported: {names}");
        return Err(Error::model(directory.name(), reason));
    };
    load(directory)
}

#[cfg(test)]
mod clip_tests;
#[cfg(test)]
mod tests;
