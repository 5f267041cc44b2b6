//! Who is let in: what a listener asks of a peer before a service sees it.
//!
//! ```text
//! a connection ──▶ deny, allow ──▶ accepts a second ──▶ connections at once ──▶ a service
//!                       └─────────────────┴─────────────────────┴──▶ closed, and counted by cause
//! ```
//!
//! One client is one IPv4 address, or the /64 of IPv6 that one network has at its disposal
//! ([`Address`]). What reaches a Unix socket has no address: the file's permissions say who may,
//! and the limit of all connections holds.
//!
//! Not here: sockets, and what a web server answers to a client beyond its limits.

pub mod failures;
mod ranges;
mod rates;
mod seats;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

pub use ranges::{Access, Ranges};
pub use rates::Rates;
pub use seats::{Address, Seats};

use crate::metrics::Bar;
use crate::service::Peer;

/// What a listener over streams asks of its peers. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateOptions {
    /// Which addresses may come.
    pub access: Access,
    /// Connections at once from one address.
    pub connections_per_address_max: Option<NonZeroU32>,
    /// Connections a second from one address.
    pub accept_rate_max: Option<NonZeroU32>,
    /// Connections at a stroke from one that was silent for long; `None` for those of one second.
    pub accept_burst_max: Option<NonZeroU32>,
    /// From whom a header of the PROXY protocol is awaited, and how long: what it says is asked for
    /// in the place of the peer.
    pub introduced_by: Ranges,
    /// See there.
    pub introduction_timeout: Duration,
}

/// The gate of one listener.
pub struct Gate {
    access: Access,
    introduced_by: Ranges,
    introduction_timeout: Duration,
    seats: Seats,
    accepts: Rates<Address>,
}

/// Where a connection is counted; to be given back to [`Gate::leave`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    here: bool,
    in_all: bool,
}

impl Gate {
    /// `sources_max`: addresses whose connections a second are counted apart from one another.
    pub fn new(options: &GateOptions, sources_max: usize) -> Self {
        Self {
            access: options.access.clone(),
            introduced_by: options.introduced_by.clone(),
            introduction_timeout: options.introduction_timeout,
            seats: Seats::new(options.connections_per_address_max),
            accepts: accepts(options, sources_max),
        }
    }

    /// Asks something else from now on. Connections that are open count on.
    pub fn replace(&mut self, options: &GateOptions, sources_max: usize) {
        self.access = options.access.clone();
        self.introduced_by.clone_from(&options.introduced_by);
        self.introduction_timeout = options.introduction_timeout;
        self.seats.set_max(options.connections_per_address_max);
        self.accepts = accepts(options, sources_max);
    }

    /// For how long the peer may take to tell whose connection it passes on; `None` if it does not.
    pub fn introduction_timeout(&self, peer: &Peer) -> Option<Duration> {
        let is_proxy = |ip| self.introduced_by.contains(ip);
        peer.ip()
            .filter(|&ip| is_proxy(ip))
            .map(|_| self.introduction_timeout)
    }

    /// Lets a peer in, or tells why not. `all` are the seats of all listeners together: the
    /// machine's own clients need none there, and have no rate.
    ///
    /// # Errors
    /// What keeps it out.
    pub fn admit(&mut self, peer: &Peer, now: Instant, all: &mut Seats) -> Result<Admitted, Bar> {
        let Peer::Inet(address) = peer else {
            return Ok(Admitted::default());
        };
        let ip = address.ip();
        if !self.access.admits(ip) {
            return Err(Bar::Deny);
        }
        let (client, is_own) = (Address::from(ip), is_loopback(ip));
        if !is_own && self.accepts.exceeded(client, now) {
            return Err(Bar::Rate);
        }
        let here = self.seats.enter(peer).map_err(|()| Bar::PerAddress)?;
        let in_all = match is_own {
            true => Ok(None),
            false => all.enter(peer),
        };
        match in_all {
            Ok(in_all) => Ok(Admitted {
                here: here.is_some(),
                in_all: in_all.is_some(),
            }),
            Err(()) => {
                here.into_iter().for_each(|client| self.seats.leave(client));
                Err(Bar::PerAddressInAll)
            }
        }
    }

    /// Whether no connection is counted by its address.
    pub fn is_empty(&self) -> bool {
        self.seats.are_free()
    }

    /// The connection of `peer` has ended.
    pub fn leave(&mut self, peer: &Peer, admitted: Admitted, all: &mut Seats) {
        if let Peer::Inet(address) = peer {
            let client = Address::from(address.ip());
            if admitted.here {
                self.seats.leave(client);
            }
            if admitted.in_all {
                all.leave(client);
            }
        }
    }
}

fn accepts(options: &GateOptions, sources_max: usize) -> Rates<Address> {
    Rates::new(
        options.accept_rate_max,
        options.accept_burst_max,
        sources_max,
    )
}

