//! How much more may be stored: what is free on the disk, and what all files together may be.
//!
//! The rules:
//! 1. A file is let in before its first byte is taken, and what it will need is promised to it
//!    ([`Promise`]) until it is stored or given up, so that many files that come at once do not get
//!    the same room.
//! 2. What the disk has free is asked once in [`FREE_BELIEVED`], not for each small file, and again
//!    after it was too little. Room that others take meanwhile is what the reserve is for.
//! 3. If all files together are limited, or those of each user, those that are there are counted
//!    before the first one is let in, and again each [`RECOUNT_AFTER`], by jobs: others may have
//!    changed the folder. In between, what is stored is added and what is replaced taken away. The
//!    files of a user are those in the user's folder and in all folders below it.
//!
//! Not here: the room that a file system keeps for a file ([`crate::disk::Disk::reserve`]), and
//! quotas of the system's own, which show as a full disk.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::refusal::Refusal;
use super::walk::{Found, Walk};
use crate::disk::{File, FileKind, Metadata};
use crate::jobs::pending::Pending;
use crate::service::{Cx, Id, Io, Waiter, work};
use crate::wire::safe_path::SafePath;
use crate::wire::upload::Code;

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
    /// What was promised to its user.
    of_user: Rc<Cell<u64>>,
}

/// What was promised to all files under way.
#[derive(Debug, Default)]
struct Promised {
    bytes: Cell<u64>,
    /// Of those, what the disk does not know of yet.
    unwritten: Cell<u64>,
}

impl Promise {
    fn new(bytes: u64, all: &Rc<Promised>, of_user: &Rc<Cell<u64>>) -> Self {
        of_user.set(of_user.get() + bytes);
        all.bytes.set(all.bytes.get() + bytes);
        all.unwritten.set(all.unwritten.get() + bytes);
        Self {
            bytes,
            unwritten: Cell::new(bytes),
            all: Rc::clone(all),
            of_user: Rc::clone(of_user),
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
        self.of_user.set(self.of_user.get() - self.bytes);
    }
}

/// How all files are limited.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoomLimits {
    /// Bytes that stay free on the disk.
    pub(super) reserved_bytes: u64,
    /// Bytes of all files together, those under way and half-received ones included.
    pub(super) total_bytes_max: Option<u64>,
    /// Bytes of all files in the folder of one user, those under way included.
    pub(super) user_bytes_max: Option<u64>,
}

/// A file that wants room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a SafePath,
    /// The folder that it goes to, empty for that of the listener.
    pub(super) at: &'a Path,
    pub(super) size_bytes: u64,
    /// Bytes of it that are there.
    pub(super) held_bytes: u64,
    /// Bytes of other half-received files that are there.
    pub(super) beside_bytes: u64,
}

/// Bytes of files by the folder of the listener's folder that they stand in, however deep; the empty
/// path for those in no other.
type ByFolder = HashMap<PathBuf, u64>;

/// What may still be stored.
pub(super) struct Room {
    limits: RoomLimits,
    promised: Rc<Promised>,
    /// What the disk had free when.
    free: Option<(u64, Instant)>,
    /// What was promised in each folder.
    promised_in: HashMap<PathBuf, Rc<Cell<u64>>>,
    /// Bytes of the files that are there, once they were counted.
    stored: Option<ByFolder>,
    count: Count,
    /// Sessions that wait for the first count.
    waiting: Vec<Id>,
}

/// How the count stands.
enum Count {
    /// It is to be made as soon as it can be.
    Wanted,
    /// So many bytes were found so far, and so many were stored meanwhile.
    UnderWay(Box<Counting>),
    /// It is made then.
    Resting { until: Instant },
}

/// A count that is under way.
struct Counting {
    walk: Option<Walk>,
    /// The folder that it is in.
    at: PathBuf,
    /// Folders that it has not been to, and the one that is being opened.
    folders: Vec<PathBuf>,
    opening: Option<(PathBuf, Pending<(File, Metadata)>)>,
    /// Device and inode of the folders below the same one of the listener's folder that it has been to.
    /// A symbolic link may lead to one of them again.
    seen: HashSet<(u64, u64)>,
    found: ByFolder,
    /// What was stored since it began.
    meanwhile: ByFolder,
}

impl Room {
    pub(super) fn new(limits: RoomLimits) -> Self {
        Self {
            limits,
            promised: Rc::default(),
            free: None,
            promised_in: HashMap::new(),
            stored: None,
            count: Count::Wanted,
            waiting: Vec::new(),
        }
    }

    /// Whether all files together are limited, or those of a user.
    pub(super) fn is_limited(&self) -> bool {
        self.limits.total_bytes_max.is_some() || self.limits.user_bytes_max.is_some()
    }

    /// Why a file would be too much, if it is limited how much there may be.
    fn is_too_much(&self, wanted: &Wanted<'_>) -> Option<Refusal> {
        let (stored, at) = (self.stored.as_ref()?, wanted.at);
        let promised = self
            .promised_in
            .get(at)
            .map_or(0, |promised| promised.get());
        let of_user = stored.get(at).map_or(0, |bytes| *bytes);
        let of_all = stored
            .values()
            .fold(wanted.beside_bytes, |all, bytes| all.saturating_add(*bytes));
        let all = (of_all, self.promised.bytes.get(), "all files together");
        let user = (of_user, promised, "your files together");
        let user_bytes_max = self.limits.user_bytes_max;
        let limits = [
            (self.limits.total_bytes_max, all),
            (user_bytes_max.filter(|_| !at.as_os_str().is_empty()), user),
        ];
        let (name, size_bytes) = (wanted.name, wanted.size_bytes);
        limits
            .into_iter()
            .find_map(|(most, (stored, promised, who))| {
                let left = most?.saturating_sub(stored).saturating_sub(promised);
                let text = format!("{name}: {size_bytes} bytes, and {who} may get {left} more");
                (size_bytes > left).then(|| Refusal::new(Code::Quota, text))
            })
    }

