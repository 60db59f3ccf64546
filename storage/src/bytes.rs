//! What may be read by its position, whether it lies in memory or in a file?
//!
//! Invariant: a range that is not there is an error, never a panic.

use std::ops::Range;
use std::sync::Arc;

use crate::{Error, Result};

/// Bytes that somebody else wrote: a file that is verified as it is read, or a piece of memory.
#[allow(clippy::len_without_is_empty, reason = "nobody asks; a format that is empty is damaged and says so itself")]
pub(crate) trait Bytes {
    /// The bytes of this range.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where they are not there, or not those that were written.
    fn get(&self, range: Range<usize>) -> Result<&[u8]>;

    /// How many there are.
    fn len(&self) -> usize;

    /// Copies a range that is read once, which need not stay in memory.
    ///
    /// # Errors
    /// Those of [`Bytes::get`].
    fn read_at(&self, range: Range<usize>, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(self.get(range)?);
        Ok(())
    }
}

/// Vectors of one length, by their place. A source gives the same numbers each time it is asked.
pub(crate) trait Rows: Sync {
    /// Puts the numbers of these rows into `out`, and nothing else.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn read(&self, places: Range<usize>, out: &mut Vec<f32>) -> Result<()>;
}

/// Rows that are in memory, one after the other.
pub(crate) struct InMemory<'a> {
    pub(crate) dims: usize,
    pub(crate) rows: &'a [f32],
}

impl Rows for InMemory<'_> {
    fn read(&self, places: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        out.extend_from_slice(&self.rows[places.start * self.dims..places.end * self.dims]);
        Ok(())
    }
}

impl Bytes for [u8] {
    fn get(&self, range: Range<usize>) -> Result<&[u8]> {
        let (start, end, length) = (range.start, range.end, self.len());
        let found = <[u8]>::get(self, range);
        found.ok_or_else(|| Error::corrupt("memory", format!("bytes {start} to {end} of {length} are asked for")))
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

impl Bytes for Vec<u8> {
    fn get(&self, range: Range<usize>) -> Result<&[u8]> {
        Bytes::get(self.as_slice(), range)
    }

    fn len(&self) -> usize {
        self.as_slice().len()
    }
}

impl<B: Bytes + ?Sized> Bytes for &B {
    #[inline]
    fn get(&self, range: Range<usize>) -> Result<&[u8]> {
        (**self).get(range)
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn read_at(&self, range: Range<usize>, out: &mut [u8]) -> Result<()> {
        (**self).read_at(range, out)
    }
}

impl<B: Bytes + ?Sized> Bytes for Arc<B> {
    #[inline]
    fn get(&self, range: Range<usize>) -> Result<&[u8]> {
        (**self).get(range)
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn read_at(&self, range: Range<usize>, out: &mut [u8]) -> Result<()> {
        (**self).read_at(range, out)
    }
}
