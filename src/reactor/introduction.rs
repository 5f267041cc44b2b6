//! The header of the PROXY protocol ahead of a connection: who the client of a load balancer is. It is
//! taken off the socket before anything else is, TLS included.
//!
//! ```text
//! accepted ──▶ Introduction ──whole header──▶ as if accepted from the address that it names
//!                  └──no header, too late, the end──▶ dropped
//! ```
//!
//! The header is looked at where it is (`MSG_PEEK`) until it is whole, and then exactly its bytes are
//! read: what follows is for others.
//!
//! Not here: whose header is awaited and believed ([`crate::gate`]).

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::half::Half;
use crate::ending::{Error, Phase};
use crate::sys::Sys;
use crate::wire::proxy_protocol::{self, HEADER_BYTES_MAX, Header};

/// A header that is awaited.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) until: Instant,
    /// What it says, and how many bytes of it are still to be read, once it was seen whole.
    seen: Option<(Header, usize)>,
}

/// What came of a look.
pub(super) enum Introduced {
    /// More must come.
    NotYet,
    /// From whom the connection is passed on; `None` if it is the peer's own.
    By(Option<SocketAddr>),
}

impl Introduction {
    pub(super) fn new(until: Instant) -> Self {
        Self { until, seen: None }
    }

    /// Takes the header off the socket, as far as it is there.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn advance<S: Sys>(
        &mut self,
        down: &mut Half<S>,
        sys: &mut S,
        now: Instant,
    ) -> Result<Introduced, Error> {
        let Some(stream) = &down.stream else {
            return Err(Error::Reset(io::ErrorKind::NotConnected));
        };
        let mut bytes = [0; HEADER_BYTES_MAX];
        while down.ready.readable {
            let result = match &self.seen {
                None => sys.peek(stream, &mut bytes),
                Some((_, left)) => sys.recv(stream, &mut bytes[..*left]),
            };
            match (result, &mut self.seen) {
                (Ok(0), _) => return Err(Error::Protocol(NO_HEADER.to_owned())),
                (Ok(count), None) => match proxy_protocol::parse(&bytes[..count]) {
                    Ok(None) if down.ready.closing => {
                        return Err(Error::Protocol(NO_HEADER.to_owned()));
                    }
                    Ok(None) => down.ready.readable = false,
                    Ok(seen) => self.seen = seen,
                    Err(_) => return Err(Error::Protocol(NO_HEADER.to_owned())),
                },
                (Ok(count), Some((header, left))) => {
                    *left -= count;
                    if *left == 0 {
                        return Ok(Introduced::By(match header {
                            Header::From(source) => Some(*source),
                            Header::Own => None,
                        }));
                    }
                }
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {
                    down.ready.readable = false;
                }
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
                (Err(error), _) => return Err(Error::Reset(error.kind())),
            }
        }
        match now >= self.until {
            true => Err(Error::TimedOut(Phase::Head)),
            false => Ok(Introduced::NotYet),
        }
    }
}

const NO_HEADER: &str = "no header of the PROXY protocol, which this listener expects of this peer";
