//! The only doors out of the process: everything that the reactor asks of the kernel stands in the
//! trait [`Sys`].
//!
//! There are two implementations, chosen at compile time: [`unix::Unix`] over mio's poll and the
//! system calls, and [`sim::Sim`], a simulated kernel that is edge-triggered, seeded and meaner
//! than a real one. A third one, [`record::Taped`], writes down what either of them answers, and
//! answers it again. The rules that all keep:
//!
//! 1. Readiness is told in edges. After an edge, a call is repeated until it would block, or until
//!    it transferred less than it was offered, before another edge can be relied on (`man 7 epoll`,
//!    "edge-triggered").
//! 2. Events may be stale, merged or spurious. A token that nobody has is ignored by the reactor.
//! 3. Nothing blocks but [`Sys::poll`].

mod append;
mod batch;
pub mod error_log;
mod given;
pub mod log_limit;
mod news;
pub mod record;
mod secure;
pub mod sim;
pub mod unix;

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::RootCertStore;

use crate::disk::{Disk, File};
use crate::hooks::{End, HookId, Program};
use crate::jobs::{Done, Job, JobId};
use crate::pipe::Pipe;
use crate::service::datagram::Outbox;
use crate::service::{Ends, Peer};
use crate::surroundings::Surroundings;
use crate::unread::Unread;

pub use batch::{Batch, Received, Unsent};
pub use given::GivenSocket;
pub use news::News;
pub use secure::{Role, Secure, SecureError, Transfer};

/// Bytes that the kernel takes for a client beyond what the client has room for, until it has shown
/// that it reads fast. 2,000 clients of slowhttptest that ask for large files and read a few bytes
/// took all of the kernel's memory for TCP (`tcp_mem`) without this, 2.2 GB, and new connections
/// failed; with it, 0.6 GB. Not a key: it is in force only while a client does not read fast, and
/// how much the kernel holds in all is the administrator's to say (`net.ipv4.tcp_mem`).
pub const UNTRUSTED_BYTES: u32 = 128 * 1024;

/// The kernel, as the reactor sees it.
pub trait Sys {
    /// A listening stream socket.
    type Listener;
    /// A connected, or connecting, stream socket; closed by [`Sys::close`].
    type Stream;
    /// A datagram socket.
    type Datagram;

    /// Files, by calls that may wait for a disk.
    fn disk(&mut self) -> &mut dyn Disk;

    /// Begins a job, at the latest when [`Sys::finished`] is called next, so that several can be
    /// begun by one call; that one tells of its end, at once or after an event.
    fn start(&mut self, id: JobId, job: Job);

    /// The next job that was done, if any: it comes back with what it owned, and what it came to.
    fn finished(&mut self) -> Option<(JobId, Job, io::Result<Done>)>;

    /// Runs a command; [`Sys::exited`] tells of its end, or that it could not be run.
    fn spawn(&mut self, id: HookId, program: Program);

    /// Ends a command that was begun and is not known to have ended, with the processes that it
    /// began; its end is told as ever.
    fn kill(&mut self, id: HookId);

    /// The next command that has ended, if any.
    fn exited(&mut self) -> Option<(HookId, End)>;

    /// The certificates of those whom this system trusts to vouch for servers. The first call reads
    /// them, and waits for the disk: it is made at start or reload.
    fn authorities(&mut self) -> Arc<RootCertStore> {
        Arc::new(RootCertStore::empty())
    }

    /// Lets `read` ask for what is no file of a service's and belongs to this process or system:
    /// what a configuration names, variables, interfaces. It may wait for the disk: it is called at
    /// start, at reload, or when a file of the resolver's settings has changed.
    fn surroundings(&mut self, read: &mut dyn FnMut(&Surroundings)) {
        read(&Surroundings::live());
    }

    /// The sockets that the process was given when it was started.
    fn given_sockets(&mut self) -> Vec<GivenSocket> {
        Vec::new()
    }

    /// Closes a socket that was given and that no listener wants; whether there was such.
    fn close_given(&mut self, _number: i32) -> bool {
        false
    }

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// The wall clock.
    fn wall(&self) -> SystemTime;

    /// Waits for events, at most `timeout` (`None`: for ever), and appends them to `events`.
    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()>;

    /// The next signal that arrived, if any.
    fn signal(&mut self) -> Option<Signal>;

    /// Tells the service manager, if there is one, and never waits for it; false if it did not take
    /// it.
    fn tell(&mut self, _news: &News) -> bool {
        true
    }

    /// Within what time the service manager wants to hear of a loop that turns; `None` if it does
    /// not.
    fn watchdog(&self) -> Option<Duration> {
        None
    }

