//! Is a passage embedded once? Across documents, collections, imports and restarts, and never where that might be wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quiverdb::embed::{Embeddings, ModelSpec};
use quiverdb::{AddReport, Collection, CollectionConfig, Database, Document, Embedder, Query, Result};

use crate::scenes::{Letters, folder};

/// A model of letters with a digest, and the texts that it has read.
struct Known(ModelSpec, Arc<AtomicUsize>);

impl Embedder for Known {
    fn spec(&self) -> &ModelSpec {
        &self.0
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        self.1.fetch_add(texts.len(), Ordering::Relaxed);
        Letters::new().embed_documents(texts)
    }
}

struct Model(Arc<AtomicUsize>, &'static str);

impl Model {
    fn of(digest: &'static str) -> Self {
        Self(Arc::default(), digest)
    }

    fn collection(&self, db: &Database, name: &str) -> Collection {
        let spec = ModelSpec { weights_digest: self.1.into(), ..ModelSpec::new("known", 27) };
        let known = Known(spec, Arc::clone(&self.0));
        db.collection_with(name, CollectionConfig::new().embedder(Arc::new(known))).unwrap()
    }

    /// The texts read since this was last asked.
    fn read(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn counts(report: &AddReport) -> (u64, u64, u64) {
    (report.chunks_embedded, report.chunks_cached, report.chunks_reused)
}

#[test]
fn the_same_passage_is_embedded_once_across_documents_collections_and_restarts() {
    let (folder, model) = (folder(), Model::of("ab"));
    let db = Database::open(folder.path()).unwrap();
    let notes = model.collection(&db, "notes");
    let twice = ["a", "b"].map(|id| Document::new(id, "zebras graze"));
    assert_eq!((counts(&notes.add_many(twice).unwrap()), model.read()), ((1, 1, 0), 1), "within a batch");
    let other = model.collection(&db, "other");
    assert_eq!((counts(&other.add(Document::new(7, "zebras graze")).unwrap()), model.read()), ((0, 1, 0), 0));
    db.drop_collection("notes").unwrap();
    drop((notes, other));
    drop(db);
    let db = Database::open(folder.path()).unwrap();
    let notes = model.collection(&db, "notes");
    let report = notes.add_many([Document::new(1, "zebras graze"), Document::new(2, "apes climb")]).unwrap();
    assert_eq!((counts(&report), model.read()), ((1, 1, 0), 1), "imported again");
    let mut z = vec![0.0; 27];
    z[25] = 1.0;
    assert_eq!(notes.search(Query::vector(z)).unwrap().hits[0].document, 1.into());
    let kept = notes.add(Document::new(1, "zebras graze").title("").metadata(serde_json::json!({"x": 1}))).unwrap();
    assert_eq!((counts(&kept), model.read()), ((0, 0, 1), 0), "a document's own chunks are reused, as ever");
    let stats = db.embedding_cache().unwrap();
    assert_eq!((stats.entries, stats.hits), (2, 2), "{stats:?}");
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
    db.drop_embedding_cache().unwrap();
    assert_eq!(counts(&notes.add(Document::new(3, "apes climb")).unwrap()), (1, 0, 0));
}

#[test]
fn no_other_model_and_no_nameless_one_gets_a_cached_vector() {
    let db = Database::in_memory().unwrap();
    let (one, other, nameless) = (Model::of("ab"), Model::of("cd"), Model::of(""));
    for (name, model) in [("one", &one), ("other", &other), ("nameless", &nameless)] {
        assert_eq!(counts(&model.collection(&db, name).add(Document::new(1, "text")).unwrap()), (1, 0, 0), "{name}");
    }
    assert_eq!(counts(&nameless.collection(&db, "nameless").add(Document::new(2, "text")).unwrap()), (1, 0, 0));
    db.set_embedding_cache(0);
    assert_eq!(counts(&one.collection(&db, "one").add(Document::new(2, "text")).unwrap()), (1, 0, 0), "turned off");
    let builtin = db.collection("builtin").unwrap();
    db.set_embedding_cache(1 << 20);
    let before = db.embedding_cache().unwrap();
    builtin.add(Document::new(1, "text")).unwrap();
    assert_eq!(db.embedding_cache().unwrap(), before, "the built-in model is as fast as the cache");
}
