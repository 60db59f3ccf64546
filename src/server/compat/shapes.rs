//! Which JSON is taken for an object, and which for a count?
//!
//! Invariant: what a schema allows is taken, and what it does not is refused, where serde alone is more or less generous.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What must be a JSON object: a structure alone would be read from an array, too, whose items stand for its fields.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A number of things, or null. JSON knows one kind of numbers, so that 3.0 is 3 to some clients.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a whole number that is not negative")]
    enum Number {
        Whole(usize),
        Written(f64),
    }
    /// From here on not every whole number has its own `f64`.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    match Option::<Number>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Number::Whole(count)) => Ok(Some(count)),
        Some(Number::Written(count)) if count.fract() == 0.0 && (0.0..=WHOLE_MAX).contains(&count) => {
            Ok(Some(count as usize))
        }
        Some(Number::Written(other)) => Err(D::Error::custom(format!("{other} is no number of things"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::server::body::parse;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Ask {
        #[serde(default, deserialize_with = "count")]
        limit: Option<usize>,
    }

    #[test]
    fn an_array_is_no_object() {
        let read = |json: &str| parse::<Object<Ask>>(json.as_bytes()).map(|Object(ask)| ask.limit);
        assert_eq!(read(r#"{"limit": 3}"#).unwrap(), Some(3));
        assert!(read("[3]").unwrap_err().message.contains("expected an object"));
        assert!(read(r#"{"limits": 3}"#).unwrap_err().message.contains("limits"));
    }

    #[test]
    fn a_count_is_whole_however_it_is_written() {
        let read = |json: &str| parse::<Ask>(format!(r#"{{"limit": {json}}}"#).as_bytes()).map(|ask| ask.limit);
        for (json, count) in [("3", Some(3)), ("3.0", Some(3)), ("3e2", Some(300)), ("null", None)] {
            assert_eq!(read(json).unwrap(), count, "{json}");
        }
        for json in ["-1", "3.5", "1e300", "\"3\"", "true"] {
            let message = read(json).unwrap_err().message;
            assert!(message.contains("limit: "), "{json}: {message}");
        }
    }
}
