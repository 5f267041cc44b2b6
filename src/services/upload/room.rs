//! How much more may be stored: what is free on the disk, and what all files together may be.
//!
//! The rules:
//! 1. A file is let in before its first byte is taken, and what it will need is promised to it
//!    ([`Promise`]) until it is stored or given up, so that many files that come at once do not get
//!    the same room.
//! 2. What the disk has free is asked once in [`FREE_BELIEVED`], not for each small file. Room that
//!    others take meanwhile is what the reserve is for.
//! 3. If all files together are limited, those that are there are counted before the first one is
//!    let in, and again each [`RECOUNT_AFTER`], by jobs: others may have changed the folder. In
//!    between, what is stored is added and what is replaced taken away.
//!
//! Not here: the room that a file system keeps for a file ([`crate::disk::Disk::reserve`]), and
//! quotas of the system's own, which show as a full disk.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::refusal::Refusal;
use super::walk::{Found, Walk};
use crate::disk::{File, FileKind};
use crate::service::{Cx, Id, Io, Waiter};
use crate::wire::upload::{Code, SafeName};

/// How long the disk is believed about what it has free.
const FREE_BELIEVED: Duration = Duration::from_secs(1);
/// How long after a count the files are counted again.
const RECOUNT_AFTER: Duration = Duration::from_secs(600);
/// The same after a count that failed.
const RECOUNT_SOON: Duration = Duration::from_secs(5);

/// Room that was promised to a file; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Promise {
    bytes: u64,
    unwritten: Cell<u64>,
    all: Rc<Promised>,
}

/// What was promised to all files under way.
#[derive(Debug, Default)]
struct Promised {
    bytes: Cell<u64>,
    /// Of those, what the disk does not know of yet.
    unwritten: Cell<u64>,
}

impl Promise {
    fn new(bytes: u64, all: &Rc<Promised>) -> Self {
        all.bytes.set(all.bytes.get() + bytes);
        all.unwritten.set(all.unwritten.get() + bytes);
        Self {
            bytes,
            unwritten: Cell::new(bytes),
            all: Rc::clone(all),
        }
    }

    /// So many bytes of it were given to the disk.
    pub(super) fn wrote(&self, bytes: u64) {
        let bytes = bytes.min(self.unwritten.get());
        self.unwritten.set(self.unwritten.get() - bytes);
        self.all.unwritten.set(self.all.unwritten.get() - bytes);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.wrote(u64::MAX);
        self.all.bytes.set(self.all.bytes.get() - self.bytes);
    }
}

/// How all files are limited.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoomLimits {
    /// Bytes that stay free on the disk.
    pub(super) reserved_bytes: u64,
    /// Bytes of all files together, those under way and half-received ones included.
    pub(super) total_bytes_max: Option<u64>,
}

/// What may still be stored.
pub(super) struct Room {
    limits: RoomLimits,
    promised: Rc<Promised>,
    /// What the disk had free when.
    free: Option<(u64, Instant)>,
    /// Bytes of the files that are there, once they were counted.
    stored_bytes: Option<u64>,
    count: Count,
    /// Sessions that wait for the first count.
    waiting: Vec<Id>,
}

/// How the count stands.
enum Count {
    /// It is to be made as soon as it can be.
    Wanted,
    /// So many bytes were found so far, and so many were stored meanwhile.
    UnderWay {
        walk: Walk,
        found_bytes: u64,
        meanwhile_bytes: u64,
    },
    /// It is made then.
    Resting { until: Instant },
}

impl Room {
    pub(super) fn new(limits: RoomLimits) -> Self {
        Self {
            limits,
            promised: Rc::default(),
            free: None,
            stored_bytes: None,
            count: Count::Wanted,
            waiting: Vec::new(),
        }
    }

    /// Whether all files together are limited.
    pub(super) fn is_limited(&self) -> bool {
        self.limits.total_bytes_max.is_some()
    }

