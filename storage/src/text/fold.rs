//! Which letters count as the same letter?
//!
//! Case, compatibility forms (`ﬁ`, full-width `Ａ`) and the accents of Latin, Greek, Cyrillic, Hebrew and Arabic are
//! folded away; vowel signs of Indic and other scripts are letters in all but name, and stay.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Writes `word` to `out` in lower case and in compatibility composition (Unicode NFKC), without characters that are
/// neither letters, digits nor marks. `turkish` lowers `I` to dotless `ı`.
pub(super) fn lowercase(word: &str, turkish: bool, out: &mut String) {
    out.clear();
    for character in word.nfkc() {
        match character {
            'I' if turkish => out.push('ı'),
            // Unicode lowers it to two characters, which stemmers do not know.
            'İ' => out.push('i'),
            _ => out
                .extend(character.to_lowercase().filter(|&lower| lower.is_alphanumeric() || is_combining_mark(lower))),
        }
    }
}

/// Writes `word`, which is in lower case, to `out` without accents.
pub(super) fn fold(word: &str, out: &mut String) {
    out.clear();
    for character in word.nfd().filter(|&character| !is_accent(character)) {
        match plain_letters(character) {
            Some(letters) => out.push_str(letters),
            None => out.push(character),
        }
    }
    if !out.is_ascii() {
        let composed: String = out.nfc().collect();
        *out = composed;
    }
}

/// The longest part of `text` from its start that has at most `bytes_max` bytes and ends between two characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Marks whose removal leaves the word readable: those of Latin, Greek and Cyrillic, the vowel points of Hebrew and
/// Arabic with the Arabic stretch, and what selects the looks of a symbol.
fn is_accent(character: char) -> bool {
    matches!(u32::from(character),
        0x0300..=0x036F | 0x0483..=0x0487 | 0x0591..=0x05BD | 0x05BF | 0x05C1..=0x05C2 | 0x05C4..=0x05C5 | 0x05C7
        | 0x0610..=0x061A | 0x0640 | 0x064B..=0x065F | 0x0670 | 0x06D6..=0x06DC | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF
        | 0x20D0..=0x20FF | 0xFE00..=0xFE0F | 0xFE20..=0xFE2F)
}

/// The spelling of letters that Unicode does not decompose, as people type them who lack the key.
fn plain_letters(character: char) -> Option<&'static str> {
    let letters = match character {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'ł' => "l",
        'đ' | 'ð' => "d",
        'þ' => "th",
        'ħ' => "h",
        'ı' => "i",
        'ς' => "σ",
        _ => return None,
    };
    Some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(word: &str) -> String {
        let (mut lower, mut out) = (String::new(), String::new());
        lowercase(word, false, &mut lower);
        fold(&lower, &mut out);
        out
    }

    #[test]
    fn accents_fold_to_plain_letters() {
        for (word, expected) in [
            ("Café", "cafe"),
            ("CAFE\u{301}", "cafe"),
            ("Straße", "strasse"),
            ("Łódź", "lodz"),
            ("Ærø", "aero"),
            ("ΟΔΟΣ", "οδοσ"),
            ("ὁδός", "οδοσ"),
            ("Ёлка", "елка"),
            ("ﬁnal", "final"),
            ("ＡＢＣ１", "abc1"),
            ("İstanbul", "istanbul"),
            ("שָׁלוֹם", "שלום"),
            ("x²", "x2"),
        ] {
            assert_eq!(folded(word), expected, "{word}");
        }
    }

    #[test]
    fn vowel_signs_of_indic_scripts_stay() {
        assert_eq!(folded("हिन्दी"), "हिन्दी");
        assert_eq!(folded("தமிழ்"), "தமிழ்");
    }

    #[test]
    fn cut_ends_between_characters() {
        assert_eq!(cut("äöü", 3), "ä");
        assert_eq!(cut("abc", 64), "abc");
        assert_eq!(cut("", 0), "");
    }
}