    /// Listens on `bind`; the address that it got. `client_first`: connections whose first bytes
    /// have not arrived may be kept back for about a second.
    fn listen(
        &mut self,
        bind: &Bind,
        backlog: i32,
        client_first: bool,
        token: u64,
    ) -> io::Result<(Self::Listener, Bind)>;

    /// Takes the next connection. The socket is not registered yet.
    fn accept(&mut self, listener: &Self::Listener) -> io::Result<(Self::Stream, Peer)>;

    /// Out of descriptors (`EMFILE`): takes the next connection with the spare one and closes it,
    /// so that the client learns at once and the queue does not stay full.
    fn shed(&mut self, listener: &Self::Listener) -> io::Result<()>;

    /// Stops listening.
    fn unlisten(&mut self, listener: Self::Listener);

    /// Registers a stream once, for reading and writing, edge-triggered. An event follows for what
    /// is possible already.
    fn register(&mut self, stream: &Self::Stream, token: u64) -> io::Result<()>;

    /// Begins a connection and registers it. An event, readable or writable, follows when it is
    /// made or failed.
    fn connect(&mut self, to: SocketAddr, token: u64) -> io::Result<Self::Stream>;

    /// After an event of a connecting stream: its ends once it is made, `None` if it is not yet
    /// (the event was spurious), or why not.
    fn connected(&mut self, stream: &Self::Stream) -> io::Result<Option<Ends>>;

    /// Receives into `into`; 0 is the end of the stream.
    fn recv(&mut self, stream: &Self::Stream, into: &mut [u8]) -> io::Result<usize>;

    /// The same without taking it: it is received again.
    fn peek(&mut self, stream: &Self::Stream, into: &mut [u8]) -> io::Result<usize>;

    /// Sends one run of bytes. `more`: something follows at once, so a last partial segment may
    /// wait for it (`MSG_MORE`).
    fn send(&mut self, stream: &Self::Stream, bytes: &[u8], more: bool) -> io::Result<usize>;

