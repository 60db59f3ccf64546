//! Which document does this row of columns hold?
//!
//! A row that is no document is rejected with its number, the column and the value, and the next row is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use serde_json::{Map, Value};

use super::cell::cell;
use super::chunks::Carried;
use super::map::{ColumnMap, Columns, space_in};
use crate::formats::jsonl::moment;
use crate::moment::Moment;
use crate::types::{Document, Rejected};
use crate::{DocumentId, Result};

/// A row that is no document.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BadRow {
    /// The file.
    pub source: String,
    /// Its number, counted from 1; of a file of lines the line.
    pub row: u64,
    /// The column that is at fault, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What is in it, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// What is wrong with it.
    pub reason: String,
}

impl BadRow {
    /// As the report of an add lists it.
    pub fn rejected(&self) -> Rejected {
        let column = self.column.as_ref().map_or(String::new(), |column| format!("column `{column}`: "));
        let reason = format!("row {}: {column}{}", self.row, self.reason);
        Rejected { source: format!("{}#{}", self.source, self.row), reason }
    }
}

/// What is wrong with a row, before it is known which one it is.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) column: Option<String>,
    pub(super) value: Option<Value>,
    pub(super) reason: String,
}

impl Flaw {
    pub(super) fn of_row(reason: impl Into<String>) -> Self {
        Self { column: None, value: None, reason: reason.into() }
    }

    pub(super) fn at(self, source: &str, row: u64) -> BadRow {
        BadRow { source: source.to_owned(), row, column: self.column, value: self.value, reason: self.reason }
    }
}

type Flawed<T> = std::result::Result<T, Flaw>;

/// The cells of one row.
pub(super) enum Cells<'a> {
    /// A row of a batch.
    Batch(&'a RecordBatch, usize),
    /// Values in the order of their columns.
    Values(&'a [Value]),
}

impl Cells<'_> {
    fn value(&self, index: usize) -> std::result::Result<Value, String> {
        match self {
            Self::Batch(batch, row) => cell(batch.column(index).as_ref(), *row),
            Self::Values(values) => Ok(values.get(index).cloned().unwrap_or_default()),
        }
    }

    fn vector(&self, index: usize) -> std::result::Result<Option<Vec<f32>>, String> {
        match self {
            Self::Batch(batch, row) if !super::map::is_text(batch.column(index).data_type()) => {
                vector(batch.column(index), *row)
            }
            Self::Batch(..) | Self::Values(_) => match self.value(index)? {
                Value::Null => Ok(None),
                Value::String(text) => parsed_vector(&text).map(Some),
                _ => Err("it is no list of numbers".to_owned()),
            },
        }
    }
}

/// Turns the rows of one source into documents.
pub(super) struct RowReader {
    /// What rows without an id are called after, together with their number.
    name: String,
    columns: Columns,
    names: Vec<String>,
    /// Timestamps that have no zone.
    naive: Vec<usize>,
    /// What only an export of ours has.
    carried: Option<Carried>,
}

impl RowReader {
    /// Finds the columns of a file.
    ///
    /// # Errors
    /// As [`ColumnMap::resolve`].
    pub(super) fn new(
        name: impl Into<String>,
        schema: &Schema,
        map: &ColumnMap,
        spaces: &[String],
        loose: bool,
    ) -> Result<Self> {
        let mut columns = map.resolve(schema, spaces, loose)?;
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        let is_naive = |(_, field): &(usize, &Arc<Field>)| matches!(field.data_type(), DataType::Timestamp(_, None));
        let naive = schema.fields().iter().enumerate().filter(is_naive).map(|(index, _)| index).collect();
        let carried = Carried::of(schema)?;
        columns.rest.retain(|(index, _)| !carried.as_ref().is_some_and(|carried| carried.takes(*index)));
        Ok(Self { name: name.into(), columns, names, naive, carried })
    }

