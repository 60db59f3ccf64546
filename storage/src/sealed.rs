//! What answers for the chunks of a sealed segment, whatever state its folder is in?
//!
//! Its files do while they are believed. Where the folder was found missing or damaged when the view was loaded, the
//! view's own runs do. Where a search meets damage later, it is noted here, and what redb holds of these chunks is loaded
//! and stands in.
//!
//! Invariants: the first damage that is met ends the trust in the whole segment, which is then built again; what stands in
//! serves the views of its own commit and of later ones, because those know which of its chunks died since.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec::SegmentRecord;
use crate::filter::index::Index;
use crate::graph::{Graph, Walker};
use crate::roster::{Entry, RosterRun};
use crate::segment::{
    CheckedFile, FOLDER_VERSION, METADATA_FILE, ROSTER_FILE, RosterFile, SegmentDigest, SegmentFolder, space_file,
};
use crate::text::{ANALYSIS_VERSION, Pattern, Postings, TextRun, TextSegment};
use crate::vectors::Column;
use crate::{Error, Result};

/// What a segment must have been built as to be read: the version of its folder and that of the text analysis.
pub(crate) const SEGMENT_VERSION: u32 = FOLDER_VERSION << 16 | ANALYSIS_VERSION;

/// A sealed segment.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) number: u32,
    pub(crate) record: SegmentRecord,
    /// `None` where the folder was missing, damaged or out of reach when the view was loaded.
    folder: Option<Folder>,
    /// Whether the system would not let us see the folder: there is no reason to think that it is damaged.
    out_of_reach: bool,
    /// Whether damage was met since.
    distrusted: AtomicBool,
    stand_in: Mutex<Option<StandIn>>,
    /// Held while what stands in is loaded.
    loading: Mutex<()>,
}

/// The files of a segment, open.
pub(crate) struct Folder {
    pub(crate) text: TextSegment,
    pub(crate) roster: RosterFile,
    pub(crate) metadata: Index<Arc<CheckedFile>>,
    /// One a space, in the order of the settings.
    pub(crate) spaces: Vec<Walker<Arc<CheckedFile>>>,
}

/// Some chunks in memory, all there is of them.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) roster: RosterRun,
    /// One a space, each of one run.
    pub(crate) columns: Vec<Column>,
    pub(crate) text: TextRun,
}

/// The chunks of a segment that were live at a commit, and so all that are at a later one.
#[derive(Debug)]
struct StandIn {
    sequence: u64,
    span: Arc<Span>,
}

/// What answers for a segment's chunks in a view.
pub(crate) enum Source<'a> {
    Folder(&'a Sealed, &'a Folder),
    StandIn(Arc<Span>),
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").field("text", &self.text).finish_non_exhaustive()
    }
}

impl Folder {
    /// Opens what was built with this record, for a collection of so many spaces.
    ///
    /// Cost: the manifest is read, and the head of each file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the folder is not what was built, as far as its manifest and the heads tell.
    pub(crate) fn open(path: &Path, record: &SegmentRecord, spaces: usize) -> Result<Self> {
        let folder = SegmentFolder::open(path, SegmentDigest(record.digest))?;
        let covers = record.first..record.end;
        let place = path.join(METADATA_FILE).display().to_string();
        let spaces = (0..spaces).map(|space| Graph::open(folder.file(&space_file(space))?));
        Ok(Self {
            text: TextSegment::open(&folder, covers.clone())?,
            roster: RosterFile::open(folder.file(ROSTER_FILE)?)?,
            metadata: Index::open(folder.file(METADATA_FILE)?, place, covers)?,
            spaces: spaces.map(|graph| graph.map(Walker::new)).collect::<Result<_>>()?,
        })
    }
}

impl Sealed {
    pub(crate) fn new(number: u32, record: SegmentRecord, folder: Option<Folder>) -> Self {
        let (out_of_reach, distrusted) = (false, AtomicBool::new(false));
        let (stand_in, loading) = (Mutex::new(None), Mutex::new(()));
        Self { number, record, folder, out_of_reach, distrusted, stand_in, loading }
    }

    /// The segment of this record as it is found: its files answer, or they are damaged, or out of reach. Whatever is wrong
    /// with it, all that it holds is in redb.
    pub(crate) fn found(number: u32, record: SegmentRecord, opened: Result<Folder>) -> Self {
        let out_of_reach = matches!(opened, Err(Error::Io { .. }));
        Self { out_of_reach, ..Self::new(number, record, opened.ok()) }
    }

