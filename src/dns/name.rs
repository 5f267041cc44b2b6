//! What a caller's text means: an address, or a host name to be looked up.
//!
//! Two rules:
//! 1. Whatever `inet_aton(3)` reads as an address is an address here as well, in its one to four
//!    parts and its decimal, octal and hexadecimal spellings, so that `2130706433`, `0x7f.1` and
//!    `0177.0.0.1` reach the address policy as `127.0.0.1`. Text whose last label is a number and
//!    which is no such address is no name either: no top-level domain is a number (RFC 1123,
//!    section 2.1; RFC 3696, section 2).
//! 2. A name is letters, digits, hyphens and underscores in labels of 1 to 63 octets, 253 in all
//!    (RFC 1035, section 2.3.4), with or without the final dot that makes it absolute. It is
//!    compared in lower case (RFC 4343). Hyphens may stand anywhere, since names in use have them
//!    at either end.
//!
//! Deliberately not here: IDNA (callers pass the `xn--` form) and zone ids of IPv6 addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a label (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;
/// Octets of a name in its dotted form without the final dot: 255 on the wire less the first length
/// octet and the root's.
pub(super) const NAME_BYTES_MAX: usize = 253;

/// What the text turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A literal address.
    Address(IpAddr),
    /// A valid name in lower case; a final dot is kept.
    Name(String),
}

/// Tells an address from a name; `None` for text that is neither.
pub(super) fn parse(text: &str) -> Option<Target> {
    if let Some(inner) = text.strip_prefix('[') {
        let v6: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(Target::Address(v6.into()));
    }
    if text.contains(':') {
        return Some(Target::Address(text.parse::<Ipv6Addr>().ok()?.into()));
    }
    let relative = text.strip_suffix('.').unwrap_or(text);
    if !is_host_name(relative) {
        return None;
    }
    // Invariant: `rsplit` yields at least one item.
    let last = relative.rsplit('.').next().unwrap_or_default();
    if is_number(last) {
        return Some(Target::Address(inet_aton(relative)?.into()));
    }
    Some(Target::Name(text.to_ascii_lowercase()))
}

/// True for a valid name without a final dot.
pub(super) fn is_host_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.split('.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// The absolute names to ask for, in order: `search` is applied to a name without a final dot,
/// after the name itself if that has at least `ndots` dots, and before it otherwise. Combinations
/// that are no valid names are left out.
pub(super) fn candidates(name: &str, search: &[String], ndots: u32) -> Vec<String> {
    if let Some(absolute) = name.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let mut names: Vec<String> = search
        .iter()
        .map(|domain| format!("{name}.{domain}"))
        .filter(|candidate| is_host_name(candidate))
        .collect();
    let dots = name.bytes().filter(|&b| b == b'.').count();
    let own_place = if dots >= ndots as usize {
        0
    } else {
        names.len()
    };
    names.insert(own_place, name.to_owned());
    names
}

/// True for a label that a C library would try to read as a number.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or(label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// One to four numbers; the last one fills all the octets that are left.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (&last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|&part| part > 0xff) {
        return None;
    }
    let last_bits = 32 - 8 * leading.len() as u32;
    if u64::from(last) >= 1 << last_bits {
        return None;
    }
    let high = leading
        .iter()
        .enumerate()
        .fold(0, |sum, (i, &part)| sum | part << (24 - 8 * i));
    Some(Ipv4Addr::from_bits(high | last))
}

/// A number in C's notation: `0x` hexadecimal, a leading `0` octal, otherwise decimal.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || text.starts_with('+') {
        return None;
    }
    if let Some(digits) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        if digits.starts_with('+') {
            return None;
        }
        return u32::from_str_radix(digits, 16).ok();
    }
    let radix = if text.starts_with('0') { 8 } else { 10 };
    u32::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<Target> {
        Some(Target::Address(text.parse().unwrap()))
    }

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for (text, meant) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0X7F000001", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("017700000001", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("10.1.2", "10.1.0.2"),
            ("10.65535", "10.0.255.255"),
            ("0", "0.0.0.0"),
            ("4294967295", "255.255.255.255"),
            ("0xa9.0xfe.0xa9.0xfe", "169.254.169.254"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ] {
            assert_eq!(parse(text), address(meant), "{text}");
        }
    }

    #[test]
    fn a_number_that_is_no_address_is_no_name_either() {
        for text in [
            "4294967296",
            "256.1.1.1",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.256.3",
            "0x",
            "09",
            "127.0.0.08",
            "example.1",
            "example.0x7f",
            "0x1.0x",
            "99999999999999999999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_lower_cased_and_validated() {
        let name = |text: &str| Some(Target::Name(text.to_owned()));
        assert_eq!(parse("WWW.Example.COM"), name("www.example.com"));
        assert_eq!(parse("www.example.com."), name("www.example.com."));
        assert_eq!(parse("_dmarc.a-b.test"), name("_dmarc.a-b.test"));
        assert_eq!(parse("-odd-.test"), name("-odd-.test"));
        assert_eq!(parse("1.2.3.4.example"), name("1.2.3.4.example"));
        assert_eq!(parse("0xfoo"), name("0xfoo"));
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), NAME_BYTES_MAX);
        assert!(parse(&longest).is_some());
        assert!(parse(&format!("{longest}.")).is_some());
        assert_eq!(parse(&format!("{longest}a")), None);
        assert_eq!(parse(&format!("a{label}.test")), None);
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a\0b",
            "münchen.example",
            "[::1",
            "[1.2.3.4]",
            "[example]",
            "fe80::1%eth0",
            "1:2",
            "a%2e",
            "１２７.1",
            "a..",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn search_domains_come_before_or_after_by_the_number_of_dots() {
        let search = ["one.test".to_owned(), "two.test".to_owned()];
        let ask = |name| candidates(name, &search, 1);
        assert_eq!(ask("host"), ["host.one.test", "host.two.test", "host"]);
        assert_eq!(ask("a.b"), ["a.b", "a.b.one.test", "a.b.two.test"]);
        assert_eq!(ask("host."), ["host"]);
        let long = vec!["a".repeat(62); 4].join(".");
        assert_eq!(ask(&long), std::slice::from_ref(&long));
    }
}
