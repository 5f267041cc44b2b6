//! Answers made of files, found by request path, each with what it was made from.
//!
//! The rules:
//! 1. An entry is believed for [`RECHECK`]; then each of its witnesses is opened again, and unless
//!    all lead to the same files, unchanged, or still to nothing, the entry is dropped. So a
//!    replaced, changed, deleted or added file is served correctly after a second at most; while
//!    the process has no descriptors left to open it with, after [`BELIEVED_MAX`].
//! 2. A file that an entry keeps open is read when its answer is sent. So the open file itself is
//!    looked at before an answer is given out, once a turn however many ask, and if anything about
//!    it changed the entry is dropped: no answer has the head of one version and the body of
//!    another.
//! 3. What changes with every version is [`Metadata::changed`]: anybody may set the time of
//!    modification, and programs that build the same files from the same sources do. But the
//!    kernel's clock for it ticks every few milliseconds, some file systems' every two seconds. An
//!    entry made from a file that changed just before is dropped at its first recheck, whatever the
//!    disk says.
//! 4. Files and bytes are bounded. Who goes is decided by CLOCK: a hand goes round, spares each
//!    entry used since it last passed, and takes the first that was not. A hit costs one flag, and
//!    one pass over many files does not drive out those that are asked for again and again.
//! 5. A [`File`] handed out stays open until its last user is done, whatever happens to its entry.
//!
//! Deliberately not here: what an answer looks like (`T` is the service's), and the disk cache of
//! the proxy.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;
use std::task::{Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use slab::Slab;

use crate::disk::{File, FileKind, Metadata, is_out_of_descriptors};
use crate::jobs::Asking;

/// How long an entry is believed without a look at the disk.
pub const RECHECK: Duration = Duration::from_secs(1);

/// How long an entry is believed when no look at the disk is possible: a client that holds all
/// descriptors must not make a server lose what it has in memory.
pub const BELIEVED_MAX: Duration = Duration::from_secs(30);

/// How long ago a file must have changed to be told from its next version by [`Metadata::changed`]:
/// the coarsest clock that a file system has (FAT's).
const SETTLED: Duration = Duration::from_secs(2);

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Open files; each takes a descriptor.
    pub files_max: usize,
    /// Bytes of answers in memory, all entries together.
    pub bytes_max: usize,
}

/// What an entry holds.
#[derive(Debug)]
pub struct Held {
    /// Files that are read when they are sent, each with what it was.
    pub files: Vec<(File, Metadata)>,
    /// Bytes in memory.
    pub bytes: usize,
}

/// A path below the root, and what it led to when an answer was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The path.
    pub path: PathBuf,
    /// The file, or `None` where there was nothing to open.
    pub was: Option<Metadata>,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    key: Box<str>,
    witnesses: Box<[Witness]>,
    held: Held,
    /// When the disk last confirmed it, and when it is to be asked again.
    confirmed: Instant,
    recheck_at: Instant,
    /// The turn in which the open files were looked at.
    looked_at: u64,
    settled: bool,
    /// It is not true any more.
    is_stale: bool,
    used: bool,
}

/// Answers by request path, made from the files below one root.
#[derive(Debug)]
pub struct FileCache<T> {
    entries: Slab<Entry<T>>,
    index: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    capacity: Capacity,
    files: usize,
    bytes: usize,
    hand: usize,
}

