//! TLS between a socket and its link: the protocol sees plain bytes and does not know.
//!
//! rustls does the cryptography and keeps the records ([`crate::sys::Secure`]). This is a layer within the one fill and the
//! one flush of [`super::half`]: it takes records from the socket where a plain side takes bytes,
//! and sends records where a plain side sends its queue. When to do either is decided there.
//!
//! A file cannot go by `sendfile` (the kernel has no keys), so it is read in pieces of
//! [`PIECE_BYTES`], which leave as full records of 16 KiB and in one system call. RFC 8446; the end
//! of the stream is a `close_notify` (section 6.1), and a connection that ends without one ends
//! here as well: HTTP knows by its own framing whether a message was cut.
//!
//! What rustls holds of either direction is counted with the pages ([`Pool::hold`]). It gets less
//! at a time for a client that has not shown that it takes fast, since records that wait are memory
//! that nobody else can use, and one record while memory is scarce.
//!
//! The first bytes may be those of a client that speaks the protocol in plain text. Where the
//! listener knows an answer to that, they are held back until they are told apart:
//!
//! ```text
//! Unknown ──no such request──▶ Records      (rustls answers what is no TLS with an alert)
//!    └─────a request, its answer──▶ Plain   (the session sends it, without TLS, and ends)
//! ```
//!
//! Not here: certificates and which of them a client gets (who makes the `ServerConfig`), whom we
//! trust as an origin (who makes the `ClientConfig`), and certificates of clients.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use rustls::ServerConfig;

use super::transfer::{Moved, Sent};
use crate::buffer::{Front, Held, Pool};
use crate::disk::File;
use crate::ending::Error;
use crate::service::origins::TlsTo;
use crate::service::{Finish, Link};
use crate::sys::{Role, Secure, SecureError, Sys, Transfer};

/// Plain bytes that are encrypted at a time, and about what rustls holds of unsent records.
const PIECE_BYTES: usize = 64 * 1024;

/// The same for a client that has not shown that it takes fast what is sent to it: two records, so
/// that a file of 16 KiB leaves with its head by one call.
const UNPROVEN_PIECE_BYTES: usize = 32 * 1024;

/// The same while memory is scarce: one record (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// The most that rustls holds of what came: a message of a handshake in pieces. Of other records it
/// is one, and what that became.
const INCOMING_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are read at first, and the room that rustls has for them.
const FIRST_BYTES: usize = 4096;

/// TLS of a listener.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The certificates and what else a handshake needs.
    pub config: Arc<ServerConfig>,
    /// For clients that speak the protocol without TLS, if they are to be told so.
    pub plain: Option<PlainAnswer>,
}

/// The answer to what was received so far in place of a TLS handshake, and whether that is all;
/// `None` if it is nothing that can be answered, `Pending` while more bytes would tell.
pub type PlainAnswer = fn(&[u8], bool, SystemTime) -> Poll<Option<Vec<u8>>>;

/// What the first bytes said.
enum First {
    /// Nothing yet; and those that came.
    Unknown(PlainAnswer, Vec<u8>),
    /// They are for rustls.
    Records,
    /// They are a request in plain text: its answer.
    Plain(Vec<u8>),
}

/// The TLS of one connection, in either role.
pub(super) struct Tls {
    secure: Secure,
    first: First,
    /// Plain bytes wait in rustls for room in the receive buffer.
    plain_waits: bool,
    /// The `close_notify` was queued.
    ended: bool,
    /// The client has shown that it takes fast what is sent to it.
    is_fast: bool,
    /// Bytes that came and that nothing has come of yet; no fewer than rustls holds, but for a rest
    /// of less than one read.
    incoming: usize,
    /// Bytes of records that wait to be sent.
    outgoing: usize,
    /// Both, as far as the pool knows.
    held: Held,
    /// What broke it.
    pub(super) trouble: Option<SecureError>,
}

impl Tls {
    /// The TLS of a new connection. It fails for a configuration that is wrong in itself; such a
    /// connection cannot be served, least of all in plain text.
    pub(super) fn accept(
        options: &TlsOptions,
        sys: &mut impl Sys,
    ) -> Result<Box<Self>, SecureError> {
        let role = Role::Server(Arc::clone(&options.config));
        let first = match options.plain {
            Some(answer) => First::Unknown(answer, Vec::new()),
            None => First::Records,
        };
        Ok(Self::new(sys.tls_begin(&role, None)?, first, false))
    }

    fn new(secure: Secure, first: First, is_fast: bool) -> Box<Self> {
        Box::new(Self {
            secure,
            first,
            plain_waits: false,
            ended: false,
            is_fast,
            incoming: 0,
            outgoing: 0,
            held: Held::default(),
            trouble: None,
        })
    }

