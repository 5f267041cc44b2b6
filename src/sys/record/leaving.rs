//! What a record leaves out: bytes that were passed on unread, as those say who pass them on
//! ([`RecvBuf::pass_unread`](crate::buffer::RecvBuf::pass_unread)). In their place are zeros, so that
//! every length stays.
//!
//! ```text
//! recv ──▶ undecided ──"passed on"──▶ zeros
//!              └──consumed otherwise──▶ it stays as it came
//! ```
//!
//! The rules:
//! 1. A block is written when everything in it is decided. What a service said of bytes that are to
//!    come decides them as they come.
//! 2. Blocks that wait for that are bounded by [`HELD_BYTES_MAX`]: beyond it the oldest is written
//!    with what is undecided in it as it came.

use std::collections::{HashMap, VecDeque};

use crate::unread::Unread;

/// Bytes of blocks that wait until everything in them is decided.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Where bytes stand in the record: in which block, from where on, and how many.
#[derive(Clone, Copy, Debug)]
struct Piece {
    block: u64,
    at: usize,
    len: usize,
    /// They were left out.
    is_decided: bool,
}

impl Piece {
    /// What is before `start`, from there to `end`, and behind it.
    fn cut(self, start: usize, end: usize) -> (Self, Self, Self) {
        let part = |from: usize, to: usize| Self {
            at: self.at + from,
            len: to - from,
            ..self
        };
        (part(0, start), part(start, end), part(end, self.len))
    }
}

/// What is known of one stream.
#[derive(Debug, Default)]
struct Came {
    /// What came last and was not consumed, in order.
    waits: VecDeque<Piece>,
    /// So many of the next bytes are passed on unread.
    ahead: u64,
    /// What was only looked at, and is still in the socket.
    peeked: Option<Piece>,
}

/// Blocks on their way to the record, and what is undecided in them.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    streams: HashMap<u32, Came>,
    held: VecDeque<Vec<u8>>,
    held_bytes: usize,
    /// The place of the first block that is held, or else of the one that is being filled.
    first: u64,
}

impl Leaving {
    /// The place of the block that is being filled.
    fn filling(&self) -> u64 {
        self.first + self.held.len() as u64
    }

    /// The last `count` bytes of `out` came by a stream.
    pub(super) fn came(&mut self, stream: u32, count: usize, out: &mut [u8]) {
        let block = self.filling();
        let at = out.len() - count;
        let came = self.streams.entry(stream).or_default();
        if let Some(peeked) = came.peeked.take() {
            // Of what was looked at, what was read then counted.
            let counted = count.min(peeked.len);
            let rest = Piece {
                at: peeked.at + counted,
                len: peeked.len - counted,
                ..peeked
            };
            leave_out(rest, (&mut self.held, self.first), out);
        }
        let left = usize::try_from(came.ahead).unwrap_or(usize::MAX).min(count);
        out[at..at + left].fill(0);
        if came.ahead != u64::MAX {
            came.ahead -= left as u64;
        }
        let came_now = Piece {
            block,
            at,
            len: count,
            is_decided: false,
        };
        let (known, _, unknown) = came_now.cut(left, left);
        let known = Piece {
            is_decided: true,
            ..known
        };
        let parts = [known, unknown].into_iter();
        came.waits.extend(parts.filter(|part| part.len > 0));
    }

    /// The last `count` bytes of `out` are in the socket of a stream, and were looked at there.
    pub(super) fn peeked(&mut self, stream: u32, count: usize, out: &[u8]) {
        let piece = Piece {
            block: self.filling(),
            at: out.len() - count,
            len: count,
            is_decided: false,
        };
        self.streams.entry(stream).or_default().peeked = Some(piece);
    }

