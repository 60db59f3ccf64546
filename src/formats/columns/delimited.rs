//! How do rows become CSV that reads back as the same rows?
//!
//! CSV has no types: a reader guesses them from how all values of a column are written. So a column has only values that come
//! back from that guess just as they are; whatever else a document has (lists, objects, nulls, empty texts, texts that
//! would read as numbers, names that a header cannot have) stands as JSON in the column `metadata`, which is read first.
//! Invariant: a column whose texts would all be taken for numbers is none.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use serde_json::{Map, Value};

use super::build::is_same;
use super::chunks::{END, HEADING, ID, ID_IS_INTEGER, METADATA, START, TEXT, TITLE, VECTOR};
use super::text::{Guess, Kind, is_whole};
use super::write::{CHUNK, DOCUMENT, EXPIRES_AT};
use crate::config::DEFAULT_SPACE;
use crate::formats::row::{Place, Row};
use crate::{DocumentId, Error, Result};

/// More columns than this nobody reads; the others are JSON.
const COLUMNS_MAX: usize = 1_000;
/// The kinds that values can come back as, in the order of preference.
const KINDS: [Kind; 4] = [Kind::Text, Kind::Whole, Kind::Float, Kind::Boolean];

/// What is known of a column of metadata.
struct Seen {
    name: String,
    values: u64,
    /// How many values each of [`KINDS`] holds.
    held: [u64; KINDS.len()],
    /// What a reader takes the texts among them for.
    texts: Guess,
}

impl Seen {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), values: 0, held: [0; KINDS.len()], texts: Guess::ANY }
    }

    fn see(&mut self, value: &Value) {
        self.values += 1;
        for (kind, held) in KINDS.into_iter().zip(&mut self.held) {
            let Some(text) = written(value, kind) else { continue };
            *held += 1;
            if kind == Kind::Text {
                self.texts.see(text.as_bytes());
            }
        }
    }

    /// The kind of most values, and how many those are; `None` where there can be no column.
    fn kind(&self) -> Option<(Kind, u64)> {
        let can_be = |kind: Kind| kind != Kind::Text || self.texts.kind() == Kind::Text;
        let kinds = KINDS.into_iter().zip(self.held).filter(|(kind, held)| *held > 0 && can_be(*kind));
        kinds.rev().max_by_key(|(_, held)| *held)
    }
}

/// A value as a column of this kind has it; `None` where it does not come back from there as it is.
fn written(value: &Value, kind: Kind) -> Option<String> {
    let text = match value {
        Value::String(text) if kind == Kind::Text => text.clone(),
        Value::Number(_) | Value::Bool(_) if kind != Kind::Text => value.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            return None;
        }
    };
    let mut guess = Guess::ANY;
    guess.see(text.as_bytes());
    let is_read = kind == Kind::Text || guess.kind() == kind;
    (is_read && is_same(&kind.value(&text), value)).then_some(text)
}

/// Looks at all documents to tell which columns there are.
pub(crate) struct Delimited {
    taken: HashSet<String>,
    columns: Vec<Seen>,
    places: HashMap<String, usize>,
    /// Whether some document's members have no column.
    json: bool,
    /// Whether some id is text and would be read as a number.
    marked: bool,
    /// The ids, which rows that are passages have as a column like those of metadata.
    documents: Seen,
}

impl Delimited {
    /// Beside columns that are called so.
    pub(crate) fn beside(taken: Vec<String>) -> Self {
        let taken = taken.into_iter().map(|name| name.to_lowercase()).collect();
        let documents = Seen::new(DOCUMENT);
        Self { taken, columns: Vec::new(), places: HashMap::new(), json: false, marked: false, documents }
    }

    /// Takes one more document into account.
    pub(crate) fn see(&mut self, id: &DocumentId, metadata: &Map<String, Value>) {
        self.marked |= matches!(id, DocumentId::Text(text) if is_whole(text));
        self.documents.see(&value_of(id));
        for (name, value) in metadata {
            match self.place(name) {
                Some(place) => self.columns[place].see(value),
                None => self.json = true,
            }
        }
    }

    fn place(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        let is_plain = !name.is_empty()
            && name.trim() == name
            && !name.contains(['.', ',', ';', '|', '"'])
            && !name.chars().any(char::is_control);
        if !is_plain || self.columns.len() == COLUMNS_MAX || !self.taken.insert(name.to_lowercase()) {
            return None;
        }
        self.columns.push(Seen::new(name));
        self.places.insert(name.to_owned(), self.columns.len() - 1);
        Some(self.columns.len() - 1)
    }

    /// The columns, beside those that every document has.
    pub(crate) fn finish(self, shape: Shape) -> DelimitedLayout {
        let mut json = self.json;
        let mut metadata = Vec::new();
        for column in self.columns {
            let kind = column.kind();
            json |= kind.is_none_or(|(_, held)| held < column.values);
            metadata.extend(kind.map(|(kind, _)| (column.name, kind)));
        }
        let document = self.documents.kind();
        json |= shape.chunk_rows && document.is_none_or(|(_, held)| held < self.documents.values);
        let document = document.map(|(kind, _)| kind);
        DelimitedLayout { shape, metadata, json, marked: self.marked, document }
    }
}

/// What rows have besides metadata.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) chunk_rows: bool,
    pub(crate) titled: bool,
    pub(crate) expiring: bool,
    /// The spaces whose vectors go out, the default one as `vector`.
    pub(crate) spaces: Vec<String>,
}

