//! Stream sockets: pairs of bounded byte queues with a wire in between that takes its time.
//!
//! ```text
//! write ──▶ in flight (each segment due later than the one before) ──▶ arrived ──▶ read
//!           └──────────── together at most `capacity`: the window ───────────┘
//! ```
//!
//! Both ends are alike; one belongs to the reactor, the other to an [actor](super::actor), or both
//! to either. Edges are made as epoll makes them for `EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET`
//! (`man 7 epoll`):
//! - one on every arrival, even if there is unread data;
//! - one on freed room, but only after a write was short or would have blocked;
//! - one on the end of the stream, one on a broken connection;
//! - one for whatever is possible when the socket is registered.
//!
//! As in TCP, closing an end with unread bytes, or sending to a closed one, breaks the connection,
//! and the break may overtake what its peer has not read yet (RFC 1122 section 4.2.2.13).

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::agenda::{Agenda, Happening};
use super::faults::Fault;
use super::ids::{ActorId, Ear, Edges, End, Owner};
use super::sockets::{DatagramSocket, Half, Listener, Segment, Stage};
use super::world::World;
use crate::sys::Bind;

/// The simulated network.
#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) halves: Vec<Half>,
    pub(super) listeners: Vec<Listener>,
    pub(super) datagrams: Vec<DatagramSocket>,
    pub(super) agenda: Agenda,
    /// Those with edges that were not told yet, in the order of the edges.
    pub(super) ready: VecDeque<Ear>,
    /// Actors with news.
    pub(super) woken: BTreeSet<ActorId>,
    /// The longest time on the wire.
    pub(super) latency_max: Duration,
    /// The largest window.
    pub(super) capacity_max: usize,
    pub(super) next_port: u16,
    /// No datagram arrives before one that was sent earlier, unless it is reordered on purpose.
    pub(super) last_datagram: Duration,
}

/// When a connection that found a full queue is tried again, and how often.
const RETRY: Duration = Duration::from_secs(1);
const TRIES_MAX: u32 = 30;

impl Net {
    pub(super) fn half(&self, end: End) -> &Half {
        &self.halves[end.index()]
    }

    pub(super) fn half_mut(&mut self, end: End) -> &mut Half {
        &mut self.halves[end.index()]
    }

    pub(super) fn ephemeral_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    fn latency(&self, world: &mut World) -> Duration {
        Duration::from_micros(1) + world.rng.span(self.latency_max)
    }

    /// Begins a connection from `from`. It is made, or fails, later.
    pub(super) fn open(
        &mut self,
        owner: Owner,
        from: SocketAddr,
        to: &Bind,
        world: &mut World,
    ) -> End {
        let end = End(self.halves.len() as u32);
        for (owner, to) in [(owner, Some(to.clone())), (Owner::Queue, None)] {
            let capacity = world
                .rng
                .between(self.capacity_max / 50, self.capacity_max)
                .max(1);
            self.halves.push(Half::new(owner, from, to, capacity));
        }
        let mut delay = self.latency(world);
        if world.strikes(Fault::ConnectSlow) {
            delay += world.rng.span(Duration::from_secs(3));
        }
        if owner == Owner::Process {
            if world.strikes(Fault::ConnectHangs) {
                return end;
            }
            self.half_mut(end).refused = world.strikes(Fault::ConnectRefused);
        }
        if world.strikes(Fault::Reset) {
            // Short lives and long ones alike.
            let longest = *world.rng.pick(&[1_000, 100_000, 2_000_000]);
            let life = delay + Duration::from_micros(world.rng.sized(longest) as u64);
            self.agenda.add(world.now() + life, Happening::Break(end));
        }
        self.agenda
            .add(world.now() + delay, Happening::Arrive(end, 0));
        end
    }

    /// A connection that is being made reaches the other side.
    pub(super) fn arrive(&mut self, end: End, tries: u32, world: &mut World) {
        let half = self.half(end);
        if half.closed || half.stage != Stage::Opening {
            return;
        }
        let found = half.to.as_ref().and_then(|to| self.listener_at(to));
        let Some(index) = found.filter(|_| !half.refused) else {
            if half.to.as_ref().is_some_and(|to| self.broke_at(to)) {
                self.excuse(end);
            }
            return self.fail(end, io::ErrorKind::ConnectionRefused, world);
        };
        let listener = &mut self.listeners[index];
        if listener.queue.len() >= listener.backlog {
            if tries == TRIES_MAX {
                // Those in the queue are judged by whether they are served.
                self.excuse(end);
                return self.fail(end, io::ErrorKind::TimedOut, world);
            }
            self.agenda
                .add(world.now() + RETRY, Happening::Arrive(end, tries + 1));
            return;
        }
        listener.queue.push_back(end.peer());
        world.note(|| format!("{end:?} waits at {}", listener.bind));
        self.half_mut(end).stage = Stage::Open;
        self.half_mut(end.peer()).stage = Stage::Open;
        self.notify(end, Edges::WRITE);
        self.knock(index);
    }

