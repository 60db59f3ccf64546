//! Runs, segments and scores together: they count as a naive count does, and agree to the bit.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use proptest::prelude::*;
use tantivy::fieldnorm::FieldNormReader;

use super::bm25::{QUERY_BYTES_MAX, QUERY_TERMS_MAX, document_frequency};
use super::*;
use crate::Error;
use crate::segment::{SegmentDigest, SegmentFolder};

const WORDS: [&str; 16] = [
    "the",
    "cats",
    "cat",
    "running",
    "Häuser",
    "naïve",
    "writeBoolean",
    "東京都",
    "don't",
    "x",
    "databases",
    "2024",
    "ÜBER",
    "dog's",
    "search",
    "🚀",
];

fn analyzer() -> Analyzer {
    Analyzer::new(&AnalyzerSettings::default())
}

/// Texts of seeded nonsense, numbered with gaps.
fn corpus(seed: u64, chunks: u32) -> Vec<(u32, String)> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut number = 3;
    (0..chunks)
        .map(|_| {
            number += 1 + (next() % 3) as u32;
            let words: Vec<&str> = (0..next() % 40).map(|_| WORDS[next() % WORDS.len()]).collect();
            (number, words.join(" "))
        })
        .collect()
}

fn terms_of(text: &str) -> Vec<String> {
    analyzer().word_terms(text)
}

fn postings_of(source: &dyn Postings, term: &str) -> Vec<(u32, u32, u8)> {
    let mut found = Vec::new();
    source.postings(term, &mut |chunk, count, norm| found.push((chunk, count, norm))).unwrap();
    found
}

fn vocabulary(texts: &[(u32, String)]) -> BTreeSet<String> {
    texts.iter().flat_map(|(_, text)| terms_of(text)).collect()
}

fn naive_postings(texts: &[(u32, String)], term: &str) -> Vec<(u32, u32, u8)> {
    let count = |(chunk, text): &(u32, String)| {
        let terms = terms_of(text);
        let count = terms.iter().filter(|found| *found == term).count() as u32;
        (count > 0).then(|| (*chunk, count, FieldNormReader::fieldnorm_to_id(terms.len() as u32)))
    };
    texts.iter().filter_map(count).collect()
}

fn statistics(texts: &[(u32, String)], alive: impl Fn(u32) -> bool) -> CorpusStatistics {
    let live = texts.iter().filter(|(chunk, _)| alive(*chunk));
    live.fold(CorpusStatistics::default(), |sum, (_, text)| CorpusStatistics {
        chunks: sum.chunks + 1,
        terms: sum.terms + terms_of(text).len() as u64,
    })
}

/// What a segment over these texts covers.
fn covers(texts: &[(u32, String)]) -> Range<u32> {
    texts.first().map_or(0, |text| text.0)..texts.last().map_or(0, |text| text.0 + 1)
}

fn seal(folder: &Path, texts: &[(u32, String)]) -> (TextSegment, SegmentDigest) {
    SegmentFolder::create(folder).unwrap();
    TextSegment::build(folder, &analyzer(), texts.iter().cloned()).unwrap();
    let digest = SegmentFolder::finish(folder).unwrap();
    (open(folder, digest, texts).unwrap(), digest)
}

fn open(folder: &Path, digest: SegmentDigest, texts: &[(u32, String)]) -> Result<TextSegment> {
    TextSegment::open(&SegmentFolder::open(folder, digest)?, covers(texts))
}

#[test]
fn run_and_segment_count_as_a_naive_count() {
    let texts = corpus(1, 300);
    let folder = tempfile::tempdir().unwrap();
    let run = TextRun::build(&analyzer(), texts.iter().cloned());
    let (segment, _) = seal(&folder.path().join("s"), &texts);
    for term in vocabulary(&texts).iter().map(String::as_str).chain(["absent", ""]) {
        let expected = naive_postings(&texts, term);
        assert_eq!(postings_of(&run, term), expected, "run, {term}");
        assert_eq!(postings_of(&segment, term), expected, "segment, {term}");
    }
    assert_eq!(run.range(), segment.range());
    assert!(segment.chunks().unwrap().into_iter().eq(texts.iter().map(|text| text.0)));
    assert_eq!(segment.chunks_len(), texts.len());
    for (chunk, text) in &texts {
        assert_eq!(run.term_count(*chunk), terms_of(text).len() as u32);
    }
    assert_eq!(run.term_count(0), 0);
}

