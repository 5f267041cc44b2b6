//! The real kernel: mio's poll for readiness, rustix for the system calls, libc for the two that rustix lacks.
//!
//! All `unsafe` of the crate stands in the last part of this file: `recvmmsg` and `sendmmsg`, whose arrays of headers
//! point at one another, one `ioctl` and one socket option.
//!
//! Sockets are plain descriptors registered by number, so that TCP and Unix streams are one type. Options are set once on
//! the listening socket: Linux copies `TCP_NODELAY`, `TCP_NOTSENT_LOWAT` and `SO_OOBINLINE` to the sockets it accepts (checked by a test
//! below), which saves a system call for each connection.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::fs::{
    self, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    self, AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags,
    SocketType, sockopt,
};
use rustix::process;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use socket2::SockRef;

use super::{Batch, Bind, Event, Signal, Sys, Unsent, append, error_log};
use crate::disk::{Disk, Entry, File, FileKind, Handle, Metadata};
use crate::service::Peer;
use crate::service::datagram::{Outbox, Reply};

/// Events taken from the kernel in one poll.
const EVENTS_MAX: usize = 1024;
/// Bytes asked for a datagram socket's receive and send buffers; the kernel caps it at `net.core.rmem_max`.
const DATAGRAM_SOCKET_BYTES: usize = 4 << 20;
/// Bytes that the kernel takes for a client beyond what the client has room for, until it has shown that it reads. 2,000
/// clients of slowhttptest that ask for large files and read a few bytes took all of the kernel's memory for TCP (`tcp_mem`)
/// without this, 2.2 GB, and new connections failed; with it, 0.6 GB. Not a key: it is in
/// force only until a client has shown that it reads, and how much the kernel holds in all is the administrator's to say
/// (`net.ipv4.tcp_mem`).
const UNTRUSTED_BYTES_MAX: u32 = 128 * 1024;
/// The most that one `sendfile` is asked for; the kernel's own limit is just below 2 GiB.
const SENDFILE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of names that are taken from a folder in one call: several hundred of them.
const NAMES_BYTES: usize = 32 * 1024;
/// How often a file below a root is looked for while others rename what lies on the way. Each try is one system call; a
/// rename that is slower than all of them is not known.
const RACES_MAX: usize = 128;
const SIGNALS: Token = Token(usize::MAX - 1);

/// The real kernel.
pub struct Unix {
    poll: Poll,
    events: mio::Events,
    signals: Option<Signals>,
    /// An event told of signals that were not all taken yet.
    signalled: bool,
    /// Given up for a moment when the process is out of descriptors, to be able to turn a client away.
    spare: Option<OwnedFd>,
    receiving: Messages,
    sending: Messages,
    /// The kernel took a batch with `UDP_SEGMENT`; cleared when it refuses one.
    segmentation: bool,
}

/// A listening socket; a Unix one takes its path with it when it is closed.
pub struct Listener {
    socket: OwnedFd,
    _path: Option<SocketPath>,
}

/// The path of a Unix socket that is bound. It goes with the socket, unless somebody else's stands there by then.
struct SocketPath {
    path: PathBuf,
    identity: (u64, u64),
    _lock: PathLock,
}

/// The right to bind to a path: the lock on the file `PATH.lock`, held as long as the path. A probe alone cannot tell a
/// dead process's socket from one that is bound and about to listen: both refuse a connection.
struct PathLock {
    path: PathBuf,
    _file: OwnedFd,
}

impl Unix {
    /// Opens the poll. With `signals`, SIGTERM, SIGINT, SIGHUP and SIGUSR1 are taken over and told by [`Sys::signal`]; SIGPIPE is
    /// ignored by Rust's runtime already.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)` and `sigaction(2)`.
    pub fn new(signals: bool) -> io::Result<Self> {
        let poll = Poll::new()?;
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
        })
    }

    fn register_fd(&self, fd: &OwnedFd, token: u64, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(
            &mut SourceFd(&fd.as_raw_fd()),
            Token(token as usize),
            interest,
        )
    }
}

/// Lets the process have as many descriptors as it may: the soft limit is often 1,024, for the sake of programs that use
/// `select(2)`. How many that is; `None` where there is no limit.
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

fn inet_socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    Ok(net::socket_with(
        family,
        kind,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?)
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    SocketAddr::try_from(net::getsockname(socket)?)
        .map_err(|_| io::Error::other("not an internet address"))
}

