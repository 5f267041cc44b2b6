//! Commands that are run beside the server.
//!
//! ```text
//! spawn ──▶ a thread: fork, exec ──▶ the poll wakes ──▶ its pidfd in the poll ──▶ the poll wakes ──▶ exited
//! ```
//!
//! The rules:
//! 1. A process is begun by a thread of its own, which does nothing else: `exec(2)` reads a file, so it
//!    may wait for a disk, and whoever forks waits for it (`CLONE_VFORK`).
//! 2. Its end is told by a pidfd in the same poll as the sockets, and then `waitid(2)` on it does not
//!    wait. Until then nobody else can get its number, so that a signal reaches no stranger.
//! 3. It leads a process group, which is killed as a whole.
//! 4. It gets the environment of this process but for what begins with
//!    [`VARIABLE_PREFIX`] and what a service manager told us, three descriptors that lead nowhere, and no
//!    other of ours: `exec` closes them.
//!
//! Nothing of it is there before the first command.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::supervisor;
use crate::hooks::{End, HookId, Program, VARIABLE_PREFIX};

/// The processes that were begun.
#[derive(Default)]
pub(super) struct Children {
    threads: Option<Threads>,
    /// Those that are being begun, and whether they are to be killed at once.
    beginning: BTreeMap<HookId, bool>,
    running: BTreeMap<HookId, Child>,
    ended: VecDeque<(HookId, End)>,
    /// The poll told of some of them.
    pub(super) told: bool,
}

/// How threads tell of what they began.
struct Threads {
    wake: Arc<OwnedFd>,
    done: Receiver<(HookId, io::Result<Child>)>,
    tell: Sender<(HookId, io::Result<Child>)>,
}

struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Threads {
    fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let readable = Interest::READABLE;
        poll.registry()
            .register(&mut SourceFd(&wake.as_raw_fd()), token, readable)?;
        let (tell, done) = mpsc::channel();
        Ok(Self {
            wake: Arc::new(wake),
            done,
            tell,
        })
    }

    /// Begins a process.
    fn begin(&self, id: HookId, program: Program) -> io::Result<()> {
        let (wake, tell) = (Arc::clone(&self.wake), self.tell.clone());
        let thread = thread::Builder::new().name("hook".to_owned());
        let begin = move || {
            // Whom this does not reach has ended.
            let _ = tell.send((id, Child::begin(&program)));
            let _ = write(&*wake, &1u64.to_ne_bytes());
        };
        thread.spawn(begin).map(drop)
    }
}

impl Child {
    fn begin(program: &Program) -> io::Result<Self> {
        // Invariant: a command has a program.
        let (name, arguments) = program.command.split_first().expect("a program");
        let mut command = Command::new(name);
        command.args(arguments);
        for (variable, _) in std::env::vars_os() {
            if variable
                .as_encoded_bytes()
                .starts_with(VARIABLE_PREFIX.as_bytes())
            {
                command.env_remove(variable);
            }
        }
        for variable in supervisor::VARIABLES {
            command.env_remove(variable);
        }
        command.envs(
            program
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { pid, pidfd }),
            Err(error) => {
                // Nobody could tell when it ends: so it does at once.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    fn kill(&self) {
        // Those of the group that are gone already are no failure.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }

    /// How it ended, if it has.
    fn end(&self) -> Option<End> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(None) | Err(Errno::INTR) => None,
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => End::Exited(code),
                (None, signal) => End::Signalled(signal.unwrap_or_default()),
            }),
            Err(error) => Some(End::NotStarted(error.into())), // somebody else took its end
        }
    }
}

impl Children {
    /// Begins a process, whose end is told by `poll` under `token`.
    pub(super) fn spawn(&mut self, id: HookId, program: Program, poll: &Poll, token: Token) {
        if self.threads.is_none() {
            match Threads::new(poll, token) {
                Ok(threads) => self.threads = Some(threads),
                Err(error) => return self.not_started(id, error),
            }
        }
        let begun = self
            .threads
            .as_ref()
            .map(|threads| threads.begin(id, program));
        match begun {
            Some(Err(error)) => self.not_started(id, error),
            _ => drop(self.beginning.insert(id, false)),
        }
    }

    fn not_started(&mut self, id: HookId, error: io::Error) {
        self.ended.push_back((id, End::NotStarted(error)));
        self.told = true;
    }

    /// Ends a process and those that it began.
    pub(super) fn kill(&mut self, id: HookId) {
        if let Some(child) = self.running.get(&id) {
            child.kill();
        } else if let Some(is_killed) = self.beginning.get_mut(&id) {
            *is_killed = true;
        }
    }

    /// One that ended.
    pub(super) fn exited(&mut self, poll: &Poll, token: Token) -> Option<(HookId, End)> {
        if std::mem::take(&mut self.told) {
            self.take_begun(poll, token);
            let ended = self.running.iter();
            let ended = ended.filter_map(|(id, child)| Some((*id, child.end()?)));
            let ended: Vec<_> = ended.collect();
            for (id, _) in &ended {
                self.running.remove(id); // closing its pidfd takes it out of the poll
            }
            self.ended.extend(ended);
        }
        self.ended.pop_front()
    }

