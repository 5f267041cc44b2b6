//! The files that names depend on, `resolv.conf` and `hosts`: looked at again while names are asked
//! for, by jobs for the disk, so that the loop does not wait.
//!
//! The rules:
//! 1. A file is looked at every [`Sources::reread_interval`] at most, and only if a name was asked
//!    for since: who asks for nothing makes no work.
//! 2. A change counts once it has lasted for [`SETTLE`], or a file that is being written would be
//!    taken for what it is half way.
//! 3. What cannot be read, or says nothing ([`Sources::config_again`]), changes nothing.
//!
//! A file:
//! ```text
//!            a name was asked for            another version
//!  Resting ----------------------> Looking ------------------> Settling --(a moment passed)--+
//!     ^                              |  ^                                                    |
//!     +--- the same, or no file -----+  +----------------------------------------------------+
//!     +--- the same as before it settled: taken
//! ```
//! What was asked for meanwhile is answered by what was known before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::disk::{Disk, File, Metadata};
use crate::dns::{Hosts, Resolver, Sources};
use crate::jobs::{Done, Jobs, Query, Ticket};
use crate::service::{Id, Waiter};

/// How long a file has to stay as it is before it counts.
const SETTLE: Duration = Duration::from_millis(250);
/// The largest file that is read again, in bytes: what is in it is understood in one step of the
/// loop. A larger one is read at start and at SIGHUP.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Both files.
#[derive(Debug, Default)]
pub(super) struct NameFiles {
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    sources: Sources,
    resolv_conf: Option<Watched>,
    hosts: Option<Watched>,
    /// How many names had been asked for when the files were looked at last.
    asked: u64,
    next_look: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    /// The folder that it is in: on its disk the jobs wait.
    folder: File,
    path: PathBuf,
    /// The version that counts, once one was read.
    taken: Option<Metadata>,
    stage: Stage,
    /// It could not be read, and the log says so.
    is_told: bool,
}

/// A version that was read.
#[derive(Debug)]
struct Seen {
    bytes: Arc<[u8]>,
    metadata: Metadata,
}

#[derive(Debug)]
enum Stage {
    Resting,
    /// It is being looked at; what it was a moment ago, if that is news.
    Looking(Ticket, Option<Seen>),
    Settling(Seen, Instant),
}

impl NameFiles {
    /// Watches these files from now on, whose contents the resolver has.
    pub(super) fn watch(&mut self, sources: Sources, disk: &mut dyn Disk, jobs: &mut Jobs<Waiter>) {
        self.end(jobs);
        if sources.reread_interval.is_zero() {
            return;
        }
        let resolv_conf = sources.resolv_conf.as_deref();
        self.watch = Some(Watch {
            resolv_conf: resolv_conf.and_then(|path| Watched::new(path, disk)),
            hosts: Watched::new(&sources.hosts, disk),
            sources,
            asked: 0,
            next_look: None,
        });
    }

    /// Watches nothing any more.
    pub(super) fn end(&mut self, jobs: &mut Jobs<Waiter>) {
        self.watch = None;
        jobs.forget(Waiter::NameFiles);
    }

    /// Looks at the files if it is time, and gives the resolver what has changed. `interface`: as
    /// [`Sources::config`] has it.
    pub(super) fn serve(
        &mut self,
        jobs: &mut Jobs<Waiter>,
        resolver: &mut Resolver<Id>,
        now: Instant,
        mut interface: impl FnMut(&str) -> Option<u32>,
    ) {
        let Some(watch) = &mut self.watch else {
            return;
        };
        let asked = resolver.asked();
        let is_due = asked != watch.asked && watch.next_look.is_none_or(|at| at <= now);
        if is_due {
            watch.asked = asked;
            watch.next_look = Some(now + watch.sources.reread_interval);
        }
        if let Some(file) = &mut watch.resolv_conf
            && let Some(text) = file.advance(is_due, jobs, now)
        {
            match watch.sources.config_again(&text, &mut interface) {
                Some(config) => {
                    if resolver.set_config(config) {
                        log::info!("resolver: {} has changed", file.path.display());
                    }
                }
                None => log::warn!(
                    "resolver: {} names no server any more; all stays as it was",
                    file.path.display()
                ),
            }
        }
        if let Some(file) = &mut watch.hosts
            && let Some(text) = file.advance(is_due, jobs, now)
            && resolver.set_hosts(Hosts::parse(&text))
        {
            log::info!("resolver: {} has changed", file.path.display());
        }
    }

    /// When a file is to be looked at, whether or not names are asked for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let watch = self.watch.as_ref()?;
        let files = watch.resolv_conf.iter().chain(&watch.hosts);
        let moments = files.filter_map(|file| match file.stage {
            Stage::Settling(_, until) => Some(until),
            Stage::Resting | Stage::Looking(..) => None,
        });
        moments.min()
    }
}

impl Watched {
    /// A file; `None` if there is no folder for it.
    fn new(path: &Path, disk: &mut dyn Disk) -> Option<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        match disk.open_folder(folder) {
            Ok(folder) => Some(Self {
                folder,
                path: path.to_owned(),
                taken: None,
                stage: Stage::Resting,
                is_told: false,
            }),
            Err(error) => {
                let path = path.display();
                log::info!("resolver: {path} is not looked at for changes: {error}");
                None
            }
        }
    }

    /// Looks at the file if that `is_due`, or if it had time to settle; its text, if it is another
    /// one now.
    fn advance(&mut self, is_due: bool, jobs: &mut Jobs<Waiter>, now: Instant) -> Option<String> {
        match std::mem::replace(&mut self.stage, Stage::Resting) {
            Stage::Resting if is_due => self.look(None, jobs, now),
            Stage::Resting => {}
            Stage::Settling(seen, until) if until <= now => self.look(Some(seen), jobs, now),
            Stage::Looking(ticket, seen) => match jobs.take(&ticket) {
                Poll::Pending => self.stage = Stage::Looking(ticket, seen),
                Poll::Ready(finished) => return self.looked(finished.result, seen, now),
            },
            settling @ Stage::Settling(..) => self.stage = settling,
        }
        None
    }

    fn look(&mut self, seen: Option<Seen>, jobs: &mut Jobs<Waiter>, now: Instant) {
        let before = seen.as_ref().map(|seen| seen.metadata);
        let query = Query::Configured {
            beside: self.folder.clone(),
            path: self.path.clone(),
            was: before.or(self.taken),
            bytes_max: FILE_BYTES_MAX,
        };
        match jobs.start(Waiter::NameFiles, query, now) {
            Ok(ticket) => self.stage = Stage::Looking(ticket, seen),
            Err(refused) => log::debug!("{}: {:?}", self.path.display(), refused.result.err()),
        }
    }

    /// What looking at it came to.
    fn looked(
        &mut self,
        result: std::io::Result<Done>,
        seen: Option<Seen>,
        now: Instant,
    ) -> Option<String> {
        match result.and_then(Done::into_configured) {
            Ok(None) => {
                let seen = seen?;
                self.taken = Some(seen.metadata);
                Some(String::from_utf8_lossy(&seen.bytes).into_owned())
            }
            Ok(Some((bytes, metadata))) => {
                self.is_told = false;
                self.stage = Stage::Settling(Seen { bytes, metadata }, now + SETTLE);
                None
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_told, true) {
                    let path = self.path.display();
                    log::info!("resolver: {path}: {error}; what was in it holds");
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