/// Binds a Unix socket; one that a dead process left behind is taken over, a live one's and any other file is not.
fn bind_unix(path: &Path) -> io::Result<(OwnedFd, SocketPath)> {
    let lock = PathLock::take(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = net::SocketAddrUnix::new(path)?;
    match retry_on_intr(|| net::bind(&socket, &address)) {
        Err(Errno::ADDRINUSE) => {
            let found = FileType::from_raw_mode(lstat(path)?.st_mode);
            if found != FileType::Socket {
                let what = "something that is not a socket stands there; it is left as it is";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
            let probe = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            if retry_on_intr(|| net::connect(&probe, &address)) != Err(Errno::CONNREFUSED) {
                return Err(Errno::ADDRINUSE.into());
            }
            retry_on_intr(|| fs::unlink(path))?;
            retry_on_intr(|| net::bind(&socket, &address))?;
        }
        result => result?,
    }
    let path = SocketPath {
        path: path.to_owned(),
        identity: identity(&lstat(path)?),
        _lock: lock,
    };
    Ok((socket, path))
}

fn lstat(path: &Path) -> rustix::io::Result<fs::Stat> {
    retry_on_intr(|| fs::lstat(path))
}

fn identity(stat: &fs::Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if lstat(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            let _ = retry_on_intr(|| fs::unlink(&self.path)); // one that stays is taken over by the next start
        }
    }
}

impl PathLock {
    fn take(path: &Path) -> io::Result<Self> {
        let mut path = path.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = retry_on_intr(|| fs::open(&path, flags, Mode::RUSR | Mode::WUSR))?;
            if !lock_exclusive(&file)? {
                return Err(Errno::ADDRINUSE.into());
            }
            // Whoever held it may have removed it after we opened it: then it locks nobody else out.
            let locked = identity(&retry_on_intr(|| fs::fstat(&file))?);
            if lstat(&path).is_ok_and(|found| identity(&found) == locked) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        let _ = retry_on_intr(|| fs::unlink(&self.path)); // still locked: the fields are dropped after this
    }
}

impl Sys for Unix {
    type Listener = Listener;
    type Stream = OwnedFd;
    type Datagram = OwnedFd;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            if event.token() == SIGNALS {
                self.signalled = true;
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

    fn listen(
        &mut self,
        bind: &Bind,
        backlog: i32,
        client_first: bool,
        token: u64,
    ) -> io::Result<(Listener, Bind)> {
        let (socket, path) = match bind {
            Bind::Inet(address) => {
                let socket = inet_socket(*address, SocketType::STREAM)?;
                sockopt::set_socket_reuseaddr(&socket, true)?;
                sockopt::set_tcp_nodelay(&socket, true)?;
                SockRef::from(&socket).set_tcp_notsent_lowat(UNTRUSTED_BYTES_MAX)?;
                // Urgent data is data. A read stops short at its mark all the same: see `Event::read_closed`.
                sockopt::set_socket_oobinline(&socket, true)?;
                if client_first {
                    defer_accept(&socket)?;
                }
                net::bind(&socket, address)?;
                (socket, None)
            }
            Bind::Unix(path) => {
                let (socket, path) = bind_unix(path)?;
                (socket, Some(path))
            }
        };
        net::listen(&socket, backlog)?;
        self.register_fd(&socket, token, Interest::READABLE)?;
        let bound = match &path {
            Some(bound) => Bind::Unix(bound.path.clone()),
            None => Bind::Inet(local_address(&socket)?),
        };
        let listener = Listener {
            socket,
            _path: path,
        };
        Ok((listener, bound))
    }

    fn accept(&mut self, listener: &Listener) -> io::Result<(OwnedFd, Peer)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accepted = retry_on_intr(|| net::acceptfrom_with(&listener.socket, flags));
        let (stream, address) = accepted?;
        let peer = address
            .and_then(|a| SocketAddr::try_from(a).ok())
            .map_or(Peer::Unix, Peer::Inet);
        Ok((stream, peer))
    }

    fn shed(&mut self, listener: &Listener) -> io::Result<()> {
        self.spare = None;
        let shed = retry_on_intr(|| net::accept(&listener.socket)).map(drop);
        self.spare = spare().ok();
        Ok(shed?)
    }

    fn unlisten(&mut self, listener: Listener) {
        drop(listener); // close(2) takes it out of the poll as well
    }

    fn register(&mut self, stream: &OwnedFd, token: u64) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.register_fd(stream, token, interest)
    }

    fn connect(&mut self, to: SocketAddr, token: u64) -> io::Result<OwnedFd> {
        let stream = inet_socket(to, SocketType::STREAM)?;
        sockopt::set_tcp_nodelay(&stream, true)?;
        match net::connect(&stream, &to) {
            // Interrupted, it goes on by itself (`man 2 connect` of POSIX, EINTR).
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.register(&stream, token)?;
        Ok(stream)
    }

    fn connected(&mut self, stream: &OwnedFd) -> io::Result<bool> {
        sockopt::socket_error(stream)??;
        match net::getpeername(stream) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    #[inline]
    fn recv(&mut self, stream: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| net::recv(stream, &mut *into, RecvFlags::empty()))?.0)
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

    fn unsent(&mut self, stream: &OwnedFd) -> u64 {
        unsent(stream)
    }

    fn trust(&mut self, stream: &OwnedFd) {
        // Best effort: a Unix socket has no such option and holds little anyhow.
        let _ = SockRef::from(stream).set_tcp_notsent_lowat(u32::MAX);
    }

    fn shutdown(&mut self, stream: &OwnedFd) -> io::Result<()> {
        Ok(net::shutdown(stream, Shutdown::Write)?)
    }

    fn close(&mut self, stream: OwnedFd) {
        drop(stream); // close(2) takes it out of the poll as well
    }

    fn abort(&mut self, stream: OwnedFd) {
        // Best effort: a Unix socket has no reset. `man 7 socket` tells of SO_LINGER, not that a time of zero resets.
        let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
        drop(stream);
    }

    fn bind_datagram(&mut self, bind: SocketAddr, token: u64) -> io::Result<(OwnedFd, SocketAddr)> {
        let socket = inet_socket(bind, SocketType::DGRAM)?;
        // Best effort: a smaller buffer drops earlier under a flood, nothing else.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_SOCKET_BYTES);
        let _ = sockopt::set_socket_send_buffer_size(&socket, DATAGRAM_SOCKET_BYTES);
        net::bind(&socket, &bind)?;
        self.register_fd(&socket, token, Interest::READABLE)?;
        let bound = local_address(&socket)?;
        Ok((socket, bound))
    }

    fn connect_datagram(&mut self, to: SocketAddr, token: u64) -> io::Result<OwnedFd> {
        let socket = inet_socket(to, SocketType::DGRAM)?;
        net::connect(&socket, &to)?;
        self.register_fd(&socket, token, Interest::READABLE)?;
        Ok(socket)
    }

    fn recv_batch(&mut self, socket: &OwnedFd, batch: &mut Batch) -> io::Result<usize> {
        self.receiving.receive(socket, batch)
    }

    fn send_batch(&mut self, socket: &OwnedFd, batch: &Batch, out: &Outbox) -> Unsent {
        self.sending
            .send(socket, batch, out, &mut self.segmentation)
    }

    fn close_datagram(&mut self, socket: OwnedFd) {
        drop(socket);
    }

    #[inline]
    fn flush_log(&mut self) {
        error_log::flush();
    }

    fn log_dropped(&self) -> u64 {
        error_log::dropped()
    }
}

fn send_flags(more: bool) -> SendFlags {
    if more {
        SendFlags::NOSIGNAL | SendFlags::MORE
    } else {
        SendFlags::NOSIGNAL
    }
}

/// The descriptor of a file that this kernel opened.
fn descriptor(file: &File) -> io::Result<&OwnedFd> {
    match file.handle() {
        Handle::Fd(fd) => Ok(fd),
        Handle::Simulated(_) => Err(io::Error::other("a file of the simulated disk")),
    }
}

/// `RESOLVE_BENEATH` refuses every way out of the root, `RESOLVE_NO_MAGICLINKS` those of /proc.
fn open_beneath(root: &File, path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // openat2 refuses O_PATH together with what it does not act on, O_NOCTTY among it (`man 2 openat2`, EINVAL).
    let flags = match flags.contains(OFlags::PATH) {
        true => flags | OFlags::CLOEXEC,
        false => flags | OFlags::CLOEXEC | OFlags::NOCTTY,
    };
    let root = descriptor(root)?;
    let opened = retry_races(|| fs::openat2(root, path, flags, mode, resolve));
    Ok(File::new(Handle::Fd(opened?)))
}

/// Repeats an `openat2` that a signal interrupted, and one that could not tell whether a `..` on the way leads out of the
/// root because something was being renamed or mounted (`man 2 openat2`, EAGAIN), at most [`RACES_MAX`] times.
fn retry_races<T>(mut open: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 1..RACES_MAX {
        match retry_on_intr(&mut open) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    retry_on_intr(open)
}

fn fstat(file: &File) -> io::Result<fs::Stat> {
    let file = descriptor(file)?;
    Ok(retry_on_intr(|| fs::fstat(file))?)
}

/// Whether a lock that nobody else may have was free.
fn lock_exclusive(file: &OwnedFd) -> io::Result<bool> {
    match retry_on_intr(|| fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        result => Ok(result.map(|()| true)?),
    }
}

fn metadata(stat: &fs::Stat) -> Metadata {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Folder,
        _ => FileKind::Other,
    };
    Metadata {
        kind,
        len: stat.st_size as u64,
        modified: moment(stat.st_mtime, stat.st_mtime_nsec),
        changed: moment(stat.st_ctime, stat.st_ctime_nsec),
        identity: (stat.st_dev, stat.st_ino),
    }
}

/// A moment as the kernel tells it. Before 1970 the seconds are negative, and the nanoseconds still count forwards.
fn moment(seconds: i64, nanoseconds: u64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let second = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH - span,
        false => SystemTime::UNIX_EPOCH + span,
    };
    second + Duration::from_nanos(nanoseconds)
}

