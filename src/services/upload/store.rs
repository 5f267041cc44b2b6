//! The folder of an upload listener: files of which not every byte came yet, and the names of those
//! that are whole.
//!
//! The rules:
//! 1. A file stands in the hidden folder `.partial/` until its last byte came, and gets its name in
//!    one step, by a `rename` that replaces nothing unless it was told to. So whatever happens to
//!    this process, `kill -9` included, a name never stands for half a file, and no file is lost to
//!    another of its name. A loss of power may do that: nothing is forced to the disk (`fsync`),
//!    and a file system may remember the name and not the bytes.
//! 2. A file that is broken off leaves nothing: [`Store::discard`] removes it, and a start removes
//!    those of a crash. Each server shares the lock of `.partial/` as long as it lives, and only a
//!    start that has the lock alone clears it: beside a server that still runs or drains, its files
//!    cannot be told from those of a dead one.
//! 3. Bytes go from the page that they were received in to the file, without a copy in between;
//!    pages are given back at once, so that the next read can take a large one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::config::Overwrite;
use crate::disk::File;
use crate::disk::{Disk, FileKind};
use crate::ending::Error;
use crate::service::Io;
use crate::wire::upload::SafeName;

/// Where files stand until they are whole. A name of a client never begins with a dot, so none
/// leads here.
pub(super) const PARTIAL: &str = ".partial";

/// The folder of one listener.
pub(super) struct Store {
    folder: File,
    overwrite: Overwrite,
    /// `.partial/`, kept open for its lock.
    _partials: File,
    /// The partial files so far: the name of the next one.
    partials: u64,
}

/// A file of which not every byte came yet.
pub(super) struct Incoming {
    pub(super) name: SafeName,
    /// Its path below the folder until it is whole.
    pub(super) partial: PathBuf,
    file: File,
    pub(super) size_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) began: Instant,
}

impl Store {
    /// Opens the folder; makes it, with its parents, and clears away what a crash left in it,
    /// unless another server uses it.
    ///
    /// # Errors
    /// The folder cannot be made or opened; the text names it.
    pub(super) fn open(dir: &Path, overwrite: Overwrite, disk: &mut dyn Disk) -> io::Result<Self> {
        let (folder, partials) = prepare(dir, disk)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
        Ok(Self {
            folder,
            overwrite,
            _partials: partials,
            partials: 0,
        })
    }

    /// Makes a partial file for so many bytes that shall get this name, or says why not.
    pub(super) fn begin(
        &mut self,
        name: SafeName,
        size_bytes: u64,
        io: &mut Io<'_>,
    ) -> Result<Incoming, Error> {
        let failed = |error| Error::Disk(name.to_string(), error);
        // Looked at before the client sends for nothing; the rename at the end looks again.
        if self.overwrite == Overwrite::Refuse
            && is_taken(&self.folder, &name, io.cx.disk).map_err(failed)?
        {
            return Err(Error::Refused(format!("{name}: there is such a file")));
        }
        let free_bytes = io.cx.disk.free_bytes(&self.folder).map_err(failed)?;
        if size_bytes > free_bytes {
            return Err(Error::Refused(format!(
                "{name}: {size_bytes} bytes, and the disk has room for {free_bytes}"
            )));
        }
        let (partial, file) = self.create_partial(io.cx.disk).map_err(failed)?;
        Ok(Incoming {
            name,
            partial,
            file,
            size_bytes,
            written_bytes: 0,
            began: io.cx.now,
        })
    }

    fn create_partial(&mut self, disk: &mut dyn Disk) -> io::Result<(PathBuf, File)> {
        loop {
            let path = Path::new(PARTIAL).join(self.partials.to_string());
            self.partials += 1;
            match disk.create(&self.folder, &path) {
                // Another server's, which shares the folder.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result.map(|file| (path, file)),
            }
        }
    }

