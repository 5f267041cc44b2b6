//! The simulated kernel: the same [`Sys`] as the real one, with time, chance and
//! everybody else inside.
//!
//! A simulation is determined by its seed: no thread, no real clock, no hashing order, no entropy
//! of the system. Time stands still while the reactor works; [`Sys::poll`] jumps
//! to the next thing that is due, lets it happen, lets the actors act, and tells the edges that
//! came of it. On the way it does to the reactor what a real kernel may do, only more often: see
//! [`faults`].
//!
//! ```text
//! poll: while nothing is to be told and the time-out lies ahead
//!           jump to the next due thing ─▶ net: segments, connections, datagrams ─▶ actors with news act
//! ```
//!
//! The modules in reading order: [`faults`], [`rng`], [`clock`], `ids`, `agenda` (what is due
//! when), `sockets` and `net` (streams), `datagrams`, [`volume`] (the disk), [`volume::power`]
//! (what is left of it when that fails), [`programs`] (commands that are run), [`actor`], [`talker`]
//! (a client for any protocol), [`asker`] (one that asks by datagrams), [`trace`].
//!
//! Deliberately not here: congestion, retransmission, addresses that route. What a test needs to
//! see of them is delay.

pub mod actor;
mod agenda;
pub mod asker;
pub mod clock;
mod datagrams;
mod disk;
pub mod faults;
mod ids;
mod kernel;
mod net;
pub mod programs;
pub mod rng;
mod sockets;
pub mod talker;
pub mod trace;
pub mod volume;
pub mod world;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use super::{Event, News, PlantedBug, Signal, Sys};
use crate::jobs::{Done, Job, JobId};
use actor::{Actor, Hands};
use agenda::Happening;
use clock::Clock;
use faults::{Fault, Faults};
pub use ids::{ActorId, End};
use ids::{Ear, Edges, Owner};
use net::Net;
use programs::Programs;
use rng::Rng;
pub use sockets::Stage;
use trace::Trace;
use volume::Volume;
use world::World;

/// System calls in one turn beyond which the reactor is taken to turn in circles.
const CALLS_PER_TURN_MAX: u32 = 1_000_000;
/// Closed sockets whose tokens are remembered, to tell events for them.
const DEAD_TOKENS_MAX: usize = 64;

/// The simulated kernel.
pub struct Sim {
    world: World,
    net: Net,
    volume: Volume,
    actors: Vec<Box<dyn Actor>>,
    actors_done: usize,
    signals: VecDeque<Signal>,
    draining: bool,
    /// Tokens of closed sockets, and whether no session can have them any more.
    dead_tokens: VecDeque<(u64, bool)>,
    stale_told: u64,
    planted: Option<PlantedBug>,
    calls: u32,
    /// What is in each pipe; `None` in one that was closed.
    pipes: Vec<Option<Vec<u8>>>,
    /// Jobs that are under way.
    jobs: BTreeMap<JobId, Job>,
    jobs_done: VecDeque<(JobId, Job, io::Result<Done>)>,
    /// When the first of those was done.
    job_done_at: Option<Duration>,
    programs: Programs,
    supervisor: Supervisor,
}

/// The service manager of the simulated process.
#[derive(Debug, Default)]
pub struct Supervisor {
    /// Within what time it wants to hear of the loop, if it does; to be set before there is one.
    pub watchdog: Option<Duration>,
    /// What it was told, in this order.
    pub told: Vec<News>,
    /// It takes nothing.
    pub is_deaf: bool,
}

