//! The upload server: a challenge, perhaps a login, then one file after the other into one folder.
//!
//! ```text
//! Greeting ─▶ Answer ──right──▶ Login ──right──▶ Header ──whole──▶ Body ──all bytes──▶ stored
//!                │                │              ▲  │                                    │
//!                └── wrong: dropped, or {"flag": false} and closed └── the client's end ─▶ closed │
//!                                                └───────────────────────────────────────┘
//! ```
//!
//! The rules:
//! 1. A file stands in the hidden folder `.partial/` until its last byte came, and gets its name in one step, by a
//!    `rename` that replaces nothing unless it was told to. So whatever becomes of this process, `kill -9` included, a name
//!    never stands for half a file, and no file is lost to another of its name. When the power fails it may: nothing is
//!    forced to the disk (`fsync`), and a file system may remember the name and not the bytes.
//! 2. Whoever breaks off leaves nothing: [`Service::ended`] removes the partial file, and a start those of a crash. Each
//!    server shares the lock of `.partial/` as long as it lives, and only a start that has the lock alone clears it: beside
//!    a server that still runs or drains nobody can tell its files from a dead one's.
//! 3. A file takes some system calls however small it is, so a client gives way to the others after
//!    [`UploadConfig::files_per_turn_max`] of them, as it does after so many bytes.
//! 4. Bytes go from the page that they were received in to the file, without a copy in between; pages are given back at
//!    once, so that the next read can take a large one.
//!
//! Deliberately not here: answers to `"ack"`, `"sha256"` and `"resume"` of a header. A client that asked for an answer and
//! sees the end of the stream without one knows that this is a plain server.

use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::prolonged;
use crate::buffer::File;
use crate::config::{Overwrite, UploadConfig};
use crate::service::{Disk, Error, FileKind, Io, Peer, Phase, Service};
use crate::wire::challenge::{CHALLENGE_BYTES, Handshake, Secret};
use crate::wire::frame::{self, Frame};
use crate::wire::login::{self, LOGIN_BYTES_MAX, Login, ObjectScanner, UserInfo};
use crate::wire::text::Quoted;
use crate::wire::upload::{FileHeader, SafeName, blanks_before_header, is_blank};

/// Where files stand until they are whole. A name of a client never begins with a dot, so none leads here.
const PARTIAL: &str = ".partial";

/// The upload service.
pub struct Upload {
    handshake: Handshake,
    secret: Secret,
    users: Option<UserInfo>,
    overwrite: Overwrite,
    file_bytes_max: u64,
    header_bytes_max: usize,
    files_per_turn_max: usize,
    handshake_timeout: Duration,
    idle_timeout: Duration,
    body_rate_min: Option<NonZeroU32>,
    folder: File,
    /// `.partial/`, kept open for its lock.
    _partials: File,
    /// The partial files so far: the name of the next one.
    partials: u64,
}

/// One connection.
pub struct Conn {
    peer: Peer,
    state: State,
    /// Files that were stored since the others last had their turn.
    stored: usize,
}

enum State {
    /// The challenge is to be sent.
    Greeting { until: Instant },
    /// It was; its answer is awaited. It is used once: there is no second try on a connection.
    Answer {
        challenge: [u8; CHALLENGE_BYTES],
        until: Instant,
    },
    /// Name and password are awaited.
    Login {
        scanner: ObjectScanner,
        until: Instant,
    },
    /// The header of the next file is awaited. What came of it is gathered here, because it may be longer than a page; while
    /// that is nothing but blanks, the connection is idle.
    Header { gathered: Vec<u8>, until: Instant },
    /// The bytes of a file are coming.
    Body {
        incoming: Box<Incoming>,
        until: Instant,
    },
}

/// A file of which not every byte came yet.
struct Incoming {
    name: SafeName,
    partial: PathBuf,
    file: File,
    size_bytes: u64,
    written_bytes: u64,
    began: Instant,
}

