//! Whatever happens to a finished folder is found, at open or at the first touch, and what is whole stays readable.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::file::BLOCK_BYTES;
use super::*;
use crate::Error;
use crate::roster::{Entry, RosterRun};
use crate::testing::Random;

/// Large enough to be read by descriptor, and ending within a block.
const LARGE: usize = 18 * BLOCK_BYTES + 1234;

struct Finished {
    _temporary: TempDir,
    path: PathBuf,
    digest: SegmentDigest,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Finished {
    fn open(&self) -> crate::Result<SegmentFolder> {
        SegmentFolder::open(&self.path, self.digest)
    }

    /// Writes a file anew with some of its bytes changed.
    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path.join(name)).unwrap();
        change(&mut bytes);
        fs::write(self.path.join(name), bytes).unwrap();
    }

    fn restore(&self) {
        self.files.iter().for_each(|(name, bytes)| fs::write(self.path.join(name), bytes).unwrap());
    }
}

fn finished() -> Finished {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("1-0");
    SegmentFolder::create(&path).unwrap();
    let mut random = Random::new(11);
    let lengths = [("empty", 0), ("exact", 2 * BLOCK_BYTES), ("large", LARGE), ("one", 1), ("small", 5_000)];
    let mut files = Vec::new();
    for (name, length) in lengths {
        let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        write_file(&path.join(name), |out| out.write_all(&bytes)).unwrap();
        files.push((name, bytes));
    }
    let digest = SegmentFolder::finish(&path).unwrap();
    Finished { _temporary: temporary, path, digest, files }
}

/// The place that an error of corruption names.
fn place<T: std::fmt::Debug>(result: crate::Result<T>) -> String {
    let error = result.unwrap_err();
    let Error::Corrupt { place, .. } = &error else { panic!("{error:?}") };
    place.clone()
}