impl Sim {
    /// A kernel that behaves, on an empty disk.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let net = Net {
            latency_max: Duration::from_micros(rng.sized(100_000) as u64),
            capacity_max: 256 << 10,
            next_port: 40_000,
            ..Net::default()
        };
        Self {
            world: World {
                clock: Clock::new(),
                rng,
                faults: Faults::none(),
                trace: Trace::default(),
            },
            net,
            volume: Volume::default(),
            actors: Vec::new(),
            actors_done: 0,
            signals: VecDeque::new(),
            draining: false,
            dead_tokens: VecDeque::new(),
            stale_told: 0,
            planted: None,
            calls: 0,
            pipes: Vec::new(),
            jobs: BTreeMap::new(),
            jobs_done: VecDeque::new(),
            job_done_at: None,
            programs: Programs::default(),
            supervisor: Supervisor::default(),
        }
    }

    /// Time, chance, mishap and memory.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// The disk.
    pub fn volume(&mut self) -> &mut Volume {
        &mut self.volume
    }

    /// The longest time on the wire, and the largest window in bytes; the smallest is a fiftieth of
    /// it.
    pub fn shape_network(&mut self, latency_max: Duration, window_bytes_max: usize) {
        self.net.latency_max = latency_max;
        self.net.capacity_max = window_bytes_max;
    }

    /// The service manager.
    pub fn supervisor(&mut self) -> &mut Supervisor {
        &mut self.supervisor
    }

    /// Makes the reactor behave as if it had this bug.
    pub fn plant(&mut self, bug: PlantedBug) {
        self.planted = Some(bug);
    }

    /// Somebody enters the world after a while.
    pub fn enter(&mut self, actor: impl Actor, after: Duration) -> ActorId {
        let id = ActorId(self.actors.len());
        self.actors_done += usize::from(actor.is_done());
        self.actors.push(Box::new(actor));
        self.net
            .agenda
            .add(self.world.now() + after, Happening::Wake(id));
        id
    }

    /// An actor, if it is of that type.
    pub fn actor<T: Actor>(&self, id: ActorId) -> Option<&T> {
        (self.actors.get(id.0)?.as_ref() as &dyn Any).downcast_ref()
    }

    /// All actors, in the order in which they entered.
    pub fn actors(&self) -> impl Iterator<Item = &dyn Actor> {
        self.actors.iter().map(AsRef::as_ref)
    }

    /// Whether everybody has done what they came for.
    pub fn actors_are_done(&self) -> bool {
        self.actors_done == self.actors.len()
    }

    /// Sends the process a signal after a while.
    pub fn send_signal(&mut self, signal: Signal, after: Duration) {
        let at = self.world.now() + after;
        self.net.agenda.add(at, Happening::Signal(signal));
    }

    /// The commands that the process has had run.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Whether the process was told to end.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Events that were told for sessions that had ended: each must have been recognised as stale.
    pub fn stale_told(&self) -> u64 {
        self.stale_told
    }

    /// The process died, its disk is what it was: takes it out, for the next process.
    pub fn take_volume(&mut self) -> Volume {
        std::mem::take(&mut self.volume).survive()
    }

    /// Listeners that accept connections.
    pub fn open_listeners(&self) -> usize {
        let listening = |l: &&sockets::Listener| l.open && l.owner == Owner::Process;
        self.net.listeners.iter().filter(listening).count()
    }

    /// What the process holds open: sockets of every kind and files. Empty when it has ended in
    /// good order.
    pub fn left_open(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for half in &self.net.halves {
            if half.owner == Owner::Process && !half.closed {
                left.push(format!("a connection with {}", half.address));
            }
        }
        let listeners = self.net.listeners.iter();
        left.extend(
            listeners
                .filter(|l| l.open && l.owner == Owner::Process)
                .map(|l| format!("a listener at {}", l.bind)),
        );
        let datagrams = self.net.datagrams.iter();
        left.extend(
            datagrams
                .filter(|d| d.open && d.owner == Owner::Process)
                .map(|d| format!("a datagram socket at {}", d.address)),
        );
        let pipes = self.pipes.iter().filter(|pipe| pipe.is_some());
        left.extend(pipes.map(|_| "a pipe".to_owned()));
        left
    }

    /// Jobs that the process started and has not taken back.
    pub fn jobs_under_way(&self) -> usize {
        self.jobs.len() + self.jobs_done.len()
    }

    /// How long a job has been done that the process has not taken back.
    pub fn job_waits(&self) -> Duration {
        let now = self.world.now();
        self.job_done_at.map_or(Duration::ZERO, |at| now - at)
    }

    /// The process has ended, and with it what it had under way on the disk.
    pub fn drop_jobs(&mut self) {
        self.jobs.clear();
        self.jobs_done.clear();
    }

    /// Everything that is due happens, and everybody with news acts.
    fn happen(&mut self) {
        // What the process did since the last poll is news to some already.
        self.act();
        while let Some(happening) = self.net.agenda.pop(self.world.now()) {
            self.happens(happening);
            self.act();
        }
    }

    fn happens(&mut self, happening: Happening) {
        let world = &mut self.world;
        match happening {
            Happening::Deliver(end) => self.net.deliver(end, world),
            Happening::Arrive(end, tries) => self.net.arrive(end, tries, world),
            Happening::Break(end) => self.net.break_connection(end, world),
            Happening::Wake(actor) => drop(self.net.woken.insert(actor)),
            Happening::Tell(Ear::Stream(end), edges) => self.net.notify(end, edges),
            Happening::Tell(Ear::Listener(index), _) => self.net.knock(index),
            Happening::Tell(Ear::Datagram(index), _) => self.net.tell_datagram(index),
            Happening::Datagram { to, from, bytes } => self.net.arrive_datagram(to, from, bytes),
            Happening::JobDone(id) => self.finish_job(id),
            Happening::Exited(id) => self.programs.end(id, world),
            Happening::Signal(signal) => {
                self.draining |= signal == Signal::Terminate;
                self.signals.push_back(signal);
            }
        }
    }

    /// Everybody with news acts.
    fn act(&mut self) {
        while let Some(id) = self.net.woken.pop_first() {
            let actor = &mut self.actors[id.0];
            let was_done = actor.is_done();
            actor.act(&mut Hands {
                me: id,
                net: &mut self.net,
                world: &mut self.world,
                volume: &mut self.volume,
                draining: self.draining,
            });
            match (was_done, actor.is_done()) {
                (false, true) => self.actors_done += 1,
                (true, false) => self.actors_done -= 1,
                _ => {}
            }
        }
    }

    /// Tells what is to be told.
    fn tell(&mut self, events: &mut Vec<Event>) {
        let batch = self.world.rng.sized(256);
        for _ in 0..self.net.ready.len().min(batch) {
            let Some(ear) = self.net.ready.pop_front() else {
                return;
            };
            let late = self.world.strikes(Fault::DelayedEvent);
            if late {
                let at = self.world.now() + self.world.rng.span(Duration::from_millis(50));
                self.net
                    .agenda
                    .add(at, Happening::Tell(ear, Edges::default()));
            }
            match ear {
                Ear::Listener(index) => {
                    let listener = &mut self.net.listeners[index];
                    listener.listed = false;
                    if listener.open && !late {
                        events.push(readable(listener.token));
                    }
                }
                Ear::Datagram(index) => {
                    let socket = &mut self.net.datagrams[index];
                    socket.listed = false;
                    if socket.open && !late {
                        events.push(readable(socket.token));
                    }
                }
                Ear::Stream(end) => {
                    self.net.half_mut(end).listed = false;
                    if !late {
                        self.tell_stream(end, events);
                    }
                }
            }
        }
    }

    fn tell_stream(&mut self, end: End, events: &mut Vec<Event>) {
        let half = self.net.half_mut(end);
        let edges = std::mem::take(&mut half.edges);
        let Some(token) = half.token else { return };
        if edges.is_empty() {
            return;
        }
        if !self.world.strikes(Fault::SplitEvent) {
            // As epoll does: whatever the edge was, everything that is possible is told.
            let level = self.net.level(end);
            events.push(Event {
                token,
                readable: level.read,
                writable: level.write,
                read_closed: level.closed,
            });
            return;
        }
        let read = Event {
            token,
            readable: edges.read,
            writable: false,
            read_closed: edges.closed,
        };
        let write = Event {
            token,
            readable: false,
            writable: true,
            read_closed: false,
        };
        match (edges.read, edges.write) {
            (true, false) => events.push(read),
            (false, _) => events.push(write),
            (true, true) if self.world.rng.coin() => events.extend([read, write]),
            (true, true) => {
                events.push(read);
                self.net.notify(end, Edges::WRITE); // by the next poll
            }
        }
    }

    /// Tells what is not so.
    fn lie(&mut self, events: &mut Vec<Event>) {
        if self.world.strikes(Fault::SpuriousEvent) {
            let halves = self.net.halves.iter();
            let tokens: Vec<u64> = halves.filter_map(|half| half.token).collect();
            if !tokens.is_empty() {
                let token = *self.world.rng.pick(&tokens);
                let (readable, writable) = (self.world.rng.coin(), self.world.rng.coin());
                events.push(Event {
                    token,
                    readable,
                    writable,
                    read_closed: false,
                });
            }
        }
        if !self.dead_tokens.is_empty() && self.world.strikes(Fault::StaleEvent) {
            let pick = self.world.rng.below(self.dead_tokens.len());
            let (token, gone) = self.dead_tokens[pick];
            self.stale_told += u64::from(gone);
            let closed = self.world.rng.coin();
            events.push(Event {
                token,
                readable: true,
                writable: true,
                read_closed: closed,
            });
        }
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        self.calls = 0;
        if self.volume.is_crashed() {
            return Err(io::Error::other("the process died"));
        }
        let until = timeout.map(|timeout| self.world.now() + timeout);
        let jobs_wake = !self.planted(PlantedBug::JobWakeLost);
        // Whatever a turn does takes some time.
        let turn = Duration::from_micros(self.world.rng.between(1, 20) as u64);
        self.world.clock.advance_to(self.world.now() + turn);
        if self.world.strikes(Fault::PollInterrupted) {
            return Ok(());
        }
        self.lie(events);
        let done = self.actors_done;
        loop {
            self.happen();
            self.tell(events);
            let now = self.world.now();
            if !events.is_empty()
                || !self.signals.is_empty()
                || (jobs_wake && !self.jobs_done.is_empty())
                || self.programs.are_ended()
                || self.actors_done != done
                || until.is_some_and(|until| until <= now)
            {
                return Ok(());
            }
            let next = match (self.net.agenda.next_at(), until) {
                (Some(next), Some(until)) => next.min(until),
                (next, until) => next.or(until).ok_or_else(|| {
                    io::Error::other("stalled: the reactor waits for ever, and nothing will happen")
                })?,
            };
            self.world.clock.advance_to(next);
        }
    }
}

fn readable(token: u64) -> Event {
    Event {
        token,
        readable: true,
        writable: false,
        read_closed: false,
    }
}
