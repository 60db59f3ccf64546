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
    assert_eq!((model.pooling.value, model.normalize.value), (vec![Pooling::Mean], false));
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
        assert_eq!(model.pooling, Resolved::new(vec![Pooling::Cls], "1_Pooling/config.json"));
        assert_eq!(model.normalize, Resolved::new(true, "modules.json"));
    }
}

#[test]
fn pooling_is_read_by_old_keys_and_by_new_names() {
    for (pooling, new, old) in Pooling::NAMES {
        assert_eq!(Made::pooled(json!({ old: true }), &[]).read().pooling.value, [pooling]);
        assert_eq!(Made::pooled(json!({"pooling_mode": new}), &[]).read().pooling.value, [pooling]);
        assert_eq!(Made::pooled(json!({"pooling_mode": [pooling.name()]}), &[]).read().pooling.value, [pooling]);
    }
}

#[test]
fn several_poolings_are_concatenated_in_the_order_of_their_version() {
    use Pooling::{Cls, LastToken, Max, Mean, MeanSqrtLen, WeightedMean};
    let old = json!({
        "pooling_mode_lasttoken": true, "pooling_mode_max_tokens": true, "pooling_mode_cls_token": true,
        "pooling_mode_mean_tokens": true, "pooling_mode_weightedmean_tokens": true,
        "pooling_mode_mean_sqrt_len_tokens": true, "word_embedding_dimension": 8,
    });
    let model = Made::pooled(old, &[]).read();
    assert_eq!(model.pooling.value, [Cls, Max, Mean, MeanSqrtLen, WeightedMean, LastToken]);
    assert_eq!((model.width.value, model.dims.value), (8, 48));
    let new = Made::pooled(json!({"pooling_mode": ["lasttoken", "cls"]}), &[]).read();
    assert_eq!((new.pooling.value, new.dims.value), (vec![LastToken, Cls], 16));
    assert_eq!(Made::pooled(json!({"pooling_mode": ["max", "cls"]}), &[]).read().spec().unwrap().pooling, "max+cls");
}

#[test]
fn unsupported_pooling_is_an_error_that_names_it() {
    let refused = |config: Value| Made::pooled(config, &[]).refusal();
    assert!(refused(json!({"pooling_mode": "attention"})).contains("pooling mode \"attention\" is not supported"));
    assert!(refused(json!({"pooling_mode_new": true})).contains("pooling_mode_new is not supported"));
    assert!(refused(json!({"pooling_mode_mean_tokens": false})).contains("switches no pooling mode on"));
    let other = json!({"pooling_mode": "cls", "word_embedding_dimension": 9});
    assert!(refused(other).contains("1_Pooling/config.json pools states of 9 numbers; the encoder's have 8"));
}

#[test]
fn prompt_may_be_left_out_of_the_pooling() {
    let default = Made::pooled(json!({"pooling_mode": "mean"}), &[]).read();
    assert_eq!(default.include_prompt, Resolved::new(true, "default"));
    let made = Made::pooled(json!({"pooling_mode": "mean", "include_prompt": false}), &[]);
    let left_out = made.read();
    assert_eq!(left_out.include_prompt, Resolved::new(false, "1_Pooling/config.json"));
    let spec = left_out.spec().unwrap();
    assert_eq!(spec.pooling, "mean, prompt left out");
}

#[test]
fn causal_models_without_modules_take_the_last_token() {
    let pooling = |config: Value| Made::new(&[("config.json", config)]).read().pooling.value;
    let causal = |extra: Value| {
        let mut config = json!({
            "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 8, "max_position_embeddings": 64
        });
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        config
    };
    assert_eq!(pooling(causal(json!({}))), [Pooling::LastToken]);
    assert_eq!(pooling(causal(json!({"is_causal": false}))), [Pooling::Mean]);
    assert_eq!(pooling(causal(json!({"architectures": ["Qwen3Model"]}))), [Pooling::Mean]);
}

/// A model with modules after its pooling, each with its settings and an empty file of weights.
fn chained(after: &[(&str, Value)]) -> Made {
    let kinds: Vec<&str> = ["Transformer", "Pooling"].into_iter().chain(after.iter().map(|(kind, _)| *kind)).collect();
    let made =
        Made::new(&[("modules.json", modules(&kinds)), ("1_Pooling/config.json", json!({"pooling_mode": "cls"}))]);
    for (place, (kind, config)) in after.iter().enumerate() {
        let folder = format!("{}_{kind}", place + 2);
        made.write(&format!("{folder}/config.json"), config);
        made.write(&format!("{folder}/model.safetensors"), &json!(null));
    }
    made
}