    /// A column that is no metadata.
    pub(super) fn leave_out(&mut self, column: Option<usize>) {
        self.columns.rest.retain(|(index, _)| Some(*index) != column);
    }

    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The document in a row; `number` counts the rows of the source from 1.
    pub(super) fn read(&self, cells: &Cells<'_>, number: u64) -> Flawed<Document> {
        let columns = &self.columns;
        let id = self.id(cells, number)?;
        let vector = match columns.vector {
            Some(index) => self.vector(cells, index)?,
            None => None,
        };
        let mut vectors = BTreeMap::new();
        for (index, space) in &columns.vectors {
            if let Some(vector) = self.vector(cells, *index)? {
                vectors.insert(space.clone(), vector);
            }
        }
        let text = self.string(cells, columns.text)?;
        if text.is_none() && vector.is_none() && vectors.is_empty() {
            return Err(Flaw::of_row("it has neither text nor vector"));
        }
        let title = self.string(cells, columns.title)?.filter(|title| !title.trim().is_empty());
        let metadata = Value::Object(self.metadata(cells)?);
        let expires_at = self.expires_at(cells)?;
        let text = text.unwrap_or_default();
        let mut document = Document { title, metadata, vector, vectors, expires_at, ..Document::new(id, text) };
        if let (Some(carried), Cells::Batch(batch, row)) = (&self.carried, cells) {
            carried.complete(batch, *row, &mut document).map_err(Flaw::of_row)?;
        }
        Ok(document)
    }

    /// Whether a row has no id, and its document is called after the source and the row's number.
    pub(super) fn names(&self, cells: &Cells<'_>) -> bool {
        self.columns.id.is_none_or(|index| matches!(cells.value(index), Ok(Value::Null)))
    }

    fn flaw(&self, index: usize, value: Option<&Value>, reason: impl Into<String>) -> Flaw {
        let column = self.names.get(index).cloned();
        Flaw { column, value: value.map(shortened), reason: reason.into() }
    }

    fn value(&self, cells: &Cells<'_>, index: usize) -> Flawed<Value> {
        cells.value(index).map_err(|reason| self.flaw(index, None, reason))
    }

    fn id(&self, cells: &Cells<'_>, number: u64) -> Flawed<DocumentId> {
        let value = self.columns.id.map_or(Ok(Value::Null), |index| self.value(cells, index))?;
        match (&value, self.columns.id) {
            (Value::Null, _) | (_, None) => Ok(DocumentId::Text(format!("{}#{number}", self.name))),
            (Value::String(text), _) => Ok(DocumentId::Text(text.clone())),
            (Value::Number(whole), Some(index)) => whole.as_i64().map(DocumentId::Integer).ok_or_else(|| {
                self.flaw(
                    index,
                    Some(&value),
                    format!("an id of {whole}; it must be text or a whole number of 64 bits"),
                )
            }),
            (_, Some(index)) => Err(self.flaw(index, Some(&value), "an id must be text or a whole number of 64 bits")),
        }
    }

    fn vector(&self, cells: &Cells<'_>, index: usize) -> Flawed<Option<Vec<f32>>> {
        cells.vector(index).map_err(|reason| self.flaw(index, None, reason))
    }

    fn string(&self, cells: &Cells<'_>, index: Option<usize>) -> Flawed<Option<String>> {
        let Some(index) = index else { return Ok(None) };
        match self.value(cells, index)? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other => Err(self.flaw(index, Some(&other), "it must be text")),
        }
    }

    /// A timestamp without a zone is meant in UTC.
    fn expires_at(&self, cells: &Cells<'_>) -> Flawed<Option<Moment>> {
        let Some(index) = self.columns.expires_at else { return Ok(None) };
        let value = match self.value(cells, index)? {
            Value::Null => return Ok(None),
            Value::String(text) if self.naive.contains(&index) => Value::String(text + "Z"),
            // Columns of CSV that are mapped stay text.
            Value::String(text) => match text.trim().parse::<serde_json::Number>() {
                Ok(seconds) => Value::Number(seconds),
                Err(_) => Value::String(text),
            },
            other => other,
        };
        moment(value.clone()).map(Some).map_err(|reason| self.flaw(index, Some(&value), reason))
    }

    /// The metadata column's object with the other columns beside it; null cells are absent.
    fn metadata(&self, cells: &Cells<'_>) -> Flawed<Map<String, Value>> {
        let mut metadata = match self.columns.metadata {
            None => Map::new(),
            Some(index) => self.object(index, self.value(cells, index)?)?,
        };
        for (index, name) in &self.columns.rest {
            let value = self.value(cells, *index)?;
            if !value.is_null() {
                metadata.insert(name.clone(), value);
            }
        }
        Ok(metadata)
    }

    fn object(&self, index: usize, value: Value) -> Flawed<Map<String, Value>> {
        const WAY_OUT: &str = "map `metadata=` to keep the column as it is";
        match value {
            Value::Null => Ok(Map::new()),
            Value::Object(object) => Ok(object),
            Value::String(text) if text.trim().is_empty() => Ok(Map::new()),
            Value::String(text) => serde_json::from_str(&text).map_err(|_| {
                let reason = format!("it is not the JSON text of an object; {WAY_OUT}");
                self.flaw(index, Some(&Value::String(text.clone())), reason)
            }),
            other => Err(self.flaw(index, Some(&other), format!("it is no object; {WAY_OUT}"))),
        }
    }
}