#[test]
fn merged_runs_equal_the_run_built_at_once() {
    let texts = corpus(2, 200);
    let whole = TextRun::build(&analyzer(), texts.iter().cloned());
    for cuts in [vec![0, 200], vec![0, 1, 200], vec![0, 50, 50, 120, 199, 200], (0..=200).collect()] {
        let parts: Vec<TextRun> =
            cuts.windows(2).map(|cut| TextRun::build(&analyzer(), texts[cut[0]..cut[1]].iter().cloned())).collect();
        let references: Vec<&TextRun> = parts.iter().rev().collect();
        assert_eq!(TextRun::merge(&references), whole, "{cuts:?}");
    }
    assert_eq!(TextRun::merge(&[]), TextRun::default());
}

#[test]
fn retained_run_equals_the_run_built_of_what_remains() {
    let texts = corpus(7, 120);
    let whole = TextRun::build(&analyzer(), texts.iter().cloned());
    let remainders: [fn(u32) -> bool; 4] = [|_| true, |_| false, |chunk| chunk % 3 == 1, |chunk| chunk > 100];
    for keep in remainders {
        let kept = texts.iter().filter(|(chunk, _)| keep(*chunk)).cloned();
        assert_eq!(whole.retain(keep), TextRun::build(&analyzer(), kept));
    }
}

#[test]
fn scores_do_not_depend_on_what_is_sealed() {
    let texts = corpus(3, 400);
    let folder = tempfile::tempdir().unwrap();
    let alive = |chunk: u32| !chunk.is_multiple_of(7);
    let statistics = statistics(&texts, alive);
    let run = |range: std::ops::Range<usize>| TextRun::build(&analyzer(), texts[range].iter().cloned());
    let (first, _) = seal(&folder.path().join("first"), &texts[..150]);
    let (second, _) = seal(&folder.path().join("second"), &texts[150..300]);
    let (all, middle, tail, end) = (run(0..400), run(150..300), run(300..399), run(399..400));
    let spread: [Vec<&dyn Postings>; 4] = [
        vec![&all],
        vec![&first, &second, &tail, &end],
        vec![&first, &middle, &tail, &end],
        vec![&end, &tail, &second, &first],
    ];
    for query in ["cats running", "naive haus uber", "東京都 the the the x", "write booleans", "absent", "", "🚀"]
    {
        let query = QueryTerms::analyze(&analyzer(), query);
        let results: Vec<(Vec<(u32, u32)>, u32)> = spread
            .iter()
            .map(|sources| {
                let scored = search(sources, &query, statistics, &alive).unwrap();
                (scored.iter().map(|(chunk, score)| (chunk, score.to_bits())).collect(), scored.maximum.to_bits())
            })
            .collect();
        assert!(results.iter().all(|result| *result == results[0]), "{query:?}");
        assert!(results[0].0.iter().all(|&(chunk, _)| alive(chunk)));
    }
}

#[test]
fn scores_are_those_computed_by_hand() {
    let texts = [(10, "cat cat dog"), (20, "dog bird"), (30, "fish"), (40, "cat")].map(|(n, t)| (n, t.to_owned()));
    let run = TextRun::build(&analyzer(), texts.iter().cloned());
    // Chunk 40 is deleted: N = 3, 6 terms, average length 2; cat in 1 chunk, dog in 2.
    let alive = |chunk| chunk != 40;
    let statistics = statistics(&texts, alive);
    assert_eq!(statistics, CorpusStatistics { chunks: 3, terms: 6 });
    let query = QueryTerms::analyze(&analyzer(), "cats dogs cats");
    let scored = search(&[&run], &query, statistics, &alive).unwrap();
    let idf = |df: f64| (1.0 + (3.0 - df + 0.5) / (df + 0.5)).ln();
    let saturated = |tf: f64, length: f64| tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / 2.0));
    let expected = 2.0 * idf(1.0) * saturated(2.0, 3.0) + idf(2.0) * saturated(1.0, 3.0);
    assert!((f64::from(scored.score(10)) - expected).abs() < 1e-6, "{} {expected}", scored.score(10));
    let expected = idf(2.0) * saturated(1.0, 2.0);
    assert!((f64::from(scored.score(20)) - expected).abs() < 1e-6);
    assert_eq!((scored.score(30), scored.score(40), scored.score(99), scored.score(0)), (0.0, 0.0, 0.0, 0.0));
    let maximum = (2.0 * idf(1.0) + idf(2.0)) * 2.2;
    assert!((f64::from(scored.maximum) - maximum).abs() < 1e-5);
    assert_eq!(scored.iter().map(|(chunk, _)| chunk).collect::<Vec<_>>(), [10, 20]);
}

