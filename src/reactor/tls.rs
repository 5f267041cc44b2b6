//! TLS between a socket and its link: the protocol sees plain bytes and does not know.
//!
//! rustls does the cryptography and keeps the records; this moves bytes between it, the kernel and the buffers, under the
//! same readiness rules as a plain socket:
//!
//! ```text
//! kernel ──recv──▶ rustls ──plain bytes──▶ RecvBuf       fill
//! kernel ◀──send── rustls ◀──plain bytes── SendQueue     flush
//! ```
//!
//! A file cannot go by `sendfile` (the kernel has no keys), so it is read in pieces of [`PIECE_BYTES`], which leave as full
//! records of 16 KiB and in one system call. RFC 8446; the end of the stream is a `close_notify` (section 6.1), and a
//! connection that ends without one ends here as well: HTTP knows by its own framing whether a message was cut.
//!
//! Not here: reading certificates ([`crate::config`]), client certificates, and TLS towards origins.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use super::session::{Budget, Progress, Socket, is_as_promised};
use crate::buffer::{Front, Pool};
use crate::config::{TlsError, TlsFiles};
use crate::ending::Error;
use crate::service::{Finish, Link};
use crate::sys::Sys;

/// Plain bytes that are encrypted at a time, and about what rustls holds of unsent records.
const PIECE_BYTES: usize = 64 * 1024;

/// The certificate and key of a listener, and where they came from.
#[derive(Debug)]
pub struct TlsSource {
    files: TlsFiles,
    config: Arc<ServerConfig>,
}

impl TlsSource {
    /// Reads the files.
    ///
    /// # Errors
    /// Those of [`TlsFiles::load`].
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            files: files.clone(),
            config: Arc::new(files.load()?),
        })
    }

    /// Reads both files again. New connections get the new certificate; if it cannot be used, the old one stays.
    ///
    /// # Errors
    /// As [`TlsSource::load`].
    pub fn reload(&mut self) -> Result<(), TlsError> {
        self.config = Arc::new(self.files.load()?);
        Ok(())
    }

    /// The TLS of a new connection. It fails for a configuration that is wrong in itself; such a connection cannot be served,
    /// least of all in plain text.
    pub(super) fn accept(&self) -> Result<Box<Tls>, rustls::Error> {
        let mut connection = ServerConnection::new(Arc::clone(&self.config))?;
        connection.set_buffer_limit(Some(PIECE_BYTES));
        Ok(Box::new(Tls {
            connection,
            plain_waits: false,
            ended: false,
        }))
    }
}

/// The TLS of one connection.
pub(super) struct Tls {
    connection: ServerConnection,
    /// Plain bytes wait in rustls for room in the receive buffer.
    plain_waits: bool,
    /// The `close_notify` was queued.
    ended: bool,
}

impl Tls {
    /// Whether a fill could bring plain bytes without a word from the kernel.
    pub(super) fn has_plain(&self) -> bool {
        self.plain_waits
    }

    /// Whether records wait to be sent.
    pub(super) fn has_output(&self) -> bool {
        self.connection.wants_write()
    }

    /// Moves plain bytes to `link`. Whether there were any, or the end.
    fn take_plain(&mut self, link: &mut Link, pool: &mut Pool) -> bool {
        let mut news = false;
        while link.rx.has_space() && !link.eof {
            let space = link.rx.space(pool);
            let room = space.len();
            match self.connection.reader().read(space) {
                Ok(count) if count > 0 => {
                    link.rx.filled(count, room);
                    news = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.plain_waits = false;
                    return news;
                }
                // A `close_notify`, or a connection that ended without one.
                Ok(_) | Err(_) => {
                    link.eof = true;
                    news = true;
                }
            }
        }
        self.plain_waits = !link.eof;
        news
    }
}

/// The TLS side of `session::fill`.
pub(super) fn fill<S: Sys>(
    link: &mut Link,
    socket: &mut Socket<S>,
    sys: &mut S,
    pool: &mut Pool,
    budget: &mut Budget,
) -> Result<bool, io::ErrorKind> {
    let Socket {
        stream: Some(stream),
        readable,
        closing,
        tls: Some(tls),
        ..
    } = socket
    else {
        return Ok(false);
    };
    let mut news = tls.take_plain(link, pool);
    while *readable && !link.eof && link.rx.has_space() && !budget.is_spent() {
        let mut kernel = Kernel {
            sys,
            stream,
            short: false,
        };
        match tls.connection.read_tls(&mut kernel) {
            Ok(0) => {
                *readable = false;
                link.eof = true;
                news = true;
            }
            Ok(count) => {
                *readable = !kernel.short || *closing;
                budget.spend(count); // the work is that of the records: with padding, they hold next to nothing
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                *readable = false;
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.kind()),
        }
        if let Err(error) = tls.connection.process_new_packets() {
            // The peer is told by an alert, as far as the socket takes it at once.
            log::debug!("tls: {error}");
            let _ = tls.connection.write_tls(&mut Kernel {
                sys,
                stream,
                short: false,
            });
            return Err(io::ErrorKind::InvalidData);
        }
        // At the socket's end there is nothing to take: a read happens only once all plain bytes before it were taken.
        news |= tls.take_plain(link, pool);
    }
    Ok(news)
}

