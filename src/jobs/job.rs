//! What a job is: a query or a command, how it is done by calls that may wait, and what comes of
//! it.
//!
//! A long file, since a job, the calls that do it and what comes of it are one table in three parts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::partial::{self, TakenFile};
use super::store::{self, Care, NewFile, Stored, Taken};
use crate::buffer::PageSlice;
use crate::disk::{Contents, Disk, DiskId, File, FileKind, Metadata, Version};
use crate::pipe::Piped;
use crate::wire::challenge::Secret;
use crate::wire::user_file::Check;

/// A question about files. Paths lead from `root` and never out of it.
#[allow(missing_docs)] // the fields are the arguments of the calls of `Disk`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// Opens a file or folder for reading: [`Done::File`].
    Open { root: File, path: PathBuf },
    /// What a path leads to: [`Done::Metadata`].
    Look { root: File, path: PathBuf },
    /// What is known of an open file: [`Done::Metadata`].
    Metadata { file: File },
    /// Whether an open file keeps a version, as [`Disk::keeps`] tells: [`Done::Kept`].
    Keeps { file: File, version: Version },
    /// What an answer has of an open file that was `was`, as [`Disk::contents`] gives it:
    /// [`Done::Contents`].
    Contents {
        file: File,
        was: Metadata,
        small_bytes_max: u64,
    },
    /// At most `len` bytes from `offset`, fewer only at the end of the file: [`Done::Bytes`]. `was`:
    /// what the file was when it was opened, for who may open it again.
    Read {
        file: File,
        was: Option<Metadata>,
        offset: u64,
        len: usize,
    },
    /// Has so many bytes from `offset` read into memory: [`Done::Nothing`].
    Warm { file: File, offset: u64, len: u64 },
    /// The CRC-32 of all bytes of a file from `offset` on: [`Done::Count`].
    Checksum {
        root: File,
        path: PathBuf,
        offset: u64,
    },
    /// All of a file that stands outside any root, by its path from the configuration, unless it
    /// still is what it `was`: [`Done::Configured`]. It waits on the disk of `beside`. One that is
    /// larger than `bytes_max` fails with [`io::ErrorKind::FileTooLarge`].
    Configured {
        beside: File,
        path: PathBuf,
        was: Option<Metadata>,
        bytes_max: usize,
    },
    /// Some names of a folder, as [`Disk::names`] gives them: [`Done::Names`].
    Names { folder: File, from: u64 },
    /// Bytes that may still be written below `root`: [`Done::Count`].
    Free { root: File },
    /// Forces a file, or the names of a folder, to the disk: [`Done::Nothing`]. Only those that have
    /// not started are one job: what was changed since, one that has started may not know.
    Sync { file: File },
    /// The same for the names in a folder below `root`, an empty path for that itself, and for the
    /// names of that folder and of those on the way to it.
    SyncNames { root: File, folder: PathBuf },
}

