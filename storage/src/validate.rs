//! May this be stored?
//!
//! Invariant: what passes here can be written, read back the same, and ranked; nothing is cut or mended in silence.

use serde_json::{Map, Value};

use crate::{CollectionSettings, DocumentId, Error, Metric, NewChunk, NewDocument, Operation, Result, SpaceSettings};

/// The longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 30;
/// The longest title, and the longest heading path, in bytes.
pub const HEADING_BYTES_MAX: usize = 64 << 10;
/// The largest metadata, as JSON, in bytes.
pub const METADATA_BYTES_MAX: usize = 16 << 20;
/// The deepest metadata. JSON is read with a limit of 128, and what is written must be readable.
pub const METADATA_DEPTH_MAX: usize = 100;

/// # Errors
/// [`Error::InvalidInput`] or [`Error::DimensionMismatch`], naming document and chunk.
pub(crate) fn operation(settings: &CollectionSettings, operation: &Operation) -> Result<()> {
    match operation {
        Operation::Put(document) => self::document(settings, document),
        Operation::Delete(id) => id.validate(),
    }
}

fn document(settings: &CollectionSettings, document: &NewDocument) -> Result<()> {
    let NewDocument { id, title, text, metadata, digest: _, expires_at: _, chunks } = document;
    validate_content(id, title.as_deref(), text, metadata)?;
    for (ordinal, chunk) in chunks.iter().enumerate() {
        self::chunk(settings, text, chunk, &format!("document `{id}`, chunk {ordinal}"))?;
    }
    Ok(())
}

/// What a document must be whatever its chunks are. A batch is refused whole, so that whoever has many documents asks
/// for each of them first.
///
/// # Errors
/// [`Error::InvalidInput`], naming the document.
pub fn validate_content(id: &DocumentId, title: Option<&str>, text: &str, metadata: &Map<String, Value>) -> Result<()> {
    id.validate()?;
    let refuse = |what: String| Err(Error::invalid(format!("document `{id}`: {what}")));
    if text.len() > TEXT_BYTES_MAX {
        let bytes = text.len();
        return refuse(format!("its text has {bytes} bytes; the limit is {TEXT_BYTES_MAX}. Split it into several"));
    }
    let bytes = title.unwrap_or_default().len();
    if bytes > HEADING_BYTES_MAX {
        return refuse(format!("its title has {bytes} bytes; the limit is {HEADING_BYTES_MAX}. Shorten it"));
    }
    if !metadata.values().all(|value| is_shallow(value, METADATA_DEPTH_MAX - 1)) {
        return refuse(format!("its metadata is nested more than {METADATA_DEPTH_MAX} deep; make it flatter"));
    }
    let bytes = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
    if bytes > METADATA_BYTES_MAX {
        return refuse(format!(
            "its metadata has {bytes} bytes as JSON; the limit is {METADATA_BYTES_MAX}. Keep what is large in its text"
        ));
    }
    Ok(())
}

/// Looks at most `depth` levels deep, so that its own recursion is bounded.
fn is_shallow(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(values) => depth > 0 && values.iter().all(|value| is_shallow(value, depth - 1)),
        Value::Object(map) => depth > 0 && map.values().all(|value| is_shallow(value, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn chunk(settings: &CollectionSettings, text: &str, chunk: &NewChunk, owner: &str) -> Result<()> {
    let NewChunk { start, end, heading, vectors } = chunk;
    if text.get(*start..*end).is_none() {
        let length = text.len();
        return Err(Error::invalid(format!(
            "{owner}: bytes {start} to {end} are no part of a text of {length} bytes that ends between characters"
        )));
    }
    if heading.len() > HEADING_BYTES_MAX {
        let length = heading.len();
        return Err(Error::invalid(format!(
            "{owner}: its heading has {length} bytes; the limit is {HEADING_BYTES_MAX}"
        )));
    }
    if vectors.len() != settings.spaces.len() {
        let (got, expected) = (vectors.len(), settings.spaces.len());
        return Err(Error::invalid(format!("{owner}: it has {got} vectors; the collection has {expected} spaces")));
    }
    for (space, vector) in settings.spaces.iter().zip(vectors) {
        self::vector(space, vector, owner)?;
    }
    Ok(())
}

/// # Errors
/// [`Error::DimensionMismatch`] for another length; [`Error::InvalidInput`] where the metric cannot rank it.
pub(crate) fn vector(space: &SpaceSettings, vector: &[f32], owner: &str) -> Result<()> {
    let SpaceSettings { name, dims, metric } = space;
    dimensions(name, *dims, vector, owner)?;
    ranked(*metric, vector, owner)
}

/// # Errors
/// [`Error::DimensionMismatch`] for another length.
pub(crate) fn dimensions(space: &str, expected: usize, vector: &[f32], owner: &str) -> Result<()> {
    if vector.len() == expected {
        return Ok(());
    }
    Err(Error::DimensionMismatch { owner: owner.into(), space: space.into(), expected, got: vector.len() })
}

/// # Errors
/// [`Error::InvalidInput`] where the metric cannot rank the vector.
pub(crate) fn ranked(metric: Metric, vector: &[f32], owner: &str) -> Result<()> {
    metric.validate(vector).map_err(|reason| Error::invalid(format!("{owner}: the vector {reason}")))
}

/// # Errors
/// [`Error::InvalidInput`] where a collection runs out of chunk numbers.
pub(crate) fn room(next_chunk: u32, more: usize) -> Result<()> {
    if u64::from(next_chunk) + more as u64 <= u64::from(u32::MAX) {
        return Ok(());
    }
    Err(Error::invalid("the collection has used up its 4,294,967,295 chunk numbers; copy it into a new one"))
}

/// # Errors
/// [`Error::InvalidInput`] where a collection runs out of document numbers.
pub(crate) fn next_document(number: u32) -> Result<u32> {
    let next = number.checked_add(1);
    next.ok_or_else(|| Error::invalid("the collection has used up its document numbers; copy it into a new one"))
}
