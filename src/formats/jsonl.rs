//! Which document does this line of JSON hold?
//!
//! `{"id"|"_id": ..., "text": ..., "title"?: ..., "metadata"?: {...}, "vector"?: [...], "vectors"?: {"space": [...]},
//! "expires_at"?: RFC 3339, a date or seconds since 1970}`;
//! other keys of the top level go to the metadata. A line that is no document is rejected with its number, and the next line is read.
//!
//! It does not check what the collection checks (id length, vector length, NaN).

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Loaded, rejected};
use crate::DocumentId;
use crate::moment;
use crate::types::{Document, Embedded, Rejected};

/// Documents of a JSON Lines source, in its order. Made by [`load_jsonl`].
pub struct Jsonl<R> {
    reader: R,
    name: String,
    line: usize,
    lossy: u64,
    failed: bool,
    ids_from_content: bool,
}

/// Reads documents, one a line; blank lines are skipped. `name` stands for the source in messages, and a document
/// without an id gets `name#line`.
///
/// ```
/// let lines = "{\"_id\": 7, \"text\": \"seven\", \"lang\": \"en\"}\n{\"text\": \"eight\"}\n";
/// let documents: Vec<_> = quiverdb::formats::load_jsonl(lines.as_bytes(), "stdin").map(Result::unwrap).collect();
/// assert_eq!(documents[0].id, 7.into());
/// assert_eq!(documents[0].metadata["lang"], "en");
/// assert_eq!(documents[1].id, "stdin#2".into());
/// ```
pub fn load_jsonl<R: BufRead>(reader: R, name: impl Into<String>) -> Jsonl<R> {
    Jsonl { reader, name: name.into(), line: 0, lossy: 0, failed: false, ids_from_content: false }
}

impl<R> Jsonl<R> {
    /// Names documents without an id by their content (`name#` and 16 hexadecimal digits) instead of their line: for
    /// streams, whose first line is another one every time.
    #[must_use]
    pub fn ids_from_content(mut self) -> Self {
        self.ids_from_content = true;
        self
    }

    /// How many of the lines so far were not valid UTF-8 and had bytes replaced; their documents' metadata say
    /// `"lossy": true`.
    pub fn lossy(&self) -> u64 {
        self.lossy
    }

    fn reject(&self, reason: impl std::fmt::Display) -> Rejected {
        rejected(format!("{}:{}", self.name, self.line), format!("line {}: {reason}", self.line))
    }

    fn read(&mut self, bytes: &[u8]) -> Loaded {
        let text = String::from_utf8_lossy(bytes);
        let lossy = matches!(text, std::borrow::Cow::Owned(_));
        self.lossy += u64::from(lossy);
        let value: Value = serde_json::from_str(text.trim())
            .map_err(|error| self.reject(format!("not valid JSON ({})", without_line(&error))))?;
        let fallback = || match self.ids_from_content {
            true => format!("{}#{}", self.name, short_digest(text.trim())),
            false => format!("{}#{}", self.name, self.line),
        };
        let mut document = document(value, fallback).map_err(|reason| self.reject(reason))?;
        if lossy {
            document.metadata["lossy"] = Value::Bool(true);
        }
        Ok(document)
    }
}

/// The first 8 bytes of the text's SHA-256, in hexadecimal.
pub(crate) fn short_digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl<R: BufRead> Iterator for Jsonl<R> {
    type Item = Loaded;

    fn next(&mut self) -> Option<Loaded> {
        while !self.failed {
            let mut bytes = Vec::new();
            self.line += 1;
            match self.reader.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    self.failed = true;
                    return Some(Err(
                        self.reject(format!("cannot be read ({error}); the lines after it were not read"))
                    ));
                }
            }
            let mark = if self.line == 1 && bytes.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
            let line = bytes[mark..].trim_ascii();
            if !line.is_empty() {
                return Some(self.read(line));
            }
        }
        None
    }
}

/// What is wrong, and in which column. The line is said elsewhere: serde_json counts from the beginning of what it was
/// given, for one row always 1.
pub(super) fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let words = message.rfind(" at line ").map_or(message.as_str(), |at| &message[..at]);
    format!("{words} at column {}", error.column())
}

/// Whether a JSON value has the shape of a document.
pub(super) fn looks_like_document(value: &Value) -> bool {
    value.get("text").is_some_and(Value::is_string) || value.get("vector").is_some_and(Value::is_array)
}

