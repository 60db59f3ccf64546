//! Which documents are in this file of rows, and where does one go on?
//!
//! The kind of a file is told by its first bytes, and for text by its name. A row that is no document comes out as a
//! [`BadRow`] and the next one is read; a file that is damaged ends with an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow_array::RecordBatch;
use serde_json::{Map, Value};

use super::batches::{Batches, is_ipc, is_parquet};
use super::chunks::ID_IS_INTEGER;
use super::map::{ColumnMap, Role, space_in};
use super::rows::{BadRow, Cells, Flaw, RowReader, left_vector, shortened};
use super::text::{Csv, CsvRow, Kind, Line, Lines, Packing, ROW_BYTES_MAX, TextFile, has_extension};
use crate::config::CollectionConfig;
use crate::formats::jsonl::{document, without_line};
use crate::types::Document;
use crate::{Error, Result};

/// How far a file was read: its rows (of JSON Lines, its lines), and the byte where the next one begins where it is text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Rows that were read.
    pub rows: u64,
    /// The byte of the text, once unpacked, where the next row begins; 0 for Parquet and Arrow.
    pub offset: u64,
}

/// A row of a file.
#[derive(Debug)]
pub struct Row {
    /// The document, or why it is none.
    pub document: std::result::Result<Document, BadRow>,
    /// Where the next row is.
    pub next: Position,
    /// Whether the row has no id, so that its document is called after the file and the row: `name#7`.
    pub is_named_by_row: bool,
}

/// How a file of rows is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// Which column is what.
    pub map: ColumnMap,
    /// The first line of a CSV file is a row like the others; its columns are called `column1`, `column2` and so on.
    pub no_header: bool,
    /// External spaces of the collection, whose vectors are in columns called `vectors.NAME`.
    pub spaces: Vec<String>,
}

/// The vectors that rows bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vectors {
    /// Dimensions of the first one for the default space; `None` where the first rows have none.
    pub dims: Option<usize>,
    /// Of those for further spaces, by name.
    pub spaces: BTreeMap<String, usize>,
}

/// A file of rows: Parquet, Arrow IPC, CSV, or JSON Lines, the last two also compressed with gzip or Zstandard.
pub struct Table {
    name: String,
    place: String,
    options: TableOptions,
    source: Source,
    position: Position,
    /// A column that sounds like the vector and became metadata.
    left: Option<(String, usize)>,
}

enum Source {
    Batches { batches: Batches, reader: RowReader, batch: Option<RecordBatch>, row: usize },
    Csv { csv: Box<Csv>, reader: RowReader },
    Lines(Lines),
}

const CSV: &[&str] = &["csv"];
const TSV: &[&str] = &["tsv", "tab"];
const JSON_LINES: &[&str] = &["jsonl", "ndjson", "json"];

/// Rows in which a mapped key of JSON Lines must occur.
const LOOKED_FOR_IN: usize = 1_000;

impl Table {
    /// Opens a file. Of Parquet and Arrow this reads what describes it, of CSV everything once, to learn what its columns
    /// hold. `name` stands for it in the ids of rows that have none: `name#7`.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read; [`Error::InvalidInput`] where it is damaged or of another kind, where a mapped
    /// column is missing, and where no column is the text or a vector.
    pub fn open(path: &Path, name: &str, options: TableOptions) -> Result<Self> {
        let place = path.display().to_string();
        let head = head(path)?;
        let source = if is_parquet(&head) || is_ipc(&head) {
            let batches = Batches::open(path)?;
            let schema = batches.schema();
            let reader = RowReader::new(name, schema, &options.map, &options.spaces, false);
            let reader = reader.map_err(|error| of_file(&place, &error))?;
            Source::Batches { batches, reader, batch: None, row: 0 }
        } else {
            let file = TextFile { path: path.to_owned(), packing: Packing::of(&head) };
            open_text(file, name, &options, &place)?
        };
        Ok(Self { name: name.to_owned(), place, options, source, position: Position::default(), left: None })
    }

