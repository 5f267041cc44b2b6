//! Who may connect: so many clients in all, and so many from one address.
//!
//! A client that is refused still gets a connection, for as long as it takes to tell it why. The
//! reactor opens some more connections than there are places for that; who comes beyond those waits
//! in the kernel's queue.

use super::reply::Refusal;
use crate::config::HttpConfig;
use crate::gate::{Address, Seats};
use crate::http::Status;
use crate::metrics::Limit;
use crate::service::Peer;

static FULL: Refusal = Refusal::beyond(
    Limit::Connections,
    Status::SERVICE_UNAVAILABLE,
    "this server has as many connections as it takes; try again in a moment",
);
static TOO_MANY: Refusal = Refusal::beyond(
    Limit::ConnectionsPerAddress,
    Status::TOO_MANY_REQUESTS,
    "you have as many connections as one client may have here",
);

/// The places of one listener.
pub(super) struct Admission {
    taken: usize,
    taken_max: usize,
    by_address: Seats,
}

/// A place that a connection holds; given back to [`Admission::leave`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seat(Option<Address>);

impl Admission {
    pub(super) fn new(config: &HttpConfig) -> Self {
        Self {
            taken: 0,
            taken_max: config.stream.connections_max,
            by_address: Seats::new(config.stream.connections_per_address_max),
        }
    }

    /// A place for `peer`, or why there is none.
    pub(super) fn admit(&mut self, peer: &Peer) -> Result<Seat, &'static Refusal> {
        if self.taken >= self.taken_max {
            return Err(&FULL);
        }
        let address = self.by_address.enter(peer).map_err(|()| &TOO_MANY)?;
        self.taken += 1;
        Ok(Seat(address))
    }

    /// The connection that held a place has ended.
    #[allow(clippy::needless_pass_by_value)] // by value, so that no place is given back twice
    pub(super) fn leave(&mut self, seat: Seat) {
        self.taken -= 1;
        if let Seat(Some(address)) = seat {
            self.by_address.leave(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StreamConfig;
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    fn admission(in_all: usize, per_address: u32) -> Admission {
        Admission::new(&HttpConfig {
            stream: StreamConfig {
                connections_max: in_all,
                connections_per_address_max: NonZeroU32::new(per_address),
                ..StreamConfig::default()
            },
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
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let mut admission = admission(100, 1);
        let first = admission.admit(&peer("192.0.2.1")).expect("a place");
        assert_eq!(admission.admit(&peer("192.0.2.1")), Err(&TOO_MANY));
        assert!(admission.admit(&peer("192.0.2.2")).is_ok());
        admission.leave(first);
        assert!(admission.admit(&peer("192.0.2.1")).is_ok());
    }
}
