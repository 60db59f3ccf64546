//! How are points put, edited and taken away?
//!
//! Invariants: points that a request brings are looked at as a whole before any of them is written; an edit of a payload or a
//! vector, which reads a document and writes it again, takes the place of the version that it read and of no other; what is
//! answered is durable.
//!
//! A text with the name of a model becomes the point's vector here, and stays as the document's text, so that a search by words
//! finds it, too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicBool;

use quiverdb_storage::{DocumentId, validate_content};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::condition::{Filter, Subject};
use super::path::Path;
use super::point::{self, Input, TEXT, TITLE};
use super::settle::{Edits, no_point, settle};
use super::shape::{DEFAULT, FILLER, Shape, has_model};
use super::{expect_waiting, ids, read, scope, unsupported};
use crate::ingest::AddOptions;
use crate::server::app::{Answer, App};
use crate::server::failure::Failure;
use crate::{Document, ExpectedVersion, Version};

/// Texts that a model is given together.
const TEXTS: usize = 64;

/// `PUT .../points`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upsert {
    points: Option<Vec<Given>>,
    batch: Option<Columns>,
    update_filter: Option<Value>,
    update_mode: Option<String>,
    shard_key: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    id: Value,
    vector: Value,
    payload: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    ids: Vec<Value>,
    vectors: Value,
    payloads: Option<Vec<Option<Map<String, Value>>>>,
}

/// Points by their ids or by a filter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selector {
    points: Option<Vec<Value>>,
    filter: Option<Value>,
    shard_key: Option<Value>,
}

/// `POST` and `PUT .../points/payload`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetPayload {
    payload: Map<String, Value>,
    points: Option<Vec<Value>>,
    filter: Option<Value>,
    key: Option<String>,
    shard_key: Option<Value>,
}

/// `POST .../points/payload/delete`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeletePayload {
    keys: Vec<String>,
    points: Option<Vec<Value>>,
    filter: Option<Value>,
    shard_key: Option<Value>,
}

/// `PUT .../points/vectors`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateVectors {
    points: Vec<Given>,
    update_filter: Option<Value>,
    shard_key: Option<Value>,
}

/// `POST .../points/batch`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    operations: Vec<Map<String, Value>>,
}

/// What changes points.
pub(super) enum Change {
    Upsert(Upsert),
    Delete(Selector),
    SetPayload(SetPayload),
    OverwritePayload(SetPayload),
    DeletePayload(DeletePayload),
    ClearPayload(Selector),
    UpdateVectors(UpdateVectors),
}

/// A point, once its texts are vectors.
#[derive(Clone)]
struct Point {
    id: DocumentId,
    vectors: BTreeMap<String, Input>,
    payload: Map<String, Value>,
    /// What the document's text is to be.
    text: Option<String>,
    title: Option<String>,
}

impl Batch {
    /// The changes, in their order.
    pub(super) fn changes(self) -> Answer<Vec<Change>> {
        self.operations.into_iter().map(change).collect()
    }
}

fn change(operation: Map<String, Value>) -> Answer<Change> {
    fn read<T: DeserializeOwned>(name: &str, value: Value) -> Answer<T> {
        serde_json::from_value(value).map_err(|error| Failure::invalid(format!("{name}: {error}")))
    }
    let mut given = operation.into_iter();
    let (Some((name, value)), None) = (given.next(), given.next()) else {
        return Err(Failure::invalid("an operation is an object with one key, such as `upsert`"));
    };
    Ok(match name.as_str() {
        "upsert" => Change::Upsert(read(&name, value)?),
        "delete" => Change::Delete(read(&name, value)?),
        "set_payload" => Change::SetPayload(read(&name, value)?),
        "overwrite_payload" => Change::OverwritePayload(read(&name, value)?),
        "delete_payload" => Change::DeletePayload(read(&name, value)?),
        "clear_payload" => Change::ClearPayload(read(&name, value)?),
        "update_vectors" => Change::UpdateVectors(read(&name, value)?),
        other => return Err(Failure::invalid(format!("the operation `{other}` is not supported here"))),
    })
}

