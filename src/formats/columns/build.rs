//! These JSON values as a column of this type?
//!
//! Invariant: [`column`] says which of them do not come back from the column exactly as they were, to the order of an
//! object's members and the sign of a zero; their cells are null.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::types::{Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, FixedSizeListArray, ListArray, PrimitiveArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, TimeUnit};
use serde_json::{Number, Value};

use super::cell::cell;

/// Values for a column; `None` where there is none.
type Values<'a> = [Option<&'a Value>];

/// A column of these values, and the rows whose values it cannot hold.
///
/// # Errors
/// Where values of this batch are too many for a column; more than 2 GiB of text are.
pub(super) fn column(values: &Values<'_>, data_type: &DataType) -> Result<(ArrayRef, Vec<usize>), ArrowError> {
    let array = build(values, data_type)?;
    let comes_back = |row: usize| match (values[row], cell(array.as_ref(), row)) {
        (None, _) => true,
        (Some(given), Ok(found)) => !given.is_null() && is_same(given, &found),
        (Some(_), Err(_)) => false,
    };
    let lost: Vec<usize> = (0..values.len()).filter(|&row| !comes_back(row)).collect();
    if lost.is_empty() {
        return Ok((array, lost));
    }
    let mut kept = values.to_vec();
    lost.iter().for_each(|&row| kept[row] = None);
    Ok((build(&kept, data_type)?, lost))
}

/// Equal to the byte.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => is_same_number(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let mut pairs = one.iter().zip(other);
            one.len() == other.len() && pairs.all(|((name, one), (also, other))| name == also && is_same(one, other))
        }
        (one, other) => one == other,
    }
}

fn is_same_number(one: &Number, other: &Number) -> bool {
    match (one.is_f64(), other.is_f64()) {
        (true, true) => one.as_f64().map(f64::to_bits) == other.as_f64().map(f64::to_bits),
        (false, false) => one == other,
        (true, false) | (false, true) => false,
    }
}

/// A value that the type cannot hold becomes null.
fn build(values: &Values<'_>, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match data_type {
        DataType::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(values.len());
            values.iter().for_each(|value| builder.append_option(value.and_then(Value::as_bool)));
            Arc::new(builder.finish())
        }
        DataType::Int64 => primitive::<Int64Type>(values, |value| value.as_i64()),
        DataType::UInt64 => primitive::<UInt64Type>(values, |value| value.as_u64()),
        DataType::Float64 => primitive::<Float64Type>(values, |value| value.as_f64().filter(|_| value.is_f64())),
        DataType::Utf8 => texts(values, |value, text| value.as_str().map(|given| text.push_str(given)))?,
        DataType::List(field) => list(values, field)?,
        DataType::Struct(fields) => object(values, fields)?,
        #[allow(clippy::wildcard_enum_match_arm, reason = "every other type is made of one of the above")]
        other => converted(values, other)?,
    })
}

fn primitive<T: ArrowPrimitiveType>(values: &Values<'_>, native: impl Fn(&Value) -> Option<T::Native>) -> ArrayRef {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(values.len());
    values.iter().for_each(|value| builder.append_option(value.and_then(&native)));
    Arc::new(builder.finish())
}

/// The most text of a column in a batch: offsets are of 32 bits.
const TEXT_BYTES_MAX: usize = i32::MAX as usize;

fn texts(values: &Values<'_>, print: impl Fn(&Value, &mut String) -> Option<()>) -> Result<ArrayRef, ArrowError> {
    let (mut builder, mut text, mut bytes) = (StringBuilder::new(), String::new(), 0);
    for value in values {
        text.clear();
        let printed = value.and_then(|value| print(value, &mut text));
        bytes += text.len();
        if bytes > TEXT_BYTES_MAX {
            return Err(ArrowError::OffsetOverflowError(bytes));
        }
        builder.append_option(printed.map(|()| &text));
    }
    Ok(Arc::new(builder.finish()))
}

fn list(values: &Values<'_>, field: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let elements = |value: &Option<&'_ Value>| value.and_then(Value::as_array).map(Vec::len);
    let nulls = values.iter().map(|value| elements(value).is_some()).collect();
    let offsets = OffsetBuffer::from_lengths(values.iter().map(|value| elements(value).unwrap_or(0)));
    let flat: Vec<Option<&Value>> =
        values.iter().filter_map(|value| value.and_then(Value::as_array)).flatten().map(present).collect();
    let child = build(&flat, field.data_type())?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, child, Some(nulls))?))
}

fn present(value: &Value) -> Option<&Value> {
    Some(value).filter(|value| !value.is_null())
}

fn object(values: &Values<'_>, fields: &Fields) -> Result<ArrayRef, ArrowError> {
    let nulls: NullBuffer = values.iter().map(|value| value.is_some_and(Value::is_object)).collect();
    let column = |field: &FieldRef| {
        let members: Vec<_> = values.iter().map(|value| value.and_then(|value| value.get(field.name()))).collect();
        let members: Vec<_> = members.into_iter().map(|value| value.and_then(present)).collect();
        build(&members, field.data_type())
    };
    let columns = fields.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), values.len())?))
}

/// A type that JSON does not have, made of the next one that it has.
fn converted(values: &Values<'_>, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if let DataType::Timestamp(unit, Some(zone)) = data_type {
        return instants(values, *unit, zone);
    }
    let natural = match natural(data_type) {
        DataType::Utf8 => texts(values, print)?,
        other => build(values, &other)?,
    };
    converted_from(&natural, data_type)
}

