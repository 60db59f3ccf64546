//! Does this document's metadata satisfy that condition? Filters, in JSON and in a form for the command line.
//!
//! JSON: `{"and": [..]}`, `{"or": [..]}`, `{"not": {..}}`, and `{"field": {"operator": value}}` with the operators `eq`,
//! `ne`, `in`, `nin`, `gt`, `gte`, `lt`, `lte`, `exists`, `prefix` and `contains`. `{"field": value}` is short for `eq`;
//! several fields or several operators in one object must all hold; `{}` holds for every document. Operators are read
//! only within a field's object, so a field may have the name of one.
//!
//! String: `year >= 2020 AND lang IN ('en', 'de') AND NOT (draft = true OR title PREFIX 'A')`, `EXISTS author.name`,
//! `tags CONTAINS 'x'`; see [`Filter::from_str`]. A string that begins with `{` is JSON.
//!
//! What a condition means:
//!
//! * `author.name` looks into objects, and into each object of an array; a key that itself has the dots is found too.
//!   `$id` and `$title` are those of the document. A metadata field named `$id`, `and`, `or` or `not` is written with a
//!   dot before it: `.and`.
//! * An array holds what any of its elements holds. `contains` finds a part of a string, or an element of an array.
//! * Numbers compare by value and exactly (`1` is `1.0`; 2^53 + 1 is above 2^53 as a float), strings by their bytes;
//!   values of different types are neither equal nor ordered. `null` equals `null` only; a missing field equals nothing.
//! * `ne` and `nin` are `not eq` and `not in`, so they also hold for documents without the field.
//!
//! Invariants: at most [`DEPTH_MAX`] levels, [`CONDITIONS_MAX`] conditions and [`VALUES_MAX`] listed values, counted while
//! reading, so hostile input is an error and never a stack overflow; what is printed is read back as the same filter.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};

mod eval;
mod field;
pub(crate) mod index;
mod parse;
mod scalar;
mod text;

use field::Field;
use scalar::Scalar;

use crate::{DocumentId, Error, Result};

/// The most levels of `and`, `or`, `not` and parentheses.
pub const DEPTH_MAX: usize = 32;
/// The most conditions, `and`, `or` and `not` included.
pub const CONDITIONS_MAX: usize = 1024;
/// The most values that all `in` and `nin` of a filter list.
pub const VALUES_MAX: usize = 65_536;

/// A condition on a document's metadata, id and title. See the [module](self) for the language.
///
/// ```
/// use quiverdb_storage::Filter;
///
/// let filter: Filter = "year >= 2020 AND lang IN ('en', 'de')".parse()?;
/// assert_eq!(filter.to_string(), r#"{"and":[{"year":{"gte":2020}},{"lang":{"in":["de","en"]}}]}"#);
/// let metadata = serde_json::json!({"year": 2024, "lang": "en"});
/// assert!(filter.matches(metadata.as_object().unwrap()));
/// # Ok::<(), quiverdb_storage::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    node: Node,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Condition(Field, Test),
}

/// What is asked of a field's value.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equals(Scalar),
    Differs(Scalar),
    /// The values are sorted and distinct.
    In(Vec<Scalar>),
    NotIn(Vec<Scalar>),
    /// The bound is a number or a string.
    Above(Scalar),
    AtLeast(Scalar),
    Below(Scalar),
    AtMost(Scalar),
    Exists(bool),
    Prefix(String),
    Contains(Scalar),
}

impl Filter {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] saying what is wrong, where, and what would be right.
    pub fn from_json(value: &Value) -> Result<Self> {
        Self::checked(parse::from_json(value)?)
    }

    /// The canonical JSON form: operators written out, listed values sorted.
    pub fn to_json(&self) -> Value {
        to_json(&self.node)
    }

    /// Whether a document with this metadata, and with no id or title to ask for, satisfies the filter.
    pub fn matches(&self, metadata: &Map<String, Value>) -> bool {
        eval::matches(&self.node, &eval::Subject { id: None, title: None, metadata })
    }

    /// Whether a document satisfies the filter.
    pub fn matches_document(&self, id: &DocumentId, title: Option<&str>, metadata: &Map<String, Value>) -> bool {
        eval::matches(&self.node, &eval::Subject { id: Some(id), title, metadata })
    }

    /// The string form's parentheses are no levels, several keys of a JSON object are one: what counts is the result.
    fn checked(node: Node) -> Result<Self> {
        if depth(&node) > DEPTH_MAX {
            return Err(too_deep("the filter"));
        }
        Ok(Self { node })
    }
}