impl Disk for Unix {
    fn open_folder(&mut self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = retry_on_intr(|| fs::open(path, flags, Mode::empty()))?;
        Ok(File::new(Handle::Fd(folder)))
    }

    fn open(&mut self, root: &File, path: &Path) -> io::Result<File> {
        // NONBLOCK: opening a pipe must not wait for a writer.
        open_beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
    }

    fn metadata(&mut self, file: &File) -> io::Result<Metadata> {
        Ok(metadata(&fstat(file)?))
    }

    fn read_at(&mut self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let file = descriptor(file)?;
        Ok(retry_on_intr(|| {
            rustix::io::pread(file, &mut *into, offset)
        })?)
    }

    fn entries(&mut self, folder: &File) -> io::Result<Vec<Entry>> {
        let (mut names, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            next = self.names(folder, from, &mut names)?;
        }
        // What cannot be opened beneath the folder (a link that leaves it, a file that just went) is not listed.
        let entry = |name: PathBuf| {
            let metadata = self.look(folder, &name).ok()?;
            Some(Entry { name, metadata })
        };
        Ok(names.into_iter().filter_map(entry).collect())
    }

    fn names(
        &mut self,
        folder: &File,
        from: u64,
        into: &mut Vec<PathBuf>,
    ) -> io::Result<Option<u64>> {
        let folder = descriptor(folder)?;
        fs::seek(folder, fs::SeekFrom::Start(from))?;
        let mut buffer = [MaybeUninit::uninit(); NAMES_BYTES];
        let mut entries = fs::RawDir::new(folder, &mut buffer);
        let mut next = None;
        // One getdents64(2): what follows in its buffer is there already, what does not is for the next call.
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                entry => entry?,
            };
            next = Some(entry.next_entry_cookie());
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                into.push(PathBuf::from(OsStr::from_bytes(name)));
            }
            if entries.is_buffer_empty() {
                break;
            }
        }
        Ok(next)
    }

    fn look(&mut self, root: &File, path: &Path) -> io::Result<Metadata> {
        let file = open_beneath(root, path, OFlags::PATH, Mode::empty())?;
        self.metadata(&file)
    }

    fn open_log(&mut self, path: &Path) -> io::Result<File> {
        // NONBLOCK: a pipe without a reader must stop neither this nor a write.
        let flags = OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(0o640);
        let open = |access| retry_on_intr(|| fs::open(path, flags | access, mode));
        // Its end is to be looked at, where it has one. A pipe is not opened for reading: it would never lack a reader.
        let is_other =
            |stat: fs::Stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile;
        let fd = match retry_on_intr(|| fs::stat(path)).is_ok_and(is_other) {
            true => open(OFlags::WRONLY)?,
            false => open(OFlags::RDWR).or_else(|_| open(OFlags::WRONLY))?,
        };
        Ok(File::new(Handle::Fd(fd)))
    }

    fn standard_error(&mut self) -> io::Result<File> {
        let copy = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?;
        Ok(File::new(Handle::Fd(copy)))
    }

    fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        append::append(descriptor(file)?, bytes)
    }

    fn create(&mut self, root: &File, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        open_beneath(root, path, flags, Mode::from_raw_mode(0o644))
    }

    fn create_folder(&mut self, root: &File, path: &Path) -> io::Result<()> {
        let (root, mode) = (descriptor(root)?, Mode::from_raw_mode(0o755));
        match retry_on_intr(|| fs::mkdirat(root, path, mode)) {
            Err(Errno::EXIST) => Ok(()),
            result => Ok(result?),
        }
    }

    fn lock_alone(&mut self, folder: &File) -> io::Result<bool> {
        lock_exclusive(descriptor(folder)?)
    }

    fn lock_shared(&mut self, folder: &File) -> io::Result<()> {
        let folder = descriptor(folder)?;
        Ok(retry_on_intr(|| {
            fs::flock(folder, FlockOperation::LockShared)
        })?)
    }

    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let file = descriptor(file)?;
        Ok(retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))?)
    }

    fn rename(&mut self, root: &File, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let root = descriptor(root)?;
        let flags = if replace {
            RenameFlags::empty()
        } else {
            RenameFlags::NOREPLACE
        };
        Ok(retry_on_intr(|| {
            fs::renameat_with(root, from, root, to, flags)
        })?)
    }

    fn remove(&mut self, root: &File, path: &Path) -> io::Result<()> {
        let root = descriptor(root)?;
        Ok(retry_on_intr(|| {
            fs::unlinkat(root, path, AtFlags::empty())
        })?)
    }

    fn free_bytes(&mut self, root: &File) -> io::Result<u64> {
        let root = descriptor(root)?;
        let stat = retry_on_intr(|| fs::fstatvfs(root))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn entropy(&mut self, into: &mut [u8]) {
        // Invariant: the kernel's pool is seeded long before a server starts; getrandom(2) fails for nothing else.
        getrandom::fill(into).expect("getrandom(2)");
    }
}

