//! Are documents gone from the moment on that they name, and not a millisecond before?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use quiverdb::{Database, Document, Filter, Mode, Query};
use serde_json::json;

use crate::scenes::folder;

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// A clock that stands, for this database.
fn clock(db: &Database, now: u64) -> Arc<AtomicU64> {
    let hands = Arc::new(AtomicU64::new(now));
    let told = Arc::clone(&hands);
    db.set_clock(move || told.load(Ordering::Relaxed));
    hands
}

#[test]
fn a_search_returns_as_many_hits_as_there_are_and_none_that_expired() {
    let folder = folder();
    let db = Database::open(folder.path()).unwrap();
    let hands = clock(&db, 0);
    let notes = db.collection("notes").unwrap();
    let document = |n: u64| {
        let made = Document::new(n as i64, format!("Pears number {n} are ripe.")).metadata(json!({"n": n}));
        if n < 10 { made.expires_at(at(1_000)) } else { made }
    };
    assert_eq!(notes.add_many((0..20).map(document)).unwrap().added, 20);
    let ask = |query: Query| {
        let hits = notes.search(query.limit(10)).unwrap().hits;
        (hits.len(), hits.iter().filter(|hit| hit.metadata["n"].as_u64().unwrap() < 10).count())
    };
    let filter = || "n >= 5".parse::<Filter>().unwrap();
    let queries = || {
        let text = || Query::text("pears number 3");
        [
            text(),
            text().mode(Mode::Dense),
            text().mode(Mode::Text),
            text().exact(),
            text().group(true),
            text().filter(filter()),
            Query::text("+pears").syntax(),
        ]
    };
    assert!(queries().into_iter().all(|query| ask(query).0 == 10));
    assert!(ask(Query::text("pears number 3")).1 > 0);
    hands.store(1_000, Ordering::Relaxed);
    for (place, query) in queries().into_iter().enumerate() {
        assert_eq!(ask(query), (10, 0), "{place}");
    }
    assert_eq!((notes.count().unwrap(), notes.ids().unwrap().len(), notes.scan().unwrap().count()), (10, 10, 10));
    assert_eq!(notes.get(3).unwrap(), None);
    assert_eq!(notes.stats().unwrap().documents, 10);
    assert_eq!(notes.delete_matching(&"n < 10".parse().unwrap()).unwrap(), 0);
    drop((notes, db));
    let db = Database::open(folder.path()).unwrap();
    let notes = db.open_collection("notes").unwrap();
    assert_eq!((notes.count().unwrap(), notes.sweep().unwrap()), (10, 10), "their rows were still there");
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn the_moment_is_part_of_the_document() {
    let db = Database::in_memory().unwrap();
    let hands = clock(&db, 0);
    let notes = db.collection("notes").unwrap();
    let given = Document::new("a", "Pears are ripe.").expires_at(at(5_250));
    assert_eq!(notes.add(given.clone()).unwrap().added, 1);
    assert_eq!(notes.get("a").unwrap(), Some(given.clone()));
    assert_eq!(serde_json::to_value(&given).unwrap()["expires_at"], "1970-01-01T00:00:05.250Z");
    assert_eq!(notes.add(given.clone()).unwrap().unchanged, 1);
    let later = Document { expires_at: Some(at(9_000)), ..given.clone() };
    let report = notes.add(later.clone()).unwrap();
    assert_eq!(
        (report.replaced, report.chunks_embedded, report.chunks_reused),
        (1, 0, 1),
        "another moment, no new vector"
    );
    hands.store(8_999, Ordering::Relaxed);
    assert_eq!(notes.get("a").unwrap(), Some(later.clone()));
    hands.store(9_000, Ordering::Relaxed);
    assert_eq!(notes.get("a").unwrap(), None);
    let again = notes.add(Document { expires_at: None, ..later }).unwrap();
    assert_eq!((again.added, again.replaced), (1, 0));
    hands.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(notes.count().unwrap(), 1);
}

#[test]
fn what_has_expired_already_is_counted() {
    let db = Database::in_memory().unwrap();
    clock(&db, 5_000);
    let notes = db.collection("notes").unwrap();
    let document = |id: i64, until: u64| Document::new(id, format!("Pears number {id}.")).expires_at(at(until));
    let report = notes.add_many([document(1, 4_999), document(2, 5_000), document(3, 5_001)]).unwrap();
    assert_eq!((report.added, report.expired, notes.count().unwrap()), (3, 2, 1));
    let again = notes.add_many([document(1, 9_000), document(3, 5_000)]).unwrap();
    assert_eq!((again.added, again.replaced, again.expired, notes.count().unwrap()), (1, 1, 1, 1));
}

#[test]
fn json_lines_say_it_in_words_or_seconds() {
    let read = |expires_at: &str| {
        let line = format!("{{\"id\":1,\"text\":\"t\",\"expires_at\":{expires_at}}}\n");
        quiverdb::formats::load_jsonl(line.as_bytes(), "f").next().unwrap()
    };
    let moment = |expires_at: &str| read(expires_at).unwrap().expires_at;
    assert_eq!(moment("\"1970-01-01T01:00:01.5+01:00\""), Some(at(1_500)));
    assert_eq!(
        (moment("1.5"), moment("1700000000"), moment("null")),
        (Some(at(1_500)), Some(at(1_700_000_000_000)), None)
    );
    assert_eq!(read("1").unwrap().metadata, json!({}));
    assert_eq!(moment("\"1970-01-02\""), Some(at(86_400_000)), "midnight in UTC");
    for wrong in ["\"tomorrow\"", "\"2030-02-30\"", "\"2030-01\"", "-5", "true", "1e300"] {
        let reason = read(wrong).unwrap_err().reason;
        assert!(reason.contains("`expires_at` is") && reason.contains("2030-01-31T12:00:00Z"), "{reason}");
    }
}
