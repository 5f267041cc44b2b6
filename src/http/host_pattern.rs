//! Patterns for hosts: `example.com` is that host, `*.example.com` every name below it, at any depth,
//! and `*` every host.
//!
//! Names are compared without regard to case and to a dot at their end; an address is the address
//! that it is, however it is written. A star stands for whole labels at the beginning and nowhere
//! else, as in certificates: a pattern that also fits `evilexample.com` is nobody's wish.

use std::net::{IpAddr, Ipv6Addr};

use super::target::{Authority, Host};

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host.
    All,
    /// This name, in lower case.
    Name(String),
    /// Every name below this one, in lower case.
    Below(String),
    /// This address.
    Address(IpAddr),
}

impl HostPattern {
    /// Reads a pattern; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Some(address) = address(text) {
            return Some(Self::Address(address));
        }
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = without_dot(name);
        let is_name = match Authority::parse(name) {
            Some(Authority { host, port: None }) => host == Host::Name(name),
            _ => false,
        };
        let name = name.to_ascii_lowercase();
        match below {
            _ if !is_name => None,
            true => Some(Self::Below(name)),
            false => Some(Self::Name(name)),
        }
    }

    /// Whether a host fits, an IPv6 address with or without its brackets.
    #[must_use]
    pub fn fits(&self, host: &str) -> bool {
        let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
        let host = without_dot(host);
        match self {
            Self::All => true,
            Self::Name(name) => is(name, host),
            Self::Below(name) => {
                let split = host.len().checked_sub(name.len() + 1);
                let parts = split.and_then(|at| host.split_at_checked(at));
                parts.is_some_and(|(labels, end)| {
                    let end = end.strip_prefix('.');
                    !labels.is_empty() && end.is_some_and(|end| is(name, end))
                })
            }
            Self::Address(wanted) => address(host) == Some(*wanted),
        }
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']');
    let address = match bare() {
        Some(inner) => inner.parse::<Ipv6Addr>().ok()?.into(),
        None => text.parse::<IpAddr>().ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_they_say() {
        for (pattern, fits, others) in [
            ("*", &["a", "1.2.3.4", "[::1]"][..], &[][..]),
            (
                "Example.com",
                &["example.COM", "example.com."],
                &[
                    "a.example.com",
                    "example.co",
                    "xexample.com",
                    "example.com..",
                ],
            ),
            (
                "*.example.com",
                &["a.example.com", "A.b.EXAMPLE.com."],
                &[
                    "example.com",
                    ".example.com",
                    "xexample.com",
                    "a.example.com.evil",
                ],
            ),
            (
                "192.0.2.1",
                &["192.0.2.1", "[::ffff:192.0.2.1]"],
                &["192.0.2.10"],
            ),
            (
                "[2001:db8::1]",
                &["[2001:DB8:0::1]", "2001:db8::1"],
                &["[2001:db8::2]"],
            ),
        ] {
            let parsed = HostPattern::parse(pattern).expect(pattern);
            for host in fits {
                assert!(parsed.fits(host), "{pattern} {host}");
            }
            for host in others {
                assert!(!parsed.fits(host), "{pattern} {host}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "*.",
            "a*.example",
            "*example.com",
            "a.*",
            "a:80",
            "a/b",
            "*.*.a",
            "a b",
        ] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
