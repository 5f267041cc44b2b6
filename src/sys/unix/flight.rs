//! One job on its way through the rings: which operations it takes, and all memory that the kernel
//! may touch for them.
//!
//! ```text
//! open, create, look:   openat2 ──▶ what it is: at once on a local file system, else ──▶ statx
//! fill of a version:    statx, where others must be asked ──▶ read until it is full or at the end
//! read, write:          again until all bytes are there
//! all others:           one operation
//! ```

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use io_uring::opcode;
use io_uring::squeue::{self, Flags};
use io_uring::types::{Fd, OpenHow};
use rustix::fs::{AtFlags, OFlags, RenameFlags, Statx, StatxFlags};

use super::files::{
    BENEATH, RACES_MAX, beneath_flags, descriptor, disk_of, metadata_of, nonempty, stat_cached,
};
use super::threads::{Completed, Task};
use super::{Files, ends};
use crate::disk::{Disk, File, Handle, Metadata};
use crate::jobs::{Command, Done, Job, JobId, Query};

/// The most that one read or write is asked for; the kernel's own limit is just below 2 GiB.
const BYTES_MAX: usize = 1 << 30;
/// What becomes of a job.
pub(super) enum Next {
    Fly(Box<Flight>),
    Done(Completed),
    Help(Task),
}

/// A job, and all that the kernel may read or write for it.
pub(super) struct Flight {
    id: JobId,
    job: Job,
    step: Step,
    /// The descriptor that the job is about; its file is the job's.
    fd: RawFd,
    path: CString,
    new_path: CString,
    how: OpenHow,
    /// What a `Read` has read.
    bytes: Vec<u8>,
    stat: MaybeUninit<Statx>,
}

/// What the kernel is asked for.
enum Step {
    Open {
        tries: usize,
    },
    /// What is known of that which was opened, or else of the job's file.
    Stat {
        opened: Option<OwnedFd>,
    },
    /// So many bytes were read.
    Read {
        count: usize,
    },
    /// So many bytes were written.
    Write {
        count: usize,
    },
    /// What is in a pipe is moved.
    Splice,
    Sync,
    Rename,
    Remove,
}

impl Flight {
    /// What is to become of a new job.
    pub(super) fn plan(id: JobId, job: Job) -> Next {
        let mut flight = Box::new(Flight {
            id,
            job,
            step: Step::Sync,
            fd: -1,
            path: CString::default(),
            new_path: CString::default(),
            how: OpenHow::new(),
            bytes: Vec::new(),
            stat: MaybeUninit::zeroed(),
        });
        match flight.first_step() {
            // A helper says what is wrong with it.
            None => flight.help(None),
            Some(step) => {
                flight.step = step;
                flight.check_version()
            }
        }
    }

    /// The first step, with what it needs; `None` if there is none.
    fn first_step(&mut self) -> Option<Step> {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        let reading = OFlags::RDONLY | OFlags::NONBLOCK;
        let creating = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let open = Step::Open { tries: 0 };
        let (file, step) = match &self.job {
            Job::Query(Query::Open { root, path }) => {
                (self.path, self.how) = (text(nonempty(path))?, how(reading, 0));
                (root, open)
            }
            Job::Query(Query::Look { root, path }) => {
                (self.path, self.how) = (text(nonempty(path))?, how(OFlags::PATH, 0));
                (root, open)
            }
            Job::Command(Command::Create { root, path }) => {
                (self.path, self.how) = (text(nonempty(path))?, how(creating, 0o644));
                (root, open)
            }
            Job::Query(Query::Metadata { file }) => (file, Step::Stat { opened: None }),
            Job::Query(Query::Read { file, len, .. }) => {
                self.bytes = vec![0; *len];
                (file, Step::Read { count: 0 })
            }
            Job::Command(Command::Fill { file, .. }) => (file, Step::Read { count: 0 }),
            Job::Command(Command::Write { file, .. }) => (file, Step::Write { count: 0 }),
            Job::Command(Command::WritePiped { file, .. }) => (file, Step::Splice),
            Job::Query(Query::Sync { file }) => (file, Step::Sync),
            Job::Command(Command::Rename { root, from, to, .. }) => {
                (self.path, self.new_path) = (text(from)?, text(to)?);
                (root, Step::Rename)
            }
            Job::Command(Command::Remove { root, path }) => {
                self.path = text(path)?;
                (root, Step::Remove)
            }
            Job::Query(
                Query::Keeps { .. }
                | Query::Warm { .. }
                | Query::Checksum { .. }
                | Query::Configured { .. }
                | Query::Contents { .. }
                | Query::Names { .. }
                | Query::Free { .. }
                | Query::SyncNames { .. },
            )
            | Job::Command(
                Command::Append { .. }
                | Command::OpenLog { .. }
                | Command::Discard { .. }
                | Command::Take { .. }
                | Command::Leave { .. }
                | Command::Expire { .. }
                | Command::WriteBack { .. }
                | Command::Prepare { .. }
                | Command::Store { .. }
                | Command::Put { .. }
                | Command::Rewrite { .. }
                | Command::Prove { .. },
            ) => return None,
        };
        self.fd = descriptor(file).ok()?.as_raw_fd();
        Some(step)
    }

