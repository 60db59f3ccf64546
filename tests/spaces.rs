//! Does a collection keep several vector spaces apart? Models and vectors of one's own, side by side, each asked by name.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quiverdb::embed::builtin::{Provenance, StaticTable};
use quiverdb::embed::{Embeddings, ModelSpec};
use quiverdb::models::{LoadState, MemoryLimits};
use quiverdb::{
    Blame, Collection, CollectionConfig, Database, Document, Embedder, Error, Filter, Metric, Mode, Query, Result,
    SpaceConfig,
};
use serde_json::json;

use crate::scenes::{Chance, Letters, folder, ids, long_text, search};

/// Beside the built-in model: a model that sees letters, and colours of the documents' own.
fn config() -> CollectionConfig {
    CollectionConfig::new()
        .space("letters", SpaceConfig::embedder(Arc::new(Letters::new())))
        .space("colour", SpaceConfig::external(3))
}

fn things(db: &Database) -> Collection {
    let things = db.collection_with("things", config()).unwrap();
    things.add_many(three_things()).unwrap();
    things
}

fn three_things() -> [Document; 3] {
    [
        Document::new("rose", "a flower with thorns")
            .vector_in("colour", vec![1.0, 0.0, 0.1])
            .metadata(json!({"n": 1})),
        Document::new("fir", "every needle of this tree stays").vector_in("colour", vec![0.0, 1.0, 0.2]),
        Document::new("sea", "waves of salt water").vector_in("colour", vec![0.0, 0.2, 1.0]).title("Tides"),
    ]
}

fn in_colour(vector: [f32; 3]) -> Query {
    Query::vector(vector.to_vec()).space("colour")
}

/// Refused as the caller's mistake, with these words, and nothing was written.
fn refused<T>(db: &Database, words: &[&str], act: impl FnOnce() -> Result<T>) {
    let before = db.dump().unwrap();
    let error = act().err().expect("this must be refused");
    assert_eq!(error.blame(), Blame::Caller, "{error}");
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "the message does not say `{word}`: {message}");
    }
    assert_eq!(db.dump().unwrap(), before, "refused ({message}), and yet something was written");
}

