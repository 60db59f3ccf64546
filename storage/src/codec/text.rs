//! How is a text stored, so that one passage of a book need not unpack the book?
//!
//! `length: u32`, then for each block of 64 KiB of text its compressed length as `u32`, then the blocks, each packed by
//! itself with LZ4. Blocks end anywhere, between two bytes of a character too.

use super::{Decoder, Encoder, Place};
use crate::Result;

const VERSION: u8 = 1;
/// Bytes of text a block: large enough to compress well, small enough that reading one passage costs some 30 us.
const BLOCK_BYTES: usize = 64 << 10;

/// The record of a text.
pub(crate) fn encode_text(place: Place<'_>, text: &str) -> Vec<u8> {
    let mut out = Encoder::new(VERSION);
    out.u32(u32::try_from(text.len()).expect("texts are refused above 1 GiB"));
    let blocks: Vec<Vec<u8>> = text.as_bytes().chunks(BLOCK_BYTES).map(lz4_flex::block::compress).collect();
    for block in &blocks {
        out.u32(block.len() as u32);
    }
    for block in &blocks {
        out.raw(block);
    }
    out.finish(place)
}

/// The whole text of a record.
///
/// # Errors
/// [`crate::Error::Corrupt`] where these are not the bytes that were written here.
pub(crate) fn decode_text(place: Place<'_>, bytes: &[u8]) -> Result<String> {
    let length = Decoder::open(place, VERSION, bytes)?.u32()? as usize;
    decode_text_range(place, bytes, 0, length)
}

/// The bytes from `start` to `end` of a record's text. Unpacks the blocks that hold them; the checksum reads all.
///
/// # Errors
/// [`crate::Error::Corrupt`] where these are not the bytes that were written here, or the range is not of this text or
/// cuts a character.
pub(crate) fn decode_text_range(place: Place<'_>, bytes: &[u8], start: usize, end: usize) -> Result<String> {
    let mut input = Decoder::open(place, VERSION, bytes)?;
    let length = input.u32()? as usize;
    if start > end || end > length {
        return Err(place.corrupt(format!("bytes {start} to {end} were asked of a text of {length}")));
    }
    let count = length.div_ceil(BLOCK_BYTES);
    let sizes = (0..count).map(|_| input.u32()).collect::<Result<Vec<u32>>>()?;
    let wanted = start / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
    let mut text = Vec::with_capacity(wanted.len() * BLOCK_BYTES);
    for (block, size) in sizes.into_iter().enumerate() {
        let packed = input.take(size as usize)?;
        if wanted.contains(&block) && start < end {
            let expected = BLOCK_BYTES.min(length - block * BLOCK_BYTES);
            text.extend(unpack(place, packed, expected)?);
        }
    }
    input.end()?;
    let skipped = wanted.start * BLOCK_BYTES;
    if start == end {
        return Ok(String::new());
    }
    text.truncate(end - skipped);
    text.drain(..start - skipped);
    String::from_utf8(text).map_err(|error| place.corrupt(format!("bytes {start} to {end} are not text: {error}")))
}

fn unpack(place: Place<'_>, packed: &[u8], expected: usize) -> Result<Vec<u8>> {
    let block = lz4_flex::block::decompress(packed, expected).map_err(|error| place.corrupt(error.to_string()))?;
    if block.len() != expected {
        return Err(place.corrupt(format!("a block unpacks to {} bytes, not {expected}", block.len())));
    }
    Ok(block)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_whole_and_in_parts() {
        let place = Place::new("texts", (1, 2));
        let long: String = (0..60_000).map(|n| format!("{n}é ")).collect();
        assert!(long.len() > 5 * BLOCK_BYTES);
        for text in ["", "é", "short", &long[..long.floor_char_boundary(BLOCK_BYTES)], long.as_str()] {
            let bytes = encode_text(place, text);
            assert_eq!(decode_text(place, &bytes).unwrap(), text);
            for (start, end) in [(0, 0), (text.len(), text.len()), (text.len() / 3, text.len() / 2)] {
                let (start, end) = (text.floor_char_boundary(start), text.floor_char_boundary(end));
                assert_eq!(decode_text_range(place, &bytes, start, end).unwrap(), &text[start..end]);
            }
        }
        let bytes = encode_text(place, &long);
        for edge in [BLOCK_BYTES - 4, BLOCK_BYTES, 2 * BLOCK_BYTES, long.len() - 8] {
            let (start, end) = (long.floor_char_boundary(edge), long.floor_char_boundary(edge + 8));
            assert_eq!(decode_text_range(place, &bytes, start, end).unwrap(), &long[start..end]);
        }
    }

    #[test]
    fn a_range_that_is_not_of_the_text_is_refused() {
        let place = Place::new("texts", (1, 2));
        let bytes = encode_text(place, "aé");
        for (start, end) in [(0, 4), (3, 2), (0, 2), (2, 3)] {
            assert!(decode_text_range(place, &bytes, start, end).is_err(), "{start}..{end}");
        }
    }
}
