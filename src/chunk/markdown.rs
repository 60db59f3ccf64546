//! Which passages does a Markdown text have?
//!
//! One section is the text from one heading to the next, the heading's line included. No chunk straddles sections,
//! with one exception: a section too small to stand for itself joins a neighbour of the same parent. A heading with
//! next to nothing below it joins the subsection that follows, and chunks bear the headings that are above all of
//! their text.
//!
//! Invariant: sections are consecutive and cover what is visible of the text; so do the groups made of them.

use std::ops::Range;

use super::measure::Measure;
use super::split::{Syntax, split};
use super::{Chunk, Limits};
use crate::markdown::{Heading, has_prose, headings};

/// A section below this many tokens is too small to stand for itself, or below a quarter of a chunk where that is less.
const SMALL_TOKENS: usize = 64;

/// Headings from the outermost to one's own, as indices.
type Path = Vec<usize>;

/// One section or several joined ones.
struct Group {
    range: Range<usize>,
    tokens: usize,
    /// Where its first section stands in the tree.
    root: Path,
    /// The headings above all of its text; more than that for a bare parent joined to its first child.
    label: Path,
}

pub(super) fn chunks(measure: &Measure<'_>, stretch: Range<usize>, limits: Limits) -> Vec<Chunk> {
    let mut headings = headings(&measure.text[stretch.clone()]);
    headings.iter_mut().for_each(|heading| heading.start += stretch.start);
    let small = SMALL_TOKENS.min(limits.tokens_max / 4);
    let groups = adopt(measure, sections(measure, stretch, &headings), small);
    let groups = join(measure, groups, limits.tokens_max, |a, b| a.tokens < small && b.tokens < small);
    let groups = join(measure, groups, limits.tokens_max, |a, b| a.tokens < small || b.tokens < small);
    let mut chunks = Vec::new();
    for group in groups {
        let heading = heading_path(&headings, &group.label);
        let ranges = split(measure, group.range, limits, Syntax::Markdown);
        chunks.extend(ranges.into_iter().map(|Range { start, end }| Chunk { start, end, heading: heading.clone() }));
    }
    chunks
}

fn heading_path(headings: &[Heading], path: &[usize]) -> String {
    let titles: Vec<&str> =
        path.iter().map(|&at| headings[at].title.as_str()).filter(|title| !title.is_empty()).collect();
    titles.join(" > ")
}

/// The text before the first heading, and then one section a heading.
fn sections(measure: &Measure<'_>, stretch: Range<usize>, headings: &[Heading]) -> Vec<Group> {
    let section = |range: Range<usize>, path: Path| {
        let tokens = measure.tokens(range.clone());
        Group { range, tokens, root: path.clone(), label: path }
    };
    let first = headings.first().map_or(stretch.end, |heading| heading.start);
    let preamble = measure.trimmed(stretch.start..first).map(|range| section(range.start..first, Path::new()));
    let mut sections: Vec<Group> = preamble.into_iter().collect();
    let mut path = Path::new();
    for (at, heading) in headings.iter().enumerate() {
        while path.last().is_some_and(|&above| headings[above].level >= heading.level) {
            path.pop();
        }
        path.push(at);
        let end = headings.get(at + 1).map_or(stretch.end, |next| next.start);
        sections.push(section(heading.start..end, path.clone()));
    }
    sections
}

/// Joins small sections to the first subsection that follows them, whatever its size: a heading alone is no passage, nor
/// are comments and anchors before the first one.
fn adopt(measure: &Measure<'_>, sections: Vec<Group>, small: usize) -> Vec<Group> {
    let slight = |group: &Group| group.tokens < small || !has_prose(&measure.text[group.range.clone()]);
    let mut groups: Vec<Group> = Vec::with_capacity(sections.len());
    for section in sections.into_iter().rev() {
        match groups.last_mut() {
            Some(next) if slight(&section) && next.root.starts_with(&section.root) => {
                next.range.start = section.range.start;
                next.tokens += section.tokens;
                // What stands above the first heading joins the tree where that heading stands.
                if !section.root.is_empty() {
                    next.root = section.root;
                }
            }
            Some(_) | None => groups.push(section),
        }
    }
    groups.reverse();
    groups
}

/// Joins neighbours of one parent that fit into one chunk together, where `wanted` says so.
fn join(
    measure: &Measure<'_>,
    groups: Vec<Group>,
    tokens_max: usize,
    wanted: impl Fn(&Group, &Group) -> bool,
) -> Vec<Group> {
    let mut joined: Vec<Group> = Vec::with_capacity(groups.len());
    for next in groups {
        let Some(last) = joined.last_mut() else {
            joined.push(next);
            continue;
        };
        let tokens = measure.tokens(last.range.start..next.range.end);
        match common_parent(&last.root, &next.root) {
            Some(parent) if tokens <= tokens_max && wanted(last, &next) => {
                last.label = parent.to_vec();
                last.range.end = next.range.end;
                last.tokens = tokens;
            }
            Some(_) | None => joined.push(next),
        }
    }
    joined
}

/// The headings above both of two neighbours: the first one's own where the second is its child, those of the parent
/// where they are siblings; none where they are less related.
fn common_parent<'a>(first: &'a [usize], second: &[usize]) -> Option<&'a [usize]> {
    let (_, parent) = second.split_last()?;
    if parent == first {
        return Some(first);
    }
    first.split_last().map(|(_, above)| above).filter(|above| *above == parent)
}