    /// The TLS of a connection that was made to an origin, which begins; within that which is spoken
    /// there already, if one is.
    pub(super) fn connect(
        to: &TlsTo,
        outer: Option<Box<Self>>,
        sys: &mut impl Sys,
    ) -> Result<Box<Self>, SecureError> {
        let role = Role::Client {
            config: Arc::clone(&to.config),
            name: to.name.clone(),
            explain: to.explain,
        };
        let (secure, held, plain_waits) = match outer {
            Some(outer) => (Some(outer.secure), outer.held, outer.plain_waits),
            None => (None, Held::default(), false),
        };
        let mut secure = sys.tls_begin(&role, secure)?;
        secure.set_buffer_limit(PIECE_BYTES);
        let tls = Self::new(secure, First::Records, true);
        Ok(Box::new(Self {
            held,
            plain_waits,
            ..*tls
        }))
    }

    /// The answer to a client that speaks in plain text; after that there is nothing left to do
    /// here.
    #[inline(never)]
    pub(super) fn take_plain_answer(&mut self) -> Option<Vec<u8>> {
        match &mut self.first {
            First::Plain(answer) => Some(std::mem::take(answer)),
            First::Unknown(..) | First::Records => None,
        }
    }

    /// Whether a fill could bring plain bytes without a word from the kernel.
    pub(super) fn has_plain(&self) -> bool {
        self.plain_waits
    }