/// Something to be done to files.
#[allow(missing_docs)] // as those of `Query`
#[derive(Debug)]
pub enum Command {
    /// A new file: [`Done::File`]. If nobody is left to take it, it is removed again.
    Create { root: File, path: PathBuf },
    /// A file to be written that nobody else has, with room for `len` bytes. If one
    /// `stays` that is there, it is that one; else it is made anew. One that another process or
    /// session has fails with [`io::ErrorKind::WouldBlock`]. It comes as [`Done::Taken`].
    Take {
        root: File,
        path: PathBuf,
        stays: bool,
        len: u64,
    },
    /// Gives back the room behind the end of a file that was taken, and closes it:
    /// [`Done::Nothing`].
    Leave { file: Option<File> },
    /// Removes a file that nobody has, unless it was written to since `before`: [`Done::Kept`],
    /// whether it is left.
    Expire {
        root: File,
        path: PathBuf,
        before: SystemTime,
    },
    /// Has the disk begin to write what was written to a file: [`Done::Nothing`].
    WriteBack { file: File, offset: u64, len: u64 },
    /// Opens a folder by a path from the configuration, and the one of that name in it, of which
    /// it shares the lock; makes what is missing: [`Done::Folders`]. It waits on the disk of
    /// `beside`.
    Prepare {
        beside: File,
        path: PathBuf,
        inner: PathBuf,
    },
    /// Reads `len` bytes from `offset` into the page, or what there is of them: [`Done::Count`].
    /// With a version, only if the file still keeps it; else it fails with
    /// [`io::ErrorKind::StaleNetworkFileHandle`].
    Fill {
        file: File,
        offset: u64,
        len: usize,
        page: PageSlice,
        version: Option<Arc<Version>>,
    },
    /// Writes all bytes of the page at `offset`: [`Done::Nothing`].
    Write {
        file: File,
        offset: u64,
        page: PageSlice,
    },
    /// Moves all bytes in a pipe to `offset`: [`Done::Nothing`]. The pipe goes back to the reactor.
    WritePiped {
        file: File,
        offset: u64,
        piped: Piped,
    },
    /// Writes behind the end of a log, as far as it takes them: [`Done::Count`].
    Append { file: File, bytes: Arc<[u8]> },
    /// Opens a log by a path from the configuration, as [`Disk::open_log`] does: [`Done::Log`].
    /// `before` is the file that it has been until now.
    OpenLog { path: PathBuf, before: File },
    /// Gives a file another name in one step: [`Done::Nothing`].
    Rename {
        root: File,
        from: PathBuf,
        to: PathBuf,
        replace: bool,
    },
    /// Removes a name: [`Done::Nothing`].
    Remove { root: File, path: PathBuf },
    /// Closes a new file that is not wanted any more, and removes its name: [`Done::Nothing`].
    Discard {
        root: File,
        path: PathBuf,
        file: Option<File>,
    },
    /// Makes files and gives them their names, one after the other: [`Done::Stored`]. What fails
    /// leaves nothing.
    Store {
        root: File,
        files: Vec<NewFile>,
        taken: Taken,
        care: Care,
    },
    /// Makes a file under a temporary name, writes it and gives it its name in one step, in the
    /// place of what has it: [`Done::File`], or [`Done::Nothing`] if it is not to stay open. What
    /// fails leaves nothing.
    Put {
        root: File,
        temporary: PathBuf,
        path: PathBuf,
        bytes: Box<[u8]>,
        stays_open: bool,
    },
    /// Writes over the beginning of a file that is there: [`Done::Nothing`].
    Rewrite {
        root: File,
        path: PathBuf,
        bytes: Box<[u8]>,
    },
    /// Whether a password is right, which takes the processor long: [`Done::Proven`]. It waits on the
    /// disk of `beside`.
    Prove {
        beside: File,
        check: Check,
        password: Secret,
    },
}

/// What a job has while it is under way, and others have before and after.
#[derive(Debug)]
pub(super) enum Lent {
    /// Memory.
    Page(PageSlice),
    /// A pipe, and what is still in it.
    Pipe(Piped),
}

/// A query or a command.
#[derive(Debug)]
pub enum Job {
    /// It changes nothing.
    Query(Query),
    /// It changes something, or owns memory.
    Command(Command),
}

/// Names of a folder, and the place of the next, or `None` after the last.
pub type Names = (Arc<[PathBuf]>, Option<u64>);

/// What a job came to.
#[derive(Clone, Debug)]
pub enum Done {
    /// An open file, and what it is.
    File(File, Metadata),
    /// An open folder, and one in it.
    Folders(File, File),
    /// A file that was taken.
    Taken(TakenFile),
    /// What a file is.
    Metadata(Metadata),
    /// Whether it keeps one.
    Kept(bool),
    /// What an answer has of a file, and what that was.
    Contents(Contents, Metadata),
    /// Bytes of it.
    Bytes(Arc<[u8]>),
    /// All bytes of a file, and what it was then; `None` if it still is what it was.
    Configured(Option<(Arc<[u8]>, Metadata)>),
    /// Names in a folder, and the place of the next, or `None` after the last.
    Names(Arc<[PathBuf]>, Option<u64>),
    /// Bytes.
    Count(u64),
    /// A log, and whether it ends within a line, if that can be known.
    Log(File, Option<bool>),
    /// What became of new files.
    Stored(Arc<Stored>),
    /// Whether it is that of the password.
    Proven(bool),
    /// It was done, and there is no more to tell.
    Nothing,
}

