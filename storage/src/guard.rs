//! What if the engine below panics on damaged bytes?
//!
//! redb asserts its own invariants while it walks pages, and damaged pages break them. A panic there is damage, not a
//! bug of the caller, and must not take the process along: it becomes [`Error::Corrupt`].

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Error, Result};

/// Runs `work` and turns a panic into an error that names the place.
///
/// Nothing that `work` was changing is used again: redb's transactions abort when they unwind, and the view of a
/// collection is published only once it is complete.
pub(crate) fn damage_as_error<T>(place: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::corrupt(place, message(panic.as_ref()))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("pages do not fit together ({})", text.unwrap_or("no more is known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_place() {
        let result: Result<()> = damage_as_error("data.redb", || panic!("page 7"));
        let text = result.map_or_else(|error| error.to_string(), |()| String::new());
        assert!(text.contains("data.redb") && text.contains("page 7"), "{text}");
    }
}