/// Makes a change.
pub(super) fn make(app: &App, name: &str, change: Change, cancel: &AtomicBool) -> Answer<()> {
    match change {
        Change::Upsert(body) => upsert(app, name, body, cancel),
        Change::Delete(body) => delete(app, name, &body, cancel),
        Change::SetPayload(body) => set_payload(app, name, body, false, cancel),
        Change::OverwritePayload(body) => set_payload(app, name, body, true, cancel),
        Change::DeletePayload(DeletePayload { keys, points, filter, shard_key }) => {
            let paths = keys.iter().map(|key| Path::parse(key)).collect::<Answer<Vec<_>>>()?;
            let selector = Selector { points, filter, shard_key };
            edit(app, name, &selector, cancel, |payload| paths.iter().for_each(|path| path.remove(payload)))
        }
        Change::ClearPayload(selector) => edit(app, name, &selector, cancel, Map::clear),
        Change::UpdateVectors(body) => update_vectors(app, name, body, cancel),
    }
}

fn upsert(app: &App, name: &str, body: Upsert, cancel: &AtomicBool) -> Answer<()> {
    let Upsert { points, batch, update_filter, update_mode, shard_key } = body;
    unsupported(&[("shard_key", &shard_key)])?;
    let given = match (points, batch) {
        (Some(points), None) => points,
        (None, Some(columns)) => rows(columns)?,
        (Some(_), Some(_)) | (None, None) => return Err(Failure::invalid("give either `points` or a `batch`")),
    };
    let filter = read::filter(update_filter.as_ref())?;
    let mode = update_mode.as_deref();
    let wanted = wanted(mode)?;
    let shape = Shape::of(app, name)?;
    let points = embedded(app, &shape, given, cancel)?;
    let documents = points.into_iter().map(|point| document(&shape, point)).collect::<Answer<Vec<_>>>()?;
    if filter.is_none() && matches!(mode, None | Some("upsert")) {
        return write(&shape, documents, cancel);
    }
    drop(shape);
    settle(app, name, &documents, cancel, |shape, documents| {
        let mut kept = Vec::new();
        for document in documents {
            let stored = shape.snapshot.get_with_version(document.id.clone())?;
            let lets_through = |filter: &Filter| stored.as_ref().is_none_or(|(stored, _)| holds(shape, filter, stored));
            if wanted(stored.is_some()) && filter.as_ref().is_none_or(lets_through) {
                let expected = stored.map_or(ExpectedVersion::Absent, |(_, version)| version.into());
                kept.push((document.clone(), expected));
            }
        }
        Ok(Edits::Put(kept))
    })
}

/// Whether a filter of Qdrant's lets a document through.
fn holds(shape: &Shape, filter: &Filter, document: &Document) -> bool {
    let Some(payload) = document.metadata.as_object() else { return false };
    filter.holds(&Subject { id: Some(&document.id), payload, vectors: &shape.vectors })
}

/// Whether a point that is there or not is to be written.
fn wanted(mode: Option<&str>) -> Answer<fn(bool) -> bool> {
    match mode {
        None | Some("upsert") => Ok(|_| true),
        Some("insert_only") => Ok(|is_there| !is_there),
        Some("update_only") => Ok(|is_there| is_there),
        Some(other) => {
            Err(Failure::invalid(format!("update_mode is upsert, insert_only or update_only; got `{other}`")))
        }
    }
}

