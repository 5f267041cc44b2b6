//! Whether bytes of a file are in memory: `cachestat(2)`, which Linux has since 6.5.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(test)]
thread_local! {
    /// For tests: nothing is in memory, as this thread sees it.
    pub(crate) static COLD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The number of the call, the same on every architecture.
const CACHESTAT: libc::c_long = 451;

/// `struct cachestat_range`: in bytes.
#[repr(C)]
struct Range {
    offset: u64,
    len: u64,
}

/// `struct cachestat`: in pages.
#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    under_writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Bytes of a page of the kernel's.
#[allow(unsafe_code)]
fn page_bytes() -> u64 {
    // SAFETY: the call reads a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

/// Whether all of `len` bytes from `offset` are in memory, as far as the file has them; true where
/// the kernel cannot tell.
#[allow(unsafe_code)]
pub(super) fn is_cached(file: &OwnedFd, offset: u64, len: u64) -> bool {
    #[cfg(test)]
    if COLD.get() {
        return false;
    }
    static IS_MISSING: AtomicBool = AtomicBool::new(false);
    if len == 0 || IS_MISSING.load(Ordering::Relaxed) {
        return true;
    }
    let (range, mut counts) = (Range { offset, len }, Counts::default());
    // SAFETY: `range` and `counts` have the layout that the call expects (`struct cachestat_range`
    // and `struct cachestat` of `linux/mman.h`), and live longer than it.
    let result = unsafe {
        libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            &raw const range,
            &raw mut counts,
            0,
        )
    };
    if result != 0 {
        // ENOSYS, or EPERM of a sandbox; EOPNOTSUPP of a file without pages.
        let error = std::io::Error::last_os_error().raw_os_error();
        let is_missing = matches!(error, Some(libc::ENOSYS | libc::EPERM));
        IS_MISSING.fetch_or(is_missing, Ordering::Relaxed);
        return true;
    }
    let page_bytes = page_bytes();
    let pages = (offset + len).div_ceil(page_bytes) - offset / page_bytes;
    counts.cached >= pages
}
