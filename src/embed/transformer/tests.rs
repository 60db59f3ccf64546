//! Does the engine agree with an independent implementation, alone and in any batch, and does it refuse what it must?
//!
//! The tiny model of `tests/fixtures/tiny-bert` was made, and its vectors computed, by `make.py` there (numpy, float64).

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::embed::NoStatistics;
use crate::embed::dimensions::normalise;

mod hostile;
mod variants;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-bert")
}

/// Texts, their token ids, and their vectors as another implementation computes them.
struct Golden {
    texts: Vec<String>,
    ids: Vec<Value>,
    vectors: Vec<Vec<f32>>,
}

impl Golden {
    fn read(path: &Path, field: &str) -> Self {
        let mut golden = Self { texts: Vec::new(), ids: Vec::new(), vectors: Vec::new() };
        for line in fs::read_to_string(path).unwrap().lines() {
            let mut line: Value = serde_json::from_str(line).unwrap();
            golden.texts.push(line["text"].as_str().unwrap().into());
            golden.ids.push(line["ids"].take());
            golden.vectors.push(serde_json::from_value(line[field].take()).unwrap());
        }
        golden
    }

    fn texts(&self) -> Vec<&str> {
        self.texts.iter().map(String::as_str).collect()
    }
}

fn tiny_golden() -> Golden {
    Golden::read(&tiny().join("golden.jsonl"), "vector")
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Asserts that `model` gives the golden vectors, and the same bits alone, in another order and in equal lengths.
fn assert_golden(model: &Transformer, golden: &Golden, least: f64) {
    let texts = golden.texts();
    let together = model.embed_documents(&texts).unwrap();
    assert_eq!(together.rows().len(), texts.len());
    let backwards: Vec<&str> = texts.iter().copied().rev().collect();
    let backwards = model.embed_documents(&backwards).unwrap();
    for (index, (text, vector)) in texts.iter().zip(together.rows()).enumerate() {
        let similarity = cosine(vector, &golden.vectors[index]);
        assert!(similarity >= least, "cosine {similarity} for {text:?}");
        let length = vector.iter().map(|value| value * value).sum::<f32>();
        assert!((length - 1.0).abs() < 1e-5, "squared length {length} for {text:?}");
        assert_eq!(backwards.rows().nth(texts.len() - 1 - index).unwrap(), vector);
        let alone = model.embed_queries(&[text], &NoStatistics).unwrap();
        assert_eq!(alone.values, vector, "alone and in a batch differ for {text:?}");
        let equal = model.embed_documents(&[*text; 3]).unwrap();
        assert!(equal.rows().all(|row| row == vector), "equal neighbours change {text:?}");
    }
}

/// A copy of the tiny model that a test may spoil.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("1_Pooling")).unwrap();
    let files = ["config.json", "modules.json", "sentence_bert_config.json", "tokenizer.json", "model.safetensors"];
    for name in files.iter().copied().chain(["1_Pooling/config.json"]) {
        fs::copy(tiny().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn edit(directory: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = directory.join(name);
    let mut value = fs::read(&path).map_or(json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// The message with which a spoilt copy is refused, which must come fast.
fn refusal(spoil: impl FnOnce(&Path)) -> String {
    let copy = copy();
    spoil(copy.path());
    let start = Instant::now();
    let error = Transformer::open(copy.path()).err().expect("the spoilt model is refused");
    assert!(start.elapsed().as_secs() < 1, "refused only after {:?}", start.elapsed());
    assert!(matches!(error, Error::Model { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn tiny_bert_agrees_with_numpy_to_six_digits() {
    let (model, golden) = (Transformer::open(&tiny()).unwrap(), tiny_golden());
    let found = model.embed_documents(&golden.texts()).unwrap();
    for ((vector, wanted), text) in found.rows().zip(&golden.vectors).zip(&golden.texts) {
        let difference = vector.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 2e-6, "{difference} apart for {text:?}");
    }
    assert_golden(&model, &golden, 0.999_999_9);
}

#[test]
fn real_minilm_agrees_with_sentence_transformers() {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(directory), Some(golden)) = (named("QUIVER_TEST_MINILM"), named("QUIVER_TEST_GOLDEN")) else {
        eprintln!("QUIVER_TEST_MINILM and QUIVER_TEST_GOLDEN are not set: checking the tiny model alone");
        assert_golden(&Transformer::open(&tiny()).unwrap(), &tiny_golden(), 0.9999);
        return;
    };
    let model = Transformer::open(&directory).unwrap();
    assert_eq!((model.spec().dims, model.spec().max_tokens, model.spec().special_tokens), (384, 256, 2));
    assert_golden(&model, &Golden::read(&golden, "embedding"), 0.9999);
}

#[test]
fn token_ids_are_those_of_the_reference_and_the_limit_keeps_the_special_tokens() {
    let (model, golden) = (Transformer::open(&tiny()).unwrap(), tiny_golden());
    for (text, ids) in golden.texts.iter().zip(&golden.ids) {
        assert_eq!(json!(model.tokens.encode(text).unwrap().ids), *ids, "{text:?}");
    }
    let long = golden.texts.iter().max_by_key(|text| text.len()).unwrap();
    let encoded = model.tokens.encode(long).unwrap();
    assert!(encoded.truncated);
    assert_eq!((encoded.ids.len(), encoded.ids[0], encoded.ids[23]), (24, 2, 3));
    assert_eq!(model.embed_documents(&[long.as_str(), "a"]).unwrap().truncated, 1);
}

#[test]
fn token_ranges_cover_the_whole_text_without_truncation() {
    let model = Transformer::open(&tiny()).unwrap();
    let text = "Swimming in  rivers, ".repeat(40);
    let ranges = model.token_ranges(&text);
    // [UNK], in, river, ##s and the comma.
    assert_eq!(ranges.len(), 5 * 40);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
    let covered: usize = ranges.iter().map(Range::len).sum();
    assert_eq!(covered, text.chars().filter(|character| !character.is_whitespace()).count());
    assert!(model.token_ranges("").is_empty());
}

#[test]
fn batches_of_hundreds_keep_their_order_and_bits() {
    let (model, golden) = (Transformer::open(&tiny()).unwrap(), tiny_golden());
    let texts: Vec<&str> = (0..777).map(|index| golden.texts[index * 7 % golden.texts.len()].as_str()).collect();
    let (many, few) = (model.embed_documents(&texts).unwrap(), model.embed_documents(&golden.texts()).unwrap());
    let few: Vec<&[f32]> = few.rows().collect();
    for (index, vector) in many.rows().enumerate() {
        assert_eq!(vector, few[index * 7 % few.len()]);
    }
    assert_eq!(model.embed_documents(&[]).unwrap().values.len(), 0);
}

#[test]
fn prompts_go_before_queries_and_passages() {
    let copy = copy();
    let prompts = json!({"prompts": {"query": "share ", "passage": "the river "}});
    fs::write(copy.path().join("config_sentence_transformers.json"), prompts.to_string()).unwrap();
    let (prompted, plain) = (Transformer::open(copy.path()).unwrap(), Transformer::open(&tiny()).unwrap());
    let query = prompted.embed_queries(&["data"], &NoStatistics).unwrap();
    assert_eq!(query, plain.embed_documents(&["share data"]).unwrap());
    let passage = prompted.embed_documents(&["data"]).unwrap();
    assert_eq!(passage, plain.embed_documents(&["the river data"]).unwrap());
}

#[test]
fn max_tokens_pooling_and_normalise_show_in_the_vectors() {
    let copy = copy();
    edit(copy.path(), "modules.json", |modules| drop(modules.as_array_mut().unwrap().pop()));
    edit(copy.path(), "1_Pooling/config.json", |pooling| *pooling = json!({"pooling_mode": "cls"}));
    edit(copy.path(), "sentence_bert_config.json", |limits| limits["max_seq_length"] = json!(4));
    let (cut, plain) = (Transformer::open(copy.path()).unwrap(), Transformer::open(&tiny()).unwrap());
    let found = cut.embed_documents(&["the river and the boat"]).unwrap();
    assert_eq!(found.truncated, 1);
    let ids = plain.tokens.encode("the river").unwrap().ids;
    let reading = Reading { pooling: &[Pooling::Cls], skip: 0, unit: false };
    assert_eq!(found.values, plain.run(&[Sequence::single(ids)], &reading).unwrap());
}

#[test]
fn checkpoint_with_a_prefix_and_old_norm_names_loads() {
    let copy = copy();
    let path = copy.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let renamed = |name: &str| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        format!("bert.{name}")
    };
    let header: serde_json::Map<String, Value> =
        header.as_object().unwrap().iter().map(|(name, value)| (renamed(name), value.clone())).collect();
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let new = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + length..]].concat();
    fs::write(&path, new).unwrap();
    assert_golden(&Transformer::open(copy.path()).unwrap(), &tiny_golden(), 0.999_999_9);
}

#[test]
fn truncated_weights_are_refused() {
    for keep in [0, 7, 100, 100_000, 173_000] {
        let message = refusal(|directory| {
            let path = directory.join("model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..keep]).unwrap();
        });
        assert!(message.contains(&format!("model.safetensors ({keep} bytes) is truncated or damaged")), "{message}");
    }
}

#[test]
fn unknown_architecture_is_named_with_those_that_work() {
    let message = refusal(|directory| edit(directory, "config.json", |config| config["model_type"] = json!("mamba")));
    assert!(
        message.contains("architecture `mamba` (config.json) is not supported yet; supported: bert, roberta"),
        "{message}"
    );
}

#[test]
fn shapes_that_do_not_fit_are_named_with_both_sizes() {
    let message = refusal(|directory| edit(directory, "config.json", |config| config["intermediate_size"] = json!(80)));
    let wanted =
        "tensor `encoder.layer.0.intermediate.dense.weight` has shape [72, 40]; its config.json asks for [80, 40]";
    assert!(message.contains(wanted), "{message}");
    let message = refusal(|directory| edit(directory, "config.json", |config| config["num_hidden_layers"] = json!(4)));
    assert!(message.contains("lack the tensor `encoder.layer.3.attention.self.query.weight`"), "{message}");
}

#[test]
fn tokenizer_beyond_the_embedding_table_is_refused() {
    let message = refusal(|directory| {
        edit(directory, "tokenizer.json", |tokenizer| tokenizer["model"]["vocab"]["zebra"] = json!(1000));
    });
    assert!(message.contains("numbers its tokens up to 1000, but the model's embedding table has"), "{message}");
    let message = refusal(|directory| {
        edit(directory, "tokenizer.json", |tokenizer| {
            tokenizer["post_processor"]["special_tokens"]["[SEP]"]["ids"] = json!([1000]);
        });
    });
    assert!(message.contains("numbers its tokens up to 1000"), "{message}");
    let message = refusal(|directory| fs::write(directory.join("tokenizer.json"), "{").unwrap());
    assert!(message.contains("tokenizer.json cannot be read"), "{message}");
}

#[test]
fn template_that_repeats_the_text_is_an_error_and_no_panic() {
    let copy = copy();
    edit(copy.path(), "tokenizer.json", |tokenizer| {
        let parts = tokenizer["post_processor"]["single"].as_array_mut().unwrap();
        let text = parts[1].clone();
        parts.insert(1, text);
    });
    let model = Transformer::open(copy.path()).unwrap();
    let error = model.embed_documents(&[&"river ".repeat(30)]).unwrap_err().to_string();
    assert!(error.contains("the tokenizer made 46 tokens of a text, where at most 24 fit"), "{error}");
}

#[test]
fn settings_of_other_encoders_are_refused_by_name() {
    let with = |key: &str, value: Value| refusal(|directory| edit(directory, "config.json", |c| c[key] = value));
    assert!(with("hidden_act", json!("mish")).contains("hidden_act `mish` is not supported yet"));
    assert!(with("position_embedding_type", json!("relative_key")).contains("`relative_key` is not supported yet"));
    assert!(with("num_attention_heads", json!(3)).contains("hidden_size 40 cannot be split into 3 attention heads"));
    assert!(with("num_attention_heads", json!(0)).contains("into 0 attention heads"));
    assert!(with("type_vocab_size", json!(0)).contains("type_vocab_size is 0"));
    assert!(with("vocab_size", json!("many")).contains("config.json: invalid type"));
}

#[test]
fn teacher_embeds_tokens_between_the_special_ones() {
    let model = Transformer::open(&tiny()).unwrap();
    let vocabulary = model.vocabulary();
    assert_eq!(&vocabulary[..3], ["[PAD]", "[UNK]", "[CLS]"]);
    let id = vocabulary.iter().position(|token| token == "river").unwrap() as u32;
    let tokens = model.embed_tokens(&[id, 7, id]).unwrap();
    let mut wanted = tokens.rows().next().unwrap().to_vec();
    assert_eq!(tokens.rows().nth(2).unwrap(), wanted);
    normalise(&mut wanted);
    assert_eq!(model.embed_sentences(&["river"]).unwrap().values, wanted);
    assert!(model.embed_tokens(&[vocabulary.len() as u32]).is_err());
}
