//! Which batches are in this file or stream of Arrow IPC?
//!
//! A stream is read message by message, of a file those that its footer names. Every length that a message claims is
//! compared with the file before the `arrow-ipc` crate allocates for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_ipc::{MessageHeader, root_as_footer, root_as_message};
use arrow_schema::{DataType, Schema, SchemaRef};

use super::guard::{damaged, guarded};
use super::thrift::SCHEMA_DEPTH_MAX;
use crate::{Error, Result};

/// The largest description of a batch or schema.
const METADATA_BYTES_MAX: u64 = 64 << 20;
/// The largest batch, before and after decompression, and all dictionaries together.
const BODY_BYTES_MAX: u64 = 384 << 20;

/// The first and the last bytes of a file.
const MAGIC: &[u8] = b"ARROW1";

/// A file or stream, message by message.
pub(super) struct Ipc {
    place: String,
    file: BufReader<File>,
    /// Where the next message begins.
    at: u64,
    length: u64,
    /// Where the messages of a file begin, dictionaries first; a stream has them one behind the other.
    blocks: Option<Vec<u64>>,
    /// Which of them is next.
    block: usize,
    schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
    dictionary_bytes: HashMap<i64, u64>,
    /// Where the first message after the schema begins.
    first: u64,
    batch: u64,
    /// Rows that are still to be passed over.
    skip: u64,
}

/// The head of a message, and where its body lies.
struct Message {
    head: Vec<u8>,
    body: u64,
}

impl Ipc {
    pub(super) fn open(path: &Path, file: File) -> Result<Self> {
        let place = path.display().to_string();
        let length = file.metadata().map_err(|error| Error::io(path, error))?.len();
        let mut ipc = Self {
            file: BufReader::with_capacity(1 << 16, file),
            at: 0,
            length,
            blocks: None,
            block: 0,
            schema: Arc::new(Schema::empty()),
            dictionaries: HashMap::new(),
            dictionary_bytes: HashMap::new(),
            first: 0,
            batch: 0,
            skip: 0,
            place,
        };
        let place = ipc.place.clone();
        guarded(&place, || ipc.begin())?;
        Ok(ipc)
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Goes back to the beginning, and will pass over so many rows. Batches among them are not decoded.
    pub(super) fn skip_to(&mut self, rows: u64) -> Result<()> {
        (self.at, self.block, self.batch, self.skip) = (self.first, 0, 0, rows);
        self.dictionaries.clear();
        self.dictionary_bytes.clear();
        Ok(())
    }

    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let place = format!("{}, record batch {}", self.place, self.batch);
        guarded(&place, || self.decode(&place))
    }

    /// Reads the schema, which is the first message of a stream and in the footer of a file.
    fn begin(&mut self) -> Result<()> {
        let place = self.place.clone();
        let schema = if self.bytes(0, 8.min(self.length))?.starts_with(MAGIC) {
            self.footer()?
        } else {
            let message = self.message()?.ok_or_else(|| damaged(&place, "it has no schema"))?;
            let head = root_as_message(&message.head).map_err(|error| damaged(&place, error))?;
            let schema = head.header_as_schema().ok_or_else(|| damaged(&place, "its first message is no schema"))?;
            arrow_ipc::convert::try_fb_to_schema(schema).map_err(|error| damaged(&place, error))?
        };
        if schema.fields().iter().any(|field| depth(field.data_type()) > SCHEMA_DEPTH_MAX) {
            return Err(damaged(&place, format!("columns nested more than {SCHEMA_DEPTH_MAX} deep")));
        }
        self.schema = Arc::new(schema);
        self.first = self.at;
        Ok(())
    }

