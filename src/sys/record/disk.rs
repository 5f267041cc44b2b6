//! [`Disk`] for a kernel that is recorded, and for a record of one: each call once, those with a
//! meaning of their own too, so that what a real disk makes of them by several calls is one answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Taped;
use super::answers::Found;
use super::call::Call;
use super::jobs::hash_of;
use crate::disk::{Contents, Disk, Entry, File, Metadata, Version};
use crate::pipe::Pipe;
use crate::sys::Sys;

impl<K: Sys> Taped<K> {
    /// A call that changes what a path leads to or opens it.
    fn at<A: super::answers::Answer>(
        &mut self,
        call: &Call,
        live: impl FnOnce(&mut dyn Disk) -> A,
    ) -> A {
        self.ask(call, |kernel, _| live(kernel.disk()))
    }
}

impl<K: Sys> Disk for Taped<K> {
    fn open_folder(&mut self, path: &Path) -> io::Result<File> {
        let call = Call::OpenFolder { path: path.into() };
        self.at(&call, |disk| disk.open_folder(path))
    }

    fn open(&mut self, root: &File, path: &Path) -> io::Result<File> {
        let call = Call::Open {
            root: root.number(),
            path: path.into(),
        };
        self.at(&call, |disk| disk.open(root, path))
    }

    fn open_now(&mut self, root: &File, path: &Path) -> Option<Found> {
        let call = Call::OpenNow {
            root: root.number(),
            path: path.into(),
        };
        self.at(&call, |disk| disk.open_now(root, path))
    }

    fn metadata(&mut self, file: &File) -> io::Result<Metadata> {
        let call = Call::Metadata {
            file: file.number(),
        };
        self.at(&call, |disk| disk.metadata(file))
    }

    fn metadata_now(&mut self, file: &File) -> Option<io::Result<Metadata>> {
        let call = Call::MetadataNow {
            file: file.number(),
        };
        self.at(&call, |disk| disk.metadata_now(file))
    }

    fn read_at(&mut self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let call = Call::ReadAt {
            file: file.number(),
            offset,
            room: into.len(),
        };
        self.ask_into(&call, into, |kernel, _, into| {
            kernel.disk().read_at(file, offset, into)
        })
    }

    fn read_now(&mut self, file: &File, offset: u64, into: &mut [u8]) -> Option<io::Result<usize>> {
        let call = Call::ReadNow {
            file: file.number(),
            offset,
            room: into.len(),
        };
        self.ask_into(&call, into, |kernel, _, into| {
            kernel.disk().read_now(file, offset, into)
        })
    }

    fn is_in_memory(&mut self, file: &File, offset: u64, len: u64, now: Instant) -> bool {
        let call = Call::IsInMemory {
            file: file.number(),
            offset,
            len,
        };
        self.at(&call, |disk| disk.is_in_memory(file, offset, len, now))
    }

    fn entries(&mut self, folder: &File) -> io::Result<Vec<Entry>> {
        let call = Call::Entries {
            folder: folder.number(),
        };
        self.at(&call, |disk| disk.entries(folder))
    }

    fn names(
        &mut self,
        folder: &File,
        from: u64,
        into: &mut Vec<PathBuf>,
    ) -> io::Result<Option<u64>> {
        let call = Call::Names {
            folder: folder.number(),
            from,
        };
        let (names, next) = self.at(&call, |disk| {
            let mut names = Vec::new();
            disk.names(folder, from, &mut names)
                .map(|next| (names, next))
        })?;
        into.extend(names);
        Ok(next)
    }

    fn look(&mut self, root: &File, path: &Path) -> io::Result<Metadata> {
        let call = Call::Look {
            root: root.number(),
            path: path.into(),
        };
        self.at(&call, |disk| disk.look(root, path))
    }

    fn look_now(&mut self, root: &File, path: &Path) -> Option<io::Result<Metadata>> {
        let call = Call::LookNow {
            root: root.number(),
            path: path.into(),
        };
        self.at(&call, |disk| disk.look_now(root, path))
    }

    fn open_configured(&mut self, path: &Path) -> io::Result<File> {
        let call = Call::OpenConfigured { path: path.into() };
        self.at(&call, |disk| disk.open_configured(path))
    }

    fn open_log(&mut self, path: &Path) -> io::Result<File> {
        let call = Call::OpenLog { path: path.into() };
        self.at(&call, |disk| disk.open_log(path))
    }

    fn standard_error(&mut self) -> io::Result<File> {
        self.at(&Call::StandardError {}, |disk| disk.standard_error())
    }

    fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        let call = Call::Append {
            file: file.number(),
            bytes: bytes.len(),
        };
        let hash = |count: usize| hash_of([&bytes[..count]]);
        self.ask_with(&call, hash, |kernel, _| kernel.disk().append(file, bytes))
    }

    fn create(&mut self, root: &File, path: &Path) -> io::Result<File> {
        let call = Call::Create {
            root: root.number(),
            path: path.into(),
        };
        self.at(&call, |disk| disk.create(root, path))
    }

    fn open_to_write(&mut self, root: &File, path: &Path) -> io::Result<File> {
        let call = Call::OpenToWrite {
            root: root.number(),
            path: path.into(),
        };
        self.at(&call, |disk| disk.open_to_write(root, path))
    }

    fn create_folder(&mut self, root: &File, name: &Path) -> io::Result<()> {
        let call = Call::CreateFolder {
            root: root.number(),
            name: name.into(),
        };
        self.at(&call, |disk| disk.create_folder(root, name))
    }

    fn enter(&mut self, root: &File, path: &Path) -> io::Result<File> {
        let call = Call::Enter {
            root: root.number(),
            path: path.into(),
        };
        self.at(&call, |disk| disk.enter(root, path))
    }

    fn lock_alone(&mut self, folder: &File) -> io::Result<bool> {
        let call = Call::LockAlone {
            folder: folder.number(),
        };
        self.at(&call, |disk| disk.lock_alone(folder))
    }

    fn lock_shared(&mut self, folder: &File) -> io::Result<()> {
        let call = Call::LockShared {
            folder: folder.number(),
        };
        self.at(&call, |disk| disk.lock_shared(folder))
    }

    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let call = Call::WriteAt {
            file: file.number(),
            offset,
            bytes: bytes.len(),
        };
        let hash = |count: usize| hash_of([&bytes[..count]]);
        self.ask_with(&call, hash, |kernel, _| {
            kernel.disk().write_at(file, offset, bytes)
        })
    }

    fn write_piped(
        &mut self,
        pipe: &Pipe,
        bytes: usize,
        file: &File,
        offset: u64,
    ) -> io::Result<usize> {
        let call = Call::WritePiped {
            file: file.number(),
            offset,
            bytes,
        };
        self.at(&call, |disk| disk.write_piped(pipe, bytes, file, offset))
    }

    fn rename(
        &mut self,
        root: &File,
        from: &Path,
        to: (&File, &Path),
        replace: bool,
    ) -> io::Result<()> {
        let call = Call::Rename {
            root: root.number(),
            from: from.into(),
            folder: to.0.number(),
            to: to.1.into(),
            replace,
        };
        self.at(&call, |disk| disk.rename(root, from, to, replace))
    }

    fn remove(&mut self, root: &File, path: &Path) -> io::Result<()> {
        let call = Call::Remove {
            root: root.number(),
            path: path.into(),
        };
        self.at(&call, |disk| disk.remove(root, path))
    }

    fn will_read(&mut self, file: &File, offset: u64, len: u64) {
        let call = Call::WillRead {
            file: file.number(),
            offset,
            len,
        };
        self.at(&call, |disk| disk.will_read(file, offset, len));
    }

    fn warm(&mut self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let call = Call::Warm {
            file: file.number(),
            offset,
            len,
        };
        self.at(&call, |disk| disk.warm(file, offset, len))
    }

    fn version(&mut self, file: &File, was: &Metadata) -> io::Result<Version> {
        let call = Call::Version {
            file: file.number(),
        };
        self.at(&call, |disk| disk.version(file, was))
    }

    fn version_now(&mut self, file: &File, was: &Metadata) -> Option<io::Result<Version>> {
        let call = Call::VersionNow {
            file: file.number(),
        };
        self.at(&call, |disk| disk.version_now(file, was))
    }

    fn contents(
        &mut self,
        file: &File,
        was: &Metadata,
        small_bytes_max: u64,
    ) -> io::Result<(Contents, Metadata)> {
        let call = Call::Contents {
            file: file.number(),
            small_bytes_max,
        };
        self.at(&call, |disk| disk.contents(file, was, small_bytes_max))
    }

    fn contents_now(
        &mut self,
        file: &File,
        was: &Metadata,
        small_bytes_max: u64,
    ) -> Option<io::Result<(Contents, Metadata)>> {
        let call = Call::ContentsNow {
            file: file.number(),
            small_bytes_max,
        };
        self.at(&call, |disk| disk.contents_now(file, was, small_bytes_max))
    }

    fn keeps(&mut self, file: &File, version: &Version) -> bool {
        let call = Call::Keeps {
            file: file.number(),
        };
        self.at(&call, |disk| disk.keeps(file, version))
    }

    fn keeps_now(&mut self, file: &File, version: &Version) -> Option<bool> {
        let call = Call::KeepsNow {
            file: file.number(),
        };
        self.at(&call, |disk| disk.keeps_now(file, version))
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        let call = Call::Sync {
            file: file.number(),
        };
        self.at(&call, |disk| disk.sync(file))
    }

    fn reserve(&mut self, file: &File, len: u64) -> io::Result<bool> {
        let call = Call::Reserve {
            file: file.number(),
            len,
        };
        self.at(&call, |disk| disk.reserve(file, len))
    }

    fn trim(&mut self, file: &File) -> io::Result<()> {
        let call = Call::Trim {
            file: file.number(),
        };
        self.at(&call, |disk| disk.trim(file))
    }

    fn write_back(&mut self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let call = Call::WriteBack {
            file: file.number(),
            offset,
            len,
        };
        self.at(&call, |disk| disk.write_back(file, offset, len))
    }

    fn free_bytes(&mut self, root: &File) -> io::Result<u64> {
        let call = Call::FreeBytes {
            root: root.number(),
        };
        self.at(&call, |disk| disk.free_bytes(root))
    }

    fn entropy(&mut self, into: &mut [u8]) {
        let call = Call::Entropy { room: into.len() };
        let told = self.ask_into(&call, into, |kernel, _, into| {
            kernel.disk().entropy(into);
            Ok(into.len())
        });
        let _: io::Result<usize> = told;
    }
}
