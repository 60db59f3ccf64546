//! Here are bytes of a file that never changes: are they those that were written?
//!
//! A file has one checksum for each block of 64 KiB, and a block is hashed when it is first touched: opening a file of
//! gigabytes costs microseconds, and reading a verified block one more test of a bit. The checksum is seeded with the
//! file's name and the block's place, so that blocks that changed places are found, too.
//!
//! Invariants: no byte is handed out before its block's checksum fitted; a block that was found damaged stays so, whatever
//! the disk says later. What is lost after a block was verified (a disk that dies under a mapped file) is not found here:
//! the system ends the process then.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use rayon::prelude::*;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::bytes::Bytes;
use crate::files::{io_error, open_file};
use crate::{Error, Result};

/// The bytes that one checksum covers.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// Files up to this size are read through their map alone and hold no descriptor: a process may have 1,024 of them.
const MAPPED_ONLY_BYTES_MAX: usize = 16 * BLOCK_BYTES;

/// A file that is mapped into memory and verified block by block.
pub(crate) struct CheckedFile {
    path: PathBuf,
    map: Mmap,
    /// For [`CheckedFile::read_at`]; `None` where the file is small.
    file: Option<File>,
    seed: u64,
    checksums: Vec<u64>,
    verified: Marks,
    damaged: Marks,
}

/// One bit a block. They guard no memory: the bytes were there before all threads, and setting a bit tells no more than
/// itself. So relaxed order is enough.
struct Marks(Vec<AtomicU64>);

