//! TLS of one connection, as the loop sees it: records in and out, plain bytes on the other side.
//!
//! rustls does the cryptography and keeps the records. It is behind [`super::Sys`] because it has a
//! source of chance of its own, and because a record of what happened knows no keys: there, what it
//! answered is answered again, without it ([`Secure::replayed`]).
//!
//! One may be spoken within another, as with an origin in a tunnel of a proxy that is itself spoken to
//! by TLS: the records of the inner one are the plain bytes of the outer one.
//!
//! ```text
//! plain bytes ──▶ inner: records ──▶ outer: records of those ──▶ kernel
//! ```
//!
//! The inner one takes records only while it has no plain bytes left, so that what nobody has taken yet
//! waits in the outer one, and behind that in the kernel.
//!
//! Not here: what becomes of the plain bytes, and when to send (`reactor::tls`).

use std::io::{self, IoSlice, Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::Sys;

/// Which end of a connection this one is.
pub enum Role {
    /// The one that was connected to.
    Server(Arc<ServerConfig>),
    /// The one that connects.
    Client {
        /// Whom it trusts, and which protocols it offers.
        config: Arc<ClientConfig>,
        /// The name that the certificate of its peer must have.
        name: ServerName<'static>,
        /// What went wrong, in words.
        explain: fn(&rustls::Error) -> String,
    },
}

/// What broke TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureError {
    /// In words.
    pub text: String,
    /// The certificate of the peer is not what it should be.
    pub is_certificate: bool,
}

/// Bytes that crossed the kernel.
#[derive(Debug)]
pub struct Transfer {
    /// How many, or why none did.
    pub count: io::Result<usize>,
    /// As many as were offered: the kernel may have more, or more room.
    pub is_full: bool,
    /// Bytes of records that were offered and did not leave.
    pub left: usize,
}

/// The TLS of one connection.
pub struct Secure {
    /// `None` where what it answered is answered again.
    connection: Option<Connection>,
    /// Within which it is spoken.
    outer: Option<Box<Secure>>,
    explain: Option<fn(&rustls::Error) -> String>,
    facts: Facts,
    /// The stream that its records came by last, by its number in a record.
    pub(super) stream: Option<u32>,
}

/// What is known of it without asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Neither side may send anything of its own yet.
    pub(crate) is_handshaking: bool,
    /// Records wait to be sent.
    pub(crate) has_output: bool,
}

impl Secure {
    pub(super) fn begin(role: &Role, outer: Option<Self>) -> Result<Self, SecureError> {
        let (connection, explain) = match role {
            Role::Server(config) => {
                let connection = ServerConnection::new(Arc::clone(config));
                (connection.map(Connection::from), None)
            }
            Role::Client {
                config,
                name,
                explain,
            } => {
                let connection = ClientConnection::new(Arc::clone(config), name.clone());
                (connection.map(Connection::from), Some(*explain))
            }
        };
        let mut secure = Self {
            connection: None,
            outer: outer.map(Box::new),
            explain,
            facts: Facts::default(),
            stream: None,
        };
        secure.connection = Some(connection.map_err(|error| secure.error(&error))?);
        secure.look();
        Ok(secure)
    }

    /// One of which only the facts are known.
    pub(super) fn replayed() -> Self {
        Self {
            connection: None,
            outer: None,
            explain: None,
            facts: Facts::default(),
            stream: None,
        }
    }

    /// What is known of it.
    pub(crate) fn facts(&self) -> Facts {
        self.facts
    }

    pub(super) fn set_facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// It holds about so many plain bytes as records that were not sent, at most.
    pub(crate) fn set_buffer_limit(&mut self, bytes: usize) {
        if let Some(connection) = &mut self.connection {
            connection.set_buffer_limit(Some(bytes));
        }
        if let Some(outer) = &mut self.outer {
            outer.set_buffer_limit(bytes);
        }
    }

    fn look(&mut self) {
        if let Some(connection) = &self.connection {
            let outer = self.outer.as_ref();
            self.facts = Facts {
                is_handshaking: connection.is_handshaking(),
                has_output: connection.wants_write()
                    || outer.is_some_and(|outer| outer.facts.has_output),
            };
        }
    }

    fn error(&self, error: &rustls::Error) -> SecureError {
        SecureError {
            text: self
                .explain
                .map_or_else(|| error.to_string(), |explain| explain(error)),
            is_certificate: matches!(error, rustls::Error::InvalidCertificate(_)),
        }
    }

    fn connection(&mut self) -> io::Result<&mut Connection> {
        let absent = || io::Error::other("TLS that is only known from a record");
        self.connection.as_mut().ok_or_else(absent)
    }

