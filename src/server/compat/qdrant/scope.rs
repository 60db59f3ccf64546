//! Which documents does a filter of Qdrant's let through, at the speed of our index where that is possible?
//!
//! A filter is translated into one of ours that lets through the same documents, or more. Where they are the same, the index
//! answers; where they may be more, each that it lets through is asked again by [`super::condition`]. Invariant: the answer is
//! exactly Qdrant's either way. Whoever looks stops soon after nobody waits any more.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use quiverdb_storage::DocumentId;
use serde_json::{Value, json};

use super::condition::{Bounds, Condition, Exact, Filter, Subject, Test};
use super::expect_waiting;
use super::path::Path;
use crate::Snapshot;
use crate::server::app::Answer;

/// Documents that are looked at together.
const PAGE: usize = 256;
/// Ids that one of our filters lists at most.
const IDS_MAX: usize = 65_536;

/// What is looked at, for as long as somebody waits for it.
pub(super) struct LookedAt<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// The names of its vectors.
    pub(super) vectors: &'a [String],
    pub(super) cancel: &'a AtomicBool,
}

/// A filter of ours for one of Qdrant's.
struct Translated {
    /// In JSON. `None` lets everything through.
    filter: Option<Value>,
    /// Whether it lets nothing through that Qdrant's does not.
    is_exact: bool,
}

impl Translated {
    fn exact(filter: Value) -> Self {
        Self { filter: Some(filter), is_exact: true }
    }

    fn wider(filter: Value) -> Self {
        Self { filter: Some(filter), is_exact: false }
    }

    fn unknown() -> Self {
        Self { filter: None, is_exact: false }
    }
}

/// The filters of ours by which a search finds what Qdrant's filter lets through: each finds some of it. `None` among them is
/// no filter; no filter at all means that there is nothing to find.
pub(super) fn filters(
    scope: &LookedAt<'_>,
    filter: Option<&Filter>,
    within: Option<Vec<DocumentId>>,
    without: &[DocumentId],
) -> Answer<Vec<Option<crate::Filter>>> {
    let translated = filter.map(translate);
    let exact = translated.as_ref().is_none_or(|translated| translated.is_exact) && within.is_none();
    if exact {
        let excluded = (!without.is_empty()).then(|| json!({"$id": {"nin": without}}));
        let parts: Vec<Value> =
            translated.and_then(|translated| translated.filter).into_iter().chain(excluded).collect();
        if parts.is_empty() {
            return Ok(vec![None]);
        }
        // One that is beyond the limits of our language is asked document by document.
        if let Ok(filter) = crate::Filter::from_json(&json!({"and": parts})) {
            return Ok(vec![Some(filter)]);
        }
    }
    let mut ids = match within {
        Some(ids) => holding(scope, filter, ids)?,
        None => matching(scope, filter)?,
    };
    let without: HashSet<&DocumentId> = without.iter().collect();
    ids.retain(|id| !without.contains(id));
    let listed = |ids: &[DocumentId]| {
        let filter = crate::Filter::from_json(&json!({"$id": {"in": ids}}));
        Ok(Some(filter.map_err(crate::Error::from)?))
    };
    ids.chunks(IDS_MAX).map(listed).collect()
}

/// The ids of the documents that a filter lets through, in order.
pub(super) fn matching(scope: &LookedAt<'_>, filter: Option<&Filter>) -> Answer<Vec<DocumentId>> {
    let snapshot = scope.snapshot;
    let Some(filter) = filter else { return Ok(snapshot.ids()?) };
    let Translated { filter: ours, is_exact } = translate(filter);
    let ours = ours.and_then(|ours| crate::Filter::from_json(&ours).ok());
    match ours {
        Some(ours) if is_exact => Ok(snapshot.ids_matching(&ours)?),
        Some(ours) => holding(scope, Some(filter), snapshot.ids_matching(&ours)?),
        None => {
            let mut ids = Vec::new();
            walk(scope, Some(filter), None, &mut |document| {
                ids.push(document.id);
                true
            })?;
            Ok(ids)
        }
    }
}

/// Of these documents those that are there and that the filter lets through.
fn holding(scope: &LookedAt<'_>, filter: Option<&Filter>, ids: Vec<DocumentId>) -> Answer<Vec<DocumentId>> {
    let mut kept = Vec::new();
    for id in ids {
        expect_waiting(scope.cancel)?;
        let Some(stored) = scope.snapshot.stored(&id)? else { continue };
        let subject = Subject { id: Some(&id), payload: &stored.metadata, vectors: scope.vectors };
        if filter.is_none_or(|filter| filter.holds(&subject)) {
            kept.push(id);
        }
    }
    Ok(kept)
}

