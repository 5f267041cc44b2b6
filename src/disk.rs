//! Files, as the program sees them: what is open, what is known of it, and the one trait through
//! which it is reached.
//!
//! Not here: how the operating system is asked (`sys::unix`), and what becomes of a file's bytes on
//! their way to a socket ([`crate::buffer`]).

use std::hash::{BuildHasher, Hash, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use foldhash::quality::FixedState;

use crate::pipe::Pipe;

/// A file or folder that stays open as long as anything refers to it.
///
/// The reference count is what lets a response outlive the cache entry it came from.
#[derive(Clone, Debug)]
pub struct File(Arc<Open>);

#[derive(Debug)]
struct Open {
    handle: Handle,
    disk: DiskId,
    is_slow: bool,
    /// See [`File::believe`].
    in_memory: AtomicU64,
    /// See [`File::number`].
    number: AtomicU64,
    /// Where a folder is read from is a property of what is open (`man 2 lseek`): whoever sets it
    /// and reads there does so alone.
    place: Mutex<()>,
}

/// How long bytes of a file that were found in memory are believed to be there: the question takes
/// a third of the time that sending a small file does.
pub const MEMORY_BELIEVED: Duration = Duration::from_secs(1);

/// What [`File::believe`] keeps of a moment, in milliseconds, and of a length, in such pieces.
const BELIEVED_MS_BITS: u32 = 40;
const BELIEVED_PIECE_BYTES: u64 = 4096;

/// Which file system a file stands on: its device number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub u64);

/// What stands behind a [`File`]: a descriptor of the operating system, or a number of the
/// simulated disk.
#[derive(Debug)]
pub enum Handle {
    /// A descriptor; closed with its last reference.
    Fd(OwnedFd),
    /// One whose `close(2)` may wait, as that of a network file system does for what was written.
    SlowFd(SlowFd),
    /// An inode of the simulated disk.
    Simulated(u64),
}

/// A descriptor that is handed to somebody else to be closed.
#[derive(Debug)]
pub struct SlowFd {
    /// `None` once it was handed over.
    fd: Option<OwnedFd>,
    disk: DiskId,
    close: fn(DiskId, OwnedFd),
}

impl SlowFd {
    /// A descriptor of a file on `disk`, and what closes it.
    pub fn new(fd: OwnedFd, disk: DiskId, close: fn(DiskId, OwnedFd)) -> Self {
        let fd = Some(fd);
        Self { fd, disk, close }
    }

    /// The descriptor.
    pub fn fd(&self) -> &OwnedFd {
        // Invariant: it is taken when this is dropped, and never before.
        self.fd.as_ref().expect("an open descriptor")
    }
}

impl Drop for SlowFd {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            (self.close)(self.disk, fd);
        }
    }
}

impl File {
    /// Wraps a handle. `is_slow`: any call on it may wait for somebody who is asked over a wire or
    /// in another process, whatever is in memory.
    pub fn new(handle: Handle, disk: DiskId, is_slow: bool) -> Self {
        Self(Arc::new(Open {
            handle,
            disk,
            is_slow,
            in_memory: AtomicU64::new(0),
            number: AtomicU64::new(0),
            place: Mutex::new(()),
        }))
    }

    /// Notes that the first `len` bytes were in memory just now.
    pub fn believe(&self, len: u64, now: Instant) {
        let until = since_start_ms(now) + MEMORY_BELIEVED.as_millis() as u64;
        let until = until & ((1 << BELIEVED_MS_BITS) - 1);
        let pieces = len.div_ceil(BELIEVED_PIECE_BYTES);
        if pieces < 1 << (u64::BITS - BELIEVED_MS_BITS) {
            let noted = (pieces << BELIEVED_MS_BITS) | until;
            self.0.in_memory.store(noted, Ordering::Relaxed);
        }
    }

    /// Whether the first `len` bytes were in memory less than [`MEMORY_BELIEVED`] ago.
    #[inline]
    pub fn is_believed(&self, len: u64, now: Instant) -> bool {
        let noted = self.0.in_memory.load(Ordering::Relaxed);
        let pieces = noted >> BELIEVED_MS_BITS;
        let until = noted & ((1 << BELIEVED_MS_BITS) - 1);
        len <= pieces * BELIEVED_PIECE_BYTES && since_start_ms(now) < until
    }

