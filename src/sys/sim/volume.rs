//! The simulated disk: folders, files and symbolic links in memory.
//!
//! It outlives the process: [`Volume::survive`] is what a restart finds. An open file stays
//! readable when its name is gone or has gone to another file, as on Unix. Paths below an open
//! folder never lead out of it (`RESOLVE_BENEATH`, `man 2 openat2`): whatever would, fails with
//! `EXDEV`.
//!
//! A crash strikes in the middle of an operation: of a write a part may be there, a rename has
//! happened or not. From then on nothing that the dying process does has any effect.
//!
//! Where the power fails with it ([`Volume::lose_power`]), only what was synced is sure, which what
//! a test puts there always is; see [`power`].
//!
//! All calls on inodes stand in this file, which makes it a long one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::faults::Fault;
use super::rng::Rng;
use super::world::World;
use crate::disk::{DiskId, Entry, File, FileKind, Handle, Metadata, WeakFile};
use power::Synced;

pub mod power;

/// The root folder's inode.
const ROOT: u64 = 1;
/// Symbolic links followed in one path (`man 7 path_resolution`).
const LINKS_MAX: usize = 40;

/// What an inode holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Folder(BTreeMap<OsString, u64>),
    Regular(Vec<u8>),
    Link(PathBuf),
}

#[derive(Clone, Debug)]
struct Inode {
    content: Content,
    modified: SystemTime,
    changed: SystemTime,
}

impl Inode {
    /// What changed at one moment has different times all the same, as Linux has it since 6.13 for
    /// a file that was looked at between.
    fn changes(&mut self, now: SystemTime) {
        self.changed = now.max(self.changed + Duration::from_nanos(1));
    }
}

/// A descriptor.
#[derive(Debug)]
struct Open {
    inode: u64,
    writable: bool,
    /// It has the lock of the file, alone or with others (`man 2 flock`).
    locked: bool,
    what: PathBuf,
    /// Whether the process has it: we have no reference of our own, as a kernel has none.
    file: WeakFile,
}

/// A disk.
#[derive(Debug)]
pub struct Volume {
    inodes: BTreeMap<u64, Inode>,
    open: BTreeMap<u64, Open>,
    next: u64,
    capacity_bytes: u64,
    crashed: bool,
    synced: Synced,
    lost_power: bool,
}

impl Default for Volume {
    fn default() -> Self {
        let mut volume = Self {
            inodes: BTreeMap::new(),
            open: BTreeMap::new(),
            next: ROOT,
            capacity_bytes: 1 << 30,
            crashed: false,
            synced: Synced::default(),
            lost_power: false,
        };
        volume.add(Content::Folder(BTreeMap::new()), SystemTime::UNIX_EPOCH);
        volume
    }
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// What a test sees and does from outside.
impl Volume {
    /// Makes a folder and those above it. Paths are absolute.
    ///
    /// # Panics
    /// If something else has that name.
    pub fn make_folder(&mut self, path: impl AsRef<Path>) {
        let mut folder = ROOT;
        for part in path.as_ref().components() {
            let Component::Normal(name) = part else {
                continue;
            };
            folder = match self.child(folder, name) {
                Some(inode) => inode,
                None => {
                    let content = Content::Folder(BTreeMap::new());
                    let made = self.attach(folder, name, content, SystemTime::UNIX_EPOCH);
                    self.sync_inode(folder);
                    made
                }
            };
        }
        assert!(self.folder(folder).is_ok(), "a name is taken");
    }

    /// Puts a file there, with the folders above it; its contents change as a whole, its inode too.
    pub fn put(&mut self, path: impl AsRef<Path>, bytes: &[u8], modified: SystemTime) {
        self.place(path.as_ref(), Content::Regular(bytes.to_vec()), modified);
    }

    /// Rewrites a file under the inode that it has, at the moment `now`: a process that has it open
    /// reads the new contents from now on. `modified` is the time of modification that it gets.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn rewrite(
        &mut self,
        path: impl AsRef<Path>,
        bytes: &[u8],
        modified: SystemTime,
        now: SystemTime,
    ) {
        let number = self.resolve(ROOT, path.as_ref(), false).expect("a file");
        // Invariant: it was just resolved.
        let inode = self.inodes.get_mut(&number).expect("an inode");
        inode.content = Content::Regular(bytes.to_vec());
        inode.modified = modified;
        inode.changes(now);
        self.sync_inode(number);
    }

    /// Puts a symbolic link there.
    pub fn link(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) {
        let content = Content::Link(target.as_ref().to_owned());
        self.place(path.as_ref(), content, SystemTime::UNIX_EPOCH);
    }

