// Exercise 5, lines on demand, after chargen (RFC 864): the client sends a number and a line feed, and
// gets so many lines of 72 characters and CR LF, each begun one character further in the row from
// space to tilde; then the connection is closed. Most clients read slowly, and some ask for
// millions: no more may wait to be sent than there is room for.
//
// Look at: `SendQueue::has_room` and `put` in `src/buffer.rs`, rule 2 of `src/service/mod.rs`, and
// the chapter "Backpressure" of the README.
//
// What is given puts everything into the queue at once.
//
// Run: cargo test --test course --features exercises e05

use std::time::{Duration, Instant};

use netlab_reactor::ending::Error;
use netlab_reactor::service::{Io, Peer, Service};

#[derive(Default)]
pub(crate) struct Chargen;

pub(crate) struct Conn {
    until: Instant,
}

/// A line by its number.
pub(crate) fn line(number: usize) -> Vec<u8> {
    let characters = (0..72).map(|place| b' ' + ((number + place) % 95) as u8);
    characters.chain(*b"\r\n").collect()
}

/// How many lines are asked for, once that is known.
fn asked(bytes: &[u8]) -> Option<Result<usize, Error>> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let number = std::str::from_utf8(&bytes[..end]).ok()?.parse();
    Some(number.map_err(|_| Error::Protocol("expected a number".into())))
}

impl Service for Chargen {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        let until = now + Duration::from_secs(60);
        Conn { until }
    }

    fn advance(&mut self, _conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let Some(lines) = asked(io.down.rx.bytes()) else {
            return Ok(());
        };
        for number in 0..lines? {
            io.down.tx.put(&line(number), io.cx.pool);
        }
        io.close();
        Ok(())
    }

    fn state(&self, _conn: &Conn) -> &'static str {
        "Sending"
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        conn.until
    }
}
