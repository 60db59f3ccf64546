//! Does a database tell how its models are doing, warm them up, and share them between threads without changing an answer?

#[cfg(feature = "candle")]
use quiverdb::models::BatchLimits;
use quiverdb::models::registry::Purpose;
use quiverdb::models::{LoadHealth, LoadState, MemoryLimits, ModelOptions};
use quiverdb::{Database, Document, Query};

fn only(db: &Database) -> LoadHealth {
    let mut models = db.models();
    assert_eq!(models.len(), 1, "{models:?}");
    models.remove(0)
}

#[test]
fn models_tell_what_they_are_and_what_they_have_done() {
    let db = Database::in_memory().unwrap();
    assert!(db.models().is_empty());
    let notes = db.collection("notes").unwrap();
    notes.add(Document::new("a", "The river carries boats to the sea.")).unwrap();
    notes.search(Query::text("boats")).unwrap();
    notes.search(Query::text("sea")).unwrap();
    let health = only(&db);
    assert_eq!((health.state, health.device.as_str(), health.loads), (LoadState::Ready, "cpu", 1));
    assert!(health.bytes > 1 << 20 && !health.bytes_estimated && health.warm_up_s.is_none());
    let usage = health.usage;
    assert_eq!((usage.queries.calls, usage.documents.calls, usage.requests, usage.texts), (2, 1, 3, 3));
    assert!(usage.queries.p50_ms > 0.0 && usage.queries.p95_ms >= usage.queries.p50_ms, "{usage:?}");
    assert!(usage.tokens.unwrap() >= 9 && usage.tokens_per_s.unwrap() > 0.0, "{usage:?}");
    assert_eq!((usage.failures, usage.runs), (0, 3));
}

#[test]
fn counters_outlive_a_model_that_is_dropped_and_loaded_again() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection("notes").unwrap();
    notes.add(Document::new("a", "The river.")).unwrap();
    db.limit_models(MemoryLimits { bytes_max: Some(0), keep_alive: None });
    let dropped = only(&db);
    assert_eq!((dropped.state, dropped.bytes, dropped.usage.texts), (LoadState::Dropped, 0, 1));
    notes.search(Query::text("river")).unwrap();
    assert_eq!(only(&db).usage.texts, 2);
}

#[test]
fn models_are_warm_where_that_is_asked_for() {
    let cold = Database::in_memory().unwrap();
    cold.collection("notes").unwrap();
    assert_eq!(only(&cold).warm_up_s, None);
    let warm = Database::in_memory().unwrap().with_model_options(ModelOptions::new().warm_up(true));
    warm.collection("notes").unwrap();
    let health = only(&warm);
    let spent = health.warm_up_s.unwrap();
    assert!(spent > 0.0 && spent <= health.load_s, "{health:?}");
    assert_eq!((health.usage.requests, health.usage.tokens), (0, None));
    // By hand it is a use like any other.
    cold.warm_up("builtin", Purpose::Embed).unwrap();
    let usage = only(&cold).usage;
    assert_eq!((usage.queries.calls, usage.documents.calls), (1, 1));
    let error = cold.warm_up("no/such/folder", Purpose::Rerank).unwrap_err().to_string();
    assert!(error.contains("no/such/folder"), "{error}");
}

#[cfg(feature = "candle")]
#[test]
fn threads_share_runs_of_a_model_and_get_the_same_bits() {
    use quiverdb::{Collection, CollectionConfig, Mode};
    let model = format!("{}/tests/fixtures/tiny-bert", env!("CARGO_MANIFEST_DIR"));
    let filled = |options: ModelOptions| -> (Database, Collection) {
        let db = Database::in_memory().unwrap().with_model_options(options);
        let notes = db.collection_with("notes", CollectionConfig::new().model(&model)).unwrap();
        // No two passages alike: of those in one batch the model would read one.
        let text = |number: i64| format!("the river boat {number} is cold ").repeat(1 + number as usize % 7);
        notes.add_many((0..200).map(|number| Document::new(number, text(number)))).unwrap();
        (db, notes)
    };
    let limits = BatchLimits::default().batch_texts_max(16).batch_tokens_max(400).queries_together(true);
    let (shared, one) = filled(ModelOptions::new().batches(limits));
    let (single, other) = filled(ModelOptions::new().batches(None));
    let usage = only(&shared).usage;
    assert!(usage.runs > usage.documents.calls, "long calls are cut: {usage:?}");
    let usage = only(&single).usage;
    assert_eq!(usage.runs, usage.documents.calls);
    let ask = |notes: &Collection, number: usize| {
        let hits = notes.search(Query::text(format!("a cold boat {number}")).mode(Mode::Dense)).unwrap().hits;
        hits.into_iter().map(|hit| (hit.document, hit.score.to_bits())).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (one, other) = (&one, &other);
            scope.spawn(move || {
                for round in 0..10 {
                    assert_eq!(ask(one, thread * 10 + round), ask(other, thread * 10 + round));
                }
            });
        }
    });
    let (together, apart) = (only(&shared).usage, only(&single).usage);
    assert_eq!((together.queries.calls, apart.queries.calls), (80, 80));
    assert_eq!((together.tokens, apart.runs), (apart.tokens, apart.requests));
}

#[cfg(feature = "candle")]
#[test]
fn a_reranker_is_loaded_once_by_whatever_path_and_counts_its_pairs() {
    let folder = format!("{}/tests/fixtures/architectures", env!("CARGO_MANIFEST_DIR"));
    let db = Database::in_memory().unwrap();
    let notes = db.collection("notes").unwrap();
    notes.add_many([Document::new("a", "The river boat."), Document::new("b", "A cold river.")]).unwrap();
    for path in [format!("{folder}/bert"), format!("{folder}/../architectures/./bert/")] {
        assert_eq!(notes.search(Query::text("river").rerank(path)).unwrap().hits.len(), 2);
    }
    let models = db.models();
    assert_eq!(models.len(), 2, "{models:?}");
    let reranker = &models[1];
    assert_eq!((reranker.loads, reranker.device.as_str()), (1, "cpu"));
    assert_eq!((reranker.usage.requests, reranker.usage.texts), (2, 4));
    assert!(reranker.usage.tokens.unwrap() >= 16 && reranker.bytes > 0);
}
