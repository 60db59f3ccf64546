//! How does a table get vectors without a collection? Rows in, the same rows with a column of vectors out, in order.
//!
//! Stateless, so that any number of processes can do it side by side: a job of Spark or Ray pipes its Arrow batches through.

use std::io::{BufRead, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::target::Target;
use super::{ExportFormat, failed_at};
use crate::embed::{Embedder, NoStatistics};
use crate::formats::columns::TableFormat;
use crate::formats::columns::pass::{Passed, Table, pass};
use crate::{Error, Result};

/// Where a table comes from.
pub enum TableSource {
    /// A file of Parquet or Arrow IPC.
    File(PathBuf),
    /// A stream of Arrow IPC.
    Stream(Box<dyn Read + Send>),
    /// Lines of text: a table with the one column `text`.
    Lines(Box<dyn BufRead + Send>),
}

/// Where a table goes.
pub enum TableTarget {
    /// A file, its format by its name: `.parquet`, `.arrow`, or `.npy` for the vectors alone.
    File(PathBuf),
    /// A stream of Arrow IPC.
    Stream(Box<dyn Write + Send>),
}

/// How a table is embedded.
#[derive(Clone, Debug)]
pub struct EmbedTable {
    /// The column of texts; unset, `text` or the only one of strings.
    pub text: Option<String>,
    /// The name of the new column.
    pub column: String,
    /// Whether the texts are queries.
    pub queries: bool,
    /// Whether a file that is there may be replaced.
    pub overwrite: bool,
}

impl Default for EmbedTable {
    fn default() -> Self {
        Self { text: None, column: "embedding".into(), queries: false, overwrite: false }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EmbedTableReport {
    /// Rows read and written.
    pub rows: u64,
    /// Those that have a vector.
    pub embedded: u64,
    /// Those without, because their text is null or blank, or the model failed on it.
    pub without: u64,
    /// Of these, those on which the model failed.
    pub failed: u64,
    /// What it said first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Texts longer than the model's limit, which were cut.
    pub truncated: u64,
}

/// Embeds the texts of a table and writes it with the vectors as a further column, all others unchanged. Of a row whose
/// text is null, blank, or more than the model can take, the vector is null.
///
/// Cost: the model's; one batch of a few thousand rows is in memory at a time.
///
/// # Errors
/// [`Error::InvalidInput`] where the table has no such column, or is damaged; [`Error::Embedding`] where the model fails on
/// all texts of a batch; [`Error::Io`]. A file is there as a whole or not at all.
pub fn embed_table(
    source: TableSource,
    target: TableTarget,
    embedder: &dyn Embedder,
    options: &EmbedTable,
) -> Result<EmbedTableReport> {
    let table = match source {
        TableSource::File(path) => Table::open(&path)?,
        TableSource::Stream(input) => Table::stream(input, "the stream")?,
        TableSource::Lines(input) => Table::lines(input),
    };
    let mut maker = Maker { embedder, queries: options.queries, report: EmbedTableReport::default() };
    let passed = match target {
        TableTarget::Stream(out) => maker.pass(table, options, out, TableFormat::ArrowStream)?.1,
        TableTarget::File(path) if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy")) => {
            let target = Target::create(&path, options.overwrite)?;
            let (file, passed) = maker.array(table, options, target.file()?).map_err(|error| target.named(error))?;
            target.keep(file)?;
            passed
        }
        TableTarget::File(path) => {
            let format = table_format(&path)?;
            let target = Target::create(&path, options.overwrite)?;
            let (file, passed) =
                maker.pass(table, options, target.file()?, format).map_err(|error| target.named(error))?;
            target.keep(file)?;
            passed
        }
    };
    let Passed { rows, nulls } = passed;
    Ok(EmbedTableReport { rows, embedded: rows - nulls, without: nulls, ..maker.report })
}

fn table_format(path: &std::path::Path) -> Result<TableFormat> {
    match ExportFormat::of(path) {
        Ok(ExportFormat::Parquet) => Ok(TableFormat::Parquet),
        Ok(ExportFormat::Arrow) => Ok(TableFormat::Arrow),
        Ok(ExportFormat::ArrowStream) => Ok(TableFormat::ArrowStream),
        Ok(
            ExportFormat::JsonLines
            | ExportFormat::JsonLinesGzip
            | ExportFormat::JsonLinesZstd
            | ExportFormat::Csv
            | ExportFormat::Tsv,
        )
        | Err(_) => Err(Error::invalid(format!(
            "`{}` does not say what to write: let its name end in .parquet, .arrow, .feather, .arrows or .npy",
            path.display()
        ))),
    }
}

struct Maker<'a> {
    embedder: &'a dyn Embedder,
    queries: bool,
    report: EmbedTableReport,
}

impl Maker<'_> {
    fn pass<W: Write + Send>(
        &mut self,
        table: Table,
        options: &EmbedTable,
        out: W,
        format: TableFormat,
    ) -> Result<(W, Passed)> {
        let dims = self.embedder.spec().dims;
        let columns = (options.text.as_deref(), options.column.as_str());
        pass(table, columns, dims, (out, format), &mut |texts| self.make(texts))
    }

    /// The vectors alone, as an array of numpy: a row without one is all NaN.
    fn array<W: Write + Seek>(
        &mut self,
        table: Table,
        options: &EmbedTable,
        out: BufWriter<W>,
    ) -> Result<(BufWriter<W>, Passed)> {
        let dims = self.embedder.spec().dims;
        let mut array = Npy::new(out, dims)?;
        let passed = table.each(options.text.as_deref(), &mut |texts| self.make(texts), &mut |row| array.row(row))?;
        Ok((array.finish(passed.rows)?, passed))
    }

    fn make(&mut self, texts: &[&str]) -> Result<Vec<Option<Vec<f32>>>> {
        match self.batch(texts) {
            Ok(made) => Ok(made),
            Err(error) if texts.len() == 1 => {
                self.fail(&error);
                Ok(vec![None])
            }
            // One text may be at fault, so each is tried alone; a model that fails on all of them is at fault itself.
            Err(error) => {
                let made: Vec<_> = texts.iter().map(|text| self.batch(&[text])).collect();
                if made.iter().all(Result::is_err) {
                    return Err(error);
                }
                let each = made.into_iter().map(|made| match made {
                    Ok(mut one) => one.pop().flatten(),
                    Err(error) => {
                        self.fail(&error);
                        None
                    }
                });
                Ok(each.collect())
            }
        }
    }

    fn batch(&mut self, texts: &[&str]) -> Result<Vec<Option<Vec<f32>>>> {
        let embeddings = match self.queries {
            true => self.embedder.embed_queries(texts, &NoStatistics)?,
            false => self.embedder.embed_documents(texts)?,
        };
        embeddings.expect(texts.len(), self.embedder.spec())?;
        self.report.truncated += embeddings.truncated as u64;
        let finite = |row: &[f32]| row.iter().all(|number| number.is_finite()).then(|| row.to_vec());
        let made: Vec<_> = embeddings.rows().map(finite).collect();
        for _ in made.iter().filter(|made| made.is_none()) {
            self.fail(&Error::Embedding("the vector has numbers that are not finite".into()));
        }
        Ok(made)
    }

    fn fail(&mut self, error: &Error) {
        self.report.failed += 1;
        self.report.failure.get_or_insert_with(|| error.to_string());
    }
}