/// What does not convert is null; where nothing does, all is, so that no value comes back, which is what the caller looks
/// for.
fn converted_from(natural: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let array = cast_with_options(natural, data_type, &options);
    array.or_else(|_| Ok(arrow_array::new_null_array(data_type, natural.len())))
}

/// Instants, which JSON has in UTC with a `Z` whatever the zone is. By way of whole numbers, because nothing here knows what
/// the zones are that have names, and nothing needs to.
fn instants(values: &Values<'_>, unit: TimeUnit, zone: &Arc<str>) -> Result<ArrayRef, ArrowError> {
    let utc = |value: &Value, text: &mut String| {
        let instant = value.as_str()?.strip_suffix('Z')?;
        text.push_str(instant);
        Some(())
    };
    let local = converted_from(&texts(values, utc)?, &DataType::Timestamp(unit, None))?;
    let whole = converted_from(&local, &DataType::Int64)?;
    converted_from(&whole, &DataType::Timestamp(unit, Some(Arc::clone(zone))))
}

/// Strings as they are, anything else as JSON: the digits of a decimal are a number where a double has them.
fn print(value: &Value, text: &mut String) -> Option<()> {
    match value {
        Value::String(given) => text.push_str(given),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            text.push_str(&value.to_string());
        }
    }
    Some(())
}

/// The type of JSON's own that is nearest to this one.
fn natural(data_type: &DataType) -> DataType {
    #[allow(clippy::wildcard_enum_match_arm, reason = "what is no number and no list is written as text in JSON")]
    match data_type {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::Duration(_) => DataType::Int64,
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::Boolean | DataType::Int64 | DataType::UInt64 | DataType::Float64 => data_type.clone(),
        DataType::Dictionary(_, values) => natural(values),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => {
            DataType::List(Arc::new(Field::new_list_field(natural(field.data_type()), true)))
        }
        DataType::Struct(fields) => {
            let field = |field: &FieldRef| Field::new(field.name(), natural(field.data_type()), true);
            DataType::Struct(fields.iter().map(field).collect())
        }
        _ => DataType::Utf8,
    }
}

/// The type of a column of vectors.
pub(super) fn vector_type(dims: usize) -> DataType {
    let element = Field::new_list_field(DataType::Float32, false);
    DataType::FixedSizeList(Arc::new(element), i32::try_from(dims).unwrap_or(i32::MAX))
}

/// A column of vectors, all of `dims` numbers; a row without one is null.
///
/// # Errors
/// Where one is of another length.
pub(super) fn vectors<'a>(rows: impl Iterator<Item = Option<&'a [f32]>>, dims: usize) -> Result<ArrayRef, ArrowError> {
    let (mut numbers, mut present) = (Vec::new(), Vec::new());
    for row in rows {
        present.push(row.is_some());
        match row {
            Some(row) => numbers.extend_from_slice(row),
            None => numbers.resize(numbers.len() + dims, 0.0),
        }
    }
    let DataType::FixedSizeList(element, size) = vector_type(dims) else {
        return Err(ArrowError::SchemaError("vectors are lists of a fixed size".into()));
    };
    let numbers = Arc::new(PrimitiveArray::<Float32Type>::from(numbers));
    let nulls = present.contains(&false).then(|| NullBuffer::from(present));
    Ok(Arc::new(FixedSizeListArray::try_new(element, size, numbers, nulls)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn lost(values: &[Value], data_type: &DataType) -> Vec<usize> {
        column(&values.iter().map(Some).collect::<Vec<_>>(), data_type).unwrap().1
    }

    #[test]
    fn a_type_of_its_own_holds_what_comes_back_from_it() {
        let berlin = DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into()));
        let instant = json!("2026-11-21T17:00:00.000001Z");
        assert_eq!(lost(&[instant, json!("2026-11-21"), json!("2026-11-21T17:00:00.000001")], &berlin), [1, 2]);
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert_eq!(
            lost(&[json!("1969-11-21T17:00:00.123456789"), json!("2026-11-21T17:00:00.000000000Z")], &nanos),
            [1]
        );
        assert_eq!(lost(&[json!("13:30:00.001"), json!(7)], &DataType::Time32(TimeUnit::Millisecond)), [1]);
        assert_eq!(lost(&[json!("2026-11-21"), json!("soon")], &DataType::Date32), [1]);
        assert_eq!(lost(&[json!(0.1), json!(1e308), json!(1)], &DataType::Float32), [1, 2]);
        assert_eq!(lost(&[json!(7), json!(1_u64 << 40)], &DataType::Int32), [1]);
        assert_eq!(lost(&[json!(12.5), json!(12), json!(0.333)], &DataType::Decimal128(10, 2)), [2]);
        assert_eq!(lost(&[json!([1, null, 3]), json!([1.5])], &DataType::new_large_list(DataType::Int16, true)), [1]);
    }

    #[test]
    fn zeros_keep_their_sign_and_numbers_their_kind() {
        assert_eq!(lost(&[json!(-0.0), json!(5e-324), json!(1), json!(null)], &DataType::Float64), [2, 3]);
        assert!(!is_same(&json!(0.0), &json!(-0.0)) && !is_same(&json!({"a": 1, "b": 2}), &json!({"b": 2, "a": 1})));
    }

    #[test]
    fn an_object_with_members_that_the_type_has_not_does_not_fit() {
        let x = DataType::Struct(Fields::from(vec![Field::new("x", DataType::Int64, true)]));
        assert_eq!(lost(&[json!({"x": 1}), json!({}), json!({"x": null}), json!({"x": 1, "y": 2})], &x), [2, 3]);
    }
}
