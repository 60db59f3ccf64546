//! Does this payload satisfy a filter of Qdrant's? Reads the filter and answers for one document.
//!
//! Invariants: what is not known is refused by its name; booleans, whole numbers and floats are never the same value, as in
//! Qdrant; bounds of a range hold for one and the same value.

use std::cmp::Ordering;
use std::collections::HashSet;

use quiverdb_storage::DocumentId;
use serde_json::{Map, Number, Value};

use super::path::Path;
use super::{ids, moments};
use crate::server::app::Answer;
use crate::server::failure::Failure;

/// A filter; an empty one lets everything through.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) must: Vec<Condition>,
    pub(super) must_not: Vec<Condition>,
    pub(super) should: Vec<Condition>,
    pub(super) min_should: Option<(Vec<Condition>, u64)>,
}

#[derive(Debug)]
pub(super) enum Condition {
    Field(Path, Test),
    HasId(HashSet<DocumentId>),
    HasVector(String),
    Nested(Path, Filter),
    Filter(Filter),
}

#[derive(Debug)]
pub(super) enum Test {
    Any(Vec<Exact>),
    Except(Vec<Exact>),
    /// All of these words, in any order.
    Words(Vec<String>),
    AnyWord(Vec<String>),
    Phrase(Vec<String>),
    Prefix(String),
    Substring(String),
    Range(Bounds<Number>),
    Moments(Bounds<i64>),
    Counts(Bounds<u64>),
    IsEmpty(bool),
    IsNull(bool),
}

/// A value that is compared as it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Exact {
    Bool(bool),
    Whole(i128),
    Text(String),
}

#[derive(Debug)]
pub(super) struct Bounds<T> {
    pub(super) lt: Option<T>,
    pub(super) lte: Option<T>,
    pub(super) gt: Option<T>,
    pub(super) gte: Option<T>,
}

/// What a filter is asked about. Objects within arrays have no id and no vectors.
pub(super) struct Subject<'a> {
    pub(super) id: Option<&'a DocumentId>,
    pub(super) payload: &'a Map<String, Value>,
    /// The names of the vectors that every point has.
    pub(super) vectors: &'a [String],
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::invalid(message)
}

impl Filter {
    pub(super) fn parse(value: &Value) -> Answer<Self> {
        let object = value.as_object().ok_or_else(|| invalid("a filter is an object"))?;
        let mut filter = Self::default();
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "must" => filter.must = conditions(value)?,
                "must_not" => filter.must_not = conditions(value)?,
                "should" => filter.should = conditions(value)?,
                "min_should" => {
                    let count = value["min_count"].as_u64().filter(|count| *count > 0);
                    let count = count.ok_or_else(|| invalid("min_should needs a min_count of 1 or more"))?;
                    filter.min_should = Some((conditions(&value["conditions"])?, count));
                }
                other => {
                    return Err(invalid(format!("a filter has must, should, must_not and min_should; got `{other}`")));
                }
            }
        }
        Ok(filter)
    }

    pub(super) fn holds(&self, subject: &Subject<'_>) -> bool {
        let holds = |condition: &Condition| condition.holds(subject);
        let enough = |(conditions, count): &(Vec<Condition>, u64)| {
            conditions.iter().filter(|condition| holds(condition)).count() as u64 >= *count
        };
        self.must.iter().all(holds)
            && !self.must_not.iter().any(holds)
            && (self.should.is_empty() || self.should.iter().any(holds))
            && self.min_should.as_ref().is_none_or(enough)
    }
}

/// A condition, or a list of them.
fn conditions(value: &Value) -> Answer<Vec<Condition>> {
    match value.as_array() {
        Some(values) => values.iter().map(Condition::parse).collect(),
        None => Ok(vec![Condition::parse(value)?]),
    }
}

