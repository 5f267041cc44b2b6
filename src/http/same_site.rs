//! Whether a request may be answered with what is for the people of this machine only: admin pages,
//! and pages that this proxy fetches from where nobody else reaches.
//!
//! A browser can be made to ask for them by any page that its user looks at, in two ways:
//!
//! 1. The page's own name is made to lead here (DNS rebinding), and the page reads the answer as
//!    one of its own. The browser names the host that it believes it asks, so [`check`] answers
//!    under an address, which needs no DNS, under `localhost`, and under names that were
//!    configured.
//! 2. The page asks across sites. The browser says so: in `Sec-Fetch-Site` (W3C Fetch Metadata),
//!    which it sends to https and to loopback only, and in `Origin` (RFC 6454 section 7), which it
//!    sends with everything but a plain GET or HEAD.
//!
//! Each of several such headers counts. Whoever sends none is no browser, or one that was told to
//! go here by its user. A request without `Host`, as HTTP/1.0 allows, comes from no browser either.

use std::net::Ipv4Addr;

use super::Status;
use super::head::RequestHead;
use super::target::{Authority, Host};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It was made under a name that is not ours.
    Host,
    /// A page of another site made it.
    Page,
}

impl Foreign {
    /// The status that a server answers with.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Host => Status::MISDIRECTED_REQUEST,
            Self::Page => Status::FORBIDDEN,
        }
    }

    /// What was wrong and what was expected.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Host => {
                "this page is under no such name: expected an address, localhost, or one of `hosts`"
            }
            Self::Page => "a page of another site asks for this: type the address to go there",
        }
    }
}

/// Judges a request. `hosts`: the names that are ours beside `localhost`.
///
/// # Errors
/// What is foreign about it.
pub fn check(head: &RequestHead<'_>, hosts: &[String]) -> Result<(), Foreign> {
    let authority = head.authority();
    if authority.is_some_and(|authority| !is_ours(authority.host, hosts)) {
        return Err(Foreign::Host);
    }
    let mut sites = head.headers.all("sec-fetch-site");
    let mut origins = head.headers.all("origin");
    let same_site = sites.all(|site| matches!(site, b"same-origin" | b"none"));
    let same_origin = origins.all(|origin| {
        authority.is_some_and(|authority| is_same_origin(origin, &authority).unwrap_or(false))
    });
    match same_site && same_origin {
        true => Ok(()),
        false => Err(Foreign::Page),
    }
}

fn is_ours(host: Host<'_>, hosts: &[String]) -> bool {
    match host {
        Host::Ipv6(_) => true,
        Host::International(_) => false,
        Host::Name(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let named = |other: &str| name.eq_ignore_ascii_case(other);
            name.parse::<Ipv4Addr>().is_ok()
                || named("localhost")
                || hosts.iter().any(|host| named(host))
        }
    }
}

/// Whether `origin` is the site at `authority`; `None` where it names no site of HTTP, such as
/// `null`.
fn is_same_origin(origin: &[u8], authority: &Authority<'_>) -> Option<bool> {
    let (scheme, site) = str::from_utf8(origin).ok()?.split_once("://")?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let site = Authority::parse(site)?;
    let port = |authority: &Authority<'_>| authority.port.unwrap_or(default_port);
    Some(site.host.is_same(authority.host) && port(&site) == port(authority))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadScanner, Limits, Parsed};

    /// What is said to a request with these lines.
    fn judged(target: &str, version: &str, lines: &str) -> Result<(), Foreign> {
        let text = format!("GET {target} HTTP/{version}\r\n{lines}\r\n");
        match HeadScanner::default().request(text.as_bytes(), &Limits::default()) {
            Ok(Parsed::Complete(head, _)) => check(&head, &["proxy.lan".to_owned()]),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn asked(lines: &str) -> Result<(), Foreign> {
        judged("/", "1.1", lines)
    }

    #[test]
    fn the_host_is_an_address_localhost_or_a_name_of_ours() {
        for host in [
            "127.0.0.1:9090",
            "192.0.2.7",
            "[::1]:9090",
            "[2001:db8::1]",
            "localhost",
            "LocalHost.:9090",
            "proxy.lan",
            "PROXY.lan.:1",
        ] {
            assert_eq!(asked(&format!("Host: {host}\r\n")), Ok(()), "{host}");
        }
        for host in [
            "rebound.example",
            "localhost.example",
            "x.localhost",
            "127.0.0.1.nip.io",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "a.proxy.lan",
            "proxy.lan.example",
        ] {
            let answer = asked(&format!("Host: {host}\r\n"));
            assert_eq!(answer, Err(Foreign::Host), "{host}");
        }
        // An absolute target says whom the request is for, whatever `Host` says.
        let absolute = |target, host| judged(target, "1.1", &format!("Host: {host}\r\n"));
        assert_eq!(absolute("http://localhost/", "rebound.example"), Ok(()));
        assert_eq!(
            absolute("http://rebound.example/", "localhost"),
            Err(Foreign::Host)
        );
        assert_eq!(judged("/", "1.0", ""), Ok(()));
        assert_eq!(
            judged("/", "1.0", "Origin: http://localhost\r\n"),
            Err(Foreign::Page)
        );
    }

    #[test]
    fn a_page_of_another_site_gets_nothing() {
        let from = |lines: &str| asked(&format!("Host: localhost:8888\r\n{lines}"));
        for ours in [
            "",
            "Sec-Fetch-Site: none\r\n",
            "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:8888\r\n",
            "Origin: https://LOCALHOST:8888\r\n",
            "Origin: http://localhost:8888\r\norigin: http://localhost:8888\r\n",
        ] {
            assert_eq!(from(ours), Ok(()), "{ours}");
        }
        for foreign in [
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "Sec-Fetch-Site: \r\n",
            "Sec-Fetch-Site: None\r\n",
            "Sec-Fetch-Site: none, cross-site\r\n",
            "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: cross-site\r\nsec-fetch-site: same-origin\r\n",
            "Origin: http://evil.example\r\n",
            "Origin: http://localhost\r\n",
            "Origin: http://localhost:6789\r\n",
            "Origin: http://127.0.0.1:8888\r\n",
            "Origin: http://localhost:8888.evil.example\r\n",
            "Origin: http://localhost:8888/\r\n",
            "Origin: http://localhost:8888@evil.example\r\n",
            "Origin: null\r\n",
            "Origin:\r\n",
            "Origin: file://\r\n",
            "Origin: \u{fc}\r\n",
            "Origin: http://localhost:8888 http://evil.example\r\n",
            "Origin: http://localhost:8888\r\nOrigin: http://evil.example\r\n",
        ] {
            assert_eq!(from(foreign), Err(Foreign::Page), "{foreign}");
        }
        // The port of the scheme need not be said.
        for (host, origin, same) in [
            ("localhost", "http://localhost", true),
            ("localhost:80", "http://localhost", true),
            ("localhost", "https://localhost:443", true),
            ("localhost:443", "https://localhost", true),
            ("localhost", "http://localhost:443", false),
            ("[::1]:9090", "http://[0:0::1]:9090", true),
            ("[::1]:9090", "http://[::2]:9090", false),
        ] {
            let answer = asked(&format!("Host: {host}\r\nOrigin: {origin}\r\n"));
            assert_eq!(answer.is_ok(), same, "{host} {origin}");
        }
    }
}
