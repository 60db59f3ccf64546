//! How do vectors lie in a block?
//!
//! `0: u8`, `slots: u16`, `dims: u32`, then `slots` vectors of `dims` numbers. The vector of chunk `n` stands in block
//! `n / per_block` at slot `n % per_block`; slots are filled in order, so a block holds its first `slots` chunks.
//!
//! A full block is just under a power of two of bytes with redb's overhead counted, because redb gives a value that large
//! pages of that size: 384 dimensions cost 1.02 times their bytes this way, and 1.35 to 2.02 times one by one.

use super::{Decoder, Encoder, Place};
use crate::Result;

const VERSION: u8 = 1;
/// What a block costs beside its vectors: 16 bytes of ours (version, header, checksum) and 16 of redb's page and key.
const BLOCK_OVERHEAD: usize = 32;
/// Blocks have 2^15 to 2^18 bytes.
const BLOCK_BITS: std::ops::RangeInclusive<u32> = 15..=18;
/// A block as full as this is not made larger.
const FULL_ENOUGH: f64 = 0.93;

/// How many vectors of so many dimensions make a block: the smallest one that wastes less than 7 %, else the fullest.
pub(crate) fn vectors_per_block(dims: usize) -> u32 {
    let bytes = dims * size_of::<f32>();
    let fill = |bits: u32| {
        let count = ((1_usize << bits) - BLOCK_OVERHEAD) / bytes;
        (count, (count * bytes) as f64 / (1_usize << bits) as f64)
    };
    let enough = BLOCK_BITS.map(fill).find(|&(_, share)| share >= FULL_ENOUGH);
    let fullest = || BLOCK_BITS.map(fill).max_by(|one, other| one.1.total_cmp(&other.1));
    let count = enough.or_else(fullest).map_or(1, |(count, _)| count);
    count.clamp(1, usize::from(u16::MAX)) as u32
}

/// A block whose checksum fits.
pub(crate) struct VectorBlock<'a> {
    /// How many vectors it holds.
    pub(crate) slots: usize,
    dims: usize,
    rows: &'a [u8],
}

impl VectorBlock<'_> {
    /// The vector of a slot.
    pub(crate) fn row(&self, slot: usize) -> Option<Vec<f32>> {
        let bytes = self.dims * size_of::<f32>();
        let row = self.rows.get(slot * bytes..(slot + 1) * bytes)?;
        Some(decode_rows(row).collect())
    }

    /// All its vectors as bytes.
    pub(crate) fn rows(&self) -> &[u8] {
        self.rows
    }
}

/// Numbers out of their bytes.
pub(crate) fn decode_rows(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|number| f32::from_le_bytes(*number))
}

/// The record of a block: `kept`, the bytes of the vectors that were in it before, and the vectors after them.
pub(crate) fn encode_block<'a>(
    place: Place<'_>,
    dims: usize,
    kept: &[u8],
    rows: impl Iterator<Item = &'a [f32]> + Clone,
) -> Vec<u8> {
    let slots = kept.len() / (dims * size_of::<f32>()) + rows.clone().count();
    let mut out = Encoder::new(VERSION);
    out.bytes.reserve(slots * dims * size_of::<f32>() + BLOCK_OVERHEAD);
    out.u8(0);
    out.u16(u16::try_from(slots).expect("a block has at most 65,535 slots"));
    out.u32(dims as u32);
    out.raw(kept);
    for number in rows.flatten() {
        out.raw(&number.to_le_bytes());
    }
    out.finish(place)
}

/// Reads a block of vectors of so many dimensions.
///
/// # Errors
/// [`crate::Error::Corrupt`] where these are not the bytes that were written here.
pub(crate) fn open_block<'a>(place: Place<'a>, dims: usize, bytes: &'a [u8]) -> Result<VectorBlock<'a>> {
    let mut input = Decoder::open(place, VERSION, bytes)?;
    input.u8()?;
    let slots = usize::from(input.u16()?);
    let found = input.u32()? as usize;
    if found != dims {
        return Err(place.corrupt(format!("its vectors have {found} dimensions, not {dims}")));
    }
    let rows = input.take(slots * dims * size_of::<f32>())?;
    input.end()?;
    Ok(VectorBlock { slots, dims, rows })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_just_under_a_power_of_two() {
        for (dims, expected) in [(384, 21), (256, 31), (1024, 15), (1536, 5), (4096, 15), (768, 10), (2, 4092)] {
            assert_eq!(vectors_per_block(dims), expected, "{dims} dimensions");
        }
        for dims in 1..=crate::DIMS_MAX {
            let count = vectors_per_block(dims) as usize;
            let bytes = count * dims * 4 + BLOCK_OVERHEAD;
            assert!((1..=65_535).contains(&count) && bytes <= 1 << 18, "{dims} dimensions: {count} a block");
            let share = bytes as f64 / bytes.next_power_of_two() as f64;
            assert!(share > 0.7, "{dims} dimensions fill {share} of a block");
        }
    }

    #[test]
    fn a_block_grows_and_its_vectors_come_back() {
        let place = Place::new("vectors", (1, 2));
        let rows: Vec<Vec<f32>> = (0..5).map(|n| vec![n as f32, 0.5, -1.5]).collect();
        let first = encode_block(place, 3, &[], rows[..2].iter().map(Vec::as_slice));
        let kept = open_block(place, 3, &first).unwrap();
        let all = encode_block(place, 3, kept.rows(), rows[2..].iter().map(Vec::as_slice));
        let block = open_block(place, 3, &all).unwrap();
        assert_eq!(block.slots, 5);
        for (slot, row) in rows.iter().enumerate() {
            assert_eq!(block.row(slot).as_ref(), Some(row));
        }
        assert_eq!(block.row(5), None);
        assert!(open_block(place, 4, &all).is_err());
        assert!(open_block(Place::new("vectors", (1, 3)), 3, &all).is_err());
    }
}
