//! Which redb handle is in use, and what happens when the disk fails under it?
//!
//! redb takes no call on a handle any more once a single one to the disk failed, reads included. That is right: after a
//! sync that failed, nobody knows what is on disk, and to sync again would be told of success. So whatever the disk says
//! is [`Watch`]ed, and the file is closed and opened again, which reads from the disk what is there.
//!
//! Invariants: at most one handle is open at a time; an attempt to open again is made once an operation, by whoever holds
//! the writer's turn, so that no transaction is under way; a transaction of a handle that was closed answers from what is
//! in memory or with an error, never with bytes that were written later. Readers are counted, because the oldest keeps
//! the file from using its free pages again.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, Deref};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use redb::{
    BackendError, CompactionError, Database, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction,
};

use crate::error::engine;
use crate::guard::damage_as_error;
#[cfg(test)]
use crate::testing::Faults;
use crate::{Error, Result};

/// Opens the file through a backend with this watch over it.
pub(crate) type Opener = Box<dyn Fn(&Arc<Watch>) -> Result<Database> + Send + Sync>;

/// The handle in use.
pub(crate) struct Handle {
    open: Opener,
    current: RwLock<Current>,
    readers: Arc<Readers>,
}

enum Current {
    Open(Database, Arc<Watch>),
    /// It could not be opened again. What was read last may still answer from memory.
    Lost {
        reason: String,
        last: Option<Arc<ReadTransaction>>,
        watch: Arc<Watch>,
    },
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("failed", &self.has_failed()).finish_non_exhaustive()
    }
}