/// Whether it is this machine.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ip: &str) -> Peer {
        Peer::Inet((ip.parse::<IpAddr>().expect("an address"), 40_000).into())
    }

    fn ranges(texts: &[&str]) -> Ranges {
        let ranges = texts.iter().map(|text| text.parse().expect("a range"));
        ranges.collect()
    }

    #[test]
    fn what_keeps_a_peer_out_is_asked_in_order_and_leaves_no_trace() {
        let two = NonZeroU32::new(2);
        let options = GateOptions {
            access: Access::new(None, ranges(&["192.0.2.66/32"])),
            connections_per_address_max: two,
            accept_rate_max: NonZeroU32::new(10),
            accept_burst_max: NonZeroU32::new(4),
            ..GateOptions::default()
        };
        let (mut gate, mut all) = (Gate::new(&options, 10), Seats::new(NonZeroU32::new(1)));
        let now = Instant::now();
        let admit = |gate: &mut Gate, all: &mut Seats, ip| gate.admit(&peer(ip), now, all);
        assert_eq!(admit(&mut gate, &mut all, "192.0.2.66"), Err(Bar::Deny));
        assert_eq!(
            admit(&mut gate, &mut all, "::ffff:192.0.2.66"),
            Err(Bar::Deny)
        );
        let first = admit(&mut gate, &mut all, "192.0.2.1").expect("the first");
        // Who has none left in all takes none here.
        for _ in 0..2 {
            let second = admit(&mut gate, &mut all, "192.0.2.1");
            assert_eq!(second, Err(Bar::PerAddressInAll));
        }
        all.set_max(two);
        assert!(admit(&mut gate, &mut all, "192.0.2.1").is_ok());
        assert_eq!(admit(&mut gate, &mut all, "192.0.2.1"), Err(Bar::Rate));
        let later = now + Duration::from_millis(100);
        let third = gate.admit(&peer("192.0.2.1"), later, &mut all);
        assert_eq!(third, Err(Bar::PerAddress));
        gate.leave(&peer("192.0.2.1"), first, &mut all);
        let later = now + Duration::from_millis(200);
        assert!(gate.admit(&peer("192.0.2.1"), later, &mut all).is_ok());
    }

    #[test]
    fn the_machines_own_clients_have_no_rate_and_no_limit_in_all_but_that_of_the_listener() {
        let options = GateOptions {
            connections_per_address_max: NonZeroU32::new(50),
            accept_rate_max: NonZeroU32::new(1),
            ..GateOptions::default()
        };
        let (mut gate, mut all) = (Gate::new(&options, 10), Seats::new(NonZeroU32::new(1)));
        for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.2"] {
            let peer = peer(ip);
            for _ in 0..50 {
                let admitted = gate.admit(&peer, Instant::now(), &mut all);
                assert!(admitted.is_ok_and(|admitted| !admitted.in_all));
            }
            let beyond = gate.admit(&peer, Instant::now(), &mut all);
            assert_eq!(beyond, Err(Bar::PerAddress));
        }
    }

    #[test]
    fn a_connection_that_was_not_counted_when_it_began_takes_nobodys_seat_away_at_its_end() {
        let (peer, now, mut all) = (peer("192.0.2.1"), Instant::now(), Seats::new(None));
        let mut gate = Gate::new(&GateOptions::default(), 10);
        let uncounted = gate.admit(&peer, now, &mut all).expect("no limit");
        let options = GateOptions {
            connections_per_address_max: NonZeroU32::new(1),
            ..GateOptions::default()
        };
        gate.replace(&options, 10);
        all.set_max(NonZeroU32::new(1));
        gate.admit(&peer, now, &mut all).expect("the first counted");
        gate.leave(&peer, uncounted, &mut all);
        assert_eq!(gate.admit(&peer, now, &mut all), Err(Bar::PerAddress));
    }

    #[test]
    fn a_proxy_that_is_trusted_tells_whose_connection_it_passes_on() {
        let options = GateOptions {
            introduced_by: ranges(&["192.0.2.0/24"]),
            introduction_timeout: Duration::from_secs(3),
            ..GateOptions::default()
        };
        let gate = Gate::new(&options, 10);
        let of = |peer: &Peer| gate.introduction_timeout(peer);
        assert_eq!(of(&peer("192.0.2.1")), Some(Duration::from_secs(3)));
        assert_eq!(of(&peer("198.51.100.1")), None);
        assert_eq!(of(&Peer::Unix), None);
    }

    #[test]
    fn who_comes_over_a_unix_socket_has_no_address() {
        let options = GateOptions {
            access: Access::new(Some(ranges(&["192.0.2.0/24"])), Ranges::default()),
            connections_per_address_max: NonZeroU32::new(1),
            accept_rate_max: NonZeroU32::new(1),
            ..GateOptions::default()
        };
        let (mut gate, mut all) = (Gate::new(&options, 10), Seats::new(NonZeroU32::new(1)));
        for _ in 0..9 {
            let admitted = gate.admit(&Peer::Unix, Instant::now(), &mut all);
            assert_eq!(admitted, Ok(Admitted::default()));
        }
    }
}