    fn place(&mut self, path: &Path, content: Content, modified: SystemTime) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            panic!("a path with a name");
        };
        self.make_folder(parent);
        let folder = self.resolve(ROOT, parent, false).expect("it was just made");
        let inode = self.attach(folder, name, content, modified);
        self.sync_inode(inode);
        self.sync_inode(folder);
    }

    /// A file's contents.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        let inode = self.resolve(ROOT, path.as_ref(), false).ok()?;
        self.regular(inode).ok()
    }

    /// The names in a folder.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let folder = self.resolve(ROOT, path.as_ref(), false);
        let names = folder.and_then(|inode| self.folder(inode));
        let text = |name: &OsString| name.to_string_lossy().into_owned();
        names.map_or_else(|_| Vec::new(), |names| names.keys().map(text).collect())
    }

    /// What the disk holds at most, in bytes of contents.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
    }

    /// What a process that starts now finds: everything but what was open.
    pub fn survive(mut self) -> Self {
        self.open.clear();
        self.crashed = false;
        self.lost_power = false;
        self.collect();
        self
    }

    /// The power fails: of what was not synced, whatever reached the disk is left, and the process
    /// is gone.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        self.crashed = true;
        self.lost_power = true;
        let contents = self.inodes.iter();
        let now = contents.map(|(inode, of)| (*inode, of.content.clone()));
        let left = self.synced.fail(&now.collect(), rng);
        for (number, content) in left {
            let lost = Inode {
                content: Content::Regular(Vec::new()),
                modified: SystemTime::UNIX_EPOCH,
                changed: SystemTime::UNIX_EPOCH,
            };
            self.inodes.entry(number).or_insert(lost).content = content;
        }
    }

    /// Whether the power failed.
    pub fn has_lost_power(&self) -> bool {
        self.lost_power
    }

    /// Files that are open.
    pub fn open_files(&mut self) -> Vec<PathBuf> {
        self.collect();
        self.open.values().map(|open| open.what.clone()).collect()
    }

    /// Whether the process died in the middle of an operation.
    pub fn is_crashed(&self) -> bool {
        self.crashed
    }
}

/// Inodes and paths.
impl Volume {
    fn sync_inode(&mut self, number: u64) {
        if let Some(inode) = self.inodes.get(&number) {
            self.synced.sync(number, &inode.content);
        }
    }

    fn add(&mut self, content: Content, modified: SystemTime) -> u64 {
        let inode = self.next;
        self.next += 1;
        let changed = modified;
        self.inodes.insert(
            inode,
            Inode {
                content,
                modified,
                changed,
            },
        );
        inode
    }

    fn attach(&mut self, folder: u64, name: &OsStr, content: Content, modified: SystemTime) -> u64 {
        let inode = self.add(content, modified);
        // Invariant: callers resolved `folder` to a folder.
        let names = self.folder_mut(folder).expect("a folder");
        let replaced = names.insert(name.to_owned(), inode);
        // What loses its name changes, though not in its contents.
        if let Some(lost) = replaced.and_then(|lost| self.inodes.get_mut(&lost)) {
            lost.changes(modified);
        }
        inode
    }

