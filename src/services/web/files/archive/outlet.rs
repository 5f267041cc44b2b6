//! Where the bytes of an archive go.

use std::sync::Arc;

use super::Framing;
use crate::buffer::{Pool, SendQueue};
use crate::disk::{File, Version};
use crate::http::body::{CHUNK_END, ChunkHead, LAST_CHUNK};

/// Where the bytes go: the body of an answer.
pub(super) struct Outlet {
    pub(super) framing: Framing,
    /// How many there were, without the framing.
    pub(super) bytes: u64,
}

impl Outlet {
    pub(super) fn put(&mut self, bytes: &[u8], tx: &mut SendQueue, pool: &mut Pool) {
        self.begin_chunk(bytes.len() as u64, tx, pool);
        tx.put(bytes, pool);
        self.end_chunk(tx, pool);
    }

    /// A file with what stands before and behind it.
    pub(super) fn put_file(
        &mut self,
        before: &[u8],
        (file, version): (&File, Version),
        behind: &[u8],
        tx: &mut SendQueue,
        pool: &mut Pool,
    ) {
        let len = version.len;
        self.begin_chunk((before.len() + behind.len()) as u64 + len, tx, pool);
        tx.put(before, pool);
        tx.put_file_as_of(file, Some(&Arc::new(version)), 0, len, pool);
        tx.put(behind, pool);
        self.end_chunk(tx, pool);
    }

    fn begin_chunk(&mut self, len: u64, tx: &mut SendQueue, pool: &mut Pool) {
        self.bytes += len;
        if self.framing == Framing::Chunked {
            tx.put(ChunkHead::new(len).as_bytes(), pool);
        }
    }

    fn end_chunk(&self, tx: &mut SendQueue, pool: &mut Pool) {
        if self.framing == Framing::Chunked {
            tx.put(CHUNK_END, pool);
        }
    }

    pub(super) fn end(&self, tx: &mut SendQueue, pool: &mut Pool) {
        if self.framing == Framing::Chunked {
            tx.put(LAST_CHUNK, pool);
        }
    }
}