impl Query {
    /// The file that the query is about: on its disk it waits.
    pub(super) fn file(&self) -> &File {
        match self {
            Query::Open { root: file, .. }
            | Query::Look { root: file, .. }
            | Query::Metadata { file }
            | Query::Keeps { file, .. }
            | Query::Read { file, .. }
            | Query::Warm { file, .. }
            | Query::Checksum { root: file, .. }
            | Query::Contents { file, .. }
            | Query::Configured { beside: file, .. }
            | Query::Names { folder: file, .. }
            | Query::Free { root: file }
            | Query::SyncNames { root: file, .. }
            | Query::Sync { file } => file,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Query::Open { .. } => Kind::Open,
            Query::Look { .. } | Query::Metadata { .. } | Query::Free { .. } => Kind::Look,
            Query::Keeps { .. }
            | Query::Read { .. }
            | Query::Warm { .. }
            | Query::Checksum { .. }
            | Query::Configured { .. }
            | Query::Contents { .. } => Kind::Read,
            Query::Names { .. } => Kind::List,
            Query::Sync { .. } | Query::SyncNames { .. } => Kind::Sync,
        }
    }
}

impl Command {
    /// The file that the command is about, as that of a query; one that is closed is about none.
    pub(super) fn file(&self) -> Option<&File> {
        Some(match self {
            Command::Create { root: file, .. }
            | Command::Take { root: file, .. }
            | Command::Expire { root: file, .. }
            | Command::WriteBack { file, .. }
            | Command::Prepare { beside: file, .. }
            | Command::Fill { file, .. }
            | Command::Write { file, .. }
            | Command::WritePiped { file, .. }
            | Command::Append { file, .. }
            | Command::OpenLog { before: file, .. }
            | Command::Rename { root: file, .. }
            | Command::Remove { root: file, .. }
            | Command::Discard { root: file, .. }
            | Command::Store { root: file, .. }
            | Command::Put { root: file, .. }
            | Command::Rewrite { root: file, .. }
            | Command::Prove { beside: file, .. } => file,
            Command::Leave { file } => file.as_ref()?,
        })
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Command::Fill { .. } => Kind::Read,
            Command::Write { .. }
            | Command::WritePiped { .. }
            | Command::Rewrite { .. }
            | Command::WriteBack { .. }
            | Command::Leave { .. } => Kind::Write,
            Command::Append { .. } => Kind::Append,
            Command::Create { .. }
            | Command::Take { .. }
            | Command::OpenLog { .. }
            | Command::Prepare { .. } => Kind::Create,
            Command::Rename { .. } => Kind::Rename,
            Command::Remove { .. } | Command::Discard { .. } | Command::Expire { .. } => {
                Kind::Remove
            }
            Command::Store { .. } | Command::Put { .. } => Kind::Store,
            Command::Prove { .. } => Kind::Prove,
        }
    }
}

impl Job {
    /// The file system that it waits for.
    pub(super) fn disk(&self) -> DiskId {
        match self {
            Job::Query(query) => query.file().disk(),
            Job::Command(command) => command.file().map(File::disk).unwrap_or_default(),
        }
    }

    /// What it is counted as.
    pub fn kind(&self) -> Kind {
        match self {
            Job::Query(query) => query.kind(),
            Job::Command(command) => command.kind(),
        }
    }

    /// What it was lent.
    pub(super) fn into_lent(self) -> Option<Lent> {
        match self {
            Job::Command(Command::Fill { page, .. } | Command::Write { page, .. }) => {
                Some(Lent::Page(page))
            }
            Job::Command(Command::WritePiped { piped, .. }) => Some(Lent::Pipe(piped)),
            _ => None,
        }
    }

    /// Does it, by calls that may wait.
    ///
    /// # Errors
    /// Those of the calls of [`Disk`].
    pub fn perform(&mut self, disk: &mut dyn Disk) -> io::Result<Done> {
        match self {
            Job::Query(query) => query.perform(disk),
            Job::Command(command) => command.perform(disk),
        }
    }
}

impl From<Query> for Job {
    fn from(query: Query) -> Self {
        Job::Query(query)
    }
}

impl From<Command> for Job {
    fn from(command: Command) -> Self {
        Job::Command(command)
    }
}

