//! How many strings, and of what length, do these delta-encoded bytes of a Parquet page claim?
//!
//! The decoders of `DELTA_LENGTH_BYTE_ARRAY` and `DELTA_BYTE_ARRAY` allocate for as many values as the bytes themselves claim,
//! and the second repeats the beginning of one value in the next without a bound. The layout is that of "Delta Encoding" in
//! Parquet's `Encodings.md`.

use super::thrift::Flaw;

/// Looks at the values of a page with so many; returns the bytes that they become. `with_prefixes`: `DELTA_BYTE_ARRAY`.
pub(super) fn check(values: &[u8], count: u64, with_prefixes: bool) -> Result<u64, Flaw> {
    let first = lengths(values, 0, count)?;
    if !with_prefixes {
        return Ok(values.len() as u64);
    }
    lengths(values, first.end, count)?;
    Ok(first.sum.saturating_add(values.len() as u64))
}

/// A run of whole numbers: where it ends, and their sum.
struct Run {
    end: usize,
    sum: u64,
}

const SHORT: &str = "delta-encoded lengths that end too early";

/// Walks a run of `DELTA_BINARY_PACKED` that begins at `at`.
fn lengths(bytes: &[u8], at: usize, most: u64) -> Result<Run, Flaw> {
    let mut at = at;
    let block = varint(bytes, &mut at)?;
    let minis = varint(bytes, &mut at)?;
    let count = varint(bytes, &mut at)?;
    if count > most {
        return Err(format!("{count} delta-encoded lengths in a page of {most} values"));
    }
    if minis == 0 || minis > 4_096 || block > 1 << 24 || block % minis != 0 || (block / minis) % 8 != 0 {
        return Err(format!("blocks of {block} lengths in {minis} parts"));
    }
    let of_mini = block / minis;
    let mut value = zigzag(varint(bytes, &mut at)?);
    let mut sum = if count > 0 { value.max(0) as u64 } else { 0 };
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let least = zigzag(varint(bytes, &mut at)?);
        let widths = bytes.get(at..at + minis as usize).ok_or(SHORT)?;
        at += minis as usize;
        for &width in widths {
            if left == 0 {
                break;
            }
            if width > 64 {
                return Err(format!("lengths of {width} bits"));
            }
            let size = usize::from(width) * of_mini as usize / 8;
            let packed = bytes.get(at..at.checked_add(size).ok_or(SHORT)?).ok_or(SHORT)?;
            at += size;
            for index in 0..of_mini.min(left) {
                value = value.wrapping_add(least).wrapping_add(unpacked(packed, index, width));
                sum = sum.saturating_add(value.max(0) as u64);
            }
            left = left.saturating_sub(of_mini);
        }
    }
    Ok(Run { end: at, sum })
}

/// The number of so many bits at an index, the lowest bit first.
fn unpacked(packed: &[u8], index: u64, width: u8) -> i64 {
    let begin = index * u64::from(width);
    let bit = |offset: u64| {
        let at = begin + offset;
        packed.get((at / 8) as usize).map_or(0, |byte| u64::from(byte >> (at % 8) & 1)) << offset
    };
    (0..u64::from(width)).map(bit).sum::<u64>() as i64
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, Flaw> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(SHORT)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a length of more than 64 bits".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Blocks of 128 in 4 parts, five values: 7, then four deltas of 1 and widths of 0 bits.
    const SEVEN_TO_ELEVEN: [u8; 10] = [0x80, 0x01, 4, 5, 14, 2, 0, 0, 0, 0];

    #[test]
    fn lengths_are_counted_and_summed() {
        let run = lengths(&SEVEN_TO_ELEVEN, 0, 5).unwrap();
        assert_eq!((run.end, run.sum), (10, 7 + 8 + 9 + 10 + 11));
        assert_eq!(check(&SEVEN_TO_ELEVEN.repeat(2), 5, true).unwrap(), 45 + 20);
        // With a width of two bits the four deltas are 1 and what is packed: 0, 1, 2, 3.
        let mut packed = vec![0x80, 0x01, 4, 5, 14, 2, 2, 0, 0, 0, 0b1110_0100];
        packed.extend([0; 7]);
        assert_eq!(lengths(&packed, 0, 5).unwrap().sum, 7 + 8 + 10 + 13 + 17);
    }

    #[test]
    fn more_lengths_than_values_are_refused() {
        let flaw = check(&SEVEN_TO_ELEVEN, 4, false).unwrap_err();
        assert!(flaw.contains("5 delta-encoded lengths in a page of 4"), "{flaw}");
        assert!(check(&SEVEN_TO_ELEVEN[..7], 5, false).is_err());
        assert!(check(&SEVEN_TO_ELEVEN, 5, true).is_err());
    }
}