    /// Whether a file of this name is one of rows that only this reader knows: not JSON Lines, unless compressed.
    pub(in crate::formats) fn reads(path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let is_packed = [".gz", ".gzip", ".zst", ".zstd"].iter().any(|packed| name.ends_with(packed));
        has_extension(path, &["parquet", "pq", "arrow", "arrows", "feather", "ipc"])
            || has_extension(path, CSV)
            || has_extension(path, TSV)
            || (is_packed && has_extension(path, JSON_LINES))
    }

    /// Rows of the file, where it is known.
    pub fn rows(&self) -> Option<u64> {
        match &self.source {
            Source::Batches { batches, .. } => batches.rows(),
            Source::Csv { csv, .. } => Some(csv.rows),
            Source::Lines(_) => None,
        }
    }

    /// The types of the columns that become metadata, by name, as Arrow prints them. None for JSON Lines.
    pub fn types(&self) -> BTreeMap<String, String> {
        let (reader, schema) = match &self.source {
            Source::Batches { reader, batches, .. } => (reader, (**batches.schema()).clone()),
            Source::Csv { reader, csv } => (reader, csv.schema()),
            Source::Lines(_) => return BTreeMap::new(),
        };
        let kind = |(index, name): &(usize, String)| {
            let kind = super::batches::plain_type(schema.field(*index).data_type());
            (name.clone(), kind.to_string())
        };
        reader.columns().rest.iter().map(kind).collect()
    }

    /// How the collection was configured that this is an export of; `None` where it is none, or in lines.
    ///
    /// # Errors
    /// As [`super::config_in`].
    pub fn config(&self) -> Result<Option<CollectionConfig>> {
        match &self.source {
            Source::Batches { batches, .. } => super::config_in(batches.schema()),
            Source::Csv { .. } | Source::Lines(_) => Ok(None),
        }
    }

    /// The vectors that its first thousand rows bring. It stands behind these rows then.
    ///
    /// # Errors
    /// As [`Table::next_row`].
    pub fn vectors(&mut self) -> Result<Vectors> {
        let mut vectors = Vectors::default();
        for _ in 0..LOOKED_FOR_IN {
            let Some(row) = self.next_row()? else { break };
            let Ok(document) = row.document else { continue };
            vectors.dims = vectors.dims.or(document.vector.as_ref().map(Vec::len));
            for (space, vector) in &document.vectors {
                vectors.spaces.entry(space.clone()).or_insert(vector.len());
            }
        }
        Ok(vectors)
    }

    /// What is to be said of the rows that were read, where something is: a column sounds like their vector and became
    /// metadata, and nothing was said of vectors. One of the first thousand rows tells.
    pub fn note(&self) -> Option<String> {
        let (column, dims) = self.left.as_ref()?;
        if let Some(space) = space_in(column) {
            return Some(format!(
                "column `{column}` holds lists of {dims} numbers and becomes metadata, since there is no space `{space}` \
                 without a model; where they are its vectors, import with --map vectors.{space}={column}, which makes it in a \
                 new collection"
            ));
        }
        Some(format!(
            "column `{column}` holds lists of {dims} numbers and becomes metadata; where they are the vectors of the rows, \
             import with --map vector={column} (--map vector= leaves them as they are)"
        ))
    }

    /// Whether one of its first thousand rows has no id, and is called after the file and the row. It stands behind it then.
    ///
    /// # Errors
    /// As [`Table::next_row`].
    pub fn names_rows(&mut self) -> Result<bool> {
        for _ in 0..LOOKED_FOR_IN {
            match self.next_row()? {
                Some(row) if row.is_named_by_row => return Ok(true),
                Some(_) => {}
                None => break,
            }
        }
        Ok(false)
    }

