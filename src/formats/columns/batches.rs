//! Which batches of rows are in this file of Parquet or Arrow?
//!
//! Invariants: one batch is in memory at a time, of so many rows as take a few mebibytes; no decoder sees bytes that were
//! not looked at before (`pages`, `ipc`); a panic of a decoder is an error of its file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::guard::{damaged, guarded};
use super::ipc::Ipc;
use super::pages::{Pages, check_chunks};
use super::thrift::check_footer;
use crate::{Error, Result};

/// A batch should take about so much.
const BATCH_BYTES: u64 = 8 << 20;
/// And has no more rows than this.
const BATCH_ROWS_MAX: u64 = 4_096;
/// The largest footer of a Parquet file.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// Values in lists of fixed size in one row.
const FIXED_VALUES_MAX: u64 = 1 << 22;

/// The batches of a file, in order.
pub type BatchIterator = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Opens a Parquet file or one of Arrow IPC (file or stream): its schema, and its batches in order. Strings and bytes come
/// as views. After an error nothing more comes.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; [`Error::InvalidInput`] where it is damaged, of another kind, or claims
/// more than is sensible.
pub fn open(path: &Path) -> Result<(SchemaRef, BatchIterator)> {
    let mut batches = Batches::open(path)?;
    let mut failed = false;
    let schema = Arc::clone(batches.schema());
    let next = move || {
        if failed {
            return None;
        }
        let batch = batches.next_batch();
        failed = matches!(batch, Some(Err(_)));
        batch
    };
    Ok((schema, Box::new(std::iter::from_fn(next))))
}

/// The batches of a file, from any row on.
pub(super) enum Batches {
    Parquet(Box<Parquet>),
    Ipc(Box<Ipc>),
}

impl Batches {
    /// Opens a file by its first bytes.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, viewed)
    }

    /// Opens a file for whoever needs its types as they are; [`Batches::types`] says them. Only the texts and bytes of the
    /// columns themselves come as views, in which a dictionary's long entry is but once in memory.
    pub(super) fn open_typed(path: &Path) -> Result<Self> {
        Self::open_with(path, |field| match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => viewed(field),
            _ => Arc::clone(field),
        })
    }

    fn open_with(path: &Path, viewed: fn(&FieldRef) -> FieldRef) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
        let mut magic = [0; 8];
        let read = file.by_ref().take(8).read(&mut magic).map_err(|error| Error::io(path, error))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| Error::io(path, error))?;
        if is_parquet(&magic[..read]) {
            return Ok(Self::Parquet(Box::new(Parquet::open(path, file, viewed)?)));
        }
        if is_ipc(&magic[..read]) {
            return Ok(Self::Ipc(Box::new(Ipc::open(path, file)?)));
        }
        Err(Error::invalid(format!("{} is neither Parquet nor Arrow IPC by its first bytes", path.display())))
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        match self {
            Self::Parquet(parquet) => parquet.metadata.schema(),
            Self::Ipc(ipc) => ipc.schema(),
        }
    }

    /// The schema without the views that are made here.
    pub(super) fn types(&self) -> &SchemaRef {
        match self {
            Self::Parquet(parquet) => &parquet.types,
            Self::Ipc(ipc) => ipc.schema(),
        }
    }

    /// All rows, where the file says so.
    pub(super) fn rows(&self) -> Option<u64> {
        match self {
            Self::Parquet(parquet) => Some(parquet.rows),
            Self::Ipc(_) => None,
        }
    }

    /// Goes on after so many rows from the beginning. Cheap: what lies before is not decoded, but for the rest of a page.
    pub(super) fn skip_to(&mut self, rows: u64) -> Result<()> {
        match self {
            Self::Parquet(parquet) => parquet.skip_to(rows),
            Self::Ipc(ipc) => ipc.skip_to(rows),
        }
    }

    pub(super) fn next_batch(&mut self) -> Option<Result<RecordBatch>> {
        match self {
            Self::Parquet(parquet) => parquet.next_batch().transpose(),
            Self::Ipc(ipc) => ipc.next_batch().transpose(),
        }
    }
}

/// Whether a file that begins so is Parquet.
pub(super) fn is_parquet(head: &[u8]) -> bool {
    head.starts_with(b"PAR1") || head.starts_with(b"PARE")
}

/// Whether a file that begins so is Arrow IPC: the magic of a file, or the mark before a stream's first message.
pub(super) fn is_ipc(head: &[u8]) -> bool {
    head.starts_with(b"ARROW1") || head.starts_with(&[0xff, 0xff, 0xff, 0xff])
}