    fn listener_at(&self, to: &Bind) -> Option<usize> {
        self.listeners.iter().position(|l| l.open && l.accepts(to))
    }

    /// Whether a socket that listened there broke.
    pub(super) fn broke_at(&self, to: &Bind) -> bool {
        self.listeners.iter().any(|l| l.broken && l.accepts(to))
    }

    /// A connection cannot be made.
    pub(super) fn fail(&mut self, end: End, kind: io::ErrorKind, world: &mut World) {
        world.note(|| format!("connection {end:?} fails: {kind}"));
        let half = self.half_mut(end);
        half.stage = Stage::Failed(kind);
        half.error = Some(kind);
        self.notify(end, Edges::ALL);
    }

    pub(super) fn listen(&mut self, bind: Bind, owner: Owner, token: u64, backlog: usize) {
        self.listeners.push(Listener {
            bind,
            owner,
            token,
            queue: VecDeque::new(),
            backlog,
            broken: false,
            open: true,
            listed: false,
        });
    }

    /// Stops listening; who waits in the queue is sent away.
    pub(super) fn unlisten(&mut self, index: usize, world: &mut World) {
        self.listeners[index].open = false;
        while let Some(end) = self.listeners[index].queue.pop_front() {
            self.excuse(end);
            self.send_break(end, world);
            self.half_mut(end).closed = true;
        }
    }

    /// Tells a listener's owner that somebody waits.
    pub(super) fn knock(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        match listener.owner {
            Owner::Actor(actor) => drop(self.woken.insert(actor)),
            _ if listener.listed => {}
            _ => {
                listener.listed = true;
                self.ready.push_back(Ear::Listener(index));
            }
        }
    }

    /// Bytes that a write could take.
    pub(super) fn room(&self, end: End) -> usize {
        let peer = self.half(end.peer());
        peer.capacity.saturating_sub(peer.used)
    }

    /// What is possible now, whatever was told.
    pub(super) fn level(&self, end: End) -> Edges {
        let half = self.half(end);
        let broken = half.error.is_some();
        Edges {
            read: !half.arrived.is_empty() || half.eof || broken,
            write: (half.stage == Stage::Open && self.room(end) > 0) || broken,
            closed: half.eof || broken,
        }
    }

    /// Something changed at this end.
    pub(super) fn notify(&mut self, end: End, edges: Edges) {
        let half = self.half_mut(end);
        half.edges.add(edges);
        match half.owner {
            Owner::Actor(actor) => drop(self.woken.insert(actor)),
            Owner::Process if half.token.is_some() && !half.listed && !half.closed => {
                half.listed = true;
                self.ready.push_back(Ear::Stream(end));
            }
            _ => {}
        }
    }

