//! What if a file of rows is cut off, flipped or put together of two? It ends with an error, or its rows come out.
//!
//! No panic escapes, nothing hangs, and no file of some kilobytes takes a gigabyte. `QUIVER_DAMAGED_FILES` sets how many
//! files are damaged, `QUIVER_DAMAGED_SEED` the seed, and `QUIVER_DAMAGED_FOLDER` a folder of further good files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quiverdb::formats::columns::{ColumnMap, Table, TableOptions};

use super::table;
use crate::scenes::{Chance, child, folder, role};

const FILES: u64 = 1_500;
/// A file of a hundred kilobytes that takes so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rows after which a file was read long enough.
const ROWS_MAX: usize = 20_000;
const MEMORY_MAX: u64 = 1 << 30;

/// Reads all rows, or up to the first error; where no column is called `text`, the first that may be one is it.
fn read(path: &Path) -> Result<usize, String> {
    let mut options = TableOptions::default();
    if let Ok((schema, _)) = quiverdb::formats::columns::batches::open(path) {
        let is_text = |kind: String| ["Utf8", "LargeUtf8", "Utf8View", "Binary", "BinaryView"].contains(&kind.as_str());
        let mut texts = schema.fields().iter().filter(|field| is_text(field.data_type().to_string()));
        if let (Err(_), Some(field)) = (schema.index_of("text"), texts.next()) {
            options.map = ColumnMap::default().with("text", field.name()).map_err(|error| error.to_string())?;
        }
    }
    let mut rows = 0;
    let table = Table::open(path, "rows", options).map_err(|error| error.to_string())?;
    for row in table.take(ROWS_MAX) {
        row.map_err(|error| error.to_string())?;
        rows += 1;
    }
    Ok(rows)
}

fn batches(path: &Path) -> Result<usize, String> {
    let (_, batches) = quiverdb::formats::columns::batches::open(path).map_err(|error| error.to_string())?;
    let mut rows = 0;
    for batch in batches {
        rows += batch.map_err(|error| error.to_string())?.num_rows();
        if rows > 50 * ROWS_MAX {
            break;
        }
    }
    Ok(rows)
}

fn damaged(chance: &mut Chance, files: &[(PathBuf, Vec<u8>)]) -> (usize, Vec<u8>) {
    let at = chance.below(files.len() as u64) as usize;
    let mut bytes = files[at].1.clone();
    let any = |chance: &mut Chance, bytes: &[u8]| chance.below(bytes.len().max(1) as u64) as usize;
    // Descriptions stand at the end of Parquet and of Arrow files, and at the beginning of streams.
    let place = |chance: &mut Chance, bytes: &[u8]| match chance.below(3) {
        0 => bytes.len().saturating_sub(1 + chance.below(600) as usize),
        1 => (chance.below(600) as usize).min(bytes.len().saturating_sub(1)),
        _ => any(chance, bytes),
    };
    for _ in 0..=chance.below(3) {
        match chance.below(6) {
            0 => bytes.truncate(any(chance, &bytes)),
            1 | 2 => {
                let at = place(chance, &bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            3 => {
                let at = place(chance, &bytes);
                let value = [0, 1, 0x7f, 0x80, 0xff, 0xfe][chance.below(6) as usize];
                let end = (at + 1 + chance.below(8) as usize).min(bytes.len());
                bytes[at.min(end)..end].fill(value);
            }
            4 => {
                let other = &files[chance.below(files.len() as u64) as usize].1;
                let (from, to) = (any(chance, other), any(chance, &bytes));
                let length = (chance.below(300) as usize).min(other.len() - from).min(bytes.len() - to);
                bytes[to..to + length].copy_from_slice(&other[from..from + length]);
            }
            _ => {
                let (from, length) = (any(chance, &bytes), chance.below(64) as usize);
                let end = (from + length).min(bytes.len());
                bytes.drain(from..end);
            }
        }
    }
    (at, bytes)
}

/// The most memory that this process ever took, in bytes; 0 where the system does not say.
fn memory_peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// In a process of its own, so that nothing else counts as its memory.
#[test]
fn a_damaged_file_is_an_error_and_never_a_panic_a_hang_or_all_of_memory() {
    const NAME: &str = "importing::damaged::a_damaged_file_is_an_error_and_never_a_panic_a_hang_or_all_of_memory";
    if role().is_some() {
        return read_damaged_files();
    }
    let ended = child(NAME, "reader", Path::new(".")).output().unwrap();
    println!("{}", String::from_utf8_lossy(&ended.stdout));
    assert!(ended.status.success(), "{}: {}", ended.status, String::from_utf8_lossy(&ended.stderr));
}

fn read_damaged_files() {
    let number = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |value| value.parse().unwrap());
    let mut chance = Chance::new("QUIVER_DAMAGED_SEED");
    let folder = folder();
    let mut names: Vec<PathBuf> = fs::read_dir(table("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    if let Ok(more) = std::env::var("QUIVER_DAMAGED_FOLDER") {
        names.extend(fs::read_dir(more).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    }
    names.sort();
    let files: Vec<_> = names.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let files: Vec<_> = files.into_iter().filter(|(_, bytes)| bytes.len() < 120_000).collect();
    let mut refused = 0;
    let all = number("QUIVER_DAMAGED_FILES", FILES);
    for round in 0..all {
        let (at, bytes) = damaged(&mut chance, &files);
        let path = folder.path().join(files[at].0.file_name().unwrap());
        fs::write(&path, &bytes).unwrap();
        if std::env::var("QUIVER_DAMAGED_KEEP").is_ok() {
            fs::write(std::env::var("QUIVER_DAMAGED_KEEP").unwrap(), &bytes).unwrap();
        }
        let start = Instant::now();
        let peak = memory_peak();
        let outcome = std::panic::catch_unwind(|| (read(&path), batches(&path)));
        let name = path.display();
        let (rows, _) = outcome.unwrap_or_else(|_| panic!("file {round}, of {name}: a panic escaped"));
        refused += u64::from(rows.is_err());
        assert!(start.elapsed() < PATIENCE, "file {round}, of {name}: {:?}", start.elapsed());
        let now = memory_peak();
        if now > peak + (200 << 20) {
            println!("file {round}, of {name}: the peak of memory rose from {} to {} MiB", peak >> 20, now >> 20);
            let kept = std::env::temp_dir().join(format!("quiver-damaged-{round}"));
            if std::env::var("QUIVER_DAMAGED_FILES").is_ok() {
                fs::copy(&path, kept).unwrap();
            }
        }
        fs::remove_file(&path).unwrap();
    }
    println!("{refused} of {all} files refused; the peak of memory is {} MiB", memory_peak() >> 20);
    assert!(memory_peak() < MEMORY_MAX, "{} MiB", memory_peak() >> 20);
    assert!(refused > all / 10, "{refused} of {all} were refused: that is hardly damage");
}
