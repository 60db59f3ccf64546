//! Which of the sealed chunks hold this term? One tantivy segment in a folder of its own, made once, never changed.
//!
//! Invariants: the folder holds one segment, whose documents ascend by chunk number; nothing of it is parsed before its
//! digest has been compared; it is derived, so whoever finds it damaged deletes it and builds it again. Nothing here
//! parses queries (tantivy's parser overflows the stack on nested input), and no lock or watcher is left behind.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tantivy::directory::MmapDirectory;
use tantivy::directory::error::{OpenReadError, OpenWriteError};
use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::Postings as _;
use tantivy::schema::{Field, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions};
use tantivy::store::Compressor;
use tantivy::tokenizer::{Token, TokenStream, Tokenizer, TokenizerManager};
use tantivy::{
    DocSet, Index, IndexSettings, InvertedIndexReader, SegmentReader, TERMINATED, TantivyDocument, TantivyError, Term,
};
use xxhash_rust::xxh3::Xxh3;

use super::{Analyzer, Postings};
use crate::{Error, Result};

const TEXT: &str = "text";
const CHUNK: &str = "chunk";
/// The name under which tantivy finds our analyzer while a segment is built.
const TOKENIZER: &str = "quiverdb";
/// The size tantivy plans its term table for; it grows when that does not suffice.
const BUILD_BYTES: usize = 64 << 20;

/// What all bytes of a segment's folder sum up to: XXH3 (64 bits) over its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentDigest(pub(crate) u64);

/// A sealed inverted index in a folder, read through memory maps.
pub(crate) struct TextSegment {
    folder: PathBuf,
    index: std::sync::Arc<InvertedIndexReader>,
    fieldnorms: FieldNormReader,
    text: Field,
    /// The chunk number of each document of the segment.
    chunks: Vec<u32>,
}

impl std::fmt::Debug for TextSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextSegment").field("folder", &self.folder).field("chunks", &self.chunks.len()).finish()
    }
}

impl TextSegment {
    /// Builds a segment of chunks, given in ascending order of their numbers, in a folder that is new or empty. When
    /// this returns, all of it is on disk, the folder's own name included. After an error the folder is to be deleted.
    ///
    /// Cost: the analysis plus tantivy's indexing on this thread; memory for the postings.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses; [`Error::Engine`] where the folder is not empty or tantivy fails.
    pub(crate) fn build(
        folder: &Path,
        analyzer: &Analyzer,
        chunks: impl IntoIterator<Item = (u32, impl AsRef<str>)>,
    ) -> Result<SegmentDigest> {
        fs::create_dir_all(folder).map_err(|source| io_error(folder, source))?;
        if !files(folder)?.is_empty() {
            return Err(Error::Engine(format!("segment folder {} is not empty", folder.display())));
        }
        write_index(folder, analyzer, chunks).map_err(|error| foreign(folder, error))?;
        for name in files(folder)? {
            let path = folder.join(name);
            let synced = File::options().read(true).write(true).open(&path).and_then(|file| file.sync_all());
            synced.map_err(|source| io_error(&path, source))?;
        }
        sync_folder(folder)?;
        sync_folder(folder.parent().unwrap_or(folder))?;
        digest(folder)
    }

    /// Opens a segment that was built with this digest.
    ///
    /// Cost: all files are read once (some GB a second when cached), and 4 bytes a chunk stay in memory.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the folder where it is missing, or is not what was built.
    pub(crate) fn open(folder: &Path, expected: SegmentDigest) -> Result<Self> {
        let found = digest(folder).map_err(|error| corrupt(folder, error))?;
        if found != expected {
            let what = format!("its files sum up to {:016x}, not to {:016x} as when built", found.0, expected.0);
            return Err(corrupt(folder, what));
        }
        Self::read(folder).map_err(|error| corrupt(folder, error))
    }

    fn read(folder: &Path) -> tantivy::Result<Self> {
        // Not through `Index::reader`: that takes a lock file and watches the folder, and nothing here changes.
        let index = Index::open(MmapDirectory::open(folder)?)?;
        let segments = index.searchable_segments()?;
        let [segment] = segments.as_slice() else {
            return Err(TantivyError::InternalError(format!("{} segments in place of one", segments.len())));
        };
        let reader = SegmentReader::open(segment)?;
        let text = index.schema().get_field(TEXT)?;
        let column = reader.fast_fields().u64(CHUNK)?;
        let chunk = |document| column.first(document).and_then(|chunk| u32::try_from(chunk).ok());
        let chunks: Option<Vec<u32>> = (0..reader.max_doc()).map(chunk).collect();
        let chunks = chunks.ok_or_else(|| TantivyError::InternalError("a document lacks its chunk number".into()))?;
        let fieldnorms = reader.get_fieldnorms_reader(text)?;
        Ok(Self { folder: folder.to_owned(), index: reader.inverted_index(text)?, fieldnorms, text, chunks })
    }