/// The bytes that numpy's header takes: its length is written before the number of rows is known.
const NPY_HEADER: usize = 128;

/// An array of numpy, version 1.0.
struct Npy<W: Write + Seek> {
    out: BufWriter<W>,
    dims: usize,
}

impl<W: Write + Seek> Npy<W> {
    fn new(mut out: BufWriter<W>, dims: usize) -> Result<Self> {
        out.write_all(&Self::header(0, dims)).map_err(|error| failed_at("the array", error))?;
        Ok(Self { out, dims })
    }

    fn header(rows: u64, dims: usize) -> Vec<u8> {
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend_from_slice(&((NPY_HEADER - 10) as u16).to_le_bytes());
        header.extend_from_slice(
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dims}), }}").as_bytes(),
        );
        header.resize(NPY_HEADER - 1, b' ');
        header.push(b'\n');
        header
    }

    fn row(&mut self, row: Option<&[f32]>) -> Result<()> {
        let none = vec![f32::NAN; if row.is_none() { self.dims } else { 0 }];
        for number in row.unwrap_or(&none) {
            self.out.write_all(&number.to_le_bytes()).map_err(|error| failed_at("the array", error))?;
        }
        Ok(())
    }

    fn finish(mut self, rows: u64) -> Result<BufWriter<W>> {
        let header = Self::header(rows, self.dims);
        let mut write = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&header)?;
            self.out.flush()
        };
        write().map_err(|error| failed_at("the array", error))?;
        Ok(self.out)
    }
}
