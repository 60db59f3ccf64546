//! Does the library do what its contract shows? The contract's example, and the life of a document.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quiverdb::embed::{Embeddings, ModelSpec};
use quiverdb::{
    AddOptions, AddReport, CollectionConfig, Database, Document, DocumentId, Embedder, Metric, Mode, Query,
};
use serde_json::json;

use crate::scenes::{Chance, Letters, child, folder, four_notes, ids, long_text, notes, role, search};

/// The library example of the contract, to the letter. It opens `notes.db` in the working directory, so it runs in a
/// process that has a folder of its own.
#[test]
fn the_contract_example_compiles_and_runs() {
    if role().as_deref() == Some("example") {
        contract_example("A value can be borrowed many times for reading, or once for writing.").unwrap();
        return;
    }
    let folder = folder();
    let output = child("library::the_contract_example_compiles_and_runs", "example", folder.path()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    let expected = "rust-book [0..68] A value can be borrowed many times for reading, or once for writing.";
    assert!(printed.contains(expected), "{printed}");
    assert!(folder.path().join("notes.db/data.redb").is_file());
}

fn contract_example(text: &str) -> quiverdb::Result<()> {
    use quiverdb::{Database, Document, Query};
    let db = Database::open("notes.db")?; // or Database::in_memory()
    let notes = db.collection("notes")?; // built-in model unless configured
    notes.add(Document::new("rust-book", text).metadata(json!({"lang": "en"})))?;
    for hit in notes.search(Query::text("how does borrowing work?").limit(5))? {
        println!("{:.3} {} [{}..{}] {}", hit.score, hit.document, hit.start, hit.end, hit.text);
    }
    Ok(())
}

#[test]
fn handles_are_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Database>();
    shared::<quiverdb::Collection>();
    shared::<quiverdb::Snapshot>();
    let (_db, notes) = notes();
    let copy = notes.clone();
    std::thread::spawn(move || copy.add(Document::new("a", "written by another thread"))).join().unwrap().unwrap();
    assert_eq!(notes.count().unwrap(), 1);
}

#[test]
fn what_is_added_is_found_at_once() {
    let (_db, notes) = notes();
    let report = notes.add_many(four_notes()).unwrap();
    assert_eq!((report.added, report.replaced, report.unchanged), (4, 0, 0));
    assert_eq!(report.chunks_embedded, 4);
    assert!(report.rejected.is_empty(), "{:?}", report.rejected);
    for mode in [Mode::Hybrid, Mode::Dense, Mode::Text] {
        let hits = search(&notes, Query::text("how do I share data between threads?").mode(mode));
        assert_eq!(hits[0].document, "threads".into(), "in mode {}", mode.name());
    }
}

#[test]
fn a_document_comes_back_as_it_was_given() {
    let (_db, notes) = notes();
    for document in four_notes() {
        notes.add(document.clone()).unwrap();
        assert_eq!(notes.get(document.id.clone()).unwrap(), Some(document));
    }
    assert_eq!(notes.get("nobody").unwrap(), None);
    let ids: Vec<String> = notes.ids().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["borrowing", "bread", "errors", "threads"]);
    let scanned: Vec<DocumentId> = notes.scan().unwrap().map(|document| document.unwrap().id).collect();
    assert_eq!(scanned, notes.ids().unwrap());
}

#[test]
fn metadata_keeps_its_order_and_its_numbers() {
    let (_db, notes) = notes();
    let metadata = json!({"z": 1, "a": [u64::MAX, i64::MIN, 0.1, 1e300, null, true], "m": {"y": "é", "b": {}}});
    notes.add(Document::new("a", "text").metadata(metadata.clone())).unwrap();
    let stored = notes.get("a").unwrap().unwrap().metadata;
    assert_eq!(stored.to_string(), metadata.to_string());
}

#[test]
fn integer_and_text_ids_are_different_documents() {
    let (_db, notes) = notes();
    notes.add(Document::new(7, "the number seven")).unwrap();
    notes.add(Document::new("7", "the digit seven")).unwrap();
    assert_eq!(notes.count().unwrap(), 2);
    assert_eq!(notes.get(7).unwrap().unwrap().text, "the number seven");
    assert_eq!(notes.ids().unwrap(), [DocumentId::Integer(7), DocumentId::Text("7".into())]);
    assert!(notes.delete(7).unwrap());
    assert_eq!(notes.get("7").unwrap().unwrap().text, "the digit seven");
}

