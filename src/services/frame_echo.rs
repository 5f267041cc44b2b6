//! Frame echo: each frame that a client sends comes back as a frame, in upper case or as it is.
//!
//! TCP carries a stream of bytes, not messages: what was sent in two calls may arrive in one read,
//! and the other way round. A length in front of each message ([`crate::wire::frame`]) is the cure,
//! and this is the service to try it with.
//!
//! ```text
//!            ┌────────────── the last of it was queued ─────────────┐
//!            ▼                                                      │
//! Between ─── a frame longer than the page, or not ASCII ──▶ Gathering ──its last byte──▶ Answering
//!    │ ▲                                                        │
//!    └─┘ whole frames of ASCII                                  └── memory is scarce ──▶ closed
//! ```
//!
//! The rules:
//! 1. A frame is answered once it is here as a whole: its upper case may be longer than itself (`ß`
//!    becomes `SS`), and the length goes first. A character does not reach over the end of a frame.
//! 2. What fits the page of the connection waits there, and frames of nothing but ASCII are changed
//!    in place and move on with it. Only of a frame that is longer than the page the answer is
//!    gathered, and that counts like the page ([`Pool::hold`](crate::buffer::Pool::hold)). While
//!    memory is scarce none is gathered further: the client is told so by the end of its connection,
//!    and those with shorter frames go on.
//! 3. A frame that was begun has to go on at [`FrameEchoConfig::body_rate_min`]: a byte from time to
//!    time does not keep a connection with what it holds.
//! 4. A length that is none, or above the limit, closes the connection, after the answers to the
//!    frames before it: where the next frame begins is not known any more.
//!
//! Not here: the codec.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::prolonged;
use crate::buffer::{Held, PAGE_BYTES, pour};
use crate::config::{FrameEchoConfig, Transform};
use crate::ending::{Ending, Error, Phase};
use crate::metrics::Became;
use crate::service::{Io, Peer, Service, work};
use crate::wire::frame::{self, Frame, LENGTH_BYTES};
use crate::wire::upper::{self, Upper};

/// What is upper-cased at a time where the text is not ASCII, so that a step stays short.
const PIECE_BYTES: usize = 4 * 1024;

/// The frame echo service.
pub struct FrameEcho {
    transform: Transform,
    frame_bytes_max: usize,
    idle_timeout: Duration,
    body_rate_min: Option<NonZeroU32>,
}

/// One connection.
pub struct Conn {
    state: State,
    until: Instant,
    /// When the first byte of the frame under way came, if there is one.
    began: Option<Instant>,
    /// Bytes of the stream that were consumed, and bytes that came.
    consumed: u64,
    arrived: u64,
    /// Bytes of the answer that is gathered, as they were last counted.
    held: Held,
}

enum State {
    /// Frames are answered as they come.
    Between,
    /// So many bytes of a frame are still to come.
    Gathering {
        left: usize,
        /// The bytes of a character that has not wholly arrived.
        upper: Upper,
        /// The answer to what came, behind room for its length.
        answer: Vec<u8>,
    },
    /// The answer is queued as there is room for it; so much of it was.
    Answering { answer: Vec<u8>, queued: usize },
}

/// What a step came to.
enum Step {
    /// More must come.
    Wait,
    /// There is no room for an answer.
    Full,
    /// Something was done, and this may go on.
    Again,
    /// The same, and something was answered.
    Answered,
    /// The state has changed.
    Go(State),
    /// The client is beyond a limit, or broke the protocol: why.
    Refuse(String),
}

impl Conn {
    /// Counts what came, which is what prolongs a frame that was begun.
    fn count_arrived(&mut self, waits: usize) -> usize {
        let arrived = self.consumed + waits as u64;
        (arrived - std::mem::replace(&mut self.arrived, arrived)) as usize
    }

    /// Whether a frame came in part.
    fn has_begun(&self, io: &Io<'_>) -> bool {
        !matches!(self.state, State::Between) || !io.down.rx.is_empty()
    }