    /// Reads the footer of a file: where its messages are, and the schema.
    fn footer(&mut self) -> Result<Schema> {
        let place = self.place.clone();
        let tail_at = self.length.checked_sub(10).filter(|at| *at >= 8);
        let tail_at = tail_at.ok_or_else(|| damaged(&place, "it is too short"))?;
        let tail = self.bytes(tail_at, 10)?;
        if &tail[4..] != MAGIC {
            return Err(damaged(&place, "it has no footer: it was cut off, or is still being written"));
        }
        let size = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        let at = tail_at.checked_sub(size).filter(|_| size <= METADATA_BYTES_MAX);
        let at = at.ok_or_else(|| damaged(&place, format!("it claims a footer of {size} bytes")))?;
        let bytes = self.bytes(at, size)?;
        let footer = root_as_footer(&bytes).map_err(|error| damaged(&place, error))?;
        let dictionaries = footer.dictionaries().into_iter().flatten();
        let batches = footer.recordBatches().into_iter().flatten();
        let begin = |block: &arrow_ipc::Block| u64::try_from(block.offset()).ok().filter(|begin| *begin < at);
        let blocks: Option<Vec<u64>> = dictionaries.chain(batches).map(begin).collect();
        self.blocks = Some(blocks.ok_or_else(|| damaged(&place, "a batch begins behind its end"))?);
        let schema = footer.schema().ok_or_else(|| damaged(&place, "it has no schema"))?;
        arrow_ipc::convert::try_fb_to_schema(schema).map_err(|error| damaged(&place, error))
    }

    fn decode(&mut self, place: &str) -> Result<Option<RecordBatch>> {
        loop {
            let Some(message) = self.message()? else { return self.end(place) };
            let head = root_as_message(&message.head).map_err(|error| damaged(place, error))?;
            let version = head.version();
            let body = u64::try_from(head.bodyLength()).unwrap_or(u64::MAX);
            match head.header_type() {
                MessageHeader::RecordBatch => {
                    let batch = head.header_as_record_batch().ok_or_else(|| damaged(place, "an empty message"))?;
                    let rows =
                        u64::try_from(batch.length()).map_err(|_| damaged(place, "it claims fewer rows than 0"))?;
                    self.batch += 1;
                    if self.skip >= rows {
                        self.skip -= rows;
                        continue;
                    }
                    let bytes = self.body(place, &message, body)?;
                    let unpacked = unpacked(&batch, &bytes).map_err(|flaw| damaged(place, flaw))?;
                    if rows > unpacked.saturating_mul(8).saturating_add(4_096) {
                        return Err(damaged(place, format!("it claims {rows} rows in {unpacked} bytes")));
                    }
                    let schema = Arc::clone(&self.schema);
                    let decoder = RecordBatchDecoder::try_new(&bytes, batch, schema, &self.dictionaries, &version);
                    let batch = decoder.and_then(|decoder| decoder.read_record_batch());
                    let batch = batch.map_err(|error| damaged(place, error))?;
                    let skip = usize::try_from(std::mem::take(&mut self.skip)).unwrap_or(usize::MAX);
                    return Ok(Some(batch.slice(skip, batch.num_rows().saturating_sub(skip))));
                }
                MessageHeader::DictionaryBatch => {
                    let bytes = self.body(place, &message, body)?;
                    let dictionary =
                        head.header_as_dictionary_batch().ok_or_else(|| damaged(place, "no dictionary"))?;
                    let data = dictionary.data().ok_or_else(|| damaged(place, "a dictionary without values"))?;
                    let size = unpacked(&data, &bytes).map_err(|flaw| damaged(place, flaw))?;
                    let before = self.dictionary_bytes.insert(dictionary.id(), size).unwrap_or(0);
                    if dictionary.isDelta() {
                        self.dictionary_bytes.insert(dictionary.id(), size.saturating_add(before));
                    }
                    let all = self.dictionary_bytes.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
                    if all > BODY_BYTES_MAX {
                        return Err(damaged(
                            place,
                            format!("dictionaries of {all} bytes; {BODY_BYTES_MAX} are the most"),
                        ));
                    }
                    read_dictionary(&bytes, dictionary, &self.schema, &mut self.dictionaries, &version)
                        .map_err(|error| damaged(place, error))?;
                }
                other => return Err(damaged(place, format!("a message of kind {other:?} between its batches"))),
            }
        }
    }

    fn end(&self, place: &str) -> Result<Option<RecordBatch>> {
        match self.skip {
            0 => Ok(None),
            beyond => Err(damaged(place, format!("it should have {beyond} more rows than it has"))),
        }
    }

