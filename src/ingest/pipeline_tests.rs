//! Do the stages work at once, and does nobody notice?

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quiverdb_storage::LedgerEdit;

use crate::embed::{Embedder, Embeddings, ModelSpec};
use crate::ingest::{Along, Refused};
use crate::types::Rejected;
use crate::{AddOptions, AddReport, Collection, CollectionConfig, Database, Document, Error, Result, ingest};

/// One dimension, and whatever a test wants to happen meanwhile.
struct Watched<F> {
    spec: ModelSpec,
    meanwhile: F,
}

impl<F: Fn(&[&str]) -> Result<()> + Send + Sync> Embedder for Watched<F> {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        (self.meanwhile)(texts)?;
        Ok(Embeddings { dims: 1, values: vec![1.0; texts.len()], truncated: 0 })
    }
}

fn collection(meanwhile: impl Fn(&[&str]) -> Result<()> + Send + Sync + 'static) -> Collection {
    let watched = Watched { spec: ModelSpec::new("watched", 1), meanwhile };
    let config = CollectionConfig::new().embedder(Arc::new(watched));
    Database::in_memory().unwrap().collection_with("c", config).unwrap()
}

/// No fault of a document.
fn burst(reason: &str) -> Error {
    Error::Model { model: "watched".into(), reason: reason.into() }
}

fn numbered(number: usize) -> std::result::Result<Document, Rejected> {
    Ok(Document::new(number as i64, format!("text {number}")))
}

#[test]
fn documents_are_read_while_the_model_is_at_work() {
    let read = Arc::new(AtomicUsize::new(0));
    let (seen, first) = (Arc::clone(&read), AtomicBool::new(true));
    let collection = collection(move |texts| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while first.load(Ordering::Relaxed) && seen.load(Ordering::Relaxed) <= texts.len() {
            if Instant::now() > deadline {
                return Err(burst("nothing was read meanwhile"));
            }
            std::thread::yield_now();
        }
        first.store(false, Ordering::Relaxed);
        Ok(())
    });
    let documents = (0..1_000).inspect(|_| {
        read.fetch_add(1, Ordering::Relaxed);
    });
    let report = collection.add_with(documents.map(numbered), &AddOptions::default()).unwrap();
    assert_eq!((report.added, report.chunks_embedded, collection.count().unwrap()), (1_000, 1_000, 1_000));
    assert!(report.embedding_seconds > 0.0 && report.embedding_seconds <= report.seconds, "{report:?}");
}

#[test]
fn a_document_that_comes_again_finds_its_earlier_version_however_close_behind() {
    let collection = collection(|_| Ok(()));
    let versions = (0..1_000).map(|number| Ok(Document::new("same", format!("text {}", number / 2))));
    let others = (0..300).map(numbered);
    let report = collection.add_with(versions.chain(others), &AddOptions::default()).unwrap();
    assert_eq!((report.added, report.replaced, report.unchanged), (301, 499, 500));
    assert_eq!(collection.get("same").unwrap().unwrap().text, "text 499");
    assert_eq!(report.rejected, []);
}

#[test]
fn a_model_that_fails_for_good_ends_the_add_and_what_went_before_stays() {
    let collection = collection(|texts| match texts.iter().any(|text| text.ends_with(" 700")) {
        true => Err(burst("the model has burst")),
        false => Ok(()),
    });
    let error = collection.add_with((0..100_000).map(numbered), &AddOptions::default()).unwrap_err().to_string();
    assert!(error.contains("burst"), "{error}");
    let count = collection.count().unwrap();
    assert!((64..=700).contains(&count), "{count}");
    assert!(collection.get(699).unwrap().is_none() || count == 700);
}

#[test]
fn a_model_that_panics_does_so_for_the_caller() {
    let collection = collection(|texts| {
        assert!(texts.len() < 65, "too much for me");
        Ok(())
    });
    let add = || collection.add_with((0..1_000).map(numbered), &AddOptions::default());
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(add)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"too much for me"));
    let count = collection.count().unwrap();
    assert!(count >= 64 && count % 64 == 0, "{count}");
}

#[test]
fn whoever_cancels_waits_for_no_model() {
    let embedded = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&embedded);
    let collection = collection(move |texts| {
        counter.fetch_add(texts.len(), Ordering::Relaxed);
        Ok(())
    });
    let cancel = AtomicBool::new(false);
    let progress = |_: &AddReport| cancel.store(true, Ordering::Relaxed);
    let options = AddOptions { cancel: Some(&cancel), progress: Some(&progress), ..AddOptions::default() };
    let report = collection.add_with((0..usize::MAX).map(numbered), &options).unwrap();
    assert_eq!(report.added, collection.count().unwrap());
    // What was on its way when it was cancelled is all that the model may have read.
    assert!(embedded.load(Ordering::Relaxed) < 5 * 4_096 + 64, "{embedded:?}");
}