impl Condition {
    fn parse(value: &Value) -> Answer<Self> {
        let object = value.as_object().ok_or_else(|| invalid("a condition is an object"))?;
        let given: Vec<&str> =
            object.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str()).collect();
        let key_of = |value: &Value| {
            let key = value["key"].as_str().ok_or_else(|| invalid("a condition needs the `key` of a payload field"))?;
            Path::parse(key)
        };
        match given.as_slice() {
            ["has_id"] => {
                let values = value["has_id"].as_array().ok_or_else(|| invalid("has_id is a list of point ids"))?;
                Ok(Self::HasId(ids::all_asked(values)?.into_iter().collect()))
            }
            ["has_vector"] => {
                let name = value["has_vector"].as_str().ok_or_else(|| invalid("has_vector is the name of a vector"))?;
                Ok(Self::HasVector(name.to_owned()))
            }
            ["is_empty"] => Ok(Self::Field(key_of(&value["is_empty"])?, Test::IsEmpty(true))),
            ["is_null"] => Ok(Self::Field(key_of(&value["is_null"])?, Test::IsNull(true))),
            ["nested"] => {
                let nested = &value["nested"];
                Ok(Self::Nested(key_of(nested)?, Filter::parse(&nested["filter"])?))
            }
            keys if keys.contains(&"key") => Ok(Self::Field(key_of(value)?, Test::parse(value, keys)?)),
            keys if keys.iter().all(|key| ["must", "must_not", "should", "min_should"].contains(key)) => {
                Ok(Self::Filter(Filter::parse(value)?))
            }
            keys => Err(invalid(format!(
                "a condition with `{}` is not supported; there are key, has_id, has_vector, is_empty, is_null, nested, and \
                 filters",
                keys.join("`, `")
            ))),
        }
    }

    fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Field(path, test) => test.holds(path, subject.payload),
            Self::HasId(ids) => subject.id.is_some_and(|id| ids.contains(id)),
            Self::HasVector(name) => subject.vectors.contains(name),
            Self::Nested(path, filter) => {
                let elements = nested(path, subject.payload);
                elements.into_iter().any(|payload| filter.holds(&Subject { id: None, payload, vectors: &[] }))
            }
            Self::Filter(filter) => filter.holds(subject),
        }
    }
}

/// The objects of the arrays that a path leads to; `a[]` is the same as `a`.
fn nested<'a>(path: &Path, payload: &'a Map<String, Value>) -> Vec<&'a Map<String, Value>> {
    let mut steps = path.steps.clone();
    if steps.len() > 1 && steps.last() == Some(&super::path::Step::Each) {
        steps.pop();
    }
    let values = Path { steps }.values(payload);
    values.into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_object).collect()
}

impl Test {
    fn parse(value: &Value, given: &[&str]) -> Answer<Self> {
        let tests: Vec<&str> = given.iter().copied().filter(|key| *key != "key").collect();
        let flag = |value: &Value| value.as_bool().ok_or_else(|| invalid("is_empty and is_null are true or false"));
        match tests.as_slice() {
            ["match"] => Self::parse_match(&value["match"]),
            ["range"] => Self::parse_range(&value["range"]),
            ["values_count"] => Ok(Self::Counts(Bounds::parse(&value["values_count"], "values_count", Value::as_u64)?)),
            ["is_empty"] => Ok(Self::IsEmpty(flag(&value["is_empty"])?)),
            ["is_null"] => Ok(Self::IsNull(flag(&value["is_null"])?)),
            [] => Err(invalid("a condition on a key needs one of match, range, values_count, is_empty and is_null")),
            [one] => Err(invalid(format!(
                "`{one}` is not supported: a condition on a key is one of match, range, values_count, is_empty and is_null"
            ))),
            several => {
                Err(invalid(format!("a condition has one test; got `{}`: write one for each", several.join("`, `"))))
            }
        }
    }

    fn parse_match(value: &Value) -> Answer<Self> {
        let object = value.as_object().map(|object| object.iter().collect::<Vec<_>>()).unwrap_or_default();
        let [(kind, value)] = object.as_slice() else { return Err(invalid("match is an object with one key")) };
        let text = || value.as_str().ok_or_else(|| invalid(format!("match `{kind}` takes a string")));
        match kind.as_str() {
            "value" => Ok(Self::Any(vec![Exact::parse(value)?])),
            "any" => Ok(Self::Any(Exact::parse_all(value)?)),
            "except" => Ok(Self::Except(Exact::parse_all(value)?)),
            "text" => Ok(Self::Words(words(text()?))),
            "text_any" => Ok(Self::AnyWord(words(text()?))),
            "phrase" => Ok(Self::Phrase(words(text()?))),
            "prefix" => Ok(Self::Prefix(text()?.to_owned())),
            "substring" => Ok(Self::Substring(text()?.to_owned())),
            other => Err(invalid(format!("match `{other}` is not supported"))),
        }
    }

    fn parse_range(value: &Value) -> Answer<Self> {
        let is_text = value.as_object().is_some_and(|bounds| bounds.values().any(Value::is_string));
        if is_text {
            let micros = |value: &Value| value.as_str().and_then(moments::micros);
            return Ok(Self::Moments(Bounds::parse(value, "range", micros)?));
        }
        Ok(Self::Range(Bounds::parse(value, "range", |value| value.as_number().cloned())?))
    }

