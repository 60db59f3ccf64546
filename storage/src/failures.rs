//! What could not be built lately, and when is it worth another try?
//!
//! A segment that cannot be built costs no answer, so nobody waits for it and nobody is stopped by it. But a disk that
//! refuses would be asked at every write: so each failure in a row doubles the time until the next try.
//!
//! Invariant: what is told is the last outcome; a success leaves nothing to tell.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How long the first failure is waited for, and the longest wait.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(300);

/// The last failure of each collection, by its number.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<u32, Failure>>);

#[derive(Debug)]
struct Failure {
    error: String,
    in_a_row: u32,
    again: Instant,
}

impl Failures {
    fn failures(&self) -> MutexGuard<'_, HashMap<u32, Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an outcome down. That a collection was dropped meanwhile is no failure.
    pub(crate) fn note<T>(&self, collection: u32, outcome: &Result<T>) {
        let mut failures = self.failures();
        let Err(error) = outcome else { return drop(failures.remove(&collection)) };
        if matches!(error, Error::UnknownCollection(_)) {
            return drop(failures.remove(&collection));
        }
        let before = failures.get(&collection).map_or(0, |failure| failure.in_a_row);
        let wait = WAIT_MIN.saturating_mul(1 << before.min(16)).min(WAIT_MAX);
        let failure = Failure { error: error.to_string(), in_a_row: before + 1, again: Instant::now() + wait };
        failures.insert(collection, failure);
    }

    /// Whether the last try failed, and the next is not due yet.
    pub(crate) fn is_waiting(&self, collection: u32) -> bool {
        self.failures().get(&collection).is_some_and(|failure| failure.again > Instant::now())
    }

    /// What the last try said, where it failed.
    pub(crate) fn last(&self, collection: u32) -> Option<String> {
        self.failures().get(&collection).map(|failure| failure.error.clone())
    }

    /// Makes the next try due.
    #[cfg(test)]
    pub(crate) fn hurry(&self) {
        self.failures().values_mut().for_each(|failure| failure.again = Instant::now());
    }

    /// For how long the next try is waited for.
    #[cfg(test)]
    fn wait(&self, collection: u32) -> Duration {
        self.failures()[&collection].again - Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_in_a_row_doubles_the_wait_and_a_success_ends_it() {
        let failures = Failures::default();
        let fail = || failures.note(1, &Err::<(), _>(Error::invalid("no room")));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            fail();
            let wait = failures.wait(1);
            assert!(wait <= Duration::from_secs(seconds) && wait > Duration::from_secs(seconds) / 2, "{wait:?}");
            assert!(failures.is_waiting(1) && !failures.is_waiting(2));
            assert_eq!(failures.last(1).as_deref(), Some("no room"));
        }
        failures.note(1, &Ok(()));
        assert!(!failures.is_waiting(1) && failures.last(1).is_none());
        fail();
        assert!(failures.wait(1) <= Duration::from_secs(1));
        failures.note(1, &Err::<(), _>(Error::UnknownCollection("it was dropped".into())));
        assert!(failures.last(1).is_none());
    }
}