    /// Reads what arrived. The kinds of error are those of `recv(2)`.
    pub(super) fn read(&mut self, end: End, into: &mut [u8]) -> io::Result<usize> {
        let half = self.half_mut(end);
        let count = into.len().min(half.arrived.len());
        if count == 0 {
            return match half.error {
                Some(kind) => Err(kind.into()),
                None if half.eof => Ok(0),
                None => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        for (to, from) in into.iter_mut().zip(half.arrived.drain(..count)) {
            *to = from;
        }
        self.freed(end, count);
        Ok(count)
    }

    /// Bytes on their way to `end` are gone: its peer may have waited for their room.
    fn freed(&mut self, end: End, count: usize) {
        let half = self.half_mut(end);
        half.used -= count;
        let enough = half.used <= half.capacity - half.capacity.div_ceil(3);
        let peer = end.peer();
        if enough && self.half(peer).wants_room {
            self.half_mut(peer).wants_room = false;
            self.notify(peer, Edges::WRITE);
        }
    }

    /// Sends as much as there is room for. The kinds of error are those of `send(2)`.
    pub(super) fn write(&mut self, end: End, bytes: &[u8], world: &mut World) -> io::Result<usize> {
        let room = self.room(end);
        let half = self.half_mut(end);
        if let Some(kind) = half.error {
            return Err(kind.into());
        }
        if half.finished || half.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if half.stage != Stage::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let count = bytes.len().min(room);
        half.wants_room |= count < bytes.len();
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // The wire cuts as it likes.
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(world.rng.sized(rest.len()).max(rest.len() / 8));
            self.launch(end, Segment::Bytes(piece.to_vec()), world);
            rest = after;
        }
        Ok(count)
    }

    /// Sends a segment on its way to the peer of `from`, behind those before it.
    fn launch(&mut self, from: End, segment: Segment, world: &mut World) {
        let due = world.now() + self.latency(world);
        let to = from.peer();
        let half = self.half_mut(to);
        let due = half.flight.back().map_or(due, |(last, _)| due.max(*last));
        if let Segment::Bytes(bytes) = &segment {
            half.used += bytes.len();
        }
        half.flight.push_back((due, segment));
        self.agenda.add(due, Happening::Deliver(to));
    }

    /// What is due arrives.
    pub(super) fn deliver(&mut self, to: End, world: &mut World) {
        while let Some((due, _)) = self.half(to).flight.front() {
            if *due > world.now() {
                return;
            }
            self.deliver_next(to, world);
        }
    }

    /// The next segment arrives, due or not. Whether there was one.
    pub(super) fn deliver_next(&mut self, to: End, world: &mut World) -> bool {
        let half = self.half_mut(to);
        let Some((_, segment)) = half.flight.pop_front() else {
            return false;
        };
        world.note(|| format!("{to:?} ◀ {}", segment.name()));
        match segment {
            Segment::Bytes(bytes) if half.closed => {
                self.freed(to, bytes.len());
                self.send_break(to, world);
            }
            Segment::Bytes(bytes) => {
                half.arrived.extend(bytes);
                self.notify(to, Edges::READ);
            }
            Segment::End => {
                half.eof = true;
                self.notify(to, Edges::END);
            }
            Segment::Break => self.broken(to, world),
        }
        true
    }

    /// Tells the peer of `from` that the connection is broken.
    fn send_break(&mut self, from: End, world: &mut World) {
        if self.half(from.peer()).error.is_none() {
            self.launch(from, Segment::Break, world);
        }
    }

    /// The connection is broken at this end.
    fn broken(&mut self, end: End, world: &mut World) {
        let keeps = world.rng.coin();
        let half = self.half_mut(end);
        half.error = Some(io::ErrorKind::ConnectionReset);
        half.flight.clear();
        if !keeps {
            half.arrived.clear();
        }
        half.used = half.arrived.len();
        self.notify(end, Edges::ALL);
    }

    /// The network breaks a connection, at both ends at once.
    pub(super) fn break_connection(&mut self, end: End, world: &mut World) {
        for end in [end, end.peer()] {
            if !self.half(end).closed && self.half(end).stage == Stage::Open {
                world.note(|| format!("{end:?} breaks"));
                self.broken(end, world);
            }
        }
        self.excuse(end);
    }

    /// What becomes of this connection is the simulation's doing.
    pub(super) fn excuse(&mut self, end: End) {
        self.half_mut(end).excused = true;
        self.half_mut(end.peer()).excused = true;
    }

    /// Whether it is.
    pub(super) fn is_excused(&self, end: End) -> bool {
        self.half(end).excused
    }

    pub(super) fn stage(&self, end: End) -> Stage {
        self.half(end).stage
    }

    /// Sends the end of the stream.
    pub(super) fn finish(&mut self, end: End, world: &mut World) -> io::Result<()> {
        let half = self.half_mut(end);
        if half.error.is_some() || half.stage != Stage::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !half.finished {
            half.finished = true;
            self.launch(end, Segment::End, world);
        }
        Ok(())
    }

    /// Closes an end: in good order if everything was read, with a break if not.
    pub(super) fn close(&mut self, end: End, world: &mut World) {
        let half = self.half_mut(end);
        if half.closed {
            return;
        }
        half.closed = true;
        half.token = None;
        let unread = half.arrived.len();
        half.arrived.clear();
        world.note(|| format!("{end:?} closed, {unread} bytes unread"));
        if half.error.is_some() || half.stage != Stage::Open {
            return;
        }
        if unread > 0 {
            self.freed(end, unread);
            self.send_break(end, world);
        } else if !self.half(end).finished {
            self.half_mut(end).finished = true;
            self.launch(end, Segment::End, world);
        }
    }

    /// Breaks a connection on purpose.
    pub(super) fn abort(&mut self, end: End, world: &mut World) {
        if !self.half(end).closed && self.half(end).stage == Stage::Open {
            self.send_break(end, world);
        }
        let half = self.half_mut(end);
        half.closed = true;
        half.token = None;
        half.arrived.clear();
    }
}
