//! What does a client see of a document, and of which vectors is a point made?
//!
//! A point's payload is its document's metadata. In collections whose own model reads texts, `$text` is the text besides (of a
//! hit, the passage) and `$title` the title, in both directions; elsewhere a payload comes back exactly as it was given.
//! Vectors of a cosine space come back with length 1, as from Qdrant.

use std::collections::BTreeMap;

use quiverdb_storage::{DocumentId, Metric, StoredDocument};
use serde_json::{Map, Value, json};

use super::ids;
use super::path::{Path, Tree};
use super::shape::Shape;
use crate::server::app::Answer;
use crate::server::failure::Failure;

/// Where the text of a document of texts is in its payload.
pub(super) const TEXT: &str = "$text";
/// Where its title is.
pub(super) const TITLE: &str = "$title";

/// A vector as a client gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Vector(Vec<f32>),
    /// A text, and the name of the model that reads it.
    Text {
        text: String,
        model: String,
    },
    /// That of a point.
    Point(DocumentId),
}

impl Input {
    /// A vector, a text, or, where one is asked for, a point.
    pub(super) fn parse(value: &Value) -> Answer<Self> {
        if let Some(values) = value.as_array() {
            if values.iter().any(Value::is_array) {
                return Err(Failure::invalid("multivectors are not supported here; give one dense vector"));
            }
            let number = |value: &Value| {
                let number = value.as_f64().filter(|number| (*number as f32).is_finite());
                number
                    .map(|number| number as f32)
                    .ok_or_else(|| Failure::invalid(format!("a vector cannot hold {value}")))
            };
            return Ok(Self::Vector(values.iter().map(number).collect::<Answer<_>>()?));
        }
        let Some(object) = value.as_object() else { return Ok(Self::Point(ids::asked(value)?)) };
        if object.contains_key("indices") {
            return Err(Failure::invalid("sparse vectors are not supported here; give one dense vector"));
        }
        let known = |key: &str| ["text", "model", "options"].contains(&key);
        if let Some(other) = object.keys().find(|key| !known(key)) {
            return Err(Failure::invalid(format!(
                "a vector with `{other}` is not supported here; give numbers, or a text and a model"
            )));
        }
        if object.get("options").is_some_and(|options| !options.is_null() && *options != json!({})) {
            return Err(Failure::invalid("`options` of a document are not supported here"));
        }
        match (object.get("text").and_then(Value::as_str), object.get("model").and_then(Value::as_str)) {
            (Some(text), Some(model)) => Ok(Self::Text { text: text.to_owned(), model: model.to_owned() }),
            _ => Err(Failure::invalid("a document has a `text` and the name of a `model`")),
        }
    }
}

/// The vectors of a point, by name.
pub(super) fn vectors(value: &Value) -> Answer<BTreeMap<String, Input>> {
    let is_text = value.get("text").is_some_and(Value::is_string) && value.get("model").is_some_and(Value::is_string);
    let named = value.as_object().filter(|_| !is_text);
    let stored = |value: &Value| match Input::parse(value)? {
        Input::Point(_) => Err(Failure::invalid(format!("a vector cannot be {value}"))),
        input @ (Input::Vector(_) | Input::Text { .. }) => Ok(input),
    };
    match named {
        Some(named) => named.iter().map(|(name, value)| Ok((name.clone(), stored(value)?))).collect(),
        None => Ok(BTreeMap::from([(String::new(), stored(value)?)])),
    }
}

/// Which part of the payload is wanted.
#[derive(Debug)]
pub(super) enum WithPayload {
    None,
    All,
    Include(Tree),
    Exclude(Tree),
}

impl WithPayload {
    pub(super) fn parse(value: Option<&Value>, usual: bool) -> Answer<Self> {
        let keys = |value: &Value| -> Answer<Tree> {
            let keys = value.as_array().ok_or_else(|| refused(value))?;
            let path = |key: &Value| Path::parse(key.as_str().ok_or_else(|| refused(value))?);
            Ok(Tree::of(&keys.iter().map(path).collect::<Answer<Vec<_>>>()?))
        };
        let refused = |value| Err(refused(value));
        match value.filter(|value| !value.is_null()) {
            None => Ok(if usual { Self::All } else { Self::None }),
            Some(Value::Bool(true)) => Ok(Self::All),
            Some(Value::Bool(false)) => Ok(Self::None),
            Some(list) if list.is_array() => Ok(Self::Include(keys(list)?)),
            Some(value) => match value.as_object().map(|object| object.iter().collect::<Vec<_>>()).as_deref() {
                Some([(key, list)]) if *key == "include" => Ok(Self::Include(keys(list)?)),
                Some([(key, list)]) if *key == "exclude" => Ok(Self::Exclude(keys(list)?)),
                _ => refused(value),
            },
        }
    }