impl Handle {
    /// Opens the file for the first time.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) fn new(open: Opener, watch: Arc<Watch>) -> Result<Self> {
        let database = open(&watch)?;
        Ok(Self { open, current: RwLock::new(Current::Open(database, watch)), readers: Arc::default() })
    }

    fn with<T>(&self, look: impl FnOnce(&Current) -> T) -> T {
        look(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the file is to be opened again before anything else.
    pub(crate) fn has_failed(&self) -> bool {
        self.with(|current| match current {
            Current::Open(_, watch) => watch.failed.load(Ordering::Acquire),
            Current::Lost { .. } => true,
        })
    }

    /// The length of the file, free pages and holes included.
    pub(crate) fn bytes(&self) -> u64 {
        self.with(|current| match current {
            Current::Open(_, watch) | Current::Lost { watch, .. } => watch.bytes.load(Ordering::Relaxed),
        })
    }

    /// Begins to read. Where the file could not be opened again, this is the last commit that was seen, of which all
    /// answers that is in memory.
    ///
    /// # Errors
    /// [`Error::Poisoned`] where nothing can be read; whatever redb says.
    pub(crate) fn read(&self) -> Result<Reading> {
        let transaction = self.with(|current| match current {
            Current::Open(database, _) => database.begin_read().map(Arc::new).map_err(engine),
            Current::Lost { reason, last, .. } => last.clone().ok_or_else(|| Error::Poisoned(reason.clone())),
        })?;
        Ok(Reading { transaction, ticket: self.readers.enter(), readers: Arc::clone(&self.readers) })
    }

    /// Begins to write. Only the writer may.
    ///
    /// # Errors
    /// [`Error::Poisoned`] where the file could not be opened again; whatever redb says.
    pub(crate) fn write(&self) -> Result<WriteTransaction> {
        self.with(|current| match current {
            Current::Open(database, _) => database.begin_write().map_err(engine),
            Current::Lost { reason, .. } => Err(Error::Poisoned(reason.clone())),
        })
    }

    /// Closes the file and opens it again. Only the writer may, outside of its transactions. Readers that begin wait.
    ///
    /// Cost: redb verifies the whole file, some seconds a gigabyte, unless its commits saved it that.
    ///
    /// # Errors
    /// [`Error::Poisoned`], after which the next call tries again.
    pub(crate) fn reopen(&self) -> Result<()> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let (last, watch) = match &*current {
            Current::Open(database, watch) => (database.begin_read().ok().map(Arc::new), Arc::clone(watch)),
            Current::Lost { last, watch, .. } => (last.clone(), Arc::clone(watch)),
        };
        // This closes the file: there may be only one handle.
        let lost =
            Current::Lost { reason: "it is being opened again".into(), last: last.clone(), watch: watch.clone() };
        let_go(std::mem::replace(&mut *current, lost));
        let fresh = Arc::new(watch.renewed());
        match damage_as_error("data.redb", || (self.open)(&fresh)) {
            Ok(database) => {
                *current = Current::Open(database, fresh);
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                *current = Current::Lost { reason: reason.clone(), last, watch };
                Err(Error::Poisoned(reason))
            }
        }
    }

    /// Moves the pages of the file together and cuts it. Only the writer may, outside of its transactions. Readers that
    /// begin wait. Returns whether that was done: not where a read transaction is alive.
    ///
    /// # Errors
    /// [`Error::Poisoned`] where the file could not be opened again; whatever redb says.
    pub(crate) fn compact(&self) -> Result<bool> {
        match &mut *self.current.write().unwrap_or_else(PoisonError::into_inner) {
            Current::Open(database, _) => match database.compact() {
                Ok(_) => Ok(true),
                Err(CompactionError::TransactionInProgress) => Ok(false),
                Err(error) => Err(engine(error)),
            },
            Current::Lost { reason, .. } => Err(Error::Poisoned(reason.clone())),
        }
    }

    /// Closes the file for good. Returns whether redb could write down that it is whole.
    pub(crate) fn close(&self) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let (Current::Open(_, watch) | Current::Lost { watch, .. }) = &*current;
        let watch = Arc::clone(watch);
        let was_open = matches!(&*current, Current::Open(..));
        let lost = Current::Lost { reason: "it is closed".into(), last: None, watch: Arc::clone(&watch) };
        let_go(std::mem::replace(&mut *current, lost)) && was_open && !watch.failed.load(Ordering::Acquire)
    }

    /// For how long the oldest reader has been reading; `None` where nobody is.
    pub(crate) fn oldest_reader_age(&self) -> Option<Duration> {
        self.readers.places().since.first_key_value().map(|(_, since)| since.elapsed())
    }

    /// Takes back the leases that are older than this. What is being walked through is walked to its end.
    pub(crate) fn expire(&self, age_max: Duration) {
        let old: Vec<Arc<Lease>> = {
            let places = self.readers.places();
            let is_old = |ticket: &u64| places.since.get(ticket).is_some_and(|since| since.elapsed() > age_max);
            // The oldest stand first.
            let leases = places.leases.iter().take_while(|(ticket, _)| is_old(ticket));
            leases.filter_map(|(_, lease)| lease.upgrade()).collect()
        };
        old.iter().for_each(|lease| lease.end());
    }

    #[cfg(test)]
    pub(crate) fn faults(&self) -> Arc<Faults> {
        self.with(|current| match current {
            Current::Open(_, watch) | Current::Lost { watch, .. } => Arc::clone(&watch.faults),
        })
    }
}

/// Closes what is open. Returns whether redb could: on damaged pages it panics, and whoever drops a database must not.
fn let_go(current: Current) -> bool {
    damage_as_error("data.redb", || {
        drop(current);
        Ok(())
    })
    .is_ok()
}

/// A read transaction, counted for as long as it lives.
pub(crate) struct Reading {
    transaction: Arc<ReadTransaction>,
    ticket: u64,
    readers: Arc<Readers>,
}

impl Deref for Reading {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.transaction
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut places = self.readers.places();
        places.since.remove(&self.ticket);
        places.leases.remove(&self.ticket);
    }
}

impl Reading {
    /// Lets the database take it back.
    pub(crate) fn lease(self) -> Arc<Lease> {
        let (ticket, readers) = (self.ticket, Arc::clone(&self.readers));
        let lease = Arc::new(Lease(RwLock::new(Some(self))));
        readers.places().leases.insert(ticket, Arc::downgrade(&lease));
        lease
    }

