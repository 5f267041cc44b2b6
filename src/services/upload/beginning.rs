//! A file between its header and its first byte: whether it may come, whether it is there already, and
//! the file that its bytes go to.
//!
//! ```text
//! Asking ──may come, has room──▶ Creating ──▶ (ReadingBack, if bytes of it are there) ──▶ its bytes come
//!   └──skip_same──▶ Comparing ──the same──▶ Securing ──▶ nothing comes
//! ```
//!
//! What fails for a moment is tried again from the start ([`super::store`], rule 4), and so is a file
//! that another connection has, for [`BUSY_WAIT`].

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::announced::{Announced, Partial};
use super::kept::Key;
use super::refusal::Refusal;
use super::resuming::ReadBack;
use super::room::Wanted;
use super::store::{BUSY_WAIT, PARTIAL, RETRY_AFTER, Store, exists, in_the_way, refused};
use crate::disk::FileKind;
use crate::jobs::{self, Command, Done, Finished, Query, Taken, TakenFile, Ticket};
use crate::service::{Cx, Io, Waiter};

/// A file that waits for the disk before its bytes can be taken.
pub(super) struct Beginning {
    pub(super) announced: Announced,
    key: Option<Key>,
    /// Its bytes are gathered in memory.
    is_small: bool,
    /// Since when the disk has been asked.
    since: Instant,
    making: Making,
    /// When it is tried again: there were no descriptors, or another connection has it.
    retry_at: Option<Instant>,
    /// There is no file that is the same.
    is_compared: bool,
    /// It was tried before: `since` stays, so that the tries come to an end.
    is_retry: bool,
}

/// How far a file is that is being made.
enum Making {
    /// Whether it may come.
    Asking,
    /// A file that has the name is read: it may be the same.
    Comparing(Box<ReadBack>),
    /// It is, and is made sure.
    Securing(Ticket),
    /// The partial file is being made, or taken.
    Creating { path: PathBuf, ticket: Ticket },
    /// What is there of it is being read.
    ReadingBack(Box<ReadBack>),
}

/// What a beginning comes to.
pub(super) enum Begun {
    /// The bytes are gathered in memory.
    Small(Announced),
    /// They go to a file that has so many already, with the digest of those, if there is to be one.
    Large(Partial, u64, Option<Sha256>),
    /// It is there already, and on the disk but perhaps for its name.
    Same(Announced),
}

impl Beginning {
    /// For a file of this key, if it is to be kept when it is broken off.
    pub(super) fn new(
        announced: Announced,
        key: Option<Key>,
        is_small: bool,
        now: Instant,
    ) -> Self {
        Self {
            announced,
            key,
            is_small,
            since: now,
            making: Making::Asking,
            retry_at: None,
            is_compared: false,
            is_retry: false,
        }
    }

    /// The digest of a file that need not come if it is there.
    fn skips(&self) -> Option<[u8; 32]> {
        self.announced.asks.filter(|asks| asks.skip_same)?.sha256
    }

    fn failed(&self, error: io::Error) -> Refusal {
        Refusal::disk(&self.announced.name, error)
    }
}

impl Store {
    /// When a file that waits for the disk must be looked at again, though nothing happened.
    pub(super) fn beginning_until(&self, beginning: &Beginning) -> Instant {
        beginning.retry_at.unwrap_or(self.until(beginning.since))
    }

