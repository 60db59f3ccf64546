//! In which order do numbers of all representations stand, as bytes?
//!
//! A number is the nearest float that is not above it, and the whole number that is missing to it: floats miss nothing,
//! whole numbers beyond 2^53 up to 2047. Two numbers are equal exactly if both parts are, and the parts compare as the
//! numbers do. Null and the booleans stand below all numbers, as in [`ScalarRef::order`].

use serde_json::Number;

use crate::filter::scalar::ScalarRef;

/// The bytes of a key on disk.
pub(super) const BYTES: usize = 10;

/// A scalar that is no text, ordered as [`ScalarRef::order`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The float, its bits flipped so that they compare as whole numbers; no float has one of the first three.
    float: u64,
    missing: u16,
}

const NULL: Key = Key { float: 0, missing: 0 };
const FALSE: Key = Key { float: 1, missing: 0 };
const TRUE: Key = Key { float: 2, missing: 0 };

impl Key {
    /// Below all numbers, above null and the booleans.
    pub(super) const BEFORE_NUMBERS: Self = Self { float: 3, missing: 0 };

    /// The key of anything but text.
    pub(super) fn of(scalar: ScalarRef<'_>) -> Option<Self> {
        match scalar {
            ScalarRef::Null => Some(NULL),
            ScalarRef::Bool(false) => Some(FALSE),
            ScalarRef::Bool(true) => Some(TRUE),
            ScalarRef::Number(number) => Some(Self::of_number(number)),
            ScalarRef::Text(_) => None,
        }
    }

    fn of_number(number: &Number) -> Self {
        // As in the evaluator: what is neither whole nor a float is not there.
        let Some(whole) = number.as_i128() else { return Self::new(number.as_f64().unwrap_or(f64::MAX), 0) };
        let nearest = whole as f64;
        let below = if nearest as i128 > whole { nearest.next_down() } else { nearest };
        Self::new(below, (whole - below as i128) as u16)
    }

    fn new(float: f64, missing: u16) -> Self {
        // -0 is 0.
        let bits = (float + 0.0).to_bits();
        let float = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
        Self { float, missing }
    }

    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let Self { float, missing } = self;
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&float.to_le_bytes());
        bytes[8..].copy_from_slice(&missing.to_le_bytes());
        bytes
    }

    /// Any bytes are some key, so damaged ones are in the wrong place and no more.
    pub(super) fn from_bytes(bytes: [u8; BYTES]) -> Self {
        let [float @ .., low, high] = bytes;
        Self { float: u64::from_le_bytes(float), missing: u16::from_le_bytes([low, high]) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn values() -> Vec<Value> {
        let near = [0.0, -0.0, 0.5, 1.0, 9_007_199_254_740_992.0, 9_223_372_036_854_775_808.0, 1e-320];
        let floats = near.into_iter().flat_map(|float: f64| [float, -float, float.next_up(), float.next_down()]);
        let floats = floats.chain([f64::MAX, f64::MIN, 18_446_744_073_709_551_616.0, 18_446_744_073_709_549_568.0]);
        let whole = (50..64).flat_map(|power| (0..5).map(move |delta| (1_u64 << power) - 2 + delta));
        let whole = whole.chain((0..4).map(|delta| u64::MAX - delta * 1000)).chain(0..3);
        let negative = whole.clone().filter_map(|whole| i64::try_from(whole).ok()).map(|whole| -whole);
        let negative = negative.chain([i64::MIN, i64::MIN + 1]);
        let scalars = [Value::Null, json!(false), json!(true)].into_iter();
        scalars.chain(floats.map(Value::from)).chain(whole.map(Value::from)).chain(negative.map(Value::from)).collect()
    }

    #[test]
    fn keys_are_ordered_as_the_values_are() {
        let values = values();
        for one in &values {
            for two in &values {
                let (one, two) = (ScalarRef::of(one).unwrap(), ScalarRef::of(two).unwrap());
                let (first, second) = (Key::of(one).unwrap(), Key::of(two).unwrap());
                assert_eq!(first.cmp(&second), one.order(two), "{first:?} and {second:?}");
                assert_eq!(Key::from_bytes(first.to_bytes()), first);
            }
        }
        assert!(TRUE < Key::BEFORE_NUMBERS && Key::BEFORE_NUMBERS < Key::new(f64::MIN, 0));
    }
}
