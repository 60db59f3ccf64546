//! Is every field read from the file that holds it, and is the unsupported refused by name?

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

/// A model directory of JSON files; weights and tokenizer are empty files.
struct Made(tempfile::TempDir);

impl Made {
    fn new(files: &[(&str, Value)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let made = Self(directory);
        made.write("config.json", &json!({"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 64}));
        made.write("model.safetensors", &json!(null));
        made.write("tokenizer.json", &json!(null));
        files.iter().for_each(|(name, value)| made.write(name, value));
        made
    }

    /// With a Transformer and a Pooling module.
    fn pooled(config: Value, files: &[(&str, Value)]) -> Self {
        let made = Self::new(files);
        made.write("modules.json", &modules(&["Transformer", "Pooling"]));
        made.write("1_Pooling/config.json", &config);
        made
    }

    fn write(&self, name: &str, value: &Value) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    }

    fn read(&self) -> ModelDirectory {
        ModelDirectory::read(self.0.path()).unwrap()
    }

    fn refusal(&self) -> String {
        ModelDirectory::read(self.0.path()).unwrap_err().to_string()
    }
}

fn modules(kinds: &[&str]) -> Value {
    let module = |(index, kind): (usize, &&str)| {
        let path = if index == 0 { String::new() } else { format!("{index}_{kind}") };
        json!({"idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")})
    };
    Value::Array(kinds.iter().enumerate().map(module).collect())
}

#[test]
fn directory_without_modules_pools_by_mean_and_does_not_normalise() {
    let model = Made::new(&[]).read();
    assert_eq!((model.pooling.value, model.normalize.value), (Pooling::Mean, false));
    assert_eq!(model.pooling.source, "no modules.json: sentence-transformers' default");
    assert_eq!((model.metric.value, model.dims.value), (Metric::Cosine, 8));
    assert_eq!(model.query_prompt, Resolved::new(String::new(), "default"));
}

#[test]
fn old_and_new_type_names_mean_the_same() {
    let old = Made::new(&[("modules.json", modules(&["Transformer", "Pooling", "Normalize"]))]);
    let new = Made::new(&[(
        "modules.json",
        json!([
            {"idx": 0, "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
            {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.base.modules.normalize.Normalize"},
        ]),
    )]);
    for made in [old, new] {
        made.write("1_Pooling/config.json", &json!({"pooling_mode_cls_token": true}));
        let model = made.read();
        assert_eq!(model.pooling, Resolved::new(Pooling::Cls, "1_Pooling/config.json"));
        assert_eq!(model.normalize, Resolved::new(true, "modules.json"));
    }
}

#[test]
fn pooling_is_read_by_old_keys_and_by_new_names() {
    for (pooling, new, old) in Pooling::NAMES {
        assert_eq!(Made::pooled(json!({ old: true }), &[]).read().pooling.value, pooling);
        assert_eq!(Made::pooled(json!({"pooling_mode": new}), &[]).read().pooling.value, pooling);
        assert_eq!(Made::pooled(json!({"pooling_mode": [pooling.name()]}), &[]).read().pooling.value, pooling);
    }
}

#[test]
fn unsupported_pooling_is_an_error_that_names_it() {
    let refused = |config: Value| Made::pooled(config, &[]).refusal();
    let two = refused(json!({"pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": true}));
    assert!(two.contains("concatenated pooling (max + mean) is not supported yet"), "{two}");
    assert!(refused(json!({"pooling_mode": "attention"})).contains("pooling mode \"attention\" is not supported"));
    assert!(refused(json!({"pooling_mode_new": true})).contains("pooling_mode_new is not supported"));
    assert!(refused(json!({"pooling_mode_mean_tokens": false})).contains("switches no pooling mode on"));
    let prompts = json!({"prompts": {"query": "Q: "}});
    let made = Made::pooled(
        json!({"pooling_mode": "mean", "include_prompt": false}),
        &[("config_sentence_transformers.json", prompts)],
    );
    assert!(made.refusal().contains("include_prompt = false is not supported yet"));
}

#[test]
fn unsupported_modules_are_errors_that_name_them() {
    for (kinds, named) in [
        (&["Transformer", "Pooling", "Dense"][..], "module 2 is `Dense`"),
        (&["StaticEmbedding"], "module 0 is `StaticEmbedding`"),
        (&["Transformer"], "no Pooling module"),
        (&["Transformer", "Normalize"], "module 1 is `Normalize`"),
    ] {
        let message = Made::new(&[("modules.json", modules(kinds))]).refusal();
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn paths_that_leave_the_directory_are_refused() {
    for path in ["../other", "/etc", "a/../../b"] {
        let made = Made::new(&[("modules.json", json!([{"path": path, "type": "Transformer"}]))]);
        assert!(made.refusal().contains(&format!("modules.json points outside: `{path}`")));
    }
    let made = Made::new(&[("model.safetensors.index.json", json!({"weight_map": {"a": "../a.safetensors"}}))]);
    fs::remove_file(made.0.path().join("model.safetensors")).unwrap();
    assert!(made.refusal().contains("names `../a.safetensors`"), "{}", made.refusal());
}

#[test]
fn longest_text_is_the_stated_one_within_the_positions() {
    let limit = |files: &[(&str, Value)]| Made::new(files).read().max_tokens;
    let stated = |count: u64| ("sentence_bert_config.json", json!({"max_seq_length": count}));
    let tokenizer = |count: f64| ("tokenizer_config.json", json!({"model_max_length": count}));
    assert_eq!(limit(&[stated(32)]), Resolved::new(32, "sentence_bert_config.json"));
    assert_eq!(limit(&[stated(4096)]), Resolved::new(64, "config.json"));
    assert_eq!(limit(&[]), Resolved::new(64, "config.json"));
    assert_eq!(limit(&[tokenizer(1e30)]), Resolved::new(64, "config.json"));
    let short = ("tokenizer_config.json", json!({"model_max_length": 48}));
    assert_eq!(limit(&[short]), Resolved::new(48, "tokenizer_config.json"));
    let roberta = json!({"model_type": "roberta", "hidden_size": 8, "max_position_embeddings": 514, "pad_token_id": 1});
    assert_eq!(limit(&[("config.json", roberta)]).value, 512);
    let none = Made::new(&[("config.json", json!({"model_type": "bert", "hidden_size": 8}))]);
    assert!(none.refusal().contains("no file tells the longest text"));
}

#[test]
fn prompts_follow_their_names_and_the_default() {
    const FILE: &str = "config_sentence_transformers.json";
    let resolve = |settings: Value| {
        let model = Made::new(&[(FILE, settings)]).read();
        (model.query_prompt.value, model.document_prompt.value)
    };
    let pair = |query: &str, document: &str| (query.to_owned(), document.to_owned());
    let e5 = json!({"prompts": {"query": "query: ", "passage": "passage: "}});
    assert_eq!(resolve(e5), pair("query: ", "passage: "));
    let both = json!({"prompts": {"corpus": "c", "passage": "p", "document": "d"}});
    assert_eq!(resolve(both), pair("", "d"));
    let default = json!({"prompts": {"query": "", "s2s": "x "}, "default_prompt_name": "s2s"});
    assert_eq!(resolve(default), pair("", "x "));
    assert_eq!(resolve(json!({"prompts": null, "default_prompt_name": null})), pair("", ""));
    let missing = Made::new(&[(FILE, json!({"prompts": {}, "default_prompt_name": "q"}))]);
    assert!(missing.refusal().contains("default_prompt_name is `q`, but there is no such prompt"));
}

#[test]
fn similarity_function_becomes_the_metric() {
    const FILE: &str = "config_sentence_transformers.json";
    let made = |name: &str| Made::new(&[(FILE, json!({"similarity_fn_name": name}))]);
    for (name, metric) in [("cosine", Metric::Cosine), ("dot", Metric::Dot), ("euclidean", Metric::L2)] {
        assert_eq!(made(name).read().metric, Resolved::new(metric, FILE));
    }
    assert!(made("manhattan").refusal().contains("similarity_fn_name `manhattan` is not supported"));
}

#[test]
fn missing_files_are_named() {
    let without = |name: &str| {
        let made = Made::new(&[]);
        fs::remove_file(made.0.path().join(name)).unwrap();
        made
    };
    assert!(without("config.json").refusal().contains("config.json is missing"));
    assert!(without("tokenizer.json").refusal().contains("tokenizer.json is missing"));
    let made = without("model.safetensors");
    assert!(made.refusal().contains("looked for model.safetensors and model.safetensors.index.json"));
    made.write("pytorch_model.bin", &json!(null));
    assert!(made.refusal().contains("never read: save the model again with safetensors"), "{}", made.refusal());
    let gone = ModelDirectory::read(Path::new("no/such/model")).unwrap_err().to_string();
    assert!(gone.contains("no/such/model is not a directory"), "{gone}");
    fs::write(made.0.path().join("config.json"), "{oops").unwrap();
    assert!(made.refusal().contains("config.json is not valid JSON"));
}

#[test]
fn shards_are_found_through_their_index() {
    let weights = json!({"weight_map": {"b": "two.safetensors", "a": "one.safetensors", "c": "two.safetensors"}});
    let made = Made::new(&[("model.safetensors.index.json", weights), ("one.safetensors", json!(null))]);
    fs::remove_file(made.0.path().join("model.safetensors")).unwrap();
    assert!(made.refusal().contains("two.safetensors is missing"));
    made.write("two.safetensors", &json!(null));
    let names: Vec<_> = made.read().weights.iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["one.safetensors", "two.safetensors"]);
}

#[test]
fn explanation_names_the_file_of_every_field() {
    let made = Made::pooled(json!({"pooling_mode": "cls"}), &[]);
    let model = made.read();
    let found = model.explain();
    let line = |field: &str| {
        let (_, value, source) = found.iter().find(|(name, ..)| name == field).unwrap();
        (value.as_str(), source.as_str())
    };
    assert_eq!(line("pooling"), ("cls", "1_Pooling/config.json"));
    assert_eq!(line("max_tokens"), ("64", "config.json"));
    assert_eq!(line("query_prompt"), ("none", "default"));
    assert_eq!(line("weights"), ("4 bytes", "model.safetensors"));
    let spec = model.spec().unwrap();
    assert_eq!((spec.dims, spec.pooling.as_str(), spec.max_tokens), (8, "cls", 64));
    // SHA-256 of the text `null`.
    assert_eq!(spec.weights_digest, "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b");
}
