//! The hosts file (`hosts(5)`): an address, then its names, a line each.
//!
//! Two rules: a line that cannot be understood is skipped, as every C library does; all the lines
//! of one name count together. Names of the loopback (RFC 6761, section 6.3) and of no one (section
//! 6.4; RFC 7686) are settled here too, before the file is looked at.
//!
//! Deliberately not here: reading the file, and noticing that it changed. The caller hands in text.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Addresses, Failure, interleave, name};

/// Names that are answered without asking any server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    names: BTreeMap<String, Addresses>,
}

impl Hosts {
    /// Reads the text of a hosts file. Comments start with `#`; names are compared in lower case.
    pub fn parse(text: &str) -> Hosts {
        let mut lists: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            for word in words {
                let word = word.strip_suffix('.').unwrap_or(word);
                if name::is_host_name(word) {
                    lists
                        .entry(word.to_ascii_lowercase())
                        .or_default()
                        .push(address);
                }
            }
        }
        let names = lists
            .into_iter()
            .map(|(name, list)| (name, interleave(list)))
            .collect();
        Hosts { names }
    }

    /// The answer that needs no server, if there is one. `name` is valid and in lower case.
    pub(super) fn answer(&self, name: &str) -> Option<Result<Addresses, Failure>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        match name.rsplit('.').next() {
            Some("localhost") => Some(Ok([
                IpAddr::from(Ipv6Addr::LOCALHOST),
                IpAddr::from(Ipv4Addr::LOCALHOST),
            ]
            .into())),
            Some("invalid" | "onion") => Some(Err(Failure::NotFound)),
            _ => self.names.get(name).cloned().map(Ok),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# comment
127.0.0.1\tlocalhost
10.0.0.1  Alpha alpha.example.  # the first
10.0.0.2  alpha\r
fd00::1 alpha beta
not-an-address gamma
fe80::1%eth0 delta
10.0.0.3
10.0.0.4 bad/name good_name
192.0.2.1 localhost evil.localhost
";

    fn ask(name: &str) -> Option<Vec<String>> {
        let answer = Hosts::parse(TEXT).answer(name)?;
        Some(answer.unwrap().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_of_one_name_count_together() {
        assert_eq!(ask("alpha").unwrap(), ["fd00::1", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(ask("alpha.").unwrap().len(), 3);
        assert_eq!(ask("alpha.example").unwrap(), ["10.0.0.1"]);
        assert_eq!(ask("beta").unwrap(), ["fd00::1"]);
        assert_eq!(ask("good_name").unwrap(), ["10.0.0.4"]);
    }

    #[test]
    fn lines_that_make_no_sense_are_skipped() {
        for name in ["gamma", "delta", "bad/name", "10.0.0.3", ""] {
            assert_eq!(ask(name), None, "{name}");
        }
        assert!(Hosts::parse("").answer("alpha").is_none());
    }

    #[test]
    fn localhost_is_the_loopback_whatever_the_file_says() {
        for name in ["localhost", "localhost.", "a.b.localhost", "evil.localhost"] {
            assert_eq!(ask(name).unwrap(), ["::1", "127.0.0.1"], "{name}");
        }
        assert_eq!(ask("localhost.example"), None);
        assert_eq!(ask("notlocalhost"), None);
    }

    #[test]
    fn special_names_are_nobodys() {
        let hosts = Hosts::parse("10.0.0.1 a.invalid");
        assert_eq!(hosts.answer("a.invalid"), Some(Err(Failure::NotFound)));
        assert_eq!(hosts.answer("x.onion."), Some(Err(Failure::NotFound)));
    }
}
