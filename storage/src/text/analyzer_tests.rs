//! What texts become, in tables; and what holds for any text and any language.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn analyzer(language: Language) -> Analyzer {
    Analyzer::new(&AnalyzerSettings { language, ..AnalyzerSettings::default() })
}

fn terms(language: Language, text: &str) -> String {
    analyzer(language).word_terms(text).join(" ")
}

#[test]
fn english_is_lowered_and_stemmed() {
    for (text, expected) in [
        ("The Cats are RUNNING quickly.", "the cat are run quick"),
        ("the dog's owner, the dogs' owner, the dog\u{2019}s", "the dog owner the dog owner the dog"),
        ("it's o'clock don't O'Brien 'sun", "it o clock don t o brien sun"),
        ("café résumé naïve", "cafe resum naiv"),
        ("cafe resume naive", "cafe resum naiv"),
        ("well-known e-mail a@b.org", "well known e mail a b org"),
        ("3.14 2024-01-02 x86_64", "3 14 2024 01 02 x86 64"),
        ("", ""),
        (" \t\n...🚀❤️👩‍👩‍👧 ", ""),
        ("I ❤️ Rust🚀fast", "i rust fast"),
        ("1️⃣ first", "1 first"),
        ("ﬁnding eﬃcient ﬁles", "find effici file"),
        ("ＦＵＬＬ width", "full width"),
    ] {
        assert_eq!(terms(Language::English, text), expected, "{text}");
    }
}

#[test]
fn camel_case_yields_the_whole_and_its_parts() {
    for (text, expected) in [
        ("writeBoolean", "writeboolean write boolean"),
        ("HTTPServer", "httpserver http server"),
        ("parseHTTPResponse2", "parsehttpresponse2 pars http response2"),
        ("snake_case_name", "snake case name"),
        ("SCREAMING_CASE", "scream case"),
        ("URLs and IDs of iPhone 3D", "url and id of iphon phone 3d"),
        ("sha256Sum UTF8", "sha256sum sha256 sum utf8"),
        ("Word", "word"),
    ] {
        assert_eq!(terms(Language::English, text), expected, "{text}");
    }
    let whole = Analyzer::new(&AnalyzerSettings { split_identifiers: false, ..AnalyzerSettings::default() });
    assert_eq!(whole.word_terms("writeBoolean"), ["writeboolean"]);
    let long = "aB".repeat(40);
    assert_eq!(terms(Language::None, &long), "ab".repeat(32));
}

#[test]
fn other_languages_fold_after_stemming() {
    for (language, text, expected) in [
        (Language::German, "Häuser Haus ÜBER Straßen Straße", "haus haus uber strass strass"),
        (Language::French, "chevaux l'élève élèves", "cheval l elev elev"),
        (Language::Russian, "Книги книга", "книг книг"),
        (Language::Turkish, "ISPARTA ısparta İstanbul", "ispar ispar istanbul"),
        (Language::Greek, "ΟΔΟΣ οδός", "οδ οδ"),
        (Language::None, "Cats Häuser", "cats hauser"),
        (Language::None, "हिन्दी में", "हिन्दी में"),
        (Language::Arabic, "كِتَاب", "كتاب"),
    ] {
        assert_eq!(terms(language, text), expected, "{language}: {text}");
    }
}

#[test]
fn unspaced_scripts_become_pairs() {
    for (text, expected) in [
        ("東京都", "東京 京都"),
        ("猫", "猫"),
        ("猫。犬", "猫 犬"),
        ("東京でRustを書く", "東京 京で rust を書 書く"),
        ("データベース", "デー ータ タベ ベー ース"),
        ("ｶﾞｷﾞ", "ガギ"),
        ("か\u{3099}き", "がき"),
        ("한국어 검색", "한국 국어 검색"),
        ("\u{1112}\u{1161}\u{11AB}\u{1100}\u{116E}\u{11A8}", "한국"),
        ("ภาษาไทย", "ภา าษ ษา าไ ไท ทย"),
        ("𠮷野家", "𠮷野 野家"),
    ] {
        assert_eq!(terms(Language::English, text), expected, "{text}");
    }
}

#[test]
fn ranges_lie_where_the_terms_came_from() {
    let text = "Ein Café's getFile 東京都!";
    let found: Vec<(String, &str)> =
        analyzer(Language::English).term_ranges(text).into_iter().map(|(term, range)| (term, &text[range])).collect();
    let expected = [
        ("ein", "Ein"),
        ("cafe", "Café"),
        ("getfil", "getFile"),
        ("get", "get"),
        ("file", "File"),
        ("東京", "東京"),
        ("京都", "京都"),
    ];
    assert_eq!(found, expected.map(|(term, part)| (term.to_owned(), part)));
}