impl Upload {
    /// A service as configured. Makes the folder, with its parents, and clears away what a crash left in it, unless another
    /// server uses it.
    ///
    /// # Errors
    /// The folder cannot be made or opened; the text names it.
    pub fn new(config: &UploadConfig, disk: &mut dyn Disk) -> io::Result<Self> {
        let (folder, partials) = prepare(&config.dir, disk).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", config.dir.display()))
        })?;
        Ok(Self {
            handshake: config.handshake,
            secret: config.secret.secret().clone(),
            users: config.login.clone(),
            overwrite: config.overwrite,
            file_bytes_max: config.file_bytes_max,
            header_bytes_max: config.header_bytes_max,
            files_per_turn_max: config.files_per_turn_max,
            handshake_timeout: config.handshake_timeout,
            idle_timeout: config.idle_timeout,
            body_rate_min: config.body_rate_min,
            folder,
            _partials: partials,
            partials: 0,
        })
    }

    fn idle(&self, now: Instant) -> State {
        State::Header {
            gathered: Vec::new(),
            until: now + self.idle_timeout,
        }
    }

    fn after_handshake(&self, until: Instant, now: Instant) -> State {
        match self.users {
            Some(_) => State::Login {
                scanner: ObjectScanner::new(LOGIN_BYTES_MAX),
                until,
            },
            None => self.idle(now),
        }
    }

    /// Makes the file that a header announces, or says why not.
    fn begin(&mut self, header: &[u8], io: &mut Io<'_>) -> Result<State, Error> {
        let header = FileHeader::parse(header, self.file_bytes_max)
            .map_err(|error| Error::Protocol(error.to_string()))?;
        let name = SafeName::reduce_portable(&header.filename)
            .map_err(|error| Error::Refused(format!("{}: {error}", Quoted(&header.filename))))?;
        let failed = |error| Error::Disk(name.to_string(), error);
        // Looked at before the client sends for nothing; the rename at the end looks again.
        if self.overwrite == Overwrite::Refuse
            && is_taken(&self.folder, &name, io.cx.disk).map_err(failed)?
        {
            return Err(Error::Refused(format!("{name}: there is such a file")));
        }
        let free_bytes = io.cx.disk.free_bytes(&self.folder).map_err(failed)?;
        if header.size_bytes > free_bytes {
            return Err(Error::Refused(format!(
                "{name}: {} bytes, and the disk has room for {free_bytes}",
                header.size_bytes
            )));
        }
        let (partial, file) = self.create_partial(io.cx.disk).map_err(failed)?;
        Ok(State::Body {
            incoming: Box::new(Incoming {
                name,
                partial,
                file,
                size_bytes: header.size_bytes,
                written_bytes: 0,
                began: io.cx.now,
            }),
            until: io.cx.now + self.idle_timeout,
        })
    }

    fn create_partial(&mut self, disk: &mut dyn Disk) -> io::Result<(PathBuf, File)> {
        loop {
            let path = Path::new(PARTIAL).join(self.partials.to_string());
            self.partials += 1;
            match disk.create(&self.folder, &path) {
                // Another server's, which shares the folder.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result.map(|file| (path, file)),
            }
        }
    }

    /// Gives a whole file its name; which one it got.
    fn store(&self, incoming: &Incoming, disk: &mut dyn Disk) -> Result<SafeName, Error> {
        let name = &incoming.name;
        let failed = |error| Error::Disk(name.to_string(), error);
        let replace = self.overwrite == Overwrite::Replace;
        let mut number = 0;
        loop {
            let to = name.version(number);
            match disk.rename(&self.folder, &incoming.partial, to.as_ref(), replace) {
                Ok(()) => return Ok(to),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                // The number that was free a moment ago is somebody else's now: the next one.
                Err(_) if self.overwrite == Overwrite::Version && number < u32::MAX => {
                    number = match number {
                        0 => first_free_version(&self.folder, name, disk).map_err(failed)?,
                        _ => number + 1,
                    };
                }
                Err(_) => return Err(Error::Refused(format!("{name}: there is such a file"))),
            }
        }
    }
}

