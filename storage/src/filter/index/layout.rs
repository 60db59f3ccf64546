//! Where in the file does each array stand, and what is its item at this place?
//!
//! The file is a header and arrays, one after the other. The items of an array have the same width, the smallest that
//! holds its largest number. Invariants: [`Layout`] names every array once, for writing and for reading; no position or
//! count that was read is used before it was compared with what is there.

use std::io::{self, Write};
use std::ops::Range;

use super::number;
use crate::bytes::Bytes;
use crate::{Error, Result};

const MAGIC: [u8; 4] = *b"qvmi";
const VERSION: u32 = 1;
const ARRAYS: usize = 20;
const HEADER_BYTES: usize = 8 + ARRAYS * 9;

/// All arrays of the file, as they are written ([`Column`]) or read ([`Array`]).
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout<T> {
    /// The first chunk of each document.
    pub(super) firsts: T,
    /// How many chunks each document has.
    pub(super) counts: T,
    /// The first child of each node; those of the next begin where these end.
    pub(super) children: T,
    /// The key of each node within its parent.
    pub(super) keys: Slices<T>,
    /// The documents that have each node.
    pub(super) present: Slices<T>,
    /// Null, booleans and numbers.
    pub(super) numbers: Table<T>,
    pub(super) number_keys: T,
    pub(super) texts: Table<T>,
    pub(super) text_bytes: Slices<T>,
}

/// Runs of bytes: run `i` is `bytes[starts[i]..starts[i + 1]]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices<T> {
    pub(super) starts: T,
    pub(super) bytes: T,
}

/// The distinct values of each slot, ascending, and the documents that hold each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<T> {
    /// The slots that have values, ascending.
    pub(super) slots: T,
    /// The first value of each of these; those of the next begin where these end.
    pub(super) firsts: T,
    /// 1 for each of these in which no document holds two values.
    pub(super) lone: T,
    pub(super) postings: Slices<T>,
}

impl<T> Layout<T> {
    /// In the order of the file.
    fn into_array(self) -> [T; ARRAYS] {
        let Self { firsts, counts, children, keys, present, numbers, number_keys, texts, text_bytes } = self;
        let [n1, n2, n3, n4, n5] = numbers.into_array();
        let [t1, t2, t3, t4, t5] = texts.into_array();
        [
            firsts,
            counts,
            children,
            keys.starts,
            keys.bytes,
            present.starts,
            present.bytes,
            n1,
            n2,
            n3,
            n4,
            n5,
            number_keys,
            t1,
            t2,
            t3,
            t4,
            t5,
            text_bytes.starts,
            text_bytes.bytes,
        ]
    }

    fn from_array(arrays: [T; ARRAYS]) -> Self {
        let [firsts, counts, children, k1, k2, p1, p2, n1, n2, n3, n4, n5, number_keys, t1, t2, t3, t4, t5, b1, b2] =
            arrays;
        Self {
            firsts,
            counts,
            children,
            keys: Slices { starts: k1, bytes: k2 },
            present: Slices { starts: p1, bytes: p2 },
            numbers: Table { slots: n1, firsts: n2, lone: n3, postings: Slices { starts: n4, bytes: n5 } },
            number_keys,
            texts: Table { slots: t1, firsts: t2, lone: t3, postings: Slices { starts: t4, bytes: t5 } },
            text_bytes: Slices { starts: b1, bytes: b2 },
        }
    }
}

impl<T> Table<T> {
    fn into_array(self) -> [T; 5] {
        let Self { slots, firsts, lone, postings: Slices { starts, bytes } } = self;
        [slots, firsts, lone, starts, bytes]
    }
}

/// An array that is to be written.
pub(super) struct Column {
    width: usize,
    bytes: Vec<u8>,
}

impl Column {
    pub(super) fn ints(values: &[u64]) -> Self {
        let width = width(values.iter().copied().max().unwrap_or(0));
        let bytes = values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(width)).collect();
        Self { width, bytes }
    }

    pub(super) fn bytes(bytes: Vec<u8>) -> Self {
        Self { width: 1, bytes }
    }

    pub(super) fn items(width: usize, bytes: Vec<u8>) -> Self {
        Self { width, bytes }
    }
}

/// The bytes that a number up to this one takes, at least one.
pub(super) fn width(largest: u64) -> usize {
    (8 - largest.leading_zeros() as usize / 8).max(1)
}

pub(super) fn write(layout: Layout<Column>, out: &mut impl Write) -> io::Result<()> {
    let columns = layout.into_array();
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    for Column { width, bytes } in &columns {
        out.write_all(&[*width as u8])?;
        out.write_all(&((bytes.len() / width) as u64).to_le_bytes())?;
    }
    columns.iter().try_for_each(|column| out.write_all(&column.bytes))
}

/// An array in the file: `count` items of `width` bytes from `at` on, all within the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Array {
    at: usize,
    width: usize,
    pub(super) count: usize,
}

/// The file, and what it is called in errors.
pub(super) struct Reader<B> {
    pub(super) bytes: B,
    pub(super) place: String,
}