    /// Takes those that the threads began.
    fn take_begun(&mut self, poll: &Poll, token: Token) {
        let Some(threads) = &self.threads else {
            return;
        };
        let mut count = [0; 8];
        let _ = read(&*threads.wake, &mut count); // all of it, or there was none
        while let Ok((id, begun)) = threads.done.try_recv() {
            let is_killed = self.beginning.remove(&id).unwrap_or_default();
            let registered = begun.and_then(|child| {
                let readable = Interest::READABLE;
                let pidfd = &mut SourceFd(&child.pidfd.as_raw_fd());
                let registered = poll.registry().register(pidfd, token, readable);
                if is_killed || registered.is_err() {
                    child.kill();
                }
                registered.map(|()| child)
            });
            match registered {
                Ok(child) => drop(self.running.insert(id, child)),
                Err(error) => self.ended.push_back((id, End::NotStarted(error))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    const TOKEN: Token = Token(7);

    /// A poll with the processes of a test.
    struct Bench {
        poll: Poll,
        events: mio::Events,
        children: Children,
        last_id: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                poll: Poll::new().expect("a poll"),
                events: mio::Events::with_capacity(8),
                children: Children::default(),
                last_id: 0,
            }
        }

        fn spawn(&mut self, command: &[&str], environment: &[(&'static str, &str)]) -> HookId {
            self.last_id += 1;
            let id = HookId(self.last_id);
            let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            let program = Program {
                command: command.into(),
                environment: environment
                    .iter()
                    .map(|&(name, value)| (name, value.into()))
                    .collect(),
            };
            self.children.spawn(id, program, &self.poll, TOKEN);
            id
        }

        /// The next one that ends, told by the poll.
        fn exited(&mut self) -> (HookId, String) {
            let end = Instant::now() + Duration::from_secs(60);
            loop {
                if let Some((id, end)) = self.children.exited(&self.poll, TOKEN) {
                    return (id, end.to_string());
                }
                assert!(Instant::now() < end, "nothing ends");
                let wait = Some(Duration::from_secs(60));
                if self.poll.poll(&mut self.events, wait).is_ok() {
                    self.children.told |= self.events.iter().any(|event| event.token() == TOKEN);
                }
            }
        }
    }

    fn sh(script: &str) -> [&str; 3] {
        ["/bin/sh", "-c", script]
    }

    #[test]
    fn each_end_is_told_as_it_was() {
        let mut bench = Bench::new();
        for (command, told) in [
            (&["true"][..], "ended with code 0"),
            (&sh("exit 3"), "ended with code 3"),
            (&sh("kill -SEGV $$"), "ended by signal 11"),
            (
                &["/nonexistent/program"],
                "cannot be run: No such file or directory (os error 2)",
            ),
            (&["/"], "cannot be run: Permission denied (os error 13)"),
        ] {
            let id = bench.spawn(command, &[]);
            assert_eq!(bench.exited(), (id, told.to_owned()), "{command:?}");
        }
        assert!(bench.children.running.is_empty() && bench.children.beginning.is_empty());
    }

    #[test]
    fn it_has_its_variables_and_leads_a_group() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let mut bench = Bench::new();
        let script =
            "{ echo \"$NETLAB_FACT\"; ps -o pgid= -p $$ | tr -d ' '; echo $$; } > $NETLAB_OUT";
        let facts = [
            ("NETLAB_FACT", "$(rm -rf x); \"quoted\""),
            ("NETLAB_OUT", out.to_str().expect("UTF-8")),
        ];
        bench.spawn(&sh(script), &facts);
        assert_eq!(bench.exited().1, "ended with code 0");
        let text = fs::read_to_string(&out).expect("a file");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "$(rm -rf x); \"quoted\"");
        assert_eq!(lines[1], lines[2], "{text}");
    }

    #[test]
    fn one_that_is_killed_takes_those_along_that_it_began() {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = folder.path().join("pids");
        let mut bench = Bench::new();
        let script =
            "sleep 600 & echo $! $$ > $NETLAB_OUT.new; mv $NETLAB_OUT.new $NETLAB_OUT; wait";
        let id = bench.spawn(
            &sh(script),
            &[("NETLAB_OUT", pids.to_str().expect("UTF-8"))],
        );
        while !pids.exists() {
            bench.children.told = true;
            assert!(bench.children.exited(&bench.poll, TOKEN).is_none());
            thread::sleep(Duration::from_millis(5));
        }
        bench.children.kill(id);
        assert_eq!(bench.exited(), (id, "ended by signal 9".to_owned()));
        let text = fs::read_to_string(&pids).expect("a file");
        for pid in text.split_whitespace() {
            let stat = Path::new("/proc").join(pid).join("stat");
            let is_gone = || match fs::read_to_string(&stat) {
                Ok(stat) => stat.contains(") Z ") || stat.contains(") X "),
                Err(_) => true,
            };
            let end = Instant::now() + Duration::from_secs(60);
            while !is_gone() {
                assert!(Instant::now() < end, "{pid} lives on");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn one_that_is_killed_while_it_is_begun_ends() {
        let mut bench = Bench::new();
        let id = bench.spawn(&["sleep", "600"], &[]);
        bench.children.kill(id);
        assert_eq!(bench.exited(), (id, "ended by signal 9".to_owned()));
    }
}
