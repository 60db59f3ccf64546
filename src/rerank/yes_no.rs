//! How does a language model judge a pair? It is asked whether the passage answers, and what counts is how much likelier
//! its next word is `yes` than `no`.
//!
//! The question is put in the words that Qwen3-Reranker was trained with (Zhang et al., "Qwen3 Embedding", 2025): without them
//! its answers mean nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::{Judgement, Reranker, RerankerSpec};
use crate::embed::Runtime;
use crate::embed::spec::ModelDirectory;
use crate::embed::transformer::engine::{Engine, Sequence, tokens_of};
use crate::embed::transformer::tokens::Tokens;
use crate::embed::transformer::{load_yes_no, run_packed};
use crate::{Error, Result};

/// What stands before the query and the passage.
const BEFORE: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the \
                      Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
/// What stands after them.
const AFTER: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
/// What is asked of the passage.
const TASK: &str = "Given a web search query, retrieve relevant passages that answer the query";
/// The longest question in tokens: that of the model's own examples. The model could read more, at a cost that grows with
/// the square.
const TOKENS_MAX: usize = 8192;

/// A Qwen3-Reranker.
pub struct YesNo {
    spec: RerankerSpec,
    tokens: Tokens,
    engine: Box<dyn Engine>,
    before: Vec<u32>,
    after: Vec<u32>,
    weights_bytes: u64,
    tokens_read: AtomicU64,
}

impl YesNo {
    /// Opens a directory of safetensors where it is such a model: a Qwen3 for text generation.
    pub(crate) fn of(directory: &ModelDirectory, id: String, runtime: &Runtime) -> Result<Option<Self>> {
        let names = directory.config["architectures"].as_array();
        let speaks = names.is_some_and(|names| names.iter().any(|name| name == "Qwen3ForCausalLM"));
        if !speaks || directory.architecture.value != "qwen3" {
            return Ok(None);
        }
        Self::load(directory, id, runtime).map(Some)
    }

    fn load(directory: &ModelDirectory, id: String, runtime: &Runtime) -> Result<Self> {
        let rows = directory.config["vocab_size"].as_u64().and_then(|rows| usize::try_from(rows).ok()).unwrap_or(0);
        let tokens = Tokens::load(directory, rows)?;
        let token = |word: &str| {
            let lacks =
                || Error::model(directory.name(), format!("its vocabulary has no token `{word}` to answer with"));
            tokens.id(word).ok_or_else(lacks)
        };
        let engine = load_yes_no(directory, runtime, token("yes")?, token("no")?)?;
        let (before, after) = (tokens.bare(BEFORE)?, tokens.bare(AFTER)?);
        let max_tokens = directory.max_tokens.value.min(TOKENS_MAX);
        if before.len() + after.len() >= max_tokens {
            let reason = format!("its limit of {max_tokens} tokens has no room for the question");
            return Err(Error::model(directory.name(), reason));
        }
        let (backend, device) = (engine.name().to_owned(), engine.device().to_owned());
        let spec = RerankerSpec { id, backend, device, max_tokens, activation: "sigmoid".to_owned() };
        let (weights_bytes, tokens_read) = (directory.weights_in_f32(), AtomicU64::new(0));
        Ok(Self { spec, tokens, engine, before, after, weights_bytes, tokens_read })
    }

    /// The whole question; whether the end of the passage was left out of it.
    fn question(&self, query: &str, passage: &str) -> Result<(Sequence, bool)> {
        let room = self.spec.max_tokens - self.before.len() - self.after.len();
        let asked = format!("<Instruct>: {TASK}\n<Query>: {query}\n<Document>: {passage}");
        let (asked, truncated) = self.tokens.bare_head(&asked, room)?;
        Ok((Sequence::single([&self.before[..], &asked, &self.after].concat()), truncated))
    }
}

impl Reranker for YesNo {
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
        let questions = passages.par_iter().map(|passage| self.question(query, passage)).collect::<Result<Vec<_>>>()?;
        let (sequences, truncated): (Vec<Sequence>, Vec<bool>) = questions.into_iter().unzip();
        let logits = run_packed(&sequences, self.engine.pack_tokens(), |pack| self.engine.run(pack))?;
        self.tokens_read.fetch_add(tokens_of(&sequences), Ordering::Relaxed);
        let (pairs, _) = logits.as_chunks::<2>();
        let judged =
            |(&[yes, no], truncated): (&[f32; 2], bool)| Judgement { truncated, ..Judgement::of_logit(yes - no) };
        Ok(pairs.iter().zip(truncated).map(judged).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    /// The tiny Qwen3, two of whose words are called `yes` and `no`.
    fn tiny() -> tempfile::TempDir {
        let (copy, fixture) = (
            tempfile::tempdir().unwrap(),
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/architectures/qwen3"),
        );
        fs::create_dir(copy.path().join("1_Pooling")).unwrap();
        for name in [
            "config.json",
            "modules.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors",
            "1_Pooling/config.json",
        ] {
            fs::copy(fixture.join(name), copy.path().join(name)).unwrap();
        }
        let path = copy.path().join("tokenizer.json");
        let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        for (old, new) in [("quiver", "yes"), ("boat", "no")] {
            let id = vocabulary.remove(old).unwrap();
            vocabulary.insert(new.into(), id);
        }
        fs::write(path, tokenizer.to_string()).unwrap();
        copy
    }

    #[test]
    fn the_answer_is_the_difference_of_two_logits_after_the_whole_question() {
        let folder = tiny();
        let model = super::super::open(&folder.path().display().to_string()).unwrap();
        let directory = ModelDirectory::read(folder.path()).unwrap();
        let engine = load_yes_no(&directory, &Runtime::default(), 11, 17).unwrap();
        let tokens = Tokens::load(&directory, 43).unwrap();
        let whole = format!("{BEFORE}<Instruct>: {TASK}\n<Query>: how to bake\n<Document>: fresh bread{AFTER}");
        let sequence = Sequence::single(tokens.bare(&whole).unwrap());
        let logits = engine.run(&[&sequence]).unwrap();
        let judged = model.judge("how to bake", &["the river", "fresh bread"]).unwrap();
        assert_eq!(judged[1].logit, logits[0] - logits[1]);
        assert_ne!(judged[0].logit, judged[1].logit);
        assert!(!judged[1].truncated);
    }

    #[test]
    fn model_without_the_two_words_is_refused() {
        let folder = tiny();
        let path = folder.path().join("tokenizer.json");
        let renamed = fs::read_to_string(&path).unwrap().replace("\"yes\"", "\"maybe\"");
        fs::write(&path, renamed).unwrap();
        let error = super::super::open(&folder.path().display().to_string()).err().unwrap().to_string();
        assert!(error.contains("no token `yes` to answer with"), "{error}");
    }
}
