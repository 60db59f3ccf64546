//! Each operator against a naive evaluator over small texts, and scores by hand.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::{AnalyzerSettings, Language, QueryTerms, TextRun, search};
use super::*;

fn analyzer(language: Language) -> Analyzer {
    Analyzer::new(&AnalyzerSettings { language, ..AnalyzerSettings::default() })
}

fn statistics(analyzer: &Analyzer, texts: &[(u32, String)]) -> CorpusStatistics {
    let terms = texts.iter().map(|(_, text)| analyzer.word_terms(text).len() as u64).sum();
    CorpusStatistics { chunks: texts.len() as u64, terms }
}

/// The chunks that a query finds with their scores to the bit, the maximum and what was capped.
type Answer = (Vec<(u32, u32)>, u32, Vec<String>);

fn ask(analyzer: &Analyzer, sources: &[&dyn Postings], texts: &[(u32, String)], query: &str) -> Answer {
    let query = TextQuery::parse(query).unwrap();
    let alive = |chunk: u32| texts.iter().any(|(live, _)| *live == chunk);
    let found = evaluate(sources, analyzer, &query, statistics(analyzer, texts), &alive).unwrap();
    let (sure, open) = found.decided();
    assert!(sure.is_disjoint(&open));
    let held = |chunk: u32| texts.iter().any(|(at, text)| *at == chunk && found.holds(analyzer, chunk, text));
    assert!(sure.iter().all(held), "what is sure holds by its text, too");
    let chunks = texts.iter().map(|(chunk, _)| *chunk);
    let chunks = chunks.filter(|chunk| sure.contains(*chunk) || (open.contains(*chunk) && held(*chunk)));
    let scores = chunks.map(|chunk| (chunk, found.scored.score(chunk).to_bits())).collect();
    (scores, found.scored.maximum.to_bits(), found.capped)
}

fn found(texts: &[&str], language: Language, query: &str) -> Vec<u32> {
    let texts: Vec<(u32, String)> = (0..).zip(texts.iter().map(|text| (*text).to_owned())).collect();
    let analyzer = analyzer(language);
    let run = TextRun::build(&analyzer, texts.iter().cloned());
    ask(&analyzer, &[&run], &texts, query).0.into_iter().map(|(chunk, _)| chunk).collect()
}

/// What the syntax says, word for word, on one text of words without camel case.
fn naive(analyzer: &Analyzer, group: &Group, text: &str) -> bool {
    let terms = analyzer.word_terms(text);
    let leaf = |clause: &Clause| match clause {
        Clause::Word(words) => stands(&analyzer.word_terms(words), &terms, 0),
        Clause::Phrase { text, slop } => stands(&analyzer.word_terms(text), &terms, *slop as usize),
        Clause::Prefix { written, folded } => {
            let own = &analyzer.word_terms(written)[0];
            terms.iter().any(|term| term.starts_with(folded) || term == own)
        }
        Clause::Fuzzy { written, folded, distance } => {
            let own = &analyzer.word_terms(written)[0];
            let near = |one: &str, distance, term| Near::new(one, distance).distance(term).is_some();
            let of_stem = match own.chars().count() {
                0..3 => 0,
                3..6 => 1,
                _ => *distance,
            };
            terms.iter().any(|term| near(folded, *distance, term) || near(own, of_stem, term))
        }
        Clause::Group(group) => naive(analyzer, group, text),
    };
    let (mut required, mut musts, mut any) = (true, false, false);
    for (occur, clause) in &group.0 {
        let holds = leaf(clause);
        match occur {
            Occur::Must => (required, musts) = (required && holds, true),
            Occur::Should => any |= holds,
            Occur::Not => required &= !holds,
        }
    }
    required && (musts || any)
}

/// Whether terms stand in this order with so many others between, by trying every choice.
fn stands(wanted: &[String], terms: &[String], slop: usize) -> bool {
    fn goes_on(wanted: &[String], terms: &[String], slop: usize) -> bool {
        let Some((first, rest)) = wanted.split_first() else { return true };
        (0..=slop.min(terms.len()))
            .any(|skip| terms.get(skip) == Some(first) && goes_on(rest, &terms[skip + 1..], slop - skip))
    }
    (0..terms.len()).any(|start| terms[start] == wanted[0] && goes_on(&wanted[1..], &terms[start + 1..], slop))
}

