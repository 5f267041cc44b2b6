//! Files and folders: the calls of [`Disk`], always below a folder that was opened before, never
//! outside it.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{
    self, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, Statx,
    StatxFlags,
};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};
use rustix::pipe::{self, PipeFlags, SpliceFlags};

use crate::disk::{Disk, DiskId, Entry, File, FileKind, Handle, Metadata, SlowFd};
use crate::jobs::{Command, Done, Job, Query};
use crate::pipe::Pipe;
use crate::sys::append;

use super::{PIPE_BYTES, cached, closer, ends, sync_range};

/// Bytes of names that are taken from a folder in one call: several hundred of them.
const NAMES_BYTES: usize = 32 * 1024;
/// Of how much of a file it is asked at once whether it is in memory.
const WHOLE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How often a file below a root is looked for while others rename what lies on the way. Each try
/// is one system call; a rename that is slower than all of them is not known.
pub(super) const RACES_MAX: usize = 128;

/// The descriptor of a file that this kernel opened.
pub(super) fn descriptor(file: &File) -> io::Result<&OwnedFd> {
    match file.handle() {
        Handle::Fd(fd) => Ok(fd),
        Handle::SlowFd(slow) => Ok(slow.fd()),
        Handle::Simulated(_) => Err(io::Error::other("a file of the simulated disk")),
    }
}

/// File systems whose calls wait for nobody but the kernel and a disk of this machine
/// (`man 2 fstatfs`); whatever is not among them may ask another process or another machine.
const LOCAL: [i64; 14] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0x2FC1_2FC1, // zfs
    0xF2F5_2010, // f2fs
    0xCA45_1A4E, // bcachefs
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x794C_7630, // overlayfs
    0x7371_7368, // squashfs
    0xE0F5_E1E2, // erofs
    0x9660,      // iso9660
    0x4D44,      // fat
    0x2011_BAB0, // exfat
];

/// A file that was just opened, with the file system that it stands on. `root`: what it was opened
/// beneath, and so probably a file of the same one.
fn opened(fd: OwnedFd, root: Option<&File>) -> io::Result<(File, Metadata)> {
    let stat = retry_on_intr(|| fs::fstat(&fd))?;
    let disk = DiskId(stat.st_dev);
    let is_slow = match root {
        Some(root) if root.disk() == disk => root.is_slow(),
        _ => {
            let kind = retry_on_intr(|| fs::fstatfs(&fd))?.f_type;
            !LOCAL.contains(&kind)
        }
    };
    let handle = match is_slow {
        true => Handle::SlowFd(SlowFd::new(fd, disk, closer::close)),
        false => Handle::Fd(fd),
    };
    let file = File::new(handle, disk, is_slow);
    Ok((file, metadata(&stat)))
}

/// What a job came to that asked for a file which was opened for it.
pub(super) fn opened_for(job: &Job, fd: OwnedFd) -> io::Result<Done> {
    let root = match job {
        Job::Query(Query::Open { root, .. }) | Job::Command(Command::Create { root, .. }) => root,
        other => {
            debug_assert!(false, "{other:?} opens nothing");
            return Err(io::ErrorKind::Unsupported.into());
        }
    };
    let (file, metadata) = opened(fd, Some(root))?;
    Ok(Done::File(file, metadata))
}

/// What is known of an open file without asking anybody else, be it true or not (`man 2 statx`,
/// `AT_STATX_DONT_SYNC`); its file system is in any case.
pub(super) fn stat_cached(fd: &OwnedFd) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(retry_on_intr(|| {
        fs::statx(fd, "", flags, StatxFlags::BASIC_STATS)
    })?)
}

/// Opens below `root`, by a call that may wait for the disk, or by one that fails with `EAGAIN`
/// where it would.
/// `RESOLVE_BENEATH` refuses every way out of the root, `RESOLVE_NO_MAGICLINKS` those of /proc.
fn open_beneath(
    root: &File,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    more: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = nonempty(path);
    let (flags, resolve) = (beneath_flags(flags), BENEATH | more);
    // A file of the simulated disk has no descriptor.
    let root = descriptor(root).map_err(|_| Errno::BADF)?;
    let open = || fs::openat2(root, path, flags, mode, resolve);
    match more.contains(ResolveFlags::CACHED) {
        true => retry_on_intr(open),
        false => retry_races(open),
    }
}

