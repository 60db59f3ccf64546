//! Is each type of Arrow the JSON that the table in `cell.rs` says?

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::*;
use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano};
use arrow_schema::Field;
use serde_json::json;

use super::*;

fn first(array: &dyn Array) -> Value {
    cell(array, 0).unwrap()
}

fn refusal(array: &dyn Array) -> String {
    cell(array, 0).unwrap_err()
}

#[test]
fn numbers_stay_the_numbers_that_they_are() {
    assert_eq!(first(&UInt64Array::from(vec![u64::MAX])), json!(u64::MAX));
    assert_eq!(first(&Int64Array::from(vec![i64::MIN])), json!(i64::MIN));
    assert_eq!(first(&Int8Array::from(vec![-128])), json!(-128));
    assert_eq!(first(&Float32Array::from(vec![0.1])), json!(0.1));
    assert_eq!(
        first(&Float16Array::from(vec![half::f16::from_f32(0.1)])).as_f64().map(|x| x as f32),
        Some(0.099975586)
    );
    assert_eq!(first(&Float64Array::from(vec![-0.0])).to_string(), "-0.0");
    assert_eq!(first(&BooleanArray::from(vec![true])), json!(true));
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(refusal(&Float64Array::from(vec![bad])).contains("no number that JSON has"));
        assert!(refusal(&Float32Array::from(vec![bad as f32])).contains("no number that JSON has"));
    }
}

#[test]
fn decimals_are_numbers_where_a_double_holds_them() {
    let decimal = |value: i128, scale| {
        first(&Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).unwrap()).to_string()
    };
    assert_eq!(decimal(1990, 2), "19.9");
    assert_eq!(decimal(-5, 3), "-0.005");
    assert_eq!(decimal(200, 2), "2");
    assert_eq!(decimal(12_345_678_901_234_567_890_123, 2), "\"123456789012345678901.23\"");
    assert_eq!(decimal(90_071_992_547_409_931, 1), "\"9007199254740993.1\"");
}

#[test]
fn dates_and_times_are_strings_that_sort() {
    assert_eq!(first(&Date32Array::from(vec![-1])), json!("1969-12-31"));
    assert_eq!(first(&Date64Array::from(vec![86_400_000])), json!("1970-01-02"));
    assert_eq!(first(&Date64Array::from(vec![86_400_001])), json!("1970-01-02T00:00:00.001"));
    assert_eq!(first(&Time32SecondArray::from(vec![3_661])), json!("01:01:01"));
    assert_eq!(first(&Time64NanosecondArray::from(vec![1])), json!("00:00:00.000000001"));
    assert!(refusal(&Time32SecondArray::from(vec![86_400])).contains("no time of a day"));
    assert_eq!(first(&TimestampSecondArray::from(vec![-1])), json!("1969-12-31T23:59:59"));
    assert_eq!(first(&TimestampMicrosecondArray::from(vec![1_500_000])), json!("1970-01-01T00:00:01.500000"));
    let zoned = TimestampMillisecondArray::from(vec![1]).with_timezone("Europe/Berlin");
    assert_eq!(first(&zoned), json!("1970-01-01T00:00:00.001Z"));
    assert_eq!(first(&zoned.slice(0, 1)), json!("1970-01-01T00:00:00.001Z"));
    assert!(refusal(&TimestampSecondArray::from(vec![i64::MAX])).contains("years 0 to 9999"));
    assert!(refusal(&Date32Array::from(vec![i32::MIN])).contains("years 0 to 9999"));
    assert_eq!(first(&DurationSecondArray::from(vec![90])), json!(90));
    assert_eq!(first(&IntervalYearMonthArray::from(vec![14])), json!({"months": 14}));
    let interval = IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, 2)]);
    assert_eq!(first(&interval), json!({"days": 1, "milliseconds": 2}));
    let interval = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3)]);
    assert_eq!(first(&interval), json!({"months": 1, "days": 2, "nanoseconds": 3}));
}

#[test]
fn a_slice_of_times_begins_where_it_begins() {
    let times = Time32SecondArray::from(vec![1, 2, 3]).slice(1, 2);
    assert_eq!([first(&times), cell(&times, 1).unwrap()], [json!("00:00:02"), json!("00:00:03")]);
}

#[test]
fn bytes_are_text_or_say_that_they_are_none() {
    assert_eq!(first(&BinaryArray::from(vec!["grün".as_bytes()])), json!("grün"));
    assert_eq!(first(&BinaryViewArray::from(vec![b"\xff\x00".as_slice()])), json!({"base64": "/wA="}));
    assert_eq!(first(&LargeStringArray::from(vec!["x"])), json!("x"));
    assert_eq!(
        first(&StringViewArray::from(vec!["a text longer than twelve bytes"])),
        json!("a text longer than twelve bytes")
    );
    let fixed = FixedSizeBinaryArray::try_from_iter([[1_u8, 254]].iter()).unwrap();
    assert_eq!(first(&fixed), json!({"base64": "Af4="}));
}

#[test]
fn nested_cells_keep_their_shape() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    assert_eq!([first(&list), cell(&list, 1).unwrap()], [json!([1, null]), Value::Null]);
    let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(1)]));
    let b: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let fields = [Arc::new(Field::new("a", DataType::Int64, true)), Arc::new(Field::new("b", DataType::Utf8, true))];
    let object = StructArray::from(vec![(fields[0].clone(), a), (fields[1].clone(), b)]);
    assert_eq!(first(&object), json!({"a": 1}));
    let keys: DictionaryArray<Int8Type> = vec!["x", "y", "x"].into_iter().collect();
    assert_eq!(cell(&keys, 1).unwrap(), json!("y"));
    let runs = RunArray::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec!["p", "q"])).unwrap();
    assert_eq!([first(&runs), cell(&runs, 2).unwrap()], [json!("p"), json!("q")]);
}

#[test]
fn a_key_that_a_map_has_twice_is_refused() {
    let map = |keys: [&str; 2]| {
        let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        keys.iter().for_each(|key| {
            builder.keys().append_value(key);
            builder.values().append_option(Some(*key).filter(|key| *key == "a"));
        });
        builder.append(true).unwrap();
        builder.finish()
    };
    assert_eq!(first(&map(["a", "b"])), json!({"a": "a", "b": null}));
    assert!(refusal(&map(["a", "a"])).contains("`a` of a map is there twice"));
}

#[test]
fn every_type_reads_back_from_how_it_is_recorded() {
    let inner = || Arc::new(Field::new("item", DataType::Utf8, true));
    for kind in [
        DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())),
        DataType::Decimal128(10, 2),
        DataType::List(inner()),
        DataType::FixedSizeList(inner(), 3),
        DataType::Struct(vec![Field::new("a b", DataType::Date32, true)].into()),
        DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Duration(TimeUnit::Nanosecond),
        DataType::FixedSizeBinary(16),
    ] {
        assert_eq!(kind.to_string().parse::<DataType>().unwrap(), kind, "{kind}");
    }
}
