//! For tests: the real disk, for which there are only so many descriptors.

use std::io;
use std::path::Path;

use super::Files;
use crate::disk::{Disk, Entry, File, Metadata};

/// A disk on which so many files are opened or made, and no more.
pub struct Scarce<'a> {
    disk: &'a mut Files,
    descriptors: usize,
}

impl<'a> Scarce<'a> {
    /// The disk, and how many descriptors there are.
    pub fn new(disk: &'a mut Files, descriptors: usize) -> Self {
        Self { disk, descriptors }
    }

    fn take(&mut self) -> io::Result<()> {
        let none = || io::Error::from_raw_os_error(libc::EMFILE);
        self.descriptors = self.descriptors.checked_sub(1).ok_or_else(none)?;
        Ok(())
    }
}

impl Disk for Scarce<'_> {
    fn open_folder(&mut self, path: &Path) -> io::Result<File> {
        self.take()?;
        self.disk.open_folder(path)
    }

    fn open(&mut self, root: &File, path: &Path) -> io::Result<File> {
        self.take()?;
        self.disk.open(root, path)
    }

    fn metadata(&mut self, file: &File) -> io::Result<Metadata> {
        self.disk.metadata(file)
    }

    fn read_at(&mut self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, offset, into)
    }

    fn entries(&mut self, folder: &File) -> io::Result<Vec<Entry>> {
        self.take()?;
        self.disk.entries(folder)
    }

    fn create(&mut self, root: &File, path: &Path) -> io::Result<File> {
        self.take()?;
        self.disk.create(root, path)
    }

    fn create_folder(&mut self, root: &File, path: &Path) -> io::Result<()> {
        self.disk.create_folder(root, path)
    }

    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write_at(file, offset, bytes)
    }

    fn enter(&mut self, root: &File, path: &Path) -> io::Result<File> {
        self.take()?;
        self.disk.enter(root, path)
    }

    fn rename(
        &mut self,
        root: &File,
        from: &Path,
        to: (&File, &Path),
        replace: bool,
    ) -> io::Result<()> {
        self.disk.rename(root, from, to, replace)
    }

    fn remove(&mut self, root: &File, path: &Path) -> io::Result<()> {
        self.disk.remove(root, path)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.disk.sync(file)
    }

    fn open_to_write(&mut self, root: &File, path: &Path) -> io::Result<File> {
        self.take()?;
        self.disk.open_to_write(root, path)
    }

    fn lock_alone(&mut self, file: &File) -> io::Result<bool> {
        self.disk.lock_alone(file)
    }

    fn reserve(&mut self, file: &File, len: u64) -> io::Result<bool> {
        self.disk.reserve(file, len)
    }

    fn free_bytes(&mut self, root: &File) -> io::Result<u64> {
        self.disk.free_bytes(root)
    }

    fn entropy(&mut self, into: &mut [u8]) {
        self.disk.entropy(into);
    }
}
