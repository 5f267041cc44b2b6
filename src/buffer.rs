//! Bytes between the kernel and a protocol: pages from a pool, one contiguous receive buffer and
//! one bounded send queue for each side of a session.
//!
//! The rules:
//! 1. A page belongs to exactly one holder and goes back to the [`Pool`] when its last byte is
//!    consumed or sent. An idle connection holds no page, so it costs its structs only, and one that
//!    waits for the rest of a message holds a small page for what came of it.
//! 2. A [`RecvBuf`] is contiguous: a protocol sees everything that arrived and was not consumed as
//!    one slice, whatever segments it came in.
//! 3. A [`SendQueue`] is bounded. Who wants to add asks [`SendQueue::has_room`] first; a refusal is
//!    remembered, so that the reactor knows that freed room is news to somebody.
//!
//! Copies happen where they are cheaper than the system call or the page they save: a small body is
//! copied behind its head, a small remainder is copied by [`pour`]; all else moves by page, by
//! shared reference or by file range.
//!
//! What a client can make grow is held here, or counted here ([`Pool::hold`]), so that one bound is
//! that of all of it: from there on the pool [is scarce](Pool::is_scarce).
//!
//! A long file, since it is all that knows what a page is.
//!
//! Not here: reading and writing sockets. `fill` and `flush` of the reactor cross the kernel.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::disk::{File, Version};
use crate::sys::unix::memory::Page;
use crate::unread::Unread;

/// Bytes in an ordinary page. A request head and most messages fit; 10,000 busy connections take
/// 160 MiB.
pub const PAGE_BYTES: usize = 16 * 1024;
/// Bytes in a page of the large class, taken after a read that filled a whole ordinary page. An
/// echo of 1 MiB messages took a fifth less processor time than with 256 KiB: fewer system calls,
/// and fewer times that the peer is woken.
pub const LARGE_PAGE_BYTES: usize = 512 * 1024;
/// Bytes in a page of the small class, for what a connection that waits has of a message: 2,000 that
/// wait for the rest of a head take 8 MB and not 33.
pub const SMALL_PAGE_BYTES: usize = Page::UNIT_BYTES;
/// Bytes that are mapped at once, to be cut into pages of a class.
const BLOCK_BYTES: usize = 1 << 20;
/// What [`pour`] and [`SendQueue::put_shared`] copy rather than move: below this a copy costs less
/// than the page, or the second element of a `writev`, that it saves.
pub const COPY_BYTES_MAX: usize = 4 * 1024;
/// Chunks that one queue may hold, so that pipelined requests for files cannot queue without end.
pub const CHUNKS_MAX: usize = 64;
/// Lists of chunks that are kept for the next queue that needs one.
const QUEUES_KEPT_MAX: usize = 1024;
/// Elements of one gathered send.
pub const GATHER_MAX: usize = 16;

/// Free pages of one size.
#[derive(Debug, Default)]
struct Free {
    /// With their memory, the one given back last at the end.
    warm: Vec<Page>,
    /// Their memory went back to the system; what they keep is a place to put it.
    bare: Vec<Page>,
}

impl Free {
    /// A page of so many bytes, cut from a block that is mapped now where none is free.
    #[inline]
    fn take(&mut self, bytes: usize) -> Page {
        match self.warm.pop() {
            Some(page) => page,
            None => self.take_bare(bytes),
        }
    }

    #[cold]
    fn take_bare(&mut self, bytes: usize) -> Page {
        if self.bare.is_empty() {
            self.bare = Page::map_block(BLOCK_BYTES / bytes, bytes);
            // So that the first pages of a block are its first to be used.
            self.bare.reverse();
        }
        // Invariant: a block has a page at least.
        self.bare.pop().expect("a page of the block")
    }

    /// Takes a page back that is not to be kept.
    #[cold]
    fn empty(&mut self, mut page: Page) {
        page.empty();
        self.bare.push(page);
    }
}

/// Where pages come from and go back to: last in, first out, so that the page given out is the one
/// whose bytes are still in the processor's cache.
///
/// The memory of a free page that is beyond what is kept goes back to the system at once. Pages of
/// the large class are unmapped; those of the others are many, and stay as places without memory
/// until the pool is dropped: as many as were ever in use at once.
#[derive(Debug)]
pub struct Pool {
    small: Free,
    ordinary: Free,
    large: Vec<Page>,
    queues: Vec<VecDeque<Chunk>>,
    held_bytes: usize,
    held_pages: usize,
    /// Bytes that are held outside of pages; known to all who hold some, so that none is counted any
    /// longer than it is there.
    beside: Rc<Cell<usize>>,
    large_bytes_max: usize,
    kept_bytes_max: usize,
    bytes_max: usize,
}

/// Bytes that somebody holds outside of pages, as far as [`Pool::hold`] was told; none once this is
/// dropped.
#[derive(Debug, Default)]
pub struct Held {
    bytes: usize,
    in_all: Option<Rc<Cell<usize>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(in_all) = &self.in_all {
            in_all.set(in_all.get() - self.bytes);
        }
    }
}

impl Pool {
    /// A pool that stops giving out large pages while `large_bytes_max` bytes of pages are in use,
    /// and keeps at most `kept_bytes_max` bytes of unused ones: half of it of the large class and
    /// half of the others, or a burst of one would crowd out the other.
    pub fn new(large_bytes_max: usize, kept_bytes_max: usize) -> Self {
        Self {
            small: Free::default(),
            ordinary: Free::default(),
            large: Vec::new(),
            queues: Vec::new(),
            held_bytes: 0,
            held_pages: 0,
            beside: Rc::default(),
            large_bytes_max,
            kept_bytes_max,
            bytes_max: usize::MAX,
        }
    }

