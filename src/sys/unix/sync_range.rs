//! Telling the kernel to begin to write what is dirty of a file: `sync_file_range(2)`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Waits for what of these bytes is being written, and has all that is dirty of them written. The
/// call may wait for a place in the queue of the device, so it is for a job.
///
/// # Errors
/// Those of the call, such as `EIO`; none where the file system does not have it.
#[allow(unsafe_code)]
pub(super) fn begin_writing(file: &OwnedFd, offset: u64, len: u64) -> io::Result<()> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return Ok(()); // no file is that long
    };
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the call takes numbers only, and the descriptor is open as long as `file`.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINTR | libc::ENOSYS | libc::EINVAL | libc::ESPIPE) => Ok(()),
        _ => Err(error),
    }
}
