//! From a query and a passage to one sequence.
//!
//! Where both do not fit, the passage is cut: a query that loses its end asks something else. Only a query that alone takes
//! more than half of the room is cut to that half.

use tokenizers::{Encoding, PostProcessor, TruncationDirection};

use super::Tokens;
use crate::embed::transformer::guard::caught;
use crate::{Error, Result};

/// A query, tokenised once for all of its passages.
pub(crate) struct Pairs<'a> {
    tokens: &'a Tokens,
    query: Encoding,
    query_cut: bool,
    /// How many tokens of a passage fit beside it.
    room: usize,
}

/// A query and a passage as one sequence.
pub(crate) struct Pair {
    /// The ids of both, with the special tokens that the model's tokenizer puts around them.
    pub(crate) ids: Vec<u32>,
    /// 0 for the query's, 1 for the passage's, where the tokenizer has such types.
    pub(crate) types: Vec<u32>,
    /// Whether anything was cut.
    pub(crate) truncated: bool,
}

impl Tokens {
    /// Prepares pairs of this query.
    ///
    /// # Errors
    /// [`Error::Embedding`] where the tokenizer fails, or has no room for a pair in the model's limit.
    pub(crate) fn pairs(&self, query: &str) -> Result<Pairs<'_>> {
        let special = self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(true));
        let room = self.max_tokens.saturating_sub(special);
        if room < 2 {
            let reason = format!("a pair needs {special} special tokens: no room in {} for its texts", self.max_tokens);
            return Err(Error::Embedding(reason));
        }
        let mut query = self.head(query, room / 2)?;
        let query_cut = cut(&mut query, room / 2);
        let room = room - query.len();
        Ok(Pairs { tokens: self, query, query_cut, room })
    }

    /// The tokens of `text` without special ones.
    pub(super) fn plain(&self, text: &str) -> Result<Encoding> {
        let lowered = self.lowercase.then(|| text.to_lowercase());
        let failed = |error| Error::Embedding(format!("the tokenizer failed: {error}"));
        let text = lowered.as_deref().unwrap_or(text);
        let panicked = |why| Error::Embedding(format!("the tokenizer failed: {why}"));
        caught(|| self.tokenizer.encode_fast(text, false)).map_err(panicked)?.map_err(failed)
    }
}

impl Pairs<'_> {
    /// The query with this passage.
    ///
    /// # Errors
    /// [`Error::Embedding`] where the tokenizer fails.
    pub(crate) fn with(&self, passage: &str) -> Result<Pair> {
        let mut passage = self.tokens.head(passage, self.room)?;
        let truncated = cut(&mut passage, self.room) || self.query_cut;
        let failed = |error| Error::Embedding(format!("the tokenizer failed: {error}"));
        let both = self.tokens.tokenizer.post_process(self.query.clone(), Some(passage), true).map_err(failed)?;
        let (ids, types, limit) = (both.get_ids().to_vec(), both.get_type_ids().to_vec(), self.tokens.max_tokens);
        if ids.len() > limit {
            let reason = format!("the tokenizer made {} tokens of a pair, where at most {limit} fit", ids.len());
            return Err(Error::Embedding(reason));
        }
        Ok(Pair { ids, types, truncated })
    }
}

/// Cuts to `length` tokens; whether that was needed.
fn cut(encoding: &mut Encoding, length: usize) -> bool {
    let needed = encoding.len() > length;
    if needed {
        encoding.truncate(length, 0, TruncationDirection::Right);
    }
    needed
}
