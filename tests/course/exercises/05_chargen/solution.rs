// The state is the number of a line. Who asks for room and is refused is called when there is some.

use std::time::{Duration, Instant};

use netlab_reactor::ending::Error;
use netlab_reactor::service::{Io, Peer, Service, work};

#[derive(Default)]
pub(crate) struct Chargen;

pub(crate) struct Conn {
    /// The line to be sent next.
    next: usize,
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
        Conn { next: 0, until }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let Some(lines) = asked(io.down.rx.bytes()) else {
            return Ok(());
        };
        let lines = lines?; // what was asked stays in front: it says how many there are
        while conn.next < lines {
            let line = line(conn.next);
            if !io.down.tx.has_room(line.len()) || io.cx.work.is_spent() {
                return Ok(()); // it is called again once there is room, or time
            }
            io.cx.work.charge(work::PIECE_NS);
            io.down.tx.put(&line, io.cx.pool);
            conn.next += 1;
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
