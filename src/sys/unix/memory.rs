//! Pages of memory that can go back to the system one by one, whatever becomes of their neighbours.
//!
//! What `free(3)` takes back stays with the process as long as anything behind it in the heap is in
//! use: 2,000 slow readers left 520 MiB of free pages behind, between the few that were kept. These
//! pages are cut from blocks that are mapped for them. A free one is [emptied](Page::empty): its
//! bytes go back, its place stays. A block is unmapped with its last page.
//!
//! Not here: which pages are kept for later; that is [`crate::buffer::Pool`]'s.

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Memory that was mapped for some pages, and is unmapped when the last of them is dropped.
struct Block {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a block only knows where its bytes are. They belong to its pages, and each byte to one of
// them; the block itself touches them when no page is left.
#[allow(unsafe_code)]
unsafe impl Send for Block {}
// SAFETY: as above; there is nothing to be seen through a shared reference.
#[allow(unsafe_code)]
unsafe impl Sync for Block {}

impl Block {
    /// So many bytes, all zero; the system gives memory for them when they are touched. Where there
    /// is no more, the process ends, as for any other allocation.
    #[allow(unsafe_code)]
    fn map(bytes: usize) -> Self {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, at a place that the kernel chooses: it changes no other memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Self { start, bytes },
            _ => handle_alloc_error(Layout::new::<u8>()),
        }
    }

    /// Each page that is used is to be had by itself: huge ones would bring back the memory of those
    /// that were emptied (`man 2 madvise`; a kernel without them refuses, which is as good).
    #[allow(unsafe_code)]
    fn without_huge_pages(self) -> Self {
        // SAFETY: the range is this block's; the advice changes no byte.
        unsafe {
            libc::madvise(
                self.start.as_ptr().cast(),
                self.bytes,
                libc::MADV_NOHUGEPAGE,
            )
        };
        self
    }
}

impl Drop for Block {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the mapping is this block's, and no page refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Some bytes of a block, which belong to this page alone. They begin where a page of the system
/// does, and so with a line of the processor's cache: the kernel copies a large read to such a
/// place a tenth faster than to the one 16 bytes behind it that an allocator gives.
pub struct Page {
    start: NonNull<u8>,
    bytes: u32,
    /// Keeps the memory.
    _block: Arc<Block>,
}

// SAFETY: a page is the only one to refer to its bytes, as a box is.
#[allow(unsafe_code)]
unsafe impl Send for Page {}
// SAFETY: a shared page gives its bytes to be read only.
#[allow(unsafe_code)]
unsafe impl Sync for Page {}

impl Page {
    /// Bytes of which a page's size is a multiple; where the system's own pages are larger, a page
    /// that is emptied keeps its memory.
    pub const UNIT_BYTES: usize = 4096;

    /// A page whose memory goes back to the system when it is dropped.
    ///
    /// # Panics
    /// If its size is no multiple of [`Page::UNIT_BYTES`].
    pub fn map(bytes: usize) -> Self {
        Self::cut(Block::map(bytes), bytes).remove(0)
    }

    /// So many pages of one block.
    ///
    /// # Panics
    /// As [`Page::map`], and for none at all.
    pub fn map_block(count: usize, bytes: usize) -> Vec<Self> {
        Self::cut(Block::map(count * bytes).without_huge_pages(), bytes)
    }

    #[allow(unsafe_code)]
    fn cut(block: Block, bytes: usize) -> Vec<Self> {
        assert!(bytes > 0 && bytes.is_multiple_of(Self::UNIT_BYTES));
        let size = u32::try_from(bytes).expect("a page of less than 4 GiB");
        let count = block.bytes / bytes;
        let block = Arc::new(block);
        let page = |index| Self {
            // SAFETY: `index * bytes` lies within the block, since `index` is below `count`.
            start: unsafe { block.start.add(index * bytes) },
            bytes: size,
            _block: Arc::clone(&block),
        };
        (0..count).map(page).collect()
    }

    /// Gives the memory back to the system; the bytes are zero from now on.
    #[allow(unsafe_code)]
    pub fn empty(&mut self) {
        // SAFETY: the range is this page's own, and nobody refers to it while it is borrowed here.
        // The kernel drops its memory; what is read there afterwards is zero, which any byte may be
        // (`man 2 madvise`, MADV_DONTNEED, for private anonymous mappings). If it refuses, since its
        // pages are larger, nothing has changed.
        unsafe {
            libc::madvise(
                self.start.as_ptr().cast(),
                self.bytes as usize,
                libc::MADV_DONTNEED,
            )
        };
    }
}

impl Deref for Page {
    type Target = [u8];

    #[inline]
    #[allow(unsafe_code)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are mapped, since `_block` is there, initialised, since the kernel gives
        // zeros, and this page's alone.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes as usize) }
    }
}

impl DerefMut for Page {
    #[inline]
    #[allow(unsafe_code)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; and the page is borrowed by the caller alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes as usize) }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a page that are in memory, by mincore(2).
    #[allow(unsafe_code)]
    fn resident(page: &Page) -> usize {
        let mut units = vec![0_u8; page.len() / Page::UNIT_BYTES];
        let start = page.as_ptr().cast_mut().cast();
        // SAFETY: the range is the page's, and there is a byte for each of its parts.
        let result = unsafe { libc::mincore(start, page.len(), units.as_mut_ptr()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        units.iter().filter(|unit| *unit & 1 == 1).count() * Page::UNIT_BYTES
    }

    #[test]
    fn an_emptied_page_has_no_memory_until_it_is_used_again_and_its_neighbours_keep_theirs() {
        let mut pages = Page::map_block(3, 16 * 1024);
        pages.iter_mut().for_each(|page| page.fill(7));
        pages[1].empty();
        let sizes: Vec<usize> = pages.iter().map(resident).collect();
        assert_eq!(sizes, [16 * 1024, 0, 16 * 1024]);
        assert!(pages[1].iter().all(|byte| *byte == 0));
        assert!(pages[0].iter().chain(&pages[2][..]).all(|byte| *byte == 7));
        pages[1][0] = 1;
        assert!(resident(&pages[1]) > 0);
    }

    #[test]
    fn pages_are_apart_and_zero_at_first() {
        let mut pages = Page::map_block(8, 16 * 1024);
        for (fill, page) in (1_u8..).zip(&mut pages) {
            assert!(page.len() == 16 * 1024 && page.iter().all(|byte| *byte == 0));
            assert!(page.as_ptr().align_offset(Page::UNIT_BYTES) == 0);
            page.fill(fill);
        }
        for (fill, page) in (1_u8..).zip(&pages) {
            assert!(page.iter().all(|byte| *byte == fill));
        }
        // A page outlives the others of its block, and is used by another thread.
        let mut last = pages.pop().expect("a page");
        drop(pages);
        let last = std::thread::spawn(move || {
            last[0] = 99;
            last
        });
        let last = last.join().expect("a thread");
        assert_eq!(last[..2], [99, 8]);
    }
}