    /// Other bounds, as for [`Pool::new`] and [`Pool::with_bytes_max`].
    pub fn set_limits(&mut self, large_bytes_max: usize, kept_bytes_max: usize, bytes_max: usize) {
        self.large_bytes_max = large_bytes_max.min(bytes_max);
        self.kept_bytes_max = kept_bytes_max;
        self.bytes_max = bytes_max;
    }

    /// The same, [scarce](Pool::is_scarce) from `bytes_max` bytes in use on.
    pub fn with_bytes_max(mut self, bytes_max: usize) -> Self {
        self.set_limits(self.large_bytes_max, self.kept_bytes_max, bytes_max);
        self
    }

    /// Whether so much is in use that a queue takes something only while it is empty: see
    /// [`SendQueue::set_scarce`].
    #[inline]
    pub fn is_scarce(&self) -> bool {
        self.held_bytes + self.beside.get() >= self.bytes_max
    }

    /// Counts bytes that are in use outside of pages like those in pages: from now on `bytes`, in
    /// place of those that `held` counted before.
    #[inline]
    pub fn hold(&self, held: &mut Held, bytes: usize) {
        if held.bytes != bytes {
            let in_all = held.in_all.get_or_insert_with(|| Rc::clone(&self.beside));
            in_all.set(in_all.get() - held.bytes + bytes);
            held.bytes = bytes;
        }
    }

    /// Takes a page; a large one only if it is asked for and the memory in use allows it.
    #[inline]
    fn take(&mut self, large: bool) -> Page {
        let large = large && self.held_bytes + LARGE_PAGE_BYTES <= self.large_bytes_max;
        self.held_pages += 1;
        if large {
            self.held_bytes += LARGE_PAGE_BYTES;
            let page = self.large.pop();
            page.unwrap_or_else(|| Page::map(LARGE_PAGE_BYTES))
        } else {
            self.held_bytes += PAGE_BYTES;
            self.ordinary.take(PAGE_BYTES)
        }
    }

    fn take_small(&mut self) -> Page {
        self.held_pages += 1;
        self.held_bytes += SMALL_PAGE_BYTES;
        self.small.take(SMALL_PAGE_BYTES)
    }

    #[inline]
    fn give(&mut self, page: Page) {
        let bytes = page.len();
        self.held_bytes -= bytes;
        self.held_pages -= 1;
        let kept = match bytes {
            LARGE_PAGE_BYTES => self.large.len() * LARGE_PAGE_BYTES,
            _ => self.bytes_kept_of_others(),
        };
        let is_kept = kept + bytes <= self.kept_bytes_max / 2;
        match (bytes, is_kept) {
            (LARGE_PAGE_BYTES, true) => self.large.push(page),
            (LARGE_PAGE_BYTES, false) => drop(page),
            (PAGE_BYTES, true) => self.ordinary.warm.push(page),
            (PAGE_BYTES, false) => self.ordinary.empty(page),
            (_, true) => self.small.warm.push(page),
            (_, false) => self.small.empty(page),
        }
    }

    #[inline]
    fn bytes_kept_of_others(&self) -> usize {
        self.ordinary.warm.len() * PAGE_BYTES + self.small.warm.len() * SMALL_PAGE_BYTES
    }

    /// Takes an empty page, a large one if memory allows it.
    pub fn take_slice(&mut self) -> PageSlice {
        PageSlice {
            page: self.take(true),
            start: 0,
            end: 0,
        }
    }

    /// Takes a page back, whatever it holds.
    pub fn give_slice(&mut self, slice: PageSlice) {
        self.give(slice.page);
    }

    /// Pages in use by buffers and queues.
    pub fn pages_held(&self) -> usize {
        self.held_pages
    }

    /// Bytes of the pages in use.
    pub fn bytes_held(&self) -> usize {
        self.held_bytes
    }

    /// Bytes in use outside of pages that [count](Pool::hold) like those in pages.
    pub fn bytes_held_beside(&self) -> usize {
        self.beside.get()
    }

    /// Bytes of unused pages kept for the next who asks.
    pub fn bytes_kept(&self) -> usize {
        self.bytes_kept_of_others() + self.large.len() * LARGE_PAGE_BYTES
    }
}

/// A page and the part of it that holds bytes.
#[derive(Debug)]
pub struct PageSlice {
    page: Page,
    start: u32,
    end: u32,
}

impl PageSlice {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.page[self.start as usize..self.end as usize]
    }

    /// How many.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room for `len` bytes, or for as many as the page has behind its first one that counts.
    pub fn space_of(&mut self, len: usize) -> &mut [u8] {
        let space = &mut self.page[self.start as usize..];
        let len = len.min(space.len());
        &mut space[..len]
    }

    /// That room holds `count` bytes now.
    pub fn filled(&mut self, count: usize) {
        debug_assert!(self.start as usize + count <= self.page.len());
        self.end = self.start + count as u32;
    }
}

/// What arrived on one side and was not consumed yet: one page, or none while there is nothing.
#[derive(Debug, Default)]
pub struct RecvBuf {
    page: Option<Page>,
    start: u32,
    end: u32,
    /// The last read filled its page: the next page is a large one.
    bulk: bool,
    /// While somebody wants to know what nobody looks at.
    unread: Option<Box<Unread>>,
}

impl RecvBuf {
    /// From now on it is kept what is [passed on unread](RecvBuf::pass_unread).
    pub fn follow(&mut self) {
        if self.unread.is_none() {
            self.unread = Some(Box::new(Unread::new(self.len())));
        }
    }

