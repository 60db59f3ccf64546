//! Which values does each document hold, under which names? Writes the index.
//!
//! Invariants: a document is entered under exactly the names by which [`Path::any`](crate::filter::field::Path) finds
//! its values; each key and each value is kept once for each place in which it stands, so memory and file grow with the
//! JSON and not with the lengths of paths.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::Range;

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::layout::{self, Column, Layout, Slices, Table};
use super::number::Key;
use super::{ID, ROOT, TITLE, bitmap_bytes, list_width, slot};
use crate::DocumentId;
use crate::filter::field::PARTS_MAX;
use crate::filter::scalar::ScalarRef;

/// Collects documents and writes their index.
pub(crate) struct Builder {
    firsts: Vec<u64>,
    counts: Vec<u64>,
    /// The children of each node, by key, in the order in which they were met.
    nodes: Vec<BTreeMap<Box<str>, u32>>,
    /// (node, document)
    present: Vec<(u32, u32)>,
    numbers: Vec<Held<Key>>,
    texts: Vec<Held<u32>>,
    /// Each text that was met, and its number.
    seen: HashMap<Box<str>, u32>,
}

/// A document holds a value in a slot. The order of the fields is that of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Held<V> {
    slot: u32,
    value: V,
    document: u32,
}

impl Builder {
    pub(crate) fn new() -> Self {
        // The metadata, the id and the title.
        let nodes = vec![BTreeMap::new(); 3];
        let (firsts, counts, present) = (Vec::new(), Vec::new(), Vec::new());
        Self { firsts, counts, nodes, present, numbers: Vec::new(), texts: Vec::new(), seen: HashMap::new() }
    }

    /// Adds a document with these chunks. Chunks ascend from document to document; a document without any is left out,
    /// since nothing of it could be found.
    pub(crate) fn add(
        &mut self,
        chunks: Range<u32>,
        id: &DocumentId,
        title: Option<&str>,
        metadata: &Map<String, Value>,
    ) {
        if chunks.is_empty() {
            return;
        }
        let document = number(self.firsts.len());
        self.firsts.push(u64::from(chunks.start));
        self.counts.push(u64::from(chunks.end - chunks.start));
        self.present.push((ID, document));
        match id {
            DocumentId::Integer(id) => self.hold(document, slot(ID, false), ScalarRef::Number(&(*id).into())),
            DocumentId::Text(id) => self.hold(document, slot(ID, false), ScalarRef::Text(id)),
        }
        if let Some(title) = title {
            self.present.push((TITLE, document));
            self.hold(document, slot(TITLE, false), ScalarRef::Text(title));
        }
        self.object(document, ROOT, 0, metadata);
    }

