//! Does a collection change its model and its chunks while it is in use, and does it become what a fresh one would be?
//!
//! Every text here is one of a kind, so a search for it by the right model finds it with a score of 1. Old and new model
//! have as many dimensions, so nothing but the score would tell that vectors of the one were compared with those of the
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quiverdb::embed::{Embeddings, ModelSpec, WordStatistics};
use quiverdb::reembed::ReembedOutcome;
use quiverdb::{
    Collection, CollectionConfig, Database, Document, Embedder, Error, Mode, Query, ReembedOptions, ReembedReport,
    Result, SpaceConfig,
};

use crate::scenes::{Chance, folder, long_text, role};

const DIMS: usize = 48;

/// A model that makes of each text a direction by chance. Another name is another model.
struct Directions(ModelSpec);

impl Directions {
    fn named(name: &str) -> Arc<dyn Embedder> {
        Arc::new(Self(ModelSpec::new(name, DIMS)))
    }

    fn embed(&self, texts: &[&str]) -> Result<Embeddings> {
        let mut values = Vec::with_capacity(texts.len() * DIMS);
        for text in texts {
            let seed = self.0.id.bytes().chain(text.bytes());
            let mut chance =
                Chance::of(seed.fold(7, |seed: u64, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)));
            values.extend((0..DIMS).map(|_| chance.below(2_001) as f32 - 1_000.0));
        }
        Ok(Embeddings { dims: DIMS, values, truncated: 0 })
    }
}

impl Embedder for Directions {
    fn spec(&self) -> &ModelSpec {
        &self.0
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        match texts.iter().find(|text| text.contains("unreadable") && self.0.id == "picky") {
            Some(text) => Err(Error::Embedding(format!("{text} is nothing to read"))),
            None => self.embed(texts),
        }
    }

    fn embed_queries(&self, texts: &[&str], _: &dyn WordStatistics) -> Result<Embeddings> {
        self.embed(texts)
    }
}

fn note(id: i64, version: u64) -> Document {
    Document::new(id, text_of(id, version)).metadata(serde_json::json!({"version": version}))
}

fn text_of(id: i64, version: u64) -> String {
    format!("note {id} in version {version}")
}

fn made_with(model: &str) -> CollectionConfig {
    CollectionConfig::new().embedder(Directions::named(model))
}

fn to(model: &str) -> ReembedOptions<'static> {
    ReembedOptions::new().embedder(Directions::named(model))
}

/// The database holds what one would that was made so and was then given the documents.
fn expect_fresh(db: &Database, name: &str, config: CollectionConfig) {
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
    let there = db.open_collection(name).unwrap();
    let fresh = Database::in_memory().unwrap();
    let other = fresh.collection_with(name, config).unwrap();
    let report = other.add_many(there.scan().unwrap().map(Result::unwrap)).unwrap();
    assert_eq!(report.rejected, []);
    assert_eq!(db.dump().unwrap(), fresh.dump().unwrap());
}

/// Documents of the large test; `QUIVER_REEMBED_DOCUMENTS` sets another number.
fn documents() -> i64 {
    std::env::var("QUIVER_REEMBED_DOCUMENTS").map_or(400, |count| count.parse().unwrap())
}

/// A text that is there is found at once, in one space or the other: never by the vector of the wrong model.
fn expect_found(notes: &Collection, id: i64) {
    let snapshot = notes.snapshot().unwrap();
    let Some(document) = snapshot.get(id).unwrap() else { return };
    let query = Query::text(document.text.clone()).mode(Mode::Dense).limit(3).exact();
    let hits = snapshot.search(query).unwrap().hits;
    assert_eq!(hits[0].document, id.into(), "note {id} is found by its words");
    assert!(hits[0].score > 0.999, "note {id} scores {}: this is the vector of another model", hits[0].score);
}

