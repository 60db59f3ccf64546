//! Which vectors stand in this file?
//!
//! Reads the two forms that data sets of vectors come in: `.fvecs` and `.ivecs` (each row an i32 with its length, then so
//! many f32 or i32), and NumPy's `.npy` (two dimensions in C order). The whole file is decoded into one array, a few rows
//! at a time, so that it is in memory once.
//!
//! Invariants: all rows have the same length, which is not 0; a file that is cut short or too long is refused.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};

use crate::cli::session::Mistake;
use crate::cli::sources::unreadable;

/// Rows of one length.
#[derive(Debug, PartialEq)]
pub(super) struct Rows<T> {
    dims: usize,
    values: Vec<T>,
}

impl<T> Rows<T> {
    #[cfg(test)]
    pub(super) fn new(dims: usize, values: Vec<T>) -> Self {
        Self { dims, values }
    }

    /// The length of a row.
    pub(super) fn dims(&self) -> usize {
        self.dims
    }

    /// The number of rows.
    pub(super) fn count(&self) -> usize {
        self.values.len() / self.dims
    }

    pub(super) fn row(&self, index: usize) -> &[T] {
        &self.values[index * self.dims..(index + 1) * self.dims]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[T]> + Clone {
        self.values.chunks_exact(self.dims)
    }

    /// The rows from this one on.
    pub(super) fn part(&self, start: usize) -> Self
    where
        T: Clone,
    {
        Self { dims: self.dims, values: self.values[start * self.dims..].to_vec() }
    }

    /// Row after row.
    pub(super) fn values(&self) -> &[T] {
        &self.values
    }
}

/// The vectors of an `.fvecs` or `.npy` file; numbers of 16 and 64 bits become f32.
pub(super) fn vectors(file: &Path) -> Result<Rows<f32>> {
    let decode: fn(Kind, &[u8]) -> Option<f32> = |kind, bytes| match kind {
        Kind::F16 => Some(from_f16(u16::from_le_bytes(bytes.try_into().ok()?))),
        Kind::F32 => Some(f32::from_le_bytes(bytes.try_into().ok()?)),
        Kind::F64 => Some(f64::from_le_bytes(bytes.try_into().ok()?) as f32),
        Kind::I32 | Kind::I64 => None,
    };
    read(file, "floating-point numbers (f2, f4 or f8)", decode)
}

/// The row numbers of an `.ivecs` or `.npy` file.
pub(super) fn row_numbers(file: &Path) -> Result<Rows<u32>> {
    let decode: fn(Kind, &[u8]) -> Option<u32> = |kind, bytes| match kind {
        Kind::I32 => u32::try_from(i32::from_le_bytes(bytes.try_into().ok()?)).ok(),
        Kind::I64 => u32::try_from(i64::from_le_bytes(bytes.try_into().ok()?)).ok(),
        Kind::F16 | Kind::F32 | Kind::F64 => None,
    };
    read(file, "row numbers (i4 or i8, 0 or more)", decode)
}

/// The type of a number, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F16,
    F32,
    F64,
    I32,
    I64,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// By NumPy's name; big-endian numbers are not read.
    fn named(name: &str) -> Option<Self> {
        match name {
            "<f2" => Some(Self::F16),
            "<f4" => Some(Self::F32),
            "<f8" => Some(Self::F64),
            // Negative row numbers are refused, so that the sign bit of unsigned ones is, too.
            "<i4" | "<u4" => Some(Self::I32),
            "<i8" | "<u8" => Some(Self::I64),
            _ => None,
        }
    }
}

/// Where the numbers of a file lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    kind: Kind,
    rows: usize,
    dims: usize,
    /// Bytes before the first row.
    header: usize,
    /// Whether each row begins with its length.
    prefixed: bool,
}

impl Layout {
    fn row_bytes(self) -> Option<usize> {
        self.dims.checked_mul(self.kind.bytes())?.checked_add(if self.prefixed { 4 } else { 0 })
    }

    fn file_bytes(self) -> Option<usize> {
        self.row_bytes()?.checked_mul(self.rows)?.checked_add(self.header)
    }
}

