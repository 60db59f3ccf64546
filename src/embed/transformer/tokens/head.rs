//! How much of a text must be tokenised where only its first tokens are read?
//!
//! A tokenizer takes some 115 bytes of memory for each byte of text, and a megabyte is nothing unusual. So a text far longer
//! than the model reads is tokenised as far as it may count: a prefix that ends before white space, where no tokenizer joins
//! what stands on both sides, and that has [`SURPLUS`] times the tokens wanted. Tokens come from the left, and a cut changes
//! those beside it alone; that this holds for the tokenizer at hand is seen, and not believed: the prefix of half the length
//! must begin with the same tokens. Where one of this fails the prefix is doubled, in the end to the whole text.

use tokenizers::Encoding;

use super::Tokens;
use crate::Result;

/// Bytes of a prefix for each token that is wanted: English has four.
const TOKEN_BYTES: usize = 32;
/// No prefix is shorter.
const PREFIX_BYTES_MIN: usize = 4096;
/// So many times the tokens wanted must a prefix have.
const SURPLUS: usize = 4;
/// White space is looked for in so many bytes before the end of a prefix.
const GAP_BYTES: usize = 512;

impl Tokens {
    /// The tokens of a text as far as its first `room` tell: these, and at least one more where there are more. Without
    /// special tokens.
    pub(super) fn head(&self, text: &str, room: usize) -> Result<Encoding> {
        let mut length = (room * TOKEN_BYTES).max(PREFIX_BYTES_MIN);
        while length < text.len() / 2 {
            let prefix = prefix(text, length);
            let tokens = self.plain(prefix)?;
            if tokens.len() > room * SURPLUS {
                let half = self.plain(self::prefix(text, prefix.len() / 2))?;
                if half.len() > room && half.get_ids()[..room] == tokens.get_ids()[..room] {
                    return Ok(tokens);
                }
            }
            length = length.saturating_mul(2);
        }
        self.plain(text)
    }
}

/// At most `length` bytes of `text`, which is longer, up to white space where there is some near the end.
fn prefix(text: &str, length: usize) -> &str {
    let end = text.floor_char_boundary(length);
    let from = text.floor_char_boundary(end.saturating_sub(GAP_BYTES));
    let gap = text[from..end].char_indices().rev().find(|(_, character)| character.is_whitespace());
    let cut = gap.map(|(place, _)| from + place).filter(|&place| place > 0);
    &text[..cut.unwrap_or(end)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};
    use tokenizers::Tokenizer;

    use super::*;

    fn tokens(file: &Value) -> Tokens {
        let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
        Tokens { tokenizer, lowercase: false, max_tokens: 64, before: Vec::new(), after: Vec::new() }
    }

    fn file(normalizer: &Value, pre_tokenizer: &Value, model: &Value) -> Value {
        json!({"version": "1.0", "added_tokens": [], "truncation": null, "padding": null, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null, "model": model})
    }

    /// A vocabulary of these tokens, and of every lower-case letter.
    fn vocabulary(tokens: &[&str]) -> Value {
        let letters: Vec<String> = ('a'..='z').map(String::from).collect();
        let all = tokens.iter().copied().chain(letters.iter().map(String::as_str));
        Value::Object(all.zip(0..).map(|(token, id)| (token.to_owned(), Value::from(id))).collect())
    }

    /// The kinds that encoders have: BERT's, GPT's, SentencePiece's unigrams, and Gemma's, which cuts at nothing first.
    fn kinds() -> [(&'static str, Tokens); 4] {
        let word_piece = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary(&["[UNK]", "the", "boat", "##s", "##a", "##b"])});
        let merges = ["a a", "aa aa", "t h", "th e"];
        let bytes = json!({"type": "BPE", "unk_token": null, "merges": merges,
            "vocab": vocabulary(&["aa", "aaaa", "th", "the", "\u{120}", "\u{10a}"])});
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let whole = json!({"type": "BPE", "unk_token": null,
            "merges": ["\u{2581} \u{2581}", "a a", "aa aa", "t h", "\u{2581} th", "\u{2581}th e"],
            "vocab": vocabulary(&["\u{2581}", "\u{2581}\u{2581}", "aa", "aaaa", "th", "\u{2581}th", "\u{2581}the"])});
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let pieces = json!([
            ["<unk>", 0.0],
            ["\u{2581}", -3.0],
            ["\u{2581}the", -4.0],
            ["a", -3.0],
            ["aa", -4.1],
            ["aaa", -5.3],
            ["b", -4.0],
            ["o", -4.0],
            ["t", -4.0],
            ["s", -3.5]
        ]);
        let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": false});
        let metaspace =
            json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
        [
            (
                "WordPiece",
                tokens(&file(
                    &json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true}),
                    &json!({"type": "BertPreTokenizer"}),
                    &word_piece,
                )),
            ),
            ("bytes", tokens(&file(&Value::Null, &level, &bytes))),
            ("unigrams", tokens(&file(&Value::Null, &metaspace, &unigram))),
            ("whole", tokens(&file(&replace, &Value::Null, &whole))),
        ]
    }

    #[test]
    fn the_first_tokens_are_those_of_the_whole_text() {
        let words = "the boats a aaa ab baa the\n";
        let texts = [
            words.repeat(4000),
            "a".repeat(50_000),
            "aaab".repeat(20_000),
            " ".repeat(60_000) + &words.repeat(1000),
            "the boats ".repeat(10) + &" ".repeat(50_000) + &words.repeat(2000),
            "a".repeat(30_001) + " " + &words.repeat(1000),
            "\u{6771}\u{4eac} the ".repeat(5000),
            words.repeat(3),
        ];
        for (kind, tokens) in kinds() {
            for (number, text) in texts.iter().enumerate() {
                let (head, whole) = (tokens.head(text, 64).unwrap(), tokens.plain(text).unwrap());
                let kept = |ids: &[u32]| ids[..ids.len().min(64)].to_vec();
                assert_eq!(kept(head.get_ids()), kept(whole.get_ids()), "{kind}, text {number}");
                assert_eq!(head.len() > 64, whole.len() > 64, "{kind}, text {number}");
            }
        }
    }

    #[test]
    fn a_text_far_beyond_the_limit_is_not_tokenised_whole() {
        let text = "the boats a aaa ab baa the ".repeat(20_000);
        for (kind, tokens) in kinds() {
            let (head, whole) = (tokens.head(&text, 64).unwrap().len(), tokens.plain(&text).unwrap().len());
            assert!(head > 64 && head * 50 < whole, "{kind}: {head} of {whole}");
        }
    }

    #[test]
    fn prefixes_end_before_white_space_or_at_a_character() {
        assert_eq!(prefix("the river boat", 12), "the river");
        assert_eq!(prefix("the river boat", 3), "the");
        assert_eq!(prefix("\u{e4}\u{f6}\u{fc}", 3), "\u{e4}");
        let long = "\u{e4}".repeat(1000) + " end";
        assert_eq!(prefix(&long, 1001).len(), 1000);
        assert_eq!(prefix(" xyz", 2), " x");
    }
}