/// A Parquet file, row group by row group.
pub(super) struct Parquet {
    place: String,
    pages: Pages,
    metadata: ArrowReaderMetadata,
    types: SchemaRef,
    rows: u64,
    group: usize,
    /// Rows of the group that were handed out.
    taken: u64,
    reader: Option<ParquetRecordBatchReader>,
    /// At most so many rows a batch; fewer after a batch took too much.
    rows_max: u64,
}

impl Parquet {
    fn open(path: &Path, file: File, viewed: fn(&FieldRef) -> FieldRef) -> Result<Self> {
        let place = path.display().to_string();
        let pages = Pages::new(file).map_err(|error| Error::io(path, error))?;
        let (metadata, types) = guarded(&place, || {
            let metadata = Arc::new(footer(&place, &pages)?);
            check_chunks(&metadata, parquet::file::reader::Length::len(&pages))
                .map_err(|flaw| damaged(&place, flaw))?;
            with_views(&place, &metadata, viewed)
        })?;
        let wide = metadata.schema().fields().iter().map(|field| fixed_values(field.data_type())).max().unwrap_or(0);
        if wide > FIXED_VALUES_MAX {
            return Err(damaged(
                &place,
                format!("a row claims a list of {wide} values; {FIXED_VALUES_MAX} are the most"),
            ));
        }
        let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        Ok(Self { place, pages, metadata, types, rows, group: 0, taken: 0, reader: None, rows_max: BATCH_ROWS_MAX })
    }

    fn skip_to(&mut self, rows: u64) -> Result<()> {
        self.reader = None;
        (self.group, self.taken) = (0, rows);
        for group in self.metadata.metadata().row_groups() {
            let in_group = u64::try_from(group.num_rows()).unwrap_or(0);
            if self.taken < in_group {
                return Ok(());
            }
            self.taken -= in_group;
            self.group += 1;
        }
        match self.taken {
            0 => Ok(()),
            beyond => Err(damaged(&self.place, format!("it should have {beyond} more rows than it has"))),
        }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some(group) = self.metadata.metadata().row_groups().get(self.group) else { return Ok(None) };
            let in_group = u64::try_from(group.num_rows()).unwrap_or(0);
            if self.taken >= in_group {
                self.next_group();
                continue;
            }
            let place = format!("{}, row group {}", self.place, self.group);
            match guarded(&place, || self.decode(&place)) {
                Ok(Some(batch)) => {
                    self.taken += batch.num_rows() as u64;
                    return Ok(Some(batch));
                }
                Ok(None) => {
                    let taken = self.taken;
                    return Err(damaged(&place, format!("it claims {in_group} rows and has {taken}")));
                }
                Err(_) if self.pages.exhausted() && self.rows_max > 1 => {
                    self.rows_max = (self.rows_max / 8).max(1);
                    self.reader = None;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn next_group(&mut self) {
        self.group += 1;
        (self.taken, self.reader, self.rows_max) = (0, None, BATCH_ROWS_MAX);
    }

    fn decode(&mut self, place: &str) -> Result<Option<RecordBatch>> {
        self.pages.begin_batch();
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let group = self.metadata.metadata().row_group(self.group);
                self.pages.open_group(group).map_err(|error| damaged(place, error))?;
                let taken = usize::try_from(self.taken).unwrap_or(usize::MAX);
                let rows = batch_rows(group, self.metadata.schema()).min(self.rows_max);
                let reader =
                    ParquetRecordBatchReaderBuilder::new_with_metadata(self.pages.clone(), self.metadata.clone())
                        .with_row_groups(vec![self.group])
                        .with_batch_size(usize::try_from(rows).unwrap_or(1))
                        .with_offset(taken)
                        .build()
                        .map_err(|error| damaged(place, error))?;
                self.reader.insert(reader)
            }
        };
        match reader.next() {
            Some(Ok(batch)) if batch.num_rows() == 0 => Ok(None),
            Some(batch) => batch.map(Some).map_err(|error| damaged(place, error)),
            None => Ok(None),
        }
    }
}

/// Reads the footer, once it is known to be harmless.
fn footer(place: &str, pages: &Pages) -> Result<ParquetMetaData> {
    let wrong = |what: &str| damaged(place, what);
    let length = parquet::file::reader::Length::len(pages);
    let tail_at = length.checked_sub(8).filter(|at| *at >= 4).ok_or_else(|| wrong("it is too short for a footer"))?;
    let tail = pages.bytes(tail_at, 8).map_err(|error| damaged(place, error))?;
    match &tail[4..] {
        b"PAR1" => {}
        b"PARE" => return Err(wrong("its footer is encrypted")),
        _ => return Err(wrong("it has no footer: it was cut off, or is still being written")),
    }
    let size = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    let at = tail_at.checked_sub(size).filter(|at| *at >= 4);
    let at = at.ok_or_else(|| damaged(place, format!("it claims a footer of {size} bytes")))?;
    if size > FOOTER_BYTES_MAX {
        return Err(damaged(place, format!("a footer of {size} bytes; {FOOTER_BYTES_MAX} are the most")));
    }
    let bytes = pages.bytes(at, size as usize).map_err(|error| damaged(place, error))?;
    check_footer(&bytes).map_err(|flaw| damaged(place, format!("footer: {flaw}")))?;
    ParquetMetaDataReader::decode_metadata(&bytes).map_err(|error| damaged(place, format!("footer: {error}")))
}

/// The file's schema with strings and bytes as views: of these a dictionary's entry is in memory once, however often it
/// occurs. And the schema as it is without.
fn with_views(
    place: &str,
    metadata: &Arc<ParquetMetaData>,
    viewed: fn(&FieldRef) -> FieldRef,
) -> Result<(ArrowReaderMetadata, SchemaRef)> {
    let try_new = |options| ArrowReaderMetadata::try_new(Arc::clone(metadata), options);
    // A hint that does not fit is no reason to refuse the data.
    let plain = guarded(place, || try_new(ArrowReaderOptions::new()).map_err(|error| damaged(place, error)));
    let plain = match plain {
        Ok(plain) => plain,
        Err(_) => {
            try_new(ArrowReaderOptions::new().with_skip_arrow_metadata(true)).map_err(|error| damaged(place, error))?
        }
    };
    let fields: Fields = plain.schema().fields().iter().map(viewed).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, plain.schema().metadata().clone()));
    let types = Arc::clone(plain.schema());
    Ok((try_new(ArrowReaderOptions::new().with_schema(schema)).unwrap_or(plain), types))
}