    /// Goes on from a position that this file was read to before.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where it has fewer rows.
    pub fn skip_to(&mut self, position: Position) -> Result<()> {
        self.position = position;
        match &mut self.source {
            Source::Batches { batches, batch, row, .. } => {
                (*batch, *row) = (None, 0);
                batches.skip_to(position.rows)
            }
            Source::Csv { csv, .. } => {
                csv.skip_to(position.rows, position.offset);
                Ok(())
            }
            Source::Lines(lines) => {
                lines.skip_to(position.rows, position.offset);
                Ok(())
            }
        }
    }

    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the file is damaged here. There is no use in asking on.
    pub fn next_row(&mut self) -> Result<Option<Row>> {
        let (document, is_named_by_row) = match &mut self.source {
            Source::Batches { batches, reader, batch, row } => {
                while batch.as_ref().is_none_or(|batch| *row >= batch.num_rows()) {
                    let Some(next) = batches.next_batch() else { return Ok(None) };
                    (*batch, *row) = (Some(next?), 0);
                }
                let Some(batch) = batch else { return Ok(None) };
                self.position.rows += 1;
                *row += 1;
                let cells = Cells::Batch(batch, *row - 1);
                let read = || Ok((reader.read(&cells, self.position.rows), reader.names(&cells)));
                super::guard::guarded(&self.place, read)?
            }
            Source::Csv { csv, reader } => {
                let Some(row) = csv.next_row()? else { return Ok(None) };
                self.position = Position { rows: csv.number, offset: csv.offset };
                of_csv(row, reader, self.position.rows)
            }
            Source::Lines(lines) => {
                let Some(line) = lines.next_line()? else { return Ok(None) };
                self.position = Position { rows: lines.number, offset: lines.offset };
                of_line(&line, &self.options.map, &self.name, self.position.rows)
            }
        };
        let document = document.map_err(|flaw| flaw.at(&self.place, self.position.rows));
        if let (None, Ok(document)) = (&self.left, &document)
            && self.position.rows <= LOOKED_FOR_IN as u64
        {
            self.left = left_vector(document, self.options.map.named(Role::Vector).is_some());
        }
        Ok(Some(Row { is_named_by_row: is_named_by_row && document.is_ok(), document, next: self.position }))
    }
}

impl Iterator for Table {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

/// The first bytes of a file.
fn head(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let cannot = |error| Error::io(path, error);
    if path.metadata().map_err(cannot)?.is_dir() {
        let path = path.display();
        return Err(Error::invalid(format!("{path} is a folder; name its files, or add it with `quiver add`")));
    }
    let mut head = Vec::new();
    std::fs::File::open(path).map_err(cannot)?.take(8).read_to_end(&mut head).map_err(cannot)?;
    Ok(head)
}

fn of_file(place: &str, error: &Error) -> Error {
    Error::invalid(format!("{place}: {error}"))
}

fn open_text(file: TextFile, name: &str, options: &TableOptions, place: &str) -> Result<Source> {
    let path = file.path.clone();
    let is_csv = has_extension(&path, CSV) || has_extension(&path, TSV);
    if is_csv {
        let mut csv = Csv::open(file, !options.no_header, has_extension(&path, TSV))?;
        let reader = RowReader::new(name, &csv.schema(), &options.map, &options.spaces, true);
        let mut reader = reader.map_err(|error| of_file(place, &error))?;
        let columns = reader.columns();
        let text =
            [columns.text, columns.title, columns.vector, columns.metadata, columns.expires_at].into_iter().flatten();
        csv.read_as(Kind::Text, text.chain(columns.vectors.iter().map(|(index, _)| *index)));
        csv.read_as(Kind::Id, columns.id);
        let marks = csv.mark_ids(columns.id, ID_IS_INTEGER);
        reader.leave_out(marks);
        return Ok(Source::Csv { csv: Box::new(csv), reader });
    }
    let begins = file.head(64)?;
    let begins = begins.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&begins);
    let is_object = begins.trim_ascii_start().first() == Some(&b'{');
    if !is_object && !has_extension(&path, JSON_LINES) {
        return Err(Error::invalid(format!(
            "{place} is neither Parquet, Arrow IPC, CSV (.csv, .tsv) nor JSON Lines (.jsonl); the last two may be compressed \
             (.gz, .zst)"
        )));
    }
    if begins.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::invalid(format!(
            "{place} is one array; `quiver add` takes it, and import takes a line a row"
        )));
    }
    find_keys(&file, options, place)?;
    Ok(Source::Lines(Lines::new(file)))
}

