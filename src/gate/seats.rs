//! How many connections each client address holds.
//!
//! The table has an entry for each address that holds one, so it is bounded by the connections;
//! without a limit it stays empty.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use crate::service::Peer;

/// The connections by address.
#[derive(Debug)]
pub struct Seats {
    taken: HashMap<Address, u32, foldhash::fast::RandomState>,
    taken_max: Option<NonZeroU32>,
}

/// What counts as one client: an IPv4 address, or the /64 that one IPv6 network has at its
/// disposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// The first half of an IPv6 address.
    V6Network([u8; 8]),
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Address::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Address::V6Network([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl Seats {
    /// `taken_max`: connections of one address, `None` for no limit.
    pub fn new(taken_max: Option<NonZeroU32>) -> Self {
        Self {
            taken: HashMap::default(),
            taken_max,
        }
    }

    /// Another limit, for those who come from now on.
    pub fn set_max(&mut self, taken_max: Option<NonZeroU32>) {
        self.taken_max = taken_max;
    }

    /// Counts a connection of `peer`; what to give to [`Seats::leave`] at its end. Who comes over a
    /// Unix socket has no address, and is not counted.
    ///
    /// # Errors
    /// The address holds as many as it may.
    #[allow(clippy::result_unit_err)] // there is one reason
    pub fn enter(&mut self, peer: &Peer) -> Result<Option<Address>, ()> {
        let (Some(taken_max), Peer::Inet(address)) = (self.taken_max, peer) else {
            return Ok(None);
        };
        let address = Address::from(address.ip());
        let taken = self.taken.entry(address).or_default();
        if *taken >= taken_max.get() {
            return Err(());
        }
        *taken += 1;
        Ok(Some(address))
    }

    /// Whether nobody holds one.
    pub fn are_free(&self) -> bool {
        self.taken.is_empty()
    }

    /// A connection has ended.
    pub fn leave(&mut self, address: Address) {
        if let Some(taken) = self.taken.get_mut(&address) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ip: &str) -> Peer {
        Peer::Inet((ip.parse::<IpAddr>().expect("an address"), 40_000).into())
    }

    #[test]
    fn an_ipv4_address_is_one_client_and_so_is_an_ipv6_network() {
        let mut seats = Seats::new(NonZeroU32::new(1));
        let first = seats.enter(&peer("192.0.2.1")).expect("the first");
        assert_eq!(seats.enter(&peer("::ffff:192.0.2.1")), Err(()));
        assert!(seats.enter(&peer("192.0.2.2")).is_ok());
        assert!(seats.enter(&peer("2001:db8:0:1::1")).is_ok());
        assert_eq!(seats.enter(&peer("2001:db8:0:1:ffff::2")), Err(()));
        assert!(seats.enter(&peer("2001:db8:0:2::1")).is_ok());
        assert_eq!(seats.enter(&Peer::Unix), Ok(None));
        seats.leave(first.expect("an address"));
        assert!(seats.enter(&peer("192.0.2.1")).is_ok());
        assert_eq!(seats.taken.len(), 4, "those that hold one");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let mut seats = Seats::new(None);
        assert_eq!(seats.enter(&peer("192.0.2.1")), Ok(None));
        assert!(seats.taken.is_empty());
    }
}
