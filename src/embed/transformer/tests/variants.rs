//! Does what stands around an encoder give sentence-transformers' own vectors?
//!
//! `tests/fixtures/make_models.py` made the models and their golden vectors; a variant is laid over the plain encoder.

use super::*;
use crate::embed::truncate;

/// The six poolings in the order in which early versions put them one after the other.
const POOLINGS: [Pooling; 6] =
    [Pooling::Cls, Pooling::Max, Pooling::Mean, Pooling::MeanSqrtLen, Pooling::WeightedMean, Pooling::LastToken];

struct Variant {
    directory: tempfile::TempDir,
    texts: Vec<String>,
    queries: Vec<Vec<f32>>,
    documents: Vec<Vec<f32>>,
}

fn lay(from: &Path, over: &Path) {
    fs::create_dir_all(over).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = over.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            lay(&entry.path(), &target)
        } else {
            {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}

impl Variant {
    fn new(name: &str) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/variants");
        let directory = tempfile::tempdir().unwrap();
        lay(&fixtures.join("encoder"), directory.path());
        lay(&fixtures.join(name), directory.path());
        let golden = fs::read_to_string(directory.path().join("golden.jsonl")).unwrap();
        let mut variant = Self { directory, texts: Vec::new(), queries: Vec::new(), documents: Vec::new() };
        for line in golden.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let vector = |field: &str| serde_json::from_value::<Vec<f32>>(line[field].clone()).unwrap();
            variant.texts.push(line["text"].as_str().unwrap().into());
            variant.documents.push(vector("document"));
            variant.queries.push(vector(if line.get("query").is_some() { "query" } else { "document" }));
        }
        assert!(variant.texts.len() >= 10, "{name} has its texts");
        variant
    }

    fn open(&self) -> Transformer {
        Transformer::open(self.directory.path()).unwrap()
    }

    fn texts(&self) -> Vec<&str> {
        self.texts.iter().map(String::as_str).collect()
    }

    /// Asserts that documents and queries are the golden ones, lengths included, and the same bits alone, in a batch and
    /// among equal lengths.
    fn expect_golden(&self) -> Transformer {
        let model = self.open();
        let texts = self.texts();
        let documents = model.embed_documents(&texts).unwrap();
        let queries = model.embed_queries(&texts, &NoStatistics).unwrap();
        assert_eq!((documents.dims, model.spec().dims), (self.documents[0].len(), self.documents[0].len()));
        for (found, golden) in [(&documents, &self.documents), (&queries, &self.queries)] {
            for ((vector, golden), text) in found.rows().zip(golden).zip(&texts) {
                let similarity = cosine(vector, golden);
                assert!(similarity >= 0.999_99, "cosine {similarity} for {text:?}");
                let size = golden.iter().map(|value| value.abs()).fold(0.0, f32::max);
                let difference = vector.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(difference < 1e-4 * size.max(1.0), "{difference} apart for {text:?}");
            }
        }
        for (vector, text) in documents.rows().zip(&texts) {
            assert_eq!(model.embed_documents(&[text]).unwrap().values, vector, "alone and in a batch differ: {text:?}");
            let equal = model.embed_documents(&[*text; 5]).unwrap();
            assert!(equal.rows().all(|row| row == vector), "equal neighbours change {text:?}");
        }
        for (vector, text) in queries.rows().zip(&texts) {
            assert_eq!(model.embed_queries(&[text], &NoStatistics).unwrap().values, vector);
        }
        model
    }
}

#[test]
fn half_precision_directory_without_modules_pools_by_mean() {
    let model = Variant::new("encoder").expect_golden();
    assert_eq!((model.spec().pooling.as_str(), model.spec().max_tokens, model.spec().normalized), ("mean", 28, false));
}

#[test]
fn all_poolings_of_an_early_version_agree_together_and_alone() {
    let variant = Variant::new("all-poolings");
    let model = variant.expect_golden();
    assert_eq!((model.spec().dims, model.spec().max_tokens), (6 * 32, 20));
    for (place, pooling) in POOLINGS.into_iter().enumerate() {
        let single = Variant::new("all-poolings");
        let settings = json!({"word_embedding_dimension": 32, "pooling_mode": pooling.name()});
        fs::write(single.directory.path().join("1_Pooling/config.json"), settings.to_string()).unwrap();
        let found = single.open().embed_documents(&variant.texts()).unwrap();
        for (vector, golden) in found.rows().zip(&variant.documents) {
            let similarity = cosine(vector, &golden[place * 32..][..32]);
            assert!(similarity >= 0.999_99, "{}: cosine {similarity}", pooling.name());
        }
    }
}

#[test]
fn listed_poolings_keep_their_own_order() {
    let model = Variant::new("own-order").expect_golden();
    assert_eq!((model.spec().pooling.as_str(), model.spec().metric.name()), ("lasttoken+cls", "dot"));
}

