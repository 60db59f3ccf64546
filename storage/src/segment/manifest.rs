//! Which files does the folder of a segment hold, and what do their blocks sum up to?
//!
//! The manifest is written last, when all else is, and its digest goes into redb: from there a chain of checksums leads to
//! every byte of the folder.
//!
//! Invariants: a folder that was finished is on disk with its name; what the manifest does not name is not looked at; no
//! byte of the manifest is read before its digest fits.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::file::{BLOCK_BYTES, CheckedFile, checksums_of, missing_or, write_file};
use crate::files::{between_steps, io_error, sync_folder};
use crate::{Error, Result};

const MANIFEST: &str = "MANIFEST";
const VERSION: u32 = 1;

/// What a segment's manifest sums up to, and so all that it names: XXH3 (64 bits) over its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentDigest(pub(crate) u64);

/// The finished folder of a segment, open for reading. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFolder {
    path: Arc<Path>,
    files: Arc<BTreeMap<String, Arc<CheckedFile>>>,
    manifest_bytes: usize,
}

/// A file as the manifest has it.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    name: String,
    length: u64,
    checksums: Vec<u64>,
}

impl SegmentFolder {
    /// Makes an empty folder, for its owner alone.
    ///
    /// # Errors
    /// [`Error::Io`] where it is there already or the system refuses.
    pub(crate) fn create(path: &Path) -> Result<()> {
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(|source| io_error(path, source))
    }

    /// Writes the manifest over all files of a folder. When this returns, all of it is on disk, the folder's own name
    /// included. After an error the folder is to be deleted.
    ///
    /// Cost: all bytes are read once, on all cores, and synced.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub(crate) fn finish(path: &Path) -> Result<SegmentDigest> {
        let mut listed = Vec::new();
        for name in names_in(path)? {
            let (length, checksums) = checksums_of(path, &name)?;
            listed.push(Listed { name, length, checksums });
        }
        let bytes = encode(&listed);
        write_file(&path.join(MANIFEST), |out| out.write_all(&bytes))?;
        for name in listed.iter().map(|listed| listed.name.as_str()).chain([MANIFEST]) {
            let path = path.join(name);
            // Windows syncs only what is open for writing.
            let synced = File::options().read(true).write(true).open(&path).and_then(|file| file.sync_all());
            synced.map_err(|source| io_error(&path, source))?;
            between_steps("a file synced");
        }
        sync_folder(path)?;
        sync_folder(path.parent().unwrap_or(path))?;
        Ok(SegmentDigest(xxh3_64(&bytes)))
    }

    /// Opens a folder that was finished with this digest.
    ///
    /// Cost: the manifest is read (8 bytes for every 64 KiB of the folder), and each file is opened and mapped. Their
    /// blocks are verified when they are touched.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the manifest is not the one that was written, or a file is missing or has another length;
    /// [`Error::Io`].
    pub(crate) fn open(path: &Path, expected: SegmentDigest) -> Result<Self> {
        let manifest = path.join(MANIFEST);
        let corrupt = |what: String| Error::corrupt(manifest.display().to_string(), what);
        let bytes = fs::read(&manifest).map_err(|source| missing_or(&manifest, source))?;
        let found = xxh3_64(&bytes);
        if found != expected.0 {
            return Err(corrupt(format!("it sums up to {found:016x}, not to {:016x} as written", expected.0)));
        }
        let listed = decode(&bytes).ok_or_else(|| corrupt("this build cannot read it".into()))?;
        let open = |Listed { name, length, checksums }: Listed| {
            let file = CheckedFile::open(path, &name, length, checksums)?;
            Ok((name, Arc::new(file)))
        };
        let files = listed.into_iter().map(open).collect::<Result<_>>()?;
        Ok(Self { path: path.into(), files: Arc::new(files), manifest_bytes: bytes.len() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the manifest names this file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// A file of the folder.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the manifest does not name it.
    pub(crate) fn file(&self, name: &str) -> Result<Arc<CheckedFile>> {
        let missing = || Error::corrupt(self.path.display().to_string(), format!("it has no file `{name}`"));
        self.files.get(name).cloned().ok_or_else(missing)
    }

    /// Reads and hashes every block of every file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the first file and block that are not what was written.
    pub(crate) fn verify(&self) -> Result<()> {
        self.files.values().try_for_each(|file| file.verify())
    }

    /// The bytes of its files, the manifest among them.
    #[allow(dead_code, reason = "for the figures of a collection with vectors, which join the folder next")]
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        let files: usize = self.files.values().map(|file| file.len()).sum();
        (files + self.manifest_bytes) as u64
    }
}

/// The names of the files of a folder that is to be finished, in order.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| io_error(folder, source))? {
        let entry = entry.map_err(|source| io_error(folder, source))?;
        let name = entry.file_name().into_string();
        names.push(name.map_err(|name| Error::Engine(format!("{} is no name of ours", name.display())))?);
    }
    names.sort_unstable();
    Ok(names)
}

fn encode(listed: &[Listed]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(listed.len() as u32).to_le_bytes());
    for Listed { name, length, checksums } in listed {
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        for checksum in checksums {
            bytes.extend_from_slice(&checksum.to_le_bytes());
        }
    }
    bytes
}

/// The files of a manifest; `None` where it has another version or does not end where it should.
fn decode(mut bytes: &[u8]) -> Option<Vec<Listed>> {
    let input = &mut bytes;
    if u32::from_le_bytes(take(input)?) != VERSION {
        return None;
    }
    let count = u32::from_le_bytes(take(input)?);
    let mut listed = Vec::new();
    for _ in 0..count {
        let name_bytes = u32::from_le_bytes(take(input)?) as usize;
        let name = std::str::from_utf8(input.split_off(..name_bytes)?).ok()?.to_owned();
        let length = u64::from_le_bytes(take(input)?);
        let blocks = length.div_ceil(BLOCK_BYTES as u64);
        let checksums = (0..blocks).map(|_| take(input).map(u64::from_le_bytes)).collect::<Option<_>>()?;
        listed.push(Listed { name, length, checksums });
    }
    bytes.is_empty().then_some(listed)
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*taken)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_its_bytes_do_not_change() {
        let files = [("a", 0, vec![]), ("b", 65_537, vec![7, u64::MAX])];
        let listed: Vec<Listed> =
            files.map(|(name, length, checksums)| Listed { name: name.into(), length, checksums }).into();
        let bytes = encode(&listed);
        assert_eq!(decode(&bytes).unwrap(), listed);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "0100000002000000010000006100000000000000000100000062010001000000000007000000000000\
                        00ffffffffffffffff";
        assert_eq!(hex, expected);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(decode(&[&bytes[..], b"x"].concat()), None);
    }
}
