//! Which of the sealed chunks hold this term? One tantivy segment in a folder, made once, never changed.
//!
//! Beside tantivy's files lies `chunks`: the chunk number of each of its documents. tantivy's files are opened when the
//! first term is asked for; its dictionary and lengths are verified then, of the postings only what a term touches.
//!
//! Invariants: the folder holds one tantivy segment, whose documents ascend by chunk number; nothing of it is parsed
//! before its blocks are verified; it is derived, so whoever finds it damaged goes to redb and has it built again. Nothing
//! here parses queries (tantivy's parser overflows the stack on nested input), and no lock or watcher is left behind.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use tantivy::directory::MmapDirectory;
use tantivy::directory::error::{OpenReadError, OpenWriteError};
use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{Postings as _, SegmentPostings};
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::store::Compressor;
use tantivy::termdict::TermStreamer;
use tantivy::tokenizer::{Token, TokenStream, Tokenizer, TokenizerManager};
use tantivy::{
    DocSet, Index, IndexSettings, InvertedIndexReader, SegmentReader, TERMINATED, TantivyDocument, TantivyError, Term,
};
use tantivy_fst::Automaton;

use super::directory::FolderDirectory;
use super::{Analyzer, Pattern, Postings};
use crate::files::io_error;
use crate::guard::damage_as_error;
use crate::segment::{CHUNKS_FILE, CheckedFile, SegmentFolder, write_file};
use crate::{Error, Result};

const TEXT: &str = "text";
/// The name under which tantivy finds our analyzer while a segment is built.
const TOKENIZER: &str = "quiverdb";
/// The size tantivy plans its term table for; it grows when that does not suffice.
const BUILD_BYTES: usize = 64 << 20;
const NUMBER_BYTES: usize = size_of::<u32>();

/// A sealed inverted index in a folder, read through memory maps.
pub(crate) struct TextSegment {
    folder: SegmentFolder,
    /// The chunk numbers that its chunks lie in.
    covers: Range<u32>,
    /// The chunk number of each document of tantivy's, as `u32`.
    chunks: Arc<CheckedFile>,
    /// tantivy's reader, or why there is none.
    index: OnceLock<std::result::Result<TextIndex, String>>,
}

/// What is read of tantivy's files.
struct TextIndex {
    terms: Arc<InvertedIndexReader>,
    fieldnorms: FieldNormReader,
    text: Field,
}

impl std::fmt::Debug for TextSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextSegment").field("folder", &self.folder.path()).field("covers", &self.covers).finish()
    }
}

impl TextSegment {
    /// Writes the index of chunks, given in ascending order of their numbers, into a folder. Whoever finishes the folder
    /// syncs it; after an error it is to be deleted.
    ///
    /// Cost: the analysis plus tantivy's indexing on this thread; memory for the postings.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses; [`Error::Engine`] where tantivy fails.
    pub(crate) fn build(
        folder: &Path,
        analyzer: &Analyzer,
        chunks: impl IntoIterator<Item = (u32, impl AsRef<str>)>,
    ) -> Result<()> {
        let numbers = write_index(folder, analyzer, chunks).map_err(|error| foreign(folder, error))?;
        write_file(&folder.join(CHUNKS_FILE), |out| {
            numbers.iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))
        })
    }

    /// Opens the index in a folder, whose chunks have numbers in `covers`.
    ///
    /// Cost: nothing is read before the first term is asked for.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the folder where it has no such index.
    pub(crate) fn open(folder: &SegmentFolder, covers: Range<u32>) -> Result<Self> {
        let chunks = folder.file(CHUNKS_FILE)?;
        if chunks.len() % NUMBER_BYTES != 0 {
            return Err(chunks.corrupt(format!("{} bytes are no list of chunk numbers", chunks.len())));
        }
        Ok(Self { folder: folder.clone(), covers, chunks, index: OnceLock::new() })
    }

    /// tantivy's reader. It propagates what the folder's files report; a panic, which would be a bug of its own, becomes
    /// damage, too.
    fn index(&self) -> Result<&TextIndex> {
        let read = || {
            let read = || read_index(&self.folder).map_err(|error| corrupt(self.folder.path(), error));
            damage_as_error("text segment", read).map_err(|error| error.to_string())
        };
        self.index.get_or_init(read).as_ref().map_err(|what| corrupt(self.folder.path(), what))
    }

    fn read_postings(&self, index: &TextIndex, term: &str) -> Result<Option<SegmentPostings>> {
        let term = Term::from_field_text(index.text, term);
        let read = || index.terms.read_postings(&term, IndexRecordOption::WithFreqs);
        damage_as_error("text segment", || read().map_err(|error| corrupt(self.folder.path(), error)))
    }

    /// How many chunks it has.
    pub(crate) fn chunks_len(&self) -> usize {
        self.chunks.len() / NUMBER_BYTES
    }

    /// The number of the chunk that is tantivy's document `document`.
    #[inline]
    fn chunk(&self, document: usize) -> Result<u32> {
        let bytes = self.chunks.get(document * NUMBER_BYTES..(document + 1) * NUMBER_BYTES)?;
        let chunk = u32::from_le_bytes(bytes.try_into().expect("four bytes were asked for"));
        if !self.covers.contains(&chunk) {
            return Err(self.chunks.corrupt(format!("chunk {chunk} does not lie in {:?}", self.covers)));
        }
        Ok(chunk)
    }

    /// The chunk numbers, ascending.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where they are not what was written.
    pub(crate) fn chunks(&self) -> Result<Vec<u32>> {
        (0..self.chunks_len()).map(|document| self.chunk(document)).collect()
    }
}

