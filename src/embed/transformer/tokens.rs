//! From text to token ids, and to the byte ranges of tokens.
//!
//! Padding and truncation of the tokenizer's own file are switched off: all-MiniLM-L6-v2's pads every text to 128 tokens
//! and cuts it there, while the model's limit is 256. The limit is applied here, special tokens counted and kept.

use std::ops::Range;

use tokenizers::{Encoding, Tokenizer, TruncationDirection};

use super::guard::{self, caught};
use crate::embed::files::Files;
use crate::embed::spec::ModelDirectory;
use crate::{Error, Result};

mod clip;
mod head;
mod pairs;

pub(crate) use self::pairs::Pair;

/// The tokenizer of a model.
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    lowercase: bool,
    max_tokens: usize,
    /// What the tokenizer puts before a text.
    before: Vec<u32>,
    /// What it puts after.
    after: Vec<u32>,
}

/// A text's token ids, special tokens included.
pub(crate) struct Encoded {
    /// At most as many as the model's limit.
    pub(crate) ids: Vec<u32>,
    /// Whether the text was cut.
    pub(crate) truncated: bool,
}

impl Tokens {
    /// Loads `tokenizer.json`; `rows` is the size of the model's embedding table, into which every id must fall.
    pub(crate) fn load(directory: &ModelDirectory, rows: usize) -> Result<Self> {
        let path = &directory.tokenizer;
        let wrong = |reason: String| Error::model(directory.name(), format!("tokenizer.json {reason}"));
        let files = Files::of(&directory.path)?;
        let bytes = files.read(path, guard::BYTES_MAX)?;
        let bytes = match directory.merges() {
            None => bytes,
            Some(merges) => clip::assembled(&bytes, &files.read(&merges, guard::BYTES_MAX)?)
                .map_err(|reason| Error::model(directory.name(), format!("{}: {reason}", files.relative(path))))?,
        };
        guard::check(&bytes).map_err(wrong)?;
        let prepared = caught(|| prepare(&bytes)).map_err(|panic| wrong(format!("cannot be used: {panic}")))?;
        let (tokenizer, before, after) = prepared.map_err(|error| wrong(format!("cannot be used: {error}")))?;
        let all = tokenizer.get_vocab(true).into_values().chain(before.iter().chain(&after).copied());
        if let Some(largest) = all.max().filter(|&largest| largest as usize >= rows) {
            let reason = format!("numbers its tokens up to {largest}, but the model's embedding table has {rows} rows");
            return Err(wrong(reason));
        }
        let max_tokens = directory.max_tokens.value;
        if max_tokens <= before.len() + after.len() {
            let reason = format!("adds {} special tokens: no room in {max_tokens}", before.len() + after.len());
            return Err(wrong(reason));
        }
        Ok(Self { tokenizer, lowercase: directory.lowercase.value, max_tokens, before, after })
    }

    /// How many special tokens a text gets.
    pub(crate) fn special(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// The ids of `text`, cut to the model's limit.
    pub(crate) fn encode(&self, text: &str) -> Result<Encoded> {
        let failed = |why: String| Error::Embedding(format!("the tokenizer failed: {why}"));
        let cut = caught(|| self.cut(self.head(text, self.max_tokens - self.special())?)).map_err(failed)?;
        let (encoding, truncated) = cut?;
        let (ids, limit) = (encoding.get_ids().to_vec(), self.max_tokens);
        if ids.len() > limit {
            let reason = format!("the tokenizer made {} tokens of a text, where at most {limit} fit", ids.len());
            return Err(Error::Embedding(reason));
        }
        Ok(Encoded { ids, truncated })
    }

    fn cut(&self, mut encoding: Encoding) -> Result<(Encoding, bool)> {
        let failed = |error| Error::Embedding(format!("the tokenizer failed: {error}"));
        let room = self.max_tokens - self.special();
        let truncated = encoding.len() > room;
        if truncated {
            encoding.truncate(room, 0, TruncationDirection::Right);
        }
        Ok((self.tokenizer.post_process(encoding, None, true).map_err(failed)?, truncated))
    }

    /// The tokens that a prompt takes before a text, as sentence-transformers counts them: what is put before a text
    /// belongs to it, the last of what is put after does not.
    pub(crate) fn prompt_length(&self, prompt: &str) -> Result<usize> {
        Ok(self.encode(prompt)?.ids.len() - usize::from(!self.after.is_empty()))
    }

    /// The id of a token of the vocabulary.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The ids of `text` without special tokens and without any limit. Special tokens that are written out in it count as
    /// such.
    pub(crate) fn bare(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.plain(text)?.get_ids().to_vec())
    }

