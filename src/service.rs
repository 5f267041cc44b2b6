//! The contract between the reactor and a protocol. Read this file first.
//!
//! A protocol is a [`Service`]: a factory of per-connection states and one method, [`Service::advance`], that
//! takes a state as far as the facts allow. The reactor calls it after any fact changed: bytes arrived, the peer
//! finished, room was freed, an answer came, a deadline passed. Four rules make that enough:
//!
//! 1. **`advance` is idempotent.** It looks at the facts in [`Io`], does everything they allow, and returns. Called
//!    again with nothing new, it changes nothing. It never waits and never asks *which* fact changed.
//! 2. **Input is consumed only when its output has room.** Ask [`SendQueue::has_room`], and return if there is none:
//!    the reactor calls again once there is. That is the whole of backpressure.
//! 3. **Every state has a deadline**, derived from the state by [`Service::deadline`]. When it has passed, `advance`
//!    is called with `now` at or beyond it and must leave the state with a later one, close, or fail. It is in force
//!    while nothing waits to be sent to the client; a client that does not take what waits is cut by the reactor's own
//!    write time-out. An origin that takes nothing is the protocol's to give up: it can still answer the client.
//! 4. **What takes time is asked for until it is there**: [`Io::resolve`] and [`Io::connect`] return
//!    [`Poll::Pending`] until they return [`Poll::Ready`]; a protocol reads downwards, each step
//!    `let Poll::Ready(x) = io.resolve(name) else { return Ok(()) }`.
//!
//! A protocol never sees a socket, a descriptor, an interest set or a clock, so it can be tested in memory, fuzzed
//! and simulated. How a session ends:
//!
//! ```text
//! io.down.finish()   no more from us on that side; what the peer sends is still read
//! io.close()         send what is queued, shut down, read and drop what still comes (bounded), close
//! io.close_as(why)   the same, counted as a time-out or a refusal
//! Err(error)         drop the session now; one log line, one counter; a reset where an end would make a message whole
//! ```
//!
//! Not here: how bytes reach the buffers (`reactor::session`) or what the kernel is asked ([`crate::sys`]).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use crate::buffer::{File, Pool, RecvBuf, SendQueue};
use crate::dns::{Addresses, Failure, Resolver};
use crate::metrics::{ListenerMetrics, Metrics};

/// A protocol over a byte stream.
pub trait Service {
    /// The state of one connection.
    type Conn;

    /// The client speaks first: a connection is accepted when its first bytes are there, and they are read at once. One
    /// that stays silent is accepted about a second later.
    const CLIENT_FIRST: bool = false;

    /// A connection was accepted: its first state. `io` is there for a greeting; `advance` follows at once.
    fn accept(&mut self, peer: &Peer, now: Instant) -> Self::Conn;

    /// Takes the state as far as the facts in `io` allow. See the module's rules.
    ///
    /// # Errors
    /// Why the session is to be dropped at once.
    fn advance(&mut self, conn: &mut Self::Conn, io: &mut Io<'_>) -> Result<(), Error>;

    /// Until when this state may last.
    fn deadline(&self, conn: &Self::Conn) -> Instant;

    /// The session is over, for whatever reason: what must be undone is undone here. `now` is the moment of the turn.
    fn ended(&mut self, _conn: Self::Conn, _disk: &mut dyn Disk, _now: Instant) {}

    /// The end of a turn in which a session called [`Io::at_turn_end`]: what is better done once for all of them.
    fn turn_ended(&mut self, _disk: &mut dyn Disk, _metrics: &mut Metrics) {}

    /// Files that are written to were moved away: open them anew, under the same paths.
    fn reopen(&mut self, _disk: &mut dyn Disk) {}
}

/// A protocol over datagrams: one state for the whole socket.
pub trait DatagramService {
    /// A datagram arrived: `io.payload` may be changed in place and sent back from there.
    fn receive(&mut self, io: &mut DatagramIo<'_>);

    /// The deadline passed: answer what was delayed, declare dead who was silent.
    fn advance(&mut self, _out: &mut Outbox, _now: Instant, _metrics: &mut ListenerMetrics) {}

    /// When `advance` is to be called, if ever.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// Which half of a session: towards the client that came to us, or the server that we went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the client.
    Down,
    /// Towards the origin server; only a proxy has one.
    Up,
}

/// One direction pair of a session: what arrived, what is to be sent, and how the socket stands.
#[derive(Debug)]
pub struct Link {
    /// What arrived and was not consumed.
    pub rx: RecvBuf,
    /// What is to be sent.
    pub tx: SendQueue,
    /// The peer sent its last byte; what is in `rx` is the rest.
    pub eof: bool,
    /// Whether our last byte was queued, and sent.
    pub finish: Finish,
    /// How the socket stands.
    pub status: Status,
    /// To the peer, the end of our stream says that what came before is whole, as with a body without length: if the session
    /// is dropped, the connection is reset instead.
    pub end_is_framing: bool,
}

impl Link {
    /// A link with a send queue of `send_bytes_max` bytes in memory.
    pub fn new(status: Status, send_bytes_max: u32) -> Self {
        Self {
            rx: RecvBuf::default(),
            tx: SendQueue::new(send_bytes_max),
            eof: false,
            finish: Finish::Open,
            status,
            end_is_framing: false,
        }
    }