/// Words that the texts and queries of a language are made of.
fn vocabulary(language: Language) -> &'static [&'static str] {
    if language == Language::German {
        &["Haus", "Häuser", "Hausboot", "Strasse", "Straße", "gehen", "geht", "und", "Hund"]
    } else if language == Language::None {
        &["東京", "東京都", "京都", "都", "猫", "データ", "tokyo", "データベース", "cats"]
    } else {
        &["data", "race", "races", "racing", "thread", "threads", "threadpool", "mutex", "mutx", "happy"]
    }
}

fn query_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let word = prop::sample::select(words);
    let leaf = (prop::collection::vec(word, 1..4), 0..8_u8).prop_map(|(words, kind)| {
        let is_latin = words[0].chars().all(|letter| u32::from(letter) < 0x300);
        let short: String = words[0].chars().take(3).collect();
        match kind {
            0 => format!("\"{}\"", words.join(" ")),
            1 => format!("\"{}\"~2", words.join(" ")),
            2 => format!("{short}*"),
            3 => format!("{}*", words[0]),
            4 if is_latin => format!("{}~1", words[0]),
            5 if is_latin => format!("{}~2", words[0].to_owned() + "x"),
            _ => words[0].to_owned(),
        }
    });
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop::collection::vec((inner, 0..5_u8), 1..4).prop_map(|parts| {
            let joined = parts.iter().enumerate().map(|(place, (part, kind))| match (place, kind) {
                (0, _) => format!("({part})"),
                (_, 0) => format!("+({part})"),
                (_, 1) => format!("-({part})"),
                (_, 2) => format!("AND ({part})"),
                (_, 3) => format!("OR ({part})"),
                _ => format!("NOT ({part})"),
            });
            joined.collect::<Vec<_>>().join(" ")
        })
    })
}