    /// Promises room for a file; asked again until it answers.
    pub(super) fn admit(
        &mut self,
        wanted: &Wanted<'_>,
        folder: &File,
        io: &mut Io<'_>,
    ) -> Poll<Result<Promise, Refusal>> {
        let (name, size_bytes) = (wanted.name, wanted.size_bytes);
        if self.is_limited() && self.stored.is_none() {
            if !self.waiting.contains(&io.id) {
                self.waiting.push(io.id);
            }
            io.at_turn_end();
            return Poll::Pending;
        }
        if let Some(refusal) = self.is_too_much(wanted) {
            return Poll::Ready(Err(refusal));
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
        let needed = size_bytes.saturating_sub(wanted.held_bytes);
        if needed > left {
            self.free = None; // there may be room for the next one
            let text = format!("{name}: {size_bytes} bytes, and the disk has room for {left}");
            return Poll::Ready(Err(Refusal::new(Code::NoSpace, text)));
        }
        let of_user = self.promised_in.entry(wanted.at.to_owned()).or_default();
        let promise = Promise::new(size_bytes, &self.promised, of_user);
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

    /// Files of so many bytes were stored in a folder, in the place of others of so many.
    pub(super) fn stored(&mut self, at: &Path, bytes: u64, replaced_bytes: u64) {
        if let Some((free_bytes, _)) = &mut self.free {
            *free_bytes = free_bytes.saturating_sub(bytes);
        }
        if let Some(stored) = &mut self.stored {
            let stored = stored.entry(at.to_owned()).or_default();
            *stored = stored.saturating_add(bytes).saturating_sub(replaced_bytes);
        }
        if let Count::UnderWay(counting) = &mut self.count {
            let stored = counting.meanwhile.entry(at.to_owned()).or_default();
            *stored = stored.saturating_add(bytes);
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
            Count::UnderWay(_) => false,
        };
        if is_due && !cx.draining {
            self.count = Count::UnderWay(Box::new(Counting {
                walk: Some(Walk::new(folder.clone())),
                at: PathBuf::new(),
                folders: Vec::new(),
                opening: None,
                seen: HashSet::new(),
                found: HashMap::new(),
                meanwhile: HashMap::new(),
            }));
        }
        let Count::UnderWay(counting) = &mut self.count else {
            return false;
        };
        let counted = match counting.count(folder, cx) {
            Counted::Later => return false,
            Counted::More => return true,
            Counted::All(counted) => Some(counted),
            Counted::Failed => None,
        };
        let after = match counted {
            Some(_) => RECOUNT_AFTER,
            None => RECOUNT_SOON,
        };
        self.count = Count::Resting {
            until: cx.now + after,
        };
        if counted.is_some() {
            self.stored = counted;
            self.promised_in.retain(|_, promised| promised.get() > 0);
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

/// How far a count came.
enum Counted {
    All(ByFolder),
    Later,
    More,
    Failed,
}

impl Counting {
    fn count(&mut self, root: &File, cx: &mut Cx<'_>) -> Counted {
        loop {
            if let Some((at, opening)) = self.opening.take() {
                match opening.take(cx.jobs) {
                    Err(opening) => {
                        self.opening = Some((at, opening));
                        return Counted::Later;
                    }
                    Ok(Ok((folder, metadata))) => {
                        if at.components().count() == 1 {
                            self.seen.clear();
                        }
                        let is_new = self.seen.insert(metadata.identity);
                        self.walk = is_new.then(|| Walk::new(folder));
                        self.at = at;
                    }
                    Ok(Err(_)) => {} // it is gone, or not ours to read
                }
            }
            let Some(walk) = &mut self.walk else {
                if cx.work.is_spent() {
                    return Counted::More;
                }
                let Some(path) = self.folders.pop() else {
                    return Counted::All(self.all());
                };
                cx.work.charge(work::LOOKUP_NS);
                let opening = cx.asker(Waiter::Service).open(root, &path);
                self.opening = Some((path, opening));
                continue;
            };
            match walk.next(cx) {
                Found::Entry(_, metadata) if metadata.kind == FileKind::Regular => {
                    let first = self.at.components().next();
                    let first = first
                        .map(|first| PathBuf::from(first.as_os_str()))
                        .unwrap_or_default();
                    let found = self.found.entry(first).or_default();
                    *found = found.saturating_add(metadata.len);
                }
                Found::Entry(name, metadata)
                    if metadata.kind == FileKind::Folder
                        && !name.as_os_str().as_encoded_bytes().starts_with(b".") =>
                {
                    self.folders.push(self.at.join(name));
                }
                Found::Entry(..) => {}
                Found::Later => return Counted::Later,
                Found::More => return Counted::More,
                Found::Failed(error) => {
                    log::error!("counting the files of an upload listener: {error}");
                    return Counted::Failed;
                }
                Found::End => self.walk = None,
            }
        }
    }

    /// What was found, and what came meanwhile: that may have been seen or not, and rather too much
    /// is counted than too little.
    fn all(&mut self) -> ByFolder {
        let mut all = std::mem::take(&mut self.found);
        for (at, bytes) in self.meanwhile.drain() {
            let stored = all.entry(at).or_default();
            *stored = stored.saturating_add(bytes);
        }
        all
    }
}
