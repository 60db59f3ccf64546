//! May the decoder of Parquet read this page?
//!
//! Stands between the file and the `parquet` crate: no page header reaches the crate before it was looked at here. A page
//! says itself how large it becomes, and a batch of rows may need many; both are bounded, so that a file of some kilobytes
//! cannot take gigabytes.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::basic::{Compression, Type};
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};

use super::thrift::{PageHeader, page_header};

/// The largest page, before and after decompression. Writers make them of a mebibyte, unless told otherwise.
const PAGE_BYTES_MAX: i64 = 256 << 20;
/// What the pages that one batch of rows is decoded from may take.
const BATCH_BYTES_MAX: u64 = 384 << 20;
/// A page's header with the statistics in it.
const HEADER_BYTES_MAX: usize = 16 << 20;
/// Deflate makes no more of a byte.
const GZIP_RATIO: u64 = 1_032;
/// Encodings, as numbered in `parquet.thrift`.
const DELTA_BINARY_PACKED: i64 = 5;
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;
/// The old framing of LZ4 is decoded without a bound; a byte of it becomes up to 255.
const LZ4_BYTES_MAX: u64 = 2 << 20;

/// The pages of a file, each looked at before it is handed out. Clones share the file and the budget.
#[derive(Clone)]
pub(super) struct Pages(Arc<Shared>);

struct Shared {
    file: Mutex<File>,
    length: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The column chunks of the row group at hand.
    chunks: Vec<Chunk>,
    /// Bodies whose headers were seen: where they begin, and what they are.
    bodies: Vec<Body>,
    /// What the batch at hand has taken.
    taken: u64,
    /// Whether it was refused for that.
    exhausted: bool,
}

/// A column in a row group.
struct Chunk {
    start: u64,
    end: u64,
    rows: i64,
    codec: Compression,
    /// Bytes of a decoded value of a nested column; of others only as many are decoded as a batch has rows.
    nested: Option<u64>,
    /// Bytes that an entry of a dictionary takes at least.
    entry: i64,
    /// What the crate needs to unpack a page of it; `None` in tests.
    metadata: Option<Arc<ColumnChunkMetaData>>,
}

struct Body {
    start: u64,
    /// Where its header begins.
    page: u64,
    metadata: Option<Arc<ColumnChunkMetaData>>,
    header: PageHeader,
    codec: Compression,
    cost: u64,
}