fn scene() -> impl Strategy<Value = (Language, Vec<String>, String)> {
    let languages = vec![Language::English, Language::German, Language::None];
    prop::sample::select(languages).prop_flat_map(|language| {
        let words = vocabulary(language);
        let text = prop::collection::vec(prop::sample::select(words), 0..9).prop_map(|words| words.join(" "));
        (Just(language), prop::collection::vec(text, 1..12), query_of(words))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_query_finds_what_a_naive_evaluator_does((language, texts, query) in scene(), cut in 0..12_usize) {
        // What signs and operators make nonsense of is refused, which the parser's own tests cover.
        let Ok(parsed) = TextQuery::parse(&query) else { return Ok(()) };
        let analyzer = analyzer(language);
        let texts: Vec<(u32, String)> = (7..).zip(texts).collect();
        let expected: Vec<u32> =
            texts.iter().filter(|(_, text)| naive(&analyzer, &parsed.root, text)).map(|(chunk, _)| *chunk).collect();
        let whole = TextRun::build(&analyzer, texts.iter().cloned());
        let answer = ask(&analyzer, &[&whole], &texts, &query);
        prop_assert_eq!(answer.0.iter().map(|(chunk, _)| *chunk).collect::<Vec<_>>(), expected, "{}", query);
        for (chunk, score) in &answer.0 {
            let (score, maximum) = (f32::from_bits(*score), f32::from_bits(answer.1));
            prop_assert!(score > 0.0 && score <= maximum * 1.0001, "{}: chunk {} scores {} of {}", query, chunk, score, maximum);
        }
        let cut = cut.min(texts.len());
        let parts = [&texts[..cut], &texts[cut..]].map(|texts| TextRun::build(&analyzer, texts.iter().cloned()));
        prop_assert!(ask(&analyzer, &[&parts[1], &parts[0]], &texts, &query) == answer);
    }

    #[test]
    fn plain_words_score_as_they_do_without_the_syntax(words in prop::collection::vec(prop::sample::select(vocabulary(Language::English)), 1..6)) {
        let analyzer = analyzer(Language::English);
        let texts: Vec<(u32, String)> =
            (0..).zip(["data race", "racing threads", "a mutex", "threadpool", ""].map(str::to_owned)).collect();
        let run = TextRun::build(&analyzer, texts.iter().cloned());
        let query = words.join(" ");
        let terms = QueryTerms::analyze(&analyzer, &query);
        let plain = search(&[&run], &terms, statistics(&analyzer, &texts), &|_| true).unwrap();
        let expected: Vec<(u32, u32)> = plain.iter().map(|(chunk, score)| (chunk, score.to_bits())).collect();
        prop_assert_eq!(ask(&analyzer, &[&run], &texts, &query), (expected, plain.maximum.to_bits(), Vec::new()));
    }
}

#[test]
fn each_operator_finds_what_it_says() {
    let texts = [
        "A data race happens between threads",
        "The race for data",
        "A mutex prevents data races in threadpools",
        "async tokio tasks",
        "async std tasks",
        "writeBoolean and write_boolean",
        "write a boolean; happiness",
    ];
    for (query, expected) in [
        ("data race", vec![0, 1, 2]),
        ("\"data race\"", vec![0, 2]),
        ("\"race data\"", vec![]),
        ("\"race data\"~1", vec![1]),
        ("thread*", vec![0, 2]),
        ("threads*", vec![0]),
        ("mutx~", vec![2]),
        ("nutex~", vec![2]),
        ("thraeds~", vec![0]),
        ("+async -tokio", vec![4]),
        ("async AND NOT (tokio OR std)", vec![]),
        ("tasks OR race AND between", vec![0, 3, 4]),
        ("+data mutex", vec![0, 1, 2]),
        ("data -\"data race\"", vec![1]),
        ("(data -\"race for\") async", vec![0, 2, 3, 4]),
        ("-(data -\"race for\") +race", vec![1]),
        ("writeBoolean", vec![5]),
        ("write_boolean", vec![5]),
        ("boolean", vec![5, 6]),
        ("happi*", vec![6]),
        ("happine*", vec![]),
        ("happiness*", vec![6]),
    ] {
        assert_eq!(found(&texts, Language::English, query), expected, "{query}");
    }
}

#[test]
fn words_that_stand_everywhere_are_words_like_others() {
    let texts = ["to be or not to be", "not to be is to be", "the end of it", "or what", "an answer"];
    for (query, expected) in [
        ("the", vec![2]),
        ("to be or", vec![0, 1, 3]),
        ("+to +be +or", vec![0]),
        ("\"to be or not\"", vec![0]),
        ("\"not to be\"", vec![0, 1]),
        ("\"the end of it\"", vec![2]),
        ("\"of the\"", vec![]),
        ("not -\"or not\"", vec![1]),
    ] {
        assert_eq!(found(&texts, Language::English, query), expected, "{query}");
    }
    let german = ["der Hund und die Katze", "die Katze oder der Hund", "ein Vogel"];
    for (query, expected) in [("der die das", vec![0, 1]), ("\"und die\"", vec![0]), ("\"der Hund\" -oder", vec![0])] {
        assert_eq!(found(&german, Language::German, query), expected, "{query}");
    }
}

#[test]
fn a_prefix_is_compared_with_stems() {
    let texts = ["they were running", "a run", "runners", "a rune"];
    for (query, expected) in [
        ("run*", vec![0, 1, 2, 3]),
        // The stem of the whole word is looked for, too.
        ("running*", vec![0, 1]),
        // It ends within an ending that the index has not.
        ("runni*", vec![]),
        ("runn*", vec![2]),
    ] {
        assert_eq!(found(&texts, Language::English, query), expected, "{query}");
    }
    assert_eq!(found(&texts, Language::None, "runni*"), [0]);
    let german = ["Häuser", "Hausboote", "laufen"];
    for (query, expected) in [("häuser*", vec![0]), ("häuse*", vec![0]), ("häus*", vec![0, 1]), ("laufe*", vec![2])]
    {
        assert_eq!(found(&german, Language::German, query), expected, "{query}");
    }
}

#[test]
fn german_and_japanese_are_found() {
    let german = ["Die Häuser an der Straße", "Hausboote", "ein Haus und die Strasse", "Maus"];
    for (query, expected) in [
        ("Häuser", vec![0, 2]),
        ("HAUS*", vec![0, 1, 2]),
        ("häus*", vec![0, 1, 2]),
        ("\"die Strasse\"", vec![2]),
        ("Hauss~1", vec![0, 2]),
        ("+straße -häuser", vec![]),
    ] {
        assert_eq!(found(&german, Language::German, query), expected, "{query}");
    }
    let japanese = ["東京都に住む", "東京と京都に行く", "猫がいる", "データベースを書く"];
    for (query, expected) in [
        ("東京都", vec![0]),
        ("京都", vec![0, 1]),
        ("東*", vec![0, 1]),
        ("猫*", vec![2]),
        ("データ*", vec![3]),
        ("+京都 -東京都", vec![1]),
        ("\"データ ベース\"", vec![]),
    ] {
        assert_eq!(found(&japanese, Language::English, query), expected, "{query}");
    }
}

#[test]
fn a_prefix_scores_as_one_word_that_occurs_where_its_words_do() {
    let texts = ["cart cars cars", "care", "dog dog", "dog"].map(str::to_owned);
    let texts: Vec<(u32, String)> = (0..).zip(texts).collect();
    let same: Vec<(u32, String)> = texts
        .iter()
        .map(|(chunk, text)| (*chunk, text.replace("cart", "car").replace("cars", "car").replace("care", "car")))
        .collect();
    let analyzer = analyzer(Language::None);
    let runs = [&texts, &same].map(|texts| TextRun::build(&analyzer, texts.iter().cloned()));
    let one = ask(&analyzer, &[&runs[0]], &texts, "dog car*");
    let other = ask(&analyzer, &[&runs[1]], &same, "dog car*");
    let word = ask(&analyzer, &[&runs[1]], &same, "dog car");
    assert!(one == other);
    for (scored, expected) in one.0.iter().zip(&word.0) {
        assert!((f32::from_bits(scored.1) - f32::from_bits(expected.1)).abs() < 1e-6);
    }
    assert!((f32::from_bits(one.1) - f32::from_bits(word.1)).abs() < 1e-6);
}

#[test]
fn too_many_words_are_cut_to_the_most_frequent_and_it_is_said() {
    let analyzer = analyzer(Language::None);
    // Word n stands in 1 + n % 7 chunks.
    let texts: Vec<(u32, String)> = (0..7)
        .map(|chunk| {
            (chunk, (0..100).filter(|n| n % 7 >= chunk).map(|n| format!("ab{n:03}")).collect::<Vec<_>>().join(" "))
        })
        .collect();
    let texts = [texts, vec![(7, "solo ab098".to_owned())]].concat();
    let run = TextRun::build(&analyzer, texts.iter().cloned());
    let expanded = |written: &str| Expanded {
        written: written.to_owned(),
        patterns: vec![Pattern::Prefix(written.to_owned())],
        own: None,
        is_wanted: true,
    };
    let (terms, is_capped) = expanded("ab").terms(&[&run], &|_| true).unwrap();
    let mut expected: Vec<String> = (0..100).map(|n| format!("ab{n:03}")).collect();
    expected.sort_by_key(|term| std::cmp::Reverse(term[2..].parse::<u32>().unwrap() % 7));
    assert_eq!((terms.as_slice(), is_capped), (&expected[..EXPANSIONS_MAX], true));
    let (few, is_capped) = expanded("ab00").terms(&[&run], &|_| true).unwrap();
    assert_eq!((few.len(), is_capped), (10, false));
    assert_eq!(ask(&analyzer, &[&run], &texts, "ab*").2, ["ab"]);
    assert!(ask(&analyzer, &[&run], &texts, "ab00*").2.is_empty());
    assert!(!ask(&analyzer, &[&run], &texts, "+solo ab*").0.is_empty());
    assert!(ask(&analyzer, &[&run], &texts, "solo -ab*").0.is_empty(), "all that is excluded is");
    assert!(ask(&analyzer, &[&run], &texts, "solo -ab*").2.is_empty());
    // The dead do not count: with chunk 0 alone alive, all words are in one chunk.
    let (terms, _) = expanded("ab").terms(&[&run], &|chunk| chunk == 0).unwrap();
    assert_eq!(terms, (0..64).map(|n| format!("ab{n:03}")).collect::<Vec<_>>());
}
