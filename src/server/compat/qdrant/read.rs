//! Which points are there? Look-ups, pages, counts and facets.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use quiverdb_storage::StoredDocument;
use serde::Deserialize;
use serde_json::{Value, json};

use super::condition::Filter;
use super::path::Path;
use super::point::{View, payload};
use super::shape::Shape;
use super::{expect_waiting, ids, scope, unsupported};
use crate::server::app::{Answer, App};
use crate::server::failure::Failure;

/// `POST .../points`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retrieve {
    ids: Vec<Value>,
    with_payload: Option<Value>,
    with_vector: Option<Value>,
    shard_key: Option<Value>,
}

/// `POST .../points/scroll`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scroll {
    offset: Option<Value>,
    limit: Option<usize>,
    filter: Option<Value>,
    with_payload: Option<Value>,
    with_vector: Option<Value>,
    order_by: Option<Value>,
    shard_key: Option<Value>,
}

/// `POST .../points/count`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Count {
    filter: Option<Value>,
    /// Counts are exact always.
    #[serde(rename = "exact")]
    _exact: Option<bool>,
    shard_key: Option<Value>,
}

/// `POST .../facet`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facet {
    key: String,
    limit: Option<usize>,
    filter: Option<Value>,
    #[serde(rename = "exact")]
    _exact: Option<bool>,
    shard_key: Option<Value>,
}

/// A filter that may not be there.
pub(super) fn filter(value: Option<&Value>) -> Answer<Option<Filter>> {
    value.filter(|value| !value.is_null()).map(Filter::parse).transpose()
}

/// More points than one answer holds.
pub(super) fn too_many(limit: usize, most: usize) -> Failure {
    Failure::invalid(format!(
        "limit is {limit}, and an answer of this server holds {most} points at most: ask page by page, or raise limits.hits"
    ))
}

pub(super) fn retrieve(app: &App, name: &str, body: &Retrieve, cancel: &AtomicBool) -> Answer<Value> {
    unsupported(&[("shard_key", &body.shard_key)])?;
    let most = app.settings.limits.hits;
    if body.ids.len() > most {
        return Err(too_many(body.ids.len(), most));
    }
    let shape = Shape::of(app, name)?;
    let view = View::parse(body.with_payload.as_ref(), true, body.with_vector.as_ref())?;
    let mut points = Vec::new();
    for id in ids::all_asked(&body.ids)? {
        expect_waiting(cancel)?;
        if let Some(stored) = shape.snapshot.stored(&id)? {
            points.push(view.show(&shape, stored, None)?);
        }
    }
    Ok(Value::Array(points))
}

/// `GET .../points/{id}`.
pub(super) fn one(app: &App, name: &str, id: &str) -> Answer<Value> {
    let value = id.parse::<u64>().map_or_else(|_| json!(id), |number| json!(number));
    let id = ids::asked(&value)?;
    let shape = Shape::of(app, name)?;
    let view = View::parse(None, true, Some(&Value::Bool(true)))?;
    let missing = || Failure::of("document_not_found", format!("Not found: Point with id {value} does not exists!"));
    let stored = shape.snapshot.stored(&id)?.ok_or_else(missing)?;
    view.show(&shape, stored, None)
}

pub(super) fn scroll(app: &App, name: &str, body: &Scroll, cancel: &AtomicBool) -> Answer<Value> {
    unsupported(&[("shard_key", &body.shard_key), ("order_by", &body.order_by)])?;
    let shape = Shape::of(app, name)?;
    let view = View::parse(body.with_payload.as_ref(), true, body.with_vector.as_ref())?;
    let filter = filter(body.filter.as_ref())?;
    let (limit, most) = (body.limit.unwrap_or(10), app.settings.limits.hits);
    if limit == 0 {
        return Err(Failure::invalid("limit must be 1 or more"));
    }
    let from = body.offset.as_ref().filter(|offset| !offset.is_null()).map(ids::asked).transpose()?;
    let (documents, next) = page(&shape, filter.as_ref(), from, limit.min(most), cancel)?;
    if next.is_some() && limit > most {
        return Err(too_many(limit, most));
    }
    let shown = |stored| expect_waiting(cancel).and_then(|()| view.show(&shape, stored, None));
    let points = documents.into_iter().map(shown).collect::<Answer<Vec<_>>>()?;
    Ok(json!({"points": points, "next_page_offset": next}))
}

/// So many documents from one on, in order of id, and the id of the next one.
pub(super) fn page(
    shape: &Shape,
    filter: Option<&Filter>,
    from: Option<quiverdb_storage::DocumentId>,
    limit: usize,
    cancel: &AtomicBool,
) -> Answer<(Vec<StoredDocument>, Option<Value>)> {
    let mut found = Vec::new();
    // The first one belongs to its page, and a walk begins behind it.
    if let Some(from) = &from
        && let Some(stored) = shape.snapshot.stored(from)?
    {
        let subject = super::condition::Subject { id: Some(from), payload: &stored.metadata, vectors: &shape.vectors };
        if filter.is_none_or(|filter| filter.holds(&subject)) {
            found.push(stored);
        }
    }
    scope::walk(&shape.looked_at(cancel), filter, from, &mut |document| {
        found.push(document);
        found.len() <= limit
    })?;
    let next = found.get(limit).map(|document| ids::shown(&document.id));
    found.truncate(limit);
    Ok((found, next))
}

pub(super) fn count(app: &App, name: &str, body: &Count, cancel: &AtomicBool) -> Answer<Value> {
    unsupported(&[("shard_key", &body.shard_key)])?;
    let shape = Shape::of(app, name)?;
    let count = match filter(body.filter.as_ref())? {
        None => shape.snapshot.count(),
        Some(filter) => scope::matching(&shape.looked_at(cancel), Some(&filter))?.len() as u64,
    };
    Ok(json!({"count": count}))
}

/// How many points have each value of a key: the most frequent first, equal ones in order of their value.
pub(super) fn facet(app: &App, name: &str, body: &Facet, cancel: &AtomicBool) -> Answer<Value> {
    unsupported(&[("shard_key", &body.shard_key)])?;
    let shape = Shape::of(app, name)?;
    let (path, filter) = (Path::parse(&body.key)?, filter(body.filter.as_ref())?);
    let mut counts: BTreeMap<(u8, String), (Value, u64)> = BTreeMap::new();
    scope::walk(&shape.looked_at(cancel), filter.as_ref(), None, &mut |document| {
        let payload = payload(&shape, document, None);
        let values: BTreeMap<_, _> =
            path.flat(&payload).into_iter().filter_map(|value| Some((sorted(value)?, value))).collect();
        for (key, value) in values {
            counts.entry(key).or_insert_with(|| (value.clone(), 0)).1 += 1;
        }
        true
    })?;
    let mut counts: Vec<(Value, u64)> = counts.into_values().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts.truncate(body.limit.unwrap_or(10));
    let hits: Vec<Value> = counts.into_iter().map(|(value, count)| json!({"value": value, "count": count})).collect();
    Ok(json!({"hits": hits}))
}

/// A key to sort the values of a facet by; floats and what is no scalar are not counted.
fn sorted(value: &Value) -> Option<(u8, String)> {
    match value {
        Value::Bool(value) => Some((0, value.to_string())),
        Value::Number(number) if !number.is_f64() => {
            Some((1, format!("{:039}", number.as_i128()? + i128::from(u64::MAX))))
        }
        Value::String(text) => Some((2, text.clone())),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