    /// A page that is filled only from a certain version of its file needs that looked at first.
    fn check_version(mut self: Box<Self>) -> Next {
        let Job::Command(Command::Fill { file, version, .. }) = &self.job else {
            return self.fly();
        };
        match version {
            Some(_) if file.is_slow() => {
                self.step = Step::Stat { opened: None };
                self.fly()
            }
            Some(version) => {
                let is_kept = Files::default().keeps_now(file, version);
                self.kept(is_kept)
            }
            None => self.fly(),
        }
    }

    /// The next operation.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        let fd = Fd(self.fd);
        let (path, new_path) = (self.path.as_ptr(), self.new_path.as_ptr());
        let entry = match &self.step {
            Step::Open { .. } => opcode::OpenAt2::new(fd, path, &raw const self.how).build(),
            Step::Stat { opened } => {
                let fd = opened.as_ref().map_or(fd, |opened| Fd(opened.as_raw_fd()));
                opcode::Statx::new(fd, c"".as_ptr(), self.stat.as_mut_ptr().cast())
                    .flags(AtFlags::EMPTY_PATH.bits().cast_signed())
                    .mask(StatxFlags::BASIC_STATS.bits())
                    .build()
            }
            Step::Read { count } => {
                let count = *count;
                let (offset, into) = reading(&mut self.job, &mut self.bytes);
                let into = &mut into[count..];
                let len = into.len().min(BYTES_MAX) as u32;
                opcode::Read::new(fd, into.as_mut_ptr(), len)
                    .offset(offset + count as u64)
                    .build()
            }
            Step::Write { count } => {
                let (offset, bytes) = writing(&self.job);
                let bytes = &bytes[*count..];
                let len = bytes.len().min(BYTES_MAX) as u32;
                opcode::Write::new(fd, bytes.as_ptr(), len)
                    .offset(offset + *count as u64)
                    .build()
            }
            Step::Splice => {
                let (offset, output, bytes) = splicing(&self.job);
                let len = bytes.min(BYTES_MAX) as u32;
                let offset = offset.cast_signed();
                opcode::Splice::new(Fd(output), -1, fd, offset, len).build()
            }
            Step::Sync => opcode::Fsync::new(fd).build(),
            Step::Rename => opcode::RenameAt::new(fd, path, fd, new_path)
                .flags(rename_flags(&self.job).bits())
                .build(),
            Step::Remove => opcode::UnlinkAt::new(fd, path).build(),
        };
        entry.flags(Flags::ASYNC)
    }

    /// The kernel has answered: a number, or an error below zero.
    #[allow(unsafe_code)]
    pub(super) fn land(mut self: Box<Self>, answer: i32) -> Next {
        let answer = match answer {
            0.. => Ok(answer.unsigned_abs()),
            _ => Err(answer.wrapping_neg()),
        };
        if answer == Err(libc::EINTR) {
            return self.fly();
        }
        match (&mut self.step, answer) {
            // As `files::retry_races`.
            (Step::Open { tries }, Err(libc::EAGAIN)) if *tries + 1 < RACES_MAX => {
                *tries += 1;
                self.fly()
            }
            (_, Err(code)) => self.done(Err(io::Error::from_raw_os_error(code))),
            (Step::Open { .. }, Ok(fd)) => {
                // SAFETY: the kernel has just opened it for this job, and tells of it once.
                let fd = unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) };
                self.was_opened(fd)
            }
            (Step::Stat { opened }, Ok(_)) => {
                let opened = opened.take();
                // SAFETY: the kernel has filled it; it was made of zeros, which are a value too.
                let stat = unsafe { self.stat.assume_init_read() };
                self.was_looked_at(opened, metadata_of(&stat))
            }
            (Step::Read { count }, Ok(more)) => {
                *count += more as usize;
                let count = *count;
                self.was_read(count, more == 0)
            }
            (Step::Write { .. } | Step::Splice, Ok(0)) => {
                self.done(Err(io::ErrorKind::WriteZero.into()))
            }
            (Step::Write { count }, Ok(more)) => {
                *count += more as usize;
                match *count < writing(&self.job).1.len() {
                    true => self.fly(),
                    false => self.done(Ok(Done::Nothing)),
                }
            }
            (Step::Splice, Ok(more)) => match spliced(&mut self.job, more as usize) {
                true => self.done(Ok(Done::Nothing)),
                false => self.fly(),
            },
            (Step::Sync | Step::Rename | Step::Remove, Ok(_)) => self.done(Ok(Done::Nothing)),
        }
    }

    /// What it is can be told at once, unless somebody else must be asked.
    fn was_opened(mut self: Box<Self>, fd: OwnedFd) -> Next {
        let stat = match stat_cached(&fd) {
            Ok(stat) => stat,
            Err(error) => return self.done(Err(error)),
        };
        let (Job::Query(Query::Open { root, .. } | Query::Look { root, .. })
        | Job::Command(Command::Create { root, .. })) = &self.job
        else {
            return self.help(None); // Invariant: others open nothing.
        };
        let is_same_disk = disk_of(&stat) == root.disk();
        if is_same_disk && !root.is_slow() {
            self.was_looked_at(Some(fd), metadata_of(&stat))
        } else if is_same_disk || matches!(self.job, Job::Query(Query::Look { .. })) {
            self.step = Step::Stat { opened: Some(fd) };
            self.fly()
        } else {
            self.help(Some(fd))
        }
    }

    fn was_looked_at(self: Box<Self>, opened: Option<OwnedFd>, metadata: Metadata) -> Next {
        match (&self.job, opened) {
            (
                Job::Query(Query::Open { root, .. }) | Job::Command(Command::Create { root, .. }),
                Some(fd),
            ) => {
                let file = File::new(Handle::Fd(fd), root.disk(), root.is_slow());
                self.done(Ok(Done::File(file, metadata)))
            }
            (Job::Command(Command::Fill { version, .. }), _) => {
                let is_kept = version.as_ref().and_then(|v| v.is_kept(&metadata));
                self.kept(is_kept)
            }
            _ => self.done(Ok(Done::Metadata(metadata))),
        }
    }

    /// Whether the file of a page that is to be filled keeps its version, as far as is known.
    fn kept(mut self: Box<Self>, is_kept: Option<bool>) -> Next {
        match is_kept {
            Some(true) => {
                self.step = Step::Read { count: 0 };
                self.fly()
            }
            Some(false) => self.done(Err(io::ErrorKind::StaleNetworkFileHandle.into())),
            None => self.help(None),
        }
    }

    fn was_read(mut self: Box<Self>, count: usize, is_end: bool) -> Next {
        if !is_end && count < reading(&mut self.job, &mut self.bytes).1.len() {
            return self.fly();
        }
        let done = match &mut self.job {
            Job::Command(Command::Fill { page, .. }) => {
                page.filled(count);
                Done::Count(count as u64)
            }
            _ => {
                self.bytes.truncate(count);
                Done::Bytes(std::mem::take(&mut self.bytes).into())
            }
        };
        self.done(Ok(done))
    }

    /// The kernel is asked for the step that is set; for no bytes it is not.
    fn fly(mut self: Box<Self>) -> Next {
        match self.step {
            Step::Read { count: 0 } if reading(&mut self.job, &mut self.bytes).1.is_empty() => {
                self.was_read(0, true)
            }
            Step::Write { count: 0 } if writing(&self.job).1.is_empty() => {
                self.done(Ok(Done::Nothing))
            }
            _ => Next::Fly(self),
        }
    }

    fn done(self: Box<Self>, result: io::Result<Done>) -> Next {
        Next::Done((self.id, self.job, result))
    }

    fn help(self: Box<Self>, opened: Option<OwnedFd>) -> Next {
        let (id, job) = (self.id, self.job);
        Next::Help(Task { id, job, opened })
    }
}