#[test]
fn searches_and_writes_go_on_while_the_model_changes() {
    let folder = folder();
    let db = Database::open(folder.path()).unwrap();
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    let count = documents();
    notes.add_many((0..count).map(|id| note(id, 0))).unwrap();
    let (done, looks, writes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let report = std::thread::scope(|scope| {
        for thread in 0..2 {
            let (notes, done, looks) = (notes.clone(), &done, &looks);
            scope.spawn(move || {
                let mut chance = Chance::of(thread);
                while !done.load(Ordering::Acquire) {
                    expect_found(&notes, chance.below(count as u64) as i64);
                    let text = text_of(chance.below(count as u64) as i64, 0);
                    assert!(!notes.search(Query::text(text)).unwrap().hits.is_empty());
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (writer, done_writing, written) = (notes.clone(), &done, &writes);
        scope.spawn(move || {
            let mut chance = Chance::of(11);
            while !done_writing.load(Ordering::Acquire) {
                let version = written.fetch_add(1, Ordering::Relaxed) + 1;
                let id = chance.below(count as u64 + 20) as i64;
                // Whoever wrote sees it, before and after the swap.
                match chance.below(5) {
                    0 => {
                        writer.delete(id).unwrap();
                        assert_eq!(writer.get(id).unwrap(), None);
                    }
                    1 => {
                        writer.add_many((id..id + 5).map(|id| note(id, version))).unwrap();
                        assert_eq!(writer.get(id + 4).unwrap(), Some(note(id + 4, version)));
                    }
                    _ => {
                        writer.add(note(id, version)).unwrap();
                        assert_eq!(writer.get(id).unwrap(), Some(note(id, version)));
                    }
                }
            }
        });
        let report = notes.reembed(&to("new")).unwrap();
        // Some more of all of it with the new one.
        let enough = looks.load(Ordering::Relaxed) + 20;
        while looks.load(Ordering::Relaxed) < enough {
            expect_found(&notes, 1);
        }
        done.store(true, Ordering::Release);
        report
    });
    assert_eq!(report.outcome, ReembedOutcome::Done);
    assert_eq!((report.model_before.as_str(), report.model.as_str()), ("old", "new"));
    assert_eq!(notes.model().unwrap().id, "new", "an open handle sees it");
    expect_found(&db.open_collection("notes").unwrap(), 1);
    expect_fresh(&db, "notes", made_with("new"));
    println!("{} searches and {} writes meanwhile; {report:?}", looks.into_inner(), writes.into_inner());
}

#[test]
fn what_is_written_meanwhile_is_in_both() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    notes.add_many((0..300).map(|id| note(id, 0))).unwrap();
    let late = std::time::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
    notes.add(note(20, 1).expires_at(late)).unwrap();
    let old = notes.snapshot().unwrap();
    let rounds = AtomicU64::new(0);
    let write = |report: &ReembedReport| {
        let round = rounds.fetch_add(1, Ordering::Relaxed);
        if round < 3 {
            assert_eq!(report.outcome, ReembedOutcome::Stopped, "it is not at its end");
            notes.add(note(5, 7 + round)).unwrap();
            notes.delete(6 + round as i64).unwrap();
            notes.add_many((290..310).map(|id| note(id, 9 + round))).unwrap();
            assert_eq!(notes.model().unwrap().id, "old");
            expect_found(&notes, 5);
        }
    };
    let report = notes.reembed(&to("new").progress(&write)).unwrap();
    assert!(report.documents_followed >= 22, "{report:?}");
    assert_eq!((report.documents, notes.count().unwrap()), (307, 307));
    assert_eq!(notes.get(5).unwrap(), Some(note(5, 9)));
    assert_eq!(notes.get(20).unwrap().unwrap().expires_at, Some(late));
    expect_found(&notes, 5);
    expect_fresh(&db, "notes", made_with("new"));
    // What was taken before answers as before, of the old model.
    let hits = old.search(Query::text(text_of(5, 0)).mode(Mode::Dense).limit(1)).unwrap().hits;
    assert!(hits[0].score > 0.999 && hits[0].document == 5.into());
}

#[test]
fn a_stopped_run_goes_on_where_it_was() {
    let folder = folder();
    let count = 500;
    {
        let db = Database::open(folder.path()).unwrap();
        let notes = db.collection_with("notes", made_with("old")).unwrap();
        notes.add_many((0..count).map(|id| note(id, 0))).unwrap();
        let cancel = AtomicBool::new(false);
        let stop = |_: &ReembedReport| cancel.store(true, Ordering::Relaxed);
        let report = notes.reembed(&to("new").progress(&stop).cancel(&cancel)).unwrap();
        assert_eq!(report.outcome, ReembedOutcome::Stopped);
        assert!(0 < report.documents && report.documents < count as u64, "{report:?}");
        let status = notes.stats().unwrap().reembedding.unwrap();
        assert_eq!((status.documents, status.documents_total), (report.documents, count as u64));
        assert_eq!(status.spaces[0].model, "new");
        assert_eq!(notes.describe()["reembedding"]["documents"], report.documents);
        assert_eq!(db.check().unwrap(), Vec::<String>::new());
        expect_found(&notes, 3);
    }
    let db = Database::open(folder.path()).unwrap();
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    // Another process writes between two runs, and knows nothing of the new model.
    notes.add(note(0, 1)).unwrap();
    notes.delete(1).unwrap();
    notes.add(note(count, 1)).unwrap();
    let other = notes.reembed(&to("third")).unwrap_err().to_string();
    assert!(other.contains("new") && other.contains("--abort"), "{other}");
    let report = notes.reembed(&to("new")).unwrap();
    assert_eq!(report.outcome, ReembedOutcome::Done);
    assert!(report.documents_before > 0 && report.chunks_embedded < count as u64, "{report:?}");
    assert_eq!(notes.stats().unwrap().reembedding, None);
    expect_fresh(&db, "notes", made_with("new"));
}

#[test]
fn a_backup_in_the_middle_goes_on_where_the_run_was() {
    let (here, elsewhere) = (folder(), folder());
    let db = Database::open(here.path()).unwrap();
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    notes.add_many((0..300).map(|id| note(id, 0))).unwrap();
    let (cancel, copy) = (AtomicBool::new(false), elsewhere.path().join("copy"));
    let stop = |_: &ReembedReport| cancel.store(true, Ordering::Relaxed);
    assert_eq!(notes.reembed(&to("new").progress(&stop).cancel(&cancel)).unwrap().outcome, ReembedOutcome::Stopped);
    db.backup_to(&copy).unwrap();

    let restored = elsewhere.path().join("restored");
    Database::restore(&copy, &restored).unwrap();
    let db = Database::open(&restored).unwrap();
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    expect_found(&notes, 3);
    let report = notes.reembed(&to("new")).unwrap();
    assert!(report.outcome == ReembedOutcome::Done && report.documents_before > 0, "{report:?}");
    expect_fresh(&db, "notes", made_with("new"));
}

#[test]
fn what_was_aborted_leaves_nothing() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    notes.add_many((0..200).map(|id| note(id, 0))).unwrap();
    let before = db.dump().unwrap();
    assert!(!notes.abort_reembed().unwrap());
    let abort = |_: &ReembedReport| assert!(notes.abort_reembed().unwrap());
    let error = notes.reembed(&to("new").progress(&abort)).unwrap_err().to_string();
    assert!(error.contains("aborted"), "{error}");
    assert_eq!(db.dump().unwrap(), before);
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
    let nothing = notes.reembed(&ReembedOptions::new()).unwrap_err().to_string();
    assert!(nothing.contains("nothing unfinished"), "{nothing}");
    // It can be dropped while it is unfinished, too.
    let cancel = AtomicBool::new(true);
    assert_eq!(notes.reembed(&to("new").cancel(&cancel)).unwrap().outcome, ReembedOutcome::Stopped);
    db.drop_collection("notes").unwrap();
    assert_eq!((db.check().unwrap(), db.dump().unwrap()), (vec![], String::new()));
}

#[test]
fn the_old_vectors_can_be_kept_beside() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    notes.add_many((0..50).map(|id| note(id, 0))).unwrap();
    let report = notes.reembed(&to("new").keep_old("before")).unwrap();
    assert_eq!((report.kept_as.as_deref(), report.chunks_embedded), (Some("before"), 50));
    notes.add(note(50, 0)).unwrap();
    for space in ["default", "before"] {
        let query = Query::text(text_of(50, 0)).mode(Mode::Dense).space(space).limit(1);
        let hits = notes.search(query).unwrap().hits;
        assert!(hits[0].score > 0.999 && hits[0].document == 50.into(), "{space}: {hits:?}");
    }
    let config = made_with("new").space("before", SpaceConfig::embedder(Directions::named("old")));
    expect_fresh(&db, "notes", config.clone());
    // The model of the further space alone changes: the other one's vectors are kept.
    let report = notes.reembed(&to("third").space("before")).unwrap();
    assert_eq!((report.space.as_str(), report.model_before.as_str()), ("before", "old"));
    let config = made_with("new").space("before", SpaceConfig::embedder(Directions::named("third")));
    expect_fresh(&db, "notes", config);
    let error = notes.reembed(&to("fourth").keep_old("before")).unwrap_err().to_string();
    assert!(error.contains("`before`"), "{error}");
}

#[test]
fn chunks_change_and_vectors_of_the_same_words_stay() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection("notes").unwrap();
    let short = Document::new("short", "A short note of one passage.").title("Short");
    notes.add_many([short, Document::new("long", long_text("rivers", 8)).title("Long")]).unwrap();
    let before = notes.stats().unwrap().chunks;
    let planned = notes.reembed(&ReembedOptions::new().chunk_tokens(64).chunk_overlap(8).dry_run(true)).unwrap();
    assert_eq!(planned.outcome, ReembedOutcome::Planned);
    assert_eq!(notes.stats().unwrap().chunks, before, "a dry run writes nothing");
    let report = notes.reembed(&ReembedOptions::new().chunk_tokens(64).chunk_overlap(8)).unwrap();
    assert_eq!((report.outcome, report.chunks_reused), (ReembedOutcome::Done, 1), "{report:?}");
    assert!(report.chunks > before);
    assert_eq!(
        (planned.chunks, planned.chunks_embedded),
        (report.chunks, report.chunks_embedded),
        "all were looked at"
    );
    expect_fresh(&db, "notes", CollectionConfig::new().chunk_tokens(64).chunk_overlap(8));
    let again = notes.reembed(&ReembedOptions::new().chunk_tokens(64)).unwrap();
    assert_eq!((again.outcome, again.chunks_embedded), (ReembedOutcome::Unchanged, 0));
    let again = notes.reembed(&ReembedOptions::new().rechunk()).unwrap();
    assert_eq!((again.outcome, again.chunks_reused), (ReembedOutcome::Unchanged, 0));
    // Split again as it is: every vector is kept.
    let again = notes.reembed(&ReembedOptions::new().rechunk().force()).unwrap();
    assert_eq!((again.outcome, again.chunks_embedded, again.chunks_reused), (ReembedOutcome::Done, 0, report.chunks));
}

#[test]
fn fewer_dimensions_of_the_same_model() {
    let folder = folder();
    let db = Database::open(folder.path()).unwrap();
    let notes = db.collection("notes").unwrap();
    notes.add_many((0..20).map(|id| note(id, 0))).unwrap();
    let report = notes.reembed(&ReembedOptions::new().dimensions(64)).unwrap();
    assert_eq!((report.outcome, report.dims), (ReembedOutcome::Done, 64));
    expect_fresh(&db, "notes", CollectionConfig::new().model("builtin").dimensions(64));
    let report = notes.reembed(&ReembedOptions::new().model("builtin")).unwrap();
    assert_eq!((report.outcome, report.dims), (ReembedOutcome::Done, 256));
    expect_fresh(&db, "notes", CollectionConfig::new());
    assert_eq!(notes.reembed(&ReembedOptions::new().model("builtin")).unwrap().outcome, ReembedOutcome::Unchanged);
}

#[test]
fn vectors_that_were_given_give_way_to_a_model() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection_with("notes", CollectionConfig::new().external(3)).unwrap();
    notes.add_many((0..30).map(|id| note(id, 0).vector(vec![1.0, id as f32, 2.0]))).unwrap();
    for (options, word) in [
        (ReembedOptions::new().dimensions(2), "name the model"),
        (ReembedOptions::new().model("external"), "name the model"),
        (ReembedOptions::new().rechunk(), "name a model"),
        (to("new").keep_old("given"), "cannot be kept"),
        (to("new").space("image"), "no space `image`"),
    ] {
        let error = notes.reembed(&options).unwrap_err();
        assert_eq!(error.blame(), quiverdb::Blame::Caller);
        assert!(error.to_string().contains(word), "{error}");
    }
    let report = notes.reembed(&to("new")).unwrap();
    assert_eq!((report.model_before.as_str(), report.vectors_replaced), ("external", 30));
    assert_eq!(notes.get(3).unwrap(), Some(note(3, 0)), "its vector is gone");
    expect_found(&notes, 3);
    expect_fresh(&db, "notes", made_with("new"));
    // Stopped and gone on with: documents whose vector gave way are known again.
    let own = |id: i64| note(id, 1).vector(vec![0.5; DIMS]);
    notes.add_many((0..100).map(own)).unwrap();
    let cancel = AtomicBool::new(false);
    let stop = |_: &ReembedReport| cancel.store(true, Ordering::Relaxed);
    notes.reembed(&to("newer").progress(&stop).cancel(&cancel)).unwrap();
    let report = notes.reembed(&to("newer")).unwrap();
    assert!(report.documents_before > 0 && report.chunks_embedded + report.documents_before == 100, "{report:?}");
    expect_fresh(&db, "notes", made_with("newer"));
}

