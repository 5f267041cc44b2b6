//! A folder with all below it as one file, made while it is sent.
//!
//! ```text
//! Beginning ──its own header──▶ Walking ──no more names──▶ Ending ──all of it queued──▶ Done
//!                                │   ▲
//!            found: a header, and of a file its bytes; in a zip, those of a larger file are
//!            read a piece at a time
//! ```
//!
//! The rules:
//! 1. The work of a turn is bounded by [`STEPS_PER_TURN`] and by the room in the send queue,
//!    however large the folder is.
//! 2. What is packed of a file is one version of it. Where that cannot be, or a limit is reached,
//!    or the disk fails, the answer ends short: it has no last chunk, or the connection is reset.
//!    An archive that looks whole is whole.
//! 3. In a tar, the bytes of a larger file go from the file to the socket by the kernel; for a zip
//!    they are read here, for their sum.
//! 4. No disk is waited for: what cannot be answered from memory is a job that wakes the session.
//! 5. What goes away, or may not be read, is left out, as a listing leaves it out.
//!
//! [`answer`] tells which requests ask for an archive; [`walk`] finds what is there; [`contents`]
//! opens a file and reads it if it is small, [`reading`] reads a larger one; [`tar`] and [`zip`]
//! write what stands around the files, and [`outlet`] frames it all.

mod answer;
mod contents;
mod outlet;
mod reading;
mod tar;
#[cfg(test)]
mod tests;
mod walk;
mod zip;

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use crate::buffer::{Pool, SendQueue};
use crate::config::ArchiveLimits;
use crate::disk::{Contents, File, FileKind, Metadata};
use crate::ending::Error;
use crate::http::date::unix_s;
use crate::service::{Cx, Id, Waiter, work};
pub(super) use answer::Asked;
use contents::{Opened, Opening};
use outlet::Outlet;
use reading::{Input, Reading};
use walk::{Found, Step, Walk};
use zip::Zip;

/// Names looked at in one turn for all archives of a root together: about a millisecond.
const STEPS_PER_TURN: usize = 128;
/// Bytes that are read, or taken from memory, in one step.
const PIECE_BYTES: usize = 16 * 1024;
/// Bytes that are read by one job, where the disk has to be waited for.
const JOB_BYTES: usize = 128 * 1024;
/// The room that a step needs in the send queue: a piece and what stands around it, among it a name
/// twice.
const STEP_BYTES: usize = 2 * PIECE_BYTES;

/// How a folder is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Tar,
    Zip,
}

impl Format {
    /// With its dot.
    fn ending(self) -> &'static [u8] {
        match self {
            Self::Tar => b".tar",
            Self::Zip => b".zip",
        }
    }

    /// The value of `Content-Type`.
    fn content_type(self) -> &'static str {
        match self {
            Self::Tar => "application/x-tar",
            Self::Zip => "application/zip",
        }
    }
}

/// How the client learns that the archive is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// By the last chunk.
    Chunked,
    /// By the end of the connection, which is reset where it is not.
    UntilClose,
}

/// Why an archive ends short.
#[derive(Debug)]
enum Stopped {
    Disk(PathBuf, io::Error),
    /// A file was changed while it was read.
    Changed(PathBuf),
    TooMany(usize),
    TooDeep(PathBuf),
}

impl Stopped {
    fn disk(path: &Path, error: io::Error) -> Self {
        Self::Disk(path.to_owned(), error)
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(path, error) => write!(f, "{path:?}: {error}"),
            Self::Changed(path) => write!(f, "{path:?} changed while it was read"),
            Self::TooMany(entries) => write!(f, "more than max_archive_entries = {entries}"),
            Self::TooDeep(path) => write!(f, "{path:?} is deeper than max_archive_depth"),
        }
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Disk(path, error) => Error::Disk(format!("{path:?}"), error),
            Stopped::Changed(_) => Error::Changed,
            Stopped::TooMany(_) | Stopped::TooDeep(_) => Error::Refused(stopped.to_string()),
        }
    }
}

/// What is said of a file or folder in an archive.
#[derive(Clone, Debug)]
struct Entry {
    /// Its path, beginning with the folder that is packed; that of a folder ends with a slash.
    name: Vec<u8>,
    is_folder: bool,
    executable: bool,
    len: u64,
    modified_s: i64,
}