    /// The next `count` bytes, here already or not, decide nothing: they are passed on or dropped
    /// as they are, and only how many there are matters. More is said of the rest of a body each
    /// time that some of it goes on; saying it again changes nothing.
    #[inline]
    pub fn pass_unread(&mut self, count: u64) {
        if self.unread.is_some() {
            self.note_unread(count);
        }
    }

    #[cold]
    fn note_unread(&mut self, count: u64) {
        let waits = self.len();
        if let Some(unread) = &mut self.unread {
            unread.add(waits, count);
        }
    }

    /// What was said to be unread since this was asked last, and how many bytes wait now, if it is kept.
    pub fn tell_unread(&mut self, tell: impl FnOnce(&Unread, usize)) {
        let waits = self.len();
        if let Some(unread) = &mut self.unread {
            tell(unread, waits);
            unread.clear();
        }
    }

    /// Everything that arrived and was not consumed.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.page {
            Some(page) => &page[self.start as usize..self.end as usize],
            None => &[],
        }
    }

    /// The same bytes, to be changed in place (upper-cased, unmasked).
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.page {
            Some(page) => &mut page[self.start as usize..self.end as usize],
            None => &mut [],
        }
    }

    /// How many bytes wait.
    #[inline]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    /// If fewer are there: the caller counted wrong.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed more than arrived");
        self.start += count as u32;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Whether a read could add to it.
    #[inline]
    pub fn has_space(&self) -> bool {
        match &self.page {
            // One of the small class is replaced before it is read into.
            Some(page) => self.len() < page.len().max(PAGE_BYTES),
            None => true,
        }
    }

    /// Room for the next read: the rest of the page, after moving what waits to its front where the
    /// rest is small.
    pub fn space(&mut self, pool: &mut Pool) -> &mut [u8] {
        match &self.page {
            None => self.page = Some(pool.take(self.bulk)),
            Some(page) if page.len() < PAGE_BYTES => {
                let page = pool.take(self.bulk);
                self.move_to(page, pool);
            }
            Some(_) => {}
        }
        // Invariant: there is a page of a class that is read into, since it was just seen to.
        let page = self.page.as_mut().expect("a page");
        let free = page.len() - self.end as usize;
        if self.start > 0 && free < page.len() / 2 {
            page.copy_within(self.start as usize..self.end as usize, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut page[self.end as usize..]
    }

    /// Moves what waits in a full ordinary page to a large one, for a message that must be seen
    /// whole and may be longer than a page. Whether there is space now: not if the page was a large
    /// one, or if the pool gives out none.
    pub fn enlarge(&mut self, pool: &mut Pool) -> bool {
        if self.page_bytes() == PAGE_BYTES {
            let larger = pool.take(true);
            self.move_to(larger, pool);
        }
        self.has_space()
    }

    /// Another page in place of the one that it has, if any; it holds what waits.
    fn move_to(&mut self, mut page: Page, pool: &mut Pool) {
        let len = self.len();
        page[..len].copy_from_slice(self.bytes());
        (self.start, self.end) = (0, len as u32);
        if let Some(before) = self.page.replace(page) {
            pool.give(before);
        }
    }

    /// Records that a read put `count` bytes into [`RecvBuf::space`], which had room for `room`.
    #[inline]
    pub fn filled(&mut self, count: usize, room: usize) {
        self.end += count as u32;
        self.bulk = count == room || (self.bulk && count > PAGE_BYTES / 2);
        if let Some(unread) = &mut self.unread {
            unread.came(count);
        }
    }

    /// Appends bytes that did not come from a socket: for tests and for input that is replayed.
    pub fn push(&mut self, bytes: &[u8], pool: &mut Pool) -> usize {
        if !self.has_space() {
            return 0;
        }
        let space = self.space(pool);
        let count = bytes.len().min(space.len());
        space[..count].copy_from_slice(&bytes[..count]);
        self.end += count as u32;
        count
    }

    /// Gives the page back when it holds nothing, and gets along with one of the small class when
    /// that is enough for what it holds.
    #[inline]
    pub fn release(&mut self, pool: &mut Pool) {
        if self.is_empty() {
            if let Some(page) = self.page.take() {
                pool.give(page);
            }
        } else if self.len() <= SMALL_PAGE_BYTES && self.page_bytes() > SMALL_PAGE_BYTES {
            let page = pool.take_small();
            self.move_to(page, pool);
        }
    }

    /// Bytes of its page, used or not.
    fn page_bytes(&self) -> usize {
        self.page.as_ref().map_or(0, |page| page.len())
    }

    /// Takes the page with all that waits in it.
    pub fn take_page(&mut self) -> Option<PageSlice> {
        let page = self.page.take()?;
        let slice = PageSlice {
            page,
            start: self.start,
            end: self.end,
        };
        self.clear();
        Some(slice)
    }

    /// Takes the first bytes, at most `count` of them, as a page of their own; fewer only where the
    /// pool has none that holds all. What is copied, if anything, is what stays, or what is taken
    /// where a page does not hold what stays.
    pub fn take_front(&mut self, count: usize, pool: &mut Pool) -> Option<PageSlice> {
        let (count, rest) = (count.min(self.len()), self.len().saturating_sub(count));
        if count == 0 {
            return None;
        }
        if rest == 0 {
            return self.take_page();
        }
        if rest <= PAGE_BYTES {
            let mut slice = self.take_page()?;
            slice.end -= rest as u32;
            let behind = slice.end as usize..slice.end as usize + rest;
            self.push(&slice.page[behind], pool);
            return Some(slice);
        }
        let mut slice = pool.take_slice();
        let space = slice.space_of(count);
        let count = space.len();
        space.copy_from_slice(&self.bytes()[..count]);
        slice.filled(count);
        self.consume(count);
        Some(slice)
    }
}

/// One element of a [`SendQueue`].
#[derive(Debug)]
pub enum Chunk {
    /// Bytes in a page of the queue's own.
    Page(PageSlice),
    /// Bytes that others refer to as well.
    Shared(Rc<[u8]>, Range<usize>),
    /// Bytes of a file, sent by `sendfile` from its page cache.
    File {
        /// The file, kept open by this reference.
        file: File,
        /// Where the rest begins, in bytes.
        offset: u64,
        /// How much is left, in bytes.
        len: u64,
        /// What the answer's head promised; `None` where nothing was.
        version: Option<Arc<Version>>,
    },
    /// So many bytes in the pipe of this side, which the kernel moves on.
    Piped(usize),
}

impl Chunk {
    fn memory(&self) -> &[u8] {
        match self {
            Chunk::Page(slice) => slice.bytes(),
            Chunk::Shared(data, range) => &data[range.clone()],
            Chunk::File { .. } | Chunk::Piped(_) => &[],
        }
    }

    fn is_in_memory(&self) -> bool {
        matches!(self, Chunk::Page(_) | Chunk::Shared(..))
    }
}

/// What the next system call should send.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // it lives on the stack, for one call
pub enum Front<'a> {
    /// Nothing waits.
    Empty,
    /// One run of memory, and whether a file follows at once (`MSG_MORE`).
    One(&'a [u8], bool),
    /// Several runs of memory for one gathered send, how many of the elements count, and whether a
    /// file follows.
    Many([IoSlice<'a>; GATHER_MAX], usize, bool),
    /// A file range: offset and length in bytes.
    File(&'a File, u64, u64),
    /// So many bytes in the pipe of this side.
    Piped(usize),
}

/// What is to be sent on one side, in order.
#[derive(Debug)]
pub struct SendQueue {
    chunks: VecDeque<Chunk>,
    /// Bytes in memory, in pages or shared; those of files do not count.
    memory_bytes: usize,
    memory_bytes_max: u32,
    refused: bool,
    scarce: bool,
    /// How many of the chunks, from the front, were queued in an earlier turn.
    kept_waiting: u16,
}

impl SendQueue {
    /// A queue that holds at most about `memory_bytes_max` bytes in memory.
    pub fn new(memory_bytes_max: u32) -> Self {
        Self {
            chunks: VecDeque::new(),
            memory_bytes: 0,
            memory_bytes_max,
            refused: false,
            scarce: false,
            kept_waiting: 0,
        }
    }

    /// Whether everything was sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes in memory that wait.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether `count` more bytes may be added. An empty queue takes anything, so that no message
    /// is too large for ever. A refusal is remembered: the protocol is called again when room was
    /// freed.
    #[inline]
    pub fn has_room(&mut self, count: usize) -> bool {
        let room = self.chunks.is_empty()
            || (self.memory_bytes + count <= self.memory_bytes_max as usize
                && self.chunks.len() < CHUNKS_MAX
                && !self.scarce);
        self.refused |= !room;
        room
    }

    /// Whether nothing waits to be sent. If something does, the protocol is called again when some
    /// of it was sent.
    pub fn is_empty_or_wakes(&mut self) -> bool {
        let empty = self.is_empty();
        self.refused |= !empty;
        empty
    }

    /// While memory is scarce there is room in an empty queue only: everybody still gets on, one
    /// message at a time.
    #[inline]
    pub fn set_scarce(&mut self, scarce: bool) {
        self.scarce = scarce;
    }

    /// Whether somebody was refused room and not told yet that there is some.
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// Whether somebody was refused room since the last call.
    pub fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Changes the bound; for tests that give one byte of room at a time.
    pub fn set_memory_bytes_max(&mut self, bytes: u32) {
        self.memory_bytes_max = bytes;
    }

    /// Adds a copy of `bytes`.
    pub fn put(&mut self, mut bytes: &[u8], pool: &mut Pool) {
        self.memory_bytes += bytes.len();
        while !bytes.is_empty() {
            let space = self.tail_space(pool);
            let count = bytes.len().min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.tail_filled(count);
            bytes = &bytes[count..];
        }
    }

    /// Adds bytes that others refer to as well: copied where small, referred to where not.
    pub fn put_shared(&mut self, bytes: &Rc<[u8]>, range: Range<usize>, pool: &mut Pool) {
        if range.len() <= COPY_BYTES_MAX {
            self.put(&bytes[range], pool);
        } else {
            self.memory_bytes += range.len();
            self.push(Chunk::Shared(Rc::clone(bytes), range), pool);
        }
    }

    /// Adds `len` bytes of `file` from `offset`. They are read when they are sent.
    pub fn put_file(&mut self, file: &File, offset: u64, len: u64, pool: &mut Pool) {
        self.put_file_as_of(file, None, offset, len, pool);
    }

    /// The same for a file of which a version was promised: bytes that have to wait for the peer
    /// are sent only if they are still that version's then, and else the session ends, so that an
    /// answer is one version or visibly short.
    pub fn put_file_as_of(
        &mut self,
        file: &File,
        version: Option<&Arc<Version>>,
        offset: u64,
        len: u64,
        pool: &mut Pool,
    ) {
        if len > 0 {
            self.push(
                Chunk::File {
                    file: file.clone(),
                    offset,
                    len,
                    version: version.cloned(),
                },
                pool,
            );
        }
    }

    /// Adds `count` bytes that are in the pipe of this side. Nothing else waits then: see
    /// [`crate::reactor`].
    pub(crate) fn put_piped(&mut self, count: usize, pool: &mut Pool) {
        debug_assert!(self.is_empty(), "what waits goes first");
        self.push(Chunk::Piped(count), pool);
    }

    /// Bytes that wait in memory or in a pipe: all but those of files.
    pub fn waiting_bytes(&self) -> usize {
        let piped = self.chunks.iter().map(|chunk| match chunk {
            Chunk::Piped(count) => *count,
            _ => 0,
        });
        self.memory_bytes + piped.sum::<usize>()
    }

    /// All bytes that wait, those of files too.
    pub fn bytes(&self) -> u64 {
        let files = self.chunks.iter().map(|chunk| match chunk {
            Chunk::File { len, .. } => *len,
            _ => 0,
        });
        self.waiting_bytes() as u64 + files.sum::<u64>()
    }

    /// A turn begins: what is queued by now has had to wait, whether or not a flush tried to send
    /// it.
    #[inline]
    pub fn begin_turn(&mut self) {
        self.kept_waiting = u16::try_from(self.chunks.len()).unwrap_or(u16::MAX);
    }

    /// The version that the file range at the front was promised in, if it had to wait since.
    pub fn promised(&self) -> Option<&Version> {
        match self.chunks.front() {
            Some(Chunk::File { version, .. }) if self.kept_waiting > 0 => version.as_deref(),
            _ => None,
        }
    }

    /// The file range at the front, if that is one: file, offset, length, and the version that was
    /// promised.
    pub fn front_file(&self) -> Option<(&File, u64, u64, Option<&Arc<Version>>)> {
        match self.chunks.front() {
            Some(Chunk::File {
                file,
                offset,
                len,
                version,
            }) => Some((file, *offset, *len, version.as_ref())),
            _ => None,
        }
    }

    /// Puts the first bytes of the file range at the front, which were read, into their place.
    pub fn front_was_read(&mut self, slice: PageSlice, pool: &mut Pool) {
        let Some(Chunk::File { offset, len, .. }) = self.chunks.front_mut() else {
            debug_assert!(false, "a range that was read is not there any more");
            return pool.give_slice(slice);
        };
        let count = slice.len() as u64;
        debug_assert!(count <= *len, "more was read than is to be sent");
        (*offset, *len) = (*offset + count, len.saturating_sub(count));
        if *len == 0 {
            self.chunks.pop_front();
        } else {
            self.kept_waiting = self.kept_waiting.saturating_add(1);
        }
        self.memory_bytes += slice.len();
        self.chunks.push_front(Chunk::Page(slice));
    }

    fn push(&mut self, chunk: Chunk, pool: &mut Pool) {
        if self.chunks.capacity() == 0 {
            self.chunks = pool.queues.pop().unwrap_or_default();
        }
        self.chunks.push_back(chunk);
    }

    /// The unused rest of the last page, or a new page's.
    fn tail_space(&mut self, pool: &mut Pool) -> &mut [u8] {
        let full = match self.chunks.back() {
            Some(Chunk::Page(slice)) => slice.end as usize == slice.page.len(),
            _ => true,
        };
        if full {
            let page = pool.take(false);
            self.push(
                Chunk::Page(PageSlice {
                    page,
                    start: 0,
                    end: 0,
                }),
                pool,
            );
        }
        match self.chunks.back_mut() {
            Some(Chunk::Page(slice)) => &mut slice.page[slice.end as usize..],
            _ => unreachable!("a page was just added"),
        }
    }

    fn tail_filled(&mut self, count: usize) {
        if let Some(Chunk::Page(slice)) = self.chunks.back_mut() {
            slice.end += count as u32;
        }
    }

    /// What the next system call should send.
    pub fn front(&self) -> Front<'_> {
        let first = match self.chunks.front() {
            None => return Front::Empty,
            Some(Chunk::File {
                file, offset, len, ..
            }) => return Front::File(file, *offset, *len),
            Some(Chunk::Piped(count)) => return Front::Piped(*count),
            Some(chunk) => chunk.memory(),
        };
        match self.chunks.get(1) {
            None => return Front::One(first, false),
            Some(next) if !next.is_in_memory() => return Front::One(first, true),
            Some(_) => {}
        }
        let mut gather = [IoSlice::new(&[]); GATHER_MAX];
        let mut count = 0;
        for chunk in self.chunks.iter().take(GATHER_MAX) {
            if !chunk.is_in_memory() {
                return Front::Many(gather, count, true);
            }
            gather[count] = IoSlice::new(chunk.memory());
            count += 1;
        }
        Front::Many(gather, count, false)
    }

    /// Adds all that waits in another queue, which is empty then; no byte is copied.
    pub fn append(&mut self, other: &mut SendQueue, pool: &mut Pool) {
        self.memory_bytes += std::mem::take(&mut other.memory_bytes);
        while let Some(chunk) = other.chunks.pop_front() {
            self.push(chunk, pool);
        }
        other.clear(pool);
    }

    /// Removes the first `count` bytes, which were sent.
    pub fn sent(&mut self, mut count: usize, pool: &mut Pool) {
        while count > 0 {
            let Some(front) = self.chunks.front_mut() else {
                unreachable!("more was sent than was queued");
            };
            let (left, in_memory) = match front {
                Chunk::Page(slice) => (slice.len(), true),
                Chunk::Shared(_, range) => (range.len(), true),
                Chunk::File { len, .. } => (usize::try_from(*len).unwrap_or(usize::MAX), false),
                Chunk::Piped(count) => (*count, false),
            };
            let step = count.min(left);
            count -= step;
            if in_memory {
                self.memory_bytes -= step;
            }
            if step == left {
                self.kept_waiting = self.kept_waiting.saturating_sub(1);
                if let Some(Chunk::Page(slice)) = self.chunks.pop_front() {
                    pool.give(slice.page);
                }
                continue;
            }
            match front {
                Chunk::Page(slice) => slice.start += step as u32,
                Chunk::Shared(_, range) => range.start += step,
                Chunk::File { offset, len, .. } => {
                    *offset += step as u64;
                    *len -= step as u64;
                }
                Chunk::Piped(count) => *count -= step,
            }
        }
    }

    /// Gives back what an empty queue still holds.
    #[inline]
    pub fn release(&mut self, pool: &mut Pool) {
        if self.chunks.is_empty() && self.chunks.capacity() > 0 {
            let chunks = std::mem::take(&mut self.chunks);
            if pool.queues.len() < QUEUES_KEPT_MAX {
                pool.queues.push(chunks);
            }
        }
    }

    /// Forgets everything that was not sent.
    pub fn clear(&mut self, pool: &mut Pool) {
        for chunk in self.chunks.drain(..) {
            if let Chunk::Page(slice) = chunk {
                pool.give(slice.page);
            }
        }
        self.memory_bytes = 0;
        self.kept_waiting = 0;
        self.release(pool);
    }
}

/// Moves what waits in `rx` to `tx`, as far as `tx` has room: at most `limit` bytes, whole pages
/// where they are more than [`COPY_BYTES_MAX`]. Behind something that waits already a page must be
/// a quarter full, or a slow peer's queue would hold many times its limit in large pages with
/// little in them. Returns how many bytes moved.
pub fn pour(rx: &mut RecvBuf, tx: &mut SendQueue, limit: usize, pool: &mut Pool) -> usize {
    let count = rx.len().min(limit);
    if count == 0 || !tx.has_room(count) {
        return 0;
    }
    let dense = tx.is_empty() || count >= rx.page_bytes() / 4;
    if count == rx.len() && count > COPY_BYTES_MAX && dense {
        if let Some(slice) = rx.take_page() {
            tx.memory_bytes += count;
            tx.push(Chunk::Page(slice), pool);
        }
    } else {
        tx.put(&rx.bytes()[..count], pool);
        rx.consume(count);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskId;
    use crate::disk::Handle;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn pool() -> Pool {
        Pool::new(64 << 20, 1 << 20)
    }

    /// Sends everything in steps of `step` bytes, as a kernel that takes that much would.
    fn drain(tx: &mut SendQueue, step: usize, pool: &mut Pool) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let all = match tx.front() {
                Front::One(bytes, _) => bytes.to_vec(),
                Front::Many(gather, count, _) => {
                    gather[..count].iter().flat_map(|s| s.to_vec()).collect()
                }
                Front::File(..) | Front::Piped(_) | Front::Empty => break,
            };
            let taken = step.min(all.len());
            out.extend_from_slice(&all[..taken]);
            tx.sent(taken, pool);
        }
        out
    }

    #[test]
    fn the_memory_of_a_burst_is_kept_up_to_the_bound_of_each_class() {
        let mut pool = Pool::new(4 * LARGE_PAGE_BYTES, 2 * LARGE_PAGE_BYTES);
        let pages: Vec<_> = (0..400).map(|i| pool.take(i < 4)).collect();
        let held = 4 * LARGE_PAGE_BYTES + 396 * PAGE_BYTES;
        assert_eq!((pool.bytes_held(), pool.bytes_kept()), (held, 0));
        assert_eq!(
            pool.ordinary.bare.len() % (BLOCK_BYTES / PAGE_BYTES),
            64 - 396 % 64
        );
        pages.into_iter().for_each(|page| pool.give(page));
        assert_eq!((pool.pages_held(), pool.bytes_held()), (0, 0));
        assert_eq!(pool.large.len(), 1);
        assert_eq!(pool.ordinary.warm.len(), LARGE_PAGE_BYTES / PAGE_BYTES);
        assert_eq!(pool.bytes_kept(), 2 * LARGE_PAGE_BYTES);
        // What has no memory any more is used again before more is mapped.
        let places = pool.ordinary.bare.len();
        let pages: Vec<_> = (0..100).map(|_| pool.take(false)).collect();
        assert_eq!(
            pool.ordinary.bare.len(),
            places - (100 - LARGE_PAGE_BYTES / PAGE_BYTES)
        );
        pages.into_iter().for_each(|page| pool.give(page));
    }

    #[test]
    fn a_part_of_a_message_waits_in_a_small_page_and_goes_on_in_an_ordinary_one() {
        for large in [false, true] {
            let (mut pool, mut rx) = (pool(), RecvBuf::default());
            rx.bulk = large;
            let page_bytes = rx.space(&mut pool).len();
            rx.filled(300, page_bytes);
            rx.bytes_mut().copy_from_slice(&[7; 300]);
            rx.consume(100);
            rx.release(&mut pool);
            assert_eq!(
                (pool.pages_held(), pool.bytes_held()),
                (1, SMALL_PAGE_BYTES)
            );
            assert_eq!(rx.bytes(), [7; 200]);
            rx.release(&mut pool);
            assert_eq!(pool.pages_held(), 1, "it is small already");
            assert!(rx.has_space());
            let room = rx.space(&mut pool).len();
            assert_eq!(room, PAGE_BYTES - 200);
            rx.filled(room, room);
            assert_eq!(rx.bytes()[..200], [7; 200]);
            rx.release(&mut pool);
            assert_eq!(
                pool.bytes_held(),
                PAGE_BYTES,
                "it is more than fits in a small one"
            );
            rx.clear();
            rx.release(&mut pool);
            assert_eq!((pool.pages_held(), pool.bytes_held()), (0, 0));
        }
    }

    #[test]
    fn a_small_page_that_is_full_can_be_read_behind_and_enlarged() {
        let (mut pool, mut rx) = (pool(), RecvBuf::default());
        assert_eq!(
            rx.push(&[b'h'; SMALL_PAGE_BYTES], &mut pool),
            SMALL_PAGE_BYTES
        );
        rx.release(&mut pool);
        assert_eq!(pool.bytes_held(), SMALL_PAGE_BYTES);
        assert!(rx.has_space() && rx.enlarge(&mut pool));
        assert_eq!(
            rx.push(&[b'i'; PAGE_BYTES], &mut pool),
            PAGE_BYTES - SMALL_PAGE_BYTES
        );
        assert!(!rx.has_space() && rx.enlarge(&mut pool));
        let part = rx.take_front(5000, &mut pool).expect("a page");
        assert_eq!(part.bytes()[4095..4097], *b"hi");
        pool.give_slice(part);
        rx.clear();
        rx.release(&mut pool);
        assert_eq!(pool.pages_held(), 0);
    }

    #[test]
    fn what_is_held_beside_pages_makes_memory_scarce_until_it_is_dropped() {
        let mut pool = pool().with_bytes_max(PAGE_BYTES + 1000);
        let (mut one, mut two) = (Held::default(), Held::default());
        pool.hold(&mut one, 600);
        pool.hold(&mut two, 500);
        assert_eq!((pool.bytes_held_beside(), pool.bytes_held()), (1100, 0));
        assert!(!pool.is_scarce());
        let page = pool.take(false);
        assert!(pool.is_scarce());
        pool.hold(&mut two, 100);
        assert!(!pool.is_scarce());
        pool.give(page);
        drop(one);
        assert_eq!(pool.bytes_held_beside(), 100);
        drop(two);
        assert_eq!(pool.bytes_held_beside(), 0);
    }

    #[test]
    fn what_waits_in_one_queue_is_added_to_another() {
        let mut pool = pool();
        let (mut head, mut body) = (SendQueue::new(100), SendQueue::new(u32::MAX));
        head.put(b"head ", &mut pool);
        body.put(&[b'b'; 2 * PAGE_BYTES], &mut pool);
        head.append(&mut body, &mut pool);
        assert!(body.is_empty() && body.memory_bytes() == 0);
        assert_eq!(head.memory_bytes(), 5 + 2 * PAGE_BYTES);
        assert_eq!(pool.pages_held(), 3);
        let out = drain(&mut head, 999, &mut pool);
        assert_eq!(out, [&b"head "[..], &[b'b'; 2 * PAGE_BYTES]].concat());
        assert_eq!(pool.pages_held(), 0);
    }

    #[test]
    fn an_idle_buffer_holds_no_page() {
        let (mut pool, mut rx) = (pool(), RecvBuf::default());
        assert_eq!(rx.push(b"abc", &mut pool), 3);
        assert_eq!(pool.pages_held(), 1);
        rx.consume(2);
        rx.release(&mut pool);
        assert_eq!(pool.pages_held(), 1, "a byte still waits");
        rx.consume(1);
        rx.release(&mut pool);
        let kept = PAGE_BYTES + SMALL_PAGE_BYTES;
        assert_eq!((pool.pages_held(), pool.bytes_kept()), (0, kept));
    }

    #[test]
    fn a_full_read_asks_for_a_large_page_and_a_small_one_gives_it_up() {
        let (mut pool, mut rx) = (pool(), RecvBuf::default());
        let room = rx.space(&mut pool).len();
        assert_eq!(room, PAGE_BYTES);
        rx.filled(room, room);
        let mut tx = SendQueue::new(1 << 20);
        assert_eq!(pour(&mut rx, &mut tx, usize::MAX, &mut pool), PAGE_BYTES);
        let room = rx.space(&mut pool).len();
        assert_eq!(room, LARGE_PAGE_BYTES);
        rx.filled(100, room);
        rx.consume(100);
        rx.release(&mut pool);
        assert_eq!(rx.space(&mut pool).len(), PAGE_BYTES);
    }

    #[test]
    fn a_slow_peers_queue_is_not_full_of_large_pages_with_little_in_them() {
        let (mut pool, mut rx, mut tx) = (pool(), RecvBuf::default(), SendQueue::new(256 * 1024));
        let room = rx.space(&mut pool).len();
        rx.filled(room, room); // the next pages are large ones
        while tx.has_room(PAGE_BYTES) {
            pour(&mut rx, &mut tx, usize::MAX, &mut pool);
            let room = rx.space(&mut pool).len();
            rx.filled(9000, room);
        }
        let held = pool.bytes_held();
        assert!(held <= 3 * LARGE_PAGE_BYTES, "{held} bytes held");
    }

    #[test]
    fn while_memory_is_scarce_there_is_room_in_an_empty_queue_only() {
        let mut pool = Pool::new(1 << 30, 0).with_bytes_max(2 * PAGE_BYTES);
        let first = pool.take(true);
        assert_eq!(first.len(), PAGE_BYTES, "no large page goes beyond it");
        assert!(!pool.is_scarce());
        let mut tx = SendQueue::new(1 << 20);
        tx.put(b"answer", &mut pool);
        assert!(tx.has_room(1));
        tx.set_scarce(pool.is_scarce());
        assert!(!tx.has_room(1), "two pages are in use");
        assert!(tx.was_refused());
        tx.clear(&mut pool);
        assert!(tx.has_room(1));
    }

    #[test]
    fn what_is_kept_unused_is_bounded_in_all() {
        const KEPT: usize = 4 * LARGE_PAGE_BYTES;
        let mut pool = Pool::new(usize::MAX, KEPT);
        let pages: Vec<Page> = (0..512).map(|i| pool.take(i < 8)).collect();
        pages.into_iter().for_each(|page| pool.give(page));
        assert_eq!(pool.bytes_kept(), KEPT, "half of it in each class");
        let mut queues: Vec<_> = (0..2 * QUEUES_KEPT_MAX)
            .map(|_| SendQueue::new(1))
            .collect();
        for queue in &mut queues {
            queue.put(b"a", &mut pool);
        }
        queues.iter_mut().for_each(|queue| queue.clear(&mut pool));
        assert_eq!(pool.queues.len(), QUEUES_KEPT_MAX);
    }

    #[test]
    fn large_pages_stop_at_the_memory_limit() {
        let mut pool = Pool::new(LARGE_PAGE_BYTES, 0);
        let first = pool.take(true);
        assert_eq!(first.len(), LARGE_PAGE_BYTES);
        assert_eq!(pool.take(true).len(), PAGE_BYTES);
        pool.give(first);
        assert_eq!(pool.bytes_kept(), 0, "nothing is kept beyond the limit");
    }

    #[test]
    fn a_refusal_is_remembered_once() {
        let (mut pool, mut tx) = (pool(), SendQueue::new(10));
        assert!(tx.has_room(1000), "an empty queue takes anything");
        tx.put(b"12345678", &mut pool);
        assert!(!tx.take_refused());
        assert!(!tx.has_room(3));
        assert!(tx.take_refused());
        assert!(!tx.take_refused());
    }

    #[test]
    fn a_head_and_a_small_body_are_one_element() {
        let (mut pool, mut tx) = (pool(), SendQueue::new(1 << 20));
        tx.put(b"head ", &mut pool);
        tx.put_shared(&Rc::from(*b"small body"), 0..5, &mut pool);
        assert!(matches!(tx.front(), Front::One(b"head small", false)));
        assert_eq!(drain(&mut tx, 3, &mut pool), b"head small");
        tx.release(&mut pool);
        assert_eq!(pool.pages_held(), 0);
    }

    #[test]
    fn a_file_is_held_to_its_promise_once_it_had_to_wait() {
        let (mut pool, mut tx) = (pool(), SendQueue::new(1 << 20));
        let file = File::new(Handle::Simulated(1), DiskId::default(), false);
        let (changed, modified) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
        let version = Arc::new(Version {
            len: 10,
            modified,
            changed,
            sample: 0,
        });
        let promised = Some(&*version);
        tx.put(b"head", &mut pool);
        tx.put_file_as_of(&file, Some(&version), 0, 10, &mut pool);
        tx.sent(4, &mut pool);
        assert_eq!(tx.promised(), None, "it goes out at once");
        tx.sent(5, &mut pool);
        tx.begin_turn();
        tx.put_file_as_of(&file, Some(&version), 0, 3, &mut pool);
        assert_eq!(tx.promised(), promised, "half of it went out before");
        tx.sent(5, &mut pool);
        assert_eq!(tx.promised(), None, "the second did not have to wait");
        tx.begin_turn();
        assert_eq!(tx.promised(), promised, "now it has");
        tx.sent(3, &mut pool);
        tx.put_file(&file, 0, 3, &mut pool);
        tx.begin_turn();
        assert_eq!(tx.promised(), None, "nothing was promised");
    }

    #[test]
    fn the_first_bytes_are_taken_and_the_others_stay() {
        for large_bytes_max in [0, 64 << 20] {
            for (waits, count) in [
                (100, 0),
                (100, 1),
                (100, 100),
                (PAGE_BYTES, PAGE_BYTES - 1),
                (PAGE_BYTES, 1),
                (LARGE_PAGE_BYTES, 100),
                (LARGE_PAGE_BYTES, LARGE_PAGE_BYTES / 2),
                (LARGE_PAGE_BYTES, LARGE_PAGE_BYTES - 100),
            ] {
                let mut pool = Pool::new(64 << 20, 1 << 20);
                let mut rx = RecvBuf {
                    bulk: true,
                    ..RecvBuf::default()
                };
                let bytes: Vec<u8> = (0..waits + 7).map(|i| (i % 251) as u8).collect();
                rx.push(&bytes, &mut pool);
                rx.consume(7);
                let all = rx.bytes().to_vec();
                // Memory has become scarce since.
                pool.set_limits(large_bytes_max, 1 << 20, usize::MAX);
                let mut taken = Vec::new();
                while let Some(slice) = rx.take_front(count - taken.len(), &mut pool) {
                    taken.extend_from_slice(slice.bytes());
                    pool.give_slice(slice);
                }
                assert_eq!(taken, all[..count], "{waits} {count}");
                assert_eq!(rx.bytes(), &all[count..], "{waits} {count}");
                rx.clear();
                rx.release(&mut pool);
                assert_eq!(pool.pages_held(), 0);
            }
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(
            pieces in proptest::collection::vec((0usize..3, 0usize..9000), 1..20),
            step in 1usize..20_000,
        ) {
            let (mut pool, mut tx, mut want) = (pool(), SendQueue::new(u32::MAX), Vec::new());
            for (i, (how, len)) in pieces.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..len).map(|j| (i * 31 + j) as u8).collect();
                want.extend_from_slice(&bytes);
                match how {
                    0 => tx.put(&bytes, &mut pool),
                    1 => tx.put_shared(&Rc::from(bytes), 0..len, &mut pool),
                    _ => {
                        let mut rx = RecvBuf::default();
                        rx.push(&bytes, &mut pool);
                        while pour(&mut rx, &mut tx, usize::MAX, &mut pool) > 0 {}
                        rx.release(&mut pool);
                    }
                }
            }
            prop_assert_eq!(tx.memory_bytes(), want.len());
            // A gathered send takes what it is given; the queue must not care how much that was.
            prop_assert_eq!(drain(&mut tx, step, &mut pool), want);
            tx.release(&mut pool);
            prop_assert_eq!(pool.pages_held(), 0);
        }
    }
}
