//! Files of one connection whose client asked for answers: that it is ready for, and what became of
//! each from its last byte on.
//!
//! ```text
//! Whole ──a job: bytes on the disk, then the name──▶ Named ──the folder's names on the disk──▶ Answered ──sent, in order──▶ gone
//!   └────────────────────────── refused ─────────────────────────────────────────────────────────▲
//! ```
//!
//! The rules:
//! 1. While one job stores, the next files come and gather; the next job stores all of them (group
//!    commit). So a connection has one such job at a time, and names are given in the order of the
//!    files.
//! 2. Names are made sure by a sync of their folder, and of those on the way to it, that was asked for
//!    after they were given. All connections that wait for one that has not begun share it
//!    ([`crate::jobs::Query::SyncNames`]).
//! 3. Answers are sent in the order of the files, all to one before the first to the next, each when
//!    there is room for it. So they are the same however the disk and the network take their time.
//! 4. A file that is not stored is told so, and those behind it are stored all the same.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Instant;

use super::announced::Announced;
use super::refusal::Refusal;
use super::store::Store;
use super::storing::Storing;
use super::told::Told;
use crate::ending::Error;
use crate::jobs::{NewContents, NewFile, Ticket};
use crate::service::{Cx, Io, Peer, Waiter};
use crate::wire::frame;
use crate::wire::safe_path::PATH_BYTES_MAX;
use crate::wire::upload::{Answer, SafeName};

/// Bytes of the longest answer but for a refusal's text: a path whose every byte is escaped, a
/// digest and two numbers.
const ANSWER_BYTES_MAX: usize = 6 * PATH_BYTES_MAX + 512;

/// The files of one connection that are not answered yet.
#[derive(Default)]
pub(super) struct Answers {
    /// The client is to be told from where on the bytes of the file are wanted that comes behind
    /// these.
    ready: Option<u64>,
    files: VecDeque<Unanswered>,
    storing: Option<Box<Storing>>,
    syncs: VecDeque<Syncing>,
    /// Syncs so far: the number of the next one.
    syncs_asked: u64,
}

/// A file that came whole.
struct Unanswered {
    /// So it is for this one.
    ready: Option<u64>,
    announced: Announced,
    sha256: [u8; 32],
    /// It came now, and was not there before.
    is_new: bool,
    stage: Stage,
}

enum Stage {
    /// It is to be stored.
    Whole(Box<NewFile>),
    /// It is being stored.
    Storing,
    /// It has a name, which a sync of this number makes sure.
    Named { name: SafeName, sync: u64 },
    /// It is to be told of.
    Answered(Box<Result<SafeName, Refusal>>),
}

/// A sync of a folder.
struct Syncing {
    number: u64,
    ticket: Ticket,
    since: Instant,
}

