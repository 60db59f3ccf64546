//! Which rows are in this file of lines: CSV, or JSON Lines, compressed or not?
//!
//! Invariants: one row is in memory at a time, and a row that is longer than [`ROW_BYTES_MAX`] is not read into it, so what
//! a compressed file unpacks to does not matter; a row knows where the next one begins.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::{DataType, Field, Schema};
use csv::{ByteRecord, ReaderBuilder};
use serde_json::Value;

use super::guard::damaged;
use super::quotes::Quotes;
use crate::{Error, Result};

/// The longest row. JSON takes up to 16 times as much once it is read.
pub(super) const ROW_BYTES_MAX: u64 = 32 << 20;
/// What the delimiter is guessed from.
const SNIFFED_BYTES: u64 = 64 << 10;
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// By the first bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        if head.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
}

/// A file of text.
#[derive(Clone, Debug)]
pub(super) struct TextFile {
    pub(super) path: PathBuf,
    pub(super) packing: Packing,
}

type Input = Box<dyn BufRead + Send>;

impl TextFile {
    /// Its text from this byte on, counted as it is once unpacked.
    pub(super) fn from(&self, offset: u64) -> Result<Input> {
        let cannot = |error| Error::io(&self.path, error);
        let mut file = File::open(&self.path).map_err(cannot)?;
        if self.packing == Packing::Plain {
            file.seek(SeekFrom::Start(offset)).map_err(cannot)?;
            return Ok(Box::new(BufReader::with_capacity(1 << 16, file)));
        }
        let file = BufReader::with_capacity(1 << 16, file);
        let mut input: Input = match self.packing {
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(cannot)?;
                // 128 MiB: what the format's own tools take unless told otherwise.
                decoder.window_log_max(27).map_err(cannot)?;
                Box::new(BufReader::with_capacity(1 << 16, decoder))
            }
            Packing::Gzip | Packing::Plain => {
                Box::new(BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(file)))
            }
        };
        let passed =
            io::copy(&mut input.by_ref().take(offset), &mut io::sink()).map_err(|error| self.broken(&error))?;
        if passed < offset {
            return Err(damaged(&self.place(), format!("it ends at byte {passed}; it went further before")));
        }
        Ok(input)
    }

    /// Its first bytes, unpacked.
    pub(super) fn head(&self, bytes: u64) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        self.from(0)?.take(bytes).read_to_end(&mut head).map_err(|error| self.broken(&error))?;
        Ok(head)
    }

    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn broken(&self, error: &io::Error) -> Error {
        match self.packing {
            Packing::Plain => Error::io(&self.path, io::Error::new(error.kind(), error.to_string())),
            Packing::Gzip | Packing::Zstd => damaged(&self.place(), error),
        }
    }
}

/// The lines of a file.
pub(super) struct Lines {
    file: TextFile,
    input: Option<Input>,
    pub(super) offset: u64,
    pub(super) number: u64,
}

/// A line, or that it is too long.
pub(super) enum Line {
    Text(Vec<u8>),
    TooLong(u64),
}

impl Lines {
    pub(super) fn new(file: TextFile) -> Self {
        Self { file, input: None, offset: 0, number: 0 }
    }

    pub(super) fn skip_to(&mut self, number: u64, offset: u64) {
        (self.input, self.number, self.offset) = (None, number, offset);
    }

    /// The next line that is not blank.
    pub(super) fn next_line(&mut self) -> Result<Option<Line>> {
        let file = self.file.clone();
        let input = match &mut self.input {
            Some(input) => input,
            None => self.input.insert(file.from(self.offset)?),
        };
        loop {
            let mut bytes = Vec::new();
            let mut read =
                input.by_ref().take(ROW_BYTES_MAX).read_until(b'\n', &mut bytes).map_err(|error| file.broken(&error))?
                    as u64;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read == ROW_BYTES_MAX && bytes.last() != Some(&b'\n') {
                drop(bytes);
                read += input.skip_until(b'\n').map_err(|error| file.broken(&error))? as u64;
                self.offset += read;
                return Ok(Some(Line::TooLong(read)));
            }
            let mark = if self.offset == 0 && bytes.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
            self.offset += read;
            let line = bytes[mark..].trim_ascii();
            if !line.is_empty() {
                return Ok(Some(Line::Text(line.to_vec())));
            }
        }
    }
}