#[test]
fn of_documents_that_have_expired_those_that_are_taken_are_counted() {
    let collection = collection(|texts| match texts.iter().any(|text| text.contains("bad")) {
        true => Err(Error::Embedding("cannot be read".into())),
        false => Ok(()),
    });
    let long_ago = crate::moment::of_millis(1_000).unwrap();
    let gone = |id: i64, text: &str| Document::new(id, text).expires_at(long_ago);
    let report = collection.add_many([gone(1, "good"), gone(2, "bad"), Document::new(3, "good")]).unwrap();
    assert_eq!((report.added, report.expired, report.rejected.len()), (2, 1, 1));
    let one = collection.add(gone(4, "good, too")).unwrap();
    assert_eq!((one.added, one.expired), (1, 1));
    let options = AddOptions { dry_run: true, ..AddOptions::default() };
    let forecast = collection.add_with([Ok(gone(5, "good")), Ok(Document::new(6, "good"))], &options).unwrap();
    assert_eq!((forecast.added, forecast.expired), (2, 1));
}

/// Notes how many items were taken, and what was told.
#[derive(Default)]
struct Noted(Mutex<Vec<Rejected>>);

impl Along for Noted {
    fn edits(&self, taken: u64, refused: Vec<Refused>, report: &AddReport, changes: bool) -> Result<Vec<LedgerEdit>> {
        self.0.lock().unwrap().extend(refused.into_iter().map(|refused| refused.rejected));
        let AddReport { added, replaced, unchanged, .. } = report;
        let note = format!("{taken}: {added} added, {replaced} replaced, {unchanged} unchanged, {changes}");
        Ok(vec![LedgerEdit::put("position", note)])
    }
}

#[test]
fn a_ledger_says_what_was_committed_and_no_more() {
    let collection = collection(|_| Ok(()));
    let parts = collection.parts();
    let cancel = AtomicBool::new(false);
    let position = || {
        let value = parts.store.ledger(parts.info.id, b"position").unwrap().unwrap();
        String::from_utf8(value).unwrap()
    };
    let progress = |report: &AddReport| cancel.store(report.added >= 300, Ordering::Relaxed);
    let options = AddOptions { cancel: Some(&cancel), progress: Some(&progress), ..AddOptions::default() };
    let report = ingest::add_along(parts, (0..usize::MAX).map(numbered), &options, Some(&Noted::default())).unwrap();
    let count = collection.count().unwrap();
    assert_eq!((position(), report.added), (format!("{count}: {count} added, 0 replaced, 0 unchanged, true"), count));

    let refused = Document::new(9, "").metadata(serde_json::json!("no object"));
    let again = [numbered(0), Err(Rejected { source: "row 2".into(), reason: "bad".into() }), Ok(refused), numbered(1)];
    let noted = Noted::default();
    let report = ingest::add_along(parts, again, &AddOptions::default(), Some(&noted)).unwrap();
    assert_eq!(position(), "4: 0 added, 0 replaced, 2 unchanged, false", "unchanged documents move it, too");
    assert_eq!((report.rejected.len(), noted.0.into_inner().unwrap().len()), (0, 1), "each rejection is told once");
}

#[test]
fn a_forecast_of_many_rejections_ends() {
    let collection = collection(|_| Ok(()));
    let options = AddOptions { dry_run: true, ..AddOptions::default() };
    let bad = |row: u64| Err(Rejected { source: format!("row {row}"), reason: "bad".into() });
    let report = collection.add_with((0..10_000).map(bad), &options).unwrap();
    assert_eq!(report.rejected.len(), 10_000);
}

#[test]
fn rejections_alone_make_batches_too() {
    let collection = collection(|_| Ok(()));
    let cancel = AtomicBool::new(false);
    let progress = |_: &AddReport| cancel.store(true, Ordering::Relaxed);
    let options = AddOptions { cancel: Some(&cancel), progress: Some(&progress), ..AddOptions::default() };
    let bad = |row: u64| Err(Rejected { source: format!("row {row}"), reason: "bad".into() });
    let report = collection.add_with((0..u64::MAX).map(bad), &options).unwrap();
    assert!(!report.rejected.is_empty() && report.rejected.len() < 1_000_000, "{}", report.rejected.len());
}
