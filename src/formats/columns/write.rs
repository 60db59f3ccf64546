//! How do documents, or their chunks, become a table?
//!
//! Invariant: a row that is read back is the document that was written, to the order of its metadata's members. What a typed
//! column cannot say of a document's metadata stands in the column `metadata`, as JSON, which is read first; a member that
//! stands in both keeps the place that it has there.

use std::io::Write;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMillisecondArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value};

use super::build::{self, vector_type};
use super::chunks::{
    CHUNKS, DIGEST, END, HEADING, ID, ID_IS_INTEGER, MARKER, METADATA, Marker, START, TEXT, TITLE, VECTOR,
};
use super::infer::Inferred;
use crate::formats::row::{Place, Row};
use crate::types::EmbeddedChunk;
use crate::{DocumentId, Error, Result};

/// The document of a chunk, and the chunk's number in it.
pub(super) const DOCUMENT: &str = "document";
pub(super) const CHUNK: &str = "chunk";
pub(super) const EXPIRES_AT: &str = "expires_at";

/// A row group is written out once it has this size, encoded.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// What the ids of all documents are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    integers: bool,
    texts: bool,
}

impl Ids {
    /// Takes one more id into account.
    pub(crate) fn see(&mut self, id: &DocumentId) {
        match id {
            DocumentId::Integer(_) => self.integers = true,
            DocumentId::Text(_) => self.texts = true,
        }
    }

    fn are_integers(self) -> bool {
        self.integers && !self.texts
    }

    fn are_mixed(self) -> bool {
        self.integers && self.texts
    }
}

/// A column of vectors: its name, its space, its width.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VectorColumn {
    pub(crate) name: String,
    pub(crate) space: String,
    pub(crate) dims: usize,
}

impl VectorColumn {
    /// The column of a space beside others.
    pub(crate) fn of(space: &str, dims: usize, is_default: bool) -> Self {
        // A dot would be nesting to some.
        let name = if is_default { VECTOR.to_owned() } else { format!("{VECTOR}_{}", space.replace('.', "_")) };
        Self { name, space: space.to_owned(), dims }
    }
}

/// Which columns there are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) ids: Ids,
    pub(crate) titled: bool,
    /// Whether some document expires.
    pub(crate) expiring: bool,
    pub(crate) metadata: Inferred,
    /// Columns of vectors.
    pub(crate) vectors: Vec<VectorColumn>,
    /// The same inside of the column of chunks; where there are none, neither is that.
    pub(crate) chunk_vectors: Vec<VectorColumn>,
    pub(crate) marker: Marker,
}

impl Layout {
    /// Names that no column of metadata may have: those of all columns that there may be, and those that they are found by.
    pub(crate) fn reserved(vectors: &[VectorColumn]) -> Vec<String> {
        let fixed = [
            ID,
            "_id",
            ID_IS_INTEGER,
            TITLE,
            TEXT,
            METADATA,
            VECTOR,
            "vectors",
            CHUNKS,
            DOCUMENT,
            CHUNK,
            START,
            END,
            HEADING,
            EXPIRES_AT,
            "embedding",
            "embedded",
        ];
        let vectors = vectors.iter().map(|column| column.name.clone());
        fixed.iter().map(|name| (*name).to_owned()).chain(vectors).collect()
    }

