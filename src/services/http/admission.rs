//! Who may connect: so many clients in all, and so many from one address.
//!
//! A client that is refused still gets a connection, for as long as it takes to tell it why. The reactor opens some more
//! connections than there are places for that; who comes beyond those waits in the kernel's queue.
//!
//! The table of addresses has an entry for each address that holds a place, so it is bounded by the places; without a limit
//! for each address it stays empty.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::answer::Refusal;
use crate::config::HttpConfig;
use crate::http::Status;
use crate::metrics::Limit;
use crate::service::Peer;

const FULL: Refusal = Refusal::beyond(
    Limit::Connections,
    Status::SERVICE_UNAVAILABLE,
    "this server has as many connections as it takes; try again in a moment",
);
const TOO_MANY: Refusal = Refusal::beyond(
    Limit::ConnectionsPerAddress,
    Status::TOO_MANY_REQUESTS,
    "you have as many connections as one client may have here",
);

/// The places of one listener.
pub(super) struct Admission {
    taken: usize,
    taken_max: usize,
    /// Places taken by each address.
    by_address: HashMap<Address, u32, foldhash::fast::RandomState>,
    by_address_max: u32,
}

/// A place that a connection holds; given back to [`Admission::leave`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place(Option<Address>);

/// What counts as one client: an IPv4 address, or the /64 that one IPv6 network has at its disposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Address {
    V4(Ipv4Addr),
    V6Network([u8; 8]),
}

impl Address {
    fn of(peer: &Peer) -> Option<Self> {
        let Peer::Inet(address) = peer else {
            return None; // who reaches a Unix socket has no address
        };
        Some(match address.ip().to_canonical() {
            IpAddr::V4(ip) => Address::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Address::V6Network([a, b, c, d, e, f, g, h])
            }
        })
    }
}

impl Admission {
    pub(super) fn new(config: &HttpConfig) -> Self {
        Self {
            taken: 0,
            taken_max: config.connections_max,
            by_address: HashMap::default(),
            by_address_max: config.connections_per_address_max.map_or(0, Into::into),
        }
    }

    /// A place for `peer`, or why there is none.
    pub(super) fn admit(&mut self, peer: &Peer) -> Result<Place, &'static Refusal> {
        if self.taken >= self.taken_max {
            return Err(&FULL);
        }
        let address = match self.by_address_max {
            0 => None,
            _ => Address::of(peer),
        };
        if let Some(address) = address {
            let taken = self.by_address.entry(address).or_default();
            if *taken >= self.by_address_max {
                return Err(&TOO_MANY);
            }
            *taken += 1;
        }
        self.taken += 1;
        Ok(Place(address))
    }

    /// The connection that held a place has ended.
    #[allow(clippy::needless_pass_by_value)] // by value, so that no place is given back twice
    pub(super) fn leave(&mut self, place: Place) {
        self.taken -= 1;
        if let Place(Some(address)) = place
            && let Some(taken) = self.by_address.get_mut(&address)
        {
            *taken -= 1;
            if *taken == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn admission(in_all: usize, per_address: u32) -> Admission {
        Admission::new(&HttpConfig {
            connections_max: in_all,
            connections_per_address_max: NonZeroU32::new(per_address),
            ..HttpConfig::default()
        })
    }

    fn peer(ip: &str) -> Peer {
        Peer::Inet((ip.parse::<IpAddr>().expect("an address"), 40_000).into())
    }

    #[test]
    fn places_are_counted_in_all_and_given_back() {
        let mut admission = admission(2, 0);
        let one = admission.admit(&Peer::Unix).expect("a place");
        let _two = admission.admit(&peer("192.0.2.1")).expect("a place");
        assert_eq!(admission.admit(&peer("192.0.2.2")), Err(&FULL));
        admission.leave(one);
        assert!(admission.admit(&peer("192.0.2.2")).is_ok());
        assert!(admission.by_address.is_empty(), "nobody asked for a limit");
    }

    #[test]
    fn an_ipv4_address_is_one_client_and_so_is_an_ipv6_network() {
        let mut admission = admission(100, 1);
        let too_many = Err(&TOO_MANY);
        let first = admission.admit(&peer("192.0.2.1")).expect("a place");
        assert_eq!(admission.admit(&peer("192.0.2.1")), too_many);
        assert_eq!(admission.admit(&peer("::ffff:192.0.2.1")), too_many);
        assert!(admission.admit(&peer("192.0.2.2")).is_ok());
        assert!(admission.admit(&peer("2001:db8:0:1::1")).is_ok());
        assert_eq!(admission.admit(&peer("2001:db8:0:1:ffff::2")), too_many);
        assert!(admission.admit(&peer("2001:db8:0:2::1")).is_ok());
        for _ in 0..3 {
            assert!(admission.admit(&Peer::Unix).is_ok());
        }
        admission.leave(first);
        assert!(admission.admit(&peer("192.0.2.1")).is_ok());
        assert_eq!(
            admission.by_address.len(),
            4,
            "an entry for each address that has a place"
        );
    }
}