    /// Calls rustls, after which other facts may be so.
    fn call<T>(&mut self, what: impl FnOnce(&mut Connection) -> io::Result<T>) -> io::Result<T> {
        let result = self.connection().and_then(what);
        self.look();
        result
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.call(|connection| {
            while !bytes.is_empty() {
                connection.read_tls(&mut bytes)?;
            }
            Ok(())
        })
    }

    pub(super) fn recv<S: Sys + ?Sized>(&mut self, sys: &mut S, stream: &S::Stream) -> Transfer {
        if let Some(outer) = &mut self.outer {
            return outer.recv(sys, stream);
        }
        let mut kernel = Kernel::new(stream, sys);
        let count = self.call(|connection| connection.read_tls(&mut kernel));
        kernel.transfer(count)
    }

    pub(super) fn open<S: Sys + ?Sized>(
        &mut self,
        sys: &mut S,
        stream: &S::Stream,
    ) -> Result<(), SecureError> {
        if let Some(outer) = &mut self.outer {
            outer.open(sys, stream)?;
        }
        let opened = match (&mut self.connection, &self.outer) {
            (None, _) => return Ok(()),
            (Some(connection), None) => connection.process_new_packets().map(drop),
            (Some(_), Some(_)) => self.draw(),
        };
        if opened.is_err() {
            let _ = self.send(sys, stream);
        }
        self.look();
        opened.map_err(|error| self.error(&error))
    }

    /// Takes records out of the outer one, as long as nothing has come of them.
    fn draw(&mut self) -> Result<(), rustls::Error> {
        let outer = self.outer.as_mut().and_then(|it| it.connection.as_mut());
        let (Some(connection), Some(outer)) = (&mut self.connection, outer) else {
            return Ok(());
        };
        while connection.process_new_packets()?.plaintext_bytes_to_read() == 0 {
            match connection.read_tls(&mut outer.reader()) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The outer one has ended, with a word or without one: so has this one.
                Ok(_) | Err(_) => {
                    let _ = connection.read_tls(&mut io::empty());
                    break;
                }
            }
        }
        connection.process_new_packets().map(drop)
    }

    pub(super) fn plain(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let taken = self.call(|connection| connection.reader().read(into));
        let is_short = matches!(&taken, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if !is_short || self.outer.is_none() {
            return taken;
        }
        let drawn = self.draw();
        self.look();
        drawn.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.call(|connection| connection.reader().read(into))
    }

    pub(super) fn seal(&mut self, runs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.call(|connection| connection.writer().write_vectored(runs))
    }

    pub(super) fn end(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.send_close_notify();
        }
        self.give();
        if let Some(outer) = &mut self.outer {
            outer.end();
        }
        self.look();
    }

    /// Gives its records to the outer one, as far as that takes them.
    fn give(&mut self) {
        let outer = self.outer.as_mut();
        let (Some(connection), Some(outer)) = (&mut self.connection, outer) else {
            return;
        };
        if let Some(taker) = &mut outer.connection {
            while connection.wants_write()
                && matches!(connection.write_tls(&mut taker.writer()), Ok(count) if count > 0)
            {
            }
        }
        outer.look();
    }

    pub(super) fn send<S: Sys + ?Sized>(&mut self, sys: &mut S, stream: &S::Stream) -> Transfer {
        self.give();
        if let Some(outer) = &mut self.outer {
            let sent = outer.send(sys, stream);
            self.look();
            return sent;
        }
        let mut kernel = Kernel::new(stream, sys);
        let count = self.call(|connection| connection.write_tls(&mut kernel));
        kernel.transfer(count)
    }
}

/// A socket as rustls wants to see it.
struct Kernel<'a, S: Sys + ?Sized> {
    sys: &'a mut S,
    stream: &'a S::Stream,
    /// A call transferred less than it was offered: the kernel has no more, or no more room.
    short: bool,
    /// What was offered last and did not leave.
    left: usize,
}

impl<'a, S: Sys + ?Sized> Kernel<'a, S> {
    fn new(stream: &'a S::Stream, sys: &'a mut S) -> Self {
        Self {
            sys,
            stream,
            short: false,
            left: 0,
        }
    }

    fn transfer(&self, count: io::Result<usize>) -> Transfer {
        Transfer {
            count,
            is_full: !self.short,
            left: self.left,
        }
    }
}

impl<S: Sys + ?Sized> io::Read for Kernel<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.sys.recv(self.stream, into)?;
        self.short |= count < into.len();
        Ok(count)
    }
}

impl<S: Sys + ?Sized> io::Write for Kernel<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = bytes.len();
        let count = self.sys.send(self.stream, bytes, false)?;
        self.left -= count;
        self.short |= self.left > 0;
        Ok(count)
    }

    fn write_vectored(&mut self, runs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.left = runs.iter().map(|run| run.len()).sum();
        let count = self.sys.send_many(self.stream, runs, false)?;
        self.left -= count;
        self.short |= self.left > 0;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
