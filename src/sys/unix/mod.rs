//! The real kernel: mio's poll for readiness, rustix for the system calls, libc for those that
//! rustix lacks.
//!
//! Sockets are plain descriptors registered by number, so that TCP and Unix streams are one type. A
//! call that a signal interrupted is made again.
//!
//! The files in reading order: this one (the poll, signals, and what is done to a stream in one
//! call), `sockets` (how a stream comes to be), `datagrams`, `bursts` (datagrams of clients that load a
//! server), `files`, `cached`, `engine` (how what may wait for a disk is done), `threads`, `ring`,
//! `flight`, `children` (commands), `supervisor` and `given` (what a service manager hears and gives), `identity` and `landlock` (who the process
//! is, and what it may reach), `memory` (pages that can go back to the system). `unsafe` stands
//! below this folder only: `recvmmsg`, `sendmmsg` and two socket options in `datagrams`, the descriptors in `given`, users and groups in `identity`, one `ioctl`
//! and one socket option in `sockets`, `cachestat` in `cached`, mapped memory in `memory`,
//! and in `ring` and `flight` memory that the kernel has for a while.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use rustix::pipe::{self, PipeFlags, SpliceFlags};
use rustix::process;
use rustls::RootCertStore;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use socket2::SockRef;

use super::{
    Batch, Bind, DatagramMemory, DatagramTuning, Event, GivenSocket, News, Signal, Sys, Unsent,
    error_log, log_limit,
};
use crate::disk::{Disk, File};
use crate::hooks::{End, HookId, Program};
use crate::jobs::{Done, Job, JobId};
use crate::limits::{DiskEngine, DiskLimits};
use crate::pipe::{Ends as PipeEnds, Pipe};
use crate::service::datagram::Outbox;
use crate::service::{Ends, Peer};

mod bursts;
mod cached;
mod children;
mod closer;
mod datagrams;
mod engine;
mod files;
mod flight;
mod given;
mod identity;
mod landlock;
pub mod memory;
mod ring;
#[cfg(test)]
mod scarce;
mod sockets;
mod supervisor;
mod sync_range;
mod threads;

pub use bursts::Bursts;
#[cfg(test)]
pub(crate) use cached::COLD;
use children::Children;
use datagrams::Messages;
use engine::Engine;
pub use files::Files;
use files::descriptor;
pub use given::Given;
pub use identity::Identity;
pub use landlock::{Reach, Sandbox};
#[cfg(test)]
pub use scarce::Scarce;
pub use sockets::Listener;
use supervisor::Supervisor;

/// Events taken from the kernel in one poll.
const EVENTS_MAX: usize = 1024;
/// The most that one `sendfile` is asked for; the kernel's own limit is just below 2 GiB.
const SENDFILE_BYTES_MAX: u64 = 1 << 30;
/// What a pipe is to hold: the most that anybody may ask for (`man 7 pipe`, pipe-max-size).
const PIPE_BYTES: usize = 1 << 20;
const SIGNALS: Token = Token(usize::MAX - 1);
const JOBS: Token = Token(usize::MAX - 2);
const CHILDREN: Token = Token(usize::MAX - 3);

/// The real kernel.
pub struct Unix {
    poll: Poll,
    events: mio::Events,
    signals: Option<Signals>,
    /// An event told of signals that were not all taken yet.
    signalled: bool,
    /// Given up for a moment when the process is out of descriptors, to be able to turn a client
    /// away.
    spare: Option<OwnedFd>,
    receiving: Messages,
    sending: Messages,
    /// The kernel took a batch with `UDP_SEGMENT`; cleared when it refuses one.
    segmentation: bool,
    files: Files,
    engine: Engine,
    children: Children,
    authorities: Option<Arc<RootCertStore>>,
    supervisor: Supervisor,
    given: Given,
}

impl Unix {
    /// Opens the poll. With `signals`, SIGTERM, SIGINT, SIGHUP and SIGUSR1 are taken over and told
    /// by [`Sys::signal`]; SIGPIPE is ignored by Rust's runtime already.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)` and `sigaction(2)`.
    pub fn new(signals: bool) -> io::Result<Self> {
        Self::with_engine(signals, &DiskLimits::default())
    }

