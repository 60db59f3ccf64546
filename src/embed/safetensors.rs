//! Which tensors does a safetensors file hold?
//!
//! The format: the header's length (8 bytes, little-endian), the header (JSON: name to dtype, shape, and first and last
//! byte), the data. Every length is checked against the file before it is believed.

use std::ops::Range;

use serde_json::{Map, Value};

/// No header of a module of a few tensors comes near this.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// A file's tensors, read where they are asked for.
pub(crate) struct Safetensors<'a> {
    header: Map<String, Value>,
    data: &'a [u8],
}

/// A tensor as f32, whatever its type in the file.
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl<'a> Safetensors<'a> {
    /// Reads the header.
    pub(crate) fn read(file: &'a [u8]) -> Result<Self, String> {
        let (length, rest) = file.split_first_chunk::<8>().ok_or("it is too short for a safetensors file")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > HEADER_BYTES_MAX || length > rest.len() {
            return Err(format!("its header claims {length} bytes, the file has {}: damaged", file.len()));
        }
        let (header, data) = rest.split_at(length);
        let header =
            serde_json::from_slice(header).map_err(|error| format!("its header is no JSON object: {error}"))?;
        Ok(Self { header, data })
    }

    /// The first of the names that is there.
    pub(crate) fn tensor(&self, names: &[&str]) -> Result<Option<Tensor>, String> {
        let found = names.iter().find_map(|name| Some((name, self.header.get(*name)?)));
        let Some((name, entry)) = found else { return Ok(None) };
        let read = || -> Option<Result<Tensor, String>> {
            let dtype = entry.get("dtype")?.as_str()?;
            let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
            let shape: Vec<usize> = entry.get("shape")?.as_array()?.iter().map(number).collect::<Option<_>>()?;
            let offsets: Vec<usize> =
                entry.get("data_offsets")?.as_array()?.iter().map(number).collect::<Option<_>>()?;
            let [start, end] = offsets[..] else { return None };
            let count = shape.iter().try_fold(1_usize, |count, &side| count.checked_mul(side))?;
            let bytes = self.data.get(Range { start, end })?;
            Some(numbers(dtype, bytes).and_then(|values| match values.len() == count {
                true => Ok(Tensor { shape, values }),
                false => Err(format!("holds {} numbers; its shape says {count}", values.len())),
            }))
        };
        let read = read().unwrap_or_else(|| Err("has a description that does not fit the file: damaged".into()));
        read.map(Some).map_err(|reason| format!("tensor `{name}` {reason}"))
    }
}

fn numbers(dtype: &str, bytes: &[u8]) -> Result<Vec<f32>, String> {
    Ok(match dtype {
        "F32" => bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
        "F64" => bytes.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight) as f32).collect(),
        "F16" => bytes.as_chunks().0.iter().map(|&two| from_half(u16::from_le_bytes(two))).collect(),
        "BF16" => bytes.as_chunks().0.iter().map(|&two| from_bfloat(u16::from_le_bytes(two))).collect(),
        "I8" => bytes.iter().map(|&byte| f32::from(byte as i8)).collect(),
        "I32" => bytes.as_chunks().0.iter().map(|&four| i32::from_le_bytes(four) as f32).collect(),
        "I64" => bytes.as_chunks().0.iter().map(|&eight| i64::from_le_bytes(eight) as f32).collect(),
        other => return Err(format!("is of type {other}; F32, F64, F16, BF16, I8, I32 and I64 are supported")),
    })
}

fn from_bfloat(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// IEEE 754 binary16.
fn from_half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f32::from(bits & 0x3FF));
    match exponent {
        0 => sign * fraction * 2.0_f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2.0_f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(data);
        file
    }

    #[test]
    fn halves_are_read_as_ieee_754_says() {
        for (bits, value) in
            [(0x3C00, 1.0), (0xC000, -2.0), (0x3555, 0.333_251_95), (1, 5.960_464_5e-8), (0x7BFF, 65504.0)]
        {
            assert_eq!(from_half(bits), value);
        }
        assert!(from_half(0x7E00).is_nan() && from_half(0xFC00) == f32::NEG_INFINITY);
    }

    #[test]
    fn a_tensor_comes_with_its_shape() {
        let file = file(r#"{"a":{"dtype":"I8","shape":[1,2],"data_offsets":[1,3]}}"#, &[9, 1, 255]);
        let tensor = Safetensors::read(&file).unwrap().tensor(&["b", "a"]).unwrap().unwrap();
        assert_eq!((tensor.shape, tensor.values), (vec![1, 2], vec![1.0, -1.0]));
    }

    #[test]
    fn lengths_that_do_not_fit_the_file_are_refused() {
        assert!(Safetensors::read(&[1, 2]).is_err());
        assert!(Safetensors::read(&u64::MAX.to_le_bytes()).is_err());
        for (shape, offsets) in
            [("[3]", "[0,2]"), ("[2]", "[1,9]"), ("[2]", "[2,0]"), ("[4294967295,4294967297]", "[0,2]")]
        {
            let file = file(&format!(r#"{{"a":{{"dtype":"I8","shape":{shape},"data_offsets":{offsets}}}}}"#), &[1, 2]);
            assert!(Safetensors::read(&file).unwrap().tensor(&["a"]).is_err(), "{shape} {offsets}");
        }
    }
}