fn how(flags: OFlags, mode: u64) -> OpenHow {
    let flags = beneath_flags(flags);
    OpenHow::new()
        .flags(flags.bits().into())
        .mode(mode)
        .resolve(BENEATH.bits())
}

/// From where a job reads, and to where.
fn reading<'a>(job: &'a mut Job, bytes: &'a mut [u8]) -> (u64, &'a mut [u8]) {
    match job {
        Job::Command(Command::Fill {
            offset, len, page, ..
        }) => (*offset, page.space_of(*len)),
        Job::Query(Query::Read { offset, .. }) => (*offset, bytes),
        _ => (0, &mut []),
    }
}

/// Where a job writes, and what.
fn writing(job: &Job) -> (u64, &[u8]) {
    match job {
        Job::Command(Command::Write { offset, page, .. }) => (*offset, page.bytes()),
        _ => (0, &[]),
    }
}

/// To where a job moves what is in a pipe, from which descriptor, and how many bytes.
fn splicing(job: &Job) -> (u64, RawFd, usize) {
    match job {
        Job::Command(Command::WritePiped { offset, piped, .. }) => {
            let output = ends(&piped.pipe).map_or(-1, |(output, _)| output.as_raw_fd());
            (*offset, output, piped.bytes)
        }
        _ => (0, -1, 0),
    }
}

/// So many of them were moved; whether that was all.
fn spliced(job: &mut Job, count: usize) -> bool {
    let Job::Command(Command::WritePiped { offset, piped, .. }) = job else {
        return true; // Invariant: others move nothing.
    };
    *offset += count as u64;
    piped.bytes = piped.bytes.saturating_sub(count);
    piped.bytes == 0
}

fn rename_flags(job: &Job) -> RenameFlags {
    match job {
        Job::Command(Command::Rename { replace: false, .. }) => RenameFlags::NOREPLACE,
        _ => RenameFlags::empty(),
    }
}
