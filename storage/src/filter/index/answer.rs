//! Which documents hold such a value under this name?
//!
//! Values are found by binary search; those that a condition lets through are neighbours, except for `in`, and for
//! `contains` on texts, which looks through the distinct texts of a slot at once. Invariant: every loop goes over items
//! that are there, whatever they say.

use std::cmp::Ordering;
use std::ops::Range;

use super::bits::Bits;
use super::layout::{self, Array, Slices, Table};
use super::number::{self, Key};
use super::{ID, Index, ROOT, TITLE, bitmap_bytes, list_width, slot};
use crate::Result;
use crate::bytes::Bytes;
use crate::filter::field::{Field, Path};
use crate::filter::scalar::Scalar;
use crate::filter::{Node, Test};

/// What an answer costs, roughly: one value, several, a span of them, all texts.
pub(super) fn cost(node: &Node) -> u8 {
    match node {
        Node::And(parts) | Node::Or(parts) => parts.iter().map(cost).max().unwrap_or(0),
        Node::Not(part) => cost(part),
        Node::Condition(_, test) => match test {
            Test::Equals(_) | Test::Differs(_) | Test::Exists(_) => 0,
            Test::In(_) | Test::NotIn(_) => 1,
            Test::Above(_) | Test::AtLeast(_) | Test::Below(_) | Test::AtMost(_) | Test::Prefix(_) => 2,
            Test::Contains(_) => 3,
        },
    }
}

/// A value to search for, as its table orders it.
#[derive(Clone, Copy)]
pub(super) enum Probe<'a> {
    Number(Key),
    Text(&'a [u8]),
}

impl<'a> Probe<'a> {
    pub(super) fn of(scalar: &'a Scalar) -> Self {
        match (Key::of(scalar.borrow()), scalar) {
            (None, Scalar::Text(text)) => Self::Text(text.as_bytes()),
            (key, _) => Self::Number(key.unwrap_or(Key::BEFORE_NUMBERS)),
        }
    }
}

impl<B: Bytes> Index<B> {
    pub(super) fn condition(&self, field: &Field, test: &Test) -> Result<Bits> {
        let mut found = Bits::none(self.documents());
        for node in self.nodes(field)? {
            if let Test::Exists(_) = test {
                self.gather(self.layout.present, node as usize..node as usize + 1, &mut found)?;
                continue;
            }
            if let Test::Contains(part) = test {
                // A part of a text; other values are contained in arrays only.
                if let Scalar::Text(part) = part {
                    self.within(slot(node, false), part, &mut found)?;
                }
            } else {
                self.slot(slot(node, false), test, &mut found)?;
            }
            self.slot(slot(node, true), test, &mut found)?;
        }
        if matches!(test, Test::Differs(_) | Test::NotIn(_) | Test::Exists(false)) {
            found.complement();
        }
        Ok(found)
    }

    /// The nodes that a field leads to: several where keys have dots.
    pub(super) fn nodes(&self, field: &Field) -> Result<Vec<u32>> {
        match field {
            Field::Id => Ok(vec![ID]),
            Field::Title => Ok(vec![TITLE]),
            Field::Path(path) => self.nodes_of_path(path),
        }
    }

    /// Follows the path as the evaluator does. Keys with dots have no children, so one way leads on at most.
    fn nodes_of_path(&self, path: &Path) -> Result<Vec<u32>> {
        let (mut found, mut node) = (Vec::new(), ROOT);
        for part in 0.. {
            found.extend(self.child(node, path.rest(part))?);
            let Some(name) = path.name(part) else { break };
            let Some(child) = self.child(node, name)? else { break };
            node = child;
        }
        Ok(found)
    }

