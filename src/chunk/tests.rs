//! Invariants first, for any text; then what chunks of real shapes look like.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Words and single other visible characters, as the default of `Embedder::token_ranges`.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut word_end = usize::MAX;
    for (start, character) in text.char_indices().filter(|(_, character)| !character.is_whitespace()) {
        let end = start + character.len_utf8();
        let in_word = character.is_alphanumeric();
        match ranges.last_mut() {
            Some(last) if in_word && word_end == start => last.end = end,
            _ => ranges.push(start..end),
        }
        word_end = if in_word { end } else { usize::MAX };
    }
    ranges
}

/// One token a byte-level vocabulary might make: every byte of the text, white space too.
fn characters(text: &str) -> Vec<Range<usize>> {
    text.char_indices().flat_map(|(at, c)| vec![at..at + c.len_utf8(); c.len_utf8()]).collect()
}

/// What must hold for any text and any tokenizer.
fn check(text: &str, kind: ChunkerKind, tokens_max: usize, overlap: usize, tokens: &[Range<usize>]) -> Vec<Chunk> {
    let chunks = chunk(text, kind, tokens_max, overlap, tokens);
    let measure = Measure::new(text, tokens);
    assert_eq!(first_gap(text, &chunks), None, "every visible byte lies in some chunk");
    for Chunk { start, end, .. } in &chunks {
        assert!(start < end && text.is_char_boundary(*start) && text.is_char_boundary(*end), "{start}..{end}");
        let piece = &text[*start..*end];
        assert_eq!(piece.trim_end(), piece);
        assert!(!piece.trim().is_empty());
        let size = measure.tokens(*start..*end);
        assert!(size <= tokens_max.max(1) || piece.chars().count() == 1, "{size} tokens in {piece:?}");
    }
    assert!(chunks.windows(2).all(|pair| pair[0].start < pair[1].start && pair[0].end < pair[1].end), "{chunks:?}");
    chunks
}

fn check_all(text: &str, tokens_max: usize, overlap: usize) {
    for kind in [ChunkerKind::Auto, ChunkerKind::Plain, ChunkerKind::Markdown] {
        check(text, kind, tokens_max, overlap, &words(text));
        check(text, kind, tokens_max, overlap, &characters(text));
        check(text, kind, tokens_max, overlap, &[]);
    }
}

/// Texts made of what breaks splitters.
fn texts() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec![
        "# ",
        "## ",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        " ",
        "    ",
        "\t",
        "```\n",
        "~~~",
        "- ",
        "> ",
        "1. ",
        "===\n",
        "---\n",
        "|",
        "**",
        "`",
        "[a](b)",
        "<b>",
        "<!-- ",
        "-->",
        "word",
        "Sentence one. ",
        "é",
        "e\u{301}",
        "漢字",
        "かな。",
        "한국어 ",
        "\u{feff}",
        "\u{200b}",
        "\u{200d}",
        "👩\u{200d}👩\u{200d}👧",
        "\u{a0}",
        "\u{2028}",
        "\u{c}",
        "\0",
        "x",
        "ไทยไทย",
        "$$",
        "{#a}",
        "\\",
    ]);
    let random = prop::collection::vec(any::<char>(), 0..8).prop_map(String::from_iter);
    let piece = prop_oneof![8 => bits.prop_map(str::to_owned), 1 => random];
    prop::collection::vec(piece, 0..160).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_for_any_text(text in texts(), tokens_max in 1usize..40, overlap in 0usize..20) {
        check_all(&text, tokens_max, overlap);
    }

    #[test]
    fn tokens_of_a_strange_tokenizer_do_no_harm(
        text in texts(),
        bounds in prop::collection::vec((0usize..400, 0usize..400), 0..50),
    ) {
        let tokens: Vec<_> = bounds.into_iter().map(|(start, end)| start..end).collect();
        for kind in [ChunkerKind::Markdown, ChunkerKind::Plain] {
            let chunks = chunk(&text, kind, 8, 2, &tokens);
            assert_eq!(first_gap(&text, &chunks), None);
            assert!(chunks.iter().all(|chunk| text.get(chunk.start..chunk.end).is_some_and(|piece| !piece.is_empty())));
        }
    }
}

#[test]
fn empty_and_blank_texts_have_no_chunks() {
    for text in ["", " ", "\n\n\r\n", "\t \u{a0}\u{3000}\u{2028}"] {
        check_all(text, 8, 2);
        assert_eq!(chunk(text, ChunkerKind::Auto, 8, 2, &words(text)), []);
    }
}

