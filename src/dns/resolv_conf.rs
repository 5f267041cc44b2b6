//! The text of `resolv.conf(5)`.
//!
//! Two rules: what is not understood is skipped, as every C library does; numbers beyond a limit
//! are taken down to it. `search` and `domain` replace each other, the last one counts.
//!
//! Deliberately not here: reading the file, noticing that it changed, and turning the name of an
//! interface into its number (the caller passes a function for that).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::{Config, name};

/// The port of name servers.
const PORT: u16 = 53;
/// Servers beyond these are not used.
pub const NAMESERVERS_MAX: usize = 3;
/// Search domains beyond these are not used; each costs every unknown name another round.
pub const SEARCH_MAX: usize = 6;
/// Bound of `options ndots:`.
const NDOTS_MAX: u32 = 15;
/// Bound of `options timeout:`, in seconds.
const TIMEOUT_SECONDS_MAX: u32 = 30;
/// Bound of `options attempts:`.
const ATTEMPTS_MAX: u32 = 5;

/// What the file says; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers in their order.
    pub nameservers: Vec<SocketAddr>,
    /// The search list, in lower case and without final dots.
    pub search: Vec<String>,
    /// `options ndots:`.
    pub ndots: Option<u32>,
    /// `options attempts:`: how often each server is asked.
    pub attempts: Option<u32>,
    /// `options timeout:`.
    pub attempt_timeout: Option<Duration>,
}

