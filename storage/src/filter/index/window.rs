//! Which documents hold a value beyond this bound, or between two?
//!
//! Two bounds are two conditions, and where a document holds several values one may satisfy each. Where no document
//! does, as with dates and prices, the values between the bounds are neighbours and are all that is read: for 1 % of
//! 100,000 documents 66 microseconds, and 1073 for both sides by themselves. Invariant: the answer is that of both
//! conditions.

use std::ops::Range;

use super::answer::{Probe, cost, first_where};
use super::bits::Bits;
use super::layout::{Array, Table};
use super::number::Key;
use super::{Index, slot};
use crate::Result;
use crate::bytes::Bytes;
use crate::filter::field::Field;
use crate::filter::scalar::Scalar;
use crate::filter::{Node, Test};

/// A part of a conjunction.
pub(super) enum Part<'a> {
    One(&'a Node),
    /// Two conditions that bound one field from both sides.
    Window(&'a Field, [&'a Test; 2]),
}

/// A bound as a condition states it.
struct Bound<'a> {
    value: &'a Scalar,
    lower: bool,
    included: bool,
}

/// The parts of a conjunction, the cheapest first, bounds of the same field in pairs.
pub(super) fn parts(nodes: &[Node]) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::with_capacity(nodes.len());
    for node in nodes {
        match parts.iter_mut().find_map(|part| Some((part.with(node)?, part))) {
            Some((window, part)) => *part = window,
            None => parts.push(Part::One(node)),
        }
    }
    parts.sort_by_key(|part| match part {
        Part::One(node) => cost(node),
        Part::Window(..) => 2,
    });
    parts
}

impl<'a> Part<'a> {
    /// This condition and that one, where they bound the same field by values of the same type from both sides.
    fn with(&self, node: &'a Node) -> Option<Self> {
        let (Self::One(Node::Condition(field, one)), Node::Condition(same, other)) = (self, node) else { return None };
        let (first, second) = (Bound::of(one)?, Bound::of(other)?);
        let alike = matches!(first.value, Scalar::Text(_)) == matches!(second.value, Scalar::Text(_));
        (alike && first.lower != second.lower && field == same).then_some(Self::Window(field, [one, other]))
    }
}

impl<'a> Bound<'a> {
    fn of(test: &'a Test) -> Option<Self> {
        match test {
            Test::Above(value) => Some(Self { value, lower: true, included: false }),
            Test::AtLeast(value) => Some(Self { value, lower: true, included: true }),
            Test::Below(value) => Some(Self { value, lower: false, included: false }),
            Test::AtMost(value) => Some(Self { value, lower: false, included: true }),
            Test::Equals(_)
            | Test::Differs(_)
            | Test::In(_)
            | Test::NotIn(_)
            | Test::Exists(_)
            | Test::Prefix(_)
            | Test::Contains(_) => None,
        }
    }
}

impl<B: Bytes> Index<B> {
    pub(super) fn part(&self, part: &Part<'_>) -> Result<Bits> {
        match part {
            Part::One(node) => self.node(node),
            Part::Window(field, tests) => self.window(field, tests),
        }
    }

    fn window(&self, field: &Field, tests: &[&Test; 2]) -> Result<Bits> {
        let mut held = Vec::new();
        let table = Bound::of(tests[0]).map(|bound| self.bounded(&bound).0);
        for (node, table) in self.nodes(field)?.into_iter().zip(table.into_iter().cycle()) {
            for slot in [slot(node, false), slot(node, true)] {
                held.extend(self.find(table, slot)?.map(|at| (slot, table, at)));
            }
        }
        let mut found = Bits::none(self.documents());
        match held[..] {
            [] => {}
            [(slot, table, at)] if self.reader.int(table.lone, at)? == 1 => self.bound(slot, tests, &mut found)?,
            _ => {
                found = self.condition(field, tests[0])?;
                found.intersect(&self.condition(field, tests[1])?);
            }
        }
        Ok(found)
    }

    /// Adds the documents that hold a value of this slot within all of these bounds, which are of one type.
    pub(super) fn bound(&self, slot: u32, tests: &[&Test], found: &mut Bits) -> Result<()> {
        let bounds: Vec<Bound<'_>> = tests.iter().filter_map(|test| Bound::of(test)).collect();
        let Some(first) = bounds.first() else { return Ok(()) };
        let (table, least) = self.bounded(first);
        let Range { mut start, mut end } = self.entries(table, slot)?;
        start = first_where(start..end, |entry| Ok(self.compare(entry, least)?.is_ge()))?;
        for Bound { value, lower, included } in bounds {
            let probe = Probe::of(value);
            let place = first_where(start..end, |entry| {
                let order = self.compare(entry, probe)?;
                Ok(if lower == included { order.is_ge() } else { order.is_gt() })
            })?;
            *(if lower { &mut start } else { &mut end }) = place;
        }
        self.gather(table.postings, start..end, found)
    }

    /// The table that a bound is about, and what lies below all that it compares with.
    fn bounded(&self, bound: &Bound<'_>) -> (Table<Array>, Probe<'static>) {
        match bound.value {
            Scalar::Text(_) => (self.layout.texts, Probe::Text(&[])),
            Scalar::Null | Scalar::Bool(_) | Scalar::Number(_) => {
                (self.layout.numbers, Probe::Number(Key::BEFORE_NUMBERS))
            }
        }
    }
}
