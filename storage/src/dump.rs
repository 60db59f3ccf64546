//! What does the database hold, as text?
//!
//! Invariant: the text depends on the content alone, not on the order of writing, on numbers within, or on what is
//! sealed. Two databases with the same content dump the same text.

use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64;

use crate::guard::damage_as_error;
use crate::{CollectionInfo, DocumentId, Result, Snapshot, SpaceSettings, Store, StoredChunk, StoredDocument};

/// Numbers of a vector that are written out; the rest is in its checksum.
const NUMBERS_SHOWN: usize = 4;
const PAGE: usize = 256;

impl Store {
    /// The content of the database as text: the same for the same content, however it came about.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a record is damaged.
    pub fn dump(&self) -> Result<String> {
        damage_as_error("the database", || {
            let mut out = String::new();
            for (alias, name) in self.aliases()? {
                line(&mut out, 0, format_args!("alias {alias} of {name}"));
            }
            for info in self.collections()? {
                collection(&mut out, &Snapshot::kept(&self.0, info.id)?, &info)?;
            }
            Ok(out)
        })
    }
}

fn collection(out: &mut String, snapshot: &Snapshot, info: &CollectionInfo) -> Result<()> {
    let settings = serde_json::to_string(&info.settings).unwrap_or_default();
    line(out, 0, format_args!("collection {} {settings}", info.name));
    line(out, 1, format_args!("{} documents, {} chunks", snapshot.documents(), snapshot.chunks()));
    let mut after: Option<DocumentId> = None;
    loop {
        let page = snapshot.scan(after.as_ref(), PAGE)?;
        for found in &page {
            document(out, found);
            for found in snapshot.stored_chunks(&found.id)? {
                chunk(out, &found, &info.settings.spaces);
            }
        }
        match page.into_iter().next_back() {
            Some(last) => after = Some(last.id),
            None => return Ok(()),
        }
    }
}

fn document(out: &mut String, document: &StoredDocument) {
    let StoredDocument { id, title, text, metadata, digest, expires_at } = document;
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    match id {
        DocumentId::Integer(number) => line(out, 1, format_args!("document {number}")),
        DocumentId::Text(name) => line(out, 1, format_args!("document {name:?}")),
    }
    line(out, 2, format_args!("digest {digest}"));
    if let Some(title) = title {
        line(out, 2, format_args!("title {title:?}"));
    }
    if let Some(at) = expires_at {
        line(out, 2, format_args!("expires at {at}"));
    }
    line(out, 2, format_args!("metadata {}", serde_json::to_string(metadata).unwrap_or_default()));
    line(out, 2, format_args!("text {text:?}"));
}

fn chunk(out: &mut String, chunk: &StoredChunk, spaces: &[SpaceSettings]) {
    let StoredChunk { ordinal, start, end, heading, vectors } = chunk;
    line(out, 2, format_args!("chunk {ordinal}: {start}..{end} {heading:?}"));
    for (space, vector) in spaces.iter().zip(vectors) {
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let shown = &vector[..vector.len().min(NUMBERS_SHOWN)];
        let (name, dims, checksum) = (&space.name, vector.len(), xxh3_64(&bytes));
        line(out, 3, format_args!("vector {name}: {shown:?} of {dims}, xxh3 {checksum:016x}"));
    }
}

fn line(out: &mut String, depth: usize, what: std::fmt::Arguments<'_>) {
    for _ in 0..depth {
        out.push_str("  ");
    }
    // Writing to a string does not fail.
    let _ = writeln!(out, "{what}");
}