#[test]
fn a_text_that_fits_is_one_chunk_without_its_margins() {
    let text = "\n  Some words, and a mark.  \r\n";
    for kind in [ChunkerKind::Plain, ChunkerKind::Markdown] {
        let chunks = check(text, kind, 256, 32, &words(text));
        assert_eq!(chunks.len(), 1);
        assert_eq!(&text[chunks[0].start..chunks[0].end], "Some words, and a mark.");
    }
}

#[test]
fn windows_leave_no_seam() {
    let text: String = (0..3000).map(|number| format!("Sentence number {number} is here. ")).collect();
    let chunks = check(&text, ChunkerKind::Plain, 64, 8, &words(&text));
    assert!(chunks.len() > 2 * 16, "several windows");
    for pair in chunks.windows(2) {
        assert!(
            text[pair[1].start..].starts_with("Sentence"),
            "begins with a sentence: {:?}",
            &text[pair[1].start..][..20]
        );
        assert!(pair[1].start < pair[0].end, "neighbours overlap");
    }
}

#[test]
fn overlap_is_as_long_as_asked_for_at_most() {
    let text: String = (0..500).map(|number| format!("w{number} ")).collect();
    let tokens = words(&text);
    let chunks = check(&text, ChunkerKind::Plain, 50, 10, &tokens);
    let measure = Measure::new(&text, &tokens);
    for pair in chunks.windows(2) {
        let shared = measure.tokens(pair[1].start..pair[0].end);
        assert!((1..=10).contains(&shared), "{shared} tokens shared");
    }
    let apart = check(&text, ChunkerKind::Plain, 50, 0, &tokens);
    assert!(apart.windows(2).all(|pair| pair[0].end <= pair[1].start));
}

#[test]
fn sizes_are_even_and_leave_no_crumbs() {
    let text: String = (0..270).map(|number| format!("w{number} ")).collect();
    let tokens = words(&text);
    let measure = Measure::new(&text, &tokens);
    let sizes: Vec<usize> =
        check(&text, ChunkerKind::Plain, 256, 32, &tokens).iter().map(|c| measure.tokens(c.start..c.end)).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|size| (120..=180).contains(size)), "{sizes:?}");
}

#[test]
fn chunks_know_the_headings_above_them() {
    let filler = "Plain words that fill the section. ".repeat(12);
    let text = format!("# Book\n\n## One\n\n{filler}\n\n### Deep\n\n{filler}\n\n## Two\n\n{filler}\n");
    let headings: Vec<String> =
        check(&text, ChunkerKind::Auto, 256, 32, &words(&text)).into_iter().map(|chunk| chunk.heading).collect();
    assert_eq!(headings, ["Book > One", "Book > One > Deep", "Book > Two"]);
}

#[test]
fn small_siblings_join_below_their_parent() {
    let filler = "Plain words. ".repeat(82);
    let text = format!("# Glossary\n\n## Chunk\n\nA piece.\n\n## Hit\n\nA find.\n\n# Other\n\n{filler}\n");
    let chunks = check(&text, ChunkerKind::Markdown, 256, 32, &words(&text));
    assert_eq!(chunks.len(), 2, "{chunks:?}");
    assert_eq!(chunks[0].heading, "Glossary");
    assert_eq!(chunks[1].heading, "Other");
}

#[test]
fn comments_and_anchors_before_a_heading_are_no_passage() {
    let filler = "Plain words that fill the section, one after the other. ".repeat(60);
    let lead = "<!-- Old headings. Do not remove or links may break. -->\n\n<a id=\"an-anchor-with-a-long-name\"></a>"
        .repeat(3);
    let targets = "[one]: https://example.com/one\n[two]: https://example.com/two\n".repeat(3);
    let text = format!("{lead}\n\n## Title\n\n{filler}\n\n{targets}");
    for chunk in check(&text, ChunkerKind::Markdown, 256, 32, &words(&text)) {
        let piece = &text[chunk.start..chunk.end];
        assert!(piece.contains("Plain words"), "{piece:?}");
    }
}

#[test]
fn sections_do_not_mix_where_each_can_stand_alone() {
    let filler = "words ".repeat(70);
    let text = format!("# A\n{filler}\n# B\n{filler}\n");
    let chunks = check(&text, ChunkerKind::Markdown, 256, 32, &words(&text));
    assert_eq!(chunks.iter().map(|chunk| chunk.heading.as_str()).collect::<Vec<_>>(), ["A", "B"]);
}