impl Answers {
    /// Whether everything is told.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.ready.is_none()
    }

    /// Whether the client does not know yet that the next file may come.
    pub(super) fn holds_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// The next file may come, from this byte on.
    pub(super) fn is_ready(&mut self, offset: u64) {
        self.ready = Some(offset);
    }

    /// Files that are not.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Bytes of files that are held in memory.
    pub(super) fn bytes_held(&self) -> usize {
        let bytes = |file: &Unanswered| match &file.stage {
            Stage::Whole(new) => match &new.contents {
                NewContents::Bytes(bytes) => bytes.len(),
                _ => 0,
            },
            _ => 0,
        };
        self.files.iter().map(bytes).sum()
    }

    /// A file came whole, and is to be stored.
    pub(super) fn stores(&mut self, announced: Announced, sha256: [u8; 32], new: NewFile) {
        let stage = Stage::Whole(Box::new(new));
        let ready = self.ready.take();
        self.files.push_back(Unanswered {
            ready,
            announced,
            sha256,
            is_new: true,
            stage,
        });
    }

    /// A file came whole, and is not stored.
    pub(super) fn refuses(&mut self, announced: Announced, refusal: Refusal) {
        let stage = Stage::Answered(Box::new(Err(refusal)));
        let ready = self.ready.take();
        self.files.push_back(Unanswered {
            ready,
            announced,
            sha256: [0; 32],
            is_new: true,
            stage,
        });
    }

    /// A file is there already; its name is made sure.
    pub(super) fn is_same(
        &mut self,
        announced: Announced,
        store: &Store,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refusal> {
        let asked = store.sync(announced.folder(), waiter, cx);
        let ticket = asked.map_err(|error| Refusal::disk(&announced.name, error))?;
        let sha256 = announced.asks.and_then(|asks| asks.sha256);
        let (name, sync) = (announced.name.name().clone(), self.await_sync(ticket, cx));
        self.files.push_back(Unanswered {
            ready: None,
            announced,
            sha256: sha256.unwrap_or_default(),
            is_new: false,
            stage: Stage::Named { name, sync },
        });
        Ok(())
    }

    /// The number of a sync that was asked for.
    fn await_sync(&mut self, ticket: Ticket, cx: &Cx<'_>) -> u64 {
        let number = self.syncs_asked;
        self.syncs_asked += 1;
        self.syncs.push_back(Syncing {
            number,
            ticket,
            since: cx.now,
        });
        number
    }

    /// Hears of what is being stored and of what is made sure.
    pub(super) fn hear(&mut self, store: &mut Store, waiter: Waiter, cx: &mut Cx<'_>) {
        while let Some(storing) = &mut self.storing {
            if let Err(refusal) = store.retry(storing, waiter, cx) {
                self.storing = None;
                self.were_not_stored(&refusal);
                break;
            }
            let Poll::Ready(outcome) = store.stored(storing, cx) else {
                break;
            };
            let told = outcome.names.len() + usize::from(outcome.failed.is_some());
            storing.files.drain(..told);
            if outcome.is_over {
                self.storing = None;
            }
            if !outcome.names.is_empty() {
                self.were_named(outcome.names, store, waiter, cx);
            }
            match outcome.failed {
                Some(refusal) if outcome.is_over => self.were_not_stored(&refusal),
                Some(refusal) => {
                    if let Some(file) = self.being_stored().next() {
                        file.stage = Stage::Answered(Box::new(Err(refusal)));
                    }
                }
                None => {}
            }
        }
        self.hear_of_syncs(cx);
    }

    fn being_stored(&mut self) -> impl Iterator<Item = &mut Unanswered> {
        let files = self.files.iter_mut();
        files.filter(|file| matches!(file.stage, Stage::Storing))
    }

    /// What was to be stored was not.
    fn were_not_stored(&mut self, refusal: &Refusal) {
        let error = |refusal: &Refusal| match &refusal.error {
            Error::Disk(name, error) => Error::Disk(name.clone(), crate::jobs::copied(error)),
            Error::Refused(text) => Error::Refused(text.clone()),
            error => Error::Refused(error.to_string()),
        };
        for file in self.being_stored() {
            let (code, error) = (refusal.code, error(refusal));
            file.stage = Stage::Answered(Box::new(Err(Refusal { code, error })));
        }
    }

    /// The next files have their names; they are made sure.
    fn were_named(&mut self, names: Vec<SafeName>, store: &Store, waiter: Waiter, cx: &mut Cx<'_>) {
        let named = self.being_stored().take(names.len());
        let folders: Vec<PathBuf> = named.map(|file| file.announced.folder()).collect();
        let mut syncs: BTreeMap<&Path, io::Result<u64>> = BTreeMap::new();
        for folder in &folders {
            if !syncs.contains_key(&**folder) {
                let asked = store.sync(folder.clone(), waiter, cx);
                let sync = asked.map(|ticket| self.await_sync(ticket, cx));
                syncs.insert(folder, sync);
            }
        }
        for ((file, name), folder) in self.being_stored().zip(names).zip(&folders) {
            file.stage = match &syncs[&**folder] {
                Ok(sync) => Stage::Named { name, sync: *sync },
                Err(error) => {
                    let error = crate::jobs::copied(error);
                    let refusal = Refusal::disk(&file.announced.name, error);
                    Stage::Answered(Box::new(Err(refusal)))
                }
            };
        }
    }

    fn hear_of_syncs(&mut self, cx: &mut Cx<'_>) {
        let files = &mut self.files;
        self.syncs.retain(|syncing| {
            let Poll::Ready(finished) = cx.jobs.take(&syncing.ticket) else {
                return true;
            };
            for file in &mut *files {
                let Stage::Named { name, sync } = &mut file.stage else {
                    continue;
                };
                if *sync != syncing.number {
                    continue;
                }
                let name = name.clone();
                file.stage = Stage::Answered(Box::new(match &finished.result {
                    Ok(_) => Ok(name),
                    Err(error) => {
                        let error = crate::jobs::copied(error);
                        Err(Refusal::disk(&file.announced.name, error))
                    }
                }));
            }
            false
        });
    }

    /// Has what gathered stored, at most `files_max` files, unless others are being stored.
    pub(super) fn start(&mut self, store: &mut Store, files_max: usize, io: &mut Io<'_>) {
        if self.storing.is_some() {
            return;
        }
        let (mut files, mut new) = (Vec::new(), Vec::new());
        for file in &mut self.files {
            if files.len() >= files_max {
                break;
            }
            if !matches!(file.stage, Stage::Whole(_)) {
                continue;
            }
            if let Stage::Whole(whole) = std::mem::replace(&mut file.stage, Stage::Storing) {
                files.push(file.announced.clone());
                new.push(*whole);
            }
        }
        if files.is_empty() {
            return;
        }
        match store.start(files, new, true, Waiter::Session(io.id), &mut io.cx) {
            Ok(storing) => self.storing = Some(Box::new(storing)),
            Err(refusal) => self.were_not_stored(&refusal),
        }
    }

    /// Whether there is something to tell, and room for it.
    pub(super) fn may_send(&self, io: &mut Io<'_>) -> bool {
        let is_known = match self.files.front() {
            Some(file) => file.ready.is_some() || matches!(file.stage, Stage::Answered(_)),
            None => self.ready.is_some(),
        };
        is_known && io.down.tx.has_room(ANSWER_BYTES_MAX)
    }

    /// Tells what is known, in order; whether there was anything.
    pub(super) fn send(&mut self, told: &Told, peer: &Peer, io: &mut Io<'_>) -> bool {
        let mut any = false;
        while self.may_send(io) {
            any = true;
            let ready = match self.files.front_mut() {
                Some(file) => file.ready.take(),
                None => self.ready.take(),
            };
            if let Some(offset) = ready {
                put(&Answer::Ready { offset }, io);
                continue;
            }
            let Some(file) = self.files.pop_front() else {
                break;
            };
            let Stage::Answered(result) = file.stage else {
                break; // Invariant: `may_send` looked at it.
            };
            let answer = match *result {
                Ok(name) => {
                    if file.is_new {
                        told.stored(&file.announced, &name, Some(&file.sha256), &mut io.cx);
                    }
                    let filename = file.announced.name.with_name(name).to_string();
                    if !file.is_new {
                        log::info!("upload {peer}: {filename} is here already");
                    }
                    Answer::Stored {
                        filename,
                        size_bytes: file.announced.size_bytes,
                        sha256: file.sha256,
                    }
                }
                Err(refusal) => {
                    was_refused(&refusal, peer, &mut io.cx);
                    match refusal.answer() {
                        Some(answer) => answer,
                        None => continue,
                    }
                }
            };
            put(&answer, io);
        }
        any
    }

    /// Until when the disk has time for what it was asked.
    pub(super) fn until(&self, store: &Store) -> Option<Instant> {
        let storing = self.storing.as_ref();
        let storing = storing.map(|storing| store.storing_until(storing));
        let syncing = self.syncs.front().map(|sync| store.until(sync.since));
        storing.into_iter().chain(syncing).min()
    }

    /// Why the first file that is not answered will not be, if the disk takes too long.
    pub(super) fn is_late(&self, store: &Store, now: Instant) -> Option<Refusal> {
        let storing = self.storing.as_ref().map(|storing| storing.since);
        let syncing = self.syncs.front().map(|sync| sync.since);
        let since = storing.into_iter().chain(syncing).min()?;
        let open = |file: &&Unanswered| !matches!(file.stage, Stage::Answered(_));
        let file = self.files.iter().find(open)?;
        store.in_time(&file.announced.name, since, now).err()
    }

    /// What is known is told, and the rest is not waited for. Files of which nobody will be told are
    /// stored all the same.
    pub(super) fn cut(
        &mut self,
        store: &mut Store,
        told: &Told,
        peer: &Peer,
        cx: &mut Cx<'_>,
    ) -> Left {
        let answered = |file: &Unanswered| matches!(file.stage, Stage::Answered(_));
        let known = self.files.iter().take_while(|file| answered(file)).count();
        let rest = self.files.split_off(known);
        self.ready = None;
        for syncing in self.syncs.drain(..) {
            cx.jobs.cancel(syncing.ticket);
        }
        let mut left = Left::new();
        if let Some(mut storing) = self.storing.take() {
            match store.hand_over(&mut storing, cx) {
                Ok(()) => left.push(storing),
                Err(refusal) => log::error!("upload {peer}: {}", refusal.error),
            }
        }
        let (mut files, mut new) = (Vec::new(), Vec::new());
        for file in rest {
            match file.stage {
                Stage::Whole(whole) => {
                    files.push(file.announced);
                    new.push(*whole);
                }
                Stage::Named { name, .. } if file.is_new => {
                    told.stored(&file.announced, &name, Some(&file.sha256), cx);
                }
                Stage::Named { .. } | Stage::Storing | Stage::Answered(_) => {}
            }
        }
        if !files.is_empty() {
            match store.start(files, new, true, Waiter::Service, cx) {
                Ok(storing) => left.push(Box::new(storing)),
                Err(refusal) => log::error!("upload {peer}: {}", refusal.error),
            }
        }
        left
    }
}

/// Files whose sessions do not wait for them any more.
pub(super) type Left = Vec<Box<Storing>>;

/// Sends an answer; there has to be room for it.
pub(super) fn put(answer: &Answer, io: &mut Io<'_>) {
    let mut bytes = Vec::new();
    // Invariant: an answer holds a name or a sentence, far less than a frame's two gibibytes.
    frame::encode(&answer.to_json(), &mut bytes).expect("an answer fits into a frame");
    io.down.tx.put(&bytes, io.cx.pool);
}

/// A file was refused, and its client is told.
pub(super) fn was_refused(refusal: &Refusal, peer: &Peer, cx: &mut Cx<'_>) {
    let Some(code) = refusal.code else {
        return;
    };
    cx.counted.file_refused(code);
    let level = match refusal.error {
        Error::Disk(..) => log::Level::Error,
        _ => log::Level::Info,
    };
    log::log!(level, "upload {peer}: {}: {}", code.word(), refusal.error);
}