/// The arrays that `recvmmsg(2)` and `sendmmsg(2)` take: headers that point to names, runs of bytes and control messages.
/// Allocated once and never moved; every pointer in a header is set anew before each call that reads it.
struct Messages {
    headers: Box<[libc::mmsghdr; Batch::SLOTS]>,
    names: Box<[Name; Batch::SLOTS]>,
    runs: Box<[libc::iovec; Batch::SLOTS]>,
    controls: Box<[Control; Batch::SLOTS]>,
    /// How many replies each message holds that is to be sent.
    replies: [usize; Batch::SLOTS],
}

/// A `sockaddr_storage` as bytes.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; 128]);

/// One control message that carries a `u16`: a `cmsghdr` (16 bytes) and its padded payload.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 24]);

/// The most datagrams of one size to one peer that leave as one `UDP_SEGMENT` message (`UDP_MAX_SEGMENTS` of Linux, as it
/// was before 6.9), and the most bytes of each: one Ethernet frame's, so that no path on the way refuses them.
const SEGMENTS_MAX: usize = 64;
const SEGMENT_BYTES_MAX: usize = 1400;

impl Name {
    /// Family in the machine's order, port and address in the network's (`man 7 ip`, `man 7 ipv6`).
    fn address(&self) -> Option<SocketAddr> {
        let b = &self.0;
        let port = u16::from_be_bytes([b[2], b[3]]);
        match i32::from(u16::from_ne_bytes([b[0], b[1]])) {
            libc::AF_INET => Some(SocketAddr::from(([b[4], b[5], b[6], b[7]], port))),
            libc::AF_INET6 => {
                let mut ip = [0; 16];
                ip.copy_from_slice(&b[8..24]);
                let flow = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
                let scope = u32::from_ne_bytes([b[24], b[25], b[26], b[27]]);
                Some(std::net::SocketAddrV6::new(ip.into(), port, flow, scope).into())
            }
            _ => None,
        }
    }