    /// A service went on with what came by a stream: what of it nobody looked at, and how many bytes
    /// still wait.
    pub(super) fn decide(&mut self, stream: u32, unread: &Unread, waits: usize, out: &mut [u8]) {
        if unread.from_end().next().is_none() && !self.streams.contains_key(&stream) {
            return;
        }
        let came = self.streams.entry(stream).or_default();
        for (from_end, count) in unread.from_end() {
            came.ahead = came.ahead.max(count.saturating_sub(from_end));
            let mut behind = 0_u64; // bytes behind a piece
            let pieces = std::mem::take(&mut came.waits);
            for piece in pieces.into_iter().rev() {
                let len = piece.len as u64;
                // In bytes from the beginning of the piece.
                let start = (behind + len).saturating_sub(from_end).min(len) as usize;
                let end = (behind + len).saturating_sub(from_end.saturating_sub(count));
                let (before, unread, after) = piece.cut(start, end.min(len) as usize);
                leave_out(unread, (&mut self.held, self.first), out);
                let parts = [
                    after,
                    Piece {
                        is_decided: true,
                        ..unread
                    },
                    before,
                ];
                for part in parts.into_iter().filter(|part| part.len > 0) {
                    came.waits.push_front(part);
                }
                behind += len;
            }
        }
        let mut here: usize = came.waits.iter().map(|piece| piece.len).sum();
        while here > waits {
            let Some(first) = came.waits.front_mut() else {
                break;
            };
            let decided = first.len.min(here - waits);
            (first.at, first.len) = (first.at + decided, first.len - decided);
            here -= decided;
            if first.len == 0 {
                came.waits.pop_front();
            }
        }
        // Whoever is idle is not looked at each time that a block might be written.
        if came.waits.is_empty() && came.ahead == 0 && came.peeked.is_none() {
            self.streams.remove(&stream);
        }
    }

    /// A stream is closed.
    pub(super) fn closed(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }

    /// A block is full.
    pub(super) fn hold(&mut self, block: Vec<u8>) {
        self.held_bytes += block.len();
        self.held.push_back(block);
    }

    /// The next block that may be written; `all`: whatever is undecided in it.
    pub(super) fn next(&mut self, all: bool) -> Option<Vec<u8>> {
        if self.held.is_empty() {
            return None;
        }
        let first = self.first;
        let is_over = all || self.held_bytes > HELD_BYTES_MAX;
        if !is_over && self.has_undecided(first) {
            return None;
        }
        let block = self.held.pop_front()?;
        self.held_bytes -= block.len();
        self.first += 1;
        for came in self.streams.values_mut() {
            came.waits.retain(|piece| piece.block > first);
            came.peeked.take_if(|piece| piece.block <= first);
        }
        Some(block)
    }

    fn has_undecided(&self, block: u64) -> bool {
        let is_in = |piece: &&Piece| piece.block <= block && !piece.is_decided;
        self.streams.values().any(|came| {
            came.waits
                .iter()
                .chain(&came.peeked)
                .any(|piece| is_in(&piece))
        })
    }
}

