//! Is bad input refused by name, and nothing lost? Every refusal leaves the database as it was, to the last byte of
//! its dump.

use std::sync::Arc;

use quiverdb::embed::{Embeddings, ModelSpec};
use quiverdb::{
    Blame, Collection, CollectionConfig, Database, Document, Embedder, Error, Filter, Metric, Mode, Query, Result,
};
use serde_json::{Value, json};

use crate::scenes::{Letters, folder, four_notes, ids, notes, search};

/// Runs what must be refused, and returns the error. The caller is to blame, and the database is as it was.
fn refused<T>(db: &Database, act: impl FnOnce() -> Result<T>) -> Error {
    let before = db.dump().unwrap();
    let error = act().err().expect("this must be refused");
    assert_eq!(error.blame(), Blame::Caller, "{error}");
    assert_eq!(db.dump().unwrap(), before, "refused ({error}), and yet something was written");
    error
}

/// Refused, and the message holds all these words.
fn refused_saying<T>(db: &Database, words: &[&str], act: impl FnOnce() -> Result<T>) {
    let message = refused(db, act).to_string();
    for word in words {
        assert!(message.contains(word), "the message does not say `{word}`: {message}");
    }
}

fn external(dims: usize, metric: Metric) -> (Database, Collection) {
    let db = Database::in_memory().unwrap();
    let points = db.collection_with("points", CollectionConfig::new().external(dims).metric(metric)).unwrap();
    points.add(Document::new("here", "here").vector(vec![1.0; dims])).unwrap();
    (db, points)
}

#[test]
fn vectors_of_other_dimensions_are_refused() {
    let (db, points) = external(3, Metric::Cosine);
    for wrong in [vec![], vec![1.0], vec![1.0; 2], vec![1.0; 4], vec![1.0; 4096]] {
        let got = wrong.len().to_string();
        let document = Document::new("a", "a").vector(wrong.clone());
        refused_saying(&db, &["points", "3", &got], || points.add(document));
        let error = refused(&db, || points.search(Query::vector(wrong.clone())));
        assert!(matches!(error, Error::DimensionMismatch { expected: 3, .. }), "{error:?}");
    }
    let (db, notes) = notes();
    refused_saying(&db, &["notes", "builtin"], || notes.add(Document::new("a", "a").vector(vec![1.0; 3])));
}

#[test]
fn vectors_that_no_metric_can_rank_are_refused() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let (db, points) = external(3, metric);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in 0..3 {
                let mut vector = vec![0.5; 3];
                vector[place] = bad;
                let document = Document::new("culprit", "a").vector(vector.clone());
                refused_saying(&db, &["culprit", &place.to_string()], || points.add(document));
                refused(&db, || points.search(Query::vector(vector)));
            }
        }
    }
}

#[test]
fn zero_vectors_have_no_direction() {
    let (db, points) = external(3, Metric::Cosine);
    refused_saying(&db, &["culprit", "zero"], || points.add(Document::new("culprit", "").vector(vec![0.0; 3])));
    refused_saying(&db, &["query", "zero"], || points.search(Query::vector(vec![-0.0; 3])));
}

/// Whatever finite vector is let in, every score is finite: sums of squares may overflow or vanish.
#[test]
fn extreme_vectors_are_refused_or_give_finite_scores() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let (_db, points) = external(3, metric);
        let sizes = [f32::MAX, 1e30, 1e19, 1e-19, 1e-30, f32::MIN_POSITIVE, 1e-45];
        for (id, size) in (0..).zip(sizes) {
            let outcome = points.add(Document::new(id, "").vector(vec![size, -size, size]));
            assert!(outcome.as_ref().err().is_none_or(|error| error.blame() == Blame::Caller), "{outcome:?}");
        }
        for size in sizes {
            match points.search(Query::vector(vec![size, size, 0.0]).limit(100)) {
                Ok(found) => {
                    let scores: Vec<f32> = found.hits.iter().map(|hit| hit.score).collect();
                    assert!(scores.iter().all(|score| score.is_finite()), "{metric:?} {size:e}: {scores:?}");
                    assert_eq!(scores.len() as u64, points.count().unwrap());
                }
                Err(error) => assert_eq!(error.blame(), Blame::Caller, "{metric:?} {size:e}: {error}"),
            }
        }
    }
}

#[test]
fn a_document_without_a_vector_is_refused_where_there_is_no_model() {
    let (db, points) = external(3, Metric::Cosine);
    refused_saying(&db, &["`a`", "`points`", "3"], || points.add(Document::new("a", "text")));
    refused_saying(&db, &["points", "3"], || points.search(Query::text("text").mode(Mode::Dense)));
}

