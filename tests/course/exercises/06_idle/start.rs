// Exercise 6, a time-out: what a client sends comes back, and who is silent for `idle` is dropped,
// `Error::TimedOut(Phase::Idle)`. A client that is only slow to read is not silent.
//
// Look at: rule 3 of `src/service/mod.rs`, `Io::drained`, and how `src/services/tcp_echo.rs` does it.
//
// What is given moves the deadline at each call: also at the one that the deadline itself brings, and
// at those that mean nothing. Nobody is ever dropped.
//
// Run: cargo test --test course --features exercises e06

use std::time::{Duration, Instant};

use netlab_reactor::buffer::pour;
use netlab_reactor::ending::Error;
use netlab_reactor::service::{Io, Peer, Service};

pub(crate) struct Echo {
    pub(crate) idle: Duration,
}

pub(crate) struct Conn {
    idle_until: Instant,
}

impl Service for Echo {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        let idle_until = now + self.idle;
        Conn { idle_until }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        pour(&mut io.down.rx, &mut io.down.tx, usize::MAX, io.cx.pool);
        conn.idle_until = io.cx.now + self.idle;
        if io.down.is_drained() {
            io.close();
        }
        Ok(())
    }

    fn state(&self, _conn: &Conn) -> &'static str {
        "Echoing"
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        conn.idle_until
    }
}