    fn child(&self, node: u32, key: &str) -> Result<Option<u32>> {
        let (children, keys) = (self.layout.children, self.layout.keys);
        let node = node as usize;
        let children = self.reader.int(children, node)?..self.reader.int(children, node + 1)?;
        let end = children.end;
        let at = first_where(children, |child| Ok(self.reader.slice(keys, child)? >= key.as_bytes()))?;
        if at >= end || self.reader.slice(keys, at)? != key.as_bytes() {
            return Ok(None);
        }
        // Slots are numbered with 32 bits.
        let child = u32::try_from(at).ok().filter(|child| *child < u32::MAX / 2);
        child.map(Some).ok_or_else(|| self.reader.corrupt(format!("it has a node {at}")))
    }

    /// Adds the documents that hold a value of this slot for which the test holds, negations left out.
    fn slot(&self, slot: u32, test: &Test, found: &mut Bits) -> Result<()> {
        match test {
            Test::Equals(value) | Test::Differs(value) | Test::Contains(value) => {
                self.listed(slot, std::slice::from_ref(value), found)
            }
            Test::In(values) | Test::NotIn(values) => self.listed(slot, values, found),
            Test::Above(_) | Test::AtLeast(_) | Test::Below(_) | Test::AtMost(_) => self.bound(slot, &[test], found),
            Test::Prefix(prefix) => self.prefixed(slot, prefix.as_bytes(), found),
            Test::Exists(_) => Ok(()),
        }
    }

    /// The values ascend, and so do the places where they are found: each search begins where the last one ended.
    fn listed(&self, slot: u32, values: &[Scalar], found: &mut Bits) -> Result<()> {
        let (numbers, texts) = values.split_at(values.partition_point(|value| !matches!(value, Scalar::Text(_))));
        for (table, values) in [(self.layout.numbers, numbers), (self.layout.texts, texts)] {
            if values.is_empty() {
                continue;
            }
            let Range { mut start, end } = self.entries(table, slot)?;
            for probe in values.iter().map(Probe::of) {
                start = next_where(start..end, |entry| Ok(self.compare(entry, probe)?.is_ge()))?;
                if start >= end {
                    break;
                }
                if self.compare(start, probe)?.is_eq() {
                    self.gather(table.postings, start..start + 1, found)?;
                }
            }
        }
        Ok(())
    }

    fn prefixed(&self, slot: u32, prefix: &[u8], found: &mut Bits) -> Result<()> {
        let table = self.layout.texts;
        let Range { start, end } = self.entries(table, slot)?;
        let start = first_where(start..end, |entry| Ok(self.text(entry)? >= prefix))?;
        let end = first_where(start..end, |entry| Ok(!self.text(entry)?.starts_with(prefix)))?;
        self.gather(table.postings, start..end, found)
    }

    /// Adds the documents that hold a text with this part in it. The texts of the slot are searched as one: setting up
    /// a search takes longer than most texts do.
    fn within(&self, slot: u32, part: &str, found: &mut Bits) -> Result<()> {
        let (table, starts) = (self.layout.texts, self.layout.text_bytes.starts);
        let mut entries = self.entries(table, slot)?;
        if part.is_empty() || entries.is_empty() {
            return self.gather(table.postings, entries, found);
        }
        let start = self.reader.int(starts, entries.start)?;
        let bytes = self.reader.raw(self.layout.text_bytes.bytes, start..self.reader.int(starts, entries.end)?)?;
        let texts = std::str::from_utf8(bytes).map_err(|error| self.reader.corrupt(error.to_string()))?;
        let mut at = 0;
        loop {
            let rest = texts.get(at..).ok_or_else(|| self.reader.corrupt("a text ends within a character"))?;
            let Some(place) = rest.find(part) else { return Ok(()) };
            let place = at + place;
            let end_of = |entry| Ok(self.reader.int(starts, entry + 1)?.saturating_sub(start));
            entries.start = next_where(entries.clone(), |entry| Ok(end_of(entry)? > place))?;
            if entries.is_empty() {
                return Err(self.reader.corrupt("texts do not follow each other"));
            }
            // What begins in one text and ends in another is in neither, and nor is what begins behind it.
            at = end_of(entries.start)?;
            if place + part.len() <= at {
                self.gather(table.postings, entries.start..entries.start + 1, found)?;
            }
        }
    }