/// Opens a folder below `root` to which no symbolic link leads. What is none is found by its kind:
/// a link fails with `ELOOP` (`man 2 openat2`, `RESOLVE_NO_SYMLINKS`).
fn open_real_folder(root: &File, path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_beneath(root, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Err(Errno::LOOP) => Err(io::ErrorKind::NotADirectory.into()),
        fd => Ok(opened(fd?, Some(root))?.0),
    }
}

/// What every opening below a root asks for.
pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// The path as the kernel has it: empty, it is no way to the root.
pub(super) fn nonempty(path: &Path) -> &Path {
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

/// These flags, and those that every opening below a root has. openat2 refuses `O_PATH` together
/// with what it does not act on, `O_NOCTTY` among it (`man 2 openat2`, EINVAL).
pub(super) fn beneath_flags(flags: OFlags) -> OFlags {
    match flags.contains(OFlags::PATH) {
        true => flags | OFlags::CLOEXEC,
        false => flags | OFlags::CLOEXEC | OFlags::NOCTTY,
    }
}

/// Opens below `root`, if all that takes is in memory. On another file system than the root's it is
/// not even tried: that may be one that asks others.
fn open_cached(root: &File, path: &Path, flags: OFlags) -> Option<io::Result<OwnedFd>> {
    if root.is_slow() {
        return None;
    }
    let more = ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
    match open_beneath(root, path, flags, Mode::empty(), more) {
        Err(Errno::AGAIN | Errno::XDEV) => None,
        result => Some(result.map_err(io::Error::from)),
    }
}

/// Repeats an `openat2` that a signal interrupted, and one that could not tell whether a `..` on
/// the way leads out of the root because something was being renamed or mounted (`man 2 openat2`,
/// EAGAIN), at most [`RACES_MAX`] times.
fn retry_races<T>(mut open: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 1..RACES_MAX {
        match retry_on_intr(&mut open) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    retry_on_intr(open)
}

fn fstat(file: &File) -> io::Result<fs::Stat> {
    let file = descriptor(file)?;
    Ok(retry_on_intr(|| fs::fstat(file))?)
}

/// Whether a lock that nobody else may have was free.
pub(super) fn lock_exclusive(file: &OwnedFd) -> io::Result<bool> {
    match retry_on_intr(|| fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        result => Ok(result.map(|()| true)?),
    }
}

fn file_kind(mode: u32) -> FileKind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Folder,
        _ => FileKind::Other,
    }
}

fn metadata(stat: &fs::Stat) -> Metadata {
    Metadata {
        kind: file_kind(stat.st_mode),
        len: stat.st_size as u64,
        modified: moment(stat.st_mtime, stat.st_mtime_nsec),
        changed: moment(stat.st_ctime, stat.st_ctime_nsec),
        identity: (stat.st_dev, stat.st_ino),
        executable: Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR),
    }
}

/// The same from a `statx(2)`.
pub(super) fn metadata_of(stat: &Statx) -> Metadata {
    let at = |time: fs::StatxTimestamp| moment(time.tv_sec, time.tv_nsec.into());
    let mode = u32::from(stat.stx_mode);
    Metadata {
        kind: file_kind(mode),
        len: stat.stx_size,
        modified: at(stat.stx_mtime),
        changed: at(stat.stx_ctime),
        identity: (disk_of(stat).0, stat.stx_ino),
        executable: Mode::from_raw_mode(mode).contains(Mode::XUSR),
    }
}

/// The file system of a file.
pub(super) fn disk_of(stat: &Statx) -> DiskId {
    DiskId(fs::makedev(stat.stx_dev_major, stat.stx_dev_minor))
}

/// A moment as the kernel tells it. Before 1970 the seconds are negative, and the nanoseconds still
/// count forwards.
fn moment(seconds: i64, nanoseconds: u64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let second = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH - span,
        false => SystemTime::UNIX_EPOCH + span,
    };
    second + Duration::from_nanos(nanoseconds)
}

/// The calls of [`Disk`], each made at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files {
    /// Every folder is taken for one whose file system asks others, so that all below it is
    /// answered by jobs: for tests.
    pub all_are_slow: bool,
}

impl Disk for Files {
    fn open_folder(&mut self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = retry_on_intr(|| fs::open(path, flags, Mode::empty()))?;
        let (file, _) = opened(folder, None)?;
        Ok(match self.all_are_slow {
            true => file.slow(),
            false => file,
        })
    }

    fn open(&mut self, root: &File, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = open_beneath(root, path, flags, Mode::empty(), ResolveFlags::empty())?;
        Ok(opened(fd, Some(root))?.0)
    }