impl Entry {
    fn new(name: Vec<u8>, metadata: &Metadata) -> Self {
        let is_folder = metadata.kind == FileKind::Folder;
        Self {
            name,
            is_folder,
            executable: metadata.executable,
            len: if is_folder { 0 } else { metadata.len },
            modified_s: unix_s(metadata.modified),
        }
    }

    /// What its owner and others may do with it when it is unpacked.
    fn mode(&self) -> u32 {
        match self.is_folder || self.executable {
            true => 0o755,
            false => 0o644,
        }
    }
}

/// How far an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(in crate::services::web) enum Packed {
    /// All of it is queued.
    Done,
    /// There is more once there is room.
    Full,
    /// There is more in the next turn.
    Later,
    /// There is more once the disk has answered, of which the session is told. Since when it could
    /// not go on.
    Waits(Instant),
}

/// An archive being sent.
pub(in crate::services::web) struct Archive {
    packing: Packing,
    doing: Doing,
    walk: Walk,
    /// The file that was found last, until it is packed.
    opening: Option<Box<Opening>>,
    /// Since when it cannot go on, because the disk is to answer.
    waits_since: Option<Instant>,
    /// The name of the folder, with a slash behind it.
    top: Vec<u8>,
    outlet: Outlet,
    turn: u64,
    steps_left: usize,
    /// What is being written around a file, kept for its memory.
    scratch: Vec<u8>,
    /// One of the archives that are sent at once.
    place: Rc<()>,
}

enum Packing {
    /// `sending`: the last file that was queued. As long as the queue refers to it, no other is
    /// opened.
    Tar { sending: Option<File> },
    Zip {
        zip: Zip,
        reading: Option<Box<Reading>>,
    },
}

enum Doing {
    /// The folder itself is the first entry.
    Beginning(Metadata),
    Walking,
    Ending {
        bytes: Vec<u8>,
        sent: usize,
    },
    Done,
}

/// A folder to be packed.
struct Wanted<'a> {
    root: &'a File,
    /// Relative to the root.
    folder: &'a Path,
    metadata: Metadata,
    /// Its name, for the archive.
    name: &'a [u8],
    /// Paths relative to the root that are for other sites to show.
    elsewhere: &'a Rc<[Vec<u8>]>,
    limits: ArchiveLimits,
}

impl Archive {
    /// Bytes that it holds of what it is to tell at its end, and of what it has still to look at.
    pub(in crate::services::web) fn bytes_held(&self) -> usize {
        let directory = match (&self.packing, &self.doing) {
            (Packing::Zip { zip, .. }, _) => zip.bytes_held(),
            (_, Doing::Ending { bytes, .. }) => bytes.capacity(),
            _ => 0,
        };
        directory + self.walk.bytes_held() + self.scratch.capacity()
    }

    fn new(wanted: &Wanted<'_>, format: Format, framing: Framing, place: Rc<()>) -> Self {
        Self {
            packing: match format {
                Format::Tar => Packing::Tar { sending: None },
                Format::Zip => Packing::Zip {
                    zip: Zip::default(),
                    reading: None,
                },
            },
            doing: Doing::Beginning(wanted.metadata),
            walk: Walk::new(wanted),
            opening: None,
            waits_since: None,
            top: [wanted.name, b"/"].concat(),
            outlet: Outlet { framing, bytes: 0 },
            turn: u64::MAX,
            steps_left: 0,
            scratch: Vec::new(),
            place,
        }
    }

    /// Whether the end of the connection is the end of the archive.
    pub(in crate::services::web) fn ends_with_connection(&self) -> bool {
        self.outlet.framing == Framing::UntilClose
    }

    /// Bytes of it that were queued.
    pub(in crate::services::web) fn bytes(&self) -> u64 {
        self.outlet.bytes
    }

    /// Queues as much of it as there is room and time for, and as the disk has answered. `id`: the
    /// session that is woken when it has.
    ///
    /// # Errors
    /// It ends short: what was queued must not look whole.
    pub(in crate::services::web) fn advance(
        &mut self,
        tx: &mut SendQueue,
        id: Id,
        cx: &mut Cx<'_>,
    ) -> Result<Packed, Error> {
        let packed = self.go_on(tx, id, cx);
        packed.map_err(|stopped| {
            let (top, bytes) = (self.top.escape_ascii(), self.outlet.bytes);
            log::warn!("archive of {top} ends short after {bytes} bytes: {stopped}");
            stopped.into()
        })
    }

