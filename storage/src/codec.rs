//! What do the bytes of a record mean, and are they those that were written?
//!
//! A record is `version: u8`, a payload, and `checksum: u64`: XXH3 over version and payload, seeded with the record's
//! table and key, so that a value under another key is found out too. redb does not verify its pages when it reads, so
//! this is what stands between a flipped bit and a wrong answer.
//!
//! Invariants: little-endian everywhere; nothing of a payload is read before its checksum fits; a payload is read to its
//! last byte; encoders take their struct fully apart, so that a new field cannot be forgotten.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::{Error, Result};

mod block;
mod records;
mod text;

pub(crate) use block::{VectorBlock, decode_rows, encode_block, open_block, vectors_per_block};
pub(crate) use records::{
    CacheTotals, CachedRecord, ChunkRange, ChunkRecord, CollectionRecord, DocumentRecord, Identity, Json, Moment,
    NextNumbers, Number, Opaque, SegmentRecord, Sequence, SpaceRecord, Tombstones,
};
pub(crate) use text::{decode_text, decode_text_range, encode_text};

const CHECKSUM_BYTES: usize = 8;

/// Where a record stands: its table and key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    table: &'a str,
    key: PlaceKey<'a>,
}

/// A key of any table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PlaceKey<'a> {
    Name(&'a str),
    Number(u32),
    Pair(u32, u32),
    Id(u32, &'a [u8]),
    Wide(u64),
}

impl<'a> From<&'a str> for PlaceKey<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl From<u32> for PlaceKey<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for PlaceKey<'_> {
    fn from(number: u64) -> Self {
        Self::Wide(number)
    }
}

impl From<(u32, u32)> for PlaceKey<'_> {
    fn from((owner, number): (u32, u32)) -> Self {
        Self::Pair(owner, number)
    }
}

impl<'a> From<(u32, &'a [u8])> for PlaceKey<'a> {
    fn from((owner, id): (u32, &'a [u8])) -> Self {
        Self::Id(owner, id)
    }
}

impl<'a> Place<'a> {
    pub(crate) fn new(table: &'a str, key: impl Into<PlaceKey<'a>>) -> Self {
        Self { table, key: key.into() }
    }

    /// What seeds the checksum: XXH3 over the table's name, the kind of key and the key.
    fn seed(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(self.table.as_bytes());
        match self.key {
            PlaceKey::Name(name) => {
                hash.update(&[0, 0]);
                hash.update(name.as_bytes());
            }
            PlaceKey::Number(number) => {
                hash.update(&[0, 1]);
                hash.update(&number.to_le_bytes());
            }
            PlaceKey::Pair(owner, number) => {
                hash.update(&[0, 2]);
                hash.update(&owner.to_le_bytes());
                hash.update(&number.to_le_bytes());
            }
            PlaceKey::Id(owner, id) => {
                hash.update(&[0, 3]);
                hash.update(&owner.to_le_bytes());
                hash.update(id);
            }
            PlaceKey::Wide(number) => {
                hash.update(&[0, 4]);
                hash.update(&number.to_le_bytes());
            }
        }
        hash.digest()
    }

    /// Whether this is what stands under a name.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        matches!(self.key, PlaceKey::Name(found) if found == name)
    }

    /// The error that says what does not fit here.
    pub(crate) fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt(self.to_string(), what)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, key } = self;
        match key {
            PlaceKey::Name(name) => write!(f, "table {table}, key `{name}`"),
            PlaceKey::Number(number) => write!(f, "table {table}, key {number}"),
            PlaceKey::Wide(number) => write!(f, "table {table}, key {number}"),
            PlaceKey::Pair(owner, number) => write!(f, "table {table}, key ({owner}, {number})"),
            PlaceKey::Id(owner, id) => match crate::keys::decode_id(id) {
                Some(id) => write!(f, "table {table}, key ({owner}, `{id}`)"),
                None => match std::str::from_utf8(id) {
                    Ok(text) => write!(f, "table {table}, key ({owner}, `{}`)", text.escape_debug()),
                    Err(_) => write!(f, "table {table}, key ({owner}, {id:02x?})"),
                },
            },
        }
    }
}

