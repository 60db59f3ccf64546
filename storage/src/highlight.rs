//! Which words of a passage answer the query?

use std::collections::HashSet;
use std::ops::Range;

use crate::text::{Analyzer, AnalyzerSettings, TextQuery};

/// The byte ranges of `text` whose words become a term that the query has too, in order and without overlap.
pub fn highlights(settings: &AnalyzerSettings, query: &str, text: &str) -> Vec<Range<usize>> {
    let analyzer = Analyzer::new(settings);
    let mut wanted = HashSet::new();
    analyzer.for_each_term(query, &mut |term| {
        wanted.insert(term.to_owned());
    });
    marked(&analyzer, text, |term| wanted.contains(term))
}

/// The byte ranges of `text` whose words answer a query of the syntax, in order and without overlap: what it excludes is
/// left out, what a prefix or a fuzzy word stands for is not, and the words of a phrase count wherever they stand.
pub fn syntax_highlights(settings: &AnalyzerSettings, query: &TextQuery, text: &str) -> Vec<Range<usize>> {
    let analyzer = Analyzer::new(settings);
    let wanted = query.wanted_terms(&analyzer);
    marked(&analyzer, text, |term| wanted.takes(term))
}

fn marked(analyzer: &Analyzer, text: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let found = analyzer.term_ranges(text).into_iter().filter(|(term, _)| is_wanted(term));
    let mut ranges: Vec<Range<usize>> = found.map(|(_, range)| range).collect();
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            Some(_) | None => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_form_and_case() {
        let text = "Cats chase a cat; the CATERPILLAR and writeBoolean do not. Ünicode 東京都";
        let marked = |query| -> Vec<&str> {
            highlights(&AnalyzerSettings::default(), query, text).into_iter().map(|range| &text[range]).collect()
        };
        assert_eq!(marked("cat"), ["Cats", "cat"]);
        assert_eq!(marked("boolean CHASING"), ["chase", "Boolean"]);
        assert_eq!(marked("writeboolean boolean"), ["writeBoolean"]);
        assert_eq!(marked("unicode"), ["Ünicode"]);
        assert_eq!(marked("東京都"), ["東京都"]);
        assert!(marked("dog").is_empty() && marked("").is_empty());
    }

    #[test]
    fn what_a_query_of_the_syntax_asks_for_is_marked_and_what_it_excludes_is_not() {
        let text = "Threads and threadpools share a mutex; async code, データベース";
        let marked = |query| -> Vec<&str> {
            let query = TextQuery::parse(query).unwrap();
            syntax_highlights(&AnalyzerSettings::default(), &query, text)
                .into_iter()
                .map(|range| &text[range])
                .collect()
        };
        assert_eq!(marked("thread* -mutex"), ["Threads", "threadpools"]);
        assert_eq!(marked("+mutx~ (shared AND NOT code)"), ["share", "mutex"]);
        assert_eq!(marked("\"async code\" -(a b) threads"), ["Threads", "async", "code"]);
        assert_eq!(marked("データ*"), ["データ"]);
    }
}