#[test]
fn another_model_is_refused_by_name() {
    let (db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    let letters = || CollectionConfig::new().embedder(Arc::new(Letters::new()));
    refused_saying(&db, &["notes", "builtin", "letters", "reembed"], || db.collection_with("notes", letters()));
    let external = || CollectionConfig::new().external(27);
    refused_saying(&db, &["notes", "builtin", "external"], || db.collection_with("notes", external()));
    let words = db.collection_with("words", letters()).unwrap();
    words.add(Document::new("apple", "apple")).unwrap();
    let by_name = db.collection("words").unwrap();
    for error in [
        refused(&db, || by_name.add(Document::new("pear", "pear"))),
        refused(&db, || by_name.search(Query::text("apple"))),
    ] {
        assert!(matches!(&error, Error::ModelRequired { model, .. } if model == "letters"), "{error:?}");
    }
    let found = by_name.search(Query::text("apple").mode(Mode::Text)).unwrap();
    assert_eq!(found.hits[0].document, "apple".into());
    assert_eq!(by_name.get("apple").unwrap().unwrap().text, "apple");
    refused_saying(&db, &["words", "letters"], || {
        db.collection_with("words", CollectionConfig::new().model("builtin"))
    });
    assert_eq!(notes.count().unwrap(), 4);
}

#[test]
fn another_setting_than_the_stored_one_is_refused() {
    let db = Database::in_memory().unwrap();
    db.collection_with("notes", CollectionConfig::new().chunk_tokens(100)).unwrap();
    refused_saying(&db, &["chunk_tokens", "100", "200"], || {
        db.collection_with("notes", CollectionConfig::new().chunk_tokens(200))
    });
    assert!(db.collection_with("notes", CollectionConfig::new().chunk_tokens(100)).is_ok());
    assert!(db.collection("notes").is_ok());
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let db = Database::in_memory().unwrap();
    for tokens in [0, 1, 1_000_000] {
        refused_saying(&db, &["chunk_tokens"], || {
            db.collection_with("a", CollectionConfig::new().chunk_tokens(tokens))
        });
    }
    refused_saying(&db, &["chunk_overlap"], || {
        db.collection_with("a", CollectionConfig::new().chunk_tokens(100).chunk_overlap(100))
    });
    for dims in [0, 10_000_000] {
        refused(&db, || db.collection_with("a", CollectionConfig::new().external(dims)));
    }
    assert!(db.collections().unwrap().is_empty());
}

#[test]
fn names_that_could_be_paths_are_refused() {
    let folder = folder();
    let inside = folder.path().join("inside");
    let db = Database::open(&inside).unwrap();
    db.collection("kept").unwrap();
    let long = "x".repeat(256);
    let names = [
        "",
        ".",
        "..",
        "...",
        "../outside",
        "a/b",
        "a\\b",
        "/etc/passwd",
        "a\0b",
        "a b",
        "naïve",
        "а",
        "a\n",
        " ",
        "C:",
        "%2e%2e",
        long.as_str(),
    ];
    for name in names {
        refused_saying(&db, &["collection name"], || db.collection(name));
        refused(&db, || db.rename_collection("kept", name));
        assert!(db.open_collection(name).is_err());
    }
    let around: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(around, ["inside"], "something was made beside the database");
    for name in ["a", "A", "0", "a.b", "..a", "-", "_", "CON", "x".repeat(255).as_str()] {
        db.collection(name).unwrap_or_else(|error| panic!("{name} is a good name: {error}"));
    }
    assert_ne!(db.collection("a").unwrap().describe(), db.collection("A").unwrap().describe());
}

#[test]
fn ids_are_one_to_512_bytes() {
    let (db, notes) = notes();
    refused_saying(&db, &["empty"], || notes.add(Document::new("", "text")));
    refused_saying(&db, &["513", "512"], || notes.add(Document::new("x".repeat(513), "text")));
    refused_saying(&db, &["514", "512"], || notes.add(Document::new("é".repeat(257), "text")));
    for good in ["x".repeat(512), "é".repeat(256), "../../etc/passwd".into(), "\0".into(), " ".into(), "a\nb".into()] {
        notes.add(Document::new(&good, "text")).unwrap();
        assert_eq!(notes.get(&good).unwrap().unwrap().id, good.as_str().into());
    }
}

#[test]
fn metadata_must_be_an_object() {
    let (db, notes) = notes();
    for bad in [json!(null), json!(true), json!(1), json!("text"), json!([{"a": 1}])] {
        refused_saying(&db, &["culprit", "object"], || notes.add(Document::new("culprit", "text").metadata(bad)));
    }
}

#[test]
fn no_hits_and_too_many_hits_are_refused() {
    let (db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    for limit in [0, 10_001, 1_000_000_000, usize::MAX] {
        refused_saying(&db, &["limit", "10000", &limit.to_string()], || {
            notes.search(Query::text("dough").limit(limit))
        });
    }
    for candidates in [0, usize::MAX] {
        // Too many candidates are as many as there are; none at all may be refused. Neither may hang or panic.
        let outcome = notes.search(Query::text("dough").candidates(candidates));
        assert!(outcome.as_ref().map_or_else(|e| e.blame() == Blame::Caller, |r| !r.hits.is_empty()), "{outcome:?}");
    }
}

#[test]
fn empty_queries_are_refused() {
    let (db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    for text in ["", "   ", "\n\t"] {
        refused_saying(&db, &["empty"], || notes.search(Query::text(text)));
    }
    let dims = notes.stats().unwrap().dims;
    refused_saying(&db, &["words"], || notes.search(Query::vector(vec![1.0; dims]).mode(Mode::Text)));
    refused(&db, || notes.search(Query::text("a").min_score(f32::NAN)));
    for lambda in [-0.1, 1.1, f32::NAN] {
        refused(&db, || notes.search(Query::text("a").mmr(lambda)));
    }
}

#[test]
fn query_texts_are_never_syntax() {
    let (_db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    let deep = "(".repeat(100_000);
    let many = "dough ".repeat(20_000);
    let strange =
        ["\"dough", "dough AND", "title:dough", "+dough -oven", "dough~9", "*", "?!", "\0", "[1 TO 2]", "🦀", "的"];
    for text in strange.into_iter().chain([deep.as_str(), many.as_str()]) {
        for mode in [Mode::Hybrid, Mode::Dense, Mode::Text] {
            let outcome = notes.search(Query::text(text).mode(mode));
            let start: String = text.chars().take(20).collect();
            assert!(
                outcome.as_ref().err().is_none_or(|e| e.blame() == Blame::Caller),
                "{start:?} {mode:?}: {outcome:?}"
            );
        }
    }
    assert_eq!(ids(&search(&notes, Query::text("\"dough")))[0], "bread");
}

#[test]
fn a_filter_on_nothing_matches_nothing() {
    let (_db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    for text in ["nosuch = 1", "topic = 'poetry'", "year > 3000", "topic IN ()"] {
        let Ok(filter) = text.parse::<Filter>() else {
            assert_eq!(text, "topic IN ()", "only an empty list may be refused");
            continue;
        };
        for mode in [Mode::Hybrid, Mode::Dense, Mode::Text] {
            let answer = notes.search(Query::text("dough").filter(filter.clone()).mode(mode)).unwrap();
            assert!(answer.hits.is_empty(), "{text}: {:?}", ids(&answer.hits));
        }
        assert_eq!(notes.delete_matching(&filter).unwrap(), 0);
    }
    assert_eq!(notes.count().unwrap(), 4);
}

#[test]
fn unknown_collections_are_named() {
    let (db, _notes) = notes();
    refused_saying(&db, &["nobody"], || db.open_collection("nobody"));
    refused_saying(&db, &["nobody"], || db.drop_collection("nobody"));
    refused_saying(&db, &["nobody"], || db.rename_collection("nobody", "somebody"));
    db.collection("other").unwrap();
    refused_saying(&db, &["other"], || db.rename_collection("notes", "other"));
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let db = Database::in_memory().unwrap();
    let error = db.collection_with("a", CollectionConfig::new().model("no/such/model")).err().expect("no such model");
    assert!(error.to_string().contains("no/such/model"), "{error}");
    assert_eq!(error.blame(), Blame::World);
    assert!(db.collections().unwrap().is_empty(), "a collection without a model was made");
}

/// A model that fails on texts that hold the word of its kind of failure.
struct Failing(ModelSpec);

impl Embedder for Failing {
    fn spec(&self) -> &ModelSpec {
        &self.0
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        let any = |word: &str| texts.iter().any(|text| text.contains(word));
        if any("fail") {
            return Err(Error::Embedding("the model is tired".into()));
        }
        if any("refuse") {
            return Err(Error::InvalidInput("the model does not read this".into()));
        }
        if any("vanish") {
            return Err(Error::Model { model: "failing".into(), reason: "its weights are gone".into() });
        }
        let dims = if any("narrow") { 2 } else { 3 };
        let rows = if any("missing") { texts.len() - 1 } else { texts.len() };
        let value = |text: &str| match text {
            text if text.contains("nan") => f32::NAN,
            text if text.contains("zero") => 0.0,
            _ => 1.0,
        };
        let values = texts[..rows].iter().flat_map(|text| vec![value(text); dims]).collect();
        Ok(Embeddings { dims, values, truncated: 0 })
    }
}

#[test]
fn a_failed_embedding_leaves_the_old_version_searchable() {
    let db = Database::in_memory().unwrap();
    let config = CollectionConfig::new().embedder(Arc::new(Failing(ModelSpec::new("failing", 3))));
    let notes = db.collection_with("notes", config).unwrap();
    notes.add(Document::new("a", "the good old version")).unwrap();
    let before = db.dump().unwrap();
    for failure in ["fail", "narrow", "missing", "nan", "zero"] {
        let error = notes.add(Document::new("a", format!("the new version: {failure}"))).unwrap_err();
        assert!(matches!(error, Error::Embedding(_)), "{failure}: {error:?}");
        assert_eq!(db.dump().unwrap(), before, "{failure}: something was written");
        let error = notes.search(Query::text(failure)).unwrap_err();
        assert!(matches!(error, Error::Embedding(_)), "{failure}: {error:?}");
    }
    assert_eq!(search(&notes, Query::text("version"))[0].text, "the good old version");
}

#[test]
fn one_text_that_fails_does_not_take_its_batch_with_it() {
    let db = Database::in_memory().unwrap();
    let config = CollectionConfig::new().embedder(Arc::new(Failing(ModelSpec::new("failing", 3))));
    let notes = db.collection_with("notes", config).unwrap();
    for (round, failure) in (0..).zip(["fail", "refuse", "narrow", "missing", "nan", "zero"]) {
        let text = |n: i64| if n == 3 { failure.to_owned() } else { format!("good {n}") };
        let report = notes.add_many((0..8).map(|n| Document::new(round * 10 + n, text(n)))).unwrap();
        assert_eq!((report.added, report.rejected.len()), (7, 1), "{failure}: {report:?}");
        assert_eq!(report.rejected[0].source, (round * 10 + 3).to_string(), "{failure}");
    }
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

/// Thousands of rejected documents would hide what is wrong, and read as if they were.
#[test]
fn a_model_that_is_not_there_is_no_fault_of_the_documents() {
    let db = Database::in_memory().unwrap();
    let failing = || CollectionConfig::new().embedder(Arc::new(Failing(ModelSpec::new("failing", 3))));
    let notes = db.collection_with("notes", failing()).unwrap();
    let many = || (0..100).map(|n| Document::new(n, "good"));
    let by_name = db.collection("notes").unwrap();
    let error = refused(&db, || by_name.add_many(many()));
    assert!(matches!(error, Error::ModelRequired { .. }), "{error:?}");
    let error = notes.add_many(many().chain([Document::new("a", "vanish")])).unwrap_err();
    assert!(matches!(error, Error::Model { .. }), "{error:?}");
    // What needs no model goes on without.
    let own = Document::new("own", "text").vector(vec![1.0; 3]);
    assert_eq!(by_name.add_many([own.clone()]).unwrap().added, 1);
    assert_eq!(by_name.add_many([own]).unwrap().unchanged, 1);
}

#[test]
fn an_oversized_document_does_not_take_its_batch_with_it() {
    let (db, notes) = notes();
    let deep = (0..101).fold(json!(1), |inner, _| json!({"in": inner}));
    let bad = [
        ("title", Document::new("title", "text").title("t".repeat(65_537))),
        ("nested", Document::new("nested", "text").metadata(deep)),
        ("metadata", Document::new("metadata", "text").metadata(json!({"long": "x".repeat(16 << 20)}))),
    ];
    for (word, document) in &bad {
        refused_saying(&db, &[&format!("`{word}`"), word], || notes.add(document.clone()));
    }
    let documents = four_notes().into_iter().chain(bad.map(|(_, document)| document));
    let report = notes.add_many(documents).unwrap();
    assert_eq!((report.added, report.rejected.len()), (4, 3), "{report:?}");
}

#[test]
fn a_rejected_document_reads_the_same_as_json() {
    let (_db, notes) = notes();
    let report = notes.add_many([Document::new("bad", "text").metadata(json!(1))]).unwrap();
    let json: Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["rejected"][0]["source"], "bad");
    for field in ["added", "replaced", "unchanged", "removed", "chunks_embedded", "chunks_reused", "texts_truncated"] {
        assert!(json[field].is_u64(), "`{field}` in {json}");
    }
    assert!(json["seconds"].is_f64());
}