    /// The same file, as one whose calls may wait for others.
    ///
    /// # Panics
    /// If it is shared.
    pub fn slow(self) -> Self {
        let mut open = Arc::into_inner(self.0).expect("a file that was just opened");
        open.is_slow = true;
        Self(Arc::new(open))
    }

    /// What stands behind it.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// The file system that it stands on.
    pub fn disk(&self) -> DiskId {
        self.0.disk
    }

    /// Whether every call on it is better made as a job.
    pub fn is_slow(&self) -> bool {
        self.0.is_slow
    }

    /// By which number a record knows it; 0 unless it was given one.
    pub fn number(&self) -> u64 {
        self.0.number.load(Ordering::Relaxed)
    }

    /// Gives it a number.
    pub fn set_number(&self, number: u64) {
        self.0.number.store(number, Ordering::Relaxed);
    }

    /// The same file for as long as anybody else refers to it.
    pub fn downgrade(&self) -> WeakFile {
        WeakFile(Arc::downgrade(&self.0))
    }

    /// Keeps other threads from reading at another place of this folder meanwhile.
    pub fn hold_place(&self) -> MutexGuard<'_, ()> {
        let held = self.0.place.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything else refers to it.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// A file that somebody else keeps open, or not any more.
#[derive(Clone, Debug)]
pub struct WeakFile(Weak<Open>);

impl WeakFile {
    /// The file, if it is still open.
    pub fn upgrade(&self) -> Option<File> {
        self.0.upgrade().map(File)
    }
}

/// Milliseconds since this was first asked; moments before that are as that.
fn since_start_ms(now: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(|| now);
    u64::try_from(now.saturating_duration_since(*start).as_millis()).unwrap_or(u64::MAX)
}

/// Files are the same if they were opened together, by one call.
impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for File {}

impl Hash for File {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// What a file was when the head of an answer was made of it: [`Disk`] makes it and judges
/// whether a file still keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Its length in bytes.
    pub len: u64,
    /// As in [`Metadata`].
    pub modified: SystemTime,
    /// As there.
    pub changed: SystemTime,
    /// A hash of bytes at some places of it.
    pub sample: u64,
}

/// What an answer has of a file.
#[derive(Clone, Debug)]
pub enum Contents {
    /// All of it.
    Small(Arc<[u8]>),
    /// It is read when it is sent, and has to be this version then.
    Large(Version),
}

/// How often a small file that changes while it is read is read again.
const READS_MAX: usize = 3;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Bytes.
    Regular,
    /// Names.
    Folder,
    /// A device, pipe or socket: never served.
    Other,
}

/// What is known of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub len: u64,
    /// When its contents last changed, or what somebody said of that (`utimensat(2)`).
    pub modified: SystemTime,
    /// When its contents, its names or what else is known of it last changed, by the kernel's
    /// clock: nobody can set it, so another time here is the one sure sign of another version.
    pub changed: SystemTime,
    /// Device and inode: two files are the same if these are.
    pub identity: (u64, u64),
    /// Its owner may execute it.
    pub executable: bool,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: PathBuf,
    /// What it leads to, symbolic links within the root followed.
    pub metadata: Metadata,
}

/// Whether a call failed because the process, or the system, has no descriptors left: that says
/// nothing of the file, and may be over in a moment.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Opens a folder; makes it, and the folders on the way to it, where they are missing. Waits for the
/// disk, so it is for the start.
///
/// # Errors
/// Those of [`Disk::open_folder`] and [`Disk::create_folder`].
pub fn open_or_make(path: &Path, disk: &mut dyn Disk) -> io::Result<File> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    match (disk.open_folder(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            let parent = open_or_make(parent, disk)?;
            disk.create_folder(&parent, Path::new(name))?;
            // What is stored in it is worth nothing if its own name is lost. Not every file system
            // can be told.
            let _ = disk.sync(&parent);
            disk.open_folder(path)
        }
        (result, ..) => result,
    }
}

/// Files, as a protocol may use them: always below a folder that was opened before, never outside
/// it.
///
/// A call waits for the disk where it has to: the loop makes only those that end in `_now`, which
/// answer `None` where they would wait, and leaves the others to jobs ([`crate::jobs`]), to the
/// start, and to the engine.
///
/// Errors are those of the system call of the same name (`man 2 openat2`, `man 2 renameat2` …).
pub trait Disk {
    /// Opens a folder by a path from the configuration.
    fn open_folder(&mut self, path: &Path) -> io::Result<File>;