#[test]
fn each_space_answers_in_its_own_way() {
    let db = Database::in_memory().unwrap();
    let things = things(&db);
    assert_eq!(ids(&search(&things, in_colour([0.0, 1.0, 0.0]))), ["fir", "sea", "rose"]);
    assert_eq!(ids(&search(&things, Query::text("flower and thorns")))[0], "rose");
    // Passages are seen by their first letter, queries by their last.
    for (query, expected) in [("pizza", "rose"), ("smile", "fir")] {
        let hits = search(&things, Query::text(query).space("letters").mode(Mode::Dense));
        assert_eq!((ids(&hits)[0].as_str(), hits[0].score), (expected, 1.0), "{query}");
    }
    let default = search(&things, Query::text("salt water").mode(Mode::Dense));
    assert_eq!(default, search(&things, Query::text("salt water").mode(Mode::Dense).space("default")));
    assert_eq!(things.model().unwrap().id, "builtin");
    assert_eq!(things.model_of("letters").unwrap().unwrap().id, "letters");
    assert!(things.model_of("colour").unwrap().is_none());
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn every_space_is_there_after_reopening() {
    let folder = folder();
    let (dump, letters, colours) = {
        let db = Database::open(folder.path()).unwrap();
        let things = things(&db);
        let letters = search(&things, Query::text("pizza").space("letters"));
        (db.dump().unwrap(), letters, search(&things, in_colour([0.3, 0.2, 0.1])))
    };
    let db = Database::open(folder.path()).unwrap();
    assert_eq!(db.dump().unwrap(), dump);
    let by_name = db.collection("things").unwrap();
    assert_eq!(search(&by_name, in_colour([0.3, 0.2, 0.1])), colours);
    assert_eq!(ids(&search(&by_name, Query::text("thorns")))[0], "rose");
    let required = |error: Error| matches!(&error, Error::ModelRequired { space: Some(s), .. } if s == "letters");
    assert!(required(by_name.search(Query::text("pizza").space("letters")).unwrap_err()));
    let another = || Document::new("new", "new").vector_in("colour", vec![1.0; 3]);
    assert!(required(by_name.add(another()).unwrap_err()));
    let things = db.collection_with("things", config()).unwrap();
    assert_eq!(search(&things, Query::text("pizza").space("letters")), letters);
    things.add(another()).unwrap();
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn documents_come_back_with_the_vectors_that_they_brought() {
    let db = Database::in_memory().unwrap();
    let things = things(&db);
    let mut given = three_things();
    given.sort_by_key(|document| document.id.to_string());
    let scanned: Vec<Document> = things.scan().unwrap().map(|document| document.unwrap()).collect();
    assert_eq!(scanned, given);
    let json = serde_json::to_value(things.get("fir").unwrap().unwrap()).unwrap();
    assert_eq!(
        json["vectors"].to_string(),
        r#"{"colour":[0.0,1.0,0.2]}"#.replace("0.2", &f64::from(0.2_f32).to_string())
    );
    let dump = db.dump().unwrap();
    for space in ["vector default: ", "vector letters: ", "vector colour: [0.0, 1.0, 0.2] of 3"] {
        assert!(dump.contains(space), "no `{space}` in {dump}");
    }
    let spaces = things.stats().unwrap().spaces;
    let spaces: Vec<_> = spaces.iter().map(|space| (space.name.as_str(), space.model.as_str(), space.dims)).collect();
    assert_eq!(spaces, [("default", "builtin", 256), ("letters", "letters", 27), ("colour", "external", 3)]);
    assert_eq!(
        things.describe()["spaces"][2],
        json!({"name": "colour", "model": "external", "dims": 3, "metric": "cosine"})
    );
}

#[test]
fn a_vector_of_the_default_space_comes_back_beside_the_others() {
    let db = Database::in_memory().unwrap();
    for (name, config) in [("model", config()), ("external", config().external(256))] {
        let things = db.collection_with(name, config).unwrap();
        let mut own = vec![0.0; 256];
        own[7] = 1.0;
        let both = Document::new("a", "zebra").vector(own.clone()).vector_in("colour", vec![1.0, 2.0, 3.0]);
        things.add(both.clone()).unwrap();
        assert_eq!(things.get("a").unwrap(), Some(both.clone()), "{name}");
        assert_eq!(things.add(both.clone()).unwrap().unchanged, 1, "{name}");
        // By its place among the vectors, too, and not twice.
        let named = Document { vector: None, ..both.clone() }.vector_in("default", own.clone());
        assert_eq!(things.add(named).unwrap().unchanged, 1, "{name}");
        refused(&db, &["two vectors", "`default`"], || things.add(both.vector_in("default", own.clone())));
        // The model of the further space has read the document whole.
        let hits = search(&things, Query::text("blitz").space("letters").mode(Mode::Dense));
        assert_eq!(hits[0].score, 1.0, "{name}");
    }
}

#[test]
fn a_document_brings_a_vector_for_each_external_space() {
    let db = Database::in_memory().unwrap();
    let things = things(&db);
    let new = || Document::new("new", "text");
    let coloured = || new().vector_in("colour", vec![1.0; 3]);
    refused(&db, &["`new`", "`colour`", "`things`", "3"], || things.add(new()));
    refused(&db, &["`new`", "`taste`", "`default`, `letters`, `colour`"], || {
        things.add(coloured().vector_in("taste", vec![1.0]))
    });
    refused(&db, &["`new`", "`letters`", "leave it out"], || {
        things.add(coloured().vector_in("letters", vec![1.0; 27]))
    });
    for wrong in [vec![], vec![1.0; 2], vec![1.0; 256]] {
        let got = format!("got {}", wrong.len());
        refused(&db, &["space `colour` of collection `things`", "vectors of 3 numbers", &got], || {
            things.add(new().vector_in("colour", wrong.clone()))
        });
        refused(&db, &["space `colour`", &got], || things.search(Query::vector(wrong).space("colour")));
    }
    for bad in [[f32::NAN, 1.0, 1.0], [1.0, f32::INFINITY, 0.0], [0.0; 3]] {
        refused(&db, &["`new`", "space `colour`"], || things.add(new().vector_in("colour", bad.to_vec())));
        refused(&db, &["the query", "space `colour`"], || things.search(in_colour(bad)));
    }
    // A vector that no chunk could have would be lost.
    refused(&db, &["`new`", "neither text nor title"], || things.add(Document { text: " \n".into(), ..coloured() }));
    things.add(Document::new("new", "").title("A title is enough").vector_in("colour", vec![1.0; 3])).unwrap();
    let report = things.add_many([new(), coloured(), Document::new("other", "text")]).unwrap();
    assert_eq!((report.replaced, report.rejected.len()), (1, 2), "{report:?}");
}

#[test]
fn all_chunks_of_a_document_have_its_vector() {
    let db = Database::in_memory().unwrap();
    let things = things(&db);
    things.add(Document::new("ice", long_text("glaciers", 12)).vector_in("colour", vec![0.4, 0.5, 0.9])).unwrap();
    let chunks = things.stats().unwrap().chunks as usize - 3;
    assert!(chunks > 2);
    let hits = search(&things, in_colour([0.4, 0.5, 0.9]).limit(chunks + 1));
    let near: Vec<_> = hits.iter().take_while(|hit| hit.document == "ice".into()).map(|hit| hit.chunk).collect();
    assert_eq!(near, (0..chunks as u32).collect::<Vec<_>>());
    assert!(hits[..chunks].iter().all(|hit| hit.score == hits[0].score));
    assert_eq!(ids(&search(&things, in_colour([0.4, 0.5, 0.9]).group(true))), ["ice", "sea", "fir", "rose"]);
}

#[test]
fn another_vector_makes_another_document() {
    let db = Database::in_memory().unwrap();
    let things = things(&db);
    let before = db.dump().unwrap();
    assert_eq!(things.add_many(three_things()).unwrap().unchanged, 3);
    assert_eq!(db.dump().unwrap(), before);
    let [rose, ..] = three_things();
    let report = things.add(rose.vector_in("colour", vec![0.0, 0.9, 0.0])).unwrap();
    assert_eq!((report.replaced, report.chunks_embedded, report.chunks_reused), (1, 0, 1));
    assert_eq!(ids(&search(&things, in_colour([0.0, 1.0, 0.0])))[0], "rose");
    assert_eq!(things.count().unwrap(), 3);
    assert_eq!(ids(&search(&things, Query::text("pizza").space("letters").mode(Mode::Dense)))[0], "rose");
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

/// [`Letters`], and how many texts it has read.
struct Counting(Letters, Arc<AtomicUsize>);

impl Embedder for Counting {
    fn spec(&self) -> &ModelSpec {
        self.0.spec()
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        self.1.fetch_add(texts.len(), Ordering::Relaxed);
        if texts.iter().any(|text| text.contains("fail")) {
            return Err(Error::Embedding("the model is tired".into()));
        }
        self.0.embed_documents(texts)
    }
}

fn counting() -> (Database, Collection, Arc<AtomicUsize>) {
    let db = Database::in_memory().unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let letters = Counting(Letters::new(), Arc::clone(&read));
    let config = CollectionConfig::new().space("letters", SpaceConfig::embedder(Arc::new(letters)));
    let notes = db.collection_with("notes", config).unwrap();
    (db, notes, read)
}

#[test]
fn unchanged_chunks_keep_their_vectors_in_every_space() {
    let (_db, notes, read) = counting();
    let text = long_text("glaciers", 20);
    let first = notes.add(Document::new("a", text.clone())).unwrap();
    assert_eq!(read.swap(0, Ordering::Relaxed) as u64, first.chunks_embedded);
    let second = notes.add(Document::new("a", text + "One more sentence stands at the end.")).unwrap();
    assert!(second.chunks_embedded <= 2 && second.chunks_reused + 2 >= first.chunks_embedded, "{second:?}");
    assert_eq!(read.swap(0, Ordering::Relaxed) as u64, second.chunks_embedded);
    // With a vector of its own the document is one chunk, which the letters' model reads anew; and only once.
    let mut own = vec![0.0; 256];
    own[0] = 1.0;
    let whole = |year: i32| Document::new("b", "whole").vector(own.clone()).metadata(json!({"year": year}));
    assert_eq!(notes.add(whole(1)).unwrap().chunks_embedded, 1);
    let again = notes.add(whole(2)).unwrap();
    assert_eq!((again.replaced, again.chunks_embedded, again.chunks_reused), (1, 0, 1));
    // Without it, the built-in model has to read what it has not read.
    let modelled = notes.add(Document::new("b", "whole")).unwrap();
    assert_eq!((modelled.chunks_embedded, read.load(Ordering::Relaxed)), (1, 1));
    let plain = Document::new("c", "whole");
    notes.add(plain).unwrap();
    let vectors = |id: &str| {
        search(&notes, Query::text("whole").mode(Mode::Dense).limit(100))
            .into_iter()
            .find(|hit| hit.document == id.into())
    };
    assert_eq!(vectors("b").unwrap().score, vectors("c").unwrap().score);
}

#[test]
fn a_model_that_fails_in_one_space_writes_in_none() {
    let (db, notes, _) = counting();
    notes.add(Document::new("a", "the good old version")).unwrap();
    let before = db.dump().unwrap();
    let error = notes.add(Document::new("a", "this will fail")).unwrap_err();
    assert!(matches!(error, Error::Embedding(_)), "{error:?}");
    assert_eq!(db.dump().unwrap(), before);
    let text = |n: i64| if n == 3 { "this will fail".to_owned() } else { format!("good {n}") };
    let report = notes.add_many((0..8).map(|n| Document::new(n, text(n)))).unwrap();
    assert_eq!((report.added, report.rejected.len(), report.chunks_embedded), (7, 1, 7), "{report:?}");
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn a_query_names_a_space_that_can_answer_it() {
    let db = Database::in_memory().unwrap();
    let things = things(&db);
    refused(&db, &["`things`", "`taste`", "`default`, `letters`, `colour`"], || {
        things.search(Query::text("sweet").space("taste"))
    });
    // Words cannot be compared with colours, and to answer with the text alone would pass over what was asked.
    refused(&db, &["`colour`", "3", "no model"], || things.search(Query::text("red").space("colour")));
    let text = things.search(Query::text("thorns").space("colour").mode(Mode::Text)).unwrap();
    assert_eq!(ids(&text.hits), ["rose"]);
    let both = things.search(in_colour([0.0, 0.0, 1.0]).with_text("thorns")).unwrap();
    assert_eq!((both.mode, both.hits.len()), (Mode::Hybrid, 3));
    for hit in &both.hits {
        let (dense, text) = (hit.scores.dense.unwrap(), hit.scores.text.unwrap());
        let expected = if hit.document == "rose".into() { dense + 1.0 } else { dense };
        assert!((text > 0.0) == (hit.document == "rose".into()));
        // An external space weighs as much as the text.
        assert!(hit.score <= expected / 2.0 + 1e-6, "{hit:?}");
    }
    let varied = search(&things, in_colour([0.1, 0.7, 0.7]).mmr(0.3).limit(2));
    assert_eq!(varied.len(), 2);
}

#[test]
fn opening_compares_spaces_that_are_named() {
    let db = Database::in_memory().unwrap();
    things(&db);
    let open = |name: &str, space: SpaceConfig| {
        db.collection_with("things", CollectionConfig::new().space(name, space)).map(|things| things.count())
    };
    open("colour", SpaceConfig::external(3).metric(Metric::Cosine)).unwrap().unwrap();
    open("letters", SpaceConfig::embedder(Arc::new(Letters::new()))).unwrap().unwrap();
    for (name, space, words) in [
        ("colour", SpaceConfig::external(4), ["space `colour` of collection `things`", "got 4"]),
        ("colour", SpaceConfig::external(3).metric(Metric::Dot), ["space `colour`", "`dot`"]),
        ("colour", SpaceConfig::model("builtin"), ["space `colour`", "external"]),
        ("letters", SpaceConfig::model("builtin"), ["space `letters`", "builtin"]),
        ("letters", SpaceConfig::external(27), ["space `letters`", "has a model"]),
        ("taste", SpaceConfig::external(3), ["no space `taste`", "when a collection is made"]),
    ] {
        refused(&db, &words, || open(name, space));
    }
}

#[test]
fn spaces_that_cannot_be_are_refused_before_anything_is_made() {
    let db = Database::in_memory().unwrap();
    let external = || SpaceConfig::external(2);
    let twice = CollectionConfig::new().space("a", external()).space("a", external());
    refused(&db, &["two vector spaces", "`a`"], || db.collection_with("c", twice));
    let many = (0..16).fold(CollectionConfig::new(), |config, n| config.space(format!("s{n}"), external()));
    refused(&db, &["17", "16"], || db.collection_with("c", many));
    for (name, space, words) in [
        ("default", external(), ["`default`", "another name"]),
        ("a b", external(), ["`a b`", "letters"]),
        ("", external(), ["``", "vector space"]),
        ("a", SpaceConfig::external(0), ["`a`", "0 dimensions"]),
        ("a", SpaceConfig::external(16_385), ["`a`", "16385"]),
        ("a", SpaceConfig::model("builtin").metric(Metric::L2), ["builtin", "`l2`"]),
    ] {
        refused(&db, &words, || db.collection_with("c", CollectionConfig::new().space(name, space)));
    }
    let error = db
        .collection_with("c", CollectionConfig::new().space("a", SpaceConfig::model("no/such/folder")))
        .err()
        .unwrap();
    assert_eq!((error.blame(), error.to_string().contains("no/such")), (Blame::World, true), "{error}");
    assert!(db.collections().unwrap().is_empty());
}

#[test]
fn no_model_at_all_is_asked_of_spaces_without_one() {
    let db = Database::in_memory().unwrap();
    let config = CollectionConfig::new().external(2).space("other", SpaceConfig::external(3));
    let points = db.collection_with("points", config).unwrap();
    let report =
        points.add(Document::new("a", "").vector(vec![1.0, 0.0]).vector_in("other", vec![0.0, 1.0, 0.0])).unwrap();
    assert_eq!((report.added, report.chunks_embedded, report.chunks_reused), (1, 0, 0));
    refused(&db, &["`b`", "`vector` of 2"], || points.add(Document::new("b", "b").vector_in("other", vec![1.0; 3])));
    // A model can stand beside external vectors of the default space; it needs something to read.
    let config = CollectionConfig::new().external(2).space("words", SpaceConfig::model("builtin"));
    let read = db.collection_with("read", config).unwrap();
    read.add(Document::new("bread", "Let the dough rise overnight.").vector(vec![1.0, 0.0])).unwrap();
    read.add(Document::new("threads", "Share data with a mutex.").vector(vec![0.0, 1.0])).unwrap();
    refused(&db, &["`c`", "space `words`", "neither text nor title"], || {
        read.add(Document::new("c", "").vector(vec![1.0, 0.0]))
    });
    let hits = search(&read, Query::text("baking dough").space("words").mode(Mode::Dense));
    assert_eq!(ids(&hits), ["bread", "threads"]);
    assert_eq!(ids(&search(&read, Query::vector(vec![0.1, 1.0]))), ["threads", "bread"]);
}

fn random_vector(chance: &mut Chance, dims: usize) -> Vec<f32> {
    (0..dims).map(|_| chance.below(2_001) as f32 / 1_000.0 - 1.0).collect()
}

/// By the metric's definition, in double precision.
fn similarity(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    match metric {
        Metric::Cosine => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Metric::Dot => dot(a, b),
        Metric::L2 => -a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt(),
    }
}

#[test]
fn every_metric_in_few_and_many_dimensions_stands_beside_the_others() {
    let mut chance = Chance::new("QUIVER_SPACES_SEED");
    let kinds: Vec<(String, Metric, usize)> = [Metric::Cosine, Metric::Dot, Metric::L2]
        .into_iter()
        .flat_map(|metric| [2, 3, 4096].map(|dims| (format!("{}-{dims}", metric.name()), metric, dims)))
        .collect();
    let config = kinds.iter().fold(CollectionConfig::new().external(2), |config, (name, metric, dims)| {
        config.space(name, SpaceConfig::external(*dims).metric(*metric))
    });
    let db = Database::in_memory().unwrap();
    let points = db.collection_with("points", config).unwrap();
    let vectors: Vec<Vec<Vec<f32>>> =
        (0..40).map(|_| kinds.iter().map(|(_, _, dims)| random_vector(&mut chance, *dims)).collect()).collect();
    let document = |(id, own): (i64, &Vec<Vec<f32>>)| {
        let document = Document::new(id, "").vector(vec![1.0, 1.0]);
        kinds.iter().zip(own).fold(document, |document, ((name, ..), vector)| document.vector_in(name, vector.clone()))
    };
    assert_eq!(points.add_many((0..).zip(&vectors).map(document)).unwrap().added, 40);
    for (at, (name, metric, dims)) in kinds.iter().enumerate() {
        let query = random_vector(&mut chance, *dims);
        let expected: Vec<f64> = vectors.iter().map(|own| similarity(*metric, &query, &own[at])).collect();
        let hits = search(&points, Query::vector(query).space(name).limit(40));
        assert_eq!(hits.len(), 40);
        for hit in &hits {
            let exact = expected[hit.document.to_string().parse::<usize>().unwrap()];
            assert!(
                (f64::from(hit.score) - exact).abs() < 1e-3 * exact.abs().max(1.0),
                "{name}: {} {exact}",
                hit.score
            );
        }
    }
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

const SEALED: i64 = 5_000;
const HUES: usize = 12;

/// The documents of two chunks each, with a hue of their own.
fn hued(id: i64, hue: &[f32]) -> Document {
    let text =
        format!("Word{id} begins. {} Word{id} ends.", "It goes on with a few more words of no weight. ".repeat(3));
    Document::new(id, text).vector_in("hue", hue.to_vec()).metadata(json!({"third": id % 3 == 0, "tenth": id % 10}))
}

/// A filter, and which documents it lets through.
type Allowed = (&'static str, fn(i64) -> bool);

/// The share of the documents that are truly nearest in hue and were found.
fn recall(collection: &Collection, hues: &[Vec<f32>], queries: &[Vec<f32>], allowed: Option<Allowed>) -> f64 {
    let mut found = 0;
    for query in queries {
        let is_allowed = |id: &i64| allowed.is_none_or(|(_, allowed)| allowed(*id));
        let mut nearest: Vec<i64> = (0..hues.len() as i64).filter(is_allowed).collect();
        let score = |id: &i64| similarity(Metric::L2, query, &hues[*id as usize]);
        nearest.sort_by(|a, b| score(b).total_cmp(&score(a)));
        let expected: HashSet<String> = nearest[..10].iter().map(ToString::to_string).collect();
        let mut asked = Query::vector(query.clone()).space("hue").group(true);
        if let Some((filter, _)) = allowed {
            asked = asked.filter(filter.parse::<Filter>().unwrap());
        }
        let hits = collection.search(asked).unwrap().hits;
        assert_eq!(hits.len(), 10);
        found += ids(&hits).iter().filter(|id| expected.contains(*id)).count();
    }
    found as f64 / (10 * queries.len()) as f64
}

#[test]
fn sealed_spaces_find_the_nearest_with_filters_and_after_reopening() {
    let mut chance = Chance::of(11);
    let hues: Vec<Vec<f32>> = (0..SEALED).map(|_| random_vector(&mut chance, HUES)).collect();
    let queries: Vec<Vec<f32>> = (0..20).map(|_| random_vector(&mut chance, HUES)).collect();
    let folder = folder();
    let ask = |db: &Database| {
        let things = db.collection("things").unwrap();
        let stats = things.stats().unwrap();
        assert!(stats.segments >= 1 && stats.chunks as i64 >= 2 * SEALED, "{stats:?}");
        let all = recall(&things, &hues, &queries, None);
        let third = recall(&things, &hues, &queries, Some(("third = true", |id| id % 3 == 0)));
        let tenth = recall(&things, &hues, &queries, Some(("tenth = 7", |id| id % 10 == 7)));
        assert!([all, third, tenth].iter().all(|recall| *recall >= 0.97), "recall: {all}, {third}, {tenth}");
        let words = search(&things, Query::text("word4321").limit(1));
        assert_eq!(ids(&words), ["4321"]);
        let plan = things.search(Query::vector(queries[0].clone()).space("hue").explain()).unwrap().plan.unwrap();
        assert!(!plan.is_empty(), "no segment was asked");
    };
    {
        let db = Database::open(folder.path()).unwrap();
        let config = CollectionConfig::new()
            .chunk_tokens(32)
            .chunk_overlap(0)
            .space("hue", SpaceConfig::external(HUES).metric(Metric::L2));
        let things = db.collection_with("things", config).unwrap();
        let report = things.add_many((0..).zip(&hues).map(|(id, hue)| hued(id, hue))).unwrap();
        assert_eq!((report.added as i64, report.rejected.len()), (SEALED, 0));
        ask(&db);
    }
    let db = Database::open(folder.path()).unwrap();
    ask(&db);
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
    let things = db.collection("things").unwrap();
    // What is deleted is gone from every space, and a changed hue moves its document.
    let nearest = ids(&search(&things, Query::vector(hues[17].clone()).space("hue")))[0].clone();
    assert_eq!(nearest, "17");
    things.delete(17).unwrap();
    things.add(hued(18, &hues[17])).unwrap();
    let after = search(&things, Query::vector(hues[17].clone()).space("hue").group(true));
    assert_eq!((ids(&after)[0].as_str(), after[0].score), ("18", 0.0));
    db.compact().unwrap();
    assert_eq!(search(&things, Query::vector(hues[17].clone()).space("hue").group(true)).len(), 10);
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

/// Hundreds of chunks with the very same vector are neighbours of each other in a graph; the way to the others must not end
/// there.
#[test]
fn long_documents_do_not_hide_each_other() {
    let mut chance = Chance::of(5);
    let hues: Vec<Vec<f32>> = (0..60).map(|_| random_vector(&mut chance, HUES)).collect();
    let folder = folder();
    let db = Database::open(folder.path()).unwrap();
    let config = CollectionConfig::new()
        .chunk_tokens(32)
        .chunk_overlap(0)
        .space("hue", SpaceConfig::external(HUES).metric(Metric::L2));
    let things = db.collection_with("things", config).unwrap();
    let document =
        |(id, hue): (i64, &Vec<f32>)| Document::new(id, long_text("walruses", 26)).vector_in("hue", hue.clone());
    things.add_many((0..).zip(&hues).map(document)).unwrap();
    let stats = things.stats().unwrap();
    assert!(stats.segments >= 1 && stats.chunks > 100 * 60, "{stats:?}");
    for (id, hue) in hues.iter().enumerate() {
        let hits = search(&things, Query::vector(hue.clone()).space("hue"));
        assert!(ids(&hits).iter().all(|found| *found == id.to_string()), "{id}: {:?}", ids(&hits));
    }
    let queries: Vec<Vec<f32>> = (0..20).map(|_| random_vector(&mut chance, HUES)).collect();
    let recall = recall(&things, &hues, &queries, None);
    assert!(recall >= 0.97, "recall: {recall}");
}

/// Databases made before there were further spaces must open, and their documents count as unchanged: the configuration to
/// the letter, and digests that another program computed.
#[test]
fn one_space_is_stored_as_before_there_were_several() {
    let db = Database::in_memory().unwrap();
    let document = || Document::new("a", "a text").title("A title").metadata(json!({"n": 1})).vector(vec![1.0, 0.5]);
    let one = db.collection_with("one", CollectionConfig::new().external(2)).unwrap();
    one.add(document()).unwrap();
    let dump = db.dump().unwrap();
    let application = r#""application":{"model":null,"chunk_tokens":256,"chunk_overlap":32,"chunker":"auto"}}"#;
    assert!(dump.contains(application) && dump.contains("digest b59e47835f4405e7bd41633fa38f1738"), "{dump}");
    let external = || SpaceConfig::external(1);
    let three = CollectionConfig::new().external(2).space("c", external()).space("b", external());
    let three = db.collection_with("three", three).unwrap();
    three.add(document().vector_in("c", vec![4.0]).vector_in("b", vec![3.0])).unwrap();
    let dump = db.dump().unwrap();
    let further = r#""spaces":{"b":{"model":null},"c":{"model":null}}}"#;
    assert!(dump.contains(further) && dump.contains("digest e2229abf60a0115cd664d56d4276c5c1"), "{dump}");
}

#[test]
fn documents_that_bring_their_vectors_load_no_model() {
    let folder = folder();
    let path = folder.path().join("a.db");
    drop(Database::open(&path).unwrap().collection("notes").unwrap());
    let db = Database::open(&path).unwrap();
    let notes = db.open_collection("notes").unwrap();
    let dims = notes.stats().unwrap().dims;
    notes.add(Document::new("a", "One.").vector(vec![1.0; dims])).unwrap();
    notes.add_many([Document::new("b", "Two.").vector(vec![1.0; dims])]).unwrap();
    assert_eq!(db.models(), []);
    notes.add(Document::new("c", "Three.")).unwrap();
    assert_eq!(db.models().len(), 1);
}

#[test]
fn an_open_collection_keeps_no_model_that_is_not_at_work() {
    let folder = folder();
    let path = folder.path().join("model.qvst");
    let tokens = ["[UNK]", "river", "boats"].map(str::to_owned).to_vec();
    let values: Vec<f32> = (0..24_u8).map(|place| f32::from(place * 7 % 11) - 5.0).collect();
    let table = StaticTable::quantise(Provenance::default(), tokens, 8, &values).unwrap();
    std::fs::write(&path, table.to_bytes()).unwrap();
    let db = Database::in_memory().unwrap();
    let notes = db.collection_with("notes", CollectionConfig::new().model(path.to_str().unwrap())).unwrap();
    let again = db.collection_with("notes", CollectionConfig::new().model(path.to_str().unwrap())).unwrap();
    notes.add(Document::new("a", "A river with boats.")).unwrap();
    let loaded = db.models();
    assert!(loaded.len() == 1 && loaded[0].state == LoadState::Ready, "{loaded:?}");
    assert_eq!((loaded[0].bytes, loaded[0].loads), (3 * (8 + 4), 1));
    db.limit_models(MemoryLimits { bytes_max: Some(35), keep_alive: None });
    assert_eq!(db.models()[0].state, LoadState::Dropped);
    db.limit_models(MemoryLimits::default());
    for collection in [&notes, &again] {
        assert_eq!(ids(&search(collection, Query::text("boats").mode(Mode::Dense))), ["a"]);
        assert_eq!(db.models()[0].loads, 2, "both use one copy");
    }
}
