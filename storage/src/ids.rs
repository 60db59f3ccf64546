//! Which thing is meant? The names and numbers that everything else is keyed by.
//!
//! Invariants: a [`DocumentId`] is kept as the user gave it, so `7` and `"7"` are two documents; chunk and document
//! numbers ascend within a collection and are never used twice.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The longest string id, in bytes.
pub const DOCUMENT_ID_BYTES_MAX: usize = 512;
/// The longest collection name, in bytes.
pub const COLLECTION_NAME_BYTES_MAX: usize = 255;

/// The id of a document: an integer or a string, kept as given.
///
/// Integers sort before strings; integers by value, strings by their bytes. This is the order in which documents are
/// listed and in which equal scores are broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DocumentId {
    /// A whole number.
    Integer(i64),
    /// Any string of 1 to 512 bytes.
    Text(String),
}

impl DocumentId {
    /// Says whether this id may be stored.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where a string id is empty or longer than 512 bytes.
    pub fn validate(&self) -> Result<()> {
        let Self::Text(text) = self else { return Ok(()) };
        if text.is_empty() {
            return Err(Error::invalid("a document id is empty; give it 1 to 512 bytes"));
        }
        if text.len() > DOCUMENT_ID_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a document id has {} bytes (`{}...`); the limit is {DOCUMENT_ID_BYTES_MAX}",
                text.len(),
                text.chars().take(32).collect::<String>()
            )));
        }
        Ok(())
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl From<&str> for DocumentId {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for DocumentId {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for DocumentId {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i64> for DocumentId {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// The number of a collection within its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionId(pub u32);

/// The number of a vector space within its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u32);

/// The number of a chunk within its collection. Numbers ascend; those of a document are consecutive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkNumber(pub u32);

/// Says whether a collection may have this name: 1 to 255 bytes of ASCII letters, digits, `.`, `_` and `-`, and not
/// only dots. Names never become paths; the rule keeps them usable in URLs.
///
/// # Errors
/// [`Error::InvalidInput`], naming the name and the rule.
pub fn validate_collection_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let only_dots = name.bytes().all(|byte| byte == b'.');
    if only_dots || name.len() > COLLECTION_NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(Error::invalid(format!(
            "`{}` cannot be a collection name: use 1 to {COLLECTION_NAME_BYTES_MAX} letters, digits, `.`, `_` or `-`",
            name.chars().take(64).collect::<String>().escape_debug()
        )));
    }
    Ok(())
}

/// What a vector was made of, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// 256 bits over all that makes the model what it is: weights, tokenizer, dimensions, precision, prompts.
    pub model: [u8; 32],
    /// What it was embedded as: a passage, a query. By the caller.
    pub task: u8,
    /// 256 bits over the text.
    pub text: [u8; 32],
    /// The length of the text.
    pub text_bytes: u64,
}

impl CacheKey {
    /// The bytes that lead to it. Others may have the same: the whole key is compared.
    pub(crate) fn short(&self) -> [u8; 16] {
        let Self { model, task, text, text_bytes } = self;
        let mut bytes = [0; 73];
        bytes[..32].copy_from_slice(model);
        bytes[32..64].copy_from_slice(text);
        bytes[64..72].copy_from_slice(&text_bytes.to_le_bytes());
        bytes[72] = *task;
        xxhash_rust::xxh3::xxh3_128(&bytes).to_le_bytes()
    }
}