impl Query {
    fn perform(&self, disk: &mut dyn Disk) -> io::Result<Done> {
        Ok(match self {
            Query::Open { root, path } => {
                let file = disk.open(root, path)?;
                let metadata = disk.metadata(&file)?;
                Done::File(file, metadata)
            }
            Query::Look { root, path } => Done::Metadata(disk.look(root, path)?),
            Query::Metadata { file } => Done::Metadata(disk.metadata(file)?),
            Query::Keeps { file, version } => Done::Kept(disk.keeps(file, version)),
            Query::Contents {
                file,
                was,
                small_bytes_max,
            } => {
                let (contents, was) = disk.contents(file, was, *small_bytes_max)?;
                Done::Contents(contents, was)
            }
            Query::Read {
                file, offset, len, ..
            } => {
                let mut bytes = vec![0; *len];
                let count = disk.read_full(file, *offset, &mut bytes)?;
                bytes.truncate(count);
                Done::Bytes(bytes.into())
            }
            Query::Warm { file, offset, len } => {
                disk.warm(file, *offset, *len)?;
                Done::Nothing
            }
            Query::Checksum { root, path, offset } => {
                let file = disk.open(root, path)?;
                Done::Count(checksum(disk, &file, *offset)?)
            }
            Query::Configured {
                path,
                was,
                bytes_max,
                ..
            } => Done::Configured(configured(disk, path, was.as_ref(), *bytes_max)?),
            Query::Names { folder, from } => {
                let mut names = Vec::new();
                let next = disk.names(folder, *from, &mut names)?;
                Done::Names(names.into(), next)
            }
            Query::Free { root } => Done::Count(disk.free_bytes(root)?),
            Query::Sync { file } => {
                disk.sync(file)?;
                Done::Nothing
            }
            Query::SyncNames { root, folder } => {
                let way = folder.ancestors();
                for folder in way.filter(|folder| !folder.as_os_str().is_empty()) {
                    let folder = disk.open(root, folder)?;
                    disk.sync(&folder)?;
                }
                disk.sync(root)?;
                Done::Nothing
            }
        })
    }
}

impl Command {
    /// A table: an arm for each command.
    fn perform(&mut self, disk: &mut dyn Disk) -> io::Result<Done> {
        Ok(match self {
            Command::Create { root, path } => {
                let file = disk.create(root, path)?;
                let metadata = disk.metadata(&file)?;
                Done::File(file, metadata)
            }
            Command::Take {
                root,
                path,
                stays,
                len,
            } => Done::Taken(partial::take(disk, root, path, *stays, *len)?),
            Command::Leave { file } => {
                let trimmed = file.as_ref().map(|file| disk.trim(file));
                *file = None; // the last one to close it may wait
                trimmed.unwrap_or(Ok(()))?;
                Done::Nothing
            }
            Command::Expire { root, path, before } => {
                Done::Kept(partial::expire(disk, root, path, *before)?)
            }
            Command::WriteBack { file, offset, len } => {
                disk.write_back(file, *offset, *len)?;
                Done::Nothing
            }
            Command::Prepare { path, inner, .. } => {
                let (outer, inner) = partial::prepare(disk, path, inner)?;
                Done::Folders(outer, inner)
            }
            Command::Fill {
                file,
                offset,
                len,
                page,
                version,
            } => {
                let promised = version.as_deref();
                if promised.is_some_and(|version| !disk.keeps(file, version)) {
                    return Err(io::ErrorKind::StaleNetworkFileHandle.into());
                }
                let space = page.space_of(*len);
                let count = disk.read_full(file, *offset, space)?;
                page.filled(count);
                Done::Count(count as u64)
            }
            Command::Write { file, offset, page } => {
                disk.write_full(file, *offset, page.bytes())?;
                Done::Nothing
            }
            Command::WritePiped {
                file,
                offset,
                piped,
            } => {
                write_piped(disk, file, offset, piped)?;
                Done::Nothing
            }
            Command::Append { file, bytes } => Done::Count(append(disk, file, bytes)? as u64),
            Command::OpenLog { path, .. } => {
                let file = disk.open_log(path)?;
                let ends_within_a_line = ends_within_a_line(&file, disk);
                Done::Log(file, ends_within_a_line)
            }
            Command::Rename {
                root,
                from,
                to,
                replace,
            } => {
                disk.rename(root, from, (root, to), *replace)?;
                Done::Nothing
            }
            Command::Remove { root, path } => {
                disk.remove(root, path)?;
                Done::Nothing
            }
            Command::Discard { root, path, file } => {
                let removed = disk.remove(root, path);
                *file = None; // the last one to close it frees its bytes, which takes time
                removed?;
                Done::Nothing
            }
            Command::Store {
                root,
                files,
                taken,
                care,
            } => Done::Stored(Arc::new(store::store(root, files, *taken, *care, disk))),
            Command::Put {
                root,
                temporary,
                path,
                bytes,
                stays_open,
            } => {
                let file = put(disk, root, (temporary, path), bytes)?;
                match *stays_open {
                    true => {
                        let metadata = disk.metadata(&file)?;
                        Done::File(file, metadata)
                    }
                    false => Done::Nothing,
                }
            }
            Command::Rewrite { root, path, bytes } => {
                let file = disk.open_to_write(root, path)?;
                disk.write_full(&file, 0, bytes)?;
                Done::Nothing
            }
            Command::Prove {
                check, password, ..
            } => Done::Proven(check.proves(password)),
        })
    }
}

