//! The calls of [`Disk`], for the volume.

use std::io;
use std::path::Path;

use super::Sim;
use crate::disk::{Disk, Entry, File, Metadata};

impl Disk for Sim {
    fn open_folder(&mut self, path: &Path) -> io::Result<File> {
        self.volume.open_folder(path)
    }

    fn open(&mut self, root: &File, path: &Path) -> io::Result<File> {
        self.volume.open(root, path, &mut self.world)
    }

    fn metadata(&mut self, file: &File) -> io::Result<Metadata> {
        self.volume.metadata(file)
    }

    fn read_at(&mut self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.volume.read_at(file, offset, into, &mut self.world)
    }

    fn entries(&mut self, folder: &File) -> io::Result<Vec<Entry>> {
        self.volume.entries(folder)
    }

    fn create(&mut self, root: &File, path: &Path) -> io::Result<File> {
        self.volume.create(root, path, &mut self.world)
    }

    fn create_folder(&mut self, root: &File, path: &Path) -> io::Result<()> {
        self.volume.create_folder(root, path, &mut self.world)
    }

    fn lock_alone(&mut self, folder: &File) -> io::Result<bool> {
        self.volume.lock(folder)
    }

    fn lock_shared(&mut self, folder: &File) -> io::Result<()> {
        self.volume.share_lock(folder)
    }

    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.volume.write_at(file, offset, bytes, &mut self.world)
    }

    fn rename(&mut self, root: &File, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        self.volume.rename(root, from, to, replace, &mut self.world)
    }

    fn remove(&mut self, root: &File, path: &Path) -> io::Result<()> {
        self.volume.remove(root, path, &mut self.world)
    }

    fn free_bytes(&mut self, root: &File) -> io::Result<u64> {
        self.volume.free_bytes(root)
    }

    fn entropy(&mut self, into: &mut [u8]) {
        self.world.rng.fill(into);
    }
}