    fn open_now(&mut self, root: &File, path: &Path) -> Option<io::Result<(File, Metadata)>> {
        // NONBLOCK: opening a pipe must not wait for a writer.
        let fd = open_cached(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        Some(fd.and_then(|fd| opened(fd, Some(root))))
    }

    fn metadata(&mut self, file: &File) -> io::Result<Metadata> {
        Ok(metadata(&fstat(file)?))
    }

    fn metadata_now(&mut self, file: &File) -> Option<io::Result<Metadata>> {
        (!file.is_slow()).then(|| self.metadata(file))
    }

    fn read_at(&mut self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let file = descriptor(file)?;
        Ok(retry_on_intr(|| {
            rustix::io::pread(file, &mut *into, offset)
        })?)
    }

    fn will_read(&mut self, file: &File, offset: u64, len: u64) {
        if let Ok(file) = descriptor(file) {
            // It is advice: where it is refused, reading takes as long as it takes.
            let _ = fs::fadvise(file, offset, NonZeroU64::new(len), fs::Advice::WillNeed);
        }
    }

    fn warm(&mut self, file: &File, mut offset: u64, len: u64) -> io::Result<()> {
        let (from, end) = (descriptor(file)?, offset + len);
        self.will_read(file, offset, len);
        // Pages that go through a pipe to nowhere were waited for, and are not copied.
        while offset < end {
            let (_output, input) = pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let _ = pipe::fcntl_setpipe_size(&input, PIPE_BYTES);
            let count = usize::try_from(end - offset).unwrap_or(usize::MAX);
            let count = retry_on_intr(|| {
                let flags = SpliceFlags::empty();
                pipe::splice(from, Some(&mut offset), &input, None, count, flags)
            })?;
            if count == 0 {
                break; // the file is shorter than that
            }
        }
        Ok(())
    }

    fn read_now(&mut self, file: &File, offset: u64, into: &mut [u8]) -> Option<io::Result<usize>> {
        if file.is_slow() {
            return None;
        }
        let file = match descriptor(file) {
            Ok(file) => file,
            Err(error) => return Some(Err(error)),
        };
        // A read of what is not in memory does not wait, but has the disk begin to read, which may
        // wait for its queue.
        if !cached::is_cached(file, offset, into.len() as u64) {
            return None;
        }
        let (mut count, flags) = (0, ReadWriteFlags::NOWAIT);
        while count < into.len() {
            let mut rest = [io::IoSliceMut::new(&mut into[count..])];
            let at = offset + count as u64;
            match retry_on_intr(|| rustix::io::preadv2(file, &mut rest, at, flags)) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(Errno::AGAIN) => return None,
                // It cannot be told not to wait (tmpfs, overlayfs), and has no reason to.
                Err(Errno::OPNOTSUPP) => {
                    let rest = &mut into[count..];
                    match retry_on_intr(|| rustix::io::pread(file, &mut *rest, at)) {
                        Ok(0) => break,
                        Ok(more) => count += more,
                        Err(error) => return Some(Err(error.into())),
                    }
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
        Some(Ok(count))
    }

    fn is_in_memory(&mut self, file: &File, offset: u64, len: u64, now: Instant) -> bool {
        let end = offset + len;
        if file.is_slow() || file.is_believed(end, now) {
            return !file.is_slow();
        }
        let Ok(fd) = descriptor(file) else {
            return true;
        };
        // Asked of all up to there, where that is not much more, so that it need not be asked
        // again.
        if end <= WHOLE_BYTES_MAX && cached::is_cached(fd, 0, end) {
            file.believe(end, now);
            return true;
        }
        cached::is_cached(fd, offset, len)
    }

    fn entries(&mut self, folder: &File) -> io::Result<Vec<Entry>> {
        let (mut names, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            next = self.names(folder, from, &mut names)?;
        }
        // What cannot be opened beneath the folder (a link that leaves it, a file that just went)
        // is not listed.
        let entry = |name: PathBuf| {
            let metadata = self.look(folder, &name).ok()?;
            Some(Entry { name, metadata })
        };
        Ok(names.into_iter().filter_map(entry).collect())
    }

    fn names(
        &mut self,
        folder: &File,
        from: u64,
        into: &mut Vec<PathBuf>,
    ) -> io::Result<Option<u64>> {
        let _place = folder.hold_place();
        let folder = descriptor(folder)?;
        fs::seek(folder, fs::SeekFrom::Start(from))?;
        let mut buffer = [MaybeUninit::uninit(); NAMES_BYTES];
        let mut entries = fs::RawDir::new(folder, &mut buffer);
        let mut next = None;
        // One getdents64(2): what follows in its buffer is there already, what does not is for the
        // next call.
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                entry => entry?,
            };
            next = Some(entry.next_entry_cookie());
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                into.push(PathBuf::from(OsStr::from_bytes(name)));
            }
            if entries.is_buffer_empty() {
                break;
            }
        }
        Ok(next)
    }