/// The document that a JSON object holds; `id` names those without one.
pub(crate) fn document(value: Value, id: impl FnOnce() -> String) -> std::result::Result<Document, String> {
    let Value::Object(mut object) = value else {
        return Err(format!("{} is no document; a document is an object with `text`", shape(&value)));
    };
    let id = match take(&mut object, "id").or_else(|| take(&mut object, "_id")) {
        Some(value) => document_id(value)?,
        None => DocumentId::Text(id()),
    };
    let title = take(&mut object, "title").map(|value| string("title", value)).transpose()?;
    let text = take(&mut object, "text").map(|value| string("text", value)).transpose()?;
    let vector = take(&mut object, "vector").map(|value| numbers("vector", &value)).transpose()?;
    let vectors = take(&mut object, "vectors").map(vectors).transpose()?.unwrap_or_default();
    if text.is_none() && vector.is_none() && vectors.is_empty() {
        return Err("it has neither `text` nor `vector`; add one of them".to_owned());
    }
    let expires_at = take(&mut object, "expires_at").map(moment).transpose()?;
    let embedded = embedded(&mut object);
    let metadata = metadata(object)?;
    let (text, metadata) = (text.unwrap_or_default(), Value::Object(metadata));
    Ok(Document { id, text, title, metadata, vector, vectors, expires_at, embedded })
}

/// What an export carries under `embedded`. Anything else of that name is metadata.
fn embedded(object: &mut Map<String, Value>) -> Option<Box<Embedded>> {
    let embedded = Embedded::deserialize(object.get("embedded")?).ok()?;
    object.shift_remove("embedded");
    Some(Box::new(embedded))
}

/// Takes a key out; null is as good as absent.
fn take(object: &mut Map<String, Value>, key: &str) -> Option<Value> {
    object.shift_remove(key).filter(|value| !value.is_null())
}

fn string(key: &str, value: Value) -> std::result::Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("`{key}` is {}; it must be a string", shape(&value)))
        }
    }
}

fn document_id(value: Value) -> std::result::Result<DocumentId, String> {
    match value {
        Value::String(text) => Ok(DocumentId::Text(text)),
        Value::Number(ref number) if number.is_i64() => Ok(DocumentId::Integer(number.as_i64().unwrap_or_default())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("`id` is {}; it must be a string or a whole number of 64 bits", shape(&value)))
        }
    }
}

/// An array of numbers; `key` is what messages call it.
fn numbers(key: &str, value: &Value) -> std::result::Result<Vec<f32>, String> {
    let Value::Array(values) = value else {
        return Err(format!("`{key}` is {}; it must be an array of numbers", shape(value)));
    };
    let number = |(at, value): (usize, &Value)| {
        value
            .as_f64()
            .map(|number| number as f32)
            .ok_or_else(|| format!("`{key}[{at}]` is {}; it must be a number", shape(value)))
    };
    values.iter().enumerate().map(number).collect()
}

