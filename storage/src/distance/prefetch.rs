//! How is memory asked for before it is needed?
//!
//! Invariant: a hint only; it changes no result.

/// Bytes that come into the cache together.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Asks for all cache lines of these bytes.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in bytes.chunks(LINE) {
            // SAFETY: a prefetch reads nothing that the program sees, and the address lies within the slice.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}
