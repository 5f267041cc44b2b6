//! The folder of a store: the secret that names are hashed with, the objects below it, and how they
//! are found again after a start.
//!
//! ```text
//! secret      16 random bytes in hexadecimal digits; its lock is held as long as the process lives
//! tmp/        what is being written; cleared at the start
//! bans        what is not to be used any more and may be there still, as `purging` says
//! 00/ … ff/   objects, named as `object` says
//! ```
//!
//! The 256 folders are read by jobs, some at a time, one that a request asks for before the others.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, ready};

use super::Hands;
use super::fetch::Object;
use super::index::{Entry, Key};
use super::kept::{Body, Kept, Shown, parse_head};
use super::key::SECRET_BYTES;
use super::object::{self, Decoded, Header, Name, Temporary};
use super::writing::Writing;
use crate::disk::{Disk, File, open_or_make};
use crate::http::Status;
use crate::http::caching::partial::Part;
use crate::http::caching::{RuleBook, Terms, Times};
use crate::jobs::{Asking, Command, Query, Ticket};
use crate::waiter::{Id, Waiter};

const SECRET: &str = "secret";
const TEMPORARY: &str = "tmp";
const FOLDERS: usize = 256;

/// A longer body is sent from its file: the kernel then copies nothing (64 KiB at a time take a fifth
/// less processor time than from memory).
pub(super) const SENT_FROM_MEMORY_MAX: usize = 16 * 1024;

/// Folders that are read at once after a start.
const READ_AT_ONCE: usize = 4;

/// What is read of a large object: most headers fit.
const HEADER_READ_BYTES: usize = 4096;

/// The folder of a store.
pub(super) struct Folder {
    root: File,
    /// Held for its lock.
    _temporary: File,
    /// Temporary files so far.
    temporaries: u64,
    boot: u128,
    /// Folders that are to be read, the next one first.
    unread: VecDeque<u8>,
    is_read: [bool; FOLDERS],
    reading: Vec<Reading>,
    /// Sessions that wait for a folder.
    waiting: BTreeSet<(u8, Id)>,
    /// Keys of folders that were not read yet, of which nothing is good any more that is found
    /// there.
    invalidated: Vec<Key>,
    /// Objects whose files are to be removed once the disk takes that.
    doomed: VecDeque<Name>,
    /// The removal whose end tells that the disk may take more.
    removing: Option<Ticket>,
    /// What is told of it.
    waiter: Waiter,
}

/// A folder that is being read.
struct Reading {
    folder: u8,
    opened: Option<File>,
    ticket: Ticket,
}

