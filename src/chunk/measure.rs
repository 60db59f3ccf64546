//! How many tokens does this piece of the document have?
//!
//! The document is tokenised once; a piece is measured by two binary searches over the token ranges. A token that a
//! piece cuts counts on both sides, so a piece is never longer than measured.
//!
//! Invariant: the units' starts and ends ascend, whatever the tokenizer gave.

use std::ops::Range;

use text_splitter::ChunkSizer;

/// A token of more bytes than this is no token for people. WordPiece gives up on words of more than 100 characters
/// and calls each one unknown, however long it is.
const TOKEN_BYTES_MAX: usize = 100;
/// What a token is taken to cover within such a long one: about what English tokens do.
const LONG_TOKEN_UNIT_BYTES: usize = 4;
/// Text between tokens (white space; control and zero-width characters that tokenizers drop) counts one for so many
/// bytes: nothing for a space or an indentation, something for a page of them.
const GAP_UNIT_BYTES: usize = 64;

/// A text with its tokens.
pub(super) struct Measure<'a> {
    pub(super) text: &'a str,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

impl<'a> Measure<'a> {
    pub(super) fn new(text: &'a str, token_ranges: &[Range<usize>]) -> Self {
        let capacity = token_ranges.len();
        let mut measure = Self { text, starts: Vec::with_capacity(capacity), ends: Vec::with_capacity(capacity) };
        let mut covered = 0;
        for range in token_ranges {
            let end = range.end.min(text.len());
            if end > covered {
                // Only what is new of a token that overlaps the one before it: units never go back.
                let start = range.start.clamp(covered, end);
                measure.push_gap(covered..start);
                measure.push_token(start..end);
                covered = end;
            } else if let (Some(&start), Some(&end)) = (measure.starts.last(), measure.ends.last()) {
                // Several tokens may share one character (byte-level vocabularies); each counts.
                measure.starts.push(start);
                measure.ends.push(end);
            }
        }
        measure.push_gap(covered..text.len());
        debug_assert!(measure.starts.is_sorted() && measure.ends.is_sorted());
        measure
    }

    fn push_gap(&mut self, gap: Range<usize>) {
        let units = gap.len() / GAP_UNIT_BYTES;
        for unit in 0..units {
            let start = gap.start + unit * GAP_UNIT_BYTES;
            self.starts.push(start);
            self.ends.push(start + GAP_UNIT_BYTES);
        }
    }

    fn push_token(&mut self, token: Range<usize>) {
        let unit = if token.len() > TOKEN_BYTES_MAX { LONG_TOKEN_UNIT_BYTES } else { TOKEN_BYTES_MAX };
        for start in token.clone().step_by(unit) {
            self.starts.push(start);
            self.ends.push((start + unit).min(token.end));
        }
    }

    /// The number of tokens that overlap a byte range.
    pub(super) fn tokens(&self, range: Range<usize>) -> usize {
        let begun = self.starts.partition_point(|&start| start < range.end);
        let over = self.ends.partition_point(|&end| end <= range.start);
        begun.saturating_sub(over)
    }

    /// The end of a stretch from `start` that holds about `tokens` tokens: a character boundary, at most `limit`.
    pub(super) fn advance(&self, start: usize, tokens: usize, limit: usize) -> usize {
        let over = self.ends.partition_point(|&end| end <= start);
        match self.ends.get(over + tokens) {
            Some(&end) if end < limit => self.text.ceil_char_boundary(end),
            Some(_) | None => limit,
        }
    }

    /// The end of the longest stretch from `start` that holds at most `tokens` tokens, or one character; at most `limit`.
    pub(super) fn reach(&self, start: usize, tokens: usize, limit: usize) -> usize {
        let over = self.ends.partition_point(|&end| end <= start);
        let bound = self.starts.get(over + tokens).map_or(limit, |&next| next.min(limit));
        match self.text.floor_char_boundary(bound) {
            end if end > start => end,
            _ => self.text.ceil_char_boundary(start + 1),
        }
    }

    /// A range without the white space at its ends; `None` where it is blank.
    pub(super) fn trimmed(&self, range: Range<usize>) -> Option<Range<usize>> {
        let piece = &self.text[range.clone()];
        let start = range.start + (piece.len() - piece.trim_start().len());
        let end = range.start + piece.trim_end().len();
        (start < end).then_some(start..end)
    }
}

/// The pieces that a splitter asks about are slices of the text; their address tells where they stand.
impl ChunkSizer for &Measure<'_> {
    fn size(&self, piece: &str) -> usize {
        let start = piece.as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        match start.checked_add(piece.len()) {
            Some(end) if end <= self.text.len() => self.tokens(start..end),
            // Never so with this splitter; a copy would be measured by its bytes, which is too long rather than too short.
            Some(_) | None => piece.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_overlap_a_piece_are_counted() {
        let measure = Measure::new("one two three", &[0..3, 4..7, 8..10, 10..13]);
        assert_eq!(measure.tokens(0..13), 4);
        assert_eq!(measure.tokens(0..3), 1);
        assert_eq!(measure.tokens(3..4), 0);
        assert_eq!(measure.tokens(2..5), 2, "a cut token counts");
        assert_eq!(measure.tokens(9..11), 2);
        assert_eq!((&measure).size(&measure.text[4..13]), 3);
    }

    #[test]
    fn tokens_of_one_character_are_all_counted() {
        let measure = Measure::new("😀x", &[0..4, 0..4, 0..4, 4..5]);
        assert_eq!(measure.tokens(0..4), 3);
        assert_eq!(measure.tokens(0..5), 4);
    }

    #[test]
    fn an_endless_token_counts_by_its_bytes() {
        let text = "x".repeat(4000);
        let measure = Measure::new(&text, std::slice::from_ref(&(0..4000)));
        assert_eq!(measure.tokens(0..4000), 1000);
        assert_eq!(measure.tokens(0..100), 25);
        assert_eq!(measure.advance(0, 10, 4000), 44);
    }

    #[test]
    fn pages_of_nothing_count_a_little() {
        let text = "\u{200b}".repeat(1000);
        assert_eq!(Measure::new(&text, &[]).tokens(0..3000), 46);
        assert_eq!(Measure::new("a   b", &[0..1, 4..5]).tokens(0..5), 2);
    }

    #[test]
    fn ranges_beyond_the_text_and_out_of_order_do_no_harm() {
        let measure = Measure::new("héllo", &[3..9, 0..2, 40..50]);
        assert!(measure.starts.is_sorted() && measure.ends.is_sorted());
        assert!(measure.ends.iter().all(|&end| end <= 6));
    }
}
