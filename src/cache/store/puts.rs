//! Small objects on their way to the disk.
//!
//! ```text
//! keep_small ──while the disk takes it──▶ under way ──▶ written
//!      └──▶ waits in memory ──the first of them──▲
//!               └──memory is wanted for others, or it has to go──▶ kept no longer
//! ```
//!
//! The rules:
//! 1. What waits is in memory like all that is used, and takes no other memory: a disk that is
//!    slower than the origins costs what memory cannot hold until it is written, and no more.
//! 2. What waits has no file, so none is removed when it goes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Poll;

use slab::Slab;

use super::folder::SENT_FROM_MEMORY_MAX;
use super::index::{Entry, Key, Slot};
use super::kept::{Body, Kept};
use super::object::{DoesNotFit, Room};
use super::{Hands, Store, Task, waiter};
use crate::jobs::{Done, Ticket};
use crate::waiter::Id;

/// Objects that are written at a time: enough for a disk to have always something to do, and few,
/// since what is under way is in memory twice.
const UNDER_WAY_MAX: usize = 64;

/// Those of a store.
#[derive(Default)]
pub(super) struct Puts {
    under_way: Slab<Put>,
    /// Those that wait, by the time that names them, which no two share: the oldest one first.
    waiting: BTreeMap<u64, Slot>,
}

/// An object that is being written.
struct Put {
    ticket: Ticket,
    slot: Slot,
    name: Entry,
    /// Sessions that are woken when it is written.
    waiting: Vec<Id>,
}

impl Puts {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.under_way.len() + self.waiting.len()
    }

    /// An object will not be written. Whether it waited for that, so that there is no file of it.
    pub(super) fn forget(&mut self, entry: &Entry) -> bool {
        self.waiting.remove(&entry.stored_ms).is_some()
    }

    /// Whether an object waits to be written.
    pub(super) fn await_turn(&self, entry: &Entry) -> bool {
        self.waiting.contains_key(&entry.stored_ms)
    }

    /// Whether an object's file is being written, so that it cannot be removed yet.
    pub(super) fn are_writing(&self, slot: Slot) -> bool {
        self.under_way.iter().any(|(_, put)| put.slot == slot)
    }

    /// Wakes a session once one of a key is written. Whether one is being.
    pub(super) fn wake_after(&mut self, key: Key, session: Id) -> bool {
        let mut puts = self.under_way.iter_mut();
        let found = puts.find(|(_, put)| put.name.key == key);
        found.map(|(_, put)| put.waiting.push(session)).is_some()
    }

    /// The process ends.
    pub(super) fn close(&mut self, hands: &mut Hands<'_>) {
        self.waiting.clear();
        for put in self.under_way.drain() {
            hands.jobs.cancel(put.ticket);
        }
    }
}

/// What the file of an object in memory is to have in it.
///
/// # Errors
/// Its header does not fit.
pub(super) fn encode(kept: &Kept, boot: u128, room: Room) -> Result<Vec<u8>, DoesNotFit> {
    let mut bytes = Vec::new();
    kept.header(boot).encode(&mut bytes, room)?;
    if let Body::Bytes(body) = &kept.body {
        bytes.extend_from_slice(body);
    }
    Ok(bytes)
}

/// Whether an object of which the body is in memory is sent from its file, once there is one.
pub(super) fn is_sent(kept: &Kept) -> bool {
    kept.body_bytes > SENT_FROM_MEMORY_MAX as u64
}

impl Store {
    /// Has an object written that was entered just now, at once or when it is its turn. One that is
    /// not in memory cannot wait.
    pub(super) fn write_small(
        &mut self,
        (slot, name): (Slot, Entry),
        (bytes, is_sent): (Vec<u8>, bool),
        hands: &mut Hands<'_>,
    ) {
        if self.puts.waiting.is_empty() && self.begin_put((slot, name), (bytes, is_sent), hands) {
            return;
        }
        match self.index.get(slot) {
            Some(Entry { warm: Some(_), .. }) => {
                self.puts.waiting.insert(name.stored_ms, slot);
            }
            _ => {
                self.counts.failed += 1;
                self.index.remove(slot);
            }
        }
    }

    /// Goes on with those that wait, as far as the disk takes them.
    pub(super) fn write_waiting(&mut self, hands: &mut Hands<'_>) {
        while let Some((_, &slot)) = self.puts.waiting.first_key_value() {
            let entry = self.index.get(slot);
            // Invariant: what waits is in the index and in memory.
            let Some((entry, place)) = entry.and_then(|entry| Some((entry, entry.warm?))) else {
                debug_assert!(false, "an object waits that is not in memory");
                self.puts.waiting.pop_first();
                continue;
            };
            if self.puts.under_way.len() >= UNDER_WAY_MAX {
                return;
            }
            let kept = Rc::clone(self.memory.peek(place));
            let room = Room::Same(entry.bytes.saturating_sub(kept.body_bytes) as usize);
            let Ok(bytes) = encode(&kept, self.settings.boot, room) else {
                debug_assert!(false, "the header is what it was");
                self.drop_slot(slot, hands);
                continue;
            };
            if !self.begin_put((slot, entry), (bytes, is_sent(&kept)), hands) {
                return;
            }
            self.puts.waiting.pop_first();
        }
    }

    /// Begins to write an object, if the disk takes it.
    fn begin_put(
        &mut self,
        (slot, name): (Slot, Entry),
        (bytes, stays_open): (Vec<u8>, bool),
        hands: &mut Hands<'_>,
    ) -> bool {
        let Some(folder) = &mut self.folder else {
            return false;
        };
        if self.puts.under_way.len() >= UNDER_WAY_MAX {
            return false;
        }
        let vacant = self.puts.under_way.vacant_entry();
        let waiter = waiter(self.number, Task::Put(vacant.key() as u32));
        let command = folder.put(&name, bytes, stays_open);
        let Ok(ticket) = hands.jobs.start(waiter, command, hands.now) else {
            return false;
        };
        vacant.insert(Put {
            ticket,
            slot,
            name,
            waiting: Vec::new(),
        });
        true
    }

    /// An object was written, or not.
    pub(super) fn put_done(&mut self, index: u32, hands: &mut Hands<'_>) {
        let Some(put) = self.puts.under_way.get(index as usize) else {
            return;
        };
        let Poll::Ready(finished) = hands.jobs.take(&put.ticket) else {
            return;
        };
        let mut put = self.puts.under_way.remove(index as usize);
        hands.woken.append(&mut put.waiting);
        match (finished.result, &mut self.folder) {
            (Err(error), _) => {
                self.counts.failed += 1;
                log::warn!("{}: {error}", self.settings.dir.display());
                self.drop_slot(put.slot, hands);
            }
            // It had to go while it was written: the file came after its removal.
            (Ok(_), Some(folder)) if self.index.get(put.slot).is_none() => {
                folder.remove(&put.name, hands);
            }
            (Ok(Done::File(file, _)), _) => self.send_from(put.slot, file),
            (Ok(_), _) => {}
        }
        self.walk(hands);
    }
}