#[test]
fn a_document_that_cannot_be_read_is_named_and_none_is_lost() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    notes.add_many((0..20).map(|id| note(id, 0))).unwrap();
    notes.add(Document::new(13, "unreadable")).unwrap();
    let error = notes.reembed(&to("picky")).unwrap_err().to_string();
    assert!(error.contains("`13`") && error.contains("unreadable"), "{error}");
    assert_eq!((notes.count().unwrap(), notes.model().unwrap().id.as_str()), (20, "old"));
    notes.delete(13).unwrap();
    notes.reembed(&to("picky")).unwrap();
    expect_fresh(&db, "notes", made_with("picky"));
}

#[test]
fn errors_name_the_way_out_and_a_second_thread_waits_its_turn() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    notes.add_many((0..100).map(|id| note(id, 0))).unwrap();
    let mismatch = db.collection_with("notes", made_with("new")).err().unwrap().to_string();
    assert!(mismatch.contains("reembed"), "{mismatch}");
    let chunks = db.collection_with("notes", CollectionConfig::new().chunk_tokens(64)).err().unwrap().to_string();
    assert!(chunks.contains("reembed"), "{chunks}");
    let (again, first) = (notes.clone(), AtomicBool::new(true));
    let second = |_: &ReembedReport| {
        if first.swap(false, Ordering::Relaxed) {
            let error = again.reembed(&to("new")).unwrap_err().to_string();
            assert!(error.contains("another thread"), "{error}");
        }
    };
    assert_eq!(notes.reembed(&to("new").progress(&second)).unwrap().outcome, ReembedOutcome::Done);
    assert!(!first.into_inner());
}