/// What columns of vectors are called that are not called `vector`.
const LIKELY_VECTORS: [&str; 2] = ["embedding", "embeddings"];

/// A column whose name and value say that it is a vector of the document, and that became metadata: its name, and how many
/// numbers it has. With `only_spaces` one that is called after a further space.
pub(super) fn left_vector(document: &Document, only_spaces: bool) -> Option<(String, usize)> {
    let metadata = document.metadata.as_object()?;
    let likely = LIKELY_VECTORS.iter().filter(|_| !only_spaces && document.vector.is_none());
    let likely = likely.filter_map(|name| metadata.get_key_value(*name));
    let of_spaces = metadata.iter().filter(|(name, _)| space_in(name).is_some());
    let mut columns = likely.chain(of_spaces);
    columns.find_map(|(name, value)| numbers_in(value).map(|numbers| (name.clone(), numbers)))
}

/// How many numbers a list has that may be a vector.
fn numbers_in(value: &Value) -> Option<usize> {
    let numbers = match value {
        Value::Array(numbers) => numbers.iter().all(Value::is_number).then_some(numbers.len())?,
        // CSV has lists as text.
        Value::String(text) if text.starts_with('[') => parsed_vector(text).ok()?.len(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    Some(numbers).filter(|numbers| *numbers > 1)
}

/// A value, short enough for a report.
pub(super) fn shortened(value: &Value) -> Value {
    const MOST: usize = 200;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return value.clone(),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

/// The vector of a row; `None` where it is null.
pub(super) fn vector(column: &ArrayRef, row: usize) -> std::result::Result<Option<Vec<f32>>, String> {
    if column.is_null(row) {
        return Ok(None);
    }
    let values = match column.data_type() {
        DataType::List(_) => column.as_list::<i32>().value(row),
        DataType::LargeList(_) => column.as_list::<i64>().value(row),
        DataType::ListView(_) => column.as_list_view::<i32>().value(row),
        DataType::LargeListView(_) => column.as_list_view::<i64>().value(row),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().value(row),
        other => return Err(format!("{other} is no list of floats")),
    };
    if let Some(null) = (0..values.len()).find(|&at| values.is_null(at)) {
        return Err(format!("number {null} of the vector is null"));
    }
    let numbers: Vec<f32> = match values.data_type() {
        DataType::Float16 => values.as_primitive::<Float16Type>().values().iter().map(|value| value.to_f32()).collect(),
        DataType::Float32 => values.as_primitive::<Float32Type>().values().to_vec(),
        DataType::Float64 => values.as_primitive::<Float64Type>().values().iter().map(|&value| value as f32).collect(),
        other => return Err(format!("a list of {other} is no vector; floats are")),
    };
    finite(numbers).map(Some)
}

/// The vector that is written as a JSON array, as CSV has it.
fn parsed_vector(text: &str) -> std::result::Result<Vec<f32>, String> {
    let numbers: Vec<f32> =
        serde_json::from_str(text).map_err(|error| format!("it is no JSON array of numbers ({error})"))?;
    finite(numbers)
}

fn finite(numbers: Vec<f32>) -> std::result::Result<Vec<f32>, String> {
    match numbers.iter().position(|number| !number.is_finite()) {
        Some(at) => Err(format!("number {at} of the vector is {}", numbers[at])),
        None => Ok(numbers),
    }
}