/// The points of columns.
fn rows(columns: Columns) -> Answer<Vec<Given>> {
    let Columns { ids, vectors, payloads } = columns;
    let count = ids.len();
    let expect = |what: &str, got: usize| match got == count {
        true => Ok(()),
        false => Err(Failure::invalid(format!("the batch has {count} ids and {got} {what}"))),
    };
    let vectors: Vec<Value> = match vectors {
        Value::Object(named) => {
            let mut rows = vec![Map::new(); count];
            for (name, column) in named {
                let Value::Array(column) = column else {
                    return Err(Failure::invalid("`vectors` are lists, one a name"));
                };
                expect(&format!("vectors `{name}`"), column.len())?;
                rows.iter_mut().zip(column).for_each(|(row, vector)| drop(row.insert(name.clone(), vector)));
            }
            rows.into_iter().map(Value::Object).collect()
        }
        Value::Array(column) => column,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(Failure::invalid("`vectors` is a list, or one for each name"));
        }
    };
    expect("vectors", vectors.len())?;
    let payloads = payloads.unwrap_or_else(|| vec![None; count]);
    expect("payloads", payloads.len())?;
    let rows = ids.into_iter().zip(vectors).zip(payloads);
    Ok(rows.map(|((id, vector), payload)| Given { id, vector, payload }).collect())
}

/// Reads points; of one id the last counts. Texts of spaces without a model of their own become vectors.
fn embedded(app: &App, shape: &Shape, given: Vec<Given>, cancel: &AtomicBool) -> Answer<Vec<Point>> {
    let mut places: HashMap<DocumentId, usize> = HashMap::new();
    let mut points: Vec<Point> = Vec::new();
    for Given { id, vector, payload } in given {
        let (id, vectors, mut payload) = (ids::written(&id)?, point::vectors(&vector)?, payload.unwrap_or_default());
        let mut own = |key| payload.remove(key).and_then(|text| text.as_str().map(str::to_owned));
        let (text, title) = if shape.has_texts() { (own(TEXT), own(TITLE)) } else { (None, None) };
        let point = Point { id, vectors, payload, text, title };
        match places.get(&point.id) {
            Some(place) => points[*place] = point,
            None => {
                places.insert(point.id.clone(), points.len());
                points.push(point);
            }
        }
    }
    let mut texts: BTreeMap<String, Vec<(usize, String, String)>> = BTreeMap::new();
    for (place, point) in points.iter().enumerate() {
        for (name, input) in &point.vectors {
            let (_, space) = shape.space(Some(name))?;
            if let Input::Text { text, model } = input
                && !(has_model(space) && space.model == *model)
            {
                expect_text(app, text)?;
                texts.entry(model.clone()).or_default().push((place, name.clone(), text.clone()));
            }
        }
    }
    for (model, texts) in texts {
        let embedder = app.embedder(&model)?;
        for some in texts.chunks(TEXTS) {
            expect_waiting(cancel)?;
            let read: Vec<&str> = some.iter().map(|(_, _, text)| text.as_str()).collect();
            let embeddings = embedder.embed_documents(&read)?;
            for ((place, name, text), vector) in some.iter().zip(embeddings.rows()) {
                let point = &mut points[*place];
                point.vectors.insert(name.clone(), Input::Vector(vector.to_vec()));
                // Kept for the search by words.
                point.text.get_or_insert_with(|| text.clone());
            }
        }
    }
    Ok(points)
}

fn expect_text(app: &App, text: &str) -> Answer<()> {
    let most = app.settings.limits.text_bytes;
    match text.len() <= most {
        true => Ok(()),
        false => Err(Failure::invalid(format!("a text has {} bytes; limits.text_bytes is {most}", text.len()))),
    }
}

/// The document that a point is.
fn document(shape: &Shape, point: Point) -> Answer<Document> {
    let Point { id, vectors, payload, text, title } = point;
    let shown = ids::shown(&id);
    let mut text = text.unwrap_or_default();
    let mut document = Document::new(id, String::new());
    document.title = title;
    document.vector = shape.has_names().then(|| FILLER.to_vec());
    for (name, input) in vectors {
        let (_, space) = shape.space(Some(&name))?;
        match input {
            Input::Text { text: own, .. } if space.name == DEFAULT => text = own,
            Input::Vector(vector) if space.name == DEFAULT || !has_model(space) => {
                validate(shape, &name, &vector)?;
                match space.name == DEFAULT {
                    true => document.vector = Some(vector),
                    false => drop(document.vectors.insert(name, vector)),
                }
            }
            Input::Vector(_) | Input::Text { .. } | Input::Point(_) => {
                let message = format!("point {shown}: the model of `{name}` makes its vectors; leave it out");
                return Err(Failure::invalid(message));
            }
        }
    }
    document.text = text;
    for name in &shape.vectors {
        let (_, space) = shape.space(Some(name))?;
        let given = if name.is_empty() { document.vector.is_some() } else { document.vectors.contains_key(name) };
        if !given && !has_model(space) {
            return Err(Failure::invalid(format!(
                "point {shown} has no vector `{name}`; every point has a vector in each space here"
            )));
        }
    }
    validate_content(&document.id, document.title.as_deref(), &document.text, &payload).map_err(crate::Error::from)?;
    document.metadata = Value::Object(payload);
    Ok(document)
}

