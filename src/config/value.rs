//! The small values of the configuration: addresses, shares, durations and sizes.
//!
//! Each type is parsed once from the text that a person wrote and cannot hold anything that the
//! rest of the program would have to check again. A parse error is half a sentence that says what
//! was wrong; the caller adds where, and what was expected.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

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
    /// on the same address or on one that includes it: `0.0.0.0` all of IPv4, `[::]`, which is
    /// also `*`, all there are. Port 0 never collides.
    pub fn collides(&self, other: &Bind) -> bool {
        let (one, two) = match (self, other) {
            (Bind::Tcp(one), Bind::Tcp(two)) | (Bind::Udp(one), Bind::Udp(two)) => (one, two),
            (Bind::Unix(one), Bind::Unix(two)) => return one == two,
            _ => return false,
        };
        let (one_ip, two_ip) = (one.ip().to_canonical(), two.ip().to_canonical());
        let overlap = one_ip == two_ip || includes(one_ip, two_ip) || includes(two_ip, one_ip);
        one.port() == two.port() && one.port() != 0 && overlap
    }
}

/// Whether a socket at the first address has those of the second as well.
fn includes(every: IpAddr, one: IpAddr) -> bool {
    every.is_unspecified() && (every.is_ipv6() || one.is_ipv4())
}

/// Parses the address of a TCP listener: `127.0.0.1:80`, `[::1]:80`, `*:80` or `unix:PATH`.
///
/// The path is not yet led from the folder of the configuration.
pub fn parse_stream_bind(text: &str) -> Result<Bind, String> {
    match text.strip_prefix("unix:") {
        None => parse_socket_address(text).map(Bind::Tcp),
        Some("") => Err(format!("is {text:?}, without a path")),
        Some(path) if path.contains('\0') => Err(format!("is {text:?}, with a NUL")),
        Some(path) => Ok(Bind::Unix(PathBuf::from(path))),
    }
}

/// Parses the address of a UDP listener: `127.0.0.1:53`, `[::1]:53` or `*:53`.
pub fn parse_datagram_bind(text: &str) -> Result<Bind, String> {
    if text.starts_with("unix:") {
        return Err(format!(
            "is {text:?}, a Unix socket, for a kind that is spoken over UDP"
        ));
    }
    parse_socket_address(text).map(Bind::Udp)
}

/// Parses an IP address with its port. `*` stands for `[::]`: every address of the machine, of both
/// families.
fn parse_socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("*:") {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits);
        let address = port.map(|port: u16| (Ipv6Addr::UNSPECIFIED, port).into());
        return address.ok_or_else(|| format!("is {text:?}, without a proper port"));
    }
    let wrong = || match text.parse::<IpAddr>() {
        Ok(_) => format!("is {text:?}, without a port"),
        Err(_) => format!("is {text:?}, not an IP address with a port"),
    };
    text.parse().map_err(|_| wrong())
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

impl FromStr for Fraction {
    type Err = String;

    /// Parses `4/11`, or a decimal number such as `0.3` or `1e-3` exactly.
    fn from_str(text: &str) -> Result<Fraction, String> {
        let out_of_range = || format!("is {text}, not a share from 0 to 1");
        let parsed = match text.split_once('/') {
            Some((above, below)) => above.trim().parse().ok().zip(below.trim().parse().ok()),
            None => decimal(text),
        };
        let (numerator, denominator) = parsed.ok_or_else(out_of_range)?;
        Fraction::new(numerator, denominator).ok_or_else(out_of_range)
    }
}

/// A decimal number from 0 on as an exact quotient, with at most 18 digits behind the point.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{}", behind.trim_end_matches('0'));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let scale = exponent.checked_sub(i32::try_from(behind.trim_end_matches('0').len()).ok()?)?;
    let power = 10_u64
        .checked_pow(scale.unsigned_abs())
        .filter(|_| scale >= -18);
    match (number, power) {
        (0, _) => Some((0, 1)),
        _ if negative => None,
        (_, Some(power)) if scale < 0 => Some((number, power)),
        (_, Some(power)) => Some((number.checked_mul(power)?, 1)),
        (_, None) => None,
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.numerator, self.denominator)
    }
}

