// A greeting needs no fact: it is said in the first `advance`. `close` sends what is queued first.

use std::time::{Duration, Instant, UNIX_EPOCH};

use netlab_reactor::ending::Error;
use netlab_reactor::http::date::put_iso;
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

    fn advance(&mut self, _conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let since = io.cx.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = String::new();
        put_iso(&mut line, since.as_secs() as i64);
        line.push_str("\r\n");
        io.down.tx.put(line.as_bytes(), io.cx.pool);
        io.close(); // `advance` is not called again
        Ok(())
    }

    fn state(&self, _conn: &Conn) -> &'static str {
        "Telling"
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        conn.until
    }
}