/// What the values of a CSV column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Whole,
    Float,
    Boolean,
    /// A whole number where this value is written as one, whatever the others are: a row that is added must not make another
    /// document of every row before it.
    Id,
}

impl Kind {
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Text | Self::Id => DataType::Utf8,
            Self::Whole => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Boolean => DataType::Boolean,
        }
    }

    /// A value of this kind; an empty one is null.
    pub(super) fn value(self, text: &str) -> Value {
        if text.is_empty() {
            return Value::Null;
        }
        match self {
            Self::Text => text.into(),
            Self::Whole => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
            Self::Float => text.parse::<f64>().map_or_else(|_| text.into(), Value::from),
            Self::Boolean => Value::Bool(text.eq_ignore_ascii_case("true")),
            Self::Id if is_whole(text) => Self::Whole.value(text),
            Self::Id => text.into(),
        }
    }
}

/// What the values of a column that were seen so far may all be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    seen: bool,
    whole: bool,
    float: bool,
    boolean: bool,
}

impl Guess {
    pub(super) const ANY: Self = Self { seen: false, whole: true, float: true, boolean: true };

    pub(super) fn see(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let text = std::str::from_utf8(text).unwrap_or("?");
        self.seen = true;
        self.whole &= is_whole(text);
        self.float &= is_number(text);
        self.boolean &= text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self { seen: false, .. } => Kind::Text,
            Self { boolean: true, .. } => Kind::Boolean,
            Self { whole: true, .. } => Kind::Whole,
            Self { float: true, .. } => Kind::Float,
            Self { .. } => Kind::Text,
        }
    }
}

/// Whether it is a whole number written as one is: `007`, `+1` and `1_000` are text.
pub(super) fn is_whole(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

/// Whether it is a number that a double holds: no leading zeros, not more than 15 digits unless it is just how that double is
/// written, neither NaN nor infinity.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let whole = mantissa.split('.').next().unwrap_or_default();
    let count = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'));
    let leading = whole.len() > 1 && whole.starts_with('0');
    let is_held = |number: f64| {
        let is_exact = || {
            let printed = Value::from(number).to_string();
            printed == text
        };
        number.is_finite() && (count <= 15 || is_exact())
    };
    plain
        && !leading
        && digits.starts_with(|first: char| first.is_ascii_digit())
        && text.parse::<f64>().is_ok_and(is_held)
}

/// A CSV file: its columns, and its rows from any one on.
pub(super) struct Csv {
    file: TextFile,
    delimiter: u8,
    names: Vec<String>,
    kinds: Vec<Kind>,
    pub(super) rows: u64,
    /// Where the first row begins.
    first: u64,
    /// The column that says whether the id in this other one is a whole number, as an export of ours does where a text would
    /// be taken for one.
    marks: Option<(usize, usize)>,
    reader: Option<csv::Reader<Limited<Input>>>,
    /// Whether this is the first time through, when quotes are looked at.
    is_first_pass: bool,
    /// Where the reader began.
    base: u64,
    pub(super) number: u64,
    pub(super) offset: u64,
}

/// A row of CSV.
pub(super) enum CsvRow {
    Values { values: Vec<Value>, lossy: bool },
    Uneven(usize),
}