impl fmt::Display for Filter {
    /// Writes the canonical JSON form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(f)
    }
}

impl FromStr for Filter {
    type Err = Error;

    /// Reads the string form, or JSON where the string begins with `{`.
    ///
    /// Keywords in any case, from loose to tight: `OR`, `AND`, `NOT`. Conditions: `field = value` (also `==`, `!=`, `<>`,
    /// `<`, `<=`, `>`, `>=`), `field [NOT] IN (value, ..)`, `field [NOT] PREFIX 'text'`, `field [NOT] CONTAINS value`,
    /// `EXISTS field`. Values: numbers, `true`, `false`, `null`, and text in quotes, a quote within doubled
    /// (`'it''s'`). Field names are bare, or in backquotes or double quotes.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] saying what is wrong, at which character, and what would be right.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if !text.starts_with('{') {
            return Self::checked(text::from_text(text)?);
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Error::invalid(format!("the filter begins with `{{` but is no JSON: {error}")))?;
        Self::from_json(&value)
    }
}

fn depth(node: &Node) -> usize {
    match node {
        Node::And(parts) | Node::Or(parts) => 1 + parts.iter().map(depth).max().unwrap_or(0),
        Node::Not(part) => 1 + depth(part),
        Node::Condition(..) => 0,
    }
}

fn to_json(node: &Node) -> Value {
    match node {
        Node::And(parts) => json!({"and": parts.iter().map(to_json).collect::<Vec<_>>()}),
        Node::Or(parts) => json!({"or": parts.iter().map(to_json).collect::<Vec<_>>()}),
        Node::Not(part) => json!({"not": to_json(part)}),
        Node::Condition(field, test) => {
            let (operator, value) = test.to_json();
            json!({field.to_string(): {operator: value}})
        }
    }
}

impl Test {
    fn to_json(&self) -> (&'static str, Value) {
        let list = |values: &[Scalar]| Value::Array(values.iter().map(Scalar::to_json).collect());
        match self {
            Self::Equals(value) => ("eq", value.to_json()),
            Self::Differs(value) => ("ne", value.to_json()),
            Self::In(values) => ("in", list(values)),
            Self::NotIn(values) => ("nin", list(values)),
            Self::Above(value) => ("gt", value.to_json()),
            Self::AtLeast(value) => ("gte", value.to_json()),
            Self::Below(value) => ("lt", value.to_json()),
            Self::AtMost(value) => ("lte", value.to_json()),
            Self::Exists(exists) => ("exists", json!(exists)),
            Self::Prefix(prefix) => ("prefix", json!(prefix)),
            Self::Contains(value) => ("contains", value.to_json()),
        }
    }
}

/// Counts what a filter holds while it is read.
#[derive(Default)]
struct Budget {
    conditions: usize,
    values: usize,
}

impl Budget {
    fn condition(&mut self) -> Result<()> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            return Err(Error::invalid(format!(
                "the filter has more than {CONDITIONS_MAX} conditions; list values with `in` in place of many `or`"
            )));
        }
        Ok(())
    }

    fn value(&mut self) -> Result<()> {
        self.values += 1;
        if self.values > VALUES_MAX {
            let message = format!("the filter lists more than {VALUES_MAX} values; ask in several searches");
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}

fn too_deep(place: &str) -> Error {
    Error::invalid(format!("{place} is nested more than {DEPTH_MAX} levels deep; flatten its `and`, `or` and `not`"))
}

#[cfg(test)]
mod tests;