impl Pages {
    pub(super) fn new(file: File) -> std::io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self(Arc::new(Shared { file: Mutex::new(file), length, state: Mutex::default() })))
    }

    /// Reads some bytes as they are.
    pub(super) fn bytes(&self, start: u64, length: usize) -> std::io::Result<Vec<u8>> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.0.length) {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ends too early"));
        }
        let mut file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// From now on the pages of this row group may be read.
    pub(super) fn open_group(&self, group: &RowGroupMetaData) -> Result<()> {
        let chunks = group.columns().iter().map(|column| {
            let kind = column.column_descr();
            let width = match column.column_type() {
                Type::BOOLEAN => 1,
                Type::INT32 | Type::FLOAT => 4,
                Type::INT64 | Type::DOUBLE => 8,
                Type::INT96 => 12,
                Type::BYTE_ARRAY => 16,
                Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(kind.type_length()).unwrap_or(0),
            };
            let entry = if column.column_type() == Type::BYTE_ARRAY { 4 } else { width as i64 };
            // Levels take two bytes each.
            let nested = (kind.max_rep_level() > 0).then_some(width + 4);
            let (start, length) = column.byte_range();
            let (codec, rows) = (column.compression(), group.num_rows());
            let (end, metadata) = (start.saturating_add(length), Some(Arc::new(column.clone())));
            Ok(Chunk { start, end, rows, codec, nested, entry, metadata })
        });
        let chunks = chunks.collect::<Result<Vec<_>>>()?;
        *self.state() = State { chunks, ..State::default() };
        Ok(())
    }

    /// Begins to count what a batch takes.
    pub(super) fn begin_batch(&self) {
        let mut state = self.state();
        state.taken = 0;
        state.exhausted = false;
    }

    /// Whether the batch at hand was refused because it would take too much; fewer rows at a time may do.
    pub(super) fn exhausted(&self) -> bool {
        self.state().exhausted
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and judges the header of the page at `start`, and returns its bytes.
    fn header(&self, start: u64) -> Result<Vec<u8>> {
        let mut length = 4 << 10;
        let (bytes, header) = loop {
            let left = self.0.length.saturating_sub(start);
            let mut bytes = self.bytes(start, usize::try_from(left).unwrap_or(usize::MAX).min(length))?;
            match page_header(&bytes).map_err(|flaw| refused(start, flaw))? {
                Some(header) => {
                    // Nothing behind it is taken for a part of it.
                    bytes.truncate(header.length);
                    break (bytes, header);
                }
                None if bytes.len() < length || length >= HEADER_BYTES_MAX => {
                    return Err(refused(start, "its header ends too early"));
                }
                None => length *= 16,
            }
        };
        let mut state = self.state();
        let chunk = state.chunks.iter().find(|chunk| (chunk.start..chunk.end).contains(&start));
        let body = judge(start, &header, chunk.ok_or_else(|| refused(start, "it is outside of its column"))?)?;
        state.bodies.push(body);
        Ok(bytes)
    }

    fn is_body(&self, start: u64) -> bool {
        self.state().bodies.iter().any(|body| body.start == start)
    }

    /// Takes what a page needs from the budget of the batch.
    fn charge(&self, start: u64) -> Result<Option<Body>> {
        let mut state = self.state();
        let Some(at) = state.bodies.iter().position(|body| body.start == start) else { return Ok(None) };
        let body = state.bodies.swap_remove(at);
        self.take(&mut state, start, body.cost)?;
        Ok(Some(body))
    }

    fn take(&self, state: &mut State, start: u64, cost: u64) -> Result<()> {
        state.taken = state.taken.saturating_add(cost);
        if state.taken > BATCH_BYTES_MAX {
            state.exhausted = true;
            return Err(refused(start, format!("a batch of rows takes more than {} MiB", BATCH_BYTES_MAX >> 20)));
        }
        Ok(())
    }

    /// Looks into a page of delta-encoded values, unpacked by the crate itself.
    fn look_into(&self, body: &Body) -> Result<()> {
        let Some(metadata) = &body.metadata else { return Ok(()) };
        let column = metadata.column_descr();
        let size = i64::try_from(body.header.length).unwrap_or(i64::MAX).saturating_add(body.header.compressed);
        let location = PageLocation {
            offset: i64::try_from(body.page).unwrap_or(i64::MAX),
            compressed_page_size: i32::try_from(size).map_err(|_| refused(body.page, "it is too large"))?,
            first_row_index: 0,
        };
        let raw = Arc::new(Raw(self.clone()));
        let mut reader = SerializedPageReader::new(raw, metadata, usize::MAX >> 1, Some(vec![location]))?;
        if metadata.byte_range().0 != body.page {
            // What lies before it is taken for a dictionary.
            reader.skip_next_page()?;
        }
        let page = reader.get_next_page()?.ok_or_else(|| refused(body.page, "it is empty"))?;
        let bytes = page.buffer();
        let levels = match &page {
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                def_levels_byte_len.saturating_add(*rep_levels_byte_len) as usize
            }
            Page::DataPage { .. } => {
                let kinds = [column.max_rep_level(), column.max_def_level()];
                kinds.iter().filter(|most| **most > 0).try_fold(0_usize, |at, _| {
                    let length = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
                    let length = length.ok_or_else(|| refused(body.page, "its levels end too early"))?;
                    Ok::<_, ParquetError>(at.saturating_add(4).saturating_add(u32::from_le_bytes(*length) as usize))
                })?
            }
            Page::DictionaryPage { .. } => return Ok(()),
        };
        let values = bytes.get(levels..).ok_or_else(|| refused(body.page, "its levels end too early"))?;
        let count = body.header.values as u64;
        let with_prefixes = body.header.encoding == DELTA_BYTE_ARRAY;
        let unpacked = super::delta::check(values, count, with_prefixes).map_err(|flaw| refused(body.page, flaw))?;
        self.take(&mut self.state(), body.page, unpacked)
    }
}