#[test]
fn modules_after_the_pooling_run_in_their_order() {
    let linear = "torch.nn.modules.linear.Identity";
    let made = chained(&[
        ("Dense", json!({"in_features": 8, "out_features": 5})),
        ("LayerNorm", json!({"dimension": 5})),
        ("Dropout", json!({"dropout": 0.1})),
        ("Dense", json!({"in_features": 5, "out_features": 3, "bias": false, "activation_function": linear})),
        ("Normalize", json!({})),
    ]);
    let model = made.read();
    let shown: Vec<String> = model.modules.iter().map(|module| module.value.to_string()).collect();
    assert_eq!(shown, ["Dense 8x5 Tanh", "LayerNorm 5", "Dense 5x3 Identity, no bias", "Normalize"]);
    assert_eq!(model.modules[0].source, "2_Dense/config.json");
    assert_eq!(model.dims, Resolved::new(3, "modules.json"));
    let spec = model.spec().unwrap();
    assert_eq!(spec.modules, "Dense 8x5 Tanh > LayerNorm 5 > Dense 5x3 Identity, no bias > Normalize");
    assert!(spec.normalized);
    // The modules' weights count in the digest: four texts `null` instead of one.
    let bytes = model.weight_files().iter().flat_map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    assert_eq!(bytes, b"nullnullnullnull");
    let early = chained(&[("Normalize", json!({})), ("Dense", json!({"in_features": 8, "out_features": 8}))]).read();
    assert!(!early.normalize.value, "what follows changes the length again");
}