    /// One that the database does not take back.
    pub(crate) fn keep(self) -> Arc<Lease> {
        Arc::new(Lease(RwLock::new(Some(self))))
    }
}

/// A read transaction that the database may take back.
pub(crate) struct Lease(RwLock<Option<Reading>>);

impl Lease {
    /// The transaction; whoever has it keeps the pages until he lets it go.
    ///
    /// # Errors
    /// [`Error::Expired`] where it was taken back.
    pub(crate) fn transaction(&self) -> Result<Arc<ReadTransaction>> {
        let reading = self.0.read().unwrap_or_else(PoisonError::into_inner);
        reading.as_ref().map(|reading| Arc::clone(&reading.transaction)).ok_or(Error::Expired)
    }

    fn end(&self) {
        drop(self.0.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Since when each reader has been reading. Tickets ascend, so the first is the oldest.
#[derive(Debug, Default)]
struct Readers(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    next: u64,
    since: BTreeMap<u64, Instant>,
    /// Those that may be taken back.
    leases: BTreeMap<u64, Weak<Lease>>,
}

impl Readers {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> u64 {
        let mut places = self.places();
        let ticket = places.next;
        places.next += 1;
        places.since.insert(ticket, Instant::now());
        ticket
    }
}

/// What is known of the disk below one handle.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    failed: AtomicBool,
    bytes: AtomicU64,
    /// Read by whoever reads the disk, so that nothing is read after the handle was closed.
    closed: RwLock<bool>,
    /// Whether the file was open before in this process.
    again: bool,
    #[cfg(test)]
    faults: Arc<Faults>,
}

impl Watch {
    /// For the next handle.
    fn renewed(&self) -> Self {
        Self {
            again: true,
            #[cfg(test)]
            faults: Arc::clone(&self.faults),
            ..Self::default()
        }
    }

    /// Whether the handle comes after another one that failed.
    pub(crate) fn is_again(&self) -> bool {
        self.again
    }

    /// Whether nothing of the file is kept in memory: tests let reads fail.
    pub(crate) fn reads_each_time(&self) -> bool {
        #[cfg(test)]
        return self.faults.reads_each_time();
        #[cfg(not(test))]
        false
    }

    /// Puts a backend under this watch.
    pub(crate) fn over<B: StorageBackend>(self: &Arc<Self>, backend: B) -> Watched<B> {
        Watched { backend, watch: Arc::clone(self) }
    }

    #[cfg(test)]
    pub(crate) fn with_faults(faults: Arc<Faults>) -> Self {
        Self { faults, ..Self::default() }
    }
}

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Length,
    Read,
    Resize(u64),
    Sync,
    Write(u64, u64),
}

/// A backend under watch.
#[derive(Debug)]
pub(crate) struct Watched<B> {
    backend: B,
    watch: Arc<Watch>,
}

impl<B> Watched<B> {
    #[cfg_attr(not(test), allow(unused_variables, reason = "only the faults of tests tell requests apart"))]
    fn note<T>(&self, request: Request, ask: impl FnOnce(&B) -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        let answer = self.watch.faults.admit(request).and_then(|()| ask(&self.backend));
        #[cfg(not(test))]
        let answer = ask(&self.backend);
        if answer.is_err() {
            self.watch.failed.store(true, Ordering::Release);
        }
        answer
    }
}

impl<B: StorageBackend> StorageBackend for Watched<B> {
    fn len(&self) -> io::Result<u64> {
        let bytes = self.note(Request::Length, B::len)?;
        self.watch.bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let closed = self.watch.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(io::Error::other("the file was closed"));
        }
        self.note(Request::Read, |backend| backend.read(offset, out))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.note(Request::Resize(length), |backend| backend.set_len(length))?;
        self.watch.bytes.store(length, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Request::Sync, B::sync_data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(Request::Write(offset, data.len() as u64), |backend| backend.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        *self.watch.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.backend.close()
    }

    // Without these, redb's own lock on the file would be lost.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}
