//! New files under names of their own, stored by one job: made, written and named, one after the
//! other.
//!
//! The rules:
//! 1. A file gets its name in one step once it is whole, so a name never stands for half a file.
//! 2. The first one that fails is removed, and those behind it are not begun: what was asked for in
//!    an order is there in that order, as far as it is there.
//! 3. If there was no descriptor for it, it and those behind it come back ([`Stored::rest`]), so
//!    that they can be asked for again.

use std::io;
use std::path::{Path, PathBuf};

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
    /// The folder below the root where it has that name, which is made if it is not there; empty for
    /// the root.
    pub folder: PathBuf,
}

/// What is in a new file.
#[derive(Debug)]
pub enum NewContents {
    /// What was written to it before; it is closed now.
    Written(File),
    /// These bytes: it is made now.
    Bytes(Box<[u8]>),
    /// It was stored.
    Stored,
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

/// What became of new files.
#[derive(Debug, Default)]
pub struct Stored {
    /// The names that they got, in their order.
    pub names: Vec<SafeName>,
    /// Why the one behind those was not stored.
    pub failed: Option<io::Error>,
    /// That one and those behind it, if it failed for want of descriptors: nothing was made of
    /// them.
    pub rest: Vec<NewFile>,
}

/// Stores one file after the other, up to the first that fails.
pub(super) fn store(
    root: &File,
    files: &mut Vec<NewFile>,
    taken: Taken,
    disk: &mut dyn Disk,
) -> Stored {
    let mut stored = Stored::default();
    for file in &mut *files {
        match store_one(root, file, taken, disk) {
            Ok(name) => stored.names.push(name),
            Err(error) => {
                stored.failed = Some(error);
                break;
            }
        }
    }
    if stored.failed.as_ref().is_some_and(is_out_of_descriptors) {
        stored.rest = files.split_off(stored.names.len());
    }
    stored
}

fn store_one(
    root: &File,
    new: &mut NewFile,
    taken: Taken,
    disk: &mut dyn Disk,
) -> io::Result<SafeName> {
    let written = match &new.contents {
        NewContents::Bytes(bytes) => {
            let file = disk.create(root, &new.partial)?;
            disk.write_full(&file, 0, bytes)
        }
        NewContents::Written(_) | NewContents::Stored => Ok(()),
    };
    new.contents = NewContents::Stored; // it is closed before it gets its name
    let made = written.and_then(|()| match new.folder.as_os_str().is_empty() {
        true => Ok(()),
        false => disk.create_folder(root, &new.folder),
    });
    let named = made.and_then(|()| name(root, new, taken, disk));
    if named.is_err()
        && let Err(error) = disk.remove(root, &new.partial)
    {
        log::error!("{} stays behind: {error}", new.partial.display());
    }
    named
}

/// Gives a whole file its name; which one it got.
fn name(root: &File, new: &NewFile, taken: Taken, disk: &mut dyn Disk) -> io::Result<SafeName> {
    let mut number = 0;
    loop {
        let to = new.name.version(number);
        let path = new.folder.join::<&Path>(to.as_ref());
        match disk.rename(root, &new.partial, &path, taken == Taken::Replace) {
            Ok(()) => return Ok(to),
            // The number that was free a moment ago is taken now: the next one.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && taken == Taken::Version
                    && number < u32::MAX =>
            {
                number = match number {
                    0 => match first_free_version(root, new, disk) {
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
fn first_free_version(root: &File, new: &NewFile, disk: &mut dyn Disk) -> io::Result<u32> {
    let mut is_taken = |number| {
        let name = new.name.version(number);
        is_taken(disk.look(root, &new.folder.join::<&Path>(name.as_ref())))
    };
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
