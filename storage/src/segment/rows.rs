//! How do the vectors of a segment get into their file before the graph over them is known?
//!
//! They stand at its end, at a place that their number alone decides. So they are written first, one after the other, and
//! read from there, a few at a time, while the graph is built; then the front is written.
//!
//! Invariant: beside the rows that a reader asked for, which are his, at most [`BUFFER_BYTES`] of vectors a thread are in
//! memory (one row at least), however many there are.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::file::read_exact_at;
use crate::Result;
use crate::bytes::Rows;
use crate::files::io_error;

const BUFFER_BYTES: usize = 1 << 20;

/// A file of which the vectors are written, and the front is not.
pub(crate) struct RowsFile {
    path: PathBuf,
    file: File,
    start: u64,
    dims: usize,
}

impl RowsFile {
    /// Makes the file and fills it with rows of `dims` numbers from byte `start` on.
    ///
    /// # Errors
    /// Those of `fill`; [`crate::Error::Io`] where the file is there already or the disk refuses.
    pub(crate) fn create(
        path: &Path,
        start: usize,
        dims: usize,
        fill: impl FnOnce(&mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()>,
    ) -> Result<Self> {
        let failed = |source| io_error(path, source);
        let mut file = File::options().read(true).write(true).create_new(true).open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(start as u64)).map_err(failed)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let mut bytes = Vec::with_capacity(dims * size_of::<f32>());
        fill(&mut |row| {
            bytes.clear();
            row.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            out.write_all(&bytes).map_err(failed)
        })?;
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(Self { path: path.to_owned(), file, start: start as u64, dims })
    }

    /// Writes what stands before the vectors.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where the disk refuses.
    pub(crate) fn finish(&self, front: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
        let mut file = &self.file;
        let written = file.rewind().and_then(|()| {
            let mut out = BufWriter::new(file);
            front(&mut out)?;
            debug_assert!(out.stream_position().is_ok_and(|end| end == self.start), "the front ends where rows begin");
            out.flush()
        });
        written.map_err(|source| io_error(&self.path, source))
    }
}

impl Rows for RowsFile {
    fn read(&self, places: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let row_bytes = self.dims * size_of::<f32>();
        let mut bytes = vec![0; BUFFER_BYTES.max(row_bytes).min(places.len() * row_bytes)];
        let step = (BUFFER_BYTES / row_bytes.max(1)).max(1);
        out.clear();
        out.reserve(places.len() * self.dims);
        for first in places.clone().step_by(step) {
            let bytes = &mut bytes[..step.min(places.end - first) * row_bytes];
            let start = self.start + (first * row_bytes) as u64;
            read_exact_at(&self.file, start, bytes).map_err(|source| io_error(&self.path, source))?;
            out.extend(bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_before_and_stand_there_after_the_front_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("space-0");
        let rows: Vec<Vec<f32>> = (0..5).map(|row| vec![row as f32, 0.5, -1.5]).collect();
        let file = RowsFile::create(&path, 8, 3, |push| rows.iter().try_for_each(|row| push(row))).unwrap();
        let mut read = vec![9.0; 2];
        file.read(1..4, &mut read).unwrap();
        assert_eq!(read, rows[1..4].concat());
        assert!(file.read(4..6, &mut read).is_err(), "there are only five");
        file.finish(|out| out.write_all(b"the head")).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((&bytes[..8], bytes.len()), (b"the head".as_slice(), 8 + 5 * 12));
        assert_eq!(bytes[20..24], 1_f32.to_le_bytes());
        assert!(RowsFile::create(&path, 8, 3, |_| Ok(())).is_err(), "it is there already");
    }

    #[test]
    fn rows_are_read_whole_where_one_or_all_are_larger_than_the_buffer() {
        let folder = tempfile::tempdir().unwrap();
        for (name, dims, count) in [("wide", BUFFER_BYTES / 4 + 3, 3), ("many", 1_000, 700)] {
            let row = |place: usize| (0..dims).map(move |dim| (place * dims + dim) as f32);
            let fill = |push: &mut dyn FnMut(&[f32]) -> Result<()>| {
                (0..count).try_for_each(|place| push(&row(place).collect::<Vec<_>>()))
            };
            let file = RowsFile::create(&folder.path().join(name), 16, dims, fill).unwrap();
            let mut read = Vec::new();
            file.read(1..count, &mut read).unwrap();
            assert!(read.iter().copied().eq((1..count).flat_map(row)), "{name}");
        }
    }
}
