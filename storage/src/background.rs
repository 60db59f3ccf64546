//! Who seals while the application goes on?
//!
//! One thread at most for each database. It seals what was written, and builds again what was found damaged, which no reader
//! waits for. What fails is kept and told, and tried again by a later call, at longer and longer intervals. It is told to
//! stop when the last handle goes, and waited for, so that the folder is free when the database is closed.
//!
//! Invariant: it holds no lock that a reader waits for, and the writer's turn only to publish what it built.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::engine::Engine;
use crate::{CollectionId, seal};

/// The thread of a database.
#[derive(Debug)]
pub(crate) struct Background {
    closing: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Whether it does its work on the caller's thread: simulated disks are not for several.
    #[cfg(test)]
    pub(crate) is_inline: bool,
}

impl Background {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self {
            closing: Arc::clone(&engine.closing),
            thread: Mutex::new(None),
            #[cfg(test)]
            is_inline: false,
        }
    }

    /// Seals a collection on the thread, unless that is at work, there is too little to do, or the last try failed not long
    /// ago.
    pub(crate) fn begin(&self, engine: &Arc<Engine>, collection: CollectionId, chunks_min: u64) {
        let is_waiting = self.is_busy() || engine.failures.is_waiting(collection.0);
        // That may load the collection, for which nobody who asks whether the thread is at work shall wait.
        if is_waiting || !seal::is_due(engine, collection, chunks_min) {
            return;
        }
        #[cfg(test)]
        if self.is_inline {
            let _ = seal::seal(engine, collection, chunks_min);
            return;
        }
        let engine = Arc::clone(engine);
        let seal = move || {
            // The failure is noted; search is right without it.
            let _ = seal::seal(&engine, collection, chunks_min);
        };
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_none_or(JoinHandle::is_finished) {
            *thread = std::thread::Builder::new().name("quiverdb-seal".into()).spawn(seal).ok();
        }
    }

    /// Waits for the thread to end.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map(JoinHandle::join).transpose().expect("the thread ended well");
    }

    /// Whether the thread is at work.
    pub(crate) fn is_busy(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic there was reported by its own thread.
            let _ = thread.join();
        }
    }
}