impl Incoming {
    /// Writes what came of this file; how many bytes that were.
    fn write(&mut self, io: &mut Io<'_>) -> Result<usize, Error> {
        let rx = &mut io.down.rx;
        let left = self.size_bytes - self.written_bytes;
        let count = rx.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut written = 0;
        while written < count {
            let offset = self.written_bytes + written as u64;
            match io
                .disk
                .write_at(&self.file, offset, &rx.bytes()[written..count])
            {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.written_bytes += count as u64;
        rx.consume(count);
        rx.release(io.cx.pool); // the page after a full one is a large one
        Ok(count)
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::Disk(self.name.to_string(), error)
    }
}

impl Service for Upload {
    type Conn = Conn;

    fn accept(&mut self, peer: &Peer, now: Instant) -> Conn {
        let until = now + self.handshake_timeout;
        let state = match self.handshake {
            Handshake::None => self.after_handshake(until, now),
            _ => State::Greeting { until },
        };
        Conn {
            peer: peer.clone(),
            state,
            stored: 0,
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        loop {
            conn.state = match &mut conn.state {
                State::Greeting { until } => {
                    let mut challenge = [0; CHALLENGE_BYTES];
                    io.cx.disk.entropy(&mut challenge);
                    io.down.tx.put(&challenge, io.cx.pool);
                    State::Answer {
                        challenge,
                        until: *until,
                    }
                }
                State::Answer { challenge, until } => {
                    let answer_bytes = self.handshake.answer_bytes();
                    let Some(answer) = io.down.rx.bytes().get(..answer_bytes) else {
                        let begun = !io.down.rx.is_empty();
                        return wait(io, *until, Phase::Handshake, begun, || "the answer".into());
                    };
                    if !self.handshake.verify(&self.secret, challenge, answer) {
                        return Err(Error::Refused("a wrong answer to the challenge".to_owned()));
                    }
                    io.down.rx.consume(answer_bytes);
                    self.after_handshake(*until, io.cx.now)
                }
                State::Login { scanner, until } => {
                    let bytes = io.down.rx.bytes();
                    let scanned = scanner.scan(bytes);
                    let Some(end) = scanned.map_err(|error| Error::Protocol(error.to_string()))?
                    else {
                        let begun = !bytes.is_empty();
                        return wait(io, *until, Phase::Handshake, begun, || "the login".into());
                    };
                    let login = Login::parse(&bytes[..end])
                        .map_err(|error| Error::Protocol(error.to_string()))?;
                    io.down.rx.consume(end);
                    if !self
                        .users
                        .as_ref()
                        .is_some_and(|users| users.verify(&login))
                    {
                        let user = Quoted(&login.user);
                        log::info!("upload {}: login of {user} refused", conn.peer);
                        io.down.tx.put(login::REFUSED, io.cx.pool);
                        io.close();
                        return Ok(());
                    }
                    io.down.tx.put(login::ACCEPTED, io.cx.pool);
                    self.idle(io.cx.now)
                }
                State::Header { gathered, until } => {
                    let limit = self.header_bytes_max;
                    let missing = match blanks_before_header(gathered, limit) {
                        // One at a time: what follows a blank may be the whole header.
                        None => 1,
                        Some(blanks) => {
                            gathered.drain(..blanks);
                            match frame::decode(gathered, limit) {
                                Err(error) => return Err(Error::Protocol(error.to_string())),
                                Ok(Frame::Partial { missing }) => missing,
                                Ok(Frame::Complete { payload, .. }) => {
                                    conn.state = self.begin(payload, io)?;
                                    continue;
                                }
                            }
                        }
                    };
                    let rx = &mut io.down.rx;
                    let count = missing.min(rx.len());
                    let was_begun = !is_blank(gathered);
                    if count == 0 {
                        let phase = if was_begun { Phase::Head } else { Phase::Idle };
                        return wait(io, *until, phase, was_begun, || "a file header".into());
                    }
                    gathered.extend_from_slice(&rx.bytes()[..count]);
                    rx.consume(count);
                    if !was_begun && !is_blank(gathered) {
                        *until = io.cx.now + self.handshake_timeout;
                    }
                    continue;
                }
                State::Body { incoming, until } => {
                    let count = incoming.write(io)?;
                    let (rate_min, most) = (self.body_rate_min, self.idle_timeout);
                    *until = prolonged(*until, count, rate_min, io.cx.now, most);
                    if incoming.written_bytes < incoming.size_bytes {
                        return wait(io, *until, Phase::Body, true, || {
                            let Incoming {
                                name,
                                size_bytes,
                                written_bytes,
                                ..
                            } = &**incoming;
                            format!("{name} after {written_bytes} of {size_bytes} bytes")
                        });
                    }
                    let name = self.store(incoming, io.cx.disk)?;
                    io.metrics.files_stored += 1;
                    io.metrics.file_bytes_stored += incoming.size_bytes;
                    log::info!(
                        "upload {}: stored {name}, {} bytes in {:.3} s",
                        conn.peer,
                        incoming.size_bytes,
                        (io.cx.now - incoming.began).as_secs_f64()
                    );
                    if io.cx.draining {
                        conn.state = self.idle(io.cx.now);
                        io.close();
                        return Ok(());
                    }
                    conn.stored += 1;
                    if conn.stored >= self.files_per_turn_max {
                        conn.stored = 0;
                        conn.state = self.idle(io.cx.now);
                        io.again();
                        return Ok(());
                    }
                    self.idle(io.cx.now)
                }
            };
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        match conn.state {
            State::Greeting { until }
            | State::Answer { until, .. }
            | State::Login { until, .. }
            | State::Header { until, .. }
            | State::Body { until, .. } => until,
        }
    }

    fn ended(&mut self, conn: Conn, disk: &mut dyn Disk, _now: Instant) {
        let State::Body { incoming, .. } = conn.state else {
            return;
        };
        if let Err(error) = disk.remove(&self.folder, &incoming.partial) {
            let path = incoming.partial.display();
            log::error!("upload {}: {path} stays behind: {error}", conn.peer);
        }
    }
}

/// More must come: closes a connection of which nothing more can, drops one that ends or dawdles within something it began.
fn wait(
    io: &mut Io<'_>,
    until: Instant,
    phase: Phase,
    begun: bool,
    what: impl Fn() -> String,
) -> Result<(), Error> {
    if io.down.eof && begun {
        return Err(Error::Protocol(format!(
            "the stream ended within {}",
            what()
        )));
    }
    if io.down.eof || (io.cx.draining && !begun) {
        io.close();
    } else if io.cx.now >= until {
        return Err(Error::TimedOut(phase));
    }
    Ok(())
}

/// Opens the folder for the files, and the one for the partial ones in it: empty, unless another server uses it.
fn prepare(dir: &Path, disk: &mut dyn Disk) -> io::Result<(File, File)> {
    let folder = open_or_make(dir, disk)?;
    disk.create_folder(&folder, Path::new(PARTIAL))?;
    let partials = disk.open(&folder, Path::new(PARTIAL))?;
    match disk.lock_alone(&partials) {
        Ok(true) => clear(&partials, disk)?,
        Ok(false) => {}
        // Not every network file system has locks.
        Err(error) => {
            let dir = dir.display();
            log::warn!("{dir}/{PARTIAL}: what a crash left there stays: {error}");
            return Ok((folder, partials));
        }
    }
    disk.lock_shared(&partials)?;
    Ok((folder, partials))
}

/// Removes the files of a folder.
fn clear(folder: &File, disk: &mut dyn Disk) -> io::Result<()> {
    for entry in disk.entries(folder)? {
        if entry.metadata.kind != FileKind::Folder {
            disk.remove(folder, &entry.name)?;
        }
    }
    Ok(())
}

/// Opens a folder; makes it, and the folders on the way to it, where they are missing.
fn open_or_make(path: &Path, disk: &mut dyn Disk) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    match (disk.open_folder(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            let parent = open_or_make(parent, disk)?;
            disk.create_folder(&parent, Path::new(name))?;
            disk.open_folder(path)
        }
        (result, ..) => result,
    }
}

/// Whether something has this name.
fn is_taken(folder: &File, name: &SafeName, disk: &mut dyn Disk) -> io::Result<bool> {
    use io::ErrorKind::{CrossesDevices, NotFound, PermissionDenied};
    match disk.open(folder, name.as_ref()) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == NotFound => Ok(false),
        // It is there, though not for us to read: a link that leaves the folder, or a file of somebody else's.
        Err(error) if matches!(error.kind(), CrossesDevices | PermissionDenied) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The lowest version number from 1 on that is free, if those before it are taken without a gap; some free one otherwise. It
/// looks at as many names as the number has binary digits, twice: the ten-thousandth file of a name costs no more than 28.
fn first_free_version(folder: &File, name: &SafeName, disk: &mut dyn Disk) -> io::Result<u32> {
    let (mut taken, mut free) = (0, 1);
    while free < u32::MAX && is_taken(folder, &name.version(free), disk)? {
        taken = free;
        free = free.saturating_mul(2);
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if is_taken(folder, &name.version(middle), disk)? {
            taken = middle;
        } else {
            free = middle;
        }
    }
    Ok(free)
}

#[cfg(test)]
mod tests;
