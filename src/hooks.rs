//! Commands that are run when something happened: a file was stored, a sender of heartbeats is dead.
//!
//! ```text
//! asked ──▶ Waiting ──there is room──▶ Running ──it ended, or was killed after its time──▶ gone
//!    └── too many wait: dropped, and counted
//! ```
//!
//! The rules:
//! 1. A command is a program and its arguments, never a line for a shell; what happened stands in its
//!    environment. So nothing that a peer sent is ever read as a command.
//! 2. At most [`HookLimits::running_max`] run at once, and at most [`HookLimits::waiting_max`] of each
//!    listener wait, the listeners in turn: one that has much to tell leaves room for the others. What
//!    is beyond that is dropped; the log tells how many, once a second.
//! 3. One that takes longer than [`HookLimits::timeout`] is killed, with the processes that it began.
//! 4. Nobody waits for a command: what it comes to is counted and logged, and changes nothing.
//!
//! This machine is pure: it begins no process and reads no clock. Its carrier is `reactor::hooks`, and
//! the doors are [`Sys::spawn`](crate::sys::Sys::spawn), `kill` and `exited`.
//!
//! Not here: what is told of an event; that is its service's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::HookLimits;
use crate::shares::InTurn;

/// What begins the names of our variables; those of this process that begin with it are its own
/// settings, secrets among them, and are not passed on.
pub const VARIABLE_PREFIX: &str = "NETLAB_";

/// How often the log tells of commands that were dropped.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A command of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// When it is run: the key that names it, such as `on_change`.
    pub event: &'static str,
    /// The program and its arguments; never empty.
    pub command: Arc<[String]>,
}

impl Hook {
    /// To be run because of these facts, as variables of its environment.
    pub fn call(&self, facts: Vec<(&'static str, OsString)>) -> Call {
        Call {
            hook: self.clone(),
            facts,
        }
    }
}

/// A command that is to be run.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    hook: Hook,
    facts: Vec<(&'static str, OsString)>,
}

/// What is to be run, as the kernel is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments; never empty.
    pub command: Arc<[String]>,
    /// Variables beside those of this process.
    pub environment: Vec<(&'static str, OsString)>,
}

/// Names a command to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookId(pub u64);

/// How a command ended.
#[derive(Debug)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// It could not be run.
    NotStarted(io::Error),
}

/// What was counted of commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that were begun.
    pub started: u64,
    /// Those that failed, in the order of [`Fault::ALL`].
    pub failed: [u64; Fault::ALL.len()],
    /// Those that were dropped because too many waited.
    pub dropped: u64,
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It could not be run.
    NotStarted,
    /// It ended with another code than 0.
    Code,
    /// A signal ended it.
    Signal,
    /// It took too long, and was killed.
    TimedOut,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [
        Fault::NotStarted,
        Fault::Code,
        Fault::Signal,
        Fault::TimedOut,
    ];

    /// As a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Fault::NotStarted => "not_started",
            Fault::Code => "code",
            Fault::Signal => "signal",
            Fault::TimedOut => "timed_out",
        }
    }
}

/// One that waits or runs.
struct Entry {
    /// Whose it is, for the log.
    listener: Arc<str>,
    call: Call,
}

struct Running {
    entry: Entry,
    since: Instant,
    /// It was told to end.
    is_killed: bool,
}

/// All commands that wait or run.
pub struct Hooks {
    limits: HookLimits,
    /// Those that wait, by listener.
    waiting: InTurn<Entry, usize>,
    /// How many of each.
    waiting_of: BTreeMap<usize, usize>,
    running: BTreeMap<HookId, Running>,
    last_id: u64,
    counts: Counts,
    /// Dropped ones that the log does not know of yet, and when it was told last.
    untold: u64,
    told_at: Option<Instant>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self::new(HookLimits::default())
    }
}

impl Hooks {
    /// None.
    pub fn new(limits: HookLimits) -> Self {
        Self {
            limits,
            waiting: InTurn::default(),
            waiting_of: BTreeMap::new(),
            running: BTreeMap::new(),
            last_id: 0,
            counts: Counts::default(),
            untold: 0,
            told_at: None,
        }
    }

    /// Other limits, for what is asked and begun from now on.
    pub fn set_limits(&mut self, limits: HookLimits) {
        self.limits = limits;
    }