#[test]
fn long_words_are_cut_between_characters() {
    for text in
        ["a".repeat(1000), "ä".repeat(1000), "e\u{301}".repeat(1000), "か".to_owned() + &"\u{3099}".repeat(1000)]
    {
        let found = analyzer(Language::None).word_terms(&text);
        assert_eq!(found.len(), 1, "{text}");
        assert!((1..=TERM_BYTES_MAX).contains(&found[0].len()));
    }
    assert_eq!(terms(Language::None, &"ä".repeat(100)), "a".repeat(64));
}

#[test]
fn memory_does_not_change_terms() {
    // More distinct words than there are slots, in two languages, twice.
    let text: Vec<String> = (0..20_000).map(|n| format!("Running{n} häuser{n}s")).collect();
    let text = text.join(" ");
    let first = [Language::English, Language::German].map(|language| analyzer(language).word_terms(&text));
    let second = [Language::English, Language::German].map(|language| analyzer(language).word_terms(&text));
    assert_eq!(first, second);
    let inner = analyzer(Language::English);
    let mut nested = Vec::new();
    inner.for_each_term("cats running", &mut |term| {
        nested.push(term.to_owned());
        inner.for_each_term("dogs", &mut |term| nested.push(term.to_owned()));
    });
    assert_eq!(nested, ["cat", "dog", "run", "dog"]);
}

#[test]
fn settings_are_read_with_defaults_and_without_surprises() {
    let read = |text: &str| serde_json::from_str::<AnalyzerSettings>(text);
    assert_eq!(read("{}").unwrap(), AnalyzerSettings { language: Language::English, split_identifiers: true });
    assert_eq!(read(r#"{"language":"german"}"#).unwrap().language, Language::German);
    assert!(read(r#"{"langage":"german"}"#).is_err());
    for language in Language::ALL {
        assert_eq!(language.name().to_uppercase().parse::<Language>().unwrap(), *language);
        assert_eq!(serde_json::to_value(language).unwrap(), language.name());
    }
    let error = "klingon".parse::<Language>().unwrap_err().to_string();
    assert!(error.contains("`klingon` is not a language") && error.contains("german"), "{error}");
}

fn any_language() -> impl Strategy<Value = Language> {
    prop::sample::select(Language::ALL)
}

/// Letters of the scripts of all stemmers, with what is awkward: marks, joiners, quotes, astral planes.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "\\PC{0,80}",
        "[a-zA-ZäöüßéèêçñøåæœıİğşąłÀ-ÿ'’ _]{0,60}",
        "[Ͱ-Ͽἀ-῿ ]{0,40}",
        "[Ѐ-ӿ ]{0,40}",
        "[\u{600}-\u{6FF} ]{0,40}",
        "[\u{B80}-\u{BFF} ]{0,40}",
        "[぀-ヿ一-龥가-힣\u{1100}-\u{11FF}ｦ-ﾟ\u{E00}-\u{E7F} ]{0,40}",
        "[aeiouyäöü]{0,40}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_yields_sound_terms_and_ranges(text in any_text(), language in any_language()) {
        let analyzer = analyzer(language);
        let mut start = 0;
        for (term, range) in analyzer.term_ranges(&text) {
            prop_assert!((1..=TERM_BYTES_MAX).contains(&term.len()), "{term:?}");
            prop_assert!(range.start < range.end && text.get(range.clone()).is_some(), "{range:?}");
            prop_assert!(range.start >= start, "ranges go back");
            start = range.start;
            prop_assert!(!term.chars().any(char::is_whitespace), "{term:?}");
        }
        let again = analyzer.word_terms(&text);
        prop_assert!(analyzer.term_ranges(&text).into_iter().map(|(term, _)| term).eq(again));
    }

    #[test]
    fn case_and_composition_do_not_matter(text in "[a-zäöüéèñç]{1,20}", language in any_language()) {
        use unicode_normalization::UnicodeNormalization;
        let analyzer = Analyzer::new(&AnalyzerSettings { language, split_identifiers: false });
        let decomposed: String = text.nfd().collect();
        prop_assert_eq!(analyzer.word_terms(&text), analyzer.word_terms(&decomposed));
        if language != Language::Turkish {
            prop_assert_eq!(analyzer.word_terms(&text), analyzer.word_terms(&text.to_uppercase()));
        }
    }
}
