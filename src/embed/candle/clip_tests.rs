//! Does CLIP agree with sentence-transformers and transformers, on texts and on pictures, alone and together?
//!
//! `tests/fixtures/make_clip.py` made the tiny models, the pictures, and what Python computes of them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::tests::{assert_close, cosine};
use crate::embed::transformer::Transformer;
use crate::embed::{self, Embedder, NoStatistics};
use crate::images::Image;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clip").join(name)
}

fn lines(path: &Path) -> Vec<Value> {
    let lines: Vec<Value> =
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty());
    lines
}

fn wanted(line: &Value) -> Vec<f32> {
    serde_json::from_value(line["embedding"].clone()).unwrap()
}

/// A copy of a model that a test may change, all of its files in one folder.
fn copy(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file())
    {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut settings: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut settings);
    fs::write(path, settings.to_string()).unwrap();
}

fn refusal(directory: &Path) -> String {
    Transformer::open(directory).err().unwrap().to_string()
}

#[test]
fn texts_agree_with_sentence_transformers() {
    for name in ["old", "new"] {
        let model = Transformer::open(&fixture(name)).unwrap();
        let spec = model.spec();
        assert_eq!((spec.dims, spec.max_tokens, spec.special_tokens, spec.images), (20, 77, 2, true), "{name}");
        assert_eq!((spec.pooling.as_str(), spec.normalized), ("end of text", false), "{name}");
        let lines = lines(&fixture(name).join("texts.jsonl"));
        let texts: Vec<&str> = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
        let together = model.embed_documents(&texts).unwrap();
        assert_eq!(together.truncated, 1, "{name}");
        for (line, vector) in lines.iter().zip(together.rows()) {
            assert_close(vector, &wanted(line), &format!("{name}, {}", line["text"]));
            let alone = model.embed_queries(&[line["text"].as_str().unwrap()], &NoStatistics).unwrap();
            assert_eq!(alone.values, vector, "{name}, {}", line["text"]);
        }
    }
}

#[cfg(feature = "images")]
#[test]
fn pictures_agree_with_sentence_transformers() {
    for name in ["old", "new"] {
        let model = Transformer::open(&fixture(name)).unwrap();
        let lines = lines(&fixture(name).join("images.jsonl"));
        let open = |line: &Value| Image::open(&fixture("pictures").join(line["file"].as_str().unwrap())).unwrap();
        let pictures: Vec<Image> = lines.iter().map(open).collect();
        let together = model.embed_images(&pictures).unwrap();
        assert_eq!((together.rows().len(), together.truncated), (pictures.len(), 0));
        for ((line, picture), vector) in lines.iter().zip(&pictures).zip(together.rows()) {
            let (what, wanted) = (format!("{name}, {}", line["file"]), wanted(line));
            let similarity = cosine(vector, &wanted);
            assert!(similarity >= 0.9999, "{what}: cosine {similarity}");
            // Decoders of JPEG and of lossy WebP may round otherwise; of all others every byte is the same.
            if line["prepared"].is_string() {
                assert_close(vector, &wanted, &what);
            }
            assert_eq!(model.embed_images(std::slice::from_ref(picture)).unwrap().values, vector, "{what}: alone");
        }
        assert!(model.embed_images(&[]).unwrap().values.is_empty());
    }
}

#[test]
fn a_directory_without_settings_for_pictures_reads_texts_alone() {
    let copy = copy("new");
    fs::remove_file(copy.path().join("processor_config.json")).unwrap();
    let model = Transformer::open(copy.path()).unwrap();
    assert!(!model.spec().images);
    let line = &lines(&fixture("new").join("texts.jsonl"))[1];
    assert_close(&model.embed_documents(&["a photo of a cat"]).unwrap().values, &wanted(line), "texts");
    let picture = Image::rgb(1, 1, vec![0; 3]).unwrap();
    let message = model.embed_images(&[picture]).unwrap_err().to_string();
    assert!(
        message.contains("reads no images; CLIP does") && message.contains("preprocessor_config.json"),
        "{message}"
    );
}

#[test]
fn wrapped_models_read_pictures_too() {
    let picture = Image::rgb(2, 2, (0..12).map(|level| level * 20).collect()).unwrap();
    let full = embed::open(&fixture("old").display().to_string()).unwrap();
    let short = embed::truncate(std::sync::Arc::clone(&full), 5).unwrap();
    let (long, cut) =
        (full.embed_images(std::slice::from_ref(&picture)).unwrap(), short.embed_images(&[picture]).unwrap());
    assert!((cosine(&cut.values, &long.values[..5]) - 1.0).abs() < 1e-6);
    assert_eq!((cut.dims, short.spec().images), (5, true));
}

#[test]
fn settings_for_pictures_and_the_tokenizer_s_files_are_part_of_the_model() {
    let digest = |path: &Path| Transformer::open(path).unwrap().spec().tokenizer_digest.clone();
    let copy = copy("new");
    let before = digest(copy.path());
    assert_eq!(before, digest(&fixture("new")));
    rewrite(&copy.path().join("processor_config.json"), |settings| settings["image_processor"]["resample"] = json!(3));
    assert_ne!(before, digest(copy.path()));
}

#[test]
fn modules_may_follow_and_a_pooling_may_not() {
    let copy = copy("new");
    let module =
        |index: usize, path: &str, kind: &str| json!({"idx": index, "path": path, "type": format!("a.{kind}")});
    let list = |modules: &[Value]| fs::write(copy.path().join("modules.json"), json!(modules).to_string()).unwrap();
    list(&[module(0, "", "Transformer"), module(1, "1_Normalize", "Normalize")]);
    let model = Transformer::open(copy.path()).unwrap();
    assert!(model.spec().normalized);
    let line = &lines(&fixture("new").join("texts.jsonl"))[1];
    let vector = model.embed_documents(&["a photo of a cat"]).unwrap().values;
    let length: f32 = vector.iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-6 && cosine(&vector, &wanted(line)) > 0.999_999_9);
    list(&[module(0, "", "CLIPModel"), module(1, "1_Pooling", "Pooling")]);
    assert!(refusal(copy.path()).contains("module 1 is `Pooling` (a.Pooling), which is not supported there"));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let cases = [
        (
            "config.json",
            "/text_config/hidden_act",
            json!("mish"),
            "text_config: hidden_act `mish` is not supported yet",
        ),
        ("config.json", "/text_config/eos_token_id", json!([1, 2]), "text_config: invalid type: sequence"),
        ("config.json", "/vision_config/num_channels", json!(4), "with 4 channels in patches of 6x6 are not supported"),
        ("config.json", "/vision_config/patch_size", json!(0), "vision_config: patch_size is 0"),
        ("config.json", "/vision_config/image_size", json!(36), "the model reads 36x36"),
        ("config.json", "/vision_config/num_attention_heads", json!(7), "cannot be split into 7 attention heads"),
        ("config.json", "/projection_dim", json!(21), "asks for [21, 32]"),
        ("processor_config.json", "/image_processor/resample", json!(0), "processor_config.json: resample 0 is not"),
    ];
    for (file, pointer, value, expected) in cases {
        let copy = copy("new");
        rewrite(&copy.path().join(file), |settings| *settings.pointer_mut(pointer).unwrap() = value);
        let message = refusal(copy.path());
        assert!(message.contains(expected), "{pointer}: {message}");
    }
    let copy = copy("old/0_CLIPModel");
    fs::remove_file(copy.path().join("merges.txt")).unwrap();
    assert!(refusal(copy.path()).contains("merges.txt is missing beside vocab.json"));
}