#[test]
fn modules_that_do_not_fit_or_are_not_known_are_named() {
    let dense = |config: Value| chained(&[("Dense", config)]).refusal();
    let wide = dense(json!({"in_features": 9, "out_features": 5}));
    assert!(wide.contains("2_Dense: Dense takes 9 numbers and gives 5; 8 come before it"), "{wide}");
    let silent = dense(json!({"in_features": 8}));
    assert!(silent.contains("2_Dense/config.json does not say its out_features"), "{silent}");
    let own = dense(json!({"in_features": 8, "out_features": 5, "activation_function": "mine.Tanh"}));
    assert!(own.contains("activation_function `mine.Tanh` is not supported; torch's Identity, Tanh"), "{own}");
    let softmax = "torch.nn.modules.activation.Softmax";
    let unknown = dense(json!({"in_features": 8, "out_features": 5, "activation_function": softmax}));
    assert!(unknown.contains("Softmax` is not supported"), "{unknown}");
    let tokens = dense(json!({"in_features": 8, "out_features": 5, "module_input_name": "token_embeddings"}));
    assert!(tokens.contains("module_input_name `token_embeddings` is not supported"), "{tokens}");
    let norm = chained(&[("LayerNorm", json!({"dimension": 7}))]).refusal();
    assert!(norm.contains("LayerNorm takes 7 numbers"), "{norm}");
    for (kinds, named) in [
        (&["Transformer", "Dense", "Pooling"][..], "module 1 is `Dense`"),
        (&["Transformer", "Pooling", "CNN"], "module 2 is `CNN`"),
        (&["Transformer", "Pooling", "Pooling"], "module 2 is `Pooling`"),
        (&["StaticEmbedding"], "module 0 is `StaticEmbedding`"),
        (&["Router"], "module 0 is `Router`"),
        (&["Transformer"], "no Pooling module"),
        (&["Transformer", "Normalize"], "module 1 is `Normalize`"),
    ] {
        let message = Made::new(&[("modules.json", modules(kinds))]).refusal();
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn pickled_modules_are_refused_with_the_way_out() {
    let made = chained(&[("Dense", json!({"in_features": 8, "out_features": 5}))]);
    fs::remove_file(made.0.path().join("2_Dense/model.safetensors")).unwrap();
    assert!(made.refusal().contains("2_Dense/model.safetensors is missing"));
    made.write("2_Dense/pytorch_model.bin", &json!(null));
    let message = made.refusal();
    assert!(message.contains("never read: save the model again with safetensors"), "{message}");
}

#[test]
fn truncation_that_the_files_ask_for_is_the_model_s_own() {
    const FILE: &str = "config_sentence_transformers.json";
    let cut = |dims: u64, similarity: &str| {
        let made = chained(&[("Normalize", json!({}))]);
        made.write(FILE, &json!({"truncate_dim": dims, "similarity_fn_name": similarity}));
        made.read().spec().unwrap()
    };
    let spec = cut(3, "cosine");
    assert_eq!((spec.dims, spec.full_dims, spec.normalized), (3, Some(8), true));
    let spec = cut(3, "dot");
    assert_eq!((spec.dims, spec.full_dims, spec.normalized), (3, Some(8), false));
    let spec = cut(9, "cosine");
    assert_eq!((spec.dims, spec.full_dims, spec.normalized), (8, None, true));
}

#[test]
fn models_of_other_kinds_are_refused_by_name() {
    const FILE: &str = "config_sentence_transformers.json";
    let asked = |files: &[(&str, Value)]| Made::new(files).read().expect_embeddings();
    let refusal = asked(&[(FILE, json!({"model_type": "CrossEncoder"}))]).unwrap_err().to_string();
    assert!(refusal.contains("it is a CrossEncoder (config_sentence_transformers.json)"), "{refusal}");
    asked(&[(FILE, json!({"model_type": "SentenceTransformer"}))]).unwrap();
    let task = |task: &str| asked(&[("sentence_bert_config.json", json!({"transformer_task": task}))]);
    task("feature-extraction").unwrap();
    let refusal = task("fill-mask").unwrap_err().to_string();
    assert!(refusal.contains("it is a fill-mask (sentence_bert_config.json, transformer_task)"), "{refusal}");
}

#[test]
fn known_prompts_apply_where_the_files_say_nothing_of_prompts() {
    const FILE: &str = "config_sentence_transformers.json";
    let remembers = json!({
        "model_type": "bert", "hidden_size": 8, "max_position_embeddings": 64, "_name_or_path": "intfloat/e5-small-v2"
    });
    let silent = Made::new(&[("config.json", remembers.clone())]).read();
    assert_eq!((silent.query_prompt.value.as_str(), silent.document_prompt.value.as_str()), ("query: ", "passage: "));
    assert!(silent.query_prompt.source.contains("known prompt of e5-small-v2 (_name_or_path)"));
    let says_none = json!({"prompts": {"query": "", "document": ""}});
    let told = Made::new(&[("config.json", remembers), (FILE, says_none)]).read();
    assert_eq!((told.query_prompt.value, told.document_prompt.value), (String::new(), String::new()));
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
    assert!(made("maxsim").refusal().contains("similarity_fn_name `maxsim` is not supported"));
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

#[test]
fn settings_of_another_kind_are_refused_by_file_field_and_value() {
    let limits = "sentence_bert_config.json";
    let cases = [
        (limits, json!({"max_seq_length": -1}), "max_seq_length is -1; a whole number from 1"),
        (limits, json!({"max_seq_length": 0}), "max_seq_length is 0; a whole number from 1"),
        (limits, json!({"max_seq_length": "128"}), "max_seq_length is \"128\"; a whole number"),
        (limits, json!({"max_seq_length": 12.5}), "max_seq_length is 12.5; a whole number"),
        (limits, json!({"do_lower_case": "yes"}), "do_lower_case is \"yes\"; true or false"),
        (limits, json!({"transformer_task": 1}), "transformer_task is 1; a text"),
        ("tokenizer_config.json", json!({"model_max_length": "512"}), "model_max_length is \"512\""),
        (SETTINGS, json!({"truncate_dim": -4}), "truncate_dim is -4"),
        (SETTINGS, json!({"similarity_fn_name": 3}), "similarity_fn_name is 3; a text"),
        (SETTINGS, json!({"prompts": ["query: "]}), "prompts is [\"query: \"]; an object"),
        (SETTINGS, json!({"default_prompt_name": 7}), "default_prompt_name is 7; a text"),
        (SETTINGS, json!({"model_type": true}), "model_type is true; a text"),
        ("config.json", json!({"model_type": "bert", "hidden_size": "8"}), "hidden_size is \"8\""),
        ("config.json", json!({"model_type": 8, "hidden_size": 8}), "model_type is 8; a text"),
        ("config.json", json!({"model_type": "bert", "hidden_size": 8, "max_position_embeddings": -64}), "is -64"),
        (
            "config.json",
            json!({"model_type": "bert", "hidden_size": 8, "n_positions": 64, "architectures": "Bert"}),
            "architectures is \"Bert\"; a list of texts",
        ),
    ];
    for (file, value, reason) in cases {
        let refusal = Made::new(&[(file, value)]).refusal();
        assert!(refusal.contains(file) && refusal.contains(reason), "{refusal}");
    }
    for (config, reason) in [
        (json!({"word_embedding_dimension": "8", "pooling_mode_cls_token": true}), "word_embedding_dimension is \"8\""),
        (json!({"pooling_mode_cls_token": 1}), "pooling_mode_cls_token is 1; true or false"),
        (json!({"pooling_mode_cls_token": true, "include_prompt": "no"}), "include_prompt is \"no\""),
    ] {
        let refusal = Made::pooled(config, &[]).refusal();
        assert!(refusal.contains("1_Pooling/config.json") && refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn settings_that_are_null_or_beyond_all_sizes_take_their_default() {
    let made = Made::new(&[
        ("sentence_bert_config.json", json!({"max_seq_length": null, "do_lower_case": null})),
        ("tokenizer_config.json", json!({"model_max_length": 1e30})),
        (SETTINGS, json!({"truncate_dim": null, "prompts": null, "similarity_fn_name": null})),
    ]);
    let model = made.read();
    assert_eq!((model.max_tokens.value, model.dims.value, model.lowercase.value), (64, 8, false));
    made.write("sentence_bert_config.json", &json!({"max_seq_length": 32.0}));
    assert_eq!(made.read().max_tokens.value, 32);
}