/// The longest duration that the configuration accepts: ten years, so that no deadline overflows.
pub const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Parses a duration: numbers with units, such as `500ms`, `3s`, `1.5h` or `1h30m`.
///
/// The units are `ns`, `us`, `ms`, `s`, `m`, `h` and `d`; a number may have decimals.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| format!("is {text:?}, {why}");
    let mut rest = text;
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let number = leading(rest, |byte| byte.is_ascii_digit() || byte == b'.');
        let unit = leading(&rest[number.len()..], |byte| !byte.is_ascii_digit());
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3_600 * 1_000_000_000,
            "d" => 86_400 * 1_000_000_000,
            "" => return Err(wrong("without a unit")),
            _ => return Err(wrong("not a number with a unit")),
        };
        let part = scaled(number, scale).ok_or_else(|| wrong("not a number with a unit"))?;
        nanos = nanos.checked_add(part).ok_or_else(|| wrong("too long"))?;
        rest = &rest[number.len() + unit.len()..];
    }
    match text {
        "" => Err("is empty".to_owned()),
        _ => Ok(Duration::from_nanos(nanos)),
    }
}

/// Parses a size in bytes: a number with a unit such as `64MiB`, `10kB` or `1.5GB`, or none.
///
/// Decimal units (`kB`, `MB`, `GB`, `TB`) are powers of 1,000, binary ones (`KiB`, `MiB`, `GiB`,
/// `TiB`) powers of 1,024; upper and lower case mean the same.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let number = leading(text, |byte| byte.is_ascii_digit() || byte == b'.');
    let scale: u64 = match text[number.len()..]
        .trim_start()
        .to_ascii_lowercase()
        .as_str()
    {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(format!("is {text:?}, not a number with a unit")),
    };
    scaled(number, scale).ok_or_else(|| format!("is {text:?}, not a whole number of bytes"))
}

/// The longest beginning of `text` whose bytes all fit.
fn leading(text: &str, fits: impl Fn(u8) -> bool) -> &str {
    &text[..text
        .bytes()
        .position(|byte| !fits(byte))
        .unwrap_or(text.len())]
}

/// A decimal number times `scale`, if that is a whole number.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (numerator, denominator) = decimal(number)?;
    let product = u128::from(numerator) * u128::from(scale);
    let denominator = u128::from(denominator);
    (product % denominator == 0).then(|| u64::try_from(product / denominator).ok())?
}

