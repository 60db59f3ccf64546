//! Which values of a document does this name mean?
//!
//! Invariant: a name leads through at most [`PARTS_MAX`] objects, so following it needs no deep stack, whatever the
//! metadata hold.

use std::fmt;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// The most names that a path joins by dots.
pub(super) const PARTS_MAX: usize = 32;
/// Names that mean something else at the beginning of a path, unless a dot stands before them.
const RESERVED: [&str; 3] = ["and", "or", "not"];

/// The name of a field, or of the document's id or title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Title,
    Path(Path),
}

/// A dotted path into the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    text: String,
    /// Where each name begins in `text`.
    starts: Vec<usize>,
}

impl Field {
    pub(super) fn parse(name: &str) -> Result<Self> {
        match name {
            "$id" => return Ok(Self::Id),
            "$title" => return Ok(Self::Title),
            _ => {}
        }
        if name.starts_with('$') {
            return Err(Error::invalid(format!(
                "`{}` is no field; there are $id and $title, and a metadata field of this name is written with a dot \
                 before it",
                shown(name)
            )));
        }
        let text = name.strip_prefix('.').unwrap_or(name).to_owned();
        let starts: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('.').map(|(dot, _)| dot + 1)).take(PARTS_MAX + 1).collect();
        if starts.len() > PARTS_MAX {
            return Err(Error::invalid(format!(
                "field name `{}` joins more than {PARTS_MAX} names; the limit keeps paths readable",
                shown(name)
            )));
        }
        if text.split('.').any(str::is_empty) {
            return Err(Error::invalid(format!(
                "field name `{}` has an empty part; write `field` or `field.inner`",
                shown(name)
            )));
        }
        Ok(Self::Path(Path { text, starts }))
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("$id"),
            Self::Title => f.write_str("$title"),
            Self::Path(path) if RESERVED.contains(&path.text.as_str()) || path.text.starts_with('$') => {
                write!(f, ".{}", path.text)
            }
            Self::Path(path) => f.write_str(&path.text),
        }
    }
}

impl Path {
    /// Whether the test holds for any of the values that the path leads to.
    pub(super) fn any(&self, metadata: &Map<String, Value>, test: &dyn Fn(&Value) -> bool) -> bool {
        self.any_from(0, metadata, test)
    }

    fn any_from(&self, part: usize, object: &Map<String, Value>, test: &dyn Fn(&Value) -> bool) -> bool {
        if object.get(self.rest(part)).is_some_and(test) {
            return true;
        }
        let Some(name) = self.name(part) else { return false };
        match object.get(name) {
            Some(Value::Object(inner)) => self.any_from(part + 1, inner, test),
            Some(Value::Array(elements)) => {
                elements.iter().filter_map(Value::as_object).any(|inner| self.any_from(part + 1, inner, test))
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => false,
        }
    }

    /// The path from this part on: what a key is called that ends it.
    pub(super) fn rest(&self, part: usize) -> &str {
        &self.text[self.starts[part]..]
    }

    /// The name of this part, where another follows.
    pub(super) fn name(&self, part: usize) -> Option<&str> {
        let next = self.starts.get(part + 1)?;
        Some(&self.text[self.starts[part]..next - 1])
    }
}

/// The beginning of what somebody wrote, fit for a message.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown.escape_debug().to_string()
}
