//! What if a decoder panics on damaged bytes?
//!
//! The decoders of Parquet and Arrow assert their own invariants, and damaged files break them. Such a panic is damage of the
//! file: it becomes an error that names it, and nothing is printed. What they would allocate without bound is looked at
//! before they see it, by [`super::pages`] and [`super::ipc`], because no panic can be caught once memory is out.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::{Error, Result};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder over the bytes of `place`. After a panic it must not be used again.
///
/// The first call wraps the process's panic hook, so that a panic in here is not printed; all others are, as before.
pub(super) fn guarded<T>(place: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    static WRAPPED: Once = Once::new();
    WRAPPED.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                previous(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no more is known");
        Err(damaged(place, text))
    })
}

/// A file, or a part of one, that cannot be decoded.
pub(super) fn damaged(place: &str, what: impl std::fmt::Display) -> Error {
    // The crates below name themselves, some twice.
    let what = what.to_string().replace("Parquet argument error: ", "").replace("Parquet error: ", "");
    Error::invalid(format!("{place} is damaged or not supported: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_decoder_is_an_error_of_its_file() {
        let outcome: Result<()> = guarded("a.parquet", || panic!("index out of bounds"));
        let text = outcome.map_or_else(|error| error.to_string(), |()| String::new());
        assert!(text.contains("a.parquet is damaged") && text.contains("index out of bounds"), "{text}");
    }
}