    /// All that is queued of an answer is whole.
    fn answered(&mut self, io: &mut Io<'_>) {
        let began = self.began.take().unwrap_or(io.cx.now);
        io.cx.counted.answered(Became::Answered, began);
    }

    fn bytes_held(&self) -> usize {
        match &self.state {
            State::Between => 0,
            State::Gathering { answer, .. } | State::Answering { answer, .. } => answer.capacity(),
        }
    }
}

impl FrameEcho {
    /// A service as configured.
    pub fn new(config: &FrameEchoConfig) -> Self {
        Self {
            transform: config.transform,
            frame_bytes_max: config.frame_bytes_max,
            idle_timeout: config.idle_timeout,
            body_rate_min: config.body_rate_min,
        }
    }

    /// Answers the whole frames at the front that are ASCII, all of them together.
    fn between(&self, io: &mut Io<'_>) -> Step {
        let (rx, tx, work) = (&mut io.down.rx, &mut io.down.tx, &mut io.cx.work);
        let mut run = 0;
        let step = loop {
            let whole = match frame::decode(&rx.bytes()[run..], self.frame_bytes_max) {
                Err(error) => break Step::Refuse(error.to_string()),
                Ok(Frame::Complete { consumed, .. }) => consumed,
                Ok(Frame::Partial { missing }) if run == 0 && !rx.has_space() => {
                    break Step::Go(gathering(rx.len() + missing - LENGTH_BYTES));
                }
                Ok(Frame::Partial { .. }) => break Step::Wait,
            };
            if work.is_spent() {
                break Step::Wait;
            }
            // Room first: without it the same bytes would be looked at again at every call.
            if !tx.has_room(run + whole) {
                break Step::Full;
            }
            work.charge(work::PIECE_NS + (whole / work::ASCII_BYTES_PER_NS) as u32);
            let payload = &mut rx.bytes_mut()[run + LENGTH_BYTES..run + whole];
            if self.transform == Transform::Upper && !upper::ascii_in_place(payload) {
                break Step::Go(gathering(whole - LENGTH_BYTES));
            }
            run += whole;
        };
        match run {
            0 => {
                if matches!(step, Step::Go(_)) {
                    rx.consume(LENGTH_BYTES);
                }
                step
            }
            // What is behind them is looked at again.
            _ => {
                pour(rx, tx, run, io.cx.pool);
                Step::Answered
            }
        }
    }

    /// Takes a piece of a frame.
    fn gather(
        &self,
        (left, upper, answer): (&mut usize, &mut Upper, &mut Vec<u8>),
        io: &mut Io<'_>,
    ) -> Step {
        let rx = &mut io.down.rx;
        let count = rx.len().min(*left).min(PIECE_BYTES);
        if count == 0 && *left > 0 {
            return Step::Wait;
        }
        if *left > rx.len() && io.cx.pool.is_scarce() {
            return Step::Refuse(format!(
                "memory is scarce, so that a frame of which {left} bytes are still to come is not gathered"
            ));
        }
        let piece = &rx.bytes()[..count];
        io.cx.work.charge(work::PIECE_NS);
        match self.transform {
            Transform::None => answer.extend_from_slice(piece),
            Transform::Upper => {
                let characters = upper::characters_beyond_ascii(piece);
                io.cx.work.charge_each(characters, work::CHARACTER_NS);
                upper.push(piece, answer);
            }
        }
        rx.consume(count);
        *left -= count;
        if *left > 0 {
            return Step::Again;
        }
        upper.finish(answer);
        // Invariant: the configuration bounds a frame so that one three times as long has a length.
        let length = frame::encode_length(answer.len() - LENGTH_BYTES).expect("a length");
        answer[..LENGTH_BYTES].copy_from_slice(&length);
        Step::Go(State::Answering {
            answer: std::mem::take(answer),
            queued: 0,
        })
    }

    /// One step of the state.
    fn step(&self, state: &mut State, io: &mut Io<'_>) -> Step {
        match state {
            State::Between => self.between(io),
            State::Gathering {
                left,
                upper,
                answer,
            } => self.gather((left, upper, answer), io),
            State::Answering { answer, queued } => queue(answer, queued, io),
        }
    }