    /// Makes a partial file for what was announced, or says why not; asked again until it answers.
    /// If it fails, nothing is left of it but what is kept. A small one needs none.
    pub(super) fn begin(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        if beginning.retry_at.is_some_and(|at| io.cx.now < at) {
            return Ok(Poll::Pending);
        }
        beginning.retry_at = None;
        let begun = self.begin_once(beginning, io);
        let Err(refusal) = &begun else {
            return begun;
        };
        let at = match &refusal.error {
            crate::ending::Error::Disk(_, error) if error.kind() == io::ErrorKind::WouldBlock => {
                let is_patient = io.cx.now < beginning.since + BUSY_WAIT.min(self.timeout);
                is_patient.then(|| io.cx.now + RETRY_AFTER)
            }
            crate::ending::Error::Disk(_, error) => {
                self.retry_at(error, beginning.since, &mut io.cx)
            }
            _ => None,
        };
        match at {
            Some(at) => {
                io.cx.jobs.settle(Waiter::Session(io.id)); // so that it looks anew
                beginning.announced.promise = None;
                beginning.retry_at = Some(at);
                beginning.is_retry = true;
                Ok(Poll::Pending)
            }
            None => begun,
        }
    }

    fn begin_once(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        if let Some(sha256) = beginning.skips()
            && !beginning.is_compared
        {
            return self.compare(beginning, &sha256, io);
        }
        if let Making::Asking = beginning.making {
            return self.let_in(beginning, io);
        }
        if let Making::Creating { ticket, .. } = &beginning.making {
            let Poll::Ready(created) = io.cx.jobs.take(ticket) else {
                return self.pending(beginning, io);
            };
            let made = std::mem::replace(&mut beginning.making, Making::Asking);
            let taken = match taken(created) {
                Ok(taken) => taken,
                // Whoever does not go on with it gets a file of their own.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && beginning.announced.asks.is_some_and(|asks| !asks.resume) =>
                {
                    beginning.key = None;
                    beginning.announced.promise = None;
                    return self.let_in(beginning, io);
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::StorageFull {
                        self.room.is_full();
                    }
                    return Err(beginning.failed(error));
                }
            };
            let Making::Creating { path, .. } = made else {
                return Ok(Poll::Pending); // Invariant: it was just looked at.
            };
            return Ok(self.created(beginning, path, taken, io));
        }
        self.read_back(beginning, io)
    }

    /// Looks whether the file is there already.
    fn compare(
        &mut self,
        beginning: &mut Beginning,
        sha256: &[u8; 32],
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        let waiter = Waiter::Session(io.id);
        let is_same = match &mut beginning.making {
            Making::Comparing(read_back) => {
                let Poll::Ready(digest) = read_back.poll(waiter, &mut io.cx) else {
                    beginning.since = read_back.since().unwrap_or(beginning.since);
                    return match io.cx.work.is_spent() {
                        true => Ok(Poll::Pending),
                        false => self.pending(beginning, io),
                    };
                };
                let digest = digest.map(|digest| <[u8; 32]>::from(digest.finalize()));
                digest.is_ok_and(|digest| digest == *sha256)
            }
            Making::Securing(ticket) => {
                let Poll::Ready(finished) = io.cx.jobs.take(ticket) else {
                    return self.pending(beginning, io);
                };
                beginning.making = Making::Asking;
                finished.result.map_err(|error| beginning.failed(error))?;
                return Ok(Poll::Ready(Begun::Same(beginning.announced.clone())));
            }
            Making::Asking | Making::Creating { .. } | Making::ReadingBack(_) => {
                return self.find_same(beginning, io);
            }
        };
        let making = std::mem::replace(&mut beginning.making, Making::Asking);
        beginning.since = io.cx.now;
        beginning.is_compared = !is_same;
        let Making::Comparing(read_back) = making else {
            return Ok(Poll::Pending); // Invariant: it was just looked at.
        };
        let (found, _) = read_back.give_up(&mut io.cx);
        if !is_same {
            return self.begin_once(beginning, io);
        }
        let sync = Query::Sync { file: found.file };
        let ticket = io.cx.jobs.start(waiter, sync, io.cx.now);
        let ticket = ticket.map_err(|came_back| beginning.failed(refused(came_back)))?;
        beginning.making = Making::Securing(ticket);
        Ok(Poll::Pending)
    }

