//! What time is it, for documents that are to be gone by then?
//!
//! The one thing here that the time of day decides is which documents have expired. Whoever tests that, or has a better
//! clock, puts his own in its place.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the milliseconds since 1970-01-01 UTC.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The clock of a database.
pub(crate) struct Clock(RwLock<Now>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(RwLock::new(Arc::new(system)))
    }
}

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner)()
    }

    pub(crate) fn set(&self, now: Now) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// What the system says; before 1970 nothing has expired.
fn system() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
