//! Which models are there, and which of them are in memory?

mod loaded;

pub(crate) use self::loaded::Loaded;
pub use self::loaded::{LoadHealth, LoadState, MemoryLimits};
