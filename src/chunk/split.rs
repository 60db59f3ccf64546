//! How is a stretch of text that does not fit into one chunk cut?
//!
//! By the `text-splitter` crate, which takes the largest semantic unit that fits: blocks, lines, sentences, words,
//! characters. Two things are added. Stretches are handed over window by window, because the crate looks at all that
//! remains for every chunk it makes (1 MB on one line took 10 to 24 s, with windows 0.2 to 0.5 s, on one core of a
//! small server): the last chunk of a window is dropped and begins the next one, so the seams do not show. And sizes
//! are evened out: 270 tokens become two chunks of about 150, not one of 256 and a crumb.
//!
//! Invariant: what is not white space in the stretch lies in some range; starts and ends ascend.

use std::ops::Range;

#[cfg(feature = "code")]
use text_splitter::CodeSplitter;
use text_splitter::{ChunkCapacity, ChunkConfig, MarkdownSplitter, TextSplitter};

use super::Limits;
#[cfg(feature = "code")]
use super::code::grammar;
use super::measure::Measure;
#[cfg(feature = "code")]
use crate::config::CodeLanguage;
use crate::markdown::has_prose;

/// The length of a window, in chunks of full size: long enough that what is done twice does not count (one in 16).
const WINDOW_CHUNKS: usize = 16;

/// A range of fewer tokens than this is no passage if it can be helped.
const CRUMB_TOKENS: usize = 40;

/// What the units of a stretch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Plain,
    Markdown,
    #[cfg(feature = "code")]
    Code(CodeLanguage),
}

/// Cuts a stretch into ranges of at most `limits.tokens_max` tokens; one range where it fits, none where it is blank.
pub(super) fn split(measure: &Measure<'_>, stretch: Range<usize>, limits: Limits, syntax: Syntax) -> Vec<Range<usize>> {
    let Some(stretch) = measure.trimmed(stretch) else { return Vec::new() };
    let tokens = measure.tokens(stretch.clone());
    if tokens <= limits.tokens_max {
        return vec![stretch];
    }
    let config = even(tokens, limits);
    let mut ranges: Vec<Range<usize>> = Vec::with_capacity(tokens / limits.tokens_max + 1);
    let mut start = stretch.start;
    while start < stretch.end {
        let end = measure.advance(start, WINDOW_CHUNKS * limits.tokens_max, stretch.end);
        let mut window = split_window(measure, start..end, config, limits, syntax);
        let next = match window.last() {
            Some(last) if end < stretch.end && last.start > start => last.start,
            Some(_) | None => end,
        };
        if next != end {
            window.pop();
        }
        window.into_iter().for_each(|range| push_ascending(&mut ranges, range));
        start = next;
    }
    let ranges = join_crumbs(measure, ranges, limits.tokens_max);
    if syntax == Syntax::Markdown { give_prose(measure, ranges, limits) } else { ranges }
}

/// Gives what holds nothing to read (comments, anchors, a heading, link targets) a part of its neighbour: it would be a
/// passage of its own, and match by its title alone.
fn give_prose(measure: &Measure<'_>, ranges: Vec<Range<usize>>, limits: Limits) -> Vec<Range<usize>> {
    let mut whole: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    let mut rest = ranges.into_iter().peekable();
    while let Some(range) = rest.next() {
        let parts = if has_prose(&measure.text[range.clone()]) {
            vec![range]
        } else if let Some(next) = rest.next() {
            let mut parts = cut_beside(measure, &range, next, limits);
            parts[0].start = range.start;
            parts
        } else if let Some(last) = whole.pop() {
            let mut parts = cut_beside(measure, &range, last, limits);
            let end = parts.len() - 1;
            parts[end].end = range.end;
            parts
        } else {
            vec![range]
        };
        let parts = parts.into_iter().flat_map(|part| fit(measure, part, limits.tokens_max));
        parts.for_each(|part| push_ascending(&mut whole, part));
    }
    whole
}

