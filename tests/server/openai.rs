//! Are clients of OpenAI, Cohere, Jina and text-embeddings-inference answered as they are used to?

use quiverdb::Database;
use quiverdb::server::{Limits, Settings};
use serde_json::{Value, json};

use super::{Answer, Serving};

const KEY: &str = "a key of more than 16 bytes";

fn numbers(vector: &Value) -> Vec<f32> {
    vector.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn embed(text: &str) -> Vec<f32> {
    quiverdb::embed::open("builtin").unwrap().embed_documents(&[text]).unwrap().values
}

fn tokens(text: &str) -> usize {
    quiverdb::embed::open("builtin").unwrap().token_ranges(text).len()
}

/// The code and the message of a failure in OpenAI's shape.
#[track_caller]
fn refused(answer: Answer, status: u16) -> (String, String, Value) {
    let body = answer.expect(status);
    let error = &body["error"];
    let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["message", "type", "param", "code"], "{body}");
    (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned(), error["param"].clone())
}

/// The message of a failure in text-embeddings-inference's shape.
#[track_caller]
fn tei_refused(answer: Answer, status: u16, error_type: &str) -> String {
    let body = answer.expect(status);
    assert_eq!((body["error_type"].as_str(), body.as_object().unwrap().len()), (Some(error_type), 2), "{body}");
    body["error"].as_str().unwrap().to_owned()
}

