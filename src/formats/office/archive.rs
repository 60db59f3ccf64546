//! What does this part of the archive hold?
//!
//! Invariants: no more than [`TOTAL_BYTES_MAX`] are inflated in all, whatever the archive claims; a path is a name in the
//! archive and never one on disk.

use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

/// The largest part that is read, inflated.
const PART_BYTES_MAX: u64 = 64 << 20;
/// All parts of an archive together, inflated.
const TOTAL_BYTES_MAX: u64 = 256 << 20;
/// XML of sheets shrinks to a hundredth at most; what shrinks further, and is large, is made to hurt.
const RATIO_MAX: u64 = 250;
/// Below this size nobody asks for the ratio.
const RATIO_FROM_BYTES: u64 = 8 << 20;
const PARTS_MAX: usize = 65_536;

/// An archive in memory.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    read: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
            return Err(
                "it is encrypted, or of a version of Office before 2007; save it again without a password".into()
            );
        }
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|error| format!("it is no whole archive ({error}); save or copy it again"))?;
        if zip.len() > PARTS_MAX {
            return Err(format!("it has {} parts; {PARTS_MAX} are read at most", zip.len()));
        }
        Ok(Self { zip, read: 0 })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(name).is_some()
    }

    /// A part as text; `None` where there is none of that name.
    pub(super) fn part(&mut self, name: &str) -> Result<Option<String>, String> {
        let bytes = match self.zip.by_name(name) {
            Ok(part) if part.encrypted() => return Err("it is encrypted; save it without a password".into()),
            Ok(mut part) => {
                let room = PART_BYTES_MAX.min(TOTAL_BYTES_MAX - self.read.min(TOTAL_BYTES_MAX));
                let packed = part.compressed_size().max(1);
                let mut bytes = Vec::new();
                part.by_ref()
                    .take(room + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| format!("its part {name} is damaged ({error}); save or copy it again"))?;
                let size = bytes.len() as u64;
                if size > room || (size > RATIO_FROM_BYTES && size / packed > RATIO_MAX) {
                    return Err(format!(
                        "its part {name} inflates to {} MiB or more from {packed} bytes; {} MiB a part, {} MiB in all and {RATIO_MAX} \
                         to one are the limits. Split it, or save its text",
                        size >> 20,
                        PART_BYTES_MAX >> 20,
                        TOTAL_BYTES_MAX >> 20,
                    ));
                }
                self.read += size;
                bytes
            }
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(format!("its part {name} cannot be read ({error}); save or copy it again")),
        };
        Ok(Some(crate::formats::encoding::decode_marked_up(&bytes).text))
    }

    /// A part that must be there.
    pub(super) fn needed(&mut self, name: &str) -> Result<String, String> {
        self.part(name)?.ok_or_else(|| format!("it has no part {name}; save or copy it again"))
    }
}

/// What a part points to: id -> name in the archive, from its `_rels/*.rels`.
pub(super) fn relations(archive: &mut Archive<'_>, part: &str) -> Result<Vec<(String, String)>, String> {
    let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
    let Some(xml) = archive.part(&format!("{folder}/_rels/{file}.rels"))? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    super::xml::walk(&xml, |event| {
        if let super::xml::Event::Start(element) = event
            && element.name() == "Relationship"
            && let (Some(id), Some(target)) = (element.attribute("Id"), element.attribute("Target"))
        {
            found.push((id, joined(folder, &target)));
        }
    })?;
    Ok(found)
}

/// A path relative to a folder of the archive.
pub(super) fn joined(folder: &str, path: &str) -> String {
    let mut names: Vec<&str> = if path.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.retain(|name| !name.is_empty());
    names.join("/")
}
