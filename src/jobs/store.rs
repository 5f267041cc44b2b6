//! New files under names of their own, stored by one job: made, written and named, one after the
//! other.
//!
//! The rules:
//! 1. A file gets its name in one step once it is whole, so a name never stands for half a file.
//! 2. The first one that fails is removed, and those behind it come back ([`Stored::rest`]): what was
//!    asked for in an order is there in that order, as far as it is there. If there was no
//!    descriptor for it, or no folder, it comes back as well, so that it can be asked for again.
//! 3. Files that are to be sure ([`Care::syncs`]) are on the disk before the first of them gets its
//!    name. That the names are, too, takes a [`super::Query::SyncNames`] of the folder afterwards, which
//!    all share who stored into it.

use std::io;
use std::path::PathBuf;

use super::copied;
use crate::disk::{Disk, File, is_out_of_descriptors};
use crate::wire::upload::SafeName;

/// A file that is to get a name.
#[derive(Debug)]
pub struct NewFile {
    /// Its path below the root until it has the name.
    pub partial: PathBuf,
    /// What is in it.
    pub contents: NewContents,
    /// The name.
    pub name: SafeName,
    /// The folder below the root where it has that name, which is made if it is not there, with those
    /// on the way to it ([`Disk::enter`]); empty for the root.
    pub folder: PathBuf,
}

impl NewFile {
    /// Whether it stands under its path below the root: it was made, and neither named nor removed.
    pub fn is_made(&self) -> bool {
        !matches!(self.contents, NewContents::Bytes(_) | NewContents::Lost(_))
    }
}

/// What is in a new file.
#[derive(Debug)]
pub enum NewContents {
    /// What was written to it before; it is closed now.
    Written(File),
    /// These bytes: it is made now.
    Bytes(Box<[u8]>),
    /// The same, and all of it is on the disk. It stays open, so that nobody else takes it
    /// ([`super::Command::Take`]), until it has its name.
    Secured(File),
    /// It has its name, or will have it next, and is closed.
    Stored,
    /// It was not to be stored, and is removed.
    Lost(io::Error),
}

/// What happens where a name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It fails with [`io::ErrorKind::AlreadyExists`].
    Refuse,
    /// The new file takes the name.
    Replace,
    /// The new file gets another [version](SafeName::version) of it.
    Version,
}

/// With what care files are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// They are to survive the loss of power.
    pub syncs: bool,
    /// The bytes of files whose names they take are to be counted.
    pub counts: bool,
}

/// What became of new files.
#[derive(Debug, Default)]
pub struct Stored {
    /// The names that they got, in their order.
    pub names: Vec<SafeName>,
    /// Why the one behind those was not stored.
    pub failed: Option<io::Error>,
    /// Those behind that one, and that one itself if it failed for want of descriptors or of its
    /// folder. They have no names; what was written of them is left.
    pub rest: Vec<NewFile>,
    /// Bytes of the files whose names they took.
    pub replaced_bytes: u64,
}

/// Stores new files, in their order.
pub(super) fn store(
    root: &File,
    files: &mut Vec<NewFile>,
    taken: Taken,
    care: Care,
    disk: &mut dyn Disk,
) -> Stored {
    let mut stored = Stored::default();
    let mut count = files.len();
    if care.syncs {
        (count, stored.failed) = secure(root, files, disk);
    }
    for file in &mut files[..count] {
        match store_one(root, file, taken, care, disk) {
            Ok((name, replaced_bytes)) => {
                stored.names.push(name);
                stored.replaced_bytes += replaced_bytes;
            }
            Err(error) => {
                stored.failed = Some(error);
                break;
            }
        }
    }
    if let Some(error) = &stored.failed {
        let failed = stored.names.len();
        let comes_back = files
            .get(failed)
            .is_some_and(|file| may_work_later(file, error));
        let from = failed + usize::from(!comes_back);
        stored.rest = files.split_off(from.min(files.len()));
    }
    stored
}

/// Whether a file that failed may be asked for again: there was no descriptor for it, or its folder
/// was gone before it was made.
fn may_work_later(file: &NewFile, error: &io::Error) -> bool {
    let is_unmade = matches!(file.contents, NewContents::Bytes(_));
    is_out_of_descriptors(error) || (is_unmade && error.kind() == io::ErrorKind::NotFound)
}

