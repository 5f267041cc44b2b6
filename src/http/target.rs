//! Request targets and authorities: which of the four forms a target has, and what it names.
//!
//! RFC 9112 section 3.2 (the forms), RFC 9110 section 4.2 (http URIs), RFC 3986 section 3.2
//! (authority).
//!
//! Rules:
//! 1. The form must fit the method: authority-form with `CONNECT` and only there, `*` with
//!    `OPTIONS` only.
//! 2. A host is a DNS-like name (letters, digits, `-`, `.`, `_`), an IPv4 literal left as text, or
//!    a bracketed IPv6 literal. User information and zone identifiers are refused: each has been a
//!    way to make two readers see two hosts. So have percent-encoding and letters beyond ASCII;
//!    they make a [`Host::International`], which nobody can take for a name by mistake.
//! 3. Nothing is decoded or normalised here; [`super::path`] does that for paths.
//!
//! Not here: whether a destination is allowed, and odd spellings of IPv4 addresses; the proxy
//! judges both.

use percent_encoding::{AsciiSet, CONTROLS};

use super::{Method, byte_class, parse_decimal};
use std::fmt;
use std::net::Ipv6Addr;

/// The longest name that DNS can carry in its text form.
const HOST_NAME_BYTES_MAX: usize = 255;

/// The longest name in letters beyond ASCII that may fit that form: four bytes for a letter, three
/// characters for a byte.
const INTERNATIONAL_BYTES_MAX: usize = 12 * HOST_NAME_BYTES_MAX;

/// What no URI has as it is (RFC 3986 section 2), to be encoded in what people wrote. `%` is not
/// among it: it introduces what was encoded already.
pub const NEVER_IN_URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A request target, by its form (RFC 9112 section 3.2). Paths and queries are as sent, still
/// percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'b> {
    /// `/path?query`.
    Origin {
        /// The path; it begins with `/`.
        path: &'b str,
        /// What follows the first `?`, without it.
        query: Option<&'b str>,
    },
    /// `scheme://authority/path?query`, as sent to proxies.
    Absolute {
        /// The scheme as sent, in any case.
        scheme: &'b str,
        /// Host and port.
        authority: Authority<'b>,
        /// The path; `/` when the URI has none.
        path: &'b str,
        /// What follows the first `?`, without it.
        query: Option<&'b str>,
    },
    /// `host:port`, with `CONNECT`; the port is always there.
    Authority(Authority<'b>),
    /// `*`, with `OPTIONS`.
    Asterisk,
}

impl<'b> Target<'b> {
    /// Reads `text` as the target of a request with `method`, or returns `None` when it is
    /// malformed or its form does not fit the method.
    #[must_use]
    pub fn parse(method: Method<'_>, text: &'b str) -> Option<Self> {
        all_may_be_in_target(text.as_bytes()).then_some(())?;
        Self::parse_checked(method, text)
    }

    /// As [`Self::parse`], for a `text` of which all bytes are known to be [`may_be_in_target`].
    pub(super) fn parse_checked(method: Method<'_>, text: &'b str) -> Option<Self> {
        if method == Method::Connect {
            let authority = Authority::parse_international(text)?;
            return authority.port.map(|_| Self::Authority(authority));
        }
        if text.starts_with('/') {
            let (path, query) = split_query(text);
            return text.is_ascii().then_some(Self::Origin { path, query });
        }
        if text == "*" {
            return (method == Method::Options).then_some(Self::Asterisk);
        }
        Self::absolute(text)
    }

    /// Reads `text` as an absolute URI with an authority, such as `http://host:port/path?query`.
    #[must_use]
    pub fn absolute(text: &'b str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme_is_good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !scheme_is_good || !tail.bytes().all(is_target_byte) {
            return None;
        }
        let authority = Authority::parse_international(authority)?;
        let (path, query) = split_query(tail);
        let path = if path.is_empty() { "/" } else { path };
        Some(Self::Absolute {
            scheme,
            authority,
            path,
            query,
        })
    }

    /// The path, where the form has one.
    #[must_use]
    pub fn path(&self) -> Option<&'b str> {
        match *self {
            Self::Origin { path, .. } | Self::Absolute { path, .. } => Some(path),
            Self::Authority(_) | Self::Asterisk => None,
        }
    }

    /// The query, where there is one.
    #[must_use]
    pub fn query(&self) -> Option<&'b str> {
        match *self {
            Self::Origin { query, .. } | Self::Absolute { query, .. } => query,
            Self::Authority(_) | Self::Asterisk => None,
        }
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    match memchr::memchr(b'?', text.as_bytes()) {
        Some(mark) => (&text[..mark], Some(&text[mark + 1..])),
        None => (text, None),
    }
}