fn viewed(field: &FieldRef) -> FieldRef {
    let kind = viewed_type(field.data_type());
    Arc::new(Field::clone(field).with_data_type(kind))
}

fn viewed_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, value) => viewed_type(value),
        DataType::List(item) => DataType::List(viewed(item)),
        DataType::LargeList(item) => DataType::LargeList(viewed(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(viewed(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(viewed).collect()),
        DataType::Map(entries, sorted) => DataType::Map(viewed(entries), *sorted),
        other => other.clone(),
    }
}

/// The type without the views that only this reader made.
pub(super) fn plain_type(kind: &DataType) -> DataType {
    let plain =
        |field: &FieldRef| -> FieldRef { Arc::new(Field::clone(field).with_data_type(plain_type(field.data_type()))) };
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::List(item) => DataType::List(plain(item)),
        DataType::LargeList(item) => DataType::LargeList(plain(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain(entries), *sorted),
        other => other.clone(),
    }
}

/// Values that a row has in lists of fixed size, whether it is null or not.
fn fixed_values(kind: &DataType) -> u64 {
    match kind {
        DataType::FixedSizeList(item, size) => {
            u64::try_from(*size).unwrap_or(0).saturating_mul(fixed_values(item.data_type()).max(1))
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => fixed_values(item.data_type()),
        DataType::Struct(fields) => {
            fields.iter().map(|field| fixed_values(field.data_type())).fold(0, u64::saturating_add)
        }
        DataType::FixedSizeBinary(size) => u64::try_from(*size).unwrap_or(0) / 8,
        _ => 1,
    }
}

/// How many rows of this group take about [`BATCH_BYTES`].
fn batch_rows(group: &parquet::file::metadata::RowGroupMetaData, schema: &Schema) -> u64 {
    let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
    let stored = u64::try_from(group.total_byte_size()).unwrap_or(u64::MAX) / rows;
    // Decoded values; of lists as many as there are in the mean.
    let values = |column: &parquet::file::metadata::ColumnChunkMetaData| {
        16 * (u64::try_from(column.num_values()).unwrap_or(u64::MAX) / rows)
    };
    let listed = group.columns().iter().map(values).fold(0, u64::saturating_add);
    let fixed = schema.fields().iter().map(|field| fixed_values(field.data_type())).fold(0, u64::saturating_add);
    let row = stored.saturating_add(listed).saturating_add(fixed.saturating_mul(8)).max(1);
    (BATCH_BYTES / row).clamp(1, BATCH_ROWS_MAX)
}