    /// Sends several runs of bytes.
    fn send_many(
        &mut self,
        stream: &Self::Stream,
        runs: &[IoSlice<'_>],
        more: bool,
    ) -> io::Result<usize>;

    /// Sends a range of a file; 0 means that the file is shorter than that.
    fn send_file(
        &mut self,
        stream: &Self::Stream,
        file: &File,
        offset: u64,
        len: u64,
    ) -> io::Result<usize>;

    /// Bytes that a stream has received and that were not taken yet; 0 where the kernel does not
    /// know.
    fn waiting(&mut self, _stream: &Self::Stream) -> usize {
        0
    }

    /// An empty pipe, closed by [`Sys::close_pipe`]. An error where there is none to be had: then bytes are copied.
    fn pipe(&mut self) -> io::Result<Pipe>;

    /// Moves what a stream received into an empty pipe, at most `bytes_max`; 0 is the end of the
    /// stream. Less than that is no sign that nothing more is there: only that it would block is.
    fn splice_in(
        &mut self,
        stream: &Self::Stream,
        pipe: &Pipe,
        bytes_max: usize,
    ) -> io::Result<usize>;

    /// Sends `bytes` bytes that are in a pipe, or as many of them as there is room for.
    fn splice_out(&mut self, pipe: &Pipe, stream: &Self::Stream, bytes: usize)
    -> io::Result<usize>;

    /// Closes a pipe, with what is in it.
    fn close_pipe(&mut self, pipe: Pipe);

    /// Bytes that were sent and that the peer has not confirmed yet: what a slow one still has to
    /// take. 0 where the kernel does not know.
    fn unsent(&mut self, _stream: &Self::Stream) -> u64 {
        0
    }

    /// The kernel takes so many bytes for the peer beyond what the peer has room for, `u32::MAX`
    /// for as many as it sees fit; what it holds already stays. For a connection that was accepted
    /// it takes [`UNTRUSTED_BYTES`], or many clients that never read would take all of its memory.
    fn hold_at_most(&mut self, _stream: &Self::Stream, _bytes: u32) {}

    /// Shuts down for writing: the peer sees the end of the stream.
    fn shutdown(&mut self, stream: &Self::Stream) -> io::Result<()>;

    /// Closes.
    fn close(&mut self, stream: Self::Stream);

    /// Closes with a reset where the kind of socket has one: the peer cannot take it for the end of
    /// the stream. What was not sent yet is gone.
    fn abort(&mut self, stream: Self::Stream);

    /// Begins TLS on a connection, in either role; within another one, if one is spoken there.
    ///
    /// # Errors
    /// The configuration is wrong in itself.
    fn tls_begin(&mut self, role: &Role, outer: Option<Secure>) -> Result<Secure, SecureError> {
        Secure::begin(role, outer)
    }

    /// Takes records that came before: they were held back.
    fn tls_feed(&mut self, secure: &mut Secure, bytes: &[u8]) -> io::Result<()> {
        secure.feed(bytes)
    }

    /// Takes records from a stream, which may be a part of one; how many bytes, 0 at the end of the
    /// stream.
    fn tls_recv(&mut self, secure: &mut Secure, stream: &Self::Stream) -> Transfer {
        secure.recv(self, stream)
    }

    /// Makes plain bytes of the records that came. If they break the protocol, the peer is told by an
    /// alert, as far as the stream takes it at once.
    ///
    /// # Errors
    /// What is wrong with them.
    fn tls_open(&mut self, secure: &mut Secure, stream: &Self::Stream) -> Result<(), SecureError> {
        secure.open(self, stream)
    }

    /// Takes plain bytes; 0 at their end, [`io::ErrorKind::WouldBlock`] where more records are needed.
    fn tls_plain(&mut self, secure: &mut Secure, into: &mut [u8]) -> io::Result<usize> {
        secure.plain(into)
    }

    /// Makes records of plain bytes; how many it took, as its limit has it.
    fn tls_seal(&mut self, secure: &mut Secure, runs: &[IoSlice<'_>]) -> io::Result<usize> {
        secure.seal(runs)
    }

    /// Makes the record that tells the end.
    fn tls_end(&mut self, secure: &mut Secure) {
        secure.end();
    }

    /// Sends records that wait.
    fn tls_send(&mut self, secure: &mut Secure, stream: &Self::Stream) -> Transfer {
        secure.send(self, stream)
    }

    /// Binds a datagram socket; the address that it got.
    fn bind_datagram(
        &mut self,
        bind: SocketAddr,
        token: u64,
    ) -> io::Result<(Self::Datagram, SocketAddr)>;

    /// A datagram socket for one peer: what others send does not reach it, and that nobody is there
    /// is told by [`Sys::recv_batch`] ([`io::ErrorKind::ConnectionRefused`]), which Linux does not
    /// do for other sockets.
    fn connect_datagram(&mut self, to: SocketAddr, token: u64) -> io::Result<Self::Datagram>;

    /// Sizes the buffers of a datagram socket, as far as the kernel lets us; it may be called again.
    fn tune_datagram(&mut self, _socket: &Self::Datagram, _tuning: &DatagramTuning) {}

    /// What the kernel holds for a datagram socket, and what it dropped; `None` where it does not
    /// tell.
    fn datagram_memory(&self, _socket: &Self::Datagram) -> Option<DatagramMemory> {
        None
    }

    /// Receives into up to [`Batch::SLOTS`] slots; how many hold something now.
    fn recv_batch(&mut self, socket: &Self::Datagram, batch: &mut Batch) -> io::Result<usize>;

    /// Sends the replies of `out`; those that could not be sent. What the socket does not take now
    /// is dropped, as datagrams may be.
    fn send_batch(&mut self, socket: &Self::Datagram, batch: &Batch, out: &Outbox) -> Unsent;

    /// Closes a datagram socket.
    fn close_datagram(&mut self, socket: Self::Datagram);

    /// The end of a turn: what waits in the log of the process may leave now.
    fn flush_log(&mut self) {}

    /// Lines of that log that were dropped because nobody read them.
    fn log_dropped(&self) -> u64 {
        0
    }

    /// Whether it is to be told what of the bytes that came nobody looks at ([`Sys::unread`]). Only a
    /// record that leaves bodies out wants to know.
    #[inline]
    fn leaves_out(&self) -> bool {
        false
    }

    /// A service went on with what came by a stream: what nobody looks at, and how many bytes wait.
    fn unread(&mut self, _stream: &Self::Stream, _unread: &Unread, _waits: usize) {}

    /// Whether the reactor is to behave as if it had this bug: a test of the tests. The real
    /// kernel's answer is a constant, so the compiler drops the question.
    #[inline]
    fn planted(&self, _bug: PlantedBug) -> bool {
        false
    }
}

/// What a datagram socket is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramTuning {
    /// Bytes that the kernel is to hold of what arrived and was not received yet, its own overhead
    /// not counted.
    pub recv_buffer_bytes: usize,
    /// The same of what was sent and has not left yet.
    pub send_buffer_bytes: usize,
    /// Datagrams of one source that arrive together may be received together (`UDP_GRO`).
    pub receive_runs: bool,
}

/// What the kernel says of a datagram socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramMemory {
    /// As [`DatagramTuning::recv_buffer_bytes`].
    pub recv_buffer_bytes: usize,
    /// As [`DatagramTuning::send_buffer_bytes`].
    pub send_buffer_bytes: usize,
    /// Datagrams dropped because there was no room for them, since the socket was bound; it begins
    /// again after `u32::MAX`. A run that could have been received as one counts as one.
    pub drops: u32,
}