    /// Gives a whole file its name; which one it got.
    pub(super) fn keep(&self, incoming: &Incoming, disk: &mut dyn Disk) -> Result<SafeName, Error> {
        let name = &incoming.name;
        let failed = |error| Error::Disk(name.to_string(), error);
        let replace = self.overwrite == Overwrite::Replace;
        let mut number = 0;
        loop {
            let to = name.version(number);
            match disk.rename(&self.folder, &incoming.partial, to.as_ref(), replace) {
                Ok(()) => return Ok(to),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                // The number that was free a moment ago is taken now: the next one.
                Err(_) if self.overwrite == Overwrite::Version && number < u32::MAX => {
                    number = match number {
                        0 => first_free_version(&self.folder, name, disk).map_err(failed)?,
                        _ => number + 1,
                    };
                }
                Err(_) => return Err(Error::Refused(format!("{name}: there is such a file"))),
            }
        }
    }

    /// Removes a file that will not be whole.
    pub(super) fn discard(&self, incoming: &Incoming, disk: &mut dyn Disk) -> io::Result<()> {
        disk.remove(&self.folder, &incoming.partial)
    }
}

impl Incoming {
    /// Writes what came of this file; how many bytes that were.
    pub(super) fn write(&mut self, io: &mut Io<'_>) -> Result<usize, Error> {
        let rx = &mut io.down.rx;
        let left = self.size_bytes - self.written_bytes;
        let count = rx.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut written = 0;
        while written < count {
            let offset = self.written_bytes + written as u64;
            match io
                .cx
                .disk
                .write_at(&self.file, offset, &rx.bytes()[written..count])
            {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.written_bytes += count as u64;
        rx.consume(count);
        rx.release(io.cx.pool); // the page after a full one is a large one
        Ok(count)
    }

    /// Whether every byte came.
    pub(super) fn is_whole(&self) -> bool {
        self.written_bytes == self.size_bytes
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::Disk(self.name.to_string(), error)
    }
}

/// Opens the folder for the files, and the one for the partial ones in it: empty, unless another
/// server uses it.
fn prepare(dir: &Path, disk: &mut dyn Disk) -> io::Result<(File, File)> {
    let folder = open_or_make(dir, disk)?;
    disk.create_folder(&folder, Path::new(PARTIAL))?;
    let partials = disk.open(&folder, Path::new(PARTIAL))?;
    match disk.lock_alone(&partials) {
        Ok(true) => clear(&partials, disk)?,
        Ok(false) => {}
        // Not every network file system has locks.
        Err(error) => {
            let dir = dir.display();
            log::warn!("{dir}/{PARTIAL}: what a crash left there stays: {error}");
            return Ok((folder, partials));
        }
    }
    disk.lock_shared(&partials)?;
    Ok((folder, partials))
}

/// Removes the files of a folder.
fn clear(folder: &File, disk: &mut dyn Disk) -> io::Result<()> {
    for entry in disk.entries(folder)? {
        if entry.metadata.kind != FileKind::Folder {
            disk.remove(folder, &entry.name)?;
        }
    }
    Ok(())
}

/// Opens a folder; makes it, and the folders on the way to it, where they are missing.
fn open_or_make(path: &Path, disk: &mut dyn Disk) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    match (disk.open_folder(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            let parent = open_or_make(parent, disk)?;
            disk.create_folder(&parent, Path::new(name))?;
            disk.open_folder(path)
        }
        (result, ..) => result,
    }
}

/// Whether something has this name.
fn is_taken(folder: &File, name: &SafeName, disk: &mut dyn Disk) -> io::Result<bool> {
    use io::ErrorKind::{CrossesDevices, NotFound, PermissionDenied};
    match disk.open(folder, name.as_ref()) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == NotFound => Ok(false),
        // It is there, though not for us to read: a link that leaves the folder, or the file of
        // another user.
        Err(error) if matches!(error.kind(), CrossesDevices | PermissionDenied) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The lowest version number from 1 on that is free, if those before it are taken without a gap;
/// some free one otherwise. It looks at as many names as the number has binary digits, twice: the
/// ten-thousandth file of a name costs no more than 28.
fn first_free_version(folder: &File, name: &SafeName, disk: &mut dyn Disk) -> io::Result<u32> {
    let (mut taken, mut free) = (0, 1);
    while free < u32::MAX && is_taken(folder, &name.version(free), disk)? {
        taken = free;
        free = free.saturating_mul(2);
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if is_taken(folder, &name.version(middle), disk)? {
            taken = middle;
        } else {
            free = middle;
        }
    }
    Ok(free)
}