/// Whether `byte` may stand in a target: those that a URI has (RFC 3986 section 2), but `#`, for a
/// fragment is never sent. All others have to be percent-encoded (RFC 9112 section 3.2). `[` and
/// `]` belong into hosts only, but browsers send them in queries.
#[inline]
pub(super) fn is_target_byte(byte: u8) -> bool {
    const TARGET: [bool; 256] = byte_class(b"-._~:/?[]@!$&'()*+,;=%", true);
    TARGET[usize::from(byte)]
}

/// Whether `byte` may stand somewhere in a target: no URI has bytes beyond ASCII, but clients that
/// do not map the names of hosts send them there, and only there they are taken.
#[inline]
pub(super) fn may_be_in_target(byte: u8) -> bool {
    is_target_byte(byte) | !byte.is_ascii()
}

/// Whether all of `bytes` may. Nearly always they all do, so none is a reason to stop.
#[inline]
pub(super) fn all_may_be_in_target(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(true, |all, &byte| all & may_be_in_target(byte))
}

/// The host part of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'b> {
    /// A name, or an IPv4 address in any spelling, as sent.
    Name(&'b str),
    /// A bracketed IPv6 literal.
    Ipv6(Ipv6Addr),
    /// A name in letters beyond ASCII, as sent: percent-encoded (RFC 3986 section 3.2.2) or as it
    /// is. It stands for the name in ASCII that [`crate::wire::idn`] makes of it, if it is one.
    International(&'b str),
}

impl Host<'_> {
    /// Whether both name one host: names in any case (RFC 9110 section 4.2.3).
    #[must_use]
    pub fn is_same(self, other: Host<'_>) -> bool {
        match (self, other) {
            (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Host<'_> {
    /// Writes the host as it stands in a URI, an IPv6 address in brackets and in its canonical
    /// spelling.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) | Self::International(name) => f.write_str(name),
            Self::Ipv6(address) => write!(f, "[{address}]"),
        }
    }
}

/// The URI of an http resource in its parts, as they were sent: that of the origin, whatever form
/// the client's request had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'b> {
    /// `http` or `https`, in any case.
    pub scheme: &'b str,
    /// The origin.
    pub authority: Authority<'b>,
    /// The path; an empty one is `/`.
    pub path: &'b str,
    /// What follows the first `?`, without it. An empty query is not the same as none.
    pub query: Option<&'b str>,
}

/// The port that a scheme implies (RFC 9110 sections 4.2.1 and 4.2.2).
#[must_use]
pub fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
    }
}

/// A host and perhaps a port: the value of `Host`, the target of `CONNECT`, the authority of an
/// http URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'b> {
    /// The host.
    pub host: Host<'b>,
    /// The port, 1 to 65535. `host:` with nothing behind the colon is the same as no port (RFC 3986
    /// section 3.2.3).
    pub port: Option<u16>,
}