/// All of a file by a path from the configuration, unless it is what it `was`.
fn configured(
    disk: &mut dyn Disk,
    path: &Path,
    was: Option<&Metadata>,
    bytes_max: usize,
) -> io::Result<Option<(Arc<[u8]>, Metadata)>> {
    let file = disk.open_configured(path)?;
    let metadata = disk.metadata(&file)?;
    if was == Some(&metadata) {
        return Ok(None);
    }
    if metadata.kind != FileKind::Regular {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let len = usize::try_from(metadata.len).unwrap_or(usize::MAX);
    if len > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; len];
    let count = disk.read_full(&file, 0, &mut bytes)?;
    bytes.truncate(count);
    Ok(Some((bytes.into(), metadata)))
}

/// The CRC-32 of a file from a place on.
fn checksum(disk: &mut dyn Disk, file: &File, mut offset: u64) -> io::Result<u64> {
    let mut hasher = crc32fast::Hasher::new();
    let mut bytes = vec![0; 256 * 1024];
    loop {
        let count = disk.read_full(file, offset, &mut bytes)?;
        hasher.update(&bytes[..count]);
        offset += count as u64;
        if count < bytes.len() {
            return Ok(u64::from(hasher.finalize()));
        }
    }
}

/// Makes a file that has its name when all of it is written.
fn put(
    disk: &mut dyn Disk,
    root: &File,
    (temporary, path): (&Path, &Path),
    bytes: &[u8],
) -> io::Result<File> {
    let file = disk.create(root, temporary)?;
    let written = disk.write_full(&file, 0, bytes);
    let named = written.and_then(|()| disk.rename(root, temporary, (root, path), true));
    if named.is_err()
        && let Err(error) = disk.remove(root, temporary)
    {
        log::error!("{} stays behind: {error}", temporary.display());
    }
    named.map(|()| file)
}

