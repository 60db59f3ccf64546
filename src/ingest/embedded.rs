//! May the vectors that a document carries stand for what our models would make?
//!
//! Invariant: a vector is taken only for a chunk that was made here, of the same bytes under the same title and headings,
//! for a space whose model and size of chunks have the digest that the vector came with.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::PreparedChunk;
use crate::embed::ModelSpec;
use crate::parts::Parts;
use crate::spaces::Space;
use crate::types::{Document, Embedded, EmbeddedChunk};

/// The digest of each space's model and chunking, by the space's name; of those that have a model.
pub(crate) fn models_of(parts: &Parts) -> BTreeMap<String, String> {
    // Titles are cut by the default space's model, whichever reads them.
    let cutter = parts.space().spec();
    let digest =
        |space: &Space| Some((space.name().to_owned(), digest(space.spec()?, cutter, parts.config.chunk_tokens)));
    parts.spaces().iter().filter_map(digest).collect()
}

/// The size of a chunk counts, because a long title is cut by it before the model reads it.
fn digest(spec: &ModelSpec, cutter: Option<&ModelSpec>, chunk_tokens: usize) -> String {
    let mut hasher = Sha256::new();
    let cutter = cutter.into_iter().flat_map(ModelSpec::identity);
    for part in spec.identity().into_iter().chain(cutter).chain([chunk_tokens.to_string()]) {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hexadecimal(&hasher.finalize())
}

/// The digest of what models read of a chunk: enough of it to tell that somebody has edited the text.
pub(crate) fn chunk_digest(title: Option<&str>, heading: &str, text: &str) -> String {
    let mut hasher = Sha256::new();
    for part in [title.unwrap_or_default(), heading, text] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hexadecimal(&hasher.finalize()[..8])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives chunks the vectors that the document carries for them, as far as they are of our models.
pub(super) fn take(parts: &Parts, document: &Document, chunks: &mut [PreparedChunk]) {
    let Some(Embedded { models, chunks: carried }) = document.embedded.as_deref() else { return };
    let ours = models_of(parts);
    let is_same = |space: &&Space| {
        let name = space.name();
        ours.get(name).is_some_and(|digest| models.get(name) == Some(digest))
    };
    let spaces: Vec<&Space> = parts.spaces().iter().filter(is_same).collect();
    if spaces.is_empty() {
        return;
    }
    let known: HashMap<_, _> = carried.iter().map(|chunk| ((chunk.start, chunk.end), chunk)).collect();
    for PreparedChunk { chunk, vectors, .. } in chunks {
        let Some(EmbeddedChunk { heading, digest, vectors: carried, .. }) = known.get(&(chunk.start, chunk.end)) else {
            continue;
        };
        let text = &document.text[chunk.start..chunk.end];
        if *heading != chunk.heading || *digest != chunk_digest(document.title.as_deref(), heading, text) {
            continue;
        }
        for space in &spaces {
            let Some(vector) = carried.get(space.name()) else { continue };
            // One that is damaged is made anew.
            if space.validate_vector(vector, "").is_ok() {
                vectors[space.index].get_or_insert_with(|| vector.clone());
            }
        }
    }
}