    /// The disk has not answered for too long.
    pub(in crate::services::web) fn give_up(&self) -> Error {
        let (top, bytes) = (self.top.escape_ascii(), self.outlet.bytes);
        log::warn!("archive of {top} ends short after {bytes} bytes: the disk does not answer");
        Error::Disk(top.to_string(), io::ErrorKind::TimedOut.into())
    }

    fn go_on(&mut self, tx: &mut SendQueue, id: Id, cx: &mut Cx<'_>) -> Result<Packed, Stopped> {
        if self.turn != cx.turn {
            // The root has a reference too.
            let archives = Rc::strong_count(&self.place).saturating_sub(1).max(1);
            (self.turn, self.steps_left) = (cx.turn, (STEPS_PER_TURN / archives).max(1));
        }
        while !matches!(self.doing, Doing::Done) {
            if !tx.has_room(STEP_BYTES) || self.is_sending(tx) {
                return Ok(Packed::Full);
            }
            if self.steps_left == 0 || cx.work.is_spent() {
                return Ok(Packed::Later);
            }
            match self.step(tx, id, cx)? {
                true => {
                    cx.work.charge(work::PACKED_NS);
                    self.waits_since = None;
                }
                false => return Ok(Packed::Waits(*self.waits_since.get_or_insert(cx.now))),
            }
        }
        Ok(Packed::Done)
    }

    /// Whether a file of this archive waits in the queue. If so, there is news once some of it was
    /// sent.
    fn is_sending(&self, tx: &mut SendQueue) -> bool {
        match &self.packing {
            Packing::Tar { sending } => {
                sending.as_ref().is_some_and(File::is_shared) && !tx.is_empty_or_wakes()
            }
            Packing::Zip { .. } => false,
        }
    }

    /// Goes on a little; whether it could, or the disk is to answer first.
    fn step(&mut self, tx: &mut SendQueue, id: Id, cx: &mut Cx<'_>) -> Result<bool, Stopped> {
        match &mut self.doing {
            Doing::Beginning(metadata) => {
                let entry = Entry::new(self.top.clone(), metadata);
                self.doing = Doing::Walking;
                self.put_folder(&entry, tx, cx.pool);
            }
            Doing::Walking => {
                if let Packing::Zip { reading, .. } = &mut self.packing
                    && let Some(reading) = reading.take()
                {
                    return self.read_on(reading, tx, id, cx);
                }
                if let Some(opening) = self.opening.take() {
                    return self.open_on(opening, tx, id, cx);
                }
                let step = self.walk.step(&mut cx.asker(Waiter::Session(id)))?;
                if matches!(step, Step::Waits) {
                    return Ok(false);
                }
                self.steps_left -= 1;
                match step {
                    Step::Found(found) => self.pack(found, tx, id, cx),
                    Step::End => self.end(),
                    Step::Nothing | Step::Waits => {}
                }
            }
            Doing::Ending { bytes, sent } => {
                let piece = &bytes[*sent..bytes.len().min(*sent + PIECE_BYTES)];
                self.outlet.put(piece, tx, cx.pool);
                *sent += piece.len();
                if *sent == bytes.len() {
                    self.outlet.end(tx, cx.pool);
                    self.doing = Doing::Done;
                }
            }
            Doing::Done => {}
        }
        Ok(true)
    }

    /// Packs a folder that was found, or begins to open a file.
    fn pack(&mut self, found: Found, tx: &mut SendQueue, id: Id, cx: &mut Cx<'_>) {
        let Found { path, metadata } = found;
        if metadata.kind == FileKind::Folder {
            let name = [&self.top[..], path.as_os_str().as_bytes(), b"/"].concat();
            self.put_folder(&Entry::new(name, &metadata), tx, cx.pool);
            return;
        }
        let opened = self.walk.open(&path, &mut cx.asker(Waiter::Session(id)));
        self.opening = Some(Box::new(Opening::new(path, opened)));
    }