    /// Something happened to the listener at this place, which has this name.
    pub fn ask(&mut self, listener: usize, name: &str, call: Call, now: Instant) {
        let waiting = self.waiting_of.entry(listener).or_default();
        if *waiting >= self.limits.waiting_max {
            self.counts.dropped += 1;
            self.untold += 1;
            if self.told_at.is_none_or(|at| now >= at + TOLD_EVERY) {
                self.told_at = Some(now);
                let (count, event) = (std::mem::take(&mut self.untold), call.hook.event);
                log::error!("{name}: {event}: {count} dropped: too many commands wait");
            }
            return;
        }
        *waiting += 1;
        let listener_name = name.into();
        self.waiting.push(
            listener,
            Entry {
                listener: listener_name,
                call,
            },
        );
    }

    /// The next one that is to be run now.
    pub fn poll_start(&mut self, now: Instant) -> Option<(HookId, Program)> {
        if self.running.len() >= self.limits.running_max {
            return None;
        }
        let (listener, mut entry) = self.waiting.pop()?;
        if let Some(waiting) = self.waiting_of.get_mut(&listener) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting_of.remove(&listener);
            }
        }
        self.last_id += 1;
        self.counts.started += 1;
        let id = HookId(self.last_id);
        let Call { hook, facts } = &mut entry.call;
        let mut environment = std::mem::take(facts);
        environment.push(("NETLAB_EVENT", hook.event.into()));
        environment.push(("NETLAB_LISTENER", (&*entry.listener).into()));
        let command = Arc::clone(&hook.command);
        let running = Running {
            entry,
            since: now,
            is_killed: false,
        };
        self.running.insert(id, running);
        Some((
            id,
            Program {
                command,
                environment,
            },
        ))
    }

    /// The next one that has taken too long, and is to be killed.
    pub fn poll_kill(&mut self, now: Instant) -> Option<HookId> {
        let timeout = self.limits.timeout;
        let late = |running: &&mut Running| !running.is_killed && now >= running.since + timeout;
        let mut all = self.running.iter_mut();
        let (id, running) = all.find(|(_, running)| late(running))?;
        running.is_killed = true;
        Some(*id)
    }

    /// One has ended.
    pub fn exited(&mut self, id: HookId, end: &End, now: Instant) {
        let Some(running) = self.running.remove(&id) else {
            debug_assert!(false, "a command that nobody began");
            return;
        };
        let took = now.saturating_duration_since(running.since);
        let fault = match end {
            End::Exited(0) if !running.is_killed => None,
            End::NotStarted(_) => Some(Fault::NotStarted),
            End::Exited(_) | End::Signalled(_) if running.is_killed => Some(Fault::TimedOut),
            End::Exited(_) => Some(Fault::Code),
            End::Signalled(_) => Some(Fault::Signal),
        };
        let Entry { listener, call } = &running.entry;
        let Hook { event, command } = &call.hook;
        let (program, took) = (&command[0], took.as_secs_f64());
        let Some(fault) = fault else {
            return log::debug!("{listener}: {event}: {program:?} ended in {took:.3} s");
        };
        self.counts.failed[fault as usize] += 1;
        let killed = match fault {
            Fault::TimedOut => "killed after ",
            _ => "after ",
        };
        log::error!("{listener}: {event}: {program:?}: {end}, {killed}{took:.3} s");
    }

    /// When the next one has taken too long.
    pub fn deadline(&self) -> Option<Instant> {
        let counting = self.running.values().filter(|running| !running.is_killed);
        counting
            .map(|running| running.since + self.limits.timeout)
            .min()
    }

    /// Whether none waits or runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// How many wait, and how many run.
    pub fn under_way(&self) -> (usize, usize) {
        (self.waiting.len(), self.running.len())
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(f, "ended with code {code}"),
            End::Signalled(signal) => write!(f, "ended by signal {signal}"),
            End::NotStarted(error) => write!(f, "cannot be run: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hooks(running_max: usize, waiting_max: usize) -> Hooks {
        Hooks::new(HookLimits {
            running_max,
            waiting_max,
            timeout: Duration::from_secs(60),
        })
    }

    fn call(what: &str) -> Call {
        let hook = Hook {
            event: "on_change",
            command: ["/bin/tell".to_owned(), "it".to_owned()].into(),
        };
        hook.call(vec![("NETLAB_CHANGE", what.into())])
    }

    /// What the commands are told that may run now.
    fn started(hooks: &mut Hooks, now: Instant) -> Vec<(HookId, String)> {
        let programs = std::iter::from_fn(|| hooks.poll_start(now));
        let told = |(id, program): (HookId, Program)| {
            let (name, value) = &program.environment[0];
            assert_eq!(*name, "NETLAB_CHANGE");
            (id, value.to_string_lossy().into_owned())
        };
        programs.map(told).collect()
    }

    #[test]
    fn a_command_gets_its_facts_and_whose_they_are() {
        let (mut hooks, now) = (hooks(1, 1), Instant::now());
        hooks.ask(0, "beats", call("dead"), now);
        let (_, program) = hooks.poll_start(now).expect("it may run");
        assert_eq!(&program.command[..], ["/bin/tell", "it"]);
        let expected = [
            ("NETLAB_CHANGE", "dead"),
            ("NETLAB_EVENT", "on_change"),
            ("NETLAB_LISTENER", "beats"),
        ];
        assert_eq!(
            program.environment,
            expected.map(|(name, value)| (name, value.into()))
        );
        assert!(
            program
                .environment
                .iter()
                .all(|(name, _)| name.starts_with(VARIABLE_PREFIX))
        );
    }

    #[test]
    fn so_many_run_at_once_and_the_listeners_take_turns() {
        let (mut hooks, now) = (hooks(2, 3), Instant::now());
        for what in ["a", "b", "c", "d"] {
            hooks.ask(0, "one", call(what), now);
        }
        hooks.ask(7, "two", call("x"), now);
        assert_eq!(hooks.counts().dropped, 1, "the fourth of one");
        let first = started(&mut hooks, now);
        assert_eq!(
            first.iter().map(|(_, what)| &what[..]).collect::<Vec<_>>(),
            ["a", "x"]
        );
        assert_eq!(hooks.under_way(), (2, 2));
        hooks.exited(first[0].0, &End::Exited(0), now);
        assert_eq!(started(&mut hooks, now)[0].1, "b");
        hooks.ask(0, "one", call("e"), now);
        assert_eq!((hooks.counts().dropped, hooks.counts().started), (1, 3));
    }

    #[test]
    fn one_that_takes_too_long_is_killed_once_and_counted() {
        let (mut hooks, now) = (hooks(4, 4), Instant::now());
        hooks.ask(0, "one", call("a"), now);
        let id = started(&mut hooks, now)[0].0;
        let until = now + Duration::from_secs(60);
        assert_eq!(hooks.deadline(), Some(until));
        assert_eq!(hooks.poll_kill(until - Duration::from_millis(1)), None);
        assert_eq!(hooks.poll_kill(until), Some(id));
        assert_eq!(hooks.poll_kill(until), None);
        assert_eq!(hooks.deadline(), None);
        hooks.exited(id, &End::Signalled(9), until);
        assert!(hooks.is_idle());
        let counts = hooks.counts();
        assert_eq!(counts.failed[Fault::TimedOut as usize], 1);
        assert_eq!(counts.failed.iter().sum::<u64>(), 1);
    }

    #[test]
    fn each_way_to_fail_is_counted_and_none_is_no_failure() {
        let (mut hooks, now) = (hooks(4, 4), Instant::now());
        let ends = [
            End::Exited(0),
            End::Exited(3),
            End::Signalled(11),
            End::NotStarted(io::ErrorKind::NotFound.into()),
        ];
        for end in ends {
            hooks.ask(0, "one", call("a"), now);
            let id = started(&mut hooks, now)[0].0;
            hooks.exited(id, &end, now);
        }
        assert_eq!(hooks.counts().failed, [1, 1, 1, 0]);
    }

    proptest! {
        #[test]
        fn none_is_lost_and_no_bound_is_exceeded(
            steps in proptest::collection::vec((0usize..4, 0usize..3), 0..200),
            running_max in 1usize..4,
            waiting_max in 0usize..4,
        ) {
            let (mut hooks, mut now) = (hooks(running_max, waiting_max), Instant::now());
            let (mut running, mut asked, mut ended) = (Vec::new(), 0, 0);
            for (step, which) in steps {
                match step {
                    0 => {
                        hooks.ask(which, "x", call("y"), now);
                        asked += 1;
                    }
                    1 => running.extend(started(&mut hooks, now).into_iter().map(|(id, _)| id)),
                    2 if !running.is_empty() => {
                        let id = running.swap_remove(which % running.len());
                        hooks.exited(id, &End::Exited(0), now);
                        ended += 1;
                    }
                    _ => now += Duration::from_secs(30),
                }
                while hooks.poll_kill(now).is_some() {}
                let (waits, runs) = hooks.under_way();
                prop_assert_eq!(runs, running.len());
                prop_assert!(runs <= running_max && waits <= 3 * waiting_max);
                let all = hooks.counts().dropped as usize + waits + runs + ended;
                prop_assert_eq!(all, asked);
            }
        }
    }
}