    /// No more will be put into `tx`: the peer is to see the end of our stream after what is queued.
    pub fn finish(&mut self) {
        if self.finish == Finish::Open {
            self.finish = Finish::Wanted;
        }
    }

    /// Whether nothing more will arrive: the end was seen and everything before it consumed.
    pub fn is_drained(&self) -> bool {
        self.eof && self.rx.is_empty()
    }
}

/// How far the end of our stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// More may be sent.
    Open,
    /// The socket is shut down for writing once the queue is empty.
    Wanted,
    /// It is.
    Sent,
}

/// How the socket of a side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is none.
    Closed,
    /// A connection is being made.
    Connecting,
    /// It carries bytes.
    Open,
    /// It could not be made or it broke. `rx` holds what came before.
    Failed(io::ErrorKind),
}

/// What one session may see and ask during one call of [`Service::advance`]. The fields are public so that several can
/// be borrowed at once: `io.down.tx.put(bytes, io.pool)`.
pub struct Io<'a> {
    /// The moment of this turn.
    pub now: Instant,
    /// The same by the wall clock, for dates and file names only.
    pub wall: SystemTime,
    /// The process is about to end: finish what is under way, begin nothing new.
    pub draining: bool,
    /// What was queued for the client when the session last parked has all been sent since: an idle time begins now.
    pub drained: bool,
    /// Towards the client.
    pub down: &'a mut Link,
    /// Towards the origin.
    pub up: &'a mut Link,
    /// Where pages come from.
    pub pool: &'a mut Pool,
    /// Files and entropy.
    pub disk: &'a mut dyn Disk,
    /// Names to addresses; asked through [`Io::resolve`].
    pub resolver: &'a mut Resolver<Id>,
    /// What is counted.
    pub metrics: &'a mut Metrics,
    /// The place of this session's listener in `metrics.listeners`.
    pub listener: usize,
    /// Which session this is.
    pub id: Id,
    /// What was asked of the reactor; started after the call.
    pub asked: &'a mut Asked,
}

impl Io<'_> {
    /// Ends the session in good order: what is queued is sent, the stream is shut down, and what the peer still sends is
    /// read and dropped within bounds, so that no reset overtakes the last answer.
    pub fn close(&mut self) {
        self.asked.close = true;
    }

    /// The same for a session that is not done: how it is counted.
    pub fn close_as(&mut self, ending: Ending) {
        self.asked.close = true;
        self.asked.ending = ending;
    }

    /// There is more to do than this turn has time for: `advance` is called again in the next one, behind all others.
    pub fn again(&mut self) {
        self.asked.again = true;
    }

    /// Whether [`Io::again`] was called.
    pub fn is_again(&self) -> bool {
        self.asked.again
    }

    /// [`Service::turn_ended`] is to be called at the end of this turn.
    pub fn at_turn_end(&mut self) {
        self.asked.turn_end = true;
    }

    /// As [`Io::close`], for a peer that said it will send nothing more and whose every byte was read: no end is waited
    /// for, which saves two system calls. Where that turns out to be wrong, it is an ordinary close.
    pub fn close_at_once(&mut self) {
        self.asked.close = true;
        self.asked.at_once = true;
    }

    /// The addresses of `name`; asked again until it answers.
    pub fn resolve(&mut self, name: &str) -> Poll<Result<Addresses, Failure>> {
        self.resolver.lookup(name, self.id, self.now)
    }

    /// A connection to the first of `addresses` that takes one; asked again until it answers. Each address gets its share
    /// of `timeout`.
    pub fn connect(
        &mut self,
        addresses: &[SocketAddr],
        timeout: Duration,
    ) -> Poll<Result<(), io::ErrorKind>> {
        match self.up.status {
            Status::Open => Poll::Ready(Ok(())),
            Status::Failed(kind) => Poll::Ready(Err(kind)),
            Status::Connecting => Poll::Pending,
            Status::Closed => {
                if self.asked.connect.is_none() {
                    self.asked.connect = Some((addresses.to_vec(), timeout));
                }
                Poll::Pending
            }
        }
    }

    /// Drops the connection to the origin, made or being made, with all that was received and queued. `io.up` is `Closed`
    /// at once, so that another connection may be asked for.
    pub fn disconnect(&mut self) {
        if self.up.status != Status::Closed {
            self.asked.disconnect = true;
            self.up.rx.clear();
            self.up.rx.release(self.pool);
            self.up.tx.clear(self.pool);
            self.up.eof = false;
            self.up.finish = Finish::Open;
            self.up.status = Status::Closed;
        }
    }
}