/// Cuts a range so that any of its parts leaves room for another range; into one where there is no room to speak of.
fn cut_beside(measure: &Measure<'_>, other: &Range<usize>, range: Range<usize>, limits: Limits) -> Vec<Range<usize>> {
    let tokens_max = limits.tokens_max.saturating_sub(measure.tokens(other.clone()) + 1);
    if tokens_max < limits.tokens_max / 4 || tokens_max < 2 {
        return vec![range];
    }
    let limits = Limits { tokens_max, overlap: limits.overlap.min(tokens_max / 2) };
    let config = even(measure.tokens(range.clone()).max(limits.overlap + 1), limits);
    let parts = split_window(measure, range.clone(), config, limits, Syntax::Plain);
    if parts.is_empty() { vec![range] } else { parts }
}

/// Joins a range of a few tokens to the one before it, or to the one after, where both fit into one chunk.
fn join_crumbs(measure: &Measure<'_>, ranges: Vec<Range<usize>>, tokens_max: usize) -> Vec<Range<usize>> {
    let crumb = CRUMB_TOKENS.min(tokens_max / 4);
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let Some(last) = joined.last_mut() else {
            joined.push(range);
            continue;
        };
        let small = measure.tokens(range.clone()).min(measure.tokens(last.clone())) < crumb;
        if small && measure.tokens(last.start..range.end) <= tokens_max {
            last.end = range.end;
        } else {
            joined.push(range);
        }
    }
    joined
}

/// The size to aim at, and the overlap to allow, so that the chunks of a stretch come out about equally long.
///
/// `n` chunks of size `d` with overlap `o` cover `n * d - (n - 1) * o` tokens.
fn even(tokens: usize, limits: Limits) -> (usize, usize) {
    let Limits { tokens_max, overlap } = limits;
    let chunks = (tokens - overlap).div_ceil(tokens_max - overlap);
    let desired = (tokens + (chunks - 1) * overlap).div_ceil(chunks).clamp(1, tokens_max);
    (desired, overlap.min(desired - 1))
}

fn split_window(
    measure: &Measure<'_>,
    window: Range<usize>,
    (desired, overlap): (usize, usize),
    limits: Limits,
    syntax: Syntax,
) -> Vec<Range<usize>> {
    let capacity = ChunkCapacity::new(desired).with_max(limits.tokens_max).expect("desired is at most the maximum");
    let config = ChunkConfig::new(capacity).with_sizer(measure);
    let config = config.with_overlap(overlap).expect("the overlap is below the desired size");
    let text = &measure.text[window.clone()];
    let place = |(offset, piece): (usize, &str)| window.start + offset..window.start + offset + piece.len();
    let fit = |range| fit(measure, range, limits.tokens_max);
    match syntax {
        Syntax::Plain => TextSplitter::new(config).chunk_indices(text).map(place).flat_map(fit).collect(),
        Syntax::Markdown => MarkdownSplitter::new(config).chunk_indices(text).map(place).flat_map(fit).collect(),
        #[cfg(feature = "code")]
        Syntax::Code(language) => {
            let splitter =
                CodeSplitter::new(grammar(language), config).expect("tree-sitter knows these versions of grammars");
            splitter.chunk_indices(text).map(place).flat_map(fit).collect()
        }
    }
}

/// Cuts a range that is still too long between its tokens. Where the limit is a token or two, the splitter sometimes
/// leaves a mark with the word before it; nobody chunks like that, but a promise is a promise.
fn fit(measure: &Measure<'_>, range: Range<usize>, tokens_max: usize) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let end = measure.reach(start, tokens_max, range.end);
        parts.extend(measure.trimmed(start..end));
        start = end;
    }
    parts
}

/// Appends a range; a range inside its neighbour goes away.
fn push_ascending(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    while ranges.last().is_some_and(|last| range.start <= last.start && last.end <= range.end) {
        ranges.pop();
    }
    if !range.is_empty() && ranges.last().is_none_or(|last| range.end > last.end) {
        ranges.push(range);
    }
}
