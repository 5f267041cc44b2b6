// What is remembered between two pieces is one bit. The end of one direction is a fact like others.

use std::time::{Duration, Instant};

use netlab_reactor::ending::Error;
use netlab_reactor::service::{Io, Peer, Service};

#[derive(Default)]
pub(crate) struct Words;

pub(crate) struct Conn {
    words: usize,
    /// The next byte that is no space begins a word.
    after_space: bool,
    until: Instant,
}

impl Service for Words {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        let until = now + Duration::from_secs(60);
        Conn {
            words: 0,
            after_space: true,
            until,
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        for byte in io.down.rx.bytes() {
            let is_space = b" \n".contains(byte);
            conn.words += usize::from(conn.after_space && !is_space);
            conn.after_space = is_space;
        }
        io.down.rx.consume(io.down.rx.len());
        if io.down.is_drained() {
            let answer = format!("{}\n", conn.words);
            io.down.tx.put(answer.as_bytes(), io.cx.pool);
            io.close();
        }
        Ok(())
    }

    fn state(&self, _conn: &Conn) -> &'static str {
        "Counting"
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        conn.until
    }
}