impl Folder {
    /// Opens a folder, and makes it if it is not there; with its secret. Waits for the disk, so it
    /// is for the start.
    ///
    /// # Errors
    /// Those of the calls, and [`io::ErrorKind::ResourceBusy`] where another process uses it.
    pub(super) fn open(
        dir: &Path,
        (boot, waiter): (u128, Waiter),
        disk: &mut dyn Disk,
    ) -> io::Result<(Self, [u8; SECRET_BYTES])> {
        let root = open_or_make(dir, disk)?;
        disk.create_folder(&root, Path::new(TEMPORARY))?;
        let temporary = disk.open(&root, Path::new(TEMPORARY))?;
        if !disk.lock_alone(&temporary)? {
            let text = "another process keeps its responses there";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        for entry in disk.entries(&temporary)? {
            if Temporary::is_name(entry.name.as_os_str().as_encoded_bytes()) {
                disk.remove(&temporary, &entry.name)?;
            }
        }
        for folder in object::folders() {
            disk.create_folder(&root, Path::new(&folder))?;
        }
        let secret = secret(&root, disk)?;
        let folder = Self {
            root,
            _temporary: temporary,
            temporaries: 0,
            boot,
            unread: (0..=u8::MAX).collect(),
            is_read: [false; FOLDERS],
            reading: Vec::new(),
            waiting: BTreeSet::new(),
            invalidated: Vec::new(),
            doomed: VecDeque::new(),
            removing: None,
            waiter,
        };
        Ok((folder, secret))
    }

    fn next_temporary(&mut self) -> PathBuf {
        self.temporaries += 1;
        Path::new(TEMPORARY).join(Temporary(self.temporaries).to_string())
    }

    /// A file for an object, of which the header is known to have room; `None` if it is too large.
    pub(super) fn writing(&mut self, text: &[u8], object: &Object) -> Option<Writing> {
        let header = object.header(text, self.boot, object::Body::Unfinished);
        let mut encoded = Vec::new();
        let room = object::Room::New { is_sent: true };
        header.encode(&mut encoded, room).ok()?;
        let fits = encoded.len() <= crate::buffer::PAGE_BYTES;
        let root = self.root.clone();
        fits.then(|| Writing::new(root, self.next_temporary(), encoded.len() as u64))
    }

    /// The job that writes an object at once, after which its file stays open or not.
    pub(super) fn put(&mut self, name: &Entry, bytes: Vec<u8>, stays_open: bool) -> Command {
        Command::Put {
            root: self.root.clone(),
            temporary: self.next_temporary(),
            path: path_of(name),
            bytes: bytes.into(),
            stays_open,
        }
    }

    /// Writes another header in the place of that of a large object, if it has room there. One that
    /// cannot be written is read as it was.
    pub(super) fn rewrite(&mut self, name: &Entry, header: &Header<'_>, hands: &mut Hands<'_>) {
        let mut encoded = Vec::new();
        let bytes = match header.body {
            object::Body::Whole { bytes, .. } => name.bytes.saturating_sub(bytes),
            object::Body::Unfinished => return,
        };
        let room = object::Room::Same(bytes as usize);
        if header.encode(&mut encoded, room).is_err() {
            return;
        }
        let rewrite = Command::Rewrite {
            root: self.root.clone(),
            path: path_of(name),
            bytes: encoded.into(),
        };
        if hands.jobs.leave(rewrite, hands.now).is_err() {
            log::debug!("{} keeps its header: the disk is busy", Name::from(*name));
        }
    }

    /// The job that removes the file of an object.
    pub(super) fn removal(&self, name: &Entry) -> Command {
        Command::Remove {
            root: self.root.clone(),
            path: path_of(name),
        }
    }

    /// The job that writes a file that is no object.
    pub(super) fn put_file(&mut self, path: &'static str, bytes: Vec<u8>) -> Command {
        Command::Put {
            root: self.root.clone(),
            temporary: self.next_temporary(),
            path: path.into(),
            bytes: bytes.into(),
            stays_open: false,
        }
    }

    /// What such a file has, at most so many bytes; `None` if there is none, and nothing if it cannot
    /// be read. Waits for the disk, so it is for the start.
    pub(super) fn read_file(
        &self,
        path: &'static str,
        bytes_max: usize,
        disk: &mut dyn Disk,
    ) -> Option<Vec<u8>> {
        let opened = disk.open(&self.root, Path::new(path));
        if matches!(&opened, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return None;
        }
        let mut bytes = vec![0; bytes_max];
        let count = opened.and_then(|file| disk.read_full(&file, 0, &mut bytes));
        bytes.truncate(count.unwrap_or(0));
        Some(bytes)
    }

    /// Removes the file of an object, as soon as the disk takes that.
    pub(super) fn remove(&mut self, name: &Entry, hands: &mut Hands<'_>) {
        self.doomed.push_back(Name::from(*name));
        self.remove_doomed(hands);
    }

    /// Goes on with the files that are to be removed.
    pub(super) fn remove_doomed(&mut self, hands: &mut Hands<'_>) {
        let is_done = |ticket: &mut Ticket| hands.jobs.take(ticket).is_ready();
        self.removing.take_if(is_done);
        while let Some(name) = self.doomed.pop_front() {
            let remove = Command::Remove {
                root: self.root.clone(),
                path: PathBuf::from(name.to_string()),
            };
            let taken = match self.removing.is_none() {
                true => {
                    let ticket = hands.jobs.start(self.waiter, remove, hands.now);
                    ticket.map(|ticket| self.removing = Some(ticket))
                }
                false => hands.jobs.leave(remove, hands.now),
            };
            if taken.is_err() {
                return self.doomed.push_front(name); // it has too much to do
            }
        }
    }

    /// What stands on disk under a key is not good any more, as far as it is not known yet.
    pub(super) fn invalidate(&mut self, key: Key) {
        if !self.is_read[folder_of(key) as usize] && !self.invalidated.contains(&key) {
            self.invalidated.push(key);
        }
    }

    /// Whether what is found under a key, and was not known, is not good any more.
    pub(super) fn is_invalidated(&self, key: Key) -> bool {
        self.invalidated.contains(&key)
    }

    /// All that was found has been looked at.
    pub(super) fn forget_invalidated(&mut self) {
        let is_read = &self.is_read;
        self.invalidated
            .retain(|key| !is_read[folder_of(*key) as usize]);
    }

    /// Reads an object. One of at most `small_bytes_max` bytes is in memory then. Whether it is from
    /// before the last start of the system: then its checksum was looked at.
    pub(super) fn load(
        &self,
        name: &Entry,
        (small_bytes_max, rules): (usize, &RuleBook),
        files: &mut Asking<'_, Waiter>,
    ) -> Poll<io::Result<(Kept, bool)>> {
        let (file, metadata) = ready!(files.open(&self.root, &path_of(name)))?;
        if metadata.len != name.bytes {
            return Poll::Ready(Err(torn("its length is another")));
        }
        let whole = usize::try_from(metadata.len).unwrap_or(usize::MAX);
        let mut wanted = match whole <= SENT_FROM_MEMORY_MAX.min(small_bytes_max) {
            true => whole,
            false => HEADER_READ_BYTES,
        };
        loop {
            let bytes = ready!(files.read((&file, &metadata), 0, wanted))?;
            match Header::decode(&bytes) {
                Decoded::NeedMore(more) if more > wanted && more <= whole => wanted = more,
                Decoded::NeedMore(_) => return Poll::Ready(Err(torn("it ends in its header"))),
                Decoded::Bad(why) => return Poll::Ready(Err(torn(why))),
                Decoded::Header(header, at) => {
                    let body = match wanted == whole {
                        true => Body::Bytes(bytes[at..].into()),
                        false => Body::File(file, at as u64),
                    };
                    let is_doubtful = header.boot != self.boot && wanted < whole;
                    let checksum = match (is_doubtful, &body) {
                        (true, Body::File(..)) => {
                            let path = path_of(name);
                            Some(ready!(files.checksum(&self.root, &path, at as u64))?)
                        }
                        _ => None,
                    };
                    let body = (body, (whole - at) as u64, checksum);
                    let kept = self.kept(name.key, &header, body, rules);
                    return Poll::Ready(kept.map(|kept| (kept, is_doubtful)));
                }
            }
        }
    }

    fn kept(
        &self,
        key: Key,
        header: &Header<'_>,
        (body, body_bytes, checksum): (Body, u64, Option<u64>),
        rules: &RuleBook,
    ) -> io::Result<Kept> {
        let object::Body::Whole { bytes, crc32 } = header.body else {
            return Err(torn("it was not finished"));
        };
        let is_sound = match &body {
            Body::Bytes(bytes) => crc32fast::hash(bytes) == crc32,
            // The same system that was told to write it still has it.
            Body::File(..) => checksum.is_none_or(|checksum| checksum == u64::from(crc32)),
        };
        if bytes != body_bytes || !is_sound {
            return Err(torn("its body is not what was written"));
        }
        let times = Times {
            request_s: (header.requested_ms / 1000) as i64,
            response_s: (header.responded_ms / 1000) as i64,
        };
        let head = parse_head(header.head).ok_or_else(|| torn("its head is none"))?;
        let part = Part::of_stored(&head);
        let is_part = head.status == Status::PARTIAL_CONTENT;
        if is_part != part.is_some_and(|part| part.range.len() == body_bytes) {
            return Err(torn("its body is not the part that its head says"));
        }
        Ok(Kept {
            key,
            text: (*header.key).into(),
            selecting: (*header.selecting).into(),
            status: head.status,
            head: Rc::from(header.head),
            shown: Shown::of(header.head),
            terms: Terms::derive(&head, times, rules.of(&header.key)),
            times,
            body,
            body_bytes,
            part,
            crc32,
        })
    }

    /// Whether all objects of a key's folder are known. If not, it is read next, and the session is
    /// woken then.
    pub(super) fn is_read(&mut self, key: Key, waiter: Id) -> bool {
        let folder = folder_of(key);
        if self.is_read[folder as usize] {
            return true;
        }
        self.waiting.insert((folder, waiter));
        if let Some(place) = self.unread.iter().position(|unread| *unread == folder) {
            self.unread.remove(place);
            self.unread.push_front(folder);
        }
        false
    }

    /// Goes on with reading the folders; the objects that were found.
    pub(super) fn scan(&mut self, waiter: Waiter, hands: &mut Hands<'_>) -> Vec<Entry> {
        let mut found = Vec::new();
        for reading in std::mem::take(&mut self.reading) {
            match self.go_on(reading, waiter, &mut found, hands) {
                Ok(Some(reading)) => self.reading.push(reading),
                Ok(None) => {}
                Err((folder, error)) if error.kind() == io::ErrorKind::ResourceBusy => {
                    self.unread.push_front(folder); // the disk has too much to do
                }
                Err((folder, error)) => {
                    log::warn!("{folder:02x}/ of the cache cannot be read: {error}");
                    self.now_read(folder, hands);
                }
            }
        }
        while self.reading.len() < READ_AT_ONCE
            && let Some(folder) = self.unread.pop_front()
        {
            let (root, path) = (self.root.clone(), PathBuf::from(format!("{folder:02x}")));
            match hands
                .jobs
                .start(waiter, Query::Open { root, path }, hands.now)
            {
                Ok(ticket) => self.reading.push(Reading {
                    folder,
                    opened: None,
                    ticket,
                }),
                Err(_) => {
                    self.unread.push_front(folder);
                    break;
                }
            }
        }
        found
    }

    /// A step of reading a folder; `None` at its end.
    fn go_on(
        &mut self,
        reading: Reading,
        waiter: Waiter,
        found: &mut Vec<Entry>,
        hands: &mut Hands<'_>,
    ) -> Result<Option<Reading>, (u8, io::Error)> {
        let folder = reading.folder;
        let Poll::Ready(finished) = hands.jobs.take(&reading.ticket) else {
            return Ok(Some(reading));
        };
        let failed = |error| (folder, error);
        let done = finished.result.map_err(failed)?;
        let (opened, from) = match reading.opened {
            None => (done.into_file().map_err(failed)?.0, Some(0)),
            Some(opened) => {
                let (names, next) = done.into_names().map_err(failed)?;
                let folder = format!("{folder:02x}");
                let parse = |path: &PathBuf| {
                    Name::parse(folder.as_bytes(), path.as_os_str().as_encoded_bytes())
                };
                found.extend(names.iter().filter_map(parse).map(Entry::from));
                (opened, next)
            }
        };
        let Some(from) = from else {
            self.now_read(folder, hands);
            return Ok(None);
        };
        let names = Query::Names {
            folder: opened.clone(),
            from,
        };
        match hands.jobs.start(waiter, names, hands.now) {
            Ok(ticket) => Ok(Some(Reading {
                folder,
                opened: Some(opened),
                ticket,
            })),
            Err(refused) => {
                let busy = io::ErrorKind::ResourceBusy.into();
                Err((folder, refused.result.err().unwrap_or(busy)))
            }
        }
    }

    fn now_read(&mut self, folder: u8, hands: &mut Hands<'_>) {
        self.is_read[folder as usize] = true;
        self.waiting.retain(|(of, id)| {
            let is_woken = *of == folder;
            hands.woken.extend(is_woken.then_some(*id));
            !is_woken
        });
    }

    /// Nothing is waited for any more.
    pub(super) fn close(&mut self, hands: &mut Hands<'_>) {
        self.unread.clear();
        let reading = self.reading.drain(..).map(|reading| reading.ticket);
        for ticket in reading.chain(self.removing.take()) {
            hands.jobs.cancel(ticket);
        }
    }

    /// Whether all folders were read.
    pub(super) fn is_all_read(&self) -> bool {
        self.unread.is_empty() && self.reading.is_empty()
    }
}

/// Which of the folders a key's objects stand in.
fn folder_of(key: Key) -> u8 {
    (key.0 >> 120) as u8
}

/// The path of an object's file.
fn path_of(name: &Entry) -> PathBuf {
    PathBuf::from(Name::from(*name).to_string())
}

/// The secret of a folder, made when it is new.
fn secret(root: &File, disk: &mut dyn Disk) -> io::Result<[u8; SECRET_BYTES]> {
    let path = Path::new(SECRET);
    match disk.open(root, path) {
        Ok(file) => {
            let mut digits = [0; 2 * SECRET_BYTES];
            let count = disk.read_full(&file, 0, &mut digits)?;
            let digits = str::from_utf8(&digits[..count]).ok();
            let secret = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
            secret.map(u128::to_be_bytes).ok_or_else(|| {
                let text = "its file `secret` is not 32 hexadecimal digits: it is no cache of ours";
                io::Error::new(io::ErrorKind::InvalidData, text)
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = [0; SECRET_BYTES];
            disk.entropy(&mut secret);
            let temporary = Path::new(TEMPORARY).join(Temporary(0).to_string());
            let file = disk.create(root, &temporary)?;
            let digits = format!("{:032x}", u128::from_be_bytes(secret));
            disk.write_full(&file, 0, digits.as_bytes())?;
            disk.rename(root, &temporary, (root, path), false)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

fn torn(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
