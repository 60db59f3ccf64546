//! How is a passage laid out for reading?
//!
//! The lines of the document are kept, so code and lists stay what they are; a line is wrapped only where it is wider
//! than the page. Where lines must go, those around the words of the query stay.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;

use super::output::{FAINT, MATCH, harmless, styled};

/// How much room there is.
pub(crate) struct Page {
    /// Columns, the indentation counted.
    pub(crate) width: usize,
    /// Columns left free at the left.
    pub(crate) indent: usize,
    /// Lines at most; all where `None`.
    pub(crate) lines_max: Option<usize>,
}

/// The passage as indented lines, with these byte ranges of it highlighted (ascending, not overlapping).
pub(crate) fn render(text: &str, highlights: &[Range<usize>], page: &Page) -> String {
    // Four columns are left for the dots before or after a shortened passage.
    let lines = lines(text, page.width.saturating_sub(page.indent + 4).max(10));
    let shown = window(text, &lines, highlights, page.lines_max.unwrap_or(usize::MAX));
    let dots = styled(FAINT, "...");
    let mut page_text = String::new();
    for (number, line) in lines[shown.clone()].iter().enumerate() {
        let number = shown.start + number;
        let indent = if line.is_empty() { 0 } else { page.indent };
        let _ = write!(page_text, "{:indent$}", "");
        if number == shown.start && shown.start > 0 {
            let _ = write!(page_text, "{dots} ");
        }
        highlight(text, line, highlights, &mut page_text);
        if number + 1 == shown.end && shown.end < lines.len() {
            let _ = write!(page_text, " {dots}");
        }
        page_text.push('\n');
    }
    page_text
}

