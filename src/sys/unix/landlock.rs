//! What the process may reach of the file system, kept by the kernel (`man 7 landlock`).
//!
//! Rules:
//! - What is granted is granted for good: the kernel takes away, never gives.
//! - It holds for the thread that asks for it, for those that it starts, and for commands. So it is
//!   asked for before the loop turns for the first time: until then there is one thread.
//! - Sockets, and what is open already, are not files by name: they go on.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};

/// The newest version that the rules below are written for; of an older kernel's, what there is.
const VERSION: ABI = ABI::V6;

/// Files, and folders with all below them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// What may be read.
    pub read: BTreeSet<PathBuf>,
    /// What may be written, made, removed and read.
    pub write: BTreeSet<PathBuf>,
    /// What programs may be run from, and read.
    pub execute: BTreeSet<PathBuf>,
}

/// What the kernel granted and keeps.
#[derive(Debug)]
pub struct Sandbox {
    /// As paths were found to lead when it was entered.
    granted: Reach,
    /// What the kernel does not keep the process from outside of that, because it is too old.
    pub unkept: Vec<&'static str>,
    /// What was to be granted and is not there.
    pub missing: Vec<PathBuf>,
}

impl Sandbox {
    /// Keeps the process to what it may reach; `None` where the kernel has no Landlock.
    ///
    /// # Errors
    /// A path that cannot be looked at, a kernel that refuses, or other threads, which would go on as
    /// they are.
    pub fn enter(reach: &Reach) -> io::Result<Option<Self>> {
        let others = threads()? - 1;
        if others > 0 {
            return Err(io::Error::other(format!(
                "{others} other threads run already"
            )));
        }
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(VERSION))
            .and_then(Ruleset::create)
            .map_err(io::Error::other)?;
        let mut missing = Vec::new();
        for (paths, access) in [
            (&reach.read, reading()),
            (&reach.write, writing()),
            (&reach.execute, reading() | AccessFs::Execute),
        ] {
            for path in paths {
                let open = match PathFd::new(path) {
                    Ok(open) => open,
                    Err(PathFdError::OpenCall { source, .. })
                        if source.kind() == io::ErrorKind::NotFound =>
                    {
                        missing.push(path.clone());
                        continue;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                };
                let access = match path.is_dir() {
                    true => access,
                    false => access & AccessFs::from_file(VERSION),
                };
                ruleset = ruleset
                    .add_rule(PathBeneath::new(open, access))
                    .map_err(io::Error::other)?;
            }
        }
        let status = ruleset.restrict_self().map_err(io::Error::other)?;
        if status.ruleset == RulesetStatus::NotEnforced {
            return Ok(None);
        }
        Ok(Some(Self {
            granted: reach.without(&missing).resolved(),
            unkept: unkept(&status.landlock),
            missing,
        }))
    }

    /// What is wanted and was not granted.
    pub fn refused(&self, wanted: &Reach) -> Vec<PathBuf> {
        let wanted = wanted.resolved();
        let Reach {
            read,
            write,
            execute,
        } = &self.granted;
        let all = |sets: &[&BTreeSet<PathBuf>], path: &Path| {
            let mut granted = sets.iter().copied().flatten();
            granted.any(|granted| path.starts_with(granted))
        };
        let refused_read = wanted
            .read
            .iter()
            .filter(|p| !all(&[read, write, execute], p));
        let refused_write = wanted.write.iter().filter(|p| !all(&[write], p));
        let refused_execute = wanted.execute.iter().filter(|p| !all(&[execute], p));
        let refused = refused_read.chain(refused_write).chain(refused_execute);
        refused.cloned().collect()
    }
}

impl Reach {
    fn without(&self, missing: &[PathBuf]) -> Self {
        let rest = |paths: &BTreeSet<PathBuf>| {
            let is_there = |path: &&PathBuf| !missing.contains(path);
            paths.iter().filter(is_there).cloned().collect()
        };
        Self {
            read: rest(&self.read),
            write: rest(&self.write),
            execute: rest(&self.execute),
        }
    }

    /// Where its paths lead. Of what is not there, the folder that is.
    fn resolved(&self) -> Self {
        let all = |paths: &BTreeSet<PathBuf>| paths.iter().map(|path| resolved(path)).collect();
        Self {
            read: all(&self.read),
            write: all(&self.write),
            execute: all(&self.execute),
        }
    }
}

/// Threads of this process. Those of io_uring are not counted: each does what it does as whoever
/// asked for it.
fn threads() -> io::Result<usize> {
    let mut count = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let name = std::fs::read_to_string(thread?.path().join("comm"))?;
        count += usize::from(!name.starts_with("iou-"));
    }
    Ok(count)
}

/// What each version added.
fn unkept(status: &LandlockStatus) -> Vec<&'static str> {
    let LandlockStatus::Available { effective_abi, .. } = status else {
        return Vec::new();
    };
    let added = [
        (ABI::V2, "renames between folders"),
        (ABI::V3, "truncation"),
        (ABI::V5, "ioctl on devices"),
    ];
    let missing = added.into_iter().filter(|(abi, _)| effective_abi < abi);
    missing.map(|(_, what)| what).collect()
}

fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for folder in absolute.ancestors() {
        if let Ok(found) = folder.canonicalize() {
            // Invariant: it is one of its ancestors.
            let rest = absolute.strip_prefix(folder).unwrap_or(Path::new(""));
            return found.join(rest);
        }
    }
    absolute
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// All but to run programs, and to make devices.
fn writing() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    AccessFs::from_all(VERSION) & !never
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_leads_where_it_would_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("it is there");
        std::os::unix::fs::symlink(&real, real.join("link")).expect("a link");
        assert_eq!(resolved(&real.join("link/a/b")), real.join("a/b"));
        assert_eq!(resolved(&real.join("link")), real);
    }

    #[test]
    fn what_was_not_granted_is_named() {
        let reach = |read: &[&str], write: &[&str]| Reach {
            read: read.iter().map(PathBuf::from).collect(),
            write: write.iter().map(PathBuf::from).collect(),
            execute: BTreeSet::new(),
        };
        let sandbox = Sandbox {
            granted: reach(&["/nowhere/site"], &["/nowhere/cache"]),
            unkept: Vec::new(),
            missing: Vec::new(),
        };
        let fits = reach(
            &["/nowhere/site/a", "/nowhere/cache"],
            &["/nowhere/cache/b"],
        );
        assert!(sandbox.refused(&fits).is_empty());
        let wants = reach(&["/nowhere/sites"], &["/nowhere/site"]);
        let refused = sandbox.refused(&wants);
        assert_eq!(
            refused,
            [Path::new("/nowhere/sites"), Path::new("/nowhere/site")]
        );
    }
}
