//! Does a model on a server embed and rerank as one on this machine would, or fail as a whole? Against a server here
//! that answers as OpenAI, Ollama, text-embeddings-inference and Cohere do, with failures put in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use quiverdb::embed::NoStatistics;
use quiverdb::embed::remote::RemoteEmbedder;
use quiverdb::models::Patience;
use quiverdb::models::remote_rerank::RemoteReranker;
use quiverdb::{Blame, CollectionConfig, Database, Document, Embedder, Error, Query, Result};
use serde_json::{Value, json};

use crate::scenes::ids;
use crate::serving::{Answer, Asked, Server};

const DIMS: usize = 26;

/// An answer that is none.
type Failure = fn() -> Answer;
/// What is wrong with the embeddings of an answer.
type Change = fn(&mut Vec<Value>);

/// How often each letter occurs: a text's vector, so that tests can tell which vector belongs to which text.
fn letters(text: &str) -> Vec<f32> {
    let mut counts = vec![0.0; DIMS];
    for letter in text.bytes().filter(u8::is_ascii_lowercase) {
        counts[usize::from(letter - b'a')] += 1.0;
    }
    counts
}

fn inputs(asked: &Asked) -> Vec<String> {
    asked.json()["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Embeddings in the order that a busy server may give them: backwards, each with its index.
fn embeddings(asked: &Asked) -> Value {
    let rows = inputs(asked);
    let as_asked = |vector: Vec<f32>| match asked.json()["encoding_format"].as_str() {
        Some("base64") => {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            json!(base64::prelude::BASE64_STANDARD.encode(bytes))
        }
        _ => json!(vector),
    };
    let item = |(index, text): (usize, &String)| json!({"object": "embedding", "index": index, "embedding": as_asked(letters(text))});
    let data: Vec<Value> = rows.iter().enumerate().map(item).rev().collect();
    json!({"object": "list", "data": data, "model": asked.json()["model"]})
}

fn server() -> Server {
    Server::start(|asked| Answer::json(&embeddings(asked)))
}

/// A server whose first answers are these, and the right ones from then on.
fn failing(first: Vec<Failure>) -> Server {
    let at = AtomicUsize::new(0);
    Server::start(move |asked| match first.get(at.fetch_add(1, Ordering::Relaxed)) {
        Some(answer) => answer(),
        None => Answer::json(&embeddings(asked)),
    })
}

fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(10),
        silence: Duration::from_secs(10),
        request: None,
        retries: 2,
        pause: Duration::from_millis(1),
    }
}

/// A model whose dimensions are named, so that nothing is asked before the test asks.
fn model(server: &Server, options: &str) -> RemoteEmbedder {
    let source = format!("{}/v1#letters?dims={DIMS}&connections=1{options}", server.url());
    RemoteEmbedder::open_with_patience(&source, patience()).unwrap()
}

#[track_caller]
fn expect_letters(embedder: &RemoteEmbedder, texts: &[&str]) {
    let embeddings = embedder.embed_documents(texts).unwrap();
    let rows: Vec<Vec<f32>> = embeddings.rows().map(<[f32]>::to_vec).collect();
    assert_eq!(rows, texts.iter().map(|text| letters(text)).collect::<Vec<_>>());
}

/// The whole batch failed, it is the world's fault, and the message says these words.
#[track_caller]
fn expect_failure<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) {
    let error = result.expect_err("this must fail");
    assert_eq!(error.blame(), Blame::World, "{error}");
    let message = error.to_string();
    assert!(words.iter().all(|word| message.contains(word)), "the message does not say {words:?}: {message}");
}

#[test]
fn vectors_stand_in_the_order_of_their_texts() {
    let server = server();
    expect_letters(&model(&server, ""), &["abc", "zz", "", "hello"]);
    let asked = &server.asked()[0];
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/embeddings"));
    let body = asked.json();
    assert_eq!((&body["model"], &body["encoding_format"]), (&json!("letters"), &json!("float")));
    assert_eq!(body["dimensions"], DIMS);
}

#[test]
fn base64_says_the_same() {
    let server = server();
    expect_letters(&model(&server, "&encoding=base64"), &["abc", "zz"]);
    assert_eq!(server.asked()[0].json()["encoding_format"], "base64");
}

