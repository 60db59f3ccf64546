//! What is this cell of an Arrow column as JSON?
//!
//! | Arrow | JSON |
//! |---|---|
//! | booleans, whole numbers, strings | as they are |
//! | floats | the shortest number that reads back as the same float |
//! | decimals | a number where the nearest double prints the same digits, else the digits as a string |
//! | dates | `"2026-11-21"` |
//! | times | `"13:30:00"`, with a fraction of as many digits as the unit has |
//! | timestamps | `"2026-11-21T13:30:00.000"`; with a zone the instant in UTC, with `Z` |
//! | durations | a whole number in their unit |
//! | intervals | `{"months", "days", "nanoseconds"}`, those that the type has |
//! | bytes | a string where they are UTF-8, else `{"base64": "..."}` |
//! | lists; structs and maps | arrays; objects (null members of a struct left out, keys of a map as text) |
//! | dictionaries, run ends | their values |
//!
//! Strings of one column sort as its values lie in time. With the column's type, which an import keeps, each of these
//! reads back as the value that it was. What JSON cannot say (NaN, infinities, years of five digits) is refused, never bent.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalYearMonthType, RunEndIndexType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RunArray, StructArray};
use arrow_buffer::ArrowNativeType;
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use base64::Engine as _;
use serde_json::{Map, Number, Value, json};

use crate::moment::date_of_day;

/// Why a cell has no JSON value.
pub(super) type Refusal = String;

/// The cell at `row`, `Value::Null` where it is null.
pub(super) fn cell(array: &dyn Array, row: usize) -> Result<Value, Refusal> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float16 => single(array.as_primitive::<Float16Type>().value(row).to_f32())?,
        DataType::Float32 => single(array.as_primitive::<Float32Type>().value(row))?,
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row))?,
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Binary => bytes(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => bytes(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary().value(row)),
        DataType::Decimal32(..) => decimal::<Decimal32Type>(array, row)?,
        DataType::Decimal64(..) => decimal::<Decimal64Type>(array, row)?,
        DataType::Decimal128(..) => decimal::<Decimal128Type>(array, row)?,
        DataType::Decimal256(..) => decimal::<Decimal256Type>(array, row)?,
        DataType::List(_) => list(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row))?,
        DataType::ListView(_) => list(&array.as_list_view::<i32>().value(row))?,
        DataType::LargeListView(_) => list(&array.as_list_view::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row))?,
        DataType::Struct(_) => object(array.as_struct(), row)?,
        DataType::Map(..) => map(&array.as_map().value(row))?,
        DataType::Dictionary(key, _) => of_dictionary(key, array, row)?,
        DataType::RunEndEncoded(ends, _) => of_runs(ends.data_type(), array, row)?,
        kind @ (DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)) => moment(kind, array, row)?,
        DataType::Time32(unit) | DataType::Time64(unit) => time(whole(array, row)?, *unit)?.into(),
        DataType::Duration(_) => whole(array, row)?.into(),
        DataType::Interval(unit) => interval(*unit, array, row),
        other @ DataType::Union(..) => return Err(format!("type {other} is not supported; cast it to one type")),
    })
}

fn float(number: f64) -> Result<Value, Refusal> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| format!("{number} is no number that JSON has"))
}

/// 0.1 of a `float` column is 0.1 and not 0.10000000149011612, and reads back as the same `float`.
fn single(number: f32) -> Result<Value, Refusal> {
    if !number.is_finite() {
        return Err(format!("{number} is no number that JSON has"));
    }
    float(number.to_string().parse().unwrap_or_else(|_| f64::from(number)))
}

fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    }
}

/// A number where the nearest double prints as the same decimal, else its digits.
fn decimal<T: DecimalType>(array: &dyn Array, row: usize) -> Result<Value, Refusal> {
    let digits = array.as_primitive::<T>().value_as_string(row);
    let plain = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    if let Ok(whole) = plain.parse::<i64>() {
        return Ok(whole.into());
    }
    match plain.parse::<f64>() {
        Ok(number) if number.to_string() == plain => float(number),
        Ok(_) | Err(_) => Ok(digits.into()),
    }
}

fn list(values: &ArrayRef) -> Result<Value, Refusal> {
    let values: Result<Vec<Value>, Refusal> = (0..values.len()).map(|row| cell(values.as_ref(), row)).collect();
    Ok(Value::Array(values?))
}

fn object(array: &StructArray, row: usize) -> Result<Value, Refusal> {
    let mut object = Map::new();
    for (field, column) in array.fields().iter().zip(array.columns()) {
        let value = cell(column.as_ref(), row).map_err(|reason| format!("{}: {reason}", field.name()))?;
        if !value.is_null() {
            object.insert(field.name().clone(), value);
        }
    }
    Ok(Value::Object(object))
}

/// The entries of a map, by the text of their keys.
fn map(entries: &StructArray) -> Result<Value, Refusal> {
    let mut object = Map::new();
    for row in 0..entries.len() {
        let key = match cell(entries.column(0).as_ref(), row)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let value = cell(entries.column(1).as_ref(), row)?;
        if object.contains_key(&key) {
            return Err(format!("key `{key}` of a map is there twice"));
        }
        object.insert(key, value);
    }
    Ok(Value::Object(object))
}

