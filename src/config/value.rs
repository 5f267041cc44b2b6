//! The small values of the configuration: addresses, shares, secrets, durations and sizes.
//!
//! Each type is parsed once from the text that a person wrote and cannot hold anything that the
//! rest of the program would have to check again. A parse error is half a sentence that says what
//! was wrong; the caller adds where, and what was expected.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// A TCP address; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A UDP address; port 0 picks a free one.
    Udp(SocketAddr),
    /// The path of a Unix stream socket, at most [`UNIX_PATH_BYTES_MAX`] bytes long.
    Unix(PathBuf),
}

/// The longest path that fits into a `sockaddr_un` with its closing NUL, in bytes (unix(7): 108
/// bytes on Linux; the BSDs and macOS have 104).
pub const UNIX_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

impl fmt::Display for Bind {
    /// The address as it is written in the configuration: `127.0.0.1:80`, `unix:/run/x.sock`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(address) | Bind::Udp(address) => address.fmt(out),
            Bind::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl Bind {
    /// Whether the two cannot be bound at once: the same path, or the same port of one protocol
    /// on the same address or on one that includes it (`0.0.0.0`, `[::]`). Port 0 never collides.
    pub fn collides(&self, other: &Bind) -> bool {
        let (one, two) = match (self, other) {
            (Bind::Tcp(one), Bind::Tcp(two)) | (Bind::Udp(one), Bind::Udp(two)) => (one, two),
            (Bind::Unix(one), Bind::Unix(two)) => return one == two,
            _ => return false,
        };
        let (one_ip, two_ip) = (one.ip(), two.ip());
        let overlap = one_ip == two_ip
            || one_ip.is_ipv4() == two_ip.is_ipv4()
                && (one_ip.is_unspecified() || two_ip.is_unspecified());
        one.port() == two.port() && one.port() != 0 && overlap
    }
}

/// An exact share between 0 and 1, such as `4/11` or `0.3`.
///
/// It is kept as a quotient of two integers, so that `4/11` means: draw one of eleven, the lowest
/// four hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    /// At most the denominator.
    numerator: u64,
    /// At least 1.
    denominator: u64,
}

impl Fraction {
    /// Never.
    pub const ZERO: Fraction = Fraction {
        numerator: 0,
        denominator: 1,
    };
    /// Always.
    pub const ONE: Fraction = Fraction {
        numerator: 1,
        denominator: 1,
    };

    /// The share `numerator / denominator`; `None` where that is above 1 or divides by zero.
    pub const fn new(numerator: u64, denominator: u64) -> Option<Fraction> {
        if denominator == 0 || numerator > denominator {
            return None;
        }
        Some(Fraction {
            numerator,
            denominator,
        })
    }

    /// The number above the line.
    pub const fn numerator(self) -> u64 {
        self.numerator
    }

    /// The number below the line, at least 1.
    pub const fn denominator(self) -> u64 {
        self.denominator
    }

    /// Whether this share can never hit, so that no random number needs to be drawn.
    pub const fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// Whether a draw hits, given 64 uniformly random bits.
    ///
    /// The bits are scaled to an integer below the denominator, which hits when it is below the
    /// numerator: for `4/11` an integer from 0 to 10 is drawn and 0, 1, 2 and 3 hit. The error is
    /// below `denominator / 2^64`.
    pub const fn hits(self, random: u64) -> bool {
        let draw = (random as u128 * self.denominator as u128) >> 64;
        draw < self.numerator as u128
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.numerator, self.denominator)
    }
}

/// Bytes that must not show up in a log: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into())
    }

    /// The bytes themselves, for a digest or a deliberate print.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// The origin that a gateway forwards everything to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The name or IP address; an IPv6 address stands without its brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Upstream {
    /// The authority, as it stands in a `Host` field: `example.org:8080`, `[::1]:8080`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(out, "[{}]:{}", self.host, self.port),
            false => write!(out, "{}:{}", self.host, self.port),
        }
    }
}