    /// The next message; `None` at the end.
    fn message(&mut self) -> Result<Option<Message>> {
        let place = self.place.clone();
        if let Some(blocks) = &self.blocks {
            let Some(begin) = blocks.get(self.block) else { return Ok(None) };
            self.at = *begin;
            self.block += 1;
        }
        let left = self.length - self.at;
        // A stream may end without a mark.
        if left == 0 {
            return Ok(None);
        }
        let short = || damaged(&place, "it ends in the middle of a message");
        if left < 8 {
            return if left == 4 && self.bytes(self.at, 4)? == [0; 4] { Ok(None) } else { Err(short()) };
        }
        let start = self.bytes(self.at, 8)?;
        let word = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
        // Before version 0.15 there was no mark before the length.
        let (length, begin) = if word(0) == u32::MAX { (word(4), 8) } else { (word(0), 4) };
        let length = u64::from(length);
        if length == 0 {
            return Ok(None);
        }
        if length > METADATA_BYTES_MAX || length > left - begin {
            return Err(damaged(&place, format!("a message claims a head of {length} bytes, and {left} are left")));
        }
        let head = self.bytes(self.at + begin, length)?;
        let body = self.at + begin + length;
        let parsed = root_as_message(&head).map_err(|error| damaged(&place, error))?;
        let size = u64::try_from(parsed.bodyLength()).unwrap_or(u64::MAX);
        if size > self.length - body {
            return Err(damaged(&place, format!("a message claims {size} bytes, and {} are left", self.length - body)));
        }
        self.at = body + size;
        Ok(Some(Message { head, body }))
    }

    fn body(&mut self, place: &str, message: &Message, size: u64) -> Result<Buffer> {
        if size > BODY_BYTES_MAX {
            return Err(damaged(place, too_large(size)));
        }
        Ok(Buffer::from_vec(self.bytes(message.body, size)?))
    }

    fn bytes(&mut self, at: u64, length: u64) -> Result<Vec<u8>> {
        let cannot = |error| Error::io(self.place.clone(), error);
        self.file.seek(SeekFrom::Start(at)).map_err(cannot)?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(cannot)?;
        Ok(bytes)
    }
}

fn too_large(size: u64) -> String {
    let most = BODY_BYTES_MAX >> 20;
    format!("it takes {size} bytes; {most} MiB are the most. Write it with fewer rows a batch, or as Parquet")
}

/// The bytes of a batch once its buffers are decompressed, as they themselves claim.
fn unpacked(batch: &arrow_ipc::RecordBatch<'_>, body: &[u8]) -> std::result::Result<u64, String> {
    let Some(buffers) = batch.buffers() else { return Ok(body.len() as u64) };
    if batch.compression().is_none() {
        // Several buffers may lie on the same bytes; each is aligned by a copy at worst.
        let sum = buffers.iter().fold(0_u64, |sum, buffer| sum.saturating_add(buffer.length().max(0) as u64));
        return if sum > BODY_BYTES_MAX { Err(too_large(sum)) } else { Ok(sum) };
    }
    let mut sum = 0_u64;
    for buffer in &buffers {
        if buffer.length() == 0 {
            continue;
        }
        let at = usize::try_from(buffer.offset()).map_err(|_| "a buffer before its batch")?;
        let prefix = body.get(at..).and_then(|bytes| bytes.first_chunk::<8>()).ok_or("a buffer beyond its batch")?;
        let claimed = i64::from_le_bytes(*prefix);
        let claimed = if claimed == -1 { buffer.length() } else { claimed };
        sum = sum.saturating_add(u64::try_from(claimed).map_err(|_| format!("a buffer of {claimed} bytes"))?);
    }
    if sum > BODY_BYTES_MAX { Err(too_large(sum)) } else { Ok(sum) }
}

fn depth(kind: &DataType) -> usize {
    match kind {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _)
        | DataType::RunEndEncoded(_, item) => 1 + depth(item.data_type()),
        DataType::Dictionary(_, value) => 1 + depth(value),
        DataType::Struct(fields) => 1 + fields.iter().map(|field| depth(field.data_type())).max().unwrap_or(0),
        _ => 1,
    }
}