/// Goes through the documents behind one, in order of id, that the filter lets through, until it is told to stop.
pub(super) fn walk(
    scope: &LookedAt<'_>,
    filter: Option<&Filter>,
    after: Option<DocumentId>,
    take: &mut dyn FnMut(quiverdb_storage::StoredDocument) -> bool,
) -> Answer<()> {
    let mut after = after;
    loop {
        expect_waiting(scope.cancel)?;
        let page = scope.snapshot.stored_after(after.as_ref(), PAGE)?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|document| document.id.clone());
        for document in page {
            let subject = Subject { id: Some(&document.id), payload: &document.metadata, vectors: scope.vectors };
            if filter.is_none_or(|filter| filter.holds(&subject)) && !take(document) {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

fn translate(filter: &Filter) -> Translated {
    let mut parts = Vec::new();
    let mut is_exact = filter.min_should.is_none();
    for condition in &filter.must {
        let one = translate_condition(condition);
        is_exact &= one.is_exact;
        parts.extend(one.filter);
    }
    for condition in &filter.must_not {
        let one = translate_condition(condition);
        is_exact &= one.is_exact;
        // What lets more through must not be turned around.
        parts.extend(one.filter.filter(|_| one.is_exact).map(|filter| json!({"not": filter})));
    }
    if !filter.should.is_empty() {
        let all: Vec<Translated> = filter.should.iter().map(translate_condition).collect();
        is_exact &= all.iter().all(|one| one.is_exact);
        let any: Option<Vec<Value>> = all.into_iter().map(|one| one.filter).collect();
        parts.extend(any.map(|any| json!({"or": any})));
    }
    Translated { filter: (is_exact || !parts.is_empty()).then(|| json!({"and": parts})), is_exact }
}

fn translate_condition(condition: &Condition) -> Translated {
    match condition {
        Condition::Filter(filter) => translate(filter),
        Condition::HasId(ids) => {
            let ids: Vec<&DocumentId> = ids.iter().collect();
            Translated::exact(json!({"$id": {"in": ids}}))
        }
        Condition::Field(path, test) => match path_of(path) {
            Some((key, is_exact)) => {
                let translated = translate_test(&key, test);
                Translated { is_exact: translated.is_exact && is_exact, ..translated }
            }
            None => Translated::unknown(),
        },
        Condition::HasVector(_) | Condition::Nested(..) => Translated::unknown(),
    }
}

/// Our name of a path, and whether it means the same. Ours looks into arrays and at keys with dots, too, so one of several
/// names may lead to more.
fn path_of(path: &Path) -> Option<(String, bool)> {
    let keys = path.keys()?;
    let plain = keys.iter().all(|key| !key.is_empty() && !key.contains('.'));
    plain.then(|| (format!(".{}", keys.join(".")), keys.len() == 1))
}

fn translate_test(key: &str, test: &Test) -> Translated {
    match test {
        // A float is no whole number to Qdrant, and the same number to us.
        Test::Any(listed) => {
            let has_whole = listed.iter().any(|one| matches!(one, Exact::Whole(_)));
            let values: Vec<Value> = listed.iter().filter_map(json_of).collect();
            match (values.len() == listed.len(), has_whole) {
                (false, _) => Translated::unknown(),
                (true, true) => Translated::wider(json!({key: {"in": values}})),
                (true, false) => Translated::exact(json!({key: {"in": values}})),
            }
        }
        Test::Prefix(prefix) => Translated::exact(json!({key: {"prefix": prefix}})),
        Test::IsNull(true) => Translated::exact(json!({key: {"eq": null}})),
        Test::Range(Bounds { lt, lte, gt, gte }) => {
            let all = [("lt", lt), ("lte", lte), ("gt", gt), ("gte", gte)];
            let given: Vec<Value> = all
                .into_iter()
                .filter_map(|(name, bound)| bound.as_ref().map(|bound| json!({key: {name: bound}})))
                .collect();
            // Several bounds may hold for several elements of an array.
            match given.len() {
                0 => Translated::unknown(),
                1 => Translated::exact(json!({"and": given})),
                _ => Translated::wider(json!({"and": given})),
            }
        }
        Test::Except(_)
        | Test::Words(_)
        | Test::AnyWord(_)
        | Test::Phrase(_)
        | Test::Substring(_)
        | Test::Moments(_)
        | Test::Counts(_)
        | Test::IsEmpty(_)
        | Test::IsNull(false) => Translated::unknown(),
    }
}

fn json_of(exact: &Exact) -> Option<Value> {
    match exact {
        Exact::Bool(value) => Some(json!(value)),
        Exact::Whole(value) => {
            i64::try_from(*value).map(|value| json!(value)).ok().or_else(|| Some(json!(u64::try_from(*value).ok()?)))
        }
        Exact::Text(value) => Some(json!(value)),
    }
}