    fn visit(&self, term: &str, each: &mut dyn FnMut(u32, u32, u8)) -> io::Result<()> {
        let term = Term::from_field_text(self.text, term);
        let Some(mut postings) = self.index.read_postings(&term, IndexRecordOption::WithFreqs)? else { return Ok(()) };
        let mut document = postings.doc();
        while document != TERMINATED {
            let chunk = *self.chunks.get(document as usize).ok_or(io::ErrorKind::InvalidData)?;
            each(chunk, postings.term_freq(), self.fieldnorms.fieldnorm_id(document));
            document = postings.advance();
        }
        Ok(())
    }

    /// The chunk numbers, ascending.
    pub(crate) fn chunks(&self) -> &[u32] {
        &self.chunks
    }
}

impl Postings for TextSegment {
    fn postings(&self, term: &str, each: &mut dyn FnMut(u32, u32, u8)) -> Result<()> {
        self.visit(term, each).map_err(|error| corrupt(&self.folder, error))
    }

    fn range(&self) -> Option<(u32, u32)> {
        self.chunks.first().copied().zip(self.chunks.last().copied())
    }
}

fn write_index(
    folder: &Path,
    analyzer: &Analyzer,
    chunks: impl IntoIterator<Item = (u32, impl AsRef<str>)>,
) -> tantivy::Result<()> {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(TOKENIZER, SegmentTokenizer::new(analyzer));
    let settings = IndexSettings {
        docstore_compression: Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    };
    let (schema, text_field, chunk_field) = schema();
    let builder = Index::builder().schema(schema).settings(settings).tokenizers(tokenizers);
    let mut writer = builder.single_segment_index_writer(MmapDirectory::open(folder)?, BUILD_BYTES)?;
    for (chunk, text) in chunks {
        let mut document = TantivyDocument::default();
        document.add_text(text_field, text.as_ref());
        document.add_u64(chunk_field, u64::from(chunk));
        writer.add_document(document)?;
    }
    writer.finalize().map(drop)
}

fn schema() -> (Schema, Field, Field) {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::WithFreqs)
        .set_fieldnorms(true);
    let mut schema = Schema::builder();
    let text = schema.add_text_field(TEXT, TextOptions::default().set_indexing_options(indexing));
    let chunk = schema.add_u64_field(CHUNK, NumericOptions::default().set_fast());
    (schema.build(), text, chunk)
}

/// XXH3 over the files in the order of their names: length of the name, name, length of the content, content.
fn digest(folder: &Path) -> Result<SegmentDigest> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    for name in files(folder)? {
        let path = folder.join(&name);
        let mut file = File::open(&path).map_err(|source| io_error(&path, source))?;
        let length = file.metadata().map_err(|source| io_error(&path, source))?.len();
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(&length.to_le_bytes());
        loop {
            let read = file.read(&mut buffer).map_err(|source| io_error(&path, source))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
    }
    Ok(SegmentDigest(hash.digest()))
}

/// The names of what the folder holds, sorted, without tantivy's lock files.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| io_error(folder, source))? {
        let entry = entry.map_err(|source| io_error(folder, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !(name.starts_with(".tantivy-") && name.ends_with(".lock")) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes the names in a folder durable. Windows has no such call, and needs none.
fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).map_err(|source| io_error(folder, source))?;
    }
    Ok(())
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

fn corrupt(folder: &Path, what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("text segment {}", folder.display()), what.to_string())
}

/// What tantivy reports while building; a full disk stays an I/O error.
#[allow(clippy::wildcard_enum_match_arm)] // Only the I/O errors among tantivy's are told apart.
fn foreign(folder: &Path, error: TantivyError) -> Error {
    let source = match &error {
        TantivyError::IoError(source) => source,
        TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. }) => io_error,
        TantivyError::OpenWriteError(OpenWriteError::IoError { io_error, .. }) => io_error,
        other => return Error::Engine(format!("text segment {}: {other}", folder.display())),
    };
    io_error(folder, io::Error::new(source.kind(), source.to_string()))
}

/// Our analyzer, as tantivy calls it.
#[derive(Clone)]
struct SegmentTokenizer {
    analyzer: Analyzer,
    terms: TermBuffer,
}

/// The terms of one text, joined, and where each ends.
#[derive(Clone, Default)]
struct TermBuffer {
    letters: String,
    ends: Vec<usize>,
}

struct SegmentTokens<'a> {
    terms: &'a TermBuffer,
    next: usize,
    token: Token,
}

impl SegmentTokenizer {
    fn new(analyzer: &Analyzer) -> Self {
        Self { analyzer: analyzer.clone(), terms: TermBuffer::default() }
    }
}

impl Tokenizer for SegmentTokenizer {
    type TokenStream<'a> = SegmentTokens<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> SegmentTokens<'a> {
        let TermBuffer { letters, ends } = &mut self.terms;
        letters.clear();
        ends.clear();
        self.analyzer.for_each_term(text, &mut |term| {
            letters.push_str(term);
            ends.push(letters.len());
        });
        SegmentTokens { terms: &self.terms, next: 0, token: Token::default() }
    }
}

impl TokenStream for SegmentTokens<'_> {
    fn advance(&mut self) -> bool {
        let Some(&end) = self.terms.ends.get(self.next) else { return false };
        let start = self.next.checked_sub(1).map_or(0, |before| self.terms.ends[before]);
        self.token.text.clear();
        self.token.text.push_str(&self.terms.letters[start..end]);
        self.token.position = self.next;
        self.next += 1;
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