/// What a call of `advance` asked of the reactor.
#[derive(Debug, Default)]
pub struct Asked {
    pub(crate) close: bool,
    pub(crate) ending: Ending,
    pub(crate) again: bool,
    pub(crate) turn_end: bool,
    pub(crate) at_once: bool,
    pub(crate) disconnect: bool,
    pub(crate) connect: Option<(Vec<SocketAddr>, Duration)>,
}

impl Asked {
    /// Whether nothing was asked: the session goes on as it is.
    pub fn is_empty(&self) -> bool {
        !self.close && !self.again && !self.disconnect && self.connect.is_none()
    }
}

/// Why a session ends in good order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Both sides are done.
    #[default]
    Done,
    /// A deadline passed; where the peer waits for an answer, it was told.
    TimedOut(Phase),
    /// The peer broke the protocol or is beyond a limit, and was told.
    Refused,
}

/// Which session: an index that is used again, and the generation that tells one user from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Index into the slab of sessions.
    pub index: u32,
    /// Counts the sessions of the process.
    pub generation: u32,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A TCP address.
    Inet(SocketAddr),
    /// A Unix stream socket; its user has no address.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Inet(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

/// Why a session was dropped. An answer such as 400 or 502 is no error: it is ordinary output followed by
/// [`Io::close`].
#[derive(Debug)]
pub enum Error {
    /// A deadline passed.
    TimedOut(Phase),
    /// The peer broke the protocol; the text says what was expected and what came.
    Protocol(String),
    /// The peer may not do that; the text says what.
    Refused(String),
    /// The connection broke.
    Reset(io::ErrorKind),
    /// A file could not be read or written; the text names it.
    Disk(String, io::Error),
    /// A file was changed while it was sent: what the peer has is short, and shows it.
    Changed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TimedOut(phase) => write!(f, "timed out: {}", phase.name()),
            Error::Protocol(text) => write!(f, "protocol: {text}"),
            Error::Refused(text) => write!(f, "refused: {text}"),
            Error::Reset(kind) => write!(f, "connection broke: {kind}"),
            Error::Disk(what, error) => write!(f, "{what}: {error}"),
            Error::Changed => f.write_str("the file changed while it was sent, so it ends short"),
        }
    }
}

impl std::error::Error for Error {}

/// What a session was waiting for when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The next request or message of an open connection.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// The peer to take what was sent.
    Write,
    /// The answer to a challenge or a login.
    Handshake,
    /// A connection to an origin.
    Connect,
    /// An origin's answer.
    Upstream,
    /// The peer's end of a closed connection.
    Linger,
    /// The end of the process.
    Drain,
}

impl Phase {
    /// All of them, in the order of their numbers.
    pub const ALL: [Phase; 9] = [
        Phase::Idle,
        Phase::Head,
        Phase::Body,
        Phase::Write,
        Phase::Handshake,
        Phase::Connect,
        Phase::Upstream,
        Phase::Linger,
        Phase::Drain,
    ];

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Head => "head",
            Phase::Body => "body",
            Phase::Write => "write",
            Phase::Handshake => "handshake",
            Phase::Connect => "connect",
            Phase::Upstream => "upstream",
            Phase::Linger => "linger",
            Phase::Drain => "drain",
        }
    }
}

/// One datagram and the ways to answer it.
pub struct DatagramIo<'a> {
    /// The moment of this turn.
    pub now: Instant,
    /// The same by the wall clock.
    pub wall: SystemTime,
    /// Who sent it.
    pub from: SocketAddr,
    /// Its bytes; changed in place and sent back by [`DatagramIo::echo`] without a copy.
    pub payload: &'a mut [u8],
    /// Where answers go.
    pub out: &'a mut Outbox,
    /// What is counted of this listener.
    pub metrics: &'a mut ListenerMetrics,
    pub(crate) slot: usize,
}

impl DatagramIo<'_> {
    /// Answers with the payload as it now stands.
    pub fn echo(&mut self) {
        self.out.replies.push(Reply {
            to: self.from,
            bytes: ReplyBytes::Slot(self.slot, self.payload.len()),
        });
    }

    /// Answers with other bytes.
    pub fn reply(&mut self, bytes: &[u8]) {
        self.out.send(self.from, bytes);
    }
}

