//! How does a transformer judge a pair? Query and passage as one sequence, and a head on top that gives one number.
//!
//! Nogueira and Cho, "Passage Re-ranking with BERT" (2019). The pair is cut on the passage's side, the query is kept; pairs go
//! through the engine sorted by length and packed, as texts do.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use serde_json::Value;

use super::{Judgement, Reranker, RerankerSpec};
use crate::embed::Runtime;
use crate::embed::spec::ModelDirectory;
use crate::embed::transformer::engine::{Engine, Sequence, tokens_of};
use crate::embed::transformer::tokens::{Pair, Tokens};
use crate::embed::transformer::{judge_by_graph, judge_by_safetensors, run_packed};
use crate::{Error, Result};

/// A model for `AutoModelForSequenceClassification` with one class, or with two of which the second is "relevant".
pub struct CrossEncoder {
    spec: RerankerSpec,
    tokens: Tokens,
    engine: Box<dyn Engine>,
    /// Whether the model tells the two texts of a pair apart by token types.
    typed: bool,
    weights_bytes: u64,
    tokens_read: AtomicU64,
}

impl CrossEncoder {
    /// Opens a directory of safetensors that was read: reads all of the weights.
    ///
    /// # Errors
    /// [`Error::Model`] where a file is missing or damaged, does not fit the others, asks for what is not supported, or the
    /// model has more than two classes; [`Error::Io`] where one cannot be read.
    pub(crate) fn of_safetensors(directory: &ModelDirectory, id: String, runtime: &Runtime) -> Result<Self> {
        let engine = judge_by_safetensors(directory, runtime)?;
        Self::load(directory, engine, id)
    }

    /// Opens a graph of a directory.
    ///
    /// # Errors
    /// As [`CrossEncoder::of_safetensors`].
    pub(crate) fn of_graph(directory: &Path, graph: &Path, id: String, runtime: &Runtime) -> Result<Self> {
        let (directory, engine) = judge_by_graph(directory, graph, runtime)?;
        Self::load(&directory, engine, id)
    }

    fn load(directory: &ModelDirectory, engine: Box<dyn Engine>, id: String) -> Result<Self> {
        let labels = labels(&directory.config).map_err(|reason| Error::model(directory.name(), reason))?;
        if !(1..=2).contains(&labels) {
            let reason =
                format!("config.json names {labels} classes; a reranker has one, or two (irrelevant, relevant)");
            return Err(Error::model(directory.name(), reason));
        }
        if engine.width() != labels {
            let reason = format!("config.json names {labels} classes, but the head gives {}", engine.width());
            return Err(Error::model(directory.name(), reason));
        }
        let tokens = Tokens::load(directory, engine.vocabulary())?;
        let spec = RerankerSpec {
            id,
            backend: engine.name().into(),
            device: engine.device().into(),
            max_tokens: directory.max_tokens.value,
            activation: activation(directory, labels)?,
        };
        let types = directory.config["type_vocab_size"].as_u64().unwrap_or(0);
        let (weights_bytes, tokens_read) = (directory.weights_in_f32(), AtomicU64::new(0));
        Ok(Self { spec, tokens, engine, typed: types > 1, weights_bytes, tokens_read })
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

    fn memory_bytes(&self) -> u64 {
        self.engine.memory_bytes().unwrap_or(self.weights_bytes)
    }

    fn tokens_read(&self) -> Option<u64> {
        Some(self.tokens_read.load(Ordering::Relaxed))
    }

    fn judge(&self, query: &str, passages: &[&str]) -> Result<Vec<Judgement>> {
        let pairs = self.tokens.pairs(query)?;
        let pairs = passages.par_iter().map(|passage| pairs.with(passage)).collect::<Result<Vec<Pair>>>()?;
        let truncated: Vec<bool> = pairs.iter().map(|pair| pair.truncated).collect();
        let sequences: Vec<Sequence> = pairs.into_iter().map(|pair| self.sequence(pair)).collect();
        let logits = run_packed(&sequences, self.engine.pack_tokens(), |pack| self.engine.run(pack))?;
        self.tokens_read.fetch_add(tokens_of(&sequences), Ordering::Relaxed);
        let width = self.engine.width();
        let judged = logits.chunks_exact(width).zip(truncated).map(|(logits, truncated)| {
            let logit = if let &[irrelevant, relevant] = logits { relevant - irrelevant } else { logits[0] };
            Judgement { truncated, ..Judgement::of_logit(logit) }
        });
        Ok(judged.collect())
    }
}

/// How many classes the head has. transformers writes a name for each, and takes two where the file names none.
fn labels(config: &Value) -> std::result::Result<usize, String> {
    match (&config["id2label"], &config["num_labels"]) {
        (Value::Object(names), _) => Ok(names.len()),
        (Value::Null, Value::Null) => Ok(2),
        (Value::Null, count) => {
            let wrong = || format!("config.json: num_labels is {count}; a whole number from 1 belongs there");
            count.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0).ok_or_else(wrong)
        }
        (names, _) => Err(format!("config.json: id2label is {names}; an object of names belongs there")),
    }
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
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::json;

