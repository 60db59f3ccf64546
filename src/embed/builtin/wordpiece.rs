//! Which tokens is this text made of, and where are they?
//!
//! BERT's WordPiece (Devlin et al. 2019) for uncased vocabularies: drop control characters, lowercase, strip accents,
//! split at spaces, punctuation and ideographs, then cut each word greedily into the longest pieces known. The ids are
//! exactly those of the `tokenizers` crate (tested), the byte ranges are those of the text as given. Runs of plain
//! ASCII are read where they stand; nothing is allocated per token.

use std::ops::Range;

use unicode_normalization::char::{canonical_combining_class, decompose_canonical};

use super::characters::{is_dropped, is_ideograph, is_nonspacing_mark, is_punctuation};

/// A longer word is unknown, in characters: the reference's limit.
const WORD_CHARACTERS_MAX: usize = 100;
/// The name of the token for what the vocabulary lacks.
pub(super) const UNKNOWN: &str = "[UNK]";
/// Tokens that a text can name literally, where the vocabulary has them.
const SPECIAL: [&str; 5] = ["[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]"];

/// One token of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Its place in the vocabulary.
    pub(super) id: u32,
    /// Its bytes in the text.
    pub(super) range: Range<usize>,
    /// The bytes of the word that it is a piece of; the same for all pieces of a word, and for these only.
    pub(super) word: Range<usize>,
}

/// A vocabulary, ready to cut texts.
pub(super) struct WordPiece {
    vocabulary: Vocabulary,
    unknown: u32,
    special: Vec<(&'static str, u32)>,
}

impl WordPiece {
    /// From the tokens in the order of their ids. `None` where `[UNK]` is missing.
    pub(super) fn new<'a>(tokens: impl ExactSizeIterator<Item = &'a str>) -> Option<Self> {
        let vocabulary = Vocabulary::new(tokens);
        let unknown = vocabulary.find(hash(FIRST, UNKNOWN.as_bytes()), FIRST, UNKNOWN.as_bytes())?;
        let id = |name: &str| vocabulary.find(hash(FIRST, name.as_bytes()), FIRST, name.as_bytes());
        let special = SPECIAL.iter().filter_map(|&name| Some((name, id(name)?))).collect();
        Some(Self { vocabulary, unknown, special })
    }

    /// The id of `[UNK]`.
    pub(super) fn unknown(&self) -> u32 {
        self.unknown
    }

    /// Calls `each` with every token of the text, in order.
    pub(super) fn for_each(&self, text: &str, each: &mut impl FnMut(Token)) {
        let mut start = 0;
        for (at, _) in text.match_indices('[') {
            if at < start {
                continue;
            }
            let Some(&(name, id)) = self.special.iter().find(|(name, _)| text[at..].starts_with(name)) else {
                continue;
            };
            self.stretch(text, start..at, each);
            start = at + name.len();
            each(Token { id, range: at..start, word: at..start });
        }
        self.stretch(text, start..text.len(), each);
    }

    /// A stretch of text that names no special token.
    fn stretch(&self, text: &str, range: Range<usize>, each: &mut impl FnMut(Token)) {
        let bytes = text.as_bytes();
        let mut unusual = Unusual::default();
        let mut at = range.start;
        while at < range.end {
            let byte = bytes[at];
            if byte == b' ' || byte == b'\n' || byte == b'\t' || byte == b'\r' {
                at += 1;
                continue;
            }
            let end = at + bytes[at..range.end].iter().take_while(|byte| byte.is_ascii_graphic()).count();
            if end == range.end || matches!(bytes[end], b' ' | b'\n' | b'\t' | b'\r') {
                self.plain_run(bytes, at..end, each);
                at = end;
            } else {
                at = self.unusual_run(&mut unusual, text, at..range.end, each);
            }
        }
    }