    /// Opens the file that has the name, if it is as long.
    fn find_same(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        let announced = &beginning.announced;
        let path = announced.path_as(announced.name.name());
        let mut files = io.cx.files(Waiter::Session(io.id));
        let Poll::Ready(opened) = files.open(&self.folder, &path) else {
            return self.pending(beginning, io);
        };
        io.cx.jobs.settle(Waiter::Session(io.id));
        let size_bytes = announced.size_bytes;
        match opened {
            Ok((file, was)) if was.kind == FileKind::Regular && was.len == size_bytes => {
                let announced = announced.clone();
                let found = Partial {
                    announced,
                    path,
                    file,
                    key: None,
                };
                beginning.making = Making::Comparing(Box::new(ReadBack::new(found, size_bytes)));
            }
            _ => beginning.is_compared = true,
        }
        self.begin_once(beginning, io)
    }

    /// Looks whether the file may come, promises it room, and has its partial file made.
    fn let_in(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        let size_bytes = beginning.announced.size_bytes;
        let waiter = Waiter::Session(io.id);
        if self.is_taken(&beginning.announced, io)?.is_pending() {
            return self.pending(beginning, io);
        }
        let (beside_bytes, kept_bytes) = self.kept.bytes_beside(beginning.key);
        let announced = &beginning.announced;
        let wanted = Wanted {
            name: &announced.name,
            at: &announced.owner.folder,
            size_bytes,
            held_bytes: kept_bytes.min(size_bytes),
            beside_bytes,
        };
        let Poll::Ready(promise) = self.room.admit(&wanted, &self.folder, io) else {
            return self.pending(beginning, io);
        };
        io.cx.jobs.settle(waiter);
        beginning.announced.promise = Some(Rc::new(promise?));
        if beginning.is_small {
            return Ok(Poll::Ready(Begun::Small(beginning.announced.clone())));
        }
        let path = match beginning.key {
            Some(key) => Path::new(PARTIAL).join(key.file_name()),
            None => self.next_partial(),
        };
        let (root, at) = (self.folder.clone(), path.clone());
        let command = match beginning.announced.asks {
            None => Command::Create { root, path: at },
            Some(asks) => Command::Take {
                root,
                path: at,
                stays: asks.resume && beginning.key.is_some(),
                len: size_bytes,
            },
        };
        let started = io.cx.jobs.start(waiter, command, io.cx.now);
        let ticket = started.map_err(|came_back| beginning.failed(refused(came_back)))?;
        beginning.making = Making::Creating { path, ticket };
        if !beginning.is_retry {
            beginning.since = io.cx.now;
        }
        Ok(Poll::Pending)
    }

    /// The partial file is there.
    fn created(
        &mut self,
        beginning: &mut Beginning,
        path: PathBuf,
        taken: TakenFile,
        io: &mut Io<'_>,
    ) -> Poll<Begun> {
        let announced = beginning.announced.clone();
        if let Some(key) = beginning.key {
            self.kept.forget(key);
        }
        if taken.is_reserved
            && let Some(promise) = &announced.promise
        {
            self.room.reserved(promise);
        }
        let digest = announced.asks.map(|_| Sha256::default());
        let partial = Partial {
            announced,
            path,
            file: taken.file,
            key: beginning.key,
        };
        if taken.held_bytes == 0 {
            return Poll::Ready(Begun::Large(partial, 0, digest));
        }
        let mut read_back = Box::new(ReadBack::new(partial, taken.held_bytes));
        // Nothing can be there yet, but it is asked for.
        let _ = read_back.poll(Waiter::Session(io.id), &mut io.cx);
        beginning.making = Making::ReadingBack(read_back);
        beginning.since = io.cx.now;
        Poll::Pending
    }