/// Reads everything in all ways; what comes is right, and whether all came is returned.
fn read_all(folder: &SegmentFolder, finished: &Finished) -> bool {
    let mut complete = true;
    for (name, bytes) in &finished.files {
        let file = folder.file(name).unwrap();
        assert_eq!(file.len(), bytes.len());
        for start in (0..bytes.len()).step_by(10_000) {
            let range = start..(start + 25_000).min(bytes.len());
            let mut copy = vec![0; range.len()];
            let read = file.read_at(range.clone(), &mut copy).map(|()| copy);
            for answer in [file.get(range.clone()).map(<[u8]>::to_vec), read] {
                match answer {
                    Ok(answer) => assert!(answer == bytes[range.clone()], "{name}, {range:?}: a wrong answer"),
                    Err(Error::Corrupt { .. }) => complete = false,
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    }
    complete
}

#[test]
fn what_was_written_is_read_in_every_way_and_in_any_order() {
    let finished = finished();
    assert!(read_all(&finished.open().unwrap(), &finished));
    let folder = finished.open().unwrap();
    let (file, bytes) = (folder.file("large").unwrap(), &finished.files[2].1);
    let mut random = Random::new(13);
    for _ in 0..2_000 {
        let start = random.below(LARGE as u64) as usize;
        let end = start + random.below((LARGE - start) as u64 + 1).min(200_000) as usize;
        let mut copy = vec![0; end - start];
        file.read_at(start..end, &mut copy).unwrap();
        assert!(copy == bytes[start..end] && file.get(start..end).unwrap() == &bytes[start..end]);
    }
    folder.verify().unwrap();
    let total: u64 = fs::read_dir(&finished.path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(folder.bytes_on_disk(), total);
    assert!(folder.has("small") && !folder.has("MANIFEST") && !folder.has("Small"));
    assert!(place(folder.file("absent")).ends_with("1-0"));
}

#[test]
#[allow(clippy::reversed_empty_ranges)]
fn bytes_that_are_not_in_the_file_are_an_error() {
    let finished = finished();
    let folder = finished.open().unwrap();
    for (name, bytes) in &finished.files {
        let (file, length) = (folder.file(name).unwrap(), bytes.len());
        assert_eq!(file.get(length..length).unwrap(), b"");
        for range in [0..length + 1, length..length + 1, length + 1..length + 1, 1..0, usize::MAX - 1..usize::MAX] {
            assert!(place(file.get(range.clone())).ends_with(name));
            assert!(place(file.read_at(range.clone(), &mut vec![0; range.len().min(1 << 20)])).ends_with(name));
        }
    }
    let large = folder.file("large").unwrap();
    assert!(large.read_at(0..4, &mut [0; 3]).is_err());
}

#[test]
fn every_flipped_bit_is_found_at_open_or_at_the_first_touch() {
    let finished = finished();
    let mut random = Random::new(17);
    for round in 0..60 {
        let (name, bytes) = &finished.files[1 + round % 4];
        let at = random.below(bytes.len() as u64) as usize;
        finished.change(name, |bytes| bytes[at] ^= 1 << (at % 8));
        let folder = finished.open().unwrap();
        let file = folder.file(name).unwrap();
        let damaged = format!("{name}, block {}", at / BLOCK_BYTES);
        assert!(!read_all(&folder, &finished), "{damaged}");
        assert!(place(file.get(at..at + 1)).ends_with(&damaged));
        assert!(place(file.get(0..bytes.len())).ends_with(&damaged));
        assert!(place(file.read_at(at..at + 1, &mut [0])).ends_with(&damaged));
        assert!(place(folder.verify()).ends_with(&damaged));
        // What was found damaged is not believed later either.
        finished.restore();
        assert!(place(file.get(at..at + 1)).ends_with(&damaged));
        assert!(read_all(&finished.open().unwrap(), &finished));
    }
}

#[test]
fn every_changed_byte_of_the_manifest_is_found_at_open() {
    let finished = finished();
    let manifest = finished.path.join("MANIFEST");
    let good = fs::read(&manifest).unwrap();
    for at in 0..good.len() {
        finished.change("MANIFEST", |bytes| bytes[at] ^= 0x40);
        assert!(place(finished.open()).ends_with("MANIFEST"), "byte {at}");
        fs::write(&manifest, &good).unwrap();
    }
    for length in [0, 1, good.len() - 1] {
        fs::write(&manifest, &good[..length]).unwrap();
        assert!(place(finished.open()).ends_with("MANIFEST"), "{length} bytes");
    }
    fs::remove_file(&manifest).unwrap();
    assert!(place(finished.open()).ends_with("MANIFEST"));
    fs::remove_dir_all(&finished.path).unwrap();
    assert!(place(finished.open()).ends_with("MANIFEST"));
}

#[test]
fn a_file_that_is_missing_or_has_another_length_is_found_at_open_and_one_too_many_changes_nothing() {
    let finished = finished();
    for (name, bytes) in &finished.files {
        let path = finished.path.join(name);
        finished.change(name, |bytes| bytes.push(0));
        assert!(place(finished.open()).ends_with(name));
        if !bytes.is_empty() {
            fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            assert!(place(finished.open()).ends_with(name));
        }
        fs::remove_file(&path).unwrap();
        assert!(place(finished.open()).ends_with(name));
        fs::create_dir(&path).unwrap();
        assert!(finished.open().is_err(), "a folder named {name}");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    fs::write(finished.path.join("stray"), b"x").unwrap();
    let folder = finished.open().unwrap();
    assert!(!folder.has("stray") && read_all(&folder, &finished));
    folder.verify().unwrap();
}

#[test]
fn blocks_that_changed_places_are_found() {
    let finished = finished();
    finished.change("exact", |bytes| bytes.rotate_left(BLOCK_BYTES));
    assert!(place(finished.open().unwrap().verify()).contains("exact, block 0"));
    finished.restore();
    // The same bytes under another name.
    let exact = &finished.files[1].1;
    finished.change("large", |bytes| bytes[..BLOCK_BYTES].copy_from_slice(&exact[..BLOCK_BYTES]));
    assert!(place(finished.open().unwrap().verify()).contains("large, block 0"));
}

#[test]
fn a_block_has_another_checksum_in_another_place_and_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::write(folder.path().join(name), vec![7; 3 * BLOCK_BYTES]).unwrap();
    }
    let sums = ["a", "b"].map(|name| super::file::checksums_of(folder.path(), name).unwrap().1).concat();
    let distinct: std::collections::BTreeSet<u64> = sums.iter().copied().collect();
    assert_eq!((sums.len(), distinct.len()), (6, 6));
}

#[test]
fn damage_in_one_block_costs_nothing_but_that_block() {
    let finished = finished();
    finished.change("large", |bytes| bytes[10 * BLOCK_BYTES] ^= 1);
    let folder = finished.open().unwrap();
    let (file, bytes) = (folder.file("large").unwrap(), &finished.files[2].1);
    let (start, end) = (10 * BLOCK_BYTES, 11 * BLOCK_BYTES);
    let mut copy = [0; 100];
    for at in [0, start - 100, end, LARGE - 100] {
        assert!(file.get(at..at + 100).unwrap() == &bytes[at..at + 100]);
        file.read_at(at..at + 100, &mut copy).unwrap();
        assert!(copy[..] == bytes[at..at + 100]);
    }
    for at in [start - 99, start, end - 1] {
        assert!(place(file.get(at..at + 100)).ends_with("large, block 10"));
        assert!(place(file.read_at(at..at + 100, &mut copy)).ends_with("large, block 10"));
    }
    assert!(place(file.get(0..LARGE)).ends_with("large, block 10"));
}

#[test]
fn damage_after_the_first_touch_is_found_by_verify_and_not_believed_from_then_on() {
    let finished = finished();
    let folder = finished.open().unwrap();
    let file = folder.file("large").unwrap();
    file.get(0..LARGE).unwrap();
    let path = finished.path.join("large");
    let handle = fs::File::options().write(true).open(path).unwrap();
    std::io::Seek::seek(&mut &handle, std::io::SeekFrom::Start(70_000)).unwrap();
    std::io::Write::write_all(&mut &handle, b"damage").unwrap();
    assert!(place(folder.verify()).ends_with("large, block 1"));
    assert!(place(file.get(70_000..70_001)).ends_with("large, block 1"));
    assert!(place(file.read_at(70_000..70_001, &mut [0])).ends_with("large, block 1"));
    assert!(file.get(0..BLOCK_BYTES).is_ok());
}

#[test]
fn many_threads_touch_a_file_at_once() {
    let finished = finished();
    finished.change("large", |bytes| bytes[5 * BLOCK_BYTES + 9] ^= 1);
    for seed in 0..10 {
        let folder = finished.open().unwrap();
        let (file, bytes) = (folder.file("large").unwrap(), &finished.files[2].1);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    let mut random = Random::new(seed * 100 + thread);
                    for _ in 0..300 {
                        let start = random.below(LARGE as u64 - 3_000) as usize;
                        let range = start..start + 3_000;
                        let damaged = start < 6 * BLOCK_BYTES && range.end > 5 * BLOCK_BYTES;
                        let mut copy = [0; 3_000];
                        let read = file.read_at(range.clone(), &mut copy).map(|()| &copy[..]);
                        for answer in [file.get(range.clone()), read] {
                            assert_eq!(answer.is_err(), damaged, "seed {seed}, {range:?}");
                            assert!(answer.is_err() || answer.unwrap() == &bytes[range.clone()]);
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn a_folder_that_is_there_is_not_made_again_and_neither_is_a_file() {
    let finished = finished();
    assert!(matches!(SegmentFolder::create(&finished.path), Err(Error::Io { .. })));
    let again = write_file(&finished.path.join("small"), |_| Ok(()));
    assert!(matches!(again, Err(Error::Io { .. })));
    assert!(read_all(&finished.open().unwrap(), &finished));
}

// The roster.

/// Entries with gaps between them, their keys of many lengths.
fn entries(count: u32) -> Vec<(u32, u32, u32, Vec<u8>)> {
    let mut random = Random::new(19);
    let mut next = 5;
    let mut entry = |document: u32| {
        let (first, chunks) = (next, random.below(4) as u32);
        next += chunks + random.below(3) as u32;
        (first, chunks, document * 7 % 1000, vec![document as u8; random.below(40) as usize])
    };
    (0..count).map(&mut entry).collect()
}

fn as_entry((first, count, document, key): &(u32, u32, u32, Vec<u8>)) -> Entry<'_> {
    Entry { first: *first, count: *count, document: *document, id_key: key }
}

fn written(folder: &Path, entries: &[(u32, u32, u32, Vec<u8>)]) -> (PathBuf, SegmentDigest) {
    let path = folder.join("1-0");
    SegmentFolder::create(&path).unwrap();
    write_roster(&path.join(ROSTER_FILE), entries.iter().map(as_entry)).unwrap();
    let digest = SegmentFolder::finish(&path).unwrap();
    (path, digest)
}

fn roster(path: &Path, digest: SegmentDigest) -> crate::Result<RosterFile> {
    RosterFile::open(SegmentFolder::open(path, digest)?.file(ROSTER_FILE)?)
}

#[test]
fn a_roster_on_disk_answers_as_one_in_memory() {
    for count in [0, 1, 2, 9_000] {
        let temporary = tempfile::tempdir().unwrap();
        let entries = entries(count);
        let (path, digest) = written(temporary.path(), &entries);
        let roster = roster(&path, digest).unwrap();
        let mut run = RosterRun::default();
        entries.iter().for_each(|entry| run.push(as_entry(entry)));
        let last = entries.last().map_or(0, |entry| entry.0);
        for chunk in (0..last + 10).chain([u32::MAX]) {
            assert_eq!(roster.owner(chunk).unwrap(), run.owner(chunk), "chunk {chunk} of {count}");
        }
        let all: Vec<Entry<'_>> = roster.entries().map(Result::unwrap).collect();
        assert!(all.iter().copied().eq(run.entries()));
        assert_eq!(roster.entries_len(), all.len());
        assert_eq!(roster.len(), crate::runs::Run::len(&run) as u64);
        assert_eq!(roster.range().unwrap(), crate::runs::Run::range(&run));
    }
}

#[test]
fn a_damaged_roster_answers_rightly_or_not_at_all() {
    let temporary = tempfile::tempdir().unwrap();
    let entries = entries(9_000);
    let (path, digest) = written(temporary.path(), &entries);
    let file = path.join(ROSTER_FILE);
    let good = fs::read(&file).unwrap();
    let mut run = RosterRun::default();
    entries.iter().for_each(|entry| run.push(as_entry(entry)));
    for block in 0..good.len().div_ceil(BLOCK_BYTES) {
        let mut bad = good.clone();
        bad[block * BLOCK_BYTES + 1000] ^= 2;
        fs::write(&file, &bad).unwrap();
        let Ok(roster) = roster(&path, digest) else {
            assert_eq!(block, 0, "the head is in the first block");
            continue;
        };
        let (mut right, mut failed) = (0, 0);
        for chunk in 0..entries[8_999].0 {
            match roster.owner(chunk) {
                Ok(owner) => {
                    assert_eq!(owner, run.owner(chunk));
                    right += 1;
                }
                Err(Error::Corrupt { .. }) => failed += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(right > 0 && failed > 0, "block {block}: {right} right, {failed} failed");
    }
}

#[test]
fn a_roster_that_says_what_cannot_be_is_refused() {
    let head = |version: u32, entries: u32| {
        [&version.to_le_bytes()[..], &entries.to_le_bytes(), &7_u64.to_le_bytes()].concat()
    };
    // One entry of no chunks; one whose key ends far beyond the file.
    let columns = |count: u32, end: u64| {
        [&head(1, 1)[..], &3_u32.to_le_bytes(), &count.to_le_bytes(), &0_u32.to_le_bytes(), &end.to_le_bytes()].concat()
    };
    let refused = [vec![], head(1, 0)[..15].to_vec(), head(2, 0), head(1, u32::MAX)];
    let unreadable = [columns(0, 0), columns(u32::MAX, 0), columns(1, u64::MAX), columns(1, 9)];
    for (at, bytes) in refused.iter().chain(&unreadable).enumerate() {
        let temporary = tempfile::tempdir().unwrap();
        write_file(&temporary.path().join(ROSTER_FILE), |out| out.write_all(bytes)).unwrap();
        let digest = SegmentFolder::finish(temporary.path()).unwrap();
        let opened = roster(temporary.path(), digest);
        if at < refused.len() {
            assert!(place(opened).ends_with(ROSTER_FILE), "case {at}");
        } else {
            let roster = opened.unwrap();
            assert!(place(roster.owner(3)).ends_with(ROSTER_FILE), "case {at}");
            assert!(roster.entries().all(|entry| entry.is_err()));
        }
    }
}
