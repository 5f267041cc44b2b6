//! Files that come in several visits: taken by one visitor at a time, kept between them, and
//! removed when nobody has come for long. Each is one job.
//!
//! Who has a file open has its lock (`man 2 flock`), which ends with whoever had it, `kill -9`
//! included. Whoever gets the lock looks whether the name still leads to that file: it may have
//! been removed in the moment before.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::disk::{Disk, File, Metadata, open_or_make};

/// A file that was taken.
#[derive(Clone, Debug)]
pub struct TakenFile {
    /// It is open for writing, and nobody else has it.
    pub file: File,
    /// Bytes that it holds already.
    pub held_bytes: u64,
    /// The disk keeps room for all of it.
    pub is_reserved: bool,
}

/// How often a file that was removed between its opening and its locking is opened again.
const TRIES_MAX: usize = 8;

/// Opens a file for writing that nobody else has, or makes it; with room for `len` bytes.
pub(super) fn take(
    disk: &mut dyn Disk,
    root: &File,
    path: &Path,
    stays: bool,
    len: u64,
) -> io::Result<TakenFile> {
    let (mut file, mut metadata) = open(disk, root, path)?;
    if metadata.len > len || (!stays && metadata.len > 0) {
        disk.remove(root, path)?;
        (file, metadata) = open(disk, root, path)?;
    }
    match disk.reserve(&file, len) {
        Ok(is_reserved) => Ok(TakenFile {
            file,
            held_bytes: metadata.len,
            is_reserved,
        }),
        // What came before may still be of use, but not the room that there is only half of.
        Err(error) => {
            match metadata.len {
                0 => disk.remove(root, path)?,
                _ => disk.trim(&file)?,
            }
            Err(error)
        }
    }
}

/// Opens or makes a file, and locks it.
fn open(disk: &mut dyn Disk, root: &File, path: &Path) -> io::Result<(File, Metadata)> {
    for _ in 0..TRIES_MAX {
        let file = match disk.open_to_write(root, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match disk.create(root, path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    made => made?,
                }
            }
            opened => opened?,
        };
        if let Some(metadata) = locked(disk, root, path, &file)? {
            return Ok((file, metadata));
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// What is known of a file, once it is locked; `None` if its name leads to another one by now.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`]: somebody else has the lock.
fn locked(
    disk: &mut dyn Disk,
    root: &File,
    path: &Path,
    file: &File,
) -> io::Result<Option<Metadata>> {
    // Not every network file system has locks; there nobody can tell.
    if !disk.lock_alone(file).unwrap_or(true) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let metadata = disk.metadata(file)?;
    Ok(match disk.look(root, path) {
        Ok(named) if named.identity == metadata.identity => Some(metadata),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => None,
    })
}

/// Removes a file unless somebody has it, or it was written to since `before`; whether it is left.
pub(super) fn expire(
    disk: &mut dyn Disk,
    root: &File,
    path: &Path,
    before: SystemTime,
) -> io::Result<bool> {
    let file = match disk.open_to_write(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let metadata = match locked(disk, root, path, &file) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        metadata => metadata?,
    };
    match metadata {
        Some(metadata) if metadata.modified < before => {
            disk.remove(root, path)?;
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// Opens or makes a folder, and one in it, whose lock is shared.
pub(super) fn prepare(disk: &mut dyn Disk, path: &Path, inner: &Path) -> io::Result<(File, File)> {
    let outer = open_or_make(path, disk)?;
    disk.create_folder(&outer, inner)?;
    let inner = disk.open(&outer, inner)?;
    let _ = disk.lock_shared(&inner); // not every file system has locks
    Ok((outer, inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::Files;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn a_file_is_taken_by_one_at_a_time_and_stays_for_the_next() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut disk = Files::default();
        let root = disk.open_folder(dir.path()).expect("the folder");
        let path = Path::new("half");
        let visit = |disk: &mut Files, stays, len| {
            take(disk, &root, path, stays, len).map_err(|error| error.kind())
        };
        let first = visit(&mut disk, true, 10).expect("a file");
        assert_eq!(first.held_bytes, 0);
        disk.write_full(&first.file, 0, b"abc").expect("a write");
        assert_eq!(
            visit(&mut disk, true, 10).err(),
            Some(io::ErrorKind::WouldBlock)
        );
        drop(first);
        for _ in 0..2 {
            let same = visit(&mut disk, true, 10).expect("the same file");
            assert_eq!(same.held_bytes, 3);
        }
        // One that is longer than the whole file is none of it, and so is one that is not to stay.
        assert_eq!(visit(&mut disk, true, 2).expect("a file").held_bytes, 0);
        fs::write(dir.path().join(path), "abc").expect("a file");
        assert_eq!(visit(&mut disk, false, 10).expect("a file").held_bytes, 0);
        assert_eq!(fs::read(dir.path().join(path)).expect("a file"), b"");
    }

    #[test]
    fn a_file_expires_when_nobody_has_it_and_it_is_old() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut disk = Files::default();
        let root = disk.open_folder(dir.path()).expect("the folder");
        let path = Path::new("half");
        let (later, earlier) = (
            SystemTime::now() + Duration::from_secs(1),
            SystemTime::now() - Duration::from_secs(9),
        );
        let file = take(&mut disk, &root, path, true, 10).expect("a file");
        assert!(expire(&mut disk, &root, path, later).expect("it is in use"));
        drop(file);
        assert!(expire(&mut disk, &root, path, earlier).expect("it is young"));
        assert!(!expire(&mut disk, &root, path, later).expect("it is old"));
        assert!(!dir.path().join(path).exists());
        assert!(!expire(&mut disk, &root, path, later).expect("it is gone"));
    }
}