    /// Opens `path` for reading below `root`. No `..`, absolute path or symbolic link leads out of
    /// it (`RESOLVE_BENEATH`): such a path fails with [`io::ErrorKind::CrossesDevices`].
    fn open(&mut self, root: &File, path: &Path) -> io::Result<File>;

    /// The same with what is known of it, if it can be answered from memory.
    fn open_now(&mut self, root: &File, path: &Path) -> Option<io::Result<(File, Metadata)>> {
        let opened = self.open(root, path).and_then(|file| {
            let metadata = self.metadata(&file)?;
            Ok((file, metadata))
        });
        Some(opened)
    }

    /// What is known of an open file.
    fn metadata(&mut self, file: &File) -> io::Result<Metadata>;

    /// The same, if it can be answered from memory.
    fn metadata_now(&mut self, file: &File) -> Option<io::Result<Metadata>> {
        Some(self.metadata(file))
    }

    /// Reads into `into` from `offset`; the number of bytes read, 0 at the end.
    fn read_at(&mut self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// The same, if all of it is in memory: fewer bytes than there is room for only at the end of
    /// the file.
    fn read_now(&mut self, file: &File, offset: u64, into: &mut [u8]) -> Option<io::Result<usize>> {
        Some(self.read_full(file, offset, into))
    }

    /// Whether `len` bytes from `offset` are in memory, as far as the file has them. What was found
    /// is believed for [`MEMORY_BELIEVED`].
    fn is_in_memory(&mut self, _file: &File, _offset: u64, _len: u64, _now: Instant) -> bool {
        true
    }

    /// The names in an open folder, in no order.
    fn entries(&mut self, folder: &File) -> io::Result<Vec<Entry>>;

    /// Some of the names in an open folder, without `.` and `..`: those from the place `from` on (0
    /// is the first), as many as one call brings. The place of the next, or `None` after the last.
    fn names(
        &mut self,
        folder: &File,
        _from: u64,
        into: &mut Vec<PathBuf>,
    ) -> io::Result<Option<u64>> {
        into.extend(self.entries(folder)?.into_iter().map(|entry| entry.name));
        Ok(None)
    }

    /// What is known of the file that `path` leads to below `root`, whether or not it may be read.
    fn look(&mut self, root: &File, path: &Path) -> io::Result<Metadata> {
        let file = self.open(root, path)?;
        self.metadata(&file)
    }

    /// The same, if it can be answered from memory.
    fn look_now(&mut self, root: &File, path: &Path) -> Option<io::Result<Metadata>> {
        Some(self.look(root, path))
    }

    /// Opens a file by a path from the configuration, for reading.
    fn open_configured(&mut self, _path: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens a file by a path from the configuration, to write behind its end; it is made if it is
    /// not there.
    fn open_log(&mut self, _path: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Standard error, to write to.
    fn standard_error(&mut self) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes behind the end of what [`Disk::open_log`] or [`Disk::standard_error`] opened; the
    /// number of bytes written. Where that is a pipe or a terminal that takes nothing now, it fails
    /// with [`io::ErrorKind::WouldBlock`].
    fn append(&mut self, _file: &File, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a new file for writing below `root`; fails if the name is taken.
    fn create(&mut self, root: &File, path: &Path) -> io::Result<File>;

    /// Opens a file that is there for writing, below `root`.
    fn open_to_write(&mut self, _root: &File, _path: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a folder in `root`, unless something has its name, which is one of the program's own.
    fn create_folder(&mut self, root: &File, name: &Path) -> io::Result<()>;

    /// Opens a folder below `root` to look at and to rename files in, and makes it, and those on the
    /// way to it, where they are missing. No symbolic link is followed: one of them, or anything else
    /// that is no folder, fails with [`io::ErrorKind::NotADirectory`].
    fn enter(&mut self, root: &File, path: &Path) -> io::Result<File>;

    /// Takes the lock of an open folder (`man 2 flock`) alone; whether that worked, because nobody
    /// else had it. It is given back when the folder is closed.
    fn lock_alone(&mut self, _folder: &File) -> io::Result<bool> {
        Ok(true)
    }

    /// Shares the lock of an open folder with others, instead of having it alone. Waits while
    /// another process has it alone, so it is for the start.
    fn lock_shared(&mut self, _folder: &File) -> io::Result<()> {
        Ok(())
    }

    /// Writes `bytes` at `offset`; the number of bytes written.
    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Moves `bytes` bytes that are in a pipe to `offset`, or as many of them as it takes; the number
    /// of bytes moved.
    fn write_piped(
        &mut self,
        _pipe: &Pipe,
        _bytes: usize,
        _file: &File,
        _offset: u64,
    ) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives a file below `root` another name in one step: `to`, in an open folder. An existing file
    /// of that name is replaced only if `replace`. Not for a path of a client's: what leads to either
    /// name was made by the program, or [entered](Disk::enter).
    fn rename(
        &mut self,
        root: &File,
        from: &Path,
        to: (&File, &Path),
        replace: bool,
    ) -> io::Result<()>;

    /// Removes a name.
    fn remove(&mut self, root: &File, path: &Path) -> io::Result<()>;

    /// Says that these bytes are read next, so that the disk can be at several places at once. It
    /// may wait, and may do nothing.
    fn will_read(&mut self, _file: &File, _offset: u64, _len: u64) {}

    /// Has these bytes of a file read into memory, and waits until they are there; how long they
    /// stay is the kernel's business.
    fn warm(&mut self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        self.will_read(file, offset, len);
        Ok(())
    }

    /// The version of an open file that `was` tells of.
    fn version(&mut self, file: &File, was: &Metadata) -> io::Result<Version> {
        match was.len {
            ..=ONE_READ_BYTES => self.will_read(file, 0, was.len),
            len if len <= WARM_BYTES => self.warm(file, 0, was.len)?,
            _ => {
                for offset in sample_offsets(was.len) {
                    self.will_read(file, offset, SAMPLE_BYTES);
                }
            }
        }
        let read = |offset, into: &mut [u8]| Some(self.read_at(file, offset, into));
        Version::sampled(was, read).unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// The same, if it can be answered from memory.
    fn version_now(&mut self, file: &File, was: &Metadata) -> Option<io::Result<Version>> {
        Version::sampled(was, |offset, into| self.read_now(file, offset, into))
    }

    /// Reads a file of at most `small_bytes_max` bytes, or notes the version of another; and what
    /// the file was then. `was`: what it was when it was opened.
    fn contents(
        &mut self,
        file: &File,
        was: &Metadata,
        small_bytes_max: u64,
    ) -> io::Result<(Contents, Metadata)> {
        let mut metadata = *was;
        for _ in 0..READS_MAX {
            let contents = match metadata.len > small_bytes_max {
                true => self.version(file, &metadata).ok().map(Contents::Large),
                false => {
                    let mut bytes = vec![0; metadata.len as usize];
                    let count = self.read_full(file, 0, &mut bytes)?;
                    (count == bytes.len()).then(|| Contents::Small(bytes.into()))
                }
            };
            let now = self.metadata(file)?;
            // A file that changed while it was read would make an answer of two versions.
            if let Some(contents) = contents
                && now == metadata
            {
                return Ok((contents, metadata));
            }
            metadata = now;
        }
        let version = self.version(file, &metadata)?;
        Ok((Contents::Large(version), metadata))
    }

    /// The same, if it can be answered from memory, and the file does not change meanwhile.
    fn contents_now(
        &mut self,
        file: &File,
        was: &Metadata,
        small_bytes_max: u64,
    ) -> Option<io::Result<(Contents, Metadata)>> {
        let contents = match was.len > small_bytes_max {
            true => Contents::Large(self.version_now(file, was)?.ok()?),
            false => {
                let mut bytes = vec![0; was.len as usize];
                let count = self.read_now(file, 0, &mut bytes)?.ok()?;
                (count == bytes.len()).then(|| Contents::Small(bytes.into()))?
            }
        };
        let now = self.metadata_now(file)?.ok()?;
        (now == *was).then_some(Ok((contents, now)))
    }

    /// Reads from `offset` until `into` is full or the file ends; the number of bytes read.
    fn read_full(&mut self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < into.len() {
            match self.read_at(file, offset + count as u64, &mut into[count..]) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Writes everything at `offset`.
    fn write_full(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut count = 0;
        while count < bytes.len() {
            match self.write_at(file, offset + count as u64, &bytes[count..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the first bytes of an open file are still those of `version`, so that an answer
    /// which promised them can go on. A file system does not say what a change was. So:
    ///
    /// - a file that became shorter was rewritten, and so was one of the same length whose time of
    ///   modification is another;
    /// - one that grew was appended to, and one whose length and time of modification are the same
    ///   was renamed, linked or removed, unless the bytes at one of the places that the version
    ///   remembers are others: then it was rewritten, and made longer or its time set back.
    fn keeps(&mut self, file: &File, version: &Version) -> bool {
        let Ok(now) = self.metadata(file) else {
            return false;
        };
        let of_that_length = Metadata {
            len: version.len,
            ..now
        };
        match version.is_kept(&now) {
            Some(is_kept) => is_kept,
            None => {
                let sampled = self.version(file, &of_that_length);
                sampled.is_ok_and(|now| now.sample == version.sample)
            }
        }
    }

    /// The same, if it can be answered from memory.
    fn keeps_now(&mut self, file: &File, version: &Version) -> Option<bool> {
        let Ok(now) = self.metadata_now(file)? else {
            return Some(false);
        };
        version.is_kept(&now)
    }

    /// Forces the contents of a file, or the names of a folder, to the disk.
    fn sync(&mut self, file: &File) -> io::Result<()>;

    /// Takes room on the disk for the first `len` bytes of a file, which stays as long as it is
    /// (`man 2 fallocate`, `FALLOC_FL_KEEP_SIZE`). Whether it did: not every file system can.
    fn reserve(&mut self, _file: &File, _len: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Gives back the room behind the end of a file that was [reserved](Disk::reserve).
    fn trim(&mut self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    /// Has the disk begin to write what was written to these bytes of a file, once it has written
    /// what it was told to of them before, so that a later [`Disk::sync`] has little left to wait
    /// for (`man 2 sync_file_range`); 0 bytes are all up to the end. It makes nothing sure, and may
    /// do nothing.
    fn write_back(&mut self, _file: &File, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// Bytes that may still be written to the disk that holds `root`.
    fn free_bytes(&mut self, root: &File) -> io::Result<u64>;

    /// Fills `into` with random bytes fit for secrets.
    fn entropy(&mut self, into: &mut [u8]);
}

/// Places at which a version remembers its bytes, and how many at each. They are read once for each
/// version, and again for each piece of it that is sent after a change. Few bytes at several places
/// tell more than many at one: formats begin alike, and disk images end with zeros.
const SAMPLES: u64 = 8;
const SAMPLE_BYTES: u64 = 64;

/// What a disk reads by one operation.
const ONE_READ_BYTES: u64 = 128 << 10;

/// Bytes that are [read into memory](Disk::warm) at a time. A file of at most so many is for its
/// version: they are likely to be sent next.
pub const WARM_BYTES: u64 = 1 << 20;

/// The places spread evenly from the first to the last.
fn sample_offsets(len: u64) -> impl Iterator<Item = u64> {
    let last = len.saturating_sub(SAMPLE_BYTES);
    (0..SAMPLES).map(move |place| match place == SAMPLES - 1 {
        true => last,
        false => last / (SAMPLES - 1) * place,
    })
}

impl Version {
    /// The version that `was` tells of, with a hash of bytes at [`sample_offsets`]. It fails where
    /// there are no longer so many, and is `None` if `read` is.
    fn sampled(
        was: &Metadata,
        mut read: impl FnMut(u64, &mut [u8]) -> Option<io::Result<usize>>,
    ) -> Option<io::Result<Self>> {
        let mut hash = FixedState::default().build_hasher();
        for mut offset in sample_offsets(was.len) {
            let mut bytes = [0; SAMPLE_BYTES as usize];
            let mut wanted = &mut bytes[..was.len.min(SAMPLE_BYTES) as usize];
            while !wanted.is_empty() {
                let count = match read(offset, wanted)? {
                    Ok(0) => return Some(Err(io::ErrorKind::UnexpectedEof.into())),
                    Ok(count) => count,
                    Err(error) => return Some(Err(error)),
                };
                offset += count as u64;
                wanted = &mut wanted[count..];
            }
            hash.write(&bytes);
        }
        Some(Ok(Self {
            len: was.len,
            modified: was.modified,
            changed: was.changed,
            sample: hash.finish(),
        }))
    }

    /// Whether a file that is this now keeps the version, or `None` if only its bytes can tell.
    pub fn is_kept(&self, now: &Metadata) -> Option<bool> {
        let is_as_long = now.len == self.len;
        let is_unmodified = is_as_long && now.modified == self.modified;
        if is_unmodified && now.changed == self.changed {
            return Some(true);
        }
        match now.len > self.len || is_unmodified {
            true => None,
            false => Some(false),
        }
    }
}