    /// The values of a slot.
    pub(super) fn entries(&self, table: Table<Array>, slot: u32) -> Result<Range<usize>> {
        let Some(at) = self.find(table, slot)? else { return Ok(0..0) };
        let (start, end) = (self.reader.int(table.firsts, at)?, self.reader.int(table.firsts, at + 1)?);
        if start > end || end >= table.postings.starts.count {
            return Err(self.reader.corrupt(format!("slot {slot} has the values {start} to {end}")));
        }
        Ok(start..end)
    }

    /// Where a slot stands among those that have values.
    pub(super) fn find(&self, table: Table<Array>, slot: u32) -> Result<Option<usize>> {
        let slot = slot as usize;
        let at = first_where(0..table.slots.count, |at| Ok(self.reader.int(table.slots, at)? >= slot))?;
        Ok((at < table.slots.count && self.reader.int(table.slots, at)? == slot).then_some(at))
    }

    pub(super) fn compare(&self, entry: usize, probe: Probe<'_>) -> Result<Ordering> {
        match probe {
            Probe::Text(text) => Ok(self.text(entry)?.cmp(text)),
            Probe::Number(key) => {
                let mut bytes = [0; number::BYTES];
                bytes.copy_from_slice(self.reader.raw(self.layout.number_keys, entry..entry + 1)?);
                Ok(Key::from_bytes(bytes).cmp(&key))
            }
        }
    }

    fn text(&self, entry: usize) -> Result<&[u8]> {
        self.reader.slice(self.layout.text_bytes, entry)
    }

    /// Adds the documents of these lists.
    pub(super) fn gather(&self, postings: Slices<Array>, lists: Range<usize>, found: &mut Bits) -> Result<()> {
        if lists.is_empty() {
            return Ok(());
        }
        let bitmap = bitmap_bytes(self.documents());
        let first = self.reader.int(postings.starts, lists.start)?;
        let bytes = self.reader.raw(postings.bytes, first..self.reader.int(postings.starts, lists.end)?)?;
        let (mut pending, mut from) = (0, 0);
        for end in self.reader.ints(postings.starts, lists.start + 1..lists.end.saturating_add(1))? {
            let to = end.wrapping_sub(first);
            let Some(list) = bytes.get(from..to).filter(|list| list.len() <= bitmap) else {
                return Err(self.reader.corrupt(format!("a list of documents stands from {from} to {to}")));
            };
            if list.len() == bitmap {
                self.gather_lists(&bytes[pending..from], found)?;
                found.insert_bitmap(list);
                pending = to;
            }
            from = to;
        }
        self.gather_lists(&bytes[pending..from], found)
    }

    /// Adds the documents of lists that follow each other: most have one or two, and taken together they are one loop.
    fn gather_lists(&self, lists: &[u8], found: &mut Bits) -> Result<()> {
        if layout::ints(lists, list_width(self.documents())).all(|document| found.insert(document)) {
            return Ok(());
        }
        Err(self.reader.corrupt("a list names a document that there is not"))
    }
}

/// The first place of a range from which on the test holds, by bisection; the end if it holds nowhere.
pub(super) fn first_where(range: Range<usize>, test: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let Range { mut start, mut end } = range;
    while start < end {
        let middle = start + (end - start) / 2;
        if test(middle)? {
            end = middle;
        } else {
            start = middle + 1;
        }
    }
    Ok(start)
}

/// As [`first_where`], in steps that double, which is faster where the place is near the start.
fn next_where(range: Range<usize>, test: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let Range { mut start, end } = range;
    let mut step = 1;
    while start < end {
        let probe = start + (step - 1).min(end - start - 1);
        if test(probe)? {
            return first_where(start..probe, test);
        }
        start = probe + 1;
        step *= 2;
    }
    Ok(start)
}
