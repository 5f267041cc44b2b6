//! TCP echo: what a client sends comes back, in upper case or (RFC 862) as it is.
//!
//! ```text
//! Echoing ──the client's end, and all before it answered──▶ closed
//!    └───── nothing came for `idle_timeout` ──▶ dropped
//! ```
//!
//! Upper-casing is Unicode's, so it may grow (`ß` becomes `SS`) and a character may arrive in two
//! reads; ASCII, which does neither, is changed in place and its page moves on without a copy.

use std::time::{Duration, Instant};

use crate::buffer::pour;
use crate::config::{TcpEchoConfig, Transform};
use crate::ending::{Error, Phase};
use crate::metrics::Became;
use crate::service::{Io, Peer, Service, work};
use crate::wire::upper::{self, GROWTH_MAX, Upper};

/// What is upper-cased at a time where the text is not ASCII, so that its growth stays bounded.
const PIECE_BYTES: usize = 4 * 1024;

/// The echo service.
pub struct TcpEcho {
    transform: Transform,
    idle_timeout: Duration,
    /// The answer to one piece, kept for its memory only.
    piece: Vec<u8>,
}

/// One connection.
pub struct Conn {
    idle_until: Instant,
    /// The bytes of a character that has not wholly arrived.
    upper: Upper,
}

impl TcpEcho {
    /// A service as configured.
    pub fn new(config: &TcpEchoConfig) -> Self {
        Self {
            transform: config.transform,
            idle_timeout: config.idle_timeout,
            piece: Vec::new(),
        }
    }

    /// Answers some of what waits. Whether there was anything, and room for its answer. `first`:
    /// this call of `advance` has not answered anything yet.
    fn echo(&mut self, upper: &mut Upper, first: bool, io: &mut Io<'_>) -> bool {
        let (rx, tx) = (&mut io.down.rx, &mut io.down.tx);
        // Room first: without it the same bytes would be upper-cased again at every call.
        let count = rx.len().min(PIECE_BYTES);
        if rx.is_empty() || !tx.has_room(rx.len().max(GROWTH_MAX * count)) {
            return false;
        }
        // All of it only the first time, and if it begins with ASCII: what is behind a piece that
        // is not would be looked at again with each piece.
        let is_done = self.transform == Transform::None
            || (first && upper.is_idle() && {
                let (piece, rest) = rx.bytes_mut().split_at_mut(count);
                io.cx
                    .work
                    .charge((rest.len() / work::ASCII_BYTES_PER_NS) as u32);
                upper::ascii_in_place(piece) && upper::ascii_in_place(rest)
            });
        if is_done {
            return pour(rx, tx, usize::MAX, io.cx.pool) > 0;
        }
        let piece = &rx.bytes()[..count];
        let characters = upper::characters_beyond_ascii(piece);
        io.cx.work.charge(work::PIECE_NS);
        io.cx.work.charge_each(characters, work::CHARACTER_NS);
        self.piece.clear();
        upper.push(piece, &mut self.piece);
        tx.put(&self.piece, io.cx.pool);
        rx.consume(count);
        true
    }
}

impl Service for TcpEcho {
    type Conn = Conn;
    const CLIENT_FIRST: bool = true;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        Conn {
            idle_until: now + self.idle_timeout,
            upper: Upper::new(),
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let mut first = true;
        while !io.cx.work.is_spent() && self.echo(&mut conn.upper, first, io) {
            first = false;
        }
        if !first {
            io.cx.counted.answered(Became::Answered, io.cx.now);
        }
        if io.drained || !first {
            conn.idle_until = io.cx.now + self.idle_timeout;
        }
        if io.down.is_drained() || (io.cx.draining && io.down.rx.is_empty()) {
            self.piece.clear();
            conn.upper.finish(&mut self.piece);
            io.down.tx.put(&self.piece, io.cx.pool); // at most three bytes
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::bench::Bench;
    use proptest::prelude::*;

    fn bench(transform: Transform) -> Bench<TcpEcho> {
        Bench::new(TcpEcho::new(&TcpEchoConfig {
            transform,
            ..TcpEchoConfig::default()
        }))
    }

    #[test]
    fn a_sentence_comes_back_in_upper_case_and_the_connection_stays() {
        let mut bench = bench(Transform::Upper);
        bench
            .peer_sends(b"hello, world")
            .expect(b"HELLO, WORLD")
            .expect_open();
        bench
            .peer_sends("stra\u{df}e".as_bytes())
            .expect(b"STRASSE")
            .expect_open();
    }

    #[test]
    fn what_came_before_a_half_close_is_answered_and_a_cut_character_as_it_is() {
        let mut bench = bench(Transform::Upper);
        bench
            .peer_sends(b"abc\xc3")
            .expect(b"ABC")
            .peer_closes()
            .expect(b"\xc3")
            .expect_closed();
    }

    #[test]
    fn a_cut_character_is_answered_when_the_process_ends_too() {
        let mut bench = bench(Transform::Upper);
        bench.peer_sends(b"abc\xe2\x82").expect(b"ABC");
        bench.draining = true;
        bench.step();
        bench.expect(b"\xe2\x82").expect_closed();
    }

    #[test]
    fn without_transform_bytes_are_bytes() {
        let mut bench = bench(Transform::None);
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        bench.peer_sends(&bytes).expect(&bytes).expect_open();
    }

    #[test]
    fn a_silent_client_is_dropped_and_a_talking_one_is_not() {
        let mut bench = bench(Transform::Upper);
        bench
            .later(Duration::from_secs(299))
            .peer_sends(b"x")
            .later(Duration::from_secs(299))
            .expect_open();
        bench.later(Duration::from_secs(1));
        assert!(matches!(bench.failed, Some(Error::TimedOut(Phase::Idle))));
    }

    proptest! {
        #[test]
        fn cuts_do_not_show(text in "[a-z\u{df}\u{e9}\u{149}\u{1f80}]{0,40}", junk: Vec<u8>, cut in 1usize..7) {
            let bytes = [text.as_bytes(), &junk, text.as_bytes()].concat();
            let answer = |pieces: &[&[u8]]| {
                let mut bench = bench(Transform::Upper);
                pieces.iter().for_each(|piece| { bench.peer_sends(piece); });
                bench.peer_closes().expect_closed().received()
            };
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(answer(&pieces), answer(&[&bytes]));
        }
    }
}