/// A time of day: RFC 3339, a date (midnight in UTC), or seconds since 1970.
pub(super) fn moment(value: Value) -> std::result::Result<moment::Moment, String> {
    let read = match &value {
        Value::String(text) => moment::parse(text),
        Value::Number(number) => {
            let millis = number.as_f64().map(|seconds| seconds * 1e3).filter(|millis| (0.0..1e18).contains(millis));
            // Beyond the year 9999, which is what milliseconds come to that are taken for seconds, no format can write it.
            let writable = |millis: &u64| moment::rfc3339_of_millis(*millis).is_some();
            millis.map(|millis| millis.round() as u64).filter(writable).and_then(moment::of_millis)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    read.ok_or_else(|| {
        format!(
            "`expires_at` is {}; it must be a time like \"2030-01-31T12:00:00Z\" (RFC 3339, with a zone), a date like \"2030-01-31\" (its \
             midnight in UTC) or seconds since 1970",
            shape(&value)
        )
    })
}

/// The vectors of further spaces; one that is null is as good as absent.
fn vectors(value: Value) -> std::result::Result<BTreeMap<String, Vec<f32>>, String> {
    let Value::Object(vectors) = value else {
        return Err(format!("`vectors` is {}; it must be an object of one vector a space", shape(&value)));
    };
    let named = |(space, value): (String, Value)| {
        let vector = numbers(&format!("vectors.{space}"), &value)?;
        Ok((space, vector))
    };
    vectors.into_iter().filter(|(_, value)| !value.is_null()).map(named).collect()
}

/// The `metadata` object together with the other keys of the top level.
fn metadata(mut rest: Map<String, Value>) -> std::result::Result<Map<String, Value>, String> {
    let mut metadata = match take(&mut rest, "metadata") {
        None => return Ok(rest),
        Some(Value::Object(metadata)) => metadata,
        Some(other) => return Err(format!("`metadata` is {}; it must be an object", shape(&other))),
    };
    for (key, value) in rest {
        if metadata.get(&key).is_some_and(|there| *there != value) {
            return Err(format!(
                "`{key}` stands beside `metadata` and, with another value, inside it; keep one of them"
            ));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

/// A value in words, short.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the string {:?}", text.chars().take(32).collect::<String>()),
        Value::Array(values) => format!("an array of {}", values.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn read(lines: &str) -> Vec<Loaded> {
        load_jsonl(lines.as_bytes(), "f.jsonl").collect()
    }

    fn reason(line: &str) -> String {
        read(line).remove(0).unwrap_err().reason
    }

    #[test]
    fn all_fields_are_taken() {
        let line =
            r#"{"id":"a","text":"t","title":"T","metadata":{"x":1},"vector":[1,2.5],"vectors":{"b":[3]},"year":2020}"#;
        let document = read(line).remove(0).unwrap();
        assert_eq!(document.id, "a".into());
        assert_eq!((document.text.as_str(), document.title.as_deref()), ("t", Some("T")));
        assert_eq!(document.vector, Some(vec![1.0, 2.5]));
        assert_eq!(document.vectors, [("b".to_owned(), vec![3.0])].into());
        assert_eq!(document.metadata, json!({"x": 1, "year": 2020}));
    }

    #[test]
    fn ids_are_kept_as_given_and_made_where_missing() {
        let documents =
            read("\u{feff}{\"_id\":7,\"text\":\"\"}\r\n\n{\"id\":\"7\",\"text\":\"\"}\n{\"id\":null,\"text\":\"\"}");
        let ids: Vec<DocumentId> = documents.into_iter().map(|document| document.unwrap().id).collect();
        assert_eq!(ids, [7.into(), "7".into(), "f.jsonl#4".into()]);
    }

    #[test]
    fn both_kinds_of_id_are_kept() {
        let document = read(r#"{"_id":1,"id":2,"text":"t"}"#).remove(0).unwrap();
        assert_eq!(document.id, 2.into());
        assert_eq!(document.metadata, json!({"_id": 1}));
    }

    #[test]
    fn a_bad_line_is_rejected_with_its_number_and_the_next_is_read() {
        let documents = read("{\"text\":\"a\"}\nnot json\n{\"text\":\"b\"}\n");
        assert_eq!(documents.len(), 3);
        let rejected = documents[1].as_ref().unwrap_err();
        assert_eq!(rejected.source, "f.jsonl:2");
        assert_eq!(rejected.reason, "line 2: not valid JSON (expected ident at column 2)");
        assert!(documents[2].is_ok());
    }

    #[test]
    fn reasons_name_the_key_and_the_way_out() {
        assert_eq!(reason("{\"id\":1}"), "line 1: it has neither `text` nor `vector`; add one of them");
        assert_eq!(reason("[1]"), "line 1: an array of 1 is no document; a document is an object with `text`");
        assert_eq!(reason("{\"text\":5}"), "line 1: `text` is 5; it must be a string");
        assert_eq!(
            reason("{\"text\":\"\",\"id\":1.5}"),
            "line 1: `id` is 1.5; it must be a string or a whole number of 64 bits"
        );
        assert!(reason("{\"text\":\"\",\"id\":18446744073709551615}").contains("must be a string or a whole number"));
        assert_eq!(reason("{\"vector\":[1,null]}"), "line 1: `vector[1]` is null; it must be a number");
        assert_eq!(reason("{\"vectors\":{\"a\":1}}"), "line 1: `vectors.a` is 1; it must be an array of numbers");
        assert_eq!(
            reason("{\"text\":\"\",\"metadata\":[]}"),
            "line 1: `metadata` is an array of 0; it must be an object"
        );
        assert!(reason("{\"text\":\"\",\"x\":1,\"metadata\":{\"x\":2}}").contains("keep one of them"));
    }

    #[test]
    fn lines_that_are_no_utf8_are_read_marked_and_counted() {
        let mut lines = load_jsonl(&b"{\"text\":\"gr\xfcn\"}\n"[..], "f");
        let document = lines.next().unwrap().unwrap();
        assert_eq!(document.text, "gr\u{fffd}n");
        assert_eq!(document.metadata, json!({"lossy": true}));
        assert_eq!(lines.lossy(), 1);
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let line = format!("{{\"text\":\"t\",\"x\":{}", "[".repeat(100_000));
        assert!(reason(&line).contains("recursion limit"));
    }
}
