//! A table in, the same table with a column of vectors out?
//!
//! Rows keep their order, and all columns their values and types. Invariant: one batch is in memory at a time.

use std::fs::File;
use std::io::{BufRead, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::batches::Batches;
use super::build;
use super::guard::{damaged, guarded};
use super::write::{BatchWriter, TableFormat};
use crate::{Error, Result};

/// A batch should take about so many bytes, and has no more rows than this.
const BATCH_BYTES: i64 = 8 << 20;
const BATCH_ROWS_MAX: i64 = 4_096;

/// The batches of a table, in order.
pub(crate) struct Table {
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send>,
}

impl Table {
    /// Opens Parquet or Arrow IPC, by the first bytes.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::InvalidInput`] where it is neither, or damaged.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
        let mut magic = [0; 6];
        let read = file.read(&mut magic).map_err(|error| Error::io(path, error))?;
        file.rewind().map_err(|error| Error::io(path, error))?;
        let name = path.display().to_string();
        guarded(&name, || match &magic[..read] {
            b"ARROW1" => Self::arrow(file, &name),
            [b'P', b'A', b'R', b'1', ..] => {
                // It compares what the file claims with what it is.
                drop(Batches::open(path)?);
                Self::parquet(file, &name)
            }
            [0xff, 0xff, 0xff, 0xff, ..] => Self::stream(std::io::BufReader::new(file), &name),
            _ => Err(Error::invalid(format!("{name} is neither Parquet nor Arrow IPC"))),
        })
    }

    /// Reads a stream of Arrow IPC.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where it is none.
    pub(crate) fn stream(input: impl Read + Send + 'static, name: &str) -> Result<Self> {
        let reader = guarded(name, || StreamReader::try_new(input, None).map_err(|error| damaged(name, error)))?;
        let name = name.to_owned();
        let schema = reader.schema();
        let batches = reader.map(move |batch| batch.map_err(|error| damaged(&name, error)));
        Ok(Self { schema, batches: Box::new(batches) })
    }

    /// Lines of text, as the column `text`; what is no UTF-8 is read with replacement characters.
    pub(crate) fn lines(mut input: impl BufRead + Send + 'static) -> Self {
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
        let batch_schema = Arc::clone(&schema);
        let next = move || {
            let (mut lines, mut bytes, mut line) = (Vec::new(), 0, Vec::new());
            while (lines.len() as i64) < BATCH_ROWS_MAX && bytes < BATCH_BYTES {
                match input.read_until(b'\n', &mut line) {
                    Ok(0) => break,
                    Ok(read) => bytes += read as i64,
                    Err(error) => return Some(Err(Error::io("stdin", error))),
                }
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                lines.push(String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)).into_owned());
                line.clear();
            }
            let column: ArrayRef = Arc::new(StringArray::from_iter_values(&lines));
            let batch = RecordBatch::try_new(Arc::clone(&batch_schema), vec![column]);
            (!lines.is_empty()).then(|| batch.map_err(|error| damaged("stdin", error)))
        };
        Self { schema, batches: Box::new(std::iter::from_fn(next)) }
    }

    fn arrow(file: File, name: &str) -> Result<Self> {
        let reader = FileReader::try_new_buffered(file, None).map_err(|error| damaged(name, error))?;
        let name = name.to_owned();
        let schema = reader.schema();
        let batches = reader.map(move |batch| batch.map_err(|error| damaged(&name, error)));
        Ok(Self { schema, batches: Box::new(batches) })
    }

    fn parquet(file: File, name: &str) -> Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(name, error))?;
        let schema = Arc::clone(builder.schema());
        let groups = builder.metadata().row_groups();
        let row = |group: &parquet::file::metadata::RowGroupMetaData| group.total_byte_size() / group.num_rows().max(1);
        let widest = groups.iter().map(row).max().unwrap_or(1).max(1);
        let rows = (BATCH_BYTES / widest).clamp(1, BATCH_ROWS_MAX);
        let reader = builder.with_batch_size(rows as usize).build().map_err(|error| damaged(name, error))?;
        let name = name.to_owned();
        let batches = reader.map(move |batch| batch.map_err(|error| damaged(&name, error)));
        Ok(Self { schema, batches: Box::new(batches) })
    }

    /// The column of texts: the one of this name, `text`, or the only one of texts.
    fn text(&self, name: Option<&str>) -> Result<usize> {
        let fields = self.schema.fields();
        let names = |fits: &dyn Fn(&Field) -> bool| {
            let names: Vec<&str> =
                fields.iter().filter(|field| fits(field)).map(|field| field.name().as_str()).collect();
            names
        };
        let is_text = |field: &Field| is_text(field.data_type());
        let texts = names(&is_text);
        let found = match (name, texts.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => only,
            (None, texts) if texts.contains(&"text") => "text",
            (None, _) => {
                let all = names(&|_| true).join("`, `");
                return Err(Error::invalid(format!(
                    "which column is the text? Say --map text=COLUMN; there are `{all}`"
                )));
            }
        };
        match self.schema.index_of(found) {
            Ok(index) if is_text(self.schema.field(index)) => Ok(index),
            Ok(index) => {
                let kind = self.schema.field(index).data_type();
                Err(Error::invalid(format!("column `{found}` is {kind}; the text must be strings")))
            }
            Err(_) => {
                let all = names(&|_| true).join("`, `");
                Err(Error::invalid(format!("there is no column `{found}`; there are `{all}`")))
            }
        }
    }
}

