//! Who a request comes from when proxies stand between: what they say, whom to believe, and what is
//! said to the next server.
//!
//! RFC 7239 (`Forwarded`); `X-Forwarded-For`, `-Proto` and `-Host` as widely used.
//!
//! Rules:
//! 1. Anybody can write these fields. They are believed from a peer that is trusted, and read from
//!    the right, where that peer wrote: the client is the first address that is not trusted in
//!    turn. Where a trusted one told no address, or none that can be read, the client is that one.
//! 2. One kind of field is believed, that which is configured: a proxy that writes the one passes
//!    on what its client wrote in the other.
//! 3. To the next server only what was believed is passed on, and our own element behind it.
//!
//! Not here: which peers are trusted.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::head::{Headers, put_header};
use super::{is_token, list_elements, put_decimal, trim_ows};

/// In which fields addresses of clients are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fields {
    /// In none.
    Off,
    /// `Forwarded`, as RFC 7239 has it.
    Forwarded,
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
}

/// What one proxy knows of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// Who is at its other end, if that has an address.
    pub peer: Option<IpAddr>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The value of `Host`, if there is one.
    pub host: Option<&'a [u8]>,
    /// The response may be kept for others, under a key without a host of the client's choice: such
    /// a host is not told, or an origin that writes it into its links would do so for all of them.
    pub is_for_others: bool,
}

/// Who sent the request of these headers, which came from `peer`. Without an answer, it is the peer.
pub fn client(
    fields: Fields,
    headers: &Headers<'_>,
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let name = match fields {
        Fields::Off => return None,
        Fields::Forwarded => "forwarded",
        Fields::XForwarded => "x-forwarded-for",
    };
    if !is_trusted(peer) {
        return None;
    }
    let lines: Vec<&[u8]> = headers.all(name).collect();
    let mut client = None;
    for line in lines.into_iter().rev() {
        let told: Vec<Option<IpAddr>> = match fields {
            Fields::Forwarded => forwarded_elements(line).map(told_in).collect(),
            _ => list_elements(line).map(node).collect(),
        };
        for address in told.into_iter().rev() {
            let Some(address) = address else {
                return client;
            };
            client = Some(address);
            if !is_trusted(address) {
                return client;
            }
        }
    }
    client
}

/// Whether a field tells of clients, in any way that servers believe.
#[must_use]
pub fn is_field(name: &[u8]) -> bool {
    match name.len() {
        9 if name.eq_ignore_ascii_case(b"forwarded") => true,
        9 if name.eq_ignore_ascii_case(b"x-real-ip") => true,
        13.. => name[..12].eq_ignore_ascii_case(b"x-forwarded-"),
        _ => false,
    }
}

/// Writes the fields for the next server. `before`: the headers of the request, if its peer is
/// trusted.
pub fn put(out: &mut Vec<u8>, fields: Fields, before: Option<&Headers<'_>>, hop: &Hop<'_>) {
    match fields {
        Fields::Off => {}
        Fields::Forwarded => put_forwarded(out, before, hop),
        Fields::XForwarded => put_x_forwarded(out, before, hop),
    }
}

