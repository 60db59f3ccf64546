//! Are vectors read as they stand in the file, and is what is not one told so?

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use super::*;

/// What reading a file of this name and content gives, the error as text.
fn given<T>(name: &str, content: &[u8], read: impl Fn(&Path) -> Result<Rows<T>>) -> Result<Rows<T>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, content).unwrap();
    read(&file).map_err(|error| {
        assert!(error.downcast_ref::<Mistake>().is_some(), "{error} is not the caller's");
        error.to_string()
    })
}

fn npy(version: u8, header: &str, numbers: &[u8]) -> Vec<u8> {
    let mut bytes = [b"\x93NUMPY".as_slice(), &[version, 0]].concat();
    let length = (header.len() as u32).to_le_bytes();
    bytes.extend(&length[..if version == 1 { 2 } else { 4 }]);
    bytes.extend(header.as_bytes());
    bytes.extend(numbers);
    bytes
}

fn header(kind: &str, shape: &str) -> String {
    format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}          \n")
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn prefixed(rows: &[&[f32]]) -> Vec<u8> {
    rows.iter().flat_map(|row| [(row.len() as u32).to_le_bytes().to_vec(), f32s(row)].concat()).collect()
}

#[test]
fn every_form_gives_the_same_vectors() {
    let values = [1.0, -2.5, 0.25, 1024.0, 0.0, -0.125];
    let expected = Rows { dims: 3, values: values.to_vec() };
    let f64s: Vec<u8> = values.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
    let f16s: Vec<u8> =
        [0x3c00_u16, 0xc100, 0x3400, 0x6400, 0, 0xb000].iter().flat_map(|bits| bits.to_le_bytes()).collect();
    for (name, content) in [
        ("a.fvecs", prefixed(&[&values[..3], &values[3..]])),
        ("a.npy", npy(1, &header("<f4", "(2, 3)"), &f32s(&values))),
        ("b.npy", npy(2, &header("<f4", "(2, 3)"), &f32s(&values))),
        ("c.npy", npy(1, &header("<f8", "(2, 3)"), &f64s)),
        ("d.npy", npy(1, &header("<f2", "(2, 3)"), &f16s)),
    ] {
        let rows = given(name, &content, vectors).unwrap();
        assert_eq!(rows, expected, "{name}");
        assert_eq!((rows.count(), rows.dims(), rows.row(1)), (2, 3, &values[3..]), "{name}");
    }
}

#[test]
fn row_numbers_have_two_forms() {
    let expected = Rows { dims: 2, values: vec![7_u32, 1, 0, 99] };
    let i64s: Vec<u8> = [7_i64, 1, 0, 99].iter().flat_map(|value| value.to_le_bytes()).collect();
    let ivecs: Vec<u8> = [2_i32, 7, 1, 2, 0, 99].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(given("a.ivecs", &ivecs, row_numbers).unwrap(), expected);
    assert_eq!(given("a.npy", &npy(1, &header("<i8", "(2, 2)"), &i64s), row_numbers).unwrap(), expected);
}

#[test]
fn what_is_no_file_of_vectors_is_refused_with_the_reason() {
    let two = f32s(&[1.0, 2.0]);
    let fortran = header("<f4", "(1, 2)").replace("False", "True");
    for (name, content, words) in [
        ("a.txt", Vec::new(), "must end in .npy"),
        ("a.npy", b"hello".to_vec(), "within its header"),
        ("a.npy", b"hello, world".to_vec(), "does not begin"),
        ("a.npy", npy(1, &header("<f4", "(1, 3)"), &two), "1 rows of 3 take"),
        ("a.npy", npy(1, &header("<f4", "(2,)"), &two), "two dimensions"),
        ("a.npy", npy(1, &header("<f4", "(1, 0)"), &two), "neither of them 0"),
        ("a.npy", npy(1, &header(">f4", "(1, 2)"), &two), "`>f4`"),
        ("a.npy", npy(1, &header("<i4", "(1, 2)"), &two), "does not hold floating-point"),
        ("a.npy", npy(1, &fortran, &two), "Fortran"),
        ("a.npy", npy(1, &header("<f4", "(99999999999999, 99999999999999)"), &two), "more than fit"),
        ("a.fvecs", Vec::new(), "empty"),
        ("a.fvecs", vec![0; 8], "claims 0 numbers"),
        ("a.fvecs", prefixed(&[&[1.0, 2.0], &[1.0]]), "1 rows of 2 take 12 bytes; it has 20"),
        ("a.fvecs", prefixed(&[&[1.0, 2.0], &[1.0], &[]]), "row 1 has another length"),
    ] {
        let message = given(name, &content, vectors).unwrap_err();
        assert!(message.contains(words) && message.contains(name), "{words}: {message}");
    }
    let negative: Vec<u8> = [1_i32, -1].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert!(given("a.ivecs", &negative, row_numbers).unwrap_err().contains("row numbers"));
}

#[test]
fn a_file_that_is_not_there_is_the_caller_s_mistake() {
    let error = vectors(Path::new("nowhere.npy")).unwrap_err();
    assert!(error.downcast_ref::<Mistake>().is_some() && error.to_string().contains("nowhere.npy"), "{error}");
}

#[test]
fn half_precision_is_decoded_bit_by_bit() {
    for (bits, value) in [
        (0x3c00, 1.0),
        (0xbc01, -1.000_976_6),
        (0x7bff, 65_504.0),
        (0x0001, 5.960_464_5e-8),
        (0x03ff, 6.097_555e-5),
        (0x0400, 6.103_515_6e-5),
        (0xfc00, f32::NEG_INFINITY),
    ] {
        assert_eq!(from_f16(bits), value, "{bits:#06x}");
    }
    assert!(from_f16(0x7e00).is_nan());
}
