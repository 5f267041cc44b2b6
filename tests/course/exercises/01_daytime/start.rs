// Exercise 1, daytime (RFC 867): who connects is told the time, in one line such as
// `1994-11-06T08:49:37Z` and CR LF, and the connection is closed. What the client sends is ignored.
//
// Look at: `src/service/mod.rs` (the contract), `src/services/tcp_echo.rs` (the smallest service),
// `put_iso` in `src/http/date.rs`. The time of day is `io.cx.wall`.
//
// Run: cargo test --test course --features exercises e01

use std::time::{Duration, Instant};

use netlab_reactor::ending::Error;
use netlab_reactor::service::{Io, Peer, Service};

#[derive(Default)]
pub(crate) struct Daytime;

pub(crate) struct Conn {
    until: Instant,
}

impl Service for Daytime {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        let until = now + Duration::from_secs(10);
        Conn { until }
    }

    fn advance(&mut self, _conn: &mut Conn, _io: &mut Io<'_>) -> Result<(), Error> {
        Ok(()) // here is your part
    }

    fn state(&self, _conn: &Conn) -> &'static str {
        "Telling"
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        conn.until
    }
}
