//! What lies in the folder of a sealed segment, and can it be believed?
//!
//! `manifest` names the files of a folder with a checksum for each block of each; its own digest stands in redb. `file`
//! reads such a file and compares a block's checksum when the block is first touched. `roster` is the file that tells
//! whose chunk is whose; `rows` writes vectors and reads them back while a graph is built. What the other files mean is the business of those who write them: `text` knows tantivy's.
//!
//! Invariants: a folder never changes once it is finished; opening one costs its manifest and not its size; no byte of
//! it is handed out before its block's checksum fits. Everything in a folder is derived, so whoever meets damage goes to
//! redb instead. Nothing here knows collections, redb or tantivy.

mod file;
mod manifest;
mod roster;
mod rows;

pub(crate) use file::{CheckedFile, write_file};
pub(crate) use manifest::{SegmentDigest, SegmentFolder};
pub(crate) use roster::{RosterFile, write_roster};
pub(crate) use rows::RowsFile;

/// The version of the folders: of the manifest, and of which files there are and what they mean. Those of another version
/// are built again.
pub(crate) const FOLDER_VERSION: u32 = 2;

/// The names of the files that are ours.
pub(crate) const CHUNKS_FILE: &str = "chunks";
/// See [`CHUNKS_FILE`].
pub(crate) const ROSTER_FILE: &str = "roster";
/// See [`CHUNKS_FILE`].
pub(crate) const METADATA_FILE: &str = "metadata";

/// The name of the file of a space, by its index in the settings.
pub(crate) fn space_file(space: usize) -> String {
    format!("space-{space}")
}

#[cfg(test)]
mod tests;