/// Bugs that event-driven servers have had, each with the place where it would live: in the
/// reactor, or in the kernel's engine for jobs. The simulation must find every one of them; see
/// `tests/simulation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedBug {
    /// A short read is taken for a drained socket although the end of the stream was told with it.
    EndOfStreamLost,
    /// A read that fills its buffer is taken for a drained socket.
    ReadableClearedOnFullRead,
    /// A socket that would block is still taken for writable.
    WritableNotCleared,
    /// A send that took everything is taken for a full socket.
    WritableClearedOnFullSend,
    /// Who was refused room is not called when there is some.
    RefusedRoomForgotten,
    /// An event for a session that ended goes to the next user of its place.
    StaleEventAccepted,
    /// A reminder that came too early is not repeated.
    DeadlineNotRearmed,
    /// The end of the client's stream is answered by dropping the session.
    HalfCloseDrops,
    /// A closed session does not wait for the client's end.
    LingerSkipped,
    /// Who waited for a name is not woken.
    NameWakeLost,
    /// An ended session keeps its pages.
    PagesKept,
    /// Out of descriptors, the listener waits for an edge that came already.
    AcceptEdgeLost,
    /// Who spent its budget is not queued again.
    BudgetForgets,
    /// A listener goes on listening while the process drains.
    DrainForgetsListener,
    /// A session's upstream socket is not closed with it.
    UpstreamKept,
    /// A file that changed while it waited to be sent is sent on.
    PromiseForgotten,
    /// Who may not come is let in.
    GateLeftOpen,
    /// Who spent its share of work is called again only for a new fact.
    ShareForgets,
    /// An ended session keeps its claims to jobs.
    JobsKept,
    /// The kernel ends no wait for a job that is done.
    JobWakeLost,
    /// The kernel tells the answer to a job, whose session may have ended, as that to the next user
    /// of its place.
    JobPlaceMixedUp,
    /// Who waits for what another one fetches is not woken.
    CacheForgetsToWake,
    /// A response that broke off is taken for whole.
    BrokenTakenForWhole,
    /// A session without a client does not end with its request.
    AloneKept,
    /// A write to a file that failed is taken for done.
    WriteFailureLost,
    /// What is to be forced to the disk is taken for sure without that.
    SyncForgotten,
    /// A pipe that a job left something in is lent again.
    PipeLentFull,
    /// A service is not called at the moment that it named: an upstream that is down is never taken
    /// back.
    MomentForgotten,
}

impl PlantedBug {
    /// Its name on the command line: `half-close-drops`.
    pub fn name(self) -> String {
        kebab(&format!("{self:?}"))
    }

    /// All of them.
    pub const ALL: [PlantedBug; 28] = [
        PlantedBug::EndOfStreamLost,
        PlantedBug::ReadableClearedOnFullRead,
        PlantedBug::WritableNotCleared,
        PlantedBug::WritableClearedOnFullSend,
        PlantedBug::RefusedRoomForgotten,
        PlantedBug::StaleEventAccepted,
        PlantedBug::DeadlineNotRearmed,
        PlantedBug::HalfCloseDrops,
        PlantedBug::LingerSkipped,
        PlantedBug::NameWakeLost,
        PlantedBug::PagesKept,
        PlantedBug::AcceptEdgeLost,
        PlantedBug::BudgetForgets,
        PlantedBug::DrainForgetsListener,
        PlantedBug::UpstreamKept,
        PlantedBug::PromiseForgotten,
        PlantedBug::GateLeftOpen,
        PlantedBug::ShareForgets,
        PlantedBug::JobsKept,
        PlantedBug::JobWakeLost,
        PlantedBug::JobPlaceMixedUp,
        PlantedBug::CacheForgetsToWake,
        PlantedBug::BrokenTakenForWhole,
        PlantedBug::AloneKept,
        PlantedBug::WriteFailureLost,
        PlantedBug::SyncForgotten,
        PlantedBug::PipeLentFull,
        PlantedBug::MomentForgotten,
    ];
}

/// `TwoWords` as `two-words`.
pub(crate) fn kebab(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// One edge: what became possible for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What the socket was registered with.
    pub token: u64,
    /// Bytes, a connection or the end of the stream may be there.
    pub readable: bool,
    /// There may be room.
    pub writable: bool,
    /// The peer sent its end, or the connection broke: a short read is no proof that the socket is
    /// drained. Nor is it where urgent data arrived, at whose mark Linux stops a read (a test in
    /// `tests/serve.rs`).
    pub read_closed: bool,
}

/// What the process was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// SIGTERM or SIGINT: end in good order; a second one ends at once.
    Terminate,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open the files that are written to anew.
    Reopen,
}

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bind {
    /// An address and port of TCP or UDP.
    Inet(SocketAddr),
    /// A Unix stream socket at a path.
    Unix(PathBuf),
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Inet(address) => address.fmt(f),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