impl<'b> Authority<'b> {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`; `None` when it is anything else.
    #[must_use]
    pub fn parse(text: &'b str) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => {
                let (literal, rest) = rest.split_once(']')?;
                (Host::Ipv6(literal.parse().ok()?), rest)
            }
            None => {
                let len = text
                    .bytes()
                    .position(|b| !is_host_byte(b))
                    .unwrap_or(text.len());
                if len == 0 || len > HOST_NAME_BYTES_MAX {
                    return None;
                }
                (Host::Name(&text[..len]), &text[len..])
            }
        };
        let port = port_behind(rest)?;
        Some(Self { host, port })
    }

    /// Whether the host is `name`, whatever the port and the case: a configured name, or an IPv6
    /// address in brackets. A dot at the end changes nothing.
    #[must_use]
    pub fn is_host(&self, name: &str) -> bool {
        match self.host {
            Host::Name(host) => host
                .strip_suffix('.')
                .unwrap_or(host)
                .eq_ignore_ascii_case(name),
            Host::Ipv6(host) => {
                let literal = name
                    .strip_prefix('[')
                    .and_then(|name| name.strip_suffix(']'));
                literal.and_then(|literal| literal.parse().ok()) == Some(host)
            }
            Host::International(_) => false,
        }
    }

    /// As [`Authority::parse`], and `host` may be a [`Host::International`].
    #[must_use]
    pub fn parse_international(text: &'b str) -> Option<Self> {
        Self::parse(text).or_else(|| {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_name = |byte: u8| is_host_byte(byte) || byte == b'%' || !byte.is_ascii();
            let fits = (1..=INTERNATIONAL_BYTES_MAX).contains(&name.len());
            (fits && name.bytes().all(is_name)).then_some(())?;
            let port = port_behind(rest)?;
            let host = Host::International(name);
            Some(Self { host, port })
        })
    }
}

/// Whether [`Authority::parse`] takes `text` for a name with or without a port: nearly every
/// `Host` is one, and few who get a request ask which.
pub(super) fn is_name_and_port(text: &[u8]) -> bool {
    let is_end = |&byte: &u8| !is_host_byte(byte);
    let len = text.iter().position(is_end).unwrap_or(text.len());
    let port = match &text[len..] {
        [] | [b':'] => Some(1),
        [b':', digits @ ..] => port_of(digits),
        _ => None,
    };
    (1..=HOST_NAME_BYTES_MAX).contains(&len) && port.is_some()
}

/// What follows the host: nothing, a colon, or a colon and a port.
fn port_behind(rest: &str) -> Option<Option<u16>> {
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some(None),
        Some("") => Some(None),
        Some(digits) => port_of(digits.as_bytes()).map(Some),
        None => None,
    }
}

impl fmt::Display for Authority<'_> {
    /// Writes the authority as it stands in a URI or in `Host`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

fn is_host_byte(byte: u8) -> bool {
    const HOST: [bool; 256] = byte_class(b"-._", true);
    HOST[usize::from(byte)]
}

fn port_of(digits: &[u8]) -> Option<u16> {
    let number = (digits.len() <= 5).then(|| parse_decimal(digits))??;
    u16::try_from(number).ok().filter(|&port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_form_goes_with_its_methods() {
        let get = |text| Target::parse(Method::Get, text);
        assert_eq!(
            get("/a/b?c?d"),
            Some(Target::Origin {
                path: "/a/b",
                query: Some("c?d")
            })
        );
        assert_eq!(
            get("/"),
            Some(Target::Origin {
                path: "/",
                query: None
            })
        );
        let Some(Target::Absolute {
            scheme,
            authority,
            path,
            query,
        }) = get("http://h.test:81?q")
        else {
            panic!("absolute form");
        };
        assert_eq!(
            (scheme, authority.to_string().as_str(), path, query),
            ("http", "h.test:81", "/", Some("q"))
        );
        assert_eq!(Target::parse(Method::Options, "*"), Some(Target::Asterisk));
        assert!(matches!(
            Target::parse(Method::Connect, "[::1]:443"),
            Some(Target::Authority(_))
        ));

        for bad in [
            "*",
            "",
            "a",
            "host:80",
            "a/b",
            "/a b",
            "/a#b",
            "/\x7f",
            "/\u{fc}",
            "/a?\u{65e5}",
            "/<",
            "/>",
            "/\"",
            "/\\",
            "/^",
            "/`",
            "/{",
            "/|",
            "/}",
            "/?a|b",
            "http://h/a|b",
            "urn:x",
            "://h/",
            "1http://h/",
            "http:///x",
            "http://u@h/",
            "http://h:0/",
            "http://h:65536/",
            "http://h:+1/",
            "http://[::1/",
            "http://[::1%25lo]/",
            "http://u%40h@g/",
            "http://h\\@g/",
            "http://\u{fc}/\u{fc}",
            "http://\u{fc}?\u{fc}",
            "http://\u{fc}:x/",
            "http://\u{fc}@h/",
            "http://[\u{fc}]/",
        ] {
            assert_eq!(get(bad), None, "{bad:?}");
        }
        for (text, host, port) in [
            (
                "http://b\u{fc}cher.example:81/%c3%bc",
                "b\u{fc}cher.example",
                Some(81),
            ),
            ("http://b%C3%BCcher.example", "b%C3%BCcher.example", None),
            ("http://%41:/", "%41", None),
        ] {
            let Some(Target::Absolute { authority, .. }) = get(text) else {
                panic!("{text}");
            };
            assert_eq!(
                (authority.host, authority.port),
                (Host::International(host), port)
            );
            assert_eq!(
                Authority::parse(host),
                None,
                "not for a reader that knows names only"
            );
        }
        let connect = |text| Target::parse(Method::Connect, text);
        assert!(connect("\u{fc}.example:443").is_some() && connect("%c3%bc:443").is_some());
        assert_eq!(get(&format!("http://{}/", "%".repeat(3061))), None);
        for bad in ["/", "*", "h", "h:", "http://h:1/", "h:1/", ":1", "::1:1"] {
            assert_eq!(Target::parse(Method::Connect, bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn an_authority_survives_printing(text in r"[a-z0-9.\-\[\]:]{0,24}") {
            if let Some(authority) = Authority::parse(&text) {
                let printed = authority.to_string();
                prop_assert_eq!(Authority::parse(&printed), Some(authority));
            }
        }

        #[test]
        fn a_name_and_port_is_what_parses_as_one(
            text in prop_oneof![
                r"[a-z0-9._\-]{0,4}(:[0-9]{0,6})?",
                r"[a-z0-9.:\[\]%@\u{fc} -]{0,8}",
                r"[a-z]{250,260}",
            ]
        ) {
            let named = Authority::parse(&text).is_some_and(|it| matches!(it.host, Host::Name(_)));
            prop_assert_eq!(is_name_and_port(text.as_bytes()), named);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (Target::parse(Method::Get, &text), Target::parse(Method::Connect, &text));
        }
    }
}
