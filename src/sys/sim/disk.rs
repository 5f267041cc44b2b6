//! The calls of [`Disk`], for the volume.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Sim;
use super::agenda::Happening;
use super::faults::Fault;
use crate::disk::{Disk, Entry, File, Metadata};
use crate::jobs::{Command, Done, Job, JobId};
use crate::pipe::Pipe;
use crate::sys::{PlantedBug, Sys};

/// How long a job takes, and how long where the disk is slow.
const JOB_TIME_MAX: Duration = Duration::from_millis(3);
const SLOW_JOB_TIME_MAX: Duration = Duration::from_secs(3);

impl Sim {
    /// Begins a job; they come to their ends in any order.
    pub(super) fn start_job(&mut self, id: JobId, job: Job) {
        let most = match self.world.strikes(Fault::JobSlow) {
            true => SLOW_JOB_TIME_MAX,
            false => JOB_TIME_MAX,
        };
        let at = self.world.now() + self.world.rng.span(most);
        self.net.agenda.add(at, Happening::JobDone(id));
        self.jobs.insert(id, job);
    }

    /// Does a job, at its end: what happened to the disk meanwhile came first.
    pub(super) fn finish_job(&mut self, id: JobId) {
        let Some(mut job) = self.jobs.remove(&id) else {
            return;
        };
        let result = match self.world.strikes(Fault::JobFails) {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => job.perform(self),
        };
        let is_write = matches!(
            job,
            Job::Command(Command::Write { .. } | Command::WritePiped { .. })
        );
        let result = match is_write && self.planted(PlantedBug::WriteFailureLost) {
            true => result.or(Ok(Done::Nothing)),
            false => result,
        };
        self.world.note(|| format!("{id:?}: {job:?} is done"));
        let told = match self.planted(PlantedBug::JobPlaceMixedUp) {
            true => self.mix_up(id),
            false => id,
        };
        self.job_done_at.get_or_insert(self.world.now());
        self.jobs_done.push_back((told, job, result));
    }

    /// Gives the place of a job to another one that is under way; whose place that one had.
    fn mix_up(&mut self, id: JobId) -> JobId {
        let Some((other, job)) = self.jobs.pop_first() else {
            return id;
        };
        self.jobs.insert(id, job);
        let at = self.world.now() + self.world.rng.span(JOB_TIME_MAX);
        self.net.agenda.add(at, Happening::JobDone(id));
        other
    }

    /// Whether a call would have to wait for the disk.
    fn waits(&mut self) -> bool {
        self.world.strikes(Fault::DiskCold)
    }
}

impl Disk for Sim {
    fn open_folder(&mut self, path: &Path) -> io::Result<File> {
        self.volume.open_folder(path)
    }

    fn open_configured(&mut self, path: &Path) -> io::Result<File> {
        self.volume.open_configured(path, &mut self.world)
    }

    fn open(&mut self, root: &File, path: &Path) -> io::Result<File> {
        self.volume.open(root, path, &mut self.world)
    }

    fn open_now(&mut self, root: &File, path: &Path) -> Option<io::Result<(File, Metadata)>> {
        if self.waits() {
            return None;
        }
        let opened = self.open(root, path).and_then(|file| {
            let metadata = self.metadata(&file)?;
            Ok((file, metadata))
        });
        Some(opened)
    }

    fn look_now(&mut self, root: &File, path: &Path) -> Option<io::Result<Metadata>> {
        (!self.waits()).then(|| self.look(root, path))
    }

    fn metadata_now(&mut self, file: &File) -> Option<io::Result<Metadata>> {
        (!self.waits()).then(|| self.metadata(file))
    }

    fn read_now(&mut self, file: &File, offset: u64, into: &mut [u8]) -> Option<io::Result<usize>> {
        (!self.waits()).then(|| self.read_full(file, offset, into))
    }

    fn is_in_memory(&mut self, _file: &File, _offset: u64, _len: u64, _now: Instant) -> bool {
        !self.waits()
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

    fn open_to_write(&mut self, root: &File, path: &Path) -> io::Result<File> {
        self.volume.open_to_write(root, path, &mut self.world)
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

    fn write_piped(
        &mut self,
        pipe: &Pipe,
        bytes: usize,
        file: &File,
        offset: u64,
    ) -> io::Result<usize> {
        let mut held = self.take_piped(pipe, bytes);
        let result = self.write_at(file, offset, &held);
        held.drain(..*result.as_ref().unwrap_or(&0));
        self.put_piped(pipe, held);
        result
    }

    fn enter(&mut self, root: &File, path: &Path) -> io::Result<File> {
        self.volume.enter(root, path, &mut self.world)
    }

    fn rename(
        &mut self,
        root: &File,
        from: &Path,
        to: (&File, &Path),
        replace: bool,
    ) -> io::Result<()> {
        self.volume.rename(root, from, to, replace, &mut self.world)
    }

    fn remove(&mut self, root: &File, path: &Path) -> io::Result<()> {
        self.volume.remove(root, path, &mut self.world)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        if self.planted(PlantedBug::SyncForgotten) {
            return Ok(());
        }
        self.volume.sync(file, &mut self.world)
    }

    fn reserve(&mut self, file: &File, len: u64) -> io::Result<bool> {
        self.volume.reserve(file, len, &mut self.world)
    }

    fn free_bytes(&mut self, root: &File) -> io::Result<u64> {
        self.volume.free_bytes(root)
    }

    fn entropy(&mut self, into: &mut [u8]) {
        self.world.rng.fill(into);
    }
}