    /// Goes as far as the input, the room and the share of work allow. What it waits for.
    fn go_on(&self, conn: &mut Conn, io: &mut Io<'_>) -> Step {
        while !io.cx.work.is_spent() {
            let waits = io.down.rx.len();
            let step = self.step(&mut conn.state, io);
            conn.consumed += (waits - io.down.rx.len()) as u64;
            match step {
                Step::Again => {}
                Step::Answered => {
                    conn.until = io.cx.now + self.idle_timeout;
                    if matches!(conn.state, State::Between) {
                        conn.answered(io);
                    }
                }
                Step::Go(next) => {
                    if matches!(next, State::Between) {
                        conn.until = io.cx.now + self.idle_timeout;
                        conn.answered(io);
                    }
                    conn.state = next;
                }
                step => return step,
            }
        }
        Step::Full
    }
}

impl Service for FrameEcho {
    type Conn = Conn;
    const CLIENT_FIRST: bool = true;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        Conn {
            state: State::Between,
            until: now + self.idle_timeout,
            began: None,
            consumed: 0,
            arrived: 0,
            held: Held::default(),
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let (now, most) = (io.cx.now, self.idle_timeout);
        let more = conn.count_arrived(io.down.rx.len());
        conn.until = match io.drained {
            true => now + most,
            false => prolonged(conn.until, more, self.body_rate_min, now, most),
        };
        let step = self.go_on(conn, io);
        let begun = conn.has_begun(io);
        conn.began = begun.then(|| conn.began.unwrap_or(now));
        match step {
            Step::Refuse(why) => refuse(conn, &why, io),
            Step::Wait if io.down.eof && begun => {
                refuse(conn, "the stream ended within a frame", io);
            }
            Step::Wait if io.down.eof || (io.cx.draining && !begun) => io.close(),
            Step::Wait if now >= conn.until && io.down.tx.is_empty() => {
                let phase = if begun { Phase::Body } else { Phase::Idle };
                return Err(Error::TimedOut(phase));
            }
            _ => {}
        }
        let bytes_held = conn.bytes_held();
        io.cx.pool.hold(&mut conn.held, bytes_held);
        Ok(())
    }

    fn state(&self, conn: &Conn) -> &'static str {
        match conn.state {
            State::Between => "Between",
            State::Gathering { .. } => "Gathering",
            State::Answering { .. } => "Answering",
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        conn.until
    }
}

/// Closes a connection on which no frame can follow; what was answered before is still sent.
fn refuse(conn: &mut Conn, why: &str, io: &mut Io<'_>) {
    log::info!("frame-echo {}: {why}", io.peer);
    conn.state = State::Between;
    io.close_as(Ending::Refused);
}

/// The state of a frame of so many bytes, of which nothing was taken yet.
fn gathering(left: usize) -> State {
    State::Gathering {
        left,
        upper: Upper::new(),
        answer: vec![0; LENGTH_BYTES],
    }
}

