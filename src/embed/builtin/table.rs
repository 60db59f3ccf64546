//! How is a static model kept: in memory, and as bytes?
//!
//! A table holds one row of `dims` signed bytes and one scale a token; what a passage's tokens weigh is already in the
//! rows. Its bytes (format 1, little-endian) are
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `QVST` |
//! | 4 x 3 | format, dims, tokens |
//! | 4 x (2 + n) | name, teacher, licence, made with: length (2 bytes) and UTF-8 |
//! | tokens x (1 + n) | each token: length (1 byte) and UTF-8, in the order of their ids; `##` goes on with a word |
//! | tokens x 4 | the scale of each row: f32 |
//! | tokens x dims | the rows: i8 |
//! | 32 | SHA-256 of all before |
//!
//! A table is checked when it is read, before anything is built from it; reading the one in the binary copies no row.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::hex;
use super::wordpiece::UNKNOWN;
use crate::{Error, Result};

const MAGIC: [u8; 4] = *b"QVST";
const FORMAT: u32 = 1;
const DIGEST_BYTES: usize = 32;
const DIMS_MAX: usize = 4096;

/// Where a static model comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The model's own name.
    pub name: String,
    /// The encoder that it was distilled from.
    pub teacher: String,
    /// The teacher's licence.
    pub licence: String,
    /// The command or the options that made it, and the corpus.
    pub made_with: String,
}

/// A static model: a vector for every token.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticTable {
    provenance: Provenance,
    dims: usize,
    tokens: Vec<String>,
    scales: Vec<f32>,
    rows: Cow<'static, [u8]>,
    digest: [u8; DIGEST_BYTES],
}

impl StaticTable {
    /// Rounds the rows (row-major `[tokens, dims]`) to bytes, each with its own scale: the largest number of a row
    /// becomes 127.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the sizes do not fit together, `[UNK]` is missing, a token is longer than 255
    /// bytes, or a number is not finite.
    pub fn quantise(provenance: Provenance, tokens: Vec<String>, dims: usize, values: &[f32]) -> Result<Self> {
        check(&tokens, dims, values)?;
        let mut scales = Vec::with_capacity(tokens.len());
        let mut rows = Vec::with_capacity(values.len());
        for row in values.chunks_exact(dims) {
            let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            scales.push(scale);
            rows.extend(row.iter().map(|value| (value / scale).round() as i8 as u8));
        }
        let mut table = Self { provenance, dims, tokens, scales, rows: rows.into(), digest: [0; DIGEST_BYTES] };
        table.digest = Sha256::digest(table.body()).into();
        Ok(table)
    }

    /// The table's bytes, as [`StaticTable::from_bytes`] reads them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.body();
        bytes.extend_from_slice(&self.digest);
        bytes
    }

    fn body(&self) -> Vec<u8> {
        let Self { provenance, dims, tokens, scales, rows, digest: _ } = self;
        let Provenance { name, teacher, licence, made_with } = provenance;
        let mut bytes = Vec::with_capacity(rows.len() + 16 * tokens.len());
        bytes.extend_from_slice(&MAGIC);
        for number in [FORMAT, *dims as u32, tokens.len() as u32] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for text in [name, teacher, licence, made_with] {
            let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
            bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        for token in tokens {
            bytes.push(token.len() as u8);
            bytes.extend_from_slice(token.as_bytes());
        }
        bytes.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
        bytes.extend_from_slice(rows);
        bytes
    }

    /// Reads a table from a file's bytes. `name` is what an error calls it.
    ///
    /// # Errors
    /// [`Error::Model`] where the bytes are no table, of a newer format, damaged or cut short.
    pub fn from_bytes(bytes: Vec<u8>, name: &str) -> Result<Self> {
        let read = Self::read(&bytes).and_then(|(mut table, rows)| {
            let (body, digest) = bytes.split_at(bytes.len() - DIGEST_BYTES);
            if Sha256::digest(body)[..] != *digest {
                return Err("it is damaged: its checksum does not match; fetch or make it again".into());
            }
            table.rows = Cow::Owned(bytes[rows].to_vec());
            Ok(table)
        });
        read.map_err(|reason| Error::model(name, reason))
    }

    /// Reads the table in the binary, without copying its rows; its checksum is a test's to check, not each start's.
    pub(super) fn from_static(bytes: &'static [u8]) -> Result<Self> {
        let (mut table, rows) = Self::read(bytes).map_err(|reason| Error::model("builtin", reason))?;
        table.rows = Cow::Borrowed(&bytes[rows]);
        Ok(table)
    }

    /// All but the rows, and where these lie.
    fn read(bytes: &[u8]) -> std::result::Result<(Self, std::ops::Range<usize>), String> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(4)? != MAGIC {
            return Err("it is no static model: it does not begin with `QVST`".into());
        }
        let format = reader.u32()?;
        if format != FORMAT {
            return Err(format!("its format is {format}; this version reads {FORMAT}: use a newer version"));
        }
        let (dims, count) = (reader.u32()? as usize, reader.u32()? as usize);
        if dims == 0 || dims > DIMS_MAX || count > bytes.len() {
            return Err(format!("it claims {count} tokens of {dims} dimensions in {} bytes: damaged", bytes.len()));
        }
        let [name, teacher, licence, made_with] = [reader.text()?, reader.text()?, reader.text()?, reader.text()?];
        let mut tokens = Vec::with_capacity(count);
        for _ in 0..count {
            let length = usize::from(reader.take(1)?[0]);
            tokens.push(utf8(reader.take(length)?)?);
        }
        let scales: Vec<f32> =
            reader.take(4 * count)?.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        let rows = reader.at..reader.at + count * dims;
        reader.take(count * dims)?;
        let digest: [u8; DIGEST_BYTES] = reader.take(DIGEST_BYTES)?.try_into().map_err(|_| "damaged".to_owned())?;
        if reader.at != bytes.len() || scales.iter().any(|scale| !scale.is_finite()) {
            return Err("it is damaged: bytes after its end, or a scale that is no number".into());
        }
        let provenance = Provenance { name, teacher, licence, made_with };
        Ok((Self { provenance, dims, tokens, scales, rows: Cow::Borrowed(&[]), digest }, rows))
    }

    /// Where the model comes from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Numbers in a vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The vocabulary, in the order of the ids.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// SHA-256 of the table, in hex.
    pub(super) fn digest(&self) -> String {
        hex(&self.digest)
    }

    /// SHA-256 of the vocabulary, in hex.
    pub(super) fn vocabulary_digest(&self) -> String {
        let mut digest = Sha256::new();
        for token in &self.tokens {
            digest.update(token);
            digest.update("\n");
        }
        hex(&digest.finalize())
    }

    /// Adds `weight` times a token's row to `sum` (of `dims` numbers).
    pub(super) fn add_row(&self, id: u32, weight: f32, sum: &mut [f32]) {
        let start = id as usize * self.dims;
        let scale = self.scales[id as usize] * weight;
        for (sum, &byte) in sum.iter_mut().zip(&self.rows[start..start + self.dims]) {
            *sum += scale * f32::from(byte as i8);
        }
    }
}