    /// Whether neither side may send anything of its own yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.secure.facts().is_handshaking
    }

    /// Whether records wait to be sent.
    pub(super) fn has_output(&self) -> bool {
        self.secure.facts().has_output
    }

    /// Whether our end of the stream was told and sent.
    pub(super) fn is_ended(&self) -> bool {
        self.ended && !self.has_output()
    }

    /// Whether the client takes fast what is sent to it.
    pub(super) fn set_fast(&mut self, is_fast: bool) {
        self.is_fast = is_fast;
    }

    /// Counts what rustls holds.
    #[inline(never)]
    pub(super) fn count(&mut self, pool: &Pool) {
        pool.hold(&mut self.held, self.incoming + self.outgoing);
    }

    /// Takes records from the socket, or the first bytes, whatever they are.
    #[inline(never)]
    pub(super) fn receive<S: Sys>(&mut self, stream: &S::Stream, sys: &mut S) -> io::Result<Moved> {
        if matches!(self.first, First::Unknown(..)) {
            return self.receive_first(stream, sys);
        }
        let Transfer { count, is_full, .. } = sys.tls_recv(&mut self.secure, stream);
        let count = count?;
        self.incoming = (self.incoming + count).min(INCOMING_BYTES_MAX);
        Ok(Moved { count, is_full })
    }

    fn receive_first<S: Sys>(&mut self, stream: &S::Stream, sys: &mut S) -> io::Result<Moved> {
        let mut bytes = [0; FIRST_BYTES];
        let count = sys.recv(stream, &mut bytes)?;
        if let First::Unknown(answer, received) = &mut self.first {
            received.extend_from_slice(&bytes[..count]);
            match answer(received, count == 0, sys.wall()) {
                Poll::Pending => {}
                Poll::Ready(Some(answer)) => self.first = First::Plain(answer),
                Poll::Ready(None) => {
                    sys.tls_feed(&mut self.secure, received)?;
                    self.first = First::Records;
                }
            }
        }
        Ok(Moved {
            count,
            is_full: count == FIRST_BYTES,
        })
    }

    /// Makes plain bytes of the records that came, and moves them to `link`. Whether there were
    /// any, or the end, or the protocol may begin because the handshake is done, or there is an
    /// answer in plain text.
    #[inline(never)]
    pub(super) fn open_records<S: Sys>(
        &mut self,
        link: &mut Link,
        stream: &S::Stream,
        sys: &mut S,
        pool: &mut Pool,
    ) -> Result<bool, io::ErrorKind> {
        if matches!(self.first, First::Plain(_)) {
            return Ok(true);
        }
        let was_handshaking = self.is_handshaking();
        if let Err(error) = sys.tls_open(&mut self.secure, stream) {
            log::debug!("tls: {}", error.text);
            self.trouble = Some(error);
            return Err(io::ErrorKind::InvalidData);
        }
        let may_begin = was_handshaking && !self.is_handshaking();
        let has_plain = self.take_plain(link, sys, pool)?;
        if (has_plain && !self.plain_waits) || may_begin {
            self.incoming = 0;
        }
        Ok(has_plain || may_begin)
    }

    /// Moves plain bytes to `link`. Whether there were any, or the end.
    ///
    /// # Errors
    /// What came within another TLS breaks the protocol.
    #[inline(never)]
    pub(super) fn take_plain(
        &mut self,
        link: &mut Link,
        sys: &mut impl Sys,
        pool: &mut Pool,
    ) -> Result<bool, io::ErrorKind> {
        let mut news = false;
        while link.rx.has_space() && !link.eof {
            let space = link.rx.space(pool);
            let room = space.len();
            match sys.tls_plain(&mut self.secure, space) {
                Ok(count) if count > 0 => {
                    link.rx.filled(count, room);
                    news = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.plain_waits = false;
                    return Ok(news);
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(io::ErrorKind::InvalidData);
                }
                // A `close_notify`, or a connection that ended without one.
                Ok(_) | Err(_) => {
                    link.eof = true;
                    news = true;
                }
            }
        }
        self.plain_waits = !link.eof;
        Ok(news)
    }

    /// Sends records: those that wait, else those that the front of the link's queue becomes.
    #[inline(never)]
    pub(super) fn send<S: Sys>(
        &mut self,
        link: &mut Link,
        stream: &S::Stream,
        sys: &mut S,
        pool: &mut Pool,
    ) -> Result<Sent, Error> {
        while !self.has_output() {
            if !self.seal(link, sys, pool)? {
                return Ok(Sent::Nothing);
            }
        }
        let sent = sys.tls_send(&mut self.secure, stream);
        self.outgoing = sent.left;
        Sent::of(sent.count, |_| sent.is_full)
    }

    /// Makes records of the front of the link's queue, or the last one of its end. Whether there
    /// was anything.
    fn seal<S: Sys>(
        &mut self,
        link: &mut Link,
        sys: &mut S,
        pool: &mut Pool,
    ) -> Result<bool, Error> {
        let piece_bytes = match (pool.is_scarce(), self.is_fast) {
            (true, _) => RECORD_BYTES,
            (false, false) => UNPROVEN_PIECE_BYTES,
            (false, true) => PIECE_BYTES,
        };
        self.secure.set_buffer_limit(piece_bytes);
        let plain = self
            .encrypt(link, piece_bytes, sys)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Error::Changed,
                kind => Error::Reset(kind),
            })?;
        link.tx.sent(plain, pool);
        if plain == 0 && link.finish == Finish::Wanted && link.tx.is_empty() && !self.ended {
            sys.tls_end(&mut self.secure);
            self.ended = true;
            return Ok(true);
        }
        Ok(plain > 0)
    }

    /// Gives the front of the queue to rustls, at most `piece_bytes`; how many bytes it took.
    fn encrypt<S: Sys>(
        &mut self,
        link: &Link,
        piece_bytes: usize,
        sys: &mut S,
    ) -> io::Result<usize> {
        let secure = &mut self.secure;
        match link.tx.front() {
            Front::Empty => Ok(0),
            Front::Piped(_) => unreachable!("where TLS is spoken nothing goes through a pipe"),
            Front::One(bytes, _) => sys.tls_seal(secure, &[IoSlice::new(bytes)]),
            Front::Many(runs, count, _) => sys.tls_seal(secure, &runs[..count]),
            Front::File(file, offset, len) => {
                let wanted = usize::try_from(len).unwrap_or(usize::MAX).min(piece_bytes);
                seal_file(secure, sys, (file, offset), wanted)
            }
        }
    }
}

/// Makes records of so many bytes of a file; how many it were. A function of its own, since what it
/// reads into would else be on the stack, and be touched, whenever anything is sent.
///
/// # Errors
/// Those of the disk; `UnexpectedEof` if the file is shorter than was promised.
#[inline(never)]
fn seal_file(
    secure: &mut Secure,
    sys: &mut impl Sys,
    (file, offset): (&File, u64),
    wanted: usize,
) -> io::Result<usize> {
    let mut piece = [0; PIECE_BYTES];
    let count = sys.disk().read_at(file, offset, &mut piece[..wanted])?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    sys.tls_seal(secure, &[IoSlice::new(&piece[..count])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sim::Sim;
    use rustls::pki_types::PrivateKeyDer;

    #[test]
    fn a_configuration_that_rustls_refuses_is_an_error_and_not_plain_text() {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![own.cert.into()], key);
        let mut options = TlsOptions {
            config: Arc::new(config.expect("a certificate")),
            plain: None,
        };
        let mut sys = Sim::new(1);
        assert!(Tls::accept(&options, &mut sys).is_ok());
        Arc::get_mut(&mut options.config)
            .expect("nobody else's")
            .max_fragment_size = Some(1); // less than a record's head
        assert!(Tls::accept(&options, &mut sys).is_err());
    }
}
