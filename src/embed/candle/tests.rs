//! Do all architectures agree with transformers, alone and in any pack, and are other settings refused by name?
//!
//! `tests/fixtures/make_architectures.py` made the tiny models and what transformers and sentence-transformers compute.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;
use crate::embed::transformer::Transformer;
use crate::embed::transformer::engine::{Output, Sequence, ranges};
use crate::embed::{Embedder, NoStatistics};

const ALL: [&str; 15] = [
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "mpnet",
    "modernbert",
    "deberta-v3",
    "deberta-v2",
    "qwen3",
    "gemma3",
    "nomic-bert",
    "nomic-bert-native",
    "jina-bert",
    "jina-bert-original",
];

const WITH_HEADS: [&str; 9] =
    ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "modernbert", "deberta-v3", "deberta-v2"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/architectures").join(name)
}

fn directory(path: &Path) -> ModelDirectory {
    ModelDirectory::read(path).unwrap()
}

/// A line of `golden.jsonl`, `pairs.jsonl` or `variants.jsonl`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Line {
    text: String,
    ids: Vec<u32>,
    types: Vec<u32>,
    embedding: Vec<f32>,
    first: Vec<f32>,
    last: Vec<f32>,
    mean: Vec<f32>,
    logits: Vec<f32>,
    edit: Map<String, Value>,
}

impl Line {
    fn sequence(&self) -> Sequence {
        Sequence { ids: self.ids.clone(), types: self.types.clone() }
    }
}

fn lines(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty());
    lines
}

pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Not the direction alone: every number.
pub(super) fn assert_close(found: &[f32], wanted: &[f32], what: &str) {
    let size = wanted.iter().map(|value| value.abs()).fold(0.0, f32::max);
    let apart = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.len() == wanted.len() && apart <= 2e-5 * size, "{what}: {apart} apart where the largest is {size}");
}

fn assert_states(engine: &dyn Engine, lines: &[Line], name: &str) {
    assert_eq!(engine.output(), Output::Tokens);
    let width = engine.width();
    for line in lines {
        let states = engine.run(&[&line.sequence()]).unwrap();
        let what = |part: &str| format!("{name}, {part} of {} tokens", line.ids.len());
        assert_eq!(states.len(), line.ids.len() * width, "{}", what("shape"));
        assert_close(&states[states.len() - width..], &line.last, &what("last"));
        if !line.first.is_empty() {
            assert_close(&states[..width], &line.first, &what("first"));
            let mean = |place: usize| states[place..].iter().step_by(width).sum::<f32>() / line.ids.len() as f32;
            assert_close(&(0..width).map(mean).collect::<Vec<_>>(), &line.mean, &what("mean"));
        }
    }
}

/// The rows of each sequence have the same bits alone, among others in any order, and among neighbours of equal length.
fn assert_independent(engine: &dyn Engine, sequences: &[Sequence], name: &str) {
    let rows_of = |pack: &[&Sequence]| -> Vec<Vec<f32>> {
        let (rows, width) = (engine.run(pack).unwrap(), engine.width());
        match engine.output() {
            Output::Sequences | Output::Pooled => rows.chunks_exact(width).map(<[f32]>::to_vec).collect(),
            Output::Tokens => {
                ranges(pack).into_iter().map(|range| rows[range.start * width..range.end * width].to_vec()).collect()
            }
        }
    };
    let together = rows_of(&sequences.iter().collect::<Vec<_>>());
    let mut backwards = rows_of(&sequences.iter().rev().collect::<Vec<_>>());
    backwards.reverse();
    assert_eq!(together, backwards, "{name}: the order of a pack shows");
    for (sequence, rows) in sequences.iter().zip(&together) {
        assert_eq!(rows_of(&[sequence])[0], *rows, "{name}: alone and in a pack differ");
        let mut neighbour = sequence.clone();
        neighbour.ids.reverse();
        assert_eq!(rows_of(&[&neighbour, sequence, &neighbour])[1], *rows, "{name}: equal lengths differ");
    }
}