#[test]
fn a_megabyte_on_one_line_is_cut_in_linear_time() {
    let spaced = "lorem ipsum dolor, sit amet. ".repeat(36_000);
    let unbroken = "abcdefghij".repeat(105_000);
    let kanji = "漢字仮名交じり文。".repeat(40_000);
    let breaks = "a\n".repeat(500_000);
    let nothing = "\u{200b}".repeat(350_000);
    let (plain, markdown) = (ChunkerKind::Plain, ChunkerKind::Markdown);
    for (text, kind) in [(spaced, markdown), (unbroken, plain), (kanji, markdown), (breaks, plain), (nothing, markdown)]
    {
        let tokens = words(&text);
        let begun = std::time::Instant::now();
        let chunks = check(&text, kind, 256, 32, &tokens);
        eprintln!("{kind:?} {:?}: {} chunks in {:?}", &text[..6], chunks.len(), begun.elapsed());
        assert!(chunks.len() > 60);
        assert!(chunks.iter().all(|chunk| chunk.end - chunk.start < 64 * 1024));
    }
}

#[test]
fn passages_stay_on_their_page_unless_it_is_next_to_empty() {
    let page = |number| format!("Page {number}. {}", "Plain words that fill it. ".repeat(20));
    let text = format!("{}\n\n\u{c}{}\n\n\u{c}Three words only.\n\n\u{c}{}", page(1), page(2), page(4));
    let chunks = check(&text, ChunkerKind::Plain, 256, 32, &words(&text));
    let begins: Vec<&str> = chunks.iter().map(|chunk| &text[chunk.start..][..6]).collect();
    assert_eq!(begins, ["Page 1", "Page 2", "Three "]);
    let feeds = "a\u{c}".repeat(100_000);
    assert!(check(&feeds, ChunkerKind::Plain, 256, 32, &words(&feeds)).len() < 8_000);
}

#[test]
fn auto_follows_the_media_type() {
    assert_eq!(ChunkerKind::Auto.for_media_type("text/markdown; charset=utf-8"), ChunkerKind::Markdown);
    assert_eq!(ChunkerKind::Auto.for_media_type("text/html"), ChunkerKind::Markdown);
    assert_eq!(ChunkerKind::Auto.for_media_type("text/x-python"), ChunkerKind::Code(CodeLanguage::Python));
    assert_eq!(ChunkerKind::Auto.for_media_type("application/pdf"), ChunkerKind::Plain);
    assert_eq!(ChunkerKind::Auto.for_media_type(""), ChunkerKind::Auto);
    assert_eq!(ChunkerKind::Plain.for_media_type("text/markdown"), ChunkerKind::Plain);
}

#[cfg(feature = "code")]
#[test]
fn code_is_cut_between_its_items() {
    let body = "    let sum = numbers.iter().map(|number| number * 2).sum::<u32>();\n\n".repeat(2);
    let item = |number| format!("/// Item {number}.\nfn item_{number}(numbers: &[u32]) {{\n{body}}}\n\n");
    let text: String = (0..60).map(item).collect();
    let begun = |chunks: &[Chunk]| {
        let is_item = |chunk: &&Chunk| text[chunk.start..].starts_with("/// Item");
        100 * chunks.iter().filter(is_item).count() / chunks.len()
    };
    let code = begun(&check(&text, ChunkerKind::Code(CodeLanguage::Rust), 128, 16, &words(&text)));
    let plain = begun(&check(&text, ChunkerKind::Plain, 128, 16, &words(&text)));
    assert!(code >= 90 && code > plain, "{code} of 100 chunks begin with an item; as lines, {plain}");
}

/// With the feature and without: no text is lost, and none takes long.
#[test]
fn code_of_every_language_may_be_anything() {
    let texts = [
        "(".repeat(8_000),
        "{[<".repeat(2_000),
        "fn f() { g(\"".repeat(300),
        "if x:\n  y = ```".repeat(300),
        "\0\u{feff}漢字 => <?php /* ".repeat(300),
    ];
    for language in CodeLanguage::ALL {
        for text in &texts {
            let begun = std::time::Instant::now();
            check(text, ChunkerKind::Code(language), 64, 8, &words(text));
            assert!(begun.elapsed().as_secs() < 60, "{language:?} {text:.10}: {:?}", begun.elapsed());
        }
    }
}

#[test]
fn kinds_have_names() {
    for kind in [ChunkerKind::Auto, ChunkerKind::Code(CodeLanguage::CSharp)] {
        let name = String::from(kind);
        assert_eq!(ChunkerKind::try_from(name.clone()), Ok(kind), "{name}");
    }
    let error = ChunkerKind::try_from("code:cobol".to_owned()).unwrap_err();
    assert!(error.contains("`code:cobol`") && error.contains("`code:rust`"), "{error}");
}