    /// Enters what stands below a node that `names` names lead to. Recurs at most [`PARTS_MAX`] deep.
    fn object(&mut self, document: u32, node: u32, names: usize, object: &Map<String, Value>) {
        for (key, value) in object {
            let parts = key.split('.').count();
            // No path has these names.
            if names + parts > PARTS_MAX || key.split('.').any(str::is_empty) {
                continue;
            }
            let child = self.child(node, key);
            self.present.push((child, document));
            self.value(document, child, value);
            // A key that itself has dots ends a path.
            if parts > 1 {
                continue;
            }
            match value {
                Value::Object(inner) => self.object(document, child, names + 1, inner),
                Value::Array(elements) => {
                    for inner in elements.iter().filter_map(Value::as_object) {
                        self.object(document, child, names + 1, inner);
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
    }

    fn child(&mut self, node: u32, key: &str) -> u32 {
        if let Some(child) = self.nodes[node as usize].get(key) {
            return *child;
        }
        let child = number(self.nodes.len());
        self.nodes.push(BTreeMap::new());
        self.nodes[node as usize].insert(key.into(), child);
        child
    }

    fn value(&mut self, document: u32, node: u32, value: &Value) {
        if let Value::Array(elements) = value {
            for element in elements.iter().filter_map(ScalarRef::of) {
                self.hold(document, slot(node, true), element);
            }
        } else if let Some(scalar) = ScalarRef::of(value) {
            self.hold(document, slot(node, false), scalar);
        }
    }

    fn hold(&mut self, document: u32, slot: u32, scalar: ScalarRef<'_>) {
        if let Some(value) = Key::of(scalar) {
            self.numbers.push(Held { slot, value, document });
        } else if let ScalarRef::Text(text) = scalar {
            let value = self.text(text);
            self.texts.push(Held { slot, value, document });
        }
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(seen) = self.seen.get(text) {
            return *seen;
        }
        let next = number(self.seen.len());
        self.seen.insert(text.into(), next);
        next
    }

    /// Writes the index. Cost: sorting all values, on all cores.
    ///
    /// # Errors
    /// Those of `out`.
    pub(crate) fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        let documents = self.firsts.len();
        let (children, keys) = self.number_nodes();
        let present = self.presence(documents);
        let mut number_keys = Vec::new();
        let numbers = table(self.numbers, documents, |key| number_keys.extend(key.to_bytes()));
        let texts = sorted(self.seen, &mut self.texts);
        let mut text_bytes = Runs::new();
        let texts = table(self.texts, documents, |text| text_bytes.push(texts[text as usize].as_bytes()));
        let layout = Layout {
            firsts: Column::ints(&self.firsts),
            counts: Column::ints(&self.counts),
            children,
            keys,
            present,
            numbers,
            number_keys: Column::items(super::number::BYTES, number_keys),
            texts,
            text_bytes: text_bytes.finish(),
        };
        layout::write(layout, out)
    }

    /// Numbers the nodes breadth first, so that the children of each are neighbours, in the order of their keys.
    fn number_nodes(&mut self) -> (Column, Slices<Column>) {
        let mut numbers = vec![0; self.nodes.len()];
        let mut order = vec![ROOT, ID, TITLE];
        let (mut children, mut keys) = (Vec::with_capacity(self.nodes.len() + 1), Runs::new());
        (ROOT..=TITLE).for_each(|_| keys.push(&[]));
        let mut at = 0;
        while let Some(node) = order.get(at).copied() {
            numbers[node as usize] = number(at);
            children.push(order.len() as u64);
            for (key, child) in std::mem::take(&mut self.nodes[node as usize]) {
                keys.push(key.as_bytes());
                order.push(child);
            }
            at += 1;
        }
        children.push(order.len() as u64);
        self.present.iter_mut().for_each(|(node, _)| *node = numbers[*node as usize]);
        let renumbered = |old: u32| slot(numbers[old as usize / 2], old % 2 == 1);
        self.numbers.iter_mut().for_each(|held| held.slot = renumbered(held.slot));
        self.texts.iter_mut().for_each(|held| held.slot = renumbered(held.slot));
        (Column::ints(&children), keys.finish())
    }

    fn presence(&mut self, documents: usize) -> Slices<Column> {
        self.present.par_sort_unstable();
        self.present.dedup();
        let (mut postings, mut rest) = (Postings::new(documents), self.present.as_slice());
        for node in 0..number(self.nodes.len()) {
            let (own, others) = rest.split_at(rest.partition_point(|(owner, _)| *owner == node));
            postings.push(own.iter().map(|(_, document)| *document));
            rest = others;
        }
        postings.runs.finish()
    }
}

/// Numbers the texts by their order, and returns them so.
fn sorted(seen: HashMap<Box<str>, u32>, held: &mut [Held<u32>]) -> Vec<Box<str>> {
    let mut texts: Vec<(Box<str>, u32)> = seen.into_iter().collect();
    texts.par_sort_unstable();
    let mut ranks = vec![0; texts.len()];
    for (rank, (_, met)) in texts.iter().enumerate() {
        ranks[*met as usize] = number(rank);
    }
    held.iter_mut().for_each(|held| held.value = ranks[held.value as usize]);
    texts.into_iter().map(|(text, _)| text).collect()
}

/// The distinct values of each slot with their documents; each value is handed to `write` in the order of the table.
fn table<V: Copy + Ord + Send>(mut held: Vec<Held<V>>, documents: usize, mut write: impl FnMut(V)) -> Table<Column> {
    held.par_sort_unstable();
    held.dedup();
    let (mut slots, mut firsts, mut postings) = (Vec::new(), Vec::new(), Postings::new(documents));
    let (mut lone, mut values) = (Vec::new(), 0);
    let mut last = vec![u32::MAX; documents];
    for same_slot in held.chunk_by(|one, two| one.slot == two.slot) {
        slots.push(u64::from(same_slot[0].slot));
        firsts.push(values);
        lone.push(u8::from(is_lone(same_slot, &mut last)));
        for same_value in same_slot.chunk_by(|one, two| one.value == two.value) {
            write(same_value[0].value);
            postings.push(same_value.iter().map(|held| held.document));
            values += 1;
        }
    }
    firsts.push(values);
    let (slots, firsts, lone) = (Column::ints(&slots), Column::ints(&firsts), Column::bytes(lone));
    Table { slots, firsts, lone, postings: postings.runs.finish() }
}

/// Whether no document holds two values of this slot. `last` has for each document the last slot in which it was seen.
fn is_lone<V>(same_slot: &[Held<V>], last: &mut [u32]) -> bool {
    same_slot.iter().all(|held| std::mem::replace(&mut last[held.document as usize], held.slot) != held.slot)
}

/// Runs of bytes, one after the other.
struct Runs {
    starts: Vec<u64>,
    bytes: Vec<u8>,
}

impl Runs {
    fn new() -> Self {
        Self { starts: vec![0], bytes: Vec::new() }
    }

    fn push(&mut self, run: &[u8]) {
        self.bytes.extend_from_slice(run);
        self.end();
    }

    fn end(&mut self) {
        self.starts.push(self.bytes.len() as u64);
    }

    fn finish(self) -> Slices<Column> {
        let Self { starts, bytes } = self;
        Slices { starts: Column::ints(&starts), bytes: Column::bytes(bytes) }
    }
}

/// Lists of documents, each in the shorter of two forms.
struct Postings {
    documents: usize,
    runs: Runs,
}

impl Postings {
    fn new(documents: usize) -> Self {
        Self { documents, runs: Runs::new() }
    }

    /// Adds a list that ascends.
    fn push(&mut self, list: impl ExactSizeIterator<Item = u32>) {
        let (width, bitmap) = (list_width(self.documents), bitmap_bytes(self.documents));
        let bytes = &mut self.runs.bytes;
        if list.len() * width < bitmap {
            list.for_each(|document| bytes.extend_from_slice(&document.to_le_bytes()[..width]));
        } else {
            let start = bytes.len();
            bytes.resize(start + bitmap, 0);
            list.for_each(|document| bytes[start + document as usize / 8] |= 1 << (document % 8));
        }
        self.runs.end();
    }
}

/// Documents have chunks with numbers of 32 bits, and 2^31 keys do not fit into memory.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a segment holds fewer than 2^32 documents, keys and texts")
}