impl ResolvConf {
    /// Reads the text. `interface` turns an interface's name into its index, for link-local servers
    /// such as `fe80::1%eth0`; numbers need no such help. A server is an address, or beyond what
    /// the C library understands `[IPV6]:PORT` or `IPV4:PORT`.
    pub fn parse(text: &str, mut interface: impl FnMut(&str) -> Option<u32>) -> ResolvConf {
        let mut conf = ResolvConf::default();
        for line in text.lines() {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.nameservers.len() < NAMESERVERS_MAX => {
                    let server = words.next().and_then(|word| server(word, &mut interface));
                    conf.nameservers.extend(server);
                }
                Some("search") => conf.search = words.filter_map(domain).take(SEARCH_MAX).collect(),
                Some("domain") => conf.search = words.take(1).filter_map(domain).collect(),
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        conf
    }

    /// Puts what the file says into `config`. Where the file names no server, the one of this
    /// machine is meant.
    pub fn apply(self, config: &mut Config) {
        config.nameservers = self.nameservers;
        let servers = config.nameservers.len().max(1) as u32; // at most NAMESERVERS_MAX
        if config.nameservers.is_empty() {
            config.nameservers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        config.search = self.search;
        config.ndots = self.ndots.unwrap_or(config.ndots);
        config.attempts = self.attempts.map_or(config.attempts, |each| each * servers);
        config.attempt_timeout = self.attempt_timeout.unwrap_or(config.attempt_timeout);
    }

    fn option(&mut self, word: &str) {
        let Some((key, value)) = word.split_once(':') else {
            return;
        };
        let Ok(value) = value.parse::<u32>() else {
            return;
        };
        match key {
            "ndots" => self.ndots = Some(value.min(NDOTS_MAX)),
            "attempts" => self.attempts = Some(value.clamp(1, ATTEMPTS_MAX)),
            "timeout" => {
                let seconds = value.clamp(1, TIMEOUT_SECONDS_MAX);
                self.attempt_timeout = Some(Duration::from_secs(seconds.into()));
            }
            _ => {}
        }
    }
}

fn domain(word: &str) -> Option<String> {
    let word = word.strip_suffix('.').unwrap_or(word);
    name::is_host_name(word).then(|| word.to_ascii_lowercase())
}

fn server(word: &str, mut interface: impl FnMut(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some((address, PORT).into());
    }
    if let Ok(v4) = word.parse::<std::net::SocketAddrV4>() {
        return Some(v4.into());
    }
    let (host, port) = match word.strip_prefix('[') {
        None => (word, PORT),
        Some(inner) => match inner.split_once(']')? {
            (host, "") => (host, PORT),
            (host, port) => (host, port.strip_prefix(':')?.parse().ok()?),
        },
    };
    let (address, scope) = match host.split_once('%') {
        None => (host, 0),
        Some((address, zone)) => (address, zone.parse().ok().or_else(|| interface(zone))?),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    Some(SocketAddrV6::new(address, port, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text, |zone| (zone == "eth0").then_some(7))
    }

    #[test]
    fn the_usual_file() {
        let conf = parse(
            "# made by hand\n; so it was\nnameserver 192.0.2.1 trailing\n\tnameserver 2001:db8::1\n\
             search Example.COM. corp.example bad/name\noptions ndots:2 timeout:3 attempts:4 rotate edns0\n\
             sortlist 10.0.0.0\nunknown words\n",
        );
        let servers: Vec<SocketAddr> = ["192.0.2.1:53", "[2001:db8::1]:53"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(conf.nameservers, servers);
        assert_eq!(conf.search, ["example.com", "corp.example"]);
        assert_eq!(conf.ndots, Some(2));
        assert_eq!(conf.attempts, Some(4));
        assert_eq!(conf.attempt_timeout, Some(Duration::from_secs(3)));
    }

    #[test]
    fn servers_with_ports_and_zones() {
        for (word, expected) in [
            ("127.0.0.1:5353", Some("127.0.0.1:5353")),
            ("[::1]:5353", Some("[::1]:5353")),
            ("[::1]", Some("[::1]:53")),
            ("fe80::1%3", Some("[fe80::1%3]:53")),
            ("fe80::1%eth0", Some("[fe80::1%7]:53")),
            ("[fe80::1%eth0]:54", Some("[fe80::1%7]:54")),
            ("fe80::1%wlan0", None),
            ("fe80::1%", None),
            ("[::1]53", None),
            ("[::1]:", None),
            ("[::1]:65536", None),
            ("[::1", None),
            ("dns.example", None),
        ] {
            let conf = parse(&format!("nameserver {word}"));
            let expected: Vec<SocketAddr> = expected
                .map(|text| text.parse().unwrap())
                .into_iter()
                .collect();
            assert_eq!(conf.nameservers, expected, "{word}");
        }
    }

    #[test]
    fn the_last_of_search_and_domain_counts() {
        assert_eq!(parse("search a b\ndomain c").search, ["c"]);
        assert_eq!(parse("domain c\nsearch a b").search, ["a", "b"]);
        assert!(parse("search a\nsearch").search.is_empty());
    }

    #[test]
    fn everything_is_bounded() {
        let text = "nameserver 10.0.0.1\n".repeat(9)
            + "search a b c d e f g h\noptions ndots:99 timeout:0 attempts:99 ndots:x timeout attempts:-1";
        let conf = parse(&text);
        assert_eq!(conf.nameservers.len(), NAMESERVERS_MAX);
        assert_eq!(conf.search.len(), SEARCH_MAX);
        assert_eq!(conf.ndots, Some(NDOTS_MAX));
        assert_eq!(conf.attempts, Some(ATTEMPTS_MAX));
        assert_eq!(conf.attempt_timeout, Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_the_file_leaves_open_stays_as_it_was() {
        let mut config = Config::default();
        parse("search a\r\n").apply(&mut config);
        assert_eq!(config.nameservers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(config.search, ["a"]);
        assert_eq!(config.attempts, Config::ATTEMPTS);
        parse("nameserver ::1\noptions attempts:1").apply(&mut config);
        assert_eq!(config.nameservers, ["[::1]:53".parse().unwrap()]);
        assert_eq!(config.attempts, 1);
        parse("nameserver ::1\nnameserver ::2\noptions attempts:3").apply(&mut config);
        assert_eq!(config.attempts, 6, "the file counts those of each server");
    }
}
