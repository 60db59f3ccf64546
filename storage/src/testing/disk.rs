//! What if the disk refuses, or the power goes?
//!
//! A disk in memory that keeps what is synced apart from what is only written. After a loss of power, what was synced is
//! there; of what was written since then, some writes are there, some are not, and some are there in part.

use std::collections::VecDeque;
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
    /// Changes of the last syncs that it lied about, the oldest first.
    withheld: VecDeque<Vec<Change>>,
    /// So many of the last syncs are lies.
    lies: usize,
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

    /// From now on it says that what was synced is safe, and keeps the changes of so many of the last syncs where a loss
    /// of power takes them.
    pub(crate) fn lie(&self, syncs: usize) {
        self.state().lies = syncs;
    }

    /// What a reader sees.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().current.clone()
    }

    /// A disk that holds these bytes.
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { current: bytes.clone(), synced: bytes, ..State::default() })))
    }

    /// Writes, syncs and changes of length so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Another disk, as this one is found after the power went now.
    pub(crate) fn after_loss(&self, power: Power, random: &mut Random) -> Self {
        let state = self.state();
        let mut left = state.synced.clone();
        for change in state.withheld.iter().flatten().chain(&state.since) {
            apply(&mut left, change, power, random);
        }
        Self::holding(left)
    }

    fn change(&self, change: Change) -> io::Result<()> {
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
        let mut state = self.state();
        state.count()?;
        let State { current, synced, since, withheld, lies, .. } = &mut *state;
        withheld.push_back(std::mem::take(since));
        while withheld.len() > *lies {
            for change in withheld.pop_front().into_iter().flatten() {
                apply(synced, &change, Power::All, &mut Random::new(0));
            }
        }
        debug_assert!(*lies > 0 || current == synced);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()))
    }
}