impl<T> FileCache<T> {
    /// An empty cache.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            entries: Slab::new(),
            index: HashMap::default(),
            capacity,
            files: 0,
            bytes: 0,
            hand: 0,
        }
    }

    /// The answer to a request path, if there is one that is still true. One that is not stays
    /// until it is [removed](FileCache::remove), or another takes its place.
    #[inline]
    pub fn get<W: Copy + Ord + Hash>(
        &mut self,
        key: &str,
        now: Instant,
        turn: u64,
        files: &mut Asking<'_, W>,
        root: &File,
    ) -> Poll<Option<&mut T>> {
        let Some(&slot) = self.index.get(key) else {
            return Poll::Ready(None);
        };
        let entry = &mut self.entries[slot];
        if now >= entry.recheck_at {
            match ready!(entry.recheck(files, root)) {
                Recheck::Same => entry.confirmed = now,
                Recheck::Impossible if now < entry.confirmed + BELIEVED_MAX => {}
                Recheck::Impossible | Recheck::Changed => {
                    entry.is_stale = true;
                    return Poll::Ready(None);
                }
            }
            entry.recheck_at = now + RECHECK;
        }
        if entry.looked_at != turn {
            if entry.is_stale || !ready!(entry.is_unwritten(files)) {
                entry.is_stale = true;
                return Poll::Ready(None);
            }
            entry.looked_at = turn;
        }
        entry.used = true;
        Poll::Ready((!entry.is_stale).then_some(&mut entry.value))
    }

    /// Takes an answer out.
    pub fn remove(&mut self, key: &str) -> Option<T> {
        let slot = *self.index.get(key)?;
        Some(self.take(slot))
    }

    /// Whether what is held is within the bounds.
    pub fn can_keep(&self, held: &Held) -> bool {
        held.bytes <= self.capacity.bytes_max && held.files.len() <= self.capacity.files_max
    }

    /// Keeps an answer that was just made from `witnesses`. One that is beyond all bounds is not
    /// kept.
    pub fn insert(
        &mut self,
        key: &str,
        witnesses: Vec<Witness>,
        value: T,
        mut held: Held,
        (now, turn): (Instant, u64),
        wall: SystemTime,
    ) {
        held.bytes += key.len();
        if !self.can_keep(&held) {
            return;
        }
        if let Some(&slot) = self.index.get(key) {
            self.take(slot);
        }
        while self.files + held.files.len() > self.capacity.files_max
            || self.bytes + held.bytes > self.capacity.bytes_max
        {
            self.evict();
        }
        let settled = witnesses
            .iter()
            .filter_map(|witness| witness.was)
            .all(|was| {
                // A clock that was set back leaves times in the future, a broken one at the end of
                // all times.
                let settles = was.changed.checked_add(SETTLED);
                settles.is_some_and(|moment| moment <= wall)
            });
        let key = Box::from(key);
        let slot = self.entries.vacant_key();
        self.index.insert(Box::clone(&key), slot);
        self.files += held.files.len();
        self.bytes += held.bytes;
        self.entries.insert(Entry {
            value,
            key,
            witnesses: witnesses.into(),
            held,
            confirmed: now,
            recheck_at: now + RECHECK,
            looked_at: turn,
            settled,
            is_stale: false,
            used: false,
        });
    }

    /// Moves the hand to the first entry not used since its last visit, and drops that.
    fn evict(&mut self) {
        // Two rounds: the first may only clear flags.
        for _ in 0..2 * self.entries.capacity().max(1) {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.entries.capacity().max(1);
            match self.entries.get_mut(slot) {
                Some(entry) if entry.used => entry.used = false,
                Some(_) => return drop(self.take(slot)),
                None => {}
            }
        }
    }

    fn take(&mut self, slot: usize) -> T {
        let entry = self.entries.remove(slot);
        self.index.remove(&entry.key);
        self.files -= entry.held.files.len();
        self.bytes -= entry.held.bytes;
        entry.value
    }

    /// Answers that are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What a look at the disk says of an entry.
enum Recheck {
    Same,
    Changed,
    /// Nothing: there are no descriptors.
    Impossible,
}

impl<T> Entry<T> {
    /// All witnesses are asked before one is waited for.
    fn recheck<W: Copy + Ord + Hash>(
        &self,
        files: &mut Asking<'_, W>,
        root: &File,
    ) -> Poll<Recheck> {
        if self.is_stale || !self.settled {
            return Poll::Ready(Recheck::Changed);
        }
        let mut is_pending = false;
        for witness in &self.witnesses {
            let now = match files.open(root, &witness.path) {
                Poll::Pending => {
                    is_pending = true;
                    continue;
                }
                Poll::Ready(Err(error)) if is_out_of_descriptors(&error) => {
                    return Poll::Ready(Recheck::Impossible);
                }
                Poll::Ready(opened) => opened.ok().map(|(_, metadata)| metadata),
            };
            // Neither file nor folder is nothing to open.
            if now.filter(|now| now.kind != FileKind::Other) != witness.was {
                return Poll::Ready(Recheck::Changed);
            }
        }
        match is_pending {
            true => Poll::Pending,
            false => Poll::Ready(Recheck::Same),
        }
    }