    /// What is there is read. If that fails, it is worth nothing, and the file is begun anew.
    fn read_back(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        let waiter = Waiter::Session(io.id);
        let Making::ReadingBack(read_back) = &mut beginning.making else {
            return Ok(Poll::Pending); // Invariant: the caller looked at the others.
        };
        let Poll::Ready(digest) = read_back.poll(waiter, &mut io.cx) else {
            if let Some(since) = read_back.since() {
                beginning.since = since;
            }
            return match io.cx.work.is_spent() {
                true => Ok(Poll::Pending),
                false => self.pending(beginning, io),
            };
        };
        let making = std::mem::replace(&mut beginning.making, Making::Asking);
        let Making::ReadingBack(read_back) = making else {
            return Ok(Poll::Pending); // Invariant: as above.
        };
        let (partial, len) = read_back.give_up(&mut io.cx);
        match digest {
            Ok(digest) => Ok(Poll::Ready(Begun::Large(partial, len, Some(digest)))),
            // Whoever wants its name waits for its lock, so it is removed before it is made anew.
            Err(error) => {
                log::warn!("{}: begun anew: {error}", partial.announced.name);
                self.discard(partial, &mut io.cx);
                beginning.announced.promise = None;
                beginning.retry_at = Some(io.cx.now + RETRY_AFTER);
                beginning.is_retry = true;
                Ok(Poll::Pending)
            }
        }
    }

    /// Whether the name is taken and may not be, or something is in the way of its folder: then it
    /// fails. Looked at before the client sends for nothing; who gives the name looks again.
    fn is_taken(&self, announced: &Announced, io: &mut Io<'_>) -> Result<Poll<()>, Refusal> {
        let name = &announced.name;
        let mut files = io.cx.files(Waiter::Session(io.id));
        if !name.folder().as_os_str().is_empty() {
            let Poll::Ready(looked) = files.look(&self.folder, &announced.folder()) else {
                return Ok(Poll::Pending);
            };
            let is_folder = match looked {
                Ok(found) => found.kind == FileKind::Folder,
                // A link that leads out of the listener's folder is none of its folders.
                Err(error) => !matches!(
                    error.kind(),
                    io::ErrorKind::NotADirectory | io::ErrorKind::CrossesDevices
                ),
            };
            if !is_folder {
                return Err(in_the_way(name));
            }
        }
        if self.taken != Taken::Refuse {
            return Ok(Poll::Ready(()));
        }
        let path = announced.path_as(name.name());
        let Poll::Ready(looked) = files.look(&self.folder, &path) else {
            return Ok(Poll::Pending);
        };
        let is_taken = jobs::is_taken(looked).map_err(|error| Refusal::disk(name, error))?;
        match is_taken {
            true => Err(exists(name)),
            false => Ok(Poll::Ready(())),
        }
    }

    /// The disk has its time.
    fn pending<T>(&self, beginning: &Beginning, io: &Io<'_>) -> Result<Poll<T>, Refusal> {
        self.in_time(&beginning.announced.name, beginning.since, io.cx.now)?;
        Ok(Poll::Pending)
    }

    /// The session has ended before the bytes of a file could come. A file that is being made is
    /// removed by [`crate::jobs`]; so this is for one that was made and not taken, or is read back.
    pub(super) fn give_up(&mut self, beginning: Beginning, cx: &mut Cx<'_>) {
        let Beginning {
            announced,
            key,
            making,
            ..
        } = beginning;
        match making {
            Making::Asking | Making::Securing(_) => {}
            Making::Comparing(read_back) => _ = read_back.give_up(cx), // it stays as it is
            Making::Creating { path, ticket } => {
                if let Poll::Ready(created) = cx.jobs.take(&ticket)
                    && let Ok(taken) = taken(created)
                {
                    let partial = Partial {
                        announced,
                        path,
                        file: taken.file,
                        key,
                    };
                    self.leave(partial, taken.held_bytes, cx);
                }
            }
            Making::ReadingBack(read_back) => {
                let (partial, len) = read_back.give_up(cx);
                self.leave(partial, len, cx);
            }
        }
    }
}

/// A file that was made, or taken.
fn taken(created: Finished) -> io::Result<TakenFile> {
    match created.result? {
        Done::File(file, _) => Ok(TakenFile {
            file,
            held_bytes: 0,
            is_reserved: false,
        }),
        done => done.into_taken(),
    }
}