fn refused(start: u64, what: impl std::fmt::Display) -> ParquetError {
    ParquetError::General(format!("page at byte {start}: {what}"))
}

fn judge(start: u64, header: &PageHeader, chunk: &Chunk) -> Result<Body> {
    let PageHeader { kind, uncompressed, compressed, values, levels, length, .. } = *header;
    if ![0, 2, 3].contains(&kind) {
        return Err(refused(start, format!("it is of kind {kind}, which holds no rows")));
    }
    let body = start + length as u64;
    let room = i64::try_from(chunk.end.saturating_sub(body)).unwrap_or(i64::MAX);
    if !(0..=room).contains(&compressed) {
        return Err(refused(start, format!("it claims {compressed} bytes; its column has {room} left")));
    }
    if !(0..=PAGE_BYTES_MAX).contains(&uncompressed) || compressed > PAGE_BYTES_MAX {
        let most = PAGE_BYTES_MAX >> 20;
        return Err(refused(
            start,
            format!("it claims {uncompressed} bytes; {most} MiB are the most. Write the file with smaller pages"),
        ));
    }
    if values < 0 || levels > uncompressed || levels > compressed {
        return Err(refused(start, format!("it claims {values} values and {levels} bytes of levels")));
    }
    let is_dictionary = kind == 2;
    if is_dictionary && values.saturating_mul(chunk.entry.max(1)) > uncompressed {
        return Err(refused(start, format!("it claims a dictionary of {values} entries in {uncompressed} bytes")));
    }
    if !is_dictionary && chunk.nested.is_none() && values > chunk.rows {
        return Err(refused(start, format!("it claims {values} values; its row group has {} rows", chunk.rows)));
    }
    let decoded = if is_dictionary { 0 } else { (values as u64).saturating_mul(chunk.nested.unwrap_or(0)) };
    let cost = (uncompressed as u64).saturating_add(decoded);
    let metadata = chunk.metadata.clone();
    Ok(Body { start: body, page: start, metadata, header: *header, codec: chunk.codec, cost })
}

/// Decoders that decompress to the end whatever the header says are tried out first where that could be much.
fn try_out(start: u64, body: &[u8], header: &PageHeader, codec: Compression) -> Result<()> {
    let claimed = header.uncompressed as u64;
    let packed = body.get(header.levels as usize..).unwrap_or_default();
    if header.plain || packed.is_empty() {
        return Ok(());
    }
    let unpacked = match codec {
        Compression::GZIP(_) if packed.len() as u64 * GZIP_RATIO > PAGE_BYTES_MAX as u64 => {
            count(flate2::read::MultiGzDecoder::new(packed), claimed)
        }
        Compression::BROTLI(_) => count(brotli::Decompressor::new(packed, 4096), claimed),
        Compression::LZ4 if packed.len() as u64 > LZ4_BYTES_MAX => {
            let most = LZ4_BYTES_MAX >> 20;
            return Err(refused(
                start,
                format!("more than {most} MiB in the old framing of LZ4; write it with LZ4_RAW"),
            ));
        }
        _ => return Ok(()),
    };
    if unpacked > claimed {
        return Err(refused(start, format!("it claims {claimed} bytes and unpacks to more")));
    }
    Ok(())
}

/// The bytes of a stream, counted no further than one beyond `most`.
fn count(stream: impl Read, most: u64) -> u64 {
    // What does not unpack at all, the crate will say.
    std::io::copy(&mut stream.take(most + 1), &mut std::io::sink()).unwrap_or(0)
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.length
    }
}

impl ChunkReader for Pages {
    type T = Cursor<Vec<u8>>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        // Asked for where a header is known already, nothing is read.
        let bytes = if self.is_body(start) { Vec::new() } else { self.header(start)? };
        Ok(Cursor::new(bytes))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let page = self.charge(start)?;
        let bytes = self.bytes(start, length).map_err(|error| refused(start, error))?;
        if let Some(body) = page {
            try_out(start, &bytes, &body.header, body.codec)?;
            let is_data = body.header.kind != 2;
            if is_data
                && [DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY].contains(&body.header.encoding)
            {
                self.look_into(&body)?;
            }
        }
        Ok(bytes.into())
    }
}

