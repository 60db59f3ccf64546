//! Which passages does a text without structure have?
//!
//! The stretch is cut as it is. It does not look for headings.

use std::ops::Range;

use super::measure::Measure;
use super::split::{Syntax, split};
use super::{Chunk, Limits};

pub(super) fn chunks(measure: &Measure<'_>, stretch: Range<usize>, limits: Limits) -> Vec<Chunk> {
    split(measure, stretch, limits, Syntax::Plain)
        .into_iter()
        .map(|range| Chunk { start: range.start, end: range.end, heading: String::new() })
        .collect()
}
