//! A tunnel: bytes both ways, unread, until both sides have ended (RFC 9110 sections 7.8 and
//! 9.3.6).
//!
//! The kernel moves the bytes where it can ([`Io::relay`]); what it does not move arrives here and is
//! passed on.
//!
//! The end of one side is passed on to the other, whose bytes still come; so is a reset. Silence of
//! both ends the tunnel.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::step::{Backlog, Outcome};
use crate::buffer::pour;
use crate::ending::{Error, Phase};
use crate::http::Status;
use crate::service::{Io, LinkState, Relayed};
use crate::services::web::access_log::Answerer;
use crate::services::web::reply::Answered;

/// The answer that opens a tunnel.
pub(super) const TUNNEL_OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// A tunnel that is open.
pub(super) struct Tunnel {
    pub(super) until: Instant,
    /// Our end of the connection to the origin.
    pub(super) local: Option<SocketAddr>,
    idle_timeout: Duration,
    backlog: Backlog,
    /// Of the answer that opened it.
    status: Status,
    /// Bytes that were passed on to the client, and from it.
    down_bytes: u64,
    up_bytes: u64,
    /// The same of bytes that passed unread.
    relayed: Relayed,
}

impl Tunnel {
    /// A tunnel that begins now.
    pub(super) fn new(
        status: Status,
        idle_timeout: Duration,
        local: Option<SocketAddr>,
        now: Instant,
    ) -> Self {
        Self {
            until: now + idle_timeout,
            local,
            idle_timeout,
            backlog: Backlog::default(),
            status,
            down_bytes: 0,
            up_bytes: 0,
            relayed: Relayed::default(),
        }
    }

    /// What the client got, and what it sent.
    pub(super) fn answered(&self) -> (Answered, Answerer) {
        let answered = Answered {
            status: self.status,
            body_bytes: self.down_bytes + self.relayed.down,
        };
        let up_bytes = self.up_bytes + self.relayed.up;
        (answered, Answerer::Tunnel { up_bytes })
    }

    pub(super) fn advance(&mut self, io: &mut Io<'_>) -> Result<Outcome, Error> {
        let broken = io.up.status != LinkState::Open;
        let taken = self.backlog.shrank(io.up);
        io.down.rx.pass_unread(u64::MAX);
        io.up.rx.pass_unread(u64::MAX);
        let mut moved = pour(&mut io.up.rx, &mut io.down.tx, usize::MAX, io.cx.pool);
        self.down_bytes += moved as u64;
        if !broken {
            let up = pour(&mut io.down.rx, &mut io.up.tx, usize::MAX, io.cx.pool);
            self.up_bytes += up as u64;
            moved += up;
        }
        if let LinkState::Failed(kind) = io.up.status
            && io.up.rx.is_empty()
            && io.down.tx.is_empty_or_wakes()
        {
            return Err(Error::Reset(kind)); // and the client is reset as well
        }
        if io.up.is_drained() && !broken {
            io.down.finish();
        }
        if io.down.is_drained() {
            io.up.finish();
        }
        // Not before the last bytes have left for the origin: `close` would drop them.
        let done = io.down.is_drained() && io.up.tx.is_empty_or_wakes();
        if io.up.is_drained() && done {
            return Ok(Outcome::Done { stays: false });
        }
        self.backlog.watch(io.up);
        let has_relayed = std::mem::replace(&mut self.relayed, io.relayed) != io.relayed;
        if moved > 0 || has_relayed || taken || io.drained {
            self.until = io.cx.now + self.idle_timeout;
        } else if io.cx.now >= self.until && io.down.tx.is_empty() {
            return Err(Error::TimedOut(Phase::Idle));
        }
        Ok(Outcome::Wait)
    }
}