#[test]
fn unknown_words_raise_the_maximum() {
    let texts = [(1, "cat".to_owned())];
    let run = TextRun::build(&analyzer(), texts.iter().cloned());
    let ask = |query: &str| {
        let query = QueryTerms::analyze(&analyzer(), query);
        search(&[&run], &query, statistics(&texts, |_| true), &|_| true).unwrap()
    };
    let (known, mixed, nonsense) = (ask("cat"), ask("cat zzyzx"), ask("zzyzx"));
    assert_eq!(known.score(1), mixed.score(1));
    assert!(mixed.maximum > 2.0 * known.maximum);
    assert!(nonsense.maximum > 0.0 && nonsense.iter().next().is_none());
}

#[test]
fn sparse_and_dense_scores_agree() {
    let near: Vec<(u32, String)> = (0..64).map(|n| (n, format!("common w{n}"))).collect();
    let far: Vec<(u32, String)> = near.iter().map(|(n, text)| (n * 1000, text.clone())).collect();
    let ask = |texts: &[(u32, String)]| {
        let run = TextRun::build(&analyzer(), texts.iter().cloned());
        let query = QueryTerms::analyze(&analyzer(), "w3 common w60");
        search(&[&run], &query, statistics(texts, |_| true), &|_| true).unwrap()
    };
    let (dense, sparse) = (ask(&near), ask(&far));
    assert!(
        dense.iter().map(|(n, score)| (n * 1000, score.to_bits())).eq(sparse.iter().map(|(n, s)| (n, s.to_bits())))
    );
    for n in 0..64 {
        assert_eq!(dense.score(n), sparse.score(n * 1000));
    }
    assert_eq!(sparse.score(1), 0.0);
}

#[test]
fn long_queries_are_cut_and_say_so() {
    let many: Vec<String> = (0..QUERY_TERMS_MAX + 5).map(|n| format!("w{n}")).collect();
    let query = QueryTerms::analyze(&analyzer(), &(many.join(" ") + " w1 w1"));
    assert_eq!((query.terms_dropped, query.bytes_dropped), (5, 0));
    let query = QueryTerms::analyze(&analyzer(), &"ä".repeat(QUERY_BYTES_MAX));
    assert_eq!((query.terms_dropped, query.bytes_dropped), (0, QUERY_BYTES_MAX as u64));
    let scored = search(&[], &query, CorpusStatistics::default(), &|_| true).unwrap();
    assert_eq!(scored.bytes_dropped, QUERY_BYTES_MAX as u64);
    assert_eq!(QueryTerms::analyze(&analyzer(), " .. "), QueryTerms::default());
}

#[test]
fn word_frequency_counts_live_chunks_of_the_rarest_term() {
    let texts =
        [(1, "writeBoolean"), (2, "write"), (3, "boolean write"), (4, "東京都")].map(|(n, t)| (n, t.to_owned()));
    let run = TextRun::build(&analyzer(), texts);
    let count = |word: &str| word_frequency(&[&run], &analyzer(), word, &|chunk| chunk != 2).unwrap();
    assert_eq!(count("writes"), Some(2));
    assert_eq!(count("writeBoolean"), Some(1));
    assert_eq!(count("東京都"), Some(1));
    assert_eq!(count("absent"), Some(0));
    assert_eq!(count("..."), None);
    assert_eq!(document_frequency(&[&run], "write", &|_| true).unwrap(), 3);
}

#[test]
fn empty_segments_and_texts_without_terms_work() {
    let folder = tempfile::tempdir().unwrap();
    let (segment, _) = seal(&folder.path().join("empty"), &[]);
    assert_eq!((segment.range(), postings_of(&segment, "cat")), (None, Vec::new()));
    let (segment, _) = seal(&folder.path().join("blank"), &[(5, String::new()), (9, "...".to_owned())]);
    assert_eq!((segment.range(), postings_of(&segment, "cat")), (Some((5, 9)), Vec::new()));
}

#[test]
fn segment_is_one_and_reading_it_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let texts = corpus(4, 50);
    let (segment, digest) = seal(&path, &texts);
    let meta: serde_json::Value = serde_json::from_slice(&fs::read(path.join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta["segments"].as_array().unwrap().len(), 1);
    let names = || fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
    let before = names();
    assert!(!postings_of(&segment, "cat").is_empty());
    drop(segment);
    assert_eq!(names(), before);
    assert!(before.iter().all(|name| !name.to_string_lossy().contains("lock")));
    assert!(!postings_of(&open(&path, digest, &texts).unwrap(), "cat").is_empty());
}

