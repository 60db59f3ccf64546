//! What does this JSON ask for?
//!
//! Invariants: depth and counts are checked on the way down, before anything below is looked at; every error names the
//! place within the filter.

use serde_json::Value;

use super::field::{Field, shown};
use super::scalar::Scalar;
use super::{Budget, DEPTH_MAX, Node, Test, too_deep};
use crate::{Error, Result};

pub(super) fn from_json(value: &Value) -> Result<Node> {
    Reader { budget: Budget::default() }.filter(value, 0, "the filter")
}

struct Reader {
    budget: Budget,
}

impl Reader {
    fn filter(&mut self, value: &Value, depth: usize, place: &str) -> Result<Node> {
        if depth > DEPTH_MAX {
            return Err(too_deep(place));
        }
        let Value::Object(object) = value else {
            return Err(Error::invalid(format!(
                "{place} is {}; a filter is an object such as {{\"year\": {{\"gte\": 2020}}}}",
                kind(value)
            )));
        };
        match object.iter().next() {
            Some((key, value)) if object.len() == 1 => self.entry(key, value, depth, place),
            Some(_) | None => {
                self.budget.condition()?;
                let parts = object.iter().map(|(key, value)| self.entry(key, value, depth + 1, place));
                Ok(Node::And(parts.collect::<Result<_>>()?))
            }
        }
    }

    fn entry(&mut self, key: &str, value: &Value, depth: usize, place: &str) -> Result<Node> {
        match key {
            "and" => Ok(Node::And(self.list(key, value, depth, place)?)),
            "or" => Ok(Node::Or(self.list(key, value, depth, place)?)),
            "not" => {
                self.budget.condition()?;
                let part = self.filter(value, depth + 1, &format!("`not` in {}", cut(place)))?;
                Ok(Node::Not(Box::new(part)))
            }
            _ => self.field(key, value),
        }
    }

    fn list(&mut self, key: &str, value: &Value, depth: usize, place: &str) -> Result<Vec<Node>> {
        self.budget.condition()?;
        let Value::Array(parts) = value else {
            return Err(Error::invalid(format!(
                "`{key}` in {} holds {}; it takes an array of filters. A field of this name is written `.{key}`",
                cut(place),
                kind(value)
            )));
        };
        let parts = parts.iter().enumerate();
        parts.map(|(at, part)| self.filter(part, depth + 1, &format!("`{key}`[{at}] in {}", cut(place)))).collect()
    }

    fn field(&mut self, name: &str, value: &Value) -> Result<Node> {
        let field = Field::parse(name)?;
        let Value::Object(operators) = value else {
            self.budget.condition()?;
            return Ok(Node::Condition(field, Test::Equals(scalar(name, "eq", value)?)));
        };
        let mut tests = operators.iter().map(|(operator, value)| self.condition(&field, name, operator, value));
        match operators.len() {
            0 => Err(Error::invalid(format!("field `{}` has no operator; write {{\"eq\": value}}", shown(name)))),
            1 => tests.next().unwrap_or_else(|| Err(no_operator(name, ""))),
            _ => Ok(Node::And(tests.collect::<Result<_>>()?)),
        }
    }

    fn condition(&mut self, field: &Field, name: &str, operator: &str, value: &Value) -> Result<Node> {
        self.budget.condition()?;
        let test = match operator {
            "eq" => Test::Equals(scalar(name, operator, value)?),
            "ne" => Test::Differs(scalar(name, operator, value)?),
            "in" => Test::In(self.values(name, operator, value)?),
            "nin" => Test::NotIn(self.values(name, operator, value)?),
            "gt" => Test::Above(bound(name, operator, value)?),
            "gte" => Test::AtLeast(bound(name, operator, value)?),
            "lt" => Test::Below(bound(name, operator, value)?),
            "lte" => Test::AtMost(bound(name, operator, value)?),
            "exists" => Test::Exists(value.as_bool().ok_or_else(|| wrong(name, operator, value, "true or false"))?),
            "prefix" => {
                Test::Prefix(value.as_str().ok_or_else(|| wrong(name, operator, value, "a string"))?.to_owned())
            }
            "contains" => Test::Contains(scalar(name, operator, value)?),
            _ => return Err(no_operator(name, operator)),
        };
        Ok(Node::Condition(field.clone(), test))
    }

    fn values(&mut self, name: &str, operator: &str, value: &Value) -> Result<Vec<Scalar>> {
        let Value::Array(elements) = value else { return Err(wrong(name, operator, value, "an array of values")) };
        let mut values = Vec::with_capacity(elements.len().min(1024));
        for element in elements {
            self.budget.value()?;
            values.push(scalar(name, operator, element)?);
        }
        Ok(sorted(values))
    }
}

/// Listed values as [`Test::In`] wants them.
pub(super) fn sorted(mut values: Vec<Scalar>) -> Vec<Scalar> {
    values.sort_by(|one, two| one.borrow().order(two.borrow()));
    values.dedup();
    values
}

fn scalar(name: &str, operator: &str, value: &Value) -> Result<Scalar> {
    let expected = "a string, number, boolean or null (`in` takes several, `contains` finds an element)";
    Scalar::from_json(value).ok_or_else(|| wrong(name, operator, value, expected))
}

fn bound(name: &str, operator: &str, value: &Value) -> Result<Scalar> {
    match scalar(name, operator, value)? {
        bound @ (Scalar::Number(_) | Scalar::Text(_)) => Ok(bound),
        Scalar::Null | Scalar::Bool(_) => Err(wrong(name, operator, value, "a number or a string")),
    }
}

fn wrong(name: &str, operator: &str, value: &Value, expected: &str) -> Error {
    Error::invalid(format!("`{operator}` of field `{}` takes {expected}; got {}", shown(name), kind(value)))
}

fn no_operator(name: &str, operator: &str) -> Error {
    Error::invalid(format!(
        "field `{}` has the operator `{}`, which there is not; use eq, ne, in, nin, gt, gte, lt, lte, exists, prefix or \
         contains. A field of an object is named with a dot: `{}.{}`",
        shown(name),
        shown(operator),
        shown(name),
        shown(operator)
    ))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A place in a message: the innermost levels are what helps.
fn cut(place: &str) -> &str {
    &place[..place.floor_char_boundary(120)]
}
