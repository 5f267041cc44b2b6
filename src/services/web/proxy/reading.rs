//! An answer that grows while it is sent: a session that follows a fetch, its own or somebody
//! else's.

use crate::buffer::PAGE_BYTES;
use crate::cache::store::{Ahead, FetchId, StoreId};
use crate::http::body::{CHUNK_END, ChunkHead, LAST_CHUNK};
use crate::service::{Io, work};

use super::exchange::CHUNK_FRAMING_BYTES_MAX;

/// What is sent of a fetch, and how far it is.
pub(super) struct Reading {
    pub(super) store: StoreId,
    pub(super) fetch: FetchId,
    /// Bytes of the body before the next one.
    pub(super) at: u64,
    /// Where it ends, if not with the body.
    pub(super) end: Option<u64>,
    /// Its length was not known when its head was sent.
    pub(super) is_chunked: bool,
}

/// What came of looking ahead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// There is no more, or no room for it.
    Wait,
    /// All was queued.
    Done,
    /// There will be no more.
    Broken,
}

impl Reading {
    /// All of what a fetch brings.
    pub(super) fn new((store, fetch): (StoreId, FetchId), is_chunked: bool) -> Self {
        Self {
            store,
            fetch,
            at: 0,
            end: None,
            is_chunked,
        }
    }

    /// Only these bytes of it.
    pub(super) fn only(self, (at, end): (u64, u64)) -> Self {
        let end = Some(end);
        Self { at, end, ..self }
    }

    /// Queues what there is of it, as far as there is room. Bytes that were queued are added to
    /// `sent`.
    pub(super) fn advance(&mut self, sent: &mut u64, io: &mut Io<'_>) -> Read {
        while !io.cx.work.is_spent() {
            let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.at));
            if left == 0 {
                return Read::Done;
            }
            let (store, _) = io.cx.store(self.store);
            let (count, copied) = match store.ahead(self.fetch, self.at, io.id) {
                Ahead::Bytes { count, copied } => (count.min(left), copied),
                Ahead::Nothing => return Read::Wait,
                Ahead::Broken => return Read::Broken,
                Ahead::End => {
                    if self.is_chunked {
                        io.down.tx.put(LAST_CHUNK, io.cx.pool);
                    }
                    return Read::Done;
                }
            };
            let (count, room) = match copied {
                true => (
                    count.min(PAGE_BYTES as u64),
                    count.min(PAGE_BYTES as u64) as usize,
                ),
                false => (count, 0),
            };
            if !io.down.tx.has_room(room + CHUNK_FRAMING_BYTES_MAX) {
                return Read::Wait;
            }
            self.put(count, io);
            *sent += count;
            io.cx.work.charge(work::PIECE_NS);
        }
        Read::Wait
    }

    fn put(&mut self, count: u64, io: &mut Io<'_>) {
        let tx = &mut io.down.tx;
        if self.is_chunked {
            tx.put(ChunkHead::new(count).as_bytes(), io.cx.pool);
        }
        let store = io.cx.stores.at(self.store);
        store.put(self.fetch, (self.at, count), tx, io.cx.pool);
        if self.is_chunked {
            tx.put(CHUNK_END, io.cx.pool);
        }
        self.at += count;
    }

    /// It is over, for whatever reason.
    pub(super) fn leave(&self, cx: &mut crate::service::Cx<'_>) {
        let (store, mut hands) = cx.store(self.store);
        store.leave(self.fetch, &mut hands);
    }
}