fn is_text(kind: &DataType) -> bool {
    if let DataType::Dictionary(_, values) = kind { values.is_string() } else { kind.is_string() }
}

impl Table {
    /// Hands each row's vector to `row`, in order.
    ///
    /// # Errors
    /// As [`pass`].
    pub(crate) fn each(
        self,
        text: Option<&str>,
        embed: &mut Embed<'_>,
        row: &mut dyn FnMut(Option<&[f32]>) -> Result<()>,
    ) -> Result<Passed> {
        let text = self.text(text)?;
        let (mut passed, mut batches) = (Passed::default(), self.batches);
        while let Some(batch) = guarded("the table", || batches.next().transpose())? {
            let vectors = vectors(&batch, text, embed)?;
            passed.count(&vectors);
            vectors.iter().try_for_each(|vector| row(vector.as_deref()))?;
        }
        Ok(passed)
    }
}

/// How a table with vectors came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) rows: u64,
    /// Rows without a vector.
    pub(crate) nulls: u64,
}

impl Passed {
    fn count(&mut self, vectors: &[Option<Vec<f32>>]) {
        self.rows += vectors.len() as u64;
        self.nulls += vectors.iter().filter(|vector| vector.is_none()).count() as u64;
    }
}

/// What makes the vectors of texts, in their order; `None` where a text has none.
pub(crate) type Embed<'a> = dyn FnMut(&[&str]) -> Result<Vec<Option<Vec<f32>>>> + 'a;

/// Writes `table` with the vectors of its texts as the column `column`. A row whose text is null or blank has none.
///
/// # Errors
/// [`Error::InvalidInput`] for columns that are not there, or are already; whatever reading, writing and the model say.
pub(crate) fn pass<W: Write + Send>(
    table: Table,
    (text, column): (Option<&str>, &str),
    dims: usize,
    (out, format): (W, TableFormat),
    embed: &mut Embed<'_>,
) -> Result<(W, Passed)> {
    let text = table.text(text)?;
    if table.schema.index_of(column).is_ok() {
        return Err(Error::invalid(format!(
            "there is a column `{column}` already; give the vectors another name with --column"
        )));
    }
    let mut fields: Vec<Arc<Field>> = table.schema.fields().iter().map(|field| writable(field, format)).collect();
    fields.push(Arc::new(Field::new(column, build::vector_type(dims), true)));
    let schema = Arc::new(Schema::new_with_metadata(fields, table.schema.metadata().clone()));
    let plain = [vec![column, "list", "item"], vec![table.schema.field(text).name().as_str()]];
    let mut writer = BatchWriter::new(out, format, &schema, &plain)?;
    let (mut passed, mut batches) = (Passed::default(), table.batches);
    while let Some(batch) = guarded("the table", || batches.next().transpose())? {
        let vectors = vectors(&batch, text, embed)?;
        passed.count(&vectors);
        let mut columns = Vec::with_capacity(batch.num_columns() + 1);
        for (column, field) in batch.columns().iter().zip(schema.fields()) {
            let same = column.data_type() == field.data_type();
            let column = if same { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) };
            columns.push(column.map_err(|error| damaged("the table", error))?);
        }
        let made = build::vectors(vectors.iter().map(Option::as_deref), dims);
        columns.push(made.map_err(|error| Error::Embedding(error.to_string()))?);
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|error| damaged("the table", error))?;
        writer.write(&batch)?;
    }
    Ok((writer.finish()?, passed))
}

/// An Arrow file has one dictionary a column for all batches, and batches may come with a dictionary each: there the values
/// are written.
fn writable(field: &Arc<Field>, format: TableFormat) -> Arc<Field> {
    if let (DataType::Dictionary(_, values), TableFormat::Arrow) = (field.data_type(), format) {
        return Arc::new(field.as_ref().clone().with_data_type(values.as_ref().clone()));
    }
    Arc::clone(field)
}

fn vectors(batch: &RecordBatch, text: usize, embed: &mut Embed<'_>) -> Result<Vec<Option<Vec<f32>>>> {
    let texts = cast(batch.column(text), &DataType::LargeUtf8).map_err(|error| damaged("the table", error))?;
    let texts = texts.as_string::<i64>();
    let present = |text: &Option<&str>| text.is_some_and(|text| !text.trim().is_empty());
    let given: Vec<&str> = texts.iter().filter(present).flatten().collect();
    let mut made = if given.is_empty() { Vec::new() } else { embed(&given)? }.into_iter();
    Ok(texts.iter().map(|text| if present(&text) { made.next().flatten() } else { None }).collect())
}