fn read_index(folder: &SegmentFolder) -> tantivy::Result<TextIndex> {
    // Not through `Index::reader`: that takes a lock file and watches the folder, and nothing here changes.
    let index = Index::open(FolderDirectory(folder.clone()))?;
    let segments = index.searchable_segments()?;
    let [segment] = segments.as_slice() else {
        return Err(TantivyError::InternalError(format!("{} segments in place of one", segments.len())));
    };
    let reader = SegmentReader::open(segment)?;
    let text = index.schema().get_field(TEXT)?;
    Ok(TextIndex { terms: reader.inverted_index(text)?, fieldnorms: reader.get_fieldnorms_reader(text)?, text })
}

impl Postings for TextSegment {
    fn postings(&self, term: &str, each: &mut dyn FnMut(u32, u32, u8)) -> Result<()> {
        let index = self.index()?;
        let Some(mut postings) = self.read_postings(index, term)? else { return Ok(()) };
        let mut document = postings.doc();
        while document != TERMINATED {
            each(self.chunk(document as usize)?, postings.term_freq(), index.fieldnorms.fieldnorm_id(document));
            document = postings.advance();
        }
        Ok(())
    }

    fn terms(&self, pattern: &Pattern, each: &mut dyn FnMut(&str, u64)) -> Result<()> {
        let index = self.index()?;
        let mut read = || -> io::Result<()> {
            let dictionary = index.terms.terms();
            match pattern {
                Pattern::Prefix(prefix) => {
                    let from = dictionary.range().ge(prefix.as_bytes()).into_stream()?;
                    walk(from, |term| term.starts_with(prefix.as_bytes()), each)
                }
                Pattern::Near(near) => walk(dictionary.search(near).into_stream()?, |_| true, each),
            }
        };
        damage_as_error("text segment", || read().map_err(|error| corrupt(self.folder.path(), error)))
    }

    fn range(&self) -> Option<(u32, u32)> {
        self.covers.end.checked_sub(1).filter(|last| self.covers.contains(last)).map(|last| (self.covers.start, last))
    }
}

/// Passes the terms of a stream on, as long as they go on to be wanted.
fn walk<A: Automaton>(
    mut terms: TermStreamer<'_, A>,
    goes_on: impl Fn(&[u8]) -> bool,
    each: &mut dyn FnMut(&str, u64),
) -> io::Result<()>
where
    A::State: Clone,
{
    while let Some((term, info)) = terms.next() {
        if !goes_on(term) {
            break;
        }
        let term = std::str::from_utf8(term).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        each(term, u64::from(info.doc_freq));
    }
    Ok(())
}

/// Writes tantivy's files; returns the chunk number of each of its documents.
fn write_index(
    folder: &Path,
    analyzer: &Analyzer,
    chunks: impl IntoIterator<Item = (u32, impl AsRef<str>)>,
) -> tantivy::Result<Vec<u32>> {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(TOKENIZER, SegmentTokenizer::new(analyzer));
    let settings = IndexSettings {
        docstore_compression: Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    };
    let (schema, text_field) = schema();
    let builder = Index::builder().schema(schema).settings(settings).tokenizers(tokenizers);
    let mut writer = builder.single_segment_index_writer(MmapDirectory::open(folder)?, BUILD_BYTES)?;
    let mut numbers = Vec::new();
    for (chunk, text) in chunks {
        let mut document = TantivyDocument::default();
        document.add_text(text_field, text.as_ref());
        writer.add_document(document)?;
        numbers.push(chunk);
    }
    writer.finalize()?;
    Ok(numbers)
}

fn schema() -> (Schema, Field) {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::WithFreqs)
        .set_fieldnorms(true);
    let mut schema = Schema::builder();
    let text = schema.add_text_field(TEXT, TextOptions::default().set_indexing_options(indexing));
    (schema.build(), text)
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