/// The message of a failure in Cohere's and Jina's shapes.
#[track_caller]
fn rerank_refused(answer: Answer, status: u16) -> String {
    let body = answer.expect(status);
    assert_eq!(body["message"], body["detail"], "{body}");
    assert!(!body["id"].as_str().unwrap().is_empty());
    body["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_text_and_an_array_of_texts_get_the_models_own_vectors_and_tokens() {
    let server = Serving::new();
    let body = server.post("/v1/embeddings", &json!({"model": "builtin", "input": "the river boats"})).expect(200);
    assert_eq!(numbers(&body["data"][0]["embedding"]), embed("the river boats"));
    assert_eq!((&body["object"], &body["data"][0]["object"]), (&json!("list"), &json!("embedding")));
    assert_eq!(body["model"], "builtin");

    let two =
        json!({"model": "builtin", "input": ["quantum physics", "a boat"], "user": "me", "encoding_format": "float"});
    let body = server.post("/v1/embeddings", &two).expect(200);
    for (index, text) in ["quantum physics", "a boat"].into_iter().enumerate() {
        assert_eq!(body["data"][index]["index"], index);
        assert_eq!(numbers(&body["data"][index]["embedding"]), embed(text));
    }
    let read = tokens("quantum physics") + tokens("a boat");
    assert_eq!(body["usage"], json!({"prompt_tokens": read, "total_tokens": read}));
}

#[test]
fn base64_holds_the_same_numbers() {
    use base64_of_test::decode;
    let server = Serving::new();
    let ask = json!({"model": "builtin", "input": "the river boats", "encoding_format": "base64", "dimensions": 64});
    let body = server.post("/v1/embeddings", &ask).expect(200);
    let bytes = decode(body["data"][0]["embedding"].as_str().unwrap());
    let given: Vec<f32> = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let short = quiverdb::embed::truncate(quiverdb::embed::open("builtin").unwrap(), 64).unwrap();
    assert_eq!(given, short.embed_documents(&["the river boats"]).unwrap().values);
}

/// Base64 in eight lines, so that the tests do not read with what the server writes with.
mod base64_of_test {
    pub(super) fn decode(text: &str) -> Vec<u8> {
        let value = |letter: u8| match letter {
            b'A'..=b'Z' => u32::from(letter - b'A'),
            b'a'..=b'z' => u32::from(letter - b'a') + 26,
            b'0'..=b'9' => u32::from(letter - b'0') + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("{other} in base64"),
        };
        let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').collect();
        let mut bytes = Vec::new();
        for four in letters.chunks(4) {
            let bits = four.iter().fold(0, |bits, letter| bits << 6 | value(*letter)) << (6 * (4 - four.len()));
            bytes.extend([(bits >> 16) as u8, (bits >> 8) as u8, bits as u8].iter().take(four.len() - 1));
        }
        bytes
    }
}

#[test]
fn what_openai_refuses_is_refused_in_its_shape() {
    let server = Serving::new();
    let ask = |body: Value| server.post("/v1/embeddings", &body);
    for input in [json!([1, 2, 3]), json!([[1, 2], [3]])] {
        let (code, message, param) = refused(ask(json!({"model": "builtin", "input": input})), 400);
        assert_eq!((code.as_str(), param), ("invalid_request", json!("input")));
        assert!(message.contains("check_embedding_ctx_length=False"), "{message}");
    }
    for input in [json!([]), json!(""), json!(["a", ""])] {
        let (_, message, param) = refused(ask(json!({"model": "builtin", "input": input})), 400);
        assert!(message.contains("empty") && param == "input", "{message}");
    }
    let (code, message, param) = refused(ask(json!({"model": "text-embedding-3-small", "input": "a"})), 404);
    assert_eq!((code.as_str(), param), ("model_not_found", json!("model")));
    assert!(message.contains("text-embedding-3-small") && message.contains("builtin"), "{message}");
    let (_, message, param) = refused(ask(json!({"model": "builtin", "input": "a", "dimensions": 100_000})), 400);
    assert!(message.contains("100000") && param == "dimensions", "{message}");
    refused(ask(json!({"model": "builtin", "input": "a", "dimensions": 0})), 400);
    let (_, message, _) = refused(ask(json!(["builtin", "a"])), 400);
    assert!(message.contains("expected an object"), "{message}");
    let (code, message, _) = refused(ask(json!({"model": "builtin", "input": "a", "colour": 1})), 400);
    assert!(code == "invalid_json" && message.contains("colour"), "{message}");
    let (_, message, _) = refused(ask(json!({"model": "builtin", "input": {}})), 400);
    assert!(message.contains("input: ") && message.contains("a text or an array of texts"), "{message}");
    assert_eq!(refused(server.get("/v1/embeddings"), 405).0, "method_not_allowed");
}

#[test]
fn a_text_that_is_too_long_is_refused_unless_it_may_be_cut() {
    let server = Serving::new();
    let long = "river boats ".repeat(5_000);
    let (code, message, _) = refused(server.post("/v1/embeddings", &json!({"model": "builtin", "input": long})), 400);
    assert_eq!(code, "context_length_exceeded");
    assert!(message.contains("10000 tokens") && message.contains("8192"), "{message}");
    let ask = json!({"model": "builtin", "input": long, "truncate": "END"});
    let body = server.post("/v1/embeddings", &ask).expect(200);
    assert_eq!(body["usage"]["total_tokens"], 8192);
    assert_eq!(numbers(&body["data"][0]["embedding"]), embed(&long));

    let cut = server.post("/embed", &json!({"inputs": long})).expect(200);
    assert_eq!(cut.as_array().unwrap().len(), 1);
    let whole = server.post("/embed", &json!({"inputs": long, "truncate": false}));
    assert!(tei_refused(whole, 413, "Validation").contains("10000 tokens"));
}

#[test]
fn limits_hold_for_every_product() {
    let limits = Limits { batch: 2, text_bytes: 10, ..Limits::default() };
    let server = Serving::with(Database::in_memory().unwrap(), Settings { limits, ..Settings::default() });
    for (texts, name) in
        [(json!(["a", "b", "c"]), "limits.batch"), (json!(["a", "more than ten"]), "limits.text_bytes")]
    {
        let ask = json!({"model": "builtin", "input": texts});
        assert!(refused(server.post("/v1/embeddings", &ask), 400).1.contains(name));
        let ask = json!({"query": "q", "documents": texts});
        assert!(rerank_refused(server.post("/v2/rerank", &ask), 400).contains(name));
        for (path, ask) in [
            ("/embed", json!({"inputs": texts})),
            ("/tokenize", json!({"inputs": texts})),
            ("/rerank", json!({"query": "q", "texts": texts})),
            ("/similarity", json!({"inputs": {"source_sentence": "s", "sentences": texts}})),
        ] {
            assert!(tei_refused(server.post(path, &ask), 413, "Validation").contains(name), "{path}");
        }
    }
}

#[test]
fn models_are_those_that_requests_may_name() {
    let database = Database::in_memory().unwrap();
    database.collection("notes").unwrap();
    let settings =
        Settings { models: vec!["owner/name".into()], rerankers: vec!["/models/judge".into()], ..Settings::default() };
    let server = Serving::with(database, settings);
    let list = server.get("/v1/models").expect(200);
    let told = |item: &Value| (item["id"].clone(), item["owned_by"].clone(), item["quiverdb"]["kind"].clone());
    let told: Vec<_> = list["data"].as_array().unwrap().iter().map(told).collect();
    let expected = [
        (json!("owner/name"), json!("owner"), json!("embedding")),
        (json!("builtin"), json!("quiverdb"), json!("embedding")),
        (json!("/models/judge"), json!("local"), json!("reranker")),
    ];
    assert_eq!(told, expected);
    assert_eq!(list["data"][1]["quiverdb"]["collections"], json!(["notes"]));

    for path in ["/v1/models/owner/name", "/v1/models/owner%2Fname"] {
        assert_eq!(server.get(path).expect(200), list["data"][0], "{path}");
    }
    server.post("/v1/embeddings", &json!({"model": "builtin", "input": "a"})).expect(200);
    let health = server.get("/v1/models/builtin").expect(200)["quiverdb"]["health"].clone();
    assert_eq!(health["state"], "ready", "{health}");
    let (code, message, _) = refused(server.get("/v1/models/gpt-9"), 404);
    assert_eq!(code, "model_not_found");
    assert!(message.contains("gpt-9") && message.contains("owner/name, builtin"), "{message}");
}

#[test]
fn a_key_that_only_reads_may_embed_and_none_may_not() {
    let settings = Settings {
        api_keys: vec!["another key of 16 bytes".into()],
        read_only_keys: vec![KEY.into()],
        ..Settings::default()
    };
    let server = Serving::with(Database::in_memory().unwrap(), settings);
    let asked = [
        ("/v1/embeddings", json!({"model": "builtin", "input": "a"})),
        ("/embed", json!({"inputs": "a"})),
        ("/tokenize", json!({"inputs": "a"})),
        ("/similarity", json!({"inputs": {"source_sentence": "a", "sentences": ["a"]}})),
    ];
    let bearer = format!("Bearer {KEY}");
    for (path, body) in &asked {
        server.ask("POST", path, &[("authorization", &bearer)], body).expect(200);
    }
    assert_eq!(refused(server.post("/v1/embeddings", &asked[0].1), 401).0, "invalid_api_key");
    assert!(tei_refused(server.post("/embed", &asked[1].1), 401, "Validation").contains("no key"));
    assert!(rerank_refused(server.post("/v1/rerank", &json!({})), 401).contains("no key"));
    assert_eq!(server.get("/v1/collections").failure(401).0, "unauthorized");
}

#[test]
fn a_reranker_that_is_not_there_is_refused_by_name() {
    let server = Serving::new();
    let ask = json!({"model": "rerank-v3.5", "query": "q", "documents": ["a", {"text": "b"}]});
    for path in ["/v1/rerank", "/v2/rerank"] {
        let message = rerank_refused(server.post(path, &ask), 404);
        assert!(message.contains("rerank-v3.5") && message.contains("Configured: none"), "{message}");
    }
    let message = rerank_refused(server.post("/v1/rerank", &json!({"query": "q", "documents": ["a"]})), 404);
    assert!(message.contains("rerankers"), "{message}");
    let message = tei_refused(server.post("/rerank", &json!({"query": "q", "texts": ["a"]})), 404, "Backend");
    assert!(message.contains("rerankers"), "{message}");
}

#[test]
fn what_no_reranker_here_can_do_is_refused_by_name() {
    let server = Serving::new();
    for (name, value) in [
        ("rank_fields", json!(["title"])),
        ("max_chunks_per_doc", json!(10)),
        ("top_n", json!(0)),
        ("relevant_spans", json!({})),
        ("query", json!("")),
        ("documents", json!([])),
        ("documents", json!([1])),
    ] {
        let mut ask = json!({"query": "q", "documents": ["a"]});
        ask[name] = value;
        let message = rerank_refused(server.post("/v1/rerank", &ask), 400);
        assert!(message.contains(name), "{name}: {message}");
    }
}

#[test]
fn texts_are_embedded_as_text_embeddings_inference_does() {
    let server = Serving::new();
    let rows = server.post("/embed", &json!({"inputs": ["the river", "a boat"], "normalize": true})).expect(200);
    for (row, text) in rows.as_array().unwrap().iter().zip(["the river", "a boat"]) {
        let (given, own) = (numbers(row), embed(text));
        assert!(given.iter().zip(&own).all(|(a, b)| (a - b).abs() < 1e-6));
    }
    let short =
        server.post("/embed", &json!({"inputs": "the river", "dimensions": 8, "prompt_name": "query"})).expect(200);
    let short = numbers(&short[0]);
    assert_eq!(short.len(), 8);
    assert!((short.iter().map(|number| number * number).sum::<f32>() - 1.0).abs() < 1e-5);

    let similarity = json!({"inputs": {"source_sentence": "the river", "sentences": ["the river", "tax law"]}});
    let cosines = numbers(&server.post("/similarity", &similarity).expect(200));
    assert!((cosines[0] - 1.0).abs() < 1e-5 && cosines[1] < 0.9, "{cosines:?}");

    let tokens = server.post("/tokenize", &json!({"inputs": "Größe: the boat"})).expect(200);
    let last = tokens[0].as_array().unwrap().last().unwrap();
    assert_eq!(last, &json!({"text": "boat", "special": false, "start": 11, "stop": 15}));

    let info = server.get("/info").expect(200);
    assert_eq!((&info["model_id"], &info["auto_truncate"]), (&json!("builtin"), &json!(true)));
    assert_eq!((&info["max_input_length"], &info["max_client_batch_size"]), (&json!(8192), &json!(4096)));
    assert_eq!(server.get("/health").expect(200), "");
}

#[test]
fn what_text_embeddings_inference_refuses_is_refused_in_its_shape() {
    let server = Serving::new();
    let embed = |body: Value| server.post("/embed", &body);
    assert!(tei_refused(embed(json!({"inputs": []})), 400, "Empty").contains("inputs"));
    assert!(tei_refused(embed(json!({"inputs": ""})), 422, "Validation").contains("empty"));
    assert!(tei_refused(embed(json!({"inputs": [1, 2]})), 422, "Validation").contains("tokens"));
    for (name, value, told) in [
        ("prompt_name", json!("sts"), "`sts`"),
        ("normalize", json!("yes"), "normalize: "),
        ("truncation_direction", json!("Left"), "`Left`"),
        ("dimensions", json!(9_999), "9999"),
        ("encoding_format", json!("base64"), "`base64`"),
        ("colour", json!(1), "`colour`"),
    ] {
        let mut ask = json!({"inputs": "a"});
        ask[name] = value;
        let message = tei_refused(embed(ask), 422, "Validation");
        assert!(message.contains(told), "{name}: {message}");
    }
    for path in ["/embed_all", "/embed_sparse", "/predict"] {
        let message = tei_refused(server.post(path, &json!({"inputs": "a"})), 424, "Backend");
        assert!(message.contains("/embed") || message.contains("/rerank"), "{message}");
    }
}

/// A cross-encoder with random weights: its judgements mean nothing, and their order and shape do.
#[cfg(feature = "candle")]
#[test]
fn documents_are_ranked_for_clients_of_cohere_jina_and_text_embeddings_inference() {
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/architectures/bert");
    let name = fixture.display().to_string();
    let settings = Settings { rerankers: vec![name.clone()], ..Settings::default() };
    let server = Serving::with(Database::in_memory().unwrap(), settings);
    let texts = ["a river", "many boats on a river", "tax law"];
    let judged = quiverdb::rerank::open(&name).unwrap().judge("boats", &texts).unwrap();
    let mut order = [0, 1, 2];
    order.sort_by(|&a: &usize, &b: &usize| judged[b].logit.total_cmp(&judged[a].logit));

    let ask = json!({"model": name, "query": "boats", "documents": texts, "top_n": 2});
    let jina = server.post("/v1/rerank", &ask).expect(200);
    let cohere = server.post("/v2/rerank", &ask).expect(200);
    assert_eq!(
        (jina["results"].as_array().unwrap().len(), cohere["meta"]["api_version"]["version"].as_str()),
        (2, Some("2"))
    );
    for (place, &index) in order.iter().take(2).enumerate() {
        assert_eq!(jina["results"][place]["index"], index);
        assert_eq!(jina["results"][place]["document"], json!({"text": texts[index]}));
        assert_eq!(jina["results"][place]["relevance_score"].as_f64().unwrap() as f32, judged[index].score);
        assert!(cohere["results"][place].get("document").is_none());
    }
    assert_eq!(jina["usage"]["total_tokens"], 3 + 2 + 5 + 2);

    let ask = json!({"query": "boats", "texts": texts, "raw_scores": true, "return_text": true});
    let ranked = server.post("/rerank", &ask).expect(200);
    for (place, &index) in order.iter().enumerate() {
        assert_eq!((&ranked[place]["index"], &ranked[place]["text"]), (&json!(index), &json!(texts[index])));
        assert_eq!(ranked[place]["score"].as_f64().unwrap() as f32, judged[index].logit);
    }
}

#[test]
fn an_answer_of_tokens_without_end_is_refused() {
    let server = Serving::new();
    let few = server.post("/tokenize", &json!({"inputs": "a ".repeat(1_000)})).expect(200);
    assert_eq!(few[0].as_array().unwrap().len(), 1_000);
    let many = server.post("/tokenize", &json!({"inputs": ["a ".repeat(200_000), "b ".repeat(200_000)]})).expect(413);
    assert_eq!(many["error_type"], "Validation", "{many}");
}
