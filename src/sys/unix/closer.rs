//! Closing what may have to wait for it: a network file system writes back, or asks a server, in
//! `close(2)` (`man 2 close`, "Dealing with error returns"), whichever engine does the jobs. Each
//! file system has a thread of its own for that, from its first file on: one that is dead keeps
//! back the descriptors of its own files only.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::disk::DiskId;

static CLOSERS: Mutex<BTreeMap<DiskId, Sender<OwnedFd>>> = Mutex::new(BTreeMap::new());

/// Closes a descriptor of a file on `disk`, after a while.
pub(super) fn close(disk: DiskId, fd: OwnedFd) {
    let mut closers = CLOSERS.lock().unwrap_or_else(PoisonError::into_inner);
    let closer = closers.entry(disk).or_insert_with(begin);
    // Where no thread could be started, the descriptor comes back and is closed here.
    drop(closer.send(fd));
}

/// Starts a thread that closes what it is sent.
fn begin() -> Sender<OwnedFd> {
    let (sender, receiver) = channel::<OwnedFd>();
    let closer = thread::Builder::new().name("close".to_owned());
    if let Err(error) = closer.spawn(move || receiver.into_iter().for_each(drop)) {
        log::error!("a thread that closes files cannot be started: {error}");
    }
    sender
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_handed_over_is_closed() {
        let (one, mut other) = UnixStream::pair().expect("a pair");
        close(DiskId(u64::MAX), OwnedFd::from(one));
        let mut rest = Vec::new();
        other.read_to_end(&mut rest).expect("its end");
    }
}
