//! Which hosts are reached past a proxy: the list that `no_proxy` holds in the environment, and in a
//! configuration.
//!
//! There is no standard. An entry names a host as itself, all below a domain (with or without a dot
//! or `*.` in front, and the domain itself in each case), an address, a range of addresses, or `*` for
//! all. Behind a colon may stand the one port that is meant.
//!
//! Rules:
//! 1. Names are compared without regard to case and to a dot at their end, and in ASCII
//!    ([`idn`]).
//! 2. An address is the address that it is, however it is written, and never a name. No name is looked
//!    up: a range fits hosts that were named by their address only.
//! 3. To ask allocates nothing.

use std::net::IpAddr;

use ipnet::IpNet;

use super::idn;

/// What an entry may look like, for who wrote one that does not.
pub const EXPECTED: &str = r#"a host such as "localhost", a domain such as "example.org", an address or a range such as "10.0.0.0/8", or "*""#;

/// The hosts that are reached directly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Entry>);

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    hosts: Hosts,
    /// The only port that is meant; `None` for all.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    Within(IpNet),
    /// This name and all below it, in ASCII, without a dot at either end.
    Below(String),
}

impl Entry {
    /// Reads an entry; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split_port(text);
        Some(Self {
            hosts: Hosts::parse(host)?,
            port,
        })
    }

    fn names(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match (&self.hosts, address) {
            (Hosts::All, _) => true,
            (Hosts::Within(range), Some(address)) => range.contains(&address),
            (Hosts::Below(domain), None) => is_below(host, domain),
            (Hosts::Within(_), None) | (Hosts::Below(_), Some(_)) => false,
        }
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let bare = text.replace(['[', ']'], "");
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Within(address.to_canonical().into()));
        }
        if let Ok(range) = bare.parse::<IpNet>() {
            return Some(Self::Within(range));
        }
        let domain = text.strip_prefix('*').unwrap_or(text);
        let domain = domain.trim_start_matches('.').trim_end_matches('.');
        let domain = idn::to_ascii(domain).ok()?.into_owned();
        let may_be_named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !domain.is_empty() && domain.bytes().all(may_be_named);
        is_name.then_some(Self::Below(domain))
    }
}

impl NoProxy {
    /// These entries.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    /// Reads entries between commas or blanks, as they stand in the environment. What is no entry fits
    /// nothing.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace());
        Self(entries.filter_map(Entry::parse).collect())
    }

    /// Whether an entry names this host: a name in ASCII or an address, an IPv6 address with or without
    /// its brackets and perhaps with a zone behind `%`.
    #[must_use]
    pub fn names(&self, host: &str, port: u16) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let bare = host.trim_matches(['[', ']']);
        let bare = bare.split_once('%').map_or(bare, |(bare, _zone)| bare);
        let address = bare.parse::<IpAddr>().ok();
        let address = address.map(|address| address.to_canonical());
        let mut entries = self.0.iter();
        entries.any(|entry| entry.names(bare, address, port))
    }
}

/// Whether a host is `domain` or below it.
fn is_below(host: &str, domain: &str) -> bool {
    let host = host.trim_end_matches('.');
    let tail_at = host.len().checked_sub(domain.len());
    let parts = tail_at.and_then(|at| host.split_at_checked(at));
    parts.is_some_and(|(above, tail)| {
        tail.eq_ignore_ascii_case(domain) && (above.is_empty() || above.ends_with('.'))
    })
}

/// Takes the port off an entry; the colons of a bare IPv6 address are none.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_reached_directly() {
        for (list, host, port, is_named) in [
            ("localhost, .example.org", "www.example.org", 80, true),
            ("example.org", "example.org", 80, true),
            (".example.org", "example.org", 80, true),
            ("*.example.org", "www.example.org", 80, true),
            ("example.org", "notexample.org", 80, false),
            ("www.example.org", "example.org", 80, false),
            ("*", "anything", 80, true),
            ("*", "192.0.2.1", 80, true),
            ("", "a", 80, false),
            (".", "a", 80, false),
            ("é", "xn--9ca", 80, true),
            ("é", "xxn--9ca", 80, false),
            // The dot at the end of a full name.
            ("localhost", "localhost.", 80, true),
            ("localhost.", "localhost", 80, true),
            ("example.org.", "WWW.example.org.", 80, true),
            // Commas, blanks, or both.
            ("a b\tc", "b", 80, true),
            (" a , b,,c ", "c", 80, true),
            ("a b", "ab", 80, false),
            // Addresses and ranges.
            ("[::1]", "[::1]", 80, true),
            ("[::1]", "::1", 80, true),
            ("0:0::1", "[::1]", 80, true),
            ("10.0.0.0/8", "10.20.30.40", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, false),
            ("10.1.2.3/8", "10.20.30.40", 80, true),
            ("127.0.0.0/8 192.168.0.0/16", "192.168.9.9", 80, true),
            ("fe80::/10", "[fe80::5%25lo]", 80, true),
            ("[fd00::]/8", "[fd12::1]", 80, true),
            ("10.0.0.0/8", "[::ffff:10.0.0.1]", 80, true),
            ("::ffff:10.0.0.1", "10.0.0.1", 80, true),
            ("10.0.0.0/8", "10.example.org", 80, false),
            ("0.0.1", "127.0.0.1", 80, false),
            // Ports.
            ("a:80", "a", 80, true),
            ("a:81", "a", 80, false),
            ("a:81", "a", 81, true),
            ("[::1]:81", "[::1]", 81, true),
            ("[::1]:81", "[::1]", 80, false),
            ("::1", "[::1]", 81, true),
        ] {
            let found = NoProxy::parse(list).names(host, port);
            assert_eq!(found, is_named, "{list:?} {host:?}:{port}");
        }
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for text in [
            "",
            ".",
            "*.",
            "a b",
            "a:x",
            "10.0.0.0/33",
            "http://a",
            "a/b",
            "*a*",
        ] {
            assert_eq!(Entry::parse(text), None, "{text:?}");
        }
    }
}