impl Csv {
    /// Reads the header, where there is one, and once through all rows to learn their number and what each column holds:
    /// numbers only where all of its values are.
    pub(super) fn open(file: TextFile, header: bool, tabs: bool) -> Result<Self> {
        let head = file.head(SNIFFED_BYTES)?;
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            return Err(damaged(&file.place(), "it is UTF-16; save it as UTF-8"));
        }
        let mark = if head.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        let delimiter = if tabs { b'\t' } else { sniff(&head[mark..]) };
        let mut csv = Self {
            file,
            delimiter,
            names: Vec::new(),
            kinds: Vec::new(),
            rows: 0,
            first: mark as u64,
            marks: None,
            reader: None,
            is_first_pass: true,
            base: 0,
            number: 0,
            offset: mark as u64,
        };
        csv.read_header(header)?;
        csv.read_kinds()?;
        csv.is_first_pass = false;
        csv.skip_to(0, csv.first);
        Ok(csv)
    }

    /// Has columns read as this, whatever they hold.
    pub(super) fn read_as(&mut self, kind: Kind, columns: impl IntoIterator<Item = usize>) {
        columns.into_iter().for_each(|column| self.kinds[column] = kind);
    }

    /// Takes the column of this name for what says of ids whether they are whole numbers; its place, where it can be that.
    pub(super) fn mark_ids(&mut self, id: Option<usize>, name: &str) -> Option<usize> {
        let marks = self.names.iter().position(|known| known == name)?;
        self.marks = id.filter(|_| self.kinds[marks] == Kind::Boolean).map(|id| (marks, id));
        self.marks.map(|(marks, _)| marks)
    }

    pub(super) fn schema(&self) -> Schema {
        let fields = self.names.iter().zip(&self.kinds);
        Schema::new(fields.map(|(name, kind)| Field::new(name, kind.data_type(), true)).collect::<Vec<_>>())
    }

    pub(super) fn skip_to(&mut self, number: u64, offset: u64) {
        (self.reader, self.number, self.offset) = (None, number, offset.max(self.first));
    }

    pub(super) fn next_row(&mut self) -> Result<Option<CsvRow>> {
        let mut record = ByteRecord::new();
        if !self.next_record(&mut record)? {
            return Ok(None);
        }
        self.number += 1;
        if record.len() != self.names.len() {
            return Ok(Some(CsvRow::Uneven(record.len())));
        }
        let mut lossy = false;
        let value = |(field, kind): (&[u8], &Kind)| {
            let text = String::from_utf8_lossy(field);
            lossy |= matches!(text, std::borrow::Cow::Owned(_));
            kind.value(&text)
        };
        let mut values: Vec<Value> = record.iter().zip(&self.kinds).map(value).collect();
        if let Some((marks, id)) = self.marks
            && values[marks] == Value::Bool(false)
        {
            values[id] = Kind::Text.value(&String::from_utf8_lossy(&record[id]));
        }
        Ok(Some(CsvRow::Values { values, lossy }))
    }

    fn read_header(&mut self, header: bool) -> Result<()> {
        let mut record = ByteRecord::new();
        if !self.next_record(&mut record)? {
            return Err(damaged(&self.file.place(), "it is empty"));
        }
        if header {
            self.first = self.offset;
            // A name that is left out, such as that of the index in what pandas writes, is made up.
            let named = |(at, name): (usize, &[u8])| match String::from_utf8_lossy(name).trim() {
                "" => format!("column{}", at + 1),
                name => name.to_owned(),
            };
            self.names = record.iter().enumerate().map(named).collect();
        } else {
            self.names = (1..=record.len()).map(|number| format!("column{number}")).collect();
            self.skip_to(0, self.first);
        }
        self.kinds = vec![Kind::Text; self.names.len()];
        Ok(())
    }

    /// Goes on behind the header, with the same reader: it counts lines.
    fn read_kinds(&mut self) -> Result<()> {
        let mut guesses = vec![Guess::ANY; self.names.len()];
        let mut record = ByteRecord::new();
        while self.next_record(&mut record)? {
            self.rows += 1;
            if record.len() == guesses.len() {
                guesses.iter_mut().zip(record.iter()).for_each(|(guess, field)| guess.see(field));
            }
        }
        self.kinds = guesses.into_iter().map(Guess::kind).collect();
        Ok(())
    }

    fn next_record(&mut self, record: &mut ByteRecord) -> Result<bool> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                self.base = self.offset;
                let quotes = self.is_first_pass.then(|| Quotes::new(self.delimiter));
                let input = Limited::new(self.file.from(self.offset)?, quotes);
                let mut builder = ReaderBuilder::new();
                builder.delimiter(self.delimiter).has_headers(false).flexible(true);
                self.reader.insert(builder.from_reader(input))
            }
        };
        reader.get_ref().begin();
        let read = reader.read_byte_record(record).map_err(|error| {
            // In the first pass errors say a line, and the rows are not counted.
            let row = if self.is_first_pass { String::new() } else { format!("row {}: ", self.number + 1) };
            damaged(&self.file.place(), format!("{row}{error}"))
        })?;
        self.offset = self.base + reader.position().byte();
        Ok(read)
    }
}