/// The number of the line, from 1, that holds this byte.
pub(crate) fn line_number(text: &str, byte: usize) -> usize {
    let before = &text.as_bytes()[..byte.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The byte ranges of the lines to show: long ones wrapped, blank ones at most one in a row and none at the ends.
fn lines(text: &str, width: usize) -> Vec<Range<usize>> {
    let mut lines: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let visible = start..start + line.trim_end().len();
        if !visible.is_empty() {
            wrap(text, visible, width, &mut lines);
        } else if lines.last().is_some_and(|last| !last.is_empty()) {
            lines.push(visible);
        }
        start += line.len();
    }
    if lines.last().is_some_and(Range::is_empty) {
        lines.pop();
    }
    lines
}

/// Cuts a line that is too wide at spaces, before wide characters (which need none), or, failing that, anywhere.
fn wrap(text: &str, line: Range<usize>, width: usize, lines: &mut Vec<Range<usize>>) {
    let mut start = line.start;
    let mut used = 0;
    // Where the line could end and where the next would begin.
    let mut cut: Option<(usize, usize)> = None;
    for (offset, character) in text[line.clone()].char_indices() {
        let at = line.start + offset;
        let taken = columns(character);
        let begun = !text[start..at].trim_start().is_empty();
        if character.is_whitespace() && begun {
            cut = Some((at, at + character.len_utf8()));
        } else if taken == 2 && begun {
            cut = Some((at, at));
        }
        if used + taken > width && !character.is_whitespace() && at > start {
            let (end, next) = cut.take().unwrap_or((at, at));
            lines.push(start..start + text[start..end].trim_end().len());
            start = next;
            used = text[next..at].chars().map(columns).sum();
        }
        used += taken;
    }
    lines.push(start..line.end);
}

/// The columns that a terminal gives a character: two for East Asian wide ones and most emoji, none for combining
/// marks (after Unicode's EastAsianWidth, by its large blocks), four for a tab.
fn columns(character: char) -> usize {
    match character {
        '\t' => 4,
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// The run of at most `lines_max` lines that holds the most different highlighted words, then the most of them, then
/// the earliest.
fn window(text: &str, lines: &[Range<usize>], highlights: &[Range<usize>], lines_max: usize) -> Range<usize> {
    if lines.len() <= lines_max {
        return 0..lines.len();
    }
    let words: Vec<(usize, String)> = highlights
        .iter()
        .filter_map(|range| {
            let line = lines.iter().position(|line| line.start <= range.start && range.start < line.end)?;
            Some((line, text[range.clone()].to_lowercase()))
        })
        .collect();
    let worth = |start: usize| {
        let inside = words.iter().filter(|(line, _)| (start..start + lines_max).contains(line));
        let different: HashSet<&str> = inside.clone().map(|(_, word)| word.as_str()).collect();
        (different.len(), inside.count())
    };
    let starts = 0..=lines.len() - lines_max;
    let best = starts.max_by_key(|start| (worth(*start), std::cmp::Reverse(*start))).unwrap_or(0);
    best..best + lines_max
}

/// Appends a line with the highlighted parts in their style.
fn highlight(text: &str, line: &Range<usize>, highlights: &[Range<usize>], out: &mut String) {
    let mut at = line.start;
    for range in highlights {
        let (start, end) = (range.start.max(at), range.end.min(line.end));
        if start < end {
            out.push_str(&harmless(&text[at..start]));
            out.push_str(&styled(MATCH, &harmless(&text[start..end])));
            at = end;
        }
    }
    out.push_str(&harmless(&text[at..line.end]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str, width: usize) -> Vec<&str> {
        lines(text, width).into_iter().map(|range| &text[range]).collect()
    }

    fn plain(text: &str, highlights: &[Range<usize>], page: &Page) -> String {
        anstream::adapter::strip_str(&render(text, highlights, page)).to_string()
    }

    #[test]
    fn lines_are_wrapped_at_spaces() {
        assert_eq!(wrapped("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("  indented code", 12), ["  indented", "code"]);
    }

    #[test]
    fn a_word_wider_than_the_page_is_cut() {
        assert_eq!(wrapped("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrapped("    abcdefghij", 6), ["    ab", "cdefgh", "ij"]);
    }

    #[test]
    fn wide_characters_take_two_columns_and_need_no_space() {
        assert_eq!(wrapped("日本語の文章です", 6), ["日本語", "の文章", "です"]);
    }

    #[test]
    fn line_breaks_of_the_document_stay_and_blank_lines_shrink() {
        assert_eq!(wrapped("\n\n# Title\n\n\n\ntext\n\n", 20), ["# Title", "", "text"]);
    }

    #[test]
    fn nothing_visible_is_lost_by_wrapping() {
        let text = "A line of words, \u{e9}tudes and 漢字 mixed, with averyveryverylongword inside.\n\n\tcode {\n}\n";
        let visible = |text: &str| text.chars().filter(|character| !character.is_whitespace()).collect::<String>();
        for width in 1..90 {
            assert_eq!(visible(&wrapped(text, width).concat()), visible(text), "width {width}");
        }
    }

    #[test]
    fn a_long_passage_is_shortened_around_the_words_asked_for() {
        let text = "zero\none\ntwo\nthree needle\nfour\nfive";
        let at = text.find("needle").unwrap_or_default();
        let page = Page { width: 80, indent: 2, lines_max: Some(2) };
        let shown = plain(text, std::slice::from_ref(&(at..at + 6)), &page);
        assert_eq!(shown, "  ... two\n  three needle ...\n");
    }

    #[test]
    fn different_words_count_more_than_many() {
        let text = "a a a\nx\nx\na b";
        let highlights = [0..1, 2..3, 4..5, 10..11, 12..13];
        let found = lines(text, 20);
        assert_eq!(window(text, &found, &highlights, 1), 3..4);
        assert_eq!(window(text, &found, &[], 2), 0..2);
    }

    #[test]
    fn highlights_are_styled_across_a_wrapped_line() {
        let page = Page { width: 80, indent: 0, lines_max: None };
        let shown = render("share data", std::slice::from_ref(&(0..5)), &page);
        assert_eq!(shown, format!("{} data\n", styled(MATCH, "share")));
    }

    #[test]
    fn lines_are_counted_from_one() {
        let text = "first\nsecond\nthird";
        assert_eq!([line_number(text, 0), line_number(text, 6), line_number(text, 400)], [1, 2, 3]);
    }
}
