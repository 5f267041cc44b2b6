//! Bodies that are passed on: validated as they come, never collected, and framed as their receiver
//! needs it.
//!
//! RFC 9112 sections 6 (framing) and 7.1 (chunks, whose extensions end here).

use crate::buffer::{Pool, RecvBuf, SendQueue, pour};
use crate::http::body::{BodyDecoder, BodyError, CHUNK_END, ChunkHead, LAST_CHUNK};
use crate::http::head::BodyLength;
use crate::service::{Cx, Io, Link, LinkState, work};

/// What the framing of one chunk takes at most: 16 digits and two line ends. Made anew, framing is
/// no longer than it came, but what ends a chunk may go out before it came.
pub(super) const CHUNK_FRAMING_BYTES_MAX: usize = 20;

/// The line of the last chunk; trailers may follow.
const LAST_CHUNK_HEAD: &[u8] = b"0\r\n";

/// A response of which the head was passed on.
pub(super) struct Passing {
    pub(super) body: BodyDecoder,
    pub(super) coding: Coding,
    /// The origin's connection can take another request.
    pub(super) reusable: bool,
    /// The client's connection ends with this response.
    pub(super) ends: bool,
    /// That end is all that tells the client where the body ends.
    pub(super) end_is_framing: bool,
}

/// What becomes of the framing of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// It has none: its length is known, or the end of both connections is its end.
    None,
    /// Chunks are framed anew, so that their extensions end here (RFC 9112 section 7.1.1). Trailers
    /// are passed on.
    Reframed,
    /// Chunks are undone: the end of the connection is the end of the body.
    Undone,
    /// Chunks are made.
    Made,
}

impl Coding {
    /// Of a body that ends in this way. `to_http_1_0`: its receiver knows no chunks.
    pub(super) fn of(length: BodyLength, to_http_1_0: bool) -> Self {
        match (length, to_http_1_0) {
            (BodyLength::Chunked, true) => Self::Undone,
            (BodyLength::Chunked, false) => Self::Reframed,
            (BodyLength::UntilClose, false) => Self::Made,
            _ => Self::None,
        }
    }
}

impl Passing {
    /// Passes on what waits. How many bytes it took.
    pub(super) fn pass(&mut self, io: &mut Io<'_>) -> Result<usize, BodyError> {
        let (rx, tx) = (&mut io.up.rx, &mut io.down.tx);
        let count = pass(&mut self.body, self.coding, rx, tx, &mut io.cx)?;
        let was_done = self.body.is_done();
        look_for_end(&mut self.body, io.up)?;
        if !was_done && self.body.is_done() && self.coding == Coding::Made {
            io.down.tx.put(LAST_CHUNK, io.cx.pool);
        }
        Ok(count)
    }
}

/// Looks whether the end of the connection that a body came by is the end of the body. A reset is
/// none, however often it is looked at (RFC 9112 section 8): the decoder is not told of it.
pub(super) fn look_for_end(body: &mut BodyDecoder, up: &Link) -> Result<(), BodyError> {
    if body.is_done() || !up.is_drained() {
        return Ok(());
    }
    match up.status {
        LinkState::Open => body.end_of_stream(),
        _ => Err(BodyError::Truncated),
    }
}

/// Passes on what waits of a body, if there is room for all of it, as far as the session's share of
/// work goes. How many bytes were taken.
pub(super) fn pass(
    body: &mut BodyDecoder,
    coding: Coding,
    rx: &mut RecvBuf,
    tx: &mut SendQueue,
    cx: &mut Cx<'_>,
) -> Result<usize, BodyError> {
    let (pool, work) = (&mut *cx.pool, &mut *cx.work);
    let waiting = rx.len();
    rx.pass_unread(body.payload_ahead());
    if waiting == 0 || body.is_done() || !tx.has_room(waiting + CHUNK_FRAMING_BYTES_MAX) {
        return Ok(0);
    }
    match coding {
        Coding::None => {
            let step = body.step(rx.bytes())?;
            shift(rx, tx, step.payload, pool);
        }
        Coding::Reframed => {
            while !rx.is_empty() && !body.is_done() && !work.is_spent() {
                work.charge(work::PIECE_NS);
                reframe(body, rx, tx, pool)?;
            }
        }
        Coding::Undone => {
            while !rx.is_empty() && !body.is_done() && !work.is_spent() {
                work.charge(work::PIECE_NS);
                let step = body.step(rx.bytes())?;
                rx.consume(step.framing);
                rx.pass_unread(step.payload as u64);
                shift(rx, tx, step.payload, pool);
            }
        }
        Coding::Made => {
            body.step(rx.bytes())?;
            tx.put(ChunkHead::new(waiting as u64).as_bytes(), pool);
            shift(rx, tx, waiting, pool);
            tx.put(CHUNK_END, pool);
        }
    }
    rx.pass_unread(body.payload_ahead());
    Ok(waiting - rx.len())
}

/// Passes on one step of a chunked body: each chunk as long as it came, its framing made anew.
fn reframe(
    body: &mut BodyDecoder,
    rx: &mut RecvBuf,
    tx: &mut SendQueue,
    pool: &mut Pool,
) -> Result<(), BodyError> {
    let (before, in_trailers) = (body.chunk_left(), body.is_in_trailers());
    let step = body.step(rx.bytes())?;
    let after = body.chunk_left();
    if in_trailers {
        shift(rx, tx, step.framing, pool);
        return Ok(());
    }
    rx.consume(step.framing);
    rx.pass_unread(step.payload as u64);
    let size = before.unwrap_or(after.unwrap_or(0) + step.payload as u64);
    if before.is_none() && size > 0 {
        tx.put(ChunkHead::new(size).as_bytes(), pool);
    }
    shift(rx, tx, step.payload, pool);
    if size > 0 && after.is_none() {
        tx.put(CHUNK_END, pool);
    }
    if body.is_in_trailers() {
        tx.put(LAST_CHUNK_HEAD, pool);
    }
    Ok(())
}

/// Moves `count` bytes for which room was found before.
pub(super) fn shift(rx: &mut RecvBuf, tx: &mut SendQueue, count: usize, pool: &mut Pool) {
    if pour(rx, tx, count, pool) < count {
        tx.put(&rx.bytes()[..count], pool);
        rx.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn an_end_in_good_order_ends_a_body_without_a_length_and_a_reset_never_does() {
        let reset = LinkState::Failed(ErrorKind::ConnectionReset);
        for (status, length, ends) in [
            (LinkState::Open, BodyLength::UntilClose, true),
            (reset, BodyLength::UntilClose, false),
            (LinkState::Closed, BodyLength::UntilClose, false),
            (LinkState::Open, BodyLength::Length(1), false),
            (reset, BodyLength::Length(1), false),
            (LinkState::Open, BodyLength::Chunked, false),
            (reset, BodyLength::Chunked, false),
        ] {
            let mut body = BodyDecoder::new(length);
            let mut up = Link::new(status, 1);
            assert_eq!(look_for_end(&mut body, &up), Ok(()), "more may come");
            up.eof = true;
            for look in 1..=3 {
                let expected = if ends {
                    Ok(())
                } else {
                    Err(BodyError::Truncated)
                };
                let case = format!("{status:?} {length:?}, look {look}");
                assert_eq!(look_for_end(&mut body, &up), expected, "{case}");
                assert_eq!(body.is_done(), ends, "{case}");
            }
        }
    }
}