/// The delimiter that makes the most columns of all lines alike; the comma where none does.
fn sniff(head: &[u8]) -> u8 {
    let columns = |delimiter: &u8| -> usize {
        let mut builder = ReaderBuilder::new();
        let mut reader = builder.delimiter(*delimiter).has_headers(false).flexible(true).from_reader(head);
        let counts: Vec<usize> =
            reader.byte_records().take(50).map_while(|record| record.ok().map(|record| record.len())).collect();
        // The last of them may be cut off.
        let whole = if counts.len() > 1 { &counts[..counts.len() - 1] } else { &counts[..] };
        let first = whole.first().copied().unwrap_or(0);
        if first > 1 && whole.iter().all(|count| *count == first) { first } else { 0 }
    };
    let best = DELIMITERS.iter().rev().max_by_key(|delimiter| columns(delimiter));
    best.copied().filter(|delimiter| columns(delimiter) > 0).unwrap_or(b',')
}

/// An input that fails where one row takes more than [`ROW_BYTES_MAX`], and after a quote that is never closed.
struct Limited<R> {
    inner: R,
    taken: Arc<AtomicU64>,
    quotes: Option<Quotes>,
}

impl<R> Limited<R> {
    fn new(inner: R, quotes: Option<Quotes>) -> Self {
        Self { inner, taken: Arc::default(), quotes }
    }

    fn begin(&self) {
        self.taken.store(0, Ordering::Relaxed);
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(quotes) = &mut self.quotes {
            quotes.see(&buffer[..read]);
            if let Some(flaw) = quotes.flaw(read == 0 && !buffer.is_empty()) {
                return Err(io::Error::other(flaw));
            }
        }
        let taken = self.taken.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
        if taken > ROW_BYTES_MAX {
            let most = ROW_BYTES_MAX >> 20;
            let open = self.quotes.as_ref().and_then(Quotes::open_quote);
            let longer = format!("what is read as one row is longer than {most} MiB");
            return Err(io::Error::other(open.map_or(longer.clone(), |open| format!("{open}, and {longer}"))));
        }
        Ok(read)
    }
}

/// Whether a path is of a file of this kind, compressed or not.
pub(super) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(&name);
    extensions.iter().any(|extension| name.strip_suffix(extension).is_some_and(|stem| stem.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_holds_numbers_only_where_all_of_its_values_are_written_as_numbers() {
        let kind = |values: &[&str]| {
            let mut guess = Guess::ANY;
            values.iter().for_each(|value| guess.see(value.as_bytes()));
            guess.kind()
        };
        assert_eq!(kind(&["1", "-20", ""]), Kind::Whole);
        assert_eq!(kind(&["1", "007"]), Kind::Text);
        assert_eq!(kind(&["1", "2.50", "-1e3"]), Kind::Float);
        assert_eq!(kind(&["1.5", "NaN"]), Kind::Text);
        assert_eq!(kind(&["12345678901234567890"]), Kind::Text);
        assert_eq!(kind(&["0.30000000000000004", "1e-7"]), Kind::Float);
        assert_eq!(kind(&["0.300000000000000041"]), Kind::Text);
        assert_eq!(kind(&["+1"]), Kind::Text);
        assert_eq!(kind(&["True", "false"]), Kind::Boolean);
        assert_eq!(kind(&["true", "1"]), Kind::Text);
        assert_eq!(kind(&["", ""]), Kind::Text);
        assert_eq!(kind(&["1.2.3"]), Kind::Text);
        assert_eq!(kind(&["2024-01-01"]), Kind::Text);
    }

    #[test]
    fn the_delimiter_is_the_one_that_makes_columns() {
        assert_eq!(sniff(b"a;b;c\n1,5;2;3\n4;5;6\n"), b';');
        assert_eq!(sniff(b"a,b\n\"1;2;3\",4\n5,6\n"), b',');
        assert_eq!(sniff(b"a\tb\n1\t2, or 3\n"), b'\t');
        assert_eq!(sniff(b"a|b\n1|2\n"), b'|');
        assert_eq!(sniff(b"text\nonly, one\ncolumn\n"), b',');
    }

    #[test]
    fn extensions_are_looked_for_below_compression() {
        assert!(has_extension(Path::new("a/B.CSV.gz"), &["csv"]));
        assert!(has_extension(Path::new("x.ndjson.zst"), &["jsonl", "ndjson"]));
        assert!(!has_extension(Path::new("csv"), &["csv"]));
        assert!(!has_extension(Path::new("a.gz"), &["csv"]));
    }
}