/// Has the bytes of all files on the disk; how many of them are, and why the next one is not. That
/// one is removed.
fn secure(root: &File, files: &mut [NewFile], disk: &mut dyn Disk) -> (usize, Option<io::Error>) {
    let mut failed = (files.len(), None);
    for (index, file) in files.iter_mut().enumerate() {
        if let Err(error) = write(root, file, disk) {
            failed = (index, Some(error));
            break;
        }
    }
    // The disk is told of all of them before it is waited for.
    let written = &mut files[..failed.0];
    if written.len() > 1 {
        for file in &*written {
            if let NewContents::Written(file) = &file.contents {
                let _ = disk.write_back(file, 0, 0);
            }
        }
    }
    for (index, new) in written.iter_mut().enumerate() {
        let NewContents::Written(file) = &new.contents else {
            continue;
        };
        if let Err(error) = disk.sync(file) {
            remove(root, new, &error, disk);
            return (index, Some(error));
        }
        new.contents = NewContents::Secured(file.clone());
    }
    failed
}

/// Makes and writes a file, unless it was written before. One that fails is removed.
fn write(root: &File, new: &mut NewFile, disk: &mut dyn Disk) -> io::Result<()> {
    let bytes = match &new.contents {
        NewContents::Bytes(bytes) => bytes,
        NewContents::Lost(error) => return Err(copied(error)),
        NewContents::Written(_) | NewContents::Secured(_) | NewContents::Stored => return Ok(()),
    };
    let file = disk.create(root, &new.partial)?;
    if let Err(error) = disk.write_full(&file, 0, bytes) {
        drop(file);
        remove(root, new, &error, disk);
        return Err(error);
    }
    new.contents = NewContents::Written(file);
    Ok(())
}

fn remove(root: &File, new: &mut NewFile, why: &io::Error, disk: &mut dyn Disk) {
    new.contents = NewContents::Lost(copied(why));
    if let Err(error) = disk.remove(root, &new.partial) {
        log::error!("{} stays behind: {error}", new.partial.display());
    }
}

/// Stores one; its name, and the bytes of the file that had it.
fn store_one(
    root: &File,
    new: &mut NewFile,
    taken: Taken,
    care: Care,
    disk: &mut dyn Disk,
) -> io::Result<(SafeName, u64)> {
    write(root, new, disk)?;
    if let NewContents::Written(_) = new.contents {
        new.contents = NewContents::Stored; // it is closed before it gets its name
    }
    let folder = match new.folder.as_os_str().is_empty() {
        true => Ok(root.clone()),
        false => disk.enter(root, &new.folder),
    };
    let folder = match folder {
        // It is whole, and can be named later.
        Err(error) if is_out_of_descriptors(&error) => return Err(error),
        folder => folder,
    };
    let mut replaced = 0;
    let named = folder.and_then(|folder| {
        if taken == Taken::Replace && care.counts {
            let was = disk.look(&folder, new.name.as_ref());
            replaced = was.map_or(0, |was| was.len);
        }
        name((root, &folder), new, taken, disk)
    });
    match &named {
        Ok(_) => new.contents = NewContents::Stored,
        Err(error) => remove(root, new, error, disk),
    }
    Ok((named?, replaced))
}

/// Gives a whole file its name in a folder; which one it got.
fn name(
    (root, folder): (&File, &File),
    new: &NewFile,
    taken: Taken,
    disk: &mut dyn Disk,
) -> io::Result<SafeName> {
    let mut number = 0;
    loop {
        let to = new.name.version(number);
        let place = (folder, to.as_ref());
        match disk.rename(root, &new.partial, place, taken == Taken::Replace) {
            Ok(()) => return Ok(to),
            // The number that was free a moment ago is taken now: the next one.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && taken == Taken::Version
                    && number < u32::MAX =>
            {
                number = match number {
                    0 => match first_free_version(folder, &new.name, disk) {
                        // A look takes a descriptor, and a rename takes none: one after the other.
                        Err(error) if is_out_of_descriptors(&error) => 1,
                        number => number?,
                    },
                    _ => number + 1,
                };
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether something has a name, by what a look at it came to.
///
/// # Errors
/// The look failed, so it cannot be known.
pub fn is_taken<T>(looked: io::Result<T>) -> io::Result<bool> {
    use io::ErrorKind::{CrossesDevices, NotFound, PermissionDenied};
    match looked {
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
    let mut is_taken = |number| is_taken(disk.look(folder, name.version(number).as_ref()));
    let (mut taken, mut free) = (0, 1);
    while free < u32::MAX && is_taken(free)? {
        taken = free;
        free = free.saturating_mul(2);
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if is_taken(middle)? {
            taken = middle;
        } else {
            free = middle;
        }
    }
    Ok(free)
}