/// The TLS side of `session::flush`.
pub(super) fn flush<S: Sys>(
    link: &mut Link,
    socket: &mut Socket<S>,
    sys: &mut S,
    pool: &mut Pool,
    budget: &mut Budget,
) -> Result<Progress, Error> {
    let Socket {
        stream: Some(stream),
        writable,
        tls: Some(tls),
        ..
    } = socket
    else {
        return Ok(Progress::None);
    };
    let mut progress = Progress::None;
    loop {
        while *writable && tls.connection.wants_write() {
            let mut kernel = Kernel {
                sys,
                stream,
                short: false,
            };
            match tls.connection.write_tls(&mut kernel) {
                Ok(count) => {
                    budget.spend(count);
                    *writable = !kernel.short;
                    progress = Progress::Sent;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => *writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Reset(error.kind())),
            }
        }
        if !*writable || budget.is_spent() {
            break;
        }
        if !is_as_promised(&link.tx, sys) {
            return Err(Error::Changed);
        }
        let plain = encrypt(link, tls, sys).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Changed,
            kind => Error::Reset(kind),
        })?;
        link.tx.sent(plain, pool);
        if plain > 0 {
            continue;
        }
        if link.finish != Finish::Wanted || !link.tx.is_empty() {
            break;
        }
        if tls.ended {
            // A peer that ended first is closed at once, which says the same.
            if !link.eof {
                sys.shutdown(stream)
                    .map_err(|error| Error::Reset(error.kind()))?;
            }
            link.finish = Finish::Sent;
            break;
        }
        tls.connection.send_close_notify();
        tls.ended = true;
    }
    if progress == Progress::Sent && link.tx.take_refused() {
        progress = Progress::FreedForRefused;
    }
    Ok(progress)
}

/// Gives the front of the queue to rustls; how many bytes it took.
fn encrypt<S: Sys>(link: &Link, tls: &mut Tls, sys: &mut S) -> io::Result<usize> {
    let mut writer = tls.connection.writer();
    match link.tx.front() {
        Front::Empty => Ok(0),
        Front::One(bytes, _) => writer.write(bytes),
        Front::Many(runs, count, _) => writer.write_vectored(&runs[..count]),
        Front::File(file, offset, len) => {
            let mut piece = [0; PIECE_BYTES];
            let wanted = usize::try_from(len).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let count = sys.read_at(file, offset, &mut piece[..wanted])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into()); // shorter than was promised
            }
            writer.write(&piece[..count])
        }
    }
}

/// A socket as rustls wants to see it.
struct Kernel<'a, S: Sys> {
    sys: &'a mut S,
    stream: &'a S::Stream,
    /// A call transferred less than it was offered: the kernel has no more, or no more room.
    short: bool,
}

impl<S: Sys> Read for Kernel<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.sys.recv(self.stream, into)?;
        self.short |= count < into.len();
        Ok(count)
    }
}

impl<S: Sys> Write for Kernel<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sys.send(self.stream, bytes, false)?;
        self.short |= count < bytes.len();
        Ok(count)
    }

    fn write_vectored(&mut self, runs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let count = self.sys.send_many(self.stream, runs, false)?;
        self.short |= count < runs.iter().map(|run| run.len()).sum();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_rustls_refuses_is_an_error_and_not_plain_text() {
        let dir = tempfile::tempdir().expect("a folder");
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
        std::fs::write(&cert, own.cert.pem()).expect("a file");
        std::fs::write(&key, own.signing_key.serialize_pem()).expect("a file");
        let mut source = TlsSource::load(&TlsFiles { cert, key }).expect("a certificate");
        assert!(source.accept().is_ok());
        let config = Arc::get_mut(&mut source.config).expect("nobody else's");
        config.max_fragment_size = Some(1); // less than a record's head
        assert!(source.accept().is_err());
    }
}