#[test]
fn hidden_states_agree_with_transformers() {
    for name in ALL {
        let engine = load(&directory(&fixture(name))).unwrap();
        let lines = lines(&fixture(name).join("golden.jsonl"));
        assert_states(&*engine, &lines, name);
        let sequences: Vec<Sequence> = lines.iter().map(Line::sequence).collect();
        assert_independent(&*engine, &sequences, name);
    }
}

/// The tensors that run on graphics cards, on candle's CPU.
#[test]
fn tensors_for_devices_agree_with_transformers_alone_and_padded() {
    for (name, of_roberta) in [("bert", false), ("roberta", true), ("xlm-roberta", true), ("camembert", true)] {
        let device = candle_core::Device::Cpu;
        let engine =
            bert::device::DeviceBert::load(&directory(&fixture(name)), of_roberta, device, "cuda:1".into()).unwrap();
        let lines = lines(&fixture(name).join("golden.jsonl"));
        assert_states(&engine, &lines, name);
        assert_eq!(
            (engine.device(), engine.vocabulary()),
            ("cuda:1", load(&directory(&fixture(name))).unwrap().vocabulary())
        );
        let sequences: Vec<Sequence> = lines.iter().map(Line::sequence).collect();
        let pack: Vec<&Sequence> = sequences.iter().collect();
        let together = engine.run(&pack).unwrap();
        for (sequence, rows) in pack.iter().zip(ranges(&pack)) {
            let width = engine.width();
            let alone = engine.run(&[sequence]).unwrap();
            assert_close(&together[rows.start * width..rows.end * width], &alone, &format!("{name}: padded"));
        }
        let types = Sequence { ids: vec![0, 5, 6, 2], types: vec![0, 0, 1, 1] };
        let on_cpu = load(&directory(&fixture(name))).unwrap().run(&[&types]).unwrap();
        assert_close(&engine.run(&[&types]).unwrap(), &on_cpu, &format!("{name}: types"));
        let beyond = Sequence::single(vec![0, 4000, 2]);
        let message = engine.run(&[&beyond]).unwrap_err().to_string();
        assert!(message.contains("token id 4000 is not among"), "{name}: {message}");
    }
}

#[test]
fn embeddings_agree_with_sentence_transformers() {
    for name in ALL {
        let model = Transformer::open(&fixture(name)).unwrap();
        let lines = lines(&fixture(name).join("golden.jsonl"));
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let together = model.embed_documents(&texts).unwrap();
        for (line, vector) in lines.iter().zip(together.rows()) {
            let similarity = cosine(vector, &line.embedding);
            assert!(similarity >= 0.999_999, "{name}: cosine {similarity} for {:?}", line.text);
            let alone = model.embed_queries(&[&line.text], &NoStatistics).unwrap();
            assert_eq!(alone.values, vector, "{name}: {:?}", line.text);
            let equal = model.embed_documents(&[line.text.as_str(); 3]).unwrap();
            assert!(equal.rows().all(|row| row == vector), "{name}: {:?}", line.text);
        }
    }
}

/// Gemma 3 in both directions, mean pooling, two Dense layers, Normalize, and prompts, as EmbeddingGemma has them.
#[test]
fn embeddinggemma_agrees_with_sentence_transformers() {
    let model = Transformer::open(&fixture("embeddinggemma")).unwrap();
    let spec = model.spec();
    assert_eq!((spec.dims, spec.pooling.as_str(), spec.normalized), (32, "mean", true));
    assert_eq!(spec.modules, "Dense 32x80 Identity, no bias > Dense 80x32 Identity, no bias > Normalize");
    assert_eq!((spec.query_prompt.as_str(), spec.document_prompt.as_str()), ("the hit of bread : ", "river ! often "));
    let golden = fs::read_to_string(fixture("embeddinggemma").join("golden.jsonl")).unwrap();
    let golden: Vec<Value> = golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<&str> = golden.iter().map(|line| line["text"].as_str().unwrap()).collect();
    let vectors = [model.embed_queries(&texts, &NoStatistics).unwrap(), model.embed_documents(&texts).unwrap()];
    for (kind, together) in ["query", "document"].into_iter().zip(&vectors) {
        for (line, vector) in golden.iter().zip(together.rows()) {
            let wanted: Vec<f32> = serde_json::from_value(line[kind].clone()).unwrap();
            let similarity = cosine(vector, &wanted);
            assert!(similarity >= 0.999_999, "{kind} {}: cosine {similarity}", line["text"]);
        }
    }
    for (text, vector) in texts.iter().zip(vectors[1].rows()) {
        assert_eq!(model.embed_documents(&[text]).unwrap().values, vector, "{text:?}: alone");
    }
}