impl<B: Bytes> Reader<B> {
    /// Where the arrays stand. Their counts fit each other.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the file is no index, is of another version, or is shorter or longer than it says.
    pub(super) fn layout(&self) -> Result<Layout<Array>> {
        if self.bytes.len() < HEADER_BYTES {
            return Err(self.corrupt(format!("{} bytes are too few for a header", self.bytes.len())));
        }
        let header = self.bytes.get(0..HEADER_BYTES)?;
        let (start, arrays) = header.split_at(8);
        if start[..4] != MAGIC {
            return Err(self.corrupt("it is no metadata index"));
        }
        let version = read(&start[4..]);
        if version != u64::from(VERSION) {
            return Err(self.corrupt(format!("it has version {version}; this build reads {VERSION}")));
        }
        let mut at = HEADER_BYTES;
        let mut found = [Array { at: 0, width: 1, count: 0 }; ARRAYS];
        for (array, bytes) in found.iter_mut().zip(arrays.chunks_exact(9)) {
            *array = self.array(at, usize::from(bytes[0]), read(&bytes[1..]))?;
            at += array.count * array.width;
        }
        if at != self.bytes.len() {
            return Err(self.corrupt(format!("it has {} bytes, not {at} as its header says", self.bytes.len())));
        }
        let layout = Layout::from_array(found);
        self.check(&layout)?;
        Ok(layout)
    }

    fn array(&self, at: usize, width: usize, count: u64) -> Result<Array> {
        let end = usize::try_from(count).ok().and_then(|count| count.checked_mul(width)?.checked_add(at));
        match end {
            Some(end) if end <= self.bytes.len() && (1..=number::BYTES).contains(&width) => {
                Ok(Array { at, width, count: (end - at) / width })
            }
            Some(_) | None => Err(self.corrupt(format!("{count} items of {width} bytes do not fit into it"))),
        }
    }

    fn check(&self, layout: &Layout<Array>) -> Result<()> {
        let Layout { firsts, counts, children, keys, present, numbers, number_keys, texts, text_bytes } = layout;
        let pairs = [
            (firsts.count, counts.count),
            (keys.starts.count, children.count),
            (present.starts.count, children.count),
            (numbers.firsts.count, numbers.slots.count + 1),
            (numbers.lone.count, numbers.slots.count),
            (numbers.postings.starts.count, number_keys.count + 1),
            (texts.firsts.count, texts.slots.count + 1),
            (texts.lone.count, texts.slots.count),
            (texts.postings.starts.count, text_bytes.starts.count),
        ];
        let ints = [firsts, counts, children, &keys.starts, &present.starts, &numbers.slots, &numbers.firsts]
            .into_iter()
            .chain([&numbers.postings.starts, &texts.slots, &texts.firsts, &texts.postings.starts, &text_bytes.starts]);
        let runs = [keys.bytes, present.bytes, numbers.postings.bytes, texts.postings.bytes, text_bytes.bytes]
            .into_iter()
            .chain([numbers.lone, texts.lone]);
        let fit = pairs.iter().all(|(one, two)| one == two)
            && ints.into_iter().all(|array| array.width <= 8)
            && runs.into_iter().all(|array| array.width == 1)
            && number_keys.width == number::BYTES;
        if fit { Ok(()) } else { Err(self.corrupt("its arrays do not fit each other")) }
    }

    /// The bytes of these items.
    pub(super) fn raw(&self, array: Array, items: Range<usize>) -> Result<&[u8]> {
        if items.start > items.end || items.end > array.count {
            let Range { start, end } = items;
            return Err(self.corrupt(format!("items {start} to {end} of {} are asked for", array.count)));
        }
        self.bytes.get(array.at + items.start * array.width..array.at + items.end * array.width)
    }

    /// These numbers.
    pub(super) fn ints(&self, array: Array, items: Range<usize>) -> Result<impl Iterator<Item = usize>> {
        Ok(ints(self.raw(array, items)?, array.width))
    }

    /// The number at this place.
    pub(super) fn int(&self, array: Array, item: usize) -> Result<usize> {
        Ok(read(self.raw(array, item..item.saturating_add(1))?) as usize)
    }

    /// The run at this place.
    pub(super) fn slice(&self, slices: Slices<Array>, item: usize) -> Result<&[u8]> {
        let starts = self.raw(slices.starts, item..item.saturating_add(2))?;
        let (start, end) = starts.split_at(slices.starts.width);
        self.raw(slices.bytes, read(start) as usize..read(end) as usize)
    }

    pub(super) fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt(self.place.clone(), what)
    }
}

/// The numbers that stand one after the other in these bytes.
pub(super) fn ints(bytes: &[u8], width: usize) -> impl Iterator<Item = usize> {
    // Numbers of 64 bits are cut on a machine of 32; they are then out of range or, at worst, another one's.
    bytes.chunks_exact(width).map(|item| read(item) as usize)
}

/// A little-endian number of up to 8 bytes.
#[inline]
fn read(bytes: &[u8]) -> u64 {
    match *bytes {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c] => u64::from(u32::from_le_bytes([a, b, c, 0])),
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        _ => bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    }
}
