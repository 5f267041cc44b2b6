//! A response that is kept while it comes: its bytes go into the store, and from there to the
//! client, at the client's speed, while the origin is read at its own.

use super::passing::{CHUNK_FRAMING_BYTES_MAX, look_for_end};
use super::reading::{Read, Reading};
use crate::http::body::{BodyDecoder, BodyError, CHUNK_END, ChunkHead, LAST_CHUNK};
use crate::http::head::BodyLength;
use crate::service::{Cx, Io, LinkState, work};

/// A response that is being kept.
pub(super) struct Filling {
    pub(super) body: BodyDecoder,
    pub(super) reading: Reading,
    /// Bytes of the body that came.
    came: u64,
    /// The store has all of it.
    is_kept: bool,
    /// The origin's connection can take another request.
    pub(super) reusable: bool,
    /// The client's connection ends with this response.
    pub(super) ends: bool,
    /// That end is all that tells the client where the body ends.
    pub(super) end_is_framing: bool,
    /// Bytes of the body, if they are known.
    pub(super) expected: Option<u64>,
    /// If no more than so many are missing, it is worth finishing.
    pub(super) finish_bytes: u64,
    /// It never had a client.
    pub(super) is_for_the_store: bool,
    /// The client gets the very bytes that come.
    pub(super) is_as_it_comes: bool,
    /// What there is of it when it breaks off may be kept: it answers a GET (RFC 9111 section 3.3),
    /// and what came was well-formed.
    pub(super) may_be_part: bool,
}

impl Filling {
    pub(super) fn new(
        length: BodyLength,
        reading: Reading,
        (reusable, ends, end_is_framing): (bool, bool, bool),
    ) -> Self {
        Self {
            body: BodyDecoder::new(length),
            reading,
            came: 0,
            is_kept: false,
            reusable,
            ends,
            end_is_framing,
            expected: match length {
                BodyLength::Length(length) => Some(length),
                _ => None,
            },
            finish_bytes: 0,
            is_for_the_store: false,
            is_as_it_comes: true,
            may_be_part: true,
        }
    }

    /// Takes what came and sends what there is room for. How many bytes came, and how the client
    /// stands.
    ///
    /// # Errors
    /// The body is not whole, or malformed.
    pub(super) fn advance(
        &mut self,
        sent: &mut u64,
        io: &mut Io<'_>,
    ) -> Result<(usize, Read), BodyError> {
        let waiting = io.up.rx.len();
        self.fill(io)
            .inspect_err(|error| self.may_be_part &= *error == BodyError::Truncated)?;
        if io.down.status == LinkState::Closed {
            let read = match self.is_kept {
                true => Read::Done,
                false if self.is_worth_it(io) => Read::Wait,
                false => Read::Broken,
            };
            return Ok((waiting - io.up.rx.len(), read));
        }
        let mut read = self.reading.advance(sent, io);
        if read == Read::Done && !self.is_kept {
            // The origin sends more than its client wants: that is for the store.
            let (store, _) = io.cx.store(self.reading.store);
            read = match store.gave_up(self.reading.fetch) {
                true => Read::Broken,
                false => Read::Wait,
            };
        }
        if read == Read::Broken && self.is_as_it_comes && self.reading.at == self.came {
            // The store takes no more: the rest goes straight to the client.
            read = self.pass_on(sent, io)?;
        }
        Ok((waiting - io.up.rx.len(), read))
    }

    /// Whether it goes on without its client: others read it, it was begun for the store's own sake,
    /// or little is left of it.
    fn is_worth_it(&self, io: &mut Io<'_>) -> bool {
        self.is_for_the_store || self.is_wanted(&mut io.cx)
    }

    /// The same for one that was begun for a client.
    pub(super) fn is_wanted(&self, cx: &mut Cx<'_>) -> bool {
        let (store, _) = cx.store(self.reading.store);
        let left = self
            .expected
            .map(|expected| expected.saturating_sub(self.came));
        let is_nearly_done = left.is_some_and(|left| left <= self.finish_bytes);
        (is_nearly_done || store.is_wanted(self.reading.fetch))
            && !store.gave_up(self.reading.fetch)
    }

    /// Moves what came into the store.
    fn fill(&mut self, io: &mut Io<'_>) -> Result<(), BodyError> {
        let fetch = self.reading.fetch;
        while !self.body.is_done() && !io.up.rx.is_empty() && !io.cx.work.is_spent() {
            let (store, mut hands) = io.cx.store(self.reading.store);
            if !store.has_room(fetch, io.id) {
                return Ok(());
            }
            let step = self.body.step(io.up.rx.bytes())?;
            io.up.rx.consume(step.framing);
            io.up.rx.pass_unread(step.payload as u64);
            if step.payload > 0 {
                store.take(fetch, &mut io.up.rx, step.payload, &mut hands);
                self.came += step.payload as u64;
            }
            io.cx.work.charge(work::PIECE_NS);
        }
        self.look_for_end(io)?;
        if self.body.is_done() && !self.is_kept {
            self.is_kept = true;
            let (store, mut hands) = io.cx.store(self.reading.store);
            store.finish(fetch, &mut hands);
        }
        Ok(())
    }

    fn look_for_end(&mut self, io: &mut Io<'_>) -> Result<(), BodyError> {
        io.up.rx.pass_unread(self.body.payload_ahead());
        look_for_end(&mut self.body, io.up)
    }

    /// Sends what came without keeping it.
    fn pass_on(&mut self, sent: &mut u64, io: &mut Io<'_>) -> Result<Read, BodyError> {
        let is_chunked = self.reading.is_chunked;
        while !self.body.is_done() && !io.up.rx.is_empty() && !io.cx.work.is_spent() {
            let waiting = io.up.rx.len();
            if !io.down.tx.has_room(waiting + CHUNK_FRAMING_BYTES_MAX) {
                return Ok(Read::Wait);
            }
            let step = self.body.step(io.up.rx.bytes())?;
            io.up.rx.consume(step.framing);
            io.up.rx.pass_unread(step.payload as u64);
            let (rx, tx) = (&mut io.up.rx, &mut io.down.tx);
            if is_chunked && step.payload > 0 {
                tx.put(ChunkHead::new(step.payload as u64).as_bytes(), io.cx.pool);
            }
            super::passing::shift(rx, tx, step.payload, io.cx.pool);
            if is_chunked && step.payload > 0 {
                tx.put(CHUNK_END, io.cx.pool);
            }
            self.came += step.payload as u64;
            self.reading.at = self.came;
            *sent += step.payload as u64;
            io.cx.work.charge(work::PIECE_NS);
        }
        self.look_for_end(io)?;
        if !self.body.is_done() {
            return Ok(Read::Wait);
        }
        if is_chunked {
            io.down.tx.put(LAST_CHUNK, io.cx.pool);
        }
        Ok(Read::Done)
    }

    /// It is over, for whatever reason: what is not whole is kept as a part, or not at all.
    pub(super) fn release(&self, cx: &mut Cx<'_>) {
        if self.is_kept {
            return self.reading.leave(cx);
        }
        let (store, mut hands) = cx.store(self.reading.store);
        match self.may_be_part {
            true => store.cut(self.reading.fetch, &mut hands),
            false => store.break_off(self.reading.fetch, &mut hands),
        }
    }
}
