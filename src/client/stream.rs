//! A connection whose steps have names and deadlines.
//!
//! ```text
//! begin("waiting for the challenge") ─▶ read, read, … ─▶ begin(next step)
//! ```
//!
//! Rules:
//! - A step has one deadline, however many reads it takes: a server that sends a byte a second does
//!   not escape it. Long transfers restart the clock with [`Stream::touch`] when they made
//!   progress.
//! - Every failure names the step and the peer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connect::{self, ConnectTimes, Connected, Family, Target};
use super::tls::{self, TlsStream, Trust};
use super::{Failure, Timeouts};

/// One connection to a server.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    target: Target,
    timeouts: Timeouts,
    step: String,
    until: Instant,
    times: ConnectTimes,
    is_reset: bool,
    is_cut: bool,
}

/// What carries the bytes.
#[derive(Debug)]
pub enum Socket {
    /// TCP or a Unix socket.
    Plain(Connected),
    /// TLS over TCP.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Resolves and connects; the first step is named by the caller with [`Stream::begin`].
    ///
    /// # Errors
    /// See [`connect::connect`].
    pub fn connect(target: &Target, family: Family, timeouts: Timeouts) -> Result<Self, Failure> {
        let (socket, times) = connect::connect(target, family, &timeouts)?;
        let until = timeouts.step_until();
        let (socket, target) = (Socket::Plain(socket), target.clone());
        Ok(Self {
            socket,
            target,
            timeouts,
            step: "talking".to_owned(),
            until,
            times,
            is_reset: false,
            is_cut: false,
        })
    }

    /// Begins a step: a phrase that fits behind "while", such as `waiting for the challenge`.
    pub fn begin(&mut self, step: impl Into<String>) {
        self.step = step.into();
        self.touch();
    }

    /// Restarts the clock of the step, because progress was made.
    pub fn touch(&mut self) {
        self.until = self.timeouts.step_until();
    }

    /// The address of this end; `None` on a Unix socket.
    pub fn local_address(&self) -> Option<IpAddr> {
        self.local().map(|address| address.ip())
    }

    /// The port of this end; `None` on a Unix socket.
    pub fn local_port(&self) -> Option<u16> {
        self.local().map(|address| address.port())
    }