    /// Promises room for a file of that size of which `held_bytes` are there, beside `kept_bytes` of
    /// other half-received ones; asked again until it answers.
    pub(super) fn admit(
        &mut self,
        name: &SafeName,
        (size_bytes, held_bytes, kept_bytes): (u64, u64, u64),
        folder: &File,
        io: &mut Io<'_>,
    ) -> Poll<Result<Promise, Refusal>> {
        if let Some(most) = self.limits.total_bytes_max {
            let Some(stored_bytes) = self.stored_bytes else {
                if !self.waiting.contains(&io.id) {
                    self.waiting.push(io.id);
                }
                io.at_turn_end();
                return Poll::Pending;
            };
            let used = [kept_bytes, self.promised.bytes.get(), size_bytes].into_iter();
            let used = used.fold(stored_bytes, u64::saturating_add);
            if used > most {
                let left = most.saturating_sub(used - size_bytes);
                let text = format!(
                    "{name}: {size_bytes} bytes, and all files together may get {left} more"
                );
                return Poll::Ready(Err(Refusal::new(Code::Quota, text)));
            }
        }
        let free_bytes = match self.free {
            Some((bytes, at)) if io.cx.now < at + FREE_BELIEVED => bytes,
            _ => {
                let mut files = io.cx.files(Waiter::Session(io.id));
                let Poll::Ready(answer) = files.free_bytes(folder) else {
                    return Poll::Pending;
                };
                match answer {
                    Ok(bytes) => self.free.insert((bytes, io.cx.now)).0,
                    Err(error) => return Poll::Ready(Err(Refusal::disk(name, error))),
                }
            }
        };
        let taken = self.promised.unwritten.get();
        let left = free_bytes
            .saturating_sub(taken)
            .saturating_sub(self.limits.reserved_bytes);
        let needed = size_bytes.saturating_sub(held_bytes);
        if needed > left {
            let text = format!("{name}: {size_bytes} bytes, and the disk has room for {left}");
            return Poll::Ready(Err(Refusal::new(Code::NoSpace, text)));
        }
        let promise = Promise::new(size_bytes, &self.promised);
        promise.wrote(size_bytes - needed);
        Poll::Ready(Ok(promise))
    }

    /// The disk keeps room for a file by itself now: what was known of it is old.
    pub(super) fn reserved(&mut self, promise: &Promise) {
        promise.wrote(u64::MAX);
        self.free = None;
    }

    /// The disk is full, whatever was known of it.
    pub(super) fn is_full(&mut self) {
        self.free = None;
    }

    /// Files of so many bytes were stored, in the place of others of so many.
    pub(super) fn stored(&mut self, bytes: u64, replaced_bytes: u64) {
        if let Some((free_bytes, _)) = &mut self.free {
            *free_bytes = free_bytes.saturating_sub(bytes);
        }
        if let Some(stored_bytes) = &mut self.stored_bytes {
            *stored_bytes = stored_bytes
                .saturating_add(bytes)
                .saturating_sub(replaced_bytes);
        }
        if let Count::UnderWay {
            meanwhile_bytes, ..
        } = &mut self.count
        {
            *meanwhile_bytes = meanwhile_bytes.saturating_add(bytes);
        }
    }

    /// Counts, as far as there is work left; whether there is more to do at once.
    pub(super) fn work(&mut self, folder: &File, cx: &mut Cx<'_>) -> bool {
        if !self.is_limited() {
            return false;
        }
        let is_due = match &self.count {
            Count::Wanted => true,
            Count::Resting { until } => *until <= cx.now,
            Count::UnderWay { .. } => false,
        };
        if is_due && !cx.draining {
            self.count = Count::UnderWay {
                walk: Walk::new(folder.clone()),
                found_bytes: 0,
                meanwhile_bytes: 0,
            };
        }
        let Count::UnderWay {
            walk,
            found_bytes,
            meanwhile_bytes,
        } = &mut self.count
        else {
            return false;
        };
        let counted = loop {
            match walk.next(cx) {
                Found::Entry(_, metadata) if metadata.kind == FileKind::Regular => {
                    *found_bytes = found_bytes.saturating_add(metadata.len);
                }
                Found::Entry(..) => {}
                Found::Later => return false,
                Found::More => return true,
                Found::Failed(error) => {
                    log::error!("counting the files of an upload listener: {error}");
                    break None;
                }
                // What came meanwhile may have been seen or not: rather too much than too little.
                Found::End => break Some(found_bytes.saturating_add(*meanwhile_bytes)),
            }
        };
        let after = match counted {
            Some(_) => RECOUNT_AFTER,
            None => RECOUNT_SOON,
        };
        self.count = Count::Resting {
            until: cx.now + after,
        };
        if counted.is_some() {
            self.stored_bytes = counted;
            cx.woken.append(&mut self.waiting);
        }
        false
    }

    /// When it is to be counted again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.count {
            Count::Resting { until } if self.is_limited() => Some(until),
            _ => None,
        }
    }
}