    /// Whether its files could not be opened for a reason that may pass: too many open files, no memory, no permission, an
    /// error of the disk. They are to be tried again, not to be built again.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.out_of_reach && !self.distrusted.load(Ordering::Relaxed)
    }

    /// Whether its files answer, as far as was known when it was loaded.
    pub(crate) fn is_open(&self) -> bool {
        self.folder.is_some()
    }

    pub(crate) fn covers(&self, chunk: u32) -> bool {
        (self.record.first..self.record.end).contains(&chunk)
    }

    /// Notes that it is damaged: it is to be built again.
    pub(crate) fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    /// Whether it is missing, or damage was met in it.
    pub(crate) fn is_damaged(&self) -> bool {
        self.folder.is_none() && !self.out_of_reach || self.distrusted.load(Ordering::Relaxed)
    }

    /// Whether damage was met in it since it was loaded, and nothing stands in for it in a view of this commit.
    fn lacks_stand_in(&self, sequence: u64) -> bool {
        self.folder.is_some() && self.is_damaged() && self.stand_in(sequence).is_none()
    }

    /// Lets chunks in memory stand in for it, those of its range that are live at this commit, where nothing does yet.
    /// However many searches meet the damage at once, one loads them and the others wait for it.
    ///
    /// # Errors
    /// Those of `load`; the next search tries again.
    pub(crate) fn stand_in_with(&self, sequence: u64, load: impl FnOnce() -> Result<Span>) -> Result<()> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lacks_stand_in(sequence) {
            self.put_stand_in(sequence, load()?);
        }
        Ok(())
    }

    /// Those of an earlier commit stay: they serve more views.
    fn put_stand_in(&self, sequence: u64, span: Span) {
        let mut stand_in = self.stand_in.lock().unwrap_or_else(PoisonError::into_inner);
        if stand_in.as_ref().is_none_or(|other| sequence < other.sequence) {
            *stand_in = Some(StandIn { sequence, span: Arc::new(span) });
        }
    }

    /// What stands in for it in a view of this commit: what is of an earlier one has all that lives, and more.
    fn stand_in(&self, sequence: u64) -> Option<Arc<Span>> {
        if !self.distrusted.load(Ordering::Relaxed) {
            return None;
        }
        let stand_in = self.stand_in.lock().unwrap_or_else(PoisonError::into_inner);
        stand_in.as_ref().filter(|stand_in| stand_in.sequence <= sequence).map(|stand_in| Arc::clone(&stand_in.span))
    }

    /// What answers in a view of this commit; `None` where the view's own runs have its chunks.
    pub(crate) fn source(&self, sequence: u64) -> Option<Source<'_>> {
        let folder = self.folder.as_ref()?;
        Some(self.stand_in(sequence).map_or(Source::Folder(self, folder), Source::StandIn))
    }

    /// Passes an answer of its files on, and notes the damage where that is what they say.
    pub(crate) fn watch<T>(&self, answer: Result<T>) -> Result<T> {
        answer.inspect_err(|error| {
            if matches!(error, Error::Corrupt { .. }) {
                self.distrust();
            }
        })
    }
}

impl Source<'_> {
    /// Tells of the document that has (or had) this chunk.
    pub(crate) fn owner<T>(&self, chunk: u32, tell: impl FnOnce(Entry<'_>) -> T) -> Result<Option<T>> {
        match self {
            Self::Folder(sealed, folder) => Ok(sealed.watch(folder.roster.owner(chunk))?.map(tell)),
            Self::StandIn(span) => Ok(span.roster.owner(chunk).map(tell)),
        }
    }

    /// The score of a chunk in a space for a query in the form that the metric compares.
    pub(crate) fn similarity(&self, space: usize, prepared: &[f32], chunk: u32) -> Result<Option<f32>> {
        match self {
            Self::Folder(sealed, folder) => sealed.watch(folder.spaces[space].graph.score(chunk, prepared)),
            Self::StandIn(span) => Ok(span.columns[space].similarity(prepared, chunk)),
        }
    }
}

impl Postings for Source<'_> {
    fn postings(&self, term: &str, each: &mut dyn FnMut(u32, u32, u8)) -> Result<()> {
        match self {
            Self::Folder(sealed, folder) => sealed.watch(folder.text.postings(term, each)),
            Self::StandIn(span) => span.text.postings(term, each),
        }
    }

    fn terms(&self, pattern: &Pattern, each: &mut dyn FnMut(&str, u64)) -> Result<()> {
        match self {
            Self::Folder(sealed, folder) => sealed.watch(folder.text.terms(pattern, each)),
            Self::StandIn(span) => span.text.terms(pattern, each),
        }
    }

    fn range(&self) -> Option<(u32, u32)> {
        match self {
            Self::Folder(_, folder) => folder.text.range(),
            Self::StandIn(span) => Postings::range(&span.text),
        }
    }
}
