//! How do the answers to a query become a context, their neighbours with them?
//!
//! Invariants: neighbours come after all hits, so that they take of the budget only what the hits leave; chunks that follow
//! each other in a document touch, the blanks between them included, so that they become one.

use std::collections::{HashMap, HashSet};

use quiverdb_storage::{DocumentId, Snapshot};

use crate::Result;
use crate::context::{Context, ContextOptions, Passage, context};
use crate::embed::words_and_marks;
use crate::parts::Parts;
use crate::query::{self, pages::Pages};
use crate::types::{Hit, Query, SearchResults, Timings};

/// Searches, and puts what it finds into a context; told with it is how long the search took. Where it is `stopped`, the
/// context is nothing that anybody should read.
pub(super) fn context_of(
    parts: &Parts,
    snapshot: &Snapshot,
    query: &Query,
    options: &ContextOptions,
    stopped: &dyn Fn() -> bool,
) -> Result<(Context, Timings)> {
    let SearchResults { hits, timings_ms, .. } = query::search(parts, snapshot, query)?;
    let mut chunks: Vec<Chunk> = hits.into_iter().map(Chunk::of_hit).collect();
    add_neighbours(snapshot, &mut chunks, options.neighbours)?;
    close_gaps(snapshot, &mut chunks)?;
    number_pages(snapshot, &mut chunks)?;
    let passages: Vec<Passage> = chunks.into_iter().map(|chunk| chunk.passage).collect();
    let embedder = match options.count {
        Some(_) => None,
        None => parts.space().embedder()?,
    };
    let count = |text: &str| match (&options.count, &embedder) {
        // Nothing fits any more, so that what is left is soon done.
        _ if stopped() => usize::MAX,
        (Some(count), _) => count(text),
        (None, Some(embedder)) => embedder.token_ranges(text).len(),
        (None, None) => words_and_marks(text).len(),
    };
    Ok((context(&passages, options.budget_tokens, &count, options.format), timings_ms))
}

/// A passage, and its place in its document.
struct Chunk {
    document: DocumentId,
    ordinal: u32,
    passage: Passage,
}

impl Chunk {
    fn of_hit(hit: Hit) -> Self {
        let Hit { document, chunk: ordinal, start, end, text, title, heading, page, .. } = hit;
        let passage = Passage { document: document.to_string(), title, heading, start, end, page, text };
        Self { document, ordinal, passage }
    }
}

/// The chunks before and after the hits, the nearest of all hits first; none twice.
fn add_neighbours(snapshot: &Snapshot, chunks: &mut Vec<Chunk>, reach: u32) -> Result<()> {
    let hits: Vec<(DocumentId, u32)> = chunks.iter().map(|chunk| (chunk.document.clone(), chunk.ordinal)).collect();
    let mut seen: HashSet<(&DocumentId, u32)> = hits.iter().map(|(document, ordinal)| (document, *ordinal)).collect();
    for distance in 1..=reach {
        let before = seen.len();
        for (document, ordinal) in &hits {
            for ordinal in [ordinal.checked_add(distance), ordinal.checked_sub(distance)].into_iter().flatten() {
                if !seen.contains(&(document, ordinal))
                    && let Some(chunk) = snapshot.chunk_of(document, ordinal)?
                {
                    seen.insert((document, ordinal));
                    let (start, end) = (chunk.start, chunk.end);
                    let (title, heading, text) = (chunk.title, chunk.heading, chunk.text);
                    let document_id = document.to_string();
                    let passage = Passage { document: document_id, title, heading, start, end, page: None, text };
                    chunks.push(Chunk { document: document.clone(), ordinal, passage });
                }
            }
        }
        if seen.len() == before {
            // All of their documents are here.
            break;
        }
    }
    Ok(())
}

/// Neighbours are on pages where the hits of their document are; with them a passage may begin on an earlier one.
fn number_pages(snapshot: &Snapshot, chunks: &mut [Chunk]) -> Result<()> {
    let has_page = |chunk: &&Chunk| chunk.passage.page.is_some();
    let paged: HashSet<DocumentId> = chunks.iter().filter(has_page).map(|chunk| chunk.document.clone()).collect();
    let mut pages = Pages::of(snapshot);
    for chunk in chunks.iter_mut().filter(|chunk| paged.contains(&chunk.document)) {
        chunk.passage.page = pages.page(&chunk.document, chunk.passage.start)?;
    }
    Ok(())
}

/// Of two chunks that follow each other, the less relevant one takes the blanks between them: it may be left out.
fn close_gaps(snapshot: &Snapshot, chunks: &mut [Chunk]) -> Result<()> {
    let places: HashMap<(DocumentId, u32), usize> =
        chunks.iter().enumerate().map(|(at, chunk)| ((chunk.document.clone(), chunk.ordinal), at)).collect();
    for first in 0..chunks.len() {
        let Chunk { document, ordinal, passage } = &chunks[first];
        let next = ordinal.checked_add(1).and_then(|next| places.get(&(document.clone(), next)));
        let Some(&second) = next.filter(|next| chunks[**next].passage.start > passage.end) else { continue };
        let (start, end) = (passage.end, chunks[second].passage.start);
        let Some(gap) = snapshot.text_between(document, start, end)? else { continue };
        if first < second {
            chunks[second].passage.text.insert_str(0, &gap);
            chunks[second].passage.start = start;
        } else {
            chunks[first].passage.text.push_str(&gap);
            chunks[first].passage.end = end;
        }
    }
    Ok(())
}