#[test]
fn texts_go_in_batches_and_come_back_in_order() {
    let server = server();
    let texts: Vec<String> = (0..70_u8).map(|number| "x".repeat(usize::from(number)) + "ab").collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    expect_letters(&model(&server, ""), &texts);
    let sizes: Vec<usize> = server.asked().iter().map(|asked| inputs(asked).len()).collect();
    assert_eq!(sizes, [32, 32, 6]);
    let parallel = format!("{}/v1#letters?dims={DIMS}&batch=7&connections=4", server.url());
    expect_letters(&RemoteEmbedder::open_with_patience(&parallel, patience()).unwrap(), &texts);
    assert_eq!(server.asked().len(), 3 + 10);
    // Long texts make smaller batches.
    let long = "y".repeat(100 << 10);
    expect_letters(&model(&server, ""), &[&long, &long, "a"]);
    let sizes: Vec<usize> = server.asked()[13..].iter().map(|asked| inputs(asked).len()).collect();
    assert_eq!(sizes, [1, 2]);
}

#[test]
fn a_batch_that_is_too_large_for_the_server_goes_in_halves() {
    let server = Server::start(|asked| match inputs(asked).len() {
        3.. => Answer::new(422, r#"{"error": "batch size > maximum allowed batch size 2"}"#),
        _ => Answer::json(&embeddings(asked)),
    });
    expect_letters(&model(&server, ""), &["a", "b", "c", "d", "e"]);
    let alone = Server::start(|_| Answer::new(413, r#"{"error": "too long", "error_type": "Validation"}"#));
    expect_failure(model(&alone, "").embed_documents(&["a", "b"]), &["413", "too long"]);
}

#[test]
fn prompts_are_put_before_queries_and_passages() {
    let server = server();
    let embedder = model(&server, "&query=search%20query:%20&document=passage:%20");
    embedder.embed_queries(&["what?"], &NoStatistics).unwrap();
    embedder.embed_documents(&["that."]).unwrap();
    let sent: Vec<String> = server.asked().iter().flat_map(inputs).collect();
    assert_eq!(sent, ["search query: what?", "passage: that."]);
    let spec = embedder.spec();
    assert_eq!((spec.query_prompt.as_str(), spec.document_prompt.as_str()), ("search query: ", "passage: "));
}

#[test]
fn what_may_pass_is_asked_again() {
    let busy: Failure = || Answer::new(429, r#"{"error": {"message": "slow down"}}"#).header("retry-after", 0);
    let broken: Failure = || Answer::new(502, "<html>Bad Gateway");
    let cut: Failure = || Answer::new(200, "{\"data\": []}").cut_after(5);
    for first in [vec![busy, broken], vec![cut, busy], vec![broken, cut]] {
        let server = failing(first);
        expect_letters(&model(&server, ""), &["abc"]);
        assert_eq!(server.asked().len(), 3);
    }
    let server = failing(vec![busy; 3]);
    expect_failure(model(&server, "").embed_documents(&["a"]), &["429", "slow down", "3 times"]);
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_server_that_says_nothing_is_left_after_a_while() {
    let server = failing(vec![|| Answer::new(200, "{}").silent_after(1)]);
    let source = format!("{}/v1#letters?dims={DIMS}", server.url());
    let impatient = Patience { silence: Duration::from_millis(100), ..patience() };
    expect_letters(&RemoteEmbedder::open_with_patience(&source, impatient).unwrap(), &["abc"]);
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_pause_that_is_too_long_is_told_and_not_taken() {
    let server = failing(vec![|| Answer::new(503, "later").header("retry-after", 3600)]);
    expect_failure(model(&server, "").embed_documents(&["a"]), &["503", "3600 s"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn what_will_not_pass_is_not_asked_again() {
    let cases: [(Failure, &[&str]); 4] = [
        (|| Answer::new(401, r#"{"error": {"message": "no key"}}"#), &["401", "no key", "QUIVER_API_KEY_127_0_0_1"]),
        (|| Answer::new(404, r#"{"error": "model \"letters\" not found"}"#), &["404", "not found"]),
        (|| Answer::new(301, "").header("location", "http://elsewhere.example/v1"), &["elsewhere.example"]),
        (|| Answer::new(200, "<html>Welcome"), &["embeddings", "/v1"]),
    ];
    for (answer, words) in cases {
        let server = failing(vec![answer]);
        expect_failure(model(&server, "").embed_documents(&["a", "b"]), words);
        assert_eq!(server.asked().len(), 1, "{words:?}");
    }
}

/// Too few, one twice, one of another length, a number that is none: each fails the whole batch.
#[test]
fn answers_that_do_not_fit_fail_as_a_whole() {
    let changed = |change: Change| {
        Server::start(move |asked| {
            let mut answer = embeddings(asked);
            change(answer["data"].as_array_mut().unwrap());
            Answer::json(&answer)
        })
    };
    let cases: [(Change, &[&str]); 6] = [
        (|data| drop(data.pop()), &["1 vectors for 2 texts"]),
        (|data| data[0]["index"] = json!(0), &["two vectors for text 0"]),
        (|data| data[0]["index"] = json!(7), &["text 7"]),
        (|data| data[0]["embedding"] = json!([1.0, 2.0]), &["2 dimensions", "26"]),
        (|data| data[0]["embedding"] = json!([]), &["empty"]),
        (|data| data[0]["embedding"] = json!("not base64!"), &["base64"]),
    ];
    for (change, words) in cases {
        let server = changed(change);
        expect_failure(model(&server, "").embed_documents(&["a", "b"]), words);
    }
}

#[test]
fn sources_that_cannot_be_read_are_refused_before_anybody_is_asked() {
    let server = server();
    for (rest, word) in [
        ("/v1", "names no model"),
        ("/v1#m?dims=none", "dims"),
        ("/v1#m?encoding=hex", "hex"),
        ("/v1#m?temperature=1", "temperature"),
    ] {
        let error = RemoteEmbedder::open(&format!("{}{rest}", server.url())).err().expect("this must be refused");
        assert!(matches!(error, Error::InvalidInput(_)) && error.to_string().contains(word), "{error}");
    }
    assert!(server.asked().is_empty());
}

#[test]
fn a_collection_knows_its_server_s_model_by_name_and_dimensions() {
    let dims = Arc::new(AtomicUsize::new(DIMS));
    let given = Arc::clone(&dims);
    let server = Server::start(move |asked| {
        let mut answer = embeddings(asked);
        for item in answer["data"].as_array_mut().unwrap() {
            item["embedding"].as_array_mut().unwrap().truncate(given.load(Ordering::Relaxed));
        }
        Answer::json(&answer)
    });
    let folder = crate::scenes::folder();
    let path = folder.path().join("a.db");
    let source = format!("{}/v1#letters", server.url());
    let named = || CollectionConfig::new().model(&source);
    {
        let db = Database::open(&path).unwrap();
        let notes = db.collection_with("notes", named()).unwrap();
        notes.add(Document::new("bread", "bread bread")).unwrap();
        notes.add(Document::new("jazz", "jazz jazz")).unwrap();
        let spec = notes.model().unwrap();
        assert_eq!((spec.id.as_str(), spec.backend.as_str(), spec.dims), (source.as_str(), "remote", DIMS));
    }
    let db = Database::open(&path).unwrap();
    let notes = db.collection("notes").unwrap();
    let hits = notes.search(Query::text("zzz").mode(quiverdb::Mode::Dense).limit(1)).unwrap().hits;
    assert_eq!(ids(&hits), ["jazz"]);
    let other = CollectionConfig::new().model(format!("{}/v1#others", server.url()));
    let error = db.collection_with("notes", other).err().expect("another model must be refused");
    assert!(matches!(error, Error::ModelMismatch { .. }), "{error:?}");
    drop((db, notes));
    dims.store(20, Ordering::Relaxed);
    let error =
        Database::open(&path).unwrap().collection_with("notes", named()).err().expect("so must other dimensions");
    assert!(error.to_string().contains("stored `26`, given `20`"), "{error}");
}

#[cfg(feature = "cli")]
#[test]
fn the_command_embeds_on_a_server_and_shows_its_model() {
    let server = server();
    let source = format!("{}/v1#letters", server.url());
    let quiver = |arguments: &[&str], input: &str| {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut command = Command::new(env!("CARGO_BIN_EXE_quiver"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = quiver(&["embed", "--model", &source], "abc\nzz\n");
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows, [json!({"embedding": letters("abc")}), json!({"embedding": letters("zz")})]);
    let shown: Value = serde_json::from_str(&quiver(&["models", "show", &source, "--json"], "")).unwrap();
    assert_eq!((&shown["spec"]["backend"], &shown["spec"]["dims"]), (&json!("remote"), &json!(DIMS)));
}

/// Scores of passages: their lengths over a hundred. Out of order, as servers give them best first.
fn reranked(asked: &Asked) -> Answer {
    let body = asked.json();
    let cohere = asked.path.ends_with("/v1/rerank");
    let passages = body[if cohere { "documents" } else { "texts" }].as_array().unwrap();
    let score = |text: &Value| text.as_str().unwrap().len() as f32 / 100.0;
    let name = if cohere { "relevance_score" } else { "score" };
    let mut rows: Vec<Value> =
        passages.iter().enumerate().map(|(index, text)| json!({"index": index, name: score(text)})).collect();
    rows.reverse();
    Answer::json(&if cohere { json!({"id": "1", "results": rows, "meta": {}}) } else { json!(rows) })
}

#[test]
fn both_dialects_of_reranking_score_every_passage_in_order() {
    let server = Server::start(reranked);
    let passages = ["four", "", "seventeen letters"];
    for (source, path) in [("/v1#rerank-v3", "/v1/rerank"), ("", "/rerank"), ("#m?dialect=tei", "/rerank")] {
        let reranker = RemoteReranker::with_patience(&format!("{}{source}", server.url()), patience()).unwrap();
        assert_eq!(reranker.rerank("how long?", &passages).unwrap(), [0.04, 0.0, 0.17]);
        let asked = server.asked().pop().unwrap();
        assert_eq!((asked.path.as_str(), &asked.json()["query"]), (path, &json!("how long?")));
    }
    let small = RemoteReranker::with_patience(&format!("{}/v1#m?batch=2", server.url()), patience()).unwrap();
    let before = server.asked().len();
    assert_eq!(small.rerank("q", &passages).unwrap(), [0.04, 0.0, 0.17]);
    assert_eq!(server.asked().len() - before, 2);
    assert_eq!(small.rerank("q", &[]).unwrap(), Vec::<f32>::new());
}

#[test]
fn a_reranker_that_leaves_a_passage_out_fails() {
    let answers = Arc::new(Mutex::new(json!([])));
    let given = Arc::clone(&answers);
    let server = Server::start(move |_| Answer::json(&given.lock().unwrap()));
    let reranker = RemoteReranker::with_patience(&server.url(), patience()).unwrap();
    for (answer, word) in [
        (json!([{"index": 0, "score": 0.5}]), "left out 1 of 2"),
        (json!([{"index": 0, "score": 0.5}, {"index": 0, "score": 0.4}]), "passage 0"),
        (json!([{"index": 0, "score": 0.5}, {"index": 2, "score": 0.4}]), "passage 2"),
        (json!({"error": "no"}), "not that of a reranker"),
    ] {
        *answers.lock().unwrap() = answer;
        expect_failure(reranker.rerank("q", &["a", "b"]), &[word]);
    }
}

/// In a process of its own, because the key comes from the environment.
#[test]
fn a_key_goes_to_its_own_host_and_is_never_stored() {
    const TEST: &str = "remote::a_key_goes_to_its_own_host_and_is_never_stored";
    if let Some(url) = crate::scenes::role() {
        let db = Database::open("a.db").unwrap();
        let notes = db.collection_with("notes", CollectionConfig::new().model(format!("{url}/v1#letters"))).unwrap();
        notes.add(Document::new("a", "abc")).unwrap();
        assert!(!db.dump().unwrap().contains("sesame"), "the key is in the database");
        assert!(RemoteReranker::new(&format!("{url}/v1#m")).unwrap().rerank("q", &["a"]).is_ok());
        return;
    }
    let server = Server::start(|asked| match asked.path.ends_with("/rerank") {
        true => reranked(asked),
        false => Answer::json(&embeddings(asked)),
    });
    let folder = crate::scenes::folder();
    for (variable, key) in [("QUIVER_API_KEY_127_0_0_1", Some("Bearer sesame")), ("OPENAI_API_KEY", None)] {
        let before = server.asked().len();
        let mut child = crate::scenes::child(TEST, &server.url(), folder.path());
        let output = child.env(variable, "sesame").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let asked = &server.asked()[before..];
        assert!(asked.len() >= 2);
        assert!(asked.iter().all(|asked| asked.header("authorization") == key), "{variable}");
    }
}