    fn folder(&self, inode: u64) -> io::Result<&BTreeMap<OsString, u64>> {
        match self.inodes.get(&inode).map(|i| &i.content) {
            Some(Content::Folder(names)) => Ok(names),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn folder_mut(&mut self, inode: u64) -> io::Result<&mut BTreeMap<OsString, u64>> {
        match self.inodes.get_mut(&inode).map(|i| &mut i.content) {
            Some(Content::Folder(names)) => Ok(names),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn regular(&self, inode: u64) -> io::Result<&[u8]> {
        match self.inodes.get(&inode).map(|i| &i.content) {
            Some(Content::Regular(bytes)) => Ok(bytes),
            Some(Content::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn child(&self, folder: u64, name: &OsStr) -> Option<u64> {
        self.folder(folder).ok()?.get(name).copied()
    }

    /// Walks from `root` along `path`. `beneath`: nothing may lead out of `root`.
    fn resolve(&self, root: u64, path: &Path, beneath: bool) -> io::Result<u64> {
        let mut todo: Vec<OsString> = parts(path, beneath)?;
        let mut trail = vec![root];
        let mut links = 0;
        while let Some(part) = todo.pop() {
            // Invariant: the trail begins with the root, which is never popped.
            let here = *trail.last().expect("the root");
            self.folder(here)?;
            if part == ".." {
                if trail.len() > 1 {
                    trail.pop();
                } else if beneath {
                    return Err(io::ErrorKind::CrossesDevices.into());
                }
                continue;
            }
            let next = self.child(here, &part).ok_or(io::ErrorKind::NotFound)?;
            let Content::Link(target) = &self.inodes[&next].content else {
                trail.push(next);
                continue;
            };
            links += 1;
            if links > LINKS_MAX {
                return Err(errno(libc::ELOOP));
            }
            if target.is_absolute() && !beneath {
                trail.truncate(1);
            }
            todo.extend(parts(target, beneath)?);
        }
        Ok(*trail.last().expect("the root"))
    }

    /// The folder that `path` lies in, and its name there.
    fn parent<'a>(&self, root: u64, path: &'a Path) -> io::Result<(u64, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = self.resolve(root, path.parent().unwrap_or(Path::new("")), true)?;
        self.folder(folder)?;
        Ok((folder, name))
    }

    fn used(&self) -> u64 {
        let len = |inode: &Inode| match &inode.content {
            Content::Regular(bytes) => bytes.len() as u64,
            _ => 0,
        };
        self.inodes.values().map(len).sum()
    }

    fn describe(&self, inode: u64) -> Metadata {
        let node = &self.inodes[&inode];
        let (kind, len) = match &node.content {
            Content::Folder(_) => (FileKind::Folder, 4096),
            Content::Regular(bytes) => (FileKind::Regular, bytes.len() as u64),
            Content::Link(_) => (FileKind::Other, 0),
        };
        Metadata {
            kind,
            len,
            modified: node.modified,
            changed: node.changed,
            identity: (1, inode),
            executable: false,
        }
    }

    /// Forgets what the process closed, and what has neither a name nor a reader.
    fn collect(&mut self) {
        self.open.retain(|_, open| open.file.upgrade().is_some());
        let mut named = vec![ROOT];
        let mut next = 0;
        while let Some(&inode) = named.get(next) {
            named.extend(self.folder(inode).into_iter().flat_map(BTreeMap::values));
            next += 1;
        }
        named.extend(self.open.values().map(|open| open.inode));
        named.sort_unstable();
        self.inodes
            .retain(|inode, _| named.binary_search(inode).is_ok());
    }

    fn handle(&mut self, inode: u64, writable: bool, what: PathBuf) -> File {
        self.next += 1;
        let file = File::new(Handle::Simulated(self.next), DiskId(1), false);
        self.open.insert(
            self.next,
            Open {
                inode,
                writable,
                locked: false,
                what,
                file: file.downgrade(),
            },
        );
        file
    }

    /// Takes the lock of what is open there, unless it is locked by another opening of it; whether
    /// that worked.
    pub(super) fn lock(&mut self, file: &File) -> io::Result<bool> {
        self.collect();
        let inode = self.opened(file)?.inode;
        let is_other = |open: &Open| open.file.upgrade().is_some_and(|other| other != *file);
        let mut of_it = self.open.values().filter(|open| open.inode == inode);
        if of_it.any(|open| open.locked && is_other(open)) {
            return Ok(false);
        }
        self.share_lock(file)?;
        Ok(true)
    }

    /// Shares the lock of what is open there.
    pub(super) fn share_lock(&mut self, file: &File) -> io::Result<()> {
        let Handle::Simulated(number) = file.handle() else {
            return Err(io::Error::other("a file of the real disk"));
        };
        let open = self
            .open
            .get_mut(number)
            .ok_or_else(|| errno(libc::EBADF))?;
        open.locked = true;
        Ok(())
    }

    fn opened(&self, file: &File) -> io::Result<&Open> {
        match file.handle() {
            Handle::Simulated(number) => self.open.get(number).ok_or_else(|| errno(libc::EBADF)),
            Handle::Fd(_) | Handle::SlowFd(_) => Err(io::Error::other("a file of the real disk")),
        }
    }

    /// Whether the process dies in the middle of what it does now, or did before.
    fn dies(&mut self, world: &mut World, what: &str) -> bool {
        if !self.crashed && world.strikes(Fault::Crash) {
            world.note(|| format!("the process dies in {what}"));
            self.crashed = true;
            return true;
        }
        if !self.crashed && world.strikes(Fault::PowerLoss) {
            world.note(|| format!("the power fails in {what}"));
            self.lose_power(&mut world.rng);
            return true;
        }
        self.crashed
    }
}

/// The names of a path, the last one first.
fn parts(path: &Path, beneath: bool) -> io::Result<Vec<OsString>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_owned()),
            Component::ParentDir => parts.push("..".into()),
            Component::RootDir if beneath => return Err(io::ErrorKind::CrossesDevices.into()),
            _ => {}
        }
    }
    parts.reverse();
    Ok(parts)
}

/// The system calls. Their contracts are those of [`crate::disk::Disk`].
impl Volume {
    pub(super) fn open_folder(&mut self, path: &Path) -> io::Result<File> {
        let inode = self.resolve(ROOT, path, false)?;
        self.folder(inode)?;
        Ok(self.handle(inode, false, path.to_owned()))
    }

    pub(super) fn open(&mut self, root: &File, path: &Path, world: &mut World) -> io::Result<File> {
        self.open_as(root, path, false, world)
    }

    pub(super) fn open_configured(&mut self, path: &Path, world: &mut World) -> io::Result<File> {
        self.collect();
        let inode = self.resolve(ROOT, path, false)?;
        if world.strikes(Fault::DiskOpenFails) {
            return Err(errno(libc::EMFILE));
        }
        Ok(self.handle(inode, false, path.to_owned()))
    }

    pub(super) fn open_to_write(
        &mut self,
        root: &File,
        path: &Path,
        world: &mut World,
    ) -> io::Result<File> {
        self.open_as(root, path, true, world)
    }

    fn open_as(
        &mut self,
        root: &File,
        path: &Path,
        writable: bool,
        world: &mut World,
    ) -> io::Result<File> {
        self.collect();
        let inode = self.resolve(self.opened(root)?.inode, path, true)?;
        if world.strikes(Fault::DiskOpenFails) {
            return Err(errno(libc::EMFILE));
        }
        Ok(self.handle(inode, writable, path.to_owned()))
    }

    pub(super) fn metadata(&self, file: &File) -> io::Result<Metadata> {
        Ok(self.describe(self.opened(file)?.inode))
    }

    pub(super) fn read_at(
        &self,
        file: &File,
        offset: u64,
        into: &mut [u8],
        world: &mut World,
    ) -> io::Result<usize> {
        let bytes = self.regular(self.opened(file)?.inode)?;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let mut count = into.len().min(bytes.len() - start);
        if count > 1 && world.strikes(Fault::DiskShortRead) {
            count = world.rng.between(1, count - 1);
        }
        into[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    pub(super) fn entries(&self, folder: &File) -> io::Result<Vec<Entry>> {
        let folder = self.opened(folder)?.inode;
        let reachable = |name: &OsString| {
            let inode = self.resolve(folder, Path::new(name), true).ok()?;
            let (name, metadata) = (PathBuf::from(name), self.describe(inode));
            Some(Entry { name, metadata })
        };
        Ok(self.folder(folder)?.keys().filter_map(reachable).collect())
    }

    pub(super) fn create(
        &mut self,
        root: &File,
        path: &Path,
        world: &mut World,
    ) -> io::Result<File> {
        self.collect();
        let (folder, name) = self.parent(self.opened(root)?.inode, path)?;
        if self.child(folder, name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if world.strikes(Fault::DiskOpenFails) {
            return Err(errno(libc::EMFILE));
        }
        if self.dies(world, "create") || world.strikes(Fault::DiskCreateFails) {
            return Err(errno(libc::EIO));
        }
        let inode = self.attach(
            folder,
            name,
            Content::Regular(Vec::new()),
            world.clock.wall(),
        );
        world.note(|| format!("{} made", path.display()));
        Ok(self.handle(inode, true, path.to_owned()))
    }

    pub(super) fn create_folder(
        &mut self,
        root: &File,
        path: &Path,
        world: &mut World,
    ) -> io::Result<()> {
        let (folder, name) = self.parent(self.opened(root)?.inode, path)?;
        if self.child(folder, name).is_some() {
            return Ok(());
        }
        if self.dies(world, "mkdir") || world.strikes(Fault::DiskCreateFails) {
            return Err(errno(libc::EIO));
        }
        self.attach(
            folder,
            name,
            Content::Folder(BTreeMap::new()),
            world.clock.wall(),
        );
        Ok(())
    }

    pub(super) fn enter(
        &mut self,
        root: &File,
        path: &Path,
        world: &mut World,
    ) -> io::Result<File> {
        self.collect();
        let mut here = self.opened(root)?.inode;
        for name in path.components() {
            let Component::Normal(name) = name else {
                return Err(io::ErrorKind::CrossesDevices.into());
            };
            self.folder(here)?;
            here = match self.child(here, name) {
                Some(inode) => inode,
                None if self.dies(world, "mkdir") || world.strikes(Fault::DiskCreateFails) => {
                    return Err(errno(libc::EIO));
                }
                None => {
                    let empty = Content::Folder(BTreeMap::new());
                    self.attach(here, name, empty, world.clock.wall())
                }
            };
        }
        self.folder(here)?;
        if world.strikes(Fault::DiskOpenFails) {
            return Err(errno(libc::EMFILE));
        }
        Ok(self.handle(here, false, path.to_owned()))
    }

    pub(super) fn write_at(
        &mut self,
        file: &File,
        offset: u64,
        bytes: &[u8],
        world: &mut World,
    ) -> io::Result<usize> {
        let open = self.opened(file)?;
        let inode = open.inode;
        if !open.writable {
            return Err(errno(libc::EBADF));
        }
        if !self.crashed && world.strikes(Fault::PowerLoss) {
            world.note(|| "the power fails in write".to_owned());
            self.lose_power(&mut world.rng);
        }
        if self.crashed {
            return Err(errno(libc::EIO));
        }
        let mut count = bytes.len();
        let torn = world.strikes(Fault::TornWrite);
        if torn {
            world.note(|| "the process dies in write".to_owned());
            self.crashed = true;
            count = world.rng.below(count + 1);
        } else if world.strikes(Fault::DiskFull) || self.used() + count as u64 > self.capacity_bytes
        {
            return Err(io::ErrorKind::StorageFull.into());
        } else if count > 1 && world.strikes(Fault::DiskShortWrite) {
            count = world.rng.between(1, count - 1);
        }
        let now = world.clock.wall();
        let Some(inode) = self.inodes.get_mut(&inode) else {
            return Err(errno(libc::EBADF));
        };
        inode.changes(now);
        inode.modified = inode.changed;
        let Content::Regular(held) = &mut inode.content else {
            return Err(errno(libc::EBADF));
        };
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if held.len() < start + count {
            held.resize(start + count, 0);
        }
        held[start..start + count].copy_from_slice(&bytes[..count]);
        if torn {
            Err(errno(libc::EIO))
        } else {
            Ok(count)
        }
    }

    pub(super) fn rename(
        &mut self,
        root: &File,
        from: &Path,
        (into, to): (&File, &Path),
        replace: bool,
        world: &mut World,
    ) -> io::Result<()> {
        let (from_folder, from_name) = self.parent(self.opened(root)?.inode, from)?;
        let (to_folder, to_name) = self.parent(self.opened(into)?.inode, to)?;
        let inode = self
            .child(from_folder, from_name)
            .ok_or(io::ErrorKind::NotFound)?;
        if !replace && self.child(to_folder, to_name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let was_dead = self.crashed;
        let dies = self.dies(world, "rename");
        if was_dead || (dies && world.rng.coin()) || world.strikes(Fault::DiskRenameFails) {
            return Err(errno(libc::EIO));
        }
        self.folder_mut(from_folder)?.remove(from_name);
        self.folder_mut(to_folder)?
            .insert(to_name.to_owned(), inode);
        world.note(|| format!("{} becomes {}", from.display(), to.display()));
        if dies { Err(errno(libc::EIO)) } else { Ok(()) }
    }

    pub(super) fn remove(&mut self, root: &File, path: &Path, world: &mut World) -> io::Result<()> {
        let (folder, name) = self.parent(self.opened(root)?.inode, path)?;
        let inode = self.child(folder, name).ok_or(io::ErrorKind::NotFound)?;
        if self.folder(inode).is_ok() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if self.dies(world, "unlink") {
            return Err(errno(libc::EIO));
        }
        self.folder_mut(folder)?.remove(name);
        self.collect();
        Ok(())
    }

    pub(super) fn sync(&mut self, file: &File, world: &mut World) -> io::Result<()> {
        let inode = self.opened(file)?.inode;
        if self.dies(world, "fsync") {
            return Err(errno(libc::EIO));
        }
        self.sync_inode(inode);
        Ok(())
    }

    pub(super) fn reserve(&mut self, file: &File, len: u64, world: &mut World) -> io::Result<bool> {
        let inode = self.opened(file)?.inode;
        let held = self.regular(inode)?.len() as u64;
        let is_full = self.used() + len.saturating_sub(held) > self.capacity_bytes;
        if self.dies(world, "fallocate") {
            return Err(errno(libc::EIO));
        }
        match is_full || world.strikes(Fault::DiskFull) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(false),
        }
    }

    pub(super) fn free_bytes(&self, root: &File) -> io::Result<u64> {
        self.opened(root)?;
        Ok(self.capacity_bytes.saturating_sub(self.used()))
    }
}