    /// Whether the open files are what they were.
    fn is_unwritten<W: Copy + Ord + Hash>(&self, files: &mut Asking<'_, W>) -> Poll<bool> {
        all(self.held.files.iter().map(|(file, was)| {
            let now = files.metadata(file);
            now.map(|now| now.is_ok_and(|now| now == *was))
        }))
    }
}

/// Whether everything is so. All of it is asked before anything is waited for.
fn all(answers: impl Iterator<Item = Poll<bool>>) -> Poll<bool> {
    let mut is_pending = false;
    for answer in answers {
        match answer {
            Poll::Ready(true) => {}
            Poll::Ready(false) => return Poll::Ready(false),
            Poll::Pending => is_pending = true,
        }
    }
    match is_pending {
        true => Poll::Pending,
        false => Poll::Ready(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::jobs::Jobs;
    use crate::limits::DiskLimits;
    use crate::sys::unix;
    use std::fs;
    use std::path::Path;

    struct Fixture {
        folder: tempfile::TempDir,
        disk: unix::Files,
        jobs: Jobs<u32>,
        root: File,
        cache: FileCache<u32>,
        now: Instant,
        turn: u64,
        wall: SystemTime,
    }

    fn fixture(files_max: usize, bytes_max: usize) -> Fixture {
        fixture_on(unix::Files::default(), files_max, bytes_max)
    }

    fn fixture_on(mut disk: unix::Files, files_max: usize, bytes_max: usize) -> Fixture {
        let folder = tempfile::tempdir().expect("a folder");
        let root = disk.open_folder(folder.path()).expect("the folder");
        let cache = FileCache::new(Capacity {
            files_max,
            bytes_max,
        });
        Fixture {
            folder,
            disk,
            jobs: Jobs::new(DiskLimits::default()),
            root,
            cache,
            now: Instant::now(),
            turn: 1,
            wall: SystemTime::now() + Duration::from_secs(10),
        }
    }

    impl Fixture {
        fn keep(&mut self, name: &str, value: u32) {
            fs::write(self.folder.path().join(name), name).expect("a file");
            self.keep_made_from(name, &[name], value);
        }

        fn keep_made_from(&mut self, key: &str, names: &[&str], value: u32) {
            let mut files = Vec::new();
            let witness = |name: &&str| {
                let file = self.disk.open(&self.root, Path::new(name)).ok();
                let was = file.map(|file| {
                    let was = self.disk.metadata(&file).expect("an open file");
                    files = vec![(file, was)];
                    was
                });
                Witness {
                    path: name.into(),
                    was,
                }
            };
            let witnesses = names.iter().map(witness).collect();
            let held = Held { files, bytes: 10 };
            self.cache.insert(
                key,
                witnesses,
                value,
                held,
                (self.now, self.turn),
                self.wall,
            );
        }

        /// What is kept, once the jobs that it takes to know are done.
        fn look(&mut self, name: &str) -> Option<u32> {
            loop {
                let mut files = Asking::new(&mut self.disk, &mut self.jobs, 1, self.now);
                let kept = self
                    .cache
                    .get(name, self.now, self.turn, &mut files, &self.root);
                if let Poll::Ready(kept) = kept {
                    let kept = kept.copied();
                    if kept.is_none() {
                        self.cache.remove(name);
                    }
                    self.jobs.settle(1);
                    return kept;
                }
                while let Some((id, mut job)) = self.jobs.poll_start(self.now) {
                    let result = job.perform(&mut self.disk);
                    self.jobs.finished(id, job, result, self.now);
                }
            }
        }
    }

    #[test]
    fn without_descriptors_an_entry_is_believed_for_a_while_and_no_longer() {
        let mut f = fixture(10, 1000);
        f.keep("kept", 1);
        let look_without = |f: &mut Fixture| {
            f.turn += 1;
            let disk = &mut unix::Scarce::new(&mut f.disk, 0);
            let mut files = Asking::new(disk, &mut f.jobs, 1, f.now);
            match f.cache.get("kept", f.now, f.turn, &mut files, &f.root) {
                Poll::Ready(found) => found.copied(),
                Poll::Pending => panic!("it is answered at once"),
            }
        };
        for _ in 0..BELIEVED_MAX.as_secs() - 1 {
            f.now += RECHECK;
            assert_eq!(look_without(&mut f), Some(1));
        }
        // A look at the disk begins the time anew.
        f.now += RECHECK;
        assert_eq!(f.look("kept"), Some(1));
        f.now += RECHECK;
        assert_eq!(look_without(&mut f), Some(1));
        // What is written into the open file is seen all the same.
        fs::write(f.folder.path().join("kept"), "another").expect("a write");
        assert_eq!(look_without(&mut f), None);
        f.keep("kept", 2);
        f.now += BELIEVED_MAX;
        assert_eq!(look_without(&mut f), None);
    }

    #[test]
    fn a_changed_replaced_or_deleted_file_is_forgotten_within_a_second() {
        for all_are_slow in [false, true] {
            changes_are_seen(fixture_on(unix::Files { all_are_slow }, 10, 1000));
        }
    }

    fn changes_are_seen(mut f: Fixture) {
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
        f.turn += 1;
        assert_eq!(
            ["changed", "replaced", "deleted", "same"].map(|name| f.look(name)),
            [None, None, None, Some(1)]
        );
        assert_eq!(f.cache.len(), 1);
    }

    #[test]
    fn an_open_file_is_looked_at_once_a_turn() {
        for all_are_slow in [false, true] {
            writes_are_seen(fixture_on(unix::Files { all_are_slow }, 10, 1000));
        }
    }

    fn writes_are_seen(mut f: Fixture) {
        for name in ["written", "replaced"] {
            f.keep(name, 1);
        }
        let path = |name: &str| f.folder.path().join(name);
        fs::write(path("written"), "anew").expect("a write");
        fs::write(path("new"), "new").expect("a write");
        fs::rename(path("new"), path("replaced")).expect("a rename");
        assert_eq!(f.look("written"), Some(1), "within the turn that made it");
        f.turn += 1;
        assert_eq!(f.look("written"), None);
        assert_eq!(f.look("replaced"), None, "its file has lost its name");
        assert_eq!((f.cache.len(), f.cache.files), (0, 0));
    }

    #[test]
    fn a_file_that_is_added_changes_what_was_made_without_it() {
        let mut f = fixture(10, 1000);
        f.keep("b", 1);
        f.keep_made_from("first", &["a", "b"], 2);
        f.now += RECHECK;
        f.turn += 1;
        assert_eq!(f.look("first"), Some(2));
        fs::write(f.folder.path().join("a"), "new").expect("a write");
        f.now += RECHECK;
        f.turn += 1;
        assert_eq!((f.look("first"), f.look("b")), (None, Some(1)));
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_believed_longer_than_a_second() {
        let mut f = fixture(10, 1000);
        f.wall = SystemTime::now();
        f.keep("fresh", 1);
        assert_eq!(f.look("fresh"), Some(1));
        f.now += RECHECK;
        f.turn += 1;
        assert_eq!(f.look("fresh"), None);
    }

    #[test]
    fn a_file_from_the_end_of_all_times_is_never_settled() {
        let mut f = fixture(10, 1000);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64);
        let was = Some(Metadata {
            kind: FileKind::Regular,
            len: 1,
            modified: SystemTime::UNIX_EPOCH,
            changed,
            identity: (1, 1),
            executable: false,
        });
        let witness = Witness {
            path: "late".into(),
            was,
        };
        let held = Held {
            files: Vec::new(),
            bytes: 1,
        };
        f.cache
            .insert("late", vec![witness], 1, held, (f.now, f.turn), f.wall);
        assert_eq!(f.look("late"), Some(1));
        f.now += RECHECK;
        f.turn += 1;
        assert_eq!(f.look("late"), None);
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