    fn local(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Plain(Connected::Tcp(tcp)) => tcp.local_addr().ok(),
            Socket::Plain(Connected::Unix(_)) => None,
            Socket::Tls(tls) => tls.sock.local_addr().ok(),
        }
    }

    /// Where the connection leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How long resolving and connecting took.
    pub fn times(&self) -> ConnectTimes {
        self.times
    }

    /// A failure at this step: the peer broke the protocol in these words.
    pub fn broken(&self, what: &str) -> Failure {
        Failure::unavailable(format!("{}: {what} while {}", self.target, self.step))
    }

    /// Whether the peer was found to have thrown the connection away, together with bytes of ours.
    pub fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// Whether the system holds an error against a plain connection that no call has told of yet,
    /// such as a reset that came behind the end of the peer's stream: reads tell of the end only.
    pub fn has_error(&self) -> bool {
        match &self.socket {
            Socket::Plain(Connected::Tcp(tcp)) => !matches!(tcp.take_error(), Ok(None)),
            Socket::Plain(Connected::Unix(_)) | Socket::Tls(_) => false,
        }
    }

    /// Whether a peer that has ended its stream resets the connection within `wait`: it did not
    /// read what was sent to it.
    pub fn is_reset_within(&self, wait: Duration) -> bool {
        let Socket::Plain(Connected::Tcp(tcp)) = &self.socket else {
            return false;
        };
        let wait = Timespec::try_from(wait).ok();
        // No event is asked for: what comes all the same are errors, and the end of both
        // directions. A signal ends the wait early, and the error that is there by then counts.
        let _ = poll(&mut [PollFd::new(tcp, PollFlags::empty())], wait.as_ref());
        self.has_error()
    }

    /// Whether the stream ended although TLS did not announce it: somebody on the way may have cut
    /// it.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn broken_by(&mut self, error: &io::Error) -> Failure {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        self.is_reset |= matches!(error.kind(), BrokenPipe | ConnectionReset);
        self.broken(&connect::reason(error))
    }

    /// Reads what there is, at least one byte; 0 at the end of the stream.
    ///
    /// # Errors
    /// The step's time ran out, or the connection broke.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.timeouts.timed_out(&self.step, &self.target));
            }
            let read = match &mut self.socket {
                Socket::Plain(Connected::Tcp(tcp)) => tcp
                    .set_read_timeout(Some(left))
                    .and_then(|()| tcp.read(buffer)),
                Socket::Plain(Connected::Unix(unix)) => unix
                    .set_read_timeout(Some(left))
                    .and_then(|()| unix.read(buffer)),
                Socket::Tls(tls) => tls
                    .sock
                    .set_read_timeout(Some(left))
                    .and_then(|()| tls::read(tls, buffer)),
            };
            match read {
                Ok(bytes) => return Ok(bytes),
                Err(error) if connect::is_pause(&error) => {}
                // The peer of a TLS connection went away without saying so. Whether that matters is
                // for framing to say.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.is_cut = true;
                    return Ok(0);
                }
                Err(error) => return Err(self.broken_by(&error)),
            }
        }
    }

    /// Reads what there is within `wait`; `None` when nothing came. The step's deadline does not
    /// matter, the whole's does.
    ///
    /// # Errors
    /// The time for the whole ran out, or the connection broke.
    pub fn read_within(
        &mut self,
        wait: Duration,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, Failure> {
        if self.timeouts.is_over() {
            return Err(self.timeouts.timed_out(&self.step, &self.target));
        }
        let until = std::mem::replace(&mut self.until, Instant::now() + wait);
        let read = self.read(buffer);
        let waited = Instant::now() >= self.until;
        self.until = until;
        match read {
            Err(_) if waited => Ok(None),
            read => read.map(Some),
        }
    }

    /// Whether the step has run out of time.
    ///
    /// # Errors
    /// It has.
    pub fn check_deadline(&self) -> Result<(), Failure> {
        if Instant::now() < self.until {
            return Ok(());
        }
        Err(self.timeouts.timed_out(&self.step, &self.target))
    }

    /// Fills the buffer.
    ///
    /// # Errors
    /// As [`Stream::read`], and when the stream ends before.
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => return Err(self.closed()),
                bytes => filled += bytes,
            }
        }
        Ok(())
    }

    /// The failure of a stream that ended too early.
    pub fn closed(&self) -> Failure {
        self.broken("the server closed the connection")
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// The step's time ran out, or the connection broke.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.timeouts.timed_out(&self.step, &self.target));
            }
            let written = match &mut self.socket {
                Socket::Plain(Connected::Tcp(tcp)) => tcp
                    .set_write_timeout(Some(left))
                    .and_then(|()| tcp.write(rest)),
                Socket::Plain(Connected::Unix(unix)) => unix
                    .set_write_timeout(Some(left))
                    .and_then(|()| unix.write(rest)),
                Socket::Tls(tls) => {
                    let timeouts = (
                        tls.sock.set_write_timeout(Some(left)),
                        tls.sock.set_read_timeout(Some(left)),
                    );
                    timeouts.0.and(timeouts.1).and_then(|()| tls.write(rest))
                }
            };
            match written {
                Ok(bytes) => rest = &rest[bytes..],
                Err(error) if connect::is_pause(&error) => {}
                Err(error) => return Err(self.broken_by(&error)),
            }
        }
        match &mut self.socket {
            Socket::Tls(tls) => tls
                .flush()
                .map_err(|error| self.broken(&connect::reason(&error))),
            Socket::Plain(_) => Ok(()),
        }
    }

    /// Encrypts what follows, as `host` or the name that `trust` demands.
    ///
    /// # Errors
    /// The certificate is not trusted, or the step's time ran out. The connection is unusable then.
    pub fn start_tls(&mut self, host: &str, trust: &Trust) -> Result<(), Failure> {
        let Socket::Plain(Connected::Tcp(tcp)) = &self.socket else {
            return Err(self.broken("TLS is spoken over TCP only"));
        };
        let tcp = tcp
            .try_clone()
            .map_err(|error| self.broken(&connect::reason(&error)))?;
        match tls::handshake(tcp, host, trust, self.until) {
            Ok(tls) => {
                self.socket = Socket::Tls(Box::new(tls));
                Ok(())
            }
            Err(words) => Err(self.broken(&words)),
        }
    }

    /// Half-closes: no more from us, the answers may still come.
    pub fn finish(&mut self) {
        // A connection that is gone already is noticed by the next read.
        let _ = match &mut self.socket {
            Socket::Plain(Connected::Tcp(tcp)) => tcp.shutdown(Shutdown::Write),
            Socket::Plain(Connected::Unix(unix)) => unix.shutdown(Shutdown::Write),
            Socket::Tls(tls) => {
                tls.conn.send_close_notify();
                tls.flush()
            }
        };
    }

    /// A second handle of the same plain connection, for a thread that writes while this one reads.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn second_handle(&self) -> Result<Self, Failure> {
        let socket = match &self.socket {
            Socket::Plain(Connected::Tcp(tcp)) => tcp.try_clone().map(Connected::Tcp),
            Socket::Plain(Connected::Unix(unix)) => unix.try_clone().map(Connected::Unix),
            Socket::Tls(_) => Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        let socket = Socket::Plain(socket.map_err(|error| self.broken(&connect::reason(&error)))?);
        let (target, step) = (self.target.clone(), self.step.clone());
        Ok(Self {
            socket,
            target,
            timeouts: self.timeouts,
            step,
            until: self.until,
            times: self.times,
            is_reset: self.is_reset,
            is_cut: self.is_cut,
        })
    }
}