fn of_dictionary(key: &DataType, array: &dyn Array, row: usize) -> Result<Value, Refusal> {
    fn at<K: ArrowDictionaryKeyType>(array: &dyn Array, row: usize) -> Result<Value, Refusal> {
        let dictionary = array.as_dictionary::<K>();
        let key = dictionary.keys().value(row).as_usize();
        if key >= dictionary.values().len() {
            return Err(format!("entry {key} of a dictionary of {}", dictionary.values().len()));
        }
        cell(dictionary.values().as_ref(), key)
    }
    match key {
        DataType::Int8 => at::<Int8Type>(array, row),
        DataType::Int16 => at::<Int16Type>(array, row),
        DataType::Int32 => at::<Int32Type>(array, row),
        DataType::Int64 => at::<Int64Type>(array, row),
        DataType::UInt8 => at::<UInt8Type>(array, row),
        DataType::UInt16 => at::<UInt16Type>(array, row),
        DataType::UInt32 => at::<UInt32Type>(array, row),
        DataType::UInt64 => at::<UInt64Type>(array, row),
        other => Err(format!("a dictionary with keys of type {other} is not supported")),
    }
}

fn of_runs(ends: &DataType, array: &dyn Array, row: usize) -> Result<Value, Refusal> {
    fn at<R: RunEndIndexType>(array: &dyn Array, row: usize) -> Result<Value, Refusal> {
        let Some(runs) = array.as_any().downcast_ref::<RunArray<R>>() else {
            return Err("runs of an unknown type".to_owned());
        };
        cell(runs.values().as_ref(), runs.get_physical_index(row))
    }
    match ends {
        DataType::Int16 => at::<Int16Type>(array, row),
        DataType::Int32 => at::<Int32Type>(array, row),
        DataType::Int64 => at::<Int64Type>(array, row),
        other => Err(format!("run ends of type {other} are not supported")),
    }
}

/// The number that a date, time or duration is stored as.
fn whole(array: &dyn Array, row: usize) -> Result<i64, Refusal> {
    let data = array.to_data();
    let buffer = data.buffers().first().ok_or("a column without values")?;
    let at = data.offset() + row;
    let is_short = matches!(array.data_type(), DataType::Date32 | DataType::Time32(_));
    let number = match is_short {
        true => buffer.typed_data::<i32>().get(at).copied().map(i64::from),
        false => buffer.typed_data::<i64>().get(at).copied(),
    };
    number.ok_or_else(|| "a value beyond its column".to_owned())
}

/// Steps of a second, and the digits of its fraction.
fn steps(unit: TimeUnit) -> (i64, usize) {
    match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    }
}

const DAY_SECONDS: i64 = 86_400;

/// A date, or a date and a time.
fn moment(kind: &DataType, array: &dyn Array, row: usize) -> Result<Value, Refusal> {
    let number = match kind {
        DataType::Date32 => i64::from(array.as_primitive::<Date32Type>().value(row)),
        DataType::Date64 => array.as_primitive::<Date64Type>().value(row),
        _ => whole(array, row)?,
    };
    let (unit, zone) = match kind {
        DataType::Timestamp(unit, zone) => (*unit, if zone.is_some() { "Z" } else { "" }),
        DataType::Date64 => (TimeUnit::Millisecond, ""),
        _ => return day(number).map(Value::String),
    };
    let day_steps = DAY_SECONDS * steps(unit).0;
    let date = day(number.div_euclid(day_steps))?;
    let within = number.rem_euclid(day_steps);
    if matches!(kind, DataType::Date64) && within == 0 {
        return Ok(date.into());
    }
    Ok(format!("{date}T{}{zone}", time(within, unit)?).into())
}

fn day(number: i64) -> Result<String, Refusal> {
    let date =
        date_of_day(number).ok_or_else(|| format!("{number} days from 1970 lie outside of the years 0 to 9999"))?;
    let (year, month, day) = date;
    Ok(format!("{year:04}-{month:02}-{day:02}"))
}

/// A time of the day, in steps of the unit from midnight.
fn time(number: i64, unit: TimeUnit) -> Result<String, Refusal> {
    let (steps, digits) = steps(unit);
    if !(0..DAY_SECONDS * steps).contains(&number) {
        return Err(format!("{number} is no time of a day"));
    }
    let (second, fraction) = (number / steps, number % steps);
    let clock = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    Ok(if digits == 0 { clock } else { format!("{clock}.{fraction:0digits$}") })
}

fn interval(unit: IntervalUnit, array: &dyn Array, row: usize) -> Value {
    match unit {
        IntervalUnit::YearMonth => json!({"months": array.as_primitive::<IntervalYearMonthType>().value(row)}),
        IntervalUnit::DayTime => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            json!({"days": value.days, "milliseconds": value.milliseconds})
        }
        IntervalUnit::MonthDayNano => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            json!({"months": value.months, "days": value.days, "nanoseconds": value.nanoseconds})
        }
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
