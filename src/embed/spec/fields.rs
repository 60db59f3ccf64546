//! Is a field of a model's file what belongs there?
//!
//! A field that is absent or null takes its default; one of another kind is an error that names file, field and value. A
//! limit of -1 that is silently none, or a number in quotes that is passed over, makes vectors that look right.

use serde_json::Value;

use crate::Result;
use crate::embed::files::{Files, Object};

/// The fields of one file.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) files: &'a Files,
    pub(super) object: &'a Object,
    /// The file.
    pub(super) source: &'a str,
}

impl<'a> Fields<'a> {
    fn value(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn wrong<T>(&self, key: &str, value: &Value, what: &str) -> Result<T> {
        let shown: String = value.to_string().chars().take(40).collect();
        Err(self.files.wrong(format!("{}: {key} is {shown}; {what} belongs there", self.source)))
    }

    /// A whole number from 0; those beyond all sizes, with which files say "no limit", are the largest.
    pub(super) fn number(&self, key: &str) -> Result<Option<usize>> {
        self.whole(key, 0)
    }

    /// A whole number from 1.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>> {
        self.whole(key, 1)
    }

    fn whole(&self, key: &str, least: usize) -> Result<Option<usize>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = match (value.as_u64(), value.as_f64()) {
            (Some(number), _) => usize::try_from(number).unwrap_or(usize::MAX),
            (None, Some(number)) if number >= 0.0 && number.fract() == 0.0 => number as usize,
            (None, _) => return self.wrong(key, value, &format!("a whole number from {least}")),
        };
        match number < least {
            true => self.wrong(key, value, &format!("a whole number from {least}")),
            false => Ok(Some(number)),
        }
    }

    /// The first of these keys that is there, a whole number from 1.
    pub(super) fn first_size(&self, keys: &[&str]) -> Result<Option<usize>> {
        for key in keys {
            if let Some(size) = self.size(key)? {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => self.wrong(key, value, "true or false"),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => self.wrong(key, value, "a text"),
        }
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<&'a Object>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(value) => self.wrong(key, value, "an object"),
        }
    }

    /// Texts by their place; what is no text is refused with the list.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<&'a str>> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
                Ok(items.iter().filter_map(Value::as_str).collect())
            }
            Some(value) => self.wrong(key, value, "a list of texts"),
        }
    }
}