    fn holds(&self, path: &Path, payload: &Map<String, Value>) -> bool {
        let any = |test: &dyn Fn(&Value) -> bool| path.flat(payload).into_iter().any(test);
        let any_text = |test: &dyn Fn(&str) -> bool| any(&|value| value.as_str().is_some_and(test));
        match self {
            Self::Any(listed) => any(&|value| listed.iter().any(|one| one.is(value))),
            Self::Except(listed) => any(&|value| !value.is_null() && !listed.iter().any(|one| one.is(value))),
            Self::Words(wanted) => any_text(&|text| {
                let there: HashSet<String> = words(text).into_iter().collect();
                !wanted.is_empty() && wanted.iter().all(|word| there.contains(word))
            }),
            Self::AnyWord(wanted) => any_text(&|text| words(text).iter().any(|word| wanted.contains(word))),
            Self::Phrase(wanted) => any_text(&|text| {
                !wanted.is_empty() && words(text).windows(wanted.len()).any(|there| there == wanted.as_slice())
            }),
            Self::Prefix(prefix) => any_text(&|text| text.starts_with(prefix.as_str())),
            Self::Substring(part) => any_text(&|text| text.contains(part.as_str())),
            Self::Range(bounds) => {
                any(&|value| value.as_number().is_some_and(|value| bounds.hold(|bound| order(value, bound))))
            }
            Self::Moments(bounds) => {
                any_text(&|text| moments::micros(text).is_some_and(|value| bounds.hold(|bound| value.cmp(bound))))
            }
            Self::Counts(bounds) => {
                counts(&path.values(payload)).into_iter().any(|count| bounds.hold(|bound| count.cmp(bound)))
            }
            Self::IsEmpty(expected) => path.values(payload).into_iter().all(is_empty) == *expected,
            Self::IsNull(expected) => path.values(payload).into_iter().any(is_null) == *expected,
        }
    }
}

impl Exact {
    fn parse(value: &Value) -> Answer<Self> {
        let whole = || value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        let text = || value.as_str().map(|text| Self::Text(text.to_owned()));
        let one = value.as_bool().map(Self::Bool).or_else(|| whole().map(Self::Whole)).or_else(text);
        one.ok_or_else(|| invalid(format!("match compares with booleans, whole numbers and strings; got {value}")))
    }

    fn parse_all(value: &Value) -> Answer<Vec<Self>> {
        let values = value.as_array().ok_or_else(|| invalid("match `any` and `except` take a list"))?;
        values.iter().map(Self::parse).collect()
    }

    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Bool(own) => value.as_bool() == Some(*own),
            Self::Whole(own) => {
                value.as_number().filter(|value| !value.is_f64()).and_then(Number::as_i128) == Some(*own)
            }
            Self::Text(own) => value.as_str() == Some(own),
        }
    }
}

impl<T> Bounds<T> {
    fn parse(value: &Value, called: &str, read: impl Fn(&Value) -> Option<T>) -> Answer<Self> {
        let object = value.as_object().ok_or_else(|| invalid(format!("{called} is an object")))?;
        let mut bounds = Self { lt: None, lte: None, gt: None, gte: None };
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let place = match key.as_str() {
                "lt" => &mut bounds.lt,
                "lte" => &mut bounds.lte,
                "gt" => &mut bounds.gt,
                "gte" => &mut bounds.gte,
                other => return Err(invalid(format!("{called} has lt, lte, gt and gte; got `{other}`"))),
            };
            *place = Some(read(value).ok_or_else(|| invalid(format!("{called}: {key} cannot be {value}")))?);
        }
        Ok(bounds)
    }

    fn hold(&self, order: impl Fn(&T) -> Ordering) -> bool {
        let within =
            |bound: &Option<T>, wanted: fn(Ordering) -> bool| bound.as_ref().is_none_or(|bound| wanted(order(bound)));
        within(&self.lt, Ordering::is_lt)
            && within(&self.lte, Ordering::is_le)
            && within(&self.gt, Ordering::is_gt)
            && within(&self.gte, Ordering::is_ge)
    }
}

/// Whole numbers exactly, all others as floats.
fn order(one: &Number, other: &Number) -> Ordering {
    let float = |number: &Number| number.as_f64().unwrap_or(f64::MAX);
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one.cmp(&other),
        (Some(_) | None, Some(_) | None) => float(one).partial_cmp(&float(other)).unwrap_or(Ordering::Equal),
    }
}

/// How many values there are at each place; 0 where there is none or null.
fn counts(values: &[&Value]) -> Vec<u64> {
    let count = |value: &&Value| value.as_array().map_or(u64::from(!value.is_null()), |elements| elements.len() as u64);
    if values.is_empty() { vec![0] } else { values.iter().map(count).collect() }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn is_null(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(|elements| elements.iter().any(Value::is_null))
}

/// The words of a text, in lower case: what is neither a letter nor a digit stands between them.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}