impl Marks {
    fn new(blocks: usize) -> Self {
        Self((0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline]
    fn has(&self, block: usize) -> bool {
        self.0[block / 64].load(Ordering::Relaxed) >> (block % 64) & 1 == 1
    }

    fn set(&self, block: usize) {
        self.0[block / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
    }

    fn clear(&self, block: usize) {
        self.0[block / 64].fetch_and(!(1 << (block % 64)), Ordering::Relaxed);
    }
}

impl std::fmt::Debug for CheckedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckedFile").field("path", &self.path).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Bytes for CheckedFile {
    #[inline]
    fn get(&self, range: Range<usize>) -> Result<&[u8]> {
        CheckedFile::get(self, range)
    }

    fn len(&self) -> usize {
        CheckedFile::len(self)
    }

    fn read_at(&self, range: Range<usize>, out: &mut [u8]) -> Result<()> {
        CheckedFile::read_at(self, range, out)
    }
}

impl CheckedFile {
    /// Opens the file `name` of a folder, which was written with this length and these checksums.
    ///
    /// Cost: some microseconds; nothing is read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it is missing or has another length; [`Error::Io`].
    pub(super) fn open(folder: &Path, name: &str, length: u64, checksums: Vec<u64>) -> Result<Self> {
        let path = folder.join(name);
        let file = open_file(&path).map_err(|source| missing_or(&path, source))?;
        let metadata = file.metadata().map_err(|source| io_error(&path, source))?;
        if !metadata.is_file() || metadata.len() != length {
            let what = format!("it has {} bytes, not {length} as written", metadata.len());
            return Err(Error::corrupt(path.display().to_string(), what));
        }
        // SAFETY: Memory that is mapped must not change while it is borrowed. The file lies in a folder of mode 0700
        // that this process holds a lock on; it was synced and published by a rename after the last write to it, and
        // no code of ours opens it for writing after that. Removing the folder leaves what is mapped as it is.
        #[allow(unsafe_code, reason = "rows of gigabytes are to be read without a copy of them in memory")]
        let map = unsafe { Mmap::map(&file) }.map_err(|source| io_error(&path, source))?;
        if map.len() as u64 != length || checksums.len() != map.len().div_ceil(BLOCK_BYTES) {
            return Err(Error::corrupt(path.display().to_string(), "its length and its checksums do not agree"));
        }
        // Advice alone: without it all is right, and reads ahead what nobody asked for.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Random);
        let file = Some(file).filter(|_| map.len() > MAPPED_ONLY_BYTES_MAX);
        let (verified, damaged) = (Marks::new(checksums.len()), Marks::new(checksums.len()));
        Ok(Self { path, map, file, seed: seed_of(name), checksums, verified, damaged })
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// These bytes, out of the memory map.
    ///
    /// Cost: a test of a bit or two where they are verified and lie in one or two blocks; at the first touch of a block
    /// some 10 µs and what the disk takes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming file and block, where these are not the bytes that were written, or not in the file.
    #[inline]
    pub(crate) fn get(&self, range: Range<usize>) -> Result<&[u8]> {
        if let Some(bytes) = self.map.get(range.clone()).filter(|bytes| !bytes.is_empty()) {
            let (first, last) = (range.start / BLOCK_BYTES, (range.end - 1) / BLOCK_BYTES);
            if last - first <= 1 && self.verified.has(first) && self.verified.has(last) {
                return Ok(bytes);
            }
        }
        self.get_verified(range)
    }

    #[inline(never)]
    fn get_verified(&self, range: Range<usize>) -> Result<&[u8]> {
        let bytes = self.map.get(range.clone()).ok_or_else(|| self.out_of_bounds(&range))?;
        let blocks = blocks_of(&range);
        let Some(first) = blocks.clone().find(|&block| !self.verified.has(block)) else { return Ok(bytes) };
        self.fetch(first..blocks.end);
        for block in first..blocks.end {
            if !self.verified.has(block) {
                self.believe(block, &self.map[self.extent(block)])?;
            }
        }
        Ok(bytes)
    }

    /// Asks the system to read these blocks at once: hashing them would fetch them page by page.
    fn fetch(&self, blocks: Range<usize>) {
        #[cfg(unix)]
        {
            let (start, end) = (blocks.start * BLOCK_BYTES, (blocks.end * BLOCK_BYTES).min(self.len()));
            let _ = self.map.advise_range(memmap2::Advice::WillNeed, start, end - start);
        }
        #[cfg(not(unix))]
        let _ = blocks;
    }

    /// Copies these bytes to `out`, which is as long. Where the file is large they are read from it and not through the
    /// map, so that rows that are rarely asked for do not stay in memory.
    ///
    /// Cost: one read of the system; at the first touch of a block, a read of the block.
    ///
    /// # Errors
    /// As [`CheckedFile::get`]; [`Error::Io`] where the disk refuses.
    pub(crate) fn read_at(&self, range: Range<usize>, out: &mut [u8]) -> Result<()> {
        if self.map.get(range.clone()).is_none_or(|bytes| bytes.len() != out.len()) {
            return Err(self.out_of_bounds(&range));
        }
        let Some(file) = &self.file else {
            out.copy_from_slice(self.get(range)?);
            return Ok(());
        };
        let blocks = blocks_of(&range);
        if blocks.clone().all(|block| self.verified.has(block)) {
            return self.read(file, range.start, out);
        }
        for block in blocks {
            let extent = self.extent(block);
            let part = range.start.max(extent.start)..range.end.min(extent.end);
            let target = &mut out[part.start - range.start..part.end - range.start];
            if self.verified.has(block) {
                self.read(file, part.start, target)?;
            } else {
                let mut whole = vec![0; extent.len()];
                self.read(file, extent.start, &mut whole)?;
                self.believe(block, &whole)?;
                target.copy_from_slice(&whole[part.start - extent.start..part.end - extent.start]);
            }
        }
        Ok(())
    }

    fn read(&self, file: &File, start: usize, out: &mut [u8]) -> Result<()> {
        read_exact_at(file, start as u64, out).map_err(|source| missing_or(&self.path, source))
    }

    /// Reads and hashes all blocks, those too that were verified before.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the first block that is not what was written.
    pub(crate) fn verify(&self) -> Result<()> {
        let check = |buffer: &mut Vec<u8>, block: usize| {
            let extent = self.extent(block);
            let Some(file) = &self.file else { return self.believe(block, &self.map[extent]).err() };
            buffer.resize(extent.len(), 0);
            self.read(file, extent.start, buffer).and_then(|()| self.believe(block, buffer)).err()
        };
        let wrong = (0..self.checksums.len()).into_par_iter().map_init(Vec::new, check).find_map_first(|wrong| wrong);
        wrong.map_or(Ok(()), Err)
    }

    /// Compares the checksum of a block and remembers the outcome.
    fn believe(&self, block: usize, bytes: &[u8]) -> Result<()> {
        let (expected, found) = (self.checksums[block], checksum(self.seed, block, bytes));
        if found != expected {
            self.damaged.set(block);
        }
        if self.damaged.has(block) {
            self.verified.clear(block);
            let what = format!("its checksum is {found:016x}, not {expected:016x} as written");
            return Err(Error::corrupt(format!("{}, block {block}", self.path.display()), what));
        }
        self.verified.set(block);
        Ok(())
    }

    fn extent(&self, block: usize) -> Range<usize> {
        block * BLOCK_BYTES..((block + 1) * BLOCK_BYTES).min(self.len())
    }

    fn out_of_bounds(&self, range: &Range<usize>) -> Error {
        let what = format!("bytes {range:?} were asked for; it has {}", self.len());
        Error::corrupt(self.path.display().to_string(), what)
    }

    /// The error that says what does not fit in this file, though it is what was written.
    pub(crate) fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt(self.path.display().to_string(), what)
    }

    /// Bytes that [`CheckedFile::get`] has returned before.
    pub(crate) fn verified(&self, range: Range<usize>) -> &[u8] {
        debug_assert!(blocks_of(&range).all(|block| self.verified.has(block) || self.damaged.has(block)));
        &self.map[range]
    }
}

/// The blocks that these bytes lie in; none where there are no bytes.
fn blocks_of(range: &Range<usize>) -> Range<usize> {
    let first = range.start / BLOCK_BYTES;
    first..if range.is_empty() { first } else { range.end.div_ceil(BLOCK_BYTES) }
}

fn seed_of(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

fn checksum(seed: u64, block: usize, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, xxh3_64_with_seed(&(block as u64).to_le_bytes(), seed))
}

/// A file that is missing, is none or ends early is damage; whatever else the system says is its own: that too many files
/// are open, or that the disk does not answer, tells nothing of what was written.
pub(super) fn missing_or(path: &Path, source: io::Error) -> Error {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    let damage = [NotFound, UnexpectedEof, IsADirectory, NotADirectory];
    if damage.contains(&source.kind()) {
        return Error::corrupt(path.display().to_string(), source.to_string());
    }
    io_error(path, source)
}

/// The length of a file and the checksums of its blocks, on all cores.
///
/// # Errors
/// [`Error::Io`] where it cannot be read.
pub(super) fn checksums_of(folder: &Path, name: &str) -> Result<(u64, Vec<u64>)> {
    let path = folder.join(name);
    let (file, length) = open_with_length(&path).map_err(|source| io_error(&path, source))?;
    let seed = seed_of(name);
    let blocks = length.div_ceil(BLOCK_BYTES as u64) as usize;
    let sum = |buffer: &mut Vec<u8>, block: usize| {
        let start = block as u64 * BLOCK_BYTES as u64;
        buffer.resize((length - start).min(BLOCK_BYTES as u64) as usize, 0);
        read_exact_at(&file, start, buffer).map(|()| checksum(seed, block, buffer))
    };
    let sums = (0..blocks).into_par_iter().map_init(Vec::new, sum).collect::<io::Result<_>>();
    Ok((length, sums.map_err(|source| io_error(&path, source))?))
}

fn open_with_length(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, start: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, start)
}

#[cfg(windows)]
pub(super) fn read_exact_at(file: &File, mut start: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, out, start)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (start, out) = (start + read as u64, &mut out[read..]);
    }
    Ok(())
}

/// Makes a file and fills it. Whoever finishes the folder syncs it.
///
/// # Errors
/// [`Error::Io`] where the file is there already or the disk refuses.
pub(crate) fn write_file(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let written = File::create_new(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        out.flush()
    });
    written.map_err(|source| io_error(path, source))
}