#[test]
fn logits_of_cross_encoders_agree_with_transformers() {
    for name in WITH_HEADS {
        let engine = load_classifier(&directory(&fixture(name))).unwrap();
        assert_logits(&*engine, name);
    }
    let engine = load_yes_no(&directory(&fixture("qwen3")), 11, 17).unwrap();
    assert_logits(&*engine, "qwen3");
}

fn assert_logits(engine: &dyn Engine, name: &str) {
    let lines = lines(&fixture(name).join("pairs.jsonl"));
    assert_eq!((engine.output(), engine.width()), (Output::Sequences, lines[0].logits.len()), "{name}");
    let sequences: Vec<Sequence> = lines.iter().map(Line::sequence).collect();
    for line in &lines {
        let logits = engine.run(&[&line.sequence()]).unwrap();
        for (found, wanted) in logits.iter().zip(&line.logits) {
            assert!((found - wanted).abs() < 2e-5, "{name}: {found} instead of {wanted}");
        }
    }
    let spread = |place: usize| {
        lines.iter().map(|line| line.logits[place]).fold((f32::MAX, f32::MIN), |(a, b), x| (a.min(x), b.max(x)))
    };
    assert!((0..engine.width()).all(|place| spread(place).1 - spread(place).0 > 0.05), "{name}: logits hardly differ");
    assert_independent(engine, &sequences, name);
}

/// A copy of a fixture that a test may change.
fn copy(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file())
    {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    fs::create_dir(copy.path().join("1_Pooling")).unwrap();
    fs::copy(fixture(name).join("1_Pooling/config.json"), copy.path().join("1_Pooling/config.json")).unwrap();
    copy
}

/// Changes `config.json`; null takes a setting away.
fn edit(directory: &Path, change: &Map<String, Value>) {
    let path = directory.join("config.json");
    let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in change {
        if value.is_null() {
            config.remove(key)
        } else {
            config.insert(key.clone(), value.clone())
        };
    }
    fs::write(path, Value::Object(config).to_string()).unwrap();
}

fn edited(name: &str, change: Value) -> tempfile::TempDir {
    let copy = copy(name);
    edit(copy.path(), change.as_object().unwrap());
    copy
}

#[test]
fn settings_change_the_output_as_in_transformers() {
    for name in ["modernbert", "deberta-v3", "qwen3", "gemma3"] {
        for line in lines(&fixture(name).join("variants.jsonl")) {
            let copy = copy(name);
            edit(copy.path(), &line.edit);
            let (what, sequence) = (format!("{name} with {}", json!(line.edit)), line.sequence());
            let plain = fixture(name);
            if line.logits.is_empty() {
                assert_states(&*load(&directory(copy.path())).unwrap(), std::slice::from_ref(&line), &what);
                let before = load(&directory(&plain)).unwrap().run(&[&sequence]).unwrap();
                let same = cosine(&before[before.len() - line.last.len()..], &line.last);
                assert!(same < 0.999, "{what}: no change, cosine {same}");
            } else {
                let run = |path: &Path| load_classifier(&directory(path)).unwrap().run(&[&sequence]).unwrap();
                let (found, before) = (run(copy.path()), run(&plain));
                assert!((found[0] - line.logits[0]).abs() < 1e-4, "{what}: {found:?}, not {:?}", line.logits);
                assert!((before[0] - line.logits[0]).abs() > 1e-3, "{what}: no change");
            }
        }
    }
}