    fn look(&mut self, root: &File, path: &Path) -> io::Result<Metadata> {
        let none = ResolveFlags::empty();
        let fd = open_beneath(root, path, OFlags::PATH, Mode::empty(), none)?;
        let stat = retry_on_intr(|| fs::fstat(&fd))?;
        Ok(metadata(&stat))
    }

    fn look_now(&mut self, root: &File, path: &Path) -> Option<io::Result<Metadata>> {
        let look = |fd| Ok(metadata(&retry_on_intr(|| fs::fstat(&fd))?));
        Some(open_cached(root, path, OFlags::PATH)?.and_then(look))
    }

    fn open_configured(&mut self, path: &Path) -> io::Result<File> {
        // NONBLOCK: a pipe without a writer must not stop this.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = retry_on_intr(|| fs::open(path, flags, Mode::empty()))?;
        Ok(opened(fd, None)?.0)
    }

    fn open_log(&mut self, path: &Path) -> io::Result<File> {
        // NONBLOCK: a pipe without a reader must stop neither this nor a write.
        let flags = OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(0o640);
        let open = |access| retry_on_intr(|| fs::open(path, flags | access, mode));
        // Its end is to be looked at, where it has one. A pipe is not opened for reading: it would
        // never lack a reader.
        let is_other =
            |stat: fs::Stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile;
        let fd = match retry_on_intr(|| fs::stat(path)).is_ok_and(is_other) {
            true => open(OFlags::WRONLY)?,
            false => open(OFlags::RDWR).or_else(|_| open(OFlags::WRONLY))?,
        };
        Ok(opened(fd, None)?.0)
    }

    fn standard_error(&mut self) -> io::Result<File> {
        let copy = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?;
        Ok(opened(copy, None)?.0)
    }

    fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        append::append(descriptor(file)?, bytes)
    }

    fn create(&mut self, root: &File, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let (mode, none) = (Mode::from_raw_mode(0o644), ResolveFlags::empty());
        let fd = open_beneath(root, path, flags, mode, none)?;
        Ok(opened(fd, Some(root))?.0)
    }

    fn open_to_write(&mut self, root: &File, path: &Path) -> io::Result<File> {
        let (mode, none) = (Mode::empty(), ResolveFlags::empty());
        let fd = open_beneath(root, path, OFlags::RDWR, mode, none)?;
        Ok(opened(fd, Some(root))?.0)
    }

    fn create_folder(&mut self, root: &File, path: &Path) -> io::Result<()> {
        let (root, mode) = (descriptor(root)?, Mode::from_raw_mode(0o755));
        match retry_on_intr(|| fs::mkdirat(root, path, mode)) {
            Err(Errno::EXIST) => Ok(()),
            result => Ok(result?),
        }
    }

    fn enter(&mut self, root: &File, path: &Path) -> io::Result<File> {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        match open_real_folder(root, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let parent = match parent.as_os_str().is_empty() {
            true => root.clone(),
            false => self.enter(root, parent)?,
        };
        self.create_folder(&parent, Path::new(name))?;
        open_real_folder(&parent, Path::new(name))
    }

    fn lock_alone(&mut self, folder: &File) -> io::Result<bool> {
        lock_exclusive(descriptor(folder)?)
    }

    fn lock_shared(&mut self, folder: &File) -> io::Result<()> {
        let folder = descriptor(folder)?;
        Ok(retry_on_intr(|| {
            fs::flock(folder, FlockOperation::LockShared)
        })?)
    }

    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let file = descriptor(file)?;
        Ok(retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))?)
    }

    fn write_piped(
        &mut self,
        pipe: &Pipe,
        bytes: usize,
        file: &File,
        offset: u64,
    ) -> io::Result<usize> {
        let ((output, _), file) = (ends(pipe)?, descriptor(file)?);
        Ok(retry_on_intr(|| {
            let mut offset = offset;
            let flags = SpliceFlags::MOVE;
            pipe::splice(output, None, file, Some(&mut offset), bytes, flags)
        })?)
    }

    fn rename(
        &mut self,
        root: &File,
        from: &Path,
        (into, to): (&File, &Path),
        replace: bool,
    ) -> io::Result<()> {
        let (root, into) = (descriptor(root)?, descriptor(into)?);
        let flags = if replace {
            RenameFlags::empty()
        } else {
            RenameFlags::NOREPLACE
        };
        Ok(retry_on_intr(|| {
            fs::renameat_with(root, from, into, to, flags)
        })?)
    }

    fn remove(&mut self, root: &File, path: &Path) -> io::Result<()> {
        let root = descriptor(root)?;
        Ok(retry_on_intr(|| {
            fs::unlinkat(root, path, AtFlags::empty())
        })?)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        let file = descriptor(file)?;
        Ok(retry_on_intr(|| fs::fsync(file))?)
    }

    fn reserve(&mut self, file: &File, len: u64) -> io::Result<bool> {
        let file = descriptor(file)?;
        if len == 0 {
            return Ok(true);
        }
        let keep = fs::FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| fs::fallocate(file, keep, 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
            result => Ok(result.map(|()| true)?),
        }
    }

    fn trim(&mut self, file: &File) -> io::Result<()> {
        let len = self.metadata(file)?.len;
        let file = descriptor(file)?;
        Ok(retry_on_intr(|| fs::ftruncate(file, len))?)
    }

    fn write_back(&mut self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        sync_range::begin_writing(descriptor(file)?, offset, len)
    }

    fn free_bytes(&mut self, root: &File) -> io::Result<u64> {
        let root = descriptor(root)?;
        let stat = retry_on_intr(|| fs::fstatvfs(root))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn entropy(&mut self, into: &mut [u8]) {
        // Invariant: the kernel's pool is seeded long before a server starts; getrandom(2) fails
        // for nothing else.
        getrandom::fill(into).expect("getrandom(2)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MEMORY_BELIEVED;

    #[test]
    fn the_names_of_a_folder_are_read_at_several_places_by_several_threads() {
        let dir = tempfile::tempdir().expect("a folder");
        for i in 0..3000 {
            std::fs::write(dir.path().join(format!("file-{i}")), "").expect("a file");
        }
        let mut disk = Files::default();
        let folder = disk.open_folder(dir.path()).expect("the folder");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let (mut names, mut next) = (Vec::new(), Some(0));
                        while let Some(from) = next {
                            next = Files::default()
                                .names(&folder, from, &mut names)
                                .expect("names");
                        }
                        names.sort();
                        names.dedup();
                        assert_eq!(names.len(), 3000);
                    }
                });
            }
        });
    }

    #[test]
    fn the_names_of_a_folder_come_in_pieces_and_each_once() {
        let dir = tempfile::tempdir().expect("a folder");
        for i in 0..3000 {
            std::fs::write(dir.path().join(format!("file-{i:04}")), "").expect("a file");
        }
        let mut disk = Files::default();
        let folder = disk.open_folder(dir.path()).expect("a folder");
        let (mut names, mut next, mut calls) = (Vec::new(), Some(0), 0);
        while let Some(from) = next {
            next = disk.names(&folder, from, &mut names).expect("names");
            calls += 1;
        }
        assert!((3..100).contains(&calls), "{calls} calls");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 3000);
    }

    #[test]
    fn what_is_not_in_memory_is_not_fetched_by_a_read_that_may_not_wait() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        std::fs::write(&path, vec![b'x'; 100_000]).expect("a file");
        let mut disk = Files::default();
        let root = disk.open_folder(dir.path()).expect("a folder");
        let file = disk.open(&root, "file".as_ref()).expect("a file");
        let mut bytes = vec![0; 100_000];
        let read = disk.read_now(&file, 0, &mut bytes);
        assert_eq!(read.expect("it was just written").ok(), Some(100_000));

        let fd = descriptor(&file).expect("a descriptor");
        fs::fsync(fd).expect("it is written");
        fs::fadvise(fd, 0, None, fs::Advice::DontNeed).expect("advice");
        let is_cold = |disk: &mut Files| {
            !cached::is_cached(descriptor(&file).expect("a descriptor"), 0, 4096)
                && disk.read_now(&file, 0, &mut [0; 4096]).is_none()
        };
        if is_cold(&mut disk) {
            // A file system in memory does not take that advice.
            assert!(is_cold(&mut disk), "nothing was fetched");
        }
    }

    #[test]
    fn what_was_found_in_memory_is_believed_for_a_second() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("file"), vec![b'x'; 10_000]).expect("a file");
        let mut disk = Files::default();
        let root = disk.open_folder(dir.path()).expect("a folder");
        let file = disk.open(&root, "file".as_ref()).expect("a file");
        let now = Instant::now();
        // It was just written.
        assert!(disk.is_in_memory(&file, 9, 4991, now));
        assert!(file.is_believed(5000, now), "all up to there was asked for");
        assert!(!file.is_believed(9000, now));
        assert!(!file.is_believed(5000, now + MEMORY_BELIEVED));
        assert!(disk.is_in_memory(&file, 5000, 5000, now));
        assert!(file.is_believed(10_000, now));
        assert!(!disk.is_in_memory(&file.slow(), 0, 1, now));
    }

    #[test]
    fn a_file_is_looked_for_again_after_an_interruption_and_after_a_race_within_bounds() {
        let tries = |errors: &[Errno]| {
            let mut calls = 0;
            let result = retry_races(|| {
                calls += 1;
                match errors.get(calls - 1) {
                    Some(error) => Err(*error),
                    None => Ok(()),
                }
            });
            (result, calls)
        };
        assert_eq!(tries(&[Errno::INTR; 1000]), (Ok(()), 1001));
        assert_eq!(
            tries(&[Errno::INTR, Errno::AGAIN, Errno::INTR]),
            (Ok(()), 4)
        );
        let last = RACES_MAX - 1;
        assert_eq!(tries(&vec![Errno::AGAIN; last]), (Ok(()), RACES_MAX));
        let error = Err(Errno::AGAIN);
        assert_eq!(tries(&vec![Errno::AGAIN; RACES_MAX]), (error, RACES_MAX));
        assert_eq!(tries(&[Errno::AGAIN, Errno::NOENT]), (Err(Errno::NOENT), 2));
    }

    #[test]
    fn a_way_through_a_parent_is_found_while_others_rename() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).expect("a folder");
        std::fs::write(at("file"), "").expect("a file");
        std::os::unix::fs::symlink("a/b/../../file", at("link")).expect("a link");
        std::fs::write(at("one"), "").expect("a file");
        let mut disk = Files::default();
        let root = disk.open_folder(dir.path()).expect("a folder");
        let (one, other) = (at("one"), at("other"));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let renames = || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(&one, &other).expect("a name");
                    std::fs::rename(&other, &one).expect("a name");
                }
            };
            scope.spawn(renames);
            let opened: Result<Vec<_>, _> = (0..2000)
                .map(|_| disk.open(&root, "link".as_ref()))
                .collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(opened.expect("it is there each time").len(), 2000);
        });
    }

    #[test]
    fn a_log_is_appended_to_and_a_full_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut disk = Files::default();
        for text in ["one\n", "two\n"] {
            let log = disk.open_log(&dir.path().join("log")).expect("a file");
            assert_eq!(disk.append(&log, text.as_bytes()).expect("a write"), 4);
            let mut last = [0];
            assert_eq!(disk.read_at(&log, 3, &mut last).expect("its end"), 1);
            assert_eq!(last, text.as_bytes()[3..]);
        }
        let text = std::fs::read_to_string(dir.path().join("log")).expect("a file");
        assert_eq!(text, "one\ntwo\n");
        let (_reader, writer) = pipe::pipe().expect("a pipe");
        let pipe = File::new(Handle::Fd(writer), DiskId::default(), false);
        let full = loop {
            if let Err(error) = disk.append(&pipe, &[b'x'; 10_000]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_entries_of_a_folder_are_listed_but_for_links_that_leave_it() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("file"), "abc").expect("a file");
        std::fs::create_dir(dir.path().join("folder")).expect("a folder");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("a link");
        let mut disk = Files::default();
        let folder = disk.open_folder(dir.path()).expect("a folder");
        let mut entries: Vec<_> = disk
            .entries(&folder)
            .expect("entries")
            .into_iter()
            .map(|entry| (entry.name, entry.metadata.kind))
            .collect();
        entries.sort_by(|one, two| one.0.cmp(&two.0));
        assert_eq!(
            entries,
            [
                (PathBuf::from("file"), FileKind::Regular),
                (PathBuf::from("folder"), FileKind::Folder),
            ]
        );
    }
}
