//! Which passages does a text without structure have?
//!
//! The whole text is one stretch. It does not look for headings.

use super::measure::Measure;
use super::split::{Syntax, split};
use super::{Chunk, Limits};

pub(super) fn chunks(measure: &Measure<'_>, limits: Limits) -> Vec<Chunk> {
    split(measure, 0..measure.text.len(), limits, Syntax::Plain)
        .into_iter()
        .map(|range| Chunk { start: range.start, end: range.end, heading: String::new() })
        .collect()
}
