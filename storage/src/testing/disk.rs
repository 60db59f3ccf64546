//! What if the disk refuses, or the power goes?
//!
//! A disk in memory that keeps what is synced apart from what is only written. After a loss of power, what was synced is
//! there; of what was written since then, some writes are there, some are not, and some are there in part.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::Random;

/// A disk in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    current: Vec<u8>,
    synced: Vec<u8>,
    since: Vec<Change>,
    /// Operations until it refuses to be written; `None` is never.
    allowed: Option<u64>,
    operations: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// The sector that a disk writes as a whole.
const SECTOR: usize = 512;

/// How much of what was not synced is there afterwards.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Power {
    /// Nothing.
    Nothing,
    /// All of it.
    All,
    /// Each write or not, by chance.
    SomeWrites,
    /// Each sector of each write or not, by chance.
    SomeSectors,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to be written after so many more operations.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.state().allowed = Some(operations);
    }

    /// Lets itself be written again.
    pub(crate) fn heal(&self) {
        self.state().allowed = None;
    }

    /// Writes, syncs and changes of length so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Another disk, as this one is found after the power went now.
    pub(crate) fn after_loss(&self, power: Power, random: &mut Random) -> Self {
        let state = self.state();
        let mut left = state.synced.clone();
        for change in &state.since {
            apply(&mut left, change, power, random);
        }
        let fresh = State { current: left.clone(), synced: left, ..State::default() };
        Self(Arc::new(Mutex::new(fresh)))
    }

    fn change(&self, change: Change) -> io::Result<()> {
        super::power_may_go("disk");
        let mut state = self.state();
        state.count()?;
        apply(&mut state.current, &change, Power::All, &mut Random::new(0));
        state.since.push(change);
        Ok(())
    }
}

impl State {
    fn count(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.allowed {
            Some(0) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Some(allowed) => {
                *allowed -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn apply(image: &mut Vec<u8>, change: &Change, power: Power, random: &mut Random) {
    let mut happens = |whole: bool| match power {
        Power::Nothing => false,
        Power::All => true,
        Power::SomeWrites => !whole || random.below(2) == 0,
        Power::SomeSectors => whole || random.below(2) == 0,
    };
    if !happens(true) {
        return;
    }
    match change {
        Change::Length(length) => image.resize(*length, 0),
        Change::Write(offset, data) => {
            // A write beyond the end makes the file longer, as on a real disk whose change of length came later.
            image.resize(image.len().max(offset + data.len()), 0);
            for (place, sector) in data.chunks(SECTOR).enumerate().filter(|_| happens(false)) {
                let start = offset + place * SECTOR;
                image[start..start + sector.len()].copy_from_slice(sector);
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let start = offset as usize;
        let found = state.current.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Change::Length(length as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        super::power_may_go("disk");
        let mut state = self.state();
        state.count()?;
        let State { current, synced, since, .. } = &mut *state;
        for change in since.drain(..) {
            apply(synced, &change, Power::All, &mut Random::new(0));
        }
        debug_assert_eq!(current, synced);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()))
    }
}