fn read<T>(file: &Path, wanted: &str, decode: impl Fn(Kind, &[u8]) -> Option<T>) -> Result<Rows<T>> {
    let mistake = |message: String| Mistake::new(format!("{}: {message}", file.display()));
    let opened = File::open(file).map_err(|error| unreadable(file, error))?;
    let bytes = opened.metadata().with_context(|| file.display().to_string())?.len() as usize;
    let mut reader = BufReader::with_capacity(1 << 20, opened);
    let layout = match file.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => npy_layout(&mut reader),
        Some("fvecs") => prefixed_layout(&mut reader, Kind::F32, bytes),
        Some("ivecs") => prefixed_layout(&mut reader, Kind::I32, bytes),
        Some(_) | None => Err("its name must end in .npy, .fvecs or .ivecs".into()),
    };
    let layout = layout.map_err(mistake)?;
    let (Some(row_bytes), Some(expected)) = (layout.row_bytes(), layout.file_bytes()) else {
        return Err(mistake(format!("{} rows of {} are more than fit", layout.rows, layout.dims)).into());
    };
    if expected != bytes {
        let Layout { rows, dims, .. } = layout;
        return Err(mistake(format!("{rows} rows of {dims} take {expected} bytes; it has {bytes}")).into());
    }
    let mut values = Vec::with_capacity(layout.rows * layout.dims);
    let mut row = vec![0; row_bytes];
    for number in 0..layout.rows {
        reader.read_exact(&mut row).with_context(|| file.display().to_string())?;
        let numbers = if layout.prefixed { &row[4..] } else { &row[..] };
        if layout.prefixed && row[..4] != (layout.dims as u32).to_le_bytes() {
            return Err(mistake(format!("row {number} has another length than row 0 ({})", layout.dims)).into());
        }
        for bytes in numbers.chunks_exact(layout.kind.bytes()) {
            let value = decode(layout.kind, bytes);
            values.push(value.ok_or_else(|| mistake(format!("row {number} does not hold {wanted}")))?);
        }
    }
    Ok(Rows { dims: layout.dims, values })
}

/// The layout of an `.fvecs` or `.ivecs` file; its first four bytes, which say how long rows are, are put back by seeking.
fn prefixed_layout(reader: &mut BufReader<File>, kind: Kind, bytes: usize) -> Result<Layout, String> {
    let mut first = [0; 4];
    reader.read_exact(&mut first).map_err(|_| "it is empty".to_owned())?;
    reader.seek_relative(-4).map_err(|error| error.to_string())?;
    let dims = u32::from_le_bytes(first) as usize;
    if dims == 0 || dims > quiverdb_storage::DIMS_MAX {
        return Err(format!("its first row claims {dims} numbers; is it little-endian?"));
    }
    Ok(Layout { kind, rows: bytes / (4 + 4 * dims), dims, header: 0, prefixed: true })
}

/// Reads the header of an `.npy` file: the magic, a version, the length of a text, and the text, a Python dictionary
/// (NumPy Enhancement Proposal 1).
fn npy_layout(reader: &mut impl Read) -> Result<Layout, String> {
    let mut start = [0; 8];
    let cut = |_| "it ends within its header".to_owned();
    reader.read_exact(&mut start).map_err(cut)?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err("it does not begin as an .npy file does".into());
    }
    let width = if start[6] == 1 { 2 } else { 4 };
    let mut length = [0; 4];
    reader.read_exact(&mut length[..width]).map_err(cut)?;
    let length = u32::from_le_bytes(length) as usize;
    let mut text = Vec::new();
    reader.take(length as u64).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() < length {
        return Err("it ends within its header".into());
    }
    let header = 8 + width + length;
    let text = String::from_utf8_lossy(&text);
    let value = |key: &str| text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let name = value("descr").and_then(|rest| rest.split('\'').nth(1)).unwrap_or_default();
    let kind = Kind::named(name)
        .ok_or_else(|| format!("its numbers are of type `{name}`; use f2, f4 or f8, or i4 or i8, little-endian"))?;
    if !value("fortran_order").is_some_and(|rest| rest.starts_with("False")) {
        return Err("it is in Fortran order; save numpy.ascontiguousarray(x)".into());
    }
    let shape = value("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map_or("", |(shape, _)| shape);
    let sizes: Option<Vec<usize>> =
        shape.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok()).collect();
    match sizes.as_deref() {
        Some(&[rows, dims]) if rows > 0 && dims > 0 => Ok(Layout { kind, rows, dims, header, prefixed: false }),
        _ => Err(format!("its shape is ({shape}); two dimensions are needed, (rows, dims), neither of them 0")),
    }
}

/// IEEE 754 binary16: 1 bit of sign, 5 of exponent (bias 15), 10 of fraction.
fn from_f16(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2_f32.powi(exponent - 25),
    }
}

#[cfg(test)]
#[path = "arrays_tests.rs"]
mod tests;