    fn of(&self, payload: Map<String, Value>) -> Value {
        match self {
            Self::None => Value::Null,
            Self::All => Value::Object(payload),
            Self::Include(tree) => tree.include(&Value::Object(payload)),
            Self::Exclude(tree) => tree.exclude(&Value::Object(payload)),
        }
    }
}

fn refused(value: &Value) -> Failure {
    Failure::invalid(format!("with_payload is true, false, a list of keys, include or exclude; got {value}"))
}

/// Which vectors are wanted.
#[derive(Debug)]
pub(super) enum WithVector {
    None,
    All,
    Named(Vec<String>),
}

impl WithVector {
    pub(super) fn parse(value: Option<&Value>) -> Answer<Self> {
        match value.filter(|value| !value.is_null()) {
            None | Some(Value::Bool(false)) => Ok(Self::None),
            Some(Value::Bool(true)) => Ok(Self::All),
            Some(value) => {
                let refused =
                    || Failure::invalid(format!("with_vector is true, false or a list of names; got {value}"));
                let names = value.as_array().ok_or_else(refused)?;
                let name = |name: &Value| name.as_str().map(str::to_owned).ok_or_else(refused);
                Ok(Self::Named(names.iter().map(name).collect::<Answer<_>>()?))
            }
        }
    }
}

/// What is shown of points.
#[derive(Debug)]
pub(super) struct View {
    pub(super) payload: WithPayload,
    pub(super) vector: WithVector,
}

impl View {
    /// What `with_payload` and `with_vector` ask for.
    pub(super) fn parse(payload: Option<&Value>, usual: bool, vector: Option<&Value>) -> Answer<Self> {
        Ok(Self { payload: WithPayload::parse(payload, usual)?, vector: WithVector::parse(vector)? })
    }

    /// A document as a point; of a hit, its chunk.
    pub(super) fn show(&self, shape: &Shape, stored: StoredDocument, chunk: Option<(u32, &str)>) -> Answer<Value> {
        let vector = self.vectors_of(shape, &stored.id, chunk.map_or(0, |(chunk, _)| chunk))?;
        let mut point = json!({"id": ids::shown(&stored.id)});
        if !matches!(self.payload, WithPayload::None) {
            point["payload"] = self.payload.of(payload(shape, stored, chunk.map(|(_, text)| text)));
        }
        if !vector.is_null() {
            point["vector"] = vector;
        }
        Ok(point)
    }

    fn vectors_of(&self, shape: &Shape, id: &DocumentId, chunk: u32) -> Answer<Value> {
        let names = match &self.vector {
            WithVector::None => return Ok(Value::Null),
            WithVector::All => &shape.vectors,
            WithVector::Named(names) => names,
        };
        let Some(stored) = shape.snapshot.chunk_vectors(id, chunk)? else { return Ok(Value::Null) };
        let mut shown = Map::new();
        for name in names {
            let (place, space) = shape.space(Some(name))?;
            shown.insert(name.clone(), json!(as_compared(space.metric, &stored[place])));
        }
        Ok(match shown.get("").filter(|_| !shape.is_named()) {
            Some(only) => only.clone(),
            None => Value::Object(shown),
        })
    }
}

/// The payload of a document.
pub(super) fn payload(shape: &Shape, stored: StoredDocument, passage: Option<&str>) -> Map<String, Value> {
    let StoredDocument { text, title, metadata, .. } = stored;
    let mut payload = metadata;
    if shape.has_texts() {
        payload.insert(TEXT.to_owned(), json!(passage.unwrap_or(&text)));
        title.into_iter().for_each(|title| drop(payload.insert(TITLE.to_owned(), json!(title))));
    }
    payload
}

/// A vector as it is compared: of length 1 where the angle counts.
pub(super) fn as_compared(metric: Metric, vector: &[f32]) -> Vec<f32> {
    if metric != Metric::Cosine {
        return vector.to_vec();
    }
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length == 0.0 {
        return vector.to_vec();
    }
    vector.iter().map(|value| (f64::from(*value) / length) as f32).collect()
}
