//! Names to addresses: a stub resolver as a pure state machine (RFC 1034, section 5.3.1).
//!
//! Three rules:
//! 1. Nothing here touches a socket, a file or a clock. Datagrams come in through
//!    [`Resolver::receive`] and go out through [`Resolver::poll_transmit`]; the text of the hosts
//!    file and of `resolv.conf` is handed in, and so are the time and the seed of the query ids.
//!    The same calls always give the same answers.
//! 2. A message is believed only where it answers what was asked: the right server, the right id,
//!    the question echoed, and owner names that the question leads to. Everything else is a lie: it
//!    is counted and the wait goes on, but over TCP, where nobody else can have said it.
//! 3. Everything is bounded: lookups and waiters (by client as well), tries, chains, records,
//!    addresses, cached answers.
//!
//! The files in reading order: [`Config`], [`resolver`] (the state machine), `lookup` (one name
//! under way), `tries` (the queries under way), `answers` (what is kept), `name` (what a host name
//! may look like, and what is really an address), `message` (one query, one verdict on an answer),
//! `outcome` (how a question ended), [`hosts`], [`resolv_conf`], `sources` (where the settings come
//! from), [`refuse`] (addresses that a proxy does not connect to).
//!
//! Deliberately not here: recursion, DNSSEC, multicast DNS (RFC 6762), names that are not ASCII
//! (IDNA, RFC 5891), service records, and the order in which addresses are tried (RFC 8305 beyond
//! its interleaving): that is the business of whoever connects.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

mod answers;
mod config;
pub mod hosts;
mod lookup;
mod message;
mod name;
mod outcome;
pub mod refuse;
pub mod resolv_conf;
pub mod resolver;
mod sources;
mod tries;

pub use answers::HOLD;
pub use config::Config;
pub use hosts::Hosts;
pub use message::{Framed, STREAM_MESSAGE_BYTES_MAX, stream_message};
pub use refuse::{AddressPolicy, Refused, Why};
pub use resolv_conf::ResolvConf;
pub use resolver::{Counters, Resolver};
pub use sources::Sources;
pub use tries::{QueryId, Transmit, Transport};

/// The addresses of one name in the order in which to try them: never empty, IPv6 first, the two
/// families alternating (RFC 8305, section 4). Shared, so that a clone costs a counter.
pub type Addresses = Rc<[IpAddr]>;

/// Why a name has no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The text is neither an address nor a host name; nobody was asked.
    BadName,
    /// The servers say that there is no such name (NXDOMAIN).
    NotFound,
    /// The name exists and has neither an IPv4 nor an IPv6 address (NODATA).
    NoAddress,
    /// Every server answered that it failed, refused, or answered with nonsense.
    ServerFailure,
    /// No server answered in time.
    Timeout,
    /// The answer did not fit into a datagram, and none came over TCP either.
    Truncated,
    /// No server could be reached: the system refused to send, or to connect.
    Unreachable,
    /// Too many lookups are under way, or too many waiters stand behind this one; try again later.
    Busy,
    /// No name server is configured.
    NoNameserver,
}

impl Failure {
    /// Whether it is the servers' answer, and not for want of one (RFC 8767, section 5).
    fn is_answer(self) -> bool {
        matches!(self, Failure::NotFound | Failure::NoAddress)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::BadName => "not a host name",
            Failure::NotFound => "no such host",
            Failure::NoAddress => "the host has no address",
            Failure::ServerFailure => "the name server failed",
            Failure::Timeout => "the name server did not answer in time",
            Failure::Truncated => "the name server's answer was cut short",
            Failure::Unreachable => "the name server cannot be reached",
            Failure::Busy => "too many lookups are under way",
            Failure::NoNameserver => "no name server is configured",
        })
    }
}

impl std::error::Error for Failure {}

/// IPv6 first, then alternating, what is left of the longer family last (RFC 8305, section 4).
/// Duplicates are dropped.
fn interleave(addresses: impl IntoIterator<Item = IpAddr>) -> Addresses {
    let (mut v6, mut v4) = (Vec::new(), Vec::new());
    for address in addresses {
        let family = if address.is_ipv6() { &mut v6 } else { &mut v4 };
        if !family.contains(&address) {
            family.push(address);
        }
    }
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::with_capacity(v6.len() + v4.len());
    loop {
        let pair = (v6.next(), v4.next());
        if pair == (None, None) {
            return ordered.into();
        }
        ordered.extend(pair.0);
        ordered.extend(pair.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_v6_leads() {
        let text = ["10.0.0.1", "10.0.0.2", "::1", "10.0.0.1", "10.0.0.3"];
        let ordered = interleave(text.map(|t| t.parse().unwrap()));
        let expected: Vec<IpAddr> = ["::1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
            .iter()
            .map(|t| t.parse().unwrap())
            .collect();
        assert_eq!(&ordered[..], &expected[..]);
        assert!(interleave([]).is_empty());
    }
}
