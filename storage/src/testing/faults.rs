//! What if the disk below an open database refuses?
//!
//! [`Faults`] stand between redb and its backend. They refuse for once, or whatever would take
//! pages that a full disk does not have: writing pages that were written before is possible on a full disk, and files
//! with holes can be made longer.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::handle::Request;

const PAGE_BYTES: u64 = 4096;

/// The faults of one database, over all its handles.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Plan>);

#[derive(Debug, Default)]
struct Plan {
    reads_each_time: bool,
    syncs: u64,
    refusal: Option<Refusal>,
    written: HashSet<u64>,
    capacity: Option<Capacity>,
}

#[derive(Debug)]
struct Refusal {
    which: Which,
    /// How many more of them are admitted.
    after: u64,
    kind: ErrorKind,
}

/// The requests that are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Reads,
    Changes,
    Syncs,
}

/// So many pages, and so many more when this file is gone.
#[derive(Debug)]
struct Capacity {
    pages: usize,
    reserve: PathBuf,
    reserve_pages: usize,
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses one of these after so many more.
    pub(crate) fn refuse_once(&self, which: Which, after: u64, kind: ErrorKind) {
        self.plan().refusal = Some(Refusal { which, after, kind });
    }

    /// From now on there is room for so many more pages, and for those of the reserve once it is gone.
    pub(crate) fn fill(&self, pages: usize, reserve: PathBuf, reserve_pages: usize) {
        let mut plan = self.plan();
        let pages = plan.written.len() + pages;
        plan.capacity = Some(Capacity { pages, reserve, reserve_pages });
    }

    /// All is well again.
    pub(crate) fn heal(&self) {
        let mut plan = self.plan();
        (plan.refusal, plan.capacity) = (None, None);
    }

    /// Whether what was to be refused once was refused.
    pub(crate) fn is_spent(&self) -> bool {
        self.plan().refusal.is_none()
    }

    /// Faults of a database that keeps nothing of its file in memory.
    pub(crate) fn uncached() -> Self {
        Self(Mutex::new(Plan { reads_each_time: true, ..Plan::default() }))
    }

    pub(crate) fn reads_each_time(&self) -> bool {
        self.plan().reads_each_time
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.plan().syncs
    }

    pub(crate) fn admit(&self, request: Request) -> io::Result<()> {
        let class = match request {
            Request::Length => return Ok(()),
            Request::Read => Which::Reads,
            Request::Sync => Which::Syncs,
            Request::Resize(_) | Request::Write(..) => Which::Changes,
        };
        if class != Which::Reads {
            super::power_may_go("disk");
        }
        let mut plan = self.plan();
        plan.syncs += u64::from(class == Which::Syncs);
        plan.refuse(class)?;
        plan.take(request)
    }
}

impl Plan {
    fn refuse(&mut self, class: Which) -> io::Result<()> {
        let Some(refusal) = &mut self.refusal else { return Ok(()) };
        // A sync changes the disk, too.
        if refusal.which != class && (refusal.which, class) != (Which::Changes, Which::Syncs) {
            return Ok(());
        }
        if refusal.after > 0 {
            refusal.after -= 1;
            return Ok(());
        }
        let kind = refusal.kind;
        self.refusal = None;
        Err(kind.into())
    }

    /// Takes the pages that are written for the first time, where there are as many.
    fn take(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Resize(length) => self.written.retain(|page| page * PAGE_BYTES < length),
            Request::Write(offset, length) => {
                let pages = offset / PAGE_BYTES..(offset + length).div_ceil(PAGE_BYTES);
                let fresh: Vec<u64> = pages.filter(|page| !self.written.contains(page)).collect();
                if let Some(Capacity { pages, reserve, reserve_pages }) = &self.capacity {
                    let room = pages + if reserve.exists() { 0 } else { *reserve_pages };
                    if !fresh.is_empty() && self.written.len() + fresh.len() > room {
                        return Err(ErrorKind::StorageFull.into());
                    }
                }
                self.written.extend(fresh);
            }
            Request::Length | Request::Read | Request::Sync => {}
        }
        Ok(())
    }
}