    /// A run of visible ASCII characters without a space.
    fn plain_run(&self, bytes: &[u8], run: Range<usize>, each: &mut impl FnMut(Token)) {
        let mut at = run.start;
        while at < run.end {
            let length = bytes[at..run.end].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let end = at + length.max(1);
            let mut lower = [0; WORD_CHARACTERS_MAX];
            if length > WORD_CHARACTERS_MAX {
                each(Token { id: self.unknown, range: at..end, word: at..end });
            } else {
                for (to, from) in lower.iter_mut().zip(&bytes[at..end]) {
                    *to = from.to_ascii_lowercase();
                }
                self.word(&lower[..end - at], at..end, |piece| at + piece.start..at + piece.end, each);
            }
            at = end;
        }
    }

    /// A run up to the next space that holds more than ASCII; returns where it ends.
    fn unusual_run(&self, run: &mut Unusual, text: &str, range: Range<usize>, each: &mut impl FnMut(Token)) -> usize {
        run.characters.clear();
        let mut end = range.end;
        for (offset, character) in text[range.clone()].char_indices() {
            let start = range.start + offset;
            if is_dropped(character) {
                continue;
            }
            if character.is_whitespace() {
                end = start + character.len_utf8();
                break;
            }
            run.push(character, start..start + character.len_utf8());
        }
        run.order_marks();
        self.unusual_words(run, each);
        end
    }

    /// The words of a normalised run.
    fn unusual_words(&self, run: &mut Unusual, each: &mut impl FnMut(Token)) {
        run.begin_word();
        for at in 0..run.characters.len() {
            let character = run.characters[at].clone();
            if is_nonspacing_mark(character.value) {
                continue;
            }
            for lower in character.value.to_lowercase() {
                let alone = character.ideograph || is_punctuation(lower);
                if alone || run.ideograph_before {
                    self.finish_word(run, each);
                }
                run.append(lower, &character.source);
                run.ideograph_before = alone;
            }
        }
        self.finish_word(run, each);
    }

    /// Gives the pieces of the word gathered, if any, and begins a new one.
    fn finish_word(&self, run: &mut Unusual, each: &mut impl FnMut(Token)) {
        if let (Some(first), Some(last)) = (run.sources.first(), run.sources.last()) {
            let word = first.start..last.end;
            if run.count > WORD_CHARACTERS_MAX {
                each(Token { id: self.unknown, range: word.clone(), word });
            } else {
                let source = |piece: Range<usize>| run.sources[piece.start].start..run.sources[piece.end - 1].end;
                self.word(&run.bytes, word, source, each);
            }
        }
        run.begin_word();
    }

    /// Cuts one lowercased word; `source` turns a range of its bytes into one of the text.
    fn word(
        &self,
        bytes: &[u8],
        word: Range<usize>,
        source: impl Fn(Range<usize>) -> Range<usize>,
        each: &mut impl FnMut(Token),
    ) {
        let Some((end, id)) = self.vocabulary.longest(FIRST, bytes) else {
            return each(Token { id: self.unknown, range: word.clone(), word });
        };
        if end == bytes.len() {
            return each(Token { id, range: word.clone(), word });
        }
        // All pieces must be known before the first is given: a word with an unknown rest is unknown as a whole.
        let mut pieces = [(0, 0); 4 * WORD_CHARACTERS_MAX];
        let (mut count, mut at) = (1, end);
        pieces[0] = (end, id);
        while at < bytes.len() {
            let Some((length, id)) = self.vocabulary.longest(CONTINUED, &bytes[at..]) else {
                return each(Token { id: self.unknown, range: word.clone(), word });
            };
            at += length;
            pieces[count] = (at, id);
            count += 1;
        }
        let mut start = 0;
        for &(end, id) in &pieces[..count] {
            each(Token { id, range: source(start..end), word: word.clone() });
            start = end;
        }
    }
}

/// A run of characters beyond ASCII while it is normalised: buffers that one text's runs share.
#[derive(Default)]
struct Unusual {
    characters: Vec<Decomposed>,
    bytes: Vec<u8>,
    /// For every byte of the word, the bytes of the text that its character came from.
    sources: Vec<Range<usize>>,
    /// Characters of the word.
    count: usize,
    ideograph_before: bool,
}