/// Queues some of an answer.
fn queue(answer: &[u8], queued: &mut usize, io: &mut Io<'_>) -> Step {
    let rest = &answer[*queued..];
    let piece = &rest[..rest.len().min(PAGE_BYTES)];
    if !io.down.tx.has_room(piece.len()) {
        return Step::Full;
    }
    io.cx.work.charge(work::PIECE_NS);
    io.down.tx.put(piece, io.cx.pool);
    *queued += piece.len();
    match *queued == answer.len() {
        true => Step::Go(State::Between),
        false => Step::Answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;
    use crate::services::bench::Bench;
    use proptest::prelude::*;

    fn bench(transform: Transform) -> Bench<FrameEcho> {
        Bench::new(FrameEcho::new(&FrameEchoConfig {
            transform,
            ..FrameEchoConfig::default()
        }))
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::encode(payload, &mut out).expect("it has a length");
        out
    }

    #[test]
    fn sentences_that_came_glued_are_answered_one_by_one_and_the_connection_stays() {
        let mut bench = bench(Transform::Upper);
        let glued = [
            framed(b"first"),
            framed(b""),
            framed("stra\u{df}e".as_bytes()),
        ];
        let answers = [framed(b"FIRST"), framed(b""), framed(b"STRASSE")];
        bench
            .peer_sends(&glued.concat())
            .expect(&answers.concat())
            .expect_open();
        bench
            .peer_sends(&framed(b"more"))
            .expect(&framed(b"MORE"))
            .expect_open();
    }

    #[test]
    fn a_character_does_not_reach_over_the_end_of_a_frame() {
        let mut bench = bench(Transform::Upper);
        bench
            .peer_sends(&[framed(b"a\xc3"), framed(b"\x9fb")].concat())
            .expect(&[framed(b"A\xc3"), framed(b"\x9fB")].concat());
    }

    #[test]
    fn without_transform_bytes_are_bytes_up_to_the_limit() {
        let mut bench = bench(Transform::None);
        let bytes: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
        let question = framed(&bytes);
        bench.peer_sends(&question).expect(&question).expect_open();
        assert_eq!(bench.pool.bytes_held_beside(), 0);
    }

    #[test]
    fn a_length_that_is_none_closes_after_the_answers_before_it() {
        for (length, limit) in [(-1, 1 << 20), (i32::MIN, 1 << 20), ((1 << 20) + 1, 1 << 20)] {
            let mut bench = bench(Transform::Upper);
            let input = [&framed(b"a")[..], &i32::to_le_bytes(length), b"rest"].concat();
            bench
                .peer_sends(&input)
                .expect(&framed(b"A"))
                .expect_closed();
            assert_eq!(bench.ending, Ending::Refused);
            let told = frame::decode(&length.to_le_bytes(), limit).unwrap_err();
            let told = told.to_string();
            assert!(
                told.contains(&length.to_string()) && told.contains(&limit.to_string()),
                "{told}"
            );
        }
    }

    #[test]
    fn an_end_within_a_frame_closes_after_the_answers_before_it() {
        for cut in [1, 4, 6] {
            let mut bench = bench(Transform::Upper);
            bench
                .peer_sends(&framed(b"a"))
                .peer_sends_and_closes(&framed(b"abc")[..cut])
                .expect(&framed(b"A"))
                .expect_closed();
            assert_eq!(bench.ending, Ending::Refused);
        }
    }

    #[test]
    fn a_silent_client_is_dropped_and_a_talking_one_is_not() {
        let mut bench = bench(Transform::Upper);
        bench
            .later(Duration::from_secs(299))
            .peer_sends(&framed(b"x"))
            .later(Duration::from_secs(299))
            .expect_open();
        bench.later(Duration::from_secs(1));
        assert!(matches!(bench.failed, Some(Error::TimedOut(Phase::Idle))));
    }

    #[test]
    fn a_byte_from_time_to_time_does_not_keep_a_frame_open() {
        let mut bench = bench(Transform::Upper);
        bench.peer_sends(&framed(&[b'x'; 100])[..50]);
        for _ in 0..5 {
            bench.later(Duration::from_secs(59)).peer_sends(b"x");
        }
        bench.expect_open().later(Duration::from_secs(10));
        assert!(matches!(bench.failed, Some(Error::TimedOut(Phase::Body))));
    }

    #[test]
    fn what_is_gathered_counts_as_memory_and_no_more_of_it_once_that_is_scarce() {
        let mut bench = bench(Transform::Upper);
        // No large pages: what does not fit an ordinary one is gathered.
        bench.pool = Pool::new(0, 0).with_bytes_max(256 * 1024);
        let question = framed(&vec![b'x'; 1 << 20]);
        let (part, _) = question.split_at(100_000);
        for piece in part.chunks(10_000) {
            bench.peer_sends(piece);
        }
        let held = bench.pool.bytes_held_beside() + bench.pool.bytes_held();
        assert!((part.len()..part.len() * 3).contains(&held), "{held}");
        bench.expect(b"").expect_open();
        for piece in question[part.len()..].chunks(10_000) {
            if bench.pool.is_scarce() {
                break;
            }
            bench.peer_sends(piece);
        }
        bench.peer_sends(b"x").expect_closed();
        assert_eq!(bench.ending, Ending::Refused);
        assert_eq!(bench.pool.bytes_held_beside(), 0);
    }

    #[test]
    fn while_memory_is_scarce_a_frame_that_fits_a_page_is_answered() {
        let mut bench = bench(Transform::Upper);
        bench.pool = Pool::new(0, 0).with_bytes_max(0);
        let text = "\u{fc}".repeat((PAGE_BYTES - LENGTH_BYTES) / 2);
        let upper = "\u{dc}".repeat((PAGE_BYTES - LENGTH_BYTES) / 2);
        bench
            .peer_sends(&framed(text.as_bytes()))
            .expect(&framed(upper.as_bytes()))
            .expect_open();
    }

    #[test]
    fn input_is_left_alone_while_the_client_takes_no_answers() {
        let mut bench = bench(Transform::Upper);
        bench.peer_takes_only(0);
        let question = framed("\u{390}".repeat(100_000).as_bytes());
        let answer = framed("\u{399}\u{308}\u{301}".repeat(100_000).as_bytes());
        let all = question.repeat(8);
        let mut taken = 0;
        while taken < all.len() {
            let count = bench.peer_offers(&all[taken..]);
            if count == 0 {
                break;
            }
            taken += count;
        }
        assert!(taken < all.len(), "everything was taken in");
        let held = bench.pool.bytes_held_beside() + bench.pool.bytes_held();
        assert!(held < 4 << 20, "{held}");
        bench.peer_takes_only(usize::MAX);
        bench.peer_sends(&all[taken..]);
        bench.expect(&answer.repeat(8)).expect_open();
    }

    #[test]
    fn a_process_that_ends_finishes_a_frame_that_was_begun() {
        let mut bench = bench(Transform::Upper);
        let question = framed(b"abc");
        bench.peer_sends(&question[..5]);
        bench.draining = true;
        bench.step();
        bench.expect_open();
        bench
            .peer_sends(&question[5..])
            .expect(&framed(b"ABC"))
            .expect_closed();
    }

    proptest! {
        #[test]
        fn splits_and_merges_do_not_show(
            frames in proptest::collection::vec(("[a-z\u{df}\u{e9}\u{149}\u{1f80}]{0,40}", any::<Vec<u8>>(), 0usize..3), 0..6),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
            large_pages: bool,
        ) {
            let payload = |(text, junk, size): &(String, Vec<u8>, usize)| {
                [text.as_bytes(), junk].concat().repeat([1, 100, 600][*size])
            };
            let payloads: Vec<Vec<u8>> = frames.iter().map(payload).collect();
            let stream: Vec<u8> = payloads.iter().flat_map(|payload| framed(payload)).collect();
            let expected: Vec<u8> = payloads.iter().flat_map(|payload| {
                let mut out = Vec::new();
                let mut upper = Upper::new();
                upper.push(payload, &mut out);
                upper.finish(&mut out);
                framed(&out)
            }).collect();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            places.extend([0, stream.len()]);
            places.sort_unstable();
            let mut bench = bench(Transform::Upper);
            if !large_pages {
                bench.pool = Pool::new(0, 0);
            }
            for pair in places.windows(2) {
                bench.peer_sends(&stream[pair[0]..pair[1]]);
            }
            let received = bench.peer_closes().expect_closed().received();
            prop_assert!(received == expected);
            prop_assert_eq!(bench.pool.bytes_held_beside(), 0);
        }

        #[test]
        fn every_split_of_two_frames_gives_two_answers(a in "[a-z\u{df}]{0,6}", b in "[a-z\u{df}]{0,6}") {
            let stream = [framed(a.as_bytes()), framed(b.as_bytes())].concat();
            let answers = [framed(a.to_uppercase().as_bytes()), framed(b.to_uppercase().as_bytes())].concat();
            for first in 0..=stream.len() {
                for second in first..=stream.len() {
                    let mut bench = bench(Transform::Upper);
                    for piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                        bench.peer_sends(piece);
                    }
                    prop_assert_eq!(&bench.peer_closes().expect_closed().received(), &answers);
                }
            }
        }
    }
}
