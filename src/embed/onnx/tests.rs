//! Do graphs give the vectors of an independent forward, alone and in a batch, and are bad ones refused by name?
//!
//! What runs a graph needs ONNX Runtime; where there is none, these tests check that this is said, with the ways out.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::embed::name::{Choice, Name};
use crate::embed::runtime::Device;
use crate::embed::transformer::Transformer;
use crate::embed::{Embedder, NoStatistics, identity_difference};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-onnx")
}

/// Whether there is a library to test with. Where there is none, what is said of it is the test.
fn library_is_there() -> bool {
    match library::environment(None) {
        Ok(_) => true,
        Err(message) => {
            let ways_out = ["pip install onnxruntime", "--onnx-runtime PATH", "ORT_DYLIB_PATH", "Looked: "];
            assert!(ways_out.iter().all(|way| message.contains(way)), "{message}");
            let start = Instant::now();
            let error = open(&fixture(), "").err().unwrap();
            assert!(matches!(&error, Error::Model { .. }) && error.to_string().contains("ONNX Runtime"), "{error}");
            assert!(start.elapsed().as_secs() < 1, "said only after {:?}", start.elapsed());
            false
        }
    }
}

fn open(directory: &Path, graph: &str) -> Result<Transformer> {
    let name = directory.join(graph).to_string_lossy().into_owned();
    Transformer::load(&Choice::of(Name::parse(&name))?, &Runtime::default())
}

fn engine(directory: &Path, graph: &str, wanted: Wanted) -> Onnx {
    let graph = directory.join(graph);
    let facts = facts(directory, &graph).unwrap();
    let described = described(directory, &graph, &facts).unwrap();
    Onnx::load(&described, &graph, &facts, &Runtime::default(), wanted).unwrap()
}

struct Golden {
    text: String,
    ids: Vec<u32>,
    vector: Vec<f32>,
    logits: Vec<f32>,
}

fn golden() -> Vec<Golden> {
    let numbers = |value: &Value| serde_json::from_value(value.clone()).unwrap();
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        Golden {
            text: line["text"].as_str().unwrap().into(),
            ids: serde_json::from_value(line["ids"].clone()).unwrap(),
            vector: numbers(&line["vector"]),
            logits: numbers(&line["logits"]),
        }
    };
    fs::read_to_string(fixture().join("golden.jsonl")).unwrap().lines().map(read).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Embeds `texts` together, backwards, alone and in equal lengths: the vectors, and by how much they differ at most.
fn embed_all_ways(model: &Transformer, texts: &[&str]) -> (Vec<Vec<f32>>, f32) {
    let rows = |texts: &[&str]| -> Vec<Vec<f32>> {
        model.embed_documents(texts).unwrap().rows().map(<[f32]>::to_vec).collect()
    };
    let together = rows(texts);
    let backwards: Vec<&str> = texts.iter().copied().rev().collect();
    let mut largest = 0f32;
    for (index, backwards) in rows(&backwards).iter().rev().enumerate() {
        largest = largest.max(apart(backwards, &together[index]));
    }
    for (text, vector) in texts.iter().zip(&together) {
        largest = largest.max(apart(&model.embed_queries(&[text], &NoStatistics).unwrap().values, vector));
        for equal in rows(&[*text; 3]) {
            largest = largest.max(apart(&equal, vector));
        }
    }
    (together, largest)
}

