//! Does this document satisfy the filter? Pure: JSON values in, a yes or no out.
//!
//! Invariant: the stack is bounded by the filter's depth and the length of its paths, both limited when it was read.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::field::Field;
use super::scalar::{Scalar, ScalarRef};
use super::{Node, Test};
use crate::DocumentId;

/// What a filter is asked about.
pub(super) struct Subject<'a> {
    pub(super) id: Option<&'a DocumentId>,
    pub(super) title: Option<&'a str>,
    pub(super) metadata: &'a Map<String, Value>,
}

pub(super) fn matches(node: &Node, subject: &Subject<'_>) -> bool {
    match node {
        Node::And(parts) => parts.iter().all(|part| matches(part, subject)),
        Node::Or(parts) => parts.iter().any(|part| matches(part, subject)),
        Node::Not(part) => !matches(part, subject),
        Node::Condition(field, test) => holds(field, test, subject),
    }
}

fn holds(field: &Field, test: &Test, subject: &Subject<'_>) -> bool {
    match test {
        Test::Exists(expected) => exists(field, subject) == *expected,
        Test::Differs(value) => !any_scalar(field, subject, &|found| found.order(value.borrow()).is_eq()),
        Test::NotIn(values) => !any_scalar(field, subject, &|found| listed(values, found)),
        Test::Equals(value) => any_scalar(field, subject, &|found| found.order(value.borrow()).is_eq()),
        Test::In(values) => any_scalar(field, subject, &|found| listed(values, found)),
        Test::Above(bound) => compares(field, subject, bound, Ordering::is_gt),
        Test::AtLeast(bound) => compares(field, subject, bound, Ordering::is_ge),
        Test::Below(bound) => compares(field, subject, bound, Ordering::is_lt),
        Test::AtMost(bound) => compares(field, subject, bound, Ordering::is_le),
        Test::Prefix(prefix) => any_scalar(
            field,
            subject,
            &|found| matches!(found, ScalarRef::Text(text) if text.starts_with(prefix.as_str())),
        ),
        Test::Contains(part) => contains(field, subject, part),
    }
}

fn exists(field: &Field, subject: &Subject<'_>) -> bool {
    match field {
        Field::Id => subject.id.is_some(),
        Field::Title => subject.title.is_some(),
        Field::Path(path) => path.any(subject.metadata, &|_| true),
    }
}

fn compares(field: &Field, subject: &Subject<'_>, bound: &Scalar, wanted: fn(Ordering) -> bool) -> bool {
    any_scalar(field, subject, &|found| found.against(bound.borrow()).is_some_and(wanted))
}

/// The values are sorted by [`ScalarRef::order`].
fn listed(values: &[Scalar], found: ScalarRef<'_>) -> bool {
    values.binary_search_by(|value| value.borrow().order(found)).is_ok()
}

/// Whether the test holds for the field's value, or for any element where that is an array.
fn any_scalar(field: &Field, subject: &Subject<'_>, test: &dyn Fn(ScalarRef<'_>) -> bool) -> bool {
    let scalar = |value: &Value| ScalarRef::of(value).is_some_and(test);
    match field {
        Field::Id => subject.id.is_some_and(|id| test_id(id, test)),
        Field::Title => subject.title.is_some_and(|title| test(ScalarRef::Text(title))),
        Field::Path(path) => path.any(subject.metadata, &|value| match value {
            Value::Array(elements) => elements.iter().any(scalar),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => scalar(value),
        }),
    }
}

fn test_id(id: &DocumentId, test: &dyn Fn(ScalarRef<'_>) -> bool) -> bool {
    match id {
        DocumentId::Integer(number) => test(ScalarRef::Number(&(*number).into())),
        DocumentId::Text(text) => test(ScalarRef::Text(text)),
    }
}

/// A part of a string, or an element of an array.
fn contains(field: &Field, subject: &Subject<'_>, part: &Scalar) -> bool {
    let within = |text: &str| matches!(part, Scalar::Text(part) if text.contains(part.as_str()));
    let same = |value: &Value| ScalarRef::of(value).is_some_and(|value| value.order(part.borrow()).is_eq());
    match field {
        Field::Id => matches!(subject.id, Some(DocumentId::Text(id)) if within(id)),
        Field::Title => subject.title.is_some_and(within),
        Field::Path(path) => path.any(subject.metadata, &|value| match value {
            Value::String(text) => within(text),
            Value::Array(elements) => elements.iter().any(same),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        }),
    }
}
