//! Which document is this point?
//!
//! Qdrant's points are called by whole numbers of 64 bits or by UUIDs, ours by signed numbers or text. Invariants: a number is
//! a number again, those above `i64::MAX` too (they are stored as their digits); a UUID comes back in lower case with hyphens,
//! however it was written.

use quiverdb_storage::DocumentId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::app::Answer;
use crate::server::failure::Failure;

/// The id of a point that is to be written.
pub(super) fn written(value: &Value) -> Answer<DocumentId> {
    known(value)?.ok_or_else(|| refused(value))
}

/// The id of a point that may be there. Documents that were not added as points may have any text as their id.
pub(super) fn asked(value: &Value) -> Answer<DocumentId> {
    match (known(value)?, value.as_str()) {
        (Some(id), _) => Ok(id),
        (None, Some(text)) if !text.is_empty() => Ok(DocumentId::Text(text.to_owned())),
        (None, _) => Err(refused(value)),
    }
}

/// Several of [`asked`].
pub(super) fn all_asked(values: &[Value]) -> Answer<Vec<DocumentId>> {
    values.iter().map(asked).collect()
}

/// The id of a document as Qdrant's clients read it.
pub(super) fn shown(id: &DocumentId) -> Value {
    match id {
        DocumentId::Integer(number) => json!(number),
        DocumentId::Text(text) => large(text).map_or_else(|| json!(text), |number| json!(number)),
    }
}

fn known(value: &Value) -> Answer<Option<DocumentId>> {
    if let Some(number) = value.as_u64() {
        return Ok(Some(
            i64::try_from(number).map_or_else(|_| DocumentId::Text(number.to_string()), DocumentId::Integer),
        ));
    }
    if value.is_number() && value.as_i64().is_none() {
        return Err(refused(value));
    }
    // Points have none below 0, and documents may.
    if let Some(number) = value.as_i64() {
        return Ok(Some(DocumentId::Integer(number)));
    }
    let uuid = value.as_str().and_then(|text| Uuid::parse_str(text).ok());
    Ok(uuid.map(|uuid| DocumentId::Text(uuid.hyphenated().to_string())))
}

/// A number that has no place among signed ones, of its digits.
fn large(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number > i64::MAX.unsigned_abs() && text == number.to_string()).then_some(number)
}

fn refused(value: &Value) -> Failure {
    let shown: String = value.to_string().chars().take(80).collect();
    Failure::invalid(format!(
        "value {shown} is not a valid point ID, valid values are either an unsigned integer or a UUID"
    ))
}