/// A struct with a layout of its own.
pub(crate) trait Record: Sized {
    /// Changes with the layout.
    const VERSION: u8;
    /// Writes the payload.
    fn encode(&self, out: &mut Encoder);
    /// Reads what [`Record::encode`] wrote.
    fn decode(input: &mut Decoder<'_>) -> Result<Self>;
}

/// The bytes of a record that is to stand at this place.
pub(crate) fn encode<R: Record>(place: Place<'_>, record: &R) -> Vec<u8> {
    let mut out = Encoder::new(R::VERSION);
    record.encode(&mut out);
    out.finish(place)
}

/// The record at this place.
///
/// # Errors
/// [`Error::Corrupt`] naming table and key, where these are not the bytes that were written here.
pub(crate) fn decode<R: Record>(place: Place<'_>, bytes: &[u8]) -> Result<R> {
    let mut input = Decoder::open(place, R::VERSION, bytes)?;
    let record = R::decode(&mut input)?;
    input.end()?;
    Ok(record)
}

/// Whether these are the bytes that were written at this place, whatever they mean.
///
/// # Errors
/// [`Error::Corrupt`] where they are not.
pub(crate) fn expect_whole(place: Place<'_>, bytes: &[u8]) -> Result<()> {
    body(place, bytes).map(drop)
}

/// A record without its checksum, which fits.
fn body<'a>(place: Place<'_>, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let found = bytes.len();
    let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(place.corrupt(format!("{found} bytes are too few for a record")));
    };
    let (expected, found) = (u64::from_le_bytes(*checksum), xxh3_64_with_seed(body, place.seed()));
    if expected != found {
        return Err(place.corrupt(format!("its checksum is {found:016x}, not {expected:016x} as written")));
    }
    Ok(body)
}

/// Writes a record.
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    fn new(version: u8) -> Self {
        Self { bytes: vec![version] }
    }

    fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes with their length before them. What is written is bounded far below 4 GiB where it enters.
    fn counted(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("parts of a record are far smaller than 4 GiB"));
        self.raw(bytes);
    }

    fn finish(mut self, place: Place<'_>) -> Vec<u8> {
        let checksum = xxh3_64_with_seed(&self.bytes, place.seed());
        self.u64(checksum);
        self.bytes
    }
}

/// Reads a record whose checksum has been compared.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    place: Place<'a>,
}

impl<'a> Decoder<'a> {
    fn open(place: Place<'a>, version: u8, bytes: &'a [u8]) -> Result<Self> {
        match body(place, bytes)?.split_first() {
            Some((&first, rest)) if first == version => Ok(Self { rest, place }),
            Some((first, _)) => Err(place.corrupt(format!("it has version {first}; this build reads {version}"))),
            None => Err(place.corrupt("it is empty")),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.place.corrupt(format!("it ends {} bytes early", count - self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take returns as many bytes as asked for"))
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn counted(&mut self) -> Result<&'a [u8]> {
        let count = self.u32()?;
        self.take(count as usize)
    }

    fn string(&mut self) -> Result<String> {
        let bytes = self.counted()?;
        let text = std::str::from_utf8(bytes).map_err(|error| self.place.corrupt(error.to_string()))?;
        Ok(text.to_owned())
    }

    fn remaining(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn end(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.place.corrupt(format!("{} bytes follow its end", self.rest.len())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PLACE: (&str, (u32, u32)) = ("chunks", (1, 2));

    fn sample() -> Vec<u8> {
        encode(Place::new(PLACE.0, PLACE.1), &Number(7))
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = decode::<Number>(Place::new(PLACE.0, PLACE.1), &damaged).unwrap_err();
            assert!(error.to_string().contains("table chunks, key (1, 2)"), "bit {bit}: {error}");
        }
    }

    #[test]
    fn every_shortened_or_lengthened_record_is_found() {
        let mut bytes = sample();
        for length in 0..bytes.len() {
            assert!(decode::<Number>(Place::new(PLACE.0, PLACE.1), &bytes[..length]).is_err(), "{length} bytes");
        }
        bytes.push(0);
        assert!(decode::<Number>(Place::new(PLACE.0, PLACE.1), &bytes).is_err());
    }

    #[test]
    fn a_record_under_another_key_or_table_is_found() {
        let bytes = sample();
        assert_eq!(decode::<Number>(Place::new(PLACE.0, PLACE.1), &bytes).unwrap(), Number(7));
        assert!(decode::<Number>(Place::new(PLACE.0, (2, 1)), &bytes).is_err());
        assert!(decode::<Number>(Place::new("documents", PLACE.1), &bytes).is_err());
    }
}