/// Refuses a vector as Qdrant does.
pub(super) fn validate(shape: &Shape, name: &str, vector: &[f32]) -> Answer<()> {
    let (_, space) = shape.space(Some(name))?;
    if vector.len() != space.dims {
        let message =
            format!("Wrong input: Vector dimension error: expected dim: {}, got {}", space.dims, vector.len());
        return Err(Failure::of("dimension_mismatch", message));
    }
    space.metric.validate(vector).map_err(|reason| Failure::invalid(format!("Wrong input: the vector {reason}")))
}

fn write(shape: &Shape, documents: Vec<Document>, cancel: &AtomicBool) -> Answer<()> {
    let options = AddOptions { cancel: Some(cancel), ..AddOptions::default() };
    let report = shape.collection.add_with(documents.into_iter().map(Ok), &options)?;
    expect_waiting(cancel)?;
    match report.rejected.first() {
        None => Ok(()),
        Some(rejected) => Err(Failure::invalid(format!("point {}: {}", rejected.source, rejected.reason))),
    }
}

/// Which documents are meant: those of these ids, or those that a filter lets through when it is asked.
struct Selected {
    ids: Vec<DocumentId>,
    filter: Option<Filter>,
}

impl Selected {
    fn of(app: &App, name: &str, selector: &Selector, cancel: &AtomicBool) -> Answer<Self> {
        unsupported(&[("shard_key", &selector.shard_key)])?;
        let filter = read::filter(selector.filter.as_ref())?;
        let shape = Shape::of(app, name)?;
        let ids = match (&selector.points, &filter) {
            (Some(points), None) => ids::all_asked(points)?,
            (None, Some(filter)) => scope::matching(&shape.looked_at(cancel), Some(filter))?,
            (Some(_), Some(_)) | (None, None) => {
                return Err(Failure::invalid("give either `points` or a `filter`"));
            }
        };
        // Of those that are named, each once.
        let mut seen = HashSet::new();
        Ok(Self { ids: ids.into_iter().filter(|id| seen.insert(id.clone())).collect(), filter })
    }

    /// Those of these documents that are still meant, as they are now. Whoever names one that is not there is told.
    fn among(&self, shape: &Shape, ids: &[DocumentId]) -> Answer<Vec<(Document, Version)>> {
        let mut meant = Vec::with_capacity(ids.len());
        for id in ids {
            match (shape.snapshot.get_with_version(id.clone())?, &self.filter) {
                (Some((document, _)), Some(filter)) if !holds(shape, filter, &document) => {}
                (Some(found), _) => meant.push(found),
                (None, Some(_)) => {}
                (None, None) => return Err(no_point(id)),
            }
        }
        Ok(meant)
    }
}

fn delete(app: &App, name: &str, selector: &Selector, cancel: &AtomicBool) -> Answer<()> {
    let selected = Selected::of(app, name, selector, cancel)?;
    if selected.filter.is_none() {
        if !selected.ids.is_empty() {
            Shape::of(app, name)?.collection.delete_many(&selected.ids)?;
        }
        return Ok(());
    }
    settle(app, name, &selected.ids, cancel, |shape, ids| {
        let meant = selected.among(shape, ids)?;
        Ok(Edits::Delete(meant.into_iter().map(|(document, version)| (document.id, version.into())).collect()))
    })
}

