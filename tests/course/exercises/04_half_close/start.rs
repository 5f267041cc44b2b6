// Exercise 4, the end of a stream: count the words that a client sends (between spaces and line
// feeds), and tell it how many once it has ended its side, `3\n`. A word may come in two pieces; a
// client that has ended its side still reads.
//
// Look at: `Link::eof`, `Link::is_drained`, and the three ends in `src/service/mod.rs`.
//
// What is given takes the end of the client's stream for the end of the client.
//
// Run: cargo test --test course --features exercises e04

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use netlab_reactor::ending::Error;
use netlab_reactor::service::{Io, Peer, Service};

#[derive(Default)]
pub(crate) struct Words;

pub(crate) struct Conn {
    words: usize,
    until: Instant,
}

impl Service for Words {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        let until = now + Duration::from_secs(60);
        Conn { words: 0, until }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let text = String::from_utf8_lossy(io.down.rx.bytes()).into_owned();
        conn.words += text.split_whitespace().count();
        io.down.rx.consume(io.down.rx.len());
        if io.down.eof {
            return Err(Error::Reset(ErrorKind::ConnectionReset));
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