/// Handles that looked away while the collection was made anew twice find it again, and threads that share all their
/// work with writers do not stop the swap.
#[test]
fn handles_follow_through_several_changes_and_pools_of_writers_stop_none() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection_with("notes", made_with("old")).unwrap();
    notes.add_many((0..50).map(|id| note(id, 0))).unwrap();
    let asleep = notes.clone();
    let done = AtomicBool::new(false);
    rayon::scope(|scope| {
        for thread in 0..2 * rayon::current_num_threads() as i64 {
            let (notes, done) = (&notes, &done);
            scope.spawn(move |_| {
                for version in 0..200 {
                    notes.add(note(thread, version)).unwrap();
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        for model in ["new", "newer", "newest"] {
            assert_eq!(notes.reembed(&to(model)).unwrap().outcome, ReembedOutcome::Done);
        }
        done.store(true, Ordering::Release);
    });
    db.rename_collection("notes", "papers").unwrap();
    assert_eq!(asleep.model().unwrap().id, "newest");
    expect_found(&asleep, 40);
    asleep.add(note(60, 0)).unwrap();
    expect_fresh(&db, "papers", made_with("newest"));
}

/// Makes it anew again and again where it is a child, and says so; in the test run itself a few times.
#[test]
fn a_run_that_is_killed_goes_on() {
    if role().is_some() {
        let db = Database::open("kill.db").unwrap();
        let notes = db.open_collection("notes").unwrap();
        let told = |report: &ReembedReport| crate::kill::acknowledge(report.documents);
        // What is unfinished is finished first, whatever it is.
        if notes.stats().unwrap().reembedding.is_some() {
            notes.reembed(&ReembedOptions::new().progress(&told)).unwrap();
        }
        for dims in [32, 256].repeat(50) {
            let tokens = dims.max(64);
            let options = ReembedOptions::new().dimensions(dims).chunk_tokens(tokens).chunk_overlap(tokens / 8);
            notes.reembed(&options.progress(&told)).unwrap();
        }
        return;
    }
    let place = folder();
    let count = 120;
    let document = |id: i64| Document::new(id, long_text(&format!("subject{id}"), 1 + id as usize % 4));
    {
        let db = Database::open(place.path().join("kill.db")).unwrap();
        db.collection("notes").unwrap().add_many((0..count).map(document)).unwrap();
    }
    let mut chance = Chance::new("QUIVER_KILL_SEED");
    let rounds = std::env::var("QUIVER_KILL_ROUNDS").map_or(6, |rounds| rounds.parse::<u64>().unwrap());
    let (mut unfinished, mut swapped) = (0, 0);
    for round in 0..rounds {
        let (acks, pause) = (chance.below(6), std::time::Duration::from_micros(chance.below(120_000)));
        crate::kill::run_and_kill("reembed::a_run_that_is_killed_goes_on", "reembed", place.path(), acks, pause);
        let db = Database::open(place.path().join("kill.db")).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(db.check().unwrap(), Vec::<String>::new(), "round {round}");
        let notes = db.open_collection("notes").unwrap();
        let dims = notes.stats().unwrap().dims;
        assert!(dims == 32 || dims == 256, "round {round}: {dims} dimensions");
        swapped += u64::from(dims == 32);
        unfinished += u64::from(notes.stats().unwrap().reembedding.is_some());
        for (id, found) in (0..).zip(notes.scan().unwrap()) {
            assert_eq!(found.unwrap(), document(id), "round {round}");
        }
        let id = chance.below(count as u64) as i64;
        let hits = notes.search(Query::text(format!("subject{id}")).limit(1)).unwrap().hits;
        assert_eq!(hits[0].document, id.into(), "round {round}");
        let tokens = if dims == 32 { 64 } else { 256 };
        let config = CollectionConfig::new().model("builtin").dimensions(dims);
        expect_fresh(&db, "notes", config.chunk_tokens(tokens).chunk_overlap(tokens / 8));
    }
    println!("{rounds} kills, {unfinished} left a run unfinished, {swapped} found 32 dimensions; nothing lost");
    let db = Database::open(place.path().join("kill.db")).unwrap();
    let notes = db.open_collection("notes").unwrap();
    if notes.stats().unwrap().reembedding.is_some() {
        assert_eq!(notes.reembed(&ReembedOptions::new()).unwrap().outcome, ReembedOutcome::Done);
    }
    assert_eq!((notes.count().unwrap(), db.check().unwrap()), (count as u64, vec![]));
}