    /// The same, with jobs done as the configuration says.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)`, `sigaction(2)` and `eventfd(2)`; or io_uring is asked for, and
    /// the kernel refuses it.
    pub fn with_engine(signals: bool, disk: &DiskLimits) -> io::Result<Self> {
        let poll = Poll::new()?;
        let engine = Engine::new(disk, &poll, JOBS)?;
        let signals = if signals {
            let mut source = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
            poll.registry()
                .register(&mut source, SIGNALS, Interest::READABLE)?;
            Some(source)
        } else {
            None
        };
        Ok(Self {
            poll,
            events: mio::Events::with_capacity(EVENTS_MAX),
            signals,
            signalled: false,
            spare: spare().ok(),
            receiving: Messages::new(),
            sending: Messages::new(),
            segmentation: true,
            files: Files::default(),
            engine,
            children: Children::default(),
            authorities: None,
            supervisor: Supervisor::default(),
            given: Given::default(),
        })
    }

    /// Tells the service manager that the environment names how the process is.
    pub fn supervised(mut self) -> Self {
        self.supervisor = Supervisor::of_environment();
        self
    }

    /// Whoever listens at the address of one of these sockets gets it.
    pub fn with_given(mut self, given: Given) -> Self {
        self.given = given;
        self
    }

    /// The sockets that were given.
    pub fn given(&mut self) -> &mut Given {
        &mut self.given
    }

    /// How jobs are done.
    pub fn engine(&self) -> DiskEngine {
        self.engine.kind()
    }

    fn register_fd(&self, fd: &OwnedFd, token: u64, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(
            &mut SourceFd(&fd.as_raw_fd()),
            Token(token as usize),
            interest,
        )
    }
}

/// Lets the process have as many descriptors as it may: the soft limit is often 1,024, for the sake
/// of programs that use `select(2)`. How many that is; `None` where there is no limit.
///
/// # Errors
/// Those of `setrlimit(2)`.
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let limits = process::getrlimit(process::Resource::Nofile);
    if limits.current != limits.maximum {
        let current = limits.maximum;
        process::setrlimit(
            process::Resource::Nofile,
            process::Rlimit { current, ..limits },
        )?;
    }
    Ok(limits.maximum)
}

fn spare() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| {
        fs::open("/dev/null", flags, Mode::empty())
    })?)
}

impl Sys for Unix {
    type Listener = Listener;
    type Stream = OwnedFd;
    type Datagram = OwnedFd;

    fn disk(&mut self) -> &mut dyn Disk {
        &mut self.files
    }

    fn start(&mut self, id: JobId, job: Job) {
        self.engine.start(id, job);
    }

    fn finished(&mut self) -> Option<(JobId, Job, io::Result<Done>)> {
        self.engine.finished()
    }

    fn spawn(&mut self, id: HookId, program: Program) {
        self.children.spawn(id, program, &self.poll, CHILDREN);
    }

    fn kill(&mut self, id: HookId) {
        self.children.kill(id);
    }

    fn exited(&mut self) -> Option<(HookId, End)> {
        self.children.exited(&self.poll, CHILDREN)
    }

    fn authorities(&mut self) -> Arc<RootCertStore> {
        let read = || {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        };
        Arc::clone(self.authorities.get_or_insert_with(read))
    }

    fn given_sockets(&mut self) -> Vec<GivenSocket> {
        self.given.sockets()
    }