/// A copy of the fixture that a test may spoil.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for folder in ["1_Pooling", "onnx"] {
        fs::create_dir(copy.path().join(folder)).unwrap();
    }
    let settings =
        ["config.json", "modules.json", "sentence_bert_config.json", "tokenizer.json", "1_Pooling/config.json"];
    let graphs = ["onnx/model.onnx", "onnx/model_fp16.onnx", "onnx/model_fp16.onnx_data", "onnx/model_int8.onnx"];
    for name in settings.iter().chain(&graphs) {
        fs::copy(fixture().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

/// Puts `new` for `old`, of the same length, wherever it stands in a graph.
fn patch(path: &Path, old: &str, new: &str) {
    assert_eq!(old.len(), new.len());
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - old.len()).filter(|&at| bytes[at..].starts_with(old.as_bytes())).collect();
    assert!(!places.is_empty(), "{old} is nowhere in {}", path.display());
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    fs::write(path, bytes).unwrap();
}

/// The message with which a spoilt copy's graph is refused, which must come fast.
fn refusal(graph: &str, spoil: impl FnOnce(&Path)) -> String {
    let copy = copy();
    spoil(copy.path());
    let start = Instant::now();
    let error = open(copy.path(), graph).err().expect("the spoilt model is refused");
    assert!(start.elapsed().as_secs() < 1, "refused only after {:?}", start.elapsed());
    assert!(matches!(error, Error::Model { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn f32_graph_agrees_with_numpy_alone_and_in_a_batch() {
    if !library_is_there() {
        return;
    }
    let (model, golden) = (open(&fixture(), "").unwrap(), golden());
    let texts: Vec<&str> = golden.iter().map(|golden| golden.text.as_str()).collect();
    let (vectors, largest) = embed_all_ways(&model, &texts);
    assert!(largest < 1e-5, "a batch changes a vector by {largest}");
    for (vector, golden) in vectors.iter().zip(&golden) {
        assert!(apart(vector, &golden.vector) < 1e-5, "{} for {:?}", apart(vector, &golden.vector), golden.text);
    }
    let spec = model.spec();
    assert_eq!((spec.backend.as_str(), spec.precision.as_str(), spec.device.as_str()), ("onnx", "f32", "cpu"));
    assert_eq!(spec.id, fixture().join("onnx/model.onnx").display().to_string());
}

#[test]
fn int8_vector_does_not_depend_on_its_neighbours() {
    if !library_is_there() {
        return;
    }
    let (model, golden) = (open(&fixture(), "onnx/model_int8.onnx").unwrap(), golden());
    let texts: Vec<&str> = golden.iter().map(|golden| golden.text.as_str()).collect();
    let (vectors, largest) = embed_all_ways(&model, &texts);
    assert_eq!(largest, 0.0, "a batch changes a vector");
    assert_eq!(model.spec().precision, "int8");
    let similar = vectors.iter().zip(&golden).map(|(vector, golden)| cosine(vector, &golden.vector));
    let mean = similar.sum::<f64>() / golden.len() as f64;
    assert!(mean > 0.99, "mean cosine {mean}");
    // What would happen otherwise: the runtime's own batches change the numbers.
    let mut engine = engine(&fixture(), "onnx/model_int8.onnx", Wanted::Embedding);
    assert!(engine.alone);
    let (short, long) = (Sequence::single(golden[1].ids.clone()), Sequence::single(golden[7].ids.clone()));
    let alone = engine.run(&[&short]).unwrap();
    engine.alone = false;
    let beside = engine.run(&[&long, &short]).unwrap();
    let difference = apart(&beside[beside.len() - alone.len()..], &alone);
    assert!(difference > 1e-3, "{difference}: this graph shows nothing");
}

#[test]
fn a_trial_run_finds_what_the_operators_hide() {
    if !library_is_there() {
        return;
    }
    let mut engine = engine(&fixture(), "onnx/model_int8.onnx", Wanted::Embedding);
    engine.alone = false;
    engine.try_out().unwrap();
    assert!(engine.alone, "a graph that scales by its batch passed");
    let mut engine = self::engine(&fixture(), "onnx/model.onnx", Wanted::Embedding);
    engine.try_out().unwrap();
    assert!(!engine.alone);
}

#[test]
fn half_precision_with_external_data_gives_finished_vectors() {
    if !library_is_there() {
        return;
    }
    let (model, golden) = (open(&fixture(), "onnx/model_fp16.onnx").unwrap(), golden());
    let texts: Vec<&str> = golden.iter().map(|golden| golden.text.as_str()).collect();
    let (vectors, largest) = embed_all_ways(&model, &texts);
    assert!(largest < 4e-3, "a batch changes a vector by {largest}");
    for (vector, golden) in vectors.iter().zip(&golden) {
        let similarity = cosine(vector, &golden.vector);
        assert!(similarity > 0.999, "cosine {similarity} for {:?}", golden.text);
    }
    assert_eq!(model.spec().precision, "f16");
    // The digest is over the data, too.
    let copy = copy();
    let path = copy.path().join("onnx/model_fp16.onnx_data");
    let mut data = fs::read(&path).unwrap();
    data[100] ^= 1;
    fs::write(path, data).unwrap();
    let changed = open(copy.path(), "onnx/model_fp16.onnx").unwrap();
    assert_ne!(changed.spec().weights_digest, model.spec().weights_digest);
}

#[test]
fn classifier_gives_a_row_of_logits_for_each_sequence() {
    if !library_is_there() {
        return;
    }
    let (engine, golden) = (engine(&fixture(), "onnx/model.onnx", Wanted::Logits), golden());
    assert_eq!((engine.output(), engine.width()), (Output::Sequences, 2));
    let sequences: Vec<Sequence> = golden.iter().map(|golden| Sequence::single(golden.ids.clone())).collect();
    let logits = engine.run(&sequences.iter().collect::<Vec<_>>()).unwrap();
    for (row, golden) in logits.chunks_exact(2).zip(&golden) {
        assert!(apart(row, &golden.logits) < 1e-3, "{row:?}, wanted {:?}", golden.logits);
    }
    let described = ModelDirectory::read_with_weights(&fixture(), Vec::new()).unwrap();
    let missing = load_classifier(&described, &fixture().join("onnx/model_fp16.onnx"), &Runtime::default());
    // One output alone is taken for what its axes say; this is no vector of logits, but nothing in the file says so.
    assert_eq!(missing.unwrap().width(), 32);
}

#[test]
fn many_threads_may_run_a_model_at_once() {
    if !library_is_there() {
        return;
    }
    let (model, golden) = (open(&fixture(), "").unwrap(), golden());
    std::thread::scope(|scope| {
        let embed = |index: usize| {
            let golden = &golden[index % golden.len()];
            let vector = model.embed_documents(&[&golden.text]).unwrap().values;
            assert!(apart(&vector, &golden.vector) < 1e-5, "{:?}", golden.text);
        };
        let threads: Vec<_> =
            (0..12).map(|index| scope.spawn(move || (0..20).for_each(|turn| embed(index + turn)))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn real_minilm_agrees_with_sentence_transformers() {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(directory), Some(path)) = (named("QUIVER_TEST_MINILM_ONNX"), named("QUIVER_TEST_GOLDEN")) else {
        eprintln!("QUIVER_TEST_MINILM_ONNX and QUIVER_TEST_GOLDEN are not set: the tiny graphs alone are checked");
        assert_eq!(golden().len(), 10);
        return;
    };
    let lines = fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<&str> = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    let wanted: Vec<Vec<f32>> =
        lines.iter().map(|line| serde_json::from_value(line["embedding"].clone()).unwrap()).collect();
    let similarities = |graph: &str, tolerance: f32| -> Vec<f64> {
        let model = open(&directory, graph).unwrap();
        let (vectors, largest) = embed_all_ways(&model, &texts);
        assert!(largest <= tolerance, "{graph}: a batch changes a vector by {largest}");
        vectors.iter().zip(&wanted).map(|(vector, wanted)| cosine(vector, wanted)).collect()
    };
    let full = similarities("onnx/model.onnx", 1e-5);
    let least = full.iter().copied().fold(1.0, f64::min);
    assert!(least >= 0.9999, "f32: least cosine {least}");
    // How near a quantised graph comes is up to how it was made: with a scale for each tensor, or for each of its columns.
    for (graph, bar) in [("onnx/model_int8.onnx", 0.96), ("onnx/model_int8_per_channel.onnx", 0.99)] {
        if directory.join(graph).is_file() {
            let similarities = similarities(graph, 0.0);
            let mean = similarities.iter().sum::<f64>() / similarities.len() as f64;
            assert!(mean >= bar, "{graph}: mean cosine {mean}");
        }
    }
}

#[test]
fn other_weights_never_share_a_collection() {
    let of = |name: &str| crate::embed::explain(name, &Runtime::default()).unwrap().0;
    let of_graph = |graph: &str| of(&fixture().join(graph).to_string_lossy());
    let (full, int8) = (of_graph("onnx/model.onnx"), of_graph("onnx/model_int8.onnx"));
    assert_eq!(identity_difference(Some(&full), &of_graph("")), None);
    let difference = identity_difference(Some(&full), &int8).unwrap();
    assert!(difference.starts_with("weights digest: stored `") && !difference.contains("runs on"), "{difference}");
    let mut safetensors = int8.clone();
    safetensors.backend = "candle".into();
    let difference = identity_difference(Some(&safetensors), &full).unwrap();
    assert!(difference.ends_with("; stored runs on candle, given on onnx"), "{difference}");
}

#[test]
fn what_a_graph_is_stands_with_its_source() {
    let name = fixture().join("onnx/model_int8.onnx");
    let (spec, lines) = crate::embed::explain(&name.to_string_lossy(), &Runtime::default()).unwrap();
    assert_eq!((spec.backend.as_str(), spec.precision.as_str(), spec.dims), ("onnx", "int8", 32));
    let line = |field: &str| {
        lines.iter().find(|(name, ..)| name == field).map(|(_, value, source)| (value.as_str(), source.as_str()))
    };
    assert_eq!(line("backend"), Some(("onnx", "the name of a graph")));
    assert_eq!(line("device"), Some(("cpu", "default")));
    let (batches, source) = line("batches").unwrap();
    assert_eq!(batches, "one text at a time");
    assert!(source.contains("model_int8.onnx: DynamicQuantizeLinear"), "{source}");
    assert!(line("weights").unwrap().1.ends_with("model_int8.onnx"));
}

#[test]
fn truncated_graphs_are_refused() {
    let length = fs::metadata(fixture().join("onnx/model.onnx")).unwrap().len();
    for keep in [0, 1, 40, 4_000, 30_000, length - 1] {
        let message = refusal("", |directory| {
            let path = directory.join("onnx/model.onnx");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..usize::try_from(keep).unwrap()]).unwrap();
        });
        assert!(
            message.contains(&format!("model.onnx ({keep} bytes) is truncated, damaged or no ONNX graph")),
            "{message}"
        );
    }
    let message =
        refusal("", |directory| fs::write(directory.join("onnx/model.onnx"), "version https://git-lfs").unwrap());
    assert!(message.contains("truncated, damaged or no ONNX graph"), "{message}");
}

#[test]
fn messages_nested_without_end_are_refused() {
    fn wrapped(tag: u8, inner: &[u8]) -> Vec<u8> {
        let (mut outer, mut length) = (vec![tag], inner.len());
        while length >= 0x80 {
            outer.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        outer.push(u8::try_from(length).unwrap());
        outer.extend_from_slice(inner);
        outer
    }
    // A graph in an attribute of a node of a graph in an attribute, as deep as 4 KiB go.
    let mut inner: Vec<u8> = Vec::new();
    while inner.len() < 1 << 12 {
        inner = wrapped(0x0a, &wrapped(0x2a, &wrapped(0x32, &inner)));
    }
    let inner = wrapped(0x3a, &inner);
    let message = refusal("", |directory| fs::write(directory.join("onnx/model.onnx"), &inner).unwrap());
    assert!(message.contains("messages inside one another"), "{message}");
}

#[test]
fn external_data_outside_of_the_folder_is_refused_by_name() {
    for outside in ["../../../../etc/pass", "/etc/passwd/aaaaaaaa", "onnx/../../../../aaa"] {
        let message = refusal("onnx/model_fp16.onnx", |directory| {
            patch(&directory.join("onnx/model_fp16.onnx"), "model_fp16.onnx_data", outside);
        });
        assert!(message.contains(&format!("keeps its weights in `{outside}`, outside of its folder")), "{message}");
    }
    let message = refusal("onnx/model_fp16.onnx", |directory| {
        fs::remove_file(directory.join("onnx/model_fp16.onnx_data")).unwrap();
    });
    assert!(message.contains("model_fp16.onnx_data is missing, in which the graph keeps its weights"), "{message}");
}

#[test]
fn graphs_that_do_not_fit_are_refused_by_name() {
    if !library_is_there() {
        return;
    }
    let with = |old: &str, new: &str| {
        refusal("onnx/model.onnx", |directory| patch(&directory.join("onnx/model.onnx"), old, new))
    };
    let message = with("token_type_ids", "past_key_value");
    assert!(
        message.contains("asks for the input `past_key_value`; supported are input_ids, attention_mask"),
        "{message}"
    );
    let message = with("last_hidden_state", "last_hidden_stats");
    assert!(message.contains("gives last_hidden_stats, logits; looked for last_hidden_state"), "{message}");
    let message = with("Softmax", "Softmix");
    assert!(message.contains("ONNX Runtime refuses model.onnx on cpu: ") && message.contains("Softmix"), "{message}");
    let message = refusal("", |directory| {
        let path = directory.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["hidden_size"] = json!(40);
        fs::write(path, config.to_string()).unwrap();
    });
    assert!(message.contains("pools states of 32 numbers; the encoder's have 40"), "{message}");
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let choice = Choice::of(Name::parse(&fixture().to_string_lossy())).unwrap();
    let refused = |device| Transformer::load(&choice, &Runtime::new().device(device)).err().unwrap();
    let error = refused(Device::Cuda(0));
    if !cfg!(feature = "onnx-cuda") {
        assert!(matches!(error, Error::FeatureMissing { feature: "onnx-cuda", .. }), "{error}");
        assert!(error.to_string().contains("the device `cuda` for ONNX graphs needs the feature"), "{error}");
    } else if library_is_there() {
        assert!(error.to_string().contains("on cuda: "), "{error}");
    }
}

#[test]
fn a_library_that_is_not_there_is_an_error() {
    if !library_is_there() {
        return;
    }
    // The process has its library by now; another one is refused by name.
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("libonnxruntime.so");
    fs::write(&path, "no library").unwrap();
    let choice = Choice::of(Name::parse(&fixture().to_string_lossy())).unwrap();
    let error = Transformer::load(&choice, &Runtime::new().onnx_runtime(other.path())).err().unwrap().to_string();
    assert!(error.contains("this process already runs the ONNX Runtime in"), "{error}");
}

#[test]
fn memory_is_what_the_files_weigh_for_each_session_that_was_made() {
    if !library_is_there() {
        return;
    }
    let engine = engine(&fixture(), "onnx/model.onnx", Wanted::Embedding);
    let file = fs::metadata(fixture().join("onnx/model.onnx")).unwrap().len();
    assert_eq!((engine.memory_bytes(), engine.gains_by_batches()), (Some(file), false));
    // A second session is made where one is in use.
    engine.sessions.with(|_| engine.run(&[&Sequence::single(vec![1, 2])])).unwrap();
    let most = file * rayon::current_num_threads().min(2) as u64;
    if rayon::current_num_threads() > 1 {
        assert_eq!(engine.memory_bytes(), Some(most));
    }
}
