//! The PROXY protocol: what a load balancer says ahead of a connection that it passes on, so that the
//! server learns who its client is. Versions 1 and 2, as HAProxy's specification of 2020/03/05 has
//! them (`doc/proxy-protocol.txt`).
//!
//! ```text
//! 1   PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n
//! 2   12 bytes, version and command, family and transport, the length of the rest as two bytes,
//!     both addresses, both ports, perhaps further fields, which are skipped
//! ```
//!
//! Not here: whom to believe, and when a header is awaited.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is taken: a line of version 1 has 107 bytes at most, and version 2 as many
/// as its further fields (certificates, for one) take.
pub const HEADER_BYTES_MAX: usize = 2048;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What stands before the addresses in version 2.
const FIXED_BYTES: usize = 16;
const V1_BYTES_MAX: usize = 107;
/// Both addresses and both ports, by family.
const V4_BYTES: usize = 12;
const V6_BYTES: usize = 36;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The connection is passed on from this address; where it led to is of no interest here.
    From(SocketAddr),
    /// The connection is the proxy's own, or of a kind that has no such address.
    Own,
}

/// The bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Reads the header at the beginning of `bytes`: what it says, and how long it is; `None` while it is
/// not whole. It is whole or refused within [`HEADER_BYTES_MAX`] bytes.
///
/// # Errors
/// There is none, or one that is longer than that.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] == SIGNATURE[..known] {
        return parse_v2(bytes);
    }
    let known = bytes.len().min(PREFIX.len());
    if bytes[..known] == PREFIX[..known] {
        return parse_v1(bytes);
    }
    Err(Malformed)
}

const PREFIX: &[u8; 6] = b"PROXY ";

fn parse_v1(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let searched = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = searched.iter().position(|&byte| byte == b'\n') else {
        return match searched.len() < V1_BYTES_MAX {
            true => Ok(None),
            false => Err(Malformed),
        };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let line = str::from_utf8(&line[PREFIX.len()..]).map_err(|_| Malformed)?;
    let mut words = line.split(' ');
    let header = match words.next() {
        Some("UNKNOWN") => Header::Own, // whatever follows
        Some(family @ ("TCP4" | "TCP6")) => {
            let mut address = || -> Option<IpAddr> {
                let ip: IpAddr = words.next()?.parse().ok()?;
                (ip.is_ipv4() == (family == "TCP4")).then_some(ip)
            };
            let (source, _) = address().zip(address()).ok_or(Malformed)?;
            let mut port = || words.next().and_then(port);
            let (source_port, _) = port().zip(port()).ok_or(Malformed)?;
            if words.next().is_some() {
                return Err(Malformed);
            }
            Header::From(SocketAddr::new(source, source_port))
        }
        _ => return Err(Malformed),
    };
    Ok(Some((header, end + 1)))
}

/// Digits only, and no zero before them.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain && is_short)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    if let Some(&command) = bytes.get(SIGNATURE.len())
        && !matches!(command, 0x20 | 0x21)
    {
        return Err(Malformed);
    }
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = FIXED_BYTES + length;
    if whole > HEADER_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(rest) = bytes.get(FIXED_BYTES..whole) else {
        return Ok(None);
    };
    let header = match (command, family) {
        (0x21, 0x11) => {
            let addresses = rest.first_chunk::<V4_BYTES>().ok_or(Malformed)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            Header::From(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port))
        }
        (0x21, 0x21) => {
            let addresses = rest.first_chunk::<V6_BYTES>().ok_or(Malformed)?;
            let (source, ports) = addresses.split_at(32);
            let source: [u8; 16] = source[..16].try_into().map_err(|_| Malformed)?;
            let port = u16::from_be_bytes([ports[0], ports[1]]);
            Header::From(SocketAddr::new(Ipv6Addr::from(source).into(), port))
        }
        _ => Header::Own,
    };
    Ok(Some((header, whole)))
}

/// Writes the header of a connection from `source` to `destination`; without a source, that of one
/// without addresses. Where the families differ, the IPv4 address is written within IPv6.
pub fn put(
    out: &mut Vec<u8>,
    version: Version,
    source: Option<SocketAddr>,
    destination: SocketAddr,
) {
    let Some(source) = source else {
        match version {
            Version::V1 => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
            Version::V2 => {
                out.extend_from_slice(SIGNATURE);
                out.extend_from_slice(&[0x20, 0, 0, 0]);
            }
        }
        return;
    };
    let ends = [source, destination].map(|end| (end.ip().to_canonical(), end.port()));
    match version {
        Version::V1 => put_v1(out, ends),
        Version::V2 => put_v2(out, ends),
    }
}

fn put_v1(out: &mut Vec<u8>, ends: [(IpAddr, u16); 2]) {
    let [(from, from_port), (to, to_port)] = ends;
    // A Vec takes everything.
    let _ = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            write!(out, "PROXY TCP4 {from} {to} {from_port} {to_port}\r\n")
        }
        (from, to) => {
            let (from, to) = (in_v6(from), in_v6(to));
            write!(out, "PROXY TCP6 {from} {to} {from_port} {to_port}\r\n")
        }
    };
}

