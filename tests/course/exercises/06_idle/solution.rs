// The deadline follows from what moved, not from having been called.

use std::time::{Duration, Instant};

use netlab_reactor::buffer::pour;
use netlab_reactor::ending::{Error, Phase};
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
        let moved = pour(&mut io.down.rx, &mut io.down.tx, usize::MAX, io.cx.pool);
        if moved > 0 || io.drained {
            conn.idle_until = io.cx.now + self.idle;
        }
        if io.down.is_drained() {
            io.close();
        } else if io.cx.now >= conn.idle_until && io.down.tx.is_empty() {
            return Err(Error::TimedOut(Phase::Idle));
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