/// Puts zeros in the place of a piece.
fn leave_out(piece: Piece, (held, first): (&mut VecDeque<Vec<u8>>, u64), out: &mut [u8]) {
    let Some(place) = piece.block.checked_sub(first) else {
        return; // it was written
    };
    let block = match held.get_mut(place as usize) {
        Some(block) => &mut block[..],
        None => out,
    };
    block[piece.at..piece.at + piece.len].fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Pool, RecvBuf};

    /// A record of what comes by one stream, as it is told.
    struct Told {
        leaving: Leaving,
        out: Vec<u8>,
        rx: RecvBuf,
        pool: Pool,
    }

    impl Told {
        fn new() -> Self {
            let mut rx = RecvBuf::default();
            rx.follow();
            Self {
                leaving: Leaving::default(),
                out: Vec::new(),
                rx,
                pool: Pool::new(1 << 20, 1 << 20),
            }
        }

        /// Something comes.
        fn comes(&mut self, bytes: &[u8]) {
            let space = self.rx.space(&mut self.pool);
            let room = space.len();
            space[..bytes.len()].copy_from_slice(bytes);
            self.rx.filled(bytes.len(), room);
            self.out.extend_from_slice(bytes);
            self.leaving.came(7, bytes.len(), &mut self.out);
        }

        /// A service went on.
        fn decides(&mut self) {
            let (leaving, out) = (&mut self.leaving, &mut self.out);
            self.rx
                .tell_unread(|unread, waits| leaving.decide(7, unread, waits, out));
        }

        /// The block that was being filled is full.
        fn fills(&mut self) {
            self.leaving.hold(std::mem::take(&mut self.out));
        }
    }

    #[test]
    fn what_is_passed_on_is_zeros_wherever_it_came() {
        let mut told = Told::new();
        told.comes(b"head:bo");
        told.rx.consume(5);
        told.rx.pass_unread(6);
        told.rx.consume(2);
        told.decides();
        told.comes(b"dydynext");
        told.decides();
        assert_eq!(told.out, b"head:\0\0\0\0\0\0next");
    }

    #[test]
    fn what_is_said_while_nothing_waits_is_for_what_comes_next() {
        let mut told = Told::new();
        told.comes(b"head");
        told.rx.consume(4);
        told.decides();
        assert!(told.leaving.streams.is_empty(), "it is idle");
        told.rx.pass_unread(3);
        told.decides();
        told.comes(b"bodynext");
        told.decides();
        assert_eq!(told.out, b"head\0\0\0ynext");
    }

    #[test]
    fn several_pieces_of_one_step_are_told_apart() {
        let mut told = Told::new();
        told.comes(b"2\r\nab\r\n3\r\nc");
        told.comes(b"de\r\n0\r\n\r\nGET");
        for (framing, payload) in [(3, 2), (5, 3)] {
            told.rx.consume(framing);
            told.rx.pass_unread(payload);
            told.rx.consume(payload as usize);
        }
        told.rx.consume(7);
        told.decides();
        assert_eq!(told.out, b"2\r\n\0\0\r\n3\r\n\0\0\0\r\n0\r\n\r\nGET");
    }

    #[test]
    fn a_block_waits_for_what_is_undecided_in_it() {
        let mut told = Told::new();
        told.comes(b"he");
        told.decides();
        told.fills();
        assert_eq!(told.leaving.next(false), None);
        told.comes(b"ad:body");
        told.rx.consume(5);
        told.rx.pass_unread(u64::MAX);
        told.decides();
        told.fills();
        assert_eq!(told.leaving.next(false), Some(b"he".to_vec()));
        assert_eq!(told.leaving.next(false), Some(b"ad:\0\0\0\0".to_vec()));
        assert_eq!(told.leaving.next(false), None);
    }

    #[test]
    fn blocks_that_wait_are_bounded_and_a_stream_that_is_closed_is_waited_for_by_nobody() {
        let mut told = Told::new();
        told.comes(b"undecided");
        told.fills();
        assert_eq!(told.leaving.next(false), None);
        told.out = vec![1; HELD_BYTES_MAX];
        told.fills();
        assert_eq!(told.leaving.next(false), Some(b"undecided".to_vec()));
        assert_eq!(
            told.leaving.next(false).map(|block| block.len()),
            Some(HELD_BYTES_MAX)
        );
        told.comes(b"again");
        told.fills();
        assert_eq!(told.leaving.next(false), None);
        told.leaving.closed(7);
        assert_eq!(told.leaving.next(false), Some(b"again".to_vec()));
    }

    #[test]
    fn of_what_was_looked_at_in_a_socket_only_what_was_read_then_stays() {
        let mut told = Told::new();
        told.out.extend_from_slice(b"PROXY GET /");
        told.leaving.peeked(7, 11, &told.out);
        told.fills();
        assert_eq!(told.leaving.next(false), None);
        told.out.extend_from_slice(b"PROXY ");
        told.leaving.came(7, 6, &mut told.out);
        let block = told.leaving.next(true).expect("a block");
        assert_eq!(block, b"PROXY \0\0\0\0\0");
    }
}