    fn close_given(&mut self, number: i32) -> bool {
        self.given.close(number)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = self.engine.patience(timeout);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            if event.token() == SIGNALS {
                self.signalled = true;
            } else if event.token() == JOBS {
                self.engine.told = true;
            } else if event.token() == CHILDREN {
                self.children.told = true;
            } else {
                events.push(Event {
                    token: event.token().0 as u64,
                    readable: event.is_readable() || event.is_error(),
                    writable: event.is_writable() || event.is_error(),
                    read_closed: event.is_read_closed() || event.is_error() || event.is_priority(),
                });
            }
        }
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        if !self.signalled {
            return None; // looking takes a system call, and this is asked every turn
        }
        match self.signals.as_mut()?.pending().next() {
            Some(SIGHUP) => Some(Signal::Reload),
            Some(SIGUSR1) => Some(Signal::Reopen),
            Some(_) => Some(Signal::Terminate),
            None => {
                self.signalled = false;
                None
            }
        }
    }

    fn tell(&mut self, news: &News) -> bool {
        self.supervisor.tell(news)
    }

    fn watchdog(&self) -> Option<Duration> {
        self.supervisor.watchdog()
    }

    fn listen(
        &mut self,
        bind: &Bind,
        backlog: i32,
        client_first: bool,
        token: u64,
    ) -> io::Result<(Listener, Bind)> {
        let (listener, bound) = match self.given.lend(true, bind) {
            Some(socket) => match Listener::given(socket, bind, client_first) {
                Ok(listener) => (listener, bind.clone()),
                Err((socket, error)) => {
                    self.given.take_back(socket, &self.poll);
                    return Err(error);
                }
            },
            None => Listener::open(bind, backlog, client_first)?,
        };
        self.register_fd(&listener.socket, token, Interest::READABLE)?;
        Ok((listener, bound))
    }

    fn accept(&mut self, listener: &Listener) -> io::Result<(OwnedFd, Peer)> {
        listener.accept()
    }

    fn shed(&mut self, listener: &Listener) -> io::Result<()> {
        self.spare = None;
        let shed = retry_on_intr(|| net::accept(&listener.socket)).map(drop);
        self.spare = spare().ok();
        Ok(shed?)
    }

    fn unlisten(&mut self, listener: Listener) {
        // What is not a given one is closed, which takes it out of the poll as well.
        self.given.take_back(listener.socket, &self.poll);
    }

    fn register(&mut self, stream: &OwnedFd, token: u64) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.register_fd(stream, token, interest)
    }

    fn connect(&mut self, to: SocketAddr, token: u64) -> io::Result<OwnedFd> {
        let stream = sockets::connect(to)?;
        self.register(&stream, token)?;
        Ok(stream)
    }

    fn connected(&mut self, stream: &OwnedFd) -> io::Result<Option<Ends>> {
        sockopt::socket_error(stream)??;
        match net::getpeername(stream) {
            Ok(peer) => Ok(Some(Ends {
                local: sockets::local_address(stream)?,
                peer: sockets::inet_address(peer)?,
            })),
            Err(Errno::NOTCONN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    #[inline]
    fn recv(&mut self, stream: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| net::recv(stream, &mut *into, RecvFlags::empty()))?.0)
    }

    fn peek(&mut self, stream: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| net::recv(stream, &mut *into, RecvFlags::PEEK))?.0)
    }

    #[inline]
    fn send(&mut self, stream: &OwnedFd, bytes: &[u8], more: bool) -> io::Result<usize> {
        Ok(retry_on_intr(|| {
            net::send(stream, bytes, send_flags(more))
        })?)
    }

    fn send_many(
        &mut self,
        stream: &OwnedFd,
        runs: &[IoSlice<'_>],
        more: bool,
    ) -> io::Result<usize> {
        let mut none = SendAncillaryBuffer::default();
        let flags = send_flags(more);
        Ok(retry_on_intr(|| {
            net::sendmsg(stream, runs, &mut none, flags)
        })?)
    }

    fn send_file(
        &mut self,
        stream: &OwnedFd,
        file: &File,
        offset: u64,
        len: u64,
    ) -> io::Result<usize> {
        let (mut offset, file) = (offset, descriptor(file)?);
        let count = len.min(SENDFILE_BYTES_MAX) as usize;
        // Interrupted, it has sent nothing: else it tells how much.
        Ok(retry_on_intr(|| {
            fs::sendfile(stream, file, Some(&mut offset), count)
        })?)
    }

    fn waiting(&mut self, stream: &OwnedFd) -> usize {
        let waiting = rustix::io::ioctl_fionread(stream).unwrap_or(0);
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    fn pipe(&mut self) -> io::Result<Pipe> {
        let (output, input) = pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Who has many pipes gets no large ones, and by small ones it takes longer than by copying
        // (`man 7 pipe`, pipe-user-pages-soft).
        pipe::fcntl_setpipe_size(&input, PIPE_BYTES)?;
        Ok(Pipe::new(PipeEnds::Kernel { output, input }))
    }

    fn splice_in(&mut self, stream: &OwnedFd, pipe: &Pipe, bytes_max: usize) -> io::Result<usize> {
        splice(stream, ends(pipe)?.1, bytes_max)
    }

    fn splice_out(&mut self, pipe: &Pipe, stream: &OwnedFd, bytes: usize) -> io::Result<usize> {
        splice(ends(pipe)?.0, stream, bytes)
    }

    fn close_pipe(&mut self, pipe: Pipe) {
        drop(pipe);
    }

    fn unsent(&mut self, stream: &OwnedFd) -> u64 {
        sockets::unsent(stream)
    }

    fn hold_at_most(&mut self, stream: &OwnedFd, bytes: u32) {
        // Best effort: a Unix socket has no such option and holds little anyhow.
        let _ = SockRef::from(stream).set_tcp_notsent_lowat(bytes);
    }

    fn shutdown(&mut self, stream: &OwnedFd) -> io::Result<()> {
        Ok(net::shutdown(stream, Shutdown::Write)?)
    }

    fn close(&mut self, stream: OwnedFd) {
        drop(stream); // close(2) takes it out of the poll as well
    }

    fn abort(&mut self, stream: OwnedFd) {
        // Best effort: a Unix socket has no reset. `man 7 socket` tells of SO_LINGER, not that a
        // time of zero resets.
        let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
        drop(stream);
    }

    fn bind_datagram(&mut self, bind: SocketAddr, token: u64) -> io::Result<(OwnedFd, SocketAddr)> {
        let (socket, bound) = match self.given.lend(false, &Bind::Inet(bind)) {
            Some(socket) => (socket, bind),
            None => datagrams::bind(bind)?,
        };
        self.register_fd(&socket, token, Interest::READABLE)?;
        Ok((socket, bound))
    }

    fn connect_datagram(&mut self, to: SocketAddr, token: u64) -> io::Result<OwnedFd> {
        let socket = datagrams::connect(to)?;
        self.register_fd(&socket, token, Interest::READABLE)?;
        Ok(socket)
    }

    fn tune_datagram(&mut self, socket: &OwnedFd, tuning: &DatagramTuning) {
        datagrams::tune(socket, tuning);
    }

    fn datagram_memory(&self, socket: &OwnedFd) -> Option<DatagramMemory> {
        datagrams::memory(socket)
    }

    fn recv_batch(&mut self, socket: &OwnedFd, batch: &mut Batch) -> io::Result<usize> {
        self.receiving.receive(socket, batch)
    }

    fn send_batch(&mut self, socket: &OwnedFd, batch: &Batch, out: &Outbox) -> Unsent {
        self.sending
            .send(socket, batch, out, &mut self.segmentation)
    }

    fn close_datagram(&mut self, socket: OwnedFd) {
        self.given.take_back(socket, &self.poll);
    }

    #[inline]
    fn flush_log(&mut self) {
        log_limit::flush();
        error_log::flush();
    }

    fn log_dropped(&self) -> u64 {
        error_log::dropped()
    }
}

/// The ends of a pipe: to read from, and to write to.
fn ends(pipe: &Pipe) -> io::Result<(&OwnedFd, &OwnedFd)> {
    match pipe.ends() {
        PipeEnds::Kernel { output, input } => Ok((output, input)),
        PipeEnds::Simulated(_) => Err(io::Error::other("a pipe of the simulated kernel")),
    }
}

/// `splice(2)` between a socket and a pipe. The pages are the kernel's and move, where they can.
fn splice(from: &OwnedFd, to: &OwnedFd, bytes_max: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(retry_on_intr(|| {
        pipe::splice(from, None, to, None, bytes_max, flags)
    })?)
}

fn send_flags(more: bool) -> SendFlags {
    if more {
        SendFlags::NOSIGNAL | SendFlags::MORE
    } else {
        SendFlags::NOSIGNAL
    }
}