fn check(tokens: &[String], dims: usize, values: &[f32]) -> Result<()> {
    if dims == 0 || dims > DIMS_MAX || values.len() != tokens.len() * dims {
        let (tokens, numbers) = (tokens.len(), values.len());
        return Err(Error::invalid(format!("{tokens} tokens of {dims} dimensions do not make {numbers} numbers")));
    }
    if let Some(long) = tokens.iter().find(|token| token.len() > 255) {
        return Err(Error::invalid(format!("the token `{long}` has {} bytes; a static model takes 255", long.len())));
    }
    if !tokens.iter().any(|token| token == UNKNOWN) {
        return Err(Error::invalid("the vocabulary has no `[UNK]`: only BERT's WordPiece vocabularies are supported"));
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(Error::invalid(format!("the vector of `{}` holds {}", tokens[at / dims], values[at]))),
        None => Ok(()),
    }
}

/// Bytes read from the front; never beyond their end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> std::result::Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end =
            end.ok_or_else(|| format!("it is cut short at {} bytes; fetch or make it again", self.bytes.len()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> std::result::Result<u32, String> {
        let taken = self.take(4)?;
        Ok(u32::from_le_bytes([taken[0], taken[1], taken[2], taken[3]]))
    }

    fn text(&mut self) -> std::result::Result<String, String> {
        let length = self.take(2)?;
        utf8(self.take(usize::from(u16::from_le_bytes([length[0], length[1]])))?)
    }
}

fn utf8(bytes: &[u8]) -> std::result::Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "it is damaged: a name or token is no UTF-8".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn small() -> StaticTable {
        let provenance = Provenance { name: "small".into(), licence: "MIT".into(), ..Provenance::default() };
        let tokens = ["[UNK]", "one", "##two"].map(str::to_owned).to_vec();
        StaticTable::quantise(provenance, tokens, 2, &[0.0, 1.0, -2.0, 0.5, 0.25, 0.0]).unwrap()
    }

    #[test]
    fn a_table_survives_its_bytes() {
        let table = small();
        assert_eq!(StaticTable::from_bytes(table.to_bytes(), "small").unwrap(), table);
    }

    #[test]
    fn rows_are_rounded_to_a_127th_of_their_largest_number() {
        let mut sum = [0.0; 2];
        small().add_row(1, 1.0, &mut sum);
        assert!((sum[0] + 2.0).abs() < 1e-6 && (sum[1] - 0.5).abs() < 2.0 / 127.0, "{sum:?}");
    }

    #[test]
    fn a_damaged_or_cut_table_is_refused_wherever_it_is_hit() {
        let bytes = small().to_bytes();
        for length in 0..bytes.len() {
            assert!(StaticTable::from_bytes(bytes[..length].to_vec(), "cut").is_err(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(StaticTable::from_bytes(damaged, "damaged").is_err(), "bit flipped in byte {at}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = small().to_bytes();
        bytes[4] = 9;
        let error = StaticTable::from_bytes(bytes, "new").unwrap_err().to_string();
        assert!(error.contains("format is 9"), "{error}");
    }

    #[test]
    fn a_table_without_unknown_or_with_nan_is_refused() {
        let tokens = vec!["one".to_owned()];
        assert!(StaticTable::quantise(Provenance::default(), tokens, 1, &[1.0]).is_err());
        let tokens = vec!["[UNK]".to_owned()];
        assert!(StaticTable::quantise(Provenance::default(), tokens, 1, &[f32::NAN]).is_err());
    }
}