    /// Writes an address; its length in bytes.
    fn set(&mut self, address: SocketAddr) -> libc::socklen_t {
        let b = &mut self.0;
        b[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                b[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                b[4..8].copy_from_slice(&v4.ip().octets());
                b[8..16].fill(0);
                16
            }
            SocketAddr::V6(v6) => {
                b[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                b[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                b[8..24].copy_from_slice(&v6.ip().octets());
                b[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                28
            }
        }
    }
}

impl Control {
    /// The control message that asks for segments of `bytes` (`man 7 udp`, `UDP_SEGMENT`).
    fn segment(bytes: u16) -> Self {
        let mut b = [0; 24];
        b[0..8].copy_from_slice(&(16 + size_of::<u16>()).to_ne_bytes());
        b[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        b[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        b[16..18].copy_from_slice(&bytes.to_ne_bytes());
        Self(b)
    }
}

/// `SIOCOUTQ`: bytes in the send queue that were not acknowledged (`man 7 tcp`); of a Unix socket, what was not read.
#[allow(unsafe_code)]
fn unsent(stream: &OwnedFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `TIOCOUTQ`, which is `SIOCOUTQ`, writes one `int` behind the pointer, which is valid for the call.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match result {
        0 => u64::try_from(bytes).unwrap_or(0),
        _ => 0,
    }
}

/// `TCP_DEFER_ACCEPT` (`man 7 tcp`), with the least time there is: one retransmission of the handshake's second segment.
#[allow(unsafe_code)]
fn defer_accept(listener: &OwnedFd) -> io::Result<()> {
    let seconds: libc::c_int = 1;
    // SAFETY: the option's value is one `int`, which is valid for the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[allow(unsafe_code)]
impl Messages {
    fn new() -> Self {
        // SAFETY: all-zero is a valid `mmsghdr` and `iovec`: null pointers and zero lengths.
        let (headers, runs) = unsafe {
            (
                MaybeUninit::zeroed().assume_init(),
                MaybeUninit::zeroed().assume_init(),
            )
        };
        Self {
            headers: Box::new(headers),
            names: Box::new([Name([0; 128]); Batch::SLOTS]),
            runs: Box::new(runs),
            controls: Box::new([Control([0; 24]); Batch::SLOTS]),
            replies: [0; Batch::SLOTS],
        }
    }

    /// Receives as many datagrams as there are, up to the batch's slots.
    fn receive(&mut self, socket: &OwnedFd, batch: &mut Batch) -> io::Result<usize> {
        batch.clear();
        for i in 0..Batch::SLOTS {
            let slot = batch.slot_mut(i);
            self.runs[i] = libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: slot.len(),
            };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = self.names[i].0.as_mut_ptr().cast();
            header.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_iov = &raw mut self.runs[i];
            header.msg_iovlen = 1;
        }
        let received = loop {
            // SAFETY: the headers point to names, runs and slots that outlive the call, with their true lengths, and to
            // no control messages; the slots do not overlap.
            let received = unsafe {
                libc::recvmmsg(
                    socket.as_fd().as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    Batch::SLOTS as u32,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            match usize::try_from(received).map_err(|_| io::Error::last_os_error()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        for i in 0..received {
            let from = self.names[i]
                .address()
                .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            batch.received(from, self.headers[i].msg_len as usize);
        }
        Ok(received)
    }

    /// Sends all replies; those that could not be sent.
    fn send(
        &mut self,
        socket: &OwnedFd,
        batch: &Batch,
        out: &Outbox,
        segmentation: &mut bool,
    ) -> Unsent {
        let (mut unsent, mut next) = (Unsent::default(), 0);
        // Replies before this one go one by one: the kernel refused them together.
        let mut apart = 0;
        while next < out.replies.len() {
            let messages = self.gather(batch, out, next, *segmentation && next >= apart);
            match self.send_gathered(socket, messages) {
                Ok(sent) => {
                    if next < apart {
                        *segmentation = false; // a device that cannot
                    }
                    // What stopped it, if anything did, is told when it is the first.
                    next += self.replies[..sent].iter().sum::<usize>();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = batch.unsent(out, next);
                    unsent.replies += left.replies;
                    unsent.bytes += left.bytes;
                    break;
                }
                Err(_) if self.replies[0] > 1 => apart = next + self.replies[0],
                Err(_) => {
                    unsent.replies += 1;
                    unsent.bytes += batch.reply_bytes(out, &out.replies[next]).len();
                    next += 1;
                }
            }
        }
        unsent
    }

    /// Fills the headers with the replies from `first` on; how many messages, and in `self.replies` how many replies each
    /// holds. Neighbours of one size to one peer become one message.
    fn gather(&mut self, batch: &Batch, out: &Outbox, first: usize, segmentation: bool) -> usize {
        let replies = &out.replies[first..];
        let replies = &replies[..replies.len().min(Batch::SLOTS)];
        let (mut messages, mut i) = (0, 0);
        while i < replies.len() {
            let len = batch.reply_bytes(out, &replies[i]).len();
            let alike = |r: &Reply| r.to == replies[i].to && batch.reply_bytes(out, r).len() == len;
            let run = if segmentation && (1..=SEGMENT_BYTES_MAX).contains(&len) {
                replies[i..]
                    .iter()
                    .take(SEGMENTS_MAX.min(65_000 / len))
                    .take_while(|r| alike(r))
                    .count()
            } else {
                1
            };
            for (j, reply) in replies[i..i + run].iter().enumerate() {
                let bytes = batch.reply_bytes(out, reply);
                self.runs[i + j] = libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                };
            }
            let header = &mut self.headers[messages].msg_hdr;
            header.msg_namelen = self.names[messages].set(replies[i].to);
            header.msg_name = self.names[messages].0.as_mut_ptr().cast();
            header.msg_iov = &raw mut self.runs[i];
            header.msg_iovlen = run as _;
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
            if run > 1 {
                self.controls[messages] = Control::segment(len as u16);
                header.msg_control = self.controls[messages].0.as_mut_ptr().cast();
                header.msg_controllen = size_of::<Control>() as _;
            }
            self.replies[messages] = run;
            messages += 1;
            i += run;
        }
        messages
    }

    /// How many of the messages were sent. The error is the first one's: a call that sent some tells none (`man 2
    /// sendmmsg`).
    fn send_gathered(&mut self, socket: &OwnedFd, messages: usize) -> io::Result<usize> {
        // SAFETY: the first `messages` headers were just filled by `gather` with pointers to names, runs, controls and
        // bytes of the batch and outbox, which the caller borrows beyond this call; the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                messages as u32,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn accepted_sockets_have_the_options_of_the_listening_one() {
        let mut sys = Unix::new(false).expect("a poll");
        let bind = Bind::Inet(([127, 0, 0, 1], 0).into());
        let (listener, bound) = sys.listen(&bind, 1, false, 0).expect("a listener");
        let Bind::Inet(address) = bound else {
            panic!("an address was asked for");
        };
        let _client = std::net::TcpStream::connect(address).expect("a connection");
        let (stream, _) = sys.accept(&listener).expect("the connection");
        assert!(sockopt::tcp_nodelay(&stream).expect("an option"));
        assert!(sockopt::socket_oobinline(&stream).expect("an option"));
        let unsent = || {
            SockRef::from(&stream)
                .tcp_notsent_lowat()
                .expect("an option")
        };
        assert_eq!(unsent(), UNTRUSTED_BYTES_MAX);
        sys.trust(&stream);
        assert_eq!(unsent(), u32::MAX);
    }

    #[test]
    fn a_client_that_speaks_first_is_accepted_with_its_first_bytes_and_a_silent_one_later() {
        let mut sys = Unix::new(false).expect("a poll");
        let bind = Bind::Inet(([127, 0, 0, 1], 0).into());
        let (listener, bound) = sys.listen(&bind, 2, true, 0).expect("a listener");
        let Bind::Inet(address) = bound else {
            panic!("an address was asked for");
        };
        let _silent = std::net::TcpStream::connect(address).expect("a connection");
        let mut client = std::net::TcpStream::connect(address).expect("a connection");
        client.write_all(b"first").expect("a write");
        let mut accepted = || {
            let mut events = Vec::new();
            loop {
                match sys.accept(&listener) {
                    Ok((_, Peer::Inet(peer))) => break peer,
                    Ok((_, Peer::Unix)) => panic!("an internet address was asked for"),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
                sys.poll(&mut events, Some(Duration::from_secs(60)))
                    .expect("a poll");
            }
        };
        let spoke = client.local_addr().expect("an address");
        assert_eq!(accepted(), spoke, "the silent one came first");
        assert_ne!(accepted(), spoke);
    }

    #[test]
    fn a_listening_socket_that_was_shut_down_fails_for_ever_and_its_address_is_free_once_it_is_closed()
     {
        let mut sys = Unix::new(false).expect("a poll");
        let bind = Bind::Inet(([127, 0, 0, 1], 0).into());
        let (listener, bound) = sys.listen(&bind, 2, true, 0).expect("a listener");
        let Bind::Inet(address) = bound else {
            panic!("an address was asked for");
        };
        let _waiting = std::net::TcpStream::connect(address).expect("a connection");
        // As an administrator's `ss --kill` leaves it.
        net::shutdown(&listener.socket, Shutdown::Read).expect("a socket");
        for _ in 0..100 {
            let error = sys.accept(&listener).map(|_| ()).expect_err("it is broken");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
        sys.unlisten(listener);
        let (listener, again) = sys.listen(&bound, 2, false, 0).expect("a listener");
        assert_eq!(again, bound);
        let _client = std::net::TcpStream::connect(address).expect("a connection");
        sys.accept(&listener).expect("the connection");
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_bound_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("site.conf");
        std::fs::write(&path, "precious").expect("a file");
        let mut sys = Unix::new(false).expect("a poll");
        let listened = sys.listen(&Bind::Unix(path.clone()), 1, false, 0);
        let error = listened.map(|_| ()).expect_err("no listener");
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(path).expect("a file"), "precious");
        assert_eq!(names(dir.path()), ["site.conf"], "no lock is left behind");
    }

    #[test]
    fn a_socket_that_is_bound_and_does_not_listen_yet_is_not_taken_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let first = bind_unix(&path).expect("a socket");
        let error = bind_unix(&path).map(|_| ()).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind_unix(&path).expect("it is free"));
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn the_end_of_a_listener_leaves_the_socket_of_another_process_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let mut sys = Unix::new(false).expect("a poll");
        let (listener, _) = sys
            .listen(&Bind::Unix(path.clone()), 1, false, 0)
            .expect("a listener");
        std::fs::remove_file(&path).expect("it is there");
        let other = std::os::unix::net::UnixListener::bind(&path).expect("a listener");
        sys.unlisten(listener);
        assert_eq!(names(dir.path()), ["socket"]);
        drop(other);
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_names_of_a_folder_come_in_pieces_and_each_once() {
        let dir = tempfile::tempdir().expect("a folder");
        for i in 0..3000 {
            std::fs::write(dir.path().join(format!("file-{i:04}")), "").expect("a file");
        }
        let mut disk = Unix::new(false).expect("a poll");
        let folder = disk.open_folder(dir.path()).expect("a folder");
        let (mut names, mut next, mut calls) = (Vec::new(), Some(0), 0);
        while let Some(from) = next {
            next = disk.names(&folder, from, &mut names).expect("names");
            calls += 1;
        }
        assert!((3..100).contains(&calls), "{calls} calls");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 3000);
    }

    #[test]
    fn a_file_is_looked_for_again_after_an_interruption_and_after_a_race_within_bounds() {
        let tries = |errors: &[Errno]| {
            let mut calls = 0;
            let result = retry_races(|| {
                calls += 1;
                match errors.get(calls - 1) {
                    Some(error) => Err(*error),
                    None => Ok(()),
                }
            });
            (result, calls)
        };
        assert_eq!(tries(&[Errno::INTR; 1000]), (Ok(()), 1001));
        assert_eq!(
            tries(&[Errno::INTR, Errno::AGAIN, Errno::INTR]),
            (Ok(()), 4)
        );
        let last = RACES_MAX - 1;
        assert_eq!(tries(&vec![Errno::AGAIN; last]), (Ok(()), RACES_MAX));
        let error = Err(Errno::AGAIN);
        assert_eq!(tries(&vec![Errno::AGAIN; RACES_MAX]), (error, RACES_MAX));
        assert_eq!(tries(&[Errno::AGAIN, Errno::NOENT]), (Err(Errno::NOENT), 2));
    }

    #[test]
    fn a_way_through_a_parent_is_found_while_others_rename() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).expect("a folder");
        std::fs::write(at("file"), "").expect("a file");
        std::os::unix::fs::symlink("a/b/../../file", at("link")).expect("a link");
        std::fs::write(at("one"), "").expect("a file");
        let mut disk = Unix::new(false).expect("a poll");
        let root = disk.open_folder(dir.path()).expect("a folder");
        let (one, other) = (at("one"), at("other"));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let renames = || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(&one, &other).expect("a name");
                    std::fs::rename(&other, &one).expect("a name");
                }
            };
            scope.spawn(renames);
            let opened: Result<Vec<_>, _> = (0..2000)
                .map(|_| disk.open(&root, "link".as_ref()))
                .collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(opened.expect("it is there each time").len(), 2000);
        });
    }

    #[test]
    fn an_answer_that_cannot_be_sent_costs_the_others_nothing() {
        let mut sys = Unix::new(false).expect("a poll");
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let (socket, _) = sys.bind_datagram(loopback, 0).expect("a socket");
        let client = std::net::UdpSocket::bind(loopback).expect("a socket");
        let to = client.local_addr().expect("an address");
        let mut batch = Batch::new();
        // EAGAIN, the last error for whoever asks: a call that sent something changes nothing about it.
        sys.recv_batch(&socket, &mut batch)
            .expect_err("nothing came");
        let mut out = Outbox::default();
        out.send(to, b"first");
        for _ in 0..2 {
            out.send(loopback, b"to port 0, which is nobody's"); // and two of a size, so that they go as segments
        }
        for _ in 0..3 {
            out.send(to, b"after");
        }
        let unsent = sys.send_batch(&socket, &batch, &out);
        assert_eq!((unsent.replies, unsent.bytes), (2, 2 * 28));
        client.set_nonblocking(true).expect("an option");
        let mut received = 0;
        while client.recv(&mut [0; 9]).is_ok() {
            received += 1;
        }
        assert_eq!(received, 4);
        assert!(sys.segmentation, "the network can, that address cannot");
    }

    #[test]
    fn a_log_is_appended_to_and_a_full_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut disk = Unix::new(false).expect("a poll");
        for text in ["one\n", "two\n"] {
            let log = disk.open_log(&dir.path().join("log")).expect("a file");
            assert_eq!(disk.append(&log, text.as_bytes()).expect("a write"), 4);
            let mut last = [0];
            assert_eq!(disk.read_at(&log, 3, &mut last).expect("its end"), 1);
            assert_eq!(last, text.as_bytes()[3..]);
        }
        let text = std::fs::read_to_string(dir.path().join("log")).expect("a file");
        assert_eq!(text, "one\ntwo\n");
        let (_reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let pipe = File::new(Handle::Fd(writer));
        let full = loop {
            if let Err(error) = disk.append(&pipe, &[b'x'; 10_000]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_entries_of_a_folder_are_listed_but_for_links_that_leave_it() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("file"), "abc").expect("a file");
        std::fs::create_dir(dir.path().join("folder")).expect("a folder");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("a link");
        let mut disk = Unix::new(false).expect("a poll");
        let folder = disk.open_folder(dir.path()).expect("a folder");
        let mut entries: Vec<_> = disk
            .entries(&folder)
            .expect("entries")
            .into_iter()
            .map(|entry| (entry.name, entry.metadata.kind))
            .collect();
        entries.sort_by(|one, two| one.0.cmp(&two.0));
        assert_eq!(
            entries,
            [
                (PathBuf::from("file"), FileKind::Regular),
                (PathBuf::from("folder"), FileKind::Folder),
            ]
        );
    }
}
