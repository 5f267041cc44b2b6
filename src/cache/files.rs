//! Open files and the answers made of them, found by request path.
//!
//! The rules:
//! 1. An entry is believed for [`RECHECK`]; then its path is opened again, and unless that leads to the same file,
//!    unchanged, the entry is dropped. So a replaced, changed or deleted file is served correctly after a second at most.
//! 2. Entries and bytes are bounded. Who goes is decided by CLOCK: a hand goes round, spares each entry used since it last
//!    passed, and takes the first that was not. A hit costs one flag, and one pass over many files does not drive out those
//!    that are asked for again and again.
//! 3. A [`File`] handed out stays open until its last user is done, whatever happens to its entry.
//!
//! Deliberately not here: what an answer looks like (`T` is the service's), and the disk cache of the proxy.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::buffer::File;
use crate::service::{Disk, Metadata};

/// How long an entry is believed without a look at the disk.
pub const RECHECK: Duration = Duration::from_secs(1);

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open files; each takes a descriptor.
    pub entries_max: usize,
    /// Bytes of answers in memory, all entries together.
    pub bytes_max: usize,
}

/// One open file.
#[derive(Debug)]
pub struct Entry<T> {
    /// The file, open for reading.
    pub file: File,
    /// What it was when it was opened.
    pub metadata: Metadata,
    /// What the service made of it.
    pub value: T,
    key: Box<str>,
    path: PathBuf,
    bytes: usize,
    checked: Instant,
    used: bool,
}

/// Open files by request path, below one root.
#[derive(Debug)]
pub struct FileCache<T> {
    entries: Slab<Entry<T>>,
    index: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    limits: Limits,
    bytes: usize,
    hand: usize,
}

impl<T> FileCache<T> {
    /// An empty cache.
    pub fn new(limits: Limits) -> Self {
        Self {
            entries: Slab::new(),
            index: HashMap::default(),
            limits,
            bytes: 0,
            hand: 0,
        }
    }

    /// The entry of a request path, if it is still true.
    #[inline]
    pub fn get(
        &mut self,
        key: &str,
        now: Instant,
        disk: &mut dyn Disk,
        root: &File,
    ) -> Option<&mut Entry<T>> {
        let slot = *self.index.get(key)?;
        let entry = &mut self.entries[slot];
        if now >= entry.checked + RECHECK {
            if !entry.is_unchanged(disk, root) {
                self.remove(slot);
                return None;
            }
            entry.checked = now;
        }
        entry.used = true;
        self.entries.get_mut(slot)
    }

    /// Keeps a file that was just opened by `path`, as the answer to `key`; `bytes` is what `value` takes in memory. An
    /// answer beyond all bounds is not kept.
    pub fn insert(
        &mut self,
        key: &str,
        path: &Path,
        opened: (File, Metadata),
        value: T,
        bytes: usize,
        now: Instant,
    ) {
        let bytes = bytes + key.len();
        if bytes > self.limits.bytes_max || self.limits.entries_max == 0 {
            return;
        }
        if let Some(&slot) = self.index.get(key) {
            self.remove(slot);
        }
        while self.entries.len() >= self.limits.entries_max
            || self.bytes + bytes > self.limits.bytes_max
        {
            self.evict();
        }
        let (file, metadata) = opened;
        let (key, path) = (Box::from(key), path.to_owned());
        let slot = self.entries.vacant_key();
        self.index.insert(Box::clone(&key), slot);
        self.entries.insert(Entry {
            file,
            metadata,
            value,
            key,
            path,
            bytes,
            checked: now,
            used: false,
        });
        self.bytes += bytes;
    }

    /// Moves the hand to the first entry not used since its last visit, and drops that.
    fn evict(&mut self) {
        // Two rounds: the first may only clear flags.
        for _ in 0..2 * self.entries.capacity().max(1) {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.entries.capacity().max(1);
            match self.entries.get_mut(slot) {
                Some(entry) if entry.used => entry.used = false,
                Some(_) => return self.remove(slot),
                None => {}
            }
        }
    }

    fn remove(&mut self, slot: usize) {
        let entry = self.entries.remove(slot);
        self.index.remove(&entry.key);
        self.bytes -= entry.bytes;
    }

    /// Files that are open.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T> Entry<T> {
    fn is_unchanged(&self, disk: &mut dyn Disk, root: &File) -> bool {
        let again = disk
            .open(root, &self.path)
            .and_then(|file| disk.metadata(&file));
        again.is_ok_and(|metadata| metadata == self.metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::Unix;
    use std::fs;

    struct Fixture {
        folder: tempfile::TempDir,
        disk: Unix,
        root: File,
        cache: FileCache<u32>,
        now: Instant,
    }

    fn fixture(entries_max: usize, bytes_max: usize) -> Fixture {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = Unix::new(false).expect("a poll");
        let root = disk.open_folder(folder.path()).expect("the folder");
        let cache = FileCache::new(Limits {
            entries_max,
            bytes_max,
        });
        Fixture {
            folder,
            disk,
            root,
            cache,
            now: Instant::now(),
        }
    }

    impl Fixture {
        fn keep(&mut self, name: &str, value: u32) {
            fs::write(self.folder.path().join(name), name).expect("a file");
            let file = self
                .disk
                .open(&self.root, Path::new(name))
                .expect("the file");
            let metadata = self.disk.metadata(&file).expect("its metadata");
            self.cache
                .insert(name, Path::new(name), (file, metadata), value, 10, self.now);
        }

        fn look(&mut self, name: &str) -> Option<u32> {
            self.cache
                .get(name, self.now, &mut self.disk, &self.root)
                .map(|entry| entry.value)
        }
    }

    #[test]
    fn a_changed_replaced_or_deleted_file_is_forgotten_within_a_second() {
        let mut f = fixture(10, 1000);
        for name in ["changed", "replaced", "deleted", "same"] {
            f.keep(name, 1);
        }
        fs::write(f.folder.path().join("changed"), "longer than before").expect("a write");
        fs::write(f.folder.path().join("new"), "replaced").expect("a write");
        fs::rename(
            f.folder.path().join("new"),
            f.folder.path().join("replaced"),
        )
        .expect("a rename");
        fs::remove_file(f.folder.path().join("deleted")).expect("a removal");
        f.now += RECHECK;
        assert_eq!(
            ["changed", "replaced", "deleted", "same"].map(|name| f.look(name)),
            [None, None, None, Some(1)]
        );
        assert_eq!(f.cache.len(), 1);
    }

    #[test]
    fn the_clock_spares_what_was_used() {
        let mut f = fixture(3, 1000);
        for (name, value) in [("a", 1), ("b", 2), ("c", 3)] {
            f.keep(name, value);
        }
        f.look("a");
        f.look("c");
        f.keep("d", 4);
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| f.look(name)),
            [Some(1), None, Some(3), Some(4)]
        );
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        let mut f = fixture(100, 50);
        for i in 0..20 {
            f.keep(&format!("f{i:02}"), i);
            assert!(f.cache.bytes <= 50, "{} bytes", f.cache.bytes);
        }
        assert_eq!(f.cache.len(), 3, "each takes 13 bytes");
        f.keep(
            "one with a name that is longer than everything that may be kept",
            1,
        );
        assert_eq!(f.cache.len(), 3);
        let mut none = fixture(0, 50);
        none.keep("a", 1);
        assert!(none.cache.is_empty());
    }
}