/// The bytes of a file as they are.
struct Raw(Pages);

impl Length for Raw {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Raw {
    type T = Cursor<Vec<u8>>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Err(refused(start, "no page was asked for here"))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        Ok(self.0.bytes(start, length).map_err(|error| refused(start, error))?.into())
    }
}

/// Looks whether the column chunks of a file lie in it.
pub(super) fn check_chunks(metadata: &ParquetMetaData, length: u64) -> std::result::Result<(), String> {
    let mut rows = 0_i64;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        if group.num_rows() < 0 {
            return Err(format!("row group {number} claims {} rows", group.num_rows()));
        }
        rows = rows.saturating_add(group.num_rows());
        for column in group.columns() {
            let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let size = column.compressed_size();
            let end = start.checked_add(size).and_then(|end| u64::try_from(end).ok());
            if start < 0 || size < 0 || end.is_none_or(|end| end > length) {
                let name = column.column_path();
                return Err(format!(
                    "row group {number}, column {name}: {size} bytes from byte {start} on, in a file of {length}"
                ));
            }
        }
    }
    let claimed = metadata.file_metadata().num_rows();
    if claimed != rows {
        return Err(format!("it claims {claimed} rows, and its row groups have {rows}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use super::*;

    fn chunk() -> Chunk {
        Chunk {
            start: 4,
            end: 10_004,
            rows: 100,
            codec: Compression::UNCOMPRESSED,
            nested: None,
            entry: 4,
            metadata: None,
        }
    }

    fn header() -> PageHeader {
        PageHeader { uncompressed: 800, compressed: 800, values: 100, length: 20, ..PageHeader::default() }
    }

    fn flaw(header: PageHeader, chunk: &Chunk) -> String {
        judge(4, &header, chunk).err().map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn a_page_that_claims_more_than_there_can_be_is_refused() {
        assert_eq!(flaw(header(), &chunk()), "");
        for (header, what) in [
            (PageHeader { compressed: 9_981, ..header() }, "its column has 9980 left"),
            (PageHeader { compressed: -1, ..header() }, "it claims -1 bytes"),
            (PageHeader { uncompressed: 300 << 20, ..header() }, "256 MiB are the most"),
            (PageHeader { uncompressed: -5, ..header() }, "it claims -5 bytes"),
            (PageHeader { values: 101, ..header() }, "101 values; its row group has 100 rows"),
            (PageHeader { values: -1, ..header() }, "it claims -1 values"),
            (PageHeader { levels: 801, ..header() }, "801 bytes of levels"),
            (PageHeader { kind: 2, values: 201, ..header() }, "a dictionary of 201 entries in 800 bytes"),
        ] {
            let flaw = flaw(header, &chunk());
            assert!(flaw.contains(what), "{flaw}, and not {what}");
        }
    }

    #[test]
    fn a_page_of_lists_costs_what_it_becomes() {
        let nested = Chunk { nested: Some(12), ..chunk() };
        let many = PageHeader { values: 1 << 30, ..header() };
        assert_eq!(judge(4, &many, &nested).unwrap().cost, (12 << 30) + 800);
        assert_eq!(judge(4, &header(), &chunk()).unwrap().cost, 800);
    }

    #[test]
    fn a_page_that_unpacks_to_more_than_it_claims_is_refused() {
        let mut packed = Vec::new();
        let zeros = vec![0; 1 << 20];
        brotli::CompressorWriter::new(&mut packed, 4096, 3, 22).write_all(&zeros).unwrap();
        let codec = Compression::BROTLI(parquet::basic::BrotliLevel::default());
        let claims = |uncompressed| PageHeader { uncompressed, ..PageHeader::default() };
        assert!(try_out(0, &packed, &claims(1 << 20), codec).is_ok());
        let error = try_out(0, &packed, &claims(1 << 10), codec).unwrap_err().to_string();
        assert!(error.contains("it claims 1024 bytes and unpacks to more"), "{error}");
    }
}