    /// The first `room` of these ids, and whether there are more.
    pub(crate) fn bare_head(&self, text: &str, room: usize) -> Result<(Vec<u32>, bool)> {
        let mut ids = self.head(text, room)?.get_ids().to_vec();
        let truncated = ids.len() > room;
        ids.truncate(room);
        Ok((ids, truncated))
    }

    /// One token between the special ones, as if it were a text.
    pub(crate) fn alone(&self, id: u32) -> Vec<u32> {
        [self.before.as_slice(), &[id], &self.after].concat()
    }

    /// The byte ranges of all tokens of `text`, without special ones. A text that the tokenizer cannot take has none.
    pub(crate) fn ranges(&self, text: &str) -> Vec<Range<usize>> {
        if self.lowercase {
            let (lowered, origins) = lowered(text);
            let back = |range: Range<usize>| origins[range.start]..origins[range.end];
            return self.ranges_of(&lowered).into_iter().map(back).collect();
        }
        self.ranges_of(text)
    }

    fn ranges_of(&self, text: &str) -> Vec<Range<usize>> {
        let Ok(Ok(encoding)) = caught(|| self.tokenizer.encode(text, false)) else { return Vec::new() };
        let mut ranges: Vec<_> = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        ranges.retain(|range| range.start < range.end);
        ranges
    }

    /// Every token, at the place of its id; an id without a token is an empty string.
    pub(crate) fn vocabulary(&self) -> Vec<String> {
        let vocabulary = self.tokenizer.get_vocab(true);
        let length = vocabulary.values().max().map_or(0, |&largest| largest as usize + 1);
        let mut tokens = vec![String::new(); length];
        for (token, id) in vocabulary {
            tokens[id as usize] = token;
        }
        tokens
    }
}

/// The tokenizer without padding and truncation, and what it puts before and after a text.
fn prepare(bytes: &[u8]) -> tokenizers::Result<(Tokenizer, Vec<u32>, Vec<u32>)> {
    let mut tokenizer = Tokenizer::from_bytes(bytes)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None)?;
    let (before, after) = specials(&tokenizer)?;
    Ok((tokenizer, before, after))
}

/// What the tokenizer puts before and after a text, seen on the text `a`.
fn specials(tokenizer: &Tokenizer) -> tokenizers::Result<(Vec<u32>, Vec<u32>)> {
    let encoding = tokenizer.encode("a", true)?;
    let (ids, mask) = (encoding.get_ids(), encoding.get_special_tokens_mask());
    let before = mask.iter().take_while(|&&special| special == 1).count();
    let after = mask[before..].iter().rev().take_while(|&&special| special == 1).count();
    Ok((ids[..before].to_vec(), ids[ids.len() - after..].to_vec()))
}

/// `text` in lower case, and for each byte of it and its end the byte of `text` that it comes from.
fn lowered(text: &str) -> (String, Vec<usize>) {
    let (mut lowered, mut origins) = (String::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    for (start, character) in text.char_indices() {
        lowered.extend(character.to_lowercase());
        origins.resize(lowered.len(), start);
    }
    origins.push(text.len());
    (lowered, origins)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::lowered;

    #[test]
    fn byte_ranges_survive_lowercasing_that_changes_lengths() {
        let text = "İX";
        let (lower, origins) = lowered(text);
        assert_eq!(lower, "i\u{307}x");
        let x = lower.find('x').unwrap();
        assert_eq!(&text[origins[x]..origins[x + 1]], "X");
    }
}