fn set_payload(app: &App, name: &str, body: SetPayload, overwrite: bool, cancel: &AtomicBool) -> Answer<()> {
    let SetPayload { payload: new, points, filter, key, shard_key } = body;
    let selector = Selector { points, filter, shard_key };
    let path = key.as_deref().map(Path::parse).transpose()?;
    let keys: Vec<String> = match path.as_ref().map(Path::keys) {
        None => Vec::new(),
        Some(Some(keys)) if !overwrite => keys,
        Some(_) => return Err(Failure::invalid("`key` is a path without `[]`, and not for overwriting, here")),
    };
    edit(app, name, &selector, cancel, |payload| {
        if overwrite {
            payload.clear();
        }
        let mut place = payload;
        for key in &keys {
            let below = place.entry(key.as_str()).or_insert_with(|| Value::Object(Map::new()));
            if !below.is_object() {
                *below = Value::Object(Map::new());
            }
            let Some(object) = below.as_object_mut() else { return };
            place = object;
        }
        place.extend(new.clone());
    })
}

/// Reads documents, edits their payload, and writes them again; vectors stay.
pub(super) fn edit(
    app: &App,
    name: &str,
    selector: &Selector,
    cancel: &AtomicBool,
    edit: impl Fn(&mut Map<String, Value>),
) -> Answer<()> {
    let selected = Selected::of(app, name, selector, cancel)?;
    if selected.filter.is_none() {
        // Before any is edited.
        let shape = Shape::of(app, name)?;
        for id in &selected.ids {
            shape.snapshot.stored(id)?.ok_or_else(|| no_point(id))?;
        }
    }
    settle(app, name, &selected.ids, cancel, |shape, ids| {
        let mut documents = Vec::new();
        for (mut document, version) in selected.among(shape, ids)? {
            let mut payload = document.metadata.as_object().cloned().unwrap_or_default();
            edit(&mut payload);
            if shape.has_texts() && (payload.contains_key(TEXT) || payload.contains_key(TITLE)) {
                return Err(Failure::invalid(format!("`{TEXT}` and `{TITLE}` are changed by an upsert of the point")));
            }
            validate_content(&document.id, document.title.as_deref(), &document.text, &payload)
                .map_err(crate::Error::from)?;
            document.metadata = Value::Object(payload);
            documents.push((document, version.into()));
        }
        Ok(Edits::Put(documents))
    })
}

fn update_vectors(app: &App, name: &str, body: UpdateVectors, cancel: &AtomicBool) -> Answer<()> {
    unsupported(&[("shard_key", &body.shard_key), ("update_filter", &body.update_filter)])?;
    let shape = Shape::of(app, name)?;
    let points = embedded(app, &shape, body.points, cancel)?;
    for point in &points {
        // Before any is edited.
        updated(&shape, point)?;
    }
    drop(shape);
    settle(app, name, &points, cancel, |shape, points| {
        Ok(Edits::Put(points.iter().map(|point| updated(shape, point)).collect::<Answer<_>>()?))
    })
}

/// The document of a point with other vectors, and the version of the one that is there.
fn updated(shape: &Shape, point: &Point) -> Answer<(Document, ExpectedVersion)> {
    let Point { id, vectors, text, .. } = point.clone();
    let (stored, version) = shape.snapshot.get_with_version(id.clone())?.ok_or_else(|| no_point(&id))?;
    let Document { text: before, title, metadata, vector, vectors: others, expires_at, .. } = stored;
    let mut all: BTreeMap<String, Input> =
        others.into_iter().map(|(name, vector)| (name, Input::Vector(vector))).collect();
    let own = vector.filter(|_| !shape.has_names());
    all.extend(own.map(|vector| (String::new(), Input::Vector(vector))));
    all.extend(vectors);
    let payload = metadata.as_object().cloned().unwrap_or_default();
    let point = Point { id, vectors: all, payload, text: text.or(Some(before)), title };
    Ok((Document { expires_at, ..document(shape, point)? }, version.into()))
}
