//! Which values of a payload does this key mean? Qdrant's paths: `a`, `a.b`, `a[].b`, `a[0]`, and `"a.b"` for a key with dots.
//!
//! Invariant: an array is entered only where the path says so; what it leads to in the end is taken apart by
//! [`Path::flat`], one level deep.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::server::app::Answer;
use crate::server::failure::Failure;

/// The longest path.
const STEPS_MAX: usize = 64;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
    /// Every element of an array.
    Each,
}

/// A path into a payload.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    pub(super) steps: Vec<Step>,
}

impl Path {
    pub(super) fn parse(text: &str) -> Answer<Self> {
        let refused = || {
            let shown: String = text.chars().take(80).collect();
            Failure::invalid(format!("the key `{shown}` is no path; write `a`, `a.b`, `a[].b`, `a[0]` or `\"a.b\"`"))
        };
        let steps = steps(text).filter(|steps| steps.len() <= STEPS_MAX).ok_or_else(refused)?;
        Ok(Self { steps })
    }

    /// The names of a path that enters objects alone.
    pub(super) fn keys(&self) -> Option<Vec<String>> {
        let key = |step: &Step| match step {
            Step::Key(key) => Some(key.clone()),
            Step::Index(_) | Step::Each => None,
        };
        self.steps.iter().map(key).collect()
    }

    /// The values that it leads to, as they are.
    pub(super) fn values<'a>(&self, payload: &'a Map<String, Value>) -> Vec<&'a Value> {
        let mut found = Vec::new();
        if let Some((Step::Key(key), rest)) = self.steps.split_first()
            && let Some(value) = payload.get(key)
        {
            follow(value, rest, &mut found);
        }
        found
    }

    /// The values that it leads to, and of arrays their elements.
    pub(super) fn flat<'a>(&self, payload: &'a Map<String, Value>) -> Vec<&'a Value> {
        let apart = |value: &'a Value| match value.as_array() {
            Some(elements) => elements.iter().collect(),
            None => vec![value],
        };
        self.values(payload).into_iter().flat_map(apart).collect()
    }

    /// Takes away what it leads to.
    pub(super) fn remove(&self, payload: &mut Map<String, Value>) {
        let Some((Step::Key(key), rest)) = self.steps.split_first() else { return };
        if rest.is_empty() {
            payload.remove(key);
        } else if let Some(value) = payload.get_mut(key) {
            remove_from(value, rest);
        }
    }
}

fn follow<'a>(value: &'a Value, steps: &[Step], found: &mut Vec<&'a Value>) {
    let Some((step, rest)) = steps.split_first() else { return found.push(value) };
    match step {
        Step::Key(key) => value.get(key).into_iter().for_each(|value| follow(value, rest, found)),
        Step::Index(index) => value.get(*index).into_iter().for_each(|value| follow(value, rest, found)),
        Step::Each => value.as_array().into_iter().flatten().for_each(|value| follow(value, rest, found)),
    }
}

fn remove_from(value: &mut Value, steps: &[Step]) {
    let Some((step, rest)) = steps.split_first() else { return };
    match (step, rest.is_empty()) {
        (Step::Key(key), true) => drop(value.as_object_mut().and_then(|object| object.remove(key))),
        (Step::Key(key), false) => value.get_mut(key).into_iter().for_each(|value| remove_from(value, rest)),
        (Step::Index(index), false) => value.get_mut(*index).into_iter().for_each(|value| remove_from(value, rest)),
        (Step::Each, false) => {
            value.as_array_mut().into_iter().flatten().for_each(|value| remove_from(value, rest));
        }
        (Step::Each, true) => value.as_array_mut().into_iter().for_each(Vec::clear),
        // An element is not taken out of its array, in Qdrant neither.
        (Step::Index(_), true) => {}
    }
}

fn steps(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text;
    loop {
        let key;
        (key, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
                Some(rest.split_at(end)).filter(|(key, _)| !key.is_empty())?
            }
        };
        steps.push(Step::Key(key.to_owned()));
        while let Some(inside) = rest.strip_prefix('[') {
            let (index, after) = inside.split_once(']')?;
            let is_index = index.bytes().all(|byte| byte.is_ascii_digit());
            steps.push(match index {
                "" => Step::Each,
                index if is_index => Step::Index(index.parse().ok()?),
                _ => return None,
            });
            rest = after;
        }
        if rest.is_empty() {
            return Some(steps);
        }
        rest = rest.strip_prefix('.')?;
    }
}

/// Several paths as one tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Everything from here on.
    whole: bool,
    below: BTreeMap<Step, Tree>,
}

impl Tree {
    pub(super) fn of(paths: &[Path]) -> Self {
        let mut tree = Self::default();
        for path in paths {
            let mut node = &mut tree;
            for step in &path.steps {
                node = node.below.entry(step.clone()).or_default();
            }
            node.whole = true;
        }
        tree
    }

    /// The parts of a value that the paths lead to.
    pub(super) fn include(&self, value: &Value) -> Value {
        match value {
            Value::Object(object) => {
                let kept = |(key, value): (&String, &Value)| {
                    let below = self.below.get(&Step::Key(key.clone()))?;
                    Some((key.clone(), if below.whole { value.clone() } else { below.include(value) }))
                };
                Value::Object(object.iter().filter_map(kept).collect())
            }
            Value::Array(elements) => match self.below.get(&Step::Each) {
                None => Value::Array(Vec::new()),
                Some(below) if below.whole => value.clone(),
                Some(below) => Value::Array(elements.iter().map(|element| below.include(element)).collect()),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }

    /// A value without the parts that the paths lead to.
    pub(super) fn exclude(&self, value: &Value) -> Value {
        match value {
            Value::Object(object) => {
                let kept = |(key, value): (&String, &Value)| match self.below.get(&Step::Key(key.clone())) {
                    None => Some((key.clone(), value.clone())),
                    Some(below) if below.whole => None,
                    Some(below) => Some((key.clone(), below.exclude(value))),
                };
                Value::Object(object.iter().filter_map(kept).collect())
            }
            Value::Array(elements) => match self.below.get(&Step::Each) {
                None => value.clone(),
                Some(below) if below.whole => Value::Array(Vec::new()),
                Some(below) => Value::Array(elements.iter().map(|element| below.exclude(element)).collect()),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }
}