fn put_forwarded(out: &mut Vec<u8>, before: Option<&Headers<'_>>, hop: &Hop<'_>) {
    // An element may name a host.
    let before = before.filter(|_| !hop.is_for_others);
    out.extend_from_slice(b"Forwarded: ");
    put_elements(out, before, "forwarded");
    let (before, behind): (&[u8], &[u8]) = match hop.peer {
        Some(IpAddr::V6(_)) => (b"for=\"[", b"]\""),
        _ => (b"for=", b""),
    };
    out.extend_from_slice(before);
    put_address(out, hop.peer);
    out.extend_from_slice(behind);
    if let Some(host) = hop.host.filter(|_| !hop.is_for_others) {
        out.extend_from_slice(b";host=");
        let quote: &[u8] = if is_token(host) { b"" } else { b"\"" };
        // A host has no quotes and no backslashes.
        for part in [quote, host, quote] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(hop.scheme.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put_x_forwarded(out: &mut Vec<u8>, before: Option<&Headers<'_>>, hop: &Hop<'_>) {
    let earlier = before.is_some_and(|headers| headers.contains("x-forwarded-for"));
    if earlier || hop.peer.is_some() {
        out.extend_from_slice(b"X-Forwarded-For: ");
        put_elements(out, before, "x-forwarded-for");
        put_address(out, hop.peer);
        out.extend_from_slice(b"\r\n");
    }
    // The client's own, as the first proxy saw them.
    let told = |name| before.and_then(|headers| headers.only(name));
    let scheme = told("x-forwarded-proto").unwrap_or(hop.scheme.as_bytes());
    put_header(out, "X-Forwarded-Proto", scheme);
    let host = told("x-forwarded-host").or(hop.host);
    if let Some(host) = host.filter(|_| !hop.is_for_others) {
        put_header(out, "X-Forwarded-Host", host);
    }
}

fn put_address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => out.extend_from_slice(b"unknown"),
        Some(IpAddr::V4(address)) => {
            let [first, others @ ..] = address.octets();
            put_decimal(out, u64::from(first));
            for octet in others {
                out.push(b'.');
                put_decimal(out, u64::from(octet));
            }
        }
        // Invariant: writing into memory does not fail.
        Some(IpAddr::V6(address)) => write!(out, "{address}").unwrap(),
    }
}

/// Writes the elements of the fields with this name, each with a comma behind it.
fn put_elements(out: &mut Vec<u8>, before: Option<&Headers<'_>>, name: &str) {
    for value in before.into_iter().flat_map(|headers| headers.all(name)) {
        if !value.is_empty() {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
}

/// The elements of a `Forwarded`; a comma within quotes is none.
fn forwarded_elements(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let elements = split_unquoted(value, b',').into_iter().map(trim_ows);
    elements.filter(|element| !element.is_empty())
}

/// The parts of a text between separators that stand outside of quotes.
fn split_unquoted(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if byte == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The address in the one `for` of an element of `Forwarded`.
fn told_in(element: &[u8]) -> Option<IpAddr> {
    let pairs = split_unquoted(element, b';').into_iter();
    let mut nodes = pairs.filter_map(|pair| {
        let (name, value) = trim_ows(pair).split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    });
    let value = nodes.next().filter(|_| nodes.next().is_none())?;
    match value {
        [b'"', inner @ .., b'"'] => node(inner),
        value => node(value).filter(|_| is_token(value)),
    }
}

/// An address as these fields have it: an IPv4 address with or without a port, an IPv6 address with
/// or without brackets, and within them with or without a port. `None` for all else, such as
/// `unknown` and `_hidden`.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let bare = || text.strip_prefix('[')?.strip_suffix(']');
    let ip: Option<IpAddr> = match bare() {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadScanner, Limits, Parsed};
    use proptest::prelude::*;

    fn with_headers<T>(lines: &str, see: impl FnOnce(&Headers<'_>) -> T) -> T {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let mut scanner = HeadScanner::default();
        match scanner.request(head.as_bytes(), &Limits::default()) {
            Ok(Parsed::Complete(head, _)) => see(&head.headers),
            other => panic!("{other:?}"),
        }
    }

    /// Who sent a request with these lines, where 10.0.0.0/8 is trusted and 10.0.0.1 is the peer.
    fn sent_by(fields: Fields, lines: &str) -> Option<String> {
        let is_trusted = |ip: IpAddr| ip.to_string().starts_with("10.");
        let peer = [10, 0, 0, 1].into();
        with_headers(lines, |headers| client(fields, headers, peer, is_trusted))
            .map(|ip| ip.to_string())
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_trusted() {
        for (lines, expected) in [
            ("", None),
            ("X-Forwarded-For: 192.0.2.7\r\n", Some("192.0.2.7")),
            ("X-Forwarded-For: 1.1.1.1, 192.0.2.7\r\n", Some("192.0.2.7")),
            (
                "X-Forwarded-For: 1.1.1.1, 192.0.2.7, 10.1.2.3\r\n",
                Some("192.0.2.7"),
            ),
            (
                "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 192.0.2.7:80,,\r\n",
                Some("192.0.2.7"),
            ),
            ("X-Forwarded-For: 2001:db8::7\r\n", Some("2001:db8::7")),
            (
                "X-Forwarded-For: [2001:db8::7]:8080\r\n",
                Some("2001:db8::7"),
            ),
            ("X-Forwarded-For: ::ffff:192.0.2.7\r\n", Some("192.0.2.7")),
            ("X-Forwarded-For: 10.9.9.9, 10.2.2.2\r\n", Some("10.9.9.9")),
            ("X-Forwarded-For: 192.0.2.7, unknown\r\n", None),
            (
                "X-Forwarded-For: 192.0.2.7, unknown, 10.2.2.2\r\n",
                Some("10.2.2.2"),
            ),
            ("Forwarded: for=192.0.2.7\r\n", None),
        ] {
            let client = sent_by(Fields::XForwarded, lines);
            assert_eq!(client.as_deref(), expected, "{lines}");
        }
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_has_it() {
        for (value, expected) in [
            ("for=192.0.2.7", Some("192.0.2.7")),
            ("For=\"[2001:db8::7]:4711\"", Some("2001:db8::7")),
            (
                "for=192.0.2.7;proto=http;by=203.0.113.43",
                Some("192.0.2.7"),
            ),
            ("for=1.1.1.1, proto=http ; for=192.0.2.7", Some("192.0.2.7")),
            ("for=192.0.2.7, for=10.0.0.9", Some("192.0.2.7")),
            ("for=192.0.2.7;host=\"a,for=10.9.9.9\"", Some("192.0.2.7")),
            (
                "for=192.0.2.7;host=\"a\\\",for=10.9.9.9;\\\"\"",
                Some("192.0.2.7"),
            ),
            ("for=_hidden", None),
            ("for=unknown", None),
            ("for=192.0.2.7;for=192.0.2.8", None),
            ("for=[2001:db8::7]", None), // to be quoted
            ("by=192.0.2.7", None),
            ("for=\"192.0.2.7", None),
            ("", None),
        ] {
            let lines = format!("Forwarded: {value}\r\nX-Forwarded-For: 5.5.5.5\r\n");
            let client = sent_by(Fields::Forwarded, &lines);
            assert_eq!(client.as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn nobody_is_believed_who_is_not_trusted() {
        let lines = "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\n";
        with_headers(lines, |headers| {
            let peer = IpAddr::from([192, 0, 2, 1]);
            for fields in [Fields::Off, Fields::Forwarded, Fields::XForwarded] {
                assert_eq!(client(fields, headers, peer, |_| false), None);
            }
            assert_eq!(client(Fields::Off, headers, peer, |_| true), None);
        });
    }

    #[test]
    fn what_is_written_can_be_read() {
        for peer in ["192.0.2.7", "2001:db8::7"] {
            let hop = Hop {
                peer: Some(peer.parse().expect("an address")),
                scheme: "https",
                host: Some(b"a.example:8443"),
                is_for_others: false,
            };
            for fields in [Fields::Forwarded, Fields::XForwarded] {
                let mut out = Vec::new();
                put(&mut out, fields, None, &hop);
                let lines = String::from_utf8(out).expect("text");
                assert_eq!(sent_by(fields, &lines).as_deref(), Some(peer), "{lines}");
                let mut again = Vec::new();
                let next = Hop {
                    peer: Some([10, 0, 0, 1].into()),
                    ..hop
                };
                with_headers(&lines, |before| {
                    put(&mut again, fields, Some(before), &next);
                });
                let lines = String::from_utf8(again).expect("text");
                assert_eq!(sent_by(fields, &lines).as_deref(), Some(peer), "{lines}");
            }
        }
        let mut out = Vec::new();
        let hop = Hop {
            peer: None,
            scheme: "http",
            host: Some(b"a"),
            is_for_others: false,
        };
        put(&mut out, Fields::Forwarded, None, &hop);
        assert_eq!(out, b"Forwarded: for=unknown;host=a;proto=http\r\n");
    }

    #[test]
    fn no_host_is_told_where_the_response_may_be_for_others() {
        let hop = Hop {
            peer: Some([192, 0, 2, 7].into()),
            scheme: "http",
            host: Some(b"evil.example"),
            is_for_others: true,
        };
        let before = "X-Forwarded-Host: evil.example\r\nForwarded: for=a;host=evil.example\r\n";
        for fields in [Fields::Forwarded, Fields::XForwarded] {
            let mut out = Vec::new();
            with_headers(before, |before| put(&mut out, fields, Some(before), &hop));
            let lines = String::from_utf8(out).expect("text");
            assert!(lines.contains("192.0.2.7"), "{lines}");
            assert!(!lines.contains("evil"), "{lines}");
        }
    }

    #[test]
    fn the_fields_that_servers_believe_are_known() {
        for name in [
            "forwarded",
            "X-Real-IP",
            "x-forwarded-for",
            "X-FORWARDED-Port",
        ] {
            assert!(is_field(name.as_bytes()), "{name}");
        }
        for name in [
            "forwarder",
            "x-forwarded-",
            "x-forwarded",
            "via",
            "x-real-ips",
        ] {
            assert!(!is_field(name.as_bytes()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics_and_none_is_read_beyond_what_is_there(value in "[ -~]{0,60}") {
            let lines = format!("X-Forwarded-For: {value}\r\nForwarded: {value}\r\n");
            for fields in [Fields::Forwarded, Fields::XForwarded] {
                let told = sent_by(fields, &lines);
                prop_assert!(told.is_none_or(|ip| value.contains('.') || value.contains(&ip) || value.contains(':')));
            }
        }
    }
}
