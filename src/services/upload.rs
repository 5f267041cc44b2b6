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
use crate::config::{Overwrite, UploadConfig};
use crate::disk::File;
use crate::disk::{Disk, FileKind};
use crate::ending::{Error, Phase};
use crate::service::{Cx, Io, Peer, Service};
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
                .cx
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
                    io.cx.counted.stored(incoming.size_bytes);
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

    fn ended(&mut self, conn: Conn, cx: &mut Cx<'_>) {
        let State::Body { incoming, .. } = conn.state else {
            return;
        };
        if let Err(error) = cx.disk.remove(&self.folder, &incoming.partial) {
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
        // What was said before is still sent: the end may have come together with what it answers.
        if !io.down.tx.is_empty_or_wakes() {
            return Ok(());
        }
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
mod tests {
    use super::*;
    use crate::buffer::PAGE_BYTES;
    use crate::config::SecretSource;
    use crate::services::bench::Bench;
    use crate::sys::unix::Unix;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::fs;
    use tempfile::TempDir;

    const SECRET: &str = "tiger";
    const LOGIN: &[u8] = br#"{"operate": "login", "user": "ann", "passwd": "tulip"}"#;

    /// A connection to a listener with a folder of its own.
    struct Server {
        _folder: TempDir,
        config: UploadConfig,
        bench: Bench<Upload>,
    }

    impl Server {
        fn new(handshake: Handshake, change: impl FnOnce(&mut UploadConfig)) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let secret = SecretSource::Given(Secret::from(SECRET));
            let mut config = UploadConfig::new(handshake, secret);
            config.dir = folder.path().join("a/b");
            change(&mut config);
            let bench = connect(&config);
            Self {
                _folder: folder,
                config,
                bench,
            }
        }

        fn plain() -> Self {
            Self::new(Handshake::None, |_| {})
        }

        /// Another connection, after a new start.
        fn again(&mut self) -> &mut Self {
            self.bench = connect(&self.config);
            self
        }

        fn sends(&mut self, bytes: &[u8]) -> &mut Self {
            self.bench.peer_sends(bytes);
            self
        }

        /// What stands in the folder.
        fn files(&self) -> BTreeMap<String, Vec<u8>> {
            let mut files = BTreeMap::new();
            for entry in fs::read_dir(&self.config.dir).expect("the folder") {
                let entry = entry.expect("an entry");
                if entry.file_type().expect("a type").is_file() {
                    let name = entry.file_name().into_string().expect("UTF-8");
                    files.insert(name, fs::read(entry.path()).expect("a file"));
                }
            }
            files
        }

        fn partials(&self) -> usize {
            fs::read_dir(self.config.dir.join(PARTIAL))
                .expect("a folder")
                .count()
        }

        fn expect_files(&self, files: &[(&str, &[u8])]) {
            let expected: BTreeMap<String, Vec<u8>> = files
                .iter()
                .map(|&(name, bytes)| (name.to_owned(), bytes.to_vec()))
                .collect();
            assert_eq!(self.files(), expected);
        }

        /// The connection was dropped, and nothing of the file is left.
        fn expect_dropped(&self, why: &str) {
            let failed = self.bench.failed.as_ref().expect("the connection goes on");
            assert!(failed.to_string().contains(why), "{failed}");
            assert_eq!(self.partials(), 0);
            self.expect_files(&[]);
        }
    }

    fn connect(config: &UploadConfig) -> Bench<Upload> {
        let mut disk = Unix::new(false).expect("a poll");
        Bench::new(Upload::new(config, &mut disk).expect("a folder"))
    }

    fn framed(json: &str) -> Vec<u8> {
        let mut bytes = (json.len() as i32).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes
    }

    fn file(name: &str, body: &[u8]) -> Vec<u8> {
        let json = format!("{{\"filename\": {name:?}, \"filesize\": {}}}", body.len());
        [framed(&json), body.to_vec()].concat()
    }

    #[test]
    fn every_handshake_takes_the_right_answer_and_no_other() {
        for handshake in Handshake::ALL.into_iter().filter(|h| h.needs_secret()) {
            let mut server = Server::new(handshake, |_| {});
            let challenge = server.bench.received().try_into().expect("32 bytes");
            let answer = handshake.answer(&Secret::from(SECRET), &challenge);
            server.sends(&answer).sends(&file("a.txt", b"abc"));
            server.expect_files(&[("a.txt", b"abc")]);

            // A challenge is good for one connection: yesterday's answer is worth nothing.
            server.again();
            assert_ne!(server.bench.received(), challenge);
            server.sends(&[&answer[..], &file("b.txt", b"b")].concat());
            let failed = server.bench.failed.as_ref().expect("dropped");
            assert!(failed.to_string().contains("a wrong answer"), "{failed}");
            server.expect_files(&[("a.txt", b"abc")]);
        }
    }

    fn with_login(config: &mut UploadConfig) {
        let line = UserInfo::line("ann", &Secret::from("tulip"));
        config.login = Some(UserInfo::parse(&line).expect("a user file"));
    }

    #[test]
    fn a_login_is_answered_without_a_length() {
        let mut server = Server::new(Handshake::None, with_login);
        server
            .bench
            .peer_sends(LOGIN)
            .expect(b"{\"flag\": true}")
            .expect_open();
        server.sends(&file("a", b"x")).bench.expect(b"");
        server.expect_files(&[("a", b"x")]);
        for wrong in [
            LOGIN.to_ascii_uppercase(),
            br#"{"operate": "login", "user": "ann", "passwd": "rose"}"#.to_vec(),
            br#"{"operate": "login", "user": "bob", "passwd": "tulip"}"#.to_vec(),
        ] {
            let mut server = Server::new(Handshake::None, with_login);
            server.bench.peer_sends(&wrong);
            if server.bench.failed.is_none() {
                server.bench.expect(b"{\"flag\": false}").expect_closed();
            }
            server.expect_files(&[]);
        }
    }

    /// What a client may put behind a line: it typed it, or printed it.
    const LINE_ENDS: [&[u8]; 6] = [b"\n", b"\r\n", b"\r", b" \r\n", b"\r\n\r\n", b" \t \n"];

    #[test]
    fn a_line_end_behind_an_answer_or_a_login_is_passed_over_at_every_cut() {
        for end in LINE_ENDS {
            for handshake in Handshake::ALL {
                let connect = || {
                    let mut server = Server::new(handshake, with_login);
                    let mut sent = Vec::new();
                    if handshake.needs_secret() {
                        let challenge = server.bench.received().try_into().expect("32 bytes");
                        sent = handshake.answer(&Secret::from(SECRET), &challenge);
                        sent.extend(end);
                    }
                    sent.extend([LOGIN, end].concat());
                    // Headers whose length is 32, that of a blank, and 29.
                    sent.extend(file("a", b"abc"));
                    sent.extend(framed("{\"filename\":\"b\",\"filesize\":0}"));
                    (server, sent)
                };
                for cut in (0..connect().1.len()).step_by(7).chain([usize::MAX]) {
                    let (mut server, sent) = connect();
                    match cut {
                        usize::MAX => sent.chunks(1).for_each(|byte| _ = server.sends(byte)),
                        cut => _ = server.sends(&sent[..cut]).sends(&sent[cut..]),
                    }
                    server.bench.expect(login::ACCEPTED).expect_open();
                    server.bench.peer_closes().expect_closed();
                    server.expect_files(&[("a", b"abc"), ("b", b"")]);
                }
                // Without a login the line end stands in front of the first header.
                if handshake.needs_secret() {
                    let mut server = Server::new(handshake, |_| {});
                    let challenge = server.bench.received().try_into().expect("32 bytes");
                    let answer = handshake.answer(&Secret::from(SECRET), &challenge);
                    server.sends(&answer).sends(end).sends(&file("a", b"abc"));
                    server.expect_files(&[("a", b"abc")]);
                }
            }
        }
    }

    #[test]
    fn a_line_end_is_no_beginning_of_a_header() {
        for end in LINE_ENDS {
            let logged_in = || {
                let mut server = Server::new(Handshake::None, with_login);
                server.sends(&[LOGIN, end].concat());
                server.bench.expect(login::ACCEPTED).expect_open();
                server
            };
            // It may end the stream, it may be followed by a pause, and it waits for no more when the process ends.
            logged_in().bench.peer_closes().expect_closed();
            let mut server = logged_in();
            server.bench.later(Duration::from_secs(59)).expect_open();
            server.sends(&file("a", b"abc"));
            server.expect_files(&[("a", b"abc")]);
            let mut server = logged_in();
            server.bench.draining = true;
            server.bench.step();
            server.bench.expect_closed();
        }
    }

    #[test]
    fn a_header_is_json_and_may_be_surrounded_by_blanks() {
        for json in [
            "{\"filename\":\"a\",\"filesize\":1}\r\n",
            "\n {\"filename\": \"a\",\n\"filesize\": 1}\n\n",
        ] {
            let mut server = Server::plain();
            server.sends(&framed(json)).sends(b"x");
            server.expect_files(&[("a", b"x")]);
        }
    }

    #[test]
    fn a_name_that_is_not_safe_everywhere_is_refused_with_the_reason() {
        for (name, why) in [
            ("CON", "\"CON\": the file name is that of a device"),
            (
                "x/nul.txt",
                "\"x/nul.txt\": the file name is that of a device",
            ),
            ("a:b", "\"a:b\": the file name holds ':'"),
            (
                "x.",
                "\"x.\": the file name begins or ends with a blank, or ends with a dot",
            ),
            ("x ", "\"x \": the file name begins or ends with a blank"),
            ("-rf", "\"-rf\": the file name begins with a hyphen"),
            (
                "a\\u202eb",
                "\"a\\u{202e}b\": the file name holds a character that is not seen: U+202E",
            ),
            (
                "a\\nb",
                "\"a\\nb\": the file name holds a character that is not seen: U+000A",
            ),
        ] {
            let mut server = Server::plain();
            let json = format!("{{\"filename\": \"{name}\", \"filesize\": 1}}");
            server.sends(&framed(&json)).expect_dropped(why);
        }
        let mut server = Server::plain();
        let long = format!(
            "{{\"filename\": \"{}\", \"filesize\": 1}}",
            "x".repeat(60_000)
        );
        server
            .sends(&framed(&long))
            .expect_dropped("bytes more]\": the file name is longer than 255 bytes");
        let failed = server.bench.failed.expect("refused").to_string();
        assert!(failed.len() < 400, "{failed}");
        let mut server = Server::plain();
        server
            .sends(&framed(&format!("{:?}", "x".repeat(60_000))))
            .expect_dropped("it is a text");
        let failed = server.bench.failed.expect("refused").to_string();
        assert!(failed.len() < 100, "{failed}");
    }

    #[test]
    fn several_files_and_an_empty_one_come_on_one_connection() {
        let mut server = Server::plain();
        let body: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        server
            .sends(&file("big.bin", &body))
            .sends(&file("empty", b""))
            .sends(&file("../../etc/x.tar.gz", b"y"))
            .bench
            .peer_closes()
            .expect(b"")
            .expect_closed();
        server.expect_files(&[("big.bin", &body), ("empty", b""), ("x.tar.gz", b"y")]);
        assert_eq!(server.partials(), 0);
        assert_eq!(server.bench.metrics.files_stored, 3);
    }

    #[test]
    fn many_small_files_take_many_turns() {
        let mut server = Server::new(Handshake::None, |config| config.files_per_turn_max = 4);
        let began = server.bench.now;
        let all: Vec<u8> = (0..10).flat_map(|i| file(&format!("{i}"), b"")).collect();
        server.sends(&all);
        assert_eq!(server.files().len(), 10);
        // The bench gives each turn a microsecond: four files, four, and the other two.
        assert_eq!(server.bench.now - began, Duration::from_micros(2));
        server.bench.peer_closes().expect_closed();
    }

    #[test]
    fn the_last_bytes_may_come_with_the_end() {
        let mut server = Server::plain();
        server.bench.down.eof = true;
        server.sends(&file("a", b"abc")).bench.expect_closed();
        server.expect_files(&[("a", b"abc")]);
    }

    #[test]
    fn a_taken_name_is_versioned_replaced_or_refused() {
        let upload = |overwrite, count: u8| {
            let mut server = Server::new(Handshake::None, |c| c.overwrite = overwrite);
            for i in 0..count {
                server.again().sends(&file("a.txt", &[i]));
            }
            server
        };
        let server = upload(Overwrite::Version, 40);
        let files = server.files();
        assert_eq!(files.len(), 40);
        assert_eq!(files["a.txt"], [0]);
        for i in 1..40u8 {
            assert_eq!(files[&format!("a.{i}.txt")], [i]);
        }
        upload(Overwrite::Replace, 3).expect_files(&[("a.txt", &[2])]);
        let server = upload(Overwrite::Refuse, 2);
        server.expect_files(&[("a.txt", &[0])]);
        assert!(matches!(server.bench.failed, Some(Error::Refused(_))));
        assert_eq!(server.partials(), 0);
    }

    #[test]
    fn a_name_taken_while_the_file_came_is_not_lost() {
        let mut server = Server::plain();
        let bytes = file("a.txt", b"late");
        server.sends(&bytes[..bytes.len() - 1]);
        fs::write(server.config.dir.join("a.txt"), "first").expect("a file");
        server.sends(b"e");
        server.expect_files(&[("a.txt", b"first"), ("a.1.txt", b"late")]);
    }

    #[test]
    fn what_breaks_the_protocol_leaves_nothing() {
        let header = |json: &str| framed(json);
        for (bytes, why) in [
            ((-1i32).to_le_bytes().to_vec(), "negative"),
            (i32::MAX.to_le_bytes().to_vec(), "above the limit"),
            (header("{"), "not a JSON object"),
            (header("[]"), "not a JSON object"),
            (header("{}"), "no \"filename\""),
            (header(r#"{"filename": "a"}"#), "no \"filesize\""),
            (
                header(r#"{"filename": "a", "filesize": -1}"#),
                "it is negative",
            ),
            (
                header(r#"{"filename": "a", "filesize": 1001}"#),
                "above the limit of 1000",
            ),
            (header(r#"{"filename": "..", "filesize": 1}"#), "a dot"),
            (header(r#"{"filename": "a/", "filesize": 1}"#), "empty"),
            (
                header(r#"{"filename": ".partial", "filesize": 1}"#),
                "a dot",
            ),
        ] {
            let mut server = Server::new(Handshake::None, |c| c.file_bytes_max = 1000);
            server.sends(&bytes).expect_dropped(why);
        }
        let mut server = Server::new(Handshake::None, |c| c.file_bytes_max = u64::MAX);
        let huge = format!(r#"{{"filename": "a", "filesize": {}}}"#, u64::MAX / 2);
        server.sends(&header(&huge)).expect_dropped("has room for");
    }

    #[test]
    fn a_body_that_ends_early_leaves_nothing() {
        let mut server = Server::plain();
        let bytes = file("a", b"abcdef");
        server.sends(&bytes[..bytes.len() - 1]);
        assert_eq!(server.partials(), 1);
        server.bench.peer_closes();
        server.expect_dropped("ended within a after 5 of 6 bytes");
    }

    #[test]
    fn each_phase_has_its_time() {
        let seconds = Duration::from_secs;
        let timed_out = |server: &Server| match server.bench.failed {
            Some(Error::TimedOut(phase)) => Some(phase),
            _ => None,
        };
        // The handshake and a header are bounded as a whole: more bytes do not buy more time.
        let mut server = Server::new(Handshake::Sha1, |_| {});
        server.bench.later(seconds(6)).peer_sends(b"0");
        server.bench.later(seconds(4));
        assert_eq!(timed_out(&server), Some(Phase::Handshake));
        let mut server = Server::plain();
        let bytes = file("abc", b"abc");
        server.sends(&bytes[..1]).bench.later(seconds(6));
        server.sends(&bytes[1..2]).bench.later(seconds(4));
        assert_eq!(timed_out(&server), Some(Phase::Head));
        // A connection between files has its time anew, and so has a body that moves, if it may move slowly.
        let mut server = Server::new(Handshake::None, |config| config.body_rate_min = None);
        server.sends(&bytes[..bytes.len() - 2]);
        server.bench.later(seconds(59));
        server.sends(b"b").bench.later(seconds(59)).expect_open();
        server.bench.later(seconds(1));
        assert_eq!(timed_out(&server), Some(Phase::Body));
        server.expect_dropped("timed out");
        let mut server = Server::plain();
        server.bench.later(seconds(60));
        assert_eq!(timed_out(&server), Some(Phase::Idle));
    }

    #[test]
    fn a_drip_does_not_last() {
        let mut server = Server::new(Handshake::None, |config| {
            config.body_rate_min = NonZeroU32::new(10);
        });
        let bytes = file("a", &[b'x'; 1000]);
        let (head, body) = bytes.split_at(bytes.len() - 1000);
        server.sends(head);
        // At the rate asked for it goes on, and no faster client has more than `idle_timeout` in hand.
        for piece in body[..500].chunks(100) {
            server.bench.later(Duration::from_secs(10));
            server.sends(piece).bench.expect_open();
        }
        // A byte buys a tenth of a second, not another minute.
        server.bench.later(Duration::from_secs(59));
        server.sends(b"x").bench.expect_open();
        server.bench.later(Duration::from_secs(2));
        server.expect_dropped("timed out: body");
    }

    #[test]
    fn draining_finishes_the_file_under_way() {
        let mut server = Server::plain();
        let bytes = file("a", b"abcdef");
        server.sends(&bytes[..bytes.len() - 3]);
        server.bench.draining = true;
        server.bench.step();
        server.bench.expect_open();
        server.sends(b"def").bench.expect_closed();
        server.expect_files(&[("a", b"abcdef")]);
        assert_eq!(server.partials(), 0);
        let mut idle = Server::plain();
        idle.bench.draining = true;
        idle.bench.step();
        idle.bench.expect_closed();
    }

    #[test]
    fn what_a_crash_left_is_cleared_at_the_next_start() {
        let server = Server::new(Handshake::None, |config| {
            let partials = config.dir.join(PARTIAL);
            fs::create_dir_all(&partials).expect("a folder");
            fs::write(partials.join("7"), "half").expect("a file");
        });
        assert_eq!(server.partials(), 0);
    }

    #[test]
    fn a_start_beside_a_server_that_runs_leaves_its_files_alone() {
        let mut server = Server::plain();
        let bytes = file("a", b"abcdef");
        server.sends(&bytes[..bytes.len() - 3]);
        let mut second = connect(&server.config);
        second.peer_sends(&file("b", b"x"));
        drop(second);
        let third = connect(&server.config);
        assert_eq!(server.partials(), 1);
        server.sends(b"def").bench.expect_open();
        server.expect_files(&[("a", b"abcdef"), ("b", b"x")]);
        // The last to end need not be the first that began.
        fs::write(server.config.dir.join(PARTIAL).join("7"), "half").expect("a file");
        server.bench = third;
        server.again();
        assert_eq!(server.partials(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "").expect("a file");
        let mut config = UploadConfig::new(Handshake::None, SecretSource::Given(Secret::default()));
        config.dir = folder.path().join("file/uploads");
        let mut disk = Unix::new(false).expect("a poll");
        let error = Upload::new(&config, &mut disk).err().expect("an error");
        assert!(error.to_string().contains("file/uploads"), "{error}");
    }

    /// Everything that a client of a listener with login sends: two users' worth of files, one of them empty, and a header
    /// longer than a page.
    fn dialogue() -> Vec<u8> {
        let long = format!(
            "{{\"filename\": \"long\", \"filesize\": 2, \"note\": {:?}}}",
            "x".repeat(PAGE_BYTES + 10)
        );
        [
            LOGIN.to_vec(),
            file("a.txt", b"{\"x\"}"),
            file("empty", b""),
            framed(&long),
            b"ok".to_vec(),
        ]
        .concat()
    }

    fn outcome(pieces: &[&[u8]]) -> BTreeMap<String, Vec<u8>> {
        let mut server = Server::new(Handshake::None, with_login);
        for piece in pieces {
            server.sends(piece);
        }
        server
            .bench
            .peer_closes()
            .expect(login::ACCEPTED)
            .expect_closed();
        assert_eq!(server.partials(), 0);
        server.files()
    }

    #[test]
    fn no_cut_shows() {
        let all = dialogue();
        let expected = outcome(&[&all]);
        assert_eq!(expected.len(), 3);
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(outcome(&bytes), expected);
        // The long note is one place to cut as good as another.
        let cuts = (1..200).chain(all.len() - 20..all.len());
        for cut in cuts {
            assert_eq!(
                outcome(&[&all[..cut], &all[cut..]]),
                expected,
                "cut at {cut}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6)) {
            let mut server = Server::new(Handshake::None, |c| c.file_bytes_max = 100);
            for piece in pieces {
                server.sends(&piece);
            }
            server.bench.peer_closes();
            prop_assert!(server.bench.is_over());
            prop_assert_eq!(server.partials(), 0);
        }
    }
}