/// A character after canonical decomposition.
#[derive(Clone)]
struct Decomposed {
    value: char,
    source: Range<usize>,
    ideograph: bool,
}

impl Unusual {
    fn push(&mut self, character: char, source: Range<usize>) {
        let ideograph = is_ideograph(character);
        let characters = &mut self.characters;
        decompose_canonical(character, |value| {
            characters.push(Decomposed { value, source: source.clone(), ideograph });
        });
    }

    /// The canonical order of combining marks (Unicode Standard, D109): a stable sort of each stretch of marks. Those that
    /// change places come from all bytes of their stretch, so that ranges still ascend.
    fn order_marks(&mut self) {
        let class = |character: &Decomposed| canonical_combining_class(character.value);
        for stretch in self.characters.chunk_by_mut(|a, b| class(a) != 0 && class(b) != 0) {
            if !stretch.is_sorted_by_key(class) {
                let (start, end) = (stretch[0].source.start, stretch[stretch.len() - 1].source.end);
                stretch.sort_by_key(class);
                stretch.iter_mut().for_each(|mark| mark.source = start..end);
            }
        }
    }

    fn begin_word(&mut self) {
        self.bytes.clear();
        self.sources.clear();
        self.count = 0;
        self.ideograph_before = false;
    }

    fn append(&mut self, character: char, source: &Range<usize>) {
        let mut buffer = [0; 4];
        let encoded = character.encode_utf8(&mut buffer).as_bytes();
        self.bytes.extend_from_slice(encoded);
        self.sources.extend(std::iter::repeat_n(source.clone(), encoded.len()));
        self.count += 1;
    }
}

/// Whether a token begins a word or goes on with one: the beginning state of its hash.
type Place = u64;
const FIRST: Place = 0x5157;
const CONTINUED: Place = 0x2323;