    fn schema(&self) -> Result<SchemaRef> {
        let id = if self.ids.are_integers() { DataType::Int64 } else { DataType::Utf8 };
        let needed = |name: &str, data_type| Field::new(name, data_type, false);
        let mut fields = match self.marker.chunk_rows {
            false => vec![needed(ID, id)],
            true => vec![
                needed(ID, DataType::Utf8),
                needed(DOCUMENT, id),
                needed(CHUNK, DataType::Int64),
                needed(START, DataType::Int64),
                needed(END, DataType::Int64),
                needed(HEADING, DataType::Utf8),
            ],
        };
        if self.ids.are_mixed() && !self.marker.chunk_rows {
            fields.push(needed(ID_IS_INTEGER, DataType::Boolean));
        }
        if self.titled {
            fields.push(Field::new(TITLE, DataType::Utf8, true));
        }
        fields.push(needed(TEXT, DataType::Utf8));
        if self.expiring {
            let instant = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
            fields.push(Field::new(EXPIRES_AT, instant, true));
        }
        fields.extend(self.metadata.columns.iter().map(|field| field.as_ref().clone()));
        if self.metadata.json {
            fields.push(Field::new(METADATA, DataType::Utf8, true));
        }
        fields.extend(self.vectors.iter().map(|column| Field::new(&column.name, vector_type(column.dims), true)));
        if !self.chunk_vectors.is_empty() {
            fields.push(Field::new(CHUNKS, DataType::List(Arc::new(self.chunk_field())), true));
        }
        let marker = serde_json::to_string(&self.marker).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Arc::new(Schema::new_with_metadata(fields, [(MARKER.to_owned(), marker)])))
    }

    fn chunk_field(&self) -> Field {
        Field::new_list_field(DataType::Struct(self.chunk_fields()), false)
    }

    fn chunk_fields(&self) -> Fields {
        let needed = |name: &str, data_type| Field::new(name, data_type, false);
        let mut fields = vec![
            needed(START, DataType::Int64),
            needed(END, DataType::Int64),
            needed(HEADING, DataType::Utf8),
            needed(DIGEST, DataType::Utf8),
        ];
        fields.extend(self.chunk_vectors.iter().map(|column| needed(&column.name, vector_type(column.dims))));
        Fields::from(fields)
    }
}

/// The formats of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableFormat {
    Parquet,
    /// An Arrow file, which Feather 2 is, too.
    Arrow,
    /// The same as a stream.
    ArrowStream,
}

/// Writes rows as a table.
pub(crate) struct TableWriter<W: Write + Send> {
    layout: Layout,
    schema: SchemaRef,
    out: BatchWriter<W>,
}

impl<W: Write + Send> TableWriter<W> {
    /// Begins the table.
    ///
    /// # Errors
    /// [`Error::Io`] of `out`, as an error of the path "the table".
    pub(crate) fn new(out: W, format: TableFormat, layout: Layout) -> Result<Self> {
        let schema = layout.schema()?;
        let plain: Vec<Vec<&str>> = layout
            .vectors
            .iter()
            .map(|column| vec![column.name.as_str(), "list", "item"])
            .chain(layout.chunk_vectors.iter().map(|column| vec![CHUNKS, "list", "item", &column.name, "list", "item"]))
            .chain([vec![TEXT], vec![ID]])
            .collect();
        let out = BatchWriter::new(out, format, &schema, &plain)?;
        Ok(Self { layout, schema, out })
    }

    /// The columns, and their types.
    pub(crate) fn columns(&self) -> Vec<(String, String)> {
        let shown = |field: &Arc<Field>| (field.name().clone(), field.data_type().to_string());
        self.schema.fields().iter().map(shown).collect()
    }

    /// Writes some rows.
    ///
    /// # Errors
    /// Of the disk; where rows are larger than a table can have them.
    pub(crate) fn write(&mut self, rows: &[Row]) -> Result<()> {
        let batch = self.batch(rows)?;
        self.out.write(&batch)
    }