/// What a segment says of all terms: the right postings or `Corrupt`, never another answer. Returns whether all came.
fn is_readable(segment: &TextSegment, expected: &BTreeMap<String, Vec<(u32, u32, u8)>>, what: &str) -> bool {
    let mut readable = true;
    for (term, expected) in expected {
        let mut found = Vec::new();
        match segment.postings(term, &mut |chunk, count, norm| found.push((chunk, count, norm))) {
            Ok(()) => assert_eq!(&found, expected, "{what}: {term}"),
            Err(Error::Corrupt { .. }) => readable = false,
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
    readable
}

#[test]
fn damage_in_a_segment_is_found_and_never_another_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let texts = corpus(5, 60);
    let (_, digest) = seal(&path, &texts);
    let expected: BTreeMap<_, _> =
        vocabulary(&texts).into_iter().map(|term| (term.clone(), naive_postings(&texts, &term))).collect();
    // tantivy writes these for values and positions, of which a segment has none; no search looks into them.
    let unread = ["store", "pos"];
    for entry in fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        let good = fs::read(&file).unwrap();
        let read = !unread.iter().any(|extension| file.extension().is_some_and(|found| found == *extension));
        for at in (0..good.len()).step_by(97) {
            let what = format!("byte {at} of {}", file.display());
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&file, &bad).unwrap();
            let readable = open(&path, digest, &texts).is_ok_and(|segment| is_readable(&segment, &expected, &what));
            assert!(!(readable && read), "{what} was not found");
            assert!(SegmentFolder::open(&path, digest).and_then(|folder| folder.verify()).is_err(), "{what}");
        }
        fs::write(&file, &good[..good.len() / 2]).unwrap();
        assert!(matches!(open(&path, digest, &texts), Err(Error::Corrupt { .. })), "half of {}", file.display());
        fs::remove_file(&file).unwrap();
        assert!(matches!(open(&path, digest, &texts), Err(Error::Corrupt { .. })), "{} is missing", file.display());
        fs::write(&file, &good).unwrap();
        let segment = open(&path, digest, &texts).unwrap();
        assert!(is_readable(&segment, &expected, "restored"));
    }
}

#[test]
fn a_chunk_that_the_segment_does_not_cover_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let texts = corpus(7, 50);
    let path = folder.path().join("s");
    let (_, digest) = seal(&path, &texts);
    let opened = SegmentFolder::open(&path, digest).unwrap();
    let Range { start, end } = covers(&texts);
    for covers in [start + 1..end, start..end - 1] {
        let segment = TextSegment::open(&opened, covers).unwrap();
        assert!(matches!(segment.chunks(), Err(Error::Corrupt { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn runs_of_any_text_count_as_a_naive_count(texts in prop::collection::vec("\\PC{0,40}|[a-cA-C ]{0,30}", 0..8), cut in 0..8_usize) {
        let texts: Vec<(u32, String)> = (10..).zip(texts).collect();
        let cut = cut.min(texts.len());
        let parts = [&texts[..cut], &texts[cut..]].map(|texts| TextRun::build(&analyzer(), texts.iter().cloned()));
        let merged = TextRun::merge(&[&parts[0], &parts[1]]);
        prop_assert_eq!(&merged, &TextRun::build(&analyzer(), texts.iter().cloned()));
        for term in vocabulary(&texts) {
            prop_assert_eq!(postings_of(&merged, &term), naive_postings(&texts, &term));
        }
    }
}

#[test]
fn document_frequencies_of_the_corpus_are_naive_counts() {
    let texts = corpus(6, 100);
    let run = TextRun::build(&analyzer(), texts.iter().cloned());
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (_, text) in &texts {
        for term in terms_of(text).into_iter().collect::<BTreeSet<_>>() {
            *expected.entry(term).or_default() += 1;
        }
    }
    for (term, chunks) in expected {
        assert_eq!(document_frequency(&[&run], &term, &|_| true).unwrap(), chunks, "{term}");
    }
}

#[test]
fn index_text_joins_what_is_not_empty() {
    assert_eq!(index_text(Some("Title"), "A > B", "text"), "Title\nA > B\ntext");
    assert_eq!(index_text(None, "", "text"), "text");
    assert_eq!(index_text(Some(""), "A", ""), "A");
    assert_eq!(index_text(Some("T"), "", ""), "T");
    assert_eq!(index_text(None, "", ""), "");
}

#[test]
fn a_title_is_left_out_only_where_the_headings_begin_with_it() {
    assert_eq!(index_text(Some("Rust"), "Rust", "text"), "Rust\ntext");
    assert_eq!(index_text(Some("Rust"), "Rust > Meetings", "text"), "Rust > Meetings\ntext");
    assert_eq!(index_text(Some("A > B"), "A > B > C", "text"), "A > B > C\ntext");
    assert_eq!(index_text(Some("Rust"), "Rustaceans > Meetings", "text"), "Rust\nRustaceans > Meetings\ntext");
}
