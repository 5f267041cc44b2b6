//! Commands that the process has run: each takes a while, or cannot be run, or never ends by itself.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use super::agenda::{Agenda, Happening};
use super::faults::Fault;
use super::world::World;
use crate::hooks::{End, HookId, Program};

/// How long a command takes, and how long until one that is killed is gone.
const TIME_MAX: Duration = Duration::from_secs(3);
const DEATH_MAX: Duration = Duration::from_millis(20);

/// What the process has run.
#[derive(Default)]
pub struct Programs {
    /// All that were begun, in their order.
    pub begun: Vec<Program>,
    /// The most that ran at once.
    pub at_once_max: usize,
    /// How many were killed.
    pub killed: usize,
    running: BTreeMap<HookId, Fate>,
    ended: VecDeque<(HookId, End)>,
}

/// How one is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ends,
    Fails,
    NeverBegins,
    Killed,
}

impl Programs {
    pub(super) fn spawn(
        &mut self,
        id: HookId,
        program: Program,
        world: &mut World,
        agenda: &mut Agenda,
    ) {
        world.note(|| format!("{id:?}: {program:?}"));
        self.begun.push(program);
        let fate = match world.strikes(Fault::JobFails) {
            true if world.rng.coin() => Fate::NeverBegins,
            true => Fate::Fails,
            false => Fate::Ends,
        };
        // Where the disk is slow, so is a command: it hangs until it is killed.
        if fate == Fate::NeverBegins || !world.strikes(Fault::JobSlow) {
            let at = world.now() + world.rng.span(TIME_MAX);
            agenda.add(at, Happening::Exited(id));
        }
        self.running.insert(id, fate);
        self.at_once_max = self.at_once_max.max(self.running.len());
    }

    pub(super) fn kill(&mut self, id: HookId, world: &mut World, agenda: &mut Agenda) {
        if let Some(fate) = self.running.get_mut(&id) {
            world.note(|| format!("{id:?} is killed"));
            self.killed += 1;
            *fate = Fate::Killed;
            let at = world.now() + world.rng.span(DEATH_MAX);
            agenda.add(at, Happening::Exited(id));
        }
    }

    /// It has come to its end; one that was killed may have by itself just before.
    pub(super) fn end(&mut self, id: HookId, world: &mut World) {
        let Some(fate) = self.running.remove(&id) else {
            return;
        };
        let end = match fate {
            Fate::Ends => End::Exited(0),
            Fate::Fails => End::Exited(1),
            Fate::NeverBegins => End::NotStarted(io::ErrorKind::NotFound.into()),
            Fate::Killed => End::Signalled(libc::SIGKILL),
        };
        world.note(|| format!("{id:?} {end}"));
        self.ended.push_back((id, end));
    }

    pub(super) fn exited(&mut self) -> Option<(HookId, End)> {
        self.ended.pop_front()
    }

    pub(super) fn are_ended(&self) -> bool {
        !self.ended.is_empty()
    }
}
