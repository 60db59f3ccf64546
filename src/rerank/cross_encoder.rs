//! How does a transformer judge a pair? Query and passage as one sequence, and a head on top that gives one number.
//!
//! Nogueira and Cho, "Passage Re-ranking with BERT" (2019). The pair is cut on the passage's side, the query is kept; pairs go
//! through the engine sorted by length and packed, as texts do.

use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::{Judgement, Reranker, RerankerSpec};
use crate::embed::spec::ModelDirectory;
use crate::embed::transformer::engine::{Engine, Sequence};
use crate::embed::transformer::tokens::{Pair, Tokens};
use crate::embed::transformer::{load_classifier, run_packed};
use crate::{Error, Result};

/// A model for `AutoModelForSequenceClassification` with one class, or with two of which the second is "relevant".
pub struct CrossEncoder {
    spec: RerankerSpec,
    tokens: Tokens,
    engine: Box<dyn Engine>,
    /// Whether the model tells the two texts of a pair apart by token types.
    typed: bool,
}

impl CrossEncoder {
    /// Opens a local directory: reads all of the weights, runs nothing.
    ///
    /// # Errors
    /// [`Error::Model`] where a file is missing or damaged, does not fit the others, asks for what is not supported, or the
    /// model has more than two classes; [`Error::Io`] where one cannot be read.
    pub fn open(directory: &Path) -> Result<Self> {
        let directory = ModelDirectory::read(directory)?;
        let labels = labels(&directory.config);
        if !(1..=2).contains(&labels) {
            let reason =
                format!("config.json names {labels} classes; a reranker has one, or two (irrelevant, relevant)");
            return Err(Error::model(directory.name(), reason));
        }
        directory.check_weights()?;
        let engine = load_classifier(&directory)?;
        if engine.width() != labels {
            let reason = format!("config.json names {labels} classes, but the head gives {}", engine.width());
            return Err(Error::model(directory.name(), reason));
        }
        let tokens = Tokens::load(&directory, engine.vocabulary())?;
        let spec = RerankerSpec {
            id: directory.name(),
            backend: engine.name().into(),
            max_tokens: directory.max_tokens.value,
            activation: activation(&directory, labels)?,
        };
        let types = directory.config["type_vocab_size"].as_u64().unwrap_or(0);
        Ok(Self { spec, tokens, engine, typed: types > 1 })
    }

    fn sequence(&self, pair: Pair) -> Sequence {
        let types = if self.typed { pair.types } else { Vec::new() };
        Sequence { ids: pair.ids, types }
    }
}

impl Reranker for CrossEncoder {
    fn spec(&self) -> &RerankerSpec {
        &self.spec
    }

    fn judge(&self, query: &str, passages: &[&str]) -> Result<Vec<Judgement>> {
        let pairs = self.tokens.pairs(query)?;
        let pairs = passages.par_iter().map(|passage| pairs.with(passage)).collect::<Result<Vec<Pair>>>()?;
        let truncated: Vec<bool> = pairs.iter().map(|pair| pair.truncated).collect();
        let sequences: Vec<Sequence> = pairs.into_iter().map(|pair| self.sequence(pair)).collect();
        let logits = run_packed(&sequences, |pack| self.engine.run(pack))?;
        let width = self.engine.width();
        let judged = logits.chunks_exact(width).zip(truncated).map(|(logits, truncated)| {
            let logit = if let &[irrelevant, relevant] = logits { relevant - irrelevant } else { logits[0] };
            Judgement { truncated, ..Judgement::of_logit(logit) }
        });
        Ok(judged.collect())
    }
}

/// How many classes the head has. transformers writes a name for each, and takes two where the file names none.
fn labels(config: &Value) -> usize {
    let named = config["id2label"].as_object().map(serde_json::Map::len);
    let counted = || config["num_labels"].as_u64().and_then(|count| usize::try_from(count).ok());
    named.or_else(counted).unwrap_or(2)
}

/// What sentence-transformers applies to the output of this model: as its files say, else a sigmoid to a single class.
fn activation(directory: &ModelDirectory, labels: usize) -> Result<String> {
    let config = &directory.config;
    let places = [&config["sentence_transformers"]["activation_fn"], &config["sbert_ce_default_activation_function"]];
    let Some(stated) = places.into_iter().find_map(Value::as_str) else {
        return Ok(if labels == 1 { "sigmoid" } else { "identity" }.into());
    };
    match stated.rsplit('.').next().unwrap_or(stated) {
        "Sigmoid" => Ok("sigmoid".into()),
        "Identity" => Ok("identity".into()),
        other => {
            let reason =
                format!("config.json: activation `{other}` ({stated}) is not supported; Sigmoid and Identity are");
            Err(Error::model(directory.name(), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::labels;

    #[test]
    fn classes_are_counted_by_their_names_and_are_two_where_none_is_named() {
        assert_eq!(labels(&json!({"id2label": {"0": "LABEL_0"}})), 1);
        assert_eq!(labels(&json!({"id2label": {"0": "no", "1": "maybe", "2": "yes"}, "num_labels": 1})), 3);
        assert_eq!(labels(&json!({"num_labels": 1})), 1);
        assert_eq!(labels(&json!({})), 2);
    }
}