#[test]
fn settings_under_their_older_names_give_the_same_states() {
    let cases = [
        (
            "modernbert",
            json!({"layer_types": null, "rope_parameters": null, "global_attn_every_n_layers": 3,
                   "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}),
        ),
        (
            "gemma3",
            json!({"rope_parameters": null, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
                   "layer_types": null, "_sliding_window_pattern": 3}),
        ),
        ("qwen3", json!({"rope_parameters": null, "rope_theta": 1000000, "rope_scaling": null, "layer_types": null})),
        (
            "distilbert",
            json!({"dim": null, "n_layers": null, "n_heads": null, "hidden_size": 32,
                              "num_hidden_layers": 4, "num_attention_heads": 4}),
        ),
        ("deberta-v3", json!({"pos_att_type": " P2C | c2p"})),
        ("nomic-bert", json!({"hidden_size": 32, "layer_norm_eps": 1e-12})),
    ];
    for (name, change) in cases {
        let copy = edited(name, change);
        let engine = load(&directory(copy.path())).unwrap();
        assert_states(&*engine, &lines(&fixture(name).join("golden.jsonl")), name);
    }
}

/// A tensor of a file: name, what the header says of it, bytes.
struct Stored {
    name: String,
    about: Value,
    bytes: Vec<u8>,
}

/// Writes the weights of a copy again, changed.
fn rewrite(directory: &Path, change: impl FnOnce(&mut Vec<Stored>)) {
    let path = directory.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header.remove("__metadata__");
    let stored = |(name, about): (String, Value)| {
        let [start, end]: [usize; 2] = serde_json::from_value(about["data_offsets"].clone()).unwrap();
        Stored { name, about, bytes: bytes[8 + length + start..8 + length + end].to_vec() }
    };
    let mut tensors: Vec<Stored> = header.into_iter().map(stored).collect();
    change(&mut tensors);
    let (mut header, mut data) = (Map::new(), Vec::new());
    for Stored { name, mut about, bytes } in tensors {
        about["data_offsets"] = json!([data.len(), data.len() + bytes.len()]);
        data.extend(bytes);
        header.insert(name, about);
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
}

/// Renames the tensors of a copy, and drops those that get no name.
fn rename(directory: &Path, renamed: impl Fn(&str) -> Option<String>) {
    rewrite(directory, |tensors| {
        tensors.retain_mut(|tensor| renamed(&tensor.name).map(|name| tensor.name = name).is_some());
    });
}

#[test]
fn checkpoints_load_with_and_without_the_prefix_of_their_family() {
    let prefixes = [
        ("bert", "bert."),
        ("roberta", "roberta."),
        ("camembert", "roberta."),
        ("distilbert", "distilbert."),
        ("mpnet", "mpnet."),
        ("modernbert", "model."),
        ("deberta-v3", "deberta."),
        ("qwen3", "model."),
    ];
    for (name, prefix) in prefixes {
        let copy = copy(name);
        // Only the encoder is left, under plain names.
        rename(copy.path(), |tensor| tensor.strip_prefix(prefix).map(str::to_owned));
        let plain = directory(copy.path());
        let golden = lines(&fixture(name).join("golden.jsonl"));
        assert_states(&*load(&plain).unwrap(), &golden, name);
        if name == "qwen3" {
            assert_logits(&*load_yes_no(&plain, 11, 17).unwrap(), name);
        } else {
            let message = load_classifier(&plain).err().unwrap().to_string();
            assert!(message.contains("hold no classification head (`classifier"), "{name}: {message}");
        }
    }
    for (name, prefix) in [("gemma3", "model."), ("nomic-bert", "nomic_bert."), ("jina-bert", "bert.")] {
        let copy = copy(name);
        rename(copy.path(), |tensor| Some(format!("{prefix}{tensor}")));
        assert_states(&*load(&directory(copy.path())).unwrap(), &lines(&fixture(name).join("golden.jsonl")), name);
    }
}

/// A Qwen3 with one tensor more, made of the words' rows `ids`.
fn with_words_as(name: &str, ids: &[usize]) -> tempfile::TempDir {
    let copy = copy("qwen3");
    rewrite(copy.path(), |tensors| {
        let words = tensors.iter().find(|tensor| tensor.name == "model.embed_tokens.weight").unwrap();
        let rows: Vec<&[u8]> = words.bytes.chunks_exact(words.bytes.len() / 43).collect();
        let bytes = ids.iter().flat_map(|&id| rows[id].to_vec()).collect();
        let about = json!({"dtype": words.about["dtype"], "shape": [ids.len(), 32]});
        tensors.push(Stored { name: name.to_owned(), about, bytes });
    });
    copy
}

#[test]
fn qwen3_reads_a_head_of_its_own_where_it_has_one() {
    let sequence = lines(&fixture("qwen3").join("pairs.jsonl"))[0].sequence();
    let run = |engine: Result<Box<dyn Engine>>| engine.unwrap().run(&[&sequence]).unwrap();
    let tied = |yes, no| run(load_yes_no(&directory(&fixture("qwen3")), yes, no));

    let turned: Vec<usize> = (0..43).rev().collect();
    let copy = with_words_as("lm_head.weight", &turned);
    let yes_no = || run(load_yes_no(&directory(copy.path()), 11, 17));
    assert_eq!(yes_no(), tied(11, 17), "tied: the head is not looked at");
    edit(copy.path(), json!({"tie_word_embeddings": false}).as_object().unwrap());
    assert_eq!(yes_no(), tied(31, 25));

    let copy = with_words_as("score.weight", &[5, 9, 40]);
    edit(copy.path(), json!({"num_labels": 3}).as_object().unwrap());
    let scores = run(load_classifier(&directory(copy.path())));
    assert_eq!((&scores[..2], scores[2]), (&tied(5, 9)[..], tied(40, 0)[0]));
}

/// The message with which a changed fixture is refused.
fn refusal(name: &str, change: Value) -> String {
    let copy = edited(name, change);
    load(&directory(copy.path())).err().expect("it is refused").to_string()
}

#[test]
fn unknown_settings_are_refused_by_name_with_what_is_supported() {
    let cases = [
        (
            "bert",
            json!({"position_embedding_type": "relative_key"}),
            "`relative_key` is not supported yet; supported: absolute, alibi",
        ),
        ("bert", json!({"is_decoder": true}), "is_decoder = true is not supported"),
        (
            "bert",
            json!({"quantization_config": {"quant_method": "gptq"}}),
            "quantization_config (gptq) is not supported",
        ),
        ("bert", json!({"pruned_heads": {"0": [1]}}), "pruned_heads is not supported"),
        ("bert", json!({"hidden_act": "mish"}), "hidden_act `mish` is not supported yet; gelu, gelu_new"),
        ("jina-bert", json!({"feed_forward_type": "moe"}), "feed_forward_type `moe` is not supported yet"),
        ("roberta", json!({"position_embedding_type": "alibi"}), "`alibi` is not supported yet; only absolute"),
        (
            "mpnet",
            json!({"relative_attention_num_buckets": 64}),
            "relative_attention_num_buckets 64 is not supported yet; only 32",
        ),
        ("modernbert", json!({"classifier_pooling": "max"}), "classifier_pooling `max` is not supported yet"),
        ("modernbert", json!({"layer_types": ["full_attention"]}), "layer 1 is missing"),
        (
            "modernbert",
            json!({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}),
            "rope_type `yarn` is not supported yet; only default",
        ),
        ("modernbert", json!({"num_attention_heads": 32}), "heads of 1 numbers cannot have rotary embeddings"),
        ("nomic-bert", json!({"num_experts": 8}), "num_experts 8 (nomic-embed v2) is not supported yet"),
        ("nomic-bert", json!({"prenorm": true}), "prenorm = true is not supported yet; only false is"),
        ("nomic-bert", json!({"rotary_scaling_factor": 2.0}), "rotary_scaling_factor 2 is not supported yet"),
        ("nomic-bert", json!({"rotary_emb_fraction": 0.5}), "rotary_emb_fraction 0.5 is not supported yet"),
        (
            "deberta-v3",
            json!({"conv_kernel_size": 3}),
            "conv_kernel_size 3 (a convolution after the first layer) is not supported yet",
        ),
        (
            "deberta-v3",
            json!({"pos_att_type": "p2p|c2p"}),
            "pos_att_type `p2p` is not supported yet; supported: c2p, p2c",
        ),
        ("deberta-v3", json!({"norm_rel_ebd": "batch"}), "norm_rel_ebd `batch` is not supported yet"),
        ("deberta-v3", json!({"attention_head_size": 64}), "attention_head_size 64 is not supported yet; only 8"),
        ("qwen3", json!({"num_key_value_heads": 3}), "4 attention heads of 12 numbers cannot share 3 heads"),
        ("qwen3", json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), "rope_scaling: rope_type `yarn`"),
        ("qwen3", json!({"layer_types": vec!["sliding_attention"; 4]}), "layer 0 has sliding_attention, but"),
        ("gemma3", json!({"attn_logit_softcapping": 50.0}), "attn_logit_softcapping 50 is not supported yet"),
        (
            "gemma3",
            json!({"rope_parameters": {"full_attention": {"partial_rotary_factor": 0.5}}}),
            "partial_rotary_factor 0.5",
        ),
    ];
    for (name, change, wanted) in cases {
        let message = refusal(name, change);
        assert!(message.contains("config.json: ") && message.contains(wanted), "{name}: {message}");
    }
}

#[test]
fn heads_that_are_not_there_are_refused_by_name() {
    let message = |engine: Result<Box<dyn Engine>>| engine.err().expect("it is refused").to_string();
    let head = message(load_classifier(&directory(&fixture("nomic-bert"))));
    assert!(head.contains("a classification head on `nomic_bert` is not supported yet; supported: bert"), "{head}");
    let head = message(load_classifier(&directory(&fixture("qwen3"))));
    assert!(head.contains("hold no classification head (`score.weight`)"), "{head}");
    let two = message(load_yes_no(&directory(&fixture("bert")), 1, 2));
    assert!(two.contains("scores by two tokens are not supported for `bert` yet; supported: qwen3"), "{two}");
    let beyond = message(load_yes_no(&directory(&fixture("qwen3")), 1, 4000));
    assert!(beyond.contains("token id 4000 is not among the 43"), "{beyond}");
    let copy = edited("roberta", json!({"id2label": {"0": "no", "1": "yes"}}));
    let labels = message(load_classifier(&directory(copy.path())));
    assert!(labels.contains("2 labels, but the tensor `classifier.out_proj.weight` has 3 rows"), "{labels}");
}

#[test]
fn numbers_of_unknown_types_are_refused() {
    let copy = copy("bert");
    let path = copy.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap().replace("\"F16\"", "\"I16\"");
    fs::write(&path, [&bytes[..8], header.as_bytes(), &bytes[8 + length..]].concat()).unwrap();
    let message = load(&directory(copy.path())).err().unwrap().to_string();
    assert!(message.contains("holds numbers of type i16, which is not supported; f32, f16 and bf16 are"), "{message}");
}

#[test]
fn missing_shard_is_named() {
    let copy = copy("xlm-roberta");
    fs::remove_file(copy.path().join("model-00002-of-00003.safetensors")).unwrap();
    let message = ModelDirectory::read(copy.path()).unwrap_err().to_string();
    assert!(message.contains("model-00002-of-00003.safetensors is missing"), "{message}");
}
