//! Writing to what may be a pipe that nobody reads, without waiting: for logs.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self, FileType};
use rustix::io::retry_on_intr;

/// What a pipe that has room takes without waiting (`PIPE_BUF` of Linux).
const PIPE_BYTES: usize = 4096;

/// Appends to a file, a pipe or a terminal without waiting; how many of the bytes. Standard error
/// is shared with other processes, so it is not for us to make it non-blocking. A pipe that polls
/// writable takes `PIPE_BUF` bytes at once (`man 7 pipe`); a regular file always polls so.
pub(super) fn append(file: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let mut poll = [rustix::event::PollFd::new(
        file,
        rustix::event::PollFlags::OUT,
    )];
    let at_once = rustix::event::Timespec::default();
    if retry_on_intr(|| rustix::event::poll(&mut poll, Some(&at_once)))? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let stat = retry_on_intr(|| fs::fstat(file))?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let count = if regular {
        bytes.len()
    } else {
        bytes.len().min(PIPE_BYTES)
    };
    Ok(retry_on_intr(|| rustix::io::write(file, &bytes[..count]))?)
}