    /// Ends the table.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn finish(self) -> Result<W> {
        self.out.finish()
    }

    fn batch(&self, rows: &[Row]) -> Result<RecordBatch> {
        let mut columns = self.first_columns(rows);
        if self.layout.titled {
            columns.push(Arc::new(rows.iter().map(|row| row.title.as_deref()).collect::<StringArray>()));
        }
        columns.push(texts(rows.iter().map(|row| row.text.as_str())));
        if self.layout.expiring {
            let millis = |row: &Row| row.expires_at.and_then(|millis| i64::try_from(millis).ok());
            let instants: TimestampMillisecondArray = rows.iter().map(millis).collect();
            columns.push(Arc::new(instants.with_timezone("UTC")));
        }
        columns.extend(self.metadata(rows)?);
        for column in &self.layout.vectors {
            let vectors = rows.iter().map(|row| row.vectors.get(&column.space).map(Vec::as_slice));
            columns.push(build::vectors(vectors, column.dims).map_err(unfit)?);
        }
        if !self.layout.chunk_vectors.is_empty() {
            columns.push(self.chunks(rows)?);
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(unfit)
    }

    /// The ids, and the places of chunks.
    fn first_columns(&self, rows: &[Row]) -> Vec<ArrayRef> {
        let id = |row: &Row| row.id.to_string();
        let whole = |row: &Row| match row.id {
            DocumentId::Integer(number) => Some(number),
            DocumentId::Text(_) => None,
        };
        let ids: ArrayRef = match self.layout.ids.are_integers() {
            true => Arc::new(rows.iter().map(whole).collect::<Int64Array>()),
            false => Arc::new(StringArray::from_iter_values(rows.iter().map(id))),
        };
        if !self.layout.marker.chunk_rows {
            let mut columns = vec![ids];
            if self.layout.ids.are_mixed() {
                let marks: Vec<bool> = rows.iter().map(|row| whole(row).is_some()).collect();
                columns.push(Arc::new(BooleanArray::from(marks)));
            }
            return columns;
        }
        let places: Vec<&Place> = rows.iter().filter_map(|row| row.place.as_ref()).collect();
        let numbers = |number: fn(&Place) -> usize| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(places.iter().map(|place| number(place) as i64)))
        };
        let named = rows.iter().zip(&places).map(|(row, place)| format!("{}#{}", id(row), place.ordinal));
        vec![
            Arc::new(StringArray::from_iter_values(named)),
            ids,
            numbers(|place| place.ordinal as usize),
            numbers(|place| place.start),
            numbers(|place| place.end),
            texts(places.iter().map(|place| place.heading.as_str())),
        ]
    }

    /// The columns of metadata, and what they cannot say as JSON.
    fn metadata(&self, rows: &[Row]) -> Result<Vec<ArrayRef>> {
        let Inferred { columns, json } = &self.layout.metadata;
        let mut arrays = Vec::with_capacity(columns.len() + 1);
        let mut typed: Vec<Vec<&str>> = vec![Vec::new(); rows.len()];
        for field in columns {
            let present = |row: &'_ Row| row.metadata.get(field.name()).is_some_and(|value| !value.is_null());
            let values: Vec<Option<&Value>> =
                rows.iter().map(|row| row.metadata.get(field.name()).filter(|value| !value.is_null())).collect();
            let (array, lost) = build::column(&values, field.data_type()).map_err(unfit)?;
            arrays.push(array);
            let mut lost = lost.into_iter().peekable();
            for (at, row) in rows.iter().enumerate() {
                if lost.next_if_eq(&at).is_none() && present(row) {
                    typed[at].push(field.name());
                }
            }
        }
        let rest: Vec<Option<String>> =
            rows.iter().zip(&typed).map(|(row, typed)| rest(&row.metadata, typed)).collect();
        match rest.iter().position(Option::is_some) {
            _ if *json => arrays.push(Arc::new(StringArray::from(rest))),
            None => {}
            Some(at) => {
                let id = &rows[at].id;
                return Err(Error::invalid(format!("the metadata of document `{id}` do not fit their columns")));
            }
        }
        Ok(arrays)
    }

    fn chunks(&self, rows: &[Row]) -> Result<ArrayRef> {
        let all = || rows.iter().flat_map(|row| &row.chunks);
        let number = |number: fn(&EmbeddedChunk) -> usize| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(all().map(|chunk| number(chunk) as i64)))
        };
        let mut columns = vec![
            number(|chunk| chunk.start),
            number(|chunk| chunk.end),
            texts(all().map(|chunk| chunk.heading.as_str())),
            texts(all().map(|chunk| chunk.digest.as_str())),
        ];
        for column in &self.layout.chunk_vectors {
            let vectors = all().map(|chunk| chunk.vectors.get(&column.space).map(Vec::as_slice));
            columns.push(build::vectors(vectors, column.dims).map_err(unfit)?);
        }
        let count = all().count();
        let chunks =
            StructArray::try_new_with_length(self.layout.chunk_fields(), columns, None, count).map_err(unfit)?;
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.chunks.len()));
        let field = Arc::new(self.layout.chunk_field());
        Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(chunks), None).map_err(unfit)?))
    }
}

