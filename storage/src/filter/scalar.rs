//! Are two values the same, and if not, which comes first?
//!
//! Invariants: numbers compare by their exact values, whatever their representation; values of different types are not
//! the same, and their order (null, booleans, numbers, strings) serves sorting only.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// A JSON value that is neither an array nor an object.
#[derive(Clone, Debug)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
}

/// A scalar within somebody else's value.
#[derive(Clone, Copy)]
pub(super) enum ScalarRef<'a> {
    Null,
    Bool(bool),
    Number(&'a Number),
    Text(&'a str),
}

impl Scalar {
    /// The scalar that a value is, if it is one.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Number(value) => Some(Self::Number(value.clone())),
            Value::String(value) => Some(Self::Text(value.clone())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(value) => Value::Number(value.clone()),
            Self::Text(value) => Value::String(value.clone()),
        }
    }

    pub(super) fn borrow(&self) -> ScalarRef<'_> {
        match self {
            Self::Null => ScalarRef::Null,
            Self::Bool(value) => ScalarRef::Bool(*value),
            Self::Number(value) => ScalarRef::Number(value),
            Self::Text(value) => ScalarRef::Text(value),
        }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.borrow().order(other.borrow()).is_eq()
    }
}

impl<'a> ScalarRef<'a> {
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Number(value) => Some(Self::Number(value)),
            Value::String(value) => Some(Self::Text(value)),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// A total order in which equal means the same value.
    pub(super) fn order(self, other: ScalarRef<'_>) -> Ordering {
        match (self, other) {
            (Self::Bool(one), ScalarRef::Bool(two)) => one.cmp(&two),
            (Self::Number(one), ScalarRef::Number(two)) => order_numbers(one, two),
            (Self::Text(one), ScalarRef::Text(two)) => one.cmp(two),
            (one, two) => one.rank().cmp(&two.rank()),
        }
    }

    /// How this compares with a bound: numbers with numbers and strings with strings, all else not at all.
    pub(super) fn against(self, bound: ScalarRef<'_>) -> Option<Ordering> {
        let comparable = matches!(self, Self::Number(_) | Self::Text(_)) && self.rank() == bound.rank();
        comparable.then(|| self.order(bound))
    }

    fn rank(self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
        }
    }
}

fn order_numbers(one: &Number, two: &Number) -> Ordering {
    match (one.as_i128(), two.as_i128()) {
        (Some(one), Some(two)) => one.cmp(&two),
        (Some(one), None) => order_whole(one, float(two)),
        (None, Some(two)) => order_whole(two, float(one)).reverse(),
        // -0 and 0 are the same number; JSON has no NaN.
        (None, None) => float(one).partial_cmp(&float(two)).unwrap_or(Ordering::Equal),
    }
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::MAX)
}

/// Compares a whole number of 64 bits (signed or not) with a float, exactly: floats from 2^64 on and below -2^63 lie
/// outside; of the others the whole part is exact in 128 bits.
fn order_whole(whole: i128, float: f64) -> Ordering {
    if float >= 18_446_744_073_709_551_616.0 {
        return Ordering::Less;
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    let floor = float.floor();
    whole.cmp(&(floor as i128)).then(if float > floor { Ordering::Less } else { Ordering::Equal })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(one: Value, two: Value) -> Ordering {
        let order = ScalarRef::of(&one).unwrap().order(ScalarRef::of(&two).unwrap());
        assert_eq!(ScalarRef::of(&two).unwrap().order(ScalarRef::of(&one).unwrap()), order.reverse(), "{one} {two}");
        order
    }

    #[test]
    fn numbers_compare_by_exact_value() {
        use Ordering::{Equal, Greater, Less};
        for (one, two, expected) in [
            (json!(1), json!(1.0), Equal),
            (json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992.0), Greater),
            (json!(9_007_199_254_740_992_u64), json!(9_007_199_254_740_992.0), Equal),
            (json!(-9_007_199_254_740_993_i64), json!(-9_007_199_254_740_992.0), Less),
            (json!(u64::MAX), json!(18_446_744_073_709_551_616.0), Less),
            (json!(u64::MAX), json!(i64::MIN), Greater),
            (json!(i64::MIN), json!(-9_223_372_036_854_775_808.0), Equal),
            (json!(i64::MIN), json!(-1e300), Greater),
            (json!(-1), json!(-0.5), Less),
            (json!(-1), json!(-1.5), Greater),
            (json!(1), json!(1.5), Less),
            (json!(0), json!(-0.0), Equal),
            (json!(0.0), json!(-0.0), Equal),
            (json!(0.1), json!(0.2), Less),
        ] {
            assert_eq!(order(one.clone(), two.clone()), expected, "{one} against {two}");
        }
    }

    #[test]
    fn types_do_not_mix() {
        assert_eq!(order(json!(true), json!(1)), Ordering::Less);
        assert_eq!(order(json!("1"), json!(1)), Ordering::Greater);
        assert_eq!(order(json!(null), json!(null)), Ordering::Equal);
        assert_eq!(ScalarRef::Null.against(ScalarRef::Null), None);
        assert_eq!(ScalarRef::Bool(true).against(ScalarRef::Bool(false)), None);
        assert_eq!(ScalarRef::Text("a").against(ScalarRef::Text("b")), Some(Ordering::Less));
    }
}