/// Which columns there are.
pub(crate) struct DelimitedLayout {
    shape: Shape,
    metadata: Vec<(String, Kind)>,
    json: bool,
    marked: bool,
    /// What the column of the passages' documents holds, where there can be one.
    document: Option<Kind>,
}

impl DelimitedLayout {
    /// The columns in their order, and what they hold.
    pub(crate) fn columns(&self) -> Vec<(String, String)> {
        let Shape { chunk_rows, titled, expiring, spaces } = &self.shape;
        let named = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
        let mut columns = vec![named(ID, "id")];
        if *chunk_rows {
            columns.extend(self.document.map(|kind| named(DOCUMENT, &kind.data_type().to_string())));
            columns.extend([CHUNK, START, END].map(|name| named(name, "Int64")));
            columns.push(named(HEADING, "Utf8"));
        } else if self.marked {
            columns.push(named(ID_IS_INTEGER, "Boolean"));
        }
        columns.extend(titled.then(|| named(TITLE, "Utf8")));
        columns.push(named(TEXT, "Utf8"));
        columns.extend(expiring.then(|| named(EXPIRES_AT, "RFC 3339")));
        columns.extend(self.metadata.iter().map(|(name, kind)| (name.clone(), kind.data_type().to_string())));
        columns.extend(self.json.then(|| named(METADATA, "JSON")));
        columns.extend(spaces.iter().map(|space| named(&vector_column(space), "JSON")));
        columns
    }
}

/// As an import finds it.
fn vector_column(space: &str) -> String {
    if space == DEFAULT_SPACE { VECTOR.to_owned() } else { format!("{VECTOR}s.{space}") }
}

/// Writes rows as CSV.
pub(crate) struct DelimitedWriter<W: Write> {
    layout: DelimitedLayout,
    out: csv::Writer<W>,
}

impl<W: Write> DelimitedWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`Error::Io`] of `out`.
    pub(crate) fn new(out: W, delimiter: u8, layout: DelimitedLayout) -> Result<Self> {
        let mut out = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
        out.write_record(layout.columns().iter().map(|(name, _)| name)).map_err(failed)?;
        Ok(Self { layout, out })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`Error::Io`] of what is written to.
    pub(crate) fn row(&mut self, row: &Row) -> Result<()> {
        let DelimitedLayout { shape, metadata, json, marked, document } = &self.layout;
        let id = value_of(&row.id);
        let document = document.map(|kind| written(&id, kind));
        let mut fields = match &row.place {
            Some(place) => of_chunk(row, place, &document),
            None => vec![row.id.to_string()],
        };
        if *marked && !shape.chunk_rows {
            fields.push(matches!(row.id, DocumentId::Integer(_)).to_string());
        }
        fields.extend(shape.titled.then(|| row.title.clone().unwrap_or_default()));
        fields.push(row.text.clone());
        let expires_at = || row.expires_at.and_then(crate::moment::rfc3339_of_millis).unwrap_or_default();
        fields.extend(shape.expiring.then(expires_at));
        let mut typed = Vec::with_capacity(metadata.len());
        for (name, kind) in metadata {
            let text = row.metadata.get(name).and_then(|value| written(value, *kind));
            typed.extend(text.as_ref().map(|_| name.as_str()));
            fields.push(text.unwrap_or_default());
        }
        let untold = (row.place.is_some() && document.flatten().is_none()).then_some(id);
        fields.extend(json.then(|| rest(&row.metadata, &typed, untold).unwrap_or_default()));
        for space in &shape.spaces {
            let vector = row.vectors.get(space).map(serde_json::to_string).transpose();
            fields.push(vector.map_err(|error| Error::invalid(error.to_string()))?.unwrap_or_default());
        }
        self.out.write_record(&fields).map_err(failed)
    }

    /// Ends the rows.
    ///
    /// # Errors
    /// [`Error::Io`] of what is written to.
    pub(crate) fn finish(self) -> Result<W> {
        self.out.into_inner().map_err(|error| Error::io("the rows", error.into_error()))
    }
}

/// What no column says, as JSON. The order of members is that of the columns then: CSV is for people, and a document whose
/// members come in another order would have all of them twice.
fn rest(metadata: &Map<String, Value>, typed: &[&str], document: Option<Value>) -> Option<String> {
    let others = metadata.iter().filter(|(name, _)| !typed.contains(&name.as_str()));
    let mut others: Map<String, Value> = others.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(document) = document {
        others.entry(DOCUMENT).or_insert(document);
    }
    (!others.is_empty()).then(|| Value::Object(others).to_string())
}

/// With the document's id, where there is a column for it.
fn of_chunk(row: &Row, place: &Place, document: &Option<Option<String>>) -> Vec<String> {
    let Place { ordinal, start, end, heading } = place;
    let mut fields = vec![format!("{}#{ordinal}", row.id)];
    fields.extend(document.clone().map(Option::unwrap_or_default));
    fields.extend([ordinal.to_string(), start.to_string(), end.to_string(), heading.clone()]);
    fields
}

fn value_of(id: &DocumentId) -> Value {
    match id {
        DocumentId::Integer(number) => (*number).into(),
        DocumentId::Text(text) => text.as_str().into(),
    }
}

fn failed(error: csv::Error) -> Error {
    Error::io("the rows", error.into())
}