/// Empties a pipe into a file; what was moved is taken off in any case.
fn write_piped(
    disk: &mut dyn Disk,
    file: &File,
    offset: &mut u64,
    piped: &mut Piped,
) -> io::Result<()> {
    while piped.bytes > 0 {
        match disk.write_piped(&piped.pipe, piped.bytes, file, *offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                piped.bytes -= count;
                *offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends until a log takes no more; fails if it took nothing.
fn append(disk: &mut dyn Disk, file: &File, bytes: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match disk.append(file, &bytes[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if count == 0 => return Err(error),
            Err(_) => break, // it is told when the rest is tried
        }
    }
    Ok(count)
}

/// Whether a log ends with half a line, such as one that a full disk cut before an earlier process
/// ended; `None` where that cannot be known, as of a pipe.
pub fn ends_within_a_line(file: &File, disk: &mut dyn Disk) -> Option<bool> {
    let metadata = disk.metadata(file).ok()?;
    let (FileKind::Regular, mut last) = (metadata.kind, [b'\n']) else {
        return None;
    };
    if let Some(offset) = metadata.len.checked_sub(1) {
        disk.read_at(file, offset, &mut last).ok()?;
    }
    Some(last != [b'\n'])
}

/// What a job came to, for one who knows what was asked; the errors are [`wrong`].
impl Done {
    /// An open file, and what it is.
    pub(crate) fn into_file(self) -> io::Result<(File, Metadata)> {
        match self {
            Done::File(file, metadata) => Ok((file, metadata)),
            _ => Err(wrong()),
        }
    }

    /// An open folder, and one in it.
    pub(crate) fn into_folders(self) -> io::Result<(File, File)> {
        match self {
            Done::Folders(outer, inner) => Ok((outer, inner)),
            _ => Err(wrong()),
        }
    }

    /// A file that was taken.
    pub(crate) fn into_taken(self) -> io::Result<TakenFile> {
        match self {
            Done::Taken(taken) => Ok(taken),
            _ => Err(wrong()),
        }
    }

    /// What a file is.
    pub(super) fn into_metadata(self) -> io::Result<Metadata> {
        match self {
            Done::Metadata(metadata) => Ok(metadata),
            _ => Err(wrong()),
        }
    }

    /// Whether it keeps one.
    pub(crate) fn into_kept(self) -> io::Result<bool> {
        match self {
            Done::Kept(is_kept) => Ok(is_kept),
            _ => Err(wrong()),
        }
    }

    /// What an answer has of a file.
    pub(super) fn into_contents(self) -> io::Result<(Contents, Metadata)> {
        match self {
            Done::Contents(contents, was) => Ok((contents, was)),
            _ => Err(wrong()),
        }
    }

    /// Bytes of it.
    pub(super) fn into_bytes(self) -> io::Result<Arc<[u8]>> {
        match self {
            Done::Bytes(bytes) => Ok(bytes),
            _ => Err(wrong()),
        }
    }

    /// All bytes of a file, and what it was then.
    pub(crate) fn into_configured(self) -> io::Result<Option<(Arc<[u8]>, Metadata)>> {
        match self {
            Done::Configured(read) => Ok(read),
            _ => Err(wrong()),
        }
    }

    /// Names in a folder, and the place of the next.
    pub(crate) fn into_names(self) -> io::Result<Names> {
        match self {
            Done::Names(names, next) => Ok((names, next)),
            _ => Err(wrong()),
        }
    }

    /// Whether a hash is that of a password.
    pub(crate) fn into_proven(self) -> io::Result<bool> {
        match self {
            Done::Proven(is_of) => Ok(is_of),
            _ => Err(wrong()),
        }
    }

    /// Bytes.
    pub(super) fn into_count(self) -> io::Result<u64> {
        match self {
            Done::Count(count) => Ok(count),
            _ => Err(wrong()),
        }
    }
}

/// An engine that answers another question than the one it was asked is broken.
pub fn wrong() -> io::Error {
    io::Error::other("the disk answered another question")
}

/// What a job does, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Opens a file.
    Open,
    /// Looks at one, or at the disk.
    Look,
    /// Reads.
    Read,
    /// Reads names.
    List,
    /// Makes a file.
    Create,
    /// Writes.
    Write,
    /// Appends to a log.
    Append,
    /// Gives a file another name.
    Rename,
    /// Removes a name.
    Remove,
    /// Stores files whole.
    Store,
    /// Forces something to the disk.
    Sync,
    /// Finds out whether a password is right.
    Prove,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 12] = [
        Kind::Open,
        Kind::Look,
        Kind::Read,
        Kind::List,
        Kind::Create,
        Kind::Write,
        Kind::Append,
        Kind::Rename,
        Kind::Remove,
        Kind::Store,
        Kind::Sync,
        Kind::Prove,
    ];

    /// As a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Open => "open",
            Kind::Look => "look",
            Kind::Read => "read",
            Kind::List => "list",
            Kind::Create => "create",
            Kind::Write => "write",
            Kind::Append => "append",
            Kind::Rename => "rename",
            Kind::Remove => "remove",
            Kind::Store => "store",
            Kind::Sync => "sync",
            Kind::Prove => "prove",
        }
    }
}
