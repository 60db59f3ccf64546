//! Writes that expect a version of a document.

use std::sync::Arc;

use serde_json::json;

use super::{in_memory, sound};
use crate::testing::{document, put};
use crate::{Alongside, CollectionId, Error, Expected, ExpectedVersion, Metric, NewDocument, Operation, Store};

fn of(text: &str) -> NewDocument {
    document("a", text, json!({}), &[vec![1.0]])
}

/// Whether the operation was done.
fn done(store: &Store, notes: CollectionId, operation: Operation, version: ExpectedVersion) -> bool {
    let expected = Expected { id: "a".into(), version };
    match store.write_with(notes, vec![operation], Alongside::expected([expected])) {
        Ok(_) => true,
        Err(Error::Changed { id, .. }) if id == "a" => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_write_happens_only_where_the_document_is_as_expected() {
    let (store, notes) = in_memory(1, Metric::Cosine);
    let (one, two) = (of("one"), of("two"));
    let version = |document: &NewDocument| ExpectedVersion::OneOf(vec![[0; 16], document.digest]);
    let there = || store.snapshot(notes).unwrap().digest(&"a".into()).unwrap();
    assert!(!done(&store, notes, put(one.clone()), ExpectedVersion::Present));
    assert!(!done(&store, notes, put(one.clone()), version(&one)));
    assert_eq!(there(), None);
    assert!(done(&store, notes, put(one.clone()), ExpectedVersion::Absent));
    assert!(!done(&store, notes, put(two.clone()), ExpectedVersion::Absent));
    assert!(!done(&store, notes, put(two.clone()), version(&two)));
    assert!(!done(&store, notes, Operation::Delete("a".into()), version(&two)));
    assert_eq!(there(), Some(one.digest));
    assert!(done(&store, notes, put(two.clone()), version(&one)));
    assert!(done(&store, notes, put(one.clone()), ExpectedVersion::Present));
    assert!(done(&store, notes, put(two.clone()), ExpectedVersion::Any));
    assert_eq!(there(), Some(two.digest));
    assert!(done(&store, notes, Operation::Delete("a".into()), version(&two)));
    assert_eq!(there(), None);
    sound(&store);
}

#[test]
fn of_a_batch_nothing_happens_where_one_document_is_not_as_expected() {
    let (store, notes) = in_memory(1, Metric::Cosine);
    let batch = vec![put(of("one")), put(document("b", "more", json!({}), &[vec![2.0]]))];
    let expected = Expected { id: "c".into(), version: ExpectedVersion::Present };
    let refused = store.write_with(notes, batch, Alongside::expected([expected])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "document `c` is not there, other than the write expects; nothing was written. Read it again and decide anew"
    );
    assert_eq!(store.snapshot(notes).unwrap().documents(), 0);
    sound(&store);
}

#[test]
fn what_has_expired_is_not_there() {
    let (store, notes) = in_memory(1, Metric::Cosine);
    store.set_clock(Arc::new(|| 1_000));
    let brief = NewDocument { expires_at: Some(2_000), ..of("one") };
    assert!(done(&store, notes, put(brief.clone()), ExpectedVersion::Absent));
    assert!(!done(&store, notes, put(brief.clone()), ExpectedVersion::Absent));
    store.set_clock(Arc::new(|| 2_000));
    assert!(!done(&store, notes, put(of("two")), ExpectedVersion::OneOf(vec![brief.digest])));
    assert!(done(&store, notes, put(of("two")), ExpectedVersion::Absent));
    sound(&store);
}