fn put_v2(out: &mut Vec<u8>, ends: [(IpAddr, u16); 2]) {
    out.extend_from_slice(SIGNATURE);
    out.push(0x21);
    match (ends[0].0, ends[1].0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x11, 0, V4_BYTES as u8]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.extend_from_slice(&[0x21, 0, V6_BYTES as u8]);
            out.extend_from_slice(&in_v6(from).octets());
            out.extend_from_slice(&in_v6(to).octets());
        }
    }
    for (_, port) in ends {
        out.extend_from_slice(&port.to_be_bytes());
    }
}

fn in_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn written(version: Version, source: Option<&str>, destination: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, version, source.map(end), end(destination));
        out
    }

    #[test]
    fn a_line_of_version_1_is_read() {
        let from = |text: &str| Ok(Some((Header::From(end(text)), 0)));
        for (line, expected) in [
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
                from("192.0.2.7:4711"),
            ),
            (
                "PROXY TCP6 2001:db8::7 ::1 65535 0\r\n",
                from("[2001:db8::7]:65535"),
            ),
            ("PROXY UNKNOWN\r\n", Ok(Some((Header::Own, 0)))),
            ("PROXY UNKNOWN ffff:f 1 2\r\n", Ok(Some((Header::Own, 0)))),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r", Ok(None)),
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n",
                Err(Malformed),
            ),
            ("PROXY TCP4 2001:db8::7 ::1 1 1\r\n", Err(Malformed)),
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
                Err(Malformed),
            ),
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
                Err(Malformed),
            ),
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
                Err(Malformed),
            ),
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 1 443 \r\n",
                Err(Malformed),
            ),
            (
                "PROXY TCP4  192.0.2.7 198.51.100.1 1 443\r\n",
                Err(Malformed),
            ),
            (
                "PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n",
                Err(Malformed),
            ),
            ("PROXY \r\n", Err(Malformed)),
            ("GET / HTTP/1.1\r\n", Err(Malformed)),
            ("\r\nGET / HTTP/1.1", Err(Malformed)),
        ] {
            let parsed = parse(line.as_bytes());
            let parsed = parsed.map(|header| {
                header.map(|(header, length)| {
                    assert_eq!(length, line.len());
                    (header, 0)
                })
            });
            assert_eq!(parsed, expected, "{line}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(parse(long.as_bytes()), Err(Malformed));
    }

    #[test]
    fn what_is_written_can_be_read_cut_anywhere() {
        for version in [Version::V1, Version::V2] {
            for (source, destination) in [
                ("192.0.2.7:4711", "198.51.100.1:443"),
                ("[2001:db8::7]:4711", "[::1]:443"),
                ("192.0.2.7:4711", "[2001:db8::1]:443"),
                ("[::ffff:192.0.2.7]:4711", "198.51.100.1:443"),
            ] {
                let mut bytes = written(version, Some(source), destination);
                let length = bytes.len();
                for cut in 0..length {
                    assert_eq!(parse(&bytes[..cut]), Ok(None), "{source} {cut}");
                }
                bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
                let Ok(Some((Header::From(from), end_at))) = parse(&bytes) else {
                    panic!("{source}");
                };
                assert_eq!(end_at, length);
                assert_eq!(from.ip().to_canonical(), end(source).ip().to_canonical());
                assert_eq!(from.port(), 4711);
            }
            let own = written(version, None, "198.51.100.1:443");
            assert_eq!(parse(&own), Ok(Some((Header::Own, own.len()))));
        }
    }

    #[test]
    fn version_2_is_read_with_further_fields_and_within_its_bounds() {
        let mut bytes = written(Version::V2, Some("192.0.2.7:1"), "192.0.2.8:2");
        bytes[15] += 5;
        assert_eq!(parse(&bytes), Ok(None), "a field is to come");
        bytes.extend_from_slice(&[4, 0, 2, 9, 9]);
        let length = bytes.len();
        assert_eq!(
            parse(&bytes),
            Ok(Some((Header::From(end("192.0.2.7:1")), length)))
        );
        let mut short = bytes.clone();
        short[15] = 11;
        assert_eq!(parse(&short), Err(Malformed), "no room for the addresses");
        let mut long = bytes.clone();
        long[14] = 0xff;
        assert_eq!(parse(&long), Err(Malformed), "longer than anybody needs");
        for command in [0x11, 0x22, 0x00] {
            let mut other = bytes.clone();
            other[12] = command;
            assert_eq!(parse(&other), Err(Malformed), "{command:x}");
        }
        for family in [0x00, 0x12, 0x31] {
            let mut other = bytes.clone();
            other[13] = family;
            assert_eq!(parse(&other), Ok(Some((Header::Own, length))), "{family:x}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_all_come_to_an_end(
            signed in any::<bool>(),
            rest in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let mut bytes = if signed { SIGNATURE.to_vec() } else { PREFIX.to_vec() };
            bytes.extend(rest);
            match parse(&bytes) {
                Ok(None) => prop_assert!(bytes.len() < HEADER_BYTES_MAX),
                Ok(Some((_, length))) => prop_assert!(length <= bytes.len().min(HEADER_BYTES_MAX)),
                Err(Malformed) => {}
            }
        }
    }
}