/// Datagrams to be sent with the next batch.
#[derive(Debug, Default)]
pub struct Outbox {
    pub(crate) replies: Vec<Reply>,
    pub(crate) arena: Vec<u8>,
}

/// One datagram to be sent.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) to: SocketAddr,
    pub(crate) bytes: ReplyBytes,
}

/// Where its bytes stand.
#[derive(Debug)]
pub(crate) enum ReplyBytes {
    /// In the slot that it arrived in.
    Slot(usize, usize),
    /// In the outbox's arena: offset and length.
    Arena(usize, usize),
}

impl Outbox {
    /// Sends a copy of `bytes`.
    pub fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.replies.push(Reply {
            to,
            bytes: ReplyBytes::Arena(start, bytes.len()),
        });
    }

    /// Forgets everything, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.replies.clear();
        self.arena.clear();
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Bytes.
    Regular,
    /// Names.
    Folder,
    /// A device, pipe or socket: never served.
    Other,
}

/// What is known of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub len: u64,
    /// When its contents last changed.
    pub modified: SystemTime,
    /// Device and inode: two files are the same if these are.
    pub identity: (u64, u64),
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: PathBuf,
    /// What it leads to, symbolic links within the root followed.
    pub metadata: Metadata,
}

/// Files, as a protocol may use them: always below a folder that was opened before, never outside it. Every call is one
/// that the page cache serves in microseconds; nothing here waits for a disk on purpose.
///
/// Errors are those of the system call of the same name (`man 2 openat2`, `man 2 renameat2` …).
pub trait Disk {
    /// Opens a folder by a path from the configuration.
    fn open_folder(&mut self, path: &Path) -> io::Result<File>;

    /// Opens `path` for reading below `root`. No `..`, absolute path or symbolic link leads out of it
    /// (`RESOLVE_BENEATH`): such a path fails with [`io::ErrorKind::CrossesDevices`].
    fn open(&mut self, root: &File, path: &Path) -> io::Result<File>;

    /// What is known of an open file.
    fn metadata(&mut self, file: &File) -> io::Result<Metadata>;

    /// Reads into `into` from `offset`; the number of bytes read, 0 at the end.
    fn read_at(&mut self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// The names in an open folder, in no order.
    fn entries(&mut self, folder: &File) -> io::Result<Vec<Entry>>;

    /// Some of the names in an open folder, without `.` and `..`: those from the place `from` on (0 is the first), as many
    /// as one call brings. The place of the next, or `None` after the last.
    fn names(
        &mut self,
        folder: &File,
        _from: u64,
        into: &mut Vec<PathBuf>,
    ) -> io::Result<Option<u64>> {
        into.extend(self.entries(folder)?.into_iter().map(|entry| entry.name));
        Ok(None)
    }

    /// What is known of the file that `path` leads to below `root`, whether or not it may be read.
    fn look(&mut self, root: &File, path: &Path) -> io::Result<Metadata> {
        let file = self.open(root, path)?;
        self.metadata(&file)
    }

    /// Opens a file by a path from the configuration, to write behind its end; it is made if it is not there.
    fn open_log(&mut self, _path: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Standard error, to write to.
    fn standard_error(&mut self) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes behind the end of what [`Disk::open_log`] or [`Disk::standard_error`] opened; the number of bytes written.
    /// Where that is a pipe or a terminal that takes nothing now, it fails with [`io::ErrorKind::WouldBlock`].
    fn append(&mut self, _file: &File, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a new file for writing below `root`; fails if the name is taken.
    fn create(&mut self, root: &File, path: &Path) -> io::Result<File>;

    /// Makes a folder below `root`, unless it is there.
    fn create_folder(&mut self, root: &File, path: &Path) -> io::Result<()>;

    /// Takes the lock of an open folder (`man 2 flock`) alone; whether that worked, because nobody else had it. It is given
    /// back when the folder is closed.
    fn lock_alone(&mut self, _folder: &File) -> io::Result<bool> {
        Ok(true)
    }

    /// Shares the lock of an open folder with others, instead of having it alone. Waits while another process has it alone,
    /// so it is for the start.
    fn lock_shared(&mut self, _folder: &File) -> io::Result<()> {
        Ok(())
    }

    /// Writes `bytes` at `offset`; the number of bytes written.
    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Gives a file another name in one step; an existing file of that name is replaced only if `replace`.
    fn rename(&mut self, root: &File, from: &Path, to: &Path, replace: bool) -> io::Result<()>;

    /// Removes a name.
    fn remove(&mut self, root: &File, path: &Path) -> io::Result<()>;

    /// Bytes that may still be written to the disk that holds `root`.
    fn free_bytes(&mut self, root: &File) -> io::Result<u64>;

    /// Fills `into` with random bytes fit for secrets.
    fn entropy(&mut self, into: &mut [u8]);
}
