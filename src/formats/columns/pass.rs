//! A table in, the same table with a column of vectors out?
//!
//! Rows keep their order, and all columns their values and types. Invariant: one batch is in memory at a time.

use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_ipc::reader::StreamReader;
use arrow_schema::{DataType, Field, Schema, SchemaRef};

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
    /// Opens Parquet or Arrow IPC, by the first bytes. No decoder sees what was not looked at, as in an import.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::InvalidInput`] where it is neither, or damaged.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut batches = Batches::open_typed(path)?;
        let schema = Arc::clone(batches.types());
        let types = Arc::clone(&schema);
        let (name, mut pieces, mut failed) = (path.display().to_string(), VecDeque::new(), false);
        let next = move || {
            while pieces.is_empty() && !failed {
                match batches.next_batch()? {
                    Ok(batch) => pieces.extend(pieces_of(&batch).into_iter().map(|piece| typed(&piece, &types, &name))),
                    Err(error) => pieces.push_back(Err(error)),
                }
            }
            let piece = pieces.pop_front();
            failed |= matches!(piece, Some(Err(_)));
            piece
        };
        Ok(Self { schema, batches: Box::new(std::iter::from_fn(next)) })
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

/// A batch in pieces that take about [`BATCH_BYTES`] once their views are written out: of one long text that is there a
/// thousand times, each piece has few.
fn pieces_of(batch: &RecordBatch) -> Vec<RecordBatch> {
    let mut bytes = vec![0_i64; batch.num_rows()];
    for column in batch.columns() {
        // The length is the lowest part of a view.
        let views: &[u128] = match column.data_type() {
            DataType::Utf8View => column.as_string_view().views(),
            DataType::BinaryView => column.as_binary_view().views(),
            _ => continue,
        };
        bytes.iter_mut().zip(views).for_each(|(bytes, view)| *bytes += i64::from(*view as u32));
    }
    let (mut pieces, mut begin, mut sum) = (Vec::new(), 0, 0);
    for (row, bytes) in bytes.into_iter().enumerate() {
        if row > begin && sum + bytes > BATCH_BYTES {
            pieces.push(batch.slice(begin, row - begin));
            (begin, sum) = (row, 0);
        }
        sum += bytes;
    }
    pieces.push(batch.slice(begin, batch.num_rows() - begin));
    pieces
}

/// A batch with the types of its file.
fn typed(batch: &RecordBatch, types: &SchemaRef, name: &str) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(types.fields()).map(|(column, field)| {
        let same = column.data_type() == field.data_type();
        if same { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>().map_err(|error| damaged(name, error))?;
    RecordBatch::try_new(Arc::clone(types), columns).map_err(|error| damaged(name, error))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;

    /// A column of sixty texts, in a page without compression.
    fn file(folder: &Path) -> PathBuf {
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..60).map(|n| format!("Text {n}."))));
        let path = folder.join("x.parquet");
        let properties = parquet::file::properties::WriterProperties::builder().set_dictionary_enabled(false).build();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).unwrap();
        writer.write(&RecordBatch::try_new(schema, vec![texts]).unwrap()).unwrap();
        writer.close().unwrap();
        path
    }

    fn rows(path: &Path) -> Result<Passed> {
        let none = &mut |texts: &[&str]| Ok(vec![None; texts.len()]);
        Table::open(path)?.each(None, none, &mut |_| Ok(()))
    }

    #[test]
    fn a_page_that_lies_reaches_no_decoder() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path());
        assert_eq!(rows(&path).unwrap().rows, 60);
        let mut bytes = std::fs::read(&path).unwrap();
        // The number of values is the first field of the header of a data page, which is the fifth of the page's header.
        let at = bytes.windows(3).position(|three| three == [0x2c, 0x15, 120]).unwrap();
        bytes[at + 2] = 126;
        std::fs::write(&path, bytes).unwrap();
        let refused = rows(&path).unwrap_err().to_string();
        assert!(refused.contains("63 values; its row group has 60 rows"), "{refused}");
    }

    #[test]
    fn a_long_text_that_comes_often_is_written_out_piece_by_piece() {
        let long = "x".repeat(3 << 20);
        let texts = arrow_array::StringViewArray::from_iter_values((0..9).map(|_| long.as_str()));
        let schema = Schema::new(vec![Field::new("text", DataType::Utf8View, false)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(texts)]).unwrap();
        let rows: Vec<_> = pieces_of(&batch).iter().map(RecordBatch::num_rows).collect();
        assert_eq!(rows, [2, 2, 2, 2, 1]);
    }
}