/// What of a document's metadata the columns `typed` do not say, as JSON; `None` where they say all.
fn rest(metadata: &Map<String, Value>, typed: &[&str]) -> Option<String> {
    let others = metadata.keys().map(String::as_str).filter(|name| !typed.contains(name));
    // As it is read: JSON first, then the columns.
    let read = others.clone().chain(typed.iter().copied());
    if !read.eq(metadata.keys().map(String::as_str)) {
        return Some(Value::Object(metadata.clone()).to_string());
    }
    let others: Map<String, Value> = others.map(|name| (name.to_owned(), metadata[name].clone())).collect();
    Some(others).filter(|others| !others.is_empty()).map(|others| Value::Object(others).to_string())
}

fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

fn unfit(error: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the rows cannot be written as columns: {error}"))
}

/// Writes batches in one of the formats.
pub(super) struct BatchWriter<W: Write + Send>(Inner<W>);

enum Inner<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Arrow(FileWriter<W>),
    ArrowStream(StreamWriter<W>),
}

impl<W: Write + Send> BatchWriter<W> {
    /// Begins; the columns at the paths `plain` have no dictionary, because hardly a value comes twice.
    pub(super) fn new(out: W, format: TableFormat, schema: &SchemaRef, plain: &[Vec<&str>]) -> Result<Self> {
        Ok(Self(match format {
            TableFormat::Parquet => {
                let properties = plain.iter().fold(parquet_properties(schema), without_dictionary).build();
                let writer = ArrowWriter::try_new(out, Arc::clone(schema), Some(properties)).map_err(failed)?;
                Inner::Parquet(Box::new(writer))
            }
            TableFormat::Arrow => {
                let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
                let options = options.map_err(failed)?;
                Inner::Arrow(FileWriter::try_new_with_options(out, schema, options).map_err(failed)?)
            }
            TableFormat::ArrowStream => Inner::ArrowStream(StreamWriter::try_new(out, schema).map_err(failed)?),
        }))
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.0 {
            Inner::Parquet(writer) => writer.write(batch).map_err(failed),
            Inner::Arrow(writer) => writer.write(batch).map_err(failed),
            Inner::ArrowStream(writer) => {
                writer.write(batch).map_err(failed)?;
                // Whoever reads a stream waits for it.
                writer.flush().map_err(failed)
            }
        }
    }

    pub(super) fn finish(self) -> Result<W> {
        match self.0 {
            Inner::Parquet(writer) => writer.into_inner().map_err(failed),
            Inner::Arrow(mut writer) => {
                writer.finish().map_err(failed)?;
                writer.into_inner().map_err(failed)
            }
            Inner::ArrowStream(mut writer) => {
                writer.finish().map_err(failed)?;
                writer.into_inner().map_err(failed)
            }
        }
    }
}

/// An error of a writer is one of the disk below it: what the rows are was looked at before.
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<std::io::Error>() {
            return Error::io("the table", std::io::Error::new(io.kind(), io.to_string()));
        }
        cause = this.source();
    }
    Error::io("the table", std::io::Error::other(error.to_string()))
}

/// The schema's metadata stand in the file's own, too, where tools look that know nothing of Arrow.
fn parquet_properties(schema: &Schema) -> WriterPropertiesBuilder {
    let metadata = schema.metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_created_by(concat!("quiverdb version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(metadata))
}

fn without_dictionary(properties: WriterPropertiesBuilder, path: &Vec<&str>) -> WriterPropertiesBuilder {
    let path = ColumnPath::new(path.iter().map(|part| (*part).to_owned()).collect());
    properties
        .set_column_dictionary_enabled(path.clone(), false)
        .set_column_statistics_enabled(path, EnabledStatistics::None)
}