#[test]
fn an_unchanged_document_costs_nothing() {
    let (db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    let before = db.dump().unwrap();
    let report = notes.add_many(four_notes()).unwrap();
    assert_eq!((report.added, report.replaced, report.unchanged), (0, 0, 4));
    assert_eq!((report.chunks_embedded, report.chunks_reused), (0, 0));
    assert_eq!(db.dump().unwrap(), before);
}

#[test]
fn a_replaced_document_leaves_nothing_behind() {
    let (db, notes) = notes();
    notes.add(Document::new("a", long_text("walruses", 12))).unwrap();
    assert!(notes.stats().unwrap().chunks > 2);
    let report = notes.add(Document::new("a", "Now a short text about penguins.")).unwrap();
    assert_eq!((report.added, report.replaced), (0, 1));
    assert_eq!((notes.count().unwrap(), notes.stats().unwrap().chunks), (1, 1));
    assert!(search(&notes, Query::text("walruses").mode(Mode::Text)).is_empty());
    assert_eq!(search(&notes, Query::text("walruses").mode(Mode::Dense)).len(), 1);
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn unchanged_chunks_of_a_changed_document_keep_their_vectors() {
    let (_db, notes) = notes();
    let text = long_text("glaciers", 20);
    let first = notes.add(Document::new("a", text.clone())).unwrap();
    let second = notes.add(Document::new("a", text + "One more sentence stands at the end.")).unwrap();
    assert_eq!(second.replaced, 1);
    assert!(second.chunks_embedded <= 2, "{second:?}");
    assert!(second.chunks_reused + 2 >= first.chunks_embedded, "{second:?} after {first:?}");
}

#[test]
fn a_change_of_metadata_alone_embeds_nothing() {
    let (_db, notes) = notes();
    notes.add(Document::new("a", long_text("glaciers", 20)).metadata(json!({"year": 1}))).unwrap();
    let report = notes.add(Document::new("a", long_text("glaciers", 20)).metadata(json!({"year": 2}))).unwrap();
    assert_eq!((report.replaced, report.chunks_embedded), (1, 0));
    assert_eq!(search(&notes, Query::text("glaciers"))[0].metadata, json!({"year": 2}));
}

#[test]
fn a_deleted_document_is_never_returned() {
    let (db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    assert!(notes.delete("threads").unwrap());
    assert!(!notes.delete("threads").unwrap());
    for mode in [Mode::Hybrid, Mode::Dense, Mode::Text] {
        let hits = search(&notes, Query::text("share data between threads with a mutex").mode(mode));
        assert!(!ids(&hits).contains(&"threads".to_owned()), "in mode {}", mode.name());
    }
    assert_eq!(notes.delete_many(&["bread".into(), "nobody".into(), "bread".into()]).unwrap(), 1);
    assert_eq!(notes.count().unwrap(), 2);
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn everything_is_there_after_reopening() {
    let folder = folder();
    let path = folder.path().join("deep/below/notes.db");
    let query = || Query::text("how long does the dough rise?");
    let (dump, hits) = {
        let db = Database::open(&path).unwrap();
        let notes = db.collection("notes").unwrap();
        notes.add_many(four_notes()).unwrap();
        notes.delete("errors").unwrap();
        (db.dump().unwrap(), notes.search(query()).unwrap().hits)
    };
    let db = Database::open(&path).unwrap();
    assert_eq!(db.dump().unwrap(), dump);
    assert_eq!(db.open_collection("notes").unwrap().search(query()).unwrap().hits, hits);
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn an_in_memory_database_touches_no_disk() {
    let (_db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    assert_eq!(notes.stats().unwrap().bytes_on_disk, 0);
}

#[test]
fn every_visible_byte_of_a_document_lies_in_some_hit() {
    let (_db, notes) = notes();
    let text = format!("# Ice\n\n{}\n## Deeper\n\n{}", long_text("glaciers", 9), "数据库把文本分成段落。".repeat(200));
    notes.add(Document::new("ice.md", text.clone())).unwrap();
    let hits = search(&notes, Query::text("ice").mode(Mode::Dense).limit(1000));
    assert_eq!(hits.len() as u64, notes.stats().unwrap().chunks);
    let mut covered = vec![false; text.len()];
    hits.iter().for_each(|hit| covered[hit.start..hit.end].fill(true));
    let bare: String = text.char_indices().filter(|(at, _)| !covered[*at]).map(|(_, character)| character).collect();
    assert!(bare.trim().is_empty(), "in no chunk: {bare:?}");
}

#[test]
fn order_does_not_depend_on_the_order_of_adding() {
    let twins = |id: usize| Document::new(format!("twin-{id:02}"), "The same words about the same harbour.");
    let mut documents: Vec<Document> = (0..30).map(twins).chain(four_notes()).collect();
    let mut answers = BTreeSet::new();
    for seed in 0..4 {
        let (_db, notes) = notes();
        shuffle(&mut documents, &mut Chance::of(seed));
        notes.add_many(documents.clone()).unwrap();
        for mode in [Mode::Hybrid, Mode::Dense, Mode::Text] {
            let hits = search(&notes, Query::text("harbour").limit(10).mode(mode));
            let scores = hits.iter().map(|hit| format!("{} {:?}", hit.document, hit.scores));
            answers.insert((mode.name(), scores.collect::<Vec<_>>().join("\n")));
        }
    }
    assert_eq!(answers.len(), 3, "{answers:#?}");
    let twins_in_order: Vec<String> = (0..10).map(|id| format!("twin-{id:02}")).collect();
    assert!(answers.iter().all(|(_, answer)| twins_in_order.iter().all(|id| answer.contains(id))), "{answers:#?}");
}

fn shuffle<T>(items: &mut [T], chance: &mut Chance) {
    for at in (1..items.len()).rev() {
        items.swap(at, chance.below(at as u64 + 1) as usize);
    }
}

#[test]
fn as_many_hits_come_back_as_exist() {
    let (_db, notes) = notes();
    notes.add_many((0..300).map(|id| Document::new(id, format!("Note number {id} about the sea.")))).unwrap();
    assert_eq!(search(&notes, Query::text("sea").limit(250)).len(), 250);
    assert_eq!(search(&notes, Query::text("sea").limit(10_000)).len(), 300);
}

#[test]
fn grouping_returns_each_document_once() {
    let (_db, notes) = notes();
    notes.add_many((0..5).map(|id| Document::new(id, long_text("volcanoes", 8)))).unwrap();
    let hits = search(&notes, Query::text("volcanoes").limit(5).group(true));
    assert_eq!(ids(&hits).into_iter().collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(hits.len(), 5);
}

#[test]
fn a_hit_explains_itself() {
    let (_db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    let hit = &search(&notes, Query::text("bake the dough"))[0];
    assert_eq!(hit.scores.fused, Some(hit.score));
    assert!(hit.score > 0.0 && hit.score <= 1.0, "{}", hit.score);
    assert_eq!((hit.ranks.dense, hit.ranks.text), (Some(1), Some(1)));
    assert!(hit.scores.dense.unwrap() <= 1.0 && hit.scores.text.unwrap() > 0.0);
    let json = serde_json::to_value(hit).unwrap();
    for field in ["document", "chunk", "start", "end", "text", "metadata", "score", "scores", "ranks"] {
        assert!(json.get(field).is_some(), "the hit's JSON lacks `{field}`: {json}");
    }
}

#[test]
fn many_queries_are_answered_in_their_order() {
    let (_db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    let questions = ["dough", "mutex", "borrowed", "question mark"];
    let answers = notes.search_many(questions.iter().map(|text| Query::text(*text)).collect()).unwrap();
    let first: Vec<String> = answers.iter().map(|answer| answer.hits[0].document.to_string()).collect();
    assert_eq!(first, ["bread", "threads", "borrowing", "errors"]);
}

#[test]
fn a_snapshot_does_not_see_later_writes() {
    let (_db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    let before = notes.snapshot().unwrap();
    let answer = before.search(Query::text("dough")).unwrap().hits;
    notes.delete("bread").unwrap();
    notes.add(Document::new("threads", "Something else.")).unwrap();
    assert_eq!(before.count(), 4);
    assert_eq!(before.search(Query::text("dough")).unwrap().hits, answer);
    assert!(before.get("threads").unwrap().unwrap().text.contains("mutex"));
    assert_eq!(notes.count().unwrap(), 3);
}

#[test]
fn own_vectors_are_searched_without_a_model() {
    let db = Database::in_memory().unwrap();
    let colours = db.collection_with("colours", CollectionConfig::new().external(3).metric(Metric::Cosine)).unwrap();
    let rows = [("red", [1.0, 0.0, 0.0]), ("green", [0.0, 1.0, 0.0]), ("orange", [1.0, 0.5, 0.0])];
    let report = colours.add_many(rows.map(|(id, rgb)| Document::new(id, id).vector(rgb.to_vec()))).unwrap();
    assert_eq!((report.added, report.chunks_embedded), (3, 0));
    assert!(colours.model().is_none());
    let hits = search(&colours, Query::vector(vec![0.9, 0.1, 0.0]));
    assert_eq!(ids(&hits), ["red", "orange", "green"]);
    assert_eq!(colours.search(Query::text("orange")).unwrap().mode, Mode::Text);
    assert_eq!(ids(&search(&colours, Query::text("orange"))), ["orange"]);
    let both = search(&colours, Query::vector(vec![0.0, 1.0, 0.0]).with_text("red").mode(Mode::Hybrid));
    assert_eq!(ids(&both).len(), 3);
}

#[test]
fn every_metric_ranks_the_nearest_first() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let db = Database::in_memory().unwrap();
        let points = db.collection_with("points", CollectionConfig::new().external(2).metric(metric)).unwrap();
        points.add(Document::new("near", "").vector(vec![1.0, 0.9])).unwrap();
        points.add(Document::new("far", "").vector(vec![-1.0, 0.2])).unwrap();
        let hits = search(&points, Query::vector(vec![1.0, 1.0]));
        assert_eq!(ids(&hits), ["near", "far"], "{metric:?}");
    }
}

#[test]
fn own_models_embed_queries_and_passages_their_own_way() {
    let db = Database::in_memory().unwrap();
    let config = || CollectionConfig::new().embedder(Arc::new(Letters::new()));
    let words = db.collection_with("words", config()).unwrap();
    words.add_many(["apple", "banana", "cherry"].map(|word| Document::new(word, word))).unwrap();
    // Queries are seen by their last letter: `pizza` by its `a`, `club` by its `b`.
    for (query, expected) in [("pizza", "apple"), ("club", "banana"), ("music", "cherry")] {
        let hits = search(&words, Query::text(query).mode(Mode::Dense));
        assert_eq!((hits[0].document.to_string().as_str(), hits[0].score), (expected, 1.0), "{query}");
    }
    assert_eq!(words.model().unwrap().id, "letters");
}

#[test]
fn a_collection_remembers_its_own_model_across_reopening() {
    let folder = folder();
    let config = || CollectionConfig::new().embedder(Arc::new(Letters::new()));
    let db = Database::open(folder.path()).unwrap();
    db.collection_with("words", config()).unwrap().add(Document::new("apple", "apple")).unwrap();
    drop(db);
    let db = Database::open(folder.path()).unwrap();
    let words = db.collection_with("words", config()).unwrap();
    assert_eq!(ids(&search(&words, Query::text("pizza").mode(Mode::Dense))), ["apple"]);
}

#[test]
fn collections_are_separate() {
    let db = Database::in_memory().unwrap();
    let (a, b) = (db.collection("a").unwrap(), db.collection("b").unwrap());
    a.add(Document::new("x", "about whales")).unwrap();
    b.add(Document::new("x", "about trains")).unwrap();
    assert_eq!(search(&a, Query::text("trains"))[0].text, "about whales");
    db.rename_collection("b", "c").unwrap();
    assert_eq!(b.count().unwrap(), 1, "open handles stay valid");
    let names: Vec<String> = db.collections().unwrap().into_iter().map(|collection| collection.name).collect();
    assert_eq!(names, ["a", "c"]);
    db.drop_collection("a").unwrap();
    assert!(db.open_collection("a").is_err());
    assert_eq!(db.open_collection("c").unwrap().get("x").unwrap().unwrap().text, "about trains");
    assert_eq!(db.collection("a").unwrap().count().unwrap(), 0, "a dropped collection does not come back");
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn a_batch_lists_what_it_rejects_and_takes_the_rest() {
    let (_db, notes) = notes();
    let mut documents = four_notes();
    documents.insert(1, Document::new("no-object", "text").metadata(json!([1, 2])));
    documents.push(Document::new("x".repeat(513), "text"));
    documents.push(Document::new("bread", "A later document of the same id counts."));
    let report = notes.add_many(documents).unwrap();
    assert_eq!((report.added, report.replaced, report.rejected.len()), (4, 1, 2), "{report:?}");
    assert_eq!(report.rejected[0].source, "no-object");
    assert!(report.rejected[0].reason.contains("array"), "{}", report.rejected[0].reason);
    assert!(report.rejected[1].reason.contains("513"), "{}", report.rejected[1].reason);
    assert_eq!(notes.get("bread").unwrap().unwrap().text, "A later document of the same id counts.");
}

/// One after the other, in one batch, or as a rehearsal: the counts are the same.
#[test]
fn an_id_given_again_counts_as_if_it_had_come_later() {
    let bad = || Document::new("a", "text").metadata(json!(1));
    let version = |n: u32| Document::new("a", format!("version {n}"));
    let (_db, batch) = notes();
    let (_db, single) = notes();
    batch.add(version(0)).unwrap();
    single.add(version(0)).unwrap();
    let rounds = [
        vec![version(1), bad()],
        vec![version(2), version(3), version(3), version(2)],
        vec![version(4), version(2)],
        vec![Document::new("b", "new"), Document::new("b", "newer"), version(2), Document::new("b", "newer")],
    ];
    for (round, documents) in rounds.into_iter().enumerate() {
        let rehearsal = AddOptions { dry_run: true, ..AddOptions::default() };
        let forecast = batch.add_with(documents.clone().into_iter().map(Ok), &rehearsal).unwrap();
        let report = batch.add_many(documents.clone()).unwrap();
        let mut expected = (0, 0, 0, 0);
        for document in documents {
            match single.add(document) {
                Ok(one) => {
                    let (added, replaced, unchanged, rejected) = expected;
                    expected = (added + one.added, replaced + one.replaced, unchanged + one.unchanged, rejected);
                }
                Err(_) => expected.3 += 1,
            }
        }
        for report in [forecast, report] {
            let counts = (report.added, report.replaced, report.unchanged, report.rejected.len());
            assert_eq!(counts, expected, "round {round}: {report:?}");
        }
        for id in ["a", "b"] {
            assert_eq!(batch.get(id).unwrap(), single.get(id).unwrap(), "round {round}");
        }
    }
}

#[test]
fn a_vector_of_your_own_comes_back_and_is_never_taken_for_the_models() {
    let db = Database::in_memory().unwrap();
    let points = db.collection_with("points", CollectionConfig::new().external(2)).unwrap();
    points.add(Document::new("a", "east").vector(vec![0.1, 2.5])).unwrap();
    let mut document = points.get("a").unwrap().unwrap();
    assert_eq!(document.vector, Some(vec![0.1, 2.5]));
    assert_eq!(points.scan().unwrap().next().unwrap().unwrap(), document);
    document.text.push_str(", edited");
    assert_eq!(points.add(document.clone()).unwrap().replaced, 1);
    assert_eq!(points.get("a").unwrap(), Some(document));

    let config = CollectionConfig::new().embedder(Arc::new(Letters::new()));
    let words = db.collection_with("words", config).unwrap();
    let mut elsewhere = vec![0.0; 27];
    elsewhere[25] = 1.0;
    words.add(Document::new("apple", "apple").vector(elsewhere.clone())).unwrap();
    assert_eq!(words.get("apple").unwrap().unwrap().vector, Some(elsewhere));
    let report = words.add(Document::new("apple", "apple")).unwrap();
    assert_eq!((report.replaced, report.chunks_embedded, report.chunks_reused), (1, 1, 0));
    assert_eq!(words.get("apple").unwrap().unwrap().vector, None);
    let hits = search(&words, Query::text("pizza").mode(Mode::Dense));
    assert_eq!(hits[0].score, 1.0, "the vector is not the model's");
}

#[test]
fn vectors_are_kept_under_long_and_blank_titles() {
    for title in ["A title of many words. ".repeat(400), " \t".into(), String::new()] {
        let (_db, notes) = notes();
        let document = Document::new("a", long_text("glaciers", 4)).title(title);
        let first = notes.add(document.clone()).unwrap();
        let second = notes.add(document.metadata(json!({"year": 2}))).unwrap();
        assert_eq!((second.chunks_embedded, second.chunks_reused), (0, first.chunks_embedded));
    }
}

/// A model that reads so many words and marks, its prompt among them.
struct Prompted(ModelSpec);

impl Embedder for Prompted {
    fn spec(&self) -> &ModelSpec {
        &self.0
    }

    fn embed_documents(&self, texts: &[&str]) -> quiverdb::Result<Embeddings> {
        let tokens = |text: &&str| self.token_ranges(&format!("{}{text}", self.0.document_prompt)).len();
        let truncated = texts.iter().filter(|text| tokens(text) > self.0.max_tokens).count();
        Ok(Embeddings { dims: 2, values: vec![1.0; texts.len() * 2], truncated })
    }
}

fn prompted() -> CollectionConfig {
    let mut spec = ModelSpec::new("prompted", 2);
    spec.max_tokens = 24;
    spec.document_prompt = "this is a passage of some text: ".into();
    CollectionConfig::new().embedder(Arc::new(Prompted(spec)))
}

#[test]
fn chunks_leave_room_for_the_models_prompt() {
    let notes = Database::in_memory().unwrap().collection_with("notes", prompted()).unwrap();
    let report = notes.add(Document::new("a", long_text("glaciers", 3)).title("Ice")).unwrap();
    assert!(report.chunks_embedded > 20, "{report:?}");
    assert_eq!(report.texts_truncated, 0);
}

#[test]
fn what_is_left_out_of_a_query_is_said() {
    let notes = Database::in_memory().unwrap().collection_with("notes", prompted()).unwrap();
    notes.add(Document::new("a", "Let the dough rise.")).unwrap();
    let degraded = |text: &str, mode| notes.search(Query::text(text).mode(mode)).unwrap().degraded;
    let (long, longer) = ("dough ".repeat(30), "dough ".repeat(20_000));
    let many: String = (0..1_100).map(|n| format!("w{n} ")).collect();
    for (text, mode, words) in [
        (&long, Mode::Dense, &["first 24 tokens"][..]),
        (&long, Mode::Hybrid, &["first 24 tokens"]),
        (&longer, Mode::Text, &["last 87232 bytes"]),
        (&longer, Mode::Hybrid, &["first 24 tokens", "last 87232 bytes"]),
        (&many, Mode::Text, &["76 words"]),
    ] {
        let said = degraded(text, mode).unwrap_or_default();
        assert!(words.iter().all(|word| said.contains(word)), "{mode:?}: {said:?} lacks one of {words:?}");
    }
    for (text, mode) in [("dough", Mode::Hybrid), (long.as_str(), Mode::Text)] {
        assert_eq!(degraded(text, mode), None);
    }
}

#[test]
fn variety_is_traded_for_in_every_mode_and_metric() {
    let (_db, notes) = notes();
    let twin = "The harbour lies below the old town, and the harbour is never frozen.";
    let texts = [("a", twin), ("b", twin), ("c", "Seals were counted again last winter, in one harbour or another.")];
    notes.add_many(texts.map(|(id, text)| Document::new(id, text))).unwrap();
    for mode in [Mode::Text, Mode::Dense, Mode::Hybrid] {
        let varied = notes.search(Query::text("harbour").mode(mode).mmr(0.4).limit(2)).unwrap();
        assert_eq!(ids(&varied.hits), ["a", "c"], "{mode:?}");
        let relevant = notes.search(Query::text("harbour").mode(mode).mmr(1.0).limit(2)).unwrap();
        assert_eq!(ids(&relevant.hits), ["a", "b"], "{mode:?}");
    }
    // Distances have no bound: on their own scale the twin at 1.01 would win against the far one at 3.
    let db = Database::in_memory().unwrap();
    let points = db.collection_with("points", CollectionConfig::new().external(1).metric(Metric::L2)).unwrap();
    points
        .add_many([("a", 1.0), ("b", 1.01), ("c", 3.0)].map(|(id, x)| Document::new(id, id).vector(vec![x])))
        .unwrap();
    let varied = points.search(Query::vector(vec![0.0]).mmr(0.6).limit(2)).unwrap();
    assert_eq!(ids(&varied.hits), ["a", "c"]);
}

#[test]
fn a_collection_is_known_by_its_name() {
    let (db, _notes) = notes();
    assert!(db.has_collection("notes").unwrap());
    assert!(!db.has_collection("note").unwrap());
}

fn points_in(folder: &std::path::Path) -> (Database, quiverdb::Collection) {
    let db = Database::open(folder).unwrap();
    let points = db.collection_with("points", CollectionConfig::new().external(1)).unwrap();
    (db, points)
}

fn point(id: i64) -> Document {
    Document::new(id, "a point").vector(vec![1.0])
}

/// Segments are built of 8,192 chunks.
const BEFORE_A_SEGMENT: i64 = 8_191;

#[test]
fn documents_added_one_by_one_are_sealed_too() {
    let folder = folder();
    let (_db, points) = points_in(folder.path());
    points.add_many((0..BEFORE_A_SEGMENT).map(point)).unwrap();
    assert_eq!(points.stats().unwrap().segments, 0);
    points.add(point(BEFORE_A_SEGMENT)).unwrap();
    assert!(until_sealed(&points, || {}), "on a thread of its own");
}

/// Waits for the thread that seals, which was told to begin or is told by `again`.
fn until_sealed(points: &quiverdb::Collection, again: impl Fn()) -> bool {
    let begun = std::time::Instant::now();
    while points.stats().unwrap().segments == 0 && begun.elapsed().as_secs() < 120 {
        again();
        std::thread::yield_now();
    }
    points.stats().unwrap().segments == 1
}

#[test]
fn what_is_committed_is_reported_even_where_it_cannot_be_sealed() {
    let folder = folder();
    let (db, points) = points_in(folder.path());
    let in_the_way = folder.path().join("segments");
    std::fs::write(&in_the_way, "a file").unwrap();
    let report = points.add_many((0..=BEFORE_A_SEGMENT).map(point)).unwrap();
    assert_eq!((report.added, points.stats().unwrap().segments), (8_192, 0));
    assert_eq!(points.add(point(-1)).unwrap().added, 1);
    std::fs::remove_file(&in_the_way).unwrap();
    let next = std::cell::Cell::new(-2);
    let again = || {
        points.add(point(next.replace(next.get() - 1))).unwrap();
    };
    assert!(until_sealed(&points, again), "the next one tries again");
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let (db, notes) = notes();
    notes.add_many(four_notes()).unwrap();
    let before = db.dump().unwrap();
    let mut changed = four_notes();
    changed[0].text.push_str(" And more.");
    changed.push(Document::new("new", "A new note."));
    let options = AddOptions { dry_run: true, ..AddOptions::default() };
    let report = notes.add_with(changed.into_iter().map(Ok), &options).unwrap();
    assert_eq!((report.added, report.replaced, report.unchanged), (1, 1, 3));
    assert_eq!(db.dump().unwrap(), before);
}

#[test]
fn long_work_shows_progress_and_can_be_cancelled() {
    let (_db, notes) = notes();
    let cancel = AtomicBool::new(false);
    let stop = |report: &AddReport| cancel.store(report.added > 0, Ordering::Relaxed);
    let options = AddOptions { progress: Some(&stop), cancel: Some(&cancel), ..AddOptions::default() };
    let endless = (0..).map(|id| Ok(Document::new(id, format!("Note {id}."))));
    let report = notes.add_with(endless, &options).unwrap();
    assert!(report.added > 0);
    assert_eq!(notes.count().unwrap(), report.added, "what was committed stays");
}

#[test]
fn strange_texts_are_kept_to_the_byte() {
    let (db, notes) = notes();
    let texts =
        ["", " \n\t ", "\0", "a\0b", "🦀🦀🦀", "שלום עולם", "e\u{301}", "\u{feff}text", "\u{202e}reversed", "\r\n\r\n"];
    for (id, text) in (0..).zip(texts) {
        notes.add(Document::new(id, text)).unwrap();
        assert_eq!(notes.get(id).unwrap().unwrap().text, text);
    }
    assert_eq!(notes.count().unwrap(), texts.len() as u64);
    let _ = search(&notes, Query::text("🦀").limit(100));
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn highlights_mark_the_words_that_match() {
    let (_db, notes) = notes();
    let text = "Threads share data; a thread sends nothing.";
    let marked: Vec<&str> = notes.highlights("thread sharing", text).into_iter().map(|range| &text[range]).collect();
    assert_eq!(marked, ["Threads", "share", "thread"]);
}

#[test]
fn collection_keeps_as_many_dimensions_as_it_was_made_with() {
    let folder = folder();
    let short = || CollectionConfig::new().dimensions(64);
    {
        let db = Database::open(folder.path()).unwrap();
        let notes = db.collection_with("notes", short()).unwrap();
        notes.add_many(four_notes()).unwrap();
        assert_eq!(notes.stats().unwrap().dims, 64);
        let model = notes.model().unwrap();
        assert_eq!((model.dims, model.full_dims), (64, Some(256)));
    }
    let db = Database::open(folder.path()).unwrap();
    // By name alone, by the model's name, and with the same dimensions: the query is cut as the passages were.
    for config in [CollectionConfig::new(), CollectionConfig::new().model("builtin"), short()] {
        let notes = db.collection_with("notes", config).unwrap();
        let hits = notes.search(Query::text("rivers").mode(Mode::Dense)).unwrap();
        assert_eq!(hits.hits.len(), 4);
    }
    let message = db.collection_with("notes", CollectionConfig::new().dimensions(32)).err().unwrap().to_string();
    assert!(message.contains("was made with 64 dimensions; got 32"), "{message}");
    let message = db.collection_with("more", CollectionConfig::new().dimensions(257)).err().unwrap().to_string();
    assert!(message.contains("makes vectors of 256 dimensions; got 257. Ask for 1 to 256"), "{message}");
    let twice = CollectionConfig::new().external(3).dimensions(2);
    let message = db.collection_with("points", twice).err().unwrap().to_string();
    assert!(message.contains("external vectors of 3 dimensions cannot be cut to 2"), "{message}");
    assert_eq!(db.collections().unwrap().len(), 1, "what is refused makes nothing");
}

/// The same four numbers for every text.
struct Fourfold(ModelSpec);

impl Embedder for Fourfold {
    fn spec(&self) -> &ModelSpec {
        &self.0
    }

    fn embed_documents(&self, texts: &[&str]) -> quiverdb::Result<Embeddings> {
        Ok(Embeddings { dims: 4, values: [1.0, 2.0, 3.0, 4.0].repeat(texts.len()), truncated: 0 })
    }
}

#[test]
fn application_s_own_model_is_cut_again_when_its_collection_is_opened() {
    let folder = folder();
    let own = |config: CollectionConfig| config.embedder(Arc::new(Fourfold(ModelSpec::new("fourfold", 4))));
    {
        let db = Database::open(folder.path()).unwrap();
        let notes = db.collection_with("notes", own(CollectionConfig::new().dimensions(2))).unwrap();
        notes.add_many(four_notes()).unwrap();
    }
    let db = Database::open(folder.path()).unwrap();
    let notes = db.collection_with("notes", own(CollectionConfig::new())).unwrap();
    assert_eq!((notes.stats().unwrap().dims, notes.model().unwrap().full_dims), (2, Some(4)));
    assert_eq!(notes.search(Query::text("rivers").mode(Mode::Dense)).unwrap().hits.len(), 4);
    // A model that has but two dimensions is another one.
    let two = CollectionConfig::new().embedder(Arc::new(Fourfold(ModelSpec::new("fourfold", 2))));
    let message = db.collection_with("notes", two).err().unwrap().to_string();
    assert!(message.contains("dimensions: stored `2 of 4`, given `2`"), "{message}");
}
