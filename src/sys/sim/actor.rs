//! Who else is in the world: clients, origin servers, name servers.
//!
//! An actor is a small state machine like a protocol, on the other side of the wire: [`Actor::act`]
//! is called when anything may have changed for it, and does what it likes with its [`Hands`].
//! Actors run inside the simulated poll, so the reactor cannot tell them from a network.

use std::any::Any;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::agenda::Happening;
use super::faults::{Fault, Faults};
use super::ids::{ActorId, End, Owner};
use super::net::Net;
use super::rng::Rng;
use super::sockets::{DatagramSocket, Stage};
use super::volume::Volume;
use super::world::World;
use crate::sys::Bind;

/// Somebody in the world.
pub trait Actor: Any {
    /// Does whatever is possible now. Called at the start, after anything changed on one of its
    /// sockets, and when it asked to be.
    fn act(&mut self, hands: &mut Hands<'_>);

    /// Whether it has nothing more to do. A server that waits for others is always done.
    fn is_done(&self) -> bool;

    /// What it has to complain about, once everything is over.
    ///
    /// # Errors
    /// What was expected and what happened.
    fn verdict(&self) -> Result<(), String>;
}

/// What a read came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// At least one byte.
    Bytes(Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// The end of the stream.
    End,
    /// The connection is broken.
    Broken,
}

/// What an actor can do.
pub struct Hands<'a> {
    pub(super) me: ActorId,
    pub(super) net: &'a mut Net,
    pub(super) world: &'a mut World,
    pub(super) volume: &'a mut Volume,
    /// The process was told to end.
    pub(super) draining: bool,
}

impl Hands<'_> {
    /// How long the simulation lasts by now.
    pub fn now(&self) -> Duration {
        self.world.now()
    }

    /// The same by the wall clock, in seconds since 1970.
    pub fn wall(&self) -> Duration {
        // Invariant: the simulated wall clock begins after 1970 and only goes on.
        let since = self
            .world
            .clock
            .wall()
            .duration_since(std::time::UNIX_EPOCH);
        since.expect("a time after 1970")
    }

    /// Chance.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.world.rng
    }

    /// The disk.
    pub fn volume(&mut self) -> &mut Volume {
        self.volume
    }

    /// Which faults may happen: some oracles depend on it.
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// Whether a fault that is this actor's to commit happens now.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        self.world.strikes(fault)
    }

    /// Whether the process was told to end: who is not served any more has nothing to complain
    /// about.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        self.world.note(line);
    }

    /// Wants to be called again after a while.
    pub fn wake_in(&mut self, span: Duration) {
        let at = self.world.now() + span;
        self.net.agenda.add(at, Happening::Wake(self.me));
    }

    /// Begins a connection from a free port of the loopback address.
    pub fn connect(&mut self, to: &Bind) -> End {
        self.connect_from(Ipv4Addr::LOCALHOST.into(), to)
    }

    /// Begins a connection from a free port of an address.
    pub fn connect_from(&mut self, ip: IpAddr, to: &Bind) -> End {
        let from = SocketAddr::new(ip, self.net.ephemeral_port());
        self.net.open(Owner::Actor(self.me), from, to, self.world)
    }

    /// How far a connection is.
    pub fn stage(&self, end: End) -> Stage {
        self.net.stage(end)
    }

    /// Whether the simulation itself broke the connection, or kept it from being served.
    pub fn is_excused(&self, end: End) -> bool {
        self.net.is_excused(end)
    }

    /// Whether the stream ended or broke, whatever is still unread.
    pub fn is_over(&self, end: End) -> bool {
        self.net.level(end).closed
    }

    /// Reads at most `max` bytes.
    pub fn receive(&mut self, end: End, max: usize) -> Received {
        let mut bytes = vec![0; max.min(self.net.half(end).arrived()).max(1)];
        match self.net.read(end, &mut bytes) {
            Ok(0) => Received::End,
            Ok(count) => {
                bytes.truncate(count);
                Received::Bytes(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Err(_) => Received::Broken,
        }
    }

    /// Sends what there is room for; how much that was. Nothing leaves on a broken connection.
    pub fn send(&mut self, end: End, bytes: &[u8]) -> usize {
        let result = self.net.write(end, bytes, self.world);
        self.world.note(|| {
            format!(
                "client sends {result:?} of {} bytes on {end:?}",
                bytes.len()
            )
        });
        result.unwrap_or(0)
    }

    /// Sends the end of the stream; what comes is still read.
    pub fn finish(&mut self, end: End) {
        // A broken connection has ended already.
        let _ = self.net.finish(end, self.world);
    }

    /// Closes: in good order if everything was read.
    pub fn close(&mut self, end: End) {
        self.net.close(end, self.world);
    }

    /// Breaks a connection.
    pub fn abort(&mut self, end: End) {
        self.net.excuse(end);
        self.net.abort(end, self.world);
    }

    /// Listens.
    pub fn listen(&mut self, at: SocketAddr) {
        let backlog = 64;
        self.net
            .listen(Bind::Inet(at), Owner::Actor(self.me), 0, backlog);
    }

    /// Listens no more; who waits there is sent away.
    pub fn unlisten(&mut self, at: SocketAddr) {
        let (me, at) = (Owner::Actor(self.me), Bind::Inet(at));
        let mut listeners = self.net.listeners.iter();
        if let Some(index) = listeners.position(|l| l.owner == me && l.open && l.bind == at) {
            self.net.unlisten(index, self.world);
        }
    }

    /// The next connection to any of this actor's listeners.
    pub fn accept(&mut self) -> Option<End> {
        let me = Owner::Actor(self.me);
        let listener = self
            .net
            .listeners
            .iter_mut()
            .find(|l| l.owner == me && !l.queue.is_empty())?;
        let end = listener.queue.pop_front()?;
        self.net.half_mut(end).owner = me;
        Some(end)
    }

    /// Binds a datagram socket; port 0 for a free one. Its number, for the other calls.
    ///
    /// # Errors
    /// The address is taken.
    pub fn bind(&mut self, at: SocketAddr) -> io::Result<usize> {
        self.net.bind(at, Owner::Actor(self.me), 0)
    }

    /// Sends a datagram.
    pub fn send_to(&mut self, socket: usize, to: SocketAddr, bytes: &[u8]) {
        self.net.send_datagram(socket, to, bytes, self.world);
    }

    /// The next datagram that came, and from where.
    pub fn receive_from(&mut self, socket: usize) -> Option<(SocketAddr, Vec<u8>)> {
        let socket: &mut DatagramSocket = &mut self.net.datagrams[socket];
        socket.queue.pop_front()
    }
}