    /// Goes on with the file that was found, and packs it once it is open; one that is not there
    /// any more is not. Whether it could go on.
    fn open_on(
        &mut self,
        opening: Box<Opening>,
        tx: &mut SendQueue,
        id: Id,
        cx: &mut Cx<'_>,
    ) -> Result<bool, Stopped> {
        let path = opening.path.clone();
        match opening.take(&mut cx.asker(Waiter::Session(id))) {
            Err(opening) => {
                self.opening = Some(opening);
                return Ok(false);
            }
            Ok(opened) => match opened? {
                Opened::File(file, contents, metadata) => {
                    self.put(path, file, contents, &metadata, tx, cx);
                }
                Opened::LeftOut => self.walk.left_out += 1,
                Opened::Nothing => {}
            },
        }
        Ok(true)
    }

    /// Packs a file.
    fn put(
        &mut self,
        path: PathBuf,
        file: File,
        contents: Contents,
        metadata: &Metadata,
        tx: &mut SendQueue,
        cx: &mut Cx<'_>,
    ) {
        let name = [&self.top[..], path.as_os_str().as_bytes()].concat();
        let entry = Entry::new(name, metadata);
        let (outlet, out) = (&mut self.outlet, &mut self.scratch);
        out.clear();
        match (&mut self.packing, contents) {
            (Packing::Tar { .. }, Contents::Small(bytes)) => {
                tar::put_header(out, &entry);
                out.extend_from_slice(&bytes);
                out.resize(out.len() + tar::padding(entry.len), 0);
                outlet.put(out, tx, cx.pool);
            }
            (Packing::Tar { sending }, Contents::Large(version)) => {
                tar::put_header(out, &entry);
                let padding = &tar::END[..tar::padding(entry.len)];
                outlet.put_file(out, (&file, version), padding, tx, cx.pool);
                *sending = Some(file);
            }
            (Packing::Zip { zip, .. }, Contents::Small(bytes)) => {
                let mut open = zip.begin_file(out, entry);
                zip.data(&mut open, &bytes);
                out.extend_from_slice(&bytes);
                zip.end_file(out, open);
                outlet.put(out, tx, cx.pool);
            }
            (Packing::Zip { zip, reading }, Contents::Large(version)) => {
                let open = zip.begin_file(out, entry);
                outlet.put(out, tx, cx.pool);
                *reading = Some(Box::new(Reading {
                    path,
                    file,
                    version,
                    open,
                    offset: 0,
                    seen: cx.turn,
                    input: Input::Nothing,
                }));
            }
        }
    }

    fn put_folder(&mut self, entry: &Entry, tx: &mut SendQueue, pool: &mut Pool) {
        self.scratch.clear();
        match &mut self.packing {
            Packing::Tar { .. } => tar::put_header(&mut self.scratch, entry),
            Packing::Zip { zip, .. } => zip.put_folder(&mut self.scratch, entry),
        }
        self.outlet.put(&self.scratch, tx, pool);
    }

    /// Queues a piece of the file that is being read. Whether it could, or the disk is to answer
    /// first.
    fn read_on(
        &mut self,
        mut reading: Box<Reading>,
        tx: &mut SendQueue,
        id: Id,
        cx: &mut Cx<'_>,
    ) -> Result<bool, Stopped> {
        let Packing::Zip {
            zip,
            reading: pending,
        } = &mut self.packing
        else {
            return Ok(true);
        };
        let turn = cx.turn;
        let piece = reading.piece(turn, &mut cx.asker(Waiter::Session(id)))?;
        let Some((bytes, piece)) = piece else {
            *pending = Some(reading);
            return Ok(false);
        };
        let piece = &bytes[piece];
        zip.data(&mut reading.open, piece);
        self.outlet.put(piece, tx, cx.pool);
        reading.passed(piece.len());
        if reading.offset < reading.version.len {
            *pending = Some(reading);
        } else {
            self.scratch.clear();
            zip.end_file(&mut self.scratch, reading.open);
            self.outlet.put(&self.scratch, tx, cx.pool);
        }
        Ok(true)
    }

    fn end(&mut self) {
        if self.walk.left_out > 0 {
            let (top, count) = (self.top.escape_ascii(), self.walk.left_out);
            log::warn!("archive of {top}: {count} names that may not be read are not in it");
        }
        let bytes = match &mut self.packing {
            Packing::Tar { .. } => tar::END.to_vec(),
            Packing::Zip { zip, .. } => std::mem::take(zip).finish(),
        };
        self.doing = Doing::Ending { bytes, sent: 0 };
    }
}