    use super::*;

    #[test]
    fn classes_are_counted_by_their_names_and_are_two_where_none_is_named() {
        assert_eq!(labels(&json!({"id2label": {"0": "LABEL_0"}})), Ok(1));
        assert_eq!(labels(&json!({"id2label": {"0": "no", "1": "maybe", "2": "yes"}, "num_labels": 1})), Ok(3));
        assert_eq!(labels(&json!({"num_labels": 1})), Ok(1));
        assert_eq!(labels(&json!({})), Ok(2));
        for (config, wrong) in
            [(json!({"num_labels": "1"}), "num_labels is \"1\""), (json!({"id2label": []}), "id2label is []")]
        {
            assert!(labels(&config).unwrap_err().contains(wrong), "{config}");
        }
    }

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/architectures").join(name)
    }

    fn open(directory: &Path) -> Result<std::sync::Arc<dyn Reranker>> {
        super::super::open(&directory.display().to_string())
    }

    /// Pairs of texts with the logits that transformers gives; the fixtures' words are tokens.
    fn golden(name: &str) -> Vec<(String, String, Vec<f32>)> {
        let read = |file: &str| fs::read_to_string(fixture(name).join(file)).unwrap();
        let tokenizer: Value = serde_json::from_str(&read("tokenizer.json")).unwrap();
        let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
        let word = |id: &Value| vocabulary.iter().find(|(_, known)| *known == id).unwrap().0.clone();
        let text = |ids: &[Value]| ids.iter().map(word).collect::<Vec<_>>().join(" ");
        let lines = read("pairs.jsonl");
        let pairs = lines.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let parts: Vec<&[Value]> = line["ids"].as_array().unwrap()[1..].split(|id| *id == 2).collect();
            let [query, passage, _] = parts[..] else { return None };
            let is_plain = |ids: &[Value]| !ids.is_empty() && ids.iter().all(|id| id.as_u64() > Some(3));
            let logits = serde_json::from_value(line["logits"].clone()).unwrap();
            (is_plain(query) && is_plain(passage)).then(|| (text(query), text(passage), logits))
        });
        pairs.collect()
    }

    #[test]
    fn pairs_of_texts_get_the_logits_of_transformers_alone_and_together() {
        for name in ["bert", "mpnet", "modernbert", "xlm-roberta", "distilbert", "deberta-v2"] {
            let (model, golden) = (open(&fixture(name)).unwrap(), golden(name));
            assert!(golden.len() > 2, "{name}");
            for (query, passage, logits) in &golden {
                let wanted = if let [no, yes] = logits[..] { yes - no } else { logits[0] };
                let alone = model.judge(query, &[passage]).unwrap()[0];
                assert!((alone.logit - wanted).abs() < 1e-3, "{name}: {} for {wanted}: {query}", alone.logit);
                assert!((0.0..=1.0).contains(&alone.score));
                let among = ["river", passage.as_str(), "the cold winter morning is fresh", passage.as_str()];
                let among = model.judge(query, &among).unwrap();
                assert_eq!((among[1], among[3]), (alone, alone), "{name}");
            }
        }
    }

    #[test]
    fn passage_is_cut_and_the_query_is_kept() {
        let model = open(&fixture("bert")).unwrap();
        let long = "the river boat is cold and fresh ".repeat(100);
        let cut = model.judge("how to share data", &[&long, "river"]).unwrap();
        assert_eq!((cut[0].truncated, cut[1].truncated), (true, false));
        // What lies beyond the cut changes nothing, the query does.
        let longer = format!("{long} {}", "why never write memory ".repeat(50));
        assert_eq!(model.judge("how to share data", &[&longer]).unwrap()[0], cut[0]);
        assert_ne!(model.judge("how to bake bread", &[&long]).unwrap()[0].logit, cut[0].logit);
    }

    #[test]
    fn classes_beyond_two_and_unknown_activations_are_refused_by_name() {
        let error = open(&fixture("roberta")).err().unwrap().to_string();
        assert!(error.contains("names 3 classes"), "{error}");
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixture("bert")).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_file() {
                fs::copy(&entry, copy.path().join(entry.file_name().unwrap())).unwrap();
            }
        }
        fs::create_dir(copy.path().join("1_Pooling")).unwrap();
        fs::copy(fixture("bert/1_Pooling/config.json"), copy.path().join("1_Pooling/config.json")).unwrap();
        let config = copy.path().join("config.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        value["sbert_ce_default_activation_function"] = json!("torch.nn.modules.linear.Identity");
        fs::write(&config, value.to_string()).unwrap();
        assert_eq!(open(copy.path()).unwrap().spec().activation, "identity");
        value["sentence_transformers"] = json!({"activation_fn": "torch.nn.modules.activation.Tanh"});
        fs::write(&config, value.to_string()).unwrap();
        let error = open(copy.path()).err().unwrap().to_string();
        assert!(error.contains("activation `Tanh`"), "{error}");
    }
}
