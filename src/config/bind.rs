//! Where listeners listen: how `bind` is read, and which addresses are in each other's way.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;

use super::kinds::{Row, Transport};
use super::problem::Place;
use super::section::{Section, string};
use super::value::{Bind, UNIX_PATH_BYTES_MAX, parse_datagram_bind, parse_stream_bind};
use super::{Overrides, Read};

/// Reads `bind`: the addresses of a listener, each with where it stands.
pub(super) fn read(
    section: &mut Section<'_>,
    row: &Row,
    overrides: &Overrides,
) -> Vec<(Bind, Range<usize>)> {
    let base = section.folders.base.as_path();
    let expected = row.transport.bind_expected();
    let given = section.list_or_one("bind", expected, |value| {
        row.transport.parse_bind(string(value)?, base)
    });
    let span = section.span("bind");
    let given = match given {
        Some(binds) if binds.is_empty() => {
            let what = format!("`bind` is empty; expected {expected}, or a list of such");
            section.problem(span.clone(), what);
            None
        }
        given => given,
    };
    overrides.moved(match given {
        Some(binds) => binds.into_iter().zip(section.entry_spans("bind")).collect(),
        None => vec![(row.default_bind(), span)],
    })
}

/// Refuses addresses that could not both be bound, of one listener or of two.
pub(super) fn refuse_taken(section: &mut Section<'_>, text: &str, read: &[Read]) {
    let mut taken: Vec<(&Bind, &Range<usize>, &str)> = Vec::new();
    for read in read {
        for (bind, span) in read.listener.bind.iter().zip(&read.bind_spans) {
            let first = taken.iter().find(|(first, ..)| first.collides(bind));
            if let Some((first, first_span, name)) = first {
                let Place { line, .. } = Place::of(text, first_span.start);
                let by = match *first == bind {
                    true => format!("listener {name:?}"),
                    false => format!("{first} of listener {name:?}"),
                };
                let what = format!(
                    "the address {bind} is taken by {by} (line {line}); expected another `bind`"
                );
                section.problem(span.clone(), what);
            }
            taken.push((bind, span, &read.listener.name));
        }
    }
}

impl Overrides {
    /// The addresses of a listener where the IP address that was asked for wins over theirs. Those
    /// that differed by it alone become one; each port 0 is another port.
    pub(super) fn moved(&self, binds: Vec<(Bind, Range<usize>)>) -> Vec<(Bind, Range<usize>)> {
        let Some(ip) = self.bind else {
            return binds;
        };
        let mut moved: Vec<(Bind, Range<usize>)> = Vec::new();
        for (mut bind, span) in binds {
            if let Bind::Tcp(address) | Bind::Udp(address) = &mut bind {
                address.set_ip(ip);
            }
            if !moved.iter().any(|(other, _)| other.collides(&bind)) {
                moved.push((bind, span));
            }
        }
        moved
    }
}

impl Row {
    /// The address where nothing else is configured.
    pub(super) fn default_bind(&self) -> Bind {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        match self.transport {
            Transport::Stream => Bind::Tcp(address),
            Transport::Datagram => Bind::Udp(address),
        }
    }
}

impl Transport {
    /// What a wrong `bind` is told.
    fn bind_expected(self) -> &'static str {
        match self {
            Transport::Stream => {
                r#"an address such as "127.0.0.1:6789", "[::1]:6789", "*:6789" or "unix:/run/x.sock""#
            }
            Transport::Datagram => {
                r#"an address such as "127.0.0.1:12000", "[::1]:12000" or "*:12000""#
            }
        }
    }

    /// Parses a `bind`; the path of a Unix socket leads from `base`.
    fn parse_bind(self, text: &str, base: &Path) -> Result<Bind, String> {
        let bind = match self {
            Transport::Stream => parse_stream_bind(text)?,
            Transport::Datagram => parse_datagram_bind(text)?,
        };
        let Bind::Unix(path) = bind else {
            return Ok(bind);
        };
        let path = base.join(path);
        match path.as_os_str().len() {
            0..=UNIX_PATH_BYTES_MAX => Ok(Bind::Unix(path)),
            long => Err(format!(
                "is a path of {long} bytes, above {UNIX_PATH_BYTES_MAX}"
            )),
        }
    }
}