/// The origin that a gateway forwards everything to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// It is spoken to over TLS.
    pub tls: bool,
    /// The name or IP address; an IPv6 address stands without its brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl FromStr for Upstream {
    type Err = String;

    /// Parses `http://HOST[:PORT]` or `https://HOST[:PORT]`; the port is 80 or 443 where there is
    /// none.
    fn from_str(text: &str) -> Result<Upstream, String> {
        let wrong = |why: &str| format!("is {text:?}, {why}");
        let (tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, Some(rest)),
            None => (false, text.strip_prefix("http://")),
        };
        let rest = rest.ok_or_else(|| wrong("not an http:// or https:// address"))?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority
            .strip_prefix('[')
            .and_then(|v6| v6.split_once(']'))
        {
            Some((host, port)) => (host, port),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() && tls => 443,
            None if port.is_empty() => 80,
            None => return Err(wrong("without a port behind the bracket")),
            Some(digits) if digits.starts_with('+') => return Err(wrong("without a proper port")),
            Some(digits) => match digits.parse() {
                Ok(0) | Err(_) => return Err(wrong("without a proper port")),
                Ok(port) => port,
            },
        };
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let proper = match authority.starts_with('[') {
            true => host.parse::<Ipv6Addr>().is_ok(),
            false => !host.is_empty() && host.bytes().all(named),
        };
        match proper {
            true => Ok(Upstream {
                tls,
                host: host.to_owned(),
                port,
            }),
            false => Err(wrong("without a proper host")),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Option<(u64, u64)> {
        let parsed: Result<Fraction, String> = text.parse();
        parsed
            .ok()
            .map(|share| (share.numerator(), share.denominator()))
    }

    #[test]
    fn shares_are_exact() {
        assert_eq!(share("4/11"), Some((4, 11)));
        assert_eq!(share("0.3"), Some((3, 10)));
        assert_eq!(share("0.0"), Some((0, 1)));
        assert_eq!(share("-0.0"), Some((0, 1)));
        assert_eq!(share("0"), Some((0, 1)));
        assert_eq!(share("1"), Some((1, 1)));
        assert_eq!(share("1.000"), Some((1, 1)));
        assert_eq!(share("1e-3"), Some((1, 1000)));
        assert_eq!(share("2.5e-1"), Some((25, 100)));
        for wrong in [
            "1.1", "-0.1", "5/4", "1/0", "nan", "inf", "", ".", "1/", "x", "1e-30", "1e99",
        ] {
            assert_eq!(share(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn four_elevenths_hit_as_a_draw_from_eleven_below_four() {
        let loss = Fraction::new(4, 11).unwrap();
        let boundary = (4_u128 << 64).div_ceil(11) as u64;
        assert!(loss.hits(0) && loss.hits(boundary - 1));
        assert!(!loss.hits(boundary) && !loss.hits(u64::MAX));
        assert!(!Fraction::ZERO.hits(0) && Fraction::ONE.hits(u64::MAX));
    }

    #[test]
    fn durations_need_a_unit() {
        let parsed = |text| parse_duration(text).ok();
        assert_eq!(parsed("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parsed("3s"), Some(Duration::from_secs(3)));
        assert_eq!(parsed("1m"), Some(Duration::from_secs(60)));
        assert_eq!(parsed("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(parsed("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parsed("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parsed("10µs"), Some(Duration::from_micros(10)));
        assert_eq!(parsed("0s"), Some(Duration::ZERO));
        for wrong in [
            "",
            "3",
            "s",
            "3x",
            "-3s",
            "3 s",
            "1.s.",
            "999999999d",
            "3s4",
            "0.1ns",
            "é",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        let parsed = |text| parse_size(text).ok();
        assert_eq!(parsed("64MiB"), Some(64 << 20));
        assert_eq!(parsed("10kB"), Some(10_000));
        assert_eq!(parsed("1.5 KiB"), Some(1536));
        assert_eq!(parsed("0"), Some(0));
        for wrong in ["", "MiB", "1.0001KiB", "-1", "1 M", "99999999TiB", "1é"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn binds_collide_when_the_kernel_would_refuse_both() {
        let tcp = |text| parse_stream_bind(text).unwrap();
        let udp = |text| parse_datagram_bind(text).unwrap();
        assert!(tcp("127.0.0.1:80").collides(&tcp("127.0.0.1:80")));
        assert!(tcp("0.0.0.0:80").collides(&tcp("127.0.0.1:80")));
        assert!(tcp("unix:/run/x").collides(&tcp("unix:/run/x")));
        assert!(!tcp("127.0.0.1:80").collides(&udp("127.0.0.1:80")));
        assert!(!tcp("127.0.0.1:80").collides(&tcp("127.0.0.2:80")));
        assert!(!tcp("127.0.0.1:0").collides(&tcp("127.0.0.1:0")));
        assert!(tcp("[::]:80").collides(&tcp("127.0.0.1:80")));
        assert!(!tcp("0.0.0.0:80").collides(&tcp("[::1]:80")));
    }

    #[test]
    fn binds_print_as_they_are_written() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/run/x.sock"] {
            assert_eq!(parse_stream_bind(text).unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "80",
            ":80",
            "localhost:80",
            "127.0.0.1",
            "::1",
            "1.2.3.4:99999",
            "unix:",
        ] {
            assert!(parse_stream_bind(wrong).is_err(), "{wrong}");
        }
        assert!(parse_datagram_bind("unix:/run/x").is_err());
    }

    #[test]
    fn an_upstream_is_a_host_and_a_port() {
        let parsed = |text: &str| {
            text.parse::<Upstream>()
                .map(|upstream| upstream.to_string())
                .ok()
        };
        assert_eq!(
            parsed("http://127.0.0.1:8000").as_deref(),
            Some("127.0.0.1:8000")
        );
        assert_eq!(
            parsed("http://example.org/").as_deref(),
            Some("example.org:80")
        );
        assert_eq!(
            parsed("https://example.org").as_deref(),
            Some("example.org:443")
        );
        assert_eq!(parsed("http://[::1]:81").as_deref(), Some("[::1]:81"));
        let wrong = [
            "ftp://x",
            "https://",
            "x:80",
            "http://",
            "http://:80",
            "http://x:0",
            "http://x:+1",
        ];
        for wrong in
            wrong
                .into_iter()
                .chain(["http://x/y", "http://u@x", "http://[x]", "http://::1"])
        {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
