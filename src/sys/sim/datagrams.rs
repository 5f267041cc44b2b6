//! Datagram sockets, and a wire that loses, repeats and reorders what it carries if it is told to.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::agenda::Happening;
use super::faults::Fault;
use super::ids::{Ear, Owner};
use super::net::Net;
use super::sockets::{DatagramSocket, has};
use super::world::World;

/// Datagrams that wait in one socket; later ones are lost, as in a full socket buffer.
const QUEUE_MAX: usize = 256;
/// How much later a reordered datagram arrives.
const REORDER: Duration = Duration::from_millis(300);

impl Net {
    /// A socket at `bind`, or at a free port of that address.
    pub(super) fn bind(
        &mut self,
        mut bind: SocketAddr,
        owner: Owner,
        token: u64,
    ) -> io::Result<usize> {
        if bind.port() == 0 {
            bind.set_port(self.ephemeral_port());
        }
        let taken = |d: &DatagramSocket| has(d.address, bind) || has(bind, d.address);
        if self.datagrams.iter().any(|d| d.open && taken(d)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.datagrams.push(DatagramSocket {
            owner,
            address: bind,
            token,
            peer: None,
            refused: false,
            broken: false,
            queue: VecDeque::new(),
            drops: 0,
            receives_runs: false,
            open: true,
            listed: false,
        });
        Ok(self.datagrams.len() - 1)
    }

    /// Puts a datagram on the wire.
    pub(super) fn send_datagram(
        &mut self,
        socket: usize,
        to: SocketAddr,
        bytes: &[u8],
        world: &mut World,
    ) {
        let from = self.datagrams[socket].address;
        world.note(|| format!("{from} ▶ {to}: a datagram of {} bytes", bytes.len()));
        if world.strikes(Fault::DatagramLost) {
            return;
        }
        let copies = 1 + usize::from(world.strikes(Fault::DatagramDuplicated));
        for _ in 0..copies {
            let due = world.now() + world.rng.span(self.latency_max);
            let due = if world.strikes(Fault::DatagramReordered) {
                due + world.rng.span(REORDER)
            } else {
                self.last_datagram = self.last_datagram.max(due);
                self.last_datagram
            };
            let bytes = bytes.to_vec();
            self.agenda
                .add(due, Happening::Datagram { to, from, bytes });
        }
    }

    /// The socket that what `from` sends to `to` reaches.
    fn hears(&self, to: SocketAddr, from: SocketAddr) -> Option<usize> {
        self.datagrams
            .iter()
            .position(|d| d.open && has(d.address, to) && d.peer.is_none_or(|peer| peer == from))
    }

    /// A datagram reaches its socket, or its sender learns that there is none.
    pub(super) fn arrive_datagram(&mut self, to: SocketAddr, from: SocketAddr, bytes: Vec<u8>) {
        let Some(index) = self.hears(to, from) else {
            if let Some(sender) = self.hears(from, to)
                && self.datagrams[sender].peer.is_some()
            {
                self.datagrams[sender].refused = true;
                self.tell_datagram(sender);
            }
            return;
        };
        let socket = &mut self.datagrams[index];
        if socket.queue.len() == QUEUE_MAX {
            socket.drops = socket.drops.wrapping_add(1);
            return;
        }
        socket.queue.push_back((from, bytes));
        match socket.owner {
            Owner::Actor(actor) => drop(self.woken.insert(actor)),
            _ => self.tell_datagram(index),
        }
    }

    pub(super) fn tell_datagram(&mut self, index: usize) {
        let socket = &mut self.datagrams[index];
        if socket.open && !socket.listed {
            socket.listed = true;
            self.ready.push_back(Ear::Datagram(index));
        }
    }
}