/// Adds a byte to a hash: multiplication by an odd constant close to 2^64 / golden ratio, as Firefox's FxHash does.
fn hash_byte(state: u64, byte: u8) -> u64 {
    (state.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn hash(place: Place, bytes: &[u8]) -> u64 {
    bytes.iter().fold(place, |state, &byte| hash_byte(state, byte))
}

/// The tokens' strings, without `##`, behind an open-addressed hash table.
struct Vocabulary {
    text: Vec<u8>,
    /// Where each token's bytes begin in `text`; one more at the end.
    starts: Vec<u32>,
    /// Whether the token goes on with a word.
    continued: Vec<bool>,
    /// Id + 1 in the low half, the upper half of the hash in the high half; 0 where nothing is.
    slots: Vec<u64>,
    /// The slot is the hash shifted down so far.
    shift: u32,
    length_max: usize,
}

impl Vocabulary {
    fn new<'a>(tokens: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let slots = (tokens.len() * 4).next_power_of_two().max(16);
        let mut vocabulary = Self {
            text: Vec::new(),
            starts: vec![0],
            continued: Vec::new(),
            slots: vec![0; slots],
            shift: 64 - slots.trailing_zeros(),
            length_max: 0,
        };
        for (id, token) in tokens.enumerate() {
            vocabulary.insert(id as u32, token);
        }
        vocabulary
    }

    fn insert(&mut self, id: u32, token: &str) {
        let (place, bytes) = match token.strip_prefix("##") {
            Some(rest) if !rest.is_empty() => (CONTINUED, rest.as_bytes()),
            _ => (FIRST, token.as_bytes()),
        };
        self.text.extend_from_slice(bytes);
        self.starts.push(self.text.len() as u32);
        self.continued.push(place == CONTINUED);
        self.length_max = self.length_max.max(bytes.len());
        let hash = hash(place, bytes);
        let mut slot = (hash >> self.shift) as usize;
        while self.slots[slot] != 0 {
            slot = (slot + 1) % self.slots.len();
        }
        self.slots[slot] = (hash & !0xFFFF_FFFF) | u64::from(id + 1);
    }

    fn bytes(&self, id: u32) -> &[u8] {
        &self.text[self.starts[id as usize] as usize..self.starts[id as usize + 1] as usize]
    }

    fn find(&self, hash: u64, place: Place, bytes: &[u8]) -> Option<u32> {
        let mut slot = (hash >> self.shift) as usize;
        loop {
            let entry = self.slots[slot];
            if entry == 0 {
                return None;
            }
            let id = (entry & 0xFFFF_FFFF) as u32;
            if (entry ^ hash) >> 32 == 0
                && self.continued[id as usize - 1] == (place == CONTINUED)
                && self.bytes(id - 1) == bytes
            {
                return Some(id - 1);
            }
            slot = (slot + 1) % self.slots.len();
        }
    }

    /// The longest token that the bytes begin with: its length and id.
    fn longest(&self, place: Place, bytes: &[u8]) -> Option<(usize, u32)> {
        let length = bytes.len().min(self.length_max);
        if length == bytes.len()
            && let Some(id) = self.find(hash(place, bytes), place, bytes)
        {
            return Some((length, id));
        }
        let mut hashes = [0; 4 * WORD_CHARACTERS_MAX];
        let mut state = place;
        for (hash, &byte) in hashes.iter_mut().zip(&bytes[..length]) {
            state = hash_byte(state, byte);
            *hash = state;
        }
        (1..=length)
            .rev()
            .filter(|&end| bytes.get(end).is_none_or(|byte| byte & 0xC0 != 0x80))
            .find_map(|end| Some((end, self.find(hashes[end - 1], place, &bytes[..end])?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const TOKENS: [&str; 20] = [
        "[UNK]", "[SEP]", "un", "##aff", "##able", "cafe", "red", "##s", "a", "b", "##b", "中", "。", ",", "[", "]",
        "don", "'", "t", "##é",
    ];

    /// The tokens of a text as "piece@bytes of the text".
    fn cut(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let tokenizer = WordPiece::new(TOKENS.into_iter()).unwrap();
        tokenizer.for_each(text, &mut |token| {
            found.push(format!("{}@{}", TOKENS[token.id as usize], &text[token.range]));
        });
        found
    }

    #[test]
    fn words_are_cut_into_the_longest_pieces() {
        assert_eq!(cut("Unaffable reds"), ["un@Un", "##aff@aff", "##able@able", "red@red", "##s@s"]);
        assert_eq!(cut("don't"), ["don@don", "'@'", "t@t"]);
        assert_eq!(cut("redx red"), ["[UNK]@redx", "red@red"]);
    }

    #[test]
    fn accents_and_controls_vanish_and_ranges_stay_those_of_the_text() {
        assert_eq!(cut("CAFÉ, cafe\u{301}"), ["cafe@CAFÉ", ",@,", "cafe@cafe"]);
        assert_eq!(cut("a\u{200B}b \u{85}a\u{0}"), ["a@a", "##b@b", "a@a"]);
    }

    #[test]
    fn ideographs_and_punctuation_stand_alone() {
        assert_eq!(cut("a中中。b"), ["a@a", "中@中", "中@中", "。@。", "b@b"]);
    }

    #[test]
    fn special_tokens_are_read_literally_where_the_vocabulary_has_them() {
        assert_eq!(cut("a[SEP]b"), ["a@a", "[SEP]@[SEP]", "b@b"]);
        assert_eq!(cut("[a]"), ["[@[", "a@a", "]@]"]);
    }

    #[test]
    fn marks_that_change_places_are_one_range() {
        // A dot above (class 230) before a reading mark (class 6), both kept by this version of Unicode.
        assert_eq!(cut("\u{10f82}\u{16ff0} ").len(), 1);
        let tokenizer = WordPiece::new(TOKENS.into_iter()).unwrap();
        tokenizer.for_each("\u{10f82}\u{16ff0} ", &mut |token| assert_eq!(token.range, 0..8));
    }

    #[test]
    fn words_of_more_than_a_hundred_characters_are_unknown() {
        let word = |count: usize| format!("a{}", "b".repeat(count - 1));
        assert_eq!(cut(&word(100)).len(), 100);
        assert_eq!(cut(&word(101)).len(), 1);
        assert_eq!(cut(&format!("{}é", word(101))).len(), 1);
    }

    proptest! {
        #[test]
        fn ranges_ascend_at_character_boundaries_within_their_word(text in any::<String>()) {
            let tokenizer = WordPiece::new(TOKENS.into_iter()).unwrap();
            let mut before = 0;
            tokenizer.for_each(&text, &mut |token| {
                assert!(before <= token.range.start && token.range.start < token.range.end, "{text:?}: {token:?}");
                assert!(text.get(token.range.clone()).is_some(), "{text:?}: {token:?}");
                assert!(token.word.start <= token.range.start && token.range.end <= token.word.end);
                before = token.range.start;
            });
        }
    }

    /// The same cuts as the reference implementation, which `--features candle` brings.
    #[cfg(feature = "candle")]
    mod reference {
        use super::super::super::{BUILTIN, StaticTable};
        use super::*;

        /// Texts that took hold of one rule each, or of several at once.
        const TEXTS: [&str; 14] = [
            "The quick brown fox jumps over the lazy dog.",
            "Tokenisation isn't antidisestablishmentarianism; it's O(n^2)!? (see §3.2)",
            "Ærøskøbing, ÅNGSTRÖM, İstanbul, straße, ǅ, ﬁne, x², ½, №5, Ωmega",
            "日本語のテキスト と 한국어 텍스트, 中文。漢字「かな」",
            "e\u{301}\u{323} a\u{323}\u{301} q\u{307}\u{323} \u{1100}\u{1161}\u{11A8} \u{AC01}",
            "\u{FEFF}zero\u{200B}width\u{AD}soft\u{0}null\u{B}tab\tnew\nline\r\u{85}\u{2028}\u{3000}wide",
            "emoji 👩‍👩‍👧‍👦 🦀 ☃︎ flags 🇩🇪 “quotes” ‘single’ – — … •",
            "a[UNK]b [CLS] [MASK [SEP] ##ing #hash @user $5 100% 3.14e-10",
            "https://example.org/a_b?c=d&e=f#g fn main() { let x: Vec<u8> = vec![]; }",
            "العربية עִבְרִית हिन्दी ไทย ελληνικά русский ё й",
            "ᾳ ΐ ŉ ǰ ẞ ﬀ Σς İi̇ Ⅷ ⓐ",
            "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠀀𪛖 \u{2F800} \u{F900} \u{E000} \u{10FFFF}",
            "ab\u{300}cd\u{20DD} \u{0300}lone ---___***",
            " \n\t ",
        ];

        fn reference(tokens: &[String]) -> tokenizers::Tokenizer {
            let vocabulary: serde_json::Map<_, _> =
                tokens.iter().cloned().zip((0..).map(|id: u32| id.into())).collect();
            let unknown = &vocabulary["[UNK]"];
            let json = serde_json::json!({
                "version": "1.0", "truncation": null, "padding": null, "post_processor": null, "decoder": null,
                "added_tokens": [{"id": unknown, "content": "[UNK]", "special": true, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false}],
                "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                    "strip_accents": null, "lowercase": true},
                "pre_tokenizer": {"type": "BertPreTokenizer"},
                "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 100, "vocab": vocabulary},
            });
            tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap()
        }

        #[test]
        fn ids_and_ranges_are_those_of_the_tokenizers_crate() {
            let table = StaticTable::from_static(BUILTIN).unwrap();
            let (theirs, ours) =
                (reference(table.tokens()), WordPiece::new(table.tokens().iter().map(String::as_str)).unwrap());
            for text in TEXTS {
                let wanted = theirs.encode(text, false).unwrap();
                let (mut ids, mut ranges) = (Vec::new(), Vec::new());
                ours.for_each(text, &mut |token| {
                    ids.push(token.id);
                    ranges.push((token.range.start, token.range.end));
                });
                assert_eq!(ids, wanted.get_ids(), "{text}");
                assert_eq!(ranges, wanted.get_offsets(), "{text}");
            }
        }
    }
}