#[test]
fn chain_of_dense_layers_agrees() {
    let model = Variant::new("dense-chain").expect_golden();
    let spec = model.spec();
    assert_eq!(spec.modules, "Dense 32x40 Tanh > Dense 40x24 Identity, no bias > Normalize");
    assert_eq!((spec.query_prompt.as_str(), spec.document_prompt.as_str()), ("search query: ", "the passage: "));
    assert!(spec.normalized);
    // A teacher's token vectors are as long as its sentences'.
    assert_eq!(model.embed_tokens(&[7, 8]).unwrap().values.len(), 2 * 24);
}

#[test]
fn residuals_and_layer_norm_agree_in_direction_and_length() {
    let model = Variant::new("residual-and-norm").expect_golden();
    assert_eq!((model.spec().metric.name(), model.spec().normalized), ("l2", false));
    assert_eq!(
        model.spec().modules,
        "Dense 32x32 ReLU, residual > Normalize > LayerNorm 32 > Dense 32x20 GELU, residual"
    );
}

#[test]
fn tokens_of_the_prompt_are_left_out_where_the_pooling_says_so() {
    let variant = Variant::new("prompt-left-out");
    let model = variant.expect_golden();
    assert_eq!((model.query.skip, model.document.skip), (4, 4));
    edit(variant.directory.path(), "1_Pooling/config.json", |pooling| pooling["include_prompt"] = json!(true));
    let included = variant.open().embed_documents(&["the river"]).unwrap();
    assert_ne!(included, model.embed_documents(&["the river"]).unwrap());
}

#[test]
fn prompt_that_leaves_no_room_is_refused_where_it_is_left_out() {
    let variant = Variant::new("prompt-left-out");
    let prompts = json!({"prompts": {"query": "river ".repeat(40)}});
    fs::write(variant.directory.path().join("config_sentence_transformers.json"), prompts.to_string()).unwrap();
    variant.open();
    edit(variant.directory.path(), "tokenizer.json", |tokenizer| {
        tokenizer["post_processor"]["single"].as_array_mut().unwrap().pop();
    });
    let error = Transformer::open(variant.directory.path()).err().unwrap().to_string();
    assert!(error.contains("takes 28 of at most 28 tokens") && error.contains("nothing remains"), "{error}");
}

#[test]
fn default_prompt_stands_where_there_is_none_for_passages() {
    let model = Variant::new("default-prompt").expect_golden();
    assert_eq!(model.spec().document_prompt, "retrieve a passage that is relevant: ");
    assert_eq!(model.directory().document_prompt.source, "config_sentence_transformers.json, prompt `task`");
}

#[test]
fn truncated_vectors_point_where_the_reference_s_do_and_have_unit_length() {
    let variant = Variant::new("truncated");
    let model = variant.open();
    assert_eq!((model.spec().dims, model.spec().full_dims, model.spec().normalized), (12, Some(32), true));
    let found = model.embed_documents(&variant.texts()).unwrap();
    for (vector, golden) in found.rows().zip(&variant.documents) {
        assert!(cosine(vector, golden) >= 0.999_99);
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5, "squared length {length}");
    }
    // The same through the library, from the whole model.
    edit(variant.directory.path(), "config_sentence_transformers.json", |settings| {
        settings["truncate_dim"] = json!(null)
    });
    let whole = std::sync::Arc::new(variant.open());
    assert_eq!(whole.spec().dims, 32);
    let cut = truncate(whole, 12).unwrap();
    assert_eq!(cut.embed_documents(&variant.texts()).unwrap().values, found.values);
    let spec = ModelSpec { id: model.spec().id.clone(), ..cut.spec().clone() };
    assert_eq!(spec, *model.spec());
}

#[test]
fn modules_with_damaged_or_foreign_weights_are_refused() {
    let refusal = |spoil: &dyn Fn(&Path)| {
        let variant = Variant::new("residual-and-norm");
        spoil(variant.directory.path());
        let start = Instant::now();
        let error = Transformer::open(variant.directory.path()).err().expect("the spoilt model is refused").to_string();
        assert!(start.elapsed().as_secs() < 1, "refused only after {:?}", start.elapsed());
        error
    };
    let swapped = refusal(&|path| {
        fs::copy(path.join("5_Dense/model.safetensors"), path.join("2_Dense/model.safetensors")).unwrap();
    });
    assert!(
        swapped.contains(
            "2_Dense/model.safetensors: tensor `linear.weight` has shape [20, 32]; its config.json asks for [32, 32]"
        ),
        "{swapped}"
    );
    let foreign = refusal(&|path| {
        fs::copy(path.join("2_Dense/model.safetensors"), path.join("4_LayerNorm/model.safetensors")).unwrap();
    });
    assert!(foreign.contains("4_LayerNorm/model.safetensors: tensor `norm.weight` is missing"), "{foreign}");
    let cut = refusal(&|path| {
        let bytes = fs::read(path.join("5_Dense/model.safetensors")).unwrap();
        fs::write(path.join("5_Dense/model.safetensors"), &bytes[..bytes.len() - 4]).unwrap();
    });
    assert!(cut.contains("5_Dense/model.safetensors (5420 bytes) is truncated or damaged"), "{cut}");
}