/// Refuses a map with keys that none of the first rows has: it is mistyped, and every row would be rejected.
fn find_keys(file: &TextFile, options: &TableOptions, place: &str) -> Result<()> {
    if options.map == ColumnMap::default() {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    let mut lines = Lines::new(file.clone());
    for _ in 0..LOOKED_FOR_IN {
        match lines.next_line()? {
            Some(Line::Text(line)) => {
                if let Ok(Value::Object(object)) = serde_json::from_slice(&line) {
                    seen.extend(object.into_iter().map(|(key, _)| key));
                }
            }
            Some(Line::TooLong(_)) => {}
            None => break,
        }
    }
    match options.map.all_named().find(|(_, key)| !seen.contains(*key)) {
        Some((role, key)) if !seen.is_empty() => {
            let keys = seen.iter().take(40).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            Err(Error::invalid(format!("{place}: no row has a key `{key}` to be the {role}; the keys are {keys}")))
        }
        _ => Ok(()),
    }
}

type Flawed = std::result::Result<Document, Flaw>;

/// The document, and whether it is named by its row.
fn of_csv(row: CsvRow, reader: &RowReader, number: u64) -> (Flawed, bool) {
    match row {
        CsvRow::Uneven(fields) => {
            (Err(Flaw::of_row(format!("it has {fields} fields, and the header another number"))), false)
        }
        CsvRow::Values { values, lossy } => {
            let cells = Cells::Values(&values);
            (reader.read(&cells, number).map(|document| marked(document, lossy)), reader.names(&cells))
        }
    }
}

/// The same of a line.
fn of_line(line: &Line, map: &ColumnMap, name: &str, number: u64) -> (Flawed, bool) {
    let mut is_named_by_row = false;
    let name = || {
        is_named_by_row = true;
        format!("{name}#{number}")
    };
    let document = in_line(line, map, name);
    (document, is_named_by_row)
}

fn in_line(line: &Line, map: &ColumnMap, name: impl FnOnce() -> String) -> Flawed {
    let line = match line {
        Line::Text(line) => line,
        Line::TooLong(bytes) => {
            let most = ROW_BYTES_MAX >> 20;
            return Err(Flaw::of_row(format!("it has {bytes} bytes; {most} MiB are the most")));
        }
    };
    let text = String::from_utf8_lossy(line);
    let lossy = matches!(text, std::borrow::Cow::Owned(_));
    let flaw = |reason: String| Flaw { column: None, value: Some(shortened(&text.as_ref().into())), reason };
    let value =
        serde_json::from_str(&text).map_err(|error| flaw(format!("not valid JSON ({})", without_line(&error))))?;
    let document = document(renamed(value, map), name).map_err(flaw)?;
    Ok(marked(document, lossy))
}

/// Text that was no UTF-8 is marked.
fn marked(mut document: Document, lossy: bool) -> Document {
    if lossy {
        document.metadata["lossy"] = Value::Bool(true);
    }
    document
}

/// The object with its keys as documents have them.
fn renamed(value: Value, map: &ColumnMap) -> Value {
    if *map == ColumnMap::default() {
        return value;
    }
    let Value::Object(mut object) = value else { return value };
    let mut taken = Map::new();
    let mut spaces = Map::new();
    for (role, key) in map.all_named() {
        let Some(value) = object.shift_remove(key) else { continue };
        match role.strip_prefix("vectors.") {
            Some(space) => spaces.insert(space.to_owned(), value),
            None => taken.insert(role, value),
        };
    }
    // A key that is called like a role and is not it is metadata.
    let mut aside = Map::new();
    for role in Role::ALL {
        if map.named(role).is_some() {
            let names = if role == Role::Id { vec!["id", "_id"] } else { vec![role.name()] };
            let others = names.into_iter().filter_map(|name| Some((name.to_owned(), object.shift_remove(name)?)));
            aside.extend(others.collect::<Vec<_>>());
        }
    }
    if !aside.is_empty() {
        match taken.entry("metadata").or_insert_with(|| object.shift_remove("metadata").unwrap_or_default()) {
            Value::Object(metadata) => metadata.extend(aside),
            metadata @ Value::Null => *metadata = Value::Object(aside),
            _ => object.extend(aside),
        }
    }
    if !spaces.is_empty() {
        taken.insert("vectors".to_owned(), Value::Object(spaces));
    }
    object.extend(taken);
    Value::Object(object)
}
