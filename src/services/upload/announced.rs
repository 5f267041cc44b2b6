//! A file between its header and its name: what was announced of it, and where its bytes are.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use super::kept::Key;
use super::owner::Owner;
use super::room::Promise;
use crate::disk::File;
use crate::wire::safe_path::SafePath;
use crate::wire::upload::SafeName;

/// What a client asked beyond the plain protocol: an answer, and perhaps more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks {
    pub(super) sha256: Option<[u8; 32]>,
    pub(super) resume: bool,
    pub(super) skip_same: bool,
}

/// A file that was announced.
#[derive(Clone)]
pub(super) struct Announced {
    /// Its path below the folder of its owner, as its client asked for it.
    pub(super) name: SafePath,
    pub(super) size_bytes: u64,
    pub(super) began: Instant,
    /// Whose it is, and where it goes.
    pub(super) owner: Rc<Owner>,
    pub(super) asks: Option<Asks>,
    /// Its room, once it has that.
    pub(super) promise: Option<Rc<Promise>>,
}

impl Announced {
    /// Its folder below that of the listener, empty for that itself.
    pub(super) fn folder(&self) -> PathBuf {
        self.owner.folder.join(self.name.folder())
    }

    /// Its path below the folder of the listener, if this is its name.
    pub(super) fn path_as(&self, name: &SafeName) -> PathBuf {
        self.folder().join::<&Path>(name.as_ref())
    }
}

/// A file that was made and has no name yet.
pub(super) struct Partial {
    pub(super) announced: Announced,
    /// Its path below the folder.
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// What it is known by, if it is to be kept when it is broken off.
    pub(super) key: Option<Key>,
}
